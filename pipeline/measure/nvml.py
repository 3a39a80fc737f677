"""NVML: the energy counter of an NVIDIA GPU's board, through nvidia-ml-py."""

from __future__ import annotations

from typing import Any

from .reading import Conditions, Sample


class Nvml:
    """Energy of one GPU board since the driver was loaded."""

    name = "NVML"
    scope = "GPU board"
    refresh_s = 0.1

    def __init__(self, index: int | str = 0, library: Any = None) -> None:
        self.index = index

    def sample(self) -> Sample: ...

    def conditions(self) -> Conditions: ...
