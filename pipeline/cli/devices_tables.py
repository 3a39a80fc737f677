"""Tables of devices: what each prices, and where every figure comes from."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ...hw_targets.energy.device import BASES, TRUST, UNITS, Coefficient, Device
from ...hw_targets.printed import table


def devices_tables(devices: Sequence[Device]) -> list[Table | str]:
    """One row a device: what it is, what its costs cover, and their figures."""
    rows = [
        (
            d.id,
            d.name,
            "" if d.node_nm is None else f"{d.node_nm:g} nm",
            d.year,
            d.scope,
            "; ".join(f"{c.name.replace('_', ' ')} {figure(c)}" for c in d.costs) or "nothing",
            ", ".join(sorted({c.trust for c in d.coefficients})),
            ", ".join(flags(d)),
        )
        for d in devices
    ]
    columns = ("device", "", "node", "year", "scope", "costs", "trust", "")
    return [
        _left(table("energy devices", columns, rows), 1, 4, 5, 7),
        f"trust: {'; '.join(f'{grade} {meaning}' for grade, meaning in TRUST.items())}",
        "Energies of different scopes are not divided by each other. Nobody has published an energy per "
        "operation of Loihi 2.",
    ]


def device_tables(device: Device) -> list[Table | str]:
    """Every figure of one device with its source, what has none, and what it is not."""
    rows: list[tuple[object, ...]] = [
        (
            f"{c.group}.{c.name}",
            c.counter,
            figure(c),
            c.basis,
            c.trust,
            _reference(c.source, c.note),
        )
        for c in sorted(device.coefficients, key=lambda c: ("cost", "power", "time").index(c.group))
    ]
    if b := device.barrier:
        factor = UNITS["time"][b.unit]
        points = (f"{n}: {s / factor:g}" for n, s in zip(b.tiles, b.seconds, strict=True))
        text = f"{', '.join(points)} {b.unit}"
        rows.append(("time.barrier", "tiles", text, b.basis, b.trust, _reference(b.source, b.note)))
    rows += [
        (f"{u.group}.{u.name}", u.counter, "unknown", "", "", u.reason) for u in device.unpriced
    ]
    node = "" if device.node_nm is None else f"{device.node_nm:g} nm, "
    voltage = "" if device.vdd_v is None else f"{device.vdd_v:g} V, "
    title = f"{device.id}: {device.name} ({node}{voltage}{device.year}; scope: {device.scope})"
    columns = ("", "times", "figure", "basis", "trust", "source")
    units = {c.name: c for c in device.costs}
    corners = (
        ", ".join(f"{k} {v / UNITS['cost'][units[k].unit]:g} {units[k].unit}" for k, v in c.items())
        for c in device.corners
    )
    lines = [
        *([f"flags: {', '.join(flags(device))}"] if flags(device) else []),
        *([f"costs that belong together: {'; or '.join(corners)}"] if device.corners else []),
        *(
            [f"model: measured / estimated in [{m.low:g}, {m.high:g}]. {m.note}"]
            if (m := device.model)
            else []
        ),
        *([device.note] if device.note else []),
        f"basis: one of {', '.join(BASES)}; trust: see `spikeship devices`",
    ]
    return [_left(table(title, columns, rows), 1, 2, 5), *lines]


def flags(device: Device) -> list[str]:
    """What a reader must know before comparing this device with another."""
    return [
        text
        for text, applies in (
            (f"for networks on {device.chip}", device.chip is not None),
            ("arithmetic only", device.arithmetic_only),
            ("lower bound", device.lower_bound),
            ("prices nothing as it stands", not device.coefficients),
        )
        if applies
    ]


def figure(c: Coefficient) -> str:
    """23.6 [23.6, 35.5] pJ/op; a point where both ends are equal."""
    value, low, high = (end / UNITS[c.group][c.unit] for end in c.interval.ends)
    ends = "" if low == high else f" [{low:.4g}, {high:.4g}]"
    return f"{value:.4g}{ends} {c.unit}"


def _reference(source: str, note: str) -> str:
    return f"{source} ({note})" if note else source


def _left(out: Table, *columns: int) -> Table:
    out.columns[0].no_wrap = True
    for i in columns:
        out.columns[i].justify = "left"
    return out
