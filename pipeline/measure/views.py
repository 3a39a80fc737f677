"""The table of measured baselines."""

from __future__ import annotations

from collections.abc import Sequence

from rich.table import Table

from ..views import percent, si_prefix, table
from .baseline import Baseline
from .window import Mean

_COPIES = {None: "", False: ", images on the GPU", True: ", with copies"}


def baseline_table(rows: Sequence[Baseline]) -> Table:
    """Per inference: time, energy of the named scope, its idle and dynamic parts, accuracy."""
    return table(
        "ANN, measured here, per inference (energy: total, idle included)",
        ("ANN", "batch", "scope", "time", "energy", "idle", "dynamic", "MAC/s", "accuracy"),
        [
            (
                f"{row.precision}, {row.name or row.processor}{_COPIES[row.copies]}",
                "" if row.batch is None else f"{row.batch:,}{' (best)' if row.best else ''}",
                row.energy.scope,
                _mean(row.seconds, "s"),
                _si(row.energy.joules, "J", row.energy_error) or row.energy.status,
                _si(row.idle_joules, "J"),
                _mean(row.dynamic, "J"),
                _rate(row),
                "" if row.accuracy is None else percent(row.accuracy),
            )
            for row in rows
        ],
    )


def baseline_notes(rows: Sequence[Baseline]) -> list[str]:
    """Why energies or rows are missing, and what to doubt; each said once, with the rows it is of."""
    notes: dict[str, list[str]] = {}

    def say(row: str, note: str) -> None:
        if row not in notes.setdefault(note, []):
            notes[note].append(row)

    for row in rows:
        name = f"{row.precision} on {row.processor}"
        if row.energy.joules is None:
            say(name, f"energy unavailable: {row.energy.reason}")
        if row.no_peak:
            say(name, f"utilisation unknown: {row.no_peak}.")
        for note in row.measurement.notes if row.measurement is not None else ():
            say(f"{name}, batch {row.batch}{_COPIES[row.copies]}", note)
    return [f"{'; '.join(names)}: {note}" for note, names in notes.items()]


def _rate(row: Baseline) -> str:
    if row.macs_per_second is None:
        return ""
    part = "" if row.utilisation is None else f" ({percent(row.utilisation)} of peak)"
    return f"{row.macs_per_second:.3g}{part}"


def _mean(mean: Mean | None, unit: str) -> str:
    return "" if mean is None else _si(mean.value, unit, mean.error)


def _si(value: float | None, unit: str, error: float | None = None) -> str:
    """20.1 us ± 0.3; empty where there is no value."""
    if value is None:
        return ""
    factor, prefix = si_prefix(value)
    text = f"{value / factor:.3g} {prefix}{unit}"
    return text if error is None else f"{text} ± {error / factor:.2g}"
