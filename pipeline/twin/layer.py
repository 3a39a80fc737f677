"""One layer of a `Twin`: its parameters and their integers, its synapses, its neurons."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, fields, replace
from typing import Any, TypeAlias, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from ...hw_targets.network import arithmetic
from ...hw_targets.network.layers import Conv, Dense, Input, Layer
from ...hw_targets.network.network import Population
from ...hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    Integrator,
    NetworkError,
    Neuron,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from ...hw_targets.network.timing import Timing
from ...hw_targets.simulate.torch_engine.products import exact_type
from ...models.surrogates import USUAL, Gradient, Surrogate, spike, through_rates
from ..quantize import RealLayer
from . import straight_through as st

PARAMETERS = ("weight", "recurrent", "imaginary", "bias", "threshold", "i_decay", "v_decay")
"""What a layer can learn, as far as it has it."""

_INT32 = 1 << 31
_STATE_SHIFT = arithmetic.STATE_SHIFT
_INSIDE = 0.49
"""Starting values are at most this part of a rounding cell from the integers they stand for."""
_WHOLE = {
    "bias": (arithmetic.BIAS_MIN, arithmetic.BIAS_MAX),
    "threshold": (0, arithmetic.THRESHOLD_MAX),
    "i_decay": (0, arithmetic.DECAY_ONE),
    "v_decay": (0, arithmetic.DECAY_ONE),
}

T = TypeVar("T")
States: TypeAlias = tuple[Tensor, ...]
Step: TypeAlias = Callable[[Sequence[Tensor], States | None, Surrogate], tuple[Tensor, States]]
"""(the sums of this step, the states before or None, d spike / d x) to (messages, states)."""


@dataclass(frozen=True)
class Run:
    """What all layers of one forward pass share.

    `timing` says when layers forget. `latency`: 1, or 0 where a layer sees the messages of the step
    itself, for aligned runs.
    """

    timing: Timing
    steps: int
    samples: int
    latency: int = 1


class TwinLayer(nn.Module):
    """One population, see `Twin`: synapses over all time at once, then neurons step by step."""

    def __init__(
        self,
        population: Population,
        real: RealLayer,
        trainable: frozenset[str],
    ) -> None:
        """Raises NetworkError for neurons that are not in `STEPS`."""
        super().__init__()
        self.population = population
        self.bits, self.step, self.recurrent_step = real.bits, real.step, real.recurrent_step
        layer, neuron = population.layer, population.neuron
        if type(neuron) not in STEPS:
            raise NetworkError(
                f"{population.name}: {type(neuron).__name__} neurons have no step with gradients; a Twin "
                f"has {', '.join(kind.__name__ for kind in STEPS)}. Run such a network with `simulate`."
            )
        numbers: dict[str, tuple[Any, Any]] = {}  # integers, and what they were before rounding
        if not isinstance(layer, Input):
            numbers["weight"] = layer.weight, real.weight
            numbers["bias"] = layer.bias, real.bias
            numbers["recurrent"] = getattr(layer, "recurrent", None), real.recurrent
            numbers["imaginary"] = getattr(layer, "imaginary", None), None
        if isinstance(neuron, CubaLIF):
            for name in ("threshold", "i_decay", "v_decay"):
                numbers[name] = getattr(neuron, name), getattr(real, name)
        self.fixed_threshold = real.threshold is None
        self.trainable = trainable - {"threshold"} if self.fixed_threshold else trainable
        for name in PARAMETERS:
            integers, exact = numbers.get(name, (None, None))
            parameter = None
            if integers is not None:
                start = self._start(name, np.asarray(integers, float), exact)
                parameter = nn.Parameter(start, requires_grad=name in self.trainable)
            self.register_parameter(name, parameter)
        self._fixed: dict[object, Any] = {}
        self._fixed_for: object = None

    def _kept(self, name: object, make: Callable[[], T]) -> T:
        """What `make` gives, made once while no parameter is trained or changes."""
        parameters = list(self.parameters())
        if any(p.requires_grad for p in parameters) or torch.is_inference_mode_enabled():
            return make()
        state = [(p.data_ptr(), p._version, p.device) for p in parameters]
        if state != self._fixed_for:
            self._fixed, self._fixed_for = {}, state
        if name not in self._fixed:
            self._fixed[name] = make()
        made: T = self._fixed[name]
        return made

    def grid(self, name: str) -> tuple[int, int, int]:
        """(step, low, high): the integers of a parameter are step times low .. high."""
        if name in _WHOLE:
            return 1, *_WHOLE[name]
        step = self.recurrent_step if name == "recurrent" and self.recurrent_step else self.step
        half = 1 << (self.bits - 1)
        low, high = -(-arithmetic.WEIGHT_MIN // step), arithmetic.WEIGHT_MAX // step
        return step, max(-half, low), min(half - 1, high)

    def unit(self, name: str) -> float:
        """A natural change of a parameter: a step of weights, a twentieth of a threshold, ..."""
        if name not in _WHOLE:
            return float(self.grid(name)[0])
        if name.endswith("decay"):
            return arithmetic.DECAY_ONE / 100
        if not self.fixed_threshold and self.threshold is not None:
            return max(float(self.threshold.detach().mean()), 1.0) / 20
        size: float = self.weight.detach().flatten(1).norm(dim=1).mean().item()
        return max(size, 1.0) / 20

    def _start(self, name: str, whole: NDArray[np.float64], exact: Any) -> Tensor:
        step, low, high = self.grid(name)
        off = (whole % step != 0) | (whole < step * low) | (whole > step * high)
        if off.any():
            raise ValueError(
                f"{self.population.name}: {name} = {whole[off].flat[0]:g} is not {step} times a whole "
                f"number within [{low}, {high}], as its RealLayer says (bits = {self.bits})."
            )
        if exact is None:
            return torch.as_tensor(whole)
        exact = np.asarray(exact, float)
        if exact.size > whole.size:  # one integer for several numbers: per layer, or per channel
            exact = exact.reshape(whole.size, -1).mean(axis=1)
        if exact.size == whole.size:
            exact = exact.reshape(whole.shape)
        cell = np.clip(exact, whole - _INSIDE * step, whole + _INSIDE * step)
        return torch.as_tensor(np.clip(cell, step * low, step * high))

    def rounded(self, name: str) -> Tensor | None:
        """The integers of a parameter, float64, with its gradient; None where there is none."""
        latent: Tensor | None = getattr(self, name)
        if latent is None:
            return None
        step, low, high = self.grid(name)
        whole = torch.round(latent.detach().double() / step).clamp_(low, high).mul_(step)
        return st.straight(whole, latent)

    def integers(self) -> Layer:
        """The layer of exactly the integers of `rounded`."""
        layer: Any = self.population.layer
        arrays = {
            name: value.detach().cpu().numpy().astype(np.int64)
            for name in PARAMETERS
            if (value := self.rounded(name)) is not None
        }
        neuron = layer.neuron
        if isinstance(neuron, CubaLIF):
            names = {f.name for f in fields(neuron)} & arrays.keys()
            neuron = replace(neuron, **{name: arrays.pop(name) for name in names})
        changed: Layer = replace(layer, neuron=neuron, **arrays)
        return changed

    def real(self) -> RealLayer:
        """The parameters before rounding, as a `RealLayer` (which has no imaginary part)."""
        none: dict[str, Any] = {"bias": None, "threshold": None, "recurrent": None}
        none |= {name: np.zeros(0) for name in ("weight", "i_decay", "v_decay")}
        values = {
            name: parameter.detach().cpu().double().numpy().copy()
            for name, parameter in self.named_parameters()
            if name != "imaginary" and not (name == "threshold" and self.fixed_threshold)
        }
        return RealLayer(
            **(none | values),
            bits=self.bits,
            step=self.step,
            recurrent_step=self.recurrent_step,
        )

    def forward(
        self,
        x: Tensor | None,
        input_bias: Tensor | None,
        largest: float,
        binary: bool,
        run: Run,
        wanted: Sequence[str],
        gradient: Gradient,
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """Messages (time, sample, *input shape) to messages, and states by name.

        `largest`: at least the size of every message; `binary`: they are single spikes, and what
        comes back through the layer's recurrence counts as such. `input_bias`: of Input neurons,
        instead of x.
        """
        if isinstance(gradient, str):
            if not self._spikes():
                gradient = USUAL
            elif gradient == "activation":
                return self._activation(x, largest), {}
            else:
                return self._through_rates(x, largest, binary, run, wanted)
        population = self.population
        back: Matrix | None = None
        if isinstance(population.layer, Input):
            parts = [x.double()] if x is not None else []
            latency, reach = 0, largest
        else:
            assert x is not None
            latency, (parts, reach, back) = run.latency, self._sums(x, largest)
        like = parts[0] if parts else input_bias
        assert like is not None
        silent = like.new_zeros((run.samples, *population.shape))
        sums = [part.unbind(0) for part in parts] or [(silent,) * run.steps]
        own_largest = float(_INT32) if population.graded and not binary else 1.0
        if back is not None:
            reach += back.reach(own_largest)
        elif reach >= arithmetic.STATE_LIMIT >> _STATE_SHIFT and self._forgets_current():
            reach = min(reach, _reached(parts[0]))
        step = self._neurons(reach, run, input_bias)
        resets = population.neuron.resets
        states: States | None = None
        messages: list[Tensor] = []
        kept: list[States] = []
        for t in range(run.steps):
            if resets and run.timing.forgets(population.index, t + 1):
                states = None
            arriving = [part[t - latency] if t >= latency else silent for part in sums]
            if back is not None and messages:
                own = messages[-1]
                if binary and population.graded:
                    own = st.straight((own != 0).to(own), own)
                arriving = [st.wrap(arriving[0].double() + back(own, own_largest), 32)]
            message, states = step(arriving, states, gradient.at(population.index, t))
            messages.append(message)
            kept.append(states)
        places = {name: list(population.states).index(name) for name in wanted}
        traces = {name: torch.stack([s[i] for s in kept]) for name, i in places.items()}
        return torch.stack(messages), traces

    def _forgets_current(self) -> bool:
        """Whether u is of one step alone, so that its type decides no bit of a gradient."""
        decay = self.i_decay
        if decay is None or decay.requires_grad:
            return False
        return self._kept("forgets", lambda: bool((decay.round() == arithmetic.DECAY_ONE).all()))

    def _spikes(self) -> bool:
        """Whether the neurons integrate synapses and can fire: neither inputs nor a readout."""
        layer = self.population.layer
        return (
            not isinstance(layer, Input)
            and isinstance(layer.neuron, CubaLIF)
            and int(np.min(layer.neuron.threshold)) < arithmetic.THRESHOLD_MAX
        )

    def _through_rates(
        self, x: Tensor | None, largest: float, binary: bool, run: Run, wanted: Sequence[str]
    ) -> tuple[Tensor, dict[str, Tensor]]:
        """The exact forward pass, and the gradient rule "rate"."""
        with torch.no_grad():
            spikes, states = self(x, None, largest, binary, run, wanted, USUAL)
        sums, gain, _ = self._at_rest(x, largest)
        return through_rates(sums, spikes, gain.to(spikes)), states

    def _activation(self, x: Tensor | None, largest: float) -> Tensor:
        """The gradient rule "activation", forward too: max(0, v at rest / threshold)."""
        sums, gain, bias = self._at_rest(x, largest)
        return torch.relu(gain * (sums + bias)).float()

    def _at_rest(self, x: Tensor | None, largest: float) -> tuple[Tensor, Tensor, Tensor]:
        """Sums (time, sample, *shape), the factor from them to v / threshold at rest, and the bias."""
        assert x is not None
        (sums, *_), _, back = self._sums(x, largest)
        if back is not None:
            raise ValueError(
                f"{self.population.name} is recurrent: the gradient rules 'rate' and 'activation' are "
                f"for feed-forward layers; use a surrogate."
            )
        axes = len(self.population.shape)
        names = ("threshold", "i_decay", "v_decay")
        values = [_spread(p.detach(), axes) for n in names if (p := self.rounded(n)) is not None]
        threshold, *decays = values
        gain = 1 / threshold.clamp(min=1)
        for decay in decays:
            gain = gain * torch.where(decay > 0, arithmetic.DECAY_ONE / decay.clamp(min=1), 1.0)
        bias = self.rounded("bias")
        return sums, gain, torch.zeros_like(gain) if bias is None else _spread(bias, axes)

    def _sums(self, x: Tensor, largest: float) -> tuple[list[Tensor], float, Matrix | None]:
        """Synaptic sums over all time, each (time, sample, *shape); their bound; the recurrence."""
        layer = self.population.layer
        if isinstance(layer, Conv):
            sums, reach = self._kept("kernel", lambda: Kernel(self._weight(), layer))(x, largest)
            return [sums], reach, None
        assert isinstance(layer, Dense)
        x = x.flatten(2)
        parts, back = self._kept("matrices", self._matrices)
        if layer.delays is not None:
            (matrix,) = parts
            return [matrix.delayed(x, layer.delays, largest)], matrix.reach(largest), None
        return [p(x, largest) for p in parts], max(p.reach(largest) for p in parts), back

    def _weight(self) -> Tensor:
        weight = self.rounded("weight")
        assert weight is not None
        return weight

    def _matrices(self) -> tuple[list[Matrix], Matrix | None]:
        """The synapses from the layer before, a matrix for each sum, and those from the layer itself."""
        weight, other = self._weight(), self.rounded("recurrent")
        if other is not None:
            both = arithmetic.synapse_formats(_integers(weight), _integers(other))
            forward, back = (Matrix(w, s) for w, s in zip((weight, other), both, strict=True))
            return [forward], back
        parts = [weight, self.rounded("imaginary")]
        return [
            Matrix(part, arithmetic.synapse_format(_integers(part)))
            for part in parts
            if part is not None
        ], None

    def _neurons(self, reach: float, run: Run, input_bias: Tensor | None) -> Step:
        def step(bias: Tensor | None) -> Step:
            return STEPS[type(self.population.neuron)](self, bias, reach, run.steps)

        def own() -> Step:
            bias = self.rounded("bias")
            return step(None if bias is None else _spread(bias, len(self.population.shape)))

        return step(input_bias) if input_bias is not None else self._kept((reach, run.steps), own)


def _spread(parameter: Tensor, axes: int) -> Tensor:
    """A scalar, per-channel or per-neuron parameter that broadcasts over (sample, *shape)."""
    return parameter.reshape(-1, *[1] * (axes - 1)) if parameter.ndim < 2 else parameter


def _reached(sums: Tensor) -> float:
    """A power of two that no sum (time, ...) is beyond in size: what weights alone prove is far more."""
    seen = sums.detach()[:1] if sums.stride(0) == 0 else sums.detach()
    low, high = torch.stack(torch.aminmax(seen)).tolist() if seen.numel() else (0.0, 0.0)
    return float(1 << math.ceil(math.log2(max(-low, high, 1.0))))


def _integers(weight: Tensor) -> NDArray[np.int64]:
    whole: NDArray[np.int64] = weight.detach().cpu().numpy().astype(np.int64)
    return whole


# -- synapses ------------------------------------------------------------------------------------


@contextmanager
def exact_sums() -> Iterator[None]:
    """Convolutions as plain sums of products: no Winograd or Fourier transform, no TF32."""
    cudnn, nnpack = torch.backends.cudnn, torch.backends.nnpack
    with cudnn.flags(enabled=False, allow_tf32=False), nnpack.flags(enabled=False):
        yield


def _exact_type(bound: float) -> torch.dtype:
    """The type in which sums of products are exact, given what sums of magnitudes can reach."""
    dtype = exact_type(bound)
    if dtype == torch.int64:
        raise OverflowError(
            f"synaptic sums may reach {bound:.3g}; beyond 2^53 float64 is not exact. Run this "
            f"network with `simulate`."
        )
    return dtype


@contextmanager
def _whole_sums() -> Iterator[None]:
    """Convolutions of a GPU as products of patches: cuDNN's may round, by transforms or to TF32."""
    with torch.backends.cudnn.flags(enabled=False):
        yield


class _Weights:
    """Weights in the types that products are taken in, converted once."""

    def __init__(self, weight: Tensor) -> None:
        self.weight = weight
        self._stored: dict[torch.dtype, Tensor] = {}

    def to(self, dtype: torch.dtype) -> Tensor:
        if dtype not in self._stored:
            self._stored[dtype] = self.weight.to(dtype)
        return self._stored[dtype]


class Kernel:
    """The weights of a convolution, applied to messages."""

    def __init__(self, weight: Tensor, layer: Conv) -> None:
        self.total = float(weight.detach().abs().sum(dim=(1, 2, 3)).max())
        self.weights = _Weights(weight)
        self.geometry = layer.stride, layer.padding, layer.dilation, layer.groups

    def __call__(self, x: Tensor, largest: float) -> tuple[Tensor, float]:
        """Messages (time, sample, C, H, W) to `arithmetic.convolved` sums, and what these can reach."""
        bound = self.total * largest
        dtype = _exact_type(bound)
        frames, weight = x.flatten(0, 1).to(dtype), self.weights.to(dtype)
        with _whole_sums() if x.is_cuda else nullcontext():
            sums = nn.functional.conv2d(frames, weight, None, *self.geometry)
        sums = sums.reshape(*x.shape[:2], *sums.shape[1:])
        limit = arithmetic.STATE_LIMIT
        if bound >= _INT32:  # Lava's cast, see `arithmetic.convolved`
            sums = torch.where((sums >= -_INT32) & (sums < _INT32), sums, sums - sums.detach())
        return sums if bound < limit else st.wrap(sums.double(), 24), min(bound, limit)


class Matrix:
    """What Lava makes of a dense weight matrix (see `SynapseFormat`), applied to messages."""

    def __init__(self, weight: Tensor, stored: arithmetic.SynapseFormat) -> None:
        magnitudes = np.abs(stored.mantissa)
        self.scale = 1 << max(stored.shift, 0)
        self.whole = stored.whole
        self.largest = float(magnitudes.max())
        self.total = float(magnitudes.sum(axis=1).max())
        applied = torch.as_tensor(stored.mantissa / self.scale).to(weight)
        self.weight = st.straight(applied, weight)
        self.weights = _Weights(self.weight)

    def reach(self, largest: float) -> float:
        """What the sums can reach, given the size of the largest message."""
        return min(self.total * largest, _INT32) / self.scale + 1

    def __call__(self, x: Tensor, largest: float) -> Tensor:
        """Messages (..., in) to sums (..., out): of mantissas, in 32 bits, then shifted."""
        sums = self._product(x, self.weights, largest)
        if self.total * largest < _INT32:
            return sums if self.whole else st.floor(sums)
        return st.floor(st.wrap(sums * self.scale, 32) / self.scale)

    def _product(self, x: Tensor, weights: _Weights, largest: float) -> Tensor:
        dtype = _exact_type(self.total * largest)
        weight = weights.to(dtype)
        if len(x) > 1 and x.stride(0) == 0 and not weight.requires_grad:
            return st.held_product(x, weight)
        return nn.functional.linear(x.to(dtype), weight)

    def delayed(self, x: Tensor, delays: NDArray[Any], largest: float) -> Tensor:
        """Messages (time, sample, in) to sums, each synapse `delays` (out, in) steps later.

        With delays each product wraps at 32 bit, and the sum after its shift.
        """
        total = x.new_zeros((*x.shape[:2], len(delays)), dtype=torch.float64)
        for delay in map(int, np.unique(delays[delays < len(x)])):
            there = torch.as_tensor(delays == delay, device=x.device)
            weight = self.weight * there
            before = x[: len(x) - delay]
            if self.largest * largest < _INT32:
                sums = self._product(before, _Weights(weight), largest)
            else:
                products = before.double()[..., None, :] * (weight * self.scale)
                sums = st.wrap(products, 32).sum(-1) / self.scale
            total = total + nn.functional.pad(st.floor(sums), (0, 0, 0, 0, delay, 0))
        return st.wrap(total, 32)


# -- neurons: each function gives the step of one kind -------------------------------------------


def _cuba(layer: TwinLayer, bias: Tensor | None, reach: float, steps: int) -> Step:
    axes = len(layer.population.shape)
    names = ("threshold", "i_decay", "v_decay")
    values = [_spread(p, axes) for n in names if (p := layer.rounded(n)) is not None]
    threshold, i_decay, v_decay = values
    return cuba(threshold, i_decay, v_decay, bias, reach, steps)


def _integrator(layer: TwinLayer, bias: Tensor | None, reach: float, steps: int) -> Step:
    constants = (arithmetic.NEVER, 0, arithmetic.DECAY_ONE)
    device = layer.weight.device
    values = [torch.full((1,), float(n), device=device).double() for n in constants]
    threshold, i_decay, v_decay = values
    return cuba(threshold, i_decay, v_decay, bias, reach, steps)


def _sigma_delta(layer: TwinLayer, bias: Tensor | None, reach: float, steps: int) -> Step:
    return sigma_delta(layer.population.neuron, bias)


def _resonate_fire(layer: TwinLayer, bias: Tensor | None, reach: float, steps: int) -> Step:
    neuron: Any = layer.population.neuron
    return resonate_fire(neuron)


STEPS: Mapping[type[Neuron], Callable[[TwinLayer, Tensor | None, float, int], Step]] = {
    CubaLIF: _cuba,
    Integrator: _integrator,
    Delta: _sigma_delta,
    SigmaDelta: _sigma_delta,
    Sigma: _sigma_delta,
    ResonateFire: _resonate_fire,
}
"""The kinds that can be trained, each with what makes its step of a layer: its bias, what its sums can
reach, and the number of steps."""


def cuba(
    threshold: Tensor,
    i_decay: Tensor,
    v_decay: Tensor,
    bias: Tensor | None,
    reach: float,
    steps: int,
) -> Step:
    """`CubaLIF`; states u, v. `reach`: of the sums, in each of `steps` steps."""
    slowest = float(i_decay.detach().min())
    longest = min(steps, arithmetic.DECAY_ONE / slowest) if slowest else steps
    wraps = reach * longest >= arithmetic.STATE_LIMIT >> _STATE_SHIFT
    level = threshold.detach()
    usual = level.mean() if bool(level.any()) else torch.ones_like(level.mean())
    scale = torch.where(level > 0, level, usual) * (1 << _STATE_SHIFT)
    small = not wraps and st.fits_float32(i_decay, v_decay, scale)
    forgets_u, forgets_v = (
        not decay.requires_grad and bool((decay == arithmetic.DECAY_ONE).all())
        for decay in (i_decay, v_decay)
    )

    def step(
        sums: Sequence[Tensor], states: States | None, surrogate: Surrogate
    ) -> tuple[Tensor, States]:
        u, v = states or (None, None)
        u, v = None if forgets_u else u, None if forgets_v else v
        spikes, *after = st.cuba_step(
            sums[0], u, v, bias, threshold, i_decay, v_decay, scale, surrogate, wraps, small
        )
        return spikes, tuple(after)

    return step


def sigma_delta(neuron: Any, bias: Tensor | None) -> Step:
    """`Delta` (states act, residue), `SigmaDelta` (sigma, act, residue), `Sigma` (sigma).

    Backward: what is withheld counts as sent, so that over time the sum of the messages has the
    gradient of act.
    """

    def held(x: Tensor) -> Tensor:
        return st.wrap(x, 32)

    def sigma(
        sums: Sequence[Tensor], states: States | None, surrogate: Surrogate
    ) -> tuple[Tensor, States]:
        summed = held(sums[0].double() + (states[0] if states else 0))
        return summed, (summed,)

    if isinstance(neuron, Sigma):
        return sigma
    shift = 1 << (neuron.spike_exp + _STATE_SHIFT)
    threshold = neuron.threshold * shift

    def changes(act: Tensor, states: States | None) -> tuple[Tensor, States]:
        change = act
        if states:
            before, residue = states[-2:]
            change = held(held(act - before) + residue.detach())
        value = change.detach()
        # |-2^31| is -2^31 in 32 bits, below every threshold
        sent = (value.abs() >= threshold) & (value != -_INT32)
        out = torch.where(sent, value, torch.zeros_like(value))
        message = st.straight(torch.floor(out / (1 << _STATE_SHIFT)), change / (1 << _STATE_SHIFT))
        return message, (act, value - out)

    def delta(
        sums: Sequence[Tensor], states: States | None, surrogate: Surrogate
    ) -> tuple[Tensor, States]:
        return changes(held(sums[0] * shift), states)

    def whole(
        sums: Sequence[Tensor], states: States | None, surrogate: Surrogate
    ) -> tuple[Tensor, States]:
        summed, _ = sigma(sums, states, surrogate)
        biased = summed if bias is None else held(summed + bias * shift)
        message, rest = changes(biased.clamp(min=0), states)
        return message, (summed, *rest)

    return delta if isinstance(neuron, Delta) else whole


def resonate_fire(neuron: ResonateFire) -> Step:
    """`ResonateFire`; states real, imag. A phase spike has the gradient of its three conditions."""
    sin, cos = (by / arithmetic.DECAY_ONE for by in neuron.decays)
    unit = 1 << _STATE_SHIFT
    threshold = neuron.threshold * unit
    scale = max(neuron.threshold, 1) * unit

    def step(
        sums: Sequence[Tensor], states: States | None, surrogate: Surrogate
    ) -> tuple[Tensor, States]:
        real, imag = (st.wrap(part.double() * unit, 32) for part in sums)
        before = torch.zeros_like(imag)
        if states:
            x, before = states
            real = real + st.truncate(x * cos) - st.truncate(before * sin)
            imag = imag + st.truncate(x * sin) + st.truncate(before * cos)
        real, imag = st.clip(real), st.clip(imag)
        if neuron.kind == "RF_PHASE":
            conditions = [
                ((real - threshold) / scale, real >= threshold),
                (imag / scale, imag >= 0),
                (-before / scale, before < 0),
            ]
            spikes = torch.ones_like(real)
            for x, met in conditions:
                spikes = spikes * spike(x, met, surrogate)
            return spikes, (real, imag)
        fires = imag >= threshold
        spikes = spike((imag - threshold) / scale, fires, surrogate)
        return spikes, (real.masked_fill(fires, 0), imag.masked_fill(fires, threshold - 1))

    return step
