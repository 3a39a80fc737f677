"""`measure`: energy and time of one call, over windows long enough for the sensor."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from .reading import AGREEMENT, Conditions, Reading, Sample, Sensor, Unavailable, evaluate

SAMPLE_S = 0.125
"""How often the sensor is read inside a window."""
FINE = 0.02
"""A sensor that refreshes more rarely than this fraction of the window is too coarse for it."""
SPREAD = 0.05
"""Windows that differ by more were not measured on a quiet machine (NeuroBench asks for this)."""


@dataclass(frozen=True)
class Mean:
    """Mean over the windows, and its standard error s / sqrt(n); None of a single window."""

    value: float
    error: float | None


@dataclass(frozen=True)
class Measurement:
    """Windows in which one call was repeated, and what one call takes.

    `calls`, `windows`: per window. `idle`: a window without calls, everything loaded and the context
    open. Per call: `seconds`, back to back; `energy`, the total, idle included, with its standard
    error; `dynamic`: total less idle power times seconds, in joules: another column, never the total's
    replacement (its error is that of the windows; idle was measured once). `before`, `after` the
    windows: clocks, limits, temperature, driver. `notes`: what to doubt.
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
    """Seconds and joules of one call of `work`.

    One call opens the context; after a pause, one window of `window_s` is idle; calls for `warmup_s`
    (None: twice the window) settle clocks and temperature; then come `repeats` windows of calls, with
    `synchronize` (`torch.cuda.synchronize`) before both ends of each. The sensor is read every
    `SAMPLE_S`. One that is not there is no error: there is no idle window then, the seconds are
    measured all the same, and the readings say why they are not.
    Raises ValueError for a window or a number of repeats that is not above 0.
    """
    if not (window_s > 0 and repeats > 0):
        raise ValueError(f"window_s = {window_s}, repeats = {repeats}; both must be above 0.")

    def window(call: Callable[[], object]) -> tuple[int, Reading]:
        return _window(call, sensor, window_s, synchronize, clock)

    work()
    synchronize()
    problem = _problem(sensor)
    if problem is None:
        sleep(window_s / 5)  # until the call's own power has gone
        _, idle = window(lambda: sleep(SAMPLE_S))
    else:
        idle = Reading("unavailable", None, None, sensor.scope, problem, sensor.name)
    end = clock() + (2 * window_s if warmup_s is None else warmup_s)
    while clock() < end:
        work()
    synchronize()
    before = sensor.conditions()
    calls, windows = zip(*(window(work) for _ in range(repeats)), strict=True)
    return _measurement(calls, windows, idle, before, sensor.conditions())


def _problem(sensor: Sensor) -> str | None:
    try:
        sensor.sample()
    except Unavailable as problem:
        return str(problem)
    return None


def _window(
    call: Callable[[], object],
    sensor: Sensor,
    window_s: float,
    synchronize: Callable[[], object],
    clock: Callable[[], float],
) -> tuple[int, Reading]:
    """Calls for at least `window_s`: how many, and the energy of all."""
    times: list[float] = []
    samples: list[Sample] = []
    problem = None

    def look() -> None:
        nonlocal problem
        synchronize()
        times.append(clock())
        if problem is None:
            try:
                samples.append(sensor.sample())
            except Unavailable as found:
                problem = str(found)

    look()
    calls = 0
    while not calls or clock() < times[0] + window_s:
        if clock() >= times[-1] + SAMPLE_S:
            look()
        call()
        calls += 1
    look()
    if problem is None:
        return calls, evaluate(sensor, times, samples)
    seconds = times[-1] - times[0]
    return calls, Reading("unavailable", None, seconds, sensor.scope, problem, sensor.name)


def _measurement(
    calls: Sequence[int],
    windows: Sequence[Reading],
    idle: Reading,
    before: Conditions,
    after: Conditions,
) -> Measurement:
    spans = [w.seconds for w in windows if w.seconds is not None]
    seconds = [span / n for span, n in zip(spans, calls, strict=True)]
    notes = [*before.notes, *_spread("seconds", seconds)]
    energy, error, dynamic = _missing(windows), None, None
    if energy is None:
        joules = [w.joules / n for w, n in zip(windows, calls, strict=True) if w.joules]
        total = _mean(joules)
        energy, error = replace(windows[0], joules=total.value, power_joules=None), total.error
        notes += [
            *_spread("energies", joules),
            *_coarse(energy, min(spans)),
            *_apart([*windows, idle]),
        ]
        if idle.watts is not None:
            dynamic = _mean([e - idle.watts * t for e, t in zip(joules, seconds, strict=True)])
            if dynamic.value <= 0:
                notes.append("no more power than idle: the sensor does not see the work.")
    time_ = _mean(seconds)
    energy = replace(energy, seconds=time_.value)
    return Measurement(
        tuple(calls),
        tuple(windows),
        idle,
        time_,
        energy,
        error,
        dynamic,
        before,
        after,
        tuple(notes),
    )


def _mean(values: Sequence[float]) -> Mean:
    if len(values) == 1:
        return Mean(values[0], None)
    return Mean(statistics.fmean(values), statistics.stdev(values) / len(values) ** 0.5)


def _missing(windows: Sequence[Reading]) -> Reading | None:
    """The first window without energy, which leaves the whole without."""
    for i, reading in enumerate(windows, 1):
        if reading.joules is None:
            same = all(w.reason == reading.reason for w in windows)
            where = "" if same else f"window {i} of {len(windows)}: "
            return replace(reading, reason=where + reading.reason)
    return None


def _spread(what: str, values: Sequence[float]) -> list[str]:
    spread = (max(values) - min(values)) / statistics.fmean(values)
    if spread <= SPREAD:
        return []
    return [f"{what} of the windows differ by {spread:.0%}: the machine was not quiet."]


def _coarse(energy: Reading, shortest: float) -> list[str]:
    if energy.refresh_s is None or energy.refresh_s <= FINE * shortest:
        return []
    return [
        f"{energy.sensor} refreshes every {energy.refresh_s:g} s, {energy.refresh_s / shortest:.0%} of "
        f"a window of {shortest:.3g} s: use longer windows."
    ]


def _apart(readings: Sequence[Reading]) -> list[str]:
    """Whether energy counter and integrated power disagree in any window."""
    ratios = [
        w.power_joules / w.joules for w in readings if w.joules and w.power_joules is not None
    ]
    worst = max(ratios, key=lambda ratio: abs(ratio - 1), default=1.0)
    if abs(worst - 1) <= AGREEMENT:
        return []
    return [
        f"integrated power is {worst:.0%} of the energy counter, beyond {AGREEMENT:.0%}: doubt both."
    ]
