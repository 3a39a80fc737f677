"""MNIST and Fashion-MNIST in torchvision's folders."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING

from .dataset import Dataset, DatasetError, Split, in_two, root_of

if TYPE_CHECKING:
    import torch


def read_mnist(data_root: str | Path | None, _: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: MNIST from `<data_root>/MNIST/raw`."""
    return _read("mnist", "MNIST", data_root)


def read_fashion_mnist(data_root: str | Path | None, _: int) -> Dataset:
    """A `Reader` of `load.DATASETS`: Fashion-MNIST from `<data_root>/FashionMNIST/raw`."""
    return _read("fashion_mnist", "FashionMNIST", data_root)


def _read(name: str, folder: str, data_root: str | Path | None) -> Dataset:
    made_by = f"torchvision.datasets.{folder}(root, download=True)"
    raw = root_of(name, data_root, f"{folder}/raw", made_by) / folder / "raw"
    return in_two(name, _split(raw, "train", made_by), _split(raw, "t10k", made_by))


def _split(raw: Path, part: str, made_by: str) -> Split:
    import torch
    from torchvision.datasets.mnist import read_image_file, read_label_file

    def read(file: str, reader: Callable[[str], torch.Tensor]) -> torch.Tensor:
        return _read_file(raw / f"{part}-{file}-ubyte", reader, made_by)

    images, labels = read("images-idx3", read_image_file), read("labels-idx1", read_label_file)
    if len(images) != len(labels):
        raise DatasetError(f"{raw}: {len(images)} {part} images but {len(labels)} labels.")
    return Split(images[:, None].to(torch.float32) / 255, labels.to(torch.int64))


def _read_file(path: Path, reader: Callable[[str], torch.Tensor], made_by: str) -> torch.Tensor:
    """What torchvision's reader makes of a file, or of the same file with .gz that was not unpacked."""
    from torchvision.datasets.utils import extract_archive

    packed = path.with_name(path.name + ".gz")
    if not path.is_file() and not packed.is_file():
        raise DatasetError(
            f"{path}[.gz]: no such file. data_root must hold torchvision's folders; {made_by} makes them."
        )
    with tempfile.TemporaryDirectory() as folder:
        try:
            file = path if path.is_file() else Path(extract_archive(str(packed), folder))
        except (OSError, EOFError) as error:
            raise DatasetError(f"{packed}: damaged ({error}); download it again.") from None
        try:
            return reader(str(file))
        except (AssertionError, KeyError, RuntimeError, TypeError, ValueError):
            axes = 3 if "idx3" in path.name else 1
            raise DatasetError(
                f"{path}: not an idx file of {axes} axes; download it again."
            ) from None
