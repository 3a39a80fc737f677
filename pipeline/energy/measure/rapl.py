"""RAPL: the energy counters of CPU packages that Linux shows under /sys/class/powercap."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

from .reading import Conditions, Counter, Sample, Unavailable

ROOT = Path("/sys/class/powercap")
_THERMOMETERS = ("coretemp", "k10temp", "zenpower")


@dataclass(frozen=True)
class _Package:
    folder: Path
    wraps_at: float | None


class Rapl:
    """Energy of all CPU packages together (Intel, and AMD since Zen), read from `root`.

    Each zone `intel-rapl:N` whose `name` is package-N counts microjoules in `energy_uj`, wrapping at
    `max_energy_range_uj`. Counted: everything that runs on the sockets, this process or not; DRAM is
    not. Sub-zones (core, uncore, dram), the platform's zone psys and the duplicates intel-rapl-mmio
    are left out. Virtual machines and containers usually hide the counters.
    """

    name = "RAPL"
    scope = "CPU package"
    refresh_s = 0.001

    def __init__(self, root: Path = ROOT) -> None:
        self.root = root

    @cached_property
    def _packages(self) -> tuple[_Package, ...]:
        if not self.root.is_dir():
            raise Unavailable(
                f"no {self.root}: the energy counters of the CPU are shown by Linux only, and "
                f"virtual machines and containers hide them."
            )
        zones = sorted(self.root.glob("intel-rapl:*"))
        packages = [z for z in zones if (_text(z / "name") or "").startswith("package-")]
        if not packages:
            raise Unavailable(
                f"{self.root} has no zone intel-rapl:N of a CPU package: this CPU has no RAPL, its "
                f"driver is not loaded (modprobe intel_rapl_msr), or a container hides it."
            )
        return tuple(_Package(z, _micro(z / "max_energy_range_uj")) for z in packages)

    def sample(self) -> Sample:
        """One counter per package. Raises Unavailable with all files that cannot be read."""
        counters, problems = [], []
        for package in self._packages:
            file = package.folder / "energy_uj"
            try:
                counters.append(Counter(str(file), int(file.read_text()) * 1e-6, package.wraps_at))
            except PermissionError:
                problems.append(
                    f"{file} may be read by root only (so since Linux 5.10): sudo chmod a+r {file}, "
                    f"or a udev rule that does it."
                )
            except FileNotFoundError:
                problems.append(f"{file} does not exist.")
            except (OSError, ValueError) as error:
                problems.append(f"{file} cannot be read as an integer ({error}).")
        if problems:
            raise Unavailable(" ".join(problems))
        return Sample(tuple(counters))

    def conditions(self) -> Conditions:
        """Mean clock, sum of the packages' long-term power limits, hottest package."""
        cpus = self.root.parents[1] / "devices" / "system" / "cpu" / "cpufreq"
        monitors = self.root.parent / "hwmon"
        try:
            packages = self._packages
        except Unavailable:
            packages = ()
        clocks = _known(_number(p) for p in cpus.glob("policy*/scaling_cur_freq"))
        limits = [_micro(p.folder / "constraint_0_power_limit_uw") for p in packages]
        degrees = _known(
            _number(monitor / "temp1_input")
            for monitor in monitors.glob("hwmon*")
            if _text(monitor / "name") in _THERMOMETERS
        )
        policy = cpus / "policy0"
        driver, governor = _text(policy / "scaling_driver"), _text(policy / "scaling_governor")
        return Conditions(
            clock_mhz=sum(clocks) / len(clocks) / 1e3 if clocks else None,
            power_limit_w=sum(_known(limits)) if limits and None not in limits else None,
            temperature_c=max(degrees) / 1e3 if degrees else None,
            driver=f"{driver}, governor {governor}" if driver else None,
        )


def _text(path: Path) -> str | None:
    try:
        return path.read_text().strip()
    except OSError:
        return None


def _number(path: Path) -> float | None:
    try:
        return float(path.read_text())
    except (OSError, ValueError):
        return None


def _micro(path: Path) -> float | None:
    value = _number(path)
    return None if value is None else value * 1e-6


def _known(values: Iterable[float | None]) -> list[float]:
    return [value for value in values if value is not None]
