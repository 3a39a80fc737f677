"""Classification data: a `Dataset` is three splits, whoever made them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    import torch

EVENT_STEPS = 30
"""Steps of an event sample where nothing else is said: 10 ms each for N-MNIST."""


class DatasetError(ValueError):
    """A data set that is unknown, not there, or damaged."""


@dataclass(frozen=True, repr=False)
class Split:
    """`images` float32 (N, C, H, W) in [0, 1], or events int8 (N, steps, C, H, W); `labels` int64."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index], self.labels[index]

    def __repr__(self) -> str:
        return f"{len(self)} samples of {'x'.join(map(str, self.images.shape[1:]))}"

    def first(self, count: int) -> Split:
        """The first `count` samples, or all where there are fewer."""
        return Split(self.images[:count], self.labels[:count])


@dataclass(frozen=True, repr=False)
class Dataset:
    """Train, validation (never used for fitting) and test images of one data set."""

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, ...]:
        """(C, H, W) of an image, or of one step of events."""
        return tuple(self.train.images.shape[-3:])

    @property
    def event_steps(self) -> int | None:
        """Time steps of a sample of events; None where the samples are images."""
        return self.train.images.shape[1] if self.train.images.ndim == 5 else None

    @property
    def classes(self) -> int:
        return int(self.train.labels.max()) + 1

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.train.images.shape[1:]))
        kind = "images" if self.event_steps is None else "samples of events"
        return (
            f"{self.name}: {len(self.train)} training, {len(self.validation)} validation and "
            f"{len(self.test)} test {kind} of {shape}, {self.classes} classes"
        )


def in_three(name: str, everything: Split) -> Dataset:
    """A data set of samples that are not divided: a fixed fifth of them for testing, and `in_two`."""
    rest, test = _divide(len(everything), 0.2)
    return in_two(name, Split(*everything[rest]), Split(*everything[test]))


def in_two(name: str, train: Split, test: Split) -> Dataset:
    """A data set with test samples of its own; a fixed tenth of the others is for validation."""
    first, second = _divide(len(train), 0.1)
    return Dataset(name, Split(*train[first]), Split(*train[second]), test)


def _divide(count: int, fraction: float) -> tuple[list[int], list[int]]:
    order = np.random.default_rng(0).permutation(count).tolist()
    cut = count - round(count * fraction)
    return order[:cut], order[cut:]
