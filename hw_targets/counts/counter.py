"""`Counter`: what `engine.simulate` counts on its way, spikes, synops and messages core by core.

`counts.activity_of` is the definition, read from recorded spikes; here nothing is recorded. All that a
placement says about a source's messages is laid out as the engine's own messages are (`Lines`), so that
`kernels.tally` goes through them in whole vectors, however many there are.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from dataclasses import replace
from functools import cache
from itertools import pairwise
from threading import Lock
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..arrays import Integers
from ..network.layers import Shape
from ..network.network import Network
from ..network.neurons import NetworkError
from ..simulate.trace import Activity
from .placement import Placement, layer_per_core
from .routes import Routes, routes

Ints = NDArray[np.int32]


class Lines(NamedTuple):
    """The messages of a source as lines of `length` elements, and where they go.

    Lines whose elements go alike are a band: that of lines bands[b] .. bands[b + 1] - 1. A band falls
    into segments, segments[b] .. segments[b + 1] - 1, whose elements are on one core and reach the same.
    """

    length: int
    places: Integers
    """place of the first element of each line among the messages"""
    synops: NDArray[np.signedinteger[Any]]
    """(reached core, 64 elements and line and element): synapses of non-zero weight, or 0"""
    bands: Integers
    depth: Integers
    """(band, 64 elements): the most cores that one of them reaches"""
    segments: Integers
    ends: Integers
    """(segment, 2): first element, and the one behind the last"""
    owner: Ints
    """core that each segment is on, -1 for the input"""
    cores: Ints
    """(segment, reached core), -1 where fewer are reached"""
    rows: NDArray[np.int16]
    """(message, core) where all elements reach the same many cores; then `synops` is empty"""
    reached_by_all: Ints
    """the cores of `rows`"""


class Counter:
    """Tells `engine.simulate(..., counter=...)` what to count; the trace's `activity` has it.

    `placement`: None: each layer one core. `steps`: count of each source only the columns
    [latency, latency + steps), its answers to so many input steps, as `Trace.aligned` keeps them;
    None: the whole run. A counter may serve many runs of its network, one after another or at once.
    """

    def __init__(
        self, network: Network, placement: Placement | None = None, steps: int | None = None
    ) -> None:
        self.network, self.steps = network, steps
        self.placement = placement or layer_per_core(network)
        cores = [self.placement.of(p.index) for p in network.populations]
        ends = np.cumsum([0, *map(len, cores)])
        self.columns = [slice(*pair) for pair in pairwise(ends)]
        """where the cores of each population are when all are ordered by population"""
        place = np.argsort(np.concatenate(cores)).astype(np.int32)
        self._owners = [place[owner] for owner in self.placement.owners(network)]
        self._routes = [
            replace(route, core=place[route.core]) for route in routes(network, self.placement)
        ]
        synapses = sum(np.bincount(route.core, route.fanout, len(place)) for route in self._routes)
        self.loads: type[np.signedinteger[Any]] = (
            np.int32 if np.max(synapses) < 1 << 31 else np.int64
        )
        """holds what can happen in a core in one step"""
        self.lines = cache(self._lines)

    def _lines(self, source: int, planes: bool) -> Lines:
        """`Lines` of the input (source 0) or of population source - 1; `planes`: channel by channel."""
        shape = self.network.populations[source - 1].shape if source else self.network.input_shape
        owner = self._owners[source - 1] if source else np.full(shape, -1, np.int32)
        elements = arrangement(shape, planes)
        places = np.arange(len(elements)) * elements.shape[1]
        if planes:
            places += np.arange(len(elements)) // shape[1] * (-(shape[1] * shape[2]) % 64)
        return _lines(self._routes[source], owner.ravel(), elements, places)

    def check(self, network: Network, steps: int) -> None:
        """Raise NetworkError for another network, and where `steps` are too few for the counter's own."""
        if network.digest != self.network.digest:
            raise NetworkError(
                f"the counter is for network {self.network.digest[:12]}, this is "
                f"{network.digest[:12]}: make a Counter of the network that runs."
            )
        if self.steps is not None and steps < self.steps + network.latency:
            raise NetworkError(
                f"the run has {steps} steps; to count {self.steps} of a network with latency "
                f"{network.latency}, {self.steps + network.latency} are needed."
            )

    def begin(self, network: Network, samples: int, steps: int, planes: bool) -> Collected:
        """Room for the counts of a run.

        `planes`: the channels of its input lie one after another. Raises NetworkError, see `check`.
        """
        self.check(network, steps)
        return Collected(self, samples, steps, planes)


def arrangement(shape: Shape, planes: bool = False) -> Integers:
    """The elements of a layer, numbered in (C, H, W) order, in the engine's lines: (line, element).

    A line is a row of the image, all its channels side by side; with `planes` one of a channel alone.
    """
    elements = np.arange(math.prod(shape))
    if len(shape) == 1:
        return elements[None]
    if planes:
        return elements.reshape(-1, shape[2])
    return elements.reshape(shape).transpose(1, 2, 0).reshape(shape[1], -1)


def _lines(route: Routes, owner: Ints, elements: Integers, places: Integers) -> Lines:
    lines, length = elements.shape
    order = elements.ravel()
    reached = np.diff(route.start)[order]
    most = int(reached.max(initial=0))
    synops = np.zeros((most, lines, -(-length // 64) * 64), np.int32)
    goes = np.full((1 + most, lines, length), -1, np.int32)  # owner, reached cores
    goes[0] = owner[elements]
    for r in range(most):
        at = np.unravel_index(np.flatnonzero(reached > r), elements.shape)
        row = route.start[elements[at]] + r
        synops[r][at] = route.synops[row]
        goes[1 + r][at] = route.core[row]
    rows, reached_by_all = np.zeros(0, np.int16), np.zeros(0, np.int32)
    alike = (goes[1:] == goes[1:, :1, :1]).all()
    if alike and most >= _MANY and synops.max(initial=0) <= _SUMS[np.int16]:
        reached_by_all = goes[1:, 0, 0].copy()
        rows = _rows(synops, elements, places)
        goes, synops = goes[:1], synops[:0]
    kind = next(k for k in _SUMS if synops.max(initial=0) <= _SUMS[k])
    bands = [*_bands(goes, synops, _SUMS[kind]), lines]
    segments, ends, where = [0], [], []
    for line in bands[:-1]:
        cores_of_line = goes[:, line]
        starts = 1 + np.flatnonzero((cores_of_line[:, 1:] != cores_of_line[:, :-1]).any(axis=0))
        low = np.concatenate([[0], starts])
        ends.append(np.stack([low, np.append(starts, length)], axis=1))
        where.append(cores_of_line[:, low].T)
        segments.append(segments[-1] + len(low))
    owner_and_cores = np.concatenate(where)
    return Lines(
        length,
        places.astype(np.int64),
        _in_blocks(synops.astype(kind)),
        np.array(bands),
        _depth(goes[1:, bands[:-1]] >= 0),
        np.array(segments),
        np.concatenate(ends),
        owner_and_cores[:, 0].copy(),
        owner_and_cores[:, 1:].copy(),
        rows,
        reached_by_all,
    )


def _depth(reached: NDArray[np.bool_]) -> Integers:
    """The most cores that one of 64 elements reaches: (core, band, element) to (band, 64 elements)."""
    cores, bands, length = reached.shape
    padded = np.pad(reached, ((0, 0), (0, 0), (0, -length % 64)))
    most: Integers = padded.reshape(cores, bands, padded.shape[2] // 64, 64).any(axis=3).sum(axis=0)
    return most


def _in_blocks(synops: NDArray[Any]) -> NDArray[Any]:
    """(core, line, element) to (core, 64 elements and line and element)."""
    cores, lines, length = synops.shape
    blocks = synops.reshape(cores, lines, length // 64, 64).swapaxes(1, 2)
    return np.pad(blocks.reshape(cores, lines * length), ((0, 0), (0, 64)))


def _rows(synops: Ints, elements: Integers, places: Integers) -> NDArray[np.int16]:
    """Synops (message, core), in the messages' order and flat, padded as `kernels` has rows."""
    length = elements.shape[1]
    size = -(-(int(places[-1]) + length) // 64) * 64
    out = np.zeros((size, -(-len(synops) // 32) * 32), np.int16)
    at = places[:, None] + np.arange(length)
    out[at, : len(synops)] = synops[:, :, :length].transpose(1, 2, 0)
    return out.ravel()


_MANY = 4
"""From so many cores on that all elements reach, each message adds a row of synops, core by core."""
_SUMS = {np.int16: (1 << 15) - 1, np.int32: 1 << 24}
"""How large the synops of one core can get that `kernels.tally` adds up in these."""


def _bands(goes: Ints, synops: Ints, most: int) -> Iterator[int]:
    """The first line of each band: where messages go elsewhere, or a sum would exceed `most`."""
    total = np.zeros((len(synops), synops.shape[2]), np.int64)
    count = 0
    for line in range(goes.shape[1]):
        total += synops[:, line]
        count += 1
        changed = line == 0 or (goes[:, line] != goes[:, line - 1]).any()
        if changed or max(int(total.max(initial=0)), count) > most:
            total[:], count = synops[:, line], 1
            yield line


class Collected:
    """The counts of a run while they grow."""

    def __init__(self, counter: Counter, samples: int, steps: int, planes: bool) -> None:
        """`planes`: the channels of the input lie one after another."""
        network = counter.network
        self.counter, self.samples, self.planes = counter, samples, planes
        self.steps = steps if counter.steps is None else counter.steps
        latencies = (0, *(p.latency for p in network.populations))
        self.begins = latencies if counter.steps is not None else (0,) * len(latencies)
        """first column that counts, of the input and of each population"""
        self.shapes = (network.input_shape, *(p.shape for p in network.populations))
        self.lines = [counter.lines(i, planes and not i) for i in range(len(latencies))]
        shape = (samples, self.steps, len(counter.placement.cores))
        self.loads = tuple(np.zeros(shape, counter.loads) for _ in range(3))
        """spikes, synops and messages of each core, ordered by population"""
        self._sent, self._active = self.zeros()
        self._lock = Lock()

    def part(self, low: int, high: int) -> Part:
        """Room for the counts of samples low .. high - 1."""
        return Part(self, low, high)

    def zeros(self) -> tuple[list[Ints], list[Ints]]:
        """Zeros for each element of the input and the populations, in lines, and for each neuron."""
        lines = [len(part.places) * -(-part.length // 64) * 64 for part in self.lines]
        neurons = [math.prod(shape) for shape in self.shapes[1:]]
        return [np.zeros(n, np.int32) for n in lines], [np.zeros(n, np.int32) for n in neurons]

    def add(self, sent: Sequence[Ints], active: Sequence[Ints]) -> None:
        """Take over what was counted of some samples, in arrays such as `zeros` makes."""
        with self._lock:
            for total, more in zip((*self._sent, *self._active), (*sent, *active), strict=True):
                total += more

    def activity(self) -> Activity:
        """Everything that was counted, in (C, H, W) order."""
        sent = [
            part.reshape(-1, len(lines.places), 64)
            .swapaxes(0, 1)
            .reshape(len(lines.places), -1)[:, : lines.length]
            for part, lines in zip(self._sent, self.lines, strict=True)
        ]
        planes = [self.planes, *(False for _ in self._active)]
        return Activity(
            self.samples,
            self.steps,
            tuple(map(_in_order, sent, self.shapes, planes)),
            tuple(map(_in_order, self._active, self.shapes[1:])),
            *(
                tuple(load[:, :, columns] for columns in self.counter.columns)
                for load in self.loads
            ),
        )


def _in_order(counts: Ints, shape: Shape, planes: bool = False) -> Integers:
    """What `arrangement` has in lines, in (C, H, W) order."""
    if planes or len(shape) == 1:
        return counts.astype(np.int64).reshape(shape)
    by_position = counts.reshape(shape[1], shape[2], shape[0])
    return by_position.transpose(2, 0, 1).astype(np.int64, order="C")


class Part:
    """Counts some samples of a run, low .. high - 1, while a thread runs them."""

    def __init__(self, run: Collected, low: int, high: int) -> None:
        self._run = run
        self._loads = [load[low:high] for load in run.loads]
        for load in self._loads:  # where a run of these samples was given up
            load[:] = 0
        self._sent, self.active = run.zeros()
        """steps in which each neuron was active, by population, in the engine's order"""

    def window(self, source: int, start: int, steps: int) -> tuple[int, int]:
        """Which of the columns start .. start + steps - 1 count: (first, behind last) of these."""
        begin = self._run.begins[source]
        low = min(max(begin - start, 0), steps)
        return low, max(min(begin + self._run.steps - start, steps), low)

    def tally(self, source: int, messages: NDArray[Any], start: int, steps: int) -> None:
        """Count the messages (sample, 1 + step, padded size) of columns from `start` on."""
        from ..simulate import kernels

        low, high = self.window(source, start, steps)
        if low == high:
            return
        column = start - self._run.begins[source]
        lines = self._run.lines[source]
        loads = [load[:, column + low : column + high] for load in self._loads]
        kernels.tally(messages, 1 + low, 1 + high, *lines, self._sent[source], *loads)

    def finish(self) -> None:
        """The samples are through."""
        self._run.add(self._sent, self.active)
