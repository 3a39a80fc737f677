"""`reference.simulate`, fast: the same integers from compiled, event-driven loops.

Three things make it fast. Layers run one after another for many steps, so that a layer's weights
and states stay in the cache. Only non-zero messages do work: each adds a row of weights, many
channels an instruction (see `kernels`). And sums are kept in 16 bits, or neurons updated in 32,
wherever the weights of the layer prove that nothing can be lost. What has no compiled row runs in the
reference itself: neurons that `layout.ROWS` lacks, and recurrent or delayed synapses of graded messages
so large that sums might leave 32 bits. `simulate(..., backend="torch")` runs in `torch_engine`, on GPUs
too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..network.layers import Input
from ..network.network import Network
from ..network.neurons import NetworkError
from ..network.timing import AS_INPUT, Timing
from .block import Block, Buffers, NeedsReference
from .inputs import QUANTITIES, Drive, Record, parse_record, prepare_input
from .state import Following, State
from .trace import Overflow, Recorded, Trace

if TYPE_CHECKING:
    from ..counts.counter import Collected, Counter
    from .layout import Layer


SCRATCH = 2 << 20
"""Bytes of messages that a thread keeps between layers, about a core's cache."""
SPLIT = 1 << 16
"""A layer of a single sample is shared among threads from this many neuron updates a call."""
PLANES = 4
"""Inputs of up to so many channels are not brought into the order of `kernels`."""
ALONE = 1 << 19
"""Less work than this, in neuron updates, is done before threads have started."""

Array = NDArray[Any]


def simulate(
    network: Network,
    inputs: ArrayLike,
    timing: Timing = AS_INPUT,
    *,
    record: str | Collection[str] = "counts",
    threads: int | None = None,
    counter: Counter | None = None,
    backend: Literal["engine", "torch"] = "engine",
    device: str | None = None,
    state: State | None = None,
) -> Trace:
    """Run a network on a batch, with the results of `reference.simulate`, bit for bit.

    Arguments as there; `threads`: how many to use, all of this process's cores by default;
    `counter`: what to count on the way for `Trace.activity`, whatever is recorded; only whole runs
    are counted, which begin without `state`. `backend`: "torch" runs it on a `device` of torch, "cpu"
    (the default) or "cuda", see `torch_engine`. The first call on a machine compiles for some 20 seconds;
    the result is kept on disk (numba's cache). Memory beyond inputs and results, kept with the network: 2
    bytes per weight and, per thread, about 2 MB of messages (or four steps of one sample) and 12 bytes
    per neuron of the samples in work, however many steps and samples there are. Raises NetworkError.
    """
    if backend == "torch":
        if threads is not None:
            raise NetworkError(
                "torch counts its threads itself: torch.set_num_threads; drop threads."
            )
        from .torch_engine import run as on_torch

        return on_torch.simulate(
            network,
            inputs,
            timing,
            record=record,
            device=device or "cpu",
            counter=counter,
            state=state,
        )
    if backend != "engine":
        raise NetworkError(f"backend {backend!r} is unknown; use engine or torch.")
    if device is not None:
        raise NetworkError(f'device {device!r} is for backend="torch"; the engine runs on the CPU.')
    layers = layout_of(network)
    kept = parse_record(record, network)
    drive = prepare_input(network, inputs, timing)
    begin = None if state is None else begun(state, network, drive, counter)
    threads = threads or _cores()
    run = Run(
        network,
        layers,
        drive,
        kept,
        timing,
        binary=timing.message_bits == 0,
        counter=counter,
        begin=begin,
    )
    samples = len(drive.x)
    if run.work < ALONE:
        threads = 1
    size = run.block(threads)
    blocks = [(low, min(low + size, samples)) for low in range(0, samples, size)]
    shared = len(blocks) == 1 and any(run.shareable(layer, blocks[0]) for layer in layers)
    pool = _pool(threads) if threads > 1 and (shared or len(blocks) > 1) else None
    if len(blocks) == 1 or pool is None:
        overflow = [run.samples(low, high, pool) for low, high in blocks]
    else:
        overflow = list(pool.map(lambda block: run.samples(block[0], block[1], None), blocks))
    return run.trace(overflow)


def begun(state: State, network: Network, drive: Drive, counter: Counter | None) -> State:
    """The state that a run begins with. Raises NetworkError where it cannot, or is to be counted."""
    if counter is not None:
        raise NetworkError("only whole runs are counted; leave out counter or state.")
    return state.of(network, len(drive.x))


def layout_of(network: Network) -> tuple[Layer, ...]:
    """The network's layers as `kernels` wants them: made once, and kept in the network."""
    from .layout import Layer

    layers: tuple[Layer, ...] | None = network.__dict__.get("_layout")
    if layers is None:
        shapes = [network.input_shape, *(p.shape for p in network.populations)]
        pairs = zip(network.populations, shapes, strict=False)
        layers = network.__dict__["_layout"] = tuple(Layer(p, before) for p, before in pairs)
    return layers


def _cores() -> int:
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


_pools: dict[int, ThreadPoolExecutor] = {}
if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_pools.clear)  # a forked process has none of their threads


def _pool(threads: int) -> ThreadPoolExecutor:
    """So many threads, which wait for the next call; those of another number go once they are idle."""
    pool = _pools.get(threads)
    if pool is None:
        _pools.clear()
        pool = _pools[threads] = ThreadPoolExecutor(threads)
    return pool


@dataclass(frozen=True)
class Run:
    """One call of `simulate`: what it is given, and the arrays its results go to."""

    network: Network
    layers: tuple[Layer, ...]
    drive: Drive
    kept: Record
    timing: Timing
    binary: bool
    counter: Counter | None
    begin: State | None = None
    following: Following | None = field(init=False)
    """of a run with `begin`, which its blocks fill"""
    results: dict[str, list[Array | None]] = field(init=False)
    counts: NDArray[np.int64] = field(init=False)
    collected: Collected | None = field(init=False)

    def __post_init__(self) -> None:
        """Make the arrays for the results, before there are threads to fill them.

        `results`: by quantity, an array for each population that is recorded.
        """
        samples = len(self.drive.x)
        shape = (samples, self.drive.steps)
        counts = np.zeros((samples, *self.network.output_shape), np.int64)
        object.__setattr__(self, "counts", counts)
        planes = self.planes > 0
        following = None if self.begin is None else Following(self.begin)
        object.__setattr__(self, "following", following)
        collected = self.counter and self.counter.begin(self.network, *shape, planes)
        object.__setattr__(self, "collected", collected)
        results = {
            name: [
                np.empty(
                    (*shape, *p.shape),
                    np.int8 if name == "spikes" and not p.graded else np.int32,
                )
                if p.index in getattr(self.kept, name)
                else None
                for p in self.network.populations
            ]
            for name in QUANTITIES
        }
        object.__setattr__(self, "results", results)

    def trace(self, overflow: list[Array]) -> Trace:
        """The results as a `Trace`."""
        total = sum(overflow, np.zeros((len(self.layers), 3), np.int64))
        return Trace(
            **{
                name: Recorded(name, arrays)
                for name, arrays in self.results.items()
                if getattr(self.kept, name)
            },
            counts=self.counts if self.kept.counts else None,
            overflow=tuple(Overflow(*map(int, row)) for row in total),
            backend="engine",
            activity=None if self.collected is None else self.collected.activity(),
            state=None if self.following is None else self.following.state(self.drive),
        )

    @cached_property
    def largest(self) -> int:
        """At least the size of every message of the input, also before the run began."""
        before = 1 if self.begin is None else self.begin.largest[0]
        return max(self.drive.largest, before)

    @cached_property
    def _step_bytes(self) -> int:
        first = math.prod(self.network.input_shape) * (4 if self.largest > 1 else 1)
        return first + sum(p.size * (4 if p.graded else 1) for p in self.network.populations)

    @property
    def work(self) -> int:
        """Neurons and inputs, times steps and samples."""
        neurons = sum(p.size for p in self.network.populations)
        inputs = math.prod(self.network.input_shape)
        return (neurons + inputs) * self.drive.steps * len(self.drive.x)

    @cached_property
    def planes(self) -> int:
        """Channels of the input that stay as they are given; 0 where positions come first."""
        shape, first = self.network.input_shape, self.layers[0].population.layer
        if self.largest > 1 or isinstance(first, Input) or len(shape) < 3:
            return 0
        return shape[0] if shape[0] <= PLANES else 0

    def block(self, threads: int) -> int:
        """Samples that a thread takes at a time."""
        samples = max(1, len(self.drive.x))
        fitting = max(1, SCRATCH // (self._step_bytes * min(self.drive.steps, 16)))
        turns = -(-samples // (fitting * threads))  # as much for every thread
        return -(-samples // (turns * threads))

    def columns(self, samples: int) -> int:
        """Steps that a layer takes at a time."""
        return max(4, min(self.drive.steps, SCRATCH // (self._step_bytes * samples)))

    def shareable(self, layer: Layer, block: tuple[int, int]) -> bool:
        """Whether the rows of a layer are worth sharing among threads."""
        samples = block[1] - block[0]
        work = samples * self.columns(samples) * layer.population.size
        return layer.rows > 1 and work >= SPLIT

    def samples(self, low: int, high: int, pool: ThreadPoolExecutor | None) -> Array:
        """Run samples low .. high - 1; returns the overflow of each layer, (layer, 3)."""
        slow = {i for i, layer in enumerate(self.layers) if layer.row is None}
        buffers = self._buffers(high - low)
        while True:
            try:
                overflow = Block(self, low, high, slow, pool, buffers).run()
                break
            except NeedsReference as needed:
                slow.add(needed.layer)
        if (
            len(self._spare) < _cores()
        ):  # not after an interrupt: another thread might still use them
            self._spare.append(buffers)
        return overflow

    @property
    def _spare(self) -> list[Buffers]:
        """Buffers that no block uses at the moment, kept with the network for its next calls."""
        spare: list[Buffers] = self.network.__dict__.setdefault("_buffers", [])
        return spare

    def _buffers(self, samples: int) -> Buffers:
        kind = Buffers.kind(self, samples)
        while True:
            try:
                buffers = self._spare.pop()
            except IndexError:  # asked beforehand, another thread might be quicker
                return Buffers(self, samples)
            if buffers.of == kind:
                return buffers
