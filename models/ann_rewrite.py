"""A row of torch layers in few kinds of them, by exact rewritings; `layers_of` says which."""

from __future__ import annotations

import copy
import itertools
from collections.abc import Iterator
from typing import Any, TypeAlias

import torch
from torch import Tensor, nn

from .activation import Activation, activation_of

NORMS = (nn.BatchNorm1d, nn.BatchNorm2d)
Named: TypeAlias = tuple[str, nn.Module]


class AnnError(ValueError):
    """An ANN that is no row of layers that a spiking network can have; all reasons."""


def simplified(named: list[Named], x: Tensor) -> list[nn.Module]:
    """An equal network of fewer kinds of layers; AnnError where that cannot be."""
    out: list[nn.Module] = []
    for name, layer in named:
        if isinstance(layer, NORMS):
            out = _with_norm(out, layer, name)
        elif isinstance(layer, nn.AdaptiveAvgPool2d):
            out.extend(_averages(layer, tuple(nn.Sequential(*out)(x).shape[2:])))
        elif isinstance(layer, nn.Linear) and len(out) > 1 and isinstance(out[-2], _Spread):
            out = [*out[:-2], out[-1], out[-2].into(layer)]
        elif isinstance(layer, Activation):
            out = _with_activation(out, layer)
        else:
            out.append(layer)
    problems = list(_left_over(out))
    if problems:
        raise AnnError("\n".join(problems))
    return out


def _with_activation(out: list[nn.Module], layer: Activation) -> list[nn.Module]:
    """An activation before the maxima that it follows, as one with what is there; a ReLU once."""
    if _positive(out) and layer.ceiling is None:
        return out
    count = sum(1 for _ in itertools.takewhile(lambda m: isinstance(m, nn.MaxPool2d), out[::-1]))
    before, pools = out[: len(out) - count], out[len(out) - count :]
    last = before[-1] if before else None
    if isinstance(last, Activation) and (both := activation_of(lambda x: layer(last(x)))):
        return [*before[:-1], both, *pools]
    return [*before, layer, *pools]


def _with_norm(out: list[nn.Module], norm: Any, name: str) -> list[nn.Module]:
    """A batch norm within the layer before it, or as a layer of its own."""
    if norm.running_mean is None or norm.running_var is None:
        raise AnnError(f"{name} has no running statistics. Train with track_running_stats=True.")
    a = 1 / torch.sqrt(norm.running_var + norm.eps) * (1 if norm.weight is None else norm.weight)
    b = (0 if norm.bias is None else norm.bias) - norm.running_mean * a
    last = out[-1] if out else None
    if isinstance(last, nn.MaxPool2d) and not _spikes(out) and bool((a > 0).all()):
        # a maximum keeps its place under growing maps
        return [*_with_norm(out[:-1], norm, name), last]
    if isinstance(last, nn.Conv2d | nn.Linear):
        made = copy.deepcopy(last)
        made.weight = nn.Parameter(last.weight * a.reshape(-1, *[1] * (last.weight.ndim - 1)))
        made.bias = nn.Parameter(b if last.bias is None else last.bias * a + b)
        return [*out[:-1], made]
    return [*out, scaling(a, b, 2 if isinstance(norm, nn.BatchNorm1d) else 4)]


def _spikes(out: list[nn.Module]) -> bool:
    """Whether what comes out are the spikes of neurons, or maxima of them."""
    for layer in reversed(out):
        if not isinstance(layer, nn.MaxPool2d):
            return isinstance(layer, Activation)
    return False


def _positive(out: list[nn.Module]) -> bool:
    """Whether what comes out is never negative: an activation, and pools behind it."""
    for layer in reversed(out):
        if isinstance(layer, Activation):
            return True
        if not isinstance(layer, nn.AvgPool2d | nn.MaxPool2d | nn.Flatten):
            return False
    return False


class _Spread(nn.Module):
    """An AdaptiveAvgPool2d that is no average of whole parts: `matrix` (outputs, inputs) of a channel."""

    def __init__(self, pool: nn.AdaptiveAvgPool2d, size: tuple[int, ...]) -> None:
        super().__init__()
        self.pool = pool
        pixels = size[0] * size[1]
        unit = torch.eye(pixels, dtype=torch.float64).reshape(pixels, 1, *size)
        self.matrix = pool(unit).reshape(pixels, -1).T

    def forward(self, x: Tensor) -> Tensor:
        y: Tensor = self.pool(x)
        return y

    def into(self, linear: nn.Linear) -> nn.Linear:
        """The Linear that does both, with a Flatten before it."""
        weight = linear.weight.reshape(len(linear.weight), -1, len(self.matrix)) @ self.matrix
        weight = weight.flatten(1)
        made = nn.Linear(weight.shape[1], weight.shape[0], linear.bias is not None)
        made.weight = nn.Parameter(weight)
        if linear.bias is not None:
            made.bias = nn.Parameter(linear.bias)
        return made


def _averages(pool: nn.AdaptiveAvgPool2d, size: tuple[int, ...]) -> list[nn.Module]:
    wanted: Any = pool.output_size
    pair = (wanted, wanted) if isinstance(wanted, int) else tuple(wanted)
    asked = [own if want is None else want for own, want in zip(size, pair, strict=True)]
    if any(own % want for own, want in zip(size, asked, strict=True)):
        return [_Spread(pool, size)]
    kernel: Any = tuple(own // want for own, want in zip(size, asked, strict=True))
    return [] if kernel == (1, 1) else [nn.AvgPool2d(kernel)]


def _left_over(layers: list[nn.Module]) -> Iterator[str]:
    for place, layer in enumerate(layers):
        if isinstance(layer, nn.MaxPool2d) and not _spikes(layers[:place]):
            yield (
                "a maximum of numbers that are no activations: netx has maxima of spikes alone. Put "
                "MaxPool directly before or behind a ReLU."
            )
        if isinstance(layer, _Spread):
            yield (
                f"AdaptiveAvgPool2d({layer.pool.output_size}) makes windows that overlap; that is exact "
                f"only where Flatten and Linear follow. Use an AvgPool2d."
            )
    if not any(isinstance(layer, Activation) for layer in layers):
        yield "there is no activation in it, so nothing could spike: one linear map is no network."
    if layers and isinstance(layers[-1], Activation | nn.MaxPool2d):
        yield "it ends with an activation: its answers must be what its last Linear or Conv2d gives."


def scaling(a: Tensor, b: Tensor, axes: int) -> nn.Module:
    """a[c] x + b[c] as a layer of its own, of vectors (2 `axes`, with the sample's) or images (4)."""
    layer: nn.Linear | nn.Conv2d
    if axes == 2:
        layer = nn.Linear(len(a), len(a)).double()
        layer.weight.data = torch.diag(a).double()
    else:
        layer = nn.Conv2d(len(a), len(a), 1, groups=len(a)).double()
        layer.weight.data = a.double().reshape(-1, 1, 1, 1)
    assert layer.bias is not None
    layer.bias.data = b.double()
    return layer
