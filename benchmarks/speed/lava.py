"""Lava as a contender of the speed benchmark: a process that holds a network and is asked for times."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...hw_targets.network.network import Network
from ...hw_targets.netx.file import write_netx
from ...hw_targets.simulate.lava import LavaError


class Lava:
    """A Lava process that holds one network and is timed from inside."""

    def __init__(self, process: subprocess.Popen[str], log: Path) -> None:
        self._process, self._log = process, log
        self.parts: list[dict[str, float]] = []
        self.steps = 2
        self._ask(1, get=False)  # compiles
        step_seconds = max(self._ask(2, get=False)["run"] / 2, 1e-4)
        self.steps = int(min(33, max(3, 0.8 / step_seconds)))

    def _ask(self, steps: int, *, get: bool) -> dict[str, float]:
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        with suppress(BrokenPipeError):  # the log says why
            self._process.stdin.write(f"{steps} {get:d}\n")
            self._process.stdin.flush()
        for line in self._process.stdout:
            if line.startswith("SPEED "):
                seconds: dict[str, float] = json.loads(line[6:])
                return seconds
        raise LavaError(f"Lava ended:\n{self._log.read_text()[-2000:]}")

    def measure(self) -> float:
        """Seconds per step: a long run less a run of one step, and what reading the sinks takes."""
        short, long = self._ask(1, get=False), self._ask(self.steps, get=True)
        run = (long["run"] - short["run"]) / (self.steps - 1)
        self.parts.append({"run": run, "get": long["get"]})
        return run + long["get"]


@contextmanager
def lava_process(
    network: Network, x: NDArray[Any], which: str, message_bits: int = 0
) -> Iterator[Lava]:
    """Lava with `network`, fed x (step, *shape); `which`: "output" or "all" layers read.

    `message_bits`: of the input, 0 for single spikes.
    """
    with tempfile.TemporaryDirectory(prefix="spikeship-speed-") as name:
        folder = Path(name)
        write_netx(network, folder / "network.net")
        messages = x.reshape(len(x), *network.populations[0].input_shape)
        if messages.ndim == 4:
            messages = messages.swapaxes(1, 3)
        np.save(folder / "input.npy", np.moveaxis(messages, 0, -1).astype(np.int32))
        command = [sys.executable, "-m", "spikeship.benchmarks.speed.lava_worker", name, which]
        exponent = 6 if network.spike_exp is None else network.spike_exp
        command += [str(message_bits), str(exponent)]
        with (
            (folder / "log").open("w") as log,
            subprocess.Popen(
                command,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**os.environ, "PYTHONWARNINGS": "ignore"},
                start_new_session=True,
            ) as process,
        ):
            try:
                yield Lava(process, folder / "log")
            finally:
                try:
                    process.communicate(timeout=60)
                except subprocess.TimeoutExpired:
                    os.killpg(process.pid, signal.SIGKILL)  # this process and those it forked
