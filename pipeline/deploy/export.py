"""How a network will be run, and what it is calibrated on."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.network.recipe import Recipe
from ...models.encoding import Encoding, generator

if TYPE_CHECKING:
    pass


CALIBRATION_SEED = 20_000
"""Noise of the calibration images; the recipe's own seed is for evaluation."""


def recipe_for(
    encoding: Encoding, seed: int = 0, provenance: Mapping[str, str] | None = None
) -> Recipe:
    """How an exported network is to be run.

    A reset every `steps` steps with offset 1: layer i forgets its state in the step in which a new
    sample's first data reaches it. Biases, which netx switches on from step 1 in all layers, thus
    act from the first data on, as in the float network; and samples can follow each other without gap.
    """
    phased = encoding.coding == "phase"
    return Recipe(
        steps=encoding.steps,
        levels=encoding.levels,
        message_bits=encoding.message_bits,
        reset_interval=encoding.steps,
        reset_offset=1,
        coding=encoding.coding,
        sigma=encoding.sigma,
        seed=seed,
        grid=None if encoding.grid == encoding.levels else encoding.grid,
        offsets=encoding.offsets if phased else None,
        template=encoding.template if phased else None,
        provenance={"spikeship": version("spikeship"), **(provenance or {})},
    )


def recipe_of(
    messages: NDArray[Any], levels: int = 1, provenance: Mapping[str, str] | None = None
) -> Recipe:
    """The recipe for one's own integer inputs (sample, time, *input shape), as `recipe_for`.

    Single spikes where all are 0 or 1, else messages of the bits that these need, sign included.
    """
    if messages.ndim < 3 or messages.size == 0 or not np.issubdtype(messages.dtype, np.integer):
        raise ValueError(
            f"inputs of shape {messages.shape} and type {messages.dtype}; integers (sample, time, "
            f"*input shape) are needed."
        )
    low, high = int(messages.min()), int(messages.max())
    bits = 0 if low >= 0 and high <= 1 else 1 + max((-low - 1).bit_length(), high.bit_length())
    steps = messages.shape[1]
    return Recipe(
        steps=steps,
        levels=levels,
        message_bits=bits,
        reset_interval=steps,
        reset_offset=1,
        coding="given",
        provenance={"spikeship": version("spikeship"), **(provenance or {})},
    )


def calibration_messages(
    encoding: Encoding, images: torch.Tensor, seed: int = 0
) -> NDArray[np.int32]:
    """Images in [0, 1] as integer inputs, with noise that no evaluation draws."""
    return encoding.integers(images, generator(CALIBRATION_SEED + seed))


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
