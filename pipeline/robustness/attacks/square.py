"""Square: random search that sees scores only, no gradients."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ..victims import Victim
from .attack import Attack, Build

_HALVINGS = (10, 50, 200, 500, 1000, 2000, 4000, 6000, 8000)
"""After how many of 10,000 queries the area of the patches is halved."""


@dataclass(frozen=True)
class Square(Attack):
    """Random square patches, kept where they do not raise the margin (Andriushchenko et al. 2020).

    The start is vertical stripes of +-epsilon, one sign per column and channel. Each query replaces a
    square of the best perturbation so far, at a random place, by +-epsilon, one random sign per
    channel; where that would change nothing, the signs are inverted. Sides follow `side`. The margin is
    z_y - max of the others, z being `Victim.scores`: of the deployed network the engine's integers.
    Equal margins are accepted, since spike counts have few values.

    `queries` counts the images scored for each image, the stripes included. Of a victim that draws its
    coding, each margin is the mean over `draws_per_query` draws, the same ones in every query: fresh
    ones would let a lucky draw stand for good, and the attack would look weak (as an outsider is, who
    cannot hold the draws). The search then uses up its queries, since no image counts as lost for a
    draw. Other victims are asked once per query, and no more about an image that they get wrong.

    `area`: the part p of the image that the first patches take (0.8 in AutoAttack).
    """

    name: ClassVar[str] = "Square"
    names: ClassVar[Mapping[str, Build]] = {"square": lambda s: s.build(Square)}
    queries: int = 1000
    draws_per_query: int = 8
    area: float = 0.8

    def __post_init__(self) -> None:
        super().__post_init__()
        if not 0 < self.area <= 1:
            raise ValueError(
                f"Square: area = {self.area:g}; a part of the image, (0, 1], is needed."
            )

    def side(self, query: int, height: int, width: int) -> int:
        """Pixels of a patch's side in query 0, 1, ... after the stripes.

        round(sqrt(p * height * width)), at least 1 and less than the image's shorter side. p starts at
        `area` and is halved after 10, 50, 200, 500, 1000, 2000, 4000, 6000 and 8000 queries of 10,000,
        of other numbers of queries in proportion.
        """
        at = int(query / self.queries * 10_000)
        p = self.area / 2 ** sum(at > halving for halving in _HALVINGS)
        return max(1, min(round(math.sqrt(p * height * width)), min(height, width) - 1))

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        if images.ndim != 4:
            raise ValueError(
                f"square changes squares of pixels; samples of shape {tuple(images.shape[1:])} are no "
                f"images (C, H, W)."
            )
        count, channels, height, width = images.shape
        seed = int(_integers(draws, 2**31, 1))
        truth = labels.cpu().numpy()
        best = self._painted(images, _signs(draws, count, channels, 1, width))
        margin, wrong = self._margin(victim, best, truth, seed)
        for query in range(self.queries - 1):
            left = np.flatnonzero(~wrong)
            if not left.size:
                break
            side = self.side(query, height, width)
            top = _integers(draws, height - side + 1, len(left), 1, 1, 1)
            first = _integers(draws, width - side + 1, len(left), 1, 1, 1)
            row, column = torch.arange(height)[:, None], torch.arange(width)
            inside = (row >= top) & (row < top + side) & (column >= first) & (column < first + side)
            inside = inside.to(images.device)
            signs = _signs(draws, len(left), channels, 1, 1)
            x, old = images[left], best[left]
            new = torch.where(inside, self._painted(x, signs), old)
            same = (new == old).flatten(1).all(1).reshape(-1, 1, 1, 1)
            new = torch.where(same & inside, self._painted(x, -signs), new)
            margins, lost = self._margin(victim, new, truth[left], seed)
            better = np.flatnonzero(margins <= margin[left])
            taken = left[better]
            best[taken] = new[better]
            margin[taken], wrong[taken] = margins[better], lost[better]
        return best

    def _painted(self, images: Tensor, signs: Tensor) -> Tensor:
        return self.project(images + self.epsilon * signs.to(images), images)

    def _margin(
        self, victim: Victim, images: Tensor, labels: NDArray[np.int64], seed: int
    ) -> tuple[NDArray[np.float64], NDArray[np.bool_]]:
        """The mean margin of each image, and which are wrong for certain."""
        draws = torch.Generator().manual_seed(seed)
        total = np.zeros(len(images))
        wrong = np.zeros(len(images), bool)
        place = np.arange(len(images))
        for _ in range(self.draws_per_query if victim.stochastic else 1):
            scores = np.asarray(victim.scores(images, draws), np.float64)
            others = scores.copy()
            others[place, labels] = -np.inf
            total += scores[place, labels] - others.max(axis=1)
            wrong = scores.argmax(axis=1) != labels
        if victim.stochastic:
            return total / self.draws_per_query, np.zeros_like(wrong)
        return total, wrong


def _integers(draws: torch.Generator, limit: int, *shape: int) -> Tensor:
    return torch.randint(limit, shape, generator=draws, device=draws.device).cpu()


def _signs(draws: torch.Generator, *shape: int) -> Tensor:
    return _integers(draws, 2, *shape) * 2 - 1
