"""The command line: every command, and what they share."""

from __future__ import annotations

import typer

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
from .screen import command
from .simulate import simulate
from .supported import supported
from .train import train
from .verify import verify

COMMANDS = (
    demo,
    train,
    convert,
    export,
    inspect,
    lower,
    simulate,
    verify,
    supported,
    evaluate,
    attack,
    certify,
    robustness,
    profile,
    map_,
    devices,
)
"""In the order of the help. A new one is a function that returns an `Output`, and its name here."""

app = typer.Typer(
    help="Trained spiking networks to lava-dl netx files, bit-accurate simulation, and numbers to trust.",
    no_args_is_help=True,
    context_settings={"help_option_names": ["-h", "--help"]},
    pretty_exceptions_enable=False,
)
for function in COMMANDS:
    app.command(function.__name__.rstrip("_"))(command(function))
