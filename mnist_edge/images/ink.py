"""Separate ink from background. Polarity, lighting and noise are estimated, not assumed.

The background of dark ink is a grey-scale closing of the picture (Serra 1982): strokes narrower than the window vanish,
ramps and shadow edges stay. The background of light ink is an opening. Polarity is decided by the simpler explanation:
little ink, on a smooth background, and not at the border.
"""

from typing import Any, Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray

from mnist_edge.images.arrays import Array, blur, erode, grow, median, resized, smooth
from mnist_edge.images.components import label

VIEW: Final = 96
"""Longer side, in pixels, of the reduced picture in which polarity is decided."""

WINDOW: Final = 0.25
"""Radius of the closing's window, as a share of the shorter side: strokes may be almost half as wide as the picture."""

ROUGHNESS: Final = 6.0
"""Cost of the background's total variation relative to ink, in pixels of `VIEW`: strokes are narrower than this."""

BORDER: Final = 0.9
"""Weight of the border's brightness when in doubt, as a share of the contrast: a light border suggests dark ink."""

DOUBTFUL: Final = 0.35
"""The doubt about polarity is greatest when both costs exceed this share of the contrast."""

INSET: Final = 6
"""The border is examined again this many pixels further in, past a frame line."""

THUMBNAIL: Final = 24
"""The longer side of the reduced picture in which a gradient is fitted."""

TERMS: Final = 6
"""Of a quadratic surface."""

FLATTENED: Final = 0.5
"""A gradient is subtracted first if that reduces the picture's spread to this share or less."""

PAPER: Final = (0.2, 0.5)
"""Shares of paper in the neighbourhood at which its mean begins to be trusted, and is trusted fully."""

SAMPLES: Final = 8192
"""About how many pixels medians are taken from."""

FAINTEST: Final = 6.0
"""Contrast below which nothing counts as ink, in grey values."""

SIGNIFICANT: Final = 5.0
"""Ink must exceed this many standard deviations of the background's noise."""

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
    flat = picture - _gradient(picture)
    if dark is None:
        dark = _is_dark(flat)
    upright = -flat if dark else flat
    values = _above_ground(upright)
    if dark:
        # In a shadow, ink loses contrast in proportion to the light on the paper.
        background = (picture + values).clip(1)
        values = values * (median(_sample(picture)) / background).clip(0.5, 2)
    noise = _noise(values)
    values = (values - noise).clip(0)
    full = _full(values)
    if full < max(FAINTEST, (SIGNIFICANT - 1) * noise):
        return Ink(np.zeros_like(values), 0.0, 1e-6, dark)
    faintest = max(FAINT * full, FAINT_NOISE * noise, 1e-6)
    if np.count_nonzero(values > faintest) > MOSTLY * values.size:
        faintest = SOLID * full
    return Ink(values, full, faintest, dark)


def _gradient(picture: Array) -> Array:
    """A quadratic surface fitted to the background with Cauchy weights, or the median (see `FLATTENED`)."""
    height, width = picture.shape
    step = max(1.0, max(height, width) / THUMBNAIL)
    small = resized(picture, max(1, int(height / step)), max(1, int(width / step)))
    flat = median(small)
    y, x = _coordinates(*small.shape)
    terms = np.stack([np.broadcast_to(term, small.shape).ravel() for term in _quadratic(y, x)], axis=-1)
    target = small.ravel()
    products = np.concatenate([terms[:, :, None] * terms[:, None, :], (terms * target[:, None])[:, :, None]], axis=2)
    weights = np.ones_like(target)
    coefficients = np.zeros(TERMS)
    spread = 1.0
    for _ in range(8):
        # Sums and an elimination by hand: BLAS and LAPACK would wake a pool of threads for them.
        system = (products * weights[:, None, None]).sum(axis=0, dtype=np.float64)
        coefficients = _solved(system[:, :TERMS] + 1e-4 * np.eye(TERMS), system[:, TERMS])
        residual = abs(target - (terms * coefficients).sum(axis=1))
        spread = max(median(residual), 0.5)
        weights = 1 / (1 + (residual / (2 * spread)) ** 2)
    if spread > FLATTENED * median(abs(target - flat)):
        return np.full_like(picture, flat)
    y, x = _coordinates(height, width)
    surface = sum(factor * term for factor, term in zip(coefficients, _quadratic(y, x), strict=True))
    return np.asarray(np.broadcast_to(surface, picture.shape), dtype=np.float32)


def _coordinates(height: int, width: int) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    return np.linspace(-1, 1, height)[:, None], np.linspace(-1, 1, width)[None]


def _quadratic(y: NDArray[np.float64], x: NDArray[np.float64]) -> tuple[Any, ...]:
    return np.ones((1, 1)), x, y, x * x, x * y, y * y


def _solved(matrix: NDArray[np.float64], right: NDArray[np.float64]) -> NDArray[np.float64]:
    """The solution of a positive definite system, by Gauss and Jordan's elimination, which needs no pivots then."""
    rows = np.column_stack([matrix, right])
    for pivot in range(len(rows)):
        rows[pivot] /= rows[pivot, pivot]
        others = np.arange(len(rows)) != pivot
        rows[others] -= rows[others, pivot : pivot + 1] * rows[pivot]
    return np.asarray(rows[:, -1])


def _is_dark(flat: Array) -> bool:
    small = _reduced(flat)
    if_light, if_dark = _cost(small), _cost(-small)
    low, high = _two_levels(small)
    # Both costs are high if a digit fills the picture: then the border counts. If one is low, its polarity is certain,
    # and the border does not matter: a shadow may cross it anywhere.
    doubt = min(min(if_light, if_dark) / (DOUBTFUL * max(high - low, 1)), 1) ** 2
    lit = _border_share(small > (low + high) / 2)
    return if_dark + doubt * BORDER * (high - low) * (1 - 2 * lit) < if_light


def _cost(picture: Array) -> float:
    """The cost of explaining the picture as light ink: the amount of ink plus the background's variation."""
    background = _opened(smooth(picture))
    ink = abs(picture - background)
    variation = abs(np.diff(background, axis=0)).sum() + abs(np.diff(background, axis=1)).sum()
    return float(ink.mean() + ROUGHNESS * variation / ink.size)


def _border_share(light: NDArray[np.bool_]) -> float:
    """The share of the border that is light; 0.5 if a frame line contradicts what lies inside it."""
    shares = [_border(light)]
    if min(light.shape) > 4 * INSET:
        shares.append(_border(light[INSET:-INSET, INSET:-INSET]))
    return 0.5 if min(shares) < 0.5 < max(shares) else shares[-1]


def _two_levels(picture: Array) -> tuple[float, float]:
    """The means of a picture's dark and light pixels, split at Otsu's threshold (1979)."""
    values = np.sort(picture.ravel()).astype(np.float64)
    below = values.cumsum()
    count = np.arange(1, len(values))
    dark, light = below[:-1] / count, (below[-1] - below[:-1]) / (len(values) - count)
    best = int((count * (len(values) - count) * (light - dark) ** 2).argmax())
    return float(dark[best]), float(light[best])


def _border(values: NDArray[np.bool_]) -> float:
    return float(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]).mean())


def _opened(picture: Array) -> Array:
    radius = max(1, int(WINDOW * min(picture.shape)))
    outside = radius // 2  # windows may reach outside: a shadow may narrow to nothing in a corner
    padded = np.pad(picture, outside, mode="edge")
    opened = grow(erode(padded, radius), radius)
    return opened[outside : len(opened) - outside, outside : opened.shape[1] - outside]


def _above_ground(picture: Array) -> Array:
    """Light ink above its background: an opening, raised to the mean of nearby paper where there is enough of it."""
    background = _opened(smooth(picture))
    rise = picture - background
    paper = (rise <= max(SOLID * 0.5 * _full(rise), median(_sample(rise)))).astype(np.float32)
    paper = erode(paper, 1)
    share, total = _nearby(paper), _nearby(paper * picture)
    trust = ((share - PAPER[0]) / (PAPER[1] - PAPER[0])).clip(0, 1)
    # Never below the opening: unlike the mean, it does not blur across the edge of a shadow.
    lift = (total / np.maximum(share, 1e-6) - background).clip(0)
    above: Array = picture - background - trust * lift
    return above


def _nearby(values: Array) -> Array:
    """The mean over a square half as wide as the opening's window; it is smooth, so a reduced picture is enough."""
    small = _reduced(values)
    return resized(blur(small, max(2, int(0.5 * WINDOW * min(small.shape)))), *values.shape)


def _reduced(values: Array) -> Array:
    height, width = values.shape
    step = max(1.0, max(height, width) / VIEW)
    return resized(values, int(-(-height // step)), int(-(-width // step)))


def _noise(values: Array) -> float:
    """The standard deviation of the background, from the median of the values below it (ink lies only above)."""
    sample = _sample(values)
    below = sample[sample < 0.5]  # 0.5, so that a perfectly even background counts
    return 1.4826 * max(0.0, -median(below)) if below.size else 0.0


def _sample(values: Array) -> Array:
    step = max(1, int((values.size / SAMPLES) ** 0.5))
    return values[::step, ::step]


def _full(values: Array) -> float:
    """The level of solid ink: that of the strongest pixels, ignoring a few hot ones."""
    count = max(4, values.size // 10_000)
    strong = values[values > 0.5 * float(values.max(initial=0))]
    return float(np.partition(strong, -count)[-count]) if len(strong) >= count else float(values.max())
