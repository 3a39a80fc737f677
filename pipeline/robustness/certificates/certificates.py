"""What certifying gives: a class or ABSTAIN for each image, and how far it provably holds."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal, TypeAlias, get_args

from ....hw_targets.network.coding import Coding
from ....hw_targets.printed import Printed, View

ABSTAIN = -1
"""The answer where the votes do not support any class at the level asked for; equals no label."""

Method: TypeAlias = Literal["rsc1", "rsc1-grid", "rsc2", "bernoulli", "phase"]
METHODS: tuple[Method, ...] = get_args(Method)
Norm: TypeAlias = Literal["L1", "L2"]
Unit: TypeAlias = Literal["pixel", "grey level"]
"""Units of a radius: 1 pixel is black to white, a grey level the coding's grid-th part of that."""


@dataclass(frozen=True)
class Certificate:
    """One image: the class that the vote gives, and up to which distance it provably does.

    `answer`: a class or ABSTAIN. `radius`: 0 where it abstains; else the vote is constant for images
    on the grid nearer than it (phase: up to and with it), in `norm` and `unit`. `counts`: votes
    per class of the draws that were counted, `refused` those that had no answer (see `smoothing`).
    `lower`: the bound on the probability of the answer (phase: its share of votes, exactly).
    """

    label: int
    answer: int
    radius: float
    counts: tuple[int, ...]
    refused: int
    lower: float
    norm: Norm
    unit: Unit

    @property
    def right(self) -> bool:
        """Whether the answer is the label; ABSTAIN is not."""
        return self.answer == self.label


@dataclass(frozen=True, repr=False)
class Certified(Printed):
    """Certificates of a network for images, and everything that decides them.

    `runs`: how often the network runs per certificate. `on_grid`: share of images that are on the
    grid of the coding as they are; for others the certificate is about the rounded image. `seconds`:
    spent in this call; 0 for what was stored. A statistical radius is wrong with probability at
    most `alpha` per image, over the draws; one of the phase code never.
    """

    name: str
    digest: str
    method: Method
    coding: Coding = field(metadata={"json": "encoding"})
    certificates: tuple[Certificate, ...]
    n0: int
    n: int
    alpha: float
    seed: int
    runs: int
    on_grid: float
    seconds: float = field(compare=False)

    @property
    def norm(self) -> Norm:
        """How distances between images are measured."""
        return norm_of(self.method)

    @property
    def unit(self) -> Unit:
        """What radii are counted in."""
        return unit_of(self.method)

    def accuracy(self, radius: float = 0.0) -> float:
        """Certified accuracy: share of images answered right with at least this radius.

        At 0 it is the accuracy of the vote; abstaining counts as wrong.
        """
        return share(c.right and c.radius >= radius for c in self.certificates)

    @property
    def abstained(self) -> float:
        """Share of images without an answer."""
        return share(c.answer == ABSTAIN for c in self.certificates)

    @property
    def single_draw_accuracy(self) -> float:
        """Accuracy of one draw, which nothing certifies, as the mean over the counted draws."""
        shares = [c.counts[c.label] / (sum(c.counts) + c.refused) for c in self.certificates]
        return sum(shares) / len(shares)

    @property
    def statement(self) -> str:
        """What is guaranteed, for whom, in a sentence for reports."""
        votes_ = (
            f"the vote over all {self.runs} phases"
            if self.method == "phase"
            else f"the most likely answer over draws of the {self.coding.name} coding"
        )
        sure = (
            "Exactly (whole numbers, all phases run)"
            if self.method == "phase"
            else f"With probability {1 - self.alpha:g} per image over the {self.n0} + {self.n} draws"
        )
        limit = "up to" if self.method == "phase" else "below"
        return (
            f"{sure}, {votes_} is the same for all images on the grid of {self.coding.grid} grey "
            f"levels at an {self.norm} distance {limit} the radius, in {self.unit} units; for images "
            f"off the grid at half the radius. A single draw is not certified."
        )

    def views(self) -> Sequence[View]:
        """Certified accuracy by radius, and what is guaranteed."""
        from ...cli.certify import certified_tables

        return certified_tables(self)


def norm_of(method: Method) -> Norm:
    """What the distance is measured in."""
    return "L1" if method in ("bernoulli", "phase") else "L2"


def unit_of(method: Method) -> Unit:
    """What the distance is counted in."""
    return "grey level" if method == "phase" else "pixel"


def share(which: Iterable[bool]) -> float:
    """The share that is true."""
    truths = list(which)
    return sum(truths) / len(truths)
