"""`Recipe`: how a network is run, which its integers do not say."""

from __future__ import annotations

import hashlib
import json
import math
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from functools import partial
from types import MappingProxyType
from typing import Any, Literal, TypeAlias, get_args

import numpy as np

from .arithmetic import MESSAGE_BITS
from .neurons import NetworkError

Decode: TypeAlias = Literal["spike count", "mean voltage", "last voltage"]

_SEEDS = (-(1 << 63), (1 << 63) - 1)
_MANY = (1 << 31) - 1
_WHOLE: dict[str, tuple[int, int]] = {
    "steps": (1, _MANY),
    "levels": (1, _MANY),
    "message_bits": (0, MESSAGE_BITS),
    "reset_interval": (1, _MANY),
    "reset_offset": (0, _MANY),
    "seed": _SEEDS,
    "grid": (1, _MANY),
    "offsets": (1, _MANY),
    "template": _SEEDS,
}
"""Fields that hold whole numbers, and their limits."""
_OPTIONAL = ("reset_interval", "grid", "offsets", "template")


@dataclass(frozen=True)
class Recipe:
    """How to run a network again: what the netx format itself cannot hold.

    `steps`: input steps per sample. `levels`: integers per 1.0 of the float network's input: a pixel
    x in [0, 1] is presented as the integer round(x * levels), or as single spikes where levels = 1.
    `message_bits`: width of the graded input spikes, sign included (0: binary), at most 25.
    `reset_interval`, `reset_offset`: as lava-dl's `netx.hdf5.Network` takes them; with offset 1,
    layer i forgets its state in the very step in which the first input step reaches it.
    `coding`, `sigma`: the input coding and its noise in pixel units; `seed`: of its random draws.
    `grid`: the grey levels that codings with single spikes round a pixel to, None: `levels`.
    `offsets`, `template`: of the phase code, how many offsets its steps have, and the seed of its
    thresholds. With these an input is encoded again bit for bit (see `models.encoding.Encoding`).
    `decode`: "spike count" of the last layer, or its "mean voltage" or "last voltage" divided by
    `output_unit` (integers per 1.0 of the float network). `provenance`: texts about where the network
    comes from.

    Every value is checked: NetworkError.
    """

    steps: int
    levels: int = 1
    message_bits: int = 0
    reset_interval: int | None = None
    reset_offset: int = 0
    coding: str = "direct"
    sigma: float = 0.0
    seed: int = 0
    decode: Decode = "spike count"
    output_unit: float = 1.0
    provenance: Mapping[str, str] = field(default_factory=dict)
    grid: int | None = None
    offsets: int | None = None
    template: int | None = None

    def __post_init__(self) -> None:
        coding: Any = self.coding  # of a file: it may be anything
        for name, limits in _WHOLE.items():
            value = getattr(self, name)
            if value is not None or name not in _OPTIONAL:
                object.__setattr__(self, name, _whole(name, value, *limits))
        object.__setattr__(self, "sigma", _real("sigma", self.sigma))
        object.__setattr__(self, "output_unit", _real("output_unit", self.output_unit))
        if self.output_unit == 0:
            raise NetworkError("recipe: output_unit = 0; integers per 1.0 are more than 0.")
        if not isinstance(coding, str) or not coding:
            raise NetworkError(f"recipe: coding = {coding!r}; the name of a coding is needed.")
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

    @property
    def digest(self) -> str:
        """SHA-256 over every field that is not None, as JSON with sorted keys."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        said = {name: value for name, value in values.items() if value is not None}
        text = json.dumps(said | {"provenance": dict(self.provenance)}, sort_keys=True)
        return hashlib.sha256(b"spikeship recipe 1" + text.encode()).hexdigest()


def _whole(name: str, value: Any, low: int, high: int) -> int:
    number = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(number, int | float) and not isinstance(number, bool) and number % 1 == 0
    if not whole or not low <= number <= high:
        raise NetworkError(
            f"recipe: {name} = {value!r}; a whole number within [{low}, {high}] is needed."
        )
    return int(number)


def _real(name: str, value: Any) -> float:
    number = value.item() if isinstance(value, np.generic) else value
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not math.isfinite(number) or number < 0:
        raise NetworkError(
            f"recipe: {name} = {value!r}; a finite number that is not negative is needed."
        )
    return float(number)
