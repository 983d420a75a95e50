"""Lines of the paper, cuts, and what belongs to a digit, on drawn strokes and by plain computations of the same."""

import numpy as np
import pytest

from mnist_edge.errors import ImageFormatError
from mnist_edge.images import cleaning, cuts, lines, rules
from mnist_edge.images.components import label
from tests.paper import stripe


def random_mask(shape, share=0.5):
    return np.random.default_rng(shape).random(shape) < share


def ring(height, width, pen):
    mask = np.ones((height, width), bool)
    mask[pen:-pen, pen:-pen] = False
    return mask


def ellipse(height, width, pen):
    y, x = np.mgrid[:height, :width]
    away = np.hypot((y - (height - 1) / 2) / (height / 2), (x - (width - 1) / 2) / (width / 2))
    inner = np.hypot((y - (height - 1) / 2) / (height / 2 - pen), (x - (width - 1) / 2) / (width / 2 - pen))
    return (away <= 1) & (inner > 1)


# Lines of the paper


@pytest.mark.parametrize("length", [1, 2, 4, 9, 10])
def test_tall_runs(length):
    mask = random_mask((9, 14), 0.8)
    expected = np.zeros_like(mask)
    for top in range(len(mask) - length + 1):
        expected[top : top + length] |= mask[top : top + length].all(axis=0)
    np.testing.assert_array_equal(rules.tall(mask, length), expected)


@pytest.mark.parametrize(
    "rule", [rules.Rule(0.1, 20, 3, 40, 80), rules.Rule(-0.15, 25, 2, 0, 119), rules.Rule(0, 9, 2, 0, 60)]
)
def test_the_pixels_of_a_line(rule):
    found = rules.covered((50, 120), [rule], 1.25)
    further = 2 + 6  # of 120 columns
    for row, column in np.ndindex(50, 120):
        near = abs(row - rule.height - rule.slope * column) <= rule.thickness / 2 + 1.25
        assert found[row, column] == (near and rule.first - further <= column <= rule.last + further)


@pytest.mark.parametrize("angle", [-10, -4, 0, 0.7, 6])
@pytest.mark.parametrize("thickness", [1, 3, 6])
def test_a_line_is_found_where_it_is(angle, thickness):
    mask = stripe((160, 200), (80, 100), angle, thickness) > 0.5
    mask[:, :30] = mask[:, 180:] = False
    (found,) = rules.along_rows(mask)
    assert found.slope == pytest.approx(np.tan(np.radians(angle)), abs=0.01)
    assert found.at(100) == pytest.approx(80, abs=0.75)
    assert found.thickness == pytest.approx(thickness, abs=1)
    assert (found.first, found.last) == pytest.approx((30, 179), abs=1)
    assert found.length == found.last - found.first + 1


def test_parallel_lines_and_one_across():
    mask = np.zeros((200, 240), bool)
    for row in (30, 70, 110, 150):
        mask |= stripe(mask.shape, (row, 120), 3, 2) > 0.5
    mask |= stripe(mask.shape, (90, 120), -7, 2) > 0.5
    found = rules.along_rows(mask)
    assert sorted(rule.at(120) for rule in found) == pytest.approx([30, 70, 90, 110, 150], abs=1)
    assert rules.along_rows(mask.T) == []


@pytest.mark.parametrize(
    "mask",
    [
        stripe((160, 200), (80, 100), 20, 3) > 0.5,  # too steep
        stripe((160, 200), (80, 100), 0, 16) > 0.5,  # too thick
        (stripe((160, 200), (80, 100), 0, 3) > 0.5) & (np.arange(200) < 70),  # too short
        (stripe((160, 200), (80, 100), 0, 3) > 0.5) & (np.arange(200) % 5 < 3),  # dashes
        (stripe((160, 200), (80, 100), 0, 3) > 0.5) & (np.arange(200) % 70 < 55),  # in pieces
        random_mask((600, 300)),
        np.zeros((20, 30), bool),
    ],
)
def test_what_is_no_line(mask):
    assert rules.along_rows(mask) == []


def test_a_texture_has_more_than_a_hundred_runs_in_a_column():
    mask = np.zeros((201, 60), bool)
    mask[::2] = True
    assert rules.along_rows(mask) == []
    assert rules.along_rows(mask[:-1]) != []


def test_lines_of_the_paper_are_clear_of_the_rest():
    rest = np.zeros((140, 200), bool)
    rest[30:70, 80:110] = True
    across = rules.Rule(0.0, 85.0, 3.0, 0, 199)
    assert rules._is_papers(across, rest, [], 0)
    assert not rules._is_papers(across, np.zeros_like(rest), [], 0)
    # Loose ends: 1.8 times as long as the rest is high, and three pixels away from it
    assert rules._is_papers(rules.Rule(0.0, 85.0, 3.0, 60, 131), rest, [], 0)
    assert not rules._is_papers(rules.Rule(0.0, 85.0, 3.0, 60, 130), rest, [], 0)
    for height, clear in ((75, True), (74, True), (73, False)):
        assert rules._is_papers(rules.Rule(0.0, height, 3.0, 50, 150), rest, [], 0) is clear
    assert not rules._is_papers(rules.Rule(0.0, 75.0, 3.0, 50, 150), rest, [], 0.2)
    # From border to border, or to lines across: 1.15 times as long, and past both sides
    sides = [rules.Rule(0.0, left, 2.0, 0, 99) for left in (70.0, 116.0)]
    assert rules._is_papers(rules.Rule(0.0, 72.0, 3.0, 71, 116), rest, sides, 0)
    assert not rules._is_papers(rules.Rule(0.0, 72.0, 3.0, 73, 117), rest, sides, 0)
    assert not rules._is_papers(rules.Rule(0.0, 72.0, 3.0, 79, 199), rest, [], 0)
    assert not rules._is_papers(rules.Rule(0.0, 72.0, 3.0, 0, 109), rest, [], 0)
    assert rules._is_papers(rules.Rule(0.0, 135.0, 3.0, 70, 120), rest, [], 0)  # along the border
    assert not rules._is_papers(rules.Rule(0.0, 120.0, 3.0, 70, 120), rest, [], 0)
    # A stroke that ends at something is no line
    for row, column in ((85, 6), (85, 192), (3, 6), (3, 192)):
        joined = rest.copy()
        joined[row + 3, column : column + 2] = True
        assert not rules._is_papers(rules.Rule(0.0, row, 3.0, 4, 195), joined, [], 0)


@pytest.mark.parametrize(("length", "found"), [(79, 0), (80, 1), (81, 1)])
def test_a_line_has_two_fifths_of_the_side(length, found):
    mask = np.zeros((160, 200), bool)
    mask[80:83, 10 : 10 + length] = True
    mask[20, :40] = True  # more runs, of no line that is long enough
    assert len(rules.along_rows(mask)) == found


def test_small_gaps_do_not_end_a_line():
    mask = stripe((160, 200), (80, 100), 0, 3) > 0.5
    mask[:, 50:55] = mask[:, 120:124] = False
    (found,) = rules.along_rows(mask)
    assert (found.first, found.last) == (0, 199)
    mask[:, 50:57] = False  # more than 3 % of the side
    (found,) = rules.along_rows(mask)
    assert (found.first, found.last) == (57, 199)


def test_the_fit_is_that_of_least_squares():
    rng = np.random.default_rng(0)
    columns = np.arange(60.0)
    rows = 12 + 0.08 * columns + rng.uniform(-0.4, 0.4, 60)
    runs = np.stack([columns, rows, np.full(60, 2.0)], axis=1)
    far = np.array([[5, 60, 1], [50, 2, 1]])
    found = rules._fitted(np.concatenate([runs, far]), 0.07, 12.5, 3)
    assert found == pytest.approx(tuple(np.polyfit(columns, rows, 1)))
    assert rules._fitted(runs[:2], 0.07, 12.5, 3) is None
    assert rules._fitted(runs[:3], 0.07, 12.5, 3) is not None


def test_short_runs():
    mask = random_mask((12, 9), 0.6)
    expected = []
    for column, pixels in enumerate(mask.T):
        edges = np.flatnonzero(np.diff(np.r_[0, pixels.astype(int), 0]))
        expected += [
            (column, (a + b - 1) / 2, b - a) for a, b in zip(edges[::2], edges[1::2], strict=True) if b - a <= 3
        ]
    assert rules._short_runs(mask, 3).tolist() == [list(run) for run in expected]


def page(marks):
    digits = np.zeros((150, 400), bool)
    for left in (40, 140, 240, 320):
        digits[45:105, left : left + 40] = ellipse(60, 40, 6)
    digits[45:105, 210:216] = True  # a one
    return digits, digits | marks


def ruled(*rows):
    mask = np.zeros((150, 400), bool)
    for row in rows:
        mask[row : row + 2] = True
    return mask


def boxes(thick=2):
    mask = ruled(30, 120)
    mask[:30] = mask[122:] = False
    for left in range(10, 400, 95):
        mask[30:122, left : left + thick] = True
    mask[:, :10] = mask[:, 390 + thick :] = False
    return mask


def with_a_margin():
    mask = ruled(30, 120)
    mask[:, 20:22] = True
    return mask


@pytest.mark.parametrize(
    "marks",
    [ruled(30, 120), ruled(75), boxes(), boxes(4), with_a_margin()],
    ids=["ruled", "through", "boxes", "boxes with thick sides", "margin"],
)
def test_the_paper_of_several_digits(marks):
    digits, mask = page(marks)
    taken = rules.under_many(mask)
    assert taken[marks & ~digits].mean() > 0.97
    assert taken[digits].mean() < 0.05


def test_digits_alone_are_no_paper():
    digits, _ = page(False)
    assert not rules.under_many(digits).any()
    assert not rules.of_the_paper(digits[:, 30:90]).any()


def test_a_stroke_that_crosses_a_line_stays():
    mask = np.zeros((60, 120), bool)
    line = rules.Rule(0.0, 30.0, 2.0, 0, 119)
    mask[29:32] = mask[5:55, 50:54] = True
    taken = rules.taken(mask, [line], [])
    assert not taken[5:55, 50:54].any()
    assert taken[29:32, :50].all()
    assert taken[29:32, 54:].all()
    np.testing.assert_array_equal(rules.taken(mask.T, [], [line]), taken.T)


# Cuts


@pytest.mark.parametrize("share", [0.1, 0.4, 0.8])
@pytest.mark.parametrize("slant", [-0.2, 0, 0.2, 0.4, 0.6])
def test_every_cut_has_the_score_of_its_parts(share, slant):
    mask, usual = random_mask((9, 14), share), 8.0
    shifts = np.round(slant * np.arange(len(mask))).astype(int)
    shifts -= shifts.min()
    upright = np.zeros((len(mask), mask.shape[1] + shifts.max()), bool)
    for row, (pixels, shift) in enumerate(zip(mask, shifts, strict=True)):
        upright[row, shift : shift + len(pixels)] = pixels
    without_width = [score_of(upright, column, usual) for column in range(1, upright.shape[1])]
    np.testing.assert_allclose(cuts._scores(upright, usual), without_width)
    scores = [mask.shape[1] / usual + score for score in without_width]
    score, column, found = cuts._best(mask, cuts._shifts(len(mask), slant), usual)
    assert found.tolist() == shifts.tolist()
    assert score == pytest.approx(max(scores))
    assert column == 1 + int(np.argmax(scores))


@pytest.mark.parametrize("share", [0.03, 0.1, 0.3])
def test_the_sizes_of_parts(share):
    mask = random_mask((15, 18), share)
    inked = np.flatnonzero(mask.any(axis=0))
    widths, heights = cuts._sizes(mask)
    for column in range(inked[0] + 1, inked[-1] + 1):
        parts = mask[:, :column], mask[:, column:]
        assert widths[column - 1] == min(column - inked[0], inked[-1] + 1 - column)
        assert heights[column - 1] == min(np.ptp(np.flatnonzero(part.any(axis=1))) + 1 for part in parts)


def score_of(mask, column, usual):
    """As `mnist_edge.images.cuts` describes it, without the group's width."""
    parts = mask[:, :column], mask[:, column:]
    if not all(part.any() for part in parts):
        return -np.inf
    inked = np.flatnonzero(mask.any(axis=0))
    narrower = min(column - inked[0], inked[-1] + 1 - column)
    lower = min(np.ptp(np.flatnonzero(part.any(axis=1))) + 1 for part in parts)
    if lower < 0.45 * usual:
        return -np.inf
    facing, through = 0.0, []
    for row, (left, right) in enumerate(zip(*parts, strict=True)):
        if left.any() and right.any():
            gap = np.flatnonzero(right)[0] + column - np.flatnonzero(left)[-1] - 1
            if gap == 0:
                through.append(row)
            else:
                facing += max(0, 1 - gap / (0.3 * usual))
    inside = through[-1] - through[0] + 1 - len(through) if through else 0
    score = min(narrower / usual, 0.65) + 2 * min(lower / usual, 0.9)
    return score + (3 * facing - inside) / usual


@pytest.mark.parametrize("times", [1, 4])
def test_two_that_touch_are_cut_between_them(times):
    two = np.zeros((40, 60), bool)
    two[:, :30], two[:, 30:] = ellipse(40, 30, 5), ellipse(40, 30, 5)
    two[18:22, 28:32] = True
    two = np.kron(two, np.ones((times, times), bool))
    path = cuts.cut(two, 40 * times)
    assert path.tolist() == pytest.approx([30 * times] * len(two), abs=2 * times)


@pytest.mark.parametrize("size", [(40, 30), (40, 44), (100, 60), (18, 60)])
def test_one_is_not_cut(size):
    assert cuts.cut(ellipse(*size, 5), 40) is None


# What belongs to a digit


def test_outlines():
    mask = np.zeros((100, 120), bool)
    mask[10:90, 10:110] = ring(80, 100, 2)
    mask[40:60, 40:60] = True  # filled
    mask[20:80, 70:74] = mask[76:80, 70:100] = True  # an L: one corner is empty
    mask[97:99, 20:110] = True  # along the border
    mask[2:6, 2:6] = True  # a speck, small
    found = label(mask)
    expected = {(10, 10, 110, 90): True, (40, 40, 60, 60): False, (70, 20, 100, 80): False}
    expected |= {(20, 97, 110, 99): True, (2, 2, 6, 6): False}
    assert dict(zip(map(tuple, found.boxes.tolist()), cleaning.outlines(found).tolist(), strict=True)) == expected


def test_one_corner_of_an_outline_may_be_missing():
    mask = np.zeros((100, 120), bool)
    mask[20:80, 20:100] = ring(60, 80, 2)
    mask[20:40, 20:40] = False
    assert cleaning.outlines(label(mask)).tolist() == [True]


def test_narrow_and_small_outlines():
    mask = np.zeros((100, 30), bool)
    mask[10:90, 8:15] = ring(80, 7, 1)  # margins of at least a pixel
    mask[10:14, 20:26] = ring(4, 6, 1)
    assert cleaning.outlines(label(mask)).tolist() == [True, False]


def test_a_round_zero_is_no_outline():
    mask = np.zeros((100, 100), bool)
    mask[20:80, 30:70] = ellipse(60, 40, 6)
    assert not cleaning.outlines(label(mask)).any()


@pytest.mark.parametrize(
    ("box", "share", "belongs"),
    [
        ((64, 10, 70, 30), 0.1, True),  # 20 beside 40: half
        ((65, 10, 70, 30), 0.1, False),
        ((64, 10, 70, 30), 0.09, False),
        ((20, 70, 40, 80), 0.1, True),
        ((20, 71, 40, 80), 0.1, False),
        ((57, 10, 70, 30), 0.03, False),  # a third of that, for less ink
        ((52, 10, 70, 30), 0.03, False),
        ((50, 10, 70, 30), 0.03, True),
        ((50, 10, 70, 30), 0.02, False),
        ((0, 10, 3, 30), 0.1, True),
        ((-9, 10, -1, 30), 0.1, False),
        ((20, -6, 40, -1), 0.1, True),
        ((20, -26, 40, -11), 0.1, False),
    ],
)
def test_pieces_are_near_and_have_ink(box, share, belongs):
    boxes = np.array([(20, 10, 44, 50), box])
    assert cleaning.belongs(boxes, np.array([1.0, share]), 0).tolist() == [True, belongs]


TALL, SHORT = (20, 10, 40, 50), (20, 10, 40, 30)


@pytest.mark.parametrize(
    ("one", "other", "one_of_many", "one_alone"),
    [
        (SHORT, (22, 46, 38, 50), True, True),  # below, across a gap of 0.4 · 40
        (SHORT, (22, 47, 38, 51), False, False),
        (TALL, (22, 52, 38, 62), True, True),  # together 1.3 · 40 high
        (TALL, (22, 52, 38, 63), False, True),
        (TALL, (22, 52, 38, 99), False, False),  # more than 2.2 · 40
        (SHORT, (30, 32, 60, 36), True, True),  # half of the narrower one lies below the other
        (TALL, (44, 12, 60, 30), True, True),  # short, and nearly touches
        (TALL, (46, 12, 60, 30), False, False),  # not so near
        (TALL, (42, 12, 60, 50), False, False),  # tall: another digit
        (TALL, (42, 36, 60, 66), False, True),  # tall, but hardly beside one another
        (TALL, (42, 34, 60, 60), False, False),
    ],
)
def test_pieces_of_one_digit(one, other, one_of_many, one_alone):
    for boxes in (np.array([one, other]), np.array([other, one])):
        assert cleaning.merged(boxes, 40).tolist() == [0, 0 if one_of_many else 1]
        assert cleaning.merged(boxes, 40, single=True).tolist() == [0, 0 if one_alone else 1]


def strokes_of(*parts):
    mask = np.zeros((100, 200), bool)
    for top, bottom, left, right in parts:
        mask[top:bottom, left:right] = True
    return mask, mask.astype(np.float32)


ONE, BESIDE = (20, 80, 50, 60), (25, 80, 110, 119)


@pytest.mark.parametrize(
    ("parts", "kept", "count"),
    [
        ([ONE], [ONE], 1),
        ([ONE, BESIDE], [ONE], 2),
        ([ONE, (40, 44, 110, 114)], [ONE], 1),  # a speck, far away
        ([ONE, (20, 24, 64, 76)], [ONE, (20, 24, 64, 76)], 1),  # a flag
        ([ONE, BESIDE, (25, 80, 150, 158)], [ONE], 3),
        ([(18, 80, 50, 57), (20, 80, 70, 82)], [(20, 80, 70, 82)], 2),  # the first is the lighter one
        ([ONE, (20, 50, 110, 112), (51, 81, 110, 112)], [ONE], 2),  # pieces of a tenth, together a fifth
        ([ONE, (20, 50, 110, 112), (51, 80, 110, 112)], [ONE], 1),
        ([(97, 99, 10, 190), ONE], [ONE], 1),  # a line along the border
        ([ONE, (25, 64, 110, 119)], [ONE], 2),  # 0.65 times as tall
        ([ONE, (25, 63, 110, 119)], [ONE], 1),
        ([(20, 40, left, left + 4) for left in (10, 60, 110, 160)], [(20, 40, 10, 14)], 4),  # a quarter of the ink
        ([(20, 40, left, left + 4) for left in (10, 50, 90, 130, 170)], [], 0),
    ],
)
def test_the_digit_of_a_picture(parts, kept, count):
    mask, ink = strokes_of(*parts)
    found, digits = cleaning.digit(mask, ink)
    np.testing.assert_array_equal(found, strokes_of(*kept)[0])
    assert digits == count


def test_dirt_alone_is_no_digit():
    mask = np.zeros((200, 200), bool)
    mask[::8, ::8] = True
    found, digits = cleaning.digit(mask, mask.astype(np.float32))
    assert not found.any()
    assert digits == 0


# Several digits


def written(shape, *places, scale=1):
    picture = np.full(shape, 230, np.uint8)
    for top, left in places:
        picture[top : top + 40 * scale, left : left + 6 * scale] = 20
        picture[top + 34 * scale : top + 40 * scale, left : left + 24 * scale] = 20
    return picture


def test_boxes_on_a_sheet_are_those_of_the_picture():
    picture = np.full((300, 500), 70, np.uint8)
    picture[60:240, 80:440] = written((180, 360), (70, 60), (70, 140), (70, 240))
    found = lines.find_digits(picture)
    expected = [(80 + left, 130, 80 + left + 24, 170) for left in (60, 140, 240)]
    assert [digit.box for digit in found] == [pytest.approx(box, abs=2) for box in expected]


@pytest.mark.parametrize("scale", [1, 14])
def test_boxes_of_reduced_and_of_enlarged_pictures(scale):
    small = written((60, 130), (10, 15), (12, 55), (8, 95))
    picture = np.kron(small, np.ones((scale, scale), np.uint8)) if scale > 1 else small
    found = lines.find_digits(picture)
    expected = [
        (scale * left, scale * top, scale * (left + 24), scale * (top + 40))
        for top, left in ((10, 15), (12, 55), (8, 95))
    ]
    assert [digit.box for digit in found] == [pytest.approx(box, abs=2 * scale) for box in expected]


def test_pictures_up_to_1600_pixels_are_not_reduced():
    (found,) = lines.find_digits(written((60, 1600), (10, 15)))
    assert found.box == (15, 10, 39, 50)


def test_three_that_touch_are_three():
    picture = np.full((120, 200), 230, np.uint8)
    for number in range(3):
        picture[30:90, 40 + 42 * number : 82 + 42 * number][ellipse(60, 42, 7)] = 20
    picture[58:62, 80:84] = picture[58:62, 122:126] = 20
    found = lines.find_digits(picture)
    expected = [(40 + 42 * number, 30, 82 + 42 * number, 90) for number in range(3)]
    assert [digit.box for digit in found] == [pytest.approx(box, abs=4) for box in expected]


def test_lines_are_told_apart_and_slant():
    places = [(20, 20), (26, 70), (32, 120), (38, 170), (90, 30), (96, 80), (102, 130)]
    found = lines.find_digits(written((180, 260), *places))
    assert [digit.line for digit in found] == [0, 0, 0, 0, 1, 1, 1]
    assert [digit.box[0] for digit in found] == pytest.approx([left for _, left in places], abs=2)


def test_bounds_on_marks():
    lines._require_few(2000)
    with pytest.raises(ImageFormatError, match="2,001 marks that could be digits"):
        lines._require_few(2001)
    lines._require_apart([(2, 3, 12, 13)] * 8, 100)
    with pytest.raises(ImageFormatError, match="9 marks around one another: crop it to the digits"):
        lines._require_apart([(2, 3, 12, 13)] * 9, 100)


def test_rows_of_boxes():
    boxes = {7: (50, 12, 60, 40), 3: (10, 10, 20, 42), 5: (12, 60, 22, 95), 9: (90, 14, 99, 39), 4: (60, 58, 70, 96)}
    assert [[number for number, _ in row] for row in lines._rows(boxes)] == [[3, 7, 9], [5, 4]]
    boxes = {0: (90, 10, 99, 40), 1: (0, 60, 9, 95)}  # the upper line begins further to the right
    assert [[number for number, _ in row] for row in lines._rows(boxes)] == [[0], [1]]
    assert lines._beside((0, 10, 5, 50), (9, 30, 12, 40)) == 1
    assert lines._beside((0, 10, 5, 50), (9, 45, 12, 65)) == pytest.approx(5 / 20)
    assert lines._scaled((1, 2, 3, 5), 0.4, (60, 1)) == (0, 0, 1, 2)
