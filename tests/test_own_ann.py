"""A torch CNN of one's own, on one's own .npz, in five commands: .net, checked, priced, attacked, certified."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F

from cli import call, ok

MINE = """
import torch
import torch.nn.functional as F
from torch import nn
class Cnn(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.norm = nn.Conv2d(1, 6, 3, padding=1, bias=False), nn.BatchNorm2d(6)
        self.drop, self.fc = nn.Dropout(0.1), nn.Linear(54, 3)
    def forward(self, x):
        x = F.max_pool2d(F.relu(self.norm(self.conv(x))), 2)
        return self.fc(self.drop(torch.flatten(x, 1)))
class Signals(nn.Module):
    def __init__(self):
        super().__init__()
        self.conv, self.fc = nn.Conv1d(1, 6, 5, padding=2), nn.Linear(108, 3)
    def forward(self, x):
        return self.fc(F.avg_pool1d(F.relu(self.conv(x)), 2).flatten(1))
class Regression(nn.Module):
    def __init__(self):
        super().__init__()
        self.a, self.b = nn.Linear(36, 16), nn.Linear(16, 2)
    def forward(self, x):
        return self.b(self.a(x.flatten(1)).clamp(min=0))
def made(kind):
    torch.manual_seed(0)
    return kind()
def cnn(): return made(Cnn)
def signals(): return made(Signals)
def regression(): return made(Regression)
"""


def images(count: int, seed: int) -> tuple[np.ndarray, np.ndarray]:
    """6 x 6 images with a bar in one of three places, and which."""
    rng = np.random.default_rng(seed)
    y = rng.integers(0, 3, count)
    x = 0.3 * rng.random((count, 1, 6, 6))
    for image, place in zip(x, y, strict=True):
        image[:, :, 2 * place : 2 * place + 2] += 0.6
    return x.astype(np.float32), y


def trained(name: str, x: np.ndarray, y: np.ndarray) -> None:
    """The weights of a network of MINE, in `name`.pt."""
    namespace: dict[str, Any] = {}
    exec(MINE, namespace)
    model = namespace[name]()
    optimizer = torch.optim.Adam(model.parameters(), 1e-2)
    given = torch.from_numpy(x[:, :, 0] if name == "signals" else x)
    truth = torch.from_numpy(y)
    for _ in range(150):
        out = model(given)
        loss = F.mse_loss(out, truth) if truth.is_floating_point() else F.cross_entropy(out, truth)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    torch.save(model.state_dict(), f"{name}.pt")


@pytest.mark.slow
@pytest.mark.parametrize("name", ["cnn", "signals"])
def test_in_five_commands(name: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path(f"own_{name}.py").write_text(MINE)
    both = {part: images(n, seed) for part, n, seed in (("train", 300, 0), ("test", 60, 1))}
    if name == "signals":
        both = {part: (x.reshape(len(x), 1, 1, 36), y) for part, (x, y) in both.items()}
    arrays = {f"{axis}_{part}": both[part][i] for part in both for i, axis in enumerate("xy")}
    np.savez("own.npz", **arrays)
    trained(name, *both["train"])
    network = (f"own_{name}.py:{name}", "--checkpoint", f"{name}.pt")
    made = ok(
        "convert",
        *network,
        "--data",
        "own.npz",
        "--coding",
        "rsc1",
        "--sigma",
        0.1,
        "--out",
        "made",
    )
    assert made["test_accuracy"]["ann"] > 0.95
    assert made["test_accuracy"]["converted"] > 0.9
    exported = ok("export", made["graph"], "--data", "own.npz", "--out", "own.net")
    checked = ok("verify", "own.net", "--data", "own.npz", "--lava-samples", 0, "--samples", 20)
    assert checked["result"]["digest"] == exported["digest"]
    beside = ("--ann", network[0], "--ann-checkpoint", network[2])
    cost = ok("profile", "own.net", "--data", "own.npz", *beside, "--samples", 20)["profile"]
    assert cost["ann"]["accuracy"] > 0.9
    short = ("--samples", 10, "--attack-steps", 3, "--eot", 2, "--draws", 5, "--queries", 5)
    words = ("--data", "own.npz", "--source", network[0], *short, "--certify", 60, "--json")
    result = call("robustness", "own.net", *words)
    assert result.exit_code in (0, 1), result.stderr
    assert '"method": "rsc1-grid"' in result.stdout


@pytest.mark.slow
def test_regression(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """All but attacks, which are refused by name."""
    monkeypatch.chdir(tmp_path)
    Path("own_regression.py").write_text(MINE)
    both = {part: images(n, seed)[0] for part, n, seed in (("train", 300, 0), ("test", 60, 1))}
    targets = {part: x.mean((1, 3))[:, :2] * 2 for part, x in both.items()}
    np.savez(
        "own.npz",
        **{f"x_{part}": x for part, x in both.items()},
        **{f"y_{part}": y for part, y in targets.items()},
    )
    trained("regression", both["train"], targets["train"])
    network = ("own_regression.py:regression", "--checkpoint", "regression.pt")
    words = ("convert", *network, "--data", "own.npz", "--out", "made", "--steps", 16)
    made = ok(*words)
    assert made["agreement"] is None
    ok("export", made["graph"], "--data", "own.npz", "--out", "own.net")
    checked = call("verify", "own.net", "--data", "own.npz", "--lava-samples", 0, "--samples", 20)
    assert checked.exit_code == 0, checked.stderr
    assert "same answer" not in checked.stdout
    beside = ("--ann", network[0], "--ann-checkpoint", network[2])
    cost = ok("profile", "own.net", "--data", "own.npz", *beside, "--samples", 20)["profile"]
    assert cost["ann"]["accuracy"] is None
    for refused in (
        ("attack", *network, "--data", "own.npz"),
        ("certify", *network, "--data", "own.npz", "--sigma", 0.1),
        ("robustness", *network, "--data", "own.npz"),
        ("attack", "own.net", "--data", "own.npz"),
        (*words, "--fine-tune", 1),
    ):
        result = call(*refused)
        assert (result.exit_code, "regression" in result.stderr) == (3, True), result.stderr
