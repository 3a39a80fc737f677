import math
import warnings
from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship.hw_targets.network import arithmetic

L = 1 << 23
EDGES = sorted({s * (x + d) for x in (0, 4096, L, 3 * L) for d in (-1, 0, 1) for s in (1, -1)})


def decayed(state: int, by: int) -> int:
    return math.trunc(Fraction(state * (4096 - by), 4096))


@pytest.mark.parametrize("by", [0, 1, 2, 2048, 4095, 4096])
def test_decay_at_edges(by: int) -> None:
    states = np.array([*EDGES, 2**31 - 1, -(2**31) + 1], np.int32)
    result = arithmetic.decay(states, by)
    assert result.dtype == np.int32
    assert result.tolist() == [decayed(x, by) for x in states.tolist()]


@settings(derandomize=True, database=None, max_examples=500, deadline=None)
@given(st.integers(-(2**31) + 1, 2**31 - 1), st.integers(0, 4096))
def test_decay_is_rounded_toward_zero(state: int, by: int) -> None:
    assert int(arithmetic.decay(np.array(state, np.int32), by)) == decayed(state, by)


def test_decay_broadcasts_over_neurons() -> None:
    states = np.array([[1000, -1000, 7], [-5, L, -L]], np.int32)
    by = [1, 4095, 512]
    expected = [[decayed(x, d) for x, d in zip(row, by, strict=True)] for row in states.tolist()]
    assert arithmetic.decay(states, np.array(by)).tolist() == expected


CASES = [
    # one wrap only; 2^23 itself is kept, -2^23 is not
    ("wrap_current", 0, 0),
    ("wrap_current", L - 1, L - 1),
    ("wrap_current", L, L),
    ("wrap_current", L + 1, -L + 1),
    ("wrap_current", 3 * L, L),
    ("wrap_current", 3 * L + 1, L + 1),
    ("wrap_current", -L + 1, -L + 1),
    ("wrap_current", -L, L),
    ("wrap_current", -L - 1, L - 1),
    ("wrap_current", -3 * L, -L),
    ("wrap_current", 2**31 - 1, 2**31 - 1 - 2 * L),
    ("wrap_current", -(2**31), -(2**31) + 2 * L),
    ("clip_voltage", L - 1, L - 1),
    ("clip_voltage", L, L - 1),
    ("clip_voltage", 2**31 - 1, L - 1),
    ("clip_voltage", -L + 1, -L + 1),
    ("clip_voltage", -L, -L + 1),
    ("clip_voltage", -(2**31), -L + 1),
    # modulo 2^24, any number of turns
    ("wrap24", L - 1, L - 1),
    ("wrap24", L, -L),
    ("wrap24", -L, -L),
    ("wrap24", -L - 1, L - 1),
    ("wrap24", 5 * 2 * L + 3, 3),
    ("wrap24", -5 * 2 * L - 3, -3),
    ("wrap24", 2**40 + 7, 7),
    ("convolved", L, -L),
    ("convolved", 2**31 - 1, -1),
    ("convolved", 2**31, 0),
    ("convolved", -(2**31), 0),
    ("convolved", -(2**31) - 5, 0),
    ("wrap32", 2**31 - 1, 2**31 - 1),
    ("wrap32", 2**31, -(2**31)),
    ("wrap32", -(2**31), -(2**31)),
    ("wrap32", -(2**31) - 1, 2**31 - 1),
    ("wrap32", 3 * 2**32 + 5, 5),
]


@pytest.mark.parametrize(("name", "x", "expected"), CASES)
def test_number_range(name: str, x: int, expected: int) -> None:
    for dtype in (np.int32, np.int64):
        if np.iinfo(dtype).min <= x <= np.iinfo(dtype).max:
            result = getattr(arithmetic, name)(np.array([x, 1], dtype))
            assert result.tolist() == [expected, 1]


FITS = [
    # weights, exponent, effective weights (None: unchanged), as measured with impulses in Lava 0.10
    ([[2, -4, 6], [8, -126, 100]], -1, None),
    ([[1, -3, 5], [7, -127, 99]], -1, None),
    ([[1, -3, 201], [7, -127, 99]], 0, None),
    ([[0, -128, -2], [-4, -8, -16]], -1, [[0, -127, -2], [-4, -8, -16]]),
    ([[0, -100, -2], [-4, -8, -16]], -1, None),
    ([[-64, -32, -2], [-4, -8, -16]], -2, [[-62, -32, -2], [-4, -8, -16]]),
    ([[-256, -32, -2], [-4, -8, -16]], 0, [[-254, -32, -2], [-4, -8, -16]]),
    ([[255, 2, 0], [4, 6, 8]], 0, None),
    ([[300, 2, 0], [4, 6, 8]], 1, [[0, 0, 0], [0, 0, 0]]),
    ([[-300, -2, -6], [-4, -8, -8]], 1, [[0, 0, 0], [0, 0, 0]]),
    ([[-256, 2, 0], [4, 254, 8]], 0, None),
    ([[0, 0, 0], [0, 0, 0]], 0, None),
]


@pytest.mark.parametrize(("weight", "exponent", "effective"), FITS)
def test_weights_as_lava_holds_them(
    weight: list[list[int]], exponent: int, effective: list[list[int]] | None
) -> None:
    found = arithmetic.synapse_format(np.array(weight))
    assert (found.weight.tolist(), found.shift) == (effective or weight, -exponent)


def matrices() -> list[np.ndarray]:
    """Every single weight, and random matrices of every sign and granularity."""
    rng = np.random.default_rng(0)
    out = [np.array([[w]]) for w in range(-256, 255) if w]
    out += [np.array([[w, 0]]) for w in range(-256, 255) if w]
    for i in range(700):
        low, high = [(-256, 254), (0, 254), (-256, 0), (-256, -1), (1, 254)][i % 5]
        step = 2 ** int(rng.integers(0, 8))
        low, high = max(low, -int(rng.integers(1, 257))), min(high, int(rng.integers(1, 255)))
        low = min(low, high)
        matrix = rng.integers(low, high, rng.integers(1, 6, 2), endpoint=True)
        matrix = np.clip(matrix // step * step, -256, 254)
        if matrix.any():
            out.append(matrix)
    return out


def test_a_positive_weight_makes_the_matrix_exact() -> None:
    """What `write_netx` promises: only matrices without positive entry are ever changed."""
    with_positive = [m for m in matrices() if m.max() > 0]
    assert len(with_positive) > 500
    for matrix in with_positive:
        assert (arithmetic.synapse_format(matrix).weight == matrix).all(), matrix


@pytest.mark.lava
def test_weights_as_the_installed_lava_holds_them() -> None:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lava.lib.dl.netx.utils import optimize_weight_bits
        from lava.utils.weightutils import clip_weights, determine_sign_mode, truncate_weights

    compared = matrices()
    assert len(compared) >= 1500
    for weight in compared:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # 127 / 0, in lava-dl
            mantissa, bits, exponent, _ = optimize_weight_bits(weight.astype(int))
        mantissa = mantissa.astype(np.int32)
        mode = determine_sign_mode(mantissa)
        expected = truncate_weights(clip_weights(mantissa, mode, 8), mode, bits)
        found = arithmetic.synapse_format(weight)
        assert (found.mantissa.tolist(), found.shift) == (expected.tolist(), -exponent), weight
