"""MNIST and Fashion-MNIST in torchvision's folders."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from .dataset import Dataset, DatasetError, Split, in_two


def read_mnist(data_root: str | Path | None, _: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: MNIST from `<data_root>/MNIST/raw`."""
    return _read("mnist", "MNIST", data_root)


def read_fashion_mnist(data_root: str | Path | None, _: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: Fashion-MNIST from `<data_root>/FashionMNIST/raw`."""
    return _read("fashion_mnist", "FashionMNIST", data_root)


def _read(name: str, folder: str, data_root: str | Path | None) -> Dataset:
    if data_root is None:
        raise DatasetError(
            f"{name} is not shipped: give the folder that holds {folder}/raw as data_root "
            f"(torchvision.datasets.{folder}(root, download=True) makes it)."
        )
    raw = Path(data_root) / folder / "raw"
    return in_two(name, _split(raw, "train"), _split(raw, "t10k"))


def _split(raw: Path, part: str) -> Split:
    import torch

    images = _idx(raw / f"{part}-images-idx3-ubyte", 3)
    labels = _idx(raw / f"{part}-labels-idx1-ubyte", 1)
    if len(images) != len(labels):
        raise DatasetError(f"{raw}: {len(images)} {part} images but {len(labels)} labels.")
    return Split(
        torch.tensor(images, dtype=torch.float32)[:, None] / 255,
        torch.tensor(labels, dtype=torch.int64),
    )


def _idx(path: Path, axes: int) -> NDArray[np.uint8]:
    """An idx file of bytes: 2 zero bytes, type 8, number of axes, big-endian sizes, then the data."""
    packed = path.with_name(path.name + ".gz")
    if not path.is_file() and not packed.is_file():
        raise DatasetError(f"{path}[.gz]: no such file. data_root must hold torchvision's folders.")
    try:
        raw = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise DatasetError(f"{packed}: damaged ({error}); download it again.") from None
    sizes = np.frombuffer(raw[4 : 4 + 4 * axes], ">u4").astype(int)
    body = np.frombuffer(raw[4 + 4 * axes :], np.uint8)
    if raw[:4] != bytes((0, 0, 8, axes)) or len(sizes) != axes or body.size != sizes.prod():
        raise DatasetError(f"{path}: not an idx file of {axes} axes; download it again.")
    return body.reshape(sizes)
