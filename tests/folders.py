"""Data sets as torchvision and tonic keep them, a few samples each, and what they are when read plainly."""

from __future__ import annotations

import hashlib
import pickle
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

Parts = dict[str, tuple[NDArray[Any], NDArray[np.int64]]]
"""By part, x as it must be read, and its classes."""
STEPS = 5
TRAIN, TEST = 20, 6


def write_idx(path: Path, array: NDArray[Any]) -> None:
    head = bytes((0, 0, 8, array.ndim)) + b"".join(n.to_bytes(4, "big") for n in array.shape)
    path.write_bytes(head + array.astype(np.uint8).tobytes())


def mnist(root: Path, folder: str = "MNIST") -> Parts:
    raw = root / folder / "raw"
    raw.mkdir(parents=True)
    parts = {}
    for part, name, count in (("train", "train", TRAIN), ("test", "t10k", TEST)):
        pixels = np.random.default_rng(count).integers(0, 256, (count, 28, 28))
        labels = np.arange(count) % 10
        write_idx(raw / f"{name}-images-idx3-ubyte", pixels)
        write_idx(raw / f"{name}-labels-idx1-ubyte", labels)
        parts[part] = (pixels[:, None].astype(np.float32) / np.float32(255), labels)
    return parts


def fashion_mnist(root: Path) -> Parts:
    return mnist(root, "FashionMNIST")


def cifar10(root: Path) -> Parts:
    folder = root / "cifar-10-batches-py"
    folder.mkdir(parents=True)
    rng, parts = np.random.default_rng(0), {}
    for part, files in (
        ("train", [f"data_batch_{i}" for i in range(1, 6)]),
        ("test", ["test_batch"]),
    ):
        pixels = rng.integers(0, 256, (len(files), 4, 3072), np.uint8)
        labels = rng.integers(0, 10, (len(files), 4))
        for name, x, y in zip(files, pixels, labels, strict=True):
            (folder / name).write_bytes(pickle.dumps({"data": x, "labels": y.tolist()}))
        x = pixels.reshape(-1, 3, 32, 32).astype(np.float32) / np.float32(255)
        parts[part] = (x, labels.ravel())
    (folder / "batches.meta").write_bytes(pickle.dumps({"label_names": [*"abcdefghij"]}))
    return parts


def known_cifar10(root: Path, patch: pytest.MonkeyPatch) -> None:
    """torchvision knows the files of `cifar10` by their digests in place of the published ones."""
    from torchvision.datasets import CIFAR10

    def digest(file: str) -> str:
        return hashlib.md5((root / "cifar-10-batches-py" / file).read_bytes()).hexdigest()

    for name in ("train_list", "test_list"):
        patch.setattr(CIFAR10, name, [[file, digest(file)] for file, _ in getattr(CIFAR10, name)])
    patch.setattr(CIFAR10, "meta", {**CIFAR10.meta, "md5": digest("batches.meta")})


Event = tuple[int, ...]
"""Microseconds, then an index for each axis of a step."""


def recording(seed: int, shape: tuple[int, ...], microseconds: int) -> list[Event]:
    """Events in the order of their times, on all axes' ends, some later than `microseconds`."""
    rng = np.random.default_rng(seed)
    times = np.sort(rng.integers(0, microseconds * 5 // 4 // 1000, 60)) * 1000
    times[0], ends = 0, [[0, n - 1] for n in shape]
    pixels = [np.concatenate([e, rng.integers(0, n, 58)]) for e, n in zip(ends, shape, strict=True)]
    return [tuple(map(int, event)) for event in zip(times, *pixels, strict=True)]


def binned(events: list[Event], shape: tuple[int, ...], microseconds: int) -> NDArray[np.int8]:
    """The definition: one event after the other."""
    frame = np.zeros((STEPS, *shape), np.int8)
    for time, *at in events:
        if time * STEPS // microseconds < STEPS:
            frame[(time * STEPS // microseconds, *at)] = 1
    return frame


def _events(
    parts: dict[str, int],
    classes: int,
    shape: tuple[int, ...],
    microseconds: int,
    write: Callable[[str, int, int, list[Event]], None],
) -> Parts:
    """Each part's recordings, written by `write(part, number, class, events)`, and their frames."""
    out = {}
    for part, count in parts.items():
        labels = np.arange(count) * classes // count
        all_events = [recording(1000 * len(part) + n, shape, microseconds) for n in range(count)]
        for number, (label, events) in enumerate(zip(labels, all_events, strict=True)):
            write(part, number, int(label), events)
        out[part] = (np.stack([binned(e, shape, microseconds) for e in all_events]), labels)
    return out


def bin_bytes(events: list[Event]) -> bytes:
    """N-MNIST's 40 bits: x, y, polarity, time; once time has more than 16 bits, by overflow marks."""
    out, marks = b"", 0
    for time, polarity, y, x in events:
        while time - marks * 8192 > 1 << 17:
            marks += 1
            out += bytes((0, 240)) + max(0, time - marks * 8192 - 8192).to_bytes(3, "big")
        out += bytes((x, y)) + (polarity << 23 | time - marks * 8192).to_bytes(3, "big")
    return out


def nmnist(root: Path) -> Parts:
    def write(part: str, number: int, label: int, events: list[Event]) -> None:
        path = root / "NMNIST" / part.title() / str(label) / f"{number:05}.bin"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(bin_bytes(events))

    return _events({"train": TRAIN, "test": TEST}, 6, (2, 34, 34), 300_000, write)


def dvs_gesture(root: Path) -> Parts:
    """Eleven recordings of each user; clocks that start at 40 ms."""

    def write(part: str, number: int, label: int, events: list[Event]) -> None:
        user = root / "DVSGesture" / f"ibmGesture{part.title()}" / f"user{number // 11:02}_led"
        user.mkdir(parents=True, exist_ok=True)
        rows = [(x, y, polarity, time // 1000 + 40) for time, polarity, y, x in events]
        np.save(user / f"{label}.npy", np.array(rows, np.float64))

    return _events({"train": 11, "test": 11}, 11, (2, 128, 128), 1_500_000, write)


def heidelberg(root: Path, name: str, parts: dict[str, str], classes: int) -> Parts:
    """`parts`: the word of a part in the file's name."""
    stored: dict[str, list[tuple[int, list[Event]]]] = {part: [] for part in parts}

    def write(part: str, number: int, label: int, events: list[Event]) -> None:
        stored[part].append((label, events))

    sizes = {part: TRAIN if part == "train" else TEST for part in parts}
    out = _events(sizes, classes, (700,), 1_400_000, write)
    (root / name).mkdir(parents=True)
    for part, word in parts.items():
        with h5py.File(root / name / f"{name.lower()}_{word}.h5", "w") as file:
            file["labels"] = np.array([label for label, _ in stored[part]], np.uint16)
            lists = {
                "times": (np.float64, [[e[0] / 1e6 + 1e-7 for e in r] for _, r in stored[part]]),
                "units": (np.uint16, [[e[1] for e in r] for _, r in stored[part]]),
            }
            for key, (dtype, rows) in lists.items():
                made = file.create_dataset(f"spikes/{key}", (len(rows),), h5py.vlen_dtype(dtype))
                for number, row in enumerate(rows):
                    made[number] = np.array(row, dtype)
    return out


def shd(root: Path) -> Parts:
    return heidelberg(root, "SHD", {"train": "train", "test": "test"}, 20)


def ssc(root: Path) -> Parts:
    words = {"train": "train", "validation": "valid", "test": "test"}
    return heidelberg(root, "SSC", words, 35)


def pictures(root: Path) -> Parts:
    """Images by class, as torchvision's ImageFolder reads them: grey ones become red, green and blue."""
    rng, parts = np.random.default_rng(0), {}
    for part, count in (("train", TRAIN), ("test", TEST)):
        pixels, labels = (
            rng.integers(0, 256, (count, 6, 5), np.uint8),
            np.arange(count) * 2 // count,
        )
        for number, (image, label) in enumerate(zip(pixels, labels, strict=True)):
            path = root / part / ("cat", "dog")[label] / f"{number:03}.png"
            path.parent.mkdir(parents=True, exist_ok=True)
            Image.fromarray(image).save(path)
        x = np.repeat(pixels[:, None], 3, 1).astype(np.float32) / np.float32(255)
        parts[part] = (x, labels)
    return parts


@dataclass(frozen=True)
class Format:
    """How a data set is written, and what must be said of the folder."""

    write: Callable[[Path], Parts]
    said: str
    folder: str
    """Its own folder below the root."""


FORMATS = {
    "mnist": Format(mnist, "mnist as torchvision keeps it", "MNIST"),
    "fashion_mnist": Format(fashion_mnist, "fashion_mnist as torchvision keeps it", "FashionMNIST"),
    "cifar10": Format(cifar10, "cifar10 as torchvision keeps it", "cifar-10-batches-py"),
    "nmnist": Format(nmnist, "nmnist as tonic keeps it", "NMNIST"),
    "dvs_gesture": Format(dvs_gesture, "dvs_gesture as tonic keeps it", "DVSGesture"),
    "shd": Format(shd, "shd as tonic keeps it", "SHD"),
    "ssc": Format(ssc, "ssc as tonic keeps it", "SSC"),
    "images": Format(pictures, "images by class, as torchvision's ImageFolder reads them", ""),
}
