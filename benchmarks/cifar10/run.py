"""A robust spiking VGG on CIFAR-10, T = 4, from data to integers, attacks, certificates and energy.

Usage: python -m spikeship.benchmarks.cifar10 --data-root ROOT [--device cuda] [--minutes 9]
       python -m spikeship.benchmarks.cifar10 --data-root ROOT --reduced      (two cores; under an hour)

`recipe` says what is trained: an ANN against RFGSM, converted, and trained on as a spiking network, with
direct coding and RSC, with and without SR. Each is judged in floating point and as deployed, with 8 bits
and with 4 that were trained further: accuracy on the test images, and on random ones of them the worst of
PGD, SA-PGD and AutoAttack's APGD-CE, APGD-T and Square (FAB is left out), crafted on what is judged.
Certificates hold for the vote of RSC networks. Energy is estimated for Loihi 2, beside the ANN's.

All stays in --work: the same command goes on, also after --minutes, in the epoch, attack or block of
images where it stopped. ROOT holds torchvision's `cifar-10-batches-py`, or JPEG files, see
`models.data.cifar10`: lossy, which the JSON says. Prints a table; writes JSON, when all is measured.
"""

from __future__ import annotations

import json
import signal
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import asdict, dataclass, replace
from functools import cached_property, partial
from pathlib import Path
from threading import Event
from typing import Annotated, Any

import numpy as np
import torch
import typer
from torch import Tensor

from ...hw_targets.chips.mapper import map_network
from ...hw_targets.energy.device_files import load_device
from ...hw_targets.files import atomic_path
from ...hw_targets.printed import table
from ...models import conversion, quantized_ann, training
from ...models.data.load import load
from ...models.settings import Settings
from ...pipeline import records
from ...pipeline.deploy.deploy import deploy
from ...pipeline.deploy.deployed import Deployed
from ...pipeline.deploy.run import classify
from ...pipeline.energy.fair import fair
from ...pipeline.energy.profile import run_on
from ...pipeline.robustness import (
    APGD,
    PGD,
    SAPGD,
    Attack,
    DeployedVictim,
    FloatVictim,
    Square,
    Victim,
)
from ...pipeline.robustness.attacks.apgd import TargetedAPGD
from ...pipeline.robustness.attacks.attack import Scored, attack
from ...pipeline.robustness.battery import Plan, worst_case
from ...pipeline.robustness.certificates.certify import certify
from ...pipeline.text import percent
from ..harness import RESULTS, Seeded, command, file_name, finish
from .recipe import CODINGS, EPSILON, FULL, PUBLISHED, REDUCED, TOY, Recipe, Variant, toy_data

FLOAT = "float"
AUTOATTACK = ("APGD-CE", "APGD-T", "Square")
"""The members of AutoAttack that are run; FAB, the fourth, is left out."""
CHIP, DEVICE = "loihi2", "loihi2-derived-pilotnet"
CALIBRATION = 128
RADII = (0.0, 0.1, 0.25, 0.5)
"""L2, of certified accuracies."""
Cells = Iterator[tuple[str, Callable[[], dict[str, Any]]]]


@dataclass(frozen=True)
class Bench(Seeded):
    """What all cells share: the data, where networks and cells are kept, and where it computes."""

    recipe: Recipe
    device: str

    def train(self, settings: Settings, name: str, **options: Any) -> training.Classifier:
        """The network of this name, trained if it is not kept; an interrupted run goes on."""
        folder = self.net_folder(name)
        options = {"progress": False, "device": self.device, **options}
        return training.train(settings, self.data, folder, **options)[0]

    @cached_property
    def ann(self) -> training.Classifier:
        return self.train(self.recipe.ann, "ANN")

    def converted(self, variant: Variant) -> training.Classifier:
        """The spiking network that training begins with, of the ANN."""
        path = self.net_folder(f"{variant.coding}, converted") / "converted.ckpt"
        if not path.is_file():
            coding = self.recipe.base.changed(**CODINGS[variant.coding]).coding
            batches, batch, steps = self.recipe.converted_on
            net = conversion.convert(
                self.ann.to(self.device),
                coding,
                self.data.train.images,
                scale=0.3,
                batches=batches,
                batch=batch,
                calibration_steps=steps,
                seed=self.seed,
            )
            self.ann.cpu()
            training.save(net.cpu(), path)
        return training.load(path)

    def snn(self, variant: Variant) -> training.Classifier:
        """The spiking network, trained."""
        start, recipe = self.converted(variant), self.recipe
        settings = conversion.fine_tuning(
            start.settings,
            EPSILON,
            epochs=recipe.epochs,
            learning_rate=recipe.learning_rates[1],
            sparsity=variant.sparsity,
        )
        return self.train(settings, variant.name, start=start)

    def integers(self, variant: Variant, bits: int) -> Deployed:
        """The spiking network in integers; those of fewer than 8 bits are trained further."""
        path = self.net_folder(f"{variant.name}, {bits} bits") / "integers.net"
        if path.is_file():
            return Deployed.load(path)
        epochs, images = self.recipe.tuning
        few = self.data
        if bits < 8:
            few = replace(self.data, train=self.data.train.first(images))
        made = deploy(
            self.snn(variant),
            few,
            bits=bits,
            fine_tune=0 if bits >= 8 else epochs,
            calibration=CALIBRATION,
            folder=path.parent,
            seed=self.seed,
            device=self.device,
        )
        return made.save(path)

    def victim(self, variant: Variant, form: str) -> Victim:
        """A spiking network in floating point, or as deployed in so many bits."""
        if (variant, form) not in self._victims:
            self._victims.clear()
            self._victims[variant, form] = (
                FloatVictim(self.snn(variant))
                if form == FLOAT
                else DeployedVictim(self.integers(variant, _bits(form)), form)
            )
        return self._victims[variant, form]

    @cached_property
    def _victims(self) -> dict[tuple[Variant, str], Victim]:
        """The one that was asked for last."""
        return {}

    @cached_property
    def chosen(self) -> list[int]:
        """The test images that are attacked, drawn at random."""
        order = np.random.default_rng(self.seed).permutation(len(self.data.test))
        return [int(i) for i in order[: self.recipe.attacked]]

    def chunks(self) -> Iterator[tuple[str, list[int]]]:
        """They in parts."""
        for start in range(0, len(self.chosen), self.recipe.chunk):
            yield str(start), self.chosen[start : start + self.recipe.chunk]


def _bits(form: str) -> int:
    """Of "8 bits"."""
    return int(form.split(maxsplit=1)[0])


def attacks_on(victim: Victim, recipe: Recipe) -> dict[str, Attack]:
    """The attacks, by the names that their cells have."""
    eot, steps = recipe.eot if victim.stochastic else 1, recipe.steps
    return {
        "PGD": PGD(EPSILON, steps=steps, eot=eot),
        "SA-PGD": SAPGD(EPSILON, steps=steps, eot=eot),
        "APGD-CE": APGD(EPSILON, "ce", steps=steps, eot=eot),
        "APGD-T": TargetedAPGD(EPSILON, steps=steps, targets=recipe.targets, eot=eot),
        "Square": Square(EPSILON, queries=recipe.queries),
    }


ATTACKS = ("PGD", "SA-PGD", *AUTOATTACK)


# -- the cells --------------------------------------------------------------------------------------


def cells(bench: Bench) -> Cells:
    """All that is trained and measured, by name, in order."""
    recipe = bench.recipe
    yield "ANN", partial(_ann, bench)
    for variant in recipe.variants:
        forms = (FLOAT, *(f"{bits} bits" for bits in recipe.bits))
        for form in forms:
            yield f"{variant.name}; {form}", partial(_clean, bench, variant, form)
        for form in forms:
            prefix = f"{variant.name}; {form}"
            for name in ATTACKS:
                for start, part in bench.chunks():
                    yield (
                        f"{prefix}; {name}, images from {start}",
                        partial(_attacked, bench, variant, form, name, start, part),
                    )
            yield f"{prefix}; worst", partial(_worst, bench, variant, form)
        if CODINGS[variant.coding]["sigma"]:
            yield f"{variant.name}; 8 bits; certified", partial(_certified, bench, variant)
        for form in forms[1:]:
            yield f"{variant.name}; {form}; energy", partial(_energy, bench, variant, form)


def _ann(bench: Bench) -> dict[str, Any]:
    return {
        "settings": bench.ann.settings.options(),
        "accuracy": training.accuracy(bench.ann, bench.data.test),
    }


def _clean(bench: Bench, variant: Variant, form: str) -> dict[str, Any]:
    """Accuracy on all test images."""
    if form == FLOAT:
        net = bench.snn(variant)
        accuracy = training.accuracy(net.to(bench.device), bench.data.test)
        return {"settings": net.settings.options(), "accuracy": accuracy}
    deployed = bench.integers(variant, _bits(form))
    result = classify(deployed, bench.data.test, device=bench.device)
    return {
        "digest": deployed.digest,
        "accuracy": result.accuracy,
        "overflow": [asdict(layer) for layer in result.overflow],
    }


def _kept_attack(bench: Bench, variant: Variant, form: str, name: str, start: str) -> Path:
    return bench.folder / "attacked" / f"{file_name(f'{variant.name} {form} {name} {start}')}.npz"


def _attacked(
    bench: Bench, variant: Variant, form: str, name: str, start: str, part: Sequence[int]
) -> dict[str, Any]:
    """One attack on some images; what it made is kept for the worst case."""
    victim = bench.victim(variant, form)
    how = attacks_on(victim, bench.recipe)[name]
    images, labels = bench.data.test[list(part)]
    with victim.on(bench.device):
        done = attack(victim, how, images, labels, seed=bench.seed)
    path = _kept_attack(bench, variant, form, name, start)
    path.parent.mkdir(parents=True, exist_ok=True)
    after = done.after
    moved = done.adversarial.cpu().numpy()
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        np.savez(file, moved=moved, right=after.right, votes=after.votes)
    return {
        "digest": done.digest,
        "settings": done.settings,
        "images": len(part),
        "clean": done.clean.accuracy,
        "accuracy": done.accuracy,
        "without_gradient": done.without_gradient,
        "seconds": done.seconds,
    }


def _worst(bench: Bench, variant: Variant, form: str) -> dict[str, Any]:
    """Each image under the attack that is worst for it, on draws that did not choose it."""
    victim = bench.victim(variant, form)
    _, labels = bench.data.test[bench.chosen]

    def under(names: Sequence[str]) -> float:
        tried = [_scored(bench, variant, form, name) for name in names]
        with victim.on(bench.device):
            return worst_case(victim, tried, labels, Plan(seed=bench.seed)).accuracy

    alone = {name: _scored(bench, variant, form, name)[0].accuracy for name in ATTACKS}
    return {
        "digest": victim.digest,
        "images": len(labels),
        "attacks": alone,
        "worst": under(ATTACKS),
        "autoattack_without_fab": under(AUTOATTACK),
    }


def _scored(bench: Bench, variant: Variant, form: str, name: str) -> tuple[Scored, Tensor]:
    """What an attack left of all the images, and what it made of them."""
    parts = [
        np.load(_kept_attack(bench, variant, form, name, start)) for start, _ in bench.chunks()
    ]
    moved, right, votes = (
        np.concatenate([p[key] for p in parts]) for key in ("moved", "right", "votes")
    )
    _, labels = bench.data.test[bench.chosen]
    voted = float((votes.argmax(1) == labels.numpy()).mean())
    draws = int(votes[0].sum())
    return Scored(float(right.mean()), voted, draws, right, votes), torch.from_numpy(moved)


def _certified(bench: Bench, variant: Variant) -> dict[str, Any]:
    """Certified accuracy of the vote of the 8-bit integers."""
    count, draws = bench.recipe.certified
    images, labels = bench.data.test[bench.chosen[:count]]
    victim = bench.victim(variant, "8 bits")
    with victim.on(bench.device):
        done = certify(
            victim,
            images,
            labels,
            n=draws,
            seed=bench.seed,
            folder=bench.folder / "votes" / file_name(variant.name),
        )
    return {
        "digest": done.digest,
        "method": done.method,
        "norm": done.norm,
        "images": len(labels),
        "runs": done.runs,
        "abstained": done.abstained,
        "radii": RADII,
        "accuracy": [done.accuracy(radius) for radius in RADII],
    }


def _energy(bench: Bench, variant: Variant, form: str) -> dict[str, Any]:
    """Counted on Loihi 2 core by core, priced; and with one model of arithmetic beside the ANN."""
    deployed = bench.integers(variant, _bits(form))
    mapping = map_network(deployed.network, CHIP)
    if mapping.violations:
        return {"violations": [f"{v.where}: {v.what}" for v in mapping.violations]}
    test = bench.data.test.first(bench.recipe.measured)
    on_chip = run_on(deployed, test, CHIP, [load_device(DEVICE)])
    counts = on_chip.evaluation.counts
    priced = on_chip.price(load_device(DEVICE))
    beside = fair(counts, deployed.network, quantized_ann.work(bench.ann, test.images))
    return {
        "digest": deployed.digest,
        "images": counts.samples,
        "cores": mapping.cores,
        "chips": counts.chips,
        "spikes": counts.total("spikes_out") / counts.samples,
        "synops": counts.total("synops") / counts.samples,
        "device": DEVICE,
        "dynamic": priced.dynamic.interval.ends,
        "over_ann": [
            {
                "ann": opponent.name,
                "skips_zeros": opponent.skips_zeros,
                "ratio": opponent.ratio.ends,
            }
            for opponent in beside.opponents
        ],
    }


# -- pieces -----------------------------------------------------------------------------------------


@contextmanager
def interrupted_after(seconds: float | None, late: Event) -> Iterator[None]:
    """Interrupts the block after so long, as Ctrl-C does; `late` is then set."""

    def interrupt(*_: object) -> None:
        late.set()
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGALRM, interrupt)
    if seconds is not None:
        signal.setitimer(signal.ITIMER_REAL, max(seconds, 1e-3))
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def piece(bench: Bench, minutes: float | None = None) -> dict[str, Any]:
    """Go on for so long: the cells that there are, the names of those that are `left`, and `minutes`
    that all pieces took."""
    done: dict[str, Any] = {}
    late, start = Event(), time.monotonic()
    try:
        with interrupted_after(None if minutes is None else 60 * minutes, late):
            for name, measure in cells(bench):
                done[name] = bench.cell(name, measure)
    except KeyboardInterrupt:
        if not late.is_set():
            raise
    finally:
        spent = _spent(bench.folder / "minutes.json", (time.monotonic() - start) / 60)
    left = [name for name, _ in cells(bench) if name not in done]
    return {"minutes": spent, "left": left, "cells": done}


def _spent(path: Path, minutes: float) -> float:
    """The minutes that a file holds, with these more."""
    if path.is_file():
        minutes += json.loads(path.read_text())["minutes"]
    records.write_json({"minutes": minutes}, path)
    return minutes


def summary(recipe: Recipe, done: Mapping[str, Any]) -> list[dict[str, Any]]:
    """A row per network and form: clean accuracy, under attack, certified, energy; None: not measured."""
    rows = []
    for variant in recipe.variants:
        for form in (FLOAT, *(f"{bits} bits" for bits in recipe.bits)):
            prefix = f"{variant.name}; {form}"
            worst = done.get(f"{prefix}; worst", {})
            certified = done.get(f"{prefix}; certified", {})
            energy = done.get(f"{prefix}; energy", {})
            rows.append(
                {
                    "network": variant.name,
                    "form": form,
                    "clean": done.get(prefix, {}).get("accuracy"),
                    "worst": worst.get("worst"),
                    "autoattack_without_fab": worst.get("autoattack_without_fab"),
                    "attacks": worst.get("attacks"),
                    "certified": certified.get("accuracy"),
                    "joules": energy.get("dynamic"),
                    "violations": energy.get("violations"),
                }
            )
    return rows


def bench_of(recipe: Recipe, data_root: Path | None, work: Path, device: str) -> Bench:
    """The bench of a recipe; a toy has its own data. Raises DatasetError."""
    if recipe is TOY:
        return Bench(toy_data(), 0, work, recipe, device)
    data = recipe.parts_of(load("cifar10", data_root))
    return Bench(data, 0, work, recipe, device)


def main(
    data_root: Annotated[Path, typer.Option(help="Folder that holds CIFAR-10.")],
    reduced: Annotated[
        bool, typer.Option("--reduced", help="A smaller network on fewer images, for two cores.")
    ] = False,
    device: Annotated[
        str, typer.Option(help="Where torch computes: cpu, cuda, cuda:1, ...")
    ] = "cpu",
    minutes: Annotated[float | None, typer.Option(help="Stop after so long.", min=0)] = None,
    work: Annotated[Path | None, typer.Option(help="Networks and cells.")] = None,
    out: Annotated[Path | None, typer.Option()] = None,
) -> None:
    """Train, measure, print, write JSON. Status 1 where something is left for the next run."""
    recipe, name = (REDUCED, "cifar10_reduced") if reduced else (FULL, "cifar10")
    bench = bench_of(recipe, data_root, work or Path("runs") / name, device)
    result = piece(bench, minutes)
    rows = summary(recipe, result["cells"])
    jpeg = not (data_root / "cifar-10-batches-py").is_dir()
    columns = ("", "clean", "worst of all", "AutoAttack without FAB")
    shown = table(
        f"CIFAR-10, {EPSILON * 255:g}/255 in L-infinity, {recipe.attacked} images attacked",
        columns,
        [
            (
                f"{row['network']}, {row['form']}",
                *("" if row[key] is None else percent(row[key]) for key in SHOWN),
            )
            for row in rows
        ],
    )
    finish(
        {
            "command": command("cifar10", data_root=data_root, reduced=reduced, device=device),
            "images": "JPEG-compressed, lossy" if jpeg else "as published",
            "recipe": records.plain(recipe) | {"base": recipe.base.options()},
            "published": PUBLISHED,
            "summary": rows,
            **result,
        },
        out or RESULTS / f"{name}.json",
        [shown],
        work=bench.folder,
    )
    if result["left"]:
        print(f"{len(result['left'])} cells are left; the same command goes on.")
        raise typer.Exit(1)


SHOWN = ("clean", "worst", "autoattack_without_fab")
