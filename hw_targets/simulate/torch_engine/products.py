"""Sums of products of whole numbers in torch, exact on every device.

GPUs multiply matrices in floating point. Sums of whole numbers are exact there, in whatever order they
are taken, while sums of magnitudes stay below 2^24 (float32) or 2^53 (float64); weights and the largest
message say which holds. Convolutions are products of patches, as torch's own may go through Fourier or
Winograd transforms, which round.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...network.layers import Conv

FLOAT32, FLOAT64 = 1 << 24, 1 << 53
"""Whole numbers below these are exact, however a sum of them is ordered."""
INT32 = 1 << 31
_HALF = 16
"""Bits of the lower part of messages whose sums would be beyond float64."""


def float32_is_exact() -> bool:
    """Whether torch keeps float32 products in float32: no TF32 and no bfloat16 in their place."""
    settings = [torch.backends.cuda.matmul, torch.backends]
    try:
        return (
            torch.get_float32_matmul_precision() == "highest"
            and not torch.backends.cuda.matmul.allow_tf32
            and all(getattr(s, "fp32_precision", "none") in ("none", "ieee") for s in settings)
        )
    except RuntimeError:  # newer torch, where both old and new settings were used
        return False


def exact_type(bound: int) -> torch.dtype:
    """The type in which sums of products are exact whose magnitudes add up to `bound` at most.

    int64 where no floating point is; torch has no matrix product of it on GPUs.
    """
    if bound < FLOAT32 and float32_is_exact():
        return torch.float32
    return torch.float64 if bound < FLOAT64 else torch.int64


class Product:
    """The product of messages with a matrix of whole numbers, (out, in) or (group, out, in)."""

    def __init__(self, weight: NDArray[np.integer[Any]], device: torch.device) -> None:
        self.total = int(np.abs(weight.astype(np.int64)).sum(axis=-1).max())
        """the largest sum of magnitudes, of messages of size 1"""
        self._weight = np.ascontiguousarray(weight.swapaxes(-1, -2))
        self._device = device
        self._stored: dict[torch.dtype, Tensor] = {}

    def __call__(self, x: Tensor, largest: int) -> Tensor:
        """Messages ([group,] row, in) to sums ([group,] row, out), in the type of `exact_type`.

        `largest`: at least the size of every message, which are of any type that holds them.
        """
        dtype = exact_type(self.total * largest)
        if dtype != torch.int64:
            return torch.matmul(x.to(dtype), self._in(dtype))
        x = x.to(torch.int32)
        high, low = x >> _HALF, x & ((1 << _HALF) - 1)
        parts = [
            torch.matmul(part.double(), self._in(torch.float64)).long() for part in (high, low)
        ]
        return (parts[0] << _HALF) + parts[1]

    def _in(self, dtype: torch.dtype) -> Tensor:
        """The weights, (..., in, out), on the device: moved there when first used."""
        if dtype not in self._stored:
            self._stored[dtype] = torch.tensor(self._weight, dtype=dtype, device=self._device)
        return self._stored[dtype]


class Patches:
    """What a convolution's products see: the patch of each output position as a row."""

    def __init__(self, layer: Conv) -> None:
        self._padding, self._stride, self._dilation = layer.padding, layer.stride, layer.dilation
        self._kernel = layer.weight.shape[2:]
        self._groups = layer.groups

    def __call__(self, x: Tensor) -> Tensor:
        """Frames (frame, C, H, W) to rows (group, frame and position, channel and tap)."""
        (py, px), (sy, sx), (dy, dx) = self._padding, self._stride, self._dilation
        (ky, kx), groups = self._kernel, self._groups
        if py or px:
            x = torch.nn.functional.pad(x, (px, px, py, py))
        x = x.contiguous()
        frames, channels, height, width = x.shape
        rows = (height - dy * (ky - 1) - 1) // sy + 1
        columns = (width - dx * (kx - 1) - 1) // sx + 1
        frame, channel, line, place = x.stride()
        patches = x.as_strided(
            (groups, frames, rows, columns, channels // groups, ky, kx),
            (
                channel * (channels // groups),
                frame,
                line * sy,
                place * sx,
                channel,
                line * dy,
                place * dx,
            ),
        )
        return patches.reshape(groups, frames * rows * columns, -1)
