"""A new user's walk, one per framework: own network, own data, an empty folder, five commands of the line.

Every walk has a file `mine.py` with a network and an ANN, weights `w.pt`, data `own.npz`, and `theirs.npy`:
what the framework itself gave on inputs of the user's. Weights, thresholds and decays lie on a grid, and no
voltage lands on a threshold, so that every spike of the framework, of the float network and of the integers
must be the same, with `==`. Where netx has no exact image (snnTorch's default reset) the float network must
still be the framework's, spike for spike, and what the integers do instead is measured. What does not apply
to a kind of data is refused by name.
"""

from __future__ import annotations

import importlib.util
import sys
import warnings
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from cli import ok, text

pytestmark = [
    pytest.mark.slow,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated"),
]

STEPS = 6

COMMON = """
import torch
from torch import nn

def weights():
    first, second = torch.eye(16), -torch.ones(3, 16) / 2
    for c in range(3):
        second[c, 4 * c : 4 * c + 4] = 1
    return first, second

def ann():
    a, b = weights()
    net = nn.Sequential(nn.Flatten(), nn.Linear(16, 16), nn.ReLU(), nn.Linear(16, 3))
    net[1].weight.data, net[3].weight.data = a, b
    return net
"""

NORSE = """
import norse.torch as norse

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.4375))
        self.a, self.b = nn.Linear(16, 16, bias=False), nn.Linear(16, 3, bias=False)
        self.hidden, self.out = norse.LIFBoxCell(p), norse.LIFBoxCell(p)
    def forward(self, x):
        s1 = s2 = None
        spikes = []
        for t in range(x.shape[0]):
            z, s1 = self.hidden(self.a(x[t].flatten(1)), s1)
            z, s2 = self.out(self.b(z), s2)
            spikes.append(z)
        return torch.stack(spikes)

def record(net, x):
    return net(x.transpose(0, 1)).transpose(0, 1)
"""

SNNTORCH = """
import snntorch as snn

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(16, 16, bias=False), nn.Linear(16, 3, bias=False)
        self.hidden, self.out = snn.Leaky(beta=0.5, threshold=0.75), snn.Leaky(beta=0.5)
    def forward(self, x):
        m1, m2, spikes = self.hidden.init_leaky(), self.out.init_leaky(), []
        for t in range(x.size(0)):
            z, m1 = self.hidden(self.a(x[t].flatten(1)), m1)
            z, m2 = self.out(self.b(z), m2)
            spikes.append(z)
        return torch.stack(spikes)

def record(net, x):
    return net(x.transpose(0, 1)).transpose(0, 1)
"""

SPIKINGJELLY = """
from spikingjelly.activation_based import functional, layer, neuron

def Net():
    net = nn.Sequential(
        layer.Flatten(), layer.Linear(16, 16, bias=False), neuron.LIFNode(tau=2.0, v_threshold=0.375),
        layer.Linear(16, 3, bias=False), neuron.IFNode(v_threshold=1.0),
    )
    functional.set_step_mode(net, "m")
    return net

def record(net, x):
    functional.reset_net(net)
    return net(x.transpose(0, 1)).transpose(0, 1)
"""

SLAYER = """
import lava.lib.dl.slayer as slayer

P = dict(threshold=1.0, current_decay=0.5, voltage_decay=0.25, requires_grad=True)

class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.blocks = nn.ModuleList([
            slayer.block.cuba.Flatten(),
            slayer.block.cuba.Dense(P, 16, 16, delay=True), slayer.block.cuba.Dense(P, 16, 3, delay=True),
        ])
    def forward(self, x):
        for block in self.blocks:
            x = block(x)
        return x

def record(net, x):
    return net(x.movedim(1, -1)).movedim(-1, 1)
"""

CNN = """
class Net(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv = nn.Conv2d(1, 2, (1, 4), bias=False)
        self.out = nn.Linear(8, 3, bias=False)
    def forward(self, x):
        return self.out(torch.relu(self.conv(x)).flatten(1))

def trained(net):
    net.conv.weight.data = torch.ones(2, 1, 1, 4) / 4
    net.out.weight.data = torch.eye(3, 4).repeat(1, 2)

def record(net, x):
    return net(x).argmax(1)

def ann():
    trained(net := Net())
    return net
"""

SERIES = """
import norse.torch as norse
from norse.torch.functional.leaky_integrator_box import LIBoxParameters

class Net(nn.Module):
    outputs = 3
    def __init__(self):
        super().__init__()
        p = norse.LIFBoxParameters(tau_mem_inv=torch.tensor(500.0), v_th=torch.tensor(0.4375))
        self.a, self.b = nn.Linear(5, 8, bias=False), nn.Linear(8, self.outputs, bias=False)
        self.hidden = norse.LIFBoxCell(p)
        self.out = norse.LIBoxCell(LIBoxParameters(tau_mem_inv=torch.tensor(500.0)))
    def forward(self, x):
        s1 = s2 = None
        voltages = []
        for t in range(x.shape[0]):
            z, s1 = self.hidden(self.a(x[t]), s1)
            v, s2 = self.out(self.b(z), s2)
            voltages.append(v)
        return torch.stack(voltages)

def trained(net):
    net.a.weight.data = torch.eye(8, 5) - torch.eye(8, 5).roll(1, 1) / 4
    net.b.weight.data = torch.eye(3, 8)[: net.outputs] - 0.25

def record(net, x):
    return net(x.transpose(0, 1)).transpose(0, 1)

def ann():
    outputs = Net.outputs
    return nn.Sequential(nn.Flatten(), nn.Linear(30, 9), nn.ReLU(), nn.Linear(9, outputs))
"""
REGRESSION = SERIES.replace("outputs = 3", "outputs = 1")


@dataclass(frozen=True)
class Walk:
    """What the user has; `to_net`, `judged`: what else is typed to make the .net file and to verify it.

    `own_inputs`: recorded on spikes of the user's, `x.npy`, not on the test data themselves. `integers`:
    the fraction of what was recorded that the integers give, at least; None where units differ.
    `refused`: what the commands say that do not apply.
    """

    source: str
    kind: str = "images"
    to_net: Sequence[object] = ("export", "--coding", "poisson", "--time-steps", STEPS)
    judged: Sequence[object] = ()
    own_inputs: bool = True
    what: str = "spikes"
    integers: float | None = 1.0
    refused: Sequence[tuple[str, str]] = ()


CERTIFY = ("certify", "a certificate is for images in [0, 1]")
WALKS = {
    "norse": Walk(NORSE),
    "snntorch": Walk(
        SNNTORCH,
        to_net=("export", "--coding", "poisson", "--time-steps", STEPS, "--approximate-reset"),
        judged=("--tolerance", 0.1),
        integers=0.9,
    ),
    "spikingjelly": Walk(SPIKINGJELLY),
    "slayer": Walk(SLAYER),
    "torch": Walk(
        CNN,
        to_net=("convert", "--coding", "poisson", "--time-steps", STEPS),
        own_inputs=False,
        what="classes",
    ),
    "time series": Walk(
        SERIES, "series", ("export",), (), False, "voltages", None, refused=[CERTIFY]
    ),
    "regression": Walk(
        REGRESSION,
        "regression",
        ("export",),
        (),
        False,
        "voltages",
        None,
        refused=[
            ("attack", "own.npz is regression: attacks and certificates"),
            ("certify", "own.npz is regression: attacks and certificates"),
        ],
    ),
}


def samples(kind: str, count: int, rng: np.random.Generator) -> tuple[NDArray[Any], NDArray[Any]]:
    """Images with one bright row, or time series with one large feature, on a grid; the row is the class."""
    y = np.arange(count) % 3
    if kind == "images":
        x = rng.integers(0, 4, (count, 1, 4, 4))
        x[np.arange(count), 0, y] += 12
        return (x / 16).astype(np.float32), y
    x = rng.integers(-8, 4, (count, STEPS, 5))
    x[np.arange(count), :, y] += 12
    return (x / 8).astype(np.float32), y if kind == "series" else (y / 2).astype(np.float32)


def set_out(walk: Walk) -> None:
    """What the user has before the first command, in this folder."""
    rng = np.random.default_rng(0)
    (x_train, y_train), (x_test, y_test) = (samples(walk.kind, n, rng) for n in (60, 24))
    np.savez("own.npz", x_train=x_train, y_train=y_train, x_test=x_test, y_test=y_test)
    Path("mine.py").write_text(COMMON + walk.source)
    mine = imported("mine.py")
    net = mine.Net()
    if walk.source is SLAYER:  # its first forward pass makes the tensors of its delays
        net(torch.zeros(1, 1, 4, 4, STEPS))
        net.blocks[1].delay.delay.data = torch.arange(16.0) % 4
        net.blocks[2].delay.delay.data = torch.arange(3.0)
    if hasattr(mine, "trained"):
        mine.trained(net)
    else:
        sized = {p.numel(): p for p in net.parameters()}
        for weight in mine.weights():
            sized[weight.numel()].data = weight.reshape(sized[weight.numel()].shape)
    torch.save(net.state_dict(), "w.pt")
    given: NDArray[Any] = x_test
    if walk.own_inputs:
        given = rng.random((len(x_test), STEPS, 1, 4, 4)) < x_test[:, None]  # bools are spikes
        np.save("x.npy", given)
    with torch.no_grad():
        theirs = mine.record(net.eval(), torch.tensor(given).float()).numpy()
    assert theirs.any()
    np.save("theirs.npy", theirs)


def imported(file: str) -> ModuleType:
    """The user's file, as the user imports it."""
    spec = importlib.util.spec_from_file_location("mine", file)
    assert spec is not None
    assert spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # of frameworks, at import
        spec.loader.exec_module(module)
    return module


@pytest.mark.parametrize(
    "name", [pytest.param(n, marks=pytest.mark.lava if n == "slayer" else ()) for n in WALKS]
)
def test_a_walk(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    walk = WALKS[name]
    if name == "spikingjelly" and sys.version_info >= (3, 11):
        pytest.importorskip(name, reason="its release there is newer than what was tried")
    set_out(walk)
    refused = dict(walk.refused)

    command, *how = walk.to_net
    made = ("--net", "my.net") if command == "convert" else ("--out", "my.net")
    of = ("mine.py:Net", "--checkpoint", "w.pt", "--data", "own.npz")
    exported = ok(command, *of, *how, *made)
    assert exported["answers"]["integers"]["samples"] == 24
    if walk.kind != "regression":
        assert exported["answers"]["integers"]["accuracy"] > 0.9

    inputs = ("--input", "x.npy") if walk.own_inputs else ()
    expect = ("--expect", "theirs.npy", "--lava-samples", 0)
    verified = ok("verify", "my.net", *inputs, *expect, *walk.judged)
    recorded = verified["result"]["expected"]
    assert (recorded["what"], recorded["samples"], recorded["to_float"]) == (walk.what, 24, 1)
    if walk.integers is None:
        assert recorded["to_integers"] is None
    else:
        assert walk.integers <= recorded["to_integers"] <= 1
    assert recorded["late"] == (2 if name == "slayer" else 0)

    profiled = ok("profile", "my.net", "--ann", "mine.py:ann")["profile"]
    assert profiled["ann"]["fair"]
    assert (profiled["accuracy"] is None) == (walk.kind == "regression")

    for judge, options in (("attack", ()), ("certify", ("--n", 300, "--samples", 4))):
        if judge in refused:
            said = text(judge, "my.net", *options, status=3).replace("\n", " ")
            assert refused[judge] in said
        else:
            judged = ok(judge, "my.net", *options)
            assert judged["data"] == "own.npz"
            if judge == "certify":
                assert judged["summary"]["accuracy"][0] > 0.5
            else:
                (attacked,) = judged["attacks"]
                assert attacked["digest"] == exported["digest"]
                assert attacked["clean"]["accuracy"] > 0.9


def test_what_is_not_the_frameworks_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One spike more or less is named; classes are compared; files in the place of others are refused."""
    monkeypatch.chdir(tmp_path)
    set_out(WALKS["norse"])
    words = ("mine.py:Net", "--checkpoint", "w.pt", "--data", "own.npz", "--coding", "poisson")
    ok("export", *words, "--time-steps", STEPS, "--out", "my.net")
    theirs = np.load("theirs.npy")
    theirs[5, 3, 1] = 1 - theirs[5, 3, 1]
    np.save("other.npy", theirs)
    given = ("verify", "my.net", "--input", "x.npy", "--lava-samples", 0, "--expect")
    said = text(*given, "other.npy", status=1)
    assert "NOT verified: what the original framework recorded is something else" in said
    assert "first sample 5, step 3, neuron (1,)" in said
    np.save("classes.npy", theirs.sum(1).argmax(1))
    assert ok(*given, "classes.npy")["result"]["expected"]["to_float"] == 1
    np.save("real.npy", theirs.sum(1).argmax(1).astype(float))
    assert "not of whole numbers" in text(*given, "real.npy", status=3)
    for recorded, late in ((theirs, None), (np.load("theirs.npy"), 2)):
        slayers = np.pad(recorded, ((0, 0), (2, 0), (0, 0)))[:, :STEPS]
        for form in (slayers, slayers.sum(1)):  # as late as SLAYER's, by spikes and by counts
            np.save("late.npy", form)
            if late is None:
                assert "something else" in text(*given, "late.npy", status=1)
            else:
                assert ok(*given, "late.npy")["result"]["expected"]["late"] == late
    ok(*given, "theirs.npy", "--tolerance", 0)
    for source, says in (
        (("profile", "my.net", "--ann", "w.pt"), "beside it with --ann-checkpoint w.pt"),
        (("export", "w.pt", "--out", "o.net"), "beside it with --checkpoint w.pt"),
        (("export", "my.net", "--out", "o.net"), "export takes what it was made of"),
    ):
        assert says in text(*source, status=3).replace("\n", " ")
    assert not Path("o.net").exists()


def test_convert_takes_no_folder_for_a_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Once `--out my.net` made a folder of that name."""
    monkeypatch.chdir(tmp_path)
    set_out(WALKS["torch"])
    words = ("convert", "mine.py:Net", "--checkpoint", "w.pt", "--data", "own.npz")
    assert "--out my.net is a folder" in text(*words, "--out", "my.net", status=2)
    assert "none: no such folder" in text(*words, "--net", "none/my.net", status=3)
    assert {path.name for path in Path().iterdir()} == {"mine.py", "own.npz", "theirs.npy", "w.pt"}
