"""Votes: what a network answers to many draws of the coding of one image, counted and stored."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import torch
from numpy.typing import NDArray

from ....hw_targets.network.coding import Coding
from ....models import encoding
from ....models.encoding import generator
from ...deploy.run import output_scores, track
from ...records import dumps, plain, write_json
from ..victims import DeployedVictim, Victim
from .certificates import Method

PROCEDURE = 1
"""Raised when the same seed no longer gives the same votes, so that no stored ones are mixed in."""
BLOCK_DRAWS = 1 << 15
"""Runs in a block of images, after which progress is stored."""
CHUNK = 1 << 22
"""Input numbers (draws * steps * pixels) encoded and run at a time; decides the order of draws."""


def draw_votes(
    victim: Victim, image: torch.Tensor, count: int, draws: torch.Generator
) -> NDArray[np.int64]:
    """Answers to `count` fresh draws of one image (C, H, W): votes per class, refused draws last.

    With `draws` on the CPU the numbers are the same wherever the victim computes.
    """
    steps = 1 if victim.coding is None else victim.coding.steps
    size = max(1, CHUNK // (steps * image.numel()))
    total = np.zeros(victim.classes + 1, np.int64)
    for done in range(0, count, size):
        images = image[None].expand(min(size, count - done), *image.shape)
        total += np.bincount(answers(victim, images, draws), minlength=victim.classes + 1)
    return total


def answers(victim: Victim, images: torch.Tensor, draws: torch.Generator) -> NDArray[np.int64]:
    """The class of each image (sample,), one draw each; `classes` where the draw was refused."""
    coding = victim.coding
    if not isinstance(victim, DeployedVictim) or coding is None or coding.sigma == 0:
        return victim.answers(images.to(victim.device), draws)
    held = coding.name == "rsc1"  # the same in every step, so drawn and rounded once
    drawn = replace(coding, steps=1) if held else coding
    whole = encoding.unlimited(drawn, images.detach(), draws).cpu().numpy()
    refused = ~_fit(whole, coding)
    whole[refused] = 0
    messages = whole.astype(np.int32)
    shape = (len(messages), coding.steps, *messages.shape[2:])
    classes = decided(victim, np.broadcast_to(messages, shape))
    classes[refused] = victim.classes
    return classes


def decided(victim: DeployedVictim, messages: NDArray[Any]) -> NDArray[np.int64]:
    """What the integers answer to messages (sample, steps, C, H, W): the lowest class of equal scores."""
    classes: NDArray[np.int64] = output_scores(
        victim.network, messages, device=victim.device
    ).argmax(axis=1)
    return classes


def _fit(messages: NDArray[np.float64], coding: Coding) -> NDArray[np.bool_]:
    flat = messages.reshape(len(messages), -1)
    limit = 1 << (coding.message_bits - 1)
    fit: NDArray[np.bool_] = (flat.min(axis=1) >= -limit) & (flat.max(axis=1) < limit)
    return fit


def phase_votes(victim: Victim, images: torch.Tensor) -> NDArray[np.int64]:
    """Votes (sample, classes) of the runs at all phases, for images (sample, C, H, W) in [0, 1].

    Raises ValueError for a victim that is no network of integers.
    """
    if not isinstance(victim, DeployedVictim) or victim.coding is None:
        raise ValueError(f"{victim.name} is no network of integers: export it first.")
    total = np.zeros((len(images), victim.classes), np.int64)
    each = np.arange(len(images))
    for phase in range(victim.coding.grid):
        total[each, decided(victim, encoding.phase_messages(victim.coding, images, phase))] += 1
    return total


def stream(seed: int, index: int, purpose: Literal["certify", "predict"]) -> torch.Generator:
    """A generator for one image; mixed, so that no small seed of a training is met by chance."""
    entropy = (seed, index, ("certify", "predict").index(purpose))
    return generator(int(np.random.SeedSequence(entropy).generate_state(1)[0]))


@dataclass(frozen=True)
class Voting:
    """What decides votes, and, with `folder`, where those of finished blocks of images are stored."""

    victim: Victim
    coding: Coding
    method: Method
    n0: int
    n: int
    seed: int
    folder: Path | None

    @property
    def runs(self) -> int:
        """Runs of the network for each image."""
        return self.coding.grid if self.method == "phase" else self.n0 + self.n

    def all(self, images: torch.Tensor, progress: bool) -> Iterator[tuple[int, NDArray[np.int64]]]:
        """For each image class A and the counted votes, (classes + 1,), refused draws last."""
        size = max(1, BLOCK_DRAWS // self.runs)
        blocks = ((i, images[i : i + size]) for i in range(0, len(images), size))
        for start, block in track(blocks, len(images), "certifying", progress):
            yield from self._block(start, block)

    def _block(self, start: int, images: torch.Tensor) -> list[tuple[int, NDArray[np.int64]]]:
        if self.folder is None:
            return self._votes(start, images)
        identity = self._identity(start, images)
        key = hashlib.sha256(dumps(identity).encode()).hexdigest()[:16]
        path = self.folder / f"votes-{start:06d}-{key}.json"
        if path.is_file():
            counted = self.coding.grid if self.method == "phase" else self.n
            return _stored(path, identity, (len(images), self.victim.classes + 1), counted)
        votes = self._votes(start, images)
        write_json(
            {
                "identity": identity,
                "chosen": [first for first, _ in votes],
                "votes": [counted for _, counted in votes],
            },
            path,
        )
        return votes

    def _votes(self, start: int, images: torch.Tensor) -> list[tuple[int, NDArray[np.int64]]]:
        if self.method == "phase":
            counted = phase_votes(self.victim, images)
            return [(int(row.argmax()), np.append(row, 0)) for row in counted]
        votes = []
        for index, image in enumerate(images, start):
            draws = stream(self.seed, index, "certify")
            first = int(draw_votes(self.victim, image, self.n0, draws)[:-1].argmax())
            votes.append((first, draw_votes(self.victim, image, self.n, draws)))
        return votes

    def _identity(self, start: int, images: torch.Tensor) -> dict[str, Any]:
        pixels = images.detach().cpu().contiguous()
        data = hashlib.sha256(f"{pixels.dtype}{tuple(pixels.shape)}".encode())
        data.update(pixels.numpy().tobytes())
        identity = {
            "procedure": PROCEDURE,
            "method": self.method,
            "digest": self.victim.digest,
            "encoding": plain(self.coding),
            "n0": self.n0,
            "n": self.n,
            "seed": self.seed,
            "start": start,
            "data": data.hexdigest(),
        }
        if isinstance(self.victim, DeployedVictim):  # decides the answer, and is not in the digest
            recipe = replace(self.victim.recipe, seed=0, provenance={})
            identity["recipe"] = recipe.text
        elif self.victim.device.type != "cpu":  # which rounds otherwise; integers are the same
            identity["device"] = self.victim.device.type
        return identity


def _stored(
    path: Path, identity: dict[str, Any], shape: tuple[int, int], total: int
) -> list[tuple[int, NDArray[np.int64]]]:
    try:
        stored = json.loads(path.read_text())
        same = stored["identity"] == json.loads(dumps(identity))
        counted = np.array(stored["votes"], np.int64).reshape(shape)
        votes = list(zip(map(int, stored["chosen"]), counted, strict=True))
        if same and any(row.sum() != total or row.min() < 0 for row in counted):
            raise ValueError(f"votes of an image are not {total} in all")
        if same and not all(0 <= first < shape[1] - 1 for first, _ in votes):
            raise ValueError("classes that do not exist")
    except (ArithmeticError, KeyError, RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{path}: damaged ({error}); delete it, and it is made again.") from None
    if not same:
        raise ValueError(f"{path}: holds votes of something else; delete it, or use a new folder.")
    return votes
