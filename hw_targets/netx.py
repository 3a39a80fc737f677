"""lava-dl's netx format: `read_netx` and `write_netx`.

A netx file (`.net`) is HDF5. Root group `layer` has one group per layer, named "0", "1", ...;
layers are chained in numeric order. Everything is a dataset (lava-dl uses no attributes):

==================  ====================  =====================================================
dataset             shape, stored dtype   meaning
==================  ====================  =====================================================
type                (1,) S10              input, flatten, dense, conv
shape               (N,) or (C,H,W) i8    output shape, torch order (netx reverses it to W, H, C)
weight              dense (out, in) f4    integers; dense of one output may be 1-D
..                  conv (O, I/g, ky, kx) torch's correlation kernel, an optional trailing axis of 1
..                  input ()              scale of the input transform, not applied by netx
bias                (out,) f4             13-bit mantissa, added to v in every step; conv: per
..                                        channel (C,), or per neuron in **W, H, C** order
stride, padding,    () or (2,) i8         conv only, (y, x)
dilation
groups              () i8                 conv only
inFeatures, ...     () or (2,) i8         informative (lava-dl's SLAYER reader wants them)
neuron/type         string                CUBA or LOIHI
neuron/iDecay       () or vector i8       current decay, 0..4096; a vector per neuron (dense), per
neuron/vDecay                             channel, or per neuron in W, H, C order (conv)
neuron/vThMant      () or vector i8       threshold mantissa, 17 bit
neuron/refDelay     () i8                 always 1; netx ignores it
neuron/gradedSpike  () bool               always false here; netx ignores it
==================  ====================  =====================================================

A dense layer without `neuron` has netx's default, an integrator that never spikes.

What netx cannot hold goes into the root group `spikeship`, which lava-dl ignores: attributes
`format` (1), `digest` (SHA-256 of the integers, checked on reading) and one per field of `Recipe`
(absent where it is None), and a subgroup `provenance` with one string attribute per entry.

lava-dl casts silently (fractions truncate, weights beyond [-256, 254] clip or vanish, unknown
layers are skipped). Here each of these is a `NetxError` that names the file and the layer.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import fields
from pathlib import Path
from typing import Any

import h5py
import numpy as np
from numpy.typing import NDArray

from . import arithmetic
from .network import (
    Conv,
    CubaLIF,
    Dense,
    Flatten,
    Input,
    Layer,
    Network,
    NetworkError,
    Recipe,
    Shape,
    integers,
)
from .trace import atomic_path

LAYER_TYPES = ("input", "flatten", "dense", "conv")
NEURON_TYPES = ("CUBA", "LOIHI")
_FORMAT = 1
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What h5py, or the code below, raises on a broken structure; which one depends on the place."""


class NetxError(ValueError):
    """A netx file that cannot be read, or a network that netx cannot hold."""


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except NetworkError as error:
        raise NetxError(f"{where}: {error}") from None


def read_netx(path: str | Path, input_shape: Shape | None = None) -> Network:
    """The `Network` in a netx file, with its `recipe` where the file has one.

    `input_shape` (C, H, W): needed only where a file starts with a convolution and has no `input`
    layer. Raises FileNotFoundError, or NetxError naming file, layer, value, limit and fix.
    """
    path = Path(path)
    if not path.is_file():
        raise FileNotFoundError(f"{path}: no such file.")
    try:
        with h5py.File(path, "r") as file:
            return _read(file, str(path), input_shape)
    except OSError as error:
        raise NetxError(
            f"{path}: not a readable HDF5 file ({error}). It may be truncated, a Git LFS pointer, "
            f"or another format: fetch or export it again."
        ) from None
    except NetxError:
        raise
    except _DAMAGE as error:
        raise NetxError(
            f"{path}: damaged, or not laid out as netx ({type(error).__name__}: {error}). Fetch or "
            f"export it again."
        ) from error


def _read(file: h5py.File, path: str, input_shape: Shape | None) -> Network:
    if not isinstance(file.get("layer"), h5py.Group) or not len(file["layer"]):
        raise NetxError(
            f"{path}: no root group 'layer' with layers (found {sorted(file)}). This is HDF5 but "
            f"not a netx network."
        )
    groups = file["layer"]
    names = [str(i) for i in range(len(groups))]
    if set(names) != set(groups):
        raise NetxError(
            f"{path}: layers are named {sorted(groups)}; they must be numbered 0 to "
            f"{len(groups) - 1}."
        )
    layers: list[Layer] = []
    for name in names:
        with _naming(f"{path}: layer {name}"):
            layers.append(_read_layer(groups[name], first=name == "0"))
    if input_shape is not None and not isinstance(layers[0], Input):
        layers.insert(0, Input(tuple(input_shape)))
    with _naming(path):
        network = Network(layers, _read_recipe(file, path))
    for i, (name, shape) in enumerate(zip(names, network.shapes[-len(names) :], strict=True)):
        with _naming(f"{path}: layer {i}"):
            _check_shape(groups[name], shape)
    stored = file["spikeship"].attrs.get("digest") if "spikeship" in file else None
    if stored is not None and stored != network.digest:
        raise NetxError(
            f"{path}: the integers do not match the digest stored with them ({stored[:12]}, found "
            f"{network.digest[:12]}): the file was changed after export. Export it again, or "
            f"remove the group 'spikeship' to accept the changed integers."
        )
    return network


def _array(group: h5py.Group, name: str, *, needed: bool = True) -> NDArray[Any] | None:
    """A dataset as an array of numbers; None where it is absent and not needed."""
    item = group.get(name)
    if item is None and not needed:
        return None
    if not isinstance(item, h5py.Dataset):
        raise NetworkError(
            f"dataset '{name}' is missing (found {sorted(group)}). The file is incomplete: export "
            f"the network again."
        )
    try:
        array = np.asarray(item[()])
    except OSError as error:
        raise NetworkError(
            f"dataset '{name}' cannot be read ({error}); the file is damaged."
        ) from None
    if array.dtype.kind not in "biuf":
        raise NetworkError(f"dataset '{name}' has dtype {array.dtype}; numbers are needed.")
    return array


def _text(group: h5py.Group, name: str) -> str:
    item = group.get(name)
    if not isinstance(item, h5py.Dataset):
        raise NetworkError(
            f"dataset '{name}' is missing (found {sorted(group)}). The file is incomplete: export "
            f"the network again."
        )
    value = np.asarray(item[()]).ravel()[0]
    return value.decode("ascii", "replace") if isinstance(value, bytes) else str(value)


def _number(group: h5py.Group, name: str) -> int | None:
    array = _array(group, name, needed=False)
    if array is None:
        return None
    fix = "Export the network again."
    return int(integers(array, name, -(1 << 31), (1 << 31) - 1, fix, scalar=True).item())


def _read_layer(group: h5py.Group, *, first: bool) -> Layer:
    kind = _text(group, "type")
    if kind not in LAYER_TYPES:
        raise NetworkError(
            f"layer type {kind!r} is not supported (supported: {', '.join(LAYER_TYPES)}). lava-dl "
            f"would skip or refuse it: replace the layer, fold pooling into a convolution."
        )
    neuron = _read_neuron(group)
    if kind == "input":
        if not first:
            raise NetworkError("an input layer can only come first.")
        shape = _array(group, "shape")
        assert shape is not None
        scale, offset = _number(group, "weight"), _number(group, "bias")
        return Input(tuple(shape.ravel().tolist()), neuron, scale, offset)
    if kind == "flatten":
        return Flatten()
    delay = _array(group, "delay", needed=False)
    if delay is not None and delay.any():
        raise NetworkError(
            f"synaptic delays up to {delay.max():g} steps are not supported. Remove the delays."
        )
    weight = _array(group, "weight")
    bias = _array(group, "bias", needed=False)
    assert weight is not None
    if kind == "dense":
        if weight.ndim == 1:
            shape = _array(group, "shape")
            assert shape is not None
            out = int(np.prod(shape))
            if weight.size % out:
                raise NetworkError(
                    f"weight has {weight.size} entries, not a multiple of shape {out}."
                )
            weight = weight.reshape(out, -1)
        return Dense(weight, None if bias is None else bias.ravel(), neuron)
    if weight.ndim == 5 and weight.shape[4] == 1:
        weight = weight[..., 0]
    if bias is not None and bias.ndim == 3:
        bias = bias.transpose(2, 1, 0)
    options: dict[str, Any] = {
        name: _array(group, name) for name in ("stride", "padding", "dilation", "groups")
    }
    return Conv(weight, bias, neuron, **options)


def _read_neuron(group: h5py.Group) -> CubaLIF | None:
    if "neuron" not in group:
        return None
    neuron = group["neuron"]
    kind = _text(neuron, "type")
    if kind not in NEURON_TYPES:
        raise NetworkError(
            f"neuron type {kind!r} is not supported (supported: {', '.join(NEURON_TYPES)})."
        )
    graded = _array(neuron, "gradedSpike", needed=False)
    if graded is not None and graded.any():
        raise NetworkError(
            "gradedSpike is true; netx ignores it and sends binary spikes. "
            "Train with binary spikes."
        )
    values = []
    for name in ("iDecay", "vDecay", "vThMant"):
        array = _array(neuron, name)
        assert array is not None
        values.append(array.transpose(2, 1, 0) if array.ndim == 3 else array)
    names = {"i_decay": "neuron/iDecay", "v_decay": "neuron/vDecay", "threshold": "neuron/vThMant"}
    try:
        return CubaLIF(values[0], values[1], values[2], kind)  # type: ignore[arg-type]
    except NetworkError as error:
        message = str(error)
        for ours, theirs in names.items():
            if message.startswith(ours):
                message = theirs + message.removeprefix(ours)
        raise NetworkError(message) from None


def _check_shape(group: h5py.Group, shape: Shape) -> None:
    stored = _array(group, "shape", needed=False)
    if stored is None:
        return
    found = [n for n in stored.ravel().tolist() if n != 1]
    if found != [n for n in shape if n != 1]:
        raise NetworkError(
            f"shape says {stored.tolist()}, but the weights and the layer before give "
            f"{list(shape)}. Axes are C, H, W; export the network again."
        )


def _read_recipe(file: h5py.File, path: str) -> Recipe | None:
    if "spikeship" not in file:
        return None
    group = file["spikeship"]
    if group.attrs.get("format") != _FORMAT:
        raise NetxError(
            f"{path}: group 'spikeship' has format {group.attrs.get('format')}, this version reads "
            f"{_FORMAT}. Update spikeship."
        )
    if "steps" not in group.attrs:
        return None
    values = {
        f.name: _plain(group.attrs[f.name])
        for f in fields(Recipe)
        if f.name != "provenance" and f.name in group.attrs
    }
    provenance = {k: str(v) for k, v in group["provenance"].attrs.items()}
    return Recipe(**values, provenance=provenance)


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.generic) else value


def write_netx(network: Network, path: str | Path) -> None:
    """Write a network that lava-dl's `netx.hdf5.Network` loads and runs to the same integers.

    Written under a temporary name and renamed: a failure leaves no file. Raises NetxError for what
    Lava would change: an all-zero dense matrix, or weights altered by Lava's own re-scaling (see
    `arithmetic.synapse_format`).
    """
    for i, layer in enumerate(network.layers):
        if isinstance(layer, Dense):
            with _naming(f"{path}: layer {i} (Dense)"):
                _check_dense(layer)
    with atomic_path(path) as temporary, h5py.File(temporary, "w") as file:
        groups = file.create_group("layer")
        for i, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=True)):
            _write_layer(groups.create_group(str(i)), layer, shape)
        ours = file.create_group("spikeship")
        ours.attrs["format"] = _FORMAT
        ours.attrs["digest"] = network.digest
        recipe = network.recipe
        if recipe is not None:
            for f in fields(Recipe):
                value = getattr(recipe, f.name)
                if f.name != "provenance" and value is not None:
                    ours.attrs[f.name] = value
            ours.create_group("provenance").attrs.update(recipe.provenance)


def _check_dense(layer: Dense) -> None:
    if not layer.weight.any():
        raise NetworkError(
            "all weights are 0; lava-dl cannot load such a layer. Drop the layer, or set one "
            "weight of an input that never spikes to 2."
        )
    changed = arithmetic.synapse_format(layer.weight).weight != layer.weight
    if changed.any():
        where = tuple(np.argwhere(changed)[0].tolist())
        became = arithmetic.synapse_format(layer.weight).weight[where]
        raise NetworkError(
            f"weight{list(where)} = {layer.weight[where]} would become {became} in Lava (a matrix "
            f"without positive weight). Give it one positive weight, or another scale."
        )


def _write_layer(group: h5py.Group, layer: Layer, shape: Shape) -> None:
    group["type"] = np.array([type(layer).__name__.lower()], dtype="S10")
    group["shape"] = np.array(shape, np.int64)
    neuron = None if isinstance(layer, Flatten) else layer.neuron
    if neuron is not None:
        parameters = group.create_group("neuron")
        parameters["type"] = neuron.kind
        parameters["iDecay"] = _neuronwise(neuron.i_decay, np.int64)
        parameters["vDecay"] = _neuronwise(neuron.v_decay, np.int64)
        parameters["vThMant"] = _neuronwise(neuron.threshold, np.int64)
        parameters["refDelay"] = 1
        parameters["gradedSpike"] = False
    if isinstance(layer, Input):
        for name in ("weight", "bias"):
            if getattr(layer, name) is not None:
                group[name] = np.array([getattr(layer, name)], np.float32)
        return
    if isinstance(layer, Flatten):
        return
    group["weight"] = layer.weight.astype(np.float32)
    if layer.bias is not None:
        group["bias"] = _neuronwise(np.atleast_1d(layer.bias), np.float32)
    out, into = layer.weight.shape[:2]
    if isinstance(layer, Dense):
        group["inFeatures"], group["outFeatures"] = into, out
        return
    group["inChannels"], group["outChannels"] = into * layer.groups, out
    group["kernelSize"] = np.array(layer.weight.shape[2:], np.int64)
    for name in ("stride", "padding", "dilation"):
        group[name] = np.array(getattr(layer, name), np.int64)
    group["groups"] = layer.groups


def _neuronwise(value: Any, dtype: type) -> NDArray[Any]:
    """Per-neuron arrays of a convolution are W, H, C in the file; scalars and vectors stay."""
    array: NDArray[Any] = np.asarray(value, dtype)
    return array.transpose(2, 1, 0) if array.ndim == 3 else array
