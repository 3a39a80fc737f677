"""HDF5 files made to harm, or damaged: each ends in an error, and reads nothing but itself."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import h5py
import numpy as np
import pytest

from spikeship.hw_targets import hdf5
from spikeship.hw_targets.hdf5 import Group, Hdf5Error, Limits, Unread, read_hdf5, reading
from spikeship.hw_targets.netx.file import NetxError, read_netx
from spikeship.pipeline.cli import screen
from spikeship.pipeline.frontends import from_nir
from spikeship.pipeline.frontends.nir_file import NIRFileError
from spikeship.pipeline.graph import GraphError

from cli import text

GOLDEN = Path(__file__).parent / "golden"
NETX, NIR = GOLDEN / "phase_digits.net", GOLDEN / "nir" / "spikingjelly.nir"
Edit = Callable[[h5py.File, Path], Any]


def external_link(file: h5py.File, folder: Path) -> None:
    file["layer/2/weight"] = h5py.ExternalLink(str(NETX), "/layer/2/weight")


def link_to_pipe(file: h5py.File, folder: Path) -> None:
    os.mkfifo(folder / "pipe")
    file["layer/2/weight"] = h5py.ExternalLink(str(folder / "pipe"), "/x")


def soft_link(file: h5py.File, folder: Path) -> None:
    file["layer/2/weight"] = h5py.SoftLink("/layer/2/weight")


def group_in_itself(file: h5py.File, folder: Path) -> None:
    file["layer/2/again"] = file["layer"]


def external_storage(file: h5py.File, folder: Path) -> None:
    (folder / "secret").write_bytes(bytes(4000))
    space = h5py.h5s.create_simple((10, 100))
    settings = h5py.h5p.create(h5py.h5p.DATASET_CREATE)
    settings.set_external(str(folder / "secret").encode(), 0, 4000)
    h5py.h5d.create(file["layer/2"].id, b"weight", h5py.h5t.IEEE_F32LE, space, settings)


def virtual(file: h5py.File, folder: Path, source: str | None = None) -> None:
    layout = h5py.VirtualLayout((10, 32), "f4")
    layout[:] = h5py.VirtualSource(source or str(NETX), "layer/2/weight", (10, 32))
    file.create_virtual_dataset("layer/2/weight", layout)


def virtual_of_itself(file: h5py.File, folder: Path) -> None:
    virtual(file, folder, ".")


def huge(file: h5py.File, folder: Path) -> None:
    file["layer/2"].create_dataset("weight", (1 << 20, 1 << 12), "f8")


def huge_chunk(file: h5py.File, folder: Path) -> None:
    chunks = (1 << 12, 1 << 15)
    file["layer/2"].create_dataset("weight", (10, 32), "f4", chunks=chunks, maxshape=(None, None))


def other_filter(file: h5py.File, folder: Path) -> None:
    file["layer/2"].create_dataset("weight", data=np.ones((10, 32)), scaleoffset=3)


def deep(file: h5py.File, folder: Path) -> None:
    file["layer/2/" + "/".join("x" * 100)] = 1


def many_attributes(file: h5py.File, folder: Path) -> None:
    for i in range(1001):
        file["spikeship"].attrs[f"a{i}"] = i


def huge_attribute(file: h5py.File, folder: Path) -> None:
    file["spikeship"].attrs["a"] = h5py.Empty("f4")


HOSTILE: dict[str, tuple[Edit, str]] = {
    "external link": (external_link, "/layer/2/weight is an external link"),
    "external link to a pipe": (link_to_pipe, "is an external link"),
    "soft link to itself": (soft_link, "is a soft link"),
    "group in itself": (group_in_itself, "second name of a group"),
    "external storage": (external_storage, "lies in another file"),
    "virtual data set": (virtual, "is a virtual data set"),
    "virtual data set of itself": (virtual_of_itself, "is a virtual data set"),
    "32 GiB in some kB": (huge, "cannot hold"),
    "a chunk of 512 MiB": (huge_chunk, "a chunk of /layer/2/weight would be"),
    "filter of bad repute": (other_filter, "has filter 6; only gzip"),
    "100 groups deep": (deep, "nested more than 64"),
    "1001 attributes": (many_attributes, "attributes, more than 1000"),
    "an attribute of nothing": (huge_attribute, "has a, which does not belong there"),
}


def hostile(name: str, folder: Path) -> Path:
    path = folder / "bad.net"
    path.write_bytes(NETX.read_bytes())
    with h5py.File(path, "a") as file:
        if "layer/2/weight" in file:
            del file["layer/2/weight"]
        HOSTILE[name][0](file, folder)
    return path


@pytest.mark.parametrize("name", HOSTILE)
def test_refused(name: str, tmp_path: Path) -> None:
    """Before libhdf5 follows or allocates anything, hence in this process, too."""
    path = hostile(name, tmp_path)
    with pytest.raises(NetxError, match=HOSTILE[name][1]) as error:
        read_netx(path)
    assert str(error.value).startswith(f"{path}: ")


@pytest.mark.slow
@pytest.mark.parametrize("name", HOSTILE)
def test_refused_by_the_other_process(name: str, tmp_path: Path) -> None:
    with pytest.raises(NetxError, match=HOSTILE[name][1]):
        read_netx(hostile(name, tmp_path), safe=True)


def test_many_objects(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(hdf5, "MAX_OBJECTS", 20)
    with pytest.raises(Hdf5Error, match="more than 20 groups and data sets"):
        read_hdf5(NETX)


def test_limit_can_be_raised(tmp_path: Path) -> None:
    path = tmp_path / "zeros.h5"
    with h5py.File(path, "w") as file:
        file.create_dataset("zeros", data=np.zeros(1 << 20), compression="gzip")
    with pytest.raises(Hdf5Error, match=r"give max_bytes=8388608 or more"):
        read_hdf5(path, max_bytes=1 << 20)
    with reading(max_bytes=1 << 23):
        assert read_hdf5(path).get("zeros").shape == (1 << 20,)
    with pytest.raises(ValueError, match="max_bytes = 0"):
        read_hdf5(path, max_bytes=0)


@pytest.mark.slow
@pytest.mark.parametrize("path", [NETX, NIR, GOLDEN / "tiny.net"], ids=lambda path: path.name)
def test_both_ways_read_the_same(path: Path) -> None:
    assert comparable(read_hdf5(path, safe=True)) == comparable(read_hdf5(path))


def comparable(member: Any) -> Any:
    if isinstance(member, Group):
        return [
            {n: comparable(m) for n, m in part.items()} for part in (member.members, member.attrs)
        ]
    if isinstance(member, np.ndarray):
        return (member.dtype.str, member.shape, member.tobytes())
    return member


def test_what_is_neither_numbers_nor_text(tmp_path: Path) -> None:
    path = tmp_path / "odd.h5"
    with h5py.File(path, "w") as file:
        file["complex"] = np.ones(2, complex)
        file["record"] = np.zeros(2, [("a", "f4")])
        file["latin"] = np.bytes_(b"\xe9")
        file["bool"] = np.array([True])
        file.create_dataset("ragged", (2,), h5py.vlen_dtype("f4"))
        file["text"] = "ü"
    members = read_hdf5(path).members
    unread = {name for name, member in members.items() if isinstance(member, Unread)}
    assert unread == {"complex", "record", "latin", "ragged"}
    assert members["text"] == "ü"
    assert members["bool"].dtype == bool


def flipped(folder: Path, source: Path, *edits: tuple[int, int]) -> Path:
    content = bytearray(source.read_bytes())
    for offset, value in edits:
        content[offset] = value
    path = folder / f"flipped{source.suffix}"
    path.write_bytes(content)
    return path


WORKERS = {
    "loops": ("while True: pass", "was not done with it after 1 s"),
    "crashes": ("import os, signal; os.kill(os.getpid(), signal.SIGSEGV)", r"crashed \(SIGSEGV\)"),
    "ends": ("raise SystemExit(3)", "ended while it was read"),
    "says nonsense": ("print('x' * 100)", "ended while it was read"),
    "says too much": ("print(f'{10 ** 18:20d} {5:20d}')", "ended while it was read"),
    "says a shape that is not there": (
        'said = \'{"members": {"a": {"dtype": "<f8", "shape": [9]}}, "attrs": {}}\'; '
        "print(f'{len(said):20d} {0:20d}'); print(said, end='')",
        "was misled by it",
    ),
    "says an object": (
        'said = \'{"members": {"a": {"dtype": "|O8", "shape": []}}, "attrs": {}}\'; '
        "print(f'{len(said):20d} {0:20d}'); print(said, end='')",
        "was misled by it",
    ),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", WORKERS)
def test_whatever_becomes_of_the_other_process(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    code, message = WORKERS[name]
    monkeypatch.setattr(hdf5, "_START", code)
    monkeypatch.setattr(
        hdf5,
        "_LIMITS",
        SimpleNamespace(get=lambda: Limits(safe=True, seconds=1 if name == "loops" else 60)),
    )
    with pytest.raises(Hdf5Error, match=message):
        read_hdf5(NETX)


LOOPS = [(9920, 128), (9921, 17), (9937, 1), (9960, 132)]


@pytest.mark.slow
@pytest.mark.parametrize("edit", LOOPS, ids=str)
def test_loops_of_libhdf5_end(
    edit: tuple[int, int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One bit in the heap of strings of variable length; libhdf5 2.0 does not come back from these."""
    limits = Limits(safe=True, seconds=5)
    monkeypatch.setattr(hdf5, "_LIMITS", SimpleNamespace(get=lambda: limits))
    with pytest.raises(NetxError):
        read_netx(flipped(tmp_path, NETX, edit))


# -- NIR -----------------------------------------------------------------------------------------

Raw = dict[str, Any]


def edited_nir(folder: Path, edit: Callable[[h5py.Group], Any]) -> Path:
    path = folder / "bad.nir"
    path.write_bytes(NIR.read_bytes())
    with h5py.File(path, "a") as file:
        edit(file["node"])
    return path


def put(path: str, value: Any) -> Callable[[h5py.Group], Any]:
    def edit(node: h5py.Group) -> None:
        if path in node:
            del node[path]
        if value is not None:
            node[path] = value

    return edit


BAD_NIR: dict[str, tuple[Callable[[h5py.Group], Any], str]] = {
    "nodes are a number": (put("nodes", 3), "nodes is int64, no group"),
    "a node is a number": (put("nodes/_0", 3), "node _0 is int64, where a node is needed"),
    "a type of numbers": (put("nodes/_0/type", 3), "its type is 3, no text"),
    "no type": (put("nodes/_0/type", None), "node without type"),
    "edges are numbers": (put("edges", 3), "edges are pairs of names"),
    "edges of three": (put("edges", np.full((2, 3), b"a")), "edges are pairs of names"),
    "no edges": (put("edges", None), "has no edges"),
    "a text as weight": (put("nodes/_0/weight", "x"), "damaged, or not laid out as NIR|of numbers"),
    "a weight of one number": (put("nodes/_6/weight", 1.0), "not .out, in."),
    "an empty weight": (put("nodes/_6/weight", np.zeros((0, 12))), "is empty"),
    "a weight that is NaN": (put("nodes/_6/weight", np.full((12, 12), np.nan)), "NaN"),
    "stride 0": (put("nodes/_0/stride", [0, 0]), "all are 1 or more"),
    "stride of 3 axes": (put("nodes/_0/stride", [1, 1, 1]), "2, are needed"),
    "a text as stride": (put("nodes/_0/stride", "x"), "are needed"),
    "an endless stride": (put("nodes/_0/stride", np.inf), "it is a whole number"),
    "no groups": (put("nodes/_0/groups", 0), "a whole number from 1 on"),
    "an axis that is not there": (put("nodes/_5/start_dim", -9), "whole number from -3 on"),
    "input of nothing": (put("nodes/input_1/shape", [2, 0, 6]), "sizes are whole numbers"),
    "input of 10^12": (put("nodes/input_1/shape", [10**6, 10**6]), "sizes are whole numbers"),
    "input of text": (put("nodes/input_1/shape", "x"), "damaged, or not laid out as NIR|shape"),
    "windows of 10^9": (put("nodes/_0/padding", [10**5, 10**5]), "at most 16777216 neurons"),
    "metadata are a number": (put("metadata", 3), "metadata is int64, no group"),
    "a version of numbers": (lambda node: put("version", 3)(node.file), "version 3 is not known"),
    "pairs of complex numbers": (put("nodes/_0/bias", np.ones(4, complex)), "numbers are needed"),
}


@pytest.mark.slow
@pytest.mark.parametrize("name", BAD_NIR)
def test_bad_nir(name: str, tmp_path: Path) -> None:
    edit, message = BAD_NIR[name]
    path = edited_nir(tmp_path, edit)
    with pytest.raises((NIRFileError, GraphError), match=message):
        from_nir(path, dt=1e-4, reset="zero", reset_delay=0)


def test_many_edges_take_little_time(tmp_path: Path) -> None:
    """100,000 edges, twice 50,000 nodes that do not exist: quadratic, that would take an hour."""
    edges = np.array(
        [[b"_0", b"x%d" % i] for i in range(50_000)] + [[b"x%d" % i, b"_1"] for i in range(50_000)]
    )
    with pytest.raises(GraphError, match="and 99951 more") as error:
        from_nir(edited_nir(tmp_path, put("edges", edges)), dt=1e-4, reset="zero", reset_delay=0)
    assert len(str(error.value)) < 20_000


# -- the command line --------------------------------------------------------------------------


def test_commands_read_in_another_process_by_default() -> None:
    code = "from spikeship.pipeline.cli import screen; print(screen.SAFE)"
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert ran.stdout == "True\n"


@pytest.mark.slow
def test_command_line_reads_in_another_process(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(screen, "SAFE", True)
    monkeypatch.setattr(hdf5, "_START", WORKERS["crashes"][0])
    said = text("inspect", NETX, status=3)
    assert said.startswith(f"error: {NETX}: libhdf5 crashed (SIGSEGV)")


def test_limit_is_said_as_a_flag(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(screen, "SAFE", True)
    monkeypatch.setattr(
        hdf5, "_from_child", lambda path, granted: hdf5._Reader(path, granted.max_bytes).root()
    )
    assert "give --max-bytes 180 or more" in text("inspect", NETX, "--max-bytes", "100", status=3)


def test_other_process_imports_little() -> None:
    """Each read with `safe` pays for it."""
    code = "import runpy, sys, json; runpy.run_path(sys.argv[1]); print(json.dumps(sorted(sys.modules)))"
    ran = subprocess.run(
        [sys.executable, "-c", code, hdf5.__file__], capture_output=True, text=True, check=True
    )
    heavy = {"numba", "torch", "scipy", "rich", "typer", "spikeship", "nir"}
    assert not heavy & set(json.loads(ran.stdout))
