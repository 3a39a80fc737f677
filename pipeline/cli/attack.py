"""`spikeship attack`."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from ...hw_targets.printed import table
from .options import Processor, new_file
from .screen import Output, bars
from .victim import EOT, AttackOptions, On, SubjectOptions, threads
from .victim_tables import (
    attack_settings,
    how_judged,
    network_name,
    score_columns,
    scores,
    settings_left,
)

if TYPE_CHECKING:
    from ..robustness.attacks.attack import Attacked


def attack(
    given: SubjectOptions,
    how: AttackOptions,
    on: On = None,
    attack_: Annotated[
        list[str] | None,
        typer.Option("--attack", help="Attack to run, by name; repeatable. Default: pgd."),
    ] = None,
    attack_steps: Annotated[
        int | None,
        typer.Option(help="Steps of attacks that take steps. Default: 20; 100 for sa-pgd.", min=1),
    ] = None,
    restarts: Annotated[int, typer.Option(help="Random starts of each attack.", min=1)] = 1,
    images: Annotated[
        Path | None,
        typer.Option(help="File for the adversarial images: .npy, (attack, sample, C, H, W)."),
    ] = None,
    device: Processor = "cpu",
) -> Output:
    """Attack a network, judged on draws of its coding that no attack saw.

    Data beyond [0, 1] are attacked in units of their range, sequences as a whole.

    Attacks: noise, fgsm, rfgsm, pgd, smoothadv, apgd-ce, apgd-dlr, apgd-t, sa-pgd, square, ensemble-4,
    ensemble-19.
    """
    import numpy as np

    from ...hw_targets.files import atomic_path
    from ..robustness.attacks import named
    from ..robustness.attacks.attack import attack as run

    new_file(images, "npy")
    subject = given.load(on)
    victim, data = subject.victim, subject.dataset.name
    strength = how.strength(how.eot or (EOT if victim.stochastic else 1), attack_steps, restarts)
    chosen = [named(name, strength) for name in attack_ or ["pgd"]]
    split, kind = subject.dataset.test.first(given.samples), subject.dataset.kind
    results: list[Attacked] = []
    with threads(victim), victim.on(device):
        for each in chosen:
            results.append(
                run(
                    victim,
                    each,
                    split.images,
                    split.labels,
                    seed=given.seed,
                    draws=how.draws,
                    clean=results[0].clean if results else None,
                    progress=bars(),
                )
            )
    if images is not None:
        with atomic_path(images) as temporary, temporary.open("wb") as sink:
            np.save(sink, np.stack([each.adversarial.numpy() for each in results]))
    name = network_name(victim.name, victim.digest, victim.coding)
    return Output(
        {
            "file": given.file,
            "data": data,
            "span": subject.span,
            "device": device,
            "attacks": results,
        },
        *attack_tables(f"{name}; {len(split)} {kind} of {data}", results),
        *subject.unit,
        out=given.out,
    )


def attack_tables(title: str, results: Sequence[Attacked]) -> list[Table | str]:
    """Clean accuracy, and that under each attack."""
    first = results[0]
    rows: list[Sequence[object]] = [("clean", "", *scores(first.clean), "", "", "")]
    rows += [
        (
            a.attack,
            f"{a.epsilon:g}",
            *scores(a.after),
            f"{100 * a.zero_gradients:.1f} %",
            f"{a.seconds:.1f}",
            attack_settings(a),
        )
        for a in results
    ]
    heads = score_columns(first.clean)
    columns = ("attack", "epsilon", *heads, "zero gradients", "seconds", "settings")
    return [settings_left(table(title, columns, rows)), how_judged(first.clean, first.seed)]
