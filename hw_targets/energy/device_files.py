"""Device files: what an event, a core or a second costs on a chip, each figure with its source.

A device is a TOML file, in `devices/` or the user's own (`devices/user-template.toml` explains every
line). Tables `[cost.*]` hold energies per counted event, `[power.*]` static and overhead power,
`[time.*]` times per event; each has value, low, high, unit, counter, basis, source and trust. What
nobody published is `unknown = true` with its counter and a reason: the loader keeps it as `Unpriced`
and an estimate lists it. Sets of coefficients that belong together are `[[corner]]` tables.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Collection, Mapping
from importlib import resources
from pathlib import Path
from typing import Any, get_args

from ..chips.chip import Chip
from ..chips.table import CHIPS
from .device import (
    BASES,
    COUNTERS,
    TRUST,
    UNITS,
    Barrier,
    Coefficient,
    Device,
    DeviceError,
    Group,
    Kind,
    ModelFactor,
    StaticScope,
    Unpriced,
)

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def shipped_devices() -> tuple[str, ...]:
    """Names that `load_device` knows without a path."""
    files = resources.files(__package__).joinpath("devices").iterdir()
    return tuple(sorted(f.name.removesuffix(".toml") for f in files if f.name.endswith(".toml")))


def load_device(device: str | Path, chips: Collection[Chip] = tuple(CHIPS.values())) -> Device:
    """A shipped device by name, or any device by the path of its TOML file.

    `chips`: those that the file may name. Raises DeviceError with every problem of it: a coefficient
    without a source, low > value, an unknown unit, counter, basis, chip or key, a corner that names no
    coefficient.
    """
    path = Path(device)
    if path.suffix == ".toml":
        if not path.is_file():
            raise DeviceError(f"{path}: no such file.")
        try:
            text, where = path.read_text(encoding="utf-8"), str(path)
        except UnicodeDecodeError as error:
            raise DeviceError(f"{path}: not text in UTF-8, as TOML is ({error}).") from None
    elif str(device) in shipped_devices():
        where = f"{device}.toml"
        file = resources.files(__package__).joinpath("devices").joinpath(where)
        text = file.read_text(encoding="utf-8")
    else:
        raise DeviceError(
            f"unknown device {str(device)!r}; shipped: {', '.join(shipped_devices())}. Or give the "
            f"path of a .toml file."
        )
    try:
        data = tomllib.loads(text)
    except (tomllib.TOMLDecodeError, RecursionError) as error:
        raise DeviceError(f"{where}: not valid TOML ({error}).") from None
    problems: list[str] = []
    parsed = _device(data, [chip.id for chip in chips], problems.append)
    if parsed is None or problems:
        raise DeviceError("\n".join(f"{where}: {problem}" for problem in problems))
    return parsed


Report = Callable[[str], None]
_REQUIRED = {"schema": int, "id": str, "device": str, "kind": str, "scope": str, "year": int}
_OPTIONAL = {
    "chip": str,
    "node_nm": (int, float),
    "vdd_v": (int, float),
    "static_scope": str,
    "arithmetic_only": bool,
    "lower_bound": bool,
    "note": str,
    "model": dict,
    "corner": list,
    "cost": dict,
    "power": dict,
    "time": dict,
}
_TEXTS = {"unit": str, "basis": str, "source": str, "trust": str}
_NUMBER = (int, float)


def _shape(
    entry: Any, required: Mapping[str, Any], optional: Mapping[str, Any], place: str, report: Report
) -> bool:
    """Whether a table has its keys, of the right types, and no others."""
    if not isinstance(entry, dict):
        report(f"{place}{entry!r} is no table.")
        return False
    problems = []
    if missing := sorted(set(required) - set(entry)):
        problems.append(f"missing {missing}.")
    known = {**required, **optional}
    if surplus := sorted(set(entry) - set(known)):
        problems.append(f"unknown {surplus}; known: {', '.join(known)}.")
    for key, kind in known.items():
        value = entry.get(key)
        # TOML's booleans are Python's integers
        if key in entry and (
            not isinstance(value, kind) or isinstance(value, bool) > (kind is bool)
        ):
            problems.append(f"{key} = {value!r} is of the wrong type.")
    for line in problems:
        report(place + line)
    return not problems


def _is_amount(value: object) -> bool:
    return isinstance(value, _NUMBER) and not isinstance(value, bool) and 0 <= value < float("inf")


def _choice(place: str, what: str, value: str | None, choices: Any, report: Report) -> None:
    if value is not None and value not in choices:
        report(f"{place}{what} {value!r}; use one of {', '.join(choices)}.")


def _device(data: dict[str, Any], chips: Collection[str], report: Report) -> Device | None:
    whole = _shape(data, _REQUIRED, _OPTIONAL, "", report)
    if data.get("schema", 1) != 1:
        report(f"schema {data['schema']}; this version reads 1.")
        return None
    coefficients: list[Coefficient] = []
    unpriced: list[Unpriced] = []
    barrier = None
    groups: tuple[Group, ...] = get_args(Group)
    tables = {g: data[g] if isinstance(data.get(g), dict) else {} for g in groups}
    for group in groups:
        for name, entry in tables[group].items():
            place = f"{group}.{name}: "
            if isinstance(entry, dict) and entry.get("unknown"):
                unpriced += _unpriced(name, group, entry, place, report)
            elif isinstance(entry, dict) and "by_tiles" in entry:
                barrier = _barrier(group, name, entry, place, report)
            else:
                coefficients += _coefficient(name, group, entry, place, report)
    for name in sorted(tables["cost"].keys() & tables["power"].keys()):
        report(f"{name}: a cost and a power of this name; rename one.")
    if not coefficients and not unpriced:
        report("no [cost.*], [power.*] or [time.*] table; give at least one coefficient.")
    given = data.get("corner", [])
    corners = _corners(given if isinstance(given, list) else [], coefficients, report)
    model = _model(data["model"], report) if "model" in data else None
    for what, choices in (
        ("kind", get_args(Kind)),
        ("chip", chips),
        ("static_scope", get_args(StaticScope)),
    ):
        _choice("", what, data.get(what), choices, report)
    if not whole:
        return None
    return Device(
        id=data["id"],
        name=data["device"],
        kind=data["kind"],
        chip=data.get("chip"),
        scope=data["scope"],
        node_nm=data.get("node_nm"),
        vdd_v=data.get("vdd_v"),
        year=data["year"],
        static_scope=data.get("static_scope", "used_cores"),
        arithmetic_only=data.get("arithmetic_only", False),
        lower_bound=data.get("lower_bound", False),
        note=data.get("note", ""),
        coefficients=tuple(coefficients),
        barrier=barrier,
        corners=corners,
        model=model,
        unpriced=tuple(unpriced),
    )


def _unpriced(
    name: str, group: Group, entry: dict[str, Any], place: str, report: Report
) -> list[Unpriced]:
    if not entry.get("reason") or not entry.get("counter"):
        report(f"{place}an unknown cost needs its counter and a reason.")
        return []
    known = {"unknown": bool, "counter": str, "reason": str}
    if not _shape(entry, known, {}, place, report):
        return []
    _choice(place, "counter", entry["counter"], COUNTERS[group], report)
    return [Unpriced(name, entry["counter"], entry["reason"], group)]


def _sourced(group: Group, entry: dict[str, Any], place: str, report: Report) -> None:
    _choice(place, "unit", entry["unit"], UNITS[group], report)
    _choice(place, "basis", entry["basis"], BASES, report)
    _choice(place, "trust", entry["trust"], TRUST, report)


def _coefficient(
    name: str, group: Group, entry: Any, place: str, report: Report
) -> list[Coefficient]:
    if isinstance(entry, dict) and not entry.get("source"):
        report(f"{place}no source. A coefficient without a source is not used; name it.")
        return []
    required = {"value": _NUMBER, "low": _NUMBER, "high": _NUMBER, "counter": str, **_TEXTS}
    if not _shape(entry, required, {"note": str}, place, report):
        return []
    _sourced(group, entry, place, report)
    _choice(place, "counter", entry["counter"], COUNTERS[group], report)
    value, low, high = entry["value"], entry["low"], entry["high"]
    if not 0 <= low <= value <= high < float("inf"):
        report(f"{place}0 <= low {low} <= value {value} <= high {high} < inf does not hold.")
    unit = UNITS[group].get(entry["unit"], 1.0)
    ends = (value * unit, low * unit, high * unit)
    texts = (entry["unit"], entry["basis"], entry["source"], entry["trust"], entry.get("note", ""))
    return [Coefficient(name, group, entry["counter"], *ends, *texts)]


def _barrier(
    group: Group, name: str, entry: dict[str, Any], place: str, report: Report
) -> Barrier | None:
    if (group, name) != ("time", "barrier"):
        report(f"{place}only time.barrier has a table by_tiles; give value, low and high.")
        return None
    if not entry.get("source"):
        report(f"{place}no source. A coefficient without a source is not used; name it.")
        return None
    if not _shape(entry, {"by_tiles": dict, **_TEXTS}, {"note": str}, place, report):
        return None
    _sourced(group, entry, place, report)
    table = entry["by_tiles"]
    tiles = [int(key) if key.isdecimal() else 0 for key in table]
    times = [value if _is_amount(value) else -1 for value in table.values()]
    if not table or [0, *tiles] != sorted({0, *tiles}) or [0, *times] != sorted([0, *times]):
        report(f"{place}by_tiles {table}: give rising numbers of tiles, with times that rise.")
        return None
    unit = UNITS["time"].get(entry["unit"], 1.0)
    texts = (entry["unit"], entry["basis"], entry["source"], entry["trust"], entry.get("note", ""))
    return Barrier(tuple(tiles), tuple(time * unit for time in times), *texts)


def _corners(
    entries: list[Any], coefficients: list[Coefficient], report: Report
) -> tuple[Mapping[str, float], ...]:
    """Values in the units of the coefficients that they name, as SI units."""
    units = {c.name: UNITS["cost"].get(c.unit, 1.0) for c in coefficients if c.group == "cost"}
    corners = []
    for i, entry in enumerate(entries):
        place = f"corner {i + 1}: "
        if not isinstance(entry, dict) or set(entry) != set(entries[0]):
            report(f"{place}every corner gives values for the same coefficients.")
            continue
        for name in sorted(set(entry) - set(units)):
            report(f"{place}names no cost with a value: {name!r}; known: {', '.join(units)}.")
        kept = {name: value for name, value in entry.items() if name in units}
        bad = [name for name, v in kept.items() if not _is_amount(v)]
        for name in bad:
            report(f"{place}{name} = {kept[name]!r}; give a number of at least 0.")
        corners.append({name: v * units[name] for name, v in kept.items() if name not in bad})
    return tuple(corners)


def _model(entry: Any, report: Report) -> ModelFactor | None:
    known = {"low": _NUMBER, "high": _NUMBER, "note": str}
    if not _shape(entry, known, {}, "model: ", report):
        return None
    if not (0 < entry["low"] <= 1 <= entry["high"] and entry["note"]):
        report(f"model: low {entry['low']} <= 1 <= high {entry['high']} and a note are needed.")
        return None
    return ModelFactor(entry["low"], entry["high"], entry["note"])
