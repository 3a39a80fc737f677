"""`spikeship convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...models.settings import Readout
from .options import CodingOptions, DataRoot, Seed
from .screen import Output, bars, resumes


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="An ANN of `spikeship train --ann`.", metavar="ANN.ckpt")
    ],
    coding: CodingOptions,
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder for the checkpoints.")] = Path(
        "runs/converted"
    ),
    levels: Annotated[
        int | None, typer.Option(help="Input grid: grey levels per 1.0. Default: the ANN's.", min=1)
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Scale of the thresholds: 0.3 for few steps, 1 for many.")
    ] = 0.3,
    percentile: Annotated[
        float,
        typer.Option(help="Percentile of a layer's input currents that becomes its threshold."),
    ] = 99.7,
    readout: Annotated[Readout, typer.Option(help="What the answer is read from.")] = "voltage",
    fine_tune: Annotated[
        int, typer.Option(help="Epochs of adversarial fine-tuning, thresholds too.", min=0)
    ] = 0,
    epsilon: Annotated[
        float,
        typer.Option(help="L-infinity radius of the attacks that fine-tuning defends against."),
    ] = 0.1,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> Output:
    """Convert an ANN to a spiking network (Ozdenizci and Legenstein 2024), on its training images."""
    from ...models import conversion, training
    from ...models.data.load import load
    from ...models.networks import thresholds

    ann = training.load(checkpoint)
    dataset = load(ann.settings.dataset, data_root)
    code = coding.chosen(levels or ann.settings.coding.grid)
    assert code is not None
    network = conversion.convert(
        ann,
        code,
        dataset.train.images,
        scale=scale,
        percentile=percentile,
        readout=readout,
        seed=seed,
    )
    path = out / "converted.ckpt"
    training.save(network, path)
    networks = {"ann": ann, "converted": network}
    if fine_tune:
        resumes(out)
        settings = conversion.fine_tuning(network.settings, epsilon, epochs=fine_tune)
        networks["fine-tuned"], path = training.train(
            settings, dataset, out, start=network, progress=bars()
        )
    accuracies = {name: training.accuracy(net, dataset.test) for name, net in networks.items()}
    result = {
        "checkpoint": path,
        "test_accuracy": accuracies,
        "thresholds": [p.item() for p in thresholds(networks.popitem()[1].net)],
    }
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in accuracies.items())
    return Output(result, f"test accuracy: {shown}", f"wrote {path}")
