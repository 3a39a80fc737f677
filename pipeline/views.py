"""Tables for people: results as rich renderables."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from ..hw_targets.energy import Energy, Interval
from ..hw_targets.network import Conv, Dense, Flatten, Network, Neuron
from ..hw_targets.trace import Overflow, Trace

if TYPE_CHECKING:  # both need torch, which showing a file or a trace does not
    from .quantize import LayerLoss
    from .supported import Field, Part
    from .verify import Agreement, Verification

_PREFIXES = ((1.0, ""), (1e-3, "m"), (1e-6, "u"), (1e-9, "n"), (1e-12, "p"))


def table(title: str, columns: Sequence[str], rows: Iterable[Sequence[object]]) -> Table:
    """First column left, the others right."""
    out = Table(title=title, title_justify="left", title_style="bold")
    for i, column in enumerate(columns):
        out.add_column(column, justify="left" if i == 0 else "right")
    for row in rows:
        out.add_row(*(str(cell) for cell in row))
    return out


def interval(energy: Energy) -> str:
    """1.23 uJ [1.1, 1.5]; a point where both ends are equal."""
    return span(energy.interval, "J")


def si_prefix(value: float) -> tuple[float, str]:
    """(factor, prefix), from none down to pico, with which a value is 1 or more."""
    return next(((f, p) for f, p in _PREFIXES if abs(value) >= f), _PREFIXES[-1])


def span(found: Interval, unit: str) -> str:
    """The same of any interval; without a unit there is no prefix either."""
    value, low, high = found.ends
    factor, prefix = si_prefix(value) if unit else (1.0, "")
    text = f"{value / factor:.3g} {prefix}{unit}".rstrip()
    return text if low == high else f"{text} [{low / factor:.3g}, {high / factor:.3g}]"


def percent(fraction: float) -> str:
    return f"{100 * fraction:.2f} %"


def _span(values: object) -> str:
    array = np.asarray(values)
    low, high = array.min(), array.max()
    return str(low) if low == high else f"{low} .. {high}"


def network_table(network: Network) -> Table:
    """Layers with shapes and the ranges of their integers."""
    rows = []
    for i, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=True)):
        weights = bias = neurons = ""
        if isinstance(layer, Dense | Conv):
            weights = _span(layer.weight)
            bias = "" if layer.bias is None else _span(layer.bias)
            neurons = "integrator that never spikes"
        if isinstance(layer, Dense):
            extra = {"imaginary": layer.imaginary, "recurrent": layer.recurrent}
            extra["delay"] = None if layer.delay is None else np.asarray(layer.delay)
            weights += "".join(f"; {n} {_span(v)}" for n, v in extra.items() if v is not None)
        if not isinstance(layer, Flatten) and layer.neuron is not None:
            neurons = _neuron(layer.neuron)
        kind = f"{i}: {type(layer).__name__}"
        rows.append([kind, "x".join(map(str, shape)), weights, bias, neurons])
    columns = ("layer", "shape", "weights", "bias", "neurons")
    return table(f"digest {network.digest[:12]}", columns, rows)


def _neuron(neuron: Neuron) -> str:
    """The kind, as netx calls it, and the integers of its neurons."""
    values = {f.name: getattr(neuron, f.name) for f in fields(neuron)}
    name = values.pop("kind", type(neuron).__name__)
    return ", ".join([name, *(f"{key} {_span(value)}" for key, value in values.items())])


def loss_tables(losses: Sequence[LayerLoss]) -> list[Table | str]:
    """The loss of quantization, per layer; then what was approximated."""
    rows = []
    for loss in losses:
        used = (loss.weight_used, loss.bias_used, loss.threshold_used, loss.u_used, loss.v_used)
        if loss.agreement is None or loss.matched is None:
            like = f"voltage off by {percent(loss.voltage_error or 0.0)}"
        else:
            like = f"{percent(loss.agreement)}, matched {percent(loss.matched)}"
        rows.append(
            (
                loss.name,
                loss.bits,
                f"{loss.unit:.4g}",
                f"{loss.weight_range[0]} .. {loss.weight_range[1]}",
                percent(loss.weight_error),
                percent(loss.saturated),
                loss.threshold,
                f"{loss.i_decay} / {loss.v_decay}",
                " / ".join(f"{100 * part:.0f}" for part in used),
                like,
            )
        )
    columns = (
        "layer",
        "bits",
        "per 1.0",
        "weights",
        "rms error",
        "cut",
        "threshold",
        "decays i / v",
        "% used of w / b / thr / u / v",
        "spikes as float",
    )
    notes = [f"approximated: {v}" for loss in losses for v in loss.violations]
    return [table("quantization, on the calibration data", columns, rows), *notes]


def agreement_table(title: str, agreements: Sequence[Agreement]) -> Table:
    """Agreement per layer, with the first divergence."""
    rows = []
    for a in agreements:
        matched = "" if a.matched is None else percent(a.matched)
        rows.append((a.layer, a.quantity, percent(a.equal), matched, divergence(a)))
    columns = ("layer", "quantity", "equal", "spikes matched", "first divergence")
    return table(title, columns, rows)


def divergence(a: Agreement) -> str:
    """Where two runs part first, and what both sides have there."""
    if a.first is None:
        return "none"
    f = a.first
    text = f"sample {f.sample}, step {f.step}, neuron {f.neuron}: {f.first} / {f.second}"
    if f.first_membrane is None or f.second_membrane is None:
        return text
    one, other = (
        f"v {m.voltage:.6g} of {m.threshold:.6g}" for m in (f.first_membrane, f.second_membrane)
    )
    return f"{text} ({one} / {other})"


def verification_tables(result: Verification) -> list[Table | str]:
    """Everything `verify` found: the spikes of neighbouring sides, answers, exact checks, verdicts."""
    columns = {
        "module / float": result.to_module,
        "float / quantized": result.to_quantized,
        "quantized / integers": result.from_quantized,
        "float / integers": result.to_float,
    }
    shown = {name: {a.layer: a for a in found} for name, found in columns.items() if found}
    rows = []
    for layer in result.layers:
        cells = [
            percent(found[layer.layer].equal) if layer.layer in found else "readout"
            for found in shown.values()
        ]
        to_float = shown.get("float / integers", {}).get(layer.layer)
        matched = "" if to_float is None or to_float.matched is None else percent(to_float.matched)
        rows.append((layer.layer, layer.source or "", *cells, matched))
    out: list[Table | str] = []
    if shown:
        title = f"equal spikes, {result.samples} samples"
        out.append(table(title, ("layer", "float node", *shown, "spikes matched"), rows))
    if result.quantized_skipped is not None:
        out.append(f"no rounded numbers with real states: {result.quantized_skipped}")
    if result.same_answers is not None:
        out.append(f"same answer as the float network: {percent(result.same_answers)}")
    if result.same_module_answers is not None:
        out.append(f"same answer as the module itself: {percent(result.same_module_answers)}")
    if result.accuracy:
        parts = [
            f"{a.side} {percent(a.accuracy)} ({100 * a.delta:+.2f}; {a.samples} samples)"
            for a in result.accuracy
        ]
        out.append(f"accuracy: {', '.join(parts)}")
    for name, agreements, samples in (
        ("reference simulator", result.to_reference, result.reference_samples),
        ("Lava CPU backend", result.to_lava, result.lava_samples),
    ):
        if agreements is None:
            out.append(f"Lava: {result.lava_skipped}")
        elif all(a.exact for a in agreements):
            out.append(f"simulator / {name}, {samples} samples: every spike and state equal")
        else:
            out.append(agreement_table(f"simulator / {name}, {samples} samples", agreements))
    out.append(f"file read again: {'same digest' if result.reread else 'DIFFERENT'}")
    return [*out, *verdicts(result)]


def verdicts(result: Verification) -> list[str]:
    """One line per layer that differs: by how much, where first, the likely cause, what to do."""
    found = {a.layer: a for a in result.to_float or result.from_quantized or ()}
    lines = []
    for d in result.diagnoses:
        a = found[d.layer]
        why = f" ({d.detail})" if d.detail else ""
        lines.append(
            f"{d.layer}: {percent(1 - a.equal)} of spikes differ, first at {divergence(a)}. "
            f"Likely cause: {d.cause}{why}, which explains {100 * d.explained:.0f} % of "
            f"{d.mismatches if d.cause == 'inherited' else d.own} mismatches looked at. To do: "
            f"{d.advice}."
        )
    return lines


def supported_tables(parts: Sequence[Part]) -> list[Table | str]:
    """Per part one line of names, and a table of those with fields or remarks."""
    out: list[Table | str] = []
    for part in parts:
        if part.missing is not None:
            out.append(f"{part.name}: {part.missing}")
            continue
        plain = [kind.name for kind in part.kinds if not (kind.fields or kind.remark)]
        if plain:
            out.append(f"{part.name}: {', '.join(plain)}")
        rows = [
            (kind.name, "; ".join([*map(_field, kind.fields), *filter(None, [kind.remark])]))
            for kind in part.kinds
            if kind.name not in plain
        ]
        if rows:
            ranges = table(part.name, ("", ""), rows)
            ranges.columns[1].justify = "left"
            out.append(ranges)
    return out


def _field(field: Field) -> str:
    if field.choices:
        values = " | ".join(field.choices)
    else:
        values = str(field.low) if field.low == field.high else f"{field.low} .. {field.high}"
    return f"{field.name} {values}{' or none' if field.optional else ''}"


def overflow_lines(names: Sequence[str], overflow: Sequence[Overflow] | None) -> list[str]:
    """One line per layer that left its number range; none where none did."""
    return [
        f"overflow in {name}: {o.u_wraps} currents wrapped, {o.v_clips} voltages clipped, "
        f"{o.sum_wraps} sums wrapped"
        for name, o in zip(names, overflow or (), strict=False)
        if o
    ]


def spike_totals(trace: Trace) -> list[int | None] | None:
    """Spikes (or non-zero messages) of each layer; None where they were not recorded."""
    if trace.spikes is None:
        return None
    return [
        int(np.count_nonzero(trace.spikes[i])) if i in trace.spikes.populations else None
        for i in range(len(trace.spikes))
    ]


def trace_table(network: Network, trace: Trace) -> Table:
    """Spikes per layer of one run."""
    totals = spike_totals(trace) or [None] * len(network.populations)
    rows = []
    for p, total in zip(network.populations, totals, strict=True):
        spikes, rate = "not recorded", ""
        if total is not None and trace.spikes is not None:
            spikes, rate = f"{total:,}", percent(total / max(trace.spikes[p.index].size, 1))
        rows.append((p.name, "x".join(map(str, p.shape)), spikes, rate))
    return table(f"run on {trace.backend}", ("layer", "shape", "spikes", "rate"), rows)
