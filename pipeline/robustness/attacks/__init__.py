"""Attacks by the names that the command line gives them, and the harness that trusts none."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType

from ....models.surrogates import MODES, SURROGATES, Fixed, Gradient
from .adaptive import SAPGD
from .apgd import APGD, TargetedAPGD
from .attack import Attack, Build
from .ensemble import Ensemble
from .gradient import FGSM, PGD, RFGSM, RandomNoise
from .square import Square
from .strength import Strength

__all__ = ["ATTACKS", "Attack", "Build", "Strength", "gradient_named", "named"]

KINDS: tuple[type[Attack], ...] = (
    RandomNoise,
    FGSM,
    RFGSM,
    PGD,
    APGD,
    TargetedAPGD,
    SAPGD,
    Square,
    Ensemble,
)
ATTACKS: Mapping[str, Build] = MappingProxyType(
    {name: build for kind in KINDS for name, build in kind.names.items()}
)
"""What builds the attack of a name, in the order in which they are listed. With one of your own:
`{**ATTACKS, **Mine.names}`."""


def named(name: str, strength: Strength, attacks: Mapping[str, Build] = ATTACKS) -> Attack:
    """The attack called `name`, of that strength. Raises ValueError, naming those that there are."""
    if name not in attacks:
        raise ValueError(f"unknown attack {name!r}; choose from {', '.join(attacks)}.")
    return attacks[name](strength)


def gradient_named(name: str) -> Gradient:
    """A gradient rule by name: a surrogate, rate, activation, or a mode of the ensemble attack.

    Raises ValueError, naming those that there are.
    """
    rules: dict[str, Gradient] = {n: Fixed(f) for n, f in SURROGATES.items()}
    rules |= MODES
    if name not in rules:
        raise ValueError(f"unknown gradient {name!r}; choose from {', '.join(rules)}.")
    return rules[name]
