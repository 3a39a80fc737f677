"""How gradients pass spikes: every rule, on float networks and on their integers."""

from __future__ import annotations

import itertools
import math
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from spikeship.hw_targets.network.layers import Dense
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.models import networks, training
from spikeship.models.activity import activity
from spikeship.models.data.load import load
from spikeship.models.encoding import generator
from spikeship.models.networks import SpikingClassifier
from spikeship.models.settings import Settings
from spikeship.models.surrogates import FEW_MODES, MODES, Surrogate
from spikeship.pipeline.deploy.run import run_recipe
from spikeship.pipeline.robustness.attacks.attack import expected
from spikeship.pipeline.robustness.victims import DeployedVictim, FloatVictim
from spikeship.pipeline.twin.twin import Twin

STEPS = 6

PUBLISHED: dict[str, Callable[[float], float]] = {
    "triangle 1": lambda x: max(0.0, 1 - abs(x)),
    "triangle 2": lambda x: max(0.0, 2 - abs(x)) / 4,
    "triangle 3": lambda x: max(0.0, 3 - abs(x)) / 9,
    "triangle 0.5": lambda x: max(0.0, 0.5 - abs(x)) / 0.25,
    "triangle 0.25": lambda x: max(0.0, 0.25 - abs(x)) / 0.0625,
    "damped exponential 0.5": lambda x: 0.3 * math.exp(-0.5 * abs(x)),
    "damped exponential 1": lambda x: 0.3 * math.exp(-abs(x)),
    "damped exponential 2": lambda x: 0.3 * math.exp(-2 * abs(x)),
    "exponential 0.5": lambda x: math.exp(-0.5 * abs(x)),
    "exponential 1": lambda x: math.exp(-abs(x)),
    "exponential 2": lambda x: math.exp(-2 * abs(x)),
    "rectangle 0.25": lambda x: 4.0 if abs(x) < 0.125 else 0.0,
    "rectangle 0.5": lambda x: 2.0 if abs(x) < 0.25 else 0.0,
    "rectangle 1": lambda x: 1.0 if abs(x) < 0.5 else 0.0,
    "rectangle 2": lambda x: 0.5 if abs(x) < 1 else 0.0,
    "rectangle 4": lambda x: 0.25 if abs(x) < 2 else 0.0,
    "straight-through": lambda x: 1.0,
    "sigmoid 4": lambda x: 4 / (1 + math.exp(-4 * x)) * (1 - 1 / (1 + math.exp(-4 * x))),
    "arctan 2": lambda x: 1 / (1 + (math.pi * x) ** 2),
}
POINTWISE = {n: r for n, r in {**MODES, **FEW_MODES}.items() if not isinstance(r, str)}


def test_the_modes_are_those_published() -> None:
    assert len(MODES) == 19
    assert len(FEW_MODES) == 4
    assert {**MODES, **FEW_MODES}.keys() == {*PUBLISHED, "rate", "activation"}
    assert (MODES["rate"], MODES["activation"]) == ("rate", "activation")


@pytest.mark.parametrize("name", POINTWISE)
@pytest.mark.parametrize("threshold", [0.4, 1.0])
def test_slopes_of_the_float_neuron(name: str, threshold: float) -> None:
    """One step, leak 1/2: d spike / d input = surrogate(v / threshold - 1) / threshold / 2."""
    net = SpikingClassifier(nn.Sequential(networks.neurons(0.5, True)), "spikes")
    networks.thresholds(net)[0].data.fill_(threshold)
    for x in (-1.2, -0.6, -0.2, -0.1, 0.0, 0.05, 0.3, 0.7, 2.6):
        current = torch.full((1, 1, 1), 2 * threshold * (1 + x), requires_grad=True)
        activity(net, current, POINTWISE[name]).logits.sum().backward()
        expected = PUBLISHED[name](x) / threshold / 2
        assert current.grad is not None
        assert current.grad.item() == pytest.approx(expected, rel=1e-4, abs=1e-6), x


@pytest.mark.parametrize("name", POINTWISE)
def test_slopes_of_the_integer_neuron(name: str) -> None:
    """v = 64 m against 64 threshold: d spike / d message = surrogate(v / threshold - 1) / threshold."""
    network = Network([Dense([[1]], None, CubaLIF(4096, 4096, 1000))])
    twin = Twin(network)
    twin.gradient = POINTWISE[name]
    for v in (-200, 400, 801, 900, 1000, 1051, 1300, 1701, 3600):
        message = torch.full((1, 1, 1), float(v), dtype=torch.float64, requires_grad=True)
        padded = torch.cat([message, torch.zeros_like(message)], 1)  # it arrives a step later
        (spikes,) = twin(padded).spikes
        assert spikes is not None
        spikes.sum().backward()
        assert message.grad is not None
        expected = PUBLISHED[name](v / 1000 - 1) / 1000
        assert message.grad.item() == pytest.approx(expected, rel=1e-5, abs=1e-9), v


class Watched:
    """A rule that counts its calls, forward by (layer, step) and backward."""

    def __init__(self) -> None:
        self.asked: Counter[tuple[int, int]] = Counter()
        self.called: Counter[tuple[int, int]] = Counter()

    def at(self, layer: int, step: int) -> Surrogate:
        self.asked[layer, step] += 1

        def slope(x: Tensor) -> Tensor:
            self.called[layer, step] += 1
            return torch.ones_like(x)

        return slope


def deep(layers: int = 3, **recipe: Any) -> Network:
    """Random integers that spike at a good rate."""
    rng = np.random.default_rng(4)
    shape = [9, *[8] * (layers - 1), 5]
    options = {"steps": STEPS, "levels": 16, "message_bits": 8, "reset_interval": STEPS}
    return Network(
        [
            Dense(
                2 * rng.integers(-60, 90, (b, a)),
                2 * rng.integers(-50, 60, b),
                CubaLIF(4096, 2048, 150 if i else 3000),
            )
            for i, (a, b) in enumerate(itertools.pairwise(shape))
        ],
        Recipe.from_attributes(options | {"reset_offset": 1, "output_unit": 700.0} | recipe),
    )


def messages(samples: int = 7) -> Tensor:
    rng = np.random.default_rng(5)
    return torch.as_tensor(rng.integers(0, 17, (samples, STEPS, 9)), dtype=torch.float64)


def test_steps_and_layers_that_a_rule_is_asked_for() -> None:
    """Each once in every backward pass, and the steps are the data's."""
    every = {(layer, step): 1 for layer in range(3) for step in range(STEPS)}
    torch.manual_seed(0)
    rule, x = Watched(), torch.rand((STEPS, 7, 9), requires_grad=True)
    net = networks.snn("mlp", (9,), 5, "spikes", (8, 8))
    activity(net, x, rule).logits.sum().backward()
    assert rule.asked == rule.called == every
    rule, at = Watched(), messages().requires_grad_()
    twin = Twin(deep(), trainable=())
    twin.gradient = rule
    twin.run_recipe(at).spikes[-1].sum().backward()
    assert rule.asked == rule.called == every


def test_layers_that_wait_for_each_other_count_the_steps_they_run() -> None:
    network = deep(reset_interval=None, reset_offset=0)
    rule, x = Watched(), messages().requires_grad_()
    twin = Twin(network, trainable=())
    twin.gradient = rule
    twin.run_recipe(x).spikes[-1].sum().backward()
    assert {layer for layer, _ in rule.asked} == {0, 1, 2}
    assert {step for _, step in rule.asked} == set(range(STEPS + network.latency))
    assert set(rule.called.values()) == {1}


@pytest.mark.parametrize("name", MODES)
@pytest.mark.parametrize("waiting", [False, True], ids=["aligned", "waiting"])
def test_the_forward_pass_of_the_integers_stays_exact(name: str, waiting: bool) -> None:
    network = deep(**({"reset_interval": None, "reset_offset": 0} if waiting else {}))
    whole = run_recipe(network, messages().numpy().astype(np.int32), record=("spikes", "v"))
    assert whole.spikes is not None
    assert all(0.05 < s.mean() < 0.95 for s in whole.spikes)
    twin = Twin(network, trainable=())
    twin.gradient = MODES[name]
    x = messages().requires_grad_()
    found = twin.run_recipe(x, record="spikes").spikes
    same = [
        bool((ours.detach().numpy() == theirs).all())
        for ours, theirs in zip(found, whole.spikes, strict=True)
        if ours is not None
    ]
    assert same == ([False] * 3 if name == "activation" else [True] * 3)
    found[-1].sum().backward()
    assert x.grad is not None
    assert x.grad.abs().sum() > 0


@pytest.mark.parametrize("name", MODES)
def test_the_forward_pass_of_the_float_network_stays_the_same(name: str) -> None:
    torch.manual_seed(0)
    net = networks.snn("mlp", (9,), 5, "spikes", (20, 20))
    x = 6 * torch.rand((STEPS, 7, 9))
    with torch.no_grad():
        found, expected = activity(net, x, MODES[name]), activity(net, x)
    same = [torch.equal(a, b) for a, b in zip(found.spikes, expected.spikes, strict=True)]
    assert same == [name != "activation"] * 3


# -- rates and activations -----------------------------------------------------------------------


def dead_and_alive() -> tuple[Tensor, Tensor]:
    """Weights (4, 3) of neurons of which the last two never spike, and frames (steps, 2, 3)."""
    weight = torch.tensor([[0.9, 0.8, 0.3], [0.7, -0.1, 0.9], [0.1, 0.0, 0.1], [-1.0, -0.5, -1.0]])
    return weight.double(), torch.ones((STEPS, 2, 3), dtype=torch.float64)


@pytest.mark.parametrize("leak", [0.5, 1.0])
@pytest.mark.parametrize("threshold", [0.5, 1.0])
def test_rates_of_a_float_layer(leak: float, threshold: float) -> None:
    """d L / d I(t) = [rate > 0] / threshold * mean of d L / d s: with L = sum c_t s(t), W' [..] mean(c)."""
    weight, x = dead_and_alive()
    linear = nn.Linear(3, 4, bias=False).double()
    linear.weight.data = 1.2 * threshold * weight
    cell = networks.neurons(leak, True)
    body = SpikingClassifier(nn.Sequential(linear, cell).double(), "spikes")
    networks.thresholds(body)[0].data.fill_(threshold)
    c = torch.rand((STEPS, 2, 4), generator=generator(0), dtype=torch.float64)
    x.requires_grad_()
    (spikes,) = activity(body, x, "rate").spikes
    mask = spikes.detach().mean(0) > 0
    assert mask[0].tolist() == (
        [True, True, False, False] if leak < 1 else [True, True, True, False]
    )
    (spikes * c).sum().backward()
    expected = (c.mean(0) * mask / threshold) @ linear.weight.detach()
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected.expand_as(x))


@pytest.mark.parametrize(("i_decay", "v_decay"), [(4096, 2048), (4096, 4096), (1024, 2048)])
def test_rates_of_an_integer_layer(i_decay: int, v_decay: int) -> None:
    """As of the float one, with v at rest for I: 4096 / i_decay * 4096 / v_decay * sums."""
    weight, x = dead_and_alive()
    whole = 2 * torch.round(60 * weight)
    gain = 4096 / i_decay * 4096 / v_decay
    threshold = int(100 * gain)
    network = Network(
        [Dense(whole.numpy().astype(int), None, CubaLIF(i_decay, v_decay, threshold))]
    )
    steps = 4 * STEPS
    x = x[0, :, None].repeat(1, steps, 1).requires_grad_()
    twin = Twin(network, trainable=())
    twin.gradient = "rate"
    (spikes,) = twin(x).spikes
    assert spikes is not None
    c = torch.rand((2, steps, 4), generator=generator(0))
    mask = spikes.detach().mean(1) > 0
    assert mask[0].tolist() == [True, True, False, False]
    (spikes * c).sum().backward()
    expected = (c.mean(1) * mask).double() * gain / threshold @ whole
    assert x.grad is not None
    torch.testing.assert_close(x.grad, expected[:, None].expand_as(x), rtol=1e-6, atol=0)


def test_activation_is_the_relu_network() -> None:
    torch.manual_seed(1)
    net = networks.snn("mlp", (9,), 5, "spikes", (20,)).double()
    _, first, _, second, _ = net.body.children()
    x = torch.rand((7, 9), dtype=torch.float64).requires_grad_()
    found = activity(net, x.expand(STEPS, 7, 9), "activation").logits / STEPS
    expected = torch.relu(second(torch.relu(first(x))))
    torch.testing.assert_close(found, expected)
    ours, theirs = (torch.autograd.grad(out.sum(), x)[0] for out in (found, expected))
    torch.testing.assert_close(ours, theirs)


def test_activation_of_integers_is_the_relu_network() -> None:
    """Without decay of current and voltage v at rest is the sum: relu((W m + b) / threshold)."""
    network = deep(2)
    twin = Twin(network, trainable=())
    twin.gradient = "activation"
    x = messages().requires_grad_()
    (*_, found) = twin.run_recipe(x).spikes
    expected = x
    for layer in network.layers:
        weight, bias = (
            torch.as_tensor(layer.weight.astype(float)),
            torch.as_tensor(layer.bias * 1.0),
        )
        expected = torch.relu(
            2 * (expected @ weight.T + bias) / float(np.max(layer.neuron.threshold))
        )
    assert found is not None
    torch.testing.assert_close(found.double(), expected, rtol=1e-5, atol=1e-5)


# -- one trained network, float and deployed -----------------------------------------------------


@pytest.fixture(scope="module")
def pair(
    tmp_path_factory: pytest.TempPathFactory,
) -> tuple[FloatVictim, DeployedVictim, Tensor, Tensor]:
    """A little digits network, its 8 bit integers, and test images with their labels."""
    data = load("digits")
    settings = Settings.of(
        coding="direct", sigma=0.0, levels=64, epochs=4, widths=(48,), readout="voltage"
    )
    folder: Path = tmp_path_factory.mktemp("digits")
    classifier, _ = training.train(settings, data, folder, progress=False)
    images, _ = data.train[list(range(128))]
    deployed = DeployedVictim.quantized(classifier, images)
    return FloatVictim(classifier), deployed, *data.test[list(range(50))]


@pytest.mark.slow
def test_the_pair_is_one_network(
    pair: tuple[FloatVictim, DeployedVictim, Tensor, Tensor],
) -> None:
    ours, deployed, images, labels = pair
    right = [(v.answers(images, generator(0)) == labels.numpy()).mean() for v in (ours, deployed)]
    assert min(right) > 0.85
    logits = deployed.logits(images, generator(0)).argmax(1).numpy()
    assert (logits == deployed.answers(images, generator(0))).all()


@pytest.mark.slow
@pytest.mark.parametrize("name", MODES)
def test_input_gradients_of_float_and_integers_agree(
    pair: tuple[FloatVictim, DeployedVictim, Tensor, Tensor], name: str
) -> None:
    def true_class(logits: Tensor, labels: Tensor) -> Tensor:
        return -logits.gather(1, labels[:, None])[:, 0]

    float_victim, deployed, images, labels = pair
    slopes = [
        expected(
            victim, images, labels, generator(0), gradient=MODES[name], loss=true_class
        ).gradient.flatten(1)
        for victim in (float_victim, deployed)
    ]
    assert all(slope.abs().sum() > 0 for slope in slopes)
    assert torch.cosine_similarity(*slopes, dim=1).median() > 0.9
