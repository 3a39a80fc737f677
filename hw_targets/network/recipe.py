"""`Recipe`: how a network is run, which its integers do not say."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.metadata import version
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

from .coding import MANY, Coding, real_number, whole_number
from .neurons import NetworkError
from .timing import Timing

Decode: TypeAlias = Literal["spike count", "mean voltage", "last voltage"]

_SEEDS = (-(1 << 63), (1 << 63) - 1)
_CODING = {
    "steps": "steps",
    "levels": "levels",
    "message_bits": "message_bits",
    "coding": "name",
    "sigma": "sigma",
    "grid": "grid",
    "offsets": "offsets",
    "template": "template",
}
"""Attributes of a file that say the coding, and its fields."""
ATTRIBUTES = (
    *("steps", "levels", "message_bits", "reset_interval", "reset_offset", "coding", "sigma"),
    *("seed", "decode", "output_unit", "provenance", "grid", "offsets", "template"),
)
"""Names of everything a file says about a recipe; they never change."""


@dataclass(frozen=True)
class Recipe:
    """How to run a network again: what the netx format itself cannot hold.

    `coding`: how an input is encoded, which with `seed`, that of its random draws, gives the same
    messages again bit for bit: a pixel x in [0, 1] is presented as the integer round(x * levels), or
    as single spikes where levels = 1. `reset_interval`, `reset_offset`: as in `Timing`; with offset 1,
    layer i forgets its state in the very step in which the first input step reaches it.
    `decode`: "spike count" of the last layer, or its "mean voltage" or "last voltage" divided by
    `output_unit` (integers per 1.0 of the float network). `provenance`: texts about where the network
    comes from.

    Every value is checked: NetworkError.
    """

    coding: Coding
    reset_interval: int | None = None
    reset_offset: int = 0
    seed: int = 0
    decode: Decode = "spike count"
    output_unit: float = 1.0
    provenance: Mapping[str, str] = field(default_factory=dict)

    def __post_init__(self) -> None:
        if not isinstance(self.coding, Coding):
            raise NetworkError(
                f"recipe: coding = {self.coding!r}; a Coding is needed, such as Coding('direct', 8)."
            )
        for name, low, high in (
            ("reset_interval", 1, MANY),
            ("reset_offset", 0, MANY),
            ("seed", *_SEEDS),
        ):
            value = getattr(self, name)
            if value is not None or name != "reset_interval":
                value = whole_number(f"recipe: {name}", value, low, high)
                object.__setattr__(self, name, value)
        unit = real_number("recipe: output_unit", self.output_unit)
        object.__setattr__(self, "output_unit", unit)
        if unit == 0:
            raise NetworkError("recipe: output_unit = 0; integers per 1.0 are more than 0.")
        if self.decode not in get_args(Decode):
            raise NetworkError(
                f"recipe: decode = {self.decode!r}; choose from {', '.join(get_args(Decode))}."
            )
        texts: Mapping[Any, Any] = self.provenance
        for key, text in texts.items():
            if not (isinstance(key, str) and isinstance(text, str)):
                raise NetworkError(f"recipe: provenance {key!r} = {text!r}; texts are needed.")
        object.__setattr__(self, "provenance", MappingProxyType(dict(self.provenance)))

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy, which cannot take a read-only mapping."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return partial(type(self), **values | {"provenance": dict(self.provenance)}), ()

    @classmethod
    def of(
        cls, coding: Coding, seed: int = 0, provenance: Mapping[str, str] | None = None
    ) -> Recipe:
        """How a network that was made here is to be run.

        A reset every `steps` steps with offset 1: layer i forgets its state in the step in which a new
        sample's first data reaches it. Biases, which netx switches on from step 1 in all layers, thus
        act from the first data on, as in the float network; and samples can follow each other without
        gap. To `provenance` the version of this package is added.
        """
        notes = {"spikeship": version("spikeship"), **(provenance or {})}
        return cls(coding, coding.steps, 1, seed, provenance=notes)

    def timing(self, latency: int = 0) -> Timing:
        """How a run of one sample goes on in time: `latency` steps longer than the input."""
        return Timing(
            self.coding.steps + latency,
            self.reset_interval,
            self.reset_offset,
            self.coding.message_bits,
        )

    def attributes(self) -> dict[str, Any]:
        """One flat dictionary, as netx files and JSON hold a recipe; None for what a coding lacks.

        `grid` is said where it is not `levels`, `offsets` and `template` where the coding is phase, or
        is not known and has other ones than the usual.
        """
        coding = self.coding
        said = {name: getattr(coding, its) for name, its in _CODING.items()}
        said |= {f.name: getattr(self, f.name) for f in fields(self) if f.name != "coding"}
        phased = coding.name == "phase"
        for name, silent in (
            ("grid", coding.grid == coding.levels),
            ("offsets", coding.offsets == 1 and not phased),
            ("template", coding.template == 0 and not phased),
        ):
            if silent:
                said[name] = None
        return {name: said[name] for name in ATTRIBUTES} | {"provenance": dict(self.provenance)}

    @classmethod
    def from_attributes(cls, attributes: Mapping[str, Any]) -> Recipe:
        """The inverse of `attributes`, for those of files too. Raises NetworkError."""
        given = {name: value for name, value in attributes.items() if value is not None}
        coding = {its: given.pop(name) for name, its in _CODING.items() if name in given}
        return cls(Coding(**{"name": "direct", **coding}), **given)

    @property
    def text(self) -> str:
        """`attributes` on one line; by it, what is stored of an interrupted run is known again."""
        said = {**self.attributes(), "provenance": self.provenance}
        return f"Recipe({', '.join(f'{name}={value!r}' for name, value in said.items())})"

    @property
    def digest(self) -> str:
        """`attributes_digest` of its attributes."""
        return attributes_digest(self.attributes())


def attributes_digest(attributes: Mapping[str, Any]) -> str:
    """SHA-256 over every attribute that is not None, as JSON with sorted keys."""
    said = {name: value for name, value in attributes.items() if value is not None}
    text = json.dumps(said, sort_keys=True)
    return hashlib.sha256(b"spikeship recipe 1" + text.encode()).hexdigest()
