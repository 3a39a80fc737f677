"""Intel Loihi 2: limits of a neuron core, and a model of what Intel's partitioner puts into one.

Intel publishes no resource model. This one is calibrated on the tables that its compiler printed in
lava-dl's netx notebooks (MNIST, Oxford, PilotNet SNN and SDNN, YOLO-KP; BSD-3-Clause). All of a core
shares 15,000 words of 64 bits: 0.75 word (48 bits) for every neuron, input axon and axon-map entry,
and the synapses::

    dense:  one list per input axon of ceil((posts * bits + 8) / packet) packets,
            bits = weight + index + delay bits, lists of at most 128 posts
    conv:   one list per kernel tap and input channel of the core's output channels,
            bits = weight bits (the kernels are shared by all positions)

The printed rows agree with 48-bit packets (MNIST, Oxford, YOLO-KP) or 64-bit ones (PilotNet), with an
index of 7 bits where no delay is kept (MNIST) and of 6 beside a 6-bit delay field, which the compiler
keeps for networks without delays too (Oxford, PilotNet). Beside a delay field of n bits a dense neuron
needs 2^n of 8,192 accumulator slots: our inference from 4,095 = 8,192 / 2 - 1 neurons without one and
from Oxford's three cores of 85.

All numbers of cores come out as printed. What does not: the first layer of MNIST is printed as shares
of 50, 50 and 28 neurons, here 43; YOLO-KP's 1 x 1 layer to 256 channels takes 67.2 % of the synapse
memory, here 70.4 %; three of its layers are cut 8 x 7, here 4 x 14; its axon maps are not multiplied by
the stride.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from functools import partial

from ..counts.placement import Box, Mesh
from ..network.layers import Conv, Dense, Shape
from ..network.network import Population
from ..network.neurons import NEURONS, Integrator, NetworkError
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

_TABLES = "Intel's compiler tables in lava-dl's netx notebooks"
_WORD = 64  # bits
_HEADER = 8  # bits of a list of synapses
_POSTS = 128  # of one list
_ENTRY = 0.75  # words of a neuron, an input axon or an axon-map entry
_SLOTS = 8192
_NEURONS = 4095

_FEWER_INPUTS = "split the layer before, or pool"
_FEWER_WEIGHTS = "fewer inputs, smaller kernels or fewer weight bits"

LIMITS = (
    Limit("input axons", 16_000, "entries", _TABLES, _FEWER_INPUTS),
    Limit("neurons", _NEURONS, "neurons", _TABLES),
    Limit(
        "accumulator slots",
        _SLOTS,
        "slots",
        "inferred from the same tables",
        "shorter delays, or a compiler that keeps no delay field",
        sure=False,
    ),
    Limit("synapse memory", 12_000, "words of 64 bits", _TABLES, _FEWER_WEIGHTS),
    Limit("axon map", 16_000, "entries", _TABLES),
    Limit("core memory", 15_000, "words of 64 bits", _TABLES, _FEWER_WEIGHTS),
)


def loihi2(*, delay_field: int = 6, packet: int = 64, cores: int = 120) -> Chip:
    """Loihi 2 as a compiler uses it.

    `delay_field`: bits kept for delays in the synapses of every dense layer, more where a layer needs
    more; 0: the older format. `packet`: bits in which lists of synapses grow, 48 or 64. `cores`: usable
    ones of a chip, of 128. Raises NetworkError for other values.
    """
    wrong = [
        f"{name} = {value}; {allowed} is needed"
        for name, value, good, allowed in (
            ("delay_field", delay_field, 0 <= delay_field <= 6, "0 to 6"),
            ("packet", packet, packet in (48, 64), "48 or 64"),
            ("cores", cores, 1 <= cores <= 128, "1 to 128"),
        )
        if not good
    ]
    if wrong:
        raise NetworkError("; ".join(wrong) + ".")
    return Chip(
        id="loihi2",
        name="Loihi 2",
        cores=Limit(
            "neuron cores",
            cores,
            "cores of a chip",
            "128 (Intel's Loihi 2 brief), of which 120 are usable on most boards",
            "a smaller network, or more chips",
            sure=False,
        ),
        payload=Payload(
            "Loihi 2", 24, "Intel Loihi 2 brief: up to 32 bits; the ports of Lava, its way in: 24"
        ),
        device="loihi2-derived-pilotnet",
        # assumed: the mesh of Loihi 1, none being published
        mesh=Mesh(cores_per_chip=cores, cores_per_tile=4, rows=4),
        limits=LIMITS,
        amounts=partial(core_memory, delay_field=delay_field, packet=packet),
        tiles=power_of_two_stripes,
        rules=(
            has_known_programs,
            decays_have_12_bits,
            has_no_odd_wide_weights,
            is_narrower_than_256,
        ),
        not_modelled=(
            "axon memory: 0 to 731 words (at most 5 % of a core) in the published tables, no rule found",
            "neuron groups: 1 or 2 of 8 in all published rows",
            "programs and parameters of neurons",
            "input and output adapters, and the embedded cores",
            "the mesh is assumed to be that of Loihi 1, cores are placed in the order of the layers",
        ),
    )


def core_memory(site: Site, box: Box, cores: int, *, delay_field: int, packet: int) -> Amounts:
    """What a box of neurons takes of each of `LIMITS`."""
    p = site.population
    neurons = math.prod(stop - start for start, stop in box)
    field = max(delay_field, site.delay_bits)
    axons = _input_axons(p)
    slots = 0
    if isinstance(p.layer, Dense):
        synapses = axons * _list_words(neurons, _synapse_bits(site, field), packet)
        if p.layer.imaginary is not None:
            synapses *= 2
        if field:
            slots = (neurons + 1) << field
    elif isinstance(p.layer, Conv):
        channels = box[0][1] - box[0][0]
        taps = math.prod(p.layer.weight.shape[1:])
        synapses = taps * _list_words(channels, site.weight_bits, packet)
    else:
        synapses = 0.0
    entries = _axon_map(site, box)
    total = _ENTRY * (axons + neurons + entries) + synapses
    return axons, neurons, slots, synapses, entries, total


def _synapse_bits(site: Site, field: int) -> int:
    return site.weight_bits + (6 + field if field else 7)


def _list_words(posts: int, bits: int, packet: int) -> float:
    lists = math.ceil(posts / _POSTS)
    each = math.ceil(posts / lists)
    return lists * math.ceil((each * bits + _HEADER) / packet) * packet / _WORD


def _input_axons(p: Population) -> int:
    """One per input of a dense layer; of a convolution its stride along x."""
    if isinstance(p.layer, Dense):
        return p.layer.weight.shape[1] + (0 if p.layer.recurrent is None else p.size)
    return p.layer.stride[1] if isinstance(p.layer, Conv) else 1


def _axon_map(site: Site, box: Box) -> int:
    """One entry per neuron; towards a convolution one per position, times the own stride along x."""
    neurons = math.prod(stop - start for start, stop in box)
    if site.following is None or not isinstance(site.following.layer, Conv):
        return neurons
    positions = neurons // (box[0][1] - box[0][0])
    return positions * _input_axons(site.population)


def power_of_two_stripes(shape: Shape) -> Iterator[Shape]:
    """Boxes (C, H, W) whose width is a power of two and which hold 4,095 neurons at that width.

    Height and channels are halved. So the compiler's cores are in all published tables.
    """
    channels, height, width = shape
    for w in _halvings(1 << (width - 1).bit_length()):
        for h in _halvings(height):
            for c in _halvings(channels):
                if w * h * c <= _NEURONS:
                    yield c, h, min(w, width)


def _halvings(n: int) -> Iterator[int]:
    while n > 1:
        yield n
        n = -(-n // 2)
    yield 1


def has_known_programs(p: Population) -> Iterator[Violation]:
    """Neurons are programs here; there are such for the kinds that lava-dl builds."""
    if type(p.neuron) not in (*NEURONS, Integrator):
        yield Violation(
            p.name,
            f"{type(p.neuron).__name__} neurons: no program is known; use "
            f"{', '.join(kind.__name__ for kind in NEURONS)}, or a chip without this rule",
            "the neurons of lava-dl 0.6, netx",
        )


def is_narrower_than_256(p: Population) -> Iterator[Violation]:
    """The compiler warns that convolutions lose spikes at x = 256 n - 1 of their input."""
    if isinstance(p.layer, Conv) and p.input_shape[2] > 256:
        yield Violation(
            p.name,
            f"a convolution over an input {p.input_shape[2]} wide: spikes at x = 255, 511, ... may be "
            f"dropped; crop or shrink the input",
            "256 along x; compiler warning in lava-dl's YOLO-KP notebook",
        )


LOIHI2 = loihi2()
