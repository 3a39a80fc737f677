"""`reference.simulate`, fast: the same integers from compiled, event-driven loops.

Three things make it fast. Layers run one after another for many steps, so that a layer's weights
and states stay in the cache. Only non-zero messages do work: each adds a row of weights, many
channels an instruction (see `kernels`). And sums are kept in 16 bits, or neurons updated in 32,
wherever the weights of the layer prove that nothing can be lost; where a sum might leave 32 bits,
which only graded messages can bring about, the layer runs in the reference itself, as one does whose
neurons have no compiled row (`layout.ROWS`). `simulate(..., backend="torch")` runs in
`torch_engine`, on GPUs too.
"""

from __future__ import annotations

import math
import os
from collections.abc import Collection, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..network import arithmetic
from ..network.kind import STATES
from ..network.layers import Conv, Dense, Input
from ..network.network import Network
from ..network.neurons import NetworkError
from ..network.timing import AS_INPUT, Timing
from .inputs import QUANTITIES, Drive, Record, parse_record, prepare_input
from .reference import DelayedMatrix, RunningLayer
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

_NO_SPIKES = np.zeros((0, 0, 0), np.int8)
_NO_INTEGERS = np.zeros((0, 0, 0), np.int32)
_NOBODY = np.zeros(0, np.int32)


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
    the result is kept on disk (numba's cache). Memory beyond inputs and results: 2 bytes per weight, kept
    with the network, and, per thread, about 2 MB of messages (or four steps of one sample) and 12 bytes
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
    run = _Run(
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
    with _pool(threads if shared or len(blocks) > 1 else 1) as pool:
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


@contextmanager
def _pool(threads: int) -> Iterator[ThreadPoolExecutor | None]:
    """Threads for one call; nothing outlives it, so nothing is broken by a later fork."""
    if threads < 2:
        yield None
        return
    with ThreadPoolExecutor(threads) as pool:
        yield pool


class _NeedsReference(Exception):
    """Nothing proves that the sums of this layer are whole and stay within 32 bits, or its neurons have
    no compiled row."""

    def __init__(self, layer: int) -> None:
        self.layer = layer


@dataclass(frozen=True)
class _Run:
    """One call of `simulate`: what it is given, and the arrays its results go to."""

    network: Network
    layers: tuple[Layer, ...]
    drive: Drive
    kept: Record
    timing: Timing
    binary: bool
    counter: Counter | None
    begin: State | None = None
    spare: list[_Buffers] = field(default_factory=list)
    """buffers that no block uses at the moment"""
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

    @property
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

    @property
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
        try:
            buffers: _Buffers | None = self.spare.pop()
        except IndexError:  # asked beforehand, another thread might be quicker
            buffers = None
        if buffers is None or buffers.samples != high - low:
            buffers = _Buffers(self, high - low)
        try:
            while True:
                try:
                    return _Block(self, low, high, slow, pool, buffers).run()
                except _NeedsReference as found:
                    slow.add(found.layer)
        finally:
            self.spare.append(buffers)


class _Buffers:
    """Messages and states of some samples; blocks of the same size hand them on."""

    def __init__(self, run: _Run, samples: int) -> None:
        self.samples = samples
        self.columns = run.columns(samples)
        first = run.layers[0].population
        graded = run.largest > 1 or isinstance(first.layer, Input)
        shape = run.network.input_shape
        size = math.prod(shape[1:]) if run.planes else math.prod(shape)
        self.source = self._messages(size, graded, max(1, run.planes))
        self.sent = [self._messages(p.population.size, p.population.graded) for p in run.layers]
        self.state = [np.zeros((samples, 3, p.population.size), np.int32) for p in run.layers]
        self.large = [np.zeros((samples, p.rows), np.uint8) for p in run.layers]
        self.ring = [
            np.zeros(
                (samples, 64, p.geometry.out_channels) if p.delays.size else (0, 0, 0), np.int32
            )
            for p in run.layers
        ]

    def _messages(self, size: int, graded: bool, planes: int = 1) -> Array:
        """(sample, the step before and those of a turn, planes of a size padded with zeros)."""
        padded = -(-size // 64) * 64 * planes
        return np.zeros((self.samples, self.columns + 1, padded), np.int32 if graded else np.int8)

    def clear(self) -> None:
        """Forget everything, as before the first step."""
        for messages in (self.source, *self.sent):
            messages[:, 0] = 0
        for array in (*self.state, *self.large, *self.ring):
            array[:] = 0


class _Block:
    """Some samples on their way through all steps.

    It may be given up and run again, see `_Run.samples`: whatever adds up stays in the block until all
    steps are through.
    """

    def __init__(
        self,
        run: _Run,
        low: int,
        high: int,
        slow: set[int],
        pool: ThreadPoolExecutor | None,
        buffers: _Buffers,
    ) -> None:
        self.run_, self.low, self.high, self.pool = run, low, high, pool
        self.samples = slice(low, high)
        samples = high - low
        buffers.clear()
        self.columns, self.source, self.sent = buffers.columns, buffers.source, buffers.sent
        self.state, self.large, self.ring = buffers.state, buffers.large, buffers.ring
        self.planes = run.planes
        self.counted = None if run.collected is None else run.collected.part(low, high)
        self.counts = np.zeros((samples, *run.network.output_shape), np.int64)
        self.overflow = np.zeros((len(run.layers), 3), np.int64)
        self.largest = [0] * len(run.layers)
        self.options: dict[tuple[int, int], Any] = {}
        self.slow = {
            i: RunningLayer(
                run.layers[i].population,
                samples,
                None if run.drive.bias is None else run.drive.bias[low:high],
                run.network,
                binary=run.binary,
            )
            for i in slow
        }
        self.begun = 0
        if run.begin is not None and run.following is not None:
            run.following.restart(self.samples)
            self._resume(run.begin)

    def _resume(self, state: State) -> None:
        """Go on from a state in place of the beginning."""
        samples = self.samples
        self.begun, self.largest = state.step, list(state.largest[1:])
        self._load(state.messages[0][samples, -1:], 0, 1)
        for i, layer in enumerate(self.run_.layers):
            population = layer.population
            sent = _positions_first(state.messages[1 + i][samples, -1], population.shape)
            self.sent[i][:, 0, : population.size] = sent
            for name, held in state.neurons[i].items():
                row = STATES.index(name)
                self.state[i][:, row] = _positions_first(held[samples], population.shape)
            self.large[i][:] = 1  # as far as is known
            if i in self.slow:
                self.slow[i].resume(state, samples)
            elif layer.delays.size:
                self._wait(i, state.messages[i][samples])

    def _wait(self, i: int, messages: Array) -> None:
        """Put what is still on its way into the ring of a layer with delays.

        `messages` (sample, step, *before): all that may be; the kernel itself delivers the last ones.
        """
        layer = self.run_.layers[i].population.layer
        assert isinstance(layer, Dense)
        assert layer.delays is not None
        part = DelayedMatrix(arithmetic.synapse_format(layer.weight), layer.delays)
        for k in range(messages.shape[1] - 1):
            part(messages[:, k])
        for due, sums in part.ring.items():
            self.ring[i][:, (self.begun + 1 + due - part.step) & 63] = sums

    def _stand(self, following: Following) -> None:
        """Say in which states the neurons are at the end."""
        for i, layer in enumerate(self.run_.layers):
            population = layer.population
            states = (
                self.slow[i].states()
                if i in self.slow
                else {
                    name: _channels_first(self.state[i][:, STATES.index(name)], population.shape)
                    for name in population.states
                }
            )
            following.stands(i, self.samples, states)

    def run(self) -> Array:
        """All steps, some at a time."""
        run = self.run_
        for start in range(0, run.drive.steps, self.columns):
            steps = min(self.columns, run.drive.steps - start)
            x = run.drive.x
            there = max(0, min(steps, x.shape[1] - start))
            self.source[:, 1 + there :] = 0
            self._load(x[self.low : self.high, start : start + there], 1, there)
            if self.counted is not None:
                self.counted.tally(0, self.source, start, steps)
            for i in range(len(run.layers)):
                if i in self.slow:
                    self._step_slowly(i, start, steps)
                else:
                    self._advance(i, start, steps)
                self._keep(i, start, steps)
                if self.counted is not None:
                    self.counted.tally(i + 1, self.sent[i], start, steps)
            for messages in (self.source, *self.sent):
                messages[:, 0] = messages[:, steps]
        for i, layer in self.slow.items():
            over = layer.overflow
            self.overflow[i] = over.u_wraps, over.v_clips, over.sum_wraps
        if run.kept.counts:
            run.counts[self.low : self.high] = self.counts
        if self.counted is not None:
            self.counted.finish()
        if run.following is not None:
            self._stand(run.following)
        return self.overflow

    def _load(self, part: Array, at: int, steps: int) -> None:
        """Bring the input (sample, step, *shape) of some steps into our layout, from column `at` on."""
        shape = self.run_.network.input_shape
        if not steps:
            return
        if self.planes:
            target = self.source.reshape(*self.source.shape[:2], self.planes, -1)
            size = math.prod(shape[1:])
            target[:, at : at + steps, :, :size] = part.reshape(*part.shape[:3], size)
            return
        target = self.source[:, at : at + steps, : math.prod(shape)]
        if len(shape) == 1:
            target[:] = part
            return
        for c in range(shape[0]):
            target[:, :, c :: shape[0]] = part[:, :, c].reshape(*target.shape[:2], -1)

    def _advance(self, i: int, start: int, steps: int) -> None:
        from . import kernels

        run, layer = self.run_, self.run_.layers[i]
        before = self.sent[i - 1] if i else self.source
        options = self._options(i, before)
        graded_out = layer.population.graded
        sent = self.sent[i]
        traces = [
            np.empty((len(sent), steps, layer.population.size), np.int32)
            if i in getattr(run.kept, name)
            else _NO_INTEGERS
            for name in STATES
        ]
        bias = layer.bias
        if options.direct and run.drive.bias is not None:
            bias = _positions_first(run.drive.bias[self.low : self.high], layer.population.shape)
            bias = (bias << arithmetic.STATE_SHIFT).astype(np.int32)

        counted = self._active(i, start, steps)

        def rows(part: tuple[int, int]) -> Array:
            overflow = np.zeros(3, np.int64)
            kernels.advance(
                layer.geometry,
                options,
                *part,
                self.begun + start + 1,
                steps,
                before if before.dtype == np.int8 else _NO_SPIKES,
                before if before.dtype == np.int32 else _NO_INTEGERS,
                layer.weights,
                layer.runs,
                layer.everything,
                layer.known,
                layer.recurrent,
                layer.delays,
                self.ring[i],
                layer.keep_u,
                layer.keep_v,
                bias,
                layer.thresholds,
                self.state[i],
                self.large[i],
                _NO_SPIKES if graded_out else sent,
                sent if graded_out else _NO_INTEGERS,
                *traces,
                *counted,
                overflow,
            )
            return overflow

        if self.pool is not None and run.shareable(layer, (self.low, self.high)):
            middle = layer.rows // 2
            parts = self.pool.map(rows, [(0, middle), (middle, layer.rows)])
            self.overflow[i] += sum(parts)
        else:
            self.overflow[i] += rows((0, layer.rows))
        for name, trace in zip(STATES, traces, strict=True):
            if i in getattr(run.kept, name):
                self._store(name, i, trace, start, steps)

    def _options(self, i: int, before: Array) -> Any:
        """How the layer can run, given the largest message that reaches it."""
        from . import kernels

        run, layer = self.run_, self.run_.layers[i]
        graded = before.dtype == np.int32
        reach = run.largest if i == 0 else self.largest[i - 1]
        if layer.recurrent.size:
            reach = max(reach, 1)  # its own single spikes, though nothing else may have arrived
        if (i, reach) in self.options:
            return self.options[i, reach]
        direct = isinstance(layer.population.layer, Input)
        bound = layer.sums.graded * reach if graded else layer.sums.spikes
        row = layer.row
        if row is None or not layer.whole:
            raise _NeedsReference(i)
        if not direct and layer.sums.stored * (reach if graded else 1) >= 1 << 31:
            raise _NeedsReference(i)
        if layer.recurrent.size and layer.population.graded and not self._single_spikes(i):
            raise _NeedsReference(i)  # its own messages may grow beyond any bound
        interval = run.timing.reset_interval if layer.population.neuron.resets else None
        self.options[i, reach] = kernels.Options(
            kind=row.kind,
            direct=direct,
            planes=0 if i else self.planes,
            graded=graded,
            short=not direct and not graded and bound < 1 << 15 and not layer.delays.size,
            bounded=not direct and bound <= kernels.NARROW_SUM,
            wraps=isinstance(layer.population.layer, Conv) and bound >= 1 << 23,
            recurrent=bool(layer.recurrent.size),
            delayed=bool(layer.delays.size),
            shift=row.shift,
            sin=row.sin,
            cos=row.cos,
            threshold=row.threshold,
            reset_interval=interval or 0,
            reset_phase=run.timing.reset_offset + 1 + i,
            band=layer.band,
        )
        return self.options[i, reach]

    def _single_spikes(self, i: int) -> bool:
        """Whether all messages at layer i, its own ones too, count as single spikes.

        The layer before says so, or for the first one `message_bits`: never what happens to arrive.
        """
        return not self.run_.layers[i - 1].population.graded if i else self.run_.binary

    def _step_slowly(self, i: int, start: int, steps: int) -> None:
        """Run a layer in the reference, because no compiled row is right for its neurons or sums."""
        run, layer, reference = self.run_, self.run_.layers[i], self.slow[i]
        population = layer.population
        before = self.sent[i - 1] if i else self.source
        shape = run.network.populations[i - 1].shape if i else run.network.input_shape
        arriving = before[:, 1 : 1 + steps]
        if i == 0 and self.planes:
            planes = arriving.reshape(*arriving.shape[:2], self.planes, -1)
            arriving = planes[..., : math.prod(shape[1:])].reshape(*arriving.shape[:2], *shape)
        else:
            arriving = _channels_first(arriving, shape)
        states = {
            name: self._result(name, i, start, steps)
            for name in STATES
            if i in getattr(run.kept, name)
        }
        active, first, last = self._active(i, start, steps)
        for k in range(steps):
            if run.timing.forgets(i, self.begun + start + k + 1):
                reference.forget()
            message = arriving[:, k].reshape(len(arriving), *population.input_shape)
            sent = _positions_first(reference.step(message), population.shape)
            self.sent[i][:, 1 + k, : population.size] = sent
            for name, target in states.items():
                target[:, k] = reference.state(name)
            if first <= k < last:
                busy = sent != 0
                for name in population.states:
                    busy |= _positions_first(reference.state(name), population.shape) != 0
                active += busy.sum(axis=0, dtype=np.int32)

    def _keep(self, i: int, start: int, steps: int) -> None:
        """Put the messages of these steps where they were asked for."""
        run, population = self.run_, self.run_.layers[i].population
        sent = self.sent[i][:, 1 : 1 + steps, : population.size]
        if run.following is not None:
            messages = _channels_first(sent, population.shape)
            run.following.remember(i, self.samples, messages)
        if population.graded:
            self.largest[i] = max(self.largest[i], int(sent.max()), -int(sent.min()))
        if i in run.kept.spikes:
            self._store("spikes", i, sent, start, steps)
        if run.kept.counts and i == len(run.layers) - 1:
            self.counts += _channels_first(sent.sum(axis=1, dtype=np.int64), population.shape)

    def _active(self, i: int, start: int, steps: int) -> tuple[Array, int, int]:
        """Where to count active neurons, and the first and the end of these steps that count."""
        if self.counted is None:
            return _NOBODY, 0, 0
        return self.counted.active[i], *self.counted.window(i + 1, start, steps)

    def _result(self, name: str, i: int, start: int, steps: int) -> Array:
        array = self.run_.results[name][i]
        assert array is not None
        return array[self.low : self.high, start : start + steps]

    def _store(self, name: str, i: int, source: Array, start: int, steps: int) -> None:
        target, shape = self._result(name, i, start, steps), self.run_.layers[i].population.shape
        if len(shape) == 1:
            target[:] = source
            return
        from . import kernels

        channels, rows, columns = shape
        kernels.to_channels_first(
            source.reshape(*source.shape[:2], rows * columns, channels),
            target.reshape(*target.shape[:2], channels, rows * columns),
        )


def _channels_first(array: Array, shape: tuple[int, ...]) -> Array:
    """(..., positions and channels, padded) to (..., C, H, W); a dense layer stays."""
    flat = array[..., : math.prod(shape)]
    if len(shape) == 1:
        return flat
    channels, rows, columns = shape
    return np.moveaxis(flat.reshape(*array.shape[:-1], rows, columns, channels), -1, -3)


def _positions_first(array: Array, shape: tuple[int, ...]) -> Array:
    """(sample, C, H, W) to (sample, positions and channels)."""
    if len(shape) == 3:
        array = np.moveaxis(array, 1, -1)
    return array.reshape(len(array), -1)
