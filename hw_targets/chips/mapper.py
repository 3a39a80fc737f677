"""`map_network`: which cores of a chip hold which neurons, what fills them, and what does not fit."""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product

from ..counts.placement import Box, Core, Placement
from ..network.layers import Shape
from ..network.network import Network
from ..printed import Printed, View
from .chip import Amounts, Chip, Limit, Site, Violation
from .messages import message_problems
from .table import chip_named
from .views import mapping_tables


@dataclass(frozen=True)
class Load:
    """What the cores of a layer take of one limit: the fullest core, and the mean of all."""

    limit: Limit
    most: float
    mean: float

    @property
    def fraction(self) -> float:
        """How much of the limit the fullest core takes; above 1 it does not fit."""
        return self.most / self.limit.value


@dataclass(frozen=True)
class LayerMapping:
    """The cores of one population; `box`: the shape of the largest share."""

    population: int
    name: str
    shape: Shape
    box: Shape
    cores: int
    loads: tuple[Load, ...]

    @property
    def fills(self) -> Load:
        """The tightest limit."""
        return max(self.loads, key=lambda load: load.fraction)


@dataclass(frozen=True, repr=False)
class Mapping(Printed):
    """A network on a chip, and everything that stands against it.

    A network with violations is mapped all the same, as if the limit in question were not there.
    """

    chip: Chip
    placement: Placement
    layers: tuple[LayerMapping, ...]
    violations: tuple[Violation, ...]

    @property
    def cores(self) -> int:
        return len(self.placement.cores)

    @property
    def chips(self) -> int:
        return self.placement.chips

    def fits(self, chips: int) -> bool:
        """Whether nothing is violated and this many chips have the cores."""
        return not self.violations and self.chips <= chips

    def missing_cores(self, chips: int) -> int:
        """Cores by which the network exceeds this many chips; 0 where it does not."""
        return max(0, self.cores - chips * self.chip.cores.value)

    @property
    def not_modelled(self) -> tuple[str, ...]:
        return self.chip.not_modelled

    def views(self) -> list[View]:
        """Cores of each layer and what fills them, violations, how many chips, and the limits."""
        return mapping_tables(self)


def map_network(network: Network, chip: Chip | str) -> Mapping:
    """Cut every layer into boxes that fit a core, and number the cores layer by layer.

    Dense layers: n cores of equal shares, n growing by the factor ceil(amount / limit) of the worst
    limit until all hold. (C, H, W) layers: of the chip's tiles that fit, the one with the fewest cuts
    across channels, then the fewest cores, then the squarest that is not wider than high. A limit that
    one neuron alone exceeds is a violation, and the layer is cut as if it were not there. Raises
    NetworkError for a name that is not among `CHIPS`.
    """
    if isinstance(chip, str):
        chip = chip_named(chip)
    violations = list(_network_violations(network, chip))
    layers: list[LayerMapping] = []
    cores: list[Core] = []
    boxes: tuple[Box, ...] = ()
    following = None
    for p in reversed(network.populations):
        site = Site(p, following, boxes)
        boxes, amounts = _cut(chip, site)
        loads = tuple(
            Load(limit, max(column), sum(column) / len(column))
            for limit, column in zip(chip.limits, zip(*amounts, strict=True), strict=True)
        )
        violations += (_exceeded(p.name, load) for load in loads if load.fraction > 1)
        layers.append(LayerMapping(p.index, p.name, p.shape, _largest(boxes), len(boxes), loads))
        cores[:0] = (Core(p.index, box) for box in boxes)
        following = p
    order = {p.name: p.index for p in network.populations}
    return Mapping(
        chip,
        Placement(tuple(cores), chip.mesh, chip.id),
        tuple(reversed(layers)),
        tuple(sorted(violations, key=lambda violation: order.get(violation.where, -1))),
    )


def _exceeded(name: str, load: Load) -> Violation:
    limit = load.limit
    return Violation(
        name, f"{load.most:,.0f} {limit.unit} of {limit.name} in one core: {limit.fix}", str(limit)
    )


def _largest(boxes: abc.Sequence[Box]) -> Shape:
    return tuple(max(stop - start for start, stop in ends) for ends in zip(*boxes, strict=True))


def _network_violations(network: Network, chip: Chip) -> Iterator[Violation]:
    payload = chip.payload
    limit = f"spikes of {payload.bits} bits" if payload.bits else "single spikes"
    for problem in message_problems(network, payload):
        yield Violation("messages", problem, f"{limit}; {payload.source}")
    for p in network.populations:
        for rule in chip.rules:
            yield from rule(p)


def _cut(chip: Chip, site: Site) -> tuple[tuple[Box, ...], list[Amounts]]:
    """Boxes of a population, one for each core, and what each takes of the chip's limits."""
    shape = site.population.shape
    limits = [limit.value for limit in chip.limits]
    smallest = (1,) * len(shape)
    alone = chip.amounts(site, _around_the_middle(shape, smallest), _cores(shape, smallest))
    counted = [amount <= limit for amount, limit in zip(alone, limits, strict=True)]

    def overfull(amounts: Amounts) -> float:
        rows = zip(amounts, limits, counted, strict=True)
        return max((amount / limit for amount, limit, counts in rows if counts), default=0.0)

    def fullest(size: Shape) -> float:
        """`overfull` of a core in the middle, where the fullest nearly always is."""
        middle = _around_the_middle(shape, size)
        return overfull(chip.amounts(site, middle, _cores(shape, size)))

    boxes: tuple[Box, ...] = ()
    amounts: list[Amounts] = []
    for size in _tiles(chip, shape) if len(shape) == 3 else _shares(shape, fullest):
        if fullest(size) <= 1:
            boxes = tuple(_grid(shape, size))
            amounts = [chip.amounts(site, box, len(boxes)) for box in boxes]
            if max(map(overfull, amounts)) <= 1:
                break
    return boxes, amounts


def _cores(shape: Shape, size: Shape) -> int:
    return math.prod(-(-n // part) for n, part in zip(shape, size, strict=True))


def _shares(shape: Shape, fullest: abc.Callable[[Shape], float]) -> Iterator[Shape]:
    """Neurons of a core, for ever more cores."""
    (size,) = shape
    cores, share = 1, size
    while share > 1:
        yield (share,)
        cores *= max(2, math.ceil(fullest((share,))))
        share = -(-size // cores)
    yield (1,)


def _tiles(chip: Chip, shape: Shape) -> list[Shape]:
    """A chip's tiles, best first."""

    def cost(tile: Shape) -> tuple[float, ...]:
        cuts = -(-shape[0] // tile[0])
        return cuts, _cores(shape, tile), tile[2] > tile[1], abs(math.log(tile[2] / tile[1]))

    return sorted(set(chip.tiles(shape)), key=cost)


def _grid(shape: Shape, size: Shape) -> Iterator[Box]:
    """Boxes of a size side by side, x fastest."""
    cuts = [[*range(0, n, part), n] for n, part in zip(shape, size, strict=True)]
    return iter(product(*(list(pairwise(ends)) for ends in cuts)))


def _around_the_middle(shape: Shape, size: Shape) -> Box:
    """The box of the grid that holds the middle neuron, where a convolution has all its taps."""
    return tuple(
        (start := n // 2 // part * part, min(n, start + part))
        for n, part in zip(shape, size, strict=True)
    )
