"""`spikeship demo`: the whole path on scikit-learn's digits, and one table."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer
from rich.table import Table

from .. import records
from ..text import interval, percent
from .options import Seed
from .profile import missing
from .screen import Output, say, table

if TYPE_CHECKING:
    from ..energy.profile import Profile


def run_demo(
    out: Path, seed: int, lava_samples: int, say: Callable[[str], None]
) -> tuple[dict[str, Any], list[Table | str]]:
    """Returns the result for JSON and the views to print; writes digits.net, .nir and demo.json.

    `lava_samples` of the test images run on Lava, every spike and state compared.
    """
    import numpy as np

    from ...hw_targets.netx.file import read_netx
    from ...models import training
    from ...models.data.load import load
    from ...models.settings import Settings
    from ..deploy.export import export, file_digest
    from ..deploy.run import encoded, float_accuracy, needed_recipe, run_recipe, scores
    from ..energy.profile import profile
    from ..quantize import quantize
    from ..verify import verify

    data = load("digits")
    say("training an RSC-coded Norse network and its ANN twin on digits")
    snn, checkpoint = training.train(Settings(seed=seed), data, out / f"snn-{seed}")
    twin_settings = Settings(spiking=False, seed=seed)
    ann, _ = training.train(twin_settings, data, out / f"ann-{seed}")
    net = out / "digits.net"
    exported = export(
        snn.net,
        data.shape,
        snn.settings.encoding,
        data.train.images[:128],
        net,
        seed=seed,
        provenance={
            "model": snn.settings.model,
            "dataset": data.name,
            "checkpoint": checkpoint.name,
            "checkpoint_sha256": file_digest(checkpoint),
        },
        quantizer=partial(quantize, progress=lambda name: say(f"quantizing {name}")),
    )
    network = read_netx(net)
    recipe = needed_recipe(network)
    say(f"simulating {len(data.test)} test images")
    float_right = float_accuracy(snn.net, recipe, data.test)
    priced = profile(network, data, ann=ann, float_accuracy=float_right, progress=True)
    messages = np.concatenate([m for m, _ in encoded(recipe, data.test)])
    say(f"checking {lava_samples} images on Lava's CPU backend")
    checked = verify(
        network,
        messages,
        exported.graph,
        module=snn.net,
        file=net,
        lava_samples=lava_samples,
    )
    assert checked.to_float is not None
    assert priced.ann is not None
    result: dict[str, Any] = {
        "net": net,
        "digest": network.digest,
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
        "layers": exported.quantized.losses,
    }
    if checked.to_lava is not None:
        some = messages[:lava_samples]
        on_lava = run_recipe(network, some, target="lava", file=net)
        answers = scores(network, on_lava).argmax(axis=1)
        right = answers == data.test.labels[: len(some)].numpy()
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
        ("ANN twin, int8", percent(priced.ann.quantized_accuracy), "", macs,
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
    out: Annotated[Path, typer.Option(help="Folder for everything the demo makes.")] = Path(
        "runs/demo"
    ),
    seed: Seed = 0,
    lava_samples: Annotated[
        int, typer.Option(help="Samples checked bit for bit on Lava.", min=1)
    ] = 20,
) -> Output:
    """Train, export, simulate, check on Lava and price a digits classifier: the whole path."""
    result, tables = run_demo(out, seed, lava_samples, say=say)
    problem = "" if result["ok"] else "the simulator and Lava disagree; see the table."
    return Output(result, *tables, problem=problem)
