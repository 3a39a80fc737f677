"""Which target takes which messages: single spikes everywhere, graded ones where spikes carry numbers."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from types import MappingProxyType

from ..network.layers import Input
from ..network.network import Network
from ..network.neurons import NetworkError
from .chip import Payload
from .table import CHIPS

PAYLOADS: Mapping[str, Payload] = MappingProxyType(
    {
        **{name: chip.payload for name, chip in CHIPS.items()},
        "lava": Payload(
            "Lava's CPU backend", 24, "lava-nc 0.10, ports; see arithmetic.MESSAGE_LIMIT"
        ),
    }
)
"""What a message may carry, by target: the chips that ship, and Lava, which has no cores."""


def message_problems(network: Network, target: str | Payload) -> list[str]:
    """Why a network cannot get its input, or pass on its messages, on a target; empty if it can.

    `target`: one of `PAYLOADS` by name, or the `payload` of any chip.

    The input is that of the network's recipe: direct and rsc codings send graded spikes, signed
    Poisson -1, 0 and 1, and Poisson, phase and events single spikes. Input neurons get a current,
    not spikes. Without a recipe only the layers are looked at. Raises NetworkError for other names.
    """
    return list(_problems(network, payload_of(target)))


def payload_of(target: str | Payload) -> Payload:
    """What spikes carry on a target, by its name in `PAYLOADS`. Raises NetworkError for other names."""
    if isinstance(target, Payload):
        return target
    if target not in PAYLOADS:
        raise NetworkError(f"no chip {target!r}; known: {', '.join(PAYLOADS)}.")
    return PAYLOADS[target]


def _problems(network: Network, target: Payload) -> Iterator[str]:
    recipe, first = network.recipe, network.layers[0]
    driven = isinstance(first, Input) and first.neuron is not None
    if recipe is not None and not driven and recipe.coding.message_bits > target.bits:
        has = f"spikes of {target.bits} bits" if target.bits else "single spikes, 0 or 1"
        fix = (
            "Train and export with coding poisson or phase"
            if target.bits == 0
            else "Lower levels or sigma"
        )
        yield (
            f"the input (coding {recipe.coding.name}) is graded spikes of "
            f"{recipe.coding.message_bits} bits, sign included; {target.name} has {has}. {fix}."
        )
    for p in network.populations[:-1]:
        if p.graded and target.bits == 0:
            yield (
                f"layer {p.name} sends graded spikes; {target.name} has single spikes, 0 or 1. "
                f"Use spiking neurons instead of {type(p.layer.neuron).__name__}."
            )


def check_messages(network: Network, target: str | Payload) -> None:
    """Raise NetworkError with every reason of `message_problems`."""
    problems = message_problems(network, target)
    if problems:
        raise NetworkError(f"not for {payload_of(target).name}: " + " ".join(problems))


def message_summary(network: Network) -> str:
    """One line for people: the input messages, and the targets that take the network's messages."""
    problems = {target: message_problems(network, target) for target in PAYLOADS}
    runs = [PAYLOADS[target].name for target, why in problems.items() if not why]
    refused = [PAYLOADS[target].name for target, why in problems.items() if why]
    recipe = network.recipe
    if recipe is None:
        what = "input unknown (no recipe)"
    elif recipe.coding.message_bits:
        what = f"input of graded spikes, {recipe.coding.message_bits} bits"
    else:
        what = "input of single spikes"
    against = f"; not for {', '.join(refused)}" if refused else ""
    return f"{what}: for {', '.join(runs) or 'none'}{against}"
