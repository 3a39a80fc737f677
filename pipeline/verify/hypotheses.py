"""What may differ between a float layer and its integers, one change at a time."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.arrays import Array
from ...hw_targets.network import arithmetic
from ..float.cell import Cell

ADVICE = {
    "threshold test": "one side also fires at v = threshold; netx needs v > threshold: move the "
    "threshold by less than one unit",
    "latency": "check the delays, and the layer latencies of whoever aligned the two runs",
    "reset": "netx sets v to its rest in the step of the spike: train with that reset",
    "bias timing": "give the recipe reset_offset = 1 and reset_interval >= steps, and biases to "
    "neurons without synaptic current",
    "saturation": "quantize again with a smaller scale for this layer",
    "dt": "give the graph the dt it was trained with (metadata 'dt') and export again",
    "rounding": "more bits, another scale, or fine-tuning through the twin",
    "decay truncation": "a larger scale of this layer's weights, bias and threshold together, or "
    "fine-tuning through the twin",
    "parameters": "few of many: cut outliers, or errors that make up for others, as `quantize` leaves "
    "them; many: the integers were fine-tuned, or are of another network than this graph",
    "inherited": "the layer computes right; look at the layers before it",
    "unknown": "no cause fits: please report it with both files",
}
"""Every cause there is a name for, and what to do about it."""

WEIGHT_STEPS = 3.0
"""Steps of the weights within which a weight counts as rounded: errors may compensate each other."""
DECAY_REACH = 0.03
"""Relative change within which a decay counts as rounded; 2 of 4096 in any case."""
THRESHOLD_REACH = 0.002
"""Relative change within which a threshold counts as rounded; 1 in any case."""
TIE = 1e-6
RATIOS = (0.1, 0.5, 2.0, 10.0)
"""dt confused between units, halved or doubled; what the decays themselves suggest is tried too."""


@dataclass(frozen=True)
class Hypothesis:
    """A cause by name, and the fields of the float `Cell` that it sets to what the integers have."""

    cause: str
    detail: str
    fields: dict[str, Any]


def hypotheses(cell: Cell, start: Cell, integer: Cell, largest: float) -> Iterator[Hypothesis]:
    """What may still be changed in `cell`; where two explain as much, the one named first wins.

    `start`: the float layer in the integers' units, before any change; `largest`: magnitude of the
    messages.
    """
    reach = _reach(start, integer, largest)

    def changed(cause: str, detail: str, **fields: Any) -> Hypothesis:
        return Hypothesis(cause, detail, fields)

    if not cell.tie:
        for tie, word in ((TIE, "fire"), (-TIE, "do not fire")):
            detail = f"the integers {word} where the float voltage equals the threshold"
            yield changed("threshold test", detail, tie=tie)
    rounded = _swapped(cell, integer, reach, _near)
    if rounded:
        yield changed("rounding", f"of {', '.join(rounded)}", **rounded)
    if not _same_grid(cell, integer):
        yield changed(
            "decay truncation", "decaying states are cut to whole integers", grid=integer.grid
        )
    if not _same_delay(cell, integer):
        yield changed("latency", "delays differ", delay=integer.delay)
    if cell.shift == start.shift:
        for by in (1, -1, 2, -2):
            word = "later" if by > 0 else "earlier"
            detail = f"the integers get their input {abs(by)} step{'s'[: abs(by) - 1]} {word}"
            yield changed("latency", detail, shift=cell.shift + by)
    if cell.reset != "zero" or cell.reset_delay or np.any(cell.reset_to != 0):
        had = f"{cell.reset}{', a step later' if cell.reset_delay else ''}"
        had += " (reset is not the rest)" if np.any(cell.reset_to != 0) else ""
        yield changed(
            "reset", f"float: {had}; integers: zero", reset="zero", reset_delay=0, reset_to=0.0
        )
    if (cell.start, cell.forget) != (integer.start, integer.forget):
        yield changed(
            "bias timing",
            "layers begin (and forget) in another step than the data",
            start=integer.start,
            forget=integer.forget,
        )
    if np.any(cell.charge != 0):
        yield changed(
            "bias timing",
            "the bias charges the current; the integers add it to v at once",
            bias=cell.bias + cell.charge / cell.i_decay,
            charge=np.zeros(()),
        )
    yield from _saturation(cell, integer, reach)
    if np.array_equal(cell.i_decay, start.i_decay) and np.array_equal(cell.v_decay, start.v_decay):
        yield from _time_steps(cell, integer)
    rest = _swapped(cell, integer, reach, lambda name, a, b, far: a != b)
    if rest:
        yield changed("parameters", _differences(cell, integer, reach), **rest)


# -- parameters ---------------------------------------------------------------------------------

_Choice = Callable[[str, Array, Array, Array], NDArray[np.bool_]]


def _swapped(
    cell: Cell, integer: Cell, reach: dict[str, Array], choose: _Choice
) -> dict[str, Array]:
    """Parameters of the float layer with the chosen entries taken from the integers."""
    out: dict[str, Array] = {}
    for name, far in reach.items():
        a, b = np.broadcast_arrays(getattr(cell, name), getattr(integer, name))
        chosen = choose(name, a, b, far)
        if (chosen & (a != b)).any():
            out[name] = np.where(chosen, b, a)
    return out


def _near(name: str, a: Array, b: Array, far: Array) -> NDArray[np.bool_]:
    near: NDArray[np.bool_] = np.abs(a - b) <= far * (1 + 1e-9)
    return near


def _reach(start: Cell, integer: Cell, largest: float) -> dict[str, Array]:
    """How far from a real number of each parameter its rounding may lie.

    A bias may make up for what the rounding of its row's weights did.
    """
    weight = np.asarray(WEIGHT_STEPS * _grain(integer.weight))
    moved = np.abs(start.weight - integer.weight)
    rows = np.where(moved <= weight, moved, 0.0).reshape(len(moved), -1).sum(axis=1)
    two = 2 / arithmetic.DECAY_ONE
    reach = {
        "weight": weight,
        "bias": 1 + largest * rows.reshape(-1, *[1] * (len(start.shape) - 1)),
        "threshold": np.maximum(1.0, THRESHOLD_REACH * np.abs(integer.threshold)),
        "i_decay": np.maximum(two, DECAY_REACH * integer.i_decay),
        "v_decay": np.maximum(two, DECAY_REACH * integer.v_decay),
    }
    if start.recurrent is not None and integer.recurrent is not None:
        reach["recurrent"] = np.asarray(WEIGHT_STEPS * _grain(integer.recurrent))
    return reach


def _grain(matrix: Array) -> int:
    """The largest power of two that divides all weights of a matrix (256 where they are 0)."""
    used = 256 | int(np.bitwise_or.reduce(matrix.astype(np.int64), axis=None))
    return used & -used


def _saturation(cell: Cell, integer: Cell, reach: dict[str, Array]) -> Iterator[Hypothesis]:
    edges = {
        name: (arithmetic.WEIGHT_MIN, -arithmetic.WEIGHT_MIN - _grain(matrix))
        for name, matrix in (("weight", integer.weight), ("recurrent", integer.recurrent))
        if matrix is not None
    } | {
        "bias": (arithmetic.BIAS_MIN, arithmetic.BIAS_MAX),
        "threshold": (0, arithmetic.THRESHOLD_MAX),
    }

    def beyond(name: str, a: Array, b: Array, far: Array) -> NDArray[np.bool_]:
        if name not in edges:
            return np.zeros(b.shape, bool)
        low, high = edges[name]
        out: NDArray[np.bool_] = ((b <= low) & (a < b - far)) | ((b >= high) & (a > b + far))
        return out

    clipped = _swapped(cell, integer, reach, beyond)
    if clipped:
        counts = {
            name: int(np.count_nonzero(values != getattr(cell, name)))
            for name, values in clipped.items()
        }
        detail = ", ".join(
            f"{n} of {name} clipped at the range's edge" for name, n in counts.items()
        )
        yield Hypothesis("saturation", detail, dict(clipped))
    if not cell.limited:
        detail = "u wraps or v clips at 24 bit"
        yield Hypothesis("saturation", detail, {"limited": True})


def _time_steps(cell: Cell, integer: Cell) -> Iterator[Hypothesis]:
    """Another dt changes the decays, and with them the threshold in units of the weights."""
    synaptic = bool(np.any(cell.i_decay != 1))
    fitted = [
        _ratio(b, a)
        for a, b in ((cell.v_decay, integer.v_decay), (cell.i_decay, integer.i_decay))
        if np.any(a != 1) or np.any(b != 1)
    ]
    fitted.append(_ratio(cell.threshold, integer.threshold))
    near = [r for r in fitted if r is not None and abs(r - 1) > 2 * DECAY_REACH and 1e-3 < r < 1e3]
    for ratio in dict.fromkeys([*RATIOS, *(float(f"{r:.6g}") for r in near)]):
        for power in (1, 0, 2) if synaptic else (1, 0):
            fields = {
                "v_decay": np.minimum(cell.v_decay * ratio, 1.0),
                "i_decay": np.minimum(cell.i_decay * ratio, 1.0) if synaptic else cell.i_decay,
                "threshold": cell.threshold / ratio**power,
            }
            word = "decays and threshold" if power else "decays"
            yield Hypothesis(
                "dt",
                f"{word} fit {ratio:.4g} times the float network's dt",
                fields,
            )


def _ratio(a: Array, b: Array) -> float | None:
    """The median of a / b where both are positive and finite."""
    a, b = np.broadcast_arrays(a, b)
    good = (a > 0) & (b > 0) & np.isfinite(a) & np.isfinite(b)
    return float(np.median(a[good] / b[good])) if good.any() else None


def _same_delay(cell: Cell, integer: Cell) -> bool:
    shape = integer.weight.shape
    a, b = (np.broadcast_to(0 if c.delay is None else c.delay, shape) for c in (cell, integer))
    return np.array_equal(a, b)


def _same_grid(cell: Cell, integer: Cell) -> bool:
    if cell.grid is None or integer.grid is None:
        return cell.grid is integer.grid
    return all(np.allclose(a, b, rtol=1e-9) for a, b in zip(cell.grid, integer.grid, strict=True))


def _differences(cell: Cell, integer: Cell, reach: dict[str, Array]) -> str:
    parts = []
    for name, far in reach.items():
        a, b = np.broadcast_arrays(getattr(cell, name), getattr(integer, name))
        count = np.count_nonzero(~_near(name, a, b, far) & (a != b))
        if count:
            parts.append(f"{count} of {a.size} of {name}")
    return f"not roundings: {', '.join(parts)}" if parts else "all numbers are roundings"


def unit_of(real: Cell, integer: Cell) -> Array | float:
    """The scale under which most of the integers are roundings of the real numbers.

    One for the layer, or one per row where thresholds say that rows were scaled by themselves.
    """
    x, y = real.weight.ravel(), integer.weight.ravel()
    grain = _grain(integer.weight)
    guesses: list[Array | float] = []
    inside = (
        (x != 0) & (y != 0) & (y > arithmetic.WEIGHT_MIN) & (y < -arithmetic.WEIGHT_MIN - grain)
    )
    if inside.any():
        guesses.append(float(x[inside] @ y[inside] / (x[inside] @ x[inside])))
        guesses.append(float(np.median(y[inside] / x[inside])))
    if x @ y > 0:
        guesses.append(float(x @ y / (x @ x)))
    thresholds = _ratio(integer.threshold, real.threshold)
    if thresholds is not None:
        guesses.append(thresholds)
        a, b = np.broadcast_arrays(integer.threshold, real.threshold)
        if (
            a.ndim
            and np.ptp(a.reshape(len(a), -1), axis=1).max() == 0
            and len(a) == len(real.weight)
        ):
            rows = (a / np.where(b > 0, b, np.inf)).reshape(len(a), -1)[:, 0]
            if np.isfinite(rows).all() and (rows > 0).all():
                guesses.append(rows)
    if not guesses:
        return 1.0
    return max(guesses, key=lambda unit: _fit(real.scaled(unit), integer))


def _fit(cell: Cell, integer: Cell) -> float:
    """Parameters within half a step: fraction of weights, twice, and of biases and thresholds."""
    total = 0.0
    for name, much in (("weight", 2.0), ("bias", 1.0), ("threshold", 1.0)):
        real = getattr(cell, name)
        if name == "bias":
            real = real + cell.charge / cell.i_decay
        a, b = np.broadcast_arrays(real, getattr(integer, name))
        step = _grain(b) if name == "weight" else 1
        total += much * float(_near(name, a, b, np.asarray(step / 2)).mean())
    return total
