"""A kind of neurons that is not in the library: what runs, and what refuses it."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest

from spikeship.benchmarks._fuzz_checks import difference
from spikeship.hw_targets import (
    Conv,
    Counter,
    CubaLIF,
    Dense,
    Flatten,
    Input,
    Network,
    NetworkError,
    NetxError,
    count,
    map_network,
    read_netx,
    simulate,
    tally,
    write_netx,
)
from spikeship.hw_targets.arrays import Array
from spikeship.hw_targets.chips.loihi2 import LOIHI2, has_known_programs
from spikeship.hw_targets.network.kind import Netx, Operations, Step, whole
from spikeship.hw_targets.network.neurons import NEURONS, IntArray, Neuron, spread
from spikeship.hw_targets.network.timing import Timing
from spikeship.hw_targets.simulate import engine, reference
from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.trace import Overflow
from spikeship.pipeline.energy.fair_model import spiking_layers
from spikeship.pipeline.frontends.netx import from_netx
from spikeship.pipeline.twin.twin import Twin

LIMIT = 1 << 20


@dataclass(frozen=True, eq=False)
class Refractory(Neuron):
    """Integrate and fire: v <- v + a + bias, spike = v > threshold, then v <- 0 and silence of `rest` steps.

    Recorded states: v, and as u the steps that are left to rest. v is held at +-2^20.
    """

    threshold: int | IntArray = field(metadata=whole(1, LIMIT, netx="vThMant", per_neuron=True))
    rest: int = field(
        default=2, metadata=whole(0, 100, "It is a number of steps.", netx="refDelay")
    )

    stored_as: ClassVar[str] = "Refractory"
    states: ClassVar[Mapping[str, str]] = {"u": "left", "v": "v"}
    resets: ClassVar[bool] = True
    netx: ClassVar[Netx | None] = Netx({"REFRACTORY": ()}, {"gradedSpike": False})

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        awake = states["left"] == 0
        exact = states["v"].astype(np.int64) + np.where(awake, sums[0] + bias, 0)
        v = np.clip(exact, -LIMIT, LIMIT)
        spikes = awake & (v > spread(self.threshold, v))
        left = np.where(spikes, self.rest, np.maximum(states["left"] - 1, 0))
        after = {"left": left, "v": np.where(spikes, 0, v)}
        return Step(spikes, after, v_clips=int(np.count_nonzero(v != exact)))

    @property
    def operations(self) -> Operations:
        return Operations(words=2, products=0, sums=4)


@dataclass(frozen=True, eq=False)
class Halves(Neuron):
    """Sends half of its sum, as a whole number; it keeps nothing, and no file holds it."""

    stored_as: ClassVar[str] = "Halves"
    states: ClassVar[Mapping[str, str]] = {}
    graded: ClassVar[bool] = True
    layers: ClassVar[tuple[str, ...]] = ("Dense",)
    has_bias: ClassVar[bool] = False

    def step(self, states: Mapping[str, Array], sums: Sequence[Array], bias: Array) -> Step:
        return Step(sums[0] >> 1, {})

    @property
    def operations(self) -> Operations:
        return Operations(words=0, products=0, sums=0)


def weights(*shape: int) -> np.ndarray:
    return np.random.default_rng(sum(shape)).integers(-60, 100, shape) * 2


LIF = CubaLIF(1024, 512, 90)
IMAGE = (2, 4, 4)
FILED = Network(
    [
        Input(IMAGE),
        Conv(weights(3, 2, 3, 3), bias=[5, 0, -5], neuron=Refractory([150, 90, 200], rest=3)),
        Flatten(),
        Dense(weights(5, 12), neuron=LIF),
        Dense(weights(4, 5), neuron=Refractory(120), recurrent=weights(4, 4)),
    ]
)
GRADED = Network([Dense(weights(6, 32), neuron=LIF), Dense(weights(4, 6), neuron=Halves()),
                  Dense(weights(3, 4), neuron=LIF, delay=2)])  # fmt: skip
NETWORKS = {"filed": FILED, "graded": GRADED}
network_of = pytest.mark.parametrize("network", NETWORKS.values(), ids=NETWORKS)


def spikes(network: Network, steps: int = 25) -> np.ndarray:
    return np.random.default_rng(1).integers(0, 2, (6, steps, *network.input_shape))


def test_the_equation_by_hand() -> None:
    network = Network([Dense([[40]], bias=[5], neuron=Refractory(100, rest=2))])
    trace = reference.simulate(network, np.ones((1, 9, 1), int), record=("spikes", "u", "v"))
    assert trace.spikes is not None
    assert trace.u is not None
    assert trace.v is not None
    assert trace.v[0].ravel().tolist() == [5, 50, 95, 0, 0, 0, 45, 90, 0]
    assert trace.spikes[0].ravel().tolist() == [0, 0, 0, 1, 0, 0, 0, 0, 1]
    assert trace.u[0].ravel().tolist() == [0, 0, 0, 2, 1, 0, 0, 0, 2]
    high = Network([Dense([[254]], neuron=Refractory(LIMIT))])
    held = reference.simulate(high, np.full((1, 3, 1), 1 << 13), record="v")
    assert held.overflow == (Overflow(v_clips=2),)


@network_of
@pytest.mark.parametrize("scratch", [engine.SCRATCH, 1])
def test_the_engine_runs_it_as_the_reference_does(
    network: Network, scratch: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(engine, "SCRATCH", scratch)
    x = spikes(network)
    names = ("counts", "spikes", "u", "v")
    options: dict[str, Any] = {
        "timing": Timing(reset_interval=7, reset_offset=1),
        "record": names,
    }
    counter = Counter(network)
    found = simulate(network, x, **options, counter=counter)
    expected = reference.simulate(network, x, **options)
    for name in names:
        pairs = [(getattr(found, name), getattr(expected, name))]
        if name != "counts":
            kept = pairs[0][1].populations
            pairs = [(pairs[0][0][i], pairs[0][1][i]) for i in kept]
        for mine, theirs in pairs:
            assert mine.dtype == theirs.dtype
            assert np.array_equal(mine, theirs)
            assert theirs.any()
    assert found.overflow == expected.overflow
    assert found.activity is not None
    assert tally(network, found.activity) == count(network, x, expected)
    on_torch = simulate(network, x, **options, counter=counter, backend="torch")
    assert difference(network, on_torch, expected) is None
    assert on_torch.activity is not None
    assert tally(network, on_torch.activity) == count(network, x, expected)
    plain = reference.simulate(network, x, record="counts")
    assert not np.array_equal(plain.counts, expected.counts)  # resets are not for nothing


def test_digest_and_equality_know_it() -> None:
    def made(neuron: Neuron) -> Network:
        return Network([Dense(weights(2, 2), neuron=neuron)])

    same, other = made(Refractory(np.int64(9))), made(Refractory(9, rest=3))
    assert (same, same.digest) == (made(Refractory(9)), made(Refractory(9)).digest)
    assert len({n.digest for n in (same, other, made(Halves()), made(CubaLIF(9, 2, 9)))}) == 4
    assert Refractory(9) != Refractory(9, rest=3)


@pytest.mark.parametrize(
    ("make", "says"),
    [
        (lambda: Refractory(0), r"threshold = 0 is outside \[1, 1048576\]"),
        (lambda: Refractory(5, rest=101), r"rest = 101 is outside \[0, 100\]. It is a number of"),
        (lambda: Conv(weights(1, 1, 1, 1), neuron=Halves()), "a Conv layer cannot have Halves neu"),
        (lambda: Dense([[2]], bias=[1], neuron=Halves()), "Halves neurons have no bias"),
        (lambda: Dense([[2]], neuron="relu"), "a Dense layer cannot have str neurons"),  # type: ignore[arg-type]
        (
            lambda: Network([Dense([[2]] * 2, neuron=Refractory([1, 2, 3]))]),
            r"neuron.threshold has shape \(3,\); one per channel or neuron",
        ),
    ],
)
def test_its_fields_are_checked_as_all_are(make: Callable[[], Any], says: str) -> None:
    with pytest.raises(NetworkError, match=says):
        make()


def test_a_kind_has_to_say_all_of_itself() -> None:
    @dataclass(frozen=True, eq=False)
    class Silent(Halves):  # ranges are missing
        gain: int = 1

    with pytest.raises(TypeError, match=r"Silent.gain does not say which numbers it takes"):
        Silent()

    @dataclass(frozen=True, eq=False)
    class Odd(Halves):
        states: ClassVar[Mapping[str, str]] = {"w": "w"}

    with pytest.raises(
        NetworkError, match="Odd calls its states w in traces, which know u, v, res"
    ):
        Odd()

    class Half(Neuron):
        """Nothing is said."""

    with pytest.raises(TypeError, match="abstract"):
        Half()  # type: ignore[abstract]


def test_a_file_holds_it(tmp_path: Path) -> None:
    file = tmp_path / "refractory.net"
    write_netx(FILED, file, for_lava=False)
    read = read_netx(file, neurons=(*NEURONS, Refractory))
    assert read == FILED
    assert read.layers == FILED.layers
    with pytest.raises(NetxError, match=r"layer 1: neuron type 'REFRACTORY' is not supported"):
        read_netx(file)
    with pytest.raises(NetxError, match=r"layer 1 \(Dense\): Halves neurons have no place in netx"):
        write_netx(GRADED, tmp_path / "no.net", for_lava=False)
    assert not (tmp_path / "no.net").exists()


def test_its_operations_are_counted() -> None:
    x = spikes(FILED)
    trace = reference.simulate(FILED, x, record="spikes")
    first, _, last = spiking_layers(FILED, count(FILED, x, trace))
    assert (first.words, first.decays, first.sums) == (2, 0, 4 + 1)  # the bias
    assert (last.words, last.decays, last.sums) == (2, 0, 4)


def test_it_is_mapped_where_a_chip_has_a_program_for_it() -> None:
    mapping = map_network(FILED, "loihi2")
    assert [v.where for v in mapping.violations] == ["1:conv", "4:dense"]
    assert "Refractory neurons: no program is known; use CubaLIF," in str(mapping.violations[0])
    rules = tuple(rule for rule in LOIHI2.rules if rule is not has_known_programs)
    mine = map_network(FILED, replace(LOIHI2, rules=rules))
    assert (mine.violations, mine.placement.cores) == ((), mapping.placement.cores)
    on_loihi1 = [v.what for v in map_network(FILED, "loihi1").violations]
    assert on_loihi1.count("Refractory neurons: use CubaLIF, or Loihi 2") == 2


@pytest.mark.parametrize(
    ("refuses", "says"),
    [
        (Twin, "1:conv: Refractory neurons have no step with gradients; a Twin has CubaLIF"),
        (from_netx, "1:conv: Refractory neurons have no image in NIR"),
        (
            partial(write_netx, path="never.net"),
            r"layer 1 \(Conv\): lava-dl has no Refractory neur",
        ),
    ],
    ids=["twin", "NIR", "a file for Lava"],
)
def test_it_is_refused_where_its_class_is_not_enough(
    refuses: Callable[[Network], Any], says: str
) -> None:
    with pytest.raises((NetworkError, NetxError), match=says):
        refuses(FILED)


def test_lava_does_not_run_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(lava_cpu, "why_unavailable", lambda: None)
    with pytest.raises(NetxError, match=r"layer 1 \(Conv\): lava-dl has no Refractory neurons"):
        lava_cpu.run(FILED, spikes(FILED))
