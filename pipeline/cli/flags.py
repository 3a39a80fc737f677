"""Messages of the library in the words of the command line: flags in place of Python arguments."""

from __future__ import annotations

import re
from collections.abc import Mapping
from inspect import Parameter
from typing import Any, get_args

from typer.models import OptionInfo

CALLED = {
    "size": "size_budget",
    "loss": "max_loss",
    "cores": "cores_per_chip",
    "dataset": "data",
    "checkpoint": "ann_checkpoint",
}
"""Arguments of the library that the command line calls otherwise."""
COMMANDS = {"lower_pooling": "`spikeship lower`"}
"""Arguments of the library that are a command of their own."""
VALUE = r"""(?P<value>'[^']*'|"[^"]*"|[^\s,;:()]*[^\s,;:.()])"""


def flag(option: Parameter) -> str | None:
    """The flag of an option, such as --data-root; None of a positional argument."""
    for info in get_args(option.annotation):
        if isinstance(info, OptionInfo):
            given = (*(info.param_decls or ()), info.default)  # Typer has the first as its default
            flags = [name for name in given if isinstance(name, str) and name.startswith("--")]
            return flags[0] if flags else "--" + option.name.strip("_").replace("_", "-")
    return None


def in_flags(message: str, flags: Mapping[str, str], given: Mapping[str, Any]) -> str:
    """A message with flags where it names arguments of the command.

    `flags` and the values `given` are by argument. Changed is only what can be nothing else::

        epsilon = -1            --epsilon -1            if -1 was given
        from_nir(..., dt=1e-3)  --dt 1e-3
        method='auto'           --method auto
        per_channel=True        --per-channel
        approximate_reset       --approximate-reset     a name with an underscore
    """
    others = {name: flags[option] for name, option in CALLED.items() if option in flags}
    shown = {**others, **flags}
    names = "|".join(sorted({*shown, *COMMANDS}, key=len, reverse=True))
    name = rf"(?<![\w`./-])(?P<name>{names})"

    def stated(match: re.Match[str]) -> str:
        option = match["name"] if match["name"] in flags else CALLED.get(match["name"], "")
        same = _is(given.get(option), match["value"])
        return f"{shown[match['name']]} {_bare(match['value'])}" if same else match[0]

    def called(match: re.Match[str]) -> str:
        if match["name"] in COMMANDS:
            return COMMANDS[match["name"]]
        option = shown[match["name"]]
        return option if match["value"] == "True" else f"{option} {_bare(match['value'])}"

    def alone(match: re.Match[str]) -> str:
        return shown[match["name"]] if "_" in match["name"] else match[0]

    message = re.sub(rf"{name} = {VALUE}", stated, message)
    message = re.sub(rf"(?P<call>\w+\(\.\.\., )?{name}={VALUE}(?(call)\))", called, message)
    return re.sub(rf"{name}(?![\w`=/-]|\.\w)", alone, message)


def _bare(value: str) -> str:
    return value.strip("'\"")


def _is(value: Any, text: str) -> bool:
    """Whether a message that says `text` can mean this value."""
    try:
        return float(text) in (float(value), float(f"{value:g}"))
    except (TypeError, ValueError):
        return _bare(text) == str(value)
