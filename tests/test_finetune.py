"""Fine-tuning: better integers, never worse ones, the same again after an interruption."""

from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import nir
import norse.torch as norse
import numpy as np
import pytest
import torch
from norse.torch.functional.leaky_integrator_box import LIBoxParameters
from torch import nn

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Dense
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.models import networks
from spikeship.models.data.dataset import Dataset, Split
from spikeship.models.data.load import load
from spikeship.pipeline.deploy.deployed import Deployed
from spikeship.pipeline.deploy.run import classify, encoded, run_recipe
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_norse
from spikeship.pipeline.lower import lower
from spikeship.pipeline.quantize import Quantized, quantize
from spikeship.pipeline.twin import Tuning, Twin, finetune
from spikeship.pipeline.twin import tuning as module

QUICK = Tuning(epochs=2, layer_epochs=1, batch=32, learning_rate=0.05)


@pytest.fixture(scope="module")
def few_digits() -> Dataset:
    whole = load("digits")
    images, labels = whole.train[list(range(320))]
    return replace(whole, train=Split(images, labels))


@dataclass(frozen=True)
class Trained:
    """A float network and its quantizations: at 8 bits, and at 2 with weights cut toward zero."""

    graph: nir.NIRGraph
    fine: Quantized
    coarse: Quantized


@pytest.fixture(scope="module", params=["spike count", "mean voltage"])
def quantized_twice(request: Any, few_digits: Dataset) -> Trained:
    torch.manual_seed(0)
    readout = "spikes" if request.param == "spike count" else "voltage"
    net = networks.snn("mlp", few_digits.shape, few_digits.classes, readout, (24,))
    optimizer = torch.optim.Adam(net.parameters(), 0.02)
    frames = few_digits.train.images[:, None].expand(-1, 6, -1, -1, -1).transpose(0, 1)
    for _ in range(40):
        optimizer.zero_grad()
        logits = module.LOGIT_SCALE[readout] * net(frames)
        nn.functional.cross_entropy(logits, few_digits.train.labels).backward()
        optimizer.step()
    graph = from_norse(net.eval(), few_digits.shape)
    recipe = Recipe(
        Coding("rsc1", 6, levels=16, sigma=0.1, message_bits=8),
        reset_interval=6,
        reset_offset=1,
        decode=request.param,
    )
    calibration = np.concatenate([x for x, _ in encoded(recipe, few_digits.train, 64)])
    fine = quantize(graph, calibration, recipe)
    real = [replace(r, bits=2, step=128) for r in fine.real]
    layers = list(fine.network.layers)
    places = [layers.index(p.layer) for p in fine.network.populations]
    for i, numbers in zip(places, real, strict=True):
        cut = 128 * np.clip(np.trunc(numbers.weight / 128), -2, 1)
        layers[i] = replace(layers[i], weight=cut)
    coarse = replace(fine, network=Network(layers, recipe), real=tuple(real))
    return Trained(graph, fine, coarse)


only_spikes = pytest.mark.parametrize("quantized_twice", ["spike count"], indirect=True)


def accuracy(network: Network, split: Split) -> float:
    return classify(Deployed(network), split).accuracy


@pytest.mark.slow
@pytest.mark.parametrize("objective", ["labels", "teacher"])
def test_two_bits_recover(quantized_twice: Trained, few_digits: Dataset, objective: Any) -> None:
    start = quantized_twice.coarse
    tuning = replace(QUICK, epochs=6, objective=objective)
    said: list[str] = []
    tuned = finetune(start, few_digits, tuning, graph=quantized_twice.graph, progress=said.append)
    eight = accuracy(quantized_twice.fine.network, few_digits.validation)
    assert tuned.before == accuracy(start.network, few_digits.validation) < eight - 0.2
    assert tuned.after == accuracy(tuned.network, few_digits.validation) > eight - 0.1
    assert tuned.after == max(tuned.history)
    assert len(tuned.history) == 1 + 2 + 6
    assert len(tuned.losses) == len(said) == 2 + 6
    assert said[0].startswith("2:dense, epoch 1 of 1: loss")
    assert said[-1].startswith("all layers, epoch 6 of 6: loss")
    weights = [layer.weight for layer in tuned.network.layers if hasattr(layer, "weight")]
    weights = [w for w in weights if w is not None]
    assert {int(v) for w in weights for v in w.flat} <= {-256, -128, 0, 128}
    again = Twin(tuned.network, tuned.real)
    assert again.network() == tuned.network


@only_spikes
def test_never_worse_than_the_start(quantized_twice: Trained, few_digits: Dataset) -> None:
    """A learning rate that destroys everything changes nothing."""
    start = quantized_twice.fine
    tuned = finetune(start, few_digits, Tuning(epochs=2, batch=64, learning_rate=300.0))
    assert min(tuned.history) < tuned.before == tuned.after
    assert tuned.network == start.network


@pytest.mark.slow
def test_a_network_alone_is_enough(quantized_twice: Trained, few_digits: Dataset) -> None:
    start = quantized_twice.coarse
    recipe = replace(start.network.recipe, output_unit=start.losses[-1].unit)
    network = Network(start.network.layers, recipe)
    tuned = finetune(network, few_digits, Tuning(epochs=3, batch=32, learning_rate=1.0))
    assert tuned.after > tuned.before + 0.1
    assert tuned.network.recipe == recipe


@only_spikes
def test_what_netx_cannot_hold_is_no_candidate(
    quantized_twice: Trained, few_digits: Dataset
) -> None:
    lesson = module._Lesson(
        QUICK, quantized_twice.fine.network.recipe, 1.0, None, torch.device("cpu")
    )
    assert lesson.judge(quantized_twice.fine.network, few_digits.validation)[0] > 0.8
    silent = [
        replace(x, weight=x.weight * 0) if isinstance(x, Dense) else x
        for x in quantized_twice.fine.network.layers
    ]
    network = Network(silent, quantized_twice.fine.network.recipe)
    assert lesson.judge(network, few_digits.validation) == (0.0, -np.inf)


@pytest.mark.slow
@only_spikes
def test_same_tuning_same_integers(
    quantized_twice: Trained, few_digits: Dataset, tmp_path: Path
) -> None:
    start = quantized_twice.coarse
    one, other = (finetune(start, few_digits, QUICK, graph=quantized_twice.graph) for _ in range(2))
    assert one.network == other.network
    assert one.losses == other.losses
    different = finetune(start, few_digits, replace(QUICK, seed=1), graph=quantized_twice.graph)
    assert different.losses != one.losses


@only_spikes
@pytest.mark.slow
def test_an_interrupted_run_goes_on(
    quantized_twice: Trained, few_digits: Dataset, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    start, graph = quantized_twice.coarse, quantized_twice.graph
    whole = finetune(start, few_digits, QUICK, graph=graph)
    calls = []
    loss = module._Lesson.loss

    def interrupt(self: Any, *args: Any) -> torch.Tensor:
        calls.append(args[-1])
        if len(calls) in (5, 27, 44):  # in the first layer, the second one, the last epoch
            raise KeyboardInterrupt
        return loss(self, *args)

    monkeypatch.setattr(module._Lesson, "loss", interrupt)
    for _ in range(3):
        with pytest.raises(KeyboardInterrupt):
            finetune(start, few_digits, QUICK, graph=graph, folder=tmp_path)
    found = finetune(start, few_digits, QUICK, graph=graph, folder=tmp_path)
    assert (found.network, found.history, found.losses) == (
        whole.network,
        whole.history,
        whole.losses,
    )
    done = len(calls)
    assert finetune(start, few_digits, QUICK, graph=graph, folder=tmp_path).network == whole.network
    assert len(calls) == done  # a finished run is loaded
    assert [path.name for path in tmp_path.iterdir()] == ["finetune.ckpt"]
    for changed in (replace(QUICK, seed=2), replace(QUICK, learning_rate=0.01)):
        before = len(calls)
        finetune(start, few_digits, changed, graph=graph, folder=tmp_path)
        assert len(calls) > before
    other = replace(start, real=tuple(replace(r, weight=r.weight * 0.99) for r in start.real))
    before = len(calls)
    finetune(other, few_digits, changed, graph=graph, folder=tmp_path)
    assert len(calls) > before


@pytest.mark.slow
@only_spikes
def test_layer_epochs_bring_a_layer_nearer_to_the_float_one(
    quantized_twice: Trained, few_digits: Dataset
) -> None:
    graph, recipe = quantized_twice.graph, quantized_twice.fine.network.recipe
    start = quantized_twice.coarse
    tuned = finetune(start, few_digits, Tuning(0, 6, batch=32), graph=graph)
    messages, _ = next(encoded(recipe, few_digits.test, 200))
    target = execute(lower(graph), messages / recipe.coding.levels)
    apart = [
        float(np.mean(run_recipe(network, messages).spikes[0] != target.spikes[0]))
        for network in (start.network, tuned.network)
    ]
    assert apart[1] < 0.6 * apart[0]
    assert tuned.after > tuned.before


def test_layers_learn_one_at_a_time(quantized_twice: Trained, few_digits: Dataset) -> None:
    start = quantized_twice.coarse
    twin = Twin(start.network, start.real)
    optimizer = module._optimizer(twin, 1, 0.5)
    assert [p.requires_grad for p in twin.layers[0].parameters()] == [False] * 5
    rates = {id(g["params"][0]): g["highest"] for g in optimizer.param_groups}
    layer = twin.layers[1]
    assert rates[id(layer.weight)] == 0.5 * layer.step == 64
    assert id(layer.v_decay) not in rates
    if not layer.fixed_threshold:
        assert rates[id(layer.threshold)] == pytest.approx(0.025 * layer.threshold.mean().item())


def test_what_is_missing_is_named(quantized_twice: Trained, few_digits: Dataset) -> None:
    start = quantized_twice.coarse
    for tuning in (Tuning(layer_epochs=1), Tuning(objective="teacher")):
        with pytest.raises(ValueError, match="need the float network: give `graph`"):
            finetune(start, few_digits, tuning)
    with pytest.raises(ValueError, match="this file has no recipe"):
        finetune(Network(start.network.layers), few_digits)


def test_voltage_readouts_imitate_up_to_a_factor() -> None:
    model = norse.SequentialState(
        nn.Flatten(), nn.Linear(4, 3), norse.LIBoxCell(LIBoxParameters(torch.tensor(500.0)))
    )
    graph = lower(from_norse(model, (1, 2, 2)))
    frames = np.random.default_rng(0).random((5, 6, 1, 2, 2))
    target = execute(graph, frames)
    v = torch.as_tensor(target.voltage[0]) * 7000
    trace = module.TwinTrace((torch.zeros_like(v),), (None,), (v,), (None,), (False,))
    assert module._imitation(trace, target, 0) == pytest.approx(0, abs=1e-10)
    worse = module.TwinTrace((torch.zeros_like(v),), (None,), (v.flip(0),), (None,), (False,))
    assert module._imitation(worse, target, 0) > 0.01
