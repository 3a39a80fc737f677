"""What a chip holds and does: integer networks, their file format, simulation and costs."""

if __name__ == "hw_targets":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.hw_targets")

from .counting import Counter
from .counts import Counts, count, tally
from .engine import simulate
from .mapper import map_network
from .network import (
    Conv,
    CubaLIF,
    Delta,
    Dense,
    Flatten,
    Input,
    Network,
    NetworkError,
    Recipe,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from .netx import NetxError, NetxWarning, read_netx, write_netx
from .trace import Trace

__all__ = [
    "Conv",
    "Counter",
    "Counts",
    "CubaLIF",
    "Delta",
    "Dense",
    "Flatten",
    "Input",
    "Network",
    "NetworkError",
    "NetxError",
    "NetxWarning",
    "Recipe",
    "ResonateFire",
    "Sigma",
    "SigmaDelta",
    "Trace",
    "count",
    "map_network",
    "read_netx",
    "simulate",
    "tally",
    "write_netx",
]
