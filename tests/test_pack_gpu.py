"""What is packed for a machine with a GPU: unpacked in an empty folder, it runs."""

from __future__ import annotations

import importlib.util
import json
import os
import shutil
import subprocess
import sys
from pathlib import Path
from types import ModuleType

import numpy as np
import pytest

REPOSITORY = Path(__file__).parents[1]
SCRIPT = REPOSITORY / "tools" / "pack_gpu.py"
PIECE = 300_000


@pytest.fixture(scope="module")
def script() -> ModuleType:
    spec = importlib.util.spec_from_file_location("pack_gpu", SCRIPT)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture(scope="module")
def packed(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """The pieces, without others' wheels, and the data that are in them."""
    folder = tmp_path_factory.mktemp("pack")
    (folder / "none").mkdir()
    data = folder / "images.bin"
    data.write_bytes(np.random.default_rng(0).bytes(1_000_001))
    words = [SCRIPT, folder / "out", "--data", data, "--wheels", folder / "none", "--piece", PIECE]
    subprocess.run([sys.executable, *map(str, words)], check=True, cwd=folder)
    return folder / "out", data


def unpack(packed: Path, empty: Path) -> subprocess.CompletedProcess[str]:
    shutil.copytree(packed, empty)
    environment = {**os.environ, "PYTHON": sys.executable}
    environment.pop("PYTHONPATH", None)
    return subprocess.run(
        ["sh", empty / "unpack"],
        check=False,
        cwd=empty.parent,
        env=environment,
        capture_output=True,
        text=True,
    )


@pytest.mark.slow
def test_unpacked_in_an_empty_folder_it_runs(packed: tuple[Path, Path], tmp_path: Path) -> None:
    out, data = packed
    pieces = sorted(out.glob("piece-*"))
    assert len(pieces) > 4
    assert all(piece.stat().st_size == PIECE for piece in pieces[:-1])
    empty = tmp_path / "empty"
    done = unpack(out, empty)
    assert done.returncode == 0, done.stderr
    assert "Ready: PYTHONPATH=site" in done.stdout
    assert (empty / "data" / data.name).read_bytes() == data.read_bytes()
    words = ["-m", "spikeship.benchmarks.gpu", "--cpu-rehearsal", "--only", "energy"]
    environment = {**os.environ, "PYTHONPATH": "site"}
    subprocess.run(
        [sys.executable, *words], cwd=empty, env=environment, check=True, capture_output=True
    )
    stored = json.loads((empty / "benchmarks/results/gpu.json").read_text())
    assert stored["cells"]["energy integers 1"]["seconds"] > 0
    where = "import spikeship.benchmarks as b; print(b.__file__)"
    said = subprocess.run(
        [sys.executable, "-c", where],
        cwd=empty,
        env=environment,
        check=True,
        capture_output=True,
        text=True,
    )
    assert said.stdout.startswith(str(empty / "site")) or said.stdout.startswith("site")


@pytest.mark.slow
def test_a_damaged_piece_is_refused(packed: tuple[Path, Path], tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    shutil.copytree(packed[0], broken)
    piece = broken / "piece-001"
    piece.write_bytes(piece.read_bytes()[:-1] + b"?")
    done = unpack(broken, tmp_path / "empty")
    assert done.returncode == 1
    assert "A piece is missing or damaged: copy it again." in done.stderr
    assert not (tmp_path / "empty" / "wheels").exists()


def test_only_what_is_not_there_is_packed(script: ModuleType) -> None:
    """With its bounds, and what the packages need themselves; markers are those of that Python."""
    needed = {requirement.name: str(requirement.specifier) for requirement in script.needed("3.11")}
    assert {
        "h5py",
        "numba",
        "llvmlite",
        "nir",
        "norse",
        "lightning",
        "torchmetrics",
        "nvidia-ml-py",
        "rich",
        "typer",
    } <= set(needed)
    assert not {
        "torch",
        "torchvision",
        "triton",
        "numpy",
        "lava-nc",
        "lava-dl",
        "pytest",
        "tomli",
    } & set(needed)
    assert [name for name in needed if name.startswith("nvidia-")] == ["nvidia-ml-py"]
    assert (needed["norse"], needed["nirtorch"]) == (">=1.1", ">=2.0")
    assert "tomli" in {requirement.name for requirement in script.needed("3.10")}
    assert script.PIECE < 30_000_000


def test_nothing_is_overwritten_or_missing(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    for words, says in (
        ([tmp_path / "full"], "full is not empty: give another folder."),
        ([tmp_path / "new", "--data", tmp_path / "absent"], "absent: no such file."),
    ):
        done = subprocess.run(
            [sys.executable, SCRIPT, *words], check=False, capture_output=True, text=True
        )
        assert done.returncode == 1
        assert says in done.stderr
    assert not (tmp_path / "new").exists()
