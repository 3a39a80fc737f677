"""Lists of events become frames: what all readers of event data share.

tonic, which makes the folders that are read here, is GPL-3.0-only and brings librosa and 20 more
packages. Its folders can be read without it: they hold N-MNIST's 40-bit events, .npy arrays and HDF5.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .dataset import DatasetError, Split

Integers = NDArray[np.int64]


@dataclass(frozen=True)
class Sensor:
    """What a step holds, its `shape`, and how much of a sample is used: `microseconds` from its start.

    A frame of `steps` has steps of microseconds / steps each. Several events of a pixel within a step are
    one spike; what comes after the last step is left out.
    """

    shape: tuple[int, ...]
    microseconds: int

    def frames(self, samples: int, steps: int) -> NDArray[np.int8]:
        """Room for spikes: zeros (samples, steps, *shape). Raises DatasetError for fewer steps than 1."""
        if steps < 1:
            raise DatasetError(f"steps = {steps}; give 1 or more.")
        return np.zeros((samples, steps, *self.shape), np.int8)

    def write(
        self, frame: NDArray[np.int8], time: Integers, at: tuple[Integers, ...], where: str
    ) -> None:
        """Write the events of a sample, `time` in microseconds, `at` an index for each axis of the shape.

        Raises DatasetError, which names the file `where`, for times before 0 and pixels that the sensor
        does not have.
        """
        if time.size and time.min() < 0:
            raise DatasetError(f"{where}: an event at {time.min()} us, before the start; damaged.")
        for index, size in zip(at, self.shape, strict=True):
            if index.size and not 0 <= index.min() <= index.max() < size:
                raise DatasetError(
                    f"{where}: an event in {index.min()} .. {index.max()} of an axis of 0 .. {size - 1}; "
                    f"damaged, or other data."
                )
        step = time * len(frame) // self.microseconds
        kept = step < len(frame)
        spikes = (step[kept], *(index[kept] for index in at))
        frame[spikes] = 1


def split_of(frames: NDArray[np.int8], labels: Any) -> Split:
    """Frames and classes as tensors."""
    import torch

    return Split(torch.from_numpy(frames), torch.as_tensor(np.asarray(labels, np.int64)))


def needed_files(folder: Path, pattern: str, made_by: str) -> list[Path]:
    """The files of a folder, at least one, in the order of their names, numbers by their size."""
    files = sorted(folder.glob(pattern), key=lambda path: (path.parent, len(path.name), path.name))
    if not files:
        raise DatasetError(f"{folder}: no {pattern} is there; {made_by} makes them.")
    return files
