"""Mutated files against every reader: each must read them, or refuse them with its own error.

Usage: python -m spikeship.benchmarks.fuzz_files [--minutes N] [--seed S] [--readers NAME,...]
           [--out FOLDER]

A mutation changes, cuts or repeats bytes of a sound file that is made here. Every reader runs in forked
processes with limits of time and memory. Of HDF5 their loops and crashes are libhdf5's own, which the
command line keeps in another process, and are counted as contained; elsewhere they are faults, as are
other exceptions. Faulty files are kept in the folder; `fuzz_files.json` says what ran, and the status is
then 1.
"""

from __future__ import annotations

import io
import json
import os
import random
import resource
import signal
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer

from .harness import command, finish

BATCH = 20
"""Files that one forked process reads, until one of them ends it."""
BYTES = 1 << 34
"""Of address space, much of which torch takes."""
SECONDS = 10.0
"""Of processor time for one file."""

app = typer.Typer(add_completion=False, help=__doc__)


@dataclass(frozen=True)
class Reader:
    """`sound()`: the bytes of sound files; `refusals`: the errors that `read(path)` documents."""

    sound: Callable[[], list[bytes]]
    read: Callable[[Path], Any]
    refusals: tuple[type[Exception], ...]
    is_hdf5: bool = False


def _readers() -> dict[str, Reader]:
    from ..hw_targets.energy.device import DeviceError
    from ..hw_targets.energy.device_files import load_device
    from ..hw_targets.netx.file import NetxError, read_netx
    from ..hw_targets.npy import ArrayFileError, read_npy, read_npz
    from ..models.archive import ArchiveError, read_archive
    from ..pipeline.frontends import from_nir
    from ..pipeline.frontends.nir_file import NIRFileError
    from ..pipeline.graph import GraphError

    def nir_graph(path: Path) -> Any:
        return from_nir(path, dt=1e-4, reset="zero", reset_delay=0)

    refused = (NIRFileError, GraphError)
    return {
        "netx": Reader(_netx, read_netx, (NetxError,), is_hdf5=True),
        "nir": Reader(_nir, nir_graph, refused, is_hdf5=True),
        "checkpoint": Reader(_checkpoint, read_archive, (ArchiveError,)),
        "npy": Reader(_npy, read_npy, (ArrayFileError,)),
        "npz": Reader(_npz, read_npz, (ArrayFileError,)),
        "toml": Reader(_toml, load_device, (DeviceError,)),
    }


def _written(write: Callable[[Path], Any], ending: str) -> bytes:
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"file{ending}"
        write(path)
        return path.read_bytes()


def _netx() -> list[bytes]:
    from ..hw_targets import Conv, CubaLIF, Dense, Flatten, Input, Network, write_netx

    rng = np.random.default_rng(0)
    neuron = CubaLIF(i_decay=1024, v_decay=512, threshold=90)
    kernel, weight = (
        rng.integers(-60, 60, shape).astype(np.int32) for shape in ((2, 1, 3, 3), (4, 32))
    )
    conv, dense = Conv(kernel, neuron=neuron), Dense(weight, neuron=neuron)
    network = Network([Input((1, 6, 6)), conv, Flatten(), dense])
    return [_written(lambda path: write_netx(network, path, for_lava=False), ".net")]


def _nir() -> list[bytes]:
    import nir

    ones = np.ones(3)
    lif = nir.LIF(ones * 1e-3, ones, ones * 0, ones, ones * 0)
    graph = nir.NIRGraph.from_list(nir.Affine(np.ones((3, 4)), ones), lif)
    return [_written(lambda path: nir.write(path, graph), ".nir")]


def _checkpoint() -> list[bytes]:
    import torch

    stored = io.BytesIO()
    torch.save(
        {"state_dict": {"a": torch.ones(3, 4)}, "epoch": 3, "names": ["x", (1, 2.5)]}, stored
    )
    return [stored.getvalue()]


def _npy() -> list[bytes]:
    stored = io.BytesIO()
    np.save(stored, np.arange(24, dtype=np.int16).reshape(2, 3, 4))
    return [stored.getvalue()]


def _npz() -> list[bytes]:
    packed = io.BytesIO()
    np.savez_compressed(packed, x_train=np.zeros((10, 4)), y_train=np.arange(10))
    return [packed.getvalue()]


def _toml() -> list[bytes]:
    folder = Path(__file__).parent.parent / "hw_targets" / "energy" / "devices"
    return [path.read_bytes() for path in sorted(folder.glob("loihi*.toml"))]


def mutated(content: bytes, rng: random.Random) -> bytes:
    """A few bytes changed, cut out, or repeated; now and then the end is missing."""
    out = bytearray(content)
    for _ in range(rng.choice((1, 1, 1, 2, 4, 8))):
        at = rng.randrange(len(out))
        how = rng.random()
        if how < 0.4:
            out[at] ^= 1 << rng.randrange(8)
        elif how < 0.8:
            out[at] = rng.choice((0, 1, 127, 128, 255, rng.randrange(256)))
        elif how < 0.9 and len(out) > 64:
            del out[at : at + rng.randrange(1, 17)]
        else:
            out[at:at] = out[at : at + rng.randrange(1, 17)]
    return bytes(out[: rng.randrange(len(out))] if rng.random() < 0.05 else out)


def trial(reader: Reader, path: Path) -> str:
    """What becomes of a file: read, refused, or the exception that is a fault."""
    signal.setitimer(signal.ITIMER_VIRTUAL, SECONDS)
    try:
        reader.read(path)
    except reader.refusals:
        return "refused"
    except BaseException as error:
        return f"{type(error).__name__}: {error}"[:300]
    finally:
        signal.setitimer(signal.ITIMER_VIRTUAL, 0)
    return "read"


def batch(reader: Reader, paths: list[Path]) -> list[str]:
    """What becomes of some files, in forked processes; one that dies is followed by another."""
    said: list[str] = []
    while len(said) < len(paths):
        source, sink = os.pipe()
        child = os.fork()
        if child == 0:
            os.close(source)
            resource.setrlimit(resource.RLIMIT_AS, (BYTES, BYTES))
            for path in paths[len(said) :]:
                os.write(sink, json.dumps(trial(reader, path)).encode() + b"\n")
            os._exit(0)
        os.close(sink)
        with os.fdopen(source) as pipe:
            said += [json.loads(line) for line in pipe]
        _, status = os.waitpid(child, 0)
        if os.WIFSIGNALED(status):
            number = os.WTERMSIG(status)
            loop = number == signal.SIGVTALRM
            what = "looped" if loop else f"crashed ({signal.Signals(number).name})"
            said.append("contained" if reader.is_hdf5 else what)
    return said


@app.command()
def main(
    minutes: Annotated[float, typer.Option(help="How long.", min=0)] = 1.0,
    seed: Annotated[int, typer.Option(help="Of all mutations.", min=0)] = 0,
    readers: Annotated[str, typer.Option(help="Names, with commas; default: all.")] = "",
    out: Annotated[Path, typer.Option("--out", "-o", help="Folder.")] = Path("runs/fuzz_files"),
) -> None:
    known = _readers()
    chosen = readers.split(",") if readers else list(known)
    if unknown := set(chosen) - set(known):
        raise typer.BadParameter(
            f"no reader {', '.join(sorted(unknown))}; there are {', '.join(known)}."
        )
    out.mkdir(parents=True, exist_ok=True)
    sound = {name: known[name].sound() for name in chosen}
    counts = {name: Counter[str]() for name in chosen}
    faults: list[dict[str, Any]] = []
    rng, begun = random.Random(seed), time.monotonic()
    with tempfile.TemporaryDirectory() as folder:
        while not sum(map(len, counts.values())) or time.monotonic() - begun < 60 * minutes:
            for name in chosen:
                ending = ".toml" if name == "toml" else ""
                paths = [Path(folder) / f"{i}{ending}" for i in range(BATCH)]
                for path in paths:
                    path.write_bytes(mutated(rng.choice(sound[name]), rng))
                for path, said in zip(paths, batch(known[name], paths), strict=True):
                    fault = said not in ("read", "refused", "contained")
                    counts[name]["faults" if fault else said] += 1
                    if fault:
                        kept = out / f"{name}-{seed}-{len(faults)}{ending}"
                        kept.write_bytes(path.read_bytes())
                        faults.append({"reader": name, "says": said, "file": kept.name})
    result = {
        "command": command("fuzz_files", minutes=minutes, seed=seed, readers=readers or None),
        "seed": seed,
        "seconds": time.monotonic() - begun,
        "readers": counts,
        "faults": faults,
    }
    finish(result, out / "fuzz_files.json")
    for name, count in counts.items():
        print(
            f"{name}: " + ", ".join(f"{number:,} {what}" for what, number in sorted(count.items()))
        )
    raise typer.Exit(1 if faults else 0)


if __name__ == "__main__":
    app()
