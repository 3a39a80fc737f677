"""Can an evaluation be trusted? Checks that a gradient-masked network, or a weak attack, fails.

A network looks robust if the attack is weak: because gradients vanish behind a saturated softmax or a
steep surrogate, because noise hides them, or because the attack stops too early (Athalye et al. 2018,
Carlini et al. 2019). Each check is a relation that holds between strong attacks on any network, tested
on what was measured. They are necessary conditions: to pass all of them proves nothing.

**Slack.** Accuracies are measured on n images with D fresh draws of the coding each. Of two attacks on
the same images, r_i and q_i are the fractions of the D draws in which image i is answered rightly, and
d_i = r_i - q_i. A relation mean(r) <= mean(q) counts as broken where mean(d) is above both

    t * s(d) / sqrt(n)      what chance explains
    s(r) / sqrt(n)          the standard error of the accuracy itself: less changes no conclusion

with s(d)^2 = sum_i (d_i - mean(d))^2 / (n - 1), and t the quantile 1 - LEVEL / m of Student's
distribution of n - 1 degrees of freedom, m the number of such comparisons in the check. s(d)^2 estimates
the variance of one image's d_i with all its parts: the binomial p(1 - p) / D of the draws, the attack's
own random choices, and the choice of the images. So a relation that truly holds fails a check with
probability LEVEL at most, approximately for few images. For a network without noise r_i is 0 or 1.

Which surrogate is the best differs from network to network, so that no order of them is a law. There
the accuracies count as different only where they would on different images, above
t * sqrt(s(r)^2 + s(q)^2) / sqrt(n).

**Power.** A check that could not have failed says nothing: of ten images, five must go wrong, all the
same way, before chance does not explain it. So a relation that was not seen to be broken holds only
where a breach of MARGIN would have been seen. With p and m the sums of the positive and of the negative
d_i over n, U and L the one-sided Clopper-Pearson limits of such shares at level MISSED, it may still be
broken by

    p - m + sqrt((U(p) - p)^2 + (m - L(m))^2)

which is the upper limit of mean(d) from those of its parts (Zou and Donner, Statistics in Medicine 27,
2008). Where this is above MARGIN, the verdict is "too few images". With fewer than 29 images no check
passes: even where none went wrong, more than a tenth of all images may.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from .battery import QUICK, Battery, Plan, battery
from .certificates.statistics import lower_bound
from .victims import Victim

LEVEL = 0.01
"""Probability, per check, of failing a network that satisfies the relation."""
MARGIN = 0.1
"""The breach of a relation, as a part of all images, that a check must be able to see: our choice."""
MISSED = 0.05
"""Probability, at most, of passing a network whose relation is broken by MARGIN."""

Right = NDArray[np.float64]
"""The fraction of fresh draws in which each image is answered rightly, (image,)."""


Verdict: TypeAlias = Literal["passed", "FAILED", "too few images", "not run"]


@dataclass(frozen=True)
class Check:
    """One relation: whether it holds, its figures, and one sentence.

    `verdict`: "too few images" where a breach that matters may be there unseen, "not run" where there is
    nothing to compare. `unseen`: by how much the relation may be broken all the same, see the module;
    None of checks that no chance enters.
    """

    name: str
    verdict: Verdict
    figures: Mapping[str, float]
    sentence: str
    unseen: float | None = None

    @property
    def passed(self) -> bool | None:
        """Whether the relation holds; None where this is not known."""
        return {"passed": True, "FAILED": False}.get(self.verdict)


@dataclass(frozen=True)
class Sanity:
    """All checks of one evaluation; `passed` where none failed and none had too few images."""

    passed: bool
    checks: tuple[Check, ...]

    @property
    def failed(self) -> tuple[str, ...]:
        """Names of the checks that failed."""
        return self._named("FAILED")

    @property
    def undecided(self) -> tuple[str, ...]:
        """Names of the checks that had too few images to tell."""
        return self._named("too few images")

    @property
    def verdict(self) -> Verdict:
        """Of all checks: the worst."""
        if self.failed:
            return "FAILED"
        return "too few images" if self.undecided else "passed"

    def _named(self, verdict: Verdict) -> tuple[str, ...]:
        return tuple(check.name for check in self.checks if check.verdict == verdict)


def slack(first: Right, second: Right, comparisons: int = 1, *, paired: bool = True) -> float:
    """By how much the mean of `first` may exceed that of `second`; see the module."""
    from scipy.stats import t as student

    n = len(first)
    t = float(student.ppf(1 - LEVEL / comparisons, n - 1)) / math.sqrt(n)
    if not paired:
        return t * math.sqrt(first.var(ddof=1) + second.var(ddof=1))
    chance = t * float((first - second).std(ddof=1))
    return max(chance, float(first.std(ddof=1)) / math.sqrt(n))


def above(
    first: Right, second: Right, comparisons: int = 1, *, paired: bool = True
) -> tuple[bool, float, float]:
    """Whether `first` is above `second` by more than the slack; the mean difference; the slack."""
    difference = float((first - second).mean())
    room = slack(first, second, comparisons, paired=paired)
    return difference > room, difference, room


def unseen(first: Right, second: Right) -> float:
    """By how much the mean of `first` may be above that of `second` all the same; see the module."""
    n, difference = len(first), first - second
    up, down = (float(part.clip(0).sum()) for part in (difference, -difference))
    over = 1 - lower_bound(n - up, n, MISSED) - up / n
    under = down / n - lower_bound(down, n, MISSED)
    return (up - down) / n + math.hypot(over, under)


def _checked(
    name: str,
    broken: bool,
    hidden: float,
    figures: Mapping[str, float],
    sentence: str,
) -> Check:
    """A check of means: failed where it is `broken`, passed where no breach of MARGIN is hidden."""
    if broken:
        return Check(name, "FAILED", figures, sentence, hidden)
    if hidden <= MARGIN:
        return Check(name, "passed", figures, sentence, hidden)
    more = f"So few images may hide up to {100 * min(hidden, 1.0):.0f} points."
    return Check(name, "too few images", figures, f"{sentence} {more}", hidden)


def _share(right: Right) -> float:
    return float(right.mean())


def control(tiny: Right, clean: Right, epsilon: float) -> Check:
    """An attack with (almost) no room must not change anything: two-sided."""
    up, difference, room = above(tiny, clean, 2)
    down = above(clean, tiny, 2)[0]
    return _checked(
        "tiny epsilon",
        up or down,
        max(unseen(tiny, clean), unseen(clean, tiny)),
        {"accuracy": _share(tiny), "clean": _share(clean), "slack": room},
        f"At epsilon {epsilon:g} accuracy must be the clean one; it differs by "
        f"{_points(difference)}.",
    )


def unbounded(huge: Right, clean: Right, classes: int) -> Check:
    """With epsilon 1 the adversary may show any image, so accuracy must be about 0.

    About 0, also for a noisy coding: at most (1 - clean accuracy) / (classes - 1). That is what showing
    a random image of another class does: it is answered wrongly, and then with just this label,
    that often. Guessing among the classes gives 1 / classes, and clean accuracy no better than guessing
    allows just that.
    """
    floor = (1 - clean) / (classes - 1)
    failed, _, room = above(huge, floor)
    return _checked(
        "unbounded epsilon",
        failed,
        unseen(huge, floor),
        {"accuracy": _share(huge), "limit": float(floor.mean()), "slack": room},
        f"With epsilon 1 any image may be shown: accuracy must be about 0, at most "
        f"{_percent(float(floor.mean()))}, which showing other classes' images achieves; it is "
        f"{_percent(_share(huge))}.",
    )


def monotone(epsilons: Sequence[float], runs: Sequence[Right]) -> Check:
    """A larger ball contains the smaller one: accuracy must not rise with epsilon."""
    pairs = list(zip(epsilons[1:], runs[:-1], runs[1:], strict=True))
    rises = [(e, *above(larger, smaller, len(pairs))) for e, smaller, larger in pairs]
    worst = max(rises, key=lambda rise: rise[2] - rise[3])
    return _checked(
        "monotone in epsilon",
        any(broken for _, broken, *_ in rises),
        max(unseen(larger, smaller) for _, smaller, larger in pairs),
        {f"{e:g}": _share(run) for e, run in zip(epsilons, runs, strict=True)},
        f"Accuracy must not rise with epsilon; the step closest to that, up to epsilon {worst[0]:g}, "
        f"changes it by {_points(worst[2])}.",
    )


def at_most(
    name: str,
    claim: str,
    first: tuple[str, Right],
    others: Mapping[str, Right],
    *,
    absent: str = "",
    paired: bool = True,
) -> Check:
    """The accuracy `first` must not be above any of the `others`; None where there are none."""
    if not others:
        return Check(name, "not run", {first[0]: _share(first[1])}, f"{claim} {absent}".strip())
    compared = {o: above(first[1], r, len(others), paired=paired) for o, r in others.items()}
    closest = max(compared, key=lambda other: compared[other][1] - compared[other][2])
    difference, room = compared[closest][1:]
    figures = {first[0]: _share(first[1])} | {o: _share(right) for o, right in others.items()}
    return _checked(
        name,
        any(broken for broken, *_ in compared.values()),
        max(unseen(first[1], right) for right in others.values()),
        figures | {"slack": room},
        f"{claim} {first[0]} {_percent(_share(first[1]))}, {closest} "
        f"{_percent(_share(others[closest]))} ({_points(difference)}).",
    )


def gradients(
    zero_pixels: float, vanished: NDArray[np.bool_], survived: NDArray[np.bool_]
) -> Check:
    """No image may count as robust that no gradient could move.

    `zero_pixels`: share of exactly zero entries of the input gradients; `vanished`: images whose whole
    gradient is exactly zero; `survived`: images mostly answered rightly under the attack.
    """
    unproven = int((vanished & survived).sum())
    return Check(
        "zero gradients",
        "FAILED" if unproven else "passed",
        {
            "zero entries": zero_pixels,
            "images without gradient": float(vanished.mean()),
            "of these counted as robust": float((vanished & survived).mean()),
        },
        f"{_percent(zero_pixels)} of the input gradients' entries are exactly zero; "
        f"{unproven} of {len(survived)} images count as robust although their gradient is zero.",
    )


def worst_case(worst: Right, main: Right, name: str) -> Check:
    """The number to quote; choosing per image on some draws and judging on others must not raise it."""
    broken, difference, room = above(worst, main)
    return _checked(
        "worst case",
        broken,
        unseen(worst, main),
        {"worst case": _share(worst), name: _share(main), "slack": room},
        f"The worst of all attacks for each image leaves {_percent(_share(worst))}, "
        f"{_points(difference)} against {name} alone: this is the number to quote.",
    )


def fresh_draws(stochastic: bool, draws: int, seed: int) -> Check:
    """Answers that vary must be judged on several draws, which the attack did not see."""
    how = f"from seed {seed}, a stream of its own that no attack sees"
    return Check(
        "fresh draws",
        "FAILED" if stochastic and draws < 2 else "passed",
        {"draws": float(draws), "seed": float(seed)},
        f"Every attack is judged on {draws} fresh draws {how}."
        if stochastic
        else f"Answers do not vary, so one run judges; attacks draw from seed {seed}.",
    )


def judge(b: Battery) -> Sanity:
    """All checks of a battery of attacks."""
    pgd, main = b.pgd.right, (f"PGD-{b.plan.steps}", b.pgd.right)
    best = b.white_box
    strongest = main if best is b.pgd else (f"SA-PGD-{b.plan.adaptive_steps}", best.right)
    varies = b.victim.stochastic
    checks = (
        control(b.control.right, b.clean.right, b.control.epsilon),
        unbounded(b.unbounded.right, b.clean.right, b.victim.classes),
        monotone(
            [0.0, *(run.epsilon for run in b.curve), 1.0],
            [b.clean.right, *(run.right for run in b.curve), b.unbounded.right],
        ),
        at_most(
            "steps", "Many steps must leave no more than one step:", main, {"FGSM": b.fgsm.right}
        ),
        at_most(
            "more steps",
            "Twice the steps must not leave more:",
            (f"PGD-{2 * b.plan.steps}", b.longer.right),
            {main[0]: pgd},
        ),
        at_most(
            "more restarts",
            "More starts must not leave more:",
            (f"{main[0]} from {b.plan.restarts} starts", b.restarted.right),
            {main[0]: pgd},
        ),
        at_most(
            "EOT curve flat",
            "Averaging other numbers of draws must not leave less:",
            (f"EOT {b.eot}", pgd),
            {f"EOT {k}": run.right for k, run in b.averages.items() if k != b.eot},
            absent="answers do not vary, so there is nothing to average.",
        ),
        at_most(
            "surrogates",
            "Other gradients must not leave less:",
            main,
            {name: run.right for name, run in b.gradients.items()},
            absent="no spikes, so no surrogate.",
            paired=False,
        ),
        at_most(
            "white-box / transfer",
            "Knowing the network must leave no more:",
            strongest,
            {f"from {name}": scored.right for name, scored in b.transfers.items()},
            absent="no other network was given.",
        ),
        at_most(
            "white-box / gradient-free",
            "Gradients must leave no more than search without:",
            strongest,
            {f"Square-{b.plan.queries}": b.gradient_free.right},
        ),
        at_most(
            "adversarial / random",
            "An attack must leave no more than random noise:",
            main,
            {"random signs": b.noise.right},
        ),
        gradients(b.zero_entries, b.vanished, pgd > 0.5),
        worst_case(b.worst.right, pgd, main[0]),
        fresh_draws(varies, b.clean.draws, b.plan.seed),
    )
    decided = all(check.verdict in ("passed", "not run") for check in checks)
    return Sanity(decided, checks)


def sanity(
    victim: Victim,
    images: Tensor,
    labels: Tensor,
    epsilon: float,
    *,
    sources: Mapping[str, Victim] | None = None,
    plan: Plan = QUICK,
) -> Sanity:
    """Attack `victim` and check what comes out; arguments as of `battery`."""
    return judge(battery(victim, images, labels, epsilon, sources=sources, plan=plan))


def _percent(fraction: float) -> str:
    return f"{100 * fraction:.1f} %"


def _points(difference: float) -> str:
    return f"{100 * difference:+.1f} points"
