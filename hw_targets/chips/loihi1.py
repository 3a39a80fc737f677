"""Intel Loihi (1): limits of a neuron core, and what a network takes of them.

Current-based neurons and single spikes only. Synapses lie in lists, one per input axon, of blocks of
at most 64 synapses (nengo-loihi, `Synapse.bits_per_axon`)::

    block = ceil((synapses * bits + 10) / 64) words of 64 bits
    bits  = weight + delay bits, and an index where an axon does not reach every neuron of its core

A convolution has no shared weights here: every input has a list of all its synapses. The chip can share
lists between inputs, so that the synapse memory of convolutions is an upper bound.
"""

from __future__ import annotations

import math
from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from ..counts.placement import Box, Mesh
from ..counts.routes import fan_out
from ..network.layers import Dense, Shape
from ..network.network import Population
from ..network.neurons import CubaLIF, Integrator
from .chip import (
    Amounts,
    Chip,
    Limit,
    Payload,
    Site,
    Violation,
    decays_have_12_bits,
    has_no_odd_wide_weights,
)

_DAVIES = "Davies et al., IEEE Micro 38(1), 2018"
_NENGO = "nengo-loihi, hardware.validate"
_BLOCK = 64  # synapses
_HEADER = 10  # bits of a block
_WORD = 64  # bits

_FEWER_INPUTS = "split the layer before, or pool"
_FEWER_VALUES = "share them within the layer"

LIMITS = (
    Limit("compartments", 1024, "neurons", f"{_DAVIES}; {_NENGO}"),
    Limit("input axons", 4096, "axons", _NENGO, _FEWER_INPUTS),
    Limit(
        "output axons",
        4096,
        "axons",
        _NENGO,
        "spread the next layer over fewer cores: fewer weight bits or neurons there",
    ),
    Limit(
        "synapse memory",
        16_384,
        "words of 64 bits",
        f"{_DAVIES}; {_NENGO}",
        "fewer inputs, smaller kernels or fewer weight bits",
    ),
    Limit("decay settings", 32, "pairs of decays", _NENGO, _FEWER_VALUES, sure=False),
    Limit("threshold settings", 16, "thresholds", _NENGO, _FEWER_VALUES, sure=False),
)


def core_resources(site: Site, box: Box, cores: int) -> Amounts:
    """What a box of neurons takes of each of `LIMITS`."""
    p = site.population
    neurons = math.prod(stop - start for start, stop in box)
    inside = tuple(slice(*ends) for ends in box)
    posts = [fan_out(p, zeros=True, box=box).ravel()]
    leaving = int(site.targets[inside].sum())
    if isinstance(p.layer, Dense) and p.layer.recurrent is not None:
        posts.append(fan_out(p, zeros=True, box=box, recurrent=True).ravel())
        leaving += neurons * cores
    reached = np.concatenate(posts)
    reached = reached[reached > 0]
    neuron = p.layer.neuron
    decays, thresholds = 1, 1
    if isinstance(neuron, CubaLIF):
        values = [_inside(v, p, box) for v in (neuron.i_decay, neuron.v_decay, neuron.threshold)]
        decays = len(np.unique(np.stack(values[:2]), axis=1).T)
        thresholds = len(np.unique(values[2]))
    return (
        neurons,
        len(reached),
        leaving,
        int(_words(reached, neurons, site).sum()),
        decays,
        thresholds,
    )


def _inside(values: object, p: Population, box: Box) -> NDArray[np.int64]:
    """A neuron parameter of each neuron in a box."""
    array = np.asarray(values, np.int64)
    if array.shape == p.shape[:1]:
        array = array.reshape(-1, *(1,) * (len(p.shape) - 1))
    part = np.broadcast_to(array, p.shape)[tuple(slice(*ends) for ends in box)]
    return part.ravel()


def _words(posts: NDArray[np.int64], neurons: int, site: Site) -> NDArray[np.int64]:
    """Words of the list of each input axon, given its synapses."""
    bits = site.weight_bits + site.delay_bits
    if (posts % neurons).any():
        bits += max(6, (neurons - 1).bit_length())
    full, rest = np.divmod(posts, _BLOCK)
    words: NDArray[np.int64] = full * -(-(_BLOCK * bits + _HEADER) // _WORD)
    words += np.where(rest > 0, -(-(rest * bits + _HEADER) // _WORD), 0)
    return words


def tiles(shape: Shape) -> Iterator[Shape]:
    """Boxes (C, H, W) with each side cut into 1, 2, 4, ... parts."""
    channels, height, width = shape
    for w in _parts(width):
        for h in _parts(height):
            for c in _parts(channels):
                yield c, h, w


def _parts(n: int) -> list[int]:
    return sorted({-(-n // (1 << i)) for i in range(n.bit_length() + 1)}, reverse=True)


def has_current_based_neurons(population: Population) -> Iterator[Violation]:
    """Compartments are fixed leaky integrate-and-fire circuits."""
    neuron = population.neuron
    if not isinstance(neuron, CubaLIF | Integrator):
        yield Violation(
            population.name,
            f"{type(neuron).__name__} neurons: use CubaLIF, or Loihi 2",
            f"current-based leaky integrate-and-fire neurons; {_DAVIES}",
        )


LOIHI1 = Chip(
    id="loihi1",
    name="Loihi",
    cores=Limit(
        "neuron cores", 128, "cores of a chip", _DAVIES, "a smaller network, or more chips"
    ),
    payload=Payload("Loihi 1", 0, _DAVIES),
    device="loihi1-davies2018",
    mesh=Mesh(cores_per_chip=128, cores_per_tile=4, rows=4),
    limits=LIMITS,
    amounts=core_resources,
    tiles=tiles,
    rules=(has_current_based_neurons, decays_have_12_bits, has_no_odd_wide_weights),
    not_modelled=(
        "shared lists of synapses: the synapse memory of convolutions is an upper bound",
        "synapse formats (16 of a core)",
        "the narrower accumulators of the chip (21 bits and sign for the synaptic sum)",
        "input and output spikes, and the embedded cores",
        "cores are placed in the order of the layers",
    ),
)
