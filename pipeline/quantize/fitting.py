"""One layer's integers: what is tried on the calibration data, and how it is judged."""

from __future__ import annotations

from dataclasses import dataclass, replace
from functools import cached_property
from typing import Any

import numpy as np

from ...hw_targets.arrays import Array
from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense, Flatten, Input
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.network.timing import Timing
from ...hw_targets.simulate.engine import simulate
from ...hw_targets.simulate.trace import Overflow
from ..float.cell import Cell
from .rounding import RealLayer, full_step, nearest

HEADROOM = 2.0
"""Voltages on the calibration data stay this factor below the 24-bit clip."""
JUDGED = 1 << 21
"""Voltages (of the first samples) that membrane errors are taken of, at most."""


@dataclass(frozen=True)
class Fit:
    """Numbers to round, and the scale they have: `scale` of weights, `unit` of all else, by row.

    A row is a neuron of a dense layer, a channel of a convolution. Integers per 1.0 of the layer's V
    and of its recurrent messages: unit; per 1.0 of its input, over the integers that stand for 1.0
    there: scale.
    """

    real: RealLayer
    scale: Array
    unit: Array
    rounding: str = "nearest"


@dataclass(frozen=True)
class Run:
    """What a layer with the rounded numbers of a fit answers.

    `both`, `either`: spikes that the float layer has too, and all spikes of the one and the other,
    counted by row; `error`: by row the sum of squared differences of V where neither spikes.
    """

    fit: Fit
    layer: Dense | Conv
    spikes: Array
    u: Array
    v: Array
    overflow: Overflow
    both: Array
    either: Array
    error: Array

    @property
    def score(self) -> tuple[bool, bool, float, float]:
        """Larger is better: unchanged by Lava, within range, matched spikes, membrane error."""
        return (
            survives_lava(self.layer),
            not self.overflow,
            float(_matched(self.both.sum(), self.either.sum())),
            -float(self.error.sum()),
        )

    @property
    def matched(self) -> Array:
        """By row, 2 both / either: 1 where all spikes agree, 0 where none does."""
        return _matched(self.both, self.either)


@dataclass(frozen=True)
class Problem:
    """One layer, what reaches it, and what it should answer.

    `message`: the integers that really reach it (sample, time, *shape), `per_one` for 1.0;
    `exact`: the same in the float network (None: no different). `spikes`, `voltage`: the answer of
    the float layer in the float network, voltage as V.
    """

    layer: Cell
    bits: int
    per_one: int
    message: Array
    exact: Array | None
    spikes: Array
    voltage: Array
    recipe: Recipe

    def first(self, samples: int) -> Problem:
        """The problem on its first `samples`; scales keep their limits."""
        few = replace(
            self,
            message=self.message[:samples],
            spikes=self.spikes[:samples],
            voltage=self.voltage[:samples],
        )
        few.__dict__["largest_unit"] = self.largest_unit
        return few

    # -- from scales to numbers -----------------------------------------------------------------

    @cached_property
    def largest_unit(self) -> Array:
        """By row, the unit at which bias, threshold or voltage reaches its limit."""
        layer = self.layer
        voltage = by_row(np.abs(self.voltage), np.max)
        with np.errstate(divide="ignore"):
            limits = [arithmetic.THRESHOLD_MAX / HEADROOM / voltage]
            if layer.row_bias is not None:
                limits.append(arithmetic.BIAS_MAX / np.abs(layer.row_bias))
            if layer.spiking:
                largest = layer.threshold.reshape(len(voltage), -1).max(axis=1)
                limits.append(arithmetic.THRESHOLD_MAX / largest)
        unit: Array = np.min(limits, axis=0)
        return unit

    def _fitting(self, matrix: Array, step: int) -> Array:
        """By row, the scale at which its largest weights just fit."""
        rows, high = matrix.reshape(len(matrix), -1), step << (self.bits - 1)
        with np.errstate(divide="ignore"):
            fitting: Array = np.minimum(
                (high - step) / np.maximum(rows.max(axis=1), 0.0),
                high / np.maximum(-rows.min(axis=1), 0.0),
            )
        return fitting

    def _step(self, matrix: Array, scale: Array) -> int:
        """The smallest step at which nothing saturates, at most that of the bits."""
        step = full_step(self.bits)
        while step > 1 and (self._fitting(matrix, step // 2) >= scale).all():
            step //= 2
        return step

    def start(self, *, per_channel: bool) -> Fit:
        """The largest scale at which nothing saturates or reaches a limit, one for all rows or each."""
        layer, full = self.layer, full_step(self.bits)
        scale = np.minimum(self._fitting(layer.weight, full), self.largest_unit / self.per_one)
        back = None if layer.recurrent is None else layer.recurrent * self.per_one
        if back is not None:
            scale = np.minimum(scale, self._fitting(back, full))
        shared = np.full(len(scale), scale.min())
        if not per_channel or not layer.spiking:
            scale = shared
        return self.scaled(np.where(np.isfinite(scale), scale, shared))

    def scaled(self, scale: Array, like: RealLayer | None = None) -> Fit:
        """The layer's own numbers in integer units; with steps no finer than those of `like`."""
        layer, unit = self.layer, scale * self.per_one
        step, back_step = self._step(layer.weight, scale), None
        if layer.recurrent is not None:
            back_step = self._step(layer.recurrent, unit)
        if like is not None:
            step = max(step, like.step)
            back_step = back_step and max(back_step, like.recurrent_step or 1)
        real = RealLayer(
            layer.weight * rows_first(scale, layer.weight),
            None if layer.row_bias is None else layer.row_bias * unit,
            layer.threshold * rows_first(unit, layer.threshold) if layer.spiking else None,
            layer.i_decay * arithmetic.DECAY_ONE,
            layer.v_decay * arithmetic.DECAY_ONE,
            None if layer.recurrent is None else layer.recurrent * unit[:, None],
            self.bits,
            step,
            back_step,
        )
        return Fit(real, scale, unit)

    # -- what numbers answer --------------------------------------------------------------------

    def run(self, fit: Fit) -> Run:
        """The answer to the calibration data, on the engine."""
        layer = self._rounded(fit.real)
        flatten = [Flatten()] if self.layer.flatten else []
        alone = Network([Input(self.message.shape[2:]), *flatten, layer])
        trace = simulate(
            alone,
            self.message,
            Timing(self.recipe.coding.steps + 1, self.recipe.reset_interval, 1),
            record=("spikes", "u", "v"),
        ).aligned(alone, self.recipe.coding.steps)
        assert trace.spikes is not None
        assert trace.u is not None
        assert trace.v is not None
        assert trace.overflow is not None
        spikes, v = trace.spikes[0], trace.v[0]
        ours, theirs = spikes != 0, self.spikes != 0
        both, either = by_row(ours & theirs, np.sum), by_row(ours, np.sum) + by_row(theirs, np.sum)
        error = self._error(fit, spikes, v)
        return Run(fit, layer, spikes, trace.u[0], v, trace.overflow[0], both, either, error)

    def _rounded(self, real: RealLayer) -> Dense | Conv:
        weight = real.step * nearest(real.weight / real.step, real.bits)
        bias: Array | None = None if real.bias is None else np.round(real.bias)
        threshold = np.array(arithmetic.THRESHOLD_MAX if real.threshold is None else real.threshold)
        neuron = CubaLIF(*(_narrow(x) for x in (real.i_decay, real.v_decay, threshold)))
        if (moves := self.layer.geometry) is not None:
            geometry = moves.stride, moves.padding, moves.dilation, moves.groups
            return Conv(weight, bias, neuron, *geometry)
        recurrent = None
        if real.recurrent is not None:
            step = real.recurrent_step or real.step
            recurrent = step * nearest(real.recurrent / step, real.bits)
        return Dense(weight, bias, neuron, recurrent, _delay(self.layer))

    def _error(self, fit: Fit, spikes: Array, v: Array) -> Array:
        some = max(1, JUDGED * len(v) // v.size)
        scale = (fit.unit * (1 << arithmetic.STATE_SHIFT)).astype(np.float32)
        difference = v[:some] / rows_first(scale, v[0, 0])
        difference -= self.voltage[:some]
        difference[(spikes[:some] != 0) | (self.spikes[:some] != 0)] = 0
        return by_row(np.square(difference, dtype=np.float64), np.sum)


def _matched(both: Array, either: Array) -> Array:
    matched: Array = np.where(either > 0, 2 * both / np.maximum(either, 1), 1.0)
    return matched


def by_row(values: Array, reduce: Any) -> Array:
    """(sample, time, rows, ...) to (rows,)."""
    out: Array = reduce(values, axis=tuple(i for i in range(values.ndim) if i != 2))
    return out


def rows_first(values: Array, like: Array) -> Array:
    """(rows,), shaped to broadcast over an array with its rows first."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def survives_lava(layer: Dense | Conv) -> bool:
    """Whether Lava applies dense matrices as they are stored (see `synapse_formats`)."""
    if isinstance(layer, Conv):
        return True
    parts = [m for m in (layer.weight, layer.recurrent) if m is not None]
    formats = arithmetic.synapse_formats(*parts)
    return all(
        form.whole and bool((form.weight == part).all())
        for form, part in zip(formats, parts, strict=True)
    )


def _narrow(values: Array) -> Any:
    """Rounded: one number where all neurons share it, one per channel where channels do."""
    whole = np.round(values)
    if (whole == whole.flat[0]).all():
        return int(whole.flat[0])
    if whole.ndim == 3 and (whole == whole[:, :1, :1]).all():
        return whole[:, 0, 0]
    return whole


def _delay(layer: Cell) -> Any:
    """One number, one per output or per input where that says it all, else one per synapse."""
    if layer.delay is None or not layer.delay.any():
        return None
    delay = np.broadcast_to(layer.delay, layer.weight.shape)
    out, into = delay.shape
    if (delay == delay[0, 0]).all():
        return int(delay[0, 0])
    if (delay == delay[:, :1]).all():
        return delay[:, 0]
    if (delay == delay[:1]).all() and out != into:  # a vector of out = in counts per output
        return delay[0]
    return delay
