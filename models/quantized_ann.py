"""The ANN twin in integers' precision, and what one inference of it has to do.

`quantize` rounds weights and activations as an accelerator of that many bits would; `work` counts its
multiply-adds and memory. Both are what a spiking network has to be compared with.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import torch
from torch import Tensor, nn

from .training import Classifier

IMAGE_BITS = 8
"""Images are bytes, for every quantized ANN."""
RANGES = torch.linspace(0.1, 1.0, 91)
"""Parts of the largest magnitude among which the range that a quantizer covers is chosen."""


def activation_bits_for(steps: int) -> int:
    """ceil(log2(T + 1)): bits that hold as many levels as a neuron has spike counts in T steps.

    The fair opponent of a network of T steps (Yan, Bai, Wong 2024, arXiv:2409.08290). Raises ValueError.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}; 1 or more are needed.")
    return steps.bit_length()


class Quantizer(nn.Module):
    """x to scale * clip(round(x / scale), low, 2^b - 1): unsigned (low = 0) or symmetric."""

    def __init__(self, scale: float, low: int, high: int) -> None:
        super().__init__()
        self.scale, self.low, self.high = scale, low, high

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = torch.round(x / self.scale).clamp(self.low, self.high) * self.scale
        return rounded


def quantize(ann: Classifier, images: Tensor, weight_bits: int, activation_bits: int) -> Classifier:
    """The ANN with rounded weights and activations, in float arithmetic.

    Batch norms are folded first. Weights: symmetric, per layer, `weight_bits` with sign. What every
    layer with weights reads: unsigned, `activation_bits` (images always `IMAGE_BITS`), after ReLU and
    pooling. A range covers the part of the largest magnitude that has the least squared error: of the weights
    themselves, and of what `images` (sample, *shape) give in the layers before, which are quantized
    already. Biases and sums stay float. No training follows.
    Returns a Classifier, for `training.accuracy` and `work`; `training.save` does not know its layers.
    Raises ValueError for spiking networks, images below 0, and less than 2 or 1 bits.
    """
    raise NotImplementedError


@dataclass(frozen=True)
class LayerWork:
    """One layer of an ANN, per inference: `nonzero_macs`, both operands not zero, is a mean over images.

    `inputs` and `outputs`: elements read and written; `weights`, `biases`: elements stored.
    """

    name: str
    macs: int
    nonzero_macs: float
    weights: int
    biases: int
    inputs: int
    outputs: int


@dataclass(frozen=True)
class Work:
    """What one inference of an ANN computes and stores; `footprint_bytes` as it is stored now.

    Pooling, norms and activation functions are not counted, as in NeuroBench.
    """

    layers: tuple[LayerWork, ...]
    images: int
    footprint_bytes: int

    @property
    def macs(self) -> int:
        return sum(layer.macs for layer in self.layers)

    @property
    def nonzero_macs(self) -> float:
        return sum(layer.nonzero_macs for layer in self.layers)

    def weight_bytes(self, bits: int) -> int:
        """Bytes of all weights of so many bits; biases not counted."""
        return math.ceil(sum(layer.weights for layer in self.layers) * bits / 8)

    def activation_bytes(self, bits: int) -> int:
        """Bytes that one inference moves between layers: each reads its inputs, writes its outputs."""
        return math.ceil(sum(layer.inputs + layer.outputs for layer in self.layers) * bits / 8)


def work(ann: Classifier, images: Tensor) -> Work:
    """`Work` of an ANN, its zeros counted on `images` (sample, *shape). Raises ValueError."""
    raise NotImplementedError
