"""Energy readings: measured, estimated, or unavailable with the reason; never zero for missing."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

Status: TypeAlias = Literal["measured", "estimated", "unavailable"]
STILL_S = 2.0
"""A counter that does not move for longer than this is not working."""
MOST_WATTS = 5000.0
"""No socket and no board takes more: a backward step that would mean more is no wrap-around."""
AGREEMENT = 0.05
"""Energy counter and integrated power that differ by more are both doubted aloud."""


class Unavailable(Exception):
    """A sensor that is not there, may not be read or cannot be believed; the message says what to do."""


@dataclass(frozen=True)
class Reading:
    """Energy of `scope` over `seconds`, in joules; None, with the reason, where there is none.

    `refresh_s`: how often the sensor's value changes. `power_joules`: the same energy by integrating
    the sensor's power readings, where it has them: a cross-check, not the measurement. `seconds` is
    None where nothing ran. Raises ValueError for a number that is missing, zero or negative without
    being called unavailable.
    """

    status: Status
    joules: float | None
    seconds: float | None
    scope: str
    reason: str = ""
    sensor: str = ""
    refresh_s: float | None = None
    power_joules: float | None = None

    def __post_init__(self) -> None:
        if self.status not in get_args(Status):
            raise ValueError(f"status {self.status!r}; use one of {', '.join(get_args(Status))}.")
        if (self.joules is None) != (self.status == "unavailable"):
            raise ValueError(
                f"a reading with joules = {self.joules} cannot have the status {self.status!r}: "
                f"unavailable readings, and only they, have none."
            )
        if self.joules is None and not self.reason:
            raise ValueError("a reading that is unavailable needs the reason.")
        if self.joules is not None and not (0 < self.joules < math.inf):
            raise ValueError(
                f"joules = {self.joules}: energy is above 0 and finite. What is missing is "
                f"status 'unavailable', joules None."
            )

    @property
    def watts(self) -> float | None:
        """Mean power; None where energy or time is."""
        return self.joules / self.seconds if self.joules and self.seconds else None


@dataclass(frozen=True)
class Counter:
    """A cumulative energy counter as it stands: `where` names it, `wraps_at` is its range in joules."""

    where: str
    joules: float
    wraps_at: float | None = None


@dataclass(frozen=True)
class Sample:
    """What a sensor shows at one moment: counters that add up, and the power where it is known."""

    counters: tuple[Counter, ...]
    watts: float | None = None


@dataclass(frozen=True)
class Conditions:
    """State of a processor that its energy depends on; None: not known here."""

    clock_mhz: float | None = None
    memory_clock_mhz: float | None = None
    power_limit_w: float | None = None
    temperature_c: float | None = None
    driver: str | None = None
    notes: tuple[str, ...] = ()


class Sensor(Protocol):
    """Cumulative energy counters of one part of the machine. Your own power meter can be one.

    `sample` and `conditions` raise nothing but `Unavailable`, and `conditions` not even that.
    """

    @property
    def name(self) -> str: ...

    @property
    def scope(self) -> str: ...

    @property
    def refresh_s(self) -> float | None: ...

    def sample(self) -> Sample: ...

    def conditions(self) -> Conditions: ...


def evaluate(sensor: Sensor, times: Sequence[float], samples: Sequence[Sample]) -> Reading:
    """The energy between the first and the last of the samples taken at `times` (seconds, rising).

    E = sum over counters and successive samples of the counter's advance, one wrap-around at
    `wraps_at` undone between two samples. Unavailable: a counter that goes backward otherwise, that
    does not move for more than `STILL_S` or at all, or that may wrap more than once between samples.
    """
    seconds = times[-1] - times[0]
    try:
        counters = zip(*(sample.counters for sample in samples), strict=True)
        joules = sum(_advance(times, counter) for counter in counters)
    except Unavailable as problem:
        return Reading(
            "unavailable", None, seconds, sensor.scope, str(problem), sensor.name, sensor.refresh_s
        )
    power = _integral(times, [sample.watts for sample in samples])
    return Reading(
        "measured", joules, seconds, sensor.scope, "", sensor.name, sensor.refresh_s, power
    )


def _advance(times: Sequence[float], counter: Sequence[Counter]) -> float:
    """Joules that one counter advanced by."""
    total, moved = 0.0, times[0]
    where = counter[0].where
    for (start, a), (end, b) in itertools.pairwise(zip(times, counter, strict=True)):
        step = b.joules - a.joules
        most = MOST_WATTS * (end - start)
        if b.wraps_at is not None and most >= b.wraps_at:
            raise Unavailable(
                f"{where} wraps at {b.wraps_at:,.0f} J, perhaps more than once in the "
                f"{end - start:.1f} s between two readings; use shorter calls."
            )
        if step < 0:
            if b.wraps_at is None or step + b.wraps_at > most:
                raise Unavailable(
                    f"{where} went back from {a.joules:.6f} to {b.joules:.6f} J, which no "
                    f"wrap-around explains."
                )
            step += b.wraps_at
        if step:
            moved = end
        elif end - moved > STILL_S:
            raise Unavailable(f"{where} did not move for {end - moved:.1f} s; it is not working.")
        total += step
    if not total:
        raise Unavailable(
            f"{where} did not move in {times[-1] - times[0]:.3g} s: the window is too short for it, "
            f"or it is not working."
        )
    return total


def _integral(times: Sequence[float], watts: Sequence[float | None]) -> float | None:
    """Power integrated over time by trapezoids; None where a value is missing."""
    known = [w for w in watts if w is not None]
    if len(known) < len(times):
        return None
    points = itertools.pairwise(zip(times, known, strict=True))
    return sum((b - a) * (v + w) / 2 for (a, v), (b, w) in points)
