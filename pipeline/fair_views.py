"""Tables of `fair`: a spiking network and ANNs in one model of arithmetic and SRAM."""

from __future__ import annotations

from rich.table import Table

from ..hw_targets.energy import Interval
from .fair import Fair
from .views import interval, table


def fair_table(found: Fair) -> list[Table | str]:
    """Energies per inference, their ratios and break-evens, and what is not in them."""
    title = (
        f"{found.snn.scope} at 45 nm, estimated, per inference; {found.weight_bits}-bit weights, "
        f"T = {found.steps}"
    )
    actual = f"{found.spikes_per_synapse:.3g} (actual)"
    rows = [("spiking network", interval(found.snn), "", actual, f"{found.rate:.3g}")]
    rows += [
        (
            f"ANN, {opponent.name}",
            interval(opponent.energy),
            _span(opponent.ratio),
            _span(opponent.break_even),
            _span(opponent.break_even, found.steps),
        )
        for opponent in found.opponents
    ]
    columns = ("", "energy", "spiking / ANN", "break-even, spikes per synapse", "per step")
    left = f"not modelled: {'; '.join(found.not_modelled)}."
    return [table(title, columns, rows), left]


def fair_details(found: Fair) -> list[Table | str]:
    """Every dataflow, and every assumption."""
    cases = [
        (flow.name, *(f"{case.ratio:.3g}, {_break_even(case.break_even)}" for case in by_flow))
        for flow, *by_flow in zip(
            found.dataflows, *(opponent.cases for opponent in found.opponents), strict=True
        )
    ]
    names = (opponent.name for opponent in found.opponents)
    flows = table("spiking / ANN, break-even: by dataflow", ("dataflow", *names), cases)
    says = [f"{flow.name}: {flow.says}." for flow in found.dataflows]
    dense = f"A dense pass of the spiking network is {found.synapses_per_mac:.3g} of the ANN's."
    return [flows, *says, *found.assumptions, dense]


def _span(found: Interval | None, divisor: float = 1.0) -> str:
    if found is None:
        return "unknown: no spikes"
    value, low, high = (end / divisor for end in found.ends)
    return f"{value:.3g} [{low:.3g}, {high:.3g}]"


def _break_even(value: float | None) -> str:
    if value is None:
        return "unknown"
    return f"{value:.3g}" if value else "never"
