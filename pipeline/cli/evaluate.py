"""`spikeship evaluate`."""

from __future__ import annotations

from typing import Annotated

import typer

from ...hw_targets.netx.file import read_netx
from .options import DataRoot, NetArgument, dataset_of
from .screen import Output, bars


def evaluate(
    net: NetArgument,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    limit: Annotated[int | None, typer.Option(help="Test samples. Default: all.", min=1)] = None,
    data_root: DataRoot = None,
) -> Output:
    """Accuracy of the integer network on test data, and samples per second."""
    from ..deploy.run import classify, needed_recipe
    from ..text import percent
    from .tables import overflow_lines

    network = read_netx(net)
    recipe = needed_recipe(network)
    dataset = dataset_of(net, recipe, data, data_root)
    result = classify(network, dataset.test, limit, progress=bars())
    samples = len(result.predictions)
    rate = samples / result.seconds
    return Output(
        {
            "file": net,
            "digest": network.digest,
            "data": dataset.name,
            "samples": samples,
            "steps": recipe.steps,
            "accuracy": result.accuracy,
            "samples_per_second": rate,
            "overflow": result.overflow,
        },
        f"accuracy {percent(result.accuracy)} on {samples} test samples of {dataset.name}",
        f"{rate:,.0f} samples per second, {recipe.steps} steps each",
        *overflow_lines([p.name for p in network.populations], result.overflow),
    )
