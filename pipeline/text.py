"""Numbers as people read them: SI prefixes, intervals, percentages."""

from __future__ import annotations

from ..hw_targets.energy.energy import Energy
from ..hw_targets.energy.interval import Interval

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))


def interval(energy: Energy) -> str:
    """1.23 uJ [1.1, 1.5]; a point where both ends are equal."""
    return span(energy.interval, "J")


def si_prefix(value: float) -> tuple[float, str]:
    """(factor, prefix), from none down to pico, with which a value is 1 or more."""
    return next(((f, p) for f, p in _PREFIXES if abs(value) >= f), _PREFIXES[-1])


def span(bounds: Interval, unit: str) -> str:
    """1.23 uJ [1.1, 1.5], for any interval; without a unit there is no prefix either."""
    value, low, high = bounds.ends
    factor, prefix = si_prefix(value) if unit else (1.0, "")
    text = f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return text if low == high else f"{text} [{low / factor:.3g}, {high / factor:.3g}]"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def answers_text(accuracy: float | None, error: float | None = None) -> str:
    """How good answers are, in a cell: `98.61 %`, an rms error, or that there were no labels."""
    if accuracy is not None:
        return percent(accuracy)
    return "no labels" if error is None else f"{error:.4g} (rms error)"
