"""What `attack`, `certify` and `robustness` share: the network, its data, and how strong attacks are."""

from __future__ import annotations

from contextlib import AbstractContextManager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer

from .options import DataOptions, new_file
from .screen import fail, misused

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset
    from ...models.settings import Settings
    from ...models.surrogates import Gradient
    from ..robustness import Victim
    from ..robustness.attacks import Strength
    from ..robustness.subject import Subject


Form = Literal["float", "deployed"]
On = Annotated[
    Form | None,
    typer.Option(
        help="Form of the network: float, or deployed as integers. Default: what FILE holds."
    ),
]
EOT = 8
"""Draws that a gradient is averaged over where the coding draws."""


@dataclass(frozen=True)
class SubjectOptions:
    """The network of a file, and on what it is judged."""

    file: Annotated[
        str,
        typer.Argument(
            help="A netx file (.net) or a checkpoint of `spikeship train`; or a torch ANN of your own: "
            "module:function or path/to/file.py:function, which is run, or an .onnx file.",
            metavar="FILE",
        ),
    ]
    data: DataOptions = field(default_factory=DataOptions)
    checkpoint: Annotated[
        Path | None,
        typer.Option(help="Torch state dict to load into what module:function returns."),
    ] = None
    float_: Annotated[
        Path | None,
        typer.Option(
            "--float", help="Checkpoint that the .net file was made from: its float form."
        ),
    ] = None
    bits: Annotated[
        int | None,
        typer.Option(
            help="Bits of the weights where a checkpoint is judged as integers. Default: 8.",
            min=2,
            max=8,
        ),
    ] = None
    samples: Annotated[
        int, typer.Option(help="How many test images are used, from the first on.", min=2)
    ] = 100
    seed: Annotated[int, typer.Option(help="Seed of attacks, judging and certificates.")] = 0
    out: Annotated[
        Path | None, typer.Option("--out", "-o", help="File that gets the result as JSON, too.")
    ] = None

    def load(self, on: Form | None = None) -> Subject:
        """The network in the form `on` (None: that of the file), and its data set.

        Options that do not go together, and a file that is not there, end the command.
        """
        from ..frontends.load import is_foreign

        new_file(self.out, "JSON")
        if is_foreign(self.file):
            return self._own(on)
        path = Path(self.file)
        is_net = path.suffix == ".net"
        if not path.is_file():
            raise FileNotFoundError(f"{path}: no such file.")
        if self.checkpoint is not None:
            misused("--checkpoint goes with module:function, which returns your own network.")
        if self.bits is not None and (is_net or on != "deployed"):
            misused("--bits is for a checkpoint with --on deployed; a .net file has its bits.")
        if is_net and on == "float" and self.float_ is None:
            misused(
                f"{path} holds integers: give the checkpoint that it was made from with --float."
            )
        if self.float_ is not None and not (is_net and on == "float"):
            misused(
                "--float goes with a .net file and --on float: the checkpoint it was made from."
            )
        if is_net and on != "float":
            return self._integers(path)
        return self._trained(self.float_ or path, on)

    def _integers(self, path: Path) -> Subject:
        from ..deploy.deployed import Deployed
        from ..robustness import DeployedVictim
        from ..robustness.subject import Subject
        from ..robustness.unit_range import in_unit_range

        task = self.data.of(Deployed.load(path))
        data, span = in_unit_range(task.data)
        return Subject(DeployedVictim(task.deployed, "integers", span), data, span)

    def _own(self, on: Form | None) -> Subject:
        """An ANN of somebody else's, and noise where --coding says so."""
        from ..frontends.load import load_module
        from ..robustness.subject import Subject

        if on == "deployed" or self.bits is not None or self.float_ is not None:
            misused(
                f"{self.file} is an ANN, which has no integers here: leave out --on deployed, --bits and "
                f"--float, or `spikeship convert` and `export` it and attack the .net file."
            )
        dataset, coding = self.data.for_ann(self.file)
        return Subject.of(load_module(self.file, self.checkpoint), dataset, coding)

    def _trained(self, path: Path, on: Form | None) -> Subject:
        from ...models import training
        from ..robustness import DeployedVictim, FloatVictim
        from ..robustness.subject import Subject
        from ..robustness.unit_range import in_unit_range

        classifier = training.load(path)
        settings = classifier.settings
        if on == "deployed" and not settings.spiking:
            fail(f"{path} is an ANN, which has no integers here: leave out --on deployed.")
        if self.data.says_more:
            fail(
                f"{path} is a checkpoint, which knows its coding: leave out --input, --labels, --coding, "
                f"--sigma, --time-steps, --levels and --reset-interval."
            )
        own = self._dataset(settings)
        dataset, span = in_unit_range(own)
        if on != "deployed":
            victim: Victim = FloatVictim(classifier, "float" if settings.spiking else "ANN", span)
            return Subject(victim, dataset, span)
        calibration = own.train.images[:128]
        victim = DeployedVictim.quantized(classifier, calibration, self.bits or 8, "integers")
        victim.span = span
        return Subject(victim, dataset, span)

    def _dataset(self, settings: Settings) -> Dataset:
        """The data that a checkpoint is judged on: its own, or others, as --data has them."""
        from ...models.data.load import load
        from ...models.training import data_of

        if self.data.data is None:
            return data_of(settings, None, self.data.data_root)
        return load(self.data.data, self.data.data_root, settings.coding.steps)


@dataclass(frozen=True)
class AttackOptions:
    """How strong attacks are, and how they are judged."""

    epsilon: Annotated[
        float, typer.Option(help="Radius of the L-infinity ball, images being in [0, 1].")
    ] = 0.1
    eot: Annotated[
        int | None,
        typer.Option(
            help="Draws of the coding that a gradient is averaged over. Default: 8; 1 where none is "
            "drawn.",
            min=1,
        ),
    ] = None
    queries: Annotated[
        int, typer.Option(help="Queries that the Square attack may make.", min=1)
    ] = 1000
    gradient: Annotated[
        str | None,
        typer.Option(help="Rule by which gradients pass spikes, by name. Default: superspike."),
    ] = None
    draws: Annotated[
        int, typer.Option(help="Fresh draws of the coding that judge an image, and vote.", min=2)
    ] = 20

    @property
    def rule(self) -> Gradient:
        """The gradient rule that is asked for. Raises ValueError for an unknown name."""
        from ...models.surrogates import USUAL
        from ..robustness.attacks import gradient_named

        return USUAL if self.gradient is None else gradient_named(self.gradient)

    def strength(self, eot: int, steps: int | None = None, restarts: int = 1) -> Strength:
        """What attacks by name are made of, their gradients averaged over `eot` draws."""
        from ..robustness.attacks import Strength

        return Strength(self.epsilon, steps, restarts, eot, self.queries, self.rule)


def threads(*victims: Victim) -> AbstractContextManager[None]:
    """One thread for networks without convolutions."""
    from ...models.training import threads

    return threads(1 if all(_dense(victim) for victim in victims) else None)


def _dense(victim: Victim) -> bool:
    from torch.nn import Conv1d, Conv2d

    from ...hw_targets.network.layers import Conv
    from ..robustness import AnnVictim, DeployedVictim, FloatVictim

    if isinstance(victim, DeployedVictim):
        return not any(isinstance(layer, Conv) for layer in victim.network.layers)
    assert isinstance(victim, FloatVictim | AnnVictim)
    network = victim.classifier if isinstance(victim, FloatVictim) else victim.model
    return not any(isinstance(module, Conv1d | Conv2d) for module in network.modules())
