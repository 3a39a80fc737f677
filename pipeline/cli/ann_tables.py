"""The ANN beside the spiking network, as tables."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING

from rich.table import Table

from ...hw_targets.energy.interval import Interval
from ..text import interval, percent, si_prefix

if TYPE_CHECKING:
    from ..energy.fair import Fair
    from ..energy.measure.baseline import Baseline
    from ..energy.measure.window import Mean
from ...hw_targets.printed import table


def fair_table(fair: Fair) -> list[Table | str]:
    """Energies per inference, their ratios and break-evens, and what is not in them."""
    title = (
        f"{fair.snn.scope} at 45 nm, estimated, per inference; {fair.weight_bits}-bit weights, "
        f"T = {fair.steps}"
    )
    actual = f"{fair.spikes_per_synapse:.3g} (actual)"
    rows = [("spiking network", interval(fair.snn), "", actual, f"{fair.rate:.3g}")]
    rows += [
        (
            f"ANN, {opponent.name}",
            interval(opponent.energy),
            _span(opponent.ratio),
            _span(opponent.break_even),
            _span(opponent.break_even, fair.steps),
        )
        for opponent in fair.opponents
    ]
    columns = ("", "energy", "spiking / ANN", "break-even, spikes per synapse", "per step")
    left = f"not modelled: {'; '.join(fair.not_modelled)}."
    return [table(title, columns, rows), left]


def fair_details(fair: Fair) -> list[Table | str]:
    """Every dataflow, and every assumption."""
    cases = [
        (flow.name, *(f"{case.ratio:.3g}, {_break_even(case.break_even)}" for case in by_flow))
        for flow, *by_flow in zip(
            fair.dataflows, *(opponent.cases for opponent in fair.opponents), strict=True
        )
    ]
    names = (opponent.name for opponent in fair.opponents)
    flows = table("spiking / ANN, break-even: by dataflow", ("dataflow", *names), cases)
    says = [f"{flow.name}: {flow.says}." for flow in fair.dataflows]
    dense = f"A dense pass of the spiking network is {fair.synapses_per_mac:.3g} of the ANN's."
    return [flows, *says, *fair.assumptions, dense]


def _span(quantity: Interval | None, divisor: float = 1.0) -> str:
    if quantity is None:
        return "unknown: no spikes"
    value, low, high = (end / divisor for end in quantity.ends)
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _break_even(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if value else "never"


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
