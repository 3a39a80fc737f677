"""From a float NIR graph to the integers of a `Network`, with what every layer lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ...hw_targets.arrays import Array
from ...hw_targets.chips.chip import Violation
from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Flatten, Input, Layer
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF
from ...hw_targets.network.recipe import Recipe
from ..float.cell import Cell
from ..float.execute import FloatTrace, execute
from ..lower import lower
from .fitting import Problem, Run, survives_lava
from .limits import QuantizationError, hardware_layers
from .loss import LayerLoss, loss_of
from .rounding import RealLayer
from .search import search

Method: TypeAlias = Literal["search", "max"]

_SMALLER = (1.0, *np.linspace(0.99, 0.5, 16))
"""Parts of the largest scale that "max" takes where Lava would change the weights at the largest."""

BITS = range(2, 9)
"""Bits that weights can have."""


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

    `calibration`: integer inputs (sample, time, *input shape) on the grid of `recipe.coding.levels`.
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

    layers: tuple[Cell, ...]
    message: Array
    target: FloatTrace
    recipe: Recipe
    method: Method
    per_channel: bool

    def bits_of_layers(self, bits: int | Sequence[int]) -> tuple[int, ...]:
        """The bits of each layer. Raises ValueError for another number of them, or what is not 2 to 8."""
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
            1 if index else self.recipe.coding.levels,
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
        """The spikes of layer `index` in the float network, (sample, time, *layer shape)."""
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
            losses.append(loss_of(problem, run))
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
    if interval is None or interval < recipe.coding.steps or recipe.reset_offset != 1:
        raise ValueError(
            "the recipe needs reset_interval >= steps and reset_offset = 1, so that biases start "
            "with the data (see `quantize`)."
        )
    lowered = lower(graph, approximate_reset=approximate_reset)
    layers = hardware_layers(lowered, approximate_current_bias=approximate_current_bias)
    target = execute(graph if approximate_reset else lowered, calibration / recipe.coding.levels)
    shape = tuple(int(n) for n in next(iter(lowered.inputs.values())).input_type["input"])
    message = calibration.reshape(*calibration.shape[:2], *shape)
    return Task(tuple(layers), message, target, recipe, method, per_channel)


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
    spiking, threshold = problem.layer.spiking, problem.layer.threshold
    if spiking and threshold.min() > 0 and np.any(np.equal(neuron.threshold, 0)):
        yield Violation(name, f"threshold rounds to 0 at scale {scale:.3g}", "at least 1")
    if not spiking and best.spikes.any():
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
