"""The definition of "bit-accurate": one step after another, in numpy, slow and obvious.

`simulate` reproduces Lava 0.10's fixed-point CPU models as lava-dl 0.6's netx instantiates them,
every spike and every state, for whole batches of samples. Everything else must equal it.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from . import arithmetic
from .network import (
    Conv,
    Dense,
    Input,
    IntArray,
    Network,
    NetworkError,
    Population,
    integers,
)
from .trace import Overflow, Trace

Array: TypeAlias = NDArray[np.signedinteger[Any]]

RECORDABLE = ("spikes", "u", "v")
MESSAGE_LIMIT = 1 << 24
"""Payloads of graded spikes stay below this magnitude (Loihi 2; Lava's ports)."""


def prepare_input(
    network: Network, inputs: ArrayLike, steps: int | None, message_bits: int | None = None
) -> tuple[IntArray, IntArray | None, int]:
    """Check an input and bring it into the one form every backend runs.

    `inputs`: integers (sample, time, *input shape), or (sample, *input shape) for a constant input,
    which needs `steps`. Returns (x, bias, steps): x (sample, time, *input shape) with the messages
    of every step (time 0 and nothing in it where a bias drives the network), and bias: None, or
    (sample, *input shape) where a constant input meets Input neurons as their bias mantissa.
    `steps` beyond the input's time run on with no input; fewer steps leave the rest out.
    With `message_bits` 0 every non-zero message counts as one spike, as in netx; None and every
    other width keep the payload.
    """
    shape = network.input_shape
    array = np.asarray(inputs)
    constant = array.ndim == 1 + len(shape)
    if array.shape[-len(shape) :] != shape or array.ndim not in (1 + len(shape), 2 + len(shape)):
        raise NetworkError(
            f"input has shape {array.shape}; (sample, time, *{shape}) or, constant in time, "
            f"(sample, *{shape}) is needed, axes in C, H, W order."
        )
    if not constant and steps is None:
        steps = array.shape[1]
    if steps is None or steps < 1:
        raise NetworkError(
            f"steps = {steps}: a constant input needs a number of steps of 1 or more."
        )
    first = network.layers[0]
    if constant and isinstance(first, Input) and first.neuron is not None:
        bias = integers(
            array,
            "input",
            arithmetic.BIAS_MIN,
            arithmetic.BIAS_MAX,
            "A constant input to Input neurons is their 13-bit bias mantissa.",
        )
        return np.zeros((len(array), 0, *shape), np.int32), bias, steps
    width = MESSAGE_LIMIT if not message_bits else 1 << message_bits
    x = integers(
        array,
        "input",
        -width + 1,
        width - 1,
        "Spikes are 0 / 1 or graded integers: encode real values on an integer grid first, and "
        "give enough message bits.",
    )
    if constant:
        x = np.broadcast_to(x[:, None], (len(x), steps, *shape))
    x = x[:, :steps]
    return (x if message_bits != 0 else (x != 0).astype(np.int32)), None, steps


def simulate(
    network: Network,
    inputs: ArrayLike,
    steps: int | None = None,
    *,
    reset_interval: int | None = None,
    reset_offset: int = 0,
    message_bits: int | None = None,
    record: Collection[str] = ("spikes",),
) -> Trace:
    """Run a network on a batch, exactly as Lava's CPU backend runs each sample.

    `inputs`, `steps`, `message_bits`: see `prepare_input`. `reset_interval` R and `reset_offset` r
    as in netx: population i forgets u and v before step t when t = r + 1 + i (mod R).
    `record`: which of "spikes", "u", "v" to keep, for all populations.

    In step t = 1, 2, ..., with x(t) the input and layer i's synapses summing the spikes of the
    layer before with one step of delay::

        a_i(t) = W_i s_{i-1}(t - 1)          a_i(1) = 0
        u, v, s = CubaLIF.step(a_i(t))       see `CubaLIF`

    Returns a `Trace` of `steps` columns, with overflows counted. Raises NetworkError.
    """
    check_run(record, reset_interval, reset_offset)
    x, bias, steps = prepare_input(network, inputs, steps, message_bits)
    largest = int(np.abs(x).max(initial=0))
    layers = []
    for p in network.populations:
        own_bias = bias if isinstance(p.layer, Input) else None
        layers.append(_RunningLayer(p, len(x), own_bias, 1 if p.index else largest))
    kept: dict[str, list[list[Array]]] = {name: [[] for _ in layers] for name in record}
    silence = np.zeros((len(x), *network.input_shape), np.int32)
    for t in range(1, steps + 1):
        message: Array = x[:, t - 1] if t <= x.shape[1] else silence
        for i, layer in enumerate(layers):
            if reset_interval is not None and (t - reset_offset - 1 - i) % reset_interval == 0:
                layer.forget()
            message = layer.step(message)
            for name, columns in kept.items():
                columns[i].append(message if name == "spikes" else getattr(layer, name).copy())
    stacked = {
        name: tuple(np.stack(columns, axis=1) for columns in per_layer)
        for name, per_layer in kept.items()
    }
    return Trace(
        stacked.get("spikes"),
        stacked.get("u"),
        stacked.get("v"),
        tuple(layer.overflow for layer in layers),
    )


def check_run(record: Collection[str], interval: int | None, offset: int) -> None:
    """Refuse what no backend can record, and a reset schedule that netx could not run."""
    unknown = set(record) - set(RECORDABLE)
    if unknown:
        raise NetworkError(f"cannot record {sorted(unknown)}; choose from {RECORDABLE}.")
    if interval is not None and interval < 1:
        raise NetworkError(f"reset_interval = {interval}; give 1 or more, or none.")
    if offset < 0:
        raise NetworkError(f"reset_offset = {offset}; give 0 or more.")


class _RunningLayer:
    """One population while it runs: its state, and one step after another."""

    def __init__(
        self, population: Population, samples: int, bias: Array | None, largest: int
    ) -> None:
        self.shape = population.shape
        self.synapses = _synapses(population, largest)
        layer = population.layer
        neuron = layer.neuron
        spread = self._spread
        own = None if isinstance(layer, Input) else layer.bias
        if bias is None:
            bias = spread(0 if own is None else own)
        self.bias = bias << arithmetic.STATE_SHIFT
        # no neuron is netx's default: an integrator that never spikes
        self.i_decay = spread(neuron.i_decay if neuron else 0)
        self.v_decay = spread(neuron.v_decay if neuron else arithmetic.DECAY_ONE)
        self.threshold = spread(neuron.threshold if neuron else arithmetic.NEVER)
        self.u = np.zeros((samples, *self.shape), np.int32)
        self.v = np.zeros_like(self.u)
        self.waiting = np.zeros_like(self.u)
        self.overflow = Overflow()

    def _spread(self, parameter: int | IntArray) -> Array:
        """A scalar, per-channel or per-neuron parameter that broadcasts over (sample, *shape)."""
        array = np.asarray(parameter, np.int32)
        if array.ndim == 1:
            array = array.reshape(-1, *[1] * (len(self.shape) - 1))
        return array

    def forget(self) -> None:
        self.u[:] = 0
        self.v[:] = 0

    def step(self, message: Array) -> Array:
        """Advance by one step; `message` is what the layer before sends in this very step."""
        if self.synapses is None:
            arrived = message.astype(np.int32)  # Input neurons take their input without delay
        else:
            arrived = self.waiting
            self.waiting, sum_wraps = self.synapses(message)
            self.overflow += Overflow(sum_wraps=sum_wraps)
        current = arrived.astype(np.int64) << arithmetic.STATE_SHIFT
        u = arithmetic.decay(self.u, self.i_decay) + current
        self.u = arithmetic.wrap_current(arithmetic.wrap32(u))
        v = arithmetic.decay(self.v, self.v_decay) + self.u.astype(np.int64) + self.bias
        self.v = arithmetic.clip_voltage(arithmetic.wrap32(v))
        self.overflow += Overflow(
            u_wraps=int(np.count_nonzero(self.u != u)), v_clips=int(np.count_nonzero(self.v != v))
        )
        spikes = self.v > (self.threshold << arithmetic.STATE_SHIFT)
        self.v[spikes] = 0
        return spikes.astype(np.int8)


Synapses: TypeAlias = Callable[[Array], tuple[NDArray[np.int32], int]]


def _synapses(population: Population, largest: int) -> Synapses | None:
    """The layer's sum over weights: messages (sample, *in) to (sums (sample, *out), overflows).

    Sums are taken in float64, which is exact below 2^53; `largest` bounds the messages. Lava takes
    the sums of a convolution in float32 when torch is installed, so beyond 2^24, where sums have
    wrapped anyway and are counted, Lava itself is no longer exact.
    """
    layer = population.layer
    if isinstance(layer, Input):
        return None
    stored = arithmetic.synapse_format(layer.weight) if isinstance(layer, Dense) else None
    weight = stored.mantissa if stored else layer.weight
    bound = (
        int(np.abs(weight.astype(np.int64)).sum(axis=tuple(range(1, weight.ndim))).max()) * largest
    )
    if bound >= 1 << 53:
        raise NetworkError(
            f"{population.name}: sums up to {bound} exceed exact float64 arithmetic."
        )
    real = weight.astype(np.float64)

    if isinstance(layer, Conv):
        conv = layer

        def convolve(message: Array) -> tuple[NDArray[np.int32], int]:
            exact = _correlate(message.astype(np.float64), real, conv).astype(np.int64)
            wrapped = arithmetic.wrap24(exact)
            return wrapped.astype(np.int32), int(np.count_nonzero(wrapped != exact))

        return convolve
    assert stored is not None
    shift = stored.shift

    def multiply(message: Array) -> tuple[NDArray[np.int32], int]:
        exact = (message.reshape(len(message), -1).astype(np.float64) @ real.T).astype(np.int64)
        wrapped = arithmetic.wrap32(exact)
        return wrapped >> np.int32(shift), int(np.count_nonzero(wrapped != exact))

    return multiply


def _correlate(
    x: NDArray[np.float64], weight: NDArray[np.float64], layer: Conv
) -> NDArray[np.float64]:
    """torch.nn.functional.conv2d on (sample, C, H, W) without bias, by patches and one matmul."""
    (py, px), (sy, sx), (dy, dx) = layer.padding, layer.stride, layer.dilation
    x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    ky, kx = weight.shape[2:]
    patches = np.lib.stride_tricks.sliding_window_view(
        x, (1, 1, dy * (ky - 1) + 1, dx * (kx - 1) + 1)
    )[:, :, ::sy, ::sx, 0, 0, ::dy, ::dx]
    samples, _, rows, columns = patches.shape[:4]
    out: Sequence[NDArray[np.float64]] = [
        np.moveaxis(np.tensordot(p, w, axes=([1, 4, 5], [1, 2, 3])), -1, 1)
        for p, w in zip(
            np.split(patches, layer.groups, axis=1),
            np.split(weight, layer.groups, axis=0),
            strict=True,
        )
    ]
    return np.concatenate(out, axis=1).reshape(samples, -1, rows, columns)
