"""The networks that are measured on a GPU: VGG-11, VGG-16 and ResNet-18 for images of 32 x 32, T = 4.

Where a VGG pools, its next convolution has stride 2. A network here is a chain of layers, as in netx, so
that the skip connections of a ResNet go through relays: neurons of the layer between that send on, a
step later, what they get. So the sums of a block's second convolution are what they are in a ResNet.
"""

from __future__ import annotations

import math
from dataclasses import dataclass, replace
from functools import cache

import numpy as np

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer, Shape
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF, IntArray
from ...hw_targets.network.timing import Timing
from ...hw_targets.simulate.torch_engine import run as on_torch
from ..speed.networks import I_DECAY, V_DECAY, Plan, build, random_input

SKIP = 64
"""Weight of a skip connection whose channels stay as they are: some standard deviations of a sum."""


@dataclass(frozen=True)
class Residual:
    """A ResNet: `stages` (channels, blocks, stride of the first block), two convolutions a block."""

    name: str
    input_shape: Shape
    stages: tuple[tuple[int, int, int], ...]
    classes: int
    steps: int


@dataclass(frozen=True)
class Subject:
    """A network whose layers fire at about `rate`: in a long run, or in `steps` steps from rest."""

    plan: Plan | Residual
    rate: float
    steps: int | None = None

    @property
    def name(self) -> str:
        return self.plan.name

    @property
    def input_steps(self) -> int:
        """Steps in which there is input."""
        return self.steps or self.plan.steps


def _vgg(name: str, *stages: tuple[int, ...]) -> Plan:
    """Channels of the convolutions, stage by stage; all stages but the first begin with stride 2."""
    convolutions = tuple(
        (channels, 3, (2, 2) if number and not k else (1, 1), (1, 1))
        for number, stage in enumerate(stages)
        for k, channels in enumerate(stage)
    )
    return Plan(name, (3, 32, 32), convolutions, (512, 10), 4)


VGG11 = _vgg("vgg11", (64,), (128,), (256, 256), (512, 512), (512, 512))
VGG16 = _vgg("vgg16", (64, 64), (128, 128), (256,) * 3, (512,) * 3, (512,) * 3)
RESNET18 = Residual(
    "resnet18", (3, 32, 32), ((64, 2, 1), (128, 2, 2), (256, 2, 2), (512, 2, 2)), 10, 4
)


@cache
def network_of(subject: Subject, device: str) -> Network:
    """The network of a subject, its thresholds chosen on `device`.

    From rest, a threshold is what v exceeds at this rate in the steps that answer the input, as long as
    nothing fires.
    """
    plan, steps = subject.plan, subject.steps
    if isinstance(plan, Residual):
        network = Network(_residual(plan))
    else:
        network = build(plan, subject.rate)
        if steps is None:
            return network
    x = random_input(plan.input_shape, subject.rate, 4, subject.input_steps)
    layers = list(network.layers)
    for p in network.populations:
        i = network.layers.index(p.layer)
        layer = p.layer
        assert isinstance(layer, Conv | Dense)
        silent = _with_threshold(layer, arithmetic.THRESHOLD_MAX)
        timing = Timing(subject.input_steps + p.latency)
        trace = on_torch.simulate(
            Network([*layers[:i], silent]), x, timing, record="v.-1", device=device
        )
        assert trace.v is not None
        own = _chosen(layer)
        level = np.quantile(trace.v[-1][:, p.latency :, :own], 1 - subject.rate)
        layers[i] = _with_threshold(layer, max(0, int(level) >> arithmetic.STATE_SHIFT))
    return Network(layers)


def _chosen(layer: Conv | Dense) -> int:
    """How many channels, the first ones, have a threshold that is chosen; the others are relays."""
    assert isinstance(layer.neuron, CubaLIF)
    decay = np.asarray(layer.neuron.i_decay)
    return int((decay < arithmetic.DECAY_ONE).sum()) if decay.ndim else len(layer.weight)


def _with_threshold(layer: Conv | Dense, threshold: int) -> Layer:
    assert isinstance(layer.neuron, CubaLIF)
    own, of = _chosen(layer), len(layer.weight)
    both = np.where(np.arange(of) < own, threshold, 0) if own < of else threshold
    return replace(layer, neuron=replace(layer.neuron, threshold=both))


def _residual(plan: Residual) -> list[Layer]:
    """The layers of a ResNet, all thresholds 0."""
    rng = np.random.default_rng(0)
    plain = CubaLIF(I_DECAY, V_DECAY, 0)

    def weight(*shape: int) -> IntArray:
        return 2 * rng.integers(-8, 9, shape).astype(np.int32)

    into, *size = plan.input_shape
    channels = plan.stages[0][0]
    layers: list[Layer] = [Input(plan.input_shape)]
    layers.append(Conv(weight(channels, into, 3, 3), None, plain, padding=(1, 1)))
    for out, blocks, stride in plan.stages:
        for k in range(blocks):
            by = stride if k == 0 else 1
            first, second = weight(out, channels, 3, 3), weight(out, out, 3, 3)
            relays = np.zeros((channels, channels, 3, 3), np.int32)
            relays[:, :, 1, 1] = 2 * np.eye(channels, dtype=np.int32)
            skip = np.zeros((out, channels, 3, 3), np.int32)
            same = by == 1 and out == channels
            skip[:, :, 1, 1] = SKIP * np.eye(out, dtype=np.int32) if same else weight(out, channels)
            # a relay forgets all in a step, and fires above 0
            mine = np.arange(out + channels) < out
            i_decay, v_decay = (np.where(mine, d, arithmetic.DECAY_ONE) for d in (I_DECAY, V_DECAY))
            layers += [
                Conv(
                    np.concatenate([first, relays]),
                    None,
                    CubaLIF(i_decay, v_decay, np.zeros(out + channels, np.int32)),
                    (by, by),
                    (1, 1),
                ),
                Conv(np.concatenate([second, skip], 1), None, plain, padding=(1, 1)),
            ]
            channels, size = out, [-(-n // by) for n in size]
    # the mean over all places is in the weights
    return [
        *layers,
        Flatten(),
        Dense(np.repeat(weight(plan.classes, channels), math.prod(size), 1), None, plain),
    ]
