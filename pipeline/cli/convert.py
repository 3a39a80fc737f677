"""`spikeship convert`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import DataRoot, Seed
from .screen import Output, bars


def convert(
    checkpoint: Annotated[
        Path, typer.Argument(help="An ANN of `spikeship train --ann`.", metavar="ANN.ckpt")
    ],
    out: Annotated[Path, typer.Option(help="Folder for the checkpoints.")] = Path("runs/converted"),
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2", "poisson", "phase"], typer.Option()
    ] = "direct",
    sigma: Annotated[float, typer.Option(help="Noise of rsc1 and rsc2, in pixel units.")] = 0.0,
    steps: Annotated[int, typer.Option(help="Time steps per sample.", min=1)] = 8,
    levels: Annotated[
        int | None, typer.Option(help="Input grid: grey levels per 1.0. Default: the ANN's.", min=1)
    ] = None,
    scale: Annotated[
        float, typer.Option(help="Of the thresholds: 0.3 for few steps, 1 for many.")
    ] = 0.3,
    percentile: Annotated[
        float, typer.Option(help="Of a layer's input currents, that becomes its threshold.")
    ] = 99.7,
    readout: Annotated[
        Literal["spikes", "voltage"], typer.Option(help="What the answer is read from.")
    ] = "voltage",
    fine_tune: Annotated[
        int, typer.Option(help="Epochs of adversarial fine-tuning, thresholds too.", min=0)
    ] = 0,
    epsilon: Annotated[float, typer.Option(help="Of the fine-tuning.")] = 0.1,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> Output:
    """Convert an ANN to a spiking network (Ozdenizci and Legenstein 2024), on its training images."""
    from ...models import conversion, networks, training
    from ...models.data.load import load
    from ...models.encoding import Encoding

    ann = training.load(checkpoint)
    dataset = load(ann.settings.dataset, data_root)
    encoding = Encoding.of(coding, steps, levels or ann.settings.levels, sigma)
    network = conversion.convert(
        ann,
        encoding,
        dataset.train.images,
        scale=scale,
        percentile=percentile,
        readout=readout,
        seed=seed,
    )
    path = out / "converted.ckpt"
    training.save(network, path)
    found = {"ann": ann, "converted": network}
    if fine_tune:
        settings = conversion.fine_tuning(network.settings, epsilon, epochs=fine_tune)
        found["fine-tuned"], path = training.train(
            settings, dataset, out, start=network, progress=bars()
        )
    accuracies = {name: training.accuracy(net, dataset.test) for name, net in found.items()}
    result = {
        "checkpoint": path,
        "test_accuracy": accuracies,
        "thresholds": [p.item() for p in networks.thresholds(found.popitem()[1].net)],
    }
    shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in accuracies.items())
    return Output(result, f"test accuracy: {shown}", f"wrote {path}")
