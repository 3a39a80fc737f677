"""The README's code blocks work: run in order, in one temporary folder, as a reader would.

Python blocks share their names, as if typed into one session. After the language, a block may say
`no-run` (it is listed as skipped) or `lava` (it needs Lava). A bash block of set-up commands, which
starts with git clone, pip install or make, is not run; its make targets must exist.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pytest

REPOSITORY = Path(__file__).parents[1]
FENCE = re.compile(r"^```(python|bash)[ \t]*(.*)\n((?:.*\n)*?)```[ \t]*$", re.MULTILINE)
SET_UP = ("git clone ", "pip install ", "make ")


class Block(NamedTuple):
    """A fenced block: language, words after it, line of its first code line, code."""

    language: str
    words: list[str]
    line: int
    code: str


def _blocks(text: str) -> list[Block]:
    return [
        Block(match[1], match[2].split(), text.count("\n", 0, match.start(3)) + 1, match[3])
        for match in FENCE.finditer(text)
    ]


def _cases() -> list[Any]:
    cases = []
    for block in _blocks((REPOSITORY / "README.md").read_text(encoding="utf-8")):
        marks = [pytest.mark.slow]  # the session trains a network
        if "no-run" in block.words:
            marks.append(pytest.mark.skip(reason=f"README.md line {block.line} says no-run"))
        if "lava" in block.words:
            marks.append(pytest.mark.lava)
        cases.append(pytest.param(block, marks=marks, id=f"line-{block.line}-{block.language}"))
    return cases


def _check_set_up(code: str) -> None:
    targets = re.findall(r"^([\w-]+):", (REPOSITORY / "Makefile").read_text(), re.MULTILINE)
    for target in re.findall(r"(?:^|&&|;) *make ([\w-]+)", code, re.MULTILINE):
        assert target in targets, f"the Makefile has no target {target}"


@pytest.fixture(scope="module")
def session(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, Any]]:
    """The folder in which the blocks run, and the names that Python blocks share."""
    return tmp_path_factory.mktemp("readme"), {"__name__": "__main__"}


@pytest.mark.parametrize("block", _cases())
def test_block(
    block: Block, session: tuple[Path, dict[str, Any]], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, names = session
    monkeypatch.chdir(folder)
    if block.language == "python":
        code = "\n" * (block.line - 1) + block.code  # so that a traceback names README.md's line
        exec(compile(code, "README.md", "exec", dont_inherit=True), names)
    elif block.code.startswith(SET_UP):
        _check_set_up(block.code)
    else:
        path = os.pathsep.join((str(Path(sys.executable).parent), os.environ["PATH"]))
        done = subprocess.run(
            ["bash", "-euo", "pipefail", "-c", block.code],
            check=False,  # the assertion below shows the output
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, f"{block.code}{done.stdout}{done.stderr}"


def test_blocks_are_found() -> None:
    text = "a\n```bash\nmake test\n```\n\n```python no-run lava\nx = 1\n\ny = 2\n```\n```\nz\n```\n"
    assert _blocks(text) == [
        Block("bash", [], 3, "make test\n"),
        Block("python", ["no-run", "lava"], 7, "x = 1\n\ny = 2\n"),
    ]


def test_an_unknown_make_target_is_found() -> None:
    _check_set_up("git clone x\nmake test\n")
    with pytest.raises(AssertionError, match="no target tset"):
        _check_set_up("make tset\n")
