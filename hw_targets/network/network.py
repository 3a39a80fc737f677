"""`Network`: a spiking network in the integers that Loihi-style hardware runs.

A chain of frozen layers in torch's axis order (C, H, W). Every number is checked when a layer
is made and never changed afterwards; `Network.digest` names the stored integers in every report.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property
from typing import Any

import numpy as np

from .layers import (
    Flatten,
    Input,
    Layer,
    NeuronLayer,
    Shape,
    _first_shape,
    _output_shape,
    _per_neuron,
)
from .neurons import Integrator, NetworkError, Neuron, stored_integers
from .recipe import Recipe


@dataclass(frozen=True)
class Population:
    """One layer of a network that holds neurons, with its place and shapes."""

    index: int
    """position among the populations: Lava's `net.layers[index]`, `spikes.{index}` of a trace"""
    name: str
    """such as `2:conv`: position in the file and type"""
    layer: NeuronLayer
    input_shape: Shape
    shape: Shape
    latency: int
    """steps until the first input step can move this layer (0 for Input neurons)"""

    @property
    def size(self) -> int:
        return math.prod(self.shape)

    @property
    def neuron(self) -> Neuron:
        """The layer's neurons; where it stores none, netx's default."""
        return Integrator() if self.layer.neuron is None else self.layer.neuron

    @property
    def graded(self) -> bool:
        """Whether its messages are integers (sigma-delta) rather than single spikes."""
        return self.neuron.graded

    @property
    def states(self) -> Mapping[str, str]:
        """What "u", "v" and "residue" of a trace are called in Lava, where the neurons have them."""
        return self.neuron.states


@dataclass(frozen=True, eq=False)
class Network:
    """A chain of layers; `recipe` says how it is meant to be run. Equal when all integers are.

    Raises NetworkError for layers that do not follow each other, where none has neurons, and where
    `spike_exp` differs.
    """

    layers: tuple[Layer, ...]
    recipe: Recipe | None = None

    def __init__(self, layers: Sequence[Layer], recipe: Recipe | None = None) -> None:
        object.__setattr__(self, "layers", tuple(layers))
        object.__setattr__(self, "recipe", recipe)
        if not self.populations:
            raise NetworkError("the network has no layer with neurons.")
        if len(self._exponents) > 1:
            raise NetworkError(
                f"spike_exp differs between layers ({sorted(self._exponents)}); lava-dl has one for "
                f"the whole network."
            )

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Network):
            return NotImplemented
        return self.digest == other.digest and self.recipe == other.recipe

    def __hash__(self) -> int:
        return hash(self.digest)

    def __getstate__(self) -> dict[str, Any]:
        """What pickle needs: not what was derived on the way."""
        return {"layers": self.layers, "recipe": self.recipe}

    @cached_property
    def shapes(self) -> tuple[Shape, ...]:
        """Output shape of every layer, in (C, H, W) order."""
        shape: Shape | None = None
        out = []
        for i, layer in enumerate(self.layers):
            where = f"layer {i} ({type(layer).__name__})"
            if isinstance(layer, Input) and i:
                raise NetworkError(f"{where}: an Input layer can only come first.")
            if shape is None:
                shape = _first_shape(layer, where)
            try:
                shape = _output_shape(layer, shape)
                for name, array in _per_neuron(layer):
                    if array.shape != shape and array.shape != shape[:1]:
                        raise NetworkError(
                            f"{name} has shape {array.shape}; one per channel or neuron, "
                            f"{shape[:1]} or {shape}, is needed."
                        )
            except NetworkError as error:
                raise NetworkError(f"{where}: {error}") from None
            out.append(shape)
        return tuple(out)

    @property
    def input_shape(self) -> Shape:
        """Shape of one input step."""
        return _first_shape(self.layers[0], "layer 0")

    @property
    def output_shape(self) -> Shape:
        """Shape of the last layer."""
        return self.shapes[-1]

    @cached_property
    def populations(self) -> tuple[Population, ...]:
        """The layers with neurons, numbered as Lava numbers `net.layers`."""
        out: list[Population] = []
        shapes = self.shapes
        for i, layer in enumerate(self.layers):
            if isinstance(layer, Flatten) or (isinstance(layer, Input) and layer.neuron is None):
                continue
            before = shapes[i - 1] if i else self.input_shape
            latency = out[-1].latency + 1 if out else int(not isinstance(layer, Input))
            name = f"{i}:{type(layer).__name__.lower()}"
            out.append(Population(len(out), name, layer, before, shapes[i], latency))
        return tuple(out)

    @property
    def _exponents(self) -> set[int]:
        exponents = (getattr(p.neuron, "spike_exp", None) for p in self.populations)
        return {exponent for exponent in exponents if exponent is not None}

    @property
    def spike_exp(self) -> int | None:
        """Fraction bits that graded messages have beyond the weights' 6; None: nothing depends on it."""
        return next(iter(self._exponents), None)

    @property
    def latency(self) -> int:
        """Steps from an input step to the output step that it first moves."""
        return self.populations[-1].latency

    @cached_property
    def digest(self) -> str:
        """SHA-256 over every stored integer: layer types, parameter names, shapes and values."""
        sha = hashlib.sha256(b"spikeship network 1")
        for layer in self.layers:
            for name, value in stored_integers(layer):
                array = np.asarray(value, dtype="<i4")
                sha.update(f"{type(layer).__name__}.{name}{array.shape}".encode())
                sha.update(array.tobytes())
        return sha.hexdigest()

    def __repr__(self) -> str:
        chain = " -> ".join(
            f"{type(layer).__name__}{shape}"
            for layer, shape in zip(self.layers, self.shapes, strict=True)
        )
        return f"<Network {chain}, digest {self.digest[:12]}>"
