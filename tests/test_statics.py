"""Static metrics of integer networks, by hand."""

from __future__ import annotations

import numpy as np
import pytest

from spikeship.hw_targets.network.bits import connection_sparsity, footprint_bytes
from spikeship.hw_targets.network.layers import Conv, Dense, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF

LIF = CubaLIF(4096, 0, 9)
WIDE = Dense([[254, -256, 0], [0, 0, 2]], neuron=LIF, bias=[1, 2])  # 8 bits
NARROW = Dense([[1, -1], [0, 1]], neuron=LIF, recurrent=[[0, 0], [0, 1]])  # 2 bits
IMAGE = Conv(np.ones((2, 1, 2, 2), int), neuron=LIF)  # 1 bit


@pytest.mark.parametrize(
    ("layers", "sparsity", "footprint"),
    [
        ([WIDE], 3 / 6, 6 + 2 * 2),
        ([NARROW], 4 / 8, 2),
        ([WIDE, NARROW], 7 / 14, 12),
        ([Input((1, 5, 4)), IMAGE], 0.0, 1),
        ([Input((3,), LIF)], 0.0, 0),
    ],
)
def test_statics(layers: list, sparsity: float, footprint: int) -> None:
    network = Network(layers)
    assert connection_sparsity(network) == pytest.approx(sparsity)
    assert footprint_bytes(network) == footprint
