"""The ANN twin at few bits, and its multiply-adds and memory."""

from __future__ import annotations

import itertools
import math
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from spikeship.models import networks, training
from spikeship.models.data.dataset import Dataset
from spikeship.models.encoding import generator
from spikeship.models.quantized_ann import (
    IMAGE_BITS,
    Quantizer,
    activation_bits_for,
    quantize,
    work,
)
from spikeship.models.settings import Settings

SETTINGS = Settings(spiking=False, widths=(12,), shape=(1, 8, 8), seed=3)
CNN = replace(SETTINGS, model="cnn", widths=(3, 4))


def ann(settings: Settings) -> training.Classifier:
    """Untrained; batch norms have seen data, so that folding them matters."""
    torch.manual_seed(settings.seed)
    classifier = training.Classifier(settings)
    classifier.train()
    for _ in range(20):
        classifier.net(torch.rand(50, *settings.shape))
    return classifier.eval()


def images(count: int = 40) -> torch.Tensor:
    return torch.rand(count, 1, 8, 8, generator=generator(1)).round(decimals=1)


def logits(classifier: training.Classifier, x: torch.Tensor) -> torch.Tensor:
    with torch.no_grad():
        return classifier.logits(x, generator(0))


@pytest.mark.parametrize("steps", [1, 2, 3, 4, 7, 8, 15, 16, 255, 256])
def test_activation_bits(steps: int) -> None:
    assert activation_bits_for(steps) == math.ceil(math.log2(steps + 1))


def test_no_steps() -> None:
    with pytest.raises(ValueError, match="steps = 0; 1 or more are needed"):
        activation_bits_for(0)


def test_quantizer() -> None:
    """Round to even, clip at both ends; a bit more can only lose less."""
    quantizer = Quantizer(0.5, -3, 3)
    x = torch.tensor([-9.0, -1.5, -0.2, 0.0, 0.25, 0.75, 1.1, 1.5, 2.0])
    assert quantizer(x).tolist() == [-1.5, -1.5, 0, 0, 0, 1.0, 1.0, 1.5, 1.5]
    values = torch.randn(1000, generator=generator(0))
    errors = []
    for bits in range(2, 9):
        most = 2 ** (bits - 1) - 1
        found = Quantizer.of(values, -most, most)
        assert len(found(values).unique()) <= 2**bits - 1
        errors.append(float((found(values) - values).square().mean()))
    assert errors == sorted(errors, reverse=True)
    largest = float(values.abs().max())
    full = float((Quantizer(largest / 3, -3, 3)(values) - values).square().mean())
    assert errors[1] < full  # the best range leaves the largest out
    assert not Quantizer.of(torch.zeros(3), 0, 1)(torch.zeros(3)).any()


@pytest.mark.parametrize("settings", [SETTINGS, CNN], ids=["mlp", "cnn"])
def test_what_multipliers_see(settings: Settings) -> None:
    """Every layer with weights reads no more levels than its bits have, and holds no more."""
    float_ann = ann(settings)
    quantized = quantize(float_ann, images(), 4, 2)
    seen: list[tuple[int, int]] = []
    for layer in quantized.net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(
                lambda layer, x, _: seen.append((len(layer.weight.unique()), len(x[0].unique())))
            )
    logits(quantized, images())
    assert len(seen) > 1
    assert all(levels <= 15 for levels, _ in seen)
    assert seen[0][1] <= 2**IMAGE_BITS
    assert seen[0][1] > 4  # the image keeps its 8 bits
    assert all(1 < levels <= 4 for _, levels in seen[1:])


@pytest.mark.parametrize("settings", [SETTINGS, CNN], ids=["mlp", "cnn"])
def test_many_bits_change_nothing(settings: Settings) -> None:
    """Batch norms folded, 16 bits each: the float network up to 1e-3 of its logits; which is untouched."""
    float_ann = ann(settings)
    before = {name: tensor.clone() for name, tensor in float_ann.state_dict().items()}
    expected = logits(float_ann, images())
    quantized = quantize(float_ann, images(), 16, 16)
    assert not any(isinstance(layer, nn.BatchNorm2d) for layer in quantized.net.modules())
    error = (logits(quantized, images()) - expected).abs().max() / expected.abs().max()
    assert 0 < error < 4e-3  # images are bytes
    coarse = (logits(quantize(float_ann, images(), 3, 2), images()) - expected).abs().max()
    assert coarse > 10 * error * expected.abs().max()
    after = float_ann.state_dict()
    assert all(torch.equal(before[name], after[name]) for name in before)


def test_ranges_are_those_of_what_arrives() -> None:
    """Each is chosen on what the layers before, quantized already, give."""
    quantized = quantize(ann(CNN), images(), 3, 2)
    x, found = images(), []
    with torch.no_grad():
        for layer in quantized.net.children():
            if isinstance(layer, Quantizer):
                found.append(layer.scale)
                assert layer.scale == Quantizer.of(x, layer.low, layer.high).scale
            x = layer(x)
    assert len(found) == 3


def test_accuracy_of_a_trained_one(trained: Path, digits: Dataset) -> None:
    classifier = training.load(trained / "ann/best.ckpt")
    accuracy = training.accuracy(classifier, digits.test)
    calibration = digits.train.first(200).images
    fine = training.accuracy(quantize(classifier, calibration, 8, 8), digits.test)
    coarse = training.accuracy(quantize(classifier, calibration, 2, 1), digits.test)
    assert abs(fine - accuracy) < 0.01
    assert coarse < accuracy - 0.02


@pytest.mark.parametrize(
    ("settings", "bits", "shift", "message"),
    [
        (replace(SETTINGS, spiking=True), (8, 8), 0, "a spiking network was given"),
        (SETTINGS, (1, 0), 0, "weight_bits = 1; with their sign 2.*activation_bits = 0; 1 or more"),
        (SETTINGS, (8, 8), -1, "images reach -1; activations are unsigned"),
    ],
)
def test_refused(settings: Settings, bits: tuple[int, int], shift: float, message: str) -> None:
    classifier = training.Classifier(settings)
    with pytest.raises(ValueError, match=message):
        quantize(classifier, images() + shift, *bits)


def brute_force(layer: nn.Module, x: torch.Tensor) -> tuple[int, int]:
    """(dense, effective) products of one image, tap by tap; taps on the padding are none."""
    dense = effective = 0
    if isinstance(layer, nn.Linear):
        for row in layer.weight.tolist():
            for w, value in zip(row, x.tolist(), strict=True):
                dense += 1
                effective += w != 0 and value != 0
        return dense, effective
    assert isinstance(layer, nn.Conv2d)
    (stride, _), (padding, _) = layer.stride, map(int, layer.padding)
    size = x.shape[1]
    for kernel in layer.weight:
        side = kernel.shape[1]
        for row, column in itertools.product(
            range(0, size + 2 * padding - side + 1, stride), repeat=2
        ):
            for c, ky, kx in itertools.product(*map(range, kernel.shape)):
                y, z = row + ky - padding, column + kx - padding
                if 0 <= y < size and 0 <= z < size:
                    dense += 1
                    effective += float(kernel[c, ky, kx]) != 0 and float(x[c, y, z]) != 0
    return dense, effective


@pytest.mark.parametrize("settings", [SETTINGS, CNN], ids=["mlp", "cnn"])
def test_work(settings: Settings) -> None:
    classifier = quantize(ann(settings), images(), 2, 2)
    x = images(3)
    found = work(classifier, x, batch=2)
    inputs: list[tuple[nn.Module, torch.Tensor, torch.Tensor]] = []
    for layer in classifier.net.modules():
        if isinstance(layer, nn.Linear | nn.Conv2d):
            layer.register_forward_hook(lambda layer, x, y: inputs.append((layer, x[0], y)))
    logits(classifier, x)
    assert len(inputs) == len(found.layers) == len(settings.widths or ()) + 1
    for (layer, arriving, out), part in zip(inputs, found.layers, strict=True):
        each = [brute_force(layer, image) for image in arriving]
        assert part.macs == each[0][0]
        assert part.nonzero_macs == pytest.approx(sum(e for _, e in each) / 3, rel=1e-12)
        assert 0 < part.nonzero_macs < part.macs
        assert isinstance(layer, nn.Linear | nn.Conv2d)
        assert part.weights == layer.weight.numel()
        assert part.biases == len(layer.weight)
        assert (part.inputs, part.outputs) == (arriving[0].numel(), out[0].numel())
    assert found.images == 3
    assert found.macs == sum(layer.macs for layer in found.layers)
    assert found.nonzero_macs == sum(layer.nonzero_macs for layer in found.layers)


def test_work_of_the_mlp() -> None:
    """By hand: 64-12-10."""
    found = work(ann(SETTINGS), images(2))
    assert found.macs == 64 * 12 + 12 * 10 == networks.macs(ann(SETTINGS).net, (1, 8, 8))
    assert found.footprint_bytes == 4 * (64 * 12 + 12 + 12 * 10 + 10)
    assert [found.weight_bytes(bits) for bits in (8, 4, 3)] == [888, 444, 333]
    assert [found.activation_bytes(bits) for bits in (8, 2, 1)] == [98, 25, 13]


def test_work_is_refused() -> None:
    with pytest.raises(ValueError, match="no images"):
        work(ann(SETTINGS), images(0))
    with pytest.raises(ValueError, match="a spiking network"):
        work(training.Classifier(replace(SETTINGS, spiking=True)), images(1))
