"""`spikeship train`."""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Annotated

import typer

from ...hw_targets.network.coding import NOISY
from ...models.quality import Quality
from ...models.settings import Settings
from ..text import answers_text
from .options import DataRoot, Processor
from .screen import Output, bars, fail, resumes


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
    device: Processor = "cpu",
) -> Output:
    """Train a Norse or SLAYER network, or its ANN twin; interrupted runs go on where they stopped."""
    from ...hw_targets.simulate.torch_engine.device import device_of
    from ...models import training
    from ...models.data.dataset import EVENT_STEPS
    from ...models.data.grid import grid, has_own_grid
    from ...models.data.load import load
    from .tables import grid_lines

    typed, where = settings.keywords, device_of(device)
    name = typed.get("dataset", Settings.dataset)
    dataset = load(name, data_root, typed.get("steps", EVENT_STEPS))
    if dataset.steps is not None and "coding" in typed:
        fail(f"{name} is {dataset.kind}, which are not coded again: leave out --coding.")
    noisy = typed.get("coding", Settings.coding.name) in NOISY
    quiet = {} if noisy else {"sigma": 0.0}

    def words(quality: Quality) -> str:
        return answers_text(quality.accuracy, quality.error)

    begin = None if start is None else training.load(start)
    chosen = training.chosen(dataset, {**typed, "spiking": not ann, **quiet})
    resumes(out)
    network, path = training.train(chosen, dataset, out, start=begin, progress=bars(), device=where)
    network.to(where)
    validation = training.quality(network, dataset.validation)
    test = training.quality(network, dataset.test)
    rounded = grid(dataset, network.settings.coding.grid) if has_own_grid(dataset) else None
    return Output(
        {
            "checkpoint": path,
            "device": device,
            "validation_accuracy": validation.accuracy,
            "test_accuracy": test.accuracy,
            "validation_error": validation.error,
            "test_error": test.error,
            "grid": rounded,
            "settings": network.settings.options(),
        },
        *grid_lines(rounded),
        f"validation {words(validation)}, test {words(test)}",
        f"wrote {path}",
    )
