"""Layers of torch as new ones, with the weights that they have now: no hooks, no parametrizations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from .functional import LAYERS, conv2d, linear

PADDING = "padding_mode {mode!r}; netx pads with zeros alone."
LINEAR = "acts on the last axis of {shape} alone; put a Flatten before it."
CEILING = "ceil_mode adds windows beyond the border, which no layer of netx has. Leave it out."
DIVISOR = (
    "divides by other numbers than the size of its window (divisor_override, or padding with "
    "count_include_pad=False), which no layer of netx does. Leave it out."
)
HOOK = "a hook changes what it gives. Make what the hook does a layer of its own."


def plain(module: nn.Module, x: Tensor, out: Tensor) -> nn.Module | str | None:
    """The layer, of images, that a module of torch is; None of others; a text: why it cannot be one.

    `x`, `out`: what it was given and gave; layers of signals (sample, C, L) become those of images of
    one row, (sample, C, 1, L).
    """
    made: Any = _made(module, x)
    if made is None or isinstance(made, str):
        return made
    made = made.double().eval()
    one, other = (t.unsqueeze(2) if t.ndim == 3 else t for t in (x, out))
    if isinstance(made, nn.AvgPool2d | nn.MaxPool2d) and made.ceil_mode:
        made.ceil_mode = False
        try:
            same = made(one).shape == other.shape
        except RuntimeError:  # no window at all
            same = False
        if not same:
            return CEILING
    given = made(one)
    if given.shape != other.shape or not torch.allclose(given, other, rtol=1e-9, atol=1e-12):
        return HOOK
    return made  # type: ignore[no-any-return]


def _made(module: Any, x: Tensor) -> nn.Module | str | None:
    signals = isinstance(module, nn.Conv1d | nn.MaxPool1d | nn.AvgPool1d)

    def size(name: str, row: int) -> Any:
        """A setting of images as it is, of signals with that of the one row; "same" too."""
        value = getattr(module, name)
        if not signals or isinstance(value, str):
            return value
        return (row, value[0] if isinstance(value, tuple | list) else value)

    if isinstance(module, nn.Linear):
        if x.ndim != 2:
            return LINEAR.format(shape=tuple(x.shape[1:]))
        return linear(x, module.weight, module.bias)[1]
    if isinstance(module, nn.Conv1d | nn.Conv2d):
        if module.padding_mode != "zeros":
            return PADDING.format(mode=module.padding_mode)
        weight = module.weight.unsqueeze(2) if signals else module.weight
        placed = (size("stride", 1), size("padding", 0), size("dilation", 1))
        return conv2d(x, weight, module.bias, *placed, module.groups)[1]
    if isinstance(module, nn.BatchNorm1d | nn.BatchNorm2d):
        return _norm(module, x)
    if isinstance(module, nn.MaxPool1d | nn.MaxPool2d):
        window = (size("kernel_size", 1), size("stride", 1), size("padding", 0))
        return nn.MaxPool2d(*window, size("dilation", 1), ceil_mode=module.ceil_mode)
    if isinstance(module, nn.AvgPool1d | nn.AvgPool2d):
        window = (size("kernel_size", 1), size("stride", 1), size("padding", 0))
        padded = window[2] not in (0, (0, 0), [0, 0])
        if getattr(module, "divisor_override", None) or (padded and not module.count_include_pad):
            return DIVISOR
        return nn.AvgPool2d(*window, ceil_mode=module.ceil_mode)
    if isinstance(module, nn.AdaptiveAvgPool1d):
        length = module.output_size
        return nn.AdaptiveAvgPool2d((1, length[0] if isinstance(length, tuple) else length))
    if isinstance(module, nn.AdaptiveAvgPool2d):
        return nn.AdaptiveAvgPool2d(module.output_size)
    return None


def _norm(module: nn.BatchNorm1d | nn.BatchNorm2d, x: Tensor) -> nn.Module:
    """A norm of images, or of vectors, with the same statistics."""
    kind = nn.BatchNorm1d if x.ndim == 2 else nn.BatchNorm2d
    made = kind(module.num_features, module.eps, affine=module.affine)
    made.running_mean, made.running_var = module.running_mean, module.running_var
    if module.affine:
        made.weight, made.bias = (
            nn.Parameter(weight.detach().clone()) for weight in (module.weight, module.bias)
        )
    return made


# -- functions of signals ----------------------------------------------------------------------------


def _conv1d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, nn.Module]:
    size = (weight.shape[1] * groups, weight.shape[0], weight.shape[2])
    made: Any = nn.Conv1d(*size, stride, padding, dilation, groups, bias is not None)
    made.weight = nn.Parameter(weight.detach().clone())
    made.bias = None if bias is None else nn.Parameter(bias.detach().clone())
    return input, made


def _max_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, nn.Module]:
    sizes = (kernel_size, stride or None, padding, dilation)
    return input, nn.MaxPool1d(*sizes, return_indices, ceil_mode)


def _avg_pool1d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
) -> tuple[Tensor, nn.Module]:
    made: Any = nn.AvgPool1d
    return input, made(kernel_size, stride or None, padding, ceil_mode, count_include_pad)


def _adaptive_avg_pool1d(input: Tensor, output_size: Any) -> tuple[Tensor, nn.Module]:
    return input, nn.AdaptiveAvgPool1d(output_size)


FUNCTIONS: dict[Any, Callable[..., tuple[Tensor, nn.Module]]] = {
    **LAYERS,
    F.conv1d: _conv1d,
    F.max_pool1d: _max_pool1d,
    torch.max_pool1d: _max_pool1d,
    F.avg_pool1d: _avg_pool1d,
    F.adaptive_avg_pool1d: _adaptive_avg_pool1d,
}
"""`LAYERS`, and the functions of signals."""
