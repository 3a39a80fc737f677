"""Norse networks and their ANN twins: the same layers with ReLU in place of spiking neurons."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Literal, TypeAlias

import norse.torch as norse
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from torch import nn

Readout: TypeAlias = Literal["spikes", "voltage"]
MODELS = ("mlp", "cnn")


class SpikingClassifier(nn.Module):
    """A Norse network unrolled over its input frames.

    forward: frames (steps, sample, *shape) to logits (sample, classes). With a `spikes` readout
    the logits are the spike counts of the last layer, with `voltage` the mean over the steps of
    its (non-spiking) membrane voltage.
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


def lif(decay: float = 0.5) -> nn.Module:
    """v <- v + decay * (i - v); spike and reset to 0 above 1. `decay` = dt / tau_mem, dt = 1 ms.

    Backward: SuperSpike 1 / (1 + |v - 1|)^2 (Norse 1.1 ignores its `alpha`).
    """
    cell: nn.Module = norse.LIFBoxCell(
        norse.LIFBoxParameters(tau_mem_inv=torch.tensor(decay * 1000))
    )
    return cell


def _last(readout: Readout) -> nn.Module:
    if readout == "spikes":
        return lif()
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


def ann(
    model: str, shape: Sequence[int], classes: int, widths: Sequence[int] | None = None
) -> nn.Sequential:
    """The ANN twin: images (sample, C, H, W) to logits. `widths`: hidden neurons, or channels."""
    if model == "mlp":
        return nn.Sequential(*_mlp(shape, classes, widths or (256,)))
    if model == "cnn":
        return nn.Sequential(*_cnn(shape, classes, widths or (16, 32)))
    raise ValueError(f"unknown model {model!r}; choose from {', '.join(MODELS)}.")


def snn(
    model: str,
    shape: Sequence[int],
    classes: int,
    readout: Readout = "spikes",
    widths: Sequence[int] | None = None,
) -> SpikingClassifier:
    """The Norse network: the ANN twin's layers with LIF neurons for ReLU, and a readout neuron."""
    layers = [
        lif() if isinstance(layer, nn.ReLU) else layer
        for layer in ann(model, shape, classes, widths)
    ]
    return SpikingClassifier(norse.SequentialState(*layers, _last(readout)), readout)


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
