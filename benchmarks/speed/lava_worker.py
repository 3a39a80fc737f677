"""The process in which the speed benchmark runs Lava: timed from inside, one line per request.

`python -m spikeship.benchmarks.speed.lava_worker FOLDER all|output BITS EXPONENT` loads
FOLDER/network.net with lava-dl, so many message bits and this `spike_exp`, feeds FOLDER/input.npy
(Lava's axes, time last, repeated for ever) from an io.source.RingBuffer, and reads the output, or every
layer, with io.sink.RingBuffer. For a number of steps and 0 or 1 on a line of standard input it runs that
many, reads the sinks if 1, and answers `SPEED {"run": s, "get": s}`: seconds in run(), and in .data.get()
per step that it moved.
"""

from __future__ import annotations

import json
import logging
import sys
import time
from pathlib import Path

import numpy as np
from lava.lib.dl import netx
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.proc.io.sink import RingBuffer as Sink
from lava.proc.io.source import RingBuffer as Source

BUFFER = 2
"""Steps that a sink holds, and that one .data.get() moves."""


def main(folder: Path, which: str, message_bits: int, spike_exp: int) -> None:
    """Serve until standard input ends."""
    net = netx.hdf5.Network(
        net_config=str(folder / "network.net"),
        input_message_bits=message_bits,
        spike_exp=spike_exp,
    )
    source = Source(data=np.load(folder / "input.npy"))
    first = net.layers[0]
    source.s_out.connect(first.neuron.a_in if first.block == "Input" else first.inp)
    layers = net.layers if which == "all" else net.layers[-1:]
    sinks = [Sink(shape=layer.neuron.s_out.shape, buffer=BUFFER) for layer in layers]
    for layer, sink in zip(layers, sinks, strict=True):
        layer.neuron.s_out.connect(sink.a_in)
    net._log_config.level = logging.ERROR
    config = Loihi2SimCfg(select_tag="fixed_pt")
    try:
        for line in sys.stdin:
            steps, get = map(int, line.split())
            start = time.perf_counter()
            net.run(condition=RunSteps(num_steps=steps), run_cfg=config)
            ran = time.perf_counter()
            for sink in sinks if get else ():
                sink.data.get()
            seconds = {"run": ran - start, "get": (time.perf_counter() - ran) / BUFFER}
            print("SPEED", json.dumps(seconds), flush=True)
    finally:
        net.stop()


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2], int(sys.argv[3]), int(sys.argv[4]))
