"""SLAYER checkpoints into networks that have never run: what a first forward pass would size."""

from __future__ import annotations

import itertools
import json
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import nn

from spikeship.hw_targets import read_netx, simulate
from spikeship.hw_targets.network.layers import Shape
from spikeship.hw_targets.network.neurons import NetworkError
from spikeship.pipeline.frontends import from_slayer, load_slayer

from cli import call

pytestmark = [
    pytest.mark.lava,
    pytest.mark.filterwarnings("ignore:torch.nn.utils.weight_norm is deprecated"),
]

USERS = """
import torch

def build():
    import lava.lib.dl.slayer as slayer
    norm = slayer.neuron.norm.MeanOnlyBatchNorm
    cuba = {"threshold": 0.3, "current_decay": 0.3, "voltage_decay": 0.1, "requires_grad": True}
    dropout = slayer.neuron.Dropout(p=0.05)
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            dense = slayer.block.cuba.Dense
            self.blocks = torch.nn.ModuleList([
                dense({**cuba, "norm": norm}, 8, 7, weight_scale=5),
                dense({**cuba, "dropout": dropout}, 7, 6, weight_norm=True, delay=True, weight_scale=5),
                dense(cuba, 6, 3, weight_norm=True, weight_scale=5),
            ])
        def forward(self, x):
            for block in self.blocks:
                x = block(x)
            return x
    return Network()
"""
CUBA = {"threshold": 0.7, "current_decay": 0.3, "voltage_decay": 0.1, "requires_grad": True}
SHARP = CUBA | {"current_decay": 1.0}
SDNN = {"threshold": 0.1, "activation": torch.relu}
CHANNELS = {"shared_param": False}
LINE, PLANE = (8,), (2, 5, 5)


def blocks(*made: tuple[Any, ...]) -> nn.Module:
    """Blocks in a row, each (name, parameters, *arguments, options)."""
    from lava.lib.dl.slayer import block as families
    from lava.lib.dl.slayer.neuron import norm

    out = []
    for name, *arguments, options in made:
        family, _, kind = name.partition(".")
        if arguments:
            parameters = dict(arguments[0])
            if "norm" in parameters:
                parameters["norm"] = getattr(norm, parameters["norm"])
            arguments[0] = parameters
        out.append(getattr(getattr(families, family), kind)(*arguments, **options))
    return nn.Sequential(*out)


MEAN = {"norm": "MeanOnlyBatchNorm"}
STRONG: dict[str, Any] = {"weight_scale": 3}
NETWORKS: dict[str, tuple[Shape, Callable[[], nn.Module]]] = {
    "norm and delays": (
        LINE,
        lambda: blocks(
            ("cuba.Dense", CUBA | MEAN, 8, 7, STRONG),
            ("cuba.Dense", CUBA, 7, 5, STRONG | {"weight_norm": True, "delay": True}),
        ),
    ),
    "one channel": (LINE, lambda: blocks(("cuba.Dense", CUBA, 8, 1, STRONG | {"delay": True}))),
    "variance": (
        LINE,
        lambda: blocks(("cuba.Dense", SHARP | {"norm": "WgtScaleBatchNorm"}, 8, 7, {})),
    ),
    "decays per channel": (
        LINE,
        lambda: blocks(
            ("cuba.Dense", CUBA | CHANNELS, 8, 7, STRONG | {"delay": True}),
            ("cuba.Recurrent", CUBA | CHANNELS, 7, 5, STRONG),
        ),
    ),
    "recurrent": (LINE, lambda: blocks(("cuba.Recurrent", SHARP | MEAN, 8, 5, STRONG))),
    "convolution": (
        PLANE,
        lambda: blocks(
            ("cuba.Conv", CUBA | MEAN, 2, 4, 3, STRONG | {"delay": True}),
            ("cuba.Flatten", {}),
            ("cuba.Dense", CUBA, 36, 5, STRONG),
        ),
    ),
    "sigma-delta": (
        LINE,
        lambda: blocks(
            ("sigma_delta.Input", SDNN, {}),
            ("sigma_delta.Dense", SDNN | MEAN, 8, 5, STRONG | {"delay": False}),
            ("sigma_delta.Dense", SDNN, 5, 5, {"weight_norm": True, "delay": True}),
        ),
    ),
}


def trained(build: Callable[[], nn.Module], shape: Shape) -> nn.Module:
    """After a pass of training, which sizes what is to be sized, and with delays of some steps."""
    model = build().train()
    with torch.no_grad():
        model(torch.rand(4, *shape, 9).round())
    for module in model.modules():
        if hasattr(module, "max_delay"):
            module.delay.data = torch.rand(len(module.delay)) * 5
        if hasattr(module, "running_var"):
            module.running_var.fill_(0.9)
    return model.eval()


@pytest.mark.slow
@pytest.mark.parametrize("name", NETWORKS)
def test_a_network_that_never_ran_loads_them(name: str) -> None:
    shape, build = NETWORKS[name]
    torch.manual_seed(2)
    model = trained(build, shape)
    fresh = build()
    load_slayer(fresh, model.state_dict())
    assert from_slayer(fresh, shape) == from_slayer(model, shape)
    x = torch.rand(2, *shape, 20).round()
    with torch.no_grad():
        model(x[:1])  # another number of samples makes recurrent blocks forget their state
        expected = model(x)
        assert expected.any()
        for _ in range(2):  # nothing is drawn anew
            fresh.eval()(x[:1])
            assert torch.equal(fresh(x), expected)


def test_decays_of_a_convolution_are_not_drawn_anew() -> None:
    """SLAYER's CPU cannot run it, so no pass sized anything; a GPU would have."""
    build = lambda: blocks(("cuba.Conv", CUBA | CHANNELS, 2, 4, 3, STRONG))  # noqa: E731
    model, fresh = build(), build()
    neuron: Any = model[0].neuron
    neuron.shape = torch.Size([4, 3, 3])
    for decay in (neuron.current_decay, neuron.voltage_decay):
        decay.data = torch.rand(4) * 900
    load_slayer(fresh, model.state_dict())
    assert from_slayer(fresh, PLANE) == from_slayer(model, PLANE)
    with pytest.raises(RuntimeError, match="must match the size"):
        fresh(torch.zeros(1, *PLANE, 2))
    assert torch.equal(fresh[0].neuron.current_decay, neuron.current_decay)


def test_a_checkpoint_that_never_ran_draws_its_delays_later() -> None:
    _, build = NETWORKS["norm and delays"]
    fresh = build()
    load_slayer(fresh, build().state_dict())
    with pytest.raises(NetworkError, match="delays are drawn in its first forward pass"):
        from_slayer(fresh)


def test_the_weights_of_another_network_are_an_error() -> None:
    one = lambda *sizes: blocks(  # noqa: E731
        *(("cuba.Dense", CUBA | MEAN, *pair, {"delay": True}) for pair in itertools.pairwise(sizes))
    )
    state = trained(lambda: one(8, 7, 3), LINE).state_dict()
    with pytest.raises(RuntimeError, match="size mismatch") as error:
        load_slayer(one(8, 6, 3), state)
    for key in ("0.synapse.weight", "0.neuron.norm.running_mean", "0.delay.delay"):
        assert key in str(error.value)
    assert "1.delay.delay" not in str(error.value)
    with pytest.raises(RuntimeError, match=r"Unexpected key.*1\.delay\.delay"):
        load_slayer(one(8, 7), state)


@pytest.mark.parametrize("words", [[], ["--input-shape", "8"], ["--input", "x.npy"]])
def test_export_of_a_checkpoint(
    words: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is the network that was trained: every spike as SLAYER's."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_net", raising=False)
    Path("users_net.py").write_text(USERS)
    monkeypatch.syspath_prepend(str(tmp_path))
    import users_net

    torch.manual_seed(0)
    model = trained(users_net.build, LINE)
    torch.save(model.state_dict(), "w.pt")
    x = torch.rand(3, 8, 25).round()
    np.save("x.npy", np.moveaxis(x.numpy(), -1, 1).astype(np.int32))
    result = call(
        "export", "users_net:build", "--checkpoint", "w.pt", *words, "--out", "o.net", "--json"
    )
    assert result.exit_code == 0, result.stderr
    network = read_netx("o.net")
    assert json.loads(result.stdout)["digest"] == network.digest
    assert network.digest == from_slayer(model).digest
    with torch.no_grad():
        expected = model(nn.functional.pad(x, (1, 0))).movedim(-1, 1).numpy()
    trace = simulate(network, np.load("x.npy"), record=["spikes"])
    assert expected.any()
    assert np.array_equal(trace.spikes[-1], expected[:, 1:])


def test_export_names_what_differs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "users_net", raising=False)
    Path("users_net.py").write_text(USERS)
    torch.save(trained(NETWORKS["norm and delays"][1], LINE).state_dict(), "w.pt")
    result = call("export", "users_net:build", "--checkpoint", "w.pt", "--out", "o.net")
    assert result.exit_code == 3
    assert "w.pt: not the weights of this network" in result.stderr
    assert "blocks.0.synapse.weight" in result.stderr
    assert not Path("o.net").exists()
