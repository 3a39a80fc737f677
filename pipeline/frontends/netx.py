"""Integer networks to NIR: the float graph that computes the same spikes."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense, Flatten, Input, Shape
from ...hw_targets.network.network import Network, Population
from ...hw_targets.network.neurons import CubaLIF, IntArray, NetworkError
from ..graph import Node, chain_graph, conv2d

Array = NDArray[np.float64]
_DEFAULT = CubaLIF(0, arithmetic.DECAY_ONE, arithmetic.THRESHOLD_MAX)
"""netx's neurons of a dense layer without any; they never spike."""


def from_netx(network: Network, unit: float = 64.0, dt: float = 1e-3) -> nir.NIRGraph:
    r"""The float graph of an integer network, whose spikes `execute` finds again, every one.

    With `unit` integers to 1.0 (a power of two), 4096 d the decays and `dt` in seconds::

        weights / unit, thresholds / unit, states / (64 unit), tau = dt / d

    and every gain such that an input of 1.0 adds 1.0; where the network's recipe has levels, a
    Scale in front makes the graph's input message / levels, as that of every float graph. States
    lie on the grid of the chip: each neuron's metadata has `state_grid` = 64 unit, on which decays
    truncate as in hardware (and in SLAYER, whose scale is `unit`). Per layer, in NIR's nodes:

    - dense and convolution -> Affine, Conv2d (recurrence: a second Affine, from the neurons to
      themselves); flatten -> Flatten; delays -> Delay, before the synapse where they belong to
      inputs, after it where to outputs;
    - i_decay 4096 -> LIF, or IF where v_decay is 0; the bias is that of the synapse;
    - smaller decays and no bias -> CubaLIF;
    - a bias, which netx adds to v and a CubaLIF cannot, i_decay 0, or v_decay 0 -> a node
      `<name>.current` (LI, or I where nothing decays) that puts out u, then bias, then LIF or IF;
    - readouts -> LI, CubaLI or I: layers without neuron, and a threshold of 131071, the largest;
    - Input neurons with i_decay 4096 -> Scale by 1 / unit, then their LIF or IF.

    Not in the graph: the chip's latency of one step per layer, and its 24 bits (u wraps, v clips).
    Raises NetworkError that lists every layer without exact image: graded (sigma-delta) and
    resonating neurons, delays per synapse, a bias per neuron of a convolution or beside recurrence
    and a decaying current, decays that are 0 for some neurons of a layer only.
    """
    if math.frexp(unit)[0] != 0.5 or unit < 1 / 64:
        raise NetworkError(f"unit = {unit}; a power of two, 1/64 or more, keeps all numbers exact.")
    nodes: list[Node] = []
    loops: dict[str, list[Node]] = {}
    problems: list[str] = []
    if network.recipe is not None and network.recipe.coding.levels != 1:
        nodes.append(
            ("levels", nir.Scale(np.full(network.input_shape, float(network.recipe.coding.levels))))
        )
    populations = iter(network.populations)
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Flatten):
            before = network.shapes[i - 1] if i else network.input_shape
            flatten = nir.Flatten({"input": np.array(before)}, start_dim=0, end_dim=-1)
            nodes.append((f"{i}:flatten", flatten))
        elif not isinstance(layer, Input) or layer.neuron is not None:
            population = next(populations)
            try:
                nodes += _population(population, unit, dt)
            except NetworkError as error:
                problems.append(f"{population.name}: {error}")
            if isinstance(layer, Dense) and layer.recurrent is not None:
                name = population.name
                loops[name] = [(f"{name}.recurrent", _affine(layer.recurrent / unit))]
    if problems:
        raise NetworkError("\n".join([f"{len(problems)} layer(s) have no exact image:", *problems]))
    metadata = {"dt": dt, "framework": "netx", "unit": unit, "digest": network.digest}
    return chain_graph(nodes, network.input_shape, metadata, loops)


def _population(population: Population, unit: float, dt: float) -> Iterator[Node]:
    """The nodes of a layer, in order."""
    name, layer, shape = population.name, population.layer, population.shape
    neuron = _DEFAULT if layer.neuron is None else layer.neuron
    if not isinstance(neuron, CubaLIF):
        raise NetworkError(f"{type(neuron).__name__} neurons have no image in NIR.")
    i_decay, v_decay, threshold = (
        _spread(value, shape) for value in (neuron.i_decay, neuron.v_decay, neuron.threshold)
    )
    direct = (i_decay == arithmetic.DECAY_ONE).all()  # the current is the input of the step
    bias = None
    if not isinstance(layer, Input):
        bias = None if layer.bias is None or not layer.bias.any() else layer.bias / unit
        inputs, outputs = _delays(layer)
        if inputs.any():
            yield f"{name}.input_delay", nir.Delay(inputs * dt)
        at_once = direct and not outputs.any()
        yield f"{name}.weight", _synapse(layer, population, unit, bias if at_once else None)
        if outputs.any():
            yield f"{name}.delay", nir.Delay(outputs * dt)
        bias = None if at_once else bias
    elif direct:
        yield f"{name}.weight", nir.Scale(np.full(shape, 1 / unit))
    else:
        raise NetworkError(
            "a constant input is the bias of Input neurons; only with i_decay = 4096 is that also "
            "a current."
        )
    silent = (threshold == arithmetic.THRESHOLD_MAX).all()
    levels = None if silent else threshold / unit
    if direct:
        if bias is not None:
            yield f"{name}.bias", _bias(bias, shape)
        yield name, _leaky(v_decay, levels, dt, unit)
    elif silent and bias is None and (v_decay == arithmetic.DECAY_ONE).all():
        yield name, _leaky(i_decay, None, dt, unit)  # v is u
    elif bias is None and i_decay.all() and v_decay.all():
        yield name, _cuba(i_decay, v_decay, levels, dt, unit)
    elif isinstance(layer, Dense) and layer.recurrent is not None:
        raise NetworkError(
            "a recurrent layer whose current decays has no image with a bias or with a decay of 0: "
            "it needs two nodes, and the recurrence would pass through both."
        )
    else:
        yield f"{name}.current", _leaky(i_decay, None, dt, unit)
        if bias is not None:
            yield f"{name}.bias", _bias(bias, shape)
        yield name, _leaky(v_decay, levels, dt, unit)


# -- synapses ----------------------------------------------------------------------------------


def _synapse(
    layer: Dense | Conv, population: Population, unit: float, bias: Array | None
) -> nir.NIRNode:
    weight = layer.weight / unit
    if isinstance(layer, Dense):
        return _affine(weight, bias)
    if not isinstance(layer, Conv):
        raise NetworkError(f"{type(layer).__name__} layers have no image in NIR.")
    _, height, width = population.input_shape
    options = layer.stride, layer.padding, layer.dilation, layer.groups
    return conv2d((height, width), weight, _per_channel(bias, len(weight)), *options)


def _affine(weight: Array, bias: Array | None = None) -> nir.Affine:
    return nir.Affine(weight, np.zeros(len(weight)) if bias is None else bias)


def _bias(bias: Array, shape: Shape) -> nir.NIRNode:
    """What adds `bias`: an identity."""
    if len(shape) == 1:
        return _affine(np.eye(len(bias)), bias)
    channels, height, width = shape
    ones = np.ones((channels, 1, 1, 1))
    return conv2d((height, width), ones, _per_channel(bias, channels), groups=channels)


def _per_channel(bias: Array | None, channels: int) -> Array:
    if bias is None:
        return np.zeros(channels)
    if bias.ndim == 3:
        raise NetworkError("a bias per neuron of a convolution has no image in NIR.")
    return bias


def _delays(layer: Dense | Conv) -> tuple[IntArray, IntArray]:
    """Steps (in,) before the synapse and (out,) after it."""
    delays = layer.delays if isinstance(layer, Dense) else None  # convolutions have none
    if delays is None:
        return np.zeros(1, np.int32), np.zeros(1, np.int32)
    outputs = delays[:, 0] - delays[:, 0].min()
    inputs = delays[outputs.argmin()]
    if (outputs[:, None] + inputs != delays).any():
        raise NetworkError(
            "delays that differ from synapse to synapse have no image in NIR; those of inputs, of "
            "outputs, and their sums have."
        )
    return inputs, outputs


# -- neurons -----------------------------------------------------------------------------------


def _leaky(decay: Array, threshold: Array | None, dt: float, unit: float) -> nir.NIRNode:
    """v <- (1 - decay / 4096) v + x, with spikes beyond a threshold."""
    if decay.any() != decay.all():
        raise NetworkError("some of its decays are 0 and others not: a node is IF or LIF.")
    zeros = np.zeros_like(decay)
    if decay.any():
        tau = dt * arithmetic.DECAY_ONE / decay
        leak = {"tau": tau, "r": tau / dt, "v_leak": zeros}
        node = nir.LI if threshold is None else nir.LIF
    else:
        leak = {"r": zeros + 1 / dt}
        node = nir.I if threshold is None else nir.IF
    return _on_grid(node, leak, threshold, unit)


def _cuba(
    i_decay: Array, v_decay: Array, threshold: Array | None, dt: float, unit: float
) -> nir.NIRNode:
    """u <- (1 - i_decay / 4096) u + x; v <- (1 - v_decay / 4096) v + u, spikes as above."""
    synapse, membrane = (dt * arithmetic.DECAY_ONE / decay for decay in (i_decay, v_decay))
    parameters = {
        "tau_syn": synapse,
        "tau_mem": membrane,
        "w_in": synapse / dt,
        "r": membrane / dt,
        "v_leak": np.zeros_like(membrane),
    }
    node = nir.CubaLI if threshold is None else nir.CubaLIF
    return _on_grid(node, parameters, threshold, unit)


def _on_grid(
    node: Any, parameters: dict[str, Array], threshold: Array | None, unit: float
) -> nir.NIRNode:
    if threshold is not None:
        parameters |= {"v_threshold": threshold, "v_reset": np.zeros_like(threshold)}
    made: nir.NIRNode = node(**parameters)
    made.metadata = {"reset": "zero", "state_grid": int(unit * (1 << arithmetic.STATE_SHIFT))}
    return made


def _spread(value: Any, shape: Shape) -> Array:
    """One value per neuron, from one for all, per channel, or per neuron."""
    array = np.asarray(value, np.float64)
    if array.ndim == 1 and len(shape) == 3:
        array = array[:, None, None]
    return np.broadcast_to(array, shape).copy()
