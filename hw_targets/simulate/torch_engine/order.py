"""The order of neurons on a device: position by position, all channels of one side by side.

An image (C, H, W) is (H, W, C) there, so that the patches of a convolution are long pieces of memory and
what its product gives needs no turning. A layer of one axis is as it is.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from torch import Tensor

from ...arrays import Array


def inward(array: Array, shape: Sequence[int]) -> Array:
    """(..., *shape) of a layer, in our order: (..., neurons)."""
    if len(shape) == 3:
        array = np.moveaxis(array, -3, -1)
    return array.reshape(*array.shape[: array.ndim - len(shape)], -1)


def outward(array: Array, shape: Sequence[int]) -> Array:
    """(..., neurons) in our order as (..., *shape)."""
    if len(shape) == 1:
        return array
    channels, rows, columns = shape
    return np.moveaxis(array.reshape(*array.shape[:-1], rows, columns, channels), -1, -3)


def image(x: Tensor, shape: Sequence[int]) -> Tensor:
    """(..., neurons) in our order as (..., H, W, C) of a layer of `shape`; one axis stays."""
    if len(shape) == 1:
        return x
    channels, rows, columns = shape
    return x.reshape(*x.shape[:-1], rows, columns, channels)
