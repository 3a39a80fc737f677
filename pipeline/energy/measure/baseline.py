"""The ANN measured on this machine's CPU and GPU: the opponent of every energy claim."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import TYPE_CHECKING

import torch
from torch import nn

from ....models.data.dataset import Split
from ....models.encoding import generator
from ...records import environment
from .nvml import Nvml, cuda_index
from .precisions import Precision, Processor, input_dtype, variants
from .rapl import Rapl
from .reading import Reading, Sensor, Unavailable
from .sweep import Work, filled, sweep, work
from .window import Mean, Measurement, measure

if TYPE_CHECKING:
    from ....models.ann import AnyAnn

CALIBRATION = 256
"""Images on which int8 ranges are observed, where no others are given."""
CHUNK = 512
_SXM: Mapping[Precision, float] = {"float32": 66.9e12 / 2, "float16": 989.4e12 / 2}
PEAKS: Mapping[str, Mapping[Precision, float]] = {
    "NVIDIA H100 80GB HBM3": _SXM,
    "NVIDIA H200": _SXM,
}
"""Multiply-adds per second by CUDA's name of the GPU: NVIDIA's data sheets of the SXM boards, dense,
float32 without TF32."""


@dataclass(frozen=True)
class Baseline:
    """One ANN in one precision on one processor at one batch size; energies per inference, in joules.

    `energy`: the total, idle power included, of `energy.scope` alone, with its standard error
    `energy_error`; `idle_joules` and `dynamic` are its two parts. `seconds` per inference, images back
    to back: the latency only at batch 1, and on a GPU only with `copies`, when the images come from the
    host's memory and the answers go back (None on the CPU, where they are). `best`: the fastest batch
    of those tried. `macs` of one inference, dense; `utilisation`: `macs_per_second` of the peak in the
    data sheet, None with the reason in `no_peak`. `kernels`: the fastest of those that torch has;
    `threads`: of the CPU. Where nothing could run, `energy.reason` says why, and most are None.
    """

    processor: Processor
    name: str
    precision: Precision
    macs: int
    energy: Reading
    energy_error: float | None = None
    idle_joules: float | None = None
    dynamic: Mean | None = None
    seconds: Mean | None = None
    accuracy: float | None = None
    batch: int | None = None
    best: bool = False
    copies: bool | None = None
    macs_per_second: float | None = None
    utilisation: float | None = None
    no_peak: str = ""
    kernels: str = ""
    threads: int | None = None
    measurement: Measurement | None = None


def baselines(
    ann: AnyAnn,
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
    """Measure an ANN on test data: time, accuracy and, where a sensor is, energy.

    `batches`: None takes 1 and the fastest of 1, 2, 4, ... (images are repeated to fill them).
    `devices`: None takes the CPU, and the GPU where torch sees one. `sensors`: None takes RAPL and NVML.
    `calibration`: images (sample, C, H, W) for int8, of the training set if you can; None takes the
    first test images, without labels. Encoding is not timed. What cannot run or be measured is a row
    with the reason, not an error. `window_s`, `repeats`, `warmup_s` as in `measure`. Raises ValueError
    for a spiking network and for no images or batches.
    """
    from ....models import networks  # Norse, which those who measure other work need not have

    if ann.spiking:
        raise ValueError("the baseline is an ANN; this is a spiking network (`train --ann`).")
    if not len(data):
        raise ValueError("no images to measure on.")
    if batches is not None and min(batches, default=0) < 1:
        raise ValueError(f"batches {tuple(batches)}; one or more are needed, all above 0.")
    draws = generator(ann.seed)
    images = ann.encode(data.images, draws)
    seen = images[:CALIBRATION] if calibration is None else ann.encode(calibration, draws)
    macs = networks.macs(ann.net, images.shape[1:])
    rows: list[Baseline] = []
    for processor in devices or _present():
        name = _name(processor)
        sensor = (sensors or {}).get(processor) or _sensor(processor, name)
        timed = partial(
            measure,
            sensor=sensor,
            window_s=window_s,
            repeats=repeats,
            warmup_s=warmup_s,
            synchronize=_synchronize(processor),
        )
        for precision in precisions:
            progress(f"measuring the ANN in {precision} on {name or processor}")
            row = Baseline(processor, name, precision, macs, _nothing(sensor, "not measured"))
            try:
                if processor not in _present():
                    raise Unavailable("torch sees no GPU (torch.cuda.is_available is False).")
                with _any_algorithm():
                    nets = variants(ann.net, precision, processor, seen)
            except Unavailable as problem:
                rows.append(replace(row, energy=_nothing(sensor, str(problem))))
                continue
            ready = Split(images.to(input_dtype(precision)), data.labels)
            with torch.inference_mode(), _any_algorithm(), _float32(processor):
                rows += _rows(row, nets, ready, batches, window_s / 10, timed)
    return tuple(rows)


def _rows(
    row: Baseline,
    nets: Mapping[str, nn.Module],
    data: Split,
    batches: Sequence[int] | None,
    seconds: float,
    timed: Callable[[Work], Measurement],
) -> Iterator[Baseline]:
    """`row` once per batch size, and on a GPU without and with copies."""
    right = {kernels: _accuracy(net, data, row.processor) for kernels, net in nets.items()}
    for copies in (None,) if row.processor == "cpu" else (False, True):

        def works(kernels: str, batch: int, copies: bool | None = copies) -> Work:
            return work(nets[kernels], filled(data.images, batch), row.processor, bool(copies))

        tried = sweep(
            tuple(nets), works, seconds, batches=batches, synchronize=_synchronize(row.processor)
        )
        best = min(tried, key=lambda t: t.seconds)
        for t in tried:
            if batches is not None or t.batch in (1, best.batch):
                measurement = timed(works(t.kernels, t.batch))
                yield replace(
                    _with(row, measurement, t.batch),
                    best=t is best,
                    copies=copies,
                    kernels=t.kernels,
                    accuracy=right[t.kernels],
                )


def _with(row: Baseline, measurement: Measurement, batch: int) -> Baseline:
    """`row` with what was measured of a call on `batch` images, per image."""
    seconds = _per(measurement.seconds, batch)
    energy, idle = measurement.energy, measurement.idle.watts
    if energy.joules is not None:
        energy = replace(energy, joules=energy.joules / batch)
    rate = row.macs / seconds.value
    peak = PEAKS.get(row.name, {}).get(row.precision)
    unknown = f"no data sheet with the peak of {row.name or 'this processor'} in {row.precision}"
    return replace(
        row,
        energy=replace(energy, seconds=seconds.value),
        energy_error=None if measurement.energy_error is None else measurement.energy_error / batch,
        idle_joules=None if energy.joules is None or idle is None else idle * seconds.value,
        dynamic=None if measurement.dynamic is None else _per(measurement.dynamic, batch),
        seconds=seconds,
        batch=batch,
        macs_per_second=rate,
        utilisation=None if peak is None else rate / peak,
        no_peak=unknown if peak is None else "",
        threads=torch.get_num_threads() if row.processor == "cpu" else None,
        measurement=measurement,
    )


def _per(mean: Mean, batch: int) -> Mean:
    return Mean(mean.value / batch, None if mean.error is None else mean.error / batch)


def _nothing(sensor: Sensor, reason: str) -> Reading:
    return Reading("unavailable", None, None, sensor.scope, reason, sensor.name, sensor.refresh_s)


def _accuracy(net: nn.Module, data: Split, processor: Processor) -> float:
    parts = torch.split(data.images, CHUNK)
    answers = [net(part.to(processor)).argmax(1).cpu() for part in parts]
    return float((torch.cat(answers) == data.labels).double().mean())


def _present() -> tuple[Processor, ...]:
    return ("cpu", "cuda") if torch.cuda.is_available() else ("cpu",)


def _name(processor: Processor) -> str:
    if processor == "cpu":
        return str(environment()["processor"])
    return str(torch.cuda.get_device_name()) if processor in _present() else ""


def _sensor(processor: Processor, name: str) -> Sensor:
    if processor == "cpu":
        return Rapl()
    device = torch.cuda.current_device() if name else 0
    return Nvml(cuda_index(device, os.environ.get("CUDA_VISIBLE_DEVICES")), expected=name)


def _synchronize(processor: Processor) -> Work:
    return torch.cuda.synchronize if processor == "cuda" else lambda: None


@contextmanager
def _any_algorithm() -> Iterator[None]:
    """Whatever torch has: its deterministic algorithms are slower, and int8 networks have none."""
    before = torch.are_deterministic_algorithms_enabled()
    warn_only = torch.is_deterministic_algorithms_warn_only_enabled()
    torch.use_deterministic_algorithms(False)
    try:
        yield
    finally:
        torch.use_deterministic_algorithms(before, warn_only=warn_only)


@contextmanager
def _float32(processor: Processor) -> Iterator[None]:
    """float32 is float32: without it, convolutions on a GPU round to TF32."""
    if processor == "cpu":
        yield
        return
    before = torch.backends.cudnn.allow_tf32
    torch.backends.cudnn.allow_tf32 = False
    try:
        yield
    finally:
        torch.backends.cudnn.allow_tf32 = before
