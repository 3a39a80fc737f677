"""The tables of `spikeship supported`: what a part of the code takes, read from that part."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass


@dataclass(frozen=True)
class Field:
    """A number that a layer or neuron holds: whole numbers from `low` to `high`, or one of `choices`."""

    name: str
    low: int | None = None
    high: int | None = None
    choices: tuple[str, ...] = ()
    optional: bool = False


@dataclass(frozen=True)
class Kind:
    """One thing that is supported, with its fields or a remark."""

    name: str
    fields: tuple[Field, ...] = ()
    remark: str = ""


@dataclass(frozen=True)
class Part:
    """One table of the code. `missing`: why it cannot be read here, or None."""

    name: str
    kinds: tuple[Kind, ...]
    missing: str | None = None


@dataclass(frozen=True)
class Table:
    """A part that is still to be read. `kinds` may import a framework, which may not be installed."""

    name: str
    kinds: Callable[[], Iterable[Kind]]

    def read(self) -> Part:
        """The part, with `missing` set where its framework is not installed."""
        try:
            return Part(self.name, tuple(self.kinds()))
        except ModuleNotFoundError as error:
            if (error.name or "").split(".")[0] == "spikeship":
                raise
            reason = f'{error.name} is not installed: pip install "spikeship[train]".'
            return Part(self.name, (), reason)


def refused(reason: str) -> str:
    """The remark of a kind that is known, and not taken."""
    return f"refused: {reason}"
