"""What this installation supports, read from the code that does it: there is no second list.

Ranges are found by asking: every field of every layer and neuron is given a number that no hardware
holds, and the refusal says what it would have taken.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import MISSING, dataclass, fields
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np

from ..hw_targets.network import arithmetic
from ..hw_targets.network.layers import Conv, Layer
from ..hw_targets.network.neurons import NEURONS, CubaLIF, NetworkError
from ..hw_targets.network.recipe import Recipe


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


def supported() -> tuple[Part, ...]:
    """Every table, in the order of the way from a framework to the chip.

    A part whose framework is not installed is there with `missing` set.
    """
    return tuple(
        _part(name, read)
        for name, read in (
            ("NIR primitives", _nir),
            ("Norse modules", _norse),
            ("SLAYER blocks", _slayer),
            ("SLAYER neurons", _slayer_neurons),
            ("input codings", _codings),
            ("weight bits", _bits),
            ("surrogate gradients", _surrogates),
            ("answers", _answers),
            ("netx layers", _layers),
            ("netx neurons", _neurons),
            ("number ranges", _limits),
        )
    )


def _part(name: str, read: Callable[[], Iterable[Kind]]) -> Part:
    try:
        return Part(name, tuple(read()))
    except ModuleNotFoundError as error:
        if (error.name or "").split(".")[0] == "spikeship":
            raise
        return Part(name, (), f'{error.name} is not installed: pip install "spikeship[train]".')


# -- frameworks: imported only when they are asked for ----------------------------------------------


def _module(name: str) -> Any:
    return importlib.import_module(name, __package__)


def _table(table: Mapping[Any, Any]) -> Iterable[Kind]:
    """Keys of a conversion table; a text in place of a function says why something is refused."""
    for key, value in table.items():
        name = key.__name__ if isinstance(key, type) else slayer_name(str(key))
        yield Kind(name, remark=f"refused: {value}" if isinstance(value, str) else "")


def slayer_name(qualified: str) -> str:
    """What a user calls a class of lava-dl: `Dense` for `block.base.AbstractDense`, `neuron.cuba`."""
    name = (
        qualified.removeprefix("lava.lib.dl.").removeprefix("block.").removeprefix("base.Abstract")
    )
    return name.removesuffix(".Neuron")


def _nir() -> Iterable[Kind]:
    return (
        Kind(node.__name__, remark=", ".join(names))
        for node, names in _module(".graph").PARAMETERS.items()
    )


def _norse() -> Iterable[Kind]:
    yield from _table(_module(".frontends.norse_modules").CONVERSIONS)
    for text, reason in _module(".frontends.norse").REASONS.items():
        yield Kind(f"*{text}*", remark=f"refused: {reason}")


def _slayer() -> Iterable[Kind]:
    return _table(_module(".frontends.slayer").BLOCKS)


def _slayer_neurons() -> Iterable[Kind]:
    module = _module(".frontends.slayer_neurons")
    return (*_table(module.NEURONS), *_table(module.NORMS))


def _codings() -> Iterable[Kind]:
    return (Kind(name) for name in _module("..models.encoding").CODINGS)


def _bits() -> Iterable[Kind]:
    return (Kind(str(bits)) for bits in _module(".quantize.quantize").BITS)


def _surrogates() -> Iterable[Kind]:
    return (Kind(name) for name in _module(".twin").SURROGATES)


# -- the hardware: its own classes and constants ------------------------------------------------------


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
        found = re.search(r"is outside \[(-?\d+), (-?\d+)\]", str(refusal))
        if found:
            return Field(name, int(found[1]), int(found[2]), optional=optional)
        raise
    raise AssertionError(f"{made.__name__}.{name} takes any number")
