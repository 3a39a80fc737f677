"""`module:function`: what a function of the user's own file returns."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any


def names_function(source: str) -> bool:
    """Whether a text is `module:function` or `path/to/file.py:function`."""
    return re.search(r"[^:/\\]:[A-Za-z_]\w*$", source) is not None


def called(source: str) -> Any:
    """What the function returns; the module is importable from this folder, or a file.

    What importing it prints goes to standard error. Raises ValueError where there is no such function;
    what the function itself raises goes through.
    """
    name, _, function = source.rpartition(":")
    with contextlib.redirect_stdout(sys.stderr):
        module = _file(Path(name), source) if name.endswith(".py") else _module(name, source)
        builder = getattr(module, function, None)
        if not callable(builder):
            raise ValueError(f"{source}: {name} has no function {function}.")
        return builder()


def _module(name: str, source: str) -> ModuleType:
    sys.path.insert(0, str(Path.cwd()))
    try:
        return importlib.import_module(name)
    except ModuleNotFoundError as error:
        if error.name is None or not f"{name}.".startswith(f"{error.name}."):
            raise  # the module is there, what it imports is not
        raise ValueError(
            f"{source}: {error}. Give module:function, importable from this folder, or "
            f"path/to/file.py:function."
        ) from None
    finally:
        sys.path.pop(0)


def _file(path: Path, source: str) -> ModuleType:
    if not path.is_file():
        raise ValueError(f"{source}: {path}: no such file.")
    beside = str(path.resolve().parent)
    spec = importlib.util.spec_from_file_location(path.stem, path)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    sys.modules.setdefault(path.stem, module)  # for pickle and dataclasses
    sys.path.insert(0, beside)
    try:
        spec.loader.exec_module(module)
    finally:
        sys.path.remove(beside)
    return module
