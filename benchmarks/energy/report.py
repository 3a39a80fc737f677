"""Means over seeds of the energy benchmark, and their tables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from statistics import mean
from typing import Any

from rich.table import Table

from ...hw_targets.energy.interval import Interval
from ...hw_targets.printed import table
from ...pipeline.text import percent, span

Ends = Sequence[float]
"""value, low and high, in joules or of a ratio"""
BITS8 = "ann, 8 bits"
LEVELS = "ann, levels"
"""The ANN whose activations have as many levels as a neuron of the spiking network has spike counts."""
SKIPS = ", zeros skipped"
"""An ANN that computes no product with an activation of zero, and finds these at no cost."""


def summary(
    rows: Sequence[dict[str, Any]], twins: Sequence[dict[str, Any]]
) -> list[dict[str, Any]]:
    """One row per network: means over its seeds, of values and of the ends of intervals alike.

    `energy`: by device, for the networks that its chip takes. `fair`: in the one model; `ratio`, of the
    spiking network over the ANN, and `break_even`, in spikes per synapse and inference, by ANN.
    """
    anns = {twin["seed"]: twin for twin in twins}
    groups: dict[str, list[dict[str, Any]]] = {}
    for row in rows:
        groups.setdefault(row["label"], []).append(row)
    return [_row(group, [anns[row["seed"]] for row in group]) for group in groups.values()]


def _row(rows: Sequence[dict[str, Any]], twins: Sequence[dict[str, Any]]) -> dict[str, Any]:
    first = rows[0]
    bits = min(o["activation_bits"] for o in first["fair"]["opponents"])
    by_bits = {BITS8: 8, LEVELS: bits}
    counts = [next(of["counts"] for of in row["chips"].values() if "counts" in of) for row in rows]
    prices = [
        {
            name: price
            for of in row["chips"].values()
            for name, price in of.get("prices", {}).items()
        }
        for row in rows
    ]

    def opponents(part: str) -> dict[str, Ends | None]:
        return {
            name + SKIPS * skips: _opponent(rows, b, skips, part)
            for name, b in by_bits.items()
            for skips in (False, True)
        }

    return {
        "label": first["label"],
        "coding": first["coding"],
        "steps": first["steps"],
        "seeds": len(rows),
        "accuracy": mean(row["accuracy"] for row in rows),
        "float_accuracy": mean(row["float_accuracy"] for row in rows),
        "ann_accuracy": {
            name: mean(twin["accuracy_by_activation_bits"][str(b)] for twin in twins)
            for name, b in by_bits.items()
        },
        "spikes_per_inference": mean(c["spikes_out"] / c["samples"] for c in counts),
        "synops_per_inference": mean(c["synops"] / c["samples"] for c in counts),
        "spikes_per_synapse": mean(row["fair"]["spikes_per_synapse"] for row in rows),
        "cores": {
            chip: sum(of["cores"].values()) for chip, of in first["chips"].items() if "cores" in of
        },
        "energy": {
            device: {
                part: _mean(of[device][part] for of in prices)
                for part in ("dynamic", "total", "latency", "edp")
            }
            for device in prices[0]
        },
        "fair": {"snn": _mean(row["fair"]["snn"] for row in rows)} | opponents("energy"),
        "ratio": opponents("ratio"),
        "break_even": opponents("break_even"),
    }


def _opponent(rows: Sequence[dict[str, Any]], bits: int, skips: bool, part: str) -> Ends | None:
    return _mean(
        next(
            of[part]
            for of in row["fair"]["opponents"]
            if of["activation_bits"] == bits and of["skips_zeros"] == skips
        )
        for row in rows
    )


def _mean(intervals: Iterable[Ends | None]) -> list[float] | None:
    """The means of values, lows and highs; None where any is missing."""
    known = list(intervals)
    if any(ends is None for ends in known):
        return None
    return [mean(ends[i] for ends in known if ends is not None) for i in range(3)]


def tables(result: dict[str, Any]) -> list[Table]:
    """Loihi, the fair comparison, and the ANN on processors, estimated."""
    rows, name = result["summary"], result["name"]
    devices = {
        (device, part): None
        for part in ("dynamic", "total")
        for row in rows
        for device, of in row["energy"].items()
        if of[part] is not None
    }
    chips = table(
        f"{name}: estimated energy per inference",
        ("network", "accuracy", "synops", "cores", *map(", ".join, devices)),
        [
            (
                row["label"],
                percent(row["accuracy"]),
                f"{row['synops_per_inference']:,.0f}",
                ", ".join(f"{chip} {cores}" for chip, cores in row["cores"].items()),
                *(joules(row["energy"].get(device, {}).get(part)) for device, part in devices),
            )
            for row in rows
        ],
    )
    same = table(
        f"{name}: spiking network and ANN in one model of arithmetic and SRAM (45 nm)",
        (
            "network",
            "spikes per synapse",
            "energy",
            "ANN, as many levels",
            "its accuracy",
            "energy over ANN",
            "over ANN that skips zeros",
            "break-even",
        ),
        [
            (
                row["label"],
                f"{row['spikes_per_synapse']:.3g}",
                joules(row["fair"]["snn"]),
                joules(row["fair"][LEVELS]),
                percent(row["ann_accuracy"][LEVELS]),
                numbers(row["ratio"][LEVELS]),
                numbers(row["ratio"][LEVELS + SKIPS]),
                numbers(row["break_even"][LEVELS]),
            )
            for row in rows
        ],
    )
    twin = result["twins"][0]
    processors = table(
        f"{name}: the ANN, {twin['macs']:,} multiply-adds, estimated",
        ("device", "energy", "scope"),
        [
            (
                device,
                "at least " * of["lower_bound"] + joules(of["energy"]),
                of["scope"],
            )
            for device, of in twin["prices"].items()
        ],
    )
    return [chips, same, processors, *([_measured(result)] if result["measured"] else [])]


def _measured(result: dict[str, Any]) -> Table:
    """The ANN on this machine; where its energy is missing, the reason is in the JSON."""
    rows = []
    for of in result["measured"]["baselines"]:
        where = {None: "", True: ", with copies", False: ", images on the GPU"}[of["copies"]]
        rows.append(
            (
                f"{of['precision']}, {of['processor']}{where}",
                "-" if of["batch"] is None else f"{of['batch']:,}" + " (best)" * of["best"],
                "-" if of["seconds"] is None else f"{1e6 * of['seconds']['value']:.3g} us",
                "-" if of["macs_per_second"] is None else f"{of['macs_per_second']:.3g}",
                of["energy"]["scope"],
                of["energy"]["status"]
                if of["energy"]["joules"] is None
                else joules([of["energy"]["joules"]] * 3),
            )
        )
    columns = ("ANN", "batch", "time", "MAC/s", "scope", "energy")
    return table(
        f"{result['name']}: the ANN on this machine, measured, per inference", columns, rows
    )


def joules(ends: Ends | None) -> str:
    """1.23 uJ [1.1, 1.5]; a dash where there is none."""
    return "-" if ends is None else span(Interval(*ends), "J")


def numbers(ends: Ends | None) -> str:
    """1.23 [1.1, 1.5]; a dash where there is none."""
    return "-" if ends is None else span(Interval(*ends), "")
