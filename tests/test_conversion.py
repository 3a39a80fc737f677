"""From an ANN to a spiking network: thresholds, norms, fine-tuning, and out to the integers."""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import norse.torch as norse
import pytest
import torch
from torch import Tensor, nn

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.netx.file import read_netx
from spikeship.models import conversion, encoding, networks, training
from spikeship.models.activity import activity
from spikeship.models.data.dataset import Dataset
from spikeship.models.encoding import generator
from spikeship.models.networks import SpikingClassifier
from spikeship.models.settings import Settings
from spikeship.models.training import Classifier
from spikeship.pipeline.deploy.calibration import calibration_messages
from spikeship.pipeline.deploy.deploy import deploy, deploy_graph
from spikeship.pipeline.deploy.run import classify
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_norse
from spikeship.pipeline.frontends.norse import convert as from_module
from spikeship.pipeline.lower import lower
from spikeship.pipeline.robustness import FloatVictim
from spikeship.pipeline.robustness.attacks.attack import attack
from spikeship.pipeline.robustness.attacks.gradient import PGD
from spikeship.pipeline.verify import verify

EIGHT = Coding.of("direct", 8, 64)
ANN = Settings.of(
    spiking=False, coding="direct", sigma=0.0, levels=64, widths=(64, 48), epochs=12, batch=64
)


def ann(model: str = "mlp", seed: int = 0, **options: Any) -> Classifier:
    """Untrained, with biases that matter and norms that have seen something."""
    torch.manual_seed(seed)
    widths = (20, 15) if model == "mlp" else (4, 6)
    classifier = Classifier(ANN.changed(model=model, widths=widths, **options))
    with torch.no_grad():
        for layer in classifier.net.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(3)
                layer.bias.normal_(0.2, 0.5)
            if isinstance(layer, nn.BatchNorm2d):
                for values in (layer.running_mean, layer.bias):
                    values.normal_(0.2, 0.3)
                for values in (layer.running_var, layer.weight):
                    values.uniform_(0.5, 1.5)
    return classifier.eval()


def images(count: int = 24, seed: int = 1) -> Tensor:
    return torch.rand((count, 1, 8, 8), generator=generator(seed))


def convert(network: Classifier, coding: Coding = EIGHT, **options: Any) -> Classifier:
    options = {"batches": 3, "batch": 8, "calibration_steps": 20, **options}
    return conversion.convert(network, coding, images(), **options)


def chain(*layers: nn.Module) -> SpikingClassifier:
    return SpikingClassifier(norse.SequentialState(*layers), "spikes")


def identity(size: int, gain: float = 1.0) -> nn.Linear:
    layer = nn.Linear(size, size, bias=False)
    layer.weight.data = gain * torch.eye(size)
    return layer


def given(*batches: Tensor) -> Callable[[], Iterable[Tensor]]:
    return lambda: iter(batches)


@pytest.mark.parametrize(("percentile", "expected"), [(99.7, 1994), (50, 1000), (100, 2000)])
def test_the_percentile_of_known_currents(percentile: float, expected: float) -> None:
    """Currents 1 .. 1000, all times 2 in the second of three mini-batches: the largest counts."""
    known = (1.0 + torch.randperm(1000, generator=generator(0))).reshape(5, 20, 10)
    net = chain(identity(10), networks.neurons(1.0, True))
    for _ in range(2):  # whatever the threshold was before
        conversion.calibrate(net, given(known, 2 * known, known / 3), percentile)
        assert [t.item() for t in networks.thresholds(net)] == [expected]


def test_the_next_layer_sees_spikes_that_stand_for_the_threshold() -> None:
    """Both neurons, of currents 1.2 and 2 = threshold, spike in every second step: 0 or 2 + 2 is the
    next current, where ReLUs would always have 1.2 + 2."""
    both = nn.Linear(2, 1, bias=False)
    both.weight.data.fill_(1)
    net = chain(identity(2), networks.neurons(1.0, True), both, networks.neurons(1.0, True))
    frames = torch.tensor([1.2, 2.0]).expand(10, 3, 2)
    conversion.calibrate(net, given(frames), 100)
    assert [t.item() for t in networks.thresholds(net)] == [2, 4]
    assert both.weight.tolist() == [[2, 2]]
    assert activity(net, frames).currents[1][:, 0, 0].tolist() == [0, 4] * 5


def test_scaling_keeps_what_a_spike_is_worth() -> None:
    net = chain(identity(4), networks.neurons(1.0, True), identity(4), networks.neurons(1.0, True))
    conversion.scale_thresholds(net, 0.25)
    assert [t.item() for t in networks.thresholds(net)] == [0.25, 0.25]
    assert torch.equal(net.body[0].weight, torch.eye(4))
    assert torch.equal(net.body[2].weight, 0.25 * torch.eye(4))


@pytest.mark.parametrize(("text", "call"), [
    ("layer 1: the 99.7th percentile of its input currents is -1, so its neurons would be silent",
     lambda net, x: conversion.calibrate(net, given(-x))),
    ("percentile = 0; one above 0", lambda net, x: conversion.calibrate(net, given(x), 0)),
    ("percentile = 101; one above 0", lambda net, x: conversion.calibrate(net, given(x), 101)),
    ("scale = 0; thresholds need a scale", lambda net, _: conversion.scale_thresholds(net, 0)),
])  # fmt: skip
def test_what_cannot_be_calibrated(text: str, call: Callable[..., None]) -> None:
    net = chain(identity(4), networks.neurons(1.0, True))
    with pytest.raises(ValueError, match=text):
        call(net, torch.ones(3, 2, 4))


def test_events() -> None:
    """They are coded already, and calibrated in their own steps."""
    options = {"coding": "events", "levels": 1, "shape": (2, 8, 8), "steps": 5}
    network = ann(**options)
    spikes = (torch.rand((24, 5, 2, 8, 8), generator=generator(0)) < 0.3).to(torch.int8)
    converted = conversion.convert(network, network.settings.coding, spikes, batches=3, batch=8)
    assert converted.logits(spikes, generator(0)).shape == (24, 10)
    with pytest.raises(ValueError, match="trained on 'events' data, the coding is 'direct'"):
        convert(network)


def test_fixed_thresholds() -> None:
    with pytest.raises(ValueError, match="fixed thresholds; build it with learn_thresholds=True"):
        conversion.scale_thresholds(chain(identity(4), networks.neurons(1.0)), 0.3)


def test_what_cannot_be_converted() -> None:
    spiking = Classifier(replace(ANN, spiking=True))
    text = r"(?s)spiking already.*mean of signed_poisson is 2x - 1.*24 images, 704 needed"
    with pytest.raises(ValueError, match=text):
        conversion.convert(spiking, Coding.of("signed_poisson"), images())


@pytest.mark.parametrize("leak", [0.8, 1.0])
@pytest.mark.parametrize("scale", [1.0, 0.3])
def test_weights_and_biases_are_the_anns(scale: float, leak: float) -> None:
    """With ReLUs for its neurons, the converted network is the ANN: biases in proportion, the logits
    in its units."""
    network = ann()
    converted = convert(network, scale=scale, leak=leak)
    x = torch.round(images() * 64) / 64
    frames = converted.encode(x, generator(0))
    found = converted.scale * activity(converted.net, frames, "activation").logits
    settled = sum(1 - 0.5**t for t in range(1, 9)) / 8  # the readout's v <- (v + i) / 2
    torch.testing.assert_close(found / settled, network.net(x))
    ones = torch.stack(networks.thresholds(convert(network, leak=leak).net))
    torch.testing.assert_close(torch.stack(networks.thresholds(converted.net)), scale * ones)
    assert converted.settings.leak == leak
    assert {type(c).__name__ for c in converted.net.body if hasattr(c, "threshold")} == {
        "IAFCell" if leak == 1 else "LIFBoxCell"
    }


def test_norms_are_moved_and_estimated_again() -> None:
    network = ann("cnn")
    converted = convert(network, scale=0.3)
    net = copy.deepcopy(converted.net).train()
    theirs = [m for m in network.net if isinstance(m, nn.BatchNorm2d)]
    ours = [m for m in converted.net.body if isinstance(m, nn.BatchNorm2d)]
    norms = (net.body[1], net.body[5])
    seen: dict[nn.Module, list[Tensor]] = {norm: [] for norm in norms}
    for norm in norms:
        norm.register_forward_pre_hook(lambda norm, x: seen[norm].append(x[0]))
    for batch in images().split(8):
        activity(net, encoding.real(EIGHT, batch, generator(0)), norms_over_steps=True)
    for a, b, inputs in zip(theirs, ours, seen.values(), strict=True):
        assert torch.equal(a.weight, b.weight)
        assert torch.equal(a.bias, b.bias)
        assert len(inputs) == 3
        mean = sum(x.mean((0, 2, 3)) for x in inputs) / 3
        variance = sum(x.var((0, 2, 3)) for x in inputs) / 3
        torch.testing.assert_close(b.running_mean, mean)
        torch.testing.assert_close(b.running_var, variance)
        assert not torch.allclose(a.running_mean, b.running_mean, rtol=0.1)
        assert b.momentum == a.momentum


def test_calibration_normalizes_with_the_mini_batch() -> None:
    """Whatever the ANN's running statistics are, the thresholds are the same."""
    network = ann("cnn")
    before = networks.thresholds(convert(network).net)
    for layer in network.net:
        if isinstance(layer, nn.BatchNorm2d):
            layer.running_mean.fill_(7)
            layer.running_var.fill_(100)
    assert torch.equal(torch.stack(before), torch.stack(networks.thresholds(convert(network).net)))


def test_folded_and_unfolded_norms_spike_identically() -> None:
    """By hand, and in the graph that is quantized; float64."""
    net = convert(ann("cnn"), scale=0.3).net.double()
    folded = copy.deepcopy(net)
    body = folded.body
    for conv, norm in ((body[0], body[1]), (body[4], body[5])):
        gain = norm.weight / (norm.running_var + norm.eps).sqrt()
        conv.weight.data *= gain[:, None, None, None]
        conv.bias.data = (conv.bias - norm.running_mean) * gain + norm.bias
    body[1] = body[5] = nn.Identity()
    frames = encoding.real(EIGHT, images().double(), generator(0))
    graph = from_norse(net, (1, 8, 8))
    assert sum("BatchNorm" in type(layer).__name__ for layer in net.body) == 2
    by_graph = execute(lower(graph), frames.transpose(0, 1)).spikes
    for layer, (a, b) in enumerate(
        zip(activity(net, frames).spikes, activity(folded, frames).spikes, strict=True)
    ):
        assert torch.equal(a, b)
        assert torch.equal(a.transpose(0, 1), torch.as_tensor(by_graph[layer]).double())
        assert 0.02 < a.mean() < 0.98


@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize("readout", ["spikes", "voltage"])
@pytest.mark.parametrize("coding", ["direct", "rsc2", "poisson", "phase"])
def test_a_converted_network_is_saved(
    model: str, readout: networks.Readout, coding: Any, tmp_path: Path
) -> None:
    coding = Coding.of(coding, 8, 64, 0.1 if coding == "rsc2" else 0.0)
    network = ann(model)
    converted = convert(network, coding, readout=readout, scale=0.5)
    path = tmp_path / "converted.ckpt"
    training.save(converted, path)
    loaded = training.load(path)
    assert loaded.settings == converted.settings
    assert loaded.settings.coding == coding
    assert loaded.settings.start_digest == training.digest(network.net)
    assert len(networks.thresholds(loaded.net)) == 2 + (readout == "spikes")
    x = images()
    assert torch.equal(loaded.logits(x, generator(3)), converted.logits(x, generator(3)))
    assert [t.item() for t in networks.thresholds(loaded.net)] != pytest.approx([1.0] * 3)


@pytest.fixture(scope="module")
def trained(digits: Dataset, tmp_path_factory: pytest.TempPathFactory) -> Classifier:
    folder = tmp_path_factory.mktemp("ann")
    return training.train(ANN, digits, folder, progress=False)[0]


def calibration(digits: Dataset) -> Tensor:
    return digits.train[list(range(704))][0]


def test_many_steps_come_close_to_the_ann(trained: Classifier, digits: Dataset) -> None:
    coding = Coding.of("direct", 64, 64)
    converted = conversion.convert(trained, coding, calibration(digits))
    expected = training.accuracy(trained, digits.test)
    assert expected > 0.95
    assert training.accuracy(converted, digits.test) > expected - 0.02


@pytest.mark.slow
def test_fine_tuning_at_few_steps(trained: Classifier, digits: Dataset, tmp_path: Path) -> None:
    """It lifts accuracy under attack, moves the thresholds, and keeps them above the least one."""
    converted = conversion.convert(trained, EIGHT, calibration(digits), scale=0.3)
    settings = conversion.fine_tuning(converted.settings, 0.1, epochs=3)
    tuned, _ = training.train(settings, digits, tmp_path, start=converted, progress=False)
    x, y = digits.test[list(range(150))]
    accuracy = [
        attack(FloatVictim(net), PGD(0.1, steps=10), x, y).accuracy for net in (converted, tuned)
    ]
    assert accuracy[1] > accuracy[0] + 0.1
    assert training.accuracy(tuned, digits.test) > 0.93
    before, after = (torch.stack(networks.thresholds(net.net)) for net in (converted, tuned))
    assert (before - after).abs().min() > 1e-3


def test_fine_tuning_does_not_depend_on_how_the_ann_was_trained() -> None:
    plain = convert(ann()).settings
    other = replace(plain, sparsity=0.01, rate_penalty=0.1, teacher="x", distillation=1.0, beta=6.0)
    settings = conversion.fine_tuning(other, 0.05, epochs=7)
    assert settings == conversion.fine_tuning(plain, 0.05, epochs=7)
    assert (settings.objective, settings.attack, settings.beta) == ("trades", "rfgsm", 2.0)
    assert (settings.epsilon, settings.epochs, settings.penalized) == (0.05, 7, False)


def test_thresholds_stay_above_the_least() -> None:
    """After every update."""
    converted = convert(ann())
    first, second = networks.thresholds(converted.net)
    first.data.fill_(-1)
    second.data.fill_(0.5)
    converted.on_train_batch_end()
    assert [first.item(), second.item()] == pytest.approx([0.03, 0.5])


@pytest.mark.slow
@pytest.mark.parametrize("readout", ["spikes", "voltage"])
def test_out_to_the_integers(
    trained: Classifier, digits: Dataset, readout: networks.Readout, tmp_path: Path
) -> None:
    """The engine's spikes are the float network's; so is its accuracy; the file holds the network."""
    data = calibration(digits)
    converted = conversion.convert(trained, EIGHT, data, scale=0.3, readout=readout)
    deployed = deploy(converted, digits).save(tmp_path / "digits.net")
    network = deployed.network
    assert read_netx(tmp_path / "digits.net") == network
    messages = calibration_messages(EIGHT, digits.test[list(range(64))][0])
    seen = verify(deployed, messages, lava_samples=0)
    assert seen.ok
    assert seen.to_float is not None
    assert all(layer.equal > 0.97 for layer in seen.to_float)
    assert [p.layer.neuron.v_decay for p in network.populations[:2]] == [0, 0]
    expected = training.accuracy(converted, digits.test)
    assert classify(deployed, digits.test).accuracy == pytest.approx(expected, abs=0.01)


@pytest.mark.slow
@pytest.mark.parametrize("leak", [0.8, 1.0])
def test_convolutions_and_norms_too(leak: float, tmp_path: Path) -> None:
    """Thresholds of every layer its own, norms folded; untrained."""
    converted = convert(ann("cnn"), scale=0.5, leak=leak)
    graph = from_module(
        converted.net, (1, 8, 8), calibration_messages(EIGHT, images()) / EIGHT.levels
    )
    deployed = deploy_graph(graph, calibration_messages(EIGHT, images()), Recipe.of(EIGHT))
    seen = verify(deployed, calibration_messages(EIGHT, images(seed=2)), lava_samples=0)
    assert seen.ok
    neurons = [p.layer.neuron for p in deployed.network.populations]
    assert [n.v_decay for n in neurons if n.threshold < 131071] == 2 * [0 if leak == 1 else 819]
