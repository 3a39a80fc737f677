"""`State`: where a run stands, so that another call can go on from there."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..network.layers import Dense
from ..network.network import Network
from ..network.neurons import IntArray, NetworkError

Array = NDArray[Any]


@dataclass(frozen=True, repr=False)
class State:
    """Where a run stands after some steps: all that the next one depends on, alike for every backend.

    `State()` is the beginning. `simulate(network, x, timing, state=State())` returns it in
    `Trace.state`, for the next call; calls that go on so give what one call on all of the input gives,
    resets included, with `==`, whatever the backends. A state is of one network and of as many samples
    as its run had, and never changes: several runs may go on from it.

    `step`: steps done. `messages`: of the input, then of each population, the last ones, int32 (sample,
    step, *shape), as many steps as the synapses behind them remember. `neurons`: of each population the
    states by the names of a trace ("u", "v", "residue"), int32 (sample, *shape). `largest`: of the
    input, then of each population, at least the size of every message so far.
    """

    step: int = 0
    messages: tuple[IntArray, ...] = ()
    neurons: tuple[Mapping[str, IntArray], ...] = ()
    largest: tuple[int, ...] = field(default=(), compare=False)
    digest: str = ""
    """of the network"""

    def __repr__(self) -> str:
        if not self.digest:
            return "<State: the beginning>"
        samples = len(self.messages[0])
        return f"<State after {self.step} steps of {samples} samples, network {self.digest[:12]}>"

    def of(self, network: Network, samples: int) -> State:
        """This state for a run of `network`, with zeros where it is the beginning.

        Raises NetworkError where it is that of another network, or of another number of samples.
        """
        if not self.digest:
            return self._first(network, samples)
        if self.digest != network.digest:
            raise NetworkError(
                f"the state is one of network {self.digest[:12]}, not of {network.digest[:12]}; begin "
                f"with State()."
            )
        if len(self.messages[0]) != samples:
            raise NetworkError(
                f"the state has {len(self.messages[0])} samples, the input {samples}; go on with the "
                f"same samples, or begin with State()."
            )
        return self

    def _first(self, network: Network, samples: int) -> State:
        shapes = [network.input_shape, *(p.shape for p in network.populations)]
        pairs = zip(remembered(network), shapes, strict=True)
        return State(
            messages=tuple(np.zeros((samples, k, *shape), np.int32) for k, shape in pairs),
            neurons=tuple(
                {name: np.zeros((samples, *p.shape), np.int32) for name in p.states}
                for p in network.populations
            ),
            largest=(1,) * len(shapes),
            digest=network.digest,
        )

    def after(
        self,
        steps: int,
        messages: Sequence[IntArray],
        neurons: Sequence[Mapping[str, IntArray]],
        largest: Sequence[int],
    ) -> State:
        """The state `steps` later; arguments as the fields, `largest` of these steps alone."""
        both = zip(self.largest, largest, strict=True)
        return State(
            self.step + steps,
            tuple(messages),
            tuple(neurons),
            tuple(max(pair) for pair in both),
            self.digest,
        )


def remembered(network: Network) -> list[int]:
    """Steps for which the messages of the input, then of each population, matter later."""
    delays = [
        int(np.max(p.layer.delays, initial=0))
        if isinstance(p.layer, Dense) and p.layer.delays is not None
        else 0
        for p in network.populations
    ]
    return [1 + delay for delay in (*delays, 0)]


def latest(before: IntArray, messages: Array) -> IntArray:
    """The last messages (sample, step, ...), as many steps as `before` has, which came before them."""
    steps = before.shape[1]
    recent = messages[:, max(0, messages.shape[1] - steps) :].astype(np.int32)
    joined: IntArray = np.concatenate([before, recent], axis=1)[:, -steps:]
    return joined.copy()


def latest_input(before: IntArray, x: Array, steps: int) -> IntArray:
    """`latest` of an input (sample, time, *shape) in a run of `steps`, beyond which it is silent."""
    silent = min(max(0, steps - x.shape[1]), before.shape[1])
    quiet = np.zeros((len(x), silent, *x.shape[2:]), np.int32)
    return latest(latest(before, x[:, :steps]), quiet)
