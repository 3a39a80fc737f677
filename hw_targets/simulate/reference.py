"""The definition of "bit-accurate": one step after another, in numpy, slow and obvious.

`simulate` reproduces Lava 0.10's fixed-point CPU models as lava-dl 0.6's netx instantiates them,
every spike and every state, for whole batches of samples. Everything else must equal it. Here are time,
synapses, delays and resets; what neurons do in a step is in their classes (`neurons`).
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..network import arithmetic
from ..network.layers import Conv, Input
from ..network.network import Network, Population
from ..network.neurons import IntArray, spread
from ..network.timing import AS_INPUT, Timing
from .inputs import QUANTITIES, parse_record, prepare_input
from .state import Following, State
from .trace import Overflow, Recorded, Trace

Array: TypeAlias = NDArray[np.signedinteger[Any]]


def simulate(
    network: Network,
    inputs: ArrayLike,
    timing: Timing = AS_INPUT,
    *,
    record: str | Collection[str] = "counts",
    state: State | None = None,
) -> Trace:
    """Run a network on a batch, exactly as Lava's CPU backend runs each sample.

    `inputs`: see `inputs.prepare_input`. `timing`: steps, and when neurons forget, see `Timing`.
    `record`: see `inputs.parse_record`. `state`: where to go on, see `State`.

    In step t = 1, 2, ..., with x(t) the input and layer i's synapses summing the messages of the
    layer before with one step of delay (and `delay` further ones)::

        a_i(t) = W_i s_{i-1}(t - 1)          a_i(1) = 0
        s_i(t) = neuron_i.step(a_i(t))       see `CubaLIF`, `SigmaDelta`, `ResonateFire`, ...

    Returns a `Trace` of as many columns as there are steps, with overflows counted. Raises NetworkError.
    """
    kept = parse_record(record, network)
    drive = prepare_input(network, inputs, timing)
    samples = len(drive.x)
    layers = [
        RunningLayer(p, samples, drive.bias, network, binary=timing.message_bits == 0)
        for p in network.populations
    ]
    begin = None if state is None else state.of(network, samples)
    following, done, every = None, 0, slice(None)
    if begin is not None:
        following, done = Following(begin), begin.step
        for layer in layers:
            layer.resume(begin, every)
    columns: dict[str, dict[int, list[Array]]] = {
        name: {i: [] for i in getattr(kept, name)} for name in QUANTITIES
    }
    counts = np.zeros((samples, *network.output_shape), np.int64) if kept.counts else None
    silence = np.zeros((samples, *network.input_shape), np.int32)
    for t in range(1, drive.steps + 1):
        message: Array = drive.x[:, t - 1] if t <= drive.x.shape[1] else silence
        for i, layer in enumerate(layers):
            if timing.forgets(i, done + t):
                layer.forget()
            message = layer.step(message)
            if following is not None:
                following.remember(i, every, message[:, None])
            for name, of in columns.items():
                if i in of:
                    of[i].append(message if name == "spikes" else layer.state(name))
        if counts is not None:
            counts += message
    recorded: dict[str, Any] = {
        name: Recorded(
            name, [np.stack(of[i], axis=1) if i in of else None for i in range(len(layers))]
        )
        for name, of in columns.items()
        if of
    }
    after = None
    if following is not None:
        for i, layer in enumerate(layers):
            following.stands(i, every, layer.states())
        after = following.state(drive)
    overflow = tuple(layer.overflow for layer in layers)
    return Trace(**recorded, counts=counts, overflow=overflow, state=after)


class RunningLayer:
    """One population while it runs: its synapses, its neurons, and one step after another."""

    def __init__(
        self,
        population: Population,
        samples: int,
        input_bias: Array | None,
        network: Network,
        *,
        binary: bool,
    ) -> None:
        """`binary`: the network's input counts as single spikes (message_bits = 0)."""
        layer = population.layer
        self._index = population.index
        before = network.populations[population.index - 1] if population.index else None
        self._synapses = _synapses(
            population, samples, binary if before is None else not before.graded
        )
        silent = np.zeros((samples, *population.shape), np.int32)
        bias = input_bias if isinstance(layer, Input) else layer.bias
        self._bias = spread(0 if bias is None else bias, silent)
        self._neuron, self._names = population.neuron, population.states
        self._states: dict[str, Array] = dict.fromkeys(self._names.values(), silent)
        self._overflow = Overflow()

    @property
    def overflow(self) -> Overflow:
        """What wrapped and was clipped so far."""
        return self._overflow + (self._synapses.overflow if self._synapses else Overflow())

    def states(self) -> dict[str, Array]:
        """All of its states, see `state`."""
        return {name: self.state(name) for name in self._names}

    def resume(self, state: State, samples: slice) -> None:
        """Go on with some samples of a state of this network, in place of the beginning."""
        self._states = {
            own: state.neurons[self._index][name][samples] for name, own in self._names.items()
        }
        if self._synapses is not None:
            arrived, own = (state.messages[self._index + k][samples] for k in (0, 1))
            self._synapses.resume(arrived, own[:, -1])

    def forget(self) -> None:
        """Set all states to 0 where the neurons reset."""
        if self._neuron.resets:
            self._states = {name: np.zeros_like(x) for name, x in self._states.items()}

    def state(self, name: str) -> Array:
        """The state that a trace calls `name` ("u", "v", "residue"), int32 (sample, *layer shape)."""
        return self._states[self._names[name]]

    def step(self, message: Array) -> Array:
        """Advance by one step, and say what the layer sends in it, (sample, *layer shape).

        `message`: what the layer before sends in this very step, (sample, *its shape).
        """
        if self._synapses is None:  # Input neurons take their input without delay
            return self._send([message.astype(np.int32)])
        sent = self._send(self._synapses.arriving())
        self._synapses.receive(message, sent)
        return sent

    def _send(self, sums: Sequence[Array]) -> Array:
        """What the neurons send, given the sums of this step."""
        sent, states, *wraps_and_clips = self._neuron.step(self._states, sums, self._bias)
        self._states = {name: states[name].astype(np.int32) for name in self._states}
        self._overflow += Overflow(*wraps_and_clips)
        return sent.astype(np.int32 if self._neuron.graded else np.int8)


# -- synapses: what arrives in this step, and what the messages of this step will bring ---------


def _synapses(population: Population, samples: int, binary: bool) -> _Synapses | None:
    layer = population.layer
    if isinstance(layer, Input):
        return None
    if isinstance(layer, Conv):
        return _Synapses([_Convolution(layer)], None, binary, (samples, *population.shape))
    shape = (samples, len(layer.weight))
    if layer.imaginary is not None:
        parts = [layer.weight, layer.imaginary]
        formats = [arithmetic.synapse_format(part) for part in parts]
        return _Synapses([_Matrix(f) for f in formats], None, binary, shape)
    if layer.recurrent is not None:
        forward, back = arithmetic.synapse_formats(layer.weight, layer.recurrent)
        return _Synapses([_Matrix(forward)], _Matrix(back), binary, shape)
    stored = arithmetic.synapse_format(layer.weight)
    if layer.delays is not None:
        return _Synapses([DelayedMatrix(stored, layer.delays)], None, binary, shape)
    return _Synapses([_Matrix(stored)], None, binary, shape)


class _Synapses:
    """The synapses of a layer: one sum each for the real and the imaginary part."""

    def __init__(
        self,
        forward: Sequence[_Convolution | _Matrix],
        recurrent: _Matrix | None,
        binary: bool,
        shape: tuple[int, ...],
    ) -> None:
        self.forward = forward
        self.recurrent = recurrent
        self.binary = binary
        self.overflow = Overflow()
        self.wraps = 0
        self.waiting: list[Array] = [np.zeros(shape, np.int32) for _ in forward]

    def arriving(self) -> list[Array]:
        """The sums that reach the neurons in this step; what wrapped on the way counts now."""
        self.overflow += Overflow(sum_wraps=self.wraps)
        return self.waiting

    def resume(self, messages: Array, own: Array) -> None:
        """Begin where these were the last messages (sample, step, *before), and the layer's own one."""
        for k in range(messages.shape[1]):  # wraps of all but the last have counted
            self.receive(messages[:, k], own)

    def receive(self, message: Array, own: Array) -> None:
        """Sum the messages of this step, for the next one."""
        sums = [part(message) for part in self.forward]
        if self.recurrent is not None:
            sums.append(self.recurrent((own != 0).astype(np.int8) if self.binary else own))
        self.wraps = sum(wraps for _, wraps in sums)
        self.waiting = [summed for summed, _ in sums[: len(self.forward)]]
        if self.recurrent is not None:
            both = self.waiting[0].astype(np.int64) + sums[-1][0]
            self.waiting = [arithmetic.wrap32(both)]
            self.wraps += int(np.count_nonzero(self.waiting[0] != both))


class _Matrix:
    """messages (sample, *in) to (sums (sample, out), how many wrapped at 32 bit)."""

    def __init__(self, stored: arithmetic.SynapseFormat) -> None:
        self.mantissa, self.shift = stored.mantissa, max(stored.shift, 0)

    def __call__(self, message: Array) -> tuple[Array, int]:
        exact = _product(message.reshape(len(message), self.mantissa.shape[1]), self.mantissa)
        wrapped = arithmetic.wrap32(exact)
        return wrapped >> np.int32(self.shift), int(np.count_nonzero(wrapped != exact))


class DelayedMatrix(_Matrix):
    """A `_Matrix` whose synapses have delays: each product wraps at 32 bit, and the shifted sum again."""

    def __init__(self, stored: arithmetic.SynapseFormat, delays: IntArray) -> None:
        super().__init__(stored)
        self.by_delay = {int(d): np.where(delays == d, self.mantissa, 0) for d in np.unique(delays)}
        self.ring: dict[int, Array] = {}
        self.step = 0

    def __call__(self, message: Array) -> tuple[Array, int]:
        flat = message.reshape(len(message), self.mantissa.shape[1]).astype(np.int64)
        small = int(np.abs(flat).max(initial=0)) * int(np.abs(self.mantissa).max()) < 1 << 31
        wraps = 0
        for delay, mantissa in self.by_delay.items():
            if small:
                exact = _product(flat, mantissa)
            else:
                products = flat[:, None, :] * mantissa
                wraps += int(np.count_nonzero(arithmetic.wrap32(products) != products))
                exact = arithmetic.wrap32(products).sum(axis=2, dtype=np.int64)
            due = self.step + delay
            later = self.ring.get(due, np.zeros_like(exact)) + (exact >> self.shift)
            self.ring[due] = arithmetic.wrap32(later).astype(np.int64)
            wraps += int(np.count_nonzero(self.ring[due] != later))
        now = self.ring.pop(self.step, np.zeros((len(flat), len(self.mantissa)), np.int64))
        self.step += 1
        return now.astype(np.int32), wraps


class _Convolution:
    """messages (sample, C, H, W) to (sums, how many wrapped at 24 bit)."""

    def __init__(self, layer: Conv) -> None:
        self.layer = layer

    def __call__(self, message: Array) -> tuple[Array, int]:
        exact = _correlate(message, self.layer)
        wrapped = arithmetic.convolved(exact)
        return wrapped.astype(np.int32), int(np.count_nonzero(wrapped != exact))


def _product(messages: Array, weight: Array) -> NDArray[np.int64]:
    """messages (sample, in) @ weight.T, exact: in float64 where every sum is below 2^53."""
    largest = int(np.abs(messages.astype(np.int64)).max(initial=0))
    bound = int(np.abs(weight).sum(axis=1, dtype=np.int64).max()) * largest
    if bound < 1 << 53:
        exact: NDArray[np.int64] = (
            messages.astype(np.float64) @ weight.T.astype(np.float64)
        ).astype(np.int64)
        return exact
    return messages.astype(np.int64) @ weight.T.astype(np.int64)


def _correlate(x: Array, layer: Conv) -> NDArray[np.int64]:
    """torch.nn.functional.conv2d on (sample, C, H, W) without bias, by patches and one product."""
    (py, px), (sy, sx), (dy, dx) = layer.padding, layer.stride, layer.dilation
    x = np.pad(x, ((0, 0), (0, 0), (py, py), (px, px)))
    ky, kx = layer.weight.shape[2:]
    patches = np.lib.stride_tricks.sliding_window_view(  # type: ignore[call-overload]  # axis: pairs
        x, (dy * (ky - 1) + 1, dx * (kx - 1) + 1), axis=(2, 3)
    )[:, :, ::sy, ::sx, ::dy, ::dx]
    samples, _, rows, columns = patches.shape[:4]
    out = []
    for p, w in zip(
        np.split(patches, layer.groups, axis=1),
        np.split(layer.weight, layer.groups, axis=0),
        strict=True,
    ):
        flat = p.transpose(0, 2, 3, 1, 4, 5).reshape(samples * rows * columns, w[0].size)
        summed = _product(flat, w.reshape(len(w), -1))
        out.append(summed.reshape(samples, rows, columns, len(w)))
    return np.moveaxis(np.concatenate(out, axis=3), 3, 1)
