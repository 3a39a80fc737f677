"""`spikeship export`."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from .options import DataRoot, Seed, _load_array
from .screen import Output, fail, say

if TYPE_CHECKING:
    import nir

    from ...hw_targets.network.recipe import Recipe


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
        typer.Option(
            help="Or the data set to calibrate on. Default: a checkpoint's own, or digits."
        ),
    ] = None,
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2", "poisson", "signed_poisson", "phase"],
        typer.Option(help="Coding of --data."),
    ] = "direct",
    sigma: Annotated[float, typer.Option(help="Noise of rsc1 and rsc2, in pixel units.")] = 0.0,
    steps: Annotated[int, typer.Option(help="Time steps per sample of --data.", min=1)] = 8,
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
    from ...models.data.load import load
    from ...models.encoding import Encoding
    from ..deploy.export import (
        calibration_messages,
        export_graph,
        export_slayer,
        file_digest,
        import_norse,
        recipe_for,
        recipe_of,
    )
    from ..frontends.load import Given, is_slayer, load_source
    from ..quantize import Quantized, mixed_precision, quantize
    from ..twin import Tuning, finetune
    from .tables import loss_tables, network_table

    given = Given(dt, reset, reset_delay)
    network, settings = load_source(source, checkpoint, given)
    slayer = is_slayer(network)
    if settings is not None and (data or input_):
        fail(f"{source} knows the data it was trained on: leave out --data and --input.")
    if data and input_:
        fail("--data and --input exclude each other.")
    budgets = size_budget is not None, max_loss is not None
    if sum((bits != "8", *budgets)) > 1:
        fail("--bits, --size-budget and --max-loss exclude each other.")
    if slayer and (bits != "8" or any(budgets) or fine_tune or per_channel):
        fail("a SLAYER network is integers already: it cannot be quantized to other bits.")
    notes = {"model": source if settings is None else settings.model}
    weights = checkpoint if settings is None else Path(source)
    if weights is not None:
        notes |= {"checkpoint": weights.name, "checkpoint_sha256": file_digest(weights)}
    dataset, messages, recipe = None, None, None
    if input_ is not None:
        messages = _load_array(input_)
        recipe = recipe_of(messages, levels or 1, notes)
    elif settings is not None or data or not slayer:
        name = (data or "digits") if settings is None else settings.dataset
        dataset = load(name, data_root, steps if settings is None else settings.steps)
        if settings is not None:
            encoding = settings.encoding
        elif dataset.event_steps:
            encoding = Encoding("events", dataset.event_steps, 1, 0.0, 0)
        else:
            encoding = Encoding.of(coding, steps, levels or 16, sigma)
        messages = calibration_messages(encoding, dataset.train.images[:calibration], seed)
        recipe = recipe_for(encoding, seed, {**notes, "dataset": dataset.name})
    if fine_tune and dataset is None:
        fail("--fine-tune needs labels: give --data instead of --input.")

    def quantizer(graph: nir.NIRGraph, messages: Any, recipe: Recipe) -> Quantized:
        options: dict[str, Any] = {
            "per_channel": per_channel,
            "approximate_current_bias": approximate_current_bias,
            "approximate_reset": approximate_reset,
            "progress": lambda name: say(f"quantizing {name}"),
        }
        if any(budgets):
            options |= {"size": size_budget, "loss": max_loss}
            mixed = mixed_precision(graph, messages, recipe, **options)
            found = mixed.quantized
            say(f"bits {mixed.bits}, {mixed.size:,.0f} bytes, loss {mixed.loss:.2%}")
        else:
            each = _numbers(bits, "--bits")
            found = quantize(graph, messages, recipe, bits=each, **options)
        if not fine_tune:
            return found
        assert dataset is not None
        tuned = finetune(
            found,
            dataset,
            Tuning(epochs=fine_tune, seed=seed),
            graph=graph,
            folder=out.with_suffix(".tuning"),
            progress=say,
        )
        return replace(found, network=tuned.network, real=tuned.real)

    if slayer:
        shape = None if messages is None else messages.shape[2:]
        if input_shape is not None:
            sizes = _numbers(input_shape, "--input-shape")
            shape = (sizes,) if isinstance(sizes, int) else tuple(sizes)
        exported = export_slayer(network, out, recipe, shape, target=target)
    else:
        assert messages is not None
        assert recipe is not None
        graph = import_norse(network, messages.shape[2:], messages / recipe.levels)
        exported = export_graph(graph, messages, recipe, out, quantizer=quantizer, target=target)
    result = exported.quantized.network
    tables: list[Any] = [network_table(result)]
    if exported.quantized.losses:
        tables += loss_tables(exported.quantized.losses)
    beside = "" if exported.graph_path is None else f" and {exported.graph_path}"
    return Output(
        {
            "net": exported.path,
            "graph": exported.graph_path,
            "digest": result.digest,
            "layers": exported.quantized.losses,
        },
        *tables,
        f"wrote {exported.path}{beside}",
    )


def _numbers(text: str, option: str) -> int | list[int]:
    """`8` as one number, `8,4,4` as several."""
    try:
        numbers = [int(part) for part in text.split(",")]
    except ValueError:
        fail(f"{option} {text}: give whole numbers, separated by commas.")
    return numbers[0] if len(numbers) == 1 else numbers
