"""SLAYER twins: trained by the same loop, and equal to their integers spike for spike."""

from __future__ import annotations

import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikeship.hw_targets import Conv, CubaLIF, Dense, Flatten, Input, Network, Recipe
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.simulate.trace import Overflow
from spikeship.models import encoding, networks, slayer, training
from spikeship.models.data.dataset import Dataset
from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.pipeline.deploy.run import run_recipe
from spikeship.pipeline.frontends.slayer import from_slayer

pytestmark = pytest.mark.lava

QUICK = Settings.of(epochs=3, widths=(32,), steps=4, framework="slayer")


def integers(net: slayer.SlayerClassifier, coding: Coding) -> Network:
    """The network in integers, from the formulas in the docstrings and the weights alone."""
    layers: list[Any] = [Input(net.shape)]
    weights = [
        p.detach().double().numpy() for name, p in net.named_parameters() if "weight" in name
    ]
    for i, w in enumerate(weights):
        per_one = net.levels if i == 0 else 1
        scale = slayer.SCALE
        while per_one * slayer.THRESHOLD * scale > slayer.FIRST_THRESHOLD_MAX:
            scale //= 2
        neuron = CubaLIF(4096, round(4096 * slayer.DECAY), int(per_one * slayer.THRESHOLD * scale))
        whole = np.clip(2 * np.round(w * scale / 2), -256, 254).astype(int)[..., 0]
        if whole.shape[2:] == (1, 1):
            if all(not isinstance(layer, Flatten) for layer in layers):
                layers.append(Flatten())
            layers.append(Dense(whole[..., 0, 0], neuron=neuron))
        else:
            padding = 0 if min(net.shape[1:]) >= 16 else 1
            layers.append(Conv(whole, neuron=neuron, stride=(2, 2), padding=(padding, padding)))
    return Network(layers, Recipe(coding, reset_interval=coding.steps, reset_offset=1))


def assert_equal_spikes(
    net: slayer.SlayerClassifier, coding: Coding, messages: np.ndarray, backend: Any = "engine"
) -> None:
    network = integers(net, coding)
    assert from_slayer(net, net.shape).digest == network.digest
    assert_runs_as(net, network, messages, backend)


def assert_runs_as(
    net: slayer.SlayerClassifier, network: Network, messages: np.ndarray, backend: Any = "engine"
) -> None:
    """SLAYER's own forward pass and the aligned trace: each spike of each layer."""
    trace = run_recipe(network, messages, backend=backend, record=("spikes",))
    frames = torch.tensor(messages / network.recipe.coding.levels, dtype=torch.float32).transpose(
        0, 1
    )
    with torch.no_grad():
        expected = net.spikes(frames)
    for theirs, ours in zip(expected, trace.spikes, strict=True):
        assert 0.02 < theirs.mean() < 0.9
        assert np.array_equal(theirs.numpy(), ours)
    if backend == "engine":
        assert all(o == Overflow() for o in trace.overflow)


def trained(data: Dataset, folder: Path, **settings: Any) -> training.Classifier:
    chosen = QUICK.changed(epochs=2, **settings)
    return training.train(chosen, data, folder, progress=False)[0]


@pytest.mark.slow
@pytest.mark.parametrize(("model", "coding", "sigma", "levels"), [
    ("mlp", "rsc1", 0.1, 16),
    ("mlp", "direct", 0.0, 100),
    ("cnn", "rsc2", 0.2, 16),
])  # fmt: skip
def test_the_trained_network_is_its_integers(
    model: str, coding: Any, sigma: float, levels: int, digits: Dataset, tmp_path: Path
) -> None:
    """Every spike of every layer, for all test images."""
    net = trained(
        digits, tmp_path, model=model, widths=None, coding=coding, sigma=sigma, levels=levels
    )
    coding = net.settings.coding
    messages = encoding.integers(coding, digits.test.images, generator(7))
    assert_equal_spikes(net.net, coding, messages)
    logits = [  # what it saw in training, and those integers: the noise is rounded on the way
        net.net(frames)
        for frames in (
            encoding.real(coding, digits.test.images, generator(7)),
            torch.tensor(messages / levels, dtype=torch.float32).transpose(0, 1),
        )
    ]
    assert torch.equal(*logits)


@pytest.mark.slow
@pytest.mark.parametrize(("model", "widths"), [("mlp", (32,)), ("cnn", (4, 8))])
def test_the_trained_network_runs_on_lava(
    model: str, widths: tuple[int, ...], digits: Dataset, tmp_path: Path
) -> None:
    net = trained(digits, tmp_path, model=model, widths=widths)
    coding = net.settings.coding
    messages = encoding.integers(coding, digits.test.images[:3], generator(7))
    assert_equal_spikes(net.net, coding, messages, backend="lava")


def test_larger_images_have_larger_kernels() -> None:
    torch.manual_seed(0)
    net = slayer.snn("cnn", (1, 28, 28), 10, 16)
    coding = Coding.of("direct", 5)
    images = torch.rand(3, 1, 28, 28)
    for index, gain in ((0, 2), (1, 3), (3, 4)):
        net.blocks[index].synapse.weight.data *= gain
    assert_equal_spikes(net, coding, encoding.integers(coding, images, generator(0)))


def test_biases_start_with_the_data() -> None:
    """The recipe's reset makes it so: each layer forgets what biases did before its first data."""
    torch.manual_seed(0)
    net = slayer.snn("mlp", (1, 8, 8), 10, 16, widths=(32, 24)).eval()
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    for block in net.blocks[1:]:
        size = block.synapse.out_channels
        norm = MeanOnlyBatchNorm(size, pre_hook_fx=block.neuron.quantize_8bit)
        norm.running_mean = torch.linspace(-1.5, 0.5, size)
        block.neuron.norm = norm.eval()
    coding = Coding.of("direct", 6)
    messages = encoding.integers(coding, torch.rand(5, 1, 8, 8), generator(0))
    recipe = integers(net, coding).recipe
    network = Network(from_slayer(net, net.shape).layers, recipe)
    assert all(p.layer.bias is not None for p in network.populations[-3:])
    assert_runs_as(net, network, messages)


@pytest.mark.parametrize("levels", [1, 16, 255])
def test_spikes_are_strictly_above_the_threshold(levels: int) -> None:
    """At the threshold exactly there is none, however large it is; the least step above has one."""
    net = slayer.snn("mlp", (1, 2, 2), 2, levels, widths=(2,))
    neuron = net.blocks[1].neuron
    weight = net.blocks[1].synapse.weight
    whole = torch.zeros(2, 4)
    assert neuron.v_th_mant % 2 == 0
    whole[:, 0] = torch.tensor([1, 1]) * 2.0
    whole[1, 1] = 2
    weight.data = (whole / neuron.scale).reshape(weight.shape)
    frame = torch.tensor([neuron.v_th_mant / 2, 1, 0, 0]).reshape(1, 1, 1, 2, 2) / levels
    assert net.spikes(frame)[0].flatten().tolist() == [0, 1]


@pytest.mark.parametrize("model", slayer.MODELS)
@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 28, 28)])
def test_the_twin_has_the_norse_weights(model: str, shape: tuple[int, ...]) -> None:
    norse = networks.snn(model, shape, 10)
    twin = slayer.snn(model, shape, 10, 16)
    shapes = [m.weight.shape for m in norse.modules() if isinstance(m, (nn.Linear, nn.Conv2d))]
    ours = [b.synapse.weight.squeeze(-1).shape for b in twin.blocks if hasattr(b, "synapse")]
    assert [tuple(s)[: len(t)] for s, t in zip(ours, shapes, strict=True)] == list(
        map(tuple, shapes)
    )
    assert twin(torch.rand(3, 2, *shape)).shape == (2, 10)


def test_gradients_reach_the_image() -> None:
    torch.manual_seed(0)
    net = slayer.snn("mlp", (1, 8, 8), 10, 16)
    frames = torch.rand(4, 2, 1, 8, 8, requires_grad=True)
    net(frames).max().backward()
    assert frames.grad is not None
    assert frames.grad.abs().sum() > 0


@pytest.mark.slow
def test_training_learns_and_repeats(digits: Dataset, tmp_path: Path) -> None:
    runs = [training.train(QUICK, digits, tmp_path / name, progress=False) for name in ("a", "b")]
    (first, path), (second, _) = runs
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)
    assert training.accuracy(first, digits.validation) > 0.8
    assert training.load(path).settings == replace(QUICK, shape=(1, 8, 8))
    before = path.stat().st_mtime_ns
    training.train(QUICK, digits, path.parent, progress=False)
    assert path.stat().st_mtime_ns == before
    training.train(replace(QUICK, framework="norse"), digits, path.parent, progress=False)
    assert path.stat().st_mtime_ns != before


@pytest.mark.slow
def test_an_interrupted_run_goes_on(digits: Dataset, tmp_path: Path, monkeypatch) -> None:
    """Interrupted in its last epoch, a run does only that epoch again."""
    seen = []
    step = training.Classifier.training_step

    def interrupt(self, batch, index):
        seen.append(self.current_epoch)
        if len(seen) == 100:
            raise KeyboardInterrupt
        return step(self, batch, index)

    monkeypatch.setattr(training.Classifier, "training_step", interrupt)
    with pytest.raises(KeyboardInterrupt):
        training.train(QUICK, digits, tmp_path, progress=False)
    net, _ = training.train(QUICK, digits, tmp_path, progress=False)
    assert set(seen[100:]) == {2}
    assert training.accuracy(net, digits.validation) > 0.8


def test_events_are_seen_as_they_are() -> None:
    net = slayer.snn("cnn", (2, 8, 8), 10, levels=1)
    assert net.blocks[0].neuron.v_th_mant == net.blocks[1].neuron.v_th_mant


@pytest.mark.parametrize(("arguments", "message"), [
    ({"readout": "voltage"}, "readout 'voltage' is not possible with SLAYER.*use readout 'spikes'"),
    ({"model": "vgg"}, "no SLAYER twin of model 'vgg'; choose from mlp, cnn"),
    ({"levels": 5000}, "levels = 5000: the threshold of the first layer does not fit; use 4096"),
])  # fmt: skip
def test_what_cannot_be_built(arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        slayer.snn(**{"model": "mlp", "shape": (1, 8, 8), "classes": 10, "levels": 16, **arguments})


def test_lava_dl_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lava.lib.dl.slayer.block", None)
    with pytest.raises(slayer.SlayerMissingError, match=r"Python 3\.10.*spikeship\[lava\]"):
        training.Classifier(QUICK)
