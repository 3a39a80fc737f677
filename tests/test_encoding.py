"""Input codings: both forms from one draw, the right statistics, replayable."""

from __future__ import annotations

import dataclasses
import hashlib
from collections.abc import Callable

import numpy as np
import pytest
import torch

from spikeship.hw_targets.network.coding import CODINGS, NOISY, Coding, CodingName
from spikeship.models import encoding
from spikeship.models.encoding import generator, splitmix64

OF_IMAGES = tuple(coding for coding in CODINGS if coding not in ("sequence", "events"))
IMAGES = torch.arange(0, 17, dtype=torch.float64).repeat(3, 4).reshape(3, 1, 4, 17) / 16


def of(coding: CodingName, sigma: float = 0.2, grid: int = 16, **settings: int) -> Coding:
    return Coding.of(coding, grid=grid, sigma=sigma if coding in NOISY else 0.0, **settings)


@pytest.mark.parametrize("coding", OF_IMAGES)
@pytest.mark.parametrize("levels", [1, 16, 255])
def test_the_real_form_on_the_grid_is_the_integer_form(coding: CodingName, levels: int) -> None:
    code = of(coding, grid=levels)
    real = encoding.real(code, IMAGES, generator(3))
    integers = encoding.integers(code, IMAGES, generator(3))
    on_grid = torch.floor(real * code.levels + 0.5).transpose(0, 1)
    assert integers.shape == (3, 8, 1, 4, 17)
    assert (on_grid.numpy() == integers).all()


@pytest.mark.parametrize("levels", [7, 255])
@pytest.mark.parametrize("coding", OF_IMAGES)
def test_both_forms_round_the_pixels_of_training_alike(coding: CodingName, levels: int) -> None:
    """Pixels of float32, also next to the middle of two grey levels, where rounding could part them."""
    middle = ((torch.arange(levels) + 0.5) / levels).float()
    images = torch.stack([torch.nextafter(middle, torch.tensor(x)) for x in (0.0, 0.5, 1.0)])
    code, images = of(coding, grid=levels), images.reshape(3, 1, 1, levels)
    without_noise = dataclasses.replace(code, sigma=1e-12) if coding in NOISY else code
    real = encoding.real(without_noise, images, generator(3)) * code.levels
    integers = encoding.integers(without_noise, images, generator(3))
    assert torch.equal(real.round().int().transpose(0, 1), torch.from_numpy(integers))


@pytest.mark.parametrize("coding", OF_IMAGES)
def test_the_same_seed_gives_the_same_integers(coding: CodingName) -> None:
    code = of(coding)
    first, again = (encoding.integers(code, IMAGES, generator(5)) for _ in range(2))
    assert (first == again).all()
    if coding != "direct":
        assert (first != encoding.integers(code, IMAGES, generator(6))).any()


@pytest.mark.parametrize(("coding", "sigma", "digest"), [
    ("direct", 0.0, "48e30bccd854dc4d"),
    ("rsc1", 0.1, "033be5e67d0964d1"),
    ("rsc2", 0.3, "258b0a53e27fc72b"),
    ("poisson", 0.0, "54b1449748544e51"),
    ("signed_poisson", 0.0, "e38b69c18dc10b00"),
    ("phase", 0.0, "0d8c41a8ed896531"),
])  # fmt: skip
def test_a_seed_means_the_same_draw_for_ever(coding: CodingName, sigma: float, digest: str) -> None:
    """Files record only a seed. The first three digests are of the code before the other codings."""
    images = torch.rand(40, 3, 9, 11, generator=generator(1))
    integers = encoding.integers(Coding.of(coding, sigma=sigma), images, generator(5))
    assert hashlib.sha256(integers.tobytes()).hexdigest()[:16] == digest


@pytest.mark.parametrize(("coding", "steps_differ", "variance"), [
    ("direct", False, 0.0),
    ("rsc1", False, 0.3**2),
    ("rsc2", True, 0.3**2 / 8),
])  # fmt: skip
def test_noise_over_time(coding: CodingName, steps_differ: bool, variance: float) -> None:
    """The mean over the steps keeps sigma^2 for rsc1 and has sigma^2 / steps for rsc2."""
    code = of(coding, sigma=0.3)
    images = torch.full((500, 1, 8, 8), 0.5, dtype=torch.float64)
    frames = encoding.real(code, images, generator(0))
    assert bool((frames != frames[0]).any()) == steps_differ
    measured = frames.mean(0).var().item()
    assert measured == pytest.approx(variance, rel=0.05, abs=1e-30)


@pytest.mark.parametrize(("coding", "mean", "variance"), [
    ("poisson", lambda x: x, lambda x: x * (1 - x)),
    ("signed_poisson", lambda x: 2 * x - 1, lambda x: abs(2 * x - 1) - (2 * x - 1) ** 2),
])  # fmt: skip
def test_the_rate_of_random_spikes(
    coding: CodingName, mean: Callable[[float], float], variance: Callable[[float], float]
) -> None:
    """Mean and variance at each grey level, and the variance of the mean over the steps, 1 / steps."""
    steps, draws, grid = 8, 4000, 8
    images = (torch.arange(grid + 1, dtype=torch.float64) / grid).repeat(draws, 1)
    images = images.reshape(draws, 1, 1, grid + 1)
    frames = encoding.real(Coding.of(coding, steps, grid), images, generator(0))[..., 0, 0, :]
    for level in range(grid + 1):
        x, found = level / grid, frames[..., level]
        sd = (variance(x) / (steps * draws)) ** 0.5
        assert abs(found.mean().item() - mean(x)) <= 4 * sd
        assert found.var().item() == pytest.approx(variance(x), abs=0.02)
        assert found.mean(0).var().item() == pytest.approx(variance(x) / steps, rel=0.1)


@pytest.mark.parametrize(("coding", "slope"), [
    ("direct", 1), ("rsc1", 1), ("rsc2", 1), ("poisson", 1), ("signed_poisson", 2), ("phase", 1),
])  # fmt: skip
def test_the_gradient_passes_to_every_step(coding: CodingName, slope: int) -> None:
    images = torch.rand(2, 1, 3, 3, requires_grad=True)
    code = of(coding)
    for form, unit in ((encoding.real, 1), (encoding.messages, code.levels)):
        (found,) = torch.autograd.grad(form(code, images, generator(0)).sum(), images)
        assert (found == 8 * slope * unit).all()


@pytest.mark.parametrize("coding", ["poisson", "signed_poisson", "phase"])
def test_straight_through_is_the_slope_of_the_expectation(coding: CodingName) -> None:
    """d E[spike] / d x by finite differences over many draws, common to both ends, against autograd."""
    grid, change, draws = 16, 2, 20_000
    code = Coding.of(coding, 2, grid, offsets=2 if coding == "phase" else 1)
    image = torch.tensor([2.0, 4.0, 11.0, 14.0], dtype=torch.float64) / grid  # no sign changes
    images = image.reshape(1, 1, 1, 4).repeat(draws, 1, 1, 1)
    up, down = (
        encoding.real(code, images + sign * change / grid, generator(4)).mean((0, 1))
        for sign in (1, -1)
    )
    difference = (up - down).flatten() / (2 * change / grid)
    x = images[:1].clone().requires_grad_()
    (slope,) = torch.autograd.grad(encoding.real(code, x, generator(4)).mean(0).sum(), x)
    per_draw = (
        2 * change / grid
    )  # how likely one spike differs, at least; a spike is then 1 / 2 of it
    sd = ((1 - per_draw) / per_draw / draws) ** 0.5
    assert (difference - slope.flatten()).abs().max() < 4 * sd * slope.max()


@pytest.mark.parametrize("coding", ["poisson", "signed_poisson", "phase"])
def test_straight_through_points_where_a_network_rises(coding: CodingName) -> None:
    """The same sign as finite differences of a saturating network's expected output, where it moves."""
    draws = 2000
    code = Coding.of(coding, 4, 16, offsets=4 if coding == "phase" else 1)
    weight, readout = (torch.randn(s, generator=generator(7)).double() for s in ((12, 8), (8,)))
    image = torch.randint(2, 15, (1, 1, 3, 4), generator=generator(8)).double() / 16

    def output(images: torch.Tensor, seed: int) -> torch.Tensor:
        spikes = encoding.real(code, images.expand(draws, 1, 3, 4), generator(seed)).flatten(2)
        return (torch.tanh(spikes @ weight / 3) @ readout).mean()

    x = image.clone().requires_grad_()
    (slope,) = torch.autograd.grad(output(x, 0), x)
    moved = [image.clone() for _ in range(24)]
    for i in range(12):
        moved[2 * i].view(-1)[i] += 1 / 16
        moved[2 * i + 1].view(-1)[i] -= 1 / 16
    rise = torch.stack([output(m, 1) for m in moved]).reshape(12, 2).diff().flatten().neg() * 8
    clear = rise.abs() > 0.25 * rise.abs().max()
    assert int(clear.sum()) >= 5
    assert (slope.flatten().sign() == rise.sign())[clear].all()


def test_greys_beyond_the_grid_are_as_its_ends() -> None:
    """Where an objective looks a little outside [0, 1]: the gradient still passes."""
    x = torch.tensor([[[[-0.5, 1.5]]]], requires_grad=True)
    for coding, ends in (("poisson", [0, 1]), ("signed_poisson", [-1, 1]), ("phase", [0, 1])):
        frames = encoding.real(of(coding), x, generator(0))
        assert (frames.detach()[:, 0, 0, 0] == torch.tensor(ends)).all()
        (slope,) = torch.autograd.grad(frames.sum(), x)
        assert (slope > 0).all()


def test_images_off_the_grid_are_rounded_once() -> None:
    image = torch.tensor([[[[0.49, 0.51]]]])
    assert encoding.integers(of("direct", grid=4), image, generator(0)).tolist() == [
        [[[[2, 2]]]] * 8
    ]


def test_negative_messages_survive() -> None:
    dark = torch.zeros(4, 1, 8, 8)
    assert encoding.integers(of("rsc1"), dark, generator(0)).min() < 0


PHASE = {"name": "phase", "levels": 1, "message_bits": 0, "grid": 16}


@pytest.mark.parametrize(("settings", "message"), [
    ({"name": ""}, "coding = ''; the name of a coding is needed"),
    ({"name": "events"}, "levels = 1 and message_bits = 0"),
    ({"name": "rsc1"}, "need a sigma above 0"),
    ({"name": "direct", "sigma": 0.1}, "the others have none"),
    ({"steps": 0}, "steps = 0"),
    ({"levels": 0}, "levels = 0"),
    ({"grid": 8}, "direct: grid = 8, levels = 16; grey levels are sent as they are"),
    ({"grid": -1, "levels": 1, "name": "poisson", "message_bits": 0}, "grid = -1"),
    ({"name": "poisson"}, "levels = 1 and message_bits = 0, not 16 and 8; Coding.of"),
    ({"name": "signed_poisson", "levels": 1}, "levels = 1 and message_bits = 2, not 1 and 8"),
    ({"offsets": 2}, "offsets = 2, template = 0: only phase has them"),
    ({"template": 1}, "only phase has them"),
    (PHASE | {"sigma": 0.1}, "the others have none"),
    (PHASE | {"offsets": 9}, "offsets = 9; 1 to 8 of them can differ in 8 steps and 16 grey levels"),
    (PHASE | {"offsets": 5, "grid": 4}, "1 to 4 of them"),
    (PHASE | {"offsets": 0}, "offsets = 0"),
    (PHASE | {"template": 1 << 63}, r"template = 9223372036854775808; a whole number within \[0, "),
])  # fmt: skip
def test_bad_settings(settings: dict, message: str) -> None:
    usual = {"name": "direct", "steps": 8, "levels": 16, "message_bits": 8}
    with pytest.raises(ValueError, match=message):
        Coding(**usual | settings)


def test_a_coding_that_is_not_known_is_kept_but_not_drawn() -> None:
    """Files may name one: their network still runs, on messages that it is given."""
    code = Coding("morse", 4, 3, sigma=0.1, grid=5, offsets=9)
    assert not code.known
    assert not code.stochastic
    for draw in (encoding.real, encoding.integers, encoding.messages):
        with pytest.raises(
            ValueError, match="coding 'morse' is unknown; choose from direct, rsc1, "
        ):
            draw(code, torch.zeros(1, 1, 2, 2), generator(0))
    with pytest.raises(ValueError, match="coding 'morse' is unknown; choose from direct, rsc1, "):
        Coding.of("morse")


@pytest.mark.parametrize(("messages", "bits"), [
    ([0, 1], 0), ([0, 2], 3), ([-1, 0], 1), ([-2, 1], 2), ([127, -128], 8), ([128, 0], 9),
])  # fmt: skip
def test_the_coding_of_given_messages(messages: list[int], bits: int) -> None:
    code = Coding.given(np.array([[messages]]), levels=3)
    assert code == Coding("given", 1, 3, message_bits=bits)
    with pytest.raises(ValueError, match=r"shape \(2,\) and type int64; integers \(sample, time"):
        Coding.given(np.array(messages))


def test_messages_beyond_their_bits_are_refused() -> None:
    code = Coding("direct", 8, 255, message_bits=8)
    with pytest.raises(ValueError, match=r"reach 255 .. 255; 8 bits hold -128 .. 127"):
        encoding.integers(code, torch.ones(1, 1, 2, 2), generator(0))
    assert np.unique(encoding.integers(code, torch.zeros(1, 1, 2, 2), generator(0))).tolist() == [0]


def test_events_are_their_own_frames() -> None:
    code = Coding("events", 5)
    spikes = torch.randint(0, 2, (3, 5, 2, 4, 6), dtype=torch.int8)
    assert (encoding.integers(code, spikes, generator(0)) == spikes.numpy()).all()
    assert torch.equal(encoding.real(code, spikes, generator(0)), spikes.transpose(0, 1).float())
    with pytest.raises(ValueError, match=r"\(3, 2, 4, 6\) are not events of 5 steps"):
        encoding.real(code, spikes[:, 0], generator(0))


# -- the phase code --------------------------------------------------------------------------------

PHASES = [(8, 16, 1), (8, 16, 2), (8, 16, 3), (8, 16, 8), (5, 16, 4), (3, 7, 3), (4, 255, 4)]
"""steps, grid, offsets"""


def _phases(code: Coding, images: torch.Tensor) -> np.ndarray:
    return np.stack([encoding.phase_messages(code, images, phase) for phase in range(code.grid)])


@pytest.mark.parametrize(("steps", "grid", "offsets"), PHASES)
def test_all_phases_sum_to_the_grey_level_in_each_step(steps: int, grid: int, offsets: int) -> None:
    code = Coding.of("phase", steps, grid, offsets=offsets, template=3)
    images = torch.randint(grid + 1, (3, 2, 4, 5), generator=generator(1)).double() / grid
    found = _phases(code, images)
    assert found.dtype == np.int8
    assert found.shape == (grid, 3, steps, 2, 4, 5)
    assert set(np.unique(found)) == {0, 1}
    greys = (images * grid).round().numpy().astype(int)
    assert (found.sum(0, dtype=int) == greys[:, None]).all()


@pytest.mark.parametrize(("steps", "grid", "offsets"), PHASES)
def test_a_grey_level_changes_the_frames_of_as_many_phases_as_offsets(
    steps: int, grid: int, offsets: int
) -> None:
    """One level of one pixel: exactly `offsets`. Any change of d levels in all: d * offsets at most."""
    code = Coding.of("phase", steps, grid, offsets=offsets, template=9)
    draws = generator(2)
    greys = torch.randint(grid, (30, 1, 3, 3), generator=draws)
    one = greys.clone()
    one.view(30, -1)[torch.arange(30), torch.randint(9, (30,), generator=draws)] += 1
    many = (greys + torch.randint(-1, 2, greys.shape, generator=draws)).clamp(0, grid)
    start = _phases(code, greys.double() / grid)
    for other, exact in ((one, True), (many, False)):
        differs = (start != _phases(code, other.double() / grid)).any(axis=(2, 3, 4, 5)).sum(0)
        bound = offsets * (other - greys).abs().sum((1, 2, 3)).numpy()
        assert (differs == bound if exact else differs <= bound).all()
        assert differs.max() > 0


def test_a_draw_is_one_phase_per_image() -> None:
    code = Coding.of("phase", 6, 16, offsets=3, template=5)
    images = torch.rand(40, 1, 4, 4, generator=generator(0))
    drawn, every = encoding.integers(code, images, generator(1)), _phases(code, images)
    fits = (every == drawn).all(axis=(2, 3, 4, 5))
    assert fits.any(0).all()
    assert (fits.sum(0) == 1).mean() > 0.9  # few images look alike at two phases
    assert len(set(fits.argmax(0))) > 10


def test_offsets_spread_the_steps_and_the_template_the_pixels() -> None:
    grey = torch.full((1, 1, 8, 8), 0.5)
    same = encoding.phase_messages(Coding.of("phase", 8, 16), grey, 0)
    assert (same == same[:, :1]).all()
    assert 16 < same[0, 0].sum() < 48  # neighbours have thresholds of their own
    spread = encoding.phase_messages(Coding.of("phase", 8, 16, offsets=8), grey, 0)
    assert (spread.sum(1) == 4).all()  # evenly: half of the steps at half of the grey levels
    other = encoding.phase_messages(Coding.of("phase", 8, 16, template=1), grey, 0)
    assert (same != other).any()


def _splitmix(seed: int, i: int) -> int:
    """In Python's unbounded integers."""
    z = (seed + (i + 1) * 0x9E3779B97F4A7C15) % (1 << 64)
    z = (z ^ (z >> 30)) * 0xBF58476D1CE4E5B9 % (1 << 64)
    z = (z ^ (z >> 27)) * 0x94D049BB133111EB % (1 << 64)
    return z ^ (z >> 31)


def test_thresholds_are_the_documented_numbers() -> None:
    """theta = (splitmix64(template, pixel) + phase + floor((t mod k) grid / k)) mod grid."""
    known = [6457827717110365317, 3203168211198807973, 9817491932198370423]  # published for 1234567
    assert splitmix64(1234567, 3).tolist() == known
    assert splitmix64((1 << 63) - 1, 5).tolist() == [_splitmix((1 << 63) - 1, i) for i in range(5)]
    code = Coding.of("phase", 4, 10, offsets=3, template=1234567)
    images = torch.full((1, 1, 1, 3), 0.4)
    for phase in range(10):
        wanted = [[(h + phase + off) % 10 < 4 for h in known] for off in (0, 3, 6, 0)]
        assert encoding.phase_messages(code, images, phase)[0, :, 0, 0].tolist() == wanted


def test_other_phases_are_refused() -> None:
    images = torch.zeros(1, 1, 2, 2)
    with pytest.raises(ValueError, match=r"phase = 16; a grid of 16 has 0 .. 15"):
        encoding.phase_messages(Coding.of("phase"), images, 16)
    with pytest.raises(ValueError, match="poisson has no phases"):
        encoding.phase_messages(Coding.of("poisson"), images, 0)


@pytest.mark.parametrize(("coding", "grid", "sigma", "levels", "bits"), [
    ("direct", 16, 0.0, 16, 8), ("direct", 127, 0.0, 127, 8), ("direct", 128, 0.0, 128, 9),
    ("rsc1", 16, 0.1, 16, 8), ("rsc2", 16, 0.7, 16, 8), ("rsc1", 64, 0.3, 64, 9),
    ("rsc1", 255, 0.5, 255, 12),
    ("poisson", 255, 0.0, 1, 0), ("signed_poisson", 16, 0.0, 1, 2), ("phase", 16, 0.0, 1, 0),
    ("events", 1, 0.0, 1, 0),
])  # fmt: skip
def test_levels_and_bits_that_a_coding_needs(
    coding: CodingName, grid: int, sigma: float, levels: int, bits: int
) -> None:
    code = Coding.of(coding, 8, grid, sigma)
    assert (code.grid, code.levels, code.message_bits) == (grid, levels, bits)
    assert code.binary == (bits == 0)
    assert code.stochastic == (coding not in ("direct", "events"))
