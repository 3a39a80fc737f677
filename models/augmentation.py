"""Training images that are moved and mirrored at random, each by itself."""

from __future__ import annotations

import torch
from torch import Tensor
from torch.nn.functional import pad

from .settings import Augmentation

BORDER = 8
"""A cropped image is moved by up to its shorter side over this, 4 of 32 pixels, as usual for CIFAR-10."""


def augmented(images: Tensor, kind: Augmentation, draws: torch.Generator) -> Tensor:
    """Images (sample, C, H, W) of the same shape, each drawn anew: ``crop``, ``flip``, both or neither.

    ``crop``: a window of the image's size out of the image within a border of zeros as wide as its
    shorter side over `BORDER`, at least one pixel, at any place with equal chance, as torchvision's
    RandomCrop with `padding` has it. ``flip``: left to right, with chance 1/2.
    """
    if kind in ("crop", "crop-flip"):
        images = _cropped(images, draws)
    if kind in ("flip", "crop-flip"):
        images = _flipped(images, draws)
    return images


def _cropped(images: Tensor, draws: torch.Generator) -> Tensor:
    count, _, height, width = images.shape
    border = max(1, min(height, width) // BORDER)
    first = _drawn(2 * border + 1, (2, count, 1), draws).to(images.device)
    rows, columns = (
        first[axis] + torch.arange(size, device=images.device)
        for axis, size in enumerate((height, width))
    )
    sample = torch.arange(count, device=images.device)[:, None, None]
    padded = pad(images, (border, border, border, border)).movedim(1, -1)
    return padded[sample, rows[:, :, None], columns[:, None, :]].movedim(-1, 1).contiguous()


def _flipped(images: Tensor, draws: torch.Generator) -> Tensor:
    flips = _drawn(2, (len(images), 1, 1, 1), draws).to(images.device) == 1
    return torch.where(flips, images.flip(-1), images)


def _drawn(limit: int, shape: tuple[int, ...], draws: torch.Generator) -> Tensor:
    return torch.randint(limit, shape, generator=draws, device=draws.device)
