"""ASSG, SA-PGD and ensembles: their equations, and that they find what fixed surrogates miss."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from spikeship.hw_targets.network.coding import Coding
from spikeship.models import training
from spikeship.models.data.load import load
from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.models.surrogates import FEW_MODES, MODES, SURROGATES, USUAL, Fixed, Gradient
from spikeship.pipeline.robustness.attacks.adaptive import SAPGD, Adaptive, tuned
from spikeship.pipeline.robustness.attacks.attack import Attack, Attacked, attack, starts
from spikeship.pipeline.robustness.attacks.ensemble import Ensemble, ensemble_of
from spikeship.pipeline.robustness.attacks.gradient import FGSM, PGD, RandomNoise
from spikeship.pipeline.robustness.victims import DeployedVictim, FloatVictim, Victim

EPSILON = 0.1
W = 2 * math.tan(0.425 * math.pi) / math.pi


def slope(alpha: float, x: float) -> float:
    return alpha / 2 / (1 + (math.pi / 2 * alpha * x) ** 2)


# -- the adaptive surrogate ----------------------------------------------------------------------


@pytest.mark.parametrize("x", [-2.5, -0.3, 0.02, 1.0])
def test_alpha_of_a_constant_distance_is_w_over_it(x: float) -> None:
    rule, at = Adaptive(), torch.tensor([x], dtype=torch.float64)
    for _ in range(300):
        found = rule.at(0, 0)(at).item()
    assert found == pytest.approx(slope(W / (abs(x) + 1e-4), x), rel=1e-6)


def test_the_recursion_by_hand() -> None:
    """x = .5, -2, 0: M = .95, 1.055, .9495; D = .045, .135, .21645."""
    rule = Adaptive()
    for x, mean, spread in ((0.5, 0.95, 0.045), (-2.0, 1.055, 0.135), (0.0, 0.9495, 0.21645)):
        found = rule.at(1, 2)(torch.tensor([[x]], dtype=torch.float64)).item()
        assert found == pytest.approx(slope(W / (mean + 1.5 * spread + 1e-4), x), rel=1e-12)


@pytest.mark.parametrize("a", [0.35, 0.425, 0.49])
def test_the_surrogate_has_area_1_and_vanishes_as_wanted(a: float) -> None:
    """At |x| = 1 = M, D = 0: alpha = w; its integral over [-1, 1] is 2 a."""
    for reach, area in ((1.0, 2 * a), (500.0, 1.0)):
        grid = torch.linspace(-reach, reach, 200_001, dtype=torch.float64)
        rule = Adaptive(half_vanishing=a, draws=2)
        rule.at(0, 0)(torch.ones_like(grid))  # these statistics stay for the next draw
        assert torch.trapezoid(rule.at(0, 0)(grid), grid).item() == pytest.approx(area, abs=1e-3)


def test_statistics_are_those_of_each_layer_step_image_and_neuron() -> None:
    rule, x = Adaptive(), torch.tensor([[0.1, 5.0], [3.0, 0.1]])
    rule.at(0, 0)(torch.zeros(2, 2))
    rule.at(0, 1)(torch.zeros(7))
    for _ in range(200):
        found = rule.at(1, 0)(x)
    expected = [[slope(W / (v + 1e-4), v) for v in row] for row in x.tolist()]
    torch.testing.assert_close(found, torch.tensor(expected))


def test_statistics_stay_in_all_draws_but_the_first() -> None:
    rule, alone = Adaptive(draws=3), Adaptive()
    for first, *others in ([0.5, 9.0, -9.0], [2.0, 7.0, 8.0], [-0.1, 0.0, 3.0]):
        expected = alone.at(0, 0)(torch.tensor([first]))
        assert torch.equal(rule.at(0, 0)(torch.tensor([first])), expected)
        for x in others:
            rule.at(0, 0)(torch.tensor([x]))
    later = Adaptive(draws=2)
    later.at(0, 0)(torch.tensor([0.5]))
    expected_then = slope(W / (0.95 + 1.5 * 0.045 + 1e-4), 1.5)
    assert later.at(0, 0)(torch.tensor([1.5])).item() == pytest.approx(expected_then, rel=1e-6)


def test_memory_is_that_of_the_statistics() -> None:
    rule = Adaptive(memory=0.99)
    found = rule.at(0, 0)(torch.tensor([0.0], dtype=torch.float64)).item()
    assert found == pytest.approx(slope(W / (0.99 + 1.5 * 0.0099 + 1e-4), 0), rel=1e-12)


def test_a_second_batch_needs_a_second_rule() -> None:
    rule = Adaptive()
    rule.at(0, 0)(torch.zeros(4, 3))
    with pytest.raises(ValueError, match=r"seen \(4, 3\) got \(2, 3\): make a new one"):
        rule.at(0, 0)(torch.zeros(2, 3))


@pytest.mark.parametrize("a", [0.0, 0.5])
def test_an_impossible_vanishing_degree_is_refused(a: float) -> None:
    with pytest.raises(ValueError, match="half_vanishing"):
        SAPGD(EPSILON, half_vanishing=a)


# -- SA-PGD --------------------------------------------------------------------------------------


class Curved(Victim):
    """Two classes and a loss that is not linear, without spikes; `asked` are the images it was shown."""

    name, digest, shape, classes, coding = "curved", "", (2, 2, 2), 2, None

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self.asked: list[Tensor] = []

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        self.asked.append(images.detach().clone())
        value = (torch.sin(5 * images) * self.weight).sum((1, 2, 3)) + 2
        return torch.stack([value, -value], 1)

    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        found: NDArray[Any] = self.logits(images, draws).detach().numpy()
        return found


def test_the_steps_of_sapgd_by_an_independent_loop() -> None:
    draws = generator(0)
    weight = torch.randn((2, 2, 2), generator=draws, dtype=torch.float64)
    images = torch.rand((3, 2, 2, 2), generator=draws, dtype=torch.float64)
    labels, steps = torch.zeros(3, dtype=torch.int64), 30
    victim, method = Curved(weight), SAPGD(EPSILON, steps=steps)
    found = method.run(victim, images, labels, generator(1))
    w, x0 = weight.numpy(), images.numpy()
    x = starts(method, images, generator(1), 1)[0].numpy()
    m = v = np.zeros_like(x)
    eta, track, losses = EPSILON, [], []
    for step in range(steps + 1):
        z = (np.sin(5 * x) * w).sum((1, 2, 3)) + 2
        track.append(x)
        losses.append(np.log1p(np.exp(-2 * z)))
        g = (-2 / (1 + np.exp(2 * z)))[:, None, None, None] * 5 * np.cos(5 * x) * w
        if step in (7, 13, 18, 21, 24, 26, 28):  # ceil of .22, .41, .57, .70, .80, .87, .93 of 30
            eta /= 2
        over = (1, 2, 3)
        m = 0.5 * m + g / np.abs(g).mean(over, keepdims=True)
        v = 0.8 * v + g**2 / (g**2).mean(over, keepdims=True)
        move = np.clip(m / (np.sqrt(v) + 1e-12) * eta, -eta, eta)
        x = np.clip(np.clip(x + move, x0 - EPSILON, x0 + EPSILON), 0, 1)
    assert len(victim.asked) == steps + 1
    for ours, theirs in zip(victim.asked, track, strict=True):
        np.testing.assert_allclose(ours.numpy(), theirs, rtol=0, atol=1e-3)
    best = np.argmax(losses, axis=0)
    np.testing.assert_allclose(
        found.numpy(), np.array(track)[best, np.arange(3)], rtol=0, atol=1e-3
    )


def test_an_image_without_gradient_stays_finite() -> None:
    victim = Curved(torch.zeros((2, 2, 2)))
    images, labels = (
        torch.rand((3, 2, 2, 2), generator=generator(0)),
        torch.zeros(3, dtype=torch.int64),
    )
    found = SAPGD(EPSILON, steps=5).run(victim, images, labels, generator(1))
    assert torch.isfinite(found).all()
    assert (found - images).abs().max() <= EPSILON + 1e-7


@dataclass
class Network:
    victim: FloatVictim
    deployed: DeployedVictim
    images: Tensor
    labels: Tensor

    def attacked(self, method: Attack, victim: Victim | None = None) -> Attacked:
        return attack(victim or self.victim, method, self.images, self.labels)


@pytest.fixture(scope="module")
def spread(tmp_path_factory: pytest.TempPathFactory) -> Network:
    """A digits network whose neurons are, for their weights, up to 200 times as far from threshold."""
    data = load("digits")
    settings = Settings.of(
        coding="direct", sigma=0.0, levels=64, epochs=5, widths=(64,), readout="voltage"
    )
    start = training.Classifier(settings)
    first = next(m for m in start.modules() if isinstance(m, nn.Linear))
    with torch.no_grad():
        factors = torch.exp(5.3 * torch.rand(64, generator=generator(0)) - 2)
        first.weight.mul_(factors[:, None])
        first.bias.mul_(factors)
    folder: Path = tmp_path_factory.mktemp("spread")
    trained, _ = training.train(settings, data, folder, start=start, progress=False)
    calibration, _ = data.train[list(range(128))]
    deployed = DeployedVictim.quantized(trained, calibration)
    return Network(FloatVictim(trained), deployed, *data.test[list(range(120))])


@pytest.mark.slow
def test_sapgd_beats_every_fixed_sharpness(spread: Network) -> None:
    arctan = SURROGATES["arctan"]
    fixed = {
        sharpness: PGD(EPSILON, steps=60, gradient=Fixed(arctan, sharpness))
        for sharpness in (0.1, 0.5, 2.0, 8.0, 30.0)
    }
    found = {s: spread.attacked(method).accuracy for s, method in fixed.items()}
    adaptive = spread.attacked(SAPGD(EPSILON, steps=60))
    assert adaptive.clean.accuracy > 0.9
    assert adaptive.accuracy <= min(found.values()), found


@pytest.mark.slow
def test_sapgd_attacks_the_integers_too(spread: Network) -> None:
    usual = spread.attacked(PGD(EPSILON, steps=60), spread.deployed)
    adaptive = spread.attacked(SAPGD(EPSILON, steps=60), spread.deployed)
    assert usual.clean.accuracy > 0.9
    assert adaptive.accuracy <= usual.accuracy


def test_sapgd_averages_draws(spread: Network) -> None:
    """As many forward passes as draws and steps; statistics of .99 where the victim draws."""
    seen: list[Gradient] = []

    class Noisy(FloatVictim):
        def logits(
            self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL
        ) -> Tensor:
            seen.append(gradient)
            return super().logits(images, draws, gradient)

    victim = Noisy(spread.victim.classifier)
    victim.coding = Coding.of("rsc1", grid=64, sigma=0.1)
    method = SAPGD(EPSILON, steps=3, eot=4, restarts=2)
    images, labels = spread.images[:10], spread.labels[:10]
    method.run(victim, images, labels, generator(0))
    assert len(seen) == 2 * 4 * 4
    rules = list(dict.fromkeys(seen))
    assert [(r.memory, r.draws) for r in rules if isinstance(r, Adaptive)] == [(0.99, 4)] * 2


def test_tuning_finds_the_lowest_accuracy(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a valley at .44, with as many attacks as rounds say."""
    tried: list[float] = []

    def valley(self: SAPGD, victim: Victim, images: Tensor, *_: Any) -> Tensor:
        tried.append(self.half_vanishing)
        lost = int(200 * (1 - 5 * abs(self.half_vanishing - 0.44)))
        moved = images.clone()
        moved[:lost] += EPSILON
        return moved

    monkeypatch.setattr(SAPGD, "run", valley)
    images, labels = torch.full((200, 1, 1, 1), 0.45), torch.zeros(200, dtype=torch.int64)
    found = tuned(SAPGD(EPSILON, steps=3), Threshold(), images, labels)
    assert found == SAPGD(EPSILON, steps=3, half_vanishing=found.half_vanishing)
    assert found.half_vanishing == pytest.approx(0.44, abs=0.005)
    assert len(tried) == 16
    assert all(0.35 < a < 0.49 for a in tried)


# -- ensembles -----------------------------------------------------------------------------------


def test_the_ensemble_is_the_worst_of_its_members(spread: Network) -> None:
    method = FGSM(EPSILON)
    together = spread.attacked(ensemble_of(method))
    alone = {n: spread.attacked(replace(method, gradient=g)) for n, g in MODES.items()}
    assert (together.right == np.min([found.right for found in alone.values()], axis=0)).all()
    assert together.accuracy < min(found.accuracy for found in alone.values())
    assert together.settings["members"][0]["kind"] == "FGSM"


def test_the_ensemble_exposes_a_masked_network(spread: Network) -> None:
    """A surrogate so steep that most gradients are zero: its attack finds little, the ensemble much."""
    steep = Fixed(SURROGATES["rectangle"], 2000.0)
    masked = spread.attacked(PGD(EPSILON, steps=10, gradient=steep))
    assert masked.zero_gradients > 0.5
    assert masked.accuracy > 0.8
    modes: Mapping[str, Gradient] = {"steep": steep, **FEW_MODES}
    exposed = spread.attacked(ensemble_of(PGD(EPSILON, steps=10), modes))
    assert exposed.accuracy < masked.accuracy - 0.25


@dataclass(frozen=True)
class Counting(Attack):
    """Adds `shift` to all pixels; `sizes` are those of the batches it got."""

    name: ClassVar[str] = "shift"
    shift: float = 0.0
    sizes: tuple[list[int], ...] = ([],)

    def run(self, victim: Victim, images: Tensor, labels: Tensor, draws: torch.Generator) -> Tensor:
        self.sizes[0].append(len(images))
        return self.project(images + self.shift, images)


class Threshold(Victim):
    """Class 0 while the mean pixel, plus noise of `sigma` per image, is below 1/2."""

    name, digest, shape, classes = "threshold", "", (1, 1, 1), 2

    def __init__(self, sigma: float = 0.0) -> None:
        self.sigma = sigma
        self.coding = Coding.of("rsc1", sigma=sigma) if sigma else None

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        noise = self.sigma * torch.randn(len(images), generator=draws)
        value = images.mean((1, 2, 3)) + noise - 0.5
        return torch.stack([-value, value], 1)

    def scores(self, images: Tensor, draws: torch.Generator) -> NDArray[Any]:
        found: NDArray[Any] = self.logits(images, draws).detach().numpy()
        return found


def test_only_images_that_are_still_right_are_attacked() -> None:
    images = torch.tensor([0.3, 0.42, 0.45, 0.49, 0.6]).reshape(5, 1, 1, 1)
    shifts = (0.02, -0.1, 0.06, 0.1)
    members = tuple(Counting(EPSILON, shift, ([],)) for shift in shifts)
    labels = torch.zeros(5, dtype=torch.int64)
    found = Ensemble(members).run(Threshold(), images, labels, generator(0))
    assert [member.sizes[0] for member in members] == [[4], [3], [3], [2]]
    expected = torch.tensor([0.3, 0.52, 0.51, 0.51, 0.6]).reshape(5, 1, 1, 1)
    torch.testing.assert_close(found, expected)


def test_of_a_stochastic_victim_the_lowest_share_counts() -> None:
    images = torch.full((6, 1, 1, 1), 0.45)
    members = tuple(Counting(EPSILON, shift, ([],)) for shift in (0.03, 0.1, -0.1, 0.06))
    labels = torch.zeros(6, dtype=torch.int64)
    method = Ensemble(members, judging_draws=100)
    found = method.run(Threshold(sigma=0.05), images, labels, generator(0))
    torch.testing.assert_close(found, torch.full_like(found, 0.55))
    assert [len(member.sizes[0]) for member in members] == [1] * 4


def test_members_have_one_epsilon() -> None:
    with pytest.raises(ValueError, match=r"epsilons \[0.1, 0.2\]: one or more attacks with one"):
        Ensemble((FGSM(0.1), RandomNoise(0.2)))
    with pytest.raises(ValueError, match="one or more attacks"):
        Ensemble(())
    assert Ensemble((FGSM(0.2),)).epsilon == 0.2
