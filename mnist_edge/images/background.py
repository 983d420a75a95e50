"""The background of a picture, and whether ink is darker or lighter than it.

The background of dark ink is a grey-scale closing of the picture (Serra 1982): strokes narrower than the window vanish,
ramps and shadow edges stay. The background of light ink is an opening. Polarity is decided by the simpler explanation:
little ink, on a smooth background. Where a digit fills the picture, both are about as simple: then ink is what is not
at the border, and more even in width.
"""

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.images.arrays import Array, erode, extended, grow, median, resized, smooth

VIEW: Final = 96
"""Longer side, in pixels, of the reduced picture in which polarity is decided."""

WINDOW: Final = 0.25
"""Radius of the closing's window, as a share of the shorter side: strokes may be almost half as wide as the picture."""

ROUGHNESS: Final = 6.0
"""Cost of the background's total variation relative to ink, in pixels of `VIEW`: strokes are narrower than this."""

DOUBTFUL: Final = 0.35
"""The doubt about polarity is greatest when both costs exceed this share of the contrast."""

BORDER: Final = 0.9
"""Weight of the border's brightness when in doubt, as a share of the contrast: a light border suggests dark ink."""

EVEN: Final = 4.0
"""Weight of the evenness when in doubt: of the logarithm of how often as uneven the other one's width is."""

CLOSE: Final = 3
"""And the evenness counts by this power of the ratio of both costs."""

MOST_UNEVEN: Final = 20.0
"""How often as uneven as the other one can be: the evenness is not measured where this would not decide."""

LEVELS: Final = 256
"""Of the histogram in which a threshold between dark and light is sought."""

INSET: Final = 6
"""The border is examined again this many pixels further in, past a frame line."""

THUMBNAIL: Final = 24
"""The longer side of the reduced picture in which a gradient is fitted."""

ROUNDS: Final = 8
"""How often at most the gradient is fitted, each time with new weights."""

SETTLED: Final = 0.02
"""It is fitted no more once the spread around it changes by less than this share."""

STEADY: Final = 2.0
"""With a smaller median deviation, in grey values, a picture has no gradient that matters."""

TERMS: Final = 6
"""Of a quadratic surface."""

FLATTENED: Final = 0.5
"""A gradient may be subtracted if that reduces the picture's spread to this share or less."""

Coefficients = list[float]
"""Of a quadratic surface, as `_quadratic` orders its terms."""


def explained(picture: Array, dark: bool | None = None) -> tuple[Array, bool]:
    """Subtract the gradient of the light, if there is one, and tell the polarity of the ink.

    Args:
        picture: grey values [height, width].
        dark: the polarity if it is known.

    Returns:
        float32 [height, width], and whether the ink is darker than the background.
    """
    view = reduced(picture)
    gradient = _gradient(view)
    if gradient is None and dark is not None:
        return picture, dark
    costs = _costs(view)
    if gradient is not None:
        # Through the edge of a shadow a surface fits badly: it would leave a slope on either side.
        level = view - _surface(gradient, view.shape)
        costs_of_level = _costs(level)
        if min(costs_of_level) < min(costs):
            view, costs, picture = level, costs_of_level, picture - _surface(gradient, picture.shape)
    return picture, _is_dark(view, *costs) if dark is None else dark


def opened(picture: Array) -> Array:
    """The background of light ink."""
    picture = smooth(picture)
    radius = max(1, int(WINDOW * min(picture.shape)))
    outside = radius // 2  # windows may reach outside: a shadow may narrow to nothing in a corner
    padded = extended(picture, outside)
    background = grow(erode(padded, radius), radius)
    return background[outside : len(background) - outside, outside : background.shape[1] - outside]


def reduced(values: Array, longest: int = VIEW) -> Array:
    """The whole picture, with a longer side of that many pixels or one more if it is larger."""
    height, width = values.shape
    step = max(1.0, max(height, width) / longest)
    return resized(values, int(-(-height // step)), int(-(-width // step)))


def _gradient(view: Array) -> Coefficients | None:
    """A quadratic surface fitted to the background with Cauchy weights; None if it explains little."""
    small = reduced(view, THUMBNAIL)
    target = small.ravel()
    deviation = median(abs(target - median(target)))
    if deviation < STEADY:
        return None
    terms = np.stack([np.broadcast_to(term, small.shape).ravel() for term in _quadratic(small.shape)])
    # The upper triangle of the normal equations and their right side, for each pixel. Sums and an elimination by hand:
    # BLAS and LAPACK would wake a pool of threads for so little.
    upper = np.triu_indices(len(terms))
    products = np.concatenate([terms[upper[0]] * terms[upper[1]], terms * target])
    weights = np.ones_like(target)
    spread = np.inf
    for _ in range(ROUNDS):
        before = spread
        coefficients = _solved((products * weights).sum(axis=1).tolist())
        residual = abs(target - sum(factor * term for factor, term in zip(coefficients, terms, strict=True)))
        spread = max(median(residual), 0.5)
        if abs(spread - before) < SETTLED * spread:
            break
        weights = 1 / (1 + (residual / (2 * spread)) ** 2)
    return coefficients if spread <= FLATTENED * deviation else None


def _quadratic(shape: tuple[int, ...]) -> tuple[Any, ...]:
    y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    return np.ones((1, 1)), x, y, x * x, x * y, y * y


def _surface(coefficients: Coefficients, shape: tuple[int, ...]) -> Array:
    surface = sum(factor * term for factor, term in zip(coefficients, _quadratic(shape), strict=True))
    return np.asarray(np.broadcast_to(surface, shape), dtype=np.float32)


def _solved(sums: list[float]) -> Coefficients:
    """Solve normal equations by Gauss and Jordan's elimination; they are positive definite, so it needs no pivots.

    Args:
        sums: the upper triangle of the matrix, row by row, and then the right side.
    """
    remaining = iter(sums)
    matrix = [[0.0] * (TERMS + 1) for _ in range(TERMS)]
    for row in range(TERMS):
        for column in range(row, TERMS):
            matrix[row][column] = matrix[column][row] = next(remaining)
        matrix[row][row] += 1e-4
    for row in range(TERMS):
        matrix[row][TERMS] = next(remaining)
    for pivot in range(TERMS):
        scaled = [value / matrix[pivot][pivot] for value in matrix[pivot]]
        for row in range(TERMS):
            factor = matrix[row][pivot]
            matrix[row] = [value - factor * other for value, other in zip(matrix[row], scaled, strict=True)]
        matrix[pivot] = scaled
    return [row[TERMS] for row in matrix]


def _is_dark(view: Array, if_light: float, if_dark: float) -> bool:
    low, high = two_levels(view)
    # Both costs are high if a digit fills the picture. If one is low, its polarity is certain, and the border does not
    # matter: a shadow may cross it anywhere.
    lower, higher = sorted((if_light, if_dark))
    doubt = min(lower / (DOUBTFUL * max(high - low, 1)), 1) ** 2
    close = doubt * (lower / max(higher, 1e-6)) ** CLOSE
    light = view > (low + high) / 2
    weight = doubt * (high - low)
    evidence = if_light - if_dark + weight * BORDER * (2 * _border_share(light) - 1)
    weight *= EVEN * close
    if abs(evidence) < weight * np.log(MOST_UNEVEN):
        evidence += weight * float(np.log(_unevenness(light) / _unevenness(~light)))
    return evidence > 0


def cost(view: Array) -> float:
    """The cost of the simpler explanation of a picture, as light ink or as dark."""
    return min(_costs(view))


def _costs(view: Array) -> tuple[float, float]:
    """The costs of explaining a picture as light and as dark ink: the amount of ink plus the background's variation."""
    costs = []
    for upright in (view, -view):
        background = opened(upright)
        ink = abs(upright - background).sum()
        variation = abs(background[1:] - background[:-1]).sum() + abs(background[:, 1:] - background[:, :-1]).sum()
        costs.append(float(ink + ROUGHNESS * variation) / view.size)
    return costs[0], costs[1]


def _border_share(light: NDArray[np.bool_]) -> float:
    """The share of the border that is light; 0.5 if a frame line contradicts what lies inside it."""
    shares = [border(light)]
    if min(light.shape) > 4 * INSET:
        shares.append(border(light[INSET:-INSET, INSET:-INSET]))
    return 0.5 if min(shares) < 0.5 < max(shares) else shares[-1]


def border(values: NDArray[np.bool_]) -> float:
    """The share of a picture's outermost pixels for which a mask is true."""
    return float(np.concatenate([values[0], values[-1], values[:, 0], values[:, -1]]).mean())


def _unevenness(mask: NDArray[np.bool_]) -> float:
    """The greatest distance to the outside, in steps along rows and columns, per area.

    What lies beyond the picture's border counts as inside. A mask and its complement have the same outline, so their
    areas compare as their mean widths do: of the two, strokes are the more even.
    """
    distance = np.where(mask, float(sum(mask.shape)), 0.0)
    steps = [np.arange(side, dtype=np.float64) for side in mask.shape]
    for axis, along in enumerate((steps[0][:, None], steps[1][None])):
        forward = np.minimum.accumulate(distance - along, axis=axis) + along
        backward = np.flip(np.minimum.accumulate(np.flip(distance + along, axis), axis=axis), axis) - along
        distance = np.minimum(forward, backward)
    return max(float(distance.max()), 1.0) / max(int(mask.sum()), 1)


def two_levels(picture: Array) -> tuple[float, float]:
    """The means of a picture's dark and light pixels, split at Otsu's threshold (1979)."""
    low, high = float(picture.min()), float(picture.max())
    if low == high:
        return low, high
    step = (high - low) / (LEVELS - 1)
    levels = np.rint((picture - low) / step).astype(np.int64)
    counts = np.bincount(levels.ravel(), minlength=LEVELS)
    below, sums = counts.cumsum()[:-1], (counts * np.arange(LEVELS)).cumsum()
    dark, light = sums[:-1] / below, (sums[-1] - sums[:-1]) / (picture.size - below)
    best = int((below * (picture.size - below) * (light - dark) ** 2).argmax())
    return low + step * float(dark[best]), low + step * float(light[best])
