"""Running a network on Lava's own fixed-point CPU backend, as `reference.simulate` would.

lava-dl's `netx.hdf5.Network` loads the very file that the network was read from where that is given;
else a file that we write, in which an error of our own reading would not show. Needs lava-nc and lava-dl:
`pip install "spikeship[lava]"` on Python 3.10, which is all that they say they take; on later ones they
run as well, installed past that (`PAST_ITS_PINS`), see `lava_worker`. Lava runs in a Python process of
its own: it forks one process per layer, which is unsafe in a process that has used torch, and it would
fix the start method of `multiprocessing` for the caller.
"""

from __future__ import annotations

import json
import os
import shutil
import signal
import subprocess
import sys
import tempfile
import threading
import warnings
from collections.abc import Callable, Collection, Iterator
from contextlib import contextmanager, suppress
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from ..network.network import Network, Population
from ..network.neurons import NetworkError
from ..network.timing import AS_INPUT, Timing
from ..netx.file import NetxError, NetxWarning, old_layers, read_netx, write_netx
from ..netx.write import check_loadable
from .inputs import QUANTITIES, parse_record, prepare_input
from .state import State
from .trace import Recorded, Trace

PAST_ITS_PINS = "pip install --no-deps --ignore-requires-python lava-nc==0.10.0 lava-dl==0.6.0"
"""What installs Lava on Python 3.11 and later."""
NEEDED = ("asteval", "cv2", "networkx", "torch", "torchvision")
"""What Lava imports, and pip does not bring with `PAST_ITS_PINS`."""


class LavaMissingError(RuntimeError):
    """Lava is not installed here, or this Python cannot run it."""


class LavaError(RuntimeError):
    """Lava was started and did not finish; the message ends with what it printed."""


def why_unavailable() -> str | None:
    """None where Lava can run; otherwise one sentence that says why not and what to do."""
    newer = sys.version_info >= (3, 11)
    packages = ("lava", "lava.lib.dl.netx", *(NEEDED if newer else ()))
    missing = [name for name in packages if not _is_there(name)]
    if not missing:
        return None
    install = '`pip install "spikeship[lava]"`'
    if newer:
        install += f", then `{PAST_ITS_PINS}`, or use Python 3.10, where the first is enough"
    what = "Lava is" if "lava" in missing else f"{', '.join(missing)}, which Lava needs, is"
    return f"{what} not installed: {install}."


def _is_there(name: str) -> bool:
    try:
        return find_spec(name) is not None
    except ModuleNotFoundError:
        return False


def run(
    network: Network,
    inputs: ArrayLike,
    timing: Timing = AS_INPUT,
    *,
    record: str | Collection[str] = "counts",
    file: str | Path | None = None,
    state: State | None = None,
) -> Trace:
    """Run a network on Lava's `Loihi2SimCfg(select_tag="fixed_pt")`; arguments as in `simulate`.

    `file`: the netx file that the network was read from, whole: Lava then loads that one. Weights that
    Lava changes run as it changes them, which is what the simulators do.
    All samples go through one Lava run. Between two samples one idle step (or as many as bring the
    step count to a multiple of the reset interval) passes, at whose end every synaptic buffer and
    every state is set back to 0, so that each sample starts as in a run of its own. Overflows are
    not counted by Lava: `trace.overflow` is None. Raises LavaMissingError, LavaError, NetworkError,
    NetxError; NetworkError for a `state`, as Lava cannot go on from one.
    """
    if state is not None:
        raise NetworkError(
            "Lava always begins at the beginning: simulate with state on another backend."
        )
    reason = why_unavailable()
    if reason:
        raise LavaMissingError(reason)
    kept = parse_record(record, network)
    drive = prepare_input(network, inputs, timing)
    populations, samples = network.populations, len(drive.x)
    probes = {name: set(getattr(kept, name)) for name in QUANTITIES}
    if kept.counts:
        probes["spikes"].add(populations[-1].index)
    period = drive.steps + 1
    if timing.reset_interval is not None:
        period = -(-period // timing.reset_interval) * timing.reset_interval
    runs = max(samples, 1)  # Lava cannot run for no time
    exponent = 6 if network.spike_exp is None else network.spike_exp
    if file is not None:
        _check_file(network, file, exponent)
    job = {
        "steps": runs * period,
        "period": period,
        "states": [list(p.states.values()) for p in populations],
        "probes": [
            (i, what, populations[i].states.get(what)) for what, of in probes.items() for i in of
        ],
        "network": {
            "input_message_bits": 24 if timing.message_bits is None else timing.message_bits,
            "reset_interval": timing.reset_interval,
            "reset_offset": timing.reset_offset,
            "spike_exp": exponent,
            "input_shape": network.input_shape[::-1],  # read only where the file has no input layer
        },
    }
    with tempfile.TemporaryDirectory(prefix="spikeship-lava-") as name:
        folder = Path(name)
        if file is None:
            _check_loadable(network)
            write_netx(network, folder / "network.net", for_lava=False)
        else:
            shutil.copyfile(file, folder / "network.net")
        shape = populations[0].input_shape  # flat where a Flatten comes before a Dense
        if drive.bias is not None:
            biases = np.zeros((runs, *shape), np.int32)
            biases[:samples] = drive.bias
            np.save(folder / "bias.npy", _swap(biases, len(shape)))
        else:
            padded = np.zeros((runs, period, *network.input_shape), np.int32)
            padded[:samples, : drive.x.shape[1]] = drive.x
            messages = _swap(padded.reshape(-1, *shape), len(shape))
            np.save(folder / "input.npy", np.moveaxis(messages, 0, -1))
        (folder / "job.json").write_text(json.dumps(job))
        _start(folder, 120 + 5 * runs * period * len(populations))

        def load(what: str, p: Population) -> NDArray[Any]:
            rows = _swap(np.load(folder / f"{what}.{p.index}.npy"), len(p.shape))
            by_sample = rows.reshape(runs, period, *p.shape)[:samples, : drive.steps]
            return by_sample.astype(np.int8 if what == "spikes" and not p.graded else np.int32)

        recorded: dict[str, Any] = {
            name: Recorded(name, [load(name, p) if p.index in of else None for p in populations])
            for name in QUANTITIES
            if (of := getattr(kept, name))
        }
        if kept.counts:
            recorded["counts"] = load("spikes", populations[-1]).sum(axis=1, dtype=np.int64)
    return Trace(**recorded, backend="lava")


def _check_file(network: Network, file: str | Path, exponent: int) -> None:
    """Refuse a file that holds another network than the one to be run, or that Lava reads otherwise."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", NetxWarning)
        stored = read_netx(file, network.input_shape, spike_exp=exponent)
    if stored.digest != network.digest:
        raise NetworkError(
            f"{file} holds network {stored.digest[:12]}, this is {network.digest[:12]}. Give the file "
            f"that the network was read from, or none."
        )
    if old := old_layers(file):
        raise NetxError(
            f"{file}: layer {old[0]} has a type that early versions of SLAYER wrote, which lava-dl skips "
            f"silently. Write the file again with `spikeship lower`, and give that."
        )


def _check_loadable(network: Network) -> None:
    for i, layer in enumerate(network.layers):
        try:
            check_loadable(layer)
        except NetworkError as error:
            raise NetxError(f"layer {i} ({type(layer).__name__}): {error}") from None


def _swap(array: NDArray[Any], axes: int) -> NDArray[Any]:
    """(..., C, H, W) to Lava's (..., W, H, C) and back; shapes of other lengths stay."""
    return np.swapaxes(array, -1, -3) if axes == 3 else array


def _command(*words: str) -> tuple[list[str], dict[str, str]]:
    """The worker's command line and its environment."""
    command = [sys.executable, "-m", "spikeship.hw_targets.simulate.lava_worker", *words]
    return command, {**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}


def _start(folder: Path, limit: float) -> None:
    """Run the worker; a Lava process that fails leaves the others waiting, hence the time limit."""
    if _waiting is not None:
        _waiting(folder, limit)
        return
    command, environment = _command(str(folder))
    with (
        (folder / "log").open("w+") as log,
        subprocess.Popen(
            command, stdout=log, stderr=log, env=environment, start_new_session=True
        ) as worker,
    ):
        try:
            status = worker.wait(limit)
        except BaseException as error:
            os.killpg(worker.pid, signal.SIGKILL)  # the worker and the processes it forked
            if not isinstance(error, subprocess.TimeoutExpired):
                raise
            status = None
        if status != 0 or not (folder / "done").exists():
            log.seek(0)
            ended = f"status {status}" if status is not None else f"no result after {limit:.0f} s"
            raise LavaError(f"Lava ended with {ended}:\n{log.read()[-2000:]}")


_waiting: Callable[[Path, float], None] | None = None


@contextmanager
def kept_ready() -> Iterator[None]:
    """Within the block all runs of this process share one Lava process, which is imported (3 s) once.

    One after another: threads must not run Lava at the same time here. After a failure inside Lava the
    process is of no use any more: every further run in the block is a LavaError.
    """
    global _waiting  # noqa: PLW0603  # what the block changes is where runs go
    command, environment = _command()
    with (
        tempfile.TemporaryFile("w+") as log,
        subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=log,
            text=True,
            env=environment,
            start_new_session=True,
        ) as worker,
    ):

        def run_in(folder: Path, limit: float) -> None:
            assert worker.stdin is not None
            assert worker.stdout is not None
            timer = threading.Timer(limit, os.killpg, (worker.pid, signal.SIGKILL))
            timer.start()
            try:
                with suppress(BrokenPipeError):  # the log says why
                    print(folder, file=worker.stdin, flush=True)
                lines = iter(worker.stdout.readline, "")
                if not any(line == "finished\n" for line in lines):
                    log.seek(0)
                    raise LavaError(f"Lava ended:\n{log.read()[-2000:]}")
            finally:
                timer.cancel()

        _waiting = run_in
        try:
            yield
        finally:
            _waiting = None
            with suppress(ProcessLookupError):
                os.killpg(worker.pid, signal.SIGKILL)
