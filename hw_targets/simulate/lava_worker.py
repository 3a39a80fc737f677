"""The process that `lava.run` starts: the only module that imports Lava.

`python -m spikeship.hw_targets.simulate.lava_worker FOLDER` loads `network.net` with lava-dl, runs the
job in `job.json` and leaves one .npy file, (step, *shape), per probe. Lava's own
`Var.get` moves one number at a time; the observer here keeps whole arrays where they are received and
writes them at the last step. Without FOLDER it takes folders from standard input, one a line, and
answers "finished" to each.
"""

from __future__ import annotations

import dataclasses
import json
import logging
import sys
from collections.abc import Sequence
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np


def _bear_newer_versions() -> None:
    """Let Lava run on Python 3.11 and later, and on numpy 2.4 and later; what it computes stays.

    One module has dataclasses with instances of one another as defaults, which must be hashable there:
    they are made so while it is imported. numpy's `reshape` lost the name `newshape`, which Lava's ports
    use: it gets it back, in this process alone. numpy 2.5 makes no number of an array of one entry, as
    which files hold the weight of an input layer: the module that reads them gets an `int` that does.
    Lava's files stay as they are.
    """
    reshape = np.reshape

    def by_either_name(a: Any, *shape: Any, newshape: Any = None, **options: Any) -> Any:
        return (
            reshape(a, *shape, **options) if newshape is None else reshape(a, newshape, **options)
        )

    np.reshape = by_either_name
    with suppress(
        ValueError
    ):  # all that the module imports is then there, and is not touched below
        import lava.magma.compiler.var_model
    usual = dataclasses.dataclass
    dataclasses.dataclass = partial(usual, unsafe_hash=True)
    try:
        import lava.magma.compiler.var_model  # noqa: F401
    finally:
        dataclasses.dataclass = usual
    from lava.lib.dl.netx import hdf5

    hdf5.int = lambda entry: np.asarray(entry).astype(int).item()


if sys.version_info >= (3, 11):
    _bear_newer_versions()

from lava.lib.dl import netx
from lava.magma.core.decorator import implements, requires, tag
from lava.magma.core.model.py.model import PyLoihiProcessModel
from lava.magma.core.model.py.ports import PyInPort, PyRefPort
from lava.magma.core.model.py.type import LavaPyType
from lava.magma.core.process.ports.ports import InPort, OutPort, RefPort
from lava.magma.core.process.process import AbstractProcess
from lava.magma.core.process.variable import Var
from lava.magma.core.resources import CPU
from lava.magma.core.run_conditions import RunSteps
from lava.magma.core.run_configs import Loihi2SimCfg
from lava.magma.core.sync.protocols.loihi_protocol import LoihiProtocol
from lava.proc.io.source import RingBuffer


class Observer(AbstractProcess):  # type: ignore[misc]
    """Keeps what ports send and variables hold in every step, and rewinds variables.

    `sent`, `held`: ports and variables, each with the .npy file for its rows (step, *shape).
    `rewound`: variables, each with an array whose row k it becomes at the end of step
    (k + 1) * `period`, or None for 0. One process for all, as each costs a fork and a share of
    every step.
    """

    def __init__(
        self,
        sent: Sequence[tuple[OutPort, Path]],
        held: Sequence[tuple[Var, Path]],
        rewound: Sequence[tuple[Var, Any]],
        steps: int,
        period: int,
    ) -> None:
        rows = [(var.shape, rows) for var, rows in rewound]
        files = [str(path) for _, path in (*sent, *held)]
        super().__init__(files=files, senders=len(sent), rewound=rows, steps=steps, period=period)
        for i, (port, _) in enumerate(sent):
            setattr(self, f"kept{i}", InPort(shape=port.shape))
            port.connect(getattr(self, f"kept{i}"))
        for name, start, variables in (("kept", len(sent), held), ("rewound", 0, rewound)):
            for i, (var, _) in enumerate(variables, start):
                setattr(self, f"{name}{i}", RefPort(shape=var.shape))
                getattr(self, f"{name}{i}").connect_var(var)

    @property
    def model(self) -> type[PyObserver]:
        """The class that runs this observer: it must name every port."""
        ports = {port.name: LavaPyType(PyInPort.VEC_DENSE, np.int32) for port in self.in_ports}
        ports |= {port.name: LavaPyType(PyRefPort.VEC_DENSE, np.int32) for port in self.ref_ports}
        model = type("PyObserverOfThese", (PyObserver,), ports)
        decorated = implements(proc=Observer, protocol=LoihiProtocol)(requires(CPU)(model))
        return tag("fixed_pt")(decorated)  # type: ignore[no-any-return]


class PyObserver(PyLoihiProcessModel):  # type: ignore[misc]
    def __init__(self, proc_params: dict[str, Any]) -> None:
        super().__init__(proc_params)
        self.rows: list[list[Any]] = [[] for _ in proc_params["files"]]

    def run_spk(self) -> None:
        for i in range(self.proc_params["senders"]):
            self.rows[i].append(np.array(getattr(self, f"kept{i}").recv(), dtype=np.int32))

    def post_guard(self) -> bool:
        return True

    def run_post_mgmt(self) -> None:
        for i in range(self.proc_params["senders"], len(self.rows)):
            self.rows[i].append(np.array(getattr(self, f"kept{i}").read(), dtype=np.int32))
        row, left = divmod(self.time_step, self.proc_params["period"])
        if left == 0:
            for i, (shape, rows) in enumerate(self.proc_params["rewound"]):
                port = getattr(self, f"rewound{i}")
                value = np.zeros(shape) if rows is None else rows[row - 1]
                port.write(np.asarray(value, dtype=np.int32))
                port.wait()
        if self.time_step == self.proc_params["steps"]:
            for file, kept in zip(self.proc_params["files"], self.rows, strict=True):
                np.save(file, np.stack(kept))


def states(layer: Any, names: list[str]) -> list[Var]:
    """Everything in a layer that outlasts a step: variables `names` of its neurons, and buffers."""
    variables = [getattr(layer.neuron, name) for name in names]
    for part in ("synapse", "synapse_rec", "real_synapse", "imag_synapse"):
        synapse = getattr(layer, part, None)
        if synapse is not None:  # a_buf: of a convolution
            variables.append(synapse.a_buf if hasattr(synapse, "a_buf") else synapse.a_buff)
    return variables


def main(folder: Path) -> None:
    """Run the job in `folder`; the file `done` says that it finished."""
    job = json.loads((folder / "job.json").read_text())
    period, steps = job["period"], job["steps"]
    net = netx.hdf5.Network(net_config=str(folder / "network.net"), **job["network"])
    first = net.layers[0]
    rewound = [
        (state, None)
        for layer, names in zip(net.layers, job["states"], strict=True)
        for state in states(layer, names)
    ]
    if (folder / "bias.npy").exists():
        biases = np.load(folder / "bias.npy")
        first.neuron.bias_mant.init = biases[0]
        first.neuron.bias_mant.shape = biases[0].shape
        rewound.append((first.neuron.bias_mant, np.concatenate([biases[1:], biases[:1]])))
    else:
        source = RingBuffer(data=np.load(folder / "input.npy"))
        source.s_out.connect(first.neuron.a_in if first.block == "Input" else first.inp)
    sent, held = [], []
    for i, what, variable in job["probes"]:
        neuron, path = net.layers[i].neuron, folder / f"{what}.{i}.npy"
        if what == "spikes":
            sent.append((neuron.s_out, path))
        else:
            held.append((getattr(neuron, variable), path))
    observer = Observer(sent, held, rewound, steps, period)
    # to find a model, Lava would run every file beside this one
    models = {observer: observer.model}
    configuration = Loihi2SimCfg(select_tag="fixed_pt", exception_proc_model_map=models)
    net._log_config.level = logging.ERROR
    try:
        net.run(condition=RunSteps(num_steps=steps), run_cfg=configuration)
        net.pause()
    finally:
        net.stop()
    (folder / "done").touch()


if __name__ == "__main__":
    for argument in sys.argv[1:]:
        main(Path(argument))
    for line in sys.stdin if len(sys.argv) == 1 else ():
        main(Path(line.rstrip("\n")))
        print("finished", flush=True)
