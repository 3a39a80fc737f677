"""What a chip holds and does: integer networks, their file format, simulation and costs."""

if __name__ == "hw_targets":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.hw_targets")

from .network import (
    Conv,
    CubaLIF,
    Dense,
    Flatten,
    Input,
    Network,
    NetworkError,
    Recipe,
)
from .netx import NetxError, read_netx, write_netx
from .reference import simulate
from .trace import Counts, Trace, count

__all__ = [
    "Conv",
    "Counts",
    "CubaLIF",
    "Dense",
    "Flatten",
    "Input",
    "Network",
    "NetworkError",
    "NetxError",
    "Recipe",
    "Trace",
    "count",
    "read_netx",
    "simulate",
    "write_netx",
]
