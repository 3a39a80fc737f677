"""`spikeship evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataOptions, NetArgument
from .screen import Output, bars


def evaluate(
    net: NetArgument,
    data: DataOptions,
    samples: Annotated[
        int | None,
        typer.Option(help="How many test samples are run, from the first on. Default: all.", min=1),
    ] = None,
) -> Output:
    """Measure the accuracy of the integer network on test data, and samples per second."""
    from ..deploy.deployed import Deployed
    from ..deploy.run import classify
    from ..text import percent
    from .tables import overflow_lines

    deployed = Deployed.load(net)
    dataset = data.of(deployed)
    result = classify(deployed, dataset.test, samples, progress=bars())
    samples = len(result.predictions)
    rate = samples / result.seconds
    return Output(
        {
            "file": net,
            "digest": deployed.digest,
            "data": dataset.name,
            "samples": samples,
            "steps": deployed.recipe.coding.steps,
            "accuracy": result.accuracy,
            "samples_per_second": rate,
            "overflow": result.overflow,
        },
        f"accuracy {percent(result.accuracy)} on {samples} test samples of {dataset.name}",
        f"{rate:,.0f} samples per second, {deployed.recipe.coding.steps} steps each",
        *overflow_lines([p.name for p in deployed.network.populations], result.overflow),
    )
