r"""Randomized smoothing: how far the vote of a network over the noise of its own coding is constant.

Smoothed classifier: g(x) = the most likely answer of f(coded x), over the draws of the coding. f is any
function of the coded input, so also a fixed-point network whose state is reset for each draw, and a
clipping or rounding of the noisy input, or hidden noise, is a part of it.

Three things hold for all codings here.

Grid. The coding first rounds x to one of its grey levels, x_g = round(x * grid) / grid, and the noise
comes after that. So what a radius R bounds is the distance between *rounded* images: g is constant for
all images x' with norm(x'_g - x_g) < R. For attackers on the grid (a digital image), these are the
images themselves. For others, since a whole number k and a real y have abs(round(y) - k) <= 2 abs(y - k),
every x' with norm(x' - x_g) < R / 2 qualifies, in L1 and in L2; R itself would be wrong.

Refused draws. Noise may exceed the width of a graded input spike, and `encoding.integers` refuses such a
draw. Here the draw is counted as an answer of its own, of no class. Whether it occurs depends on
coded x alone, so f with this further answer is again a function of the coded input and every theorem
below applies to it as it stands: nothing is clipped, f is not changed, and refusals can only lower
the count of the class that is certified.

Sampling. Draws must be independent of each other and of the network: see `certify`.

Not covered: the answer to a single draw (only the vote is certified), and, for a float network, that
its arithmetic rounds the noisy input differently for each x (Voracek and Hein, ICLR 2023), so its f is
not exactly one function of x + noise. The integers do not have this problem: grey levels plus whole
noise, exactly. What remains there is the sampler's precision, 2^-53 a draw.
"""

from __future__ import annotations

import math

SAMPLER_BOUND = math.sqrt(2 * 53 * math.log(2))
"""Largest size, 8.57, of torch's normal numbers in float64: Box-Muller from 53-bit uniform ones."""


def gaussian_radius(p: float, sigma: float, *, copies: int = 1, tail: float = 0.0) -> float:
    r"""L2 radius in the units of sigma; 0 or below: nothing is certified.

    R = sigma / sqrt(copies) * (Phi^-1(p - tail) - Phi^-1(1/2 + tail))

    `p` is a lower bound of the probability of class A under N(0, sigma^2 I) noise, `copies` how often
    the image occurs in the noisy input, each time with fresh noise.

    - One noise vector (rsc1): Cohen et al., ICML 2019, theorem 1, with 1 - p in place of the
      runner-up. By the Neyman-Pearson lemma the worst f with P(f(x + n) = A) >= p is a half space
      across delta, so P(f(x + delta + n) = A) >= Phi(Phi^-1(p) - norm(delta) / sigma). That is above
      1/2, hence A the most likely answer, while norm(delta) < sigma * Phi^-1(p).
    - A fresh one in each of T steps (rsc2): the noisy input has T * d dimensions, and a shift delta of
      the image moves each of the T copies, a shift of norm sqrt(T) * norm(delta). Cohen's formula
      without the sqrt(T) claims too much.
    - `tail`: total variation between the noise that is drawn and the normal one, see `truncation`.
      The chance of A under true normal noise is at least p - tail; after the shift it must be above
      1/2 + tail for the drawn noise still to have A above 1/2.

    On the integers the noise is n = floor(z * levels + 1/2) grey levels. For whole g, g + n =
    floor((g / levels + z) * levels + 1/2): quantizing is a part of f and the bound is as for x_g + z.
    Note the floor: rounding half to even would not commute with adding g.
    """
    if p - tail <= 0.5 + tail:
        return 0.0
    from scipy.stats import norm

    difference = norm.ppf(p - tail) - norm.ppf(0.5 + tail)
    return float(sigma / math.sqrt(copies) * difference)


def bernoulli_radius(p: float, steps: int, *, span: int = 1) -> float:
    r"""L1 radius in pixel units: R = (p - 1/2) / (span * steps); 0 or below: nothing is certified.

    `p` is a lower bound of the probability of class A over independent Bernoulli spikes in `steps`
    steps. `span` is 1 for spikes with probability x, 2 for signed ones with s = 2 x - 1.

    Draw the spikes of x and x' from the same uniform number per pixel and step. A pixel's spike in
    one step then differs with probability abs(x_i - x'_i); signed: for equal signs abs(s_i - s'_i),
    across zero max(abs(s_i), abs(s'_i)), at most 2 abs(x_i - x'_i) both. Over all pixels and steps
    something differs with probability at most span * T * norm1(x - x'), by the union bound, and the
    chance of any answer changes by no more than that: A stays above 1/2 within R. The T belongs
    there: one draw is T frames.

    L2 and Linf follow by norm1(d) <= sqrt(n) norm2(d) <= n normInf(d) for n pixels, and are weak.

    For rate-coded SNNs the L1 certificate is prior art (Mukhoty et al., Certified Adversarial
    Robustness for Rate Encoded Spiking Neural Networks, ICLR 2024). Ours differs from the program
    released with it in that the T is in the radius, class A is chosen on draws of its own, and the
    bound is one-sided Clopper-Pearson at a small alpha.
    """
    return (p - 0.5) / (span * steps)


def truncation(numbers: int, bound: float) -> float:
    """Total variation between `numbers` normal draws and the same cut off at +- bound sigma.

    At most 2 * numbers * Phi(-bound), the chance that any of them lies beyond.
    """
    from scipy.stats import norm

    return float(min(1.0, 2 * numbers * norm.cdf(-bound)))
