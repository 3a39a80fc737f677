"""NIR files of every framework: what we read behaves as it did there, or is refused by name."""

from __future__ import annotations

import itertools
import warnings
from collections.abc import Callable
from inspect import signature
from pathlib import Path
from typing import Any, get_args

import h5py
import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from torch import nn

from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_nir, from_norse
from spikeship.pipeline.frontends.nir_conventions import CONVENTIONS
from spikeship.pipeline.frontends.nir_file import NIRFileError
from spikeship.pipeline.graph import GraphError, chain, chain_graph, recurrence

from nets import nir_lif

GOLDEN = Path(__file__).parent / "golden" / "nir"


def spikes(graph: nir.NIRGraph, x: np.ndarray, layer: str | None = None) -> np.ndarray:
    """(sample, time, *shape) of one layer, the last one if none is named."""
    trace = execute(graph, x.astype(float))
    return trace.spikes[-1 if layer is None else trace.names.index(layer)]


# ---- files that frameworks wrote, beside what they recorded ----


@pytest.mark.parametrize("recorded", ["norse", "snntorch", "spinnaker2", "exact"])
def test_one_lif_neuron_of_norse(shared_data: Path, recorded: str) -> None:
    """NIR paper, task 1: Norse's file (nir 0.1.1), and four platforms that ran it in Euler steps."""
    folder = shared_data / "golden" / "nir_lif"
    graph = from_nir(folder / "lif_norse.nir", dt=1e-4, framework="norse")
    x, v, z = np.loadtxt(folder / f"lif_{recorded}.csv", delimiter=",").T
    trace = execute(graph, x[None, :, None])
    assert (trace.spikes[0][0, :, 0] == z).all()
    assert z.sum() == 4
    if recorded == "norse":  # which recorded v after the reset
        ours = trace.voltage[0][0, :, 0]
        assert np.abs(np.where(z > 0, 0, ours) - v).max() < 1e-6


def test_one_lif_neuron_of_rockpool(shared_data: Path) -> None:
    """What rockpool ran is not what it wrote (nir 0.2.0), so the same spikes come 10 steps later.

    It computed v <- e v + 0.04 x with e = exp(-dt/tau) = 0.961 and subtracted the threshold; its file
    has (dt/tau) r w = 0.04 e for the input, and no word of the exponential or of the reset.
    """
    folder = shared_data / "golden" / "nir_lif"
    graph = from_nir(folder / "lif_rockpool.nir", dt=1e-4, reset="subtract", reset_delay=0)
    x, v, z = np.loadtxt(folder / "lif_rockpool.csv", delimiter=",").T
    ours = np.flatnonzero(spikes(graph, x[None, :, None])[0, :, 0])
    assert graph.nodes["output"].output_type["output"].tolist() == [1]  # the file says (1, 1, 1)
    assert np.flatnonzero(z).tolist() == [450, 500, 710, 760]
    assert ours.tolist() == [460, 510, 720, 770]
    state, decay = 0.0, np.exp(-1e-4 / graph.nodes["1_LIFNeuronTorch"].tau[0])
    for now, then, fired in zip(x, v, z, strict=True):
        state = decay * state + 0.04 * now - 0.1 * fired
        assert state == pytest.approx(then, abs=1e-6)
    told = {"dt": 1e-4, "reset": "subtract", "reset_delay": 0, "framework": "rockpool"}
    theirs = from_nir(folder / "lif_rockpool.nir", **told)
    assert (spikes(theirs, x[None, :, None])[0, :, 0] == z).all()


@pytest.mark.parametrize(
    ("recorded", "options", "later"),
    [("snntorch", {"reset": "zero"}, 0), ("spyx", {"reset": "subtract"}, 1)],
)
def test_recurrent_braille_network_of_snntorch(
    shared_data: Path, recorded: str, options: dict[str, str], later: int
) -> None:
    """NIR paper, task 3: every spike of snnTorch, and of spyx, which resets by subtraction."""
    folder = shared_data / "golden" / "nir_braille"
    graph = from_nir(folder / "braille_noDelay_bias_zero.nir", dt=1e-4, reset_delay=0, **options)
    assert [name for name, _ in chain(graph)] == ["fc1", "lif1.lif", "fc2", "lif2"]
    assert [name for name, _ in recurrence(graph)["lif1.lif"]] == ["lif1.w_rec"]
    x = np.load(folder / "braille_ds_test_0_input_256x12.npy")
    theirs = np.load(folder / f"{recorded}_activity_noDelay_bias_zero.npy")
    ours = spikes(graph, x[None], "lif1.lif")[0]
    assert (ours[: len(ours) - later] == theirs[later:]).all()
    assert theirs.sum() > 100


def test_convolutional_network_of_sinabs(shared_data: Path) -> None:
    """NIR paper, task 2; benchmarks/exchange.py has its accuracy."""
    graph = from_nir(shared_data / "golden" / "nir_cnn" / "cnn_sinabs.nir", dt=1, reset="zero")
    kinds = [type(node).__name__ for _, node in chain(graph)]
    assert kinds == [
        *("Conv2d", "IF", "Conv2d", "IF", "SumPool2d", "Conv2d", "IF", "SumPool2d", "Flatten"),
        *("Affine", "IF", "Affine", "IF"),
    ]  # fmt: skip
    assert spikes(graph, np.ones((1, 4, 2, 34, 34))).shape == (1, 4, 10)


def test_network_of_spikingjelly() -> None:
    """Every spike of every layer as spikingjelly 2.0.0 ran the network it wrote."""
    stored = np.load(GOLDEN / "spikingjelly.npz")
    graph = from_nir(GOLDEN / "spikingjelly.nir", framework="spikingjelly")
    trace = execute(graph, stored["input"].astype(float))
    assert len(trace.spikes) == 4
    for i, ours in enumerate(trace.spikes):
        assert (ours == stored[f"s{i}"]).all()
        assert ours.mean() > 0.03


def snntorch_network(kind: str, **options: Any) -> tuple[nn.Module, tuple[int, ...]]:
    import snntorch

    def of(*shape: int, value: float) -> torch.Tensor:
        return torch.full(shape, value, dtype=torch.float64)

    options |= {"init_hidden": True, "spike_grad": lambda x: (x > 0).to(x.dtype)}
    leaky = {"beta": of(8, value=0.9), "threshold": of(8, value=0.5), **options}
    neuron = {
        "Leaky": lambda: snntorch.Leaky(**leaky),
        "Synaptic": lambda: snntorch.Synaptic(alpha=of(8, value=0.7), **leaky),
        "RLeaky": lambda: snntorch.RLeaky(linear_features=8, **leaky),
        "RSynaptic": lambda: snntorch.RSynaptic(alpha=of(8, value=0.7), linear_features=8, **leaky),
    }
    if kind != "convolution":
        last = snntorch.Leaky(of(4, value=0.8), threshold=of(4, value=0.3), **options)
        return nn.Sequential(nn.Linear(10, 8), neuron[kind](), nn.Linear(8, 4), last), (10,)
    first, second = (
        snntorch.Leaky(of(*shape, value=0.9), threshold=of(*shape, value=0.3), **options)
        for shape in ((4, 6, 6), (4,))
    )
    layers = nn.Conv2d(2, 4, 3, padding=1, bias=False), first, nn.AvgPool2d(2), nn.Flatten()
    return nn.Sequential(*layers, nn.Linear(36, 4), second), (2, 6, 6)


WEAK = {"Leaky": 0.6, "Synaptic": 0.4, "RLeaky": 0.35, "convolution": 0.35}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("kind", "reset", "delay"),
    [
        (kind, reset, delay)
        for kind in ("Leaky", "Synaptic", "RLeaky", "RSynaptic", "convolution")
        for reset in ("zero", "subtract")
        for delay in (0, 1)
        if delay or kind != "RSynaptic"  # snnTorch 1.0 fails to run that one
    ]
    + [(kind, "subtract-at-once", 0) for kind in ("Leaky", "Synaptic", "RLeaky", "convolution")],
)
def test_networks_of_snntorch(kind: str, reset: str, delay: int, tmp_path: Path) -> None:
    """Its export says neither dt (1e-4 in its code) nor reset; with both, every spike is its own.

    Where snnTorch subtracts at once and v is still above the threshold afterwards, it subtracts once more
    in the next step, whether or not the neuron fires: with weak input it is plain subtraction.
    """
    from snntorch.export_nir import export_to_nir

    torch.manual_seed(3)
    mechanism = reset.removesuffix("-at-once")
    net, shape = snntorch_network(kind, reset_mechanism=mechanism, reset_delay=bool(delay))
    net = net.double()
    if (reset, delay) == ("subtract", 0):
        with torch.no_grad():
            for parameter in net.parameters():
                parameter *= WEAK[kind]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        graph = export_to_nir(net, torch.rand(1, *shape).double(), ignore_dims=[0])
    nir.write(tmp_path / "net.nir", graph)
    x = torch.rand(5, 40, *shape, generator=torch.Generator().manual_seed(1)) < 0.4
    with torch.no_grad():
        for module in net:
            if hasattr(module, "reset_mem"):
                module.reset_mem()
        theirs = torch.stack([net(frame.double()) for frame in x.transpose(0, 1)], dim=1).numpy()
    said = {"framework": "snntorch", "reset": reset}
    read = from_nir(tmp_path / "net.nir", reset_delay=delay, **said)
    assert (spikes(read, x.numpy()) == theirs).all()
    assert 0.003 < theirs.mean() < 0.9
    if mechanism != reset:
        plain = from_nir(
            tmp_path / "net.nir", framework="snntorch", reset="subtract", reset_delay=0
        )
        assert (spikes(plain, x.numpy()) != theirs).any()


def norse_export(model: nn.Module, dt: float) -> nir.NIRGraph:
    """norse.to_nir, which warns of a deprecation in nirtorch."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        return norse.to_nir(model, torch.rand(1, 6, dtype=next(model.parameters()).dtype), dt=dt)


def norse_parameters(kind: type, size: int) -> Any:
    values = {"tau_mem_inv": 250.0, "v_leak": 0.0, "v_th": 0.2, "v_reset": 0.0}
    return kind(**{key: torch.full((size,), v, dtype=torch.float64) for key, v in values.items()})


def test_norses_own_export(tmp_path: Path) -> None:
    """LIFBoxCell exported with dt=1 is itself; with Norse's default dt it is refused by name."""
    torch.manual_seed(0)
    cells = [norse.LIFBoxCell(norse_parameters(norse.LIFBoxParameters, n)) for n in (8, 4)]
    model = norse.SequentialState(nn.Linear(6, 8), cells[0], nn.Linear(8, 4), cells[1]).double()
    x = np.random.default_rng(0).random((4, 20, 6))
    mine = spikes(from_norse(model, (6,)), x)
    assert 0.01 < mine.mean() < 0.9
    for dt in (1, 0.001):
        graph = norse_export(model, dt)
        assert graph.nodes["input"].input_type["input"].tolist() == [1, 6]  # with its sample
        for node in graph.nodes.values():  # nir cannot write tensors' dtypes
            for name, value in vars(node).items():
                if isinstance(value, torch.Tensor):
                    setattr(node, name, value.numpy())
        nir.write(tmp_path / f"{dt}.nir", graph)
    for source in (tmp_path / "1.nir", norse_export(model, 1)):
        assert (spikes(from_nir(source, dt=0.001, reset="zero"), x) == mine).all()
    with pytest.raises(
        GraphError,
        match=r"tau = 4e-06 is shorter than dt = 0.001.*from_norse\(model, ...\) or `spikeship export",
    ):
        from_nir(tmp_path / "0.001.nir", dt=0.001)


def test_norses_current_based_export_is_another_network() -> None:
    """Its to_nir leaves out w_in = tau_syn/dt: 5 times less current. from_norse does not."""
    values = {"tau_syn_inv": 200.0, "tau_mem_inv": 250.0, "v_th": 0.2}
    cell = norse.LIFCell(norse.LIFParameters(**{k: torch.tensor(v) for k, v in values.items()}))
    model = norse.SequentialState(nn.Linear(6, 8), cell)
    theirs = from_nir(norse_export(model, 1), dt=0.001, reset="zero", reset_delay=0).nodes["1"]
    mine = from_norse(model, (6,)).nodes["1:cubalif"]
    assert theirs.tau_syn == pytest.approx(mine.tau_syn)
    assert theirs.tau_mem == pytest.approx(mine.tau_mem)
    assert mine.w_in == pytest.approx(5 * theirs.w_in)


# ---- what a file may leave out, and how it may be nested ----


def write(
    path: Path, nodes: dict[str, Any], edges: list[tuple[str, str]], version: str = "0.2.0"
) -> Path:
    """A NIR file of exactly these fields."""

    def fill(group: h5py.Group, values: dict[str, Any]) -> None:
        for key, value in values.items():
            if isinstance(value, dict):
                fill(group.create_group(key), value)
            else:
                group.create_dataset(key, data=value)

    with h5py.File(path, "w") as file:
        file["version"] = version
        fill(file, {"node": {"type": "NIRGraph", "nodes": nodes, "edges": np.array(edges, "S")}})
    return path


def inner(shape: tuple[int, ...], end: tuple[int, ...], **nodes: dict[str, Any]) -> dict[str, Any]:
    return {
        "input": {"type": "Input", "shape": shape}, **nodes, "output": {"type": "Output", "shape": end},
    }  # fmt: skip


def in_a_row(nodes: dict[str, Any]) -> list[tuple[str, str]]:
    names = list(nodes)
    return list(itertools.pairwise(names))


CONV = {
    "type": "Conv2d", "weight": np.random.default_rng(1).normal(size=(4, 1, 3, 2)), "groups": 2,
    "stride": (2, 1), "padding": (1, 0), "dilation": (1, 2), "bias": np.arange(4.0),
}  # fmt: skip
LIF = {"type": "LIF", "tau": 0.01, "r": 1.0, "v_leak": 0.0, "v_threshold": 0.1}
CUBA = {
    "type": "CubaLIF", "tau_syn": 0.002, "tau_mem": np.array([0.004]), "r": 1.0, "v_leak": 0.0,
    "v_threshold": 0.1,
}  # fmt: skip


def test_missing_fields_of_old_versions_and_grouped_oblong_convolutions(tmp_path: Path) -> None:
    """No v_reset, w_in, input_shape; one number for a layer. nir 1.0.8 cannot read this file."""
    weight = np.random.default_rng(2).normal(size=(3, 64)).astype(np.float32)
    nodes = inner(
        (2, 7, 6), (3,), conv=CONV, lif=LIF,
        flat={"type": "Flatten", "start_dim": 0, "end_dim": -1},
        dense={"type": "Linear", "weight": weight}, cuba=CUBA,
    )  # fmt: skip
    path = write(tmp_path / "old.nir", nodes, in_a_row(nodes), "0.1.1")
    with pytest.raises((TypeError, ValueError, AssertionError)):
        nir.read(path)
    graph = from_nir(path, dt=0.001, reset="zero", reset_delay=0)
    assert {n: tuple(x.output_type["output"]) for n, x in graph.nodes.items()} == {
        "input": (2, 7, 6), "conv": (4, 4, 4), "lif": (4, 4, 4), "flat": (64,),
        "dense": (3,), "cuba": (3,), "output": (3,),
    }  # fmt: skip
    cuba = graph.nodes["cuba"]
    assert (cuba.v_reset == np.zeros(3)).all()
    assert (cuba.w_in == np.ones(3)).all()
    assert cuba.tau_mem.tolist() == [0.004] * 3
    assert all(
        value.dtype == np.float64
        for node in graph.nodes.values()
        for value in vars(node).values()
        if isinstance(value, np.ndarray)
    )


def test_subgraphs_in_subgraphs(tmp_path: Path) -> None:
    """snnTorch's and nirtorch's form of recurrence, twice nested, and a subgraph that does nothing."""
    weight = np.random.default_rng(3).normal(size=(3, 3))
    cell = inner((3,), (3,), lif=CUBA, w_rec={"type": "Linear", "weight": weight})
    cycle = [("input", "lif"), ("lif", "w_rec"), ("w_rec", "lif"), ("lif", "output")]
    recurrent = {"type": "NIRGraph", "nodes": cell, "edges": np.array(cycle, "S")}
    straight = np.array([("input", "rnn"), ("rnn", "output")], "S")
    box = {"type": "NIRGraph", "nodes": inner((3,), (3,), rnn=recurrent), "edges": straight}
    nothing = {
        "type": "NIRGraph", "nodes": inner((3,), (3,)), "edges": np.array([("input", "output")], "S"),
    }  # fmt: skip
    nodes = inner((3,), (3,), box=box, nothing=nothing)
    graph = from_nir(
        write(tmp_path / "nested.nir", nodes, in_a_row(nodes)),
        dt=0.001,
        reset="zero",
        reset_delay=0,
    )
    assert sorted(graph.nodes) == ["box.rnn.lif", "box.rnn.w_rec", "input", "output"]
    assert sorted(graph.edges) == [
        ("box.rnn.lif", "box.rnn.w_rec"), ("box.rnn.lif", "output"),
        ("box.rnn.w_rec", "box.rnn.lif"), ("input", "box.rnn.lif"),
    ]  # fmt: skip
    x = np.random.default_rng(4).random((2, 30, 3))
    v, i, z = (np.zeros((2, 3)) for _ in range(3))
    for now, found in zip(x.transpose(1, 0, 2), spikes(graph, x).transpose(1, 0, 2), strict=True):
        i = 0.5 * i + 0.5 * (now + z @ weight.T)
        v = 0.75 * v + 0.25 * i
        z = (v > 0.1).astype(float)
        v = v * (1 - z)
        assert (found == z).all()
    assert 0.05 < spikes(graph, x).mean() < 0.95


def test_a_network_of_the_form_that_nengo_reads(tmp_path: Path) -> None:
    """nengo has no exporter; the NIR paper's importer took Affine, LIF with r = 1, and LI."""
    rng = np.random.default_rng(5)
    nodes = inner(
        (4,), (2,),
        w={"type": "Affine", "weight": rng.normal(size=(6, 4)), "bias": rng.normal(size=6)},
        lif={**LIF, "tau": np.full(6, 0.004), "r": np.ones(6), "v_leak": np.zeros(6)},
        out={"type": "Affine", "weight": rng.normal(size=(2, 6)), "bias": np.zeros(2)},
        filter={"type": "LI", "tau": np.full(2, 0.01), "r": np.ones(2), "v_leak": np.zeros(2)},
    )  # fmt: skip
    graph = from_nir(write(tmp_path / "n.nir", nodes, in_a_row(nodes)), framework="nengo")
    trace = execute(graph, rng.random((3, 20, 4)))
    assert 0.05 < trace.spikes[0].mean() < 0.95
    current = trace.spikes[0] @ nodes["out"]["weight"].T
    v = np.zeros((3, 2))
    for t in range(20):
        v = 0.9 * v + 0.1 * current[:, t]
        assert trace.voltage[1][:, t] == pytest.approx(v)


def test_our_own_files_come_back(tmp_path: Path) -> None:
    """dt, resets and recurrence of `from_norse` survive nir.write; the arguments are not needed."""
    torch.manual_seed(0)
    values = {"tau_mem_inv": 250.0, "tau_syn_inv": 300.0, "v_th": 0.1}
    cell = norse.LIFParameters(**{k: torch.tensor(v) for k, v in values.items()})
    soft = norse_parameters(norse.LIFBoxParameters, 3)._replace(reset_method=norse.reset_subtract)
    layers = norse.LIFRecurrentCell(6, 5, cell), nn.Linear(5, 3), norse.LIFBoxCell(soft)
    graph = from_norse(norse.SequentialState(*layers), (6,))
    nir.write(tmp_path / "own.nir", graph)
    read = from_nir(tmp_path / "own.nir")
    assert read.metadata == graph.metadata
    assert read.nodes["2:lif"].metadata["reset"] == "subtract"
    x = np.random.default_rng(0).random((3, 20, 6))
    for ours, theirs in zip(execute(read, x).voltage, execute(graph, x).voltage, strict=True):
        assert (ours == theirs).all()


def test_threshold_scale_delay_and_integrator_nodes() -> None:
    nodes = {
        "input": nir.Input(np.array([3])),
        "scale": nir.Scale(np.array([2.0, 2.0, 2.0])),
        "delay": nir.Delay(np.array([0.0, 0.002, 0.001])),
        "threshold": nir.Threshold(np.array([1.0, 1.0, 3.0])),
        "w": nir.Linear(np.eye(3)),
        "sum": nir.I(np.full(3, 1000.0)),
        "output": nir.Output(np.array([3])),
    }
    graph = from_nir(nir.NIRGraph(nodes, in_a_row(nodes), type_check=False), dt=0.001)
    trace = execute(graph, np.ones((1, 4, 3)))
    assert trace.spikes[0][0].T.tolist() == [[1, 1, 1, 1], [0, 0, 1, 1], [0, 0, 0, 0]]
    assert pytest.approx(np.array([[1, 2, 3, 4], [0, 0, 1, 2], [0] * 4])) == trace.voltage[1][0].T


# ---- refusals ----


def dense(size: int = 3, **changes: Any) -> dict[str, Any]:
    return inner(
        (size,), (3,), w={"type": "Linear", "weight": np.ones((3, 3))}, lif={**LIF, **changes}
    )


def graph_file(path: Path, nodes: dict[str, Any], extra: list[tuple[str, str]]) -> Path:
    return write(path, nodes, [*in_a_row(nodes), *extra])


BAD_FILES: dict[str, tuple[Callable[[Path], object], str]] = {
    "missing": (lambda p: None, "no such file"),
    "text": (lambda p: p.write_text("neurons"), "not an HDF5 file, which NIR files are"),
    "other HDF5": (lambda p: h5py.File(p, "w").close(), r"not NIR \(it has no node/type\)"),
    "future": (lambda p: write(p, dense(), in_a_row(dense()), "2.0"), r"version 2.0 is not known \(known: 0.x, 1.x"),
}  # fmt: skip


@pytest.mark.parametrize("case", BAD_FILES)
def test_no_nir_file(case: str, tmp_path: Path) -> None:
    make, message = BAD_FILES[case]
    make(tmp_path / "x.nir")
    with pytest.raises(NIRFileError, match=message):
        from_nir(tmp_path / "x.nir", dt=1)


REFUSED: dict[str, tuple[dict[str, Any], list[tuple[str, str]], dict[str, Any], str]] = {
    "no dt": (dense(), [], {"dt": None}, r"dt is not known: NIR does not store it.*from_nir\(..., dt=1e-3\)"),
    "negative dt": (dense(), [], {"dt": -1}, "dt is a positive, finite number; found -1 in the argument"),
    "dt of a node": (dense(metadata={"dt": 0.002}), [], {}, "different time steps dt: 0.001 in the argument, 0.002 in the metadata of lif"),
    "dt too long": (dense(), [], {"dt": 0.1}, "node lif: tau = 0.01 is shorter than dt = 0.1"),
    "reset": (dense(), [], {"reset": "halve", "reset_delay": 0}, "node lif: reset is 'halve'; known are"),
    "reset delay": (dense(), [], {"reset_delay": 3}, "node lif: reset_delay is 3"),
    "reset of a stranger": (dense(), [], {"reset": {"w": "zero"}}, r"reset is given for w, which is no spiking node \(those are lif\)"),
    "contradiction": (dense(metadata={"reset": "zero"}), [], {"reset": "subtract"}, "node lif: its metadata says reset = zero, the argument subtract"),
    "no reset": (dense(), [], {"reset": None}, r"how lif are reset is not known: NIR does not store it. Say which framework's defaults they have, framework='snntorch' \(or spikingjelly, norse, .*or reset='zero'"),
    "no delay of a subtraction": (dense(), [], {"reset": "subtract"}, "in which step lif are reset is not known: say reset_delay=0"),
    "no delay of a current's reset": (inner((3,), (3,), lif=CUBA), [], {}, "in which step lif are reset is not known"),
    "sinabs": (dense(), [], {"reset": None, "framework": "sinabs"}, "lif: sinabs: its neurons send several spikes in one step unless .*SingleSpike.*say how they are reset"),
    "rockpool's other dt": (dense(), [], {"reset": "subtract", "reset_delay": 0, "framework": "rockpool"}, "node lif: rockpool writes r = exp"),
    "unknown node": (inner((3,), (3,), a={"type": "ALIF", "tau": 1.0}), [], {}, r"node a is a ALIF, which is not supported \(supported: .*CubaLIF"),
    "missing field": (inner((3,), (3,), w={"type": "Affine", "weight": np.ones((3, 3))}), [], {}, r"node w \(Affine\) has no bias"),
    "strange field": (dense(refractory=2.0), [], {}, r"node lif \(LIF\) has a field refractory, which NIR does not"),
    "not a number": (dense(tau=np.nan), [], {}, "1 of 1 values of tau are NaN or infinite"),
    "shapes": (dense(4), [], {}, "w .Linear. expects 3 inputs, got shape"),
    "layer": (dense(tau=np.full(5, 0.01)), [], {}, "lif .LIF. has tau of shape .5,., got shape .3,."),
    "output": ({**dense(), "output": {"type": "Output", "shape": (7,)}}, [], {}, r"output .Output. is declared with shape \(7,\), but gets \(3,\)"),
    "no such node": (dense(), [("lif", "x")], {}, "edge lif -> x: there is no node x"),
    "cycle": (dense(), [("lif", "w")], {}, "cycle that is not recurrence"),
    "branch": ({**dense(), "second": {"type": "Output", "shape": (3,)}}, [("w", "second")], {}, "w feeds 2 nodes"),
    "partial flatten": (
        inner((2, 3), (2, 3), f={"type": "Flatten", "start_dim": 1, "end_dim": -1}, w={"type": "Linear", "weight": np.ones((3, 6))}),
        [], {}, "w .Linear. expects 6 inputs, got shape",
    ),
}  # fmt: skip


@pytest.mark.parametrize("case", REFUSED)
def test_refused(case: str, tmp_path: Path) -> None:
    nodes, extra, options, message = REFUSED[case]
    path = graph_file(tmp_path / "x.nir", nodes, extra)
    with pytest.raises(GraphError, match=f"(?s){message}"):
        from_nir(path, **{"dt": 0.001, "reset": "zero", **options})


def test_all_problems_at_once(tmp_path: Path) -> None:
    nodes = inner(
        (4,), (3,), w={"type": "Linear", "weight": np.ones((3, 3))},
        a={**LIF, "tau": -1.0}, b={"type": "ALIF"}, c={**LIF, "tau": np.inf},
    )  # fmt: skip
    with pytest.raises(GraphError) as error:
        from_nir(write(tmp_path / "x.nir", nodes, in_a_row(nodes)), reset={"w": "zero"})
    text = str(error.value)
    nodes["d"] = {"type": "Affine", "weight": np.ones((3, 3))}
    nodes["d2"] = {"weight": 1}
    nodes["output"] = nodes.pop("output")
    with pytest.raises(GraphError) as broken:
        from_nir(write(tmp_path / "y.nir", nodes, in_a_row(nodes)), reset={"w": "zero"})
    found = {p for p in broken.value.problems if p not in error.value.problems}
    assert sum("node d (Affine) has no bias" in p for p in found) == 1
    assert sum("node d2 is a node without type" in p for p in found) == 1
    assert len(found) == 2
    for part in ("dt is not known", "reset is given for w", "expects 3 inputs", "node a: tau is -1", "ALIF", "node c: 1 of 1"):  # fmt: skip
        assert part in text


def test_the_given_graph_is_not_changed() -> None:
    nodes = {"input": nir.Input(np.array([1, 3])), "w": nir.Linear(np.eye(3)), "output": nir.Output(np.array([1, 3]))}  # fmt: skip
    graph = nir.NIRGraph(nodes, in_a_row(nodes), type_check=False)
    from_nir(graph, dt=1)
    assert graph.metadata == {}
    assert graph.nodes["input"].input_type["input"].tolist() == [1, 3]


def test_the_root_must_be_a_graph(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "x.nir", "w") as file:
        file["version"] = "1.0.8"
        file["node/type"] = "Linear"
        file["node/weight"] = np.eye(2)
    with pytest.raises(GraphError, match="the root is a Linear, not a NIRGraph"):
        from_nir(tmp_path / "x.nir", dt=1)


def test_images_of_one_channel_keep_it() -> None:
    """Leading axes of 1 are samples only where the first node leaves no other reading."""
    shape = (1, 2, 3)
    lif = nir_lif(2, 1e-3)
    flatten = nir.Flatten({"input": np.array(shape)}, start_dim=0, end_dim=-1)
    nodes = [("flat", flatten), ("fc", nir.Linear(np.ones((2, 6)))), ("lif", lif)]
    for more in ([], [("levels", nir.Scale(np.full(shape, 16.0)))]):
        graph = from_nir(chain_graph([*more, *nodes], shape, {"dt": 1e-4}), reset="zero")
        assert graph.nodes["input"].output_type["output"].tolist() == [1, 2, 3]


# ---- what exporters leave behind ----


def empty(nodes: dict[str, Any]) -> nir.NIRGraph:
    """A graph as an exporter builds it, without the checks of the constructor."""
    graph = nir.NIRGraph.__new__(nir.NIRGraph)
    graph.nodes = {"input": nir.Input({"input": np.array([4])}), **nodes}
    graph.nodes["output"] = nir.Output({"output": np.array([4])})
    graph.edges = list(itertools.pairwise(graph.nodes))
    graph.metadata = {}
    graph.input_type, graph.output_type = {"input": np.array([4])}, {"output": np.array([4])}
    return graph


def test_nodes_of_none_are_named_all_at_once() -> None:
    graph = empty({"fc": nir.Linear(np.eye(4)), "bn": None, "sub": empty({"drop": None})})
    with pytest.raises(
        GraphError, match=r"node bn is None: .*snnTorch's leaves None for BatchNorm2d"
    ) as e:
        from_nir(graph, dt=1e-4)
    assert [problem.split()[1] for problem in e.value.problems] == ["bn", "sub.drop"]


@pytest.mark.parametrize("first", ["conv", "neurons"])
def test_the_sample_axis_of_neurons_is_dropped(first: str) -> None:
    """As that of Input: parameters of shape (1, C, H, W) are those of (C, H, W)."""
    weight = np.random.default_rng(0).normal(size=(2, 2, 3, 3))

    def graph(*sample: int) -> nir.NIRGraph:
        shape = (*sample, 2, 4, 4)
        level = np.random.default_rng(1).random((2, 4, 4)).reshape(shape)
        conv = nir.Conv2d((4, 4), weight, 1, 1, 1, 1, np.zeros(2))
        neurons = nir.IF(r=np.full(shape, 1e4), v_threshold=level, v_reset=np.zeros(shape))
        nodes = {"input": nir.Input({"input": np.array(shape)})}
        nodes |= {"conv": conv, "neurons": neurons} if first == "conv" else {"neurons": neurons}
        nodes["output"] = nir.Output({"output": np.array(shape)})
        return nir.NIRGraph(nodes, list(itertools.pairwise(nodes)), type_check=False)

    x = np.random.default_rng(2).random((3, 6, 2, 4, 4))
    plain, sampled = (spikes(from_nir(graph(*s), dt=1e-4, reset="zero"), x) for s in ((), (1,)))
    assert 0 < plain.mean() < 1
    assert (plain == sampled).all()


# ---- whose conventions a file has ----


def test_the_command_line_knows_every_convention() -> None:
    from spikeship.pipeline.cli.export import export

    names = signature(export, eval_str=True).parameters["framework"].annotation.__origin__
    assert get_args(get_args(names)[0]) == tuple(CONVENTIONS)


def test_a_graph_says_what_it_was_given() -> None:
    """Read again, it needs nothing; a convention on top of one is refused."""
    path = GOLDEN / "spikingjelly.nir"
    graph = from_nir(path, framework="spikingjelly")
    assert graph.metadata["framework"] == "NIR of spikingjelly"
    again = from_nir(graph)
    x = np.load(GOLDEN / "spikingjelly.npz")["input"].astype(float)
    assert (spikes(again, x) == spikes(graph, x)).all()
    with pytest.raises(GraphError, match=r"spikeship wrote it, and it says everything"):
        from_nir(graph, framework="spikingjelly")
    with pytest.raises(ValueError, match=r"framework = 'brian'; known are snntorch, spikingjelly"):
        from_nir(path, framework="brian")


def test_arguments_come_before_a_convention() -> None:
    lif = nir_lif(3, 1e-3)
    graph = chain_graph([("w", nir.Linear(np.eye(3))), ("lif", lif)], (3,), {})
    usual = from_nir(graph, framework="snntorch")
    assert usual.nodes["lif"].metadata == {"reset": "subtract", "reset_delay": 1}
    assert usual.metadata["dt"] == 1e-4
    other = from_nir(graph, dt=5e-4, reset="zero", reset_delay=0, framework="snntorch")
    assert other.nodes["lif"].metadata == {"reset": "zero", "reset_delay": 0}
    assert other.metadata["dt"] == 5e-4


@pytest.mark.parametrize("dt", [1, None])
@pytest.mark.parametrize("kind", ["LIFBoxCell", "LIFCell", "IAFCell"])
def test_norses_defaults_undo_its_export(kind: str, dt: float | None) -> None:
    """Every spike of Norse's own forward, whatever dt its to_nir was given."""
    torch.manual_seed(1)
    cell = getattr(norse, kind)
    parameters = {"LIFBoxCell": norse.LIFBoxParameters, "LIFCell": norse.LIFParameters}.get(kind)
    values = {"v_th": torch.tensor(0.5, dtype=torch.float64)}
    made = cell(parameters(**values)) if parameters else cell()
    model = norse.SequentialState(nn.Linear(6, 8), made).double()
    x = torch.rand(40, 4, 6, dtype=torch.float64)
    state, theirs = None, []
    with torch.no_grad():
        model[0].weight.abs_()
        for now in x:
            out, state = model(now, state)
            theirs.append(out.numpy())
    exported = norse_export(model, 0.001 if dt is None else dt)
    ours = spikes(from_nir(exported, framework="norse"), x.transpose(0, 1).numpy())
    assert (ours == np.stack(theirs, 1)).all()
    assert 0.01 < ours.mean() < 0.9


@pytest.mark.parametrize("platform", ["nengo", "lava_cpu_float"])
def test_reset_in_the_step_of_the_spike(shared_data: Path, platform: str) -> None:
    """What nengo and Lava recorded of Norse's neuron; Lava's spikes come one step later."""
    folder = shared_data / "golden" / "nir_lif"
    framework = platform.split("_", maxsplit=1)[0]
    graph = from_nir(folder / "lif_norse.nir", dt=1e-4, framework=framework)
    x, _, z = np.loadtxt(folder / f"lif_{platform}.csv", delimiter=",").T
    x = np.loadtxt(folder / "lif_norse.csv", delimiter=",").T[0]
    ours = np.flatnonzero(spikes(graph, x[None, :, None])[0, :, 0])
    assert (np.flatnonzero(z) - (platform != "nengo")).tolist() == ours.tolist()


def test_single_spikes_of_sinabs() -> None:
    """Its equations, written down again: v <- a v + (1 - a) x, a = exp(-1/tau); v = 1 fires."""
    tau, one = np.full(2, 5.0), np.ones(2)
    lif = nir.LIF(tau=tau, r=one, v_leak=0 * one, v_threshold=one, v_reset=0 * one)
    graph = chain_graph([("w", nir.Linear(np.eye(2))), ("lif", lif)], (2,), {})
    read = from_nir(graph, framework="sinabs", reset="subtract", reset_delay=0)
    x = np.random.default_rng(0).random((3, 60, 2)) * 4
    a, v = np.exp(-1 / 5), np.zeros((3, 2))
    for t, ours in enumerate(np.moveaxis(spikes(read, x), 1, 0)):
        v = a * v + (1 - a) * x[:, t]
        assert (ours == (v >= 1)).all()
        v = v - (v >= 1)
    ints = nir.IF(r=one, v_threshold=one, v_reset=0 * one)
    exact = chain_graph([("w", nir.Linear(np.eye(2) / 2)), ("if", ints)], (2,), {})
    read = from_nir(exact, framework="sinabs", reset="zero")
    assert spikes(read, np.ones((1, 6, 2)))[0, :, 0].tolist() == [0, 1, 0, 1, 0, 1]
