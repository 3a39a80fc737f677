"""Cells of a benchmark: each measured once and kept, so that an interrupted run goes on."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

from ..pipeline import records


def file_name(name: str) -> str:
    """A name as part of a path: letters, digits, dots and dashes stay."""
    return "".join(c if c.isalnum() or c in ".-" else "_" for c in name)


def cell(path: Path, what: str, measure: Callable[[], dict[str, Any]]) -> dict[str, Any]:
    """What `path` holds; first what `measure` gives is written there, and `what` said, if it is new."""
    if not path.is_file():
        records.write_json(measure(), path)
        print(what, flush=True)
    found: dict[str, Any] = json.loads(path.read_text())
    return found
