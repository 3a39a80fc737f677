"""What a run produced: `Trace`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any, overload

import numpy as np
from numpy.typing import NDArray

from ..arrays import Integers, Whole
from ..files import atomic_path
from ..network.kind import STATES
from ..network.network import Network
from ..network.neurons import NetworkError
from ..npy import read_npz
from .state import State


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


class Recorded(Sequence[Whole]):
    """One array per population; asking for one that was not recorded is a NetworkError."""

    def __init__(self, what: str, arrays: Sequence[Whole | None]) -> None:
        self._what = what
        self._arrays = tuple(arrays)

    @property
    def populations(self) -> tuple[int, ...]:
        """Indices of the populations that were recorded."""
        return tuple(i for i, array in enumerate(self._arrays) if array is not None)

    def __len__(self) -> int:
        return len(self._arrays)

    @overload
    def __getitem__(self, index: int) -> Whole: ...
    @overload
    def __getitem__(self, index: slice) -> Sequence[Whole]: ...
    def __getitem__(self, index: int | slice) -> Whole | Sequence[Whole]:
        if isinstance(index, slice):
            return Recorded(self._what, self._arrays[index])
        array = self._arrays[index]
        if array is None:
            raise NetworkError(
                f"{self._what} of population {index} was not recorded, or its neurons have none; "
                f'ask for it with record="{self._what}.{index}".'
            )
        return array


@dataclass(frozen=True, repr=False)
class Trace:
    """Spikes and states of populations, in Lava's own time: column 0 is step 1.

    `spikes`, `u`, `v`, `residue`: one array per population, of shape (sample, time, *layer shape),
    layer shape in (C, H, W) order; spikes are int8 0 / 1, int32 messages of sigma-delta neurons;
    states are int32, after the step (v after its reset). What u and v are in each neuron kind is in
    its class. None where the quantity was not asked for, see `Recorded` where not for all layers.
    `counts`: the last population's messages summed over all steps, int64 (sample, *layer shape).
    `overflow` has one entry per population where the backend counts it. `activity`: what a
    `Counter` counted, if the run had one. `state`: where the run stands, if it began with one. Neither
    is saved.
    """

    spikes: Recorded | None = None
    u: Recorded | None = None
    v: Recorded | None = None
    overflow: tuple[Overflow, ...] | None = None
    backend: str = "reference"
    residue: Recorded | None = None
    counts: NDArray[np.int64] | None = None
    activity: Activity | None = None
    state: State | None = None

    def __post_init__(self) -> None:
        for name in ("spikes", *STATES):
            arrays = getattr(self, name)
            if arrays is not None and not isinstance(arrays, Recorded):
                object.__setattr__(self, name, Recorded(name, arrays))

    def __repr__(self) -> str:
        parts = [] if self.counts is None else [f"counts {self.counts.shape}"]
        for name in ("spikes", *STATES):
            recorded: Recorded | None = getattr(self, name)
            if recorded is not None:
                shapes = (f"{i}: {recorded[i].shape}" for i in recorded.populations)
                parts.append(f"{name} {{{', '.join(shapes)}}}")
        return f"<Trace by {self.backend}: {'; '.join(parts) or 'nothing recorded'}>"

    def aligned(self, network: Network, steps: int) -> Trace:
        """This trace with layer latencies taken out.

        Column c of every layer is then its answer to input step c (columns 0 .. steps - 1). `counts`
        are of the whole run and go. Raises NetworkError where the run has fewer steps than
        `steps + network.latency`.
        """

        def cut(name: str) -> Recorded | None:
            arrays: Recorded | None = getattr(self, name)
            if arrays is None:
                return None
            out: list[Whole | None] = [None] * len(arrays)
            for i in arrays.populations:
                available, need = arrays[i].shape[1], steps + network.latency
                if available < need:
                    raise NetworkError(
                        f"the trace has {available} steps; {steps} aligned steps of a network with "
                        f"latency {network.latency} need {need}."
                    )
                start = network.populations[i].latency
                out[i] = arrays[i][:, start : start + steps]
            return Recorded(name, out)

        states: dict[str, Any] = {name: cut(name) for name in STATES}
        return Trace(
            cut("spikes"),
            **states,
            overflow=self.overflow,
            backend=self.backend,
            activity=self.activity,
        )

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
        data = read_npz(path)
        recorded: dict[str, Any] = {}
        for name in ("spikes", *STATES):
            keys = {int(key.split(".")[1]): key for key in data if key.startswith(f"{name}.")}
            if keys:
                kept = [data.get(keys.get(i, "")) for i in range(max(keys) + 1)]
                recorded[name] = Recorded(name, kept)
        return Trace(**recorded, counts=data.get("counts"), backend=str(data["backend"]))


@dataclass(frozen=True)
class Activity:
    """What the neurons of a run did, in the time that each layer counts (see `Counter`).

    `sent`: one array for the input, then one for each population: non-zero messages of each element,
    summed over samples and steps, in its shape. `active`: of each population the steps in which a
    neuron was active, summed alike, or None. Per population, of shape (sample, step, core of the
    population): `spikes` sent by its neurons there, `synops` that arrived there, of weights that are
    not zero, and `messages` that brought them.
    """

    samples: int
    steps: int
    sent: tuple[Integers, ...]
    active: tuple[Integers | None, ...]
    spikes: tuple[Whole, ...]
    synops: tuple[Whole, ...]
    messages: tuple[Whole, ...]
