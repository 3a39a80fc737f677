"""SLAYER networks as their users write them: imported as their own forward pass runs them, or refused."""

from __future__ import annotations

import threading
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikeship.hw_targets import simulate
from spikeship.hw_targets.network import arithmetic
from spikeship.hw_targets.network.layers import Conv, Dense, Input, Shape
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import NetworkError
from spikeship.pipeline.frontends import from_slayer, slayer
from spikeship.pipeline.frontends.slayer_proof import UnprovenWarning

pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated"),
]

CUBA = {"threshold": 0.7, "current_decay": 0.3, "voltage_decay": 0.1}
SDNN = {"threshold": 0.1, "activation": torch.relu}
RF = {"threshold": 0.3, "period": 7.0}
LINE, PLANE = (6,), (2, 6, 6)


def block(kind: str, *args: Any, parameters: dict[str, Any] | None = None, **options: Any) -> Any:
    """A SLAYER block by name, such as cuba.Dense, with strong weights."""
    from lava.lib.dl.slayer import block as families

    family, _, name = kind.partition(".")
    if name in ("Flatten", "Average"):
        return getattr(families, family).__dict__[name](*args)
    chosen = {"cuba": CUBA, "sigma_delta": SDNN, "rf": RF, "rf_iz": RF}[family]
    if chosen is RF:
        chosen = RF | {"decay": next(d for d in np.arange(0.1, 0.3, 0.01) if _kept(d))}
    if name != "Input":
        options.setdefault("weight_scale", 1.0 if name == "Pool" else 3.0)
    return getattr(getattr(families, family), name)(
        {**chosen, **(parameters or {})}, *args, **options
    )


def _kept(decay: float) -> bool:
    """Whether Lava runs these decays as SLAYER does: a matter of the last bits of a sine."""
    angle = 2 * np.pi / RF["period"]
    own = tuple(round(4096 * (1 - decay) * part(angle)) for part in (np.sin, np.cos))
    return arithmetic.resonator_decays(*own) == own


def dense(*sizes: int, **options: Any) -> Any:
    return block("cuba.Dense", *sizes, **options)


Forward = Callable[[Any, torch.Tensor], Any]


class Users(nn.Module):
    """A network with the attributes `parts`, in their order, and a forward pass of its own."""

    def __init__(self, forward: Forward, **parts: nn.Module) -> None:
        super().__init__()
        for name, part in parts.items():
            setattr(self, name, part)
        self.own = forward

    def forward(self, x: torch.Tensor) -> Any:
        return self.own(self, x)


class Bare(nn.Module):
    """Blocks without a forward pass."""

    def __init__(self, *blocks: nn.Module) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(blocks)


def through(blocks: Any, x: torch.Tensor) -> torch.Tensor:
    for each in blocks:
        x = each(x)
    return x


def row(*blocks: nn.Module) -> nn.Module:
    return Users(lambda net, x: through(net.blocks, x), blocks=nn.ModuleList(blocks))


def with_out(forward: Forward) -> nn.Module:
    blocks = nn.ModuleList([dense(6, 8), dense(8, 6)])
    return Users(forward, blocks=blocks, out=dense(6, 3))


def two(forward: Forward, kind: str = "cuba.Dense") -> nn.Module:
    return Users(forward, blocks=nn.ModuleList([block(kind, 6, 6), block(kind, 6, 6)]))


def in_place(net: Any, x: torch.Tensor) -> torch.Tensor:
    first = net.blocks[0](x)
    first += x
    return net.blocks[1](first)


def counting(net: Any, x: torch.Tensor) -> Any:
    count = []
    for each in net.blocks:
        x = each(x)
        count.append(x.mean())
    return x, torch.stack(count)


def step_by_step(net: Any, x: torch.Tensor) -> torch.Tensor:
    return torch.cat([through(net.blocks, x[..., t : t + 1]) for t in range(x.shape[-1])], -1)


def flattened(net: Any, x: torch.Tensor) -> torch.Tensor:
    x = net.conv(x)
    return net.out(x.reshape(len(x), -1, x.shape[-1]))


def convolution(between: nn.Module, forward: Forward | None = None) -> nn.Module:
    return Users(
        forward or (lambda net, x: net.out(net.between(net.conv(x)))),
        conv=block("cuba.Conv", 2, 3, 3),
        between=between,
        out=dense(48, 3),
    )


# name: how it is built, shape of its input, number of layers with neurons
IMPORTED: dict[str, tuple[Callable[[], nn.Module], Shape, int]] = {
    "blocks and out": (lambda: with_out(lambda n, x: n.out(through(n.blocks, x))), LINE, 3),
    "another order": (
        lambda: Users(lambda n, x: n.out(n.a(n.first(x))), out=dense(4, 3), a=dense(8, 4), first=dense(6, 8)),
        LINE,
        3,
    ),
    "a block that only training uses": (lambda: with_out(lambda n, x: through(n.blocks, x)), LINE, 2),
    "a branch that only training uses": (
        lambda: two(lambda n, x: (n.blocks[0](x), n.blocks[1](x))[0]),
        LINE,
        1,
    ),
    "counts beside": (lambda: two(counting), LINE, 2),
    "mean over time": (lambda: two(lambda n, x: through(n.blocks, x).mean(-1)), LINE, 2),
    "sum over time": (lambda: two(lambda n, x: through(n.blocks, x).sum(dim=-1)), LINE, 2),
    "the same block twice": (lambda: two(lambda n, x: n.blocks[0](n.blocks[0](x))), LINE, 2),
    "a list with a block twice": (lambda: nn.ModuleList([shared := dense(6, 6), shared]), LINE, 2),
    "no forward pass": (lambda: Bare(dense(6, 5), dense(5, 3)), LINE, 2),
    "dropout": (lambda: nn.Sequential(dense(6, 5), nn.Dropout(0.5), dense(5, 3)), LINE, 2),
    "nested": (lambda: nn.Sequential(row(dense(6, 5)), row(dense(5, 3))), LINE, 2),
    "recurrent": (lambda: row(block("cuba.Recurrent", 6, 5), dense(5, 3)), LINE, 2),
    "convolution": (lambda: convolution(block("cuba.Flatten")), PLANE, 2),
    "pool": (lambda: row(block("cuba.Pool", 2), block("cuba.Flatten"), dense(18, 4)), PLANE, 2),
    "rf, then cuba": (lambda: row(block("rf_iz.Dense", 6, 6), dense(6, 3)), LINE, 2),
    "cuba, then rf": (lambda: row(dense(6, 8), block("rf.Dense", 8, 4)), LINE, 2),
    "cuba, then sums": (lambda: row(dense(6, 5), block("sigma_delta.Output", 5, 2)), LINE, 2),
    "sigma-delta": (
        lambda: row(
            block("sigma_delta.Input"),
            block("sigma_delta.Dense", 6, 5),
            block("sigma_delta.Output", 5, 2),
        ),
        LINE,
        3,
    ),
}  # fmt: skip


def layers_of(model: nn.Module, x: torch.Tensor) -> list[tuple[Any, torch.Tensor]]:
    """The blocks with neurons as they are run, and what they give."""
    seen: list[tuple[Any, torch.Tensor]] = []
    hooks = [
        module.register_forward_hook(lambda module, args, out: seen.append((module, out.clone())))
        for module in model.modules()
        if hasattr(module, "delay_shift") or type(module).__name__ == "Output"
    ]
    with torch.no_grad():
        through(getattr(model, "blocks", model), x) if isinstance(
            model, Bare | nn.ModuleList
        ) else model(x)
    for hook in hooks:
        hook.remove()
    return seen


def equal_at_every_layer(model: nn.Module, network: Network, shape: Shape) -> list[bool]:
    """SLAYER's own forward pass after a blank frame, and the chip from the start on, with ==."""
    graded = isinstance(network.layers[0], Input) and network.layers[0].neuron is not None
    x = (torch.rand(2, *shape, 24) < 0.4).float()
    if graded:
        x *= torch.randint(-20, 20, x.shape) * 2 / 64
    layers_of(model, x[:1])  # another number of samples makes recurrent blocks forget their state
    expected = layers_of(model, nn.functional.pad(x, (1, 0)))[: len(network.populations)]
    frames = np.moveaxis((x * (64 if graded else 1)).numpy(), -1, 1).astype(np.int32)
    trace = simulate(network, frames, record=["spikes"])
    late, equal = 0, []
    for population, found, (own, out) in zip(
        network.populations, trace.spikes, expected, strict=True
    ):
        late += getattr(own, "delay_shift", False) is True
        unit = 4096 if graded else 1
        unit *= 64 if type(own).__name__ == "Output" else 1
        theirs = np.moveaxis(out.numpy(), -1, 1).reshape(2, 25, *found.shape[2:]) * unit
        shift = population.latency - late
        equal.append(np.array_equal(found[:, shift:], theirs[:, 1 : 25 - shift]))
        assert theirs.any()
    return equal


@pytest.mark.slow
@pytest.mark.parametrize("name", IMPORTED)
def test_imported_as_the_forward_pass_runs(name: str) -> None:
    build, shape, layers = IMPORTED[name]
    torch.manual_seed(4)
    model = build().eval()
    network = from_slayer(model, shape)
    assert equal_at_every_layer(model, network, shape) == [True] * layers


# name: how it is built, shape of its input, the reason against it
REFUSED: dict[str, tuple[Callable[[], nn.Module], Shape, str]] = {
    "skip connection": (
        lambda: two(lambda n, x: n.blocks[1](n.blocks[0](x) + x)),
        LINE,
        r"blocks.1 \(Dense\) gets the sum of the network's input and the output of blocks.0 "
        r"\(Dense\) \(a skip connection\), neither",
    ),
    "skip connection in place": (lambda: two(in_place), LINE, "gets the sum of the network"),
    "skip at the end": (
        lambda: two(lambda n, x: through(n.blocks, x) + x),
        LINE,
        r"returns the sum of the network's input and the output of blocks.1 \(Dense\)",
    ),
    "normalizes first": (
        lambda: two(lambda n, x: through(n.blocks, (x - 0.13) / 0.3)),
        LINE,
        r"blocks.0 \(Dense\) gets something that forward computes itself, neither the network's input",
    ),
    "clips first": (lambda: two(lambda n, x: through(n.blocks, x.clamp(0, 1))), LINE, "forward computes itself"),
    "drops the last step": (lambda: two(lambda n, x: through(n.blocks, x[..., :-1])), LINE, "forward computes itself"),
    "scales the output": (lambda: two(lambda n, x: 2 * through(n.blocks, x)), LINE, "returns something that forward computes itself"),
    "two heads": (
        lambda: two(lambda n, x: (n.blocks[0](x), n.blocks[1](x))),
        LINE,
        r"returns the output of blocks.1 \(Dense\) beside that of blocks.0 \(Dense\)",
    ),
    "step by step": (lambda: two(step_by_step), LINE, "returns something that forward computes itself"),
    "reshaped": (
        lambda: convolution(nn.Identity(), flattened),
        PLANE,
        r"the output of conv \(Conv\) in another shape \(a Flatten block does that\)",
    ),
    "torch's module": (
        lambda: convolution(nn.AvgPool3d((2, 2, 1)), lambda n, x: n.between(n.conv(x))),
        PLANE,
        r"between \(AvgPool3d\): torch.nn.modules.pooling.AvgPool3d is no SLAYER block",
    ),
    "recurrent block twice": (
        lambda: two(lambda n, x: n.blocks[0](n.blocks[0](x)), "cuba.Recurrent"),
        LINE,
        r"blocks.0 \(Recurrent\): it is used at two places and keeps its state .*persistent_state",
    ),
    "fails": (
        lambda: two(lambda n, x: through(n.blocks, x.nonsense)),
        LINE,
        r"forward pass fails on an input of shape \(3, 6, 8\), .* no attribute 'nonsense'",
    ),
    "cuba, then sigma-delta": (
        lambda: row(dense(6, 5), block("sigma_delta.Dense", 5, 3)),
        LINE,
        r"blocks.1 \(Dense\): its sigma-delta neurons take 4096 for 1.0 .* blocks.0 \(Dense\) sends a "
        r"spike as 1: .* 4096 times too small",
    ),
    "rf, then sigma-delta": (
        lambda: row(block("rf.Dense", 6, 5), block("sigma_delta.Dense", 5, 3)),
        LINE,
        "4096 times too small",
    ),
    "sigma-delta, then cuba": (
        lambda: row(block("sigma_delta.Dense", 6, 5), dense(5, 3)),
        LINE,
        r"blocks.1 \(Dense\): its neurons take a spike for 1, and blocks.0 \(Dense\) sends "
        r"sigma-delta messages, .* 4096 times too large",
    ),
    "sigma-delta input, then cuba": (
        lambda: row(block("sigma_delta.Input"), block("sigma_delta.Dense", 6, 5), dense(5, 3)),
        LINE,
        r"blocks.2 \(Dense\): .* blocks.1 \(Dense\) sends sigma-delta",
    ),
    "sigma-delta, then rf": (
        lambda: row(block("sigma_delta.Dense", 6, 5), block("rf.Dense", 5, 3)),
        LINE,
        "4096 times too large",
    ),
    "voltages in between": (
        lambda: row(block("cuba.Affine", 6, 5), dense(5, 3)),
        LINE,
        r"blocks.1 \(Dense\): blocks.0 \(Affine\) gives voltages, which netx sends to no other",
    ),
    "sums in between": (
        lambda: row(block("sigma_delta.Output", 6, 5), block("sigma_delta.Dense", 5, 3)),
        LINE,
        r"blocks.0 \(Output\) gives sums, which netx sends to no other layer",
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    build, shape, reason = REFUSED[name]
    torch.manual_seed(4)
    with pytest.raises(NetworkError, match=f"(?s){reason}"):
        from_slayer(build(), shape)


# -- the proof -----------------------------------------------------------------------------------


def _mean_norm() -> Any:
    from lava.lib.dl.slayer.neuron.norm import MeanOnlyBatchNorm

    return MeanOnlyBatchNorm


PROVEN: dict[str, tuple[Callable[[], Any], Shape]] = {
    "dense": (lambda: dense(6, 5), LINE),
    "dense, silent": (lambda: dense(6, 5, weight_scale=0.2, parameters={"threshold": 60.0}), LINE),
    "weight norm": (lambda: dense(6, 5, weight_norm=True), LINE),
    "scale 100": (lambda: dense(6, 5, parameters={"scale": 100, "threshold": 0.29}), LINE),
    "threshold of 64.0": (lambda: dense(6, 5, parameters={"threshold": 64.0}), LINE),
    "mean norm": (lambda: dense(6, 5, parameters={"norm": _mean_norm()}), LINE),
    "convolution": (lambda: block("cuba.Conv", 2, 3, 3), PLANE),
    "per channel": (
        lambda: block("cuba.Conv", 2, 3, 3, parameters={"shared_param": False}),
        PLANE,
    ),
    "pool": (lambda: block("cuba.Pool", 2), PLANE),
    "recurrent": (lambda: block("cuba.Recurrent", 6, 5), LINE),
    "affine": (lambda: block("cuba.Affine", 6, 5), LINE),
    "current": (lambda: block("cuba.Affine", 6, 5, dynamics=False), LINE),
    "sigma-delta": (lambda: block("sigma_delta.Conv", 2, 3, 3), PLANE),
    "sigma-delta, weight norm": (lambda: block("sigma_delta.Dense", 6, 5, weight_norm=True), LINE),
    "sums": (lambda: block("sigma_delta.Output", 6, 5), LINE),
    "rf": (lambda: block("rf.Dense", 6, 5, parameters={"period": 11.0, "decay": 0.05}), LINE),
    "rf_iz": (lambda: block("rf_iz.Dense", 6, 5), LINE),
    "input": (lambda: block("cuba.Input"), PLANE),
    "input with a transform": (lambda: block("cuba.Input", weight=0.6, bias=0.2), PLANE),
    "sigma-delta input": (lambda: block("sigma_delta.Input"), PLANE),
}


def _wrong(layer: Any) -> Any:
    """A layer with one mistake."""
    if isinstance(layer, Dense | Conv):
        return replace(layer, weight=np.clip(-layer.weight, -256, 254))
    assert layer.neuron is not None
    return replace(layer, neuron=replace(layer.neuron, threshold=layer.neuron.threshold + 9))


def _made(name: str) -> tuple[Any, Shape]:
    torch.manual_seed(6)
    build, shape = PROVEN[name]
    model = build()
    if name == "per channel":
        neuron = model.neuron
        neuron.shape = torch.Size([3, 4, 4])
        neuron.current_decay.data = torch.rand(3) * 900
        neuron.voltage_decay.data = torch.rand(3) * 900
    elif name == "mean norm":
        model.train()(torch.ones(2, *shape, 9))
    return model, shape


@pytest.mark.parametrize("name", PROVEN)
def test_right_integers_are_proven_and_wrong_ones_found(
    name: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    model, shape = _made(name)
    from_slayer(model, shape)  # neither refused nor warned about
    layers = slayer._layers
    monkeypatch.setattr(
        slayer, "_layers", lambda *args: [*layers(*args)[:-1], _wrong(layers(*args)[-1])]
    )
    with pytest.raises(NetworkError, match=r"not understood: \d+ of \d+ (messages|voltages)"):
        from_slayer(model, shape)


def test_a_neuron_of_ones_own_is_found() -> None:
    model = dense(6, 5)
    parent: Any = type(model.neuron)

    class Doubled(parent):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return super().forward(2 * x)

    model.neuron.__class__ = Doubled
    with pytest.raises(NetworkError, match="its forward pass is not understood"):
        from_slayer(model)


def test_what_cannot_be_compared_is_said() -> None:
    model = block("rf.Dense", 6, 5)
    model.synapse.real.weight.data.zero_()
    model.synapse.imag.weight.data.zero_()
    with pytest.warns(UnprovenWarning, match=r"model \(Dense\): .* were not compared with SLAYER"):
        from_slayer(model)


def test_a_network_that_cannot_be_copied_is_refused() -> None:
    model = row(dense(6, 5))
    model.lock = threading.Lock()  # type: ignore[assignment]
    with pytest.raises(NetworkError, match=r"cannot be copied: cannot pickle '_thread.lock'"):
        from_slayer(model)


@pytest.mark.parametrize("training", [True, False])
def test_the_network_is_only_read(training: bool) -> None:
    """Also one whose tensors are parts of a graph, after a pass of training."""
    model = row(
        block("cuba.Recurrent", 6, 5),
        dense(5, 3, weight_norm=True, parameters={"norm": _mean_norm()}),
    )
    model.train()(torch.ones(2, 6, 9))
    model.train(training)
    before = {key: value.clone() for key, value in model.state_dict().items()}
    states = [buffer.clone() for buffer in model.buffers()]
    drawn = torch.get_rng_state()
    from_slayer(model)
    assert model.training is training
    assert torch.equal(torch.get_rng_state(), drawn)
    assert all(torch.equal(before[key], value) for key, value in model.state_dict().items())
    assert all(torch.equal(a, b) for a, b in zip(states, model.buffers(), strict=True))
    assert all(b.delay_shift for b in model.blocks)
