"""`spikeship certify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from .options import DataRoot
from .screen import Output, bars
from .victim import (
    Bits,
    Data,
    DrawSeed,
    File,
    Float,
    Limit,
    On,
    Out,
    _certificates,
    _name,
    _threads,
    _victim,
)

if TYPE_CHECKING:
    from ..robustness import Victim
    from ..robustness.certificates.certificates import Certified


def certify(
    file: File,
    method: Annotated[
        Literal["auto", "rsc1", "rsc1-grid", "rsc2", "bernoulli", "phase"],
        typer.Option(help="Default: what suits the coding; for phase the exact one, on integers."),
    ] = "auto",
    n: Annotated[int, typer.Option(help="Draws that are counted, per image.", min=1)] = 10_000,
    n0: Annotated[int, typer.Option(help="Draws that choose the class, per image.", min=1)] = 100,
    alpha: Annotated[float, typer.Option(help="Chance of a wrong certificate, per image.")] = 0.001,
    on: On = None,
    float_: Float = None,
    bits: Bits = None,
    limit: Limit = 100,
    seed: DrawSeed = 0,
    folder: Annotated[
        Path | None,
        typer.Option(help="Keeps finished votes, so that the same command goes on from them."),
    ] = None,
    data: Data = None,
    data_root: DataRoot = None,
    out: Out = None,
) -> Output:
    """Certify the vote of a network with a random coding: within which radius no image changes it."""
    from ..robustness.certificates.certify import certify as run
    from ..robustness.report import summary

    victim, dataset = _victim(file, on, float_, bits, data, data_root)
    split = dataset.test.first(limit)
    with _threads(victim):
        found = run(
            victim,
            split.images,
            split.labels,
            method=method,
            n0=n0,
            n=n,
            alpha=alpha,
            seed=seed,
            folder=folder,
            progress=bars(),
        )
    result = {
        "file": file,
        "data": dataset.name,
        "summary": summary(found),
        "certified": found,
    }
    tables = certified_tables(victim, dataset.name, found)
    return Output(result, *tables, out=out)


def certified_tables(victim: Victim, data: str, found: Certified) -> list[Table | str]:
    """Certified accuracy by radius, and what it means."""
    from ..robustness.report import summary

    name = _name(victim.name, victim.digest, victim.encoding)
    return [f"{name}; {len(found.certificates)} images of {data}", *_certificates(summary(found))]
