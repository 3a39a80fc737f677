"""What lies in a folder: a data set as torchvision or tonic keeps it, or pictures by class."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from .dataset import Dataset, DatasetError
from .own import of_torch


@dataclass(frozen=True)
class Layout:
    """A built-in data set is known by a `folder` that holds any of the `files`, which a library made."""

    folder: str
    files: tuple[str, ...]
    made_by: str


BUILT_IN = {
    "mnist": Layout("MNIST", ("raw",), "torchvision"),
    "fashion_mnist": Layout("FashionMNIST", ("raw",), "torchvision"),
    "cifar10": Layout("cifar-10-batches-py", ("data_batch_1", "test_batch"), "torchvision"),
    "nmnist": Layout("NMNIST", ("Train", "Test"), "tonic"),
    "dvs_gesture": Layout("DVSGesture", ("ibmGestureTrain", "ibmGestureTest"), "tonic"),
    "shd": Layout("SHD", ("shd_train.h5", "shd_test.h5"), "tonic"),
    "ssc": Layout("SSC", ("ssc_train.h5", "ssc_valid.h5", "ssc_test.h5"), "tonic"),
}
"""By names in `load.DATASETS`."""
IMAGES = "images"
_PARTS = ("train", "val", "test")


@dataclass(frozen=True)
class Held:
    """What a folder holds: a name of `BUILT_IN`, or `IMAGES`; the `root` that its reader wants."""

    name: str
    root: Path

    @property
    def text(self) -> str:
        """`mnist as torchvision keeps it`."""
        if self.name == IMAGES:
            return "images by class, as torchvision's ImageFolder reads them"
        return f"{self.name} as {BUILT_IN[self.name].made_by} keeps it"


def recognised(folder: str | Path) -> Held:
    """What a folder holds, be it the root given to a library or the data set's own folder in it.

    Raises DatasetError where it holds several data sets, or none that can be read: both list them.
    """
    path = Path(folder).resolve()
    held = [
        Held(name, root)
        for name, layout in BUILT_IN.items()
        for root in ([path.parent] if path.name == layout.folder else []) + [path]
        if any((root / layout.folder / file).exists() for file in layout.files)
    ]
    if {"train", "test"} <= {place.name for place in path.iterdir() if place.is_dir()}:
        held.append(Held(IMAGES, path))
    if len(held) > 1:
        names = ", ".join(each.text for each in held)
        raise DatasetError(
            f"{folder} holds {len(held)} data sets: {names}. Give the folder of the one that is meant."
        )
    if not held:
        known = ", ".join(
            f"{name} ({layout.folder}/{layout.files[0]}, {layout.made_by})"
            for name, layout in BUILT_IN.items()
        )
        raise DatasetError(
            f"{folder} holds nothing that is known. A folder may hold {known}; or images by class, "
            f"train/CLASS/*.png and test/CLASS/*.png (torchvision's ImageFolder)."
        )
    return held[0]


def image_folder(folder: str) -> Dataset:
    """Pictures by class, `train/CLASS/*.png` and `test/CLASS/*.png`, and `val` if it is there.

    As torchvision.datasets.ImageFolder reads them: red, green and blue, within 0 .. 1, classes in the
    order of their names. Raises DatasetError where parts have other classes, or pictures other sizes.
    """
    from torchvision.datasets import ImageFolder

    parts: dict[str, Any] = {}
    for part in _PARTS:
        place = Path(folder) / part
        if part == "val" and not place.is_dir():
            continue
        try:
            parts[part] = ImageFolder(str(place))
        except FileNotFoundError as error:
            raise DatasetError(f"{place}: {error}") from None
    train = parts["train"].classes
    for part, pictures in parts.items():
        if pictures.classes != train:
            raise DatasetError(
                f"{folder}: classes {', '.join(train)} in train, {', '.join(pictures.classes)} in {part}."
            )
    try:
        return of_torch(list(parts.values()), folder)
    except OSError as error:
        raise DatasetError(f"{folder}: a picture that cannot be read ({error}).") from None
