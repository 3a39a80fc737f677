"""Graph passes: from any chain of linear maps and neurons to alternating synapses and neurons.

Each pass takes and returns a chain of (name, NIR node) and is exact in real arithmetic. After
`lower` every neuron has exactly one Affine or Conv2d (and perhaps a Flatten and delays) before it:
what a netx layer is.
"""

from __future__ import annotations

import copy
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ..graph import (
    LINEAR,
    NEURONS,
    PARAMETERS,
    READOUTS,
    Chain,
    LoweringError,
    Node,
    UnknownNodeError,
    chain,
    chain_graph,
    check,
    conv2d,
    input_shape,
    recurrence,
    segments,
)
from .delays import outer_delays
from .fold import fold_linear_maps, plain_convolution
from .resets import resets_to_zero

Array: TypeAlias = NDArray[Any]
Shape: TypeAlias = tuple[int, ...]


def lower(graph: nir.NIRGraph, *, approximate_reset: bool = False) -> nir.NIRGraph:
    """A network as alternating synapses and neurons, that is as `stages`.

    The passes, in order: `rows_for_signals`, `plain_synapses`, `thresholds_as_neurons`,
    `early_flatten`, `outer_delays`, `scale_as_map`, `identity_synapses`, `fold_linear_maps`,
    `resets_to_zero`, `check_alternation`. A graph of (C, L) signals, as Conv1d has them, becomes one
    of (C, 1, L).

    `approximate_reset`: where a reset that netx does not have (by subtraction, or in the next step)
    cannot be expressed exactly, reset to v_reset in the step of the spike instead.

    Raises GraphError (see `check`) and LoweringError where a pass finds its requirement broken.
    """
    graph = check(graph)
    dt = float(graph.metadata["dt"])
    nodes, shape = chain(graph), input_shape(graph)
    loops = {name: one_affine(name, path) for name, path in recurrence(graph).items()}
    if len(shape) == 2:
        nodes, shape = rows_for_signals(nodes), (shape[0], 1, shape[1])
    nodes = plain_synapses(nodes)
    nodes = thresholds_as_neurons(nodes, dt)
    nodes = early_flatten(nodes)
    nodes = outer_delays(nodes, dt)
    nodes = scale_as_map(nodes)
    nodes = identity_synapses(nodes)
    nodes = fold_linear_maps(nodes)
    nodes, loops = resets_to_zero(nodes, loops, dt, approximate_reset)
    nodes = check_alternation(nodes)
    return chain_graph(nodes, shape, graph.metadata, {name: [loops[name]] for name in loops})


def one_affine(neuron: str, path: Chain) -> Node:
    """Recurrent maps folded to one Affine, W = Wn ... W1, b likewise.

    Raises LoweringError for neurons of more than one axis.
    """
    shape = tuple(int(n) for n in path[0][1].input_type["input"])
    if len(shape) != 1:
        raise LoweringError(
            f"neuron {neuron} of shape {shape} is recurrent; netx has recurrence only in dense "
            f"layers. Flatten before it."
        )
    weight, bias = np.eye(*shape), np.zeros(shape)
    for _, node in path:
        matrix = np.diag(node.scale) if isinstance(node, nir.Scale) else node.weight
        weight, bias = matrix @ weight, matrix @ bias + getattr(node, "bias", 0.0)
    return path[-1][0], nir.Affine(weight, bias)


def rows_for_signals(nodes: Chain) -> Chain:
    """Signals (C, L) become images (C, 1, L), up to the Flatten; needs a graph whose input is (C, L)."""
    out: Chain = []
    for name, node in nodes:
        shape = tuple(int(n) for n in node.input_type["input"])
        if len(shape) == 2 and not isinstance(node, nir.Conv1d):
            node = _reshaped(node, (shape[0], 1, shape[1]))
        out.append((name, node))
    return out


def plain_synapses(nodes: Chain) -> Chain:
    """Linear becomes Affine with bias 0, pooling a depthwise convolution of 1 / (kernel area) or 1,
    every convolution a Conv2d with padding in numbers. Exact: they are the same maps."""
    out: Chain = []
    for name, node in nodes:
        if isinstance(node, nir.Linear):
            node = nir.Affine(node.weight, np.zeros(len(node.weight)))
        elif isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
            channels, height, width = (int(n) for n in node.input_type["input"])
            area = float(np.prod(node.kernel_size)) if isinstance(node, nir.AvgPool2d) else 1.0
            node = conv2d(
                (height, width),
                np.full((channels, 1, *node.kernel_size), 1 / area),
                np.zeros(channels),
                node.stride,
                node.padding,
                groups=channels,
            )
        elif isinstance(node, (nir.Conv1d, nir.Conv2d)):
            node = plain_convolution(node)
        out.append((name, node))
    return out


def thresholds_as_neurons(nodes: Chain, dt: float) -> Chain:
    """Threshold becomes a LIF with tau = dt, r = 1, v_leak = v_reset = 0.

    Exact: then v <- v + dt/tau (x - v) = x in every step, and both spike where v > threshold.
    """
    out: Chain = []
    for name, node in nodes:
        if isinstance(node, nir.Threshold):
            level = np.asarray(node.threshold, float)
            zeros, ones = np.zeros_like(level), np.ones_like(level)
            node = nir.LIF(tau=dt * ones, r=ones, v_leak=zeros, v_threshold=level, v_reset=zeros)
        out.append((name, node))
    return out


def early_flatten(nodes: Chain) -> Chain:
    """Flatten moves before Scale and Delay, which act element by element; one of no effect goes.

    Raises LoweringError where a Flatten leaves more than one axis, which it cannot do in netx.
    """
    out: Chain = []
    for name, node in nodes:
        if not isinstance(node, nir.Flatten):
            out.append((name, node))
            continue
        before = tuple(int(n) for n in node.input_type["input"])
        after = tuple(int(n) for n in node.output_type["output"])
        if before == after:
            continue
        if len(after) != 1:
            raise LoweringError(
                f"{name} makes {after} of {before}; netx flattens to one axis only. Use start_dim=0, "
                f"end_dim=-1."
            )
        place = len(out)
        while place and isinstance(out[place - 1][1], (nir.Scale, nir.Delay)):
            place -= 1
        moved = [(n, _reshaped(m, after)) for n, m in out[place:]]
        flatten = nir.Flatten({"input": np.array(before)}, start_dim=0, end_dim=-1)
        out = [*out[:place], (name, flatten), *moved]
    return out


def scale_as_map(nodes: Chain) -> Chain:
    """Scale becomes a diagonal Affine, or, one number per channel, a depthwise 1 x 1 convolution.

    Images that are scaled pixel by pixel fold into the r (CubaLIF, CubaLI: w_in) of the neurons that
    must follow, as (s x) r = x (s r); netx has no other place for them: LoweringError where none do.
    """
    out: Chain = []
    gains: list[tuple[str, Array]] = []
    for name, node in nodes:
        if gains and isinstance(node, NEURONS):
            node = copy.copy(node)
            field = _input_gain(name, node)
            setattr(node, field, getattr(node, field) * np.prod([g for _, g in gains], axis=0))
            gains = []
        elif gains and not isinstance(node, (nir.Scale, nir.Delay)):
            raise LoweringError(
                f"{gains[0][0]} scales every pixel by its own factor, which {name} behind it cannot "
                f"take. Scale by channel, or right before the neurons."
            )
        elif isinstance(node, nir.Scale) and node.scale.ndim == 1:
            node = nir.Affine(np.diag(node.scale), np.zeros(len(node.scale)))
        elif isinstance(node, nir.Scale):
            factors = node.scale.reshape(len(node.scale), -1)
            if np.ptp(factors, axis=1).any():
                gains.append((name, node.scale))
                continue
            node = _depthwise(node.scale.shape, factors[:, 0])
        out.append((name, node))
    return out


def identity_synapses(nodes: Chain) -> Chain:
    """Neurons without linear map before them, or only with one before a Flatten, get an identity.

    Exact: messages pass unchanged. Needs no more than the shape; a dense layer gets a unit matrix,
    an image a depthwise 1 x 1 convolution.
    """
    out: Chain = []
    for segment in segments(nodes):
        name, neuron = segment[-1]
        flat = [i for i, (_, node) in enumerate(segment) if isinstance(node, nir.Flatten)]
        start = flat[-1] + 1 if flat else 0
        if isinstance(neuron, NEURONS) and not any(
            isinstance(m, LINEAR) for _, m in segment[start:]
        ):
            shape = tuple(int(n) for n in neuron.input_type["input"])
            unit = (
                nir.Affine(np.eye(*shape), np.zeros(shape))
                if len(shape) == 1
                else _depthwise(shape, np.ones(shape[0]))
            )
            place = start if any(isinstance(m, LINEAR) for _, m in segment) else len(segment) - 1
            segment = [*segment[:place], (f"{name}.synapse", unit), *segment[place:]]
        out += segment
    return out


def check_alternation(nodes: Chain) -> Chain:
    """The chain itself, if every neuron has one synapse before it, delays of a convolution are the same
    for all pixels, and nothing follows the last neuron. Raises LoweringError otherwise."""
    synapse: str | None = None
    uneven: str | None = None
    for i, (name, node) in enumerate(nodes):
        if isinstance(node, NEURONS):
            if isinstance(node, READOUTS) and i != len(nodes) - 1:
                raise LoweringError(f"{name} never spikes, so it can only be the last layer.")
            if uneven and len(node.input_type["input"]) > 1:
                raise LoweringError(
                    f"{uneven} delays pixels of the convolution {synapse} differently; only the synapses "
                    f"of dense layers have a delay each. Give all the same."
                )
            synapse = uneven = None
        elif isinstance(node, (nir.Affine, nir.Conv2d)):
            if synapse is not None:
                raise LoweringError(f"{synapse} and {name} have no neuron between and do not fold.")
            synapse = name
        elif isinstance(node, nir.Delay) and np.ptp(node.delay):
            uneven = name
    if not nodes or not isinstance(nodes[-1][1], NEURONS):
        raise LoweringError(
            f"the last node, {nodes[-1][0] if nodes else 'input'}, is no neuron. End with a spiking "
            f"cell (rate readout) or a leaky integrator (voltage readout)."
        )
    return nodes


def _input_gain(name: str, node: nir.NIRNode) -> str:
    """The parameter of a neuron that its input is multiplied by."""
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        return "w_in"
    if isinstance(node, (nir.IF, nir.I, nir.LIF, nir.LI)):
        return "r"
    raise UnknownNodeError(node, f"neuron whose input can be scaled ({name})")


def _depthwise(shape: Shape, factors: Array) -> nir.Conv2d:
    kernel, bias = factors[:, None, None, None], np.zeros(shape[0])
    return conv2d((shape[1], shape[2]), kernel, bias, groups=shape[0])


def _reshaped(node: Any, shape: Shape) -> Any:
    """An element-wise node, or Flatten, for input of another shape with the same elements."""
    node = copy.copy(node)
    for field in PARAMETERS[type(node)]:
        setattr(node, field, np.asarray(getattr(node, field)).reshape(shape))
    node.input_type = {"input": np.array(shape)}
    if not isinstance(node, nir.Flatten):
        node.output_type = {"output": np.array(shape)}
    return node
