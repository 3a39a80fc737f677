"""What is particular to the engine; that it equals the reference is tests/test_parity.py."""

import math
import multiprocessing
import os
import pickle
import subprocess
import sys
import tracemalloc
import warnings
from typing import Any

import numpy as np
import pytest

from spikeship.benchmarks._fuzz_checks import difference
from spikeship.hw_targets.counts.counter import Counter
from spikeship.hw_targets.counts.counts import tally
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, Delta, ResonateFire, Sigma, SigmaDelta
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate import block, engine, kernels, layout, reference
from spikeship.hw_targets.simulate.inputs import QUANTITIES
from spikeship.hw_targets.simulate.trace import Trace

ALL = ("spikes", "u", "v", "counts")


def same(one: Trace, other: Trace) -> bool:
    """Every recorded integer, and every counted overflow, is equal."""
    assert one.spikes is not None
    assert other.spikes is not None
    arrays = [(one.counts, other.counts), *zip(one.spikes, other.spikes, strict=True)]
    for name in ("u", "v"):
        mine, theirs = getattr(one, name), getattr(other, name)
        assert mine.populations == theirs.populations
        arrays += [(mine[i], theirs[i]) for i in mine.populations]
    return one.overflow == other.overflow and all(np.array_equal(a, b) for a, b in arrays)


def conv_net(seed: int = 0) -> Network:
    rng = np.random.default_rng(seed)
    first = Conv(
        rng.integers(-90, 90, (5, 2, 3, 3)),
        rng.integers(-40, 40, 5),
        CubaLIF(1024, 512, 150),
        stride=2,
        padding=1,
    )
    second = Conv(rng.integers(-90, 90, (6, 5, 2, 3)), None, CubaLIF(600, 4096, 200))
    head = Network([Input((2, 12, 15)), first, second])
    size = int(np.prod(head.output_shape))
    dense = Dense(rng.integers(-50, 50, (7, size)), None, CubaLIF(0, 100, 600))
    return Network([*head.layers, Flatten(), dense])


def spikes(network: Network, samples: int, steps: int, rate: float = 0.3) -> np.ndarray:
    rng = np.random.default_rng(5)
    return (rng.random((samples, steps, *network.input_shape)) < rate).astype(np.int8)


@pytest.mark.parametrize("rate", [0, 0.02, 0.2, 1])
def test_every_activity_takes_the_right_path(rate: float) -> None:
    network = conv_net()
    x = spikes(network, 3, 12, rate)
    assert same(engine.simulate(network, x, record=ALL), reference.simulate(network, x, record=ALL))


@pytest.mark.parametrize("rate", [0.01, 0.1, 0.6, "graded"])
@pytest.mark.parametrize("channels", [4, 8, 20, 36, 68, 100])
def test_events_reach_every_output_of_their_rows(channels: int, rate: float | str) -> None:
    """Strides, paddings, dilations and kernels of every kind, event by event and row by row."""
    rng = np.random.default_rng(channels)
    for _ in range(12):
        stride, padding, kernel = (
            rng.integers(1, 4, 2),
            rng.integers(0, 4, 2),
            rng.integers(1, 6, 2),
        )
        layer = Conv(
            rng.integers(-256, 255, (channels, 3, *kernel)),
            None,
            CubaLIF(800, 500, 3000),
            stride=stride,
            padding=padding,
            dilation=(int(rng.integers(1, 3)), 1),
        )
        network = Network([Input((3, 11, 10)), layer])
        x = (
            rng.integers(-9, 10, (2, 4, 3, 11, 10)) * (rng.random((2, 4, 3, 11, 10)) < 0.2)
            if isinstance(rate, str)
            else spikes(network, 2, 4, rate)
        )
        assert same(
            engine.simulate(network, x, record=ALL), reference.simulate(network, x, record=ALL)
        )


@pytest.mark.parametrize("scratch", [1, 4000, 1 << 20])
@pytest.mark.parametrize("threads", [1, 2, 5])
@pytest.mark.parametrize("samples", [1, 7])
def test_blocks_chunks_and_threads_change_nothing(
    monkeypatch: pytest.MonkeyPatch, scratch: int, threads: int, samples: int
) -> None:
    monkeypatch.setattr(engine, "SCRATCH", scratch)
    monkeypatch.setattr(engine, "SPLIT", 1)
    monkeypatch.setattr(engine, "ALONE", 0)
    network = conv_net()
    x = spikes(network, samples, 21)
    options = {"timing": Timing(reset_interval=8, reset_offset=1), "record": ALL}
    expected = reference.simulate(network, x, **options)
    assert same(engine.simulate(network, x, threads=threads, **options), expected)


def sigma_delta_net() -> Network:
    rng = np.random.default_rng(2)
    first = Conv(rng.integers(-9, 9, (3, 2, 2, 2)), None, SigmaDelta(3))
    head = Network([Input((2, 5, 4), Delta(1)), first, Flatten()])
    hidden = Dense(rng.integers(-9, 9, (5, *head.output_shape)), None, SigmaDelta(2))
    return Network([*head.layers, hidden, Dense(rng.integers(-9, 9, (3, 5)), None, Sigma())])


def recurrent_net() -> Network:
    rng = np.random.default_rng(3)
    to, back = rng.integers(-90, 90, (6, 4)), rng.integers(-90, 90, (6, 6))
    return Network(
        [
            Dense(to, None, CubaLIF(900, 500, 100), recurrent=back),
            Dense(
                rng.integers(-90, 90, (5, 6)), None, CubaLIF(4096, 4096, 30), delay=[0, 1, 9, 2, 0]
            ),
        ]
    )


FALLING_BACK = {"conv": conv_net, "sigma-delta": sigma_delta_net, "recurrent": recurrent_net}


@pytest.mark.slow
@pytest.mark.parametrize("threads", [1, 2, 3])
@pytest.mark.parametrize("name", FALLING_BACK)
def test_a_layer_may_go_to_the_reference_in_any_block(
    monkeypatch: pytest.MonkeyPatch, name: str, threads: int
) -> None:
    """All that adds up is there once: counts, overflow, activity. One layer, then all, at any time."""
    for limit, value in (("SCRATCH", 1), ("SPLIT", 1), ("ALONE", 0)):
        monkeypatch.setattr(engine, limit, value)
    network, steps = FALLING_BACK[name](), 10  # blocks of steps begin with 0, 4 and 8
    rng = np.random.default_rng(7)
    graded = (rng.integers(0, 1 << 20, (3, steps, *network.input_shape)) >> 12).astype(np.int32)
    record = (*(s for s in ("u", "v") if any(s in p.states for p in network.populations)),)
    options = {"record": ("spikes", "counts", *record), "timing": Timing(reset_interval=7)}
    advance, forced = block.Block._advance, set()

    def falling_back(self: Any, i: int, start: int, length: int) -> None:
        if (i, start) in forced:
            raise block.NeedsReference(i)
        advance(self, i, start, length)

    monkeypatch.setattr(block.Block, "_advance", falling_back)
    layers = range(len(network.populations))
    for x in (graded, graded[:1]):
        expected = reference.simulate(network, x, **options)
        usual = engine.simulate(network, x, counter=Counter(network), **options).activity
        for start in (0, 4, 8):
            for falling in (*([i] for i in layers), [*layers]):
                forced.clear()
                forced.update((i, start) for i in falling)
                counter = Counter(network)
                found = engine.simulate(network, x, threads=threads, counter=counter, **options)
                assert same(found, expected), (falling, start)
                assert tally(network, found.activity) == tally(network, usual), (falling, start)


def test_buffers_that_another_thread_took() -> None:
    """What was there a moment ago may be gone."""

    class Taken(list[Any]):
        def __bool__(self) -> bool:
            return True

    network = conv_net()
    network.__dict__["_buffers"] = Taken()
    x = spikes(network, 2, 5)
    assert same(engine.simulate(network, x, record=ALL), reference.simulate(network, x, record=ALL))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_starts_threads_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that the parent keeps for its next call are not there in the child."""
    monkeypatch.setattr(engine, "ALONE", 0)
    network = conv_net()
    x = spikes(network, 4, 5)
    expected = reference.simulate(network, x, record=ALL)

    def right() -> None:
        assert same(engine.simulate(network, x, record=ALL, threads=2), expected)

    right()
    kept = engine._pool(2)
    right()
    assert engine._pool(2) is kept
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        child = multiprocessing.get_context("fork").Process(target=right)
        child.start()
    child.join(60)
    assert child.exitcode == 0
    right()


@pytest.mark.parametrize("band", [1, 20, 10**6])
def test_parameters_of_every_neuron_meet_their_neuron(
    monkeypatch: pytest.MonkeyPatch, band: int
) -> None:
    monkeypatch.setattr(layout, "BAND", band)
    rng = np.random.default_rng(3)
    shape = (4, 5, 6)
    neuron = CubaLIF(
        rng.integers(0, 4097, shape), rng.integers(0, 4097, 4), rng.integers(0, 300, shape)
    )
    layer = Conv(
        rng.integers(-90, 90, (4, 2, 3, 3)), rng.integers(-50, 50, shape), neuron, padding=1
    )
    network = Network([Input((2, 5, 6)), layer])
    x = spikes(network, 2, 15)
    assert same(engine.simulate(network, x, record=ALL), reference.simulate(network, x, record=ALL))


@pytest.mark.parametrize("total", [32766, 32767, 32768, 40000, -32767, -32768, -32769])
def test_sums_at_the_edge_of_16_bits(total: int) -> None:
    row = np.full(200, 200 if total > 0 else -200)
    row[np.cumsum(row) * np.sign(total) > abs(total)] = 0
    row[-1] += total - row.sum()
    network = Network([Dense(np.stack([row, -row // 2]), None, CubaLIF(4096, 4096, 131071))])
    trace = engine.simulate(network, np.ones((1, 2, 200), np.int8), record=ALL)
    assert trace.u is not None
    assert trace.u[0][0, 1].tolist() == [total << 6, int((-row // 2).sum()) << 6]


@pytest.mark.parametrize("total", [8190, 8191, 8192, 8193])
@pytest.mark.parametrize("sign", [1, -1])
def test_states_at_the_edge_of_19_bits(total: int, sign: int) -> None:
    """Below 2^19, u and v need no care; beyond they get it, on the way up and back, after a reset too."""
    row = np.full(40, 205 * sign)
    row[-1] += total * sign - row.sum()
    for decays in ((4096, 4096), (0, 4096), (1, 0), (700, 1), (0, 0)):
        network = Network([Dense(np.stack([row, -row]), None, CubaLIF(*decays, 131071))])
        x = np.ones((2, 16, 40), np.int8) * (np.arange(16) % 5 < 2)[:, None]
        x[1] = 1
        for timing in (Timing(40), Timing(40, reset_interval=11)):
            trace = engine.simulate(network, x, timing, record=ALL)
            assert same(trace, reference.simulate(network, x, timing, record=ALL))
            assert trace.u is not None
            assert abs(int(trace.u[0][0, 1, 0])) == total << 6


@pytest.mark.parametrize("density", [0.4, 0.49, 0.5, 0.51, 0.9, 1])
@pytest.mark.parametrize("planes", [2, 5])
def test_many_spikes_are_summed_by_what_is_missing(planes: int, density: float) -> None:
    """Steps of few and of many spikes in turn, of samples of their own, whatever comes before."""
    rng = np.random.default_rng(planes)
    conv = Conv(rng.integers(-90, 90, (8, planes, 3, 3)), None, CubaLIF(900, 500, 40), padding=1)
    grouped = Conv(rng.integers(-90, 90, (8, 4, 2, 2)), None, CubaLIF(900, 500, 0), groups=2)
    head = Network([Input((planes, 6, 7)), conv, grouped])
    size = math.prod(head.output_shape)
    dense = Dense(rng.integers(-256, 254, (9, size)), rng.integers(0, 99, 9), CubaLIF(50, 70, 0))
    looped = Dense(
        rng.integers(-90, 90, (70, 9)),
        np.full(70, 4095),
        CubaLIF(4096, 4096, 0),
        recurrent=rng.integers(-90, 90, (70, 70)),
    )
    last = Dense(rng.integers(-90, 90, (6, 70)), None, CubaLIF(9, 9, 90))
    network = Network([*head.layers, Flatten(), dense, looped, last])
    x = spikes(network, 3, 14, density)
    x[1, ::3], x[2, 5:9] = 0, 1
    assert same(engine.simulate(network, x, record=ALL), reference.simulate(network, x, record=ALL))


@pytest.mark.parametrize("seed", range(40))
def test_few_channels_and_small_states(seed: int) -> None:
    """Inputs of 1 to 6 channels, weights and decays with which states stay small or do not."""
    rng = np.random.default_rng(seed)
    channels, out = int(rng.integers(1, 7)), int(rng.choice([3, 4, 8, 16]))
    limit = int(rng.choice([3, 30, 250]))
    decays = int(rng.choice([1, 500, 4000, 4096])), int(rng.choice([1, 700, 4096]))
    conv = Conv(
        rng.integers(-limit, limit, (out, channels, 3, 2)),
        rng.integers(-99, 99, out),
        CubaLIF(*decays, int(rng.integers(0, 400))),
        stride=rng.integers(1, 3, 2),
        padding=rng.integers(0, 3, 2),
    )
    head = Network([Input((channels, 7, 9)), conv])
    dense = Dense(
        rng.integers(-limit, limit, (5, math.prod(head.output_shape))), None, CubaLIF(300, 200, 900)
    )
    network = Network([*head.layers, Flatten(), dense])
    x = spikes(network, 3, 9, float(rng.choice([0.02, 0.2, 0.9])))
    assert same(engine.simulate(network, x, record=ALL), reference.simulate(network, x, record=ALL))


@pytest.mark.parametrize("payload", [515, 516, 517, -516, -517, 4000, (1 << 23) - 1])
@pytest.mark.parametrize("decay", [0, 4096])
def test_sums_at_the_edge_of_24_and_32_bits(payload: int, decay: int) -> None:
    """254 * 516 = 131064 is the last sum of its kind that the 32-bit neurons may see."""
    weight = np.array([[254, 0], [-256, 100]])
    network = Network([Dense(weight, None, CubaLIF(decay, 77, 131071))])
    x = np.full((2, 30, 2), payload)
    x[1, ::2] //= -3
    mine = engine.simulate(network, x, record=ALL)
    expected = reference.simulate(network, x, record=ALL)
    assert same(mine, expected)
    assert any(expected.overflow or ())


@pytest.mark.parametrize("seed", range(3))
def test_calls_follow_each_other_on_the_same_buffers(seed: int) -> None:
    """What was left of another input, number of samples or dtype has no part in the next result."""
    rng = np.random.default_rng(seed)
    for network in (conv_net(), sigma_delta_net(), recurrent_net()):
        for _ in range(8):
            x = spikes(network, int(rng.integers(1, 4)), int(rng.integers(1, 9)), rng.random())
            if rng.integers(2):
                x = x * rng.integers(-9, 9, x.shape)
            record = (*(s for s in QUANTITIES if any(s in p.states for p in network.populations)),)
            options = {"record": ("spikes", "counts", *record), "timing": Timing(x.shape[1] + 1)}
            found = engine.simulate(network, x, **options)
            assert difference(network, found, reference.simulate(network, x, **options)) is None


def large_graded() -> dict[str, tuple[Network, bool]]:
    """Networks whose sums wrap at 32 bits, and whether the reference has to run them."""
    rng = np.random.default_rng(1)
    delta = Input((9,), Delta(0, 6))
    weight = rng.integers(-256, 254, (12, 9))
    image = Input((3, 6, 5), Delta(0, 6))
    conv = Conv(rng.integers(-256, 254, (5, 3, 3, 2)), None, SigmaDelta(3, 6), stride=2, padding=1)
    grouped = Conv(rng.integers(-256, 254, (4, 1, 2, 2)), None, SigmaDelta(3, 6), groups=2)
    size = math.prod(Network([image, conv]).output_shape)
    resonator = ResonateFire(2287, 3148, 20)
    return {
        "sigma-delta": (
            Network(
                [
                    delta,
                    Dense(weight, None, SigmaDelta(3, 6)),
                    Dense(rng.integers(-256, 254, (40, 12)), None, SigmaDelta(3, 6)),
                    Dense(rng.integers(-256, 254, (2, 40)), None, Sigma()),
                ]
            ),
            False,
        ),
        "conv": (
            Network(
                [
                    image,
                    conv,
                    Flatten(),
                    Dense(rng.integers(-16, 17, (3, size)), None, CubaLIF(9, 9, 90)),
                ]
            ),
            False,
        ),
        "groups": (
            Network([Input((2, 6, 5), Delta(0, 6)), grouped]),
            False,
        ),
        "resonators": (
            Network(
                [
                    delta,
                    Dense(weight, None, resonator, imaginary=rng.integers(-7, 8, (12, 9))),
                ]
            ),
            False,
        ),
        "spikes": (Network([delta, Dense(weight, None, CubaLIF(9, 9, 90))]), False),
        "delays": (Network([delta, Dense(weight, None, CubaLIF(9, 9, 90), delay=2)]), True),
    }


@pytest.mark.parametrize("name", large_graded())
def test_sums_beyond_32_bits(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    """They wrap as Lava's do; the reference runs only what has a memory of its own in the synapses."""
    network, slow = large_graded()[name]
    used = []
    step = reference.RunningLayer.step
    monkeypatch.setattr(block.RunningLayer, "step", lambda self, m: used.append(1) or step(self, m))
    rng = np.random.default_rng(2)
    x = rng.integers(-20, 20, (2, 9, *network.input_shape))
    states = [s for s in QUANTITIES if any(s in p.states for p in network.populations)]
    record = ("spikes", "counts", *states)
    quiet = engine.simulate(network, x, record=record)
    assert not used
    wraps = []
    for factor in (3_000, 80_000, 800_000):
        louder = x.copy()
        louder[:, 5:] *= factor
        loud = engine.simulate(network, louder, record=record)
        assert bool(used) is slow
        with monkeypatch.context() as patch:
            patch.setattr(block.RunningLayer, "step", step)
            expected = reference.simulate(network, louder, record=record)
        used.clear()
        assert difference(network, loud, expected) is None, factor
        wraps += [over.sum_wraps for over in loud.overflow or ()]
    assert any(wraps)
    assert difference(network, quiet, reference.simulate(network, x, record=record)) is None


def test_half_weights_are_summed_before_they_are_rounded() -> None:
    """Lava clips -128 of this all-inhibitory part to -127.5 beside its excitatory recurrence."""
    layer = Dense(
        [[-67, -128], [-22, -19]], None, CubaLIF(0, 0, 40), recurrent=[[25, 24], [31, 25]]
    )
    network = Network([layer])
    x = np.ones((1, 8, 2), np.int8) * np.array([1, 1, 0, 0, -3, 2, -9, -9])[:, None]
    for bits in (0, None):
        found = engine.simulate(network, x, Timing(message_bits=bits), record=ALL)
        assert same(found, reference.simulate(network, x, Timing(message_bits=bits), record=ALL))
        assert found.u is not None
        assert found.u[0][0, 1].tolist() == [-195 << 6, -41 << 6]  # floor(-194.5)


def test_the_layout_is_made_once_and_stays_out_of_pickles() -> None:
    network = conv_net()
    size = len(pickle.dumps(network))
    made = engine.layout_of(network)
    engine.simulate(network, spikes(network, 1, 2))
    assert engine.layout_of(network) is made
    assert len(pickle.dumps(network)) == size
    assert pickle.loads(pickle.dumps(network)) == network


def test_one_compilation_serves_every_network() -> None:
    rng = np.random.default_rng(0)
    resonators = Dense(
        rng.integers(-99, 99, (4, 6)),
        None,
        ResonateFire(2287, 3148, 20),
        imaginary=rng.integers(-99, 99, (4, 6)),
    )
    delayed = Dense(rng.integers(-99, 99, (4, 6)), None, CubaLIF(9, 9, 90), delay=3)
    looped = Dense(
        rng.integers(-99, 99, (4, 6)),
        None,
        CubaLIF(9, 9, 90),
        recurrent=rng.integers(-99, 99, (4, 4)),
    )
    for network in (conv_net(), *(Network([layer]) for layer in (resonators, delayed, looped))):
        for dtype in (np.int8, np.uint8, np.int64, bool):
            x = spikes(network, 3, 5).astype(dtype)
            engine.simulate(network, x, record=ALL)
            engine.simulate(network, np.asfortranarray(x)[::2])
    assert len(kernels.advance.signatures) == 1


def test_memory_does_not_grow_with_steps_or_samples() -> None:
    network = conv_net()
    constant = np.ones((1, *network.input_shape), np.int8)
    x = np.broadcast_to(constant, (40, *network.input_shape))
    engine.simulate(network, x, Timing(10), threads=1)

    def peak(samples: int, steps: int) -> int:
        tracemalloc.start()
        engine.simulate(network, x[:samples], Timing(steps), threads=1)
        highest = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        return highest

    most = 3 * engine.SCRATCH
    assert peak(40, 20) < most
    assert peak(40, 400) < most


@pytest.mark.slow
def test_the_cache_on_disk_spares_the_next_process_the_compilation(tmp_path: object) -> None:
    program = (
        "import time, numpy as np\n"
        "from spikeship.hw_targets import CubaLIF, Dense, Network, simulate\n"
        "net = Network([Dense(np.ones((3, 4), int), None, CubaLIF(0, 0, 9))])\n"
        "simulate(net, np.ones((1, 5, 4), int))\n"
        "from spikeship.hw_targets.simulate import kernels\n"
        "print(sum(kernels.advance.stats.cache_misses.values()))\n"
    )
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    misses = [
        subprocess.run(
            [sys.executable, "-c", program],
            env=environment,
            capture_output=True,
            text=True,
            check=True,
        ).stdout.strip()
        for _ in range(2)
    ]
    assert misses == ["1", "0"]
