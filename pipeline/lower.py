"""Graph passes: from any chain of linear maps and neurons to alternating synapses and neurons.

Each pass takes and returns a chain of (name, NIR node) and is exact in real arithmetic. After
`lower` every neuron has exactly one Affine or Conv2d (and perhaps a Flatten) before it: what a netx
layer is.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from .graph import NEURONS, READOUTS, Chain, LoweringError, chain, chain_graph, conv2d

Array: TypeAlias = NDArray[Any]


def lower(graph: nir.NIRGraph) -> nir.NIRGraph:
    """The same network as alternating synapses and neurons, passes in the order of `PASSES`.

    Raises LoweringError where a pass finds its requirement broken.
    """
    nodes = chain(graph)
    for one_pass in PASSES:
        nodes = one_pass(nodes)
    shape = tuple(int(n) for n in next(iter(graph.inputs.values())).input_type["input"])
    return chain_graph(nodes, shape, dict(graph.metadata))


def linear_as_affine(nodes: Chain) -> Chain:
    """Linear W becomes Affine (W, 0)."""
    return [
        (name, nir.Affine(node.weight, np.zeros(len(node.weight))))
        if isinstance(node, nir.Linear)
        else (name, node)
        for name, node in nodes
    ]


def pooling_as_convolution(nodes: Chain) -> Chain:
    """Average or sum pooling becomes a depthwise convolution of 1 / k^2, or 1."""
    out: Chain = []
    for name, node in nodes:
        if isinstance(node, (nir.AvgPool2d, nir.SumPool2d)):
            channels, height, width = (int(n) for n in node.input_type["input"])
            area = float(np.prod(node.kernel_size)) if isinstance(node, nir.AvgPool2d) else 1.0
            weight = np.full((channels, 1, *node.kernel_size), 1 / area)
            node = conv2d(
                (height, width),
                weight,
                np.zeros(channels),
                tuple(map(int, node.stride)),
                tuple(map(int, node.padding)),
                groups=channels,
            )
        out.append((name, node))
    return out


def fold_linear_maps(nodes: Chain) -> Chain:
    """Two linear maps with no neuron between them become one: batch norm, pooling, plain chains.

    Conv2d after Conv2d, Affine after Affine, and Affine after a flattened Conv2d. A padded second
    convolution requires that the first has no bias and that no window of the first that lies in the
    padding touches its input.
    """
    out: Chain = []
    for name, node in nodes:
        out.append((name, node))
        while (folded := _fold_tail(out)) is not None:
            out = folded
    return out


def check_alternation(nodes: Chain) -> Chain:
    """Every neuron needs synapses before it, and nothing may follow the last neuron."""
    linear: str | None = None
    for i, (name, node) in enumerate(nodes):
        if isinstance(node, NEURONS):
            if linear is None:
                raise LoweringError(
                    f"neuron {name} has no Linear or Conv2d before it; put one there (identity "
                    f"weights do)."
                )
            if isinstance(node, READOUTS) and i != len(nodes) - 1:
                raise LoweringError(f"{name} never spikes, so it can only be the last layer.")
            linear = None
        elif isinstance(node, (nir.Affine, nir.Conv2d)):
            if linear is not None:
                raise LoweringError(f"{linear} and {name} have no neuron between and do not fold.")
            linear = name
        elif not isinstance(node, nir.Flatten):
            raise LoweringError(f"{name} is a {type(node).__name__}, which netx cannot hold.")
    if linear is not None or not nodes or not isinstance(nodes[-1][1], NEURONS):
        raise LoweringError(
            f"the last node, {nodes[-1][0] if nodes else 'input'}, is no neuron. End with a spiking "
            f"cell (rate readout) or a leaky integrator (voltage readout)."
        )
    return nodes


PASSES: tuple[Callable[[Chain], Chain], ...] = (
    linear_as_affine,
    pooling_as_convolution,
    fold_linear_maps,
    check_alternation,
)


def _fold_tail(nodes: Chain) -> Chain | None:
    """The chain with its last two or three linear nodes made one, or None where nothing folds."""
    kinds = [type(node) for _, node in nodes[-3:]]
    if kinds[-2:] in ([nir.Conv2d, nir.Conv2d], [nir.Affine, nir.Affine]):
        (_, first), (name, second) = nodes[-2:]
        try:
            fold = _conv_conv if kinds[-1] is nir.Conv2d else _affine_affine
            return [*nodes[:-2], (name, fold(first, second))]
        except LoweringError as error:
            raise LoweringError(f"{nodes[-2][0]} into {name}: {error}") from None
    if kinds == [nir.Conv2d, nir.Flatten, nir.Affine]:
        (_, first), (flat, _), (name, second) = nodes[-3:]
        flatten = nir.Flatten({"input": first.input_type["input"]}, start_dim=0, end_dim=-1)
        return [*nodes[:-3], (flat, flatten), (name, _conv_affine(first, second))]
    return None


def _affine_affine(first: nir.Affine, second: nir.Affine) -> nir.Affine:
    """W = W2 W1, b = W2 b1 + b2."""
    return nir.Affine(second.weight @ first.weight, second.weight @ first.bias + second.bias)


def _conv_affine(first: nir.Conv2d, second: nir.Affine) -> nir.Affine:
    """W = W2 C, with C the matrix of the convolution: its adjoint applied to the rows of W2."""
    shape = [int(n) for n in first.output_type["output"]]
    rows = torch.tensor(second.weight).reshape(-1, *shape)
    kernel = torch.tensor(first.weight)
    size = [int(n) for n in first.input_type["input"]][-2:]
    extra = [
        n - ((out - 1) * s - 2 * p + d * (k - 1) + 1)
        for n, out, s, p, d, k in zip(
            size,
            shape[1:],
            first.stride,
            first.padding,
            first.dilation,
            kernel.shape[2:],
            strict=True,
        )
    ]
    columns = torch.nn.functional.conv_transpose2d(
        rows,
        kernel,
        stride=tuple(first.stride),
        padding=tuple(first.padding),
        output_padding=tuple(extra),
        dilation=tuple(first.dilation),
        groups=first.groups,
    )
    bias = second.bias + rows.sum(dim=(2, 3)).numpy() @ first.bias
    return nir.Affine(columns.reshape(len(rows), -1).numpy(), bias)


def _conv_conv(first: nir.Conv2d, second: nir.Conv2d) -> nir.Conv2d:
    """One kernel for both: positions k2 d2 s1 + k1 d1, stride s1 s2, padding p1 + p2 s1."""
    s1, p1, d1 = (np.array(v, int) for v in (first.stride, first.padding, first.dilation))
    s2, p2, d2 = (np.array(v, int) for v in (second.stride, second.padding, second.dilation))
    size = np.array([int(n) for n in first.input_type["input"]][-2:])
    middle = np.array([int(n) for n in first.output_type["output"]][-2:])
    k1, k2 = np.array(first.weight.shape[2:]), np.array(second.weight.shape[2:])
    if p2.any():
        if first.bias.any():
            raise LoweringError(
                "a padded convolution after a map with bias does not fold. Move the bias (or batch "
                "norm) behind it, or use padding 0."
            )
        reach = d1 * (k1 - 1) + 1
        if ((reach > s1 + p1) | (middle * s1 - p1 < size)).any():
            raise LoweringError(
                f"a padded convolution after overlapping windows, or after windows that leave rows "
                f"of the {tuple(size)} input out, does not fold. Use padding 0, or an input size "
                f"that the pooling divides."
            )
    a, b = _ungrouped(first), _ungrouped(second)
    kernel = np.zeros((len(b), a.shape[1], *((k2 - 1) * d2 * s1 + (k1 - 1) * d1 + 1)))
    for y2, x2 in np.ndindex(*k2):
        for y1, x1 in np.ndindex(*k1):
            y, x = y2 * d2[0] * s1[0] + y1 * d1[0], x2 * d2[1] * s1[1] + x1 * d1[1]
            kernel[:, :, y, x] += b[:, :, y2, x2] @ a[:, :, y1, x1]
    bias = second.bias + b.sum(axis=(2, 3)) @ first.bias
    groups = 1
    if _channelwise(a):  # then the groups of the other one remain
        groups = second.groups
    elif _channelwise(b):
        groups = first.groups
    stride, padding = (tuple(int(n) for n in pair) for pair in (s1 * s2, p1 + p2 * s1))
    return conv2d(tuple(size), _grouped(kernel, groups), bias, stride, padding, groups=groups)


def _channelwise(kernel: Array) -> bool:
    """Whether every output channel sees only its own input channel."""
    return len(kernel) == kernel.shape[1] and not kernel[~np.eye(len(kernel), dtype=bool)].any()


def _ungrouped(conv: nir.Conv2d) -> Array:
    """The kernel as (out, in, ky, kx) with zeros between groups."""
    out, per_group = conv.weight.shape[:2]
    full = np.zeros((out, per_group * conv.groups, *conv.weight.shape[2:]))
    rows = out // conv.groups
    for g in range(conv.groups):
        full[g * rows : (g + 1) * rows, g * per_group : (g + 1) * per_group] = conv.weight[
            g * rows : (g + 1) * rows
        ]
    return full


def _grouped(kernel: Array, groups: int) -> Array:
    """The inverse of `_ungrouped`."""
    rows, columns = len(kernel) // groups, kernel.shape[1] // groups
    return np.concatenate(
        [kernel[g * rows : (g + 1) * rows, g * columns : (g + 1) * columns] for g in range(groups)]
    )
