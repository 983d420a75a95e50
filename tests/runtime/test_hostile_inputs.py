"""Pictures and files of strangers: refused or answered in bounded time and memory, and the others answered as well."""

import contextlib
import csv
import io
import json
import os
import re
import struct
import subprocess
import sys
import time
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.cli import inputs
from mnist_edge.cli.output import printable
from mnist_edge.images import content, files
from tests.helpers import cli_in_process, fails, long_after, run_cli, run_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="measures processes as POSIX does")

MOST_MEMORY = 300e6


@pytest.fixture
def seven(expected, tmp_path):
    index = int(np.flatnonzero((expected["labels"] == 7) & (expected["logits"].argmax(axis=1) == 7))[0])
    Image.fromarray(expected["images"][index]).save(tmp_path / "7.png")
    return tmp_path / "7.png"


def predict(folder, *names, stdin=None, under=()):
    """Exit code, and lines of JSON by name, of a process that predicts under the program `under`."""
    command = [*under, sys.executable, "-m", "mnist_edge", "predict", "--json", *names]
    with subprocess.Popen(
        command, cwd=folder, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate(timeout=60)
        code = process.returncode
    assert "Traceback" not in err
    return code, {line["image"]: line for line in map(json.loads, out.splitlines())}


MEASURED = """
import resource, subprocess, sys
from pathlib import Path
code = subprocess.run(sys.argv[2:]).returncode
unit = 1 if sys.platform == "darwin" else 1024
Path(sys.argv[1]).write_text(str(unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss))
sys.exit(code)
"""
"""Runs a program and writes its peak of memory in bytes to a file. A child of the tests would start with theirs."""


def predict_and_peak(folder, *names):
    """What `predict` returns, and the peak of the process's memory in bytes."""
    peak = folder / "peak"
    code, answers = predict(folder, *names, under=[sys.executable, "-c", MEASURED, peak])
    return code, answers, int(peak.read_text())


def chunk(kind, data=b""):
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def png(width, height, *, depth=8, colour=0):
    """A PNG of one colour, however large, in a few kilobytes and without holding its pixels."""
    row = bytes(1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] + 7) // 8)
    deflate = zlib.compressobj(9)
    data = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")


LARGE = {
    "rgba 6200x6200": ((6200, 6200), {"colour": 6}, None),
    "1000000x1": ((1_000_000, 1), {}, "a side is longer than 32,768"),
    "1x1500000": ((1, 1_500_000), {}, "a side is longer than 32,768"),
    "64000000x1": ((64_000_000, 1), {}, "a side is longer than 32,768"),
    "32768x1": ((32_768, 1), {}, None),
    "2x30000": ((2, 30_000), {}, None),
    "30000x2000": ((30_000, 2000), {}, None),
    "rgba 8000x8000": ((8000, 8000), {"colour": 6}, "takes 320 MB to decode"),
    "la 6200x6200": ((6200, 6200), {"colour": 4}, None),
    "rgb 6200x6200": ((6200, 6200), {"colour": 2}, None),
    "16 bits 8000x8000": ((8000, 8000), {"depth": 16}, None),
    "palette 8000x8000": ((8000, 8000), {"colour": 3}, None),
    "1 bit 8000x8000": ((8000, 8000), {"depth": 1}, None),
    "rgba 3199x3199": ((3199, 3199), {"colour": 6}, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(
    ("size", "kind", "refused"),
    long_after(2, [*LARGE.values()]),
    ids=LARGE,
)
def test_any_picture_takes_bounded_memory(seven, tmp_path, size, kind, refused):
    (tmp_path / "large.png").write_bytes(png(*size, **kind))
    code, answers, peak = predict_and_peak(tmp_path, "large.png", "7.png")
    assert answers["7.png"]["label"] == "7"
    assert code == (3 if refused else 0)
    if refused:
        assert refused in answers["large.png"]["error"]
    else:
        assert answers["large.png"]["label"] is None
    assert peak < MOST_MEMORY


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_photograph_of_48_megapixels_passes(expected, tmp_path, options):
    ink = Image.fromarray(255 - expected["images"][0]).resize((1600, 1600))
    photograph = Image.new("RGB", (8000, 6000), "white")
    photograph.paste(ink, (3000, 2000))
    photograph.save(tmp_path / "large.jpg", quality=85, **options)
    _, answers, peak = predict_and_peak(tmp_path, "large.jpg")
    assert answers["large.jpg"]["label"] == str(expected["logits"][0].argmax())
    assert peak < MOST_MEMORY


def plain_png(*extra, size=(28, 28), depth=8, colour=0):
    """A PNG whose pixels stop after 28 rows of 28, and may thus be missing."""
    header = struct.pack(">IIBBBBB", *size, depth, colour, 0, 0, 0)
    pixels = zlib.compress(bytes(28 * 29))
    parts = chunk(b"IHDR", header), *extra, chunk(b"IDAT", pixels), chunk(b"IEND")
    return b"\x89PNG\r\n\x1a\n" + b"".join(parts)


def segment(kind, data):
    return b"\xff" + bytes([kind]) + struct.pack(">H", len(data) + 2) + data


def jpeg(size, components, *, kind, scans=(), extra=b""):
    """A JPEG whose coefficients are all 0, each of them one bit: kind C0 is baseline, C2 progressive."""
    width, height = size
    ids = range(1, components + 1)
    frame = struct.pack(">BHHB", 8, height, width, components) + b"".join(bytes([k, 0x11, 0]) for k in ids)
    start = b"\xff\xd8" + extra + segment(0xDB, bytes([0] + [1] * 64)) + segment(kind, frame)
    for table in (0x00, 0x10):
        start += segment(0xC4, bytes([table, 1, *[0] * 15, 0]))
    blocks = (width + 7) // 8 * ((height + 7) // 8)
    for chosen, band in scans:
        header = bytes([len(chosen)]) + b"".join(bytes([k, 0]) for k in chosen) + bytes(band)
        start += segment(0xDA, header) + bytes(len(chosen) * blocks * 2 // 8 + 1)
    return start + b"\xff\xd9"


def separate(size, components):
    return jpeg(size, components, kind=0xC0, scans=[([k], (0, 63, 0)) for k in range(1, components + 1)])


def progressive(size, count, extra=b""):
    scans = [([1], (0, 0, 0)), *[([1], (1 + k % 63, 1 + k % 63, 0)) for k in range(count - 1)]]
    return jpeg(size, 1, kind=0xC2, scans=scans, extra=extra)


EXIF = segment(0xE1, b"Exif\0\0II*\0\x08\0\0\0\0\0\0\0\0\0")


def tiff(pages=1, *, end=0, **tags):
    """A TIFF of 28×28 pages that share their pixels; the tags are counts of values by name."""
    data = bytearray(b"II*\0" + struct.pack("<I", 8 + 784) + bytes(784))
    for page in range(pages):
        entries = [(256, 4, 1, 28), (257, 4, 1, 28), (258, 3, 1, 8), (259, 3, 1, 1), (262, 3, 1, 1)]
        entries += [(273, 4, tags.get("strips", 1), 8), (277, 3, 1, 1), (278, 4, 1, 28), (279, 4, 1, 784)]
        entries += [(65000, 4, tags["private"], 8)] if "private" in tags else []
        entries += [(64000 + k, 3, 1, 0) for k in range(tags.get("more", 0))]
        size = 2 + 12 * len(entries) + 4
        following = len(data) + size if page < pages - 1 else end
        data += struct.pack("<H", len(entries)) + b"".join(struct.pack("<HHII", *entry) for entry in entries)
        data += struct.pack("<I", following)
    return bytes(data)


def gif(*blocks, size=(28, 28)):
    return b"GIF89a" + struct.pack("<HHBBB", *size, 0x80, 0, 0) + bytes(6) + b"".join(blocks) + b";"


FRAME = b"\x2c" + struct.pack("<HHHHB", 0, 0, 1, 1, 0) + bytes([2, 2, 0x44, 1, 0])


def bmp(size, bits, compression, data):
    palette = bytes(1024) if bits == 8 else b""
    start = 54 + len(palette)
    fields = 40, *size, 1, bits, compression, len(data), 0, 0, len(palette) // 4, 0
    header = b"BM" + struct.pack("<IHHI", start + len(data), 0, 0, start) + struct.pack("<IiiHHIIiiII", *fields)
    return header + palette + data


LABORIOUS = {
    "JPEG of separate scans": (lambda: separate((8000, 8000), 3), "takes 401 MB to decode"),
    "JPEG of many scans": (lambda: progressive((800, 600), 101), "more than 100 scans"),
    "JPEG of many EXIF segments": (lambda: progressive((8, 8), 1, 101 * EXIF), "100 segments of EXIF"),
    "JPEG of many segments": (lambda: progressive((8, 8), 1, 300_000 * b"\xff\xfe\0\2"), "too many small pieces"),
    "PNG of many chunks": (lambda: plain_png(100_001 * chunk(b"prVt")), "more than 100,000 chunks"),
    "PNG of 16 bits": (lambda: plain_png(size=(6300, 6300), depth=16, colour=6), "takes 318 MB"),
    "PNG with much beside": (lambda: plain_png(chunk(b"eXIf", bytes(20_000_001))), "bytes beside its pixels"),
    "PNG with transparent colours": (
        lambda: plain_png(chunk(b"PLTE", bytes(6)), chunk(b"tRNS", b"\0\xff"), size=(8000, 8000), colour=3),
        "takes 320 MB",
    ),
    "TIFF of many strips": (lambda: tiff(strips=4_000_000_000), "4,000,000,000 values in tag 273"),
    "TIFF of many values": (lambda: tiff(private=65_537), "65,537 values in tag 65000"),
    "TIFF of many tags": (lambda: tiff(more=1000), "1,009 tags on a page"),
    "TIFF of many pages": (lambda: tiff(1001), "more than 1,000 pages"),
    "TIFF in a circle": (lambda: tiff(2, end=8 + 784), "more than 1,000 pages"),
    "TIFF cut short": (lambda: tiff(3)[:-20], "cut short within the list of tags of page 3"),
    "GIF of many blocks": (lambda: gif(200_000 * b"!\xfe\1x\0", FRAME), "too many small pieces"),
    "BMP as large as its pixels": (lambda: bmp((5700, 5700), 24, 0, bytes(5700 * 5700 * 3)), "takes 260 MB"),
    "BMP of runs": (lambda: bmp((1100, 1000), 8, 1, b"\1\0" * 1_100_000), "1,100,000 values in a form"),
    "PGM of an unusual depth": (lambda: b"P5 1100 1000 100\n" + bytes(1_100_000), "1,100,000 values in a form"),
    "PPM as text": (lambda: b"P3 800 500 255\n" + b"0 " * 1_200_000, "1,200,000 values in a form"),
    "PGM with a comment without end": (lambda: b"P5 #" + b"x" * 700_000, "too many small pieces"),
}


@pytest.mark.parametrize(("content", "words"), LABORIOUS.values(), ids=LABORIOUS)
def test_what_would_take_long_to_decode_is_refused_at_once(content, words):
    file = io.BytesIO(content())
    start = time.process_time()
    with pytest.raises(files.ImageFormatError, match="the uploaded file: .*" + re.escape(words)):
        files.decode(file)
    assert time.process_time() - start < 1


INNOCENT = {
    "JPEG of separate scans": lambda: separate((280, 280), 3),
    "JPEG of ten scans": lambda: progressive((800, 600), 10, EXIF),
    "PNG with something beside": lambda: plain_png(
        1000 * chunk(b"prVt"), chunk(b"eXIf", b"II*\0\x08\0\0\0" + bytes(60_000))
    ),
    "PNG of 16 bits": lambda: plain_png(size=(14, 14), depth=16),
    "TIFF of pages": lambda: tiff(1000, private=1),
    "GIF of blocks": lambda: gif(5000 * b"!\xfe\1x\0", FRAME),
    "BMP of runs": lambda: bmp((28, 28), 8, 1, b"\x1c\0\0\0" * 28 + b"\0\1"),
    "PGM of an unusual depth": lambda: b"P5 280 280 100\n" + bytes(78_400),
    "PBM as text": lambda: b"P1 28 28\n" + b"0" * 784,
}


@pytest.mark.parametrize("content", INNOCENT.values(), ids=INNOCENT)
def test_the_same_in_moderation_is_decoded(content):
    assert files.decode(io.BytesIO(content())).ndim == 2


def test_frames_that_nobody_drew(seven, tmp_path):
    (tmp_path / "frames.gif").write_bytes(gif(*[FRAME] * 300, size=(4000, 4000)))
    (tmp_path / "pages.tif").write_bytes(tiff(1001))
    code, answers = predict(tmp_path, "7.png", "frames.gif", ".")
    assert code == 3
    assert "300 pages of 4000×4000 pixels in" in answers["frames.gif"]["error"]
    assert "more than 1,000 pages" in answers["./pages.tif"]["error"]
    assert answers["7.png"]["label"] == answers["./7.png"]["label"] == "7"


@pytest.mark.slow
def test_a_photograph_of_12_megapixels_passes_as_webp(expected, tmp_path):
    photograph = Image.new("RGB", (4000, 3000), "white")
    photograph.paste(Image.fromarray(255 - expected["images"][0]).resize((1600, 1600)), (1000, 700))
    photograph.save(tmp_path / "large.webp")
    _, answers, peak = predict_and_peak(tmp_path, "large.webp")
    assert answers["large.webp"]["label"] == str(expected["logits"][0].argmax())
    assert peak < MOST_MEMORY


def test_boxes_of_a_reduced_picture_are_those_of_the_picture(expected, tmp_path):
    page = Image.new("L", (6400, 4000), 255)
    for place in (1000, 3000):
        page.paste(Image.fromarray(255 - expected["images"][0]).resize((1120, 1120)), (place, 1400))
    page.save(tmp_path / "page.png")
    result = run_cli("read", tmp_path / "page.png", "--json")
    digits = json.loads(result.stdout)["digits"]
    assert len(digits) == 2
    for digit, place in zip(digits, (1000, 3000), strict=True):
        left, top, right, bottom = digit["box"]
        assert place <= left < right <= place + 1120
        assert 1400 <= top < bottom <= 2520
        assert max(right - left, bottom - top) == pytest.approx(20 * 40, abs=80)


TEXTURES = {
    "checkerboard": np.indices((28, 28)).sum(axis=0) % 2,
    "large checkerboard": np.indices((400, 400)).sum(axis=0) // 4 % 2,
    "hatching": np.indices((1600, 1600))[0] // 4 % 2,
    "hatching askew": np.indices((1600, 1600)).T @ np.array([1, 9]) // 40 % 2,
    "crossed hatching": (np.indices((1600, 1600)) % 12 < 2).any(axis=0),
    "rings": np.hypot(*(np.indices((1600, 1600)) - 800)) // 3 % 2,
    "wide rings": np.hypot(*(np.indices((1600, 1600)) - 800)) // 7 % 2,
    "dots": (np.indices((1600, 1600)) % 2 == 0).all(axis=0),
    "noise": np.random.default_rng(0).integers(0, 2, (1600, 1600)),
}


@pytest.fixture(scope="module")
def duration():
    """Measures how long it takes to read and to classify a picture."""
    classifier = Classifier()

    def measure(picture):
        start = time.process_time()
        for use in (classifier.read, classifier.predict):
            with contextlib.suppress(files.ImageFormatError):
                use(picture.astype(np.uint8))
        return time.process_time() - start

    return measure


@pytest.fixture(scope="module")
def duration_of_a_digit(duration, expected):
    digit = np.kron(expected["images"][0], np.ones((57, 57), np.uint8))
    return min(duration(digit) for _ in range(3))


@pytest.mark.parametrize("name", long_after(2, [*TEXTURES]))
def test_a_texture_takes_little_longer_than_a_digit(duration, duration_of_a_digit, name):
    assert duration(255 * TEXTURES[name]) < 20 * duration_of_a_digit


OTHER_FORMATS = {
    "PostScript": b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 28 28\n%%EndComments\nshowpage\n%%EOF\n",
    "SVG": b"<svg xmlns='http://www.w3.org/2000/svg' width='28' height='28'/>",
    "PDF": b"%PDF-1.4\n1 0 obj<</Type/Catalog>>endobj\ntrailer<</Root 1 0 R>>\n%%EOF",
    "HEIC": b"\0\0\0\x18ftypheic\0\0\0\0heicmif1",
    "FLI": struct.pack("<IHHHHHHI", 128, 0xAF11, 1, 28, 28, 8, 0, 10) + bytes(108),
}


@pytest.mark.parametrize("name", [*OTHER_FORMATS, "ICO", "PCX", "TGA", "SGI"])
@pytest.mark.parametrize("suffix", [".png", ".jpg", ".pgm"])
def test_only_the_listed_formats_are_decoded(tmp_path, name, suffix):
    path = tmp_path / f"picture{suffix}"
    if name in OTHER_FORMATS:
        path.write_bytes(OTHER_FORMATS[name])
    else:
        Image.new("RGB", (28, 28)).save(path, name)
    with pytest.raises(files.ImageFormatError, match=r"damaged, or not a \w+ despite its name: "):
        files.decode(path)


def test_devices_and_endless_files(seven, tmp_path):
    with (tmp_path / "sparse.png").open("wb") as file:
        file.truncate(40 * 2**30)
    code, answers = predict(tmp_path, "/dev/zero", "sparse.png", "/dev/null", "7.png")
    assert code == 3
    assert "is a device, not a picture" in answers["/dev/zero"]["error"]
    assert f"more than {content.MOST:,} bytes" in answers["sparse.png"]["error"]
    assert answers["7.png"]["label"] == "7"


def test_an_endless_pipe(tmp_path):
    with subprocess.Popen(["yes"], stdout=subprocess.PIPE) as endless:
        code, answers = predict(tmp_path, "-", stdin=endless.stdout)
        endless.kill()
    assert code == 3
    assert "more than" in answers["-"]["error"]


def test_a_pipe_that_nobody_named(seven, tmp_path):
    os.mkfifo(tmp_path / "pipe.png")
    for names in (["*.png"], ["**/*.png"], ["."]):
        code, answers = predict(tmp_path, *names)
        assert code == 0
        assert [line["label"] for line in answers.values()] == ["7"]


def test_links_that_lead_in_a_circle(seven, tmp_path):
    for name in ("a", "b", "c"):
        (tmp_path / name).symlink_to(tmp_path)
    (tmp_path / ".hidden").mkdir()
    seven.rename(tmp_path / ".hidden" / "7.png")
    (tmp_path / "d" / "e").mkdir(parents=True)
    (tmp_path / "d" / "e" / "7.png").write_bytes((tmp_path / ".hidden" / "7.png").read_bytes())
    for pattern in ("**/*.png", f"{tmp_path}/**/*.png", "**", "./**/e/*.png"):
        _, answers = predict(tmp_path, pattern)
        assert [name.removeprefix(f"{tmp_path}/") for name in answers] == ["d/e/7.png"], pattern


def test_links_that_lead_to_themselves(seven, tmp_path):
    for name in ("loop.png", "loop"):
        (tmp_path / name).symlink_to(name)
    for name in (".", "**/*.png"):
        code, answers = predict(tmp_path, name)
        assert (code, [line["label"] for line in answers.values()]) == (0, ["7"])
    code, answers = predict(tmp_path, "loop.png", "7.png")
    assert code == 3
    assert "loop.png: cannot be read" in answers["loop.png"]["error"]


def test_folders_deeper_than_functions_may_call_each_other(seven, tmp_path):
    folder = tmp_path / "/".join(["d"] * 200)
    folder.mkdir(parents=True)
    seven.rename(folder / "7.png")
    code = (
        "import sys\n"
        "from mnist_edge.cli import inputs\n"
        "sys.setrecursionlimit(100)\n"
        "print(*[len(list(inputs.expand([name]))) for name in sys.argv[1:]])"
    )
    names = (tmp_path, tmp_path / "**", tmp_path / "**/*.png", tmp_path / "**/d/**/d/**/**/**/**/d/**/7.png")
    assert run_python(code, *names).stdout == "1 1 1 1\n"


@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="has no such files")
@pytest.mark.parametrize("command", ["predict", "read"])
def test_files_that_say_they_are_empty_are_not_read(seven, command):
    # Some of them have no end, or make who reads them wait.
    result = run_cli(command, "/proc/self/status", seven)
    fails(result, 3, "/proc/self/status: is empty")
    assert result.stdout.split()[1] == b"7"


def npy(header, content=b"", *, version=1, length=None):
    length = len(header) if length is None else length
    return b"\x93NUMPY" + bytes([version, 0]) + struct.pack("<H" if version == 1 else "<I", length) + header + content


def described(shape, *, by_column=False):
    return f"{{'descr': '|u1', 'fortran_order': {by_column}, 'shape': {shape}, }}\n".encode()


ARRAYS = {
    "a negative count": (npy(described("(-1, 28, 28)"), bytes(784)), "holds no images"),
    "more than any file holds": (npy(described(f"({10**40}, 28, 28)"), bytes(784)), "holds less than its header"),
    "more by column": (npy(described("(10, 28, 28)", by_column=True), bytes(784)), "holds less than its header"),
    "a header without end": (npy(described("(1, 28, 28)"), version=2, length=2**32 - 1), "not a usable .npy file"),
    "another version": (npy(b"", version=9), "format version 9.0"),
    "objects": (npy(b"{'descr': '|O', 'fortran_order': False, 'shape': (1, 28, 28), }\n"), "holds object"),
}


@pytest.mark.parametrize(("content", "words"), ARRAYS.values(), ids=ARRAYS)
def test_arrays_that_lie(tmp_path, content, words):
    path = tmp_path / "images.npy"
    path.write_bytes(content)
    os.truncate(path, max(len(content), 5 * 2**30 if "usable" in words else 0))
    tracemalloc.start()
    (item,) = inputs.expand([str(path)])
    assert tracemalloc.get_traced_memory()[1] < 10_000_000
    tracemalloc.stop()
    assert words in str(item.error)


def test_an_endless_array_by_column_is_read_in_chunks(tmp_path):
    path = tmp_path / "images.npy"
    path.write_bytes(npy(described("(50000000, 28, 28)", by_column=True)))
    os.truncate(path, 40 * 2**30)
    (stack,) = inputs.expand([str(path)])
    assert next(stack.read()).shape == (inputs.CHUNK, 28, 28)


def test_an_array_that_shrinks_while_it_is_read(expected, tmp_path):
    np.save(tmp_path / "images.npy", np.resize(expected["images"], (600, 28, 28)))
    (stack,) = inputs.expand([str(tmp_path / "images.npy")])
    chunks = stack.read()
    assert len(next(chunks)) == inputs.CHUNK
    os.truncate(tmp_path / "images.npy", 300 * 784)
    with pytest.raises(files.ImageFormatError, match="cut short while it was read"):
        list(chunks)


def test_every_page_is_answered(expected, seven, tmp_path):
    pages = [Image.fromarray(np.pad(image, 20)) for image in expected["images"][:3]]
    wanted = [str(label) for label in expected["logits"][:3].argmax(axis=1)]
    pages[0].save(tmp_path / "pages.tif", save_all=True, append_images=pages[1:])
    pages[0].save(tmp_path / "frames.gif", save_all=True, append_images=pages[1:], duration=100)
    pages[0].save(tmp_path / "one.tif")
    code, answers = predict(tmp_path, "pages.tif", "frames.gif", "one.tif")
    assert code == 0
    assert [(name, line["label"]) for name, line in answers.items()] == [
        *((f"pages.tif[{index}]", label) for index, label in enumerate(wanted)),
        *((f"frames.gif[{index}]", label) for index, label in enumerate(wanted)),
        ("one.tif", wanted[0]),
    ]
    _, answers = predict(tmp_path, ".")
    assert {"./pages.tif[2]", "./7.png"} <= set(answers)
    lines = run_cli("read", tmp_path / "pages.tif").stdout.decode().splitlines()
    assert len(lines) == 3


def test_what_is_passed_over_is_told(seven, tmp_path):
    for name in ("a.heic", "b.HEIC", "c.svg", "notes.txt"):
        (tmp_path / name).write_bytes(b"x")
    result = cli_in_process("predict", tmp_path)
    assert result.returncode == 0
    told = f"note: {tmp_path}: passed over 2 .heic, 1 .svg: convert them to PNG or JPEG to have them read\n"
    assert result.stderr.decode() == told


ESCAPES = "a\x1b]0;title\x07b\x1b[31mc\x9b2Jd\u202ee.png"


def test_no_control_character_reaches_the_terminal(seven, tmp_path):
    (tmp_path / ESCAPES).write_bytes(seven.read_bytes())
    (tmp_path / f"broken {ESCAPES}").write_bytes(b"x")
    result = cli_in_process("predict", tmp_path / ESCAPES, tmp_path / f"broken {ESCAPES}", cwd=tmp_path)
    fails(result, 3, r"\x1b]0;title\x07b\x1b[31mc\x9b2Jd\u202ee.png")
    spelled = cli_in_process("predict", tmp_path / ESCAPES, "--json", cwd=tmp_path)
    assert json.loads(spelled.stdout)["image"] == str(tmp_path / ESCAPES)
    printed = (result.stdout + result.stderr + spelled.stdout).decode()
    assert all(character.isprintable() or character in "\n\t" for character in printed)
    assert printable("7 ✗ é → 字\n\t") == "7 ✗ é → 字\n\t"


def test_no_control_character_in_csv_or_in_a_note(seven, tmp_path):
    (tmp_path / ESCAPES).write_bytes(seven.read_bytes())
    (tmp_path / "two\nlines").mkdir()
    (tmp_path / "two\nlines" / "a.heic").write_bytes(b"x")
    (tmp_path / "two\nlines" / "7.png").write_bytes(seven.read_bytes())
    result = cli_in_process("predict", "--csv", ESCAPES, f"missing {ESCAPES}", "two\nlines", cwd=tmp_path)
    printed = (result.stdout + result.stderr).decode()
    assert all(character.isprintable() or character in "\n\t" for character in printed)
    assert len(result.stderr.splitlines()) == 2
    assert [row[1] for row in csv.reader(io.StringIO(result.stdout.decode()))] == ["label", "7", "", "7"]


def test_an_error_names_its_picture(seven, tmp_path):
    rings = 255 * TEXTURES["wide rings"].astype(np.uint8)
    Image.fromarray(rings).save(tmp_path / "rings.png")
    result = cli_in_process("read", "7.png", "rings.png", "7.png", cwd=tmp_path)
    fails(result, 3, "rings.png: the picture has")
    assert result.stdout == b"7.png\t7\n" * 2


@pytest.mark.parametrize("name", ["=cmd|' !A1'.png", "+1.png", "-1.png", "@SUM(A1).png", "＝1.png", "\n=1.png"])
def test_no_cell_is_a_formula(seven, tmp_path, name):
    (tmp_path / name).write_bytes(seven.read_bytes())
    result = cli_in_process("predict", "--csv", "--", name, f"{name}x", cwd=tmp_path)
    _, row, failed = csv.reader(io.StringIO(result.stdout.decode(), newline=""))
    assert row[:2] == [f"'{name}", "7"]
    assert failed[0] == f"'{name}x"
    assert failed[4].startswith("'")
