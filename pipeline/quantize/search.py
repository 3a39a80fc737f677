"""The search for a layer's integers: scale, then rounding, then bias, threshold and decays."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import numpy as np

from ...hw_targets.arrays import Array
from ...hw_targets.network import arithmetic
from .fitting import Fit, Problem, Run, rows_first
from .rounding import Compensation, columns, filtered, refit

PER_OCTAVE = 4
"""Scales tried per factor of two, before the best is refined to a sixteenth of an octave."""
OUTLIERS = 0.05
"""Weights that saturate at the largest scale tried, as a fraction."""
COARSE = 1 << 20
"""Neurons x steps x samples on which scales are told apart."""
RIDGE = 0.3
"""How strongly weights that are fitted to the real messages are held (see `refit`)."""
ROUNDS = 6
"""Halvings of the change of bias, threshold and decays."""
FIRST_DECAY = 16
"""First change of a decay, of 4096."""


def search(problem: Problem, *, per_channel: bool = False) -> Run:
    """The best integers found for a layer; the same for the same problem.

    1. Scales from half of the one that fits to twice it and half an octave more for each bit below
       8, or to the one at which `OUTLIERS` of the weights saturate, with the errors of weights
       compensated (`Compensation`).
    2. At the best scale, the roundings of `_roundings`.
    3. Bias (by row), threshold and decays moved by ever smaller steps, each kept where it helps.

    Better is: more spikes matched, 2 both / (one + other), then a smaller error of V. (The fraction
    of equal neuron-steps would call a layer that is silent good, where spikes are rare.)
    """
    start = problem.start(per_channel=per_channel)
    roundings = _Roundings(problem, start)
    samples, total = len(problem.spikes), problem.spikes.size
    few = problem.first(max(min(8, samples), min(samples, COARSE * samples // total)))
    clip = max(1 + (8 - problem.bits) / 2, _tail(problem))
    octaves = np.arange(-PER_OCTAVE, clip * PER_OCTAVE + 1) / PER_OCTAVE
    best = _scales(few, roundings, octaves, np.zeros(len(start.scale)), per_channel)
    for fine in (1 / 8, 1 / 16):
        best = _scales(few, roundings, np.array([0, -fine, fine]), best, per_channel)
    runs = [problem.run(fit) for fit in roundings.all(best)]
    chosen = max(runs, key=lambda run: run.score)
    return _polished(problem, chosen, per_channel)


def _tail(problem: Problem) -> float:
    """Octaves from the scale at which all weights fit to the one at which outliers saturate."""
    layer = problem.layer
    sizes = [np.abs(layer.weight).ravel()]
    if layer.recurrent is not None:
        sizes.append(problem.per_one * np.abs(layer.recurrent).ravel())
    size = np.concatenate(sizes)
    size = size[size > 0]
    return float(np.log2(size.max() / np.quantile(size, 1 - OUTLIERS))) if size.size else 0.0


def _scales(
    problem: Problem, roundings: _Roundings, octaves: Array, around: Array, per_channel: bool
) -> Array:
    """By row, the best octave of those `around` which `octaves` lie."""
    tried: list[Array] = []
    runs: list[Run] = []
    for octave in octaves:
        at = roundings.within(around + octave)
        if not any(np.array_equal(at, other) for other in tried):
            tried.append(at)
            runs.append(problem.run(roundings.best_guess(at)))
    if per_channel and problem.layer.spiking:
        return np.array([tried[k][row] for row, k in enumerate(_best_rows(runs))])
    return tried[max(range(len(runs)), key=lambda k: runs[k].score)]


def _best_rows(runs: Sequence[Run]) -> list[int]:
    """By row, the index of the first of the best runs."""
    order, matched = range(len(runs)), [run.matched for run in runs]
    return [
        max(order, key=lambda k: (matched[k][row], -runs[k].error[row], -k))
        for row in range(len(matched[0]))
    ]


class _Roundings:
    """The ways to round the weights of a problem, at scales given in octaves above a start."""

    def __init__(self, problem: Problem, start: Fit) -> None:
        self.problem, self.start = problem, start
        self.room = np.log2(np.maximum(problem.largest_unit / start.unit, 1.0))
        if not np.ptp(start.scale):
            self.room = np.full(len(self.room), self.room.min())
        self.refitted: Array | None = None
        self.moments: list[Array] = []
        self.compensations: dict[float, list[Compensation]] = {}
        layer = problem.layer
        if layer.delay is not None:
            return  # inputs that come together differ by synapse: every weight to the nearest
        decays = float(np.median(layer.i_decay)), float(np.median(layer.v_decay))
        inputs = filtered(problem.message, *decays)
        seen = list(columns(layer, inputs.reshape(-1, *inputs.shape[2:])))
        if layer.recurrent is not None:
            back = np.zeros(problem.spikes.shape, np.int8)
            back[:, 1:] = problem.spikes[:, :-1]
            own = filtered(back, *decays)
            (more,) = columns(layer, own.reshape(-1, *own.shape[2:]))
            seen = [np.hstack([seen[0], more])]
        self.moments = [x.T.astype(float) @ x / len(x) for x in seen]
        if problem.exact is not None and layer.recurrent is None:
            exact = filtered(problem.exact, *decays)
            ideal = columns(layer, exact.reshape(-1, *exact.shape[2:]))
            rows = np.split(layer.weight.reshape(len(layer.weight), -1), len(seen))
            self.refitted = np.concatenate(
                [refit(w, x, y, RIDGE) for w, x, y in zip(rows, ideal, seen, strict=True)]
            ).reshape(layer.weight.shape)

    def within(self, octaves: Array) -> Array:
        """Octaves held below the limits of bias, threshold and voltage."""
        return np.minimum(octaves, self.room)

    def best_guess(self, octaves: Array) -> Fit:
        """The rounding that is most often the best: compensated, of the refitted weights."""
        return next(self.all(octaves))

    def all(self, octaves: Array) -> Iterator[Fit]:
        """Compensated rounding of refitted and of the layer's own weights, and the nearest."""
        plain = self.problem.scaled(self.start.scale * 2**octaves, self.start.real)
        if self.moments:
            if self.refitted is not None:
                weight = self.refitted * rows_first(plain.scale, self.refitted)
                refitted = replace(plain, real=replace(plain.real, weight=weight))
                yield self._compensated(refitted, "compensated, refitted")
            yield self._compensated(plain, "compensated")
        yield plain

    def _compensated(self, fit: Fit, name: str) -> Fit:
        real = fit.real
        back_step = real.recurrent_step or real.step
        values = real.weight.reshape(len(real.weight), -1) / real.step
        split = values.shape[1]
        if real.recurrent is not None:
            values = np.hstack([values, real.recurrent / back_step])
        ratio = back_step / real.step
        if ratio not in self.compensations:
            steps = np.where(np.arange(values.shape[1]) < split, 1.0, ratio)
            of = [Compensation.of(m * np.outer(steps, steps)) for m in self.moments]
            self.compensations[ratio] = of
        groups = np.split(values, len(self.moments))
        pairs = zip(self.compensations[ratio], groups, strict=True)
        whole = np.concatenate([c.round(group, real.bits) for c, group in pairs])
        weight = real.step * whole[:, :split].reshape(real.weight.shape)
        recurrent = None if real.recurrent is None else back_step * whole[:, split:]
        return replace(fit, real=replace(real, weight=weight, recurrent=recurrent), rounding=name)


def _polished(problem: Problem, best: Run, per_channel: bool) -> Run:
    """Coordinate search: threshold, decays and bias by steps that halve, kept where they help."""
    threshold = best.fit.real.threshold
    if threshold is not None and threshold.min() < 0.5:
        return best  # a threshold of 0 is a violation, not a start
    reached = np.abs(best.v) >> arithmetic.STATE_SHIFT
    size = float(np.median(reached if threshold is None else threshold))
    first = size * min(0.08, 0.32 * 2.0 ** (2 - problem.bits))
    for k in range(ROUNDS):
        by = max(1.0, round(first / 2**k))
        for name, change in (
            ("threshold", by),
            ("v_decay", max(1, FIRST_DECAY >> k)),
            ("i_decay", max(1, FIRST_DECAY >> k)),
            ("bias", by),
        ):
            moved = [m for sign in (-1, 1) if (m := _moved(best.fit, name, sign * change))]
            runs = [best, *(problem.run(fit) for fit in moved)]
            if name == "bias" or (name == "threshold" and per_channel):
                runs.append(problem.run(_by_rows(runs)))
            best = max(runs, key=lambda run: run.score)
        if by == 1:
            break
    return best


_LIMITS = {
    "threshold": (1, arithmetic.THRESHOLD_MAX),
    "bias": (arithmetic.BIAS_MIN, arithmetic.BIAS_MAX),
    "v_decay": (1, arithmetic.DECAY_ONE - 1),
    "i_decay": (1, arithmetic.DECAY_ONE - 1),
}


def _moved(fit: Fit, name: str, by: float) -> Fit | None:
    """The fit with all of one parameter moved; None where the layer has none to move.

    Neurons without leak, or without memory, stay so.
    """
    values = getattr(fit.real, name)
    low, high = _LIMITS[name]
    if values is None or (name.endswith("decay") and not _between(values, low, high)):
        return None
    change: dict[str, Any] = {name: np.clip(values + by, low, high)}
    return replace(fit, real=replace(fit.real, **change))


def _between(values: Array, low: int, high: int) -> bool:
    return bool(np.all((values > low - 0.5) & (values < high + 0.5)))


def _by_rows(runs: Sequence[Run]) -> Fit:
    """The numbers with which each row answered best, together."""
    fit, picks = runs[0].fit, _best_rows(runs)
    change: dict[str, Any] = {}
    for name in ("bias", "threshold"):
        if getattr(fit.real, name) is not None:
            rows = [getattr(runs[k].fit.real, name)[row] for row, k in enumerate(picks)]
            change[name] = np.stack(rows)
    return replace(fit, real=replace(fit.real, **change))
