"""What a kind of neurons says of itself beside its equation: ranges, netx names, operations."""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass, field, fields
from functools import cache
from typing import Any, NamedTuple

from numpy.typing import NDArray

from ..arrays import Array

STATES = ("u", "v", "residue")
"""What a trace can hold beside spikes; which neurons have which is in their `states`."""


@dataclass(frozen=True)
class Parameter:
    """The whole numbers that a field of a neuron takes, and the netx dataset that holds it.

    `fix`: what to do about a number beyond `low` .. `high`. `netx`: the dataset in the file's group
    `neuron`; None: no file holds it, but for `spike_exp`, which the whole network has once.
    `per_neuron`: may also be one number per channel (C,), or one per neuron of the layer.
    """

    low: int
    high: int
    fix: str
    netx: str | None
    per_neuron: bool


def whole(
    low: int, high: int, fix: str = "", *, netx: str | None = None, per_neuron: bool = False
) -> dict[str, Parameter]:
    """Metadata of a neuron's field, see `Parameter`: `threshold: int = field(metadata=whole(0, 9))`."""
    return {"parameter": Parameter(low, high, fix, netx, per_neuron)}


@cache
def parameters(kind: Any) -> Mapping[str, Parameter]:
    """The parameters of a kind of neurons by field, in the order of its fields.

    Raises TypeError for a field that does not say its range; the field `kind` is a name.
    """
    said: dict[str, Parameter] = {}
    for f in fields(kind):
        if f.name == "kind":
            continue
        if "parameter" not in f.metadata:
            raise TypeError(
                f"{kind.__name__}.{f.name} does not say which numbers it takes: give it "
                f"field(metadata=whole(low, high))."
            )
        said[f.name] = f.metadata["parameter"]
    return said


@dataclass(frozen=True)
class Netx:
    """How netx holds a kind, beside its parameters: datasets of the group `neuron`.

    `types`: what `type` may be, each with further datasets that such a neuron may have, of no effect.
    A kind of several types has a field `kind` that says which. `constants`: datasets that are always
    written, with their values. `refused`: of these, why another value cannot be read ({} is it).
    `marker`: a dataset whose presence tells this kind from others of its type.
    """

    types: Mapping[str, Collection[str]]
    constants: Mapping[str, bool | int | str] = field(default_factory=dict)
    refused: Mapping[str, str] = field(default_factory=dict)
    marker: str | None = None


class Operations(NamedTuple):
    """What an update of a neuron takes, as its equation has it: the energy of arithmetic and memory.

    States that are forgotten at once need no memory, and those that are kept whole no product.
    """

    words: int
    """states kept from step to step"""
    products: int
    """multiplications"""
    sums: int
    """additions and comparisons, that of a layer's bias apart"""


class Step(NamedTuple):
    """What one time step of a layer's neurons leaves.

    `messages`: (sample, *layer shape), true or false of spiking neurons, else whole numbers of 32 bits.
    `states`: after the step, by the names that the kind gives them. The others count overflows, as
    `Overflow` does.
    """

    messages: NDArray[Any]
    states: Mapping[str, Array]
    u_wraps: int = 0
    v_clips: int = 0
    sum_wraps: int = 0
