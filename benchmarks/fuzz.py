"""A differential fuzzer: random networks, each run in several ways that must give the same integers.

Usage: python -m spikeship.benchmarks.fuzz networks --minutes N [--networks M] [--seed S]
           [--checks NAME,...] [--lava-share F] [--twin-share F] [--torch-share F] [--out FOLDER]

Engine against reference (spikes, states, counts, overflow) in blocks of any size, with several threads;
parts of a record and single samples against the whole; counters against their definition; files and
copies; a share of the networks on torch, the twin and Lava (`_fuzz_checks` has all of them). A network
follows from its seed. What fails is made smaller and stored as a program that fails alike; the status is
then 1. The same command goes on where an earlier one stopped, or was killed. `fuzz.json` says what ran.
"""

from __future__ import annotations

import json
import sys
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import nullcontext
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Annotated, Any

import typer
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from ..hw_targets.files import atomic_path
from ..hw_targets.simulate import lava as lava_cpu
from ..pipeline import records
from ._fuzz_checks import CHECKS, NotRunError, choose, features
from ._fuzz_networks import Case, draw
from ._fuzz_shrink import program, shrink

SAVED_EVERY = 10.0
"""Seconds."""
PER_SEED = 1 << 32
"""Networks of one --seed."""

app = typer.Typer(add_completion=False, help=__doc__)


@dataclass
class Progressed:
    """What was run so far of the networks of a seed."""

    seed: int
    shares: dict[str, float]
    networks: int = 0
    seconds: float = 0.0
    checks: dict[str, int] = field(default_factory=dict)
    """how many networks each check ran on"""
    covered: dict[str, int] = field(default_factory=dict)
    """how many networks had each feature"""
    failures: list[dict[str, Any]] = field(default_factory=list)


@dataclass(frozen=True)
class Verdict:
    """`kind`: "differs", or the name of the exception that a check ended with."""

    kind: str
    says: str


def verdict(check: str, case: Case) -> Verdict | None:
    """What is wrong, or None. Any exception is wrong: the cases are valid."""
    try:
        difference = CHECKS[check].check(case)
    except NotRunError:
        raise
    except Exception as error:
        return Verdict(type(error).__name__, f"{type(error).__name__}: {error}")
    return None if difference is None else Verdict("differs", difference)


def examine(seed: int, shares: dict[str, float], folder: Path) -> Progressed:
    """Run one network through its checks; failures are made smaller and stored in the folder."""
    case = draw(seed)
    out = Progressed(seed, shares, 1, covered=dict.fromkeys(features(case), 1))
    for check in choose(seed, shares):
        try:
            problem = verdict(check, case)
        except NotRunError:
            continue
        out.checks[check] = 1
        if problem is not None:
            out.failures.append(_store(case, check, problem, seed, folder))
    return out


def _store(case: Case, check: str, problem: Verdict, seed: int, folder: Path) -> dict[str, Any]:
    def fails_alike(candidate: Case) -> bool:
        try:
            again = verdict(check, candidate)
        except NotRunError:
            return False
        return again is not None and again.kind == problem.kind

    small = shrink(case, fails_alike)
    again = verdict(check, small) or problem
    path = folder / f"{check}-{seed}.py"
    with atomic_path(path) as temporary:
        temporary.write_text(program(small, check, again.says, seed))
    return {"seed": seed, "check": check, "says": again.says, "program": path.name}


def _add(total: Progressed, more: Progressed) -> None:
    total.networks += more.networks
    for mine, theirs in ((total.checks, more.checks), (total.covered, more.covered)):
        for name, number in theirs.items():
            mine[name] = mine.get(name, 0) + number
    total.failures += more.failures


def resume(folder: Path, seed: int, shares: dict[str, float]) -> Progressed:
    """What the folder holds of this seed. Raises ValueError where it holds another run."""
    path = folder / "fuzz.json"
    if not path.is_file():
        return Progressed(seed, shares)
    stored = json.loads(path.read_text())
    past = Progressed(**{name: stored[name] for name in Progressed.__dataclass_fields__})
    if (past.seed, past.shares) != (seed, shares):
        raise ValueError(
            f"{path}: a run with --seed {past.seed} and shares {past.shares}; these are {seed} and "
            f"{shares}. Give the same ones to go on, or another --out."
        )
    return past


def save(done: Progressed, folder: Path, command: str) -> None:
    """Write `fuzz.json`."""
    records.write_json(
        {"command": command, **asdict(done), **records.environment()}, folder / "fuzz.json"
    )


def fuzz(
    done: Progressed, folder: Path, command: str, minutes: float, networks: int | None
) -> Iterator[Progressed]:
    """Go on for so long, or up to so many networks in all; yields after each of them."""
    folder.mkdir(parents=True, exist_ok=True)
    start = saved = last = time.monotonic()
    try:
        while time.monotonic() - start < 60 * minutes:
            if networks is not None and done.networks >= networks:
                break
            more = examine(PER_SEED * done.seed + done.networks, done.shares, folder)
            _add(done, more)
            now = time.monotonic()
            done.seconds, last = done.seconds + now - last, now
            if more.failures or now - saved > SAVED_EVERY:
                save(done, folder, command)
                saved = now
            yield done
    finally:
        save(done, folder, command)


@app.callback()
def _only_commands() -> None:
    """A differential fuzzer."""


@app.command("networks")
def networks_(
    minutes: Annotated[float, typer.Option(help="Stop after so long.")] = 10.0,
    networks: Annotated[
        int | None,
        typer.Option(help="Stop at so many networks of this seed, earlier runs included."),
    ] = None,
    seed: Annotated[int, typer.Option(help="Which networks are drawn.", min=0)] = 0,
    checks: Annotated[
        str,
        typer.Option(help=f"Checks to run, comma-separated, of {', '.join(CHECKS)}. Default: all."),
    ] = "",
    lava_share: Annotated[
        float,
        typer.Option(
            help="Share of the networks that run on Lava too (a second each).", min=0, max=1
        ),
    ] = 0.0,
    twin_share: Annotated[
        float, typer.Option(help="Share of the networks that run on the twin too.", min=0, max=1)
    ] = CHECKS["twin"].of,
    torch_share: Annotated[
        float,
        typer.Option(
            help="Share of the networks that run on torch too, on a GPU where there is one.",
            min=0,
            max=1,
        ),
    ] = CHECKS["torch"].of,
    out: Annotated[Path, typer.Option(help="Folder of fuzz.json and of what fails.")] = Path(
        "runs/fuzz"
    ),
) -> None:
    """Random networks through every check; status 1 if one fails."""
    shares = {name: share.of for name, share in CHECKS.items()}
    shares |= {"lava": lava_share, "twin": twin_share, "torch": torch_share}
    chosen = {name.strip() for name in checks.split(",")} if checks else set(CHECKS)
    if unknown := sorted(chosen - set(CHECKS)):
        raise typer.BadParameter(f"no check {', '.join(unknown)}; there are {', '.join(CHECKS)}.")
    shares = {name: share if name in chosen else 0.0 for name, share in shares.items()}
    if lava_share and (reason := lava_cpu.why_unavailable()):
        raise typer.BadParameter(f"{reason} Or leave out --lava-share.")
    command = " ".join(["python -m spikeship.benchmarks.fuzz", *sys.argv[1:]])
    try:
        done = resume(out, seed, shares)
    except ValueError as error:
        raise typer.BadParameter(str(error)) from None
    screen = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), TimeRemainingColumn())
    with Progress(*columns, console=screen) as bar, _lava(lava_share):
        task = bar.add_task("fuzzing", total=60 * minutes)
        begun = time.monotonic()
        try:
            for state in fuzz(done, out, command, minutes, networks):
                spent = time.monotonic() - begun
                text = f"{state.networks:,} networks, {len(state.failures)} failures"
                bar.update(task, completed=spent, description=text)
        except KeyboardInterrupt:
            screen.print(f"stopped; the same command goes on. So far: {out / 'fuzz.json'}")
            raise typer.Exit(130) from None
    Console(width=120).print(table(done))
    print(f"{done.networks:,} networks, {len(done.failures)} failures; wrote {out / 'fuzz.json'}")
    raise typer.Exit(1 if done.failures else 0)


def _lava(share: float) -> Any:
    return lava_cpu.kept_ready() if share else nullcontext()


def table(done: Progressed) -> Table:
    """Checks, on how many networks, and what failed."""
    out = Table(title=f"Networks of seed {done.seed}")
    for column in ("check", "networks", "failed", "first"):
        out.add_column(column, justify="left" if column in ("check", "first") else "right")
    failed = Counter(failure["check"] for failure in done.failures)
    for name in CHECKS:
        first = next((f["program"] for f in done.failures if f["check"] == name), "")
        out.add_row(name, f"{done.checks.get(name, 0):,}", f"{failed[name]:,}", first)
    return out


if __name__ == "__main__":
    app()
