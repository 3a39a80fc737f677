"""A layer while some samples run through it: synapses over many steps at once, then a scan over time."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import torch
from torch import Tensor

from ...network.layers import Input
from ...network.network import Population
from ...network.timing import Timing
from ..trace import Overflow
from .neurons import StepOf, spread, step_of
from .synapses import Convolution, Delayed, Sums, forward_synapses, wrap32


class Layer:
    """A population on a device: all that does not change while it runs."""

    def __init__(self, population: Population, device: torch.device) -> None:
        self.population, self.device = population, device
        self.forward, self.back = forward_synapses(population, device)
        bias = None if isinstance(population.layer, Input) else population.layer.bias
        self.bias = spread(0 if bias is None else bias, population, device)
        self.messages = torch.int32 if population.graded else torch.int8

    @cached_property
    def step(self) -> StepOf:
        """The step of its neurons."""
        return step_of(self.population, self.device)

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
        self._states = (silent,) * len(population.states)
        self._arriving = [silent for _ in layer.forward]
        """what the messages of the last step bring in the next, but for the layer's own"""
        self._own: Tensor | None = None
        """the layer's own messages of the last step, where they come back"""
        into = population.input_shape
        self._before = torch.zeros((layer.delay, samples, *into), dtype=torch.int8, device=device)
        """messages that still are on their way"""
        self._largest = 1
        self.overflow = torch.zeros(3, dtype=torch.int64, device=device)
        """`Overflow` so far, field by field"""
        self.active = torch.zeros(population.size, dtype=torch.int64, device=device)
        """steps in which each neuron was active, as far as they count"""

    def advance(self, x: Tensor, start: int, largest: int, wanted: Wanted, *, last: bool) -> Block:
        """Run the steps start, start + 1, ... (from 0) in which the layer before sends `x`.

        `x`: (step, sample, *input shape); `largest`: at least the size of its messages. `last`: no steps
        follow, so that what the last messages bring is never looked at.
        """
        self._largest = max(self._largest, largest)
        if isinstance(self.layer.population.layer, Input):  # it takes its input without delay
            current = x.reshape(*x.shape[:2], -1).to(torch.int32)
            return self._scan([current], None, start, wanted)
        parts = self._sums(x, wanted.patches, last)
        block = self._scan([part.values for part in parts], self._arriving, start, wanted)
        self._arriving = [part.values[len(x) - 1] for part in parts]
        return block

    def result(self) -> Overflow:
        """What wrapped and was clipped so far."""
        return Overflow(*self.overflow.tolist())

    def _sums(self, x: Tensor, patches: int, last: bool) -> list[Sums]:
        """What the messages bring, each in the step after its own; wraps are counted."""
        steps = len(x)
        held = steps > 1 and x.stride(0) == 0 and not self.layer.delay
        parts = []
        for synapses in self.layer.forward:
            if isinstance(synapses, Delayed):
                part = self._delayed(synapses, x.flatten(2), last)
            else:
                frames = x[:1] if held else x
                if isinstance(synapses, Convolution):
                    part = synapses(frames, self._largest, patches)
                else:
                    part = synapses(frames.flatten(2), self._largest)
                if held:
                    wraps = None if part.wraps is None else part.wraps.expand(steps, -1, -1)
                    part = Sums(part.values.expand(steps, -1, -1), wraps)
                if part.wraps is not None:
                    self.overflow[2] += part.wraps[: steps - last].sum()
            parts.append(part)
        return parts

    def _delayed(self, synapses: Delayed, x: Tensor, last: bool) -> Sums:
        """As `_sums`. What meets beyond the end of the run wraps there, too, and counts."""
        steps = len(x)
        if last and synapses.can_wrap(self._largest):
            x = torch.cat([x[:-1], x.new_zeros((1 + synapses.longest, *x.shape[1:]))])
        sent = torch.cat([self._before.flatten(2).to(x.dtype), x])
        self._before = sent[len(sent) - synapses.longest :]
        part = synapses(sent, self._largest)
        if part.wraps is not None:
            self.overflow[2] += part.wraps.sum()
        return Sums(part.values[:steps], None)

    def _scan(
        self, sums: list[Tensor], first: list[Tensor] | None, start: int, wanted: Wanted
    ) -> Block:
        """Step after step. `first`: what arrives in the first step; then sums[k - 1] does in step k.

        None: sums[k] does in step k.
        """
        layer = self.layer
        population, back, step = layer.population, layer.back, layer.step
        steps, shape = len(sums[0]), self._silent.shape
        messages = torch.empty((steps, *shape), dtype=layer.messages, device=layer.device)
        names = list(population.states)
        traces = {
            name: torch.empty((steps, *shape), dtype=torch.int32, device=layer.device)
            for name in wanted.states
        }
        low, high = wanted.active or (0, 0)
        for k in range(steps):
            if population.neuron.resets and self._timing.forgets(population.index, start + k + 1):
                self._states = (self._silent,) * len(names)
            if first is None:
                arriving = [part[k] for part in sums]
            else:
                arriving = [part[k - 1] for part in sums] if k else first
            if back is not None and self._own is not None:
                arriving = [self._with_own(arriving[0], self._own)]
            after = step(self._states, arriving, self._bias)
            self._states = tuple(after.states)
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
        return Block(messages, traces)

    def _with_own(self, forward: Tensor, own: Tensor) -> Tensor:
        """The sums of the layer before and of the layer itself; wraps are counted."""
        back = self.layer.back
        assert back is not None
        single = self._binary or not self.layer.population.graded
        if single:
            own = own != 0
        values, wraps = back(own, 1 if single else 1 << 31)
        both = forward.long() + values
        wrapped = wrap32(both)
        if self._largest > 1 or not single:
            self.overflow[2] += (wrapped != both).sum()
        if wraps is not None:
            self.overflow[2] += wraps.sum()
        return wrapped
