"""Parity: every kind of network on every backend, all integers compared with `==`.

One table of kinds, each drawing random networks from seeds, and one of backends; the reference is
what all others must equal. Behind it: behaviour that every backend has, such as what `record` keeps.
"""

import importlib
import inspect
import multiprocessing
import os
import pkgutil
import warnings
import zlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, fields, is_dataclass
from types import NoneType
from typing import Any, Literal, get_args, get_origin, get_type_hints

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from spikeship import hw_targets
from spikeship.hw_targets.network import layers as layers_module
from spikeship.hw_targets.network import network as network_module
from spikeship.hw_targets.network import neurons as neurons_module
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer
from spikeship.hw_targets.network.network import Network, Population
from spikeship.hw_targets.network.neurons import (
    NEURONS,
    CubaLIF,
    Delta,
    Integrator,
    NetworkError,
    Neuron,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.inputs import QUANTITIES
from spikeship.hw_targets.simulate.trace import Overflow, Recorded, Trace

SAMPLES = 3
IMAGE = (2, 4, 3)
Rng = np.random.Generator
Simulate = Callable[..., Trace]


@dataclass(frozen=True)
class Case:
    network: Network
    inputs: np.ndarray
    arguments: dict[str, Any] = field(default_factory=dict)


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
BACKENDS: dict[str, tuple[Simulate, Callable[[Any], int]]] = {
    # backend: its function, and how many networks of a kind it runs
    "engine": (engine.simulate, lambda kind: SEEDS),
    "lava": (lava_cpu.run, lambda kind: KINDS[kind]),
}


def case(kind: Callable[[Rng], Case], seed: int) -> Case:
    return kind(np.random.default_rng([seed, zlib.crc32(kind.__name__.encode())]))


LAVA_CASES = {
    f"{kind.__name__}-{seed}": (kind, seed) for kind, n in KINDS.items() for seed in range(n)
}


def everything(network: Network) -> list[str]:
    states = {name for p in network.populations for name in p.states}
    return ["counts", "spikes", *sorted(states)]


def difference(network: Network, found: Trace, expected: Trace) -> str | None:
    """What differs first, in time and then along the chain."""
    first: int | None = None
    what = None
    for p in network.populations:
        for name in (*p.states, "spikes"):
            theirs, ours = (getattr(t, name)[p.index] for t in (found, expected))
            if (theirs.shape, theirs.dtype) != (ours.shape, ours.dtype):
                return f"{name} of {p.name}: {theirs.shape} {theirs.dtype}, not {ours.shape} {ours.dtype}"
            places = np.argwhere(ours != theirs)
            if len(places):
                where = tuple(places[places[:, 1].argmin()].tolist())
                if first is None or where[1] < first:
                    first = where[1]
                    what = f"{name} of {p.name} at {where}: {theirs[where]}, not {ours[where]}"
    if what is None and not same(found.counts, expected.counts):  # int64 in both
        what = f"counts {found.counts}, not {expected.counts}"
    if what is None and found.overflow is not None and found.overflow != expected.overflow:
        what = f"overflow {found.overflow}, not {expected.overflow}"
    return what


def same(one: Any, other: Any) -> bool:
    return bool(one.dtype == other.dtype and np.array_equal(one, other))


def run(function: Simulate, case: Case, **changed: Any) -> Trace:
    """All that can be recorded."""
    arguments = (
        case.arguments | {"inputs": case.inputs, "record": everything(case.network)} | changed
    )
    return function(case.network, **arguments)


@pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)
def test_engine(kind: Callable[[Rng], Case]) -> None:
    function, networks = BACKENDS["engine"]
    for seed in range(networks(kind)):
        one = case(kind, seed)
        found = run(function, one)
        assert difference(one.network, found, run(reference.simulate, one)) is None, f"seed {seed}"
        assert found.overflow is not None


@settings(max_examples=150, deadline=None, derandomize=True)
@given(kind=st.sampled_from(list(KINDS)), seed=st.integers(SEEDS, 2**32 - 1))
def test_engine_on_other_seeds(kind: Callable[[Rng], Case], seed: int) -> None:
    one = case(kind, seed)
    found, expected = run(engine.simulate, one), run(reference.simulate, one)
    assert difference(one.network, found, expected) is None


@pytest.mark.lava
@pytest.mark.parametrize("name", LAVA_CASES)
def test_lava(name: str, lava: Simulate) -> None:
    one = case(*LAVA_CASES[name])
    found = run(lava, one)
    assert difference(one.network, found, run(reference.simulate, one)) is None
    assert (found.backend, found.overflow) == ("lava", None)


# -- no holes ------------------------------------------------------------------------------------


def test_every_kind_on_every_backend() -> None:
    for name, (_, networks) in BACKENDS.items():
        holes = {kind for kind in KINDS if not networks(kind)}
        assert not holes, f"{name} does not run {[kind.__name__ for kind in holes]}"
    assert len(LAVA_CASES) >= 60
    assert len(KINDS) * SEEDS >= 300


def test_every_backend_is_in_the_table() -> None:
    """Any function of hw_targets that takes what `reference.simulate` takes is a backend."""
    wanted = inspect.signature(reference.simulate).parameters.keys()
    found = set()
    for info in pkgutil.iter_modules(hw_targets.__path__):
        if info.name.startswith("_"):
            continue
        module = importlib.import_module(f"{hw_targets.__name__}.{info.name}")
        for function in vars(module).values():
            own = inspect.isfunction(function) and function.__module__ == module.__name__
            if own and inspect.signature(function).parameters.keys() >= wanted:
                found.add(function)
    assert found == {reference.simulate, *(function for function, _ in BACKENDS.values())}


def alternatives(hint: Any) -> tuple[Any, ...]:
    return get_args(hint) if get_origin(hint) not in (None, Literal, tuple) else (hint,)


def test_every_part_of_a_network_is_in_the_table() -> None:
    """Every dataclass of network.py, every field in two values, every neuron in every layer."""
    parts = {
        part
        for module in (layers_module, network_module, neurons_module)
        for part in vars(module).values()
        if inspect.isclass(part) and is_dataclass(part) and part.__module__ == module.__name__
    } - {Network, Population, Recipe, Neuron, Integrator}
    assert parts == set(get_args(Layer)) | set(NEURONS)
    values: dict[tuple[type, str], set[Any]] = {
        (part, f.name): set() for part in parts for f in fields(part)
    }
    seen: set[tuple[type, type]] = set()
    for key in LAVA_CASES.values():
        for layer in case(*key).network.layers:
            neurons = getattr(layer, "neuron", None)
            seen.add((type(layer), type(neurons)))
            for part in (layer, neurons):
                for f in fields(part) if part is not None else ():
                    value = getattr(part, f.name)
                    if isinstance(value, np.ndarray):
                        value = (value.shape, value.tobytes())
                    values[type(part), f.name].add(value)
    for (part, name), found in values.items():
        hint = get_type_hints(part)[name]
        where = f"{part.__name__}.{name}"
        assert len({type(v) if is_dataclass(v) else v for v in found}) > 1, (
            f"{where} is always {found}"
        )
        if where != "Conv.neuron":  # None is refused there
            assert (None in found) == (NoneType in alternatives(hint)), f"{where}: with and without"
        if get_origin(hint) is Literal:
            assert found == set(get_args(hint)), where
        if name == "neuron":
            kinds = (*(k for k in NEURONS if part.__name__ in k.layers), NoneType)
            pairs = {(part, kind) for kind in kinds} - {(Conv, NoneType)}
            assert pairs == {pair for pair in seen if pair[0] is part}, where


def test_the_table_is_not_silent() -> None:
    """Every kind of neuron spikes, every overflow happens, every extreme occurs."""
    total = Overflow()
    spiking: dict[str, int] = {}
    extremes: dict[str, set[int]] = {}
    for key in LAVA_CASES.values():
        one = case(*key)
        trace = run(reference.simulate, one)
        assert len(trace.counts) >= 3
        total = sum(trace.overflow, total)
        for p, spikes in zip(one.network.populations, trace.spikes, strict=True):
            params = p.layer.neuron
            kind = f"{type(p.layer).__name__} {type(params).__name__} {getattr(params, 'kind', '')}"
            spiking[kind] = spiking.get(kind, 0) + int(np.count_nonzero(spikes))
            for part in (p.layer, params):
                for f in fields(part) if part is not None else ():
                    if np.asarray(getattr(part, f.name)).dtype.kind == "i":
                        found = np.asarray(getattr(part, f.name)).ravel().tolist()
                        extremes.setdefault(f.name, set()).update(found)
    assert spiking.pop("Dense NoneType ") == 0
    assert len(spiking) == 11
    assert min(spiking.values()) > 50, spiking
    assert min(total.u_wraps, total.v_clips, total.sum_wraps) >= 20, total
    for name, values in {
        "i_decay": {0, 1, 4095, 4096},
        "v_decay": {0, 1, 4095, 4096},
        "threshold": {0, 131071},
        "spike_exp": {0, 6, 7},
        "weight": {-256, -1, 0, 1, 254},
        "recurrent": {-256, 254},
        "imaginary": {-256, 254},
        "bias": {-4096, 4095},
        "delay": {0, 62},
        "sin_decay": {1, 4095},
        "cos_decay": {0, 4095},
    }.items():
        assert extremes[name] >= values, name


# -- what every backend does ---------------------------------------------------------------------

SIMULATORS = {"reference": reference.simulate, "engine": engine.simulate}
every_simulator = pytest.mark.parametrize("simulate", SIMULATORS.values(), ids=SIMULATORS)
every_kind = pytest.mark.parametrize("kind", KINDS, ids=lambda kind: kind.__name__)


def choices(network: Network) -> list[str | tuple[str, ...]]:
    """Ways to ask for less than everything."""
    last = len(network.populations) - 1
    state = next(iter(network.populations[0].states))
    return [
        *everything(network),
        (),
        "spikes.-1",
        (f"{state}.0", "counts"),
        (f"spikes.{last}", "spikes.0", f"{state}.0", state),
    ]


def check_record(simulate: Simulate, one: Case, whole: Trace, record: Any) -> None:
    found = run(simulate, one, record=record)
    asked = {record} if isinstance(record, str) else set(record)
    populations = one.network.populations
    for name in QUANTITIES:
        of = {
            p.index
            for p in populations
            for item in asked
            if (name == "spikes" or name in p.states)
            and item in (name, f"{name}.{p.index}", f"{name}.{p.index - len(populations)}")
        }
        kept = getattr(found, name)
        assert (kept is None) == (not of)
        if kept is None:
            continue
        assert isinstance(kept, Recorded)
        assert len(kept) == len(populations)
        assert kept.populations == tuple(sorted(of))
        assert all(same(kept[i], getattr(whole, name)[i]) for i in of)
    assert (found.counts is None) == ("counts" not in asked)
    assert found.counts is None or same(found.counts, whole.counts)
    assert found.overflow == whole.overflow


@every_simulator
@every_kind
def test_record_keeps_what_is_asked_for(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    one = case(kind, 0)
    whole = run(simulate, one)
    assert same(whole.counts, whole.spikes[-1].sum(axis=1, dtype=np.int64))
    for record in choices(one.network):
        check_record(simulate, one, whole, record)


@pytest.mark.lava
def test_record_on_lava(lava: Simulate) -> None:
    one = case(sigma_delta_into_spikes, 0)
    whole = run(lava, one)
    for record in ("counts", ("residue", "u.-1", "spikes.1")):
        check_record(lava, one, whole, record)


def test_counts_by_default() -> None:
    one = case(dense_reset, 0)
    for simulate in SIMULATORS.values():
        trace = simulate(one.network, one.inputs, **one.arguments)
        assert trace.counts.shape == (SAMPLES, 3)
        assert all(getattr(trace, name) is None for name in QUANTITIES)


def joined(network: Network, traces: list[Trace]) -> Trace:
    """One batch of several."""
    arrays = {
        name: [
            np.concatenate([getattr(t, name)[p.index] for t in traces])
            if name == "spikes" or name in p.states
            else None
            for p in network.populations
        ]
        for name in QUANTITIES
        if getattr(traces[0], name) is not None
    }
    overflow = tuple(
        sum(parts, Overflow()) for parts in zip(*(t.overflow for t in traces), strict=True)
    )
    return Trace(**arrays, counts=np.concatenate([t.counts for t in traces]), overflow=overflow)


@every_simulator
@every_kind
def test_batch_equals_one_by_one(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    one = case(kind, 1)
    alone = [run(simulate, one, inputs=one.inputs[i : i + 1]) for i in range(SAMPLES)]
    assert difference(one.network, run(simulate, one), joined(one.network, alone)) is None


def loud(one: Case, rng: Rng) -> np.ndarray:
    """One more sample, of values as large as the network takes, of both signs."""
    first, bits = one.network.layers[0], one.arguments.get("message_bits")
    limit = min(1 << (bits or 24), 1 << 24) - 1
    if isinstance(first, Input) and isinstance(first.neuron, CubaLIF):
        limit = 4095
    return draw(rng, -limit, limit, *one.inputs[:1].shape)


@every_simulator
@every_kind
def test_other_samples_decide_nothing(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    """Not even those whose values send a whole batch along another path: graded, large, negative."""
    for seed in range(4):
        one = case(kind, seed)
        quiet = (one.inputs != 0).astype(np.int64) if seed % 2 else one.inputs
        both = np.concatenate([quiet, loud(one, np.random.default_rng(seed))])
        alone, beside = run(simulate, one, inputs=quiet), run(simulate, one, inputs=both)
        assert same(alone.counts, beside.counts[:SAMPLES]), f"seed {seed}"
        for name in everything(one.network)[1:]:
            mine, theirs = getattr(alone, name), getattr(beside, name)
            for i in mine.populations:
                assert same(mine[i], theirs[i][:SAMPLES]), f"seed {seed}: {name}.{i}"


@every_kind
def test_engine_in_small_pieces(
    kind: Callable[[Rng], Case], monkeypatch: pytest.MonkeyPatch
) -> None:
    """One sample and four steps at a time, rows shared among threads."""
    monkeypatch.setattr(engine, "SCRATCH", 1)
    monkeypatch.setattr(engine, "SPLIT", 1)
    monkeypatch.setattr(engine, "ALONE", 0)
    for seed in range(3):
        one = case(kind, seed)
        for x in (one.inputs, one.inputs[:1]):
            found = run(engine.simulate, one, inputs=x, threads=3)
            expected = run(reference.simulate, one, inputs=x)
            assert difference(one.network, found, expected) is None, f"seed {seed}"


@every_simulator
@every_kind
def test_time_beyond_the_input_is_silent(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    one = case(kind, 3)
    if one.inputs.ndim == 1 + len(one.network.input_shape):
        pytest.skip("constant in time")
    steps = one.inputs.shape[1]
    padded = np.concatenate([one.inputs, np.zeros_like(one.inputs[:, :3])], axis=1)
    longer = run(simulate, one, steps=steps + 3)
    assert difference(one.network, longer, run(simulate, one, inputs=padded, steps=None)) is None
    cut = run(simulate, one, inputs=one.inputs[:, : steps - 4], steps=None)
    assert difference(one.network, run(simulate, one, steps=steps - 4), cut) is None


@every_simulator
@every_kind
def test_a_held_input_is_the_same_in_every_step(
    kind: Callable[[Rng], Case], simulate: Simulate
) -> None:
    one = case(kind, 4)
    first = one.network.layers[0]
    if isinstance(first, Input) and isinstance(first.neuron, CubaLIF):
        pytest.skip("a held input is the bias of Input neurons")
    axes = len(one.network.input_shape)
    held = one.inputs if one.inputs.ndim == 1 + axes else one.inputs[:, 0]
    again = np.repeat(held[:, None], 8, axis=1)
    found = run(simulate, one, inputs=held, steps=8)
    assert difference(one.network, found, run(simulate, one, inputs=again, steps=None)) is None


TYPES = (
    "int8",
    "uint8",
    "int16",
    "uint16",
    "int32",
    "uint32",
    "int64",
    "uint64",
    "float32",
    "float64",
)


@every_simulator
@every_kind
def test_the_type_of_the_input_does_not_matter(
    kind: Callable[[Rng], Case], simulate: Simulate
) -> None:
    one = case(kind, 5)
    highs = {"bool": 1, "float16": 99, **dict.fromkeys(TYPES, 99)}
    for name, high in highs.items():
        x = np.abs(one.inputs) % (high + 1)
        if np.dtype(name).kind in "if":
            x *= np.where(np.indices(x.shape).sum(axis=0) % 3, 1, -1)
        arguments = {"message_bits": None} if "message_bits" in one.arguments else {}
        expected = run(reference.simulate, one, inputs=x, **arguments)
        found = run(simulate, one, inputs=x.astype(name), **arguments)
        assert difference(one.network, found, expected) is None, name


@every_simulator
@every_kind
def test_the_layout_of_the_input_does_not_matter(
    kind: Callable[[Rng], Case], simulate: Simulate
) -> None:
    one = case(kind, 6)
    expected = run(simulate, one)
    x = one.inputs
    wide = np.zeros(
        (*x.shape[:-1], 2 * x.shape[-1]), np.int16 if np.abs(x).max() < 1 << 15 else np.int32
    )
    wide[..., ::2] = x
    frozen = x.copy()
    frozen.flags.writeable = False
    backwards = np.ascontiguousarray(x[::-1])[::-1]
    swapped = np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1)
    layouts = {
        "every other": wide[..., ::2],
        "Fortran": np.asfortranarray(x),
        "read-only": frozen,
        "backwards": backwards,
        "time first": swapped,
        "big-endian": x.astype(">i4"),
        "lists": x.tolist(),
    }
    for name, layout in layouts.items():
        assert difference(one.network, run(simulate, one, inputs=layout), expected) is None, name
    broadcast = np.broadcast_to(x[:1], x.shape)
    copied = run(simulate, one, inputs=broadcast.copy())
    assert difference(one.network, run(simulate, one, inputs=broadcast), copied) is None


@every_simulator
@every_kind
def test_no_samples(kind: Callable[[Rng], Case], simulate: Simulate) -> None:
    one = case(kind, 7)
    trace = run(simulate, one, inputs=one.inputs[:0])
    assert trace.counts.shape == (0, *one.network.output_shape)
    steps = run(simulate, one).spikes[0].shape[1]
    for p in one.network.populations:
        assert trace.spikes[p.index].shape == (0, steps, *p.shape)
    assert trace.overflow == tuple(Overflow() for _ in one.network.populations)


@pytest.mark.lava
def test_no_samples_on_lava(lava: Simulate) -> None:
    one = case(input_bias, 0)
    trace = run(lava, one, inputs=one.inputs[:0])
    assert trace.counts.shape == (0, 3)
    assert trace.u[0].shape == (0, 13, *IMAGE)


@every_simulator
def test_nothing_is_changed_in_place(simulate: Simulate) -> None:
    for kind in KINDS:
        one = case(kind, 8)
        before, digest = one.inputs.copy(), Network(one.network.layers).digest
        first = run(simulate, one)
        assert np.array_equal(one.inputs, before)
        assert Network(one.network.layers).digest == digest
        assert difference(one.network, run(simulate, one), first) is None


@every_simulator
def test_threads_do_not_disturb_each_other(simulate: Simulate) -> None:
    """Different networks, and the same one on different inputs, all at once."""
    cases = [case(kind, seed) for seed in range(2) for kind in KINDS]
    cases += [Case(c.network, c.inputs[::-1].copy(), c.arguments) for c in cases]
    expected = [run(reference.simulate, one) for one in cases]
    with ThreadPoolExecutor(8) as pool:
        found = list(pool.map(lambda one: run(simulate, one), cases))
    for one, theirs, ours in zip(cases, found, expected, strict=True):
        assert difference(one.network, theirs, ours) is None


def in_a_child(name: str, seed: int) -> dict[str, str]:
    """What differs, kind by kind; a function of the module, so that it can be sent."""
    found = {}
    for kind in KINDS:
        one = case(kind, seed)
        expected = run(reference.simulate, one)
        found[kind.__name__] = difference(one.network, run(SIMULATORS[name], one), expected)
    return {kind: what for kind, what in found.items() if what}


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
@pytest.mark.parametrize("name", SIMULATORS)
def test_a_forked_child_computes_the_same(name: str) -> None:
    """As data loaders fork: after the parent has computed, with several threads."""
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(in_a_child, [name] * 2, range(2))) == [{}] * 2
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12: fork beside threads
        with multiprocessing.get_context("fork").Pool(2) as children:
            found = children.starmap_async(in_a_child, [(name, seed) for seed in range(3)])
            assert found.get(timeout=120) == [{}] * 3


@every_simulator
def test_mistakes_are_refused_alike(simulate: Simulate) -> None:
    one = case(dense, 0)
    for changed, message in (
        ({"record": "w"}, 'cannot record "w"'),
        ({"record": "u.1"}, 'cannot record "u.1"'),
        ({"record": "residue"}, 'cannot record "residue"'),
        ({"reset_interval": 0}, "reset_interval = 0"),
        ({"reset_interval": 3, "reset_offset": -1}, "reset_offset = -1"),
        ({"steps": 0}, "steps = 0"),
        ({"inputs": one.inputs + 16, "message_bits": 4}, "enough message bits"),
        ({"message_bits": 26}, "message_bits = 26; give 0 for single spikes, up to 25"),
        ({"message_bits": -1}, "message_bits = -1"),
        ({"inputs": one.inputs + (1 << 24), "message_bits": 25}, "is outside"),
        ({"inputs": one.inputs + 0.5}, "is not an integer"),
        ({"inputs": one.inputs[..., 1:]}, "input has shape"),
    ):
        with pytest.raises(NetworkError, match=message):
            run(simulate, one, **changed)
