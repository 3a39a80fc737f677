"""SpikingJelly modules given directly: every spike as its own forward gives it, or refused by name."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeship.pipeline.deploy.deploy import deploy
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import frontend_of
from spikeship.pipeline.frontends.norse_modules import UnsupportedModuleError
from spikeship.pipeline.graph import chain
from spikeship.pipeline.verify import verify

if sys.version_info >= (3, 11):  # where a release is newer than what was tried; 3.10 must have it
    pytest.importorskip("spikingjelly", reason="spikingjelly is in the extra dev")
with warnings.catch_warnings():
    warnings.simplefilter("ignore")  # of torch.jit, at import
    functional = importlib.import_module("spikingjelly.activation_based.functional")
    layer = importlib.import_module("spikingjelly.activation_based.layer")
    neuron = importlib.import_module("spikingjelly.activation_based.neuron")

STEPS = 12


def inputs(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).random((6, STEPS, *shape)) < 0.5).astype(np.int32)


def converted(
    model: nn.Module, shape: tuple[int, ...], frames: np.ndarray | None = None
) -> nir.NIRGraph:
    frontend = frontend_of(model)
    assert frontend.name == "SpikingJelly"
    return frontend.convert(model, shape, frames)


NEURONS: dict[str, Callable[..., nn.Module]] = {
    "IFNode": lambda **k: neuron.IFNode(v_threshold=0.2, **k),
    "LIFNode": lambda **k: neuron.LIFNode(tau=2.0, v_threshold=0.1, **k),
    "LIFNode, input not decayed": lambda **k: neuron.LIFNode(tau=3.0, decay_input=False, v_threshold=0.2, **k),
    "ParametricLIFNode": lambda **k: neuron.ParametricLIFNode(init_tau=1.7, v_threshold=0.1, **k),
    "ParametricLIFNode, input not decayed": lambda **k: neuron.ParametricLIFNode(init_tau=2.5, decay_input=False, v_threshold=0.2, **k),
}  # fmt: skip


def network(make: Callable[..., nn.Module], mode: str = "s", **options: Any) -> nn.Module:
    torch.manual_seed(0)
    net = nn.Sequential(
        layer.Conv2d(1, 3, 3, padding=1), layer.BatchNorm2d(3), make(**options), layer.AvgPool2d(2),
        layer.Flatten(), layer.Dropout(0.5), layer.Linear(27, 4), make(**options),
    )  # fmt: skip
    with torch.no_grad():
        net[6].weight *= 4
    functional.set_step_mode(net, mode)
    return net


def run(net: nn.Module, x: np.ndarray, mode: str) -> np.ndarray:
    functional.reset_net(net)
    frames = torch.tensor(x).float().transpose(0, 1)
    with torch.no_grad():
        out = net(frames) if mode == "m" else torch.stack([net(frame) for frame in frames])
    functional.reset_net(net)
    return out.transpose(0, 1).numpy()


@pytest.mark.slow
@pytest.mark.parametrize("mode", ["s", "m"])
@pytest.mark.parametrize("v_reset", [None, 0.0, -0.1])
@pytest.mark.parametrize("name", NEURONS)
def test_every_spike_is_spikingjellys(name: str, v_reset: float | None, mode: str) -> None:
    net, x = network(NEURONS[name], mode, v_reset=v_reset), inputs(1, 6, 6)
    graph = converted(net, (1, 6, 6), x)
    theirs = run(net.eval(), x, mode)
    assert (execute(graph, x.astype(float)).spikes[-1] == theirs).all()
    assert 0.01 < theirs.mean() < 0.99


def test_a_voltage_at_the_threshold_fires() -> None:
    """Inputs of 1/2 reach a threshold of 1 exactly, in float and in the integers."""
    net = nn.Sequential(
        layer.Linear(2, 2, bias=False), neuron.IFNode(v_threshold=1.0, v_reset=None)
    )
    net[0].weight.data = torch.eye(2) / 2
    x = np.ones((2, STEPS, 2), np.int32)
    theirs = run(net.eval(), x, "s")
    assert theirs[0, :4, 0].tolist() == [0, 1, 0, 1]
    assert (execute(converted(net, (2,)), x.astype(float)).spikes[-1] == theirs).all()
    net[1].v_reset = 0.0
    chip = deploy(net, inputs=x)
    assert verify(chip, x, expect=run(net, x, "s"), lava_samples=0, tolerance=0.0).ok


class Rate(nn.Module):
    """As in SpikingJelly's tutorials: one image for all steps, and the firing rate."""

    def __init__(self) -> None:
        super().__init__()
        self.body = network(NEURONS["LIFNode"], "m")

    def forward(self, x: Tensor) -> Tensor:
        return self.body(x.unsqueeze(0).repeat(STEPS, 1, 1, 1, 1)).mean(0)


def test_one_image_for_all_steps() -> None:
    net, x = Rate(), np.repeat(inputs(1, 6, 6)[:, :1], STEPS, 1)
    graph = converted(net, (1, 6, 6), x)
    functional.reset_net(net)
    with torch.no_grad():
        theirs = net.eval()(torch.tensor(x[:, 0]).float()).numpy()
    ours = execute(graph, x.astype(float)).spikes[-1].mean(1)
    assert np.abs(ours - theirs).max() < 1e-6
    assert theirs.any()


@pytest.mark.parametrize("mode", ["s", "m"])
def test_a_neuron_that_never_spikes_is_a_readout(mode: str) -> None:
    net = network(NEURONS["LIFNode"], mode)
    net[-1] = neuron.LIFNode(tau=2.0, v_threshold=float("inf"), step_mode=mode)
    graph = converted(net, (1, 6, 6), inputs(1, 6, 6))
    assert isinstance(chain(graph)[-1][1], nir.LI)


REFUSED: dict[str, tuple[Callable[[], nn.Module], str]] = {
    "another neuron": (lambda: network(neuron.QIFNode), r"module 2 \(QIFNode\): is not supported: its voltage equation is quadratic"),
    "no order of resets": (lambda: network(NEURONS["IFNode"], v_reset=0.7), r"v_reset = 0.7, not below v_threshold = 0.2"),
    "never spikes": (
        lambda: nn.Sequential(layer.Flatten(), layer.Linear(36, 4), neuron.IFNode(v_threshold=float("inf")), layer.Linear(4, 2), neuron.IFNode()),
        "never spikes",
    ),
    "maximum of currents": (
        lambda: nn.Sequential(layer.Conv2d(1, 3, 3), layer.MaxPool2d(2), neuron.IFNode()), "a maximum is exact only of spikes",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    make, message = REFUSED[case]
    with pytest.raises(UnsupportedModuleError, match=message):
        converted(make(), (1, 6, 6))


def test_from_module_to_verification() -> None:
    net, x = network(NEURONS["LIFNode"], "m"), inputs(1, 6, 6)
    chip = deploy(net, inputs=x)
    found = verify(chip, x, module=net, expect=run(net.eval(), x, "m"), lava_samples=0)
    assert found.ok
    assert all(a.exact for a in found.to_module or ())
