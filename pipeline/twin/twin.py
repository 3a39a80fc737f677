"""The differentiable twin of an integer network: exact forward, surrogate backward.

`Twin(network)` computes in torch what `engine.simulate` computes, every integer of it, on any
device with float64, and has gradients: to its weights, biases and thresholds, for
quantization-aware training, and to its input, for attacks on the deployed network.
"""

from __future__ import annotations

from collections.abc import Collection, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from ...hw_targets.network import arithmetic
from ...hw_targets.network.kind import STATES
from ...hw_targets.network.layers import Conv, Dense, Input, Layer
from ...hw_targets.network.network import Network, Population
from ...hw_targets.network.neurons import CubaLIF
from ...hw_targets.network.timing import AS_INPUT, Timing
from ...hw_targets.simulate.inputs import QUANTITIES, Drive, parse_record, prepare_input
from ...hw_targets.simulate.trace import Recorded, Trace
from ...models.surrogates import SURROGATES, Fixed, Gradient, Surrogate
from ..deploy.run import needed_recipe
from ..quantize import RealLayer
from . import straight_through as st
from .layer import PARAMETERS, Run, TwinLayer, exact_sums

TRAINED = ("weight", "recurrent", "imaginary", "bias", "threshold")
"""What is trained where nothing else is said: all but the decays."""


@dataclass(frozen=True)
class TwinTrace:
    """What `Trace` is, in tensors with gradients.

    `spikes`, `u`, `v`, `residue`: one tensor (sample, time, *layer shape) per population, None where
    it was not recorded; float32 or float64, all values whole.
    """

    spikes: tuple[Tensor | None, ...]
    u: tuple[Tensor | None, ...]
    v: tuple[Tensor | None, ...]
    residue: tuple[Tensor | None, ...]
    graded: tuple[bool, ...]

    def numpy(self) -> Trace:
        """The integers as a `Trace`, so that backends can be compared; overflow is not counted."""

        def arrays(name: str) -> Recorded | None:
            tensors = getattr(self, name)
            if not any(tensor is not None for tensor in tensors):
                return None
            types = [np.int32 if g or name != "spikes" else np.int8 for g in self.graded]
            out = [
                None if tensor is None else tensor.detach().cpu().numpy().astype(dtype)
                for tensor, dtype in zip(tensors, types, strict=True)
            ]
            return Recorded(name, out)

        last = self.spikes[-1]
        counts = None
        if last is not None:
            counts = last.detach().double().sum(1).cpu().numpy().astype(np.int64)
        quantities: dict[str, Any] = {name: arrays(name) for name in QUANTITIES}
        return Trace(**quantities, counts=counts, backend="twin")


class Twin(nn.Module):
    r"""A `Network` as a torch module: forward `engine.simulate`, backward a surrogate.

    The parameters of layer `layers[i]` (population i) are real numbers in the integers' own units,
    float64; the forward pass rounds them::

        weight, recurrent, imaginary   step * clip(round(w / step), -2^(bits-1), 2^(bits-1) - 1)
        bias, threshold, decays        round, clipped to what the hardware holds

    and `network()` is the network of exactly these integers. `real`: one `RealLayer` per population,
    whose numbers are the starting values, moved, where rounding was not to the nearest, to the
    edge of the cell of the integer that `network` has: a new twin always computes `network`. Without
    it the integers are the starting values, on a grid of 2 where all weights of the layer are even.
    A threshold that `real` gives as None, and the parameters of neurons other than CubaLIF, are fixed.

    `surrogate`: a name of `SURROGATES` or a function of x = sharpness * (v / threshold - 1);
    where a threshold is 0, the layer's mean stands for it. The attribute `gradient`, the rule made of
    them, can be set to any other, see `models.surrogates.Gradient`. `trainable`: names of
    `PARAMETERS`.

    Backward: roundings, wraps and clips pass the gradient; a reset cuts that of v; the changes that
    sigma-delta neurons withhold pass as if sent. Forward arithmetic is in float64, and in float32
    where the layer's weights and its largest message prove that every partial sum is below 2^24.
    """

    def __init__(
        self,
        network: Network,
        real: Sequence[RealLayer] | None = None,
        *,
        surrogate: str | Surrogate = "superspike",
        sharpness: float = 1.0,
        trainable: Collection[str] = TRAINED,
    ) -> None:
        super().__init__()
        if real is None:
            real = real_layers(network)
        if len(real) != len(network.populations):
            raise ValueError(
                f"`real` describes {len(real)} layers; the network has {len(network.populations)} "
                f"with neurons: give one RealLayer for each, in order."
            )
        unknown = set(trainable) - set(PARAMETERS)
        if unknown:
            raise ValueError(
                f"trainable: {sorted(unknown)} is unknown; choose from {', '.join(PARAMETERS)}."
            )
        self._network = network
        self.gradient: Gradient = Fixed(_surrogate(surrogate), sharpness)
        self.layers = nn.ModuleList(
            TwinLayer(p, numbers, frozenset(trainable))
            for p, numbers in zip(network.populations, real, strict=True)
        )

    def forward(
        self,
        inputs: Tensor,
        timing: Timing = AS_INPUT,
        *,
        record: str | Collection[str] = ("spikes",),
    ) -> TwinTrace:
        """`engine.simulate` with gradients; arguments, time and errors as there.

        `inputs`: whole numbers of any float or integer type, (sample, time, *input shape) or
        (sample, *input shape). The gradient flows to them; that of message bits 0 as if the
        messages were not made binary. `record`: "counts" keeps the spikes of the last layer, which
        `TwinTrace.numpy` sums; layers behind the last recorded one are not run.
        """
        return self._simulate(inputs, timing, record, latency=1)

    def run_recipe(
        self, messages: Tensor, *, record: str | Collection[str] = ("spikes",)
    ) -> TwinTrace:
        """`run.run_recipe` with gradients: the aligned trace of encoded inputs.

        `messages`: whole numbers (sample, steps, *input shape). Where the reset makes each layer
        start from zero with the data, layers run the recipe's steps alone, not those in which they
        wait for each other.
        """
        recipe = needed_recipe(self._network)
        network, steps = self._network, recipe.coding.steps
        if messages.shape[1] == steps and self._starts_with_the_data():
            timing = Timing(steps, message_bits=recipe.coding.message_bits)
            return self._simulate(messages, timing, record, latency=0)
        whole: TwinTrace = self(messages, recipe.timing(network.latency), record=record)

        def cut(tensors: tuple[Tensor | None, ...]) -> tuple[Tensor | None, ...]:
            return tuple(
                None if tensor is None else tensor[:, p.latency : p.latency + steps]
                for p, tensor in zip(network.populations, tensors, strict=True)
            )

        return TwinTrace(
            **{name: cut(getattr(whole, name)) for name in QUANTITIES}, graded=whole.graded
        )

    def _starts_with_the_data(self) -> bool:
        """Whether nothing of the steps before its first data can reach a layer's answer to them."""
        recipe = needed_recipe(self._network)
        interval = recipe.reset_interval
        return (
            interval is not None
            and interval >= recipe.coding.steps
            and recipe.reset_offset == 1
            and all(
                isinstance(p.layer, Conv | Dense)
                and p.neuron.resets
                and not (
                    isinstance(p.layer, Dense)
                    and (p.layer.recurrent is not None or p.layer.delay is not None)
                )
                for p in self._network.populations
            )
        )

    def _simulate(
        self,
        inputs: Tensor,
        timing: Timing,
        record: str | Collection[str],
        *,
        latency: int,
    ) -> TwinTrace:
        network = self._network
        kept = parse_record(record, network)
        drive = _checked(network, inputs.detach(), timing)
        run = Run(timing, drive.steps, len(inputs), latency)
        binary, largest = timing.message_bits == 0, float(drive.largest)
        x: Tensor | None = None
        bias: Tensor | None = None
        if drive.bias is not None:
            bias = inputs.double()
        else:
            first = network.layers[0]
            single = binary and not (isinstance(first, Input) and first.neuron is not None)
            x = _in_time(inputs, drive.steps, len(network.input_shape), single)
        quantities: dict[str, list[Tensor | None]] = {name: [] for name in QUANTITIES}
        last = max((i for name in QUANTITIES for i in getattr(kept, name)), default=-1)
        needed = list(self.layers) if kept.counts else list(self.layers)[: last + 1]
        with exact_sums():
            for index, layer in enumerate(needed):
                assert isinstance(layer, TwinLayer)
                wanted = [name for name in STATES if index in getattr(kept, name)]
                x, states = layer(x, bias, largest, binary, run, wanted, self.gradient)
                graded = layer.population.graded
                bias, binary = None, not graded
                largest = float(x.detach().abs().max()) if graded else 1.0
                spikes = index in kept.spikes or (kept.counts and layer is self.layers[-1])
                quantities["spikes"].append(x.transpose(0, 1) if spikes else None)
                for name in STATES:
                    state = states.get(name)
                    quantities[name].append(None if state is None else state.transpose(0, 1))
        absent = [None] * (len(self.layers) - len(needed))
        return TwinTrace(
            **{name: (*of, *absent) for name, of in quantities.items()},
            graded=tuple(p.graded for p in network.populations),
        )

    def network(self) -> Network:
        """The integers that `forward` computes with."""
        twins = list(self.layers)
        layers: list[Layer] = []
        for layer in self._network.layers:
            if twins and isinstance(twins[0], TwinLayer) and twins[0].population.layer is layer:
                layers.append(twins.pop(0).integers())
            else:
                layers.append(layer)
        return Network(layers, self._network.recipe)

    def real(self) -> tuple[RealLayer, ...]:
        """The parameters: `Twin(twin.network(), twin.real())` goes on where this one is."""
        return tuple(layer.real() for layer in self.layers)

    @torch.no_grad()
    def confine(self) -> None:
        """Bring parameters that left the range of their integers back to its edge, in place."""
        for layer in self.layers:
            assert isinstance(layer, TwinLayer)
            for name, parameter in layer.named_parameters():
                step, low, high = layer.grid(name)
                parameter.clamp_(step * low, step * high)


def real_layers(network: Network) -> tuple[RealLayer, ...]:
    """The numbers of a network as if they had never been rounded: 8 bits where weights are even.

    The largest threshold counts as a readout's, which is fixed.
    """

    def numbers_of(population: Population) -> RealLayer:
        layer, neuron = population.layer, population.layer.neuron
        cuba = neuron if isinstance(neuron, CubaLIF) else CubaLIF(0, 0, arithmetic.THRESHOLD_MAX)
        fixed = np.min(cuba.threshold) == arithmetic.THRESHOLD_MAX
        threshold = None if fixed else np.asarray(cuba.threshold, float)
        i_decay, v_decay = (np.asarray(decay, float) for decay in (cuba.i_decay, cuba.v_decay))
        if isinstance(layer, Input):
            return RealLayer(np.zeros(0), None, threshold, i_decay, v_decay)
        recurrent = getattr(layer, "recurrent", None)
        parts = (layer.weight, recurrent, getattr(layer, "imaginary", None))
        even = not any((part % 2).any() for part in parts if part is not None)
        return RealLayer(
            layer.weight.astype(float),
            None if layer.bias is None else layer.bias.astype(float),
            threshold,
            i_decay,
            v_decay,
            recurrent=None if recurrent is None else recurrent.astype(float),
            bits=8 if even else 9,
            step=2 if even else 1,
        )

    return tuple(numbers_of(p) for p in network.populations)


def _checked(network: Network, inputs: Tensor, timing: Timing) -> Drive:
    """`prepare_input`, by a few passes over memory where the inputs are messages that may pass.

    What is the same in every step is looked at once. Of those, `x` is empty: nobody reads it here.
    """
    shape, first = network.input_shape, network.layers[0]
    steps = timing.steps
    if inputs.ndim == 2 + len(shape) and inputs.shape[2:] == shape and inputs.is_floating_point():
        steps = inputs.shape[1] if steps is None else steps
        x = inputs[:, :steps]
        x = x[:, :1] if x.stride(1) == 0 else x
        bits = (
            None if isinstance(first, Input) and first.neuron is not None else timing.message_bits
        )
        width = min(1 << bits, arithmetic.MESSAGE_LIMIT) if bits else arithmetic.MESSAGE_LIMIT
        if steps > 0 and x.numel():
            ends = (*torch.aminmax(x), (x == x.round()).all())
            low, high, whole = torch.stack([end.double() for end in ends]).tolist()
            if whole and low > -width and high < width:
                single = bits == 0 and (low < 0 or high > 1)
                largest = 1 if single else int(high) if low >= 0 else max(int(high), -int(low), 2)
                return Drive(np.zeros((len(inputs), 0, *shape), np.int8), None, steps, largest)
    return prepare_input(network, inputs.cpu().numpy(), timing)


def _in_time(inputs: Tensor, steps: int, axes: int, single: bool) -> Tensor:
    """Inputs as messages (time, sample, *input shape); `single`: any message is one spike."""
    if single:
        fires = inputs != 0
        inputs = st.straight(fires.to(inputs), inputs) if inputs.is_floating_point() else fires
    if inputs.ndim == 1 + axes:
        return inputs.expand(steps, *inputs.shape)
    x = inputs.transpose(0, 1)[:steps]
    silence = [0, 0] * (x.ndim - 1) + [0, steps - len(x)]
    return nn.functional.pad(x, silence) if len(x) < steps else x


def _surrogate(surrogate: str | Surrogate) -> Surrogate:
    if not isinstance(surrogate, str):
        return surrogate
    if surrogate not in SURROGATES:
        raise ValueError(
            f"surrogate {surrogate!r} is unknown; choose from {', '.join(SURROGATES)}, or give a "
            f"function."
        )
    return SURROGATES[surrogate]
