from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from spikeship.hw_targets.counts import Counts, count, fan_out
from spikeship.hw_targets.network import (
    Conv,
    CubaLIF,
    Dense,
    Flatten,
    Input,
    Network,
    NetworkError,
    Population,
)
from spikeship.hw_targets.reference import simulate
from spikeship.hw_targets.trace import Overflow, Recorded, Trace, atomic_path

RNG = np.random.default_rng(5)
NEURON = CubaLIF(2000, 700, 90)
IMAGE = (4, 6, 5)


def sparse(*shape: int) -> np.ndarray:
    """Integers of which about half are zero."""
    return RNG.integers(-60, 90, shape) * RNG.integers(0, 2, shape)


CONV = Conv(
    sparse(6, 2, 2, 3), None, NEURON, stride=(2, 1), padding=(1, 2), dilation=(3, 2), groups=2
)
NETWORKS = {
    "dense": Network([Dense(sparse(5, 7), None, NEURON), Dense(sparse(3, 5))]),
    "conv, every option": Network(
        [Input(IMAGE), CONV, Flatten(), Dense(sparse(3, 90), None, NEURON)]
    ),
    "input neurons": Network(
        [Input(IMAGE, NEURON), replace(CONV, groups=1, weight=sparse(3, 4, 2, 3))]
    ),
    "stride beyond the kernel": Network(
        [Input((1, 7, 7)), Conv(sparse(2, 1, 2, 2), None, NEURON, stride=3)]
    ),
}
SAMPLES, STEPS = 3, 6


def run(name: str, samples: int = SAMPLES) -> tuple[Network, np.ndarray, Trace]:
    """A network, its input and its trace without latencies."""
    network = NETWORKS[name]
    rng = np.random.default_rng(9)
    shape = (samples, STEPS, *network.input_shape)
    inputs = rng.integers(0, 90, shape) * rng.integers(0, 2, shape)
    trace = simulate(network, inputs, STEPS + network.latency, record="spikes")
    return network, inputs, trace.aligned(network, STEPS)


def synapses(p: Population) -> Iterator[tuple[tuple[int, ...], int]]:
    """Every synapse of a layer: the place it comes from, and its weight. Padding has none."""
    layer = p.layer
    if isinstance(layer, Input):
        return
    if isinstance(layer, Dense):
        for (_, place), weight in np.ndenumerate(layer.weight):
            yield (place,), int(weight)
        return
    outs, ins = len(layer.weight) // layer.groups, layer.weight.shape[1]
    for out, y, x in np.ndindex(p.shape):
        for c, ky, kx in np.ndindex(layer.weight.shape[1:]):
            iy = y * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
            ix = x * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
            if 0 <= iy < p.input_shape[1] and 0 <= ix < p.input_shape[2]:
                yield (out // outs * ins + c, iy, ix), int(layer.weight[out, c, ky, kx])


@pytest.mark.parametrize("name", NETWORKS)
def test_counts_equal_brute_force(name: str) -> None:
    network, inputs, trace = run(name)
    found = count(network, inputs, trace)
    assert (found.samples, found.steps, found.digest) == (SAMPLES, STEPS, network.digest)
    arriving = inputs
    for p, layer, leaving in zip(network.populations, found.layers, trace.spikes, strict=True):
        messages = arriving.reshape(SAMPLES, STEPS, *p.input_shape)
        expected = dict.fromkeys(("synops", "synops_fanout", "dense_ops"), 0)
        for place, weight in synapses(p):
            delivered = sum(bool(m[place]) for sample in messages for m in sample)
            expected["synops"] += delivered if weight else 0
            expected["synops_fanout"] += delivered
            expected["dense_ops"] += SAMPLES * STEPS
        assert {k: getattr(layer, k) for k in expected} == expected
        assert (layer.name, layer.neurons) == (p.name, leaving[0, 0].size)
        driven = isinstance(p.layer, Input)  # by currents, which are no messages
        assert layer.spikes_in == (0 if driven else sum(1 for x in messages.flat if x))
        assert layer.spikes_out == sum(1 for x in leaving.flat if x)
        assert layer.neuron_updates == p.size * STEPS * SAMPLES
        assert layer.synops <= layer.synops_fanout <= layer.dense_ops
        arriving = leaving
    first = found.layers[-1]
    assert 0 < first.synops < first.synops_fanout < first.dense_ops


@pytest.mark.parametrize("zeros", [False, True])
@pytest.mark.parametrize("name", NETWORKS)
def test_fan_out_of_every_input(name: str, zeros: bool) -> None:
    for p in NETWORKS[name].populations:
        expected = np.zeros(p.input_shape, int)
        for place, weight in synapses(p):
            expected[place] += bool(weight) or zeros
        assert np.array_equal(fan_out(p, zeros=zeros), expected)


def test_no_spikes_no_synops() -> None:
    network = NETWORKS["dense"]
    silence = np.zeros((2, 4, 7), int)
    counts = count(network, silence, simulate(network, silence, record="spikes"))
    events = [counts.total(k) for k in ("spikes_in", "spikes_out", "synops", "synops_fanout")]
    assert events == [0, 0, 0, 0]
    assert counts.total("neuron_updates") == (5 + 3) * 4 * 2
    assert counts.total("dense_ops") == (35 + 15) * 4 * 2


def test_counts_of_batches_add_up() -> None:
    network, inputs, trace = run("conv, every option")
    parts = [
        count(network, inputs[part], Trace(tuple(s[part] for s in trace.spikes)))
        for part in (slice(0, 1), slice(1, None))
    ]
    assert parts[0] + parts[1] == count(network, inputs, trace)
    assert parts[0] != parts[1]


def counted(name: str, digest: str | None = None, steps: int | None = None) -> Counts:
    counts = count(*run(name))
    return replace(counts, digest=digest or counts.digest, steps=steps or counts.steps)


ADDITIONS = [("other network", "0" * 64, None), ("other time", None, STEPS + 1)]


@pytest.mark.parametrize(("name", "digest", "steps"), ADDITIONS)
def test_counts_of_different_runs_do_not_add(
    name: str, digest: str | None, steps: int | None
) -> None:
    with pytest.raises(NetworkError, match="different networks or step numbers do not add"):
        counted("dense") + counted("dense", digest, steps)


def test_counting_needs_spikes_of_the_same_time() -> None:
    network, inputs, trace = run("dense")
    with pytest.raises(NetworkError, match="a trace with spikes: record='spikes'"):
        count(network, inputs, replace(trace, spikes=None))
    with pytest.raises(NetworkError, match=r"\(sample, time\) = \(3, 5\), the trace \(3, 6\)"):
        count(network, inputs[:, 1:], trace)


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
    trace = simulate(chain, [[[1]]], 1 + chain.latency, record=("spikes", "u"))
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
    network = NETWORKS["conv, every option"]
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
    trace = simulate(network, np.ones((2, 8, 7), int), record=("u.1", "spikes")).aligned(network, 6)
    assert isinstance(trace.u, Recorded)
    assert (trace.u.populations, trace.v, trace.counts) == ((1,), None, None)
    assert trace.u[1].shape == trace.u[-1].shape == (2, 6, 3)
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
