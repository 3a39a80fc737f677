"""Every recorded integer there is: Lava's runs, lava-dl's own ground truth, a chip, torch.

The cases A to E are those of the specification that came with the data. Where Lava silently changes
a network, the network is refused here, and the case is the message. E5 is in `test_netx`, in
`BAD_FILES`; E8, parity with lava-dl's trainer, in its tests of SLAYER.
"""

from __future__ import annotations

import ast
import hashlib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

import h5py
import numpy as np
import pytest

from spikeship.hw_targets.network import arithmetic
from spikeship.hw_targets.network.layers import Conv, Dense, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    NetworkError,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.netx.file import NetxError, read_netx, write_netx
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate.trace import Overflow, Trace

Simulate: TypeAlias = Callable[..., Trace]
BACKENDS: list[Simulate] = [reference.simulate, engine.simulate]
backends = pytest.mark.parametrize("simulate", BACKENDS, ids=["reference", "engine"])

HERE = Path(__file__).parent / "golden"
LIMIT = 1 << 23
FOLDERS = {
    "conv": "test_torch_convolution",
    "dense": "test_dense_block, test_resonators, test_resonators_of_an_input_block",
    "lava_runs": "RECORDED",
    "mnist_mlp": "RECORDED, SHAPES",
    "nir_lif": "test_real_loihi_2_chip; the traces of other platforms are no integers",
    "oxford": "RECORDED, SHAPES; ground_truth.npy is of another threshold rule",
    "pilotnet_sdnn": "RECORDED, SHAPES, test_pilotnet_*",
    "tiny": "RECORDED, SHAPES, test_tiny_network, test_*_block",
    "iris": "SHAPES; no recorded run",
    "ann_mnist": "a float network: no integers",
    "nir_braille": "a float network: no integers",
    "nir_cnn": "a float network: no integers",
    "tables": "published figures: no integers",
}
"""Where each folder of shared/data/golden is tested."""


def test_every_folder_is_accounted_for(shared_data: Path) -> None:
    assert {p.name for p in (shared_data / "golden").iterdir()} == set(FOLDERS)


def time_first(array: np.ndarray) -> np.ndarray:
    """(..., T) to integers (T, ...)."""
    assert (array == np.floor(array)).all()
    return np.moveaxis(array, -1, 0).astype(int)


def channels_first(array: np.ndarray) -> np.ndarray:
    """lava-dl's (W, H, C, T) to integers (T, C, H, W)."""
    return time_first(array).transpose(0, 3, 2, 1)


# -- B and C: runs recorded from Lava ----------------------------------------------------------


@dataclass(frozen=True)
class Run:
    """A recording of `lava_runs`.

    `sums`: absolute messages per layer (None: not specified); `sha`: the start of SHA-256 over all of its arrays;
    `wraps`: currents that wrap, u[t] != u[t - 1] + (a << 6).
    """

    sums: tuple[int | None, ...]
    sha: str
    network: str | None = None
    wraps: int = 0


RECORDED = {
    "oxford_2000": Run((1826, 9565), "4597a0bc543707a6", "oxford/network.net"),
    "mnist_dense_64": Run(
        (1455, 1338, 67), "540357b72c287729", "mnist_mlp/trained_mnist_network.net"
    ),
    "tiny_40_reset16": Run((18309, 4296, 240), "92f06f080ed508e5", "tiny/tiny.net"),
    "pilotnet_sdnn_15": Run(
        (19376256, 8435144, 5938876, 7194079, 5346928, 695071, 375228, 165697, 2023070),
        "5bd430b28887131d",
        "pilotnet_sdnn/network.net",
    ),
    "pilotnet_sdnn_15_spikeexp0": Run(
        (302754, *[None] * 7, 28524),
        "6530ad0f161fa952",
        "pilotnet_sdnn/network.net",
    ),
    "rec_80": Run((159,), "e28c22663ad68726"),
    "delay_axonal_100": Run((177, 254), "c227a141b1f9c674"),
    "perchannel_100": Run((46,), "0c7d248cd1c2610e"),
    "wrap_clip_100": Run((105,), "75c530fd1fa4f439", wraps=421),
    "default_neuron_100": Run((0,), "4b61f9b9a078c717"),
    "conv_mix_30": Run((1381, 663, 47), "48cd584c95507abc"),
    "sdnn_dense_40": Run((170624, 521800, 341364, 253404306), "73da419d53e8c3c9"),
    "rf_60": Run((35, 39), "6161b32dc716e0db"),
}
QUANTITIES = {
    "s": "spikes",
    "u": "u",
    "v": "v",
    "sigma": "u",
    "act": "v",
    "residue": "residue",
    "real": "u",
    "imag": "v",
}
"""What a trace calls the recorded states."""


def check_recording(simulate: Simulate, run: Run, recording: Path, network_file: Path) -> None:
    with np.load(recording) as data:
        arrays = {key: data[key] for key in data.files if key != "kwargs"}
        arguments = ast.literal_eval(str(data["kwargs"]))
    sha = hashlib.sha256()
    for key in sorted(arrays):
        sha.update(key.encode() + arrays[key].astype("<i4").tobytes())
    assert sha.hexdigest().startswith(run.sha)
    network = read_netx(network_file, spike_exp=arguments.pop("spike_exp", None))
    bits = arguments.pop("input_message_bits", 0)
    driving = "input_bias" in arrays
    given = arrays.pop("input_bias") if driving else time_first(arrays.pop("input"))
    expected = {key: time_first(array) for key, array in arrays.items()}
    wanted = {QUANTITIES[key.rstrip("0123456789")] for key in expected}
    steps = len(expected["s0"])
    timing = Timing(steps, message_bits=bits, **arguments)
    trace = simulate(network, given[None], timing, record=wanted)
    assert {key for key in expected if key[0:2] == f"s{key[-1]}"} == {
        f"s{p.index}" for p in network.populations
    }
    for i, total in enumerate(run.sums):
        assert total in (None, np.abs(expected[f"s{i}"]).sum())
    for key, values in expected.items():
        name, i = key.rstrip("0123456789"), int(key[-1])
        if name == "sigma" and isinstance(network.populations[i].layer.neuron, Delta):
            assert not values.any()  # Lava's Delta has the variable, and never uses it
            continue
        assert np.array_equal(getattr(trace, QUANTITIES[name])[i][0], values), key
    assert trace.overflow is not None
    assert sum(trace.overflow, Overflow()).u_wraps == run.wraps


@backends
def test_recorded_run(simulate: Simulate) -> None:
    """Groups, strides, padding, dilation, bias, flatten, dense and resets; no shared data."""
    name = "conv_mix_30"
    check_recording(simulate, RECORDED[name], HERE / f"{name}.npz", HERE / f"{name}.net")


@pytest.mark.slow
@backends
@pytest.mark.parametrize("name", RECORDED)
def test_shared_recorded_run(simulate: Simulate, name: str, shared_data: Path) -> None:
    golden, run = shared_data / "golden", RECORDED[name]
    file = golden / (run.network or f"lava_runs/{name}.net")
    check_recording(simulate, run, golden / f"lava_runs/{name}.npz", file)


def test_every_recording_is_in_the_table(shared_data: Path) -> None:
    assert {p.stem for p in (shared_data / "golden/lava_runs").iterdir()} == set(RECORDED)


# -- A1 to A4: lava-dl's LIF blocks ------------------------------------------------------------

TINY = CubaLIF(4096, 1024, 25)
Load: TypeAlias = Callable[[str], np.ndarray]


@pytest.fixture
def tiny(shared_data: Path) -> Load:
    """Load a recording of lava-dl's tiny network, without its batch axis."""

    def load(name: str) -> np.ndarray:
        array: np.ndarray = np.load(shared_data / f"golden/tiny/lif/{name}.npy")
        return array[0] if array.ndim == 5 else array

    return load


def lava_kernel(array: np.ndarray) -> np.ndarray:
    """Lava's kernel (out, x, y, in) of a true convolution as torch's (out, in, y, x)."""
    return array[:, ::-1, ::-1].transpose(0, 3, 2, 1)


@backends
def test_input_block(simulate: Simulate, tiny: Load) -> None:
    """A1."""
    bias = tiny("input_bias").T.astype(int)  # W, H, C
    network = Network([Input((3, 16, 16), TINY)])
    trace = simulate(network, bias[None], Timing(15), record="spikes")
    assert trace.spikes is not None
    assert np.array_equal(trace.spikes[0][0], time_first(tiny("input"))[1:])


@backends
def test_conv_block(simulate: Simulate, tiny: Load) -> None:
    """A2: state forgotten after step 1; the recording has no spikes in that step."""
    conv = Conv(lava_kernel(tiny("layer1_kernel")), tiny("layer1_bias"), TINY, stride=(2, 2))
    trace = simulate(
        Network([Input((3, 16, 16)), conv]),
        time_first(tiny("input"))[None, 1:],
        Timing(16, reset_interval=16, reset_offset=1),
        record=("spikes", "u"),
    )
    assert trace.spikes is not None
    assert trace.u is not None
    assert np.array_equal(trace.spikes[0][0, 1:], time_first(tiny("layer1"))[1:])
    assert np.array_equal(trace.u[0][0], 64 * time_first(tiny("current")))


@backends
def test_dense_block(simulate: Simulate, shared_data: Path) -> None:
    """A3."""
    with np.load(shared_data / "golden/dense/dense.npz") as data:
        network = Network([Dense(data["weight"], None, CubaLIF(4096, 415, 6))])
        trace = simulate(network, time_first(data["in"])[None], record=("spikes", "u"))
        assert trace.spikes is not None
        assert trace.u is not None
        assert int(trace.spikes[0].sum()) == 1826
        assert np.array_equal(trace.spikes[0][0], time_first(data["out"]))
        assert np.array_equal(trace.u[0][0], 64 * time_first(data["current"]))


@backends
def test_tiny_network(simulate: Simulate, tiny: Load) -> None:
    """A4."""
    bias = tiny("input_bias").T[None]
    trace = simulate(
        read_netx(HERE / "tiny.net"), bias, Timing(20, reset_interval=17), record="spikes.2"
    )
    expected = time_first(tiny("output"))[1:]
    assert trace.spikes is not None
    assert expected.sum() == 92
    assert np.array_equal(trace.spikes[2][0, 2:17], expected)


# -- A6 to A8, A12, A13: sigma-delta; A9 is a recorded run -------------------------------------


@backends
def test_pilotnet_readout(simulate: Simulate, shared_data: Path) -> None:
    """A6."""
    folder = shared_data / "golden/pilotnet_sdnn"
    image = channels_first(np.load(folder / "input.npy"))
    trace = simulate(read_netx(folder / "network.net"), image, Timing(9), record="spikes.-1")
    found = trace.spikes[8][0, :, 0].tolist() if trace.spikes else None
    assert found == [0, -3840, 4880, 361928, 461416, 342568, -315628, -315628, -31026]
    assert found == np.load(folder / "output.npy")[0].tolist()


@backends
@pytest.mark.parametrize(
    ("file", "layers", "suffix"),
    [("network", (1, 2), ""), ("square_network", (1, 2, 3, 4), "_square")],
)
def test_pilotnet_sigmas(
    simulate: Simulate, file: str, layers: tuple[int, ...], suffix: str, shared_data: Path
) -> None:
    """A7 and A8: the file without its input layer, driven by that layer's recorded messages."""
    folder = shared_data / "golden/pilotnet_sdnn"
    network = read_netx(folder / f"{file}.net", skip_layers=1, num_layers=5)
    messages = channels_first(np.load(folder / "act0.npy"))[..., : network.input_shape[2]]
    trace = simulate(network, messages[None], Timing(message_bits=16), record="u")
    assert trace.u is not None
    for i in layers:
        expected = channels_first(np.load(folder / f"sigma{i}{suffix}.npy"))
        assert np.array_equal(trace.u[i - 1][0], expected)


@backends
def test_delta_block(simulate: Simulate, shared_data: Path) -> None:
    """A12."""
    folder = shared_data / "golden/tiny/sdnn"
    bias = np.load(folder / "input_bias.npy")
    x = (bias[..., None] * np.sin(2 * np.pi * np.arange(15) / 15)).astype(int)
    network = Network([Input((3, 16, 16), Delta(20))])
    trace = simulate(network, channels_first(x)[None], record="spikes")
    assert trace.spikes is not None
    assert np.array_equal(trace.spikes[0][0], channels_first(np.load(folder / "input.npy")))


@backends
def test_sigma_delta_conv_block(simulate: Simulate, shared_data: Path) -> None:
    """The bias alone, in step 1, which is all that the recording holds."""
    folder = shared_data / "golden/tiny/sdnn"
    bias = np.load(folder / "layer1_bias.npy")
    kernel = lava_kernel(np.load(folder / "layer1_kernel.npy"))
    network = Network([Input((3, 16, 16)), Conv(kernel, bias, SigmaDelta(20), stride=(2, 2))])
    trace = simulate(network, np.zeros((1, 1, 3, 16, 16), int), record="spikes")
    expected = channels_first(np.load(folder / "layer1.npy"))
    assert trace.spikes is not None
    assert expected[0].any()
    assert np.array_equal(trace.spikes[0][0], expected[:1])


@backends
def test_sigma_dense_block(simulate: Simulate, shared_data: Path) -> None:
    """A13: every message counts as one spike."""
    folder = shared_data / "golden/tiny/sdnn"
    network = Network([Dense(np.load(folder / "layer2_weight.npy"), None, Sigma())])
    messages = time_first(np.load(folder / "layer1.npy").reshape(864, 16))
    trace = simulate(network, messages[None], Timing(message_bits=0), record="spikes")
    assert trace.spikes is not None
    assert np.array_equal(trace.spikes[0][0], time_first(np.load(folder / "layer2.npy")))


# -- A10 and A11: resonators -------------------------------------------------------------------


def stored_decays(period: float, decay: float) -> tuple[int, int]:
    """What a file must hold so that Lava runs int(4096 * (1 - decay) * sin and cos(2 pi / period))."""
    angle = 2 * np.pi / period
    wanted = tuple(int(4096 * (1 - decay) * f(angle)) for f in (np.sin, np.cos))
    near = [
        (s, c) for s in range(wanted[0], wanted[0] + 2) for c in range(wanted[1], wanted[1] + 2)
    ]
    return next(pair for pair in near if arithmetic.resonator_decays(*pair) == wanted)


@backends
def test_resonators(simulate: Simulate, shared_data: Path) -> None:
    """A10."""
    with np.load(shared_data / "golden/dense/complex_dense.npz") as data:
        neuron = ResonateFire(*stored_decays(11, 0.05), 25)
        layer = Dense(data["weight_r"], None, neuron, imaginary=data["weight_img"])
        trace = simulate(Network([layer]), time_first(data["in"])[None], record="spikes")
        assert trace.spikes is not None
        assert int(trace.spikes[0].sum()) == 41512
        assert np.array_equal(trace.spikes[0][0], time_first(data["out"]))


def test_resonators_of_an_input_block(shared_data: Path) -> None:
    """A11, by the neurons alone: no file has such an input, nor the threshold 1.1 * 64."""

    class Threshold(int):
        def __lshift__(self, bits: int) -> int:
            return int(1.1 * (1 << bits))

    with np.load(shared_data / "golden/dense/complex_dense.npz") as data:
        inputs, expected = time_first(data["in"]), time_first(data["current"])
    neuron = ResonateFire(*stored_decays(7, 0.05), 1, "RF_IZHIKEVICH")
    object.__setattr__(neuron, "threshold", Threshold())
    states = {name: np.zeros((1, 200), np.int32) for name in neuron.states.values()}
    steps = []
    for x in inputs:
        after = neuron.step(states, [x[None], x[None]], np.int32(0))
        states = after.states
        steps.append(after.messages[0])
    spikes = np.stack(steps)
    assert int(spikes.sum()) == 13548
    assert np.array_equal(spikes, expected)


# -- A14: real files ---------------------------------------------------------------------------

SHAPES = {
    "tiny/tiny.net": [(3, 16, 16), (24, 6, 6), (36, 1, 1)],
    "mnist_mlp/trained_mnist_network.net": [(128,), (64,), (10,)],
    "oxford/network.net": [(256,), (200,)],
    "iris/Trained/network.net": [(24,), (3,)],
    "pilotnet_sdnn/network.net": [
        (3, 33, 100),
        (24, 16, 49),
        (36, 7, 24),
        (64, 4, 22),
        (64, 2, 20),
        (2560,),
        (100,),
        (50,),
        (10,),
        (1,),
    ],
    "pilotnet_sdnn/square_network.net": [
        (3, 33, 33),
        (24, 16, 16),
        (36, 7, 7),
        (64, 4, 4),
        (64, 2, 2),
    ],
}


@pytest.mark.parametrize("name", SHAPES)
def test_real_file(name: str, shared_data: Path) -> None:
    assert list(read_netx(shared_data / "golden" / name).shapes) == SHAPES[name]


# -- D: what netx and Lava make of dense weights -----------------------------------------------

WEIGHTS: list[tuple[Any, int, Any]] = [
    # stored, weight exponent, effective (None: unchanged)
    ([[2, -4, 6], [8, -126, 100]], -1, None),
    ([[1, -3, 5], [7, -127, 99]], -1, None),
    ([[1, -3, 201], [7, -127, 99]], 0, None),
    ([[0, -128, -2], [-4, -8, -16]], -1, [[0, -127, -2], [-4, -8, -16]]),
    ([[0, -100, -2], [-4, -8, -16]], -1, None),
    ([[-64, -32, -2], [-4, -8, -16]], -2, [[-62, -32, -2], [-4, -8, -16]]),
    ([[-256, -32, -2], [-4, -8, -16]], 0, [[-254, -32, -2], [-4, -8, -16]]),
    ([[255, 2, 0], [4, 6, 8]], 0, None),
    ([[300, 2, 0], [4, 6, 8]], 1, np.zeros((2, 3))),
    ([[-300, -2, -6], [-4, -8, -8]], 1, np.zeros((2, 3))),
    ([[-256, 2, 0], [4, 254, 8]], 0, None),
    ([[-256, 2, 0], [4, 300, 8]], 0, [[-256, 2, 0], [4, 254, 8]]),
    ([[-300, 2, 0], [4, 200, 8]], 0, [[-256, 2, 0], [4, 200, 8]]),
]


@pytest.mark.parametrize(("stored", "exponent", "effective"), WEIGHTS)
def test_weight_fit(stored: Any, exponent: int, effective: Any, tmp_path: Path) -> None:
    """What would change is refused: by `Network` beyond [-256, 254], else by `write_netx`."""
    weight = np.array(stored)
    expected = weight if effective is None else effective
    fitted = arithmetic.synapse_format(weight)
    assert np.array_equal(fitted.weight, expected)
    assert -fitted.shift == exponent
    if weight.min() < -256 or weight.max() > 254:
        with pytest.raises(NetworkError, match=r"is outside \[-256, 254\].*quantize again"):
            Dense(weight)
        return
    network = Network([Dense(weight, None, CubaLIF(4096, 4096, 131071))])
    for simulate in BACKENDS:
        trace = simulate(network, np.eye(3, dtype=int)[None], Timing(4), record="u")
        assert trace.u is not None
        assert np.array_equal(trace.u[0][0, 1:].T, 64 * np.asarray(expected))
    if effective is None:
        write_netx(network, tmp_path / "a.net")
        assert read_netx(tmp_path / "a.net") == network
    else:
        with pytest.raises(NetxError, match=r"would become .* in Lava"):
            write_netx(network, tmp_path / "a.net")


def test_weights_with_fractions_are_refused() -> None:
    with pytest.raises(
        NetworkError, match=r"weight\[0, 0\] = 1.6 is not an integer \(and 5 more\)"
    ):
        Dense([[1.6, -2.7, 3.2], [7.9, -127.9, 99.5]])


def test_weights_of_zero_are_not_written(tmp_path: Path) -> None:
    with pytest.raises(NetxError, match="all weights are 0; lava-dl cannot load such a layer"):
        write_netx(Network([Dense(np.zeros((2, 3)))]), tmp_path / "a.net")


# -- E: behaviour ------------------------------------------------------------------------------


@backends
@pytest.mark.parametrize(("bias", "fires"), [(20, 1), (11, 1), (10, 0), (9, 0)])
def test_firing_needs_more_than_the_threshold(simulate: Simulate, bias: int, fires: int) -> None:
    """E1: a bias acts from the first step on, before any input; a spike leaves u and v at 0."""
    network = Network([Dense([[1]], [bias], CubaLIF(4096, 4096, 10))])
    trace = simulate(network, np.zeros((1, 3, 1), int), record=("spikes", "u", "v"))
    assert plain(trace.spikes) == [fires] * 3
    assert plain(trace.u) == [0] * 3
    assert plain(trace.v) == [0 if fires else bias * 64] * 3


def plain(arrays: Any) -> list[int]:
    """The columns of the only neuron of the first sample."""
    columns: list[int] = arrays[0][0].reshape(-1).tolist()
    return columns


@backends
@pytest.mark.parametrize(
    ("bits", "u"), [(0, [0, 5, 5, 0]), (8, [0, 35, -5, 0]), (None, [0, 35, -5, 0])]
)
def test_message_bits(simulate: Simulate, bits: int | None, u: list[int]) -> None:
    """E2: of width 0 any message is one spike, negative ones too."""
    network = Network([Dense([[5]], None, CubaLIF(4096, 0, 99))])
    trace = simulate(network, [[[7], [-1], [0], [0]]], Timing(message_bits=bits), record=["u"])
    assert plain(trace.u) == [64 * x for x in u]


@pytest.mark.parametrize("bias", [40000, 32768, -40000, 4096])
def test_bias_that_would_wrap_is_refused(bias: int) -> None:
    """E3: Lava wraps biases at 16 bit; the chip has 13."""
    message = rf"bias\[0\] = {bias} is outside \[-4096, 4095\].*13-bit mantissa"
    with pytest.raises(NetworkError, match=message):
        Dense([[1]], [bias])
    with pytest.raises(NetworkError, match=message):
        Conv([[[[1]]]], [bias], TINY)


@pytest.mark.parametrize("order", ["W, H, C", "C, H, W", "C"])
def test_order_of_a_bias_in_a_file(order: str, tmp_path: Path) -> None:
    """E4."""
    bias = np.arange(3 * 4 * 5).reshape(3, 4, 5)
    conv = Conv(np.ones((3, 1, 1, 1)), bias if order != "C" else bias[:, 0, 0], TINY)
    network = Network([Input((1, 4, 5)), conv])
    write_netx(network, tmp_path / "a.net")
    if order != "C, H, W":
        assert read_netx(tmp_path / "a.net") == network
        return
    with h5py.File(tmp_path / "a.net", "r+") as file:
        del file["layer/1/bias"]
        file["layer/1/bias"] = bias
    message = r"a.net: layer 1 \(Conv\): bias has shape \(5, 4, 3\); one per channel or neuron"
    with pytest.raises(NetxError, match=message):
        read_netx(tmp_path / "a.net")


def test_a_vector_of_thresholds() -> None:
    """E5: works for CUBA, fails in Lava for sigma-delta neurons."""
    network = Network([Dense([[1], [1]], [5, 5], CubaLIF(4096, 4096, [4, 5]))])
    for simulate in BACKENDS:
        trace = simulate(network, [[[0]]], record="spikes")
        assert trace.spikes is not None
        assert trace.spikes[0].tolist() == [[[1, 0]]]
    with pytest.raises(NetworkError, match=r"threshold has shape \(2,\); a single integer"):
        SigmaDelta([4, 5])  # type: ignore[arg-type]


@backends
def test_127_groups(simulate: Simulate) -> None:
    """E6: exact, and 128 are refused: Lava would give zeros."""
    weight = np.arange(1, 128).reshape(127, 1, 1, 1)
    network = Network([Input((127, 1, 1)), Conv(weight, None, TINY, groups=127)])
    trace = simulate(network, np.ones((1, 2, 127, 1, 1), int), record="u")
    assert trace.u is not None
    assert trace.u[0][0, 1, :, 0, 0].tolist() == [64 * w for w in range(1, 128)]
    with pytest.raises(NetworkError, match=r"groups = 128 is outside \[1, 127\].*8 bits"):
        Conv(np.ones((128, 1, 1, 1)), None, TINY, groups=128)


@backends
def test_sums_of_a_convolution_wrap_at_24_bit(simulate: Simulate) -> None:
    """E7: before the shift; u then wraps once, and may stay far beyond 24 bit.

    Unlike E7 says, a sum beyond 32 bits is 0: Lava casts it first (the parity table has it on Lava).
    """
    sent = np.array([0, 33026, 33027, -40000, 66052, 1 << 23, (1 << 24) - 1])
    cast = [254 * int(x) if abs(254 * int(x)) < 1 << 31 else 0 for x in sent]
    assert cast[-2:] == [254 << 23, 0]
    sums = [((x + LIMIT) % (2 * LIMIT)) - LIMIT for x in cast]
    u = [64 * a - 2 * LIMIT * ((64 * a > LIMIT) - (64 * a <= -LIMIT)) for a in sums]
    network = Network([Input((1, 1, 1)), Conv([[[[254]]]], None, CubaLIF(4096, 4096, 9))])
    trace = simulate(network, sent.reshape(1, -1, 1, 1, 1), Timing(len(sent) + 1), record="u")
    assert plain(trace.u) == [0, *u]
    assert max(map(abs, u)) > 5 * 10**8


def test_delays_of_recurrent_layers_are_refused() -> None:
    """E9: lava-dl runs such weights too large by a power of two."""
    with pytest.raises(
        NetworkError, match="delays of a recurrent layer are not supported: lava-dl"
    ):
        Dense([[1]], None, TINY, recurrent=[[1]], delay=1)


# -- others ------------------------------------------------------------------------------------


@pytest.mark.slow
@backends
@pytest.mark.parametrize("pair", range(10))
def test_torch_convolution(simulate: Simulate, pair: int, shared_data: Path) -> None:
    """Real inputs in [0, 1) go through as six hexadecimal digits, one sample each.

    The one comparison with a bound: torch's sums are float32.
    """
    with np.load(shared_data / f"golden/conv/gt_conv_paris_{pair}.npz") as data:
        x = data["input"].T  # W, H, C
        expected = data["out_gt"].T
        weight = lava_kernel(data["weights"])
        options = {k: data[k].tolist()[::-1] for k in ("stride", "padding", "dilation")}
        groups = int(data["groups"])
    digits = np.stack([np.floor(x * 16**k) % 16 for k in range(1, 7)])
    conv = Conv(weight, None, CubaLIF(4096, 4096, 0), **options, groups=groups)
    trace = simulate(Network([Input(x.shape), conv]), digits[:, None], Timing(2), record=["u"])
    assert trace.u is not None
    assert trace.overflow == (Overflow(),)
    sums = np.tensordot(16.0 ** -np.arange(1, 7), trace.u[0][:, 1] / 64, 1)
    # the digits beyond the sixth, and the rounding of torch's float32 sums
    bound = np.abs(weight).sum(axis=(1, 2, 3)).max() * (16.0**-6 + 2.0**-20)
    assert sums.shape == expected.shape
    assert np.abs(sums - expected).max() < bound < 0.05


@backends
def test_real_loihi_2_chip(simulate: Simulate, shared_data: Path) -> None:
    """The chip shows 128 (a refractory count) as v in the step of a spike, the simulators 0."""
    recorded = np.loadtxt(shared_data / "golden/nir_lif/lif_lava_loihi_fixed.csv", delimiter=",")
    spikes_in, voltage, spikes_out = recorded.T
    network = Network([Dense([[10]], None, CubaLIF(4096, 163, 25))])
    trace = simulate(network, spikes_in[None, :, None], record=("spikes", "v"))
    spikes, v = np.array(plain(trace.spikes)), np.array(plain(trace.v))
    assert spikes.sum() == 4
    assert np.array_equal(spikes, spikes_out)
    assert np.array_equal(np.where(spikes > 0, 128, v), voltage)
