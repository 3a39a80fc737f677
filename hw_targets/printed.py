"""Results print themselves: as tables in a terminal, as HTML in a notebook."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, TypeAlias

if TYPE_CHECKING:
    from rich.console import Console
    from rich.table import Table

View: TypeAlias = "Table | str"
_CONTROLS = re.compile(
    "[\x00-\x08\x0b-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]"
)
"""What moves the cursor, colours, turns the direction of writing, or no terminal can show."""
WIDTH = 140
"""Columns of a table where there is no terminal to ask."""


class Printed:
    """A result whose `str` and `repr` are the tables that its command shows."""

    def views(self) -> Sequence[View]:
        """Tables and lines, in the order in which they are read."""
        raise NotImplementedError

    def __str__(self) -> str:
        console = _console()
        with console.capture() as captured:
            show(console, self.views())
        return "\n".join(line.rstrip() for line in captured.get().splitlines()).strip("\n")

    def __repr__(self) -> str:
        return str(self)

    def _repr_html_(self) -> str:
        """What a notebook shows."""
        console = _console(record=True)
        with console.capture():
            show(console, self.views())
        block = '<pre style="line-height:normal;overflow-x:auto">{code}</pre>'
        return console.export_html(inline_styles=True, code_format=block)


def show(console: Console, views: Sequence[View]) -> None:
    """Print tables and lines; a line is text, not markup."""
    for view in views:
        if isinstance(view, str):
            console.print(clean(view), markup=False)
        else:
            console.print(view)


def table(title: str, columns: Sequence[str], rows: Any) -> Table:
    """A table of `rows` of cells, text and not markup: first column left, the others right."""
    from rich.markup import escape
    from rich.table import Table

    out = Table(title=clean(title), title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        out.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        out.add_row(*(escape(clean(str(cell))) for cell in row))
    return out


def clean(text: str) -> str:
    """A text without control characters, which a file could send to the terminal: as `\\x1b`."""
    return _CONTROLS.sub(lambda match: ascii(match[0])[1:-1], text)


def _console(record: bool = False) -> Console:
    from rich.console import Console

    return Console(width=WIDTH, highlight=False, record=record, color_system=None)
