"""From a float NIR graph to the integers of a `Network`, with what every layer lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ..hw_targets import arithmetic
from ..hw_targets.network import CubaLIF, Flatten, Input, Layer, Network, Recipe
from .execute import FloatTrace, execute
from .fitting import Problem, Run, rows_first, survives_lava
from .hardware_units import HardwareLayer, QuantizationError, Violation, hardware_layers
from .lower import lower
from .rounding import RealLayer, saturates
from .search import search

__all__ = [
    "LayerLoss",
    "Method",
    "QuantizationError",
    "Quantized",
    "RealLayer",
    "Task",
    "Violation",
    "agree",
    "prepare",
    "quantize",
]

Array = NDArray[Any]
Method: TypeAlias = Literal["search", "max"]

_SMALLER = (1.0, *np.linspace(0.99, 0.5, 16))
"""Parts of the largest scale that "max" takes where Lava would change the weights at the largest."""

BITS = range(2, 9)
"""Bits that weights can have."""


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


@dataclass(frozen=True)
class Quantized:
    """An integer network with the loss of each of its layers.

    `real`: for each layer with neurons, in order, its numbers before rounding (weights whose errors
    were compensated are whole already).
    """

    network: Network
    losses: tuple[LayerLoss, ...]
    real: tuple[RealLayer, ...] = ()


def quantize(
    graph: nir.NIRGraph,
    calibration: NDArray[np.int32],
    recipe: Recipe,
    *,
    bits: int | Sequence[int] = 8,
    method: Method = "search",
    per_channel: bool = False,
    approximate_current_bias: bool = False,
    approximate_reset: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Quantized:
    r"""The integer network that runs `graph` on Loihi-style hardware.

    `calibration`: integer inputs (sample, time, *input shape) on the grid of `recipe.levels`.
    With the state in units in which input enters with slope 1 (V = v / (r dt / tau)), layer l gets
    one scale s and from it::

        weight    = step round(s w / step)           step 2^(9 - bits), in [-256, 256)
        unit      = s * levels (first layer), s (others)
        recurrent = step' round(unit * r / step')
        bias      = round(unit * b)                  13 bit
        threshold = round(unit * v_th / (r dt / tau_mem))   17 bit
        i_decay   = round(4096 dt / tau_syn)         4096 without synaptic current
        v_decay   = round(4096 dt / tau_mem)         0 for IF neurons

    Low bits mean coarse weights, not small ones: 8-bit weights are the even numbers of
    [-256, 254], 2-bit ones -256, -128, 0 and 128, so that bias and threshold keep fine units. Where
    bias, threshold or voltage, or the other of two matrices, hold s down, `step` is a smaller power
    of two. `bits`: 2 to 8, for all layers or one per layer with neurons.

    `method` "max" takes these formulas with the largest s at which nothing is cut: the naive
    baseline. "search" (see `search.search`) judges, layer by layer, on the integer spikes that
    really arrive from the layers before, by the spikes that match the float network's, then by the
    error of V: scales (weights may be cut where that agrees better: `LayerLoss.saturated` says
    how many), rounding with the errors of weights compensated by one another instead of to the
    nearest, weights re-fitted to the messages that really arrive, and bias, threshold and decays
    together. Hardware truncates u and v toward zero in each step, a loss that grows as leaks get
    slow; it is part of what is judged, so decays, threshold and bias make up for it.

    `per_channel`: a scale, and so a threshold, for each channel of a convolution or neuron of a
    dense layer. Exact in real numbers: a spiking neuron answers the same if its weights, bias and
    threshold are scaled together. Not the default, as one threshold per layer is what netx files of
    lava-dl have, and chips share it among the neurons of a core. Equalization between layers,
    which moves a factor from one layer's outputs to the next one's inputs, has nothing to move here:
    a binary spike has no size. Readouts keep one scale, so that their voltages can be compared.

    A readout (LI) becomes a neuron with the largest threshold, whose voltage is read; its s keeps
    `fitting.HEADROOM`.

    Biases: netx adds them to v, and in every layer from step 1. `recipe` must therefore reset with
    offset 1 and an interval of at least its steps: layer i then starts from zero in the very step in
    which data reaches it, so that bias and data begin together as they do in the float network.
    A bias into a neuron with synaptic current (CubaLIF) charges that current, which netx cannot do:
    refused, unless `approximate_current_bias` puts its steady state w_in b on v.
    `approximate_reset`: see `lower`; agreement is then that with the resets of `graph`.

    Raises LoweringError, QuantizationError (all violations at once).
    """
    task = prepare(
        graph,
        calibration,
        recipe,
        method=method,
        per_channel=per_channel,
        approximate_current_bias=approximate_current_bias,
        approximate_reset=approximate_reset,
    )
    runs: list[Run] = []
    message = task.message
    for index, (layer, layer_bits) in enumerate(
        zip(task.layers, task.bits_of_layers(bits), strict=True)
    ):
        progress(layer.name)
        runs.append(task.run(index, layer_bits, message))
        message = runs[-1].spikes
    return task.quantized(runs)


@dataclass(frozen=True)
class Task:
    """A network to quantize: its layers, what reaches the first, and what each should answer."""

    layers: tuple[HardwareLayer, ...]
    message: Array
    target: FloatTrace
    recipe: Recipe
    method: Method
    per_channel: bool

    def bits_of_layers(self, bits: int | Sequence[int]) -> tuple[int, ...]:
        """One number for each layer, checked."""
        count = len(self.layers)
        per_layer = (bits,) * count if isinstance(bits, int) else tuple(bits)
        if len(per_layer) != count:
            raise ValueError(
                f"bits has {len(per_layer)} entries; the network has {count} layers with neurons."
            )
        if any(b not in BITS for b in per_layer):
            raise ValueError(f"bits = {bits}; weights have {min(BITS)} to {max(BITS)} bits.")
        return per_layer

    def problem(self, index: int, bits: int, message: Array) -> Problem:
        """Layer `index` when `message` reaches it."""
        layer = self.layers[index]
        return Problem(
            layer,
            bits,
            1 if index else self.recipe.levels,
            message,
            self.spikes(index - 1) if index else None,
            self.spikes(index),
            layer.voltage(self._shaped(self.target.voltage, index)).astype(np.float32),
            self.recipe,
        )

    def run(self, index: int, bits: int, message: Array) -> Run:
        """The integers that the method finds for it, with their answer."""
        problem = self.problem(index, bits, message)
        if self.method == "search":
            return search(problem, per_channel=self.per_channel)
        start = problem.start(per_channel=self.per_channel)
        runs = (problem.run(problem.scaled(start.scale * f, start.real)) for f in _SMALLER)
        first = next(runs)
        if survives_lava(first.layer):
            return first
        return next((run for run in runs if survives_lava(run.layer)), first)

    def spikes(self, index: int) -> Array:
        """Of layer `index` in the float network, (sample, time, *layer shape)."""
        return self._shaped(self.target.spikes, index)

    def _shaped(self, arrays: Sequence[Array], index: int) -> Array:
        return arrays[index].reshape(*self.message.shape[:2], *self.layers[index].shape)

    def quantized(self, runs: Sequence[Run]) -> Quantized:
        """The network of all layers; QuantizationError with what does not fit in any of them."""
        layers: list[Layer] = [Input(self.message.shape[2:])]
        losses: list[LayerLoss] = []
        violations: list[Violation] = []
        message = self.message
        for index, run in enumerate(runs):
            problem = self.problem(index, run.fit.real.bits, message)
            violations.extend(_check(problem, run))
            losses.append(_loss(problem, run))
            layers.extend([Flatten()] if problem.layer.flatten else [])
            layers.append(run.layer)
            message = run.spikes
        if violations:
            raise QuantizationError(violations)
        network = Network(layers, self.recipe)
        return Quantized(network, tuple(losses), tuple(run.fit.real for run in runs))


def prepare(
    graph: nir.NIRGraph,
    calibration: NDArray[np.int32],
    recipe: Recipe,
    *,
    method: Method = "search",
    per_channel: bool = False,
    approximate_current_bias: bool = False,
    approximate_reset: bool = False,
) -> Task:
    """What `quantize` does before it looks at a layer; arguments and errors as there."""
    interval = recipe.reset_interval
    if interval is None or interval < recipe.steps or recipe.reset_offset != 1:
        raise ValueError(
            "the recipe needs reset_interval >= steps and reset_offset = 1, so that biases start "
            "with the data (see `quantize`)."
        )
    lowered = lower(graph, approximate_reset=approximate_reset)
    layers = hardware_layers(lowered, approximate_current_bias=approximate_current_bias)
    target = execute(graph if approximate_reset else lowered, calibration / recipe.levels)
    shape = tuple(int(n) for n in next(iter(lowered.inputs.values())).input_type["input"])
    message = calibration.reshape(*calibration.shape[:2], *shape)
    return Task(tuple(layers), message, target, recipe, method, per_channel)


def agree(a: Array, b: Array) -> tuple[float, float]:
    """Fraction of equal entries of two spike arrays, and 2 |a and b| / (|a| + |b|) (1 if silent)."""
    equal = float(np.mean(a == b))
    total = np.count_nonzero(a) + np.count_nonzero(b)
    both = np.count_nonzero((a != 0) & (b != 0))
    return equal, 2 * both / total if total else 1.0


def _check(problem: Problem, best: Run) -> Iterator[Violation]:
    """What does not fit in the best that was found."""
    name, scale, neuron = problem.layer.name, float(best.fit.scale.min()), best.layer.neuron
    assert isinstance(neuron, CubaLIF)
    if not best.layer.weight.any():
        yield Violation(
            name,
            f"all weights round to 0 at scale {scale:.3g}",
            "bias, threshold or voltages are too large beside the weights",
        )
    elif not survives_lava(best.layer):
        yield Violation(
            name,
            "Lava's own re-scaling changes the weights at every scale tried",
            "at least one positive weight",
        )
    threshold = problem.layer.threshold
    if threshold is not None and threshold.min() > 0 and np.any(np.equal(neuron.threshold, 0)):
        yield Violation(name, f"threshold rounds to 0 at scale {scale:.3g}", "at least 1")
    if threshold is None and best.spikes.any():
        yield Violation(
            name,
            "the readout's voltage reaches the largest threshold on the calibration data",
            f"{arithmetic.THRESHOLD_MAX} << 6: its weights are too small beside its voltage",
        )
    overflow = best.overflow
    if overflow:
        yield Violation(
            name,
            f"{overflow.u_wraps} currents wrap, {overflow.v_clips} voltages clip and "
            f"{overflow.sum_wraps} sums wrap on the calibration data",
            "none",
        )


def _loss(problem: Problem, best: Run) -> LayerLoss:
    source, layer, fit = problem.layer, best.layer, best.fit
    neuron = layer.neuron
    assert isinstance(neuron, CubaLIF)
    scaled = source.weight * rows_first(fit.scale, source.weight)
    error = (layer.weight - scaled) / rows_first(fit.scale, scaled)
    bias = layer.bias if layer.bias is not None else np.zeros(1, int)
    threshold = np.asarray(neuron.threshold)
    threshold_error = 0.0
    if source.threshold is not None:
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
    return max(float(values.min()) / low, float(values.max()) / high)


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
