"""Sums of products of whole numbers in torch, exact on every device.

GPUs multiply matrices in floating point, or in 8 bits with sums of 32. Sums of whole numbers are exact in
floating point, in whatever order they are taken, while sums of magnitudes stay below 2^24 (float32) or
2^53 (float64); weights and the largest message say which holds. Convolutions are products of patches, as
torch's own may go through Fourier or Winograd transforms, which round.
"""

from __future__ import annotations

import warnings
from functools import cache
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...network.layers import Conv

FLOAT32, FLOAT64 = 1 << 24, 1 << 53
"""Whole numbers below these are exact, however a sum of them is ordered."""
INT32 = 1 << 31
INT8_ON = ("cuda",)
"""Types of device on which products are taken in 8 bits where they can be."""
_FEWEST = 32
"""Rows of a product in 8 bits."""
_HALF = 16
"""Bits of the lower part of messages whose sums would be beyond float64."""


class Sums(NamedTuple):
    """`times` * `values` are sums, whole numbers of any type.

    `wraps`: of the same shape, true where a sum wrapped, or how often; None where none can.
    """

    values: Tensor
    times: int = 1
    wraps: Tensor | None = None

    def whole(self) -> Tensor:
        """The sums, int32."""
        values = self.values.to(torch.int32)
        return values if self.times == 1 else values * self.times


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


def exact_type(bound: float) -> torch.dtype:
    """The type in which sums of products are exact whose magnitudes add up to `bound` at most.

    int64 where no floating point is; torch has no matrix product of it on GPUs.
    """
    if bound < FLOAT32 and float32_is_exact():
        return torch.float32
    return torch.float64 if bound < FLOAT64 else torch.int64


class Product:
    """The product of messages with a matrix of whole numbers, (out, in) or (group, out, in)."""

    def __init__(self, weight: NDArray[np.signedinteger[Any]], device: torch.device) -> None:
        self.total = int(np.abs(weight.astype(np.int64)).sum(axis=-1).max())
        """the largest sum of magnitudes, of messages of size 1"""
        self._weight = weight
        self._device = device
        self._stored: dict[torch.dtype, Tensor] = {}
        self._bytes = None if weight.ndim > 2 else _in_bytes(weight)
        """(matrix of 8 bits, factor) whose products add up to ours; None where there are none"""

    def __call__(self, x: Tensor, largest: int) -> Sums:
        """Messages ([group,] row, in) to sums ([group,] row, out), exact.

        `largest`: at least the size of every message, which are of any type that holds them.
        """
        bound = self.total * largest
        if bound < INT32 and x.dtype == torch.int8 and self._device.type in INT8_ON:
            sums = self._in_int8(x)
            if sums is not None:
                return sums
        dtype = exact_type(bound)
        if dtype != torch.int64:
            return Sums(torch.matmul(x.to(dtype), self._in(dtype)))
        x = x.to(torch.int32)
        high, low = x >> _HALF, x & ((1 << _HALF) - 1)
        parts = [
            torch.matmul(part.double(), self._in(torch.float64)).long() for part in (high, low)
        ]
        return Sums((parts[0] << _HALF) + parts[1])

    def _in(self, dtype: torch.dtype) -> Tensor:
        """The weights, (..., in, out), on the device: moved there when first used."""
        if dtype not in self._stored:
            turned = np.ascontiguousarray(self._weight.swapaxes(-1, -2))
            self._stored[dtype] = torch.tensor(turned, dtype=dtype, device=self._device)
        return self._stored[dtype]

    def _in_int8(self, x: Tensor) -> Sums | None:
        """The sums by products in 8 bits; None where these cannot be had."""
        if self._bytes is None or len(x) < _FEWEST or not int8_works(self._device):
            return None
        into = x.shape[1]
        if into % 8:
            x = torch.nn.functional.pad(x, (0, -into % 8))
        if torch.int8 not in self._stored:
            parts = [np.pad(part, [(0, -n % 8) for n in part.shape]) for part, _ in self._bytes]
            whole = np.stack(parts).astype(np.int8)
            self._stored[torch.int8] = torch.tensor(whole, device=self._device)
        try:
            products = [int8_product(x.contiguous(), part) for part in self._stored[torch.int8]]
        except RuntimeError:  # sizes that the library has no kernel for
            self._bytes = None
            return None
        out = len(self._weight)
        if len(products) == 1:
            return Sums(products[0][:, :out].contiguous(), self._bytes[0][1])
        (first, second), ((_, times), (_, more)) = products, self._bytes
        return Sums((first * times + second * more)[:, :out].contiguous())


def _in_bytes(weight: NDArray[Any]) -> list[tuple[NDArray[Any], int]] | None:
    """Matrices within 8 bits and factors: the sum of their products is the weight."""
    low, high = int(weight.min()), int(weight.max())
    if low >= -128 and high <= 127:
        return [(weight, 1)]
    if low < -256 or high > 255:
        return None
    halves = [(weight >> 1, 2), (weight & 1, 1)]
    return halves if (weight & 1).any() else halves[:1]


def int8_product(x: Tensor, weight: Tensor) -> Tensor:
    """int8 (row, in) and (out, in) to the sums (row, out), int32."""
    product: Tensor = torch._int_mm(x, weight.t())
    return product


@cache
def int8_works(device: torch.device) -> bool:
    """Whether this torch has products in 8 bits on a device, and they are right."""
    rng = np.random.default_rng(0)
    try:
        for rows, into, out in ((33, 8, 8), (64, 784, 16), (1000, 4608, 64)):
            x, weight = (
                rng.choice([-128, -1, 0, 1, 127, 5], (n, into)).astype(np.int8) for n in (rows, out)
            )
            product = int8_product(*(torch.from_numpy(part).to(device) for part in (x, weight)))
            right = x.astype(np.float64) @ weight.T.astype(np.float64)
            if not np.array_equal(product.cpu().numpy(), right):
                raise ArithmeticError("its sums are wrong")
    except (AttributeError, RuntimeError, ArithmeticError) as error:
        warnings.warn(
            f"{device}: no products in 8 bits, floating point is used instead: {error}",
            RuntimeWarning,
            stacklevel=2,
        )
        return False
    return True


class Patches:
    """What a convolution's products see: the patch of each output position as a row."""

    def __init__(self, layer: Conv) -> None:
        self._padding, self._stride, self._dilation = layer.padding, layer.stride, layer.dilation
        self._kernel = layer.weight.shape[2:]
        self._groups = layer.groups

    def __call__(self, x: Tensor) -> Tensor:
        """Frames (frame, H, W, C) to rows (group, frame and position, tap and channel)."""
        (py, px), (sy, sx), (dy, dx) = self._padding, self._stride, self._dilation
        (ky, kx), groups = self._kernel, self._groups
        if py or px:
            x = torch.nn.functional.pad(x, (0, 0, px, px, py, py))
        x = x.contiguous()
        frames, height, width, channels = x.shape
        rows = (height - dy * (ky - 1) - 1) // sy + 1
        columns = (width - dx * (kx - 1) - 1) // sx + 1
        frame, line, place, channel = x.stride()
        inside = channels // groups
        patches = x.as_strided(
            (groups, frames, rows, columns, ky, kx, inside),
            (inside * channel, frame, line * sy, place * sx, line * dy, place * dx, channel),
        )
        return patches.reshape(groups, frames * rows * columns, -1)
