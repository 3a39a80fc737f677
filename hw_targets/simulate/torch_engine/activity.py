"""What `counts.activity_of` reads from a trace, counted on the device while a network runs."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from ...counts.routes import Routes, routes
from ..trace import Activity
from .order import inward, outward
from .products import Product, Sums

if TYPE_CHECKING:
    from ...counts.counter import Counter

PIECE = 1 << 26
"""Numbers of messages that are multiplied at a time."""


class Collected:
    """The counts of a run while they grow."""

    def __init__(self, counter: Counter, samples: int, steps: int, device: torch.device) -> None:
        network, placement = counter.network, counter.placement
        self._placement, self._populations = placement, network.populations
        self._samples = samples
        self._steps = steps if counter.steps is None else counter.steps
        latencies = [0, *(p.latency for p in network.populations)]
        self._begins = latencies if counter.steps is not None else [0] * len(latencies)
        self._shapes = [network.input_shape, *(p.shape for p in network.populations)]
        cores = len(placement.cores)
        owners = [None, *placement.owners(network)]
        self._sources = [
            _Source(route, owner, cores, shape, device)
            for route, owner, shape in zip(
                routes(network, placement), owners, self._shapes, strict=True
            )
        ]
        self._loads = np.zeros((3, samples, self._steps, cores), np.int64)
        """synops, messages and spikes of each core"""
        self._active = [np.zeros(p.size, np.int64) for p in network.populations]

    def window(self, source: int, start: int, steps: int) -> tuple[int, int]:
        """Which of the columns start .. start + steps - 1 count: (first, behind last) of these."""
        begin = self._begins[source]
        low = min(max(begin - start, 0), steps)
        return low, max(min(begin + self._steps - start, steps), low)

    def tally(self, source: int, messages: Tensor, low: int, start: int) -> None:
        """Count messages (step, sample, neuron) of samples from `low` and columns from `start` on.

        `source`: 0 is the input, then the populations.
        """
        first, last = self.window(source, start, len(messages))
        if first == last:
            return
        fired = (messages[first:last] != 0).to(torch.int8)
        loads = self._sources[source].count(fired)
        column = start + first - self._begins[source]
        target = self._loads[:, low : low + fired.shape[1], column : column + last - first]
        for kind, cores, load in loads:
            target[kind][:, :, cores] += load.transpose(0, 1).cpu().numpy()

    def add_active(self, population: int, active: Tensor) -> None:
        """Take over in how many steps each neuron was active, of some samples."""
        self._active[population] += active.cpu().numpy()

    def activity(self) -> Activity:
        """Everything that was counted."""
        synops, messages, spikes = self._loads
        return Activity(
            self._samples,
            self._steps,
            tuple(
                outward(source.sent.cpu().numpy(), shape)
                for source, shape in zip(self._sources, self._shapes, strict=True)
            ),
            tuple(
                outward(active, p.shape)
                for p, active in zip(self._populations, self._active, strict=True)
            ),
            *(
                tuple(load[:, :, list(self._placement.of(p.index))] for p in self._populations)
                for load in (spikes, synops, messages)
            ),
        )


class _Source:
    """Where the messages of the input or of a population go, as one matrix."""

    def __init__(
        self,
        route: Routes,
        owner: NDArray[np.int32] | None,
        cores: int,
        shape: tuple[int, ...],
        device: torch.device,
    ) -> None:
        size = len(route.start) - 1
        reached = np.unique(route.core)
        place = np.zeros(cores, np.int64)
        place[reached] = np.arange(len(reached))
        element = np.repeat(np.arange(size), np.diff(route.start))
        synops, messages = (np.zeros((len(reached), size), np.int64) for _ in range(2))
        np.add.at(synops, (place[route.core], element), route.synops)
        np.add.at(messages, (place[route.core], element), 1)
        parts: list[tuple[int, NDArray[Any], NDArray[Any]]] = [
            (0, reached, synops),
            (1, reached, messages),
        ]
        if owner is not None:
            own = np.unique(owner)
            parts.append((2, own, (own[:, None] == owner.ravel()).astype(np.int64)))

        def turned(matrix: NDArray[Any]) -> NDArray[Any]:
            return inward(matrix.reshape(-1, *shape), shape)

        self._parts = [
            (kind, on, Product(turned(matrix), device)) for kind, on, matrix in parts if len(on)
        ]
        self.sent = torch.zeros(size, dtype=torch.int64, device=device)

    def count(self, fired: Tensor) -> list[tuple[int, NDArray[Any], Tensor]]:
        """Loads of messages (step, sample, element), 1 where one is sent: (kind, cores, (..., core))."""
        self.sent += fired.sum(dim=(0, 1), dtype=torch.int64)
        rows = fired.flatten(0, 1)
        some = torch.split(rows, max(1, PIECE // max(1, rows.shape[1])))
        return [
            (
                kind,
                cores,
                torch.cat([_loads(product(part, 1)) for part in some]).reshape(
                    *fired.shape[:2], -1
                ),
            )
            for kind, cores, product in self._parts
        ]


def _loads(sums: Sums) -> Tensor:
    return sums.values.long() * sums.times
