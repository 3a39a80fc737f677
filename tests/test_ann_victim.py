"""A torch ANN of one's own, attacked and certified as a trained one is, or refused by name."""

from __future__ import annotations

import copy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

import spikeship
from spikeship.hw_targets import Coding
from spikeship.models.ann_rewrite import AnnError
from spikeship.models.data.dataset import Dataset, DatasetError, Split
from spikeship.models.encoding import generator
from spikeship.models.settings import Settings
from spikeship.models.training import Classifier, train
from spikeship.pipeline.robustness import AnnVictim, FloatVictim, Subject
from spikeship.pipeline.robustness.attacks.attack import attack

from cli import call, ok

SHAPE = (1, 4, 4)


class Residual(nn.Module):
    """No row of layers, and in training mode something else."""

    def __init__(self, inputs: int = 16) -> None:
        super().__init__()
        self.a, self.b = nn.Linear(inputs, inputs), nn.Linear(inputs, 3)

    def forward(self, x: Tensor) -> Tensor:
        x = x.flatten(1).mul_(1.0)
        return self.b(F.dropout(F.relu(self.a(x)) + x, 0.5, self.training))


class Of(nn.Module):
    """A Linear to three numbers, and what is made of them."""

    def __init__(self, end: Callable[[Any, Tensor], Any]) -> None:
        super().__init__()
        self.linear, self.end = nn.Linear(16, 3), end
        self.calls = 0

    def forward(self, x: Tensor) -> Any:
        self.calls += 1
        return self.end(self, self.linear(x.flatten(1)))


class AlwaysTraining(nn.BatchNorm1d):
    def train(self, mode: bool = True) -> Any:
        return super().train(True)


def blobs(count: int, seed: int, low: float = 0.0, high: float = 1.0, shape: Any = SHAPE) -> Split:
    """Images whose class is in which third they are brighter, from `low` to `high`."""
    draws = generator(seed)
    labels = torch.randint(0, 3, (count,), generator=draws)
    x = 0.4 * torch.rand((count, 16), generator=draws)
    for image, label in zip(x, labels.tolist(), strict=True):
        image[5 * label : 5 * label + 5] += 0.5
    x[0, 0], x[0, 1] = 0.0, 1.0
    return Split(low + (high - low) * x.reshape(count, *shape), labels)


def data(low: float = 0.0, high: float = 1.0, shape: Any = SHAPE) -> Dataset:
    splits = [blobs(n, seed, low, high, shape) for seed, n in enumerate((120, 20, 60))]
    return Dataset("blobs", *splits, digest="own")


def learned(model: nn.Module, dataset: Dataset, steps: int = 60) -> nn.Module:
    optimizer = torch.optim.Adam(model.parameters(), 2e-2)
    for _ in range(steps):
        loss = F.cross_entropy(model(dataset.train.images), dataset.train.labels)
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return model


@pytest.fixture(scope="module")
def residual() -> nn.Module:
    torch.manual_seed(0)
    return learned(Residual(), data()).train()


def test_attacked_at_the_door(residual: nn.Module) -> None:
    before = {key: value.clone() for key, value in residual.state_dict().items()}
    attacked = spikeship.attack(residual, data(), spikeship.PGD(0.2, steps=5))
    with torch.no_grad():
        right = residual.eval()(data().test.images).argmax(1) == data().test.labels
        moved = residual(attacked.adversarial).argmax(1) == data().test.labels
    assert attacked.clean.accuracy == right.float().mean() > 0.9
    assert attacked.accuracy == moved.float().mean() < attacked.clean.accuracy - 0.2
    assert all(p.requires_grad for p in residual.parameters())
    assert all(torch.equal(value, before[key]) for key, value in residual.state_dict().items())


def test_as_the_same_network_of_train(tmp_path: Path) -> None:
    """A Classifier and its bare layers are attacked alike, image for image."""
    settings = Settings.of(spiking=False, coding="direct", epochs=2, widths=(12,))
    classifier, _ = train(settings, data(), tmp_path, progress=False)
    assert isinstance(classifier, Classifier)
    split = data().test
    ours = attack(FloatVictim(classifier), spikeship.PGD(0.1), split.images, split.labels)
    own = AnnVictim(classifier.net, split.images)
    theirs = attack(own, spikeship.PGD(0.1), split.images, split.labels)
    assert torch.equal(ours.adversarial, theirs.adversarial)
    assert ours.accuracy == theirs.accuracy


def test_data_of_another_range_are_scaled(residual: nn.Module) -> None:
    """The network sees its own numbers; epsilon is in units of their range."""

    class Shifted(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return residual((x + 3) / 5)

    residual.eval()
    wide = spikeship.attack(Shifted(), data(-3, 2), spikeship.PGD(0.2, steps=5))
    usual = spikeship.attack(residual, data(), spikeship.PGD(0.2, steps=5))
    assert wide.clean.accuracy == usual.clean.accuracy
    assert wide.accuracy == pytest.approx(usual.accuracy, abs=0.05)
    with pytest.raises(DatasetError, match="a certificate is for images in"):
        spikeship.certify(Shifted(), data(-3, 2), coding=Coding.of("rsc1", 1, 16, 0.1))


def test_sequences_are_attacked_as_a_whole(residual: nn.Module) -> None:
    attacked = spikeship.attack(residual, data(shape=(4, 4)), spikeship.FGSM(0.2))
    assert attacked.adversarial.shape == (60, 4, 4)
    assert attacked.accuracy < attacked.clean.accuracy


@pytest.mark.parametrize("shape", [(1, 1, 16), (1, 16)])
def test_signals_in_both_layouts(shape: tuple[int, ...]) -> None:
    """The network takes (sample, C, L); the data of `convert` are (sample, C, 1, L)."""
    torch.manual_seed(0)
    net = nn.Sequential(nn.Conv1d(1, 2, 3), nn.ReLU(), nn.Flatten(), nn.Linear(28, 3))
    attacked = spikeship.attack(net, data(shape=shape), spikeship.FGSM(0.1), samples=10)
    assert attacked.adversarial.shape[1:] == shape


@pytest.mark.parametrize("dtype", [torch.float64, torch.float16, torch.bfloat16])
def test_precisions(residual: nn.Module, dtype: torch.dtype) -> None:
    own = copy.deepcopy(residual).to(dtype)
    attacked = spikeship.attack(own, data(), spikeship.FGSM(0.1))
    usual = spikeship.attack(residual, data(), spikeship.FGSM(0.1))
    assert attacked.adversarial.dtype == torch.float32
    assert attacked.accuracy == pytest.approx(usual.accuracy, abs=0.05)
    assert next(own.parameters()).dtype == dtype


def test_noise_makes_it_certifiable(residual: nn.Module) -> None:
    noise = Coding.of("rsc1", 1, 16, 0.2)
    certified = spikeship.certify(residual, data(), coding=noise, samples=12, n0=20, n=300)
    assert certified.method == "rsc1"
    assert certified.accuracy(0.05) > 0.5
    attacked = spikeship.attack(
        residual, data(), spikeship.PGD(0.1, steps=3, eot=2), coding=noise, draws=5, samples=12
    )
    assert attacked.clean.draws == 5
    with pytest.raises(ValueError, match=r"draws nothing.*give it noise, coding rsc1 with a sigma"):
        spikeship.certify(residual, data())


def test_the_digest_is_of_weights_and_forward(residual: nn.Module) -> None:
    images = data().test.images

    def digest(model: nn.Module) -> str:
        return AnnVictim(model, images).digest

    class Residual2(Residual):
        def forward(self, x: Tensor) -> Tensor:
            return 2 * super().forward(x)

    other = Residual2()
    other.load_state_dict(residual.state_dict())
    other.__class__.__name__ = "Residual"
    same = Residual()
    same.load_state_dict(residual.state_dict())
    assert digest(residual) == digest(same) != digest(other)
    with torch.no_grad():
        same.b.bias[0] += 1e-3
    assert digest(same) != digest(residual)


def _lazy() -> nn.Module:
    with pytest.warns(UserWarning, match="Lazy modules"):
        return nn.Sequential(nn.Flatten(), nn.LazyLinear(3))


REFUSED: dict[str, tuple[Callable[[], Any], Any, str]] = {
    "regression": (Residual, Dataset("r", *[Split(s.images, s.labels[:, None].float()) for s in (blobs(20, 0),) * 3]), "r is regression: attacks and certificates turn the answers of classifiers"),
    "no labels": (Residual, Dataset("n", *[Split(blobs(20, 0).images, torch.zeros(0, dtype=torch.int64))] * 3), "n has no labels"),
    "events": (Residual, Dataset("e", *[Split((s.images > 0.5).to(torch.int8)[:, None], s.labels) for s in (blobs(20, 0),) * 3]), "events cannot be attacked"),
    "another shape": (lambda: Residual(15), data(), r"Residual fails on data, of shape \(8, 1, 4, 4\): mat1 and mat2"),
    "one output": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 1)), data(), "has one output.*return two logits"),
    "too few classes": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 2)), data(), "labels reach 0 .. 2; ANN has classes 0 .. 1"),
    "classes": (lambda: Of(lambda _, y: y.argmax(1)), data(), r"returns torch.int64 of shape \(8,\); logits"),
    "several answers": (lambda: Of(lambda _, y: (y, y)), data(), "returns tuple; logits"),
    "images": (lambda: Of(lambda _, y: y[:, :, None, None]), data(), r"of shape \(8, 3, 1, 1\); logits"),
    "probabilities": (lambda: Of(lambda _, y: y.softmax(1)), data(), "returns probabilities, whose gradients vanish"),
    "not finite": (lambda: Of(lambda _, y: y / 0), data(), "numbers that are not finite"),
    "no gradient": (lambda: Of(lambda _, y: y.detach()), data(), "passes no gradient to its input"),
    "numpy": (lambda: Of(lambda _, y: torch.from_numpy(y.detach().numpy())), data(), "passes no gradient to its input"),
    "dropout that never ends": (lambda: Of(lambda _, y: F.dropout(y + 5)), data(), "answers the same images differently each time"),
    "a memory": (lambda: Of(lambda n, y: y + n.calls), data(), "answers the same images differently each time"),
    "statistics of the batch": (lambda: nn.Sequential(nn.BatchNorm2d(1, track_running_stats=False), nn.Flatten(), nn.Linear(16, 3)), data(), "answers an image differently beside others"),
    "norms of a batch": (lambda: nn.Sequential(nn.Flatten(), nn.Linear(16, 3), AlwaysTraining(3)), data(), "fails on one image alone, of shape"),
    "squeezed": (lambda: Of(lambda _, y: y.squeeze()), data(), r"answers one image alone with shape \(3,\), not \(1, 3\): use flatten"),
    "fewer answers": (lambda: Of(lambda _, y: y[::2]), data(), "gives 4 answers to 8 images"),
    "lazy": (_lazy, data(), "lazy modules without weights"),
    "no network": (lambda: {"weights": 1}, data(), "a dict cannot be attacked: give what `deploy`"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    make, dataset, says = REFUSED[name]
    torch.manual_seed(0)
    model = make()
    with pytest.raises((AnnError, ValueError), match=says):
        spikeship.attack(model, dataset, spikeship.FGSM(0.1))


def test_what_spikes_is_no_ann() -> None:
    import norse.torch as norse

    net = norse.SequentialState(nn.Flatten(), nn.Linear(16, 3), norse.LIFBoxCell())
    with pytest.raises(
        ValueError, match="a torch network with Norse modules, which spikes: no ANN"
    ):
        spikeship.attack(net, data(), spikeship.FGSM(0.1))
    with pytest.raises(ValueError, match="which spikes: no ANN"):
        spikeship.convert(net, data())


@pytest.mark.parametrize(
    ("coding", "says"),
    [
        (Coding.of("poisson", 1, 16), "the one coding it can have is noise, rsc1 in 1 step"),
        (Coding.of("rsc1", 4, 16, 0.1), "coding rsc1 in 4 steps"),
    ],
)
def test_other_codings_are_refused(residual: nn.Module, coding: Coding, says: str) -> None:
    with pytest.raises(ValueError, match=says):
        Subject.of(residual, data(), coding)


MINE = """
import torch
from torch import nn
class Mine(nn.Module):
    def __init__(self):
        super().__init__()
        torch.manual_seed(0)
        self.a, self.b = nn.Linear(16, 16), nn.Linear(16, 3)
    def forward(self, x):
        x = x.flatten(1)
        return self.b(torch.relu(self.a(x)) + x)
def build(): return Mine()
def graph(): return 3
"""


@pytest.mark.slow
def test_on_the_command_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    Path("mine_robust.py").write_text(MINE)
    own = data()
    both = {"train": own.train, "test": own.test}
    arrays = {f"x_{k}": s.images.numpy() for k, s in both.items()}
    arrays |= {f"y_{k}": s.labels.numpy() for k, s in both.items()}
    np.savez("own.npz", **arrays)
    np.save("x.npy", own.test.images.numpy())
    np.save("y.npy", own.test.labels.numpy())
    namespace: dict[str, Any] = {}
    exec(MINE, namespace)
    torch.save(learned(namespace["build"](), own).state_dict(), "w.pt")
    network = ("mine_robust.py:build", "--checkpoint", "w.pt")
    words = ("--data", "own.npz", "--samples", 20)
    names = ("--attack", "pgd", "--attack", "square", "--epsilon", 0.2, "--queries", 20)
    attacked = ok("attack", *network, *words, *names)
    pgd, square = attacked["attacks"]
    assert pgd["clean"]["accuracy"] > 0.9
    assert pgd["after"]["accuracy"] < square["after"]["accuracy"]
    arrays_alone = ok(
        "attack", *network, "--input", "x.npy", "--labels", "y.npy", *words[2:], *names
    )
    assert arrays_alone["attacks"][0]["after"] == pgd["after"]
    noise = ("--coding", "rsc1", "--sigma", 0.2)
    certified = ok("certify", *network, *words, *noise, "--n", 200, "--n0", 20)
    assert certified["summary"]["method"] == "rsc1"
    assert certified["summary"]["accuracy"][0] > 0.5
    short = ("--attack-steps", 2, "--queries", 5, "--draws", 3, "--eot", 1)
    result = call(
        "robustness", *network, *words, *short, "--source", "mine_robust.py:build", "--json"
    )
    assert result.exit_code in (0, 1), result.stderr
    noisy = call("robustness", *network, *words, *noise, *short, "--certify", 40)
    assert noisy.exit_code in (0, 1), noisy.stderr
    assert "certificates, rsc1" in noisy.stdout
    for refused, status, says in (
        (("attack", network[0]), 2, "give either --data or --input"),
        (("attack", *network, *words, "--on", "deployed"), 2, "is an ANN, which has no integers here"),
        (("attack", *network, *words, "--bits", 4), 2, "is an ANN, which has no integers here"),
        (("attack", *network, *words, "--levels", 4), 2, "--coding rsc1 --sigma S adds noise"),
        (("attack", *network, "--input", "x.npy"), 3, "x.npy has no labels: give --labels"),
        (("attack", "mine_robust.py:graph", *words), 3, "returns a int; a torch module is needed"),
        (("attack", "mine_robust.py:none", *words), 3, "has no function none"),
        (("attack", *network, *words, "--coding", "poisson"), 3, "an ANN sees an image once"),
        (("certify", *network, *words), 3, "give it noise, coding rsc1 with a sigma"),
        (("attack", "w.pt", "--checkpoint", "w.pt"), 2, "--checkpoint goes with module:function"),
        (("robustness", *network, "--input", "x.npy", "--labels", "y.npy", *short), 3, "has no training samples, on which a network to transfer from"),
    ):  # fmt: skip
        result = call(*refused)
        assert (result.exit_code, says in " ".join(result.stderr.split())) == (status, True), (
            result.stderr
        )
