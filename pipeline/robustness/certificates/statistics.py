"""Confidence about counted votes: Clopper-Pearson bounds and the sign test."""

from __future__ import annotations


def lower_bound(count: float, draws: int, alpha: float) -> float:
    """One-sided Clopper-Pearson bound: the p for which `count` or more of `draws` have chance alpha.

    If each draw succeeds independently with an unknown chance q, then the bound computed from the
    count is above q with probability at most `alpha`, whatever q is. It is the alpha quantile of
    Beta(count, draws - count + 1), and 0 for a count of 0. A count may be a sum of fractions: these
    vary less than draws of 0 and 1 with their mean, so that the bound is lower than it need be.

    Source: Clopper and Pearson, Biometrika 26, 1934. Floating point, to some 1e-15. Raises ValueError.
    """
    if not 0 <= count <= draws or draws < 1 or not 0 < alpha < 1:
        raise ValueError(
            f"count = {count} of {draws} draws, alpha = {alpha}; a count of 0 .. draws, 1 or more "
            f"draws and an alpha between 0 and 1 are needed."
        )
    from scipy.stats import beta

    return float(beta.ppf(alpha, count, draws - count + 1)) if count else 0.0


def sign_test(first: int, second: int) -> float:
    """Two-sided binomial test: the chance of so uneven a pair of counts if both are equally likely.

    Source: Hung and Fithian, Annals of Statistics 47, 2019, for the first two of many counts, as
    Cohen et al. 2019 use it in PREDICT. Raises ValueError where there is no vote.
    """
    if min(first, second) < 0 or first + second < 1:
        raise ValueError(f"counts of {first} and {second}; give at least one vote.")
    from scipy.stats import binomtest

    return float(binomtest(first, first + second, 0.5).pvalue)
