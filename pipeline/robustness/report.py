"""The whole table: attacks, curves, sanity, certificates and energy of several forms of a network."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

from torch import Tensor

from ...hw_targets.chips.mapper import map_network
from ...hw_targets.counts.counts import Counts
from ...hw_targets.energy.device import Device
from ...hw_targets.energy.device_files import load_device
from ...hw_targets.energy.energy import Energy
from ...hw_targets.energy.price import estimate
from ...hw_targets.network.coding import Coding
from ...hw_targets.network.network import Network
from ...hw_targets.printed import Printed, View
from ...models.data.dataset import Split
from ..deploy.deployed import Deployed
from ..deploy.run import evaluate
from ..energy.profile import check_carries, default_devices
from .attacks.attack import Attack, Attacked, Scored
from .battery import QUICK, Battery, Plan, battery
from .certificates.certificates import Certified, Norm, Unit
from .certificates.certify import certify
from .curves import Curve, curve
from .sanity import Sanity, judge
from .victims import DeployedVictim, Victim


@dataclass(frozen=True)
class Certificates:
    """Certified accuracy by radius, with the procedure that gave it; `unit` is that of `radii`.

    `accuracy` counts images answered rightly with at least that radius, abstaining as wrong.
    """

    method: str
    norm: Norm
    unit: Unit
    radii: tuple[float, ...]
    accuracy: tuple[float, ...]
    abstained: float
    samples: int
    runs: int
    alpha: float
    seed: int
    statement: str


@dataclass(frozen=True)
class Decision:
    """What one decision of the integer network costs: `runs` inferences, each of the same energy.

    `energy` = runs * energy per inference, from the counted events of clean test images; `sources` are
    those of the coefficients, by term. The host's coding and counting of votes is not in it.
    """

    kind: Literal["single draw", "vote", "certificate"]
    runs: int
    energy: Energy
    sources: Mapping[str, str]


@dataclass(frozen=True)
class VictimReport:
    """One form of the network, see `Battery` for the attacks.

    `worst`: of each image the worst attack. `transfers`: crafted on other networks, by their names.
    `uncertified`: why there are no `certificates`. `decisions`: of the integers only.
    """

    name: str
    digest: str
    form: Literal["float", "integers"]
    coding: Coding | None = field(metadata={"json": "encoding"})
    clean: Scored
    attacks: tuple[Attacked, ...]
    gradients: Mapping[str, Attacked]
    averages: Mapping[int, Attacked]
    transfers: Mapping[str, Scored]
    worst: Scored
    curve: Curve
    sanity: Sanity
    certificates: Certificates | None
    uncertified: str | None
    decisions: tuple[Decision, ...]


@dataclass(frozen=True, repr=False)
class RobustnessReport(Printed):
    """Robustness of one or more forms of a network on the same test images.

    Attacks are in the L-infinity ball of `epsilon` around images in [0, 1]. Single-draw accuracy is the
    mean over `plan.draws` fresh draws of the coding, voted accuracy that of their majority.
    """

    data: str
    samples: int
    epsilon: float
    plan: Plan
    victims: tuple[VictimReport, ...]

    @property
    def passed(self) -> bool:
        """Whether the sanity suite passed for all."""
        return all(victim.sanity.passed for victim in self.victims)

    def views(self) -> Sequence[View]:
        """Every victim: attacks, curves, sanity suite, certificates, energy per decision."""
        from ..cli.robustness import report_tables

        return report_tables(self)


def robustness(
    victims: Mapping[str, Victim],
    data: str,
    split: Split,
    epsilon: float,
    *,
    sources: Mapping[str, Victim] | None = None,
    others: Mapping[str, Attack] | None = None,
    plan: Plan = QUICK,
    certified_draws: int = 1000,
    devices: tuple[str, ...] | None = None,
    progress: bool = False,
) -> RobustnessReport:
    """Attack, check, certify and price every victim on the images of `split`.

    Each victim is a source of transfer for the others; `sources` are more of them, `others` more attacks,
    see `battery`. `certified_draws`: draws per certificate of a random coding, 0 for no certificates.
    `devices`: to price integer networks on; None: `default_devices` of each.
    """
    images, labels = split.images, split.labels
    priced = {
        name: _devices(victim.network, devices)
        for name, victim in victims.items()
        if isinstance(victim, DeployedVictim)
    }
    reports = []
    for name, victim in victims.items():
        around = {n: v for n, v in victims.items() if n != name} | dict(sources or {})
        attacks = battery(
            victim,
            images,
            labels,
            epsilon,
            sources=around,
            others=others,
            plan=plan,
            progress=progress,
        )
        reports.append(
            _report(name, attacks, split, certified_draws, priced.get(name, []), progress)
        )
    return RobustnessReport(data, len(split), epsilon, plan, tuple(reports))


def _report(
    name: str, b: Battery, split: Split, draws: int, devices: Sequence[Device], progress: bool
) -> VictimReport:
    victim = b.victim
    certified, reason = _certified(victim, split.images, split.labels, draws, b.plan.seed, progress)
    decisions: tuple[Decision, ...] = ()
    if isinstance(victim, DeployedVictim):
        runs: dict[Literal["single draw", "vote", "certificate"], int] = {"single draw": 1}
        if victim.stochastic:
            runs["vote"] = b.clean.draws
        if certified is not None:
            runs["certificate"] = certified.runs
        decisions = tuple(
            _decision(kind, number, counts, device)
            for device, counts in _counted(victim.deployed, split, devices, progress)
            for kind, number in runs.items()
        )
    points = [(0.0, b.clean), *((run.epsilon, run.after) for run in b.curve)]
    return VictimReport(
        name=name,
        digest=victim.digest,
        form="integers" if isinstance(victim, DeployedVictim) else "float",
        coding=victim.coding,
        clean=b.clean,
        attacks=(
            b.noise,
            b.fgsm,
            b.pgd,
            b.longer,
            b.restarted,
            *([] if b.adaptive is None else [b.adaptive]),
            b.gradient_free,
            *b.others.values(),
        ),
        gradients=b.gradients,
        averages=b.averages,
        transfers=b.transfers,
        worst=b.worst,
        curve=curve(
            f"PGD-{b.plan.steps}, EOT {b.eot}",
            [epsilon for epsilon, _ in points],
            [scored.accuracy for _, scored in points],
            [scored.voted for _, scored in points],
        ),
        sanity=judge(b),
        certificates=None if certified is None else summary(certified),
        uncertified=reason,
        decisions=decisions,
    )


def _devices(network: Network, names: Sequence[str] | None) -> list[Device]:
    devices = [load_device(name) for name in names or default_devices(network)]
    for device in devices:
        check_carries(network, device)
    return devices


def _counted(
    deployed: Deployed, split: Split, devices: Sequence[Device], progress: bool
) -> Iterator[tuple[Device, Counts]]:
    """Every device with the counts of the network on its chip."""
    counts: dict[str | None, Counts] = {}
    for device in devices:
        if device.chip not in counts:
            placement = (
                map_network(deployed.network, device.chip).placement if device.chip else None
            )
            counts[device.chip] = evaluate(
                deployed, split, placement=placement, progress=progress
            ).counts
        yield device, counts[device.chip]


def _certified(
    victim: Victim, images: Tensor, labels: Tensor, draws: int, seed: int, progress: bool
) -> tuple[Certified | None, str | None]:
    """The certificates, or why there are none."""
    if draws == 0:
        return None, "not asked for"
    if not victim.stochastic:
        what = "an ANN" if victim.coding is None else f"the coding {victim.coding.name}"
        return None, f"{what} draws nothing, so there is no vote to certify"
    assert victim.coding is not None
    if victim.coding.name == "phase" and not isinstance(victim, DeployedVictim):
        return None, "the certificate of the phase code is for integers: give the .net file"
    return certify(
        victim, images, labels, n0=min(100, draws), n=draws, seed=seed, progress=progress
    ), None


def radii_for(coding: Coding) -> tuple[float, ...]:
    """Five radii at most, from 0, at which certified accuracy is told: what a coding can reach at all.

    Noise: multiples of sigma / 2, of a fresh draw per step by sqrt(steps) less; Bernoulli spikes: fifths
    of 1 / (2 steps), half of that for signed ones; phase code: eighths of grid / (2 offsets), whole.
    """
    if coding.name == "phase":
        reach = coding.grid // (2 * coding.offsets)
        return tuple(float(r) for r in dict.fromkeys(reach * i // 8 for i in range(5)))
    if coding.name in ("rsc1", "rsc2"):
        copies = coding.steps if coding.name == "rsc2" else 1
        unit = coding.sigma / 2 / math.sqrt(copies)
    else:
        unit = 0.1 / coding.steps / (2 if coding.name == "signed_poisson" else 1)
    return tuple(float(f"{unit * i:.3g}") for i in range(5))


def summary(certified: Certified) -> Certificates:
    """Certified accuracy at the radii of `radii_for`."""
    radii = radii_for(certified.coding)
    return Certificates(
        method=certified.method,
        norm=certified.norm,
        unit=certified.unit,
        radii=radii,
        accuracy=tuple(certified.accuracy(r) for r in radii),
        abstained=certified.abstained,
        samples=len(certified.certificates),
        runs=certified.runs,
        alpha=certified.alpha,
        seed=certified.seed,
        statement=certified.statement,
    )


def _decision(
    kind: Literal["single draw", "vote", "certificate"], runs: int, counts: Counts, device: Device
) -> Decision:
    energy = estimate(counts, device) / counts.samples * runs
    return Decision(kind, runs, energy, {cost.name: cost.source for cost in device.costs})
