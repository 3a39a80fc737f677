"""Placement: which core holds which neuron, and the way of messages between tiles."""

from __future__ import annotations

import numpy as np
import pytest

from spikeship.hw_targets.counts.counts import count
from spikeship.hw_targets.counts.placement import Core, Mesh, Placement, layer_per_core
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, NetworkError
from spikeship.hw_targets.simulate.engine import simulate

NEURON = CubaLIF(1024, 512, 90)
NETWORK = Network(
    [
        Input((1, 4, 4)),
        Conv(np.ones((2, 1, 1, 1), int), neuron=NEURON),
        Flatten(),
        Dense(np.ones((3, 32), int), neuron=NEURON),
    ]
)
MESH = Mesh(cores_per_chip=128, cores_per_tile=4, rows=4)
HALVES = tuple(Core(0, ((0, 2), (0, 4), ends)) for ends in ((0, 2), (2, 4)))


def test_a_layer_per_core_holds_every_neuron_and_is_on_no_chip() -> None:
    placement = layer_per_core(NETWORK)
    assert [core.neurons for core in placement.cores] == [32, 3]
    assert [set(owner.ravel().tolist()) for owner in placement.owners(NETWORK)] == [{0}, {1}]
    assert (placement.chips, placement.tiles, placement.chip) == (0, 0, None)
    assert not any(part.any() for part in vars(placement.routing).values())


def test_owners_follow_the_boxes() -> None:
    placement = Placement((*HALVES, Core(1, ((0, 3),))), MESH, "loihi1")
    conv, dense = placement.owners(NETWORK)
    assert conv.shape == (2, 4, 4)
    assert (conv[..., :2] == 0).all()
    assert (conv[..., 2:] == 1).all()
    assert dense.tolist() == [2, 2, 2]
    assert (placement.of(0), placement.of(1)) == ((0, 1), (2,))
    assert (placement.chips, placement.tiles) == (1, 1)


@pytest.mark.parametrize(
    ("cores", "says"),
    [
        (HALVES, "3:dense: 3 neurons are on no core"),
        ((HALVES[0], Core(1, ((0, 3),))), "1:conv: 16 neurons are on no core"),
        ((*HALVES, HALVES[0], Core(1, ((0, 3),))), "core 2 holds neurons that core 0 has already"),
        ((*HALVES, Core(1, ((0, 4),))), "core 2: the box .* does not lie in population 1"),
        ((*HALVES, Core(1, ((0, 3), (0, 1)))), "core 2: the box .* does not lie"),
        ((*HALVES, Core(2, ((0, 3),))), "core 2 holds population 2 of a network of 2"),
    ],
    ids=["no-core", "part", "twice", "beyond", "axes", "no-population"],
)
def test_wrong_boxes_are_refused(cores: tuple[Core, ...], says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        Placement(cores).owners(NETWORK)
    inputs = np.zeros((1, 2, *NETWORK.input_shape), np.int64)
    trace = simulate(NETWORK, inputs, record="spikes")
    with pytest.raises(NetworkError, match=says):
        count(NETWORK, inputs, trace, placement=Placement(cores))


@pytest.mark.parametrize(
    ("core", "chip", "x", "y"),
    [
        (0, 0, 0, 0),
        (3, 0, 0, 0),
        (4, 0, 0, 1),
        (16, 0, 1, 0),
        (4 * 9 + 1, 0, 2, 1),  # tile 9, as SANA-FE numbers them
        (127, 0, 7, 3),
        (128, 1, 0, 0),
    ],
)
def test_tiles_are_numbered_column_by_column(core: int, chip: int, x: int, y: int) -> None:
    assert [int(part) for part in MESH.place(np.array(core))] == [chip, x, y]


def test_messages_go_the_manhattan_way_and_none_between_chips_is_counted() -> None:
    cores = tuple(Core(0, ((k, k + 1),)) for k in range(130))
    placement = Placement(cores, MESH, "loihi1")
    way = placement.routing
    assert (placement.chips, placement.tiles) == (2, 33)
    assert (way.same_tile[0, 3], way.same_tile[3, 4]) == (1, 0)
    assert (way.hops_ew[0, 36], way.hops_ns[0, 36]) == (2, 1)
    assert (way.hops_ew[127, 0], way.hops_ns[127, 0]) == (7, 3)
    assert (way.off_chip[0, 128], way.off_chip[128, 129]) == (1, 0)
    assert (way.hops_ew[0, 128], way.hops_ns[0, 128], way.same_tile[0, 128]) == (0, 0, 0)
    for part in (way.same_tile, way.hops_ew, way.hops_ns, way.off_chip):
        assert (part == part.T).all()
