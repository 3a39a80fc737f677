"""The ANN twin at an accelerator's precision, and what one inference of it has to do.

`quantize` rounds weights and activations to so many bits; `work` counts multiply-adds and memory. Both
are what a spiking network has to be compared with.
"""

from __future__ import annotations

import copy
import math
from dataclasses import dataclass, replace
from typing import cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils import fusion

from .ann import Ann, AnyAnn
from .encoding import generator

IMAGE_BITS = 8
"""Images are bytes, for every quantized ANN."""
RANGES = tuple(i / 40 for i in range(4, 41))
"""Parts of the largest magnitude, among which `quantize` chooses the range of a quantizer."""


def activation_bits_for(steps: int) -> int:
    """ceil(log2(T + 1)): bits for as many levels as a neuron has spike counts in T steps.

    So many bits has the fair opponent of a network of T steps (Yan, Bai and Wong 2024,
    arXiv:2409.08290). Raises ValueError.
    """
    if steps < 1:
        raise ValueError(f"steps = {steps}; 1 or more are needed.")
    return steps.bit_length()


class Quantizer(nn.Module):
    """x to scale * clip(round(x / scale), low, high); ties round to even.

    0 .. 2^b - 1 is unsigned, -(2^(b-1) - 1) .. 2^(b-1) - 1 symmetric.
    """

    def __init__(self, scale: float, low: int, high: int) -> None:
        super().__init__()
        self.scale, self.low, self.high = scale, low, high

    @classmethod
    def of(cls, values: Tensor, low: int, high: int) -> Quantizer:
        """The quantizer of least squared error on `values`, in any shape, among the `RANGES` of their
        largest magnitude."""
        largest = float(values.abs().max()) or 1.0
        candidates = [cls(part * largest / high, low, high) for part in RANGES]
        return min(candidates, key=lambda q: float((q(values) - values).square().sum()))

    def forward(self, x: Tensor) -> Tensor:
        rounded: Tensor = torch.round(x / self.scale).clamp(self.low, self.high) * self.scale
        return rounded

    def extra_repr(self) -> str:
        return f"scale={self.scale:g}, low={self.low}, high={self.high}"


@torch.no_grad()
def quantize(ann: AnyAnn, images: Tensor, weight_bits: int, activation_bits: int) -> AnyAnn:
    """The ANN with rounded weights and activations, still in float arithmetic; not trained again.

    Batch norms are folded. Weights: symmetric, one scale per layer, `weight_bits` with sign. What a
    layer with weights reads: unsigned, one scale, `activation_bits` (the first, the image:
    `IMAGE_BITS`); with sign where an `Ann` or one's own data have images, or layers without activation,
    below 0. Scales are `Quantizer.of` the weights, and of what arrives there when `images`
    (sample, *shape) pass through the layers before, already quantized. Biases and sums stay float.
    The result is for `training.accuracy` and `work`; `training.load` does not know its layers.
    Raises ValueError for spiking networks, negative images, less than 2 or 1 bits.
    """
    if problems := _problems(ann, weight_bits, activation_bits):
        raise ValueError(" ".join(problems))
    x = ann.encode(images, generator(ann.seed))
    own = isinstance(ann, Ann) or ann.settings.data_digest or ann.settings.coding.name == "sequence"
    if bool((x < 0).any()) and not own:  # one's own data are what they are
        raise ValueError(
            f"images reach {float(x.min()):g}; activations are unsigned: 0 and above is needed."
        )
    layers: list[nn.Module] = []
    most, bits = 2 ** (weight_bits - 1) - 1, IMAGE_BITS
    for layer in _folded(ann.net):
        if isinstance(layer, nn.Linear | nn.Conv2d):
            signed = bool((x < 0).any())
            largest = 2 ** (bits - 1) - 1 if signed and bits > 1 else 2**bits - 1
            layers.append(Quantizer.of(x, -largest if signed else 0, largest))
            x, bits = layers[-1](x), activation_bits
            layer.weight.copy_(Quantizer.of(layer.weight, -most, most)(layer.weight))
        layers.append(layer)
        x = layer(x)
    return ann.with_net(layers)


def _problems(ann: AnyAnn, weight_bits: int, activation_bits: int) -> list[str]:
    problems = []
    if ann.spiking or not isinstance(ann.net, nn.Sequential):
        problems.append("a spiking network was given; its ANN twin is needed.")
    if weight_bits < 2:
        problems.append(f"weight_bits = {weight_bits}; with their sign 2 or more are needed.")
    if activation_bits < 1:
        problems.append(f"activation_bits = {activation_bits}; 1 or more are needed.")
    return problems


def _folded(net: nn.Module) -> list[nn.Module]:
    """Copies of the layers, each batch norm within the convolution before it."""
    layers: list[nn.Module] = []
    for original in net.children():
        layer = copy.deepcopy(original).eval().requires_grad_(False)
        if isinstance(layer, nn.BatchNorm2d):
            convolution = layers.pop()
            assert isinstance(convolution, nn.Conv2d)
            layer = fusion.fuse_conv_bn_eval(convolution, layer)
        layers.append(layer)
    return layers


@dataclass(frozen=True)
class LayerWork:
    """One layer of an ANN with weights; amounts per inference.

    `nonzero_macs`: those of which both operands are not zero (NeuroBench's effective MACs), a mean
    over images; `weights`, `biases`: stored; `inputs`, `outputs`: elements read and written.
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
    """What an inference of an ANN computes and moves; pooling, norms and activation functions aside.

    `images`: over which zeros were counted; `footprint_bytes`: of all parameters and buffers, as
    they are now (NeuroBench).
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
        """Bytes of the weights at so many bits each; biases aside."""
        return math.ceil(sum(layer.weights for layer in self.layers) * bits / 8)

    def activation_bytes(self, bits: int) -> int:
        """Bytes that an inference reads and writes once each: every layer's inputs and outputs."""
        return math.ceil(sum(layer.inputs + layer.outputs for layer in self.layers) * bits / 8)


@torch.no_grad()
def work(ann: AnyAnn, images: Tensor, batch: int = 500) -> Work:
    """`Work` of an ANN, quantized or not, its zeros counted on `images` (sample, *shape).

    Raises ValueError for spiking networks and for no images.
    """
    if ann.spiking:
        raise ValueError("a spiking network was given; its ANN twin is needed.")
    if not len(images):
        raise ValueError("no images: at least one is needed to count zeros.")
    net, draws = copy.deepcopy(ann.net).eval(), generator(ann.seed)
    batches: list[list[LayerWork]] = []
    for start in range(0, len(images), batch):
        x = ann.encode(images[start : start + batch], draws)
        batches.append([])
        for name, layer in net.named_children():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                batches[-1].append(_layer_work(name, layer, x))
            x = layer(x)
    layers = tuple(
        replace(same[0], nonzero_macs=sum(part.nonzero_macs for part in same) / len(images))
        for same in zip(*batches, strict=True)
    )
    stored = (*net.parameters(), *net.buffers())
    footprint = sum(tensor.numel() * tensor.element_size() for tensor in stored)
    return Work(layers, len(images), footprint)


def _layer_work(name: str, layer: nn.Linear | nn.Conv2d, x: Tensor) -> LayerWork:
    """`LayerWork` of a layer that reads the batch x; `nonzero_macs` is a sum over the batch."""
    weight = layer.weight
    dense = _products(layer, torch.ones_like(x[:1]), torch.ones_like(weight))
    effective = _products(layer, (x != 0).to(weight), (weight != 0).to(weight))
    return LayerWork(
        name,
        int(dense.sum()),
        float(effective.sum()),
        weight.numel(),
        0 if layer.bias is None else layer.bias.numel(),
        x[0].numel(),
        dense.numel(),
    )


def _products(layer: nn.Linear | nn.Conv2d, x: Tensor, weight: Tensor) -> Tensor:
    """Sums of products of 0 and 1, exact in float32 below 2^24; as float64, to be summed on."""
    if isinstance(layer, nn.Linear):
        return functional.linear(x, weight).double()
    placed = (layer.stride, layer.padding, layer.dilation)
    stride, padding, dilation = (cast("tuple[int, int]", pair) for pair in placed)
    return functional.conv2d(x, weight, None, stride, padding, dilation, layer.groups).double()
