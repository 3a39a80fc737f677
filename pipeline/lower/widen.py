"""Rewritings that are exact in real numbers and cost neurons: what integers then gain is worth it.

Both take a graph that `lower` can bring to dense layers and return such a graph; the first neurons of
every layer are those of the original, spike for spike.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ..graph import PARAMETERS, LoweringError, Node, Stage, chain_graph, stages
from .passes import lower

Array: TypeAlias = NDArray[Any]


@dataclass(frozen=True)
class _Dense:
    """One layer: weights (out, in), biases (out,), recurrent weights, one row of parameters each."""

    weight: Array
    bias: Array
    recurrent: Array | None
    neuron: dict[str, Array]


def bias_channel(graph: nir.NIRGraph) -> nir.NIRGraph:
    """The network with every bias as weights from one more input, which must always be 1.

    netx adds biases to v. A bias that charges a synaptic current (CubaLIF, `quantize` refuses it) is
    exact this way: its current then rises from step 1 as in the float network. Each hidden layer gets
    one more neuron, its last, that fires in every step for the layers after it. Feed frames with a
    channel of ones appended: `np.concatenate([x, np.ones_like(x[..., :1])], axis=-1)`.
    """

    def rewrite(layer: _Dense, last: bool, dt: float) -> _Dense:
        weight = np.hstack([layer.weight, layer.bias[:, None]])
        bias = np.zeros(len(weight))
        if last:
            return _Dense(weight, bias, layer.recurrent, layer.neuron)
        neuron = {name: np.append(value, value[-1]) for name, value in layer.neuron.items()}
        always = np.zeros(weight.shape[1])
        always[-1] = _sure_to_fire({n: float(v[-1]) for n, v in neuron.items()}, dt)
        recurrent = None if layer.recurrent is None else np.pad(layer.recurrent, ((0, 1), (0, 1)))
        return _Dense(np.vstack([weight, always]), np.append(bias, 0), recurrent, neuron)

    return _rewritten(graph, rewrite, lambda inputs: inputs + 1)


def copies(graph: nir.NIRGraph, count: int) -> nir.NIRGraph:
    """The network with every input and hidden neuron `count` times, and weights of 1 / count.

    A weight is then the sum of `count` integers, which need not be equal: rounding that compensates
    errors by one another (`quantize`, method "search") lets them add up to the finer value. It helps
    where few large weights leave the others a handful of the values that 8 bits have. Copies of a
    neuron have the same inputs in real numbers, so they spike together, and as integers nearly
    so. Feed `np.tile(x, count)` along the last axis. Raises LoweringError where a layer is not dense,
    ValueError for a `count` below 1.
    """
    if count < 1:
        raise ValueError(f"count = {count}; give 1 or more.")

    def rewrite(layer: _Dense, last: bool, dt: float) -> _Dense:
        weight = np.tile(layer.weight / count, (1, count))
        times = 1 if last else count
        recurrent = layer.recurrent
        if recurrent is not None:
            recurrent = np.tile(recurrent / times, (times, times))
        neuron = {name: np.tile(value, times) for name, value in layer.neuron.items()}
        return _Dense(np.tile(weight, (times, 1)), np.tile(layer.bias, times), recurrent, neuron)

    return _rewritten(graph, rewrite, lambda inputs: inputs * count)


def _rewritten(
    graph: nir.NIRGraph,
    rewrite: Callable[[_Dense, bool, float], _Dense],
    inputs: Callable[[int], int],
) -> nir.NIRGraph:
    lowered = lower(graph)
    layers = stages(lowered)
    dt = float(lowered.metadata["dt"])
    nodes: list[Node] = []
    loops: dict[str, list[Node]] = {}
    for stage in layers:
        kind = type(stage.neuron)
        layer = rewrite(_dense(stage), stage is layers[-1], dt)
        neuron = kind(**layer.neuron)
        neuron.metadata = dict(stage.neuron.metadata)
        nodes.append((f"{stage.name}:weights", nir.Affine(layer.weight, layer.bias)))
        nodes.append((stage.name, neuron))
        if layer.recurrent is not None:
            loops[stage.name] = [(f"{stage.name}:recurrent", nir.Linear(layer.recurrent))]
    size = inputs(layers[0].synapse.weight.shape[1])
    return chain_graph(nodes, (size,), lowered.metadata, loops)


def _dense(stage: Stage) -> _Dense:
    if not isinstance(stage.synapse, nir.Affine) or stage.flatten or stage.delay is not None:
        raise LoweringError(
            f"{stage.name}: only dense layers without Flatten or delays can be widened."
        )
    bias, recurrent = np.asarray(stage.synapse.bias, float), None
    if stage.recurrent is not None:
        recurrent = np.asarray(stage.recurrent.weight, float)
        bias = bias + stage.recurrent.bias
    kind = type(stage.neuron)
    neuron = {name: np.asarray(getattr(stage.neuron, name)) for name in PARAMETERS[kind]}
    return _Dense(np.asarray(stage.synapse.weight, float), bias, recurrent, neuron)


def _sure_to_fire(p: dict[str, float], dt: float) -> float:
    """A weight that lifts v over the threshold in every step, from wherever a reset left it."""
    tau = p.get("tau_mem", p.get("tau"))
    gain = dt * p["r"] / (tau if tau is not None else 1.0)
    if "tau_syn" in p:
        gain *= dt / p["tau_syn"] * p["w_in"]
    low = min(p["v_reset"], p.get("v_leak", p["v_reset"]))
    return 2 * (p["v_threshold"] - low) / gain
