"""The sanity suite: every check fails for a network built for that, and masked networks are exposed."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import Tensor

from spikeship.hw_targets.network.coding import Coding
from spikeship.models import training
from spikeship.models.data.dataset import Split
from spikeship.models.data.load import load
from spikeship.models.settings import Settings
from spikeship.models.surrogates import SURROGATES, USUAL, Fixed, Gradient
from spikeship.pipeline.robustness import DeployedVictim, FloatVictim, Victim
from spikeship.pipeline.robustness.battery import Plan, battery
from spikeship.pipeline.robustness.sanity import (
    LEVEL,
    MARGIN,
    MISSED,
    above,
    at_most,
    fresh_draws,
    judge,
    sanity,
    slack,
    unbounded,
    unseen,
    worst_case,
)

PLAN = Plan(steps=10, eot=1, draws=4, averages=(1, 16), queries=100)
STEEP = Fixed(SURROGATES["triangle"], 1000.0)


class Brightness(Victim):
    """Two classes by the mean m of 4x4 pixels: 0, which is right, where `safe` (m) > 0.

    Gradients come from `loss` (m, gradient rule), which says what the attacker sees.
    """

    name, digest, coding = "brightness", "-", None
    shape, classes = (1, 4, 4), 2
    draws_noise = 0.0

    def __init__(
        self,
        safe: Callable[[Tensor], Tensor] = lambda m: 0.55 - m,
        loss: Callable[[Tensor, Gradient], Tensor] = lambda m, _: m,
    ) -> None:
        self.safe, self.loss = safe, loss

    @property
    def stochastic(self) -> bool:
        return self.draws_noise > 0

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        noise = self.draws_noise * torch.randn(images.shape, generator=draws)
        rise = self.loss(images.mean((1, 2, 3)), gradient) + (noise * images).sum((1, 2, 3)) / 16
        return torch.stack([-rise, rise], 1)

    def scores(self, images: Tensor, draws: torch.Generator) -> np.ndarray:
        safe = self.safe(images.double().mean((1, 2, 3))).numpy()
        return np.stack([safe, -safe], 1)


class Noisy(Brightness):
    draws_noise = 10.0


class Spiking(Brightness):
    coding = Coding.of("direct")


def _exact(m: Tensor) -> Tensor:
    return 1e-9 - (m - 0.5).abs()


def _away_from(low: float, high: float) -> Callable[[Tensor], Tensor]:
    """Right but for a brightening between the two."""
    return lambda m: torch.where((m - 0.5 > low) & (m - 0.5 < high), -1.0, 1.0)


def _flat(m: Tensor, _: Gradient) -> Tensor:
    return 0 * m


def _honest_at_the_image(m: Tensor, _: Gradient) -> Tensor:
    return torch.where((m.detach() - 0.5).abs() < 1e-6, m, -m)


def _trap(m: Tensor, _: Gradient) -> Tensor:
    """Uphill, but for a ditch that half as long steps do not cross."""
    rise = m.detach() - 0.5
    return torch.where((rise >= 0.03) & (rise < 0.045), -m, m)


def _prefers_the_harmless(m: Tensor, _: Gradient) -> Tensor:
    return torch.where(m.detach() > 0.5, m - 2, 1 - m)


def _flat_for_the_usual(m: Tensor, gradient: Gradient) -> Tensor:
    return 0 * m if gradient == USUAL else m


def _down(m: Tensor, _: Gradient) -> Tensor:
    return -m


def _images(count: int = 60) -> tuple[Tensor, Tensor]:
    return torch.full((count, 1, 4, 4), 0.5), torch.zeros(count, dtype=torch.int64)


def test_a_healthy_network_passes() -> None:
    found = sanity(Brightness(), *_images(), 0.1, sources={"twin": Brightness()}, plan=PLAN)
    assert found.passed, found.failed
    assert [c.name for c in found.checks if c.passed is None] == ["EOT curve flat", "surrogates"]


@pytest.mark.slow
@pytest.mark.parametrize(
    ("victim", "fails"),
    [
        (Brightness(safe=_exact), "tiny epsilon"),
        (Brightness(loss=_flat), "unbounded epsilon"),
        (Brightness(safe=_away_from(0.06, 0.15)), "monotone in epsilon"),
        (Brightness(loss=_honest_at_the_image), "steps"),
        (Brightness(loss=_trap), "more steps"),
        (Brightness(loss=_prefers_the_harmless), "more restarts"),
        (Noisy(), "EOT curve flat"),
        (Spiking(loss=_flat_for_the_usual), "surrogates"),
        (Brightness(loss=_flat), "white-box / transfer"),
        (Brightness(loss=_flat), "white-box / gradient-free"),
        (Brightness(safe=lambda m: 0.505 - m, loss=_down), "adversarial / random"),
        (Brightness(loss=_flat), "zero gradients"),
    ],
    ids=lambda part: part if isinstance(part, str) else "",
)
def test_a_network_built_to_fail_a_check_fails_it(victim: Victim, fails: str) -> None:
    found = sanity(victim, *_images(), 0.1, sources={"twin": Brightness()}, plan=PLAN)
    assert fails in found.failed
    assert not found.passed


def test_the_checks_that_no_network_fails() -> None:
    """A worst case above its own members, and a single judging draw of answers that vary."""
    low, high = np.zeros(20), np.ones(20)
    assert worst_case(high, low, "PGD").passed is False
    assert worst_case(low, high, "PGD").passed is True
    assert fresh_draws(True, 1, 0).passed is False
    assert fresh_draws(True, 2, 0).passed is True
    assert fresh_draws(False, 1, 0).passed is True


def test_every_check_is_run_and_named_once() -> None:
    found = judge(battery(Brightness(), *_images(), 0.1, plan=PLAN))
    names = [check.name for check in found.checks]
    assert len(names) == len(set(names)) == 14
    assert {c.name: c.passed for c in found.checks}["white-box / transfer"] is None
    assert all(check.sentence.endswith(".") for check in found.checks)


@pytest.mark.slow
@pytest.mark.parametrize("draws", [1, 20])
def test_slack_lets_true_relations_fail_rarely(draws: int) -> None:
    """Two attacks with the same chances per image: too far apart in LEVEL of the cases at most."""
    dice = np.random.default_rng(0)
    chances = dice.beta(0.5, 0.5, (3000, 60))
    first, second = (dice.binomial(draws, chances) / draws for _ in range(2))
    failed = np.mean([above(a, b)[0] for a, b in zip(first, second, strict=True)])
    assert failed < LEVEL + 3 * (LEVEL / 3000) ** 0.5
    worse = np.mean(
        [above(np.minimum(a + 0.3, 1), b)[0] for a, b in zip(first, second, strict=True)]
    )
    assert worse > 0.5


def test_slack_is_students_and_no_less_than_the_accuracys_own_error() -> None:
    """Of differences 2, -2 and 16 zeros: s = sqrt(8/17), t_{.99, 17} = 2.567."""
    differences, zero = np.array([2.0, -2.0] + [0.0] * 16), np.zeros(18)
    students = 2.5669 * (8 / 17) ** 0.5 / 18**0.5
    assert slack(zero, differences) == pytest.approx(students, rel=1e-4)
    assert slack(zero, differences, 2) > students
    coins = np.array([0.0, 1.0] * 9)
    assert slack(coins, coins + 0.25) == pytest.approx((4.5 / 17) ** 0.5 / 18**0.5)
    apart = slack(coins, coins, paired=False)
    assert apart == pytest.approx(2.5669 * (9 / 17) ** 0.5 / 18**0.5, rel=1e-4)


def _apart(images: int, up: int, down: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """Two attacks: `up` images are right under the first alone, `down` under the second alone."""
    first, second = np.zeros(images), np.zeros(images)
    first[:up], second[up : up + down] = 1, 1
    return first, second


@pytest.mark.parametrize(
    ("rights", "verdict"),
    [
        ((np.repeat(0.75, 10), np.repeat(0.5, 10)), "FAILED"),
        ((np.array([1, 1, 0.5, *[0] * 7]), np.zeros(10)), "too few images"),
        (_apart(10, 3), "too few images"),
        (_apart(10, 0), "too few images"),
        (_apart(10, 0, 9), "passed"),
        (_apart(10, 5), "FAILED"),
        (_apart(28, 0), "too few images"),
        (_apart(29, 0), "passed"),
        (_apart(100, 4), "passed"),
        (_apart(100, 5, 5), "passed"),
        (_apart(100, 12, 4), "too few images"),
        (_apart(100, 25), "FAILED"),
        (_apart(400, 12, 4), "passed"),
    ],
    ids=lambda part: part if isinstance(part, str) else f"{len(part[0])} images",
)
def test_too_few_images_are_no_pass(rights: tuple, verdict: str) -> None:
    """Once ten images passed although Square left 25 points less than SA-PGD."""
    first, second = rights
    check = at_most("name", "Less:", ("SA-PGD", first), {"Square": second})
    assert check.verdict == verdict
    assert check.passed == {"passed": True, "FAILED": False}.get(verdict)
    assert check.unseen == unseen(first, second)
    assert ("So few images may hide up to" in check.sentence) == (verdict == "too few images")


@pytest.mark.slow
@pytest.mark.parametrize("draws", [1, 20])
@pytest.mark.parametrize("images", [30, 100, 300])
@pytest.mark.parametrize("back", [0.0, 0.05])
def test_a_breach_that_matters_is_rarely_missed(draws: int, images: int, back: float) -> None:
    """The first attack leaves MARGIN more: a check passes in MISSED of the cases at most."""
    dice = np.random.default_rng(0)
    kinds = dice.choice(3, (4000, images), p=(1 - MARGIN - 2 * back, MARGIN + back, back))
    chances = np.array([[0.5, 0.5], [1, 0], [0, 1]] if draws > 1 else [[0, 0], [1, 0], [0, 1]])
    first, second = np.moveaxis(dice.binomial(draws, chances[kinds]) / draws, -1, 0)
    passed = np.mean([unseen(a, b) <= MARGIN for a, b in zip(first, second, strict=True)])
    assert passed < MISSED + 3 * (MISSED / 4000) ** 0.5


def test_a_suite_of_too_few_images_does_not_pass() -> None:
    """The healthy network, on ten images; more of them are asked for, and nothing is called failed."""
    judged = sanity(Brightness(), *_images(10), 0.1, plan=PLAN)
    assert (judged.passed, judged.verdict, judged.failed) == (False, "too few images", ())
    assert {"tiny epsilon", "white-box / gradient-free"} <= set(judged.undecided)
    assert sanity(Brightness(), *_images(), 0.1, plan=PLAN).verdict == "passed"


def test_about_zero_is_what_other_classes_images_do() -> None:
    """The limit is (1 - clean) / (classes - 1): at chance level 1 / classes, of a sure network 0."""
    clean = np.full(50, 0.1)
    assert unbounded(clean, clean, 10).figures["limit"] == pytest.approx(0.1)
    assert unbounded(clean, clean, 10).passed
    assert unbounded(np.zeros(50), np.ones(50), 10).passed
    assert not unbounded(clean, np.ones(50), 10).passed


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"curve": (0.5, 2.0)}, "curve = "),
        ({"curve": (2.0, 1.0)}, "curve = "),
        ({"draws": 1}, "draws = 1; 2 or more"),
        ({"steps": 0, "queries": 0}, "steps = 0.*queries = 0"),
    ],
)
def test_plan_errors(change: dict, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Plan(**change)


@pytest.mark.parametrize(("epsilon", "images"), [(0.0, 3), (1.0, 3), (0.1, 1)])
def test_battery_errors(epsilon: float, images: int) -> None:
    with pytest.raises(ValueError, match="2 images or more"):
        battery(Brightness(), *_images(images), epsilon, plan=PLAN)


# Trained networks


@pytest.fixture(scope="module")
def digits() -> Split:
    test = load("digits").test
    return Split(test.images[:80], test.labels[:80])


def _train(folder: Path, **changes: object) -> training.Classifier:
    settings = Settings.of(coding="direct", sigma=0.0, levels=64, steps=4, widths=(32,), epochs=6)
    settings = settings.changed(**changes)
    return training.train(settings, load("digits"), folder, progress=False)[0]


@pytest.fixture(scope="module")
def direct(tmp_path_factory: pytest.TempPathFactory) -> training.Classifier:
    return _train(tmp_path_factory.mktemp("direct"))


@pytest.fixture(scope="module")
def ann(trained: Path) -> FloatVictim:
    return FloatVictim(training.load(trained / "ann/best.ckpt"), "ann")


class Saturated(FloatVictim):
    """Logits times 1000: the softmax is 1 in float32, and the gradient vanishes."""

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        return 1000 * super().logits(images, draws, gradient)


class Steep(FloatVictim):
    """Whatever surrogate the attacker asks for, spikes pass a gradient only at the threshold itself."""

    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        return super().logits(images, draws, STEEP)


class SteepIntegers(DeployedVictim):
    def logits(self, images: Tensor, draws: torch.Generator, gradient: Gradient = USUAL) -> Tensor:
        return super().logits(images, draws, STEEP)


def _quantized(kind: type[DeployedVictim], classifier: training.Classifier) -> DeployedVictim:
    return kind.quantized(classifier, load("digits").train.images[:128])


@pytest.mark.slow
def test_healthy_networks_pass(
    direct: training.Classifier, ann: FloatVictim, digits: Split
) -> None:
    for victim in (FloatVictim(direct), _quantized(DeployedVictim, direct), ann):
        other = ann if victim is not ann else FloatVictim(direct)
        found = sanity(
            victim, digits.images, digits.labels, 0.1, sources={"other": other}, plan=PLAN
        )
        assert found.passed, (victim.name, found.failed)


@pytest.mark.slow
def test_a_healthy_noisy_network_passes(ann: FloatVictim, digits: Split, tmp_path: Path) -> None:
    victim = FloatVictim(_train(tmp_path, coding="rsc1", sigma=0.2))
    plan = Plan(steps=8, eot=4, draws=10, averages=(1, 2, 4, 8), queries=50)
    found = sanity(victim, digits.images, digits.labels, 0.1, sources={"ann": ann}, plan=plan)
    assert found.passed, found.failed
    flat = next(check for check in found.checks if check.name == "EOT curve flat")
    assert set(flat.figures) == {"EOT 1", "EOT 2", "EOT 4", "EOT 8", "slack"}


@pytest.mark.slow
def test_masked_networks_are_exposed(
    direct: training.Classifier, ann: FloatVictim, digits: Split
) -> None:
    """Accuracy under PGD looks fine; the suite says why not to believe it."""
    everywhere = {
        "unbounded epsilon",
        "white-box / transfer",
        "white-box / gradient-free",
        "zero gradients",
    }
    steep_plan = replace(PLAN, gradient=STEEP)
    by_pgd = {"unbounded epsilon", "surrogates", "zero gradients"}  # SA-PGD has its own surrogate
    cases = (
        (Saturated(direct, "saturated"), PLAN, everywhere),
        (Steep(direct, "steep"), PLAN, everywhere),
        (_quantized(SteepIntegers, direct), PLAN, everywhere),
        (FloatVictim(direct, "steep attacker"), steep_plan, by_pgd),
    )
    for victim, plan, expected in cases:
        found = battery(victim, digits.images, digits.labels, 0.1, sources={"ann": ann}, plan=plan)
        assert found.pgd.accuracy > 0.75, victim.name
        judged = judge(found)
        assert not judged.passed
        assert expected <= set(judged.failed), (victim.name, judged.failed)
        assert found.worst.accuracy < found.pgd.accuracy - 0.2
        if plan is steep_plan:
            assert found.white_box is found.adaptive
