"""Random networks for the fuzzer: every kind that netx holds, parameters at their ends, odd inputs.

A `Case` follows from one seed alone. Sizes are small, as faults show in small networks and the reference
takes a step at a time; a few are as large as people use, and a few run until states reach their ends.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

from ..hw_targets.network import arithmetic
from ..hw_targets.network.coding import Coding
from ..hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer
from ..hw_targets.network.network import Network
from ..hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    NetworkError,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from ..hw_targets.network.recipe import Recipe
from ..hw_targets.network.timing import AS_INPUT, Timing

Array: TypeAlias = NDArray[Any]
Rng: TypeAlias = np.random.Generator
Shape: TypeAlias = tuple[int, ...]


@dataclass(frozen=True, eq=False)
class Case:
    """A network, an input, and how they run.

    `inputs`: integers (sample, time, *input shape), or without time where they are constant.
    `scratch`: bytes of messages that a thread of the engine keeps, which decides how samples and
    steps are cut; `threads`: of the engine.
    """

    network: Network
    inputs: Array
    timing: Timing = AS_INPUT
    threads: int = 1
    scratch: int = 1

    @property
    def constant(self) -> bool:
        return self.inputs.ndim == 1 + len(self.network.input_shape)


def draw(seed: int) -> Case:
    """The case of a seed. Parts that do not fit together are drawn again."""
    rng = np.random.default_rng([seed, 0x5E7])
    while True:
        try:
            network = Network(_layers(rng), _recipe(rng))
        except NetworkError:
            continue
        return _case(rng, network)


EDGES = (128, 129, 130, 512, 516, 517)
"""Widths whose sums of the largest weights are about 2^15 and 2^17, where the engine changes its ways."""


def pick(rng: Rng, *choices: Any) -> Any:
    return choices[int(rng.integers(len(choices)))]


# -- layers ---------------------------------------------------------------------------------------


def _layers(rng: Rng) -> list[Layer]:
    large = rng.random() < 0.02
    side = 14 if large else 6
    image = rng.random() < 0.4
    shape: Shape = (
        (int(rng.integers(1, 5)), *map(int, rng.integers(1, side, 2)))
        if image
        else (int(pick(rng, rng.integers(1, 400), *EDGES) if large else rng.integers(1, 9)),)
    )
    exponent = int(pick(rng, 0, 6, 6, 7, rng.integers(8)))
    layers: list[Layer] = []
    if image or rng.random() < 0.4:
        layers.append(_input(rng, shape, exponent))
    for _ in range(int(rng.integers(1, 5))):
        if len(shape) == 3 and rng.random() < 0.7:
            layers.append(_conv(rng, shape, exponent))
        else:
            if len(shape) == 3:
                layers.append(Flatten())
                shape = (int(np.prod(shape)),)
            layers.append(_dense(rng, shape[0], exponent, int(rng.integers(1, 90 if large else 7))))
        chain = layers if isinstance(layers[0], Input) else [Input(_width(layers[0])), *layers]
        shape = Network(chain).output_shape
    return layers


def _width(first: Layer) -> Shape:
    assert isinstance(first, Dense)
    return (first.weight.shape[1],)


def _input(rng: Rng, shape: Shape, exponent: int) -> Input:
    neuron = pick(rng, None, None, "cuba", "delta")
    transform = (int(rng.integers(-99, 99)), 5) if rng.random() < 0.1 else (None, None)
    if neuron == "cuba":
        return Input(shape, _cuba(rng, shape), *transform)
    return Input(shape, Delta(_threshold(rng), exponent) if neuron else None, *transform)


def _dense(rng: Rng, into: int, exponent: int, out: int) -> Dense:
    neuron = _neuron(rng, (out,), exponent, ("cuba", "cuba", "sd", "sigma", "rf", None))
    if isinstance(neuron, ResonateFire):
        return Dense(_weights(rng, out, into), None, neuron, imaginary=_weights(rng, out, into))
    bias = None if isinstance(neuron, Sigma) else _bias(rng, (out,), (out,))
    extra: dict[str, Any] = {}
    kind = rng.random()
    if kind < 0.25:
        extra["recurrent"] = _weights(rng, out, out)
        if isinstance(neuron, CubaLIF) and rng.random() < 0.3:  # fires though nothing arrives
            i_decay, v_decay = int(rng.integers(1, 200)), int(pick(rng, 4096, 4095, 2048))
            neuron, bias = CubaLIF(i_decay, v_decay, 0), np.ones(out, np.int64)
    elif kind < 0.5:
        shape = pick(rng, (), (out,), (into,), (out, into))
        extra["delay"] = rng.integers(0, pick(rng, 1, 3, 8, 63), shape)
    return Dense(_weights(rng, out, into), bias, neuron, **extra)


def _conv(rng: Rng, shape: Shape, exponent: int) -> Conv:
    channels = shape[0]
    groups = int(pick(rng, 1, 1, channels))
    out = groups * int(rng.integers(1, 5))
    kernel, stride, padding, dilation = (
        tuple(map(int, rng.integers(low, high, 2)))
        for low, high in ((1, 4), (1, 4), (0, 3), (1, 3))
    )
    weight = _weights(rng, out, channels // groups, *kernel)
    options = {"stride": stride, "padding": padding, "dilation": dilation, "groups": groups}
    plain = Conv(weight, None, Sigma(), **options)  # type: ignore[arg-type]
    made = Network([Input(shape), plain]).output_shape
    neuron = _neuron(rng, made, exponent, ("cuba", "cuba", "sd", "sigma"))
    bias = None if isinstance(neuron, Sigma) else _bias(rng, made[:1], made)
    return Conv(weight, bias, neuron, **options)  # type: ignore[arg-type]


STYLES = [
    "any",
    "small",
    "small",
    "positive",
    "negative",
    "even",
    "power",
    "few",
    "ends",
    "zero",
    "same",
]
"""What the weights of a drawn layer may look like."""


def _weights(rng: Rng, *shape: int) -> Array:
    style = str(rng.choice(STYLES))
    if style == "power":
        powers: Array = pick(rng, -1, 1, 1) * (1 << rng.integers(0, 8, shape))
        return powers
    if style == "ends":
        return rng.choice([-256, -1, 0, 254], shape)
    if style == "same":
        return np.full(shape, pick(rng, -256, -128, 127, 254, 254))
    low, high = {"small": (-9, 9), "positive": (0, 254), "negative": (-256, 0), "zero": (0, 0)}.get(
        style, (-256, 254)
    )
    array: Array = rng.integers(low, high, shape, endpoint=True)
    if style == "even":
        array = array // 4 * 4
    if style == "few":
        array = array * (rng.random(shape) < 0.3)
    return array


def _bias(rng: Rng, *shapes: Shape) -> Array | None:
    if rng.random() < 0.4:
        return None
    if rng.random() < 0.2:
        return np.full(pick(rng, *shapes), pick(rng, arithmetic.BIAS_MIN, 1, arithmetic.BIAS_MAX))
    limit = pick(rng, 5, 300, arithmetic.BIAS_MAX)
    array: Array = rng.integers(-limit, limit, pick(rng, *shapes), endpoint=True)
    return array


# -- neurons --------------------------------------------------------------------------------------


def _neuron(rng: Rng, shape: Shape, exponent: int, kinds: tuple[str | None, ...]) -> Any:
    makers: dict[str | None, Callable[[], Any]] = {
        None: lambda: None,
        "cuba": lambda: _cuba(rng, shape),
        "sd": lambda: SigmaDelta(_threshold(rng), exponent),
        "sigma": Sigma,
        "rf": lambda: _resonator(rng),
    }
    return makers[pick(rng, *kinds)]()


def _cuba(rng: Rng, shape: Shape) -> CubaLIF:
    def parameter(*choices: int) -> Any:
        size = pick(rng, None, None, shape[:1], shape)
        return int(rng.choice(choices)) if size is None else rng.choice(choices, size)

    decays = (0, 1, 4095, 4096, int(rng.integers(4097)), int(rng.integers(4097)))
    high = pick(rng, 30, 900, 20_000, 131_072)
    thresholds = (0, 1, *map(int, rng.integers(0, high, 3)), high - 1)
    kind = pick(rng, "CUBA", "CUBA", "LOIHI")
    return CubaLIF(parameter(*decays), parameter(*decays), parameter(*thresholds), kind)


def _threshold(rng: Rng) -> int:
    return int(pick(rng, 0, 1, rng.integers(60), rng.integers(5000), rng.integers(131_072)))


def _resonator(rng: Rng) -> ResonateFire:
    sin, cos = int(pick(rng, 1, 4095, rng.integers(1, 4096))), int(rng.integers(4096))
    return ResonateFire(sin, cos, _threshold(rng), pick(rng, "RF_PHASE", "RF_IZHIKEVICH"))


# -- inputs and options ---------------------------------------------------------------------------


def _recipe(rng: Rng) -> Recipe | None:
    if rng.random() < 0.7:
        return None
    steps = int(rng.integers(1, 9))
    levels, bits = int(pick(rng, 1, 16)), int(pick(rng, 0, 8, 25))
    interval, sigma = pick(rng, None, steps), float(pick(rng, 0.0, 0.1))
    coding = Coding("rsc1" if sigma else "direct", steps, levels, sigma, bits)
    return Recipe(coding, reset_interval=interval, provenance={"made": "by the fuzzer"})


def _case(rng: Rng, network: Network) -> Case:
    first = network.layers[0]
    driven = isinstance(first, Input) and first.neuron is not None
    bits = pick(rng, None, None, 0, 1, 4, 8, 16, 24, 25)
    limit = min(1 << (bits or 24), 1 << 24) - 1
    if driven:
        limit = (1 << 24) - 1
    samples, time = int(rng.integers(1, 5)), int(rng.integers(1, 14))
    if rng.random() < 0.1:  # long enough for slow states to reach their ends
        samples, time = 1, int(rng.integers(14, 80))
    constant = rng.random() < 0.1
    shape = (samples, *(() if constant else (time,)), *network.input_shape)
    if constant and driven and isinstance(first, Input) and isinstance(first.neuron, CubaLIF):
        limit = 4095
    values = _values(rng, shape, limit)
    steps = (
        time if constant else pick(rng, None, None, time + int(rng.integers(9)), time - time // 3)
    )
    interval = pick(rng, None, None, int(rng.integers(1, 9)))
    return Case(
        network,
        _typed(rng, values),
        Timing(steps, interval, int(rng.integers(0, 12)) if interval else 0, bits),
        threads=int(rng.integers(1, 4)),
        scratch=int(pick(rng, 1, 1, 900, 1 << 15, 2 << 20)),
    )


def _values(rng: Rng, shape: Shape, limit: int) -> Array:
    """Nothing, spikes, small, large or slow numbers; perhaps first quiet and then loud, of both signs."""
    if rng.random() < 0.08:
        return np.zeros(shape, np.int64)
    style = pick(rng, *["spikes", "spikes", "spikes", "small", "large", "slow"])
    if style == "spikes":
        spikes: Array = (rng.random(shape) < pick(rng, 0.02, 0.3, 0.7, 1.0)).astype(np.int64)
        return spikes
    top = min(limit, {"small": 9, "slow": 40, "large": int(pick(rng, 300, 1 << 16, limit))}[style])
    low = -top if rng.random() < 0.5 else 0
    values: Array = rng.integers(low, top, shape, endpoint=True)
    if style == "slow" and len(shape) > 1:
        values = np.clip(values.cumsum(axis=1), -limit, limit)
    if rng.random() < 0.4 and len(shape) > 1:
        until = int(rng.integers(shape[1] + 1))
        values[:, :until] = (rng.random(values[:, :until].shape) < 0.3).astype(np.int64)
    if rng.random() < 0.3:
        values[int(rng.integers(len(values)))] = 0
    kept: Array = values * (rng.random(shape) < pick(rng, 0.2, 1.0, 1.0))
    return kept


TYPES = ("bool", "int8", "uint8", "int16", "int32", "uint32", "int64", "float32", "float64")
"""Types of array that an input may have."""


def _typed(rng: Rng, values: Array) -> Array:
    typed: Array = values.astype(pick(rng, *(kind for kind in TYPES if fits(values, kind))))
    return typed


def fits(values: Array, kind: str) -> bool:
    """Whether a type holds these values."""
    return bool((values.astype(kind).astype(np.int64) == values).all())
