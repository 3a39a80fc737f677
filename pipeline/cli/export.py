"""`spikeship export`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Literal

import typer

from .options import DataRoot, Seed, _load_array
from .screen import Output, fail, say


def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of `spikeship train`, a NIR file (.nir), or module:function that returns "
            "your Norse or SLAYER network or a NIR graph.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The netx file; the float graph goes beside it as .nir.")
    ],
    checkpoint: Annotated[
        Path | None, typer.Option(help="module:function only: a torch state dict to load.")
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
        typer.Option(help="Or the data set to calibrate on. Default: a checkpoint's own."),
    ] = None,
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2", "poisson", "signed_poisson", "phase"] | None,
        typer.Option(help="Coding of --data. Default: a checkpoint's own, or direct."),
    ] = None,
    sigma: Annotated[
        float | None, typer.Option(help="Noise of rsc1 and rsc2, in pixel units.")
    ] = None,
    steps: Annotated[
        int | None, typer.Option(help="Time steps per sample of --data. Default: 8.", min=1)
    ] = None,
    levels: Annotated[
        int | None,
        typer.Option(
            help="Integers per 1.0 of the network's input. Default: 16; of --input 1.", min=1
        ),
    ] = None,
    target: Annotated[
        Literal["loihi1", "loihi2", "lava"] | None,
        typer.Option(help="Refuse an input or spikes that it cannot carry, see `inspect`."),
    ] = None,
    calibration: Annotated[
        int, typer.Option(help="Training samples for choosing integers.", min=1)
    ] = 128,
    bits: Annotated[
        str, typer.Option(help="Of the weights, 2 to 8; one number, or one per layer: 8,4,4.")
    ] = "8",
    size_budget: Annotated[
        int | None,
        typer.Option(help="Instead: bytes for all weights; bits go where they matter.", min=1),
    ] = None,
    max_loss: Annotated[
        float | None,
        typer.Option(help="Instead: the fewest bits that change this fraction of answers at most."),
    ] = None,
    per_channel: Annotated[
        bool, typer.Option("--per-channel", help="A scale and threshold per neuron or channel.")
    ] = False,
    fine_tune: Annotated[
        int,
        typer.Option(help="Epochs of training the integers themselves on the data set.", min=0),
    ] = 0,
    input_shape: Annotated[
        str | None,
        typer.Option(help="SLAYER without data: the shape of one input step, such as 2,34,34."),
    ] = None,
    dt: Annotated[
        float | None, typer.Option(help="NIR: the time step, where the file does not say it.")
    ] = None,
    reset: Annotated[
        Literal["zero", "subtract"] | None,
        typer.Option(help="NIR: the neurons' reset, which files do not say. Default: to v_reset."),
    ] = None,
    reset_delay: Annotated[
        int | None,
        typer.Option(help="NIR: 1 resets in the step after the spike, as snnTorch.", min=0, max=1),
    ] = None,
    approximate_current_bias: Annotated[
        bool,
        typer.Option(
            "--approximate-current-bias",
            help="Allow a bias before neurons with synaptic current, by its steady state.",
        ),
    ] = False,
    approximate_reset: Annotated[
        bool,
        typer.Option(
            "--approximate-reset",
            help="Allow reset by subtraction, by reset to zero; the agreement shows what it costs.",
        ),
    ] = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> Output:
    """Quantize a trained network and write it as netx.

    A SLAYER network trains with integers already: they are written as they are, without data unless
    the file shall say how to encode a data set.
    """
    from ...models.encoding import Encoding
    from ..deploy.deploy import deploy
    from ..frontends.load import Given
    from .tables import loss_tables, network_table

    if data and input_:
        fail("--data and --input exclude each other.")
    if sum((bits != "8", size_budget is not None, max_loss is not None)) > 1:
        fail("--bits, --size-budget and --max-loss exclude each other.")
    if fine_tune and input_ is not None:
        fail("--fine-tune needs labels: give --data instead of --input.")
    said = any(option is not None for option in (coding, sigma, steps, levels))
    asked = None
    if said and input_ is None:
        asked = Encoding.of(coding or "direct", steps or 8, levels or 16, sigma or 0.0)
    inputs = None if input_ is None else _load_array(input_)
    sizes = None if input_shape is None else _numbers(input_shape, "--input-shape")
    deployed = deploy(
        source,
        data,
        inputs=inputs,
        coding=asked,
        levels=levels,
        bits=None if bits == "8" else _numbers(bits, "--bits"),
        size_budget=size_budget,
        max_loss=max_loss,
        per_channel=per_channel,
        fine_tune=fine_tune,
        calibration=calibration,
        input_shape=(sizes,) if isinstance(sizes, int) else sizes,
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


def _numbers(text: str, option: str) -> int | list[int]:
    """`8` as one number, `8,4,4` as several."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} {text}: give whole numbers, separated by commas.")
    return numbers[0] if len(numbers) == 1 else numbers
