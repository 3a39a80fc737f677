"""Arguments and options that several commands share."""

from __future__ import annotations

import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ...hw_targets.network.coding import Coding, CodingName
from ...hw_targets.npy import ArrayFileError, read_npy
from .screen import fail, misused

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset
    from ...models.data.grid import CodingChoice
    from ..deploy.deployed import Deployed
    from ..deploy.task import Task


NetArgument = Annotated[Path, typer.Argument(help="A netx file (.net).", metavar="NET.net")]
DataRoot = Annotated[
    Path | None,
    typer.Option(
        help="Folder that holds built-in data: torchvision's MNIST/raw, FashionMNIST/raw or "
        "cifar-10-batches-py, tonic's NMNIST, DVSGesture, SHD or SSC.",
        envvar="SPIKESHIP_DATA_ROOT",
    ),
]
Seed = Annotated[int, typer.Option(help="Seed of weights and noise.")]
Processor = Annotated[
    str,
    typer.Option("--device", help="Where it is computed: cpu, or a GPU, as cuda, cuda:1, ..."),
]
Devices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="Energy device, by name or as a .toml file, see `spikeship devices`; repeatable. "
        "Default: those that can carry the network.",
    ),
]


_CODING = {part.name: part.metadata for part in fields(Coding)}
OWN_DATA = (
    "a built-in name, your own data.npz (x_train, y_train, x_test, y_test), a folder as torchvision or "
    "tonic makes it, or module:function, which is run"
)
"""What --data takes."""
_PANEL = "A file without recipe"


BothDevices = Annotated[
    list[str] | None,
    typer.Option(
        "--device",
        help="Where it is computed: cpu, or a GPU, as cuda, cuda:1, ...; and energy devices, by name or "
        "as .toml files, see `spikeship devices`. Repeatable. Default: cpu, and those that can carry the "
        "network.",
    ),
]


def split_devices(typed: list[str] | None) -> tuple[str, list[str]]:
    """Where to compute, and the energy devices, of `BothDevices`; two places end the command."""
    places = [name for name in typed or [] if re.fullmatch(r"(cpu|cuda|mps)(:\d+)?", name)]
    if len(places) > 1:
        misused(f"--device {' --device '.join(places)}: it is computed in one place.")
    others = [name for name in typed or [] if name not in places]
    return (places or ["cpu"])[0], others


@dataclass(frozen=True)
class DataOptions:
    """What a file is judged on, and how a file without recipe is run there."""

    data: Annotated[
        str | None,
        typer.Option(help=f"Data to use: {OWN_DATA}. Default: those that the file was made for."),
    ] = None
    data_root: DataRoot = None
    input_: Annotated[
        Path | None,
        typer.Option(
            "--input",
            help="Your own inputs in place of --data, in a .npy file: integers (sample, time, *input "
            "shape), sent as they are; or real numbers, as in --data.",
        ),
    ] = None
    labels: Annotated[
        Path | None,
        typer.Option(
            help="What --input shall be answered, in a .npy file: classes, whole numbers (sample,), or "
            "targets, real numbers (sample, outputs)."
        ),
    ] = None
    coding: CodingName | None = field(default=None, metadata={**_CODING["name"], "panel": _PANEL})
    sigma: float | None = field(default=None, metadata={**_CODING["sigma"], "panel": _PANEL})
    time_steps: Annotated[
        int | None,
        typer.Option(
            "--time-steps",
            "--steps",
            help="Time steps per image. Default: 8.",
            min=1,
            rich_help_panel=_PANEL,
        ),
    ] = None
    levels: Annotated[
        int | None,
        typer.Option(
            help="Integers per 1.0. Default: those that suit the data; of integers 1.",
            min=1,
            rich_help_panel=_PANEL,
        ),
    ] = None
    reset_interval: Annotated[
        int | None,
        typer.Option(
            help="Steps from one reset of u and v to the next, each with a sample's first data. "
            "Default: none.",
            min=1,
            rich_help_panel=_PANEL,
        ),
    ] = None

    def for_ann(self, name: str) -> tuple[Dataset, Coding | None]:
        """The data that a torch ANN of somebody else's is judged on, and the noise it is given, if any.

        Options that do not go together end the command.
        """
        from ...models.data.grid import CodingChoice
        from ...models.data.load import load
        from ..deploy.task import alone

        if (self.data is None) == (self.input_ is None):
            misused(f"{name}: give either --data or --input with --labels.")
        if self.labels is not None and self.input_ is None:
            misused("--labels go with --input; a data set has its own.")
        noisy = self.coding is not None or self.sigma is not None
        if self.reset_interval is not None or not (noisy or self.levels is self.time_steps is None):
            misused(
                f"{name} is an ANN, which sees an image once, as it is: leave out --levels, --time-steps "
                f"and --reset-interval. --coding rsc1 --sigma S adds noise to it."
            )
        if self.input_ is None:
            dataset = load(self.data or "", self.data_root)
        else:
            labels = None if self.labels is None else load_array(self.labels)
            dataset = alone(load_array(self.input_), labels, str(self.input_))
        if not noisy:
            return dataset, None
        said = CodingChoice(self.coding or "rsc1", self.time_steps or 1, self.levels, self.sigma)
        return dataset, said.of(dataset)

    def of_source(self, name: str) -> DataOptions:
        """The same data, by its `name` where none was typed, for another network."""
        if self.input_ is not None:
            return DataOptions(input_=self.input_, labels=self.labels)
        return DataOptions(self.data or name, self.data_root)

    @property
    def says_more(self) -> bool:
        """Whether more than a data set was given."""
        return any(
            getattr(self, f.name) is not None
            for f in fields(self)
            if f.name not in ("data", "data_root")
        )

    def of(self, deployed: Deployed) -> Task:
        """The network, with a recipe, and the data that are asked for, or that it was made for."""
        from ...models.data.grid import CodingChoice
        from ..deploy.task import task

        return task(
            deployed,
            self.data,
            self.data_root,
            inputs=None if self.input_ is None else load_array(self.input_),
            labels=None if self.labels is None else load_array(self.labels),
            said=CodingChoice(self.coding, self.time_steps, self.levels, self.sigma),
            reset_interval=self.reset_interval,
            name=str(self.input_),
        )


@dataclass(frozen=True)
class CodingOptions:
    """How images become the input of a network that was not trained with a coding of ours."""

    coding: CodingName | None = field(default=None, metadata=_CODING["name"])
    sigma: float | None = field(default=None, metadata=_CODING["sigma"])
    steps: Annotated[
        int | None,
        typer.Option("--time-steps", "--steps", help="Time steps per sample. Default: 8.", min=1),
    ] = None

    def chosen(self, levels: int | None) -> CodingChoice:
        """What was asked for, with so many levels per 1.0; the data decide the rest."""
        from ...models.data.grid import CodingChoice

        return CodingChoice(self.coding, self.steps, levels, self.sigma)


BEGINS = {"netx": b"\x89HDF", "npz": b"PK", "npy": b"\x93NUMPY", "JSON": b"{"}
"""First bytes of the files that commands write, by their kind."""


def new_file(path: Path | None, kind: Literal["netx", "npz", "npy", "JSON"]) -> None:
    """Refuse to write where it cannot be meant, before anything is computed for it.

    In a folder that is not there, or over a file of another kind, which somebody has put there.
    """
    if path is None:
        return
    if not path.parent.is_dir():
        raise FileNotFoundError(f"{path.parent}: no such folder; make it, or correct the name.")
    if path.is_dir():
        raise IsADirectoryError(f"{path} is a folder: give a name for the {kind} file.")
    begins = BEGINS[kind]
    if path.is_file() and path.stat().st_size:
        with path.open("rb") as file:
            if file.read(len(begins)) != begins:
                raise FileExistsError(
                    f"{path} is there, and it is no {kind} file that may be replaced: give another name."
                )


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
        return read_npy(path)
    except ArrayFileError as error:
        fail(f"{path}: not a .npy file of numbers ({error}).")
