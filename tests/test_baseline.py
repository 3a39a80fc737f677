"""The ANN measured on this machine: its rows, with a sensor, without one, and where nothing can run."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence

import pytest
import torch
from torch import nn

from spikeship.models import networks
from spikeship.models.data.dataset import Split
from spikeship.models.settings import Settings
from spikeship.models.training import Classifier
from spikeship.pipeline import records
from spikeship.pipeline.cli.ann_tables import baseline_notes, baseline_table
from spikeship.pipeline.cli.screen import show
from spikeship.pipeline.energy.measure import (
    Baseline,
    Conditions,
    Mean,
    Measurement,
    Reading,
    Sample,
    Sensor,
    Unavailable,
    baselines,
)
from spikeship.pipeline.energy.measure import baseline as baseline_module
from spikeship.pipeline.energy.measure.baseline import PEAKS
from spikeship.pipeline.energy.measure.precisions import Precision, variants
from spikeship.pipeline.energy.measure.sweep import MOST_BATCH, Tried, filled, sweep


class NoMeter:
    name, scope, refresh_s = "meter", "the bench", None

    def sample(self) -> Sample:
        raise Unavailable("nobody bought a meter")

    def conditions(self) -> Conditions:
        return Conditions()


def half_a_second(work: Callable[[], object], sensor: Sensor, **_: object) -> Measurement:
    """In place of `measure`: one call takes 0.5 s and 2 J, of which 2 W are idle."""
    work()
    reading = Reading("measured", 2.0, 0.5, sensor.scope, "", sensor.name)
    return Measurement(
        (1,),
        (reading,),
        Reading("measured", 10.0, 5.0, sensor.scope, "", sensor.name),
        Mean(0.5, 0.25),
        reading,
        0.125,
        Mean(1.0, 0.125),
        Conditions(clock_mhz=1500.0),
        Conditions(),
        ("a doubt",),
    )


def classifier(model: str = "mlp", **changes: object) -> Classifier:
    torch.manual_seed(0)
    settings = Settings(model=model, spiking=False, widths=(12,), **changes)  # type: ignore[arg-type]
    return Classifier(settings)


def data(images: int = 20) -> Split:
    """Images that the network of `classifier()` answers itself: all right in float32."""
    pictures = torch.rand(images, 1, 8, 8, generator=torch.Generator().manual_seed(1))
    with torch.no_grad():
        return Split(pictures, classifier().net.eval()(pictures).argmax(1))


QUICK = {"window_s": 0.02, "repeats": 2, "warmup_s": 0.0}


def test_rows_of_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(baseline_module, "measure", half_a_second)
    lines: list[str] = []
    rows = baselines(
        classifier(), data(), devices=("cpu",), batches=(1, 8), sensors={"cpu": NoMeter()}, progress=lines.append, **QUICK
    )  # fmt: skip
    assert [(r.precision, r.batch) for r in rows] == [
        ("float32", 1), ("float32", 8), ("int8", 1), ("int8", 8)
    ]  # fmt: skip
    assert len(lines) == 2
    for row in rows:
        n = row.batch or 0
        assert row.seconds == Mean(0.5 / n, 0.25 / n)
        assert row.energy == Reading("measured", 2.0 / n, 0.5 / n, "the bench", "", "meter")
        assert (row.energy_error, row.dynamic) == (0.125 / n, Mean(1.0 / n, 0.125 / n))
        assert row.idle_joules == 1.0 / n  # 2 W for 0.5 s
        assert row.macs == 64 * 12 + 12 * 10
        assert row.macs_per_second == 2 * n * row.macs
        assert (row.copies, row.threads) == (None, torch.get_num_threads())
        assert (row.utilisation, bool(row.no_peak)) == (None, True)
        assert row.measurement is not None
    assert [r.accuracy for r in rows[:2]] == [1.0, 1.0]
    assert all(r.accuracy is not None and r.accuracy >= 0.8 for r in rows)
    for precision in ("float32", "int8"):
        assert sum(r.best for r in rows if r.precision == precision) == 1
    found = json.loads(records.dumps(rows))[0]
    assert found["energy"]["status"] == "measured"
    assert found["measurement"]["before"]["clock_mhz"] == 1500.0
    names = [f"{precision} on cpu, batch {n}" for precision in ("float32", "int8") for n in (1, 8)]
    assert f"{'; '.join(names)}: a doubt" in baseline_notes(rows)


def test_without_sensors_times_are_measured_and_energies_say_why(
    capsys: pytest.CaptureFixture[str],
) -> None:
    rows = baselines(classifier(), data(), devices=("cpu",), batches=(1,), sensors={"cpu": NoMeter()}, **QUICK)  # fmt: skip
    for row in rows:
        assert (row.energy.status, row.energy.joules) == ("unavailable", None)
        assert (row.idle_joules, row.dynamic, row.energy_error) == (None, None, None)
        assert row.energy.reason == "nobody bought a meter"
        assert row.seconds is not None
        assert row.seconds.value > 0
    show(False, {}, baseline_table(rows), *baseline_notes(rows))
    shown = capsys.readouterr().out
    assert shown.count("unavailable") == 3  # in both rows, and once with the reason
    assert "float32 on cpu; int8 on cpu: energy unavailable: nobody bought a meter" in shown
    assert " 0 J" not in shown


def test_int8_has_no_deterministic_algorithms_and_needs_none() -> None:
    torch.use_deterministic_algorithms(True, warn_only=True)
    try:
        rows = baselines(classifier(), data(), precisions=("int8",), devices=("cpu",), batches=(1,), **QUICK)  # fmt: skip
        assert torch.are_deterministic_algorithms_enabled()
        assert torch.is_deterministic_algorithms_warn_only_enabled()
    finally:
        torch.use_deterministic_algorithms(False)
    assert [row.seconds is not None for row in rows] == [True]


def test_what_cannot_run_is_a_row_with_the_reason(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    rows = baselines(classifier(), data(), devices=("cuda",), sensors={"cuda": NoMeter()}, **QUICK)
    assert [(r.precision, r.energy.status, r.seconds, r.batch) for r in rows] == [
        ("float32", "unavailable", None, None),
        ("int8", "unavailable", None, None),
    ]
    assert all("torch sees no GPU" in r.energy.reason for r in rows)
    assert baseline_notes(rows)
    assert baseline_table(rows).row_count == 2


def test_no_int8_networks_on_a_gpu() -> None:
    with pytest.raises(Unavailable, match="no int8 networks on a GPU; measure float16"):
        variants(classifier().net, "int8", "cuda", data().images)


def test_a_gpu_has_rows_with_and_without_copies(monkeypatch: pytest.MonkeyPatch) -> None:
    """On a stand-in: the CPU called cuda, of which the data sheet is known."""
    moved: list[bool] = []

    def work(net: nn.Module, images: torch.Tensor, processor: str, copies: bool) -> object:
        assert processor == "cuda"
        moved.append(copies)
        return lambda: net(images)

    for name, stand_in in {
        "work": work,
        "variants": lambda net, *_: {"torch": net.eval()},
        "_present": lambda: ("cpu", "cuda"),
        "_name": lambda _: "NVIDIA H200",
        "_synchronize": lambda _: lambda: None,
        "_accuracy": lambda *_: 0.5,
    }.items():
        monkeypatch.setattr(baseline_module, name, stand_in)
    rows = baselines(classifier(), data(), precisions=("float32",), devices=("cuda",), batches=(1,), sensors={"cuda": NoMeter()}, **QUICK)  # fmt: skip
    assert [(r.copies, r.threads, r.name) for r in rows] == [
        (False, None, "NVIDIA H200"),
        (True, None, "NVIDIA H200"),
    ]
    assert set(moved) == {False, True}
    for row in rows:
        assert row.macs_per_second is not None
        assert row.utilisation == row.macs_per_second / PEAKS["NVIDIA H200"]["float32"]
        assert row.no_peak == ""


def test_best_batch_of_a_sweep(monkeypatch: pytest.MonkeyPatch) -> None:
    """Batch 1 and the fastest one are measured, whatever the times of this machine are."""
    times = (Tried(1, 3.0, "torch"), Tried(2, 1.0, "torch"), Tried(4, 2.0, "torch"))
    monkeypatch.setattr(baseline_module, "sweep", lambda *_, **__: times)
    monkeypatch.setattr(baseline_module, "measure", half_a_second)
    rows = baselines(classifier(), data(), devices=("cpu",), precisions=("float32",), sensors={"cpu": NoMeter()}, **QUICK)  # fmt: skip
    assert [(row.batch, row.best) for row in rows] == [(1, False), (2, True)]
    assert [row.seconds for row in rows] == [Mean(0.5, 0.25), Mean(0.25, 0.125)]


@pytest.mark.parametrize(
    ("batches", "message"), [((), "batches .*one or more"), ((4, 0), "all above 0")]
)
def test_batches_must_be_possible(batches: Sequence[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        baselines(classifier(), data(), batches=batches)


def test_refused() -> None:
    with pytest.raises(ValueError, match="the baseline is an ANN; this is a spiking network"):
        baselines(Classifier(Settings()), data())
    with pytest.raises(ValueError, match="no images"):
        baselines(classifier(), data().first(0))


@pytest.mark.parametrize("model", ["mlp", "cnn"])
@pytest.mark.parametrize("precision", ["float32", "int8"])
def test_precisions_compute_the_network(
    model: str, precision: Precision, monkeypatch: pytest.MonkeyPatch
) -> None:
    """int8: within a few per cent of the range of the float logits, and really of integers."""
    net = networks.ann(model, (1, 8, 8), 10, (12, 12)[: 1 if model == "mlp" else 2]).eval()
    images = data(64).images
    before = torch.backends.quantized.supported_engines[0]
    monkeypatch.setattr(torch.backends.quantized, "engine", before)
    with torch.no_grad():
        logits = net(images)
        found = variants(net, precision, "cpu", images)
        assert len(found) == (1 if precision == "float32" else 2) or "torch.ao qnnpack" in found
        for name, variant in found.items():
            off = (variant(images) - logits).abs().max() / (logits.max() - logits.min())
            assert off <= (0.05 if precision == "int8" else 0), name
            kinds = {type(module).__module__ for module in variant.modules()}
            assert any("quantized" in kind for kind in kinds) == (precision == "int8")
    assert torch.backends.quantized.engine == before


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(("per_image", "batches", "expected"), [
    # seconds per image by batch: the sweep goes on through one bad batch, not two
    ({1: 8, 2: 4, 4: 4, 8: 2, 16: 2, 32: 2, 64: 0.1}, None, (1, 2, 4, 8, 16, 32)),
    ({1: 1, 2: 1, 4: 1}, None, (1, 2, 4)),
    ({3: 1, 5: 2}, (5, 3, 5), (3, 5)),
    ({2**i: 2.0**-i for i in range(20)}, None, tuple(2**i for i in range(17))),
])  # fmt: skip
def test_sweep(
    per_image: dict[int, float], batches: tuple[int, ...] | None, expected: tuple[int, ...]
) -> None:
    clock = Clock()

    def works(kernels: str, batch: int) -> object:
        def call() -> None:
            clock.now += batch * per_image[batch] * {"slow": 2.0, "fast": 1.0}[kernels]

        return call

    found = sweep(("slow", "fast"), works, 0.5, batches=batches, clock=clock)  # type: ignore[arg-type]
    assert tuple(t.batch for t in found) == expected
    assert all(t.kernels == "fast" and t.seconds == per_image[t.batch] for t in found)
    assert MOST_BATCH == 2**16


def test_a_sweep_ends_where_the_memory_does() -> None:
    clock = Clock()

    def works(_: str, batch: int) -> Callable[[], object]:
        def call() -> None:
            if batch > 4:
                raise torch.cuda.OutOfMemoryError("CUDA out of memory")
            clock.now += 1.0

        return call

    assert [t.batch for t in sweep(("torch",), works, 0.5, clock=clock)] == [1, 2, 4]


def test_batches_are_filled_with_the_images_again() -> None:
    images = torch.arange(3.0)[:, None]
    assert filled(images, 5)[:, 0].tolist() == [0, 1, 2, 0, 1]
    assert filled(images, 2)[:, 0].tolist() == [0, 1]


def test_table_shows_total_idle_and_dynamic_apart(capsys: pytest.CaptureFixture[str]) -> None:
    row = Baseline(
        "cuda",
        "NVIDIA H200",
        "float32",
        1_000_000,
        Reading("measured", 0.0123, 4e-5, "GPU board", "", "NVML", 0.1),
        energy_error=0.0001,
        idle_joules=0.004,
        dynamic=Mean(0.0083, None),
        seconds=Mean(4e-5, 2e-7),
        accuracy=0.97,
        batch=1024,
        best=True,
        copies=True,
        macs_per_second=2.5e10,
        utilisation=0.0125,
    )  # fmt: skip
    show(False, {}, baseline_table([row]))
    shown = " ".join(capsys.readouterr().out.split())
    for text in (
        "float32, NVIDIA H200, with copies", "1,024 (best)", "GPU board", "40 us ± 0.2", "12.3 mJ ± 0.1",
        "4 mJ", "8.3 mJ", "2.5e+10 (1.25 % of peak)", "97.00 %",
    ):  # fmt: skip
        assert text in shown
