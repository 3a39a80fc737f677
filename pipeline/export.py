"""From a trained network to a `.net` file: import, lower, quantize, write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path

import nir
import norse.torch as norse
import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ..hw_targets.network import Network, Recipe
from ..hw_targets.netx import write_netx
from ..hw_targets.trace import atomic_path
from ..models.encoding import Encoding, generator
from .execute import execute
from .frontends import from_norse
from .frontends.norse import leaves
from .graph import READOUTS, chain
from .quantize import Quantized, quantize

CALIBRATION_SEED = 20_000
"""Noise of the calibration images; the recipe's own seed is for evaluation."""


@dataclass(frozen=True)
class Exported:
    """What `export` made: the integers with their losses, the float graph, and where they went."""

    quantized: Quantized
    graph: nir.NIRGraph
    path: Path
    graph_path: Path


def recipe_for(
    graph: nir.NIRGraph, encoding: Encoding, seed: int, provenance: Mapping[str, str]
) -> Recipe:
    """How the exported network is to be run.

    A reset every `steps` steps with offset 1: layer i forgets its state in the step in which a new
    sample's first data reaches it. Biases, which netx switches on from step 1 in all layers, thus
    act from the first data on, as in the float network; and samples can follow each other without gap.
    """
    voltage = isinstance(chain(graph)[-1][1], READOUTS)
    return Recipe(
        steps=encoding.steps,
        levels=encoding.levels,
        message_bits=encoding.message_bits,
        reset_interval=encoding.steps,
        reset_offset=1,
        coding=encoding.coding,
        sigma=encoding.sigma,
        seed=seed,
        decode="mean voltage" if voltage else "spike count",
        provenance=provenance,
    )


def export(
    model: nn.Module,
    input_shape: Sequence[int],
    encoding: Encoding,
    calibration: torch.Tensor,
    path: str | Path,
    *,
    seed: int = 0,
    provenance: Mapping[str, str] | None = None,
    approximate_current_bias: bool = False,
    progress: Callable[[str], None] = lambda name: None,
) -> Exported:
    """Write `path` (netx) and, beside it, the float graph as `.nir`; neither on failure.

    `model`: see `from_norse`; `calibration`: images (sample, C, H, W) in [0, 1] on which scales are
    chosen. The imported graph is run beside the model on some of them first: a difference is an
    error, not a silent change of the network.
    """
    path = Path(path)
    graph = from_norse(model.eval(), input_shape)
    messages = encoding.integers(calibration, generator(CALIBRATION_SEED + seed))
    _check_import(model, graph, messages[:16] / encoding.levels)
    notes = {"spikeship": version("spikeship"), "source": str(graph.metadata["framework"])}
    recipe = recipe_for(graph, encoding, seed, {**notes, **(provenance or {})})
    quantized = quantize(
        graph,
        messages,
        recipe,
        approximate_current_bias=approximate_current_bias,
        progress=progress,
    )
    unit = quantized.losses[-1].unit
    network = Network(quantized.network.layers, replace(recipe, output_unit=unit))
    graph_path = path.with_suffix(".nir")
    with atomic_path(graph_path) as temporary:
        nir.write(temporary, graph)
        write_netx(network, path)
    return Exported(replace(quantized, network=network), graph, path, graph_path)


def _check_import(model: nn.Module, graph: nir.NIRGraph, frames: NDArray[np.float64]) -> None:
    """The graph, run in float64, must answer as the model does."""
    body = norse.SequentialState(*(module for _, module in leaves(model)))
    state, outputs = None, []
    with torch.no_grad():
        for frame in torch.as_tensor(frames, dtype=torch.float32).transpose(0, 1):
            out, state = body(frame, state)
            outputs.append(out)
    theirs = torch.stack(outputs, dim=1).double().numpy()
    trace = execute(graph, frames)
    readout = isinstance(chain(graph)[-1][1], READOUTS)
    ours = trace.voltage[-1] if readout else trace.spikes[-1]
    off = float(np.mean(np.abs(ours - theirs) > (1e-3 if readout else 0)))
    if off > 0.005:  # float32 against float64 may flip a rare spike; a wrong import flips many
        raise ValueError(
            f"the imported graph answers differently from the model in {100 * off:.1f} % of its "
            f"outputs: the import does not understand some module's forward pass."
        )


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
