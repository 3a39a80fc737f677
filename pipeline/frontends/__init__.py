"""From a trained network of some framework to a NIR graph (SLAYER: to integers), and back.

Each framework is a row of `FRONTENDS`. A framework is imported when a network of it is converted, not
before: names of this package are loaded when they are asked for.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from importlib import import_module
from typing import TYPE_CHECKING, Any

from numpy.typing import NDArray

from ..parts import Kind, Table
from .frontend import Frontend, UnknownFrameworkError, holds_modules_of

if TYPE_CHECKING:
    import nir
    import torch

    from ...hw_targets.network.network import Network
    from .netx import from_netx
    from .nir import from_nir
    from .norse import from_norse
    from .slayer import from_slayer
    from .slayer_checkpoint import load_slayer

__all__ = [
    "FRONTENDS",
    "Frontend",
    "UnknownFrameworkError",
    "from_netx",
    "from_nir",
    "from_norse",
    "from_slayer",
    "frontend_of",
    "load_slayer",
]
_LOADED_LATER = {
    "from_netx": "netx",
    "from_nir": "nir",
    "from_norse": "norse",
    "from_slayer": "slayer",
    "load_slayer": "slayer_checkpoint",
}


def __getattr__(name: str) -> Any:
    if name not in _LOADED_LATER:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f".{_LOADED_LATER[name]}", __name__), name)


# -- NIR -------------------------------------------------------------------------------------------


def _is_graph(model: Any) -> bool:
    import nir

    return isinstance(model, nir.NIRGraph)


def _read(
    model: nir.NIRGraph, input_shape: Sequence[int] | None, frames: NDArray[Any] | None
) -> nir.NIRGraph:
    from .nir import from_nir

    return from_nir(model)


def _primitives() -> Iterable[Kind]:
    from ..graph import PARAMETERS

    return (Kind(node.__name__, remark=", ".join(names)) for node, names in PARAMETERS.items())


def _conventions() -> Iterable[Kind]:
    from .nir_conventions import CONVENTIONS

    return (Kind(name, remark=rules.says) for name, rules in CONVENTIONS.items())


# -- Norse -----------------------------------------------------------------------------------------


def _is_norse(model: Any) -> bool:
    return holds_modules_of(model, "norse")


def _proven(
    model: torch.nn.Module, input_shape: Sequence[int] | None, frames: NDArray[Any] | None
) -> nir.NIRGraph:
    from .norse import convert

    return convert(model, input_shape, frames)


def _norse_modules() -> Iterable[Kind]:
    from .norse import supported

    return supported()


def _norse_answers(model: torch.nn.Module, frames: NDArray[Any]) -> list[NDArray[Any]]:
    from .norse import run_norse

    return run_norse(model, frames)


# -- snnTorch --------------------------------------------------------------------------------------


def _is_snntorch(model: Any) -> bool:
    return holds_modules_of(model, "snntorch")


def _of_snntorch(
    model: torch.nn.Module, input_shape: Sequence[int] | None, frames: NDArray[Any] | None
) -> nir.NIRGraph:
    from .snntorch import SNNTORCH
    from .spiking import convert

    return convert(SNNTORCH, model, input_shape, frames)


def _snntorch_answers(model: torch.nn.Module, frames: NDArray[Any]) -> list[NDArray[Any]]:
    from .snntorch import SNNTORCH
    from .spiking import answers

    return answers(SNNTORCH, model, frames)


def _snntorch_neurons() -> Iterable[Kind]:
    from .snntorch import supported

    return supported()


# -- SpikingJelly ----------------------------------------------------------------------------------


def _is_spikingjelly(model: Any) -> bool:
    return holds_modules_of(model, "spikingjelly")


def _of_spikingjelly(
    model: torch.nn.Module, input_shape: Sequence[int] | None, frames: NDArray[Any] | None
) -> nir.NIRGraph:
    from .spiking import convert
    from .spikingjelly import SPIKINGJELLY

    return convert(SPIKINGJELLY, model, input_shape, frames)


def _spikingjelly_answers(model: torch.nn.Module, frames: NDArray[Any]) -> list[NDArray[Any]]:
    from .spiking import answers
    from .spikingjelly import SPIKINGJELLY

    return answers(SPIKINGJELLY, model, frames)


def _spikingjelly_neurons() -> Iterable[Kind]:
    from .spikingjelly import supported

    return supported()


# -- sinabs ----------------------------------------------------------------------------------------


def _is_sinabs(model: Any) -> bool:
    return holds_modules_of(model, "sinabs")


def _of_sinabs(
    model: torch.nn.Module, input_shape: Sequence[int] | None, frames: NDArray[Any] | None
) -> nir.NIRGraph:
    several = [
        f"{name} ({type(module).__name__})"
        for name, module in model.named_modules()
        if "SingleSpike" not in repr(getattr(module, "spike_fn", "SingleSpike"))
    ]
    if several:
        raise ValueError(
            f"sinabs: {', '.join(several)} send several spikes in one step (spike_fn), which netx "
            f"cannot. Train with spike_fn=SingleSpike."
        )
    raise ValueError(
        "sinabs networks are not read themselves: write sinabs.to_nir(...) and give the file, with "
        "framework='sinabs' and reset='subtract' (MembraneSubtract) or reset='zero' (MembraneReset)."
    )


# -- SLAYER ----------------------------------------------------------------------------------------


def _is_slayer(model: Any) -> bool:
    return holds_modules_of(model, "lava.lib.dl")


def _integers(
    model: torch.nn.Module, input_shape: Sequence[int] | None, frames: NDArray[Any] | None
) -> Network:
    from .slayer import from_slayer

    return from_slayer(model, input_shape)


def _slayer_blocks() -> Iterable[Kind]:
    from .slayer import BLOCKS
    from .slayer_neurons import supported

    return supported(BLOCKS)


def _slayer_neurons() -> Iterable[Kind]:
    from .slayer_neurons import NEURONS, NORMS, supported

    return (*supported(NEURONS), *supported(NORMS))


def _slayer_weights(model: torch.nn.Module, state: Mapping[str, torch.Tensor]) -> None:
    from .slayer_checkpoint import load_slayer

    load_slayer(model, state)


FRONTENDS = (
    Frontend(
        "NIR",
        "a NIR graph",
        _is_graph,
        _read,
        (Table("NIR primitives", _primitives), Table("NIR conventions (--from)", _conventions)),
    ),
    Frontend(
        "Norse",
        "a torch network with Norse modules",
        _is_norse,
        _proven,
        (Table("Norse modules", _norse_modules),),
        answers=_norse_answers,
    ),
    Frontend(
        "snnTorch",
        "a torch network with snnTorch neurons",
        _is_snntorch,
        _of_snntorch,
        (Table("snnTorch neurons", _snntorch_neurons),),
        answers=_snntorch_answers,
    ),
    Frontend(
        "SpikingJelly",
        "a torch network with SpikingJelly neurons",
        _is_spikingjelly,
        _of_spikingjelly,
        (Table("SpikingJelly neurons", _spikingjelly_neurons),),
        answers=_spikingjelly_answers,
    ),
    Frontend("sinabs", "the NIR graph of a sinabs network", _is_sinabs, _of_sinabs),
    Frontend(
        "SLAYER",
        "a torch network with blocks of lava-dl",
        _is_slayer,
        _integers,
        (Table("SLAYER blocks", _slayer_blocks), Table("SLAYER neurons", _slayer_neurons)),
        integers=True,
        load_weights=_slayer_weights,
    ),
)


def frontend_of(model: object, frontends: Sequence[Frontend] = FRONTENDS) -> Frontend:
    """The first of `frontends` that understands a network.

    Your own goes before or behind the others: `frontend_of(model, (*FRONTENDS, mine))`. Raises
    UnknownFrameworkError, which lists what they take.
    """
    for frontend in frontends:
        if frontend.understands(model):
            return frontend
    *others, last = (frontend.takes for frontend in frontends)
    raise UnknownFrameworkError(
        f"an object of type {type(model).__name__}, which no frontend understands; "
        f"{', '.join(others)} or {last} is needed. Of another framework, give the NIR graph; an "
        f"ANN goes through `spikeship convert` first."
    )
