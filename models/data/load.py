"""Data sets by name, from a file or folder, or from a function. Loads no torch before one is read: help
texts are made of the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeAlias

from ..named import call_named, is_named
from .cifar10 import read_cifar10
from .dataset import EVENT_STEPS, Dataset, DatasetError
from .digits import read_digits
from .idx import read_fashion_mnist, read_mnist
from .nmnist import read_nmnist
from .own import of_arrays, of_torch, read_npz

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
"""A data set of your own is a row more, `DATASETS["mine"] = read`, or anything else that `load` takes."""
OWN = "data.npz (x_train, y_train, x_test, y_test), or module:function"
"""What `load` takes besides names."""


def load(
    data: str | Path | Dataset | Mapping[str, Any] | Sequence[Any],
    data_root: str | Path | None = None,
    event_steps: int = EVENT_STEPS,
) -> Dataset:
    """A data set: by its name in `DATASETS`, of `digits` (scikit-learn, 8x8, 17 grey levels) on, or one's
    own.

    mnist and fashion_mnist are read from `<data_root>/MNIST/raw` or `<data_root>/FashionMNIST/raw`,
    where torchvision puts them (idx files, gzipped or not); cifar10 from
    `<data_root>/cifar-10-batches-py` in the same way, or from `<data_root>/cifar10_jpeg.zip`, see
    `cifar10`; nmnist from `<data_root>/nmnist_small.tar`, see `nmnist`, in `event_steps` steps. One
    tenth of the training samples, picked by a fixed seed, is the validation split; digits and nmnist
    have a fixed fifth as test samples.

    One's own: a `.npz` file, or a mapping of arrays, see `own.of_arrays`; torch data sets (training,
    test) or (training, validation, test), see `own.of_torch`; `module:function` or `file.py:function`,
    which returns these or a `Dataset`; a `Dataset` as it is. Raises DatasetError.
    """
    if isinstance(data, str) and data in DATASETS:
        return DATASETS[data](data_root, event_steps)
    if isinstance(data, str | Path):
        text = str(data)
        if is_named(text):
            return _own(_called(text), text)
        if text.endswith(".npz"):
            return read_npz(text)
        raise DatasetError(
            f"unknown data set {text!r}; choose from {', '.join(DATASETS)}, or give {OWN}."
        )
    return _own(data, "own data")


def _called(source: str) -> Any:
    try:
        return call_named(source)
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(str(error)) from None


def _own(data: Any, name: str) -> Dataset:
    """Objects that hold data, whoever returned them."""
    if isinstance(data, Dataset):
        return data
    if isinstance(data, Mapping):
        return of_arrays(data, name)
    if isinstance(data, tuple | list):
        return of_torch(data, name)
    raise DatasetError(
        f"{name}: {type(data).__name__} is no data; a Dataset, torch data sets (training, test) "
        f"or arrays {{x_train, y_train, x_test, y_test}} are needed."
    )
