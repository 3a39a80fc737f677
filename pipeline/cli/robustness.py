"""`spikeship robustness`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ...hw_targets.printed import table
from ..text import interval
from .options import DataRoot
from .screen import Output, bars
from .victim import (
    EOT,
    Bits,
    Data,
    Draws,
    DrawSeed,
    Epsilon,
    File,
    Float,
    Form,
    Limit,
    Out,
    Queries,
    Surrogate,
    _accuracies,
    _certificates,
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
    from ..robustness.attacks.attack import Scored
    from ..robustness.curves import Curve
    from ..robustness.report import Decision, RobustnessReport, VictimReport
    from ..robustness.sanity import Sanity


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
) -> Output:
    """The whole table: attacks, worst case, sanity suite, certificates, energy per decision.

    Status 1 where the sanity suite fails: the attacks are then not to be trusted, nor the robustness.
    """
    from ..robustness.attacks import Strength, named
    from ..robustness.attacks.substitute import substitute
    from ..robustness.battery import Plan
    from ..robustness.report import robustness as run

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
            progress=bars(),
        )
    result = {"file": file, "passed": report.passed, "report": report}
    return Output(result, *report_tables(report), out=out, ok=report.passed)


_VERDICTS = {True: "passed", False: "FAILED", None: "not run"}


def report_tables(report: RobustnessReport) -> list[Table | str]:
    """Everything that `spikeship robustness` found, one victim after the other."""
    out: list[Table | str] = []
    for victim in report.victims:
        out += _victim_tables(victim, report)
    if len(report.victims) > 1:
        out.append(_overview(report))
    for victim in report.victims:
        failed = victim.sanity.failed
        verdict = f"FAILED: {', '.join(failed)}" if failed else "passed"
        out.append(f"sanity suite, {victim.name}: {verdict}")
    return out


def _victim_tables(victim: VictimReport, report: RobustnessReport) -> list[Table | str]:
    name = _name(victim.name, victim.digest, victim.encoding)
    title = f"{name}; {report.samples} images of {report.data}, epsilon {report.epsilon:g}"
    rows: list[Sequence[object]] = [("clean", *_scored(victim.clean), "")]
    rows += [(a.attack, *_scored(a.after), _settings(a)) for a in victim.attacks]
    rows += [(f"from {n}", *_scored(s), "transferred PGD") for n, s in victim.transfers.items()]
    rows.append(("worst of all", *_scored(victim.worst), "for each image, on draws of their own"))
    attacks = table(title, ("attack", *_accuracies(victim.clean), "settings"), rows)
    out: list[Table | str] = [_settings_left(attacks), _judged(victim.clean, report.plan.seed)]
    for what, runs in (("gradients", victim.gradients), ("EOT draws", victim.averages)):
        if runs:
            out.append(f"{what}: {_listed({str(k): a.after for k, a in runs.items()})}")
    return [
        *out,
        *_curve(victim.curve, victim.clean.draws > 1),
        _sanity(victim.sanity),
        *(
            [f"no certificates: {victim.uncertified}"]
            if victim.certificates is None
            else _certificates(victim.certificates)
        ),
        *_energy(victim.decisions),
        "",
    ]


def _curve(curve: Curve, voted: bool) -> list[Table | str]:
    rows: list[Sequence[object]] = [("single draw", *(f"{100 * a:.1f} %" for a in curve.accuracy))]
    if voted:
        rows.append(("voted", *(f"{100 * a:.1f} %" for a in curve.voted)))
    columns = (f"epsilon ({curve.attack})", *(f"{e:g}" for e in curve.epsilons))
    return [
        table("accuracy by epsilon", columns, rows),
        f"QTE, area under the single-draw curve: {curve.area:.4f}; over its width: {curve.mean:.4f}",
    ]


def _sanity(sanity: Sanity) -> Table:
    out = table(
        "sanity suite",
        ("check", "verdict", "what was found"),
        [
            (
                check.name,
                _VERDICTS[check.passed],
                check.sentence.replace(" %", "\N{NO-BREAK SPACE}%"),
            )
            for check in sanity.checks
        ],
    )
    out.columns[0].no_wrap = True
    out.columns[1].justify = out.columns[2].justify = "left"
    return out


def _energy(decisions: Iterable[Decision]) -> list[Table | str]:
    decisions = list(decisions)
    if not decisions:
        return ["energy: of the integer network only"]
    rows = [
        (d.kind, f"{d.runs:,}", interval(d.energy), d.energy.scope, d.energy.device)
        for d in decisions
    ]
    columns = ("decision", "runs", "energy", "scope", "device")
    out: list[Table | str] = [table("estimated energy per decision", columns, rows)]
    for device in {d.energy.device: d for d in decisions}.values():
        sources = dict.fromkeys(device.sources.values())
        out.append(f"{device.energy.device}: {'; '.join(sources)}")
        missing = ", ".join(u.name.replace("_", " ") for u in device.energy.unpriced)
        out.append(
            f"not modelled: {missing + ', ' if missing else ''}coding and voting on the host"
        )
    return out


def _overview(report: RobustnessReport) -> Table:
    rows = [
        (v.name, *_scored(v.clean), *_scored(v.worst), f"{v.curve.mean:.3f}")
        for v in report.victims
    ]
    columns = ("form", "clean", "voted", "worst of all", "voted", "QTE, mean")
    return table(f"all forms, epsilon {report.epsilon:g}", columns, rows)


def _listed(found: Mapping[str, Scored]) -> str:
    return ", ".join(f"{name} {100 * scored.accuracy:.1f} %" for name, scored in found.items())
