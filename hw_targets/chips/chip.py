"""`Chip`: what one core of a neuromorphic chip can hold, as a frozen literal with units and sources."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from ..counts.placement import Box, Mesh
from ..counts.routes import fan_out
from ..network.bits import delay_bits, weight_bits
from ..network.layers import Shape
from ..network.network import Population
from ..network.neurons import CubaLIF

Amounts = tuple[float, ...]
"""what a box of neurons takes of each limit of a core"""

_code = {"json": False}


@dataclass(frozen=True)
class Limit:
    """The most that a core can hold of something, where the figure is from, and how to need less."""

    name: str
    value: int
    unit: str
    source: str
    fix: str = "spread the layer over more cores"
    sure: bool = True

    def __str__(self) -> str:
        doubt = "" if self.sure else ", unsure"
        return f"{self.value:,} {self.unit}{doubt}; {self.source}"


@dataclass(frozen=True)
class Payload:
    """The number that a spike carries on a target, `bits` wide, sign included; 0: it has none."""

    name: str
    bits: int
    source: str


@dataclass(frozen=True, eq=False)
class Site:
    """A population and where its messages go: what a chip needs to know to price a box of it."""

    population: Population
    following: Population | None
    boxes: tuple[Box, ...] = ()
    """boxes of the cores that hold `following`"""

    @cached_property
    def weight_bits(self) -> int:
        return weight_bits(self.population.layer)

    @cached_property
    def delay_bits(self) -> int:
        return delay_bits(self.population.layer)

    @cached_property
    def targets(self) -> NDArray[np.int64]:
        """Cores of the following layer that each neuron's messages reach, in the population's shape."""
        out = np.zeros(self.population.shape, np.int64)
        if self.following is not None:
            for box in self.boxes:
                reached = fan_out(self.following, zeros=True, box=box) > 0
                out += reached.reshape(self.population.shape)
        return out


@dataclass(frozen=True, eq=False)
class Chip:
    """A chip's limits and the functions that say what a network takes of them.

    `limits` are those of one core; `amounts(site, box, cores)` what a box of neurons takes of each, in
    their order, where the layer has so many cores. `tiles(shape)`: shapes of boxes in which a
    (C, H, W) layer may be cut. `rules`: functions that yield a `Violation` for what the chip has not.
    `cores`: usable ones of one chip. `payload`: of its spikes. `device`: prices a network on it where no
    other is asked for, by name or by the path of its TOML file; None: none does.

    A chip of your own is a literal, or `dataclasses.replace` of another with what differs.
    """

    id: str
    name: str
    cores: Limit
    payload: Payload
    device: str | Path | None
    mesh: Mesh
    limits: tuple[Limit, ...]
    amounts: Callable[[Site, Box, int], Amounts] = field(metadata=_code)
    tiles: Callable[[Shape], Iterable[Shape]] = field(metadata=_code)
    rules: tuple[Callable[[Population], Iterable[Violation]], ...] = field(metadata=_code)
    not_modelled: tuple[str, ...]


def has_no_odd_wide_weights(population: Population) -> Iterator[Violation]:
    """Weights of both signs have 8 bits for -256 .. 254: the even numbers."""
    bits = weight_bits(population.layer)
    if bits > 8:
        yield Violation(
            population.name,
            f"weights of both signs need {bits} bits: quantize them to even numbers",
            "8 bits, in steps of 2; lava-dl netx, optimize_weight_bits",
        )


def decays_have_12_bits(population: Population) -> Iterator[Violation]:
    """u keeps 1 - i_decay / 4096 with i_decay 1 .. 4096, v likewise with v_decay 0 .. 4095."""
    neuron = population.layer.neuron
    if not isinstance(neuron, CubaLIF):
        return
    for name, low, high in (("i_decay", 1, 4096), ("v_decay", 0, 4095)):
        values = np.asarray(getattr(neuron, name))
        for bad in np.unique(values[(values < low) | (values > high)]):
            yield Violation(
                population.name,
                f"{name} = {bad}: use {min(max(bad, low), high)}",
                f"{low} .. {high}, registers of 12 bits; lava-nc, lava.proc.lif (du, dv)",
            )


@dataclass(frozen=True)
class Violation:
    """What was found where, and the limit of the target."""

    where: str
    what: str
    limit: str

    def __str__(self) -> str:
        return f"{self.where}: {self.what} (limit: {self.limit})"
