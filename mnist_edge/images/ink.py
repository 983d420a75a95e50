"""Separate ink from background. Polarity, lighting and noise are estimated, not assumed."""

from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mnist_edge.images.arrays import Array, blur, erode, grow, median, quantile, resized
from mnist_edge.images.background import WINDOW, explained, opened, reduced
from mnist_edge.images.components import label

PAPER: Final = (0.2, 0.5)
"""Shares of paper in the neighbourhood at which its mean begins to be trusted, and is trusted fully."""

SAMPLES: Final = 2048
"""About how many pixels medians are taken from."""

FAINTEST: Final = 6.0
"""Contrast below which nothing counts as ink, in grey values."""

SIGNIFICANT: Final = 5.0
"""Ink must exceed this many standard deviations of the background's noise."""

DISTINCT: Final = 9.0
"""And this many standard deviations of the noise from pixel to pixel; the extremes of pure noise reach 7.3."""

APART: Final = range(3, 13)
"""Distances in pixels at which that noise is measured, beyond the reach of `smooth`. Noise is as strong at each of
them; on squared paper, pixels that are one square apart are alike."""

QUARTILE: Final = 0.3186
"""A quarter of normally distributed values deviate by less than this many standard deviations."""

SOLID: Final = 0.4
"""Share of the full contrast above which a pixel belongs to a stroke."""

FAINT: Final = 0.2
"""The same for a pixel that is connected to one of those: strokes thin out where the pen is lifted or runs dry."""

MOSTLY: Final = 0.5
"""If more than this share of the picture is above the faint level, the level is in the noise: only solid ink counts."""

EDGE: Final = 2
"""Pixels around solid ink in which faint ink is only its soft edge, which would join it to its neighbours."""

FAINT_NOISE: Final = 3.0
"""Faint ink must exceed that many more standard deviations of the background's noise than one."""


class Ink(Struct, frozen=True):
    """How much of a picture is ink, pixel by pixel."""

    values: Array
    """float32 [height, width], 0 = background, `full` = solid ink."""

    full: float
    """The level of solid ink; 0 if there is none."""

    faintest: float
    """The level above which a pixel may belong to a stroke."""

    dark: bool
    """Whether the ink is darker than the background."""

    @property
    def marks(self) -> NDArray[np.bool_]:
        """Pixels that may belong to strokes: bool [height, width]."""
        return self.values > self.faintest

    def strokes(self, marks: NDArray[np.bool_]) -> NDArray[np.bool_]:
        """Those of the marks that belong to strokes, bool [height, width]: what is connected to solid ink.

        Two thresholds, as in Canny 1986 ("A Computational Approach to Edge Detection"): a stroke may grow faint, and
        faint dirt on its own is none.
        """
        solid = (self.values > SOLID * self.full).astype(np.float32)
        beyond = marks & (grow(solid, EDGE) == 0)
        if not beyond.any():
            return solid > 0
        found = label((solid > 0) | (marks & (grow(beyond.astype(np.float32), EDGE + 1) > 0)))
        return found.mask(found.sums(solid) > 0)


def find_ink(picture: Array, dark: bool | None = None) -> Ink:
    """Separate ink from background.

    Args:
        picture: grey values [height, width], light or dark ink, evenly lit or not.
        dark: whether the ink is darker than the background; None to detect it.

    Returns:
        The ink, with the background and its noise subtracted.
    """
    flat, dark = explained(picture, dark)
    upright = -flat if dark else flat
    values = _above_ground(upright)
    if dark:
        # In a shadow, ink loses contrast in proportion to the light on the paper.
        background = (picture + values).clip(1)
        values = values * (median(_sample(picture)) / background).clip(0.5, 2)
    noise = _noise(values)
    values = (values - noise).clip(0)
    full = _full(values)
    if full < max(FAINTEST, (SIGNIFICANT - 1) * noise) or all(full < DISTINCT * _grain(flat, lag) for lag in APART):
        return Ink(np.zeros_like(values), 0.0, 1e-6, dark)
    faintest = max(FAINT * full, FAINT_NOISE * noise, 1e-6)
    if np.count_nonzero(values > faintest) > MOSTLY * values.size:
        faintest = SOLID * full
    return Ink(values, full, faintest, dark)


def _above_ground(picture: Array) -> Array:
    """Light ink above its background: an opening, raised to the mean of nearby paper where there is enough of it."""
    background = opened(picture)
    rise = picture - background
    paper = (rise <= max(SOLID * 0.5 * _full(rise), median(_sample(rise)))).astype(np.float32)
    paper = erode(paper, 1)
    share, total = _nearby(paper, paper * picture)
    trust = ((share - PAPER[0]) / (PAPER[1] - PAPER[0])).clip(0, 1)
    # Never below the opening: unlike the mean, it does not blur across the edge of a shadow.
    lift = (total / np.maximum(share, 1e-6) - background).clip(0)
    above: Array = picture - background - trust * lift
    return above


def _nearby(*pictures: Array) -> list[Array]:
    """The means over a square half as wide as the opening's window; they are smooth, so reduced pictures are enough."""
    small = np.stack([reduced(picture) for picture in pictures])
    means = blur(small, max(1, int(0.5 * WINDOW * min(small.shape[1:]))))
    return [resized(mean, *pictures[0].shape) for mean in means]


def _noise(values: Array) -> float:
    """The standard deviation of the background, from the median of the values below it (ink lies only above)."""
    sample = _sample(values)
    below = sample[sample < 0.5]  # 0.5, so that a perfectly even background counts
    return 1.4826 * max(0.0, -median(below)) if below.size else 0.0


def _grain(flat: Array, lag: int) -> float:
    """The standard deviation of the noise, from the lower quartile of the differences of pixels that far apart.

    The quartile, because in a picture full of ink most differences are those of its edges.
    """
    step = max(1, flat.size // SAMPLES)
    differences = (flat[::step, lag:] - flat[::step, :-lag], flat[lag:, ::step] - flat[:-lag, ::step])
    return min(quantile(abs(part), 0.25) for part in differences if part.size) / (QUARTILE * 2**0.5)


def _sample(values: Array) -> Array:
    step = max(1, int((values.size / SAMPLES) ** 0.5))
    return values[::step, ::step]


def _full(values: Array) -> float:
    """The level of solid ink: that of the strongest pixels, ignoring a few hot ones."""
    count = max(4, values.size // 10_000)
    strong = values[values > 0.5 * float(values.max(initial=0))]
    return float(np.partition(strong, -count)[-count]) if len(strong) >= count else float(values.max())
