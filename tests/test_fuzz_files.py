"""The fuzzer of readers: it counts what becomes of files, and keeps those that are faults."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from spikeship.benchmarks import fuzz_files
from spikeship.benchmarks.fuzz_files import Reader, batch

from cli import call


def _refused(path: Path) -> None:
    raise KeyError(path.name)


def _broken(path: Path) -> None:
    raise IndexError("out of range")


def _dies(path: Path) -> None:
    os.kill(os.getpid(), signal.SIGKILL)


@pytest.mark.parametrize(
    ("read", "is_hdf5", "said"),
    [
        (lambda path: None, False, "read"),
        (_refused, False, "refused"),
        (_broken, False, "IndexError: out of range"),
        (_dies, False, "crashed (SIGKILL)"),
        (_dies, True, "contained"),
    ],
    ids=["read", "refused", "broken", "dies", "dies in libhdf5"],
)
def test_what_becomes_of_a_file(
    tmp_path: Path, read: Callable[[Path], None], is_hdf5: bool, said: str
) -> None:
    reader = Reader(lambda: [b"x"], read, (KeyError,), is_hdf5)
    assert batch(reader, [tmp_path / "a", tmp_path / "b"]) == [said, said]


def test_a_fault_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    readers = {"broken": Reader(lambda: [b"content of a file"], _broken, ())}
    monkeypatch.setattr(fuzz_files, "_readers", lambda: readers)
    done = call("--minutes", 0, "--out", tmp_path / "fuzz", of=fuzz_files.app)
    assert done.exit_code == 1
    stored = json.loads((tmp_path / "fuzz/fuzz_files.json").read_text())
    assert stored["readers"] == {"broken": {"faults": fuzz_files.BATCH}}
    first = stored["faults"][0]
    assert first["says"] == "IndexError: out of range"
    assert (tmp_path / "fuzz" / first["file"]).is_file()


@pytest.mark.slow
def test_readers_refuse_or_read(tmp_path: Path) -> None:
    done = call("--minutes", 0, "--out", tmp_path / "fuzz", of=fuzz_files.app)
    assert done.exit_code == 0, done.stdout
    stored = json.loads((tmp_path / "fuzz/fuzz_files.json").read_text())
    assert set(stored["readers"]) == {"netx", "nir", "checkpoint", "npy", "npz", "toml"}
    assert all(sum(said.values()) == fuzz_files.BATCH for said in stored["readers"].values())
