"""The exact certificate: its arithmetic against every possible change, and integer networks."""

from __future__ import annotations

from dataclasses import replace
from itertools import product
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.netx.file import read_netx
from spikeship.models import encoding
from spikeship.models.data.dataset import Split
from spikeship.models.data.load import load
from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.models.training import Classifier
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.robustness import DeployedVictim, FloatVictim
from spikeship.pipeline.robustness.certificates.certify import certify, predict
from spikeship.pipeline.robustness.certificates.phase import phase_radius
from spikeship.pipeline.robustness.certificates.votes import phase_votes

GOLDEN = Path(__file__).parent / "golden"


# -- the arithmetic ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("votes", "offsets", "radius"),
    [
        ([16, 0], 1, 8),  # 8 : 8 is still class 0
        ([0, 16], 1, 7),  # 8 : 8 would be class 0
        ([12, 4], 1, 4),
        ([4, 12], 1, 3),
        ([8, 8], 1, 0),  # class 0 by the rule for ties, and nothing is left
        ([7, 9], 1, 0),
        ([12, 0, 4], 2, 2),
        ([4, 12, 0], 2, 1),
        ([0, 12, 4], 2, 2),  # class 0, with no votes, would win a tie but is farther off
        ([0, 4, 12], 2, 1),
        ([16, 0], 4, 2),
        ([16, 0], 8, 1),
        ([0, 16], 8, 0),
    ],
)
def test_radius_of_votes(votes: list[int], offsets: int, radius: int) -> None:
    assert phase_radius(np.array([votes]), offsets).tolist() == [radius]


@pytest.mark.parametrize(("runs", "classes", "offsets"), [(7, 3, 1), (8, 3, 2), (5, 4, 1)])
def test_radius_is_the_largest_that_no_altered_runs_break(
    runs: int, classes: int, offsets: int
) -> None:
    """Every way to vote, against every way that m altered runs can make of it."""
    every = np.array([v for v in product(range(runs + 1), repeat=classes) if sum(v) == runs])
    answer = every.argmax(axis=1)
    altered = np.abs(every[:, None] - every).sum(axis=2) // 2
    other = answer[:, None] != answer
    needed = np.where(other, altered, runs + 1).min(axis=1)  # runs to alter for another answer
    assert np.array_equal(phase_radius(every, offsets), (needed - 1) // offsets)


@pytest.mark.parametrize(
    ("steps", "grid", "offsets", "template"),
    [(8, 16, 1, 0), (8, 16, 2, 0), (8, 16, 8, 3), (4, 10, 3, 1), (3, 7, 3, 5), (5, 255, 4, 2)],
)
def test_a_grey_level_alters_as_many_runs_as_there_are_offsets(
    steps: int, grid: int, offsets: int, template: int
) -> None:
    """Step (2) of the proof on the real coding: every pixel, grey level and phase."""
    coding = Coding.of("phase", steps, grid, offsets=offsets, template=template)
    greys = (torch.arange(grid + 1) / grid)[:, None, None, None].expand(-1, 1, 2, 3)
    altered = np.zeros((grid, 1, 2, 3), np.int64)
    for phase in range(grid):
        spikes = encoding.phase_messages(coding, greys, phase)
        altered += (spikes[1:] != spikes[:-1]).any(axis=1)
    assert np.unique(altered).tolist() == [offsets]


# -- a network small enough to try every image ----------------------------------------------------


def hand_made(offsets: int, swapped: bool = False) -> DeployedVictim:
    """Two pixels; class 0 (1 where swapped) if the first one spikes in both of two steps.

    Scores: 4 per spike of the first pixel, against 3 per spike of the second, which at grey 16
    always spikes: 8 or 4 or 0 against 6.
    """
    weight = np.array([[4, 0], [0, 3]])[:: -1 if swapped else 1]
    recipe = Recipe(
        Coding("phase", 2, offsets=offsets, grid=16), decode="last voltage", reset_interval=2
    )
    recipe = replace(recipe, reset_offset=1)
    return DeployedVictim(Deployed(Network((Input((1, 1, 2)), Flatten(), Dense(weight)), recipe)))


def of_greys(*greys: tuple[int, int]) -> torch.Tensor:
    return torch.tensor(greys, dtype=torch.float32)[:, None, None] / 16


@pytest.mark.parametrize(
    ("offsets", "swapped", "grey", "answer", "radius"),
    [
        (1, False, 12, 0, 4),  # 12 : 4; grey 8 is a tie, which class 0 wins
        (1, False, 4, 1, 3),  # 4 : 12; grey 8 would be a tie
        (1, True, 12, 1, 3),
        (1, True, 4, 0, 4),
        (2, False, 16, 0, 4),  # two runs per grey level: 16 : 0, grey 12 is a tie
        (2, True, 16, 1, 3),
    ],
)
def test_the_radius_is_tight(
    offsets: int, swapped: bool, grey: int, answer: int, radius: int
) -> None:
    """One level more than the radius, in one pixel, changes the answer; the radius does not."""
    victim = hand_made(offsets, swapped)
    toward = -1 if grey > 8 else 1
    images = of_greys(*((grey + toward * moved, 16) for moved in (0, radius, radius + 1)))
    found = certify(victim, images, torch.full((3,), answer))
    assert (found.certificates[0].answer, found.certificates[0].radius) == (answer, radius)
    assert predict(victim, images).tolist() == [answer, answer, 1 - answer]
    assert [c.answer for c in found.certificates] == [answer, answer, 1 - answer]
    assert found.accuracy(radius) == 1 / 3


@pytest.mark.parametrize("swapped", [False, True])
@pytest.mark.parametrize("offsets", [1, 2])
def test_no_pair_of_images_contradicts_a_certificate(offsets: int, swapped: bool) -> None:
    """All 289 images of two pixels, and all 83,521 pairs of them."""
    greys = np.array(list(product(range(17), repeat=2)))
    images = torch.tensor(greys / 16, dtype=torch.float32)[:, None, None]
    votes = phase_votes(hand_made(offsets, swapped), images)
    assert (votes.sum(axis=1) == 16).all()
    answer, radius = votes.argmax(axis=1), phase_radius(votes, offsets)
    distance = np.abs(greys[:, None] - greys).sum(axis=2)
    within = distance <= radius[:, None]
    assert within.sum() > 2000
    assert np.array_equal((answer[:, None] == answer) & within, within)


# -- a trained network -----------------------------------------------------------------------------


@pytest.fixture(scope="module")
def trained() -> Network:
    return read_netx(GOLDEN / "phase_digits.net")


@pytest.fixture(scope="module")
def test_split() -> Split:
    return load("digits").test


def with_offsets(network: Network, offsets: int) -> DeployedVictim:
    assert network.recipe is not None
    coding = replace(network.recipe.coding, offsets=offsets)
    recipe = replace(network.recipe, coding=coding)
    return DeployedVictim(Deployed(Network(network.layers, recipe)))


def test_certified_accuracy_of_a_trained_network(trained: Network, test_split: Split) -> None:
    """Whole numbers from whole numbers: the same on every machine."""
    found = certify(DeployedVictim(Deployed(trained)), test_split.images, test_split.labels)
    assert (found.method, found.norm, found.unit, found.runs) == ("phase", "L1", "grey level", 16)
    right = [round(found.accuracy(radius) * 359) for radius in range(10)]
    assert right == [340, 336, 323, 314, 295, 275, 250, 209, 34, 0]
    assert all(isinstance(c.radius, int) for c in found.certificates)
    assert found.abstained == 0
    assert found.on_grid == 1
    assert "Exactly" in found.statement


@pytest.mark.slow
@pytest.mark.parametrize("offsets", [1, 2])
def test_random_perturbations_within_the_radius_change_no_answer(
    trained: Network, test_split: Split, offsets: int
) -> None:
    """10,000 for each number of offsets, each of exactly the certified L1 size."""
    victim = with_offsets(trained, offsets)
    images = test_split.images[:100]
    votes = phase_votes(victim, images)
    answer, radius = votes.argmax(axis=1), phase_radius(votes, offsets)
    rng = np.random.default_rng(offsets)
    chosen = rng.choice(np.flatnonzero(radius > 0), 10_000)
    greys = np.rint(images.numpy()[chosen] * 16).astype(np.int64).reshape(len(chosen), 64)
    moved = greys.copy()
    for sample, left in zip(moved, radius[chosen], strict=True):
        sign = rng.choice([-1, 1], 64)
        while left:
            pixel = rng.integers(64)
            if 0 <= sample[pixel] + sign[pixel] <= 16:
                sample[pixel] += sign[pixel]
                left -= 1
    assert np.array_equal(np.abs(moved - greys).sum(axis=1), radius[chosen])
    perturbed = torch.tensor(moved / 16, dtype=torch.float32).reshape(-1, 1, 8, 8)
    after = phase_votes(victim, perturbed)
    assert not np.array_equal(after, votes[chosen])
    assert np.array_equal(after.argmax(axis=1), answer[chosen])


def test_a_greedy_attacker_within_the_radius_changes_no_answer(
    trained: Network, test_split: Split
) -> None:
    """Each level goes to the pixel and direction that costs the answer most, of all 128."""
    victim = DeployedVictim(Deployed(trained))
    votes = phase_votes(victim, test_split.images[:40])
    radius = phase_radius(votes, 1)
    taken = 0
    for index in np.flatnonzero((radius > 1) & (radius < 6))[:6]:
        answer = int(votes[index].argmax())
        image = test_split.images[index]
        for _ in range(int(radius[index])):
            steps = torch.cat([torch.eye(64), -torch.eye(64)]).reshape(128, 1, 8, 8) / 16
            nearby = image + steps
            nearby = nearby[((nearby >= 0) & (nearby <= 1)).flatten(1).all(1)]
            after = phase_votes(victim, nearby)
            assert (after.argmax(axis=1) == answer).all()
            margin = after[:, answer] - np.delete(after, answer, axis=1).max(axis=1)
            image = nearby[int(margin.argmin())]
        taken = max(taken, int(votes[index, answer] - after[:, answer].min()))
    assert taken > 2


# -- what is refused, and what is off the grid -------------------------------------------------------


def test_off_the_grid_half_the_radius_holds() -> None:
    """Rounding may double a distance: a real y is within 2 abs(y - k) of every whole k."""
    coding = Coding.of("phase", 2, 16)
    rng = np.random.default_rng(0)
    centre = rng.integers(0, 17, 10_000)
    y = np.clip(centre + rng.uniform(-2, 2, 10_000), 0, 16)
    rounded = encoding.greys(coding, torch.tensor(y / 16)).numpy()
    assert (np.abs(rounded - centre) <= 2 * np.abs(y - centre) + 1e-9).all()
    victim, image = hand_made(1), of_greys((13, 16))
    (found,) = certify(victim, image, torch.tensor([0])).certificates
    assert found.radius == 5
    assert predict(victim, image - torch.tensor([2.5 / 16, 0])).tolist() == [0]


def test_floats_get_no_exact_certificate() -> None:
    settings = Settings.of(coding="phase", sigma=0.0, widths=(4,))
    victim = FloatVictim(Classifier(settings))
    with pytest.raises(ValueError, match=r"phase holds for integers.*certify the \.net file"):
        certify(victim, torch.zeros(1, 1, 8, 8), torch.zeros(1))


def test_single_draws_are_single_phases() -> None:
    victim = hand_made(1)
    image = of_greys((12, 16)).expand(4000, 1, 1, 2)
    assert victim.coding is not None
    found = victim.answers(image, generator(0))
    assert np.mean(found == 0) == pytest.approx(12 / 16, abs=0.03)
    certified = certify(victim, of_greys((12, 16)), torch.tensor([0]))
    assert certified.single_draw_accuracy == 12 / 16
