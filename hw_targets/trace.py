"""What a run produced (`Trace`) and what it cost in countable events (`Counts`)."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from .network import Conv, Dense, Input, Network, NetworkError, Population

Array = NDArray[np.signedinteger[Any]]

STATES = ("u", "v", "residue")
"""What a trace can hold beside spikes; which neurons have which is in their `states`."""


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """A temporary name beside `path`, renamed to it on success and removed on failure."""
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        mask = os.umask(0)
        os.umask(mask)
        temporary.chmod(0o666 & ~mask)  # mkstemp's 0600 would be a surprise
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


@dataclass(frozen=True)
class Overflow:
    """How often a layer left its number range: what the hardware wraps or clips, never silently."""

    u_wraps: int = 0
    """currents beyond +-2^23 that wrapped around; sigma-delta states beyond 32 bit"""
    v_clips: int = 0
    """voltages (real and imaginary parts of resonators) held at +-(2^23 - 1)"""
    sum_wraps: int = 0
    """synaptic sums beyond 32 bit (dense) or 24 bit (convolution)"""

    def __bool__(self) -> bool:
        return bool(self.u_wraps or self.v_clips or self.sum_wraps)

    def __add__(self, other: Overflow) -> Overflow:
        return Overflow(*(getattr(self, f.name) + getattr(other, f.name) for f in fields(Overflow)))


class Recorded(Sequence[Array]):
    """One array per population; asking for one that was not recorded is a NetworkError."""

    def __init__(self, what: str, arrays: Sequence[Array | None]) -> None:
        self._what = what
        self._arrays = tuple(arrays)

    @property
    def populations(self) -> tuple[int, ...]:
        """Indices of the populations that were recorded."""
        return tuple(i for i, array in enumerate(self._arrays) if array is not None)

    def __len__(self) -> int:
        return len(self._arrays)

    @overload
    def __getitem__(self, index: int) -> Array: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Array]: ...
    def __getitem__(self, index: int | slice) -> Array | Sequence[Array]:
        if isinstance(index, slice):
            return Recorded(self._what, self._arrays[index])
        array = self._arrays[index]
        if array is None:
            raise NetworkError(
                f"{self._what} of population {index} was not recorded, or its neurons have none; "
                f'ask for it with record="{self._what}.{index}".'
            )
        return array


@dataclass(frozen=True)
class Trace:
    """Spikes and states of populations, in Lava's own time: column 0 is step 1.

    `spikes`, `u`, `v`, `residue`: one array per population, of shape (sample, time, *layer shape),
    layer shape in (C, H, W) order; spikes are int8 0 / 1, int32 messages of sigma-delta neurons;
    states are int32, after the step (v after its reset). What u and v are in each neuron kind is in
    its class. None where the quantity was not asked for, see `Recorded` where not for all layers.
    `counts`: the last population's messages summed over all steps, int64 (sample, *layer shape).
    `overflow` has one entry per population where the backend counts it.
    """

    spikes: Recorded | None = None
    u: Recorded | None = None
    v: Recorded | None = None
    overflow: tuple[Overflow, ...] | None = None
    backend: str = "reference"
    residue: Recorded | None = None
    counts: NDArray[np.int64] | None = None

    def __post_init__(self) -> None:
        for name in ("spikes", *STATES):
            arrays = getattr(self, name)
            if arrays is not None and not isinstance(arrays, Recorded):
                object.__setattr__(self, name, Recorded(name, arrays))

    def aligned(self, network: Network, steps: int) -> Trace:
        """The same trace with layer latencies taken out.

        Column c of every layer is then its answer to input step c (columns 0 .. steps - 1). The run
        must have at least `steps + network.latency` steps. `counts` are of the whole run and go.
        """

        def cut(name: str) -> Recorded | None:
            arrays: Recorded | None = getattr(self, name)
            if arrays is None:
                return None
            out: list[Array | None] = [None] * len(arrays)
            for i in arrays.populations:
                found, need = arrays[i].shape[1], steps + network.latency
                if found < need:
                    raise NetworkError(
                        f"the trace has {found} steps; {steps} aligned steps of a network with "
                        f"latency {network.latency} need {need}."
                    )
                start = network.populations[i].latency
                out[i] = arrays[i][:, start : start + steps]
            return Recorded(name, out)

        states: dict[str, Any] = {name: cut(name) for name in STATES}
        return Trace(cut("spikes"), **states, overflow=self.overflow, backend=self.backend)

    def save(self, path: str | Path) -> None:
        """Write an .npz with `spikes.{i}`, `u.{i}`, ... for population i, `counts`, `backend`."""
        arrays: dict[str, Any] = {"backend": np.array(self.backend)}
        for name in ("spikes", *STATES):
            kept = getattr(self, name)
            if kept is not None:
                arrays |= {f"{name}.{i}": kept[i] for i in kept.populations}
        if self.counts is not None:
            arrays["counts"] = self.counts
        with atomic_path(path) as temporary, open(temporary, "wb") as file:
            np.savez_compressed(file, **arrays)

    @staticmethod
    def load(path: str | Path) -> Trace:
        """Read what `save` wrote."""
        with np.load(path) as data:
            found: dict[str, Any] = {}
            for name in ("spikes", *STATES):
                keys = {
                    int(key.split(".")[1]): key for key in data.files if key.startswith(f"{name}.")
                }
                if keys:
                    kept = [data[keys[i]] if i in keys else None for i in range(max(keys) + 1)]
                    found[name] = Recorded(name, kept)
            counts = data.get("counts")
            return Trace(**found, counts=counts, backend=str(data["backend"]))


@dataclass(frozen=True)
class LayerCounts:
    """Events of one layer, summed over samples and steps.

    `spikes_in`: non-zero messages arriving; `spikes_out`: spikes emitted; `synops`: deliveries
    through non-zero weights (what Loihi 2's counter counts); `synops_fanout`: the same with zero
    weights included (padding taps never count); `neuron_updates`: neurons x steps x samples, as the
    hardware visits every neuron in every step; `dense_ops`: multiply-adds of the same layer run
    densely in every step.
    """

    name: str
    neurons: int
    spikes_in: int
    spikes_out: int
    synops: int
    synops_fanout: int
    neuron_updates: int
    dense_ops: int


@dataclass(frozen=True)
class Counts:
    """What every energy table multiplies: integers derived from a network and its trace alone."""

    layers: tuple[LayerCounts, ...]
    samples: int
    steps: int
    digest: str

    def total(self, counter: str) -> int:
        """Sum of one counter over all layers."""
        return sum(int(getattr(layer, counter)) for layer in self.layers)

    def __add__(self, other: Counts) -> Counts:
        """Counts of two batches of the same network."""
        if (self.digest, self.steps) != (other.digest, other.steps):
            raise NetworkError("counts of different networks or step numbers do not add.")
        names = [f.name for f in fields(LayerCounts) if f.name not in ("name", "neurons")]
        layers = tuple(
            LayerCounts(a.name, a.neurons, **{n: getattr(a, n) + getattr(b, n) for n in names})
            for a, b in zip(self.layers, other.layers, strict=True)
        )
        return Counts(layers, self.samples + other.samples, self.steps, self.digest)


def fan_out(population: Population, *, zeros: bool) -> NDArray[np.int64]:
    """Synapses leaving each input of a layer, shape `population.input_shape`.

    `zeros` counts synapses of weight zero too. Taps that fall on the padding are no synapses.
    """
    layer = population.layer
    if isinstance(layer, Input):
        return np.zeros(population.input_shape, np.int64)
    present = np.ones(layer.weight.shape, bool) if zeros else layer.weight != 0
    if isinstance(layer, Dense):
        inputs: NDArray[np.int64] = present.sum(axis=0, dtype=np.int64)
        return inputs
    return _conv_fan_out(layer, present, population)


def _conv_fan_out(layer: Conv, present: NDArray[np.bool_], population: Population) -> Array:
    height, width = population.input_shape[1:]
    _, rows, columns = population.shape
    per_group = present.reshape(layer.groups, -1, *present.shape[1:]).sum(axis=1)
    taps = per_group.reshape(-1, *present.shape[2:])  # (in channels, ky, kx)
    out = np.zeros(population.input_shape, np.int64)
    for ky in range(taps.shape[1]):
        ys = np.arange(rows) * layer.stride[0] + ky * layer.dilation[0] - layer.padding[0]
        ys = ys[(ys >= 0) & (ys < height)]
        for kx in range(taps.shape[2]):
            xs = np.arange(columns) * layer.stride[1] + kx * layer.dilation[1] - layer.padding[1]
            xs = xs[(xs >= 0) & (xs < width)]
            out[:, ys[:, None], xs] += taps[:, ky, kx, None, None]
    return out


def count(network: Network, inputs: Array, trace: Trace) -> Counts:
    """Events of a run.

    `inputs`: what the network was given, (sample, time, *input shape); `trace`: of the same time
    span with spikes, usually `trace.aligned(network, steps)`. Source of the definitions:
    NeuroBench 2.3 and lava's Loihi2Activity, see `LayerCounts`.
    """
    if trace.spikes is None:
        raise NetworkError("counting needs a trace with spikes: record='spikes'.")
    samples, steps = trace.spikes[0].shape[:2]
    if inputs.shape[:2] != (samples, steps):
        raise NetworkError(
            f"inputs have (sample, time) = {inputs.shape[:2]}, the trace {(samples, steps)}."
        )
    layers = []
    before: Array = inputs
    for population, spikes in zip(network.populations, trace.spikes, strict=True):
        arriving = (before != 0).sum(axis=(0, 1)).reshape(population.input_shape)
        all_synapses = fan_out(population, zeros=True)
        layers.append(
            LayerCounts(
                name=population.name,
                neurons=population.size,
                spikes_in=int(arriving.sum()),
                spikes_out=int(np.count_nonzero(spikes)),
                synops=int((arriving * fan_out(population, zeros=False)).sum()),
                synops_fanout=int((arriving * all_synapses).sum()),
                neuron_updates=population.size * samples * steps,
                dense_ops=int(all_synapses.sum()) * samples * steps,
            )
        )
        before = spikes
    return Counts(tuple(layers), samples, steps, network.digest)
