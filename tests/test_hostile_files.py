"""Checkpoints, arrays, votes and texts made to harm, or damaged: each ends in an error of its reader."""

from __future__ import annotations

import io
import json
import os
import pickle
import random
import shutil
import stat
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from spikeship.hw_targets.energy.device_files import DeviceError, load_device
from spikeship.hw_targets.npy import ArrayFileError, read_npy, read_npz
from spikeship.hw_targets.printed import clean, table
from spikeship.hw_targets.simulate import cache
from spikeship.models import training
from spikeship.models.archive import ArchiveError, read_archive
from spikeship.models.checkpoints import read, read_last, write
from spikeship.pipeline.robustness.certificates.votes import _stored

from cli import text

CONTENT = {
    "weights": {"a": torch.arange(6.0).reshape(2, 3).T, "b": torch.zeros(0), "c": torch.tensor(3)},
    "numbers": [1, 2.5, None, True, -(10**12), "ü"],
    "nested": ({"x": (1, 2)}, torch.ones(2, dtype=torch.bool)),
}


class Runs:
    """What a pickle is that runs a command when it is loaded."""

    def __reduce__(self) -> Any:
        return os.mkdir, ("harm",)


def saved(folder: Path, content: Any = CONTENT, **how: Any) -> Path:
    torch.save(content, folder / "file.pt", **how)
    return folder / "file.pt"


def scripted(folder: Path) -> Path:
    class Writes(torch.nn.Module):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return x

    torch.jit.script(Writes()).save(str(folder / "file.pt"))
    return folder / "file.pt"


def entries(
    folder: Path, change: Callable[[dict[str, bytes]], Any], kind: int = zipfile.ZIP_STORED
) -> Path:
    """A saved file whose entries are changed."""
    path = saved(folder)
    with zipfile.ZipFile(path) as file:
        parts = {info.filename.partition("/")[2]: file.read(info) for info in file.infolist()}
    change(parts)
    with zipfile.ZipFile(path, "w", kind) as file:
        for name, content in parts.items():
            file.writestr(f"file/{name}", content)
    return path


def pickled(folder: Path, content: bytes) -> Path:
    return entries(folder, lambda parts: parts.update({"data.pkl": content}))


BAD_ARCHIVES: dict[str, tuple[Callable[[Path], Path], str]] = {
    "TorchScript": (scripted, "an archive of TorchScript, which is a program"),
    "TorchScript in a state dict's clothes": (
        lambda f: entries(f, lambda p: p.update({"constants.pkl": b""})),
        "TorchScript",
    ),
    "a command": (lambda f: saved(f, {"a": Runs()}), "refers to posix.mkdir"),
    "a module": (lambda f: saved(f, torch.nn.Linear(2, 2)), r"refers to .*Linear|instruction"),
    "an instruction": (
        lambda f: pickled(f, pickle.dumps(Runs(), 0)),
        "instruction .*no plain data",
    ),
    "memory by memo": (
        lambda f: pickled(f, b"\x80\x02}r\xff\xff\xff\x7f."),
        "skips places of its memo",
    ),
    "endless depth": (
        lambda f: pickled(f, b"\x80\x02" + b"]" * 3 + b"a" * 2 + b"(" * 10 + b"."),
        "damaged",
    ),
    "no end": (lambda f: pickled(f, b"\x80\x02}"), "damaged"),
    "a storage that is too small": (
        lambda f: entries(f, lambda p: p.update({"data/0": bytes(8)})),
        "storage 0 has 8 bytes, not 6",
    ),
    "no storage": (lambda f: entries(f, lambda p: p.pop("data/0")), "damaged"),
    "compressed": (lambda f: entries(f, lambda p: None, zipfile.ZIP_DEFLATED), "is compressed"),
    "another entry": (
        lambda f: entries(f, lambda p: p.update({"../x": b""})),
        "torch.save does not write",
    ),
    "other byte order": (
        lambda f: entries(f, lambda p: p.update({"byteorder": b"big"})),
        "byte order",
    ),
    "expanded tensor": (
        lambda f: saved(f, torch.zeros(1).expand(10**6)),
        r"save it with .contiguous",
    ),
    "before torch 1.6": (
        lambda f: saved(f, _use_new_zipfile_serialization=False),
        "no archive of torch.save",
    ),
    "no archive": (lambda f: Path(shutil.copy(__file__, f)), "no archive of torch.save"),
}


@pytest.mark.parametrize("name", BAD_ARCHIVES)
def test_bad_archive(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    make, message = BAD_ARCHIVES[name]
    with pytest.raises(ArchiveError, match=message):
        read_archive(make(tmp_path))
    assert not Path("harm").exists()


def test_archive_as_torch_reads_it(tmp_path: Path) -> None:
    path = saved(tmp_path)
    ours, theirs = read_archive(path), torch.load(path, weights_only=True)
    assert ours["numbers"] == theirs["numbers"]
    assert all(torch.equal(ours["weights"][k], theirs["weights"][k]) for k in theirs["weights"])
    assert torch.equal(ours["nested"][1], theirs["nested"][1])


def test_damaged_archives(tmp_path: Path) -> None:
    """300 mutations: an error, or what was stored."""
    path, rng = saved(tmp_path), random.Random(0)
    whole, refused = path.read_bytes(), 0
    for _ in range(300):
        content = bytearray(whole)
        for _ in range(rng.choice([1, 2, 8])):
            content[rng.randrange(len(content))] = rng.randrange(256)
        path.write_bytes(content[: rng.choice([len(content), rng.randrange(len(content))])])
        try:
            assert read_archive(path)["numbers"] == CONTENT["numbers"]
        except ArchiveError:
            refused += 1
    assert refused > 200


@pytest.mark.slow
@pytest.mark.parametrize("value", [None, "x", -1, 1e300, [], {}, [1, 2], float("nan"), 10**12])
def test_damaged_settings(value: Any, trained: Path, tmp_path: Path) -> None:
    """Every setting with a value that is none: an error that names the file, or a setting that is."""
    stored = read(trained / "snn/best.ckpt")
    settings = stored["hyper_parameters"]["settings"]
    path, said = tmp_path / "best.ckpt", []
    for name in settings:
        write({**stored, "hyper_parameters": {"settings": {**settings, name: value}}}, path)
        try:
            training.load(path)
        except ValueError as error:
            said.append(str(error))
    assert said
    assert all(message.startswith(f"{path}: ") for message in said)


@pytest.mark.parametrize(
    "key", ["epoch", "global_step", "score", "state_dict", "optimizer", "schedule", "generators"]
)
def test_damaged_last(key: str, tmp_path: Path) -> None:
    kinds = {"epoch": 0, "global_step": 0, "score": 0.5}
    names = ("hyper_parameters", "state_dict", "optimizer", "schedule", "generators")
    content = {**kinds, **{name: {} for name in names}}
    path = tmp_path / "last.ckpt"
    write({**content, key: "x"}, path)
    with pytest.raises(ValueError, match=rf"damaged \({key} is str\).*To train anew, delete"):
        read_last(path)


# -- arrays --------------------------------------------------------------------------------------


def npy(header: str, content: bytes = b"") -> bytes:
    text = header.encode()
    return b"\x93NUMPY\x01\x00" + len(text).to_bytes(2, "little") + text + content


def npz(*names: str) -> bytes:
    file = io.BytesIO()
    with zipfile.ZipFile(file, "w") as archive:
        for name in names:
            archive.writestr(
                name, npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(4))
            )
    return file.getvalue()


ARRAYS = {
    "empty": (b"", "."),
    "begins as a zip archive": (b"PK\x03\x04 and no more", "several arrays"),
    "a huge shape": (
        npy("{'descr': '<f8', 'fortran_order': False, 'shape': (1000000, 1000000)}"),
        "but it has 0",
    ),
    "a negative shape": (npy("{'descr': '<f8', 'fortran_order': False, 'shape': (-1,)}"), "shape"),
    "an endless header": (npy("{'descr': '<f8', 'shape': ("), "."),
    "a header of code": (npy("__import__('os').mkdir('harm')"), "."),
    "a header of bytes": (npy("\0\x01"), "."),
    "objects": (
        npy("{'descr': '|O', 'fortran_order': False, 'shape': (1,)}", pickle.dumps(Runs())),
        "Python objects",
    ),
    "a version of tomorrow": (b"\x93NUMPY\x09\x00" + bytes(20), "version"),
    "more bytes than it says": (
        npy("{'descr': '<f4', 'fortran_order': False, 'shape': (1,)}", bytes(9)),
        "but it has 9",
    ),
}


@pytest.mark.parametrize("name", ARRAYS)
def test_bad_npy(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    content, message = ARRAYS[name]
    Path("x.npy").write_bytes(content)
    with pytest.raises(ArrayFileError, match=message):
        read_npy("x.npy")
    with zipfile.ZipFile("x.npz", "w") as archive:
        archive.writestr("x.npy", content)
    with pytest.raises(ArrayFileError, match="x: "):
        read_npz("x.npz")
    assert not Path("harm").exists()


@pytest.mark.filterwarnings("ignore:Duplicate name")
@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"PK\x03\x04 and no more", "damaged"),
        (b"text", r"no \.npz file"),
        (["a.npy", "a.npy"], "there twice"),
        (["a.txt"], "no array"),
        ([f"{i}.npy" for i in range(1001)], "1001 arrays, more than 1000"),
    ],
)
def test_bad_npz(content: bytes | list[str], message: str, tmp_path: Path) -> None:
    (tmp_path / "x.npz").write_bytes(content if isinstance(content, bytes) else npz(*content))
    with pytest.raises(ArrayFileError, match=message):
        read_npz(tmp_path / "x.npz")


def test_arrays_as_numpy_reads_them(tmp_path: Path) -> None:
    arrays = {
        "a": np.arange(6).reshape(2, 3),
        "b": np.asfortranarray(np.ones((2, 3, 4), "f4")),
        "c": np.array("text"),
        "d": np.zeros((0, 3)),
        "e": np.array(3),
    }
    np.savez_compressed(tmp_path / "x.npz", **arrays)
    got = read_npz(tmp_path / "x.npz")
    assert list(got) == list(arrays)
    for name, array in arrays.items():
        np.save(tmp_path / "x.npy", array)
        for read_again in (got[name], read_npy(tmp_path / "x.npy")):
            np.testing.assert_array_equal(read_again, array, strict=True)
            assert read_again.flags["F_CONTIGUOUS"] == array.flags["F_CONTIGUOUS"]
    with pytest.raises(ArrayFileError, match="give max_bytes="):
        read_npz(tmp_path / "x.npz", max_bytes=100)


# -- the rest ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("chosen", "votes", "message"),
    [
        ([0], [[3, 0, 0]], "votes of an image are not 10 in all"),
        ([0], [[12, -2, 0]], "not 10 in all"),
        ([2], [[10, 0, 0]], "classes that do not exist"),
        ([-1], [[10, 0, 0]], "classes that do not exist"),
        ([0], [[10, 0]], "damaged"),
        ([0, 1], [[10, 0, 0]], "damaged"),
        ([None], [[10, 0, 0]], "damaged"),
        ([0], [[10**30, 0, 0]], "damaged"),
        ([0], "x", "damaged"),
    ],
)
def test_stored_votes_are_checked(chosen: Any, votes: Any, message: str, tmp_path: Path) -> None:
    path = tmp_path / "votes.json"
    path.write_text(json.dumps({"identity": {"n": 10}, "chosen": chosen, "votes": votes}))
    with pytest.raises(ValueError, match=message) as error:
        _stored(path, {"n": 10}, (1, 3), 10)
    assert "delete it, and it is made again" in str(error.value)


def test_votes_that_are_sound(tmp_path: Path) -> None:
    path = tmp_path / "votes.json"
    path.write_text(json.dumps({"identity": {"n": 10}, "chosen": [1], "votes": [[3, 6, 1]]}))
    ((chosen, counted),) = _stored(path, {"n": 10}, (1, 3), 10)
    assert (chosen, counted.tolist()) == (1, [3, 6, 1])


@pytest.mark.parametrize("content", [b"\xff\xfe", b"a = " + b"[" * 5000, b"\0", b"a = '\x1b'"])
def test_bad_toml(content: bytes, tmp_path: Path) -> None:
    (tmp_path / "device.toml").write_bytes(content)
    with pytest.raises(DeviceError, match=r"device\.toml: not "):
        load_device(tmp_path / "device.toml")


def test_no_control_characters_reach_the_terminal(tmp_path: Path) -> None:
    odd = "a\x1b[31mb\x07\x9b\u202e\udcff\r\nc"
    assert clean(odd) == "a\\x1b[31mb\\x07\\x9b\\u202e\\udcff\\r\nc"
    assert clean("grüße, 日本\t") == "grüße, 日本\t"
    assert table(odd, ["x"], [[odd]]).columns[0]._cells == [clean(odd)]
    assert "\x1b" not in text("inspect", tmp_path / odd.replace("\udcff", ""), status=3)


READ_ONLY = """
import numpy as np
from spikeship.hw_targets import Dense, Network, simulate
print(simulate(Network([Dense(np.array([[2, 4]]))]), np.ones((1, 3, 2), int)).counts)
"""


@pytest.mark.slow
def test_engine_without_a_writable_place(tmp_path: Path) -> None:
    """As in containers: numba finds no place of its own."""
    code = f"""
import os, pathlib, numba.core.caching as c
from spikeship.hw_targets.simulate import cache
c.CacheImpl._locator_classes = c.CacheImpl._locator_classes[:1]  # NUMBA_CACHE_DIR alone
os.environ.pop('NUMBA_CACHE_DIR', None)
import tempfile; tempfile.tempdir = {str(tmp_path)!r}
cache._usable = lambda folder: False
assert cache.ensure_cache().is_dir()
{READ_ONLY}"""
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert ran.returncode == 0, ran.stderr
    assert "is kept in" in " ".join(ran.stderr.split())
    assert any(tmp_path.glob("spikeship-numba-*/**/*.nbi"))


def test_cache_is_nobody_elses(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What lies in it is run: a folder that others may write, or a link, is not taken."""
    monkeypatch.setattr("tempfile.tempdir", str(tmp_path))
    first = cache._own_folder()
    assert stat.S_IMODE(first.stat().st_mode) == 0o700
    assert cache._own_folder() == first
    first.chmod(0o777)
    assert cache._own_folder() != first
    first.rmdir()
    (tmp_path / "theirs").mkdir()
    first.symlink_to(tmp_path / "theirs")
    assert cache._own_folder() != first


def test_cache_of_ones_own_stays(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("NUMBA_CACHE_DIR", str(tmp_path))
    assert cache.ensure_cache() is None
    monkeypatch.delenv("NUMBA_CACHE_DIR")
    monkeypatch.setattr(cache, "_usable", lambda folder: True)
    assert cache.ensure_cache() is None
