"""`Interval`: a value with the ends between which it may lie."""

from __future__ import annotations

import math
from dataclasses import dataclass


@dataclass(frozen=True)
class Interval:
    """A value of at least 0 in [low, high]; all three in one SI unit. Raises ValueError otherwise.

    Sums and products take the ends as they are: exact for quantities that grow together, an upper
    bound of the width for others.
    """

    value: float
    low: float
    high: float

    def __post_init__(self) -> None:
        if not (0 <= self.low <= self.value <= self.high and math.isfinite(self.high)):
            raise ValueError(
                f"0 <= low {self.low} <= value {self.value} <= high {self.high} < infinity does not "
                f"hold."
            )

    @classmethod
    def exact(cls, value: float) -> Interval:
        """A point."""
        return cls(value, value, value)

    @property
    def ends(self) -> tuple[float, float, float]:
        """(value, low, high)."""
        return self.value, self.low, self.high

    def __add__(self, other: Interval) -> Interval:
        return Interval(self.value + other.value, self.low + other.low, self.high + other.high)

    def __mul__(self, other: Interval | float) -> Interval:
        a, b, c = other.ends if isinstance(other, Interval) else (other,) * 3
        return Interval(self.value * a, self.low * b, self.high * c)

    def __truediv__(self, other: Interval | float) -> Interval:
        """Raises ZeroDivisionError where `other` may be 0."""
        a, b, c = other.ends if isinstance(other, Interval) else (other,) * 3
        return Interval(self.value / a, self.low / c, self.high / b)
