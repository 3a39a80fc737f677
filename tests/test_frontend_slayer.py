"""SLAYER networks to integers: equal to lava-dl's own files where those are right.

Where they are not, `DIFFERENCES` has a row, and here every row has a network: what lava-dl's file says
is not what SLAYER computes, and what `from_slayer` makes of it is, spike for spike, or is refused.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from spikeship.hw_targets.network import arithmetic
from spikeship.hw_targets.network.layers import Shape
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import NetworkError, ResonateFire
from spikeship.hw_targets.netx.file import read_netx
from spikeship.hw_targets.simulate.engine import simulate
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_netx, from_slayer, load_slayer
from spikeship.pipeline.frontends.slayer import DIFFERENCES

pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated"),
]
Blocks = list[torch.nn.Module]


class Chain(torch.nn.Module):
    """A network as lava-dl's tutorials write them."""

    def __init__(self, blocks: Blocks) -> None:
        super().__init__()
        self.blocks = torch.nn.ModuleList(blocks)

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        for block in self.blocks:
            x = block(x, **_spiking(block))
        return x

    def export_hdf5(self, path: Path) -> Path:
        with h5py.File(path, "w") as file:
            layers = file.create_group("layer")
            for i, block in enumerate(self.blocks):
                block.export_hdf5(layers.create_group(str(i)))
        return path


def _spiking(block: torch.nn.Module) -> dict[str, Any]:
    """Bootstrap blocks need to be told not to run as an ANN."""
    if "bootstrap" not in type(block).__module__:
        return {}
    from lava.lib.dl.bootstrap import Mode

    return {"mode": Mode.SNN}


# -- blocks --------------------------------------------------------------------------------------

CUBA = {"threshold": 0.7, "current_decay": 0.3, "voltage_decay": 0.1}
SHARP = {"threshold": 0.9, "current_decay": 1.0, "voltage_decay": 0.06}
SDNN = {"threshold": 0.1, "activation": torch.relu, "scale": 64}
RF = {"threshold": 0.5, "period": 11.0, "decay": 0.05}


def block(kind: str, parameters: dict[str, Any] | None, *args: Any, **options: Any) -> Any:
    """A SLAYER block by name, such as cuba.Dense, with strong random weights."""
    from lava.lib.dl.slayer import block as families

    family, _, name = kind.partition(".")
    options.setdefault("weight_scale", {"Pool": 1.0, "Input": None}.get(name, 3.0))
    if options["weight_scale"] is None:
        del options["weight_scale"]
    return getattr(getattr(families, family), name)(
        parameters and dict(parameters), *args, **options
    )


def flatten() -> Any:
    from lava.lib.dl.slayer import block as families

    return families.cuba.Flatten()


def norm(name: str, momentum: float = 0.5) -> Callable[[], torch.nn.Module]:
    from lava.lib.dl.slayer.neuron import norm as norms

    return lambda: getattr(norms, name)(momentum=momentum)


def settled(blocks: Blocks, shape: Shape, passes: int = 2) -> Chain:
    """The network after passes that draw its decays, delays and means, in evaluation mode."""
    model = Chain(blocks)
    with torch.no_grad():
        for _ in range(passes):
            model(spikes(shape, 12, samples=3))
        for module in model.modules():
            if hasattr(module, "max_delay"):
                module.delay.data = torch.rand(len(module.delay)) * 5
    return model.eval()


def spikes(shape: Shape, steps: int, samples: int = 2, rate: float = 0.4) -> torch.Tensor:
    return (torch.rand(samples, *shape, steps) < rate).float()


# -- published checkpoints -----------------------------------------------------------------------

# folder, file, layer sizes, threshold, weight norm
CHECKPOINTS = {
    "oxford": ("oxford", "network", (200, 256, 200), 0.1, False),
    "iris": ("iris/Trained", "network", (4, 24, 3), 1.75, True),
    "mnist_mlp": ("mnist_mlp", "trained_mnist_network", (784, 128, 64, 10), 1.0, False),
}


@pytest.mark.parametrize("name", CHECKPOINTS)
def test_published_checkpoints_equal_their_files(name: str, shared_data: Path) -> None:
    folder, stem, sizes, threshold, weight_norm = CHECKPOINTS[name]
    path = shared_data / "golden" / folder / stem
    model = Chain(
        [
            block("cuba.Dense", CUBA | {"threshold": threshold}, *pair, weight_norm=weight_norm)
            for pair in itertools.pairwise(sizes)
        ]
    )
    load_slayer(model, torch.load(path.with_suffix(".pt"), map_location="cpu"))
    assert from_slayer(model) == read_netx(path.with_suffix(".net"))


# -- random networks whose files are right -------------------------------------------------------

MEAN = "MeanOnlyBatchNorm"
CHANNELS = {"shared_param": False, "current_decay": (0.2, 0.4), "voltage_decay": (0.05, 0.2)}


def _convolutions(family: str, parameters: dict[str, Any], **options: Any) -> Blocks:
    return [
        block(f"{family}.Conv", parameters, 2, 4, (3, 2), stride=(2, 1), padding=(1, 0), **options),
        block(f"{family}.Conv", parameters, 4, 6, 3, dilation=(1, 2), groups=2, **options),
        flatten(),
        block(f"{family}.Dense", parameters, 24, 5, **options),
    ]


def _dense(kind: str, parameters: dict[str, Any], **options: Any) -> Blocks:
    return [block(kind, parameters, 8, 7, **options), block(kind, parameters, 7, 7, **options)]


def _four_bits() -> Any:
    from functools import partial

    from lava.lib.dl.slayer.utils.quantize import quantize_hook_fx

    return partial(quantize_hook_fx, num_bits=4)


def _bootstrap() -> Blocks:
    from lava.lib.dl.bootstrap import block as families

    cuba = families.cuba
    return [
        cuba.Input(dict(SHARP), weight=0.6, bias=0.2),
        cuba.Conv(dict(SHARP), 2, 3, 3),
        cuba.Flatten(),
        cuba.Dense(dict(SHARP), 90, 4),
    ]


PLANE, LINE = (2, 8, 7), (8,)
SAME: dict[str, tuple[Shape, Callable[[], Blocks]]] = {
    "dense": (LINE, lambda: _dense("cuba.Dense", CUBA)),
    "dense, weight norm": (LINE, lambda: _dense("cuba.Dense", CUBA, weight_norm=True)),
    "dense, mean norm": (LINE, lambda: _dense("cuba.Dense", CUBA | {"norm": norm(MEAN)})),
    "dense, delays": (LINE, lambda: _dense("cuba.Dense", CUBA, delay=True)),
    "dense, no delay shift": (LINE, lambda: _dense("cuba.Dense", CUBA, delay_shift=False)),
    "dense, per channel": (LINE, lambda: _dense("cuba.Dense", CUBA | CHANNELS)),
    "dense, scale 32": (LINE, lambda: _dense("cuba.Dense", CUBA | {"scale": 32})),
    "dense, scale 128": (LINE, lambda: _dense("cuba.Dense", CUBA | {"scale": 128})),
    "dense, 4 bits": (LINE, lambda: _dense("cuba.Dense", CUBA, pre_hook_fx=_four_bits())),
    "dense, one output": (LINE, lambda: [block("cuba.Dense", CUBA, 8, 1, delay=True)]),
    "input without neurons": (
        LINE,
        lambda: [block("cuba.Input", None, delay_shift=False), block("cuba.Dense", CUBA, 8, 3)],
    ),
    "input": (PLANE, lambda: [block("cuba.Input", SHARP, weight=0.6, bias=0.2)]),
    "conv": (PLANE, lambda: _convolutions("cuba", CUBA)),
    "conv, weight norm": (PLANE, lambda: _convolutions("cuba", CUBA, weight_norm=True)),
    "conv, mean norm": (PLANE, lambda: _convolutions("cuba", CUBA | {"norm": norm(MEAN)})),
    "recurrent": (LINE, lambda: _dense("cuba.Recurrent", CUBA)),
    "recurrent, norm": (LINE, lambda: _dense("cuba.Recurrent", SHARP | {"norm": norm(MEAN)})),
    "sigma-delta": (
        PLANE,
        lambda: [block("sigma_delta.Input", SDNN), *_convolutions("sigma_delta", SDNN)],
    ),
    "sigma-delta, norm, delays": (
        LINE,
        lambda: [
            block("sigma_delta.Dense", SDNN | {"norm": norm(MEAN)}, 8, 6),
            block("sigma_delta.Dense", SDNN, 6, 6, delay=True, weight_norm=True),
            block("sigma_delta.Output", SDNN, 6, 2),
        ],
    ),
    "resonators": (LINE, lambda: _dense("rf.Dense", RF)),
    "resonators, weight norm": (LINE, lambda: _dense("rf_iz.Dense", RF, weight_norm=True)),
    "bootstrap": (PLANE, _bootstrap),
}
SEEDS = range(3)


@pytest.mark.slow
@pytest.mark.parametrize("seed", SEEDS)
@pytest.mark.parametrize("name", SAME)
def test_random_networks_equal_their_files(name: str, seed: int, tmp_path: Path) -> None:
    torch.manual_seed(seed)
    shape, blocks = SAME[name]
    model = settled(blocks(), shape)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    found = from_slayer(model, shape)
    after = model.state_dict()
    assert before.keys() == after.keys()
    assert all(torch.equal(before[key], after[key]) for key in before)
    assert (
        from_slayer(torch.nn.Sequential(torch.nn.Identity(), Chain([*model.blocks])), shape)
        == found
    )
    assert found == read_netx(model.export_hdf5(tmp_path / "network.net"), shape)


@pytest.mark.parametrize(("kind", "names"), [("cuba", "current voltage"), ("rf", "sin cos")])
def test_decays_learned_beyond_their_range(kind: str, names: str, tmp_path: Path) -> None:
    parameters = RF if kind == "rf" else CUBA
    model = settled([block(f"{kind}.Dense", parameters, 8, 5)], LINE)
    for name, value in zip(names.split(), (4000.0, 5000.3), strict=True):
        getattr(model.blocks[0].neuron, f"{name}_decay").data.fill_(value)
    found = from_slayer(model)
    assert model.blocks[0].neuron.state_dict().popitem()[1].item() > 5000
    assert found == read_netx(model.export_hdf5(tmp_path / "network.net"))


# -- what SLAYER computes, spike for spike -------------------------------------------------------


def agrees(model: Chain, network: Network, shape: Shape, graded: bool = False) -> bool:
    """Whether the last layers do the same: SLAYER after one blank step, the chip from the start on.

    SLAYER shows every layer one step late (`delay_shift`), and in the blank step the biases alone
    work, as they do on the chip before the first data arrives.
    """
    steps = 24
    output = type(model.blocks[-1]).__name__
    x = spikes(shape, steps)
    if graded:  # even multiples of 1/64, which its input blocks round to
        x *= torch.randint(-20, 20, x.shape) * 2 / 64
    with torch.no_grad():
        model(x[:1])  # another number of samples makes recurrent blocks forget their state
        expected = np.moveaxis(model(torch.nn.functional.pad(x, (1, 0))).numpy(), -1, 1)
    frames = np.moveaxis((x * (64 if graded else 1)).numpy(), -1, 1).astype(np.int32)
    last = network.populations[-1]
    affine = output == "Affine"
    trace = simulate(network, frames, record=["v" if affine else "spikes"])
    late = sum(getattr(block, "delay_shift", False) is True for block in model.blocks)
    found = (trace.v if affine else trace.spikes)[last.index]
    scale = model.blocks[-1].neuron.w_scale * 64 if affine or graded else 1
    expected = expected.reshape(len(found), steps + 1, *last.shape) * scale
    if output == "Output":
        expected *= 64  # weights of the last layer add 6 more fraction bits
    assert expected.any()
    shift = last.latency - late  # what SLAYER leaves out, where it leaves the latency out
    return np.array_equal(found[:, shift:], expected[:, 1 : steps + 1 - shift])


PARITY = {
    name: SAME[name]
    for name in (
        "dense",
        "dense, mean norm",
        "dense, delays",
        "dense, no delay shift",
        "dense, per channel",
        "dense, scale 32",
        "input without neurons",
        "conv",
        "conv, mean norm",
        "recurrent",
        "recurrent, norm",
    )
}


@pytest.mark.slow
@pytest.mark.parametrize("name", PARITY)
def test_spikes_equal_slayers(name: str) -> None:
    torch.manual_seed(5)
    shape, blocks = PARITY[name]
    model = settled(blocks(), shape)
    assert agrees(model, from_slayer(model, shape), shape)


@pytest.mark.parametrize("name", PARITY)
def test_float_graph_equals_slayer(name: str) -> None:
    """Without `delay_shift`, since a float graph has no latency; then biases need no blank frame."""
    torch.manual_seed(6)
    shape, blocks = PARITY[name]
    model = settled(blocks(), shape)
    for block in model.blocks:
        block.delay_shift = False
    x = spikes(shape, 30)
    with torch.no_grad():
        expected = np.moveaxis(model(x).numpy(), -1, 1)
    scale = model.blocks[-1].neuron.w_scale
    graph = from_netx(from_slayer(model, shape), unit=scale)
    found = execute(graph, np.moveaxis(x.numpy(), -1, 1)).spikes[-1]
    assert expected.any()
    assert np.array_equal(found, expected)


def _kept(period: float, decay: float) -> bool:
    angle = 2 * np.pi / period
    own = tuple(round(4096 * (1 - decay) * part(angle)) for part in (np.sin, np.cos))
    return arithmetic.resonator_decays(*own) == own


@pytest.mark.parametrize("kind", ["rf", "rf_iz"])
def test_resonators_equal_slayers_where_lava_keeps_their_decays(kind: str) -> None:
    """Which decays it keeps is a matter of the last bits of the machine's sine."""
    kept = next(d for d in np.arange(0.05, 0.3, 0.01) if _kept(RF["period"], d))
    torch.manual_seed(2)
    model = settled([block(f"{kind}.Dense", RF | {"decay": kept}, 8, 6)], LINE)
    network = from_slayer(model)
    neuron = network.populations[0].layer.neuron
    assert isinstance(neuron, ResonateFire)
    assert neuron.decays == (neuron.sin_decay, neuron.cos_decay)
    assert agrees(model, network, LINE)


def test_sigma_delta_messages_equal_slayers() -> None:
    torch.manual_seed(3)
    late: dict[str, Any] = {"delay_shift": True}
    blocks = [
        block("sigma_delta.Input", SDNN),
        block("sigma_delta.Conv", SDNN | {"norm": norm(MEAN)}, 2, 4, 3, weight_scale=1, **late),
        block("sigma_delta.Conv", SDNN, 4, 3, 3, weight_scale=1, **late),
    ]
    model = settled(blocks, PLANE)
    assert agrees(model, from_slayer(model, PLANE), PLANE, graded=True)


# -- where lava-dl's file is not what SLAYER computes --------------------------------------------

WEIGHT_SCALE = "WgtScaleBatchNorm"
LATE: dict[str, Any] = {"delay_shift": True}


@dataclass(frozen=True)
class Case:
    """A network of one row of DIFFERENCES."""

    row: str
    shape: Shape
    blocks: Callable[[], Blocks]
    lava: str = ""
    """what lava-dl's export or reading its file says; nothing: the file computes something else"""
    here: str = ""
    """what is refused here; nothing: the network computes what SLAYER does"""
    change: Callable[[Chain], object] = lambda model: None
    """done to the network after its forward passes, as a training step would"""
    graded: bool = False
    passes: int = 2


def _variance(value: float) -> Callable[[Chain], object]:
    return lambda model: model.blocks[0].neuron.norm.running_var.fill_(value)


def _sigma_delta_dense(**options: Any) -> Blocks:
    return [
        block("sigma_delta.Input", SDNN),
        block("sigma_delta.Dense", SDNN | options, 8, 5, weight_scale=1, **LATE),
    ]


CASES = [
    Case(
        "weight exponent",
        LINE,
        lambda: [
            block("cuba.Dense", SHARP | {"norm": norm(WEIGHT_SCALE)}, 8, 5, weight_scale=1.5),
        ],
        "weight_exp = -1 is ignored",
        change=_variance(0.2),
    ),
    Case(
        "weight exponent",
        LINE,
        lambda: [block("cuba.Dense", SHARP | {"norm": norm(WEIGHT_SCALE)}, 8, 5)],
        "weight_exp = 3 is ignored",
        r"divides by 2\^3, and not all weights and biases are divisible",
        _variance(40.0),
    ),
    Case(
        "weight exponent",
        LINE,
        lambda: [block("cuba.Dense", CUBA | {"norm": norm(WEIGHT_SCALE)}, 8, 5, weight_scale=1.5)],
        "weight_exp = -1 is ignored",
        r"divides the current by 2\^-1 after a decay that rounds",
        _variance(0.2),
    ),
    Case(
        "one mean",
        LINE,
        lambda: [block("cuba.Dense", CUBA | {"norm": norm(MEAN)}, 8, 5)],
        r"bias has shape \(1,\)",
        change=lambda model: setattr(
            model.blocks[0].neuron.norm, "running_mean", torch.tensor([-0.25])
        ),
    ),
    Case(
        "recurrent norm",
        LINE,
        lambda: [block("cuba.Recurrent", CUBA | {"norm": norm(MEAN)}, 8, 5)],
        here="its bias decays with the current",
    ),
    Case(
        "affine norm",
        LINE,
        lambda: [block("cuba.Affine", CUBA | {"norm": norm(MEAN)}, 8, 5)],
        "vThMant = 262143",
    ),
    Case(
        "set_bias",
        LINE,
        lambda: _sigma_delta_dense(norm=norm(MEAN)),
        change=lambda model: model.blocks[1].neuron.set_bias(torch.arange(5) / 64),
        graded=True,
    ),
    Case(
        "set_bias",
        LINE,
        _sigma_delta_dense,
        here=r"bias\[1\] = 0.01 is no multiple of 1/64 \(and 3 more\)",
        change=lambda model: model.blocks[1].neuron.set_bias(torch.arange(5) / 100),
        graded=True,
    ),
    Case(
        "affine threshold",
        LINE,
        lambda: [block("cuba.Dense", CUBA, 8, 6), block("cuba.Affine", CUBA, 6, 4)],
        "vThMant = 262143",
    ),
    Case(
        "affine current",
        LINE,
        lambda: [block("cuba.Affine", CUBA, 8, 4, dynamics=False)],
    ),
    Case(
        "conv delay",
        PLANE,
        lambda: [
            block("cuba.Conv", CUBA, 2, 4, 3, delay=True),
            flatten(),
            block("cuba.Dense", CUBA, 120, 5, delay=True),
        ],
        "of a convolution is ignored",
    ),
    Case(
        "conv delay",
        PLANE,
        lambda: [
            block("cuba.Conv", CUBA, 2, 4, 3, delay=True),
            block("cuba.Conv", CUBA, 4, 3, 3),
        ],
        "of a convolution is ignored",
        r"blocks.1 \(Conv\): the block before delays its outputs",
    ),
    Case(
        "delay and bias",
        LINE,
        lambda: [
            block("cuba.Dense", CUBA | {"norm": norm(MEAN)}, 8, 6, delay=True),
            block("cuba.Dense", CUBA, 6, 6, delay=True),
        ],
    ),
    Case(
        "delay and bias",
        LINE,
        lambda: [block("cuba.Dense", CUBA | {"norm": norm(MEAN)}, 8, 6, delay=True)],
        here="the last layer delays its outputs",
    ),
    Case(
        "weight norm",
        LINE,
        lambda: [
            block("sigma_delta.Input", SDNN),
            block("sigma_delta.Output", SDNN, 8, 3, weight_norm=True),
        ],
        change=lambda model: model.blocks[1].synapse.weight_g.data.mul_(1.5),
        graded=True,
    ),
    Case(
        "mask",
        LINE,
        lambda: [block("cuba.Dense", CUBA, 8, 5, mask=torch.eye(5, 8))],
        change=lambda model: model.blocks[0].synapse.weight.data.fill_(1.0),
    ),
    Case(
        "scale",
        LINE,
        lambda: [block("cuba.Dense", SHARP | {"scale": 100, "threshold": 0.29}, 8, 5)],
        "weight.* is not an integer",
    ),
    Case(
        "sigma-delta scale",
        LINE,
        lambda: [
            block("sigma_delta.Input", SDNN | {"scale": 32}),
            block("sigma_delta.Dense", SDNN | {"scale": 32}, 8, 5, weight_scale=1, **LATE),
        ],
        here="scale = 32: messages have 12 fraction bits",
        graded=True,
    ),
    Case(
        "complex norm",
        LINE,
        lambda: [block("rf.Dense", RF | {"norm": norm(MEAN)}, 8, 5)],
        here="resonators have no bias",
    ),
    Case(
        "dense over channels",
        PLANE,
        lambda: [block("cuba.Dense", CUBA, (7, 8, 2), 5, delay=True)],
        "invalid for input of size",
    ),
    Case(
        "pool",
        PLANE,
        lambda: [block("cuba.Pool", CUBA, 2), flatten(), block("cuba.Dense", CUBA, 32, 4)],
        "layer type 'pool' cannot be built",
    ),
    Case(
        "mixed messages",
        LINE,
        lambda: [block("cuba.Dense", CUBA, 8, 6), block("sigma_delta.Dense", SDNN, 6, 5, **LATE)],
        here="4096 times too small",
    ),
    Case(
        "mixed messages",
        LINE,
        lambda: [
            block("sigma_delta.Input", SDNN),
            block("sigma_delta.Dense", SDNN, 8, 6, **LATE),
            block("cuba.Dense", CUBA, 6, 5, weight_scale=9),
        ],
        here="4096 times too large",
        graded=True,
    ),
    Case(
        "no forward pass",
        LINE,
        lambda: _dense("cuba.Dense", CUBA),
        "Object dtype",
        passes=0,
    ),
]


def test_every_row_has_a_case() -> None:
    assert {case.row for case in CASES} == {row.name for row in DIFFERENCES}


def _names(cases: list[Case]) -> list[str]:
    return [f"{case.row}{' refused' if case.here else ''}" for case in cases]


@pytest.mark.slow
@pytest.mark.parametrize("case", CASES, ids=_names(CASES))
def test_differences(case: Case, tmp_path: Path) -> None:
    torch.manual_seed(11)
    model = settled(case.blocks(), case.shape, case.passes)
    case.change(model)
    network = None
    if case.here:
        with pytest.raises(NetworkError, match=case.here):
            from_slayer(model, case.shape)
    else:
        network = from_slayer(model, case.shape)
    if case.lava:
        with pytest.raises(Exception, match=case.lava):
            read_netx(model.export_hdf5(tmp_path / "network.net"), case.shape)
    else:
        stored = read_netx(model.export_hdf5(tmp_path / "network.net"), case.shape)
        assert not agrees(model, stored, case.shape, case.graded)
    assert network is None or agrees(model, network, case.shape, case.graded)


def test_pool_equals_its_file_read_as_convolution(tmp_path: Path) -> None:
    torch.manual_seed(0)
    blocks = [block("cuba.Pool", CUBA, (2, 3), delay=False), block("cuba.Pool", CUBA, 2)]
    model = settled(blocks, (3, 8, 7))
    stored = model.export_hdf5(tmp_path / "network.net")
    assert from_slayer(model, (3, 8, 7)) == read_netx(stored, (3, 8, 7), lower_pooling=True)


# -- refusals ------------------------------------------------------------------------------------

ALIF = CUBA | {"threshold_step": 0.1, "threshold_decay": 0.1, "refractory_decay": 0.1}
ADRF = RF | {"threshold_step": 0.1, "threshold_decay": 0.1, "refractory_decay": 0.1}


class Other(torch.nn.Module):
    """A norm that nobody knows."""


def _subclassed() -> Any:
    parent: Any = type(block("cuba.Dense", CUBA, 8, 5))

    class Doubled(parent):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    return Doubled(dict(CUBA), 8, 5)


# a block and the reason against it
REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "graded": (
        lambda: block("cuba.Dense", CUBA | {"graded_spike": True}, 8, 5),
        "graded_spike is true; netx ignores it",
    ),
    "activation": (
        lambda: block("sigma_delta.Dense", SDNN | {"activation": torch.tanh}, 8, 5),
        "activation is 'tanh'; netx always runs relu",
    ),
    "cumulative error": (
        lambda: block("sigma_delta.Dense", SDNN | {"cum_error": True}, 8, 5),
        "cum_error is true",
    ),
    "alif": (lambda: block("alif.Dense", ALIF, 8, 5), "adaptive threshold does not exist"),
    "adrf": (
        lambda: block("adrf.Dense", ADRF, 8, 5),
        "without its adaptation. Train with rf blocks",
    ),
    "adrf_iz": (lambda: block("adrf_iz.Dense", ADRF, 8, 5), "Train with rf_iz blocks"),
    "average": (lambda: block("cuba.Average", None, weight_scale=None), "mean of the outputs"),
    "kwta": (lambda: block("cuba.KWTA", CUBA, 8, 5, 2), "lava-dl cannot write it"),
    "transposed": (lambda: block("cuba.ConvT", CUBA, 2, 3, 3), "transposed convolution as dense"),
    "unpool": (lambda: block("cuba.Unpool", CUBA, 2), "Repeat the values"),
    "complex conv": (
        lambda: block("rf.Conv", RF, 2, 3, 3),
        "complex synapses in dense layers only",
    ),
    "complex input": (
        lambda: block("rf.Input", RF),
        "an Input layer cannot have ResonateFire neurons",
    ),
    "input norm": (
        lambda: block("cuba.Input", CUBA | {"norm": norm(MEAN)}),
        "netx has no bias, and so no norm, in its input layer",
    ),
    "norm": (lambda: block("cuba.Dense", CUBA | {"norm": Other}, 8, 5), "Other is no SLAYER norm"),
    "decays": (
        lambda: block("cuba.Dense", CUBA | CHANNELS, 8, 5),
        "parameters per channel are drawn in its first forward pass",
    ),
    "delays": (
        lambda: block("cuba.Dense", CUBA, 8, 5, delay=True),
        "delays are drawn in its first",
    ),
    "normed recurrence": (
        lambda: block("cuba.Recurrent", CUBA, 8, 5, weight_norm=True),
        "SLAYER never renews normed recurrent weights",
    ),
    "no hook": (
        lambda: block("cuba.Dense", CUBA, 8, 5, pre_hook_fx=None),
        r"weight\[0, 0, 0, 0, 0\] = .* is no multiple of 1/64 \(and 39 more\)",
    ),
    "range": (
        lambda: block("cuba.Dense", CUBA | {"scale": 4096}, 8, 5, pre_hook_fx=torch.ceil),
        r"weight\[.* is outside \[-256, 254\]",
    ),
    "subclass": (_subclassed, "its forward is from .*, not SLAYER's"),
    "torch": (lambda: torch.nn.Linear(8, 5), "torch.nn.modules.linear.Linear is no SLAYER block"),
    "dense window": (
        lambda: block("cuba.Dense", CUBA, (3, 3, 2), 5),
        r"weights are over \(C, H, W\) = \(2, 3, 3\), the block before gives \(8,\)",
    ),
    "pool": (lambda: block("cuba.Pool", CUBA, 2), r"after a layer of shape \(8,\)"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    torch.manual_seed(1)
    made, reason = REFUSED[name]
    with pytest.raises(NetworkError, match=rf"1 problem\(s\) .*\nblocks.1 .*: .*{reason}"):
        from_slayer(Chain([block("cuba.Dense", CUBA, 8, 8), made()]), LINE)


def test_all_problems_are_listed() -> None:
    model = Chain([block("cuba.KWTA", CUBA, 8, 5, 2), flatten(), block("alif.Dense", ALIF, 5, 5)])
    with pytest.raises(NetworkError, match=r"(?s)2 problem.*blocks.0 \(KWTA\).*blocks.2 \(Dense\)"):
        from_slayer(model)


@pytest.mark.parametrize(
    ("blocks", "shape", "says"),
    [
        (lambda: [block("cuba.Conv", CUBA, 2, 3, 3)], None, "Give input_shape"),
        (lambda: [block("cuba.Dense", CUBA, 8, 5)], (9,), r"\(9,\) was given, but .* \(8,\)"),
        (lambda: [block("cuba.Conv", CUBA, 3, 3, 3)], PLANE, r"expects .* with C = 3"),
        (lambda: [block("cuba.Input", CUBA)], None, "Give input_shape"),
        (list, None, "no layer with neurons"),
    ],
)
def test_input_shapes(blocks: Callable[[], Blocks], shape: Shape | None, says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        from_slayer(Chain(blocks()), shape)
