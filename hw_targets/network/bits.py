"""What weights take: bits, bytes and zeros (NeuroBench's static metrics)."""

from __future__ import annotations

import math

import numpy as np

from .layers import Conv, Dense, NeuronLayer, weight_matrices
from .network import Network
from .neurons import IntArray


def weight_bits(layer: NeuronLayer) -> int:
    """Bits of the widest weight of a layer, sign included, as lava-dl packs them.

    `netx.utils.optimize_weight_bits`: with mixed signs 8 bits span -256 .. 254 in steps of 2, with
    one sign 0 .. 255; a power of two that fits goes into the exponent. More than 8: a mixed-sign
    weight is odd. Hardware has no 7 bits, so that 7 become 8 (nengo-loihi, WEIGHT_BITS_MAP).
    """
    bits = map(_matrix_bits, weight_matrices(layer))
    most = max(bits, default=0)
    return 8 if most == 7 else most


def _matrix_bits(weight: IntArray) -> int:
    low, high = int(weight.min()), int(weight.max())
    if low == high == 0:
        return 1
    common = int(np.bitwise_or.reduce(weight, axis=None))
    even = (common & -common).bit_length() - 1
    spans = (127, -128) if low < 0 <= high else (255, -256)
    room = min(span / end for span, end in zip(spans, (high, low), strict=True) if span * end > 0)
    return 8 - math.floor(math.log2(room)) - even


def delay_bits(layer: NeuronLayer) -> int:
    """Bits that the longest delay of a layer needs."""
    if not isinstance(layer, Dense) or layer.delay is None:
        return 0
    return int(np.max(layer.delay)).bit_length()


BIAS_BYTES = 2
"""A bias mantissa has 13 bits."""


def connection_sparsity(network: Network) -> float:
    """Fraction of weights that are zero (NeuroBench), over all layers, recurrent and imaginary ones too.

    0 for a network without weights.
    """
    weights = [matrix for layer in network.layers for matrix in weight_matrices(layer)]
    stored = sum(matrix.size for matrix in weights)
    return 1 - sum(int(np.count_nonzero(matrix)) for matrix in weights) / stored if stored else 0.0


def footprint_bytes(network: Network) -> int:
    """Bytes of weights and biases: each layer's weights at the bits that hardware packs them into (see
    `weight_bits`), zeros too, a convolution's once; biases of `BIAS_BYTES`.

    Indices, delays, neurons' parameters and states are not in it: what they take depends on the chip,
    see `mapper`.
    """
    total = 0
    for layer in network.layers:
        if isinstance(layer, Dense | Conv):
            weights = sum(matrix.size for matrix in weight_matrices(layer))
            total += -(-weights * weight_bits(layer) // 8)
            total += 0 if layer.bias is None else BIAS_BYTES * layer.bias.size
    return total
