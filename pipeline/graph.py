"""NIR graphs that are chains of layers, with recurrence inside a layer: the shape netx can hold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

Node: TypeAlias = tuple[str, nir.NIRNode]
Chain: TypeAlias = list[Node]
Edge: TypeAlias = tuple[str, str]

READOUTS = (nir.LI, nir.CubaLI, nir.I)
"""Neurons that never spike; they put out their voltage."""
NEURONS = (nir.LIF, nir.CubaLIF, nir.IF, nir.Threshold, *READOUTS)
RECURRENT = (nir.Affine, nir.Linear, nir.Scale)
"""Linear maps that may lie between a neuron and itself."""
DELAY_TOLERANCE = 1e-6
"""A delay may differ from whole steps by this fraction of a step."""


class LoweringError(ValueError):
    """A graph that has no exact image as a chain of synapses and neurons."""


class GraphError(LoweringError):
    """A graph that cannot be run at all: every problem found, one per line."""

    def __init__(self, problems: Sequence[str]) -> None:
        self.problems = tuple(problems)
        lines = "\n".join(f"  - {problem}" for problem in problems)
        super().__init__(f"the graph cannot be used:\n{lines}")


def flatten_subgraphs(graph: nir.NIRGraph) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
    """The nodes and edges of a graph with every subgraph dissolved.

    Node n of subgraph s becomes `s.n`; its Input and Output disappear, since an edge to s goes to
    what follows its Input, and one from s comes from what precedes its Output. Raises GraphError
    where a subgraph has not one of each.
    """
    problems: list[str] = []
    nodes, edges = _dissolve(graph, "", problems)
    if problems:
        raise GraphError(problems)
    return nodes, edges


def _dissolve(
    graph: nir.NIRGraph, prefix: str, problems: list[str]
) -> tuple[dict[str, nir.NIRNode], list[Edge]]:
    nodes: dict[str, nir.NIRNode] = {}
    edges = [(f"{prefix}{a}", f"{prefix}{b}") for a, b in graph.edges]
    for key, node in graph.nodes.items():
        name = f"{prefix}{key}"
        if not isinstance(node, nir.NIRGraph):
            nodes[name] = node
            continue
        inner, between = _dissolve(node, f"{name}.", problems)
        first = [n for n in node.nodes if isinstance(node.nodes[n], nir.Input)]
        last = [n for n in node.nodes if isinstance(node.nodes[n], nir.Output)]
        if len(first) != 1 or len(last) != 1:
            problems.append(
                f"subgraph {name} has {len(first)} inputs and {len(last)} outputs; a chain needs "
                f"one of each."
            )
            continue
        entry, exit_ = f"{name}.{first[0]}", f"{name}.{last[0]}"
        edges = [(exit_ if a == name else a, entry if b == name else b) for a, b in edges] + between
        for end in (entry, exit_):
            before = [a for a, b in edges if b == end]
            after = [b for a, b in edges if a == end]
            edges = [e for e in edges if end not in e] + list(itertools.product(before, after))
            del inner[end]
        nodes |= inner
    return nodes, edges


def find_loops(nodes: Mapping[str, nir.NIRNode], edges: Sequence[Edge]) -> dict[str, list[str]]:
    """Recurrence: for each neuron that feeds itself, the linear maps on the way.

    A path counts as recurrence if it leaves a neuron, passes Linear, Affine or Scale nodes that
    have no other connection, and ends in the same neuron.
    """
    loops: dict[str, list[str]] = {}
    following, preceding = _neighbours(edges)
    for name, node in nodes.items():
        if not isinstance(node, NEURONS):
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
    for found, what in ((starts, "inputs"), (ends, "outputs")):
        if len(found) != 1:
            names = f" ({', '.join(found)})" if found else ""
            problems.append(f"the graph has {len(found)} {what}{names}; a chain has one.")
    for near, what, shape in (
        (following, "feeds", "without branches"),
        (preceding, "is fed by", "without joins"),
    ):
        for name, others in near.items():
            if len(others) > 1:
                problems.append(
                    f"node {name} {what} {len(others)} nodes ({', '.join(others)}); netx holds a "
                    f"chain {shape}. Recurrence is a neuron that feeds itself through Linear, "
                    f"Affine or Scale nodes."
                )
    cycles = _cycles(nodes, following)
    for cycle in cycles:
        problems.append(
            f"nodes {' -> '.join([*cycle, cycle[0]])} form a cycle that is not recurrence: a neuron "
            f"that feeds itself through Linear, Affine or Scale nodes."
        )
    on_the_way = _reachable(following, starts) & _reachable(preceding, ends)
    lost = sorted(set(nodes) - on_the_way - {*inside, *starts, *ends}.union(*cycles))
    if lost and starts and ends:
        problems.append(f"nodes {', '.join(lost)} are not on the way from the input to the output.")
    order = starts[:1]
    while order and following.get(order[-1]) and following[order[-1]][0] not in order:
        order.append(following[order[-1]][0])
    return order


def _cycles(
    nodes: Mapping[str, nir.NIRNode], following: Mapping[str, list[str]]
) -> list[list[str]]:
    """One cycle for every edge that leads back, depth first."""
    cycles: list[list[str]] = []
    path: list[str] = []
    done: set[str] = set()

    def visit(name: str) -> None:
        path.append(name)
        for after in following.get(name, []):
            if after in path:
                cycles.append(path[path.index(after) :])
            elif after not in done:
                visit(after)
        done.add(path.pop())

    for name in nodes:
        if name not in done:
            visit(name)
    return cycles


def _reachable(near: Mapping[str, list[str]], starts: Sequence[str]) -> set[str]:
    found, todo = set(starts), list(starts)
    while todo:
        new = [n for n in near.get(todo.pop(), []) if n not in found]
        found.update(new)
        todo += new
    return found


def chain(graph: nir.NIRGraph) -> Chain:
    """The nodes of a graph in order, without Input, Output and recurrent maps.

    Subgraphs are dissolved. Raises GraphError where the graph is no chain.
    """
    nodes, edges = flatten_subgraphs(graph)
    problems: list[str] = []
    order = structure(nodes, edges, problems)
    if problems:
        raise GraphError(problems)
    return [(n, nodes[n]) for n in order if not isinstance(nodes[n], (nir.Input, nir.Output))]


def recurrence(graph: nir.NIRGraph) -> dict[str, Chain]:
    """For each neuron that feeds itself, the linear maps through which it does, in order."""
    nodes, edges = flatten_subgraphs(graph)
    loops = find_loops(nodes, edges)
    return {neuron: [(n, nodes[n]) for n in path] for neuron, path in loops.items()}


def input_shape(graph: nir.NIRGraph) -> tuple[int, ...]:
    """The shape of one frame, from the graph's Input node."""
    return tuple(int(n) for n in next(iter(graph.inputs.values())).input_type["input"])


@dataclass(frozen=True)
class Dynamics:
    """What a neuron's metadata says about its reset and its number grid.

    `reset`: "zero" (v <- v_reset) or "subtract" (v <- v - (v_threshold - v_reset)). `reset_delay`: 0
    in the step of the spike, 1 in the next one (see `execute`). `state_grid`: N if states are whole
    multiples of 1/N, each decay product truncated toward zero, else None.
    """

    reset: str = "zero"
    reset_delay: int = 0
    state_grid: int | None = None


def dynamics(node: nir.NIRNode) -> Dynamics:
    """The `Dynamics` of a neuron, from `node.metadata` (where a file may leave bytes)."""
    metadata = node.metadata or {}
    reset = metadata.get("reset", "zero")
    grid = metadata.get("state_grid")
    return Dynamics(
        reset.decode() if isinstance(reset, bytes) else str(reset),
        int(metadata.get("reset_delay", 0)),
        None if grid is None else int(grid),
    )


def delay_steps(node: nir.Delay, dt: float) -> NDArray[np.int64]:
    """The delays of a nir.Delay (seconds) in whole steps, in its own shape."""
    steps: NDArray[np.int64] = np.rint(np.asarray(node.delay, float) / dt).astype(np.int64)
    return steps


@dataclass(frozen=True)
class Stage:
    """One layer of a lowered graph, which is what one layer of a netx file holds.

    Messages pass `flatten`, are delayed, weighted by `synapse` and summed, with the layer's own
    spikes of the step before weighted by `recurrent`; `neuron` answers. `delay`: whole steps,
    broadcasting to the (out, in) weights, (1, in) for a delay of inputs and (out, 1) of outputs.
    `name`: that of the neuron node.
    """

    name: str
    synapse: nir.Affine | nir.Conv2d
    neuron: nir.NIRNode
    flatten: bool = False
    recurrent: nir.Affine | None = None
    delay: NDArray[np.int64] | None = None


def stages(graph: nir.NIRGraph) -> list[Stage]:
    """The layers of a lowered graph (see `lower`), in order."""
    out: list[Stage] = []
    loops = recurrence(graph)
    synapse, flatten, delay = None, False, np.zeros((1, 1), np.int64)
    for name, node in chain(graph):
        if isinstance(node, NEURONS):
            if synapse is None:
                raise LoweringError(f"neuron {name} has no synapse before it; `lower` the graph.")
            loop = loops.get(name)
            recurrent = loop[0][1] if loop else None
            out.append(
                Stage(name, synapse, node, flatten, recurrent, delay if delay.any() else None)
            )
            synapse, flatten, delay = None, False, np.zeros((1, 1), np.int64)
        elif isinstance(node, nir.Flatten):
            flatten = True
        elif isinstance(node, nir.Delay):
            steps = delay_steps(node, float(graph.metadata["dt"])).ravel()
            if (steps == steps[0]).all():
                steps = steps[:1]
            delay = delay + (steps[None, :] if synapse is None else steps[:, None])
        else:
            synapse = node
    return out


def chain_graph(
    nodes: Sequence[Node],
    input_shape: tuple[int, ...],
    metadata: Mapping[str, Any],
    loops: Mapping[str, Sequence[Node]] | None = None,
) -> nir.NIRGraph:
    """A NIR graph of nodes one after another, between an Input and an Output node.

    `loops`: for each recurrent neuron, the linear maps from it to itself.
    """
    loops = loops or {}
    everything = [*nodes, *itertools.chain.from_iterable(loops.values())]
    last = nodes[-1][1].output_type["output"] if nodes else np.array(input_shape)
    named = {
        "input": nir.Input({"input": np.array(input_shape)}),
        **dict(everything),
        "output": nir.Output({"output": np.array(last)}),
    }
    if len(named) != len(everything) + 2:
        raise ValueError("node names of a chain must differ, and not be 'input' or 'output'.")
    edges = list(itertools.pairwise(["input", *(name for name, _ in nodes), "output"]))
    for neuron, path in loops.items():
        edges += itertools.pairwise([neuron, *(name for name, _ in path), neuron])
    return nir.NIRGraph(named, edges, metadata=dict(metadata), type_check=False)


def conv2d(
    input_size: tuple[int, int],
    weight: NDArray[Any],
    bias: NDArray[Any],
    stride: Any = (1, 1),
    padding: Any = (0, 0),
    dilation: Any = (1, 1),
    groups: int = 1,
) -> nir.Conv2d:
    """A nir.Conv2d with the right types.

    nir 1.0.8 counts the input channels of one group only, and takes square kernels for granted.
    """
    node = nir.Conv2d(input_size, weight, stride, padding, dilation, groups, bias)
    size = [
        (n + 2 * p - d * (k - 1) - 1) // s + 1
        for n, p, d, k, s in zip(
            input_size, node.padding, node.dilation, weight.shape[2:], node.stride, strict=True
        )
    ]
    node.input_type = {"input": np.array([weight.shape[1] * groups, *input_size])}
    node.output_type = {"output": np.array([len(weight), *size])}
    return node
