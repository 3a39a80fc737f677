"""What the tables of `attack`, `certify` and `robustness` share."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING

from rich.table import Table

from ...hw_targets.printed import table
from ..text import percent

if TYPE_CHECKING:
    from ...hw_targets.network.coding import Coding
    from ..robustness.attacks.attack import Attacked, Scored
    from ..robustness.report import Certificates

_SHOWN = ("steps", "restarts", "eot", "queries", "draws_per_query", "loss", "gradient")
_USUAL = (None, 1, "cross_entropy", "ce", "superspike")


def certificate_tables(certificates: Certificates) -> list[Table | str]:
    """Certified accuracy by radius, and what it means."""
    c = certificates
    columns = (f"{c.norm} radius, {c.unit} units", *(f"{r:g}" for r in c.radii))
    accuracy = ("certified accuracy", *(f"{100 * a:.1f} %" for a in c.accuracy))
    title = f"certificates, {c.method}, {c.samples} images"
    out: list[Table | str] = [table(title, columns, [accuracy]), c.statement]
    if c.alpha:
        out.append(f"Abstained from {percent(c.abstained)} of the images.")
    return out


def network_name(name: str, digest: str, coding: Coding | None) -> str:
    """A network's name, the beginning of its digest, and its input coding."""
    if coding is None:
        return f"{name} {digest[:12]} (no coding)"
    noise = f", sigma {coding.sigma:g}" if coding.sigma else ""
    return f"{name} {digest[:12]} ({coding.name}, {coding.steps} steps{noise})"


def score_columns(clean: Scored) -> tuple[str, str]:
    """Headings of the two cells of `scores`: by one draw, by votes where there are several."""
    return ("single draw", f"{clean.draws} votes") if clean.draws > 1 else ("accuracy", "")


def scores(scored: Scored) -> tuple[str, str]:
    """Accuracy of single draws, and of votes where there are several draws."""
    return percent(scored.accuracy), percent(scored.voted) if scored.draws > 1 else ""


def how_judged(clean: Scored, seed: int) -> str:
    """A sentence: on how many draws the answers were judged."""
    if clean.draws == 1:
        return f"Answers do not vary; seed {seed}."
    return f"Judged on {clean.draws} fresh draws, which no attack saw; seed {seed}."


def attack_settings(attacked: Attacked) -> str:
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


def settings_left(shown: Table) -> Table:
    """A table with its last column, the settings, aligned left."""
    shown.columns[-1].justify = "left"
    return shown
