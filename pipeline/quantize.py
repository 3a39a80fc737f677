"""From a float NIR chain to the integers of a `Network`: one scale per layer, one rounding."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ..hw_targets import arithmetic
from ..hw_targets.engine import simulate
from ..hw_targets.network import Conv, CubaLIF, Dense, Flatten, Input, Layer, Network, Recipe
from ..hw_targets.trace import Trace
from .execute import FloatTrace, execute
from .graph import READOUTS, Stage, stages
from .lower import lower

Array = NDArray[Any]

CANDIDATES = 16
"""Scales tried per layer, from the largest that fits down to half of it."""
HEADROOM = 2.0
"""Voltages on the calibration data stay this factor below the 24-bit clip."""


@dataclass(frozen=True)
class Violation:
    """One number that the target cannot hold."""

    where: str
    what: str
    limit: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} (limit: {self.limit})"


class QuantizationError(ValueError):
    """All violations of a network at once, one per line."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = tuple(violations)
        lines = "\n".join(f"  - {violation}" for violation in violations)
        super().__init__(f"the network does not fit the hardware's number ranges:\n{lines}")


@dataclass(frozen=True)
class LayerLoss:
    """What rounding one layer cost, on the calibration data.

    `unit`: integers per 1.0 of the layer's float current; `weight_range`: the integers used (of
    -256 .. 254); `weight_error`: rms rounding error over rms weight; `threshold`, `i_decay`, `v_decay`:
    their integers (smallest over the neurons); `threshold_error`, `decay_error`: largest
    relative error of the threshold, largest absolute error of the decays. `agreement`: fraction of
    neuron-steps with the same spike as the float layer, `matched`: 2 both / (one + other) spikes;
    for a readout without spikes instead `voltage_error`: rms error over rms voltage.
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


@dataclass(frozen=True)
class RealLayer:
    """One layer's numbers before rounding, in the integers' own units: where fine-tuning starts.

    The stored weights are `step` times whole numbers within [-2^(bits-1), 2^(bits-1) - 1]; bias and
    threshold are rounded to whole numbers, decays to whole parts of 4096. `bias`, `threshold` and
    `recurrent` are None where the layer has none (a readout has the largest threshold, fixed).
    """

    weight: Array
    bias: Array | None
    threshold: Array | None
    i_decay: Array
    v_decay: Array
    recurrent: Array | None = None
    bits: int = 8
    step: int = 2


@dataclass(frozen=True)
class Quantized:
    """An integer network with the loss of each of its layers.

    `real`: for each layer with neurons, in order, its numbers before rounding.
    """

    network: Network
    losses: tuple[LayerLoss, ...]
    real: tuple[RealLayer, ...] = ()


@dataclass(frozen=True)
class _Stage:
    """One lowered layer in the hardware's own variables: V = v / (a_m r), unit slope of input."""

    name: str
    node: nir.NIRNode
    flatten: bool
    weight: Array
    recurrent: Array | None
    delay: NDArray[np.int64] | None
    bias: Array
    i_decay: Array
    v_decay: Array
    threshold: Array | None  # None: a readout that never spikes
    gain: Array  # v = rest + gain * V, so the float voltage can be compared
    rest: Array

    @property
    def spiking(self) -> bool:
        return self.threshold is not None


def quantize(
    graph: nir.NIRGraph,
    calibration: NDArray[np.int32],
    recipe: Recipe,
    *,
    bits: int = 8,
    approximate_current_bias: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Quantized:
    r"""The integer network that runs `graph` on Loihi-style hardware.

    `calibration`: integer inputs (sample, time, *input shape) on the grid of `recipe.levels`.
    With the state in units in which input enters with slope 1 (V = v / (r dt / tau)), layer l gets
    one scale s and from it, each rounded once::

        weight    = step round(s w / step)           `bits`-bit mantissa, step = 2^(9 - bits)
        unit      = s * levels (first layer), s (others)
        bias      = round(unit * b)                  13 bit
        threshold = round(unit * v_th / (r dt / tau_mem))   17 bit
        i_decay   = round(4096 dt / tau_syn)         4096 without synaptic current
        v_decay   = round(4096 dt / tau_mem)         0 for IF neurons

    s is chosen among `CANDIDATES`, none of which clips anything, by the agreement of the layer's
    spikes with the float network's, its input being the integer spikes of the layer before. A
    readout (LI) becomes a neuron with the largest threshold, whose voltage is read; its s keeps
    `HEADROOM`.

    Biases: netx adds them to v, and in every layer from step 1. `recipe` must therefore reset with
    offset 1 and an interval of at least its steps: layer i then starts from zero in the very step in
    which data reaches it, so that bias and data begin together as they do in the float network.
    A bias into a neuron with synaptic current (CubaLIF) charges that current, which netx cannot do:
    refused, unless `approximate_current_bias` puts its steady state b / (dt / tau_syn) on v.

    Raises LoweringError, QuantizationError (all violations at once).
    """
    interval = recipe.reset_interval
    if interval is None or interval < recipe.steps or recipe.reset_offset != 1:
        raise ValueError(
            "the recipe needs reset_interval >= steps and reset_offset = 1, so that biases start "
            "with the data (see `quantize`)."
        )
    if bits not in range(2, 9):
        raise ValueError(f"bits = {bits}; weights have 2 to 8 bits.")
    lowered = lower(graph)
    hardware = _stages(lowered, approximate_current_bias)
    target = execute(lowered, calibration / recipe.levels)
    shape = tuple(int(n) for n in next(iter(lowered.inputs.values())).input_type["input"])
    layers: list[Layer] = [Input(shape)]
    losses, real = [], []
    message: NDArray[Any] = calibration
    for index, stage in enumerate(hardware):
        progress(stage.name)
        per_one = recipe.levels if index == 0 else 1
        best = _search(stage, index, target, message, per_one, recipe, bits)
        if stage.flatten:
            layers.append(Flatten())
        layers.append(best.layer)
        losses.append(_loss(stage, best))
        real.append(_real(stage, best, bits))
        assert best.trace.spikes is not None
        message = best.trace.spikes[0]
    return Quantized(Network(layers, recipe), tuple(losses), tuple(real))


def _stages(graph: nir.NIRGraph, approximate: bool) -> list[_Stage]:
    dt = float(graph.metadata["dt"])
    out: list[_Stage] = []
    violations: list[Violation] = []
    for found in stages(graph):
        try:
            stage = _stage(found, dt, approximate)
        except QuantizationError as error:
            violations.extend(error.violations)
        else:
            out.append(stage)
            violations.extend(_check(stage))
    if violations:
        raise QuantizationError(violations)
    return out


def _stage(found: Stage, dt: float, approximate: bool) -> _Stage:
    name, synapse = found.name, found.synapse
    node: Any = found.neuron
    leaky = not isinstance(node, nir.IF)
    leak: Array = np.zeros_like(node.r)
    if leaky:
        leak = dt / (node.tau if isinstance(node, (nir.LIF, nir.LI)) else node.tau_mem)
    gain = leak * node.r if leaky else dt * node.r
    weight, bias = np.asarray(synapse.weight, float), np.asarray(synapse.bias, float)
    recurrent = None
    if found.recurrent is not None:
        recurrent = np.asarray(found.recurrent.weight, float)
        bias = bias + found.recurrent.bias
    i_decay = np.ones_like(leak)
    reset = None if isinstance(node, READOUTS) else node.v_reset
    rest: Array = node.v_leak if leaky else node.v_reset
    violations = []
    if reset is not None and np.any(reset != rest):
        violations.append(
            Violation(name, "v_reset differs from v_leak", "netx starts and resets at one voltage")
        )
    if np.any(gain <= 0):
        violations.append(Violation(name, "dt / tau or r is not positive", "> 0"))
    if reset is None and not (_uniform(gain) and _uniform(rest)):
        violations.append(
            Violation(name, "readout neurons with different tau, r or v_leak", "one value for all")
        )
    if isinstance(node, (nir.CubaLIF, nir.CubaLI)):
        i_decay = dt / node.tau_syn
        jump = np.asarray(i_decay * node.w_in)  # current per unit of input
        if not _uniform(jump):
            violations.append(
                Violation(name, "dt / tau_syn * w_in differs between neurons", "one value for all")
            )
        if bias.any() and not _uniform(i_decay):
            violations.append(
                Violation(name, "tau_syn differs between neurons with bias", "one value for all")
            )
        weight, bias = weight * jump.flat[0], bias * jump.flat[0]
        recurrent = None if recurrent is None else recurrent * jump.flat[0]
        if bias.any() and not approximate:
            violations.append(
                Violation(
                    name,
                    "a bias into a neuron with synaptic current",
                    "netx adds biases to v only: use bias=False (and no batch norm) before it, a cell "
                    "without synaptic current, or approximate_current_bias",
                )
            )
        bias = bias / i_decay.flat[0]
    violations.extend(_check_reset_kind(name, node))
    violations.extend(_check_delay(found))
    if violations:
        raise QuantizationError(violations)
    threshold = None if reset is None else (node.v_threshold - rest) / gain
    return _Stage(
        name,
        synapse,
        found.flatten,
        weight,
        recurrent,
        found.delay,
        bias,
        i_decay,
        leak,
        threshold,
        gain,
        rest,
    )


def _check_reset_kind(name: str, node: nir.NIRNode) -> Iterator[Violation]:
    """Spikes of netx set the voltage to its rest, in their own step."""
    kind = node.metadata.get("reset", "zero")
    if kind not in ("zero", b"zero"):
        yield Violation(
            name, "spikes subtract the threshold", "netx resets to zero: train with reset to zero"
        )
    if int(node.metadata.get("reset_delay", 0)):
        yield Violation(
            name, "spikes reset in the next step", "netx resets in the step of the spike"
        )


def _check_delay(stage: Stage) -> Iterator[Violation]:
    """Only dense layers without recurrence delay their messages, by up to 62 steps."""
    if stage.delay is None:
        return
    if isinstance(stage.synapse, nir.Conv2d):
        yield Violation(stage.name, "a delayed convolution", "netx delays dense layers only")
    if stage.recurrent is not None:
        yield Violation(
            stage.name, "delays of a recurrent layer", "lava-dl scales such weights wrongly"
        )
    if stage.delay.max() > arithmetic.DELAY_MAX or stage.delay.min() < 0:
        yield Violation(
            stage.name,
            f"delays of {stage.delay.min()} to {stage.delay.max()} steps",
            f"0 to {arithmetic.DELAY_MAX}: shorten them, or raise dt",
        )


def _uniform(values: Array) -> bool:
    return bool(np.allclose(values, np.asarray(values).flat[0], rtol=1e-9, atol=0))


def _check(stage: _Stage) -> Iterator[Violation]:
    """What no scale can mend."""
    matrices = [m for m in (stage.weight, stage.recurrent) if m is not None]
    if not all(np.isfinite(values).all() for values in (*matrices, stage.bias)):
        yield Violation(stage.name, "weights or biases are not finite", "finite numbers")
    elif not stage.weight.any():
        yield Violation(stage.name, "all weights are 0", "lava-dl cannot load such a layer")
    for what, decay in (("dt / tau_syn", stage.i_decay), ("dt / tau_mem", stage.v_decay)):
        if decay.max() > 1:
            yield Violation(stage.name, f"{what} = {decay.max():.4g}", "at most 1: lower dt")
        small = decay[(decay > 0) & (np.round(decay * arithmetic.DECAY_ONE) == 0)]
        if small.size:
            yield Violation(
                stage.name,
                f"{what} = {small.min():.2g} rounds to no decay at all",
                "at least 1/8192: 12-bit decays",
            )
    if stage.threshold is not None and stage.threshold.min() < 0:
        yield Violation(
            stage.name, f"threshold {stage.threshold.min():.4g} is negative", "at least 0"
        )


@dataclass(frozen=True)
class _Candidate:
    layer: Dense | Conv
    scale: float
    unit: float
    trace: Trace  # aligned, spikes and v of this layer alone
    score: tuple[float, ...]  # larger is better
    agreement: float | None
    matched: float | None
    voltage_error: float | None


def _largest_scale(stage: _Stage, voltage: float, per_one: int, bits: int) -> float:
    """The scale at which the first of weights, bias, threshold and voltage reaches its limit."""
    step = _step(bits)
    matrices = [stage.weight, *([] if stage.recurrent is None else [stage.recurrent * per_one])]
    high, low = max(m.max() for m in matrices), min(m.min() for m in matrices)
    with np.errstate(divide="ignore"):
        limits = [
            np.divide(-arithmetic.WEIGHT_MIN - step, max(high, 0.0)),
            np.divide(-arithmetic.WEIGHT_MIN, max(-low, 0.0)),
            np.divide(arithmetic.BIAS_MAX / per_one, np.abs(stage.bias).max(initial=0.0)),
            np.divide(arithmetic.THRESHOLD_MAX / HEADROOM / per_one, voltage),
        ]
        if stage.threshold is not None:
            limits.append(np.divide(arithmetic.THRESHOLD_MAX / per_one, stage.threshold.max()))
    return float(min(limits))


def _search(
    stage: _Stage,
    index: int,
    target: FloatTrace,
    message: NDArray[Any],
    per_one: int,
    recipe: Recipe,
    bits: int,
) -> _Candidate:
    voltage = (target.voltage[index] - stage.rest) / stage.gain
    top = _largest_scale(stage, float(np.abs(voltage).max()), per_one, bits)
    scales = top * np.linspace(1, 0.5, CANDIDATES)
    found = [
        _candidate(stage, scale, per_one, target.spikes[index], voltage, message, recipe, bits)
        for scale in scales
    ]
    kept = [c for c in found if _survives_lava(c.layer)]
    if not kept:
        raise QuantizationError(
            [
                Violation(
                    stage.name,
                    "Lava's own re-scaling changes the weights at every scale tried",
                    "at least one positive weight",
                )
            ]
        )
    best = max(kept, key=lambda c: c.score)
    problems = list(_check_integers(stage, best))
    if problems:
        raise QuantizationError(problems)
    return best


def _survives_lava(layer: Dense | Conv) -> bool:
    """Whether Lava applies dense matrices as they are stored (see `synapse_formats`)."""
    if isinstance(layer, Conv):
        return True
    parts = [m for m in (layer.weight, layer.recurrent) if m is not None]
    formats = arithmetic.synapse_formats(*parts)
    return all(
        form.whole and bool((form.weight == part).all())
        for form, part in zip(formats, parts, strict=True)
    )


def _check_integers(stage: _Stage, best: _Candidate) -> Iterator[Violation]:
    if not best.layer.weight.any():
        yield Violation(
            stage.name,
            f"all weights round to 0 at scale {best.scale:.3g}",
            "bias, threshold or voltages are too large beside the weights",
        )
    neuron = best.layer.neuron
    assert isinstance(neuron, CubaLIF)
    exact = np.zeros(1) if stage.threshold is None else stage.threshold
    if exact.min() > 0 and np.any(neuron.threshold == 0):
        yield Violation(
            stage.name, f"threshold rounds to 0 at scale {best.scale:.3g}", "at least 1"
        )
    assert best.trace.spikes is not None
    if not stage.spiking and best.trace.spikes[0].any():
        yield Violation(
            stage.name,
            "the readout's voltage reaches the largest threshold on the calibration data",
            f"{arithmetic.THRESHOLD_MAX} << 6: its weights are too small beside its voltage",
        )
    assert best.trace.overflow is not None
    overflow = best.trace.overflow[0]
    if overflow:
        yield Violation(
            stage.name,
            f"{overflow.u_wraps} currents wrap, {overflow.v_clips} voltages clip and "
            f"{overflow.sum_wraps} sums wrap on the calibration data",
            "none",
        )


def _candidate(
    stage: _Stage,
    scale: float,
    per_one: int,
    spikes: Array,
    voltage: Array,
    message: NDArray[Any],
    recipe: Recipe,
    bits: int,
) -> _Candidate:
    layer = _integers(stage, scale, scale * per_one, bits)
    alone = Network([Input(message.shape[2:]), *([Flatten()] if stage.flatten else []), layer])
    trace = simulate(
        alone,
        message,
        recipe.steps + 1,
        reset_interval=recipe.reset_interval,
        reset_offset=1,
        record=("spikes", "v"),
    ).aligned(alone, recipe.steps)
    assert trace.spikes is not None
    assert trace.v is not None
    got = trace.spikes[0]
    unit = scale * per_one
    if stage.spiking:
        agreement, matched = agree(spikes, got)
        return _Candidate(layer, scale, unit, trace, (agreement, scale), agreement, matched, None)
    error = trace.v[0] / (unit * (1 << arithmetic.STATE_SHIFT)) - voltage
    relative = float(np.sqrt(np.mean(error**2) / max(np.mean(voltage**2), 1e-30)))
    score = (-float(got.sum()), -relative, scale)
    return _Candidate(layer, scale, unit, trace, score, None, None, relative)


def agree(a: Array, b: Array) -> tuple[float, float]:
    """Fraction of equal entries of two spike arrays, and 2 |a and b| / (|a| + |b|) (1 if silent)."""
    equal = float(np.mean(a == b))
    total = np.count_nonzero(a) + np.count_nonzero(b)
    both = np.count_nonzero((a != 0) & (b != 0))
    return equal, 2 * both / total if total else 1.0


def _step(bits: int) -> int:
    """The smallest difference of stored weights: `bits`-bit whole numbers fill [-256, 256)."""
    return 1 << (9 - bits)


def _integers(stage: _Stage, scale: float, unit: float, bits: int) -> Dense | Conv:
    step = _step(bits)
    weight = step * np.round(stage.weight * scale / step)
    bias = np.round(stage.bias * unit) if stage.bias.any() else None
    if stage.threshold is None:
        threshold: Any = arithmetic.THRESHOLD_MAX
    else:
        threshold = np.round(stage.threshold * unit)
    neuron = CubaLIF(
        _narrow(np.round(stage.i_decay * arithmetic.DECAY_ONE)),
        _narrow(np.round(stage.v_decay * arithmetic.DECAY_ONE)),
        _narrow(threshold),
    )
    if isinstance(stage.node, nir.Affine):
        recurrent = stage.recurrent
        if recurrent is not None:
            recurrent = step * np.round(recurrent * unit / step)
        return Dense(weight, bias, neuron, recurrent, _delay(stage))
    node = stage.node
    return Conv(weight, bias, neuron, node.stride, node.padding, node.dilation, node.groups)


def _delay(stage: _Stage) -> Any:
    """One number, one per output or per input where that says it all, else one per synapse."""
    if stage.delay is None or not stage.delay.any():
        return None
    delay = np.broadcast_to(stage.delay, stage.weight.shape)
    out, into = delay.shape
    if (delay == delay[0, 0]).all():
        return int(delay[0, 0])
    if (delay == delay[:, :1]).all():
        return delay[:, 0]
    if (delay == delay[:1]).all() and out != into:  # a vector of out = in counts per output
        return delay[0]
    return delay


def _real(stage: _Stage, best: _Candidate, bits: int) -> RealLayer:
    return RealLayer(
        stage.weight * best.scale,
        stage.bias * best.unit if stage.bias.any() else None,
        None if stage.threshold is None else stage.threshold * best.unit,
        stage.i_decay * arithmetic.DECAY_ONE,
        stage.v_decay * arithmetic.DECAY_ONE,
        None if stage.recurrent is None else stage.recurrent * best.unit,
        bits,
        _step(bits),
    )


def _narrow(values: Any) -> Any:
    """One number where all neurons share it, one per channel where channels do."""
    array = np.asarray(values)
    if (array == array.flat[0]).all():
        return int(array.flat[0])
    if array.ndim == 3 and (array == array[:, :1, :1]).all():
        return array[:, 0, 0]
    return array


def _loss(stage: _Stage, best: _Candidate) -> LayerLoss:
    layer = best.layer
    neuron = layer.neuron
    assert isinstance(neuron, CubaLIF)
    error = layer.weight / best.scale - stage.weight
    bias = layer.bias if layer.bias is not None else np.zeros(1, int)
    threshold_error = 0.0
    if stage.threshold is not None:
        exact = stage.threshold * best.unit
        rounded = np.round(exact)
        threshold_error = float(np.max(np.abs(rounded - exact) / np.maximum(exact, 1e-30)))
    decays = [
        np.abs(np.round(d * arithmetic.DECAY_ONE) / arithmetic.DECAY_ONE - d).max()
        for d in (stage.i_decay, stage.v_decay)
    ]
    return LayerLoss(
        stage.name,
        best.unit,
        (int(layer.weight.min()), int(layer.weight.max())),
        float(np.sqrt(np.mean(error**2) / np.mean(stage.weight**2))),
        (int(bias.min()), int(bias.max())),
        int(np.min(neuron.threshold)),
        threshold_error,
        int(np.min(neuron.i_decay)),
        int(np.min(neuron.v_decay)),
        float(max(decays)),
        best.agreement,
        best.matched,
        best.voltage_error,
    )
