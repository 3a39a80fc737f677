"""Arguments and options that several commands share."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import numpy as np
import typer

from .screen import fail

if TYPE_CHECKING:
    pass


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


DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder with torchvision's MNIST/raw and FashionMNIST/raw, or with nmnist_small.tar.",
        envvar="SPIKESHIP_DATA_ROOT",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and noise.")]
