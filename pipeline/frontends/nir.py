"""NIR graphs and files, of any framework, to the graph that the rest of this package works on."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import nir
import numpy as np

from .nir_file import Raw, plain, read
from .nir_nodes import AXES, BUILD, DEFAULTS, FIELDS, NodeError, Shape, ints

RESETS = ("zero", "subtract")


class NIRError(ValueError):
    """All problems of a graph at once, one per line."""

    def __init__(self, problems: list[str]) -> None:
        self.problems = tuple(problems)
        super().__init__(
            "the NIR graph cannot be used:\n" + "\n".join(f"  - {p}" for p in problems)
        )


def from_nir(
    source: str | Path | nir.NIRGraph,
    dt: float | None = None,
    *,
    reset: str | Mapping[str, str] | None = None,
    reset_delay: int | None = None,
) -> nir.NIRGraph:
    r"""A NIR file or graph, with everything said that NIR leaves open.

    `source`: a path, or a graph as another framework's exporter returns it. Every schema version is
    read; missing `v_reset` is 0, missing `w_in` 1, as those versions meant. Returned is a flat graph:

    - subgraphs are dissolved, their nodes named `subgraph.node`;
    - every node knows its shapes, found from the Input node on; leading axes of 1 (samples) that
      tracing exporters leave in Input and Output are dropped;
    - parameters are float64 arrays of the layer's shape; one number stands for all neurons;
    - Threshold becomes a LIF with tau = dt, r = 1, which is the same without memory;
    - convolutions have number pairs as stride, padding and dilation.

    NIR states differential equations. They are solved by Euler steps of `dt`, per neuron::

        i <- (1 - dt/tau_syn) i + (dt/tau_syn) w_in x
        v <- v + dt/tau_mem (v_leak - v + r i)          spike if v > v_threshold, then reset

    `dt`, in the unit of the file's time constants (mostly seconds), comes from the metadata of the
    graph or its nodes or from the argument; snnTorch exports with 1e-4, IF neurons of sinabs need 1.
    NIR has no soft reset: `reset` is "zero" (v <- v_reset; the default) or "subtract"
    (v <- v - (v_threshold - v_reset)), for all neurons or by node name; `reset_delay` = 1 resets one
    step later, as snnTorch does by default. Where metadata and argument contradict, that is an error.

    Raises NIRFileError, and NIRError with all problems found.
    """
    raw = source.to_dict() if isinstance(source, nir.NIRGraph) else read(source)
    problems: list[str] = []
    if raw["type"] != "NIRGraph":
        raise NIRError([f"the root is a {raw['type']}, not a NIRGraph. Wrap it in one."])
    nodes, edges = _flat(raw, "", problems)
    edges = _without_inner_ends(nodes, edges)
    metadata = {name: plain(value) for name, value in raw.get("metadata", {}).items()}
    step = _time_step(metadata, nodes, dt, problems)
    resets = _resets(nodes, reset, reset_delay, problems)
    parameters = {n: p for n, node in nodes.items() if (p := _read(n, node, problems)) is not None}
    built = _build(nodes, edges, parameters, step, problems)
    for name, marks in resets.items():
        if name in built:
            built[name].metadata = {**built[name].metadata, **marks}
    if problems:
        raise NIRError(problems)
    return nir.NIRGraph(
        built, edges, {"framework": "NIR", **metadata, "dt": step}, type_check=False
    )


def _flat(
    raw: Raw, prefix: str, problems: list[str]
) -> tuple[dict[str, Raw], list[tuple[str, str]]]:
    """The nodes of a graph and its subgraphs by dotted name, and the edges between them.

    An edge to a subgraph goes to its Input, one from it comes from its Output.
    """
    nodes: dict[str, Raw] = {}
    edges: list[tuple[str, str]] = []
    ends: dict[str, tuple[str, str]] = {}
    for key, node in raw["nodes"].items():
        name = prefix + key
        if node["type"] != "NIRGraph":
            nodes[name] = node
            continue
        inner, between = _flat(node, f"{name}.", problems)
        nodes |= inner
        edges += between
        first, last = (
            [f"{name}.{k}" for k, n in node["nodes"].items() if n["type"] == kind]
            for kind in ("Input", "Output")
        )
        if len(first) == len(last) == 1:
            ends[name] = (first[0], last[0])
        else:
            problems.append(
                f"subgraph {name} has {len(first)} inputs and {len(last)} outputs; only one of each "
                f"has a meaning in an edge."
            )
    for a, b in ((plain(a), plain(b)) for a, b in raw["edges"]):
        source, target = prefix + a, prefix + b
        for end in (source, target):
            if end not in nodes and end not in ends:
                problems.append(f"edge {source} -> {target}: there is no node {end}.")
        edge = ends[source][1] if source in ends else source, ends.get(target, (target,))[0]
        if edge in edges:
            problems.append(f"edge {source} -> {target} is there twice.")
        else:
            edges.append(edge)
    return nodes, edges


def _without_inner_ends(
    nodes: dict[str, Raw], edges: list[tuple[str, str]]
) -> list[tuple[str, str]]:
    """Takes the Input and Output nodes of subgraphs out of `nodes` and joins the edges past them."""
    sources, targets = {a for a, _ in edges}, {b for _, b in edges}
    inner = [
        name
        for name, node in nodes.items()
        if (node["type"] == "Input" and name in targets)
        or (node["type"] == "Output" and name in sources)
    ]
    for name in inner:
        before, after = [a for a, b in edges if b == name], [b for a, b in edges if a == name]
        edges = [edge for edge in edges if name not in edge]
        edges += [(a, b) for a in before for b in after]
        del nodes[name]
    return edges


def _time_step(
    metadata: Raw, nodes: dict[str, Raw], dt: float | None, problems: list[str]
) -> float:
    """The one dt that all who name one agree on; 0.0, and a problem, where there is none."""
    said = {"the argument": dt} if dt is not None else {}
    if "dt" in metadata:
        said["the graph's metadata"] = metadata["dt"]
    for name, node in nodes.items():
        if "dt" in node.get("metadata", {}):
            said[f"the metadata of {name}"] = node["metadata"]["dt"]
    steps = {where: float(np.asarray(value).reshape(-1)[0]) for where, value in said.items()}
    listed = ", ".join(f"{value:g} in {where}" for where, value in steps.items())
    if not steps:
        problems.append(
            "the time step dt is not known: NIR does not store it and this file's metadata has none. "
            "Give the dt the network was trained with, in the unit of its tau: from_nir(..., dt=1e-3)."
        )
        return 0.0
    first = next(iter(steps.values()))
    if not (np.isfinite(first) and first > 0):
        problems.append(f"dt must be finite and positive; found {listed}.")
        return 0.0
    if not np.allclose(list(steps.values()), first, rtol=1e-6, atol=0):
        problems.append(f"different time steps dt: {listed}. Give one that holds for all.")
    return first


def _resets(
    nodes: dict[str, Raw],
    reset: str | Mapping[str, str] | None,
    reset_delay: int | None,
    problems: list[str],
) -> dict[str, Raw]:
    """`reset` and `reset_delay` of every spiking node, where metadata or argument give them."""
    spiking = [name for name, node in nodes.items() if node["type"] in ("IF", "LIF", "CubaLIF")]
    if isinstance(reset, Mapping):
        asked = dict(reset)
        for name in sorted(set(asked) - set(spiking)):
            problems.append(
                f"reset is given for {name}, which is no spiking node ({', '.join(spiking)})."
            )
    else:
        asked = {} if reset is None else dict.fromkeys(spiking, reset)
    out: dict[str, Raw] = {}
    for name in spiking:
        stored = nodes[name].get("metadata", {})
        for key, argument, allowed in (
            ("reset", asked.get(name), RESETS),
            ("reset_delay", reset_delay, (0, 1)),
        ):
            said = [plain(v) for v in (stored.get(key), argument) if v is not None]
            if len(said) == 2 and said[0] != said[1]:
                problems.append(
                    f"node {name}: its metadata says {key} = {said[0]!s}, the argument {said[1]!s}."
                )
            elif said and said[0] not in allowed:
                problems.append(
                    f"node {name}: {key} = {said[0]!s}; only {' or '.join(map(str, allowed))}."
                )
            elif said:
                out.setdefault(name, {})[key] = said[0] if key == "reset" else int(said[0])
    return out


def _read(name: str, node: Raw, problems: list[str]) -> Raw | None:
    """The parameters of a node as float64 arrays, ints or texts; None, and problems, if unusable."""
    kind = node["type"]
    if kind not in FIELDS:
        problems.append(
            f"node {name} is a {kind}, which is not supported (supported: {', '.join(FIELDS)})."
        )
        return None
    fields = FIELDS[kind]
    extra = sorted(set(node) - {*fields, "type", "metadata", "input_type", "output_type"})
    missing = [field for field in fields if field not in node and field not in DEFAULTS]
    if kind.startswith("Conv") and "bias" in missing:
        missing.remove("bias")
    if extra or missing:
        problems += [f"node {name} ({kind}) has no {field}." for field in missing]
        problems += [
            f"node {name} ({kind}) has a field {field} that NIR does not." for field in extra
        ]
        return None
    out: Raw = {}
    for field in fields:
        value = plain(node.get(field, DEFAULTS.get(field)))
        if value is None or isinstance(value, str):
            out[field] = value
            continue
        array = np.array(value, np.float64)
        if not np.isfinite(array).all():
            problems.append(f"node {name} ({kind}): {field} is not finite (NaN or infinite).")
            return None
        out[field] = array
    return out


def _build(
    nodes: dict[str, Raw],
    edges: list[tuple[str, str]],
    parameters: dict[str, Raw],
    dt: float,
    problems: list[str],
) -> dict[str, nir.NIRNode]:
    """The nodes with their shapes, found from the inputs on, in the order in which data passes."""
    built: dict[str, nir.NIRNode] = {}
    shapes: dict[str, Shape | None] = {}
    pending: list[tuple[str, Shape | None]] = []
    for name, node in nodes.items():
        if node["type"] == "Input" and name in parameters:
            pending.append((name, _input_shape(name, nodes, edges, parameters)))
    while pending:
        name, shape = pending.pop(0)
        if name in shapes:
            continue
        kind = nodes[name]["type"]
        shapes[name] = None
        if name in parameters and shape is not None:
            try:
                node = BUILD[kind](parameters[name], shape, dt)
            except NodeError as error:
                problems.append(f"node {name} ({kind}): {error}")
            else:
                node.metadata = {k: plain(v) for k, v in nodes[name].get("metadata", {}).items()}
                built[name] = node
                shapes[name] = ints(node.output_type["output"])
        pending += [(b, shapes[name]) for a, b in edges if a == name]
    for name in nodes:
        if name not in shapes:
            problems.append(f"node {name} cannot be reached from an Input node.")
    for a, b in edges:
        if a in built and b in built:
            out, into = ints(built[a].output_type["output"]), ints(built[b].input_type["input"])
            if out != into:
                problems.append(f"edge {a} -> {b}: {a} puts out shape {out}, {b} takes {into}.")
    return built


def _input_shape(
    name: str, nodes: dict[str, Raw], edges: list[tuple[str, str]], parameters: dict[str, Raw]
) -> Shape:
    """The Input's shape without the leading 1s that the first node of fixed axes does not have."""
    shape = ints(parameters[name]["shape"])
    seen = {name}
    while len(after := [b for a, b in edges if a == name and b in nodes]) == 1:
        (name,) = after
        axes = AXES.get(nodes[name]["type"])
        if name in seen:
            break
        seen.add(name)
        if axes is not None:
            while len(shape) > axes and shape[0] == 1:
                shape = shape[1:]
            break
    return shape
