"""Preprocessing files and arrays to 28×28, tested on drawn shapes: no data set, no torch."""

import io
import os
import struct
import subprocess
import sys

import numpy as np
import pytest
from PIL import Image

from mnist_edge import images
from mnist_edge.contract import Preprocessing
from mnist_edge.errors import ImageFormatError, ImageNotFoundError
from mnist_edge.images.components import label
from mnist_edge.images.cuts import cut
from mnist_edge.images.lines import find_digits
from tests.make_bundle import EXPECTED

HEIGHT, WIDTH = 60, 90


def ell(height=HEIGHT, width=WIDTH, *, top=10, left=20, tall=40, wide=24, pen=5):
    """An L-shaped mask, True where there is ink."""
    mask = np.zeros((height, width), bool)
    mask[top : top + tall, left : left + pen] = True
    mask[top + tall - pen : top + tall, left : left + wide] = True
    return mask


def encoded(image, form="PNG", **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return io.BytesIO(buffer.getvalue())


def dark_on_light(mask=None):
    return np.where(ell() if mask is None else mask, 20, 230).astype(np.uint8)


def assert_ell(framed):
    """The L is framed: its bar on the left, its foot at the bottom, 20 pixels high, centre of mass at 14.0."""
    assert framed.shape == (28, 28)
    assert framed.dtype == np.uint8
    ink = framed > 127
    rows, columns = np.flatnonzero(ink.any(1)), np.flatnonzero(ink.any(0))
    assert 19 <= np.ptp(rows) + 1 <= 21
    assert 11 <= np.ptp(columns) + 1 <= 13
    middle = (rows[0] + rows[-1]) // 2
    assert ink[rows[0] : rows[-1], columns[0] + 1].all()
    assert ink[rows[-1] - 1, columns[0] : columns[-1]].all()
    assert not ink[rows[0] : middle, columns[-1] - 4 :].any()
    values = framed.astype(float)
    assert [values.sum(axis) @ np.arange(28) / values.sum() for axis in (0, 1)] == pytest.approx([14, 14], abs=0.3)
    assert framed.max() >= 250
    assert framed[0].max() == framed[:, 0].max() == framed[:, -1].max() == 0


# Decoding


@pytest.mark.parametrize("mode", ["1", "L", "LA", "P", "RGB", "RGBA", "RGBX", "CMYK", "YCbCr", "HSV", "I", "F"])
def test_every_mode_keeps_its_greys(mode):
    grey = dark_on_light(ell()) if mode != "1" else np.where(ell(), 0, 255).astype(np.uint8)
    decoded = images.grey_scaled(Image.fromarray(grey).convert(mode), "it").pixels
    assert decoded.dtype == np.uint8
    np.testing.assert_allclose(decoded.astype(int), grey, atol=3)


@pytest.mark.parametrize("form", ["PNG", "BMP", "TIFF", "GIF", "PPM", "WEBP", "JPEG"])
def test_every_format_is_read(form):
    decoded = images.decode(encoded(Image.fromarray(dark_on_light()), form))
    assert abs(decoded.astype(int) - dark_on_light()).mean() < 4
    assert_ell(images.preprocess(decoded))


@pytest.mark.parametrize(("low", "high"), [(0, 65535), (4000, 61000)])
def test_16_bits_are_scaled(low, high):
    values = np.where(ell(), low, high).astype(np.uint16)
    np.testing.assert_allclose(images.decode(encoded(Image.fromarray(values))), values / 257, atol=1)


@pytest.mark.parametrize(
    ("low", "high", "white"), [(0, 4095, 4095), (0, 255, 255), (300, 900, 1023), (900, 1100, 4095), (9, 40000, 65535)]
)
def test_white_of_a_16_bit_picture_is_that_of_the_bits_it_uses(low, high, white):
    values = np.where(ell(), low, high).astype(np.uint16)
    decoded = images.decode(encoded(Image.fromarray(values), "TIFF"))
    np.testing.assert_array_equal(decoded, (values * (255 / white)).round())


@pytest.mark.parametrize("level", [0, 30_000, 65_500])
def test_the_noise_of_a_blank_16_bit_picture_is_no_ink(level):
    noise = np.random.default_rng(seed=0).integers(0, 8, (60, 60))
    decoded = images.decode(encoded(Image.fromarray((level + noise).astype(np.uint16)), "TIFF"))
    assert not images.preprocess(decoded, Preprocessing.MNIST).any()


def test_floats_within_0_and_1_are_shares_of_white():
    values = np.where(ell(), 0.2, 0.8).astype(np.float32)
    np.testing.assert_allclose(images.grey_scaled(Image.fromarray(values), "it").pixels, values * 255, atol=1)


@pytest.mark.parametrize("value", [-1.0, 1e9, float("nan"), float("inf")])
def test_impossible_floats_are_refused(value):
    with pytest.raises(ImageFormatError, match=r"it: F pixels beyond 0…65535: save it with 8 or 16 bits"):
        images.grey_scaled(Image.fromarray(np.full((9, 9), value, np.float32)), "it")


@pytest.mark.parametrize("hidden", [0, 255])
@pytest.mark.parametrize("ink", [0, 60, 128, 200, 255])
def test_ink_on_transparent_ground_is_seen(ink, hidden):
    mask = ell()
    grey = np.where(mask, ink, hidden).astype(np.uint8)
    image = Image.merge("LA", [Image.fromarray(grey), Image.fromarray(mask.astype(np.uint8) * 255)])
    assert_ell(images.preprocess(images.decode(encoded(image))))


def test_alpha_that_is_the_same_everywhere_says_nothing():
    for alpha in (0, 100, 255):
        image = Image.merge("LA", [Image.fromarray(dark_on_light()), Image.new("L", (WIDTH, HEIGHT), alpha)])
        np.testing.assert_array_equal(images.decode(encoded(image)), dark_on_light())


@pytest.mark.parametrize("form", ["GIF", "PNG"])
def test_a_transparent_palette(form):
    image = Image.fromarray(ell().astype(np.uint8)).convert("P")
    image.putpalette([0, 0, 0, 0, 0, 0])
    assert_ell(images.preprocess(images.decode(encoded(image, form, transparency=0))))


def test_colours_of_one_luminance_are_told_apart():
    colours = np.where(ell()[..., None], [220, 62, 55], [60, 140, 60]).astype(np.uint8)
    decoded = images.decode(encoded(Image.fromarray(colours))).astype(int)
    assert abs(decoded[ell()].mean() - decoded[~ell()].mean()) > 60
    assert_ell(images.preprocess(decoded.astype(np.uint8)))


@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
@pytest.mark.parametrize(
    ("orientation", "stored"),
    [
        (2, lambda upright: upright[:, ::-1]),
        (3, lambda upright: upright[::-1, ::-1]),
        (4, lambda upright: upright[::-1]),
        (5, lambda upright: upright.T),
        (6, np.rot90),
        (7, lambda upright: upright[::-1, ::-1].T),
        (8, lambda upright: np.rot90(upright, -1)),
    ],
)
def test_pictures_are_turned_as_exif_says(orientation, stored, form):
    exif = Image.Exif()
    exif[0x0112] = orientation
    picture = Image.fromarray(np.ascontiguousarray(stored(dark_on_light())))
    decoded = images.decode(encoded(picture, form, exif=exif))
    assert abs(decoded.astype(int) - dark_on_light()).mean() < 4


# Damage


def test_every_shortened_png_is_refused():
    whole = encoded(Image.fromarray(np.random.default_rng(0).integers(0, 255, (28, 28), np.uint8))).getvalue()
    for length in range(1, len(whole)):
        with pytest.raises(ImageFormatError, match=r"^the uploaded file: [^\n]*$"):
            images.decode(io.BytesIO(whole[:length]))


def test_a_png_whose_pixels_are_cut_short_is_refused():
    import zlib

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    rows = zlib.compress(b"".join(b"\0" + bytes(28) for _ in range(20)))  # 20 of 28 rows
    header = struct.pack(">IIBBBBB", 28, 28, 8, 0, 0, 0, 0)
    short = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", rows) + chunk(b"IEND", b"")
    with pytest.raises(ImageFormatError, match=r"cut short|truncated"):
        images.decode(io.BytesIO(short))


@pytest.mark.parametrize("form", ["JPEG", "BMP", "TIFF", "PPM", "WEBP"])
def test_half_a_file_is_refused(form):
    noise = Image.fromarray(np.random.default_rng(0).integers(0, 255, (64, 64), np.uint8))
    whole = encoded(noise, form).getvalue()
    with pytest.raises(ImageFormatError, match=r"(again|PNG or JPEG)$"):
        images.decode(io.BytesIO(whole[: len(whole) // 2]))


def test_what_cannot_be_read_is_named(tmp_path):
    with pytest.raises(ImageNotFoundError, match=r"nowhere.png: no such file"):
        images.decode(tmp_path / "nowhere.png")
    with pytest.raises(ImageFormatError, match="folder"):
        images.decode(tmp_path)
    with pytest.raises(ImageFormatError, match="scale the picture down"):
        images.grey_scaled(Image.new("1", (9000, 9000)), "it")


# Preprocessing


@pytest.mark.parametrize("scale", [1, 2, 7])
@pytest.mark.parametrize("light", [False, True])
def test_place_size_and_polarity(scale, light):
    grey = np.kron(dark_on_light(), np.ones((scale, scale), np.uint8))
    assert_ell(images.preprocess(255 - grey if light else grey))


@pytest.mark.parametrize("light", [False, True])
def test_uneven_light(light):
    slope = np.linspace(0.4, 1.0, 4 * WIDTH)
    grey = np.kron(dark_on_light(), np.ones((4, 4), np.uint8))
    picture = 90 * slope + (255 - grey) * 0.6 if light else grey * slope
    assert_ell(images.preprocess(picture.astype(np.uint8)))


def test_the_edge_of_a_shadow():
    grey = np.kron(dark_on_light(), np.ones((4, 4), np.uint8)).astype(float)
    grey[:, 120:] *= 0.5
    assert_ell(images.preprocess(grey.astype(np.uint8)))


def test_specks_and_frames_are_left_out():
    picture = np.kron(dark_on_light(), np.ones((4, 4), np.uint8))
    for y, x in [(20, 300), (200, 320), (225, 30), (8, 200)]:
        picture[y : y + 4, x : x + 4] = 0
    picture[:3], picture[-3:], picture[:, :3], picture[:, -3:] = 0, 0, 0, 0
    assert_ell(images.preprocess(picture))


def test_ink_that_touches_the_border():
    assert_ell(images.preprocess(dark_on_light(ell(50, 70, top=0, left=0))))
    assert_ell(images.preprocess(dark_on_light(ell(40, 60, top=0, left=0))))
    assert_ell(images.preprocess(dark_on_light(ell(70, 40, top=30, left=16))))


def test_a_far_corner_of_a_large_photograph():
    mask = ell(3000, 4000, top=2780, left=3800, tall=160, wide=96, pen=20)
    assert_ell(images.preprocess(dark_on_light(mask)))


def test_thin_and_thick_pens_come_near_mnists_weight():
    ink = {
        pen: images.preprocess(dark_on_light(ell(200, 200, tall=120, wide=72, pen=pen))).sum() / 255
        for pen in (2, 13, 26)
    }
    assert ink[2] == pytest.approx(ink[13], rel=0.25)  # 13 of 120 is MNIST's typical 2.2 of 20
    assert ink[26] < 1.7 * ink[13]


def test_a_detached_piece_stays():
    mask = ell()
    mask[28:31] = False
    assert_five = images.preprocess(dark_on_light(mask)) > 127
    assert np.ptp(np.flatnonzero(assert_five.any(1))) + 1 == pytest.approx(20, abs=1)


@pytest.mark.parametrize("size", [(28, 28), (8, 8), (1, 1), (1, 50), (300, 2), (100, 140)])
@pytest.mark.parametrize("value", [0, 120, 255])
def test_blank_pages_are_empty(size, value):
    framed = images.preprocess(np.full(size, value, np.uint8))
    assert framed.shape == (28, 28)
    assert not framed.any()


@pytest.mark.parametrize("size", [(60, 80), (100, 100), (300, 400), (1200, 900)])
@pytest.mark.parametrize("strength", [1, 3, 8, 20, 40])
@pytest.mark.parametrize("seed", range(4))
def test_noise_is_no_digit(size, strength, seed):
    noise = np.random.default_rng([seed, strength]).normal(128, strength, size).clip(0, 255)
    assert not images.preprocess(noise.astype(np.uint8)).any()


@pytest.mark.parametrize("preprocessing", Preprocessing)
@pytest.mark.parametrize("shape", [(0, 5), (5, 0), (0, 0)])
def test_empty_pictures_are_refused(shape, preprocessing):
    with pytest.raises(ImageFormatError, match=r"pixels is empty: give another"):
        images.preprocess(np.zeros(shape, np.uint8), preprocessing)
    with pytest.raises(ImageFormatError, match="empty"):
        find_digits(np.zeros(shape, np.uint8))


@pytest.mark.parametrize(
    ("height", "width", "thickness"), [(450, 20, 1), (60, 150, 1), (300, 1200, 5), (300, 3000, 8), (1200, 300, 1)]
)
def test_a_one_by_a_hairline_is_framed(height, width, thickness):
    picture = np.zeros((height, width), np.uint8)
    picture[height // 3 : 2 * height // 3 + 1, width // 2 : width // 2 + thickness] = 255
    seen = images.preprocess(picture)
    rows, columns = np.flatnonzero(seen.any(axis=1)), np.flatnonzero(seen.any(axis=0))
    assert 18 <= len(rows) <= 22
    assert len(columns) <= 6


def test_every_small_size_is_framed():
    for height in (1, 2, 3, 5, 8, 11):
        for width in (1, 2, 4, 7, 9):
            picture = np.random.default_rng(height * 12 + width).integers(0, 256, (height, width), np.uint8)
            assert images.preprocess(picture).shape == (28, 28)
            find_digits(picture)


def test_whole_pictures_are_only_scaled():
    picture = np.full((56, 28), 200, np.uint8)
    picture[:28] = 40
    framed = images.preprocess(picture, Preprocessing.WHOLE)
    background = int(np.median(np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])))
    expected = np.full((28, 28), background)
    expected[:14, 7:21], expected[14:, 7:21] = 40, 200
    np.testing.assert_array_equal(framed, expected)
    canonical = np.random.default_rng(0).integers(0, 256, (28, 28), np.uint8)
    assert images.preprocess(canonical, Preprocessing.WHOLE) is canonical
    doubled = np.kron(canonical, np.ones((2, 2), np.uint8))
    np.testing.assert_array_equal(images.preprocess(doubled, Preprocessing.WHOLE), canonical)


def test_images_in_mnists_form_need_no_pillow(bundle_dir):
    code = (
        "import sys, numpy as np; sys.modules['PIL'] = None; from mnist_edge import Classifier;"
        "images = np.load(sys.argv[2])['images'][:9]; classifier = Classifier(sys.argv[1]);"
        "assert len(classifier.logits(images)) == len(classifier.predict_many(list(images))) == 9"
    )
    subprocess.run([sys.executable, "-c", code, bundle_dir, bundle_dir / EXPECTED], check=True, env={**os.environ})


# Several digits


def row(*shapes, gap=14, height=80):
    parts = [np.pad(ell(height, wide + 4, top=20, left=2, wide=wide), ((0, 0), (0, gap))) for wide in shapes]
    return np.pad(np.concatenate(parts, axis=1), ((0, 0), (20, 20)))


def test_digits_of_a_line():
    found = find_digits(dark_on_light(row(24, 20, 26)))
    assert [digit.box for digit in found] == [
        pytest.approx((22, 20, 46, 60), abs=2),
        pytest.approx((64, 20, 84, 60), abs=2),
        pytest.approx((102, 20, 128, 60), abs=2),
    ]
    assert [digit.line for digit in found] == [0, 0, 0]
    assert_ell(found[0].image)


def test_two_lines_are_read_one_after_the_other():
    one, two = row(24, 20, 26), row(22, 28)
    page = np.concatenate([one, np.pad(two, ((0, 0), (0, one.shape[1] - two.shape[1])))])
    found = find_digits(dark_on_light(page))
    assert [digit.line for digit in found] == [0, 0, 0, 1, 1]
    assert [digit.box[0] for digit in found] == pytest.approx([22, 64, 102, 22, 62], abs=2)


def test_underlines_and_specks_are_no_digits():
    picture = dark_on_light(row(24, 20, 26))
    picture[66:68] = 20
    picture[5:8, 30:33] = 20
    assert len(find_digits(picture)) == 3


def test_touching_neighbours_are_cut():
    mask = row(30, 30, 30, gap=20)
    mask[38:41, 20:130] = True
    assert len(find_digits(dark_on_light(mask))) >= 2


@pytest.mark.parametrize("usual", [1, 2, 40, 300])
@pytest.mark.parametrize("share", [0, 0.02, 0.5, 1])
def test_a_cut_leaves_two_tall_parts(usual, share):
    rng = np.random.default_rng(usual)
    for wide in (1, 2, 5):
        mask = rng.random((usual, wide * usual)) < share
        path = cut(mask, usual)
        if path is not None:
            right = np.arange(mask.shape[1]) >= path[:, None]
            heights = [np.ptp(np.flatnonzero((mask & side).any(axis=1))) + 1 for side in (right, ~right)]
            assert min(heights) >= 0.4 * usual


def test_a_picture_full_of_marks_is_refused():
    page = np.full((800, 1600), 255, np.uint8)
    page[::8, ::8] = page[1::8, ::8] = 0
    with pytest.raises(ImageFormatError, match=r"20,000 marks that could be digits, more than 2,000: crop it"):
        find_digits(page)


def test_specks_around_digits_are_passed_over():
    page = dark_on_light(np.tile(row(24, 20, 26), (4, 4)))
    page[4::16, 3::9] = 20
    found = find_digits(page)
    assert len(found) == 48
    assert {digit.line for digit in found} == {0, 1, 2, 3}


@pytest.mark.parametrize("value", [0, 255])
def test_a_blank_page_has_no_digits(value):
    assert find_digits(np.full((200, 300), value, np.uint8)) == []


# Components


def flooded(mask):
    """A plain flood fill."""
    labels = np.full(mask.shape, -1)
    for start in map(tuple, np.argwhere(mask)):
        if labels[start] < 0:
            number, waiting = labels.max() + 1, [start]
            while waiting:
                y, x = waiting.pop()
                if 0 <= y < mask.shape[0] and 0 <= x < mask.shape[1] and mask[y, x] and labels[y, x] < 0:
                    labels[y, x] = number
                    waiting += [(y + dy, x + dx) for dy in (-1, 0, 1) for dx in (-1, 0, 1)]
    return labels


@pytest.mark.parametrize("share", [0, 0.1, 0.35, 0.5, 0.8, 1])
@pytest.mark.parametrize("shape", [(1, 1), (1, 9), (7, 1), (23, 31)])
def test_components_against_a_flood_fill(shape, share):
    mask = np.random.default_rng(1).random(shape) < share
    found, expected = label(mask), flooded(mask)
    np.testing.assert_array_equal(found.labels, expected)
    assert len(found) == expected.max() + 1
    for number in range(len(found)):
        rows, columns = np.nonzero(expected == number)
        assert found.boxes[number].tolist() == [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
