"""How commands are made: options from dataclass fields, words of help and errors, a command from outside."""

from __future__ import annotations

import io
import json
import os
import re
import subprocess
import sys
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from functools import partial
from importlib.metadata import version
from inspect import Parameter
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import pytest
import typer
from rich.console import Console

from spikeship.hw_targets.network.layers import Dense
from spikeship.hw_targets.network.network import Network
from spikeship.hw_targets.network.neurons import CubaLIF
from spikeship.hw_targets.netx.file import write_netx
from spikeship.hw_targets.printed import show, table
from spikeship.models.data.load import DATASETS
from spikeship.models.networks import MODELS
from spikeship.models.settings import Settings
from spikeship.pipeline.cli.app import COMMANDS, app
from spikeship.pipeline.cli.fields import argument, options
from spikeship.pipeline.cli.flags import in_flags
from spikeship.pipeline.cli.screen import Output, command, resumes
from spikeship.pipeline.robustness.attacks import ATTACKS

from cli import call

GROUP = typer.main.get_command(app)
HELP = {
    f"{name} {option.opts[0]}": option.help
    for name, command in GROUP.commands.items()
    for option in command.params
}
NO_OPTIONS = {
    "shape": "the data set decides",
    "classes": "the data set decides",
    "widths": "for Python",
    "template": "for Python",
    "levels": "the coding and its grid decide",
    "message_bits": "the coding decides",
    "learn_thresholds": "convert --fine-tune sets it",
    "temperature": "for Python",
    "spiking": "train --ann",
    "teacher_digest": "train fills it in",
    "start_digest": "train fills it in",
    "data_digest": "the data set decides",
    "peak": "the data set decides",
    "regression": "the data set decides",
}


def app_of(*functions: Callable[..., Output]) -> typer.Typer:
    """A command line of some functions alone; they stay subcommands where it is one."""
    made = typer.Typer(pretty_exceptions_enable=False)
    made.callback()(lambda: None)
    for function in functions:
        made.command(function.__name__)(command(function))
    return made


@pytest.mark.parametrize("option", HELP)
def test_every_option_has_a_help_text_that_is_a_whole_phrase(option: str) -> None:
    text = HELP[option]
    assert text, option
    assert text[0].isupper(), text
    assert text.endswith("."), text
    assert text.split()[0] not in ("Of", "Its", "Instead", "Or", "That", "By", "As", "Default:")
    assert not re.match(r"\w+:", text), text


@pytest.mark.slow
@pytest.mark.parametrize("name", GROUP.commands)
def test_every_command_says_what_it_does(name: str) -> None:
    first = GROUP.commands[name].help.split("\n\n")[0]
    assert re.match(r"[A-Z][a-z]+[ ,].*\.$", first), first
    assert call(name, "-h").stdout == call(name, "--help").stdout != ""


def test_commands_stand_in_panels_in_the_order_of_the_list() -> None:
    listed = [f.__name__.rstrip("_") for functions in COMMANDS.values() for f in functions]
    assert list(GROUP.commands) == listed
    text = call("--help").stdout
    words = [word for panel, fs in COMMANDS.items() for word in (panel, fs[0].__name__)]
    places = [re.search(rf"[│─] {word}\b", text) for word in words]
    assert all(places)
    assert sorted(places, key=lambda place: place.start()) == places


def test_lists_in_help_texts_are_those_of_the_code() -> None:
    names = r"Attacks: (.*)\."
    assert re.search(names, GROUP.commands["attack"].help)[1].split(", ") == list(ATTACKS)
    built_in, own = HELP["train --data"].split("; ")
    assert re.findall(r"\w+", built_in)[5:] == _listed(tuple(DATASETS))
    assert own.startswith("or your own: ")
    assert re.findall(r"\w+", HELP["train --model"])[3:] == _listed(MODELS)


def _listed(names: tuple[str, ...]) -> list[str]:
    return [*names[:-1], "or", names[-1]]


def test_train_has_an_option_for_every_setting() -> None:
    """Those without are listed, with the reason."""
    usual = Settings()
    each = [(f, getattr(usual, f.name)) for f in fields(usual) if f.name != "coding"]
    each += [(f, getattr(usual.coding, f.name)) for f in fields(usual.coding)]
    without = [f.name for f, _ in each if "help" not in f.metadata]
    assert sorted(without) == sorted(NO_OPTIONS)
    shown = {option.name: option for option in GROUP.commands["train"].params}
    for f, default in each:
        if f.name not in NO_OPTIONS:
            option = shown[f.metadata.get("name", f.name)]
            assert option.default == default
            assert option.help == f.metadata["help"]


@dataclass(frozen=True)
class Code:
    """A nested group: the name of the option need not be that of the field."""

    name: str = field(default="direct", metadata={"name": "coding", "help": "The coding."})
    steps: int = field(default=8, metadata={"help": "Time steps.", "min": 1})
    hidden: int = 3


@dataclass(frozen=True)
class Group:
    """A file, a nested group with defaults of its own, and an option in Typer's words."""

    file: Annotated[Path, typer.Argument(help="A file.")]
    code: Code = Code("rsc1", 20, hidden=5)
    level: Literal[1, 2] = field(
        default=2, metadata={"flag": "--grey", "help": "Levels.", "type": int, "max": 2}
    )
    more: Annotated[bool, typer.Option("--more", help="More.")] = False
    seed: int = 7

    @classmethod
    def of(cls, coding: str = "none", **others: Any) -> tuple[str, dict[str, Any]]:
        """What `partial[Group]` calls: the options that were typed, by name."""
        return coding, others


def test_a_dataclass_is_its_options() -> None:
    parameter = Parameter("group", Parameter.KEYWORD_ONLY, annotation=Group)
    made = {option.name: option.default for option in options(parameter)}
    expected = {"file": Parameter.empty, "coding": "rsc1", "steps": 20, "level": 2, "more": False}
    assert made == expected
    given = {**expected, "file": Path("x"), "steps": 4}
    assert argument(parameter, given, ["file"]) == Group(Path("x"), Code("rsc1", 4, hidden=5))


def test_defaults_are_those_of_the_instance() -> None:
    usual = Group(Path("y"), Code(steps=1), 1, seed=9)
    parameter = Parameter("group", Parameter.KEYWORD_ONLY, annotation=Group, default=usual)
    given = {option.name: option.default for option in options(parameter)}
    assert given["steps"] == 1
    assert argument(parameter, given, []) == usual


def test_a_field_without_a_default_or_twice_is_an_error() -> None:
    def twice(first: Code, second: Code) -> Output:
        return Output({})

    with pytest.raises(ValueError, match="duplicate parameter name: 'coding'"):
        command(twice)


def rows(
    code: Code, typed: Annotated[int | None, typer.Option(help="A number of rows.")] = None
) -> Output:
    """Show rows."""
    return Output({"rows": [code.steps] * (typed or 1)}, "rows")


def test_a_command_from_outside() -> None:
    """A function that returns an `Output` is a command: options, JSON, status, errors in flags."""
    made = app_of(rows)
    assert call("rows", of=made).stdout == "rows\n"
    assert (
        json.loads(call("rows", "--steps", 2, "--typed", 3, "--json", of=made).stdout)["rows"]
        == [2] * 3
    )
    assert call("rows", "--steps", 0, of=made).exit_code == 2

    def fails(code: Code) -> Output:
        """Fail."""
        if code.steps == 8:
            return Output({}, "a table", problem="it is wrong.")
        raise ValueError(f"steps = {code.steps}; coding='rsc1' has 9 of them, not steps = 5.")

    told = call("fails", of=app_of(fails))
    assert (told.exit_code, told.stdout, told.stderr) == (1, "a table\n", "error: it is wrong.\n")
    told = call("fails", "--steps", 4, of=app_of(fails))
    assert told.exit_code == 3
    assert told.stderr == "error: --steps 4; --coding rsc1 has 9 of them, not steps = 5.\n"


def test_a_command_sees_what_was_typed(monkeypatch: pytest.MonkeyPatch) -> None:
    """`partial` of a dataclass has the typed options alone, the default given too; `of` is called."""

    def show(
        group: partial[Group],
        root: Annotated[str, typer.Option(help="Root.", envvar="A_ROOT")] = "",
    ) -> Output:
        return Output({"made": group(more=True), "root": root})

    monkeypatch.setenv("A_ROOT", "there")
    words = ("show", "x", "--coding", "rsc1", "--grey", 2, "--json")
    result = json.loads(call(*words, of=app_of(show)).stdout)
    assert result["made"] == ["rsc1", {"file": "x", "level": 2, "more": True}]
    assert result["root"] == "there"


FLAGS = {name: "--" + name.replace("_", "-") for name in (
    "epsilon", "dt", "coding", "sigma", "per_channel", "approximate_reset", "n", "n0", "bits",
    "size_budget", "max_loss", "data_root", "data", "checkpoint", "reset",
)}  # fmt: skip
GIVEN = {
    "epsilon": -1.0, "sigma": 0.0, "n": 5, "n0": 0, "bits": "9", "size_budget": 1_000_000,
    "max_loss": 0.25, "checkpoint": Path("a/x.pt"), "reset": "zero",
}  # fmt: skip


@pytest.mark.parametrize(("message", "shown"), [
    ("epsilon = -1.0; 0 or more.", "--epsilon -1.0; 0 or more."),
    ("epsilon = -1; 0 or more.", "--epsilon -1; 0 or more."),
    ("the recipe has epsilon = 2.", "the recipe has epsilon = 2."),
    ("n0 = 0, n = 5 draws", "--n0 0, --n 5 draws"),
    ("bits = 9; 2 to 8", "--bits 9; 2 to 8"),
    ("size = 1e+06 bytes", "--size-budget 1e+06 bytes"),
    ("loss = 0.25; with 8 bits", "--max-loss 0.25; with 8 bits"),
    ("checkpoint = a/x.pt: it goes", "--checkpoint a/x.pt: it goes"),
    ("reset = 'zero': for NIR", "--reset zero: for NIR"),
    ("give it: from_nir(..., dt=1e-3).", "give it: --dt 1e-3."),
    ("coding='rsc1' with sigma = 0.0: it needs", "--coding rsc1 with --sigma 0.0: it needs"),
    ("or per_channel=True.", "or --per-channel."),
    ("allow approximate_reset, which", "allow --approximate-reset, which"),
    ("a folder as data_root (MNIST(root, download=True)).", "a folder as --data-root (MNIST(root, download=True))."),
    ("read_netx(..., lower_pooling=True) makes it one.", "`spikeship lower` makes it one."),
    ("give `data_root`, --data-root or my.data_root", "give `data_root`, --data-root or my.data_root"),
    ("a/data_root/x, data_root.npy: no such file.", "a/data_root/x, data_root.npy: no such file."),
    ("lower sigma or n, see data.", "lower sigma or n, see data."),
    ("bias=False, epsilon_step = 5, batch_n=3", "bias=False, epsilon_step = 5, batch_n=3"),
])  # fmt: skip
def test_messages_name_flags(message: str, shown: str) -> None:
    assert in_flags(message, FLAGS, GIVEN) == shown


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with plain.net, which has no recipe, and inputs x.npy."""
    folder = tmp_path_factory.mktemp("plain")
    write_netx(
        Network([Dense(np.full((2, 6), 8), None, CubaLIF(1024, 512, 40))]), folder / "plain.net"
    )
    np.save(folder / "x.npy", np.ones((1, 3, 6), int))
    np.save(folder / "empty.npy", np.ones((0, 3, 6), int))
    return folder


@pytest.mark.parametrize(("words", "says", "status"), [
    (("evaluate", "plain.net"), "this file has no recipe", 3),
    (("map", "plain.net", "--cores-per-chip", 0), "--cores-per-chip 0", 3),
    (("map", "plain.net", "--chip", "loihi1", "--packet", 48), "--packet and --cores-per-chip are for --chip loihi2", 2),
    (("simulate", "plain.net", "--input", "x.npy", "--out", "t.npz", "--record", "w"), 'cannot record "w"', 3),
    (("train", "--epsilon", 0), "--epsilon 0.0; it must be above 0.", 3),
    (("train", "--attack-steps", 0), "--attack-steps 0; it must be above 0.", 3),
    (("train", "--coding", "rsc1", "--sigma", 0), "coding rsc1 with --sigma 0.0: rsc1 and rsc2 need a sigma above 0", 3),
    (("train", "--noise-periods", 9, "--steps", 4), "--noise-periods 9 of 4 steps.", 3),
    (("train", "--data", "mnist"), "give the folder that holds MNIST/raw as --data-root", 3),
    (("train", "--framework", "slayer", "--sparsity", 1), "--sparsity-step 0.01: SLAYER networks see whole numbers", 3),
    (("export", "builtins:dict", "--out", "o.net", "--checkpoint", "w.pt"), "a NIR graph, a torch network with Norse modules, a torch", 3),
    (("export", "net.nir", "--input", "x.npy", "--calibration", 3, "--out", "o.net"), "--input is taken whole", 2),
    (("map", "plain.net", "--samples", 3), "--samples are those of --data or --input", 2),
    (("simulate", "plain.net", "--input", "none.npy", "--out", "t.npz"), "none.npy: no such file", 3),
    (("simulate", "plain.net", "--input", "empty.npy", "--out", "t.npz"), "empty.npy has shape (0, 3, 6): it holds no input", 3),
    (("export", "net.nir", "--input", "x.npy", "--data", "digits", "--out", "o.net"), "--data and --input exclude each other", 2),
])  # fmt: skip
def test_errors_of_commands_name_flags(
    plain: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[object, ...], says: str, status: int
) -> None:
    monkeypatch.chdir(plain)
    monkeypatch.delenv("SPIKESHIP_DATA_ROOT", raising=False)
    result = call(*words)
    assert result.exit_code == status, result.exception
    assert says in result.stderr
    assert result.stdout == ""


@pytest.mark.parametrize("words", [
    ("simulate", "plain.net", "--input", "x.npy", "-o", "./x.npy"),
    ("simulate", "plain.net", "--input", "x.npy", "--labels", "y.npy", "-o", "y.npy"),
    ("lower", "plain.net", "-o", "plain.net"),
    ("attack", "plain.net", "--data", "own.npz", "--images", "own.npz"),
    ("attack", "plain.net", "--input", "x.npy", "--out", "x.npy"),
    ("certify", "mine.py:ann", "--data", "own.npz", "--out", "mine.py"),
    ("robustness", "plain.net", "--source", "mine.py:ann", "--out", "mine.py"),
    ("export", "mine.py:net", "--data", "own.npz", "--out", "mine.py"),
    ("export", "mine.py:net", "--data", "mine.py:data", "--checkpoint", "w.pt", "--out", "w.pt"),
    ("convert", "mine.py:ann", "--data", "own.npz", "--net", "own.npz"),
    ("train", "--data", "own.npz", "--out", "own.npz"),
])  # fmt: skip
def test_what_a_command_reads_is_never_written_over(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    monkeypatch.chdir(tmp_path)
    names = ("y.npy", "own.npz", "mine.py", "w.pt")
    before = {name: name.encode() for name in names}
    before |= {name: (plain / name).read_bytes() for name in ("plain.net", "x.npy")}
    for name, content in before.items():
        Path(name).write_bytes(content)
    result = call(*words)
    assert result.exit_code == 2, result.exception
    assert "is what the command reads: give another name" in result.stderr
    assert {path.name: path.read_bytes() for path in Path().iterdir()} == before


@pytest.mark.parametrize("words", [
    ("simulate", "plain.net", "--input", "x.npy", "-o", "there"),
    ("lower", "plain.net", "-o", "there"),
    ("attack", "plain.net", "--input", "x.npy", "--images", "there"),
    ("attack", "plain.net", "--input", "x.npy", "--out", "there"),
    ("certify", "plain.net", "--input", "x.npy", "--out", "there"),
    ("robustness", "plain.net", "--input", "x.npy", "--out", "there"),
    ("export", "mine.py:net", "--input", "x.npy", "--out", "there"),
    ("convert", "mine.py:ann", "--data", "digits", "--net", "there"),
])  # fmt: skip
def test_a_file_of_another_kind_is_not_replaced(
    plain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    """Such as the data that a .net file was made for, which the command reads by their name in it."""
    monkeypatch.chdir(tmp_path)
    Path("there").write_text("mine")
    words = (words[0], str(plain / words[1]) if words[1] == "plain.net" else words[1], *words[2:])
    result = call(*words)
    assert result.exit_code == 3, result.exception
    assert "there is there, and it is no" in result.stderr
    assert Path("there").read_text() == "mine"


@pytest.mark.parametrize(("holds", "kept"), [
    (None, False), ((), False), (("state.pt",), True),
])  # fmt: skip
def test_only_what_is_kept_is_gone_on_from(
    tmp_path: Path, holds: tuple[str, ...] | None, kept: bool
) -> None:
    folder = tmp_path / "run"
    if holds is not None:
        folder.mkdir()
        for name in holds:
            (folder / name).write_text("")

    def works() -> Output:
        """Work."""
        resumes(folder)
        raise KeyboardInterrupt

    told = call("works", of=app_of(works))
    assert told.exit_code == 130
    says = f"run the same command again to go on from {folder}" if kept else "nothing is kept"
    assert told.stderr == f"interrupted; {says}.\n"


@pytest.mark.parametrize("words", [
    ("attack", "plain.net", "--data", "digits"),
    ("robustness", "plain.net", "--data", "digits"),
    ("profile", "plain.net", "--input", "x.npy"),
    ("verify", "plain.net", "--input", "x.npy"),
])  # fmt: skip
def test_commands_that_keep_nothing_do_not_promise_to_go_on(
    plain: Path, monkeypatch: pytest.MonkeyPatch, words: tuple[str, ...]
) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.chdir(plain)
    monkeypatch.setattr("spikeship.pipeline.deploy.deployed.read_netx", stopped)
    told = call(*words)
    assert (told.exit_code, told.stderr) == (130, "interrupted; nothing is kept.\n")


def test_brackets_in_a_table_are_text() -> None:
    rows = [["Lava", 'not installed: pip install "spikeship[lava]"']]
    console = Console(file=io.StringIO(), width=100)
    show(console, [table("t", ("backend", "why"), rows), "see [1]"])
    assert isinstance(console.file, io.StringIO)
    printed = console.file.getvalue()
    assert 'pip install "spikeship[lava]"' in printed
    assert "see [1]" in printed


@pytest.mark.slow
def test_the_package_is_a_command() -> None:
    """`python -m spikeship`: version, help and completion, without loading torch or numba."""
    code = (
        "import runpy, sys\n"
        "for name in ('torch', 'numba', 'nir', 'norse', 'lightning'):\n"
        "    sys.modules[name] = None\n"  # importing it now fails
        "runpy.run_module('spikeship', run_name='__main__', alter_sys=True)\n"
    )
    for words, says in (
        (["--version"], f"spikeship {version('spikeship')}\n"),
        (["-h"], "Usage: spikeship"),
        (["train", "-h"], "Usage: spikeship train"),
        (["--show-completion", "bash"], "_SPIKESHIP_COMPLETE"),
    ):
        done = subprocess.run(
            [sys.executable, "-c", code, *words],
            env={**os.environ, "_TYPER_COMPLETE_TEST_DISABLE_SHELL_DETECTION": "1"},
            check=False,
            capture_output=True,
            text=True,
        )
        assert (done.returncode, done.stderr) == (0, "")
        assert says in done.stdout


LOUD = """
import warnings

print("framework: hello")
for category in (FutureWarning, DeprecationWarning, PendingDeprecationWarning, SyntaxWarning, RuntimeWarning):
    warnings.warn(f"a {category.__name__} of mine.py", category)

def data():
    import numpy as np
    print("user: loading")
    x, y = np.ones((20, 2), np.float32), np.arange(20) % 2
    return {"x_train": x, "y_train": y, "x_test": x, "y_test": y}
"""


@pytest.mark.slow
def test_what_imports_print_and_warn_is_kept_from_the_result(tmp_path: Path) -> None:
    """Standard output is the result alone; developers' warnings are shown to who asks for them."""
    (tmp_path / "mine.py").write_text(LOUD)
    write_netx(Network([Dense([[3, 1], [1, 3]])]), tmp_path / "a.net")

    def ran(*options: str) -> tuple[str, str]:
        command = ("-m", "spikeship", "evaluate", "a.net", "--data", "mine.py:data", "--json")
        done = subprocess.run(
            [sys.executable, *options, *command],
            cwd=tmp_path,
            env={k: v for k, v in os.environ.items() if k != "PYTHONWARNINGS"},
            check=True,
            capture_output=True,
            text=True,
        )
        return done.stdout, done.stderr

    out, said = ran()
    assert json.loads(out)["samples"] == 20
    assert re.findall(r"a (\w+) of mine.py", said) == ["RuntimeWarning"]
    assert "framework: hello" in said
    assert "user: loading" in said
    assert "a FutureWarning of mine.py" in ran("-W", "default")[1]
