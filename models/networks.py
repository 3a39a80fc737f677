"""Norse networks and their ANN twins: the same layers with ReLU in place of spiking neurons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence

import norse.torch as norse
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from torch import nn

from .settings import Readout

MODELS = ("mlp", "cnn", "vgg")
VGG = ((64, 1), (128, 1), (256, 2), (512, 2), (512, 2))
"""VGG-11: channels and convolutions of each stage."""


class SpikingClassifier(nn.Module):
    """A Norse network unrolled over its input frames.

    forward: frames (steps, sample, *shape) to logits (sample, classes). With a `spikes` readout
    the logits are the spike counts of the last layer, with `voltage` the mean over the steps of
    its (non-spiking) membrane voltage.

    Batch norms in training normalize the batch of each step by itself and update their running
    statistics once per step, whatever is minimized (`activity.activity` does the same); of an ANN there
    is one step.
    """

    def __init__(self, body: norse.SequentialState, readout: Readout) -> None:
        super().__init__()
        self.body = body
        self.readout = readout

    def forward(self, frames: torch.Tensor) -> torch.Tensor:
        state = None
        total: torch.Tensor | int = 0
        for frame in frames:
            out, state = self.body(frame, state)
            total = total + out
        logits = total if self.readout == "spikes" else total / len(frames)
        assert isinstance(logits, torch.Tensor)
        return logits


LEAST_THRESHOLD = 0.03
"""Thresholds that are trained stay above this (as in Ozdenizci and Legenstein 2024)."""


def neurons(leak: float = 0.5, learn_threshold: bool = False) -> nn.Module:
    """v <- leak * v + (1 - leak) * i, or for leak 1 (IF) v <- v + i; spike and reset to 0 above 1.

    1 - leak = dt / tau_mem with dt = 1 ms. `learn_threshold`: the threshold, 1 at first, is the
    parameter `threshold`, one for the layer. Backward: SuperSpike 1 / (1 + |v - threshold|)^2
    (Norse 1.1 ignores its `alpha`). Raises ValueError for a leak beyond [0, 1].
    """
    if not 0 <= leak <= 1:
        raise ValueError(f"leak = {leak}; a number from 0 (no memory) to 1 (no leak) is needed.")
    threshold = torch.tensor(1.0)
    if learn_threshold:
        threshold = nn.Parameter(threshold)
    cell: nn.Module
    if leak == 1:
        cell = norse.IAFCell(norse.IAFParameters(v_th=threshold, v_reset=torch.tensor(0.0)))
    else:
        tau_mem_inv = torch.tensor((1 - leak) * 1000)
        cell = norse.LIFBoxCell(norse.LIFBoxParameters(tau_mem_inv=tau_mem_inv, v_th=threshold))
    if isinstance(threshold, nn.Parameter):
        cell.register_parameter("threshold", threshold)  # the tensor that cell.p holds
    return cell


def thresholds(net: nn.Module) -> list[nn.Parameter]:
    """The thresholds that are trained, in the order of the layers."""
    return [
        cell.threshold
        for cell in net.modules()
        if isinstance(cell, norse.LIFBoxCell | norse.IAFCell) and hasattr(cell, "threshold")
    ]


@torch.no_grad()
def clamp_thresholds(net: nn.Module) -> None:
    """Raises trained thresholds to `LEAST_THRESHOLD` where they fell below; after every update."""
    for threshold in thresholds(net):
        threshold.clamp_(min=LEAST_THRESHOLD)


def readout_neurons(readout: Readout, leak: float, learn_threshold: bool) -> nn.Module:
    """The last layer: neurons that spike, or v <- (v + i) / 2, whose voltage is read."""
    if readout == "spikes":
        return neurons(leak, learn_threshold)
    cell: nn.Module = norse.LIBoxCell(LIBoxParameters(tau_mem_inv=torch.tensor(500.0)))
    return cell


def _mlp(shape: Sequence[int], classes: int, hidden: Sequence[int]) -> list[nn.Module]:
    widths = [int(torch.Size(shape).numel()), *hidden]
    layers: list[nn.Module] = [nn.Flatten()]
    for a, b in itertools.pairwise(widths):
        layers += [nn.Linear(a, b), nn.ReLU()]
    return [*layers, nn.Linear(widths[-1], classes)]


def _cnn(shape: Sequence[int], classes: int, channels: Sequence[int]) -> list[nn.Module]:
    """Convolution, batch norm, neurons, 2x2 average pooling, twice; then one dense layer.

    Kernels are 5x5; 3x3 with padding for images too small for that (the 8x8 digits).
    """
    layers: list[nn.Module] = []
    into, height, width = shape
    kernel, padding = (5, 0) if min(height, width) >= 16 else (3, 1)
    lost = kernel - 1 - 2 * padding
    for out in channels:
        conv = nn.Conv2d(into, out, kernel, padding=padding)
        layers += [conv, nn.BatchNorm2d(out), nn.ReLU(), nn.AvgPool2d(2)]
        into, height, width = out, (height - lost) // 2, (width - lost) // 2
    return [*layers, nn.Flatten(), nn.Linear(into * height * width, classes)]


def _vgg(shape: Sequence[int], classes: int, channels: Sequence[int]) -> list[nn.Module]:
    """Stages of 3x3 convolution, batch norm, neurons, each stage before 2x2 average pooling.

    As many convolutions per stage as VGG-11 has (Simonyan and Zisserman 2015), one dense layer; a
    stage whose image is one pixel high or wide already does not pool.
    """
    layers: list[nn.Module] = []
    into, height, width = shape
    for out, (_, convolutions) in zip(channels, VGG, strict=False):
        for _ in range(convolutions):
            conv = nn.Conv2d(into, out, 3, padding=1)
            layers += [conv, nn.BatchNorm2d(out), nn.ReLU()]
            into = out
        if min(height, width) > 1:
            layers.append(nn.AvgPool2d(2))
            height, width = height // 2, width // 2
    return [*layers, nn.Flatten(), nn.Linear(into * height * width, classes)]


def ann(
    model: str, shape: Sequence[int], classes: int, widths: Sequence[int] | None = None
) -> nn.Sequential:
    """The ANN twin: images (sample, *shape) to logits (sample, classes).

    `widths`: hidden neurons, or channels. Raises ValueError for a model that is not among `MODELS`, and
    where one with convolutions is given other shapes than (C, H, W).
    """
    if model in ("cnn", "vgg") and len(shape) != 3:
        raise ValueError(
            f"model {model} convolves images (C, H, W); these data have shape {tuple(shape)}: use mlp."
        )
    if model == "mlp":
        return nn.Sequential(*_mlp(shape, classes, widths or (256,)))
    if model == "cnn":
        return nn.Sequential(*_cnn(shape, classes, widths or (16, 32)))
    if model == "vgg":
        return nn.Sequential(*_vgg(shape, classes, widths or [width for width, _ in VGG]))
    raise ValueError(f"unknown model {model!r}; choose from {', '.join(MODELS)}.")


def snn(
    model: str,
    shape: Sequence[int],
    classes: int,
    readout: Readout = "spikes",
    widths: Sequence[int] | None = None,
    *,
    leak: float = 0.5,
    learn_thresholds: bool = False,
) -> SpikingClassifier:
    """The Norse network: the ANN twin's layers with spiking neurons for ReLU, and a readout neuron.

    Frames (steps, sample, C, H, W) to logits (sample, classes). `leak` and `learn_thresholds` are those
    of `neurons`, of all that spike; a `voltage` readout has v <- (v + i) / 2. Raises ValueError as `ann`
    and `neurons` do.
    """
    layers = [
        neurons(leak, learn_thresholds) if isinstance(layer, nn.ReLU) else layer
        for layer in ann(model, shape, classes, widths)
    ]
    last = readout_neurons(readout, leak, learn_thresholds)
    return SpikingClassifier(norse.SequentialState(*layers, last), readout)


def macs(model: nn.Module, shape: Sequence[int]) -> int:
    """Multiply-adds of one pass of an ANN on one image; biases, pooling and norms not counted."""
    total = 0

    def add(module: nn.Module, _: object, out: torch.Tensor) -> None:
        nonlocal total
        if isinstance(module, nn.Linear):
            total += module.weight.numel()
        elif isinstance(module, nn.Conv2d):
            total += module.weight.numel() * int(out[0, 0].numel())

    hooks = [m.register_forward_hook(add) for m in model.modules()]
    training = model.training
    model.eval()
    with torch.no_grad():
        model(torch.zeros(1, *shape))
    model.train(training)
    for hook in hooks:
        hook.remove()
    return total
