"""`spikeship convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from ...models.settings import Readout
from ..text import answers_text
from .options import OWN_DATA, CodingOptions, DataRoot, Seed
from .screen import Output, bars


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="An ANN of `spikeship train --ann`.", metavar="ANN.ckpt")
    ],
    coding: CodingOptions,
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.")] = Path("runs/converted"),
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
    data: Annotated[
        str | None, typer.Option(help=f"Data to convert on: {OWN_DATA}. Default: the ANN's own.")
    ] = None,
    data_root: DataRoot = None,
) -> Output:
    """Convert an ANN to a spiking network (Ozdenizci and Legenstein 2024), on its training images."""
    from ...models import conversion, training
    from ...models.networks import thresholds

    ann = training.load(checkpoint)
    dataset = training.data_of(ann.settings, data, data_root)
    code = coding.chosen(levels or ann.settings.coding.grid).of(dataset)
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
        settings = conversion.fine_tuning(network.settings, epsilon, epochs=fine_tune)
        networks["fine-tuned"], path = training.train(
            settings, dataset, out, start=network, progress=bars()
        )
    qualities = {name: training.quality(net, dataset.test) for name, net in networks.items()}
    result = {
        "checkpoint": path,
        "test_accuracy": {name: quality.accuracy for name, quality in qualities.items()},
        "thresholds": [p.item() for p in thresholds(networks.popitem()[1].net)],
    }
    shown = ", ".join(
        f"{name} {answers_text(q.accuracy, q.error)}" for name, q in qualities.items()
    )
    return Output(result, f"test accuracy: {shown}", f"wrote {path}")
