"""The rows of FRONTENDS: whose a network is, and a frontend that comes from outside the library."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from torch import nn

from spikeship.hw_targets import Network
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import (
    FRONTENDS,
    Frontend,
    UnknownFrameworkError,
    frontend_of,
)
from spikeship.pipeline.frontends.load import load_source
from spikeship.pipeline.frontends.norse_modules import UnsupportedModuleError
from spikeship.pipeline.graph import chain_graph
from spikeship.pipeline.parts import Kind, Part, Table
from spikeship.pipeline.supported import supported


def norse_net() -> nn.Module:
    torch.manual_seed(0)
    return norse.SequentialState(nn.Linear(6, 5), norse.LIFCell(), nn.Linear(5, 3), norse.LICell())


def slayer_net() -> nn.Module:
    import lava.lib.dl.slayer as slayer

    neuron = {"threshold": 0.5, "current_decay": 0.25, "voltage_decay": 0.1}
    return nn.Sequential(slayer.block.cuba.Dense(neuron, 6, 4))


def graph() -> nir.NIRGraph:
    neuron = nir.IF(np.ones(3), np.full(3, 0.5), np.zeros(3))
    neuron.metadata = {"reset": "zero", "reset_delay": 0}
    weight = np.random.default_rng(0).normal(size=(3, 6))
    return chain_graph([("w", nir.Linear(weight)), ("n", neuron)], (6,), {"dt": 1.0})


class Integrators(nn.Module):
    """The network of a framework that the library has never heard of."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = nn.Parameter(torch.zeros(3, 6))


def integrators_to_nir(
    model: Integrators, input_shape: Sequence[int] | None, frames: Any
) -> nir.NIRGraph:
    made = graph()
    made.nodes["w"] = nir.Linear(model.weight.detach().double().numpy())
    return made


TOY = Frontend(
    "Toy",
    "a network of Integrators",
    lambda model: isinstance(model, Integrators),
    integrators_to_nir,
    (Table("toy modules", lambda: (Kind("Integrators"),)),),
)


@pytest.mark.parametrize(
    ("make", "name", "kind"),
    [
        (graph, "NIR", nir.NIRGraph),
        (norse_net, "Norse", nir.NIRGraph),
        (lambda: nn.Sequential(norse_net()), "Norse", nir.NIRGraph),
        pytest.param(slayer_net, "SLAYER", Network, marks=pytest.mark.lava),
        (Integrators, "Toy", nir.NIRGraph),
    ],
)
def test_a_network_is_converted_by_the_row_that_understands_it(
    make: Callable[[], Any], name: str, kind: type
) -> None:
    model = make()
    frontend = frontend_of(model, (*FRONTENDS, TOY))
    assert frontend.name == name
    assert frontend.integers == (kind is Network)
    if name == "Norse" and type(model) is nn.Sequential:
        return  # understood, though refused
    made = frontend.convert(model, (6,), np.zeros((2, 4, 6)))
    assert isinstance(made, kind)
    if isinstance(made, nir.NIRGraph):
        assert execute(made, np.ones((2, 4, 6))).spikes[-1].shape == (2, 4, 3)
        again = frontend_of(made).convert(made, None, None)  # what was read once stays as it is
        assert isinstance(again, nir.NIRGraph)
        assert again.edges == made.edges
        assert again.metadata == {"framework": "NIR", **made.metadata}
        for node, same in made.nodes.items():
            ours, theirs = vars(again.nodes[node]), vars(same)
            assert ours.keys() == theirs.keys()
            for field in ours:
                np.testing.assert_equal(ours[field], theirs[field], err_msg=f"{node}.{field}")


@pytest.mark.parametrize("model", [3, nn.Linear(2, 2), "net.nir", Integrators()])
def test_what_no_row_understands_is_refused(model: object) -> None:
    says = (
        f"type {type(model).__name__}, which no frontend understands; a NIR graph, a torch network "
        f"with Norse modules, a torch network with snnTorch neurons, a torch network "
        f"with SpikingJelly neurons, the NIR graph of a sinabs network or a torch network with blocks"
    )
    with pytest.raises(UnknownFrameworkError, match=says):
        frontend_of(model)


def test_several_spikes_a_step_of_sinabs_are_refused_by_name() -> None:
    """A stand-in for sinabs.layers.IAF, which is not installed here: its class and its spike_fn."""

    class IAF(nn.Module):
        spike_fn: object = type("MultiSpike", (), {})

    IAF.__module__ = "sinabs.layers.iaf"
    net = nn.Sequential(nn.Linear(2, 2), IAF())
    frontend = frontend_of(net)
    with pytest.raises(ValueError, match=r"sinabs: 1 \(IAF\) send several spikes in one step"):
        frontend.convert(net, (2,), None)
    IAF.spike_fn = type("SingleSpike", (), {})
    with pytest.raises(
        ValueError, match=r"give the file, with framework='sinabs' and reset='subtract'"
    ):
        frontend.convert(net, (2,), None)


def test_norse_needs_the_shape_of_its_input() -> None:
    with pytest.raises(UnsupportedModuleError, match="shape of its input is not known"):
        frontend_of(norse_net()).convert(norse_net(), None, None)


def test_a_frontend_from_outside_loads_a_network_with_its_weights(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "toy_net", SimpleNamespace(build=Integrators))
    torch.save({"weight": torch.full((3, 6), 0.25)}, "w.pt")
    with pytest.raises(UnknownFrameworkError, match="toy_net:build returns an object of type Int"):
        load_source("toy_net:build", "w.pt")
    network, settings = load_source("toy_net:build", "w.pt", frontends=(*FRONTENDS, TOY))
    assert settings is None
    assert (network.weight == 0.25).all()


def test_a_frontend_from_outside_says_what_it_supports() -> None:
    parts = supported((*FRONTENDS, TOY))
    assert Part("toy modules", (Kind("Integrators"),)) in parts
    theirs = [part for part in parts if part.name != "toy modules"]
    assert [part.name for part in theirs] == [part.name for part in supported()]


def test_the_table_is_read_without_any_framework() -> None:
    """Nor does asking whose a network is import one that is not its own."""
    code = (
        "import sys\n"
        "from spikeship.pipeline.frontends import FRONTENDS, frontend_of\n"
        "for frontend in FRONTENDS:\n"
        "    frontend.understands(object())\n"
        "print([name for name in ('norse', 'torch', 'lava', 'lightning', 'numba')\n"
        "       if name in sys.modules])\n"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True)
    assert done.stdout == "[]\n"
