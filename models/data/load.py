"""The built-in data sets by name."""

from __future__ import annotations

from pathlib import Path

import torch

from .cifar10 import _cifar10
from .dataset import EVENT_STEPS, Dataset, DatasetError, Split, _divide, _in_three
from .idx import _FOLDERS, _split
from .nmnist import _nmnist

DATASETS = ("digits", "mnist", "fashion_mnist", "cifar10", "nmnist")


def load(name: str, data_root: str | Path | None = None, event_steps: int = EVENT_STEPS) -> Dataset:
    """`digits` (scikit-learn, 8x8, 17 grey levels), `mnist`, `fashion_mnist`, `cifar10`, or `nmnist`.

    The images are read from `<data_root>/MNIST/raw` or `<data_root>/FashionMNIST/raw`, where
    torchvision puts them (idx files, gzipped or not); cifar10 from `<data_root>/cifar-10-batches-py`
    in the same way, or from `<data_root>/cifar10_jpeg.zip`, see `cifar10`; nmnist from
    `<data_root>/nmnist_small.tar`, see `nmnist`, in `event_steps` steps. One tenth of the training
    samples, picked by a fixed seed, is the validation split; digits and nmnist have a fixed fifth as
    test samples.
    """
    if name == "digits":
        return _digits()
    if name not in DATASETS:
        raise DatasetError(f"unknown data set {name!r}; choose from {', '.join(DATASETS)}.")
    if name == "nmnist":
        return _nmnist(data_root, event_steps)
    if name == "cifar10":
        return _cifar10(data_root)
    if data_root is None:
        raise DatasetError(
            f"{name} is not shipped: give the folder that holds {_FOLDERS[name]}/raw as data_root "
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
    return _in_three("digits", Split(images, torch.tensor(data.target, dtype=torch.int64)))
