"""`spikeship profile`."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ...hw_targets.chips.views import load_table
from ...hw_targets.counts.counts import Counts
from ...hw_targets.energy.interval import Interval
from ...hw_targets.printed import table
from ..text import answers_text, interval, percent, span
from .ann_tables import baseline_notes, baseline_table, fair_details, fair_table
from .options import DataOptions, Devices, NetArgument
from .screen import Output, bars, misused, say
from .tables import overflow_lines

if TYPE_CHECKING:
    from ..energy.profile import AnnTwin, Profile


def profile(
    net: NetArgument,
    data: DataOptions,
    ann: Annotated[
        str | None,
        typer.Option(
            help="The ANN twin, to show both sides: a checkpoint of `spikeship train --ann`, or "
            "module:function or path/to/file.py:function that returns your own, and is run."
        ),
    ] = None,
    ann_checkpoint: Annotated[
        Path | None,
        typer.Option(help="Torch state dict to load into what --ann module:function returns."),
    ] = None,
    device: Devices = None,
    measure: Annotated[
        bool,
        typer.Option(
            "--measure", help="Measure the ANN on this machine: time, and energy if it can."
        ),
    ] = False,
    window: Annotated[
        float, typer.Option(help="Length of one measurement in seconds; five are taken.", min=0.1)
    ] = 5.0,
    step_time: Annotated[
        float | None,
        typer.Option(help="Length of a time step in microseconds, in place of the device's model."),
    ] = None,
    allow_mixed_scope: Annotated[
        bool,
        typer.Option(
            "--allow-mixed-scope", help="Print ratios of energies of different scopes, too."
        ),
    ] = False,
    details: Annotated[
        bool,
        typer.Option(
            "--details",
            help="Print every dataflow and assumption of the comparison with the ANN, too.",
        ),
    ] = False,
    samples: Annotated[
        int | None,
        typer.Option(help="How many test samples are run, from the first on. Default: all.", min=1),
    ] = None,
) -> Output:
    """Price an inference: counts, energy on chips, time, and the ANN beside it, all sourced."""
    from ..deploy.deployed import Deployed
    from ..energy.checklist import checklist
    from ..energy.measure import baselines
    from ..energy.profile import CALIBRATION
    from ..energy.profile import profile as run
    from ..frontends.load import load_ann

    if step_time is not None and step_time <= 0:
        misused(f"--step-time {step_time}: microseconds above 0 are needed.")
    task = data.of(Deployed.load(net))
    deployed, dataset = task.deployed, task.data
    if measure and ann is None:
        misused("--measure measures the ANN: give it with --ann.")
    if ann_checkpoint is not None and ann is None:
        misused("--ann-checkpoint goes with --ann module:function.")
    twin = None if ann is None else load_ann(ann, dataset.train.images, ann_checkpoint)
    result = run(
        deployed,
        dataset,
        device,
        samples=samples,
        ann=twin,
        measure=partial(
            baselines,
            window_s=window,
            calibration=dataset.train.images[:CALIBRATION],
            progress=say,
        )
        if measure
        else None,
        step_seconds=None if step_time is None else step_time * 1e-6,
        allow_mixed_scope=allow_mixed_scope,
        progress=bars(),
    )
    points = checklist(result)
    return Output(
        {"file": net, "profile": result, "checklist": points},
        *profile_views(result, details=details),
    )


View = Table | str


def profile_views(result: Profile, *, details: bool = False) -> list[View]:
    """For people; `details`: the dataflows and assumptions of the comparison with the ANN too."""
    twin = result.ann
    names = [layer.name for layer in result.first_counts.layers]
    from ..energy.checklist import checklist

    out: list[View] = [_accuracies(result), counts_table(result.first_counts)]
    out += [load_table(m, result.counts[chip]) for chip, m in result.mappings.items()]
    out += [
        f"violation on {chip}, {violation}"
        for chip, mapping in result.mappings.items()
        for violation in mapping.violations
    ]
    out.append(energy_table(result))
    if twin is not None:
        if twin.baselines:
            out += [baseline_table(twin.baselines), *baseline_notes(twin.baselines)]
        out += fair_table(twin.fair)
        out += fair_details(twin.fair) if details else ()
        out += _comparisons(result)
    out += missing(result)
    out += [f"{point.number:2} {point.title}: {point.text}" for point in checklist(result)]
    return [*out, *overflow_lines(names, result.overflow)]


def _accuracies(result: Profile) -> Table:
    rows = [("spiking network, integers", answers_text(result.accuracy, result.error))]
    if result.float_accuracy is not None or result.float_error is not None:
        rows.append(
            ("spiking network, float", answers_text(result.float_accuracy, result.float_error))
        )
    if (twin := result.ann) is not None:
        weights = f"ANN, {twin.weight_bits}-bit weights"
        rows += [
            ("ANN, float32", twin.answers[0]),
            (f"{weights}, 8-bit activations", twin.answers[1]),
            (f"{weights}, {twin.few_bits}-bit activations", twin.answers[2]),
        ]
    what = "accuracy" if result.error is None else "rms error"
    return table(f"test data of {result.data}", ("", what), rows)


def counts_table(counts: Counts) -> Table:
    """Events of each layer per inference."""
    n = counts.samples
    rows: list[tuple[object, ...]] = [
        (
            layer.name,
            f"{layer.neurons:,}",
            f"{layer.spikes_in / n:,.1f}",
            f"{layer.spikes_out / n:,.1f}",
            f"{layer.synops / n:,.0f}",
            f"{layer.synops_fanout / n:,.0f}",
            f"{layer.synops_max:,}",
            f"{layer.neuron_updates / n:,.0f}",
            _active(layer.neuron_updates_active, layer.neuron_updates),
            f"{layer.dense_ops / n / counts.steps:,.0f}",
        )
        for layer in counts.layers
    ]
    known = all(layer.neuron_updates_active is not None for layer in counts.layers)
    active = counts.total("neuron_updates_active") if known else None
    rows.append(
        (
            "total",
            f"{sum(layer.neurons for layer in counts.layers):,}",
            "",
            f"{counts.total('spikes_out') / n:,.1f}",
            f"{counts.total('synops') / n:,.0f}",
            f"{counts.total('synops_fanout') / n:,.0f}",
            "",
            f"{counts.total('neuron_updates') / n:,.0f}",
            _active(active, counts.total("neuron_updates")),
            f"{counts.total('dense_ops') / n / counts.steps:,.0f}",
        )
    )
    columns = (
        "layer",
        "neurons",
        "messages in",
        "spikes out",
        "synops",
        "with zeros",
        "most in a step",
        "neuron updates",
        "active",
        "dense MACs a step",
    )
    return table(f"per inference of {counts.steps} steps, {n:,} samples", columns, rows)


def _active(active: int | None, updates: int) -> str:
    return "" if active is None else percent(active / max(updates, 1))


def energy_table(result: Profile) -> Table:
    """Energies of the spiking network by device and part, then those of the ANN."""
    rows: list[tuple[str, ...]] = []
    for device, price in zip(result.devices, result.prices, strict=True):
        of_cores = price.static_scope == "used_cores"
        static = price.static_used_cores if of_cores else price.static_whole_chip
        rows.append(
            (
                "SNN",
                device.id,
                interval(price.dynamic),
                _known(static, "J"),
                _known(price.overhead, "J"),
                "unknown" if price.total is None else interval(price.total),
                _known(price.latency, "s"),
                _known(price.edp, "Js"),
                (price.total or price.dynamic).scope,
            )
        )
    twin = result.ann
    for energy in twin.energies if twin is not None else ():
        bound = "at least " if energy.lower_bound else ""
        rows.append(("ANN", energy.device, bound + interval(energy), *[""] * 5, energy.scope))
    columns = ("", "device", "dynamic", "static", "processors", "total", "latency", "EDP", "scope")
    energies = table("estimated energy per inference", columns, rows)
    for i in (1, 8):
        energies.columns[i].justify = "left"
    energies.columns[1].no_wrap = True
    return energies


def _known(value: Interval | None, unit: str) -> str:
    return "unknown" if value is None else span(value, unit)


def _comparisons(result: Profile) -> list[View]:
    """Ratios within one scope (or asked for across scopes), and why there are no others."""
    from ..energy.profile import NONE

    rows = [
        (
            c.snn,
            c.ann,
            span(c.value, ""),
            " / ".join((c.snn_scope, c.ann_scope)) if c.mixed else c.ann_scope,
        )
        for c in result.comparisons
        if c.value is not None
    ]
    out: list[View] = []
    if rows:
        columns = ("spiking network on", "ANN on", "energy, spiking / ANN", "scope")
        out.append(table("estimated ratios", columns, rows))
    refused = [c for c in result.comparisons if c.value is None]
    if any(c.ann_scope == NONE for c in refused):
        names = dict.fromkeys(c.ann for c in refused if c.ann_scope == NONE)
        out.append(f"no ratio with {'; '.join(names)}: its energy is not known, which is not 0.")
    for scopes in dict.fromkeys((c.snn_scope, c.ann_scope) for c in refused):
        if scopes[1] != NONE and scopes[0] != scopes[1]:
            out.append(
                f"no ratio of {scopes[0]} and {scopes[1]}: parts are not compared with wholes "
                f"(--allow-mixed-scope does)."
            )
    return out


def missing(result: Profile) -> list[str]:
    """What the estimates leave out, with reasons, and how far such estimates were off."""
    lines: Iterator[str] = (
        f"not in {price.device}: "
        + "; ".join(f"{u.name.replace('_', ' ')}: {u.reason}" for u in price.unpriced)
        for price in result.prices
        if price.unpriced
    )
    notes = dict.fromkeys(note for price in result.prices for note in price.dynamic.notes)
    models = [
        f"{price.device}: dynamic energy times the model's own factor {span(price.modelled, 'J')}. "
        f"{price.model_note}"
        for price in result.prices
        if price.modelled is not None
    ]
    return [*lines, *_ann_missing(result.ann), *models, *(f"{note}." for note in notes)]


def _ann_missing(twin: AnnTwin | None) -> Iterator[str]:
    said: dict[str, list[str]] = {}
    for energy in twin.energies if twin is not None else ():
        for u in energy.unpriced:
            said.setdefault(f"{u.name.replace('_', ' ')}: {u.reason}", []).append(energy.device)
    for what, lacking in said.items():
        yield f"not in {', '.join(lacking)}: {what}"
