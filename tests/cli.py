"""The command line as a user calls it, in this process."""

from __future__ import annotations

import json
from typing import Any

import typer
from typer.testing import CliRunner, Result

from spikeship.pipeline.cli.app import app


def call(*words: object, of: typer.Typer = app) -> Result:
    """What `spikeship WORDS`, or another command line, prints, and its exit status."""
    return CliRunner().invoke(of, [str(word) for word in words])


def text(*words: object, status: int = 0) -> str:
    """What the command prints, errors too where it must fail; it must end with `status`."""
    result = call(*words)
    assert result.exit_code == status, result.stderr or result.exception
    return result.stdout if status == 0 else result.stdout + result.stderr


def ok(*words: object) -> dict[str, Any]:
    """What the command prints with --json; it must succeed."""
    stored: dict[str, Any] = json.loads(text(*words, "--json"))
    return stored
