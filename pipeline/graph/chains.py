"""NIR graphs that are chains of layers, with recurrence inside a layer: the shape netx can hold."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import nir
import numpy as np
from numpy.typing import NDArray

from .topology import (
    NEURONS,
    Chain,
    GraphError,
    LoweringError,
    Node,
    UnknownNodeError,
    find_loops,
    flatten_subgraphs,
    structure,
)


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


def segments(nodes: Chain) -> list[Chain]:
    """The chain cut behind every neuron."""
    out: list[Chain] = [[]]
    for name, node in nodes:
        out[-1].append((name, node))
        if isinstance(node, NEURONS):
            out.append([])
    return [segment for segment in out if segment]


def recurrence(graph: nir.NIRGraph) -> dict[str, Chain]:
    """For each neuron that feeds itself, the linear maps through which it does, in order."""
    nodes, edges = flatten_subgraphs(graph)
    loops = find_loops(nodes, edges)
    return {neuron: [(n, nodes[n]) for n in path] for neuron, path in loops.items()}


def input_shape(graph: nir.NIRGraph) -> tuple[int, ...]:
    """The shape of one frame, from the graph's Input node."""
    return tuple(int(n) for n in next(iter(graph.inputs.values())).input_type["input"])


RESETS = ("zero", "subtract", "subtract-at-once", "none")
"""What a neuron does with v after its spike, see `FloatNetwork`."""


@dataclass(frozen=True)
class Dynamics:
    """What a neuron's metadata says about its reset and its number grid.

    `reset`: one of `RESETS`. `reset_delay`: 0 in the step of the spike, 1 in the next one (of "zero"
    and "subtract", see `FloatNetwork`). `state_grid`: N if states are whole
    multiples of 1/N, each decay product truncated toward zero, else None.
    """

    reset: str = "zero"
    reset_delay: int = 0
    state_grid: int | None = None


def dynamics(node: nir.NIRNode) -> Dynamics:
    """The `Dynamics` of a neuron, from `node.metadata` (where a file may leave bytes).

    Raises ValueError for a `reset_delay` or `state_grid` that is no whole number.
    """
    metadata = node.metadata or {}
    reset = metadata.get("reset", "zero")
    grid = metadata.get("state_grid")
    return Dynamics(
        reset.decode() if isinstance(reset, bytes) else str(reset),
        _whole_number("reset_delay", metadata.get("reset_delay", 0)),
        None if grid is None else _whole_number("state_grid", grid),
    )


def _whole_number(name: str, value: Any) -> int:
    number = np.asarray(value)
    if number.size != 1 or number.dtype.kind not in "fiub" or number.item() % 1:
        raise ValueError(f"{name} is {value!r}; it is a whole number.")
    return int(number.item())


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
    """The layers of a lowered graph (see `lower`), in order. Raises LoweringError for any other graph."""
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
        elif isinstance(node, (nir.Affine, nir.Conv2d)):
            synapse = node
        else:
            raise UnknownNodeError(node, "node of a lowered graph")
    return out


def chain_graph(
    nodes: Sequence[Node],
    input_shape: tuple[int, ...],
    metadata: Mapping[str, Any],
    loops: Mapping[str, Sequence[Node]] | None = None,
) -> nir.NIRGraph:
    """A NIR graph of nodes one after another, between an Input and an Output node.

    `loops`: for each recurrent neuron, the linear maps from it to itself. Raises ValueError where two
    nodes have one name.
    """
    loops = loops or {}
    everything = [*nodes, *itertools.chain.from_iterable(loops.values())]
    last = nodes[-1][1].output_type["output"] if nodes else np.array(input_shape)
    named = {
        "input": nir.Input({"input": np.array(input_shape)}),
        **dict(everything),
        "output": nir.Output({"output": None if last is None else np.array(last)}),
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
