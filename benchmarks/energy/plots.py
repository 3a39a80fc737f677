"""The pictures of benchmarks/energy.py, from its summary."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from ...hw_targets.files import atomic_path
from .report import BITS8, LEVELS, SKIPS, Ends

if TYPE_CHECKING:
    from matplotlib.axes import Axes


Rows = Sequence[dict[str, Any]]


class Series(NamedTuple):
    """Points of the picture: which energies of which networks, and how they are drawn.

    `path`: where a row of the summary has the energy; `ann`: whose accuracy goes with it, if not the
    spiking network's; `numbered`: T stands beside its points.
    """

    name: str
    coding: str
    path: tuple[str, ...]
    style: dict[str, Any]
    ann: str | None = None
    numbered: bool = False


_HOLLOW = {"marker": "o", "ms": 8, "mfc": "none"}
_DOT = {"marker": "o", "ms": 4}
LOIHI = (
    Series("Loihi 1, Poisson, dynamic", "poisson", ("energy", "loihi1-davies2018", "dynamic"),
           {"color": "C0", **_HOLLOW}, numbered=True),
    Series("... with static and x86", "poisson", ("energy", "loihi1-davies2018", "total"),
           {"color": "C0", "ls": "--", "marker": "s", "ms": 4}),
    Series("Loihi 2, Poisson, dynamic", "poisson", ("energy", "loihi2-derived-pilotnet", "dynamic"),
           {"color": "C1", **_DOT}),
    Series("Loihi 2, direct, dynamic", "direct", ("energy", "loihi2-derived-pilotnet", "dynamic"),
           {"color": "C2", **_DOT}, numbered=True),
)  # fmt: skip
SAME = (
    Series("SNN, Poisson", "poisson", ("fair", "snn"), {"color": "C0", **_DOT}, numbered=True),
    Series("SNN, direct", "direct", ("fair", "snn"), {"color": "C2", **_DOT}, numbered=True),
    Series("ANN, activations of ceil(log2(T + 1)) bits", "direct", ("fair", LEVELS),
           {"color": "C3", "marker": "x", "ms": 5}, LEVELS),
    Series("ANN, activations of 8 bits", "direct", ("fair", BITS8),
           {"color": "C5", "marker": "D", "ms": 6, "mfc": "none"}, BITS8),
)  # fmt: skip


class Point(NamedTuple):
    """A network of a series."""

    steps: int
    accuracy: float
    energy: Ends


def points(rows: Rows, series: Series) -> list[Point]:
    """The networks of a series that have its energy, by steps."""
    networks = []
    for row in rows:
        energy: Any = row
        for key in series.path:
            energy = None if energy is None else energy.get(key)
        if row["coding"] == series.coding and energy is not None:
            accuracy = row["ann_accuracy"][series.ann] if series.ann else row["accuracy"]
            networks.append(Point(row["steps"], accuracy, energy))
    return sorted(networks)


def pareto(costs: Sequence[tuple[float, float]]) -> list[tuple[float, float]]:
    """The pairs of costs that no other beats in one without being worse in the other, sorted."""
    front: list[tuple[float, float]] = []
    for first, second in sorted(set(costs)):
        if not front or second < front[-1][1]:
            front.append((first, second))
    return front


def plot(result: dict[str, Any], path: Path) -> None:
    """A picture of four panels, PNG.

    Left energy on chip, right spiking network and ANN on the same hardware: different scopes, not to be
    read against each other. Above over T, below with the test error. Needs matplotlib (extra `plot`).
    """
    try:
        import matplotlib
    except ModuleNotFoundError:
        raise ModuleNotFoundError(
            "matplotlib is not installed: pip install 'spikeship[plot]'."
        ) from None
    matplotlib.use("Agg")
    import matplotlib.pyplot as plt

    rows, name = result["summary"], result["name"]
    figure, axes = plt.subplots(2, 2, figsize=(11, 8.4), layout="constrained")
    _energy_of_steps(axes[0, 0], rows)
    _spikes_of_steps(axes[0, 1], rows)
    _errors(axes[1, 0], rows, LOIHI)
    _errors(axes[1, 1], rows, SAME)
    axes[0, 0].set_title(f"{name}: estimated energy on chip", fontsize=10)
    axes[0, 1].set_title(f"{name}: spikes at which the same hardware needs the same", fontsize=10)
    axes[1, 0].set_title("error against energy on chip, T beside the points", fontsize=10)
    axes[1, 1].set_title("the same arithmetic and SRAM for both (45 nm), modelled", fontsize=10)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, format="png", dpi=100, metadata={"Software": None})
    plt.close(figure)


def _energy_of_steps(axes: Axes, rows: Rows) -> None:
    for series in LOIHI:
        networks = points(rows, series)
        steps = [point.steps for point in networks]
        value, low, high = ([point.energy[i] for point in networks] for i in range(3))
        axes.plot(steps, value, label=series.name, **series.style)
        axes.fill_between(steps, low, high, color=series.style["color"], alpha=0.15, lw=0)
    _over_steps(axes, rows, "energy per inference [J]")


def _spikes_of_steps(axes: Axes, rows: Rows) -> None:
    for coding, name, color in (("poisson", "Poisson", "C0"), ("direct", "direct", "C2")):
        spikes = sorted(
            (row["steps"], row["spikes_per_synapse"]) for row in rows if row["coding"] == coding
        )
        axes.plot(*zip(*spikes, strict=True), "o-", ms=4, color=color, label=f"SNN, {name}")
    for ann, style, name in (
        (LEVELS, "x--", "break-even with an ANN"),
        (LEVELS + SKIPS, "+:", "... that skips zeros"),
    ):
        limits = sorted(
            (row["steps"], row["break_even"][ann]) for row in rows if row["coding"] == "poisson"
        )
        steps = [step for step, _ in limits]
        value, low, high = ([ends[i] for _, ends in limits] for i in range(3))
        axes.plot(steps, value, style, color="C3", label=name)
        if ann == LEVELS:
            axes.fill_between(
                steps, low, high, color="C3", alpha=0.15, lw=0, label="... any dataflow"
            )
    axes.set_ylim(bottom=0.03)
    _over_steps(axes, rows, "spikes per synapse and inference")


def _over_steps(axes: Axes, rows: Rows, what: str) -> None:
    every = sorted({row["steps"] for row in rows})
    axes.set_xscale("log", base=2)
    axes.set_yscale("log")
    axes.set_xticks(every, [str(step) for step in every])
    axes.set_xlabel("steps T")
    axes.set_ylabel(what)
    axes.grid(alpha=0.3)
    axes.legend(fontsize=8)


def _errors(axes: Axes, rows: Rows, lines: Sequence[Series]) -> None:
    for series in lines:
        networks = points(rows, series)
        if not networks:
            continue
        values, lows, highs = ([point.energy[i] for point in networks] for i in range(3))
        errors = [100 * (1 - point.accuracy) for point in networks]
        style = {**series.style, "ls": "none"}
        axes.plot(values, errors, label=series.name, **style)
        axes.hlines(errors, lows, highs, color=style["color"], lw=0.5)
        front = pareto(list(zip(values, errors, strict=True)))
        axes.step(*zip(*front, strict=True), where="post", color=style["color"], lw=1, alpha=0.6)
        if series.numbered:
            for point, x, y in zip(networks, values, errors, strict=True):
                axes.annotate(
                    str(point.steps), (x, y), (5, 5), textcoords="offset points", fontsize=7
                )
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(axis="y", which="minor", labelsize=7)
    axes.set_xlabel("energy per inference [J]; lines: Pareto fronts")
    axes.set_ylabel("test error [%]")
    axes.grid(alpha=0.3, which="both")
    axes.legend(fontsize=8)
