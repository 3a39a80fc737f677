"""One's own data: a `.npz` file, arrays, torch data sets, or a function that returns any of these."""

from __future__ import annotations

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast, get_args

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.npy import ArrayFileError
from ...hw_targets.npy import read_npz as arrays_of
from .dataset import Dataset, DatasetError, Kind, Split, in_two

if TYPE_CHECKING:
    import torch

PARTS = ("train", "validation", "test")
NEEDED = ("x_train", "y_train", "x_test", "y_test")
_KNOWN = (*NEEDED, "x_validation", "y_validation", "kind")
_LARGEST = 1 << 24
"""Whole numbers up to here are the same in float32."""


def read_npz(path: str | Path) -> Dataset:
    """A data set from the arrays of a `.npz` file, see `of_arrays`. Raises DatasetError."""
    if not Path(path).is_file():
        raise DatasetError(f"{path}: no such file.")
    try:
        arrays = arrays_of(path)
    except (ArrayFileError, OSError) as error:
        raise DatasetError(f"{path}: not a .npz file of numbers ({error}).") from None
    return of_arrays(arrays, str(path))


def of_arrays(arrays: Mapping[str, Any], name: str) -> Dataset:
    """A data set of x_train, y_train, x_test, y_test, and perhaps x_validation, y_validation, kind.

    x: (sample, C, H, W) or (sample, features) are images; (sample, time, features) and
    (sample, time, C, H, W) have time, and are events where all is 0 or 1, else sequences; `kind`,
    "images", "sequences" or "events", says so of other axes. Numbers are used as they are: give what
    your network was trained on. y: classes, whole numbers from 0 on, (sample,); or targets of
    regression, real numbers (sample,) or (sample, outputs). Without validation samples a fixed tenth of
    the training samples is taken. Raises DatasetError, which names the array.
    """
    if missing := [need for need in NEEDED if need not in arrays]:
        has = f"it has {', '.join(arrays)}" if arrays else "it has none"
        raise DatasetError(f"{name}: no {', '.join(missing)}; {has}.")
    if unknown := [key for key in arrays if key not in _KNOWN]:
        raise DatasetError(
            f"{name}: {', '.join(unknown)} unknown; it may hold {', '.join(_KNOWN)}."
        )
    x = {part: _numbers(arrays[f"x_{part}"], name, f"x_{part}") for part in _parts(arrays)}
    kind = _kind(arrays.get("kind"), x, name)
    splits = {
        part: _split(values, arrays[f"y_{part}"], kind, name, part) for part, values in x.items()
    }
    return of_splits(splits, name, kind)


def of_torch(parts: Sequence[Any], name: str) -> Dataset:
    """A data set of torch data sets (training, test) or (training, validation, test).

    Each gives pairs (x, y) by index; pictures of PIL become numbers within 0 .. 1, as torchvision's
    ToTensor makes them. Shapes and meaning are those of `of_arrays`. Raises DatasetError.
    """
    if len(parts) not in (2, 3):
        raise DatasetError(
            f"{name}: {len(parts)} data sets; (training, test) or (training, validation, test) are "
            f"needed."
        )
    names = PARTS if len(parts) == 3 else (PARTS[0], PARTS[2])
    arrays: dict[str, Any] = {}
    for part, pairs in zip(names, parts, strict=True):
        arrays[f"x_{part}"], arrays[f"y_{part}"] = _stacked(pairs, f"{name}, {part}")
    return of_arrays(arrays, name)


def of_splits(splits: Mapping[str, Split], name: str, kind: Kind) -> Dataset:
    """A data set whose splits fit together, with its digest. Raises DatasetError."""
    first = splits["train"]
    for part, split in splits.items():
        if split.images.shape[1:] != first.images.shape[1:]:
            raise DatasetError(
                f"{name}: samples of shape {tuple(split.images.shape[1:])} in {part}, of "
                f"{tuple(first.images.shape[1:])} in train."
            )
        if (
            split.labels.dtype != first.labels.dtype
            or split.labels.shape[1:] != first.labels.shape[1:]
        ):
            raise DatasetError(
                f"{name}: y_{part} and y_train are not alike: classes are whole numbers in both, "
                f"targets real numbers of one shape in both."
            )
    if "validation" in splits:
        data = Dataset(name, splits["train"], splits["validation"], splits["test"], kind)
    else:
        if len(first) < 10:
            raise DatasetError(
                f"{name}: {len(first)} training samples, of which a tenth is kept for validation: give "
                f"10 or more, or x_validation and y_validation."
            )
        data = in_two(name, first, splits["test"], kind)
    return replace(data, digest=digest_of(splits, kind))


def _parts(arrays: Mapping[str, Any]) -> list[str]:
    given = [part for part in PARTS if f"x_{part}" in arrays or f"y_{part}" in arrays]
    for part in given:
        for axis in "xy":
            if f"{axis}_{part}" not in arrays:
                raise DatasetError(f"{axis}_{part} is missing beside its other half.")
    return given


def _numbers(array: Any, name: str, what: str) -> NDArray[Any]:
    """Samples as an array of finite numbers, (sample, ...), at least one."""
    values = np.asarray(array)
    if values.dtype.kind not in "biuf":
        raise DatasetError(f"{name}: {what} is of type {values.dtype}; numbers are needed.")
    if values.ndim < 2 or not values.size:
        raise DatasetError(
            f"{name}: {what} has shape {values.shape}; (sample, C, H, W), (sample, features), or with "
            f"time (sample, time, *shape) is needed."
        )
    if values.dtype.kind == "f" and not np.isfinite(values).all():
        bad = int(np.argwhere(~np.isfinite(values))[0][0])
        raise DatasetError(
            f"{name}: {what} holds numbers that are not finite, first in sample {bad}."
        )
    if values.dtype.kind in "iu" and max(int(values.max()), -int(values.min())) > _LARGEST:
        raise DatasetError(
            f"{name}: {what} reaches {values.min()} .. {values.max()}; whole numbers beyond 2^24 are not "
            f"the same in float32: scale them."
        )
    return values


def _kind(said: Any, x: Mapping[str, NDArray[Any]], name: str) -> Kind:
    """The kind that was said, or that axes and numbers say."""
    axes = x["train"].ndim
    binary = all(bool(((values == 0) | (values == 1)).all()) for values in x.values())
    if said is None:
        if axes not in (3, 5):
            return "images"
        return "events" if binary else "sequences"
    kind = str(np.asarray(said).item()) if np.asarray(said).size == 1 else str(said)
    if kind not in get_args(Kind):
        raise DatasetError(f"{name}: kind {kind!r}; choose from {', '.join(get_args(Kind))}.")
    if kind == "events" and not binary:
        raise DatasetError(f"{name}: kind is events, but x holds other numbers than 0 and 1.")
    if kind != "images" and axes < 3:
        raise DatasetError(
            f"{name}: kind is {kind}, but x has no axis of time: (sample, time, ...)."
        )
    return cast("Kind", kind)


def _split(x: NDArray[Any], y: Any, kind: Kind, name: str, part: str) -> Split:
    import torch

    wanted = np.int8 if kind == "events" else np.float32
    samples = torch.from_numpy(np.ascontiguousarray(x.astype(wanted)))
    labels = _labels(np.asarray(y), name, f"y_{part}")
    if len(labels) != len(samples):
        raise DatasetError(
            f"{name}: {len(samples)} samples in x_{part}, {len(labels)} in y_{part}."
        )
    return Split(samples, labels)


def labels_of(y: NDArray[Any], what: str) -> torch.Tensor:
    """`checked_labels` as a tensor."""
    import torch

    return torch.from_numpy(checked_labels(y, what))


def checked_labels(y: NDArray[Any], what: str) -> NDArray[Any]:
    """Classes as int64 (sample,), or targets as float32 (sample, outputs). Raises DatasetError."""
    if y.dtype.kind in "biu" and y.ndim == 1:
        if y.size and y.min() < 0:
            raise DatasetError(f"{what} reaches down to {y.min()}; classes count from 0.")
        return y.astype(np.int64)
    if y.dtype.kind == "f" and y.ndim in (1, 2):
        if not np.isfinite(y).all():
            raise DatasetError(f"{what} holds targets that are not finite.")
        return np.ascontiguousarray(y.astype(np.float32).reshape(len(y), -1))
    raise DatasetError(
        f"{what} is {y.dtype} of shape {y.shape}; classes are whole numbers (sample,), targets of "
        f"regression real numbers (sample,) or (sample, outputs)."
    )


def _labels(y: NDArray[Any], name: str, what: str) -> torch.Tensor:
    return labels_of(y, f"{name}: {what}")


def _stacked(pairs: Any, where: str) -> tuple[NDArray[Any], NDArray[Any]]:
    """All samples and labels of a torch data set."""
    if not (hasattr(pairs, "__getitem__") and hasattr(pairs, "__len__")):
        raise DatasetError(
            f"{where}: {type(pairs).__name__} is no data set with a length and samples by index."
        )
    xs, ys = [], []
    for index in range(len(pairs)):
        pair = pairs[index]
        if not isinstance(pair, tuple | list) or len(pair) != 2:
            raise DatasetError(f"{where}: sample {index} is no pair (x, y).")
        xs.append(_array(pair[0]))
        ys.append(_array(pair[1]))
    shapes = {x.shape for x in xs}
    if len(shapes) != 1:
        raise DatasetError(
            f"{where}: samples of different shapes, such as {', '.join(map(str, sorted(shapes)[:3]))}; "
            f"all must be alike."
        )
    return np.stack(xs), np.stack(ys)


def _array(value: Any) -> NDArray[Any]:
    if type(value).__module__.startswith("PIL."):
        pixels = np.atleast_3d(np.asarray(value))
        scaled: NDArray[Any] = pixels.transpose(2, 0, 1).astype(np.float32) / 255
        return scaled
    array: NDArray[Any] = np.asarray(value.detach() if hasattr(value, "detach") else value)
    if array.dtype.names:
        raise DatasetError(
            f"samples are lists of events ({', '.join(array.dtype.names)}): give frames, as "
            f"tonic.transforms.ToFrame makes them."
        )
    return array


def digest_of(splits: Mapping[str, Split], kind: Kind) -> str:
    """SHA-256 over kind, types, shapes and numbers of all splits, which have names."""
    sha = hashlib.sha256(kind.encode())
    for part, split in splits.items():
        for tensor in (split.images, split.labels):
            sha.update(f"{part} {tensor.dtype} {tuple(tensor.shape)}".encode())
            sha.update(np.ascontiguousarray(tensor.detach().cpu().numpy()).data)
    return sha.hexdigest()
