"""What a chip holds and does: integer networks, their file format, simulation and costs."""

from .chips.mapper import map_network
from .counts.counter import Counter
from .counts.counts import Counts, count, tally
from .network.coding import Coding
from .network.layers import Conv, Dense, Flatten, Input
from .network.network import Network
from .network.neurons import CubaLIF, Delta, NetworkError, ResonateFire, Sigma, SigmaDelta
from .network.recipe import Recipe
from .network.timing import Timing
from .netx.file import NetxError, NetxWarning, read_netx, write_netx
from .simulate.engine import simulate
from .simulate.state import State
from .simulate.trace import Trace

if __name__ == "hw_targets":
    raise ImportError("`pip install -e .`, then import this folder as spikeship.hw_targets")

__all__ = [
    "Coding",
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
    "State",
    "Timing",
    "Trace",
    "count",
    "map_network",
    "read_netx",
    "simulate",
    "tally",
    "write_netx",
]
