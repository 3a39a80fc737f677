"""A fresh process for the speed benchmark: how long the first call takes, and how much memory one needs.

`python -m spikeship.benchmarks.speed.child FOLDER counts|spikes` reads FOLDER/network.net and
FOLDER/input.npy, runs them on the engine twice, and prints one line of JSON. It imports nothing that
the engine does not need, so that the first call is the one a user waits for.
"""

from __future__ import annotations

import json
import resource
import sys
import time
from pathlib import Path

START = time.perf_counter()


def peak() -> int:
    """Largest resident memory so far, in bytes; since `forget_peak` where the system allows that."""
    try:
        lines = Path("/proc/self/status").read_text().splitlines()
        return 1024 * next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
    except (OSError, StopIteration):
        return 1024 * resource.getrusage(resource.RUSAGE_SELF).ru_maxrss


def forget_peak() -> None:
    """Let Linux count the peak anew, from what is resident now."""
    try:
        Path("/proc/self/clear_refs").write_text("5")
    except OSError:
        return


def main(folder: Path, record: str) -> None:
    """Import, first call, second call with its memory."""
    import numpy as np

    from ...hw_targets.netx.file import read_netx
    from ...hw_targets.simulate import engine

    imported = time.perf_counter()
    network, x = read_netx(folder / "network.net"), np.load(folder / "input.npy")
    read = time.perf_counter()
    engine.simulate(network, x[:1], record=record)
    called = time.perf_counter()
    forget_peak()
    before = peak()
    trace = engine.simulate(network, x, record=record)
    result = {
        "import_seconds": imported - START,
        "first_call_seconds": called - read,
        "peak_bytes": peak() - before,
        "input_bytes": x.nbytes,
        "backend": trace.backend,
    }
    print(json.dumps(result))


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
