"""Certificates of voted decisions: Cohen's procedure for noise, all phases for the phase code."""

from __future__ import annotations

from pathlib import Path
from time import perf_counter
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ....hw_targets.network.coding import Coding, CodingName
from ....models import encoding
from ...deploy.run import track
from ..ann_victim import AnnVictim
from ..victims import DeployedVictim, Victim
from .certificates import ABSTAIN, METHODS, Certificate, Certified, Method, norm_of, share, unit_of
from .phase import phase_radius
from .smoothing import SAMPLER_BOUND, bernoulli_radius, gaussian_radius, truncation
from .statistics import lower_bound, sign_test
from .votes import Voting, draw_votes, stream

_CODINGS: dict[Method, tuple[CodingName, ...]] = {
    "rsc1": ("rsc1",),
    "rsc1-grid": ("rsc1",),
    "rsc2": ("rsc2",),
    "bernoulli": ("poisson", "signed_poisson"),
    "phase": ("phase",),
}
_ON_INTEGERS: tuple[Method, ...] = ("rsc1-grid", "phase")


def method_for(victim: Victim) -> Method:
    """The certificate that suits a network's coding: of rsc1, for integers the one on the grid."""
    coding = _coding(victim)
    if coding.name == "rsc1":
        return "rsc1-grid" if isinstance(victim, DeployedVictim) else "rsc1"
    return next(m for m in METHODS if coding.name in _CODINGS[m])


def certify(
    victim: Victim,
    images: torch.Tensor,
    labels: torch.Tensor,
    *,
    method: Method | Literal["auto"] = "auto",
    n0: int = 100,
    n: int = 10_000,
    alpha: float = 0.001,
    seed: int = 0,
    folder: str | Path | None = None,
    progress: bool = False,
) -> Certified:
    r"""Certify the vote of a network for images (sample, C, H, W) in [0, 1].

    Noise (CERTIFY of Cohen et al., ICML 2019): `n0` draws choose class A; `n` fresh ones count it; p is
    the one-sided Clopper-Pearson bound of that count at level `alpha`; and the radius R(p) is, in
    [0, 1] pixel units with d pixels and T steps,

    - ``rsc1``: L2, sigma Phi^-1(p), as if the normal numbers were exact;
    - ``rsc1-grid``: L2, for the integers, sigma (Phi^-1(p - tv) - Phi^-1(1/2 + tv)) with
      tv = 2 d Phi(-8.57), as the sampler's numbers end at 8.57 sigma;
    - ``rsc2``: L2, the same with T d instead of d, and divided by sqrt(T);
    - ``bernoulli``: L1, (p - 1/2) / T, half of it for signed spikes.

    Where R(p) is not above 0 the answer is ABSTAIN. Theorems, proofs, sources: `gaussian_radius`,
    `bernoulli_radius`. P(the stated radius is too large) <= alpha for each image, over the draws; for a
    statement about all N images at once use alpha / N. This needs that the draws are independent
    of each other and of the network, so A and p come from separate draws, each image has a stream of its
    own (Mersenne Twister, seeded by SeedSequence((seed, image))), which no training uses, and the
    generator is taken for what it imitates.

    ``phase``: exact, see `phase`; the integers only; n0, n, alpha and seed play no part.

    What a certificate does not cover: the answer to a single draw; attackers off the grid of grey
    levels beyond R / 2 (see `smoothing`); floating point, in a float network.

    With `folder` the votes of finished blocks of images are stored there and a later call with the same
    network, coding, method, n0, n, seed and images goes on from them, to the same result. Labels and
    alpha play no part in votes and may differ.
    """
    coding = _coding(victim)
    chosen = method_for(victim) if method == "auto" else method
    _check(victim, coding, chosen, images, labels, n0, n, alpha)
    if chosen == "phase":
        n0 = n = seed = 0
    voting = Voting(victim, coding, chosen, n0, n, seed, None if folder is None else Path(folder))
    start = perf_counter()
    certificates = [
        _certificate(voting, int(label), first, counted, alpha)
        for label, (first, counted) in zip(labels, voting.all(images, progress), strict=True)
    ]
    return Certified(
        name=victim.name,
        digest=victim.digest,
        method=chosen,
        coding=coding,
        certificates=tuple(certificates),
        n0=n0,
        n=n,
        alpha=0.0 if chosen == "phase" else alpha,
        seed=seed,
        runs=voting.runs,
        on_grid=share(_on_grid(image, coding) for image in images),
        seconds=perf_counter() - start,
    )


def predict(
    victim: Victim,
    images: torch.Tensor,
    *,
    n: int = 1000,
    alpha: float = 0.001,
    seed: int = 0,
    progress: bool = False,
) -> NDArray[np.int64]:
    """What the certified classifier answers, (sample,): a class or ABSTAIN.

    Noise (PREDICT of Cohen et al. 2019): the most frequent answer of `n` draws, or ABSTAIN unless a
    two-sided binomial test between it and the second sets them apart at level `alpha`: an answer is
    then not the most likely one with probability at most `alpha`. Draws that were refused count as an
    answer; where it is the most frequent one, ABSTAIN. Phase code: the vote over all phases, exactly.

    The draws are others than those of `certify` with the same seed.
    """
    coding = _coding(victim)
    method = method_for(victim)
    _check(victim, coding, method, images, torch.zeros(len(images)), 1, n, alpha)
    if method == "phase":
        voting = Voting(victim, coding, method, 0, 0, 0, None)
        return np.array([first for first, _ in voting.all(images, progress)], np.int64)
    out = []
    for index, (image, _) in enumerate(
        track(((image, (0,)) for image in images), len(images), "predicting", progress)
    ):
        counted = draw_votes(victim, image, n, stream(seed, index, "predict"))
        second, first = np.argsort(counted, kind="stable")[-2:].tolist()
        apart = sign_test(int(counted[first]), int(counted[second])) <= alpha
        out.append(first if apart and first < victim.classes else ABSTAIN)
    return np.array(out, np.int64)


def _certificate(
    voting: Voting, label: int, first: int, counted: NDArray[np.int64], alpha: float
) -> Certificate:
    per_class, refused = counted[:-1], int(counted[-1])
    if voting.method == "phase":
        radius: float = int(phase_radius(per_class[None], voting.coding.offsets)[0])
        lower, answer = float(per_class[first] / voting.runs), first
    else:
        lower = lower_bound(int(per_class[first]), voting.n, alpha)
        radius = _radius(voting, lower)
        answer = first if radius > 0 else ABSTAIN
    return Certificate(
        label=label,
        answer=answer,
        radius=max(0, radius),
        counts=tuple(per_class.tolist()),
        refused=refused,
        lower=lower,
        norm=norm_of(voting.method),
        unit=unit_of(voting.method),
    )


def _radius(voting: Voting, lower: float) -> float:
    coding, pixels = voting.coding, int(np.prod(voting.victim.shape))
    if voting.method == "bernoulli":
        span = 2 if coding.name == "signed_poisson" else 1
        return bernoulli_radius(lower, coding.steps, span=span)
    copies = coding.steps if voting.method == "rsc2" else 1
    tail = 0.0 if voting.method == "rsc1" else truncation(copies * pixels, SAMPLER_BOUND)
    return gaussian_radius(lower, coding.sigma, copies=copies, tail=tail)


def _coding(victim: Victim) -> Coding:
    if victim.coding is None or not victim.coding.stochastic:
        what = "no coding" if victim.coding is None else f"the coding {victim.coding.name}"
        remedy = "train with coding rsc1, rsc2, poisson, signed_poisson or phase."
        if isinstance(victim, AnnVictim):
            remedy = (
                "give it noise, coding rsc1 with a sigma (--coding rsc1 --sigma 0.25), whose vote is "
                "certified."
            )
        raise ValueError(
            f"{victim.name} has {what}, which draws nothing, so there is no vote to certify; {remedy}"
        )
    return victim.coding


def _check(
    victim: Victim,
    coding: Coding,
    method: Method,
    images: torch.Tensor,
    labels: torch.Tensor,
    n0: int,
    n: int,
    alpha: float,
) -> None:
    wrong = []
    if method not in METHODS:
        wrong.append(f"method {method!r} is unknown; choose from auto, {', '.join(METHODS)}")
    elif coding.name not in _CODINGS[method]:
        wrong.append(
            f"{method} is for the coding {' or '.join(_CODINGS[method])}; {victim.name} has "
            f"{coding.name}: use method='auto'"
        )
    elif method in _ON_INTEGERS and not isinstance(victim, DeployedVictim):
        wrong.append(
            f"{method} holds for integers, {victim.name} computes in floating point: export it and "
            f"certify the .net file"
        )
    if tuple(images.shape[1:]) != tuple(victim.shape) or not len(images):
        wrong.append(
            f"images have shape {tuple(images.shape)}; (sample, *{victim.shape}) is needed"
        )
    elif not bool(((images >= 0) & (images <= 1)).all()):
        wrong.append(f"images reach {images.min():g} .. {images.max():g}; [0, 1] is needed")
    if len(labels) != len(images):
        wrong.append(f"{len(images)} images but {len(labels)} labels")
    if n0 < 1 or n < 1:
        wrong.append(f"n0 = {n0}, n = {n} draws; 1 or more of each are needed")
    if not 0 < alpha < 1:
        wrong.append(f"alpha = {alpha}; a level between 0 and 1 is needed")
    if wrong:
        raise ValueError("cannot certify: " + "; ".join(wrong) + ".")


def _on_grid(image: torch.Tensor, coding: Coding) -> bool:
    off = (image.double() * coding.grid - encoding.greys(coding, image)).abs()
    return bool((off < 1e-3).all())  # float32 holds no multiple of 1 / 255 exactly
