"""A network as seen from four sides, aligned so that they can be compared: the user's module, its float
graph, the numbers rounded (`quantized`), its integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any

import nir
import numpy as np
from torch import nn

from ...hw_targets.arrays import Array
from ...hw_targets.network.network import Network
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.simulate.trace import Overflow, Trace
from ..deploy.run import needed_recipe, run, scores
from ..float.cell import Cell, integer_cell
from ..float.execute import execute
from ..float.run import run_cell
from ..frontends import frontend_of
from ..graph import NEURONS, READOUTS, Stage, check, input_shape, stages
from ..lower import lower

BLOCK = 32
"""Samples run at a time where real-valued states are kept."""


@dataclass(frozen=True)
class Membrane:
    """A voltage before its reset and the threshold it is compared with, in one side's own units."""

    voltage: float
    threshold: float


@dataclass(frozen=True)
class Side:
    """One run: spikes of every layer (sample, time, *layer shape), no latency between layers.

    `scores`: (sample, outputs), whose largest is the answer. `readout`: index of a layer that never
    spikes. `membrane(layer, sample, step, neuron)` looks one voltage up, None where that is unknown.
    """

    spikes: tuple[Array, ...]
    scores: Array
    readout: int | None
    membrane: Callable[[int, int, int, tuple[int, ...]], Membrane | None]


def _decoded(spikes: Array, voltage: Array, recipe: Recipe, readout: bool) -> Array:
    """Scores of the last layer, as `run.scores` reads them from integers."""
    if readout or recipe.decode != "spike count":
        flat = voltage.reshape(*voltage.shape[:2], -1)
        out: Array = flat[:, -1] if recipe.decode == "last voltage" else flat.mean(axis=1)
        return out
    counts: Array = spikes.sum(axis=1)
    return counts.reshape(len(counts), -1)


def float_layers(graph: nir.NIRGraph) -> list[Stage]:
    """The layers of a float graph as `lower` leaves them, with the resets of the graph itself."""
    graph = copy.deepcopy(check(graph))
    said = {}
    for name, node in graph.nodes.items():
        if isinstance(node, NEURONS):
            said[name] = node.metadata
            node.metadata = {k: v for k, v in said[name].items() if not k.startswith("reset")}
    layers = stages(lower(graph))
    for layer in layers:
        layer.neuron.metadata = said[layer.name]
    return layers


def float_side(
    graph: nir.NIRGraph, layers: Sequence[Stage], messages: Array, recipe: Recipe
) -> Side:
    """A float graph as `execute` runs it; `layers`: see `float.layers`."""
    readout = isinstance(layers[-1].neuron, READOUTS)
    frames = messages.reshape(*messages.shape[:2], *input_shape(graph)) / recipe.coding.levels
    shapes = [tuple(int(n) for n in layer.neuron.output_type["output"]) for layer in layers]
    blocks, answers = [], []
    for start in range(0, len(messages), BLOCK):
        trace = execute(graph, frames[start : start + BLOCK])
        blocks.append(
            [x.reshape(*x.shape[:2], *s) for x, s in zip(trace.spikes, shapes, strict=True)]
        )
        answers.append(_decoded(trace.spikes[-1], trace.voltage[-1], recipe, readout))

    def membrane(layer: int, sample: int, step: int, neuron: tuple[int, ...]) -> Membrane | None:
        threshold = getattr(layers[layer].neuron, "v_threshold", None)
        if threshold is None:
            return None
        voltage = execute(graph, frames[sample : sample + 1]).voltage[layer][0, step]
        return _membrane(voltage.reshape(shapes[layer]), threshold, neuron)

    return Side(
        tuple(np.concatenate(layer_spikes) for layer_spikes in zip(*blocks, strict=True)),
        np.concatenate(answers),
        len(layers) - 1 if readout else None,
        membrane,
    )


def module_side(
    module: nn.Module,
    graph: nir.NIRGraph,
    layers: Sequence[Stage],
    messages: Array,
    recipe: Recipe,
) -> Side:
    """A network as its own forward runs it, in float64; `graph`, `layers`: what it became.

    Raises UnsupportedModuleError where its layers cannot be followed, ValueError where they are others
    or its frontend follows no forward.
    """
    frontend = frontend_of(module)
    answers = frontend.answers
    if answers is None:
        raise ValueError(
            f"the forward of a {frontend.name} network cannot be followed layer by layer: leave out the "
            f"module, and its float graph is compared."
        )
    readout = isinstance(layers[-1].neuron, READOUTS)
    frames = messages.reshape(*messages.shape[:2], *input_shape(graph)) / recipe.coding.levels
    shapes = [tuple(int(n) for n in layer.neuron.output_type["output"]) for layer in layers]
    blocks, scored = [], []
    for start in range(0, len(messages), BLOCK):
        outputs = answers(module, frames[start : start + BLOCK])
        theirs = [y.shape[2:] for y in outputs]
        if [int(np.prod(s)) for s in theirs] != [int(np.prod(s)) for s in shapes]:
            raise ValueError(
                f"the module has layers of other shapes than its float graph: {theirs}, not {shapes}. "
                f"Give the module that this file was made from."
            )
        last = outputs[-1]
        scored.append(_decoded(last, last, recipe, readout))
        spikes = [y.astype(np.int8) for y in outputs[:-1]]
        spikes.append(np.zeros(last.shape, np.int8) if readout else last.astype(np.int8))
        blocks.append([x.reshape(*x.shape[:2], *s) for x, s in zip(spikes, shapes, strict=True)])
    return Side(
        tuple(np.concatenate(layer_spikes) for layer_spikes in zip(*blocks, strict=True)),
        np.concatenate(scored),
        len(layers) - 1 if readout else None,
        lambda *_: None,
    )


def quantized_side(network: Network, messages: Array) -> Side:
    """The rounded numbers of the integers with real-valued states: nothing truncates, wraps, clips.

    Each layer starts from 0 with the first data. Raises UnknownNeuronError.
    """
    recipe = needed_recipe(network)
    cells = [replace(integer_cell(p), grid=None, limited=False) for p in network.populations]
    messages = _binary(messages, recipe)
    blocks, answers = [], []
    for start in range(0, len(messages), BLOCK):
        layers, voltage = _run_chain(cells, messages[start : start + BLOCK])
        blocks.append(layers)
        answers.append(_decoded(layers[-1], voltage, recipe, False))

    def membrane(layer: int, sample: int, step: int, neuron: tuple[int, ...]) -> Membrane:
        _, voltage = _run_chain(cells[: layer + 1], messages[sample : sample + 1])
        return _membrane(voltage[0, step], cells[layer].threshold, neuron)

    spikes = tuple(np.concatenate(layer_spikes) for layer_spikes in zip(*blocks, strict=True))
    return Side(spikes, np.concatenate(answers), None, membrane)


def _run_chain(cells: Sequence[Cell], message: Array) -> tuple[list[Array], Array]:
    """Spikes of all layers and the voltages of the last."""
    out: list[Array] = []
    voltage: Array = np.zeros(0)
    for cell in cells:
        message, voltage = run_cell(cell, message)
        out.append(message)
    return out, voltage


@dataclass(frozen=True)
class Hardware:
    """The integers in the simulator, in the hardware's own time (`Side` has it aligned)."""

    network: Network
    messages: Array
    trace: Trace
    side: Side

    @property
    def overflow(self) -> tuple[Overflow, ...]:
        """What wrapped or was clipped in each layer, latency included."""
        return self.trace.overflow or ()

    def window(self, layer: int) -> slice:
        """The steps in which a layer answers the input."""
        latency = self.network.populations[layer].latency
        return slice(latency, latency + needed_recipe(self.network).coding.steps)

    def received(self, layer: int, samples: Any) -> Array:
        """What reached a layer's synapses in each step, (sample, time, *input shape)."""
        assert self.trace.spikes is not None
        if layer:
            before = self.trace.spikes[layer - 1][samples]
        else:
            before = _binary(self.messages[samples], needed_recipe(self.network))
        steps = needed_recipe(self.network).coding.steps + self.network.latency
        out = np.zeros((len(before), steps, *before.shape[2:]), before.dtype)
        count = min(before.shape[1], steps - 1)
        out[:, 1 : count + 1] = before[:, :count]
        return out

    def sent(self, layer: int, samples: Any) -> Array:
        """A layer's spikes in each step."""
        assert self.trace.spikes is not None
        spikes: Array = self.trace.spikes[layer][samples]
        return spikes

    def cell(self, layer: int) -> Cell:
        """A layer's equation, with the steps in which it forgets. Raises UnknownNeuronError."""
        recipe = needed_recipe(self.network)
        timing, steps = recipe.timing(), recipe.coding.steps + self.network.latency
        forget = frozenset(t for t in range(steps) if timing.forgets(layer, t + 1))
        return replace(integer_cell(self.network.populations[layer]), forget=forget)


def hardware(network: Network, messages: Array) -> Hardware:
    """Run the integers in the simulator, as the recipe says."""
    recipe = needed_recipe(network)
    record = ["spikes"] if recipe.decode == "spike count" else ["spikes", "v.-1"]
    trace = run(
        network,
        messages,
        recipe.timing(network.latency),
        record=record,
    )
    aligned = trace.aligned(network, recipe.coding.steps)
    assert aligned.spikes is not None

    def membrane(layer: int, sample: int, step: int, neuron: tuple[int, ...]) -> Membrane:
        only = slice(sample, sample + 1)
        cell = ran.cell(layer)
        _, voltage = run_cell(cell, ran.received(layer, only))
        return _membrane(voltage[0, ran.window(layer)][step], cell.threshold, neuron)

    side = Side(tuple(aligned.spikes), scores(network, aligned), None, membrane)
    ran = Hardware(network, messages, trace, side)
    return ran


def _membrane(voltage: Array, threshold: Array, neuron: tuple[int, ...]) -> Membrane:
    return Membrane(
        float(voltage[neuron]), float(np.broadcast_to(threshold, voltage.shape)[neuron])
    )


def _binary(messages: Array, recipe: Recipe) -> Array:
    """What a network with 0 message bits makes of its input."""
    return (messages != 0).astype(np.int8) if recipe.coding.message_bits == 0 else messages
