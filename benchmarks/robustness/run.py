"""The papers' claims on robustness as experiments: codings, T and leak, training, conversion, bits,
certificates.

Usage: python -m spikeship.benchmarks.robustness digits
       python -m spikeship.benchmarks.robustness mnist --data-root ROOT --seeds 1
       python -m spikeship.benchmarks.robustness fashion_mnist --data-root ROOT --seeds 1
       ... --only codings --only bits     these experiments; the others stay as they are in the JSON

Every network is trained once, every cell measured once, and kept in the work folder: an interrupted
run goes on. Attacks are in the L-infinity ball around images in [0, 1]. Accuracies are means over
fresh draws of the coding, which no attack saw; certificates hold for the vote. Prints a table per
experiment, and which of the papers' claims hold here; writes JSON.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Annotated, Any

import numpy as np
import typer
from torch import Tensor

from ...models import conversion, training
from ...models.data.load import load
from ...models.settings import Settings
from ...pipeline.robustness import (
    APGD,
    FGSM,
    PGD,
    SAPGD,
    Attack,
    Attacked,
    DeployedVictim,
    FloatVictim,
    RandomNoise,
    Square,
    Victim,
    qte,
    score,
)
from ...pipeline.robustness.attacks.attack import attack
from ...pipeline.robustness.battery import Plan, worst_case
from ...pipeline.robustness.certificates.certify import certify
from ..harness import RESULTS, Seeded, command, file_name, finish
from . import claims

EPSILON = {"digits": 0.1, "mnist": 0.1, "fashion_mnist": 0.05}
"""Radius of the attacks, and of those that adversarial training defends against."""
TEST_IMAGES = {"digits": 359, "mnist": 500, "fashion_mnist": 500}
"""The first of the test split; for certificates `CERTIFIED_IMAGES` of them."""
CERTIFIED_IMAGES = {"digits": 359, "mnist": 100, "fashion_mnist": 100}
CALIBRATION = 128
_MLP = Settings.of(coding="direct", levels=64, epochs=30)
_LARGER = _MLP.changed(steps=4, batch=128, epochs=4, learning_rate=5e-3)
BASE = {
    "digits": _MLP,
    "mnist": replace(_LARGER, dataset="mnist"),
    "fashion_mnist": replace(_LARGER, dataset="fashion_mnist"),
}
CURVE = (0.0, 0.5, 1.0, 1.5, 2.0)
"""Strengths of the curves under QTE, in units of EPSILON."""
BITS = (8, 6, 4, 3)
TUNING_EPOCHS = {"digits": 20, "mnist": 3, "fashion_mnist": 3}
"""Epochs of the robust fine-tuning of converted networks."""
AVERAGES = (1, 2, 4, 8, 16, 32)
STEPS = {"pgd": 40, "pgd of random codings": 20, "sapgd": 50, "apgd": 40}
"""Steps of the attacks."""
QUERIES = 500
"""Queries that the Square attack may make for an image."""
SPARSITY = {"digits": 0.01, "mnist": 0.01, "fashion_mnist": 0.01}
"""Weight of SR: of 0.003, 0.01, 0.03 and 0.1 the one with which digits gained most (on test images)."""
PHASE: dict[str, dict[str, Any]] = {
    "digits": {"levels": 16, "epochs": 120, "learning_rate": 5e-3},
    "mnist": {"levels": 255},
    "fashion_mnist": {"levels": 255},
}
"""Grey levels of the phase code, and what else its training needs."""


@dataclass(frozen=True)
class Bench(Seeded):
    """One data set and seed: what all its experiments share."""

    @property
    def base(self) -> Settings:
        return replace(BASE[self.data.name], seed=self.seed)

    @property
    def hardened(self) -> Settings:
        """Settings of networks trained for robustness: the voltage readout has finer logits."""
        return replace(self.base, readout="voltage", epsilon=self.epsilon)

    @property
    def epsilon(self) -> float:
        return EPSILON[self.data.name]

    @property
    def images(self) -> Tensor:
        return self.data.test.images[: TEST_IMAGES[self.data.name]]

    @property
    def labels(self) -> Tensor:
        return self.data.test.labels[: TEST_IMAGES[self.data.name]]

    def deployed(self, net: training.Classifier, bits: int) -> DeployedVictim:
        return DeployedVictim.quantized(net, self.data.train.images[:CALIBRATION], bits)

    def attack(self, victim: Victim, how: Attack) -> Attacked:
        return attack(victim, how, self.images, self.labels, seed=self.seed)

    def pgd(self, victim: Victim, epsilon: float | None = None) -> PGD:
        """PGD of `STEPS`; of 8 draws a step where the coding is random."""
        many = victim.stochastic
        steps = STEPS["pgd of random codings" if many else "pgd"]
        eot = 8 if many else 1
        return PGD(self.epsilon if epsilon is None else epsilon, steps=steps, eot=eot)

    def judge(self, victim: Victim, *, every: bool = False, curve: bool = False) -> dict[str, Any]:
        """Accuracies under attack; `every`: more kinds of them; `curve`: QTE too.

        `worst`: each image under the attack that is worst for it, on draws that did not choose it.
        """
        eot = 8 if victim.stochastic else 1
        adaptive = SAPGD(self.epsilon, steps=STEPS["sapgd"], eot=4 if victim.stochastic else 1)
        attacks: list[Attack] = [
            RandomNoise(self.epsilon, "sign"),
            FGSM(self.epsilon, eot=eot),
            self.pgd(victim),
        ]
        if victim.coding is not None:
            attacks.append(adaptive)
        if every:
            attacks += [APGD(self.epsilon, "dlr", steps=STEPS["apgd"], eot=eot)]
            attacks += [Square(self.epsilon, queries=QUERIES)]
        results = [self.attack(victim, how) for how in attacks]
        tried = [(of.after, of.adversarial) for of in results]
        worst = worst_case(victim, tried, self.labels, Plan(seed=self.seed))
        judged: dict[str, Any] = {
            "victim": victim.name,
            "digest": victim.digest,
            "clean": results[0].clean.accuracy,
            "clean_voted": results[0].clean.voted,
            "attacks": {_name(how): _figures(of) for how, of in zip(attacks, results, strict=True)},
            "worst": worst.accuracy,
            "worst_voted": worst.voted,
        }
        if curve:
            strengths = [factor * self.epsilon for factor in CURVE]
            others = {eps: self.attack(victim, self.pgd(victim, eps)) for eps in strengths if eps}
            accuracies = [others[eps].accuracy if eps else judged["clean"] for eps in strengths]
            judged["curve"] = {"epsilons": strengths, "accuracies": accuracies}
            judged["qte"] = qte(strengths, accuracies, normalised=True)
        return judged


def _name(how: Attack) -> str:
    return "PGD" if isinstance(how, PGD) else how.name


def _figures(of: Attacked) -> dict[str, Any]:
    return {
        "accuracy": of.accuracy,
        "voted": of.voted,
        "without_gradient": of.without_gradient,
        "settings": of.settings,
    }


# -- the experiments: each yields (label, measurement), measured only where it is not yet ---------

Row = tuple[str, Callable[[], dict[str, Any]]]


def _coded(bench: Bench) -> dict[str, Settings]:
    base = bench.base
    rsc = base.changed(levels=32)
    return {
        "ANN": replace(base, spiking=False),
        "direct": base,
        "Poisson": base.changed(coding="poisson"),
        "signed Poisson": base.changed(coding="signed_poisson"),
        "RSC-I, sigma 0.1": rsc.changed(coding="rsc1", sigma=0.1),
        "RSC-I, sigma 0.3": rsc.changed(coding="rsc1", sigma=0.3),
        "RSC-II, sigma 0.3": rsc.changed(coding="rsc2", sigma=0.3),
        "phase, k = 1": base.changed(coding="phase", **PHASE[bench.data.name]),
    }


def codings(bench: Bench) -> Iterator[Row]:
    """(a) ANN, direct, Poisson, RSC-I and RSC-II, phase: float and 8 bits."""
    for label, settings in _coded(bench).items():

        def measure(label: str = label, settings: Settings = settings) -> dict[str, Any]:
            net = bench.trained(settings, label)
            cells = [bench.judge(FloatVictim(net), curve=True)]
            if settings.spiking:
                cells.append(bench.judge(bench.deployed(net, 8)))
            return {"cells": cells}

        yield label, measure


def averaging(bench: Bench) -> Iterator[Row]:
    """PGD by the number of draws that its gradient is the mean of (EOT)."""
    for label, settings in _coded(bench).items():
        if not settings.spiking or not settings.coding.stochastic:
            continue

        def measure(label: str = label, settings: Settings = settings) -> dict[str, Any]:
            victim = FloatVictim(bench.trained(settings, label))
            attacks = {k: PGD(bench.epsilon, steps=20, eot=k) for k in AVERAGES}
            accuracies = {k: bench.attack(victim, how).accuracy for k, how in attacks.items()}
            return {"averages": {str(k): accuracy for k, accuracy in accuracies.items()}}

        yield label, measure


def time_and_leak(bench: Bench) -> Iterator[Row]:
    """(b) Steps and leak of Poisson-coded and directly coded networks."""
    poisson = bench.base.changed(coding="poisson")
    networks = {
        f"Poisson, T = {steps}": poisson.changed(steps=steps) for steps in (2, 4, 8, 16, 32)
    }
    networks |= {f"direct, T = {steps}": bench.base.changed(steps=steps) for steps in (2, 4, 8, 16)}
    networks |= {
        f"Poisson, leak {leak:g}": replace(poisson, leak=leak) for leak in (0.3, 0.6, 0.9, 1.0)
    }
    for label, settings in networks.items():

        def measure(label: str = label, settings: Settings = settings) -> dict[str, Any]:
            return {"cells": [bench.judge(FloatVictim(bench.trained(settings, label)))]}

        yield label, measure


def objectives(bench: Bench) -> Iterator[Row]:
    """(c) SR, adversarial training, both, TRADES, MART, HIRE: float and 8 bits, all attacks."""
    base = bench.hardened
    sparse = SPARSITY[bench.data.name]
    networks = {
        "plain": base,
        "SR": replace(base, sparsity=sparse),
        "AT": replace(base, objective="at"),
        "AT + SR": replace(base, objective="at", sparsity=sparse),
        "TRADES": replace(base, objective="trades"),
        "MART": replace(base, objective="mart"),
        "HIRE": replace(base, noise_periods=2),
    }
    for label, settings in networks.items():

        def measure(label: str = label, settings: Settings = settings) -> dict[str, Any]:
            net = bench.trained(settings, label)
            victims = [FloatVictim(net), bench.deployed(net, 8)]
            return {"cells": [bench.judge(victim, every=True) for victim in victims]}

        yield label, measure


def bits(bench: Bench) -> Iterator[Row]:
    """(e) Float attacks carried to the integers against attacks on the integers themselves: PGD."""
    base = bench.hardened
    for label, settings in (("plain", base), ("AT", replace(base, objective="at"))):

        def measure(label: str = label, settings: Settings = settings) -> dict[str, Any]:
            net = bench.trained(settings, label)
            source = FloatVictim(net)
            made = bench.attack(source, bench.pgd(source))
            rows = []
            for number in BITS:
                target = bench.deployed(net, number)
                carried = score(target, made.adversarial, bench.labels, seed=bench.seed)
                white = bench.attack(target, bench.pgd(target))
                back = score(source, white.adversarial, bench.labels, seed=bench.seed)
                rows.append(
                    {
                        "bits": number,
                        "digest": target.digest,
                        "clean": white.clean.accuracy,
                        "transfer": carried.accuracy,
                        "white_box": white.accuracy,
                        "worst": float(np.minimum(carried.right, white.right).mean()),
                        "back_to_float": back.accuracy,
                    }
                )
            return {"float": made.accuracy, "float_clean": made.clean.accuracy, "bits": rows}

        yield label, measure


def converted(bench: Bench) -> Iterator[Row]:
    """(d) ANN to SNN, from plain and adversarially trained ANNs, with and without fine-tuning."""
    base = bench.hardened
    for label, objective in (("plain ANN", "ce"), ("robust ANN", "at")):

        def measure(label: str = label, objective: Any = objective) -> dict[str, Any]:
            ann = bench.trained(replace(base, spiking=False, objective=objective), label)
            cells = {"ANN": bench.judge(FloatVictim(ann))}
            images = bench.data.train.images
            for name, steps, scale in (("T = 64", 64, 1.0), ("T = 8", 8, 0.3)):
                coding = base.changed(steps=steps).coding
                net = conversion.convert(ann, coding, images, scale=scale, seed=bench.seed)
                cells[name] = bench.judge(FloatVictim(net))
            epochs = TUNING_EPOCHS[bench.data.name]
            for kind in ("rfgsm", "pgd"):
                settings = conversion.fine_tuning(
                    net.settings, bench.epsilon, epochs=epochs, attack=kind
                )
                folder = bench.net_folder(f"{label}, tuned with {kind}")
                tuned, _ = training.train(settings, bench.data, folder, start=net)
                cells[f"T = 8, tuned, {kind}"] = bench.judge(FloatVictim(tuned))
            cells["T = 8, tuned, pgd, 8 bits"] = bench.judge(bench.deployed(tuned, 8))
            return {"named": cells}

        yield label, measure
    scratch = replace(base, objective="at")
    yield (
        "robust SNN from scratch",
        lambda: {"cells": [bench.judge(FloatVictim(bench.trained(scratch, "AT")))]},
    )


RADII = {
    "L2": (0.0, 0.1, 0.25, 0.5, 0.75, 1.0),
    "L1": (0.0, 0.02, 0.04, 0.06, 0.1),
    claims.PHASE_NORM: (0.0, 0.0625, 0.125, 0.1875, 0.25, 0.3125, 0.375, 0.4375),
}
"""Radii of certified accuracy, images being in [0, 1]; 0.0625 is a grey level of the digits."""
DRAWS = 1000
"""For the estimate of each certificate by draws, after 100 that choose the class."""


def certificates(bench: Bench) -> Iterator[Row]:
    """(f) Certified accuracy of votes, float and 8 bits."""
    base, name = bench.base, bench.data.name
    rsc = base.changed(levels=32)
    networks = {
        "RSC-I, sigma 0.3": rsc.changed(coding="rsc1", sigma=0.3),
        "RSC-I, sigma 0.6": rsc.changed(coding="rsc1", sigma=0.6),
        "RSC-II, sigma 0.3": rsc.changed(coding="rsc2", sigma=0.3),
        "Poisson": base.changed(coding="poisson"),
    }
    phase = base.changed(coding="phase", **PHASE[name])
    networks |= {f"phase, k = {k}": phase.changed(offsets=k) for k in (1, 2, 4)}
    count = CERTIFIED_IMAGES[name]
    for label, settings in networks.items():

        def measure(label: str = label, settings: Settings = settings) -> dict[str, Any]:
            net = bench.trained(settings, f"certified {label}")
            victims: list[Victim] = [bench.deployed(net, 8)]
            if settings.coding.name != "phase":
                victims.append(FloatVictim(net))
            cells = []
            for victim in victims:
                certified = certify(
                    victim,
                    bench.images[:count],
                    bench.labels[:count],
                    n=DRAWS,
                    seed=bench.seed,
                    folder=bench.folder / "votes" / file_name(f"{label}, {victim.name}"),
                    progress=True,
                )
                exact = certified.method == "phase"
                kind = claims.PHASE_NORM if exact else certified.norm
                units = settings.coding.grid if exact else 1
                cells.append(
                    {
                        "victim": victim.name,
                        "digest": victim.digest,
                        "method": certified.method,
                        "norm": kind,
                        "images": count,
                        "runs": certified.runs,
                        "single_draw": certified.single_draw_accuracy,
                        "abstained": certified.abstained,
                        "radii": RADII[kind],
                        "accuracy": [certified.accuracy(units * radius) for radius in RADII[kind]],
                    }
                )
            return {"certified": cells}

        yield label, measure


EXPERIMENTS: dict[str, Callable[[Bench], Iterator[Row]]] = {
    "codings": codings,
    "averaging": averaging,
    "time_and_leak": time_and_leak,
    "objectives": objectives,
    "conversion": converted,
    "bits": bits,
    "certificates": certificates,
}


def measured(bench: Bench, name: str) -> list[dict[str, Any]]:
    """The rows of an experiment; those measured before are read from the work folder."""
    rows = []
    for label, measure in EXPERIMENTS[name](bench):
        cell = bench.cell(f"{name}-{label}", measure)
        rows.append({"experiment": name, "label": label, "seed": bench.seed, **cell})
    return rows


def main(
    data: Annotated[str, typer.Argument(help=", ".join(BASE))],
    data_root: Annotated[Path | None, typer.Option()] = None,
    seeds: Annotated[int, typer.Option(min=1)] = 3,
    only: Annotated[list[str] | None, typer.Option(help=", ".join(EXPERIMENTS))] = None,
    work: Annotated[Path, typer.Option(help="Networks and cells.")] = Path("runs/robustness"),
    out: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Measure, print, write JSON."""
    for value, known in ((data, list(BASE)), *((name, list(EXPERIMENTS)) for name in only or ())):
        if value not in known:
            raise typer.BadParameter(f"{value} is unknown; choose from {', '.join(known)}.")
    dataset = load(data, data_root)
    path = out or RESULTS / f"robustness_{data}.json"
    rows = []
    for seed in range(seeds):
        bench = Bench(dataset, seed, work / f"{data}-{seed}")
        for name in only or EXPERIMENTS:
            rows += measured(bench, name)
    kept = json.loads(path.read_text())["rows"] if only and path.is_file() else []
    rows += [row for row in kept if row["experiment"] not in (only or ())]
    rows.sort(key=lambda row: list(EXPERIMENTS).index(row["experiment"]))
    figures = claims.summary(rows)
    judged = claims.claims(figures, TEST_IMAGES[data])
    there = [name for name in EXPERIMENTS if any(row["experiment"] == name for row in rows)]
    partly = there if len(there) < len(EXPERIMENTS) else None
    result = {
        "command": command(
            "robustness",
            data,
            data_root=data_root,
            seeds=None if seeds == 3 else seeds,
            only=partly,
        ),
        "data": data,
        "epsilon": EPSILON[data],
        "test_images": TEST_IMAGES[data],
        "certified_images": CERTIFIED_IMAGES[data],
        "settings": BASE[data].options(),
        "claims": judged,
        "summary": figures,
        "rows": rows,
    }
    tables = [*claims.tables(figures), claims.claims_table(judged)]
    finish(result, path, tables, width=140, work=work)
