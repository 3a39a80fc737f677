"""What data attacks and certificates take: images or sequences with classes, in units of their range."""

from __future__ import annotations

from dataclasses import replace
from typing import TypeAlias

from ...models.data.dataset import Dataset, DatasetError, Messages, Split
from ...models.data.grid import grid, has_own_grid

Span: TypeAlias = tuple[float, float]
"""The ends of a range, which [0, 1] stands for."""
UNIT: Span = (0.0, 1.0)


def in_unit_range(data: Dataset) -> tuple[Dataset, Span]:
    """Data that attacks can move, scaled to [0, 1] where they are not within it, and their `Span`.

    Raises DatasetError, which says why, for messages, data without labels, regression and events.
    """
    if isinstance(data.test, Messages):
        raise DatasetError(
            f"{data.name} are integers, encoded already: attacks and certificates move images in [0, 1]. "
            f"Give --data, or real numbers with --input and --labels."
        )
    if not len(data.test.labels):
        raise DatasetError(f"{data.name} has no labels: give --labels Y.npy.")
    if data.regression:
        raise DatasetError(
            f"{data.name} is regression: attacks and certificates turn the answers of classifiers."
        )
    if data.kind == "events":
        raise DatasetError(
            f"{data.name}: events cannot be attacked: attacks perturb images in [0, 1]."
        )
    if not has_own_grid(data):
        return data, UNIT
    own = grid(data, 1)
    low, high = own.low, own.high
    if (low >= 0 and high <= 1) or low == high:
        return data, UNIT

    def scaled(split: Split) -> Split:
        return Split(((split.images - low) / (high - low)).clamp(0, 1), split.labels)

    train, validation, test = (scaled(split) for split in (data.train, data.validation, data.test))
    return replace(data, train=train, validation=validation, test=test, digest=""), (low, high)


def images_alone(data: Dataset, span: Span, what: str) -> None:
    """Refuse, with a DatasetError, other data than images in [0, 1]: `what` is not for these."""
    if data.kind != "images" or span != UNIT:
        low, high = span
        raise DatasetError(
            f"{what} is for images in [0, 1]; {data.name} is {data.kind} of {low:g} .. {high:g}."
        )
