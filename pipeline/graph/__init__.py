"""NIR graphs that can become a netx file: chains of layers, with recurrence inside a layer."""

from .chains import (
    Dynamics,
    Stage,
    chain,
    chain_graph,
    conv2d,
    delay_steps,
    dynamics,
    input_shape,
    recurrence,
    segments,
    stages,
)
from .problems import PARAMETERS, check
from .topology import (
    LINEAR,
    NEURONS,
    READOUTS,
    Chain,
    Edge,
    GraphError,
    LoweringError,
    Node,
    UnknownNodeError,
    flatten_subgraphs,
)

__all__ = [
    "LINEAR",
    "NEURONS",
    "PARAMETERS",
    "READOUTS",
    "Chain",
    "Dynamics",
    "Edge",
    "GraphError",
    "LoweringError",
    "Node",
    "Stage",
    "UnknownNodeError",
    "chain",
    "chain_graph",
    "check",
    "conv2d",
    "delay_steps",
    "dynamics",
    "flatten_subgraphs",
    "input_shape",
    "recurrence",
    "segments",
    "stages",
]
