"""A trained spiking network in, Loihi-style hardware and trustworthy numbers out.

    import spikeship

    data = spikeship.data("digits")
    snn = spikeship.train(data, coding="rsc1", sigma=0.1)    # or a Norse or SLAYER network of yours
    chip = spikeship.deploy(snn, data, bits=8)
    chip.save("digits.net")
    print(spikeship.verify(chip, data))
    print(spikeship.profile(chip, data))
    print(spikeship.attack(chip, data, spikeship.PGD(0.1)))

Each function is a command of `spikeship` on the command line, of the same name. Results are objects with
named fields; printed, they are the tables that the command shows. What they are made of lies in
`spikeship.hw_targets` (needs no torch), `spikeship.models` and `spikeship.pipeline`.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Collection, Sequence
    from pathlib import Path
    from typing import TypeAlias

    import nir
    import numpy as np
    from numpy.typing import NDArray
    from torch import nn

    from .hw_targets.chips.chip import Chip
    from .hw_targets.chips.loihi1 import LOIHI1
    from .hw_targets.chips.loihi2 import LOIHI2
    from .hw_targets.chips.mapper import Mapping
    from .hw_targets.energy.device_files import load_device, shipped_devices
    from .hw_targets.network.coding import Coding
    from .hw_targets.network.network import Network
    from .hw_targets.simulate.state import State
    from .hw_targets.simulate.trace import Trace
    from .models.ann_conversion import Converted
    from .models.data.dataset import Dataset, Split
    from .models.training import Classifier
    from .pipeline.deploy.deployed import Deployed
    from .pipeline.deploy.run import Backend, Classification
    from .pipeline.deploy.task import Task
    from .pipeline.energy.profile import Profile
    from .pipeline.robustness import (
        APGD,
        FGSM,
        PGD,
        RFGSM,
        SAPGD,
        Attack,
        Attacked,
        Certified,
        RandomNoise,
        RobustnessReport,
        Square,
        Subject,
        TargetedAPGD,
    )
    from .pipeline.verify import Verification

    Net: TypeAlias = Deployed | Network | str | Path

__all__ = [
    "APGD",
    "FGSM",
    "LOIHI1",
    "LOIHI2",
    "PGD",
    "RFGSM",
    "SAPGD",
    "Coding",
    "Dataset",
    "Deployed",
    "Network",
    "RandomNoise",
    "Split",
    "Square",
    "State",
    "TargetedAPGD",
    "__version__",
    "attack",
    "certify",
    "convert",
    "data",
    "deploy",
    "evaluate",
    "load",
    "load_device",
    "map",
    "profile",
    "robustness",
    "shipped_devices",
    "simulate",
    "train",
    "verify",
]

_ATTACKS = ("APGD", "FGSM", "PGD", "RFGSM", "RandomNoise", "SAPGD", "Square", "TargetedAPGD")
_WHERE = {
    **dict.fromkeys(_ATTACKS, "pipeline.robustness"),
    "LOIHI1": "hw_targets.chips.loihi1",
    "LOIHI2": "hw_targets.chips.loihi2",
    "load_device": "hw_targets.energy.device_files",
    "shipped_devices": "hw_targets.energy.device_files",
    "Coding": "hw_targets.network.coding",
    "Dataset": "models.data.dataset",
    "Deployed": "pipeline.deploy.deployed",
    "Network": "hw_targets.network.network",
    "Split": "models.data.dataset",
    "State": "hw_targets.simulate.state",
}
"""Classes and names that are imported when they are first used: torch takes seconds."""


def __getattr__(name: str) -> Any:
    if name == "__version__":
        from importlib.metadata import version

        return version("spikeship")
    if name not in _WHERE:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f".{_WHERE[name]}", __name__), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return __all__


def data(name: Any = "digits", root: str | Path | None = None, *, steps: int = 30) -> Dataset:
    """A data set, built in or your own: training, validation and test samples.

    `name`: digits (scikit-learn's, shipped), mnist, fashion_mnist, cifar10, nmnist, dvs_gesture, shd or
    ssc, which are read from the folder `root` as torchvision and tonic leave them there; or such a folder
    alone, or one of pictures, train/CLASS/*.png and test/CLASS/*.png. Or your own: `"mine.npz"` or a
    dictionary with x_train, y_train, x_test, y_test (images (sample, C, H, W), sequences (sample, time,
    features), events of 0 and 1; classes, or real targets of regression); torch data sets (training,
    test); or `"module:function"`, which returns these. `steps`: time steps of a sample of events. Raises
    DatasetError for an unknown name, for files that are missing or damaged, and for arrays that do not
    fit, by name.

    >>> data("digits")
    digits: 1294 training, 144 validation and 359 test images of 1x8x8, 10 classes
    """
    from .models.data.load import load

    return load(name, root, steps)


def train(
    data: Any = "digits",
    folder: str | Path | None = None,
    *,
    start: nn.Module | None = None,
    progress: bool | None = None,
    device: str = "cpu",
    **settings: Any,
) -> Classifier:
    """Train a spiking network, or its ANN twin (`spiking=False`), and keep the best epoch.

    `settings`: the options of `models.settings.Settings.of`, such as `model="cnn"`, `coding="phase"`,
    `sigma=0.1`, `steps=8`, `epochs=20`, `objective="at"`. `folder`: for checkpoints; by default one below
    `runs/`, named after data and settings, so that an interrupted call goes on where it stopped, and a
    finished one is loaded. `start`: a network whose weights to start from. `progress`: a bar, by default
    where a terminal is. `device`: where it is trained, cpu, cuda, cuda:1, ...; it comes back to the CPU.
    Raises ValueError for settings that do not go together, and for a device that is not there.

    >>> train(data, epochs=1, coding="direct", sigma=0)
    mlp of norse on digits, coding direct, 8 steps, seed 0
    """
    import hashlib
    import sys
    from pathlib import Path

    from .models import training

    dataset = _data(data)
    chosen = training.chosen(dataset, settings)
    if folder is None:
        name = hashlib.sha256(chosen.text.encode()).hexdigest()[:8]
        folder = Path("runs") / f"{chosen.dataset}-{chosen.model}-{name}"
    shown = sys.stderr.isatty() if progress is None else progress
    how: Any = {"start": start, "progress": shown, "device": device}
    return training.train(chosen, dataset, folder, **how)[0]


def convert(
    ann: Classifier | nn.Module,
    data: Any = None,
    coding: Coding | str | None = None,
    *,
    scale: float | None = None,
    **options: Any,
) -> Classifier | Converted:
    """Make a spiking network of a trained ANN, with its weights and thresholds from its activations.

    `ann`: what `train(spiking=False)` gives, or any torch network of yours that is a row of layers, see
    `models.ann_layers.layers_of`; AnnError says why another is not. `data`: the data set that it was
    trained on; that of a Classifier is known. `coding`: of the spiking network's input; by name, by
    default what suits the data (images `direct`), in 8 steps on the ANN's grid, of your own ANN the
    data's. `scale`: of the thresholds; by default 0.3, for yours the one with which most answers are the
    ANN's. `options`: see `models.conversion.convert` and `models.ann_conversion.convert_ann`. The result
    goes to `deploy`.

    >>> convert(ann, data)
    mlp of norse on digits, coding direct, 8 steps, seed 0
    """
    from .hw_targets.network.coding import Coding
    from .models.ann import ann_of
    from .models.ann_conversion import check_data, converted
    from .models.data.grid import CodingChoice
    from .models.training import Classifier
    from .pipeline.frontends.load import check_ann

    foreign = not isinstance(ann, Classifier)
    if data is None and foreign:
        raise ValueError("thresholds are chosen on data: give the data set that it was trained on.")
    if foreign:
        check_ann(ann)
    dataset = _data(data, None if foreign else ann)
    if foreign:
        check_data(dataset)
    if not isinstance(coding, Coding):
        levels = None if foreign else ann.settings.coding.grid
        coding = CodingChoice(coding, levels=levels).of(dataset)
    images, regression = dataset.train.images, dataset.regression
    return converted(
        ann_of(ann, images), coding, images, scale=scale, regression=regression, **options
    )


def deploy(
    model: Classifier | Converted | nn.Module | nir.NIRGraph | str | Path,
    data: Any = None,
    *,
    inputs: NDArray[np.integer[Any]] | None = None,
    bits: int | Sequence[int] | None = None,
    dt: float | None = None,
    reset: str | None = None,
    reset_delay: int | None = None,
    framework: str | None = None,
    **options: Any,
) -> Deployed:
    """Choose the integers of a trained network on data: what the chip computes with.

    `model`: what `train` or `convert` gives, a Norse or SLAYER network of your own, a NIR graph, or the
    name of one: a checkpoint, `net.nir`, `mynet:build`. `data`: a data set; or `inputs`: your own
    integers (sample, time, *input shape). `bits`: of the weights, 2 to 8, one number or one per layer
    (default 8). `dt`, `reset`, `reset_delay`, or the `framework` that wrote it: what a NIR graph does
    not say, see `from_nir`. `options`: `coding`, `levels`, `size_budget`, `max_loss`, `per_channel`,
    `fine_tune`, `calibration`, `checkpoint`, `seed`, ..., see `pipeline.deploy.deploy.deploy`.

    >>> chip = deploy(snn, data, bits=4)
    >>> [loss.bits for loss in chip.losses]
    [4, 4]
    """
    from .pipeline.deploy.deploy import deploy
    from .pipeline.frontends.load import Given

    given = Given(dt, reset, reset_delay, framework)
    return deploy(model, data, inputs=inputs, bits=bits, given=given, **options)


def load(
    path: str | Path,
    graph: str | Path | None = None,
    *,
    coding: Coding | None = None,
    reset_interval: int | None = None,
) -> Deployed:
    """Read a netx file, and the float network in `graph`, by default the `.nir` file beside it.

    Any netx file is read, also lava-dl's own, which say neither how their input is encoded nor what
    their answer is: `coding` says the one, such as `Coding.of("direct", 8, 16)` or, of integers x that
    are messages already, `Coding.given(x)`; the answer is the spike count, or of a last layer that never
    spikes the mean voltage. `reset_interval`: steps from one reset of u and v to the next, None: never.
    Raises NetxError, FileNotFoundError, NetworkError.

    >>> chip = chip.save("digits.net")
    >>> load("digits.net").digest == chip.digest
    True
    """
    from .pipeline.deploy.deployed import Deployed
    from .pipeline.deploy.task import with_recipe

    deployed = Deployed.load(path, graph)
    if coding is not None:
        return with_recipe(deployed, coding, reset_interval)
    if reset_interval is not None:
        raise ValueError(f"reset_interval = {reset_interval}: it goes with coding.")
    return deployed


def evaluate(
    chip: Net, data: Any = None, samples: int | None = None, *, device: str = "cpu"
) -> Classification:
    """Accuracy, or error of regression, of the integers on (the first `samples`) test samples.

    `chip`: what `deploy` or `load` gives, or the name of a netx file. `data`: by default the data set
    that the network was made for; else a data set, or arrays of your own (inputs, labels). Inputs are
    integers (sample, time, *input shape), sent as they are, or real numbers, as in a data set. `device`:
    cpu (the engine), cuda, cuda:1, ...; the integers are the same. Raises NetworkError, also for a device
    that is not there, and DatasetError.

    >>> evaluate(chip, data).accuracy > 0.9
    True
    >>> evaluate(chip, chip.encoded(data.test, 50)).accuracy == evaluate(chip, data, 50).accuracy
    True
    """
    from .pipeline.deploy.run import classify

    task = _task(chip, data)
    return classify(task.deployed, task.data.test, samples, device=device)


def simulate(
    chip: Net,
    inputs: NDArray[np.integer[Any]],
    steps: int | None = None,
    *,
    record: str | Collection[str] = ("counts", "spikes"),
    backend: Backend = "engine",
    device: str | None = None,
    state: State | None = None,
) -> Trace:
    """Run a network on integers (sample, time, *input shape), bit for bit as Lava does.

    Width of the messages and resets are those of the network's recipe, if it has one. `steps`: of the
    run, after the input without input; by default the input's and the network's latency, by which its
    layers answer later (`trace.aligned(network, steps)` takes it out). `record`: counts, spikes, u, v,
    residue, of all layers, or of one as `"v.2"`. `backend`: engine, torch, reference or lava, which give
    the same. `device`: of torch, cpu by default, or cuda. `state`: go on from there, for as many steps as
    the input has, so that streams and closed loops can be run a step at a time; `State()` is the
    beginning, and the trace has the next one. Raises NetworkError.

    >>> messages, labels = chip.encoded(data.test, 5)
    >>> trace = simulate(chip, messages, record="spikes")
    >>> [layer.shape for layer in trace.spikes]
    [(5, 10, 256), (5, 10, 10)]

    >>> import spikeship
    >>> state = spikeship.State()
    >>> for step in range(messages.shape[1]):
    ...     trace = simulate(chip, messages[:, [step]], state=state)
    ...     state = trace.state
    >>> state.step
    8
    """
    from .pipeline.deploy.run import own_timing, run

    deployed = _deployed(chip)
    network = deployed.network
    return run(
        network,
        inputs,
        own_timing(network, inputs, steps, goes_on=state is not None),
        backend=backend,
        record=record,
        file=deployed.path,
        device=device,
        state=state,
    )


def verify(
    chip: Net,
    data: Any = None,
    *,
    labels: Any = None,
    samples: int = 200,
    lava_samples: int = 3,
    **options: Any,
) -> Verification:
    """Compare float network, rounded numbers, integers, simulators, Lava and the file, layer by layer.

    `chip`, `data`: as `evaluate` takes them; `labels`, of arrays, may be left out. `samples` test samples
    are compared with the float network, `lava_samples` of them run on Lava. `options`: `module`, your own
    network whose `forward` is compared too, `expect`, the outputs that its framework recorded, and
    `tolerance`, see `pipeline.verify.verify`.

    >>> verify(chip, data, samples=20, lava_samples=0).ok
    True
    """
    from .pipeline.verify import verify

    task = _task(chip, data if labels is None else (data, labels))
    return verify(task.deployed, task.data, samples=samples, lava_samples=lava_samples, **options)


def map(chip: Net, on: Chip | str = "loihi2") -> Mapping:
    """Where a network goes on a chip: cores of each layer, what fills them, what it violates.

    `on`: loihi1, loihi2, or a `Chip`.

    >>> map(chip, "loihi2").fits(chips=1)
    True
    """
    from .hw_targets.chips.mapper import map_network

    return map_network(_deployed(chip).network, on)


def profile(
    chip: Net,
    data: Any = None,
    devices: Sequence[str | Path] | None = None,
    *,
    ann: Classifier | nn.Module | None = None,
    samples: int | None = None,
    **options: Any,
) -> Profile:
    """What an inference costs: counted events, energy and time on chips, the ANN beside it.

    `chip`, `data`: as `evaluate` takes them. `devices`: names (`shipped_devices()`) or TOML files; by
    default the chips that carry the network's messages. `ann`: the ANN twin, or any torch network of
    yours that `convert` takes. `samples`: test samples, all by default. `options`: see
    `pipeline.energy.profile.profile`.

    >>> cost = profile(chip, data, samples=20)
    >>> cost.prices[0].dynamic.joules > 0
    True
    """
    from .models.ann import ann_of
    from .models.training import Classifier
    from .pipeline.energy.profile import profile
    from .pipeline.frontends.load import check_ann

    if ann is not None and not isinstance(ann, Classifier):
        check_ann(ann)
    task = _task(chip, data)
    twin = None if ann is None else ann_of(ann, task.data.train.images)
    return profile(task.deployed, task.data, devices, ann=twin, samples=samples, **options)


def attack(
    chip: Net | Classifier | nn.Module,
    data: Any,
    how: Attack,
    *,
    coding: Coding | None = None,
    samples: int = 100,
    draws: int = 20,
    seed: int = 0,
    progress: bool = False,
    device: str = "cpu",
) -> Attacked:
    """Attack a network on the first `samples` test images, judged on `draws` draws that no attack saw.

    `chip`: a `Deployed` is attacked as it runs: gradients through its twin, answers from the engine. Of a
    torch ANN of yours, images to logits, any differentiable forward will do; `coding` is noise for it,
    see `certify`. `how`: an attack such as `PGD(0.1)`, `SAPGD(0.1)`, `Square(0.1)`, its radius in
    L-infinity for images in [0, 1]; data beyond are attacked in units of their range, sequences as a
    whole. `device`: where network, images and attack are, cpu, cuda, cuda:1, ...; the draws that judge
    are the same everywhere. Raises DatasetError for regression and events, NetworkError for a device that
    is not there.

    >>> import spikeship
    >>> attacked = attack(chip, data, spikeship.PGD(0.1, steps=2), samples=10, draws=2)
    >>> attacked.accuracy <= attacked.clean.accuracy
    True
    """
    from .pipeline.robustness.attacks.attack import Attack, attack

    if not isinstance(how, Attack):
        raise ValueError(f"how = {how!r} is no attack: give PGD(0.1), Square(0.1), ...")
    subject = _subject(chip, data, coding)
    split = subject.dataset.test.first(samples)
    judged: Any = {"draws": draws, "seed": seed, "progress": progress}
    with subject.victim.on(device):
        return attack(subject.victim, how, split.images, split.labels, **judged)


def certify(
    chip: Net | Classifier | nn.Module,
    data: Any = None,
    *,
    coding: Coding | None = None,
    samples: int = 100,
    device: str = "cpu",
    **options: Any,
) -> Certified:
    """Certify the vote of a network with a random coding on the first `samples` test images.

    Within a radius around each image no image changes the vote: for the phase code exactly, for other
    codings with a stated probability. `coding`: of a torch ANN of yours, `Coding.of("rsc1", 1, levels,
    sigma)`, noise that is added to every image (Cohen et al. 2019). `device`: where the network computes,
    cpu, cuda, cuda:1, ...; of integers the certificates are the same. `options`: `method`, `n0`, `n`,
    `alpha`, `seed`, `folder`, see `pipeline.robustness.certificates.certify.certify`.

    >>> certify(chip, data, samples=5, n0=10, n=100).abstained <= 1
    True
    """
    from .pipeline.robustness.certificates.certify import certify

    subject = _subject(chip, data, coding)
    subject.images_alone("a certificate")
    split = subject.dataset.test.first(samples)
    with subject.victim.on(device):
        return certify(subject.victim, split.images, split.labels, **options)


def robustness(
    chip: Net | Classifier | nn.Module,
    data: Any = None,
    epsilon: float = 0.1,
    *,
    coding: Coding | None = None,
    forms: Sequence[Net | Classifier | nn.Module] = (),
    sources: Sequence[Net | Classifier | nn.Module] = (),
    samples: int = 100,
    seed: int = 0,
    progress: bool = False,
    device: str = "cpu",
    **options: Any,
) -> RobustnessReport:
    """Judge robustness as a whole: attacks, worst case, sanity suite, certificates, energy per decision.

    `chip`, `data`, `coding`: as `attack` takes them, images alone. `epsilon`: radius in L-infinity.
    `forms`: other forms of the network, such as the float one, judged beside it. `sources`: networks that
    attacks are carried over from; by default an ANN is trained. `device`: where all is computed, as in
    `attack`. `options`: `plan`, how thoroughly (see `Plan`), `others`, `certified_draws` and `devices`
    (chips that a decision is priced on), see `pipeline.robustness.report.robustness`.
    `report.passed`: whether the sanity suite believes the figures.

    >>> from spikeship.pipeline.robustness.battery import Plan
    >>> plan = Plan(steps=1, eot=1, draws=2, queries=2, adaptive_steps=1, averages=(1,), sharpness=())
    >>> report = robustness(chip, data, samples=4, plan=plan, certified_draws=0)
    >>> report.passed  # four images are too few to tell
    False
    """
    from contextlib import ExitStack

    from .pipeline.robustness.attacks.substitute import substitute
    from .pipeline.robustness.battery import Plan
    from .pipeline.robustness.report import robustness

    subjects = [_subject(each, data, coding if each is chip else None) for each in (chip, *forms)]
    for subject in subjects:
        subject.images_alone("the suite of robustness")
    dataset = subjects[-1].dataset
    others = [_subject(each, dataset).victim for each in sources] or [substitute(dataset, seed)]
    victims = [subject.victim for subject in subjects]
    with ExitStack() as places:
        for victim in (*victims, *others):
            places.enter_context(victim.on(device))
        return robustness(
            {victim.name: victim for victim in victims},
            dataset.name,
            dataset.test.first(samples),
            epsilon,
            sources={victim.name: victim for victim in others},
            progress=progress,
            **{"plan": Plan(seed=seed), **options},
        )


def _data(data: Any, chip: Any = None) -> Dataset:
    """A data set, whatever `data` takes, or the one that a network was made for."""
    from .models.data.load import load

    if data is None and not hasattr(chip, "settings"):
        raise ValueError("this network does not say what data it is for: give data.")
    return load(chip.settings.dataset if data is None else data)


def _deployed(chip: Any) -> Deployed:
    """Integers that a function is given: `Deployed`, a `Network`, or the name of a netx file."""
    from .hw_targets.network.network import Network
    from .pipeline.deploy.deployed import Deployed

    if isinstance(chip, Deployed):
        return chip
    if isinstance(chip, Network):
        return Deployed(chip)
    if not hasattr(chip, "__fspath__") and not isinstance(chip, str):
        raise ValueError(
            f"a {type(chip).__name__} holds no integers: give what `deploy` or `load` returns."
        )
    return Deployed.load(chip)


def _task(chip: Any, data: Any) -> Task:
    """Integers that say how they are run, and what they are judged on: a data set, or arrays."""
    import numpy as np

    from .pipeline.deploy.task import task

    inputs, labels = data if isinstance(data, tuple) and len(data) == 2 else (data, None)
    if isinstance(inputs, np.ndarray):
        return task(_deployed(chip), inputs=inputs, labels=labels)
    return task(_deployed(chip), data)


def _subject(model: Any, data: Any, coding: Coding | None = None) -> Subject:
    """A network of whatever kind and the data that it is attacked and certified on."""
    from pathlib import Path

    from .hw_targets.network.network import Network
    from .pipeline.deploy.deployed import Deployed
    from .pipeline.robustness import Subject

    if not isinstance(model, Deployed | Network | str | Path):
        return Subject.of(model, _data(data, model), coding)
    task = _task(model, data)
    return Subject.of(task.deployed, task.data, coding)
