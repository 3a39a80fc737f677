"""From a trained network to `Deployed`: import, lower, quantize."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias, TypeGuard

import nir
import numpy as np
from numpy.typing import NDArray
from torch import nn

from ...hw_targets.files import file_digest
from ...hw_targets.network.coding import Coding
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NetworkError
from ...hw_targets.network.recipe import Recipe
from ...models.data.dataset import Dataset
from ...models.data.grid import CodingChoice, Grid, grid, has_own_grid
from ...models.data.load import load
from ...models.settings import Settings
from ..float.neuron import euler
from ..frontends import FRONTENDS, Frontend, from_netx, frontend_of
from ..frontends.load import Given, load_source
from ..graph import READOUTS, LoweringError, stages
from ..lower import lower
from ..quantize import Quantized, mixed_precision, quantize
from ..twin import Tuning, finetune
from .calibration import calibration_messages
from .converted import coding_in, graph_of
from .deployed import Deployed

if TYPE_CHECKING:  # they need Norse and Lightning, which a NIR file does not
    from ...models.ann_conversion import Converted
    from ...models.training import Classifier

Quantizer: TypeAlias = Callable[[nir.NIRGraph, NDArray[np.int32], Recipe], Quantized]
Say: TypeAlias = Callable[[str], None]
NOTHING = Given()


def _silent(_: str) -> None:
    pass


def deploy(
    model: str | Path | Classifier | Converted | nn.Module | nir.NIRGraph,
    data: Dataset | Any = None,
    *,
    inputs: NDArray[Any] | None = None,
    coding: Coding | CodingChoice | None = None,
    levels: int | None = None,
    bits: int | Sequence[int] | None = None,
    size_budget: int | None = None,
    max_loss: float | None = None,
    per_channel: bool = False,
    fine_tune: int = 0,
    calibration: int = 128,
    input_shape: Sequence[int] | None = None,
    checkpoint: str | Path | None = None,
    given: Given = NOTHING,
    approximate_current_bias: bool = False,
    approximate_reset: bool = False,
    data_root: str | Path | None = None,
    folder: str | Path | None = None,
    seed: int = 0,
    progress: Say = _silent,
    frontends: Sequence[Frontend] = FRONTENDS,
    device: str = "cpu",
) -> Deployed:
    """Choose the integers of a trained network on data.

    `model`: what `train` or `convert` of spikeship gives, a Norse or SLAYER network, a NIR graph, or the
    name of one of these: a checkpoint, a `.nir` file, `module:function` (then `checkpoint` is a torch
    state dict to load into it, and `given` what a NIR graph does not say of itself).

    The data: either `data`, whatever `models.data.load.load` takes, of which the first `calibration`
    training samples are encoded by `coding` (default: the coding that the network was trained or
    converted with, or what suits the data, see `CodingChoice.of`); or `inputs`, integers or bools
    (sample, time, *input shape) with `levels` per 1.0 of the network's own input (default 1). A SLAYER
    network is integers already: it needs data only for its recipe, and else `input_shape`.

    `bits`: of the weights, 2 to 8, one number or one per layer (default 8); or instead `size_budget`,
    bytes of all weights, or `max_loss`, the fraction of answers that may change, which choose the bits of
    each layer (see `mixed_precision`). `per_channel`: a scale and threshold per neuron or channel.
    `fine_tune`: epochs of training the integers themselves on `data` (see `finetune`), kept in `folder`
    so that an interrupted run goes on. `approximate_current_bias`, `approximate_reset`: see `quantize`.
    `seed`: of the calibration noise, of tuning, and of the draws of an evaluation. `frontends`: what
    understands `model`. `device`: where `fine_tune` trains, cpu, cuda, cuda:1, ...

    Raises ValueError where these contradict each other, and what the frontends, `quantize` and the
    data sets raise.
    """
    if _is_converted(model):
        model = graph_of(model, _shape(data, inputs, data_root))
    network, settings, notes = _source(model, checkpoint, given, frontends)
    frontend = frontend_of(network, frontends)
    if input_shape is not None and not frontend.integers:
        raise ValueError(
            "input_shape is for SLAYER networks without data: leave it out, the data have a shape."
        )
    _check_options(
        frontend.integers, data, inputs, fine_tune, per_channel, bits, size_budget, max_loss
    )
    messages, recipe, dataset, rounded = None, None, None, None
    if inputs is not None:
        if settings is not None:
            raise ValueError("this network knows its data and coding: leave out inputs.")
        messages = np.asarray(inputs)
        recipe = Recipe.of(Coding.given(messages, levels or 1), provenance=notes)
        messages = messages.view(np.int8) if messages.dtype.kind == "b" else messages
    elif settings is not None or data is not None or not frontend.integers:
        known = coding_in(network)
        dataset = _dataset(data, settings, coding or known, data_root)
        code = _coding(_converted_for(known, coding, dataset), settings, dataset)
        if has_own_grid(dataset):
            rounded = grid(dataset, code.grid)
        messages = calibration_messages(code, dataset.train.images[:calibration], seed)
        notes |= {"dataset": dataset.name} | _data_notes(dataset) | _grid_notes(rounded)
        recipe = Recipe.of(code, seed, notes)
    if frontend.integers:
        shape = None if messages is None else messages.shape[2:]
        shape = shape if input_shape is None else tuple(input_shape)
        integers = deploy_integers(frontend.convert(network, shape, None), recipe)
        return replace(integers, grid=rounded, data=dataset)
    assert messages is not None
    assert recipe is not None
    quantizer = _Quantizer(
        bits=8 if bits is None else bits,
        size_budget=size_budget,
        max_loss=max_loss,
        tune_on=dataset if fine_tune else None,
        tuning=Tuning(epochs=fine_tune, seed=seed) if fine_tune else None,
        folder=folder,
        progress=progress,
        device=device,
        options={
            "per_channel": per_channel,
            "approximate_current_bias": approximate_current_bias,
            "approximate_reset": approximate_reset,
        },
    )
    graph = network
    if not isinstance(network, nir.NIRGraph):
        graph = frontend.convert(network, messages.shape[2:], messages / recipe.coding.levels)
    deployed = deploy_graph(graph, messages, recipe, quantizer=quantizer)
    return replace(deployed, grid=rounded, data=dataset)


def deploy_graph(
    graph: nir.NIRGraph,
    messages: NDArray[np.int32],
    recipe: Recipe,
    *,
    quantizer: Quantizer = quantize,
) -> Deployed:
    """Quantize a NIR graph on integer inputs (sample, time, *input shape).

    `quantizer`: for instance `functools.partial(quantize, bits=4)`, or one that fine-tunes
    afterwards. How the answer is decoded, and from which framework the graph came, is added to `recipe`.
    """
    readout = stages(lower(graph, approximate_reset=True))[-1].neuron
    notes = {"source": str(graph.metadata.get("framework", "NIR")), **recipe.provenance}
    voltage = isinstance(readout, READOUTS)
    decode: Literal["mean voltage", "spike count"] = "mean voltage" if voltage else "spike count"
    quantized = quantizer(graph, messages, replace(recipe, decode=decode, provenance=notes))
    return Deployed(with_answers(quantized, graph).network, graph, quantized.losses)


def with_answers(quantized: Quantized, graph: nir.NIRGraph) -> Quantized:
    """A quantized network whose recipe says in which unit its answers are.

    Voltages of classes are compared with one another: their unit is that of the current. Those that are
    values, of regression and of one output, are the float network's own: v = gain * current / leak.
    Raises ValueError where such voltages rest at another value than 0.
    """
    network, unit = quantized.network, quantized.losses[-1].unit
    assert network.recipe is not None
    values = (
        network.recipe.provenance.get("task") == "regression" or network.populations[-1].size == 1
    )
    stage = stages(lower(graph, approximate_reset=True))[-1]
    if values and isinstance(stage.neuron, READOUTS):
        step = euler(stage.name, stage.neuron, float(graph.metadata["dt"]))
        if np.any(step.rest != 0):
            raise ValueError(
                f"{stage.name}: v_leak = {np.max(np.abs(step.rest)):g}; answers that are values need a "
                f"readout that rests at 0."
            )
        unit /= float(step.gain.flat[0])
    recipe = replace(network.recipe, output_unit=unit)
    return replace(quantized, network=Network(network.layers, recipe))


def deploy_integers(integers: Network, recipe: Recipe | None = None) -> Deployed:
    """The integers that a network was trained with, such as SLAYER's; nothing is chosen.

    Beside them, where NIR can hold it, the network in real numbers (see `from_netx`). Without `recipe` it
    is what lava-dl writes, to be run on inputs of one's own.
    """
    network = Network(integers.layers, recipe)
    graph: nir.NIRGraph | None = None
    with suppress(NetworkError, LoweringError):
        graph = from_netx(network)
        lower(graph)
    return Deployed(network, graph)


@dataclass(frozen=True)
class _Quantizer:
    """`quantize` or `mixed_precision`, then perhaps `finetune`, as `deploy` was asked for."""

    bits: int | Sequence[int]
    size_budget: int | None
    max_loss: float | None
    tune_on: Dataset | None
    tuning: Tuning | None
    folder: str | Path | None
    progress: Say
    device: str
    options: dict[str, Any]

    def __call__(
        self, graph: nir.NIRGraph, messages: NDArray[np.int32], recipe: Recipe
    ) -> Quantized:
        quantized = self._rounded(graph, messages, recipe)
        if self.tuning is None:
            return quantized
        assert self.tune_on is not None
        tuned = finetune(
            with_answers(quantized, graph) if self.tune_on.regression else quantized,
            self.tune_on,
            self.tuning,
            graph=graph,
            folder=self.folder,
            progress=self.progress,
            device=self.device,
        )
        return replace(quantized, network=tuned.network, real=tuned.real)

    def _rounded(
        self, graph: nir.NIRGraph, messages: NDArray[np.int32], recipe: Recipe
    ) -> Quantized:
        options = {**self.options, "progress": lambda name: self.progress(f"quantizing {name}")}
        if self.size_budget is None and self.max_loss is None:
            return quantize(graph, messages, recipe, bits=self.bits, **options)
        mixed = mixed_precision(
            graph, messages, recipe, size=self.size_budget, loss=self.max_loss, **options
        )
        self.progress(f"bits {mixed.bits}, {mixed.size:,.0f} bytes, loss {mixed.loss:.2%}")
        return mixed.quantized


def _is_converted(model: Any) -> TypeGuard[Converted]:
    return "spikeship.models.ann_conversion.Converted" in _names(model)


def _is_trained(model: Any) -> TypeGuard[Classifier]:
    return "spikeship.models.training.Classifier" in _names(model)


def _names(model: Any) -> list[str]:
    """The classes that an object is of, which need not be imported to know."""
    return [f"{c.__module__}.{c.__name__}" for c in type(model).__mro__]


def _source(
    model: Any, checkpoint: str | Path | None, given: Given, frontends: Sequence[Frontend]
) -> tuple[Any, Settings | None, dict[str, str]]:
    """The network, its settings if `train` made it, and what is noted of where it comes from."""
    weights = checkpoint
    if isinstance(model, str | Path):
        network, settings = load_source(str(model), checkpoint, given, frontends)
        notes = {"model": str(model) if settings is None else settings.model}
        weights = checkpoint if settings is None else model
    elif _is_trained(model):
        network, settings, notes = model.net, model.settings, {"model": model.settings.model}
        if not settings.spiking:
            raise ValueError("this is an ANN twin; deploy a spiking network, or convert it first.")
    else:
        network = given.read(model) if isinstance(model, nir.NIRGraph) else model
        settings, notes = None, {"model": type(model).__name__}
    if weights is not None:
        notes |= {"checkpoint": Path(weights).name, "checkpoint_sha256": file_digest(weights)}
    return network, settings, notes


def _converted_for(
    known: Coding | None, coding: Coding | CodingChoice | None, data: Dataset
) -> Coding | CodingChoice | None:
    """The coding that was asked for, or `known`, for which the thresholds of a converted ANN are made."""
    if known is None or coding in (None, CodingChoice()):
        return known or coding
    if (coding.of(data) if isinstance(coding, CodingChoice) else coding) != known:
        raise ValueError(
            f"this network was converted for the coding {known.name} in {known.steps} steps and "
            f"{known.grid} grey levels: leave out coding, or convert it again."
        )
    return known


def _shape(
    data: Dataset | str | None, inputs: Any, data_root: str | Path | None
) -> tuple[int, ...]:
    """Shape of one step of the input."""
    if inputs is not None:
        return np.shape(inputs)[2:]
    return _dataset(data, None, None, data_root).shape


def _check_options(
    integers: bool,
    data: object,
    inputs: object,
    fine_tune: int,
    per_channel: bool,
    bits: object,
    size_budget: object,
    max_loss: object,
) -> None:
    if data is not None and inputs is not None:
        raise ValueError("data and inputs exclude each other.")
    choices = sum(choice is not None for choice in (bits, size_budget, max_loss))
    if choices > 1:
        raise ValueError("bits, size_budget and max_loss exclude each other.")
    if integers and (choices or fine_tune or per_channel):
        raise ValueError(
            "a SLAYER network is integers already: it cannot be quantized to other bits."
        )
    if fine_tune and inputs is not None:
        raise ValueError("fine_tune needs labels: give data instead of inputs.")


def _data_notes(data: Dataset) -> dict[str, str]:
    """What is noted of one's own data besides their name: by which they are known again, and the task."""
    notes = {"dataset_sha256": data.digest} if data.digest else {}
    return notes | ({"task": "regression"} if data.regression else {})


def _grid_notes(rounded: Grid | None) -> dict[str, str]:
    return {} if rounded is None else {"input_grid": rounded.text}


def _dataset(
    data: Any,
    settings: Settings | None,
    coding: Coding | CodingChoice | None,
    data_root: str | Path | None,
) -> Dataset:
    """The data set to calibrate on: the one given, or the network's own."""
    if settings is None:
        if data is None:
            raise ValueError(
                "integers are chosen on data: give --data or --input (in Python data or inputs)."
            )
        return load(data, data_root, (None if coding is None else coding.steps) or 8)
    from ...models.training import data_of

    return data_of(settings, data, data_root)


def _coding(
    coding: Coding | CodingChoice | None, settings: Settings | None, dataset: Dataset
) -> Coding:
    """The coding that calibration inputs, and all inputs later, get."""
    if settings is not None:
        said = coding not in (None, CodingChoice(), settings.coding)
        if said:
            raise ValueError(
                f"this network was trained with the coding {settings.coding.name}: leave out coding, "
                f"steps, levels and sigma."
            )
        return settings.coding
    if isinstance(coding, Coding):
        if dataset.steps is None:
            return coding
        coding = CodingChoice(coding.name, coding.steps, coding.grid, coding.sigma)
    return (coding or CodingChoice()).of(dataset)
