"""NIR graphs and files, of any framework, to the graph that the rest of this package works on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np

from ..graph import PARAMETERS, Edge, GraphError, check, find_loops, flatten_subgraphs
from .nir_conventions import CONVENTIONS, SPIKING, Convention, convention
from .nir_file import NIRFileError, Raw, graph_from, plain, read_raw

_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the code below raises on a broken structure; which one depends on the place."""
NO_DELAY = ("subtract-at-once", "none")
"""Resets that have no delay."""
_AXES: dict[type[nir.NIRNode], int] = {
    nir.Affine: 1,
    nir.Linear: 1,
    nir.Conv1d: 2,
    nir.Conv2d: 3,
    nir.SumPool2d: 3,
    nir.AvgPool2d: 3,
    nir.Flatten: 3,
}
"""Axes of the input, without samples, at most, where the kind of node says it."""


def from_nir(
    source: str | Path | nir.NIRGraph,
    dt: float | None = None,
    *,
    reset: str | Mapping[str, str] | None = None,
    reset_delay: int | None = None,
    framework: str | None = None,
) -> nir.NIRGraph:
    r"""A NIR file or graph with everything said that NIR leaves open, ready to run.

    `source`: a path, or a graph as another framework's exporter returns it. All schema versions are
    read; a missing `v_reset` is 0, a missing `w_in` 1, as the versions without them meant. In the
    graph returned

    - subgraphs are dissolved, their nodes named `subgraph.node`;
    - every node has its shapes, derived from the Input node on. Leading axes of 1 in Input, Output
      and neurons, which exporters leave there that trace with a sample, are dropped;
    - parameters are float64 arrays of the layer's shape: one number stands for all neurons.

    NIR states differential equations; they are solved by Euler steps of `dt` (see `FloatNetwork`)::

        i <- (1 - dt/tau_syn) i + (dt/tau_syn) w_in x
        v <- v + dt/tau_mem (v_leak - v + r i)          spike if v > v_threshold, then reset

    `dt`, in the unit of the file's time constants (nearly always seconds), comes from the metadata of
    the graph or of its nodes, or from the argument.

    NIR does not say how neurons are reset. `reset`, for all neurons or by node name, is "zero"
    (v <- v_reset), "subtract" (v <- v - (v_threshold - v_reset)) or another one that `FloatNetwork`
    lists; `reset_delay` = 1 resets one step later. Both may also stand in a node's metadata. The delay
    may be left open where it changes no spike: "zero" of an IF or LIF without recurrence.

    `framework`: the one that wrote the graph, a name in `CONVENTIONS`, whose dt and reset are taken
    where neither arguments nor metadata say them, and whose way of solving the equations is undone
    (`Convention.adjust`). Nothing else is assumed: what stays open is refused. A graph that this package
    wrote says it all; in its metadata stands `framework`.

    Raises NIRFileError, and GraphError with all problems: those of `check`, missing fields, no dt or
    reset, and where argument and metadata contradict each other; ValueError for an unknown framework.
    """
    rules = None if framework is None else convention(framework)
    if isinstance(source, nir.NIRGraph) and (empty := list(_empty_nodes(source))):
        raise GraphError(empty)
    if isinstance(source, nir.NIRGraph):
        return _said(source.to_dict(), dt, reset, reset_delay, framework, rules)
    raw = read_raw(source)
    try:
        return _said(raw, dt, reset, reset_delay, framework, rules)
    except GraphError:
        raise
    except _DAMAGE as error:
        raise NIRFileError(
            f"{source}: damaged, or not laid out as NIR ({type(error).__name__}: {error}). Write it "
            f"again."
        ) from error


def _said(
    raw: Raw,
    dt: float | None,
    reset: str | Mapping[str, str] | None,
    reset_delay: int | None,
    framework: str | None,
    rules: Convention | None,
) -> nir.NIRGraph:
    """The graph that `read_raw` or `nir.NIRGraph.to_dict` described, see `from_nir`."""
    if plain(raw["type"]) != "NIRGraph":
        raise GraphError([f"the root is a {raw['type']}, not a NIRGraph. Wrap it in one."])
    problems: list[str] = []
    graph, broken = graph_from(raw, problems)
    nodes, edges = flatten_subgraphs(graph)
    _drop_sample_axes(nodes, edges)
    own = "framework" in graph.metadata
    if own and framework is not None:
        problems.append(
            f"the graph's metadata says framework = {plain(graph.metadata['framework'])}: spikeship "
            f"wrote it, and it says everything. Leave out framework = {framework}."
        )
    step = _time_step(graph.metadata, nodes, dt, rules, problems)
    if rules is not None and step is not None and not (broken or own):
        rules.adjust(nodes, step, problems)
    asked = reset if isinstance(reset, Mapping) else dict.fromkeys(_spiking(nodes), reset)
    _set_resets(nodes, asked, reset_delay, problems)
    if not own:
        _say_resets(nodes, edges, framework, rules, problems)
    written_by = "NIR" if framework is None else f"NIR of {framework}"
    metadata = {"framework": written_by, **graph.metadata, "dt": step or 1.0}
    if step is not None:
        _check_time_constants(nodes, step, problems)
    try:
        checked = check(nir.NIRGraph(nodes, edges, metadata=metadata, type_check=False))
    except GraphError as error:
        problems += [text for text in error.problems if not broken & set(re.split(r"[ :,]", text))]
    if problems:
        raise GraphError(problems)
    return checked


def _empty_nodes(graph: nir.NIRGraph, prefix: str = "") -> Iterator[str]:
    """One problem for each node that the exporter left empty."""
    for name, node in graph.nodes.items():
        if node is None:
            yield (
                f"node {prefix}{name} is None: the exporter did not know the module of that name. "
                f"snnTorch's leaves None for BatchNorm2d, MaxPool2d, Dropout and Alpha. Give the "
                f"snnTorch network itself, `spikeship export mynet:build`, which takes all of these but "
                f"Alpha."
            )
        elif isinstance(node, nir.NIRGraph):
            yield from _empty_nodes(node, f"{prefix}{name}.")


def _drop_sample_axes(nodes: dict[str, Any], edges: list[Edge]) -> None:
    """Take leading axes of 1 from Input nodes until the first node of fixed axes can take them."""
    following = dict(reversed(edges))
    for start, node in nodes.items():
        if not isinstance(node, nir.Input) or node.input_type["input"] is None:
            continue
        shape, name, seen = [int(n) for n in np.ravel(node.input_type["input"])], start, {start}
        while (after := following.get(name)) and after not in seen:
            name = after
            seen.add(name)
            if axes := _axes(nodes.get(name)):
                while len(shape) > axes and shape[0] == 1:
                    shape = shape[1:]
                break
        node.input_type = {"input": np.array(shape)}
        node.output_type = {"output": np.array(shape)}


def _axes(node: nir.NIRNode | None) -> int | None:
    """Axes of a node's input; of Scale and neurons, those of parameters that are not one number."""
    if node is None or type(node) in _AXES:
        return _AXES.get(type(node))
    arrays = [np.asarray(getattr(node, name)) for name in PARAMETERS.get(type(node), ())]
    axes = max((array.ndim for array in arrays if array.size > 1), default=None)
    return None if axes is None else min(axes, 3)  # (C, H, W) is the most that there is


def _time_step(
    metadata: Mapping[str, Any],
    nodes: Mapping[str, Any],
    dt: float | None,
    rules: Convention | None,
    problems: list[str],
) -> float | None:
    """The one dt on which all agree that give one, or else the framework's own."""
    said = {} if dt is None else {"in the argument": dt}
    if "dt" in metadata:
        said["in the graph's metadata"] = metadata["dt"]
    for name, node in nodes.items():
        if "dt" in node.metadata:
            said[f"in the metadata of {name}"] = node.metadata["dt"]
    steps = {where: float(np.asarray(value).item()) for where, value in said.items()}
    if not steps and rules is not None and rules.dt is not None:
        return rules.dt
    if not steps:
        problems.append(
            "the time step dt is not known: NIR does not store it, and the metadata has none. Give "
            "the one with which the network was trained, in the unit of its time constants: "
            "from_nir(..., dt=1e-3)."
        )
        return None
    first = next(iter(steps.values()))
    listed = ", ".join(f"{value:g} {where}" for where, value in steps.items())
    if not (np.isfinite(first) and first > 0):
        problems.append(f"dt is a positive, finite number; found {listed}.")
        return None
    if not np.allclose(list(steps.values()), first, rtol=1e-6, atol=0):
        problems.append(f"different time steps dt: {listed}. Give one that holds for all.")
    return first


def _spiking(nodes: Mapping[str, Any]) -> list[str]:
    return [name for name, node in nodes.items() if isinstance(node, SPIKING)]


def _set_resets(
    nodes: Mapping[str, Any],
    asked: Mapping[str, str | None],
    reset_delay: int | None,
    problems: list[str],
) -> None:
    """Write what the arguments say into the metadata of the spiking nodes."""
    spiking = _spiking(nodes)
    for name in sorted(set(asked) - set(spiking)):
        problems.append(
            f"reset is given for {name}, which is no spiking node (those are {', '.join(spiking)})."
        )
    for name in spiking:
        metadata = nodes[name].metadata
        for key, value in (("reset", asked.get(name)), ("reset_delay", reset_delay)):
            stored = plain(metadata.get(key, value))
            if value is not None and stored != value:
                problems.append(
                    f"node {name}: its metadata says {key} = {stored}, the argument {value}."
                )
            elif value is not None:
                metadata[key] = value


def _say_resets(
    nodes: Mapping[str, Any],
    edges: list[Edge],
    framework: str | None,
    rules: Convention | None,
    problems: list[str],
) -> None:
    """Fill what is still open with the framework's defaults; the rest are problems."""
    loops = find_loops(nodes, edges)
    open_ = {"reset": list[str](), "reset_delay": list[str]()}
    for name in _spiking(nodes):
        node, metadata = nodes[name], nodes[name].metadata
        for key, usual in (
            ("reset", None if rules is None else rules.reset),
            ("reset_delay", None if rules is None else rules.reset_delay),
        ):
            if key in metadata:
                continue
            if usual is not None and plain(metadata.get("reset")) not in NO_DELAY:
                metadata[key] = usual
            elif key == "reset_delay" and plain(metadata.get("reset")) in NO_DELAY:
                metadata[key] = 0
            elif key == "reset_delay" and plain(metadata.get("reset")) == "zero":
                if isinstance(node, nir.CubaLIF) or name in loops:
                    open_[key].append(name)
                else:
                    metadata[key] = 0  # v is set before its next update: the same spikes
            else:
                open_[key].append(name)
    if rules is not None and rules.refused and any(open_.values()):
        names = dict.fromkeys([*open_["reset"], *open_["reset_delay"]])
        problems.append(f"{', '.join(names)}: {framework}: {rules.refused}.")
        return
    delays = [name for name in open_["reset_delay"] if name not in open_["reset"]]
    if open_["reset"]:
        problems.append(
            f"how {', '.join(open_['reset'])} are reset is not known: NIR does not store it. Say which "
            f"framework's defaults they have, framework='snntorch' (or "
            f"{', '.join(name for name in CONVENTIONS if name != 'snntorch')}); or reset='zero' (v <- "
            f"v_reset) or reset='subtract', with reset_delay=0 (in the step of the spike) or "
            f"reset_delay=1 (in the next one)."
        )
    if delays:
        problems.append(
            f"in which step {', '.join(delays)} are reset is not known: say reset_delay=0 (that of the "
            f"spike) or reset_delay=1 (the next one, as snnTorch does)."
        )


def _check_time_constants(nodes: Mapping[str, Any], dt: float, problems: list[str]) -> None:
    for name, node in nodes.items():
        for field in ("tau", "tau_mem", "tau_syn"):
            shortest = float(np.min(getattr(node, field, np.inf)))
            if 0 < shortest < dt * (1 - 1e-6):
                problems.append(
                    f"node {name}: {field} = {shortest:.4g} is shorter than dt = {dt:.4g}, so one step "
                    f"would overshoot. Give dt in the unit of {field}. Norse's to_nir multiplies every "
                    f"tau by its own dt, and loses resets and the strength of currents: give Norse's "
                    f"network itself, from_norse(model, ...) or `spikeship export mynet:build`; of its "
                    f"cells with their defaults framework='norse' undoes that."
                )
