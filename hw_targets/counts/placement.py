"""Where neurons live: `Placement` gives every core a box of one layer, `Mesh` a core its tile."""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from ..network.network import Network
from ..network.neurons import NetworkError

Box = tuple[tuple[int, int], ...]
"""(start, stop) along every axis of a layer: (C, H, W), or (N,) of a dense one."""


@dataclass(frozen=True)
class Core:
    """A core's share of one population: a box of its neurons."""

    population: int
    box: Box

    @property
    def neurons(self) -> int:
        return math.prod(stop - start for start, stop in self.box)


@dataclass(frozen=True)
class Mesh:
    """The network on chip: tiles of cores in columns of `rows` tiles, numbered column by column.

    Core k of a chip is in tile k // cores_per_tile; tile t is at x = t // rows, y = t % rows.
    """

    cores_per_chip: int
    cores_per_tile: int
    rows: int

    def place(self, cores: NDArray[np.int64]) -> tuple[NDArray[np.int64], ...]:
        """(chip, x, y) of physical cores."""
        tile = cores % self.cores_per_chip // self.cores_per_tile
        return cores // self.cores_per_chip, tile // self.rows, tile % self.rows


@dataclass(frozen=True)
class Routing:
    """For each pair (sending core, receiving core), int64 0 / 1 or hops: what a message passes."""

    same_tile: NDArray[np.int64]
    hops_ew: NDArray[np.int64]
    hops_ns: NDArray[np.int64]
    off_chip: NDArray[np.int64]
    """1 where the cores are on different chips: such hops are not counted, no model being public"""


@dataclass(frozen=True)
class Placement:
    """A network on cores: `cores[k]` is physical core k.

    `mesh` None: no chip is meant, messages have no way to go, and hops are 0.
    """

    cores: tuple[Core, ...]
    mesh: Mesh | None = None
    chip: str | None = None

    def of(self, population: int) -> tuple[int, ...]:
        """The cores of a population."""
        return tuple(k for k, core in enumerate(self.cores) if core.population == population)

    def owners(self, network: Network) -> tuple[NDArray[np.int32], ...]:
        """For every population the core of each neuron, int32 in the layer's shape.

        Raises NetworkError where a core's box is not in the network, or a neuron not on exactly one core.
        """
        out = [np.full(p.shape, -1, np.int32) for p in network.populations]
        for k, core in enumerate(self.cores):
            if not 0 <= core.population < len(out):
                raise NetworkError(
                    f"core {k} holds population {core.population} of a network of {len(out)}."
                )
            owner = out[core.population]
            inside = [0 <= a < b <= n for (a, b), n in zip(core.box, owner.shape, strict=False)]
            if len(core.box) != owner.ndim or not all(inside):
                raise NetworkError(
                    f"core {k}: the box {core.box} does not lie in population {core.population} of "
                    f"shape {owner.shape}."
                )
            part = owner[tuple(slice(*ends) for ends in core.box)]
            if (part >= 0).any():
                raise NetworkError(f"core {k} holds neurons that core {part.max()} has already.")
            part[...] = k
        for p, owner in zip(network.populations, out, strict=True):
            if missing := int((owner < 0).sum()):
                raise NetworkError(f"{p.name}: {missing} neurons are on no core.")
        return tuple(out)

    @cached_property
    def routing(self) -> Routing:
        """What messages pass between each two cores, along x first (dimension order)."""
        n = len(self.cores)
        if self.mesh is None:
            return Routing(*(np.zeros((n, n), np.int64) for _ in range(4)))
        chip, x, y = self.mesh.place(np.arange(n))
        same = chip[:, None] == chip
        ew = np.where(same, np.abs(x[:, None] - x), 0)
        ns = np.where(same, np.abs(y[:, None] - y), 0)
        return Routing((same & (ew + ns == 0)).astype(np.int64), ew, ns, (~same).astype(np.int64))

    @property
    def chips(self) -> int:
        """Chips in use; 0 without a mesh."""
        return 0 if self.mesh is None else -(-len(self.cores) // self.mesh.cores_per_chip)

    @property
    def tiles(self) -> int:
        """Tiles in use, of all chips; 0 without a mesh."""
        if self.mesh is None:
            return 0
        k = np.arange(len(self.cores))
        return len(set(zip(*(part.tolist() for part in self.mesh.place(k)), strict=True)))


def layer_per_core(network: Network) -> Placement:
    """Each population as one unit: for counts by layer, where no chip is meant."""
    return Placement(
        tuple(Core(p.index, tuple((0, n) for n in p.shape)) for p in network.populations)
    )
