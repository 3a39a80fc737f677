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


class GraphError(LoweringError):
    """A graph that cannot be run at all: every problem found, one per line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
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
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        inner: dict[str, nir.NIRNode] = {name: node}
        if isinstance(node, nir.NIRGraph):
            first = [n for n in node.nodes if isinstance(node.nodes[n], nir.Input)]
            last = [n for n in node.nodes if isinstance(node.nodes[n], nir.Output)]
            if len(first) == len(last) == 1:
                inner, between = _dissolve(node, f"{name}.", problems)
                ends = f"{name}.{first[0]}", f"{name}.{last[0]}"
                edges = [
                    (ends[1] if a == name else a, ends[0] if b == name else b) for a, b in edges
                ]
                edges = _bridge([*edges, *between], ends)
                inner = {n: m for n, m in inner.items() if n not in ends}
            else:
                problems.append(
                    f"subgraph {name} has {len(first)} inputs and {len(last)} outputs; a chain "
                    f"needs one of each."
                )
        problems += [f"the name {n} stands for two nodes." for n in inner if n in nodes]
        nodes |= inner
    return nodes, edges


def _bridge(edges: list[Edge], without: Sequence[str]) -> list[Edge]:
    """The edges past some nodes: from each that precedes them to each that follows."""
    for name in without:
        before = [a for a, b in edges if b == name]
        after = [b for a, b in edges if a == name]
        edges = [e for e in edges if name not in e] + list(itertools.product(before, after))
    return edges


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
            path = [start]
            while (
                isinstance(nodes.get(path[-1]), RECURRENT)
                and len(following.get(path[-1], [])) == len(preceding[path[-1]]) == 1
                and following[path[-1]][0] not in path
            ):
                path.append(following[path[-1]][0])
            if len(path) > 1 and path[-1] == name and name not in loops:
                loops[name] = path[:-1]
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
            names = f" ({', '.join(ports)})" if ports else ""
            problems.append(f"the graph has {len(ports)} {what}{names}; a chain has one.")
    for near, what, shape in (
        (following, "feeds", "without branches"),
        (preceding, "is fed by", "without joins"),
    ):
        for name, others in near.items():
            if len(others) > 1:
                problems.append(
                    f"node {name} {what} {len(others)} nodes ({', '.join(others)}); netx holds a "
                    f"chain {shape}. Recurrence is a spiking neuron that feeds itself through "
                    f"Linear, Affine or Scale nodes."
                )
    cycles = _cycles(edges)
    for cycle in cycles:
        problems.append(
            f"nodes {' -> '.join([*cycle, cycle[0]])} form a cycle that is not recurrence: a spiking "
            f"neuron that feeds itself through Linear, Affine or Scale nodes."
        )
    on_the_way = _reachable(following, starts) & _reachable(preceding, ends)
    lost = sorted(set(nodes) - on_the_way - {*inside, *starts, *ends}.union(*cycles))
    if lost and starts and ends:
        problems.append(f"nodes {', '.join(lost)} are not on the way from the input to the output.")
    order = starts[:1]
    while order and following.get(order[-1]) and following[order[-1]][0] not in order:
        order.append(following[order[-1]][0])
    return order


def _cycles(edges: Sequence[Edge]) -> list[list[str]]:
    """Cycles, found one after another: each is broken before the next is looked for."""
    cycles, edges = [], list(edges)
    while True:
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
            return cycles


def _reachable(near: Mapping[str, list[str]], starts: Sequence[str]) -> set[str]:
    reached, todo = set(starts), list(starts)
    while todo:
        new = [n for n in near.get(todo.pop(), []) if n not in reached]
        reached.update(new)
        todo += new
    return reached
