"""`spikeship supported`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from ...hw_targets.printed import table
from .screen import Output

if TYPE_CHECKING:
    from ..parts import Field, Part


def supported() -> Output:
    """List layers, neurons and limits, from frameworks to netx, as the code itself has them."""
    from ..supported import supported as supported_parts

    parts = supported_parts()
    return Output(
        {"parts": parts},
        *supported_tables(parts),
    )


def supported_tables(parts: Sequence[Part]) -> list[Table | str]:
    """Per part one line of names, and a table of those with fields or remarks."""
    out: list[Table | str] = []
    for part in parts:
        if part.missing is not None:
            out.append(f"{part.name}: {part.missing}")
            continue
        plain = [kind.name for kind in part.kinds if not (kind.fields or kind.remark)]
        if plain:
            out.append(f"{part.name}: {', '.join(plain)}")
        rows = [
            (kind.name, "; ".join([*map(_field, kind.fields), *filter(None, [kind.remark])]))
            for kind in part.kinds
            if kind.name not in plain
        ]
        if rows:
            ranges = table(part.name, ("", ""), rows)
            ranges.columns[1].justify = "left"
            out.append(ranges)
    return out


def _field(field: Field) -> str:
    if field.choices:
        values = " | ".join(field.choices)
    else:
        values = str(field.low) if field.low == field.high else f"{field.low} .. {field.high}"
    return f"{field.name} {values}{' or none' if field.optional else ''}"
