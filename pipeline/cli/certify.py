"""`spikeship certify`."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from .options import Processor
from .screen import Output, bars, resumes
from .victim import On, SubjectOptions, threads
from .victim_tables import certificate_tables, network_name

if TYPE_CHECKING:
    from ..robustness.certificates.certificates import Certified


def certify(
    given: SubjectOptions,
    on: On = None,
    method: Annotated[
        Literal["auto", "rsc1", "rsc1-grid", "rsc2", "bernoulli", "phase"],
        typer.Option(
            help="Certificate to compute; auto takes what suits the coding, for phase the exact one on "
            "integers."
        ),
    ] = "auto",
    n: Annotated[int, typer.Option(help="Draws that are counted, per image.", min=1)] = 10_000,
    n0: Annotated[int, typer.Option(help="Draws that choose the class, per image.", min=1)] = 100,
    alpha: Annotated[float, typer.Option(help="Chance of a wrong certificate, per image.")] = 0.001,
    folder: Annotated[
        Path | None,
        typer.Option(help="Folder that keeps finished votes; the same command goes on from them."),
    ] = None,
    device: Processor = "cpu",
) -> Output:
    """Certify the vote of a network with a random coding: within which radius no image changes it."""
    from ..robustness.certificates.certify import certify as run
    from ..robustness.report import summary

    subject = given.load(on)
    subject.images_alone("a certificate")
    victim, data = subject.victim, subject.dataset.name
    if folder is not None:
        resumes(folder)
    split = subject.dataset.test.first(given.samples)
    with threads(victim), victim.on(device):
        certified = run(
            victim,
            split.images,
            split.labels,
            method=method,
            n0=n0,
            n=n,
            alpha=alpha,
            seed=given.seed,
            folder=folder,
            progress=bars(),
        )
    result = {
        "file": given.file,
        "data": data,
        "device": device,
        "summary": summary(certified),
        "certified": certified,
    }
    return Output(result, *certified_tables(certified, data), out=given.out)


def certified_tables(certified: Certified, data: str = "") -> list[Table | str]:
    """Which network on which data, then certified accuracy by radius, and what it means."""
    from ..robustness.report import summary

    name = network_name(certified.name, certified.digest, certified.coding)
    images = f"{len(certified.certificates)} images" + (f" of {data}" if data else "")
    return [f"{name}; {images}", *certificate_tables(summary(certified))]
