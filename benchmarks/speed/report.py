"""What the speed benchmark promises and says: goals against measurements, and tables."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from ...hw_targets.printed import table
from .networks import PLANS
from .peers import CONTENDERS, OURS, OURS_RECORDED

GOAL_RATE, GOAL_BATCH = 0.05, 32
LAVA, LAVA_RECORDED = "lava", "lava, all spikes"


@dataclass(frozen=True)
class Goal:
    """At least `times` faster than `other`, at some share of spikes."""

    network: str
    batch: int
    other: str
    times: float
    ours: str = OURS
    rate: float = GOAL_RATE


GOALS = (
    Goal("pilotnet", 32, LAVA, 500),
    Goal("pilotnet", 32, LAVA_RECORDED, 5000, OURS_RECORDED),
    Goal("pilotnet", 1, LAVA, 150),
    Goal("nmnist", 32, LAVA, 500),
    Goal("nmnist", 32, LAVA_RECORDED, 1000, OURS_RECORDED),
    Goal("nmnist", 1, LAVA, 100),
    Goal("mlp", 32, LAVA, 300),
    Goal("mlp", 32, LAVA_RECORDED, 500, OURS_RECORDED),
    Goal("mlp", 1, LAVA, 50),
    *(
        Goal(network, batch, other, 5)
        for network in PLANS
        for other in ("norse", "slayer")
        for batch in (32, 256)
    ),
    *(
        Goal("nmnist", batch, "norse", 6, rate=rate)
        for rate in (0.01, GOAL_RATE, 0.2, 1.0)
        for batch in (1, 32, 256)
    ),
    *(Goal(network, batch, "torch", 2, rate=1.0) for network in PLANS for batch in (1, 32, 256)),
)
KIND_GOAL = 100
"""Times Lava, for networks of other kinds of neurons."""
FIRST_CALL_GOAL = 1.0
SHARE_GOALS = {"mlp": 0.4, "nmnist": 1 / 3, "pilotnet": 1 / 3}


def goals(result: dict[str, Any]) -> list[dict[str, Any]]:
    """Every goal whose cell was measured: what, measured, goal, met."""
    cells = {(c["network"], c["rate"], c["batch"]): c["contenders"] for c in result["cells"]}
    rows: list[dict[str, Any]] = []
    for goal in GOALS:
        contenders = cells.get((goal.network, goal.rate, goal.batch), {})
        pair = [contenders.get(name, {}).get("median") for name in (goal.other, goal.ours)]
        if None not in pair:
            at = "" if goal.rate == GOAL_RATE else f", {100 * goal.rate:g} % spikes"
            what = f"{goal.network}{at}, batch {goal.batch}: {goal.ours} against {goal.other}"
            rows.append(_row(what, pair[0] / pair[1], goal.times, "x"))
    for fresh in result["fresh_processes"]:
        seconds = fresh["import_seconds"] + fresh["first_call_seconds"]
        rows.append(
            _row(f"{fresh['network']}: import and first call", seconds, FIRST_CALL_GOAL, "s")
        )
    for cell in result["cells"]:
        if (cell["rate"], cell["batch"]) == (GOAL_RATE, GOAL_BATCH) and "machine" in cell:
            what = f"{cell['network']}, batch {GOAL_BATCH}: share of the machine's limit"
            rows.append(_row(what, cell["machine"]["share"], SHARE_GOALS[cell["network"]], ""))
    for kind in result["kinds"]:
        for cell in kind["cells"]:
            if LAVA in cell["contenders"]:
                what = f"{kind['kind']}, batch {cell['batch']}: {OURS} against {LAVA}"
                rows.append(_row(what, cell["contenders"][LAVA]["times_engine"], KIND_GOAL, "x"))
    return rows


def _row(what: str, measured: float, goal: float, unit: str) -> dict[str, Any]:
    met = measured <= goal if unit == "s" else measured >= goal
    return {"what": what, "measured": measured, "goal": goal, "unit": unit, "met": met}


def tables(result: dict[str, Any]) -> Iterator[Any]:
    """The run as tables."""
    names = (*CONTENDERS, LAVA, LAVA_RECORDED)
    rows = []
    for cell in result["cells"]:
        shown = [cell["contenders"].get(name, {}) for name in names]
        ratios = [
            "left out" if "left_out" in c else f"{c['times_engine']:.3g}" if c else "-"
            for c in shown
        ]
        seconds = cell["contenders"][OURS].get("median")
        machine = cell.get("machine", {})
        rows.append(
            (
                f"{cell['network']} {100 * cell['rate']:g} % x{cell['batch']}",
                "-" if seconds is None else f"{1e6 * seconds:.3g} us",
                *ratios[1:],
                f"{100 * machine['share']:.0f} % {machine['limit']}" if machine else "-",
            )
        )
    title = "time of the others / engine's; engine per sample and step; its share of the machine"
    yield table(title, ("", *names, "share"), rows)
    if result["kinds"]:
        yield table(
            "other kinds of neurons: time of the others / engine's; engine per sample and step",
            ("", "batch", "sent", OURS, "reference", LAVA),
            [
                (
                    kind["kind"],
                    str(cell["batch"]),
                    ", ".join(f"{100 * share:.0f} %" for share in kind["sent"]),
                    f"{1e6 * cell['contenders'][OURS]['median']:.3g} us",
                    *(
                        f"{cell['contenders'][name]['times_engine']:.3g}"
                        if name in cell["contenders"]
                        else "-"
                        for name in ("reference", LAVA)
                    ),
                )
                for kind in result["kinds"]
                for cell in kind["cells"]
            ],
        )
    for what, growth in result["growth"].items():
        if isinstance(growth, list):
            base = growth[0]
            yield table(
                f"engine against {what}",
                (what, "ms", f"times {base['value']:g}'s", "synops per sample-step"),
                [
                    (
                        f"{row['value']:g}",
                        f"{1e3 * row['seconds']:.3g}",
                        f"{row['seconds'] / base['seconds']:.2f}",
                        f"{row['synops_per_sample_step']:,.0f}",
                    )
                    for row in growth
                ],
            )
    yield table(
        "engine in a fresh process (import + first call), peak memory beside input, by batch",
        ("", "import", "first call", "counts", "all spikes"),
        [
            (
                fresh["network"],
                f"{fresh['import_seconds']:.2f} s",
                f"{fresh['first_call_seconds']:.2f} s",
                *(
                    ", ".join(
                        f"{batch}: {sizes[record]['peak_bytes'] / 1e6:.0f} MB"
                        for batch, sizes in fresh["peak_memory"].items()
                    )
                    for record in ("counts", "spikes")
                ),
            )
            for fresh in result["fresh_processes"]
        ],
    )
    yield table(
        "goals, at 5 % spikes where no other share is given",
        ("", "measured", "goal", "met"),
        [
            (
                row["what"],
                f"{row['measured']:.3g} {row['unit']}",
                f"{row['goal']:.3g} {row['unit']}",
                "yes" if row["met"] else "NO",
            )
            for row in result["goals"]
        ],
    )
