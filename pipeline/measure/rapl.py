"""RAPL: the energy counters of CPU packages that Linux shows under /sys/class/powercap."""

from __future__ import annotations

from pathlib import Path

from .reading import Conditions, Counter, Sample, Unavailable

ROOT = Path("/sys/class/powercap")


class Rapl:
    """Energy of all CPU packages together (Intel, and AMD since Zen), read from `root`.

    Each zone `intel-rapl:N` whose `name` is package-N counts microjoules in `energy_uj`, wrapping at
    `max_energy_range_uj`. Counted: everything that runs on the sockets, this process or not; DRAM is
    not. Sub-zones (core, uncore, dram), the platform zone psys and duplicates (intel-rapl-mmio) are
    left out. Virtual machines and containers usually hide the counters.
    """

    name = "RAPL"
    scope = "CPU package"
    refresh_s = 0.001

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    def sample(self) -> Sample: ...

    def conditions(self) -> Conditions: ...
