"""What the attacks of a comparison have in common."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import TYPE_CHECKING, Any, TypeVar

from ....models.surrogates import USUAL, Gradient

if TYPE_CHECKING:
    from .attack import Attack

A = TypeVar("A", bound="Attack")


@dataclass(frozen=True)
class Strength:
    """The fields that attacks share. An attack takes those of them that it has.

    `epsilon`: radius of the L-infinity ball, images being in [0, 1]. `steps`: None is each attack's own
    number, 100 of SA-PGD, whose surrogate needs time to adapt, else 20. `restarts`: random starts.
    `eot`: draws of the coding per gradient. `queries`: of Square. `gradient`: how gradients pass spikes;
    SA-PGD and ensembles have their own.
    """

    epsilon: float
    steps: int | None = None
    restarts: int = 1
    eot: int = 1
    queries: int = 1000
    gradient: Gradient = USUAL

    def build(self, kind: type[A], **own: Any) -> A:
        """An attack of a kind, with fields of its `own` given by name. Raises ValueError, as it does."""
        names = {field.name for field in fields(kind)}
        shared = {
            field.name: value
            for field in fields(self)
            if field.name in names and (value := getattr(self, field.name)) is not None
        }
        return kind(**{**shared, **own})
