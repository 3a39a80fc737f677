"""Data sets: the embedded digits, and idx files in torchvision's layout."""

from __future__ import annotations

import gzip
import io
import json
import subprocess
import sys
import tarfile
import zipfile
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image
from typer.testing import CliRunner

from spikeship.models import training
from spikeship.models.data.cifar10 import CIFAR10_CLASSES, cifar10
from spikeship.models.data.dataset import Dataset, DatasetError, Split, in_three
from spikeship.models.data.load import DATASETS, load
from spikeship.models.data.nmnist import nmnist
from spikeship.models.settings import Settings
from spikeship.pipeline.cli.app import app


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
    data = load("digits")
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
    data = load(name, tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [18, 2, 5]
    assert data.test.images.shape == (5, 1, 28, 28)
    assert data.test.images[0, 0, 0, :3].tolist() == pytest.approx([0, 1 / 255, 2 / 255])
    assert data.test.labels.tolist() == [0, 1, 2, 3, 4]


def make_cifar(path: Path, count: int = 2) -> None:
    """A zip like cifar10_jpeg.zip: `count` images of one colour per class and part."""
    with zipfile.ZipFile(path, "w") as archive:
        for part in ("train", "test"):
            for label, name in enumerate(CIFAR10_CLASSES):
                for number in range(count * (10 if part == "train" else 1)):
                    file = io.BytesIO()
                    Image.new("RGB", (32, 32), (20 * label, 0, 255)).save(file, "JPEG", quality=100)
                    archive.writestr(f"{part}/{name}/{number:04}.jpg", file.getvalue())


@pytest.mark.parametrize("folder", ["", "cifar10_jpeg"])
def test_cifar10_in_jpeg(tmp_path: Path, folder: str) -> None:
    (tmp_path / folder).mkdir(exist_ok=True)
    make_cifar(tmp_path / folder / "cifar10_jpeg.zip")
    data = load("cifar10", tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [180, 20, 20]
    assert (data.shape, data.classes) == ((3, 32, 32), 10)
    for split in (data.train, data.test):
        red, green, blue = (split.images[:, c].mean((1, 2)) * 255 for c in range(3))
        assert torch.all((red - 20 * split.labels).abs() < 3)
        assert torch.all(green < 3)
        assert torch.all(blue > 252)


def test_cifar10_as_torchvision_keeps_it(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    pixels = np.arange(40 * 32 * 32 * 3, dtype=np.int64).reshape(40, 32, 32, 3).astype(np.uint8)

    class Stored:
        def __init__(self, root: Path, train: bool) -> None:
            assert root == tmp_path
            self.data, self.targets = (
                pixels[: 40 if train else 10],
                [*range(10)] * (4 if train else 1),
            )

    import torchvision.datasets

    monkeypatch.setattr(torchvision.datasets, "CIFAR10", Stored)
    (tmp_path / "cifar-10-batches-py").mkdir()
    test = load("cifar10", tmp_path).test
    assert test.labels.tolist() == [*range(10)]
    assert torch.equal(
        torch.round(test.images[3, :, 5, 7] * 255), torch.tensor(pixels[3, 5, 7]).float()
    )


@pytest.mark.parametrize(
    ("content", "says"),
    [
        (None, "neither cifar-10-batches-py nor cifar10_jpeg.zip is there"),
        (b"no zip", "cifar10_jpeg.zip: damaged .* copy it again"),
        ("frog2", "cifar10_jpeg.zip: damaged .*frog2"),
        ("empty", "damaged .*; copy it again"),
    ],
)
def test_bad_cifar10(tmp_path: Path, content: bytes | str | None, says: str) -> None:
    path = tmp_path / "cifar10_jpeg.zip"
    if isinstance(content, bytes):
        path.write_bytes(content)
    elif content is not None:
        file = io.BytesIO()
        Image.new("RGB", (32, 32)).save(file, "JPEG")
        with zipfile.ZipFile(path, "w") as archive:
            if content != "empty":
                archive.writestr(f"train/{content}/0.jpg", file.getvalue())
    with pytest.raises(DatasetError, match=says):
        load("cifar10", tmp_path)


@pytest.mark.slow
def test_real_cifar10(shared_data: Path) -> None:
    test = cifar10(shared_data / "datasets", "test")
    assert test.images.shape == (10_000, 3, 32, 32)
    assert torch.bincount(test.labels).tolist() == [1000] * 10
    assert 0.4 < float(test.images.mean()) < 0.55


def test_real_mnist(shared_data: Path, tmp_path: Path) -> None:
    (tmp_path / "MNIST").mkdir()
    (tmp_path / "MNIST" / "raw").symlink_to(shared_data / "datasets" / "mnist")
    data = load("mnist", tmp_path)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [54000, 6000, 10000]
    assert data.test.labels[:5].tolist() == [7, 2, 1, 0, 4]


@pytest.mark.parametrize(("name", "root", "message"), [
    ("imagenet", None, "unknown data set 'imagenet'; choose from digits, mnist, fashion_mnist, cifar10, nmnist, dvs_gesture, shd, ssc"),
    ("mnist", None, "give the folder that holds MNIST/raw as data_root"),
    ("mnist", "empty", "no such file. data_root must hold torchvision's folders"),
    ("nmnist", None, "give the folder that holds NMNIST or nmnist_small.tar as data_root"),
    ("nmnist", "empty", "no such file. data_root must hold nmnist_small.tar"),
])  # fmt: skip
def test_missing_data(tmp_path: Path, name: str, root: str | None, message: str) -> None:
    with pytest.raises(DatasetError, match=message):
        load(name, root and tmp_path / root)


@pytest.mark.parametrize(("pack", "message"), [
    (False, "not an idx file of 3 axes"),
    (True, "damaged"),
])  # fmt: skip
def test_damaged_data(tmp_path: Path, pack: bool, message: str) -> None:
    raw = make_mnist(tmp_path, pack=pack)
    path = raw / ("train-images-idx3-ubyte" + ".gz" * pack)
    path.write_bytes(path.read_bytes()[:-100])
    with pytest.raises(DatasetError, match=message):
        load("mnist", tmp_path)


def test_images_without_labels(tmp_path: Path) -> None:
    raw = make_mnist(tmp_path)
    write_idx(raw / "t10k-labels-idx1-ubyte", np.arange(4))
    with pytest.raises(DatasetError, match="5 t10k images but 4 labels"):
        load("mnist", tmp_path)


Event = tuple[int, int, int, int]
"""x, y, polarity, microseconds"""


def write_events(
    path: Path, samples: dict[int, list[Event]], labels: dict[int, int] | None, extra: bytes = b""
) -> None:
    """A tar in the layout of nmnist_small; `extra` bytes at the end of every sample."""
    with tarfile.open(path, "w") as tar:

        def add(name: str, data: bytes) -> None:
            member = tarfile.TarInfo(name)
            member.size = len(data)
            tar.addfile(member, io.BytesIO(data))

        for number, events in samples.items():
            packed = [bytes((x, y)) + (p << 23 | t).to_bytes(3, "big") for x, y, p, t in events]
            add(f"train/{number}.bs2", b"".join(packed) + extra)
        if labels is not None:
            rows = [f"{number}\t{label}" for number, label in labels.items()]
            add("train/train1K.txt", "\n".join(["#sample #class", *rows, ""]).encode())


EVENTS = {
    2: [(33, 0, 0, 0), (33, 0, 0, 9_999), (5, 7, 1, 10_000)],
    1: [(0, 33, 1, 299_999), (1, 1, 1, 300_000), (0, 0, 0, 155_000)],
}


def test_events_are_binned(tmp_path: Path) -> None:
    write_events(tmp_path / "nmnist_small.tar", EVENTS, {1: 4, 2: 9})
    spikes, labels = nmnist(tmp_path, 30)
    assert (spikes.shape, spikes.dtype, labels.tolist()) == ((2, 30, 2, 34, 34), np.int8, [4, 9])
    found = [tuple(row) for row in np.argwhere(spikes).tolist()]
    assert found == [  # (sample, step, polarity, y, x)
        (0, 15, 0, 0, 0),
        (0, 29, 1, 33, 0),  # the event at 300 ms is left out
        (1, 0, 0, 0, 33),  # two events, one spike
        (1, 1, 1, 7, 5),
    ]
    assert nmnist(tmp_path, 300)[0].sum() == 5  # 1 ms: the two are apart
    with pytest.raises(DatasetError, match="steps = 0"):
        nmnist(tmp_path, 0)


def test_real_nmnist(shared_data: Path) -> None:
    spikes, labels = nmnist(shared_data / "datasets", 20)
    assert spikes.shape == (1000, 20, 2, 34, 34)
    assert labels[:5].tolist() == [5, 0, 4, 1, 9]
    assert np.bincount(labels).min() > 80
    assert spikes.any(axis=(1, 3, 4)).all()
    data = load("nmnist", shared_data / "datasets" / "nmnist_small", 20)
    assert [len(s) for s in (data.train, data.validation, data.test)] == [720, 80, 200]
    assert (data.shape, data.classes, data.steps) == ((2, 34, 34), 10, 20)
    assert load("digits").steps is None


@pytest.mark.parametrize(("labels", "extra", "cut", "message"), [
    (None, b"", 0, "has no train1K.txt with the labels"),
    ({1: 0, 2: 1, 3: 2}, b"", 0, r"1 of 3 listed samples are not there \(3"),
    ({}, b"", 0, "0 of 0 listed samples"),
    ({1: 0, 2: 1}, b"xy", 0, "17 bytes are not whole events of 5"),
    ({1: 0, 2: 1}, bytes(5 * [40]), 0, "an event in 0 .. 40 of an axis of 0 .. 33"),
    ({1: 0, 2: 1}, b"", 520, "damaged"),
])  # fmt: skip
def test_damaged_events(
    tmp_path: Path, labels: dict[int, int] | None, extra: bytes, cut: int, message: str
) -> None:
    path = tmp_path / "nmnist_small.tar"
    write_events(path, EVENTS, labels, extra)
    if cut:
        path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(DatasetError, match=message):
        nmnist(tmp_path)


# -- a data set from outside -------------------------------------------------------------------------


def bars(data_root: str | Path | None, event_steps: int) -> Dataset:
    """Images of 4x5 pixels with a bright row in the upper (class 0) or lower half (class 1)."""
    row = torch.arange(400) % 4
    images = torch.eye(4)[row][:, None, :, None].expand(-1, 1, 4, 5)
    return in_three("bars", Split(images, row // 2))


def test_a_data_set_from_outside(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """One function and one row: it is loaded, trained on, deployed, and found again by its name."""
    with pytest.raises(DatasetError, match="unknown data set 'bars'; choose from digits, mnist, "):
        load("bars")
    monkeypatch.setitem(DATASETS, "bars", bars)
    with pytest.raises(
        DatasetError, match=r"unknown data set 'none'; choose from digits, .*, bars"
    ):
        load("none")
    data = load("bars")
    assert (data.shape, data.classes, len(data.test)) == ((1, 4, 5), 2, 80)
    settings = Settings.of(coding="direct", steps=4, widths=(20,), epochs=10)
    network, path = training.train(settings, data, tmp_path, progress=False)
    assert training.accuracy(network, data.test) == 1

    net = tmp_path / "bars.net"
    for words in (
        ("train", "--data", "bars", "--epochs", "1", "--out", str(tmp_path / "by command")),
        ("export", str(path), "--out", str(net)),
        ("evaluate", str(net), "--json"),
    ):
        result = CliRunner().invoke(app, words)
        assert result.exit_code == 0, result.output
    assert json.loads(result.stdout)["accuracy"] == 1


def test_a_data_set_needs_no_name_to_be_trained_on(tmp_path: Path) -> None:
    data = bars(None, 0)
    settings = Settings.of(coding="direct", steps=4, widths=(20,), epochs=1)
    network, _ = training.train(settings, data, tmp_path, progress=False)
    assert network.settings.dataset == "bars"


def test_the_names_are_known_without_torch() -> None:
    """Help texts are made of them."""
    program = "import sys; from spikeship.models.data import load; print('torch' in sys.modules)"
    found = subprocess.run(
        [sys.executable, "-c", program], capture_output=True, text=True, check=True
    )
    assert found.stdout.strip() == "False"
    shown = CliRunner().invoke(app, ["train", "--help"]).output
    assert all(name in shown for name in DATASETS)
