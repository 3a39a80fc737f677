"""The spoken digits and commands of Heidelberg, SHD and SSC, in tonic's folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dataset import Dataset, DatasetError, Split, in_two, root_of
from .events import Sensor, split_of

SENSOR = Sensor((700,), 1_400_000)
_AT_ONCE = 256
"""Recordings that are read together."""


def read_shd(data_root: str | Path | None, steps: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: spoken digits, `<data_root>/SHD/shd_train.h5` and shd_test.h5.

    20 classes; see `spoken`.
    """
    folder, made_by = _folder("SHD", data_root)
    train, test = (spoken(folder / f"shd_{p}.h5", steps, made_by) for p in ("train", "test"))
    return in_two("shd", train, test)


def read_ssc(data_root: str | Path | None, steps: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: spoken commands, `<data_root>/SSC/ssc_{train,valid,test}.h5`.

    35 classes, validation samples of their own; see `spoken`.
    """
    folder, made_by = _folder("SSC", data_root)
    train, validation, test = (
        spoken(folder / f"ssc_{p}.h5", steps, made_by) for p in ("train", "valid", "test")
    )
    return Dataset("ssc", train, validation, test)


def spoken(path: Path, steps: int, made_by: str = "zenkelab.org") -> Split:
    """Recordings of 700 channels (Cramer et al. 2020): spikes (sample, steps, 700), and their classes.

    The file holds, for each recording, `spikes/times` in seconds and `spikes/units`, and `labels`. The
    first 1.4 s are used. Raises DatasetError where it is not there, or damaged.
    """
    import h5py

    if not path.is_file():
        raise DatasetError(f"{path}: no such file; {made_by} makes it.")
    try:
        with h5py.File(path, "r") as file:
            labels = np.asarray(file["labels"], np.int64)
            times, units = file["spikes/times"], file["spikes/units"]
            if labels.ndim != 1 or not len(labels) == len(times) == len(units):
                raise ValueError(f"{len(times)} times, {len(units)} units, {len(labels)} labels")
            frames = SENSOR.frames(len(labels), steps)
            for first in range(0, len(labels), _AT_ONCE):
                part = slice(first, first + _AT_ONCE)
                for frame, seconds, unit in zip(
                    frames[part], times[part], units[part], strict=True
                ):
                    time = (np.asarray(seconds, np.float64) * 1e6).astype(np.int64)
                    SENSOR.write(frame, time, (np.asarray(unit, np.int64),), str(path))
    except DatasetError:
        raise
    except (OSError, KeyError, ValueError, TypeError) as error:
        raise DatasetError(f"{path}: damaged ({error}); download it again.") from None
    return split_of(frames, labels)


def _folder(name: str, data_root: str | Path | None) -> tuple[Path, str]:
    made_by = f"tonic.datasets.{name}(root)"
    return root_of(name.lower(), data_root, name, made_by) / name, made_by
