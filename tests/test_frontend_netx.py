"""Integer networks to NIR: the float graph computes the same spikes and voltages, every one."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import nir
import numpy as np
import pytest

from spikeship.hw_targets.network.arithmetic import THRESHOLD_MAX
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
from spikeship.hw_targets.simulate.engine import simulate
from spikeship.pipeline.float.execute import execute
from spikeship.pipeline.frontends import from_netx, from_nir
from spikeship.pipeline.graph import stages
from spikeship.pipeline.lower import lower

Generator = np.random.Generator
NEURON = CubaLIF(1200, 300, 90)
PLANE = (2, 6, 5)
READOUT = THRESHOLD_MAX


def _weights(rng: Generator, *shape: int) -> Any:
    return rng.integers(-60, 80, shape)


def _dense(rng: Generator, neuron: CubaLIF | None = NEURON, **options: Any) -> Network:
    """One layer of 6 inputs and 5 neurons."""
    return Network([Dense(_weights(rng, 5, 6), neuron=neuron, **options)])


def _deep(rng: Generator) -> Network:
    return Network(
        [
            Input(PLANE),
            Conv(_weights(rng, 4, 1, 3, 2), None, NEURON, (2, 1), (1, 0), (1, 2), groups=2),
            Conv(_weights(rng, 3, 4, 2, 2), None, CubaLIF([9, 700, 4096], [5, 80, 700], 200)),
            Flatten(),
            Dense(_weights(rng, 5, 12), neuron=CubaLIF(4096, rng.integers(1, 4096, 5), 150)),
            Dense(_weights(rng, 5, 5), neuron=CubaLIF(4096, 0, 200), delay=[0, 1, 2, 3, 4]),
        ]
    )


def _biased_conv(rng: Generator, neuron: CubaLIF) -> Network:
    return Network([Input(PLANE), Conv(_weights(rng, 3, 2, 3, 3), rng.integers(-9, 30, 3), neuron)])


def _per_neuron(rng: Generator) -> CubaLIF:
    return CubaLIF(rng.integers(1, 4097, 5), rng.integers(1, 4097, 5), rng.integers(1, 300, 5))


# Networks with a bias are one layer deep: beyond that the chip's latency separates bias and data.
NETWORKS: dict[str, Callable[[Generator], Network]] = {
    "deep": _deep,
    "dense": _dense,
    "dense, per neuron": lambda rng: _dense(rng, _per_neuron(rng)),
    "dense, no memory": lambda rng: _dense(rng, CubaLIF(4096, 4096, 20)),
    "dense, LIF with bias": lambda rng: _dense(rng, CubaLIF(4096, 300, 90), bias=[9, -7, 20, 0, 1]),
    "dense, IF with bias": lambda rng: _dense(rng, CubaLIF(4096, 0, 90), bias=[9, -7, 20, 0, 1]),
    "dense, CUBA with bias": lambda rng: _dense(rng, NEURON, bias=[9, -7, 20, 0, 1]),
    "dense, current kept": lambda rng: _dense(rng, CubaLIF(0, 300, 900)),
    "dense, current kept, bias": lambda rng: _dense(
        rng, CubaLIF(0, 0, 900), bias=[9, -7, 20, 0, 1]
    ),
    "dense, voltage kept": lambda rng: _dense(rng, CubaLIF(700, 0, 900)),
    "recurrent": lambda rng: _dense(rng, NEURON, recurrent=_weights(rng, 5, 5)),
    "recurrent, LIF with bias": lambda rng: _dense(
        rng, CubaLIF(4096, 300, 90), recurrent=_weights(rng, 5, 5), bias=[9, -7, 20, 0, 1]
    ),
    "delay of all": lambda rng: _dense(rng, delay=3),
    "delays of inputs": lambda rng: _dense(rng, delay=[0, 1, 2, 3, 4, 5], bias=[9, -7, 20, 0, 1]),
    "delays of outputs": lambda rng: _dense(rng, delay=[5, 0, 7, 1, 0]),
    "delays of outputs, bias": lambda rng: _dense(
        rng, CubaLIF(4096, 300, 90), delay=[5, 0, 7, 1, 0], bias=[9, -7, 20, 0, 1]
    ),
    "delays of both": lambda rng: _dense(
        rng, delay=np.add.outer([4, 0, 2, 1, 0], [3, 1, 2, 1, 5, 1])
    ),
    "conv with bias": lambda rng: _biased_conv(rng, CubaLIF(4096, 200, 120)),
    "conv, CUBA with bias": lambda rng: _biased_conv(rng, CubaLIF(500, [1, 20, 400], 120)),
    "no neurons": lambda rng: _dense(rng, None),
    "no neurons, bias": lambda rng: _dense(rng, None, bias=[9, -7, 20, 0, 1]),
    "readout of currents": lambda rng: _dense(rng, CubaLIF(300, 4096, READOUT)),
    "readout": lambda rng: _dense(rng, CubaLIF(300, 200, READOUT)),
    "readout with bias": lambda rng: _dense(
        rng, CubaLIF(300, 200, READOUT), bias=[9, -7, 20, 0, 1]
    ),
    "sum": lambda rng: _dense(rng, CubaLIF(4096, 0, READOUT)),
    "input neurons": lambda rng: Network(
        [Input((3, 2, 2), CubaLIF(4096, 300, 90)), Conv(_weights(rng, 4, 3, 1, 1), None, NEURON)]
    ),
}


@pytest.mark.parametrize("unit", [1.0, 64.0])
@pytest.mark.parametrize("name", NETWORKS)
def test_spikes_and_voltages_are_the_engines(name: str, unit: float) -> None:
    """Layer i of the chip is i + 1 steps late, Input neurons are not. Biases never are: for them
    the graph sees one blank frame first."""
    rng = np.random.default_rng(3)
    network = NETWORKS[name](rng)
    populations = network.populations
    first = populations[0].layer
    frames = (rng.random((3, 40, *network.input_shape)) < 0.5).astype(np.int32)
    if isinstance(first, Input):
        frames *= rng.integers(0, 30, frames.shape[2:])
    biased = not isinstance(first, Input) and first.bias is not None
    assert not biased or len(populations) == 1
    trace = simulate(network, frames, record=["spikes", "v"])
    found = execute(
        from_netx(network, unit), np.concatenate([np.zeros_like(frames[:, :1]), frames], axis=1)
    )
    for population in populations:
        k = found.names.index(population.name)
        late = population.latency - biased
        spikes, v = (x[population.index][:, late:] for x in (trace.spikes, trace.v))
        start = int(not biased)
        window = slice(start, start + spikes.shape[1])
        assert np.array_equal(found.spikes[k][:, window], spikes)
        quiet = spikes == 0  # the engine shows v after the reset
        assert np.array_equal((found.voltage[k][:, window] * 64 * unit)[quiet], v[quiet])
        silent = population.layer.neuron is None or np.all(
            population.layer.neuron.threshold == READOUT
        )
        assert np.ptp(v) if silent else spikes.any()


def test_a_chain_without_split_layers_is_in_lowered_form() -> None:
    graph = from_netx(_deep(np.random.default_rng(0)), dt=0.5)
    assert graph.metadata["dt"] == 0.5
    kinds = [(type(s.synapse), type(s.neuron), s.flatten) for s in stages(lower(graph))]
    assert kinds == [
        (nir.Conv2d, nir.CubaLIF, False),
        (nir.Conv2d, nir.CubaLIF, False),
        (nir.Affine, nir.LIF, True),
        (nir.Affine, nir.IF, False),
    ]


def test_survives_a_file(tmp_path: Any) -> None:
    rng = np.random.default_rng(1)
    network = _deep(rng)
    frames = (rng.random((2, 20, *PLANE)) < 0.5).astype(float)
    graph = from_netx(network)
    nir.write(tmp_path / "network.nir", graph)
    again = from_nir(tmp_path / "network.nir")
    written, read = execute(graph, frames), execute(again, frames)
    assert written.spikes[-1].any()
    assert all(map(np.array_equal, written.spikes, read.spikes))


ONES = np.ones((3, 3), int)
REFUSED: dict[str, tuple[list[Any], str]] = {
    "resonators": (
        [Dense(ONES, neuron=ResonateFire(1, 2, 3), imaginary=ONES)],
        "0:dense: ResonateFire neurons have no image",
    ),
    "sigma-delta": (
        [Input((3,), Delta(1)), Dense(ONES, neuron=SigmaDelta(1)), Dense(ONES, neuron=Sigma())],
        r"(?s)3 layer\(s\).*0:input: Delta.*1:dense: SigmaDelta.*2:dense: Sigma neurons",
    ),
    "delays": ([Dense(ONES, delay=np.eye(3, dtype=int))], "differ from synapse to synapse"),
    "bias": (
        [Input(PLANE), Conv(np.ones((1, 2, 6, 4), int), np.ones((1, 1, 2)), NEURON)],
        "1:conv: a bias per neuron of a convolution",
    ),
    "recurrence": (
        [Dense(ONES, [1, 0, 0], NEURON, recurrent=ONES)],
        "0:dense: a recurrent layer whose current decays has no image with a bias",
    ),
    "decays": ([Dense(ONES, neuron=CubaLIF([0, 1, 2], 1, 1))], "some of its decays are 0"),
    "input": ([Input((3,), NEURON), Dense(ONES)], "a constant input is the bias of Input neurons"),
}


@pytest.mark.parametrize("name", REFUSED)
def test_refused(name: str) -> None:
    layers, reason = REFUSED[name]
    with pytest.raises(NetworkError, match=reason):
        from_netx(Network(layers))


@pytest.mark.parametrize("unit", [0.0, -64.0, 100.0, 1 / 128, float("nan"), float("inf")])
def test_units_are_powers_of_two(unit: float) -> None:
    with pytest.raises(NetworkError, match="a power of two"):
        from_netx(Network([Dense(ONES)]), unit)
