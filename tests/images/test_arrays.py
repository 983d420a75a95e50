"""The filters and the components, against plain computations of the same, pixel by pixel, by numpy or by Pillow."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view
from PIL import Image

from mnist_edge.images import arrays
from mnist_edge.images.components import box, label, unite

SHAPES = [(1, 1), (1, 7), (9, 2), (13, 20)]


def values(shape, seed=0):
    return np.random.default_rng([seed, *shape]).uniform(-50, 200, shape).astype(np.float32)


def bytes_of(shape):
    return np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8)


def squares(picture, radius, outside):
    """The square of side 2 · radius + 1 around each pixel: [height, width, side, side]."""
    side = 2 * radius + 1
    return sliding_window_view(np.pad(picture, radius, constant_values=outside), (side, side))


@pytest.mark.parametrize("size", [1, 2, 3, 10, 77])
@pytest.mark.parametrize("share", [0, 0.1, 0.25, 0.5, 0.77, 1])
def test_quantiles(size, share):
    picture = values((1, size))
    assert arrays.quantile(picture, share) == pytest.approx(np.quantile(picture, share), abs=1e-3)
    assert arrays.median(picture) == pytest.approx(np.median(picture), abs=1e-3)


@pytest.mark.parametrize(
    ("shape", "longest", "factor"),
    [((9, 12), 12, 1), ((9, 13), 12, 2), ((10, 14), 5, 3), ((40, 1), 7, 6), ((2, 40), 4, 10), ((8, 8), 4, 2)],
)
def test_blocks_of_pixels_are_averaged(shape, longest, factor):
    pixels = bytes_of(shape)
    small, found = arrays.shrink(pixels, longest)
    down, across = min(factor, shape[0]), min(factor, shape[1])
    padded = np.pad(pixels.astype(float), ((0, -shape[0] % down), (0, -shape[1] % across)), mode="edge")
    blocks = padded.reshape(padded.shape[0] // down, down, padded.shape[1] // across, across)
    assert (found, small.dtype) == (factor, np.float32)
    np.testing.assert_allclose(small, blocks.mean(axis=(1, 3)), rtol=1e-6)


@pytest.mark.parametrize("step", [1, 1.5, 2, 3.25])
@pytest.mark.parametrize("origin", [(0, 0), (0.5, 2.25), (-3, -1.25), (5, 4)])
def test_reducing_averages_areas(step, origin):
    picture, shape = values((11, 14)), (6, 5)
    parts = 4  # of a pixel: steps and origins are multiples of a quarter
    fine = np.pad(np.kron(picture, np.ones((parts, parts))), 200)
    expected = np.empty(shape)
    for row, column in np.ndindex(shape):
        top = 200 + round(parts * (origin[0] + row * step))
        left = 200 + round(parts * (origin[1] + column * step))
        expected[row, column] = fine[top : top + round(parts * step), left : left + round(parts * step)].mean()
    np.testing.assert_allclose(arrays.resample(picture, shape, step, origin), expected, atol=1e-3)


@pytest.mark.parametrize("times", [2, 3, 5])
def test_enlarging_is_linear(times):
    picture = values((4, 6))
    centres = [1 + (np.arange(side * times) + 0.5) / times - 0.5 for side in picture.shape]
    padded = np.pad(picture, 1, mode="edge")
    rows = np.stack([np.interp(centres[0], np.arange(6), column) for column in padded.T], axis=1)
    expected = np.stack([np.interp(centres[1], np.arange(8), row) for row in rows])
    found = arrays.resample(arrays.extended(picture, 1), expected.shape, 1 / times, (1.0, 1.0))
    np.testing.assert_allclose(found, expected, atol=1e-3)


def test_another_size():
    picture = values((12, 20))
    assert arrays.resized(picture, 12, 20) is picture
    assert arrays.resized(picture, 6, 7).shape == (6, 7)
    np.testing.assert_allclose(arrays.resized(np.full((9, 5), 3, np.float32), 4, 11), 3, rtol=1e-6)
    ramp = np.add.outer(10 * np.arange(12), np.arange(20)).astype(np.float32)
    halves = ramp.reshape(6, 2, 10, 2).mean(axis=(1, 3))
    np.testing.assert_allclose(arrays.resized(ramp, 6, 10)[1:-1, 1:-1], halves[1:-1, 1:-1], rtol=1e-5)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("radius", [1, 2, 6, 30])
def test_filters_of_squares(shape, radius):
    picture = values(shape)
    stack = np.stack([picture, values(shape, 1)])
    for given, found in zip(stack, arrays.blur(stack, radius), strict=True):
        np.testing.assert_allclose(found, np.nanmean(squares(given, radius, np.nan), axis=(2, 3)), atol=2e-3)
    np.testing.assert_array_equal(arrays.grow(picture, radius), squares(picture, radius, -np.inf).max(axis=(2, 3)))
    np.testing.assert_array_equal(arrays.erode(picture, radius), squares(picture, radius, np.inf).min(axis=(2, 3)))


@pytest.mark.parametrize("shape", SHAPES)
def test_edges_and_frames(shape):
    picture = values(shape)
    np.testing.assert_array_equal(arrays.extended(picture, 3), np.pad(picture, 3, mode="edge"))
    np.testing.assert_array_equal(arrays.framed(picture, 2, 5), np.pad(picture, ((2, 2), (5, 5))))
    assert arrays.framed(picture > 0, 1, 0).dtype == bool
    around = sliding_window_view(np.pad(picture, 1, mode="edge"), (3, 3))
    np.testing.assert_allclose(arrays.smooth(picture), around.mean(axis=(2, 3)), atol=1e-3)


@pytest.mark.parametrize("radius", [0.3, 1, 2.5])
def test_a_disc_with_a_soft_rim(radius):
    picture = np.random.default_rng(0).random((6, 7)).astype(np.float32)
    expected = np.zeros(picture.shape)
    for here in np.ndindex(picture.shape):
        for there in np.ndindex(picture.shape):
            reached = np.clip(radius + 1 - np.hypot(*np.subtract(here, there)), 0, 1) if here != there else 1
            expected[here] = max(expected[here], reached * picture[there])
    np.testing.assert_allclose(arrays.halo(picture, radius), expected, atol=1e-5)


def test_sums_and_masks_of_components():
    mask = np.array(Image.new("1", (30, 20)))
    mask[2:5, 3:9] = mask[10:18, 20:22] = mask[0, 29] = True
    found, ink = label(mask), values(mask.shape)
    assert box(mask) == (3, 0, 30, 18)
    assert len(found) == 3
    assert found.boxes.tolist() == [[29, 0, 30, 1], [3, 2, 9, 5], [20, 10, 22, 18]]
    assert found.heights.tolist() == [1, 3, 8]
    expected = [ink[0, 29], ink[2:5, 3:9].sum(), ink[10:18, 20:22].sum()]
    np.testing.assert_allclose(found.sums(ink), expected, rtol=1e-5)
    chosen = found.mask(np.array([True, False, True]))
    assert chosen.sum() == 1 + 16
    assert chosen[0, 29]
    assert chosen[10:18, 20:22].all()


def test_groups_of_pairs_have_their_lowest_member():
    pairs = np.array([(9, 8), (8, 7), (7, 2), (0, 5), (5, 6), (3, 3)])
    assert unite(10, *pairs.T).tolist() == [0, 1, 2, 3, 4, 0, 0, 2, 2, 2]
    assert unite(3, pairs[:0, 0], pairs[:0, 1]).tolist() == [0, 1, 2]
