from typing import Any

import numpy as np
import pytest

from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network, Population
from spikeship.hw_targets.network.neurons import CubaLIF, NetworkError
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate.reference import simulate
from spikeship.hw_targets.simulate.trace import Overflow, Trace

LIMIT = 1 << 23
ALL = ("spikes", "u", "v")


def same(one: Trace, other: Trace) -> bool:
    """Every recorded integer is equal."""
    return all(
        np.array_equal(a, b)
        for name in ALL
        for a, b in zip(getattr(one, name), getattr(other, name), strict=True)
    )


# -- the equations in plain Python integers ----------------------------------------------------


def synaptic_sum(p: Population, place: tuple[int, ...], message: np.ndarray) -> int:
    layer = p.layer
    assert not isinstance(layer, Input)
    if isinstance(layer, Dense):
        return sum(int(w) * int(x) for w, x in zip(layer.weight[place], message.flat, strict=True))
    out, y, x = place
    per_out, per_in = len(layer.weight) // layer.groups, layer.weight.shape[1]
    total = 0
    for c, ky, kx in np.ndindex(layer.weight.shape[1:]):
        iy = y * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
        ix = x * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
        if 0 <= iy < message.shape[1] and 0 <= ix < message.shape[2]:
            arriving = message[out // per_out * per_in + c, iy, ix]
            total += int(layer.weight[out, c, ky, kx]) * int(arriving)
    return (total + LIMIT) % (2 * LIMIT) - LIMIT


def decayed(state: int, by: int) -> int:
    left = state * (4096 - by)
    return left >> 12 if left >= 0 else -(-left >> 12)


def by_hand(
    network: Network, sample: np.ndarray, steps: int, reset: int | None = None, offset: int = 0
) -> Trace:
    """One sample, one neuron at a time, as the published equations read."""
    populations = network.populations
    states = [{n: [0, 0, 0] for n in np.ndindex(p.shape)} for p in populations]  # a, u, v
    columns: dict[str, list[list[np.ndarray]]] = {k: [[] for _ in populations] for k in ALL}
    for t in range(1, steps + 1):
        message = sample[t - 1] if t <= len(sample) else np.zeros(network.input_shape, int)
        for i, p in enumerate(populations):
            layer, neuron = p.layer, p.layer.neuron

            def at(value: Any, place: tuple[int, ...]) -> int:
                array = np.asarray(value)
                return int(array if not array.ndim else array[place[: array.ndim]])

            bias = 0 if isinstance(layer, Input) or layer.bias is None else layer.bias
            spikes, us, vs = (np.zeros(p.shape, int) for _ in range(3))
            for place, (a, u, v) in states[i].items():
                if reset is not None and t % reset == (offset + 1 + i) % reset:
                    u = v = 0
                if isinstance(layer, Input):
                    a, waiting = int(message[place]), 0
                else:
                    waiting = synaptic_sum(p, place, message)
                if neuron is None:
                    i_decay, v_decay, threshold = 0, 4096, LIMIT
                else:
                    i_decay, v_decay = at(neuron.i_decay, place), at(neuron.v_decay, place)
                    threshold = at(neuron.threshold, place) * 64
                u = decayed(u, i_decay) + a * 64
                u += 2 * LIMIT if u <= -LIMIT else -2 * LIMIT if u > LIMIT else 0
                v = decayed(v, v_decay) + u + at(bias, place) * 64
                v = max(-LIMIT + 1, min(LIMIT - 1, v))
                fired = v > threshold
                v = 0 if fired else v
                states[i][place] = [waiting, u, v]
                spikes[place], us[place], vs[place] = fired, u, v
            message = spikes
            for name, array in zip(ALL, (spikes, us, vs), strict=True):
                columns[name][i].append(array)
    stacked = {k: tuple(np.stack(c)[None] for c in per) for k, per in columns.items()}
    return Trace(stacked["spikes"], stacked["u"], stacked["v"])


RNG = np.random.default_rng(11)


def draw(low: int, high: int, *shape: int) -> np.ndarray:
    return RNG.integers(low, high, shape, endpoint=True)


EXTREMES = CubaLIF([0, 1, 4095, 4096], [4096, 4095, 1, 0], [0, 131071, 1000, 131071])
OPTIONS: dict[str, Any] = {"stride": (2, 1), "padding": (1, 2), "dilation": (1, 2), "groups": 2}
IMAGE = (2, 4, 5)  # Conv(weight (4, 1, 2, 2), **OPTIONS) makes it (4, 3, 7)
PER_NEURON = CubaLIF(draw(0, 4096, 4, 3, 7), draw(0, 4096, 4, 3, 7), draw(0, 300, 4, 3, 7))
EQUATIONS: dict[str, tuple[Network, np.ndarray, dict[str, int]]] = {
    "dense, extremes": (
        Network([Dense(draw(-256, 254, 4, 6), draw(-4096, 4095, 4), EXTREMES)]),
        draw(-900, 900, 25, 6),
        {},
    ),
    "two dense, reset": (
        Network(
            [
                Dense(draw(-20, 30, 5, 6), None, CubaLIF(500, 100, 60)),
                Dense(draw(-20, 30, 3, 5), [9, -9, 0], CubaLIF(900, 300, 20)),
            ]
        ),
        draw(0, 1, 20, 6),
        {"reset": 7, "offset": 2},
    ),
    "conv, every option, dense": (
        Network(
            [
                Input(IMAGE),
                Conv(
                    draw(-99, 99, 4, 1, 2, 2), draw(-40, 40, 4), CubaLIF(2000, 700, 90), **OPTIONS
                ),
                Flatten(),
                Dense(draw(-50, 50, 3, 84), None, CubaLIF(2000, 700, 90)),
            ]
        ),
        draw(0, 1, 9, *IMAGE),
        {"reset": 4},
    ),
    "conv, per neuron, large messages": (
        Network([Input(IMAGE), Conv(draw(-256, 254, 4, 1, 2, 2), None, PER_NEURON, **OPTIONS)]),
        draw(-20000, 20000, 6, *IMAGE),
        {},
    ),
    "input neurons, per channel": (
        Network(
            [
                Input(IMAGE, CubaLIF([100, 4000], [200, 3000], [300, 10])),
                Flatten(),
                Dense(draw(-50, 50, 3, 40)),
            ]
        ),
        draw(-100, 300, 9, *IMAGE),
        {"reset": 5, "offset": 9},
    ),
}


@pytest.mark.parametrize("name", EQUATIONS)
def test_equals_the_equations(name: str) -> None:
    network, sample, reset = EQUATIONS[name]
    steps = len(sample) + 3
    expected = by_hand(network, sample, steps, **reset)
    arguments = {f"reset_{'interval' if k == 'reset' else k}": n for k, n in reset.items()}
    found = simulate(network, sample[None], Timing(steps, **arguments), record=ALL)
    assert same(found, expected)
    assert expected.spikes[0].any()


# -- behaviour ---------------------------------------------------------------------------------


def plain(arrays: tuple[np.ndarray, ...] | None, population: int = 0) -> list[int]:
    """The columns of the only neuron of the first sample."""
    assert arrays is not None
    return arrays[population][0].reshape(-1).tolist()


def test_default_neuron_adds_up_and_never_spikes() -> None:
    network = Network([Dense([[254]])])
    trace = simulate(network, np.full((1, 600, 1), 1), record=ALL)
    expected = 254 * 64 * np.arange(600)
    wrapped = np.where(expected > LIMIT, expected - 2 * LIMIT, expected)
    assert plain(trace.u) == wrapped.tolist()
    assert plain(trace.v) == np.clip(wrapped, -LIMIT + 1, LIMIT - 1).tolist()
    assert not any(plain(trace.spikes))


def test_default_neuron_is_silent_at_the_highest_voltage() -> None:
    trace = simulate(Network([Dense([[128]])]), [[[1024], [0], [0]]], record=ALL)
    assert plain(trace.u) == [0, LIMIT, LIMIT]
    assert plain(trace.v) == [0, LIMIT - 1, LIMIT - 1]
    assert plain(trace.spikes) == [0, 0, 0]


NETWORK, SAMPLE, _ = EQUATIONS["conv, every option, dense"]
BATCH = np.stack([SAMPLE, SAMPLE[::-1], 1 - SAMPLE])


def test_batch_equals_one_by_one() -> None:
    arguments: dict[str, Any] = {"timing": Timing(12, reset_interval=5), "record": ALL}
    together = simulate(NETWORK, BATCH, **arguments)
    alone = [simulate(NETWORK, BATCH[i : i + 1], **arguments) for i in range(len(BATCH))]
    joined = Trace(
        *(
            tuple(np.concatenate(per_sample) for per_sample in zip(*parts, strict=True))
            for parts in zip(*((t.spikes, t.u, t.v) for t in alone), strict=True)
        )
    )
    assert same(together, joined)
    assert [together.overflow] == list({t.overflow for t in alone})


def test_time_beyond_the_input_is_silent() -> None:
    padded = np.concatenate([BATCH, np.zeros((3, 4, *IMAGE), int)], axis=1)
    assert same(
        simulate(NETWORK, BATCH, Timing(13), record=ALL), simulate(NETWORK, padded, record=ALL)
    )


def test_fewer_steps_leave_the_rest_out() -> None:
    assert same(
        simulate(NETWORK, BATCH, Timing(5), record=ALL), simulate(NETWORK, BATCH[:, :5], record=ALL)
    )


def test_constant_input_is_the_same_message_in_every_step() -> None:
    repeated = np.repeat(BATCH[:, :1], 8, axis=1)
    constant = simulate(NETWORK, BATCH[:, 0], Timing(8), record=ALL)
    assert same(constant, simulate(NETWORK, repeated, record=ALL))


def test_constant_input_to_input_neurons_is_their_bias() -> None:
    """It is added to v, so unlike an input in time it leaves u at 0."""
    network = Network([Input((1,), CubaLIF(0, 0, 100)), Dense([[1]])])
    constant = simulate(network, [[40]], Timing(5), record=ALL)
    driven = simulate(network, np.full((1, 5, 1), 40), record=ALL)
    assert plain(constant.u) == [0] * 5
    assert plain(constant.v) == [40 * 64, 80 * 64, 0, 40 * 64, 80 * 64]
    assert plain(constant.spikes) == [0, 0, 1, 0, 0]
    assert plain(driven.u) == [40 * 64 * t for t in range(1, 6)]


@pytest.mark.parametrize("record", [(), ("u",), ["v", "spikes"], ALL])
def test_only_what_is_asked_for_is_recorded(record: Any) -> None:
    trace = simulate(NETWORK, BATCH, record=record)
    shapes = {
        name: [a.shape for a in getattr(trace, name)]
        for name in ALL
        if getattr(trace, name) is not None
    }
    assert shapes == {name: [(3, 9, 4, 3, 7), (3, 9, 3)] for name in ALL if name in record}
    assert trace.backend == "reference"
    if trace.spikes is not None:
        assert {a.dtype for a in trace.spikes} == {np.dtype(np.int8)}


# -- overflow ----------------------------------------------------------------------------------

KEEP = CubaLIF(0, 0, 131071)
FORGET = CubaLIF(4096, 4096, 131071)


def one_pixel(weight: int, neuron: CubaLIF) -> Network:
    return Network([Input((1, 1, 1)), Conv([[[[weight]]]], None, neuron)])


# one message at step 1, five steps
OVERFLOWS: dict[str, tuple[Network, list[int], Overflow, list[int]]] = {
    "nothing happens": (Network([Dense([[254]], None, FORGET)]), [500], Overflow(), [0, 8128000]),
    "u at its limit, v beyond": (
        Network([Dense([[128]], None, FORGET)]),
        [1024],
        Overflow(v_clips=1),
        [0, 1 << 23],
    ),
    "u wraps, v is clipped": (
        # u = 254 * 600 * 64 - 2^24 = -7023616 from step 2 on, v is clipped in steps 3, 4 and 5
        Network([Dense([[254]], None, KEEP)]),
        [600],
        Overflow(u_wraps=1, v_clips=3),
        [0] + [-7023616] * 4,
    ),
    "u leaves 32 bit": (
        # 254 * 2^18 * 64 - 2^32 = -2^25, plus one turn of 2^24
        Network([Dense([[254]], None, FORGET)]),
        [1 << 18],
        Overflow(u_wraps=1, v_clips=1),
        [0, -(1 << 24)],
    ),
    "a dense sum wraps at 32 bit": (
        # Lava holds 2 as 128 >> 6: 2 * 128 * (2^24 - 1) = 2^32 - 256, wraps to -256, >> 6
        Network([Dense([[2, 2]], None, FORGET)]),
        [(1 << 24) - 1] * 2,
        Overflow(sum_wraps=1),
        [0, -4 * 64],
    ),
    "a convolution wraps at 24 bit": (
        # 254 * 40000 - 2^24 = -6617216; times 64, plus one turn of 2^24
        one_pixel(254, FORGET),
        [40000],
        Overflow(u_wraps=1, v_clips=1, sum_wraps=1),
        [0, -6617216 * 64 + (1 << 24)],
    ),
    "v of a convolution is clipped": (
        # at the threshold in step 2, clipped and firing in step 3, again in steps 4 and 5
        one_pixel(1, KEEP),
        [131071],
        Overflow(v_clips=2),
        [0] + [131071 * 64] * 4,
    ),
}


@pytest.mark.parametrize("name", OVERFLOWS)
def test_overflow_is_counted(name: str) -> None:
    network, message, expected, u = OVERFLOWS[name]
    inputs = np.array(message).reshape(1, 1, *network.input_shape)
    trace = simulate(network, inputs, Timing(5), record=["u"])
    assert trace.overflow == (expected,)
    assert plain(trace.u) == u + [0] * (5 - len(u))
    twice = simulate(network, np.concatenate([inputs, inputs]), Timing(5))
    assert twice.overflow == (expected + expected,)
    assert bool(expected) is (name != "nothing happens")


# -- refusals ----------------------------------------------------------------------------------

DENSE = Network([Dense([[1, 2]], None, KEEP)])
DRIVEN = Network([Input((2,), KEEP)])
PIXELS = Network([Input((1, 4, 5), KEEP)])
REFUSED: dict[str, tuple[Network, Any, dict[str, Any], str]] = {
    "axes": (
        PIXELS,
        np.zeros((1, 3, 5, 4, 1), int),
        {},
        r"input has shape \(1, 3, 5, 4, 1\); \(sample, time, \*\(1, 4, 5\)\) .*in C, H, W order",
    ),
    "no sample axis": (
        PIXELS,
        np.zeros((1, 4, 5), int),
        {"timing": Timing(3)},
        r"input has shape \(1, 4, 5\)",
    ),
    "an axis more": (DENSE, np.zeros((1, 1, 1, 2), int), {}, r"input has shape \(1, 1, 1, 2\)"),
    "no axes": (DENSE, 1, {}, r"input has shape \(\)"),
    "real values": (
        DENSE,
        [[[0, 0.5]]],
        {},
        r"input\[0, 0, 1\] = 0.5 is not an integer. .*encode real values on an integer grid",
    ),
    "nan": (DENSE, [[[np.nan, 0]]], {}, r"input\[0, 0, 0\] = nan is not a finite number"),
    "real bias": (
        DRIVEN,
        [[0.5, 0]],
        {"timing": Timing(3)},
        r"input\[0, 0\] = 0.5 is not an integer",
    ),
    "text": (DENSE, [[["a", "b"]]], {}, "input has dtype .*; integers are needed"),
    "constant without steps": (
        DENSE,
        [[0, 1]],
        {},
        "steps = None: a constant input needs a number of steps of 1 or more",
    ),
    "no time": (DENSE, np.zeros((1, 0, 2), int), {}, "steps = 0"),
    "bias beyond 13 bit": (
        DRIVEN,
        [[0, 4096]],
        {"timing": Timing(3)},
        r"input\[0, 1\] = 4096 is outside \[-4096, 4095\]. .*13-bit bias mantissa",
    ),
    "message too wide": (
        DENSE,
        [[[0, 16]]],
        {"timing": Timing(message_bits=4)},
        r"input\[0, 0, 1\] = 16 is outside \[-15, 15\]. .*give enough message bits",
    ),
    "message beyond 24 bit": (DENSE, [[[0, -(1 << 24)]]], {}, r"= -16777216 is outside"),
    "unknown recording": (
        DENSE,
        [[[0, 1]]],
        {"record": ("spikes", "w")},
        r'cannot record "w". Choose "counts", or spikes, u, v, residue, of one population',
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    network, inputs, arguments, message = REFUSED[name]
    with pytest.raises(NetworkError, match=message):
        simulate(network, inputs, **arguments)


def test_sums_beyond_exact_float64_stay_exact() -> None:
    network = Network([Dense(np.full((1, 1 << 22), 254), None, KEEP)])
    inputs = np.full((1, 1, 1 << 22), (1 << 24) - 1)
    trace = simulate(network, inputs, Timing(2), record="u")
    total = 254 * (1 << 22) * ((1 << 24) - 1)  # -254 * 2^22 modulo 2^32
    assert total > 1 << 53
    assert trace.overflow == (Overflow(u_wraps=1, v_clips=1, sum_wraps=1),)
    assert plain(trace.u) == [0, total * 64 % (1 << 32) - (1 << 24)]
