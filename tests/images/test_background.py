"""Background, gradient, polarity, ink and sheets, on pictures whose parts are known because they are put together."""

import numpy as np
import pytest
from numpy.lib.stride_tricks import sliding_window_view

from mnist_edge.images import background, ink, sheets

HEIGHT, WIDTH = 80, 96


def ell(*, top=20, left=30, tall=40, wide=26, pen=6):
    mask = np.zeros((HEIGHT, WIDTH), bool)
    mask[top : top + tall, left : left + pen] = mask[top + tall - pen : top + tall, left : left + wide] = True
    return mask


def light_from_aside(shape=(HEIGHT, WIDTH)):
    y, x = np.linspace(-1, 1, shape[0])[:, None], np.linspace(-1, 1, shape[1])[None]
    return (150 + 60 * x - 30 * y + 20 * x * y - 15 * x * x + 8 * y * y).astype(np.float32)


def test_the_background_of_light_ink_is_an_opening():
    picture = np.random.default_rng(0).uniform(0, 255, (24, 30)).astype(np.float32)
    radius = 6  # a quarter of the shorter side
    smooth = sliding_window_view(np.pad(picture, 1, mode="edge"), (3, 3)).mean(axis=(2, 3))

    def over_squares(values, choose):
        return choose(sliding_window_view(values, (2 * radius + 1,) * 2), axis=(2, 3))

    padded = np.pad(smooth, radius // 2, mode="edge")
    eroded = over_squares(np.pad(padded, radius, constant_values=np.inf), np.min)
    expected = over_squares(np.pad(eroded, radius, constant_values=-np.inf), np.max)
    np.testing.assert_allclose(background.opened(picture), expected[3:-3, 3:-3], atol=1e-3)


@pytest.mark.parametrize(
    ("shape", "longest", "small"),
    [((80, 96), 96, (80, 96)), ((80, 97), 96, (80, 96)), ((200, 50), 100, (100, 25)), ((3, 960), 96, (1, 96))],
)
def test_reduced(shape, longest, small):
    assert background.reduced(np.zeros(shape, np.float32), longest).shape == small


@pytest.mark.parametrize("dark", [False, True])
@pytest.mark.parametrize("known", [False, True])
def test_the_gradient_of_the_light_is_subtracted(dark, known):
    light = light_from_aside()
    picture = light + np.where(ell(), -70 if dark else 70, 0).astype(np.float32)
    flat, found = background.explained(picture, dark if known else None)
    assert found is dark
    assert np.ptp(flat[~ell()]) < 10  # the light alone varies by more than 150
    assert flat[ell()].mean() - flat[~ell()].mean() == pytest.approx(-70 if dark else 70, abs=4)


def test_an_even_picture_stays_as_it_is():
    picture = np.where(ell(), 40, 200).astype(np.float32)
    assert background.explained(picture)[0] is picture
    assert background.explained(picture, dark=False) == (picture, False)


def test_the_surface_is_the_least_squares_one():
    light = light_from_aside(shape=(20, background.THUMBNAIL))  # not reduced
    light[4:12, 5] += 90  # ink is passed over
    found = background._gradient(light)
    assert found == pytest.approx([150, 60, -30, -15, 20, 8], abs=0.5)
    assert background._surface(found, (3, 2)) == pytest.approx(light_from_aside(shape=(3, 2)), abs=2)
    assert background._gradient(np.full((HEIGHT, WIDTH), 90, np.float32)) is None
    assert background._gradient(np.random.default_rng(0).uniform(0, 255, (HEIGHT, WIDTH)).astype(np.float32)) is None


def test_normal_equations_are_solved():
    factors = np.random.default_rng(0).normal(size=(20, 6))
    matrix, right = factors.T @ factors, np.arange(6) - 2.5
    found = background._solved([*matrix[np.triu_indices(6)], *right])
    np.testing.assert_allclose(found, np.linalg.solve(matrix + 1e-4 * np.eye(6), right), rtol=1e-9)


@pytest.mark.parametrize("seed", range(4))
def test_otsus_threshold(seed):
    rng = np.random.default_rng(seed)
    picture = np.concatenate([rng.normal(60, 12, 900), rng.normal(170, 20, 300)]).round().clip(0, 255)
    picture[:2] = 0, 255
    parted = [(picture[picture <= level], picture[picture > level]) for level in range(255)]
    low, high = max(parted, key=lambda two: len(two[0]) * len(two[1]) * (two[0].mean() - two[1].mean()) ** 2)
    found = background.two_levels(picture.astype(np.float32).reshape(30, 40))
    assert found == pytest.approx((low.mean(), high.mean()), abs=1e-3)
    assert background.two_levels(np.full((3, 3), 7, np.float32)) == (7, 7)


def test_costs_are_ink_and_variation():
    mask = ell()
    costs = background._costs(np.where(mask, 100, 0).astype(np.float32))
    assert costs[0] == pytest.approx(100 * mask.mean(), rel=0.2)  # light ink on an even background
    assert costs[1] > 2 * costs[0]
    assert background.cost(np.where(mask, 100, 0).astype(np.float32)) == costs[0]
    assert background._costs(np.where(mask, 0, 100).astype(np.float32)) == pytest.approx(costs[::-1])


def test_an_edge_costs_six_pixels_for_each_of_its_length():
    view = np.where(np.arange(WIDTH) < 48, 0, 100) * np.ones((HEIGHT, 1), np.float32)
    blurred = HEIGHT * (100 / 3 + 100 / 3)  # next to the edge the mean over 3×3 pixels is off by a third
    expected = (blurred + 6 * HEIGHT * 100) / view.size
    assert background._costs(view) == pytest.approx((expected, expected), rel=1e-3)


def test_the_border():
    light = np.zeros((40, 50), bool)
    light[0] = True
    outermost = [light[row, column] for row, column in np.ndindex(40, 50) if row in (0, 39) or column in (0, 49)]
    assert background.border(light) == pytest.approx(np.mean(outermost), abs=0.02)
    assert background._border_share(light) == 0
    assert background._border_share(~light) == 1
    framed = np.ones((40, 50), bool)
    framed[3:-3, 3:-3] = False
    assert background._border_share(framed) == background._border_share(~framed) == 0.5
    assert background._border_share(framed[:24]) == background.border(framed[:24])


def test_unevenness_is_the_greatest_distance_per_area():
    mask = np.random.default_rng(0).random((9, 12)) < 0.8
    outside = np.argwhere(~mask)
    distances = [abs(outside - place).sum(axis=1).min() for place in np.argwhere(mask)]
    assert background._unevenness(mask) == max(distances) / mask.sum()
    assert background._unevenness(np.zeros((4, 5), bool)) == 1


@pytest.mark.parametrize("dark", [False, True])
def test_ink_is_found_whole(dark):
    rng, mask = np.random.default_rng(0), ell()
    contrast = -120 if dark else 120
    picture = (140 + np.where(mask, contrast, 0) + rng.normal(0, 2, mask.shape)).astype(np.float32)
    found = ink.find_ink(picture)
    assert found.dark is dark
    assert found.full == pytest.approx(120, rel=0.15)
    assert (found.strokes(found.marks) == mask).mean() > 0.995
    assert 0 < found.faintest < 0.5 * found.full
    assert (found.values[~mask] == 0).mean() == pytest.approx(0.84, abs=0.06)  # noise below one standard deviation


@pytest.mark.parametrize("sigma", [5, 12])
def test_the_noise_is_measured(sigma):
    noise = np.random.default_rng(0).normal(0, sigma, (HEIGHT, WIDTH)).astype(np.float32)
    assert ink._noise(noise) == pytest.approx(sigma, rel=0.1)
    assert all(ink._grain(noise, lag) == pytest.approx(sigma, rel=0.1) for lag in (3, 12))
    found = ink.find_ink((128 + noise).astype(np.float32))
    assert found.full == 0
    assert not found.values.any()
    assert not found.marks.any()


@pytest.mark.parametrize(("faint", "counts"), [(4, False), (14, True)])
def test_ink_must_stand_out(faint, counts):
    found = ink.find_ink(np.where(ell(), 128 - faint, 128).astype(np.float32))
    assert (found.full > 0) is counts


def test_in_a_shadow_ink_keeps_its_weight():
    mask = ell()
    light = np.where(np.arange(WIDTH) < 45, 1.0, 0.55) * np.ones((HEIGHT, 1))
    found = ink.find_ink((np.where(mask, 40, 220) * light).astype(np.float32))
    inside = mask & (np.abs(np.arange(WIDTH) - 45) > 6)
    assert found.dark
    assert found.values[inside].min() > 0.6 * found.full
    assert found.strokes(found.marks)[:, 60:].mean() < 0.02


@pytest.mark.parametrize(("light", "factor"), [(0.3, 2.0), (1.0, 1.0)])
def test_ink_in_a_shadow_is_raised_to_at_most_twice_its_contrast(light, factor):
    mask = ell(left=10, wide=20) | ell(left=70, wide=20)
    brightness = np.where(np.arange(WIDTH) < 60, 1.0, light) * np.ones((HEIGHT, 1))
    found = ink.find_ink((np.where(mask, 100, 240) * brightness).astype(np.float32))
    lit, dark = (found.values[25:50, left + 1 : left + 5].mean() for left in (10, 70))
    assert lit == pytest.approx(140, rel=0.03)
    assert dark == pytest.approx(140 * light * factor, rel=0.03)


@pytest.mark.parametrize(("shape", "few"), [((30, 40), 3), ((99, 1010), 8), ((100, 1010), 9)])
def test_a_few_hot_pixels_are_ignored(shape, few):
    values = np.full(shape, 100, np.float32)
    values.flat[:few] = 180
    assert ink._full(values) == 100
    values.flat[few] = 180  # at least four, and one in ten thousand
    assert ink._full(values) == 180


def test_means_of_what_is_near():
    picture = np.zeros((40, 40), np.float32)
    picture[20, 20] = 121
    (near,) = ink._nearby(picture)  # within a radius of an eighth of the side
    assert near[15:26, 15:26] == pytest.approx(1)
    assert near.sum() == pytest.approx(121)
    wide, tall = np.zeros((40, 80), np.float32), np.zeros((80, 40), np.float32)
    wide[20, 40] = tall[40, 20] = 121
    for near in (*ink._nearby(wide), *ink._nearby(tall)):
        assert near.max() == pytest.approx(1)
    (small,) = ink._nearby(picture[18:23, 18:23])  # at least one
    assert small[1:4, 1:4] == pytest.approx(np.full((3, 3), 121 / 9))


def test_a_stroke_may_fade_and_faint_dirt_is_none():
    mask, picture = ell(), np.full((HEIGHT, WIDTH), 230.0, np.float32)
    picture[mask] = 30
    picture[60:66, 30:38] = 30
    fading = np.zeros_like(mask)
    fading[20:26, 36:52] = True
    picture[fading] = 230 - 0.33 * 200
    dirt = np.zeros_like(mask)
    dirt[30:36, 70:80] = True
    picture[dirt] = 230 - 0.33 * 200
    found = ink.find_ink(picture)
    strokes = found.strokes(found.marks)
    assert found.marks[dirt].mean() > 0.5
    assert not strokes[dirt].any()
    assert strokes[20:26, 40:50].all()


@pytest.mark.parametrize("light", [False, True])
@pytest.mark.parametrize("times", [1, 3])
def test_a_sheet_on_a_table(light, times):
    table, paper = (60, 220) if light else (200, 90)
    picture = np.full((100, 140), table, np.float32)
    picture[20:90, 30:120] = paper
    left, top, right, bottom = sheets.sheet_of(np.kron(picture, np.ones((times, times), np.float32)))
    for found, edge in ((left, 30), (top, 20), (-right, -120), (-bottom, -90)):
        assert 0 < found - times * edge <= times * 8  # within the sheet, by about its rim


def rectangle(top, bottom, left, right, shape=(100, 140)):
    picture = np.full(shape, 60, np.float32)
    picture[top:bottom, left:right] = 220
    return picture


NO_SHEETS = {
    "of a few pixels": rectangle(20, 50, 10, 50, (60, 60)),
    "a small rectangle": rectangle(40, 60, 40, 70),
    "a narrow one": rectangle(40, 60, 0, 140),
    "half a picture": rectangle(0, 100, 0, 70),
    "an even picture": np.full((100, 140), 9, np.float32),
    "a frame": np.where(rectangle(26, 84, 36, 114) > 100, 60, rectangle(20, 90, 30, 120)),
    "an L": np.maximum(rectangle(20, 90, 30, 60), rectangle(70, 90, 30, 120)),
}


@pytest.mark.parametrize("picture", NO_SHEETS.values(), ids=NO_SHEETS)
def test_what_is_no_sheet(picture):
    assert sheets.sheet_of(picture) is None


def test_a_sheet_without_its_rim():
    # One pixel and 4 % of the shorter side, 60
    assert sheets.sheet_of(rectangle(10, 70, 12, 84, (80, 96))) == (12 + 3, 10 + 3, 84 - 3, 70 - 3)


def test_ragged_edges_are_trimmed():
    mask = np.zeros((20, 30), bool)
    mask[4:16, 5:25] = True
    mask[4:10, 25] = True  # half as full as the fullest
    mask[4:9, 26:28] = mask[10:12, 2:5] = True
    assert sheets._trimmed(mask) == (5, 4, 26, 16)
    assert sheets._trimmed(mask.T) == (4, 5, 16, 26)


def test_about_2048_pixels_are_sampled():
    for shape, sampled in (((40, 50), (40, 50)), ((128, 160), (43, 54)), ((900, 900), (48, 48))):
        assert ink._sample(np.zeros(shape, np.float32)).shape == sampled


def test_a_sheet_in_a_corner_of_the_picture():
    assert sheets.sheet_of(rectangle(0, 70, 0, 90)) is not None
