"""Mixed precision: bits per layer, spent where the network is sensitive."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

from ...hw_targets.arrays import Array
from ...hw_targets.network import arithmetic
from ...hw_targets.network.recipe import Recipe
from .fitting import Run
from .quantize import Quantized, Task, prepare

Bits: TypeAlias = tuple[int, ...]
FEWEST, MOST = 2, 8


@dataclass(frozen=True)
class MixedPrecision:
    """A network with bits per layer.

    `size`: bytes of all weights, count * bits / 8; `loss`: fraction of the calibration samples whose
    answer (the largest score) differs from the float network's, or of regression and of one output the
    rms difference of the answers over their rms; `sensitivity`: for each layer, mean
    squared change of the float network's scores, over their mean square, with 2, 3, ..., 8 bits in
    this layer and 8 in the others.
    """

    bits: Bits
    size: float
    loss: float
    quantized: Quantized
    sensitivity: tuple[tuple[float, ...], ...]


def mixed_precision(
    graph: nir.NIRGraph,
    calibration: NDArray[np.int32],
    recipe: Recipe,
    *,
    size: float | None = None,
    loss: float | None = None,
    progress: Callable[[str], None] = lambda text: None,
    **options: Any,
) -> MixedPrecision:
    """The bits per layer that lose least within `size` bytes, or take least with `loss` at most.

    Greedy: from 8 bits everywhere, the step down, of any layer by any number of bits, that costs the
    least measured error per byte it saves comes first. Errors of layers are taken to add up; the
    result is then quantized as a whole and measured. With `loss`, the smallest network on that way
    down that keeps it, found by bisection. `options`: of `quantize`.

    Raises ValueError where no number of bits suffices, and what `quantize` raises.
    """
    if (size is None) == (loss is None):
        raise ValueError("give either size (bytes) or loss (fraction of answers that may differ).")
    task = prepare(graph, calibration, recipe, **options)
    counts = [_count(layer) for layer in task.layers]
    if size is not None and _size((FEWEST,) * len(counts), counts) > size:
        least = _size((FEWEST,) * len(counts), counts)
        raise ValueError(f"size = {size:g} bytes; with {FEWEST} bits, the weights take {least:g}.")
    errors = _sensitivity(task, progress)
    way = list(_way_down(errors, counts))

    def result(bits: Bits) -> MixedPrecision:
        progress(f"bits {', '.join(map(str, bits))}")
        runs: list[Run] = []
        for index, b in enumerate(bits):
            runs.append(task.run(index, b, runs[-1].spikes if runs else task.message))
        quantized = task.quantized(runs)
        table = tuple(tuple(row.tolist()) for row in errors)
        return MixedPrecision(bits, _size(bits, counts), _loss(task, runs), quantized, table)

    if size is not None:
        fits = next(bits for bits in way if _size(bits, counts) <= size)
        return result(_filled(fits, errors, counts, size))
    assert loss is not None
    best, low, high = result(way[0]), 0, len(way)
    if best.loss > loss:
        raise ValueError(
            f"loss = {loss:g}; with {MOST} bits everywhere, {best.loss:g} of the answers differ "
            f"from the float network's already."
        )
    while high - low > 1:
        middle = (low + high) // 2
        tried = result(way[middle])
        if tried.loss <= loss:
            best, low = tried, middle
        else:
            high = middle
    return best


def _count(layer: Any) -> int:
    back = 0 if layer.recurrent is None else layer.recurrent.size
    return int(layer.weight.size + back)


def _size(bits: Bits, counts: list[int]) -> float:
    return sum(b * n for b, n in zip(bits, counts, strict=True)) / 8


def _sensitivity(task: Task, progress: Callable[[str], None]) -> Array:
    """(layers, 7): error of the scores with 2 .. 8 bits in one layer."""
    base: list[Run] = []
    for index in range(len(task.layers)):
        base.append(task.run(index, MOST, base[-1].spikes if base else task.message))
    target = _target(task)
    errors = np.zeros((len(base), MOST - FEWEST + 1))
    for index, layer in enumerate(task.layers):
        message = base[index - 1].spikes if index else task.message
        for bits in range(FEWEST, MOST + 1):
            progress(f"{layer.name} with {bits} bits")
            run = base[index] if bits == MOST else task.run(index, bits, message)
            for later in range(index + 1, len(base)):
                run = task.problem(later, MOST, run.spikes).run(base[later].fit)
            change = _scores(task, run) - target
            errors[index, bits - FEWEST] = np.mean(change**2) / max(
                float(np.mean(target**2)), 1e-30
            )
    return errors


def _way_down(errors: Array, counts: list[int]) -> Iterator[Bits]:
    """From 8 bits everywhere to 2, always by the step that costs least error per byte."""
    bits = (MOST,) * len(counts)
    yield bits
    while max(bits) > FEWEST:
        steps = [
            (
                (errors[i, low - FEWEST] - errors[i, b - FEWEST]) / ((b - low) * counts[i]),
                (*bits[:i], low, *bits[i + 1 :]),
            )
            for i, b in enumerate(bits)
            for low in range(FEWEST, b)
        ]
        bits = min(steps)[1]
        yield bits


def _filled(bits: Bits, errors: Array, counts: list[int], size: float) -> Bits:
    """Bits raised while the size allows, the largest gain per byte first."""
    while True:
        steps = [
            ((errors[i, b - FEWEST] - errors[i, high - FEWEST]) / ((high - b) * counts[i]), more)
            for i, b in enumerate(bits)
            for high in range(b + 1, MOST + 1)
            if _size(more := (*bits[:i], high, *bits[i + 1 :]), counts) <= size
        ]
        if not steps:
            return bits
        bits = max(steps)[1]


def _loss(task: Task, runs: list[Run]) -> float:
    """Fraction of samples whose class differs; where answers are values, by how much they do (rms)."""
    ours, target = _scores(task, runs[-1]), _target(task)
    if target.shape[1] == 1 or task.recipe.provenance.get("task") == "regression":
        size = max(float(np.square(target).mean()), 1e-30)
        return float(np.sqrt(np.square(ours - target).mean() / size))
    return float(np.mean(ours.argmax(axis=1) != target.argmax(axis=1)))


def _scores(task: Task, run: Run) -> Array:
    """(sample, outputs): spike counts, or voltages as V, as the recipe reads them."""
    if task.recipe.decode == "spike count":
        return _read(task, run.spikes)
    return _read(task, run.v / (run.fit.unit[0] * (1 << arithmetic.STATE_SHIFT)))


def _target(task: Task) -> Array:
    last = len(task.layers) - 1
    if task.recipe.decode == "spike count":
        return _read(task, task.spikes(last))
    return _read(task, task.problem(last, MOST, task.message).voltage)


def _read(task: Task, values: Array) -> Array:
    flat = values.reshape(*values.shape[:2], -1).astype(float)
    if task.recipe.decode == "last voltage":
        return flat[:, -1]
    out: Array = flat.sum(axis=1) if task.recipe.decode == "spike count" else flat.mean(axis=1)
    return out
