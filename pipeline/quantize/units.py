"""Lowered layers in the hardware's own variables, still real numbers, and what can never fit."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from ...hw_targets import arithmetic
from ...hw_targets.violations import Violation
from ..graph import READOUTS, Stage, stages

Array = NDArray[Any]


class QuantizationError(ValueError):
    """All violations of a network at once, one per line."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = tuple(violations)
        lines = "\n".join(f"  - {violation}" for violation in violations)
        super().__init__(f"the network does not fit the hardware's number ranges:\n{lines}")


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


def hardware_layers(
    lowered: nir.NIRGraph, *, approximate_current_bias: bool = False
) -> list[HardwareLayer]:
    """The layers of a lowered graph; QuantizationError with everything that no scale can mend.

    `approximate_current_bias`: a bias b into neurons with synaptic current, which charges that
    current, becomes w_in b on V, the current it leads to.
    """
    dt = float(lowered.metadata["dt"])
    out: list[HardwareLayer] = []
    violations: list[Violation] = []
    for stage in stages(lowered):
        refused, approximated = list(_check_stage(stage, dt)), list(_current_bias(stage))
        if not approximate_current_bias:
            refused, approximated = refused + approximated, []
        if not refused:
            layer = _layer(stage, dt, tuple(approximated))
            refused = list(_check_layer(layer))
            out.append(layer)
        violations.extend(refused)
    if violations:
        raise QuantizationError(violations)
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


def _uniform(values: Array) -> bool:
    return bool(np.allclose(values, np.asarray(values).flat[0], rtol=1e-9, atol=0))


def _current_bias(stage: Stage) -> Iterator[Violation]:
    back = 0 if stage.recurrent is None else stage.recurrent.bias
    if hasattr(stage.neuron, "tau_syn") and np.any(stage.synapse.bias + back):
        yield Violation(
            stage.name,
            "a bias into a neuron with synaptic current",
            "netx adds biases to v only: use bias=False (and no batch norm) before it, a cell "
            "without synaptic current, or approximate_current_bias",
        )


def _check_stage(stage: Stage, dt: float) -> Iterator[Violation]:
    """What keeps a stage from being a hardware layer at all."""
    name, node = stage.name, stage.neuron
    leak, gain, rest = _membrane(node, dt)
    readout = isinstance(node, READOUTS)
    if not readout and np.any(node.v_reset != rest):
        yield Violation(
            name, "v_reset differs from v_leak", "netx starts and resets at one voltage"
        )
    if np.any(gain <= 0):
        yield Violation(name, "dt / tau or r is not positive", "> 0")
    if readout and not (_uniform(gain) and _uniform(rest)):
        yield Violation(
            name, "readout neurons with different tau, r or v_leak", "one value for all"
        )
    decays = [("dt / tau_mem", leak)]
    if hasattr(node, "tau_syn"):
        decays.append(("dt / tau_syn", dt / node.tau_syn))
        jump = np.broadcast_to(node.w_in * dt / node.tau_syn, leak.shape)
        if not all(_uniform(row) for row in jump):
            yield Violation(
                name, "dt / tau_syn * w_in differs within a channel", "one value per channel"
            )
    for what, decay in decays:
        if decay.max() > 1:
            yield Violation(name, f"{what} = {decay.max():.4g}", "at most 1: lower dt")
        small = decay[(decay > 0) & (np.round(decay * arithmetic.DECAY_ONE) == 0)]
        if small.size:
            yield Violation(
                name,
                f"{what} = {small.min():.2g} rounds to no decay at all",
                "at least 1/8192: 12-bit decays",
            )
    if stage.delay is not None:
        yield from _check_delay(stage, stage.delay)


def _check_delay(stage: Stage, delay: NDArray[np.int64]) -> Iterator[Violation]:
    if isinstance(stage.synapse, nir.Conv2d):
        yield Violation(stage.name, "a delayed convolution", "netx delays dense layers only")
    if stage.recurrent is not None:
        yield Violation(
            stage.name, "delays of a recurrent layer", "none: lava-dl scales such weights wrongly"
        )
    if delay.max() > arithmetic.DELAY_MAX or delay.min() < 0:
        yield Violation(
            stage.name,
            f"delays of {delay.min()} to {delay.max()} steps",
            f"0 to {arithmetic.DELAY_MAX}: shorten them, or raise dt",
        )


def _check_layer(layer: HardwareLayer) -> Iterator[Violation]:
    """What no scale can mend."""
    values = [x for x in (layer.weight, layer.recurrent, layer.bias) if x is not None]
    if not all(np.isfinite(x).all() for x in values):
        yield Violation(layer.name, "weights or biases are not finite", "finite numbers")
    elif not layer.weight.any():
        yield Violation(layer.name, "all weights are 0", "lava-dl cannot load such a layer")
    if layer.threshold is not None and not layer.threshold.min() >= 0:
        yield Violation(
            layer.name, f"threshold {layer.threshold.min():.4g} is negative", "at least 0"
        )
