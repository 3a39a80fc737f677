"""The compiled inner loops of `engine`: one function, `advance`, runs any layer for some steps.

Everything here is position-major: a layer of shape (C, H, W) is H rows of W positions of C channels
(a dense layer is one row of one position), so that the channels an event reaches lie side by side.
For every step the non-zero messages of the layer before become a sorted list of events. Where many
are near each other, each output position adds up the weight rows of the events in its receptive field,
in registers (`_sum_row`); where few are, each event adds its weights to all outputs it reaches, which
lie side by side (`_scatter`). Each band of output rows then goes through the neurons' equation
(`_cuba_row`, ...) while its sums are still in the cache.

numba compiles `advance` once per machine and keeps it on disk; it would not notice a change in another
file, so all kernels are in this one. Python's integers would make every operation 64 bits wide; `_add`,
`_mul`, ... keep 32 bits, so that a vector register holds twice as many.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

import numpy as np
from llvmlite import ir
from numba import njit, types
from numba.extending import intrinsic

_intrinsic: Callable[..., Any] = intrinsic  # untyped: the decorator changes the arguments
_compiled: Callable[..., Any] = njit(nogil=True, cache=True)
_inline: Callable[..., Any] = njit(nogil=True, cache=True, forceinline=True)

LANES = 32
"""Channels that are added at a time; rows of the weight matrix are padded to a multiple."""
CUBA, SIGMA_DELTA, DELTA, SIGMA, RF_PHASE, RF_IZHIKEVICH = range(6)
SPARSE = 3
"""Up to this many events per input row and output column, event by event is the faster way."""
SMALL_STATE = 1 << 19
"""Below this size, u and v times a decay of at most 4096 are still within 32 bits."""
NARROW_SUM = (1 << 17) - (1 << 14) - (1 << 12)
"""Sums up to this size, << 6, neither wrap a u nor clip a v of neurons whose u and v were small: with
bias, they stay below 2^23. Larger u and v they cannot take out of 32 bits."""


class Geometry(NamedTuple):
    """Sizes of a layer; a dense layer has rows = columns = 1 on both sides."""

    rows: int
    columns: int
    channels: int
    out_rows: int
    out_columns: int
    out_channels: int
    kernel_y: int
    kernel_x: int
    stride_y: int
    stride_x: int
    padding_y: int
    padding_x: int
    dilation_y: int
    dilation_x: int
    groups: int


class Options(NamedTuple):
    """How a layer runs: its kind of neurons, and what is known about its sums."""

    kind: int
    direct: bool
    """input neurons: the messages of the same step are the sums"""
    planes: int
    """single spikes in so many channels, one after another; 0: channels side by side"""
    graded: bool
    """messages carry integers: multiply"""
    short: bool
    """every partial sum is proven to fit 16 bits"""
    bounded: bool
    """every sum is proven to be at most NARROW_SUM"""
    long: bool
    """sums may exceed 32 bits, at which they wrap: they are taken in 64"""
    wraps: bool
    """a convolution whose sums may exceed 24 bits"""
    exponents: tuple[int, int]
    """of the stored weights, real and imaginary, which their sums have when they wrap at 32 bits"""
    recurrent: bool
    """its own messages, counted as single spikes, arrive a step later"""
    delayed: bool
    shift: int
    """sigma-delta: spike_exp + 6"""
    sin: int
    cos: int
    threshold: int
    """sigma-delta and resonators: the shifted threshold"""
    reset_interval: int
    """0: never"""
    reset_phase: int
    """forget before step t when t = reset_phase (mod reset_interval)"""
    band: int
    """rows whose sums are taken before their neurons are updated together"""


# -- machine operations -------------------------------------------------------------------------


def _int32(name: str) -> Any:
    """An LLVM integer instruction on two int32, without Python's widening to int64."""

    @_intrinsic
    def operation(typingctx: Any, a: Any, b: Any) -> Any:
        def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            return getattr(builder, name)(*args)

        return types.int32(types.int32, types.int32), codegen

    return operation


_add, _sub, _mul, _and, _or = (_int32(n) for n in ("add", "sub", "mul", "and_", "or_"))
_shl, _shr, _sar = (_int32(n) for n in ("shl", "lshr", "ashr"))


@_intrinsic
def _borrowed(typingctx: Any, array: Any) -> Any:
    """The same array without a share in its memory, which the caller keeps: slices of it count no
    references, which are atomic and would take longer than what is done with a short slice."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        proxy = context.make_array(signature.args[0])(context, builder, args[0])
        proxy.meminfo = ir.Constant(proxy.meminfo.type, None)
        proxy.parent = ir.Constant(proxy.parent.type, None)
        return proxy._getvalue()

    return array(array), codegen


@_intrinsic
def _trailing_zeros(typingctx: Any, x: Any) -> Any:
    """The number of zero bits below the lowest one of a uint64; 64 of 0."""

    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.cttz(args[0], ir.Constant(ir.IntType(1), 0))

    return types.int64(types.uint64), codegen


@_intrinsic
def _bit_count(typingctx: Any, x: Any) -> Any:
    def codegen(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        return builder.ctpop(args[0])

    return types.int64(types.uint64), codegen


@_intrinsic
def _ones(typingctx: Any, messages: Any, at: Any) -> Any:
    """A bit for each non-zero one of messages[at : at + 64], the first lowest."""
    bits = messages.dtype.bitwidth

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        wide = ir.VectorType(ir.IntType(bits), 64)
        loaded = b.load(b.bitcast(b.gep(data, [args[1]]), wide.as_pointer()), align=bits // 8)
        nonzero = b.icmp_signed("!=", loaded, ir.Constant(wide, None))
        return b.bitcast(nonzero, ir.IntType(64))

    return types.uint64(messages, types.intp), codegen


@_intrinsic
def _add_bits(typingctx: Any, acc: Any, at: Any, bits: Any) -> Any:
    """acc[at + i] += bit i of `bits`, for 64 of them."""
    width = acc.dtype.bitwidth

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        wide = ir.VectorType(ir.IntType(width), 64)
        target = b.bitcast(b.gep(data, [args[1]]), wide.as_pointer())
        ones = b.zext(b.bitcast(args[2], ir.VectorType(ir.IntType(1), 64)), wide)
        b.store(b.add(b.load(target, align=width // 8), ones), target, align=width // 8)
        return context.get_dummy_value()

    return types.void(acc, types.intp, types.uint64), codegen


@_intrinsic
def _add_lines(
    typingctx: Any,
    acc: Any,
    at: Any,
    values: Any,
    first: Any,
    stride: Any,
    bits: Any,
    start: Any,
    stop: Any,
) -> Any:
    """acc[at + i] += the sum of values[first + e * stride + i] where bit i of bits[e] is set.

    For 64 of them, and e from start to stop - 1, in vector registers meanwhile.
    """
    width = acc.dtype.bitwidth
    number = types.intp

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        def data(i: int) -> Any:
            return context.make_array(signature.args[i])(context, b, args[i]).data

        at, first, stride, start, stop = (args[i] for i in (1, 3, 4, 6, 7))
        accs, values, bits = data(0), data(2), data(5)
        index, wide = ir.IntType(64), ir.VectorType(ir.IntType(width), 64)
        target = b.bitcast(b.gep(accs, [at]), wide.as_pointer())
        before = b.load(target, align=width // 8)
        entry = b.block
        loop, done = b.append_basic_block("lines"), b.append_basic_block("lines.done")
        b.cbranch(b.icmp_signed("<", start, stop), loop, done)
        b.position_at_end(loop)
        e, total = b.phi(index), b.phi(wide)
        place = b.gep(values, [b.add(b.mul(e, stride), first)])
        added = b.load(b.bitcast(place, wide.as_pointer()), align=width // 8)
        where = b.bitcast(b.load(b.gep(bits, [e]), align=8), ir.VectorType(ir.IntType(1), 64))
        after = b.add(total, b.select(where, added, ir.Constant(wide, None)))
        following = b.add(e, ir.Constant(index, 1))
        e.add_incoming(start, entry)
        e.add_incoming(following, loop)
        total.add_incoming(before, entry)
        total.add_incoming(after, loop)
        b.cbranch(b.icmp_signed("<", following, stop), loop, done)
        b.position_at_end(done)
        result = b.phi(wide)
        result.add_incoming(before, entry)
        result.add_incoming(after, loop)
        b.store(result, target, align=width // 8)
        return context.get_dummy_value()

    return types.void(acc, number, acc, number, number, bits, number, number), codegen


@_intrinsic
def _sum_where(typingctx: Any, values: Any, at: Any, bits: Any) -> Any:
    """The sum of those of values[at : at + 64] whose bits are set, in 32 bits."""
    width = values.dtype.bitwidth

    def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
        data = context.make_array(signature.args[0])(context, b, args[0]).data
        stored, wide = (ir.VectorType(ir.IntType(w), 64) for w in (width, 32))
        loaded = b.load(b.bitcast(b.gep(data, [args[1]]), stored.as_pointer()), align=width // 8)
        where = b.bitcast(args[2], ir.VectorType(ir.IntType(1), 64))
        loaded = b.select(where, loaded, ir.Constant(stored, None))
        if width != 32:
            loaded = b.sext(loaded, wide)
        number = ir.FunctionType(ir.IntType(32), [wide])
        add = b.module.declare_intrinsic("llvm.vector.reduce.add.v64i32", (), number)
        return b.sext(b.call(add, [loaded]), ir.IntType(64))

    return types.int64(values, types.intp, types.uint64), codegen


def _everywhere(b: Any, value: Any, vector: Any) -> Any:
    """A vector with `value` in every lane."""
    empty = ir.Constant(vector, ir.Undefined)
    first = b.insert_element(empty, value, ir.Constant(ir.IntType(32), 0))
    zeros = ir.Constant(ir.VectorType(ir.IntType(32), vector.count), [0] * vector.count)
    return b.shuffle_vector(first, empty, zeros)


def _row_adder(lanes: int, graded: bool) -> Any:
    """acc[at : at + lanes] += sum of weight rows, kept in vector registers meanwhile.

    The row of event e starts at weights[first + events[e] * stride]; `graded` multiplies it by
    payload[e]. `acc` is int16 or int32, `weights` int16.
    """

    @_intrinsic
    def add_rows(
        typingctx: Any,
        acc: Any,
        at: Any,
        weights: Any,
        first: Any,
        stride: Any,
        events: Any,
        payload: Any,
        start: Any,
        stop: Any,
    ) -> Any:
        bits = acc.dtype.bitwidth
        number = types.intp
        signature = types.void(
            acc, number, weights, number, number, events, payload, number, number
        )

        def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
            def data(i: int) -> Any:
                return context.make_array(signature.args[i])(context, b, args[i]).data

            at, first, stride, start, stop = (args[i] for i in (1, 3, 4, 7, 8))
            accs, weights, events, payload = data(0), data(2), data(5), data(6)
            index = ir.IntType(64)
            wide = ir.VectorType(ir.IntType(bits), lanes)
            stored = ir.VectorType(ir.IntType(16), lanes)
            target = b.bitcast(b.gep(accs, [at]), wide.as_pointer())
            before = b.load(target, align=bits // 8)
            entry = b.block
            loop, done = b.append_basic_block("rows"), b.append_basic_block("rows.done")
            b.cbranch(b.icmp_signed("<", start, stop), loop, done)
            b.position_at_end(loop)
            e, total = b.phi(index), b.phi(wide)
            event = b.sext(b.load(b.gep(events, [e]), align=4), index)
            place = b.gep(weights, [b.add(b.mul(event, stride), first)])
            row = b.load(b.bitcast(place, stored.as_pointer()), align=2)
            if bits != 16:
                row = b.sext(row, wide)
            if graded:
                factor = b.load(b.gep(payload, [e]), align=4)
                if bits > 32:
                    factor = b.sext(factor, ir.IntType(bits))
                if bits < 32:  # never runs: 16-bit sums are of single spikes
                    factor = b.trunc(factor, ir.IntType(bits))
                row = b.mul(row, _everywhere(b, factor, wide))
            after = b.add(total, row)
            following = b.add(e, ir.Constant(index, 1))
            e.add_incoming(start, entry)
            e.add_incoming(following, loop)
            total.add_incoming(before, entry)
            total.add_incoming(after, loop)
            b.cbranch(b.icmp_signed("<", following, stop), loop, done)
            b.position_at_end(done)
            result = b.phi(wide)
            result.add_incoming(before, entry)
            result.add_incoming(after, loop)
            b.store(result, target, align=bits // 8)
            return context.get_dummy_value()

        return signature, codegen

    return add_rows


_add_32, _add_64, _add_256 = (_row_adder(lanes, graded=False) for lanes in (32, 64, 256))
_times_32, _times_128 = (_row_adder(lanes, graded=True) for lanes in (32, 128))


def _run_adder(lanes: int) -> Any:
    """acc[at : at + lanes] += factor * weights[first : first + lanes]."""

    @_intrinsic
    def add_run(typingctx: Any, acc: Any, at: Any, weights: Any, first: Any, factor: Any) -> Any:
        bits = acc.dtype.bitwidth

        def codegen(context: Any, b: Any, signature: Any, args: Any) -> Any:
            accs, weights = (
                context.make_array(signature.args[i])(context, b, args[i]).data for i in (0, 2)
            )
            wide = ir.VectorType(ir.IntType(bits), lanes)
            stored = ir.VectorType(ir.IntType(16), lanes)
            target = b.bitcast(b.gep(accs, [args[1]]), wide.as_pointer())
            row = b.load(b.bitcast(b.gep(weights, [args[3]]), stored.as_pointer()), align=2)
            if bits != 16:  # 16-bit sums are of single spikes
                row = b.mul(b.sext(row, wide), _everywhere(b, args[4], wide))
            b.store(b.add(b.load(target, align=bits // 8), row), target, align=bits // 8)
            return context.get_dummy_value()

        return types.void(acc, types.intp, weights, types.intp, types.int32), codegen

    return add_run


_run_4, _run_8, _run_16, _run_32, _run_64 = (_run_adder(lanes) for lanes in (4, 8, 16, 32, 64))


@_inline
def _first_bits(n: int) -> Any:
    return ~np.uint64(0) if n >= 64 else (np.uint64(1) << np.uint64(n)) - np.uint64(1)


# -- events and sums ----------------------------------------------------------------------------


@_compiled
def _find_spikes(messages: Any, size: int, silent: bool, events: Any) -> int:
    """Indices of the ones among `size` 0 / 1 bytes, padded with zeros to a multiple of 64, in order;
    or if `silent` of the zeros. Returns how many.

    `events` has room for 8 more than there can be.
    """
    n = 0
    flip = ~np.uint64(0) if silent else np.uint64(0)
    for at in range(0, size, 64):
        bits = (_ones(messages, at) ^ flip) & _first_bits(size - at)
        if bits == 0:
            continue
        count = _bit_count(bits)
        for k in range(8):  # mostly as many or fewer: some too many cost less than a wrong guess
            events[n + k] = at + _trailing_zeros(bits)
            bits &= bits - np.uint64(1)
        for k in range(8, count):
            events[n + k] = at + _trailing_zeros(bits)
            bits &= bits - np.uint64(1)
        n += count
    return n


@_compiled
def _find_in_planes(messages: Any, planes: int, size: int, silent: bool, events: Any) -> int:
    """`_find_spikes` for a few channels of `size` stored one after another, each of them padded."""
    n = 0
    padded = len(messages) // planes
    flip = ~np.uint64(0) if silent else np.uint64(0)
    for at in range(0, size, 64):
        bits = np.uint64(0)
        for c in range(planes):
            bits |= _ones(messages, c * padded + at) ^ flip
        bits &= _first_bits(size - at)
        while bits != 0:
            position = at + _trailing_zeros(bits)
            bits &= bits - np.uint64(1)
            for c in range(planes):  # written in any case, kept if it is one
                events[n] = position * planes + c
                n += (messages[c * padded + position] != 0) ^ silent
    return n


@_inline
def _find(messages: Any, planes: int, size: int, silent: bool, events: Any) -> Any:
    if planes > 0:
        return _find_in_planes(messages, planes, size, silent, events)
    return _find_spikes(messages, size, silent, events)


@_compiled
def _find_graded(messages: Any, events: Any, payload: Any) -> int:
    n = 0
    for j in range(len(messages)):
        if messages[j] != 0:
            events[n] = j
            payload[n] = messages[j]
            n += 1
    return n


@_compiled
def _index(events: Any, n: int, size: int, starts: Any, units: int) -> None:
    """starts[k] = first event of unit k, a run of `size` channels: one position and group."""
    if units == 1:
        starts[0], starts[1] = 0, n
        return
    starts[: units + 1] = 0
    for e in range(n):
        starts[np.uint32(events[e]) // np.uint32(size) + 1] += 1
    for k in range(units):
        starts[k + 1] += starts[k]


@_inline
def _add_rows(
    acc: Any,
    at: int,
    graded: bool,
    weights: Any,
    first: int,
    stride: int,
    events: Any,
    payload: Any,
    start: int,
    stop: int,
) -> None:
    """The weight rows of events start .. stop - 1, all `stride` output channels of them."""
    t = 0
    long = acc.itemsize == 8  # such sums are of graded messages
    if graded or long:
        while t + 128 <= stride and not long:
            _times_128(acc, at + t, weights, first + t, stride, events, payload, start, stop)
            t += 128
        while t < stride:
            _times_32(acc, at + t, weights, first + t, stride, events, payload, start, stop)
            t += 32
        return
    while t + 256 <= stride:
        _add_256(acc, at + t, weights, first + t, stride, events, payload, start, stop)
        t += 256
    while t + 64 <= stride:
        _add_64(acc, at + t, weights, first + t, stride, events, payload, start, stop)
        t += 64
    if t < stride:
        _add_32(acc, at + t, weights, first + t, stride, events, payload, start, stop)


@_inline
def _add_run(acc: Any, at: int, width: int, runs: Any, first: int, factor: Any) -> None:
    """`width` (a multiple of 4) neighbouring sums, exactly these: registers that overlapped with
    those of the next event would have to wait for them in the store buffer."""
    t = 0
    while t + 64 <= width:
        _run_64(acc, at + t, runs, first + t, factor)
        t += 64
    if t + 32 <= width:
        _run_32(acc, at + t, runs, first + t, factor)
        t += 32
    if t + 16 <= width:
        _run_16(acc, at + t, runs, first + t, factor)
        t += 16
    if t + 8 <= width:
        _run_8(acc, at + t, runs, first + t, factor)
        t += 8
    if t < width:
        _run_4(acc, at + t, runs, first + t, factor)


@_compiled
def _reach(g: Geometry, left: Any, phase: Any) -> None:
    """For each input column: the first output column it reaches, and its place in the stride."""
    for c in range(g.columns):
        f = (c + g.padding_x) % g.stride_x
        taps = (g.kernel_x - f + g.stride_x - 1) // g.stride_x
        phase[c], left[c] = f, (c + g.padding_x) // g.stride_x - taps + 1


@_compiled
def _index_rows(events: Any, n: int, g: Geometry, starts: Any, columns: Any) -> None:
    """columns[e] = column of event e; starts[y] = first event of row y."""
    row, low, size = 0, 0, g.columns * g.channels
    reciprocal = np.uint64((1 << 38) // g.channels + 1)  # exact while size * channels < 2^38
    starts[0] = 0
    for e in range(n):
        while events[e] >= low + size:
            row, low = row + 1, low + size
            starts[row] = e
        columns[e] = (np.uint64(events[e] - low) * reciprocal) >> np.uint64(38)
    starts[row + 1 : g.rows + 1] = n


@_compiled
def _sum_row(
    acc: Any,
    offset: int,
    y: int,
    g: Geometry,
    graded: bool,
    weights: Any,
    events: Any,
    payload: Any,
    starts: Any,
) -> None:
    """Add to acc[offset:] what the events bring to output row y, position by position.

    `weights` is (group, kernel y, kernel x, channel, padded output channel), flat. Without groups
    and dilation a kernel row meets one unbroken run of events.
    """
    inside, outside = g.channels // g.groups, g.out_channels // g.groups
    stride = (outside + LANES - 1) // LANES * LANES
    size = inside * stride
    merged = g.groups == 1 and g.dilation_x == 1
    pieces, width = (1, g.kernel_x) if merged else (g.kernel_x, 1)
    for ky in range(g.kernel_y):
        row = y * g.stride_y - g.padding_y + ky * g.dilation_y
        if row < 0 or row >= g.rows:
            continue
        units = row * g.columns * g.groups
        if starts[units] == starts[units + g.columns * g.groups]:
            continue
        for group in range(g.groups):
            taps = (group * g.kernel_y + ky) * g.kernel_x
            for piece in range(pieces):
                for parity in range(2):  # rows of weights are padded into the next position's sums
                    for x in range(parity, g.out_columns, 2):
                        left = x * g.stride_x + piece * g.dilation_x - g.padding_x
                        low = min(max(left, 0), g.columns)
                        high = max(min(left + width, g.columns), low)
                        unit = units + low * g.groups + group
                        start, stop = starts[unit], starts[unit + high - low]
                        if start < stop:
                            at = offset + (x * g.groups + group) * outside
                            first = (taps + piece + low - left - unit) * size
                            _add_rows(
                                acc,
                                at,
                                graded,
                                weights,
                                first,
                                stride,
                                events,
                                payload,
                                start,
                                stop,
                            )


@_compiled
def _scatter(
    acc: Any,
    top: int,
    bottom: int,
    g: Geometry,
    graded: bool,
    runs: Any,
    events: Any,
    payload: Any,
    starts: Any,
    columns: Any,
    left: Any,
    phase: Any,
    targets: Any,
    kernel_rows: Any,
) -> None:
    """Sums of rows top .. bottom - 1, event by event: better while few positions have any.

    The outputs that an event reaches in a row lie side by side. `runs` is (kernel y, phase, channel,
    output column and channel), flat: the weights in that order.
    """
    most = (g.kernel_x + g.stride_x - 1) // g.stride_x
    stride = most * g.out_channels
    factor = np.int32(1)
    lowest = max(0, top * g.stride_y - g.padding_y)
    highest = (bottom - 1) * g.stride_y - g.padding_y + (g.kernel_y - 1) * g.dilation_y
    for row in range(lowest, min(highest + 1, g.rows)):
        if starts[row] == starts[row + 1]:
            continue
        n = 0  # the output rows that this row reaches, and through which kernel row
        for ky in range(g.kernel_y):
            reached = row + g.padding_y - ky * g.dilation_y
            y = reached // g.stride_y
            if y * g.stride_y == reached and top <= y < bottom:
                targets[n] = (y - top) * g.out_columns * g.out_channels
                kernel_rows[n] = ky * g.stride_x * g.channels * stride
                n += 1
        base = row * g.columns * g.channels
        for e in range(starts[row], starts[row + 1]):
            c = columns[e]
            x = left[c]
            channel = events[e] - base - c * g.channels
            first = (phase[c] * g.channels + channel) * stride
            if graded:
                factor = payload[e]
            if x >= 0 and x + most <= g.out_columns:  # one width for all: no guessing
                at = x * g.out_channels
                for i in range(n):
                    _add_run(acc, targets[i] + at, stride, runs, kernel_rows[i] + first, factor)
                continue
            low, high = max(x, 0), min(x + most, g.out_columns)
            if low < high:
                at = low * g.out_channels
                first += (low - x) * g.out_channels
                width = (high - low) * g.out_channels
                for i in range(n):
                    _add_run(acc, targets[i] + at, width, runs, kernel_rows[i] + first, factor)


@_inline
def _sum_band(
    acc: Any,
    top: int,
    bottom: int,
    g: Geometry,
    graded: bool,
    sparse: bool,
    weights: Any,
    runs: Any,
    events: Any,
    payload: Any,
    starts: Any,
    places: Any,
    left: Any,
    phase: Any,
    targets: Any,
    kernel_rows: Any,
) -> None:
    """What the events bring to output rows top .. bottom - 1, in the way that suits their number."""
    length = g.out_columns * g.out_channels
    acc[: (bottom - top) * length] = 0
    if sparse:
        _scatter(
            acc,
            top,
            bottom,
            g,
            graded,
            runs,
            events,
            payload,
            starts,
            places,
            left,
            phase,
            targets,
            kernel_rows,
        )
    else:
        for y in range(top, bottom):
            offset = (y - top) * length
            _sum_row(acc, offset, y, g, graded, weights, events, payload, starts)


@_compiled
def _sum_everything(everything: Any, top: int, bottom: int, g: Geometry, weights: Any) -> None:
    """Fill in `everything`, rows top .. bottom - 1: the sums when all inputs spike."""
    units, inside = g.rows * g.columns * g.groups, g.channels // g.groups
    events = np.arange(units * inside).astype(np.int32)
    starts = (np.arange(units + 1) * inside).astype(np.int32)
    length = g.out_columns * g.out_channels
    sums = np.empty(length + LANES, np.int32)
    for y in range(top, bottom):
        sums[:] = 0
        _sum_row(sums, 0, y, g, False, weights, events, events, starts)
        everything[y * length : (y + 1) * length] = sums[:length]


@_compiled
def _rest(acc: Any, n: int, everything: Any) -> None:
    """What the inputs that spike bring, from what the silent ones would bring."""
    for j in range(n):
        acc[j] = _sub(everything[j], np.int32(acc[j]))


@_compiled
def _deliver_delayed(
    ring: Any, t: int, weights: Any, delays: Any, events: Any, payload: Any, n: int, graded: bool
) -> None:
    """Put the events into the slots of the steps in which their delays end."""
    out = ring.shape[1]
    stride = (out + LANES - 1) // LANES * LANES
    for e in range(n):
        first = events[e] * stride
        factor = payload[e] if graded else np.int32(1)
        for j in range(out):
            slot = (t + delays[events[e], j]) & 63
            ring[slot, j] = _add(ring[slot, j], _mul(np.int32(weights[first + j]), factor))


@_compiled
def _wrap(long: Any, first: int, last: int, exponent: int, sums: Any) -> int:
    """Sums first .. last - 1 as `arithmetic.wrap32` leaves them; returns how many wrapped."""
    wraps = 0
    for j in range(first, last):
        exact = long[j] << exponent
        wrapped = np.int64(np.int32(exact))
        wraps += wrapped != exact
        sums[j] = wrapped >> exponent
    return wraps


@_compiled
def _wrap_convolved(long: Any, n: int, sums: Any) -> int:
    """The first n sums as `arithmetic.convolved` leaves them; returns how many wrapped."""
    wraps = 0
    for j in range(n):
        whole = -(1 << 31) <= long[j] < 1 << 31
        wrapped = ((long[j] + (1 << 23)) & ((1 << 24) - 1)) - (1 << 23) if whole else 0
        wraps += wrapped != long[j]
        sums[j] = wrapped
    return wraps


@_compiled
def _wrap24(acc: Any, n: int) -> int:
    wraps = 0
    for j in range(n):
        wrapped = _sar(_shl(acc[j], np.int32(8)), np.int32(8))
        wraps += wrapped != acc[j]
        acc[j] = wrapped
    return wraps


# -- neurons, one row at a time -----------------------------------------------------------------


@_inline
def _decayed(x: Any, keep: Any) -> Any:
    """x * keep / 4096 rounded toward zero in 32 bits, exact for |x| <= 2^24 and keep <= 4096."""
    high = _mul(_sar(x, np.int32(12)), keep)
    low = _mul(_and(x, np.int32(4095)), keep)
    return _add(high, _shr(_add(low, _upward(x)), np.int32(12)))


@_inline
def _decayed_small(x: Any, keep: Any) -> Any:
    """The same for |x| <= SMALL_STATE."""
    return _sar(_add(_mul(x, keep), _upward(x)), np.int32(12))


@_inline
def _upward(x: Any) -> Any:
    """What makes the floor of 4096ths the ceiling where x is negative."""
    return _shr(_sar(x, np.int32(31)), np.int32(20))


@_compiled
def _count_active(n: int, u: Any, v: Any, third: Any, sent: Any, active: Any) -> None:
    """Add 1 to `active` of neurons that have a state that is not zero, or sent."""
    whole = n // 64 * 64
    for at in range(0, whole, 64):
        _add_bits(active, at, _ones(u, at) | _ones(v, at) | _ones(third, at) | _ones(sent, at))
    for j in range(whole, n):
        active[j] += np.uint8((u[j] | v[j] | third[j] | np.int32(sent[j])) != 0)


@_inline
def _wrapped32(x: Any) -> Any:
    return np.int64(np.int32(x))


@_inline
def _scaled(x: Any, by: Any) -> Any:
    product = np.int64(x) * np.int64(by)
    return -((-product) >> 12) if product < 0 else product >> 12


@_compiled
def _wide_cuba_row(
    acc: Any, n: int, u: Any, v: Any, keep_u: Any, keep_v: Any, bias: Any, threshold: Any, out: Any
) -> tuple[int, int]:
    """`CubaLIF` for any sum, as the reference does it in 64 bits."""
    limit = 1 << 23
    wraps, clips = 0, 0
    for j in range(n):
        exact_u = _scaled(u[j], keep_u[j]) + (np.int64(acc[j]) << 6)
        new_u = _wrapped32(exact_u)
        if new_u > limit:
            new_u -= 2 * limit
        if new_u <= -limit:
            new_u += 2 * limit
        new_u = _wrapped32(new_u)
        wraps += new_u != exact_u
        exact_v = _scaled(v[j], keep_v[j]) + new_u + bias[j]
        new_v = min(max(_wrapped32(exact_v), -limit + 1), limit - 1)
        clips += new_v != exact_v
        spike = new_v > threshold[j]
        u[j] = new_u
        v[j] = 0 if spike else new_v
        out[j] = spike
    return wraps, clips


@_compiled
def _fits(acc: Any, n: int, u: Any) -> Any:
    """Whether `_cuba_row` is exact for these sums and currents."""
    largest = np.int32(0)
    for j in range(n):
        a = np.int32(acc[j])
        largest = max(largest, a, -a)
    if largest > NARROW_SUM:
        return False
    for j in range(n):
        largest = max(largest, u[j], -u[j])
    return largest <= 1 << 23


@_inline
def _is_large(seen: Any) -> Any:
    """Whether one of some states x was not within +-SMALL_STATE; `seen`: all x + SMALL_STATE, or-ed."""
    return _shr(seen, np.int32(20)) != 0


def _cuba(counted: bool) -> Any:
    """`CubaLIF` in the fastest way that is exact; returns (u wraps, v clips, whether states are large).

    If `counted`, busy[j] += 1 where a state is not zero after the step, or the neuron fired.
    """

    @_compiled
    def small_row(
        acc: Any,
        n: int,
        u: Any,
        v: Any,
        keep_u: Any,
        keep_v: Any,
        bias: Any,
        threshold: Any,
        out: Any,
        busy: Any,
    ) -> Any:
        """Where nothing can wrap or clip: for u and v below SMALL_STATE."""
        seen, shift = np.int32(0), np.int32(SMALL_STATE)
        for j in range(n):
            new_u = _add(_decayed_small(u[j], keep_u[j]), _shl(np.int32(acc[j]), np.int32(6)))
            new_v = _add(_add(_decayed_small(v[j], keep_v[j]), new_u), bias[j])
            spike = new_v > threshold[j]
            kept = np.int32(0) if spike else new_v
            u[j] = new_u
            v[j] = kept
            out[j] = spike
            seen = _or(seen, _or(_add(new_u, shift), _add(kept, shift)))
            if counted:
                busy[j] += np.uint8(spike | ((new_u | new_v) != 0))
        return _is_large(seen)

    @_compiled
    def row(
        acc: Any,
        n: int,
        u: Any,
        v: Any,
        keep_u: Any,
        keep_v: Any,
        bias: Any,
        threshold: Any,
        out: Any,
        busy: Any,
    ) -> Any:
        """For any u and v, in 32 bits."""
        limit, turn, most = np.int32(1 << 23), np.int32(1 << 24), np.int32((1 << 23) - 1)
        wraps, clips = np.int32(0), np.int32(0)
        seen, shift = np.int32(0), np.int32(SMALL_STATE)
        for j in range(n):
            new_u = _add(_decayed(u[j], keep_u[j]), _shl(np.int32(acc[j]), np.int32(6)))
            over, under = new_u > limit, new_u <= -limit
            new_u = _sub(new_u, turn) if over else new_u
            new_u = _add(new_u, turn) if under else new_u
            wraps = _add(wraps, np.int32(over | under))
            exact = _add(_add(_decayed(v[j], keep_v[j]), new_u), bias[j])
            new_v = most if exact > most else exact
            new_v = -most if new_v < -most else new_v
            clips = _add(clips, np.int32(new_v != exact))
            spike = new_v > threshold[j]
            kept = np.int32(0) if spike else new_v
            u[j] = new_u
            v[j] = kept
            out[j] = spike
            seen = _or(seen, _or(_add(new_u, shift), _add(kept, shift)))
            if counted:
                busy[j] += np.uint8(spike | ((new_u | new_v) != 0))
        return wraps, clips, _is_large(seen)

    @_inline
    def rows(
        o: Options,
        large: bool,
        short: Any,
        sums: Any,
        n: int,
        u: Any,
        v: Any,
        keep_u: Any,
        keep_v: Any,
        bias: Any,
        threshold: Any,
        out: Any,
        busy: Any,
    ) -> Any:
        wraps, clips = np.int64(0), np.int64(0)
        if o.short and not large:
            large = small_row(short, n, u, v, keep_u, keep_v, bias, threshold, out, busy)
        elif o.short:
            wraps, clips, large = row(short, n, u, v, keep_u, keep_v, bias, threshold, out, busy)
        elif not (o.bounded or _fits(sums, n, u)):
            wraps, clips = _wide_cuba_row(sums, n, u, v, keep_u, keep_v, bias, threshold, out)
            large = True
            if counted:
                _count_active(n, u, v, v, out, busy)
        elif large:
            wraps, clips, large = row(sums, n, u, v, keep_u, keep_v, bias, threshold, out, busy)
        else:
            large = small_row(sums, n, u, v, keep_u, keep_v, bias, threshold, out, busy)
        return wraps, clips, large

    return rows


_cuba_rows, _counted_cuba_rows = _cuba(counted=False), _cuba(counted=True)


@_compiled
def _sigma_delta_row(
    acc: Any,
    n: int,
    o: Options,
    sigma: Any,
    act: Any,
    residue: Any,
    bias: Any,
    out: Any,
) -> int:
    """`Delta`, `SigmaDelta` and `Sigma`; returns the number of 32-bit wraps."""
    wraps = 0
    for j in range(n):
        if o.kind == DELTA:
            exact = np.int64(acc[j]) << o.shift
            new = _wrapped32(exact)
            wraps += new != exact
        else:
            exact = np.int64(sigma[j]) + np.int64(acc[j])
            total = _wrapped32(exact)
            wraps += total != exact
            sigma[j] = total
            if o.kind == SIGMA:
                out[j] = total
                continue
            exact = total + bias[j]
            new = _wrapped32(exact)
            wraps += new != exact
            new = max(new, 0)
        exact = new - act[j]
        d = _wrapped32(exact)
        wraps += d != exact
        exact = d + residue[j]
        d = _wrapped32(exact)
        wraps += d != exact
        sent = d if (d >= o.threshold or (-d >= o.threshold and d != -(1 << 31))) else 0
        residue[j] = d - sent
        act[j] = new
        out[j] = sent >> 6
    return wraps


@_compiled
def _resonator_row(acc: Any, n: int, o: Options, real: Any, imag: Any, out: Any) -> tuple[int, int]:
    """`ResonateFire`; acc holds the n real sums, then the n imaginary ones. (sum wraps, clips)."""
    most = (1 << 23) - 1
    wraps, clips = 0, 0
    for j in range(n):
        exact_a, exact_b = np.int64(acc[j]) << 6, np.int64(acc[n + j]) << 6
        a, b = _wrapped32(exact_a), _wrapped32(exact_b)
        wraps += (a != exact_a) + (b != exact_b)
        exact_re = _scaled(real[j], o.cos) - _scaled(imag[j], o.sin) + a
        exact_im = _scaled(real[j], o.sin) + _scaled(imag[j], o.cos) + b
        re, im = min(max(exact_re, -most), most), min(max(exact_im, -most), most)
        clips += (re != exact_re) + (im != exact_im)
        if o.kind == RF_PHASE:
            spike = re >= o.threshold and im >= 0 and imag[j] < 0
        else:
            spike = im >= o.threshold
            if spike:
                re, im = 0, o.threshold - 1
        real[j], imag[j] = re, im
        out[j] = spike
    return wraps, clips


# -- counting -----------------------------------------------------------------------------------


@_compiled
def _flush(bytes_: Any, totals: Any) -> None:
    """Bring what was counted in bytes to its total."""
    for j in range(len(totals)):
        totals[j] = _add(totals[j], np.int32(bytes_[j]))
    bytes_[:] = 0


@_compiled
def tally(
    messages: Any,
    first: int,
    last: int,
    length: int,
    places: Any,
    synops: Any,
    bands: Any,
    depth: Any,
    segments: Any,
    ends: Any,
    owner: Any,
    cores: Any,
    rows: Any,
    reached_by_all: Any,
    sent: Any,
    spikes: Any,
    delivered: Any,
    arrived: Any,
) -> None:
    """Count the messages (sample, step, padded size) of steps first .. last - 1.

    They go as `counter.Lines` says. Adds to `sent` (64 elements, line, element), and at (sample,
    step - first, core) to the `spikes` sent there, the synops `delivered`, the messages `arrived`.
    """
    reached, size = synops.shape
    table = synops.ravel()
    padded, lines = messages.shape[2], len(places)
    room = (length + 63) // 64 * 64
    counts, sums = np.zeros(room + 64, np.int16), np.zeros(reached * room + 64, synops.dtype)
    ones, bits = np.ones(64, np.int16), np.empty(max(lines, room // 64 + 1), np.uint64)
    recent, waiting = np.zeros(len(sent) + 64, np.uint8), 0
    everywhere = len(reached_by_all)
    stride = (everywhere + LANES - 1) // LANES * LANES
    totals = np.zeros(stride, np.int32)
    events = np.empty(padded + 8 if everywhere > 0 else 0, np.int32)
    payload = np.empty(len(events), np.int32)
    for s in range(messages.shape[0]):
        for k in range(last - first):
            here = messages[s, first + k]
            if lines == 1:
                for g in range(len(owner)):
                    low, high = ends[g, 0], ends[g, 1]
                    count, blocks = 0, 0
                    for j in range(low, high, 64):
                        at = min(j, padded - 64)
                        bits[blocks] = _ones(here, at) >> np.uint64(j - at) & _first_bits(high - j)
                        _add_bits(recent, j, bits[blocks])
                        count += _bit_count(bits[blocks])
                        blocks += 1
                    if count == 0:
                        continue
                    if owner[g] >= 0:
                        spikes[s, k, owner[g]] += count
                    for r in range(reached):
                        core = cores[g, r]
                        if core < 0:
                            break
                        total = 0
                        for i in range(blocks):
                            total += _sum_where(table, r * size + low + 64 * i, bits[i])
                        arrived[s, k, core] += count
                        delivered[s, k, core] += total
            for b in range(len(bands) - 1 if lines > 1 else 0):
                top, bottom = bands[b], bands[b + 1]
                for j in range(0, length, 64):
                    inside = _first_bits(length - j)
                    for line in range(top, bottom):
                        at = min(places[line] + j, padded - 64)
                        there = _ones(here, at) >> np.uint64(places[line] + j - at) & inside
                        bits[line] = there
                        _add_bits(recent, j * lines + line * 64, there)
                    _add_lines(counts, j, ones, 0, 0, bits, top, bottom)
                    for r in range(depth[b, j // 64]):
                        start = r * size + j * lines
                        _add_lines(sums, r * room + j, table, start, 64, bits, top, bottom)
                for g in range(segments[b], segments[b + 1]):
                    low, high = ends[g, 0], ends[g, 1]
                    count = _total(counts, low, high)
                    if count == 0:
                        continue
                    if owner[g] >= 0:
                        spikes[s, k, owner[g]] += count
                    for r in range(reached):
                        core = cores[g, r]
                        if core < 0:
                            break
                        arrived[s, k, core] += count
                        delivered[s, k, core] += _total(sums, r * room + low, r * room + high)
                counts[:] = 0
                sums[:] = 0
            if everywhere > 0:
                count = _find_any(here, events, payload)
                totals[:] = 0
                _add_rows(totals, 0, False, rows, 0, stride, events, payload, 0, count)
                for i in range(everywhere):
                    arrived[s, k, reached_by_all[i]] += count
                    delivered[s, k, reached_by_all[i]] += totals[i]
            waiting += 1
            if waiting == 255:
                _flush(recent, sent)
                waiting = 0
    _flush(recent, sent)


@_compiled
def _find_any(messages: Any, events: Any, payload: Any) -> Any:
    if messages.itemsize == 1:
        return _find_spikes(messages, len(messages), False, events)
    return _find_graded(messages, events, payload)


@_compiled
def _total(values: Any, low: int, high: int) -> int:
    """The sum of values[low : high], of at most 2^24 each; 63 more are there to be read."""
    total = 0
    for at in range(low, high, 64):
        total += _sum_where(values, at, _first_bits(high - at))
    return total


# -- a layer ------------------------------------------------------------------------------------


@_compiled
def advance(
    g: Geometry,
    o: Options,
    first_row: int,
    last_row: int,
    first_step: int,
    steps: int,
    spikes_in: Any,
    graded_in: Any,
    weights: Any,
    runs: Any,
    everything: Any,
    known: Any,
    recurrent: Any,
    delays: Any,
    ring: Any,
    keep_u: Any,
    keep_v: Any,
    bias: Any,
    threshold: Any,
    state: Any,
    large: Any,
    spikes_out: Any,
    graded_out: Any,
    u_trace: Any,
    v_trace: Any,
    residue_trace: Any,
    active: Any,
    first_counted: int,
    last_counted: int,
    overflow: Any,
) -> None:
    """Run rows first_row .. last_row - 1 of a layer for `steps` steps, first_step being the first.

    Messages: (sample, steps + 1, padded size), int8 0 / 1 in `spikes_*` or int32 in `graded_*`, the
    other one empty; column 0 is the step before the first. `everything` (size of the sums): what they
    are when all inputs spike, which is filled in where needed and not yet `known` (row). `keep_*`,
    `threshold`: a band of rows, or all of them, flat and already shifted; `bias`: the same, (1 or
    sample, ...). `state`: (sample, 3, size). `large` (sample, row): 0 where all u and v of the band
    that begins with this row are below SMALL_STATE. `*_trace`: (sample, steps, size), empty where not
    wanted. `active` (size): in how many of the steps first_counted .. last_counted - 1 of these each
    neuron was. `overflow` counts (u wraps, v clips, sum wraps).
    """
    spikes_in, graded_in = _borrowed(spikes_in), _borrowed(graded_in)
    spikes_out, graded_out = _borrowed(spikes_out), _borrowed(graded_out)
    keep_u, keep_v, threshold = _borrowed(keep_u), _borrowed(keep_v), _borrowed(threshold)
    state, bias, ring = _borrowed(state), _borrowed(bias), _borrowed(ring)
    everything = _borrowed(everything)
    units, inside = g.rows * g.columns * g.groups, g.channels // g.groups
    inputs = units * inside
    plane = inputs // max(1, o.planes)
    starts = np.empty(units + 1, np.int32)
    events = np.empty(inputs + 8, np.int32)
    payload = np.empty(len(events) if o.graded else 1, np.int32)
    places = np.empty(len(events), np.int32)
    left, phase = np.empty(g.columns, np.int32), np.empty(g.columns, np.int32)
    _reach(g, left, phase)
    targets, kernel_rows = np.empty(g.kernel_y, np.int64), np.empty(g.kernel_y, np.int64)
    length = g.out_columns * g.out_channels
    resonator = o.kind == RF_PHASE or o.kind == RF_IZHIKEVICH
    neurons = length // 2 if resonator else length
    everywhere = g.out_rows * neurons
    own = Geometry(1, 1, length, 1, 1, length, 1, 1, 1, 1, 0, 0, 1, 1, 1)
    own_events = np.empty(length + 8 if o.recurrent else 1, np.int32)
    own_payload = np.empty(length if o.recurrent else 1, np.int32)
    own_starts = np.zeros(2, np.int32)
    short = np.empty(o.band * length + LANES if o.short else 1, np.int16)
    sums = np.empty(o.band * length + LANES, np.int32)
    long = np.empty(o.band * length + LANES if o.long else 1, np.int64)
    counted = (last_row - first_row) * neurons if last_counted > first_counted else 0
    recent, waiting = np.zeros(counted, np.uint8), 0
    turns = not (o.graded or o.direct or o.delayed)
    for s in range(len(state)):
        silent = False  # events are the inputs that do not spike, for they are fewer
        for k in range(steps):
            t = first_step + k
            sparse, counting = False, first_counted <= k < last_counted
            if o.reset_interval > 0 and (t - o.reset_phase) % o.reset_interval == 0:
                state[s, :, first_row * neurons : last_row * neurons] = 0
            if not o.direct:
                if o.graded:
                    count = _find_graded(graded_in[s, k], events, payload)
                else:
                    count = _find(spikes_in[s, k], o.planes, plane, silent, events)
                    if turns and 2 * count > inputs:
                        silent = not silent
                        count = _find(spikes_in[s, k], o.planes, plane, silent, events)
                if o.delayed:
                    _deliver_delayed(ring[s], t, weights, delays, events, payload, count, o.graded)
                else:
                    sparse = (
                        not o.long and len(runs) > 0 and count < SPARSE * g.rows * g.out_columns
                    )
                    if sparse:
                        _index_rows(events, count, g, starts, places)
                    else:
                        _index(events, count, inside, starts, units)
            if o.recurrent:
                if o.kind == CUBA:
                    own_starts[1] = _find_spikes(spikes_out[s, k], length, False, own_events)
                else:
                    own_starts[1] = _find_graded(graded_out[s, k], own_events, own_payload)
            if silent and known[first_row] == 0:
                _sum_everything(everything, first_row, last_row, g, weights)
                known[first_row:last_row] = 1
            for top in range(first_row, last_row, o.band):
                bottom = min(top + o.band, last_row)
                m, n = (bottom - top) * length, (bottom - top) * neurons
                low, high = top * neurons, top * neurons + n
                if o.direct:
                    for j in range(m):
                        sums[j] = graded_in[s, k + 1, low + j]
                elif o.delayed:
                    for j in range(m):
                        sums[j] = ring[s, t & 63, j]
                        ring[s, t & 63, j] = 0
                elif o.long:
                    long[:m] = 0
                    for y in range(top, bottom):
                        offset = (y - top) * length
                        _sum_row(long, offset, y, g, True, weights, events, payload, starts)
                    if o.wraps:
                        overflow[2] += _wrap_convolved(long, m, sums)
                    else:
                        overflow[2] += _wrap(long, 0, n, o.exponents[0], sums)
                        overflow[2] += _wrap(long, n, m, o.exponents[1], sums)
                elif o.short:
                    _sum_band(
                        short,
                        top,
                        bottom,
                        g,
                        False,
                        sparse,
                        weights,
                        runs,
                        events,
                        payload,
                        starts,
                        places,
                        left,
                        phase,
                        targets,
                        kernel_rows,
                    )
                    if silent:
                        _rest(short, m, everything[top * length :])
                    if o.recurrent:
                        _sum_row(
                            short, 0, 0, own, False, recurrent, own_events, own_payload, own_starts
                        )
                    if o.kind != CUBA:
                        sums[:m] = short[:m]
                else:
                    _sum_band(
                        sums,
                        top,
                        bottom,
                        g,
                        o.graded,
                        sparse,
                        weights,
                        runs,
                        events,
                        payload,
                        starts,
                        places,
                        left,
                        phase,
                        targets,
                        kernel_rows,
                    )
                    if silent:
                        _rest(sums, m, everything[top * length :])
                    if o.recurrent:
                        _sum_row(
                            sums, 0, 0, own, False, recurrent, own_events, own_payload, own_starts
                        )
                    if o.wraps:
                        overflow[2] += _wrap24(sums, m)
                u, v, r = state[s, 0, low:high], state[s, 1, low:high], state[s, 2, low:high]
                busy = recent[low - first_row * neurons if counting else 0 :]
                place = low if len(threshold) == everywhere else 0  # else a band stands for all
                b = bias[s if len(bias) > 1 else 0, low if bias.shape[1] == everywhere else 0 :]
                if o.kind == CUBA:
                    ku, kv, th = keep_u[place:], keep_v[place:], threshold[place:]
                    spikes, was_large = spikes_out[s, k + 1, low:high], large[s, top] != 0
                    if counting:
                        wraps, clips, is_large = _counted_cuba_rows(
                            o, was_large, short, sums, n, u, v, ku, kv, b, th, spikes, busy
                        )
                    else:
                        wraps, clips, is_large = _cuba_rows(
                            o, was_large, short, sums, n, u, v, ku, kv, b, th, spikes, busy
                        )
                    large[s, top] = is_large
                    overflow[0] += wraps
                    overflow[1] += clips
                elif resonator:
                    spikes = spikes_out[s, k + 1, low:high]
                    wraps, clips = _resonator_row(sums, n, o, u, v, spikes)
                    if counting:
                        _count_active(n, u, v, v, spikes, busy)
                    overflow[2] += wraps
                    overflow[1] += clips
                else:
                    graded = graded_out[s, k + 1, low:high]
                    overflow[0] += _sigma_delta_row(sums, n, o, u, v, r, b, graded)
                    if counting:
                        _count_active(n, u, v, r, graded, busy)
                if len(u_trace):
                    u_trace[s, k, low:high] = u
                if len(v_trace):
                    v_trace[s, k, low:high] = v
                if len(residue_trace):
                    residue_trace[s, k, low:high] = r
            if counting:
                waiting += 1
                if waiting == 255:
                    _flush(recent, active[first_row * neurons : last_row * neurons])
                    waiting = 0
    if counted > 0:
        _flush(recent, active[first_row * neurons : last_row * neurons])


@_compiled
def to_channels_first(source: Any, target: Any) -> None:
    """source (sample, step, position, channel) to target (sample, step, channel, position)."""
    samples, steps, positions, channels = source.shape
    block = 64
    for s in range(samples):
        for t in range(steps):
            for low in range(0, positions, block):
                high = min(low + block, positions)
                for c in range(channels):
                    for p in range(low, high):
                        target[s, t, c, p] = source[s, t, p, c]
