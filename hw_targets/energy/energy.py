"""`Energy`: joules of one scope, with what they are made of and rest on; `ratio` of two of them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace

from .device import Unpriced
from .interval import Interval

Term = tuple[float, float, float]
"""joules, low, high"""


class ScopeError(ValueError):
    """Two energies that may not be divided by each other."""


@dataclass(frozen=True)
class Energy:
    """An energy in joules: value in [low, high], of the stated scope only."""

    joules: float
    low: float
    high: float
    scope: str
    device: str
    terms: Mapping[str, Term] = field(default_factory=dict)
    """joules, low, high of each priced coefficient by itself; the total's ends respect corners"""
    unpriced: tuple[Unpriced, ...] = ()
    """what belongs to the scope and has no figure, unless it did not happen"""
    bases: Mapping[str, str] = field(default_factory=dict)
    """how each term is known: measured, simulated, regression, derived, datasheet or assumed"""
    lower_bound: bool = False
    notes: tuple[str, ...] = ()

    @property
    def interval(self) -> Interval:
        return Interval(self.joules, self.low, self.high)

    @property
    def partial(self) -> bool:
        """Whether something that belongs to the scope is missing."""
        return bool(self.unpriced)

    @property
    def shares(self) -> dict[str, float]:
        """Share of the joules that rests on each basis, largest first; empty for an energy of 0."""
        sums = dict.fromkeys(self.bases.values(), 0.0)
        for name, basis in self.bases.items():
            sums[basis] += self.terms[name][0]
        whole = sum(sums.values())
        ranked = sorted(sums.items(), key=lambda item: -item[1])
        return {basis: joules / whole for basis, joules in ranked} if whole else {}

    def __mul__(self, times: float) -> Energy:
        """Energy of so many of the same runs."""
        return self._each(lambda joules: joules * times)

    def __truediv__(self, samples: int) -> Energy:
        """Energy per sample."""
        return self._each(lambda joules: joules / samples)

    def _each(self, scaled: Callable[[float], float]) -> Energy:
        return replace(
            self,
            joules=scaled(self.joules),
            low=scaled(self.low),
            high=scaled(self.high),
            terms={k: (scaled(a), scaled(b), scaled(c)) for k, (a, b, c) in self.terms.items()},
        )


def edp(energy: Energy, latency: Interval) -> Interval:
    """Energy-delay product of one inference, J s: E_total x latency."""
    return energy.interval * latency


def ratio(
    a: Energy | None,
    b: Energy | None,
    *,
    allow_mixed_scope: bool = False,
    allow_lower_bound: bool = False,
) -> Interval:
    """a / b, with the ends for coefficients that vary independently of each other.

    Raises ScopeError where one is missing or 0 (or may be), where the scopes differ (unless
    `allow_mixed_scope`), and where one is a lower bound: over a lower bound the ratio is an upper bound,
    which `allow_lower_bound` accepts, with a low end of 0; a lower bound over something has no end.
    """
    if a is None or b is None:
        raise ScopeError(
            "no ratio: an energy is missing (unavailable is not 0); measure or price both."
        )
    names = f"{a.device} ({a.scope}) and {b.device} ({b.scope})"
    if a.scope != b.scope and not allow_mixed_scope:
        raise ScopeError(
            f"no ratio of {names}: their scopes differ, so it would compare parts with wholes. Price "
            f"the same scope, or allow_mixed_scope=True (--allow-mixed-scope) to take it all the same."
        )
    if a.joules == 0 or b.low == 0:
        which = "first is" if a.joules == 0 else "second may be"
        raise ScopeError(f"no ratio of {names}: the {which} 0, so something was not counted.")
    if a.lower_bound:
        raise ScopeError(
            f"no ratio of {names}: the first is a lower bound, so the ratio has no upper end. Divide the "
            f"other way round."
        )
    quotient = a.interval / b.interval
    if not b.lower_bound:
        return quotient
    if not allow_lower_bound:
        raise ScopeError(
            f"no ratio of {names}: the second is a lower bound, so the ratio is an upper bound only. "
            f"allow_lower_bound=True takes it, with a low end of 0."
        )
    return replace(quotient, low=0.0)
