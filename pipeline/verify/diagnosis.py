"""Why do the integers of one layer differ from its float equation? Found by experiment.

The layer runs alone on the very messages that it received among the integers, once as the float
network has it and once for every hypothesis, with that one thing changed to what the integers have.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np

from ...hw_targets.arrays import Array
from ..float.cell import Cell
from ..float.run import run_cell
from .hypotheses import ADVICE, Hypothesis, hypotheses, unit_of

INHERITED = 0.25
"""A layer that alone has at most this fraction of its mismatches has them from its input."""


@dataclass(frozen=True)
class Experiment:
    """One thing changed in the float layer: how many mismatches with the integers remain."""

    cause: str
    detail: str
    mismatches: int


@dataclass(frozen=True)
class Diagnosis:
    """The likely cause of one layer's divergence, with the figures it rests on.

    Counts are of (sample, step, neuron) on the `samples` looked at. `mismatches`: between the two
    networks. `alone`: of the layer alone, on the integers' input. `own`: the same with its recurrent
    input given too, where it has one (otherwise equal). `explained`: fraction of `own` that the
    cause takes away. `causes`: changes made one after another, each the best at that point, with the
    mismatches then left; `tried`: every change by itself.
    """

    layer: str
    cause: str
    detail: str
    advice: str
    samples: int
    mismatches: int
    alone: int
    own: int
    explained: float
    causes: tuple[Experiment, ...]
    tried: tuple[Experiment, ...]


def diagnose(
    layer: str,
    real: Cell,
    integer: Cell,
    messages: Array,
    observed: Array,
    mismatches: int,
    window: slice,
) -> Diagnosis:
    """Explain why `observed` are not the spikes of `real`.

    `real`: the float layer in any units (see `cell_of`), without `start`; `integer`: the same layer of
    the network (see `integer_cell`) with the steps in which it forgets. `messages` and `observed`:
    what the integers' layer received and sent, (sample, time, *shape), from the hardware's first
    step; `window`: the steps that answer the input, in which the float layer runs. `mismatches`: of
    the two networks there.
    """
    start = replace(real.scaled(unit_of(real, integer)), start=window.start)

    def left(cell: Cell, own: Array | None = observed) -> int:
        spikes, _ = run_cell(cell, messages[:, : window.stop], own)
        return int(np.count_nonzero(spikes[:, window] != observed[:, window]))

    own = left(start)
    alone = own if start.recurrent is None else left(start, None)
    if left(integer):
        causes: tuple[Experiment, ...] = ()
        tried: tuple[Experiment, ...] = ()
        cause, detail = "unknown", "the integers of the file do not give these spikes either"
    else:
        causes, tried = _search(start, integer, float(np.abs(messages).max(initial=0)), left, own)
        cause, detail = "unknown", ""
        if causes and 2 * causes[-1].mismatches <= own:
            cause = causes[0].cause
            detail = "; then ".join(f"{e.detail}" for e in causes if e.cause == cause)
    explained = 1 - causes[0].mismatches / own if causes else 0.0
    if alone <= INHERITED * mismatches and (own == 0 or cause != "unknown"):
        cause, explained = "inherited", 1 - alone / max(mismatches, 1)
        detail = f"alone it would have {alone} of the {mismatches} mismatches"
    elif alone > own:
        detail += f"; recurrence makes {alone} mismatches of {own}"
    return Diagnosis(
        layer,
        cause,
        detail,
        ADVICE[cause],
        len(messages),
        mismatches,
        alone,
        own,
        explained,
        causes,
        tried,
    )


def _search(
    start: Cell, integer: Cell, largest: float, left: Callable[[Cell], int], own: int
) -> tuple[tuple[Experiment, ...], tuple[Experiment, ...]]:
    """Changes one after another, each time the one that leaves least; and each by itself."""
    cell, remaining = start, own
    causes: list[Experiment] = []
    first: tuple[Experiment, ...] = ()
    while remaining:
        every = list(hypotheses(cell, start, integer, largest))
        counts = [left(replace(cell, **h.fields)) for h in every]
        if not first:
            first = tuple(
                Experiment(h.cause, h.detail, n) for h, n in zip(every, counts, strict=True)
            )
        if not every:
            break
        count = min(counts)
        best = every[counts.index(count)]
        if count >= remaining:  # small errors may need each other
            small = [h for h in every if h.cause in ("rounding", "decay truncation")]
            if len(small) < 2:
                break
            best = Hypothesis(
                "rounding",
                "; with ".join(h.detail for h in small),
                {name: value for h in small for name, value in h.fields.items()},
            )
            count = left(replace(cell, **best.fields))
            if count >= remaining:
                break
        causes.append(Experiment(best.cause, best.detail, count))
        cell, remaining = replace(cell, **best.fields), count
    return tuple(causes), first
