"""Parity with Lava: every spike, every current, every voltage, on random networks of every kind."""

import ast
import os
import signal
import subprocess
import sys
import threading
from collections import namedtuple
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest

from spikeship.hw_targets import lava_cpu
from spikeship.hw_targets.network import (
    Conv,
    CubaLIF,
    Dense,
    Flatten,
    Input,
    Network,
    NetworkError,
)
from spikeship.hw_targets.netx import NetxError, read_netx
from spikeship.hw_targets.reference import simulate
from spikeship.hw_targets.trace import Overflow, Trace

GOLDEN = Path(__file__).parent / "golden"
ALL = ("spikes", "u", "v")
SAMPLES = 3
Rng = np.random.Generator


@dataclass(frozen=True)
class Case:
    network: Network
    inputs: np.ndarray
    arguments: dict[str, Any] = field(default_factory=dict)


def draw(rng: Rng, low: int, high: int, *shape: int) -> np.ndarray:
    return rng.integers(low, high, shape, endpoint=True)


def weights(rng: Rng, *shape: int) -> np.ndarray:
    """Random weights with both ends of the range among them."""
    array = draw(rng, -256, 254, *shape)
    array.flat[0], array.flat[-1] = -256, 254
    return array


def bias(rng: Rng, *shape: int) -> np.ndarray:
    array = draw(rng, -300, 300, *shape)
    array.flat[0], array.flat[-1] = -4096, 4095
    return array


def decay(rng: Rng, *shape: int) -> Any:
    """0, 1, 4095, 4096 or any other value, with equal chance."""
    table = np.array([0, 1, 4095, 4096, int(rng.integers(4097))])
    chosen = table[rng.integers(0, 5, shape)]
    return chosen if shape else int(chosen)


def neuron(rng: Rng, *shape: int, low: int = 0, high: int = 1200) -> CubaLIF:
    threshold = draw(rng, low, high, *shape)
    return CubaLIF(decay(rng, *shape), decay(rng, *shape), threshold)


def binary(rng: Rng, steps: int, *shape: int) -> np.ndarray:
    return draw(rng, 0, 1, SAMPLES, steps, *shape)


def conv(rng: Rng, into: int, out: int, groups: int = 1, **options: Any) -> Conv:
    options.setdefault("neuron", neuron(rng))
    pairs: dict[str, tuple[int, int]] = {
        "stride": tuple(draw(rng, 1, 2, 2).tolist()),
        "padding": tuple(draw(rng, 0, 2, 2).tolist()),
        "dilation": tuple(draw(rng, 1, 2, 2).tolist()),
    }
    weight = weights(rng, out, into // groups, *draw(rng, 1, 2, 2).tolist())
    return Conv(**{"weight": weight, **pairs, "groups": groups, **options})


def outputs(first: Input, *layers: Any) -> tuple[int, ...]:
    return Network([first, *layers]).output_shape


def dense(rng: Rng) -> Case:
    network = Network([Dense(weights(rng, 4, 6), None, neuron(rng))])
    return Case(network, binary(rng, 16, 6))


def dense_bias(rng: Rng) -> Case:
    network = Network([Dense(weights(rng, 4, 6), bias(rng, 4), neuron(rng))])
    return Case(network, binary(rng, 16, 6))


def dense_reset(rng: Rng) -> Case:
    """Two layers, an interval that does not divide the steps, any offset."""
    first = Dense(weights(rng, 5, 6), bias(rng, 5), CubaLIF(1, 0, 700))
    network = Network([first, Dense(weights(rng, 3, 5), bias(rng, 3), CubaLIF(0, 1, 900))])
    interval, offset = int(rng.integers(2, 9)), int(rng.integers(0, 12))
    return Case(network, binary(rng, 15, 6), {"reset_interval": interval, "reset_offset": offset})


def dense_per_neuron(rng: Rng) -> Case:
    params = neuron(rng, 6)
    return Case(Network([Dense(weights(rng, 6, 5), bias(rng, 6), params)]), binary(rng, 16, 5))


def dense_one_sign(rng: Rng) -> Case:
    """Excitatory, then inhibitory beside a bias: other exponents and clips than mixed weights."""
    first = Dense(draw(rng, 0, 254, 4, 5), None, CubaLIF(900, 600, 300))
    second = Dense(draw(rng, -120, -1, 3, 4) * 2 - 1, [900] * 3, CubaLIF(900, 600, 300, "LOIHI"))
    return Case(Network([first, second]), binary(rng, 16, 5))


def dense_graded(rng: Rng) -> Case:
    """Currents far beyond 24 bit: one wrap only, v at both clips, thresholds at both ends."""
    size = 5
    params = CubaLIF(decay(rng, size), decay(rng, size), [0, 131071, 1000, 0, 131071])
    network = Network([Dense(weights(rng, size, 6), bias(rng, size), params)])
    return Case(network, draw(rng, -4000, 4000, SAMPLES, 14, 6))


def dense_near_the_limit(rng: Rng) -> Case:
    """An integrator whose u steps through +-2^23 exactly."""
    network = Network([Dense([[128], [-128], [127]], None, CubaLIF(0, 4096, 131071))])
    return Case(network, draw(rng, 255, 257, SAMPLES, 20, 1))


def dense_sum_wraps(rng: Rng) -> Case:
    """Small weights are held as large mantissas, whose sums leave 32 bit."""
    network = Network([Dense(draw(rng, 1, 2, 3, 4), None, neuron(rng, 3))])
    return Case(network, draw(rng, 1 << 22, (1 << 24) - 1, SAMPLES, 10, 4))


def graded_as_binary(rng: Rng) -> Case:
    network = Network([Dense(weights(rng, 4, 6), None, neuron(rng))])
    return Case(network, draw(rng, -3, 3, SAMPLES, 12, 6), {"message_bits": 0})


def default_neuron(rng: Rng) -> Case:
    network = Network([Dense(weights(rng, 4, 6), bias(rng, 4))])
    return Case(network, draw(rng, -900, 900, SAMPLES, 14, 6))


def default_neuron_at_its_limit(rng: Rng) -> Case:
    """v at the highest value there is, which must not fire."""
    inputs = np.zeros((SAMPLES, 5, 1), int)
    inputs[:, 0, 0] = 1023, 1024, 1025
    return Case(Network([Dense([[128], [-128]])]), inputs)


def conv_once(rng: Rng) -> Case:
    image = (2, 5, 4)
    return Case(Network([Input(image), conv(rng, 2, 3)]), binary(rng, 10, *image))


def conv_groups_bias_reset(rng: Rng) -> Case:
    image = (4, 4, 5)
    layer = conv(rng, 4, 6, 2, bias=bias(rng, 6), neuron=neuron(rng, 6))
    second = conv(rng, 6, 3, 3)
    return Case(
        Network([Input(image), layer, second]),
        binary(rng, 11, *image),
        {"reset_interval": int(rng.integers(2, 7)), "reset_offset": int(rng.integers(0, 5))},
    )


def conv_per_neuron(rng: Rng) -> Case:
    image = (2, 3, 4)
    plain = conv(rng, 2, 3)
    shape = outputs(Input(image), plain)
    layer = Conv(
        plain.weight,
        bias(rng, *shape),
        neuron(rng, *shape),
        plain.stride,
        plain.padding,
        plain.dilation,
    )
    return Case(Network([Input(image), layer]), binary(rng, 10, *image))


def conv_graded(rng: Rng) -> Case:
    """Sums beyond 23 bit wrap at 24; below 2^24 Lava's float32 sums are exact."""
    image = (2, 3, 4)
    weight = draw(rng, 150, 254, 3, 2, 2, 2)
    largest = ((1 << 24) - 1) // int(weight.sum(axis=(1, 2, 3)).max())
    layer = conv(rng, 2, 3, weight=weight, neuron=neuron(rng, 3), padding=(1, 1))
    messages = draw(rng, largest // 3, largest, SAMPLES, 10, *image)
    return Case(
        Network([Input(image), layer]), messages * rng.choice([-1, 1], (SAMPLES, 10, 1, 1, 1))
    )


def flatten_dense(rng: Rng) -> Case:
    image = (2, 2, 3)
    network = Network([Input(image), Flatten(), Dense(weights(rng, 3, 12), None, neuron(rng))])
    return Case(network, binary(rng, 12, *image))


def whole(rng: Rng, first: Input) -> Network:
    """Input, conv, flatten, dense."""
    layer = conv(rng, first.shape[0], 3, neuron=CubaLIF(700, 300, 400))
    size = int(np.prod(outputs(first, layer)))
    return Network(
        [first, layer, Flatten(), Dense(weights(rng, 3, size), bias(rng, 3), neuron(rng))]
    )


def input_bias(rng: Rng) -> Case:
    """Input neurons under a constant bias, then conv, flatten, dense."""
    image = (2, 4, 3)
    network = whole(rng, Input(image, CubaLIF(decay(rng), 300, 60), 64, 3))
    return Case(network, draw(rng, -20, 90, SAMPLES, *image), {"steps": 13})


def input_bias_reset(rng: Rng) -> Case:
    case = input_bias(rng)
    resets = {"reset_interval": int(rng.integers(5, 16)), "reset_offset": int(rng.integers(0, 3))}
    return Case(case.network, case.inputs, case.arguments | resets)


def input_currents(rng: Rng) -> Case:
    """Input neurons driven by currents in time, per-neuron and per-channel parameters."""
    image = (2, 2, 3)
    channels = CubaLIF(decay(rng, 2), decay(rng, *image), draw(rng, 0, 900, *image))
    network = Network([Input(image, channels), Flatten(), Dense(weights(rng, 2, 12))])
    return Case(network, draw(rng, -900, 2000, SAMPLES, 12, *image))


def input_vector(rng: Rng) -> Case:
    """Flat Input neurons; the input ends before the run."""
    network = Network([Input((6,), neuron(rng, 6)), Dense(weights(rng, 3, 6), None, neuron(rng))])
    return Case(network, draw(rng, -90, 900, SAMPLES, 7, 6), {"steps": 12})


KINDS: dict[Callable[[Rng], Case], int] = {
    dense: 3,
    dense_bias: 2,
    dense_reset: 3,
    dense_per_neuron: 3,
    dense_one_sign: 1,
    dense_graded: 3,
    dense_near_the_limit: 1,
    dense_sum_wraps: 1,
    graded_as_binary: 1,
    default_neuron: 1,
    default_neuron_at_its_limit: 1,
    conv_once: 3,
    conv_groups_bias_reset: 3,
    conv_per_neuron: 2,
    conv_graded: 2,
    flatten_dense: 1,
    input_bias: 1,
    input_bias_reset: 2,
    input_currents: 1,
    input_vector: 1,
}
TABLE = {
    f"{kind.__name__}-{i}": kind(np.random.default_rng([i, number]))
    for number, (kind, repeats) in enumerate(KINDS.items())
    for i in range(repeats)
}


def difference(network: Network, found: Trace, expected: Trace) -> str | None:
    """The first integer that differs, in time and then along the chain."""
    first: tuple[int, ...] | None = None
    what = None
    for p in network.populations:
        for name in ("u", "v", "spikes"):
            ours, lavas = (getattr(t, name)[p.index] for t in (expected, found))
            if ours.shape != lavas.shape:
                return f"{name} of {p.name}: shape {ours.shape}, Lava {lavas.shape}"
            places = np.argwhere(ours != lavas)
            if len(places):
                where = tuple(places[places[:, 1].argmin()].tolist())
                if first is None or where[1] < first[1]:
                    first = where
                    what = f"{name} of {p.name} at {where}: {ours[where]}, Lava {lavas[where]}"
    return what


WARM_WORKER = """
import sys
from pathlib import Path
from spikeship.hw_targets._lava_worker import main
for line in sys.stdin:
    main(Path(line.strip()))
    print("finished", flush=True)
"""


@pytest.fixture(scope="module")
def warm_worker(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[Path], None]]:
    """What `lava_cpu._start` does, without importing Lava (3 seconds) again for every network."""
    log = tmp_path_factory.mktemp("lava") / "stderr"
    with (
        log.open("w") as stderr,
        subprocess.Popen(
            [sys.executable, "-W", "ignore", "-c", WARM_WORKER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=stderr,
            text=True,
            start_new_session=True,
        ) as worker,
    ):

        def start(folder: Path, limit: float) -> None:
            # a process that fails inside Lava leaves the others waiting for ever
            timer = threading.Timer(limit, os.killpg, (worker.pid, signal.SIGKILL))
            timer.start()
            try:
                print(folder, file=worker.stdin, flush=True)
                while (line := worker.stdout.readline()) != "finished\n":
                    assert line, f"Lava ended: {log.read_text()[-2000:]}"
            finally:
                timer.cancel()

        yield start
        worker.stdin.close()


@pytest.mark.lava
@pytest.mark.parametrize("name", TABLE)
def test_equals_lava(
    name: str, warm_worker: Callable[[Path], None], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_cpu, "_start", warm_worker)
    case = TABLE[name]
    expected = simulate(case.network, case.inputs, **case.arguments, record=ALL)
    found = lava_cpu.run(case.network, case.inputs, **case.arguments, record=ALL)
    assert difference(case.network, found, expected) is None
    assert (found.backend, found.overflow) == ("lava", None)


def test_the_table_is_not_silent() -> None:
    """Every layer spikes somewhere, every overflow happens, every kind and extreme occurs."""
    assert len(TABLE) >= 30
    total = Overflow()
    spiking: dict[str, int] = {}
    layers: set[str] = set()
    decays: set[int] = set()
    thresholds: set[int] = set()
    for case in TABLE.values():
        trace = simulate(case.network, case.inputs, **case.arguments)
        assert len(trace.spikes[0]) >= 3
        total = sum(trace.overflow, total)
        for p, spikes in zip(case.network.populations, trace.spikes, strict=True):
            kind = p.name.split(":")[1]
            spiking[kind] = spiking.get(kind, 0) + int(spikes.sum())
        for layer in case.network.layers:
            params = None if isinstance(layer, Flatten) else layer.neuron
            layers.add(f"{type(layer).__name__} {params.kind if params else None}")
            if params:
                for value in (params.i_decay, params.v_decay):
                    decays.update(np.asarray(value).ravel().tolist())
                thresholds.update(np.asarray(params.threshold).ravel().tolist())
    assert all(spiking[kind] > 200 for kind in ("input", "conv", "dense")), spiking
    assert min(total.u_wraps, total.v_clips, total.sum_wraps) >= 20, total
    assert decays >= {0, 1, 4095, 4096}
    assert thresholds >= {0, 131071}
    assert layers == {
        "Input None",
        "Input CUBA",
        "Flatten None",
        "Dense None",
        "Dense CUBA",
        "Dense LOIHI",
        "Conv CUBA",
    }


@pytest.mark.lava
def test_equals_a_run_without_our_batching() -> None:
    """The recording comes from lava-dl alone; here the same sample is second of two."""
    with np.load(GOLDEN / "conv_mix_30.npz") as data:
        arguments = ast.literal_eval(str(data["kwargs"]))
        columns = {key: np.moveaxis(data[key], -1, 0) for key in data.files if key != "kwargs"}
    sample = columns.pop("input")
    inputs = np.stack([sample[::-1], sample])
    trace = lava_cpu.run(read_netx(GOLDEN / "conv_mix_30.net"), inputs, **arguments, record=ALL)
    found = {"s": trace.spikes, "u": trace.u, "v": trace.v}
    for key, expected in columns.items():
        assert np.array_equal(found[key[0]][int(key[1])][1], expected), key


@pytest.mark.lava
def test_records_what_is_asked_for() -> None:
    trace = lava_cpu.run(Network([Dense([[1, 2]])]), [[[1, 1], [0, 0]]], record=["u"])
    assert (trace.spikes, trace.v) == (None, None)
    assert [u.tolist() for u in trace.u] == [[[[0], [192]]]]


# -- refusals ----------------------------------------------------------------------------------

ONE = Network([Dense([[1, 2]])])
REFUSED: dict[str, tuple[Network, dict[str, Any], type[Exception], str]] = {
    "recording": (ONE, {"record": ["w"]}, NetworkError, r"cannot record \['w'\]"),
    "interval": (ONE, {"reset_interval": 0}, NetworkError, "reset_interval = 0; give 1 or more"),
    "input": (ONE, {"message_bits": 1, "inputs": [[[2, 0]]]}, NetworkError, "enough message bits"),
    "all-zero dense": (
        Network([Dense([[0, 0]])]),
        {},
        NetxError,
        r"layer 0 \(Dense\): all weights are 0; lava-dl cannot load",
    ),
}


@pytest.mark.lava
@pytest.mark.parametrize("name", REFUSED)
def test_refused_before_lava_starts(name: str) -> None:
    network, arguments, error, message = REFUSED[name]
    with pytest.raises(error, match=message):
        lava_cpu.run(network, **({"inputs": [[[1, 0]]]} | arguments))


Version = namedtuple("Version", ["major", "minor"])


@pytest.mark.parametrize(
    ("version", "installed", "message"),
    [
        (Version(3, 13), True, r"Lava needs Python 3.10, this is 3.13: .*pip install"),
        (Version(3, 10), False, r'Lava is not installed: `pip install "spikeship\[lava\]"`'),
    ],
)
def test_without_lava(
    version: Version, installed: bool, message: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_cpu, "sys", SimpleNamespace(version_info=version))
    monkeypatch.setattr(lava_cpu, "find_spec", lambda name: name if installed else None)
    with pytest.raises(lava_cpu.LavaMissingError, match=message):
        lava_cpu.run(ONE, [[[1, 0]]])


def test_lava_that_breaks_off(monkeypatch: pytest.MonkeyPatch) -> None:
    """The message ends with what Lava said; a worker without its last word has failed too."""
    monkeypatch.setattr(lava_cpu, "why_unavailable", lambda: None)
    for command, message in (
        ("import sys; sys.exit('out of memory')", "Lava ended with status 1:\nout of memory"),
        ("print('half way')", "Lava ended with status 0:\nhalf way"),
    ):
        real = subprocess.Popen
        fake = [sys.executable, "-c", command]
        with monkeypatch.context() as patch:
            patch.setattr(subprocess, "Popen", lambda _, real=real, fake=fake, **k: real(fake, **k))
            with pytest.raises(lava_cpu.LavaError, match=message):
                lava_cpu.run(ONE, [[[1, 0]]])
