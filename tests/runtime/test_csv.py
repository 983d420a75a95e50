"""`mnist-edge predict` of CSV files, Kaggle's test.csv among them, with what its submission needs."""

import json
import os
import shutil
import subprocess
import sys

import numpy as np
import pytest

from mnist_edge.data import csv_files
from mnist_edge.errors import DataFormatError
from tests.helpers import cli_in_process, fails, run_python

PIXELS = [f"pixel{number}" for number in range(784)]

SUBMISSION = (
    """mnist-edge predict test.csv --csv | awk -F, 'NR == 1 {print "ImageId,Label"} NR > 1 {print NR - 1 "," $2}'"""
)
"""What the documentation tells; it writes Kaggle's submission to stdout."""


@pytest.fixture(scope="module")
def images():
    """Eleven strokes, each at another place."""
    drawn = np.zeros((11, 28, 28), np.uint8)
    for number, image in enumerate(drawn):
        image[4:24, 8 + number : 11 + number] = 250 - number
    return drawn


def lines(table):
    return "".join(",".join(map(str, row)) + "\n" for row in table)


def write(path, images, labels=None, header=True, last=False):
    """A CSV file; `labels` before the pixels, or behind them if `last`."""
    rows, names = [list(image.ravel()) for image in images], PIXELS
    if labels is not None:
        rows = [[*row, label] if last else [label, *row] for row, label in zip(rows, labels, strict=True)]
        names = [*PIXELS, "label"] if last else ["label", *PIXELS]
    path.write_text(lines([names, *rows] if header else rows))
    return path


def predicted(path, *options):
    result = cli_in_process("predict", path.name, "--json", *options, cwd=path.parent)
    assert result.returncode == 0, result.stderr.decode()
    assert not result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


@pytest.fixture(scope="module")
def wanted(images, tmp_path_factory):
    """The answers to the same images in a NumPy file."""
    path = tmp_path_factory.mktemp("npy") / "test.csv.npy"
    np.save(path, images)
    return [{**line, "image": line["image"].replace(".npy", "")} for line in predicted(path)]


@pytest.mark.parametrize("header", [True, False])
@pytest.mark.parametrize("labels", ["none", "first", "last"])
def test_every_line_is_an_image(images, wanted, tmp_path, header, labels):
    given = None if labels == "none" else np.arange(11)
    path = write(tmp_path / "test.csv", images, given, header, last=labels == "last")
    assert predicted(path) == wanted
    assert csv_files.count_images(path) == 11
    path.write_text(path.read_text().rstrip("\n"))
    assert csv_files.count_images(path) == 11


def test_kaggles_submission_in_one_line(images, wanted, tmp_path):
    if not shutil.which("awk"):
        pytest.skip("awk is not installed")
    path = write(tmp_path / "test.csv", images)
    (tmp_path / "mnist-edge").write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mnist_edge "$@"\n')
    (tmp_path / "mnist-edge").chmod(0o755)
    found = {**os.environ, "PATH": f"{tmp_path}{os.pathsep}{os.environ['PATH']}"}
    told = subprocess.run(
        SUBMISSION, shell=True, cwd=path.parent, env=found, capture_output=True, text=True, timeout=60, check=False
    )
    assert not told.stderr
    assert told.stdout.splitlines() == [
        "ImageId,Label",
        *(f"{number},{line['label']}" for number, line in enumerate(wanted, start=1)),
    ]


def test_the_lines_are_read_in_parts_and_without_torch(images, tmp_path):
    """More lines than are parsed at once; the same file, one image at a time, gives the same."""
    count = 2 * csv_files.TOGETHER + 5
    many = np.tile(images[:5], (count // 5, 1, 1))
    path = write(tmp_path / "test.csv", many)
    parts = list(csv_files.read_images(path))
    assert [len(part) for part in parts] == [csv_files.TOGETHER, csv_files.TOGETHER, 5]
    assert np.array_equal(np.concatenate(parts), many)
    code = """
import sys
sys.argv = ["mnist-edge", "predict", "test.csv"]
from mnist_edge.cli.main import main
try:
    main()
finally:
    assert not {"torch", "onnx", "torchvision"} & set(sys.modules)
"""
    result = run_python(f"import os; os.chdir({str(tmp_path)!r})\n{code}")
    assert result.returncode == 0, result.stderr
    assert len(result.stdout.splitlines()) == count


SPOILT = {
    "two columns": (lambda text: "ImageId,Label\n1,2\n", "its first line has 2 columns instead of 785"),
    "no columns": (lambda text: "some text\n", "its first line has 1 columns instead of 785"),
    "no images": (lambda text: text.split("\n")[0], "holds no images below its header"),
    "a label for a pixel": (lambda text: text.replace("pixel7,", "label,"), "has 783 pixels beside its labels"),
    "pixels in another order": (
        lambda text: text.replace("pixel7,", "pixel8,").replace("8,pixel8", "8,pixel7"),
        "sort",
    ),
    "line ends of old Macs": (lambda text: text.replace("\n", "\r"), "its first line holds a carriage return"),
    "a picture": (lambda text: "\udc89PNG\r\n", "is not UTF-8 text"),
}


@pytest.mark.parametrize(("spoil", "words"), SPOILT.values(), ids=SPOILT)
def test_what_cannot_be_used_is_one_line(images, tmp_path, spoil, words):
    path = write(tmp_path / "test.csv", images)
    path.write_bytes(spoil(path.read_text()).encode(errors="surrogateescape"))
    result = cli_in_process("predict", "test.csv", cwd=tmp_path)
    fails(result, 3, "test.csv: ", words)
    assert not result.stdout


@pytest.mark.parametrize(
    ("old", "new", "words"),
    [
        ("0,", "", "has 783 values instead of 784: complete it"),
        ("0,", "0.5,", "pixel 0.5 is not a whole number within 0…255"),
        ("0,", "-1,", "pixel -1 is not a whole number within 0…255"),
        ("0,", "x,", "each line is 784 whole numbers"),
    ],
)
def test_a_spoilt_line_is_named_after_the_answers_before_it(images, tmp_path, old, new, words):
    path = write(tmp_path / "test.csv", np.tile(images[:1], (csv_files.TOGETHER + 10, 1, 1)))
    first, *rest = path.read_text().splitlines()
    rest[csv_files.TOGETHER + 3] = rest[csv_files.TOGETHER + 3].replace(old, new, 1)
    path.write_text("\n".join([first, *rest]))
    result = cli_in_process("predict", "test.csv", cwd=tmp_path)
    fails(result, 3, f"test.csv, line {csv_files.TOGETHER + 5}: ", words)
    assert len(result.stdout.splitlines()) == csv_files.TOGETHER


def test_read_names_the_command_for_such_files(images, tmp_path):
    write(tmp_path / "test.csv", images)
    fails(cli_in_process("read", "test.csv", cwd=tmp_path), 3, "holds images of single digits: use predict")


def test_a_file_without_line_ends_is_refused_early(tmp_path):
    (tmp_path / "test.csv").write_text(1_000_000 * "0,")
    with pytest.raises(DataFormatError, match="longer than 65,536 bytes"):
        csv_files.count_images(tmp_path / "test.csv")
