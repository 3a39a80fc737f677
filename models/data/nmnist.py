"""N-MNIST events."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import EVENT_STEPS, Dataset, DatasetError, Split, in_three, in_two, root_of
from .events import Sensor, needed_files, split_of

SENSOR = Sensor((2, 34, 34), 300_000)
_TAR = "nmnist_small.tar"
_MADE_BY = "tonic.datasets.NMNIST(root)"
_OVERFLOW = 240
"""The y of what is no event, but says that time goes on by `_OVERFLOWN` microseconds from here."""
_OVERFLOWN = 1 << 13


def read_nmnist(data_root: str | Path | None, steps: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: N-MNIST (Orchard et al. 2015) in `steps` steps.

    As tonic keeps it, `<data_root>/NMNIST/Train/<class>/*.bin` and Test; where there is no folder NMNIST,
    from `nmnist_small.tar`. Events and frames are those of `nmnist`.
    """
    root = root_of("nmnist", data_root, f"NMNIST or {_TAR}", _MADE_BY)
    if not (root / "NMNIST").is_dir():
        return in_three("nmnist", split_of(*nmnist(root, steps)))
    train, test = (_part(root / "NMNIST" / part, steps) for part in ("Train", "Test"))
    return in_two("nmnist", train, test)


def _part(folder: Path, steps: int) -> Split:
    files = needed_files(folder, "*/*.bin", _MADE_BY)
    frames, labels = SENSOR.frames(len(files), steps), []
    for frame, path in zip(frames, files, strict=True):
        if path.parent.name not in [*"0123456789"]:
            raise DatasetError(f"{path.parent}: a folder of N-MNIST is named after its digit.")
        _write(frame, path.read_bytes(), str(path))
        labels.append(int(path.parent.name))
    return split_of(frames, labels)


def nmnist(
    root: str | Path, steps: int = EVENT_STEPS
) -> tuple[NDArray[np.int8], NDArray[np.int64]]:
    """N-MNIST (Orchard et al. 2015): spikes (sample, steps, 2, 34, 34) of 0 and 1, labels (sample,).

    `root` holds `nmnist_small.tar`, in itself or in a folder `nmnist_small`: files
    `train/{number}.bs2` and the list `train/train1K.txt` of numbers and classes. An event has 40
    bits: x (8), y (8), polarity (1: brighter), time in microseconds (23). Each of the `steps` steps is
    300 ms / steps long (300 steps: 1 ms); channel 0 is darker, 1 brighter, (y, x) as in an image.
    Several events of a pixel within a step are one spike; those after 300 ms are left out. Raises
    DatasetError where the file is not there, or damaged, and for fewer steps than 1.
    """
    SENSOR.frames(0, steps)  # refuses steps before anything is read
    path = next(
        (p for p in (Path(root) / _TAR, Path(root) / "nmnist_small" / _TAR) if p.is_file()), None
    )
    if path is None:
        raise DatasetError(
            f"{Path(root) / _TAR}: no such file. data_root must hold {_TAR}, or NMNIST: "
            f"{_MADE_BY} makes it."
        )
    events: dict[int, bytes] = {}
    listing = None
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                number = re.search(r"(\d+)\.bs2$", member.name)
                if file is not None and number:
                    events[int(number[1])] = file.read()
                elif file is not None and member.name.endswith("train1K.txt"):
                    listing = file.read().decode()
    except (tarfile.TarError, OSError, EOFError) as error:
        raise DatasetError(f"{path}: damaged ({error}); copy it again.") from None
    if listing is None:
        raise DatasetError(f"{path}: has no train1K.txt with the labels; copy it again.")
    rows = [line.split() for line in listing.splitlines() if line[:1].isdigit()]
    missing = [number for number, _ in rows if int(number) not in events]
    if missing or not rows:
        raise DatasetError(
            f"{path}: {len(missing)} of {len(rows)} listed samples are not there "
            f"({', '.join(missing[:3])} ...); copy it again."
        )
    spikes = SENSOR.frames(len(rows), steps)
    for frame, (row, _) in zip(spikes, rows, strict=True):
        _write(frame, events[int(row)], f"{path}, {row}.bs2")
    return spikes, np.array([int(label) for _, label in rows], np.int64)


def _write(frame: NDArray[np.int8], raw: bytes, where: str) -> None:
    """The events of a sample: 5 bytes each, see `nmnist`."""
    if len(raw) % 5:
        raise DatasetError(f"{where}: {len(raw)} bytes are not whole events of 5; copy it again.")
    x, y, high, middle, low = np.frombuffer(raw, np.uint8).reshape(-1, 5).astype(np.int64).T
    overflow = y == _OVERFLOW
    time = ((high & 127) << 16 | middle << 8 | low) + _OVERFLOWN * np.cumsum(overflow)
    events = ~overflow
    pixels = (high[events] >> 7, y[events], x[events])
    SENSOR.write(frame, time[events], pixels, where)
