"""`spikeship export`."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ...hw_targets.chips.messages import PAYLOADS, payload_of
from .options import (
    OWN_DATA,
    CodingOptions,
    DataRoot,
    Seed,
    load_array,
    new_file,
    numbers,
    shape_of,
)
from .screen import Output, misused, resumes, say

if TYPE_CHECKING:
    from ..verify import Expected

if TYPE_CHECKING:
    from ..deploy.answers import Answers
    from ..deploy.deployed import Deployed


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of `spikeship train`, a NIR file (.nir), or module:function or "
            "path/to/file.py:function that returns your Norse or SLAYER network or a NIR graph, and is "
            "run.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option("--out", "-o", help="The netx file; the float graph goes beside it as .nir."),
    ],
    coding: CodingOptions,
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Torch state dict to load into what module:function returns."),
    ] = None,
    input_: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Your own calibration inputs: integers (sample, time, *input shape) in a .npy file.",
        ),
    ] = None,
    expect: Annotated[
        Path | None,
        typer.Option(
            help="What the original framework recorded of the last layer on --input, as for `verify`; "
            "where the float network does something else, nothing is written."
        ),
    ] = None,
    data: Annotated[
        str | None,
        typer.Option(
            help=f"Data to calibrate on, images in --coding: {OWN_DATA}. Default: a checkpoint's own."
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            help="Integers per 1.0 of the network's input. Default: those that suit your own data, 16 "
            "for built-in ones; 1 where --input holds integers.",
            min=1,
        ),
    ] = None,
    chip: Annotated[
        str | None,
        typer.Option(
            help="Chip (or Lava) whose messages must carry input and spikes, else nothing is written: "
            f"{', '.join(PAYLOADS)}; see `spikeship inspect`."
        ),
    ] = None,
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What --input shall be answered, in a .npy file, so that answers are compared: classes "
            "(sample,) or real targets (sample, outputs)."
        ),
    ] = None,
    samples: Annotated[
        int,
        typer.Option(
            help="Labelled samples on which the answers of float network and integers are compared, the "
            "first test samples; 0 leaves it out.",
            min=0,
        ),
    ] = 100,
    calibration: Annotated[
        int | None,
        typer.Option(
            help="Training samples by which integers are chosen. Default: 128; of --input all.",
            min=1,
        ),
    ] = None,
    bits: Annotated[
        str,
        typer.Option(help="Bits of the weights, 2 to 8: one number, or one per layer as in 8,4,4."),
    ] = "8",
    size_budget: Annotated[
        int | None,
        typer.Option(
            help="Bytes for all weights, in place of --bits; bits go where they matter.", min=1
        ),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(
            help="Fraction of answers that may change, in place of --bits; the fewest bits are taken."
        ),
    ] = None,
    per_channel: Annotated[
        bool,
        typer.Option(
            "--per-channel", help="Give every neuron or channel a scale and threshold of its own."
        ),
    ] = False,
    fine_tune: Annotated[
        int,
        typer.Option(help="Epochs of training the integers themselves on the data set.", min=0),
    ] = 0,
    device: Annotated[
        str, typer.Option(help="Where --fine-tune trains: cpu, or a GPU, as cuda, cuda:1, ...")
    ] = "cpu",
    input_shape: Annotated[
        str | None,
        typer.Option(
            help="Shape of one input step of a SLAYER network without data, such as 2,34,34."
        ),
    ] = None,
    dt: Annotated[
        float | None,
        typer.Option(
            help="Time step of a NIR graph that does not say it, in the unit of its time constants."
        ),
    ] = None,
    reset: Annotated[
        Literal["zero", "subtract", "subtract-at-once", "none"] | None,
        typer.Option(
            help="Reset of a NIR graph's neurons, which files do not say: to v_reset, by v_threshold, by "
            "it as snnTorch does with reset_delay=False, or none."
        ),
    ] = None,
    reset_delay: Annotated[
        int | None,
        typer.Option(
            help="Steps from spike to reset in a NIR graph; 1 is snnTorch's.",
            min=0,
            max=1,
        ),
    ] = None,
    framework: Annotated[
        Literal["snntorch", "spikingjelly", "norse", "sinabs", "rockpool", "lava", "nengo"] | None,
        typer.Option(
            "--from",
            help="Framework that wrote a NIR graph, with its defaults for --dt, --reset and "
            "--reset-delay; see `spikeship supported`.",
        ),
    ] = None,
    approximate_current_bias: Annotated[
        bool,
        typer.Option(
            "--approximate-current-bias",
            help="Replace a bias before neurons with synaptic current by its steady state.",
        ),
    ] = False,
    approximate_reset: Annotated[
        bool,
        typer.Option(
            "--approximate-reset",
            help="Replace reset by subtraction with reset to zero; the agreement shows what it costs.",
        ),
    ] = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> Output:
    """Quantize a trained network and write it as netx.

    A SLAYER network trains with integers already: they are written as they are, without data unless
    the file shall say how to encode a data set.
    """
    from ..deploy.deploy import deploy
    from ..deploy.deployed import graph_file
    from ..frontends.load import Given
    from ..verify import compare_expected
    from .tables import grid_lines, loss_tables, network_table

    new_file(out, "netx")
    if data and input_:
        misused("--data and --input exclude each other.")
    if sum((bits != "8", size_budget is not None, max_loss is not None)) > 1:
        misused("--bits, --size-budget and --max-loss exclude each other.")
    if labels is not None and input_ is None:
        misused("--labels go with --input; a data set has its own.")
    if input_ is not None and coding != CodingOptions():
        misused(
            "--coding, --time-steps and --sigma are for images of --data: --input has its own steps."
        )
    if calibration is not None and input_ is not None:
        misused("--calibration is of training samples of --data: --input is taken whole.")
    if fine_tune and input_ is not None:
        misused("--fine-tune needs labels: give --data instead of --input.")
    if chip is not None:
        payload_of(chip)  # known before anything is computed
    if expect is not None and input_ is None:
        misused("--expect is compared on --input: give the inputs that the framework got.")
    tuning = out.with_suffix(".tuning")
    if fine_tune:
        resumes(tuning)
    each = numbers(bits, "--bits")
    inputs = None if input_ is None else load_array(input_)
    deployed = deploy(
        source,
        data,
        inputs=inputs,
        coding=None if input_ is not None else coding.chosen(levels),
        levels=levels,
        bits=None if bits == "8" else each[0] if len(each) == 1 else each,
        size_budget=size_budget,
        max_loss=max_loss,
        per_channel=per_channel,
        fine_tune=fine_tune,
        calibration=calibration or 128,
        input_shape=shape_of(input_shape, "--input-shape"),
        checkpoint=checkpoint,
        given=Given(dt, reset, reset_delay, framework),
        approximate_current_bias=approximate_current_bias,
        approximate_reset=approximate_reset,
        data_root=data_root,
        folder=tuning,
        seed=seed,
        progress=say,
        device=device,
    )
    recorded = None
    if expect is not None and inputs is not None:
        recorded = compare_expected(deployed, inputs, load_array(expect))
    if recorded is not None and not recorded.ok:
        return Output({"expected": recorded}, *recorded.lines(), f"{out} is not written", ok=False)
    deployed = deployed.save(out, chip=chip)
    compared = _answers(deployed, inputs, labels, samples, str(input_))
    graph = None if deployed.graph is None else graph_file(deployed.network, out)
    return Output(
        {
            "net": out,
            "graph": graph,
            "digest": deployed.digest,
            "layers": deployed.losses,
            "expected": recorded,
            "grid": deployed.grid,
            "answers": compared,
        },
        network_table(deployed.network),
        *loss_tables(deployed.losses),
        *grid_lines(deployed.grid),
        *_origin(source, recorded),
        NOBODY if compared is None else compared.text,
        f"wrote {out}" + ("" if graph is None else f" and {graph}"),
    )


def _origin(source: str, recorded: Expected | None) -> Iterator[str]:
    """How far the network is the one that was trained, or that nobody looked."""
    if recorded is not None:
        yield from recorded.lines()
    elif Path(source).suffix == ".nir":
        yield (
            "original framework: not compared. Record its outputs on these inputs and give them to "
            "--expect, here or in `spikeship verify`."
        )


NOBODY = (
    "answers: NOT compared with labels, so nobody knows whether this network still does its task: give "
    "--data, or --labels with --input"
)


def _answers(
    deployed: Deployed, inputs: Any, labels: Path | None, samples: int, name: str
) -> Answers | None:
    """Float network and integers beside labels, where there are any and samples are asked for."""
    from ..deploy.answers import compare_answers
    from ..deploy.task import Task, task

    if not samples or deployed.network.recipe is None:
        return None
    if labels is not None:
        given = task(deployed, inputs=inputs, labels=load_array(labels), name=name)
        return compare_answers(given, samples)
    if deployed.data is None:
        return None
    return compare_answers(Task(deployed, deployed.data), samples)
