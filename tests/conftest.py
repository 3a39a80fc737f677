"""Where the shared data lies, and what happens to tests whose data or Lava is not there.

`SPIKESHIP_SHARED_DATA` names the folder (default: ../shared/data beside this repository). Without
it, and without Lava, the tests that need them are skipped by name. With
`SPIKESHIP_REQUIRE_DATA=1`, as `.ci/run` sets it, they fail instead; Lava is required on the one
Python that it says it takes, 3.10.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections import Counter
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from filelock import FileLock

if "PYTEST_XDIST_WORKER" in os.environ:  # before torch is imported: the cores are shared already
    os.environ.setdefault("OMP_NUM_THREADS", "1")

from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.lava import why_unavailable
from spikeship.hw_targets.simulate.trace import Trace

if TYPE_CHECKING:
    from spikeship.models.data.dataset import Dataset

REPOSITORY = Path(__file__).parents[1]
SHARED_DATA = Path(
    os.environ.get("SPIKESHIP_SHARED_DATA", REPOSITORY / ".." / "shared" / "data")
).resolve()
REQUIRED = os.environ.get("SPIKESHIP_REQUIRE_DATA") == "1"


def _missing(what: str, required: bool) -> None:
    if required:
        pytest.fail(f"{what}; SPIKESHIP_REQUIRE_DATA=1 requires it", pytrace=False)
    pytest.skip(what)


@pytest.fixture(scope="session")
def missing() -> Callable[[str], None]:
    """Skip for what is not here, by name; fail where everything must be."""
    return lambda what: _missing(what, REQUIRED)


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """The folder with the shared data sets and recorded runs."""
    if not SHARED_DATA.is_dir():
        _missing(f"no shared data in {SHARED_DATA} (set SPIKESHIP_SHARED_DATA)", REQUIRED)
    return SHARED_DATA


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's digits."""
    from spikeship.models.data.load import load

    return load("digits")


@pytest.fixture(scope="session")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with snn/best.ckpt, its integers net.net, and ann/best.ckpt; tests only read it.

    Networks on digits by the commands' own defaults, but for fewer epochs and steps. They are trained
    once per run of the tests: the processes of pytest-xdist share them.
    """
    from cli import ok

    folder = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        folder = folder.parent
    with FileLock(folder / "trained.lock"):
        folder /= "trained"
        if not (folder / "net.net").exists():
            ok("train", "--out", folder / "ann", "--epochs", 4, "--ann")
            ok("train", "--out", folder / "snn", "--epochs", 8, "--steps", 4)
            ok("export", folder / "snn/best.ckpt", "--out", folder / "net.net")
    return folder


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files with the most slow tests first: no process of pytest-xdist ends alone with a long one."""
    slow = Counter(item.path for item in items if item.get_closest_marker("slow"))
    items.sort(key=lambda item: -slow[item.path])  # stable: a file's tests stay together


@pytest.fixture(scope="session", autouse=True)
def _trusting() -> Iterator[None]:
    """Commands read their files themselves: a process for each would take minutes of all tests.

    `test_hostile_hdf5.py` tests that process, and that commands use it.
    """
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("spikeship.pipeline.cli.screen.SAFE", False)
        yield


@pytest.fixture(autouse=True)
def _lava(request: pytest.FixtureRequest) -> None:
    """Tests marked `lava` run only where Lava is installed."""
    if not request.node.get_closest_marker("lava"):
        return
    if reason := why_unavailable():
        _missing(reason, REQUIRED and sys.version_info[:2] == (3, 10))
    # Lava, when imported, sets the method itself, and cannot where training has fixed it before.
    multiprocessing.set_start_method(None, force=True)  # type: ignore[arg-type]


@pytest.fixture(scope="module")
def lava() -> Iterator[Callable[..., Trace]]:
    """`lava.run` in a process that stays."""
    with lava_cpu.kept_ready():
        yield lava_cpu.run
