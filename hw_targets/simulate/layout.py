"""A layer as `kernels` wants it: positions first, rows of weights padded to whole vectors."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from functools import partial
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from ..network import arithmetic
from ..network.layers import Conv, Dense, Input
from ..network.network import Population
from ..network.neurons import (
    CubaLIF,
    Delta,
    IntArray,
    Integrator,
    Neuron,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from . import kernels

BAND = 8192
"""Neurons updated together: a band of rows about this long."""
MOST_OPTIONS = 64
"""So many `Options` are kept with a layer."""

Array = NDArray[Any]


class Row(NamedTuple):
    """The compiled row of `kernels` that runs some neurons, and its numbers.

    CUBA has decays and thresholds neuron by neuron; all other kinds have one number for all.
    """

    kind: int
    i_decay: int | IntArray = 0
    v_decay: int | IntArray = 0
    threshold_of_each: int | IntArray = 0
    bias_shift: int = 0
    shift: int = 0
    sin: int = 0
    cos: int = 0
    threshold: int = 0
    """already shifted"""


def _cuba(neuron: CubaLIF) -> Row:
    values = neuron.i_decay, neuron.v_decay, neuron.threshold
    return Row(kernels.CUBA, *values, bias_shift=arithmetic.STATE_SHIFT)


def _integrator(neuron: Integrator) -> Row:
    values = 0, arithmetic.DECAY_ONE, arithmetic.NEVER
    return Row(kernels.CUBA, *values, bias_shift=arithmetic.STATE_SHIFT)


def _sigma_delta(kind: int, neuron: Delta | SigmaDelta) -> Row:
    shift = neuron.spike_exp + arithmetic.STATE_SHIFT
    return Row(kind, bias_shift=shift, shift=shift, threshold=neuron.threshold << shift)


def _sigma(neuron: Sigma) -> Row:
    return Row(kernels.SIGMA)


def _resonator(neuron: ResonateFire) -> Row:
    kind = {"RF_PHASE": kernels.RF_PHASE, "RF_IZHIKEVICH": kernels.RF_IZHIKEVICH}[neuron.kind]
    threshold = neuron.threshold << arithmetic.STATE_SHIFT
    return Row(kind, **dict(zip(("sin", "cos"), neuron.decays, strict=True)), threshold=threshold)


ROWS: Mapping[type[Neuron], Callable[[Any], Row]] = {
    CubaLIF: _cuba,
    Integrator: _integrator,
    Delta: partial(_sigma_delta, kernels.DELTA),
    SigmaDelta: partial(_sigma_delta, kernels.SIGMA_DELTA),
    Sigma: _sigma,
    ResonateFire: _resonator,
}
"""The kinds that `kernels` has a compiled row for; layers of others run in the reference."""


class Layer:
    """A population in the layout of `kernels`; `row` is None where the reference has to run it."""

    def __init__(self, population: Population, before: tuple[int, ...]) -> None:
        """`before`: the shape of the layer before, as it is before any Flatten."""
        self.population = population
        layer, neuron = population.layer, population.neuron
        self.whole = True
        self.exponents = 0, 0
        self.delays = np.zeros((0, 0), np.int32)
        self.runs = np.zeros(0, np.int16)
        self.recurrent = np.zeros(0, np.int16)
        if isinstance(layer, Conv):
            self.geometry = _conv_geometry(layer, population)
            self.weights = _conv_weights(layer)
            channels, _, columns = population.input_shape
            if columns * channels**2 < 1 << 38:  # what `kernels` divides by a reciprocal
                self.runs = _conv_runs(layer)
            flat = layer.weight.reshape(len(layer.weight), -1)
            self.sums = Bounds(flat, flat)
        elif isinstance(layer, Dense):
            self._dense(layer, before)
        else:
            channels, rows, columns = _image(population.shape)
            sizes = rows, columns, channels
            self.geometry = kernels.Geometry(*sizes, *sizes, 1, 1, 1, 1, 0, 0, 1, 1, 1)
            self.weights = np.zeros(0, np.int16)
            self.sums = Bounds(np.zeros((1, 1), np.int64), np.zeros((1, 1), np.int64))
        channels, self.rows, columns = _image(population.shape)
        self.row_length = columns * channels
        self.known = np.zeros(self.rows, np.uint8)
        length = self.geometry.out_columns * self.geometry.out_channels
        self.everything = np.zeros(self.rows * length, np.int32)
        """the sums when all inputs spike; `kernels` fills it in where it is needed first"""
        self.band = min(self.rows, max(1, BAND // self.row_length))
        self.row = ROWS[type(neuron)](neuron) if type(neuron) in ROWS else None
        if self.row is not None:
            self._neurons(self.row, None if isinstance(layer, Input) else layer.bias)
        self._options: dict[tuple[int, bool, int, int, int], kernels.Options | None] = {}

    def options(
        self, planes: int, graded: bool, reach: int, interval: int, phase: int
    ) -> kernels.Options | None:
        """How `kernels` can run it on messages up to `reach` in size; None where it cannot be exact.

        `planes`, `graded`, and the reset's `interval` and `phase` as there.
        """
        how = planes, graded, reach, interval, phase
        if how not in self._options:
            if len(self._options) >= MOST_OPTIONS:
                self._options.clear()
            self._options[how] = self._options_of(*how)
        return self._options[how]

    def _options_of(
        self, planes: int, graded: bool, reach: int, interval: int, phase: int
    ) -> kernels.Options | None:
        row, layer = self.row, self.population.layer
        if row is None or not self.whole:
            return None
        direct, size = isinstance(layer, Input), reach if graded else 1
        bound = self.sums.graded * reach if graded else self.sums.spikes
        stored = self.sums.stored * size
        long = not direct and stored >= 1 << 31
        remembers = isinstance(layer, Dense) and (
            layer.recurrent is not None or layer.delays is not None
        )
        if long and (remembers or not graded or stored >= 1 << 62):
            return None
        return kernels.Options(
            kind=row.kind,
            direct=direct,
            planes=planes,
            graded=graded,
            short=not direct and not graded and bound < 1 << 15 and not self.delays.size,
            bounded=not direct and bound <= kernels.NARROW_SUM,
            long=long,
            wraps=isinstance(layer, Conv) and bound >= 1 << 23,
            exponents=self.exponents,
            recurrent=bool(self.recurrent.size),
            delayed=bool(self.delays.size),
            shift=row.shift,
            sin=row.sin,
            cos=row.cos,
            threshold=row.threshold,
            reset_interval=interval,
            reset_phase=phase,
            band=self.band,
        )

    def _dense(self, layer: Dense, before: tuple[int, ...]) -> None:
        out, into = layer.weight.shape
        own = back = imaginary = None
        if layer.recurrent is not None:
            stored, back = arithmetic.synapse_formats(layer.weight, layer.recurrent)
            own, mantissas = back.weight, np.hstack([stored.mantissa, back.mantissa])
            self.recurrent = _rows(own.T)
        else:
            stored = arithmetic.synapse_format(layer.weight)
            mantissas = stored.mantissa
        weight = stored.weight
        if layer.imaginary is not None:
            imaginary = arithmetic.synapse_format(layer.imaginary)
            weight = np.vstack([weight, imaginary.weight])
            mantissas = np.vstack([mantissas, imaginary.mantissa])
            out *= 2
        self.whole = all(part is None or part.whole for part in (stored, back, imaginary))
        exponents = (0 if part is None else max(part.shift, 0) for part in (stored, imaginary))
        self.exponents = next(exponents), next(exponents)
        self.weights = _rows(_by_position(weight.T, before))
        if layer.delays is not None and layer.delays.any():  # sums of 32 bits are the same without
            self.delays = np.array(_by_position(layer.delays.T, before), np.int32, order="C")
        self.geometry = kernels.Geometry(1, 1, into, 1, 1, out, 1, 1, 1, 1, 0, 0, 1, 1, 1)
        self.sums = Bounds(weight if own is None else np.hstack([weight, own]), mantissas)

    def _neurons(self, row: Row, bias: Any) -> None:
        i_decay, v_decay, threshold = map(
            self._spread, (row.i_decay, row.v_decay, row.threshold_of_each)
        )
        self.keep_u = arithmetic.DECAY_ONE - i_decay
        self.keep_v = arithmetic.DECAY_ONE - v_decay
        self.thresholds = threshold << arithmetic.STATE_SHIFT
        # parameters of all rows, or of one band where all rows are alike
        longest = max(len(self.keep_u), len(self.keep_v), len(self.thresholds))
        if longest > self.band * self.row_length:
            for name in ("keep_u", "keep_v", "thresholds"):
                array = getattr(self, name)
                setattr(self, name, np.resize(array, longest))
        self.bias = (self._spread(0 if bias is None else bias) << row.bias_shift)[None]

    def _spread(self, parameter: Any) -> NDArray[np.int32]:
        """A parameter in our order: of every neuron, or of one band where rows are alike."""
        channels, _, columns = _image(self.population.shape)
        array = np.asarray(parameter, np.int32)
        if array.ndim == 3:
            return np.ascontiguousarray(array.transpose(1, 2, 0)).ravel()
        if array.ndim == 0 or len(self.population.shape) == 3:
            return np.array(np.broadcast_to(array, (self.band, columns, channels))).ravel()
        return array.copy()


def _image(shape: tuple[int, ...]) -> tuple[int, int, int]:
    """(C, H, W) of a layer; a dense one is a single position."""
    return shape if len(shape) == 3 else (shape[0], 1, 1)


def _by_position(columns: Array, before: tuple[int, ...]) -> Array:
    """(in, out), the inputs in our order where they are a flattened (C, H, W)."""
    if len(before) != 3:
        return columns
    return columns.reshape(*before, -1).transpose(1, 2, 0, 3).reshape(columns.shape)


def _rows(columns: Array) -> NDArray[np.int16]:
    """(in, out) as rows padded to the lanes of a vector, flat."""
    into, out = columns.shape
    padded = np.zeros((into, -(-out // kernels.LANES) * kernels.LANES), np.int16)
    padded[:, :out] = columns
    return padded.ravel()


def _conv_weights(layer: Conv) -> NDArray[np.int16]:
    out, inside, ky, kx = layer.weight.shape
    by_group = layer.weight.reshape(layer.groups, out // layer.groups, inside, ky, kx)
    return _rows(by_group.transpose(0, 3, 4, 2, 1).reshape(-1, out // layer.groups))


def _conv_runs(layer: Conv) -> NDArray[np.int16]:
    """For each kernel row, place of a column in the stride, and channel: the weights of the output
    columns that it reaches, from left to right; empty where `kernels` cannot use them."""
    out, inside, ky, kx = layer.weight.shape
    if layer.groups > 1 or layer.dilation[1] > 1 or out % 4:
        return np.zeros(0, np.int16)
    stride = layer.stride[1]
    runs = np.zeros((ky, stride, inside, -(-kx // stride), out), np.int16)
    for phase in range(min(stride, kx)):
        taps = layer.weight[:, :, :, phase::stride][..., ::-1]
        runs[:, phase, :, : taps.shape[3]] = taps.transpose(2, 1, 3, 0)
    return runs.ravel()


def _conv_geometry(layer: Conv, population: Population) -> Any:
    channels, rows, columns = population.input_shape
    out_channels, out_rows, out_columns = population.shape
    kernel_y, kernel_x = layer.weight.shape[2:]
    return kernels.Geometry(
        rows,
        columns,
        channels,
        out_rows,
        out_columns,
        out_channels,
        kernel_y,
        kernel_x,
        *layer.stride,
        *layer.padding,
        *layer.dilation,
        layer.groups,
    )


class Bounds:
    """How large the sums of a layer can get, by its very weights."""

    def __init__(self, weight: Array, mantissa: Array) -> None:
        self.spikes = max(
            int(np.maximum(weight, 0).sum(axis=1).max()),
            int(np.maximum(-weight, 0).sum(axis=1).max()),
        )
        """largest sum of single spikes: all excitatory or all inhibitory inputs at once"""
        self.graded = int(np.abs(weight).sum(axis=1).max())
        """largest sum of messages up to 1 in size"""
        self.stored = int(np.abs(mantissa).sum(axis=1).max())
        """`graded` before Lava's weight exponent is taken off, where sums wrap at 32 bit"""
