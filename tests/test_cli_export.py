"""`spikeship export` of whatever users have: NIR files, SLAYER networks, budgets, fine-tuning."""

from __future__ import annotations

import re
import sys
from pathlib import Path

import nir
import numpy as np
import pytest
import torch

from spikeship.hw_targets import Coding, Dense, read_netx
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_nir
from spikeship.pipeline.graph import chain_graph

from cli import call, ok
from nets import nir_lif

OXFORD = """
import torch

def build():
    import lava.lib.dl.slayer as slayer
    neuron = {"threshold": 0.1, "current_decay": 1, "voltage_decay": 0.1, "requires_grad": True}
    class Network(torch.nn.Module):
        def __init__(self):
            super().__init__()
            self.blocks = torch.nn.ModuleList([
                slayer.block.cuba.Dense(neuron, 200, 256),
                slayer.block.cuba.Dense(neuron, 256, 200),
            ])
    return Network()
"""


SAID = ("--dt", 1e-4, "--reset", "zero")


@pytest.fixture
def nir_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Two layers of LIF neurons without dt, and 12 samples of input, in the current folder."""
    monkeypatch.chdir(tmp_path)
    rng = np.random.default_rng(0)

    def affine(out: int, into: int) -> nir.Affine:
        return nir.Affine(rng.normal(size=(out, into)) * 0.4, rng.normal(size=out) * 0.05)

    nodes = [
        ("a", affine(16, 20)),
        ("b", nir_lif(16, 1e-3, 0.1)),
        ("c", affine(5, 16)),
        ("d", nir_lif(5, 1e-3, 0.1)),
    ]
    nir.write("net.nir", chain_graph(nodes, (20,), {}))
    np.save("x.npy", (rng.random((12, 15, 20)) < 0.3).astype(np.int32))
    return Path("net.nir")


def test_a_nir_file_becomes_integers_on_ones_own_inputs(nir_file: Path) -> None:
    out = ok("export", nir_file, *SAID, "--input", "x.npy", "--out", "out.net")
    network = read_netx("out.net")
    assert out["digest"] == network.digest
    assert [layer["name"] for layer in out["layers"]] == ["b", "d"]
    assert all(layer["agreement"] > 0.97 for layer in out["layers"])
    recipe = network.recipe
    assert recipe is not None
    assert recipe.coding == Coding("given", 15)
    checked = ok("verify", "out.net", "--input", "x.npy", "--lava-samples", 0)
    assert checked["ok"]
    assert [row["source"] for row in checked["result"]["layers"]] == ["b", "d"]


def test_a_source_is_never_overwritten(nir_file: Path) -> None:
    """The float network gets another name, which `verify` finds, also when both files are moved."""
    before = nir_file.read_bytes()
    words = ("export", nir_file, *SAID, "--input", "x.npy", "--out", "net.net")
    for _ in range(2):
        assert ok(*words)["graph"] == "net.float.nir"
        assert nir_file.read_bytes() == before
    checked = ok("verify", "net.net", "--input", "x.npy", "--lava-samples", 0)
    assert [row["source"] for row in checked["result"]["layers"]] == ["b", "d"]
    for name in ("net.net", "net.float.nir"):
        Path(name).rename(f"moved_{name}")
    moved = ok("verify", "moved_net.net", "--input", "x.npy", "--lava-samples", 0)
    assert moved["result"]["to_float"] == checked["result"]["to_float"]
    # another network's export leaves a .nir alone that it does not know, and replaces its own
    ok("export", nir_file, *SAID, "--input", "x.npy", "--out", "other.net")
    ours = Path("other.nir").read_bytes()
    assert (
        ok("export", "other.nir", "--input", "x.npy", "--out", "other.net")["graph"]
        == "other.float.nir"
    )
    assert Path("other.nir").read_bytes() == ours
    Path("net.float.nir").write_text("notes")
    refused = call(*words)
    assert refused.exit_code == 3
    assert "net.nir: spikeship did not write it, or it is the source itself. The" in refused.stderr
    assert Path("net.float.nir").read_text() == "notes"
    for out, status in ((nir_file, 2), ("x.npy", 2), ("some.nir", 3)):
        refused = call("export", nir_file, *SAID, "--input", "x.npy", "--out", out)
        assert refused.exit_code == status
        assert re.search("is what the command reads|this name is for the float", refused.stderr)
    assert nir_file.read_bytes() == before


def test_recorded_outputs_are_compared_before_anything_is_written(nir_file: Path) -> None:
    """A wrong reset is seen; who gives no outputs is told that nobody looked."""
    x = np.load("x.npy")
    graph = from_nir(nir_file, 1e-4, reset="subtract", reset_delay=1)
    np.save("theirs.npy", execute(graph, x.astype(float)).spikes[-1])
    words = ("export", nir_file, "--dt", 1e-4, "--input", "x.npy", "--out", "o.net")
    wrong = call(*words, "--reset", "zero", "--expect", "theirs.npy")
    assert wrong.exit_code == 1
    assert "the float network is not the one that was recorded: time step, reset" in wrong.stdout
    assert "o.net is not written" in wrong.stdout
    assert not Path("o.net").exists()
    right = ("--reset", "subtract", "--reset-delay", 1, "--approximate-reset")
    out = ok(*words, *right, "--expect", "theirs.npy")
    assert out["expected"]["to_float"] == 1.0
    assert 0.5 < out["expected"]["to_integers"] < 1.0
    again = ("verify", "o.net", "--input", "x.npy", "--tolerance", 1, "--lava-samples", 0)
    assert ok(*again, "--expect", "theirs.npy")["result"]["expected"] == out["expected"]
    alone = call(*words, *right)
    assert "original framework: not compared. Record its outputs" in alone.stdout
    told = call("export", nir_file, *SAID, "--expect", "theirs.npy", "--out", "o.net")
    assert "--expect is compared on --input" in told.stderr


def test_the_time_step_is_not_guessed(nir_file: Path) -> None:
    result = call("export", nir_file, "--input", "x.npy", "--out", "out.net")
    assert result.exit_code == 3
    assert "the time step dt is not known" in result.stderr
    assert "in the unit of its time constants: --dt 1e-3." in result.stderr
    assert "framework's defaults they have, --from snntorch (or spikingjelly, " in result.stderr
    assert (
        "or --reset zero (v <- v_reset) or --reset subtract, with --reset-delay 0" in result.stderr
    )
    assert not Path("out.net").exists()


def test_reset_by_subtraction_is_approximated_only_on_request(nir_file: Path) -> None:
    words = [
        "export",
        nir_file,
        "--dt",
        1e-4,
        "--reset",
        "subtract",
        "--reset-delay",
        0,
        "--input",
        "x.npy",
        "--out",
    ]
    refused = call(*words, "out.net")
    assert refused.exit_code == 3
    assert "no exact image of b (reset 'subtract'); d (reset 'subtract')" in refused.stderr
    assert "or allow --approximate-reset" in refused.stderr
    layers = ok(*words, "out.net", "--approximate-reset")["layers"]
    exact = ok("export", nir_file, *SAID, "--input", "x.npy", "--out", "zero.net")["layers"]
    assert layers[0]["agreement"] < exact[0]["agreement"]  # measured against the soft reset
    checked = ok("verify", "out.net", "--input", "x.npy", "--lava-samples", 0, "--tolerance", 1)
    assert checked["result"]["diagnoses"][0]["cause"] == "reset"


@pytest.mark.slow
@pytest.mark.parametrize(
    ("words", "bits"),
    [
        (["--bits", 4], [4, 4]),
        (["--bits", "3,6"], [3, 6]),
        (["--size-budget", 300], None),
        (["--max-loss", 0.5], None),
    ],
)
def test_bits_and_budgets(nir_file: Path, words: list[object], bits: list[int] | None) -> None:
    out = ok("export", nir_file, *SAID, "--input", "x.npy", "--out", "out.net", *words)
    found = [layer["bits"] for layer in out["layers"]]
    if bits is not None:
        assert found == bits
    if words[0] == "--size-budget":
        assert (found[0] * 320 + found[1] * 80) / 8 <= 300
    if words[0] == "--max-loss":
        assert sum(found) < 16
    for layer, b in zip(read_netx("out.net").layers[1:], found, strict=True):
        assert isinstance(layer, Dense)
        assert len(np.unique(layer.weight)) <= 2**b


@pytest.mark.parametrize(
    ("words", "message", "status"),
    [
        (["--bits", "4", "--size-budget", "9"], "exclude each other", 2),
        (["--bits", "four"], "give whole numbers, separated by commas", 2),
        (["--bits", "9"], "--bits 9; weights have 2 to 8 bits", 3),
        (["--bits", "8,8,8"], "the network has 2 layers with neurons", 3),
        (["--fine-tune", "1"], "--fine-tune needs labels", 2),
        (["--checkpoint", "x.npy"], "--checkpoint x.npy: it goes with module:function", 3),
        (["--data", "digits"], "--data and --input exclude each other", 2),
    ],
)
def test_what_cannot_be_is_said(
    nir_file: Path, words: list[str], message: str, status: int
) -> None:
    result = call("export", nir_file, *SAID, "--input", "x.npy", "--out", "o.net", *words)
    assert result.exit_code == status
    assert message in " ".join(result.stderr.split())
    assert not Path("o.net").exists()


def test_inputs_must_be_integers(nir_file: Path) -> None:
    np.save("real.npy", np.zeros((2, 3, 20)))
    result = call("export", nir_file, *SAID, "--input", "real.npy", "--out", "o.net")
    assert result.exit_code == 3
    assert "type float64; integers (sample, time, *input shape) are needed" in result.stderr


@pytest.mark.slow
def test_fine_tuned_integers_are_what_the_file_holds(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of a network that has still something to learn."""
    monkeypatch.chdir(tmp_path)
    ok("train", "--epochs", 1, "--steps", 4, "--out", "weak")
    words = ("export", "weak/best.ckpt", "--bits", 2)
    plain = ok(*words, "--out", "plain.net")
    tuned = ok(*words, "--fine-tune", 2, "--out", "tuned.net")
    assert tuned["digest"] == read_netx("tuned.net").digest != plain["digest"]
    for layer in read_netx("tuned.net").layers:
        if isinstance(layer, Dense):
            assert len(np.unique(layer.weight)) <= 4
    before, after = (ok("evaluate", net)["accuracy"] for net in ("plain.net", "tuned.net"))
    assert after > before - 0.02


@pytest.mark.lava
def test_a_slayer_checkpoint_gives_the_published_file(
    shared_data: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("oxford_net.py").write_text(OXFORD)
    folder = shared_data / "golden/oxford"
    out = ok("export", "oxford_net:build", "--checkpoint", folder / "network.pt", "--out", "o.net")
    network = read_netx("o.net")
    assert out["digest"] == network.digest == read_netx(folder / "network.net").digest
    assert out["layers"] == []
    refused = call("export", "oxford_net:build", "--bits", 4, "--out", "p.net")
    assert "is integers already" in refused.stderr


def test_weights_that_do_not_fit_the_network_are_an_error(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("small_net.py").write_text(
        "import norse.torch as n, torch\n"
        "def build():\n"
        "    return n.SequentialState(torch.nn.Flatten(), torch.nn.Linear(64, 10), n.LIFBoxCell())\n"
        "def number():\n"
        "    return 3\n"
    )
    torch.save({"1.weight": torch.zeros(3, 3)}, "w.pt")
    result = call("export", "small_net:build", "--checkpoint", "w.pt", "--out", "o.net")
    assert result.exit_code == 3
    assert "w.pt" in result.stderr
    result = call("export", "small_net:number", "--out", "o.net")
    assert "small_net:number returns an object of type int, which no frontend" in result.stderr
    assert "a torch network with blocks of lava-dl is needed" in " ".join(result.stderr.split())


@pytest.mark.parametrize(
    ("coding", "target", "says"),
    [
        ("poisson", "loihi1", None),
        ("direct", "loihi2", None),
        (
            "direct",
            "loihi1",
            "not for Loihi 1: the input (coding direct) is graded spikes of 8 bits",
        ),
    ],
)
def test_a_target_takes_the_input_or_nothing_is_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, coding: str, target: str, says: str | None
) -> None:
    monkeypatch.chdir(tmp_path)
    Path("tiny_net.py").write_text(
        "import norse.torch as n, torch\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    return n.SequentialState(torch.nn.Flatten(), torch.nn.Linear(64, 10), n.LIFBoxCell())\n"
    )
    monkeypatch.delitem(sys.modules, "tiny_net", raising=False)
    given = ("--data", "digits", "--coding", coding, "--chip", target)
    words = ("export", "tiny_net:build", *given, "--out", "o.net")
    if says is None:
        ok(*words)
        shown = ok("inspect", "o.net")
        assert shown["recipe"]["coding"] == coding
        assert shown["chip_problems"][target] == []
        assert bool(shown["chip_problems"]["loihi1"]) == (coding == "direct")
    else:
        result = call(*words)
        assert result.exit_code == 3
        assert says in result.stderr
        assert not list(tmp_path.glob("o.*"))


@pytest.mark.slow
def test_an_ann_becomes_a_spiking_network(
    trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    words = ("convert", trained / "ann/best.ckpt", "--out", "snn", "--steps", 16, "--levels", 64)
    found = ok(*words)
    accuracy = found["test_accuracy"]
    assert accuracy["ann"] > 0.9
    assert accuracy["converted"] > 0.85
    assert len(found["thresholds"]) == 1
    tuned = ok(*words, "--fine-tune", 1)
    assert tuned["checkpoint"].endswith("snn/best.ckpt")
    assert {*tuned["test_accuracy"]} == {"ann", "converted", "fine-tuned"}
    assert tuned["thresholds"] != found["thresholds"]
    assert ok("export", "snn/best.ckpt", "--out", "o.net")["net"] == "o.net"
    assert call("convert", "snn/best.ckpt").exit_code == 3


@pytest.mark.slow
@pytest.mark.lava
def test_slayer_from_training_to_verification(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    trained = ok("train", "--framework", "slayer", "--epochs", 2, "--out", "run")
    ok("export", "run/best.ckpt", "--out", "s.net")
    assert ok("evaluate", "s.net")["accuracy"] == trained["test_accuracy"] > 0.8
    checked = ok("verify", "s.net", "--lava-samples", 2, "--tolerance", 0)
    assert checked["ok"]
    assert [row["equal"] for row in checked["result"]["to_float"]] == [1, 1]


def test_verify_runs_the_module_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """With --model its own forward is a side; another network's is not verified."""
    monkeypatch.chdir(tmp_path)
    Path("shared_cell.py").write_text(
        "import norse.torch as norse, torch\n"
        "from torch import nn\n"
        "def build():\n"
        "    torch.manual_seed(0)\n"
        "    cell = norse.LIFCell(norse.LIFParameters(v_th=torch.tensor(0.2)))\n"
        "    a, b = nn.Linear(20, 12, bias=False), nn.Linear(12, 5, bias=False)\n"
        "    return norse.SequentialState(a, cell, b, cell)\n"
        "def other():\n"
        "    net = build()\n"
        "    net[2].weight.data *= -1\n"
        "    return net\n"
    )
    rng = np.random.default_rng(0)
    np.save("x.npy", (rng.random((12, 15, 20)) < 0.5).astype(np.int32))
    ok("export", "shared_cell:build", "--input", "x.npy", "--out", "m.net")
    words = ["verify", "m.net", "--input", "x.npy", "--lava-samples", 0, "--tolerance", 1]
    result = ok(*words, "--model", "shared_cell:build")["result"]
    assert [a["equal"] for a in result["to_module"]] == [1.0, 1.0]
    assert result["layers"][1]["source"] == "3:cubalif"
    found = call(*words, "--model", "shared_cell:other")
    assert found.exit_code == 1
    alone = call(*words, "--checkpoint", "w.pt")
    assert "--checkpoint goes with --model" in alone.stderr
