"""Arguments and options that several commands share."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import numpy as np
import typer

from ...hw_targets.network.coding import Coding, CodingName
from .screen import fail, misused

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset
    from ..deploy.deployed import Deployed


NetArgument = Annotated[Path, typer.Argument(help="A netx file (.net).", metavar="NET.net")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds the data: torchvision's MNIST/raw or FashionMNIST/raw, "
        "cifar-10-batches-py, cifar10_jpeg.zip or nmnist_small.tar.",
        envvar="SPIKESHIP_DATA_ROOT",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and noise.")]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="Energy device, by name or as a .toml file, see `spikeship devices`; repeatable. "
        "Default: those that can carry the network.",
    ),
]


@dataclass(frozen=True)
class DataOptions:
    """The data set that a file is judged on."""

    data: Annotated[
        str | None,
        typer.Option(help="Data set to use. Default: the one that the file was made for."),
    ] = None
    data_root: DataRoot = None

    def of(self, deployed: Deployed) -> Dataset:
        """The data set that is asked for, or the one that the network was made for."""
        return deployed.dataset(self.data, self.data_root)


_CODING = {part.name: part.metadata for part in fields(Coding)}


@dataclass(frozen=True)
class CodingOptions:
    """How images become the input of a network that was not trained with a coding of ours."""

    coding: CodingName | None = field(default=None, metadata=_CODING["name"])
    sigma: float | None = field(default=None, metadata=_CODING["sigma"])
    steps: Annotated[
        int | None,
        typer.Option("--time-steps", "--steps", help="Time steps per sample. Default: 8.", min=1),
    ] = None

    def chosen(self, levels: int | None) -> Coding | None:
        """The coding of images with so many grey levels per 1.0; None where nothing was asked for."""
        if not any(option is not None for option in (self.coding, self.sigma, self.steps, levels)):
            return None
        return Coding.of(self.coding or "direct", self.steps or 8, levels or 16, self.sigma or 0.0)


def numbers(text: str, option: str) -> list[int]:
    """`8,4,4` as whole numbers; other texts end the command."""
    try:
        return [int(part) for part in text.split(",")]
    except ValueError:
        misused(f"{option} {text}: give whole numbers, separated by commas.")


def shape_of(text: str | None, option: str) -> tuple[int, ...] | None:
    """`2,34,34` as a shape; None where none was given."""
    if text is None:
        return None
    shape = tuple(numbers(text, option))
    if min(shape) < 1:
        misused(f"{option} {text}: sizes are 1 or more.")
    return shape


def load_array(path: Path) -> Any:
    """The one array of numbers in a .npy file; other files end the command."""
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
