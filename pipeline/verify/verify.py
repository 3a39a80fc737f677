"""Do module, float network, integers, simulator, Lava and file agree, and in which layer do they part?"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray
from torch import nn

from ...hw_targets.arrays import Array
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NEURONS
from ...hw_targets.netx.file import read_netx, write_netx
from ...hw_targets.printed import Printed, View
from ...hw_targets.simulate import lava as lava_cpu
from ...hw_targets.simulate.inputs import QUANTITIES
from ...hw_targets.simulate.trace import Overflow, Trace
from ...models.quality import Quality
from ..deploy.answers import apart_by
from ..deploy.deployed import Deployed
from ..deploy.run import Backend, run_recipe, scores
from ..float.cell import Cell, cell_of
from ..float.neuron import UnknownNeuronError
from ..graph import Stage
from ..quantize import agree
from .diagnosis import Diagnosis, diagnose
from .expected import Expected, compare_expected
from .sides import (
    Hardware,
    Membrane,
    Side,
    float_layers,
    float_side,
    hardware,
    module_side,
    quantized_side,
)

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset

LOOKED_AT = 16
"""Samples on which a cause is searched, at most."""
ENTRIES = 4_000_000
"""Largest number of (sample, step, neuron) of such a search, where it has more than one sample."""


@dataclass(frozen=True)
class LayerId:
    """One layer by both its names: `layer` of the network, `source` the float graph's neuron node.

    Both follow from the architecture alone: results of two runs can be joined by them.
    """

    layer: str
    source: str | None
    shape: tuple[int, ...]


@dataclass(frozen=True)
class Divergence:
    """The first place where two runs differ: earliest step, then sample, then neuron.

    `first_membrane`, `second_membrane`: for spikes, where the side's equation is known.
    """

    sample: int
    step: int
    neuron: tuple[int, ...]
    first: int
    second: int
    first_membrane: Membrane | None = None
    second_membrane: Membrane | None = None


@dataclass(frozen=True)
class Agreement:
    """How far one recorded quantity of one layer agrees between two runs.

    `equal`: fraction of equal entries over (sample, step, neuron). `matched`: for spikes,
    2 |both| / (|one| + |other|), which a silent layer does not flatter. `by_step`: for spikes, `equal`
    in every step (recurrence lets it fall with time).
    """

    layer: str
    quantity: str
    equal: float
    matched: float | None
    first: Divergence | None
    by_step: tuple[float, ...] | None = None

    @property
    def exact(self) -> bool:
        """Whether nothing differs."""
        return self.first is None

    def within(self, tolerance: float) -> bool:
        """Whether no more than this fraction of the entries differs; 0: none at all."""
        return self.exact if tolerance == 0 else self.equal >= 1 - tolerance


def compare(layer: str, quantity: str, a: Array, b: Array) -> Agreement:
    """Compare two arrays (sample, time, *layer shape) entry by entry, with `==`.

    Raises ValueError for arrays of different shapes.
    """
    if a.shape != b.shape:
        raise ValueError(f"{layer} {quantity}: shapes {a.shape} and {b.shape} cannot be compared.")
    different = a != b
    equal, matched = agree(a, b)
    first = None
    if different.any():
        by_step = np.moveaxis(different, 1, 0)
        step, sample, *neuron = (int(i) for i in np.argwhere(by_step)[0])
        place = (sample, step, *neuron)
        first = Divergence(sample, step, tuple(neuron), int(a[place]), int(b[place]))
    if quantity != "spikes":
        return Agreement(layer, quantity, equal, None, first)
    over_time = 1 - different.mean(axis=(0, *range(2, different.ndim)))
    return Agreement(layer, quantity, equal, matched, first, tuple(over_time.round(6).tolist()))


@dataclass(frozen=True)
class Accuracy:
    """The accuracy of a side on the first `samples`; `delta`: minus that of the first side on them."""

    side: str
    samples: int
    accuracy: float
    delta: float


@dataclass(frozen=True)
class Error:
    """The rms error of a side on the first `samples`; `delta`: minus that of the first side on them."""

    side: str
    samples: int
    error: float
    delta: float


@dataclass(frozen=True, repr=False)
class Verification(Printed):
    """Every side of a network beside the next one.

    The sides: the float graph; its numbers rounded as the integers have them, but with real-valued
    states ("quantized": what rounding the parameters does by itself); the integers in the simulator,
    in the reference simulator and on Lava; the file written and read again.

    `layers` gives each layer's two names. `to_quantized`: float against quantized; `from_quantized`:
    quantized against integers (None where neurons are not CubaLIF: `quantized_skipped` says which);
    `to_float`: float against integers, the layers that spike. `same_answers`: fraction of samples for
    which float network and integers give the same class. Where answers are values, of regression and of
    networks with one output, it is None, and `values_apart` is the rms difference of integers and float
    network over the rms of the float network, `module_apart` that of integers and module. All of these
    are None without a float graph, apart from `from_quantized`. `to_module`: the user's own module, run
    in float64 by its own forward, against the float graph: spikes, and the answers of a readout;
    `same_module_answers`: fraction of samples for which the module gives the same answer as the
    integers. Both are None where no module was given. `expected`: what the original framework recorded
    of the last layer, beside float graph and integers; None where nothing was given. `accuracy`: of each
    side, where labels were given; of regression `errors`.
    `diagnoses`: one for each layer in which float (without a graph: quantized) and integers differ.
    `lava_skipped` says why there is no Lava column where there is none.
    """

    digest: str
    samples: int
    layers: tuple[LayerId, ...]
    to_float: tuple[Agreement, ...] | None
    same_answers: float | None
    to_quantized: tuple[Agreement, ...] | None
    from_quantized: tuple[Agreement, ...] | None
    quantized_skipped: str | None
    accuracy: tuple[Accuracy, ...]
    diagnoses: tuple[Diagnosis, ...]
    overflow: tuple[Overflow, ...]
    to_reference: tuple[Agreement, ...]
    reference_samples: int
    to_lava: tuple[Agreement, ...] | None
    lava_samples: int
    lava_skipped: str | None
    reread: bool
    tolerance: float
    to_module: tuple[Agreement, ...] | None = None
    same_module_answers: float | None = None
    values_apart: float | None = None
    module_apart: float | None = None
    errors: tuple[Error, ...] = ()
    expected: Expected | None = None

    @property
    def ok(self) -> bool:
        """Module, what was recorded, reference, Lava and the file agree exactly; float spikes, and
        answers that are values, within the tolerance."""
        return not self.problems

    @property
    def problems(self) -> tuple[str, ...]:
        """What does not hold, each in words; empty where all is `ok`."""
        told = f"more than the tolerance of {self.tolerance:g}"
        problems = [
            f"{first} and {second} differ{by} in {', '.join(a.layer for a in apart)}"
            for first, second, by, sides, allowed in (
                ("float network", "integers", f" by {told}", self.to_float, self.tolerance),
                ("module", "float network", "", self.to_module, 0.0),
                ("simulator", "reference", "", self.to_reference, 0.0),
                ("simulator", "Lava", "", self.to_lava, 0.0),
            )
            if (apart := [a for a in sides or () if not a.within(allowed)])
        ]
        if (self.values_apart or 0.0) > self.tolerance:
            problems.append(f"answers of float network and integers are {told} apart")
        if self._readout and (self.same_answers or 0.0) < 1 - self.tolerance:
            problems.append(f"float network and integers give another answer for {told}")
        if self.expected is not None and not self.expected.ok:
            problems.append("what the original framework recorded is something else")
        if not self.reread:
            problems.append("the file read again is another network")
        return tuple(problems)

    @property
    def _readout(self) -> bool:
        """Whether the float network answers classes by the voltages of a layer that never spikes."""
        return (
            self.to_float is not None
            and self.same_answers is not None
            and len(self.to_float) < len(self.layers)
        )

    @property
    def verdict(self) -> str:
        """One sentence: what does not hold, or what was compared and holds, and what nobody compared."""
        if not self.ok:
            return f"NOT verified: {'; '.join(self.problems)}"
        close = f"(tolerance {self.tolerance:g})"
        recorded = "outputs" if self.expected is None else self.expected.what
        ours = "integers'" if self.to_float is None else "float network's"
        compared = {
            f"the {recorded} that the original framework recorded are the {ours} own": self.expected,
            "the float network spikes as the module itself": self.to_module,
            f"the integers spike as the float network {close}": self.to_float,
            f"the integers give the float network's answers {close}": self._readout
            or self.values_apart is not None,
            "simulator and reference are equal": self.to_reference,
            "simulator and Lava are equal": self.to_lava,
            "the file holds these integers": True,
        }
        sentence = f"verified: {', '.join(name for name, side in compared.items() if side)}"
        if self.expected is not None or self.to_module is not None:
            return sentence
        return (
            f"{sentence}; NOT compared with the framework that trained it: give --expect or --model "
            f"(in Python expect or module)"
        )

    def views(self) -> Sequence[View]:
        """The agreement of every two sides, layer by layer, the causes, and the verdicts."""
        from ..cli.verify import verification_tables

        return verification_tables(self)


def verify(
    deployed: Deployed,
    data: Dataset | NDArray[np.int32],
    *,
    module: nn.Module | None = None,
    labels: NDArray[Any] | None = None,
    expect: Array | None = None,
    samples: int = 200,
    lava_samples: int = 3,
    reference_samples: int = 3,
    tolerance: float = 0.05,
) -> Verification:
    """Check a deployed network on `samples` test samples of a data set, or on inputs of one's own.

    `data`: a data set, or encoded inputs (sample, steps, *input shape), whose `labels`, one per sample,
    are for accuracies.

    - float (`deployed.graph`, where there is one) against the integers: every layer's spikes, aligned
      for the one step of latency per layer, directly and by way of the quantized side (see
      `Verification`); for each layer that differs the likely cause (see `diagnose`);
    - with `module`, the Norse network that the graph came from: the graph against what the module's own
      forward does, every spike of every layer;
    - with `expect`, outputs of the last layer that the original framework recorded on these very inputs:
      float graph and integers against them (see `compare_expected`);
    - the simulator against the reference simulator and against Lava's CPU backend on the first
      `reference_samples` and `lava_samples`: every spike and state; Lava loads the file that the
      network was read from or written to, or where there is none one that is written here;
    - written to a file and read again: the same digest.

    `tolerance`: fraction of a layer's spikes that may differ between float and integers. Raises
    ValueError where graph and network cannot have the same layers.
    """
    network, graph, recipe = deployed.network, deployed.graph, deployed.recipe
    if isinstance(data, np.ndarray):
        messages = data[:samples]
    else:
        messages, labels = deployed.encoded(data.test, samples)
        labels = labels if len(labels) else None
    stages_ = None if graph is None else float_layers(graph)
    layers = layer_ids(network, stages_)
    integers = hardware(network, messages)
    sides: dict[str, Side] = {}
    float_cells = None
    if graph is not None and stages_ is not None:
        sides["float"] = float_side(graph, stages_, messages, recipe)
        float_cells = [
            partial(cell_of, stage, float(graph.metadata["dt"]), 1 if i else recipe.coding.levels)
            for i, stage in enumerate(stages_)
        ]
    quantized_skipped = None
    try:
        sides["quantized"] = quantized_side(network, messages)
    except UnknownNeuronError as error:
        quantized_skipped = str(error)
    sides["integers"] = integers.side
    if module is not None:
        if graph is None or stages_ is None:
            raise ValueError("a module is compared with its float graph: give the graph as well.")
        sides["module"] = module_side(module, graph, stages_, messages, recipe)
    real = sides.get("float", sides.get("quantized", integers.side))

    def pair(first: str, second: str) -> tuple[Agreement, ...] | None:
        if first not in sides or second not in sides:
            return None
        a, b = sides[first], sides[second]
        silent = sides["float"].readout if "float" in sides else None
        return tuple(_spikes(layers, i, a, b) for i in range(len(layers)) if i != silent)

    to_float, from_quantized = pair("float", "integers"), pair("quantized", "integers")
    scored = {name: side.scores for name, side in sides.items()}
    values = answers_are_values(deployed, labels)
    to_module = pair("module", "float")
    if to_module is not None and sides["float"].readout is not None:
        theirs, ours = scored["module"], scored["float"]
        classes = [s.argmax(axis=1)[:, None] for s in (theirs, ours)]
        both = _as_integers(theirs, ours) if values else classes
        to_module += (compare(layers[-1].layer, "answers", *both),)
    diagnoses = _diagnoses(integers, layers, real, float_cells, to_float or from_quantized or ())
    skipped = lava_cpu.why_unavailable() if lava_samples else "not asked for"
    to_lava = None
    if skipped is None:
        to_lava, scored["lava"] = _exact(network, messages[:lava_samples], "lava", deployed.path)
    to_reference, _ = _exact(network, messages[:reference_samples], "reference")
    return Verification(
        network.digest,
        len(messages),
        layers,
        to_float,
        None if values else _same(scored, "float"),
        pair("float", "quantized"),
        from_quantized,
        quantized_skipped,
        () if values else _accuracy(scored, labels),
        diagnoses,
        integers.overflow,
        to_reference,
        min(reference_samples, len(messages)),
        to_lava,
        min(lava_samples, len(messages)) if to_lava else 0,
        skipped,
        _survives_writing(network),
        tolerance,
        to_module,
        None if values else _same(scored, "module"),
        _apart(scored, "float") if values else None,
        _apart(scored, "module") if values else None,
        _errors(scored, labels) if values else (),
        None if expect is None else compare_expected(deployed, messages, expect),
    )


def answers_are_values(deployed: Deployed, labels: NDArray[Any] | None) -> bool:
    """Whether the scores are the answers: of regression, and of one output, which is no class."""
    outputs = int(np.prod(deployed.network.output_shape))
    said = deployed.recipe.provenance.get("task") == "regression"
    return outputs == 1 or said or (labels is not None and labels.dtype.kind == "f")


def _same(scored: Mapping[str, Array], side: str) -> float | None:
    """Fraction of samples for which a side gives the class that the integers give."""
    if side not in scored:
        return None
    theirs, ours = (scored[name].argmax(axis=1) for name in (side, "integers"))
    return float(np.mean(theirs == ours))


def _apart(scored: Mapping[str, Array], side: str) -> float | None:
    return apart_by(scored[side], scored["integers"]) if side in scored else None


def _as_integers(a: Array, b: Array) -> list[Array]:
    """Real answers (sample, outputs) on a grid of 1e-9 of the largest: sums of float64 may differ by
    their order. Equal where they are less than a step of it apart."""
    step = 1e-9 * max(float(np.abs(a).max()), 1e-30)
    grid = np.round(a / step).astype(np.int64)
    near = np.abs(a - b) <= step
    return [grid[:, None], np.where(near, grid, np.round(b / step).astype(np.int64))[:, None]]


def layer_ids(network: Network, layers: Sequence[Stage] | None) -> tuple[LayerId, ...]:
    """The layers of a network beside those of a lowered float graph, tied by their order.

    Raises ValueError, with both lists, where number or shapes differ.
    """
    ours = [(p.name, p.shape) for p in network.populations]
    if layers is None:
        return tuple(LayerId(name, None, shape) for name, shape in ours)
    theirs = [
        (layer.name, tuple(int(n) for n in layer.neuron.output_type["output"])) for layer in layers
    ]
    if [shape for _, shape in ours] != [shape for _, shape in theirs]:
        lists = [
            ", ".join(f"{name} {'x'.join(map(str, shape))}" for name, shape in side)
            for side in (theirs, ours)
        ]
        raise ValueError(
            f"the float graph and the network have different layers:\n  float: {lists[0]}\n  "
            f"network: {lists[1]}\nGive the graph that this file was made from."
        )
    pairs = zip(ours, theirs, strict=True)
    return tuple(LayerId(name, source, shape) for (name, shape), (source, _) in pairs)


def _spikes(layers: Sequence[LayerId], index: int, a: Side, b: Side) -> Agreement:
    """Spikes of one layer, with the membranes at the first divergence."""
    agreement = compare(layers[index].layer, "spikes", a.spikes[index], b.spikes[index])
    if agreement.first is None:
        return agreement
    f = agreement.first
    first, second = (side.membrane(index, f.sample, f.step, f.neuron) for side in (a, b))
    return replace(agreement, first=replace(f, first_membrane=first, second_membrane=second))


def _diagnoses(
    integers: Hardware,
    layers: Sequence[LayerId],
    real: Side,
    float_cells: Sequence[Callable[[], Cell]] | None,
    agreements: Sequence[Agreement],
) -> tuple[Diagnosis, ...]:
    """The cause for every layer that differs, found on some of the samples in which it does."""
    out = []
    for index, agreement in enumerate(agreements):
        if agreement.exact:
            continue
        different = real.spikes[index] != integers.side.spikes[index]
        samples = np.flatnonzero(different.reshape(len(different), -1).any(axis=1))
        samples = samples[: max(1, min(LOOKED_AT, ENTRIES // different[0].size))]
        try:
            cell = integers.cell(index)
            if float_cells is not None:
                float_cell = float_cells[index]()
            else:
                float_cell = replace(cell, grid=None, limited=False, forget=frozenset())
        except UnknownNeuronError:
            continue
        out.append(
            diagnose(
                layers[index].layer,
                float_cell,
                cell,
                integers.received(index, samples),
                integers.sent(index, samples),
                int(different[samples].sum()),
                integers.window(index),
            )
        )
    return tuple(out)


def _exact(
    network: Network, some: NDArray[np.int32], backend: Backend, file: str | Path | None = None
) -> tuple[tuple[Agreement, ...], Array]:
    """Every spike and state of the simulator beside another backend; the other's scores."""
    every = [
        (p, quantity)
        for quantity in QUANTITIES
        for p in network.populations
        if quantity == "spikes" or quantity in p.states
    ]
    record = [f"{quantity}.{p.index}" for p, quantity in every]
    ours: Trace = run_recipe(network, some, record=record)
    other: Trace = run_recipe(network, some, backend=backend, record=record, file=file)
    agreements = tuple(
        compare(
            p.name, quantity, getattr(ours, quantity)[p.index], getattr(other, quantity)[p.index]
        )
        for p, quantity in every
    )
    return agreements, scores(network, other)


def _accuracy(scored: Mapping[str, Array], labels: NDArray[Any] | None) -> tuple[Accuracy, ...]:
    if labels is None:
        return ()
    right = {name: s.argmax(axis=1) == labels[: len(s)] for name, s in scored.items()}
    base = next(iter(right.values()))
    return tuple(
        Accuracy(name, len(r), float(r.mean()), float(r.mean() - base[: len(r)].mean()))
        for name, r in right.items()
    )


def _errors(scored: Mapping[str, Array], labels: NDArray[Any] | None) -> tuple[Error, ...]:
    if labels is None:
        return ()
    if labels.dtype.kind != "f":
        raise ValueError(
            "the network has one output, which is a value and no class: give labels as real numbers."
        )

    def error(side: str, samples: int) -> float:
        return Quality.of(scored[side][:samples], labels[:samples]).error or 0.0

    sizes = {
        name: len(s) for name, s in scored.items() if name != "quantized"
    }  # in units of its own
    base, *_ = sizes
    return tuple(
        Error(name, n, error(name, n), error(name, n) - error(base, n)) for name, n in sizes.items()
    )


def _survives_writing(network: Network) -> bool:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "network.net"
        write_netx(network, path, for_lava=False)
        kinds = (*NEURONS, *(type(p.neuron) for p in network.populations))
        return read_netx(path, neurons=kinds, safe=False) == network
