"""The networks of the speed benchmark: seeded weights, thresholds set for a given spike rate.

    mlp       784-512-10
    nmnist    2x34x34, conv 16 5x5 /2, conv 32 3x3 /2, dense 10: three weight layers
    pilotnet  3x66x200, conv 3x3 24 /2, 36 /2, 48 /2, 64 /(2, 1), 64, dense 100, 50, 10: the shapes of
              lava-dl's PilotNet

Every layer gets the threshold at which it fires about as often as the input does.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer, Shape
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF, IntArray

I_DECAY, V_DECAY = 1024, 512
CALIBRATION_STEPS, CALIBRATION_SAMPLES = 24, 2


@dataclass(frozen=True)
class Plan:
    """A network's shape: `conv` (channels, kernel, stride, padding), then `dense` widths."""

    name: str
    input_shape: Shape
    conv: tuple[tuple[int, int, tuple[int, int], tuple[int, int]], ...]
    dense: tuple[int, ...]
    steps: int
    """input steps of a full measurement"""


_PILOTNET = (
    (24, 3, (2, 2), (0, 0)),
    (36, 3, (2, 2), (0, 0)),
    (48, 3, (2, 2), (0, 0)),
    (64, 3, (2, 1), (1, 0)),
    (64, 3, (1, 1), (0, 0)),
)
_NMNIST = ((16, 5, (2, 2), (1, 1)), (32, 3, (2, 2), (1, 1)))
PLANS = {
    plan.name: plan
    for plan in (
        Plan("mlp", (784,), (), (512, 10), 64),
        Plan("nmnist", (2, 34, 34), _NMNIST, (10,), 64),
        Plan("pilotnet", (3, 66, 200), _PILOTNET, (100, 50, 10), 32),
    )
}
QUICK_PLANS = {
    plan.name: plan
    for plan in (
        Plan("mlp", (64,), (), (32, 10), 8),
        Plan("nmnist", (2, 12, 12), ((4, 5, (2, 2), (1, 1)), (6, 3, (2, 2), (1, 1))), (10,), 8),
        Plan("pilotnet", (3, 17, 33), _PILOTNET[:3], (20, 10), 8),
    )
}


def random_input(
    shape: Shape, rate: float, samples: int, steps: int, seed: int = 1
) -> NDArray[np.int8]:
    """Binary spikes (sample, step, *shape), independent, at a rate."""
    rng = np.random.default_rng(seed)
    out = np.empty((samples, steps, *shape), np.int8)
    for sample in out:  # block by block: the float draws would need eight times the memory
        sample[:] = rng.random((steps, *shape), dtype=np.float32) < rate
    return out


def build(plan: Plan, rate: float) -> Network:
    """The network whose layers fire at about `rate`; the weights are the same at every rate."""
    rng = np.random.default_rng(0)
    x = torch.tensor(
        random_input(plan.input_shape, rate, CALIBRATION_SAMPLES, CALIBRATION_STEPS),
        dtype=torch.float32,
    )
    layers: list[Layer] = [Input(plan.input_shape)] if plan.conv else []
    neuron = CubaLIF(I_DECAY, V_DECAY, 0)
    channels = plan.input_shape[0]
    for out, kernel, stride, padding in plan.conv:
        weight = _weights(rng, (out, channels, kernel, kernel))
        layer, x = _calibrated(Conv(weight, None, neuron, stride, padding), x, rate)
        layers.append(layer)
        channels = out
    if plan.conv:
        layers.append(Flatten())
        x = x.flatten(2)
    for out in plan.dense:
        layer, x = _calibrated(Dense(_weights(rng, (out, x.shape[2])), None, neuron), x, rate)
        layers.append(layer)
    return Network(layers)


def _weights(rng: np.random.Generator, shape: Shape) -> IntArray:
    return 2 * rng.integers(-8, 9, shape).astype(np.int32)


def sums(layer: Dense | Conv, x: torch.Tensor) -> torch.Tensor:
    """Synaptic sums of messages (sample, *input shape): exact, for they stay below 2^24."""
    weight = torch.tensor(layer.weight, dtype=torch.float32)
    assert float(weight.abs().flatten(1).sum(1).max()) < 1 << 24
    if isinstance(layer, Dense):
        return torch.nn.functional.linear(x, weight)
    return torch.nn.functional.conv2d(
        x, weight, None, layer.stride, layer.padding, layer.dilation, layer.groups
    )


def _calibrated(
    layer: Dense | Conv, x: torch.Tensor, rate: float
) -> tuple[Dense | Conv, torch.Tensor]:
    """The layer with the threshold that fits the rate, and its spikes (sample, step, ...).

    At 100 % every neuron gets the largest bias and threshold 0; only strongly inhibited ones rest.
    """
    neuron = layer.neuron
    assert isinstance(neuron, CubaLIF)
    a = torch.stack([sums(layer, x[:, t]) for t in range(x.shape[1])], 1)
    bias, low, high = (arithmetic.BIAS_MAX, 0, 0) if rate >= 1 else (0, 0, arithmetic.THRESHOLD_MAX)
    while low < high:
        middle = (low + high) // 2
        if float(_fire(a, middle, bias).mean()) > rate:
            low = middle + 1
        else:
            high = middle
    chosen = replace(
        layer,
        neuron=replace(neuron, threshold=low),
        bias=np.full(len(layer.weight), bias) if bias else None,
    )
    return chosen, _fire(a, low, bias)


def _fire(a: torch.Tensor, threshold: int, bias: int) -> torch.Tensor:
    """Spikes of CubaLIF neurons without the limits of their range; good enough to calibrate."""
    u, v = torch.zeros_like(a[:, 0]), torch.zeros_like(a[:, 0])
    spikes = torch.empty_like(a)
    for t in range(a.shape[1]):
        u = (u * (1 - I_DECAY / 4096)).trunc() + 64 * a[:, t]
        v = (v * (1 - V_DECAY / 4096)).trunc() + u + 64 * bias
        fired = v > 64 * threshold
        v[fired] = 0
        spikes[:, t] = fired
    return spikes


def describe(network: Network) -> dict[str, Any]:
    """Digest, shapes, thresholds."""
    return {
        "digest": network.digest,
        "shapes": [p.shape for p in network.populations],
        "neurons": sum(p.size for p in network.populations),
        "thresholds": [
            p.layer.neuron.threshold
            for p in network.populations
            if isinstance(p.layer.neuron, CubaLIF)
        ],
        "i_decay": I_DECAY,
        "v_decay": V_DECAY,
    }
