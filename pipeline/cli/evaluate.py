"""`spikeship evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataOptions, NetArgument, Processor
from .screen import Output, bars, fail


def evaluate(
    net: NetArgument,
    data: DataOptions,
    samples: Annotated[
        int | None,
        typer.Option(help="How many test samples are run, from the first on. Default: all.", min=1),
    ] = None,
    device: Processor = "cpu",
) -> Output:
    """Measure the accuracy, or error of regression, of the integers on test data, and their speed."""
    from ..deploy.deployed import Deployed
    from ..deploy.run import classify
    from .tables import overflow_lines

    task = data.of(Deployed.load(net))
    deployed, dataset = task.deployed, task.data
    if not len(dataset.test.labels):
        fail(f"{dataset.name} has no labels, so no answer is right or wrong: give --labels Y.npy.")
    result = classify(deployed, dataset.test, samples, progress=bars(), device=device)
    samples = len(result.scores)
    rate = samples / result.seconds
    return Output(
        {
            "file": net,
            "digest": deployed.digest,
            "data": dataset.name,
            "samples": samples,
            "device": device,
            "steps": deployed.recipe.coding.steps,
            "accuracy": result.quality.accuracy,
            "error": result.quality.error,
            "explained": result.quality.explained,
            "decode": deployed.recipe.decode,
            "samples_per_second": rate,
            "overflow": result.overflow,
        },
        f"{result.quality.text} on {samples} test samples of {dataset.name}",
        f"{rate:,.0f} samples per second, {deployed.recipe.coding.steps} steps each",
        *overflow_lines([p.name for p in deployed.network.populations], result.overflow),
    )
