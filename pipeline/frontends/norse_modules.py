"""One torch or Norse module at a time to NIR nodes; `from_norse` has the equations."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, TypeAlias

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.reset import reset_subtract, reset_value
from numpy.typing import NDArray
from torch import nn

from ..graph import conv2d

Shape: TypeAlias = tuple[int, ...]
Nodes: TypeAlias = tuple[nir.NIRNode, ...]


class UnsupportedModuleError(ValueError):
    """Modules, or settings of them, that have no exact image on Loihi-style hardware; all of them."""


def _array(tensor: torch.Tensor | float, shape: Shape = ()) -> NDArray[Any]:
    """A parameter as float64, spread over `shape` (per neuron, or per channel of (C, H, W))."""
    array = torch.as_tensor(tensor).detach().cpu().double().numpy()
    if array.ndim == 1 and len(shape) > 1 and array.size == shape[0] > 1:
        array = array.reshape(-1, *(1,) * (len(shape) - 1))
    return np.broadcast_to(array, shape).copy() if shape else array


def _linear(module: nn.Linear, shape: Shape) -> Nodes:
    if module.bias is None:
        return (_weights(module.weight, shape),)
    _check_inputs(module.in_features, shape)
    return (nir.Affine(_array(module.weight), _array(module.bias)),)


def _weights(weight: torch.Tensor, shape: Shape) -> nir.Linear:
    _check_inputs(weight.shape[1], shape)
    return nir.Linear(_array(weight))


def _check_inputs(inputs: int, shape: Shape) -> None:
    if shape != (inputs,):
        hint = " Put an nn.Flatten before it." if len(shape) > 1 else ""
        raise UnsupportedModuleError(f"expects {inputs} inputs, got shape {shape}.{hint}")


def _conv(module: nn.Conv1d | nn.Conv2d, shape: Shape) -> Nodes:
    axes = module.weight.ndim - 2
    if module.padding_mode != "zeros":
        raise UnsupportedModuleError(
            f"padding_mode {module.padding_mode!r}; only 'zeros' exists on the hardware."
        )
    padding: Any = module.padding
    if padding == "valid":
        padding = (0,) * axes
    elif padding == "same":
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(span % 2 for span in spans):
            raise UnsupportedModuleError(
                "padding 'same' is uneven for this kernel. Give numbers, with an odd kernel."
            )
        padding = tuple(span // 2 for span in spans)
    bias = np.zeros(module.out_channels) if module.bias is None else _array(module.bias)
    options = (module.stride, padding, module.dilation, module.groups)
    return (_convolution(shape, _array(module.weight), bias, *options),)


def _conv_over_time(module: norse.LConv2d, shape: Shape) -> Nodes:
    """A Conv3d whose kernel has one step in time, which is its last axis."""
    options = (module.stride[:2], module.padding[:2], module.dilation[:2], module.groups)
    bias = np.zeros(module.out_channels)
    return (_convolution(shape, _array(module.weight)[..., 0], bias, *options),)


def _convolution(
    shape: Shape,
    weight: NDArray[Any],
    bias: NDArray[Any],
    stride: Any,
    padding: Any,
    dilation: Any,
    groups: int,
) -> nir.NIRNode:
    channels, axes = weight.shape[1] * groups, weight.ndim - 2
    if len(shape) != axes + 1 or shape[0] != channels:
        form = "(C, L)" if axes == 1 else "(C, H, W)"
        raise UnsupportedModuleError(f"expects {form} with C = {channels}, got shape {shape}.")
    if axes == 2:
        return conv2d((shape[1], shape[2]), weight, bias, stride, padding, dilation, groups)
    node = nir.Conv1d(shape[1], weight, stride[0], padding[0], dilation[0], groups, bias)
    node.input_type = {"input": np.array(shape)}  # nir 1.0.8 counts those of one group
    return node


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape) -> Nodes:
    """y = gamma (x - mean) / sqrt(var + eps) + beta, per channel or neuron."""
    if module.running_mean is None or module.running_var is None:
        raise UnsupportedModuleError(
            "has no running statistics. Train with track_running_stats=True."
        )
    if shape[0] != module.num_features:
        raise UnsupportedModuleError(f"has {module.num_features} features, got shape {shape}.")
    gain = 1 / np.sqrt(_array(module.running_var) + module.eps)
    if module.affine:
        gain = gain * _array(module.weight)
    offset = -_array(module.running_mean) * gain
    if module.affine:
        offset = offset + _array(module.bias)
    if len(shape) == 1:
        return (nir.Affine(np.diag(gain), offset),)
    axes = len(shape) - 1
    kernel = np.diag(gain).reshape(*np.diag(gain).shape, *(1,) * axes)
    return (_convolution(shape, kernel, offset, (1,) * axes, (0,) * axes, (1,) * axes, 1),)


def _pool(module: nn.AvgPool2d, shape: Shape) -> Nodes:
    kernel, stride, padding = (
        np.array([n, n] if isinstance(n, int) else n)
        for n in (module.kernel_size, module.stride, module.padding)
    )
    if len(shape) != 3:
        raise UnsupportedModuleError(f"expects (C, H, W), got shape {shape}.")
    if module.ceil_mode or module.divisor_override:
        raise UnsupportedModuleError("ceil_mode and divisor_override are not supported. Drop them.")
    if padding.any() and not module.count_include_pad:
        raise UnsupportedModuleError("padding needs count_include_pad=True.")
    node = nir.AvgPool2d(kernel, stride, padding)
    size = (np.array(shape[1:]) + 2 * padding - kernel) // stride + 1
    node.input_type = {"input": np.array(shape)}
    node.output_type = {"output": np.array([shape[0], *size])}
    return (node,)


def _adaptive_pool(module: nn.AdaptiveAvgPool2d, shape: Shape) -> Nodes:
    """Where the input's size is a multiple of the output's, an AvgPool2d."""
    if len(shape) != 3:
        raise UnsupportedModuleError(f"expects (C, H, W), got shape {shape}.")
    wanted: Any = module.output_size
    asked = (wanted, wanted) if isinstance(wanted, int) else tuple(wanted)
    sizes = [own if size is None else size for own, size in zip(shape[1:], asked, strict=True)]
    if any(own % size for own, size in zip(shape[1:], sizes, strict=True)):
        raise UnsupportedModuleError(
            f"makes {tuple(sizes)} of {shape[1:]}, which is no whole multiple: its windows overlap. Use "
            f"an AvgPool2d."
        )
    kernel: Any = tuple(own // size for own, size in zip(shape[1:], sizes, strict=True))
    return () if kernel == (1, 1) else _pool(nn.AvgPool2d(kernel), shape)


def _max_pool(module: nn.MaxPool2d, shape: Shape) -> Nodes:
    """max of 0s and 1s = (their sum > 1/2): a depthwise convolution of ones, and Threshold."""
    if len(shape) != 3:
        raise UnsupportedModuleError(f"expects (C, H, W), got shape {shape}.")
    if module.ceil_mode or module.return_indices:
        raise UnsupportedModuleError("ceil_mode and return_indices are not supported. Drop them.")
    kernel, stride, padding, dilation = (
        (n, n) if isinstance(n, int) else tuple(n)
        for n in (module.kernel_size, module.stride, module.padding, module.dilation)
    )
    ones = np.ones((shape[0], 1, *kernel))
    total = _convolution(shape, ones, np.zeros(shape[0]), stride, padding, dilation, shape[0])
    threshold = nir.Threshold(np.full(tuple(int(n) for n in total.output_type["output"]), 0.5))
    return (total, threshold)


def _flatten(module: nn.Flatten, shape: Shape) -> Nodes:
    if len(shape) == 1:
        return ()
    return (nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1),)


def _nothing(module: nn.Module, shape: Shape) -> Nodes:
    return ()


def _spiking(
    cell: Any, shape: Shape, kind: type[nir.NIRNode], **fields: NDArray[Any]
) -> nir.NIRNode:
    """A neuron of `kind` with the cell's threshold and reset."""
    method = getattr(cell.p, "reset_method", reset_value)
    if method not in (reset_value, reset_subtract):
        raise UnsupportedModuleError(
            "its reset_method is neither reset_value nor reset_subtract. Use one of them."
        )
    subtract = method is reset_subtract
    reset = np.zeros(shape) if subtract else _array(cell.p.v_reset, shape)
    node = kind(**fields, v_threshold=_array(cell.p.v_th, shape), v_reset=reset)
    node.metadata = {"reset": "subtract"} if subtract else {}
    return _with_rates(node, cell)


def _with_rates(node: nir.NIRNode, cell: Any) -> nir.NIRNode:
    """The node with Norse's 1/tau in its metadata, since NIR's tau loses their last bits."""
    for name in ("mem", "syn"):
        rate = getattr(cell.p, f"tau_{name}_inv", None)
        if rate is not None:
            rates = _array(rate, node.v_leak.shape) if rate.ndim else float(rate)
            node.metadata[f"{name}_rate"] = rates
    return node


def _leaky(cell: Any, shape: Shape) -> dict[str, NDArray[Any]]:
    return {
        "tau": 1 / _array(cell.p.tau_mem_inv, shape),
        "r": np.ones(shape),
        "v_leak": _array(cell.p.v_leak, shape),
    }


def _current_based(cell: Any, shape: Shape) -> dict[str, NDArray[Any]]:
    fields = _leaky(cell, shape)
    tau_syn = 1 / _array(cell.p.tau_syn_inv, shape)
    return {"tau_mem": fields.pop("tau"), "tau_syn": tau_syn, "w_in": tau_syn / cell.dt, **fields}


def _lif_box(cell: Any, shape: Shape) -> Nodes:
    return (_spiking(cell, shape, nir.LIF, **_leaky(cell, shape)),)


def _lif(cell: Any, shape: Shape) -> Nodes:
    return (_spiking(cell, shape, nir.CubaLIF, **_current_based(cell, shape)),)


def _lif_recurrent(cell: Any, shape: Shape) -> Nodes:
    """Input weights, neuron, recurrent weights."""
    hidden = (int(cell.hidden_size),)
    recurrent = _weights(cell.recurrent_weights, hidden)
    return (_weights(cell.input_weights, shape), *_lif(cell, hidden), recurrent)


def _iaf(cell: Any, shape: Shape) -> Nodes:
    return (_spiking(cell, shape, nir.IF, r=np.full(shape, 1 / cell.dt)),)


def _li_box(cell: Any, shape: Shape) -> Nodes:
    return (_with_rates(nir.LI(**_leaky(cell, shape)), cell),)


def _li(cell: Any, shape: Shape) -> Nodes:
    return (_with_rates(nir.CubaLI(**_current_based(cell, shape)), cell),)


def _li_linear(cell: Any, shape: Shape) -> Nodes:
    return (_weights(cell.input_weights, shape), *_li(cell, (int(cell.hidden_size),)))


CONVERSIONS: dict[type, Callable[[Any, Shape], Nodes]] = {
    nn.Linear: _linear,
    nn.Conv1d: _conv,
    nn.Conv2d: _conv,
    norse.LConv2d: _conv_over_time,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AvgPool2d: _pool,
    nn.AdaptiveAvgPool2d: _adaptive_pool,
    nn.MaxPool2d: _max_pool,
    nn.Flatten: _flatten,
    nn.Dropout: _nothing,
    nn.Dropout2d: _nothing,
    nn.Identity: _nothing,
    norse.LIFBoxCell: _lif_box,
    norse.LIFCell: _lif,
    norse.LIF: _lif,
    norse.LIFRecurrentCell: _lif_recurrent,
    norse.LIFRecurrent: _lif_recurrent,
    norse.IAFCell: _iaf,
    norse.IAF: _iaf,
    norse.LICell: _li,
    norse.LI: _li,
    norse.LIBoxCell: _li_box,
    norse.LILinearCell: _li_linear,
}
