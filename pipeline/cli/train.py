"""`spikeship train`."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, Any, Literal

import typer

from .options import DataRoot, Seed
from .screen import Output, bars, fail

_ROBUST: Any = {"rich_help_panel": "Robust training"}


def train(
    out: Annotated[Path, typer.Option(help="Folder for the checkpoint.")] = Path("runs/train"),
    data: Annotated[
        str, typer.Option(help="digits, mnist, fashion_mnist, cifar10 or nmnist.")
    ] = "digits",
    model: Annotated[str, typer.Option(help="mlp, cnn or vgg.")] = "mlp",
    framework: Annotated[
        Literal["norse", "slayer"],
        typer.Option(help="What the network is made of and trained with."),
    ] = "norse",
    ann: Annotated[bool, typer.Option("--ann", help="Train the ANN twin instead.")] = False,
    readout: Annotated[
        Literal["spikes", "voltage"], typer.Option(help="What the answer is read from.")
    ] = "spikes",
    coding: Annotated[
        Literal["direct", "rsc1", "rsc2", "poisson", "signed_poisson", "phase"] | None,
        typer.Option(help="Input coding. Default: rsc1; events (nmnist) need none."),
    ] = None,
    sigma: Annotated[float, typer.Option(help="Noise of rsc1 and rsc2, in pixel units.")] = 0.1,
    steps: Annotated[
        int | None,
        typer.Option(help="Time steps per sample. Default: 8; of events (nmnist) 30.", min=1),
    ] = None,
    levels: Annotated[int, typer.Option(help="Input grid: grey levels per 1.0.", min=1)] = 16,
    offsets: Annotated[int, typer.Option(help="phase: thresholds per pixel over the steps.")] = 1,
    leak: Annotated[
        float,
        typer.Option(help="What neurons keep of their voltage per step; 1: integrate-and-fire."),
    ] = 0.5,
    epochs: Annotated[int, typer.Option(min=1)] = 60,
    batch: Annotated[int, typer.Option(min=1)] = 32,
    learning_rate: Annotated[float, typer.Option()] = 1e-2,
    start: Annotated[
        Path | None, typer.Option(help="A checkpoint of the same network to start from.")
    ] = None,
    objective: Annotated[
        Literal["ce", "at", "trades", "mart"],
        typer.Option(help="Cross-entropy; adversarial training; TRADES; MART.", **_ROBUST),
    ] = "ce",
    attack: Annotated[
        Literal["fgsm", "rfgsm", "pgd"], typer.Option(help="That these defend against.", **_ROBUST)
    ] = "pgd",
    epsilon: Annotated[
        float, typer.Option(help="Its radius, L-infinity, images in 0 to 1.", **_ROBUST)
    ] = 0.1,
    attack_steps: Annotated[int, typer.Option(help="Steps of pgd.", **_ROBUST)] = 5,
    beta: Annotated[float, typer.Option(help="Of TRADES and MART.", **_ROBUST)] = 6.0,
    sparsity: Annotated[
        float, typer.Option(help="Weight of the gradient sparsity penalty (SR).", **_ROBUST)
    ] = 0.0,
    sparsity_power: Annotated[int, typer.Option(help="1 or 2.", min=1, max=2, **_ROBUST)] = 2,
    rate_penalty: Annotated[
        float, typer.Option(help="Weight of the mean firing rate.", **_ROBUST)
    ] = 0.0,
    noise_periods: Annotated[
        int, typer.Option(help="Above 1: HIRE, crafted noise between periods.", **_ROBUST)
    ] = 1,
    teacher: Annotated[
        str, typer.Option(help="Checkpoint of an ANN to learn from (E-RSCT).", **_ROBUST)
    ] = "",
    distillation: Annotated[
        float, typer.Option(help="Weight of the teacher's answers.", **_ROBUST)
    ] = 0.0,
    presynaptic: Annotated[
        float, typer.Option(help="Weight of the teacher's currents.", **_ROBUST)
    ] = 0.0,
    seed: Seed = 0,
    data_root: DataRoot = None,
) -> Output:
    """Train a Norse or SLAYER network, or its ANN twin; interrupted runs go on where they stopped."""
    from ...models import training
    from ...models.data.dataset import EVENT_STEPS
    from ...models.data.load import load
    from ...models.settings import Settings

    dataset = load(data, data_root, steps or EVENT_STEPS)
    if dataset.event_steps and coding is not None:
        fail(f"{data} is events, which are not coded again: leave out --coding.")
    coding = coding or "rsc1"
    settings = Settings(
        model=model,
        framework=framework,
        spiking=not ann,
        readout=readout,
        coding=coding,
        sigma=sigma if coding in ("rsc1", "rsc2") else 0.0,
        steps=steps or 8,
        levels=levels,
        offsets=offsets,
        leak=leak,
        epochs=epochs,
        batch=batch,
        learning_rate=learning_rate,
        objective=objective,
        attack=attack,
        epsilon=epsilon,
        attack_steps=attack_steps,
        beta=beta,
        sparsity=sparsity,
        sparsity_power=1 if sparsity_power == 1 else 2,
        rate_penalty=rate_penalty,
        noise_periods=noise_periods,
        teacher=teacher,
        distillation=distillation,
        presynaptic=presynaptic,
        seed=seed,
    )
    begin = None if start is None else training.load(start)
    network, path = training.train(settings, dataset, out, start=begin, progress=bars())
    validation = training.accuracy(network, dataset.validation)
    test = training.accuracy(network, dataset.test)
    return Output(
        {
            "checkpoint": path,
            "validation_accuracy": validation,
            "test_accuracy": test,
            "settings": network.settings,
        },
        f"validation {100 * validation:.2f} %, test {100 * test:.2f} %",
        f"wrote {path}",
    )
