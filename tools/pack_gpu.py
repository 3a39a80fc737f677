#!/usr/bin/env python3
"""Pack what a machine with a GPU and no network needs to run `python -m spikeship.benchmarks.gpu`.

Usage: tools/pack_gpu.py OUT [--data FILE_OR_FOLDER] [--python 3.11] [--wheels FOLDER] [--piece BYTES]

OUT gets pieces below 30 MB, `unpack` and README.txt. That machine has Python, torch with CUDA, and for
training torchvision: those, numpy and NVIDIA's own libraries are left out, all else that
`spikeship[nir,train,gpu]` needs there is asked of pip, or taken from --wheels, and this repository is
built. There:

    sh unpack && PYTHONPATH=site python3 -m spikeship.benchmarks.gpu --data-root data
"""

from __future__ import annotations

import argparse
import hashlib
import io
import shutil
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Iterator
from importlib.metadata import PackageNotFoundError, requires
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]
EXTRAS = ("nir", "train", "gpu")
PIECE = 29_000_000
THERE = ("torch", "torchvision", "triton", "numpy", "setuptools")
"""What that machine has, or what its torch brought: never packed."""
PLATFORMS = ("manylinux_2_28_x86_64", "manylinux_2_17_x86_64", "manylinux2014_x86_64")

UNPACK = """#!/bin/sh
# Puts the pieces beside this file together and installs their wheels into the folder `site`.
# PYTHON=/path/to/python chooses the interpreter, which has torch.
set -eu
cd "$(dirname "$0")"
python=${PYTHON:-python3}
if ! sha256sum --check --quiet SHA256SUMS; then
    echo "A piece is missing or damaged: copy it again." >&2
    exit 1
fi
cat piece-* | tar -xf -
"$python" -m pip install --quiet --disable-pip-version-check --no-index --no-deps --upgrade \\
    --target site wheels/*.whl
if ! PYTHONPATH=site "$python" -c "import spikeship.benchmarks.gpu.run"; then
    echo "$python cannot run the benchmark: it needs torch and numpy." >&2
    exit 1
fi
echo "Ready: PYTHONPATH=site $python -m spikeship.benchmarks.gpu --data-root data"
"""
README = """For a machine with a GPU, Python {python} and torch with CUDA.

    sh unpack
    PYTHONPATH=site python3 -m spikeship.benchmarks.gpu --data-root data

The command takes less than nine minutes, and the same command goes on with what is left. Bring back
benchmarks/results/gpu.json and, to go on elsewhere, the folder runs.
"""


def needed(python: str) -> list[Requirement]:
    """What spikeship and its extras need on Linux with this Python, but for what is there.

    Direct requirements with their bounds; what these need as the packages installed here say it.
    """
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    texts = [*project["dependencies"]]
    for extra in EXTRAS:
        texts += project["optional-dependencies"][extra]
    environment = {
        "python_version": python,
        "python_full_version": f"{python}.0",
        "sys_platform": "linux",
        "platform_system": "Linux",
        "platform_machine": "x86_64",
    }
    packed: dict[str, Requirement] = {}
    seen: set[tuple[str, str, str]] = set()
    waiting = [(Requirement(text), "") for text in texts]
    while waiting:
        requirement, extra = waiting.pop()
        name = canonicalize_name(requirement.name)
        left_out = name in THERE or (name.startswith("nvidia-") and name != "nvidia-ml-py")
        marker = requirement.marker
        if left_out or (marker and not marker.evaluate({**environment, "extra": extra})):
            continue
        known = packed.setdefault(name, Requirement(name))
        if (name, extra, str(requirement)) in seen:
            continue
        seen.add((name, extra, str(requirement)))
        known.specifier &= requirement.specifier
        try:
            theirs = requires(name) or []
        except PackageNotFoundError:  # not needed by this Python, but by that
            continue
        waiting += [(Requirement(t), e) for t in theirs for e in ("", *requirement.extras)]
    return [packed[name] for name in sorted(packed)]


def pip(*words: str | Path) -> None:
    """Run pip; its words are shown."""
    quiet = ("--quiet", "--disable-pip-version-check")
    subprocess.run([sys.executable, "-m", "pip", *quiet, *map(str, words)], check=True)


def download(requirement: Requirement, python: str, wheels: Path) -> None:
    """A wheel for that Python; of what has none, one that is built here and fits every Python."""
    platforms = [word for platform in PLATFORMS for word in ("--platform", platform)]
    try:
        pip(
            "download",
            "--no-deps",
            "--only-binary=:all:",
            "--python-version",
            python,
            *platforms,
            "--dest",
            wheels,
            str(requirement),
        )
    except subprocess.CalledProcessError:
        with tempfile.TemporaryDirectory() as name:
            pip("wheel", "--no-deps", "--wheel-dir", name, str(requirement))
            (wheel,) = Path(name).glob("*.whl")
            if not wheel.name.endswith("-none-any.whl"):
                sys.exit(f"{requirement}: no wheel for Python {python}, and one built here is not.")
            shutil.move(wheel, wheels / wheel.name)


def build(wheels: Path) -> None:
    """Our own wheel; a build writes beside its source, so that it gets a copy."""
    with tempfile.TemporaryDirectory() as name:
        project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())
        folders = project["tool"]["setuptools"]["package-dir"].values()
        tops = {Path(folder).parts[0] for folder in folders}
        for part in (*sorted(tops), "pyproject.toml", "README.md", "LICENSE"):
            (Path(name) / part).symlink_to(REPOSITORY / part)
        pip("wheel", "--no-deps", "--no-build-isolation", "--wheel-dir", wheels, name)


class Pieces(io.RawIOBase):
    """A file that is written in pieces of at most `size` bytes; `sums` are their SHA-256."""

    def __init__(self, folder: Path, size: int) -> None:
        self._folder, self._size, self._left = folder, size, 0
        self._file: io.BufferedWriter | None = None
        self._names: list[str] = []

    def writable(self) -> bool:
        return True

    def write(self, data) -> int:  # type: ignore[no-untyped-def,override]
        view = memoryview(data).cast("B")
        for start in self._parts(len(view)):
            take = min(self._left, len(view) - start)
            assert self._file is not None
            self._file.write(view[start : start + take])
            self._left -= take
        return len(view)

    def _parts(self, length: int) -> Iterator[int]:
        """Where pieces begin within so many bytes."""
        start = 0
        while start < length:
            if not self._left:
                self.close_piece()
                self._names.append(f"piece-{len(self._names):03}")
                self._file, self._left = (self._folder / self._names[-1]).open("wb"), self._size
            take = min(self._left, length - start)
            yield start
            start += take

    def close_piece(self) -> None:
        if self._file is not None:
            self._file.close()

    def sums(self) -> str:
        """Lines as sha256sum reads them."""
        self.close_piece()
        return "".join(
            f"{hashlib.sha256((self._folder / name).read_bytes()).hexdigest()}  {name}\n"
            for name in self._names
        )


def pack(out: Path, data: list[Path], python: str, wheels: Path | None, piece: int) -> None:
    """Write OUT, which must be empty or not be there."""
    if out.exists() and any(out.iterdir()):
        sys.exit(f"{out} is not empty: give another folder.")
    if missing := [str(path) for path in data if not path.exists()]:
        sys.exit(f"--data {', '.join(missing)}: no such file.")
    with tempfile.TemporaryDirectory() as name:
        inside = Path(name) / "wheels"
        inside.mkdir()
        build(inside)
        if wheels is None:
            for requirement in needed(python):
                print(requirement, flush=True)
                download(requirement, python, inside)
        else:
            for wheel in wheels.glob("*.whl"):
                shutil.copy(wheel, inside)
        out.mkdir(parents=True, exist_ok=True)
        pieces = Pieces(out, piece)
        with tarfile.open(mode="w|", fileobj=pieces, bufsize=1 << 20) as tar:
            tar.add(inside, "wheels")
            for path in data:
                tar.add(path, f"data/{path.name}")
    (out / "SHA256SUMS").write_text(pieces.sums())
    (out / "unpack").write_text(UNPACK)
    (out / "README.txt").write_text(README.format(python=python))
    size = sum(path.stat().st_size for path in out.glob("piece-*"))
    print(f"wrote {out}: {len(list(out.glob('piece-*')))} pieces, {size / 1e6:.0f} MB")


def main() -> None:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("out", type=Path, help="folder that gets the pieces")
    parser.add_argument("--data", type=Path, action="append", default=[], help="goes into data/")
    parser.add_argument("--python", default="3.11", help="version of that machine's Python")
    parser.add_argument("--wheels", type=Path, help="folder of wheels, in place of pip")
    parser.add_argument("--piece", type=int, default=PIECE, help="bytes of a piece at most")
    options = parser.parse_args()
    pack(options.out, options.data, options.python, options.wheels, options.piece)


if __name__ == "__main__":
    main()
