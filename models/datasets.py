"""Image classification data: scikit-learn's digits built in, MNIST and Fashion-MNIST from disk."""

from __future__ import annotations

import gzip
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

DATASETS = ("digits", "mnist", "fashion_mnist")
_FOLDERS = {"mnist": "MNIST", "fashion_mnist": "FashionMNIST"}


class DatasetError(ValueError):
    """A data set that is unknown, not there, or damaged."""


@dataclass(frozen=True)
class Split:
    """`images` float32 (N, C, H, W) in [0, 1], `labels` int64 (N,)."""

    images: torch.Tensor
    labels: torch.Tensor

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: list[int]) -> tuple[torch.Tensor, torch.Tensor]:
        return self.images[index], self.labels[index]


@dataclass(frozen=True)
class Dataset:
    """Train, validation (never used for fitting) and test images of one data set."""

    name: str
    train: Split
    validation: Split
    test: Split

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.train.images.shape[1:])

    @property
    def classes(self) -> int:
        return int(self.train.labels.max()) + 1


def load(name: str, data_root: str | Path | None = None) -> Dataset:
    """`digits` (scikit-learn, 8x8, 17 grey levels), `mnist` or `fashion_mnist`.

    The last two are read from `<data_root>/MNIST/raw` or `<data_root>/FashionMNIST/raw`, where
    torchvision puts them (idx files, gzipped or not). One tenth of the training images, picked by a
    fixed seed, is the validation split; digits has a fixed fifth as test images.
    """
    if name == "digits":
        return _digits()
    if name not in DATASETS:
        raise DatasetError(f"unknown data set {name!r}; choose from {', '.join(DATASETS)}.")
    if data_root is None:
        raise DatasetError(
            f"{name} is not shipped: give the folder that holds {_FOLDERS[name]}/raw with --data-root "
            f"(torchvision.datasets.{_FOLDERS[name]}(root, download=True) makes it)."
        )
    raw = Path(data_root) / _FOLDERS[name] / "raw"
    train = _split(raw, "train")
    first, second = _divide(len(train), 0.1)
    return Dataset(name, Split(*train[first]), Split(*train[second]), _split(raw, "t10k"))


def _digits() -> Dataset:
    from sklearn.datasets import load_digits

    data = load_digits()
    images = torch.tensor(data.images, dtype=torch.float32)[:, None] / 16
    everything = Split(images, torch.tensor(data.target, dtype=torch.int64))
    rest, test = _divide(len(everything), 0.2)
    first, second = _divide(len(rest), 0.1)
    train = [rest[i] for i in first]
    validation = [rest[i] for i in second]
    return Dataset("digits", *(Split(*everything[part]) for part in (train, validation, test)))


def _divide(count: int, fraction: float) -> tuple[list[int], list[int]]:
    order = np.random.default_rng(0).permutation(count).tolist()
    cut = count - round(count * fraction)
    return order[:cut], order[cut:]


def _split(raw: Path, part: str) -> Split:
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
        raise DatasetError(
            f"{path}[.gz]: no such file. --data-root must hold torchvision's folders."
        )
    try:
        raw = path.read_bytes() if path.is_file() else gzip.decompress(packed.read_bytes())
    except (OSError, EOFError) as error:
        raise DatasetError(f"{packed}: damaged ({error}); download it again.") from None
    sizes = np.frombuffer(raw[4 : 4 + 4 * axes], ">u4").astype(int)
    body = np.frombuffer(raw[4 + 4 * axes :], np.uint8)
    if raw[:4] != bytes((0, 0, 8, axes)) or len(sizes) != axes or body.size != sizes.prod():
        raise DatasetError(f"{path}: not an idx file of {axes} axes; download it again.")
    return body.reshape(sizes)
