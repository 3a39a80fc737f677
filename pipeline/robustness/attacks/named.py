"""Attacks by name, as the command line gives them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from types import MappingProxyType

from ....models.surrogates import FEW_MODES, MODES, SURROGATES, USUAL, Fixed, Gradient
from .adaptive import SAPGD
from .apgd import APGD, LossName, TargetedAPGD
from .attack import Attack
from .ensemble import ensemble_of
from .gradient import FGSM, PGD, RFGSM, RandomNoise
from .square import Square


@dataclass(frozen=True)
class Strength:
    """What attacks have in common: `epsilon`; `steps`, `restarts` and `eot` of those that have them.

    `steps`: None is each attack's own number, 100 of SA-PGD, whose surrogate needs time to adapt, else
    20. `queries`: of Square. `gradient`: of all but SA-PGD and ensembles.
    """

    epsilon: float
    steps: int | None = None
    restarts: int = 1
    eot: int = 1
    queries: int = 1000
    gradient: Gradient = USUAL

    def of(self, usual: int) -> int:
        """Steps of an attack that usually has so many."""
        return usual if self.steps is None else self.steps


def _pgd(s: Strength, smooth: bool = False) -> PGD:
    return PGD(
        s.epsilon,
        steps=s.of(20),
        restarts=s.restarts,
        eot=s.eot,
        smooth=smooth,
        gradient=s.gradient,
    )


def _apgd(s: Strength, loss: LossName) -> APGD:
    return APGD(s.epsilon, loss, s.of(20), s.restarts, s.eot, s.gradient)


ATTACKS: Mapping[str, Callable[[Strength], Attack]] = MappingProxyType(
    {
        "noise": lambda s: RandomNoise(s.epsilon),
        "fgsm": lambda s: FGSM(s.epsilon, eot=s.eot, gradient=s.gradient),
        "rfgsm": lambda s: RFGSM(s.epsilon, eot=s.eot, gradient=s.gradient),
        "pgd": _pgd,
        "smoothadv": lambda s: _pgd(s, smooth=True),
        "apgd-ce": lambda s: _apgd(s, "ce"),
        "apgd-dlr": lambda s: _apgd(s, "dlr"),
        "apgd-t": lambda s: TargetedAPGD(s.epsilon, steps=s.of(20), eot=s.eot, gradient=s.gradient),
        "sa-pgd": lambda s: SAPGD(s.epsilon, steps=s.of(100), restarts=s.restarts, eot=s.eot),
        "square": lambda s: Square(s.epsilon, queries=s.queries),
        "ensemble-4": lambda s: ensemble_of(_pgd(s), FEW_MODES),
        "ensemble-19": lambda s: ensemble_of(_pgd(s), MODES),
    }
)
"""noise: random signs; smoothadv: PGD on the loss of a vote; ensemble-N: PGD with each of N gradients,
the worst for each image."""


def named(name: str, strength: Strength) -> Attack:
    """The attack called `name`. Raises ValueError, naming those that there are."""
    if name not in ATTACKS:
        raise ValueError(f"unknown attack {name!r}; choose from {', '.join(ATTACKS)}.")
    return ATTACKS[name](strength)


def gradient_named(name: str) -> Gradient:
    """A gradient rule by name: a surrogate, rate, activation, or a mode of the ensemble attack."""
    rules: dict[str, Gradient] = {n: Fixed(f) for n, f in SURROGATES.items()}
    rules |= MODES
    if name not in rules:
        raise ValueError(f"unknown gradient {name!r}; choose from {', '.join(rules)}.")
    return rules[name]
