"""Networks of snnTorch and SpikingJelly to NIR graphs, and the proof that they are the same."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import nir
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..float.execute import execute
from ..graph import NEURONS, READOUTS, Node, chain, chain_graph
from .norse_modules import CONVERSIONS, Shape, UnsupportedModuleError
from .place import Place
from .spiking_trace import CLOSE, STEPS, Framework, Run, random_frames, trace

PROOF_SAMPLES = 16
"""Real inputs on which the proof of an import is repeated."""
LAYERS = {kind: make for kind, make in CONVERSIONS.items() if kind.__module__.startswith("torch.")}
"""Modules of torch itself, as `from_norse` converts them."""


def convert(
    framework: Framework,
    model: nn.Module,
    input_shape: Sequence[int] | None,
    frames: NDArray[Any] | None = None,
) -> nir.NIRGraph:
    """The NIR graph of a chain of torch layers and a framework's neurons, in evaluation mode.

    The model runs, and the order in which its own `forward` calls its layers is the chain; ways of
    calling it: `CONVENTIONS`. What is returned is proven: model and graph run in float64 on random
    frames, and on the first of `frames` (sample, time, *input shape), and every spike of every layer is
    compared with `==`, voltages of readouts up to `CLOSE` of the largest. In float32 the two can differ
    where a voltage is within rounding of its threshold. Raises UnsupportedModuleError with all reasons.
    """
    if input_shape is None:
        raise UnsupportedModuleError(
            "the shape of its input is not known. Give input_shape, (C, H, W), (C, L) or (N,)."
        )
    shape = tuple(int(n) for n in input_shape)
    run = trace(
        model, random_frames(shape, STEPS if frames is None else frames.shape[1]), framework
    )
    graph = _graph(run, shape, framework)
    _prove(graph, run, framework)
    if frames is not None:
        _prove(graph, _real(framework, model, frames[:PROOF_SAMPLES]), framework)
    return graph


def answers(
    framework: Framework, model: nn.Module, frames: NDArray[Any]
) -> list[NDArray[np.float64]]:
    """What every layer of neurons gives when the model's own forward runs on `frames`, in float64.

    `frames`: (sample, time, *input shape); spikes 0 and 1, and a readout's voltages, are
    (sample, time, *layer shape).
    """
    run = _real(framework, model, frames)
    outputs = _outputs_of(run)
    return [outputs(p).transpose(0, 1).numpy() for p in _answering(run, framework)]


def _real(framework: Framework, model: nn.Module, frames: NDArray[Any]) -> Run:
    inputs = torch.as_tensor(np.asarray(frames), dtype=torch.float64).transpose(0, 1)
    return trace(model, inputs, framework, real=True)


def _answering(run: Run, framework: Framework) -> list[Place]:
    """The places that are layers of neurons in the graph: neurons, and maxima of spikes."""
    return [
        place
        for place in run.places
        if framework.is_neuron(place.module)
        or issubclass(framework.layer(place.module), nn.MaxPool2d)
    ]


def _outputs_of(run: Run) -> Callable[[Place], torch.Tensor]:
    """What a place gives: its spikes, or a readout's voltage, (time, sample, *shape)."""

    def outputs(place: Place) -> torch.Tensor:
        if run.readout and place is run.places[-1]:
            assert place.voltage is not None
            return place.voltage
        return (place.outputs != 0).double()  # graded spikes are spikes and a factor

    return outputs


def _graph(run: Run, input_shape: Shape, framework: Framework) -> nir.NIRGraph:
    """The graph of the layers; UnsupportedModuleError with all problems."""
    problems: list[str] = []
    nodes: list[Node] = []
    loops: dict[str, list[Node]] = {}
    shape, spikes = input_shape, False
    for place in run.places:
        kind = framework.layer(place.module)
        loop = None
        if place.flatten:
            shape = tuple(place.inputs.shape[2:])
            flat = nir.Flatten(
                {"input": np.array(_shape(nodes, input_shape))}, start_dim=0, end_dim=-1
            )
            nodes.append((f"{place.name}.flatten", flat))
        try:
            if framework.is_neuron(place.module):
                last = run.readout and place is run.places[-1]
                neuron = framework.neuron(place.module, shape, last)
                made, loop, spikes = neuron.nodes, neuron.loop, True
            elif kind in LAYERS:
                if kind is nn.MaxPool2d and not spikes:
                    raise UnsupportedModuleError(
                        "a maximum is exact only of spikes. Put it right behind spiking neurons, or "
                        "train with AvgPool2d."
                    )
                made = LAYERS[kind](place.module, shape)
                spikes = spikes and (not made or isinstance(made[-1], nir.Flatten | nir.Threshold))
            else:
                raise UnsupportedModuleError(
                    f"is not supported (supported are {framework.name}'s neurons and "
                    f"{', '.join(sorted(kind.__name__ for kind in LAYERS))})."
                )
        except UnsupportedModuleError as error:
            problems.append(f"module {place.name} ({type(place.module).__name__}): {error}")
            made = ()
        nodes += [(f"{place.name}:{type(node).__name__.lower()}", node) for node in made]
        if loop is not None:
            name = next(n for n, node in reversed(nodes) if isinstance(node, NEURONS))
            loops[name] = [(f"{place.name}:recurrent", loop)]
        shape = tuple(place.outputs.shape[2:])
        if made and not problems and shape != _shape(nodes, input_shape):
            problems.append(
                f"module {place.name} ({type(place.module).__name__}) makes {shape}, not "
                f"{_shape(nodes, input_shape)}: it is not applied to whole samples."
            )
    if not problems and isinstance(nodes[-1][1], nir.Scale):
        problems.append(
            f"module {run.places[-1].name}: the last layer's spikes are graded, which changes no answer. "
            f"Set graded_spikes_factor = 1 there."
        )
    if problems:
        lines = "\n".join(f"  - {problem}" for problem in problems)
        raise UnsupportedModuleError(f"the model has no exact image:\n{lines}")
    metadata = {"dt": framework.dt, "framework": f"{framework.name} {framework.version()}"}
    return chain_graph(nodes, input_shape, metadata, loops)


def _shape(nodes: Sequence[Node], input_shape: Shape) -> Shape:
    """What the last node gives."""
    return tuple(int(n) for n in nodes[-1][1].output_type["output"]) if nodes else input_shape


def _prove(graph: nir.NIRGraph, run: Run, framework: Framework) -> None:
    """Compare every layer of neurons; UnsupportedModuleError names the first that differs."""
    ours = execute(graph, run.frames.transpose(0, 1))
    nodes = dict(chain(graph))
    outputs = _outputs_of(run)
    for index, (name, place) in enumerate(zip(ours.names, _answering(run, framework), strict=True)):
        theirs = outputs(place).transpose(0, 1).numpy()
        if isinstance(nodes[name], READOUTS):
            off = np.abs(ours.voltage[index] - theirs).max() / max(1.0, np.abs(theirs).max())
            if off <= CLOSE:
                continue
            what = f"voltages by {off:.3g} of their largest"
        else:
            different = np.moveaxis(ours.spikes[index] != theirs, 1, 0)
            if not different.any():
                continue
            first = np.argwhere(different)[0][0]
            what = (
                f"{np.count_nonzero(different)} of {different.size} spikes, first in step {first}"
            )
        raise UnsupportedModuleError(
            f"module {place.name} ({type(place.module).__name__}) does something else in the graph than "
            f"in the model's own forward: {what}. Its state is changed between steps, or its equation is "
            f"not the one that {framework.name} states."
        )
