"""A skip connection around weights alone is a chain all the same: W s + s = (W + 1) s."""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import replace

import torch
from torch import Tensor, nn
from torch.nn.utils import fusion

from .place import Place


def with_skip(places: Sequence[Place], got: Tensor) -> tuple[int, Place] | None:
    """The last layers as one, if they are weights around which their input was added, giving `got`.

    Linear, or Conv2d that keeps the shape, alone or with a batch norm behind; how many places that are,
    and the one in their stead. None where it is something else.
    """
    for count in (1, 2):
        run = list(places[-count:])
        if len(run) < count or not isinstance(run[0].module, nn.Linear | nn.Conv2d):
            continue
        source, last = run[0].inputs, run[-1]
        if run[0].flatten or source.shape != got.shape or last.outputs.shape != got.shape:
            continue
        if not torch.equal(last.outputs + source, got):
            continue
        merged = _and_identity(_one(run))
        if merged is not None:
            made = replace(run[0], name=f"{run[0].name}.skip", module=merged, outputs=got)
            return count, made
    return None


def _one(run: Sequence[Place]) -> nn.Linear | nn.Conv2d | None:
    first, *norms = (place.module for place in run)
    assert isinstance(first, nn.Linear | nn.Conv2d)
    if not norms:
        return copy.deepcopy(first)
    (norm,) = norms
    if isinstance(norm, nn.BatchNorm2d) and isinstance(first, nn.Conv2d):
        return fusion.fuse_conv_bn_eval(first, norm)
    if isinstance(norm, nn.BatchNorm1d) and isinstance(first, nn.Linear):
        return fusion.fuse_linear_bn_eval(first, norm)
    return None


def _and_identity(layer: nn.Linear | nn.Conv2d | None) -> nn.Module | None:
    """The layer that gives its input besides; its output has the shape of its input."""
    if layer is None:
        return None
    weight = layer.weight.detach().clone()
    channels = torch.arange(len(weight))
    if isinstance(layer, nn.Conv2d):
        middle = [size // 2 for size in layer.kernel_size]
        even = any(size % 2 == 0 for size in layer.kernel_size)
        if even or layer.padding_mode != "zeros" or layer.stride not in (1, (1, 1)):
            return None
        weight[channels, channels % weight.shape[1], middle[0], middle[1]] += 1
    else:
        weight[channels, channels] += 1
    layer.weight = nn.Parameter(weight, requires_grad=False)
    return layer
