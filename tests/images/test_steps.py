"""The canonical form, the modes of pictures, and what is looked up in files before they are decoded."""

import io
import struct
import zlib

import numpy as np
import pytest
from PIL import Image

from mnist_edge.contract import Preprocessing
from mnist_edge.errors import ImageFormatError
from mnist_edge.images import canonical, content, files, jpeg, modes, png, preprocessing, tiff


def random_bytes(*shape):
    return np.random.default_rng(shape).integers(0, 256, shape, dtype=np.uint8)


# The canonical form


def digit(top=4, left=10, high=20, wide=8):
    image = np.zeros((28, 28), np.uint8)
    image[top : top + high, left : left + wide] = 255
    return image


def is_canonical(image):
    one = canonical._is_preprocessed(image)
    assert canonical.is_preprocessed(image[None]).tolist() == [one]
    return one


@pytest.mark.parametrize(
    ("place", "right"),
    [
        ({}, True),  # its centre of mass is at 13.5
        ({"top": 5}, True),
        ({"top": 6}, False),  # 15.5
        ({"top": 3}, False),
        ({"left": 11}, True),
        ({"left": 12}, False),
        ({"left": 9}, False),
        ({"high": 21}, True),
        ({"high": 22}, False),
        ({"top": 6, "high": 16}, True),
        ({"top": 7, "high": 15}, False),
        ({"top": 10, "left": 4, "high": 8, "wide": 20}, True),
        ({"top": 10, "left": 3, "high": 8, "wide": 22}, False),
        ({"top": 6, "left": 6, "high": 16, "wide": 16}, True),
        ({"top": 14, "high": 0}, False),
    ],
)
def test_size_and_place_of_the_canonical_form(place, right):
    image = digit(**place)
    assert is_canonical(image) is right
    if right:
        assert canonical.preprocess(image) is image


def test_ink_and_background_of_the_canonical_form():
    assert is_canonical(digit() // 4 + digit(4, 10, 20, 8) // 100)  # 65: more than a quarter of white
    assert not is_canonical(digit() // 255 * 63)
    image = digit()
    image[:13] = np.maximum(image[:13], 31)
    image[15:] = np.maximum(image[15:], 31)
    assert canonical._is_preprocessed(image)
    assert not canonical._is_preprocessed(np.maximum(image, np.where(image == 31, 32, 0).astype(np.uint8)))


def test_what_counts_as_ink():
    images = np.full((6, 28, 28), 100, np.uint8)
    images[1].flat[:8] = 132
    images[2].flat[:7] = 132
    images[3].flat[:8] = 131
    images[4].flat[:8] = 68
    images[5].flat[:7] = 0
    expected = [False, True, False, False, True, False]
    assert canonical.has_ink(images).tolist() == expected
    assert canonical.has_ink(images[:, None].astype(np.int64)).tolist() == expected


@pytest.mark.parametrize("preprocessing", Preprocessing)
def test_empty_pictures_are_refused(preprocessing):
    with pytest.raises(ImageFormatError, match="a picture of 0×5 pixels is empty: give another"):
        canonical.preprocess(np.zeros((5, 0), np.uint8), preprocessing)


@pytest.mark.parametrize(("height", "width"), [(56, 84), (84, 28), (280, 140)])
def test_whole_pictures_keep_their_middle(height, width):
    picture = random_bytes(height, width)
    longer = max(height, width)
    border = np.concatenate([picture[0], picture[-1], picture[:, 0], picture[:, -1]])
    square = np.full((longer, longer), np.median(border))
    top, left = (longer - height) // 2, (longer - width) // 2
    square[top : top + height, left : left + width] = picture
    expected = square.reshape(28, longer // 28, 28, longer // 28).mean(axis=(1, 3))
    found = canonical.preprocess(picture, Preprocessing.WHOLE)
    np.testing.assert_allclose(found, expected, atol=0.51)


@pytest.mark.parametrize("width", [4, 8, 12, 20])
def test_stroke_width(width):
    fine = np.zeros((112, 112), np.float32)
    fine[6:106, 40 : 40 + width] = 1
    area, outline = 100 * width, 2 * (100 + width)
    assert preprocessing._stroke_width(fine) == pytest.approx(2 * area / outline / 4, rel=0.01)


@pytest.mark.parametrize("change", [-1.5, -0.5, 0.5, 1.5])
def test_strokes_become_wider_on_both_sides(change):
    fine = np.zeros((112, 112), np.float32)
    fine[20:90, 40:56] = 1
    changed = preprocessing._weighted(fine, change)
    assert changed[55].sum() == pytest.approx(16 + 4 * change)
    assert changed[:, 48].sum() == pytest.approx(70 + 4 * change)


@pytest.mark.parametrize("offset", [(0, 0), (30, 4), (3, 60)])
@pytest.mark.parametrize("pen", [3, 9, 22])
def test_where_ink_is_placed(offset, pen):
    ink = np.zeros((120, 110), np.float32)
    top, left = offset
    ink[top : top + 80, left : left + pen] = ink[top : top + pen, left : left + 45] = 1
    placed = preprocessing.place(ink).astype(float)
    y, x = ((placed.sum(axis) @ np.arange(28)) / placed.sum() for axis in (1, 0))
    assert (y, x) == pytest.approx((14, 14), abs=0.25)
    lit = [np.flatnonzero((placed > 100).any(axis=axis)) for axis in (1, 0)]
    assert len(lit[0]) == pytest.approx(20, abs=1)
    bar = (placed[lit[0][12]] / 255).sum()  # the width of the upright stroke
    if pen < 22:
        assert bar == pytest.approx(max(pen * 20 / 80, 2.1), abs=0.4)
    else:
        assert 3.2 < bar < pen * 20 / 80 - 0.5  # narrowed


@pytest.mark.parametrize("turns", range(4))
def test_ink_does_not_leave_the_image(turns):
    ink = np.zeros((60, 60), np.float32)
    ink[:60, 40:60] = 1
    ink[56:, :] = 1  # its centre of mass is far to one side
    lit = preprocessing.place(np.rot90(ink, turns).copy()) > 100
    for axis in (0, 1):
        assert np.ptp(np.flatnonzero(lit.any(axis=axis))) + 1 == pytest.approx(20, abs=1)


def test_the_place_of_an_extent():
    assert preprocessing._inside(-20, 3, 40, 50) == -10
    assert preprocessing._inside(9, 3, 40, 50) == 3
    assert preprocessing._inside(1, 3, 40, 50) == 1


def test_the_ink_of_strokes_alone():
    ink, strokes = np.zeros((40, 50), np.float32), np.zeros((40, 50), bool)
    strokes[10:30, 20:26] = True
    ink[strokes] = 120
    ink[10:30, 26] = 60  # a soft edge
    ink[10:30, 40:44] = 120  # another stroke
    found = preprocessing.alone(ink, strokes)
    assert found.shape == (20, 7)
    assert found[:, :6] == pytest.approx(1)
    assert found[:, 6] == pytest.approx((0.5 - 0.15) / (0.65 - 0.15))


def test_enlarged():
    assert preprocessing.enlarged(np.zeros((64, 20), np.float32)).shape == (64, 20)
    assert preprocessing.enlarged(np.zeros((63, 20), np.float32)).shape == (126, 40)
    assert preprocessing.enlarged(np.full((4, 9), 7, np.float32)) == pytest.approx(np.full((32, 72), 7))


def test_several_digits_are_counted_and_the_largest_taken():
    picture = np.full((120, 260), 230, np.uint8)
    picture[30:90, 60:70] = picture[80:90, 60:95] = 20
    picture[34:88, 180:189] = 20
    image, count = canonical.preprocess_counting(picture, Preprocessing.MNIST)
    assert count == 2
    picture[:, 150:] = 230
    np.testing.assert_allclose(image.astype(int), canonical.preprocess(picture), atol=3)
    assert canonical.preprocess_counting(picture, Preprocessing.WHOLE)[1] is None


# Modes


def test_luminance_is_pillows():
    colours = random_bytes(30, 40, 3)
    colours[0, :2] = (8, 60, 192), (18, 191, 0)  # halfway between two greys
    np.testing.assert_array_equal(modes._luminance(colours), np.asarray(Image.fromarray(colours).convert("L")))


@pytest.mark.parametrize("mode", ["L", "RGB", "RGBA"])
@pytest.mark.parametrize("factor", [2, 3])
def test_large_pictures_are_reduced_in_strips(mode, factor):
    picture = Image.fromarray(random_bytes(200 * factor + 5, 7 * factor, len(mode) or 1).squeeze())
    expected = np.asarray(picture.convert(mode).reduce(factor))
    np.testing.assert_array_equal(modes._array(picture.convert(mode), mode, factor), expected)


def test_composited_as_pillow_does():
    rgba = random_bytes(9, 8, 4)
    for ground in (0, 255):
        below = Image.new("RGBA", (8, 9), (ground, ground, ground, 255))
        expected = np.asarray(Image.alpha_composite(below, Image.fromarray(rgba)).convert("RGB"))
        np.testing.assert_allclose(modes._composited(rgba, ground).astype(int), expected, atol=1)


@pytest.mark.parametrize(
    ("ink", "paper", "plane"),
    [
        ((20, 20, 20), (230, 230, 230), lambda rgb: np.asarray(Image.fromarray(rgb).convert("L"))),
        ((230, 60, 60), (60, 60, 60), lambda rgb: rgb[..., 0]),
    ],
)
def test_the_plane_that_shows_the_ink(ink, paper, plane):
    rgb = np.full((150, 90, 3), paper, np.uint8)
    rgb[40:110, 40:48] = rgb[102:110, 40:70] = ink
    found, coloured = modes.grey_values(Image.fromarray(rgb), 1, "it")
    expected = plane(rgb).astype(int)
    assert coloured is (len(set(ink)) > 1)
    contrast = abs(int(found[50, 42]) - int(found[0, 0]))
    assert contrast >= abs(expected[50, 42] - expected[0, 0])
    if not coloured:
        np.testing.assert_array_equal(found, expected)


def test_black_ink_among_coloured_scribbles_stands_alone():
    rgb = np.full((120, 100, 3), 240, np.uint8)
    rgb[10:110:9, :, 1:] = 30  # red lines
    rgb[40:90, 40:48] = 10
    found, _ = modes.grey_values(Image.fromarray(rgb), 1, "it")
    assert found[50, 42] < 60
    assert found[10:110:9, :40].min() > 200


@pytest.mark.parametrize("alpha", [0, 9, 255])
def test_alpha_that_is_the_same_everywhere_says_nothing(alpha):
    rgb = np.full((60, 50, 3), (60, 140, 60), np.uint8)
    rgb[20:50, 20:25] = 220, 62, 55  # of the same luminance
    rgba = np.concatenate([rgb, np.full((60, 50, 1), alpha, np.uint8)], axis=2)
    expected = modes.grey_values(Image.fromarray(rgb), 1, "it")
    found = modes.grey_values(Image.fromarray(rgba), 1, "it")
    np.testing.assert_array_equal(found[0], expected[0])
    assert found[1] is expected[1] is True
    grey = Image.merge("LA", [Image.fromarray(rgb[..., 0]), Image.new("L", (50, 60), alpha)])
    found, coloured = modes.grey_values(grey, 1, "it")
    np.testing.assert_array_equal(found, rgb[..., 0])
    assert not coloured


def test_deep_and_empty_pictures():
    deep = Image.fromarray(np.array([[0, 1023], [512, 700]], np.uint16))
    found, coloured = modes.grey_values(deep, 1, "it")
    assert found.tolist() == [[0, 255], [128, 174]]
    assert not coloured
    assert modes._from_deep(np.zeros((0, 4), np.int32), "I", "it").shape == (0, 4)
    assert modes._from_deep(np.array([[65_535]]), "I", "it").tolist() == [[255]]
    for wrong in (-1, 65_536):
        with pytest.raises(ImageFormatError, match="it: I pixels beyond"):
            modes._from_deep(np.array([[wrong]]), "I", "it")
    assert modes.grey_values(Image.new("LAB", (3, 2), (200, 1, 2)), 1, "it")[1]
    assert modes.grey_values(Image.new("RGB", (0, 2)), 1, "it")[0].shape == (2, 0)


@pytest.mark.parametrize(("ink", "ground"), [(0, 255), (128, 255), (200, 255), (210, 0), (255, 0)])
def test_what_transparent_ink_is_put_on(ink, ground):
    rgba = np.zeros((90, 80, 4), np.uint8)
    rgba[20:70, 30:36] = ink, ink, ink, 255
    found, _ = modes.grey_values(Image.fromarray(rgba), 1, "it")
    assert (found[40, 32], found[0, 0]) == (ink, ground)


# Files


def saved(image, form, **options):
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png_of(pixels, *, size=(9, 5), depth=8, colour=0, interlaced=0, end=True, extra=b""):
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, interlaced)
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + extra
    return start + chunk(b"IDAT", zlib.compress(pixels)) + (chunk(b"IEND") if end else b"")


@pytest.mark.parametrize("mode", ["1", "L", "P", "LA", "RGB", "RGBA", "I;16"])
def test_the_size_of_a_png_is_that_of_its_rows(mode):
    data = saved(Image.new(mode, (13, 7)), "PNG")
    rows = zlib.decompress(data[data.index(b"IDAT") + 4 : data.index(b"IEND") - 8])
    assert png.size(data) == len(rows)
    assert png.is_whole(data)
    assert not png.is_whole(data[:-1])
    png.require_simple(data)


@pytest.mark.parametrize(("depth", "colour", "samples"), [(1, 0, 1), (8, 2, 3), (2, 3, 1), (16, 6, 4), (8, 4, 2)])
@pytest.mark.parametrize("size", [(1, 1), (3, 2), (8, 8), (13, 10), (5, 7), (3, 3), (2, 11)])
def test_the_size_of_an_interlaced_png(size, depth, colour, samples):
    # Which pass each pixel of a square of 8 belongs to (PNG specification, 8.2)
    adam7 = ["16462646", "77777777", "56565656", "77777777", "36463646", "77777777", "56565656", "77777777"]
    expected = 0
    for number in "1234567":
        rows = [[adam7[y % 8][x % 8] for x in range(size[0])].count(number) for y in range(size[1])]
        expected += sum(1 + -(-count * samples * depth // 8) for count in rows if count)
    data = png_of(bytes(expected), size=size, depth=depth, colour=colour, interlaced=1)
    assert png.size(data) == expected
    assert png.is_whole(data)
    assert not png.is_whole(png_of(bytes(expected - 1), size=size, depth=depth, colour=colour, interlaced=1))


def test_pngs_without_a_header_or_an_end():
    assert png.size(b"\x89PNG\r\n\x1a\n") == 0
    assert png.size(b"\x89PNG\r\n\x1a\n" + chunk(b"IDAT", bytes(60))) == 0
    assert not png.is_whole(png_of(bytes(50), end=False))
    assert png.is_whole(png_of(bytes(50)))
    assert not png.is_whole(png_of(bytes(49)))
    assert png.is_whole(png_of(bytes(50)).replace(zlib.compress(bytes(50)), b"x" * 12))  # left to the decoder


def test_chunks_and_bytes_beside_the_pixels():
    # Beside the pixels, 13 bytes of the header
    png.require_simple(png_of(b"", extra=chunk(b"tEXt", bytes(png.MAX_OTHER - 13))))
    with pytest.raises(ValueError, match="more than 20,000,000 bytes beside its pixels"):
        png.require_simple(png_of(b"", extra=chunk(b"tEXt", bytes(png.MAX_OTHER - 12))))
    one = chunk(b"tEXt")
    png.require_simple(png_of(b"", extra=one * (100_000 - 3)))
    with pytest.raises(ValueError, match="more than 100,000 chunks"):
        png.require_simple(png_of(b"", extra=one * (100_000 - 2)))


@pytest.mark.parametrize("options", [{}, {"big_tiff": True}])
@pytest.mark.parametrize("pages", [1, 3])
def test_pages_of_a_tiff(options, pages):
    pictures = [Image.new("L", (4, 5), page) for page in range(pages)]
    data = saved(pictures[0], "TIFF", save_all=True, append_images=pictures[1:], **options)
    assert tiff.is_tiff(data)
    assert tiff.count_pages(data) == pages
    width = max(data.rfind(struct.pack("<HH", 256, kind)) for kind in (3, 4))  # the last page's first tag
    with pytest.raises(ValueError, match=f"cut short within the list of tags of page {pages}"):
        tiff.count_pages(data[: width + 6])


def directory(*entries, following=0, order=">"):
    listed = b"".join(struct.pack(f"{order}HHII", *entry) for entry in entries)
    return struct.pack(f"{order}H", len(entries)) + listed + struct.pack(f"{order}I", following)


@pytest.mark.parametrize(("start", "order"), [(b"MM\0*", ">"), (b"II*\0", "<")])
def test_bounds_on_tags_and_values(start, order):
    start += struct.pack(f"{order}I", 8)
    assert tiff.count_pages(start + directory(*[(300, 4, 65_536, 0)] * 1000, order=order)) == 1
    assert tiff.count_pages(start + directory(*[(300, kind, 65_537, 0) for kind in (1, 2, 6, 7)], order=order)) == 1
    for kind in (0, 3, 5, 8):
        with pytest.raises(ValueError, match="65,537 values in tag 300, more than 65,536"):
            tiff.count_pages(start + directory((300, kind, 65_537, 0), order=order))
    with pytest.raises(ValueError, match="1,001 tags on a page, more than 1,000"):
        tiff.count_pages(start + directory(*[(300, 4, 1, 0)] * 1001, order=order))
    with pytest.raises(ValueError, match="more than 1,000 pages"):
        tiff.count_pages(start + directory(following=8, order=order))
    for other in (b"II", b"II*", b"II\0*", b"MM*\0", b"XX*\0", b""):
        assert not tiff.is_tiff(other)


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
@pytest.mark.parametrize("mode", ["L", "RGB", "CMYK"])
def test_scans_of_a_jpeg(mode, options):
    data = saved(Image.fromarray(random_bytes(40, 50, 3)).convert(mode), "JPEG", **options)
    found = list(jpeg.scans(data))
    # What a scan header is: its length, 6 + 2 · components, and their number.
    for count in found:
        assert struct.pack(">HBHB", 0xFF, 0xDA, 6 + 2 * count, count)[1:] in data
    assert len(found) == 1 if not options else len(found) > 5
    assert max(found) == len(Image.new(mode, (1, 1)).getbands())
    assert not jpeg.has_many_scans(data)


def test_bounds_on_scans_and_exif():
    scan = b"\xff\xda\0\x08\x01\x01\0\0\x3f\0" + b"\x12\xff\0\x34\xff\xd3"
    start, end = b"\xff\xd8", b"\xff\xd9"
    assert list(jpeg.scans(start + 3 * scan + end + scan)) == [1, 1, 1]
    assert not jpeg.has_many_scans(start + 100 * scan + end)
    assert jpeg.has_many_scans(start + 101 * scan + end)
    comment = b"\xff\xfe\0\x66" + 50 * b"\xff\xda"
    assert not jpeg.has_many_scans(start + 9 * comment + scan + end)
    jpeg.require_simple(100 * b"Exif\0\0")
    with pytest.raises(ValueError, match="more than 100 segments"):
        jpeg.require_simple(101 * b"Exif\0\0")


@pytest.mark.parametrize("form", ["PNG", "JPEG"])
@pytest.mark.parametrize(
    ("size", "kept"), [((1599, 20), 1), ((3199, 20), 1), ((3200, 20), 2), ((20, 4000), 2), ((3201, 3201), 2)]
)
def test_large_pictures_are_reduced(size, kept, form):
    found = files.decode_scaled(io.BytesIO(saved(Image.new("L", size, 90), form)))
    expected = [-(-side // kept) for side in reversed(size)]
    assert list(found.pixels.shape) == expected
    assert found.scale == pytest.approx(max(size) / max(expected))
    assert abs(found.pixels.astype(int) - 90).max() <= 2
    assert not found.coloured


@pytest.mark.parametrize(
    ("size", "words"),
    [
        ((8000, 8000), None),
        ((8000, 8001), "more than 64,000,000"),
        ((32_769, 1), "longer than 32,768"),
        ((32_768, 1), None),
    ],
)
def test_bounds_on_sides(size, words):
    image = Image.new("1", (1, 1))
    image._size = size
    if words is None:
        files._require_reasonable(image, "it")
    else:
        with pytest.raises(ImageFormatError, match=words):
            files._require_reasonable(image, "it")


@pytest.mark.parametrize("orientation", range(10))
def test_orientations_are_pillows(orientation):
    from PIL import ImageOps

    picture = Image.fromarray(random_bytes(5, 8))
    picture.getexif()[0x0112] = orientation
    np.testing.assert_array_equal(
        files._upright(np.asarray(picture), orientation), np.asarray(ImageOps.exif_transpose(picture))
    )


def test_pages_are_the_pictures_of_a_file(tmp_path):
    pictures = [Image.new("L", (4, 5), 10 * page) for page in range(3)]
    path = tmp_path / "three.tif"
    pictures[0].save(path, save_all=True, append_images=pictures[1:])
    found = files.pages(str(path))
    assert [page.name for page in found] == [f"{path}[{number}]" for number in range(3)]
    assert [int(files.decode(page)[0, 0]) for page in found] == [0, 10, 20]
    Image.new("L", (4, 5)).save(path)
    assert files.pages(str(path)) == []
    path.write_bytes(b"II*\0")
    with pytest.raises(ImageFormatError, match="cut short"):
        files.pages(str(path))
    path.write_bytes(b"no picture")
    assert files.pages(str(path)) == []


def test_files_are_found_in_order(tmp_path):
    for name in (
        "b/2.PNG",
        "b/1.jpg",
        "a.tiff",
        ".hidden.png",
        ".folder/x.png",
        "notes.txt",
        "c.heic",
        "b/d.png/e.gif",
    ):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(b"")
    others, errors = [], []
    found = [path.removeprefix(f"{tmp_path}/") for path in files.find(tmp_path, on_other=others.append)]
    assert found == ["a.tiff", "b/1.jpg", "b/2.PNG", "b/d.png/e.gif"]
    assert others == [f"{tmp_path}/c.heic"]
    assert list(files.find(tmp_path / "none", on_error=errors.append)) == []
    assert len(errors) == 1
    with pytest.raises(FileNotFoundError):
        list(files.find(tmp_path / "none"))


class Upload(io.BytesIO):
    """A file object that may have names."""


@pytest.mark.parametrize(
    ("filename", "name", "expected"),
    [
        ("x.png", "y.png", "x.png"),
        (None, "y.png", "y.png"),
        ("", 3, "the uploaded file"),
        (b"x.png", None, "the uploaded file"),
        ("x" * 200, None, "x" * 200),
        ("x" * 201, None, "x" * 200 + "…"),
        ("x\x1b\n.png", None, r"x\x1b\n.png"),
    ],
)
def test_names_of_uploads(filename, name, expected):
    file = Upload(b"x")
    file.filename, file.name = filename, name
    assert content.name_of(file) == expected
    assert content.name_of("a/b.png") == "a/b.png"
    assert content.name_of(bytearray(b"x")) == "the given bytes"


def test_what_is_read(tmp_path, monkeypatch):
    path = tmp_path / "it.png"
    path.write_bytes(b"12345678")
    for source in (path, b"12345678", memoryview(b"12345678"), io.BytesIO(b"12345678")):
        assert content.read(source, "it") == b"12345678"
    monkeypatch.setattr(content, "MOST", 8)
    assert content.read(path, "it") == content.read(io.BytesIO(b"12345678"), "it") == b"12345678"
    monkeypatch.setattr(content, "MOST", 7)
    for source in (path, b"12345678", io.BytesIO(b"12345678")):
        with pytest.raises(ImageFormatError, match="it: more than 7 bytes: scale the picture down"):
            content.read(source, "it")
    for source, words in (
        (b"", "is empty"),
        (io.StringIO("x"), "read\\(\\) returns str, not bytes"),
        ("/dev/null", "is a device"),
        (tmp_path, "is a folder"),
        ("a\0b", "cannot be read"),
    ):
        with pytest.raises(ImageFormatError, match=f"it: {words}"):
            content.read(source, "it")


def test_a_file_is_read_so_often_and_no_more(monkeypatch):
    monkeypatch.setattr(files, "MAX_READS", 3)
    file = files._Counted(b"12345678", "it")
    assert [file.read(2) for _ in range(3)] == [b"12", b"34", b"56"]
    with pytest.raises(ImageFormatError, match="it: consists of too many small pieces"):
        file.read(2)


def test_what_decoding_takes():
    def taken(mode, form, **info):
        image = Image.new(mode, (100, 10))
        image.format, image.info = form, info
        return files._bytes_decoded(image)

    assert taken("L", "JPEG") == 1000
    assert taken("RGB", "JPEG") == 4000
    assert taken("1", "PNG") == taken("L", "PPM") == taken("P", "PNG") == 1250
    assert taken("I;16", "PNG") == taken("I;16B", "TIFF") == taken("I;16L", "TIFF") == 2 * 1000 * 1.25
    assert taken("RGB", "MPO") == 4000
    assert taken("P", "GIF") == 2500
    assert taken("P", "PNG", transparency=0) == 4 * 1000 * 1.25
    assert taken("RGBA", "WEBP") == 4 * 3750
    assert taken("L", None) == 1250


@pytest.mark.parametrize(("subsampling", "shares"), [(0, 3), (1, 2), (2, 1.5)])
def test_what_coefficients_take(subsampling, shares):
    picture = Image.fromarray(random_bytes(64, 96, 3))
    for progressive in (False, True):
        data = saved(picture, "JPEG", progressive=progressive, subsampling=subsampling)
        found = files._bytes_of_coefficients(data, Image.open(io.BytesIO(data)), (96, 64))
        assert found == (2 * 96 * 64 * shares if progressive else 0)


def test_a_picture_is_as_large_as_its_original_and_grey():
    assert files.Grey(random_bytes(2, 3))[1:] == (1.0, False)


def test_what_is_wrong_is_said():
    assert "damaged, or not a PNG despite its name" in files._unidentified("x.PNG")
    assert "not a picture in a format that is read (PNG, JPEG," in files._unidentified("x.doc")
    with pytest.raises(ImageFormatError, match=r"it\.png: damaged, or not a PNG"):
        files.grey_scaled(b"no picture", "it.png")
