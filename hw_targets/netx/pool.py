"""SLAYER's `pool` layers as the convolutions that they are.

netx cannot build them. SLAYER's pool is a layer of neurons with one kernel for every channel, and so
a depthwise convolution. Source: `slayer.synapse.Pool`, which in lava-dl 0.6 does two odd things: it
appends H mod ky empty rows and W mod kx empty columns, and it stacks the channels on top of each
other along y. The former becomes a kernel that starts with as many zeros, in as much more padding;
the latter is harmless where no window leaves its channel, and refused elsewhere.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..network.layers import Conv, Shape
from ..network.neurons import NetworkError


def lowered_pool(
    kernel: NDArray[Any],
    neuron: Any,
    before: Shape | None,
    *,
    stride: Any,
    padding: Any,
    dilation: Any,
) -> Conv:
    """The depthwise convolution with a pool's spikes, or NetworkError where there is none.

    `kernel`: (1, 1, kernel y, kernel x); `before`: shape (C, H, W) of what is pooled.
    """
    if before is None or len(before) != 3 or kernel.ndim != 4 or kernel.shape[:2] != (1, 1):
        raise NetworkError(
            f"a pool with weight {kernel.shape} after a layer of shape {before} is not what SLAYER "
            f"writes: (1, 1, kernel y, kernel x) after (C, H, W). Export the network again."
        )
    channels, height, width = before
    conv = Conv(kernel, None, neuron, stride=stride, padding=padding, dilation=dilation)
    extra = (height % kernel.shape[2], width % kernel.shape[3])
    window = conv.dilation[0] * (kernel.shape[2] - 1) + 1
    reason = None
    if channels > 127:
        reason = (
            f"with {channels} channels it would have as many groups, and Lava's CPU keeps groups in "
            f"8 bits (at most 127)"
        )
    elif conv.padding[0] or window > conv.stride[0] or (height + extra[0]) % conv.stride[0]:
        reason = (
            "SLAYER stacks the channels along y, and windows of this pool reach into the next "
            "channel (unless its windows tile the height without padding or overlap)"
        )
    if reason is not None:
        raise NetworkError(
            f"layer type 'pool' cannot be built by netx, nor lowered to a convolution: {reason}. "
            f"Train with a pool whose stride is its kernel and divides the height, or with strided "
            f"convolutions."
        )
    weight, spread = conv.weight, list(conv.dilation)
    for axis, zeros in enumerate(extra):
        if zeros:
            weight, spread[axis] = _shifted(weight, 2 + axis, spread[axis], zeros), 1
    return Conv(
        np.repeat(weight, channels, axis=0),
        None,
        neuron,
        stride=conv.stride,
        padding=(conv.padding[0] + extra[0], conv.padding[1] + extra[1]),
        dilation=(spread[0], spread[1]),
        groups=channels,
    )


def _shifted(weight: NDArray[Any], axis: int, dilation: int, zeros: int) -> NDArray[Any]:
    """The kernel with its dilation written out and `zeros` put first, along one axis."""
    shape = list(weight.shape)
    shape[axis] = zeros + dilation * (shape[axis] - 1) + 1
    out = np.zeros(shape, weight.dtype)
    np.moveaxis(out, axis, 0)[zeros::dilation] = np.moveaxis(weight, axis, 0)
    return out
