"""A run in pieces, each of which goes on from the state of the one before: the same integers, with `==`."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from spikeship.benchmarks._fuzz_checks import difference
from spikeship.hw_targets.counts.counter import Counter
from spikeship.hw_targets.network.layers import Conv, Dense, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, Delta, NetworkError, SigmaDelta
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.state import State
from spikeship.hw_targets.simulate.torch_engine import run as on_torch
from spikeship.hw_targets.simulate.trace import Trace

from kinds import (
    SIMULATORS,
    Case,
    Rng,
    case,
    delays_that_wrap,
    dense,
    draw,
    every_kind,
    joined,
    run,
)


def pieces(example: Case, cuts: list[int], functions: list[Any]) -> tuple[list[Trace], State]:
    """Steps 0 .. cuts[0] - 1, cuts[0] .. cuts[1] - 1, ..., by one backend after another."""
    constant = example.inputs.ndim == 1 + len(example.network.input_shape)
    state, traces = State(), []
    for k, (low, high) in enumerate(zip([0, *cuts], cuts, strict=False)):
        x = example.inputs if constant else example.inputs[:, low:high]
        function = functions[k % len(functions)]
        traces.append(run(function, example, inputs=x, steps=high - low, state=state))
        assert traces[-1].state is not None
        state = traces[-1].state
    return traces, state


def same_state(first: State, second: State) -> bool:
    """All but `largest`, of which backends know more or less."""
    return (first.step, first.digest) == (second.step, second.digest) and all(
        np.array_equal(mine, theirs)
        for mine, theirs in zip(
            [*first.messages, *(s for of in first.neurons for s in of.values())],
            [*second.messages, *(s for of in second.neurons for s in of.values())],
            strict=True,
        )
    )


def steps_of(example: Case) -> int:
    return int(example.arguments.get("steps") or example.inputs.shape[1])


@pytest.mark.slow
@pytest.mark.parametrize("name", SIMULATORS)
@every_kind
def test_pieces_are_the_whole(kind: Callable[[Rng], Case], name: str) -> None:
    """Pieces of one step, of some and of many, cut where the seed says."""
    if name == "torch" and kind is delays_that_wrap:
        pytest.skip("refused, see test_what_cannot_go_on_is_refused")
    for seed in range(3):
        example = case(kind, seed)
        steps = steps_of(example)
        cut = int(np.random.default_rng(seed).integers(1, steps - 1))
        traces, state = pieces(example, [cut, cut + 1, steps], [SIMULATORS[name]])
        whole = run(reference.simulate, example)
        assert (
            difference(example.network, joined(example.network, traces, axis=1), whole) is None
        ), seed
        _, expected = pieces(example, [steps], [reference.simulate])
        assert same_state(state, expected), seed
        assert state.step == steps


@every_kind
def test_backends_hand_over(kind: Callable[[Rng], Case]) -> None:
    """Step by step, each by another backend than the one before."""
    names = (
        ["engine", "reference"] if kind is delays_that_wrap else ["engine", "torch", "reference"]
    )
    example = case(kind, 3)
    steps = steps_of(example)
    cuts = list(range(1, steps + 1))
    traces, _ = pieces(example, cuts, [SIMULATORS[name] for name in names])
    whole = run(reference.simulate, example)
    assert difference(example.network, joined(example.network, traces, axis=1), whole) is None


@pytest.mark.parametrize("name", SIMULATORS)
def test_smaller_messages_do_not_narrow_what_is_held(name: str) -> None:
    """Sums and states that large messages left need as many bits as before, whatever comes next."""
    rng = np.random.default_rng(0)
    late = draw(rng, 0, 62, 5, 6)
    late[0, 0] = 62
    networks = [
        Network([Dense(draw(rng, -100, 100, 5, 6), None, neuron, delay=delay)])
        for neuron in (CubaLIF(40, 20, 100000), SigmaDelta(3))
        for delay in (None, late)
    ]
    for image, neuron in (
        (Input((3, 5, 4)), CubaLIF(3, 4, 90000)),
        (Input((3, 5, 4), Delta(2)), SigmaDelta(9)),
    ):
        layer = Conv(draw(rng, -99, 99, 4, 3, 2, 2), None, neuron)
        networks.append(Network([image, layer]))
    for network in networks:
        shape = network.input_shape
        loud = draw(rng, -5000, 5000, 2, 7, *shape)
        quiet = draw(rng, 0, 1, 2, 60, *shape)
        example = Case(network, np.concatenate([loud, quiet], axis=1))
        traces, _ = pieces(example, [7, 20, 67], [SIMULATORS[name]])
        whole = run(reference.simulate, example)
        assert difference(network, joined(network, traces, axis=1), whole) is None


def test_pieces_in_blocks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Blocks of samples, and threads that finish in any order."""
    monkeypatch.setattr(engine, "SCRATCH", 1)
    monkeypatch.setattr(engine, "ALONE", 0)
    monkeypatch.setitem(on_torch.WORKING_SET, "cpu", 1)
    example = case(dense, 0)
    example = replace(example, inputs=np.concatenate([example.inputs] * 5))
    whole = run(reference.simulate, example)
    for function in (engine.simulate, on_torch.simulate):
        traces, _ = pieces(example, [3, 11, steps_of(example)], [function])
        assert difference(example.network, joined(example.network, traces, axis=1), whole) is None


def test_a_state_is_never_changed() -> None:
    """Several runs go on from one."""
    example = case(dense, 1)
    for function in SIMULATORS.values():
        state = run(function, example, state=State()).state
        first, second = (run(function, example, state=state) for _ in range(2))
        assert difference(example.network, first, second) is None
        assert same_state(first.state, second.state)
        with pytest.raises(ValueError, match="read-only"):
            state.neurons[0]["u"][:] = 1


def test_without_state_there_is_none() -> None:
    example = case(dense, 0)
    assert all(run(function, example).state is None for function in SIMULATORS.values())
    assert repr(State()) == "<State: the beginning>"


def test_no_samples() -> None:
    example = case(dense, 0)
    for function in SIMULATORS.values():
        trace = run(function, example, inputs=example.inputs[:0], state=State())
        again = run(function, example, inputs=example.inputs[:0], state=trace.state)
        assert again.state.step == 2 * steps_of(example)


def test_what_cannot_go_on_is_refused() -> None:
    example, other = case(dense, 0), case(dense, 1)
    state = run(reference.simulate, example, state=State()).state
    wraps = case(delays_that_wrap, 0)
    for call, message in (
        (lambda f: run(f, other, state=state), "the state is one of network"),
        (
            lambda f: run(f, example, inputs=example.inputs[:2], state=state),
            "the state has 3 samples",
        ),
    ):
        for function in SIMULATORS.values():
            with pytest.raises(NetworkError, match=message):
                call(function)
    for backend in ("engine", "torch"):
        with pytest.raises(NetworkError, match="only whole runs are counted"):
            engine.simulate(
                example.network,
                example.inputs,
                counter=Counter(example.network),
                state=State(),
                backend=backend,  # type: ignore[arg-type]
            )
    with pytest.raises(NetworkError, match="give the state to the engine"):
        run(on_torch.simulate, wraps, state=State())


def test_lava_begins_at_the_beginning() -> None:
    example = case(dense, 0)
    with pytest.raises(NetworkError, match="Lava always begins at the beginning"):
        lava_cpu.run(example.network, example.inputs, Timing(), state=State())
