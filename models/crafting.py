"""Adversarial images by steps along the sign of a gradient, in an L-infinity ball: pure functions."""

from __future__ import annotations

from collections.abc import Callable
from typing import TypeAlias

import torch
from torch import Tensor

Slope: TypeAlias = Callable[[Tensor], Tensor]
"""Images (sample, *shape) to the gradient of the loss to be maximized, of the same shape."""

PGD_REACH = 2.5
"""PGD's usual step is this over the number of steps, in units of epsilon (Madry et al. 2018)."""


def project(moved: Tensor, images: Tensor, epsilon: float) -> Tensor:
    """The nearest point to `moved` with |x - images| <= epsilon and 0 <= x <= 1, elementwise.

    Both are of the same shape, (sample, *shape), and so is the point.
    """
    near = torch.minimum(torch.maximum(moved, images - epsilon), images + epsilon)
    return near.clamp(0, 1)


def sign_steps(
    slope: Slope, images: Tensor, start: Tensor, epsilon: float, step: float, steps: int
) -> Tensor:
    """`steps` times x <- project(x + step * sign(slope(x))), from `start`; without gradient.

    Images in [0, 1]; `epsilon`, `step` in the same units. One step from `images` with step = epsilon is
    FGSM (Goodfellow et al. 2015), many from a random start are PGD (Madry et al. 2018).
    """
    x = start.detach()
    for _ in range(steps):
        x = project(x + step * slope(x).detach().sign(), images, epsilon).detach()
    return x


def uniform_start(images: Tensor, epsilon: float, draws: torch.Generator) -> Tensor:
    """A point of the ball, uniform in [-epsilon, epsilon] before clipping to [0, 1] (PGD)."""
    noise = torch.rand(images.shape, generator=draws, device=draws.device).to(images)
    return project(images + epsilon * (2 * noise - 1), images, epsilon)


def random_signs(images: Tensor, size: float, draws: torch.Generator) -> Tensor:
    """clip(images + size * sign(N(0, I)), 0, 1): the first step of RFGSM (Tramer et al. 2018)."""
    noise = torch.randn(images.shape, generator=draws, device=draws.device).to(images)
    return (images + size * noise.sign()).clamp(0, 1)
