"""Countable events of a run: `Counts`, what every energy table multiplies.

Three steps. `routes` lists, for every neuron or input that may send a message, the cores it reaches
and through how many synapses. An `Activity` is what a run did: the engine collects it (`Counter`),
`activity_of` reads it from a trace. `tally` multiplies both.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Any

import numpy as np

from ..arrays import Integers, Whole
from ..network.kind import STATES
from ..network.layers import Dense, Input
from ..network.network import Network, Population
from ..network.neurons import NetworkError
from ..simulate.trace import Activity, Trace
from .placement import Placement, layer_per_core
from .routes import fan_out, routes


@dataclass(frozen=True)
class LayerCounts:
    """Events of one layer, summed over samples and steps; `*_max`: the most in one step of one sample.

    `spikes_in`: non-zero messages arriving (currents of Input neurons are none); `spikes_out`:
    non-zero messages sent; `synops`: deliveries through non-zero weights, recurrent and imaginary ones
    included (what Loihi 2's counter counts); `synops_fanout`: the same with weights of zero (padding taps
    never count); `neuron_updates`: neurons x steps x samples, as the hardware visits every neuron in
    every step; `neuron_updates_active`: those after which a state is not zero, or which sent (None: not
    counted); `dense_ops`: multiply-adds of the same layer run densely in every step; `effective_acs`,
    `effective_macs`: the synops, as NeuroBench splits them: additions where all messages that can
    arrive are -1, 0 or 1, else multiply-adds.
    """

    name: str
    neurons: int
    spikes_in: int
    spikes_out: int
    synops: int
    synops_fanout: int
    neuron_updates: int
    dense_ops: int
    neuron_updates_active: int | None = None
    effective_acs: int = 0
    effective_macs: int = 0
    spikes_out_max: int = 0
    synops_max: int = 0


@dataclass(frozen=True)
class CoreCounts:
    """Events of one core, summed over samples and steps; `*_max`: the most in one step of one sample.

    `messages_in`: messages arriving (a message goes once to each core on which its sender has a
    synapse, of weight zero too); `axon_out`: messages sent, one per spike and receiving core;
    `messages_same_tile`, `hops_ew`, `hops_ns`, `messages_off_chip`: the way of those sent.
    """

    population: int
    neurons: int
    spikes_out: int
    synops: int
    synops_fanout: int
    neuron_updates: int
    neuron_updates_active: int | None
    messages_in: int
    axon_out: int
    messages_same_tile: int
    hops_ew: int
    hops_ns: int
    messages_off_chip: int
    spikes_out_max: int
    synops_max: int
    messages_in_max: int


_PEAKS = ("spikes_out_max", "synops_max", "messages_in_max")


@dataclass(frozen=True, repr=False)
class Counts:
    """Integers derived from a network, its placement and its activity alone.

    `cores` follows the placement's; without a chip each layer is one core. `input_messages`: messages
    from outside to the cores of the first layer; their way to the chip is not counted.
    """

    layers: tuple[LayerCounts, ...]
    samples: int
    steps: int
    digest: str
    cores: tuple[CoreCounts, ...] = ()
    input_messages: int = 0
    chip: str | None = None
    chips: int = 0
    tiles: int = 0

    def __repr__(self) -> str:
        where = f" on {len(self.cores)} cores of {self.chip}" if self.chip else ""
        what = ", ".join(f"{self.total(name):,} {name}" for name in ("spikes_out", "synops"))
        return f"<Counts of {self.samples} samples, {self.steps} steps each{where}: {what}>"

    def total(self, counter: str) -> int:
        """Sum of one counter over all layers, or cores where layers do not have it.

        Raises NetworkError for counters that neither has, or that were not counted.
        """
        for parts in (self.layers, self.cores):
            values = [getattr(part, counter, None) for part in parts]
            if values and None not in values:
                return sum(int(value) for value in values if value is not None)
        raise NetworkError(f"{counter!r} was not counted.")

    @property
    def activation_sparsity(self) -> float:
        """Fraction of neuron outputs that are zero (NeuroBench), all layers, steps and samples."""
        return 1 - self.total("spikes_out") / max(1, self.total("neuron_updates"))

    @property
    def spikes_per_synapse(self) -> float:
        """synops / dense multiply-adds of one pass, per inference: below 1, spikes save operations."""
        return self.total("synops") * self.steps / max(1, self.total("dense_ops"))

    def __add__(self, other: Counts) -> Counts:
        """Counts of two batches of a network on one placement; NetworkError where these differ."""
        same = ("digest", "steps", "chip")
        if any(getattr(self, name) != getattr(other, name) for name in same) or (
            len(self.cores) != len(other.cores)
        ):
            raise NetworkError(
                "counts of different networks or step numbers do not add, nor of different placements."
            )
        return Counts(
            tuple(_sum(a, b) for a, b in zip(self.layers, other.layers, strict=True)),
            self.samples + other.samples,
            self.steps,
            self.digest,
            tuple(_sum(a, b) for a, b in zip(self.cores, other.cores, strict=True)),
            self.input_messages + other.input_messages,
            self.chip,
            self.chips,
            self.tiles,
        )


_KEPT = ("name", "neurons", "population")


def _sum(a: Any, b: Any) -> Any:
    """Field by field; the largest of peaks, and what both have."""
    values = {}
    for f in fields(a):
        x, y = getattr(a, f.name), getattr(b, f.name)
        if f.name in _KEPT:
            values[f.name] = x
        elif f.name in _PEAKS:
            values[f.name] = max(x, y)
        else:
            values[f.name] = None if x is None or y is None else x + y
    return type(a)(**values)


def activity_of(network: Network, inputs: Whole, trace: Trace, placement: Placement) -> Activity:
    """The activity of a run, read from its spikes: slow and obvious, what `Counter` must equal.

    Arguments and errors as of `count`. `active` needs all states in the trace, and is None elsewhere.
    """
    if trace.spikes is None:
        raise NetworkError("counting needs a trace with spikes: record='spikes'.")
    placement.owners(network)  # refuses the placement of another network
    samples, steps = trace.spikes[0].shape[:2]
    if inputs.shape[:2] != (samples, steps):
        raise NetworkError(
            f"inputs have (sample, time) = {inputs.shape[:2]}, the trace {(samples, steps)}."
        )
    sources = [inputs, *trace.spikes]
    shape = (samples, steps, len(placement.cores))
    spikes, synops, messages = (np.zeros(shape, np.int64) for _ in range(3))
    for source, route in zip(sources, routes(network, placement), strict=True):
        fired = (source != 0).reshape(samples, steps, -1)
        element = np.repeat(np.arange(fired.shape[2]), np.diff(route.start))
        for e, core, effective in zip(element, route.core, route.synops, strict=True):
            synops[:, :, core] += fired[:, :, e] * effective
            messages[:, :, core] += fired[:, :, e]
    for k, core in enumerate(placement.cores):
        inside = (slice(None), slice(None), *(slice(*ends) for ends in core.box))
        part = trace.spikes[core.population][inside]
        spikes[:, :, k] = (part != 0).reshape(samples, steps, -1).sum(axis=2)
    return Activity(
        samples,
        steps,
        tuple((source != 0).sum(axis=(0, 1)) for source in sources),
        tuple(_active(p, trace) for p in network.populations),
        *(
            tuple(array[:, :, list(placement.of(p.index))] for p in network.populations)
            for array in (spikes, synops, messages)
        ),
    )


def _active(population: Population, trace: Trace) -> Integers | None:
    """Steps after which a neuron has a state that is not zero, or sent; None where not recorded."""
    assert trace.spikes is not None
    busy = trace.spikes[population.index] != 0
    for name in STATES:
        if name in population.states:
            kept = getattr(trace, name)
            if kept is None or population.index not in kept.populations:
                return None
            busy = busy | (kept[population.index] != 0)
    active: Integers = busy.sum(axis=(0, 1))
    return active


def tally(network: Network, activity: Activity, placement: Placement | None = None) -> Counts:
    """`Counts` of an activity that was collected on this placement (None: each layer one core).

    Raises NetworkError for a placement of another network.
    """
    placement = placement or layer_per_core(network)
    owners, n = placement.owners(network), len(placement.cores)
    pairs = np.zeros((n, n), np.int64)  # messages from core to core
    synops, fanout, arriving = (np.zeros(n, np.int64) for _ in range(3))
    input_messages = 0
    for i, (sent, route) in enumerate(zip(activity.sent, routes(network, placement), strict=True)):
        counts = np.repeat(sent.ravel(), np.diff(route.start))
        np.add.at(synops, route.core, counts * route.synops)
        np.add.at(fanout, route.core, counts * route.fanout)
        np.add.at(arriving, route.core, counts)
        if i:
            owner = np.repeat(owners[i - 1].ravel(), np.diff(route.start))
            np.add.at(pairs, (owner, route.core), counts)
        else:
            input_messages = int(counts.sum())
    passed, way = pairs, placement.routing
    times = activity.samples * activity.steps
    peaks = [
        [_peaks(part) for part in getattr(activity, name)]
        for name in ("spikes", "synops", "messages")
    ]
    cores = []
    place = dict.fromkeys(range(len(network.populations)), 0)
    for k, core in enumerate(placement.cores):
        in_core, local = owners[core.population] == k, place[core.population]
        place[core.population] += 1
        active = activity.active[core.population]
        cores.append(
            CoreCounts(
                core.population,
                core.neurons,
                int(activity.sent[core.population + 1][in_core].sum()),
                int(synops[k]),
                int(fanout[k]),
                core.neurons * times,
                None if active is None else int(active[in_core].sum()),
                int(arriving[k]),
                int(passed[k].sum()),
                int((passed[k] * way.same_tile[k]).sum()),
                int((passed[k] * way.hops_ew[k]).sum()),
                int((passed[k] * way.hops_ns[k]).sum()),
                int((passed[k] * way.off_chip[k]).sum()),
                *(int(peak[core.population][local]) for peak in peaks),
            )
        )
    return Counts(
        tuple(_layer(network, p, activity, cores) for p in network.populations),
        activity.samples,
        activity.steps,
        network.digest,
        tuple(cores),
        input_messages,
        placement.chip,
        placement.chips,
        placement.tiles,
    )


def _peaks(loads: Whole) -> Whole:
    """The most in one step of one sample, by core."""
    peak: Whole = loads.reshape(-1, loads.shape[2]).max(axis=0, initial=0)
    return peak


def _layer(
    network: Network, p: Population, activity: Activity, cores: Sequence[CoreCounts]
) -> LayerCounts:
    mine = [core for core in cores if core.population == p.index]
    times = activity.samples * activity.steps
    active = activity.active[p.index]
    synops = sum(core.synops for core in mine)
    binary = binary_input(network, p)
    every = fan_out(p, zeros=True).sum()
    if isinstance(p.layer, Dense) and p.layer.recurrent is not None:
        every += fan_out(p, zeros=True, recurrent=True).sum()
    driven = isinstance(p.layer, Input)
    return LayerCounts(
        name=p.name,
        neurons=p.size,
        spikes_in=0 if driven else int(activity.sent[p.index].sum()),
        spikes_out=int(activity.sent[p.index + 1].sum()),
        synops=synops,
        synops_fanout=sum(core.synops_fanout for core in mine),
        neuron_updates=p.size * times,
        dense_ops=int(every) * times,
        neuron_updates_active=None if active is None else int(active.sum()),
        effective_acs=synops if binary else 0,
        effective_macs=0 if binary else synops,
        spikes_out_max=int(activity.spikes[p.index].sum(axis=2).max(initial=0)),
        synops_max=int(activity.synops[p.index].sum(axis=2).max(initial=0)),
    )


def binary_input(network: Network, population: Population) -> bool:
    """Whether only -1, 0 and 1 can arrive at a layer: of the input, as its recipe says (none: yes)."""
    if population.index:
        return not network.populations[population.index - 1].graded
    recipe = network.recipe
    return recipe is None or recipe.coding.single_spikes


def count(
    network: Network, inputs: Whole, trace: Trace, placement: Placement | None = None
) -> Counts:
    """Events of a run.

    `inputs`: what the network was given, (sample, time, *input shape); `trace`: of the same time
    span with spikes, usually `trace.aligned(network, steps)`; with all states where active updates are
    to be counted. `placement`: None: each layer one core. Source of the definitions: NeuroBench 2.3,
    lava's Loihi2Activity and SANA-FE 2.2, see `LayerCounts` and `CoreCounts`. Raises NetworkError for a
    trace without spikes or of another time span than the inputs, and for a placement of another network.
    """
    placement = placement or layer_per_core(network)
    return tally(network, activity_of(network, inputs, trace, placement), placement)
