"""Run a network on a backend, on single inputs or over a data set, and read its answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Collection, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..hw_targets import arithmetic, engine, lava_cpu, reference
from ..hw_targets.counts import Counts, count
from ..hw_targets.network import Network, NetworkError, Recipe
from ..hw_targets.trace import Overflow, Trace

if TYPE_CHECKING:
    from torch import nn

    from ..models.datasets import Split
    from ..models.encoding import Encoding

Target: TypeAlias = Literal["engine", "reference", "lava"]
BLOCK = 256
"""Images encoded at a time, always: the noise of an image depends on its place, not on the caller."""


def run(
    network: Network,
    inputs: Any,
    steps: int | None = None,
    *,
    target: Target = "engine",
    reset_interval: int | None = None,
    reset_offset: int = 0,
    message_bits: int | None = None,
    record: str | Collection[str] = "counts",
) -> Trace:
    """`engine.simulate`, or the same by the reference or on Lava; arguments as there."""
    functions = {"engine": engine.simulate, "reference": reference.simulate, "lava": lava_cpu.run}
    return functions[target](
        network,
        inputs,
        steps,
        reset_interval=reset_interval,
        reset_offset=reset_offset,
        message_bits=message_bits,
        record=record,
    )


def needed_recipe(network: Network) -> Recipe:
    """The network's recipe, or an error that says how to give what it holds."""
    if network.recipe is None:
        raise NetworkError(
            "the file has no recipe (it was not written by `spikeship export`), so the input coding "
            "and the number of steps are unknown. Use `spikeship simulate` with your own input."
        )
    return network.recipe


def run_recipe(
    network: Network,
    messages: NDArray[np.int32],
    *,
    target: Target = "engine",
    record: Collection[str] = ("spikes",),
) -> Trace:
    """Run encoded inputs (sample, steps, *input shape) as the recipe says; the trace is aligned.

    The run takes `steps + latency` steps, so that every layer answers every input step.
    """
    recipe = needed_recipe(network)
    return run(
        network,
        messages,
        recipe.steps + network.latency,
        target=target,
        reset_interval=recipe.reset_interval,
        reset_offset=recipe.reset_offset,
        message_bits=recipe.message_bits,
        record=record,
    ).aligned(network, recipe.steps)


def encoding_of(recipe: Recipe) -> Encoding:
    """The input coding that a recipe names. Needs torch."""
    from ..models.encoding import CODINGS, Encoding

    coding = next((c for c in CODINGS if c == recipe.coding), None)
    if coding is None:
        raise NetworkError(
            f"the recipe names the coding {recipe.coding!r}; known: {', '.join(CODINGS)}."
        )
    return Encoding(
        coding,
        recipe.steps,
        recipe.levels,
        recipe.sigma,
        recipe.message_bits,
        offsets=1 if recipe.offsets is None else recipe.offsets,
        template=0 if recipe.template is None else recipe.template,
        grid=recipe.levels if recipe.grid is None else recipe.grid,
    )


def encoded(
    recipe: Recipe, split: Split, limit: int | None = None
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Blocks of (messages (sample, steps, C, H, W), labels) of a data set, drawn from the seed."""
    from ..models.encoding import generator

    encoding, draws = encoding_of(recipe), generator(recipe.seed)
    count_ = len(split) if limit is None else min(limit, len(split))
    for start in range(0, count_, BLOCK):
        block = list(range(start, min(start + BLOCK, len(split))))
        images, labels = split[block]
        messages = encoding.integers(images, draws)
        keep = count_ - start
        yield messages[:keep], labels.numpy()[:keep]


def float_accuracy(net: nn.Module, recipe: Recipe, split: Split) -> float:
    """Fraction of right answers of the float network itself, on the very inputs that the integers get.

    `net`: frames (steps, sample, *shape), float32, to logits (sample, classes).
    """
    import torch

    right = 0
    with torch.no_grad():
        for messages, labels in encoded(recipe, split):
            frames = torch.tensor(messages / recipe.levels, dtype=torch.float32)
            right += int((net(frames.transpose(0, 1)).argmax(1).numpy() == labels).sum())
    return right / len(split)


def records_for(recipe: Recipe) -> tuple[str, ...]:
    """What must be recorded to read the answer and to count events."""
    return ("spikes",) if recipe.decode == "spike count" else ("spikes", "v")


def scores(network: Network, trace: Trace) -> NDArray[Any]:
    """One score per output neuron, (sample, outputs), from an aligned trace.

    `spike count`: spikes over the steps; `mean voltage`, `last voltage`: v / (unit * 2^6), the float
    network's voltage up to the membrane's gain.
    """
    recipe = needed_recipe(network)
    if recipe.decode == "spike count":
        assert trace.spikes is not None
        counts: NDArray[Any] = trace.spikes[-1].sum(axis=1)
        return counts.reshape(len(counts), -1)
    assert trace.v is not None
    v = trace.v[-1].reshape(*trace.v[-1].shape[:2], -1)
    value: NDArray[Any] = v.mean(axis=1) if recipe.decode == "mean voltage" else v[:, -1]
    return value / (recipe.output_unit * (1 << arithmetic.STATE_SHIFT))


def output_record(recipe: Recipe) -> tuple[str, ...]:
    """What must be recorded to read the answer alone."""
    return tuple(f"{name}.-1" for name in records_for(recipe)[-1:])


def output_scores(network: Network, messages: NDArray[Any]) -> NDArray[Any]:
    """`scores` of encoded inputs (sample, steps, *input shape), by the engine."""
    record = output_record(needed_recipe(network))
    return scores(network, run_recipe(network, messages, record=record))


@dataclass(frozen=True)
class Classification:
    """A network's answers on a data set, and the seconds that simulating took."""

    predictions: NDArray[np.int64]
    accuracy: float
    seconds: float
    overflow: tuple[Overflow, ...]


def classify(
    network: Network, split: Split, limit: int | None = None, *, progress: bool = False
) -> Classification:
    """Answers for (the first `limit` samples of) a data set, only the output layer recorded."""
    recipe = needed_recipe(network)
    record = output_record(recipe)
    predictions: list[NDArray[np.int64]] = []
    right, seconds = 0, 0.0
    overflow = [Overflow()] * len(network.populations)
    size = len(split) if limit is None else min(limit, len(split))
    for messages, labels in track(encoded(recipe, split, limit), size, "simulating", progress):
        if not predictions:
            run_recipe(network, messages[:1], record=record)  # loads the compiled loops, untimed
        start = time.perf_counter()
        trace = run_recipe(network, messages, record=record)
        seconds += time.perf_counter() - start
        predicted = scores(network, trace).argmax(axis=1)
        predictions.append(predicted)
        right += int((predicted == labels).sum())
        overflow = [a + b for a, b in zip(overflow, trace.overflow or (), strict=True)]
    if not predictions:
        raise NetworkError("no samples to evaluate.")
    answers = np.concatenate(predictions)
    return Classification(answers, right / len(answers), seconds, tuple(overflow))


@dataclass(frozen=True)
class Evaluation:
    """A network on a data set: predictions, accuracy, counted events and overflows."""

    predictions: NDArray[np.int64]
    accuracy: float
    counts: Counts
    overflow: tuple[Overflow, ...]


def evaluate(
    network: Network, split: Split, limit: int | None = None, *, progress: bool = False
) -> Evaluation:
    """Simulate (the first `limit` images of) a data set and count what happened."""
    recipe = needed_recipe(network)
    predictions, right, total, counts = [], 0, 0, None
    overflow = [Overflow()] * len(network.populations)
    size = len(split) if limit is None else min(limit, len(split))
    for messages, labels in track(encoded(recipe, split, limit), size, "simulating", progress):
        trace = run_recipe(network, messages, record=records_for(recipe))
        predicted = scores(network, trace).argmax(axis=1)
        predictions.append(predicted)
        right += int((predicted == labels).sum())
        total += len(labels)
        more = count(network, messages, trace)
        counts = more if counts is None else counts + more
        overflow = [a + b for a, b in zip(overflow, trace.overflow or (), strict=True)]
    if counts is None:
        raise NetworkError("no images to evaluate.")
    return Evaluation(np.concatenate(predictions), right / total, counts, tuple(overflow))


def track(
    blocks: Iterator[tuple[Any, Any]], size: int, what: str, show: bool
) -> Iterator[tuple[Any, Any]]:
    """The blocks, with a progress bar over their samples on standard error."""
    from rich.console import Console
    from rich.progress import Progress

    console = Console(file=sys.stderr)
    with Progress(console=console, disable=not show, transient=True) as bar:
        task = bar.add_task(what, total=size)
        for block in blocks:
            yield block
            bar.advance(task, len(block[1]))
