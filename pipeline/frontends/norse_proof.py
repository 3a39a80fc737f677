"""Is a graph the network that it was made from? Every layer of both, on the same frames, in float64."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ..float.execute import execute
from ..graph import READOUTS, chain
from .norse_modules import UnsupportedModuleError
from .place import Place

STEPS = 8
GAINS = (1.0, 1.0, 8.0, 64.0, 1024.0)
"""Factors of the random frames, one for each sample: strong inputs reach deep layers."""
LAST_BITS = 1e-12
"""How far voltages may be off, as a part of the layer's largest."""

PROMISES: dict[type[nn.Module], float] = {
    norse.IAFCell: 0.0,
    norse.IAF: 0.0,
    norse.LIFBoxCell: 0.0,
    norse.LIFCell: 0.0,
    norse.LIF: 0.0,
    norse.LIBoxCell: 0.0,
    norse.LICell: 0.0,
    norse.LI: 0.0,
    norse.LIFRecurrentCell: LAST_BITS,
    norse.LIFRecurrent: LAST_BITS,
    norse.LILinearCell: LAST_BITS,
    nn.MaxPool2d: 0.0,
}
"""By how much voltages may differ from Norse in float64, where the same currents reach the cell.

0: they are equal, bit for bit. `LAST_BITS`: the cell sums over synapses itself, which torch does in
another order for another batch. Behind any layer with weights, voltages are equal up to `LAST_BITS`
for that reason. Spikes are compared with `==` always. norse.LI itself starts from v_leak in float32.
"""


def random_frames(shape: Sequence[int]) -> Tensor:
    """Frames (time, sample, *shape), always the same: single spikes, and numbers of either sign."""
    generator = torch.Generator().manual_seed(0)
    frames = torch.rand(STEPS, len(GAINS), *shape, generator=generator, dtype=torch.float64) - 0.4
    frames[:, 0] = (frames[:, 0] > 0).double()
    return frames * torch.tensor(GAINS).double().reshape(-1, *(1,) * len(shape))


def prove(graph: nir.NIRGraph, frames: Tensor, places: Sequence[Place]) -> None:
    """Compare what every layer of a model did (`trace`) with what `execute` does on the same frames.

    Spikes with `==`; voltages, where they are known and no spike has reset them, and readouts up to
    `LAST_BITS` of the layer's largest. UnsupportedModuleError names the first layer that differs.
    """
    ours = execute(graph, frames.transpose(0, 1))
    nodes = dict(chain(graph))
    answering = [place for place in places if place.answers]
    for index, (name, place) in enumerate(zip(ours.names, answering, strict=True)):
        theirs = place.outputs.transpose(0, 1).numpy()
        if isinstance(nodes[name], READOUTS):
            off = _distance(ours.voltage[index], theirs)
        else:
            if not np.array_equal(ours.spikes[index], theirs):
                different = np.moveaxis(ours.spikes[index] != theirs, 1, 0)
                raise _difference(
                    name,
                    place,
                    f"{np.count_nonzero(different)} of {different.size} spikes, first in step "
                    f"{np.argwhere(different)[0][0]}",
                )
            off = 0.0
            if place.voltage is not None:
                silent = theirs == 0
                voltage = place.voltage.transpose(0, 1).numpy()
                off = _distance(ours.voltage[index][silent], voltage[silent])
        if not off <= LAST_BITS:
            raise _difference(name, place, f"voltages by {off:.3g} of their largest")


def _distance(a: NDArray[Any], b: NDArray[Any]) -> float:
    return float(np.abs(a - b).max(initial=0) / max(1.0, np.abs(b).max(initial=0)))


def _difference(name: str, place: Place, what: str) -> UnsupportedModuleError:
    return UnsupportedModuleError(
        f"module {name.rpartition(':')[0]} ({type(place.module).__name__}) does something else in the "
        f"graph than in the model's own forward: {what}. Its equation is not the one that from_norse "
        f"states."
    )
