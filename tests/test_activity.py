"""A network run layer by layer: the values of Norse, its gradients, and what training may look at."""

from __future__ import annotations

import copy

import norse.torch as norse
import pytest
import torch
from torch import Tensor, nn

from spikeship.models import networks
from spikeship.models.activity import activity
from spikeship.models.networks import SpikingClassifier

SHAPE, CLASSES, STEPS = (2, 6, 6), 4, 7
WIDTHS = {"mlp": (9, 8), "cnn": (3, 5), "vgg": (3, 5)}
Readout = networks.Readout


def network(
    model: str, readout: Readout = "voltage", leak: float = 0.5, learn: bool = False, seed: int = 0
) -> SpikingClassifier:
    """With weights that make it spike, batch norms that have seen something, thresholds that differ."""
    torch.manual_seed(seed)
    options = {"leak": leak, "learn_thresholds": learn}
    net = networks.snn(model, SHAPE, CLASSES, readout, WIDTHS[model], **options).double().eval()
    reach = 1.0 if leak == 1 else 1 - leak**3
    with torch.no_grad():
        for layer in net.modules():
            if isinstance(layer, nn.Linear | nn.Conv2d):
                layer.weight.mul_(6 / reach)
                layer.bias.uniform_(0, 1 / reach)
            if isinstance(layer, nn.BatchNorm2d):
                layer.running_mean.normal_()
                layer.running_var.uniform_(0.5, 1.5)
                layer.weight.uniform_(0.5, 1.5)
                layer.bias.uniform_(0, 1 / reach)
        for threshold in networks.thresholds(net):
            threshold.uniform_(0.4, 1.4)
    return net


def frames(samples: int = 5, steps: int = STEPS, seed: int = 1) -> Tensor:
    draws = torch.Generator().manual_seed(seed)
    return torch.rand((steps, samples, *SHAPE), generator=draws, dtype=torch.float64)


def spikes_by_hooks(net: SpikingClassifier, x: Tensor) -> list[Tensor]:
    """What Norse's cells put out, one frame after the other, (steps, sample, *shape) each."""
    cells = [c for c in net.body if isinstance(c, norse.LIFBoxCell | norse.IAFCell)]
    seen: dict[nn.Module, list[Tensor]] = {cell: [] for cell in cells}
    hooks = [c.register_forward_hook(lambda c, _, out: seen[c].append(out[0])) for c in cells]
    net(x)
    for hook in hooks:
        hook.remove()
    return [torch.stack(seen[cell]) for cell in cells]


@pytest.mark.slow
@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize("readout", ["spikes", "voltage"])
@pytest.mark.parametrize("leak", [0.0, 0.5, 0.9, 1.0])
@pytest.mark.parametrize("learn", [False, True])
def test_values_are_those_of_norse(model: str, readout: Readout, leak: float, learn: bool) -> None:
    net, x = network(model, readout, leak, learn), frames()
    with torch.no_grad():
        found, expected = activity(net, x), spikes_by_hooks(net, x)
        torch.testing.assert_close(found.logits, net(x), rtol=1e-12, atol=1e-12)
    assert len(found.spikes) == len(expected) == len(found.currents)
    for ours, theirs in zip(found.spikes, expected, strict=True):
        assert torch.equal(ours, theirs)
        assert 0.02 < ours.mean() < 0.98, "a layer that is silent, or always speaks, shows nothing"


@pytest.mark.parametrize("leak", [0.3, 1.0])
def test_the_equation(leak: float) -> None:
    """v <- leak v + (1 - leak) i, or v + i; above the threshold a spike and v = 0."""
    net = SpikingClassifier(norse.SequentialState(networks.neurons(leak, True)), "spikes").double()
    with torch.no_grad():
        networks.thresholds(net)[0].fill_(0.7)
    currents = torch.tensor([0.5, 0.9, -0.3, 2.0, 2.5, 0.0, 0.69, 0.02], dtype=torch.float64)
    v, expected = 0.0, []
    for current in currents.tolist():
        v = v + current if leak == 1 else leak * v + (1 - leak) * current
        expected.append(v > 0.7)
        v = 0.0 if v > 0.7 else v
    found = activity(net, currents[:, None, None]).spikes[0].flatten()
    assert found.tolist() == expected
    assert 0 < sum(expected) < len(expected)


@pytest.mark.parametrize("leak", [-0.1, 1.1])
def test_a_leak_is_a_fraction(leak: float) -> None:
    with pytest.raises(ValueError, match=r"a number from 0 .* to 1 .* is needed"):
        networks.neurons(leak)


@pytest.mark.parametrize("model", networks.MODELS)
def test_of_an_ann(model: str) -> None:
    torch.manual_seed(0)
    ann = networks.ann(model, SHAPE, CLASSES, WIDTHS[model]).double().eval()
    seen: list[tuple[Tensor, Tensor]] = []
    for layer in ann:
        if isinstance(layer, nn.ReLU):
            layer.register_forward_hook(lambda _, x, y: seen.append((x[0], y)))
    images = frames()[0]
    found = activity(ann, images)
    expected, seen = ann(images), seen[len(found.spikes) :]
    torch.testing.assert_close(found.logits, expected, rtol=1e-12, atol=1e-12)
    for currents, outputs, (x, y) in zip(found.currents, found.spikes, seen, strict=True):
        torch.testing.assert_close(currents, x[None], rtol=1e-12, atol=1e-12)
        torch.testing.assert_close(outputs, y[None], rtol=1e-12, atol=1e-12)


def gradients(net: SpikingClassifier, x: Tensor, logits: Tensor) -> list[Tensor]:
    weights = torch.linspace(-1, 1, logits.numel(), dtype=torch.float64).reshape(logits.shape)
    loss = (logits * weights).sum()
    return list(torch.autograd.grad(loss, [x, *net.parameters()]))


@pytest.mark.parametrize("model", networks.MODELS)
@pytest.mark.parametrize("readout", ["spikes", "voltage"])
@pytest.mark.parametrize("leak", [0.5, 0.8])
def test_gradients_are_those_of_norse_whose_resets_pass_none(
    model: str, readout: Readout, leak: float
) -> None:
    net, x = network(model, readout, leak), frames().requires_grad_()
    ours = gradients(net, x, activity(net, x).logits)
    with_resets = gradients(net, x, net(x))
    for cell in net.body:
        if isinstance(cell, norse.LIFBoxCell):
            cell.p = cell.p._replace(
                reset_method=lambda z, v, v_reset, _: (
                    (1 - z.detach()) * v + z.detach() * v_reset.detach()
                )
            )
    for a, b in zip(ours, gradients(net, x, net(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)
    assert not torch.allclose(ours[0], with_resets[0], rtol=1e-3)


@pytest.mark.parametrize("readout", ["spikes", "voltage"])
def test_gradients_of_one_step_are_those_of_norse(readout: Readout) -> None:
    """With one step, no reset is ever used; IF neurons."""
    net, x = network("mlp", readout, leak=1.0), frames(steps=1).requires_grad_()
    ours = gradients(net, x, activity(net, x).logits)
    for a, b in zip(ours, gradients(net, x, net(x)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-6)


def test_the_gradient_of_a_threshold() -> None:
    """x = v / threshold - 1, its threshold's slope at the threshold: -surrogate(x) / threshold."""
    net = SpikingClassifier(norse.SequentialState(networks.neurons(1.0, True)), "spikes").double()
    (threshold,) = networks.thresholds(net)
    with torch.no_grad():
        threshold.fill_(0.5)
    currents = torch.tensor([[[0.3, 0.5, 0.9]]], dtype=torch.float64)
    activity(net, currents).logits.sum().backward()
    expected = -sum(1 / (1 + abs(v / 0.5 - 1)) ** 2 / 0.5 for v in (0.3, 0.5, 0.9))
    assert threshold.grad is not None
    assert float(threshold.grad) == pytest.approx(expected)


def statistics(net: nn.Module) -> list[Tensor]:
    return [b for name, b in net.named_buffers() if "running" in name or "tracked" in name]


@pytest.mark.parametrize("model", ["cnn", "vgg"])
@pytest.mark.parametrize("readout", ["spikes", "voltage", "ann"])
def test_batch_norms_in_training_see_one_step_after_the_other(model: str, readout: str) -> None:
    """As in `net(frames)`: the same statistics, of layers whose input differs from step to step."""
    if readout == "ann":
        net: nn.Module = networks.ann(model, SHAPE, CLASSES, WIDTHS[model]).double()
        x, steps = frames()[0], 1
    else:
        net, x, steps = network(model, readout), frames(), STEPS  # type: ignore[arg-type]
    other = copy.deepcopy(net.train())
    torch.testing.assert_close(activity(net, x).logits, other(x), rtol=1e-12, atol=1e-12)
    found, expected = statistics(net), statistics(other)
    assert len(found) == 6, "mean, variance and count of two norms"
    for ours, theirs in zip(found, expected, strict=True):
        assert torch.equal(ours, theirs)
        if not ours.ndim:
            assert ours == steps


def test_batch_norms_over_steps_see_all_steps_as_one_batch() -> None:
    net, x = network("cnn"), frames()
    conv, norm = net.body[0], net.body[1]
    norm.reset_running_stats()
    net.train()
    found = activity(net, x, norms_over_steps=True).currents[0]
    inputs = conv(x.flatten(0, 1))
    mean, variance = inputs.mean((0, 2, 3)), inputs.var((0, 2, 3), correction=0)

    def per_channel(values: Tensor) -> Tensor:
        return values[:, None, None]

    normed = (inputs - per_channel(mean)) / per_channel(variance + norm.eps).sqrt()
    expected = normed * per_channel(norm.weight) + per_channel(norm.bias)
    torch.testing.assert_close(found.flatten(0, 1), expected)
    assert int(norm.num_batches_tracked) == 1
    torch.testing.assert_close(norm.running_mean, 0.1 * mean)


def test_activation_is_the_relu_network_with_the_same_weights() -> None:
    net, x = network("mlp", leak=1.0, learn=True), frames()
    first, second = networks.thresholds(net)
    _, a, _, b, _, c, _ = net.body
    hidden = torch.relu(b(torch.relu(a(x.flatten(2)) / first)) / second)
    found = activity(net, x, "activation")
    torch.testing.assert_close(found.spikes[1], hidden)
    weights = (
        1 - 0.5 ** torch.arange(STEPS, 0, -1).double()
    )  # v <- (v + i) / 2, mean over the steps
    expected = (c(hidden) * weights[:, None, None]).sum(0) / STEPS
    torch.testing.assert_close(found.logits, expected)


def test_layers_that_it_does_not_know() -> None:
    net = SpikingClassifier(norse.SequentialState(nn.Flatten(), norse.LIFCell()), "spikes")
    with pytest.raises(ValueError, match="a LIFCell cannot be run layer by layer; networks of"):
        activity(net, frames())
