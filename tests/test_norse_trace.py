"""Norse networks as users write them: imported as their own forward computes, or refused with the reason."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import norse.torch as norse
import numpy as np
import pytest
import torch
from norse.torch import LIBoxCell, LICell
from torch import Tensor, nn
from torch.nn import functional as F

from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_norse
from spikeship.pipeline.frontends.norse import run_norse
from spikeship.pipeline.frontends.norse_modules import UnsupportedModuleError
from spikeship.pipeline.frontends.norse_proof import LAST_BITS, PROMISES
from spikeship.pipeline.graph import READOUTS, chain

from cli import ok


def lif(**p: float) -> nn.Module:
    p = {"v_th": 0.2, **p}
    return norse.LIFCell(norse.LIFParameters(**{k: torch.tensor(v) for k, v in p.items()}))


class User(nn.Module):
    """Layers by attribute, and a forward that is given."""

    def __init__(self, forward: Callable[..., Any], **layers: nn.Module) -> None:
        super().__init__()
        for name, layer in layers.items():
            self.add_module(name, layer)
        self.own = forward

    def forward(self, x: Tensor, state: Any = None) -> Any:
        return self.own(self, x, state)


class Loop(User):
    """The same over a leading time axis."""

    def forward(self, x: Tensor) -> Any:  # type: ignore[override]
        return self.own(self, x)


def body_head(net: Any, x: Tensor, state: Any) -> Any:
    a, b = state or (None, None)
    z, a = net.body(x, a)
    y, b = net.head(z, b)
    return y, (a, b)


def stateful(*layers: nn.Module) -> norse.SequentialState:
    return norse.SequentialState(*layers)


def step(
    before: Any = lambda net, x: x, between: Any = lambda net, z, x: z, after: Any = lambda y: y
) -> Any:
    def forward(net: Any, x: Tensor, state: Any) -> Any:
        a, b = state or (None, None)
        z, a = net.a(net.fc1(before(net, x)), a)
        y, b = net.b(net.fc2(between(net, z, x)), b)
        return after(y), (a, b)

    return forward


def loop(out: Callable[[Tensor], Tensor] = lambda y: y, forget: bool = False) -> Any:
    def forward(net: Any, x: Tensor) -> Tensor:
        a = b = None
        outs = []
        for frame in x:
            z, a = net.a(net.fc1(frame), None if forget else a)
            y, b = net.b(net.fc2(z), b)
            outs.append(y)
        return out(torch.stack(outs))

    return forward


def conv_loop(pool: Callable[[Any, Tensor], Tensor]) -> Any:
    def forward(net: Any, x: Tensor) -> Tensor:
        a = b = None
        outs = []
        for frame in x:
            z, a = net.a(net.conv(frame), a)
            z = pool(net, z)
            y, b = net.b(net.fc(z.view(len(z), -1)), b)
            outs.append(y)
        return torch.stack(outs)

    return forward


def one_state(net: Any, x: Tensor, state: Any) -> Any:
    z, state = net.a(net.fc1(x), state)
    y, state = net.a(net.fc2(z), state)
    return y, state


def two_states(net: Any, x: Tensor, state: Any) -> Any:
    a, b = state or (None, None)
    z, a = net.a(net.fc1(x), a)
    y, b = net.a(net.fc1(z), b)
    return y, (a, b)


def time_first(net: Any, x: Tensor) -> Tensor:
    """The first layer over all steps at once, then one loop for each cell."""

    def run(cell: nn.Module, x: Tensor) -> Tensor:
        state, out = None, []
        for frame in x:
            z, state = cell(frame, state)
            out.append(z)
        return torch.stack(out)

    flat = net.fc1(x.flatten(0, 1)).view(*x.shape[:2], -1)
    return run(net.b, net.fc2(run(net.a, flat)))


def norm(made: Any) -> nn.Module:
    """A batch norm that has seen something."""
    made.running_mean.normal_(0.1, 0.3)
    made.running_var.uniform_(0.3, 2)
    made.bias.data.normal_(0.1, 0.3)
    return made


def around(net: Any, x: Tensor, state: Any) -> Any:
    """A skip connection around weights alone."""
    a, b = state or (None, None)
    z, a = net.a(net.fc1(x), a)
    y, b = net.b(net.fc2(z) + z, b)
    return y, (a, b)


def over_neurons(net: Any, x: Tensor, state: Any) -> Any:
    a, b = state or (None, None)
    z, a = net.a(net.fc1(x), a)
    y, b = net.b(net.fc2(z) + x, b)
    return y, (a, b)


def branch(net: Any, x: Tensor, state: Any) -> Any:
    a, b = state or (None, None)
    _, a = net.a(net.fc1(x), a)
    y, b = net.b(net.fc2(x), b)
    return y, (a, b)


def dense(kind: type[User], forward: Any, readout: Any = lif) -> Callable[[], nn.Module]:
    return lambda: kind(forward, fc1=nn.Linear(6, 6), a=lif(), fc2=nn.Linear(6, 6), b=readout())


def image(pool: Any, **layers: nn.Module) -> Callable[[], nn.Module]:
    return lambda: Loop(
        conv_loop(pool), conv=nn.Conv2d(1, 3, 3), a=lif(), fc=nn.Linear(27, 4), b=LICell(), **layers
    )


def functions() -> nn.Module:
    """Weights that belong to no module, and layers that are functions of them."""

    def forward(net: Any, x: Tensor, state: Any) -> Any:
        a, b, c = state or (None, None, None)
        z, a = net.a(F.conv2d(x, net.kernel, net.offset, padding=1), a)
        z, b = net.b(F.linear(z.flatten(1), net.first), b)
        y, c = net.c(F.linear(z, net.second, net.third), c)
        return y, (a, b, c)

    net = User(forward, a=lif(), b=lif(), c=LICell())
    shapes = {"kernel": (2, 1, 3, 3), "offset": (2,), "first": (6, 128), "second": (6, 6)}
    for name, size in {**shapes, "third": (6,)}.items():
        net.register_parameter(name, nn.Parameter(torch.randn(size) / 4))
    return net


def shared_pool() -> nn.Module:
    pool = nn.AvgPool2d(2)
    return stateful(pool, nn.Conv2d(1, 2, 3, padding=1), lif(), pool, nn.Conv2d(2, 2, 1), lif())


def shared() -> nn.Module:
    cell, linear = lif(), nn.Linear(6, 6)
    return stateful(linear, cell, linear, cell, nn.Linear(6, 6), cell)


CASES: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str | None]] = {
    "body and head": (lambda: User(body_head, body=stateful(nn.Linear(6, 8), lif()), head=stateful(nn.Linear(8, 3), LICell())), (6,), None),
    "body and head with memory over time": (lambda: User(body_head, body=stateful(nn.Linear(6, 8), lif()), head=stateful(nn.Linear(8, 3), LIBoxCell())), (6,), None),
    "shared cell and weights": (shared, (6,), None),
    "shared pool": (shared_pool, (1, 8, 8), None),
    "steps": (dense(User, step()), (6,), None),
    "loop": (dense(Loop, loop()), (6,), None),
    "loop, sum": (dense(Loop, loop(lambda y: y.sum(0))), (6,), None),
    "loop, mean voltage": (dense(Loop, loop(lambda y: y.mean(0)), LICell), (6,), None),
    "layer by layer over time": (dense(Loop, time_first), (6,), None),
    "one cell, two states": (dense(User, two_states), (6,), None),
    "identities of spikes": (dense(User, step(between=lambda net, z, x: F.relu(z).clamp(0, 1))), (6,), None),
    "max pooling module": (image(lambda net, z: net.mp(z), mp=nn.MaxPool2d(2)), (1, 8, 8), None),
    "block inside a SequentialState": (lambda: stateful(nn.Linear(6, 6), User(body_head, body=stateful(nn.Linear(6, 8), lif()), head=stateful(nn.Linear(8, 3), lif()))), (6,), None),
    "return_hidden": (lambda: norse.SequentialState(nn.Linear(6, 6), lif(), return_hidden=True), (6,), None),
    "normalizes": (dense(User, step(lambda net, x: (x - 0.13) / 0.3)), (6,), "between the input and fc1, forward computes something by itself .the values change"),
    "clips its input": (dense(User, step(lambda net, x: x.clamp(0, 1))), (6,), "between the input and fc1"),
    "skip connection": (dense(User, step(between=lambda net, z, x: z + x)), (6,), "between a and fc2, .*adds what the input gives: a skip connection"),
    "around a Linear": (dense(User, around), (6,), None),
    "around a Linear and its norm": (lambda: User(around, fc1=nn.Linear(6, 6), a=lif(), fc2=nn.Sequential(nn.Linear(6, 6), norm(nn.BatchNorm1d(6))), b=lif()), (6,), None),
    "around a convolution": (lambda: User(around, fc1=nn.Conv2d(1, 4, 3, padding=1), a=lif(), fc2=nn.Conv2d(4, 4, (3, 5), padding=(1, 2), groups=2), b=lif()), (1, 6, 6), None),
    "around a convolution and its norm": (lambda: User(around, fc1=nn.Conv2d(1, 4, 3, padding=1), a=lif(), fc2=nn.Sequential(nn.Conv2d(4, 4, 3, padding="same", dilation=2, bias=False), norm(nn.BatchNorm2d(4))), b=lif()), (1, 6, 6), None),
    "around neurons": (dense(User, over_neurons), (6,), "between fc2 and b, .*adds what the input gives: a skip connection"),
    "branch": (dense(User, branch), (6,), "between a and fc2, .*takes what the input gives: a branch"),
    "F.relu": (lambda: User(body_head, body=stateful(nn.Linear(6, 8), LICell()), head=User(lambda net, x, state: net.body(F.relu(x), state), body=stateful(nn.Linear(8, 3), lif()))), (6,), r"between body.1 and head.body.0, .*F.relu"),
    "F.max_pool2d": (image(lambda net, z: F.max_pool2d(z, 2)), (1, 8, 8), None),
    "torch.max_pool2d": (image(lambda net, z: torch.max_pool2d(z, (2, 2), (2, 2))), (1, 8, 8), None),
    "F.avg_pool2d": (image(lambda net, z: F.avg_pool2d(z, 2, stride=2)), (1, 8, 8), None),
    "F.adaptive_avg_pool2d": (image(lambda net, z: F.adaptive_avg_pool2d(z, 3)), (1, 8, 8), None),
    "F.linear and F.conv2d": (functions, (1, 8, 8), None),
    "F.batch_norm": (lambda: User(step(lambda net, x: F.batch_norm(x, net.fc1.bias, net.fc1.bias.exp())), fc1=nn.Linear(6, 6), a=lif(), fc2=nn.Linear(6, 6), b=lif()), (6,), None),
    "statistics of the batch": (dense(User, step(lambda net, x: F.batch_norm(x, None, None, training=True))), (6,), "between the input and fc1, forward computes something by itself"),
    "uneven adaptive pooling": (image(lambda net, z: F.adaptive_avg_pool2d(z, (3, 3)), conv2=nn.Conv2d(3, 3, 1)), (1, 9, 9), r"F.adaptive_avg_pool2d \(AdaptiveAvgPool2d\): makes \(3, 3\) of \(7, 7\), which is no whole"),
    "maximum of currents": (lambda: User(lambda net, x, state: net.a(F.max_pool2d(net.conv(x), 2), state), conv=nn.Conv2d(1, 2, 3), a=lif()), (1, 8, 8), "F.max_pool2d .MaxPool2d.: a maximum is exact only of spikes"),
    "softmax at the end": (dense(User, step(after=lambda y: y.softmax(-1)), LICell), (6,), "returns something else than what b"),
    "last step only": (dense(Loop, loop(lambda y: y[-1])), (6,), "returns something else than what b"),
    "forgets": (dense(Loop, loop(forget=True)), (6,), "module a: forward forgets its state"),
    "one state for two places": (dense(User, one_state), (6,), "module a: forward gives it a state that was left at another place"),
    "casts": (dense(User, step(lambda net, x: x.float())), (6,), "cannot be followed. Understood are .*in the dtype of x"),
    "calls nothing": (lambda: User(lambda net, x, state: (x, state), a=lif()), (6,), "it calls no layer"),
    "unsupported inside": (dense(User, step(), norse.LSNNCell), (6,), "module b is a LSNNCell, .*its threshold adapts"),
    "an ANN": (lambda: User(lambda net, x, state: (net.a(x), state), a=nn.Linear(6, 6)), (6,), "no Norse neuron"),
}  # fmt: skip


def grown(net: nn.Module) -> nn.Module:
    with torch.no_grad():
        for parameter in net.parameters():
            parameter *= 3
    return net


def compare(net: nn.Module, shape: tuple[int, ...]) -> None:
    """Every layer of the module's own forward and of the graph, in float64, on frames of our own."""
    graph = from_norse(net, shape)
    frames = (np.random.default_rng(5).random((7, 12, *shape)) < 0.4).astype(float)
    theirs, ours = run_norse(net, frames), execute(graph, frames)
    nodes = dict(chain(graph))
    assert len(theirs) == len(ours.names)
    for i, name in enumerate(ours.names):
        if isinstance(nodes[name], READOUTS):
            assert np.abs(ours.voltage[i] - theirs[i]).max() <= LAST_BITS * max(
                1, np.abs(theirs[i]).max()
            )
        else:
            assert (ours.spikes[i] == theirs[i]).all()


@pytest.mark.parametrize("name", CASES)
def test_imported_as_it_runs_or_refused_truly(name: str) -> None:
    build, shape, refusal = CASES[name]
    torch.manual_seed(0)
    net = grown(build())
    if refusal is None:
        compare(net, shape)
        return
    with pytest.raises(UnsupportedModuleError, match=f"(?s){refusal}"):
        from_norse(net, shape)


def random_class(seed: int) -> tuple[nn.Module, bool]:
    """A class of up to four layers, perhaps shared, perhaps with something between; whether it is a chain."""
    draw = random.Random(seed)
    names = draw.sample(["body", "blocks", "net", "head", "layers", "fc", "out"], 4)
    linears = [nn.Linear(6, 6) for _ in names]
    cells = [lif(v_th=draw.choice([0.1, 0.2, 0.4])) for _ in names]
    if draw.random() < 0.4:
        linears[2] = linears[0]
    if draw.random() < 0.4:
        cells[3] = cells[1]
    extra = draw.choice(["none", "none", "skip", "scale", "noise", "shift"])
    at = draw.randrange(1, 4)

    between: dict[str, Callable[[Tensor, Tensor], Tensor]] = {
        "none": lambda x, first: x,
        "skip": lambda x, first: x + first,
        "scale": lambda x, first: 0.5 * x,
        "noise": lambda x, first: x + torch.rand_like(x),
        "shift": lambda x, first: x.roll(1, -1),
    }

    def forward(net: Any, x: Tensor, state: Any) -> Any:
        first = x
        state = list(state or [None] * 4)
        for i, name in enumerate(names):
            if i == at:
                x = between[extra](x, first)
            linear, cell = getattr(net, name)
            x, state[i] = cell(linear(x), state[i])
            first = x if i == 0 else first
        return x, state

    blocks = {n: nn.ModuleList(pair) for n, *pair in zip(names, linears, cells, strict=True)}
    return grown(User(forward, **blocks)), extra == "none"


def test_random_classes_are_equal_or_refused() -> None:
    before = torch.get_rng_state()
    accepted = 0
    for seed in range(24):
        torch.manual_seed(seed)
        net, is_chain = random_class(seed)
        try:
            compare(net, (6,))
        except UnsupportedModuleError:
            assert not is_chain, seed
        else:
            assert is_chain, seed
            accepted += 1
    assert 4 < accepted < 20
    torch.set_rng_state(before)


def test_from_norse_leaves_module_and_random_numbers_alone() -> None:
    net = shared().train()
    before, weights = torch.get_rng_state(), [p.clone() for p in net.parameters()]
    from_norse(net, (6,))
    assert torch.equal(before, torch.get_rng_state())
    assert net.training
    assert all(torch.equal(a, b) for a, b in zip(weights, net.parameters(), strict=True))
    assert not any(m._forward_hooks for m in net.modules())


def cell_of(kind: type[nn.Module]) -> nn.Module:
    """A cell with rates that are no round numbers; leak (which norse.LI rounds to float32) not 0."""
    if kind is nn.MaxPool2d:
        return stateful(lif(), nn.MaxPool2d(2))
    values = {
        "tau_mem_inv": 249.7,
        "tau_syn_inv": 391.3,
        "v_leak": 2**-6,
        "v_th": 0.37,
        "v_reset": -0.1,
    }
    default: Any = (
        kind(4, 4).p if "Recurrent" in kind.__name__ or "Linear" in kind.__name__ else kind().p
    )
    given = {
        k: torch.tensor(v, dtype=torch.float64) for k, v in values.items() if k in default._fields
    }
    p = type(default)(**given)
    sizes = (4, 4) if "Recurrent" in kind.__name__ or "Linear" in kind.__name__ else ()
    return stateful(kind(*sizes, p=p))


@pytest.mark.parametrize("kind", PROMISES, ids=lambda kind: kind.__name__)
def test_what_is_promised_of_a_cell_holds(kind: type[nn.Module]) -> None:
    """Of the same currents: voltages equal bit for bit, or up to the last bits, and spikes equal."""
    torch.manual_seed(0)
    net = cell_of(kind)
    shape = (1, 8, 8) if kind is nn.MaxPool2d else (4,)
    graph = from_norse(net, shape)
    frames = np.random.default_rng(1).random((5, 30, *shape)) - 0.2
    theirs, ours = run_norse(net, frames)[-1], execute(graph, frames)
    readout = isinstance(dict(chain(graph))[ours.names[-1]], READOUTS)
    mine = ours.voltage[-1] if readout else ours.spikes[-1]
    assert 0 < np.count_nonzero(mine) < mine.size or readout
    if PROMISES[kind] and readout:
        assert np.abs(mine - theirs).max() <= PROMISES[kind]
    else:
        assert (mine == theirs).all()


FILE = """
import norse.torch as norse, torch, torch.nn.functional as F
from torch import nn
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.conv, self.fc = nn.Conv2d(1, 4, 3, padding=1), nn.Linear(64, 10)
        self.lif, self.out = norse.LIFBoxCell(), norse.LIBoxCell()
    def forward(self, x):
        a = b = None
        outs = []
        for frame in x:
            z, a = self.lif(self.conv(frame), a)
            z = F.max_pool2d(z, 2)
            y, b = self.out(self.fc(torch.flatten(z, 1)), b)
            outs.append(y)
        return torch.stack(outs).mean(0)
def build():
    net = Net()
    for layer in (net.conv, net.fc):
        layer.weight.data *= 6
    return net
"""


def test_a_class_in_a_file_goes_all_the_way(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Export, verify against its own forward, profile."""
    monkeypatch.chdir(tmp_path)
    Path("nets").mkdir()
    Path("nets/norse_own_file.py").write_text(FILE)
    source, known = "nets/norse_own_file.py:build", ("--data", "digits")
    exported = ok("export", source, *known, "--out", "own.net")
    assert [layer["name"] for layer in exported["layers"]] == [
        "lif:lif", "F.max_pool2d:threshold", "out:li",
    ]  # fmt: skip
    words = ("verify", "own.net", "--model", source, "--samples", 20, "--lava-samples", 0)
    assert ok(*words)["ok"]
    assert ok("profile", "own.net", "--samples", 10)["profile"]["digest"] == exported["digest"]
