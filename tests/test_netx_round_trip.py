"""Read, write, read: the same network, whatever `read_netx` accepts.

The files come from a writer of their own, as other programs may have left them: every dataset in any
type and shape that means the same, weights that Lava changes, entries that it ignores.
"""

import itertools
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.hw_targets.netx.file import NetxError, read_netx, write_netx

pytestmark = pytest.mark.filterwarnings("ignore::spikeship.hw_targets.netx.file.NetxWarning")
Rng = np.random.Generator


def pick(rng: Rng, *choices: Any) -> Any:
    return choices[rng.integers(len(choices))]


def number(rng: Rng, value: int) -> Any:
    """A whole number in any of the forms that HDF5 files have."""
    kind = pick(rng, *["i2", "i4", "i8", "f4", "f8"])
    return np.full(pick(rng, (), (), (1,)), value, kind if abs(value) < 1 << 15 else "i8")


def parameter(rng: Rng, shape: tuple[int, ...], high: int) -> Any:
    """Of neurons: one for all, per channel, or per neuron (W, H, C)."""
    size = pick(rng, None, None, shape[:1], shape[::-1])
    if size is None:
        return number(rng, int(pick(rng, 0, 1, high, rng.integers(high + 1))))
    return rng.integers(0, high, size, endpoint=True)


def weights(rng: Rng, *shape: int) -> np.ndarray:
    low, high = pick(rng, (-256, 254), (-256, -1), (-128, 0), (0, 254), (-3, 3), (0, 0), (64, 64))
    return rng.integers(low, high, shape, endpoint=True).astype(pick(rng, "f4", "f8", "i2", "i4"))


def write_neuron(rng: Rng, layer: h5py.Group, kind: str, shape: tuple[int, ...]) -> None:
    group = layer.create_group("neuron")
    if kind.startswith("RF"):
        group["sinDecay"] = number(rng, int(rng.integers(1, 4096)))
        group["cosDecay"] = number(rng, int(rng.integers(0, 4096)))
        group["vThMant"] = number(rng, int(rng.integers(0, 1 << 17)))
    elif kind == "SDNN":
        group["vThMant"] = number(rng, int(rng.integers(0, 200)))
        if rng.integers(3) == 0:
            group["sigma_output"] = bool(rng.integers(2))
        if rng.integers(2):
            group["activation"] = pick(rng, "relu", "ReLU")
    else:
        group["iDecay"] = parameter(rng, shape, 4096)
        group["vDecay"] = parameter(rng, shape, 4096)
        group["vThMant"] = parameter(rng, shape, (1 << 17) - 1)
    group["type"] = pick(rng, kind, np.array([kind], "S20"))
    if rng.integers(2):
        group["gradedSpike"] = False
    if rng.integers(3) == 0:
        group[pick(rng, "refDelay", "weight_exp", "tauGrad")] = int(rng.integers(3))


def write_dense(rng: Rng, layer: h5py.Group, into: int) -> tuple[int, ...]:
    out = int(rng.integers(1, 5))
    kind = pick(rng, "CUBA", "LOIHI", "SDNN", "RF_PHASE", "RF_IZHIKEVICH", None)
    recurrent = rng.integers(3) == 0
    layer["type"] = pick(rng, "dense_rec", np.array(["dense_rec"], "S10")) if recurrent else "dense"
    weight = weights(rng, out, into)
    if kind is not None:
        write_neuron(rng, layer, kind, (out,))
    if kind is not None and kind.startswith("RF"):
        layer["weight/real"], layer["weight/imag"] = weight, weights(rng, out, into)
    else:
        layer["weight"] = weight.ravel() if out == 1 and rng.integers(2) else weight
    if recurrent:
        layer["weight_rec"] = weights(rng, out, out)
    if rng.integers(2):
        layer["bias"] = rng.integers(-4096, 4095, pick(rng, (out,), (out, 1))).astype("f4")
    if rng.integers(2):
        delay = rng.integers(
            0, pick(rng, 0, 3, 62), pick(rng, (), (1,), (out,), (into,), (out, into)), endpoint=True
        )
        layer["delay"] = np.asarray(delay, pick(rng, "f4", "i8"))
    layer["shape"] = np.array(pick(rng, (out,), (out, 1, 1)))
    return (out,)


def write_conv(rng: Rng, layer: h5py.Group, before: tuple[int, ...]) -> tuple[int, ...]:
    channels, height, width = before
    groups = pick(rng, 1, channels)
    out = groups * int(rng.integers(1, 3))
    kernel, stride, padding, dilation = (rng.integers(low, 3, 2) for low in (1, 1, 0, 1))
    size = (np.array([height, width]) + 2 * padding - dilation * (kernel - 1) - 1) // stride + 1
    shape = (out, *map(int, size))
    layer["type"] = "conv"
    weight = weights(rng, out, channels // groups, *kernel)
    layer["weight"] = weight[..., None] if rng.integers(2) else weight
    for name, pair in (("stride", stride), ("padding", padding), ("dilation", dilation)):
        layer[name] = number(rng, int(pair[0])) if pair[0] == pair[1] else pair
    layer["groups"] = number(rng, groups)
    layer["shape"] = np.array(shape)
    write_neuron(rng, layer, pick(rng, "CUBA", "LOIHI", "SDNN"), shape)
    if rng.integers(2):
        layer["bias"] = rng.integers(-4096, 4095, pick(rng, (out,), shape[::-1])).astype("f4")
    return shape


def write_pool(rng: Rng, layer: h5py.Group, before: tuple[int, ...]) -> tuple[int, ...]:
    channels, height, width = before
    layer["type"] = "pool"
    layer["weight"] = np.full((1, 1, height, 1), 64, "f4")
    for name, pair in (("stride", (height, 1)), ("padding", (0, 0)), ("dilation", (1, 1))):
        layer[name] = np.array(pair)
    write_neuron(rng, layer, "CUBA", (channels, 1, width))
    return channels, 1, width


def write_file(seed: int, path: Path) -> dict[str, Any]:
    """A file, and the arguments with which it is to be read."""
    rng = np.random.default_rng(seed)
    shape: tuple[int, ...] = pick(rng, (int(rng.integers(1, 6)),), (2, 3, 4), (1, 4, 3))
    options: dict[str, Any] = {}
    numbers = itertools.count()
    with h5py.File(path, "w") as file:
        groups = file.create_group("layer")

        def layer() -> h5py.Group:
            return groups.create_group(str(next(numbers)))

        if rng.integers(2):
            first = layer()
            first["type"], first["shape"] = "input", np.array(shape)
            if rng.integers(2):
                write_neuron(rng, first, pick(rng, "CUBA", "SDNN"), shape)
            if rng.integers(2):
                first["weight"], first["bias"] = number(rng, 64), number(rng, -3)
        elif len(shape) == 3:
            options["input_shape"] = shape
        for _ in range(rng.integers(1, 4)):
            if len(shape) == 3 and rng.integers(2):
                shape = write_conv(rng, layer(), shape)
            elif len(shape) == 3 and rng.integers(3) == 0:
                shape = write_pool(rng, layer(), shape)
                options["lower_pooling"] = True
            else:
                if len(shape) == 3:
                    layer()["type"] = "flatten"
                    shape = (int(np.prod(shape)),)
                shape = write_dense(rng, layer(), *shape)
        if rng.integers(3) == 0:
            options["spike_exp"] = int(rng.integers(8))
        if rng.integers(4) == 0:
            options["num_layers"] = int(rng.integers(1, len(groups) + 1))
    return options


def trip(seed: int, folder: Path) -> bool:
    """Whether the file was accepted; then what is read of it must survive."""
    path, again, twice = (folder / f"{name}.net" for name in "abc")
    options = write_file(seed, path)
    try:
        network = read_netx(path, **options)
    except NetxError:
        return False
    write_netx(network, again, for_lava=False)
    reread = read_netx(again)
    assert (reread.digest, reread.layers) == (network.digest, network.layers), f"seed {seed}"
    assert [p.layer.neuron for p in reread.populations] == [
        p.layer.neuron for p in network.populations
    ]
    write_netx(reread, twice, for_lava=False)
    assert twice.read_bytes() == again.read_bytes()
    return True


@pytest.mark.slow
@settings(max_examples=60, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32 - 1))
def test_what_is_read_can_be_written_and_read(
    seed: int, tmp_path_factory: pytest.TempPathFactory
) -> None:
    trip(seed, tmp_path_factory.mktemp("netx"))


@pytest.mark.slow
def test_most_files_are_accepted(tmp_path: Path) -> None:
    accepted = sum(trip(seed, tmp_path) for seed in range(100))
    assert accepted > 50
