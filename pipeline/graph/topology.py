"""How the nodes of a NIR graph hang together: subgraphs, recurrence, and what is no chain."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from graphlib import CycleError, TopologicalSorter
from typing import TypeAlias

import nir

Node: TypeAlias = tuple[str, nir.NIRNode]
Chain: TypeAlias = list[Node]
Edge: TypeAlias = tuple[str, str]

READOUTS = (nir.LI, nir.CubaLI, nir.I)
"""Neurons that never spike; they put out their voltage."""
NEURONS = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold, *READOUTS)
LINEAR = (nir.Affine, nir.Linear, nir.Conv1d, nir.Conv2d, nir.AvgPool2d, nir.SumPool2d)
"""Maps that mix their inputs; Scale does not."""
RECURRENT = (nir.Affine, nir.Linear, nir.Scale)
"""Linear maps that may lie between a neuron and itself."""


class LoweringError(ValueError):
    """A graph that has no exact image as a chain of synapses and neurons."""


SHOWN = 50
"""Problems that a message lists, and names in one of them; the rest are counted."""
MAX_EDGES = 1_000_000
"""Of a graph whose subgraphs are dissolved."""


def listed(names: Sequence[str]) -> str:
    """Names for a message, not more than `SHOWN`."""
    more = f" and {len(names) - SHOWN} more" if len(names) > SHOWN else ""
    return ", ".join(names[:SHOWN]) + more


class GraphError(LoweringError):
    """A graph that cannot be run at all: every problem found, one per line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems[:SHOWN])
        if len(problems) > SHOWN:
            lines += f"\n  - and {len(problems) - SHOWN} more."
        super().__init__(f"the graph cannot be used:\n{lines}")


class UnknownNodeError(LoweringError):
    """A node of a kind for which some step has no rule."""

    def __init__(self, node: object, role: str) -> None:
        super().__init__(f"{type(node).__name__} is no {role} that is known here.")


def flatten_subgraphs(
    graph: nir.NIRGraph, problems: list[str] | None = None
) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
    """The nodes and edges of a graph with every subgraph dissolved.

    Node n of subgraph s becomes `s.n`; its Input and Output disappear, since an edge to s goes to
    what follows its Input, and one from s comes from what precedes its Output. A subgraph that has
    not one of each stays as it is; that, and a name that stands for two nodes, is added to
    `problems`, or raises GraphError where no such list is given.
    """
    own: list[str] = []
    nodes, edges = _dissolve(graph, "", own)
    if own and problems is None:
        raise GraphError(own)
    if problems is not None:
        problems += own
    return nodes, edges


def _dissolve(
    graph: nir.NIRGraph, prefix: str, problems: list[str]
) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
    nodes: dict[str, nir.NIRNode] = {}
    edges = [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    inside: list[Edge] = []
    ends: dict[str, Edge] = {}
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        inner: dict[str, nir.NIRNode] = {name: node}
        if isinstance(node, nir.NIRGraph):
            first = [n for n in node.nodes if isinstance(node.nodes[n], nir.Input)]
            last = [n for n in node.nodes if isinstance(node.nodes[n], nir.Output)]
            if len(first) == len(last) == 1:
                inner, between = _dissolve(node, f"{name}.", problems)
                inside += between
                ends[name] = (f"{name}.{first[0]}", f"{name}.{last[0]}")
                inner = {n: m for n, m in inner.items() if n not in ends[name]}
            else:
                problems.append(
                    f"subgraph {name} has {len(first)} inputs and {len(last)} outputs; a chain "
                    f"needs one of each."
                )
        problems += [f"the name {n} stands for two nodes." for n in inner if n in nodes]
        nodes |= inner
    if not ends:
        return nodes, edges
    edges = [(ends[a][1] if a in ends else a, ends[b][0] if b in ends else b) for a, b in edges]
    return nodes, _bridge([*edges, *inside], list(itertools.chain(*ends.values())))


def _bridge(edges: list[Edge], without: Sequence[str]) -> list[Edge]:
    """The edges past some nodes: from each that precedes them to each that follows."""
    kept = dict(enumerate(edges))
    into: dict[str, dict[int, str]] = {}
    onward: dict[str, dict[int, str]] = {}
    for number, (a, b) in kept.items():
        onward.setdefault(a, {})[number] = b
        into.setdefault(b, {})[number] = a
    following = itertools.count(len(edges))
    for name in without:
        before, after = into.pop(name, {}), onward.pop(name, {})
        if len(kept) + len(before) * len(after) > MAX_EDGES:
            raise GraphError([f"more than {MAX_EDGES} edges, with those past {name}."])
        for number in {*before, *after}:
            a, b = kept.pop(number)
            onward.get(a, {}).pop(number, None)
            into.get(b, {}).pop(number, None)
        ways = itertools.product(before.values(), after.values())
        for (a, b), number in zip(ways, following, strict=False):
            if name not in (a, b):
                kept[number] = (a, b)
                onward.setdefault(a, {})[number] = b
                into.setdefault(b, {})[number] = a
    return list(kept.values())


def find_loops(nodes: Mapping[str, nir.NIRNode], edges: Sequence[Edge]) -> dict[str, list[str]]:
    """Recurrence: for each spiking neuron that feeds itself, the linear maps on the way.

    A path counts as recurrence if it leaves a spiking neuron, passes Linear, Affine or Scale nodes that
    have no other connection, and ends in the same neuron.
    """
    loops: dict[str, list[str]] = {}
    following, preceding = _neighbours(edges)
    for name, node in nodes.items():
        if not isinstance(node, NEURONS) or isinstance(node, READOUTS):
            continue
        for start in following.get(name, []):
            path = {start: None}  # ordered
            last = start
            while (
                isinstance(nodes.get(last), RECURRENT)
                and len(following.get(last, [])) == len(preceding[last]) == 1
                and following[last][0] not in path
            ):
                last = following[last][0]
                path[last] = None
            if len(path) > 1 and last == name and name not in loops:
                loops[name] = list(path)[:-1]
    return loops


def forward_edges(edges: Sequence[Edge], loops: Mapping[str, Sequence[str]]) -> list[Edge]:
    """The edges that are not part of recurrence."""
    inside = {name for path in loops.values() for name in path}
    return [(a, b) for a, b in edges if a not in inside and b not in inside]


def _neighbours(edges: Sequence[Edge]) -> tuple[dict[str, list[str]], dict[str, list[str]]]:
    following: dict[str, list[str]] = {}
    preceding: dict[str, list[str]] = {}
    for a, b in edges:
        following.setdefault(a, []).append(b)
        preceding.setdefault(b, []).append(a)
    return following, preceding


def structure(
    nodes: Mapping[str, nir.NIRNode], edges: Sequence[Edge], problems: list[str]
) -> list[str]:
    """The names of a chain in order, Input and Output included, without recurrent maps.

    What keeps the graph from being a chain is added to `problems`.
    """
    loops = find_loops(nodes, edges)
    edges = forward_edges(edges, loops)
    following, preceding = _neighbours(edges)
    inside = {name for path in loops.values() for name in path}
    starts = [name for name, node in nodes.items() if isinstance(node, nir.Input)]
    ends = [name for name, node in nodes.items() if isinstance(node, nir.Output)]
    for ports, what in ((starts, "inputs"), (ends, "outputs")):
        if len(ports) != 1:
            names = f" ({listed(ports)})" if ports else ""
            problems.append(f"the graph has {len(ports)} {what}{names}; a chain has one.")
    for near, what, shape in (
        (following, "feeds", "without branches"),
        (preceding, "is fed by", "without joins"),
    ):
        for name, others in near.items():
            if len(others) > 1:
                problems.append(
                    f"node {name} {what} {len(others)} nodes ({listed(others)}); netx holds a "
                    f"chain {shape}. Recurrence is a spiking neuron that feeds itself through "
                    f"Linear, Affine or Scale nodes."
                )
    cycles = _cycles(edges)
    for cycle in cycles:
        problems.append(
            f"nodes {_way(cycle)} form a cycle that is not recurrence: a spiking "
            f"neuron that feeds itself through Linear, Affine or Scale nodes."
        )
    on_the_way = _reachable(following, starts) & _reachable(preceding, ends)
    lost = sorted(set(nodes) - on_the_way - {*inside, *starts, *ends}.union(*cycles))
    if lost and starts and ends:
        problems.append(f"nodes {listed(lost)} are not on the way from the input to the output.")
    order = dict.fromkeys(starts[:1])
    name = starts[0] if starts else ""
    while (onward := following.get(name)) and onward[0] not in order and name in order:
        name = onward[0]
        order[name] = None
    return list(order)


def _cycles(edges: Sequence[Edge]) -> list[list[str]]:
    """Cycles, found one after another: each is broken before the next is looked for. Ten at most."""
    cycles: list[list[str]] = []
    edges = list(edges)
    while len(cycles) < 10:
        sorter: TopologicalSorter[str] = TopologicalSorter()
        for a, b in edges:
            sorter.add(b, a)
        try:
            sorter.prepare()
        except CycleError as error:
            *cycle, last = error.args[1]
            cycles.append(cycle)
            edges.remove((cycle[-1], last))
        else:
            break
    return cycles


def _way(cycle: Sequence[str]) -> str:
    """A cycle for a message."""
    if len(cycle) > SHOWN:
        return f"{' -> '.join(cycle[:SHOWN])} -> ... ({len(cycle)} in all)"
    return " -> ".join([*cycle, cycle[0]])


def _reachable(near: Mapping[str, list[str]], starts: Sequence[str]) -> set[str]:
    reached, todo = set(starts), list(starts)
    while todo:
        new = [n for n in near.get(todo.pop(), []) if n not in reached]
        reached.update(new)
        todo += new
    return reached
