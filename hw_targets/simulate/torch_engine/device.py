"""Where torch computes: the devices that are taken, by name. All that takes a device asks here."""

from __future__ import annotations

import torch

from ...network.neurons import NetworkError

KNOWN = ("cpu", "cuda")
"""Types of devices that have float64 and whose sums of integers are known to be exact."""


def device_of(name: str | torch.device) -> torch.device:
    """The device of a name: "cpu", "cuda" (the current GPU), "cuda:1", ...

    Raises NetworkError where torch has none of this name, and for types that are not `KNOWN`: MPS, for
    one, has no float64, in which noise and integers are computed.
    """
    try:
        device = torch.device(name)
    except (RuntimeError, TypeError):
        raise NetworkError(f"device {name!r} is no device of torch; use cpu or cuda.") from None
    if device.type not in KNOWN:
        why = " (MPS has no float64)" if device.type == "mps" else ""
        raise NetworkError(
            f"device '{device}': only cpu and cuda are known to compute these integers exactly{why}; "
            f"use one of them."
        )
    if device.type == "cpu":
        return torch.device("cpu")
    count = torch.cuda.device_count()
    if (device.index or 0) >= count:
        built = "" if torch.version.cuda else ", being built without CUDA"
        gpus = [f"cuda:{i} ({torch.cuda.get_device_name(i)})" for i in range(count)]
        raise NetworkError(
            f"device '{device}': torch {torch.__version__} sees {count} CUDA GPUs on this machine"
            f"{built}; use {' or '.join([*gpus, 'cpu'])}."
        )
    return device
