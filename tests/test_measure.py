"""Energy sensors and windows: what is measured, what is refused, on a clock that the tests turn."""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from spikeship.pipeline.energy.measure import (
    Conditions,
    Counter,
    Mean,
    Measurement,
    Nvml,
    Rapl,
    Reading,
    Sample,
    Unavailable,
    evaluate,
    measure,
)
from spikeship.pipeline.energy.measure.nvml import cuda_index


@pytest.mark.parametrize(("fields", "message"), [
    (("measured", None, 1.0, "board"), "joules = None cannot have the status 'measured'"),
    (("estimated", None, 1.0, "board"), "joules = None cannot have the status 'estimated'"),
    (("unavailable", 1.0, 1.0, "board", "why"), "joules = 1.0 cannot have the status 'unavailable'"),
    (("unavailable", None, 1.0, "board"), "needs the reason"),
    (("measured", 0.0, 1.0, "board"), "joules = 0.0: energy is above 0"),
    (("measured", -1.0, 1.0, "board"), "joules = -1.0: energy is above 0"),
    (("measured", float("nan"), 1.0, "board"), "joules = nan: energy is above 0"),
    (("guessed", 1.0, 1.0, "board"), "status 'guessed'; use one of measured, estimated, unavailable"),
])  # fmt: skip
def test_a_reading_without_energy_says_so(fields: tuple[Any, ...], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        Reading(*fields)


class Fixed:
    """A sensor that `evaluate` asks for its names only."""

    name, scope, refresh_s = "meter", "board", 0.05

    def sample(self) -> Sample:
        raise AssertionError

    def conditions(self) -> Conditions:
        return Conditions()


def of(joules: tuple[float, ...], wraps_at: float | None = None) -> list[Sample]:
    return [Sample((Counter("the counter", j, wraps_at),)) for j in joules]


@pytest.mark.parametrize(("times", "samples", "joules"), [
    ((0, 5), of((100.0, 150.0)), 50.0),
    ((0, 1, 2), of((100.0, 100.0, 120.0)), 20.0),  # still for a second
    ((0, 1, 2), of((990.0, 995.0, 3.0), 1000.0 * 10), None),  # wraps at another place
    ((0, 1, 2), of((9990.0, 9995.0, 3.0), 1e4), 13.0),
    ((0, 1, 2, 3), of((9990.0, 9995.0, 3.0, 1.0), 1e4), None),
    ((0, 1), of((7.0, 6.999)), None),
    ((0, 3), of((7.0, 7.0)), None),
    ((0, 1), of((7.0, 7.0)), None),
    ((0, 1, 2, 3, 3.5), of((1.0, 2.0, 2.0, 2.0, 2.0)), None),  # still at the end
    ((0, 1, 2, 3, 3.5), of((1.0, 2.0, 2.0, 2.0, 3.0)), 2.0),
    ((0, 30), of((9990.0, 3.0), 1e4), None),
    ((0, 2), [Sample((Counter("a", 1.0), Counter("b", 7.0))), Sample((Counter("a", 3.0), Counter("b", 8.5)))], 3.5),
    ((0, 2), [Sample((Counter("a", 1.0), Counter("b", 7.0))), Sample((Counter("a", 3.0), Counter("b", 7.0)))], None),
])  # fmt: skip
def test_energy_between_samples(
    times: tuple[float, ...], samples: list[Sample], joules: float | None
) -> None:
    found = evaluate(Fixed(), times, samples)
    assert found.seconds == times[-1] - times[0]
    assert (found.scope, found.sensor, found.refresh_s) == ("board", "meter", 0.05)
    if joules is None:
        assert (found.status, found.joules) == ("unavailable", None)
        assert found.reason
    else:
        assert (found.status, found.reason) == ("measured", "")
        assert found.joules == pytest.approx(joules, rel=1e-12)


@pytest.mark.parametrize(("times", "samples", "reason"), [
    ((0, 1), of((7.0, 6.0)), "the counter went back from 7.000000 to 6.000000 J"),
    ((0, 1), of((7.0, 6.0), 2e5), "went back"),
    ((0, 2.5), of((7.0, 7.0)), "did not move for 2.5 s; it is not working"),
    ((0, 0.01), of((7.0, 7.0)), "did not move in 0.01 s: the window is too short for it"),
    ((0, 30), of((7.0, 8.0), 1e4), "wraps at 10,000 J, perhaps more than once in the 30.0 s"),
])  # fmt: skip
def test_reasons(times: tuple[float, ...], samples: list[Sample], reason: str) -> None:
    assert reason in evaluate(Fixed(), times, samples).reason


@pytest.mark.parametrize(("watts", "joules"), [
    ((10.0, 20.0, 30.0), 15 + 2 * 25.0),
    ((10.0, None, 30.0), None),
])  # fmt: skip
def test_power_is_integrated_beside_the_counter(
    watts: tuple[float | None, ...], joules: float | None
) -> None:
    samples = [replace(s, watts=w) for s, w in zip(of((0.0, 15.0, 65.0)), watts, strict=True)]
    found = evaluate(Fixed(), (0, 1, 3), samples)
    assert (found.joules, found.power_joules) == (65.0, joules)


def zone(
    root: Path, folder: str, name: str, energy: str | None, range_: str = "65532610987"
) -> Path:
    """One zone of the powercap tree; returns its counter file."""
    path = root / folder
    path.mkdir(parents=True)
    (path / "name").write_text(f"{name}\n")
    (path / "max_energy_range_uj").write_text(f"{range_}\n")
    (path / "constraint_0_power_limit_uw").write_text("200000000\n")
    if energy is not None:
        (path / "energy_uj").write_text(f"{energy}\n")
    return path / "energy_uj"


def powercap(tmp_path: Path) -> Path:
    return tmp_path / "sys" / "class" / "powercap"


def test_rapl_adds_packages_and_nothing_else(tmp_path: Path) -> None:
    root = powercap(tmp_path)
    files = [zone(root, f"intel-rapl:{i}", f"package-{i}", f"{7000000 + i}") for i in (0, 1)]
    zone(root, "intel-rapl:2", "psys", "1")
    zone(root, "intel-rapl:0:0", "core", "1")
    zone(root, "intel-rapl:0:1", "dram", "1")
    zone(root, "intel-rapl-mmio:0", "package-0", "1")
    sensor = Rapl(root)
    start = sensor.sample()
    assert [c.where for c in start.counters] == [str(file) for file in files]
    assert [c.joules for c in start.counters] == pytest.approx([7.0, 7.000001], rel=1e-12)
    files[0].write_text("9000000\n")
    files[1].write_text("7500001\n")
    found = evaluate(sensor, (0, 5), (start, sensor.sample()))
    assert (found.status, found.scope, found.sensor) == ("measured", "CPU package", "RAPL")
    assert found.joules == pytest.approx(2.5, rel=1e-9)


def test_rapl_wraps_at_its_own_range(tmp_path: Path) -> None:
    file = zone(powercap(tmp_path), "intel-rapl:0", "package-0", "262143000000", "262143328850")
    sensor = Rapl(powercap(tmp_path))
    start = sensor.sample()
    file.write_text("1671150\n")
    found = evaluate(sensor, (0, 5), (start, sensor.sample()))
    assert found.joules == pytest.approx(2.0, rel=1e-6)


def denied(monkeypatch: pytest.MonkeyPatch, *names: str) -> None:
    """Files that may not be read, also by root."""
    read_text = Path.read_text

    def read(path: Path, *args: Any, **options: Any) -> str:
        if path.name in names:
            raise PermissionError(13, "Permission denied", str(path))
        return read_text(path, *args, **options)

    monkeypatch.setattr(Path, "read_text", read)


def test_rapl_permission_names_files_and_remedy(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    files = [zone(powercap(tmp_path), f"intel-rapl:{i}", f"package-{i}", "7") for i in (0, 1)]
    denied(monkeypatch, "energy_uj")
    with pytest.raises(Unavailable) as error:
        Rapl(powercap(tmp_path)).sample()
    for file in files:
        assert f"{file} may be read by root only" in str(error.value)
        assert f"sudo chmod a+r {file}" in str(error.value)


@pytest.mark.parametrize(("make", "reason"), [
    (lambda root: None, "virtual machines and containers hide them"),
    (lambda root: root.mkdir(parents=True), "has no zone intel-rapl:N of a CPU package"),
    (lambda root: zone(root, "intel-rapl:0", "psys", "7"), "has no zone intel-rapl:N of a CPU package"),
    (lambda root: zone(root, "intel-rapl:0", "package-0", None), "energy_uj does not exist"),
    (lambda root: zone(root, "intel-rapl:0", "package-0", "many"), "cannot be read as an integer"),
])  # fmt: skip
def test_rapl_missing(tmp_path: Path, make: Callable[[Path], object], reason: str) -> None:
    make(powercap(tmp_path))
    sensor = Rapl(powercap(tmp_path))
    with pytest.raises(Unavailable, match=reason):
        sensor.sample()
    assert isinstance(sensor.conditions(), Conditions)


def test_rapl_without_a_range_cannot_wrap(tmp_path: Path) -> None:
    file = zone(powercap(tmp_path), "intel-rapl:0", "package-0", "5000000", "")
    sensor = Rapl(powercap(tmp_path))
    start = sensor.sample()
    file.write_text("1000000\n")
    assert "went back" in evaluate(sensor, (0, 5), (start, sensor.sample())).reason


def test_rapl_conditions(tmp_path: Path) -> None:
    for i in (0, 1):
        zone(powercap(tmp_path), f"intel-rapl:{i}", f"package-{i}", "7")
    for i, (khz, degrees) in enumerate(((2000000, 40000), (3000000, 55000))):
        policy = tmp_path / "sys" / "devices" / "system" / "cpu" / "cpufreq" / f"policy{i}"
        policy.mkdir(parents=True)
        (policy / "scaling_cur_freq").write_text(f"{khz}\n")
        (policy / "scaling_driver").write_text("intel_pstate\n")
        (policy / "scaling_governor").write_text("performance\n")
        monitor = tmp_path / "sys" / "class" / "hwmon" / f"hwmon{i}"
        monitor.mkdir(parents=True)
        (monitor / "name").write_text("coretemp\n")
        (monitor / "temp1_input").write_text(f"{degrees}\n")
    disk = tmp_path / "sys" / "class" / "hwmon" / "hwmon9"
    disk.mkdir()
    (disk / "name").write_text("nvme\n")
    (disk / "temp1_input").write_text("90000\n")
    assert Rapl(powercap(tmp_path)).conditions() == Conditions(
        clock_mhz=2500.0,
        power_limit_w=400.0,
        temperature_c=55.0,
        driver="intel_pstate, governor performance",
    )


def test_a_power_limit_is_that_of_all_packages_or_none(tmp_path: Path) -> None:
    for i in (0, 1):
        file = zone(powercap(tmp_path), f"intel-rapl:{i}", f"package-{i}", "7")
    (file.parent / "constraint_0_power_limit_uw").unlink()
    assert Rapl(powercap(tmp_path)).conditions().power_limit_w is None


class NVMLError(Exception):
    """As in nvidia-ml-py."""


class NVMLError_NotSupported(NVMLError):
    pass


def nvml(**changes: Any) -> Any:
    """A driver with two GPUs; `changes`: values that functions return, or errors that they raise."""
    values = {
        "nvmlInit": None,
        "nvmlDeviceGetHandleByIndex": "handle",
        "nvmlDeviceGetHandleByUUID": "handle",
        "nvmlDeviceGetName": "NVIDIA H200",
        "nvmlDeviceGetTotalEnergyConsumption": 12_345,
        "nvmlDeviceGetPowerUsage": 80_000,
        "nvmlDeviceGetClockInfo": 1980,
        "nvmlDeviceGetEnforcedPowerLimit": 700_000,
        "nvmlDeviceGetTemperature": 35,
        "nvmlDeviceGetMigMode": NVMLError_NotSupported("Not Supported"),
        "nvmlSystemGetDriverVersion": "580.1",
    } | changes
    asked: list[tuple[Any, ...]] = []

    def function(name: str) -> Callable[..., Any]:
        def call(*arguments: Any) -> Any:
            asked.append((name, *arguments))
            if isinstance(values[name], Exception):
                raise values[name]
            return values[name]

        return call

    functions = {name: function(name) for name in values}
    errors = {"NVMLError": NVMLError, "NVMLError_NotSupported": NVMLError_NotSupported}
    return SimpleNamespace(**functions, **errors, asked=asked)


def test_nvml_reads_counter_power_and_conditions() -> None:
    library = nvml()
    sensor = Nvml(1, library, expected="NVIDIA H200")
    where = "NVML's energy counter of GPU 1"
    assert sensor.sample() == Sample((Counter(where, pytest.approx(12.345)),), 80.0)
    assert ("nvmlDeviceGetHandleByIndex", 1) in library.asked
    assert sensor.conditions() == Conditions(1980, 1980, 700.0, 35, "580.1")
    assert {call for call in library.asked if "Clock" in call[0]} == {
        ("nvmlDeviceGetClockInfo", "handle", 1),
        ("nvmlDeviceGetClockInfo", "handle", 2),
    }
    assert (sensor.name, sensor.scope) == ("NVML", "GPU board")


@pytest.mark.parametrize(("changes", "reason"), [
    ({"nvmlInit": NVMLError("NVML Shared Library Not Found")}, "no NVIDIA driver answers.*Not Found"),
    ({"nvmlDeviceGetHandleByIndex": NVMLError("Invalid Argument")}, "no GPU 0 .*nvidia-smi -L"),
    ({"nvmlDeviceGetName": "NVIDIA T4"}, "'NVIDIA T4' to the driver and 'NVIDIA H200' to CUDA: set CUDA_DEVICE_ORDER"),
    ({"nvmlDeviceGetTotalEnergyConsumption": NVMLError_NotSupported("Not Supported")}, "does not exist: boards before Volta and MIG"),
    ({"nvmlDeviceGetTotalEnergyConsumption": NVMLError("GPU is lost")}, "cannot be read .GPU is lost"),
])  # fmt: skip
def test_nvml_missing(changes: dict[str, Any], reason: str) -> None:
    sensor = Nvml(0, nvml(**changes), expected="NVIDIA H200")
    with pytest.raises(Unavailable, match=reason):
        sensor.sample()
    assert isinstance(sensor.conditions(), Conditions)
    assert sensor.scope == "GPU board"


def test_nvml_library_is_an_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pynvml", None)
    with pytest.raises(
        Unavailable, match=r"nvidia-ml-py is not installed: pip install \"spikeship\[gpu\]\""
    ):
        Nvml().sample()
    assert Nvml().conditions() == Conditions()


def test_nvml_details() -> None:
    """By UUID; power that is not told; the module of a GH200; a GPU divided among several."""
    library = nvml(
        nvmlDeviceGetPowerUsage=NVMLError_NotSupported(""),
        nvmlDeviceGetName="NVIDIA GH200 480GB",
        nvmlDeviceGetMigMode=[1, 1],
    )
    sensor = Nvml("GPU-8932", library)
    assert sensor.sample().watts is None
    assert ("nvmlDeviceGetHandleByUUID", "GPU-8932") in library.asked
    assert sensor.scope == "GPU module"
    assert "MIG is on" in sensor.conditions().notes[0]


@pytest.mark.parametrize(("device", "visible", "index"), [
    (1, None, 1), (0, "3", 3), (1, "3, 5", 5), (0, "GPU-8932,1", "GPU-8932"), (2, "1", 2),
])  # fmt: skip
def test_cuda_numbers_only_visible_gpus(device: int, visible: str | None, index: int | str) -> None:
    assert cuda_index(device, visible) == index


class Bench:
    """A clock, and a meter on a processor that takes `idle` watts, and `busy` while it works."""

    name, scope, refresh_s = "meter", "board", 0.02

    def __init__(self, idle: float = 10.0, busy: float = 30.0, call_s: float = 1 / 16) -> None:
        self.now, self.joules, self.watts = 100.0, 1000.0, idle
        self.idle, self.busy, self.call_s = idle, busy, call_s
        self.calls, self.synchronized, self.slept = 0, [], 0.0
        self.sampled, self.sample_s = 0, 0.0
        self.power_factor: float | None = None
        self.refused_from: float | None = None

    def spend(self, seconds: float, watts: float) -> None:
        self.now += seconds
        self.joules += watts * seconds
        self.watts = watts

    def work(self) -> None:
        self.calls += 1
        self.spend(self.call_s, self.busy)

    def sleep(self, seconds: float) -> None:
        self.slept += seconds
        self.spend(seconds, self.idle)

    def synchronize(self) -> None:
        self.synchronized.append(self.calls)

    def sample(self) -> Sample:
        self.sampled += 1
        self.now += self.sample_s
        if self.refused_from is not None and self.now >= self.refused_from:
            raise Unavailable("unplugged")
        watts = None if self.power_factor is None else self.watts * self.power_factor
        return Sample((Counter("meter", self.joules),), watts)

    def conditions(self) -> Conditions:
        return Conditions(clock_mhz=1000.0 + self.calls, notes=("a note",))

    def measure(self, **options: Any) -> Measurement:
        return measure(
            self.work,
            self,
            synchronize=self.synchronize,
            clock=lambda: self.now,
            sleep=self.sleep,
            **options,
        )


def test_windows_of_work_and_of_idleness() -> None:
    bench = Bench()
    found = bench.measure()
    assert found.calls == (80,) * 5  # 5 s of 1/16 s a call
    assert [(w.joules, w.seconds) for w in found.windows] == [(150.0, 5.0)] * 5
    assert (found.idle.joules, found.idle.seconds) == (50.0, 5.0)
    assert bench.slept == 6.0  # a pause of 1 s before
    assert found.seconds == Mean(1 / 16, 0.0)
    assert (found.energy.status, found.energy.joules) == ("measured", 30 / 16)
    assert found.energy.seconds == 1 / 16
    assert (found.energy_error, found.dynamic) == (0.0, Mean(20 / 16, 0.0))
    assert found.notes == ("a note",)
    assert bench.sampled == 1 + 6 * 41  # is it there; then every 1/8 s of six windows
    # one call opens the context, ten seconds warm up
    assert bench.calls == 1 + 160 + 400
    assert (found.before.clock_mhz, found.after.clock_mhz) == (1161.0, 1561.0)
    for end in range(161, 562, 80):  # both ends of every window
        assert end in bench.synchronized


def test_mean_and_standard_error() -> None:
    """Windows of 2, 4 and 6 W: the mean 4, s = 2, the error 2 / sqrt(3)."""
    bench = Bench(idle=1.0, call_s=1.0)
    watts = iter([2.0] * 1 + [2.0, 4.0, 6.0])

    def work() -> None:
        bench.calls += 1
        bench.spend(1.0, next(watts))

    found = measure(
        work,
        bench,
        window_s=1.0,
        repeats=3,
        warmup_s=0.0,
        clock=lambda: bench.now,
        sleep=bench.sleep,
    )
    assert found.energy.joules == pytest.approx(4.0)
    assert found.energy_error == pytest.approx(2 / 3**0.5)
    assert found.dynamic == Mean(pytest.approx(3.0), pytest.approx(2 / 3**0.5))
    assert "energies of the windows differ by 100%: the machine was not quiet." in found.notes


def test_a_sensor_that_is_not_there_leaves_the_time() -> None:
    bench = Bench()
    bench.refused_from = 0.0
    found = bench.measure(window_s=1.0, repeats=2)
    assert (found.energy.status, found.energy.joules, found.energy.reason) == (
        "unavailable",
        None,
        "unplugged",
    )
    assert found.energy.seconds == found.seconds.value == 1 / 16
    assert (found.idle.status, found.idle.seconds, found.idle.reason) == (
        "unavailable",
        None,
        "unplugged",
    )
    assert bench.slept == 0.0  # no idle window without a sensor
    assert (found.dynamic, found.energy_error) == (None, None)


def test_a_sensor_that_is_lost_on_the_way() -> None:
    bench = Bench()
    bench.refused_from = 100.0 + 1 / 16 + 0.2 + 1 + 2 + 1.5  # in the second of two windows
    found = bench.measure(window_s=1.0, repeats=2)
    assert [w.status for w in found.windows] == ["measured", "unavailable"]
    assert (found.energy.joules, found.energy.reason) == (None, "window 2 of 2: unplugged")
    assert found.idle.status == "measured"
    assert found.dynamic is None


@pytest.mark.parametrize(("change", "options", "note"), [
    ({"power_factor": 1.06}, {}, "integrated power is 106% of the energy counter, beyond 5%"),
    ({"power_factor": 0.9}, {}, "integrated power is 90% of the energy counter"),
    ({"power_factor": 1.04}, {}, None),
    ({"refresh_s": 0.2}, {}, "meter refreshes every 0.2 s, 4% of a window of 5 s"),
    ({"refresh_s": None}, {}, None),
    ({"busy": 10.0}, {}, "no more power than idle"),
    ({}, {"repeats": 1}, None),
])  # fmt: skip
def test_doubts_are_said(change: dict[str, Any], options: dict[str, Any], note: str | None) -> None:
    bench = Bench()
    for name, value in change.items():
        setattr(bench, name, value)
    found = bench.measure(**options)
    if note is None:
        assert found.notes == ("a note",)
    else:
        assert note in " ".join(found.notes)
    assert found.energy.status == "measured"
    if options:
        assert (found.energy_error, found.seconds.error) == (None, None)


@pytest.mark.parametrize("options", [{"window_s": 0.0}, {"repeats": 0}, {"window_s": -1.0}])
def test_windows_must_be_possible(options: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match="both must be above 0"):
        Bench().measure(**options)


def test_a_sensor_slower_than_the_window_leaves_one_call() -> None:
    bench = Bench()
    bench.sample_s = 0.5
    found = bench.measure(window_s=0.25, repeats=1)
    assert found.calls == (1,)
    assert found.energy.joules == 30 / 16


def test_a_call_longer_than_the_window_is_one_call() -> None:
    found = Bench(call_s=7.0).measure(repeats=2)
    assert found.calls == (1, 1)
    assert found.energy.joules == pytest.approx(210.0)
