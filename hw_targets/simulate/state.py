"""`State`: where a run stands, so that another call can go on from there."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..network.layers import Dense
from ..network.network import Network
from ..network.neurons import IntArray, NetworkError
from .inputs import Drive

Array = NDArray[Any]


@dataclass(frozen=True, repr=False, eq=False)
class State:
    """Where a run stands after some steps: all that the next one depends on, alike for every backend.

    `State()` is the beginning. `simulate(network, x, timing, state=State())` returns it in
    `Trace.state`, for the next call; calls that go on so give what one call on all of the input gives,
    resets included, with `==`, whatever the backends. A state is of one network and of as many samples
    as its run had. Its arrays are read-only: several runs may go on from it.

    `step`: steps done. `messages`: of the input, then of each population, the last ones, int32 (sample,
    step, *shape), as many steps as the synapses behind them remember. `neurons`: of each population the
    states by the names of a trace ("u", "v", "residue"), int32 (sample, *shape). `largest`: of the
    input, then of each population, at least the size of every message so far.
    """

    step: int = 0
    messages: tuple[IntArray, ...] = ()
    neurons: tuple[Mapping[str, IntArray], ...] = ()
    largest: tuple[int, ...] = ()
    digest: str = ""
    """of the network"""

    def __post_init__(self) -> None:
        for array in (*self.messages, *(held for of in self.neurons for held in of.values())):
            array.flags.writeable = False

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


def remembered(network: Network) -> list[int]:
    """Steps for which the messages of the input, then of each population, matter later."""
    delays = [
        int(np.max(p.layer.delays, initial=0))
        if isinstance(p.layer, Dense) and p.layer.delays is not None
        else 0
        for p in network.populations
    ]
    return [1 + delay for delay in (*delays, 0)]


class Following:
    """The state after a run, which fills it: of some samples after others, each layer for itself."""

    def __init__(self, begin: State) -> None:
        self._begin = begin
        self._messages = [messages.copy() for messages in begin.messages[1:]]
        self._neurons = [{name: held.copy() for name, held in of.items()} for of in begin.neurons]
        self._largest = np.ones((len(self._messages), len(begin.messages[0])), np.int64)

    def restart(self, samples: slice) -> None:
        """Forget what `remember` had of these samples: their run begins, or begins again."""
        for kept, before in zip(self._messages, self._begin.messages[1:], strict=True):
            kept[samples] = before[samples]

    def remember(self, i: int, samples: slice, sent: Array) -> None:
        """Population i sends `sent` (sample, step, *shape) in the next steps."""
        kept = self._messages[i][samples]
        kept[:] = _latest(kept, sent)
        axes = tuple(range(1, sent.ndim))
        low, high = (of(sent, axis=axes, initial=0) for of in (np.min, np.max))
        sizes = np.maximum(high.astype(np.int64), -low.astype(np.int64))
        self._largest[i, samples] = np.maximum(self._largest[i, samples], sizes)

    def stands(self, i: int, samples: slice, states: Mapping[str, Array]) -> None:
        """The neurons of population i have these states (sample, *shape) at the end."""
        for name, held in states.items():
            self._neurons[i][name][samples] = held

    def state(self, drive: Drive) -> State:
        """The state after the whole run on `drive`."""
        begin = self._begin
        largest = [drive.largest, *self._largest.max(axis=1, initial=1).tolist()]
        return State(
            begin.step + drive.steps,
            (_latest_input(begin.messages[0], drive), *self._messages),
            tuple(self._neurons),
            tuple(max(pair) for pair in zip(begin.largest, largest, strict=True)),
            begin.digest,
        )


def _latest(before: IntArray, messages: Array) -> IntArray:
    """The last messages (sample, step, ...), as many steps as `before` has, which came before them."""
    steps = before.shape[1]
    joined: IntArray = np.concatenate([before, messages[:, -steps:].astype(np.int32)], axis=1)
    return joined[:, -steps:]


def _latest_input(before: IntArray, drive: Drive) -> IntArray:
    """`_latest` of the input of a run, which is silent beyond its time."""
    silent = min(max(0, drive.steps - drive.x.shape[1]), before.shape[1])
    quiet = np.zeros((len(drive.x), silent, *drive.x.shape[2:]), np.int32)
    return _latest(_latest(before, drive.x[:, : drive.steps]), quiet)
