"""Folders as torchvision and tonic make them: recognised, read byte for byte, refused where they are not whole."""

from __future__ import annotations

import gzip
import re
import shutil
from collections.abc import Callable
from pathlib import Path

import h5py
import numpy as np
import pytest
import torch

import spikeship
from spikeship.models.data.dataset import Dataset, DatasetError, Split, in_three, in_two
from spikeship.models.data.folders import BUILT_IN, recognised
from spikeship.models.data.grid import CodingChoice
from spikeship.models.data.load import DATASETS, load
from spikeship.models.data.nmnist import nmnist
from spikeship.models.data.own import digest_of

from cli import ok, text
from folders import FORMATS, STEPS, Parts, known_cifar10

NAMES = [*BUILT_IN]


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> dict[str, tuple[Path, Parts]]:
    """A root of its own for every format, and what its files hold."""
    roots = {name: tmp_path_factory.mktemp(name) for name in FORMATS}
    return {name: (roots[name], FORMATS[name].write(roots[name])) for name in FORMATS}


@pytest.fixture(autouse=True)
def _cifar10(written: dict[str, tuple[Path, Parts]], monkeypatch: pytest.MonkeyPatch) -> None:
    known_cifar10(written["cifar10"][0], monkeypatch)


def plainly(name: str, parts: Parts) -> Dataset:
    """What the arrays that were written are as a data set."""
    splits = {p: Split(torch.tensor(x), torch.tensor(y)) for p, (x, y) in parts.items()}
    if len(splits) == 3:
        return Dataset(name, *splits.values())
    return in_two(name, splits["train"], splits["test"])


def same(data: Dataset, other: Dataset) -> bool:
    """Byte for byte, types included."""
    pairs = [
        (getattr(getattr(data, part), what), getattr(getattr(other, part), what))
        for part in ("train", "validation", "test")
        for what in ("images", "labels")
    ]
    alike = all(a.dtype == b.dtype and torch.equal(a, b) for a, b in pairs)
    return alike and data.kind == other.kind


def test_every_built_in_data_set_has_a_format_here() -> None:
    assert {*DATASETS} - {"digits"} == {*BUILT_IN} == {*FORMATS} - {"images"}


@pytest.mark.parametrize("name", FORMATS)
def test_what_was_written_is_read(name: str, written: dict[str, tuple[Path, Parts]]) -> None:
    root, parts = written[name]
    data = load(str(root), None, STEPS)
    assert same(data, plainly(name, parts))
    assert (data.name, data.built_in) == (str(root), "" if name == "images" else name)
    if name == "images":
        return
    by_name = load(name, root, STEPS)
    assert same(data, by_name)
    assert (by_name.name, by_name.digest) == (name, "")
    assert CodingChoice(steps=data.steps).of(data) == CodingChoice(steps=data.steps).of(by_name)
    own = load(root / FORMATS[name].folder, None, STEPS)
    assert own.digest == data.digest  # moved data are the same data
    assert f"({name}): {len(data.train)} training" in str(data)


@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_packed_files_are_the_same(
    name: str, written: dict[str, tuple[Path, Parts]], tmp_path: Path
) -> None:
    root, parts = written[name]
    raw = tmp_path / FORMATS[name].folder / "raw"
    raw.mkdir(parents=True)
    for file in (root / FORMATS[name].folder / "raw").iterdir():
        (raw / f"{file.name}.gz").write_bytes(gzip.compress(file.read_bytes()))
    assert same(load(str(tmp_path)), plainly(name, parts))
    assert {file.suffix for file in raw.iterdir()} == {".gz"}  # read, not unpacked beside


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "fashion_mnist"])
def test_real_images_as_numpy_reads_them(name: str, shared_data: Path, tmp_path: Path) -> None:
    files = shared_data / "datasets" / name
    (tmp_path / FORMATS[name].folder).mkdir()
    (tmp_path / FORMATS[name].folder / "raw").symlink_to(files)
    splits = []
    for part in ("train", "t10k"):
        raw = (
            gzip.decompress((files / f"{part}-{rest}-ubyte.gz").read_bytes())
            for rest in ("images-idx3", "labels-idx1")
        )
        pixels, labels = (np.frombuffer(b, np.uint8) for b in raw)
        images = torch.tensor(pixels[16:].reshape(-1, 1, 28, 28), dtype=torch.float32) / 255
        splits.append(Split(images, torch.tensor(labels[8:], dtype=torch.int64)))
    assert same(load(name, tmp_path), in_two(name, *splits))


@pytest.mark.slow
def test_real_events_as_they_were_read(shared_data: Path) -> None:
    """Digests of what the first reader gave, in 20 and in 300 steps."""
    for steps, digest in DIGESTS.items():
        events, labels = (torch.from_numpy(a) for a in nmnist(shared_data / "datasets", steps))
        data = in_three("nmnist", Split(events, labels))
        assert same(load("nmnist", shared_data / "datasets", steps), data)
        assert digest_of({"all": Split(events, labels)}, "events") == digest


DIGESTS = {
    20: "3784aabcf672482ff3b223bb06fa2eed9f208606ce1a20e6b599b808d13adfa6",
    300: "14deeb30af46f48f300b45e7528060949e0178cfbffef72a057830f87129354e",
}


# -- recognising -----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", FORMATS)
def test_it_is_said_what_a_folder_was_recognised_as(
    name: str, written: dict[str, tuple[Path, Parts]], tmp_path: Path
) -> None:
    root, _ = written[name]
    assert recognised(root).text == FORMATS[name].said
    assert recognised(root / FORMATS[name].folder) == recognised(root)
    said = text("evaluate", tmp_path / "none.net", "--data", root, status=3)
    assert f"{root}: {FORMATS[name].said}\n" in said


@pytest.mark.parametrize(("makes", "says"), [
    ([], "holds nothing that is known. A folder may hold mnist .MNIST/raw, torchvision.*ssc .SSC.*ImageFolder"),
    (["train/cat"], "holds nothing that is known"),
    (["MNIST"], "holds nothing that is known"),
    (["Train", "Test"], "holds nothing that is known"),  # whatever the file system takes for train
    (["MNIST/raw", "SHD/shd_test.h5"], "holds 2 data sets: mnist as torchvision keeps it, shd as tonic keeps it. "
                                       "Give the folder of the one"),
    (["NMNIST/Test", "train", "test"], "holds 2 data sets: nmnist as tonic keeps it, images by class"),
])  # fmt: skip
def test_unknown_and_ambiguous_folders(makes: list[str], says: str, tmp_path: Path) -> None:
    for name in makes:
        (tmp_path / name).mkdir(parents=True)
    with pytest.raises(DatasetError, match=says):
        load(str(tmp_path))
    assert re.search(says, text("train", "--data", tmp_path, status=3))


def test_of_several_the_own_folder_says_which(
    written: dict[str, tuple[Path, Parts]], tmp_path: Path
) -> None:
    for name in ("mnist", "shd"):
        own = FORMATS[name].folder
        shutil.copytree(written[name][0] / own, tmp_path / own)
    assert load(str(tmp_path / "SHD"), None, STEPS).built_in == "shd"


# -- folders that are not whole ----------------------------------------------------------------------


def gone(path: Path) -> None:
    shutil.rmtree(path) if path.is_dir() else path.unlink()


def cut(path: Path) -> None:
    path.write_bytes(path.read_bytes()[:-7])


def moved_to(name: str) -> Callable[[Path], None]:
    return lambda path: shutil.move(path, path.parent / name)  # type: ignore[return-value]


def rows(*rows: tuple[float, ...]) -> Callable[[Path], None]:
    return lambda path: np.save(path, np.array(rows))


def unit_700(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        file["spikes/units"][0] = np.array([700], np.uint16)
        file["spikes/times"][0] = np.array([0.1])


def one_label_less(path: Path) -> None:
    with h5py.File(path, "r+") as file:
        labels = file["labels"][1:]
        del file["labels"]
        file["labels"] = labels


RAW, GESTURE = "MNIST/raw", "DVSGesture/ibmGestureTest/user00_led"


@pytest.mark.parametrize(("name", "place", "harm", "says"), [
    ("mnist", f"{RAW}/t10k-labels-idx1-ubyte", gone, "t10k-labels-idx1-ubyte.* no such file.*torchvision.datasets.MNIST"),
    ("mnist", f"{RAW}/train-images-idx3-ubyte", cut, "train-images-idx3-ubyte: not an idx file of 3 axes; download"),
    ("fashion_mnist", "FashionMNIST/raw/t10k-labels-idx1-ubyte", cut, "not an idx file of 1 axes"),
    ("cifar10", "cifar-10-batches-py/test_batch", gone, "not found or corrupted.*torchvision.datasets.CIFAR10.*makes"),
    ("cifar10", "cifar-10-batches-py/data_batch_3", cut, "cifar-10-batches-py: Dataset not found or corrupted"),
    ("nmnist", "NMNIST/Test", gone, r"NMNIST/Test: no \*/\*.bin is there; tonic.datasets.NMNIST\(root\) makes"),
    ("nmnist", "NMNIST/Test/0/00000.bin", cut, r"00000.bin: \d+ bytes are not whole events of 5"),
    ("nmnist", "NMNIST/Test/0", moved_to("ten"), "Test/ten: a folder of N-MNIST is named after its digit"),
    ("dvs_gesture", "DVSGesture/ibmGestureTrain", gone, r"ibmGestureTrain: no \*/\*.npy .*tonic.datasets.DVSGesture"),
    ("dvs_gesture", f"{GESTURE}/3.npy", cut, "3.npy: damaged .* download it again"),
    ("dvs_gesture", f"{GESTURE}/3.npy", moved_to("11.npy"), "11.npy: a recording is named after its class, 0.npy"),
    ("dvs_gesture", f"{GESTURE}/3.npy", rows((1, 2, 3)), r"3.npy: .* of shape \(1, 3\); rows of x, y, polarity, ms"),
    ("dvs_gesture", f"{GESTURE}/3.npy", rows((128, 2, 0, 1)), "3.npy: an event in 128 .. 128 of an axis of 0 .. 127"),
    ("dvs_gesture", f"{GESTURE}/3.npy", rows((1, 2, 0, np.nan)), "3.npy: numbers that are not finite"),
    ("shd", "SHD/shd_test.h5", gone, r"shd_test.h5: no such file; tonic.datasets.SHD\(root\) makes it"),
    ("shd", "SHD/shd_test.h5", unit_700, "shd_test.h5: an event in 700 .. 700 of an axis of 0 .. 699"),
    ("shd", "SHD/shd_train.h5", one_label_less, "shd_train.h5: damaged .20 times, 20 units, 19 labels"),
    ("shd", "SHD/shd_train.h5", lambda path: path.write_bytes(b"no"), "shd_train.h5: damaged .* download it again"),
    ("ssc", "SSC/ssc_valid.h5", gone, r"ssc_valid.h5: no such file; tonic.datasets.SSC\(root\)"),
    ("images", "test/dog", gone, "classes cat, dog in train, cat in test"),
    ("images", "train/cat/000.png", lambda path: path.write_bytes(b"no"), "a picture that cannot be read"),
    ("images", "train/dog", lambda path: [f.unlink() for f in path.iterdir()], "train: .*no valid file for the classes dog"),
])  # fmt: skip
def test_what_is_missing_or_damaged_is_named(
    name: str,
    place: str,
    harm: Callable[[Path], object],
    says: str,
    written: dict[str, tuple[Path, Parts]],
    tmp_path: Path,
) -> None:
    shutil.copytree(written[name][0], tmp_path / "root")
    harm(tmp_path / "root" / place)
    with pytest.raises(DatasetError, match=says):
        load(str(tmp_path / "root"), None, STEPS)


@pytest.mark.parametrize("name", NAMES)
def test_who_makes_the_folder_is_said_where_none_was_given(name: str) -> None:
    library, folder = BUILT_IN[name].made_by, BUILT_IN[name].folder
    says = rf"{name} is not shipped: give the folder that holds {folder}.*{library}\.datasets\..*makes it"
    with pytest.raises(DatasetError, match=says):
        load(name)


# -- in the commands -------------------------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("name", ["mnist", "nmnist", "shd", "images"])
def test_from_a_folder_to_a_judged_network(
    name: str, written: dict[str, tuple[Path, Parts]], tmp_path: Path
) -> None:
    root, parts = written[name]
    events = name in ("nmnist", "shd")
    words = ("--epochs", 1, "--time-steps", STEPS, *(() if events else ("--coding", "direct")))
    ok("train", "--data", root, *words, "--out", tmp_path)
    net = tmp_path / "own.net"
    ok("export", tmp_path / "best.ckpt", "--out", net)
    judged = ok("evaluate", net)
    assert (judged["data"], judged["samples"]) == (str(root), len(parts["test"][0]))
    assert judged["accuracy"] == ok("evaluate", net, "--data", root)["accuracy"]
    assert spikeship.evaluate(spikeship.load(net), str(root)).quality.accuracy == judged["accuracy"]
    if name != "images":
        by_name = ok("evaluate", net, "--data", name, "--data-root", root)
        assert by_name["accuracy"] == judged["accuracy"]


@pytest.mark.slow
def test_a_network_knows_its_data_by_name_in_a_folder(
    written: dict[str, tuple[Path, Parts]], tmp_path: Path
) -> None:
    root, _ = written["mnist"]
    words = ("--coding", "direct", "--epochs", 1, "--time-steps", 2, "--out", tmp_path)
    ok("train", "--data", "mnist", "--data-root", root, *words)
    export = ("export", tmp_path / "best.ckpt", "--out", tmp_path / "a.net", "--data")
    assert ok(*export, root)["answers"]["integers"]["samples"] == len(
        written["mnist"][1]["test"][0]
    )
    said = text(*export, written["fashion_mnist"][0], status=3)
    assert "trained on mnist, not on" in said
