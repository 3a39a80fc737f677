import contextlib
import io
import shutil
import warnings
from collections.abc import Callable, Iterator
from dataclasses import fields, is_dataclass
from pathlib import Path
from typing import Any, get_args

import h5py
import numpy as np
import pytest

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import (
    NEURONS,
    CubaLIF,
    Delta,
    NetworkError,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from spikeship.hw_targets.network.recipe import Recipe, attributes_digest
from spikeship.hw_targets.netx import file as netx
from spikeship.hw_targets.netx.file import NetxError, NetxWarning, read_netx, write_netx
from spikeship.hw_targets.simulate.reference import simulate

GOLDEN = Path(__file__).parent / "golden"
RNG = np.random.default_rng(7)
NEURON = CubaLIF(1024, 512, 60)
CHANGES = SigmaDelta(7)
RINGING = ResonateFire(2287, 3148, 20)


def weights(*shape: int) -> np.ndarray:
    return RNG.integers(-256, 254, shape, endpoint=True)


def plain(thing: Any) -> Any:
    """Every field as plain Python: a second opinion beside `digest`, and with the neuron kinds."""
    if is_dataclass(thing):
        parts = {f.name: plain(getattr(thing, f.name)) for f in fields(thing)}
        return {"is": type(thing).__name__, **parts}
    if isinstance(thing, list | tuple):
        return [plain(item) for item in thing]
    if isinstance(thing, np.ndarray):
        return thing.tolist()
    return dict(thing) if hasattr(thing, "keys") else thing


# -- round trip --------------------------------------------------------------------------------

PIXELS = np.arange(3 * 4 * 5).reshape(3, 4, 5)
FULL_RECIPE = Recipe(
    Coding(
        "RSC-II",
        20,
        levels=15,
        sigma=0.25,
        message_bits=5,
        offsets=4,
        template=(1 << 63) - 1,
        grid=255,
    ),
    reset_interval=24,
    reset_offset=1,
    seed=1 << 40,
    decode="mean voltage",
    output_unit=12.5,
    provenance={"data": "MNIST", "author": "Ä", "empty": ""},
)
NETWORKS: dict[str, Network] = {
    "dense": Network([Dense(weights(3, 5), None, NEURON)]),
    "dense, one output": Network([Dense(weights(1, 5), [-4096], NEURON)]),
    "dense, one synapse": Network([Dense([[-255]], 4095, NEURON)]),
    "dense, one bias for all": Network([Dense(weights(3, 5), 7, NEURON)]),
    "dense, per neuron": Network(
        [Dense(weights(3, 5), [-1, 0, 1], CubaLIF([0, 1, 4096], [4095, 2, 0], [0, 9, 131071]))]
    ),
    "dense, default neuron": Network([Dense(weights(3, 5), [1, 2, 3])]),
    "dense, LOIHI": Network([Dense(weights(3, 5), None, CubaLIF(1, 2, 3, "LOIHI"))]),
    "input without neurons": Network([Input((5,)), Dense(weights(3, 5))]),
    "input with a transform": Network([Input((5,), NEURON, 64, -3), Dense(weights(3, 5))]),
    "input, per channel and pixel": Network(
        [Input((3, 4, 5), CubaLIF([1, 2, 3], PIXELS, PIXELS + 7)), Flatten(), Dense(weights(2, 60))]
    ),
    "conv": Network([Input((2, 6, 7)), Conv(weights(3, 2, 3, 3), None, NEURON)]),
    "conv, every option": Network(
        [
            Input((4, 9, 7), NEURON),
            Conv(weights(6, 2, 2, 3), weights(6), NEURON, (2, 1), (1, 3), (1, 2), 2),
        ]
    ),
    "conv, per channel": Network(
        [Input((1, 4, 5)), Conv(weights(2, 1, 1, 1), [1, 2], CubaLIF([3, 4], [5, 6], [7, 8]))]
    ),
    "conv, per neuron": Network(
        [
            Input((1, 4, 5)),
            Conv(weights(3, 1, 1, 1), -PIXELS, CubaLIF(PIXELS, PIXELS + 100, PIXELS + 200)),
        ]
    ),
    "conv, one channel": Network([Input((1, 4, 5)), Conv(weights(1, 1, 2, 2), [5], NEURON)]),
    "conv, all zero": Network([Input((1, 4, 5)), Conv(np.zeros((1, 1, 2, 2)), None, NEURON)]),
    "conv, conv, flatten, dense": Network(
        [
            Input((2, 6, 7)),
            Conv(weights(3, 2, 3, 3), None, NEURON, padding=1),
            Conv(weights(2, 3, 2, 2), None, NEURON, stride=2),
            Flatten(),
            Dense(weights(4, 18), None, NEURON),
        ]
    ),
    "recurrent": Network([Dense(weights(3, 5), [1, 2, 3], NEURON, recurrent=weights(3, 3))]),
    "recurrent, one neuron": Network([Dense(weights(1, 5), None, NEURON, recurrent=[[0]])]),
    "recurrent, nothing recurs": Network([Dense(weights(2, 5), recurrent=np.zeros((2, 2)))]),
    "delay of zero": Network([Dense(weights(3, 5), None, NEURON, delay=0)]),
    "delay of zero, per input": Network([Dense(weights(3, 5), None, NEURON, delay=[0] * 5)]),
    "delay, one for all": Network([Dense(weights(3, 5), None, NEURON, delay=62)]),
    "delay, per output": Network([Dense(weights(3, 5), [1, 2, 3], NEURON, delay=[0, 1, 62])]),
    "delay, per input": Network([Dense(weights(3, 5), None, NEURON, delay=[0, 1, 2, 3, 62])]),
    "delay, per synapse": Network(
        [Dense(weights(2, 3), None, NEURON, delay=[[0, 1, 2], [62, 61, 60]])]
    ),
    "sigma-delta": Network(
        [
            Input((5,), Delta(3)),
            Dense(weights(3, 5), [4, -5, 6], CHANGES),
            Dense(weights(3, 3), None, SigmaDelta(0), recurrent=weights(3, 3)),
            Dense(weights(2, 3), None, Sigma()),
        ]
    ),
    "sigma-delta, exponent 0, conv": Network(
        [
            Input((2, 6, 7), Delta(131071, 0), 36, 34),
            Conv(weights(3, 2, 3, 3), [7, 8, 9], SigmaDelta(1, 0)),
            Conv(weights(1, 3, 2, 2), None, SigmaDelta(2, 0)),
            Conv(weights(1, 1, 3, 4), None, Sigma()),
        ]
    ),
    "sigma-delta, delay": Network(
        [Input((5,), Delta(3, 7)), Dense(weights(3, 5), None, SigmaDelta(5, 7), delay=[1, 2, 3])]
    ),
    "resonators": Network(
        [
            Dense(weights(4, 5), None, RINGING, imaginary=weights(4, 5)),
            Dense(
                weights(1, 4),
                None,
                ResonateFire(1, 0, 131071, "RF_IZHIKEVICH"),
                imaginary=weights(1, 4),
            ),
        ]
    ),
    "least recipe": Network([Dense(weights(3, 5))], Recipe(Coding("direct", 1))),
    "full recipe": Network([Dense(weights(3, 5))], FULL_RECIPE),
    "no provenance, no reset": Network(
        [Dense(weights(3, 5))],
        Recipe(Coding("direct", 9), reset_interval=None, decode="last voltage"),
    ),
}


@pytest.mark.parametrize("name", NETWORKS)
def test_round_trip(name: str, tmp_path: Path) -> None:
    written = NETWORKS[name]
    write_netx(written, tmp_path / "a.net")
    read = read_netx(tmp_path / "a.net")
    assert plain(read.layers) == plain(written.layers)
    assert plain(read.recipe) == plain(written.recipe)
    assert (read.digest, read) == (written.digest, written)


def test_every_kind_is_in_the_round_trip() -> None:
    layers = [layer for network in NETWORKS.values() for layer in network.layers]
    neurons = [layer.neuron for layer in layers if not isinstance(layer, Flatten)]
    assert {type(layer) for layer in layers} == set(get_args(Layer))
    assert {type(neuron) for neuron in neurons} == {*NEURONS, type(None)}


@pytest.mark.parametrize("given", [None, 0, 3, 6])
@pytest.mark.parametrize("name", ["sigma-delta", "sigma-delta, exponent 0, conv"])
def test_spike_exponent(name: str, given: int | None, tmp_path: Path) -> None:
    """It is stored beside the format, as lava-dl takes it as an argument; an argument wins."""
    write_netx(NETWORKS[name], tmp_path / "a.net")
    stored = 0 if "0" in name else 6
    read = read_netx(tmp_path / "a.net", spike_exp=given)
    exponents = {
        p.layer.neuron.spike_exp
        for p in read.populations
        if isinstance(p.layer.neuron, Delta | SigmaDelta)
    }
    assert exponents == {stored if given is None else given}
    assert (read == NETWORKS[name]) == (given in (None, stored))
    with h5py.File(tmp_path / "a.net", "r+") as file:
        assert file["spikeship"].attrs["spike_exp"] == stored
        del file["spikeship"]
    assert (read_netx(tmp_path / "a.net") == NETWORKS[name]) == (stored == 6)


def test_spike_exponent_out_of_range(tmp_path: Path) -> None:
    write_netx(NETWORKS["sigma-delta"], tmp_path / "a.net")
    with pytest.raises(NetxError, match=r"a.net: spike_exp = 8 is outside \[0, 7\]"):
        read_netx(tmp_path / "a.net", spike_exp=8)


def test_writing_twice_gives_the_same_bytes(tmp_path: Path) -> None:
    network = NETWORKS["full recipe"]
    for name in ("a.net", "b.net"):
        write_netx(network, tmp_path / name)
    assert (tmp_path / "a.net").read_bytes() == (tmp_path / "b.net").read_bytes()


def test_layout_on_disk(tmp_path: Path) -> None:
    """What lava-dl finds: names, dtypes, torch's axes in weights, W, H, C in per-neuron arrays."""
    weight = weights(3, 1, 1, 2)
    conv = Conv(weight, -PIXELS, CubaLIF(11, PIXELS, 9), stride=(1, 2), padding=(0, 3))
    write_netx(Network([Input((1, 4, 5), NEURON, 36), conv]), tmp_path / "a.net")
    found: dict[str, Any] = {}
    with h5py.File(tmp_path / "a.net") as file:
        file["layer"].visititems(
            lambda name, item: (
                found.update({name: (item.dtype.str, plain(np.asarray(item[()])))})
                if isinstance(item, h5py.Dataset)
                else None
            )
        )
        assert not len(file["layer"].attrs)

    def neuron(layer: int, i_decay: Any, v_decay: Any, threshold: Any) -> dict[str, Any]:
        return {
            f"{layer}/neuron/type": ("|S4", b"CUBA"),
            f"{layer}/neuron/iDecay": ("<i8", i_decay),
            f"{layer}/neuron/vDecay": ("<i8", v_decay),
            f"{layer}/neuron/vThMant": ("<i8", threshold),
            f"{layer}/neuron/refDelay": ("<i8", 1),
            f"{layer}/neuron/gradedSpike": ("|b1", False),
        }

    width_first = [[[PIXELS[c, y, x] for c in range(3)] for y in range(4)] for x in range(5)]
    assert found == {
        "0/type": ("|S10", [b"input"]),
        "0/shape": ("<i8", [1, 4, 5]),
        "0/weight": ("<f4", [36]),
        **neuron(0, 1024, 512, 60),
        "1/type": ("|S10", [b"conv"]),
        "1/shape": ("<i8", [3, 4, 5]),
        "1/weight": ("<f4", weight.tolist()),
        "1/bias": ("<f4", (-np.array(width_first)).tolist()),
        "1/stride": ("<i8", [1, 2]),
        "1/padding": ("<i8", [0, 3]),
        "1/dilation": ("<i8", [1, 1]),
        "1/groups": ("<i8", 1),
        "1/inChannels": ("<i8", 1),
        "1/outChannels": ("<i8", 3),
        "1/kernelSize": ("<i8", [1, 2]),
        **neuron(1, 11, width_first, 9),
    }


def test_layout_on_disk_of_the_other_kinds(tmp_path: Path) -> None:
    """What is there beside the entries above: exactly lava-dl's names."""

    def written(name: str) -> dict[str, Any]:
        write_netx(NETWORKS[name], tmp_path / "a.net")
        found: dict[str, Any] = {}
        with h5py.File(tmp_path / "a.net") as file:
            file["layer"].visititems(
                lambda name, item: (
                    found.update({name: item[()]}) if isinstance(item, h5py.Dataset) else None
                )
            )
        return found

    common = {"type", "shape", "inFeatures", "outFeatures"}
    cuba = {
        f"neuron/{n}" for n in ["type", "iDecay", "vDecay", "vThMant", "refDelay", "gradedSpike"]
    }
    recurrent = written("recurrent")
    assert recurrent["0/type"] == b"dense_rec"
    assert set(recurrent) == {f"0/{n}" for n in {*common, "weight", "weight_rec", "bias", *cuba}}
    delayed = written("delay, per output")
    assert set(delayed) == {f"0/{n}" for n in {*common, "weight", "bias", "delay", *cuba}}
    assert plain(delayed["0/delay"]) == [0, 1, 62]
    resonators = {n for n in written("resonators") if n[0] == "0"}
    rf = {f"neuron/{n}" for n in ["type", "sinDecay", "cosDecay", "vThMant", "gradedSpike"]}
    assert resonators == {f"0/{n}" for n in {*common, "weight/real", "weight/imag", *rf}}
    sdnn = {k: v for k, v in written("sigma-delta").items() if "neuron" in k}
    assert sdnn == {
        "0/neuron/type": b"SDNN",
        "0/neuron/activation": b"relu",
        "0/neuron/vThMant": 3,
        "1/neuron/type": b"SDNN",
        "1/neuron/activation": b"relu",
        "1/neuron/vThMant": 7,
        "2/neuron/type": b"SDNN",
        "2/neuron/activation": b"relu",
        "2/neuron/vThMant": 0,
        "3/neuron/type": b"SDNN",
        "3/neuron/sigma_output": True,
    }


# -- files of others ---------------------------------------------------------------------------

HERE = ("tiny.net", "conv_mix_30.net")
SHARED = (
    "mnist_mlp/trained_mnist_network.net",
    "oxford/network.net",
    "iris/Trained/network.net",
    "tiny/tiny.net",
    "pilotnet_sdnn/network.net",
    "pilotnet_sdnn/square_network.net",
    *(
        f"lava_runs/{name}.net"
        for name in (
            "conv_mix_30",
            "default_neuron_100",
            "delay_axonal_100",
            "perchannel_100",
            "rec_80",
            "rf_60",
            "sdnn_dense_40",
            "wrap_clip_100",
        )
    ),
)


def test_every_shared_file_is_read(shared_data: Path) -> None:
    golden = shared_data / "golden"
    assert {str(p.relative_to(golden)) for p in golden.rglob("*.net")} == set(SHARED)


def rewritten(source: Path, folder: Path) -> Path:
    """read -> write -> read, with the assertion that nothing changed on the way."""
    first = read_netx(source)
    write_netx(first, folder / "again.net")
    second = read_netx(folder / "again.net")
    assert (first.recipe, second.digest, plain(second)) == (None, first.digest, plain(first))
    return folder / "again.net"


@pytest.mark.parametrize("name", HERE)
def test_golden_file(name: str, tmp_path: Path) -> None:
    rewritten(GOLDEN / name, tmp_path)


@pytest.mark.parametrize("name", SHARED)
def test_shared_golden_file(name: str, tmp_path: Path, shared_data: Path) -> None:
    rewritten(shared_data / "golden" / name, tmp_path)


def test_integers_of_a_golden_file() -> None:
    """A few numbers of tiny.net read with h5py alone; its kernels have a trailing axis of 1."""
    with h5py.File(GOLDEN / "tiny.net") as file:
        stored = file["layer/1/weight"][()], file["layer/2/bias"][()]
    network = read_netx(GOLDEN / "tiny.net")
    first, conv, last = network.layers
    assert isinstance(first, Input)
    assert isinstance(conv, Conv)
    assert isinstance(last, Conv)
    assert stored[0].shape == (24, 3, 5, 5, 1)
    assert (conv.weight == stored[0][..., 0]).all()
    assert (last.bias == stored[1]).all()
    assert (first.weight, first.bias) == (36, 34)
    assert plain(conv.neuron) == plain(CubaLIF(4096, 1024, 25, "LOIHI"))
    assert network.shapes == ((3, 16, 16), (24, 6, 6), (36, 1, 1))


def edited(network: Network, path: Path, edit: Callable[[h5py.File], None]) -> Path:
    """The network's file as another program may have left it: without our group, then edited."""
    write_netx(network, path)
    with h5py.File(path, "r+") as file:
        del file["spikeship"]
        edit(file)
    return path


def put(file: h5py.File, name: str, value: Any) -> None:
    if name in file:
        del file[name]
    file[name] = value


def put_old_recurrent(file: h5py.File) -> None:
    put(file, "layer/0/type", np.array(["recurrent"], "S10"))
    file.move("layer/0/weight_rec", "layer/0/recWeight")


DIALECTS: dict[str, tuple[str, Callable[[h5py.File], None]]] = {
    "recurrent layers of early SLAYER": ("recurrent", put_old_recurrent),
    "kernels with an axis of 1": (
        "conv, every option",
        lambda f: put(f, "layer/1/weight", f["layer/1/weight"][()][..., None]),
    ),
    "1-D dense weight": (
        "dense, one output",
        lambda f: put(f, "layer/0/weight", f["layer/0/weight"][()].ravel()),
    ),
    "scalar options": (
        "conv",
        lambda f: [put(f, f"layer/1/{k}", np.int64(1)) for k in ("stride", "dilation")],
    ),
    "shapes with axes of 1": (
        "dense",
        lambda f: put(f, "layer/0/shape", np.array([3, 1, 1])),
    ),
    "no shape": ("dense", lambda f: f["layer/0"].pop("shape")),
    "integer weights": (
        "dense",
        lambda f: put(f, "layer/0/weight", f["layer/0/weight"][()].astype("i2")),
    ),
    "type as a variable string": ("dense", lambda f: put(f, "layer/0/type", "dense")),
    "simulation group": ("dense", lambda f: put(f, "simulation/Ts", 1)),
    "two-axis bias": (
        "dense, per neuron",
        lambda f: put(f, "layer/0/bias", f["layer/0/bias"][()][:, None]),
    ),
}


@pytest.mark.parametrize("name", DIALECTS)
def test_dialects_mean_the_same_integers(name: str, tmp_path: Path) -> None:
    base, edit = DIALECTS[name]
    network = NETWORKS[base]
    assert read_netx(edited(network, tmp_path / "a.net", edit)) == network


def test_more_than_ten_layers_come_in_numeric_order(tmp_path: Path) -> None:
    layers = [Dense(weights(i + 2, i + 1), None, NEURON) for i in range(12)]
    write_netx(Network(layers), tmp_path / "a.net")
    assert [s for (s,) in read_netx(tmp_path / "a.net").shapes] == list(range(2, 14))


def test_input_shape_for_a_file_that_starts_with_a_convolution(tmp_path: Path) -> None:
    def renumber(file: h5py.File) -> None:
        del file["layer/0"]
        file.move("layer/1", "layer/0")

    network = NETWORKS["conv"]
    path = edited(network, tmp_path / "a.net", renumber)
    assert read_netx(path, (2, 6, 7)) == network
    with pytest.raises(NetxError, match=r"a.net: layer 0 \(Conv\): the input shape is unknown"):
        read_netx(path)


# -- bad files ---------------------------------------------------------------------------------

IMAGE = (2, 4, 5)
GOOD = Network(
    [
        Input(IMAGE, NEURON),
        Conv(weights(3, 2, 2, 2), weights(3), NEURON, padding=(1, 0)),
        Flatten(),
        Dense(weights(4, 60), None, NEURON),
    ],
    Recipe(Coding("direct", 5), provenance={"data": "none"}),
)
LFS_POINTER = b"version https://git-lfs.github.com/spec/v1\noid sha256:9b0bbd\nsize 460272\n"

BAD_BYTES: dict[str, tuple[Callable[[bytes], bytes], str]] = {
    "first half": (lambda good: good[: len(good) // 2], "truncated"),
    "last byte missing": (lambda good: good[:-1], "truncated"),
    "text": (lambda good: b"0.1 0.2 0.3\n" * 100, "another format"),
    "LFS pointer": (lambda good: LFS_POINTER, "Git LFS pointer"),
    "empty": (lambda good: b"", "fetch or export it again"),
}


@pytest.mark.parametrize("name", BAD_BYTES)
def test_not_a_netx_file(name: str, tmp_path: Path) -> None:
    damage, advice = BAD_BYTES[name]
    path = tmp_path / "bad.net"
    write_netx(GOOD, path)
    path.write_bytes(damage(path.read_bytes()))
    with pytest.raises(NetxError) as error:
        read_netx(path)
    assert str(error.value).startswith(f"{path}: not a readable HDF5 file (")
    assert advice in str(error.value)


@pytest.mark.parametrize("name", ["none.net", "."])
def test_missing_file(name: str, tmp_path: Path) -> None:
    with pytest.raises(FileNotFoundError, match="no such file") as error:
        read_netx(tmp_path / name)
    assert str(tmp_path) in str(error.value)


def poke(name: str, value: Any) -> Callable[[h5py.File], None]:
    """Put one value into the last place of a dataset."""

    def edit(file: h5py.File) -> None:
        array = np.asarray(file[name][()])
        array.flat[-1] = value
        put(file, name, array)

    return edit


def drop(name: str) -> Callable[[h5py.File], None]:
    return lambda file: file.pop(name)


def setting(name: str, value: Any) -> Callable[[h5py.File], None]:
    return lambda file: put(file, name, value)


def missing(name: str, found: str) -> tuple[Callable[[h5py.File], None], list[str]]:
    layer, dataset = name.split("/", 1)
    where = dataset.removeprefix("neuron/")
    return drop(f"layer/{name}"), [
        f": layer {layer}: dataset '{where}' is missing",
        f"'{found}'",
        "export the network again",
    ]


def put_sdnn(file: h5py.File, layer: int, **entries: Any) -> None:
    del file[f"layer/{layer}/neuron"]
    for name, value in {"type": "SDNN", "activation": "relu", "vThMant": 7, **entries}.items():
        file[f"layer/{layer}/neuron/{name}"] = value


def put_resonators(file: h5py.File, layer: int, **entries: Any) -> None:
    del file[f"layer/{layer}/neuron"]
    values = {"type": "RF_PHASE", "sinDecay": 2287, "cosDecay": 3148, "vThMant": 9, **entries}
    for name, value in values.items():
        file[f"layer/{layer}/neuron/{name}"] = value


def put_complex(file: h5py.File, layer: int) -> None:
    weight = file[f"layer/{layer}/weight"][()]
    del file[f"layer/{layer}/weight"]
    file[f"layer/{layer}/weight/real"] = file[f"layer/{layer}/weight/imag"] = weight


def put_pool(file: h5py.File, channels: int) -> None:
    """A pool layer as SLAYER writes it, in place of layer 2, after (3, 5, 4)."""
    del file["layer/2"]
    pool = file.create_group("layer/2")
    file.copy("layer/1/neuron", pool)
    pool["type"] = np.array(["pool"], "S10")
    pool["shape"] = [channels, 3, 3]
    pool["weight"] = np.full((1, 1, 2, 2), 16, "f4")
    for name, value in (("kernelSize", [2, 2]), ("stride", [2, 2]), ("padding", [0, 1])):
        pool[name] = value
    pool["dilation"] = [1, 1]
    put(file, "layer/1/shape", [channels, 5, 4])


BAD_FILES: dict[str, tuple[Callable[[h5py.File], None], list[str]]] = {
    "no layer group": (
        lambda f: f.move("layer", "layers"),
        ["no root group 'layer'", "['layers']", "not a netx network"],
    ),
    "empty layer group": (
        lambda f: [f["layer"].pop(k) for k in "0123"],
        ["no root group 'layer' with layers", "not a netx network"],
    ),
    "no dense weight": missing("3/weight", "neuron"),
    "no conv weight": missing("1/weight", "stride"),
    "no type": missing("1/type", "weight"),
    "no iDecay": missing("1/neuron/iDecay", "vDecay"),
    "no vDecay": missing("3/neuron/vDecay", "iDecay"),
    "no vThMant": missing("0/neuron/vThMant", "iDecay"),
    "no neuron type": missing("3/neuron/type", "iDecay"),
    "no stride": missing("1/stride", "padding"),
    "no padding": missing("1/padding", "stride"),
    "no dilation": missing("1/dilation", "padding"),
    "no groups": missing("1/groups", "padding"),
    "no input shape": missing("0/shape", "type"),
    "no neuron": (drop("layer/1/neuron"), [": layer 1: a Conv layer needs a neuron"]),
    "fraction": (
        poke("layer/3/weight", 2.5),
        [": layer 3: weight[3, 59] = 2.5 is not an integer", "quantize again"],
    ),
    "nan": (
        poke("layer/1/weight", np.nan),
        [": layer 1: weight[2, 1, 1, 1] = nan is not a finite number", "quantize again"],
    ),
    "weight 300": (
        poke("layer/3/weight", 300),
        [": layer 3: weight[3, 59] = 300.0 is outside [-256, 254]", "with a smaller scale"],
    ),
    "weight -300": (
        poke("layer/1/weight", -300),
        [": layer 1: weight[2, 1, 1, 1] = -300.0 is outside [-256, 254]", "with a smaller scale"],
    ),
    "bias": (
        poke("layer/1/bias", -4097),
        [": layer 1: bias[2] = -4097.0 is outside [-4096, 4095]", "13-bit", "lower the scale"],
    ),
    "threshold": (
        setting("layer/3/neuron/vThMant", (1 << 18) - 1),
        [": layer 3: neuron/vThMant = 262143 is outside [0, 131071]", "17-bit", "lower the scale"],
    ),
    "negative threshold": (
        setting("layer/3/neuron/vThMant", [1, 2, -3, 4]),
        [": layer 3: neuron/vThMant[2] = -3 is outside [0, 131071]", "17-bit"],
    ),
    "decay": (
        setting("layer/0/neuron/iDecay", 4097),
        [": layer 0: neuron/iDecay = 4097 is outside [0, 4096]", "round(4096 * dt / tau)"],
    ),
    **{
        kind: (
            setting("layer/2/type", np.array([kind], "S10")),
            [f": layer 2: layer type '{kind}' is not supported", *parts],
        )
        for kind, parts in {
            "convT": ["lava-dl writes it but cannot build it", "as dense"],
            "unpool": ["lava-dl writes it but cannot build it"],
            "average": ["its writer crashes", "`pool` with constant weights"],
            "concat": ["netx is a chain"],
            "affine": ["exported as `dense`"],
            "dense_comp": ["does not exist", "weight/real and weight/imag"],
            "banana": ["supported: input, flatten, dense, dense_rec, conv", "replace the layer"],
        }.items()
    },
    "numeric type": (setting("layer/2/type", 3), [": layer 2: layer type '3' is not supported"]),
    "ALIF": (
        setting("layer/1/neuron/type", "ALIF"),
        [": layer 1: neuron type 'ALIF' is not supported", "CUBA, LOIHI, SDNN", "crashes on it"],
    ),
    "ADRF": (
        setting("layer/1/neuron/type", "ADRF_PHASE"),
        [": layer 1: neuron type 'ADRF_PHASE'", "silently run it as RF_PHASE", "without adapt"],
    ),
    "unknown neuron": (
        setting("layer/1/neuron/type", "RF"),
        [": layer 1: neuron type 'RF' is not supported (supported: CUBA", "RF_IZHIKEVICH)."],
    ),
    "message bits": (
        setting("layer/1/neuron/messageBits", 8),
        [": layer 1: neuron/messageBits is there", "lava-dl cannot run", "Remove the dataset"],
    ),
    "activation": (
        lambda f: put_sdnn(f, 3, activation="sigmoid"),
        [": layer 3: neuron/activation is 'sigmoid'", "always runs relu", "Train with relu"],
    ),
    "a threshold for each sigma-delta neuron": (
        lambda f: put_sdnn(f, 3, vThMant=[1, 2, 3, 4]),
        [": layer 3: neuron/vThMant has shape (4,); a single integer is needed"],
    ),
    "sigma with bias": (
        lambda f: (put_sdnn(f, 1, sigma_output=True), None),
        [": layer 1: Sigma neurons have no bias in netx"],
    ),
    "resonators without imaginary weights": (
        lambda f: put_resonators(f, 3),
        [": layer 3: ResonateFire neurons, and only they, need imaginary weights"],
    ),
    "resonators in a convolution": (
        lambda f: put_resonators(f, 1),
        [": layer 1: a Conv layer cannot have ResonateFire neurons"],
    ),
    "resonators in the input": (
        lambda f: put_resonators(f, 0),
        [": layer 0: an Input layer cannot have ResonateFire neurons"],
    ),
    "sine": (
        lambda f: put_resonators(f, 1, sinDecay=0),
        [": layer 1: neuron/sinDecay = 0 is outside [1, 4095]", "round(4096 *"],
    ),
    "no cosine": (
        lambda f: (put_resonators(f, 1), f.pop("layer/1/neuron/cosDecay")),
        [": layer 1: dataset 'cosDecay' is missing"],
    ),
    "imaginary weights of CUBA": (
        lambda f: put_complex(f, 3),
        [": layer 3: ResonateFire neurons, and only they, need imaginary weights"],
    ),
    "no imaginary weights": (
        lambda f: (put_complex(f, 3), f.pop("layer/3/weight/imag")),
        [": layer 3: dataset 'weight/imag' is missing"],
    ),
    "complex convolution": (
        lambda f: put_complex(f, 1),
        [": layer 1: weight is complex; lava-dl cannot build complex convolutions"],
    ),
    "complex recurrence": (
        lambda f: (put_complex(f, 3), put(f, "layer/3/type", "dense_rec")),
        [": layer 3: weight is complex; lava-dl has no complex recurrent layers"],
    ),
    "no recurrent weights": (
        setting("layer/3/type", "dense_rec"),
        [": layer 3: dataset 'weight_rec' is missing"],
    ),
    "recurrent weight": (
        lambda f: (
            put(f, "layer/3/type", "dense_rec"),
            put(f, "layer/3/weight_rec", np.diag([1, 2, 255, 4])),
        ),
        [": layer 3: weight_rec[2, 2] = 255 is outside [-256, 254]", "quantize again"],
    ),
    "recurrent shape": (
        lambda f: (
            put(f, "layer/3/type", "dense_rec"),
            put(f, "layer/3/weight_rec", np.ones((4, 3))),
        ),
        [": layer 3: weight_rec has shape (4, 3); (4, 4) is needed"],
    ),
    "recurrent delay": (
        lambda f: (
            put(f, "layer/3/type", "dense_rec"),
            put(f, "layer/3/weight_rec", np.ones((4, 4))),
            put(f, "layer/3/delay", 1),
        ),
        [": layer 3: delays of a recurrent layer are not supported", "Drop the delays"],
    ),
    "recurrent delay of zero": (
        lambda f: (
            put(f, "layer/3/type", "dense_rec"),
            put(f, "layer/3/weight_rec", np.ones((4, 4))),
            put(f, "layer/3/delay", 0),
        ),
        [": layer 3: delay is stored, all zero", "runs another network", "Remove the dataset"],
    ),
    "pool": (
        lambda f: put_pool(f, 3),
        [": layer 2: layer type 'pool' cannot be built", "lower_pooling=True"],
    ),
    "pool of 128 channels": (
        lambda f: put_pool(f, 128),
        [": layer 2: layer type 'pool' cannot be built", "with 128 channels", "at most 127"],
    ),
    "pool with delay": (
        lambda f: (put_pool(f, 3), put(f, "layer/2/delay", [0, 1, 0])),
        [": layer 2: layer type 'pool' cannot be built", "where it has delays"],
    ),
    "pool with padding": (
        lambda f: (put_pool(f, 3), put(f, "layer/2/padding", [1, 0])),
        [": layer 2: layer type 'pool' cannot be built", "reach into the next channel"],
    ),
    "pool with overlap": (
        lambda f: (put_pool(f, 3), put(f, "layer/2/stride", 1)),
        [": layer 2: layer type 'pool' cannot be built", "reach into the next channel"],
    ),
    "pool that does not tile": (
        lambda f: (put_pool(f, 3), put(f, "layer/2/stride", [4, 2])),
        [": layer 2: layer type 'pool' cannot be built", "whose stride is its kernel"],
    ),
    "pool of another making": (
        lambda f: (put_pool(f, 3), put(f, "layer/2/weight", np.ones((3, 1, 2, 2)))),
        [": layer 2: a pool with weight (3, 1, 2, 2) after a layer of shape (3, 5, 4) is not"],
    ),
    "graded spikes": (
        setting("layer/1/neuron/gradedSpike", True),
        [": layer 1: gradedSpike is true", "Train with binary spikes"],
    ),
    "fraction of a delay": (
        setting("layer/3/delay", np.array([0, 2.5, 0, 1], "f4")),
        [": layer 3: delay[1] = 2.5 is not an integer", "0 to 62 steps"],
    ),
    "delay of 63": (
        setting("layer/3/delay", np.array([0, 63, 0, 1], "f4")),
        [": layer 3: delay reaches 63 steps", "clamp it to 62", "Train with delays up to 62"],
    ),
    "negative delay": (
        setting("layer/3/delay", -1),
        [": layer 3: delay = -1 is outside [0, 62]"],
    ),
    "delay for nobody": (
        setting("layer/3/delay", [1, 2, 3]),
        [": layer 3: delay has shape (3,); one for all, (4,) per output, (60,) per input"],
    ),
    "layers do not meet": (
        lambda f: put(f, "layer/3/weight", f["layer/3/weight"][:, 1:]),
        [": layer 3 (Dense): weight (4, 59) expects 59 inputs", "gives shape (60,)"],
    ),
    "no flatten": (
        lambda f: [f.pop("layer/2"), f.move("layer/3", "layer/2")],
        [": layer 2 (Dense): weight (4, 60) expects 60 inputs", "Put a Flatten before it"],
    ),
    "wrong shape": (
        setting("layer/1/shape", np.array([3, 4, 5])),
        [": layer 1: shape says [3, 4, 5]", "give [3, 5, 4]", "export the network again"],
    ),
    "wrong flatten shape": (
        setting("layer/2/shape", np.array([61])),
        [": layer 2: shape says [61]", "give [60]"],
    ),
    "shape reversed": (
        setting("layer/0/shape", np.array(IMAGE[::-1])),
        [": layer 1 (Conv): weight (3, 2, 2, 2)", "C = 2", "gives shape (5, 4, 2)"],
    ),
    "gap": (
        lambda f: f.move("layer/3", "layer/4"),
        ["layers are named ['0', '1', '2', '4']", "numbered 0 to 3"],
    ),
    "second input": (
        setting("layer/2/type", "input"),
        [": layer 2: an input layer can only come first"],
    ),
    "text weight": (
        setting("layer/3/weight", "many"),
        [": layer 3: dataset 'weight' has dtype", "numbers are needed"],
    ),
    "1-D weight of several outputs": (
        setting("layer/3/weight", np.ones(239)),
        [": layer 3: weight has 239 entries, not a multiple of shape 4"],
    ),
    "a layer that is no group": (setting("layer/2", 5), ["damaged, or not laid out as netx"]),
    "a neuron that is no group": (
        setting("layer/1/neuron", 5),
        ["damaged, or not laid out as netx"],
    ),
    "no entry in type": (setting("layer/2/type", np.zeros(0)), ["damaged", "export it again"]),
    "newer format": (
        lambda f: f.create_group("spikeship").attrs.update({"format": 4}),
        ["group 'spikeship' has format 4, this version reads 1, 2, 3", "Update spikeship"],
    ),
    "recipe": (
        lambda f: (
            f.create_group("spikeship").attrs.update({"format": 1, "digest": "", "steps": 0}),
            f.create_group("spikeship/provenance"),
        ),
        ["coding: steps = 0; a whole number within [1, 2147483647] is needed"],
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_FILES)
def test_bad_file(name: str, tmp_path: Path) -> None:
    """Each message names the file, then the layer and value, then what to do."""
    edit, parts = BAD_FILES[name]
    path = edited(GOOD, tmp_path / "bad.net", edit)
    with pytest.raises(NetxError) as error:
        read_netx(path)
    message = str(error.value)
    assert message.startswith(f"{path}: ")
    assert [part for part in parts if part not in message] == [], message


IGNORED: dict[str, tuple[str, Callable[[h5py.File], Any], str]] = {
    "refractory delay": (
        "dense",
        setting("layer/0/neuron/refDelay", 3),
        "layer 0: neuron/refDelay = 3 is ignored by lava-dl: there is no refractory period",
    ),
    "weight exponent": (
        "dense",
        setting("layer/0/neuron/weight_exp", np.array([2.0], "f4")),
        "layer 0: neuron/weight_exp = 2 is ignored by lava-dl: the weights are taken as they are",
    ),
    "old weight exponent": (
        "dense, LOIHI",
        setting("layer/0/neuron/wgtExp", -1),
        "layer 0: neuron/wgtExp = -1 is ignored by lava-dl",
    ),
    "delay of a convolution": (
        "conv",
        setting("layer/1/delay", np.array([0, 4, 1], "f4")),
        "layer 1: delay (up to 4 steps) of a convolution is ignored by lava-dl",
    ),
    "delay of a complex layer": (
        "resonators",
        setting("layer/0/delay", 1),
        "layer 0: delay of a complex layer is ignored by lava-dl",
    ),
    "bias of a complex layer": (
        "resonators",
        setting("layer/0/bias", np.ones(4)),
        "layer 0: bias of a complex layer is ignored by lava-dl",
    ),
    "adaptation of a resonator": (
        "resonators",
        setting("layer/0/neuron/thDecay", 9),
        "layer 0: neuron/thDecay is unknown to lava-dl, which ignores it",
    ),
    "decay of a sigma-delta neuron": (
        "sigma-delta",
        setting("layer/1/neuron/iDecay", 9),
        "layer 1: neuron/iDecay is unknown to lava-dl, which ignores it",
    ),
    "sigma in the input": (
        "sigma-delta",
        setting("layer/0/neuron/sigma_output", True),
        "layer 0: neuron/sigma_output of an input layer is ignored by lava-dl",
    ),
    "something else": (
        "conv, conv, flatten, dense",
        setting("layer/3/momentum", 0.9),
        "layer 3: momentum is unknown to lava-dl, which ignores it",
    ),
}


@pytest.mark.parametrize("name", IGNORED)
def test_what_lava_ignores_is_said(name: str, tmp_path: Path) -> None:
    """The warning points at the caller; the network is the one without the entry."""
    base, edit, says = IGNORED[name]
    path = edited(NETWORKS[base], tmp_path / "a.net", edit)
    with pytest.warns(NetxWarning) as caught:
        network = read_netx(path)
    assert len(caught) == 1
    message = str(caught[0].message)
    assert message.startswith(f"{path}: {says}")
    assert message.endswith(", and so do we.")
    assert caught[0].filename == __file__
    assert network == NETWORKS[base]


# -- parts of a file ---------------------------------------------------------------------------

CHAIN = NETWORKS["conv, conv, flatten, dense"]
PARTS: dict[str, tuple[dict[str, int], list[Any]]] = {
    "all, by number": ({"num_layers": 5}, list(CHAIN.layers)),
    "more than there are": ({"num_layers": 99}, list(CHAIN.layers)),
    "first conv": ({"num_layers": 2}, list(CHAIN.layers[:2])),
    "from the first conv": ({"skip_layers": 1}, list(CHAIN.layers)),
    "second conv": ({"num_layers": 3, "skip_layers": 2}, [Input((3, 6, 7)), CHAIN.layers[2]]),
    "from flatten": ({"skip_layers": 3}, [Input((2, 3, 3)), *CHAIN.layers[3:]]),
    "dense": ({"skip_layers": 4}, [CHAIN.layers[4]]),
}


@pytest.mark.parametrize("name", PARTS)
def test_part_of_a_file(name: str, tmp_path: Path) -> None:
    arguments, layers = PARTS[name]
    write_netx(Network(CHAIN.layers, FULL_RECIPE), tmp_path / "a.net")
    read = read_netx(tmp_path / "a.net", **arguments)
    assert plain(read.layers) == plain(Network(layers).layers)
    assert read.recipe is None


def test_part_of_a_file_without_input_layer(tmp_path: Path) -> None:
    def renumber(file: h5py.File) -> None:
        del file["layer/0"]
        for i in range(1, 5):
            file.move(f"layer/{i}", f"layer/{i - 1}")

    path = edited(CHAIN, tmp_path / "a.net", renumber)
    part = read_netx(path, (2, 6, 7), skip_layers=1)
    assert part == Network([Input((3, 6, 7)), *CHAIN.layers[2:]])
    assert read_netx(path, (2, 6, 7), num_layers=1) == Network(CHAIN.layers[:2])
    assert read_netx(path, (2, 6, 7), num_layers=2) == Network(CHAIN.layers[:3])


BAD_PARTS: dict[str, tuple[dict[str, Any], str]] = {
    "nothing to read": ({"num_layers": 0}, "num_layers = 0; give 1 or more"),
    "all skipped": ({"skip_layers": 5}, "skip_layers = 5; of 5 layers at least one must be left"),
    "all of a part": (
        {"num_layers": 2, "skip_layers": 2},
        "skip_layers = 2; of 2 layers at least one must be left",
    ),
    "negative": ({"skip_layers": -1}, "skip_layers = -1"),
    "no neurons": ({"num_layers": 1}, "the network has no layer with neurons"),
    "other shape": (
        {"input_shape": (2, 7, 6)},
        r"input_shape \(2, 7, 6\) was given, but the file has \(2, 6, 7\)",
    ),
}


@pytest.mark.parametrize("name", BAD_PARTS)
def test_bad_part(name: str, tmp_path: Path) -> None:
    arguments, message = BAD_PARTS[name]
    write_netx(CHAIN, tmp_path / "a.net")
    with pytest.raises(NetxError, match=f"a.net: {message}"):
        read_netx(tmp_path / "a.net", **arguments)


def test_a_changed_layer_is_noticed_only_in_the_whole_file(tmp_path: Path) -> None:
    write_netx(GOOD, tmp_path / "a.net")
    with h5py.File(tmp_path / "a.net", "r+") as file:
        put(file, "layer/3/neuron/vThMant", 61)
    assert read_netx(tmp_path / "a.net", num_layers=2) == Network(GOOD.layers[:2])
    with pytest.raises(NetxError, match="do not match the digest"):
        read_netx(tmp_path / "a.net")


def test_pool_is_lowered(tmp_path: Path) -> None:
    path = edited(GOOD, tmp_path / "a.net", lambda f: put_pool(f, 3))
    pool = read_netx(path, num_layers=3, lower_pooling=True).layers[2]
    kernel = [[0, 0], [16, 16], [16, 16]]  # the row appended at the bottom comes first
    expected = Conv([[kernel]] * 3, None, NEURON, stride=2, padding=1, groups=3)
    assert plain(pool) == plain(expected)


TAMPERED: dict[str, Callable[[h5py.File], None]] = {
    "weight": poke("layer/3/weight", 1 if plain(GOOD.layers[3])["weight"][-1][-1] != 1 else 2),
    "bias": poke("layer/1/bias", 4000),
    "no bias": drop("layer/1/bias"),
    "threshold": setting("layer/3/neuron/vThMant", 61),
    "decay": setting("layer/0/neuron/vDecay", 513),
    "default neuron": drop("layer/3/neuron"),
    "input transform": setting("layer/0/weight", 64),
}


@pytest.mark.parametrize("name", TAMPERED)
def test_changed_integers_are_noticed(name: str, tmp_path: Path) -> None:
    path = tmp_path / "changed.net"
    write_netx(GOOD, path)
    with h5py.File(path, "r+") as file:
        TAMPERED[name](file)
    with pytest.raises(NetxError) as error:
        read_netx(path)
    assert str(error.value).startswith(f"{path}: the integers do not match the digest")
    assert GOOD.digest[:12] in str(error.value)
    with h5py.File(path, "r+") as file:
        del file["spikeship"]  # what the message says
    assert read_netx(path).digest != GOOD.digest


KNOWN_RECIPE = "d5e8459b3241190e4d7e638a4722f76e94c32e394ec26748ab53f771b2c64cb4"
WITH_RECIPE = Network(GOOD.layers, FULL_RECIPE)
OTHER_VALUES: dict[str, Any] = {
    "steps": 21,
    "levels": 8,
    "message_bits": 6,
    "reset_interval": 25,
    "reset_offset": 0,
    "coding": "RSC-I",
    "sigma": 0.4,
    "seed": 1,
    "decode": "last voltage",
    "output_unit": 12.0,
    "grid": 254,
    "offsets": 5,
    "template": 3,
}
BAD_VALUES: dict[str, tuple[Any, ...]] = {
    "steps": (0, -1, 1.5, np.nan, "8", [8], True),
    "levels": (0, 2.5, "many"),
    "message_bits": (-1, 26, 1000, "8"),
    "reset_interval": (0, "text", 0.5),
    "reset_offset": (-1, "1"),
    "coding": ("", 3),
    "sigma": (np.nan, np.inf, -0.1, "0.1"),
    "seed": (0.5, "x", 1 << 63),
    "decode": ("", "voltage", 7),
    "output_unit": (0, np.nan, -1.0, "1"),
    "grid": (0, "x"),
    "offsets": (0, 1.5),
    "template": (0.5, "x", -1),
}


def with_attribute(path: Path, name: str, value: Any) -> Path:
    write_netx(WITH_RECIPE, path)
    with h5py.File(path, "r+") as file:
        file["spikeship"].attrs[name] = value
    return path


def test_every_field_of_a_recipe_is_in_the_tables() -> None:
    full = FULL_RECIPE.attributes()
    assert set(OTHER_VALUES) == set(BAD_VALUES) == set(full) - {"provenance"}
    assert {*OTHER_VALUES} == {n for n, v in OTHER_VALUES.items() if v != full[n]}
    assert Recipe.from_attributes(full) == FULL_RECIPE


def test_the_text_of_a_recipe() -> None:
    """By it, what is stored of an interrupted run is known again: it must not change."""
    recipe = Recipe.of(Coding.of("poisson", 4), 3)
    assert recipe.text == (
        "Recipe(steps=4, levels=1, message_bits=0, reset_interval=4, reset_offset=1, coding='poisson', "
        f"sigma=0.0, seed=3, decode='spike count', output_unit=1.0, provenance={recipe.provenance!r}, "
        "grid=16, offsets=None, template=None)"
    )


@pytest.mark.parametrize("name", OTHER_VALUES)
def test_a_changed_recipe_is_noticed(name: str, tmp_path: Path) -> None:
    path = with_attribute(tmp_path / "a.net", name, OTHER_VALUES[name])
    with pytest.raises(
        NetxError, match=r"a\.net: the recipe does not match the digest stored with it"
    ):
        read_netx(path)


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_VALUES)
def test_every_value_of_a_recipe_is_checked(name: str, tmp_path: Path) -> None:
    for value in BAD_VALUES[name]:
        message = rf"((recipe|coding): )?{name} = "
        with pytest.raises(NetworkError, match=f"^{message}"):
            Recipe.from_attributes({"steps": 4, name: value})
        path = with_attribute(tmp_path / "a.net", name, value)
        with pytest.raises(NetxError, match=rf"a\.net: {message}"):
            read_netx(path)


def test_a_known_coding_has_what_it_can_have(tmp_path: Path) -> None:
    path = with_attribute(tmp_path / "a.net", "coding", "direct")
    with pytest.raises(
        NetxError, match=r"a\.net: coding direct: grid = 255, levels = 15; grey levels are"
    ):
        read_netx(path)


def test_attributes_that_say_what_is_so_anyway_are_read(tmp_path: Path) -> None:
    """As hand-made recipes of older versions could have them: the digest is over what is stored."""
    path = tmp_path / "a.net"
    recipe = Recipe(Coding("direct", 4))
    write_netx(Network(GOOD.layers, recipe), path)
    attributes = recipe.attributes() | {"grid": 1, "offsets": 1}
    with h5py.File(path, "r+") as file:
        file["spikeship"].attrs.update({"grid": 1, "offsets": 1})
        file["spikeship"].attrs["recipe_digest"] = attributes_digest(attributes)
    assert read_netx(path).recipe == recipe


def renamed(group: h5py.Group, name: str) -> None:
    group.attrs[f"{name}_"] = group.attrs[name]
    del group.attrs[name]


def test_no_name_in_our_group_can_change(tmp_path: Path) -> None:
    """A lost name, a strange one, and another text about the origin."""
    path = tmp_path / "a.net"
    write_netx(WITH_RECIPE, path)
    with h5py.File(path) as file:
        names = [*file["spikeship"].attrs]
    assert {"format", "digest", "recipe_digest", *OTHER_VALUES} == {*names}
    edits: list[Callable[[h5py.Group], Any]] = [
        *(lambda group, name=name: renamed(group, name) for name in names),
        *(lambda group, name=name: group.attrs.pop(name) for name in names),
        lambda group: group.attrs.update({"speed": 1}),
        lambda group: group.create_group("more"),
        lambda group: group.pop("provenance"),
        lambda group: group["provenance"].attrs.update({"data": "Iris"}),
        lambda group: group["provenance"].attrs.update({"data": 5}),
        lambda group: group["provenance"].attrs.pop("author"),
    ]
    for edit in edits:
        write_netx(WITH_RECIPE, path)
        with h5py.File(path, "r+") as file:
            edit(file["spikeship"])
        with pytest.raises(
            NetxError, match=r"a\.net: (group 'spikeship' |the recipe |recipe: |coding)"
        ):
            read_netx(path)


def test_the_digest_of_a_recipe() -> None:
    """Known, so that files stay readable; of equal recipes equal, whatever type the numbers had."""
    assert Recipe(Coding("direct", 4)).digest == KNOWN_RECIPE
    same = Recipe(Coding("direct", np.int64(4), levels=1.0, sigma=np.float64(0)), output_unit=1)
    assert (same, same.digest) == (Recipe(Coding("direct", 4)), KNOWN_RECIPE)


def test_files_of_format_1_are_read(tmp_path: Path) -> None:
    path = tmp_path / "a.net"
    write_netx(WITH_RECIPE, path)
    with h5py.File(path, "r+") as file:
        file["spikeship"].attrs["format"] = 1
        del file["spikeship"].attrs["recipe_digest"]
    assert read_netx(path) == WITH_RECIPE


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::spikeship.hw_targets.netx.file.NetxWarning")
def test_flipped_bytes_never_pass_as_other_integers(tmp_path: Path) -> None:
    """Damage in any dataset: the same integers, or an error that names the file.

    Not in HDF5's own headers: libhdf5 itself can crash on those.
    """
    path = tmp_path / "flipped.net"
    write_netx(GOOD, path)
    good = path.read_bytes()
    places: list[int] = []
    with h5py.File(path) as file:

        def collect(_: str, item: Any) -> None:
            if isinstance(item, h5py.Dataset) and item.dtype.kind != "O":
                start = item.id.get_offset()
                places.extend(range(start, start + item.id.get_storage_size()))

        file.visititems(collect)
    rng = np.random.default_rng(3)
    refused = []
    for place in rng.choice(places, 300, replace=False):
        data = bytearray(good)
        data[place] ^= int(rng.integers(1, 256))
        path.write_bytes(bytes(data))
        try:
            assert read_netx(path).digest == GOOD.digest
        except NetxError as error:
            refused.append(str(error))
    assert len(refused) > 200
    assert all(message.startswith(f"{path}: ") for message in refused)


# -- failed writes -----------------------------------------------------------------------------

INHIBITING = [[0, -128, -2], [-4, -8, -16]]
UNWRITABLE: dict[str, tuple[Dense, list[str]]] = {
    "all zero": (
        Dense(np.zeros((2, 3)), None, NEURON),
        ["all weights are 0", "lava-dl cannot load", "set one weight", "to 2"],
    ),
    "-128 without positive weight": (
        Dense(INHIBITING, None, NEURON),
        ["weight[0, 1] = -128 would become -127 in Lava", "Give it one positive weight"],
    ),
    "-256 without positive weight": (
        Dense([[-2, -256, -2]], None, NEURON),
        ["weight[0, 1] = -256 would become -254 in Lava", "or another scale"],
    ),
    "all zero, recurrent": (
        Dense(np.zeros((2, 3)), None, NEURON, recurrent=np.zeros((2, 2))),
        ["all weights and recurrent weights are 0", "lava-dl cannot load"],
    ),
    "recurrent without positive weight": (
        Dense([[1, 2, 127]], None, NEURON, recurrent=[[-128]]),
        ["recurrent[0, 0] = -128 would become -127.5", "Give it one positive weight"],
    ),
    "recurrent without negative weight": (
        Dense([[3, -255, 1]], None, NEURON, recurrent=[[5]]),
        ["recurrent[0, 0] = 5 would become 0", "one negative weight, or another scale"],
    ),
    "all zero, imaginary": (
        Dense([[1, 2, 3]], None, RINGING, imaginary=np.zeros((1, 3))),
        ["all imaginary weights are 0", "lava-dl cannot load"],
    ),
    "all zero, real": (
        Dense(np.zeros((1, 3)), None, RINGING, imaginary=[[1, 2, 3]]),
        ["all weights are 0", "lava-dl cannot load"],
    ),
    "imaginary without positive weight": (
        Dense([[1] * 3] * 2, None, RINGING, imaginary=INHIBITING),
        ["imaginary[0, 1] = -128 would become -127 in Lava"],
    ),
}


@pytest.fixture(params=[False, True], ids=["new", "over a good file"])
def target(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Path]:
    """Where a write will fail; afterwards the folder must be as it was."""
    path = tmp_path / "a.net"
    if request.param:
        write_netx(GOOD, path)
    before = {p.name: p.read_bytes() for p in tmp_path.iterdir()}
    yield path
    assert {p.name: p.read_bytes() for p in tmp_path.iterdir()} == before


@pytest.mark.parametrize("name", UNWRITABLE)
def test_what_lava_would_change_is_not_written(name: str, target: Path) -> None:
    layer, parts = UNWRITABLE[name]
    network = Network([Dense([[1, 2]] * 3), layer])
    with pytest.raises(NetxError) as error:
        write_netx(network, target)
    message = str(error.value)
    assert message.startswith(f"{target}: layer 1 (Dense): ")
    assert [part for part in parts if part not in message] == [], message


def test_write_that_breaks_off_leaves_nothing(
    target: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def full_disk(group: h5py.Group, *_: Any) -> None:
        group["type"] = "half a layer"
        raise OSError("no space left on device")

    monkeypatch.setattr(netx, "write_layer", full_disk)
    with pytest.raises(OSError, match="no space left"):
        write_netx(GOOD, target)


def test_written_file_has_the_usual_permissions(tmp_path: Path) -> None:
    write_netx(GOOD, tmp_path / "new" / "a.net")
    (tmp_path / "b").touch()
    assert (tmp_path / "new/a.net").stat().st_mode == (tmp_path / "b").stat().st_mode


# -- lava-dl -----------------------------------------------------------------------------------


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """lava-dl warns about its own dependencies and prints."""
    with warnings.catch_warnings(), contextlib.redirect_stdout(io.StringIO()):
        warnings.simplefilter("ignore")
        yield


def built_by_lava(path: Path) -> list[dict[str, Any]]:
    """Shape and every number of each layer that lava-dl builds from a file."""
    with quiet():
        from lava.lib.dl import netx as lava_netx

        layers = lava_netx.hdf5.Network(net_config=str(path)).layers
    processes = ("neuron", "synapse", "synapse_rec", "real_synapse", "imag_synapse")
    return [
        {
            "shape": layer.shape[::-1],
            **{
                f"{name}.{var.name}": plain(var.init)
                for name in processes
                if hasattr(layer, name)
                for var in getattr(layer, name).vars
            },
        }
        for layer in layers
    ]


@pytest.mark.lava
@pytest.mark.parametrize("name", NETWORKS)
def test_lava_loads_what_we_write(name: str, tmp_path: Path) -> None:
    write_netx(NETWORKS[name], tmp_path / "a.net")
    built = built_by_lava(tmp_path / "a.net")
    assert [layer["shape"] for layer in built] == [p.shape for p in NETWORKS[name].populations]


@pytest.mark.lava
@pytest.mark.parametrize("name", HERE)
def test_lava_builds_the_same_from_a_rewritten_file(name: str, tmp_path: Path) -> None:
    shutil.copy(GOLDEN / name, tmp_path / "original.net")  # netx never closes what it opens
    again = rewritten(GOLDEN / name, tmp_path)
    assert built_by_lava(again) == built_by_lava(tmp_path / "original.net")


@pytest.mark.lava
@pytest.mark.parametrize("name", SHARED)
def test_lava_builds_the_same_from_a_rewritten_shared_file(
    name: str, tmp_path: Path, shared_data: Path
) -> None:
    source = shared_data / "golden" / name
    assert built_by_lava(rewritten(source, tmp_path)) == built_by_lava(source)


def exported_by_slayer(name: str, path: Path, shape: tuple[int, ...]) -> list[Any]:
    """Blocks of lava-dl's own trainer, written to `path`; an input and what each makes of it.

    Shapes come from a first forward pass. Where neurons have a norm, which becomes a bias, it is set
    to something, and the input has a blank frame before it.
    """
    with quiet(), contextlib.redirect_stderr(io.StringIO()):
        import torch
        from lava.lib.dl import slayer

        torch.manual_seed(3)
        cuba, sdnn, rf = slayer.block.cuba, slayer.block.sigma_delta, slayer.block.rf
        norm = slayer.neuron.norm.MeanOnlyBatchNorm
        lif: dict[str, Any] = {"threshold": 1.0, "current_decay": 0.25, "voltage_decay": 0.1}
        ringing = {"threshold": 1.0, "period": 10, "decay": 0.1}
        changing = {"threshold": 0.1, "activation": torch.nn.functional.relu}
        chains: dict[str, Callable[[], list[Any]]] = {
            "cuba": lambda: [
                cuba.Input(lif, weight=2, bias=1),
                cuba.Conv(lif, 2, 4, 3, stride=2, padding=1, groups=2, weight_scale=2),
                cuba.Flatten(),
                cuba.Dense({**lif, "norm": norm}, 36, 5, weight_norm=True),
            ],
            "affine": lambda: [cuba.Affine(lif, 5, 4, dynamics=False)],
            "delay": lambda: [
                cuba.Dense(lif, 5, 4, weight_scale=4, delay=True),
                cuba.Dense(lif, 4, 3, weight_scale=4, delay=True),
            ],
            "recurrent": lambda: [cuba.Recurrent(lif, 5, 4, weight_scale=2)],
            "sigma-delta": lambda: [
                sdnn.Input(changing),
                sdnn.Dense({**changing, "norm": norm}, 5, 4, weight_scale=2, delay_shift=True),
                sdnn.Dense({**changing, "norm": norm}, 4, 4, weight_scale=2, delay_shift=True),
                sdnn.Output(changing, 4, 1, weight_scale=2),
            ],
            "cuba, biased": lambda: [
                cuba.Dense({**lif, "norm": norm}, 5, 4, weight_scale=2),
                cuba.Dense({**lif, "norm": norm}, 4, 3, weight_scale=4),
            ],
            "resonators": lambda: [
                rf.Dense(ringing, 5, 4, weight_scale=2),
                slayer.block.rf_iz.Dense(ringing, 4, 3, weight_scale=2),
            ],
            "pool, every option": lambda: [
                cuba.Pool(lif, (2, 3), (4, 2), (0, 1), (3, 2), weight_scale=0.4)
            ],
            "pool, odd sizes": lambda: [cuba.Pool(lif, 2, dilation=(1, 2))],
            "pool, conv, pool, flatten, dense": lambda: [
                cuba.Pool(lif, (3, 1), weight_scale=0.7),
                cuba.Conv(lif, 2, 4, 3, groups=2, weight_scale=4),
                cuba.Pool(lif, 2),
                cuba.Flatten(),
                cuba.Dense(lif, 8, 5, weight_scale=6),
            ],
        }
        blocks = chains[name]()
        x = (torch.rand(2, *shape, 30) > 0.5).float()
        if name == "sigma-delta":
            x = torch.randint(-100, 100, x.shape) / 32
        biased = [b for b in blocks if getattr(getattr(b, "neuron", None), "norm", None)]
        if biased:
            x[..., 0] = 0
        with torch.no_grad():
            hidden = x
            for i, block in enumerate(blocks):
                hidden = block.eval()(hidden)
                if name == "delay":
                    block.delay.delay.data = torch.arange(len(block.delay.delay)) * 7.6 + i
            for block in biased:
                block.neuron.norm.running_mean = torch.linspace(
                    -0.3, 0.4, block.synapse.out_channels
                )
            outputs = [x]
            for block in blocks:
                for state, values in block.named_buffers():
                    if state.endswith("_state"):
                        values.zero_()
                outputs.append(block(outputs[-1]))
            with h5py.File(path, "w") as file:
                for i, block in enumerate(blocks):
                    block.export_hdf5(file.create_group(f"layer/{i}"))
        return [np.moveaxis(x.numpy(), -1, 1) for x in outputs]


def raw(path: Path, name: str) -> Any:
    """A dataset as plain integers."""
    with h5py.File(path) as file:
        return np.asarray(file[f"layer/{name}"][()]).astype(int).tolist()


@pytest.mark.lava
def test_convolution_written_by_slayer(tmp_path: Path) -> None:
    """A transform comes from the input block."""
    path = tmp_path / "slayer.net"
    exported_by_slayer("cuba", path, (2, 6, 6))
    network = read_netx(path)
    first, conv, flatten, dense = network.layers
    assert network.shapes == ((2, 6, 6), (4, 3, 3), (36,), (5,))
    assert plain(first) == plain(Input((2, 6, 6), CubaLIF(1024, 410, 64), 128, 64))
    neuron = CubaLIF(1024, 410, 64)
    options: Any = {"stride": (2, 2), "padding": (1, 1), "groups": 2}
    assert plain(conv) == plain(Conv(raw(path, "1/weight"), None, neuron, **options))
    assert isinstance(flatten, Flatten)
    assert plain(dense) == plain(Dense(raw(path, "3/weight"), raw(path, "3/bias"), neuron))
    assert raw(path, "3/bias") == [20, 8, -4, -14, -26]


SLAYER_NEURON = CubaLIF(1024, 410, 64)
BY_SLAYER: dict[str, Callable[[Path], list[Any]]] = {
    "affine": lambda path: [Dense(raw(path, "0/weight"))],
    "delay": lambda path: [
        Dense(raw(path, "0/weight"), None, SLAYER_NEURON, delay=[0, 7, 15, 22]),
        Dense(raw(path, "1/weight"), None, SLAYER_NEURON, delay=[1, 8, 16]),
    ],
    "recurrent": lambda path: [
        Dense(raw(path, "0/weight"), None, SLAYER_NEURON, recurrent=raw(path, "0/weight_rec"))
    ],
    "sigma-delta": lambda path: [
        Input((5,), Delta(6)),
        Dense(raw(path, "1/weight"), raw(path, "1/bias"), SigmaDelta(6)),
        Dense(raw(path, "2/weight"), raw(path, "2/bias"), SigmaDelta(6)),
        Dense(raw(path, "3/weight"), None, Sigma()),
    ],
    "resonators": lambda path: [
        Dense(
            raw(path, f"{i}/weight/real"),
            None,
            ResonateFire(2167, 2982, 64, kind),
            imaginary=raw(path, f"{i}/weight/imag"),
        )
        for i, kind in enumerate(("RF_PHASE", "RF_IZHIKEVICH"))
    ],
}


@pytest.mark.lava
@pytest.mark.parametrize("name", BY_SLAYER)
def test_file_written_by_slayer(name: str, tmp_path: Path) -> None:
    path = tmp_path / "slayer.net"
    exported_by_slayer(name, path, (5,))
    assert plain(read_netx(path).layers) == plain(Network(BY_SLAYER[name](path)).layers)


POOLS = {
    "pool, every option": (2, 7, 8),
    "pool, odd sizes": (3, 7, 9),
    "pool, conv, pool, flatten, dense": (2, 18, 4),
}


@pytest.mark.lava
@pytest.mark.parametrize("name", POOLS)
def test_lowered_pool_fires_as_in_slayer(name: str, tmp_path: Path) -> None:
    """Every spike of every block, without bias, in the very same step."""
    path = tmp_path / "slayer.net"
    x, *expected = exported_by_slayer(name, path, POOLS[name])
    x = x.astype(int)
    expected = [spikes for i, spikes in enumerate(expected) if i != 3]  # flatten
    network = read_netx(path, POOLS[name], lower_pooling=True)
    trace = simulate(network, x, record="spikes")
    assert trace.spikes is not None
    for found, spikes in zip(trace.spikes, expected, strict=True):
        assert (spikes != 0).mean() > 0.01
        assert np.array_equal(found, spikes)


@pytest.mark.lava
@pytest.mark.parametrize(("name", "layers"), [("cuba, biased", 2), ("sigma-delta", 3)])
def test_biased_network_runs_as_in_slayer(name: str, layers: int, tmp_path: Path) -> None:
    """SLAYER needs a blank frame first, as Lava's biases start one step before the first input."""
    path = tmp_path / "slayer.net"
    x, *expected = exported_by_slayer(name, path, (5,))
    graded = name == "sigma-delta"
    inputs = x[:, 1:] * (64 if graded else 1)
    trace = simulate(read_netx(path), inputs.astype(int), record="spikes")
    assert trace.spikes is not None
    for found, messages in zip(trace.spikes[:layers], expected, strict=False):
        assert (messages != 0).mean() > 0.01
        assert np.array_equal(found, messages[:, 1:] * (4096 if graded else 1))


def test_error_is_a_value_error() -> None:
    """One `except ValueError` catches what files and networks get wrong."""
    assert issubclass(NetxError, ValueError)
    assert issubclass(NetworkError, ValueError)
