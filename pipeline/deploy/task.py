"""`Task`: a network that says how it is run, and the data that it is judged on."""

from __future__ import annotations

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.network.coding import Coding
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NetworkError
from ...hw_targets.network.recipe import Recipe
from ...models.data.dataset import Dataset, Messages, Split
from ...models.data.grid import CodingChoice
from ...models.data.load import load
from ...models.data.own import labels_of
from .deployed import Deployed
from .run import decode_of, needed_recipe

UNSAID = CodingChoice()


@dataclass(frozen=True)
class Task:
    """A network with its recipe, and the data set whose test samples it is judged on."""

    deployed: Deployed
    data: Dataset


def task(
    deployed: Deployed,
    data: Any = None,
    data_root: str | Path | None = None,
    *,
    inputs: NDArray[Any] | None = None,
    labels: NDArray[Any] | None = None,
    said: CodingChoice = UNSAID,
    reset_interval: int | None = None,
    name: str = "inputs",
) -> Task:
    """What a network is judged on, and how it is run there.

    `data`: whatever `models.data.load.load` takes; None: what the network was made for. Or `inputs`, with
    `labels` (sample,) or none: integers (sample, time, *input shape) are messages as they are; real
    numbers are data, as in a data set. `name`: what reports call these.

    A network without recipe, as other software writes them, gets one: its coding is what is `said` and
    what the data have (see `CodingChoice.of`; of messages `levels` per 1.0, 1 by default), it forgets
    every `reset_interval` steps (None: never), layer i in the step in which a sample's first data reach
    it, and its answer is the spike count, or of a last layer that never spikes the mean voltage. A
    network with recipe takes nothing that is `said`.

    Raises NetworkError, DatasetError, ValueError where these contradict each other.
    """
    network = deployed.network
    if data is not None and inputs is not None:
        raise ValueError("--data and --input exclude each other.")
    if labels is not None and inputs is None:
        raise ValueError("--labels go with --input; a data set has its own.")
    if network.recipe is not None and (said != UNSAID or reset_interval is not None):
        raise NetworkError(
            f"{deployed.name} says itself how its inputs are encoded and when it forgets: leave out "
            f"--coding, --sigma, --time-steps, --levels and --reset-interval."
        )
    if data is None and inputs is None:
        needed_recipe(network)
        return Task(deployed, deployed.dataset(None, data_root))
    if inputs is None:
        steps = network.recipe.coding.steps if network.recipe else said.steps or 8
        chosen = load(data, data_root, steps)
    else:
        chosen = alone(np.asarray(inputs), labels, name)
    if network.recipe is None:
        deployed = with_recipe(deployed, _coding(chosen, said), reset_interval)
    _check(deployed.network, chosen, deployed.name)
    return Task(deployed, chosen)


def with_recipe(deployed: Deployed, coding: Coding, reset_interval: int | None = None) -> Deployed:
    """A network that does not say how it is run, run like this; see `task`. Raises NetworkError."""
    network = deployed.network
    if network.recipe is not None:
        raise NetworkError(
            f"{deployed.name} says itself how it is run: leave out coding and reset_interval."
        )
    recipe = Recipe(coding, reset_interval, 1 if reset_interval else 0, decode=decode_of(network))
    return replace(deployed, network=Network(network.layers, recipe))


def alone(inputs: NDArray[Any], labels: NDArray[Any] | None, name: str) -> Dataset:
    """Inputs as a data set that has test samples alone, see `task`. Raises NetworkError, DatasetError."""
    if inputs.dtype.kind not in "biuf" or inputs.ndim < 2 or not inputs.size:
        raise NetworkError(f"{name}: {inputs.dtype} of shape {inputs.shape} are no inputs.")
    if inputs.dtype.kind == "f" and not np.isfinite(inputs).all():
        raise NetworkError(f"{name} holds numbers that are not finite.")
    answers = torch.zeros(0, dtype=torch.int64) if labels is None else labels_of(labels, "labels")
    if labels is not None and len(answers) != len(inputs):
        raise NetworkError(
            f"{name}: {len(inputs)} samples, {len(answers)} labels; one each is needed."
        )
    kind, type_ = (Split, np.float32) if inputs.dtype.kind == "f" else (Messages, np.int32)
    test = kind(torch.from_numpy(inputs.astype(type_)), answers)
    return Dataset(name, test.first(0), test.first(0), test)


def _coding(data: Dataset, said: CodingChoice) -> Coding:
    """The coding of a network that does not say one."""
    if not isinstance(data.test, Messages):
        return said.of(data)
    if said.name is not None or said.sigma:
        raise ValueError(
            f"{data.name} are integers, which are messages already: leave out --coding and --sigma."
        )
    coding = Coding.given(data.test.images.numpy(), said.levels or 1)
    if said.steps not in (None, coding.steps):
        raise ValueError(
            f"--time-steps {said.steps}, but {data.name} has {coding.steps} steps: leave it out."
        )
    return coding


def _check(network: Network, data: Dataset, name: str) -> None:
    """Refuse data of another shape than the network's input, and messages of another length."""
    recipe = needed_recipe(network)
    given = isinstance(data.test, Messages)
    shape = tuple(data.test.images.shape[2:]) if given else data.shape
    if shape != network.input_shape:
        raise NetworkError(
            f"{data.name} has inputs of shape {shape}; {name} takes {network.input_shape}, axes in "
            f"C, H, W order."
        )
    coding = recipe.coding
    timed = coding.name in ("sequence", "events", "given")
    if not given and (
        timed != (data.steps is not None) or (coding.name == "events" and data.kind != "events")
    ):
        takes = (
            f"data with time ({coding.name})" if timed else f"images, in the coding {coding.name}"
        )
        raise NetworkError(f"{data.name} is {data.kind}; {name} takes {takes}.")
    if given and data.test.images.shape[1] != recipe.coding.steps:
        raise NetworkError(
            f"{data.name} has {data.test.images.shape[1]} steps; {name} is run in "
            f"{recipe.coding.steps}."
        )
