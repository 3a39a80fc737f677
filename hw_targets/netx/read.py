"""One layer of a netx file: from its HDF5 group to the dataclasses of `network`.

The format is specified in `netx`. Errors are `NetworkError`; `netx` adds file and layer.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..hdf5 import Group, Unread
from ..network import arithmetic
from ..network.kind import Netx, parameters
from ..network.layers import Conv, Dense, Flatten, Input, Layer, Shape
from ..network.neurons import NEURONS, NetworkError, Neuron, integers
from .pool import lowered_pool

_SPATIAL = ("stride", "padding", "dilation")
_SYNAPSES = {"neuron", "weight", "bias", "delay", "inFeatures", "outFeatures"}
_KERNELS = {"neuron", "weight", "delay", "inChannels", "outChannels", "kernelSize", *_SPATIAL}
NO_GROUP = "is no group: damaged, or not laid out as netx. Fetch or export it again."
LAYERS: dict[str, set[str]] = {
    "input": {"neuron", "weight", "bias"},
    "flatten": set(),
    "dense": _SYNAPSES,
    "dense_rec": _SYNAPSES | {"weight_rec"},
    "recurrent": _SYNAPSES | {"recWeight"},
    "conv": _KERNELS | {"bias", "groups"},
    "pool": _KERNELS | {"groups"},
}
"""Layer types and the datasets that they know, beside `type` and `shape`."""
OLD = ("recurrent",)
"""Types that early versions of SLAYER wrote and lava-dl 0.6 skips silently: `dense_rec` of other name."""
_SITS_IN = {
    "input": "Input",
    "dense": "Dense",
    "dense_rec": "Dense",
    "recurrent": "Dense",
    "conv": "Conv",
    "pool": "Conv",
}
"""What the neurons' `layers` call these types."""

_UNBUILDABLE = {
    "convT": "lava-dl writes it but cannot build it: write the transposed convolution out as dense.",
    "unpool": "lava-dl writes it but cannot build it: repeat the values in the next layer's weights.",
    "average": "lava-dl can neither build nor even export it (its writer crashes): average or sum "
    "pooling is written as `pool` with constant weights; a mean over outputs is taken after the run.",
    "concat": "lava-dl has only its name, and netx is a chain: write one dense layer over all parts.",
    "affine": "lava-dl would skip it silently; its own Affine blocks are exported as `dense`.",
    "dense_comp": "lava-dl calls a function for it that does not exist: complex layers are `dense` "
    "with weight/real and weight/imag.",
}
_ADAPTIVE = {
    "ALIF": "lava-dl crashes on it",
    "ADRF_PHASE": "lava-dl would silently run it as RF_PHASE, without its adaptation",
    "ADRF_IZHIKEVICH": "lava-dl would silently run it as RF_IZHIKEVICH, without its adaptation",
}


@dataclass(frozen=True)
class Options:
    """What the layers of a file are read with, see `read_netx`."""

    spike_exp: int
    lower_pooling: bool = False
    neurons: Collection[type[Neuron]] = NEURONS


def read_layer(
    group: Group, options: Options, *, first: bool, before: Shape | None, ignored: list[str]
) -> Layer:
    """The layer in a group; what lava-dl would ignore, and we do, is told to `ignored`.

    `before`: output shape of the layer before, where it is known; only a pool needs it. Raises
    NetworkError for what is damaged, or unknown to netx.
    """
    try:
        return _read_layer(group, options, first, before, ignored)
    except NetworkError as error:  # `Network` has its own names for some datasets
        name, end, rest = str(error).partition(" ")
        stem, bracket, index = name.partition("[")
        names = _dataset_names(options.neurons)
        if stem in names:
            raise NetworkError(names[stem] + bracket + index + end + rest) from None
        raise


def layer_type(group: Group) -> str:
    """What a layer's group says it is, such as "dense"; NetworkError where it says nothing."""
    return _text(group, "type")


def _dataset_names(kinds: Iterable[type[Neuron]]) -> dict[str, str]:
    """What the file calls the fields of layers and neurons that have other names there."""
    names = {"recurrent": "weight_rec", "imaginary": "weight/imag"}
    for kind in kinds:
        names |= {f: f"neuron/{p.netx}" for f, p in parameters(kind).items() if p.netx is not None}
    return names


def _read_layer(
    group: Group, options: Options, first: bool, before: Shape | None, ignored: list[str]
) -> Layer:
    kind = layer_type(group)
    if kind not in LAYERS:
        fix = _UNBUILDABLE.get(kind, "lava-dl would skip it silently: replace the layer.")
        known = ", ".join(name for name in LAYERS if name not in ("pool", *OLD))
        raise NetworkError(f"layer type {kind!r} is not supported (supported: {known}). {fix}")
    _tell_unknown(group, "", LAYERS[kind] | {"type", "shape"}, ignored)
    if kind == "flatten":
        return Flatten()
    neuron = _read_neuron(group, kind, options, ignored)
    if kind == "input":
        return _read_input(group, neuron, first)
    if kind == "pool":
        return _read_pool(group, neuron, before, options.lower_pooling)
    if kind == "conv":
        return _read_conv(group, neuron, ignored)
    feedback = {"dense_rec": "weight_rec", "recurrent": "recWeight"}.get(kind)
    return _read_dense(group, neuron, feedback, ignored)


def _tell_unknown(group: Group, prefix: str, known: set[str], ignored: list[str]) -> None:
    for name in sorted(set(group) - known):
        ignored.append(f"{prefix}{name} is unknown to lava-dl, which ignores it")


# -- layers ------------------------------------------------------------------------------------


def _read_input(group: Group, neuron: Any, first: bool) -> Input:
    if not first:
        raise NetworkError("an input layer can only come first.")
    shape = needed(group, "shape")
    return Input(
        tuple(shape.ravel().tolist()), neuron, _number(group, "weight"), _number(group, "bias")
    )


def _read_dense(group: Group, neuron: Any, feedback: str | None, ignored: list[str]) -> Dense:
    """`feedback`: the dataset of recurrent weights."""
    bias = array(group, "bias")
    delay = array(group, "delay")
    is_complex = isinstance(group.get("weight"), Group)
    if feedback is not None:
        if is_complex:
            raise NetworkError(
                "weight is complex; lava-dl has no complex recurrent layers. Use dense layers."
            )
        if delay is not None and not delay.any():  # lava-dl scales such weights wrongly
            raise NetworkError(
                "delay is stored, all zero; because of it lava-dl scales the weights of a recurrent "
                "layer wrongly, and runs another network. Remove the dataset 'delay'."
            )
        return Dense(
            _matrix(group, "weight"),
            None if bias is None else bias.ravel(),
            neuron,
            recurrent=_matrix(group, feedback),
            delay=_delay(delay),
        )
    if is_complex:
        for name, stored in (("bias", bias), ("delay", delay)):
            if stored is not None and stored.any():
                ignored.append(f"{name} of a complex layer is ignored by lava-dl")
        real, imaginary = _matrix(group, "weight/real"), _matrix(group, "weight/imag")
        return Dense(real, None, neuron, imaginary=imaginary)
    return Dense(
        _matrix(group, "weight"),
        None if bias is None else bias.ravel(),
        neuron,
        delay=_delay(delay),
    )


def _matrix(group: Group, name: str) -> NDArray[Any]:
    """A weight matrix; that of a single output may be stored flat."""
    weight = needed(group, name)
    if weight.ndim != 1:
        return weight
    out = int(np.prod(needed(group, "shape")))
    if weight.size % out:
        raise NetworkError(
            f"{name} has {weight.size} entries, not a multiple of shape {out}. Export the network "
            f"again."
        )
    return weight.reshape(out, -1)


def _delay(stored: NDArray[Any] | None) -> Any:
    if stored is None:
        return None
    if stored.max() > arithmetic.DELAY_MAX:
        raise NetworkError(
            f"delay reaches {stored.max():g} steps; lava-dl would clamp it to "
            f"{arithmetic.DELAY_MAX} and run another network. Train with delays up to "
            f"{arithmetic.DELAY_MAX}."
        )
    return stored


def _read_conv(group: Group, neuron: Any, ignored: list[str]) -> Conv:
    delay = array(group, "delay")
    if delay is not None and delay.any():
        ignored.append(
            f"delay (up to {delay.max():g} steps) of a convolution is ignored by lava-dl"
        )
    bias = array(group, "bias")
    if bias is not None and bias.ndim == 3:
        bias = bias.transpose(2, 1, 0)
    options: dict[str, Any] = {name: needed(group, name) for name in (*_SPATIAL, "groups")}
    return Conv(_kernel(group), bias, neuron, **options)


def _kernel(group: Group) -> NDArray[Any]:
    if isinstance(group.get("weight"), Group):
        raise NetworkError(
            "weight is complex; lava-dl cannot build complex convolutions. Use dense layers."
        )
    weight = needed(group, "weight")
    return weight[..., 0] if weight.ndim == 5 and weight.shape[4] == 1 else weight


def _read_pool(group: Group, neuron: Any, before: Shape | None, lower: bool) -> Conv:
    options: dict[str, Any] = {name: needed(group, name) for name in _SPATIAL}
    delay = array(group, "delay")
    if delay is not None and delay.any():
        raise NetworkError(
            "layer type 'pool' cannot be built by netx, nor lowered to a convolution where it has "
            "delays: netx has none there. Train the pool without delay."
        )
    conv = lowered_pool(_kernel(group), neuron, before, **options)
    if not lower:
        raise NetworkError(
            "layer type 'pool' cannot be built by netx. It is exactly a depthwise convolution: "
            "read_netx(..., lower_pooling=True) makes it one."
        )
    return conv


def check_shape(group: Group, shape: Shape) -> None:
    """Refuse a stored shape that is not the one that weights and layers before give: NetworkError."""
    stored = array(group, "shape")
    if stored is None:
        return
    stored_axes = [n for n in stored.ravel().tolist() if n != 1]
    if stored_axes != [n for n in shape if n != 1]:
        raise NetworkError(
            f"shape says {stored.tolist()}, but the weights and the layer before give "
            f"{list(shape)}. Axes are C, H, W; export the network again."
        )


# -- neurons -----------------------------------------------------------------------------------


def _read_neuron(
    layer: Group, layer_type: str, options: Options, ignored: list[str]
) -> Neuron | None:
    group = layer.get("neuron")
    if group is None:
        return None
    if not isinstance(group, Group):
        raise NetworkError(f"neuron {NO_GROUP}")
    name = _text(group, "type")
    stored = [(kind, kind.netx) for kind in options.neurons if kind.netx is not None]
    alike = [(kind, netx) for kind, netx in stored if name in netx.types]
    if not alike:
        known = dict.fromkeys(type_ for _, netx in stored for type_ in netx.types)
        reason = _ADAPTIVE.get(name)
        raise NetworkError(
            f"neuron type {name!r} is not supported (supported: {', '.join(known)})."
            + (f" {reason}: train without adaptation." if reason else "")
        )
    if "messageBits" in group:
        raise NetworkError(
            "neuron/messageBits is there; lava-dl cannot run such a layer. Remove the dataset: the "
            "width of messages follows from the neuron type."
        )
    kind, netx = _kind_of(group, layer_type, alike, ignored)
    _tell_ignored(group, name, kind, netx, ignored)
    for dataset, complaint in netx.refused.items():
        if (other := _other_constant(group, dataset, netx.constants[dataset])) is not None:
            raise NetworkError(complaint.format(other))
    values: dict[str, Any] = {}
    for field, parameter in parameters(kind).items():
        if parameter.netx is not None:
            value = needed(group, parameter.netx)
            by_neuron = parameter.per_neuron and value.ndim == 3
            values[field] = value.transpose(2, 1, 0) if by_neuron else value
        elif field == "spike_exp":
            values[field] = options.spike_exp
    if len(netx.types) > 1:
        values["kind"] = name
    return kind(**values)


def _kind_of(
    group: Group,
    layer_type: str,
    alike: list[tuple[type[Neuron], Netx]],
    ignored: list[str],
) -> tuple[type[Neuron], Netx]:
    """Which of the kinds of a type the neurons of a layer are: by the layer, and by a marker.

    Where none may be in such a layer, the first: the layer then refuses it.
    """
    fitting = []
    for kind, netx in alike:
        marked = netx.marker is not None and netx.marker in group
        if _SITS_IN[layer_type] in kind.layers:
            if marked:  # its mere presence counts, in lava-dl too
                return kind, netx
            if netx.marker is None:
                fitting.append((kind, netx))
        elif marked:
            layer = f"{'an' if layer_type == 'input' else 'a'} {layer_type} layer"
            ignored.append(f"neuron/{netx.marker} of {layer} is ignored by lava-dl")
    return (*fitting, *alike)[0]


def _other_constant(group: Group, name: str, constant: bool | int | str) -> Any:
    """What a file has in place of a constant of its neuron type; None where it has none or that one."""
    if name not in group:
        return None
    if isinstance(constant, str):
        text = _text(group, name)
        return None if text.lower() == constant else text
    stored = array(group, name)
    assert stored is not None
    other = stored[stored != constant]
    return other.flat[0].astype(type(constant)).item() if other.size else None


def _tell_ignored(
    group: Group, name: str, kind: type[Neuron], netx: Netx, ignored: list[str]
) -> None:
    stored = {p.netx for p in parameters(kind).values() if p.netx is not None}
    scales = ("weight_exp", "wgtExp")
    for dataset, neutral, consequence in (
        ("refDelay", 1, "there is no refractory period"),
        *((scale, 0, "the weights are taken as they are") for scale in scales),
    ):
        value = None if dataset in stored else array(group, dataset)
        if value is not None and (value != neutral).any():
            ignored.append(
                f"neuron/{dataset} = {value.ravel()[0]:g} is ignored by lava-dl: {consequence}"
            )
    known = stored | {"type", "refDelay", *scales, *netx.types[name], *netx.constants}
    _tell_unknown(group, "neuron/", known, ignored)


# -- datasets ----------------------------------------------------------------------------------


def _missing(group: Group, name: str) -> NetworkError:
    return NetworkError(
        f"dataset '{name}' is missing (found {sorted(group)}). The file is incomplete: export the "
        f"network again."
    )


def needed(group: Group, name: str) -> NDArray[Any]:
    """A dataset as an array of numbers, as it is stored. Raises NetworkError where there are none."""
    stored = array(group, name)
    if stored is None:
        raise _missing(group, name)
    return stored


def array(group: Group, name: str) -> NDArray[Any] | None:
    """A dataset as an array of numbers; None where it is absent. Raises NetworkError for other things."""
    item = group.get(name)
    if item is None:
        return None
    if isinstance(item, Group):
        raise _missing(group, name)
    if isinstance(item, Unread):
        raise NetworkError(f"dataset '{name}' {item.why}; the file is damaged.")
    if not isinstance(item, np.ndarray):
        raise NetworkError(f"dataset '{name}' has dtype object (text); numbers are needed.")
    return item


def _text(group: Group, name: str) -> str:
    """A text, alone or the first of several, as lava-dl takes it."""
    item = group.get(name)
    while isinstance(item, list) and item:
        item = item[0]
    if item is None or isinstance(item, Group):
        raise _missing(group, name)
    if isinstance(item, Unread):
        raise NetworkError(f"dataset '{name}' {item.why}; the file is damaged.")
    if isinstance(item, str):
        return item
    numbers = np.ravel(np.asarray(item))
    if not numbers.size:
        raise NetworkError(f"dataset '{name}' has no entry; the file is damaged: export it again.")
    return str(numbers[0])


def _number(group: Group, name: str) -> int | None:
    stored = array(group, name)
    if stored is None:
        return None
    fix = "Export the network again."
    return int(integers(stored, name, -(1 << 31), (1 << 31) - 1, fix, scalar=True).item())
