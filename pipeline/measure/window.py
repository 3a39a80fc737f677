"""`measure`: energy and time of a piece of work, over windows long enough for the sensor."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass

from .reading import Conditions, Reading, Sensor

SAMPLE_S = 0.1


@dataclass(frozen=True)
class Mean:
    """Mean of the windows, and its standard error s / sqrt(n); None of a single window."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Measurement:
    """Windows in which the same call was repeated, and what one call takes.

    `calls` and `windows`: per window. `idle`: one window without work, the context open; unavailable
    where the sensor is. Per call: `seconds`; `energy` (total, idle included) with the standard error
    `energy_error`; `dynamic`: total less idle power times seconds, in joules, in its own column and never in place of
    the total. `before` and `after` the windows: clocks, limits, temperature, driver.
    """

    calls: tuple[int, ...]
    windows: tuple[Reading, ...]
    idle: Reading
    seconds: Mean
    energy: Reading
    energy_error: float | None
    dynamic: Mean | None
    before: Conditions
    after: Conditions
    notes: tuple[str, ...] = ()


def measure(
    work: Callable[[], object],
    sensor: Sensor,
    *,
    window_s: float = 5.0,
    repeats: int = 5,
    warmup_s: float | None = None,
    synchronize: Callable[[], object] = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
    sleep: Callable[[float], object] = time.sleep,
) -> Measurement:
    """Energy and seconds of one call of `work`."""
    raise NotImplementedError
