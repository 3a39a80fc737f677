"""The neurons of Loihi-style hardware, in integers: one frozen class per kind, which says all of itself.

The docstring of a class is its equation, `step` the same in numpy. Everything else reads the class:
`reference` and `engine` run it, `netx` stores it, the digest names it, energy counts its operations.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from functools import partial
from typing import Any, ClassVar, Literal, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..arrays import Array
from . import arithmetic
from .kind import STATES, Netx, Operations, Step, parameters, whole

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
    if array.dtype == np.float16:  # too short for the bounds
        array = array.astype(np.float32)
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
    """Every integer of a layer or a neuron as (dotted name, value), in the order of the fields."""
    if isinstance(thing, Neuron):
        yield f"neuron.{thing.stored_as}".rstrip("."), 0
        for name in parameters(type(thing)):
            yield f"neuron.{name}", getattr(thing, name)
        return
    yield "layer", 0
    for part in fields(thing):
        value = getattr(thing, part.name)
        if part.name == "neuron" and value is not None:
            yield from stored_integers(value)
        elif value is not None:
            yield part.name, value


@dataclass(frozen=True, eq=False)
class Neuron(Stored, ABC):
    """A kind of neurons: a frozen dataclass of integers, its equation, and what else there is to know.

    A kind of your own is a subclass with `step`, `operations`, `stored_as` and `states`, whose fields
    say their ranges (see `kind.whole`). It runs in the reference, which the engine falls back to by
    layer, and is refused where its class cannot be enough: by Lava, `Twin`, chips and NIR.
    """

    graded: ClassVar[bool] = False
    """messages are whole numbers, not single spikes"""
    resets: ClassVar[bool] = False
    """states are forgotten (0 again) where a run has a reset interval"""
    layers: ClassVar[tuple[str, ...]] = ("Dense", "Conv")
    """which layers may have such neurons"""
    has_bias: ClassVar[bool] = True
    """whether the layer of such neurons may have a bias"""
    has_two_sums: ClassVar[bool] = False
    """two sums reach it, of real and of imaginary weights; all others get one"""
    constant_is_bias: ClassVar[bool] = False
    """in an Input layer, an input that is constant in time is its bias; else it is held"""
    netx: ClassVar[Netx | None] = None
    """how a netx file holds it; None: not at all"""

    def __post_init__(self) -> None:
        if not set(self.states) <= set(STATES):
            raise NetworkError(
                f"{type(self).__name__} calls its states {', '.join(self.states)} in traces, which "
                f"know {', '.join(STATES)}. Choose from these."
            )
        for name, parameter in parameters(type(self)).items():
            low, high, fix = parameter.low, parameter.high, parameter.fix
            scalar = not parameter.per_neuron
            array = integers(getattr(self, name), name, low, high, fix, scalar=scalar)
            object.__setattr__(self, name, int(array.item()) if array.size == 1 else array)
        kind = getattr(self, "kind", None)
        if self.netx is not None and kind is not None:
            object.__setattr__(self, "kind", str(kind))
            if str(kind) not in self.netx.types:
                names = " or ".join(self.netx.types)
                raise NetworkError(f"neuron kind {str(kind)!r} is not supported; use {names}.")

    @property
    @abstractmethod
    def stored_as(self) -> str:
        """The name of the equation in digests: kinds that run alike share it, all others differ."""

    @property
    @abstractmethod
    def states(self) -> Mapping[str, str]:
        """What "u", "v" and "residue" of a trace are, as the kind calls them; all begin with 0."""

    @abstractmethod
    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        """One time step: what all neurons of a layer do, given the sums that arrive in it.

        `states`: by the kind's own names, int32 (sample, *layer shape). `sums`: integers of that shape,
        one array, or with `has_two_sums` a real and an imaginary one. `bias`: that of the layer, as it
        is stored, int32 that broadcasts; 0 without. Nothing is changed in place.
        """

    @property
    @abstractmethod
    def operations(self) -> Operations:
        """What one update takes."""


def spread(parameter: int | IntArray, like: Array) -> IntArray:
    """A scalar, a number per channel or one per neuron, so that it broadcasts over (sample, *shape)."""
    array = np.asarray(parameter, np.int32)
    return array.reshape(-1, *[1] * (like.ndim - 2)) if array.ndim == 1 else array


_DECAYS = "Decays are 12-bit fractions of 4096: round(4096 * dt / tau)."
_THRESHOLDS = (
    "Thresholds are unsigned 17-bit mantissas: lower the scale of this layer's weights, bias and "
    "threshold together."
)
_RESONANCE = "It is round(4096 * (1 - decay) * sin or cos(2 pi / period))."
_threshold = whole(0, arithmetic.THRESHOLD_MAX, _THRESHOLDS, netx="vThMant")
_exponent = whole(
    0, 7, "It is the number of fraction bits that graded spikes have beyond the weights' 6."
)
_SPIKES_ARE_BINARY = {
    "gradedSpike": "gradedSpike is true; netx ignores it and sends binary spikes. Train with binary "
    "spikes."
}


@dataclass(frozen=True, eq=False)
class CubaLIF(Neuron):
    r"""Current-based leaky integrate-and-fire neurons, in netx `CUBA` (or the older `LOIHI`).

    With a the synaptic sum of the step and tz = rounding toward zero::

        u <- wrap(tz(u * (4096 - i_decay) / 4096) + (a << 6))
        v <- clip(tz(v * (4096 - v_decay) / 4096) + u + (bias << 6))
        spike = v > (threshold << 6), then v <- 0

    Parameters are integers: a scalar, one per channel (C,) of a convolution, or one per neuron.
    `i_decay`, `v_decay`: 0 (keep all) .. 4096 (forget all); time constant about 4096 / decay steps.
    `threshold`: 0 .. 131071 (17 bit). CUBA and LOIHI run alike and are not told apart. Source: Lava
    0.10, `lava.proc.lif.models`. Real Loihi shows v = 128 in the step of a spike (a refractory
    count); Lava, and this package, show 0.
    """

    i_decay: int | IntArray = field(
        metadata=whole(0, arithmetic.DECAY_ONE, _DECAYS, netx="iDecay", per_neuron=True)
    )
    v_decay: int | IntArray = field(
        metadata=whole(0, arithmetic.DECAY_ONE, _DECAYS, netx="vDecay", per_neuron=True)
    )
    threshold: int | IntArray = field(
        metadata=whole(0, arithmetic.THRESHOLD_MAX, _THRESHOLDS, netx="vThMant", per_neuron=True)
    )
    kind: Literal["CUBA", "LOIHI"] = "CUBA"

    stored_as: ClassVar[str] = ""
    states: ClassVar[Mapping[str, str]] = {"u": "u", "v": "v"}
    resets: ClassVar[bool] = True
    layers: ClassVar[tuple[str, ...]] = ("Input", "Dense", "Conv")
    constant_is_bias: ClassVar[bool] = True
    netx: ClassVar[Netx | None] = Netx(
        # of SLAYER's training, no numbers of the chip
        types={"CUBA": (), "LOIHI": ("theta", "tauRho", "scaleRho")},
        constants={"refDelay": 1, "gradedSpike": False},
        refused=_SPIKES_ARE_BINARY,
    )

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        return _current_based(states, sums[0], bias, self.i_decay, self.v_decay, self.threshold)

    @property
    def operations(self) -> Operations:
        fractions = [np.asarray(decay) for decay in (self.i_decay, self.v_decay)]
        kept = sum(bool((d < arithmetic.DECAY_ONE).any()) for d in fractions)
        decays = sum(bool(((d > 0) & (d < arithmetic.DECAY_ONE)).any()) for d in fractions)
        return Operations(max(1, kept), decays, 2)  # v + u, and the comparison


@dataclass(frozen=True, eq=False)
class Integrator(Neuron):
    """netx's default, of dense layers without neurons: u adds up all input, and nothing is ever sent.

    With a the synaptic sum: u <- wrap(u + (a << 6)), v <- clip(u + (bias << 6)). It stands for
    `neuron=None`, see `Population.neuron`; no layer holds it.
    """

    stored_as: ClassVar[str] = "Integrator"
    states: ClassVar[Mapping[str, str]] = {"u": "u", "v": "v"}
    resets: ClassVar[bool] = True
    layers: ClassVar[tuple[str, ...]] = ()

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        return _current_based(states, sums[0], bias, 0, arithmetic.DECAY_ONE, arithmetic.NEVER)

    @property
    def operations(self) -> Operations:
        return Operations(1, 0, 0)


def _current_based(
    states: Mapping[str, Array],
    a: Array,
    bias: Array,
    i_decay: int | IntArray,
    v_decay: int | IntArray,
    threshold: int | IntArray,
) -> Step:
    """The equation of `CubaLIF`."""
    current = a.astype(np.int64) << arithmetic.STATE_SHIFT
    exact_u = arithmetic.decay(states["u"], spread(i_decay, a)) + current
    u = arithmetic.wrap_current(arithmetic.wrap32(exact_u)).astype(np.int32)
    left = arithmetic.decay(states["v"], spread(v_decay, a)).astype(np.int64)
    exact_v = left + u + (bias << arithmetic.STATE_SHIFT)
    v = arithmetic.clip_voltage(arithmetic.wrap32(exact_v)).astype(np.int32)
    spikes = v > (spread(threshold, a) << arithmetic.STATE_SHIFT)
    return Step(
        spikes,
        {"u": u, "v": np.where(spikes, np.int32(0), v)},
        u_wraps=int(np.count_nonzero(u != exact_u)),
        v_clips=int(np.count_nonzero(v != exact_v)),
    )


_SDNN = {"SDNN": ("vThMant", "activation", "sigma_output", "gradedSpike")}


@dataclass(frozen=True, eq=False)
class Delta(Neuron):
    """Sends the change of its input: the input layer of a sigma-delta network, netx `SDNN`.

    With x the input and e = `spike_exp`, in 32-bit integers (they wrap)::

        act = x << (e + 6)
        d = act - act_before + residue
        out = d if |d| >= (threshold << (e + 6)) else 0
        residue = d - out;  the message is out >> 6 (rounded down)

    Messages are graded. `spike_exp` is an argument of lava-dl's `Network`, not part of its file.
    Recorded states: v is act, residue is residue. Source: Lava 0.10, `PyDeltaModelFixed`.
    """

    threshold: int = field(metadata=_threshold)
    spike_exp: int = field(default=6, metadata=_exponent)

    stored_as: ClassVar[str] = "Delta"
    states: ClassVar[Mapping[str, str]] = {"v": "act", "residue": "residue"}
    graded: ClassVar[bool] = True
    layers: ClassVar[tuple[str, ...]] = ("Input",)
    netx: ClassVar[Netx | None] = Netx(_SDNN, {"activation": "relu"})

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        shift = self.spike_exp + arithmetic.STATE_SHIFT
        act, wraps = _held(sums[0].astype(np.int64) << shift)
        return _changes(states, act, self.threshold, shift, wraps)

    @property
    def operations(self) -> Operations:
        return Operations(2, 0, 4)


@dataclass(frozen=True, eq=False)
class SigmaDelta(Neuron):
    """Sums changes, applies a ReLU and sends the change of the result, netx `SDNN`.

    With a the synaptic sum and e = `spike_exp`, in 32-bit integers (they wrap)::

        sigma <- sigma + a
        act = max(sigma + (bias << (e + 6)), 0), then sent as `Delta` sends it

    Recorded states: u is sigma, v is act, residue is residue. Source: Lava 0.10,
    `PySigmaDeltaModelFixed`, which netx selects: the 6 bits that a message loses are not made up
    for (Lava's `PySigmaDeltaModelFixedCorrected` is never chosen). Loihi 2 has 24 bits, Lava 32.
    """

    threshold: int = field(metadata=_threshold)
    spike_exp: int = field(default=6, metadata=_exponent)

    stored_as: ClassVar[str] = "SigmaDelta"
    states: ClassVar[Mapping[str, str]] = {"u": "sigma", "v": "act", "residue": "residue"}
    graded: ClassVar[bool] = True
    netx: ClassVar[Netx | None] = Netx(
        _SDNN,
        {"activation": "relu"},
        {
            "activation": "neuron/activation is {!r}; lava-dl ignores it and always runs relu. "
            "Train with relu."
        },
    )

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        shift = self.spike_exp + arithmetic.STATE_SHIFT
        sigma, wraps = _held(states["sigma"].astype(np.int64) + sums[0])
        biased, more = _held(sigma.astype(np.int64) + (bias << shift))
        after = _changes(states, np.maximum(biased, 0), self.threshold, shift, wraps + more)
        return after._replace(states={"sigma": sigma, **after.states})

    @property
    def operations(self) -> Operations:
        return Operations(3, 0, 4)


@dataclass(frozen=True, eq=False)
class Sigma(Neuron):
    """The readout of a sigma-delta network, netx `SDNN` with `sigma_output`.

    sigma <- sigma + a (32 bit, wraps), sent in every step. It has no bias. Divide by
    2^(12 + spike_exp) for real values where inputs and weights have 6 fraction bits.
    Recorded state: u is sigma. Source: Lava 0.10, `PySigmaModelFixed`.
    """

    stored_as: ClassVar[str] = "Sigma"
    states: ClassVar[Mapping[str, str]] = {"u": "sigma"}
    graded: ClassVar[bool] = True
    has_bias: ClassVar[bool] = False
    netx: ClassVar[Netx | None] = Netx(_SDNN, {"sigma_output": True}, marker="sigma_output")

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        sigma, wraps = _held(states["sigma"].astype(np.int64) + sums[0])
        return Step(sigma, {"sigma": sigma}, u_wraps=wraps)

    @property
    def operations(self) -> Operations:
        return Operations(1, 0, 0)


def _changes(
    states: Mapping[str, Array], act: IntArray, threshold: int, shift: int, wraps: int
) -> Step:
    """Send the change of act, as `Delta` does; `wraps`: of act."""
    change, more = _held(act.astype(np.int64) - states["act"])
    d, most = _held(change.astype(np.int64) + states["residue"])
    # |-2^31| is -2^31 in 32 bits, in Lava too
    out = np.where(np.abs(d) >= np.int32(threshold << shift), d, np.int32(0))
    states = {"act": act, "residue": d - out}
    return Step(out >> arithmetic.STATE_SHIFT, states, u_wraps=wraps + more + most)


def _held(x: NDArray[np.int64]) -> tuple[IntArray, int]:
    """x in 32 bits, and how many of it wrapped."""
    wrapped = arithmetic.wrap32(x)
    return wrapped, int(np.count_nonzero(wrapped != x))


@dataclass(frozen=True, eq=False)
class ResonateFire(Neuron):
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

    sin_decay: int = field(metadata=whole(1, 4095, _RESONANCE, netx="sinDecay"))
    cos_decay: int = field(metadata=whole(0, 4095, _RESONANCE, netx="cosDecay"))
    threshold: int = field(metadata=_threshold)
    kind: Literal["RF_PHASE", "RF_IZHIKEVICH"] = "RF_PHASE"

    states: ClassVar[Mapping[str, str]] = {"u": "real", "v": "imag"}
    layers: ClassVar[tuple[str, ...]] = ("Dense",)
    has_two_sums: ClassVar[bool] = True
    netx: ClassVar[Netx | None] = Netx(
        {"RF_PHASE": (), "RF_IZHIKEVICH": ()}, {"gradedSpike": False}, _SPIKES_ARE_BINARY
    )

    @property
    def stored_as(self) -> str:
        """The two kinds have two equations."""
        return self.kind

    @property
    def decays(self) -> tuple[int, int]:
        """(S, C) that Lava really runs, see `arithmetic.resonator_decays`."""
        return arithmetic.resonator_decays(self.sin_decay, self.cos_decay)

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        def turned(state: Array, by: int) -> NDArray[np.int64]:
            product = state.astype(np.int64) * by
            rounded: NDArray[np.int64] = np.sign(product) * (np.abs(product) >> 12)
            return rounded

        (sin, cos), re, im = self.decays, states["real"], states["imag"]
        threshold = self.threshold << arithmetic.STATE_SHIFT
        currents = [_held(a.astype(np.int64) << arithmetic.STATE_SHIFT) for a in sums]
        (into_re, re_wraps), (into_im, im_wraps) = currents
        exact_re = turned(re, cos) - turned(im, sin) + into_re
        exact_im = turned(re, sin) + turned(im, cos) + into_im
        new_re, new_im = arithmetic.clip_voltage(exact_re), arithmetic.clip_voltage(exact_im)
        clips = np.count_nonzero(new_re != exact_re) + np.count_nonzero(new_im != exact_im)
        if self.kind == "RF_PHASE":
            spikes = (new_re >= threshold) & (new_im >= 0) & (im < 0)
        else:
            spikes = new_im >= threshold
            new_re = np.where(spikes, 0, new_re)
            new_im = np.where(spikes, threshold - 1, new_im)
        return Step(
            spikes,
            {"real": new_re.astype(np.int32), "imag": new_im.astype(np.int32)},
            v_clips=int(clips),
            sum_wraps=re_wraps + im_wraps,
        )

    @property
    def operations(self) -> Operations:
        return Operations(2, 4, 5)


NEURONS: tuple[type[Neuron], ...] = (CubaLIF, Delta, SigmaDelta, Sigma, ResonateFire)
"""The kinds that lava-dl builds, and so netx files, Lava and `Twin` know."""
