"""The command line: `spikeship demo`, `train`, `export`, `inspect`, `simulate`, `verify`, ..."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal, NoReturn

import numpy as np
import typer
from rich.console import Console

from ..hw_targets.inputs import parse_record
from ..hw_targets.lava_cpu import LavaError, LavaMissingError
from ..hw_targets.netx import NetxWarning, read_netx, write_netx
from . import records

if TYPE_CHECKING:
    import nir
    from torch import nn

    from ..models.datasets import Dataset

app = typer.Typer(
    help="Trained spiking networks to lava-dl netx files, bit-accurate simulation, and numbers to trust.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)

Target = Literal["engine", "reference", "lava"]
NetArgument = Annotated[Path, typer.Argument(help="A netx file (.net).", metavar="NET.net")]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder with torchvision's MNIST/raw and FashionMNIST/raw, or with nmnist_small.tar.",
        envvar="SPIKESHIP_DATA_ROOT",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and noise.")]


class Quit(Exception):
    """A command that ends with a message and a status."""


def _fail(message: str) -> NoReturn:
    raise Quit(message)


@contextmanager
def _errors() -> Iterator[None]:
    """User errors as one message and exit status 1; interruption as 130; notes on standard error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NetxWarning)
            warnings.showwarning = _note
            yield
    except (Quit, ValueError, OSError, LavaError, LavaMissingError) as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error}", style="red", markup=False, soft_wrap=True
        )
        raise typer.Exit(1) from None
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "spikeship":
            raise
        Console(stderr=True, highlight=False).print(
            f'error: {error.name} is not installed: pip install "spikeship[train]".',
            style="red",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run the same command again to go on.")
        raise typer.Exit(130) from None


def _note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    if issubclass(category, NetxWarning):
        _say(f"note: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))


def _show(as_json: bool, result: dict[str, Any], *views: Any) -> None:
    """Print the JSON, or the views; never both on standard output."""
    if as_json:
        typer.echo(records.dumps(result))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for view in views:
        console.print(view, markup=False) if isinstance(view, str) else console.print(view)


def _say(message: str) -> None:
    """What happens, on standard error."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)


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
    with _errors():
        from .demo import run_demo

        result, tables = run_demo(out, seed, lava_samples, say=_say)
        _show(json_, {**result, **records.environment()}, *tables)
        if not result["ok"]:
            _fail("the simulator and Lava disagree; see the table.")


@app.command()
def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("runs/train"),
    data: Annotated[str, typer.Option(help="digits, mnist, fashion_mnist or nmnist.")] = "digits",
    model: Annotated[str, typer.Option(help="mlp or cnn.")] = "mlp",
    ann: Annotated[bool, typer.Option("--ann", help="Train the ANN twin instead.")] = False,
    readout: Annotated[
        Literal["spikes", "voltage"], typer.Option(help="What the answer is read from.")
    ] = "spikes",
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2"] | None,
        typer.Option(help="Input coding. Default: rsc1; events (nmnist) need none."),
    ] = None,
    sigma: Annotated[float, typer.Option(help="Noise of rsc1 and rsc2, in pixel units.")] = 0.1,
    steps: Annotated[
        int | None,
        typer.Option(help="Time steps per sample. Default: 8; of events (nmnist) 30.", min=1),
    ] = None,
    levels: Annotated[int, typer.Option(help="Input grid: integers per 1.0.", min=1)] = 16,
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option()] = 1e-2,
    seed: Seed = 0,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Train a Norse network (or its ANN twin); interrupted runs go on where they stopped."""
    with _errors():
        from ..models import datasets, training

        dataset = datasets.load(data, data_root, steps or datasets.EVENT_STEPS)
        if dataset.event_steps and coding is not None:
            _fail(f"{data} is events, which are not coded again: leave out --coding.")
        coding = coding or "rsc1"
        settings = training.Settings(
            model=model,
            spiking=not ann,
            readout=readout,
            coding=coding,
            sigma=0.0 if coding == "direct" else sigma,
            steps=steps or 8,
            levels=levels,
            epochs=epochs,
            batch=batch,
            learning_rate=learning_rate,
            seed=seed,
        )
        network, path = training.train(settings, dataset, out, progress=not json_)
        result = {
            "checkpoint": path,
            "validation_accuracy": training.accuracy(network, dataset.validation),
            "test_accuracy": training.accuracy(network, dataset.test),
            "settings": network.settings,
            **records.environment(),
        }
        _show(
            json_,
            result,
            f"validation {100 * result['validation_accuracy']:.2f} %, "
            f"test {100 * result['test_accuracy']:.2f} %",
            f"wrote {path}",
        )


@app.command()
def export(
    source: Annotated[
        str,
        typer.Argument(
            help="A checkpoint of `spikeship train`, or module:function that returns your Norse network.",
            metavar="SOURCE",
        ),
    ],
    out: Annotated[
        Path, typer.Option(help="The netx file; the float graph goes beside it as .nir.")
    ],
    weights: Annotated[
        Path | None, typer.Option(help="module:function only: a torch state dict to load.")
    ] = None,
    data: Annotated[
        str, typer.Option(help="module:function only: data set for calibration.")
    ] = "digits",
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2"], typer.Option(help="module:function only.")
    ] = "direct",
    sigma: Annotated[float, typer.Option(help="module:function only.")] = 0.0,
    steps: Annotated[int, typer.Option(help="module:function only.", min=1)] = 8,
    levels: Annotated[int, typer.Option(help="module:function only.", min=1)] = 16,
    calibration: Annotated[
        int, typer.Option(help="Training images for choosing scales.", min=1)
    ] = 128,
    approximate_current_bias: Annotated[
        bool,
        typer.Option(
            "--approximate-current-bias",
            help="Allow a bias before neurons with synaptic current, by its steady state.",
        ),
    ] = False,
    seed: Seed = 0,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Quantize a trained Norse network and write it as netx."""
    with _errors():
        from ..models import datasets, training
        from . import views
        from .export import export as export_network
        from .export import file_digest

        model: nn.Module
        if ":" in source:
            dataset = datasets.load(data, data_root, steps)
            settings = training.Settings(
                coding=coding, sigma=sigma, steps=steps, levels=levels, seed=seed
            )
            settings = training.suited(settings, dataset)
            model = _build(source, weights)
            provenance = {"model": source, "dataset": data}
        else:
            classifier = training.load(source)
            settings = classifier.settings
            model = classifier.net
            if not settings.spiking:
                _fail(f"{source} is an ANN twin; export a spiking network.")
            dataset = datasets.load(settings.dataset, data_root, settings.steps)
            provenance = {
                "model": settings.model,
                "dataset": settings.dataset,
                "checkpoint": Path(source).name,
                "checkpoint_sha256": file_digest(source),
            }
        exported = export_network(
            model,
            dataset.shape,
            settings.encoding,
            dataset.train.images[:calibration],
            out,
            seed=seed,
            provenance=provenance,
            approximate_current_bias=approximate_current_bias,
            progress=lambda name: _say(f"quantizing {name}"),
        )
        network = exported.quantized.network
        _show(
            json_,
            {
                "net": exported.path,
                "graph": exported.graph_path,
                "digest": network.digest,
                "layers": exported.quantized.losses,
                **records.environment(),
            },
            views.network_table(network),
            views.loss_table(exported.quantized.losses),
            f"wrote {exported.path} and {exported.graph_path}",
        )


def _build(source: str, weights: Path | None) -> nn.Module:
    import torch

    name, _, function = source.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        build: Callable[[], nn.Module] = getattr(module, function)
    except (ModuleNotFoundError, AttributeError) as error:
        _fail(f"{source}: {error}. Give module:function, importable from this folder.")
    finally:
        sys.path.pop(0)
    model = build()
    if weights is not None:
        if not weights.is_file():
            raise FileNotFoundError(f"{weights}: no such file.")
        model.load_state_dict(torch.load(weights, map_location="cpu", weights_only=True))
    return model


@app.command()
def inspect(net: NetArgument, json_: Json = False) -> None:
    """Show layers, integer ranges, recipe and digest of a netx file."""
    with _errors():
        from . import views

        network = read_netx(net)
        lines = []
        if network.recipe is not None:
            parts = records.plain(network.recipe)
            provenance = parts.pop("provenance")
            lines = [
                "recipe: " + ", ".join(f"{k} = {v}" for k, v in parts.items()),
                "provenance: " + ", ".join(f"{k} = {v}" for k, v in provenance.items()),
            ]
        result = {
            "file": net,
            "digest": network.digest,
            "input_shape": network.input_shape,
            "latency": network.latency,
            "layers": [
                {"name": p.name, "shape": p.shape, "neurons": p.size} for p in network.populations
            ],
            "recipe": network.recipe,
        }
        _show(json_, result, views.network_table(network), *lines)


@app.command()
def lower(
    net: NetArgument,
    out: Annotated[Path, typer.Option(help="The file to write.")],
    json_: Json = False,
) -> None:
    """Write a file with SLAYER's pool layers so that lava-dl can load it: as convolutions."""
    with _errors():
        from . import views

        network = read_netx(net, lower_pooling=True)
        write_netx(network, out)
        result = {"file": net, "out": out, "digest": network.digest}
        _show(json_, result, views.network_table(network), f"wrote {out}")


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
            max=24,
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
    with _errors():
        from . import views
        from .run import run

        network = read_netx(net, spike_exp=spike_exp)
        inputs = _load_array(input_)
        wanted = tuple(part.strip() for part in record.split(","))
        parse_record(wanted, network)
        recipe = network.recipe
        if message_bits is None and recipe is not None:
            message_bits = recipe.message_bits
        if reset_interval is None and recipe is not None:
            reset_interval = recipe.reset_interval
        if reset_offset is None:
            reset_offset = recipe.reset_offset if recipe is not None else 0
        if steps is None and inputs.ndim == 1 + len(network.input_shape):
            _fail(f"{input_} is constant in time (shape {inputs.shape}): give --steps.")
        if (
            steps is not None
            and inputs.ndim > 1 + len(network.input_shape)
            and steps < inputs.shape[1]
        ):
            _say(
                f"note: --steps {steps} leaves out the last {inputs.shape[1] - steps} input steps."
            )
        trace = run(
            network,
            inputs,
            steps,
            target=target,
            reset_interval=reset_interval or None,
            reset_offset=reset_offset,
            message_bits=message_bits,
            record=wanted,
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
        _show(json_, result, views.trace_table(network, trace), *notes, f"wrote {out}")


def _load_array(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        _fail(f"{path}: not a .npy file of numbers ({error}).")
    if not isinstance(array, np.ndarray):
        array.close()
        _fail(f"{path} holds several arrays: give a .npy file with one.")
    return array


def _graph_beside(net: Path, graph: Path | None) -> nir.NIRGraph | None:
    import nir

    path = graph or net.with_suffix(".nir")
    if not path.is_file():
        if graph is not None:
            raise FileNotFoundError(f"{graph}: no such file.")
        _say(f"no float graph {path}: comparing with Lava only.")
        return None
    return nir.read(path)


def _dataset_of(net: Path, recipe: Any, data: str | None, data_root: Path | None) -> Dataset:
    from ..models import datasets

    name = data or recipe.provenance.get("dataset")
    if name is None:
        _fail(f"{net} does not say which data set it was made for: give --data.")
    return datasets.load(name, data_root, recipe.steps)


@app.command()
def verify(
    net: NetArgument,
    graph: Annotated[
        Path | None, typer.Option(help="The float network as .nir. Default: beside the .net file.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    samples: Annotated[
        int, typer.Option(help="Test images compared with the float network.", min=1)
    ] = 200,
    lava_samples: Annotated[
        int, typer.Option(help="Of these, images run on Lava too; 0: none.", min=0)
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

    Each layer that differs gets its likely cause. Status 1 where spikes of float network and
    integers differ by more than the tolerance, or anything else at all.
    """
    with _errors():
        from . import views
        from .run import encoded, needed_recipe
        from .verify import verify as verify_network

        network = read_netx(net)
        recipe = needed_recipe(network)
        dataset = _dataset_of(net, recipe, data, data_root)
        messages, labels = (
            np.concatenate(part)
            for part in zip(*encoded(recipe, dataset.test, samples), strict=True)
        )
        result = verify_network(
            network,
            messages,
            _graph_beside(net, graph),
            labels=labels,
            lava_samples=lava_samples,
            tolerance=tolerance,
        )
        _show(
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
    with _errors():
        from . import views
        from .supported import supported as supported_parts

        parts = supported_parts()
        _show(
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
    with _errors():
        from . import views
        from .run import classify, needed_recipe

        network = read_netx(net)
        recipe = needed_recipe(network)
        dataset = _dataset_of(net, recipe, data, data_root)
        result = classify(network, dataset.test, limit, progress=not json_)
        samples = len(result.predictions)
        rate = samples / result.seconds
        _show(
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


@app.command()
def profile(
    net: NetArgument,
    ann: Annotated[
        Path | None,
        typer.Option(help="Checkpoint of the ANN twin, for its multiply-adds and accuracy."),
    ] = None,
    device: Annotated[
        list[str] | None, typer.Option(help="Energy device, by name or .toml file; repeatable.")
    ] = None,
    data: Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")] = None,
    samples: Annotated[int | None, typer.Option(help="Test images. Default: all.", min=1)] = None,
    data_root: DataRoot = None,
    json_: Json = False,
) -> None:
    """Accuracy, spikes, synaptic operations and estimated energy per inference."""
    with _errors():
        from ..models import networks, training
        from . import views
        from .profile import profile as price
        from .run import evaluate, needed_recipe

        network = read_netx(net)
        dataset = _dataset_of(net, needed_recipe(network), data, data_root)
        macs, ann_accuracy = None, None
        if ann is not None:
            twin = training.load(ann)
            if twin.settings.spiking:
                _fail(f"{ann} is a spiking network; give the checkpoint of an ANN (`train --ann`).")
            macs = networks.macs(twin.net, dataset.shape)
            ann_accuracy = training.accuracy(twin, dataset.test)
        evaluation = evaluate(network, dataset.test, samples, progress=not json_)
        result = price(network, evaluation, tuple(device or ("loihi1-davies2018",)), macs)
        names = [p.name for p in network.populations]
        lines = [f"accuracy of the integer network: {views.percent(result.accuracy)}"]
        if ann_accuracy is not None:
            lines.append(f"ANN twin: {views.percent(ann_accuracy)}, {macs:,} multiply-adds")
        _show(
            json_,
            {
                "file": net,
                "profile": result,
                "ann_accuracy": ann_accuracy,
                "overflow": evaluation.overflow,
                **records.environment(),
            },
            *lines,
            *views.profile_tables(result),
            *views.overflow_lines(names, evaluation.overflow),
        )
