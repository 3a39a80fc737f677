"""The synapses of a layer on a device: what its messages of many steps bring, all of them at once."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import TypeAlias

import numpy as np
import torch
from torch import Tensor

from ...arrays import Array
from ...network import arithmetic
from ...network.layers import Conv, Dense
from ...network.network import Population
from ...network.neurons import IntArray
from .order import inward
from .products import INT32, Patches, Product, Sums

PIECE = 1 << 22
"""Numbers at a time where every product of a message and a weight is looked at."""


def wrap32(x: Tensor) -> Tensor:
    """`arithmetic.wrap32` of int64."""
    return x.to(torch.int32)


class Matrix:
    """`reference._Matrix`: sums of mantissas wrap at 32 bits and are shifted."""

    def __init__(self, stored: arithmetic.SynapseFormat, device: torch.device) -> None:
        self._shift = max(stored.shift, 0)
        self._mantissa = Product(stored.mantissa, device)
        self._weight = Product(stored.weight, device) if stored.whole else None

    def __call__(self, x: Tensor, largest: int) -> Sums:
        """Messages (..., in) to sums (..., out); `largest`: at least the size of each message."""
        rows, shape = x.reshape(-1, x.shape[-1]), x.shape[:-1]
        if self._mantissa.total * largest < INT32:
            if self._weight is not None:
                sums = self._weight(rows, largest)
                return sums._replace(values=sums.values.reshape(*shape, -1))
            values = self._mantissa(rows, largest).whole() >> self._shift
            return Sums(values.reshape(*shape, -1))
        exact = self._mantissa(rows, largest).values.long()
        wrapped = wrap32(exact)
        values, wraps = wrapped >> self._shift, wrapped != exact
        return Sums(values.reshape(*shape, -1), wraps=wraps.reshape(*shape, -1))

    def reach(self, largest: int) -> int:
        """At least the size of every sum, given the size of the largest message."""
        total = self._mantissa.total if self._weight is None else self._weight.total
        return total * largest


class Delayed:
    """`reference.DelayedMatrix`: each product wraps at 32 bits, and the shifted sums where they meet."""

    def __init__(
        self, stored: arithmetic.SynapseFormat, delays: IntArray, device: torch.device
    ) -> None:
        self._shift = max(stored.shift, 0)
        self._device = device
        self._largest = int(np.abs(stored.mantissa).max())
        self._total = int(np.abs(stored.mantissa).sum(axis=1).max())
        self.longest = int(delays.max())
        self._parts = {
            int(d): np.where(delays == d, stored.mantissa, 0) for d in np.unique(delays)[::-1]
        }
        """by delay, the longest first: so they were sent, and so what they bring adds up"""
        self._products = {d: Product(part, device) for d, part in self._parts.items()}

    def can_wrap(self, largest: int) -> bool:
        """Whether a product or a sum may leave 32 bits."""
        return self._total * largest >= INT32

    def __call__(self, x: Tensor, largest: int) -> Sums:
        """Messages (longest delay and steps, sample, in) to sums (step, sample, out).

        `wraps` says how often, as products wrap too.
        """
        steps = len(x) - self.longest
        total: Tensor | None = None
        wraps: Tensor | None = None
        for delay, product in self._products.items():
            sent = x[self.longest - delay :][:steps]
            rows = sent.reshape(-1, x.shape[-1])
            if self._largest * largest < INT32:
                sums = product(rows, largest)
                exact, wrapped = sums.values.long() * sums.times, None
            else:
                exact, wrapped = self._each(rows, delay)
            part = (exact >> self._shift).reshape(steps, x.shape[1], -1)
            later = part if total is None else total + part
            if not self.can_wrap(largest):
                total = later
                continue
            total = wrap32(later).long()
            more = (total != later).long()
            if wrapped is not None:
                more = more + wrapped.reshape(more.shape)
            wraps = more if wraps is None else wraps + more
        assert total is not None
        return Sums(wrap32(total), wraps=wraps)

    def reach(self, largest: int) -> int:
        """At least the size of every sum, given the size of the largest message."""
        return min(INT32, self._total * largest)

    def _each(self, rows: Tensor, delay: int) -> tuple[Tensor, Tensor]:
        """Sums (row, out) of products that wrap one by one, and how many of them did."""
        weight = torch.tensor(self._parts[delay], dtype=torch.int64, device=self._device)
        sums, wraps = [], []
        for some in torch.split(rows, max(1, PIECE // weight.numel())):
            products = some.long()[:, None, :] * weight
            wrapped = wrap32(products)
            sums.append(wrapped.sum(dim=2, dtype=torch.int64))
            wraps.append((wrapped != products).sum(dim=2))
        return torch.cat(sums), torch.cat(wraps)


class Convolution:
    """`reference._Convolution`: sums wrap at 24 bits."""

    def __init__(self, layer: Conv, population: Population, device: torch.device) -> None:
        out = len(layer.weight)
        self._positions = population.size // out
        taps_first = layer.weight.transpose(0, 2, 3, 1)
        weight = taps_first.reshape(layer.groups, out // layer.groups, -1)
        self._product = Product(weight if layer.groups > 1 else weight[0], device)
        self._groups = layer.groups
        self._patches = Patches(layer)
        self.taps = weight[0, 0].size * layer.groups * self._positions
        """numbers in the patches of a frame"""

    def __call__(self, x: Tensor, largest: int, numbers: int) -> Sums:
        """Messages (step, sample, H, W, C) to sums (step, sample, neurons).

        `numbers`: of patches, as many as there is room for at a time.
        """
        frames = x.reshape(-1, *x.shape[2:])
        pieces = torch.split(frames, max(1, numbers // self.taps))
        parts = [self._some(piece, largest) for piece in pieces]
        values = torch.cat([part.values for part in parts]) if len(parts) > 1 else parts[0].values
        masks = [part.wraps for part in parts if part.wraps is not None]
        wraps = torch.cat(masks).reshape(*x.shape[:2], -1) if masks else None
        return Sums(values.reshape(*x.shape[:2], -1), parts[0].times, wraps)

    def reach(self, largest: int) -> int:
        """At least the size of every sum, given the size of the largest message."""
        return min(arithmetic.STATE_LIMIT, self._product.total * largest)

    def _some(self, frames: Tensor, largest: int) -> Sums:
        rows = self._patches(frames)
        sums = self._product(rows if self._groups > 1 else rows[0], largest)
        by_group = sums.values.reshape(self._groups, len(frames), self._positions, -1)
        values = by_group.permute(1, 2, 0, 3).reshape(len(frames), -1)
        if self._product.total * largest < arithmetic.STATE_LIMIT:
            return sums._replace(values=values)
        exact = values.long() * sums.times
        inside = torch.where((exact >= -INT32) & (exact < INT32), exact, 0)
        limit = arithmetic.STATE_LIMIT
        wrapped = ((inside + limit) & (2 * limit - 1)) - limit
        return Sums(wrap32(wrapped), wraps=wrapped != exact)


Forward: TypeAlias = "list[Matrix] | list[Delayed] | list[Convolution]"


def synapses_of(
    population: Population, before: Sequence[int], device: torch.device
) -> tuple[Forward, Matrix | None]:
    """The synapses from the layer before, one for each sum, and those from the layer itself.

    `before`: the shape of the layer before, as it is before any Flatten.
    """

    def turned(stored: arithmetic.SynapseFormat) -> arithmetic.SynapseFormat:
        return replace(stored, mantissa=_columns(stored.mantissa, before))

    layer = population.layer
    if isinstance(layer, Conv):
        return [Convolution(layer, population, device)], None
    if not isinstance(layer, Dense):
        return [], None
    if layer.recurrent is not None:
        forward, back = arithmetic.synapse_formats(layer.weight, layer.recurrent)
        return [Matrix(turned(forward), device)], Matrix(back, device)
    stored = arithmetic.synapse_format(layer.weight)
    if layer.delays is not None:
        return [Delayed(turned(stored), _columns(layer.delays, before), device)], None
    parts = [Matrix(turned(stored), device)]
    if layer.imaginary is not None:
        parts.append(Matrix(turned(arithmetic.synapse_format(layer.imaginary)), device))
    return parts, None


def _columns(matrix: Array, before: Sequence[int]) -> Array:
    """(out, in) with the inputs in the order that they have on the device."""
    return inward(matrix.reshape(len(matrix), *before), before)
