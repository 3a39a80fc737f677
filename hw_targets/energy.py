"""Counts times sourced coefficients: `load_device` and `estimate`.

A device is a TOML file in `devices/` (or the user's own): one `[cost.*]` table per coefficient,
with value, low, high, unit, the counter it multiplies, basis, source and trust; what nobody
published is `unknown = true` with a reason, and comes back in `Energy.unpriced`. Estimates are of
the scope that the device names, and nothing else: see `Energy.scope`.
"""

from __future__ import annotations

import sys
from collections.abc import Mapping
from dataclasses import dataclass
from importlib import resources
from pathlib import Path
from typing import Any

from .counts import Counts

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

UNITS = {"pJ/op": 1e-12, "nJ/op": 1e-9, "J/op": 1.0}
BASES = ("measured", "simulated", "regression", "derived", "datasheet", "assumed")


class DeviceError(ValueError):
    """A device file that does not say what an honest estimate needs."""


@dataclass(frozen=True)
class Cost:
    """Joules per counted event, as an interval, with its source."""

    name: str
    counter: str
    joules: float
    low: float
    high: float
    basis: str
    source: str
    trust: str
    note: str = ""


@dataclass(frozen=True)
class Unpriced:
    """A cost that the device has and nobody published, or that needs what is not known here."""

    name: str
    counter: str
    reason: str


@dataclass(frozen=True)
class Device:
    """A chip's (or an arithmetic unit's) energy coefficients."""

    id: str
    name: str
    kind: str
    scope: str
    node_nm: int
    year: int
    note: str
    costs: tuple[Cost, ...]
    unpriced: tuple[Unpriced, ...]


@dataclass(frozen=True)
class Energy:
    """An estimated energy in joules: value in [low, high], of the stated scope only."""

    joules: float
    low: float
    high: float
    scope: str
    device: str
    terms: Mapping[str, tuple[float, float, float]]
    """joules, low, high of each priced term"""
    unpriced: tuple[Unpriced, ...]

    def __truediv__(self, samples: int) -> Energy:
        """Energy per sample."""
        terms = {k: (a / samples, b / samples, c / samples) for k, (a, b, c) in self.terms.items()}
        return Energy(
            self.joules / samples,
            self.low / samples,
            self.high / samples,
            self.scope,
            self.device,
            terms,
            self.unpriced,
        )


def shipped_devices() -> tuple[str, ...]:
    """Names that `load_device` knows without a path."""
    files = resources.files(__package__).joinpath("devices").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load_device(device: str | Path) -> Device:
    """A shipped device by name, or any device by the path of its TOML file. Raises DeviceError."""
    path = Path(device)
    if path.suffix == ".toml":
        if not path.is_file():
            raise DeviceError(f"{path}: no such file.")
        text, where = path.read_text(), str(path)
    elif str(device) in shipped_devices():
        where = f"{device}.toml"
        text = resources.files(__package__).joinpath("devices").joinpath(where).read_text()
    else:
        raise DeviceError(
            f"unknown device {str(device)!r}; shipped: {', '.join(shipped_devices())}. Or give the "
            f"path of a .toml file."
        )
    try:
        data = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise DeviceError(f"{where}: not valid TOML ({error}).") from None
    return _device(data, where)


def _device(data: dict[str, Any], where: str) -> Device:
    missing = {"schema", "id", "device", "kind", "scope", "node_nm", "year", "cost"} - set(data)
    if missing:
        raise DeviceError(f"{where}: missing {sorted(missing)}.")
    if data["schema"] != 1:
        raise DeviceError(f"{where}: schema {data['schema']}; this version reads 1.")
    costs: list[Cost] = []
    unpriced: list[Unpriced] = []
    for name, entry in data["cost"].items():
        place = f"{where}: cost.{name}"
        if entry.get("unknown"):
            if not entry.get("reason") or not entry.get("counter"):
                raise DeviceError(f"{place}: an unknown cost needs its counter and a reason.")
            unpriced.append(Unpriced(name, entry["counter"], entry["reason"]))
            continue
        costs.append(_cost(name, entry, place))
    return Device(
        data["id"],
        data["device"],
        data["kind"],
        data["scope"],
        data["node_nm"],
        data["year"],
        data.get("note", ""),
        tuple(costs),
        tuple(unpriced),
    )


def _cost(name: str, entry: dict[str, Any], place: str) -> Cost:
    if not entry.get("source"):
        raise DeviceError(f"{place}: no source. A coefficient without a source is not used.")
    missing = {"value", "low", "high", "unit", "counter", "basis", "trust"} - set(entry)
    if missing:
        raise DeviceError(f"{place}: missing {sorted(missing)}.")
    if entry["unit"] not in UNITS:
        raise DeviceError(f"{place}: unit {entry['unit']!r}; use one of {', '.join(UNITS)}.")
    if entry["basis"] not in BASES:
        raise DeviceError(f"{place}: basis {entry['basis']!r}; use one of {', '.join(BASES)}.")
    if not 0 <= entry["low"] <= entry["value"] <= entry["high"]:
        raise DeviceError(
            f"{place}: low {entry['low']} <= value {entry['value']} <= high {entry['high']} does "
            f"not hold."
        )
    unit = UNITS[entry["unit"]]
    return Cost(
        name,
        entry["counter"],
        entry["value"] * unit,
        entry["low"] * unit,
        entry["high"] * unit,
        entry["basis"],
        entry["source"],
        entry["trust"],
        entry.get("note", ""),
    )


def estimate(counts: Counts, device: Device) -> Energy:
    """Energy of a counted run on a neuromorphic device, summed over its samples.

    E = e_synop * synops + e_active * active + e_inactive * inactive updates. Which updates are
    active is not published: low takes spiking neurons only (active = spikes_out), high every neuron
    in every step; the value is their midpoint. Costs without a coefficient are listed, not guessed.
    """
    updates, spikes = counts.total("neuron_updates"), counts.total("spikes_out")
    events = {
        "synops": (counts.total("synops"),) * 3,
        "neuron_updates_active": ((updates + spikes) / 2, spikes, updates),
        "neuron_updates_inactive": ((updates - spikes) / 2, updates - spikes, 0),
    }
    return _priced(events, device)


def estimate_macs(macs: int, device: Device) -> Energy:
    """Energy of `macs` multiply-adds on an arithmetic device: E = e_mac * macs."""
    return _priced({"macs": (macs,) * 3}, device)


def _priced(events: Mapping[str, tuple[float, ...]], device: Device) -> Energy:
    terms = {}
    for cost in device.costs:
        if cost.counter not in events:
            raise DeviceError(
                f"device {device.id} prices {cost.counter!r}, which this run does not count "
                f"(counted: {', '.join(events)}). Use a device of the right kind."
            )
        value, low, high = events[cost.counter]
        terms[cost.name] = (cost.joules * value, cost.low * low, cost.high * high)
    sums = [sum(term[i] for term in terms.values()) for i in range(3)]
    return Energy(sums[0], sums[1], sums[2], device.scope, device.id, terms, device.unpriced)
