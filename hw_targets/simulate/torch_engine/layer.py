"""A layer while some samples run through it: synapses over many steps at once, then a scan over time."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...network.layers import Input
from ...network.network import Population
from ...network.neurons import NetworkError
from ...network.timing import Timing
from ..trace import Overflow
from . import scan
from .neurons import StepOf, spread, step_of
from .order import image
from .products import INT32, Sums
from .synapses import Convolution, Delayed, synapses_of, wrap32


class Layer:
    """A population on a device: all that does not change while it runs."""

    def __init__(self, population: Population, before: Sequence[int], device: torch.device) -> None:
        """`before`: the shape of the layer before, as it is before any Flatten."""
        self.population, self.before, self.device = population, before, device
        self.forward, self.back = synapses_of(population, before, device)
        bias = None if isinstance(population.layer, Input) else population.layer.bias
        self.bias = spread(0 if bias is None else bias, population, device)
        self.largest_bias = int(self.bias.abs().max())
        self.messages = torch.int32 if population.graded else torch.int8

    @cached_property
    def step(self) -> StepOf:
        """The step of its neurons."""
        return step_of(self.population, self.device)

    @cached_property
    def scan(self) -> scan.Scan | None:
        """All steps of its neurons in one kernel, where that can be had."""
        return scan.scan_of(self.population, self.device)

    @property
    def delay(self) -> int:
        """The longest further delay of its synapses."""
        return max((p.longest for p in self.forward if isinstance(p, Delayed)), default=0)


@dataclass(frozen=True)
class Wanted:
    """What a block of steps has to give beside its messages.

    `states`: names, as in traces. `active`: first step of the block and end of those in which active
    neurons count; `patches`: how many numbers a convolution may hold at a time.
    """

    states: Collection[str]
    active: tuple[int, int] | None
    patches: int


class Block(NamedTuple):
    """What some steps of some samples left: tensors (step, sample, neuron)."""

    messages: Tensor
    states: dict[str, Tensor]


class Running:
    """A layer and its states, for some samples."""

    def __init__(
        self, layer: Layer, samples: int, input_bias: Tensor | None, timing: Timing, binary: bool
    ) -> None:
        """`input_bias`: of Input neurons, (sample, neuron). `binary`: what arrives are single spikes."""
        self.layer = layer
        population, device = layer.population, layer.device
        self._timing, self._binary = timing, binary
        self._bias = layer.bias if input_bias is None else input_bias
        silent = torch.zeros((samples, population.size), dtype=torch.int32, device=device)
        self._silent = silent
        self._states = [silent.clone() for _ in population.states]
        self._arriving = [Sums(silent) for _ in layer.forward]
        """what the messages of the last step bring in the next, but for the layer's own"""
        self._own: Tensor | None = None
        """the layer's own messages of the last step, where they come back"""
        into = torch.Size(population.input_shape).numel()
        self._before = torch.zeros((layer.delay, samples, into), dtype=torch.int8, device=device)
        """messages that still are on their way"""
        self._largest = 1
        self.overflow = torch.zeros(3, dtype=torch.int64, device=device)
        """`Overflow` so far, field by field"""
        self._resumed = False
        self.active = torch.zeros(population.size, dtype=torch.int64, device=device)
        """steps in which each neuron was active, as far as they count"""

    def resume(
        self, arrived: Tensor, own: Tensor, states: Sequence[Tensor], largest: int, patches: int
    ) -> None:
        """Go on in place of the beginning.

        `arrived`: the last messages of the layer before (step, sample, neuron), of at most `largest`;
        `own`: of the layer itself (sample, neuron); `states`: (sample, neuron). `patches`: see `Wanted`.
        """
        layer = self.layer
        self._resumed = True
        self._states, self._largest = list(states), max(self._largest, largest)
        if layer.back is not None:
            self._own = own.to(layer.messages)
        if layer.forward:
            if largest <= 127:
                arrived = arrived.to(torch.int8)
            self._before = arrived[:-1]
            parts = self._sums(arrived[-1:], patches, last=False)
            self._arriving = [part._replace(values=part.values[0].clone()) for part in parts]

    def states(self) -> dict[str, Tensor]:
        """Int32 (sample, neuron), as a trace calls them."""
        return dict(zip(self.layer.population.states, self._states, strict=True))

    def advance(self, x: Tensor, start: int, largest: int, wanted: Wanted, *, last: bool) -> Block:
        """Run the steps start, start + 1, ... (from 0) in which the layer before sends `x`.

        `x`: (step, sample, its neurons); `largest`: at least the size of its messages. `last`: no steps
        follow, so that what the last messages bring is never looked at.
        """
        self._largest = max(self._largest, largest)
        if isinstance(self.layer.population.layer, Input):  # it takes its input without delay
            return self._scan([Sums(x)], None, start, wanted)
        parts = self._sums(x, wanted.patches, last)
        block = self._scan(parts, self._arriving, start, wanted)
        self._arriving = [
            part._replace(values=part.values[len(x) - 1].clone()) for part in parts if not last
        ]
        return block

    def result(self) -> Overflow:
        """What wrapped and was clipped so far."""
        return Overflow(*self.overflow.tolist())

    def _sums(self, x: Tensor, patches: int, last: bool) -> list[Sums]:
        """What the messages bring, each in the step after its own; wraps are counted."""
        steps, counted = len(x), len(x) - last
        held = steps > 1 and x.stride(0) == 0
        frames = x[:1] if held else x
        parts = []
        for synapses in self.layer.forward:
            if isinstance(synapses, Delayed):
                parts.append(self._delayed(synapses, x, last))
                continue
            if isinstance(synapses, Convolution):
                part = synapses(image(frames, self.layer.before), self._largest, patches)
            else:
                part = synapses(frames, self._largest)
            if part.wraps is not None:
                self.overflow[2] += part.wraps.expand(steps, -1, -1)[:counted].sum()
            parts.append(part._replace(values=part.values.expand(steps, -1, -1), wraps=None))
        return parts

    def _delayed(self, synapses: Delayed, x: Tensor, last: bool) -> Sums:
        """As `_sums`. What meets beyond the end of the run wraps there, too, and counts."""
        steps = len(x)
        if self._resumed and synapses.longest and synapses.can_wrap(self._largest):
            raise NetworkError(
                f"population {self.layer.population.index}: messages of {self._largest} might leave 32 "
                f"bits on their way through its delays; in torch that cannot be stopped and gone on "
                f"with: give the state to the engine."
            )
        if last and synapses.can_wrap(self._largest):
            x = torch.cat([x[:-1], x.new_zeros((1 + synapses.longest, *x.shape[1:]))])
        sent = torch.cat([self._before, x])
        self._before = sent[len(sent) - synapses.longest :]
        part = synapses(sent, self._largest)
        if part.wraps is not None:
            self.overflow[2] += part.wraps.sum()
        return Sums(part.values[:steps])

    def _scan(
        self, sums: list[Sums], first: list[Sums] | None, start: int, wanted: Wanted
    ) -> Block:
        """All steps. `first`: what arrives in the first; then sums[k - 1] does in step k.

        None: sums[k] does in step k.
        """
        layer = self.layer
        steps, shape = len(sums[0].values), self._silent.shape
        messages = torch.empty((steps, *shape), dtype=layer.messages, device=layer.device)
        traces = {
            name: torch.empty((steps, *shape), dtype=torch.int32, device=layer.device)
            for name in wanted.states
        }
        if scan.ON and layer.back is None and layer.scan is not None:
            self._at_once(layer.scan, sums, first, start, wanted, messages, traces)
        else:
            self._one_by_one(sums, first, start, wanted, messages, traces)
        return Block(messages, traces)

    def _at_once(
        self,
        kernel: scan.Scan,
        sums: list[Sums],
        first: list[Sums] | None,
        start: int,
        wanted: Wanted,
        messages: Tensor,
        traces: dict[str, Tensor],
    ) -> None:
        """`_scan` in one kernel."""
        reach = max((part.reach(self._largest) for part in self.layer.forward), default=INT32)
        kernel(
            self._states,
            sums,
            first,
            self._bias,
            messages,
            traces,
            None if wanted.active is None else self.active,
            self.overflow,
            scan.Steps(*self._forgets(start), wanted.active or (0, 0)),
            small=first is not None and kernel.small(reach, self.layer.largest_bias),
        )

    def _forgets(self, start: int) -> tuple[int, int]:
        """Steps from `start` to the first before which states are forgotten, and from then on."""
        interval, index = self._timing.reset_interval, self.layer.population.index
        if interval is None or not self.layer.population.neuron.resets:
            return 1 << 30, 1
        return (self._timing.reset_offset + index - start) % interval, interval

    def _one_by_one(
        self,
        sums: list[Sums],
        first: list[Sums] | None,
        start: int,
        wanted: Wanted,
        messages: Tensor,
        traces: dict[str, Tensor],
    ) -> None:
        """`_scan` step by step: its definition."""
        layer = self.layer
        population, back, step = layer.population, layer.back, layer.step
        names = list(population.states)
        low, high = wanted.active or (0, 0)
        for k in range(len(messages)):
            if population.neuron.resets and self._timing.forgets(population.index, start + k + 1):
                self._states = [self._silent] * len(names)
            if first is not None and k == 0:
                arriving = [part.whole() for part in first]
            else:
                at = k if first is None else k - 1
                arriving = [part._replace(values=part.values[at]).whole() for part in sums]
            if back is not None and self._own is not None:
                arriving = [self._with_own(arriving[0], self._own)]
            after = step(self._states, arriving, self._bias)
            self._states = list(after.states)
            messages[k] = after.messages
            for i, count in enumerate(after[2:]):
                if not isinstance(count, int) or count:
                    self.overflow[i] += count
            if back is not None:
                self._own = after.messages
            for name, trace in traces.items():
                trace[k] = self._states[names.index(name)]
            if low <= k < high:
                busy = after.messages != 0
                for state in self._states:
                    busy = busy | (state != 0)
                self.active += busy.sum(dim=0)

    def _with_own(self, forward: Tensor, own: Tensor) -> Tensor:
        """The sums of the layer before and of the layer itself; wraps are counted."""
        back = self.layer.back
        assert back is not None
        single = self._binary or not self.layer.population.graded
        if single:
            own = (own != 0).to(torch.int8)
        sums = back(own, 1 if single else INT32)
        both = forward.long() + sums.whole()
        wrapped = wrap32(both)
        self.overflow[2] += (wrapped != both).sum()
        if sums.wraps is not None:
            self.overflow[2] += sums.wraps.sum()
        return wrapped
