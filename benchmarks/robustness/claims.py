"""Means over seeds of the robustness benchmark, and what they say about the papers' claims."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from statistics import mean, stdev
from typing import Any, Literal, TypeAlias

from rich.table import Table

from ...hw_targets.printed import table

PHASE_NORM = "L1, exact"
"""Norm of phase certificates; their radii are in pixel units, as all others."""
Key: TypeAlias = tuple[str, str, str, str]
"""Experiment, network, victim, figure."""


def _figures(row: dict[str, Any]) -> Iterator[tuple[str, str, str, float]]:
    """(network, victim, figure, value) of one measured row."""
    label = row["label"]
    for cell in row.get("cells", ()):
        yield from _of_cell(label, cell["victim"], cell)
    for name, cell in row.get("named", {}).items():
        yield from _of_cell(f"{label}: {name}", "float" if "bits" not in name else "8 bits", cell)
    for number, accuracy in row.get("averages", {}).items():
        yield label, "float", f"EOT {number}", accuracy
    if "bits" in row:
        yield label, "float", "clean", row["float_clean"]
        yield label, "float", "white_box", row["float"]
    for cell in row.get("bits", ()):
        for figure in ("clean", "transfer", "white_box", "worst", "back_to_float"):
            yield label, f"{cell['bits']} bits", figure, cell[figure]
    for cell in row.get("certified", ()):
        yield label, cell["victim"], "single_draw", cell["single_draw"]
        for radius, accuracy in zip(cell["radii"], cell["accuracy"], strict=True):
            yield label, cell["victim"], f"{cell['norm']} {radius:g}", accuracy


def _of_cell(
    network: str, victim: str, cell: dict[str, Any]
) -> Iterator[tuple[str, str, str, float]]:
    for figure in ("clean", "clean_voted", "qte"):
        if figure in cell:
            yield network, victim, figure, cell[figure]
    # no single attack counts as weaker than the mixture of them that other draws chose per image
    attacks = [{"accuracy": cell["worst"], "voted": cell["worst_voted"]}, *cell["attacks"].values()]
    yield network, victim, "worst", min(of["accuracy"] for of in attacks)
    yield network, victim, "worst_voted", min(of["voted"] for of in attacks)
    for name, of in cell["attacks"].items():
        yield network, victim, name, of["accuracy"]
        if name == "PGD":
            yield network, victim, "without_gradient", of["without_gradient"]


def summary(rows: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """Every figure by experiment, network and victim: its values by seed, mean and spread.

    The spread is the sample standard deviation over the seeds, None for one seed.
    """
    values: dict[Key, list[float]] = defaultdict(list)
    for row in sorted(rows, key=lambda row: row["seed"]):
        for network, victim, figure, value in _figures(row):
            values[row["experiment"], network, victim, figure].append(value)
    return [
        {
            "experiment": experiment,
            "network": network,
            "victim": victim,
            "figure": figure,
            "values": by_seed,
            "mean": mean(by_seed),
            "spread": stdev(by_seed) if len(by_seed) > 1 else None,
        }
        for (experiment, network, victim, figure), by_seed in values.items()
    ]


@dataclass(frozen=True)
class Claim:
    """`first` is above `second` (kind "more"), or not below ("no less"), or within `by` of it ("same").

    "more": by at least `by`, and by more than twice the standard error of the difference; "no less":
    not by more than that below. `second` None: `first` is `by` or more.
    """

    text: str
    source: str
    first: Key
    second: Key | None = None
    kind: Literal["more", "no less", "same"] = "more"
    by: float = 0.0


def _worst(experiment: str, network: str, victim: str = "float") -> Key:
    return experiment, network, victim, "worst"


def _pgd(network: str) -> Key:
    return "objectives", network, "float", "PGD"


_SHARMIN, _LIU = "Sharmin et al. 2020", "Liu et al. 2024"
_RSC, _OZDENIZCI = "RSC-SNN 2024", "Ozdenizci and Legenstein 2024"
CLAIMS = (
    Claim("RSC-I (sigma 0.3) is more robust than direct coding", _RSC,
          _worst("codings", "RSC-I, sigma 0.3"), _worst("codings", "direct")),
    Claim("RSC-II (sigma 0.3) is more robust than direct coding", _RSC,
          _worst("codings", "RSC-II, sigma 0.3"), _worst("codings", "direct")),
    Claim("RSC-I (sigma 0.3) is more robust than Poisson coding", _RSC,
          _worst("codings", "RSC-I, sigma 0.3"), _worst("codings", "Poisson")),
    Claim("Poisson coding is more robust than direct coding", _SHARMIN,
          _worst("codings", "Poisson"), _worst("codings", "direct")),
    Claim("a spiking network is more robust than its ANN", _SHARMIN,
          _worst("codings", "direct"), _worst("codings", "ANN")),
    Claim("fewer steps are more robust: Poisson, T = 4 against 32", _SHARMIN,
          _worst("time_and_leak", "Poisson, T = 4"), _worst("time_and_leak", "Poisson, T = 32")),
    Claim("more leak is more robust: Poisson, leak 0.3 against none", _SHARMIN,
          _worst("time_and_leak", "Poisson, leak 0.3"), _worst("time_and_leak", "Poisson, leak 1")),
    Claim("adversarial training (AT) lifts PGD accuracy by 25 points", "Madry et al. 2018",
          _pgd("AT"), _pgd("plain"), by=0.25),
    Claim("... and under the worst of six attacks", "Madry et al. 2018",
          _worst("objectives", "AT"), _worst("objectives", "plain"), by=0.25),
    Claim("gradient sparsity (SR) lifts PGD accuracy by 10 points", _LIU,
          _pgd("SR"), _pgd("plain"), by=0.10),
    Claim("... and under the worst of six attacks", _LIU,
          _worst("objectives", "SR"), _worst("objectives", "plain"), by=0.10),
    Claim("SR on top of AT gains more", _LIU,
          _worst("objectives", "AT + SR"), _worst("objectives", "AT")),
    Claim("a robust ANN makes a more robust converted SNN", _OZDENIZCI,
          _worst("conversion", "robust ANN: T = 8"), _worst("conversion", "plain ANN: T = 8")),
    Claim("robust fine-tuning after conversion gains more", _OZDENIZCI,
          _worst("conversion", "robust ANN: T = 8, tuned, rfgsm"),
          _worst("conversion", "robust ANN: T = 8")),
    Claim("... with PGD in place of RFGSM", "ours",
          _worst("conversion", "robust ANN: T = 8, tuned, pgd"),
          _worst("conversion", "robust ANN: T = 8")),
    Claim("conversion and fine-tuning beat AT from scratch", _OZDENIZCI,
          _worst("conversion", "robust ANN: T = 8, tuned, rfgsm"),
          _worst("conversion", "robust SNN from scratch")),
    Claim("RSC-I: PGD over 8 draws (EOT) is as strong as over one", "Athalye et al. 2018",
          ("averaging", "RSC-I, sigma 0.3", "float", "EOT 1"),
          ("averaging", "RSC-I, sigma 0.3", "float", "EOT 8"), "no less"),
    Claim("AT network: 8 bits are as robust as float (within 2 points)", "ours",
          ("bits", "AT", "8 bits", "white_box"), ("bits", "AT", "float", "white_box"), "same", 0.02),
    Claim("AT network, 3 bits: attacks carried over overstate robustness", "ours",
          ("bits", "AT", "3 bits", "transfer"), ("bits", "AT", "3 bits", "white_box")),
    Claim("phase code: the vote is right for 95 %", "ours",
          ("certificates", "phase, k = 1", "8 bits", f"{PHASE_NORM} 0"), by=0.95),
    Claim("phase code: 85 % certified, exactly, for L1 changes of 1/4 (4 of 16 grey levels)", "ours",
          ("certificates", "phase, k = 1", "8 bits", f"{PHASE_NORM} 0.25"), by=0.85),
)  # fmt: skip


def claims(
    figures: list[dict[str, Any]], images: int, of: Sequence[Claim] = CLAIMS
) -> list[dict[str, Any]]:
    """What holds here of the claims `of`: "yes", "no" (neither way), "opposite", None (not measured).

    The standard error of a difference is that over the seeds, or the binomial one of two independent
    accuracies on `images`, whichever is larger.
    """
    cells = {tuple(c[k] for k in ("experiment", "network", "victim", "figure")): c for c in figures}
    out = []
    for claim in of:
        row: dict[str, Any] = {"claim": claim.text, "source": claim.source}
        if claim.second is None and claim.first in cells:
            measured = cells[claim.first]["mean"]
            holds = "yes" if measured >= claim.by else "no"
            row |= {"first": measured, "second": None, "holds": holds}
        elif claim.first in cells and claim.second in cells:
            first, second = cells[claim.first], cells[claim.second]
            pairs = list(zip(first["values"], second["values"], strict=False))
            differences = [a - b for a, b in pairs]
            n, gain = len(pairs), mean(differences)
            binomial = sum(a * (1 - a) + b * (1 - b) for a, b in pairs) / n
            error = math.sqrt(binomial / (n * images))
            if n > 1:
                error = max(error, stdev(differences) / math.sqrt(n))
            if claim.kind == "same":
                holds = "yes" if abs(gain) <= claim.by else "no"
            elif claim.kind == "no less":
                holds = "yes" if gain >= -2 * error else "no"
            else:
                holds = "yes" if gain > max(2 * error, claim.by) else "no"
                holds = "opposite" if gain < -2 * error else holds
            row |= {
                "first": first["mean"],
                "second": second["mean"],
                "difference": gain,
                "error": error,
                "seeds": n,
                "holds": holds,
            }
        else:
            row["holds"] = None
        out.append(row)
    return out


_COLUMNS = {
    "codings": (
        "clean",
        "clean_voted",
        "random noise",
        "FGSM",
        "PGD",
        "SA-PGD",
        "worst",
        "worst_voted",
        "qte",
    ),
    "time_and_leak": ("clean", "random noise", "FGSM", "PGD", "SA-PGD", "worst"),
    "objectives": ("clean", "random noise", "FGSM", "PGD", "SA-PGD", "APGD", "Square", "worst"),
    "conversion": ("clean", "random noise", "FGSM", "PGD", "SA-PGD", "worst"),
    "averaging": tuple(f"EOT {k}" for k in (1, 2, 4, 8, 16, 32)),
    "bits": ("clean", "transfer", "white_box", "worst", "back_to_float"),
}


def tables(figures: list[dict[str, Any]]) -> Iterator[Table]:
    """One table per experiment: accuracies in %, mean and spread over the seeds."""
    for experiment in dict.fromkeys(c["experiment"] for c in figures):
        cells = [c for c in figures if c["experiment"] == experiment]
        groups = [cells]
        if experiment == "certificates":
            norms = dict.fromkeys(_norm(c["figure"]) for c in cells if c["figure"] != "single_draw")
            groups = [
                [c for c in cells if _norm(c["figure"]) in (norm, "single_draw")] for norm in norms
            ]
        for group in groups:
            measured = dict.fromkeys(c["figure"] for c in group)
            known = _COLUMNS.get(experiment, tuple(measured))
            columns = [name for name in known if name in measured]
            of = {(c["network"], c["victim"], c["figure"]): c for c in group}
            rows = [
                (network, victim, *(_shown(of.get((network, victim, name))) for name in columns))
                for network, victim in dict.fromkeys((c["network"], c["victim"]) for c in group)
                if any((network, victim, name) in of for name in columns if name != "single_draw")
            ]
            yield table(experiment, ("network", "victim", *columns), rows)


def _norm(figure: str) -> str:
    return figure.rpartition(" ")[0] or figure


def _shown(cell: dict[str, Any] | None) -> str:
    if cell is None:
        return ""
    spread = "" if cell["spread"] is None else f" ± {100 * cell['spread']:.1f}"
    return f"{100 * cell['mean']:.1f}{spread}"


def claims_table(judged: list[dict[str, Any]]) -> Table:
    """What holds here."""
    rows = [
        (
            row["claim"],
            row["source"],
            *("" if row[key] is None else f"{100 * row[key]:.1f}" for key in ("first", "second")),
            row["holds"],
        )
        for row in judged
        if row["holds"] is not None
    ]
    return table("claims", ("claim", "source", "first, %", "second, %", "holds here"), rows)
