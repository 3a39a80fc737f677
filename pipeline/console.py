"""What all commands share: options, errors as messages, results as JSON or tables."""

from __future__ import annotations

import sys
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer
from rich.console import Console

from ..hw_targets.lava_cpu import LavaError, LavaMissingError
from ..hw_targets.netx import NetxWarning
from . import records

if TYPE_CHECKING:
    from ..models.datasets import Dataset

Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON on standard output.")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder with torchvision's MNIST/raw and FashionMNIST/raw, or with nmnist_small.tar.",
        envvar="SPIKESHIP_DATA_ROOT",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and noise.")]


class Quit(Exception):
    """A command that ends with a message and a status."""


def fail(message: str) -> NoReturn:
    raise Quit(message)


@contextmanager
def errors() -> Iterator[None]:
    """User errors as one message and exit status 1; interruption as 130; notes on standard error."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("always", NetxWarning)
            warnings.showwarning = note
            yield
    except (Quit, ValueError, OSError, LavaError, LavaMissingError) as error:
        Console(stderr=True, highlight=False).print(
            f"error: {error}", style="red", markup=False, soft_wrap=True
        )
        raise typer.Exit(1) from None
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "spikeship":
            raise
        Console(stderr=True, highlight=False).print(
            f'error: {error.name} is not installed: pip install "spikeship[train]".',
            style="red",
            markup=False,
            soft_wrap=True,
        )
        raise typer.Exit(1) from None
    except KeyboardInterrupt:
        Console(stderr=True).print("interrupted; run the same command again to go on.")
        raise typer.Exit(130) from None


def note(message: Warning | str, category: type[Warning], *where: Any, **more: Any) -> None:
    if category.__module__.startswith("spikeship."):
        say(f"note: {message}")
    else:
        sys.stderr.write(warnings.formatwarning(message, category, *where[:2]))


def show(as_json: bool, result: dict[str, Any], *views: Any) -> None:
    """Print the JSON, or the views; never both on standard output."""
    if as_json:
        typer.echo(records.dumps(result))
        return
    console = Console(highlight=False)
    if not console.is_terminal:
        console = Console(highlight=False, width=160)
    for view in views:
        console.print(view, markup=False) if isinstance(view, str) else console.print(view)


def say(message: str) -> None:
    """What happens, on standard error."""
    Console(stderr=True, highlight=False).print(message, markup=False, soft_wrap=True)


def dataset_of(net: Path, recipe: Any, data: str | None, data_root: Path | None) -> Dataset:
    from ..models import datasets

    name = data or recipe.provenance.get("dataset")
    if name is None:
        fail(f"{net} does not say which data set it was made for: give --data.")
    return datasets.load(name, data_root, recipe.steps)
