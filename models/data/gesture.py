"""DVS-Gesture in tonic's folders."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from .dataset import Dataset, DatasetError, Split, in_two, root_of
from .events import Sensor, needed_files, split_of

GESTURES = 11
SENSOR = Sensor((2, 128, 128), 1_500_000)


def read_dvs_gesture(data_root: str | Path | None, steps: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: DVS-Gesture (Amir et al. 2017) as tonic keeps it.

    `<data_root>/DVSGesture/ibmGestureTrain/<user>_<light>/<class>.npy`, and ibmGestureTest: rows of x, y,
    polarity, milliseconds. The first 1.5 s of a recording from its first event on, as SLAYER takes them
    (Shrestha and Orchard 2018), in `steps` steps: spikes (sample, steps, 2, 128, 128), (y, x) as in an
    image. Raises DatasetError where files are not there, or damaged.
    """
    made_by = "tonic.datasets.DVSGesture(root)"
    folder = root_of("dvs_gesture", data_root, "DVSGesture", made_by) / "DVSGesture"
    train, test = (_part(folder / f"ibmGesture{p}", steps, made_by) for p in ("Train", "Test"))
    return in_two("dvs_gesture", train, test)


def _part(folder: Path, steps: int, made_by: str) -> Split:
    files = needed_files(folder, "*/*.npy", made_by)
    frames, labels = SENSOR.frames(len(files), steps), []
    for frame, path in zip(frames, files, strict=True):
        if not path.stem.isdigit() or int(path.stem) >= GESTURES:
            raise DatasetError(f"{path}: a recording is named after its class, 0.npy .. 10.npy.")
        try:
            rows = np.load(path, allow_pickle=False)
        except (OSError, ValueError, EOFError) as error:
            raise DatasetError(f"{path}: damaged ({error}); download it again.") from None
        if rows.ndim != 2 or rows.shape[1] != 4 or not len(rows) or rows.dtype.kind not in "iuf":
            raise DatasetError(
                f"{path}: {rows.dtype} of shape {rows.shape}; rows of x, y, polarity, ms are needed."
            )
        if not np.isfinite(rows).all():
            raise DatasetError(f"{path}: numbers that are not finite; download it again.")
        time = (1000.0 * (rows[:, 3] - rows[:, 3].min())).astype(np.int64)
        x, y, polarity = rows[:, :3].astype(np.int64).T
        SENSOR.write(frame, time, (polarity, y, x), str(path))
        labels.append(int(path.stem))
    return split_of(frames, labels)
