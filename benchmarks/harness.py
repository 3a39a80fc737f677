"""What every benchmark does alike: names, seeds, kept cells, the command in the JSON, writing it.

A benchmark is a `main` that measures, then calls `finish` with its result, which begins with
`command(...)`, and its tables.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich.console import Console, RenderableType

from ..pipeline import records

if TYPE_CHECKING:
    from ..models.data.dataset import Dataset
    from ..models.settings import Settings
    from ..models.training import Classifier

RESULTS = Path("benchmarks/results")
NAMES = {
    "digits": "digits",
    "mnist": "MNIST",
    "fashion_mnist": "Fashion-MNIST",
    "norse": "Norse",
    "slayer": "SLAYER",
}
SEEDS = {"digits": 3, "mnist": 1, "fashion_mnist": 1}
"""How often a network is trained where the command does not say."""


def command(benchmark: str, *words: str, **options: Any) -> str:
    """What was typed, for the JSON: `python -m spikeship.benchmarks.BENCHMARK WORDS --options`.

    An option that is None or False is left out, True is its flag alone, a list repeats it. A path is
    written ROOT: it is of one machine.
    """
    out = [f"python -m spikeship.benchmarks.{benchmark}", *words]
    for name, value in options.items():
        flag = "--" + name.replace("_", "-")
        for item in value if isinstance(value, list | tuple) else [value]:
            if item is True:
                out.append(flag)
            elif item is not None and item is not False:
                out.append(f"{flag} {'ROOT' if isinstance(item, Path) else item}")
    return " ".join(out)


def finish(
    result: dict[str, Any],
    path: Path,
    tables: Iterable[RenderableType] = (),
    *,
    width: int = 120,
    work: Path | None = None,
) -> None:
    """Write the result with the machine's environment as JSON, print tables, say where all of it is."""
    records.write_json({**result, **records.environment()}, path)
    console = Console(width=width)
    for table in tables:
        console.print(table)
    print(f"wrote {path}" + (f"; networks and cells in {work}" if work else ""))


def file_name(name: str) -> str:
    """A name as part of a path: letters, digits, dots and dashes stay."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name)


def kept(path: Path, what: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """The cell that `path` holds; if there is none, `measure` it, write it there and say `what`."""
    if not path.is_file():
        records.write_json(measure(), path)
        print(what, flush=True)
    stored: dict[str, Any] = json.loads(path.read_text())
    return stored


@dataclass(frozen=True)
class Seeded:
    """One data set and seed of a benchmark, and the folder that keeps its networks and cells."""

    data: Dataset
    seed: int
    folder: Path

    def net_folder(self, name: str) -> Path:
        """Where the network of this name is kept."""
        return self.folder / "nets" / file_name(name)

    def trained(self, settings: Settings, name: str) -> Classifier:
        """The network of this name, trained if it is not kept."""
        from ..models import training

        return training.train(settings, self.data, self.net_folder(name), progress=False)[0]

    def cell(self, name: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
        """What `measure` gives; measured before: what was kept."""
        path = self.folder / "cells" / f"{file_name(name)}.json"
        return kept(path, f"{self.data.name}, seed {self.seed}: {name}", measure)
