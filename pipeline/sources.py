"""What `spikeship export` is given: a checkpoint, a function that builds a network, or a NIR file."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import TypeAlias, TypeGuard

import nir
import torch
from torch import nn

from ..models.training import Settings, load
from .frontends import from_nir

Source: TypeAlias = nn.Module | nir.NIRGraph


def load_source(
    source: str,
    checkpoint: str | Path | None = None,
    *,
    dt: float | None = None,
    reset: str | None = None,
) -> tuple[Source, Settings | None]:
    """The network that `source` names; with its settings if `spikeship train` made it.

    `source`: a file `*.nir`, `module:function` that returns a Norse or SLAYER network or a NIR
    graph, or a checkpoint of `spikeship train`. `checkpoint`: a torch state dict for what the
    function returns (strict). `dt`, `reset`: of NIR graphs, see `from_nir`. Raises ValueError.
    """
    network: Source
    if ":" in source:
        network, settings = build(source), None
    elif Path(source).suffix == ".nir":
        network, settings = from_nir(source, dt, reset=reset), None
    else:
        classifier = load(source)
        network, settings = classifier.net, classifier.settings
        if not settings.spiking:
            raise ValueError(f"{source} is an ANN twin; export a spiking network.")
    if checkpoint is not None:
        if settings is not None or isinstance(network, nir.NIRGraph):
            raise ValueError("--checkpoint goes with module:function that returns a torch network.")
        _load_weights(network, Path(checkpoint))
    if isinstance(network, nir.NIRGraph):
        if ":" in source:
            network = from_nir(network, dt, reset=reset)
    elif dt is not None or reset is not None:
        raise ValueError("--dt and --reset are for NIR graphs; torch networks say both themselves.")
    return network, settings


def build(source: str) -> Source:
    """What the function of `module:function` returns, the module importable from this folder."""
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
    network = builder()
    if not isinstance(network, Source):
        raise ValueError(
            f"{source} returns a {type(network).__name__}; a torch network or a NIR graph is needed."
        )
    return network


def _load_weights(network: nn.Module, path: Path) -> None:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    network.load_state_dict(torch.load(path, map_location="cpu", weights_only=True))


def is_slayer(network: Source) -> TypeGuard[nn.Module]:
    """Whether a network has blocks of lava-dl."""
    return isinstance(network, nn.Module) and any(
        type(module).__module__.startswith("lava.lib.dl.") for module in network.modules()
    )
