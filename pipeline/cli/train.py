"""`spikeship train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ...hw_targets.network.coding import NOISY
from ...models.settings import Settings
from .options import DataRoot
from .screen import Output, bars, misused, resumes


def train(
    settings: partial[Settings],
    ann: Annotated[
        bool, typer.Option("--ann", help="Train the ANN twin instead of the spiking network.")
    ] = False,
    start: Annotated[
        Path | None, typer.Option(help="A checkpoint of the same network to start from.")
    ] = None,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the checkpoint.")] = Path(
        "runs/train"
    ),
    data_root: DataRoot = None,
) -> Output:
    """Train a Norse or SLAYER network, or its ANN twin; interrupted runs go on where they stopped."""
    from ...models import training
    from ...models.data.dataset import EVENT_STEPS
    from ...models.data.load import load

    typed = settings.keywords
    name = typed.get("dataset", Settings.dataset)
    dataset = load(name, data_root, typed.get("steps", EVENT_STEPS))
    if dataset.event_steps and "coding" in typed:
        misused(f"{name} is events, which are not coded again: leave out --coding.")
    noisy = typed.get("coding", Settings.coding.name) in NOISY
    quiet = {} if noisy else {"sigma": 0.0}
    begin = None if start is None else training.load(start)
    resumes(out)
    network, path = training.train(
        settings(spiking=not ann, **quiet), dataset, out, start=begin, progress=bars()
    )
    validation = training.accuracy(network, dataset.validation)
    test = training.accuracy(network, dataset.test)
    return Output(
        {
            "checkpoint": path,
            "validation_accuracy": validation,
            "test_accuracy": test,
            "settings": network.settings.options(),
        },
        f"validation {100 * validation:.2f} %, test {100 * test:.2f} %",
        f"wrote {path}",
    )
