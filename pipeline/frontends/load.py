"""What `spikeship export` is given: a checkpoint, a function that builds a network, or a NIR file."""

from __future__ import annotations

import contextlib
import importlib
import pickle
import sys
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import nir
import torch

from ...models.settings import Settings
from ...models.training import load
from . import FRONTENDS, Frontend, UnknownFrameworkError, from_nir, frontend_of


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
    if ":" in source:
        network, settings = build(source, frontends), None
        if isinstance(network, nir.NIRGraph):
            network = given.read(network)
    elif Path(source).suffix == ".nir":
        network, settings = given.read(source), None
    else:
        classifier = load(source)
        network, settings = classifier.net, classifier.settings
        if not settings.spiking:
            raise ValueError(f"{source} is an ANN twin; export a spiking network.")
    if checkpoint is not None:
        if settings is not None or isinstance(network, nir.NIRGraph):
            raise ValueError(
                f"checkpoint = {checkpoint}: it goes with module:function that returns a torch network."
            )
        _load_weights(network, Path(checkpoint), frontend_of(network, frontends))
    if given != Given() and not isinstance(network, nir.NIRGraph):
        said = ", ".join(f"{k} = {v!r}" for k, v in vars(given).items() if v is not None)
        raise ValueError(f"{said}: for NIR graphs only; torch networks say these themselves.")
    return network, settings


def build(source: str, frontends: Sequence[Frontend] = FRONTENDS) -> Any:
    """What the function of `module:function` returns, the module importable from this folder.

    What importing it prints (lava-dl greets) goes to standard error. Raises ValueError where there is
    no such function, UnknownFrameworkError where none of `frontends` understands what it returns.
    """
    with contextlib.redirect_stdout(sys.stderr):
        network = _called(source)
    try:
        frontend_of(network, frontends)
    except UnknownFrameworkError as error:
        raise UnknownFrameworkError(f"{source} returns {error}") from None
    return network


def _called(source: str) -> Any:
    name, _, function = source.partition(":")
    sys.path.insert(0, str(Path.cwd()))
    try:
        module = importlib.import_module(name.removesuffix(".py").replace("/", "."))
        builder = getattr(module, function)
    except (ModuleNotFoundError, AttributeError) as error:
        raise ValueError(
            f"{source}: {error}. Give module:function, importable from this folder."
        ) from None
    finally:
        sys.path.pop(0)
    return builder()


def _load_weights(network: Any, path: Path, frontend: Frontend) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        state = torch.load(path, map_location="cpu", weights_only=True)
        frontend.load_weights(network, state)
    except (RuntimeError, pickle.UnpicklingError, EOFError, AttributeError) as error:
        raise ValueError(f"{path}: not the weights of this network: {error}") from None
