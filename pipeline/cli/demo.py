"""`spikeship demo`: the whole path on scikit-learn's digits, and one table."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from ...hw_targets.printed import table
from .. import records
from ..text import interval, percent
from .options import Seed
from .profile import missing
from .screen import Output, resumes, say

if TYPE_CHECKING:
    from ..energy.profile import Profile


def run_demo(
    out: Path, seed: int, lava_samples: int, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[Table | str]]:
    """Returns the result for JSON and the views to print; writes digits.net, .nir and demo.json.

    `lava_samples` of the test images run on Lava, every spike and state compared.
    """
    from ...models import training
    from ...models.data.load import load
    from ...models.settings import Settings
    from ..deploy.deploy import deploy
    from ..deploy.deployed import Deployed
    from ..deploy.run import float_accuracy, run_recipe, scores
    from ..energy.profile import profile
    from ..verify import verify

    data = load("digits")
    say("training an RSC-coded Norse network and its ANN twin on digits")
    snn, checkpoint = training.train(Settings(seed=seed), data, out / f"snn-{seed}")
    twin_settings = Settings(spiking=False, seed=seed)
    ann, _ = training.train(twin_settings, data, out / f"ann-{seed}")
    net = out / "digits.net"
    losses = deploy(checkpoint, data, seed=seed, progress=say).save(net).losses
    deployed = Deployed.load(net)
    say(f"simulating {len(data.test)} test images")
    float_right = float_accuracy(snn.net, deployed.recipe, data.test)
    priced = profile(deployed, data, ann=ann, float_accuracy=float_right, progress=True)
    say(f"checking {lava_samples} images on Lava's CPU backend")
    checked = verify(
        deployed, data, module=snn.net, samples=len(data.test), lava_samples=lava_samples
    )
    assert checked.to_float is not None
    assert priced.ann is not None
    result: dict[str, Any] = {
        "net": net,
        "digest": deployed.digest,
        "ok": checked.ok,
        "test_images": len(data.test),
        "accuracy": {
            "ann": priced.ann.accuracy,
            "snn_float": float_right,
            "snn_integer": priced.accuracy,
            "lava": None,
        },
        "verification": checked,
        "profile": priced,
        "layers": losses,
    }
    if checked.to_lava is not None:
        messages, labels = deployed.encoded(data.test, lava_samples)
        on_lava = run_recipe(deployed.network, messages, backend="lava", file=net)
        right = scores(deployed.network, on_lava).argmax(axis=1) == labels
        result["accuracy"]["lava"] = float(right.mean())
    records.write_json({**result, **records.environment()}, out / "demo.json")
    return result, [_table(result), *missing(priced), f"wrote {net}, {out / 'demo.json'}"]


def _table(result: dict[str, Any]) -> Table:
    checked, accuracy = result["verification"], result["accuracy"]
    priced: Profile = result["profile"]
    assert priced.ann is not None
    counts = priced.first_counts
    per = counts.samples
    if checked.to_lava is None:
        lava = ["-", f"not run: {checked.lava_skipped}"]
    else:
        exact = all(a.exact for a in checked.to_lava)
        word = "every spike, u and v equal" if exact else "DIFFERENT: see demo.json"
        lava = [percent(accuracy["lava"]), f"{word}, {checked.lava_samples} images"]
    agreement = ", ".join(percent(a.equal) for a in checked.to_float)
    macs = f"{priced.ann.work.macs:,} MACs"
    int8, fp32 = priced.ann.energies
    snn = priced.prices[0].dynamic
    spikes, synops = (f"{counts.total(c) / per:,.0f}" for c in ("spikes_out", "synops"))
    rows = [
        ("ANN twin, int8", priced.ann.answers[1], "", macs,
         f"{interval(int8)} ({int8.scope})"),
        ("ANN twin, float32", percent(accuracy["ann"]), "", macs,
         f"{interval(fp32)} ({fp32.scope})"),
        ("SNN, Norse float32", percent(accuracy["snn_float"]), "", "", ""),
        ("SNN, integers", percent(accuracy["snn_integer"]),
         f"spikes as float: {agreement}", f"{spikes} spikes, {synops} synops",
         f"{interval(snn)} ({snn.scope})"),
        ("SNN, Lava CPU backend", *lava, "", ""),
    ]  # fmt: skip
    title = (
        f"digits, {result['test_images']} test images, network {result['digest'][:12]}, "
        f"SNN energy on {snn.device}"
    )
    columns = ("network", "accuracy", "agreement", "per inference", "estimated energy")
    return table(title, columns, rows)


def demo(
    out: Annotated[
        Path, typer.Option("--out", "-o", help="Folder for everything the demo makes.")
    ] = Path("runs/demo"),
    seed: Seed = 0,
    lava_samples: Annotated[
        int, typer.Option(help="Samples checked bit for bit on Lava.", min=1)
    ] = 20,
) -> Output:
    """Train, export, simulate, check on Lava and price a digits classifier: the whole path."""
    resumes(out)
    result, tables = run_demo(out, seed, lava_samples, say=say)
    problem = "" if result["ok"] else "the simulator and Lava disagree; see the table."
    return Output(result, *tables, problem=problem)
