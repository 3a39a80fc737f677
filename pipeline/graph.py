"""NIR graphs that are chains: the only shape netx can hold."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, TypeAlias

import nir
import numpy as np
from numpy.typing import NDArray

Node: TypeAlias = tuple[str, nir.NIRNode]
Chain: TypeAlias = list[Node]

NEURONS = (nir.LIF, nir.CubaLIF, nir.IF, nir.LI, nir.CubaLI)
READOUTS = (nir.LI, nir.CubaLI)


class LoweringError(ValueError):
    """A graph that has no exact image as a chain of synapses and neurons."""


def chain(graph: nir.NIRGraph) -> Chain:
    """The nodes of a graph in order, without Input and Output. Refuses branches and loops."""
    following: dict[str, list[str]] = {}
    for source, target in graph.edges:
        following.setdefault(source, []).append(target)
    starts = [n for n, node in graph.nodes.items() if isinstance(node, nir.Input)]
    if len(starts) != 1:
        raise LoweringError(f"the graph has {len(starts)} inputs; netx holds a chain with one.")
    name, out, seen = starts[0], [], set(starts)
    while following.get(name):
        if len(following[name]) > 1:
            raise LoweringError(
                f"node {name} feeds {len(following[name])} nodes; netx holds a chain without branches."
            )
        name = following[name][0]
        if name in seen:
            raise LoweringError(f"node {name} is part of a loop; netx holds a chain.")
        seen.add(name)
        if not isinstance(graph.nodes[name], nir.Output):
            out.append((name, graph.nodes[name]))
    if len(seen) != len(graph.nodes):
        raise LoweringError(f"nodes {sorted(set(graph.nodes) - seen)} are not on the chain.")
    return out


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
    synapse, flatten = None, False
    for name, node in chain(graph):
        if isinstance(node, NEURONS):
            assert synapse is not None
            out.append(Stage(name, synapse, node, flatten))
            synapse, flatten = None, False
        elif isinstance(node, nir.Flatten):
            flatten = True
        else:
            synapse = node
    return out


def chain_graph(
    nodes: Sequence[tuple[str, nir.NIRNode]], input_shape: tuple[int, ...], metadata: dict[str, Any]
) -> nir.NIRGraph:
    """A NIR graph of nodes one after another, between an Input and an Output node."""
    named = dict(nodes)
    if len(named) != len(nodes):
        raise ValueError("node names of a chain must differ.")
    last = nodes[-1][1].output_type["output"] if nodes else np.array(input_shape)
    everything = {
        "input": nir.Input({"input": np.array(input_shape)}),
        **named,
        "output": nir.Output({"output": np.array(last)}),
    }
    order = list(everything)
    return nir.NIRGraph(everything, list(itertools.pairwise(order)), metadata=metadata)


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
