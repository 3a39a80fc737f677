"""snnTorch modules given directly: every spike as snnTorch's own forward gives it, or refused by name."""

from __future__ import annotations

import importlib
import sys
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import nir
import numpy as np
import pytest
import snntorch
import torch
from snntorch import utils
from torch import Tensor, nn
from torch.nn import functional as F

from spikeship.pipeline.deploy.deploy import deploy
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import frontend_of
from spikeship.pipeline.frontends.norse_modules import UnsupportedModuleError
from spikeship.pipeline.graph import chain
from spikeship.pipeline.verify import verify

from cli import call, ok

STEPS = 12


def inputs(*shape: int) -> np.ndarray:
    return (np.random.default_rng(0).random((6, STEPS, *shape)) < 0.5).astype(np.int32)


def converted(
    model: nn.Module, shape: tuple[int, ...], frames: np.ndarray | None = None
) -> nir.NIRGraph:
    frontend = frontend_of(model)
    assert frontend.name == "snnTorch"
    return frontend.convert(model, shape, frames)


def sequential(neuron: Callable[..., nn.Module], **options: Any) -> nn.Module:
    torch.manual_seed(0)
    last = snntorch.Leaky(0.8, threshold=0.4, init_hidden=True, output=True)
    return nn.Sequential(
        nn.Linear(10, 8), neuron(init_hidden=True, **options), nn.Linear(8, 4), last
    )


NEURONS: dict[str, Callable[..., nn.Module]] = {
    "Leaky": lambda **k: snntorch.Leaky(0.9, threshold=0.3, **k),
    "Leaky without leak": lambda **k: snntorch.Leaky(1.0, threshold=0.5, **k),
    "Leaky, some without leak": lambda **k: snntorch.Leaky(torch.linspace(0.3, 1.0, 8), threshold=0.5, **k),
    "Leaky, a threshold each": lambda **k: snntorch.Leaky(0.7, threshold=torch.linspace(0.1, 0.5, 8), learn_threshold=True, **k),
    "Synaptic": lambda **k: snntorch.Synaptic(0.6, 0.8, threshold=0.6, **k),
    "RLeaky": lambda **k: snntorch.RLeaky(0.8, linear_features=8, threshold=0.3, **k),
    "RLeaky, one to one": lambda **k: snntorch.RLeaky(0.8, V=-0.3, all_to_all=False, threshold=0.3, **k),
    "RSynaptic": lambda **k: snntorch.RSynaptic(0.5, 0.7, linear_features=8, threshold=0.6, **k),
}  # fmt: skip


@pytest.mark.slow
@pytest.mark.parametrize("delayed", [True, False])
@pytest.mark.parametrize("reset", ["subtract", "zero", "none"])
@pytest.mark.parametrize("name", NEURONS)
def test_every_spike_is_snntorchs(name: str, reset: str, delayed: bool) -> None:
    """In float64 as imported, and in the float32 that snnTorch itself computes in."""
    if name == "RSynaptic" and not delayed:
        with pytest.raises(
            UnsupportedModuleError, match=r"whose result snnTorch drops|cannot be followed"
        ):
            converted(sequential(NEURONS[name], reset_mechanism="zero", reset_delay=False), (10,))
        return
    model = sequential(NEURONS[name], reset_mechanism=reset, reset_delay=delayed)
    x = inputs(10)
    graph = converted(model, (10,), x)
    utils.reset(model)
    seen: list[np.ndarray] = []
    model[1].register_forward_hook(lambda m, i, out: seen.append(out.detach().numpy()))
    with torch.no_grad():
        theirs = np.stack([model(f)[0].numpy() for f in torch.tensor(x).float().transpose(0, 1)], 1)
    for dtype in (torch.float64, torch.float32):
        ours = execute(graph, x.astype(float), dtype).spikes
        assert (ours[0] == np.stack(seen, 1)).all()
        assert (ours[1] == theirs).all()
    assert 0.02 < ours[0].mean() < 0.999


class OverTime(nn.Module):
    """The shape of snnTorch's tutorials: states handed on by forward; `kind` says what is different."""

    def __init__(self, kind: str = "time first") -> None:
        super().__init__()
        torch.manual_seed(0)
        self.kind = kind
        self.conv, self.lif0 = nn.Conv2d(1, 3, 3), snntorch.Leaky(0.9, threshold=0.2)
        self.fc1 = nn.Linear(3 * 4, 8)
        self.lif1 = snntorch.Leaky(0.8, threshold=0.3, reset_mechanism="zero")
        self.fc2 = nn.Linear(8, 4)
        reset = "none" if "voltage" in kind else "subtract"
        self.lif2 = snntorch.Leaky(0.8, threshold=0.3, reset_mechanism=reset)

    def forward(self, x: Tensor) -> Any:
        mem0, mem1, mem2 = self.lif0.init_leaky(), self.lif1.init_leaky(), self.lif2.init_leaky()
        spikes, voltages = [], []
        for step in range(STEPS if "repeated" in self.kind else x.size(int("batch" in self.kind))):
            frame = (
                x if "repeated" in self.kind else x[:, step] if "batch" in self.kind else x[step]
            )
            cur = self.conv(frame)
            if "pooled before" in self.kind:
                cur = F.max_pool2d(cur, 2)
            elif "relu" in self.kind:
                cur = F.avg_pool2d(F.relu(cur), 2)
            spk, mem0 = self.lif0(cur, mem0)
            if "pooled" in self.kind and "before" not in self.kind:
                spk = F.max_pool2d(spk, 2)
            elif "pooled" not in self.kind and "relu" not in self.kind:
                spk = F.avg_pool2d(spk, 2)
            spk, mem1 = self.lif1(self.fc1(spk.flatten(1)), mem1)
            if "forgets" in self.kind:
                mem1 = torch.zeros_like(mem1)
            spk, mem2 = self.lif2(self.fc2(spk), mem2)
            spikes.append(spk)
            voltages.append(mem2)
        if "sum" in self.kind:
            return torch.stack(spikes).sum(0)
        if "voltage" in self.kind or "only mem" in self.kind:
            return torch.stack(voltages)
        if "squared" in self.kind:
            return torch.stack(spikes).sum(0) ** 2 + 1
        return torch.stack(spikes), torch.stack(voltages)


def constant(*shape: int) -> np.ndarray:
    return np.repeat(inputs(*shape)[:, :1], STEPS, 1)


@pytest.mark.slow
@pytest.mark.parametrize(
    "kind", ["time first", "batch first", "repeated", "repeated, sum", "sum", "pooled", "voltage", "repeated, voltage"]
)  # fmt: skip
def test_a_forward_of_ones_own(kind: str) -> None:
    model = OverTime(kind)
    x = constant(1, 6, 6) if "repeated" in kind else inputs(1, 6, 6)
    graph = converted(model, (1, 6, 6), x)
    kinds = [type(node).__name__ for _, node in chain(graph)]
    assert kinds[-1] == ("LI" if "voltage" in kind else "LIF")
    frames = torch.tensor(x).float()
    given = (
        frames[:, 0]
        if "repeated" in kind
        else frames
        if "batch" in kind
        else frames.transpose(0, 1)
    )
    with torch.no_grad():
        theirs = model(given)
    ours = execute(graph, x.astype(float), torch.float32)
    if "voltage" in kind:
        assert np.abs(ours.voltage[-1] - theirs.transpose(0, 1).numpy()).max() < 1e-5
    elif "sum" in kind:
        assert (ours.spikes[-1].sum(1) == theirs.numpy()).all()
        assert theirs.any()
    else:
        assert (ours.spikes[-1] == theirs[0].transpose(0, 1).numpy()).all()
        assert theirs[0].any()


def after(model: nn.Module, change: Callable[[Any], None]) -> nn.Module:
    change(model)
    return model


def leaky(**options: Any) -> Callable[[], nn.Module]:
    return lambda: sequential(lambda **k: snntorch.Leaky(0.9, **k), **options)


def test_lapicque_is_the_leaky_that_its_message_says() -> None:
    """Leaky(beta=1 - time_step / (R C)), the input times time_step / C."""
    x = torch.rand(30, 1, 8, generator=torch.Generator().manual_seed(0))
    theirs = snntorch.Lapicque(R=2.0, C=3.0, time_step=0.7)
    leaky = snntorch.Leaky(1 - 0.7 / (2 * 3))
    v, w = theirs.reset_mem(), leaky.reset_mem()
    fired = 0
    for step in x * 3:
        z, v = theirs(step, v)
        y, w = leaky(step * 0.7 / 3, w)
        assert torch.equal(z, y)
        assert torch.allclose(v, w, atol=1e-5)
        fired += int(z.sum())
    assert fired > 20


REFUSED: dict[str, tuple[Callable[[], nn.Module], tuple[int, ...], str]] = {
    "Alpha": (lambda: sequential(lambda **k: snntorch.Alpha(0.9, 0.8, **k)), (10,), r"module 1 \(Alpha\): is not supported: its voltage is the difference"),
    "Lapicque": (lambda: sequential(lambda **k: snntorch.Lapicque(beta=0.9, **k)), (10,), r"module 1 \(Lapicque\): is not supported: train with Leaky"),
    "inhibition": (leaky(inhibition=True), (10,), "no image of inhibition, .*; train with inhibition=False"),
    "quantized states": (leaky(state_quant=lambda x: x), (10,), "no image of state_quant"),
    "another spike function": (leaky(spike_grad=lambda x: (x > 0.1).to(x.dtype)), (10,), "spike_grad whose forward is not v > threshold"),
    "threshold below 0": (leaky(threshold=-0.5, reset_mechanism="zero"), (10,), "threshold below 0"),
    "convolutional recurrence": (
        lambda: nn.Sequential(nn.Conv2d(1, 2, 3), snntorch.RLeaky(0.9, conv2d_channels=2, kernel_size=3, init_hidden=True)),
        (1, 6, 6), "convolutional recurrence; netx has recurrence in dense layers",
    ),
    "graded spikes at the end": (
        lambda: nn.Sequential(nn.Linear(10, 4), snntorch.Leaky(0.9, threshold=0.2, graded_spikes_factor=2.0, init_hidden=True)),
        (10,), "the last layer's spikes are graded",
    ),
    "relu between": (lambda: OverTime("relu"), (1, 6, 6), "between conv and .*, forward computes something by itself"),
    "maximum of currents": (lambda: OverTime("pooled before"), (1, 6, 6), r"F.max_pool2d \(MaxPool2d\): a maximum is exact only of spikes"),
    "forgotten state": (lambda: OverTime("forgets"), (1, 6, 6), r"module lif1 \(Leaky\) does something else in the graph"),
    "voltage of a spiking layer": (lambda: OverTime("only mem"), (1, 6, 6), "forward returns the voltage of lif2, which its own spikes reset"),
    "other outputs": (lambda: OverTime("squared"), (1, 6, 6), "forward returns something else than what lif2"),
    "softmax": (lambda: nn.Sequential(nn.Linear(10, 4), nn.Softmax(1), snntorch.Leaky(0.9, init_hidden=True)), (10,), r"module 1 \(Softmax\): is not supported \(supported are snntorch's neurons"),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str) -> None:
    make, shape, message = REFUSED[case]
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", "Inhibition is an unstable", UserWarning)
        model = make()
    with pytest.raises(UnsupportedModuleError, match=f"(?s){message}"):
        converted(model, shape)


def test_graded_spikes_are_a_scale() -> None:
    model = sequential(
        lambda **k: snntorch.Leaky(0.9, threshold=0.3, **k),
        graded_spikes_factor=2.5,
        reset_delay=False,
    )
    x = inputs(10)
    graph = converted(model, (10,), x)
    assert [type(n).__name__ for _, n in chain(graph)] == [
        "Affine",
        "LIF",
        "Scale",
        "Affine",
        "LIF",
    ]
    utils.reset(model)
    with torch.no_grad():
        theirs = np.stack([model(f)[0].numpy() for f in torch.tensor(x).float().transpose(0, 1)], 1)
    assert (execute(graph, x.astype(float)).spikes[-1] == theirs).all()


def test_one_frame_for_all_steps_needs_such_inputs() -> None:
    with pytest.raises(
        UnsupportedModuleError,
        match=r"forward repeats one frame for 12 steps; the inputs have 12, or they change",
    ):
        converted(OverTime("repeated"), (1, 6, 6), inputs(1, 6, 6))


def test_a_trained_network_is_not_touched() -> None:
    """Its states, which hang on a graph of gradients, are neither used nor reset."""
    model = sequential(lambda **k: snntorch.Leaky(0.9, threshold=0.3, learn_beta=True, **k))
    model(torch.rand(3, 10))
    before = model[1].mem.clone()
    converted(model, (10,))
    assert (model[1].mem == before).all()
    assert model.training


def test_from_module_to_file_and_verification() -> None:
    """The default reset is approximated on request; the module and its recorded outputs agree exactly."""
    model, x = sequential(lambda **k: snntorch.Leaky(0.9, threshold=0.3, **k)), inputs(10)
    with pytest.raises(
        ValueError, match=r"reset 'subtract', one step after the spike.*allow approximate_reset"
    ):
        deploy(model, inputs=x)
    chip = deploy(model, inputs=x, approximate_reset=True)
    utils.reset(model)
    with torch.no_grad():
        recorded = np.stack(
            [model(f)[0].numpy() for f in torch.tensor(x).float().transpose(0, 1)], 1
        )
    found = verify(chip, x, module=model, expect=recorded, lava_samples=0, tolerance=1.0)
    assert found.ok
    assert all(a.exact for a in found.to_module or ())
    zero = sequential(lambda **k: snntorch.Leaky(0.9, threshold=0.3, **k), reset_mechanism="zero")
    zero[3] = snntorch.Leaky(
        0.8, threshold=0.4, reset_mechanism="zero", init_hidden=True, output=True
    )
    assert min(loss.agreement for loss in deploy(zero, inputs=x).losses) > 0.97


def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A class with the default reset, its weights, own inputs and recorded outputs, in two commands."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.delitem(sys.modules, "leaky_net", raising=False)
    Path("leaky_net.py").write_text(
        "import snntorch, torch\n"
        "from torch import nn\n"
        "class Net(nn.Module):\n"
        "    def __init__(self):\n"
        "        super().__init__()\n"
        "        self.fc1, self.lif1 = nn.Linear(10, 16), snntorch.Leaky(0.9, threshold=0.3)\n"
        "        self.fc2, self.lif2 = nn.Linear(16, 4), snntorch.Leaky(0.9, threshold=0.3)\n"
        "    def forward(self, x):\n"
        "        m1, m2, out = self.lif1.init_leaky(), self.lif2.init_leaky(), []\n"
        "        for frame in x:\n"
        "            s, m1 = self.lif1(self.fc1(frame), m1)\n"
        "            s, m2 = self.lif2(self.fc2(s), m2)\n"
        "            out.append(s)\n"
        "        return torch.stack(out)\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    torch.manual_seed(2)
    net = importlib.import_module("leaky_net").Net()
    torch.save(net.state_dict(), "w.pt")
    x = inputs(10)
    np.save("x.npy", x)
    with torch.no_grad():
        np.save("theirs.npy", net(torch.tensor(x).float().transpose(0, 1)).transpose(0, 1).numpy())
    weights = ("--checkpoint", "w.pt")
    given = ("--input", "x.npy", "--expect", "theirs.npy")
    refused = call("export", "leaky_net:Net", *weights, *given, "--out", "o.net")
    assert (
        "no exact image of lif1:lif (reset 'subtract', one step after the spike)" in refused.stderr
    )
    out = ok("export", "leaky_net:Net", *weights, *given, "--approximate-reset", "--out", "o.net")
    assert out["expected"]["to_float"] == 1.0
    model = ("--model", "leaky_net:Net", *weights)
    checked = ok("verify", "o.net", *given, *model, "--lava-samples", 0, "--tolerance", 1)
    assert [a["equal"] for a in checked["result"]["to_module"]] == [1.0, 1.0]
    assert checked["result"]["expected"] == out["expected"]
