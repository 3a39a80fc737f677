"""Certificates from draws: the statistics, the radii against exact probabilities, the procedure."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import replace
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from scipy.stats import binom, binomtest, norm

from spikeship.hw_targets.network.coding import Coding, CodingName
from spikeship.hw_targets.network.layers import Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.models import encoding
from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.models.training import Classifier
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.robustness import DeployedVictim, FloatVictim, Victim
from spikeship.pipeline.robustness.certificates.certificates import ABSTAIN, Certified
from spikeship.pipeline.robustness.certificates.certify import certify, method_for, predict
from spikeship.pipeline.robustness.certificates.smoothing import (
    SAMPLER_BOUND,
    bernoulli_radius,
    gaussian_radius,
    truncation,
)
from spikeship.pipeline.robustness.certificates.statistics import lower_bound, sign_test
from spikeship.pipeline.robustness.certificates.votes import answers

# -- counting --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("count", "draws", "alpha", "known"),
    [
        (10, 10, 0.05, 0.05**0.1),
        (1000, 1000, 0.001, 0.001**0.001),
        (1, 10, 0.05, 1 - 0.95**0.1),
        (0, 10, 0.05, 0.0),
        (60, 100, 0.001, 0.4409843),
        (99_000, 100_000, 0.001, 0.9889893),
    ],
)
def test_clopper_pearson_known_values(count: int, draws: int, alpha: float, known: float) -> None:
    found = lower_bound(count, draws, alpha)
    interval = binomtest(count, draws, alternative="greater").proportion_ci(1 - alpha, "exact")
    assert found == pytest.approx(known, abs=1e-7)
    assert found == pytest.approx(interval.low, abs=1e-9)
    if count:  # its definition: so many or more have chance alpha
        assert binom.sf(count - 1, draws, found) == pytest.approx(alpha, rel=1e-6)


@pytest.mark.parametrize(("draws", "alpha"), [(20, 0.1), (100, 0.05), (300, 0.001)])
def test_clopper_pearson_coverage_is_exact(draws: int, alpha: float) -> None:
    """P(bound <= p) >= 1 - alpha for every p, by summing all counts; and not by much more."""
    bounds = np.array([lower_bound(k, draws, alpha) for k in range(draws + 1)])
    p = np.linspace(0.001, 0.999, 999)
    misses = np.array([binom.pmf(np.flatnonzero(bounds > q), draws, q).sum() for q in p])
    assert misses.max() <= alpha + 1e-12
    assert misses.max() > 0.8 * alpha


def test_clopper_pearson_coverage_by_simulation() -> None:
    counts = np.random.default_rng(0).binomial(200, 0.9, 20_000)
    bounds = np.array([lower_bound(k, 200, 0.05) for k in range(201)])
    assert 0.02 < np.mean(bounds[counts] > 0.9) <= 0.05


def test_sign_test() -> None:
    assert sign_test(5, 5) == 1
    assert sign_test(10, 0) == pytest.approx(2 / 1024)


@pytest.mark.parametrize("bad", [(-1, 10, 0.1), (11, 10, 0.1), (0, 0, 0.1), (1, 10, 0), (1, 10, 1)])
def test_impossible_counts(bad: tuple[int, int, float]) -> None:
    with pytest.raises(ValueError, match=r"count = .* draws, alpha ="):
        lower_bound(*bad)


# -- radii against exact probabilities of the worst classifier --------------------------------------


def worst(at: np.ndarray, after: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Of the classifiers with each P(A) at x, the one with least P(A) at x' (Neyman-Pearson).

    P(A) at x and at x', for all of them: outcomes are given to A in the order of after / at.
    """
    order = np.argsort(after / np.maximum(at, 1e-300), kind="stable")
    return np.cumsum(at[order]), np.cumsum(after[order])


def spikes(coding: str, x: tuple[float, ...], steps: int) -> np.ndarray:
    """The probability of every outcome of `steps` frames of an image."""
    out = np.ones(1)
    for value, _ in product(x, range(steps)):
        s = 2 * value - 1
        each = [1 - value, value] if coding == "poisson" else [max(-s, 0), 1 - abs(s), max(s, 0)]
        out = np.outer(out, each).ravel()
    return out


@pytest.mark.parametrize(("coding", "span"), [("poisson", 1), ("signed_poisson", 2)])
@pytest.mark.parametrize("steps", [1, 3])
def test_no_classifier_of_spikes_breaks_the_bernoulli_radius(
    coding: str, span: int, steps: int
) -> None:
    """All pairs of images of two pixels and five greys, and the worst classifier for each pair."""
    images = list(product(np.linspace(0, 1, 5), repeat=2))
    closest = math.inf
    for x, other in product(images, repeat=2):
        distance = float(np.abs(np.subtract(x, other)).sum())
        p, q = worst(spikes(coding, x, steps), spikes(coding, other, steps))
        radius = np.array([bernoulli_radius(v, steps, span=span) for v in p])
        assert (q[radius > distance + 1e-9] > 0.5).all()
        lost = p[q <= 0.5] - 0.5
        if lost.size and lost.max() > 1e-9:
            closest = min(closest, float(distance * steps * span / lost.max()))
    assert closest >= 1 - 1e-9
    if steps == 1:
        assert closest < 1 + 1e-9  # the radius cannot be larger


def lattice(grey: int, sigma: float, bound: float | None, reach: int = 60) -> np.ndarray:
    """Probabilities of the messages -reach .. reach: grey + floor(z + 1/2), z ~ N(0, sigma^2).

    With `bound`, normal numbers beyond bound * sigma are drawn again, as if there were none.
    """
    edges = np.arange(-reach, reach + 2) - 0.5 - grey
    if bound is not None:
        edges = np.clip(edges, -bound * sigma, bound * sigma)
    mass: np.ndarray = np.diff(norm.cdf(edges / sigma))
    return mass / mass.sum()


@pytest.mark.parametrize("bound", [None, 1.0, 1.5, 2.0])
def test_no_classifier_of_integers_breaks_the_gaussian_radius(bound: float | None) -> None:
    """One pixel with whole-number noise; with the noise cut off, only the truncation term holds."""
    sigma = 4.0
    tail = 0.0 if bound is None else truncation(1, bound)
    broken = naive_broken = 0
    tightest = 0.0
    for shift in range(1, 12):
        p, q = worst(lattice(0, sigma, bound), lattice(shift, sigma, bound))
        p = np.minimum(p, 1 - 1e-12)
        radius = np.array([gaussian_radius(v, sigma, tail=tail) for v in p])
        naive = np.array([gaussian_radius(v, sigma) for v in p])
        broken += int(((radius > shift) & (q <= 0.5)).sum())
        naive_broken += int(((naive > shift) & (q <= 0.5)).sum())
        if (q <= 0.5).any():
            tightest = max(tightest, float(radius[q <= 0.5].max() / shift))
    assert broken == 0
    assert (naive_broken > 0) == (bound is not None)
    if bound is None:
        assert tightest > 0.9


def test_truncation() -> None:
    assert truncation(64, SAMPLER_BOUND) == pytest.approx(6.6e-16, rel=0.05)
    assert truncation(1, 2.0) == pytest.approx(0.0455003)
    assert truncation(10**9, 1.0) == 1
    assert gaussian_radius(0.9, 0.3, tail=0.2) == 0  # 0.7 is no more than 0.7
    # a half space, and noise that adds `tail` to its class at x and takes it at x', is at 1/2 there
    radius = gaussian_radius(0.9, 2.0, tail=0.1)
    assert norm.cdf(norm.ppf(0.9 - 0.1) - radius / 2.0) - 0.1 == pytest.approx(0.5)
    z = torch.randn(1_000_000, generator=generator(0), dtype=torch.float64)
    assert pytest.approx(8.5717, abs=1e-4) == SAMPLER_BOUND
    assert float(z.abs().max()) < SAMPLER_BOUND


def test_gaussian_radius_of_known_probabilities() -> None:
    assert gaussian_radius(0.99, 0.5) == pytest.approx(0.5 * 2.3263479)
    assert gaussian_radius(0.99, 0.5, copies=4) == pytest.approx(0.25 * 2.3263479)
    assert gaussian_radius(0.5, 0.5) == 0
    assert gaussian_radius(0.3, 0.5) == 0


# -- the procedure on classifiers whose true radius is known ------------------------------------------


class Rule(Victim):
    """A classifier of the frames by a rule: scores (sample, classes) of (steps, sample, C, H, W)."""

    def __init__(
        self,
        coding: Coding,
        rule: Callable[[torch.Tensor], torch.Tensor],
        classes: int = 2,
        shape: tuple[int, ...] = (1, 1, 1),
    ) -> None:
        self.name, self.digest = "rule", "0"
        self.coding, self.shape, self.classes = coding, shape, classes
        self.rule = rule
        self.calls = 0

    def logits(self, *_: Any, **__: Any) -> torch.Tensor:
        raise NotImplementedError

    def scores(self, images: torch.Tensor, draws: torch.Generator) -> np.ndarray:
        assert self.coding is not None
        self.calls += 1
        return self.rule(encoding.real(self.coding, images.double(), draws)).numpy()


def above(threshold: float) -> Callable[[torch.Tensor], torch.Tensor]:
    """Class 1 where the mean over the frames of the only pixel is above a threshold."""

    def rule(frames: torch.Tensor) -> torch.Tensor:
        x = frames.mean(0).flatten()
        return torch.stack([torch.full_like(x, threshold), x], 1)

    return rule


def all_set(frames: torch.Tensor) -> torch.Tensor:
    every = (frames == 1).all(0).flatten().double()
    return torch.stack([torch.full_like(every, 0.5), every], 1)


def one(grey: float, count: int = 1) -> torch.Tensor:
    return torch.full((count, 1, 1, 1), grey)


def test_rsc1_certifies_the_true_radius() -> None:
    """A threshold 0.2 below the image: the most likely answer changes at 0.2 exactly."""
    victim = Rule(Coding.of("rsc1", 8, 20, 0.3), above(0.55))
    found = certify(victim, one(0.75), torch.tensor([1]), n=20_000)
    assert (found.method, found.norm, found.unit) == ("rsc1", "L2", "pixel")
    assert found.certificates[0].answer == 1
    assert 0.185 < found.certificates[0].radius <= 0.2


def test_rsc2_needs_the_square_root_of_the_steps() -> None:
    """T = 8, true radius 0.200; Cohen's formula unchanged claims 0.566."""
    victim = Rule(Coding.of("rsc2", 8, 20, 0.3), above(0.55))
    found = certify(victim, one(0.75), torch.tensor([1]), n=20_000)
    (certificate,) = found.certificates
    assert (found.method, certificate.answer) == ("rsc2", 1)
    assert 0.185 < certificate.radius <= 0.2
    assert gaussian_radius(certificate.lower, 0.3) == pytest.approx(certificate.radius * 8**0.5)
    p = float(norm.cdf(0.2 * 8**0.5 / 0.3))
    assert gaussian_radius(p, 0.3) == pytest.approx(0.566, abs=5e-4)
    assert gaussian_radius(p, 0.3, copies=8) == pytest.approx(0.2)


@pytest.mark.parametrize(
    ("coding", "radius", "true"),
    [("poisson", 0.0625, 1 - 0.5**0.125), ("signed_poisson", 0.03125, (1 - 0.5**0.125) / 2)],
)
def test_bernoulli_needs_the_steps(coding: CodingName, radius: float, true: float) -> None:
    """All 8 spikes at x = 1: p = 1, true radius 0.083; p - 1/2 = 0.5 would be false.

    Signed spikes have the probability 2 x - 1: half of each, and 0.0625 would be false, too.
    """
    victim = Rule(Coding.of(coding, 8, 16), all_set)
    found = certify(victim, one(1.0), torch.tensor([1]), n=20_000)
    (certificate,) = found.certificates
    assert (found.method, found.norm, found.unit) == ("bernoulli", "L1", "pixel")
    assert 0.99 * radius < certificate.radius < radius < true < 2 * radius


def test_abstain_at_the_boundary_and_a_wrong_class_are_not_certified() -> None:
    victim = Rule(Coding.of("rsc1", 1, 20, 0.3), above(0.75))
    images = torch.cat([one(0.75), one(0.0), one(0.0)])
    found = certify(victim, images, torch.tensor([1, 1, 0]), n=500)
    boundary, wrong, right = found.certificates
    assert (boundary.answer, boundary.radius, boundary.right) == (ABSTAIN, 0, False)
    assert (wrong.answer, wrong.right) == (0, False)
    assert wrong.radius > 0.3
    assert right.right
    assert found.accuracy() == found.accuracy(0.3) == 1 / 3
    assert found.accuracy(right.radius) == 1 / 3
    assert found.accuracy(right.radius + 1e-9) == 0
    assert found.abstained == 1 / 3
    assert predict(victim, images).tolist() == [ABSTAIN, 0, 0]


def test_radii_are_too_large_no_more_often_than_alpha() -> None:
    victim = Rule(Coding.of("rsc1", 1, 20, 0.3), above(0.55))
    found = certify(victim, one(0.75, 600), torch.ones(600), n0=20, n=50, alpha=0.2)
    false = np.mean([c.radius > 0.2 for c in found.certificates])
    assert 0.05 < false <= 0.2


def test_class_a_is_chosen_on_other_draws_than_it_is_counted_on() -> None:
    """Two classes of equal probability: one set of 20 draws for both would double the errors.

    14 or more of 20 have chance 0.058 for a class chosen beforehand, 0.115 for the more frequent one.
    """
    seen: list[torch.Tensor] = []
    rule = above(0.75)

    def keep(frames: torch.Tensor) -> torch.Tensor:
        seen.append(frames)
        return rule(frames)

    victim = Rule(Coding.of("rsc1", 1, 20, 0.3), keep)
    found = certify(victim, one(0.75, 1000), torch.zeros(1000), n0=20, n=20, alpha=0.1)
    assert np.mean([c.answer != ABSTAIN for c in found.certificates]) < 0.085
    assert torch.cat([frames.flatten() for frames in seen]).unique().numel() == 1000 * 40


def test_images_have_streams_of_their_own() -> None:
    """So the first images are certified alike, however many follow; and predict draws anew."""
    victim = Rule(Coding.of("rsc1", 1, 20, 0.3), above(0.6))
    many = certify(victim, one(0.75, 6), torch.ones(6), n=300)
    few = certify(victim, one(0.75, 2), torch.ones(2), n=300)
    assert few.certificates == many.certificates[:2]
    assert len({c.counts for c in many.certificates}) > 3
    other = certify(victim, one(0.75, 6), torch.ones(6), n=300, seed=1)
    assert other.certificates != many.certificates


# -- going on ----------------------------------------------------------------------------------------


class Interrupted(Rule):
    """Stops once, at a call."""

    stop = -1

    def scores(self, images: torch.Tensor, draws: torch.Generator) -> np.ndarray:
        if self.calls == self.stop:
            self.stop = -1
            raise KeyboardInterrupt
        return super().scores(images, draws)


def resumable() -> Interrupted:
    return Interrupted(Coding.of("rsc1", 1, 20, 0.3), above(0.6))


LABELS = torch.ones(5)
IMAGES = torch.tensor([0.75, 0.7, 0.6, 0.5, 1.0])[:, None, None, None]


def run(victim: Victim, folder: Path | None, **changes: Any) -> Certified:
    options: dict[str, Any] = {"n": 20_000, "seed": 3, "folder": folder, **changes}
    return certify(victim, options.pop("images", IMAGES), LABELS, **options)


def test_an_interrupted_run_goes_on_to_the_same_result(tmp_path: Path) -> None:
    victim, whole = resumable(), run(resumable(), None)
    victim.stop = 7  # in the fourth image; blocks are of one image here, of two calls
    with pytest.raises(KeyboardInterrupt):
        run(victim, tmp_path)
    assert len(list(tmp_path.iterdir())) == 3
    assert run(victim, tmp_path) == whole
    assert victim.calls == 7 + 4
    assert run(victim, tmp_path) == whole
    assert victim.calls == 11  # all from the folder
    looser = run(victim, tmp_path, alpha=0.01)
    assert victim.calls == 11  # alpha plays no part in votes
    assert [c.counts for c in looser.certificates] == [c.counts for c in whole.certificates]
    assert looser.certificates[0].radius > whole.certificates[0].radius


@pytest.mark.parametrize(
    "change", [{"seed": 4}, {"n": 20_001}, {"n0": 50}, {"images": IMAGES * 0.95}, "digest", "sigma"]
)
def test_votes_of_something_else_are_not_taken(tmp_path: Path, change: Any) -> None:
    run(resumable(), tmp_path)
    victim = resumable()
    if change == "digest":
        victim.digest = "1"
    elif change == "sigma":
        victim.coding = Coding.of("rsc1", 1, 20, 0.4)
    changes = change if isinstance(change, dict) else {}
    assert run(victim, tmp_path, **changes) == run(victim, None, **changes)
    assert victim.calls == 20


def test_damaged_votes_are_an_error(tmp_path: Path) -> None:
    run(resumable(), tmp_path)
    file = min(tmp_path.iterdir())
    text = file.read_text()
    for damage in (
        text[:50],
        text.replace('"votes"', '"voices"'),
        text.replace('"seed": 3', '"seed": 4'),
    ):
        file.write_text(damage)
        with pytest.raises(ValueError, match=r"votes-000000.*delete it"):
            run(resumable(), tmp_path)


# -- on integers -------------------------------------------------------------------------------------


def threshold_network(coding: str, sigma: float, bits: int, steps: int = 2) -> DeployedVictim:
    """Class 1 where the sum over the steps of the first pixel's messages is above 6 a step.

    Both pixels are integrators' input; the second, at 12 of 16 greys, counts by a half.
    """
    recipe = Recipe(
        Coding(coding, steps, levels=16, sigma=sigma, message_bits=bits),
        decode="last voltage",
        reset_interval=steps,
        reset_offset=1,
    )
    weight = np.array([[0, 1], [2, 0]])
    return DeployedVictim(Deployed(Network((Input((1, 1, 2)), Flatten(), Dense(weight)), recipe)))


def pair(grey: int) -> torch.Tensor:
    return torch.tensor([[[[grey / 16, 12 / 16]]]])


@pytest.mark.parametrize("coding", ["rsc1", "rsc2"])
def test_votes_of_integers_are_those_of_the_network(coding: str) -> None:
    """rsc1 is drawn once and held; the result must be as if every step were encoded."""
    victim = threshold_network(coding, 0.2, 8, steps=3)
    images = pair(7).expand(500, 1, 1, 2)
    fast, slow = (
        f(generator(5))
        for f in (lambda g: answers(victim, images, g), lambda g: victim.answers(images, g))
    )
    assert np.array_equal(fast, slow)
    assert 0 < fast.mean() < 1


def test_integers_have_the_radius_on_the_grid() -> None:
    """Scores 2 (g + n) against 12 + m: a half space at distance d = (2 g - 12) / sqrt(5) greys."""
    victim = threshold_network("rsc1", 0.25, 8)
    found = certify(victim, pair(9), torch.tensor([1]), n=20_000)
    (certificate,) = found.certificates
    true = (2 * 9 - 12) / 5**0.5 / 16
    assert (found.method, certificate.answer, certificate.refused) == ("rsc1-grid", 1, 0)
    assert 0.85 * true < certificate.radius <= true
    plain = certify(victim, pair(9), torch.tensor([1]), n=20_000, method="rsc1")
    assert plain.certificates[0].radius == pytest.approx(certificate.radius, abs=1e-12)


def test_refused_draws_count_against_and_stop_nothing() -> None:
    """5 bits hold -16 .. 15: of 9 + n, n ~ N(0, 4^2), more than 14 % are refused, half of 15 + n."""
    victim = threshold_network("rsc1", 0.25, 5)
    assert victim.coding is not None
    images = pair(9).expand(4000, 1, 1, 2)
    with pytest.raises(ValueError, match=r"5 bits hold -16 \.\. 15"):
        encoding.integers(victim.coding, images, generator(0))
    wide = threshold_network("rsc1", 0.25, 8)
    free, found = answers(wide, images, generator(0)), answers(victim, images, generator(0))
    assert wide.coding is not None
    messages = encoding.integers(wide.coding, images, generator(0))
    outside = ((messages < -16) | (messages > 15)).any(axis=(1, 2, 3, 4))
    assert np.array_equal(found == 2, outside)
    assert np.array_equal(found[~outside], free[~outside])

    certified = certify(victim, torch.cat([pair(9), pair(15)]), torch.tensor([1, 1]), n=4000)
    certificate, mostly = certified.certificates
    assert sum(certificate.counts) + certificate.refused == 4000
    assert certificate.refused / 4000 == pytest.approx(outside.mean(), abs=0.03)
    assert certificate.lower < certificate.counts[1] / 4000
    unrefused = certify(wide, pair(9), torch.tensor([1]), n=4000).certificates[0]
    assert certificate.radius < unrefused.radius
    assert mostly.answer == ABSTAIN  # more than half of the draws have no answer
    assert predict(victim, torch.cat([pair(9), pair(16)])).tolist() == [1, ABSTAIN]


def test_coding_and_readout_are_part_of_what_is_stored(tmp_path: Path) -> None:
    """Neither is in a network's digest."""
    victim = threshold_network("rsc1", 0.25, 8)
    recipe = replace(victim.recipe, decode="mean voltage")
    other = DeployedVictim(Deployed(Network(victim.network.layers, recipe)))
    assert other.digest == victim.digest
    for network in (victim, other, threshold_network("rsc1", 0.25, 5)):
        certify(network, pair(9), torch.tensor([1]), n=50, folder=tmp_path)
    assert len(list(tmp_path.iterdir())) == 3


# -- float networks, and what cannot be certified ------------------------------------------------------


@pytest.mark.parametrize(
    ("coding", "sigma", "method"),
    [
        ("rsc1", 0.2, "rsc1"),
        ("rsc2", 0.2, "rsc2"),
        ("poisson", 0, "bernoulli"),
        ("signed_poisson", 0, "bernoulli"),
    ],
)
def test_float_networks_are_certified(coding: CodingName, sigma: float, method: str) -> None:
    settings = Settings.of(coding=coding, sigma=sigma, widths=(4,), steps=4)
    victim = FloatVictim(Classifier(settings))
    found = certify(
        victim, torch.rand(2, 1, 8, 8, generator=generator(0)), torch.zeros(2), n0=5, n=20
    )
    assert (found.method, found.name, found.digest) == (method, "float", victim.digest)
    assert found.on_grid == 0
    assert found.runs == 25


def test_auto_is_the_certificate_on_the_grid_for_integers() -> None:
    assert method_for(threshold_network("rsc1", 0.2, 8)) == "rsc1-grid"
    assert method_for(threshold_network("rsc2", 0.2, 8)) == "rsc2"


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"method": "cohen"}, "method 'cohen' is unknown"),
        ({"method": "rsc2"}, "rsc2 is for the coding rsc2; rule has rsc1"),
        ({"method": "rsc1-grid"}, "rsc1-grid holds for integers"),
        ({"images": torch.zeros(2, 1, 8, 8)}, r"\(sample, \*\(1, 1, 1\)\) is needed"),
        ({"images": one(1.5, 2)}, "images reach 1.5 .. 1.5"),
        ({"labels": torch.zeros(3)}, "2 images but 3 labels"),
        ({"n0": 0}, "n0 = 0"),
        ({"alpha": 1.0}, "alpha = 1.0"),
        ({"n": 0, "alpha": 0.0}, "n = 0 draws.*; alpha = 0.0"),
    ],
)
def test_errors(changes: dict[str, Any], says: str) -> None:
    victim = Rule(Coding.of("rsc1", 1, 20, 0.3), above(0.5))
    options = {"images": one(0.5, 2), "labels": torch.zeros(2), **changes}
    with pytest.raises(ValueError, match=says):
        certify(victim, options.pop("images"), options.pop("labels"), **options)


def test_a_coding_without_draws_has_no_vote() -> None:
    victim = Rule(Coding.of("direct"), above(0.5))
    with pytest.raises(ValueError, match="rule has the coding direct, which draws nothing"):
        certify(victim, one(0.5), torch.zeros(1))
    with pytest.raises(ValueError, match="there is no vote"):
        predict(FloatVictim(Classifier(Settings(spiking=False))), torch.zeros(1, 1, 8, 8))
