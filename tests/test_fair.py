"""Spiking network and ANN in one model: every figure again by hand, and what must hold of all."""

from __future__ import annotations

import io
from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from spikeship.hw_targets.counts.counts import Counts, LayerCounts, count
from spikeship.hw_targets.energy import cmos45
from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.layers import Conv, Dense, Input
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
from spikeship.hw_targets.simulate import engine
from spikeship.models.quantized_ann import LayerWork, Work
from spikeship.pipeline.cli.ann_tables import fair_details, fair_table
from spikeship.pipeline.energy.fair import fair
from spikeship.pipeline.energy.fair_model import DATAFLOWS, spiking_layers, widest_weight_bits

PJ = 1e-12
LIF = CubaLIF(i_decay=4096, v_decay=2048, threshold=100)
FLOWS = [flow.name for flow in DATAFLOWS]


# -- 45 nm -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("found", "pj"),
    [
        (cmos45.add(8), 0.03),
        (cmos45.add(16), 0.05),
        (cmos45.add(24), 0.075),
        (cmos45.add(32), 0.1),
        (cmos45.multiply(8, 8), 0.2),
        (cmos45.multiply(8, 4), 0.1),
        (cmos45.multiply(32, 32), 3.2),  # the table: 3.1
        (cmos45.sram(64, 8192), 10),
        (cmos45.sram(64, 32768), 20),
        (cmos45.sram(64, 1 << 20), 100),
        (cmos45.sram(64, 20480), 15),
        (cmos45.sram(64, 1), 10),
        (cmos45.sram(64, 1 << 30), 100),
        (cmos45.sram(8, 8192), 1.25),
        (cmos45.sram(8, 8192, whole_words=True), 10),
        (cmos45.sram(65, 8192, whole_words=True), 20),
    ],
)
def test_figures(found: float, pj: float) -> None:
    assert found == pytest.approx(pj * PJ, rel=1e-12)


@pytest.mark.parametrize("bits", [7, 33])
def test_additions_without_a_figure(bits: int) -> None:
    with pytest.raises(ValueError, match=f"an addition of {bits} bits; 8 to 32 have a price"):
        cmos45.add(bits)


# -- by hand ---------------------------------------------------------------------------------------


def weights(*shape: int) -> np.ndarray:
    """With 127 among them, so that they have 8 bits."""
    array = np.arange(np.prod(shape)) % 200 - 100
    array[0] = 127
    return array.reshape(shape)


NETWORK = Network([Dense(weights(1000, 300), bias=5, neuron=LIF)], Recipe(Coding("direct", 4)))
"""300 KB of weights, 3 KB of states."""
COUNTS = Counts(
    (LayerCounts("0:dense", 1000, 20, 50, 20_000, 20_000, 8000, 2_400_000, effective_acs=20_000),),
    2,
    4,
    NETWORK.digest,
)
WORK = Work((LayerWork("0", 300_000, 120_000.0, 300_000, 1000, 300, 1000),), 1, 0)
W8 = (20 + 80 * (300_000 - 32_768) / (1_048_576 - 32_768)) / 8 * PJ
"""8 bits of 300,000 bytes"""


def test_one_layer_by_hand() -> None:
    """Per inference: 10,000 deliveries, 4000 updates, 10 spikes of 9 bits in, 25 of 10 bits out."""
    state, bias = 10 * 24 / 64 * PJ, 10 * 13 / 64 * PJ
    messages = (10 * 9 + 25 * 10) * 10 / 64 * PJ
    update = 4000 * (2 * state + bias + (0.2 * 12 * 24 / 64 + 3 * 0.075) * PJ)
    synapses = 10_000 * (0.075 * PJ + W8)
    registers = synapses + messages + update
    memory = registers + 20_000 * state
    words = 10_000 * (0.075 * PJ + 8 * W8) + 35 * 10 * PJ + 4000 * (30 + 1.125) * PJ
    expected_snn = [memory, words + 20_000 * 10 * PJ, memory, registers, registers]

    outputs = 1000 * (3.2 + 0.1) * PJ
    io, out_bias = 1000 * 10 * 8 / 64 * PJ, 1000 * 10 * 32 / 64 * PJ
    product = (0.2 + 0.1) * PJ + W8
    image = 10 * 8 / 64 * PJ
    broadcast = 300_000 * product + 300 * image + io + out_bias + outputs
    expected_ann = [
        300_000 * (product + image) + io + out_bias + outputs,
        300_000 * (0.3 * PJ + 8 * W8 + 10 * PJ) + 20_000 * PJ + outputs,
        broadcast + 600_000 * 5 * PJ,
        broadcast,
        broadcast,
    ]
    found = fair(COUNTS, NETWORK, WORK, 4)
    assert found.weight_bits == 8
    assert found.spikes_per_synapse == 20_000 * 4 / 2_400_000
    assert found.rate == 20_000 / 2_400_000
    assert found.synapses_per_mac == 1
    cases = found.opponents[0].cases
    assert [case.dataflow for case in cases] == FLOWS
    assert [case.snn for case in cases] == pytest.approx(expected_snn, rel=1e-9)
    assert [case.ann for case in cases] == pytest.approx(expected_ann, rel=1e-9)
    assert [c.ratio for c in cases] == pytest.approx([c.snn / c.ann for c in cases], rel=1e-12)


def test_opponents_by_hand() -> None:
    """T = 4: 3 bits. The image keeps its 8; outputs have 3; zeros are skipped."""
    few = [o for o in fair(COUNTS, NETWORK, WORK, 4).opponents if o.activation_bits == 3]
    assert [o.name for o in few] == ["3-bit activations", "3-bit activations, zeros skipped"]
    out = 1000 * (10 * (3 + 32) / 64 + 3.3) * PJ
    each = 0.3 * PJ + W8 + 10 * 8 / 64 * PJ
    expected = [300_000 * each + out, 120_000 * each + out]
    assert [o.energy.joules for o in few] == pytest.approx(expected, rel=1e-9)


def test_hidden_layers_read_few_bits() -> None:
    """Multiplications shrink with the activation's bits, and so do reads."""
    work = Work((WORK.layers[0], replace(WORK.layers[0], inputs=1000)), 1, 0)
    one, two = (fair(COUNTS, NETWORK, w, 4).opponents[2].energy.terms for w in (WORK, work))
    arithmetic = two["synapses' arithmetic"][0] - one["synapses' arithmetic"][0]
    assert arithmetic == pytest.approx(300_000 * (0.2 * 3 / 8 + 0.1) * PJ, rel=1e-9)
    read = two["activations"][0] - one["activations"][0]
    assert read == pytest.approx((300_000 + 1000) * 10 * 3 / 64 * PJ, rel=1e-9)


def test_a_convolution_reads_weights_again() -> None:
    """Weights once: 9 per inference (ANN), 9 per step (spiking), where deliveries need more."""
    network = Network(
        [Input((1, 20, 20)), Conv(weights(1, 1, 3, 3), neuron=LIF)], Recipe(Coding("direct", 4))
    )
    layer = LayerCounts("1:conv", 324, 500, 50, 4500, 4500, 1296, 11664, effective_acs=4500)
    counts = Counts((layer,), 1, 4, network.digest)
    work = Work((LayerWork("0", 2916, 2916.0, 9, 0, 400, 324),), 1, 0)
    registers, once = (fair(counts, network, work).opponents[0].cases[i] for i in (3, 4))
    weight = 1.25 * PJ
    assert registers.snn - once.snn == pytest.approx((4500 - 36) * weight, rel=1e-9)
    assert registers.ann - once.ann == pytest.approx((2916 - 9) * weight, rel=1e-9)


def test_every_memory_has_its_own_size() -> None:
    """Sums of 8192 outputs: 32 KB, 20 pJ a word; their bytes, 8 KB, 10 pJ."""
    work = Work((replace(WORK.layers[0], outputs=8192),), 1, 0)
    opponent = fair(COUNTS, NETWORK, work).opponents[0]
    more = opponent.cases[2].ann - opponent.cases[3].ann  # sums in memory, or in registers
    assert more == pytest.approx(2 * 300_000 * 20 * 32 / 64 * PJ, rel=1e-9)


@pytest.mark.parametrize(
    ("neuron", "per_update"),
    [
        (CubaLIF(4096, 4096, 9), (1, 0, 2)),
        (CubaLIF(4096, 0, 9), (1, 0, 2)),
        (CubaLIF(4096, 100, 9), (1, 1, 2)),
        (CubaLIF(100, 100, 9), (2, 2, 2)),
        (CubaLIF(0, np.array([0, 100]), 9), (2, 1, 2)),
        (None, (1, 0, 0)),
        (SigmaDelta(9), (3, 0, 4)),
        (Sigma(), (1, 0, 0)),
        (ResonateFire(1000, 1000, 9), (2, 4, 5)),
    ],
)
def test_neurons(neuron: object, per_update: tuple[int, int, int]) -> None:
    """Words of state, products and additions of an update, as the equations of neurons.py have them."""
    complex_part = {"imaginary": np.ones((2, 3))} if isinstance(neuron, ResonateFire) else {}
    for bias in (None, 3) if isinstance(neuron, CubaLIF) else (None,):
        network = Network([Dense(np.ones((2, 3)), bias, neuron=neuron, **complex_part)])  # type: ignore[arg-type]
        counts = Counts((LayerCounts("", 2, 0, 0, 0, 0, 2, 6),), 1, 1, network.digest)
        (layer,) = spiking_layers(network, counts)
        words, products, additions = per_update
        assert (layer.words, layer.decays) == (words, products)
        assert layer.sums == additions + (bias is not None)
        assert layer.biases == (0 if bias is None else 2)
        assert layer.weights == (12 if complex_part else 6)


def test_graded_and_recurrent_messages() -> None:
    """Their payloads: 8 bits of the recipe, 24 of sigma-delta; what a layer sends itself arrives too."""
    network = Network(
        [
            Input((6,), Delta(3)),
            Dense(abs(weights(2, 6)), neuron=SigmaDelta(3)),
            Dense(abs(weights(4, 2)), neuron=CubaLIF(0, 0, 1), recurrent=weights(4, 4)),
            Dense(weights(3, 4), neuron=LIF),
        ]
    )
    inputs = np.arange(36, dtype=np.int32).reshape(1, 6, 6) * 50
    trace = engine.simulate(network, inputs, record="spikes")
    counts = count(network, inputs, trace)
    first, second, third, last = spiking_layers(network, counts)
    assert (first.arriving, first.weights, first.words) == (0, 0, 2)
    assert (first.sent_bits, second.arriving_bits, second.sent_bits) == (27, 27, 25)
    assert (second.additions, second.products) == (0, counts.layers[1].synops)
    assert counts.layers[2].spikes_out > 0
    assert third.arriving == counts.layers[1].spikes_out + counts.layers[2].spikes_out
    assert third.arriving_bits == 3 + 24  # addresses of 2 + 4 senders
    assert third.weights == 8 + 16
    assert (third.sent_bits, last.arriving_bits) == (2, 2)
    assert (last.additions, last.products) == (counts.layers[3].synops, 0)

    graded = Network(
        [Dense(weights(1000, 300), bias=5, neuron=LIF)], Recipe(Coding("direct", 4, message_bits=8))
    )
    layer = replace(COUNTS.layers[0], effective_acs=0, effective_macs=20_000)
    counts = replace(COUNTS, layers=(layer,), digest=graded.digest)
    more = fair(counts, graded, WORK).snn.joules - fair(COUNTS, NETWORK, WORK).snn.joules
    assert more == pytest.approx((10_000 * 0.2 + 10 * 8 * 10 / 64) * PJ, rel=1e-6)


def test_the_widest_layer_has_the_weight_bits() -> None:
    layers = [Dense([values, values], neuron=LIF) for values in ([3, -4], [96, -96], [1, 254])]
    assert [widest_weight_bits(Network(part)) for part in (layers[:2], layers)] == [3, 8]


# -- what must hold of all -------------------------------------------------------------------------


def scaled(counts: Counts, factor: float) -> Counts:
    """With so many times the messages and deliveries, of a billion times the samples: whole numbers."""
    same = ("neuron_updates", "dense_ops")
    more = ("spikes_in", "spikes_out", "synops", "synops_fanout", "effective_acs", "effective_macs")
    factors = dict.fromkeys(same, 1.0) | dict.fromkeys(more, factor)
    layers = tuple(
        replace(layer, **{n: round(getattr(layer, n) * 1e9 * f) for n, f in factors.items()})
        for layer in counts.layers
    )
    return replace(counts, layers=layers, samples=counts.samples * 10**9)


MLP = Network(
    [Dense(weights(60, 48), neuron=LIF), Dense(weights(10, 60), neuron=LIF)],
    Recipe(Coding("direct", 5)),
)
MLP_WORK = Work(
    (
        LayerWork("1", 48 * 60, 1500.0, 48 * 60, 60, 48, 60),
        LayerWork("3", 600, 200.0, 600, 10, 60, 10),
    ),
    7,
    0,
)


def run(rate: float, seed: int = 0) -> Counts:
    inputs = (np.random.default_rng(seed).random((6, 5, 48)) < rate).astype(np.int32)
    return count(MLP, inputs, engine.simulate(MLP, inputs, record="spikes"))


@pytest.mark.slow
@given(rate=st.floats(0.05, 1), seed=st.integers(0, 99))
@settings(max_examples=25, deadline=None)
def test_invariants(rate: float, seed: int) -> None:
    counts = run(rate, seed)
    found = fair(counts, MLP, MLP_WORK)
    assert found.steps == 5
    assert found.spikes_per_synapse == counts.spikes_per_synapse
    assert [o.activation_bits for o in found.opponents] == [8, 8, 3, 3]
    for energy in (found.snn, *(o.energy for o in found.opponents)):
        assert energy.scope == "arithmetic and SRAM"
        assert energy.low <= energy.joules <= energy.high
        assert sum(value for value, _, _ in energy.terms.values()) == pytest.approx(energy.joules)
        assert sum(low for _, low, _ in energy.terms.values()) <= energy.low * (1 + 1e-12)
        assert sum(high for _, _, high in energy.terms.values()) >= energy.high * (1 - 1e-12)
    dense, skipping, few, both = (o.energy.joules for o in found.opponents)
    assert dense > skipping > both
    assert dense > few > both
    for opponent in found.opponents:
        ratios = [case.ratio for case in opponent.cases]
        assert opponent.ratio.ends == (ratios[0], min(ratios), max(ratios))
        for case in opponent.cases:
            assert case.break_even is not None
            assert (case.ratio < 1) == (found.spikes_per_synapse < case.break_even)
    more = fair(scaled(counts, 1.5), MLP, MLP_WORK)
    for a, b in zip(found.opponents, more.opponents, strict=True):
        assert all(x.ratio < y.ratio for x, y in zip(a.cases, b.cases, strict=True))
        same = [case.break_even for case in a.cases]
        assert [case.break_even for case in b.cases] == pytest.approx(same, rel=1e-9)


def test_at_the_break_even_both_need_the_same() -> None:
    counts = run(0.3)
    found = fair(counts, MLP, MLP_WORK)
    compared = 0
    for i, opponent in enumerate(found.opponents):
        for j, case in enumerate(opponent.cases):
            if not case.break_even:
                continue
            there = fair(scaled(counts, case.break_even / found.spikes_per_synapse), MLP, MLP_WORK)
            assert there.opponents[i].cases[j].ratio == pytest.approx(1, rel=1e-9)
            assert there.spikes_per_synapse == pytest.approx(case.break_even)
            compared += 1
    assert compared >= 10


def test_no_spike_at_all() -> None:
    """Updates alone cost something; how spikes would be spread is unknown."""
    found = fair(run(0), MLP, MLP_WORK)
    assert found.spikes_per_synapse == 0
    assert found.snn.joules > 0
    assert all(o.break_even is None for o in found.opponents)


def test_spikes_that_never_win() -> None:
    """An ANN of one multiply-add is cheaper than the updates alone: 0."""
    tiny = Work((LayerWork("0", 1, 1.0, 1, 0, 1, 1),), 1, 0)
    for opponent in fair(run(0.5), MLP, tiny).opponents:
        assert opponent.break_even is not None
        assert opponent.break_even.ends == (0, 0, 0)
        assert opponent.ratio.low > 1


def test_many_steps_make_the_fair_opponent_the_usual_one() -> None:
    bits = [
        [o.activation_bits for o in fair(run(0.5), MLP, MLP_WORK, t).opponents] for t in (255, 256)
    ]
    assert bits == [[8, 8], [8, 8, 9, 9]]


def test_break_even_lies_where_the_literature_has_it() -> None:
    """Dampfhoffer et al. 2023: 0.15 to 1.38 spikes per synapse, depending on hardware and dataflow."""
    network = Network(
        [Dense(weights(512, 784), neuron=LIF), Dense(weights(10, 512), neuron=LIF)],
        Recipe(Coding("direct", 8)),
    )
    inputs = (np.random.default_rng(0).random((3, 8, 784)) < 0.1).astype(np.int32)
    counts = count(network, inputs, engine.simulate(network, inputs, record="spikes"))
    layers = [LayerWork(str(i), a * b, a * b / 2, a * b, b, a, b) for i, (a, b) in enumerate(((784, 512), (512, 10)))]  # fmt: skip
    dense = fair(counts, network, Work(tuple(layers), 1, 0)).opponents[0]
    assert dense.break_even is not None
    assert 0.15 < dense.break_even.low < dense.break_even.high < 1.38


@pytest.mark.parametrize(
    ("counts", "message"),
    [
        (replace(run(0.5), digest="0" * 64), "the counts are of network 000000000000, not of"),
        (replace(run(0.5), samples=0), "the counts are of no sample"),
    ],
)
def test_refused(counts: Counts, message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        fair(counts, MLP, MLP_WORK)


def shown(counts: Counts, work: Work = MLP_WORK) -> str:
    console = Console(width=240, file=io.StringIO(), record=True)
    found = fair(counts, MLP, work)
    for part in (*fair_table(found), *fair_details(found)):
        console.print(part)
    return console.export_text()


def test_what_a_reader_is_told() -> None:
    found = fair(run(0.3), MLP, MLP_WORK)
    text = shown(run(0.3))
    for sentence in (*found.assumptions, *(flow.says for flow in found.dataflows)):
        assert sentence in text
    assert "arithmetic and SRAM at 45 nm, estimated, per inference; 8-bit weights, T = 5" in text
    assert f"{found.spikes_per_synapse:.3g} (actual)" in text
    assert "ANN, 3-bit activations, zeros skipped" in text
    ratio = found.opponents[0].ratio
    assert f"{ratio.value:.3g} [{ratio.low:.3g}, {ratio.high:.3g}]" in text
    assert "not modelled: wires and routers" in text


def test_what_cannot_be_said() -> None:
    assert shown(run(0)).count("unknown: no spikes") == 8
    assert "never" in shown(run(0.5), Work((LayerWork("0", 1, 1.0, 1, 0, 1, 1),), 1, 0))


def test_synapses_that_were_pooling() -> None:
    half = Work((replace(MLP_WORK.layers[0], macs=1740),), 1, 0)
    assert fair(run(0.5), MLP, half).synapses_per_mac == 2
