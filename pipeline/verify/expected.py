"""Is a network the one that was trained? Outputs that its framework recorded, beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal

import nir
import numpy as np
import torch

from ...hw_targets.arrays import Array
from ..deploy.deployed import Deployed
from ..deploy.run import output_scores, run_recipe
from ..float.execute import execute
from ..graph import NEURONS, READOUTS, chain, input_shape
from ..text import percent
from .sides import BLOCK

CLOSE = 1e-4
"""How far a readout's voltages may be off, as a part of the largest: frameworks sum in float32."""


@dataclass(frozen=True)
class Expected:
    """What the original framework recorded of the last layer, beside float graph and integers.

    `what`: spikes (sample, time, *shape), their counts (sample, *shape), or a readout's voltages
    (sample, time, *shape). `to_float`: fraction of entries that are the float graph's own, voltages up
    to `CLOSE`; None without a graph. `precision`: in which the graph ran; float64, or float32 where
    only this gives the recorded numbers. `first`: the first entry that differs from it, (sample, step,
    *neuron). `to_integers`: fraction of spikes or counts that are the integers'; None of voltages, whose
    units differ. `same_answers`: fraction of samples in which the same output of the integers is
    largest; None of a single output.
    """

    what: Literal["spikes", "counts", "voltages"]
    samples: int
    to_float: float | None
    precision: Literal["float64", "float32"] | None
    first: tuple[int, ...] | None
    to_integers: float | None
    same_answers: float | None

    @property
    def ok(self) -> bool:
        """Whether the float graph, or without one the integers, gives all that was recorded."""
        return (self.to_integers if self.to_float is None else self.to_float) == 1

    def lines(self) -> Iterator[str]:
        """What is to be said about it."""
        if self.to_float is not None:
            equal = "all" if self.ok else percent(self.to_float)
            where = "" if self.first is None else f", first {self._place(self.first)}"
            run = "" if self.precision == "float64" else f", in {self.precision}"
            yield (
                f"original framework / float, {self.samples} samples{run}: {equal} of the {self.what} "
                f"equal{where}"
            )
            if not self.ok:
                yield (
                    "the float network is not the one that was recorded: time step, reset, levels of the "
                    "input, or other inputs. Single spikes may differ by rounding: record in float64."
                )
        parts = []
        if self.to_integers is not None:
            parts.append(f"{percent(self.to_integers)} of the {self.what} equal")
        if self.same_answers is not None:
            parts.append(f"same answer {percent(self.same_answers)}")
        if parts:
            yield f"original framework / integers, {self.samples} samples: {', '.join(parts)}"

    def _place(self, first: tuple[int, ...]) -> str:
        sample, *rest = first
        if self.what == "counts":
            return f"sample {sample}, neuron {tuple(rest)}"
        return f"sample {sample}, step {rest[0]}, neuron {tuple(rest[1:])}"


def compare_expected(deployed: Deployed, messages: Array, recorded: Array) -> Expected:
    """Compare what a framework recorded of the last layer with what float graph and integers do.

    `messages`: encoded inputs (sample, steps, *input shape), the very ones that the framework got, times
    the recipe's levels. `recorded`: spikes or, of a readout, voltages (sample, steps, *shape of the last
    layer), or spike counts (sample, *shape); of these samples, or of more. Raises ValueError.
    """
    network, recipe, graph = deployed.network, deployed.recipe, deployed.graph
    shape = network.populations[-1].shape
    readout = recipe.decode != "spike count"
    steps, size = recipe.coding.steps, int(np.prod(shape))
    forms = {"voltages": [(steps, *shape), (steps, size)]} if readout else {
        "spikes": [(steps, *shape), (steps, size)], "counts": [shape, (size,)],
    }  # fmt: skip
    recorded = np.asarray(recorded)
    what = next((name for name, shapes in forms.items() if recorded.shape[1:] in shapes), None)
    if what is None or len(recorded) < len(messages):
        needed = " or ".join(
            f"{name} (sample, {', '.join(map(str, shapes[0]))})" for name, shapes in forms.items()
        )
        raise ValueError(
            f"expect has shape {recorded.shape}; {needed} of the last layer are needed, for "
            f"{len(messages)} samples."
        )
    if recorded.dtype.kind not in "fiub":
        raise ValueError(f"expect is of type {recorded.dtype}, not of numbers.")
    theirs = recorded[: len(messages)].reshape(len(messages), *forms[what][0])
    counts = what == "counts"
    to_float = first = precision = None
    if graph is not None:
        for dtype in (torch.float64, torch.float32):
            ours = _outputs(graph, messages / recipe.coding.levels, dtype)
            ours = ours.reshape(len(messages), steps, *shape)
            equal = _equal(ours.sum(1) if counts else ours, theirs, readout)
            if to_float is None or equal.mean() > to_float:
                to_float, precision = float(equal.mean()), str(dtype).split(".")[1]
                first = None if equal.all() else tuple(int(i) for i in np.argwhere(~equal)[0])
            if to_float == 1 or readout or _gridded(graph):
                break
    scores = (theirs if counts else _decoded(theirs, recipe.decode)).reshape(len(messages), -1)
    same = None
    if scores.shape[1] > 1:
        same = float(np.mean(output_scores(network, messages).argmax(1) == scores.argmax(1)))
    to_integers = None
    if not readout:
        spikes = run_recipe(network, messages, record=("spikes.-1",)).spikes
        assert spikes is not None
        to_integers = float(((spikes[-1].sum(1) if counts else spikes[-1]) == theirs).mean())
    return Expected(
        what,  # type: ignore[arg-type]
        len(messages),
        to_float,
        precision,  # type: ignore[arg-type]
        first,
        to_integers,
        same,
    )


def _outputs(graph: nir.NIRGraph, frames: Array, dtype: torch.dtype) -> Array:
    """Spikes or voltages of the last layer (sample, time, *shape)."""
    frames = frames.reshape(*frames.shape[:2], *input_shape(graph))
    readout = isinstance([n for _, n in chain(graph) if isinstance(n, NEURONS)][-1], READOUTS)
    blocks = []
    for start in range(0, len(frames), BLOCK):
        trace = execute(graph, frames[start : start + BLOCK], dtype)
        blocks.append((trace.voltage if readout else trace.spikes)[-1])
    return np.concatenate(blocks)


def _equal(ours: Array, theirs: Array, readout: bool) -> Array:
    if not readout:
        return np.asarray(ours == theirs)
    return np.asarray(np.abs(ours - theirs) <= CLOSE * np.abs(theirs).max(initial=0))


def _decoded(outputs: Array, decode: str) -> Array:
    if decode == "spike count":
        return np.asarray(outputs.sum(axis=1))
    return np.array(outputs[:, -1] if decode == "last voltage" else outputs.mean(axis=1))


def _gridded(graph: nir.NIRGraph) -> bool:
    """Whether its states are on a grid, which float32 does not hold."""
    return any("state_grid" in (node.metadata or {}) for _, node in chain(graph))
