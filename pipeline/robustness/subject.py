"""A network and the data that it is attacked and certified on, scaled to [0, 1]."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import nn

from ...hw_targets.network.coding import Coding
from ...models.data.dataset import Dataset
from ...models.training import Classifier
from ..deploy.deployed import Deployed
from ..frontends.load import check_ann
from .ann_victim import AnnVictim
from .unit_range import UNIT, Span, images_alone, in_unit_range
from .victims import DeployedVictim, FloatVictim, Victim


@dataclass(frozen=True)
class Subject:
    """A network that is judged, and the data set that it is judged on.

    `span`: the ends of the range of the data before they were scaled to [0, 1].
    """

    victim: Victim
    dataset: Dataset
    span: Span = UNIT

    @classmethod
    def of(cls, model: Any, data: Dataset, coding: Coding | None = None) -> Subject:
        """What `spikeship.attack` is given: a `Deployed`, what `train` made, or a torch ANN.

        `coding`: noise for a torch ANN, see `AnnVictim`; others have theirs. Raises ValueError for other
        objects, and DatasetError for data that cannot be attacked, see `in_unit_range`.
        """
        own = isinstance(model, nn.Module) and not isinstance(model, Classifier)
        if not own and not isinstance(model, Deployed | Classifier):
            raise ValueError(
                f"a {type(model).__name__} cannot be attacked: give what `deploy`, `load` or `train` "
                f"return, or a torch ANN. What `convert` and `quantize` return goes to `deploy` first."
            )
        if coding is not None and not own:
            raise ValueError("coding: this network has its own; leave it out.")
        if own:
            check_ann(model)
        scaled, span = in_unit_range(data)
        victim: Victim
        if own:
            victim = AnnVictim(model, scaled.test.images, span=span, coding=coding)
        elif isinstance(model, Deployed):
            victim = DeployedVictim(model, span=span)
        else:
            victim = FloatVictim(model, span=span)
        return cls(victim, scaled, span)

    def images_alone(self, what: str) -> None:
        """Refuse data that are no images in [0, 1], where `what` needs these. Raises DatasetError."""
        images_alone(self.dataset, self.span, what)

    @property
    def unit(self) -> list[str]:
        """In what epsilon is, where it is not in units of [0, 1]."""
        if self.span == UNIT:
            return []
        return [f"epsilon in units of the range of the data, {self.span[0]:g} .. {self.span[1]:g}"]
