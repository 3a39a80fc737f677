"""Is a network the one that was trained? Outputs that its framework recorded, beside ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Literal, TypeAlias

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

What: TypeAlias = Literal["spikes", "counts", "voltages", "classes"]
Precision: TypeAlias = Literal["float64", "float32"]
CLOSE = 1e-4
"""How far a readout's voltages may be off, as a part of the largest: frameworks sum in float32."""


@dataclass(frozen=True)
class Expected:
    """What the original framework recorded of the last layer, beside float graph and integers.

    `what`: spikes (sample, time, *shape), their counts (sample, *shape), a readout's voltages (sample,
    time, *shape), or classes (sample,). `to_float`: fraction of entries that are the float graph's own,
    voltages up to `CLOSE`; None without a graph. `precision`: in which the graph ran; float64, or float32
    where only this gives the recorded numbers. `first`: the first entry that differs from it, (sample,
    step, *neuron). `to_integers`: fraction of spikes, counts or classes that are the integers'; None of
    voltages, whose units differ. `same_answers`: fraction of samples in which the same output of the
    integers is largest; None of a single output, and of classes. `late`: steps by which the recording
    comes later than its input, as SLAYER's blocks answer one step later each; its last steps are compared
    with nothing.
    """

    what: What
    samples: int
    to_float: float | None
    precision: Precision | None
    first: tuple[int, ...] | None
    to_integers: float | None
    same_answers: float | None
    late: int = 0

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
            run += f", recorded {self.late} steps late" if self.late else ""
            yield (
                f"original framework / float, {self.samples} samples{run}: {equal} of the {self.what} "
                f"equal{where}"
            )
            if not self.ok and self.what != "classes":
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
        if self.what in ("counts", "classes"):
            return f"sample {sample}" + (f", neuron {tuple(rest)}" if rest else "")
        return f"sample {sample}, step {rest[0]}, neuron {tuple(rest[1:])}"


def compare_expected(deployed: Deployed, messages: Array, recorded: Array) -> Expected:
    """Compare what a framework recorded of the last layer with what float graph and integers do.

    `messages`: encoded inputs (sample, steps, *input shape), the very ones that the framework got, times
    the recipe's levels. `recorded`: spikes or, of a readout, voltages (sample, steps, *shape of the last
    layer), spike counts (sample, *shape), or the classes that were answered, whole numbers (sample,); of
    these samples, or of more. Spikes and counts may come as late as the chip's, see `Expected.late`: they
    are taken so where all of them are equal only then. Raises ValueError.
    """
    what, theirs = _recorded(deployed, len(messages), np.asarray(recorded))
    expected = _compare(deployed, messages, what, theirs, 0)
    late = deployed.network.latency
    if expected.ok or what not in ("spikes", "counts") or not theirs.any():
        return expected
    if late >= deployed.recipe.coding.steps:
        return expected
    later = _compare(deployed, messages, what, theirs, late)
    return later if later.ok else expected


def _recorded(deployed: Deployed, samples: int, recorded: Array) -> tuple[What, Array]:
    """What was recorded, by its shape, and its first `samples`; ValueError for anything else."""
    recipe, shape = deployed.recipe, deployed.network.populations[-1].shape
    steps, size = recipe.coding.steps, int(np.prod(shape))
    forms: dict[What, tuple[tuple[int, ...], ...]] = (
        {"spikes": ((steps, *shape), (steps, size)), "counts": (shape, (size,))}
        if recipe.decode == "spike count"
        else {"voltages": ((steps, *shape), (steps, size))}
    )
    if size > 1 and recipe.provenance.get("task") != "regression":
        forms["classes"] = ((),)
    what = next((name for name, shapes in forms.items() if recorded.shape[1:] in shapes), None)
    if what is None or not recorded.ndim or len(recorded) < samples:
        needed = " or ".join(
            f"{name} ({', '.join(map(str, ('sample', *shapes[0])))})"
            for name, shapes in forms.items()
        )
        raise ValueError(
            f"expect has shape {recorded.shape}; {needed} of the last layer are needed, for "
            f"{samples} samples."
        )
    if recorded.dtype.kind not in ("iu" if what == "classes" else "fiub"):
        needed = "whole numbers" if what == "classes" else "numbers"
        raise ValueError(f"expect is of type {recorded.dtype}, not of {needed}.")
    return what, recorded[:samples].reshape(samples, *forms[what][0])


def _compare(deployed: Deployed, messages: Array, what: What, theirs: Array, late: int) -> Expected:
    """`Expected`, of a recording that comes `late` steps later."""
    network, recipe, graph = deployed.network, deployed.recipe, deployed.graph
    shape = (len(messages), recipe.coding.steps, *network.populations[-1].shape)
    to_float = first = None
    precision: Precision | None = None
    for dtype in () if graph is None else _precisions(graph, recipe.decode):
        assert graph is not None
        ours = _outputs(graph, messages / recipe.coding.levels, getattr(torch, dtype)).reshape(
            shape
        )
        equal = _equal(_as(what, ours, recipe.decode, late), theirs, what)
        if to_float is None or equal.mean() > to_float:
            to_float, precision = float(equal.mean()), dtype
            first = None if equal.all() else tuple(int(i) for i in np.argwhere(~equal)[0])
        if to_float == 1:
            break
    to_integers, same = _against_integers(deployed, messages, what, theirs, late)
    return Expected(what, len(messages), to_float, precision, first, to_integers, same, late)


def _against_integers(
    deployed: Deployed, messages: Array, what: What, theirs: Array, late: int
) -> tuple[float | None, float | None]:
    """`Expected.to_integers` and `Expected.same_answers`."""
    network, decode = deployed.network, deployed.recipe.decode
    if what == "classes":
        return float((output_scores(network, messages).argmax(1) == theirs).mean()), None
    equal = None
    if decode == "spike count":
        spikes = run_recipe(network, messages, record=("spikes.-1",)).spikes
        assert spikes is not None
        equal = float((_as(what, spikes[-1], decode, late) == theirs).mean())
        ours = _as("counts", spikes[-1], decode, late)
    else:
        ours = output_scores(network, messages)
    if network.populations[-1].size == 1:
        return equal, None
    recorded = theirs if what == "counts" else _decoded(theirs, decode)
    answers = (each.reshape(len(messages), -1).argmax(1) for each in (ours, recorded))
    return equal, float(np.mean(np.equal(*answers)))


def _outputs(graph: nir.NIRGraph, frames: Array, dtype: torch.dtype) -> Array:
    """Spikes or voltages of the last layer (sample, time, *shape)."""
    frames = frames.reshape(*frames.shape[:2], *input_shape(graph))
    readout = isinstance([n for _, n in chain(graph) if isinstance(n, NEURONS)][-1], READOUTS)
    blocks = []
    for start in range(0, len(frames), BLOCK):
        trace = execute(graph, frames[start : start + BLOCK], dtype)
        blocks.append((trace.voltage if readout else trace.spikes)[-1])
    return np.concatenate(blocks)


def _precisions(graph: nir.NIRGraph, decode: str) -> tuple[Precision, ...]:
    """In which a graph may give what was recorded: spikes may hang on the rounding of float32.

    A graph with states on a grid, which float32 does not hold, and voltages, which are compared up to
    `CLOSE`, are run in float64 alone.
    """
    gridded = any("state_grid" in (node.metadata or {}) for _, node in chain(graph))
    return ("float64",) if gridded or decode != "spike count" else ("float64", "float32")


def _as(what: What, outputs: Array, decode: str, late: int) -> Array:
    """Outputs (sample, time, *shape) of ours in the form of a recording that is `late` steps later."""
    if late:
        outputs = np.concatenate([np.zeros_like(outputs[:, :late]), outputs[:, :-late]], axis=1)
    if what == "counts":
        return np.asarray(outputs.sum(axis=1))
    if what == "classes":
        return np.asarray(_decoded(outputs, decode).reshape(len(outputs), -1).argmax(axis=1))
    return outputs


def _equal(ours: Array, theirs: Array, what: What) -> Array:
    if what != "voltages":
        return np.asarray(ours == theirs)
    return np.asarray(np.abs(ours - theirs) <= CLOSE * np.abs(theirs).max(initial=0))


def _decoded(outputs: Array, decode: str) -> Array:
    if decode == "spike count":
        return np.asarray(outputs.sum(axis=1))
    return np.array(outputs[:, -1] if decode == "last voltage" else outputs.mean(axis=1))
