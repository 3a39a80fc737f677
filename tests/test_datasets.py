"""Data sets: the embedded digits, and idx files in torchvision's layout."""

from __future__ import annotations

import gzip
from pathlib import Path

import numpy as np
import pytest
import torch

from spikeship.models import datasets


def write_idx(path: Path, array: np.ndarray, pack: bool = False) -> None:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    data = head + array.astype(np.uint8).tobytes()
    path.with_name(path.name + ".gz" * pack).write_bytes(gzip.compress(data) if pack else data)


def make_mnist(root: Path, folder: str = "MNIST", pack: bool = False) -> Path:
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    for part, count in (("train", 20), ("t10k", 5)):
        images = np.arange(count * 28 * 28).reshape(count, 28, 28) % 256
        write_idx(raw / f"{part}-images-idx3-ubyte", images, pack)
        write_idx(raw / f"{part}-labels-idx1-ubyte", np.arange(count) % 10, pack)
    return raw


def test_digits_are_on_the_grid_and_split_without_overlap() -> None:
    data = datasets.load("digits")
    assert (data.shape, data.classes) == ((1, 8, 8), 10)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [1294, 144, 359]
    everything = torch.cat([data.train.images, data.validation.images, data.test.images])
    assert torch.equal(torch.round(everything * 16), everything * 16)
    rows = {image.numpy().tobytes() for image in everything}
    assert len(rows) == 1797  # scikit-learn's digits has no image twice


@pytest.mark.parametrize("pack", [False, True])
@pytest.mark.parametrize(
    ("name", "folder"), [("mnist", "MNIST"), ("fashion_mnist", "FashionMNIST")]
)
def test_torchvision_layout(tmp_path: Path, name: str, folder: str, pack: bool) -> None:
    make_mnist(tmp_path, folder, pack)
    data = datasets.load(name, tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 2, 5]
    assert data.test.images.shape == (5, 1, 28, 28)
    assert data.test.images[0, 0, 0, :3].tolist() == pytest.approx([0, 1 / 255, 2 / 255])
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4]


def test_real_mnist(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(shared_data / "datasets" / "mnist")
    data = datasets.load("mnist", tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [54000, 6000, 10000]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize(("name", "root", "message"), [
    ("imagenet", None, "unknown data set 'imagenet'; choose from digits, mnist, fashion_mnist"),
    ("mnist", None, "give the folder that holds MNIST/raw with --data-root"),
    ("mnist", "empty", "no such file. --data-root must hold torchvision's folders"),
])  # fmt: skip
def test_missing_data(tmp_path: Path, name: str, root: str | None, message: str) -> None:
    with pytest.raises(datasets.DatasetError, match=message):
        datasets.load(name, root and tmp_path / root)


@pytest.mark.parametrize(("pack", "message"), [
    (False, "not an idx file of 3 axes"),
    (True, "damaged"),
])  # fmt: skip
def test_damaged_data(tmp_path: Path, pack: bool, message: str) -> None:
    raw = make_mnist(tmp_path, pack=pack)
    path = raw / ("train-images-idx3-ubyte" + ".gz" * pack)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(datasets.DatasetError, match=message):
        datasets.load("mnist", tmp_path)


def test_images_without_labels(tmp_path: Path) -> None:
    raw = make_mnist(tmp_path)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(4))
    with pytest.raises(datasets.DatasetError, match="5 t10k images but 4 labels"):
        datasets.load("mnist", tmp_path)
