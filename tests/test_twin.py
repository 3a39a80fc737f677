"""The twin: every integer of the engine in torch, and gradients that are what its docstring says."""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch

from spikeship.benchmarks import _fuzz_checks
from spikeship.benchmarks._fuzz_checks import difference
from spikeship.hw_targets.network.layers import Conv, Dense, Flatten, Input
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import (
    CubaLIF,
    Delta,
    NetworkError,
    ResonateFire,
    Sigma,
    SigmaDelta,
)
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate.engine import simulate
from spikeship.hw_targets.simulate.trace import Trace
from spikeship.models.surrogates import SURROGATES
from spikeship.pipeline.deploy.run import run_recipe
from spikeship.pipeline.quantize import RealLayer
from spikeship.pipeline.twin.layer import PARAMETERS, _exact_type
from spikeship.pipeline.twin.twin import Twin, real_layers

import kinds

RNG = np.random.default_rng


def tensor(array: Any, device: str = "cpu") -> torch.Tensor:
    return torch.as_tensor(np.asarray(array), dtype=torch.float64, device=device)


def twin_simulate(network: Network, inputs: Any, *args: Any, **options: Any) -> Trace:
    with torch.no_grad():
        return Twin(network)(tensor(inputs), *args, **options).numpy()


def assert_equal(network: Network, found: Trace, expected: Trace, where: str = "") -> None:
    assert difference(network, found, expected) is None, where


# -- forward -------------------------------------------------------------------------------------


@pytest.mark.slow
@kinds.every_kind
def test_equals_the_engine_on_the_parity_table(kind: Callable[..., Any]) -> None:
    for seed in range(kinds.SEEDS):
        example = kinds.case(kind, seed)
        found, expected = kinds.run(twin_simulate, example), kinds.run(simulate, example)
        assert_equal(example.network, found, expected, f"seed {seed}")


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_equals_the_engine_on_cuda() -> None:
    def on_device(network: Network, inputs: Any, *args: Any, **options: Any) -> Trace:
        return Twin(network).cuda()(tensor(inputs, "cuda"), *args, **options).numpy()

    for kind in kinds.KINDS:
        for seed in range(kinds.SEEDS):
            example = kinds.case(kind, seed)
            found, expected = kinds.run(on_device, example), kinds.run(simulate, example)
            assert_equal(example.network, found, expected, f"{kind.__name__}, seed {seed}")
    net = cnn()
    messages = graded_input(net, 64)
    trace = Twin(net).cuda().run_recipe(tensor(messages, "cuda"), record=everything(net))
    assert all(
        (a == b).all()
        for a, b in zip(trace.numpy().v, run_recipe(net, messages, record="v").v, strict=True)
    )


def even(rng: Any, spread: float, *shape: int) -> np.ndarray:
    return 2 * np.clip(np.round(rng.normal(0, spread / 2, shape)), -128, 127)


def cnn(decode: Any = "spike count", threshold: int = 1500, **recipe: Any) -> Network:
    rng = RNG(1)
    last = CubaLIF(4096, 300, 131071 if decode != "spike count" else 700)
    layers = [
        Input((2, 12, 12)),
        Conv(
            even(rng, 60, 6, 2, 3, 3), even(rng, 300, 6), CubaLIF(4096, 2048, threshold), padding=1
        ),
        Conv(
            even(rng, 60, 8, 3, 4, 4), even(rng, 60, 8), CubaLIF(1500, 900, 600), (2, 2), groups=2
        ),
        Flatten(),
        Dense(even(rng, 60, 5, 200), even(rng, 60, 5), last),
    ]
    options = {"steps": 7, "levels": 16, "message_bits": 8, "reset_interval": 7, "reset_offset": 1}
    run = Recipe.from_attributes({**options, **recipe, "decode": decode, "output_unit": 700.0})
    return Network(layers, run)


def graded_input(network: Network, samples: int = 6, seed: int = 0) -> np.ndarray:
    shape = (samples, network.recipe.coding.steps, *network.input_shape)
    return RNG(seed).integers(-40, 60, shape)


def everything(network: Network) -> tuple[str, ...]:
    return tuple(name for name in _fuzz_checks.everything(network) if name != "counts")


def with_layers(network: Network, *layers: Any) -> Network:
    return Network(layers, network.recipe)


def hasty(**second: Any) -> Network:
    """Biases make the first layer spike before its data, which the second must hear of."""
    rng = RNG(2)
    bias = rng.integers(-3000, 3000, 9)
    first = Dense(even(rng, 60, 9, 6), bias, CubaLIF(700, 900, 1500))
    neuron = CubaLIF(3000, 900, 300)
    return with_layers(
        cnn(), first, Dense(even(rng, 60, 4, 9), [310, -90, 0, 400], neuron, **second)
    )


def recurrent() -> Network:
    return hasty(recurrent=even(RNG(3), 90, 4, 4))


def delayed() -> Network:
    return hasty(delay=2)


def sigma_delta() -> Network:
    rng = RNG(4)
    hidden = Dense(even(rng, 60, 9, 6), even(rng, 300, 9), SigmaDelta(20))
    return with_layers(
        cnn(), Input((6,), Delta(3)), hidden, Dense(even(rng, 60, 4, 9), None, Sigma())
    )


def resonators() -> Network:
    rng = RNG(5)
    parts = {"weight": even(rng, 60, 6, 6), "imaginary": even(rng, 60, 6, 6)}
    first = Dense(neuron=ResonateFire(1500, 3500, 200), **parts)
    second = Dense(neuron=ResonateFire(1500, 3500, 20, "RF_IZHIKEVICH"), **parts)
    return with_layers(cnn(), first, second)


NETWORKS: dict[str, Callable[[], Network]] = {
    "cnn": cnn,
    "cnn, voltage": lambda: cnn("mean voltage"),
    "cnn, binary input": lambda: cnn(threshold=150, message_bits=0),
    "cnn, no reset": lambda: cnn(reset_interval=None, reset_offset=0),
    "cnn, resets within the sample": lambda: cnn(reset_interval=4),
    "cnn, resets seldom": lambda: cnn(reset_interval=20),
    "cnn, resets late": lambda: cnn(reset_offset=3),
    "recurrent": recurrent,
    "delayed": delayed,
    "sigma-delta": sigma_delta,
    "resonators": resonators,
}
every_network = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


@every_network
def test_run_recipe_equals_that_of_the_engine(network: Callable[[], Network]) -> None:
    net = network()
    messages = graded_input(net)
    if net.recipe is not None and net.recipe.coding.message_bits == 0:
        messages = (messages != 0).astype(messages.dtype)
    record = everything(net)
    with torch.no_grad():
        found = Twin(net).run_recipe(tensor(messages), record=record).numpy()
    expected = run_recipe(net, messages, record=record)
    assert sum(int(np.count_nonzero(s)) for s in expected.spikes) > 20
    found = replace(found, counts=None)  # of the whole run, which aligned traces do not have
    for name in ("spikes", "u", "v", "residue"):
        theirs, ours = getattr(expected, name), getattr(found, name)
        assert (theirs is None) == (ours is None)
        for i in theirs.populations if theirs is not None else ():
            assert (ours[i] == theirs[i]).all(), f"{name} of {i}"


def test_coarse_matrix_products_are_not_used() -> None:
    """TF32 and bfloat16, where torch may use them, hold 11 and 8 bits."""
    before = torch.get_float32_matmul_precision()
    assert _exact_type(2.0**24 - 1) is torch.float32
    torch.set_float32_matmul_precision("medium")
    try:
        assert _exact_type(1) is torch.float64
        net = cnn()
        options = {"record": (*everything(net), "counts"), "timing": Timing(9)}
        x = graded_input(net)
        assert_equal(net, twin_simulate(net, x, **options), simulate(net, x, **options))
    finally:
        torch.set_float32_matmul_precision(before)


def test_float32_sums_are_exact_up_to_their_bound() -> None:
    """Sums just below 2^24 that lose their last bit in float32 when they go beyond."""
    for size, inputs in ((256, 252), (256, 300)):
        weight = np.full((2, 260), 254)
        weight[:, ::7] = -253
        network = Network([Dense(weight, None, CubaLIF(4096, 4096, 131071))])
        x = np.full((1, 3, 260), inputs)
        x[:, :, size:] = 1
        assert_equal(
            network,
            twin_simulate(network, x, record=("u", "spikes", "counts", "v")),
            simulate(network, x, record=("u", "spikes", "counts", "v")),
        )


CORNERS: dict[str, tuple[Network, Any]] = {
    "a recurrence alone drives u beyond 24 bit": (
        Network(
            [Dense(np.full((40, 2), 2), [9] * 40, CubaLIF(0, 4096, 3), np.full((40, 40), 254))]
        ),
        np.ones((2, 30, 2)),
    ),
    "weights that Lava halves": (
        Network([Dense([[40, 3]] * 2, None, CubaLIF(99, 9, 5), [[-128, -3], [-1, -128]])]),
        RNG(0).integers(0, 2, (9, 20, 2)),
    ),
    "delayed products beyond 32 bit": (
        Network([Dense([[3, 1, 2]], None, SigmaDelta(0), delay=[[0, 1, 0]])]),
        RNG(0).integers(1 << 23, 1 << 24, (5, 9, 3)),
    ),
    "a change of -2^31, which has no magnitude": (
        Network([Input((2,), Delta(0, 7)), Dense([[2, 4]], None, SigmaDelta(0, 7))]),
        [[[-(1 << 18), 5], [0, 5], [7, -(1 << 18)]]],
    ),
}


@pytest.mark.parametrize("name", CORNERS)
def test_corners_that_the_parity_table_leaves_out(name: str) -> None:
    network, x = CORNERS[name]
    options = {"record": (*everything(network), "counts")}
    assert_equal(network, twin_simulate(network, x, **options), simulate(network, x, **options))


def test_integer_inputs_and_float_inputs_are_the_same() -> None:
    net = cnn()
    x = graded_input(net)
    twin = Twin(net)
    for dtype in (torch.float32, torch.int32, torch.int8, torch.float64):
        found = twin(torch.as_tensor(x).to(dtype), record="spikes").numpy()
        assert all(
            (a == b).all()
            for a, b in zip(found.spikes, simulate(net, x, record="spikes").spikes, strict=True)
        )


def test_sums_beyond_float64_are_refused() -> None:
    first = Dense(np.full((17000, 1), 254), None, Sigma())
    network = Network([first, Dense(np.full((1, 17000), 254), None, Sigma())])
    with pytest.raises(OverflowError, match=r"beyond 2\^53 float64 is not exact"):
        Twin(network)(tensor([[[1 << 23]] * 3]), Timing(message_bits=24))


def test_mistakes_are_refused_as_in_the_engine() -> None:
    net = cnn()
    x = tensor(graded_input(net))
    twin = Twin(net)
    for arguments, message in (
        ({"inputs": x[..., 1:]}, "input has shape"),
        ({"inputs": x + 0.5}, "is not an integer"),
        ({"inputs": x, "timing": Timing(message_bits=3)}, "enough message bits"),
        ({"inputs": x, "record": "w"}, 'cannot record "w"'),
    ):
        with pytest.raises(NetworkError, match=message):
            twin(**arguments)


# -- parameters and their integers ---------------------------------------------------------------


@pytest.mark.slow
@every_network
def test_a_trained_twin_is_the_network_of_its_integers(network: Callable[[], Network]) -> None:
    start = network()
    twin = Twin(start, trainable=PARAMETERS)
    assert twin.network() == start
    optimizer = torch.optim.Adam(twin.parameters(), lr=3.0)
    messages = tensor(graded_input(start))
    for _ in range(3):
        optimizer.zero_grad()
        trace = twin.run_recipe(messages, record=everything(start))
        sum(s.double().mean() for s in (*trace.spikes, trace.u[-1]) if s is not None).backward()
        optimizer.step()
        twin.confine()
    trained = twin.network()
    assert trained.digest != start.digest
    assert trained.recipe == start.recipe
    x = graded_input(start, seed=9)
    arguments = {"record": (*everything(start), "counts"), "timing": Timing(None, 5, 2)}
    assert_equal(trained, twin(tensor(x), **arguments).numpy(), simulate(trained, x, **arguments))
    again = Twin(trained, twin.real(), trainable=PARAMETERS)
    for (name, tuned), other in zip(twin.named_parameters(), again.parameters(), strict=True):
        if not name.endswith("imaginary"):  # RealLayer has none
            assert torch.allclose(tuned, other, rtol=0, atol=0.021), name


def test_a_layer_that_occurs_twice_becomes_two() -> None:
    layer = Dense([[20, -40], [60, 80]], None, CubaLIF(9, 9, 70))
    twin = Twin(Network([layer, layer]))
    assert twin.network() == Network([layer, layer])
    with torch.no_grad():
        twin.layers[0].weight += 2
    assert [x.weight[0].tolist() for x in twin.network().layers] == [[22, -38], [20, -40]]


@pytest.mark.parametrize("bits", range(2, 9))
def test_starting_values_reproduce_any_rounding(bits: int) -> None:
    """Also where integers are not the nearest ones, and residuals are larger than a cell."""
    rng = RNG(bits)
    step = 256 >> bits
    half = 1 << (bits - 1)
    real = RealLayer(
        rng.uniform(-300, 300, (7, 9)),
        rng.uniform(-5000, 5000, 7),
        rng.uniform(-9, 5000, 7),
        np.full(7, 4096.3),
        np.full(7, 2047.5),
        bits=bits,
        step=step,
    )
    weight = np.clip(np.round(real.weight / step) + rng.integers(-1, 2, (7, 9)), -half, half - 1)
    weight *= step
    bias = np.clip(np.round(real.bias) + rng.integers(-2, 3, 7), -4096, 4095)
    threshold = np.clip(np.round(real.threshold), 0, 131071)
    network = Network([Dense(weight, bias, CubaLIF(4096, [2047, 2048] * 3 + [2048], threshold))])
    twin = Twin(network, [real], trainable=PARAMETERS)
    assert twin.network().digest == network.digest
    latent = twin.layers[0].weight.detach().numpy()
    nearest = np.round(real.weight / step) * step == weight
    inside = np.abs(real.weight - weight) < 0.49 * step
    inside &= (real.weight >= -half * step) & (real.weight <= (half - 1) * step)
    assert (latent[nearest & inside] == real.weight[nearest & inside]).all()


def test_weights_stay_on_their_grid() -> None:
    real = RealLayer(np.array([[-100.0, 50.0]]), None, None, np.zeros(1), np.zeros(1), None, 3, 64)
    twin = Twin(Network([Dense([[-128, 64]])]), [real])
    with torch.no_grad():
        twin.layers[0].weight.copy_(torch.tensor([[-900.0, 900.0]]))
        assert twin.network().layers[0].weight.tolist() == [[-256, 192]]
        twin.confine()
    assert twin.layers[0].weight.tolist() == [[-256, 192]]


def test_recurrent_weights_have_their_own_step() -> None:
    network = Network([Dense([[-128, 64]], None, CubaLIF(9, 9, 70), [[-8]])])
    real = RealLayer(
        np.array([[-100.0, 50.0]]),
        None,
        np.array([69.8]),
        np.array([9.2]),
        np.full(1, 8.9),
        np.array([[-9.0]]),
        bits=3,
        step=64,
        recurrent_step=8,
    )
    twin = Twin(network, [real])
    assert twin.network() == network
    (layer,) = twin.layers
    assert layer.recurrent.item() == -9
    assert (layer.threshold.shape, layer.threshold.item()) == ((), 69.8)
    with torch.no_grad():
        layer.recurrent.fill_(-90)
    assert twin.network().layers[0].recurrent.tolist() == [[-32]]
    assert twin.real()[0].recurrent_step == 8


def test_a_readouts_threshold_is_fixed() -> None:
    twin = Twin(cnn("mean voltage"))
    assert [layer.threshold.requires_grad for layer in twin.layers] == [True, True, False]
    assert [real.threshold is None for real in real_layers(cnn("mean voltage"))] == [
        False,
        False,
        True,
    ]


def test_mistakes_are_named() -> None:
    net = cnn()
    real = real_layers(net)
    for arguments, message in (
        ({"real": real[:2]}, "describes 2 layers; the network has 3"),
        ({"real": [replace(real[0], step=64), *real[1:]]}, "1:conv: weight = .* is not 64 times"),
        ({"real": [replace(real[0], bits=4), *real[1:]]}, r"within \[-8, 7\]"),
        ({"surrogate": "heaviside"}, "surrogate 'heaviside' is unknown; choose from superspike"),
        ({"trainable": ["weights"]}, r"\['weights'\] is unknown; choose from weight"),
    ):
        with pytest.raises(ValueError, match=message):
            Twin(net, **arguments)


# -- gradients -----------------------------------------------------------------------------------


def test_gradients_of_a_readout() -> None:
    """Without decay v = 64 (t + 1) (w x + b): linear, so gradients are known."""
    network = Network([Dense([[100, -40]], [7], CubaLIF(4096, 0, 131071))])
    twin = Twin(network, trainable=("weight", "bias"))
    x = tensor([[[3, 5], [2, 1], [4, 4], [9, 9]]]).requires_grad_()
    twin(x, record="v").v[0][0, -1].sum().backward()
    assert x.grad.tolist() == [[[6400, -2560]] * 3 + [[0, 0]]]  # the last message comes too late
    assert twin.layers[0].weight.grad.tolist() == [[64 * 9, 64 * 10]]
    assert twin.layers[0].bias.grad.tolist() == [64 * 4]


def test_gradients_fade_as_states_decay() -> None:
    network = Network([Dense([[100]], None, CubaLIF(1024, 2048, 131071))])
    x = tensor([[[300], [0], [0], [0]]]).requires_grad_()
    twin = Twin(network, trainable=PARAMETERS)
    trace = twin(x, record=("u", "v"))
    trace.u[0][0, -1].sum().backward(retain_graph=True)
    assert x.grad[0, 0].item() == 6400 * 0.75**2
    x.grad = None
    trace.v[0][0, -1].sum().backward()
    assert x.grad[0, 0].item() == 6400 * (0.75**2 + 0.5 * 0.75 + 0.25)
    v = trace.v[0].detach()[0, :, 0]
    assert twin.layers[0].v_decay.grad.item() == -(v[2] + 0.5 * v[1]) / 4096


def test_gradients_at_the_ends_of_the_ranges() -> None:
    """Decays that forget all can be learnt; a threshold of 0 has the slope of the layer's mean."""
    twin = Twin(Network([Dense([[100]], None, CubaLIF(4096, 4096, 131071))]), trainable=PARAMETERS)
    trace = twin(tensor([[[3], [2], [0]]]), record=("u", "v"))
    trace.v[0][0, -1].sum().backward()  # 64 * 200, on 64 * 300 that both decays took away
    assert (
        twin.layers[0].i_decay.grad.item() == twin.layers[0].v_decay.grad.item() == -6400 * 3 / 4096
    )
    twin = Twin(Network([Dense([[100], [100]], None, CubaLIF(4096, 4096, [0, 50]))]))
    x = tensor([[[0], [0]]])
    twin(x).spikes[0][0, -1].sum().backward()
    at = [-1 / 25, -1 / 4 / 50]  # x is 0, then -1; scales are the mean 25, then 50
    assert twin.layers[0].threshold.grad.tolist() == pytest.approx(at)


class _Reference(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: torch.Tensor) -> torch.Tensor:
        ctx.save_for_backward(x)
        return (x > 0).to(x)

    @staticmethod
    def backward(ctx: Any, gradient: torch.Tensor) -> torch.Tensor:
        (x,) = ctx.saved_tensors
        return gradient / (1 + 2 * x.abs()) ** 2


def slow_lif(
    x: torch.Tensor, p: dict[str, torch.Tensor], recurrent: torch.Tensor | None = None
) -> tuple[torch.Tensor, torch.Tensor]:
    """CubaLIF (sample, time, in) written once more, from its equation, for autograd."""

    def tz(value: torch.Tensor) -> torch.Tensor:
        return value + (value.trunc() - value).detach()

    u = v = torch.zeros(len(x), len(p["weight"]), dtype=torch.float64)
    own = torch.zeros_like(u)
    spikes, voltages = [], []
    for t in range(x.shape[1]):
        a = x[:, t - 1] @ p["weight"].T if t else torch.zeros_like(u)
        if recurrent is not None:
            a = a + own @ recurrent.T
        u = tz(u * (4096 - p["i_decay"]) / 4096) + 64 * a
        v = tz(v * (4096 - p["v_decay"]) / 4096) + u + 64 * p["bias"]
        own = _Reference.apply((v - 64 * p["threshold"]) / (64 * p["threshold"].detach()))
        v = v * (1 - own.detach())
        spikes.append(own)
        voltages.append(v)
    return torch.stack(spikes, 1), torch.stack(voltages, 1)


@pytest.mark.parametrize("with_recurrence", [False, True])
def test_gradients_are_those_of_the_equations(with_recurrence: bool) -> None:
    rng = RNG(11)
    back = even(rng, 60, 5, 5) if with_recurrence else None
    neuron = CubaLIF(
        rng.integers(500, 3000, 5), rng.integers(300, 900, 5), rng.integers(400, 900, 5)
    )
    network = Network([Dense(even(rng, 60, 5, 6), rng.integers(-90, 90, 5), neuron, back)])
    twin = Twin(network, sharpness=2.0, trainable=PARAMETERS)
    x = tensor(rng.integers(-3, 6, (4, 12, 6))).requires_grad_()
    other = x.detach().clone().requires_grad_()
    parameters = {
        n: p.detach().clone().requires_grad_() for n, p in twin.layers[0].named_parameters()
    }
    trace = twin(x, record=("spikes", "v"))
    spikes, v = slow_lif(other, parameters, parameters.get("recurrent"))
    assert (trace.spikes[0] == spikes).all()
    assert (trace.v[0] == v).all()
    assert 20 < spikes.sum() < 200
    ask_s, ask_v = (torch.as_tensor(rng.normal(size=tuple(v.shape))) for _ in range(2))
    ((trace.spikes[0] * ask_s).sum() + (trace.v[0] * ask_v).sum() / 4e4).backward()
    ((spikes * ask_s).sum() + (v * ask_v).sum() / 4e4).backward()
    pairs = {n: (p.grad, parameters[n].grad) for n, p in twin.layers[0].named_parameters()}
    for name, (ours, theirs) in {**pairs, "input": (x.grad, other.grad)}.items():
        assert theirs.abs().max() > 0, name
        assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-5 * float(theirs.abs().max())), name


def test_sigma_delta_has_the_gradient_of_its_relu() -> None:
    """But for what is withheld, the readout is w2 relu(w1 x + 64 b), whatever was sent when."""
    rng = RNG(6)
    first, second, b = even(rng, 60, 9, 6), even(rng, 60, 4, 9), even(rng, 60, 9)
    layers = [
        Input((6,), Delta(3)),
        Dense(first, b, SigmaDelta(20)),
        Dense(second, None, Sigma()),
    ]
    x = tensor(rng.integers(-30, 30, (5, 6))).requires_grad_()
    trace = Twin(Network(layers))(x, Timing(6), record=("spikes", "v"))
    trace.spikes[-1][:, -1].sum().backward()
    active = (trace.v[1][:, -2] > 0).double()  # what the readout has heard of
    assert 0.3 < active.mean() < 0.7
    assert torch.equal(x.grad, (active * tensor(second).sum(0)) @ tensor(first))


def test_gradients_of_delays_convolutions_and_single_spikes() -> None:
    delay = Network([Dense([[2, 4]], None, CubaLIF(4096, 0, 131071), delay=[[0, 2]])])
    x = tensor([[[1, 1], [1, 1], [1, 1], [1, 1]]]).requires_grad_()
    Twin(delay)(x, record="v").v[0][0, -1].sum().backward()
    assert x.grad.tolist() == [[[128, 256], [128, 0], [128, 0], [0, 0]]]
    image = Network([Input((1, 2, 2)), Conv([[[[2, 4]]]], None, CubaLIF(4096, 4096, 131071))])
    x = tensor(np.full((1, 2, 1, 2, 2), 5)).requires_grad_()
    Twin(image)(x, Timing(message_bits=0), record="v").v[0].sum().backward()
    assert x.grad[0].tolist() == [[[[128, 256]] * 2], [[[0, 0]] * 2]]


def test_resonators_and_default_neurons_have_gradients() -> None:
    net = resonators()
    twin = Twin(net)
    x = tensor(graded_input(net)).requires_grad_()
    twin.run_recipe(x).spikes[-1].sum().backward()
    for name, value in (("input", x), *twin.named_parameters()):
        assert value.grad.abs().max() > 0, name
    plain = Network([Dense([[2, -4]])])
    x = tensor([[[1, 1], [1, 1]]]).requires_grad_()
    Twin(plain)(x, record="v").v[0][0, -1].sum().backward()
    assert x.grad.tolist() == [[[128, -256], [0, 0]]]


@pytest.mark.parametrize("name", SURROGATES)
def test_surrogates(name: str) -> None:
    x = torch.arange(-30, 31) / 10
    slope = SURROGATES[name](x)
    assert slope[30] == slope.max() == 1
    assert torch.allclose(slope, slope.flip(0))
    assert (slope[30:].diff() <= 0).all()
    network = Network([Dense([[100]], None, CubaLIF(4096, 4096, 100))])
    gradients = []
    for surrogate in (name, SURROGATES[name]):
        twin = Twin(network, surrogate=surrogate, sharpness=3)
        at = tensor([[[1], [0]]]).requires_grad_()  # v is exactly at the threshold
        twin(at).spikes[0].sum().backward()
        gradients.append((at.grad[0, 0].item(), twin.layers[0].threshold.grad.item()))
    # d spike / d message = weight / threshold; in a step without input the slope is that of x = -1
    silent = float(SURROGATES[name](torch.tensor(-3.0))) / 100
    assert gradients == [pytest.approx((1.0, -0.01 - silent))] * 2
