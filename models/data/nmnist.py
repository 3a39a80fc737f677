"""N-MNIST events."""

from __future__ import annotations

import re
import tarfile
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import EVENT_STEPS, Dataset, DatasetError, Split, in_three

NMNIST_MILLISECONDS = 300
NMNIST_SHAPE = (2, 34, 34)
_TAR = "nmnist_small.tar"


def read_nmnist(data_root: str | Path | None, steps: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: N-MNIST in `steps` steps, see `nmnist`."""
    import torch

    if data_root is None:
        raise DatasetError(
            f"nmnist is not shipped: give the folder that holds {_TAR} as data_root."
        )
    spikes, labels = nmnist(data_root, steps)
    return in_three("nmnist", Split(torch.from_numpy(spikes), torch.from_numpy(labels)))


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
    if steps < 1:
        raise DatasetError(f"steps = {steps}; give 1 or more.")
    path = next(
        (p for p in (Path(root) / _TAR, Path(root) / "nmnist_small" / _TAR) if p.is_file()), None
    )
    if path is None:
        raise DatasetError(f"{Path(root) / _TAR}: no such file. data_root must hold {_TAR}.")
    events: dict[int, NDArray[np.uint8]] = {}
    listing = None
    try:
        with tarfile.open(path) as tar:
            for member in tar:
                file = tar.extractfile(member)
                number = re.search(r"(\d+)\.bs2$", member.name)
                if file is not None and number:
                    events[int(number[1])] = _events(file.read(), f"{path}, {member.name}")
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
    spikes = np.zeros((len(rows), steps, *NMNIST_SHAPE), np.int8)
    for sample, (row, _) in zip(spikes, rows, strict=True):
        x, y, high, middle, low = events[int(row)].astype(np.int64).T
        step = ((high & 127) << 16 | middle << 8 | low) * steps // (1000 * NMNIST_MILLISECONDS)
        kept = step < steps
        sample[step[kept], high[kept] >> 7, y[kept], x[kept]] = 1
    return spikes, np.array([int(label) for _, label in rows], np.int64)


def _events(raw: bytes, where: str) -> NDArray[np.uint8]:
    """Rows of the 5 bytes of an event."""
    if len(raw) % 5:
        raise DatasetError(f"{where}: {len(raw)} bytes are not whole events of 5; copy it again.")
    events = np.frombuffer(raw, np.uint8).reshape(-1, 5)
    if events.size and events[:, :2].max() >= NMNIST_SHAPE[1]:
        raise DatasetError(f"{where}: a pixel beyond 33; this is not N-MNIST.")
    return events
