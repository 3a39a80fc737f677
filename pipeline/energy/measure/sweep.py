"""Which batch size, and whose kernels, take the least time per image."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from typing import TypeAlias

import torch
from torch import nn

from .precisions import Processor

Work: TypeAlias = Callable[[], object]
MOST_BATCH = 1 << 16
GAIN = 0.97
"""A batch that takes more than this fraction of the best time per image so far is no improvement."""


@dataclass(frozen=True)
class Tried:
    """The fastest kernels at one batch size, and their seconds per image."""

    batch: int
    seconds: float
    kernels: str


def work(net: nn.Module, images: torch.Tensor, processor: Processor, copies: bool) -> Work:
    """One pass over `images`, which are in the host's memory; where not `copies`, moved beforehand.

    With `copies` the images go to the GPU in every pass, and the answers (one class each) come back.
    """
    if processor == "cpu":
        return lambda: net(images)
    if not copies:
        there = images.to(processor)
        return lambda: net(there)
    pinned = images.pin_memory()
    return lambda: net(pinned.to(processor, non_blocking=True)).argmax(1).cpu()


def filled(images: torch.Tensor, batch: int) -> torch.Tensor:
    """`batch` images (sample, *shape), repeated from the first on where there are fewer."""
    return images[torch.arange(batch) % len(images)]


def sweep(
    kernels: Sequence[str],
    works: Callable[[str, int], Work],
    seconds: float,
    *,
    batches: Iterable[int] | None = None,
    synchronize: Work = lambda: None,
    clock: Callable[[], float] = time.perf_counter,
) -> tuple[Tried, ...]:
    """Time `works(kernels, batch)` for `seconds` each, all kernels at each batch size.

    `batches`: None takes 1, 2, 4, ... until two in a row are no improvement, `MOST_BATCH`, or the GPU's
    memory is full.
    """

    def tried(batch: int) -> Tried:
        times = {k: _seconds(works(k, batch), seconds, synchronize, clock) / batch for k in kernels}
        fastest = min(times, key=lambda k: times[k])
        return Tried(batch, times[fastest], fastest)

    if batches is not None:
        return tuple(tried(batch) for batch in sorted(set(batches)))
    tries = [tried(1)]
    best, worse = tries[0].seconds, 0
    while worse < 2 and 2 * tries[-1].batch <= MOST_BATCH:
        try:
            tries.append(tried(2 * tries[-1].batch))
        except torch.cuda.OutOfMemoryError:
            break
        worse = 0 if tries[-1].seconds < GAIN * best else worse + 1
        best = min(best, tries[-1].seconds)
    return tuple(tries)


def _seconds(call: Work, least: float, synchronize: Work, clock: Callable[[], float]) -> float:
    """Seconds of one call, the mean over at least `least` seconds after a first one."""
    call()
    synchronize()
    start, calls = clock(), 0
    while not calls or clock() < start + least:
        call()
        calls += 1
    synchronize()
    return (clock() - start) / calls
