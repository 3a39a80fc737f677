"""What all commands share: results as JSON or tables, and errors as messages."""

from __future__ import annotations

import inspect
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from contextlib import AbstractContextManager, contextmanager, nullcontext, redirect_stdout
from contextvars import ContextVar
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any, NoReturn

import typer
from rich.console import Console

from ...hw_targets.files import claimed
from ...hw_targets.hdf5 import MAX_BYTES, reading
from ...hw_targets.netx.file import NetxWarning
from ...hw_targets.printed import View, clean
from ...hw_targets.printed import show as print_views
from ...hw_targets.simulate.lava import LavaError, LavaMissingError
from .. import records
from . import fields
from .flags import flag, in_flags

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]

MaxBytes = Annotated[
    int,
    typer.Option(
        "--max-bytes", help="What the arrays of a file that is read may take in memory.", min=1
    ),
]
READS_NOTHING = ("demo", "devices", "supported")
"""Commands that read no files of strangers."""
TO_FOLDER = ("convert", "demo", "train")
"""Commands whose --out is a folder."""

CHECK_FAILED, MISUSED, REFUSED, INTERRUPTED = 1, 2, 3, 130
"""Exit statuses beside 0: a check did not hold; the words do not go together; an input was refused."""

FOR_DEVELOPERS = (
    DeprecationWarning,
    FutureWarning,
    ImportWarning,
    PendingDeprecationWarning,
    SyntaxWarning,
)
"""Warnings of what a command imports that its user can do nothing about; `python -W` shows them."""

_BARS: ContextVar[bool] = ContextVar("bars", default=True)
_KEPT: ContextVar[Path | None] = ContextVar("kept", default=None)


class Quit(Exception):
    """A command that ends with a message and a status."""

    def __init__(self, message: str, status: int) -> None:
        super().__init__(message)
        self.status = status


@dataclass(frozen=True)
class Output:
    """What a command found: `result` as `--json` prints it, `views` (tables and lines) for people.

    `out`: a file that gets the JSON, too. `ok`: False, a check did not hold, ends with status 1; so does
    `problem`, an error that is told after the views.
    """

    result: Mapping[str, Any]
    views: tuple[View, ...]
    out: Path | None
    ok: bool
    problem: str

    def __init__(
        self,
        result: Mapping[str, Any],
        *views: View,
        out: Path | None = None,
        ok: bool = True,
        problem: str = "",
    ) -> None:
        for name, value in vars().copy().items():
            if name != "self":
                object.__setattr__(self, name, value)


def command(function: Callable[..., Output]) -> Callable[..., None]:
    """A command of the line: `function` with `--json`, its output shown, its errors as messages.

    A parameter that is a dataclass becomes its options, see `fields.options`. The JSON names the
    versions and the machine, see `records.environment`.
    """
    signature = inspect.signature(function, eval_str=True)
    parameters = signature.parameters.values()
    options = [option for parameter in parameters for option in fields.options(parameter)]
    flags = {o.name.strip("_"): name for o in options if (name := flag(o)) is not None}

    name = function.__name__.rstrip("_")

    def run(
        context: typer.Context, json_: bool = False, max_bytes: int = MAX_BYTES, **given: Any
    ) -> None:
        bars = _BARS.set(not json_)
        kept = _KEPT.set(None)
        values = {name.strip("_"): value for name, value in given.items()}
        try:
            with (
                errors(lambda message: in_flags(message, flags, values)),
                reading(safe=SAFE, max_bytes=max_bytes),
                _claimed(name, values.get("out")),
            ):
                typed = [name for name in given if _typed(context, name)]
                _keep_sources(values, flags)
                _tell_folder(values.get("data") or values.get("dataset"))
                arguments = {p.name: fields.argument(p, given, typed) for p in parameters}
                with redirect_stdout(sys.stderr):  # what frameworks and a user's own file print
                    output = function(**arguments)
                result = {**output.result, **records.environment()}
                if output.out is not None:
                    records.write_json(result, output.out)
                show(json_, result, *output.views)
                if output.problem:
                    raise Quit(output.problem, CHECK_FAILED)
        finally:
            _BARS.reset(bars)
            _KEPT.reset(kept)
        if not output.ok:
            raise typer.Exit(CHECK_FAILED)

    only = inspect.Parameter.KEYWORD_ONLY
    context = inspect.Parameter("context", only, annotation=typer.Context)
    ours = [inspect.Parameter("json_", only, default=False, annotation=Json)]
    if name not in READS_NOTHING:
        flags["max_bytes"] = "--max-bytes"
        ours.append(inspect.Parameter("max_bytes", only, default=MAX_BYTES, annotation=MaxBytes))
    run.__signature__ = signature.replace(  # type: ignore[attr-defined]
        parameters=[context, *options, *ours], return_annotation=None
    )
    run.__name__, run.__doc__ = name, _unwrapped(function.__doc__ or "")
    return run


SAFE = True
"""Whether commands read HDF5 files in a process of its own, see `hdf5`: a start of Python for each."""
WRITTEN = ("out", "net", "images")
"""Options whose files a command writes; `net` is also what it reads, where it is no option."""


def _keep_sources(values: Mapping[str, Any], flags: Mapping[str, str]) -> None:
    """End the command where it would write over a file that it reads."""
    written = {name: Path(values[name]) for name in WRITTEN if name in flags and values.get(name)}
    for option, path in written.items():
        for name, value in values.items():
            for each in value if isinstance(value, list | tuple) else (value,):
                if name in written or not isinstance(each, str | Path) or not path.is_file():
                    continue
                files = (str(each), str(each).rpartition(":")[0])  # mine.py:function is in mine.py
                if any(file and Path(file).resolve() == path.resolve() for file in files):
                    misused(f"{flags[option]} {path} is what the command reads: give another name.")


def _claimed(command: str, out: object) -> AbstractContextManager[None]:
    """Nobody else writes the file `out` while a command is at work; folders are claimed where used."""
    is_file = isinstance(out, Path) and command not in TO_FOLDER
    return claimed(out) if is_file and isinstance(out, Path) else nullcontext()


def _tell_folder(data: object) -> None:
    """What --data was recognised as, where it is a folder."""
    if isinstance(data, str) and Path(data).is_dir():
        from ...models.data.folders import recognised
        from ...models.data.load import DATASETS

        if data not in DATASETS:
            say(f"{data}: {recognised(data).text}")


def _typed(context: typer.Context, name: str) -> bool:
    """Whether an option has its value from the user, be it by the environment."""
    source = context.get_parameter_source(name)
    return source is not None and not source.name.startswith("DEFAULT")


def _unwrapped(text: str) -> str:
    """Each paragraph in one line, for the terminal to wrap."""
    return "\n\n".join(" ".join(part.split()) for part in inspect.cleandoc(text).split("\n\n"))


def bars() -> bool:
    """Whether progress is shown: not beside JSON."""
    return _BARS.get()


def resumes(folder: Path) -> None:
    """Say that work is kept in a folder from here on: an interrupted command goes on from there.

    It is told so once there is something in it.
    """
    _KEPT.set(folder)


def fail(message: str) -> NoReturn:
    """End the command: what it was given is refused."""
    raise Quit(message, REFUSED)


def misused(message: str) -> NoReturn:
    """End the command: its options do not go together, or one of them cannot be read."""
    raise Quit(message, MISUSED)


def tell(message: str) -> None:
    """An error, the one way that errors are told: one message on standard error."""
    Console(stderr=True, highlight=False).print(
        f"error: {clean(message)}", style="red", markup=False, soft_wrap=True
    )


@contextmanager
def errors(in_words: Callable[[str], str] = str) -> Iterator[None]:
    """User errors as one message and their exit status; interruption as 130; notes on standard error.

    `in_words`: a message of the library as the command says it.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NetxWarning)
            warnings.showwarning = note
            yield
    except Quit as error:
        tell(in_words(str(error)))
        raise typer.Exit(error.status) from None
    except (ValueError, OSError, LavaError, LavaMissingError) as error:
        tell(in_words(str(error)))
        raise typer.Exit(REFUSED) from None
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "spikeship":
            raise
        tell(f'{error.name} is not installed: pip install "spikeship[train]".')
        raise typer.Exit(REFUSED) from None
    except KeyboardInterrupt:
        kept = _KEPT.get()
        goes_on = f"run the same command again to go on from {kept}"
        there = kept is not None and kept.is_dir() and any(kept.iterdir())
        say(f"interrupted; {goes_on if there else 'nothing is kept'}.")
        raise typer.Exit(INTERRUPTED) from None


def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    """A warning as a user of a command sees it, in the place of `warnings.showwarning`."""
    if category.__module__.startswith("spikeship."):
        say(f"note: {message}")
    elif sys.warnoptions or not issubclass(category, FOR_DEVELOPERS):
        sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))


def show(as_json: bool, result: Mapping[str, Any], *views: View) -> None:
    """Print the JSON, or the views; never both on standard output."""
    if as_json:
        typer.echo(records.dumps(result))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    print_views(console, views)


def say(message: str) -> None:
    """What happens, on standard error."""
    Console(stderr=True, highlight=False).print(clean(message), markup=False, soft_wrap=True)
