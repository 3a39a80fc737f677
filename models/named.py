"""What `module:function` names: a function of the user's, which returns a network or data."""

from __future__ import annotations

import contextlib
import importlib
import importlib.util
import sys
import traceback
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any


class NamedError(ValueError):
    """A text that names no function, or a function that fails."""


def is_named(source: str) -> bool:
    """Whether a text has the form of `module:function`; a drive letter is no module."""
    return ":" in Path(source).name


def call_named(source: str) -> Any:
    """What the function of `module:function` returns; it is called without arguments.

    The module: as `import` takes it, the folder of this process first (`mynet:build`,
    `nets.mynet:build`), or a file, absolute or relative (`../nets/mynet.py:build`). A file may import
    what lies beside it, or, in a package, as the package does. What importing prints (lava-dl greets)
    goes to standard error.

    Raises NamedError where there is no such file, module or function, and where the user's own code
    fails, which names its file and line.
    """
    path, _, function = source.rpartition(":")
    with contextlib.redirect_stdout(sys.stderr), _importable(path):
        module = _guarded(source, "importing it fails", lambda: _module(source, path))
        if not callable(getattr(module, function, None)):
            raise NamedError(
                f"{source}: {path} has no function {function or '(none was named)'}.{_others(module)} "
                f"Give module:function."
            )
        return _guarded(source, f"{function}() fails", getattr(module, function))


def _module(source: str, path: str) -> ModuleType:
    if not path.endswith(".py"):
        name = path.replace("/", ".")
        try:
            return importlib.import_module(name)
        except ModuleNotFoundError as error:
            if error.name is None or not (name == error.name or name.startswith(f"{error.name}.")):
                raise  # what the module itself imports is not there
        except (TypeError, ValueError):  # relative, or empty
            pass
        raise NamedError(
            f"{source}: there is no module {path} to import from this folder. Give its file: "
            f"path/to/{Path(path).name or 'mynet'}.py:function."
        )
    file = Path(path).expanduser()
    if not file.is_file():
        raise NamedError(f"{file}: no such file.")
    name, _ = _place(file)
    if "." in name:
        return importlib.import_module(name)
    spec = importlib.util.spec_from_file_location(name, file.resolve())
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    known = sys.modules.get(name)
    if known is None or getattr(known, "__file__", None) == str(file.resolve()):
        sys.modules[name] = (
            module  # so that its classes can be pickled; never in place of another's
        )
    spec.loader.exec_module(module)
    return module


def _place(file: Path) -> tuple[str, Path]:
    """The name of a file's module, with its packages, and the folder from which that is imported."""
    file = file.resolve()
    name, folder = file.stem, file.parent
    while (folder / "__init__.py").is_file():
        name, folder = f"{folder.name}.{name}", folder.parent
    return name, folder


@contextlib.contextmanager
def _importable(path: str) -> Iterator[None]:
    """This folder, and that of a file, are where modules are looked for."""
    folders = [str(Path.cwd())]
    if path.endswith(".py"):
        folders.insert(0, str(_place(Path(path).expanduser())[1]))
    before = list(sys.path)
    sys.path[:0] = folders
    importlib.invalidate_caches()
    try:
        yield
    finally:
        sys.path[:] = before


def _guarded(source: str, what: str, call: Any) -> Any:
    """`call()`; what the user's code raises becomes one line that says where."""
    try:
        return call()
    except NamedError:
        raise
    except SyntaxError as error:
        where = f"{error.filename}, line {error.lineno}"
        raise NamedError(f"{source}: {what}: SyntaxError: {error.msg} ({where}).") from error
    except Exception as error:
        last = traceback.extract_tb(error.__traceback__)[-1]
        where = "" if last.filename == __file__ else f" ({last.filename}, line {last.lineno})"
        raise NamedError(f"{source}: {what}: {type(error).__name__}: {error}{where}.") from error


def _others(module: ModuleType) -> str:
    """The functions that a module itself defines."""
    own = [
        name
        for name, value in vars(module).items()
        if callable(value)
        and getattr(value, "__module__", None) == module.__name__
        and not name.startswith("_")
    ]
    return f" It defines {', '.join(own)}." if own else ""
