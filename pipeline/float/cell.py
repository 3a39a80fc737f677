"""One layer of current-based neurons in real numbers: of a float network, or of a chip's integers."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Literal

import nir
import numpy as np
from numpy.typing import NDArray

from ...hw_targets.chips.chip import Violation
from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense
from ...hw_targets.network.network import Population
from ...hw_targets.network.neurons import CubaLIF
from ..graph import READOUTS, Stage, dynamics
from .neuron import UnknownNeuronError, euler

Array = NDArray[Any]
ONE = 1 << arithmetic.STATE_SHIFT
"""States of the integers per integer unit of weight, bias and threshold."""


@dataclass(frozen=True)
class Geometry:
    """How a convolution moves over its input, in (y, x) order."""

    stride: tuple[int, int]
    padding: tuple[int, int]
    dilation: tuple[int, int]
    groups: int


@dataclass(frozen=True, eq=False)
class Cell:
    r"""One layer of current-based neurons, in units of its weights; real numbers or integers.

    `name`: of its neurons; `flatten`: whether its input has axes that it does not see.

    With x the messages, z its spikes and c(.) the rounding to `grid` (toward zero, or none)::

        a = W x[t - delay] + R z[t - 1] + charge
        u <- c(u (1 - i_decay)) + c(a)
        v <- c(v (1 - v_decay)) + c(u + bias)
        z = v > threshold

    then the reset. `weight`: (out, in), or torch's kernel with a `geometry`; all others broadcast
    over `shape`. `threshold` is infinite where the neurons never spike, as readouts do not. `charge`
    is a bias that passes the synaptic current, as float networks have it.
    `grid`: states of u and of v per unit; `limited`: u wraps and v clips at 24 bit (6 of them
    fraction); `floored`: sums over synapses are rounded down.
    `reset`, `reset_delay`: see `FloatNetwork`. `shift`: steps that messages come too late. `tie`:
    relative change of the threshold that lets v = threshold fire. `start`: the first step that runs;
    `forget`: steps before which u and v are set to 0. The float network's own voltage is
    `rest + gain * v`. `approximated`: what integers cannot do and the caller allowed to be replaced.
    """

    name: str
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
    reset: Literal["zero", "subtract", "subtract-at-once", "none"] = "zero"
    reset_delay: int = 0
    reset_to: Array | float = 0.0
    shift: int = 0
    tie: float = 0.0
    start: int = 0
    forget: frozenset[int] = frozenset()
    gain: Array | float = 1.0
    rest: Array | float = 0.0
    flatten: bool = False
    approximated: tuple[Violation, ...] = ()

    @property
    def spiking(self) -> bool:
        """Whether any of its neurons can spike: it is no readout."""
        return bool(np.isfinite(self.threshold).any())

    @property
    def row_bias(self) -> Array | None:
        """The bias (rows,), one for each row of the weights, that is neuron or channel; None if all 0."""
        rows = np.broadcast_to(self.bias, self.shape).reshape(len(self.weight), -1)[:, 0]
        return rows if rows.any() else None

    def voltage(self, v: Array) -> Array:
        """The float network's voltages (..., *shape) in the cell's units, (v - rest) / gain."""
        out: Array = (v - self.rest) / self.gain
        return out

    def scaled(self, unit: Array | float) -> Cell:
        """The layer in units that are `unit` times finer, which changes no spike.

        `unit`: one number, or one for each row of the weights, (rows,).
        """
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


def cell_of(stage: Stage, dt: float, levels: int = 1, *, steady_bias: bool = False) -> Cell:
    """A lowered float layer; its messages come in steps of 1 / `levels`.

    In units in which input of 1.0 moves V = (v - rest) / gain by 1 (by dt / tau_syn w_in with synaptic
    current), see `Euler`. `steady_bias`: a bias into neurons with synaptic current, which charges
    that current, becomes w_in bias on V, the current it leads to. Raises UnknownNeuronError.
    """
    node: Any = stage.neuron
    step = euler(stage.name, node, dt)
    shape = tuple(int(n) for n in node.output_type["output"])
    threshold, reset_to = np.full(np.shape(step.leak), np.inf), np.zeros(np.shape(step.leak))
    if not isinstance(node, READOUTS):
        threshold = (node.v_threshold - step.rest) / step.gain
        reset_to = (node.v_reset - step.rest) / step.gain
    geometry, delay, shift = _geometry(stage.synapse), stage.delay, 0
    if geometry is not None and stage.delay is not None:
        if stage.delay.size > 1:
            raise UnknownNeuronError(f"{stage.name}: a convolution with several delays.")
        delay, shift = None, int(stage.delay.item())
    weight = np.asarray(stage.synapse.weight, float)
    bias, recurrent = np.asarray(stage.synapse.bias, float), None
    if stage.recurrent is not None:
        recurrent = np.asarray(stage.recurrent.weight, float) * _per_row(stage.name, step.jump, 2)
        bias = bias + np.asarray(stage.recurrent.bias, float)
    steady = steady_bias and hasattr(node, "w_in")
    bias = _spread(bias, shape) * (node.w_in if steady else step.jump)
    charges = not steady and bool(np.any(step.i_decay != 1))
    said = dynamics(node)
    grid = None
    if said.state_grid is not None:
        grid = (np.full((), float(said.state_grid)), said.state_grid * step.gain)
    plain = isinstance(node, (nir.LIF, nir.IF)) and stage.recurrent is None
    late = said.reset_delay and not (said.reset == "zero" and plain)  # see `execute`
    return Cell(
        stage.name,
        weight * _per_row(stage.name, step.jump, weight.ndim) / levels,
        shape,
        threshold,
        step.i_decay,
        step.leak,
        np.zeros(()) if charges else bias,
        bias if charges else np.zeros(()),
        recurrent,
        delay,
        geometry,
        grid,
        flatten=stage.flatten,
        reset=said.reset,  # type: ignore[arg-type]
        reset_delay=int(late),
        reset_to=reset_to,
        shift=shift,
        gain=step.gain,
        rest=step.rest,
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
        population.name,
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


def _spread(values: Any, shape: tuple[int, ...]) -> Array:
    """A scalar, per-channel or per-neuron parameter that broadcasts over `shape`."""
    array = np.asarray(values, float)
    if array.ndim == 1:
        return array.reshape(-1, *[1] * (len(shape) - 1))
    return array


def _per_row(name: str, jump: Array, ndim: int) -> Array:
    """`jump`, one per neuron or channel, along the output axis of the weights."""
    if (jump == jump.flat[0]).all():
        return np.asarray(jump.flat[0])
    rows = jump.reshape(len(jump), -1)
    if not np.allclose(rows, rows[:, :1], rtol=1e-9, atol=0):
        raise UnknownNeuronError(f"{name}: dt / tau_syn * w_in differs within a channel.")
    return rows[:, 0].reshape(-1, *[1] * (ndim - 1))


def _geometry(synapse: nir.Affine | nir.Conv2d) -> Geometry | None:
    if not isinstance(synapse, nir.Conv2d):
        return None
    stride, padding, dilation = map(_pair, (synapse.stride, synapse.padding, synapse.dilation))
    return Geometry(stride, padding, dilation, int(synapse.groups))


def _pair(values: Any) -> tuple[int, int]:
    first, second = (int(n) for n in np.broadcast_to(values, (2,)))
    return first, second
