"""The answers of float network and integers beside the labels, so that a wrong network shows."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...models.quality import Quality
from ..text import percent
from .run import encoded, output_scores
from .task import Task


@dataclass(frozen=True)
class Answers:
    """What float network and integers answer on labelled samples of `data`.

    `floating`: None where there is no float network. `same`: the fraction of samples with the same class,
    None of regression; there `apart`: rms difference of the answers over the rms of the float network's.
    """

    data: str
    integers: Quality
    floating: Quality | None
    same: float | None
    apart: float | None

    @property
    def text(self) -> str:
        """One sentence."""
        said = f"answers on {self.integers.samples} samples of {self.data}: "
        if self.floating is None:
            return f"{said}integers {self.integers.text}; no float network to compare with"
        same = (
            f"same answer for {percent(self.same)}"
            if self.same is not None
            else f"{percent(self.apart or 0.0)} (rms) apart"
        )
        return f"{said}float {self.floating.text}, integers {self.integers.text}, {same}"


def compare_answers(task: Task, samples: int) -> Answers | None:
    """`Answers` on the first `samples` test samples; None without labels.

    Raises ValueError where labels and outputs do not fit.
    """
    if not len(task.data.test.labels):
        return None
    integers, floating, labels = (
        np.concatenate(part) for part in zip(*_run(task, samples), strict=True)
    )
    quality = Quality.of(integers, labels)
    if task.deployed.graph is None:
        return Answers(task.data.name, quality, None, None, None)
    same = apart = None
    if quality.error is None:
        same = float(np.mean(integers.argmax(axis=1) == floating.argmax(axis=1)))
    else:
        apart = apart_by(floating, integers)
    return Answers(task.data.name, quality, Quality.of(floating, labels), same, apart)


def apart_by(first: NDArray[Any], second: NDArray[Any]) -> float:
    """rms(second - first) / rms(first); 0 where both are 0."""
    size = float(np.sqrt(np.square(first.astype(float)).mean()))
    off = float(np.sqrt(np.square(second.astype(float) - first).mean()))
    return off / size if size else float(off > 0)


def _run(task: Task, samples: int) -> Iterator[tuple[NDArray[Any], NDArray[Any], NDArray[Any]]]:
    """Blocks of scores of the integers, of the float network (else the same), and labels."""
    from ..verify.sides import float_layers, float_side

    deployed, graph = task.deployed, task.deployed.graph
    layers = None if graph is None else float_layers(graph)
    for messages, labels in encoded(deployed.recipe, task.data.test, samples):
        integers = output_scores(deployed.network, messages)
        floating = integers
        if graph is not None and layers is not None:
            floating = float_side(graph, layers, messages, deployed.recipe).scores
        yield integers, floating, labels
