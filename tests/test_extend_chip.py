"""A chip that is not in the library: its limits and payload, its device file, and what they decide."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeship.hw_targets import Coding, CubaLIF, Dense, Flatten, Input, Network, NetworkError
from spikeship.hw_targets.chips.chip import Chip, Limit, Payload
from spikeship.hw_targets.chips.loihi2 import LOIHI2
from spikeship.hw_targets.chips.mapper import map_network
from spikeship.hw_targets.chips.messages import check_messages, message_problems
from spikeship.hw_targets.chips.table import CHIPS
from spikeship.hw_targets.energy.device import DeviceError
from spikeship.hw_targets.energy.device_files import load_device
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.models.data.dataset import Dataset, Split
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.energy.profile import default_devices, profile

DEVICE = """
schema = 1
id = "pebble-guess"
device = "Pebble: what its makers measured"
kind = "neuromorphic"
chip = "pebble"
year = 2026
scope = "chip dynamic"

[cost.synop]
value = 2.0
low = 1.0
high = 3.0
unit = "pJ/op"
counter = "synops"
basis = "measured"
source = "this test"
trust = "A"
"""
LIF = CubaLIF(4096, 2048, 90)
RECIPE = Recipe(Coding.of("poisson", 3))


@pytest.fixture
def pebble(tmp_path: Path) -> Chip:
    """Loihi 2 with 40 neurons a core, 6 cores, and spikes of 4 bits."""
    file = tmp_path / "pebble.toml"
    file.write_text(DEVICE)
    fewer = {"neurons": 40}
    return replace(
        LOIHI2,
        id="pebble",
        name="Pebble",
        cores=Limit("neuron cores", 6, "cores of a chip", "this test", "a smaller network"),
        mesh=replace(LOIHI2.mesh, cores_per_chip=6),
        limits=tuple(
            replace(limit, value=fewer.get(limit.name, limit.value)) for limit in LOIHI2.limits
        ),
        payload=Payload("Pebble", 4, "this test"),
        device=file,
    )


def network(recipe: Recipe = RECIPE) -> Network:
    weight = np.random.default_rng(0).integers(-60, 60, (100, 8)) * 2
    first, last = Dense(weight, neuron=LIF), Dense(weight.T, neuron=LIF)
    return Network([Input((1, 2, 4)), Flatten(), first, last], recipe)


def test_its_limits_decide_the_cores(pebble: Chip) -> None:
    mapping = map_network(network(), pebble)
    assert [layer.cores for layer in mapping.layers] == [3, 1]  # 100 neurons, 40 at most
    assert [layer.cores for layer in map_network(network(), LOIHI2).layers] == [1, 1]
    assert mapping.placement.chip == "pebble"
    assert mapping.fits(1)
    two = Network([Dense(np.full((240, 8), 2), neuron=LIF), Dense(np.full((1, 240), 2))])
    assert map_network(two, pebble).chips == 2  # 7 cores


@pytest.mark.parametrize(("bits", "carried"), [(0, True), (4, True), (5, False)])
def test_its_payload_decides_the_messages(pebble: Chip, bits: int, carried: bool) -> None:
    graded = network(Recipe(Coding("direct", 3, message_bits=bits)))
    assert (not message_problems(graded, pebble.payload)) == carried
    violations = map_network(graded, pebble).violations
    assert bool(violations) != carried
    if not carried:
        assert str(violations[0]).endswith("(limit: spikes of 4 bits; this test)")
        with pytest.raises(NetworkError, match=r"not for Pebble: .*5 bits.*Pebble has spikes of 4"):
            check_messages(graded, pebble.payload)
    with pytest.raises(NetworkError, match="no chip 'pebble'; known: loihi1, loihi2, lava"):
        message_problems(graded, "pebble")


def test_its_device_prices_it(pebble: Chip) -> None:
    chips = (*CHIPS.values(), pebble)
    assert default_devices(network(), chips)[-1] == pebble.device
    images = torch.rand((5, 1, 2, 4), generator=torch.manual_seed(1))
    split = Split(images, torch.zeros(5, dtype=torch.int64))
    found = profile(Deployed(network()), Dataset("made up", split, split, split), chips=(pebble,))
    (device,), (price,) = found.devices, found.prices
    assert device.id == "pebble-guess"
    counts = found.counts["pebble"]
    synops = counts.total("synops") / counts.samples
    assert synops > 0
    assert price.dynamic.joules == pytest.approx(2e-12 * synops)
    assert (price.dynamic.low, price.dynamic.high) == pytest.approx(
        (1e-12 * synops, 3e-12 * synops)
    )
    assert [layer.cores for layer in found.mappings["pebble"].layers] == [3, 1]


def test_what_it_cannot_carry_is_not_priced(pebble: Chip) -> None:
    graded = network(Recipe(Coding("direct", 3, message_bits=9)))
    assert pebble.device not in default_devices(graded, (LOIHI2, pebble))
    assert default_devices(graded, (pebble,)) == (
        pebble.device,
    )  # which is then refused, with reasons
    assert pebble.device is not None
    with pytest.raises(DeviceError, match="chip 'pebble'; use one of loihi1, loihi2"):
        load_device(pebble.device)
