from pathlib import Path

import numpy as np
import pytest

from spikeship.hw_targets.files import atomic_path
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, NetworkError
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate.reference import simulate
from spikeship.hw_targets.simulate.trace import Overflow, Recorded, Trace

RNG = np.random.default_rng(5)
NEURON = CubaLIF(2000, 700, 90)
IMAGE = (2, 4, 3)
CONV = Conv(RNG.integers(-60, 90, (3, 2, 2, 3)), None, NEURON)
NETWORKS = {
    "dense": Network([Dense([[90, -20]], None, NEURON), Dense([[50]])]),
    "conv": Network([Input(IMAGE), CONV, Flatten(), Dense(np.ones((3, 9), int), None, NEURON)]),
    "input neurons": Network([Input(IMAGE, NEURON), CONV]),
}


# -- trace -------------------------------------------------------------------------------------


def numbered(network: Network, steps: int) -> Trace:
    """A trace whose every entry is its own column number, negative in u."""
    columns = [
        np.broadcast_to(np.arange(steps).reshape(1, -1, *[1] * len(p.shape)), (2, steps, *p.shape))
        for p in network.populations
    ]
    return Trace(tuple(columns), tuple(-c for c in columns), None, (Overflow(1),), "made up")


def test_aligned_columns_answer_the_same_input_step() -> None:
    network = NETWORKS["input neurons"]
    assert [p.latency for p in network.populations] == [0, 1]
    trace = numbered(network, 8).aligned(network, 7)
    for p, spikes, u in zip(network.populations, trace.spikes, trace.u, strict=True):
        assert spikes.shape == (2, 7, *p.shape)
        assert spikes[1, :, 0, 0, 0].tolist() == list(range(p.latency, p.latency + 7))
        assert np.array_equal(u, -spikes)
    assert (trace.v, trace.overflow, trace.backend) == (None, (Overflow(1),), "made up")


def test_first_answer_is_in_the_first_aligned_column() -> None:
    """One message at step 1 moves u of every layer in column 0, and not before."""
    chain = Network([Dense([[100]], None, CubaLIF(4096, 4096, 0)) for _ in range(4)])
    trace = simulate(chain, [[[1]]], Timing(1 + chain.latency), record=("spikes", "u"))
    assert [int(np.flatnonzero(u)[0]) for u in trace.u] == [1, 2, 3, 4]
    aligned = trace.aligned(chain, 1)
    assert [u.item() for u in aligned.u] == [6400] * 4


def test_aligning_needs_enough_steps() -> None:
    network = NETWORKS["dense"]
    with pytest.raises(NetworkError, match=r"has 8 steps; 7 aligned .* latency 2 need 9"):
        numbered(network, 8).aligned(network, 7)


SAVED = {
    (): (),
    ("spikes",): ("spikes.0", "spikes.1"),
    ("u", "v"): ("u.0", "u.1", "v.0", "v.1"),
    ("spikes", "u", "v"): ("spikes.0", "spikes.1", "u.0", "u.1", "v.0", "v.1"),
    ("spikes.1", "u.0", "counts"): ("spikes.1", "u.0", "counts"),
}


@pytest.mark.parametrize("record", SAVED)
def test_save_and_load(record: tuple[str, ...], tmp_path: Path) -> None:
    network = NETWORKS["conv"]
    trace = simulate(network, RNG.integers(0, 2, (2, 4, *IMAGE)), record=record)
    trace.save(tmp_path / "deep" / "trace.npz")
    loaded = Trace.load(tmp_path / "deep" / "trace.npz")
    for key in SAVED[record]:
        name, _, number = key.partition(".")
        before, after = (getattr(t, name) for t in (trace, loaded))
        if number:
            before, after = before[int(number)], after[int(number)]
        assert before.dtype == after.dtype
        assert np.array_equal(before, after)
    assert (loaded.backend, loaded.overflow) == ("reference", None)
    with np.load(tmp_path / "deep" / "trace.npz") as file:
        assert sorted(file.files) == sorted(["backend", *SAVED[record]])


def test_what_was_not_recorded_is_an_error() -> None:
    network = NETWORKS["dense"]
    trace = simulate(network, np.ones((2, 8, 2), int), record=("u.1", "spikes")).aligned(network, 6)
    assert isinstance(trace.u, Recorded)
    assert (trace.u.populations, trace.v, trace.counts) == ((1,), None, None)
    assert trace.u[1].shape == trace.u[-1].shape == (2, 6, 1)
    assert [s.shape[2:] for s in trace.spikes] == [p.shape for p in network.populations]
    for ask in (lambda: trace.u[0], lambda: list(trace.u)):
        with pytest.raises(NetworkError, match=r'u of population 0 .* with record="u\.0"'):
            ask()


def test_overflow_adds_up() -> None:
    assert Overflow(1, 2, 3) + Overflow(10, 20, 30) == Overflow(11, 22, 33)
    assert [bool(Overflow(*n)) for n in ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))] == [
        False,
        True,
        True,
        True,
    ]


# -- atomic_path -------------------------------------------------------------------------------


@pytest.mark.parametrize("existing", [None, "old"])
def test_file_appears_at_once(existing: str | None, tmp_path: Path) -> None:
    path = tmp_path / "new" / "file.txt"
    if existing:
        path.parent.mkdir()
        path.write_text(existing)
    with atomic_path(path) as temporary:
        temporary.write_text("whole")
        assert temporary.parent == path.parent  # so that renaming cannot cross file systems
        assert (path.read_text() if path.exists() else None) == existing
    assert {p.name: p.read_text() for p in path.parent.iterdir()} == {"file.txt": "whole"}


@pytest.mark.parametrize("existing", [None, "old"])
@pytest.mark.parametrize("error", [ValueError, KeyboardInterrupt])
def test_failure_leaves_what_was_there(
    error: type[BaseException], existing: str | None, tmp_path: Path
) -> None:
    if existing:
        (tmp_path / "file.txt").write_text(existing)
    with pytest.raises(error), atomic_path(tmp_path / "file.txt") as temporary:  # noqa: PT012
        temporary.write_text("half")
        raise error
    left = {p.name: p.read_text() for p in tmp_path.iterdir()}
    assert left == ({"file.txt": existing} if existing else {})
