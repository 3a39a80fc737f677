"""Run a network on a backend, on single inputs or over a data set, and read its answer."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.counts.counter import Counter
from ...hw_targets.counts.counts import Counts, tally
from ...hw_targets.counts.placement import Placement
from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Input
from ...hw_targets.network.network import Network, Population
from ...hw_targets.network.neurons import Integrator, NetworkError
from ...hw_targets.network.recipe import Decode, Recipe
from ...hw_targets.network.timing import AS_INPUT, Timing
from ...hw_targets.printed import Printed, View
from ...hw_targets.simulate import engine, reference
from ...hw_targets.simulate import lava as lava_cpu
from ...hw_targets.simulate.state import State
from ...hw_targets.simulate.trace import Activity, Overflow, Trace
from ...models.quality import Quality

if TYPE_CHECKING:
    from torch import nn

    from ...models.data.dataset import Split
    from .deployed import Deployed


Backend: TypeAlias = Literal["engine", "torch", "reference", "lava"]
BLOCK = 256
"""Images encoded at a time, always: the noise of an image depends on its place, not on the caller."""


def run(
    network: Network,
    inputs: Any,
    timing: Timing = AS_INPUT,
    *,
    backend: Backend = "engine",
    record: str | Collection[str] = "counts",
    counter: Counter | None = None,
    file: str | Path | None = None,
    device: str | None = None,
    state: State | None = None,
) -> Trace:
    """`engine.simulate`, or torch, the reference or Lava in its place; arguments and errors as there.

    Only engine and torch count: NetworkError for a `counter` with another backend. `file`: the netx file
    of the network, if it has one, for Lava to load. `device`: of torch, "cpu" by default; NetworkError
    with another backend. `state`: where to go on, see `State`; Lava cannot.
    """
    functions: dict[Backend, Callable[..., Trace]] = {
        "engine": partial(engine.simulate, counter=counter),
        "torch": partial(engine.simulate, counter=counter, backend="torch", device=device),
        "reference": reference.simulate,
        "lava": partial(lava_cpu.run, file=file),
    }
    if counter is not None and backend not in ("engine", "torch"):
        raise NetworkError(f"{backend} does not count events: run on the engine.")
    if device is not None and backend != "torch":
        raise NetworkError(f"{backend} has no devices such as {device!r}: only torch does.")
    return functions[backend](
        network,
        inputs,
        timing,
        record=record,
        state=state,
    )


def own_timing(
    network: Network,
    inputs: NDArray[Any],
    steps: int | None = None,
    *,
    goes_on: bool = False,
    reset_interval: int | None = None,
    reset_offset: int | None = None,
    message_bits: int | None = None,
) -> Timing:
    """How a network with or without recipe is run on `inputs` (sample, time, *input shape).

    `steps` None: those of the input, and the network's latency, so that the answer to the last input step
    is not cut off; those of the input alone where the run `goes_on` from a state; a constant input
    (sample, *input shape) has none. What else is None is as the recipe says, or without one as
    `AS_INPUT`; `reset_interval` 0: none. Raises NetworkError where the recipe alone says single spikes
    and the inputs are not 0 and 1.
    """
    usual = AS_INPUT if network.recipe is None else network.recipe.timing()
    if steps is None and np.ndim(inputs) > 1 + len(network.input_shape):
        steps = np.shape(inputs)[1] + (0 if goes_on else network.latency)
    if message_bits is None and usual.message_bits == 0:
        check_single_spikes(network, inputs)
    return Timing(
        steps,
        (usual.reset_interval if reset_interval is None else reset_interval) or None,
        usual.reset_offset if reset_offset is None else reset_offset,
        usual.message_bits if message_bits is None else message_bits,
    )


def needed_recipe(network: Network) -> Recipe:
    """The network's recipe, or a NetworkError that says what to do without one."""
    if network.recipe is None:
        raise NetworkError(
            "this file has no recipe: it does not say how inputs are encoded, nor for how many steps. "
            "Give --input X.npy, integers (sample, time, *input shape), or --data with --coding, "
            "--time-steps and --levels (in Python integers as data, or load(..., coding=...)); "
            "`spikeship simulate` needs none of these."
        )
    return network.recipe


def run_recipe(
    network: Network,
    messages: NDArray[np.int32],
    *,
    backend: Backend = "engine",
    record: Collection[str] = ("spikes",),
    counter: Counter | None = None,
    file: str | Path | None = None,
    device: object = None,
) -> Trace:
    """Run encoded inputs (sample, steps, *input shape) as the recipe says; the trace is aligned.

    `device`: where the integers are computed, by name or one of torch: on the CPU by the engine, on a GPU
    by torch, in place of `backend`; None: as `backend` says. The run takes `steps + latency` steps, so
    that every layer answers every input step. Raises NetworkError where the recipe says single spikes and
    the inputs are not 0 and 1.
    """
    recipe = needed_recipe(network)
    if recipe.coding.binary:
        check_single_spikes(network, messages)
    named = None if device is None or str(device) == "cpu" else str(device)
    return run(
        network,
        messages,
        recipe.timing(network.latency),
        backend="torch" if named else backend,
        record=record,
        counter=counter,
        file=file,
        device=named,
    ).aligned(network, recipe.coding.steps)


def check_single_spikes(network: Network, messages: NDArray[Any]) -> None:
    """Refuse graded input (sample, steps, *input shape) where the recipe says single spikes.

    `simulate` would take it for those. Raises NetworkError.
    """
    first = network.layers[0]
    if not messages.size or (isinstance(first, Input) and first.neuron is not None):
        return
    low, high = messages.min(), messages.max()
    if low < 0 or high > 1:
        raise NetworkError(
            f"inputs reach {low} .. {high}, but the recipe says single spikes, 0 and 1. Encode them as "
            f"the recipe says, or export with inputs of the range that will come; "
            f"`simulate --message-bits 0` counts every non-zero input as one spike."
        )


def encoded(
    recipe: Recipe, split: Split, samples: int | None = None
) -> Iterator[tuple[NDArray[np.int32], NDArray[np.int64]]]:
    """Blocks of (messages (sample, steps, *input shape), labels) of a data set, drawn from the seed.

    Labels are classes (sample,), targets (sample, outputs), or none (0,).
    """
    from ...models import encoding
    from ...models.data.dataset import Messages

    draws = encoding.generator(recipe.seed)
    count_ = len(split) if samples is None else min(samples, len(split))
    for start in range(0, count_, BLOCK):
        block = list(range(start, min(start + BLOCK, len(split))))
        images, labels = split[block]
        if isinstance(split, Messages):
            messages = images.numpy()
        else:
            messages = encoding.integers(recipe.coding, images, draws)
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
            frames = torch.tensor(messages / recipe.coding.levels, dtype=torch.float32)
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


def decode_of(network: Network) -> Decode:
    """How the answer of a network is read that does not say it."""
    return "mean voltage" if never_spikes(network.populations[-1]) else "spike count"


def never_spikes(population: Population) -> bool:
    """Whether a layer is a readout: netx's integrator, or neurons with the largest threshold."""
    neuron = population.neuron
    if isinstance(neuron, Integrator):
        return True
    threshold = getattr(neuron, "threshold", 0)
    return bool(np.min(threshold) >= arithmetic.THRESHOLD_MAX)


def output_record(recipe: Recipe) -> tuple[str, ...]:
    """What must be recorded to read the answer alone."""
    return tuple(f"{name}.-1" for name in records_for(recipe)[-1:])


def output_scores(network: Network, messages: NDArray[Any], device: object = None) -> NDArray[Any]:
    """`scores` of encoded inputs (sample, steps, *input shape), by the engine or on `device`."""
    record = output_record(needed_recipe(network))
    return scores(network, run_recipe(network, messages, record=record, device=device))


@dataclass(frozen=True, repr=False)
class Classification(Printed):
    """A network's answers on a data set, how good they are, and the seconds that simulating took.

    `scores` (sample, outputs), as the recipe reads them: of regression they are the answers themselves.
    """

    scores: NDArray[Any] = field(metadata={"json": False})
    quality: Quality
    seconds: float
    overflow: tuple[Overflow, ...]

    @property
    def predictions(self) -> NDArray[Any]:
        """The classes (sample,): the largest scores; of regression the scores (sample, outputs)."""
        if self.quality.error is not None:
            return self.scores
        classes: NDArray[np.int64] = self.scores.argmax(axis=1)
        return classes

    @property
    def accuracy(self) -> float | None:
        """The fraction of right answers; None of regression, and where there are no labels."""
        return self.quality.accuracy

    def views(self) -> Sequence[View]:
        """Accuracy or error, samples per second, and layers that overflowed."""
        from ..cli.tables import overflow_lines

        samples = len(self.scores)
        names = [f"layer {i}" for i in range(len(self.overflow))]
        return [
            f"{self.quality.text} on {samples} samples",
            f"{samples / self.seconds:,.0f} samples per second",
            *overflow_lines(names, self.overflow),
        ]


@dataclass(frozen=True, repr=False)
class Evaluation(Classification):
    """Answers with the events that were counted on the way."""

    counts: Counts


@dataclass(frozen=True)
class _Block:
    """What came of some samples."""

    scores: NDArray[Any]
    labels: NDArray[Any]
    trace: Trace
    seconds: float


def _blocks(
    deployed: Deployed,
    split: Split,
    samples: int | None,
    counter: Counter | None,
    progress: bool,
    device: object = None,
) -> Iterator[_Block]:
    """Simulate (the first `samples` of) a data set, only what is read of the output recorded."""
    network, recipe = deployed.network, deployed.recipe
    record = output_record(recipe)
    size = len(split) if samples is None else min(samples, len(split))
    if not size:
        raise NetworkError("no samples to evaluate.")
    warm = False
    for messages, labels in track(encoded(recipe, split, samples), size, "simulating", progress):
        if not warm:
            warm = True
            # loads the compiled loops, untimed
            run_recipe(network, messages[:1], record=record, device=device)
        start = time.perf_counter()
        trace = run_recipe(network, messages, record=record, counter=counter, device=device)
        seconds = time.perf_counter() - start
        yield _Block(scores(network, trace), labels, trace, seconds)


def _classification(network: Network, blocks: Sequence[_Block]) -> Classification:
    answers = np.concatenate([block.scores for block in blocks])
    labels = np.concatenate([block.labels for block in blocks])
    overflow = [Overflow()] * len(network.populations)
    for block in blocks:
        overflow = [a + b for a, b in zip(overflow, block.trace.overflow or (), strict=True)]
    return Classification(
        answers,
        Quality.of(answers, labels),
        sum(block.seconds for block in blocks),
        tuple(overflow),
    )


def classify(
    deployed: Deployed,
    split: Split,
    samples: int | None = None,
    *,
    progress: bool = False,
    device: object = None,
) -> Classification:
    """Answers for (the first `samples` of) a data set; `device` as in `run_recipe`.

    Raises NetworkError where it is empty, and for a device that is not there.
    """
    blocks = list(_blocks(deployed, split, samples, None, progress, device))
    return _classification(deployed.network, blocks)


def evaluate(
    deployed: Deployed,
    split: Split,
    samples: int | None = None,
    *,
    placement: Placement | None = None,
    observe: Callable[[Activity], None] | None = None,
    progress: bool = False,
) -> Evaluation:
    """Answers and counted events, of the input steps alone (latency taken out, as the recipe runs).

    `placement`: on these cores; None: each layer one core. `observe` is given the activity of each
    block of samples, in order. Raises NetworkError for an empty data set, and for a placement of another
    network.
    """
    network = deployed.network
    counter = Counter(network, placement, deployed.recipe.coding.steps)
    blocks, counts = [], None
    for block in _blocks(deployed, split, samples, counter, progress):
        activity = block.trace.activity
        assert activity is not None
        if observe is not None:
            observe(activity)
        more = tally(network, activity, placement)
        counts = more if counts is None else counts + more
        blocks.append(replace(block, trace=Trace(overflow=block.trace.overflow)))
    assert counts is not None
    classification = _classification(network, blocks)
    return Evaluation(**vars(classification), counts=counts)


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
