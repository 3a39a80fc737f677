"""`map_network`: which cores of a chip hold which neurons, what fills them, and what does not fit."""

from __future__ import annotations

import math
from collections import abc
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise, product
from types import MappingProxyType

from .chips import Chip, Limit, Site
from .loihi1 import LOIHI1
from .loihi2 import LOIHI2
from .messages import PAYLOADS, message_problems
from .network import Network, NetworkError, Shape
from .placement import Box, Core, Placement
from .violations import Violation

CHIPS: abc.Mapping[str, Chip] = MappingProxyType({"loihi1": LOIHI1, "loihi2": LOIHI2})


@dataclass(frozen=True)
class Load:
    """What the cores of a layer take of one limit: the fullest core, and the mean of all."""

    limit: Limit
    most: float
    mean: float

    @property
    def fraction(self) -> float:
        """Of the limit, in the fullest core."""
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


@dataclass(frozen=True)
class Mapping:
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


def map_network(network: Network, chip: Chip | str) -> Mapping:
    """Cut every layer into boxes that fit a core, and number the cores layer by layer.

    Dense layers: n cores of equal shares, n growing by the factor ceil(amount / limit) of the worst
    limit until all hold. (C, H, W) layers: of the chip's tiles that fit, the one that needs the
    fewest cores, then the fewest cuts across channels, then the squarest that is not wider than high.
    Limits that one neuron alone exceeds are violations and do not count further. Raises NetworkError
    for a chip that is not known.
    """
    if isinstance(chip, str):
        if chip not in CHIPS:
            raise NetworkError(f"no chip {chip!r}; known: {', '.join(CHIPS)}.")
        chip = CHIPS[chip]
    violations = list(_network_violations(network, chip))
    layers: list[LayerMapping] = []
    boxes: tuple[Box, ...] = ()
    found: list[tuple[Box, ...]] = []
    following = None
    for p in reversed(network.populations):
        site = Site(p, following, boxes)
        hopeless, boxes, amounts = _cut(chip, site)
        violations += hopeless
        layers.append(
            LayerMapping(
                p.index,
                p.name,
                p.shape,
                tuple(max(b[i][1] - b[i][0] for b in boxes) for i in range(len(p.shape))),
                len(boxes),
                tuple(
                    Load(limit, max(column), sum(column) / len(column))
                    for limit, column in zip(chip.limits, zip(*amounts, strict=True), strict=True)
                ),
            )
        )
        found.append(boxes)
        following = p
    cores = tuple(Core(i, box) for i, part in enumerate(reversed(found)) for box in part)
    order = {p.name: p.index for p in network.populations}
    violations.sort(key=lambda violation: order.get(violation.where, -1))
    return Mapping(
        chip,
        Placement(cores, chip.mesh, chip.id),
        tuple(reversed(layers)),
        tuple(violations),
    )


def _network_violations(network: Network, chip: Chip) -> Iterator[Violation]:
    payload = PAYLOADS[chip.id]
    limit = f"spikes of {payload.bits} bits" if payload.bits else "single spikes"
    for problem in message_problems(network, chip.id):
        yield Violation("messages", problem, f"{limit}; {payload.source}")
    for p in network.populations:
        for rule in chip.rules:
            yield from rule(p)


Amounts = tuple[float, ...]


def _cut(chip: Chip, site: Site) -> tuple[list[Violation], tuple[Box, ...], list[Amounts]]:
    """What even a single neuron exceeds; the boxes; and what each takes."""
    p = site.population
    alone = chip.amounts(site, _around_the_middle(p.shape, (1,) * len(p.shape)))
    counted = [amount <= limit.value for amount, limit in zip(alone, chip.limits, strict=True)]
    hopeless = [
        Violation(p.name, f"{amount:,.0f} {limit.unit} of {limit.name}: {limit.fix}", str(limit))
        for amount, limit in zip(alone, chip.limits, strict=True)
        if amount > limit.value
    ]

    def overfull(amounts: Amounts) -> float:
        rows = zip(amounts, chip.limits, counted, strict=True)
        return max((a / limit.value for a, limit, counts in rows if counts), default=0.0)

    candidates = _tiles(chip, p.shape) if len(p.shape) == 3 else _shares(chip, site, overfull)
    for size in candidates:
        if overfull(chip.amounts(site, _around_the_middle(p.shape, size))) > 1:
            continue
        boxes = tuple(_grid(p.shape, size))
        amounts = [chip.amounts(site, box) for box in boxes]
        if max(map(overfull, amounts)) <= 1:
            return hopeless, boxes, amounts
    raise AssertionError(f"{p.name}: one neuron fits, but no tile does")


def _shares(
    chip: Chip, site: Site, overfull: abc.Callable[[Amounts], float]
) -> Iterator[tuple[int]]:
    """Neurons of a core, with ever more cores."""
    (size,) = site.population.shape
    cores = 1
    while True:
        share = -(-size // cores)
        yield (share,)
        over = overfull(chip.amounts(site, ((0, share),)))
        cores = min(size, cores * max(2, math.ceil(over)))


def _tiles(chip: Chip, shape: Shape) -> list[Shape]:
    """A chip's tiles, best first."""

    def cost(tile: Shape) -> tuple[float, ...]:
        cores = math.prod(-(-n // part) for n, part in zip(shape, tile, strict=True))
        cuts = -(-shape[0] // tile[0])
        return cores, cuts, tile[2] > tile[1], abs(math.log(tile[2] / tile[1]))

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
