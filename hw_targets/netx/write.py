"""One layer of a netx file: from the dataclasses of `network` to its HDF5 group.

The format is specified in `netx`. Errors are `NetworkError`; `netx` adds file and layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from ..network import arithmetic
from ..network.kind import parameters
from ..network.layers import Dense, Flatten, Input, Layer, Shape
from ..network.neurons import NEURONS, IntArray, NetworkError, Neuron


def check_layer(layer: Layer) -> None:
    """Refuse what Lava cannot load, or would change: NetworkError. See `arithmetic.synapse_formats`."""
    check_loadable(layer)
    for parts in _scaled_together(layer):
        _check_weights(parts)


def check_loadable(layer: Layer) -> None:
    """Refuse what lava-dl cannot load: NetworkError."""
    neuron = None if isinstance(layer, Flatten) else layer.neuron
    if neuron is not None and type(neuron) not in NEURONS:
        raise NetworkError(
            f"lava-dl has no {type(neuron).__name__} neurons; it has "
            f"{', '.join(kind.__name__ for kind in NEURONS)}. Use the engine or the reference, and "
            f"write_netx(..., for_lava=False)."
        )
    for parts in _scaled_together(layer):
        if not any(weight.any() for weight in parts.values()):
            names = ["weights" if name == "weight" else f"{name} weights" for name in parts]
            raise NetworkError(
                f"all {' and '.join(names)} are 0; lava-dl cannot load such a layer. Drop the layer, or "
                f"set one weight of an input that never spikes to 2."
            )


def _scaled_together(layer: Layer) -> Iterator[dict[str, IntArray]]:
    """The weight matrices of a dense layer by name, those together that share one scaling."""
    if isinstance(layer, Dense):
        shared = {"weight": layer.weight}
        if layer.recurrent is not None:
            shared["recurrent"] = layer.recurrent
        yield shared
        if layer.imaginary is not None:
            yield {"imaginary": layer.imaginary}


def _check_weights(parts: dict[str, IntArray]) -> None:
    """Refuse weights that Lava changes, of matrices that share one scaling."""
    formats = arithmetic.synapse_formats(*parts.values())
    for (name, weight), stored in zip(parts.items(), formats, strict=True):
        # Lava sums mantissas and shifts the sum, so that each mantissa must be exact
        became = stored.mantissa / 2.0**stored.shift
        changed = became != weight
        if changed.any():
            where = tuple(np.argwhere(changed)[0].tolist())
            lacks = "positive" if weight.max() <= 0 else "negative"
            raise NetworkError(
                f"{name}{list(where)} = {weight[where]} would become {became[where]:g} in Lava (a "
                f"matrix without {lacks} weight). Give it one {lacks} weight, or another scale."
            )


def write_layer(group: h5py.Group, layer: Layer, shape: Shape) -> None:
    """Write a layer of output shape `shape` into an empty group."""
    kind = type(layer).__name__.lower()
    if isinstance(layer, Dense) and layer.recurrent is not None:
        kind = "dense_rec"
    group["type"] = np.array([kind], dtype="S10")
    group["shape"] = np.array(shape, np.int64)
    if isinstance(layer, Flatten):
        return
    if layer.neuron is not None:
        _write_neuron(group.create_group("neuron"), layer.neuron)
    if isinstance(layer, Input):
        for name in ("weight", "bias"):
            if getattr(layer, name) is not None:
                group[name] = np.array([getattr(layer, name)], np.float32)
        return
    if isinstance(layer, Dense) and layer.imaginary is not None:
        group["weight/real"] = layer.weight.astype(np.float32)
        group["weight/imag"] = layer.imaginary.astype(np.float32)
    else:
        group["weight"] = layer.weight.astype(np.float32)
    if layer.bias is not None:
        group["bias"] = _neuronwise(np.atleast_1d(layer.bias), np.float32)
    out, into = layer.weight.shape[:2]
    if isinstance(layer, Dense):
        if layer.recurrent is not None:
            group["weight_rec"] = layer.recurrent.astype(np.float32)
        if layer.delay is not None:
            group["delay"] = np.asarray(layer.delay, np.float32)
        group["inFeatures"], group["outFeatures"] = into, out
        return
    group["inChannels"], group["outChannels"] = into * layer.groups, out
    group["kernelSize"] = np.array(layer.weight.shape[2:], np.int64)
    for name in ("stride", "padding", "dilation"):
        group[name] = np.array(getattr(layer, name), np.int64)
    group["groups"] = layer.groups


def _write_neuron(group: h5py.Group, neuron: Neuron) -> None:
    name, netx = type(neuron).__name__, neuron.netx
    if netx is None:
        raise NetworkError(
            f"{name} neurons have no place in netx: their class does not say how it stores them (netx)."
        )
    group["type"] = fixed(neuron.kind if hasattr(neuron, "kind") else next(iter(netx.types)))
    for field, parameter in parameters(type(neuron)).items():
        value = getattr(neuron, field)
        if parameter.netx is not None:
            group[parameter.netx] = _neuronwise(value, np.int64)
        elif field != "spike_exp":
            raise NetworkError(
                f"{name}.{field} = {value} has no place in netx: name a dataset for it, "
                f"whole(..., netx=...)."
            )
    for dataset, constant in netx.constants.items():
        group[dataset] = fixed(constant)


def fixed(value: Any) -> Any:
    """A text for HDF5, of fixed length; what is longer than an attribute may be, or no text, stays."""
    if not isinstance(value, str) or not 0 < len(text := value.encode()) < 1 << 15:
        return value
    return np.array(text, h5py.string_dtype("utf-8", len(text)))


def _neuronwise(value: Any, dtype: type) -> NDArray[Any]:
    """Per-neuron arrays of a convolution are W, H, C in the file; scalars and vectors stay."""
    array: NDArray[Any] = np.asarray(value, dtype)
    return array.transpose(2, 1, 0) if array.ndim == 3 else array
