"""What a frontend says of itself."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, TypeAlias

from numpy.typing import NDArray

from ..parts import Table

if TYPE_CHECKING:
    import nir
    import torch

    from ...hw_targets.network.network import Network

Convert: TypeAlias = (
    "Callable[[Any, Sequence[int] | None, NDArray[Any] | None], nir.NIRGraph | Network]"
)


class UnknownFrameworkError(ValueError):
    """A network that no frontend understands."""


def load_state_dict(model: Any, state: Mapping[str, torch.Tensor]) -> None:
    """A torch module's own, strict."""
    model.load_state_dict(state)


@dataclass(frozen=True)
class Frontend:
    """One framework: which networks are its own, and what becomes of them.

    `name`: the framework. `takes`: what of it, as an error lists it, such as "a NIR graph".

    `understands(model)`: whether a network is of this framework. It imports no framework: the classes
    of a network say where they come from.

    `convert(model, input_shape, frames)`: the NIR graph of a network or, of a framework that trains
    the chip's integers, its `Network`; proven, layer by layer, or refused with all reasons in one
    error. `input_shape`: one step's, (C, H, W), (C, L) or (N,); `frames`: some real inputs, (sample,
    time, *input shape), on which the proof is repeated. Either may be None, and a frontend that cannot
    do without says so.

    `supported`: its tables for `spikeship supported`, read when they are asked for.

    `integers`: whether `convert` gives a `Network`, for which no data is needed to choose integers.

    `load_weights(model, state)`: puts a torch state dict into a network, strictly.

    `answers(model, frames)`: what every layer of neurons gives, spikes or a readout's voltages
    (sample, time, *layer shape), when the network's own forward runs on `frames`; None where no
    forward can be followed. `verify` compares it with the graph.
    """

    name: str
    takes: str
    understands: Callable[[Any], bool]
    convert: Convert
    supported: tuple[Table, ...] = ()
    integers: bool = False
    load_weights: Callable[[Any, Mapping[str, torch.Tensor]], None] = load_state_dict
    answers: Callable[[Any, NDArray[Any]], list[NDArray[Any]]] | None = None


def holds_modules_of(model: Any, package: str) -> bool:
    """Whether a torch network holds a module of `package` ("norse"), or of a class derived from one."""
    if not callable(getattr(model, "modules", None)):
        return False
    return any(
        kind.__module__.startswith(f"{package}.")
        for module in model.modules()
        for kind in type(module).__mro__
    )
