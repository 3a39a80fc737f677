"""From a case that fails to a small one that fails alike, and to a program that shows it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import MISSING, fields, is_dataclass
from dataclasses import replace as _replace
from typing import Any

import numpy as np

from ..hw_targets.network.layers import Conv, Dense, Flatten, Input, Layer
from ..hw_targets.network.network import Network
from ..hw_targets.network.neurons import NetworkError
from ._fuzz_networks import Array, Case

replace: Callable[..., Any] = _replace  # fields are named by what was found
SECONDS = 60
"""A case that is still large then stays so."""


def shrink(case: Case, fails: Callable[[Case], bool], seconds: float = SECONDS) -> Case:
    """The smallest case that greedy simplification finds, as long as it `fails`."""
    end = time.monotonic() + seconds
    simpler: Case | None = case
    while simpler is not None:
        case, simpler = simpler, None
        for candidate in _smaller(case):
            if time.monotonic() > end:
                return case
            if fails(candidate):
                simpler = candidate
                break
    return case


def _smaller(case: Case) -> Iterator[Case]:
    """Simpler cases, the greatest leaps first."""
    yield from _fewer_layers(case)
    yield from _less_input(case)
    for name, simple in (
        ("reset_interval", None),
        ("reset_offset", 0),
        ("message_bits", None),
        ("steps", None if not case.constant else case.timing.steps),
    ):
        if getattr(case.timing, name) != simple:
            yield replace(case, timing=replace(case.timing, **{name: simple}))
    for name, simple in (("threads", 1), ("scratch", 1)):
        if getattr(case, name) != simple:
            yield replace(case, **{name: simple})
    if case.network.recipe is not None:
        yield replace(case, network=Network(case.network.layers))
    layers = case.network.layers
    for i, layer in enumerate(layers):
        for simpler in _simpler_layers(layer):
            yield from _with_layers(case, [*layers[:i], simpler, *layers[i + 1 :]])
    yield from _narrower(case)


def _with_layers(case: Case, layers: list[Layer], inputs: Array | None = None) -> Iterator[Case]:
    try:
        network = Network(layers, case.network.recipe)
    except NetworkError:
        return
    inputs = case.inputs if inputs is None else inputs
    axes = len(network.input_shape)
    if inputs.shape[inputs.ndim - axes :] == network.input_shape:
        yield replace(case, network=network, inputs=inputs)


def _fewer_layers(case: Case) -> Iterator[Case]:
    layers = case.network.layers
    for end in range(1, len(layers)):
        yield from _with_layers(case, list(layers[:end]))
    for i in range(len(layers)):
        yield from _with_layers(case, [*layers[:i], *layers[i + 1 :]])


def _less_input(case: Case) -> Iterator[Case]:
    x = case.inputs
    if len(x) > 1:
        yield replace(case, inputs=x[: len(x) // 2])
        yield replace(case, inputs=x[len(x) // 2 :])
        yield replace(case, inputs=x[1:])
    if not case.constant and x.shape[1] > 1:
        half = x.shape[1] // 2
        for part in (x[:, :half], x[:, half:], x[:, :-1], x[:, 1:]):
            yield replace(case, inputs=part)
    for simple in _simpler_numbers(x):
        yield replace(case, inputs=simple)


def _simpler_numbers(x: Array) -> Iterator[Array]:
    """Nothing, halves of it, smaller numbers."""
    if not x.any():
        return
    yield np.zeros_like(x)
    places = np.flatnonzero(x)
    for part in np.array_split(places, min(len(places), 8)):
        fewer = x.copy()
        fewer.flat[part] = 0
        if len(places) > 1:
            yield fewer
    if x.dtype.kind != "b" and (np.abs(x.astype(np.int64)) > 1).any():
        yield (np.sign(x.astype(np.int64))).astype(x.dtype)
        yield (x.astype(np.int64) // 2).astype(x.dtype)


def _simpler_layers(layer: Layer) -> Iterator[Layer]:
    if isinstance(layer, Flatten):
        return
    if isinstance(layer, Input):
        if (layer.weight, layer.bias) != (None, None):
            yield replace(layer, weight=None, bias=None)
        yield from (replace(layer, neuron=n) for n in _simpler_neurons(layer.neuron))
        return
    for name in ("bias", "recurrent", "delay"):
        if getattr(layer, name, None) is not None:
            yield replace(layer, **{name: None})
    if isinstance(layer, Conv):
        for name, simple in (("stride", (1, 1)), ("padding", (0, 0)), ("dilation", (1, 1))):
            if getattr(layer, name) != simple:
                yield replace(layer, **{name: simple})
    for neuron in _simpler_neurons(layer.neuron):
        yield replace(layer, neuron=neuron)
    for name in ("weight", "recurrent", "bias", "imaginary"):
        value = getattr(layer, name, None)
        if value is not None:
            yield from (replace(layer, **{name: simple}) for simple in _simpler_numbers(value))


def _simpler_neurons(neuron: Any) -> Iterator[Any]:
    for f in fields(neuron) if neuron is not None else ():
        value = getattr(neuron, f.name)
        if isinstance(value, np.ndarray):
            yield replace(neuron, **{f.name: int(value.flat[0])})
        elif isinstance(value, int) and value not in (0, 1):
            for simple in (0, 1, value // 2):
                if f.name not in ("sin_decay",) or simple:
                    yield replace(neuron, **{f.name: simple})


def _narrower(case: Case) -> Iterator[Case]:
    """Half the inputs, or half the neurons, of dense layers."""
    layers = case.network.layers
    for i, layer in enumerate(layers):
        if not isinstance(layer, Dense) or (i and not isinstance(layers[i - 1], Dense | Input)):
            continue
        into = layer.weight.shape[1]
        for keep in _halves(into):
            before = list(layers[:i])
            inputs = case.inputs
            if not before or (isinstance(before[0], Input) and i == 1):
                inputs = inputs[..., keep]
            if before:
                before[-1] = _with_outputs(before[-1], keep)
            yield from _with_layers(
                case, [*before, _with_inputs(layer, keep), *layers[i + 1 :]], inputs
            )
    if isinstance(layers[-1], Dense):
        for keep in _halves(len(layers[-1].weight)):
            yield from _with_layers(case, [*layers[:-1], _with_outputs(layers[-1], keep)])


def _halves(n: int) -> Iterator[slice]:
    if n > 1:
        yield from (slice(0, n // 2), slice(n // 2, n))


def _with_inputs(layer: Dense, keep: slice) -> Any:
    out, into = layer.weight.shape
    changed: dict[str, Any] = {"weight": layer.weight[:, keep]}
    if layer.imaginary is not None:
        changed["imaginary"] = layer.imaginary[:, keep]
    if isinstance(layer.delay, np.ndarray) and layer.delay.shape in ((into,), (out, into)):
        changed["delay"] = layer.delay[..., keep]
    return replace(layer, **changed)


def _with_outputs(layer: Any, keep: slice) -> Any:
    """A dense layer, or a flat input, of fewer neurons."""
    size = layer.shape[0] if isinstance(layer, Input) else len(layer.weight)
    changed: dict[str, Any] = {}
    neuron = layer.neuron
    for f in fields(neuron) if neuron is not None else ():
        value = getattr(neuron, f.name)
        if isinstance(value, np.ndarray) and value.shape == (size,):
            neuron = replace(neuron, **{f.name: value[keep]})
    changed["neuron"] = neuron
    if isinstance(layer, Input):
        return replace(layer, shape=(len(range(size)[keep]),), **changed)
    for name in ("weight", "imaginary", "bias"):
        if getattr(layer, name) is not None:
            changed[name] = getattr(layer, name)[keep]
    if layer.recurrent is not None:
        changed["recurrent"] = layer.recurrent[keep, keep]
    if isinstance(layer.delay, np.ndarray) and layer.delay.shape[0] == size:
        changed["delay"] = layer.delay[keep]
    return replace(layer, **changed)


# -- the program ----------------------------------------------------------------------------------


def program(case: Case, check: str, says: str, seed: int) -> str:
    """Python that runs the check on the case again, and fails as long as it fails."""
    return f'''"""The check "{check}" fails: {says}

Found by `python -m spikeship.benchmarks.fuzz networks` with seed {seed} and made smaller.
"""

import numpy as np

from spikeship.benchmarks._fuzz_checks import CHECKS
from spikeship.benchmarks._fuzz_networks import Case
from spikeship.hw_targets import (  # noqa: F401
    Coding, Conv, CubaLIF, Delta, Dense, Flatten, Input, Network, Recipe, ResonateFire, Sigma, SigmaDelta,
    Timing,
)

case = {code(case)}
failure = CHECKS["{check}"].check(case)
assert failure is None, failure
'''


def code(value: Any) -> str:
    """Python that makes a value again: dataclasses without fields at their default, arrays, texts."""
    if isinstance(value, Network):
        recipe = "" if value.recipe is None else f", {code(value.recipe)}"
        return f"Network([{', '.join(map(code, value.layers))}]{recipe})"
    if is_dataclass(value):
        given = [
            f"{f.name}={code(getattr(value, f.name))}"
            for f in fields(value)
            if f.default is MISSING or not np.array_equal(getattr(value, f.name), f.default)
        ]
        return f"{type(value).__name__}({', '.join(given)})"
    if isinstance(value, np.ndarray):
        return (
            f"np.array({value.tolist()}, np.{value.dtype if value.dtype.kind != 'b' else 'bool_'})"
        )
    return repr(dict(value)) if isinstance(value, Mapping) else repr(value)
