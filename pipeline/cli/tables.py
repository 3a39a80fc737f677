"""Networks, losses and overflow as tables."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

import numpy as np
from rich.table import Table

from ...hw_targets.network.layers import Conv, Dense, Flatten, Input
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import Neuron
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.printed import table
from ...hw_targets.simulate.trace import Overflow
from ..text import percent

if TYPE_CHECKING:
    from ...models.data.grid import Grid
    from ..quantize import LayerLoss


def _span(values: object) -> str:
    array = np.asarray(values)
    low, high = array.min(), array.max()
    return str(low) if low == high else f"{low} .. {high}"


def network_table(network: Network) -> Table:
    """Layers with shapes and the ranges of their integers."""
    rows: list[Sequence[object]] = []
    if not isinstance(network.layers[0], Input):
        rows.append(("input", "x".join(map(str, network.input_shape)), "", "", ""))
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


def recipe_lines(recipe: Recipe | None) -> list[str]:
    """How a network is run, and where it comes from; nothing where it has no recipe."""
    if recipe is None:
        return []
    attributes = recipe.attributes()
    provenance = attributes.pop("provenance")
    said = {name: value for name, value in attributes.items() if value is not None}
    return [
        "recipe: " + ", ".join(f"{k} = {v}" for k, v in said.items()),
        "provenance: " + ", ".join(f"{k} = {v}" for k, v in provenance.items()),
        f"recipe digest {recipe.digest}",
    ]


def loss_tables(losses: Sequence[LayerLoss]) -> list[Table | str]:
    """The loss of quantization, per layer; then what was approximated; nothing of no losses."""
    if not losses:
        return []
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


def grid_lines(grid: Grid | None) -> list[str]:
    """How one's own data were rounded to integers; nothing where they were not."""
    return [] if grid is None else [f"input: {grid.text}"]


def overflow_lines(names: Sequence[str], overflow: Sequence[Overflow] | None) -> list[str]:
    """One line per layer that left its number range; none where none did."""
    return [
        f"overflow in {name}: {o.u_wraps} currents wrapped, {o.v_clips} voltages clipped, "
        f"{o.sum_wraps} sums wrapped"
        for name, o in zip(names, overflow or (), strict=False)
        if o
    ]
