"""What NeuroBench calls static metrics, of an integer network: connection sparsity and footprint."""

from __future__ import annotations

import numpy as np

from .chips import weight_bits
from .network import Conv, Dense, Network, weight_matrices

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
    `chips.weight_bits`), zeros too, a convolution's once; biases of `BIAS_BYTES`.

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
