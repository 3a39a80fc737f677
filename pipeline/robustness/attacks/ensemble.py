"""The worst of several attacks for each image, above all of one attack with many gradients."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import ClassVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ....models.surrogates import FEW_MODES, MODES, Gradient
from ..victims import Victim
from .apgd import APGD, TargetedAPGD
from .attack import Attack, Build, score
from .gradient import FGSM, PGD, RFGSM


@dataclass(frozen=True)
class Ensemble(Attack):
    """Runs `members`, all of one epsilon, in turn, and keeps the worst result for each image.

    Worst is the lowest share of right answers on `judging_draws` fresh draws of the coding, the clean
    image's included; an image that no draw gets right is not attacked again. Whoever runs the ensemble
    must judge what it returns on other draws, as `attack` does: a minimum of estimates is too low.
    """

    name: ClassVar[str] = "ensemble"
    names: ClassVar[Mapping[str, Build]] = {
        "ensemble-4": lambda s: ensemble_of(s.build(PGD), FEW_MODES),
        "ensemble-19": lambda s: ensemble_of(s.build(PGD), MODES),
    }
    epsilon: float = field(init=False)
    members: tuple[Attack, ...]
    judging_draws: int = 20

    def __post_init__(self) -> None:
        sizes = {member.epsilon for member in self.members}
        if len(sizes) != 1:
            raise ValueError(
                f"ensemble of {len(self.members)} attacks with epsilons {sorted(sizes)}: one or more "
                f"attacks with one epsilon are needed."
            )
        object.__setattr__(self, "epsilon", sizes.pop())
        super().__post_init__()

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        def judged(x: Tensor, y: Tensor) -> NDArray[np.float64]:
            seed = int(torch.randint(2**31, (), generator=draws, device=draws.device))
            return score(victim, x, y, seed=seed, draws=self.judging_draws).right.copy()

        worst, right = images.clone(), judged(images, labels)
        for member in self.members:
            left = np.flatnonzero(right)
            if not left.size:
                break
            moved = member.run(victim, images[left], labels[left], draws)
            share = judged(moved, labels[left])
            lower = np.flatnonzero(share < right[left])
            worst[left[lower]], right[left[lower]] = moved[lower], share[lower]
        return worst


def ensemble_of(
    attack: FGSM | RFGSM | PGD | APGD | TargetedAPGD, modes: Mapping[str, Gradient] = MODES
) -> Ensemble:
    """One attack with each of the gradients, as Ozdenizci and Legenstein (2024) judge robustness."""
    return Ensemble(tuple(replace(attack, gradient=gradient) for gradient in modes.values()))
