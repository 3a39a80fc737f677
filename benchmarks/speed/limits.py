"""What the machine can do at most: memory bandwidth, vector additions, multiply-adds; on all cores."""

from __future__ import annotations

import os
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from statistics import median
from typing import Any

import numba
import numpy as np
import torch
from numpy.typing import NDArray

STATE_BYTES = 16
"""u and v of a neuron, 32 bits each, read and written once per step."""


@numba.njit(nogil=True, cache=True)
def _add(a: NDArray[Any], b: NDArray[Any], repeats: int) -> None:
    for _ in range(repeats):
        for i in range(a.size):
            a[i] += b[i]


def _rate(work: Callable[[int], None], amount: float, repeats: int = 5) -> float:
    """`amount` per second, `work(k)` done by every core k at once; median."""
    cores = os.cpu_count() or 1
    seconds = []
    with ThreadPoolExecutor(cores) as pool:
        for _ in range(repeats + 1):
            start = time.perf_counter()
            list(pool.map(work, range(cores)))
            seconds.append(time.perf_counter() - start)
    return amount * cores / median(seconds[1:])


def measure(megabytes: int = 64, additions: int = 200_000_000) -> dict[str, float]:
    """Bytes per second of a copy (read plus written), additions and multiply-adds per second.

    Additions are vectors of 4 KiB added to others in the first-level cache, as an event adds a row of
    weights to sums; multiply-adds are torch's float32 matrix product.
    """
    cores = os.cpu_count() or 1
    blocks = [np.ones(megabytes << 20, np.uint8) for _ in range(2 * cores)]
    limits = {
        "copy_bytes_per_second": _rate(
            lambda k: np.copyto(blocks[2 * k], blocks[2 * k + 1]), 2 * blocks[0].nbytes
        )
    }
    for kind in (np.int16, np.int32):
        size = 4096 // np.dtype(kind).itemsize
        a, b = np.zeros((cores, size), kind), np.ones((cores, size), kind)
        rounds = additions // size
        limits[f"{np.dtype(kind).name}_additions_per_second"] = _rate(
            lambda k, a=a, b=b, n=rounds: _add(a[k], b[k], n),  # type: ignore[misc]
            rounds * size,
        )
    matrix = torch.ones(1024, 1024)
    seconds = []
    for _ in range(6):
        start = time.perf_counter()
        torch.mm(matrix, matrix)
        seconds.append(time.perf_counter() - start)
    limits["float32_multiply_adds_per_second"] = 1024**3 / median(seconds[1:])
    return limits


def share(
    seconds: float, work: dict[str, float], limits: dict[str, float]
) -> dict[str, float | str]:
    """A run's time against the least the machine would need for its work.

    Arithmetic: every synaptic event one 16-bit addition, or one for every synapse that is silent where
    these are fewer, or every synapse a multiply-add in every step, whichever is less. Memory: u and v of
    every neuron read and written in every step. The larger of the two is the limit; above 100 % means
    that states stayed in the caches.
    """
    silent = max(work["dense_ops"] - work["synops"], 0)
    events = min(work["synops"], silent) / limits["int16_additions_per_second"]
    dense = work["dense_ops"] / limits["float32_multiply_adds_per_second"]
    memory = work["neuron_updates"] * STATE_BYTES / limits["copy_bytes_per_second"]
    arithmetic = min(events, dense)
    return {
        "synops_per_second": work["synops"] / seconds,
        "neuron_updates_per_second": work["neuron_updates"] / seconds,
        "state_bytes_per_second": work["neuron_updates"] * STATE_BYTES / seconds,
        "arithmetic_seconds": arithmetic,
        "memory_seconds": memory,
        "limit": "memory" if memory > arithmetic else "arithmetic",
        "share": max(memory, arithmetic) / seconds,
    }
