"""QTE, the report's parts, and energy per decision."""

from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
import pytest
import torch

from spikeship.hw_targets.chips.mapper import map_network
from spikeship.hw_targets.energy.device_files import load_device
from spikeship.hw_targets.energy.price import estimate
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.models.data.dataset import Split
from spikeship.models.surrogates import USUAL, Fixed
from spikeship.pipeline import records
from spikeship.pipeline.cli.robustness import report_tables
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.deploy.run import evaluate
from spikeship.pipeline.robustness import DeployedVictim
from spikeship.pipeline.robustness.attacks import ATTACKS, Strength, gradient_named, named
from spikeship.pipeline.robustness.battery import Plan
from spikeship.pipeline.robustness.curves import curve, qte
from spikeship.pipeline.robustness.report import radii_for, robustness

PLAN = Plan(steps=2, eot=2, draws=3, curve=(1.0, 2.0), averages=(1,), sharpness=(3.0,), queries=5)


@pytest.mark.parametrize("grid", [[0, 0.1], [0, 0.01, 0.02, 0.1], [0.05, 0.06, 0.4]])
def test_qte_of_a_straight_line_is_its_integral(grid: list[float]) -> None:
    """A(eta) = .9 - 2 eta: the area is .9 (b - a) - (b^2 - a^2), on any grid."""
    a, b = grid[0], grid[-1]
    values = [0.9 - 2 * e for e in grid]
    assert qte(grid, values) == pytest.approx(0.9 * (b - a) - (b**2 - a**2))
    assert qte(grid, values, normalised=True) == pytest.approx(0.9 - (a + b))


def test_qte_for_two_strengths_is_the_papers() -> None:
    """(eta_b - eta_a) (A(eta_b) + A(eta_a)) / 2; it grows with every accuracy."""
    assert qte([2 / 255, 8 / 255], [0.8, 0.3]) == pytest.approx(6 / 255 * 1.1 / 2)
    base = qte([0, 0.1, 0.2], [1, 0.5, 0.1])
    for i in range(3):
        values = [1, 0.5, 0.1]
        values[i] -= 0.1
        assert qte([0, 0.1, 0.2], values) < base


@pytest.mark.parametrize(
    ("epsilons", "accuracies", "says"),
    [
        ([0], [1], "1 strengths and 1 accuracies"),
        ([0, 1], [1], "2 strengths and 1 accuracies"),
        ([0, 0], [1, 1], "above the one before"),
        ([0, 1], [1, 1.1], r"fraction in \[0, 1\]"),
        ([0, 1], [1, float("nan")], r"fraction in \[0, 1\]"),
    ],
)
def test_qte_errors(epsilons: list[float], accuracies: list[float], says: str) -> None:
    with pytest.raises(ValueError, match=says):
        qte(epsilons, accuracies)


def test_curve_has_its_qte_beside_its_grid() -> None:
    found = curve("PGD-10", [0, 0.2], [1.0, 0.5], [1.0, 0.6])
    assert (found.area, found.mean) == (pytest.approx(0.15), pytest.approx(0.75))
    assert found.epsilons == (0, 0.2)


@pytest.mark.parametrize(
    ("coding", "radii"),
    [
        (Coding.of("rsc1", sigma=0.2), (0, 0.1, 0.2, 0.3, 0.4)),
        (Coding.of("rsc2", 4, sigma=0.2), (0, 0.05, 0.1, 0.15, 0.2)),
        (Coding.of("poisson", 10, 1), (0, 0.01, 0.02, 0.03, 0.04)),
        (
            Coding.of("signed_poisson", 10, 1),
            (0, 0.005, 0.01, 0.015, 0.02),
        ),
        (Coding.of("phase", grid=16), (0, 1, 2, 3, 4)),
        (Coding.of("phase", grid=16, offsets=4), (0, 1)),
        (Coding.of("phase", grid=255), (0, 15, 31, 47, 63)),
    ],
)
def test_radii_suit_what_a_coding_can_reach(coding: Coding, radii: tuple[float, ...]) -> None:
    assert radii_for(coding) == pytest.approx(radii)


@pytest.mark.parametrize("name", ATTACKS)
def test_attacks_by_name(name: str) -> None:
    assert named(name, Strength(0.1, steps=3, eot=2)).epsilon == 0.1


def test_unknown_names_list_those_that_there_are() -> None:
    with pytest.raises(
        ValueError, match="unknown attack 'pdg'; choose from noise, fgsm, rfgsm, pgd"
    ):
        named("pdg", Strength(0.1))
    with pytest.raises(
        ValueError, match=r"unknown gradient 'steep'; choose from superspike, .*rate"
    ):
        gradient_named("steep")
    assert gradient_named("superspike") == USUAL
    assert gradient_named("rate") == "rate"
    assert isinstance(gradient_named("triangle 2"), Fixed)


# The whole report, on a small integer network made by hand: 2 classes, the brighter half of 2x2 pixels


def _network(coding: Coding) -> Network:
    weight = np.array([[20, 20, -20, -20], [-20, -20, 20, 20]])
    neuron = CubaLIF(i_decay=4096, v_decay=2048, threshold=40)
    return Network([Input((1, 2, 2)), Flatten(), Dense(weight, neuron=neuron)], Recipe.of(coding))


def _victim(coding: Coding, name: str = "integers") -> DeployedVictim:
    return DeployedVictim(Deployed(_network(coding)), name)


RSC1 = Coding.of("rsc1", 4, sigma=0.05)


@pytest.fixture(scope="module")
def split() -> Split:
    labels = torch.tensor([0, 1] * 6)
    bright = torch.linspace(0.7, 0.95, 12)[:, None, None, None]
    top = torch.tensor([[1.0, 1.0], [0.0, 0.0]])
    halves = torch.where(labels[:, None, None, None] == 0, top, 1 - top)
    return Split(bright * halves, labels)


@pytest.mark.slow
def test_report(split: Split) -> None:
    victims = {"one": _victim(RSC1), "other": _victim(Coding.of("direct", 4))}
    others = {"apgd-ce": named("apgd-ce", Strength(0.1, steps=2))}
    found = robustness(victims, "halves", split, 0.1, others=others, plan=PLAN, certified_draws=50)
    one, other = found.victims
    assert (one.form, one.digest) == ("integers", victims["one"].digest)
    assert one.clean.accuracy == other.clean.accuracy == 1
    assert list(one.transfers) == ["other"]
    assert one.attacks[-1].attack == "APGD"
    assert one.curve.epsilons == (0, 0.1, 0.2)
    assert one.curve.accuracy[0] == 1
    assert one.certificates is not None
    assert one.certificates.runs == 100
    assert one.certificates.accuracy[0] > 0.9
    assert list(one.certificates.accuracy) == sorted(one.certificates.accuracy, reverse=True)
    assert other.certificates is None
    assert other.uncertified == "the coding direct draws nothing, so there is no vote to certify"
    assert [(d.kind, d.runs) for d in one.decisions] == [
        ("single draw", 1),
        ("vote", 3),
        ("certificate", 100),
    ]
    assert [d.kind for d in other.decisions] == ["single draw"]
    stored = json.loads(records.dumps(found))
    assert stored["victims"][0]["encoding"]["coding"] == RSC1.name
    assert stored["victims"][0]["attacks"][0]["after"]["draws"] == 3
    assert "adversarial" not in stored["victims"][0]["attacks"][0]
    assert stored["victims"][0]["sanity"]["checks"][0]["name"] == "tiny epsilon"
    assert stored["plan"]["seed"] == 0
    assert report_tables(found)


@pytest.mark.slow
def test_energy_of_a_decision_is_its_runs_times_that_of_an_inference(
    split: Split,
) -> None:
    victim = _victim(RSC1)
    found = robustness({"one": victim}, "halves", split, 0.1, plan=PLAN, certified_draws=20)
    device = load_device("loihi2-derived-pilotnet")  # the input is graded
    placement = map_network(victim.network, "loihi2").placement
    counts = evaluate(victim.deployed, split, placement=placement).counts
    single = estimate(counts, device) / counts.samples
    for decision in found.victims[0].decisions:
        energy = decision.energy
        assert energy.joules == pytest.approx(decision.runs * single.joules)
        assert (energy.low, energy.high) == pytest.approx(
            (decision.runs * single.low, decision.runs * single.high)
        )
        assert sum(term[0] for term in energy.terms.values()) == pytest.approx(energy.joules)
        assert (energy.scope, energy.unpriced) == (single.scope, single.unpriced)
        assert all("lava-dl" in source for source in decision.sources.values())


@pytest.mark.slow
def test_seeds_decide_everything(split: Split) -> None:
    def measured(seed: int) -> dict:
        plan = replace(PLAN, seed=seed)
        found = robustness(
            {"one": _victim(RSC1)}, "halves", split, 0.3, plan=plan, certified_draws=0
        )
        stored = json.loads(records.dumps(found))
        for part in stored["victims"][0]["attacks"]:
            part.pop("seconds")
        return stored["victims"][0]["attacks"]

    assert measured(0) == measured(0)
    assert measured(0) != measured(1)
