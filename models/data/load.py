"""The data sets by name. Loads no torch before one is read: help texts are made of the names."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TypeAlias

from .cifar10 import read_cifar10
from .dataset import EVENT_STEPS, Dataset, DatasetError
from .digits import read_digits
from .idx import read_fashion_mnist, read_mnist
from .nmnist import read_nmnist

Reader: TypeAlias = Callable[[str | Path | None, int], Dataset]
"""(data_root, event_steps) to a data set: the folder it is read from, if one was given, and the steps of
a sample, for data of events. Raises DatasetError where the data are not there, or damaged."""

DATASETS: dict[str, Reader] = {
    "digits": read_digits,
    "mnist": read_mnist,
    "fashion_mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
    "nmnist": read_nmnist,
}
"""A data set of your own is a row more, `DATASETS["mine"] = read`, or a `Dataset` given to `train`."""


def load(name: str, data_root: str | Path | None = None, event_steps: int = EVENT_STEPS) -> Dataset:
    """The data set of that name in `DATASETS`, of `digits` (scikit-learn, 8x8, 17 grey levels) on.

    mnist and fashion_mnist are read from `<data_root>/MNIST/raw` or `<data_root>/FashionMNIST/raw`,
    where torchvision puts them (idx files, gzipped or not); cifar10 from
    `<data_root>/cifar-10-batches-py` in the same way, or from `<data_root>/cifar10_jpeg.zip`, see
    `cifar10`; nmnist from `<data_root>/nmnist_small.tar`, see `nmnist`, in `event_steps` steps. One
    tenth of the training samples, picked by a fixed seed, is the validation split; digits and nmnist
    have a fixed fifth as test samples. Raises DatasetError.
    """
    if name not in DATASETS:
        raise DatasetError(f"unknown data set {name!r}; choose from {', '.join(DATASETS)}.")
    return DATASETS[name](data_root, event_steps)
