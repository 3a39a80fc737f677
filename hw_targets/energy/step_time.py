"""How long a time step takes: the slowest core decides, and then the barrier."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..counts.placement import Placement
from ..simulate.trace import Activity
from .device import Device, same_chip
from .interval import Interval


def step_seconds(
    activity: Activity, placement: Placement, device: Device
) -> NDArray[np.float64] | None:
    """Time of every step, shape (3, sample, step): value, low, high in seconds.

    t = max over cores(t_synop x synops + t_neuron x neurons + t_in x messages) + barrier(tiles): the
    slowest core decides. None where the device has no times, none for so many tiles, or where the
    placement is on no chip. Raises DeviceError for a device of another chip.
    """
    same_chip(device, placement.chip)
    times = device.of("time")
    barrier = device.barrier.at(placement.tiles) if device.barrier else Interval.exact(0)
    if not times or barrier is None or placement.mesh is None:
        return None
    slowest = np.zeros((3, activity.samples, activity.steps))
    for population, synops in enumerate(activity.synops):
        cores = [placement.cores[k] for k in placement.of(population)]
        loads: dict[str, NDArray[np.int64]] = {
            "synops": synops,
            "messages_in": activity.messages[population],
            "spikes_out": activity.spikes[population],
            "neurons": np.array([core.neurons for core in cores]),
            "steps": np.ones(1, np.int64),
        }
        for end in range(3):
            busy = sum(c.interval.ends[end] * loads[c.counter] for c in times)
            worst = np.broadcast_to(busy, synops.shape).max(axis=2, initial=0)
            np.maximum(slowest[end], worst, out=slowest[end])
    slowest += np.array(barrier.ends)[:, None, None]
    return slowest


def inference_seconds(steps: NDArray[np.float64]) -> Interval:
    """Mean time of an inference in seconds, its steps one after the other.

    `steps`: from `step_seconds`, (3, sample, step).
    """
    value, low, high = steps.sum(axis=2).mean(axis=1).tolist()
    return Interval(value, low, high)
