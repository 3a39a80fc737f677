"""NVML: the energy counter of an NVIDIA GPU's board, through nvidia-ml-py."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from .reading import Conditions, Counter, Sample, Unavailable

# of nvml.h
_CLOCK_SM, _CLOCK_MEMORY, _TEMPERATURE_GPU = 1, 2, 0


class Nvml:
    """Energy of one GPU's board since its driver was loaded (Volta and later).

    `index`: NVML's number of the GPU, or its UUID; see `cuda_index`. `library`: what stands in for the
    module `pynvml`. `expected`: the name that the GPU must have, so that no other board is measured
    than the one that works. Power readings are integrated as a cross-check only: from Ampere on they
    are averages over one second. The host is not counted; on a GH200, whose counter is that of the
    module, its CPU is.
    """

    name = "NVML"
    refresh_s = 0.1
    """The slowest of the boards that were looked at publicly; others refresh in 20 ms."""

    def __init__(self, index: int | str = 0, library: Any = None, expected: str = "") -> None:
        self.index = index
        self.expected = expected
        self._given = library

    @property
    def scope(self) -> str:
        name = self._ask("nvmlDeviceGetName")
        return "GPU module" if name is not None and "GH200" in name else "GPU board"

    @cached_property
    def _library(self) -> Any:
        if self._given is not None:
            return self._given
        try:
            import pynvml
        except ModuleNotFoundError:
            raise Unavailable(
                'nvidia-ml-py is not installed: pip install "spikeship[gpu]".'
            ) from None
        return pynvml

    @cached_property
    def _handle(self) -> Any:
        nvml = self._library
        try:
            nvml.nvmlInit()
        except nvml.NVMLError as error:
            raise Unavailable(f"no NVIDIA driver answers ({error}).") from None
        try:
            if isinstance(self.index, str):
                handle = nvml.nvmlDeviceGetHandleByUUID(self.index)
            else:
                handle = nvml.nvmlDeviceGetHandleByIndex(self.index)
            name = nvml.nvmlDeviceGetName(handle)
        except nvml.NVMLError as error:
            raise Unavailable(f"no GPU {self.index} ({error}); see nvidia-smi -L.") from None
        if self.expected and name != self.expected:
            raise Unavailable(
                f"GPU {self.index} is {name!r} to the driver and {self.expected!r} to CUDA: set "
                f"CUDA_DEVICE_ORDER=PCI_BUS_ID."
            )
        return handle

    def sample(self) -> Sample:
        """The board's counter (J), and its power (W) where NVML tells it. Raises Unavailable."""
        handle, nvml = self._handle, self._library
        where = f"NVML's energy counter of GPU {self.index}"
        try:
            millijoules = nvml.nvmlDeviceGetTotalEnergyConsumption(handle)
        except nvml.NVMLError_NotSupported:
            raise Unavailable(
                f"{where} does not exist: boards before Volta and MIG instances have none."
            ) from None
        except nvml.NVMLError as error:
            raise Unavailable(f"{where} cannot be read ({error}).") from None
        return Sample((Counter(where, millijoules * 1e-3),), self._milli("nvmlDeviceGetPowerUsage"))

    def conditions(self) -> Conditions:
        """SM and memory clocks, enforced power limit, GPU temperature, driver."""
        mig = self._ask("nvmlDeviceGetMigMode")
        divided = "MIG is on: the counter is that of the whole GPU, its other instances included."
        return Conditions(
            clock_mhz=self._ask("nvmlDeviceGetClockInfo", _CLOCK_SM),
            memory_clock_mhz=self._ask("nvmlDeviceGetClockInfo", _CLOCK_MEMORY),
            power_limit_w=self._milli("nvmlDeviceGetEnforcedPowerLimit"),
            temperature_c=self._ask("nvmlDeviceGetTemperature", _TEMPERATURE_GPU),
            driver=self._driver(),
            notes=(divided,) if mig is not None and mig[0] else (),
        )

    def _ask(self, function: str, *arguments: int) -> Any:
        """What NVML answers about this GPU; None where it does not."""
        try:
            handle, nvml = self._handle, self._library
        except Unavailable:
            return None
        try:
            return getattr(nvml, function)(handle, *arguments)
        except nvml.NVMLError:
            return None

    def _milli(self, function: str) -> float | None:
        value = self._ask(function)
        return None if value is None else value * 1e-3

    def _driver(self) -> str | None:
        try:
            version: str = self._library.nvmlSystemGetDriverVersion()
        except Unavailable:
            return None
        except self._library.NVMLError:
            return None
        return version


def cuda_index(device: int, visible: str | None) -> int | str:
    """NVML's number or UUID of CUDA's GPU `device`; `visible`: CUDA_VISIBLE_DEVICES, None where unset.

    CUDA numbers only the visible GPUs, NVML all of them.
    """
    names = [] if visible is None else [name.strip() for name in visible.split(",")]
    if device >= len(names):
        return device
    return int(names[device]) if names[device].isdigit() else names[device]
