"""`spikeship convert`."""

from __future__ import annotations

from collections.abc import Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from ...models.settings import Readout
from ..text import answers_text
from .options import OWN_DATA, CodingOptions, DataRoot, Seed, new_file
from .screen import Output, bars, misused, resumes

if TYPE_CHECKING:
    from ...models.ann_conversion import Converted
    from ...models.data.dataset import Dataset
    from ...models.training import Answering, Classifier


def convert(
    source: Annotated[
        str,
        typer.Argument(
            help="An ANN: a checkpoint of `spikeship train --ann`; module:function or "
            "path/to/file.py:function that returns your own torch network, and is run; or an .onnx file.",
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
            "--out",
            "-o",
            help="Folder for converted.ckpt (of your own ANN converted.nir), and for best.ckpt "
            "(fine_tuned.nir) of fine-tuning.",
        ),
    ] = Path("runs/converted"),
    net: Annotated[
        Path | None,
        typer.Option(
            help="Write the integers, too: a netx file, as `spikeship export` would with its defaults."
        ),
    ] = None,
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
    device: Annotated[
        str, typer.Option(help="Where --fine-tune trains: cpu, or a GPU, as cuda, cuda:1, ...")
    ] = "cpu",
    epsilon: Annotated[
        float,
        typer.Option(help="L-infinity radius of the attacks that fine-tuning defends against."),
    ] = 0.1,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> Output:
    """Convert an ANN to a spiking network: its weights, and thresholds from its training images.

    A checkpoint of `spikeship train --ann` as Ozdenizci and Legenstein (2024) do. Your own network must
    be a row of layers: Conv2d or Conv1d, Linear, BatchNorm, ReLU (with a ceiling, or clip-floor steps),
    average and maximum pooling; it becomes a NIR file for `spikeship export`. Signals (C, L) of Conv1d
    are given as images of one row: x (sample, C, 1, L).
    """
    from ...models import training
    from ...models.ann_conversion import check_data, converted, fine_tuned
    from ...models.data.load import load
    from ..frontends.load import is_foreign, load_ann

    new_file(net, "netx")
    if out.suffix == ".net":
        misused(f"--out {out} is a folder: give it another name, and the netx file as --net {out}.")
    if is_foreign(source):
        if data is None:
            misused(f"{source}: thresholds are chosen on data: give --data.")
        dataset = load(data, data_root, coding.steps or 8)
        check_data(dataset)
        ann = load_ann(source, dataset.train.images, checkpoint)
    else:
        classifier = load_ann(source, checkpoint=checkpoint)
        assert isinstance(classifier, training.Classifier)
        dataset = training.data_of(classifier.settings, data, data_root)
        levels = levels or classifier.settings.coding.grid
        ann = classifier
    made = converted(
        ann,
        coding.chosen(levels).of(dataset),
        dataset.train.images,
        scale=scale,
        regression=dataset.regression,
        percentile=percentile,
        readout=readout,
        seed=seed,
    )
    path = _written(made, dataset.shape, out, "converted")
    said, result = _how(made)
    networks: dict[str, Answering] = {"ann": ann, "converted": made}
    if fine_tune:
        resumes(out)
        made = fine_tuned(made, dataset, out, epsilon, fine_tune, progress=bars(), device=device)
        path = _written(made, dataset.shape, out, "fine_tuned")
        networks["fine-tuned"] = made
        result["thresholds"] = _how(made)[1]["thresholds"]
    qualities = {name: training.quality(net, dataset.test) for name, net in networks.items()}
    accuracies = {name: quality.accuracy for name, quality in qualities.items()}
    listed = ", ".join(
        f"{name} {answers_text(q.accuracy, q.error)}" for name, q in qualities.items()
    )
    result |= {
        "graph" if path.suffix == ".nir" else "checkpoint": path,
        "test_accuracy": accuracies,
    }
    go_on = f"spikeship export {path} --data {dataset.name} --out my.net"
    last = f"wrote {path}" if said is None else f"wrote {path}: go on with `{go_on}`"
    if net is not None:
        last = _integers(made, dataset, net, path, result)
    return Output(result, *([] if said is None else [said]), f"test accuracy: {listed}", last)


def _integers(
    made: Classifier | Converted, data: Dataset, net: Path, path: Path, result: dict[str, Any]
) -> str:
    """Write what was made as integers, and say how they answer; `result` gets both."""
    from ..deploy.answers import compare_answers
    from ..deploy.deploy import deploy
    from ..deploy.task import Task

    deployed = deploy(made, data).save(net)
    answers = compare_answers(Task(deployed, data), 100)
    result |= {"net": net, "digest": deployed.digest, "answers": answers}
    return f"wrote {path} and {net}" + ("" if answers is None else f"; {answers.text}")


def _written(made: Classifier | Converted, shape: Sequence[int], folder: Path, name: str) -> Path:
    """The file of a network: a checkpoint of one of ours, a NIR file of another.

    What fine-tuning makes of ours is `best.ckpt`, which is there already.
    """
    from ...models import training

    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(made, training.Classifier):
        if name == "fine_tuned":
            return folder / "best.ckpt"
        training.save(made, folder / f"{name}.ckpt")
        return folder / f"{name}.ckpt"
    import nir

    from ...hw_targets.files import write_bytes
    from ..deploy.converted import graph_of

    path = folder / f"{name}.nir"
    content = BytesIO()
    nir.write(content, graph_of(made, shape))
    write_bytes(path, content.getbuffer())
    return path


def _how(made: Classifier | Converted) -> tuple[str | None, dict[str, Any]]:
    """How a network came about, for people and in JSON."""
    from ...models import training
    from ...models.networks import thresholds

    if isinstance(made, training.Classifier):
        return None, {"thresholds": [p.item() for p in thresholds(made.net)]}
    names = ("thresholds", "scale", "agreement", "error", "approximations")
    return str(made), {name: getattr(made, name) for name in names}
