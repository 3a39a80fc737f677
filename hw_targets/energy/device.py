"""What a device file says, as types: `Device` and its coefficients, each with its source."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from itertools import pairwise
from typing import Literal

from .interval import Interval

Group = Literal["cost", "power", "time"]
StaticScope = Literal["used_cores", "whole_chip"]
Kind = Literal["neuromorphic", "arithmetic", "processor"]

UNITS: Mapping[Group, Mapping[str, float]] = {
    "cost": {"pJ/op": 1e-12, "nJ/op": 1e-9, "uJ/op": 1e-6, "J/op": 1.0},
    "power": {"uW": 1e-6, "mW": 1e-3, "W": 1.0},
    "time": {"ns": 1e-9, "us": 1e-6, "ms": 1e-3, "s": 1.0},
}
COUNTERS: Mapping[Group, tuple[str, ...]] = {
    "cost": (
        "synops",
        "synops_fanout",
        "effective_acs",
        "effective_macs",
        "neuron_updates",
        "neuron_updates_active",
        "neuron_updates_inactive",
        "neuron_updates_nonzero",
        "spikes_out",
        "messages_in",
        "axon_out",
        "messages_same_tile",
        "messages_off_chip",
        "hops_ew",
        "hops_ns",
        "input_messages",
        "steps",
        "macs",
        "neurons",
        "weight_bytes",
        "activation_bytes",
    ),
    "power": ("used_cores", "chips", "processors"),
    "time": ("synops", "neurons", "messages_in", "spikes_out", "steps"),
}
"""What a coefficient may multiply; see `energy.readings` for the costs, `energy.price` and
`energy.step_seconds` for powers and times."""
BASES = ("measured", "simulated", "regression", "derived", "datasheet", "assumed")
TRUST = {
    "A": "read in the primary artefact, or recomputed from it",
    "B": "second hand, at least two independent copies agree",
    "C": "second hand, one source",
    "D": "from memory",
}


class DeviceError(ValueError):
    """A device file that does not say what an honest estimate needs, or a run it cannot price."""


@dataclass(frozen=True)
class Coefficient:
    """Joules, watts or seconds for one `counter`, as an interval in SI units, with its source."""

    name: str
    group: Group
    counter: str
    value: float
    low: float
    high: float
    unit: str
    """unit as written in the file"""
    basis: str
    source: str
    trust: str
    note: str = ""

    @property
    def interval(self) -> Interval:
        return Interval(self.value, self.low, self.high)


@dataclass(frozen=True)
class Barrier:
    """Seconds that closing a time step takes, for some numbers of tiles in use."""

    tiles: tuple[int, ...]
    seconds: tuple[float, ...]
    unit: str
    basis: str
    source: str
    trust: str
    note: str = ""

    def at(self, tiles: int) -> Interval | None:
        """Linear between the published points, which are the ends; None beyond the last."""
        points = list(zip(self.tiles, self.seconds, strict=True))
        if tiles > self.tiles[-1]:
            return None
        if tiles <= self.tiles[0] or tiles in self.tiles:
            return Interval.exact(dict(points).get(tiles, self.seconds[0]))
        (n, low), (m, high) = next(pair for pair in pairwise(points) if tiles < pair[1][0])
        return Interval(low + (high - low) * (tiles - n) / (m - n), low, high)


@dataclass(frozen=True)
class Unpriced:
    """A cost that exists and has no figure: nobody published it, or the run does not tell its count."""

    name: str
    counter: str
    reason: str
    group: Group = "cost"


@dataclass(frozen=True)
class ModelFactor:
    """How far counts times such coefficients lay from measurements: measured = [low, high] x estimate.

    Chosen after the measurements that `note` names, so it describes them and predicts no other.
    """

    low: float
    high: float
    note: str


@dataclass(frozen=True)
class Device:
    """A chip's, a processor's or an arithmetic unit's coefficients.

    `scope`: what its costs cover; energies of different scopes are not divided by each other.
    `chip`: refuses networks placed on another. `static_scope`: whose static power enters a total.
    `corners`: sets of coefficients that belong together, in SI units; a total's ends are taken over them
    in place of each coefficient's own. `lower_bound`: nothing runs below, and small networks far above.
    """

    id: str
    name: str
    kind: Kind
    chip: str | None
    scope: str
    node_nm: float | None
    vdd_v: float | None
    year: int
    static_scope: StaticScope
    arithmetic_only: bool
    lower_bound: bool
    note: str
    coefficients: tuple[Coefficient, ...]
    barrier: Barrier | None
    corners: tuple[Mapping[str, float], ...]
    model: ModelFactor | None
    unpriced: tuple[Unpriced, ...]

    def of(self, group: Group) -> tuple[Coefficient, ...]:
        """The coefficients of one group."""
        return tuple(c for c in self.coefficients if c.group == group)

    @property
    def costs(self) -> tuple[Coefficient, ...]:
        """Energies per event."""
        return self.of("cost")


def same_chip(device: Device, chip: str | None) -> None:
    """Raises DeviceError where both name a chip, and different ones."""
    if device.chip and chip and device.chip != chip:
        raise DeviceError(
            f"{device.id} has the costs of {device.chip}, and the network is placed on {chip}: map it "
            f"on {device.chip}, or take a device of {chip}."
        )
