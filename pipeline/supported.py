"""What this installation supports, read from the code that does it: there is no second list.

Ranges are found by asking: every field of every layer and neuron is given a number that no hardware
holds, and the refusal says what it would have taken.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import MISSING, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from ..hw_targets.network import arithmetic
from ..hw_targets.network.coding import CODINGS
from ..hw_targets.network.layers import Conv, Layer
from ..hw_targets.network.neurons import NEURONS, CubaLIF, NetworkError
from ..hw_targets.network.recipe import Recipe
from .frontends import FRONTENDS, Frontend
from .parts import Field, Kind, Part, Table


def supported(frontends: Sequence[Frontend] = FRONTENDS) -> tuple[Part, ...]:
    """Every table, in the order of the way from a framework to the chip.

    A part whose framework is not installed is there with `missing` set.
    """
    tables = [
        *(table for frontend in frontends for table in frontend.supported),
        Table("input codings", _codings),
        Table("weight bits", _bits),
        Table("surrogate gradients", _surrogates),
        Table("answers", _answers),
        Table("netx layers", _layers),
        Table("netx neurons", _neurons),
        Table("number ranges", _limits),
    ]
    return tuple(table.read() for table in tables)


# -- what needs torch: imported only when it is asked for ---------------------------------------------


def _bits() -> Iterable[Kind]:
    from .quantize.quantize import BITS

    return (Kind(str(bits)) for bits in BITS)


def _surrogates() -> Iterable[Kind]:
    from ..models.surrogates import SURROGATES

    return (Kind(name) for name in SURROGATES)


# -- the hardware: its own classes and constants ------------------------------------------------------


def _codings() -> Iterable[Kind]:
    return (Kind(name) for name in CODINGS)


def _answers() -> Iterable[Kind]:
    return (Kind(str(name)) for name in get_args(get_type_hints(Recipe)["decode"]))


def _layers() -> Iterable[Kind]:
    return (_kind(layer) for layer in get_args(Layer))


def _neurons() -> Iterable[Kind]:
    return (_kind(neuron) for neuron in NEURONS)


def _limits() -> Iterable[Kind]:
    for name, value in vars(arithmetic).items():
        if name.isupper() and isinstance(value, int):
            yield Kind(name, remark=str(value))


_SMALLEST: dict[str, Any] = {
    "shape": (1,),
    "weight": np.ones((1, 1), int),
    "neuron": CubaLIF(1, 1, 1),
}
"""Values of fields that are not one number, where a layer needs them; of `Conv`, with more axes."""


def _kind(made: type) -> Kind:
    """The fields of a layer or neuron, asked one by one."""
    hints = get_type_hints(made)
    example: dict[str, Any] = {}
    for field in fields(made):
        if field.default is MISSING:
            example[field.name] = _SMALLEST.get(field.name, 1)
    if made is Conv:
        example |= {"weight": np.ones((1, 1, 1, 1), int), "neuron": _SMALLEST["neuron"]}
    return Kind(
        made.__name__,
        tuple(_field(made, example, field.name, hints[field.name]) for field in fields(made)),
    )


def _field(made: type, example: dict[str, Any], name: str, hint: Any) -> Field:
    optional = NoneType in get_args(hint)
    if get_origin(hint) is Literal:
        return Field(name, choices=tuple(map(str, get_args(hint))))
    if name == "neuron":
        kinds = tuple(kind.__name__ for kind in NEURONS if made.__name__ in kind.layers)
        return Field(name, choices=kinds, optional=optional)
    shape = np.shape(example.get(name, 0)) or ((1, 1) if name in ("recurrent", "imaginary") else ())
    try:
        made(**{**example, name: np.full(shape, 1 << 40)})
    except NetworkError as refusal:
        limits = re.search(r"is outside \[(-?\d+), (-?\d+)\]", str(refusal))
        if limits:
            return Field(name, int(limits[1]), int(limits[2]), optional=optional)
        raise
    raise AssertionError(f"{made.__name__}.{name} takes any number")
