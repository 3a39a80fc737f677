"""The table of kinds: every layer, neuron and option, each drawing random networks from seeds.

What every backend, twin and counter is run on; a new kind of layer or neuron is a row of `KINDS`.
"""

from __future__ import annotations

import zlib
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pytest

from spikeship.benchmarks._fuzz_checks import everything
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate.inputs import QUANTITIES
from spikeship.hw_targets.simulate.torch_engine import run as on_torch
from spikeship.hw_targets.simulate.trace import Overflow, Trace

SAMPLES = 3
IMAGE = (2, 4, 3)
Rng = np.random.Generator
Simulate = Callable[..., Trace]


SIMULATORS: dict[str, Simulate] = {
    "reference": reference.simulate,
    "engine": engine.simulate,
    "torch": on_torch.simulate,
}


@dataclass(frozen=True)
class Case:
    network: Network
    inputs: np.ndarray
    arguments: dict[str, Any] = field(default_factory=dict)
    """Fields of its `Timing`."""

    @property
    def timing(self) -> Timing:
        return Timing(**self.arguments)


# -- what the kinds are drawn from ---------------------------------------------------------------


def draw(rng: Rng, low: int, high: int, *shape: int) -> np.ndarray:
    return rng.integers(low, high, shape, endpoint=True)


def weights(rng: Rng, *shape: int) -> np.ndarray:
    """Random weights with both ends of the range among them."""
    array = draw(rng, -256, 254, *shape)
    array.flat[0], array.flat[-1] = -256, 254
    return array


def bias(rng: Rng, *shape: int) -> np.ndarray:
    array = draw(rng, -300, 300, *shape)
    array.flat[0], array.flat[-1] = -4096, 4095
    return array


def perhaps(rng: Rng, value: Any) -> Any:
    return value if rng.integers(2) else None


def decay(rng: Rng, *shape: int) -> Any:
    """0, 1, 4095, 4096 or any other value, with equal chance."""
    table = np.array([0, 1, 4095, 4096, int(rng.integers(4097))])
    chosen = table[rng.integers(0, 5, shape)]
    return chosen if shape else int(chosen)


def neuron(rng: Rng, *shape: int, low: int = 0, high: int = 1200) -> CubaLIF:
    threshold = draw(rng, low, high, *shape)
    return CubaLIF(decay(rng, *shape), decay(rng, *shape), threshold)


def binary(rng: Rng, steps: int, *shape: int) -> np.ndarray:
    return draw(rng, 0, 1, SAMPLES, steps, *shape)


def signal_of(rng: Rng, steps: int, *shape: int) -> np.ndarray:
    """A slow signal, as sigma-delta networks are made for."""
    return draw(rng, -9, 9, SAMPLES, steps, *shape).cumsum(axis=1)


def conv(rng: Rng, into: int, out: int, groups: int = 1, **options: Any) -> Conv:
    options.setdefault("neuron", neuron(rng))
    pairs: dict[str, tuple[int, int]] = {
        "stride": tuple(draw(rng, 1, 2, 2).tolist()),
        "padding": tuple(draw(rng, 0, 2, 2).tolist()),
        "dilation": tuple(draw(rng, 1, 2, 2).tolist()),
    }
    weight = weights(rng, out, into // groups, *draw(rng, 1, 2, 2).tolist())
    return Conv(**{"weight": weight, **pairs, "groups": groups, **options})


def outputs(first: Input, *layers: Any) -> tuple[int, ...]:
    return Network([first, *layers]).output_shape


def resets(rng: Rng) -> dict[str, int]:
    return {"reset_interval": int(rng.integers(2, 9)), "reset_offset": int(rng.integers(0, 12))}


# -- CUBA ----------------------------------------------------------------------------------------


def dense(rng: Rng) -> Case:
    layer = Dense(weights(rng, 4, 6), perhaps(rng, bias(rng, 4)), neuron(rng))
    return Case(Network([layer]), binary(rng, 16, 6))


def dense_reset(rng: Rng) -> Case:
    """Two layers, an interval that does not divide the steps, any offset."""
    first = Dense(weights(rng, 5, 6), bias(rng, 5), CubaLIF(1, 0, 700))
    network = Network([first, Dense(weights(rng, 3, 5), bias(rng, 3), CubaLIF(0, 1, 900))])
    return Case(network, binary(rng, 15, 6), resets(rng))


def dense_per_neuron(rng: Rng) -> Case:
    params = neuron(rng, 6)
    return Case(Network([Dense(weights(rng, 6, 5), bias(rng, 6), params)]), binary(rng, 16, 5))


def dense_one_sign(rng: Rng) -> Case:
    """Excitatory, then inhibitory beside a bias: other exponents and clips than mixed weights."""
    first = Dense(draw(rng, 0, 254, 4, 5), None, CubaLIF(900, 600, 300))
    second = Dense(draw(rng, -60, -1, 3, 4) * 2 - 1, [900] * 3, CubaLIF(900, 600, 300, "LOIHI"))
    return Case(Network([first, second]), binary(rng, 16, 5))


def dense_graded(rng: Rng) -> Case:
    """Currents far beyond 24 bit: one wrap only, v at both clips, thresholds at both ends."""
    size = 5
    params = CubaLIF(decay(rng, size), decay(rng, size), [0, 131071, 1000, 0, 131071])
    network = Network([Dense(weights(rng, size, 6), bias(rng, size), params)])
    return Case(network, draw(rng, -4000, 4000, SAMPLES, 14, 6), {"message_bits": 12})


def dense_near_the_limit(rng: Rng) -> Case:
    """An integrator whose u steps through +-2^23 exactly."""
    network = Network([Dense([[128], [-128], [127]], None, CubaLIF(0, 4096, 131071))])
    return Case(network, draw(rng, 255, 257, SAMPLES, 20, 1))


def dense_sum_wraps(rng: Rng) -> Case:
    """Small weights are held as large mantissas, whose sums leave 32 bit."""
    network = Network([Dense(draw(rng, 1, 2, 3, 4), None, neuron(rng, 3))])
    return Case(network, draw(rng, 1 << 22, (1 << 24) - 1, SAMPLES, 10, 4))


def graded_as_binary(rng: Rng) -> Case:
    network = Network([Dense(weights(rng, 4, 6), None, neuron(rng))])
    return Case(network, draw(rng, -3, 3, SAMPLES, 12, 6), {"message_bits": 0})


def default_neuron(rng: Rng) -> Case:
    network = Network([Dense(weights(rng, 4, 6), bias(rng, 4))])
    return Case(network, draw(rng, -900, 900, SAMPLES, 14, 6))


def default_neuron_at_its_limit(rng: Rng) -> Case:
    """v at the highest value there is, which must not fire."""
    inputs = np.zeros((SAMPLES, 5, 1), int)
    inputs[:, 0, 0] = 1023, 1024, 1025
    return Case(Network([Dense([[128], [-128]])]), inputs)


def conv_once(rng: Rng) -> Case:
    image = (2, 5, 4)
    return Case(Network([Input(image), conv(rng, 2, 3)]), binary(rng, 10, *image))


def conv_groups_bias_reset(rng: Rng) -> Case:
    image = (4, 4, 5)
    layer = conv(rng, 4, 6, 2, bias=bias(rng, 6), neuron=neuron(rng, 6))
    network = Network([Input(image), layer, conv(rng, 6, 3, 3, padding=(1, 1))])
    return Case(network, binary(rng, 11, *image), resets(rng))


def conv_per_neuron(rng: Rng) -> Case:
    image = (2, 3, 4)
    plain = conv(rng, 2, 3)
    shape = outputs(Input(image), plain)
    options = {name: getattr(plain, name) for name in ("stride", "padding", "dilation")}
    layer = Conv(plain.weight, bias(rng, *shape), neuron(rng, *shape), **options)
    return Case(Network([Input(image), layer]), binary(rng, 10, *image))


def graded_image(rng: Rng, weight: np.ndarray, bits: int) -> np.ndarray:
    """Messages for which the largest sum nearly has `bits` bits."""
    largest = ((1 << bits) - 1) // int(np.abs(weight).sum(axis=(1, 2, 3)).max())
    messages = draw(rng, largest // 3, largest, SAMPLES, 10, *IMAGE)
    return messages * rng.choice([-1, 1], (SAMPLES, 10, 1, 1, 1))


def conv_graded(rng: Rng) -> Case:
    """Sums beyond 23 bit wrap at 24."""
    weight = draw(rng, 150, 254, 3, 2, 2, 2)
    layer = conv(rng, 2, 3, weight=weight, neuron=neuron(rng, 3), padding=(1, 1))
    return Case(Network([Input(IMAGE), layer]), graded_image(rng, weight, 24))


def conv_sum_beyond_24_bits(rng: Rng) -> Case:
    weight = draw(rng, -256, 254, 3, 2, 2, 2)
    layer = conv(rng, 2, 3, weight=weight, neuron=neuron(rng, 3))
    return Case(
        Network([Input(IMAGE), layer]), graded_image(rng, weight, int(rng.integers(25, 33)))
    )


def conv_sum_beyond_32_bits(rng: Rng) -> Case:
    """Sums that Lava's cast to 32 bits makes nothing of."""
    layer = Conv(weights(rng, 3, 2, 2, 2), None, neuron(rng))
    x = draw(rng, -(1 << 24) + 1, (1 << 24) - 1, SAMPLES, 9, 2, 4, 3)
    return Case(Network([Input((2, 4, 3)), layer]), x * draw(rng, 0, 1, SAMPLES, 9, 1, 1, 1))


def recurrent_after_silence(rng: Rng) -> Case:
    """Nothing but the layer's own spikes arrives, from a layer whose messages are graded."""
    out = int(rng.integers(1, 5))
    cell = CubaLIF(int(rng.integers(1, 30)), 4096, 0)
    layer = Dense(np.zeros((out, 1), int), [1] * out, cell, recurrent=np.full((out, out), 254))
    return Case(Network([Input((1,), Delta(1)), layer]), np.zeros((SAMPLES, 60, 1), int))


def flatten_dense(rng: Rng) -> Case:
    image = (2, 2, 3)
    network = Network([Input(image), Flatten(), Dense(weights(rng, 3, 12), None, neuron(rng))])
    return Case(network, binary(rng, 12, *image))


def input_bias(rng: Rng) -> Case:
    """Input neurons under a constant bias, then conv, flatten, dense."""
    first = Input(IMAGE, CubaLIF(decay(rng), 300, 60), 64, 3)
    layer = conv(rng, 2, 3, neuron=CubaLIF(700, 300, 400))
    size = int(np.prod(outputs(first, layer)))
    last = Dense(weights(rng, 3, size), bias(rng, 3), neuron(rng))
    return Case(
        Network([first, layer, Flatten(), last]), draw(rng, -20, 90, SAMPLES, *IMAGE), {"steps": 13}
    )


def input_bias_reset(rng: Rng) -> Case:
    case = input_bias(rng)
    later = {"reset_interval": int(rng.integers(5, 16)), "reset_offset": int(rng.integers(0, 3))}
    return Case(case.network, case.inputs, case.arguments | later)


def input_currents(rng: Rng) -> Case:
    """Input neurons driven by currents in time, per-neuron and per-channel parameters."""
    image = (2, 2, 3)
    channels = CubaLIF(decay(rng, 2), decay(rng, *image), draw(rng, 0, 900, *image))
    network = Network([Input(image, channels), Flatten(), Dense(weights(rng, 2, 12))])
    return Case(network, draw(rng, -900, 2000, SAMPLES, 12, *image))


def input_vector(rng: Rng) -> Case:
    """Flat Input neurons; the input ends before the run."""
    network = Network([Input((6,), neuron(rng, 6)), Dense(weights(rng, 3, 6), None, neuron(rng))])
    return Case(network, draw(rng, -90, 900, SAMPLES, 7, 6), {"steps": 12})


# -- recurrence and delays -----------------------------------------------------------------------


def recurrent(rng: Rng) -> Case:
    first = Dense(weights(rng, 4, 5), bias(rng, 4), neuron(rng, 4), weights(rng, 4, 4))
    second = Dense(weights(rng, 3, 4), None, perhaps(rng, neuron(rng)), weights(rng, 3, 3))
    return Case(Network([first, second]), binary(rng, 16, 5), resets(rng))


def recurrent_of_one_sign(rng: Rng) -> Case:
    """The two matrices share a scaling, which neither would have alone."""
    to, back = draw(rng, 0, 20, 4, 5) * 2, draw(rng, -60, -1, 4, 4) * 2
    network = Network([Dense(to, None, CubaLIF(decay(rng), 50, 40), back)])
    return Case(network, draw(rng, 0, 90, SAMPLES, 16, 5))


def weights_that_lava_changes(rng: Rng) -> Case:
    """The shared scaling of two matrices of one sign costs one of them its odd weights."""
    to, back = draw(rng, 0, 21, 4, 5), draw(rng, -254, -1, 4, 4)
    network = Network([Dense(to, None, CubaLIF(decay(rng), 50, 40), back)])
    return Case(network, draw(rng, -90, 90, SAMPLES, 12, 5))


def delays_of(rng: Rng, longest: int) -> Case:
    out, into = 4, 5
    shape = ((), (out,), (into,), (out, into))[rng.integers(4)]
    delay = draw(rng, 0, longest, *shape)
    if shape:
        delay.flat[-1] = longest
    layer = Dense(weights(rng, out, into), perhaps(rng, bias(rng, out)), neuron(rng), delay=delay)
    second = Dense(weights(rng, 3, out), None, CubaLIF(90, 900, 300), delay=int(rng.integers(4)))
    return Case(Network([layer, second]), binary(rng, 9, into), {"steps": longest + 12})


def delays(rng: Rng) -> Case:
    return delays_of(rng, int(rng.integers(1, 9)))


def delays_of_62(rng: Rng) -> Case:
    return delays_of(rng, 62)


def delays_per_synapse(rng: Rng) -> Case:
    layer = Dense(weights(rng, 4, 5), None, neuron(rng, 4), delay=draw(rng, 0, 9, 4, 5))
    return Case(Network([layer]), binary(rng, 20, 5), resets(rng))


def delays_square(rng: Rng) -> Case:
    """As many inputs as outputs: a vector counts per output."""
    layer = Dense(weights(rng, 4, 4), None, neuron(rng), delay=draw(rng, 0, 5, 4))
    return Case(Network([layer]), binary(rng, 14, 4))


def delays_that_wrap(rng: Rng) -> Case:
    """Products beyond 32 bit, and sums of several delays that meet in one step."""
    layer = Dense(draw(rng, 1, 3, 3, 6), None, neuron(rng, 3), delay=draw(rng, 0, 3, 3, 6))
    return Case(Network([layer]), draw(rng, 1 << 21, (1 << 24) - 1, SAMPLES, 10, 6))


def delays_of_zero(rng: Rng) -> Case:
    """Not the same as none: Lava wraps these sums after their shift."""
    delay = np.zeros(((), (3,), (6,), (3, 6))[rng.integers(4)], int)
    layer = Dense(draw(rng, 1, 3, 3, 6), None, neuron(rng, 3), delay=delay)
    graded = draw(rng, 1 << 21, (1 << 24) - 1, SAMPLES, 10, 6)
    return Case(Network([layer]), graded * (draw(rng, 0, 3, *graded.shape) > 0))


# -- sigma-delta ---------------------------------------------------------------------------------


def exponent(rng: Rng) -> int:
    return int(rng.choice([0, 6, 6, int(rng.integers(8))]))


def threshold(rng: Rng) -> int:
    """Nothing, little, about the signal, more than the signal."""
    return int(rng.choice([0, 1, int(rng.integers(60)), 400]))


def sigma_delta(rng: Rng) -> Case:
    e = exponent(rng)
    hidden = SigmaDelta(threshold(rng), e)
    network = Network(
        [
            Input((5,), Delta(threshold(rng) // 4, e)),
            Dense(weights(rng, 4, 5), perhaps(rng, bias(rng, 4)), hidden),
            Dense(weights(rng, 3, 4), None, perhaps(rng, Sigma()) or SigmaDelta(0, e)),
        ]
    )
    return Case(network, signal_of(rng, 14, 5), {"steps": 18})


def sigma_delta_thresholds(rng: Rng) -> Case:
    """Thresholds that nothing, and that only sums of unsent changes, can pass."""
    e = int(rng.integers(3))
    network = Network(
        [
            Input((5,), Delta(25, e)),
            Dense(weights(rng, 4, 5), bias(rng, 4), SigmaDelta(20000, e)),
            Dense(weights(rng, 3, 4), None, SigmaDelta(131071, e)),
        ]
    )
    return Case(network, signal_of(rng, 16, 5))


def sigma_delta_without_delta(rng: Rng) -> Case:
    """Graded or binary messages straight into sums; held in time."""
    network = Network([Dense(weights(rng, 4, 5), None, SigmaDelta(threshold(rng), exponent(rng)))])
    bits = int(rng.choice([0, 7, 24]))
    return Case(network, draw(rng, -99, 99, SAMPLES, 5), {"steps": 10, "message_bits": bits})


def sigma_delta_that_wraps(rng: Rng) -> Case:
    """Sums, states and changes beyond 32 bit."""
    e = exponent(rng)
    network = Network(
        [
            Dense(draw(rng, -2, 3, 4, 5), None, SigmaDelta(threshold(rng), e)),
            Dense(weights(rng, 3, 4), None, SigmaDelta(131071, e)),
            Dense(draw(rng, 1, 3, 2, 3), None, Sigma()),
        ]
    )
    return Case(network, draw(rng, -(1 << 24) + 1, (1 << 24) - 1, SAMPLES, 12, 5))


def delta_that_wraps(rng: Rng) -> Case:
    """Inputs beyond 32 bit after their shift, wider than the message bits said."""
    network = Network(
        [Input((4,), Delta(131071, 7)), Dense(weights(rng, 3, 4), None, SigmaDelta(9, 7))]
    )
    x = draw(rng, -(1 << 22), 1 << 22, SAMPLES, 10, 4)
    return Case(network, x, {"message_bits": int(rng.integers(2))})


def delta_held(rng: Rng) -> Case:
    """A constant input is one change; as the last layer Delta is the answer."""
    delta = Delta(threshold(rng), exponent(rng))
    layers = [Input(IMAGE, delta, 3, -2)]
    if rng.integers(2):
        layers += [Flatten(), Dense(weights(rng, 2, 24), None, Sigma())]
    return Case(Network(layers), draw(rng, -300, 300, SAMPLES, *IMAGE), {"steps": 7})


def sigma_delta_conv(rng: Rng) -> Case:
    e = exponent(rng)
    small = {"weight": draw(rng, -20, 30, 3, 2, 2, 2)}
    first = Input(IMAGE, Delta(threshold(rng) // 8, e))
    one = conv(rng, 2, 3, neuron=SigmaDelta(threshold(rng) // 8, e), **small)
    shape = outputs(first, one)
    biases = (None, draw(rng, -9, 30, 3), draw(rng, -9, 30, *shape))[rng.integers(3)]
    options = {name: getattr(one, name) for name in ("stride", "padding", "dilation")}
    one = Conv(one.weight, biases, one.neuron, **options)
    two = conv(rng, 3, 3, 3, weight=draw(rng, -9, 9, 3, 1, 1, 1), neuron=SigmaDelta(0, e))
    readout = Dense(weights(rng, 2, int(np.prod(outputs(first, one, two)))), None, Sigma())
    x = draw(rng, -3, 3, SAMPLES, 9, *IMAGE).cumsum(axis=1)
    return Case(Network([first, one, two, Flatten(), readout]), x)


def sigma_conv(rng: Rng) -> Case:
    layer = conv(rng, 2, 3, neuron=Sigma())
    return Case(Network([Input(IMAGE), layer]), draw(rng, -90, 90, SAMPLES, 10, *IMAGE))


def sigma_delta_recurrent(rng: Rng) -> Case:
    e = int(rng.integers(4))
    hidden = SigmaDelta(threshold(rng), e)
    network = Network(
        [
            Input((5,), Delta(threshold(rng) // 8, e)),
            Dense(weights(rng, 4, 5), perhaps(rng, bias(rng, 4)), hidden, weights(rng, 4, 4)),
            Dense(weights(rng, 3, 4), None, Sigma(), perhaps(rng, weights(rng, 3, 3))),
        ]
    )
    return Case(network, signal_of(rng, 14, 5))


def sigma_delta_recurrent_of_ones(rng: Rng) -> Case:
    """Input that holds only 0 and 1; whether messages are graded is said by message_bits alone."""
    layer = Dense(weights(rng, 4, 3), bias(rng, 4), SigmaDelta(0), recurrent=draw(rng, -9, 9, 4, 4))
    return Case(
        Network([layer]), binary(rng, 9, 3), {"message_bits": (None, 8, 0)[rng.integers(3)]}
    )


def sigma_delta_delays(rng: Rng) -> Case:
    e = exponent(rng)
    network = Network(
        [
            Input((5,), Delta(0, e)),
            Dense(weights(rng, 4, 5), None, SigmaDelta(0, e), delay=draw(rng, 0, 5, 4, 5)),
            Dense(weights(rng, 3, 4), None, Sigma(), delay=draw(rng, 0, 3, 4)),
        ]
    )
    return Case(network, signal_of(rng, 14, 5))


# -- kinds in one chain --------------------------------------------------------------------------


def spikes_into_sigma_delta(rng: Rng) -> Case:
    """Also where recurrent messages are integers and the synapse counts them as single spikes."""
    e = exponent(rng)
    back = perhaps(rng, weights(rng, 4, 4))
    network = Network(
        [
            Dense(weights(rng, 6, 5), bias(rng, 6), neuron(rng, 6)),
            Dense(weights(rng, 4, 6), bias(rng, 4), SigmaDelta(threshold(rng), e), back),
            Dense(weights(rng, 3, 4), None, Sigma()),
        ]
    )
    return Case(network, binary(rng, 14, 5), resets(rng))


def sigma_delta_into_spikes(rng: Rng) -> Case:
    e = int(rng.integers(3))
    network = Network(
        [
            Input((5,), Delta(3, e)),
            Dense(weights(rng, 4, 5), None, SigmaDelta(threshold(rng), e)),
            Dense(
                weights(rng, 6, 4), bias(rng, 6), neuron(rng, 6), perhaps(rng, weights(rng, 6, 6))
            ),
            Dense(weights(rng, 3, 6), None, neuron(rng)),
        ]
    )
    return Case(network, signal_of(rng, 14, 5), resets(rng))


def delta_into_conv_spikes(rng: Rng) -> Case:
    first, layer = Input(IMAGE, Delta(2, 1)), conv(rng, 2, 4, 2)
    size = int(np.prod(outputs(first, layer)))
    last = Dense(weights(rng, 3, size), None, SigmaDelta(0, 1))
    return Case(Network([first, layer, Flatten(), last]), signal_of(rng, 12, *IMAGE))


# -- resonators ----------------------------------------------------------------------------------


def resonator(rng: Rng, kind: Any, high: int = 700) -> ResonateFire:
    """Decays of any size, now and then more than 1, where the state grows into its clip."""
    angle, size = rng.uniform(0.05, 1.5), rng.choice([0.99, 0.9, 0.7, 1.3])
    sin, cos = (int(np.clip(4096 * size * f(angle), 1, 4095)) for f in (np.sin, np.cos))
    sin, cos = ((sin, cos), (1, 4095), (4095, 0), (sin, cos))[rng.integers(4)]
    return ResonateFire(sin, cos, int(rng.integers(high)), kind)


def complex_dense(rng: Rng, out: int, into: int, neurons: ResonateFire) -> Dense:
    return Dense(weights(rng, out, into), None, neurons, imaginary=weights(rng, out, into))


def resonate_phase(rng: Rng) -> Case:
    one = complex_dense(rng, 6, 5, resonator(rng, "RF_PHASE"))
    network = Network([one, complex_dense(rng, 4, 6, resonator(rng, "RF_PHASE"))])
    return Case(network, binary(rng, 18, 5))


def resonate_izhikevich(rng: Rng) -> Case:
    one = complex_dense(rng, 6, 5, resonator(rng, "RF_IZHIKEVICH"))
    network = Network([one, complex_dense(rng, 4, 6, resonator(rng, "RF_IZHIKEVICH"))])
    return Case(network, binary(rng, 18, 5))


def resonate_graded(rng: Rng) -> Case:
    """Both states at their clips, sums beyond 32 bit when shifted, matrices of one sign."""
    neurons = resonator(rng, str(rng.choice(["RF_PHASE", "RF_IZHIKEVICH"])), 131072)
    layer = Dense(draw(rng, 0, 200, 4, 5), None, neurons, imaginary=weights(rng, 4, 5))
    largest = int(rng.choice([500, 50_000, 1 << 22]))
    return Case(Network([layer]), draw(rng, -largest, largest, SAMPLES, 14, 5))


def resonate_between(rng: Rng) -> Case:
    """CUBA, conv and flatten before, CUBA behind; resets are for CUBA alone."""
    first, layer = Input(IMAGE), conv(rng, 2, 3, neuron=CubaLIF(700, 300, 90))
    size = int(np.prod(outputs(first, layer)))
    kind = str(rng.choice(["RF_PHASE", "RF_IZHIKEVICH"]))
    last = Dense(weights(rng, 3, 5), bias(rng, 3), neuron(rng))
    network = Network(
        [first, layer, Flatten(), complex_dense(rng, 5, size, resonator(rng, kind)), last]
    )
    return Case(network, binary(rng, 14, *IMAGE), resets(rng))


# -- the table -----------------------------------------------------------------------------------

KINDS: dict[Callable[[Rng], Case], int] = {
    # kind: how many of its networks run on Lava, at about one second each
    dense: 3,
    dense_reset: 2,
    dense_per_neuron: 2,
    dense_one_sign: 1,
    dense_graded: 2,
    dense_near_the_limit: 1,
    dense_sum_wraps: 1,
    graded_as_binary: 1,
    default_neuron: 1,
    default_neuron_at_its_limit: 1,
    conv_once: 2,
    conv_groups_bias_reset: 2,
    conv_per_neuron: 2,
    conv_graded: 2,
    conv_sum_beyond_24_bits: 2,
    conv_sum_beyond_32_bits: 2,
    flatten_dense: 1,
    input_bias: 1,
    input_bias_reset: 2,
    input_currents: 1,
    input_vector: 1,
    recurrent: 3,
    recurrent_after_silence: 1,
    recurrent_of_one_sign: 1,
    weights_that_lava_changes: 2,
    delays: 3,
    delays_of_62: 1,
    delays_per_synapse: 1,
    delays_square: 1,
    delays_that_wrap: 1,
    delays_of_zero: 2,
    sigma_delta: 3,
    sigma_delta_thresholds: 1,
    sigma_delta_without_delta: 2,
    sigma_delta_that_wraps: 2,
    delta_that_wraps: 1,
    delta_held: 1,
    sigma_delta_conv: 3,
    sigma_conv: 1,
    sigma_delta_recurrent: 2,
    sigma_delta_recurrent_of_ones: 3,
    sigma_delta_delays: 1,
    spikes_into_sigma_delta: 2,
    sigma_delta_into_spikes: 1,
    delta_into_conv_spikes: 1,
    resonate_phase: 2,
    resonate_izhikevich: 2,
    resonate_graded: 2,
    resonate_between: 2,
}
SEEDS = 9
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def case(kind: Callable[[Rng], Case], seed: int) -> Case:
    return kind(np.random.default_rng([seed, zlib.crc32(kind.__name__.encode())]))


def run(function: Simulate, case: Case, **changed: Any) -> Trace:
    """All that can be recorded; what is changed may be fields of the timing."""
    times = {f.name: changed.pop(f.name) for f in fields(Timing) if f.name in changed}
    usual = {"inputs": case.inputs, "record": everything(case.network)}
    return function(case.network, timing=Timing(**case.arguments | times), **usual | changed)


def joined(network: Network, traces: list[Trace], axis: int) -> Trace:
    """One trace of several: of a batch (axis 0), or one after another (axis 1)."""
    arrays = {
        name: [
            np.concatenate([getattr(t, name)[p.index] for t in traces], axis=axis)
            if name == "spikes" or name in p.states
            else None
            for p in network.populations
        ]
        for name in QUANTITIES
        if getattr(traces[0], name) is not None
    }
    counts: Any = [t.counts for t in traces]
    overflows: Any = zip(*(t.overflow for t in traces), strict=True)
    return Trace(
        **arrays,
        counts=np.sum(counts, axis=0) if axis else np.concatenate(counts),
        overflow=tuple(sum(parts, Overflow()) for parts in overflows),
    )
