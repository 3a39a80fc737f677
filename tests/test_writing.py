"""Where files go: to the disk, through links and devices, or not at all, with nothing left behind."""

from __future__ import annotations

import errno
import os
import resource
import subprocess
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import torch

from spikeship.hw_targets import Dense, Network, read_netx, write_netx
from spikeship.hw_targets.files import WriteError, atomic_path, claimed, write_bytes
from spikeship.models import checkpoints
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.records import write_json

NETWORK = Network([Dense(np.arange(-2000, 2000).reshape(40, 100) % 200 - 100)])


def write_checkpoint(path: Path) -> None:
    checkpoints.write({"state_dict": {"weight": torch.zeros(5000)}}, path)


WRITERS: dict[str, Callable[[Path], None]] = {
    "netx": lambda path: write_netx(NETWORK, path),
    "json": lambda path: write_json({"numbers": list(range(5000))}, path),
    "bytes": lambda path: write_bytes(path, bytes(20_000)),
    "checkpoint": write_checkpoint,
}
writers = pytest.mark.parametrize("name", WRITERS)


def left(folder: Path) -> dict[str, bytes]:
    return {p.name: p.read_bytes() for p in folder.iterdir()}


@writers
@pytest.mark.parametrize("room", [0, 1, 100, 2048, 4096, 10_000])
@pytest.mark.parametrize("existing", [b"", b"old"])
def test_no_room(name: str, room: int, existing: bytes, tmp_path: Path) -> None:
    """A limit of the size of files, which libhdf5 met with a segmentation fault."""
    path = tmp_path / "file"
    path.write_bytes(existing)
    _, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (room, hard))
    try:
        with pytest.raises(WriteError, match=r"cannot be written .*make room") as error:
            WRITERS[name](path)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (hard, hard))
    assert str(error.value).startswith(f"{path}: ")
    assert left(tmp_path) == {"file": existing}


@writers
def test_folder_in_the_place_of_a_file(name: str, tmp_path: Path) -> None:
    (tmp_path / "file").mkdir()
    with pytest.raises(WriteError, match=r"a folder, where a file|cannot be written"):
        WRITERS[name](tmp_path / "file")
    assert [p.name for p in tmp_path.iterdir()] == ["file"]


@writers
@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_place_that_may_not_be_written(
    name: str, number: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*_: Any, **__: Any) -> Any:
        raise OSError(number, os.strerror(number))

    for what in ("tempfile.mkstemp", "torch.save"):
        monkeypatch.setattr(what, refused)
    with pytest.raises(WriteError, match=os.strerror(number)):
        WRITERS[name](tmp_path / "file")
    assert left(tmp_path) == {}


@pytest.mark.parametrize("name", ["netx", "json", "bytes"])
@pytest.mark.parametrize("exists", [True, False])
def test_links_are_followed(name: str, exists: bool, tmp_path: Path) -> None:
    (tmp_path / "real").mkdir()
    target, link = tmp_path / "real" / "file", tmp_path / "link"
    if exists:
        target.write_text("old")
    link.symlink_to(target)
    WRITERS[name](link)
    assert link.is_symlink()
    assert target.stat().st_size > 100
    assert [p.name for p in target.parent.iterdir()] == ["file"]


@pytest.mark.parametrize("name", ["netx", "json", "bytes"])
def test_devices_stay(name: str) -> None:
    WRITERS[name](Path("/dev/null"))
    assert Path("/dev/null").is_char_device()


def test_no_float_network_beside_a_device() -> None:
    deployed = Deployed(NETWORK, nir.NIRGraph({}, [], type_check=False))
    deployed.save("/dev/null")
    assert Path("/dev/null").is_char_device()
    assert not Path("/dev/null.nir").exists()


@pytest.mark.parametrize("name", ["netx", "json", "bytes"])
def test_pipes_get_the_bytes(name: str, tmp_path: Path) -> None:
    pipe, got = tmp_path / "pipe", []
    os.mkfifo(pipe)
    reader = threading.Thread(target=lambda: got.append(pipe.read_bytes()))
    reader.start()
    WRITERS[name](pipe)
    reader.join(20)
    assert len(got[0]) > 100
    assert pipe.is_fifo()
    assert [p.name for p in tmp_path.iterdir()] == ["pipe"]


def test_standard_output() -> None:
    code = "from spikeship.hw_targets.files import write_bytes; write_bytes('/dev/stdout', b'all of it')"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, check=True)
    assert ran.stdout == b"all of it"


def test_permissions_stay(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o640)
    write_bytes(path, b"new")
    assert path.stat().st_mode & 0o777 == 0o640


@pytest.mark.skipif(os.geteuid() == 0, reason="root may write everything")
def test_read_only_file(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("old")
    path.chmod(0o440)
    with pytest.raises(WriteError, match="may not be written"):
        write_bytes(path, b"new")
    assert path.read_text() == "old"


CLAIM = """
import sys
from spikeship.hw_targets.files import claimed
try:
    with claimed(sys.argv[1], folder=sys.argv[2] == "True"):
        print("ours")
except OSError as error:
    print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("folder", [False, True])
def test_two_processes(folder: bool, tmp_path: Path) -> None:
    """The second says so; when the first is done, also killed, the next one goes on."""
    path = tmp_path / "out"

    def other() -> str:
        command = [sys.executable, "-c", CLAIM, str(path), str(folder)]
        return subprocess.run(command, capture_output=True, text=True, check=True).stdout

    with claimed(path, folder=folder):
        assert "another process is writing it" in other()
    assert left(path if folder else tmp_path) == {}
    (path / ".lock" if folder else tmp_path / ".out.lock").touch()  # a killed process leaves it
    assert other() == "ours\n"
    assert left(path if folder else tmp_path) == {}


def test_written_whole(tmp_path: Path) -> None:
    write_netx(NETWORK, tmp_path / "a.net")
    assert read_netx(tmp_path / "a.net") == NETWORK
    with pytest.raises(KeyError), atomic_path(tmp_path / "b"):
        raise KeyError
    assert [p.name for p in tmp_path.iterdir()] == ["a.net"]
