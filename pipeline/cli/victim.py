"""What `attack`, `certify` and `robustness` share: the network, and how it is judged."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ...hw_targets.printed import table
from ..text import percent
from .screen import fail

if TYPE_CHECKING:
    from ...models.data.dataset import Dataset
    from ...models.encoding import Encoding
    from ...models.surrogates import Gradient
    from ..robustness import Victim
    from ..robustness.attacks.attack import Attacked, Scored
    from ..robustness.report import Certificates


Form = Literal["float", "deployed"]
File = Annotated[
    Path,
    typer.Argument(help="A netx file (.net) or a checkpoint of `spikeship train`.", metavar="FILE"),
]
On = Annotated[
    Form | None,
    typer.Option(help="The integers or the float network. Default: what FILE holds."),
]
Float = Annotated[
    Path | None, typer.Option("--float", help="Of a .net file: the checkpoint it was made from.")
]
Bits = Annotated[
    int | None,
    typer.Option(
        help="Of a checkpoint with --on deployed: bits of the weights. Default: 8.", min=2, max=8
    ),
]
Data = Annotated[str | None, typer.Option(help="Data set. Default: the file's own.")]
Limit = Annotated[int, typer.Option(help="The first so many test images.", min=2)]
Epsilon = Annotated[
    float, typer.Option(help="Radius of the L-infinity ball, images being in [0, 1].")
]
Eot = Annotated[
    int | None,
    typer.Option(
        help="Draws of the coding per gradient. Default: 8; 1 where none is drawn.", min=1
    ),
]
Draws = Annotated[int, typer.Option(help="Fresh draws of the coding that judge, and vote.", min=2)]
Queries = Annotated[int, typer.Option(help="Of Square.", min=1)]
Surrogate = Annotated[
    str | None,
    typer.Option("--gradient", help="How gradients pass spikes. Default: superspike."),
]
Out = Annotated[Path | None, typer.Option(help="Write the JSON here, too.")]
DrawSeed = Annotated[int, typer.Option(help="Seed of attacks, judging and certificates.")]
EOT = 8


def _victim(
    file: Path,
    on: Form | None,
    float_: Path | None,
    bits: int | None,
    data: str | None,
    data_root: Path | None,
) -> tuple[Victim, Dataset]:
    """The network of a file in the form that is asked for, and its data set."""
    from ...models import training
    from ...models.data.load import load
    from ..deploy.deployed import Deployed
    from ..robustness import DeployedVictim, FloatVictim

    is_net = file.suffix == ".net"
    if not file.is_file():
        raise FileNotFoundError(f"{file}: no such file.")
    if bits is not None and (is_net or on != "deployed"):
        fail("--bits is for a checkpoint with --on deployed; a .net file has its bits.")
    if is_net and on == "float" and float_ is None:
        fail(f"{file} holds integers: give the checkpoint that it was made from with --float.")
    if float_ is not None and not (is_net and on == "float"):
        fail("--float goes with a .net file and --on float: the checkpoint it was made from.")
    if is_net and on != "float":
        deployed = Deployed.load(file)
        victim: Victim = DeployedVictim(deployed, "integers")
        return victim, deployed.dataset(data, data_root)
    path = file if float_ is None else float_
    classifier = training.load(path)
    settings = classifier.settings
    if on == "deployed" and not settings.spiking:
        fail(f"{path} is an ANN, which has no integers here: leave out --on deployed.")
    if on != "deployed":
        victim = FloatVictim(classifier, "float" if settings.spiking else "ANN")
    dataset = load(data or settings.dataset, data_root, settings.steps)
    if on == "deployed":
        calibration = dataset.train.images[:128]
        victim = DeployedVictim.quantized(classifier, calibration, bits or 8, "integers")
    return victim, dataset


def _gradient(name: str | None) -> Gradient:
    from ...models.surrogates import USUAL
    from ..robustness.attacks import gradient_named

    return USUAL if name is None else gradient_named(name)


def _threads(*victims: Victim) -> AbstractContextManager[None]:
    """One thread for networks without convolutions."""
    from ...models.training import threads

    return threads(1 if all(_dense(victim) for victim in victims) else None)


def _dense(victim: Victim) -> bool:
    from torch.nn import Conv2d

    from ...hw_targets.network.layers import Conv
    from ..robustness import DeployedVictim, FloatVictim

    if isinstance(victim, DeployedVictim):
        return not any(isinstance(layer, Conv) for layer in victim.network.layers)
    assert isinstance(victim, FloatVictim)
    return not any(isinstance(module, Conv2d) for module in victim.classifier.modules())


_SHOWN = ("steps", "restarts", "eot", "queries", "draws_per_query", "loss", "gradient")
_USUAL = (None, 1, "cross_entropy", "ce", "superspike")


def _certificates(found: Certificates) -> list[Table | str]:
    columns = (f"{found.norm} radius, {found.unit} units", *(f"{r:g}" for r in found.radii))
    accuracy = ("certified accuracy", *(f"{100 * a:.1f} %" for a in found.accuracy))
    title = f"certificates, {found.method}, {found.samples} images"
    out: list[Table | str] = [table(title, columns, [accuracy]), found.statement]
    if found.alpha:
        out.append(f"Abstained from {percent(found.abstained)} of the images.")
    return out


def _name(name: str, digest: str, encoding: Encoding | None) -> str:
    coding = "no coding" if encoding is None else f"{encoding.coding}, {encoding.steps} steps"
    noise = f", sigma {encoding.sigma:g}" if encoding is not None and encoding.sigma else ""
    return f"{name} {digest[:12]} ({coding}{noise})"


def _accuracies(clean: Scored) -> tuple[str, str]:
    return ("single draw", f"{clean.draws} votes") if clean.draws > 1 else ("accuracy", "")


def _scored(scored: Scored) -> tuple[str, str]:
    return percent(scored.accuracy), percent(scored.voted) if scored.draws > 1 else ""


def _judged(clean: Scored, seed: int) -> str:
    if clean.draws == 1:
        return f"Answers do not vary; seed {seed}."
    return f"Judged on {clean.draws} fresh draws, which no attack saw; seed {seed}."


def _settings(attacked: Attacked) -> str:
    """What decides an attack, in a few words."""
    parts = []
    for name in _SHOWN:
        value = attacked.settings.get(name)
        if isinstance(value, Mapping):
            value = value.get("surrogate", value.get("kind"))
        if value not in _USUAL:
            parts.append(f"{'EOT' if name == 'eot' else name.replace('_', ' ')} {value}")
    if "kind" in attacked.settings:
        parts.append(f"random {attacked.settings['kind']}")
    if "members" in attacked.settings:
        parts.append(f"the worst of {len(attacked.settings['members'])} for each image")
    return ", ".join(parts)


def _settings_left(shown: Table) -> Table:
    shown.columns[-1].justify = "left"
    return shown
