"""`module:function` and `path/to/file.py:function`: what is found, and what is said where nothing is."""

from __future__ import annotations

import pickle
import re
import sys
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from torch import nn

from spikeship.hw_targets import CubaLIF, Dense, Network, write_netx
from spikeship.models import training
from spikeship.models.named import NamedError, call_named, is_named
from spikeship.pipeline.frontends.load import load_weights

from cli import call

FILES = {
    "named_plain.py": "class Net:\n    pass\ndef build():\n    return Net()\n",
    "nets/named_deep.py": (
        "from named_beside import NUMBER\n"
        "def build():\n    import named_late\n    return NUMBER + named_late.NUMBER\n"
    ),
    "nets/named_beside.py": "NUMBER = 3\n",
    "nets/named_late.py": "NUMBER = 4\n",
    "named_pack/__init__.py": "",
    "named_pack/net.py": "from .part import NUMBER\ndef build():\n    return NUMBER\n",
    "named_pack/part.py": "NUMBER = 5\n",
    "named_bad.py": "import named_nowhere\n",
    "named_broken.py": "def build(:\n",
    "named_fails.py": "def build():\n    return [][1]\ndef needs(size):\n    return size\nX = 3\n",
}


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name, content in FILES.items():
        path = tmp_path / name
        path.parent.mkdir(exist_ok=True)
        path.write_text(content)
    monkeypatch.chdir(tmp_path)
    yield tmp_path
    for name in [name for name in sys.modules if name.startswith("named_")]:
        del sys.modules[name]


@pytest.mark.parametrize(
    ("source", "value"),
    [
        ("nets/named_deep.py:build", 7),
        ("./nets/named_deep.py:build", 7),
        ("{folder}/nets/named_deep.py:build", 7),
        ("nets/../nets/named_deep.py:build", 7),
        ("named_pack.net:build", 5),
        ("named_pack/net:build", 5),
        ("named_pack/net.py:build", 5),
        ("{folder}/named_pack/net.py:build", 5),
    ],
)
def test_a_function_is_found(folder: Path, source: str, value: int) -> None:
    before = list(sys.path)
    assert call_named(source.format(folder=folder)) == value
    assert sys.path == before


@pytest.mark.parametrize(
    "source", ["named_plain:build", "named_plain.py:build", "named_plain.py:Net"]
)
def test_what_a_file_defines_can_be_pickled(folder: Path, source: str) -> None:
    made = call_named(source)
    assert type(made).__name__ == "Net"
    assert type(pickle.loads(pickle.dumps(made))) is type(made)


def test_a_file_never_stands_for_a_module_of_the_same_name(folder: Path) -> None:
    (folder / "json.py").write_text("def build():\n    return 1\n")
    import json

    assert call_named("json.py:build") == 1
    assert sys.modules["json"] is json


@pytest.mark.parametrize(
    ("source", "says"),
    [
        ("named_nothing:build", "there is no module named_nothing to import from this folder. Give its"),
        ("/named_nothing:build", "there is no module /named_nothing to import"),
        ("..:build", "there is no module .. to import"),
        ("nets/named_nothing.py:build", "nets/named_nothing.py: no such file."),
        ("named_plain.py:other", "has no function other. It defines Net, build."),
        ("named_plain:", "named_plain has no function (none was named). It defines Net, build."),
        ("named_fails.py:X", "named_fails.py has no function X. It defines build, needs."),
        ("named_bad.py:build", "importing it fails: ModuleNotFoundError: No module named 'named_nowhere'"),
        ("named_bad:build", "named_bad.py, line 1)."),
        ("named_broken.py:build", "importing it fails: SyntaxError: "),
        ("named_broken:build", "named_broken.py, line 1)."),
        ("named_fails.py:build", "build() fails: IndexError: list index out of range ("),
        ("named_fails.py:build", "named_fails.py, line 2)."),
        ("named_fails.py:needs", "needs() fails: TypeError: needs() missing 1 required positional"),
    ],
)  # fmt: skip
def test_what_is_said_where_there_is_none(folder: Path, source: str, says: str) -> None:
    before = list(sys.path)
    with pytest.raises(NamedError) as caught:
        call_named(source)
    assert says in str(caught.value)
    assert "\n" not in str(caught.value)
    assert sys.path == before


def test_a_named_function_is_told_from_a_file() -> None:
    named = {"mynet:build": True, "a/b.py:build": True, "net.nir": False, "/a/b/c.ckpt": False}
    assert {source: is_named(source) for source in named} == named


def other_files(folder: Path) -> None:
    """What people give where a checkpoint of `train` is needed."""
    weights = nn.Linear(3, 2).state_dict()
    torch.save(weights, "weights.pt")
    torch.save({"epoch": 3, "model": weights}, "lightning.pt")
    torch.save({"a": weights, "b": weights}, "two.pt")
    torch.save([1, 2], "list.pt")
    write_netx(Network([Dense(np.ones((2, 3), int), neuron=CubaLIF(1, 1, 1))]), "mine.net")
    Path("junk.ckpt").write_bytes(b"abc")


@pytest.mark.parametrize(
    ("name", "says"),
    [
        ("weights.pt", "a state dict of 2 tensors, which does not say what network they are of"),
        ("lightning.pt", "a state dict of 2 tensors, which does not say what network they are of"),
        ("two.pt", "a file of torch, but not a checkpoint of `spikeship train`, nor a state dict."),
        ("list.pt", "a file of torch, but not a checkpoint of `spikeship train`, nor a state dict."),
        ("mine.net", "A .net holds integers, ready to be inspected, verified, profiled and attacked"),
        ("named_plain.py", "a Python file. Name its function that returns the network, named_plain.py:"),
        ("junk.ckpt", "junk.ckpt: not a checkpoint of `spikeship train`"),
    ],
)  # fmt: skip
def test_what_is_said_of_other_files(folder: Path, name: str, says: str) -> None:
    other_files(folder)
    with pytest.raises(ValueError, match=re.escape(f"{name}: ")) as caught:
        training.load(name)
    assert says in str(caught.value)
    assert "weights_only" not in str(caught.value)  # torch's advice, which helps nobody here
    refused = call("export", name, "--data", "digits", "--out", "out.net")
    assert refused.exit_code != 0
    printed = refused.stderr
    assert says in printed
    if "state dict of" in says:
        assert f"this file beside it with --checkpoint {name}" in printed


@pytest.mark.parametrize("name", ["weights.pt", "lightning.pt"])
def test_a_state_dict_goes_in_alone_or_within_a_checkpoint(folder: Path, name: str) -> None:
    other_files(folder)
    network = nn.Linear(3, 2)
    load_weights(network, Path(name))
    assert torch.equal(network.weight, torch.load("weights.pt")["weight"])
    for other, says in (("two.pt", "or several"), ("list.pt", "holds no state dict")):
        with pytest.raises(ValueError, match=says):
            load_weights(network, Path(other))
