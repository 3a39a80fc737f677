"""Two linear maps in a row made one: exact in real arithmetic."""

from __future__ import annotations

from typing import Any, TypeAlias

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from ..graph import Chain, LoweringError, conv2d

Array: TypeAlias = NDArray[Any]


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


def plain_convolution(node: nir.Conv1d | nir.Conv2d) -> nir.Conv2d:
    """A convolution as a Conv2d with numbers for padding; a Conv1d has one row.

    Padding "same" adds d (k - 1) zeros, the odd one at the end. Where it is odd, the kernel is written
    out to dilation 1 and gets a zero in front, so that both ends need the same.
    """
    weight = np.asarray(node.weight, float)
    padding, dilation = node.padding, tuple(node.dilation)
    stride, size = tuple(node.stride), tuple(np.ravel(node.input_shape))
    if padding == "same":
        spans = [d * (k - 1) for d, k in zip(dilation, weight.shape[2:], strict=True)]
        for axis, span in enumerate(spans):
            if span % 2:
                weight = _spread(weight, axis + 2, dilation[axis])
                dilation = (*dilation[:axis], 1, *dilation[axis + 1 :])
        padding = tuple((span + 1) // 2 for span in spans)
    if isinstance(node, nir.Conv1d):
        weight = weight[:, :, None, :]
        size, stride, padding, dilation = (1, *size), (1, *stride), (0, *padding), (1, *dilation)
    plain = conv2d(
        (int(size[0]), int(size[1])), weight, node.bias, stride, padding, dilation, node.groups
    )
    plain.metadata = node.metadata
    return plain


def _spread(weight: Array, axis: int, dilation: int) -> Array:
    """The kernel along one axis at dilation 1, with one zero in front."""
    shape = list(weight.shape)
    shape[axis] = 1 + dilation * (weight.shape[axis] - 1) + 1
    out = np.zeros(shape)
    np.moveaxis(out, axis, 0)[1::dilation] = np.moveaxis(weight, axis, 0)
    return out
