"""Spiking network and ANN on one hardware model: arithmetic and SRAM at 45 nm, the same for both.

Which side wins depends on what stays in registers and what is fetched again: each `Dataflow` is
computed for both sides, and the intervals span them.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from ...hw_targets.counts.counts import Counts
from ...hw_targets.energy.energy import Energy
from ...hw_targets.energy.interval import Interval
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NetworkError
from ...models.quantized_ann import Work, activation_bits_for
from .fair_model import (
    DATAFLOWS,
    STATE_BITS,
    SUM_BITS,
    Dataflow,
    Terms,
    ann_energy,
    spiking_energy,
    spiking_layers,
    widest_weight_bits,
)

SCOPE = "arithmetic and SRAM"
DEVICE = "45 nm CMOS, arithmetic and SRAM"
ASSUMPTIONS = (
    f"Weights have the same bits on both sides; sums and states have {STATE_BITS} bits in the "
    f"spiking network, {SUM_BITS} in the ANN.",
    "Every layer has its own memories, as large as what they hold, 8 KB at least, in banks of 1 MB at "
    "most; a value costs its share of a 64-bit access, a write what a read costs.",
    "Deliveries through weights of zero cost nothing. The ANN computes all its multiply-adds; where it "
    "skips zeros, only those without one, which it finds at no cost.",
    "A spike is the address of its sender; graded messages are multiplied, and have 24 bits more (of "
    "the input: as many as the recipe says).",
    "Every neuron is updated in every step; products and additions are those of its equations.",
    "At the break-even every layer has more or fewer messages by the same factor.",
)
NOT_MODELLED = (
    "wires and routers between layers, which have no published 45 nm figure",
    "memory outside the chip: all weights are taken to be on it",
    "the arrival of images, and their coding into spikes, which an ANN does not need",
    "control, address arithmetic, clocks and leakage",
    "the ANN's pooling, which is synapses in a spiking network, and counted there",
)


@dataclass(frozen=True)
class Case:
    """Joules per inference under one dataflow, their ratio, and the break-even; see `Opponent`."""

    dataflow: str
    snn: float
    ann: float
    ratio: float
    break_even: float | None


@dataclass(frozen=True)
class Opponent:
    """One ANN beside the spiking network, with a case for each dataflow.

    `ratio`: energy of the spiking network over the ANN's; below 1, spikes win. `break_even`: spikes
    per synapse and inference with which both need the same; 0 where the spiking network needs more
    without any; None where it has none, so that nothing says where they would be.
    """

    name: str
    activation_bits: int
    skips_zeros: bool
    energy: Energy
    cases: tuple[Case, ...]

    @property
    def ratio(self) -> Interval:
        return _span([case.ratio for case in self.cases])

    @property
    def break_even(self) -> Interval | None:
        intervals = [case.break_even for case in self.cases if case.break_even is not None]
        return _span(intervals) if intervals else None


@dataclass(frozen=True)
class Fair:
    """A spiking network and ANNs of its shape in one model, joules per inference.

    `spikes_per_synapse`: the actual ones, to be compared with a break-even: synops over the
    multiply-adds of one dense pass. Over `steps` both are mean rates of a synapse. `synapses_per_mac`:
    that dense pass over the ANN's multiply-adds; above 1 where pooling became synapses, which lowers
    the break-even.
    """

    snn: Energy
    opponents: tuple[Opponent, ...]
    spikes_per_synapse: float
    synapses_per_mac: float
    steps: int
    weight_bits: int
    assumptions: tuple[str, ...] = ASSUMPTIONS
    dataflows: tuple[Dataflow, ...] = DATAFLOWS
    not_modelled: tuple[str, ...] = NOT_MODELLED

    @property
    def rate(self) -> float:
        """Spikes per synapse and step, the mean over synapses."""
        return self.spikes_per_synapse / self.steps


def fair(counts: Counts, network: Network, work: Work, steps: int | None = None) -> Fair:
    r"""A counted run of a network, and the ANN whose work is `work`, in one model of energy.

    Per layer and inference, with A deliveries, U updates of N neurons, M multiply-adds, and r(x) one
    access to the memory of x, `cmos45.sram`::

        spiking  A (add + r(weight)) + [2 A r(state)] + messages in and out r(message)
                 + U (the neuron's operations + 2 words r(state) + r(bias))
        ANN      M (multiply + add + r(weight)) + [2 M r(sum)] + M or inputs r(input)
                 + outputs (multiply + add + r(bias) + r(output))

    [] where the dataflow has sums in memory. The ANNs have 8-bit activations, and ceil(log2(T + 1))
    bits (T = `steps`; None: those of the counts), each with all multiply-adds and without zeros.
    Source: after Lemaire et al., ICONIP 2022, arXiv:2210.13107; figures of Horowitz, ISSCC 2014.
    Raises NetworkError where the counts are of another network, or of no sample.
    """
    if counts.digest != network.digest:
        raise NetworkError(
            f"the counts are of network {counts.digest[:12]}, not of {network.digest[:12]}; count "
            f"this one."
        )
    if not counts.samples:
        raise NetworkError("the counts are of no sample; energy per inference needs one.")
    steps = steps or counts.steps
    bits, actual = widest_weight_bits(network), counts.spikes_per_synapse
    snn = partial(spiking_energy, spiking_layers(network, counts), bits)
    opponents = []
    for activation_bits in dict.fromkeys((8, activation_bits_for(steps))):
        for skips in (False, True):
            ann = partial(ann_energy, work, bits, activation_bits, skips)
            name = f"{activation_bits}-bit activations" + ", zeros skipped" * skips
            cases = tuple(_case(flow, snn, ann, actual) for flow in DATAFLOWS)
            opponents.append(Opponent(name, activation_bits, skips, _energy(ann), cases))
    dense = counts.total("dense_ops") / (counts.samples * counts.steps)
    return Fair(_energy(snn), tuple(opponents), actual, dense / work.macs, steps, bits)


def _energy(terms: Callable[[Dataflow], Terms]) -> Energy:
    """The first dataflow's, within all."""
    by_flow = [terms(flow) for flow in DATAFLOWS]
    total = _span([sum(each.values()) for each in by_flow])
    parts = {name: _span([each[name] for each in by_flow]).ends for name in by_flow[0]}
    bases = dict.fromkeys(parts, "derived")
    return Energy(total.value, total.low, total.high, SCOPE, DEVICE, parts, bases=bases)


def _span(values: list[float]) -> Interval:
    return Interval(values[0], min(values), max(values))


def _case(
    flow: Dataflow,
    snn: Callable[..., Terms],
    ann: Callable[[Dataflow], Terms],
    actual: float,
) -> Case:
    def spiking(activity: float) -> float:
        return sum(snn(flow, activity).values())

    opponent = sum(ann(flow).values())
    return Case(
        flow.name,
        spiking(1.0),
        opponent,
        spiking(1.0) / opponent,
        actual * _solve(spiking, opponent) if actual else None,
    )


def _solve(increasing: Callable[[float], float], value: float) -> float:
    """x >= 0 with increasing(x) = value, to the last bits; 0 where all values are above."""
    if increasing(0.0) >= value:
        return 0.0
    low, high = 0.0, 1.0
    while increasing(high) < value:
        low, high = high, 2 * high
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if increasing(middle) < value else (low, middle)
    return high
