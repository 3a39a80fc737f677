"""One layer in real numbers, with its neurons' parameters."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.chips.chip import Violation
from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense
from ...hw_targets.network.network import Population
from ...hw_targets.network.neurons import CubaLIF
from ..graph import READOUTS, Stage, dynamics

Array = NDArray[Any]
ONE = 1 << arithmetic.STATE_SHIFT
"""States of the integers per integer unit of weight, bias and threshold."""
LIMIT = float(arithmetic.STATE_LIMIT / ONE)
WIDE = float(2**31 / ONE)
GUARD = 1e-6
"""Part of a grid step by which rounding errors of real numbers may not change a truncation."""


class UnknownNeuronError(ValueError):
    """A layer that has no equation here."""


@dataclass(frozen=True)
class Geometry:
    """Of a convolution, in (y, x) order."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, eq=False)
class Cell:
    r"""One layer of current-based neurons, in units of its weights; real numbers or integers.

    With x the messages, z its spikes and c(.) the rounding to `grid` (toward zero, or none)::

        a = W x[t - delay] + R z[t - 1] + charge
        u <- c(u (1 - i_decay)) + c(a)
        v <- c(v (1 - v_decay)) + c(u + bias)
        z = v > threshold

    then the reset. `weight`: (out, in), or torch's kernel with a `geometry`; all others broadcast
    over `shape`. `charge` is a bias that passes the synaptic current, as float networks have it.
    `grid`: states of u and of v per unit; `limited`: u wraps and v clips at 24 bit (6 of them
    fraction); `floored`: sums over synapses are rounded down.
    `reset_delay` 1: in the next step. `shift`: steps that messages come too late. `tie`: relative
    change of the threshold that lets v = threshold fire. `start`: the first step that runs;
    `forget`: steps before which u and v are set to 0. The float network's own voltage is
    `rest + gain * v`.
    """

    weight: Array
    shape: tuple[int, ...]
    threshold: Array
    i_decay: Array
    v_decay: Array
    bias: Array
    charge: Array
    recurrent: Array | None = None
    delay: NDArray[np.int64] | None = None
    geometry: Geometry | None = None
    grid: tuple[Array, Array] | None = None
    limited: bool = False
    floored: bool = False
    reset: Literal["zero", "subtract"] = "zero"
    reset_delay: int = 0
    reset_to: Array | float = 0.0
    shift: int = 0
    tie: float = 0.0
    start: int = 0
    forget: frozenset[int] = frozenset()
    gain: Array | float = 1.0
    rest: Array | float = 0.0

    def scaled(self, unit: Array | float) -> Cell:
        """The same layer in units `unit` times finer; its spikes are the same."""
        rows = np.asarray(unit, float)
        per_row = rows.reshape(-1, *[1] * (self.weight.ndim - 1)) if rows.ndim else rows
        over = rows.reshape(-1, *[1] * (len(self.shape) - 1)) if rows.ndim else rows
        return replace(
            self,
            weight=self.weight * per_row,
            recurrent=None if self.recurrent is None else self.recurrent * per_row,
            threshold=self.threshold * over,
            bias=self.bias * over,
            charge=self.charge * over,
            reset_to=self.reset_to * over,
            gain=self.gain / over,
            grid=None if self.grid is None else (self.grid[0] / over, self.grid[1] / over),
        )


def cell_of(stage: Stage, dt: float, levels: int = 1) -> Cell:
    """A lowered float layer; its messages come in steps of 1 / `levels`.

    With d = dt / tau, V = (v - v_leak) / (d_mem r): input of 1.0 then moves V by 1 (by dt / tau_syn
    w_in with synaptic current). Raises UnknownNeuronError.
    """
    node: Any = stage.neuron
    leak: Array = np.zeros(np.shape(node.r)) if hasattr(node, "r") else np.ones(())
    i_decay, jump = np.ones(np.shape(leak)), np.ones(np.shape(leak))
    if isinstance(node, (nir.IF, nir.I)):
        gain, rest = dt * node.r, getattr(node, "v_reset", 0.0) * np.ones(np.shape(node.r))
    elif isinstance(node, (nir.LIF, nir.LI, nir.CubaLIF, nir.CubaLI)):
        leak = dt / (node.tau if isinstance(node, (nir.LIF, nir.LI)) else node.tau_mem)
        gain, rest = leak * node.r, node.v_leak
        if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
            i_decay = dt / node.tau_syn
            jump = i_decay * node.w_in
    else:
        raise UnknownNeuronError(f"{stage.name}: {type(node).__name__} neurons are not modelled.")
    shape = tuple(int(n) for n in node.output_type["output"])
    threshold, reset_to = np.full(np.shape(leak), np.inf), np.zeros(np.shape(leak))
    if not isinstance(node, READOUTS):
        threshold, reset_to = (node.v_threshold - rest) / gain, (node.v_reset - rest) / gain
    conv = isinstance(stage.synapse, nir.Conv2d)
    geometry, delay, shift = None, stage.delay, 0
    if conv:
        one = stage.synapse
        stride, padding, dilation = (_pair(p) for p in (one.stride, one.padding, one.dilation))
        geometry = Geometry(stride, padding, dilation, int(one.groups))
        if stage.delay is not None:
            if stage.delay.size > 1:
                raise UnknownNeuronError(f"{stage.name}: a convolution with several delays.")
            delay, shift = None, int(stage.delay.item())
    per_row = _per_row(stage.name, jump, stage.synapse.weight.ndim)
    recurrent = bias_back = None
    if stage.recurrent is not None:
        recurrent = np.asarray(stage.recurrent.weight, float) * _per_row(stage.name, jump, 2)
        bias_back = np.asarray(stage.recurrent.bias, float)
    bias = np.asarray(stage.synapse.bias, float) + (0.0 if bias_back is None else bias_back)
    bias = _spread(bias, shape) * jump
    synaptic = bool(np.any(i_decay != 1))
    said = dynamics(node)
    grid = None
    if said.state_grid is not None:
        grid = (np.full((), float(said.state_grid)), said.state_grid * gain)
    plain = isinstance(node, (nir.LIF, nir.IF)) and stage.recurrent is None
    late = said.reset_delay and not (said.reset == "zero" and plain)  # see `execute`
    return Cell(
        np.asarray(stage.synapse.weight, float) * per_row / levels,
        shape,
        threshold,
        i_decay,
        leak,
        np.zeros(()) if synaptic else bias,
        bias if synaptic else np.zeros(()),
        recurrent,
        delay,
        geometry,
        grid,
        reset="subtract" if said.reset == "subtract" else "zero",
        reset_delay=int(late),
        reset_to=reset_to,
        shift=shift,
        gain=gain,
        rest=rest,
    )


def integer_cell(population: Population) -> Cell:
    """A layer of a network as the hardware runs it, its window apart. Raises UnknownNeuronError."""
    layer, shape = population.layer, population.shape
    if not isinstance(layer, Dense | Conv) or not isinstance(layer.neuron, CubaLIF | None):
        kind = type(layer.neuron or layer).__name__
        raise UnknownNeuronError(f"{population.name}: {kind} is no layer of CubaLIF neurons.")
    neuron = layer.neuron or CubaLIF(0, arithmetic.DECAY_ONE, arithmetic.THRESHOLD_MAX)
    geometry = recurrent = delay = None
    weight: Array = layer.weight.astype(float)
    if isinstance(layer, Conv):
        geometry = Geometry(layer.stride, layer.padding, layer.dilation, layer.groups)
    else:
        delay = layer.delays
        parts = [w for w in (layer.weight, layer.recurrent) if w is not None]
        formats = arithmetic.synapse_formats(*parts)  # what Lava really applies
        weight, *back = (f.mantissa / (1 << max(f.shift, 0)) for f in formats)
        recurrent = back[0] if back else None
    never = layer.neuron is None
    threshold = np.inf if never else _spread(neuron.threshold, shape)
    return Cell(
        weight,
        shape,
        np.asarray(threshold, float),
        _spread(neuron.i_decay, shape) / arithmetic.DECAY_ONE,
        _spread(neuron.v_decay, shape) / arithmetic.DECAY_ONE,
        np.zeros(()) if layer.bias is None else _spread(layer.bias, shape),
        np.zeros(()),
        recurrent,
        None if delay is None else delay.astype(np.int64),
        geometry,
        (np.full((), float(ONE)), np.full((), float(ONE))),
        limited=True,
        floored=True,
    )


def run_cell(cell: Cell, messages: Array, own: Array | None = None) -> tuple[Array, Array]:
    """Spikes (int8) and voltages before the reset, (sample, time, *shape).

    `messages`: (sample, time, *input shape), as they reach the synapses. `own`: the layer's spikes
    that recurrent weights see, in place of those it would send itself. Steps before `start` are 0.
    """
    samples, steps = messages.shape[:2]
    spikes = np.zeros((samples, steps, *cell.shape), np.int8)
    voltage = np.zeros(spikes.shape)
    sums = _sums(cell, messages)
    u, v = np.zeros((2, samples, *cell.shape))
    before = np.zeros((samples, *cell.shape), bool)
    to = np.asarray(cell.reset_to, float)
    level = np.where(np.isfinite(cell.threshold), cell.threshold, 0.0)
    threshold = cell.threshold - cell.tie * np.abs(level)
    u_grid, v_grid = cell.grid or (None, None)
    synaptic = bool(np.any(cell.i_decay != 1))
    for t in range(cell.start, steps):
        if t in cell.forget:
            u[:], v[:] = 0.0, 0.0
        a = sums[:, t]
        if cell.recurrent is not None and t > cell.start:
            back = spikes[:, t - 1] if own is None else own[:, t - 1]
            again = back.reshape(samples, -1) @ cell.recurrent.T
            a = a + (np.floor(again) if cell.floored else again)
        a = a + cell.charge
        u = _cut(u * (1 - cell.i_decay), u_grid) + (_cut(a, u_grid) if synaptic else a)
        if cell.limited:
            u = _wrapped(u, WIDE)
            u = np.where(u > LIMIT, u - 2 * LIMIT, np.where(u <= -LIMIT, u + 2 * LIMIT, u))
        v = _cut(v * (1 - cell.v_decay), v_grid) + _cut(u + cell.bias, v_grid)
        if cell.reset_delay:
            v = np.where(before, to, v) if cell.reset == "zero" else v - before * (level - to)
        if cell.limited:
            v = np.clip(_wrapped(v, WIDE), -LIMIT + 1 / ONE, LIMIT - 1 / ONE)
        fired = v > threshold
        spikes[:, t], voltage[:, t] = fired, v
        if cell.reset_delay:
            before = fired
        elif cell.reset == "zero":
            v = np.where(fired, to, v)
        else:
            v = np.where(fired, v - (level - to), v)
    return spikes, voltage


def _wrapped(x: Array, limit: float) -> Array:
    out: Array = (x + limit) % (2 * limit) - limit
    return out


def _cut(x: Array, grid: Array | None) -> Array:
    """x toward zero on multiples of 1 / grid; rounding errors of products do not count."""
    if grid is None:
        return x
    parts = x * grid
    whole: Array = np.trunc(parts + np.sign(parts) * GUARD) / grid
    return whole


def _sums(cell: Cell, messages: Array) -> NDArray[np.float64]:
    """W x of every step, (sample, time, *shape), float64."""
    samples, steps = messages.shape[:2]
    messages = messages[:, cell.start :]
    x = messages.reshape(samples * messages.shape[1], *messages.shape[2:]).astype(float)
    if cell.geometry is not None:
        g = cell.geometry
        with torch.no_grad():
            out = torch.nn.functional.conv2d(
                torch.from_numpy(x),
                torch.from_numpy(np.ascontiguousarray(cell.weight)),
                None,
                g.stride,
                g.padding,
                g.dilation,
                g.groups,
            ).numpy()
        parts = [(0, out)]
    else:
        x = x.reshape(len(x), cell.weight.shape[1])
        if cell.delay is None:
            parts = [(0, x @ cell.weight.T)]
        else:
            delay = np.broadcast_to(cell.delay, cell.weight.shape)
            parts = [(int(d), x @ np.where(delay == d, cell.weight, 0).T) for d in np.unique(delay)]
    if cell.floored:
        parts = [(d, np.floor(part)) for d, part in parts]
    if cell.limited and cell.geometry is not None:
        parts = [(d, _wrapped(part, float(arithmetic.STATE_LIMIT))) for d, part in parts]
    sums = np.zeros((samples, steps, *cell.shape))
    for delay_, part in parts:
        late = delay_ + cell.shift
        from_step, to_step = max(cell.start + late, cell.start), min(steps + late, steps)
        one = part.reshape(samples, steps - cell.start, *cell.shape)
        count = to_step - from_step
        if count > 0:
            first = from_step - cell.start - late
            sums[:, from_step:to_step] += one[:, first : first + count]
    return sums


def _spread(values: Any, shape: tuple[int, ...]) -> Array:
    """A scalar, per-channel or per-neuron parameter that broadcasts over `shape`."""
    array = np.asarray(values, float)
    if array.ndim == 1:
        return array.reshape(-1, *[1] * (len(shape) - 1))
    return array


def _per_row(name: str, jump: Array, ndim: int) -> Array:
    """`jump`, one per neuron or channel, along the output axis of the weights."""
    jump = np.asarray(jump, float)
    if not jump.ndim or (jump == jump.flat[0]).all():
        return np.asarray(jump.flat[0])
    rows = jump.reshape(len(jump), -1)
    if not (rows == rows[:, :1]).all():
        raise UnknownNeuronError(f"{name}: dt / tau_syn * w_in differs within a channel.")
    return rows[:, 0].reshape(-1, *[1] * (ndim - 1))


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(n) for n in np.broadcast_to(values, (2,)))
    return first, second


@dataclass(frozen=True)
class HardwareLayer:
    r"""One lowered layer in units in which input enters the membrane with slope 1.

    With V = (v - v_leak) / (r dt / tau_mem), a the weighted input and d = `i_decay`, l = `v_decay`::

        u <- (1 - d) u + a;   V <- (1 - l) V + u + bias;   spike = V > threshold, then V <- 0

    `weight`, `recurrent` hold the factor w_in dt / tau_syn of neurons with synaptic current.
    `threshold`: None for a readout. v = rest + gain * V. `approximated`: violations that the caller
    allowed.
    """

    name: str
    node: nir.NIRNode
    flatten: bool
    delay: NDArray[np.int64] | None
    weight: Array
    recurrent: Array | None
    bias: Array | None
    i_decay: Array
    v_decay: Array
    threshold: Array | None
    gain: Array
    rest: Array
    approximated: tuple[Violation, ...] = ()

    @property
    def spiking(self) -> bool:
        """Whether it is no readout."""
        return self.threshold is not None

    @property
    def shape(self) -> tuple[int, ...]:
        """Of its neurons."""
        return tuple(int(n) for n in self.node.output_type["output"])

    def voltage(self, v: Array) -> Array:
        """V of a float trace's voltages (sample, time, *layer shape)."""
        out: Array = (v - self.rest) / self.gain
        return out


def _layer(stage: Stage, dt: float, approximated: tuple[Violation, ...]) -> HardwareLayer:
    node: Any = stage.neuron
    leak, gain, rest = _membrane(node, dt)
    weight = np.asarray(stage.synapse.weight, float)
    bias = np.asarray(stage.synapse.bias, float)
    recurrent = None
    if stage.recurrent is not None:
        recurrent = np.asarray(stage.recurrent.weight, float)
        bias = bias + stage.recurrent.bias
    i_decay = np.ones_like(leak)
    if hasattr(node, "tau_syn"):
        i_decay = dt / node.tau_syn
        jump = _rows(np.broadcast_to(i_decay * node.w_in, i_decay.shape))
        weight = weight * jump.reshape(-1, *[1] * (weight.ndim - 1))
        recurrent = None if recurrent is None else recurrent * jump[:, None]
        bias = bias * _rows(np.broadcast_to(node.w_in, i_decay.shape))
    return HardwareLayer(
        stage.name,
        stage.synapse,
        stage.flatten,
        stage.delay,
        weight,
        recurrent,
        bias if bias.any() else None,
        i_decay,
        leak,
        None if isinstance(node, READOUTS) else (node.v_threshold - rest) / gain,
        gain,
        rest,
        approximated,
    )


def _membrane(node: Any, dt: float) -> tuple[Array, Array, Array]:
    """(dt / tau_mem, r dt / tau_mem, resting voltage); no leak: (0, r dt, v_reset)."""
    if hasattr(node, "v_leak"):
        leak = dt / (node.tau_mem if hasattr(node, "tau_mem") else node.tau)
        return leak, leak * node.r, node.v_leak
    rest = node.v_reset if hasattr(node, "v_reset") else np.zeros_like(node.r)
    return np.zeros_like(node.r), dt * node.r, rest


def _rows(values: Array) -> Array:
    """One value per row of the weights: of each neuron, or of each channel (C, H, W)."""
    return values[:, 0, 0] if values.ndim == 3 else values.reshape(-1)
