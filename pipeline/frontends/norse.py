"""Norse networks to NIR, read from the modules' own parameters.

Norse's own export loses the time step, the reset and the convolution shapes; here `dt` and the
update order go into the graph's metadata, the reset voltage into every neuron.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any, TypeAlias

import nir
import norse.torch as norse
import numpy as np
import torch
from norse.torch.functional.reset import reset_value
from norse.torch.module.iaf import IAFCell
from norse.torch.module.leaky_integrator import LICell
from norse.torch.module.leaky_integrator_box import LIBoxCell
from numpy.typing import NDArray
from torch import nn

from ..graph import chain_graph, conv2d

Shape: TypeAlias = tuple[int, ...]


class UnsupportedModuleError(ValueError):
    """A module, or a setting of one, that has no exact image on Loihi-style hardware."""


def from_norse(model: nn.Module, input_shape: Sequence[int]) -> nir.NIRGraph:
    """The NIR graph of a chain of torch layers and Norse cells, in evaluation mode.

    `model`: a `norse.SequentialState`, an `nn.Sequential`, any nesting of the two, or a
    `SpikingClassifier`. `input_shape`: (C, H, W) or (N,) of one frame. Supported: Linear, Conv2d
    (zero padding), BatchNorm1d / 2d (as the affine map of its running statistics), AvgPool2d,
    Flatten, Dropout and Identity (nothing), and Norse's LIFBoxCell, LIFCell, IAFCell, LICell,
    LIBoxCell. With dt the step of the cells, one step of each is

    - LIFBoxCell -> nir.LIF: v <- v + dt/tau (v_leak - v + x)
    - LIFCell -> nir.CubaLIF with w_in = tau_syn/dt: i <- i + x; v as above with i for x; then
      i <- i (1 - dt/tau_syn): the current decays after it was used
    - IAFCell -> nir.IF with r = 1/dt: v <- v + x
    - LIBoxCell, LICell -> nir.LI, nir.CubaLI: the same without threshold

    spike z = v > v_th, then v <- v_reset. Metadata of the graph: `dt` (seconds), `update`
    ("current, voltage, current decay"), `framework`. Raises UnsupportedModuleError.
    """
    nodes: list[tuple[str, nir.NIRNode]] = []
    shape: Shape = tuple(int(n) for n in input_shape)
    steps: dict[str, float] = {}
    for name, module in leaves(model):
        convert = _CONVERSIONS.get(type(module))
        if convert is None:
            supported = sorted({t.__name__ for t in _CONVERSIONS})
            raise UnsupportedModuleError(
                f"module {name} is a {type(module).__name__}, which is not supported (supported: "
                f"{', '.join(supported)}). Replace it, or fold it into its neighbours."
            )
        if hasattr(module, "dt"):
            steps[name] = float(module.dt)
        try:
            node = convert(module, shape)
        except UnsupportedModuleError as error:
            raise UnsupportedModuleError(
                f"module {name} ({type(module).__name__}): {error}"
            ) from None
        if node is not None:
            nodes.append((f"{name}:{type(node).__name__.lower()}", node))
            shape = tuple(int(n) for n in node.output_type["output"])
    if not steps:
        raise UnsupportedModuleError(
            "the network has no Norse neuron. Give the spiking network, not its ANN twin."
        )
    if len(set(steps.values())) > 1:
        raise UnsupportedModuleError(
            f"the cells have different time steps dt: {steps}. Give every cell the same dt."
        )
    return chain_graph(
        nodes,
        tuple(int(n) for n in input_shape),
        {
            "dt": next(iter(steps.values())),
            "update": "current, voltage, current decay",
            "framework": f"norse {norse.__version__}" if hasattr(norse, "__version__") else "norse",
        },
    )


def leaves(module: nn.Module, prefix: str = "") -> Iterator[tuple[str, nn.Module]]:
    """The layers of a (nested) sequential network in order, with their dotted names."""
    module = getattr(module, "body", module)
    containers = (nn.Sequential, norse.SequentialState)
    if not isinstance(module, containers):
        yield prefix or type(module).__name__, module
        return
    for name, child in module.named_children():
        yield from leaves(child, f"{prefix}.{name}" if prefix else name)


def _array(tensor: torch.Tensor | float, shape: Shape = ()) -> NDArray[Any]:
    """A parameter as float64, spread over `shape` (per neuron, or per channel of (C, H, W))."""
    array = torch.as_tensor(tensor).detach().cpu().double().numpy()
    if array.ndim == 1 and len(shape) == 3 and array.size == shape[0] > 1:
        array = array[:, None, None]
    return np.broadcast_to(array, shape).copy() if shape else array


def _linear(module: nn.Linear, shape: Shape) -> nir.NIRNode:
    if shape != (module.in_features,):
        raise UnsupportedModuleError(
            f"expects {module.in_features} inputs, got shape {shape}. Put an nn.Flatten before it."
        )
    if module.bias is None:
        return nir.Linear(_array(module.weight))
    return nir.Affine(_array(module.weight), _array(module.bias))


def _conv(module: nn.Conv2d, shape: Shape) -> nir.NIRNode:
    if module.padding_mode != "zeros":
        raise UnsupportedModuleError(
            f"padding_mode {module.padding_mode!r}; only 'zeros' exists on the hardware."
        )
    if len(shape) != 3 or shape[0] != module.in_channels:
        raise UnsupportedModuleError(
            f"expects (C, H, W) with C = {module.in_channels}, got shape {shape}."
        )
    padding = module.padding
    if padding == "valid":
        padding = (0, 0)
    elif padding == "same":
        spans = [d * (k - 1) for d, k in zip(module.dilation, module.kernel_size, strict=True)]
        if any(span % 2 for span in spans):
            raise UnsupportedModuleError(
                "padding 'same' is uneven for this kernel. Give numbers, with an odd kernel."
            )
        padding = tuple(span // 2 for span in spans)
    bias = np.zeros(module.out_channels) if module.bias is None else _array(module.bias)
    return conv2d(
        (shape[1], shape[2]),
        _array(module.weight),
        bias,
        module.stride,
        padding,
        module.dilation,
        module.groups,
    )


def _batch_norm(module: nn.BatchNorm1d | nn.BatchNorm2d, shape: Shape) -> nir.NIRNode:
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
        return nir.Affine(np.diag(gain), offset)
    return conv2d((shape[1], shape[2]), np.diag(gain)[:, :, None, None], offset)


def _pool(module: nn.AvgPool2d, shape: Shape) -> nir.NIRNode:
    kernel, stride, padding = (
        np.array([n, n] if isinstance(n, int) else n)
        for n in (module.kernel_size, module.stride, module.padding)
    )
    if module.ceil_mode or module.divisor_override:
        raise UnsupportedModuleError("ceil_mode and divisor_override are not supported. Drop them.")
    if padding.any() and not module.count_include_pad:
        raise UnsupportedModuleError("padding needs count_include_pad=True.")
    node = nir.AvgPool2d(kernel, stride, padding)
    size = (np.array(shape[1:]) + 2 * padding - kernel) // stride + 1
    node.input_type = {"input": np.array(shape)}
    node.output_type = {"output": np.array([shape[0], *size])}
    return node


def _flatten(module: nn.Flatten, shape: Shape) -> nir.NIRNode | None:
    if module.start_dim != 1 or module.end_dim != -1:
        raise UnsupportedModuleError("only start_dim=1, end_dim=-1 (all but the batch axis).")
    if len(shape) == 1:
        return None
    return nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)


def _nothing(module: nn.Module, shape: Shape) -> None:
    return None


def _voltages(cell: Any, shape: Shape) -> dict[str, NDArray[Any]]:
    """Threshold, leak and reset of a spiking cell; refuses resets netx cannot express."""
    if getattr(cell.p, "reset_method", reset_value) is not reset_value:
        raise UnsupportedModuleError(
            "resets by subtraction; Loihi resets to a fixed voltage. Train with reset_method="
            "reset_value."
        )
    return {
        "v_threshold": _array(cell.p.v_th, shape),
        "v_reset": _array(cell.p.v_reset, shape),
    }


def _lif_box(cell: Any, shape: Shape) -> nir.NIRNode:
    return nir.LIF(
        tau=1 / _array(cell.p.tau_mem_inv, shape),
        r=np.ones(shape),
        v_leak=_array(cell.p.v_leak, shape),
        **_voltages(cell, shape),
    )


def _lif(cell: Any, shape: Shape) -> nir.NIRNode:
    return nir.CubaLIF(**_cuba(cell, shape), **_voltages(cell, shape))


def _cuba(cell: Any, shape: Shape) -> dict[str, NDArray[Any]]:
    tau_syn = 1 / _array(cell.p.tau_syn_inv, shape)
    return {
        "tau_syn": tau_syn,
        "tau_mem": 1 / _array(cell.p.tau_mem_inv, shape),
        "r": np.ones(shape),
        "v_leak": _array(cell.p.v_leak, shape),
        "w_in": tau_syn / cell.dt,
    }


def _iaf(cell: Any, shape: Shape) -> nir.NIRNode:
    return nir.IF(r=np.full(shape, 1 / cell.dt), **_voltages(cell, shape))


def _li_box(cell: Any, shape: Shape) -> nir.NIRNode:
    return nir.LI(
        tau=1 / _array(cell.p.tau_mem_inv, shape),
        r=np.ones(shape),
        v_leak=_array(cell.p.v_leak, shape),
    )


def _li(cell: Any, shape: Shape) -> nir.NIRNode:
    return nir.CubaLI(**_cuba(cell, shape))


_CONVERSIONS: dict[type, Callable[[Any, Shape], nir.NIRNode | None]] = {
    nn.Linear: _linear,
    nn.Conv2d: _conv,
    nn.BatchNorm1d: _batch_norm,
    nn.BatchNorm2d: _batch_norm,
    nn.AvgPool2d: _pool,
    nn.Flatten: _flatten,
    nn.Dropout: _nothing,
    nn.Identity: _nothing,
    norse.LIFBoxCell: _lif_box,
    norse.LIFCell: _lif,
    IAFCell: _iaf,
    LICell: _li,
    LIBoxCell: _li_box,
}
