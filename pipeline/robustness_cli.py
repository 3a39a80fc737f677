"""Commands on robustness: `spikeship attack`, `certify`, `robustness`."""

from __future__ import annotations

from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Literal

import typer

from ..hw_targets.netx import read_netx
from . import records
from .console import DataRoot, Json, dataset_of, errors, fail, show

if TYPE_CHECKING:
    from ..models.datasets import Dataset
    from ..models.surrogates import Gradient
    from .robustness import Victim

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


def attack(
    file: File,
    attack_: Annotated[
        list[str] | None,
        typer.Option("--attack", help="By name; repeatable. Default: pgd."),
    ] = None,
    epsilon: Epsilon = 0.1,
    steps: Annotated[
        int | None,
        typer.Option(help="Of attacks with steps. Default: 20, of sa-pgd 100.", min=1),
    ] = None,
    restarts: Annotated[int, typer.Option(help="Random starts.", min=1)] = 1,
    eot: Eot = None,
    queries: Queries = 1000,
    gradient: Surrogate = None,
    on: On = None,
    float_: Float = None,
    bits: Bits = None,
    limit: Limit = 100,
    draws: Draws = 20,
    seed: DrawSeed = 0,
    data: Data = None,
    data_root: DataRoot = None,
    images: Annotated[
        Path | None,
        typer.Option(help="Write the adversarial images here: .npy, (attack, sample, C, H, W)."),
    ] = None,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Attack a network, judged on draws of its coding that no attack saw."""
    with errors():
        import numpy as np

        from ..hw_targets.trace import atomic_path
        from . import robustness_views
        from .robustness.attack import attack as run
        from .robustness.named import Strength, named

        victim, dataset = _victim(file, on, float_, bits, data, data_root)
        averaged = eot or (EOT if victim.stochastic else 1)
        strength = Strength(epsilon, steps, restarts, averaged, queries, _gradient(gradient))
        chosen = [named(name, strength) for name in attack_ or ["pgd"]]
        split = dataset.test.first(limit)
        found: list[Any] = []
        with _threads(victim):
            for one in chosen:
                found.append(
                    run(
                        victim,
                        one,
                        split.images,
                        split.labels,
                        seed=seed,
                        draws=draws,
                        clean=found[0].clean if found else None,
                        progress=not json_,
                    )
                )
        if images is not None:
            with atomic_path(images) as temporary, temporary.open("wb") as sink:
                np.save(sink, np.stack([each.adversarial.numpy() for each in found]))
        result = {"file": file, "data": dataset.name, "attacks": found, **records.environment()}
        _finish(result, out, json_, *robustness_views.attack_tables(victim, dataset.name, found))


def certify(
    file: File,
    method: Annotated[
        Literal["auto", "rsc1", "rsc1-grid", "rsc2", "bernoulli", "phase"],
        typer.Option(help="Default: what suits the coding; for phase the exact one, on integers."),
    ] = "auto",
    n: Annotated[int, typer.Option(help="Draws that are counted, per image.", min=1)] = 10_000,
    n0: Annotated[int, typer.Option(help="Draws that choose the class, per image.", min=1)] = 100,
    alpha: Annotated[float, typer.Option(help="Chance of a wrong certificate, per image.")] = 0.001,
    on: On = None,
    float_: Float = None,
    bits: Bits = None,
    limit: Limit = 100,
    seed: DrawSeed = 0,
    folder: Annotated[
        Path | None,
        typer.Option(help="Keeps finished votes, so that the same command goes on from them."),
    ] = None,
    data: Data = None,
    data_root: DataRoot = None,
    out: Out = None,
    json_: Json = False,
) -> None:
    """Certify the vote of a network with a random coding: within which radius no image changes it."""
    with errors():
        from . import robustness_views
        from .robustness.certify import certify as run
        from .robustness.report import summary

        victim, dataset = _victim(file, on, float_, bits, data, data_root)
        split = dataset.test.first(limit)
        with _threads(victim):
            found = run(
                victim,
                split.images,
                split.labels,
                method=method,
                n0=n0,
                n=n,
                alpha=alpha,
                seed=seed,
                folder=folder,
                progress=not json_,
            )
        result = {
            "file": file,
            "data": dataset.name,
            "summary": summary(found),
            "certified": found,
            **records.environment(),
        }
        tables = robustness_views.certified_tables(victim, dataset.name, found)
        _finish(result, out, json_, *tables)


def robustness(
    file: File,
    epsilon: Epsilon = 0.1,
    attack_: Annotated[
        list[str] | None,
        typer.Option("--attack", help="One more for the table and the worst case; repeatable."),
    ] = None,
    steps: Annotated[int, typer.Option(help="Of PGD; twice as a check.", min=1)] = 10,
    eot: Annotated[
        int, typer.Option(help="Draws of the coding per gradient, where one is drawn.", min=1)
    ] = EOT,
    queries: Queries = 200,
    gradient: Surrogate = None,
    on: Annotated[
        Literal["float", "deployed", "both"] | None,
        typer.Option(help="Default: what FILE holds; both where --float gives the other."),
    ] = None,
    float_: Float = None,
    bits: Bits = None,
    source: Annotated[
        list[Path] | None,
        typer.Option(
            help="Another network for transferred attacks; repeatable. Default: an ANN is trained on "
            "the spot."
        ),
    ] = None,
    certified_draws: Annotated[
        int, typer.Option("--certify", help="Draws per certificate; 0: none.", min=0)
    ] = 1000,
    device: Annotated[
        list[str] | None,
        typer.Option(help="Energy device, by name or .toml file, see `devices`; repeatable."),
    ] = None,
    limit: Limit = 100,
    draws: Draws = 20,
    seed: DrawSeed = 0,
    data: Data = None,
    data_root: DataRoot = None,
    out: Out = None,
    json_: Json = False,
) -> None:
    """The whole table: attacks, worst case, sanity suite, certificates, energy per decision.

    Status 1 where the sanity suite fails: the attacks are then not to be trusted, nor the robustness.
    """
    with errors():
        from . import robustness_views
        from .robustness.battery import Plan
        from .robustness.named import Strength, named
        from .robustness.report import robustness as run
        from .robustness.substitute import substitute

        both = on == "both" or (on is None and float_ is not None)
        forms: list[tuple[Form | None, Path | None, int | None]]
        if both:
            forms = [("deployed", None, bits), ("float", float_, None)]
        else:
            forms = [(None if on == "both" else on, float_, bits)]
        victims = {}
        for form in forms:
            victim, dataset = _victim(file, *form, data, data_root)
            victims[victim.name] = victim
        rule = _gradient(gradient)
        plan = Plan(steps=steps, eot=eot, draws=draws, queries=queries, seed=seed, gradient=rule)
        varies = any(v.stochastic for v in victims.values())
        strength = Strength(epsilon, None, 1, eot if varies else 1, queries, rule)
        others = {name: named(name, strength) for name in attack_ or []}
        split = dataset.test.first(limit)
        with _threads(*victims.values()):
            sources = {
                str(path): _victim(path, None, None, None, data or dataset.name, data_root)[0]
                for path in source or []
            } or {"substitute ANN": substitute(dataset, seed)}
            report = run(
                victims,
                dataset.name,
                split,
                epsilon,
                sources=sources,
                others=others,
                plan=plan,
                certified_draws=certified_draws,
                devices=tuple(device) if device else None,
                progress=not json_,
            )
        result = {"file": file, "passed": report.passed, "report": report, **records.environment()}
        _finish(result, out, json_, *robustness_views.report_tables(report))
        if not report.passed:
            raise typer.Exit(1)


def add_commands(app: typer.Typer) -> None:
    """Add the commands to the command line."""
    for command in (attack, certify, robustness):
        app.command()(command)


def _victim(
    file: Path,
    on: Form | None,
    float_: Path | None,
    bits: int | None,
    data: str | None,
    data_root: Path | None,
) -> tuple[Victim, Dataset]:
    """The network of a file in the form that is asked for, and its data set."""
    from ..models import datasets, training
    from .robustness import DeployedVictim, FloatVictim
    from .run import needed_recipe

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
        network = read_netx(file)
        victim: Victim = DeployedVictim(network, "integers")
        return victim, dataset_of(file, needed_recipe(network), data, data_root)
    path = file if float_ is None else float_
    classifier = training.load(path)
    settings = classifier.settings
    if on == "deployed" and not settings.spiking:
        fail(f"{path} is an ANN, which has no integers here: leave out --on deployed.")
    if on != "deployed":
        victim = FloatVictim(classifier, "float" if settings.spiking else "ANN")
    dataset = datasets.load(data or settings.dataset, data_root, settings.steps)
    if on == "deployed":
        calibration = dataset.train.images[:128]
        victim = DeployedVictim.quantized(classifier, calibration, bits or 8, "integers")
    return victim, dataset


def _gradient(name: str | None) -> Gradient:
    from ..models.surrogates import USUAL
    from .robustness.named import gradient_named

    return USUAL if name is None else gradient_named(name)


def _threads(*victims: Victim) -> AbstractContextManager[None]:
    """One thread for networks without convolutions."""
    from ..models.training import threads

    return threads(1 if all(_dense(victim) for victim in victims) else None)


def _dense(victim: Victim) -> bool:
    from torch.nn import Conv2d

    from ..hw_targets.network import Conv
    from .robustness import DeployedVictim, FloatVictim

    if isinstance(victim, DeployedVictim):
        return not any(isinstance(layer, Conv) for layer in victim.network.layers)
    assert isinstance(victim, FloatVictim)
    return not any(isinstance(module, Conv2d) for module in victim.classifier.modules())


def _finish(result: dict[str, Any], out: Path | None, json_: bool, *views: Any) -> None:
    if out is not None:
        records.write_json(result, out)
    show(json_, result, *views)
