"""The integer grid of data: how many levels per 1.0 their numbers are rounded to."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ...hw_targets.network.coding import Coding
from .dataset import Dataset, DatasetError

_BYTE = 127
"""The largest message of 8 bits, sign included."""
_EXACT = 255
"""The largest message where a grid holds the data exactly: bytes do."""
_LOOKED_AT = 10_000
_ROUNDING = 2.0**-22
"""By how much, in parts of the largest number, float32 may be beside a grid on which the data lie."""


@dataclass(frozen=True)
class Grid:
    """`levels` per 1.0, and what rounding to them does to the data.

    `low`, `high`: the range of all data. `loss`: rms of x - round(x * levels) / levels over rms of x, on
    the training samples.
    """

    levels: int
    low: float
    high: float
    loss: float

    @property
    def peak(self) -> float:
        """The largest magnitude."""
        return max(-self.low, self.high)

    @property
    def text(self) -> str:
        """One sentence about it."""
        lost = f"rounding changes x by {100 * self.loss:.2g} % (rms)" if self.loss else "exact"
        return f"{self.levels} levels per 1.0 for x in {self.low:g} .. {self.high:g}: {lost}"


def grid(data: Dataset, levels: int | None = None) -> Grid:
    """The grid of a data set: of the `levels` given, or of those that suit it, see `grid_of`."""
    splits = [s.images for s in (data.train, data.validation, data.test) if len(s)]
    ends = [torch.aminmax(x) for x in splits]
    low, high = (float(end) for end in (min(e.min for e in ends), max(e.max for e in ends)))
    return grid_of(splits[0], levels, low, high)


def grid_of(
    samples: torch.Tensor,
    levels: int | None = None,
    low: float | None = None,
    high: float | None = None,
) -> Grid:
    """The grid of samples within `low` .. `high` (None: their own ends).

    Chosen is the coarsest grid that holds the samples exactly with messages up to 255 in size; where
    there is none, the finest whose messages have 8 bits, sign included, which leaves weights and
    thresholds their own range; at least one level.
    """
    x = samples.double().flatten()
    low, high = float(x.min()) if low is None else low, float(x.max()) if high is None else high
    peak = max(-low, high)
    number = levels or _exact(x, peak) or max(1, int(_BYTE / peak) if peak else 1)
    return Grid(number, low, high, rounding_loss(x, number))


def has_own_grid(data: Dataset) -> bool:
    """Whether levels come from the data: of one's own, and of all that are no images within [0, 1].

    The others are built in, by name or in a folder, and have 16 grey levels where nothing else is said.
    """
    if data.kind == "sequences" or (data.digest and not data.built_in):
        return data.kind != "events"
    ends = torch.aminmax(data.test.images)
    return data.kind == "images" and bool((ends.min < 0) | (ends.max > 1))


def rounding_loss(x: torch.Tensor, levels: int) -> float:
    """rms of x - round(x * levels) / levels, over rms of x; less than float32 can say is 0."""
    off = (torch.round(x * levels) / levels - x).square().mean().sqrt()
    size = float(x.square().mean().sqrt())
    lost = float(off) / size if size else 0.0
    return lost if lost > _ROUNDING else 0.0


def _exact(x: torch.Tensor, peak: float) -> int | None:
    """The smallest number of levels on which all x lie."""
    most = min(_EXACT, int(_EXACT / peak)) if peak else 1
    some = x[:: max(1, len(x) // _LOOKED_AT)]

    def on_grid(values: torch.Tensor, levels: int) -> bool:
        exact = values * levels
        return bool(((exact - exact.round()).abs() <= _ROUNDING * levels * max(peak, 1)).all())

    return next(
        (n for n in range(1, most + 1) if on_grid(some, n) and on_grid(x, n)),
        None,
    )


@dataclass(frozen=True)
class CodingChoice:
    """What somebody says of the coding of data; None is as the data have it, see `of`."""

    name: str | None = None
    steps: int | None = None
    levels: int | None = None
    sigma: float | None = None

    def of(self, data: Dataset) -> Coding:
        """The coding of a data set.

        Data with time have steps of their own, and sequences the levels of `grid`. Images are `direct`,
        in 8 steps, with 16 grey levels; one's own with those of `grid`. Raises DatasetError where what
        was said does not go with the data.
        """
        if data.steps is not None:
            return self._timed(data, data.steps)
        if self.name in ("sequence", "events"):
            raise DatasetError(f"coding {self.name} is for data with time; {data.name} is images.")
        own = grid(data, self.levels) if has_own_grid(data) else None
        levels = self.levels or (16 if own is None else own.levels)
        peak = 1.0 if own is None else max(1.0, own.peak)
        return Coding.of(
            self.name or "direct", self.steps or 8, levels, self.sigma or 0.0, peak=peak
        )

    def _timed(self, data: Dataset, steps: int) -> Coding:
        name = "events" if data.kind == "events" else "sequence"
        if self.name not in (None, name) or self.sigma:
            raise DatasetError(
                f"{data.name} is {data.kind}, which are not coded again: leave out coding and sigma."
            )
        if self.steps not in (None, steps):
            raise DatasetError(
                f"steps = {self.steps}, but {data.name} has {steps} steps of its own: leave it out."
            )
        if name == "events":
            return Coding.of(name, steps, 1)
        own = grid(data, self.levels)
        return Coding.of(name, steps, own.levels, peak=max(1.0, own.peak))
