"""Some samples on their way through a network: what `engine.simulate` gives a thread to do.

`Buffers` hold the messages and states of so many samples, and are used again; a `Block` takes its samples
through all steps, a layer after the other for some steps at a time.
"""

from __future__ import annotations

import math
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from ..network import arithmetic
from ..network.kind import STATES
from ..network.layers import Dense, Input
from .reference import DelayedMatrix, RunningLayer
from .state import Following, State

if TYPE_CHECKING:
    from .engine import Run

Array = NDArray[Any]

_NO_SPIKES = np.zeros((0, 0, 0), np.int8)
_NO_INTEGERS = np.zeros((0, 0, 0), np.int32)
_NOBODY = np.zeros(0, np.int32)


class NeedsReference(Exception):
    """Nothing proves that the sums of this layer are whole and exact in 64 bits, or its neurons have no
    compiled row."""

    def __init__(self, layer: int) -> None:
        self.layer = layer


class Buffers:
    """Messages and states of some samples; blocks alike hand them on, also those of other calls."""

    @staticmethod
    def kind(run: Run, samples: int) -> tuple[int, int, int, bool]:
        """Samples, steps at a time, planes of the input, and whether that is graded: all that differs."""
        graded = run.largest > 1 or isinstance(run.layers[0].population.layer, Input)
        return samples, run.columns(samples), run.planes, graded

    def __init__(self, run: Run, samples: int) -> None:
        self.of = self.kind(run, samples)
        self.samples, self.columns, _, graded = self.of
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
        arrays: list[Array] = [*self.state, *self.large, *self.ring]
        for array in arrays:
            array[:] = 0


class Block:
    """Some samples on their way through all steps.

    It may be given up and run again, see `Run.samples`: whatever adds up stays in the block until all
    steps are through.
    """

    def __init__(
        self,
        run: Run,
        low: int,
        high: int,
        slow: set[int],
        pool: ThreadPoolExecutor | None,
        buffers: Buffers,
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
        run, layer = self.run_, self.run_.layers[i]
        reach = run.largest if i == 0 else self.largest[i - 1]
        if layer.recurrent.size:
            reach = max(reach, 1)  # its own single spikes, though nothing else may have arrived
            if layer.population.graded and not self._single_spikes(i):
                raise NeedsReference(i)  # its own messages may grow beyond any bound
        interval = run.timing.reset_interval if layer.population.neuron.resets else None
        phase = run.timing.reset_offset + 1 + i
        graded = before.dtype == np.int32
        options = layer.options(0 if i else self.planes, graded, reach, interval or 0, phase)
        if options is None:
            raise NeedsReference(i)
        return options

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
