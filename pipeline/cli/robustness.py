"""`spikeship robustness`."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import replace
from typing import TYPE_CHECKING, Annotated, Literal

import typer
from rich.table import Table

from ...hw_targets.printed import table
from ..text import interval
from .options import BothDevices, split_devices
from .screen import Output, bars
from .victim import EOT, AttackOptions, SubjectOptions, threads
from .victim_tables import (
    attack_settings,
    certificate_tables,
    how_judged,
    network_name,
    score_columns,
    scores,
    settings_left,
)

if TYPE_CHECKING:
    from ..robustness.attacks.attack import Scored
    from ..robustness.curves import Curve
    from ..robustness.report import Decision, RobustnessReport, VictimReport
    from ..robustness.sanity import Sanity


FEWER_QUERIES = AttackOptions(queries=200)


def robustness(
    given: SubjectOptions,
    how: AttackOptions = FEWER_QUERIES,
    on: Annotated[
        Literal["float", "deployed", "both"] | None,
        typer.Option(
            help="Form of the network: float, deployed as integers, or both. Default: what FILE holds; "
            "both where --float is given."
        ),
    ] = None,
    attack_: Annotated[
        list[str] | None,
        typer.Option(
            "--attack",
            help="One more attack for the table and the worst case, see `spikeship attack --help`; "
            "repeatable.",
        ),
    ] = None,
    attack_steps: Annotated[
        int, typer.Option(help="Steps of PGD; twice as many are taken as a check.", min=1)
    ] = 10,
    source: Annotated[
        list[str] | None,
        typer.Option(
            help="Another network for transferred attacks, as FILE (module:function is run, and "
            "loads its weights itself); repeatable. Default: an ANN is trained on the spot."
        ),
    ] = None,
    certified_draws: Annotated[
        int, typer.Option("--certify", help="Draws per certificate; 0 leaves them out.", min=0)
    ] = 1000,
    device: BothDevices = None,
) -> Output:
    """Judge robustness as a whole: attacks, worst case, sanity suite, certificates, energy per decision.

    Status 1 where the sanity suite fails: the attacks are then not to be trusted, nor the robustness; and
    where it has too few images to tell.
    """
    from ..robustness.attacks import named
    from ..robustness.attacks.substitute import substitute
    from ..robustness.battery import Plan
    from ..robustness.report import robustness as run

    if on == "both" or (on is None and given.float_ is not None):
        integers = replace(given, float_=None).load("deployed")
        subjects = [integers, replace(given, bits=None).load("float")]
    else:
        subjects = [given.load(on)]
    for subject in subjects:
        subject.images_alone("the suite of robustness")
    victims = {subject.victim.name: subject.victim for subject in subjects}
    dataset = subjects[-1].dataset
    eot = how.eot or EOT
    plan = Plan(
        steps=attack_steps,
        eot=eot,
        draws=how.draws,
        queries=how.queries,
        seed=given.seed,
        gradient=how.rule,
    )
    varies = any(v.stochastic for v in victims.values())
    strength = how.strength(eot if varies else 1)
    others = {name: named(name, strength) for name in attack_ or []}
    split = dataset.test.first(given.samples)
    data = given.data.of_source(dataset.name)
    place, energy = split_devices(device)
    with ExitStack() as stack:
        stack.enter_context(threads(*victims.values()))
        sources = {name: SubjectOptions(name, data).load().victim for name in source or []} or {
            "substitute ANN": substitute(dataset, given.seed)
        }
        for each in (*victims.values(), *sources.values()):
            stack.enter_context(each.on(place))
        report = run(
            victims,
            dataset.name,
            split,
            how.epsilon,
            sources=sources,
            others=others,
            plan=plan,
            certified_draws=certified_draws,
            devices=tuple(energy) if energy else None,
            progress=bars(),
        )
    result = {"file": given.file, "device": place, "passed": report.passed, "report": report}
    return Output(result, *report_tables(report), out=given.out, ok=report.passed)


def report_tables(report: RobustnessReport) -> list[Table | str]:
    """All results of `spikeship robustness`, one victim after the other."""
    out: list[Table | str] = []
    for victim in report.victims:
        out += _victim_tables(victim, report)
    if len(report.victims) > 1:
        out.append(_overview(report))
    for victim in report.victims:
        out += [f"sanity suite, {victim.name}: {line}" for line in _verdicts(victim.sanity)]
    return out


def _victim_tables(victim: VictimReport, report: RobustnessReport) -> list[Table | str]:
    name = network_name(victim.name, victim.digest, victim.coding)
    title = f"{name}; {report.samples} images of {report.data}, epsilon {report.epsilon:g}"
    rows: list[Sequence[object]] = [("clean", *scores(victim.clean), "")]
    rows += [(a.attack, *scores(a.after), attack_settings(a)) for a in victim.attacks]
    rows += [(f"from {n}", *scores(s), "transferred PGD") for n, s in victim.transfers.items()]
    rows.append(("worst of all", *scores(victim.worst), "for each image, on draws of their own"))
    attacks = table(title, ("attack", *score_columns(victim.clean), "settings"), rows)
    out: list[Table | str] = [settings_left(attacks), how_judged(victim.clean, report.plan.seed)]
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
            else certificate_tables(victim.certificates)
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


def _verdicts(sanity: Sanity) -> list[str]:
    out = [f"FAILED: {', '.join(sanity.failed)}"] if sanity.failed else []
    if sanity.undecided:
        out.append(
            f"too few images to tell of {', '.join(sanity.undecided)}: take more --samples, 100 or so."
        )
    return out or ["passed"]


def _sanity(sanity: Sanity) -> Table:
    out = table(
        "sanity suite",
        ("check", "verdict", "what was found"),
        [
            (
                check.name,
                check.verdict,
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
        (v.name, *scores(v.clean), *scores(v.worst), f"{v.curve.mean:.3f}") for v in report.victims
    ]
    columns = ("form", "clean", "voted", "worst of all", "voted", "QTE, mean")
    return table(f"all forms, epsilon {report.epsilon:g}", columns, rows)


def _listed(runs: Mapping[str, Scored]) -> str:
    return ", ".join(f"{name} {100 * scored.accuracy:.1f} %" for name, scored in runs.items())
