"""What a layer needs at 45 nm, arithmetic and SRAM, spiking or not, under one `Dataflow`."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from typing import TypeAlias

from ...hw_targets.counts.counts import Counts, LayerCounts
from ...hw_targets.energy.cmos45 import add, multiply, sram
from ...hw_targets.network.bits import weight_bits
from ...hw_targets.network.layers import Dense, Input, weight_matrices
from ...hw_targets.network.network import Network, Population
from ...models.quantized_ann import IMAGE_BITS, LayerWork, Work

STATE_BITS = 24
"""Bits of Loihi's states u and v, and of the spiking network's sums."""
SUM_BITS = 32
"""Bits of sums, biases and scales of an ANN in integers."""
DECAY_BITS, BIAS_BITS, PAYLOAD_BITS = 12, 13, 24
"""Bits of a decay and a bias of Loihi-style neurons, and of the payload of a graded message."""

Terms: TypeAlias = dict[str, float]
"""Joules per inference, by what they are spent on."""


@dataclass(frozen=True)
class Dataflow:
    """What is fetched from SRAM how often, on both sides.

    `ann_sums`, `snn_sums`: partial sums are read and written at every operation, else they stay in
    registers; `inputs_once`: an ANN reads each input once for all its products, else for each;
    `weights_once`: a weight is read no more than once per inference, of a spiking network once per
    step; `whole_words`: every value takes a 64-bit access of its own.
    """

    name: str
    says: str
    ann_sums: bool = False
    snn_sums: bool = False
    inputs_once: bool = False
    weights_once: bool = False
    whole_words: bool = False


DATAFLOWS = (
    Dataflow(
        "usual",
        "the ANN sums in registers and reads a weight and an input per multiply-add; the spiking "
        "network reads a weight, and reads and writes a sum, per delivery (as Lemaire et al. 2022 "
        "count convolutions)",
        snn_sums=True,
    ),
    Dataflow(
        "whole words",
        "as usual, but every value takes a 64-bit access of its own (as Lemaire et al. 2022)",
        snn_sums=True,
        whole_words=True,
    ),
    Dataflow(
        "input by input",
        "both take one input after the other: each operation reads a weight, reads and writes a sum",
        ann_sums=True,
        snn_sums=True,
        inputs_once=True,
    ),
    Dataflow(
        "sums in registers",
        "each operation of both reads only a weight; neurons' states are read and written once per step",
        inputs_once=True,
    ),
    Dataflow(
        "weights once",
        "as sums in registers, and a weight is read at most once per inference (ANN) or step (spiking)",
        inputs_once=True,
        weights_once=True,
    ),
)
"""The first gives the values, all of them the intervals."""


def widest_weight_bits(network: Network) -> int:
    """Bits, with sign, of the widest layer, as hardware packs them, see `network.bits.weight_bits`."""
    return max(weight_bits(p.layer) for p in network.populations)


@dataclass(frozen=True)
class SpikingLayer:
    """A population and its events per inference.

    `additions`, `products`: deliveries without and with a multiplication; `arriving`: of so many
    bits each; `words`, `decays`, `sums`: of one update, see `network.kind.Operations`.
    """

    additions: float
    products: float
    arriving: float
    arriving_bits: int
    sent: float
    sent_bits: int
    updates: float
    neurons: int
    senders: int
    weights: int
    biases: int
    words: int
    decays: int
    sums: int


def spiking_layers(network: Network, counts: Counts) -> tuple[SpikingLayer, ...]:
    """The layers of a network with their share of `counts`, per inference."""
    return tuple(
        _spiking_layer(network, p, layer, counts.samples)
        for p, layer in zip(network.populations, counts.layers, strict=True)
    )


def _spiking_layer(
    network: Network, p: Population, layer: LayerCounts, samples: int
) -> SpikingLayer:
    recurrent = isinstance(p.layer, Dense) and p.layer.recurrent is not None
    senders = math.prod(p.input_shape) + recurrent * p.size
    words, products, sums = p.neuron.operations
    bias = None if isinstance(p.layer, Input) else p.layer.bias
    return SpikingLayer(
        layer.effective_acs / samples,
        layer.effective_macs / samples,
        (layer.spikes_in + recurrent * layer.spikes_out) / samples,
        _address(senders) + _payload(network, p.index - 1),
        layer.spikes_out / samples,
        _address(p.size) + _payload(network, p.index),
        layer.neuron_updates / samples,
        p.size,
        senders,
        sum(matrix.size for matrix in weight_matrices(p.layer)),
        0 if bias is None else bias.size,
        words,
        products,
        sums + (bias is not None),
    )


def _address(senders: int) -> int:
    return max(1, (senders - 1).bit_length())


def _payload(network: Network, index: int) -> int:
    if index >= 0:
        return PAYLOAD_BITS * network.populations[index].graded
    bits = network.recipe.coding.message_bits if network.recipe else 0
    return bits if bits > 1 else 0


def spiking_energy(
    layers: Sequence[SpikingLayer], bits: int, flow: Dataflow, activity: float = 1.0
) -> Terms:
    """Joules of an inference of the spiking network; `activity`: times the messages and deliveries."""
    return _sum([_spiking_energy(layer, bits, flow, activity) for layer in layers])


def _spiking_energy(s: SpikingLayer, bits: int, flow: Dataflow, activity: float) -> Terms:
    access = partial(_access, flow)
    deliveries = activity * (s.additions + s.products)
    reads = min(deliveries, s.updates / s.neurons * s.weights) if flow.weights_once else deliveries
    payload = s.arriving_bits - _address(s.senders)
    state = access(STATE_BITS, s.neurons * s.words)
    return {
        "synapses' arithmetic": deliveries * add(STATE_BITS)
        + activity * s.products * multiply(bits, payload),
        "weights": reads * access(bits, s.weights),
        "sums": 2 * deliveries * state * flow.snn_sums,
        "messages": activity * s.arriving * access(s.arriving_bits, s.senders)
        + activity * s.sent * access(s.sent_bits, s.neurons),
        "neurons' states": s.updates * (2 * s.words * state + access(BIAS_BITS, s.biases)),
        "neurons' arithmetic": s.updates
        * (s.decays * multiply(DECAY_BITS, STATE_BITS) + s.sums * add(STATE_BITS)),
    }


def ann_energy(
    work: Work, bits: int, activation_bits: int, skips_zeros: bool, flow: Dataflow
) -> Terms:
    """Joules of an inference of the ANN; the first layer reads an image of `IMAGE_BITS`."""
    reads = [IMAGE_BITS, *[activation_bits] * (len(work.layers) - 1)]
    return _sum(
        [
            _ann_energy(layer, bits, (into, activation_bits), skips_zeros, flow)
            for layer, into in zip(work.layers, reads, strict=True)
        ]
    )


def _ann_energy(
    layer: LayerWork, bits: int, activation_bits: tuple[int, int], skips: bool, flow: Dataflow
) -> Terms:
    access = partial(_access, flow)
    into, out = activation_bits
    macs = layer.nonzero_macs if skips else layer.macs
    reads = min(macs, layer.weights) if flow.weights_once else macs
    inputs = layer.inputs if flow.inputs_once else macs
    return {
        "synapses' arithmetic": macs * (multiply(bits, into) + add(SUM_BITS)),
        "weights": reads * access(bits, layer.weights),
        "sums": 2 * macs * access(SUM_BITS, layer.outputs) * flow.ann_sums,
        "activations": inputs * access(into, layer.inputs)
        + layer.outputs * access(out, layer.outputs),
        "neurons' states": layer.outputs * access(SUM_BITS, layer.biases),
        "neurons' arithmetic": layer.outputs * (multiply(SUM_BITS, SUM_BITS) + add(SUM_BITS)),
    }


def _access(flow: Dataflow, bits: int, number: int) -> float:
    """Reading or writing one of so many values; nothing where there are none."""
    if not number:
        return 0.0
    return sram(bits, number * bits / 8, whole_words=flow.whole_words)


def _sum(layers: Sequence[Terms]) -> Terms:
    return {name: sum(terms[name] for terms in layers) for name in layers[0]}
