"""SLAYER's synapses, norms and neurons as integers: what a block of `from_slayer` is made of."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, Literal, TypeVar

import numpy as np
import torch
from torch.nn.utils.weight_norm import WeightNorm

from ...hw_targets.network import arithmetic
from ...hw_targets.network.neurons import (
    CubaLIF,
    IntArray,
    NetworkError,
    Neuron,
    ResonateFire,
    SigmaDelta,
)
from ..parts import Kind, refused

Found = TypeVar("Found")


def find(table: dict[str, Found | str], thing: object, what: str) -> Found:
    """The entry for a class or its nearest ancestor.

    Raises NetworkError where there is none, or where it is text, which is a reason against it.
    """
    names = [f"{cls.__module__}.{cls.__qualname__}" for cls in type(thing).__mro__]
    entries = (table.get(name.removeprefix("lava.lib.dl.slayer.")) for name in names)
    known = next((entry for entry in entries if entry is not None), None)
    if known is None:
        known = f"{names[0]} is no SLAYER {what} that is known here."
    if isinstance(known, str):
        raise NetworkError(known)
    return known


def supported(table: Mapping[str, object]) -> Iterator[Kind]:
    """The entries of a table as `find` reads it, by the names that users know."""
    for name, entry in table.items():
        yield Kind(slayer_name(name), remark=refused(entry) if isinstance(entry, str) else "")


def slayer_name(qualified: str) -> str:
    """What a user calls a class of lava-dl: `Dense` for `block.base.AbstractDense`, `neuron.cuba`."""
    name = (
        qualified.removeprefix("lava.lib.dl.").removeprefix("block.").removeprefix("base.Abstract")
    )
    return name.removesuffix(".Neuron")


def whole(value: torch.Tensor, scale: int, what: str) -> IntArray:
    """`value` * `scale` as int32, off whole numbers by the rounding of float32 at most.

    Raises NetworkError, which calls the values `what`, where they are no multiples of 1 / `scale`.
    """
    scaled = value.detach().cpu().double().numpy() * scale
    nearest = np.rint(scaled)
    off = ~(abs(scaled - nearest) <= 1e-3) | (abs(nearest) > 1 << 30)  # also NaN and infinity
    if off.any():
        where = tuple(np.argwhere(off)[0].tolist())
        raise NetworkError(
            f"{what}{list(where)} = {scaled[where] / scale:g} is no multiple of 1/{scale} (and "
            f"{int(off.sum()) - 1} more). Train with the block's own quantization, or round it."
        )
    integers: IntArray = nearest.astype(np.int32)
    return integers


def weight_norm(synapse: Any) -> WeightNorm | None:
    """The weight norm of a synapse, where it has one."""
    hooks = synapse._forward_pre_hooks.values()
    return next((hook for hook in hooks if isinstance(hook, WeightNorm)), None)


def _weight(synapse: Any, scale: int, mask: torch.Tensor | None) -> IntArray:
    """The integers that a forward pass works with: weight norm, or mask, then the hook."""
    if synapse.complex:
        raise NetworkError("netx has complex synapses in dense layers only. Use a dense block.")
    norm = weight_norm(synapse)
    weight = norm.compute_weight(synapse) if norm else synapse.weight
    if mask is not None and norm is None:  # a forward pass overwrites masked weights by normed ones
        weight = weight * mask
    hook = synapse.pre_hook_fx
    return whole(weight if hook is None else hook(weight), scale, "weight")


def synapses(
    block: Any, neuron: Neuron, *synapses: Any, normed: bool = True
) -> tuple[list[IntArray], IntArray | None]:
    """The weights of a block, (out, in, y, x, 1) each, and its bias."""
    scale = block.neuron.w_scale
    mask = getattr(block, "mask", None)
    weights = [_weight(synapse, scale, mask) for synapse in synapses]
    norm = getattr(block.neuron, "norm", None) if normed else None
    bias = None
    if norm is not None:
        exponent = find(NORMS, norm, "norm")(norm)
        mean = whole(norm.pre_hook_fx(norm.running_mean), scale, "running_mean")
        bias = np.broadcast_to(-mean, len(weights[0]))
        *weights, bias = _folded([*weights, bias], exponent, neuron)
    if normed and getattr(block.neuron, "bias_is_set", False):
        given = whole(block.neuron.bias, scale, "bias")
        if given.shape[1:] in ((), (1, 1)):
            given = np.broadcast_to(given.ravel(), len(weights[0]))
        bias = given if bias is None else bias.reshape(-1, *[1] * (given.ndim - 1)) + given
    return weights, bias


def _folded(parts: list[IntArray], exponent: int, neuron: Neuron) -> list[IntArray]:
    """Weights and bias / 2^exponent: what a norm does to a sum, where nothing was rounded before."""
    if not exponent:
        return parts
    if isinstance(neuron, CubaLIF) and set(np.ravel(neuron.i_decay)) - {0, arithmetic.DECAY_ONE}:
        raise NetworkError(
            f"its norm divides the current by 2^{exponent} after a decay that rounds, which no "
            f"other weights do. Use MeanOnlyBatchNorm, or a current decay of 0 or 1."
        )
    scaled = [part * 2.0**-exponent for part in parts]
    if any((part != np.rint(part)).any() for part in scaled):
        raise NetworkError(
            f"its norm divides by 2^{exponent}, and not all weights and biases are divisible. Use "
            f"MeanOnlyBatchNorm."
        )
    return [part.astype(np.int32) for part in scaled]


def _exponent(norm: Any) -> int:
    """log2 of the deviation that a WgtScaleBatchNorm divides by."""
    return round(math.log2(norm.std(norm.running_var).item()))


def neurons(block: Any) -> Any:
    """The integers of a block's neurons. Raises NetworkError where netx has no such neurons."""
    first = next(block.neuron.parameters())
    if not block.neuron.shared_param and block.neuron.shape is None and first.numel() == 1:
        raise NetworkError(
            "its parameters per channel are drawn in its first forward pass. Run one step first."
        )
    return find(NEURONS, block.neuron, "neuron")(block.neuron)


def _cuba(neuron: Any) -> CubaLIF:
    _check_binary(neuron)
    i_decay, v_decay = decays(neuron)
    return CubaLIF(i_decay, v_decay, _threshold(neuron))


def decays(neuron: Any) -> tuple[IntArray, IntArray]:
    """The decays of current and voltage, of 4096, (1,) or one per channel."""
    current, voltage = (
        value.detach().cpu().clamp(0, arithmetic.DECAY_ONE).round().int().numpy()
        for value in (neuron.current_decay, neuron.voltage_decay)
    )
    return current, voltage


def _threshold(neuron: Any) -> int:
    threshold: int = round(neuron.threshold * neuron.w_scale)  # both are: n / scale, and scale
    return threshold


def _check_binary(neuron: Any) -> None:
    if neuron.graded_spike:
        raise NetworkError(
            "graded_spike is true; netx ignores it and sends binary spikes. Train with binary spikes."
        )


def _sigma_delta(neuron: Any) -> SigmaDelta:
    if neuron.w_scale != 64:
        raise NetworkError(
            f"scale = {neuron.w_scale}: messages have 12 fraction bits on the chip, which makes 64 "
            f"the scale of all sigma-delta neurons. Train with scale 64."
        )
    if neuron.delta.cum_error:
        raise NetworkError("cum_error is true; netx has no cumulative error. Train without it.")
    activation = getattr(neuron.activation, "__name__", type(neuron.activation).__name__)
    if activation.lower() != "relu":
        raise NetworkError(
            f"activation is {activation!r}; netx always runs relu. Train with torch.relu."
        )
    thresholds = neuron.threshold.detach().clamp(1 / neuron.s_scale) * neuron.w_scale
    if thresholds.numel() > 1 and len(thresholds.floor().unique()) > 1:
        raise NetworkError("it has a threshold per channel; netx has one. Use shared_param=True.")
    return SigmaDelta(int(thresholds.ravel()[0]))


def _resonator(neuron: Any, kind: Literal["RF_PHASE", "RF_IZHIKEVICH"]) -> ResonateFire:
    _check_binary(neuron)
    if neuron.real_norm is not None or neuron.imag_norm is not None:
        raise NetworkError("resonators have no bias in netx, and so no norm. Drop the norm.")
    sin, cos = neuron.sin_decay.detach().cpu(), neuron.cos_decay.detach().cpu()
    gain = (sin**2 + cos**2).sqrt()
    sin, cos = (part * (gain.clamp(0, neuron.p_scale - 1) / gain) for part in (sin, cos))
    return ResonateFire(
        sin.clamp(1).round().int().numpy(),
        cos.clamp(0).round().int().numpy(),
        _threshold(neuron),
        kind,
    )


NEURONS: dict[str, Callable[[Any], Neuron] | str] = {
    "neuron.cuba.Neuron": _cuba,
    "neuron.sigma_delta.Neuron": _sigma_delta,
    "neuron.rf.Neuron": partial(_resonator, kind="RF_PHASE"),
    "neuron.rf_iz.Neuron": partial(_resonator, kind="RF_IZHIKEVICH"),
    "neuron.alif.Neuron": "its adaptive threshold does not exist in netx. Train with cuba blocks.",
    "neuron.adrf.Neuron": "netx would run it without its adaptation. Train with rf blocks.",
    "neuron.adrf_iz.Neuron": "netx would run it without its adaptation. Train with rf_iz blocks.",
}
NORMS: dict[str, Callable[[Any], int] | str] = {
    "neuron.norm.MeanOnlyBatchNorm": lambda norm: 0,
    "neuron.norm.WgtScaleBatchNorm": _exponent,
}
