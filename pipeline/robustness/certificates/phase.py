r"""The exact certificate of the phase code: all phases are run, on the integers, and counted.

Classifier: one run for each of the L = grid phases; the answer is the class with the most votes, the
lowest one of equals. No sampling, no confidence level, no real numbers.

Theorem. Let A be the answer for an image of whole grey levels, with votes n_c, and

    R = min over B != A of floor((n_A - n_B - [B < A]) / (2 k)),    k = offsets.

Then A is the answer for every image of whole grey levels 0 .. L at an L1 distance of at most R levels.

Proof. (1) A run is a function of its messages alone: state starts from zero, whole numbers, exact sums;
equal scores always give the lowest class. So a run whose messages are unchanged keeps its vote.
(2) In step t the threshold of pixel i is (base_i + phase + off_t) mod L. As the phase runs through
0 .. L - 1 it takes each value once. The spike [g > threshold] differs between grey levels g and g + 1
only where the threshold is g: at one phase for each of the k distinct offsets, so at k phases at most
over all steps. (3) A change of L1 size D is D such steps, and alters at most k D of the L runs. (4) Each
altered run takes at most one vote from A and gives at most one to B, so n'_A - n'_B >= n_A - n_B - 2 k D.
(5) With D <= R this is at least [B < A]: B has fewer votes than A, or, if B > A, as many. In both cases
argmax, which returns the lowest index of a maximum, prefers A to B. As A is the answer at the centre, its
own margin is never below [B < A], so R >= 0 and the certificate never abstains.

The weaker floor((n_A - n_B - 1) / (2 k)), which needs no rule for ties, is never larger.

Images off the grid are rounded to grey levels first. The theorem is then about the rounded images:
the centre is x_g, and a real-valued x' keeps the answer within an L1 distance of R / 2 from it (see
`smoothing`).

Not covered: the answer at a single phase, and anything but L1 (and what follows from it).

Source: deterministic smoothing with splitting noise, Levine and Feizi, ICML 2021, arXiv 2103.10834, for
real-valued networks; thresholds as spikes in time, k offsets and the integer network are ours.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray


def phase_radius(votes: NDArray[np.int64], offsets: int) -> NDArray[np.int64]:
    """R of the theorem in grey levels, (sample,), from votes (sample, classes)."""
    answer = votes.argmax(axis=1)[:, None]
    lower = np.arange(votes.shape[1]) < answer
    margin = np.take_along_axis(votes, answer, axis=1) - votes - lower
    np.put_along_axis(margin, answer, np.iinfo(np.int64).max, axis=1)
    radius: NDArray[np.int64] = margin.min(axis=1) // (2 * offsets)
    return radius
