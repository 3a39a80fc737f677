"""Data with labels: a `Dataset` is three splits, whoever made them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np

if TYPE_CHECKING:
    import torch

Kind: TypeAlias = Literal["images", "sequences", "events"]
"""What a sample is: one picture or vector, held for some steps; numbers that change from step to step;
or spikes of 0 and 1 in every step."""

EVENT_STEPS = 30
"""Steps of an event sample where nothing else is said: 10 ms each for N-MNIST."""


class DatasetError(ValueError):
    """A data set that is unknown, not there, damaged, or not what is needed."""


@dataclass(frozen=True, repr=False)
class Split:
    """Samples and what is to be answered about them.

    `images` (sample, *shape), or sequences or events (sample, steps, *shape): float32, events int8.
    `labels`: classes, int64 (sample,), or for regression float32 (sample, outputs); (0,) where there are
    none.
    """

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index], self.labels[index] if len(self.labels) else self.labels

    def __repr__(self) -> str:
        return f"{len(self)} samples of {'x'.join(map(str, self.images.shape[1:]))}"

    def first(self, count: int) -> Split:
        """The first `count` samples, or all where there are fewer."""
        return type(self)(self.images[:count], self.labels[:count])


class Messages(Split):
    """Inputs that are encoded already: `images` are integers (sample, steps, *input shape)."""


@dataclass(frozen=True, repr=False)
class Dataset:
    """Training, validation (never used for fitting) and test samples of one data set.

    `kind`: None stands for what the axes say: samples of two or four axes have time as their first, and
    are events if they are integers, else sequences; all others are images. `digest`: SHA-256 of one's
    own data, by which they are known again; empty for data sets that never change. `built_in`: the
    built-in data set that a folder holds or a function returned; else empty.
    """

    name: str
    train: Split
    validation: Split
    test: Split
    kind: Kind = None  # type: ignore[assignment]
    digest: str = ""
    built_in: str = ""

    def __post_init__(self) -> None:
        if self.kind is None:
            object.__setattr__(self, "kind", kind_of(self.test.images))

    @property
    def shape(self) -> tuple[int, ...]:
        """Shape of an image, or of one step of a sequence: (C, H, W), or (features,)."""
        return tuple(self.test.images.shape[1 if self.kind == "images" else 2 :])

    @property
    def steps(self) -> int | None:
        """Time steps of a sample; None of images, which have no time."""
        return None if self.kind == "images" else self.test.images.shape[1]

    @property
    def regression(self) -> bool:
        """Whether the answers are real numbers, not classes."""
        return self.test.labels.is_floating_point()

    @property
    def classes(self) -> int:
        """Number of classes; of regression, of the numbers that are asked for."""
        if self.regression:
            return int(self.test.labels.shape[1])
        return max(int(s.labels.max()) for s in (self.train, self.test) if len(s.labels)) + 1

    def __repr__(self) -> str:
        shape = "x".join(map(str, self.test.images.shape[1:]))
        kinds = {"images": "images", "sequences": "sequences", "events": "samples of events"}
        answers = "numbers to predict" if self.regression else "classes"
        name = f"{self.name} ({self.built_in})" if self.built_in else self.name
        return (
            f"{name}: {len(self.train)} training, {len(self.validation)} validation and "
            f"{len(self.test)} test {kinds[self.kind]} of {shape}, {self.classes} {answers}"
        )


def kind_of(samples: torch.Tensor) -> Kind:
    """The kind that the axes of (sample, ...) and their type say, see `Dataset`."""
    if samples.ndim not in (3, 5):
        return "images"
    return "sequences" if samples.is_floating_point() else "events"


def root_of(name: str, data_root: str | Path | None, holds: str, made_by: str) -> Path:
    """The folder given for a built-in data set.

    DatasetError where none was: what it must hold, and who makes it.
    """
    if data_root is None:
        raise DatasetError(
            f"{name} is not shipped: give the folder that holds {holds} as data_root "
            f"({made_by} makes it)."
        )
    return Path(data_root)


def in_three(name: str, everything: Split) -> Dataset:
    """A data set of samples that are not divided: a fixed fifth of them for testing, and `in_two`."""
    rest, test = _divide(len(everything), 0.2)
    return in_two(name, Split(*everything[rest]), Split(*everything[test]))


def in_two(name: str, train: Split, test: Split, kind: Kind | None = None) -> Dataset:
    """A data set with test samples of its own; a fixed tenth of the others is for validation."""
    first, second = _divide(len(train), 0.1)
    return Dataset(name, Split(*train[first]), Split(*train[second]), test, kind)  # type: ignore[arg-type]


def _divide(count: int, fraction: float) -> tuple[list[int], list[int]]:
    order = np.random.default_rng(0).permutation(count).tolist()
    cut = count - round(count * fraction)
    return order[:cut], order[cut:]
