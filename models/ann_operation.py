"""What an operation of an ANN does, seen from outside: from what it makes of the numbers it is given."""

from __future__ import annotations

from collections.abc import Callable

import torch
from torch import Tensor, nn

from .activation import FAR
from .ann_rewrite import scaling


def reshaped(x: Tensor, out: Tensor) -> nn.Module | str | None:
    """What an operation is that gives the numbers of every image in their order, in another shape."""
    if out.ndim == 2:
        return nn.Flatten()
    as_row = x.ndim == 4 and x.shape[2] == 1 and out.shape == x.squeeze(2).shape
    if as_row or (x.ndim == 3 and out.shape == x.unsqueeze(2).shape):
        return None  # signals (C, L) are images of one row (C, 1, L)
    if out.ndim == 1:
        return "makes one number of an image, without an axis: return (sample, 1)."
    return f"makes {tuple(out.shape[1:])} of {tuple(x.shape[1:])}; only Flatten is known."


def bounded(function: Callable[[Tensor], Tensor], x: Tensor) -> bool:
    """Whether what changed nothing on these images would change others: a clamp, a ReLU."""
    try:
        return any(
            not torch.equal(function(far), far)
            for size in (10.0, FAR)
            for far in (size + x.abs(), -size - x.abs())
        )
    except Exception:
        return False


def same(function: Callable[[Tensor], Tensor], x: Tensor, out: Tensor) -> bool:
    """Whether an operation gives the same twice."""
    try:
        again = function(x).double()
        return again.shape == out.shape and torch.equal(again.nan_to_num(), out.nan_to_num())
    except Exception:  # not one that can be called alone
        return True


def is_row(function: Callable[[Tensor], Tensor], x: Tensor, out: Tensor) -> bool:
    """Whether each image's numbers alone decide what becomes of them."""
    if x.ndim != 2:
        return False
    alone = torch.cat([function(row[None]) for row in x])
    return torch.allclose(alone, out, rtol=1e-9, atol=1e-12)


def mean(x: Tensor, out: Tensor) -> nn.Module | None:
    """The mean over an image, or a signal, of each channel."""
    if x.ndim not in (3, 4) or out.numel() != x.shape[0] * x.shape[1] or len(out) != len(x):
        return None
    kept = out.ndim == x.ndim
    if (not kept and out.ndim != 2) or not torch.allclose(
        out.flatten(), x.flatten(2).mean(2).flatten(), rtol=1e-9, atol=1e-12
    ):
        return None
    pool = nn.AdaptiveAvgPool2d(1)
    return pool if kept else nn.Sequential(pool, nn.Flatten())


def by_channel(function: Callable[[Tensor], Tensor], x: Tensor) -> nn.Module | None:
    """a[c] x + b[c], as a layer of its own; None where it is something else."""
    if x.ndim not in (2, 3, 4):
        return None
    zeros = torch.zeros_like(x[:1])
    try:
        b = function(zeros)
        a = function(zeros + 1) - b
        holds = torch.allclose(function(x), a * x + b, rtol=1e-9, atol=1e-12)
        holds &= torch.allclose(function(-3 * x), -3 * a * x + b, rtol=1e-9, atol=1e-9)
    except Exception:
        return None
    if not holds or a.shape != zeros.shape:
        return None
    if x.ndim > 2:
        a, b = a.flatten(2), b.flatten(2)
        if any((t != t[:, :, :1]).any() for t in (a, b)):
            return None
        a, b = a[:, :, 0], b[:, :, 0]
    return scaling(a.flatten(), b.flatten(), 2 if x.ndim == 2 else 4)
