"""`Timing`: what no backend could run is refused, and when neurons forget."""

from __future__ import annotations

from typing import Any

import pytest

from spikeship.hw_targets.network.coding import Coding
from spikeship.hw_targets.network.neurons import NetworkError
from spikeship.hw_targets.network.recipe import Recipe
from spikeship.hw_targets.network.timing import Timing


@pytest.mark.parametrize(("fields", "message"), [
    ({"steps": 0}, "steps = 0; give 1 or more, or none for the input's"),
    ({"reset_interval": 0}, "reset_interval = 0; give 1 or more, or none"),
    ({"reset_interval": 3, "reset_offset": -1}, "reset_offset = -1; give 0 or more"),
    ({"message_bits": -1}, "message_bits = -1; give 0 for single spikes"),
    ({"message_bits": 26}, r"message_bits = 26; .*up to 25 .* stay below 2\^24"),
])  # fmt: skip
def test_refused(fields: dict[str, Any], message: str) -> None:
    with pytest.raises(NetworkError, match=message):
        Timing(**fields)


@pytest.mark.parametrize(("timing", "steps"), [
    (Timing(), ([], [], [])),
    (Timing(reset_interval=4), ([1, 5, 9], [2, 6], [3, 7])),
    (Timing(reset_interval=4, reset_offset=1), ([2, 6], [3, 7], [4, 8])),
    (Timing(reset_interval=4, reset_offset=9), ([2, 6], [3, 7], [4, 8])),
    (Timing(reset_interval=1), ([*range(1, 10)],) * 3),
])  # fmt: skip
def test_when_populations_forget(timing: Timing, steps: tuple[list[int], ...]) -> None:
    """Steps of 1 to 9, for populations 0, 1 and 2."""
    for population, expected in enumerate(steps):
        assert [t for t in range(1, 10) if timing.forgets(population, t)] == expected


def test_the_timing_of_a_recipe() -> None:
    recipe = Recipe(Coding("direct", 8, 16, message_bits=8), reset_interval=9, reset_offset=2)
    assert recipe.timing() == Timing(8, 9, 2, 8)
    assert recipe.timing(3) == Timing(11, 9, 2, 8)
    assert Recipe.of(recipe.coding).timing(1) == Timing(9, 8, 1, 8)
