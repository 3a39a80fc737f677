"""`spikeship convert`."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from ...models.settings import Readout
from ..text import answers_text
from .options import OWN_DATA, CodingOptions, DataRoot, Seed
from .screen import Output, bars, misused, resumes

if TYPE_CHECKING:
    from ...hw_targets.network.coding import Coding
    from ...models.ann import Ann
    from ...models.ann_conversion import Converted
    from ...models.data.dataset import Dataset
    from ...models.quality import Quality
    from ...models.training import Classifier


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="An ANN: a checkpoint of `spikeship train --ann`, or module:function or "
            "path/to/file.py:function that returns your own torch network.",
            metavar="ANN",
        ),
    ],
    coding: CodingOptions,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Torch state dict to load into what module:function returns."),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"Data that thresholds are chosen on: {OWN_DATA}. Default: what an ANN of `spikeship "
            "train` was trained on."
        ),
    ] = None,
    out: Annotated[
        Path,
        typer.Option(
            "--out", "-o", help="Folder for converted.ckpt; of your own ANN converted.nir."
        ),
    ] = Path("runs/converted"),
    levels: Annotated[
        int | None,
        typer.Option(
            help="Input grid: levels per 1.0. Default: the ANN's; of your own ANN those that suit your "
            "own data, 16 for built-in images.",
            min=1,
        ),
    ] = None,
    scale: Annotated[
        float | None,
        typer.Option(
            help="Scale of the thresholds: 0.3 for few steps, 1 for many. Default: 0.3; of your own ANN "
            "the one with which most answers are the ANN's."
        ),
    ] = None,
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
    """Convert an ANN to a spiking network: its weights, and thresholds from its training images.

    A checkpoint of `spikeship train --ann` as Ozdenizci and Legenstein (2024) do. Your own network must
    be a row of layers: Conv2d, Linear, BatchNorm, ReLU (with a ceiling, or clip-floor steps), average
    and maximum pooling; it becomes a NIR file for `spikeship export`.
    """
    from ...models import training
    from ...models.ann import Ann
    from ...models.ann_conversion import check_data
    from ...models.data.load import load
    from ...models.named import is_named
    from ..frontends.load import load_ann

    if is_named(source):
        if data is None:
            misused(f"{source}: thresholds are chosen on data: give --data.")
        if fine_tune:
            misused("--fine-tune is for checkpoints of ours; give it to `spikeship export` later.")
        dataset = load(data, data_root, coding.steps or 8)
        check_data(dataset)
        ann = load_ann(source, dataset.train.images, checkpoint)
        assert isinstance(ann, Ann)
        code = coding.chosen(levels).of(dataset)
        return _own(ann, code, dataset, out, scale, percentile, readout, seed)
    classifier = load_ann(source, checkpoint=checkpoint)
    assert not isinstance(classifier, Ann)
    dataset = training.data_of(classifier.settings, data, data_root)
    code = coding.chosen(levels or classifier.settings.coding.grid).of(dataset)
    options = (0.3 if scale is None else scale, percentile, readout, seed)
    return _ours(classifier, code, dataset, out, *options, fine_tune, epsilon)


def _own(
    ann: Ann,
    coding: Coding,
    dataset: Dataset,
    out: Path,
    scale: float | None,
    percentile: float,
    readout: Readout,
    seed: int,
) -> Output:
    """An ANN of somebody else's becomes a NIR file."""
    import nir

    from ...hw_targets.files import atomic_path
    from ...models import training
    from ...models.ann_conversion import convert_ann
    from ..deploy.converted import graph_of

    made: Converted = convert_ann(
        ann,
        coding,
        dataset.train.images,
        scale=scale,
        percentile=percentile,
        readout=readout,
        seed=seed,
    )
    path = out / "converted.nir"
    out.mkdir(parents=True, exist_ok=True)
    with atomic_path(path) as partial:
        nir.write(partial, graph_of(made, dataset.shape))
    qualities = {
        "ann": training.quality(ann, dataset.test),
        "converted": training.quality(made, dataset.test),
    }
    result = {
        "graph": path,
        "test_accuracy": {name: quality.accuracy for name, quality in qualities.items()},
        "thresholds": made.thresholds,
        "scale": made.scale,
        "agreement": made.agreement,
        "error": made.error,
        "approximations": made.approximations,
    }
    return Output(
        result,
        str(made),
        f"test accuracy: {_listed(qualities)}",
        f"wrote {path}: go on with `spikeship export {path} --data {dataset.name} --out my.net`",
    )


def _ours(
    ann: Classifier,
    coding: Coding,
    dataset: Dataset,
    out: Path,
    scale: float,
    percentile: float,
    readout: Readout,
    seed: int,
    fine_tune: int,
    epsilon: float,
) -> Output:
    """An ANN of `train` becomes a checkpoint, which may be trained on."""
    from ...models import conversion, training
    from ...models.networks import thresholds

    network = conversion.convert(
        ann,
        coding,
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
    qualities = {name: training.quality(net, dataset.test) for name, net in networks.items()}
    result = {
        "checkpoint": path,
        "test_accuracy": {name: quality.accuracy for name, quality in qualities.items()},
        "thresholds": [p.item() for p in thresholds(networks.popitem()[1].net)],
    }
    return Output(result, f"test accuracy: {_listed(qualities)}", f"wrote {path}")


def _listed(qualities: Mapping[str, Quality]) -> str:
    return ", ".join(f"{name} {answers_text(q.accuracy, q.error)}" for name, q in qualities.items())
