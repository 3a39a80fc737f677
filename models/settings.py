"""Everything that decides a training run."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any, Literal, TypeAlias, get_args

from ..hw_targets.network.coding import NOISY, Coding

Readout: TypeAlias = Literal["spikes", "voltage"]
LOGIT_SCALE = {"spikes": 0.4, "voltage": 4.0, "ann": 1.0}
"""Readouts to logits for the softmax: spike counts reach 8 and saturate it, voltages stay near 1."""
Framework: TypeAlias = Literal["norse", "slayer"]
FRAMEWORKS: tuple[Framework, ...] = get_args(Framework)
Name: TypeAlias = Literal["ce", "at", "trades", "mart"]
OBJECTIVES: tuple[Name, ...] = get_args(Name)
Kind: TypeAlias = Literal["fgsm", "rfgsm", "pgd"]
KINDS: tuple[Kind, ...] = get_args(Kind)
Optimizer: TypeAlias = Literal["adam", "sgd"]
OPTIMIZERS: tuple[Optimizer, ...] = get_args(Optimizer)
Schedule: TypeAlias = Literal["cosine", "constant"]
SCHEDULES: tuple[Schedule, ...] = get_args(Schedule)
Augmentation: TypeAlias = Literal["none", "crop", "flip", "crop-flip"]
AUGMENTATIONS: tuple[Augmentation, ...] = get_args(Augmentation)
Precision: TypeAlias = Literal["float32", "bfloat16"]
PRECISIONS: tuple[Precision, ...] = get_args(Precision)
_ROBUST = {"panel": "Robust training"}
_OPTIMIZATION = {"panel": "Optimization"}
OWN_MODEL = "own"
"""The model of a network that is given to `train`, not built by it."""
USUAL = Coding.of("rsc1", sigma=0.1)
MOMENTUM = 0.9
"""Of sgd, where nothing else is said."""
USUAL_LATER: dict[str, Any] = {
    "data_digest": "",
    "peak": 1.0,
    "regression": False,
    "optimizer": "adam",
    "momentum": None,
    "schedule": "cosine",
    "weight_decay": 0.0,
    "augmentation": "none",
    "precision": "float32",
}
"""Options that came after networks had digests, and what they are where nothing is said of them."""


@dataclass(frozen=True)
class Settings:
    """Everything that decides a training run; stored in the checkpoint.

    A field whose metadata have a help text is an option of `spikeship train`; the command line's
    `fields.options` says what else may stand there.

    `framework` is that of the spiking network; its ANN twin is the same for all. `leak` and
    `learn_thresholds`: of `networks.neurons`, Norse only.

    What is minimized, of models/objectives.py::

        ce:      CE(x) + P(x)                  at:     CE(x') + P(x')
        trades:  TRADES(x, x') + P(x)          mart:   MART(x, x') + P(x)
        P = sparsity * SR + rate_penalty * rate + distillation terms

    where x' is made by `attack` within `epsilon` in `attack_steps` (pgd), `beta` is that of TRADES and
    MART, SR has `sparsity_power` and `sparsity_step`, and the teacher, with `distillation`,
    `presynaptic` and `temperature`, is the checkpoint `teacher`. `noise_periods` above 1 is HIRE
    (models/hire.py), with noise within `epsilon`, and has only CE. The defaults are plain CE.

    `optimizer`, with `momentum`, `schedule` and `weight_decay`, minimizes it on images after
    `augmentation`; `precision` is that of the products with weights in training.

    `options` are all of this in one flat dictionary, and `Settings.of` makes settings from those.

    `teacher_digest` and `start_digest` name the weights of the teacher and those training started
    from, `data_digest` one's own data; `peak` is the largest |x| of data beyond [0, 1]; with `regression`
    the answers are numbers, CE is the mean squared error, and `classes` their number. `train` fills
    these in.
    """

    dataset: str = field(
        default="digits",
        metadata={
            "flag": "--data",
            "help": "Data set to train on: digits, mnist, fashion_mnist, cifar10, nmnist, dvs_gesture, "
            "shd or ssc; or your own: a .npz file (x_train, y_train, x_test, y_test), a folder as "
            "torchvision or tonic makes it, or module:function.",
        },
    )
    model: str = field(default="mlp", metadata={"help": "Network to train: mlp, cnn or vgg."})
    spiking: bool = True
    readout: Readout = field(default="spikes", metadata={"help": "What the answer is read from."})
    coding: Coding = USUAL
    epochs: int = field(default=60, metadata={"help": "Passes over the training data.", "min": 1})
    batch: int = field(default=32, metadata={"help": "Samples per mini-batch.", "min": 1})
    learning_rate: float = field(
        default=1e-2,
        metadata={"help": "Learning rate at the start; --schedule says how it goes on."},
    )
    seed: int = field(default=0, metadata={"help": "Seed of weights and noise."})
    shape: tuple[int, ...] = (1, 8, 8)
    classes: int = 10
    widths: tuple[int, ...] | None = None
    framework: Framework = field(
        default="norse", metadata={"help": "What the network is made of and trained with."}
    )
    leak: float = field(
        default=0.5,
        metadata={"help": "What neurons keep of their voltage per step; 1 is integrate-and-fire."},
    )
    learn_thresholds: bool = False
    objective: Name = field(
        default="ce",
        metadata={**_ROBUST, "help": "Cross-entropy, adversarial training, TRADES or MART."},
    )
    attack: Kind = field(
        default="pgd",
        metadata={**_ROBUST, "help": "Attack that at, trades and mart defend against."},
    )
    epsilon: float = field(
        default=0.1,
        metadata={
            **_ROBUST,
            "help": "L-infinity radius of that attack and of crafted noise, images being in 0 to 1.",
        },
    )
    attack_steps: int = field(default=5, metadata={**_ROBUST, "help": "Steps of the attack pgd."})
    beta: float = field(
        default=6.0, metadata={**_ROBUST, "help": "Weight of the robust term of trades and mart."}
    )
    sparsity: float = field(
        default=0.0, metadata={**_ROBUST, "help": "Weight of the gradient sparsity penalty (SR)."}
    )
    sparsity_power: Literal[1, 2] = field(
        default=2,
        metadata={
            **_ROBUST,
            "help": "Power of the sparsity penalty, 1 or 2.",
            "type": int,
            "min": 1,
            "max": 2,
        },
    )
    sparsity_step: float = field(
        default=1e-2,
        metadata={
            **_ROBUST,
            "help": "Step of the finite difference in the sparsity penalty, in pixel units.",
        },
    )
    rate_penalty: float = field(
        default=0.0, metadata={**_ROBUST, "help": "Weight of the mean firing rate."}
    )
    noise_periods: int = field(
        default=1,
        metadata={
            **_ROBUST,
            "help": "Periods with crafted noise between them; above 1 this is HIRE.",
        },
    )
    teacher: str = field(
        default="", metadata={**_ROBUST, "help": "Checkpoint of an ANN to learn from (E-RSCT)."}
    )
    distillation: float = field(
        default=0.0, metadata={**_ROBUST, "help": "Weight of the teacher's answers."}
    )
    presynaptic: float = field(
        default=0.0, metadata={**_ROBUST, "help": "Weight of the teacher's currents."}
    )
    temperature: float = 4.0
    teacher_digest: str = ""
    start_digest: str = ""
    data_digest: str = ""
    peak: float = 1.0
    regression: bool = False
    optimizer: Optimizer = field(
        default="adam", metadata={**_OPTIMIZATION, "help": "Adam, or stochastic gradient descent."}
    )
    momentum: float | None = field(
        default=None,
        metadata={**_OPTIMIZATION, "help": "Momentum of sgd, 0 up to 1. Default: 0.9."},
    )
    schedule: Schedule = field(
        default="cosine",
        metadata={
            **_OPTIMIZATION,
            "help": "The learning rate falls to 0 over the epochs as a cosine, or is constant.",
        },
    )
    weight_decay: float = field(
        default=0.0,
        metadata={
            **_OPTIMIZATION,
            "help": "Decay of weights (not of biases, norms and thresholds): part of the gradient of "
            "sgd, apart from that of adam (AdamW).",
        },
    )
    augmentation: Augmentation = field(
        default="none",
        metadata={
            **_OPTIMIZATION,
            "help": "Crop each training image at random from itself with a black border, flip it at "
            "random from left to right, or both.",
        },
    )
    precision: Precision = field(
        default="float32",
        metadata={
            **_OPTIMIZATION,
            "help": "What training multiplies weights in; membranes, norms and losses are float32.",
        },
    )

    def __post_init__(self) -> None:
        if self.optimizer == "sgd" and self.momentum is None:
            object.__setattr__(self, "momentum", MOMENTUM)
        if problems := list(self._problems()):
            raise ValueError(" ".join(problems))

    def _problems(self) -> list[str]:
        problems = [
            f"{name} {value!r} is unknown; choose from {', '.join(map(str, known))}."
            for name, value, known in (
                ("framework", self.framework, FRAMEWORKS),
                ("objective", self.objective, OBJECTIVES),
                ("attack", self.attack, KINDS),
                ("sparsity_power", self.sparsity_power, (1, 2)),
                ("optimizer", self.optimizer, OPTIMIZERS),
                ("schedule", self.schedule, SCHEDULES),
                ("augmentation", self.augmentation, AUGMENTATIONS),
                ("precision", self.precision, PRECISIONS),
            )
            if value not in known
        ]
        positive = ("epsilon", "attack_steps", "sparsity_step", "temperature", "noise_periods")
        problems += [
            f"{name} = {getattr(self, name)}; it must be above 0."
            for name in positive
            if not getattr(self, name) > 0
        ]
        weights = (
            "beta",
            "sparsity",
            "rate_penalty",
            "distillation",
            "presynaptic",
            "weight_decay",
        )
        problems += [
            f"{name} = {getattr(self, name)}; a weight is 0 or more."
            for name in weights
            if not getattr(self, name) >= 0
        ]
        if self.objective == "trades" and self.attack == "fgsm":
            problems.append(
                "trades with fgsm: the KL has no gradient at the image itself; use rfgsm."
            )
        c = self.coding
        extent: dict[str, Any] = {"offsets": c.offsets, "template": c.template, "peak": self.peak}
        usual = Coding.of(c.name, c.steps, c.grid, c.sigma, **extent)
        if c != usual:
            problems.append(
                f"coding {c.name} with {c.message_bits} message bits; networks are trained with "
                f"{usual.message_bits}: use Coding.of."
            )
        if self.moves_images and (c.name in ("sequence", "events") or self.regression):
            what = "regression" if self.regression else f"{c.name.removesuffix('s')}s"
            problems.append(
                f"{what} cannot be attacked or moved: adversarial objectives need images of classes."
            )
        if self.regression and (self.teacher or (self.spiking and self.readout == "spikes")):
            problems.append(
                "regression needs readout = voltage and no teacher: spike counts are no real numbers."
            )
        if bool(self.teacher) != bool(self.distillation or self.presynaptic):
            problems.append(
                "a teacher goes with a weight of distillation or presynaptic, and back."
            )
        slayer = self.spiking and self.framework == "slayer"
        if self.momentum is not None and self.optimizer != "sgd":
            problems.append("momentum goes with optimizer = sgd; Adam has its own.")
        if self.momentum is not None and not 0 <= self.momentum < 1:
            problems.append(f"momentum = {self.momentum}; from 0 up to, not including, 1.")
        if self.augmentation != "none" and (
            c.name in ("sequence", "events") or len(self.shape) != 3 or self.regression
        ):
            problems.append(
                f"augmentation = {self.augmentation}: only images (C, H, W) of classes are the same when "
                f"they are moved or flipped."
            )
        if self.precision != "float32" and (slayer or self.noise_periods > 1):
            what = "SLAYER" if slayer else "noise_periods (HIRE)"
            problems.append(f"precision = {self.precision}: {what} computes in float32 alone.")
        if self.noise_periods > 1:
            if not self.spiking or slayer:
                problems.append(
                    "noise_periods: only Norse networks stop and go on between periods."
                )
            if self.noise_periods > c.steps:
                problems.append(f"noise_periods = {self.noise_periods} of {c.steps} steps.")
            if self.objective != "ce" or self.penalized:
                problems.append("noise_periods go with plain cross-entropy alone.")
        if slayer:
            if self.leak != 0.5 or self.learn_thresholds:
                problems.append("slayer networks have a leak of 0.5 and fixed thresholds.")
            if self.presynaptic:
                problems.append("presynaptic: SLAYER does not show its currents; use norse.")
            levels = c.levels if self.sparsity else 1
            units = self.sparsity_step * levels
            if self.sparsity and (units < 1 or units != round(units)):
                problems.append(
                    f"sparsity_step = {self.sparsity_step}: SLAYER networks see whole numbers, of "
                    f"which it is {units:g}; use 1 / {levels} or a multiple."
                )
        return problems

    @property
    def adversarial(self) -> bool:
        """Whether training makes adversarial images."""
        return self.objective != "ce"

    @property
    def moves_images(self) -> bool:
        """Whether training changes its images."""
        return self.adversarial or bool(self.sparsity) or self.noise_periods > 1

    @property
    def penalized(self) -> bool:
        """Whether anything is added to the objective."""
        return bool(self.sparsity or self.rate_penalty or self.teacher)

    @property
    def text(self) -> str:
        """`options` as a text, which digests of float networks are made from."""
        return (
            f"Settings({', '.join(f'{name}={value!r}' for name, value in self.options().items())})"
        )

    def options(self) -> dict[str, Any]:
        """All settings in one flat dictionary, as checkpoints and JSON hold them.

        `coding`, `sigma`, `steps`, `levels`, `offsets` and `template` say the coding: `levels` are the
        grey levels that images are rounded to, `Coding.grid`. Names and order never change: digests
        of float networks are made from them; what is in `USUAL_LATER` is said where it is otherwise.
        """
        c = self.coding
        coding = {"coding": c.name, "sigma": c.sigma, "steps": c.steps, "levels": c.grid}
        flat: dict[str, Any] = {}
        for said in fields(self):
            flat |= coding if said.name == "coding" else {said.name: getattr(self, said.name)}
            if said.name == "framework":
                flat |= {"offsets": c.offsets, "template": c.template}
        return {
            name: value
            for name, value in flat.items()
            if name not in USUAL_LATER or USUAL_LATER[name] != value
        }

    @classmethod
    def of(
        cls,
        *,
        coding: str = "rsc1",
        sigma: float | None = None,
        steps: int = 8,
        levels: int = 16,
        offsets: int = 1,
        template: int = 0,
        peak: float = 1.0,
        **others: Any,
    ) -> Settings:
        """Settings from `options`, those of a checkpoint too; what is left out has its default.

        `sigma` None: 0.1 where the coding is rsc1 or rsc2, else 0. `others`: fields.
        """
        if sigma is None:
            sigma = 0.1 if coding in NOISY else 0.0
        extent: dict[str, Any] = {"offsets": offsets, "template": template, "peak": peak}
        return cls(coding=Coding.of(coding, steps, levels, sigma, **extent), peak=peak, **others)

    def changed(self, **options: Any) -> Settings:
        """These settings with other `options`."""
        return Settings.of(**{**self.options(), **options})
