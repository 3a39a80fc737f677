"""lava-dl's netx format: `read_netx` and `write_netx`.

A netx file (`.net`) is HDF5. Root group `layer` has one group per layer, named "0", "1", ...;
layers are chained in numeric order. Everything is a dataset (lava-dl uses no attributes):

==================  ====================  =====================================================
dataset             shape, stored dtype   meaning
==================  ====================  =====================================================
type                (1,) S10              input, flatten, dense, dense_rec, conv
shape               (N,) or (C,H,W) i8    output shape, torch order (netx reverses it to W, H, C)
weight              dense (out, in) f4    integers; dense of one output may be 1-D
..                  conv (O, I/g, ky, kx) torch's correlation kernel, an optional trailing axis of 1
..                  input ()              scale of the input transform, not applied by netx
weight/real, /imag  (out, in) f4          dense of RF neurons has these two instead of `weight`
weight_rec          (out, out) f4         dense_rec only: from the layer's own neurons; early
..                                        SLAYER called them recWeight, and the type recurrent
bias                (out,) f4             13-bit mantissa, added to v (SDNN: to sigma) in every step;
..                                        conv: per channel (C,), or per neuron in **W, H, C** order
..                  input ()              offset of the input transform, not applied by netx
delay               () f4, (out,), (in,)  dense of real weights only: 0..62 further steps; a vector
..                  or (out, in)          of length out = in counts per output
stride, padding,    () or (2,) i8         conv only, (y, x)
dilation
groups              () i8                 conv only, at most 127
inFeatures, ...     () or (2,) i8         informative (lava-dl's SLAYER reader wants them)
neuron/type         () string             CUBA or LOIHI, SDNN, RF_PHASE or RF_IZHIKEVICH
neuron/vThMant      () or vector i8       threshold mantissa, 17 bit; a vector only for CUBA, as below
neuron/iDecay       () or vector i8       CUBA: current decay, 0..4096; a vector per neuron (dense),
neuron/vDecay                             per channel, or per neuron in W, H, C order (conv)
neuron/sinDecay     () i8                 RF: round(4096 * (1 - decay) * sin(2 pi / period)), 1..4095
neuron/cosDecay     () i8                 RF: the same with cos, 0..4095
neuron/activation   string                SDNN: relu; netx ignores it and runs relu
neuron/sigma_output () bool               SDNN: present (with any value) in the readout layer only
neuron/refDelay     () i8                 CUBA: always 1; netx ignores it
neuron/gradedSpike  () bool               CUBA, RF: always false here; netx ignores it
==================  ====================  =====================================================

SDNN is `Delta` in the input layer, `Sigma` with `sigma_output`, else `SigmaDelta`; input layers hold
CUBA or SDNN. RF needs dense layers with weight/real and weight/imag, and these have neither bias
nor delay. A dense layer without `neuron` has netx's default, an integrator that never spikes.

What netx cannot hold goes into the root group `spikeship`, which lava-dl ignores: attributes
`format` (3), `digest` (SHA-256 of the integers), `spike_exp` where the network has sigma-delta
neurons, and, where it has a recipe, one per name of `Recipe.attributes` (absent where it is None)
and `recipe_digest`, with a subgroup `provenance` of one string attribute per entry. Both digests are
checked on reading, and a name that is not among these is refused: nothing in the group can change
unnoticed. Texts have a fixed length, UTF-8, unless they are longer than an attribute may be: libhdf5
reads those more safely. Formats 1 and 2 had texts of variable length, format 1 no `recipe_digest`.

lava-dl casts silently (fractions truncate, weights beyond [-256, 254] clip or vanish, unknown
layers are skipped). Here each of these is a `NetxError` that names the file and the layer. What
lava-dl merely ignores (refDelay other than 1, delays of convolutions, neuron/weight_exp, unknown
datasets, ...) is ignored here too, and a `NetxWarning` says so. SLAYER also writes layers of type
`pool`, which netx cannot build; `read_netx` can lower them, see there.
"""

from __future__ import annotations

import warnings
from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from io import BytesIO
from pathlib import Path
from typing import Any

import h5py
import numpy as np

from ..files import write_bytes
from ..hdf5 import Group, Hdf5Error, read_hdf5
from ..network.layers import Conv, Flatten, Input, Layer, Shape
from ..network.network import Network
from ..network.neurons import NEURONS, NetworkError, Neuron
from ..network.recipe import ATTRIBUTES, Recipe, attributes_digest
from .read import NO_GROUP, OLD, Options, array, check_shape, layer_type, read_layer
from .write import check_layer, fixed, write_layer

_FORMATS = (1, 2, 3)
_RECIPE_NAMES = set(ATTRIBUTES) - {"provenance"}
MAX_LAYERS = 1000
"""Of a file; the deepest networks have some hundreds."""
_SPIKE_EXP = 6
"""lava-dl's default."""
_DAMAGE = (ArithmeticError, AttributeError, LookupError, RuntimeError, TypeError, ValueError)
"""What the code below raises on a broken structure; which one depends on the place."""


class NetxError(ValueError):
    """A netx file that cannot be read, or a network that netx cannot hold."""


class NetxWarning(UserWarning):
    """A netx file says something that lava-dl, and thus this package, ignores."""


@contextmanager
def _naming(where: str) -> Iterator[None]:
    try:
        yield
    except NetworkError as error:
        raise NetxError(f"{where}: {error}") from None


def read_netx(
    path: str | Path,
    input_shape: Shape | None = None,
    *,
    spike_exp: int | None = None,
    num_layers: int | None = None,
    skip_layers: int = 0,
    lower_pooling: bool = False,
    neurons: Collection[type[Neuron]] = NEURONS,
    safe: bool | None = None,
    max_bytes: int | None = None,
) -> Network:
    """The `Network` in a netx file, with its `recipe` where the file has one.

    `input_shape` (C, H, W): needed only where a file starts with a convolution and has no `input`
    layer. `spike_exp`: of all sigma-delta neurons; default: what `write_netx` stored, else 6.
    `num_layers`, `skip_layers`: as in lava-dl, layers of the file to keep, then how many of these to
    leave out at the start (flatten layers count); the part then starts with an `Input` of the shape
    that the layer before it had, unless it starts with a dense layer, and has no recipe.
    `lower_pooling`: read SLAYER's `pool` layers as the depthwise convolutions that they are, where
    that is exact (kernels must tile the height: SLAYER's pool mixes channels otherwise).
    `neurons`: the kinds of neurons that the file may hold, of your own with (*NEURONS, MyNeuron).
    `safe`: for files of strangers: libhdf5, which can crash or loop on them, runs in a process of its
    own. `max_bytes`: what the file's arrays may take, 4 GiB by default. Both as in `read_hdf5`.

    Raises FileNotFoundError, or NetxError naming file, layer, value, limit and fix. Warns with
    `NetxWarning` of entries that lava-dl ignores.
    """
    path = Path(path)
    file = _root(path, safe, max_bytes)
    ignored: list[str] = []
    try:
        options = Options(_SPIKE_EXP, lower_pooling, neurons)
        network = _read(file, str(path), input_shape, num_layers, skip_layers, options, ignored)
    except NetxError:
        raise
    except _DAMAGE as error:
        raise NetxError(
            f"{path}: damaged, or not laid out as netx ({type(error).__name__}: {error}). Fetch or "
            f"export it again."
        ) from error
    for note in ignored:
        warnings.warn(f"{path}: {note}, and so do we.", NetxWarning, stacklevel=2)
    with _naming(str(path)):
        return network if spike_exp is None else _with_exponent(network, spike_exp)


def _root(path: Path, safe: bool | None = None, max_bytes: int | None = None) -> Group:
    """What is in a file. Raises FileNotFoundError, NetxError."""
    try:
        return read_hdf5(path, safe=safe, max_bytes=max_bytes)
    except Hdf5Error as error:
        raise NetxError(
            f"{path}: {error}. It may be truncated, a Git LFS pointer, or another format: fetch or "
            f"export it again."
        ) from None


def old_layers(path: str | Path) -> list[str]:
    """The layers of a netx file whose type only early versions of SLAYER wrote, see `read.OLD`."""
    layers = _root(Path(path)).group("layer")
    return [name for name in layers if layer_type(layers.group(name)) in OLD]


def _read(
    file: Group,
    path: str,
    input_shape: Shape | None,
    num_layers: int | None,
    skip_layers: int,
    options: Options,
    ignored: list[str],
) -> Network:
    groups = file.get("layer")
    if not isinstance(groups, Group) or not len(groups):
        raise NetxError(
            f"{path}: no root group 'layer' with layers (found {sorted(file)}). This is HDF5 but "
            f"not a netx network."
        )
    if len(groups) > MAX_LAYERS:
        raise NetxError(f"{path}: {len(groups)} layers; at most {MAX_LAYERS} are read.")
    names = [str(i) for i in range(len(groups))]
    if set(names) != set(groups):
        raise NetxError(
            f"{path}: layers are named {sorted(groups)}; they must be numbered 0 to "
            f"{len(groups) - 1}."
        )
    if num_layers is not None:
        if num_layers < 1:
            raise NetxError(f"{path}: num_layers = {num_layers}; give 1 or more, or none for all.")
        names = names[:num_layers]
    ours = _read_ours(file, path)
    options = replace(options, spike_exp=ours.get("spike_exp", _SPIKE_EXP))
    layers: list[Layer] = []
    before = input_shape
    for name in names:
        notes: list[str] = []
        with _naming(f"{path}: layer {name}"):
            layers.append(
                read_layer(
                    _layer(groups, name), options, first=name == "0", before=before, ignored=notes
                )
            )
            stored = array(groups.group(name), "shape")  # `check_shape` compares it below
            before = None if stored is None else tuple(stored.ravel().tolist())
        ignored += [f"layer {name}: {note}" for note in notes]
    added = input_shape is not None and isinstance(layers[0], Conv | Flatten)
    if added and input_shape is not None:
        layers.insert(0, Input(tuple(input_shape)))
    with _naming(f"{path} (counting an input layer put first)" if added else path):
        network = Network(layers, _recipe_of(ours))
        if input_shape is not None and network.input_shape != tuple(input_shape):
            raise NetworkError(
                f"input_shape {tuple(input_shape)} was given, but the file has "
                f"{network.input_shape}. Leave it out."
            )
    for name, shape in zip(names, network.shapes[-len(names) :], strict=True):
        with _naming(f"{path}: layer {name}"):
            check_shape(groups.group(name), shape)
    if num_layers is None and not skip_layers:
        _check_digest(ours.get("digest"), path, network)
        return network
    with _naming(path):
        return _part(network, skip_layers, int(added))


def _check_digest(stored: str | None, path: str, network: Network) -> None:
    if stored is not None and stored != network.digest:
        raise NetxError(
            f"{path}: the integers do not match the digest stored with them ({stored[:12]}, found "
            f"{network.digest[:12]}): the file was changed after export. Export it again, or "
            f"remove the group 'spikeship' to accept the changed integers."
        )


def _part(network: Network, skip_layers: int, added: int) -> Network:
    """The network without its recipe and its first layers; `added` ones are not in the file."""
    if not 0 <= skip_layers < len(network.layers) - added:
        raise NetworkError(
            f"skip_layers = {skip_layers}; of {len(network.layers) - added} layers at least one must "
            f"be left."
        )
    start = skip_layers + added if skip_layers else 0
    layers = list(network.layers[start:])
    if start and isinstance(layers[0], Conv | Flatten):
        layers.insert(0, Input(network.shapes[start - 1]))
    return Network(layers)


def _with_exponent(network: Network, spike_exp: int) -> Network:
    def changed(layer: Layer) -> Layer:
        if isinstance(layer, Flatten) or not hasattr(layer.neuron, "spike_exp"):
            return layer
        neuron: Any = layer.neuron
        return replace(layer, neuron=replace(neuron, spike_exp=spike_exp))

    return Network([changed(layer) for layer in network.layers], network.recipe)


def _layer(groups: Group, name: str) -> Group:
    layer = groups.get(name)
    if not isinstance(layer, Group):
        raise NetworkError(NO_GROUP)
    return layer


def _read_ours(file: Group, path: str) -> dict[str, Any]:
    """What the group `spikeship` says, nothing where there is none; `provenance` as a dictionary."""
    group = file.get("spikeship")
    if group is None:
        return {}
    if not isinstance(group, Group):
        raise NetxError(f"{path}: 'spikeship' is no group: the file is damaged. Export it again.")
    ours = {name: _plain(value) for name, value in group.attrs.items()}
    if ours.get("format") not in _FORMATS:
        raise NetxError(
            f"{path}: group 'spikeship' has format {ours.get('format')}, this version reads "
            f"{', '.join(map(str, _FORMATS))}. Update spikeship."
        )
    has_recipe = "steps" in ours
    needs = {"format", "digest"} | ({"steps"} if has_recipe else set())
    if has_recipe and ours["format"] > 1:
        needs.add("recipe_digest")
    knows = needs | {"spike_exp"} | (_RECIPE_NAMES if has_recipe else set())
    lacking, odd = sorted(needs - set(ours)), sorted(set(ours) - knows)
    provenance = group.get("provenance")
    if has_recipe and isinstance(provenance, Group):
        ours["provenance"] = {k: _plain(v) for k, v in provenance.attrs.items()}
    elif has_recipe:
        lacking.append("provenance")
    odd += sorted(set(group) - ({"provenance"} if has_recipe else set()))
    if lacking or odd:
        what = [f"lacks {', '.join(lacking)}"] if lacking else []
        what += [f"has {', '.join(odd)}, which does not belong there"] if odd else []
        raise NetxError(
            f"{path}: group 'spikeship' {' and '.join(what)}: the file is damaged, or was changed "
            f"after export. Export it again, or remove the group to go on without its recipe."
        )
    return ours


def _recipe_of(ours: dict[str, Any]) -> Recipe | None:
    """The recipe among what the group says, checked against its digest."""
    if "steps" not in ours:
        return None
    attributes = {name: ours[name] for name in ATTRIBUTES if name in ours}
    recipe, digest = Recipe.from_attributes(attributes), attributes_digest(attributes)
    stored = ours.get("recipe_digest", digest)
    if stored != digest:
        raise NetworkError(
            f"the recipe does not match the digest stored with it ({stored[:12]}, found "
            f"{digest[:12]}): the file was changed after export. Export it again, or remove the "
            f"group 'spikeship' to go on without a recipe."
        )
    return recipe


def _plain(value: Any) -> Any:
    return value.item() if isinstance(value, np.ndarray) and value.ndim == 0 else value


def write_netx(network: Network, path: str | Path, *, for_lava: bool = True) -> None:
    """Write a network that lava-dl's `netx.hdf5.Network` loads and runs to the same integers.

    Written under a temporary name and renamed: a failure leaves no file. lava-dl takes `spike_exp`
    as an argument: it must be given there where it is not 6. Raises NetxError for what Lava would
    change: all-zero dense matrices, weights altered by Lava's own re-scaling (see
    `arithmetic.synapse_formats`). `for_lava=False` writes those too, such as `read_netx` may have
    found them in a file: whatever it reads, it reads again with the same digest.
    """
    for i, layer in enumerate(network.layers if for_lava else ()):
        with _naming(f"{path}: layer {i} ({type(layer).__name__})"):
            check_layer(layer)
    content = BytesIO()  # so that a full disk meets no libhdf5, which crashes on it
    with h5py.File(content, "w") as file:
        groups = file.create_group("layer")
        for i, (layer, shape) in enumerate(zip(network.layers, network.shapes, strict=True)):
            with _naming(f"{path}: layer {i} ({type(layer).__name__})"):
                write_layer(groups.create_group(str(i)), layer, shape)
        ours = file.create_group("spikeship")
        ours.attrs["format"] = _FORMATS[-1]
        ours.attrs["digest"] = fixed(network.digest)
        if network.spike_exp is not None:
            ours.attrs["spike_exp"] = network.spike_exp
        recipe = network.recipe
        if recipe is not None:
            attributes = recipe.attributes()
            for name in sorted(_RECIPE_NAMES):
                if attributes[name] is not None:
                    ours.attrs[name] = fixed(attributes[name])
            ours.attrs["recipe_digest"] = fixed(recipe.digest)
            provenance = ours.create_group("provenance").attrs
            for name, text in recipe.provenance.items():
                provenance[name] = fixed(text)
    write_bytes(path, content.getbuffer())
