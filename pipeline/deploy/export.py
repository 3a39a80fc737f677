"""From a trained network to a `.net` file: import, lower, quantize, write."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, replace
from importlib.metadata import version
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, TypeAlias

import nir
import numpy as np
import torch
from numpy.typing import NDArray

from ...hw_targets.chips.messages import MessageTarget, check_messages
from ...hw_targets.files import atomic_path
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import NetworkError
from ...hw_targets.network.recipe import Recipe
from ...hw_targets.netx.file import write_netx
from ...models.encoding import Encoding, generator
from ..frontends import from_netx, from_norse, from_slayer
from ..frontends.norse import check_norse
from ..graph import READOUTS, LoweringError, stages
from ..lower import lower
from ..quantize import Quantized, quantize

if TYPE_CHECKING:
    from torch import nn


CALIBRATION_SEED = 20_000
"""Noise of the calibration images; the recipe's own seed is for evaluation."""
PROOF_SAMPLES = 16
"""Calibration samples on which the import of a Norse network is proven again."""

Quantizer: TypeAlias = Callable[[nir.NIRGraph, NDArray[np.int32], Recipe], Quantized]


@dataclass(frozen=True)
class Exported:
    """What an export made: the integers with their losses, the float graph, and where they went.

    `graph` and `graph_path` are None where NIR cannot hold the network (sigma-delta neurons).
    """

    quantized: Quantized
    graph: nir.NIRGraph | None
    path: Path
    graph_path: Path | None


def recipe_for(
    encoding: Encoding, seed: int = 0, provenance: Mapping[str, str] | None = None
) -> Recipe:
    """How an exported network is to be run.

    A reset every `steps` steps with offset 1: layer i forgets its state in the step in which a new
    sample's first data reaches it. Biases, which netx switches on from step 1 in all layers, thus
    act from the first data on, as in the float network; and samples can follow each other without gap.
    """
    phased = encoding.coding == "phase"
    return Recipe(
        steps=encoding.steps,
        levels=encoding.levels,
        message_bits=encoding.message_bits,
        reset_interval=encoding.steps,
        reset_offset=1,
        coding=encoding.coding,
        sigma=encoding.sigma,
        seed=seed,
        grid=None if encoding.grid == encoding.levels else encoding.grid,
        offsets=encoding.offsets if phased else None,
        template=encoding.template if phased else None,
        provenance={"spikeship": version("spikeship"), **(provenance or {})},
    )


def recipe_of(
    messages: NDArray[Any], levels: int = 1, provenance: Mapping[str, str] | None = None
) -> Recipe:
    """The recipe for one's own integer inputs (sample, time, *input shape), as `recipe_for`.

    Single spikes where all are 0 or 1, else messages of the bits that these need, sign included.
    """
    if messages.ndim < 3 or messages.size == 0 or not np.issubdtype(messages.dtype, np.integer):
        raise ValueError(
            f"inputs of shape {messages.shape} and type {messages.dtype}; integers (sample, time, "
            f"*input shape) are needed."
        )
    low, high = int(messages.min()), int(messages.max())
    bits = 0 if low >= 0 and high <= 1 else 1 + max((-low - 1).bit_length(), high.bit_length())
    steps = messages.shape[1]
    return Recipe(
        steps=steps,
        levels=levels,
        message_bits=bits,
        reset_interval=steps,
        reset_offset=1,
        coding="given",
        provenance={"spikeship": version("spikeship"), **(provenance or {})},
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
    quantizer: Quantizer = quantize,
) -> Exported:
    """Quantize a Norse network and write it: `export_graph` of `import_norse`.

    `calibration`: images (sample, C, H, W) in [0, 1] on which scales are chosen.
    """
    messages = calibration_messages(encoding, calibration, seed)
    graph = import_norse(model, input_shape, messages / encoding.levels)
    recipe = recipe_for(encoding, seed, provenance)
    return export_graph(graph, messages, recipe, path, quantizer=quantizer)


def calibration_messages(
    encoding: Encoding, images: torch.Tensor, seed: int = 0
) -> NDArray[np.int32]:
    """Images in [0, 1] as integer inputs, with noise that no evaluation draws."""
    return encoding.integers(images, generator(CALIBRATION_SEED + seed))


def import_norse(
    model: nn.Module | nir.NIRGraph, input_shape: Sequence[int], frames: NDArray[np.float64]
) -> nir.NIRGraph:
    """`from_norse`, whose proof on random frames is repeated on the first of `frames`.

    `frames`: real ones, (sample, time, *input shape); what a `forward` does only with some values, such
    as clipping them, is seen here. A NIR graph is returned as it is.
    """
    if isinstance(model, nir.NIRGraph):
        return model
    graph = from_norse(model.eval(), input_shape)
    check_norse(model, graph, frames[:PROOF_SAMPLES])
    return graph


def export_graph(
    graph: nir.NIRGraph,
    messages: NDArray[np.int32],
    recipe: Recipe,
    path: str | Path,
    *,
    quantizer: Quantizer = quantize,
    target: MessageTarget | None = None,
) -> Exported:
    """Quantize a NIR graph on integer inputs (sample, time, *input shape) and write it.

    `path` (netx) and, beside it, the float graph as `.nir`; neither on failure. `quantizer`: for
    instance `functools.partial(quantize, bits=4)`, or one that fine-tunes afterwards. How the answer
    is decoded, and from which framework the graph came, is added to `recipe`. `target`: whose spikes
    must be able to carry the input and the layers' messages, see `check_messages`.
    """
    readout = stages(lower(graph, approximate_reset=True))[-1].neuron
    notes = {"source": str(graph.metadata.get("framework", "NIR")), **recipe.provenance}
    voltage = isinstance(readout, READOUTS)
    decode: Literal["mean voltage", "spike count"] = "mean voltage" if voltage else "spike count"
    quantized = quantizer(graph, messages, replace(recipe, decode=decode, provenance=notes))
    network = quantized.network
    assert network.recipe is not None
    recipe = replace(network.recipe, output_unit=quantized.losses[-1].unit)
    quantized = replace(quantized, network=Network(network.layers, recipe))
    return _write(quantized, graph, Path(path), target)


def export_slayer(
    model: nn.Module,
    path: str | Path,
    recipe: Recipe | None = None,
    input_shape: Sequence[int] | None = None,
    *,
    target: MessageTarget | None = None,
) -> Exported:
    """Write a SLAYER network: the integers that its training computes with, see `from_slayer`.

    Beside it goes, where NIR can hold it, the same network in real numbers (see `from_netx`).
    Without `recipe` the file is what lava-dl writes, to be run on one's own inputs.
    """
    network = Network(from_slayer(model, input_shape).layers, recipe)
    graph: nir.NIRGraph | None = None
    with suppress(NetworkError, LoweringError):
        graph = from_netx(network)
        lower(graph)
    return _write(Quantized(network, ()), graph, Path(path), target)


def _write(
    quantized: Quantized, graph: nir.NIRGraph | None, path: Path, target: MessageTarget | None
) -> Exported:
    if target is not None:
        check_messages(quantized.network, target)
    if graph is None:
        write_netx(quantized.network, path)
        return Exported(quantized, None, path, None)
    graph_path = path.with_suffix(".nir")
    with atomic_path(graph_path) as temporary:
        nir.write(temporary, graph)
        write_netx(quantized.network, path)
    return Exported(quantized, graph, path, graph_path)


def file_digest(path: str | Path) -> str:
    """SHA-256 of a file's bytes."""
    return hashlib.sha256(Path(path).read_bytes()).hexdigest()
