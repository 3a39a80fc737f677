"""CIFAR-10 from a zip of JPEG files."""

from __future__ import annotations

import zipfile
from pathlib import Path
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, DatasetError, Split, in_two, root_of

_ZIP = "cifar10_jpeg.zip"
_MADE_BY = "torchvision.datasets.CIFAR10(root, download=True)"
CIFAR10_CLASSES = (
    "airplane", "automobile", "bird", "cat", "deer", "dog", "frog", "horse", "ship", "truck",
)  # fmt: skip


def read_cifar10(data_root: str | Path | None, _: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: CIFAR-10, see `cifar10`."""
    root = root_of("cifar10", data_root, f"cifar-10-batches-py or {_ZIP}", _MADE_BY)
    return in_two("cifar10", cifar10(root, "train"), cifar10(root, "test"))


def cifar10(root: str | Path, part: Literal["train", "test"]) -> Split:
    """CIFAR-10 (Krizhevsky 2009), images (N, 3, 32, 32).

    `root` holds torchvision's `cifar-10-batches-py`, or `cifar10_jpeg.zip`, in itself or in a folder
    `cifar10_jpeg`: JPEG files `train/<class>/*.jpg`, `test/<class>/*.jpg`. JPEG is lossy: say so beside
    results on it. Raises DatasetError where neither is there, or it is damaged.
    """
    root = Path(root)
    if (root / "cifar-10-batches-py").is_dir():
        from torchvision.datasets import CIFAR10

        try:
            raw = CIFAR10(root, train=part == "train")
        except RuntimeError as error:
            raise DatasetError(
                f"{root / 'cifar-10-batches-py'}: {error} {_MADE_BY} makes it."
            ) from None
        return _rgb(raw.data, np.asarray(raw.targets))
    path = next((p for p in (root / _ZIP, root / "cifar10_jpeg" / _ZIP) if p.is_file()), None)
    if path is None:
        raise DatasetError(
            f"{root}: neither cifar-10-batches-py nor {_ZIP} is there; data_root must hold one. "
            f"{_MADE_BY} makes the first."
        )
    from PIL import Image

    pixels, labels = [], []
    try:
        with zipfile.ZipFile(path) as archive:
            for name in sorted(n for n in archive.namelist() if n.startswith(f"{part}/")):
                with archive.open(name) as file, Image.open(file) as image:
                    pixels.append(np.asarray(image.convert("RGB")))
                labels.append(_class(name.split("/")[1]))
        split = _rgb(np.stack(pixels), np.asarray(labels))
    except (zipfile.BadZipFile, OSError, ValueError) as error:
        raise DatasetError(f"{path}: damaged ({error}); copy it again.") from None
    return split


def _class(name: str) -> int:
    if name not in CIFAR10_CLASSES:
        raise ValueError(f"a folder {name}, which is no class")
    return CIFAR10_CLASSES.index(name)


def _rgb(pixels: NDArray[np.uint8], labels: NDArray[np.int64]) -> Split:
    """Bytes (N, 32, 32, 3) as images."""
    import torch

    if pixels.shape[1:] != (32, 32, 3):
        raise ValueError(f"images of shape {pixels.shape[1:]}, not (32, 32, 3)")
    images = torch.from_numpy(pixels).permute(0, 3, 1, 2).float().div_(255).contiguous()
    return Split(images, torch.as_tensor(labels, dtype=torch.int64))
