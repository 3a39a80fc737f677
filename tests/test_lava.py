"""Lava as a stranger starts it, and what happens where it cannot run. What it computes: test_parity."""

import ast
import subprocess
import sys
from collections import namedtuple
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from spikeship.hw_targets.network.layers import Dense
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import NetworkError
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.netx.file import NetxError, read_netx, write_netx
from spikeship.hw_targets.simulate import engine
from spikeship.hw_targets.simulate import lava as lava_cpu

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.slow
@pytest.mark.lava
def test_equals_a_run_without_our_batching() -> None:
    """The recording comes from lava-dl alone; here the same sample is second of two."""
    with np.load(GOLDEN / "conv_mix_30.npz") as data:
        timing = Timing(**ast.literal_eval(str(data["kwargs"])))
        columns = {key: np.moveaxis(data[key], -1, 0) for key in data.files if key != "kwargs"}
    sample = columns.pop("input")
    inputs = np.stack([sample[::-1], sample])
    trace = lava_cpu.run(
        read_netx(GOLDEN / "conv_mix_30.net"), inputs, timing, record=("spikes", "u", "v")
    )
    found = {"s": trace.spikes, "u": trace.u, "v": trace.v}
    for key, expected in columns.items():
        assert np.array_equal(found[key[0]][int(key[1])][1], expected), key


@pytest.mark.slow
@pytest.mark.lava
def test_records_what_is_asked_for() -> None:
    trace = lava_cpu.run(Network([Dense([[1, 2]])]), [[[1, 1], [0, 0]]], record=["u"])
    assert (trace.spikes, trace.v, trace.counts) == (None, None, None)
    assert [u.tolist() for u in trace.u] == [[[[0], [192]]]]


# -- the original file -------------------------------------------------------------------------


def files_of(golden: Path) -> list[Path]:
    """Every netx file that somebody else wrote."""
    return sorted(golden.rglob("*.net"))


@pytest.mark.lava
def test_lava_is_not_given_a_file_of_which_it_would_skip_layers(tmp_path: Path) -> None:
    network = Network([Dense([[1, 2]], recurrent=[[0]])])
    write_netx(network, tmp_path / "old.net")
    with h5py.File(tmp_path / "old.net", "a") as file:
        del file["layer/0/type"]
        file["layer/0/type"] = np.array(["recurrent"], "S10")
        file.move("layer/0/weight_rec", "layer/0/recWeight")
    with pytest.raises(NetxError, match=r"layer 0 has a type that early .* `spikeship lower`"):
        lava_cpu.run(network, [[[1, 1]]], file=tmp_path / "old.net")


def some_input(network: Network, steps: int) -> np.ndarray:
    """Single spikes, or a slow signal where the network has sigma-delta neurons."""
    rng = np.random.default_rng(3)
    shape = (1, steps, *network.input_shape)
    if not any(p.graded for p in network.populations):
        return rng.integers(0, 2, shape)
    return rng.integers(-40, 60, shape).cumsum(axis=1)


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.filterwarnings("ignore::spikeship.hw_targets.netx.file.NetxWarning")
def test_lava_reads_published_files_as_we_do(shared_data: Path) -> None:
    """Lava loads the file itself, so that what we read wrongly would show."""
    paths = files_of(shared_data / "golden")
    assert len(paths) >= 14
    with lava_cpu.kept_ready():
        for path in paths:
            same_from(path)


def same_from(path: Path) -> None:
    network = read_netx(path)
    x = some_input(network, 6)
    steps = min(6 + network.latency, 12)
    states = sorted({name for p in network.populations for name in p.states})
    options = {"timing": Timing(steps), "record": ("counts", "spikes", *states)}
    found = lava_cpu.run(network, x, file=path, **options)
    expected = engine.simulate(network, x, **options)
    for name in ("spikes", *states):
        mine, theirs = getattr(found, name), getattr(expected, name)
        assert mine.populations == theirs.populations
        for i in mine.populations:
            assert np.array_equal(mine[i], theirs[i]), f"{path.name}: {name}.{i}"
    assert np.array_equal(found.counts, expected.counts), path.name


@pytest.mark.lava
def test_the_file_must_hold_the_network() -> None:
    path = GOLDEN / "conv_mix_30.net"
    network = read_netx(path)
    conv = network.populations[0].layer
    other = Network([network.layers[0], replace(conv, weight=conv.weight - 2), *network.layers[2:]])
    x = some_input(network, 2)
    with pytest.raises(NetworkError, match=rf"conv_mix_30.net holds network {network.digest[:12]}"):
        lava_cpu.run(other, x, file=path)


# -- refusals ----------------------------------------------------------------------------------

ONE = Network([Dense([[1, 2]])])
REFUSED: dict[str, tuple[Network, dict[str, Any], type[Exception], str]] = {
    "recording": (ONE, {"record": ["w"]}, NetworkError, 'cannot record "w"'),
    "input": (
        ONE,
        {"timing": Timing(message_bits=1), "inputs": [[[2, 0]]]},
        NetworkError,
        "enough message bits",
    ),
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
    ("version", "missing", "message"),
    [
        (
            Version(3, 10),
            ("lava",),
            r'^Lava is not installed: `pip install "spikeship\[lava\]"`\.$',
        ),
        (
            Version(3, 12),
            ("lava",),
            r"--ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0`, or use",
        ),
        (Version(3, 12), ("cv2",), r"^cv2, which Lava needs, is not installed: `pip install"),
        (Version(3, 10), ("cv2",), None),
        (Version(3, 13), (), None),
    ],
)
def test_without_lava(
    version: Version, missing: tuple[str, ...], message: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lava_cpu, "sys", SimpleNamespace(version_info=version))
    monkeypatch.setattr(lava_cpu, "find_spec", lambda name: None if name in missing else name)
    if message is None:
        assert lava_cpu.why_unavailable() is None
        return
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
