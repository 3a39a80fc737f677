"""Where messages go: from each neuron or input to the cores that listen."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ..arrays import Integers
from ..network.layers import Conv, Dense, Input
from ..network.network import Network, Population
from .placement import Box, Placement


@dataclass(frozen=True)
class Routes:
    """Where the messages of a source go: those of element e are rows start[e] .. start[e + 1].

    Elements in (C, H, W) order. A row: the receiving core of the placement, the synapses of non-zero
    weight there, and all synapses.
    """

    start: Integers
    core: NDArray[np.int32]
    synops: NDArray[np.int32]
    fanout: NDArray[np.int32]


def routes(network: Network, placement: Placement) -> tuple[Routes, ...]:
    """`Routes` of the input, then of each population: to the next layer, and to itself if recurrent."""
    by_source: list[list[tuple[Integers, ...]]] = [[] for _ in range(len(network.populations) + 1)]
    for k, core in enumerate(placement.cores):
        p = network.populations[core.population]
        for source, recurrent in ((p.index, False), (p.index + 1, True)):
            if recurrent and not (isinstance(p.layer, Dense) and p.layer.recurrent is not None):
                continue
            every = fan_out(p, zeros=True, box=core.box, recurrent=recurrent).ravel()
            effective = fan_out(p, zeros=False, box=core.box, recurrent=recurrent).ravel()
            at = np.flatnonzero(every)
            by_source[source].append((at, np.full(len(at), k), effective[at], every[at]))
    shapes = [network.input_shape, *(p.shape for p in network.populations)]
    return tuple(
        _routes(rows, int(np.prod(shape))) for rows, shape in zip(by_source, shapes, strict=True)
    )


def _routes(rows: Sequence[tuple[Integers, ...]], size: int) -> Routes:
    columns = [
        np.concatenate([row[i] for row in rows]) if rows else np.zeros(0, np.int64)
        for i in range(4)
    ]
    order = np.argsort(columns[0], kind="stable")
    start = np.concatenate([[0], np.cumsum(np.bincount(columns[0], minlength=size))])
    core, synops, fanout = (column[order].astype(np.int32) for column in columns[1:])
    return Routes(start.astype(np.int64), core, synops, fanout)


def fan_out(
    population: Population, *, zeros: bool, box: Box | None = None, recurrent: bool = False
) -> Integers:
    """Synapses leaving each input of a layer, shape `population.input_shape`, int64.

    `zeros` counts synapses of weight zero too. Taps that fall on the padding are no synapses. `box`:
    to these neurons alone. `recurrent`: synapses leaving each neuron of the layer itself, instead.
    """
    layer = population.layer
    if isinstance(layer, Input):
        return np.zeros(population.input_shape, np.int64)
    box = box or tuple((0, n) for n in population.shape)
    if isinstance(layer, Conv):
        return _conv_fan_out(layer, population, box, zeros)
    matrices = [layer.recurrent] if recurrent else [layer.weight, layer.imaginary]
    parts = [matrix[slice(*box[0])] for matrix in matrices if matrix is not None]
    present = [np.ones(part.shape, bool) if zeros else part != 0 for part in parts]
    inputs: Integers = np.concatenate(present).sum(axis=0, dtype=np.int64)
    return inputs


def _conv_fan_out(layer: Conv, population: Population, box: Box, zeros: bool) -> Integers:
    height, width = population.input_shape[1:]
    (first, last), rows, columns = box
    present = np.ones(layer.weight.shape, bool) if zeros else layer.weight != 0
    outside = np.ones(len(present), bool)
    outside[first:last] = False
    present = present & ~outside[:, None, None, None]
    per_group = present.reshape(layer.groups, -1, *present.shape[1:]).sum(axis=1)
    taps = per_group.reshape(-1, *present.shape[2:])  # (in channels, ky, kx)
    out = np.zeros(population.input_shape, np.int64)
    for ky in range(taps.shape[1]):
        ys = np.arange(*rows) * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
        ys = ys[(ys >= 0) & (ys < height)]
        for kx in range(taps.shape[2]):
            xs = np.arange(*columns) * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
            xs = xs[(xs >= 0) & (xs < width)]
            out[:, ys[:, None], xs] += taps[:, ky, kx, None, None]
    return out
