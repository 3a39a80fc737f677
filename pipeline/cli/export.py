"""`spikeship export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from ...hw_targets.chips.messages import PAYLOADS, payload_of
from .options import CodingOptions, DataRoot, Seed, load_array, numbers, shape_of
from .screen import Output, fail, say


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of `spikeship train`, a NIR file (.nir), or module:function or "
            "path/to/file.py:function that returns your Norse or SLAYER network or a NIR graph.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The netx file; the float graph goes beside it as .nir.")
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
    data: Annotated[
        str | None,
        typer.Option(
            help="Data set to calibrate on, its images in --coding. Default: a checkpoint's own."
        ),
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            help="Integers per 1.0 of the network's input. Default: 16; with --input 1.", min=1
        ),
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            help="Target whose messages must carry input and spikes, else nothing is written: "
            f"{', '.join(PAYLOADS)}; see `spikeship inspect`."
        ),
    ] = None,
    calibration: Annotated[
        int, typer.Option(help="Training samples by which integers are chosen.", min=1)
    ] = 128,
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
        Literal["zero", "subtract"] | None,
        typer.Option(
            help="Reset of a NIR graph's neurons, which files do not say. Default: to v_reset."
        ),
    ] = None,
    reset_delay: Annotated[
        int | None,
        typer.Option(
            help="Steps from spike to reset in a NIR graph; 1 is snnTorch's. Default: 0.",
            min=0,
            max=1,
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
    from ..frontends.load import Given
    from .tables import loss_tables, network_table

    if data and input_:
        fail("--data and --input exclude each other.")
    if sum((bits != "8", size_budget is not None, max_loss is not None)) > 1:
        fail("--bits, --size-budget and --max-loss exclude each other.")
    if fine_tune and input_ is not None:
        fail("--fine-tune needs labels: give --data instead of --input.")
    if target is not None:
        payload_of(target)  # known before anything is computed
    each = numbers(bits, "--bits")
    deployed = deploy(
        source,
        data,
        inputs=None if input_ is None else load_array(input_),
        coding=None if input_ is not None else coding.chosen(levels),
        levels=levels,
        bits=None if bits == "8" else each[0] if len(each) == 1 else each,
        size_budget=size_budget,
        max_loss=max_loss,
        per_channel=per_channel,
        fine_tune=fine_tune,
        calibration=calibration,
        input_shape=shape_of(input_shape, "--input-shape"),
        checkpoint=checkpoint,
        given=Given(dt, reset, reset_delay),
        approximate_current_bias=approximate_current_bias,
        approximate_reset=approximate_reset,
        data_root=data_root,
        folder=out.with_suffix(".tuning"),
        seed=seed,
        progress=say,
    ).save(out, target=target)
    graph = None if deployed.graph is None else out.with_suffix(".nir")
    return Output(
        {"net": out, "graph": graph, "digest": deployed.digest, "layers": deployed.losses},
        network_table(deployed.network),
        *loss_tables(deployed.losses),
        f"wrote {out}" + ("" if graph is None else f" and {graph}"),
    )
