"""Any torch ANN as a row of layers, which can be converted, quantized, counted and measured."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TypeAlias

import torch
from torch import Tensor, nn

from .ann_layers import layers_of
from .data.dataset import kind_of
from .training import Classifier

AnyAnn: TypeAlias = "Classifier | Ann"
"""What `train` made, or somebody else."""


class Ann(nn.Module):
    """An ANN that somebody else trained: images (sample, *shape) to logits (sample, classes).

    `net`: the network as an `nn.Sequential` of Conv2d, Linear, `Activation`, AvgPool2d, MaxPool2d and
    Flatten, see `of`. It stands beside the `Classifier` of an ANN that `train` made wherever an ANN is
    taken. Images are what the data set has: nothing is coded.
    """

    spiking = False
    seed = 0

    def __init__(self, net: nn.Sequential) -> None:
        super().__init__()
        self.net = net.eval()

    @classmethod
    def of(cls, model: nn.Module, images: Tensor) -> Ann:
        """The layers that the forward of `model` computes, in evaluation mode, see `layers_of`.

        `images` (sample, *shape): some real ones, on which both are compared. Raises AnnError with all
        reasons why `model` is no row of such layers.
        """
        return cls(layers_of(model, _seen(images)))

    def encode(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """The images, of events (sample, steps, *shape) how often each pixel has one."""
        del draws
        return _seen(images)

    def logits(self, images: Tensor, draws: torch.Generator) -> Tensor:
        """Logits (sample, classes)."""
        out: Tensor = self.net(self.encode(images, draws))
        return out

    def with_net(self, layers: Sequence[nn.Module]) -> Ann:
        """This network with other layers."""
        return Ann(nn.Sequential(*layers))

    def __repr__(self) -> str:
        kinds = [type(layer).__name__ for layer in self.net]
        return f"an ANN of {', '.join(kinds)}"


def _seen(images: Tensor) -> Tensor:
    return images.float().mean(1) if kind_of(images) == "events" else images.float()


def ann_of(model: nn.Module, images: Tensor) -> AnyAnn:
    """A Classifier or Ann as it is, of any other network `Ann.of`."""
    return model if isinstance(model, Classifier | Ann) else Ann.of(model, images)
