"""`spikeship attack`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ...hw_targets.printed import table
from .options import DataRoot
from .screen import Output, bars
from .victim import (
    EOT,
    Bits,
    Data,
    Draws,
    DrawSeed,
    Eot,
    Epsilon,
    File,
    Float,
    Limit,
    On,
    Out,
    Queries,
    Surrogate,
    _accuracies,
    _gradient,
    _judged,
    _name,
    _scored,
    _settings,
    _settings_left,
    _threads,
    _victim,
)

if TYPE_CHECKING:
    from ..robustness import Victim
    from ..robustness.attacks.attack import Attacked


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
) -> Output:
    """Attack a network, judged on draws of its coding that no attack saw."""
    import numpy as np

    from ...hw_targets.files import atomic_path
    from ..robustness.attacks import Strength, named
    from ..robustness.attacks.attack import attack as run

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
                    progress=bars(),
                )
            )
    if images is not None:
        with atomic_path(images) as temporary, temporary.open("wb") as sink:
            np.save(sink, np.stack([each.adversarial.numpy() for each in found]))
    result = {"file": file, "data": dataset.name, "attacks": found}
    return Output(result, *attack_tables(victim, dataset.name, found), out=out)


def attack_tables(victim: Victim, data: str, found: Sequence[Attacked]) -> list[Table | str]:
    """Clean accuracy, and that under each attack."""
    clean = found[0].clean
    rows: list[Sequence[object]] = [("clean", "", *_scored(clean), "", "", "")]
    rows += [
        (
            a.attack,
            f"{a.epsilon:g}",
            *_scored(a.after),
            f"{100 * a.zero_gradients:.1f} %",
            f"{a.seconds:.1f}",
            _settings(a),
        )
        for a in found
    ]
    columns = ("attack", "epsilon", *_accuracies(clean), "zero gradients", "seconds", "settings")
    title = (
        f"{_name(victim.name, victim.digest, victim.encoding)}; {found[0].samples} images of {data}"
    )
    return [_settings_left(table(title, columns, rows)), _judged(clean, found[0].seed)]
