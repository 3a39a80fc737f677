"""Data sets by name, from a file or folder, or from a function. Loads no torch before one is read: help
texts are made of the names."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any, TypeAlias

from ..named import call_named, is_named
from .cifar10 import read_cifar10
from .dataset import EVENT_STEPS, Dataset, DatasetError
from .digits import read_digits
from .folders import BUILT_IN, image_folder, recognised
from .gesture import read_dvs_gesture
from .mnist import read_fashion_mnist, read_mnist
from .nmnist import read_nmnist
from .own import PARTS, digest_of, of_arrays, of_torch, read_npz
from .spoken import read_shd, read_ssc

Reader: TypeAlias = Callable[[str | Path | None, int], Dataset]
"""(data_root, event_steps) to a data set: the folder it is read from, if one was given, and the steps of
a sample, for data of events. Raises DatasetError where the data are not there, or damaged."""

DATASETS: dict[str, Reader] = {
    "digits": read_digits,
    "mnist": read_mnist,
    "fashion_mnist": read_fashion_mnist,
    "cifar10": read_cifar10,
    "nmnist": read_nmnist,
    "dvs_gesture": read_dvs_gesture,
    "shd": read_shd,
    "ssc": read_ssc,
}
"""A data set of your own is a row more, `DATASETS["mine"] = read`, or anything else that `load` takes."""
OWN = (
    "data.npz (x_train, y_train, x_test, y_test), a folder as torchvision or tonic makes it, or "
    "module:function"
)
"""What `load` takes besides names."""


def load(
    data: str | Path | Dataset | Mapping[str, Any] | Sequence[Any],
    data_root: str | Path | None = None,
    event_steps: int = EVENT_STEPS,
) -> Dataset:
    """A data set: by its name in `DATASETS`, of `digits` (scikit-learn, 8x8, 17 grey levels) on, or one's
    own.

    The others lie below `data_root`, where a library puts them: torchvision's `MNIST/raw`,
    `FashionMNIST/raw` (gzipped or not) and `cifar-10-batches-py`, tonic's `NMNIST`, `DVSGesture`, `SHD`
    and `SSC`; events come in `event_steps` steps. Also cifar10 from `cifar10_jpeg.zip`, nmnist from
    `nmnist_small.tar`. One tenth of the training samples, picked by a fixed seed, is the validation split
    (ssc has its own); digits and the small nmnist have a fixed fifth as test samples. Nothing is
    downloaded.

    One's own: a `.npz` file, or a mapping of arrays, see `own.of_arrays`; a folder that holds one of the
    above, or pictures by class, see `folders`; torch data sets (training, test) or (training, validation,
    test), see `own.of_torch`; `module:function` or `file.py:function`, which returns these or a
    `Dataset`; a `Dataset` as it is. Raises DatasetError.
    """
    if isinstance(data, str) and data in DATASETS:
        return DATASETS[data](data_root, event_steps)
    if isinstance(data, str | Path):
        text = str(data)
        if is_named(text):
            return _called(text)
        if text.endswith(".npz"):
            return read_npz(text)
        if text and Path(text).is_dir():
            return _folder(text, event_steps)
        raise DatasetError(
            f"unknown data set {text!r}; choose from {', '.join(DATASETS)}, or give {OWN}."
        )
    return _own(data, "own data")


def _folder(folder: str, event_steps: int) -> Dataset:
    """What a folder holds, under the folder's name: by it the data are found again."""
    held = recognised(folder)
    if held.name not in BUILT_IN:
        return image_folder(folder)
    data = DATASETS[held.name](held.root, event_steps)
    return replace(data, name=folder, built_in=held.name, digest=_digest(data))


def _called(source: str) -> Dataset:
    """What a function returns, under the name by which it is found again."""
    try:
        returned = call_named(source)
    except DatasetError:
        raise
    except ValueError as error:
        raise DatasetError(str(error)) from None
    data = _own(returned, source)
    built_in = data.built_in or (data.name if data.name in DATASETS else "")
    return replace(data, name=source, built_in=built_in, digest=data.digest or _digest(data))


def _digest(data: Dataset) -> str:
    splits = (data.train, data.validation, data.test)
    return digest_of(dict(zip(PARTS, splits, strict=True)), data.kind)


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
