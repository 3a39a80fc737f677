"""The contenders of the speed benchmark: the same network in Norse, SLAYER, plain torch, and here.

Every function takes a network and its input (sample, step, *shape) and returns a call that runs it
once over a number of steps and gives the output spikes summed over the steps, (sample, outputs).
What can be prepared (weights as tensors, the input in the framework's own layout) is prepared
before the call, so that only the simulation is timed. All torch code runs under no_grad, with
torch's default number of threads.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import nn

from ...hw_targets.network.layers import Conv, Dense, Flatten, Input
from ...hw_targets.network.network import Network
from ...hw_targets.network.neurons import CubaLIF
from ...hw_targets.simulate import engine
from ...hw_targets.simulate.reference import simulate
from ...hw_targets.simulate.trace import Trace
from .networks import sums

OURS, OURS_RECORDED = "engine", "engine, all spikes"

Run = Callable[[int], Any]
Make = Callable[[Network, NDArray[np.int8]], Run]

NOTES = {
    "slayer": "slayer.block.cuba, quantization of the weights off, delay_shift on (one step per "
    "layer, as here), whole time span at once",
    "norse": "norse.torch.LIFCell in a SequentialState, dense tensors, no delay between layers",
    "torch": "linear / conv2d and the neuron equations on float32 tensors that hold the integers; "
    "every spike of every layer checked against the engine",
    "lava": "netx.hdf5.Network, io.source.RingBuffer in, io.sink.RingBuffer on the output; time of "
    "run() of several steps less that of one",
    "lava, all spikes": "a sink on every layer, read by .data.get()",
}


def _simulated(function: Callable[..., Trace], record: str) -> Make:
    def make(network: Network, x: NDArray[np.int8]) -> Run:
        cut: dict[int, NDArray[np.int8]] = {}

        def run(steps: int) -> Any:
            if steps not in cut:
                cut.clear()
                cut[steps] = np.ascontiguousarray(x[:, :steps])
            trace = function(network, cut[steps], record=record)
            if trace.counts is not None:
                return trace.counts
            assert trace.spikes is not None
            return trace.spikes[-1].sum(1)

        return run

    return make


def _neurons(layer: Dense | Conv) -> tuple[float, float, int, int]:
    """What stays of u and v in a step, threshold, bias: one of each for all neurons."""
    neuron = layer.neuron
    assert isinstance(neuron, CubaLIF)
    keeps = [1 - float(np.asarray(d).item()) / 4096 for d in (neuron.i_decay, neuron.v_decay)]
    bias = 0 if layer.bias is None else int(layer.bias.flat[0])
    return keeps[0], keeps[1], int(np.asarray(neuron.threshold).item()), bias


class Integers:
    """A plain torch loop that carries the integers in floats.

    Exact as long as u and v times the decay's numerator (3 and 7 here) stay below 2^24 (float32) or
    2^53 (float64); `largest` holds what |u| and |v| reached in a recorded run.
    """

    def __init__(self, network: Network, x: NDArray[np.int8], dtype: torch.dtype) -> None:
        self.layers = [p.layer for p in network.populations if not isinstance(p.layer, Input)]
        shape = network.populations[0].input_shape
        frames = torch.tensor(x, dtype=torch.float32).reshape(*x.shape[:2], *shape)
        self.frames = frames.transpose(0, 1).contiguous()
        self.shapes = [(len(x), *p.shape) for p in network.populations]
        self.dtype = dtype
        self.largest = [0.0, 0.0]

    @torch.no_grad()
    def __call__(self, steps: int, spikes: list[list[torch.Tensor]] | None = None) -> torch.Tensor:
        """`spikes`: one list per layer that receives every step's spikes."""
        u = [torch.zeros(s, dtype=self.dtype) for s in self.shapes]
        v = [torch.zeros(s, dtype=self.dtype) for s in self.shapes]
        waiting = [torch.zeros(s) for s in self.shapes]
        counts = torch.zeros(self.shapes[-1])
        parts = [_neurons(layer) for layer in self.layers]
        for message in self.frames[:steps]:
            for i, (layer, (keep_u, keep_v, threshold, bias)) in enumerate(
                zip(self.layers, parts, strict=True)
            ):
                u[i].mul_(keep_u).trunc_().add_(waiting[i], alpha=64)
                v[i].mul_(keep_v).trunc_().add_(u[i])
                if bias:
                    v[i].add_(64 * bias)
                if spikes is not None:
                    for k, state in enumerate((u[i], v[i])):
                        self.largest[k] = max(self.largest[k], float(state.abs().max()))
                fired = v[i] > 64 * threshold
                v[i].masked_fill_(fired, 0)
                if isinstance(layer, Dense):
                    message = message.flatten(1)
                waiting[i] = sums(layer, message)
                message = fired.float()
                if spikes is not None:
                    spikes[i].append(fired)
            counts += message
        return counts


def _integers(network: Network, x: NDArray[np.int8]) -> Run:
    return Integers(network, x, states_dtype(network, x[:2]))


def states_dtype(network: Network, x: NDArray[np.int8]) -> torch.dtype:
    """float32 where it is exact with room to spare on this input, else float64."""
    loop = Integers(network, x, torch.float64)
    recorded: list[list[torch.Tensor]] = [[] for _ in loop.layers]
    loop(x.shape[1], recorded)
    small = loop.largest[0] < 1 << 21 and loop.largest[1] < 1 << 20
    return torch.float32 if small else torch.float64


def disagreement(network: Network, x: NDArray[np.int8]) -> str | None:
    """The first layer in which the torch loop's spikes differ from the engine's."""
    loop = Integers(network, x, states_dtype(network, x))
    recorded: list[list[torch.Tensor]] = [[] for _ in loop.layers]
    loop(x.shape[1], recorded)
    trace = engine.simulate(network, x, record="spikes")
    assert trace.spikes is not None
    for population, mine, theirs in zip(network.populations, trace.spikes, recorded, strict=True):
        if not np.array_equal(mine, torch.stack(theirs, 1).numpy()):
            return population.name
    return None


def _norse(network: Network, x: NDArray[np.int8]) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        import norse.torch as norse
    modules: list[nn.Module] = []
    for layer in network.layers:
        if isinstance(layer, Flatten):
            modules.append(nn.Flatten())
        if not isinstance(layer, (Dense, Conv)):
            continue
        keep_u, keep_v, threshold, bias = _neurons(layer)
        modules.append(_linear(layer))
        parameters = norse.LIFParameters(  # v <- v + (1 - keep_v) (bias' + u - v)
            tau_syn_inv=torch.tensor(1000 * (1 - keep_u)),
            tau_mem_inv=torch.tensor(1000 * (1 - keep_v)),
            v_leak=torch.tensor(float(bias)),
            v_th=torch.tensor(threshold * (1 - keep_v)),
        )
        modules.append(norse.LIFCell(parameters))
    body = norse.SequentialState(*modules)
    frames = torch.tensor(x, dtype=torch.float32).transpose(0, 1).contiguous()

    @torch.no_grad()
    def run(steps: int) -> torch.Tensor:
        state, counts = None, 0
        for frame in frames[:steps]:
            out, state = body(frame, state)
            counts = counts + out
        return counts  # type: ignore[return-value]

    return run


def _linear(layer: Dense | Conv) -> nn.Module:
    weight = torch.tensor(layer.weight, dtype=torch.float32)
    if isinstance(layer, Dense):
        out: nn.Linear | nn.Conv2d = nn.Linear(weight.shape[1], weight.shape[0], bias=False)
    else:
        out = nn.Conv2d(
            weight.shape[1],
            weight.shape[0],
            tuple(weight.shape[2:]),  # type: ignore[arg-type]
            layer.stride,
            layer.padding,
            bias=False,
        )
    out.weight = nn.Parameter(weight, requires_grad=False)
    return out


def _slayer(network: Network, x: NDArray[np.int8]) -> Run:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        from lava.lib.dl import slayer

    class Plus(nn.Module):
        """What is added to the current of every step: the place SLAYER's comment has for a bias."""

        def __init__(self, bias: float) -> None:
            super().__init__()
            self.bias = bias

        def forward(self, current: torch.Tensor) -> torch.Tensor:
            return current + self.bias

    blocks: list[Any] = []
    for layer in network.layers:
        if isinstance(layer, Flatten):
            blocks.append(slayer.block.cuba.Flatten())
        if not isinstance(layer, (Dense, Conv)):
            continue
        keep_u, keep_v, threshold, bias = _neurons(layer)
        neuron = {
            "threshold": threshold / 64,
            "current_decay": 1 - keep_u,
            "voltage_decay": 1 - keep_v,
        }
        weight = torch.tensor(layer.weight, dtype=torch.float32)[..., None] / 64
        out, into = weight.shape[:2]
        if isinstance(layer, Dense):
            block = slayer.block.cuba.Dense(neuron, into, out, pre_hook_fx=None)
            weight = weight.reshape(out, into, 1, 1, 1)
        else:
            kernel = tuple(weight.shape[2:4])
            block = slayer.block.cuba.Conv(
                neuron,
                into,
                out,
                kernel,
                layer.stride,
                layer.padding,
                pre_hook_fx=None,
            )
        block.synapse.weight.data = weight
        if bias:
            block.neuron.norm = Plus(bias / 64)
        blocks.append(block)
    frames = torch.tensor(np.moveaxis(x, 1, -1), dtype=torch.float32)

    @torch.no_grad()
    def run(steps: int) -> torch.Tensor:
        out = frames[..., :steps]
        for block in blocks:
            out = block(out)
        return out.sum(-1)

    return run


CONTENDERS: dict[str, Make] = {
    OURS: _simulated(engine.simulate, "counts"),
    OURS_RECORDED: _simulated(engine.simulate, "spikes"),
    "reference": _simulated(simulate, "counts"),
    "torch": _integers,
    "norse": _norse,
    "slayer": _slayer,
}
