"""Measured energy: sensors, windows, and the ANN on the processors of this machine."""

from .baseline import Baseline, baselines
from .nvml import Nvml
from .rapl import Rapl
from .reading import Conditions, Counter, Reading, Sample, Sensor, Unavailable, evaluate
from .window import Mean, Measurement, measure

__all__ = [
    "Baseline",
    "Conditions",
    "Counter",
    "Mean",
    "Measurement",
    "Nvml",
    "Rapl",
    "Reading",
    "Sample",
    "Sensor",
    "Unavailable",
    "baselines",
    "evaluate",
    "measure",
]
