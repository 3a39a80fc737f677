"""The rules of the house: who may import whom, what a wheel holds, what a file may not contain."""

from __future__ import annotations

import ast
import importlib.util
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlsplit

import pytest

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

REPOSITORY = Path(__file__).parents[1]
MAY_IMPORT: dict[str, set[str]] = {
    "hw_targets": set(),
    "models": {
        "hw_targets.network.coding",  # numbers alone, no torch: what a Recipe holds too
        "hw_targets.files",  # how files are read and written: bytes alone
        "hw_targets.npy",
        "hw_targets.simulate.torch_engine.device",  # which devices there are, asked in one place
    },
    "pipeline": {"hw_targets", "models"},
    "benchmarks": {"hw_targets", "models", "pipeline"},
}
# Lava and lava-dl stay behind these files.
MAY_IMPORT_LAVA = (
    "hw_targets/simulate/lava_worker.py",
    "*slayer*.py",
    "benchmarks/speed/lava_worker.py",
    "benchmarks/speed/peers.py",
)
# What is about torch, and imported only where it is asked for.
MAY_IMPORT_TORCH = "hw_targets/simulate/torch_engine/*.py"
SOURCES = [
    path.relative_to(REPOSITORY)
    for folder in MAY_IMPORT
    for path in sorted((REPOSITORY / folder).rglob("*.py"))
]
ROOT = Path("pipeline/_root")  # the package `spikeship` itself


def _package(path: Path) -> str:
    """The name under which the folder of a source file is imported."""
    return "spikeship" if path.parent == ROOT else ".".join(("spikeship", *path.parent.parts))


PACKAGES = sorted(_package(path) for path in SOURCES if path.stem == "__init__")
source = pytest.mark.parametrize("source", SOURCES, ids=str)
package = pytest.mark.parametrize("package", PACKAGES)


def _imports(source: Path, tree: ast.AST) -> Iterator[tuple[str, bool]]:
    """Every (absolute module name, was it imported relatively) in a file, also inside functions."""
    here = _package(source)
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            yield from ((name.name, False) for name in node.names)
        elif isinstance(node, ast.ImportFrom):
            base = importlib.util.resolve_name("." * node.level + (node.module or ""), here)
            # `from .. import models` imports spikeship.models
            names = [f"{base}.{n.name}" for n in node.names] if base == "spikeship" else [base]
            yield from ((name, node.level > 0) for name in names)


def _broken_rules(source: Path, code: str) -> list[str]:
    """One sentence per import in `code`, the text of `source`, that the house does not allow."""
    folder = source.parts[0]
    broken = []
    for name, relative in _imports(source, ast.parse(code)):
        top, _, rest = name.partition(".")
        target = rest.partition(".")[0] if top == "spikeship" else top
        may = {folder, *MAY_IMPORT[folder]}
        if target in (*MAY_IMPORT, "tests"):
            if not relative:
                broken.append(f"imports {name} absolutely; inside the library import relatively")
            if not any(f"{rest or name}.".startswith(f"{part}.") for part in may):
                broken.append(f"{folder} may not import {target}")
        elif top == "torch" and source.match(MAY_IMPORT_TORCH):
            continue
        elif folder == "hw_targets" and top in ("torch", "torchvision", "norse", "lightning"):
            broken.append(f"hw_targets may not import {top}")
        elif top == "lava" and not any(source.match(pattern) for pattern in MAY_IMPORT_LAVA):
            broken.append(f"only {', '.join(MAY_IMPORT_LAVA)} may import lava")
    return broken


@source
def test_imports_keep_their_direction(source: Path) -> None:
    assert _broken_rules(source, (REPOSITORY / source).read_text()) == []


@pytest.mark.parametrize(
    ("path", "code", "says"),
    [
        ("hw_targets/a.py", "from ..models import x", "hw_targets may not import models"),
        ("models/a.py", "from .. import hw_targets", "models may not import hw_targets"),
        ("models/a.py", "from ..hw_targets.network.codings import x", "may not import hw_targets"),
        ("models/a.py", "from ..hw_targets.network.coding import Coding", None),
        (
            "models/a.py",
            "def f():\n    from ..pipeline.x import y",
            "models may not import pipeline",
        ),
        ("pipeline/b/a.py", "from ...benchmarks import x", "pipeline may not import benchmarks"),
        ("pipeline/a.py", "import spikeship.hw_targets.netx", "absolutely"),
        ("pipeline/a.py", "from models import x", "absolutely"),
        ("benchmarks/a.py", "import tests.conftest", "benchmarks may not import tests"),
        ("hw_targets/a.py", "import torch.nn", "may not import torch"),
        ("hw_targets/simulate/a.py", "import torch", "may not import torch"),
        ("hw_targets/simulate/torch_engine/a.py", "import torch", None),
        ("hw_targets/simulate/torch_engine/a.py", "import norse", "may not import norse"),
        ("hw_targets/netx.py", "from lava.lib.dl import netx", "may import lava"),
        ("pipeline/b/a.py", "from ...hw_targets.netx import read_netx", None),
        ("hw_targets/simulate/lava_worker.py", "import lava.proc", None),
        ("pipeline/frontends/from_slayer.py", "from lava.lib.dl import slayer", None),
    ],
)
def test_the_import_rules_find(path: str, code: str, says: str | None) -> None:
    broken = " ".join(_broken_rules(Path(path), code))
    assert says in broken if says else not broken


def test_package_list_equals_the_folders() -> None:
    setuptools = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["tool"]["setuptools"]
    with_code = {_package(path) for path in SOURCES}
    assert sorted(with_code) == PACKAGES, "a folder with code has no __init__.py"
    assert setuptools["packages"] == PACKAGES
    folders = {f"spikeship.{name}": name for name in sorted(MAY_IMPORT)}
    assert setuptools["package-dir"] == {"spikeship": str(ROOT), **folders}


DOOR = """
import spikeship

data = spikeship.data("digits")
snn = spikeship.train(data, coding="rsc1", sigma=0.1, epochs=1)
chip = spikeship.deploy(snn, data, bits=8)
chip.save("digits.net"); chip = spikeship.load("digits.net")
print(chip)
print(spikeship.verify(chip, data, lava_samples=0, samples=20))
print(spikeship.profile(chip, data, samples=20))
print(spikeship.attack(chip, data, spikeship.PGD(0.1, steps=1), samples=4, draws=2))
"""


@pytest.mark.slow
def test_wheel_works_in_an_empty_folder(tmp_path: Path) -> None:
    pip = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check"]
    options = ["--no-deps", "--no-build-isolation"]
    environment = {**os.environ, "PYTHONWARNINGS": "default"}
    copy = tmp_path / "source"  # a build writes beside its source
    copy.mkdir()
    for name in (*MAY_IMPORT, "pyproject.toml", "README.md", "LICENSE"):
        (copy / name).symlink_to(REPOSITORY / name)
    subprocess.run([*pip, "wheel", *options, "-w", tmp_path, copy], env=environment, check=True)
    (wheel,) = tmp_path.glob("spikeship-*.whl")
    site = tmp_path / "site"
    zipfile.ZipFile(wheel).extractall(site)
    data = [
        *REPOSITORY.glob("hw_targets/energy/devices/*.toml"),
        *REPOSITORY.glob("*/py.typed"),
        REPOSITORY / ROOT / "py.typed",
    ]
    in_wheel = (*SOURCES, *(path.relative_to(REPOSITORY) for path in data))
    files = {Path(p.name) if p.parent == ROOT else p for p in in_wheel}
    inside = {path.relative_to(site / "spikeship") for path in site.glob("spikeship/**/*.*")}
    assert inside == files

    empty = tmp_path / "empty"
    empty.mkdir()

    def said(*words: str) -> str:
        return subprocess.run(
            [sys.executable, *words],
            cwd=empty,
            env={**environment, "PYTHONPATH": str(site)},
            check=True,
            capture_output=True,
            text=True,
        ).stdout

    imports = "; ".join(f"import {name}" for name in PACKAGES)
    assert said("-c", f"{imports}; print(spikeship.hw_targets.__file__)").startswith(str(site))
    shown = said("-c", DOOR)
    for title in ("digest", "equal spikes, 20 samples", "energy per inference", "zero gradients"):
        assert title in shown
    assert (empty / "digits.net").is_file()
    project = tomllib.loads((REPOSITORY / "pyproject.toml").read_text())["project"]
    assert said("-m", "spikeship", "--version") == f"spikeship {project['version']}\n"


@package
def test_public_names_exist(package: str) -> None:
    module = importlib.import_module(package)
    names = getattr(module, "__all__", [])
    assert [name for name in names if not hasattr(module, name)] == []
    assert len(set(names)) == len(names)


@pytest.mark.parametrize("folder", MAY_IMPORT)
def test_import_by_folder_name_is_a_clear_error(
    folder: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.syspath_prepend(REPOSITORY)
    with pytest.raises(ImportError, match=f"import this folder as spikeship.{folder}"):
        importlib.import_module(folder)


def _hosts_and_folders_of_this_machine() -> set[str]:
    settings = [
        value for name, value in os.environ.items() if re.fullmatch(r"(PIP|UV)_.*URL", name)
    ]
    pip = [sys.executable, "-m", "pip", "config", "list"]
    listed = subprocess.run(pip, capture_output=True, text=True, check=True).stdout
    settings += re.findall(r"https?://[^\s'\"]+", listed)
    hosts = {urlsplit(value).hostname for value in settings}
    folders = {f"{folder}/" for folder in (REPOSITORY.resolve().parent, Path.home())}
    return {text for text in (*hosts, *folders) if text} - {"//"}


def test_no_file_names_this_machine() -> None:
    if not (REPOSITORY / ".git").exists():
        pytest.skip("not a git checkout, so our files are not known")
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    names = subprocess.run(listing, cwd=REPOSITORY, capture_output=True, check=True).stdout
    forbidden = {text.encode() for text in _hosts_and_folders_of_this_machine()}
    forbidden.add(b"index" + b"-url")
    found = [
        f"{name} contains {text.decode()}"
        for name in filter(None, names.decode().split("\0"))
        if (path := REPOSITORY / name).is_file()
        for text in forbidden
        if text in path.read_bytes()
    ]
    assert found == []
