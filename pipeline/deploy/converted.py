"""A converted ANN as a NIR graph, which says with which coding it is to be run."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

import nir

from ...hw_targets.network.coding import Coding
from ..graph import NEURONS, READOUTS

if TYPE_CHECKING:
    from ...models.ann_conversion import Converted

_CODING = "spikeship_coding"
"""The key of a graph's metadata."""


def graph_of(converted: Converted, input_shape: Sequence[int]) -> nir.NIRGraph:
    """The graph of a converted network, proven by `from_norse`; metadata say its resets and coding."""
    from ..frontends import from_norse

    graph = from_norse(converted.net, input_shape)
    for node in graph.nodes.values():
        if isinstance(node, NEURONS) and not isinstance(node, READOUTS):
            node.metadata = {"reset": "zero", "reset_delay": 0, **node.metadata}
    graph.metadata[_CODING] = json.dumps(asdict(converted.coding))
    return graph


def coding_in(graph: Any) -> Coding | None:
    """The coding that a graph was converted for; None where it says none."""
    text = graph.metadata.get(_CODING) if isinstance(graph, nir.NIRGraph) else None
    return None if text is None else Coding(**json.loads(text))
