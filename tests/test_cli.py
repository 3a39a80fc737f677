"""The command line, as a user calls it: results, JSON, exit codes, errors in words."""

from __future__ import annotations

import importlib
import itertools
import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import h5py
import nir
import numpy as np
import pytest
import torch

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF, NetworkError
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.netx.file import old_layers, read_netx, write_netx
from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.reference import simulate
from spikeship.hw_targets.simulate.trace import Trace
from spikeship.models.data.load import load
from spikeship.pipeline.deploy import run as run_module
from spikeship.pipeline.deploy.deployed import Deployed

from cli import call, ok

GOLDEN = Path(__file__).parent / "golden"


@pytest.mark.parametrize("command", [
    "demo", "train", "export", "inspect", "simulate", "verify", "evaluate", "profile", "supported",
    "map", "devices",
])  # fmt: skip
def test_help(command: str) -> None:
    result = call(command, "--help")
    assert result.exit_code == 0
    assert "--json" in result.stdout


def test_training_reports(trained: Path) -> None:
    again = ok("train", "--out", trained / "snn", "--epochs", 8, "--steps", 4)  # loads it
    assert again["test_accuracy"] > 0.85
    assert again["settings"]["coding"] == "rsc1"
    assert again["versions"]["norse"]


def test_inspect(trained: Path) -> None:
    result = ok("inspect", trained / "net.net")
    network = read_netx(trained / "net.net")
    assert result["digest"] == network.digest
    assert result["recipe"]["coding"] == "rsc1"
    assert result["recipe"]["provenance"]["dataset"] == "digits"
    assert [layer["neurons"] for layer in result["layers"]] == [256, 10]
    text = call("inspect", trained / "net.net").stdout
    assert "vThMant" not in text
    assert network.digest[:12] in text
    assert "reset_offset = 1" in text
    assert f"recipe digest {network.recipe.digest}" in text.replace("\n", " ")
    assert result["recipe_digest"] == network.recipe.digest


def test_verify_and_profile(trained: Path) -> None:
    checked = ok("verify", trained / "net.net", "--lava-samples", 0)
    assert checked["ok"]
    assert checked["result"]["lava_skipped"] == "not asked for"
    assert [a["layer"] for a in checked["result"]["to_float"]] == ["2:dense", "3:dense"]
    priced = ok("profile", trained / "net.net", "--ann", trained / "ann/best.ckpt")
    profile = priced["profile"]
    assert profile["counts"]["loihi2"]["samples"] == 359
    dynamic = profile["prices"][0]["dynamic"]
    assert 0 < dynamic["low"] < dynamic["joules"] < dynamic["high"]
    assert profile["prices"][0]["unpriced"]
    assert profile["ann"]["accuracy"] > 0.9
    assert profile["float_accuracy"] > 0.85
    text = call("profile", trained / "net.net", "--samples", 20).stdout
    assert "not in loihi2-derived-pilotnet" in text
    assert "chip dynamic" in text


def test_evaluate(trained: Path) -> None:
    """The same accuracy as `profile` finds, which counts too."""
    result = ok("evaluate", trained / "net.net")
    network = read_netx(trained / "net.net")
    split = load("digits").test
    assert result["accuracy"] == run_module.evaluate(Deployed(network), split).accuracy
    assert (result["data"], result["samples"], result["steps"]) == ("digits", 359, 4)
    assert result["samples_per_second"] > 0
    text = call("evaluate", trained / "net.net", "--samples", 50).stdout
    assert "% on 50 test samples of digits" in text
    assert "samples per second, 4 steps each" in text


@pytest.mark.slow
def test_events_from_training_to_evaluation(shared_data: Path, tmp_path: Path) -> None:
    """N-MNIST through the same commands as images; a readout that is a voltage."""
    root = ("--data-root", shared_data / "datasets")
    training = ("--readout", "voltage", "--epochs", 1, "--steps", 4, "--out", tmp_path / "snn")
    refused = call("train", "--data", "nmnist", *root, *training, "--coding", "direct")
    assert refused.exit_code == 3
    assert "nmnist is events, which are not coded again: leave out --coding" in refused.stderr
    trained = ok("train", "--data", "nmnist", *root, *training)
    assert trained["settings"]["coding"] == "events"
    assert trained["test_accuracy"] > 0.5
    ok(
        "export",
        tmp_path / "snn/best.ckpt",
        "--out",
        tmp_path / "n.net",
        "--calibration",
        32,
        *root,
    )
    recipe = read_netx(tmp_path / "n.net").recipe
    assert recipe is not None
    assert recipe.coding == Coding("events", 4)
    result = ok("evaluate", tmp_path / "n.net", *root)
    assert abs(result["accuracy"] - trained["test_accuracy"]) <= 0.03
    assert (result["data"], result["samples"]) == ("nmnist", 200)
    checked = ok("verify", tmp_path / "n.net", "--samples", 20, "--lava-samples", 0, *root)
    assert checked["ok"]


def test_verify_fails_beyond_the_tolerance(trained: Path) -> None:
    result = call("verify", trained / "net.net", "--lava-samples", 0, "--tolerance", 0)
    assert result.exit_code == 1
    assert "NOT verified" in result.stdout
    assert "sample" in result.stdout  # the first divergence


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_verify_on_lava(trained: Path) -> None:
    """The exported net in lava-dl's own reader: output spikes, and all else, equal on 20 samples."""
    result = ok("verify", trained / "net.net", "--lava-samples", 20)["result"]
    assert result["lava_samples"] == 20
    rows = result["to_lava"]
    assert [(r["layer"], r["quantity"]) for r in rows] == [
        (layer, q) for q in ("spikes", "u", "v") for layer in ("2:dense", "3:dense")
    ]
    assert all(r["first"] is None and r["equal"] == 1.0 for r in rows)
    assert rows[1]["matched"] == 1.0


def test_export_of_a_user_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "mynet.py").write_text(
        "import norse.torch as n, torch\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return n.SequentialState(torch.nn.Flatten(), torch.nn.Linear(64, 10), n.LIFBoxCell())\n"
    )
    monkeypatch.syspath_prepend(tmp_path)
    model = importlib.import_module("mynet").build()
    with torch.no_grad():
        model[1].weight.mul_(8)
    torch.save(model.state_dict(), "weights.pt")
    out = ok(
        "export",
        "mynet:build",
        "--checkpoint",
        "weights.pt",
        "--data",
        "digits",
        "--out",
        "mine.net",
    )
    network = read_netx("mine.net")
    assert out["digest"] == network.digest
    dense = network.layers[-1]
    assert isinstance(dense, Dense)
    exact = model[1].weight.detach().numpy()
    assert np.corrcoef(dense.weight.ravel(), exact.ravel())[0, 1] > 0.999
    missing = call("export", "mynet:nothing", "--out", "x.net")
    assert missing.exit_code == 3
    assert "Give module:function" in missing.stderr
    assert not Path("x.net").exists()


def test_a_failed_export_leaves_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "relu.py").write_text(
        "import norse.torch as n, torch\n"
        "def build():\n"
        "    return n.SequentialState(torch.nn.Flatten(), torch.nn.Linear(64, 9), torch.nn.ReLU(),\n"
        "                             torch.nn.Linear(9, 2), n.LIFBoxCell())\n"
    )
    result = call("export", "relu:build", "--data", "digits", "--out", "bad.net")
    assert result.exit_code == 3
    assert "module 2 is a ReLU, which is not supported" in result.stderr
    assert sorted(p.name for p in tmp_path.iterdir() if p.suffix != "" and p.suffix != ".py") == []


SMALL = Network(
    [
        Input((1, 3, 4), CubaLIF(4096, 1024, 20)),
    ]
)


@pytest.fixture
def dense(tmp_path: Path) -> tuple[Path, Network, np.ndarray]:
    rng = np.random.default_rng(0)
    network = Network([Dense(rng.integers(-60, 60, (5, 6)), None, CubaLIF(1024, 512, 40))])
    write_netx(network, tmp_path / "dense.net")
    x = rng.integers(0, 2, (3, 12, 6))
    np.save(tmp_path / "x.npy", x)
    return tmp_path, network, x


def test_simulate(dense: tuple[Path, Network, np.ndarray]) -> None:
    folder, network, x = dense
    result = ok(
        "simulate", folder / "dense.net", "--input", folder / "x.npy", "--out", folder / "t.npz",
        "--record", "spikes,u,v", "--steps", 15, "--reset-interval", 5, "--reset-offset", 1,
    )  # fmt: skip
    expected = simulate(
        network, x, Timing(15, reset_interval=5, reset_offset=1), record=("spikes", "u", "v")
    )
    with np.load(folder / "t.npz") as got:
        assert sorted(got.files) == ["backend", "spikes.0", "u.0", "v.0"]
        assert got["spikes.0"].shape == (3, 15, 5)
        for name in ("spikes", "u", "v"):
            assert (got[f"{name}.0"] == getattr(expected, name)[0]).all()
    assert result["backend"] == "engine"
    assert result["overflow"] == [{"u_wraps": 0, "v_clips": 0, "sum_wraps": 0}]


def test_a_recipe_of_single_spikes_takes_no_others(
    dense: tuple[Path, Network, np.ndarray],
) -> None:
    """What would silently be taken for spikes is asked for by a flag."""
    folder, network, x = dense
    write_netx(Network(network.layers, Recipe(Coding("direct", 12))), folder / "dense.net")
    np.save(folder / "x.npy", 3 * x)
    words = [
        "simulate",
        folder / "dense.net",
        "--input",
        folder / "x.npy",
        "--out",
        folder / "t.npz",
    ]
    refused = call(*words)
    assert refused.exit_code == 3
    assert "inputs reach 0 .. 3, but the recipe says single spikes" in refused.stderr.replace(
        "\n", " "
    )
    with pytest.raises(NetworkError, match=r"inputs reach 0 \.\. 3"):
        run_module.run_recipe(read_netx(folder / "dense.net"), 3 * x)
    ok(*words, "--message-bits", 0)
    with np.load(folder / "t.npz") as got:
        expected = simulate(network, x, Timing(12 + network.latency), record="spikes")
        assert (got["spikes.0"] == expected.spikes[0]).all()


def test_lava_is_given_the_file_itself(
    dense: tuple[Path, Network, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Not a copy that we wrote, in which what we read wrongly would not show."""
    folder, network, _ = dense
    write_netx(Network(network.layers, Recipe(Coding("direct", 12))), folder / "dense.net")
    given: list[Path | None] = []

    def on_lava(*args: Any, file: Path | None = None, **options: Any) -> Trace:
        given.append(file)
        return simulate(*args, **options)

    monkeypatch.setattr(lava_cpu, "run", on_lava)
    monkeypatch.setattr(lava_cpu, "why_unavailable", lambda: None)
    words = [folder / "dense.net", "--input", folder / "x.npy"]
    ok("simulate", *words, "--out", folder / "t.npz", "--backend", "lava")
    ok("verify", *words, "--lava-samples", 1)
    assert given == [folder / "dense.net"] * 2


@pytest.mark.slow
def test_nir_files_need_nir_and_torch_alone(tmp_path: Path) -> None:
    """The extra `nir`: neither Norse nor Lightning, nor what else `train` installs."""
    rng = np.random.default_rng(0)
    neuron = {name: np.zeros(3) for name in ("v_leak", "v_reset")}
    nodes = {
        "input": nir.Input({"input": np.array([6])}),
        "synapses": nir.Affine(rng.normal(0, 0.5, (3, 6)), np.zeros(3)),
        "lif": nir.LIF(tau=np.full(3, 5e-3), r=np.ones(3), v_threshold=np.full(3, 0.5), **neuron),
        "output": nir.Output({"output": np.array([3])}),
    }
    nir.write(tmp_path / "my.nir", nir.NIRGraph(nodes, list(itertools.pairwise(nodes))))
    np.save(tmp_path / "x.npy", rng.integers(0, 2, (4, 12, 6)))
    others = (
        "norse lightning torchvision sklearn scipy nirtorch snntorch spikingjelly onnx lava tonic"
    )
    code = (
        "import sys\n"
        f"sys.modules |= dict.fromkeys({others.split()})\n"  # importing them now fails
        "from spikeship.pipeline.cli.app import app\n"
        "app()\n"
    )
    said = ["--dt", "1e-3", "--reset", "zero", "--reset-delay", "0"]
    for words in (
        ["export", "my.nir", "--out", "my.net", "--input", "x.npy", *said],
        ["verify", "my.net", "--input", "x.npy", "--lava-samples", "0"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=tmp_path,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr


def test_inspect_and_simulate_need_no_torch(dense: tuple[Path, Network, np.ndarray]) -> None:
    folder, _, _ = dense
    code = (
        "import sys\n"
        "for name in ('torch', 'nir', 'norse', 'lightning'):\n"
        "    sys.modules[name] = None\n"  # importing it now fails
        "from spikeship.pipeline.cli.app import app\n"
        "app()\n"
    )
    for words in (
        ["inspect", "dense.net"],
        ["simulate", "dense.net", "--input", "x.npy", "--out", "t.npz"],
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            cwd=folder,
            check=False,
            capture_output=True,
            text=True,
        )
        assert done.returncode == 0, done.stderr
    verify = [sys.executable, "-c", code, "export", "none:none", "--out", "x.net"]
    done = subprocess.run(verify, cwd=folder, check=False, capture_output=True, text=True)
    assert done.returncode == 3
    assert 'pip install "spikeship[train]"' in done.stderr


def test_simulate_a_constant_input(tmp_path: Path) -> None:
    """(sample, *shape) is the bias mantissa of Input neurons; it needs --steps."""
    write_netx(SMALL, tmp_path / "in.net")
    x = np.arange(24).reshape(2, 1, 3, 4)
    np.save(tmp_path / "x.npy", x)
    words = (
        "simulate",
        tmp_path / "in.net",
        "--input",
        tmp_path / "x.npy",
        "--out",
        tmp_path / "t.npz",
    )
    refused = call(*words)
    assert refused.exit_code == 2
    assert "give --time-steps" in refused.stderr
    ok(*words, "--steps", 9)
    trace = Trace.load(tmp_path / "t.npz")
    expected = simulate(SMALL, x, Timing(9), record="spikes")
    assert trace.spikes is not None
    assert expected.spikes is not None
    assert (trace.spikes[0] == expected.spikes[0]).all()
    assert trace.spikes[0].any()


def test_the_engine_is_the_default_and_a_missing_lava_says_why(
    dense: tuple[Path, Network, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = dense
    words = (
        "simulate",
        folder / "dense.net",
        "--input",
        folder / "x.npy",
        "--out",
        folder / "t.npz",
    )
    monkeypatch.setattr(
        lava_cpu, "why_unavailable", lambda: "Lava needs Python 3.10, this is 3.99."
    )
    result = call(*words)
    assert result.exit_code == 0
    assert "run on engine" in result.stdout
    assert "run on reference" in call(*words, "--backend", "reference").stdout
    refused = call(*words, "--backend", "lava")
    assert refused.exit_code == 3
    assert "Lava needs Python 3.10" in refused.stderr


def test_a_lava_that_fails_and_a_file_that_cannot_be_written_are_words(
    dense: tuple[Path, Network, np.ndarray], monkeypatch: pytest.MonkeyPatch
) -> None:
    folder, _, _ = dense
    words = ("simulate", folder / "dense.net", "--input", folder / "x.npy", "--backend")

    def fail(*_: object, **__: object) -> Trace:
        raise lava_cpu.LavaError("Lava ended with status 1")

    monkeypatch.setattr(lava_cpu, "why_unavailable", lambda: None)
    monkeypatch.setattr(lava_cpu, "run", fail)
    broken = call(*words, "lava", "--out", folder / "t.npz")
    unwritable = call(*words, "engine", "--out", folder / "x.npy" / "t.npz")
    for result, message in ((broken, "error: Lava ended with status 1"), (unwritable, "x.npy")):
        assert result.exit_code == 3
        assert message in result.stderr
        assert isinstance(result.exception, SystemExit)  # not a traceback


def test_simulate_chooses_what_to_record(dense: tuple[Path, Network, np.ndarray]) -> None:
    folder, network, x = dense
    np.save(folder / "graded.npy", 3 * x)
    words = ("simulate", folder / "dense.net", "--input", folder / "graded.npy", "--out")
    result = ok(*words, folder / "t.npz", "--record", "counts,v.-1", "--message-bits", 0)
    expected = simulate(network, x, Timing(12 + network.latency), record=("counts", "v"))
    assert result["spikes"] is None
    with np.load(folder / "t.npz") as got:
        assert sorted(got.files) == ["backend", "counts", "v.0"]
        assert (got["counts"] == expected.counts).all()
        assert expected.v is not None
        assert (got["v.0"] == expected.v[0]).all()


def test_lower_writes_what_lava_can_load_and_says_what_it_ignores(tmp_path: Path) -> None:
    with h5py.File(tmp_path / "pool.net", "w") as file:
        first = file.create_group("layer/0")
        first["type"], first["shape"] = np.array(["input"], "S10"), (2, 4, 4)
        pool = file.create_group("layer/1")
        pool["type"], pool["shape"] = np.array(["pool"], "S10"), (2, 2, 2)
        pool["weight"] = np.full((1, 1, 2, 2), 70.0)
        for name, value in (("stride", 2), ("padding", 0), ("dilation", 1), ("kernelSize", 2)):
            pool[name] = (value, value)
        neuron = pool.create_group("neuron")
        neuron["type"], neuron["refDelay"] = "CUBA", 2
        neuron["iDecay"], neuron["vDecay"], neuron["vThMant"] = 4096, 4096, 100
    refused = call("inspect", tmp_path / "pool.net")
    assert refused.exit_code == 3
    assert "a depthwise convolution: `spikeship lower` makes it one." in refused.stderr
    done = call("lower", tmp_path / "pool.net", "--out", tmp_path / "conv.net")
    assert done.exit_code == 0
    assert "note: " in done.stderr
    assert "refDelay" in done.stderr
    lowered = read_netx(tmp_path / "conv.net").layers[1]
    assert isinstance(lowered, Conv)
    assert lowered.groups == 2
    assert (lowered.weight == 70).all()


def test_a_part_of_a_file(tmp_path: Path) -> None:
    neuron = CubaLIF(1024, 512, 40)
    conv = Conv(np.ones((2, 1, 3, 3), int), neuron=neuron)
    network = Network(
        [Input((1, 4, 4)), conv, Flatten(), Dense(np.ones((3, 8), int), None, neuron)]
    )
    write_netx(network, tmp_path / "whole.net")
    part = ok("inspect", tmp_path / "whole.net", "--num-layers", 2)
    assert part["digest"] == Network(network.layers[:2]).digest
    words = ("--skip-layers", 3, "--out", tmp_path / "rest.net")
    assert ok("lower", tmp_path / "whole.net", *words)["digest"] == read_netx(words[-1]).digest
    assert read_netx(words[-1]) == Network(network.layers[3:])
    with h5py.File(tmp_path / "whole.net", "a") as file:
        del file["layer/0"], file["spikeship"]
        for i in range(1, 4):
            file.move(f"layer/{i}", f"layer/{i - 1}")
    assert call("inspect", tmp_path / "whole.net").exit_code != 0
    shaped = ok("inspect", tmp_path / "whole.net", "--input-shape", "1,4,4")
    assert shaped["digest"] == network.digest
    for option in ("1,4,x", "1,0,4"):
        refused = call("inspect", tmp_path / "whole.net", "--input-shape", option)
        assert refused.exit_code != 0
        assert f"--input-shape {option}: " in refused.stderr


def test_lower_gives_old_recurrent_layers_their_name(tmp_path: Path) -> None:
    network = Network(
        [Dense(np.ones((2, 3), int), neuron=CubaLIF(1, 1, 1), recurrent=[[0, 1], [2, 0]])]
    )
    write_netx(network, tmp_path / "old.net")
    with h5py.File(tmp_path / "old.net", "a") as file:
        del file["layer/0/type"]
        file["layer/0/type"] = np.array(["recurrent"], "S10")
        file.move("layer/0/weight_rec", "layer/0/recWeight")
    assert old_layers(tmp_path / "old.net") == ["0"]
    ok("lower", tmp_path / "old.net", "--out", tmp_path / "new.net")
    assert old_layers(tmp_path / "new.net") == []
    assert read_netx(tmp_path / "new.net") == network


@pytest.mark.slow
@pytest.mark.lava
@pytest.mark.usefixtures("lava")
def test_simulate_on_lava(dense: tuple[Path, Network, np.ndarray]) -> None:
    folder, network, x = dense
    result = ok(
        "simulate", folder / "dense.net", "--input", folder / "x.npy", "--out", folder / "t.npz",
        "--record", "spikes,u,v", "--backend", "lava",
    )  # fmt: skip
    assert result["backend"] == "lava"
    expected = simulate(network, x, Timing(12 + network.latency), record=("spikes", "u", "v"))
    trace = Trace.load(folder / "t.npz")
    for name in ("spikes", "u", "v"):
        assert (getattr(trace, name)[0] == getattr(expected, name)[0]).all()


@pytest.mark.parametrize(("words", "message"), [
    (("inspect", "none.net"), "none.net: no such file"),
    (("inspect", "text.net"), "text.net: not a readable HDF5 file"),
    (("simulate", "dense.net", "--input", "none.npy", "--out", "t.npz"), "none.npy: no such file"),
    (("simulate", "dense.net", "--input", "text.net", "--out", "t.npz"), "not a .npy file"),
    (("simulate", "dense.net", "--input", "two.npz", "--out", "t.npz"), "several arrays"),
    (("simulate", "dense.net", "--input", "wrong.npy", "--out", "t.npz"), "input has shape"),
    (("simulate", "dense.net", "--input", "half.npy", "--out", "t.npz"), "is not an integer"),
    (("simulate", "dense.net", "--input", "x.npy", "--out", "t.npz", "--record", "w"), "cannot record \"w\". Choose"),
    (("verify", "dense.net"), "has no recipe"),
    (("evaluate", "dense.net"), "has no recipe"),
    (("profile", "dense.net"), "has no recipe"),
    (("export", "none.ckpt", "--out", "o.net"), "none.ckpt: no such file"),
    (("export", "text.net", "--out", "o.net"), "not a checkpoint"),
    (("train", "--data", "mnist", "--out", "t"), "give the folder that holds MNIST/raw"),
    (("train", "--model", "resnet", "--out", "t"), "unknown model 'resnet'"),
])  # fmt: skip
def test_errors_are_words_and_status_1(
    dense: tuple[Path, Network, np.ndarray], monkeypatch: pytest.MonkeyPatch,
    words: tuple[str, ...], message: str,
) -> None:  # fmt: skip
    folder, _, x = dense
    monkeypatch.chdir(folder)
    Path("text.net").write_text("version https://git-lfs.github.com/spec/v1\n")
    np.save("wrong.npy", x[..., :4])
    np.savez("two.npz", a=x, b=x)
    np.save("half.npy", x + 0.5)
    result = call(*words)
    assert result.exit_code == 3
    assert f"error: {message}" in result.stderr or message in result.stderr
    assert "Traceback" not in result.stderr
    assert not Path("t.npz").exists()
    assert not Path("o.net").exists()


@pytest.mark.slow
@pytest.mark.lava
def test_the_demo(tmp_path: Path) -> None:
    """The whole path; the figures the README promises."""
    result = ok("demo", "--out", tmp_path / "demo", "--lava-samples", 20)
    accuracy = result["accuracy"]
    assert result["ok"]
    assert accuracy["snn_integer"] >= 0.95
    assert abs(accuracy["snn_integer"] - accuracy["snn_float"]) <= 0.01
    assert result["verification"]["lava_samples"] == 20
    stored = json.loads((tmp_path / "demo/demo.json").read_text())
    assert stored["digest"] == read_netx(tmp_path / "demo/digits.net").digest == result["digest"]
