"""What rounding a layer cost, and how much of the hardware's number ranges it uses."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ...hw_targets.arrays import Array
from ...hw_targets.chips.chip import Violation
from ...hw_targets.network import arithmetic
from ...hw_targets.network.neurons import CubaLIF
from .fitting import Problem, Run, rows_first
from .rounding import saturates


@dataclass(frozen=True)
class LayerLoss:
    """What rounding one layer cost, on the calibration data.

    `unit`: integers per 1.0 of the layer's float current (with `per_channel` the median);
    `weight_range`: the integers used; `weight_error`: rms difference of the stored weights from the
    float ones over their rms; `threshold`, `i_decay`, `v_decay`: their integers (smallest over the
    neurons); `threshold_error`, `decay_error`: largest relative difference of the threshold from
    unit * float threshold, largest absolute one of the decays. `agreement`: fraction of neuron-steps
    with the same spike as the float layer, `matched`: 2 both / (one + other) spikes; for a readout
    without spikes instead `voltage_error`: rms error over rms voltage.

    `bits`: of the weights, which are multiples of `step`; `scale`: integers per 1.0 of the float
    weights; `rounding`: "nearest", "compensated" or "compensated, refitted" (see `quantize`);
    `saturated`: fraction of the weights that lie beyond the largest integer, and are cut to it.
    `weight_used`, ..., `v_used`: the largest magnitude over what the hardware holds: weights
    [-256, 254], 13-bit bias, 17-bit threshold, 24-bit u and v (before the reset) on the calibration
    data. `violations`: what netx cannot do and was approximated as asked for.
    """

    name: str
    unit: float
    weight_range: tuple[int, int]
    weight_error: float
    bias_range: tuple[int, int]
    threshold: int
    threshold_error: float
    i_decay: int
    v_decay: int
    decay_error: float
    agreement: float | None
    matched: float | None
    voltage_error: float | None
    bits: int
    step: int
    scale: float
    rounding: str
    saturated: float
    weight_used: float
    bias_used: float
    threshold_used: float
    u_used: float
    v_used: float
    violations: tuple[Violation, ...]


def agree(a: Array, b: Array) -> tuple[float, float]:
    """Fraction of equal entries of two spike arrays, and 2 |a and b| / (|a| + |b|) (1 if silent)."""
    equal = float(np.mean(a == b))
    total = np.count_nonzero(a) + np.count_nonzero(b)
    both = np.count_nonzero((a != 0) & (b != 0))
    return equal, 2 * both / total if total else 1.0


def loss_of(problem: Problem, best: Run) -> LayerLoss:
    """The loss of a layer with the integers of a run."""
    source, layer, fit = problem.layer, best.layer, best.fit
    neuron = layer.neuron
    assert isinstance(neuron, CubaLIF)
    scaled = source.weight * rows_first(fit.scale, source.weight)
    error = (layer.weight - scaled) / rows_first(fit.scale, scaled)
    bias = layer.bias if layer.bias is not None else np.zeros(1, int)
    threshold = np.asarray(neuron.threshold)
    threshold_error = 0.0
    if source.spiking:
        exact = source.threshold * rows_first(fit.unit, source.threshold)
        stored = rows_first(threshold, exact) if threshold.ndim == 1 else threshold
        threshold_error = float(np.max(np.abs(stored - exact) / np.maximum(exact, 1e-30)))
    decay_error = max(
        float(np.abs(np.round(real) / arithmetic.DECAY_ONE - exact).max())
        for real, exact in (
            (fit.real.i_decay, source.i_decay),
            (fit.real.v_decay, source.v_decay),
        )
    )
    equal = matched = voltage_error = None
    if source.spiking:
        equal, matched = agree(problem.spikes, best.spikes)
    else:
        unit = fit.unit * (1 << arithmetic.STATE_SHIFT)
        off = best.v / rows_first(unit, best.v[0, 0]) - problem.voltage
        size = float(np.mean(np.square(problem.voltage, dtype=float)))
        voltage_error = float(np.sqrt(np.mean(off**2) / max(size, 1e-30)))
    return LayerLoss(
        name=source.name,
        unit=float(np.median(fit.unit)),
        weight_range=(int(layer.weight.min()), int(layer.weight.max())),
        weight_error=float(np.sqrt(np.mean(error**2) / np.mean(source.weight**2))),
        bias_range=(int(bias.min()), int(bias.max())),
        threshold=int(threshold.min()),
        threshold_error=threshold_error,
        i_decay=int(np.min(neuron.i_decay)),
        v_decay=int(np.min(neuron.v_decay)),
        decay_error=decay_error,
        agreement=equal,
        matched=matched,
        voltage_error=voltage_error,
        bits=fit.real.bits,
        step=fit.real.step,
        scale=float(np.median(fit.scale)),
        rounding=fit.rounding,
        saturated=_saturated(problem, best),
        weight_used=_used(layer.weight, arithmetic.WEIGHT_MIN, arithmetic.WEIGHT_MAX),
        bias_used=_used(bias, arithmetic.BIAS_MIN, arithmetic.BIAS_MAX),
        threshold_used=float(threshold.max()) / arithmetic.THRESHOLD_MAX,
        u_used=float(np.abs(best.u).max()) / arithmetic.STATE_LIMIT,
        v_used=_largest_voltage(best) / arithmetic.STATE_LIMIT,
        violations=source.approximated,
    )


def _used(values: Array, low: int, high: int) -> float:
    """The part of [low, high] that values reach, on the side where they come closer to its end."""
    return max(0.0, float(values.min()) / low, float(values.max()) / high)


def _saturated(problem: Problem, best: Run) -> float:
    """Fraction of the weights, recurrent ones included, that are cut."""
    layer, fit = problem.layer, best.fit
    real = fit.real
    cut = [saturates(layer.weight * rows_first(fit.scale, layer.weight) / real.step, real.bits)]
    if layer.recurrent is not None:
        step = real.recurrent_step or real.step
        cut.append(saturates(layer.recurrent * fit.unit[:, None] / step, real.bits))
    return float(np.mean(np.concatenate([c.ravel() for c in cut])))


def _largest_voltage(best: Run) -> float:
    """The largest |v| before a reset, from u, v and the neurons' equation."""
    neuron, v = best.layer.neuron, best.v
    assert isinstance(neuron, CubaLIF)
    like = v[0, 0]
    v_decay, bias = (
        rows_first(np.asarray(x), like) if np.ndim(x) == 1 else np.asarray(x)
        for x in (neuron.v_decay, 0 if best.layer.bias is None else best.layer.bias)
    )
    largest = 0
    before = np.zeros_like(v[:, 0])
    for t in range(v.shape[1]):
        now = arithmetic.decay(before, v_decay) + best.u[:, t] + (bias << arithmetic.STATE_SHIFT)
        largest = max(largest, int(np.abs(now).max()))
        before = v[:, t]
    return float(largest)
