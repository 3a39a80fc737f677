"""The command line: every command, and what they share."""

from __future__ import annotations

import sys
from collections.abc import Callable
from importlib.metadata import PackageNotFoundError, version
from typing import Annotated, Any

import typer
from typer.core import TyperGroup

from .attack import attack
from .certify import certify
from .convert import convert
from .demo import demo
from .devices import devices
from .evaluate import evaluate
from .export import export
from .inspect import inspect, lower
from .map import map_
from .profile import profile
from .robustness import robustness
from .screen import MISUSED, Output, command, tell
from .simulate import simulate
from .supported import supported
from .train import train
from .verify import verify

COMMANDS: dict[str, tuple[Callable[..., Output], ...]] = {
    "Start here": (demo, supported),
    "Train": (train, convert),
    "Deploy": (export, inspect, lower, map_, simulate),
    "Judge": (evaluate, verify, profile, devices, attack, certify, robustness),
}
"""Panels of the help. A new command is a function that returns an `Output`, and its name here."""

_UsageError: type[Any] = next(c for c in typer.BadParameter.__mro__ if c.__name__ == "UsageError")
"""click's own, or that of the copy of click inside newer Typers."""


class _Commands(TyperGroup):
    """The commands, whose words that cannot be read are told as every other error."""

    def main(self, *args: Any, **options: Any) -> Any:
        if not options.pop("standalone_mode", True):
            return super().main(*args, **{**options, "standalone_mode": False})
        try:
            status = super().main(*args, **{**options, "standalone_mode": False})
        except _UsageError as error:
            command = error.ctx.command_path if error.ctx else self.name
            if type(error).__name__ == "NoArgsIsHelpError":  # typed alone: told what there is
                error.show()
            else:
                tell(f"{error.format_message().rstrip('.')}. See `{command} --help`.")
            status = MISUSED
        sys.exit(status if isinstance(status, int) else 0)


app = typer.Typer(
    cls=_Commands,
    help="Trained spiking networks to lava-dl netx files, bit-accurate simulation, and numbers to trust.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for panel, functions in COMMANDS.items():
    for function in functions:
        name = function.__name__.rstrip("_")
        app.command(name, rich_help_panel=panel)(command(function))


def _print_version(wanted: bool) -> None:
    if wanted:
        try:
            typer.echo(f"spikeship {version('spikeship')}")
        except PackageNotFoundError:
            typer.echo("spikeship, not installed: its version is unknown")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[
        bool,
        typer.Option(
            "--version", help="Show the version and exit.", callback=_print_version, is_eager=True
        ),
    ] = False,
) -> None:
    pass
