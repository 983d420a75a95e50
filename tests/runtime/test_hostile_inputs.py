"""Pictures and files of strangers: refused or answered in bounded time and memory, and the others answered as well."""

import contextlib
import csv
import io
import json
import os
import struct
import subprocess
import sys
import time
import zlib

import numpy as np
import pytest
from PIL import Image

from mnist_edge.cli.output import printable
from mnist_edge.images import content, files
from tests.helpers import fails, run_cli

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="measures processes as POSIX does")

MOST_MEMORY = 300e6


@pytest.fixture
def seven(expected, tmp_path):
    index = int(np.flatnonzero((expected["labels"] == 7) & (expected["logits"].argmax(axis=1) == 7))[0])
    Image.fromarray(expected["images"][index]).save(tmp_path / "7.png")
    return tmp_path / "7.png"


def predict(folder, *names, stdin=None):
    """Exit code, lines of JSON by name, and the peak of the process's memory in bytes."""
    command = [sys.executable, "-m", "mnist_edge", "predict", "--json", *names]
    with subprocess.Popen(
        command, cwd=folder, stdin=stdin, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    ) as process:
        out, err = process.communicate(timeout=60)
        code = process.returncode
    assert "Traceback" not in err
    return code, {line["image"]: line for line in map(json.loads, out.splitlines())}


def peak(folder, *names):
    """The peak of the memory of a process that predicts, in bytes; it takes its own exit code along."""
    script = (
        "import resource, subprocess, sys\n"
        "code = subprocess.run(sys.argv[1:], stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL).returncode\n"
        "unit = 1 if sys.platform == 'darwin' else 1024\n"
        "print(code, unit * resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)"
    )
    command = [sys.executable, "-c", script, sys.executable, "-m", "mnist_edge", "predict", *names]
    code, size = subprocess.run(command, cwd=folder, capture_output=True, text=True, check=True).stdout.split()
    return int(code), int(size)


def png(width, height, *, depth=8, colour=0):
    """A PNG of one colour, however large, in a few kilobytes and without holding its pixels."""

    def chunk(kind, data):
        return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))

    row = bytes(1 + (width * depth * {0: 1, 2: 3, 3: 1, 4: 2, 6: 4}[colour] + 7) // 8)
    deflate = zlib.compressobj(9)
    data = b"".join(deflate.compress(row) for _ in range(height)) + deflate.flush()
    header = struct.pack(">IIBBBBB", width, height, depth, colour, 0, 0, 0)
    palette = chunk(b"PLTE", bytes(3)) if colour == 3 else b""
    start = b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header)
    return start + palette + chunk(b"IDAT", data) + chunk(b"IEND", b"")


LARGE = {
    "1000000x1": ((1_000_000, 1), {}, "a side is longer than 32,768"),
    "1x1500000": ((1, 1_500_000), {}, "a side is longer than 32,768"),
    "64000000x1": ((64_000_000, 1), {}, "a side is longer than 32,768"),
    "32768x1": ((32_768, 1), {}, None),
    "2x30000": ((2, 30_000), {}, None),
    "30000x2000": ((30_000, 2000), {}, None),
    "rgba 8000x8000": ((8000, 8000), {"colour": 6}, "takes 256 MB once decoded"),
    "rgba 6200x6200": ((6200, 6200), {"colour": 6}, None),
    "la 6200x6200": ((6200, 6200), {"colour": 4}, None),
    "rgb 6200x6200": ((6200, 6200), {"colour": 2}, None),
    "16 bits 8000x8000": ((8000, 8000), {"depth": 16}, None),
    "palette 8000x8000": ((8000, 8000), {"colour": 3}, None),
    "1 bit 8000x8000": ((8000, 8000), {"depth": 1}, None),
    "rgba 3199x3199": ((3199, 3199), {"colour": 6}, None),
}


@pytest.mark.slow
@pytest.mark.parametrize(("size", "kind", "refused"), LARGE.values(), ids=LARGE)
def test_any_picture_takes_bounded_memory(seven, tmp_path, size, kind, refused):
    (tmp_path / "large.png").write_bytes(png(*size, **kind))
    code, answers = predict(tmp_path, "large.png", "7.png")
    assert answers["7.png"]["label"] == "7"
    assert code == (3 if refused else 0)
    if refused:
        assert refused in answers["large.png"]["error"]
    else:
        assert answers["large.png"]["label"] is None
    assert peak(tmp_path, "large.png")[1] < MOST_MEMORY


@pytest.mark.parametrize("options", [{}, {"progressive": True}])
def test_a_photograph_of_48_megapixels_passes(expected, tmp_path, options):
    ink = Image.fromarray(255 - expected["images"][0]).resize((1600, 1600))
    photograph = Image.new("RGB", (8000, 6000), "white")
    photograph.paste(ink, (3000, 2000))
    photograph.save(tmp_path / "large.jpg", quality=85, **options)
    _, answers = predict(tmp_path, "large.jpg")
    assert answers["large.jpg"]["label"] == str(expected["logits"][0].argmax())
    assert peak(tmp_path, "large.jpg")[1] < MOST_MEMORY


@pytest.mark.slow
def test_a_photograph_of_12_megapixels_passes_as_webp(expected, tmp_path):
    photograph = Image.new("RGB", (4000, 3000), "white")
    photograph.paste(Image.fromarray(255 - expected["images"][0]).resize((1600, 1600)), (1000, 700))
    photograph.save(tmp_path / "large.webp")
    _, answers = predict(tmp_path, "large.webp")
    assert answers["large.webp"]["label"] == str(expected["logits"][0].argmax())
    assert peak(tmp_path, "large.webp")[1] < MOST_MEMORY


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
    "noise": np.random.default_rng(0).integers(0, 2, (1600, 1600)),
}


@pytest.mark.parametrize("texture", TEXTURES.values(), ids=TEXTURES)
def test_a_texture_takes_little_longer_than_a_digit(expected, texture):
    from mnist_edge import Classifier

    classifier = Classifier()

    def duration(picture):
        start = time.process_time()
        for use in (classifier.read, classifier.predict):
            with contextlib.suppress(files.ImageFormatError):
                use(picture.astype(np.uint8))
        return time.process_time() - start

    digit = np.kron(expected["images"][0], np.ones((57, 57), np.uint8))
    assert duration(255 * texture) < 20 * min(duration(digit) for _ in range(3))


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
    with pytest.raises(files.ImageFormatError, match=r"not a picture in a format that is read \(PNG, JPEG, BMP"):
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


def test_an_array_that_shrinks_while_it_is_read(expected, tmp_path):
    from mnist_edge.cli import inputs

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
    result = run_cli("predict", tmp_path)
    assert result.returncode == 0
    told = f"note: {tmp_path}: passed over 2 .heic, 1 .svg: convert them to PNG or JPEG to have them read\n"
    assert result.stderr.decode() == told


ESCAPES = "a\x1b]0;title\x07b\x1b[31mc\x9b2Jd\u202ee.png"


def test_no_control_character_reaches_the_terminal(seven, tmp_path):
    (tmp_path / ESCAPES).write_bytes(seven.read_bytes())
    (tmp_path / f"broken {ESCAPES}").write_bytes(b"x")
    result = run_cli("predict", tmp_path / ESCAPES, tmp_path / f"broken {ESCAPES}", cwd=tmp_path)
    fails(result, 3, r"\x1b]0;title\x07b\x1b[31mc\x9b2Jd\u202ee.png")
    spelled = run_cli("predict", tmp_path / ESCAPES, "--json", cwd=tmp_path)
    assert json.loads(spelled.stdout)["image"] == str(tmp_path / ESCAPES)
    printed = (result.stdout + result.stderr + spelled.stdout).decode()
    assert all(character.isprintable() or character in "\n\t" for character in printed)
    assert printable("7 ✗ é → 字\n\t") == "7 ✗ é → 字\n\t"


@pytest.mark.parametrize("name", ["=cmd|' !A1'.png", "+1.png", "-1.png", "@SUM(A1).png"])
def test_no_cell_is_a_formula(seven, tmp_path, name):
    (tmp_path / name).write_bytes(seven.read_bytes())
    result = run_cli("predict", "--csv", "--", name, f"{name}x", cwd=tmp_path)
    _, row, failed = csv.reader(io.StringIO(result.stdout.decode(), newline=""))
    assert row[:2] == [f"'{name}", "7"]
    assert failed[0] == f"'{name}x"
    assert failed[4].startswith("'")
