"""`Coding`: how a sample becomes the messages that a network is given, in every step."""

from __future__ import annotations

import math
from dataclasses import dataclass, field
from typing import Any, Literal, TypeAlias, get_args

import numpy as np
from numpy.typing import NDArray

from .arithmetic import MESSAGE_BITS
from .neurons import NetworkError

ImageCoding: TypeAlias = Literal["direct", "rsc1", "rsc2", "poisson", "signed_poisson", "phase"]
CodingName: TypeAlias = Literal[ImageCoding, "sequence", "events"]
CODINGS: tuple[CodingName, ...] = get_args(CodingName)
NOISY = ("rsc1", "rsc2")
"""The codings with a sigma."""
_WIDTHS: dict[str, int] = {"poisson": 0, "signed_poisson": 2, "phase": 0, "events": 0}
"""Message bits of the codings that send single spikes, whose levels are 1."""
_REACH = 9.0
"""No draw of torch's normal numbers in float64 is beyond sqrt(2 * 53 * ln 2) = 8.6."""
MANY = (1 << 31) - 1
"""The largest number of steps, levels and the like."""


@dataclass(frozen=True)
class Coding:
    r"""How an image x in [0, 1] becomes `steps` input frames. `models/encoding.py` draws them.

    x is first rounded to one of the grey levels g = round(x * grid), x_g = g / grid. Then frame t is

    - ``direct``: x_g in every step.
    - ``rsc1``: x_g + sigma * z, one z ~ N(0, I) per image, the same in every step.
    - ``rsc2``: x_g + sigma * z_t, a fresh z_t in every step.
    - ``poisson``: 1 with probability x_g, else 0, independently for each pixel and step.
    - ``signed_poisson``: sign(s) with probability abs(s), else 0, where s = 2 x_g - 1.
    - ``phase``: [g > theta_t] with thresholds that one random number per image moves together,
      theta_t = (base + phase + off_t) mod grid, phase uniform over the `grid` possible ones.
    - ``sequence``: the data have time, (sample, steps, *shape) of any real numbers; frame t is their
      step t, rounded to the grid as an image is.
    - ``events``: the data are spikes already, (sample, steps, *shape) of 0 and 1, and frame t is
      their step t.

    The integer form is `levels` times the frame: graded spikes g + floor(sigma * z * levels + 1/2)
    where `levels` = `grid` (direct, rsc1, rsc2, sequence), single spikes where `levels` = 1 (all others).

    Averaged over the steps, the frames are x_g (signed_poisson: s) plus noise of variance sigma^2
    (rsc1), sigma^2 / steps (rsc2), x_g (1 - x_g) / steps (poisson), (abs(s) - s^2) / steps
    (signed_poisson): equal sigma is not equal smoothing.

    Gradients: the noise of rsc1 and rsc2 is additive, so d frame / d x = 1 along the draw
    (pathwise). Spikes of poisson and phase pass the gradient straight through, d spike / d x = 1
    (signed_poisson: 2), which is the derivative of their expectation. Rounding passes it too.

    Phase code: `base`, one whole number below `grid` per pixel, is `splitmix64` of the pixel's
    row-major index, seeded with `template`; step t has offset off_t = floor((t mod k) grid / k) with
    k = `offsets` distinct ones. Over all phases, each step has exactly g spikes, and one grey level
    of one pixel changes the frames of exactly k phases: what the exact certificate rests on.

    `sigma` is in pixel units, before any normalisation. `message_bits` is the width, sign included,
    of the graded spikes (0: single spikes), at most 25; a draw that does not fit is an error. `grid`:
    None stands for `levels`. `Coding.of` fills in levels and message bits.

    Any other `name` is kept: of inputs that are not drawn here (``given``: see `Coding.given`), or of
    a coding that a file names and this version does not know. Such a network runs on messages that it
    is given; `levels` are then the integers per 1.0 of the float network's input. Data with time become
    messages of ``given`` as those of ``sequence`` do.

    Raises NetworkError for numbers out of range, and for those that the coding cannot have. The
    metadata of fields are of options of `spikeship train`, as in `Settings`, and of `records.plain`.

    Sources: RSC-SNN, arXiv 2407.20099 (rsc1, rsc2: randomized smoothing coding); Sharmin et al.,
    arXiv 2003.10399 (signed Poisson, straight-through gradient); Levine and Feizi, ICML 2021, arXiv
    2103.10834 (thresholds with split noise, for phase). Integer forms and phase code in time: ours.
    """

    name: str = field(
        metadata={
            "name": "coding",
            "json": "coding",
            "help": "Input coding of images; data with time (sequences, events) need none.",
            "type": ImageCoding,
        }
    )
    steps: int = field(
        metadata={
            "help": "Time steps per sample; events have 30 unless this is given, sequences their own.",
            "flag": "--time-steps --steps",
            "min": 1,
        }
    )
    levels: int = 1
    sigma: float = field(default=0.0, metadata={"help": "Noise of rsc1 and rsc2, in pixel units."})
    message_bits: int = 0
    offsets: int = field(
        default=1,
        metadata={"help": "Thresholds that a pixel meets over the steps, with --coding phase."},
    )
    template: int = 0
    grid: int = field(
        default=None,  # type: ignore[assignment]
        metadata={"name": "levels", "help": "Input grid: grey levels per 1.0.", "min": 1},
    )

    def __post_init__(self) -> None:
        name: Any = self.name  # of a file: it may be anything
        if not isinstance(name, str) or not name:
            raise NetworkError(f"coding = {name!r}; the name of a coding is needed.")
        if self.grid is None:
            object.__setattr__(self, "grid", self.levels)
        for its, low, high in (
            ("steps", 1, MANY),
            ("levels", 1, MANY),
            ("message_bits", 0, MESSAGE_BITS),
            ("offsets", 1, MANY),
            ("template", 0, (1 << 63) - 1),
            ("grid", 1, MANY),
        ):
            value = whole_number(f"coding: {its}", getattr(self, its), low, high)
            object.__setattr__(self, its, value)
        object.__setattr__(self, "sigma", real_number("coding: sigma", self.sigma))
        if self.known:
            self._check()

    def _check(self) -> None:
        """What holds for the codings that can be drawn."""
        width = _WIDTHS.get(self.name)
        if width is not None and (self.levels, self.message_bits) != (1, width):
            raise NetworkError(
                f"coding {self.name}: single spikes have levels = 1 and message_bits = {width}, not "
                f"{self.levels} and {self.message_bits}; Coding.of(...) fills them in."
            )
        if width is None and self.grid != self.levels:
            raise NetworkError(
                f"coding {self.name}: grid = {self.grid}, levels = {self.levels}; grey levels are sent "
                f"as they are, so both are the same."
            )
        if (self.name in NOISY) != (self.sigma > 0):
            raise NetworkError(
                f"coding {self.name} with sigma = {self.sigma}: rsc1 and rsc2 need a sigma above "
                f"0, the others have none."
            )
        if self.name != "phase" and (self.offsets, self.template) != (1, 0):
            raise NetworkError(
                f"coding {self.name}: offsets = {self.offsets}, template = {self.template}: only phase "
                f"has them."
            )
        most = min(self.steps, self.grid)
        if self.offsets > most:
            raise NetworkError(
                f"coding {self.name}: offsets = {self.offsets}; 1 to {most} of them can differ in "
                f"{self.steps} steps and {self.grid} grey levels."
            )

    @classmethod
    def of(
        cls,
        name: str,
        steps: int = 8,
        grid: int = 16,
        sigma: float = 0.0,
        *,
        offsets: int = 1,
        template: int = 0,
        peak: float = 1.0,
    ) -> Coding:
        """A coding of data on `grid` levels per 1.0, its messages as wide as its draws need.

        8 bits where these suffice for |x| up to `peak`. Raises NetworkError also for an unknown name.
        """
        check_known(name)
        width = _WIDTHS.get(name)
        if width is not None:
            return cls(name, steps, 1, sigma, width, offsets, template, grid)
        reach = math.ceil(grid * (peak + _REACH * sigma))
        bits = max(8, 1 + reach.bit_length())
        return cls(name, steps, grid, sigma, bits, offsets, template)

    @classmethod
    def given(cls, messages: NDArray[Any], levels: int = 1) -> Coding:
        """What one's own integer inputs (sample, time, *input shape) are: nothing is drawn.

        Single spikes where all are 0 or 1, else messages of the bits that these need, sign included.
        Raises NetworkError for other arrays.
        """
        if messages.ndim < 3 or messages.size == 0 or messages.dtype.kind not in "iub":
            raise NetworkError(
                f"inputs of shape {messages.shape} and type {messages.dtype}; integers (sample, time, "
                f"*input shape) are needed. Real numbers go into a data set: the tool rounds these."
            )
        low, high = int(messages.min()), int(messages.max())
        bits = 0 if low >= 0 and high <= 1 else 1 + max((-low - 1).bit_length(), high.bit_length())
        return cls("given", messages.shape[1], levels, message_bits=bits)

    @property
    def known(self) -> bool:
        """Whether this version can draw it."""
        return self.name in CODINGS

    @property
    def stochastic(self) -> bool:
        """Whether two draws can differ."""
        return self.known and self.name not in ("direct", "sequence", "events")

    @property
    def binary(self) -> bool:
        """Whether all messages are 0 or 1."""
        return self.message_bits == 0

    @property
    def single_spikes(self) -> bool:
        """Whether no message is more than one spike: all are -1, 0 or 1."""
        return self.message_bits <= 1 or self.name in _WIDTHS


def check_known(name: str) -> None:
    """Refuse a coding that cannot be drawn: NetworkError."""
    if name not in CODINGS:
        raise NetworkError(f"coding {name!r} is unknown; choose from {', '.join(CODINGS)}.")


def whole_number(name: str, value: Any, low: int, high: int) -> int:
    """A whole number of any type within [low, high] as an int, or NetworkError."""
    number = value.item() if isinstance(value, np.generic) else value
    whole = isinstance(number, int | float) and not isinstance(number, bool) and number % 1 == 0
    if not whole or not low <= number <= high:
        raise NetworkError(f"{name} = {value!r}; a whole number within [{low}, {high}] is needed.")
    return int(number)


def real_number(name: str, value: Any) -> float:
    """A finite number of any type that is not negative, as a float, or NetworkError."""
    number = value.item() if isinstance(value, np.generic) else value
    real = isinstance(number, int | float) and not isinstance(number, bool)
    if not real or not math.isfinite(number) or number < 0:
        raise NetworkError(f"{name} = {value!r}; a finite number that is not negative is needed.")
    return float(number)
