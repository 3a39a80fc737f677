"""Where the shared data lies, and what happens to tests whose data or Lava is not there.

`SPIKESHIP_SHARED_DATA` names the folder (default: ../shared/data beside this repository). Without
it, and without Lava, the tests that need them are skipped by name. With
`SPIKESHIP_REQUIRE_DATA=1`, as `.ci/run` sets it, they fail instead; Lava is required on the one
Python that can have it, 3.10.
"""

from __future__ import annotations

import multiprocessing
import os
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from spikeship.hw_targets.simulate import lava as lava_cpu
from spikeship.hw_targets.simulate.lava import why_unavailable
from spikeship.hw_targets.simulate.trace import Trace
from spikeship.models.data.dataset import Dataset
from spikeship.models.data.load import load

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
def shared_data() -> Path:
    """The folder with the shared data sets and recorded runs."""
    if not SHARED_DATA.is_dir():
        _missing(f"no shared data in {SHARED_DATA} (set SPIKESHIP_SHARED_DATA)", REQUIRED)
    return SHARED_DATA


@pytest.fixture(scope="session")
def digits() -> Dataset:
    """scikit-learn's digits."""
    return load("digits")


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
