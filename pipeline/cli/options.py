"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from .screen import fail, say

if TYPE_CHECKING:
    import nir

    from ...models.data.dataset import Dataset


Target = Literal["engine", "reference", "lava"]
NetArgument = Annotated[Path, typer.Argument(help="A netx file (.net).", metavar="NET.net")]


def _load_array(path: Path) -> Any:
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        array = np.load(path, allow_pickle=False)
    except (ValueError, EOFError) as error:
        fail(f"{path}: not a .npy file of numbers ({error}).")
    if not isinstance(array, np.ndarray):
        array.close()
        fail(f"{path} holds several arrays: give a .npy file with one.")
    return array


def _graph_beside(net: Path, graph: Path | None) -> nir.NIRGraph | None:
    from ..frontends import from_nir

    path = graph or net.with_suffix(".nir")
    if not path.is_file():
        if graph is not None:
            raise FileNotFoundError(f"{graph}: no such file.")
        say(f"no float graph {path}: comparing with Lava only.")
        return None
    return from_nir(path)


DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder with torchvision's MNIST/raw and FashionMNIST/raw, or with nmnist_small.tar.",
        envvar="SPIKESHIP_DATA_ROOT",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and noise.")]


def dataset_of(net: Path, recipe: Any, data: str | None, data_root: Path | None) -> Dataset:
    from ...models.data.load import load

    name = data or recipe.provenance.get("dataset")
    if name is None:
        fail(f"{net} does not say which data set it was made for: give --data.")
    return load(name, data_root, recipe.steps)
