"""The ANN measured on this machine's CPU and GPU: the opponent of every energy claim."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal, TypeAlias

from .reading import Reading, Sensor
from .window import Mean, Measurement

if TYPE_CHECKING:
    import torch

    from ...models.datasets import Split
    from ...models.training import Classifier

Processor: TypeAlias = Literal["cpu", "cuda"]
Precision: TypeAlias = Literal["float32", "float16", "int8"]


@dataclass(frozen=True)
class Baseline:
    """One ANN, in one precision, on one processor, at one batch size; energies per inference.

    `energy` is the total, idle power included, of `energy.scope` alone; `idle_joules` and `dynamic`
    are its parts (None: not measured). `seconds` per inference, images back to back: a throughput,
    and at batch 1 the latency too where `copies`. `best`: the batch is the fastest of a sweep.
    `copies`: the images come from the host's memory and the answers go back (None on the CPU, where they
    are there). `utilisation` of `peak_macs_per_second`, None with `no_peak` saying why. `reason` says why a
    row has no measurement at all.
    """

    processor: Processor
    processor_name: str
    precision: Precision
    kernels: str
    batch: int
    best: bool
    copies: bool | None
    threads: int | None
    accuracy: float | None
    macs: int
    seconds: Mean | None
    energy: Reading
    energy_error: float | None
    idle_joules: float | None
    dynamic: Mean | None
    macs_per_second: float | None
    peak_macs_per_second: float | None
    utilisation: float | None
    no_peak: str
    measurement: Measurement | None
    reason: str = ""


def baselines(
    ann: Classifier,
    data: Split,
    *,
    precisions: Sequence[Precision] = ("float32", "int8"),
    batches: Sequence[int] | None = None,
    devices: Sequence[Processor] | None = None,
    sensors: Mapping[Processor, Sensor] | None = None,
    calibration: torch.Tensor | None = None,
    window_s: float = 5.0,
    repeats: int = 5,
    warmup_s: float | None = None,
    progress: Callable[[str], object] = lambda line: None,
) -> tuple[Baseline, ...]:
    """Measure `ann` on `data` (test images and labels)."""
    raise NotImplementedError
