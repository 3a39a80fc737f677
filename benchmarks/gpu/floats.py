"""The network of integers in floating point, as users run it on a GPU: spiking, and as an ANN.

Weights are the integers over the layer's threshold, so that neurons fire above 1. Precisions are those
that torch has: float32, float32 whose products are rounded to TF32, and float16.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Literal, TypeAlias

import numpy as np
import torch
from torch import Tensor, nn

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF

Precision: TypeAlias = Literal["float32", "tf32", "float16"]


def _synapses(network: Network) -> list[nn.Module]:
    """The weights of each layer, dense ones after a Flatten."""
    out: list[nn.Module] = []
    for p in network.populations:
        layer = p.layer
        if not isinstance(layer, Conv | Dense):
            continue
        assert isinstance(layer.neuron, CubaLIF)
        scale = 1 / max(1, np.asarray(layer.neuron.threshold).item())
        weight = torch.tensor(layer.weight * scale, dtype=torch.float32)
        module: nn.Module
        if isinstance(layer, Conv):
            size, into = weight.shape[2:], weight.shape[1] * layer.groups
            module = nn.Conv2d(
                into,
                len(weight),
                (size[0], size[1]),
                layer.stride,
                layer.padding,
                layer.dilation,
                layer.groups,
                bias=False,
            )
        else:
            module = nn.Linear(weight.shape[1], len(weight), bias=False)
        module.weight = nn.Parameter(weight, requires_grad=False)
        out.append(module if isinstance(layer, Conv) else nn.Sequential(nn.Flatten(), module))
    return out


def ann_of(network: Network) -> nn.Module:
    """The same layers with ReLU in place of spiking neurons: images to what the last layer sums up."""
    layers = [part for synapses in _synapses(network) for part in (synapses, nn.ReLU())]
    return nn.Sequential(*layers[:-1])


class Spiking(nn.Module):
    """The same layers with the same neurons in floating point, all layers in every step.

    forward: frames (steps, sample, *shape) to spike counts of the last layer. Per layer u <- k_u u + a,
    v <- k_v v + u, spike where v > 1, then v <- 0; no delay between layers.
    """

    def __init__(self, network: Network) -> None:
        super().__init__()
        self.synapses = nn.ModuleList(_synapses(network))
        self.keeps = [
            _keeps(p.neuron) for p in network.populations if isinstance(p.layer, Conv | Dense)
        ]

    def forward(self, frames: Tensor) -> Tensor:
        states: list[tuple[Tensor, Tensor] | None] = [None] * len(self.synapses)
        total: Tensor | None = None
        for x in frames:
            for i, (synapses, (keep_u, keep_v)) in enumerate(
                zip(self.synapses, self.keeps, strict=True)
            ):
                u, held = synapses(x), states[i]
                if held is not None:
                    u = torch.add(u, held[0], alpha=keep_u)
                v = u if held is None else torch.add(u, held[1], alpha=keep_v)
                fires = v > 1
                x = fires.to(u.dtype)
                states[i] = u, v.masked_fill(fires, 0)
            total = x if total is None else total + x
        assert total is not None
        return total


def _keeps(neuron: object) -> tuple[float, float]:
    """What a step leaves of u and v, the same of all neurons of a layer."""
    assert isinstance(neuron, CubaLIF)
    i_decay, v_decay = (np.asarray(decay).item() for decay in (neuron.i_decay, neuron.v_decay))
    return 1 - i_decay / arithmetic.DECAY_ONE, 1 - v_decay / arithmetic.DECAY_ONE


@contextmanager
def products_in(precision: Precision) -> Iterator[None]:
    """Whether float32 products of a GPU are rounded to TF32."""
    cuda, cudnn = torch.backends.cuda.matmul, torch.backends.cudnn
    before = cuda.allow_tf32, cudnn.allow_tf32
    cuda.allow_tf32 = cudnn.allow_tf32 = precision == "tf32"
    try:
        yield
    finally:
        cuda.allow_tf32, cudnn.allow_tf32 = before


def graphed(forward: Callable[[], Tensor]) -> Callable[[], Tensor]:
    """A call whose kernels are launched as one CUDA graph; it reads and fills the same tensors again."""
    cuda: Any = torch.cuda  # untyped
    stream = cuda.Stream()
    stream.wait_stream(cuda.current_stream())
    with cuda.stream(stream):
        for _ in range(3):  # libraries choose their kernels
            forward()
    cuda.current_stream().wait_stream(stream)
    graph = cuda.CUDAGraph()
    with cuda.graph(graph):
        answer = forward()

    def replay() -> Tensor:
        graph.replay()
        return answer

    return replay
