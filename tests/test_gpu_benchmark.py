"""The benchmark of GPUs, rehearsed on the CPU: all sections, the networks, energy by an injected NVML."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import typer

from spikeship.benchmarks.gpu import energy, networks, run
from spikeship.benchmarks.gpu.floats import Spiking, ann_of
from spikeship.benchmarks.gpu.networks import Residual, Subject, network_of
from spikeship.benchmarks.gpu.setup import FULL, REHEARSAL
from spikeship.benchmarks.speed.networks import random_input
from spikeship.hw_targets import simulate
from spikeship.hw_targets.network.timing import Timing

VGG = REHEARSAL.energy
RESNET = Subject(Residual("resnet18", (3, 9, 8), ((4, 1, 1), (4, 1, 2), (6, 2, 1)), 10, 4), 0.2, 4)


def rehearse(tmp_path: Path, **options: Any) -> tuple[int, dict[str, Any]]:
    """Status and JSON of a rehearsal."""
    out = tmp_path / "gpu.json"
    with pytest.raises(typer.Exit) as stopped:
        run.main(cpu_rehearsal=True, work=tmp_path / "work", out=out, **options)
    return stopped.value.exit_code, json.loads(out.read_text())


@pytest.mark.slow
def test_rehearsal(tmp_path: Path) -> None:
    """All of it at toy size; a second run has nothing left to measure."""
    for _ in range(2):
        status, stored = rehearse(tmp_path, minutes=20)
        assert status == 0
        assert stored["cells"].keys() >= {"machine", *(name for name, _ in run.cells(REHEARSAL))}
        assert not [cell for cell in stored["cells"].values() if "error" in cell]
    assert stored["minutes"] < 0.1
    cells = stored["cells"]
    assert cells["parity one kernel"]["networks"] == REHEARSAL.networks
    left_out = {name for name, cell in cells.items() if "left_out" in cell}
    assert left_out == {"speed of updates"}  # the kernel is for GPUs
    trained = cells.pop("cifar10")
    assert trained["left"] == []
    for name, cell in cells.items():
        if name.startswith("growth"):
            assert all(row["engine"] > 0 for row in cell["rows"])
            assert all(
                (row.get("torch", 0) > 0) == (name != "growth threads") for row in cell["rows"]
            )
        if name.startswith("energy"):
            assert cell["samples_per_second"] > 0
            assert (cell["status"], cell["joules"]) == ("unavailable", None) or cell["joules"] > 0
        if name.startswith("speed") and name not in left_out:
            assert cell["equal"]


def test_nothing_begins_after_its_time(tmp_path: Path) -> None:
    """Nothing is said to be measured; the next run measures it."""
    _, stored = rehearse(tmp_path, minutes=0, only="speed")
    names = {name for name in stored["cells"] if name != "machine"}
    assert names == {name for name, _ in run.cells(REHEARSAL) if name.startswith("speed")}
    for name in names:
        assert stored["cells"][name] == {"left_out": "more than 0 minutes had passed"}
    assert not (tmp_path / "work").exists()


def test_energy_without_a_sensor_is_measured_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    answers = iter([{"status": "unavailable"}, {"status": "measured"}])
    monkeypatch.setattr(run, "cells", lambda setup: iter([("energy x", lambda: next(answers))]))
    for status in ("unavailable", "measured", "measured"):
        assert run.measured(REHEARSAL, tmp_path, 1)["energy x"] == {"status": status}


def test_unknown_sections_are_refused(tmp_path: Path) -> None:
    with pytest.raises(typer.BadParameter, match="no section power; there are parity, speed"):
        run.main(cpu_rehearsal=True, only="parity,power", work=tmp_path, out=tmp_path / "x.json")


def test_what_differs_is_the_status(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    wrong = {
        "digest": "",
        "differs": {"one kernel": "v of 1:dense at (0, 0): 1, not 2"},
        "rates": [],
    }
    cells = [("parity mlp", lambda: wrong), ("parity broken", lambda: 1 / 0)]
    for chosen, says in ((cells[:1], "not 2"), (cells[1:], "division by zero")):
        monkeypatch.setattr(run, "cells", lambda setup, chosen=chosen: iter(chosen))
        status, stored = rehearse(tmp_path / says[:3])
        assert status == 1
        assert says in json.dumps(stored["cells"])


def test_a_gpu_machine_needs_neither_norse_nor_lightning_nor_lava(tmp_path: Path) -> None:
    code = f"""
import sys
for name in ("norse", "lightning", "lava", "sklearn", "torchvision", "nirtorch"):
    sys.modules[name] = None
import typer
from pathlib import Path
from spikeship.benchmarks.gpu.run import main
try:
    main(cpu_rehearsal=True, only="energy", work=Path({str(tmp_path)!r}), out=Path({str(tmp_path / "x.json")!r}))
except typer.Exit as stopped:
    sys.exit(stopped.exit_code)
"""
    subprocess.run([sys.executable, "-c", code], check=True, cwd=tmp_path, capture_output=True)
    assert (
        json.loads((tmp_path / "x.json").read_text())["cells"]["energy integers 1"]["seconds"] > 0
    )


# -- networks ----------------------------------------------------------------------------------


def test_the_networks_are_those_of_the_papers() -> None:
    """Weight layers, and channels of the last convolution; as torchvision's, but for dense layers."""
    shapes = {s.name: s.plan for s in FULL.subjects}
    assert len(shapes["vgg11"].conv) == 8
    assert len(shapes["vgg16"].conv) == 13
    resnet = shapes["resnet18"]
    assert 2 + sum(2 * blocks for _, blocks, _ in resnet.stages) == 18
    for name in ("vgg11", "vgg16"):
        size = 32
        for _, _, stride, _ in shapes[name].conv:
            size = -(-size // stride[0])
        assert size == 2  # of 512 channels
    assert all(subject.steps == 4 for subject in FULL.subjects[2:])


def test_relays_make_a_residual_network() -> None:
    """Relays send what their block got, a step later, every second place where the stride is 2; the rest
    of the layers fires at the rate that was asked for."""
    network = network_of(RESNET, "cpu")
    x = random_input(network.input_shape, RESNET.rate, 3, 4)
    trace = simulate(network, x, Timing(4 + network.latency), record="spikes")
    assert trace.spikes is not None
    relayed, place = 0, 0
    for channels, blocks, stride in RESNET.plan.stages:
        for k in range(blocks):
            got, sent = trace.spikes[place], trace.spikes[place + 1]
            by = stride if k == 0 else 1
            assert np.array_equal(sent[:, 1:, channels:], got[:, :-1, :, ::by, ::by])
            relayed += int(sent[:, :, channels:].sum())
            place += 2
    assert place == len(network.populations) - 2
    assert relayed > 100
    for p in network.populations:
        own = p.shape[0] if p.index % 2 == 0 else networks._chosen(p.layer)
        rate = trace.spikes[p.index][:, p.latency : p.latency + 4, :own].mean()
        assert rate == pytest.approx(RESNET.rate, abs=0.08), p.name


# -- float twins and energy -----------------------------------------------------------------------


def test_float_twins_compute_what_the_integers_stand_for() -> None:
    network = network_of(VGG, "cpu")
    x = random_input(network.input_shape, 0.3, 16, 4)
    counts = simulate(network, x, Timing(4 + network.latency)).counts
    assert counts is not None
    with torch.no_grad():
        frames = torch.tensor(x, dtype=torch.float32)
        mine = Spiking(network)(frames.transpose(0, 1)).numpy()
        outputs = ann_of(network)(frames[:, 0])
    assert counts.sum() > 20
    assert np.abs(mine - counts).sum() < 0.1 * counts.sum()  # rounding moves few spikes
    assert outputs.shape == (16, 10)


def nvml(watts: float) -> SimpleNamespace:
    """A board that draws so much, whatever it does; its counter has millijoules."""

    class Error(Exception):
        pass

    class NotSupported(Error):
        pass

    start = time.perf_counter()
    return SimpleNamespace(
        NVMLError=Error,
        NVMLError_NotSupported=NotSupported,
        nvmlInit=lambda: None,
        nvmlDeviceGetHandleByIndex=lambda index: index,
        nvmlDeviceGetName=lambda handle: "toy board",
        nvmlDeviceGetTotalEnergyConsumption=lambda handle: (
            1e3 * watts * (time.perf_counter() - start)
        ),
        nvmlDeviceGetPowerUsage=lambda handle: 1e3 * watts,
        nvmlDeviceGetClockInfo=lambda handle, clock: 1000,
        nvmlDeviceGetEnforcedPowerLimit=lambda handle: 7e5,
        nvmlDeviceGetTemperature=lambda handle, sensor: 40,
        nvmlDeviceGetMigMode=lambda handle: (0, 0),
        nvmlSystemGetDriverVersion=lambda: "580",
    )


def test_energy_is_per_inference() -> None:
    """Of a board of 50 W: joules are 50 times the seconds, for integers and floats alike."""
    setup = replace(REHEARSAL, pynvml=nvml(50.0), window_s=0.2)
    for measured in (
        energy.integers(setup, 4),
        energy.floats(setup, "snn", "float32", 4, graph=False),
        energy.floats(setup, "ann", "float16", 4, graph=True),
    ):
        assert (measured["status"], measured["scope"]) == ("measured", "GPU board")
        # a busy machine may pause between clock and counter
        assert measured["joules"] == pytest.approx(50 * measured["seconds"], rel=0.3)
        assert measured["samples_per_second"] == pytest.approx(1 / measured["seconds"])
        assert measured["measurement"].energy.joules == pytest.approx(4 * measured["joules"])
    assert measured["answers_as_without_graph"] == 1
