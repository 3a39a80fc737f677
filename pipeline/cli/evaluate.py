"""`spikeship evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from .options import DataRoot, NetArgument
from .screen import Output, bars


def evaluate(
    net: NetArgument,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    limit: Annotated[int | None, typer.Option(help="Test samples. Default: all.", min=1)] = None,
    data_root: DataRoot = None,
) -> Output:
    """Accuracy of the integer network on test data, and samples per second."""
    from ..deploy.deployed import Deployed
    from ..deploy.run import classify
    from ..text import percent
    from .tables import overflow_lines

    deployed = Deployed.load(net)
    dataset = deployed.dataset(data, data_root)
    result = classify(deployed, dataset.test, limit, progress=bars())
    samples = len(result.predictions)
    rate = samples / result.seconds
    return Output(
        {
            "file": net,
            "digest": deployed.digest,
            "data": dataset.name,
            "samples": samples,
            "steps": deployed.recipe.steps,
            "accuracy": result.accuracy,
            "samples_per_second": rate,
            "overflow": result.overflow,
        },
        f"accuracy {percent(result.accuracy)} on {samples} test samples of {dataset.name}",
        f"{rate:,.0f} samples per second, {deployed.recipe.steps} steps each",
        *overflow_lines([p.name for p in deployed.network.populations], result.overflow),
    )
