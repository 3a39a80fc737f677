"""The neurons of Loihi-style hardware, in integers: one frozen class per kind netx can hold.

The docstring of each class is its equation; `reference` runs them, `netx` stores them.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arithmetic

IntArray: TypeAlias = NDArray[np.int32]


class NetworkError(ValueError):
    """A network or its input holds something that Loihi-style hardware or netx cannot hold."""


def integers(
    values: ArrayLike, what: str, low: int, high: int, fix: str, *, scalar: bool = False
) -> IntArray:
    """`values` as a read-only int32 array, or a NetworkError naming the first offending value.

    Refused: not a number, fractions, anything outside [low, high].
    """
    array = np.asarray(values)
    if array.dtype.kind not in "biuf":
        raise NetworkError(f"{what} has dtype {array.dtype}; integers are needed. {fix}")
    if scalar and array.size != 1:
        raise NetworkError(f"{what} has shape {array.shape}; a single integer is needed. {fix}")
    for bad, complaint in (
        (~np.isfinite(array), "is not a finite number"),
        (array != np.floor(array), "is not an integer"),
        ((array < low) | (array > high), f"is outside [{low}, {high}]"),
    ):
        if bad.any():
            where = np.unravel_index(int(bad.argmax()), array.shape)
            place = f"[{', '.join(map(str, where))}]" if array.ndim else ""
            others = f" (and {int(bad.sum()) - 1} more)" if bad.sum() > 1 else ""
            raise NetworkError(f"{what}{place} = {array[where]} {complaint}{others}. {fix}")
    frozen = np.array(array, dtype=np.int32, order="C")
    frozen.flags.writeable = False
    return frozen


class Stored:
    """A layer or a neuron: frozen integers. Equal to another where a file stores the same of both."""

    def __eq__(self, other: object) -> bool:
        if type(other) is not type(self):
            return NotImplemented
        mine, theirs = list(stored_integers(self)), list(stored_integers(other))
        return len(mine) == len(theirs) and all(
            name == its_name and np.array_equal(value, its_value)
            for (name, value), (its_name, its_value) in zip(mine, theirs, strict=True)
        )

    def __hash__(self) -> int:
        return hash((type(self), *((name, np.shape(v)) for name, v in stored_integers(self))))

    def __reduce__(self) -> tuple[Any, ...]:
        """For pickle and copy: made anew, so that arrays are read-only there, too."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}  # type: ignore[arg-type]
        return partial(type(self), **values), ()


def stored_integers(thing: Any) -> Iterator[tuple[str, Any]]:
    """Every integer that a layer or a neuron stores, as (dotted name, value), in the order of its fields.

    CUBA and LOIHI neurons run alike and are not told apart.
    """
    if isinstance(thing, Neuron):
        kind = type(thing).__name__
        if isinstance(thing, CubaLIF | ResonateFire):
            kind = "" if isinstance(thing, CubaLIF) else thing.kind
        yield f"neuron.{kind}".rstrip("."), 0
        for inner in fields(thing):
            if inner.name != "kind":
                yield f"neuron.{inner.name}", getattr(thing, inner.name)
        return
    yield "layer", 0
    for part in fields(thing):
        value = getattr(thing, part.name)
        if part.name == "neuron" and value is not None:
            yield from stored_integers(value)
        elif value is not None:
            yield part.name, value


@dataclass(frozen=True, eq=False)
class CubaLIF(Stored):
    r"""Current-based leaky integrate-and-fire neurons, in netx `CUBA` (or the older `LOIHI`).

    With a the synaptic sum of the step and tz = rounding toward zero::

        u <- wrap(tz(u * (4096 - i_decay) / 4096) + (a << 6))
        v <- clip(tz(v * (4096 - v_decay) / 4096) + u + (bias << 6))
        spike = v > (threshold << 6), then v <- 0

    Parameters are integers: a scalar, one per channel (C,) of a convolution, or one per neuron.
    `i_decay`, `v_decay`: 0 (keep all) .. 4096 (forget all); time constant about 4096 / decay steps.
    `threshold`: 0 .. 131071 (17 bit). Source: Lava 0.10, `lava.proc.lif.models`. Real Loihi shows
    v = 128 in the step of a spike (a refractory count); Lava, and this package, show 0.
    """

    i_decay: int | IntArray
    v_decay: int | IntArray
    threshold: int | IntArray
    kind: Literal["CUBA", "LOIHI"] = "CUBA"

    graded: ClassVar[bool] = False
    states: ClassVar[Mapping[str, str]] = {"u": "u", "v": "v"}

    def __post_init__(self) -> None:
        decays = "Decays are 12-bit fractions of 4096: round(4096 * dt / tau)."
        for name, high, fix in (
            ("i_decay", arithmetic.DECAY_ONE, decays),
            ("v_decay", arithmetic.DECAY_ONE, decays),
            (
                "threshold",
                arithmetic.THRESHOLD_MAX,
                "Thresholds are unsigned 17-bit mantissas: lower the scale of this layer's "
                "weights, bias and threshold together.",
            ),
        ):
            array = integers(getattr(self, name), name, 0, high, fix)
            value = int(array.item()) if array.size == 1 else array
            object.__setattr__(self, name, value)
        object.__setattr__(self, "kind", str(self.kind))
        if self.kind not in ("CUBA", "LOIHI"):
            raise NetworkError(f"neuron kind {self.kind!r} is not supported; use CUBA or LOIHI.")


_THRESHOLDS = (
    "Thresholds are unsigned 17-bit mantissas: lower the scale of this layer's weights, bias and "
    "threshold together."
)


def _threshold(value: ArrayLike) -> int:
    array = integers(value, "threshold", 0, arithmetic.THRESHOLD_MAX, _THRESHOLDS, scalar=True)
    return int(array.item())


def _exponent(value: int) -> int:
    fix = "It is the number of fraction bits that graded spikes have beyond the weights' 6."
    return int(integers(value, "spike_exp", 0, 7, fix, scalar=True).item())


@dataclass(frozen=True, eq=False)
class Delta(Stored):
    """Sends the change of its input: the input layer of a sigma-delta network, netx `SDNN`.

    With x the input and e = `spike_exp`, in 32-bit integers (they wrap)::

        act = x << (e + 6)
        d = act - act_before + residue
        out = d if |d| >= (threshold << (e + 6)) else 0
        residue = d - out;  the message is out >> 6 (rounded down)

    Messages are graded. `spike_exp` is an argument of lava-dl's `Network`, not part of its file.
    Recorded states: v is act, residue is residue. Source: Lava 0.10, `PyDeltaModelFixed`.
    """

    threshold: int
    spike_exp: int = 6

    graded: ClassVar[bool] = True
    states: ClassVar[Mapping[str, str]] = {"v": "act", "residue": "residue"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", _threshold(self.threshold))
        object.__setattr__(self, "spike_exp", _exponent(self.spike_exp))


@dataclass(frozen=True, eq=False)
class SigmaDelta(Stored):
    """Sums changes, applies a ReLU and sends the change of the result, netx `SDNN`.

    With a the synaptic sum and e = `spike_exp`, in 32-bit integers (they wrap)::

        sigma <- sigma + a
        act = max(sigma + (bias << (e + 6)), 0), then sent as `Delta` sends it

    Recorded states: u is sigma, v is act, residue is residue. Source: Lava 0.10,
    `PySigmaDeltaModelFixed`, which netx selects: the 6 bits that a message loses are not made up
    for (Lava's `PySigmaDeltaModelFixedCorrected` is never chosen). Loihi 2 has 24 bits, Lava 32.
    """

    threshold: int
    spike_exp: int = 6

    graded: ClassVar[bool] = True
    states: ClassVar[Mapping[str, str]] = {"u": "sigma", "v": "act", "residue": "residue"}

    def __post_init__(self) -> None:
        object.__setattr__(self, "threshold", _threshold(self.threshold))
        object.__setattr__(self, "spike_exp", _exponent(self.spike_exp))


@dataclass(frozen=True, eq=False)
class Sigma(Stored):
    """The readout of a sigma-delta network, netx `SDNN` with `sigma_output`.

    sigma <- sigma + a (32 bit, wraps), sent in every step. It has no bias. Divide by
    2^(12 + spike_exp) for real values where inputs and weights have 6 fraction bits.
    Recorded state: u is sigma. Source: Lava 0.10, `PySigmaModelFixed`.
    """

    graded: ClassVar[bool] = True
    states: ClassVar[Mapping[str, str]] = {"u": "sigma"}


@dataclass(frozen=True, eq=False)
class ResonateFire(Stored):
    """Resonate-and-fire neurons, netx `RF_PHASE` and `RF_IZHIKEVICH`.

    With ar, ai the two synaptic sums, S and C from `decays` and tz = rounding toward zero::

        re' = clip(tz(C * re / 4096) - tz(S * im / 4096) + (ar << 6))
        im' = clip(tz(S * re / 4096) + tz(C * im / 4096) + (ai << 6))
        RF_PHASE:      spike = re' >= (threshold << 6) and im' >= 0 and im < 0
        RF_IZHIKEVICH: spike = im' >= (threshold << 6), then re' <- 0, im' <- (threshold << 6) - 1

    Each product is rounded by itself; both states are clipped at +-(2^23 - 1). `sin_decay`
    1..4095, `cos_decay` 0..4095 as stored in the file. Recorded states: u is re, v is im.
    Source: Lava 0.10, `lava.proc.rf`, `lava.proc.rf_iz`.
    """

    sin_decay: int
    cos_decay: int
    threshold: int
    kind: Literal["RF_PHASE", "RF_IZHIKEVICH"] = "RF_PHASE"

    graded: ClassVar[bool] = False
    states: ClassVar[Mapping[str, str]] = {"u": "real", "v": "imag"}

    def __post_init__(self) -> None:
        fix = "It is round(4096 * (1 - decay) * sin or cos(2 pi / period))."
        for name, low in (("sin_decay", 1), ("cos_decay", 0)):
            array = integers(getattr(self, name), name, low, 4095, fix, scalar=True)
            object.__setattr__(self, name, int(array.item()))
        object.__setattr__(self, "threshold", _threshold(self.threshold))
        object.__setattr__(self, "kind", str(self.kind))
        if self.kind not in ("RF_PHASE", "RF_IZHIKEVICH"):
            raise NetworkError(
                f"neuron kind {self.kind!r} is not supported; use RF_PHASE or RF_IZHIKEVICH."
            )

    @property
    def decays(self) -> tuple[int, int]:
        """(S, C) that Lava really runs, see `arithmetic.resonator_decays`."""
        return arithmetic.resonator_decays(self.sin_decay, self.cos_decay)


Neuron: TypeAlias = CubaLIF | Delta | SigmaDelta | Sigma | ResonateFire
