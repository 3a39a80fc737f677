"""Where a network goes on a chip, and which core works most, as tables."""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np

from ..counts.counts import Counts
from ..network.layers import Shape
from ..network.neurons import NetworkError
from ..printed import View, table

if TYPE_CHECKING:
    from rich.table import Table

    from .mapper import LayerMapping, Load, Mapping

CHIPS_SHOWN = (1, 8, 32)


def mapping_tables(mapping: Mapping) -> list[View]:
    """Cores of each layer and what fills them, violations, numbers of chips, what is not modelled."""
    limits = [load.limit for load in mapping.layers[0].loads]
    columns = ["layer", "shape", "cores", "share of a core", "filled by"]
    title = f"{mapping.cores} cores of {mapping.chip.name}; the fullest core of each layer"
    rows = [_row(layer) for layer in mapping.layers]
    out: list[View] = [table(title, [*columns, *(limit.name for limit in limits)], rows)]
    out += [f"violation, {violation}" for violation in mapping.violations]
    out.append(f"fits on {'; '.join(_room(mapping, chips) for chips in CHIPS_SHOWN)}.")
    if mapping.violations:
        out.append("That is the number of cores alone: see the violations.")
    known = [
        (limit.name, f"{limit.value:,}", limit.unit, limit.source, "" if limit.sure else "unsure")
        for limit in (mapping.chip.cores, *limits)
    ]
    sources = table("limits", ("limit", "value", "unit", "source", ""), known)
    for column in sources.columns[2:]:
        column.justify = "left"
    return [*out, sources, f"not modelled: {'; '.join(mapping.not_modelled)}."]


def _row(layer: LayerMapping) -> list[object]:
    sides = (_sides(layer.shape), layer.cores, _sides(layer.box))
    return [layer.name, *sides, layer.fills.limit.name, *map(_amount, layer.loads)]


def _sides(shape: Shape) -> str:
    return "x".join(map(str, shape))


def _amount(load: Load) -> str:
    return f"{load.most:,.0f} ({100 * load.fraction:.0f} %)"


def _room(mapping: Mapping, chips: int) -> str:
    """One sentence: whether this many chips have the cores."""
    missing, room = mapping.missing_cores(chips), chips * mapping.chip.cores.value
    name = "1 chip" if chips == 1 else f"{chips} chips"
    if missing:
        return f"{name}: no, {missing:,} cores more than the {room:,} there are"
    return f"{name}: yes, {mapping.cores:,} of {room:,} cores"


def load_table(mapping: Mapping, counts: Counts, most: int = 10) -> Table:
    """The `most` busiest cores per step, by their largest share of synops, messages or neurons.

    A step lasts as long as its slowest core. A core's share is of the most that any core has. Raises
    NetworkError for counts of another placement.
    """
    cores = mapping.placement.cores
    if [core.population for core in cores] != [core.population for core in counts.cores] or (
        counts.chip != mapping.chip.id
    ):
        raise NetworkError(
            f"the counts are not those of this mapping: {len(counts.cores)} cores on "
            f"{counts.chip or 'no chip'}, {mapping.cores} on {mapping.chip.id}. Count with "
            f"Counter(network, mapping.placement)."
        )
    load = np.array([[c.synops_max, c.messages_in_max, c.neurons] for c in counts.cores], float)
    share = (load / np.maximum(load.max(axis=0), 1)).max(axis=1)
    busiest = np.lexsort((np.arange(len(share)), -load[:, 0], -share))[:most]
    times = counts.samples * counts.steps
    chip, x, y = mapping.chip.mesh.place(np.arange(len(cores)))
    rows = []
    for k in busiest:
        c = counts.cores[k]
        rows.append(
            (
                k,
                mapping.layers[c.population].name,
                f"{chip[k]}: {x[k]}, {y[k]}",
                f"{c.neurons:,}",
                f"{c.synops / times:,.1f}",
                f"{c.synops_max:,}",
                f"{c.messages_in / times:,.1f}",
                f"{c.messages_in_max:,}",
                f"{c.axon_out / times:,.1f}",
                f"{(c.hops_ew + c.hops_ns) / times:,.1f}",
            )
        )
    columns = (
        "core",
        "layer",
        "chip: tile",
        "neurons",
        "synops",
        "most",
        "messages in",
        "most",
        "messages out",
        "hops",
    )
    title = f"the busiest of {len(cores)} cores, per step: a step lasts as long as its slowest core"
    return table(title, columns, rows)
