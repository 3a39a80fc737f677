"""Lava on a Python that it says it does not take: the two lines of README, and every layer beside it."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable
from pathlib import Path

import pytest

from spikeship.hw_targets.simulate.lava import PAST_ITS_PINS

REPOSITORY = Path(__file__).parents[1]
TESTS = ("tests/test_lava.py", "tests/test_parity.py")


def _interpreter(version: str) -> str | None:
    """A command that runs this version of Python here; pyenv has commands for others, too."""
    say = "import sys; print('%d.%d' % sys.version_info[:2], sys.executable)"
    environment = {**os.environ, "PYENV_VERSION": version}
    for name in (f"python{version}", "python3"):
        if shutil.which(name) is not None:
            done = subprocess.run(
                [name, "-c", say], env=environment, check=False, capture_output=True, text=True
            )
            if done.stdout.startswith(f"{version} "):
                return done.stdout.split(maxsplit=1)[1].strip()
    return None


@pytest.mark.matrix
@pytest.mark.slow
@pytest.mark.parametrize("version", ["3.12"])
def test_lava_past_its_pins(
    version: str, tmp_path: Path, missing: Callable[[str], None], shared_data: Path
) -> None:
    """A new environment, as README says; simulator and reference equal Lava there, with `==`."""
    python = _interpreter(version)
    if python is None:
        missing(f"no Python {version} to try Lava on")
    assert python is not None
    source = tmp_path / "source"  # a build writes beside its source
    source.mkdir()
    for name in (
        "benchmarks",
        "hw_targets",
        "models",
        "pipeline",
        "pyproject.toml",
        "README.md",
        "LICENSE",
    ):
        (source / name).symlink_to(REPOSITORY / name)
    subprocess.run([python, "-m", "venv", tmp_path / "venv"], check=True)
    python = str(tmp_path / "venv/bin/python")
    pip = [python, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    for words in (
        [f"{source}[lava]", "pytest", "pytest-xdist", "filelock", "hypothesis"],
        PAST_ITS_PINS.split()[2:],
    ):
        done = subprocess.run(
            [*pip, "install", *words], check=False, capture_output=True, text=True
        )
        if done.returncode:
            missing(f"pip install {' '.join(words)}: {done.stderr[-500:]}")
    clean = {k: v for k, v in os.environ.items() if not k.startswith(("PYTHON", "PYTEST"))}
    clean["SPIKESHIP_SHARED_DATA"] = str(shared_data)
    command = [
        python,
        "-m",
        "pytest",
        "-q",
        "-m",
        "lava",
        "-k",
        "not cuda",
        "-p",
        "no:cacheprovider",
        *TESTS,
    ]
    done = subprocess.run(
        command, cwd=REPOSITORY, env=clean, check=False, capture_output=True, text=True
    )
    assert done.returncode == 0, done.stdout[-3000:]
    assert " passed" in done.stdout
    assert " skipped" not in done.stdout, done.stdout[-3000:]
