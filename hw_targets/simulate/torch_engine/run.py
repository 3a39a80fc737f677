"""`reference.simulate` in torch: the same integers, on a CPU or a CUDA GPU.

Nothing goes back from a layer to the one before it, so each layer runs for many steps of many samples at
once: one product for all of its messages, then a scan over time for its neurons. All that is counted is
counted on the device. Samples and steps are cut so that what a block holds fits in `WORKING_SET`.
"""

from __future__ import annotations

import math
from collections.abc import Collection, Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import ArrayLike, NDArray
from torch import Tensor

from ...network.network import Network
from ...network.timing import AS_INPUT, Timing
from ..engine import begun
from ..inputs import QUANTITIES, Drive, Record, parse_record, prepare_input
from ..state import Following, State
from ..trace import Overflow, Recorded, Trace
from .activity import Collected
from .device import device_of
from .layer import Block, Layer, Running, Wanted
from .order import inward, outward

if TYPE_CHECKING:
    from ...counts.counter import Counter

WORKING_SET = {"cpu": 64 << 20, "cuda": 4 << 30}
"""Bytes of a block on a device of this type; on a GPU at most half of what is free."""
STEPS = 64
"""Where samples and steps do not fit together, so many steps are taken, and as many samples as fit."""


def simulate(
    network: Network,
    inputs: ArrayLike,
    timing: Timing = AS_INPUT,
    *,
    record: str | Collection[str] = "counts",
    device: str = "cpu",
    counter: Counter | None = None,
    state: State | None = None,
) -> Trace:
    """Run a network on a batch, with the results of `reference.simulate`, bit for bit.

    Arguments as there; `device`: "cpu", "cuda", or "cuda:1" and so on; `counter`: what to count on the
    way for `Trace.activity`, whatever is recorded, of runs without `state`. Inputs and
    results are arrays of numpy; weights stay on the device, kept with the network. Raises NetworkError,
    also for a device that torch does not have.
    """
    kept = parse_record(record, network)
    drive = prepare_input(network, inputs, timing)
    where = device_of(device)
    begin = None if state is None else begun(state, network, drive, counter)
    with _exactly(where):
        run = _Run(network, where, drive, kept, timing, counter, begin)
        size, steps = run.block()
        for low in range(0, len(drive.x), size):
            run.samples(low, min(low + size, len(drive.x)), steps)
        return run.trace()


@contextmanager
def _exactly(device: torch.device) -> Iterator[None]:
    """No gradients, no automatic change of types, and all on one device."""
    with torch.no_grad(), torch.autocast(device.type, enabled=False):
        if device.type == "cuda":
            with torch.cuda.device(device):
                yield
        else:
            yield


def layers_on(network: Network, device: torch.device) -> tuple[Layer, ...]:
    """The network's layers on a device: made once, and kept with the network."""
    by_device: dict[str, tuple[Layer, ...]] = network.__dict__.setdefault("_on_torch", {})
    if str(device) not in by_device:
        shapes = [network.input_shape, *(p.shape for p in network.populations)]
        pairs = zip(network.populations, shapes, strict=False)
        by_device[str(device)] = tuple(Layer(p, before, device) for p, before in pairs)
    return by_device[str(device)]


class _Run:
    """One call of `simulate`: what it is given, and the arrays its results go to."""

    def __init__(
        self,
        network: Network,
        device: torch.device,
        drive: Drive,
        kept: Record,
        timing: Timing,
        counter: Counter | None,
        begin: State | None,
    ) -> None:
        self.begin = begin
        self.network, self.device, self.drive = network, device, drive
        self.kept, self.timing = kept, timing
        self.layers = layers_on(network, device)
        samples = len(drive.x)
        shape = (samples, drive.steps)
        self.following = None if begin is None else Following(begin)
        self.collected = None
        if counter is not None:
            counter.check(network, drive.steps)
            self.collected = Collected(counter, *shape, device)
        self.counts = np.zeros((samples, *network.output_shape), np.int64)
        self.overflow = [Overflow() for _ in self.layers]
        self.results: dict[str, list[NDArray[Any] | None]] = {
            name: [
                np.empty(
                    (*shape, *p.shape), np.int8 if name == "spikes" and not p.graded else np.int32
                )
                if p.index in getattr(kept, name)
                else None
                for p in network.populations
            ]
            for name in QUANTITIES
        }

    def trace(self) -> Trace:
        """The results as a `Trace`."""
        return Trace(
            **{
                name: Recorded(name, arrays)
                for name, arrays in self.results.items()
                if getattr(self.kept, name)
            },
            counts=self.counts if self.kept.counts else None,
            overflow=tuple(self.overflow),
            backend="torch",
            activity=None if self.collected is None else self.collected.activity(),
            state=None if self.following is None else self.following.state(self.drive),
        )

    def block(self) -> tuple[int, int]:
        """Samples, and steps, that are taken at a time."""
        samples, steps = max(1, len(self.drive.x)), self.drive.steps
        room = WORKING_SET[self.device.type]
        if self.device.type == "cuda":
            room = min(room, torch.cuda.mem_get_info(self.device)[0] // 2)
        self._patches = max(1, room // 4 // 8)
        fitting = max(1, room // 2 // self._step_bytes)  # steps of a sample
        size = min(samples, max(1, fitting // min(steps, STEPS)))
        size = -(-samples // -(-samples // size))  # as many in every block
        return size, min(steps, max(1, fitting // size))

    @property
    def _step_bytes(self) -> int:
        """Bytes that a step of a sample takes in the largest layer, with what is recorded of it."""
        into = math.prod(self.network.input_shape)
        largest = 4 * into
        for p in self.network.populations:
            recorded = sum(4 for name in QUANTITIES if p.index in getattr(self.kept, name))
            # messages, and the same in floating point; sums in both; delayed ones in 64 bits
            needed = 12 * into + (24 + recorded) * p.size
            largest, into = max(largest, needed), p.size
        return largest

    def samples(self, low: int, high: int, columns: int) -> None:
        """Run samples low .. high - 1, so many columns at a time."""
        drive, populations = self.drive, self.network.populations
        running = []
        for layer, population in zip(self.layers, populations, strict=True):
            i, bias = population.index, None
            if i == 0 and drive.bias is not None:
                flat = inward(drive.bias[low:high], population.shape)
                bias = torch.tensor(flat, dtype=torch.int32, device=self.device)
            binary = not populations[i - 1].graded if i else self.timing.message_bits == 0
            running.append(Running(layer, high - low, bias, self.timing, binary))
        counts = torch.zeros(
            (high - low, populations[-1].size), dtype=torch.int64, device=self.device
        )
        begin, done, block_samples = self.begin, 0, slice(low, high)
        if begin is not None:
            done = begin.step
            for i, part in enumerate(running):
                self._resume(begin, i, part, block_samples)
        for start in range(0, drive.steps, columns):
            steps = min(columns, drive.steps - start)
            x, largest = self._load(low, high, start, steps), drive.largest
            if self.collected is not None:
                self.collected.tally(0, x, low, start)
            for i, part in enumerate(running):
                block = part.advance(
                    x,
                    done + start,
                    largest,
                    self._wanted(i, start, steps),
                    last=start + steps == drive.steps,
                )
                self._keep(i, low, start, block)
                if self.collected is not None:
                    self.collected.tally(i + 1, block.messages, low, start)
                x = block.messages
                largest = _largest(x) if populations[i].graded else 1
                if self.following is not None:
                    sent = outward(x.transpose(0, 1).cpu().numpy(), populations[i].shape)
                    self.following.remember(i, block_samples, sent)
            counts += x.sum(dim=0, dtype=torch.int64)
        if self.kept.counts:
            self.counts[low:high] = outward(counts.cpu().numpy(), self.network.output_shape)
        for i, part in enumerate(running):
            if self.following is not None:
                states = {
                    name: outward(held.cpu().numpy(), populations[i].shape)
                    for name, held in part.states().items()
                }
                self.following.stands(i, block_samples, states)
            self.overflow[i] += part.result()
            if self.collected is not None:
                self.collected.add_active(i, part.active)

    def _resume(self, begin: State, i: int, part: Running, samples: slice) -> None:
        """Bring what a state says of a layer to the device."""
        shapes = [self.network.input_shape, *(p.shape for p in self.network.populations)]

        def tensor(array: NDArray[Any], shape: Sequence[int]) -> Tensor:
            flat = np.array(inward(array[samples], shape), np.int32, order="C")
            return torch.from_numpy(flat).to(self.device)

        part.resume(
            tensor(begin.messages[i], shapes[i]).transpose(0, 1),
            tensor(begin.messages[1 + i][:, -1], shapes[1 + i]),
            [tensor(held, shapes[1 + i]) for held in begin.neurons[i].values()],
            begin.largest[i],
            self._patches,
        )

    def _load(self, low: int, high: int, start: int, steps: int) -> Tensor:
        """The input of these steps on the device, (step, sample, neurons)."""
        x, shape = self.drive.x, self.network.input_shape
        dtype = np.int8 if self.drive.largest <= 127 else np.int32
        there = max(0, min(steps, x.shape[1] - start))
        held = there > 1 and x.strides[1] == 0
        part = x[low:high, start : start + (1 if held else there)]
        sent = torch.from_numpy(np.array(part, dtype, order="C")).to(self.device).transpose(0, 1)
        if len(shape) == 3:
            sent = sent.movedim(-3, -1)
        sent = sent.contiguous().flatten(2)
        if held:
            sent = sent.expand(there, -1, -1)
        if there < steps:
            sent = torch.cat([sent, sent.new_zeros((steps - there, *sent.shape[1:]))])
        return sent

    def _wanted(self, i: int, start: int, steps: int) -> Wanted:
        names = [name for name in QUANTITIES[1:] if i in getattr(self.kept, name)]
        active = None
        if self.collected is not None:
            active = self.collected.window(i + 1, start, steps)
        return Wanted(names, active, self._patches)

    def _keep(self, i: int, low: int, start: int, block: Block) -> None:
        """Put what was asked for where it belongs."""
        shape = self.network.populations[i].shape
        for name, tensor in {"spikes": block.messages, **block.states}.items():
            target = self.results[name][i]
            if target is None:
                continue
            steps, samples = tensor.shape[:2]
            array = tensor.transpose(0, 1).contiguous().cpu().numpy()
            target[low : low + samples, start : start + steps] = outward(array, shape)


def _largest(messages: Tensor) -> int:
    """The size of the largest message."""
    low, high = torch.aminmax(messages)
    return max(1, int(high), -int(low))
