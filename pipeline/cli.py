"""The command line: `spikeship demo`, `train`, `export`, `inspect`, `simulate`, `verify`, ..."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from ..hw_targets.arithmetic import MESSAGE_BITS
from ..hw_targets.inputs import parse_record
from ..hw_targets.messages import PAYLOADS, message_problems, message_summary
from ..hw_targets.netx import read_netx, write_netx
from . import hardware_cli, records, robustness_cli
from .console import DataRoot, Json, Seed, dataset_of, errors, fail, say, show

if TYPE_CHECKING:
    import nir
    import torch

    from ..hw_targets.network import Recipe

app = typer.Typer(
    help="Trained spiking networks to lava-dl netx files, bit-accurate simulation, and numbers to trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Target = Literal["engine", "reference", "lava"]
NetArgument = Annotated[Path, typer.Argument(help="A netx file (.net).", metavar="NET.net")]
_ROBUST: Any = {"rich_help_panel": "Robust training"}


@app.command()
def demo(
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "runs/demo"
    ),
    seed: Seed = 0,
    lava_samples: Annotated[
        int, typer.Option(help="Samples checked bit for bit on Lava.", min=1)
    ] = 20,
    json_: Json = False,
) -> None:
    """Train, export, simulate, check on Lava and price a digits classifier: the whole path."""
    with errors():
        from .demo import run_demo

        result, tables = run_demo(out, seed, lava_samples, say=say)
        show(json_, {**result, **records.environment()}, *tables)
        if not result["ok"]:
            fail("the simulator and Lava disagree; see the table.")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("runs/train"),
    data: Annotated[
        str, typer.Option(help="digits, mnist, fashion_mnist, cifar10 or nmnist.")
    ] = "digits",
    model: Annotated[str, typer.Option(help="mlp, cnn or vgg.")] = "mlp",
    framework: Annotated[
        Literal["norse", "slayer"],
        typer.Option(help="What the network is made of and trained with."),
    ] = "norse",
    ann: Annotated[bool, typer.Option("--ann", help="Train the ANN twin instead.")] = False,
    readout: Annotated[
        Literal["spikes", "voltage"], typer.Option(help="What the answer is read from.")
    ] = "spikes",
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2", "poisson", "signed_poisson", "phase"] | None,
        typer.Option(help="Input coding. Default: rsc1; events (nmnist) need none."),
    ] = None,
    sigma: Annotated[float, typer.Option(help="Noise of rsc1 and rsc2, in pixel units.")] = 0.1,
    steps: Annotated[
        int | None,
        typer.Option(help="Time steps per sample. Default: 8; of events (nmnist) 30.", min=1),
    ] = None,
    levels: Annotated[int, typer.Option(help="Input grid: grey levels per 1.0.", min=1)] = 16,
    offsets: Annotated[int, typer.Option(help="phase: thresholds per pixel over the steps.")] = 1,
    leak: Annotated[
        float,
        typer.Option(help="What neurons keep of their voltage per step; 1: integrate-and-fire."),
    ] = 0.5,
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option()] = 1e-2,
    start: Annotated[
        Path | None, typer.Option(help="A checkpoint of the same network to start from.")
    ] = None,
    objective: Annotated[
        Literal["ce", "at", "trades", "mart"],
        typer.Option(help="Cross-entropy; adversarial training; TRADES; MART.", **_ROBUST),
    ] = "ce",
    attack: Annotated[
        Literal["fgsm", "rfgsm", "pgd"], typer.Option(help="That these defend against.", **_ROBUST)
    ] = "pgd",
    epsilon: Annotated[
        float, typer.Option(help="Its radius, L-infinity, images in 0 to 1.", **_ROBUST)
    ] = 0.1,
    attack_steps: Annotated[int, typer.Option(help="Steps of pgd.", **_ROBUST)] = 5,
    beta: Annotated[float, typer.Option(help="Of TRADES and MART.", **_ROBUST)] = 6.0,
    sparsity: Annotated[
        float, typer.Option(help="Weight of the gradient sparsity penalty (SR).", **_ROBUST)
    ] = 0.0,
    sparsity_power: Annotated[int, typer.Option(help="1 or 2.", min=1, max=2, **_ROBUST)] = 2,
    rate_penalty: Annotated[
        float, typer.Option(help="Weight of the mean firing rate.", **_ROBUST)
    ] = 0.0,
    noise_periods: Annotated[
        int, typer.Option(help="Above 1: HIRE, crafted noise between periods.", **_ROBUST)
    ] = 1,
    teacher: Annotated[
        str, typer.Option(help="Checkpoint of an ANN to learn from (E-RSCT).", **_ROBUST)
    ] = "",
    distillation: Annotated[
        float, typer.Option(help="Weight of the teacher's answers.", **_ROBUST)
    ] = 0.0,
    presynaptic: Annotated[
        float, typer.Option(help="Weight of the teacher's currents.", **_ROBUST)
    ] = 0.0,
    seed: Seed = 0,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Train a Norse or SLAYER network, or its ANN twin; interrupted runs go on where they stopped."""
    with errors():
        from ..models import datasets, training

        dataset = datasets.load(data, data_root, steps or datasets.EVENT_STEPS)
        if dataset.event_steps and coding is not None:
            fail(f"{data} is events, which are not coded again: leave out --coding.")
        coding = coding or "rsc1"
        settings = training.Settings(
            model=model,
            framework=framework,
            spiking=not ann,
            readout=readout,
            coding=coding,
            sigma=sigma if coding in ("rsc1", "rsc2") else 0.0,
            steps=steps or 8,
            levels=levels,
            offsets=offsets,
            leak=leak,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            objective=objective,
            attack=attack,
            epsilon=epsilon,
            attack_steps=attack_steps,
            beta=beta,
            sparsity=sparsity,
            sparsity_power=1 if sparsity_power == 1 else 2,
            rate_penalty=rate_penalty,
            noise_periods=noise_periods,
            teacher=teacher,
            distillation=distillation,
            presynaptic=presynaptic,
            seed=seed,
        )
        begin = None if start is None else training.load(start)
        network, path = training.train(settings, dataset, out, start=begin, progress=not json_)
        result = {
            "checkpoint": path,
            "validation_accuracy": training.accuracy(network, dataset.validation),
            "test_accuracy": training.accuracy(network, dataset.test),
            "settings": network.settings,
            **records.environment(),
        }
        show(
            json_,
            result,
            f"validation {100 * result['validation_accuracy']:.2f} %, "
            f"test {100 * result['test_accuracy']:.2f} %",
            f"wrote {path}",
        )


@app.command()
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
    json_: Json = False,
) -> None:
    """Convert an ANN to a spiking network (Ozdenizci and Legenstein 2024), on its training images."""
    with errors():
        from ..models import conversion, datasets, networks, training
        from ..models.encoding import Encoding

        ann = training.load(checkpoint)
        dataset = datasets.load(ann.settings.dataset, data_root)
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
                settings, dataset, out, start=network, progress=not json_
            )
        accuracies = {name: training.accuracy(net, dataset.test) for name, net in found.items()}
        result = {
            "checkpoint": path,
            "test_accuracy": accuracies,
            "thresholds": [p.item() for p in networks.thresholds(found.popitem()[1].net)],
            **records.environment(),
        }
        shown = ", ".join(f"{name} {100 * value:.2f} %" for name, value in accuracies.items())
        show(json_, result, f"test accuracy: {shown}", f"wrote {path}")


@app.command()
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
    json_: Json = False,
) -> None:
    """Quantize a trained network and write it as netx.

    A SLAYER network trains with integers already: they are written as they are, without data unless
    the file shall say how to encode a data set.
    """
    with errors():
        from ..models import datasets
        from ..models.encoding import Encoding
        from . import views
        from .export import (
            calibration_messages,
            export_graph,
            export_slayer,
            file_digest,
            import_norse,
            recipe_for,
            recipe_of,
        )
        from .quantize import Quantized, mixed_precision, quantize
        from .sources import Given, is_slayer, load_source
        from .twin import Tuning, finetune

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
            dataset = datasets.load(name, data_root, steps if settings is None else settings.steps)
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
            exported = export_graph(
                graph, messages, recipe, out, quantizer=quantizer, target=target
            )
        result = exported.quantized.network
        tables: list[Any] = [views.network_table(result)]
        if exported.quantized.losses:
            tables += views.loss_tables(exported.quantized.losses)
        beside = "" if exported.graph_path is None else f" and {exported.graph_path}"
        show(
            json_,
            {
                "net": exported.path,
                "graph": exported.graph_path,
                "digest": result.digest,
                "layers": exported.quantized.losses,
                **records.environment(),
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


@app.command()
def inspect(net: NetArgument, json_: Json = False) -> None:
    """Show layers, integer ranges, recipe and digest of a netx file."""
    with errors():
        from . import views

        network = read_netx(net)
        lines = []
        if network.recipe is not None:
            parts = records.plain(network.recipe)
            provenance = parts.pop("provenance")
            given = {name: value for name, value in parts.items() if value is not None}
            lines = [
                "recipe: " + ", ".join(f"{k} = {v}" for k, v in given.items()),
                "provenance: " + ", ".join(f"{k} = {v}" for k, v in provenance.items()),
                f"recipe digest {network.recipe.digest}",
            ]
        lines.append(message_summary(network))
        result = {
            "file": net,
            "digest": network.digest,
            "input_shape": network.input_shape,
            "latency": network.latency,
            "layers": [
                {"name": p.name, "shape": p.shape, "neurons": p.size} for p in network.populations
            ],
            "recipe": network.recipe,
            "recipe_digest": network.recipe.digest if network.recipe else None,
            "target_problems": {target: message_problems(network, target) for target in PAYLOADS},
        }
        show(json_, result, views.network_table(network), *lines)


@app.command()
def lower(
    net: NetArgument,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    json_: Json = False,
) -> None:
    """Write a file with SLAYER's pool layers so that lava-dl can load it: as convolutions."""
    with errors():
        from . import views

        network = read_netx(net, lower_pooling=True)
        write_netx(network, out)
        result = {"file": net, "out": out, "digest": network.digest}
        show(json_, result, views.network_table(network), f"wrote {out}")


@app.command()
def simulate(
    net: NetArgument,
    input_: Annotated[
        Path,
        typer.Option(
            "--input",
            help="Integers in a .npy file: (sample, time, *input shape), axes C, H, W; or (sample, "
            "*input shape), constant in time (the bias mantissa of Input neurons).",
        ),
    ],
    out: Annotated[
        Path,
        typer.Option(help="Trace: spikes.{i}, u.{i}, v.{i} of layer i, (sample, time, *shape)."),
    ],
    steps: Annotated[
        int | None,
        typer.Option(help="Steps to run; longer than the input means no input at the end.", min=1),
    ] = None,
    reset_interval: Annotated[
        int | None,
        typer.Option(help="As in netx; 0: none. Default: the file's recipe, or none.", min=0),
    ] = None,
    reset_offset: Annotated[
        int | None, typer.Option(help="As in netx. Default: the file's recipe, or 0.", min=0)
    ] = None,
    message_bits: Annotated[
        int | None,
        typer.Option(
            help="As netx's input_message_bits; 0: every non-zero input is one spike. Default: the "
            "file's recipe, or inputs keep their value.",
            min=0,
            max=MESSAGE_BITS,
        ),
    ] = None,
    spike_exp: Annotated[
        int | None, typer.Option(help="As in netx, of sigma-delta neurons. Default: 6.", min=0)
    ] = None,
    record: Annotated[
        str,
        typer.Option(help="Comma-separated: counts, spikes, u, v, residue; spikes.2: of layer 2."),
    ] = "spikes",
    target: Annotated[
        Target, typer.Option(help="What computes; the results are the same, bit for bit.")
    ] = "engine",
    json_: Json = False,
) -> None:
    """Run a netx file on an input, bit for bit as Lava does."""
    with errors():
        from . import views
        from .run import check_single_spikes, run

        network = read_netx(net, spike_exp=spike_exp)
        inputs = _load_array(input_)
        wanted = tuple(part.strip() for part in record.split(","))
        parse_record(wanted, network)
        recipe = network.recipe
        if message_bits is None and recipe is not None:
            message_bits = recipe.message_bits
            if message_bits == 0:
                check_single_spikes(network, inputs)
        if reset_interval is None and recipe is not None:
            reset_interval = recipe.reset_interval
        if reset_offset is None:
            reset_offset = recipe.reset_offset if recipe is not None else 0
        if steps is None and inputs.ndim == 1 + len(network.input_shape):
            fail(f"{input_} is constant in time (shape {inputs.shape}): give --steps.")
        if (
            steps is not None
            and inputs.ndim > 1 + len(network.input_shape)
            and steps < inputs.shape[1]
        ):
            say(f"note: --steps {steps} leaves out the last {inputs.shape[1] - steps} input steps.")
        trace = run(
            network,
            inputs,
            steps,
            target=target,
            reset_interval=reset_interval or None,
            reset_offset=reset_offset,
            message_bits=message_bits,
            record=wanted,
            file=net,
        )
        trace.save(out)
        names = [p.name for p in network.populations]
        result = {
            "out": out,
            "backend": target,
            "digest": network.digest,
            "reset_interval": reset_interval or None,
            "reset_offset": reset_offset,
            "spikes": views.spike_totals(trace),
            "overflow": trace.overflow,
        }
        notes = views.overflow_lines(names, trace.overflow)
        show(json_, result, views.trace_table(network, trace), *notes, f"wrote {out}")


def _load_array(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        fail(f"{path}: not a .npy file of numbers ({error}).")
    if not isinstance(array, np.ndarray):
        array.close()
        fail(f"{path} holds several arrays: give a .npy file with one.")
    return array


def _graph_beside(net: Path, graph: Path | None) -> nir.NIRGraph | None:
    from .frontends import from_nir

    path = graph or net.with_suffix(".nir")
    if not path.is_file():
        if graph is not None:
            raise FileNotFoundError(f"{graph}: no such file.")
        say(f"no float graph {path}: comparing with Lava only.")
        return None
    return from_nir(path)


def _module(model: str | None, checkpoint: Path | None) -> torch.nn.Module | None:
    """The Norse network that `verify` is given."""
    if model is None:
        if checkpoint is not None:
            fail("--checkpoint goes with --model module:function.")
        return None
    from .sources import is_slayer, load_source

    network, _ = load_source(model, checkpoint)
    if not hasattr(network, "forward") or is_slayer(network):
        fail(f"--model {model}: only a Norse network's own forward is compared.")
    return network


@app.command()
def verify(
    net: NetArgument,
    graph: Annotated[
        Path | None, typer.Option(help="The float network as .nir. Default: beside the .net file.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    input_: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Or your own inputs: integers (sample, time, *input shape) in a .npy file.",
        ),
    ] = None,
    model: Annotated[
        str | None,
        typer.Option(
            help="The Norse network that was exported, to run its own forward too: module:function, or "
            "a checkpoint of `spikeship train`."
        ),
    ] = None,
    checkpoint: Annotated[
        Path | None, typer.Option(help="--model module:function only: a torch state dict to load.")
    ] = None,
    samples: Annotated[
        int, typer.Option(help="Test samples compared with the float network.", min=1)
    ] = 200,
    lava_samples: Annotated[
        int, typer.Option(help="Of these, samples run on Lava too; 0: none.", min=0)
    ] = 3,
    tolerance: Annotated[
        float,
        typer.Option(
            help="Fraction of a layer's spikes that may differ between float and integers.",
            min=0.0,
            max=1.0,
        ),
    ] = 0.05,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Compare float network, rounded numbers, integers, simulators, Lava and the file, layer by layer.

    With --model, your module's own forward is compared as well; without it, the float network is the
    one that `export` wrote. Each layer that differs gets its likely cause. Status 1 where spikes of
    float network and integers differ by more than the tolerance, or anything else at all.
    """
    with errors():
        from . import views
        from .run import encoded, needed_recipe
        from .verify import verify as verify_network

        network = read_netx(net)
        recipe = needed_recipe(network)
        module = _module(model, checkpoint)
        labels = None
        if input_ is not None:
            messages = _load_array(input_)[:samples]
        else:
            dataset = dataset_of(net, recipe, data, data_root)
            messages, labels = (
                np.concatenate(part)
                for part in zip(*encoded(recipe, dataset.test, samples), strict=True)
            )
        result = verify_network(
            network,
            messages,
            _graph_beside(net, graph),
            module=module,
            file=net,
            labels=labels,
            lava_samples=lava_samples,
            tolerance=tolerance,
        )
        show(
            json_,
            {"file": net, "ok": result.ok, "result": result, **records.environment()},
            *views.verification_tables(result),
            "verified" if result.ok else "NOT verified",
        )
        if not result.ok:
            raise typer.Exit(1)


@app.command()
def supported(json_: Json = False) -> None:
    """List layers, neurons and limits, from frameworks to netx, as the code itself has them."""
    with errors():
        from . import views
        from .supported import supported as supported_parts

        parts = supported_parts()
        show(
            json_,
            {"parts": parts, **records.environment()},
            *views.supported_tables(parts),
        )


@app.command()
def evaluate(
    net: NetArgument,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    limit: Annotated[int | None, typer.Option(help="Test samples. Default: all.", min=1)] = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Accuracy of the integer network on test data, and samples per second."""
    with errors():
        from . import views
        from .run import classify, needed_recipe

        network = read_netx(net)
        recipe = needed_recipe(network)
        dataset = dataset_of(net, recipe, data, data_root)
        result = classify(network, dataset.test, limit, progress=not json_)
        samples = len(result.predictions)
        rate = samples / result.seconds
        show(
            json_,
            {
                "file": net,
                "digest": network.digest,
                "data": dataset.name,
                "samples": samples,
                "steps": recipe.steps,
                "accuracy": result.accuracy,
                "samples_per_second": rate,
                "overflow": result.overflow,
                **records.environment(),
            },
            f"accuracy {views.percent(result.accuracy)} on {samples} test samples of {dataset.name}",
            f"{rate:,.0f} samples per second, {recipe.steps} steps each",
            *views.overflow_lines([p.name for p in network.populations], result.overflow),
        )


robustness_cli.add_commands(app)
hardware_cli.add_commands(app)
