"""The answers in the trace of a run; needs no torch."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.network.coding import Coding
from ...hw_targets.network.network import Network
from ...hw_targets.network.recipe import Decode, Recipe
from ...hw_targets.simulate.trace import Trace
from .run import decode_of, output_record, scores


@dataclass(frozen=True)
class Scored:
    """The answers of a run: `scores` (sample, outputs), read as `decode` says, over `steps` of the input.

    `values`: whether these are the answers, as of regression; else the largest is the class.
    """

    decode: Decode
    scores: NDArray[Any]
    steps: int
    values: bool

    @property
    def classes(self) -> NDArray[np.int64] | None:
        """The largest score of each sample, (sample,); None where scores are values."""
        if self.values:
            return None
        largest: NDArray[np.int64] = self.scores.argmax(axis=1)
        return largest


def answer_of(network: Network, trace: Trace, inputs: NDArray[Any]) -> Scored | None:
    """What a run answers, latency taken out, as the recipe or else the last layer says.

    None where the last layer's spikes, or voltages, were not recorded or the run is too short.
    """
    recipe = network.recipe or Recipe(Coding("given", 1), decode=decode_of(network))
    last = network.populations[-1].index
    recorded = trace.spikes if output_record(recipe) == ("spikes.-1",) else trace.v
    if recorded is None or last not in recorded.populations:
        return None
    steps = recorded[last].shape[1] - network.latency
    if inputs.ndim > 1 + len(network.input_shape):
        steps = min(steps, inputs.shape[1])
    if steps < 1:
        return None
    judged = Network(network.layers, recipe)
    values = scores(judged, trace.aligned(network, steps))
    regression = recipe.provenance.get("task") == "regression" or values.shape[1] == 1
    return Scored(recipe.decode, values, steps, regression)
