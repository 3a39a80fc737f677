import copy
import multiprocessing
import pickle
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor
from dataclasses import FrozenInstanceError, replace
from typing import Any

import numpy as np
import pytest

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import (
    NEURONS,
    CubaLIF,
    Delta,
    NetworkError,
    Neuron,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from spikeship.hw_targets.network.recipe import Recipe

NEURON = CubaLIF(1024, 512, 60)


def conv_net(**changes: Any) -> Network:
    """Input (4, 9, 7) -> Conv (6, 5, 6) -> Flatten -> Dense 3, no field at its default."""
    rng = np.random.default_rng(1)
    fields: dict[str, Any] = {
        "weight": rng.integers(-9, 10, (6, 2, 3, 2)),
        "bias": rng.integers(-9, 10, 6),
        "neuron": CubaLIF(1024, 512, np.arange(6)),
        "stride": (2, 1),
        "padding": (1, 0),
        "dilation": (1, 1),
        "groups": 2,
    }
    dense = Dense(rng.integers(-9, 10, (3, 180)), rng.integers(-9, 10, 3), NEURON)
    first = Input((4, 9, 7), CubaLIF(1, 2, 3), 64, 5)
    return Network([first, Conv(**(fields | changes)), Flatten(), dense])


def same_with(network: Network, index: int, layer: Any) -> Network:
    layers = list(network.layers)
    layers[index] = layer
    return Network(layers, network.recipe)


# -- content -----------------------------------------------------------------------------------


def test_nothing_can_be_changed() -> None:
    weight = np.ones((2, 3), np.int32)
    threshold = np.array([1, 2], np.int32)
    layer = Dense(weight, None, CubaLIF(0, 0, threshold))
    weight[:] = 7  # the caller's own array stays the caller's
    threshold[:] = 7
    assert (layer.weight == 1).all()
    assert layer.neuron.threshold.tolist() == [1, 2]
    for array in (layer.weight, layer.neuron.threshold):
        with pytest.raises(ValueError, match="read-only"):
            array[0] = 5
    for thing, name in (
        (layer, "weight"),
        (NEURON, "i_decay"),
        (Network([layer]), "layers"),
        (Recipe(Coding("direct", 4)), "steps"),
    ):
        with pytest.raises(FrozenInstanceError):
            setattr(thing, name, None)
    recipe = Recipe(Coding("direct", 4), provenance={"a": "b"})
    with pytest.raises(TypeError):
        recipe.provenance["a"] = "c"


@pytest.mark.parametrize("dtype", [np.int8, np.int64, np.float32, np.float64])
def test_content_decides_equality(dtype: type) -> None:
    """Neither the dtype handed in nor the memory order is content."""
    one = conv_net()
    weight = one.layers[1].weight.astype(dtype)
    other = conv_net(weight=np.asfortranarray(weight))
    assert (one == other, one.digest == other.digest, hash(one) == hash(other)) == (True,) * 3


def test_recipe_is_compared_but_not_digested() -> None:
    one, other = (
        Network(conv_net().layers, Recipe(Coding("direct", 4))),
        Network(conv_net().layers, Recipe(Coding("direct", 5))),
    )
    assert (one == other, one.digest == other.digest) == (False, True)
    assert one != "a network"


def bump(array: Any) -> Any:
    changed = np.array(array)
    changed.flat[-1] += 1
    return changed


ONE_CHANGE: dict[str, Callable[[Network], Network]] = {
    "conv weight": lambda n: conv_net(weight=bump(n.layers[1].weight)),
    "conv bias": lambda n: conv_net(bias=bump(n.layers[1].bias)),
    "no bias": lambda n: conv_net(bias=None),
    "zero bias": lambda n: conv_net(bias=np.zeros(6, int)),
    "conv threshold": lambda n: conv_net(neuron=CubaLIF(1024, 512, bump(np.arange(6)))),
    "scalar threshold": lambda n: conv_net(neuron=CubaLIF(1024, 512, 0)),
    "i_decay": lambda n: conv_net(neuron=CubaLIF(1025, 512, np.arange(6))),
    "v_decay": lambda n: conv_net(neuron=CubaLIF(1024, 513, np.arange(6))),
    "decays swapped": lambda n: conv_net(neuron=CubaLIF(512, 1024, np.arange(6))),
    "stride, same shapes": lambda n: one_pixel(stride=(1, 2)),
    "dilation, same shapes": lambda n: one_pixel(dilation=(2, 1)),
    "padding, same shapes": lambda n: one_pixel(padding=(0, 1), stride=(1, 9)),
    "dense weight": lambda n: same_with(
        n, 3, replace(n.layers[3], weight=bump(n.layers[3].weight))
    ),
    "dense bias": lambda n: same_with(n, 3, replace(n.layers[3], bias=bump(n.layers[3].bias))),
    "default neuron": lambda n: same_with(n, 3, replace(n.layers[3], neuron=None)),
    "input threshold": lambda n: same_with(n, 0, Input((4, 9, 7), CubaLIF(1, 2, 4), 64, 5)),
    "input weight": lambda n: same_with(n, 0, Input((4, 9, 7), CubaLIF(1, 2, 3), 65, 5)),
    "input bias": lambda n: same_with(n, 0, Input((4, 9, 7), CubaLIF(1, 2, 3), 64, 6)),
    "input without neuron": lambda n: same_with(n, 0, Input((4, 9, 7), None, 64, 5)),
    "a layer more": lambda n: Network([*n.layers, Dense(np.ones((1, 3), int))]),
    "nothing to flatten": lambda n: Network([*n.layers, Flatten()]),
    "one pixel": lambda n: one_pixel(),
}


def one_pixel(**options: Any) -> Network:
    """A 1x1 kernel on one pixel: stride and dilation are stored but do nothing."""
    conv = Conv(np.ones((1, 1, 1, 1), int), None, NEURON, **options)
    return Network([Input((1, 1, 1)), conv])


SAME_NUMBERS = [
    lambda: Network([Dense(np.ones((2, 3)))]),
    lambda: Network([Dense(np.ones((3, 2)))]),
    lambda: Network([Dense(np.ones((1, 6)))]),
    lambda: Network([Input((1, 2, 3)), Flatten(), Dense(np.ones((1, 6)))]),
    lambda: Network([Input((3, 2, 1)), Flatten(), Dense(np.ones((1, 6)))]),
    lambda: Network([Input((6,)), Flatten(), Dense(np.ones((1, 6)))]),
    lambda: Network([Input((1,)), Dense(np.ones((1, 1)), [1])]),
    lambda: Network([Input((1,), None, 1), Dense(np.ones((1, 1)))]),
    lambda: Network([Input((1,), None, None, 1), Dense(np.ones((1, 1)))]),
]


def test_the_same_numbers_in_another_place_change_the_digest() -> None:
    assert len({make().digest for make in SAME_NUMBERS}) == len(SAME_NUMBERS)


def test_any_change_of_an_integer_changes_the_digest() -> None:
    network = conv_net()
    digests = {name: change(network).digest for name, change in ONE_CHANGE.items()}
    digests["unchanged"] = network.digest
    assert len(set(digests.values())) == len(digests), digests
    assert all(len(d) == 64 and int(d, 16) >= 0 for d in digests.values())


def test_layers_are_equal_where_networks_are() -> None:
    network = conv_net()
    assert (network.layers, list(map(hash, network.layers))) == (
        conv_net().layers,
        list(map(hash, conv_net().layers)),
    )
    for name, change in ONE_CHANGE.items():
        assert network.layers != change(network).layers, name
    chains = [make().layers for make in SAME_NUMBERS]
    assert [chains.index(make().layers) for make in SAME_NUMBERS] == [*range(len(chains))]


MADE: list[Callable[[], Neuron]] = [
    lambda: CubaLIF(1, 2, 3),
    lambda: CubaLIF(2, 1, 3),
    lambda: CubaLIF([1, 1], 2, 3),
    lambda: CubaLIF([1, 2], 2, 3),
    lambda: Delta(3),
    lambda: Delta(3, 0),
    lambda: SigmaDelta(3),
    lambda: SigmaDelta(4),
    Sigma,
    lambda: ResonateFire(1, 2, 3),
    lambda: ResonateFire(1, 2, 3, "RF_IZHIKEVICH"),
    lambda: ResonateFire(1, 3, 3),
]


def test_neurons_are_equal_by_content() -> None:
    """CUBA and LOIHI run alike, as they do in a digest."""
    made = [make() for make in MADE]
    assert {type(neuron) for neuron in made} == set(NEURONS)
    for i, make in enumerate(MADE):
        assert [neuron == make() for neuron in made] == [j == i for j in range(len(made))]
        assert hash(made[i]) == hash(make())
    assert CubaLIF(1, 2, 3, "LOIHI") == CubaLIF(1, 2, 3) != "a neuron"


# -- copies -----------------------------------------------------------------------------------

COPIED = Network(
    [*conv_net().layers, Dense(np.ones((2, 3)), None, SigmaDelta(4), delay=[0, 1])],
    Recipe(Coding("given", 4, sigma=0.5, grid=7), provenance={"data": "mine"}),
)


def test_copies_are_as_good_as_the_network() -> None:
    """Pickled, deep-copied and through a pool, with its recipe: equal, and still nothing can change."""
    with ProcessPoolExecutor(1, mp_context=multiprocessing.get_context("spawn")) as pool:
        passed = pool.submit(copy.deepcopy, COPIED).result(timeout=60)
    for name, copied in (
        ("pickle", pickle.loads(pickle.dumps(COPIED))),
        ("deepcopy", copy.deepcopy(COPIED)),
        ("copy", copy.copy(COPIED)),
        ("pool", passed),
    ):
        assert (copied, copied.recipe) == (COPIED, COPIED.recipe), name
        assert copied.layers == COPIED.layers
        with pytest.raises(ValueError, match="read-only"):
            copied.layers[1].weight[0] = 5
        with pytest.raises(ValueError, match="read-only"):
            copied.layers[1].neuron.threshold[0] = 5
        with pytest.raises(TypeError):
            copied.recipe.provenance["data"] = "yours"


# -- shapes ------------------------------------------------------------------------------------

GEOMETRY = [
    # input, weight, options, output (C, H, W)
    ((1, 5, 7), (2, 1, 3, 3), {}, (2, 3, 5)),
    ((1, 5, 7), (2, 1, 3, 3), {"stride": 2}, (2, 2, 3)),
    ((1, 5, 7), (2, 1, 3, 3), {"stride": (3, 1)}, (2, 1, 5)),
    ((1, 5, 7), (2, 1, 3, 3), {"padding": (0, 1)}, (2, 3, 7)),
    ((1, 5, 7), (2, 1, 3, 3), {"dilation": (1, 3)}, (2, 3, 1)),
    ((1, 5, 7), (2, 1, 2, 3), {"stride": (2, 3), "padding": (2, 1), "dilation": (3, 2)}, (2, 3, 2)),
    ((4, 5, 7), (6, 2, 1, 2), {"groups": 2}, (6, 5, 6)),
    ((4, 5, 7), (4, 1, 5, 7), {"groups": 4}, (4, 1, 1)),
]


@pytest.mark.parametrize(("into", "weight", "options", "out"), GEOMETRY)
def test_convolution_shapes(
    into: tuple[int, ...], weight: tuple[int, ...], options: dict[str, Any], out: tuple[int, ...]
) -> None:
    network = Network([Input(into), Conv(np.ones(weight, int), None, NEURON, **options)])
    assert (network.input_shape, network.shapes, network.output_shape) == (into, (into, out), out)


def test_populations_count_layers_with_neurons() -> None:
    with_input, without = conv_net(), conv_net()
    without = same_with(without, 0, Input((4, 9, 7)))
    found = [
        [(p.index, p.name, p.input_shape, p.shape, p.size, p.latency) for p in n.populations]
        for n in (with_input, without)
    ]
    conv, dense = ((4, 9, 7), (6, 5, 6), 180), ((180,), (3,), 3)
    assert found == [
        [
            (0, "0:input", (4, 9, 7), (4, 9, 7), 252, 0),
            (1, "1:conv", *conv, 1),
            (2, "3:dense", *dense, 2),
        ],
        [(0, "1:conv", *conv, 1), (1, "3:dense", *dense, 2)],
    ]
    assert [n.latency for n in (with_input, without)] == [2, 2]
    assert Network([Dense(np.ones((2, 5), int))]).input_shape == (5,)


def test_repr_names_shapes_and_digest() -> None:
    network = conv_net()
    chain = "Input(4, 9, 7) -> Conv(6, 5, 6) -> Flatten(180,) -> Dense(3,)"
    assert repr(network) == f"<Network {chain}, digest {network.digest[:12]}>"


# -- refusals ----------------------------------------------------------------------------------


def dense(**changes: Any) -> Dense:
    return Dense(**({"weight": np.ones((2, 3), int), "neuron": NEURON} | changes))


def with_entry(shape: tuple[int, ...], value: float) -> np.ndarray:
    """Ones, and `value` in the last place."""
    array = np.ones(shape, float)
    array.flat[-1] = value
    return array


def two(first: Any, second: Any) -> Network:
    return Network([first, second])


def conv(*shape: int, **options: Any) -> Conv:
    return Conv(np.ones(shape, int), neuron=options.pop("neuron", NEURON), **options)


IMAGE = Input((2, 4, 4))
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "fraction": (
        lambda: dense(weight=with_entry((2, 3), 1.5)),
        r"weight\[1, 2\] = 1.5 is not an integer. .*quantize again",
    ),
    "nan": (
        lambda: dense(weight=with_entry((2, 3), np.nan)),
        r"weight\[1, 2\] = nan is not a finite number. ",
    ),
    "inf": (lambda: dense(bias=[1, np.inf]), r"bias\[1\] = inf is not a finite number. "),
    "text": (lambda: dense(weight=[["a"]]), "weight has dtype .*; integers are needed"),
    "complex": (lambda: dense(weight=[[1j]]), "weight has dtype complex128; integers are needed"),
    "weight 255": (
        lambda: dense(weight=with_entry((2, 3), 255)),
        r"weight\[1, 2\] = 255.* is outside \[-256, 254\]. .*smaller scale",
    ),
    "weight -257": (
        lambda: dense(weight=np.full((2, 3), -257)),
        r"weight\[0, 0\] = -257 is outside \[-256, 254\] \(and 5 more\). .*smaller scale",
    ),
    "conv weight": (
        lambda: Conv(with_entry((1, 2, 1, 1), 300), None, NEURON),
        r"weight\[0, 1, 0, 0\] = 300.* is outside \[-256, 254\]",
    ),
    "bias 4096": (
        lambda: dense(bias=[0, 4096]),
        r"bias\[1\] = 4096 is outside \[-4096, 4095\].*scale",
    ),
    "bias -4097": (lambda: dense(bias=[0, -4097]), r"bias\[1\] = -4097 is outside"),
    "threshold 131072": (
        lambda: CubaLIF(0, 0, 131072),
        r"threshold = 131072 is outside \[0, 131071\]. .*17-bit.* lower the scale",
    ),
    "negative threshold": (
        lambda: CubaLIF(0, 0, [3, -1]),
        r"threshold\[1\] = -1 is outside \[0, 131071\]",
    ),
    "i_decay 4097": (
        lambda: CubaLIF(4097, 0, 1),
        r"i_decay = 4097 is outside \[0, 4096\]. .*12-bit",
    ),
    "v_decay -1": (lambda: CubaLIF(0, -1, 1), r"v_decay = -1 is outside \[0, 4096\]. .*12-bit"),
    "neuron kind": (
        lambda: CubaLIF(0, 0, 1, kind="ALIF"),
        "neuron kind 'ALIF' is not supported; use CUBA or LOIHI",
    ),
    "1-D weight": (lambda: dense(weight=[1, 2]), r"weight has shape \(2,\); \(out, in\) is needed"),
    "empty weight": (lambda: dense(weight=np.zeros((0, 3), int)), r"weight has shape \(0, 3\)"),
    "3-D kernel": (lambda: conv(1, 2, 2), r"weight has shape \(1, 2, 2\); .*kernel y, kernel x"),
    "layers do not meet": (
        lambda: two(dense(), dense(weight=np.ones((1, 5), int))),
        r"layer 1 \(Dense\): weight \(1, 5\) expects 5 inputs, the layer before gives .*\(2,\)\.$",
    ),
    "missing Flatten": (
        lambda: two(IMAGE, Dense(np.ones((3, 32), int))),
        r"layer 1 \(Dense\): .*expects 32 inputs.*shape \(2, 4, 4\). Put a Flatten before it",
    ),
    "channels": (
        lambda: two(IMAGE, conv(3, 5, 1, 1)),
        r"layer 1 \(Conv\): weight \(3, 5, 1, 1\) with groups 1 expects .* C = 5, .*\(2, 4, 4\)",
    ),
    "channels of groups": (
        lambda: two(IMAGE, conv(4, 2, 1, 1, groups=2)),
        "with groups 2 .* C = 4",
    ),
    "conv after flatten": (
        lambda: Network([IMAGE, Flatten(), conv(3, 2, 1, 1)]),
        r"layer 2 \(Conv\): .*the layer before gives shape \(32,\)",
    ),
    "conv first": (
        lambda: Network([conv(1, 1, 1, 1)]),
        r"layer 0 \(Conv\): the input shape is unknown; start .*Input\(\(C, H, W\)\)",
    ),
    "flatten first": (
        lambda: two(Flatten(), dense()),
        r"layer 0 \(Flatten\): the input shape is unknown",
    ),
    "groups 128": (
        lambda: conv(128, 1, 1, 1, groups=128),
        r"groups = 128 is outside \[1, 127\]. .*8 bits: split",
    ),
    "groups 0": (lambda: conv(2, 1, 1, 1, groups=0), r"groups = 0 is outside \[1, 127\]"),
    "two groups": (lambda: conv(2, 1, 1, 1, groups=[1, 2]), "groups has shape .* single integer"),
    "groups and channels": (
        lambda: conv(3, 1, 1, 1, groups=2),
        "groups = 2 does not divide the 3 output channels",
    ),
    "stride 0": (lambda: conv(1, 1, 1, 1, stride=0), r"stride = 0 is outside \[1, 127\]"),
    "padding -1": (
        lambda: conv(1, 1, 1, 1, padding=(0, -1)),
        r"padding\[1\] = -1 is outside \[0, 127\]",
    ),
    "kernel 128": (
        lambda: conv(1, 1, 1, 128),
        r"kernel size\[1\] = 128 is outside \[1, 127\].*8 bits",
    ),
    "dilation 128": (lambda: conv(1, 1, 1, 1, dilation=128), r"dilation = 128 .* in 8 bits"),
    "three strides": (lambda: conv(1, 1, 1, 1, stride=(1, 1, 1)), "stride has 3 entries. .*two in"),
    "kernel too large": (
        lambda: two(IMAGE, conv(1, 2, 3, 3, dilation=(1, 2))),
        r"layer 1 \(Conv\): the dilated kernel of weight \(1, 2, 3, 3\) is larger .*\(2, 4, 4\)",
    ),
    "conv without neuron": (
        lambda: conv(1, 1, 1, 1, neuron=None),
        "a Conv layer needs a neuron; netx has no default",
    ),
    "second input": (
        lambda: two(Input((3,)), Input((3,), NEURON)),
        r"layer 1 \(Input\): an Input layer can only come first",
    ),
    "2-D input": (
        lambda: Input((3, 4)),
        r"input shape \(3, 4\) has 2 axes. Give \(N,\) or \(C, H, W\)",
    ),
    "empty input": (lambda: Input((3, 0, 4)), r"shape\[1\] = 0 is outside"),
    "input transform": (lambda: Input((3,), None, 1 << 15), "weight = 32768 is outside"),
    "bias per neuron": (
        lambda: Network([dense(bias=[1, 2, 3])]),
        r"layer 0 \(Dense\): bias has shape \(3,\); .*\(2,\) or \(2,\), is needed",
    ),
    "threshold per pixel": (
        lambda: two(IMAGE, conv(3, 2, 1, 1, neuron=CubaLIF(0, 0, np.ones((3, 4), int)))),
        r"layer 1 \(Conv\): neuron.threshold has shape \(3, 4\); .*\(3,\) or \(3, 4, 4\)",
    ),
    "no neurons": (lambda: two(IMAGE, Flatten()), "the network has no layer with neurons"),
    "no layers": (lambda: Network([]), "the network has no layer with neurons"),
    "steps 0": (
        lambda: Coding("direct", 0),
        r"coding: steps = 0; a whole number within \[1, 2147483647\] is needed",
    ),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, message = REFUSED[name]
    with pytest.raises(NetworkError, match=message):
        make()


KEPT = [
    (lambda: dense(weight=[[-256, 254], [0, 1]], bias=[-4096, 4095]).bias, [-4096, 4095]),
    (lambda: CubaLIF(0, 4096, 131071).threshold, 131071),
    (lambda: CubaLIF([0.0], np.array([[7]]), True).v_decay, 7),
    (lambda: conv(127, 1, 1, 1, groups=127).groups, 127),
    (lambda: conv(1, 1, 1, 1, stride=[127]).stride, (127, 127)),
    (lambda: conv(1, 1, 1, 1, padding=np.array([0, 127])).padding, (0, 127)),
    (lambda: Input(np.array([2, 3, 4])).shape, (2, 3, 4)),
]


@pytest.mark.parametrize(("make", "value"), KEPT)
def test_limits_themselves_are_kept(make: Callable[[], Any], value: Any) -> None:
    found = make()
    assert (found.tolist() if isinstance(found, np.ndarray) else found) == value
