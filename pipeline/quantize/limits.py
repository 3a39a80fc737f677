"""What integers of a chip cannot express, layer by layer."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import nir
import numpy as np
from numpy.typing import NDArray

from ...hw_targets.chips.chip import Violation
from ...hw_targets.network import arithmetic
from ..float.cell import Array, Cell, cell_of
from ..float.neuron import euler
from ..graph import READOUTS, Stage, stages


class QuantizationError(ValueError):
    """All violations of a network at once, one per line."""

    def __init__(self, violations: list[Violation]) -> None:
        self.violations = tuple(violations)
        lines = "\n".join(f"  - {violation}" for violation in violations)
        super().__init__(f"the network does not fit the hardware's number ranges:\n{lines}")


def hardware_layers(lowered: nir.NIRGraph, *, approximate_current_bias: bool = False) -> list[Cell]:
    """The layers of a lowered graph; QuantizationError with everything that no scale can mend.

    `approximate_current_bias`: a bias b into neurons with synaptic current, which charges that
    current, becomes w_in b on V, the current it leads to.
    """
    dt = float(lowered.metadata["dt"])
    out: list[Cell] = []
    violations: list[Violation] = []
    for stage in stages(lowered):
        refused, approximated = list(_check_stage(stage, dt)), list(_current_bias(stage))
        if not approximate_current_bias:
            refused, approximated = refused + approximated, []
        if not refused:
            layer = cell_of(stage, dt, steady_bias=approximate_current_bias)
            layer = replace(layer, approximated=tuple(approximated))
            refused = list(_check_layer(layer))
            out.append(layer)
        violations.extend(refused)
    if violations:
        raise QuantizationError(violations)
    return out


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
    step = euler(name, node, dt)
    readout = isinstance(node, READOUTS)
    if not readout and np.any(node.v_reset != step.rest):
        yield Violation(
            name, "v_reset differs from v_leak", "netx starts and resets at one voltage"
        )
    if np.any(step.gain <= 0):
        yield Violation(name, "dt / tau or r is not positive", "> 0")
    if readout and not (_uniform(step.gain) and _uniform(step.rest)):
        yield Violation(
            name, "readout neurons with different tau, r or v_leak", "one value for all"
        )
    decays = [("dt / tau_mem", step.leak)]
    if hasattr(node, "tau_syn"):
        decays.append(("dt / tau_syn", step.i_decay))
        if not all(_uniform(row) for row in step.jump):
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


def _check_layer(layer: Cell) -> Iterator[Violation]:
    """What no scale can mend."""
    values = [x for x in (layer.weight, layer.recurrent, layer.bias) if x is not None]
    if not all(np.isfinite(x).all() for x in values):
        yield Violation(layer.name, "weights or biases are not finite", "finite numbers")
    elif not layer.weight.any():
        yield Violation(layer.name, "all weights are 0", "lava-dl cannot load such a layer")
    if not layer.threshold.min() >= 0:
        yield Violation(
            layer.name, f"threshold {layer.threshold.min():.4g} is negative", "at least 0"
        )
