"""How good answers are: the accuracy of classes, or the error of numbers."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Quality:
    """Answers on `samples` samples beside what they should be.

    Of classes `accuracy`: the fraction that is right, the largest score being the answer. Of regression
    `error`: the root of the mean squared difference (rms) over samples and outputs, in the targets' own
    units; `explained`: 1 - error^2 / variance of the targets (R squared), None where these are all the
    same. All are None where there are no labels.
    """

    samples: int
    accuracy: float | None = None
    error: float | None = None
    explained: float | None = None

    @classmethod
    def of(cls, scores: NDArray[Any], labels: NDArray[Any] | None) -> Quality:
        """From scores (sample, outputs), and classes (sample,) or targets (sample, outputs).

        Raises ValueError where these cannot be compared: one score has no largest.
        """
        if labels is None or not len(labels):
            return cls(len(scores))
        if len(labels) != len(scores):
            raise ValueError(f"{len(scores)} samples, {len(labels)} labels; one each is needed.")
        if labels.dtype.kind == "f":
            _check_targets(scores, labels)
            return cls(len(scores), None, *_error(scores, labels))
        if labels.max() >= scores.shape[1] or scores.shape[1] < 2:
            raise ValueError(
                f"labels reach {labels.max()}, the network has {scores.shape[1]} output(s): classes need "
                f"an output each; for regression give real numbers."
            )
        return cls(len(scores), int((scores.argmax(axis=1) == labels).sum()) / len(scores))

    @property
    def text(self) -> str:
        """`accuracy 98.61 %`, `rms error 0.123 (R2 0.95)`, or that there are no labels."""
        if self.accuracy is not None:
            return f"accuracy {100 * self.accuracy:.2f} %"
        if self.error is None:
            return "no labels"
        explained = "" if self.explained is None else f" (R2 {self.explained:.3f})"
        return f"rms error {self.error:.4g}{explained}"

    @property
    def score(self) -> float:
        """The larger the better: the accuracy, or minus the error."""
        if self.accuracy is not None:
            return self.accuracy
        if self.error is None:
            raise ValueError("no labels, so no answer is better than another.")
        return -self.error


def _check_targets(scores: NDArray[Any], targets: NDArray[Any]) -> None:
    if targets.shape != scores.shape:
        raise ValueError(
            f"targets are {targets.shape[1:]} numbers a sample, the network has {scores.shape[1]} "
            f"outputs; one each is needed. Are these classes? Then give whole numbers."
        )


def _error(scores: NDArray[Any], targets: NDArray[Any]) -> tuple[float, float | None]:
    off = np.square(scores.astype(float) - targets).mean()
    spread = targets.astype(float).var(axis=0).mean()
    return float(np.sqrt(off)), float(1 - off / spread) if spread > 0 else None
