"""NIR graphs and files, of any framework, to the graph that the rest of this package works on."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import nir
import numpy as np

from ..graph import PARAMETERS, Edge, GraphError, check, flatten_subgraphs
from .nir_file import graph_from, plain, read_raw

_SPIKING = (nir.IF, nir.LIF, nir.CubaLIF)
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
    the graph or of its nodes, or from the argument. snnTorch and spikingjelly export with 1e-4,
    sinabs' IF neurons with 1. Norse's `to_nir` loses the time step, the reset and the strength of
    synaptic currents, so that no dt gives the network that was trained: import it by `from_norse`.

    NIR has no reset by subtraction. `reset`, for all neurons or by node name, is "zero" (v <- v_reset,
    NIR's own) or "subtract" (v <- v - (v_threshold - v_reset)); `reset_delay` = 1 resets one step
    later, which snnTorch does by default. Both may also stand in a node's metadata.

    Raises NIRFileError, and GraphError with all problems: those of `check`, missing fields, no dt,
    and where argument and metadata contradict each other.
    """
    if isinstance(source, nir.NIRGraph) and (empty := list(_empty_nodes(source))):
        raise GraphError(empty)
    raw = source.to_dict() if isinstance(source, nir.NIRGraph) else read_raw(source)
    if raw["type"] != "NIRGraph":
        raise GraphError([f"the root is a {raw['type']}, not a NIRGraph. Wrap it in one."])
    problems: list[str] = []
    graph, broken = graph_from(raw, problems)
    nodes, edges = flatten_subgraphs(graph)
    _drop_sample_axes(nodes, edges)
    step = _time_step(graph.metadata, nodes, dt, problems)
    _set_resets(nodes, reset, reset_delay, problems)
    metadata = {"framework": "NIR", **graph.metadata, "dt": step or 1.0}
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
                f"snnTorch's leaves None for BatchNorm2d, MaxPool2d, Dropout and Alpha. Fold batch norm "
                f"into the layer before it, take dropout out, train with AvgPool2d and Leaky or "
                f"Synaptic, and export again."
            )
        elif isinstance(node, nir.NIRGraph):
            yield from _empty_nodes(node, f"{prefix}{name}.")


def _drop_sample_axes(nodes: dict[str, Any], edges: list[Edge]) -> None:
    """Take leading axes of 1 from Input nodes until the first node of fixed axes can take them."""
    for start, node in nodes.items():
        if not isinstance(node, nir.Input) or node.input_type["input"] is None:
            continue
        shape, name, seen = [int(n) for n in np.ravel(node.input_type["input"])], start, {start}
        while (after := next((b for a, b in edges if a == name), None)) and after not in seen:
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
    metadata: Mapping[str, Any], nodes: Mapping[str, Any], dt: float | None, problems: list[str]
) -> float | None:
    """The one dt on which all agree that give one."""
    said = {} if dt is None else {"in the argument": dt}
    if "dt" in metadata:
        said["in the graph's metadata"] = metadata["dt"]
    for name, node in nodes.items():
        if "dt" in node.metadata:
            said[f"in the metadata of {name}"] = node.metadata["dt"]
    steps = {where: float(np.asarray(value).item()) for where, value in said.items()}
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


def _set_resets(
    nodes: Mapping[str, Any],
    reset: str | Mapping[str, str] | None,
    reset_delay: int | None,
    problems: list[str],
) -> None:
    """Write what the arguments say into the metadata of the spiking nodes."""
    spiking = [name for name, node in nodes.items() if isinstance(node, _SPIKING)]
    asked = (
        reset
        if isinstance(reset, Mapping)
        else {}
        if reset is None
        else dict.fromkeys(spiking, reset)
    )
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


def _check_time_constants(nodes: Mapping[str, Any], dt: float, problems: list[str]) -> None:
    for name, node in nodes.items():
        for field in ("tau", "tau_mem", "tau_syn"):
            shortest = float(np.min(getattr(node, field, np.inf)))
            if 0 < shortest < dt * (1 - 1e-6):
                problems.append(
                    f"node {name}: {field} = {shortest:.4g} is shorter than dt = {dt:.4g}, so one step "
                    f"would overshoot. Give dt in the unit of {field}. Norse's to_nir multiplies every "
                    f"tau by its own dt, and loses resets and the strength of currents: give Norse's "
                    f"network itself, from_norse(model, ...) or `spikeship export mynet:build`."
                )
