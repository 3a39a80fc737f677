"""What `spikeship export` is given: a checkpoint, a function that builds a network, or a NIR file."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import nir
import torch

from ...models.named import call_named, is_named
from ...models.settings import Settings
from . import FRONTENDS, Frontend, UnknownFrameworkError, from_nir, frontend_of
from .frontend import load_state_dict
from .onnx_file import read_onnx

if TYPE_CHECKING:
    from ...models.ann import AnyAnn


@dataclass(frozen=True)
class Given:
    """What the caller says of a NIR graph, see `from_nir`."""

    dt: float | None = None
    reset: str | None = None
    reset_delay: int | None = None
    framework: str | None = None

    def read(self, source: str | nir.NIRGraph) -> nir.NIRGraph:
        """`from_nir` with what was given; errors as there."""
        return from_nir(
            source,
            self.dt,
            reset=self.reset,
            reset_delay=self.reset_delay,
            framework=self.framework,
        )


def load_source(
    source: str,
    checkpoint: str | Path | None = None,
    given: Given = Given(),
    frontends: Sequence[Frontend] = FRONTENDS,
) -> tuple[Any, Settings | None]:
    """The network that `source` names; with its settings if `spikeship train` made it.

    `source`: a file `*.nir`, `module:function` that returns what one of `frontends` understands, such
    as a Norse or SLAYER network or a NIR graph, or a checkpoint of `spikeship train`. `checkpoint`: a
    torch state dict for what the function returns (strict). `given`: of NIR graphs only. Raises
    ValueError.
    """
    network: Any
    if is_named(source):
        network, settings = build(source, frontends), None
        if isinstance(network, nir.NIRGraph):
            network = given.read(network)
    elif Path(source).suffix == ".nir":
        network, settings = given.read(source), None
    else:
        from ...models.training import load

        classifier = load(source)
        network, settings = classifier.net, classifier.settings
        if not settings.spiking:
            raise ValueError(f"{source} is an ANN twin; export a spiking network.")
    if checkpoint is not None:
        if settings is not None or isinstance(network, nir.NIRGraph):
            raise ValueError(
                f"checkpoint = {checkpoint}: it goes with module:function that returns a torch network."
            )
        load_weights(network, Path(checkpoint), frontend_of(network, frontends).load_weights)
    if given != Given() and not isinstance(network, nir.NIRGraph):
        said = ", ".join(f"{k} = {v!r}" for k, v in vars(given).items() if v is not None)
        raise ValueError(f"{said}: for NIR graphs only; torch networks say these themselves.")
    return network, settings


def load_ann(
    source: str, images: torch.Tensor | None = None, checkpoint: str | Path | None = None
) -> AnyAnn:
    """The ANN that `source` names: a checkpoint of `spikeship train --ann`, or see `load_module`.

    `checkpoint`: a torch state dict for what the function returns. `images` (sample, *shape): some, to
    follow its forward, which somebody else's needs. Raises ValueError; AnnError where it is no row of
    layers.
    """
    from ...models.ann import ann_of
    from ...models.training import load

    if is_foreign(source):
        if images is None or not len(images):
            raise ValueError(f"{source}: its forward is followed on training images: give --data.")
        return ann_of(load_module(source, checkpoint), images)
    if checkpoint is not None:
        raise ValueError(f"checkpoint = {checkpoint}: it goes with module:function.")
    ann = load(source)
    if ann.spiking:
        raise ValueError(
            f"{source} is a spiking network; give the checkpoint of an ANN (`spikeship train --ann`)."
        )
    return ann


def is_foreign(source: str) -> bool:
    """Whether a text names an ANN that `spikeship train` did not make, see `load_module`."""
    return is_named(source) or Path(source).suffix == ".onnx"


def load_module(source: str, checkpoint: str | Path | None = None) -> torch.nn.Module:
    """Somebody else's ANN: what `module:function` returns, or an ONNX file.

    `checkpoint`: a torch state dict for what the function returns.

    Raises NamedError, OnnxError, and ValueError for what is no torch ANN.
    """
    if not is_named(source):
        if checkpoint is not None:
            raise ValueError(
                f"checkpoint = {checkpoint}: {source} holds its own weights, leave it out."
            )
        return read_onnx(source)
    model = call_named(source)
    if not isinstance(model, torch.nn.Module):
        raise ValueError(f"{source} returns a {type(model).__name__}; a torch module is needed.")
    check_ann(model, f"{source} returns")
    if checkpoint is not None:
        load_weights(model, Path(checkpoint))
    return model


def check_ann(model: object, given: str = "this is") -> None:
    """Refuse a network of spiking neurons where an ANN is needed. Raises ValueError."""
    for frontend in FRONTENDS:
        if frontend.understands(model):
            raise ValueError(
                f"{given} {frontend.takes}, which spikes: no ANN. `spikeship export` (`deploy`) makes "
                f"a .net file of it, which is attacked, certified and profiled."
            )


def build(source: str, frontends: Sequence[Frontend] = FRONTENDS) -> Any:
    """What the function of `module:function` returns, see `call_named`.

    Raises NamedError where there is no such function, UnknownFrameworkError where none of `frontends`
    understands what it returns.
    """
    network = call_named(source)
    try:
        frontend_of(network, frontends)
    except UnknownFrameworkError as error:
        raise UnknownFrameworkError(f"{source} returns {error}") from None
    return network


def load_weights(
    network: Any, path: Path, load: Callable[[Any, Mapping[str, Any]], None] = load_state_dict
) -> None:
    """Put the state dict in a file of torch, alone or within a training checkpoint, into a network.

    Raises FileNotFoundError, and ValueError for another file or the weights of another network.
    """
    from ...models.archive import ArchiveError, read_archive
    from ...models.checkpoints import state_dict

    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        state = state_dict(read_archive(path))
        if state is None:
            raise ValueError(f"{path}: holds no state dict, or several. torch.save one, alone.")
        load(network, state)
    except ArchiveError as error:
        raise ValueError(f"{path}: {error}.") from None
    except (RuntimeError, AttributeError, TypeError, LookupError) as error:
        raise ValueError(f"{path}: not the weights of this network: {error}") from None
