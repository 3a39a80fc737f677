"""The inputs on which integers are chosen."""

from __future__ import annotations

import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.network.coding import Coding
from ...models import encoding
from ...models.encoding import generator

CALIBRATION_SEED = 20_000
"""Noise of the calibration images; the recipe's own seed is for evaluation."""


def calibration_messages(coding: Coding, images: torch.Tensor, seed: int = 0) -> NDArray[np.int32]:
    """Images (sample, C, H, W) in [0, 1] as integer inputs, with noise that no evaluation draws.

    Shape (sample, steps, C, H, W). Raises ValueError where a draw does not fit into the message bits.
    """
    return encoding.integers(coding, images, generator(CALIBRATION_SEED + seed))
