"""Layers that a `forward` computes by functions, such as F.max_pool2d, as the modules they stand for."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.overrides import TorchFunctionMode

See = Callable[[str, nn.Module, Tensor, Tensor], None]
"""Called with name, module, input and output of each layer."""


class FunctionalLayers(TorchFunctionMode):
    """Within it, every call of a function of `LAYERS` is told to `see`, but for those inside a module.

    `enter` and `leave` are what a module's hooks call: what it does inside is its own affair.
    """

    def __init__(self, see: See) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.see = see
        self.depth = 0

    def enter(self, *_: Any) -> None:
        self.depth += 1

    def leave(self, *_: Any) -> None:
        self.depth -= 1

    def __torch_function__(
        self, func: Any, types: Any, args: Any = (), kwargs: dict[str, Any] | None = None
    ) -> Any:
        kwargs = kwargs or {}
        make = LAYERS.get(func) if self.depth == 0 else None
        if make is None:
            return func(*args, **kwargs)
        self.depth += 1
        try:
            out = func(*args, **kwargs)
        finally:
            self.depth -= 1
        with suppress(TypeError):  # arguments that the module does not have: an unknown computation
            x, module = make(*args, **kwargs)
            self.see(func.__name__, module, x, out)
        return out


def linear(input: Tensor, weight: Tensor, bias: Tensor | None = None) -> tuple[Tensor, nn.Module]:
    module = nn.Linear(weight.shape[1], weight.shape[0], bias is not None)
    return input, _with(module, weight, bias)


def conv2d(
    input: Tensor,
    weight: Tensor,
    bias: Tensor | None = None,
    stride: Any = 1,
    padding: Any = 0,
    dilation: Any = 1,
    groups: int = 1,
) -> tuple[Tensor, nn.Module]:
    channels = weight.shape[1] * groups
    kernel: Any = tuple(weight.shape[2:])
    where = (stride, padding, dilation, groups, bias is not None)
    return input, _with(nn.Conv2d(channels, weight.shape[0], kernel, *where), weight, bias)


def batch_norm(
    input: Tensor,
    running_mean: Tensor | None,
    running_var: Tensor | None,
    weight: Tensor | None = None,
    bias: Tensor | None = None,
    training: bool = False,
    momentum: float = 0.1,
    eps: float = 1e-5,
) -> tuple[Tensor, nn.Module]:
    if training or running_mean is None or running_var is None:
        raise TypeError("the statistics of a batch")
    kind = nn.BatchNorm2d if input.ndim > 2 else nn.BatchNorm1d
    module = kind(len(running_mean), eps, affine=weight is not None)
    module.running_mean, module.running_var = running_mean, running_var
    return input, _with(module, weight, bias)


def max_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    dilation: Any = 1,
    ceil_mode: bool = False,
    return_indices: bool = False,
) -> tuple[Tensor, nn.Module]:
    sizes = (kernel_size, stride or None, padding, dilation)
    return input, nn.MaxPool2d(*sizes, return_indices, ceil_mode)


def avg_pool2d(
    input: Tensor,
    kernel_size: Any,
    stride: Any = None,
    padding: Any = 0,
    ceil_mode: bool = False,
    count_include_pad: bool = True,
    divisor_override: int | None = None,
) -> tuple[Tensor, nn.Module]:
    sizes = (kernel_size, stride or None, padding)
    return input, nn.AvgPool2d(*sizes, ceil_mode, count_include_pad, divisor_override)


def adaptive_avg_pool2d(input: Tensor, output_size: Any) -> tuple[Tensor, nn.Module]:
    return input, nn.AdaptiveAvgPool2d(output_size)


LAYERS: dict[Any, Callable[..., tuple[Tensor, nn.Module]]] = {
    F.linear: linear,
    F.conv2d: conv2d,
    F.batch_norm: batch_norm,
    F.max_pool2d: max_pool2d,
    torch.max_pool2d: max_pool2d,
    F.avg_pool2d: avg_pool2d,
    F.adaptive_avg_pool2d: adaptive_avg_pool2d,
}


def _with(module: Any, weight: Tensor | None, bias: Tensor | None) -> nn.Module:
    for name, value in (("weight", weight), ("bias", bias)):
        if value is not None:
            setattr(module, name, nn.Parameter(value.detach().clone(), requires_grad=False))
    return module.eval()  # type: ignore[no-any-return]
