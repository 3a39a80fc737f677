"""Black-box transfer: what is crafted on one network, judged on others."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from torch import Tensor

from ..victims import Victim
from .attack import Attack, Attacked, Scored, attack, score


@dataclass(frozen=True)
class Transfer:
    """The matrix source x target: images crafted on the source, judged on the target.

    `clean` by target; `crafted` by source: the attack there, white-box; `after` by source and target.
    `white_box`: the (source, target) that are one network, where `after` is that of `crafted`.
    """

    clean: Mapping[str, Scored]
    crafted: Mapping[str, Attacked]
    after: Mapping[str, Mapping[str, Scored]]
    white_box: tuple[tuple[str, str], ...]

    def accuracy(self, source: str, target: str) -> float:
        """Accuracy on single draws of the target's coding."""
        return self.after[source][target].accuracy

    def adversarial_loss(self, source: str, target: str) -> float:
        """Clean accuracy minus accuracy under attack (Sharmin et al. 2020)."""
        return self.clean[target].accuracy - self.accuracy(source, target)


def transfer(
    sources: Mapping[str, Victim],
    targets: Mapping[str, Victim],
    method: Attack,
    images: Tensor,
    labels: Tensor,
    *,
    seed: int = 0,
    draws: int = 20,
    batch: int = 250,
    progress: bool = False,
) -> Transfer:
    """Run `method` on each source and judge what it finds on each target; options as of `attack`.

    Sources and targets are known by the names given here, two victims with one digest being the same
    network. With the same victims on both sides the matrix goes both ways: another seed, the ANN twin,
    the float network and its integers. Raises ValueError where shapes or classes differ.
    """
    kinds = {(tuple(v.shape), v.classes) for v in (*sources.values(), *targets.values())}
    if len(kinds) != 1:
        listed = "; ".join(f"{shape} into {classes} classes" for shape, classes in sorted(kinds))
        raise ValueError(f"images cannot be passed on between networks of {listed}.")
    clean = {
        name: score(target, images, labels, seed=seed, draws=draws, batch=batch)
        for name, target in targets.items()
    }
    crafted: dict[str, Attacked] = {}
    after: dict[str, dict[str, Scored]] = {}
    for name, source in sources.items():
        attacked = crafted[name] = attack(
            source, method, images, labels, seed=seed, draws=draws, batch=batch, progress=progress
        )
        after[name] = {
            other: attacked.after
            if target.digest == source.digest
            else score(target, attacked.adversarial, labels, seed=seed, draws=draws, batch=batch)
            for other, target in targets.items()
        }
    white_box = tuple(
        (name, other)
        for name, source in sources.items()
        for other, target in targets.items()
        if source.digest == target.digest
    )
    return Transfer(clean, crafted, after, white_box)
