"""The mapper against tables that Intel's compiler printed, by hand, and by brute force."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from spikeship.hw_targets.chips.chip import Chip, Site
from spikeship.hw_targets.chips.loihi1 import LOIHI1
from spikeship.hw_targets.chips.loihi2 import LOIHI2, loihi2
from spikeship.hw_targets.chips.mapper import LayerMapping, map_network
from spikeship.hw_targets.chips.table import CHIPS
from spikeship.hw_targets.chips.views import load_table, mapping_tables
from spikeship.hw_targets.counts.counter import Counter
from spikeship.hw_targets.counts.counts import Counts, count, tally
from spikeship.hw_targets.counts.placement import layer_per_core
from spikeship.hw_targets.network.bits import weight_bits
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, NetworkError, ResonateFire, SigmaDelta
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.netx import file as netx
from spikeship.hw_targets.simulate.engine import simulate
from spikeship.pipeline import records

LIF = CubaLIF(1024, 512, 90)
MNIST = loihi2(delay_field=0, packet=48)
OXFORD = loihi2(packet=48)


def of_bits(bits: int, *shape: int) -> np.ndarray:
    """Even weights of both signs that need so many bits."""
    low, high = -(1 << bits), (1 << bits) - 2
    weights = np.random.default_rng(bits).integers(low // 2, high // 2, shape, endpoint=True) * 2
    weights.flat[0], weights.flat[-1] = low, high
    return weights


def conv(
    bits: int, into: int, out: int, kernel: int = 3, stride: Any = 1, padding: Any = 0
) -> Conv:
    weight = of_bits(bits, out, into, kernel, kernel)
    return Conv(weight, neuron=SigmaDelta(10), stride=stride, padding=padding)


def pilotnet(*, spiking: bool) -> Network:
    """lava-dl's PilotNet: published shapes, and widths of weights that explain the printed rows."""
    bits = (6, 6, 6, 4, 4) if spiking else (6, 6, 6, 5, 4)
    return Network(
        [
            Input((3, 66, 200), neuron=CubaLIF(4096, 0, 1) if spiking else None),
            conv(bits[0], 3, 24, stride=2),
            conv(bits[1], 24, 36, stride=2),
            conv(bits[2], 36, 48, stride=2),
            conv(bits[3], 48, 64, stride=(2, 1), padding=(1, 0)),
            conv(bits[4], 64, 64),
            Flatten(),
            Dense(of_bits(4, 100, 2560), neuron=SigmaDelta(10)),
            Dense(of_bits(4 if spiking else 6, 50, 100), neuron=SigmaDelta(10)),
            Dense(of_bits(4, 10, 50), neuron=SigmaDelta(10)),
            Dense(of_bits(4, 1, 10), neuron=SigmaDelta(10)),
        ]
    )


def yolo_kp() -> Network:
    """lava-dl's YOLO-KP: published shapes, and widths of weights that explain the printed rows."""
    return Network(
        [
            Input((3, 448, 448)),
            conv(5, 3, 16, 3, 2, 1),
            conv(5, 16, 32, 3, 2, 1),
            conv(4, 32, 64, 3, 2, 1),
            conv(4, 64, 128, 3, 2, 1),
            conv(4, 128, 256, 3, 1, 1),
            conv(3, 256, 256, 3, 2, 1),
            conv(4, 256, 512, 3, 1, 1),
            conv(4, 512, 256, 1),
            conv(4, 256, 512, 3, 1, 1),
            conv(5, 512, 48, 1),
        ]
    )


# -- published tables ------------------------------------------------------------------------------

PILOTNET_ROWS = """
      10       1       1      10       1       1
      50       1      10     150      10       1
     100       1      50    1500      50       1
    2560       1       8    7253       8      12
       1       1    2048    2880    1280       2  Conv(16, 2, 64)
       1       1    2048    2592      29       3  Conv(8, 4, 64)
       2       1    2688    1620     112       3  Conv(8, 7, 48)
       2       1    2160     864     113      13  Conv(4, 15, 36)
       2       1    3072      81     253      25  Conv(4, 32, 24)
"""
"""Printed last layer first, without AxonMem: AxonIn, NeuronGr, Neurons, Synapses, AxonMap, Cores."""


def printed(layer: LayerMapping) -> str:
    """A layer as the compiler prints it: floors of means, and the largest core of a convolution."""
    of = {load.limit.name: load for load in layer.loads}
    plane = len(layer.box) == 3
    neurons = of["neurons"].most if plane else of["neurons"].mean
    rest = [math.floor(of[n].mean) for n in ("synapse memory", "axon map")]
    row = (math.floor(of["input axons"].mean), 1, math.floor(neurons), *rest, layer.cores)
    box = f"Conv{tuple(reversed(layer.box))}" if plane else ""
    return " ".join([*map(str, row), box]).strip()


def rows(text: str) -> list[str]:
    return [" ".join(line.split()) for line in text.strip().splitlines()]


@pytest.mark.parametrize("spiking", [False, True], ids=["sdnn", "snn"])
def test_pilotnet_is_cut_as_published(spiking: bool) -> None:
    mapping = map_network(pilotnet(spiking=spiking), "loihi2")
    table = PILOTNET_ROWS
    if spiking:
        table = table.replace("1500", "1300").replace("2592", "2160")
        table += "1 1 3168 0 1015 13 Conv(16, 66, 3)"
    assert [printed(layer) for layer in reversed(mapping.layers)] == rows(table)
    assert mapping.cores == (74 if spiking else 61)
    assert mapping.violations == ()


def test_oxford_is_cut_as_published(shared_data: Path) -> None:
    mapping = map_network(netx.read_netx(shared_data / "golden" / "oxford" / "network.net"), OXFORD)
    expected = rows("256 1 100 8064 100 2\n200 1 85 5400 85 3")
    assert [printed(layer) for layer in reversed(mapping.layers)] == expected


def test_the_dense_layer_of_a_published_pilotnet_file(shared_data: Path) -> None:
    """Its own weights, 2,560 to 100; the printed network is another variant, of wider images."""
    mapping = map_network(
        netx.read_netx(shared_data / "golden" / "pilotnet_sdnn" / "network.net"), "loihi2"
    )
    layer = next(layer for layer in mapping.layers if layer.name == "6:dense")
    assert printed(layer) == "2560 1 8 7253 8 12"


def test_long_lists_of_synapses_are_split_as_in_oxfords_log(shared_data: Path) -> None:
    """The compiler's first attempts, each layer on one core: 16,200 and 16,128 words."""
    network = netx.read_netx(shared_data / "golden" / "oxford" / "network.net")
    first, second = network.populations
    sites = (Site(first, second), ((0, 256),)), (Site(second, None), ((0, 200),))
    assert [OXFORD.amounts(site, box, 1)[3] for site, box in sites] == [16_200, 16_128]


@pytest.mark.parametrize("chip", [LOIHI2, OXFORD, MNIST], ids=["default", "oxford", "mnist"])
def test_networks_of_five_cores(chip: Chip, shared_data: Path) -> None:
    mnist = netx.read_netx(shared_data / "golden" / "mnist_mlp" / "trained_mnist_network.net")
    assert [layer.cores for layer in map_network(mnist, chip).layers] == [3, 1, 1]
    if chip is not MNIST:
        oxford = netx.read_netx(shared_data / "golden" / "oxford" / "network.net")
        assert [layer.cores for layer in map_network(oxford, chip).layers] == [3, 2]


@pytest.mark.parametrize(
    ("layer", "neurons", "percent"),
    [
        # AxonIn, Neurons, Synapses, AxonMap, Total: % as printed
        (2, 10, (0.40, 0.24, 1.60, 0.06, 1.71)),
        (1, 64, (0.80, 1.56, 16.80, 0.40, 14.72)),
        (0, 50, (4.90, 1.22, 78.40, 0.31, 67.14)),  # a share of 50, 50 and 28 instead of 43
    ],
)
def test_a_core_of_mnist_is_as_full_as_published(
    layer: int, neurons: int, percent: tuple[float, ...], shared_data: Path
) -> None:
    network = netx.read_netx(shared_data / "golden" / "mnist_mlp" / "trained_mnist_network.net")
    following = [*network.populations, None][layer + 1]
    amounts = MNIST.amounts(Site(network.populations[layer], following), ((0, neurons),), 1)
    of = {
        limit.name: 100 * amount / limit.value
        for limit, amount in zip(MNIST.limits, amounts, strict=True)
    }
    names = ("input axons", "neurons", "synapse memory", "axon map", "core memory")
    assert [of[name] for name in names] == pytest.approx(percent, abs=0.02)


def test_yolo_is_cut_as_published() -> None:
    """All numbers of cores; the memory of all but the 1 x 1 layer to 256 channels (printed: 67.2 %)."""
    mapping = map_network(yolo_kp(), loihi2(packet=48))
    cores = [224, 112, 56, 28, 56, 16, 32, 14, 32, 4]
    assert [layer.cores for layer in mapping.layers] == cores
    assert mapping.cores == 574
    synapses = [0.34, 3.60, 10.80, 39.60, 79.20, 72.00, 86.40, 70.40, 86.40, 19.20]
    of = [{load.limit.name: 100 * load.fraction for load in x.loads} for x in mapping.layers]
    assert [part["synapse memory"] for part in of] == pytest.approx(synapses, abs=0.01)
    assert [part["neurons"] for part in of] == pytest.approx([87.52] * 9 + [65.64], abs=0.01)
    tiles = [layer.box[::-1] for layer in mapping.layers]
    assert tiles[:5] == [(8, 28, 16), (8, 14, 32), (4, 14, 64), (4, 7, 128), (4, 7, 128)]
    assert (tiles[7], tiles[9]) == ((2, 7, 256), (4, 14, 48))
    assert (
        tiles[5] == tiles[6] == tiles[8] == (4, 14, 64)
    )  # printed: (8, 7, 64), of as many neurons
    assert [v.where for v in mapping.violations] == ["1:conv"]
    assert "448 wide" in mapping.violations[0].what
    fits = [map_network(yolo_kp(), loihi2(packet=48, cores=n)).chips for n in (72, 120, 128)]
    assert fits == [8, 5, 5]


# -- weights ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("weights", "bits"),
    [
        ([0, 0], 1),
        ([-256, 254], 8),
        ([-98, 124], 8),  # 7, which hardware has not
        ([-64, 62], 6),
        ([-10, 10], 4),
        ([-2, 0], 1),
        ([1, 254], 8),
        ([0, 4, 12], 2),
        ([-255, 254], 9),
        ([-5, 5], 4),
    ],
    ids=str,
)
def test_bits_of_weights(weights: list[int], bits: int) -> None:
    assert weight_bits(Dense([weights], neuron=LIF)) == bits


@pytest.mark.lava
def test_bits_of_weights_are_those_of_lava_dl() -> None:
    from lava.lib.dl.netx.utils import optimize_weight_bits

    rng = np.random.default_rng(0)
    for _ in range(200):
        scale, span = 1 << int(rng.integers(1, 5)), int(rng.integers(1, 9))
        low, high = [(-span, span), (0, span), (-span, 0)][int(rng.integers(3))]
        weight = rng.integers(low, high, (3, 4), endpoint=True) * scale
        weight[0, :2] = low * scale, high * scale
        with np.errstate(divide="ignore"):
            bits = int(optimize_weight_bits(weight)[1])
        assert weight_bits(Dense(weight, neuron=LIF)) == (8 if bits == 7 else bits), weight


# -- Loihi 1, by hand and by brute force -----------------------------------------------------------


@pytest.mark.parametrize(
    ("posts", "words"),
    [(1, 1), (6, 1), (7, 2), (63, 9), (64, 9), (65, 10), (128, 18)],
    ids=str,
)
def test_a_list_of_8_bit_synapses_on_loihi_1(posts: int, words: int) -> None:
    """Blocks of 64 synapses, 10 bits before each, in whole words of 64 bits: 6 x 8 + 10 <= 64."""
    layer = map_network(Network([Dense(of_bits(8, posts, 5), neuron=LIF)]), "loihi1").layers[0]
    of = {load.limit.name: load.most for load in layer.loads}
    assert (of["input axons"], of["synapse memory"]) == (5, 5 * words)


def test_convolutions_on_loihi_1_by_brute_force() -> None:
    """Every synapse of a small network listed, and every core that a neuron reaches."""
    network = Network(
        [
            Input((2, 7, 9)),
            Conv(of_bits(8, 24, 2, 3, 3), neuron=LIF, stride=(2, 1), padding=(1, 0)),
            Conv(of_bits(8, 96, 24, 3, 2), neuron=LIF, padding=(0, 1)),
        ]
    )
    mapping = map_network(network, LOIHI1)
    assert mapping.violations == ()
    owners = mapping.placement.owners(network)
    assert len(np.unique(owners[1])) > 2
    lists: dict[tuple[int, int, tuple[int, ...]], int] = {}
    for p, owner in zip(network.populations, owners, strict=True):
        layer = p.layer
        assert isinstance(layer, Conv)
        for c, y, x in np.ndindex(p.shape):
            for i, ky, kx in np.ndindex(layer.weight.shape[1:]):
                row = y * layer.stride[0] + ky - layer.padding[0]
                column = x * layer.stride[1] + kx - layer.padding[1]
                if 0 <= row < p.input_shape[1] and 0 <= column < p.input_shape[2]:
                    key = (p.index, int(owner[c, y, x]), (i, row, column))
                    lists[key] = lists.get(key, 0) + 1
    for p, layer_mapping in zip(network.populations, mapping.layers, strict=True):
        axons, words, out = [], [], []
        for k in mapping.placement.of(p.index):
            neurons = mapping.placement.cores[k].neurons
            here = [n for (index, core, _), n in lists.items() if (index, core) == (p.index, k)]
            sparse = any(n % neurons for n in here)
            bits = 8 + (max(6, math.ceil(math.log2(neurons))) if sparse else 0)
            axons.append(len(here))
            words.append(sum(_list(n, bits) for n in here))
            inside = {tuple(at) for at in np.argwhere(owners[p.index] == k).tolist()}
            out.append(sum(index == p.index + 1 and at in inside for index, _, at in lists))
        of = {load.limit.name: load for load in layer_mapping.loads}
        for name, values in (
            ("input axons", axons),
            ("synapse memory", words),
            ("output axons", out),
        ):
            assert (of[name].most, of[name].mean) == (max(values), np.mean(values)), (p.name, name)


def _list(synapses: int, bits: int) -> int:
    blocks = [64] * (synapses // 64) + [synapses % 64] * (synapses % 64 > 0)
    return sum(math.ceil((n * bits + 10) / 64) for n in blocks)


def test_an_index_on_loihi_1_has_at_least_6_bits() -> None:
    """4 inputs that each reach 8 of 32 neurons: 8 x (8 + 6) + 10 = 122 bits, two words."""
    network = Network([Input((1, 1, 4)), Conv(of_bits(8, 8, 1, 1, 1), neuron=LIF)])
    of = {load.limit.name: load.most for load in map_network(network, "loihi1").layers[0].loads}
    assert (of["input axons"], of["synapse memory"]) == (4, 4 * 2)


def test_recurrent_synapses_and_thresholds_on_loihi_1() -> None:
    rng = np.random.default_rng(0)
    neuron = CubaLIF(1024, 512, np.arange(40))
    layer = Dense(of_bits(8, 40, 30), neuron=neuron, recurrent=of_bits(8, 40, 40))
    mapping = map_network(Network([layer]), "loihi1")
    assert mapping.cores == 3  # 40 thresholds, 16 of a core
    of = {load.limit.name: load.most for load in mapping.layers[0].loads}
    assert (of["input axons"], of["output axons"]) == (70, 14 * 3)
    assert mapping.layers[0].fills.limit.name == "threshold settings"
    same = CubaLIF(rng.integers(1, 5, 40), 512, 90)
    mapping = map_network(Network([Dense(of_bits(8, 40, 30), neuron=same)]), "loihi1")
    assert (mapping.cores, mapping.layers[0].loads[4].most) == (1, 4)


# -- rules -----------------------------------------------------------------------------------------


def test_all_violations_are_listed_with_what_to_change() -> None:
    network = Network(
        [
            Dense(of_bits(8, 4, 5000), neuron=CubaLIF(0, 4096, 9)),
            Dense(np.array([[-255, 254, 1, 0]] * 3), neuron=SigmaDelta(10)),
            Dense(of_bits(8, 2, 3), neuron=ResonateFire(100, 3000, 9), imaginary=of_bits(8, 2, 3)),
        ],
        Recipe(Coding("direct", 4, levels=255, message_bits=9)),
    )
    mapping = map_network(network, "loihi1")
    found = [(v.where, v.what) for v in mapping.violations]
    expected = [
        ("messages", "graded spikes of 9 bits"),
        ("messages", "layer 1:dense sends graded spikes"),
        ("0:dense", "i_decay = 0: use 1"),
        ("0:dense", "v_decay = 4096: use 4095"),
        ("0:dense", "5,000 axons of input axons in one core: split the layer before"),
        ("1:dense", "SigmaDelta neurons: use CubaLIF, or Loihi 2"),
        ("1:dense", "9 bits: quantize them to even numbers"),
        ("2:dense", "ResonateFire neurons"),
    ]
    assert [where for where, _ in found] == [where for where, _ in expected]
    for (_, what), (_, part) in zip(found, expected, strict=True):
        assert part in what
    assert all(v.limit for v in mapping.violations)
    assert mapping.cores == 3, "mapped all the same"
    assert not mapping.fits(32)
    on_2 = [(v.where, v.what) for v in map_network(network, "loihi2").violations]
    assert [where for where, _ in on_2] == ["0:dense", "0:dense", "1:dense"]


def test_delays_need_a_delay_field_and_slots() -> None:
    slow = Network([Dense(of_bits(8, 200, 20), neuron=LIF, delay=9)])
    fast = Network([Dense(of_bits(8, 200, 20), neuron=LIF)])
    assert map_network(fast, MNIST).layers[0].cores == 1
    slots = {load.limit.name: load.most for load in map_network(slow, MNIST).layers[0].loads}
    assert slots["accumulator slots"] == 201 * 16
    wide = Network([Dense(of_bits(8, 600, 20), neuron=LIF, delay=62)])
    assert map_network(wide, MNIST).cores == map_network(wide, LOIHI2).cores == 5


def test_recurrent_and_complex_layers_on_loihi_2() -> None:
    """One list for each input and each own neuron; a second list for imaginary parts."""
    plain = Dense(of_bits(8, 30, 20), neuron=LIF)
    recurrent = Dense(of_bits(8, 30, 20), neuron=LIF, recurrent=of_bits(8, 30, 30))
    resonate = ResonateFire(100, 3000, 9)
    imaginary = Dense(of_bits(8, 30, 20), neuron=resonate, imaginary=of_bits(8, 30, 20))
    taken = []
    for layer in (plain, recurrent, imaginary):
        loads = map_network(Network([layer]), LOIHI2).layers[0].loads
        of = {load.limit.name: load.most for load in loads}
        taken.append((of["input axons"], of["synapse memory"]))
    words = math.ceil((30 * 20 + 8) / 64)
    assert taken == [(20, 20 * words), (50, 50 * words), (20, 40 * words)]


def test_unknown_chips_and_options_are_refused() -> None:
    network = Network([Dense(of_bits(8, 2, 2), neuron=LIF)])
    with pytest.raises(NetworkError, match="no chip 'loihi3'; known: loihi1, loihi2"):
        map_network(network, "loihi3")
    with pytest.raises(
        NetworkError, match=r"delay_field = 7; 0 to 6 .*packet = 50; 48 or 64 .*cores = 0; 1 to 128"
    ):
        loihi2(delay_field=7, packet=50, cores=0)


def test_chips_are_filled_one_after_the_other() -> None:
    network = Network([Dense(of_bits(8, 512, 512), neuron=LIF) for _ in range(20)])
    mapping = map_network(network, "loihi2")
    assert mapping.violations == ()
    assert mapping.cores > 2 * 120
    assert mapping.chips == math.ceil(mapping.cores / 120) == mapping.placement.chips
    assert (mapping.fits(1), mapping.fits(8)) == (False, True)
    assert (mapping.missing_cores(1), mapping.missing_cores(8)) == (mapping.cores - 120, 0)


def test_every_limit_has_a_source_and_a_fix() -> None:
    for name, chip in CHIPS.items():
        assert (chip.id, chip.mesh.cores_per_tile, chip.mesh.rows) == (name, 4, 4)
        for limit in (chip.cores, *chip.limits):
            assert limit.value > 0
            assert limit.source
            assert limit.fix
            assert f"{limit.value:,}" in str(limit)
        assert chip.not_modelled
    assert "unsure" in str(LOIHI2.cores)


# -- any network -----------------------------------------------------------------------------------


@st.composite
def networks(draw: Callable[..., Any]) -> Network:
    """Convolutions and dense layers of any shape, some recurrent or delayed."""
    bits = st.integers(1, 8)
    layers: list[Any] = []
    size = draw(st.integers(1, 900))
    if draw(st.booleans()):
        shape = tuple(draw(st.integers(1, n)) for n in (3, 20, 40))
        layers = [Input(shape)]
        for _ in range(draw(st.integers(1, 2))):
            kernel = draw(st.integers(1, min(3, *shape[1:])))
            weight = of_bits(draw(bits), draw(st.integers(1, 70)), shape[0], kernel, kernel)
            stride = draw(st.tuples(st.integers(1, 2), st.integers(1, 2)))
            layers.append(Conv(weight, neuron=LIF, stride=stride))
            shape = Network(layers).output_shape
        layers.append(Flatten())
        size = math.prod(shape)
    for _ in range(draw(st.integers(1, 2))):
        out = draw(st.integers(1, 700))
        recurrent = of_bits(8, out, out) if draw(st.booleans()) else None
        delay = None if recurrent is not None else draw(st.sampled_from([None, 3, 62]))
        weight = of_bits(draw(bits), out, size)
        layers.append(Dense(weight, neuron=LIF, recurrent=recurrent, delay=delay))
        size = out
    return Network(layers)


@settings(max_examples=25, deadline=None)
@given(networks(), st.sampled_from([LOIHI1, LOIHI2, MNIST, OXFORD]))
def test_every_neuron_is_on_one_core_and_every_limit_holds(network: Network, chip: Chip) -> None:
    mapping = map_network(network, chip)
    assert mapping.placement.chip == chip.id
    assert mapping.cores == sum(layer.cores for layer in mapping.layers)
    mapping.placement.owners(network)  # raises where a neuron is on no core, or on two
    exceeded = {v.where for v in mapping.violations}
    for layer in mapping.layers:
        assert (layer.fills.fraction > 1) == (layer.name in exceeded)
        for load in layer.loads:
            assert load.mean <= load.most


# -- for people ------------------------------------------------------------------------------------


def text(view: Any) -> str:
    console = Console(width=200)
    with console.capture() as capture:
        console.print(view)
    return " ".join(capture.get().split())


def counted(network: Network) -> tuple[Any, Counts]:
    mapping = map_network(network, "loihi2")
    inputs = np.random.default_rng(0).integers(0, 2, (2, 6, *network.input_shape))
    counter = Counter(network, mapping.placement)
    activity = simulate(network, inputs, counter=counter).activity
    assert activity is not None
    return mapping, tally(network, activity, mapping.placement)


def test_tables_say_what_fills_the_cores_and_what_is_violated() -> None:
    mapping = map_network(pilotnet(spiking=False), "loihi2")
    first, *rest = mapping_tables(mapping)
    shown = text(first)
    assert "61 cores of Loihi 2" in shown
    assert "7:dense │ 100 │ 12 │ 9 │ core memory │ 2,560 (16 %)" in shown
    assert "1:conv │ 24x32x99 │ 25 │ 24x32x4 │ neurons │" in shown
    lines = " ".join(map(text, rest))
    assert "fits on 1 chip: yes, 61 of 120 cores; 8 chips: yes" in lines
    assert "violation" not in lines
    assert "not modelled: axon memory" in lines
    assert "unsure" in lines
    lines = " ".join(map(text, mapping_tables(map_network(pilotnet(spiking=False), "loihi1"))))
    assert "violation, 1:conv: SigmaDelta neurons: use CubaLIF, or Loihi 2" in lines
    assert "fits on 1 chip: no, " in lines
    assert "see the violations" in lines


def test_the_busiest_core_comes_first() -> None:
    network = Network([Dense(of_bits(8, n, m), neuron=LIF) for n, m in ((300, 90), (5, 300))])
    mapping, counts = counted(network)
    shown = load_table(mapping, counts)
    cores = [int(cell) for cell in shown.columns[0].cells]
    assert sorted(cores) == list(range(mapping.cores))
    most = [int(str(cell).replace(",", "")) for cell in shown.columns[5].cells]
    assert most[0] == max(core.synops_max for core in counts.cores)
    assert len(list(load_table(mapping, counts, most=2).columns[0].cells)) == 2
    spikes = np.ones((1, 3, 90), int)
    trace = simulate(network, spikes, record="spikes")
    elsewhere = count(network, spikes, trace, layer_per_core(network))
    with pytest.raises(NetworkError, match="2 cores on no chip, 4 on loihi2"):
        load_table(mapping, elsewhere)


def test_a_mapping_is_json() -> None:
    mapping = map_network(Network([Dense(of_bits(8, 300, 90), neuron=LIF)]), "loihi2")
    found = json.loads(records.dumps(mapping))
    assert found["chip"]["id"] == "loihi2"
    assert found["layers"][0]["cores"] == len(found["placement"]["cores"]) == 3
