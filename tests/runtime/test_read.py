"""Reading several digits in one picture, from Python and on the command line."""

import gzip
import json

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.contract import Preprocessing
from mnist_edge.errors import ImageFormatError, ImageNotFoundError, UsageError
from tests.helpers import cli_in_process, fails, run_cli


@pytest.fixture(scope="module")
def classifier(bundle_dir):
    return Classifier(bundle_dir, format="onnx")


@pytest.fixture(scope="module")
def sure(expected):
    """For each of six digits the correctly classified image that PyTorch is surest of, and their text."""
    top = np.sort(expected["logits"], axis=1)
    right = expected["logits"].argmax(axis=1) == expected["labels"]
    order = np.argsort(-np.where(right, top[:, -1] - top[:, -2], -np.inf))
    firsts = [next(index for index in order if expected["labels"][index] == label) for label in (0, 2, 3, 4, 6, 7)]
    return expected["images"][firsts], "023467"


@pytest.fixture(scope="module")
def line(sure):
    """The digits side by side, enlarged three times, dark on light paper, and their text."""
    images, text = sure
    row = np.concatenate([np.pad(image, ((10, 10), (4, 4))) for image in images], axis=1)
    large = np.asarray(Image.fromarray(row).resize((3 * row.shape[1], 3 * row.shape[0]), Image.Resampling.BICUBIC))
    return (235 - large * 0.8).round().astype(np.uint8), text


def test_a_line_is_read(classifier, line):
    pixels, text = line
    reading = classifier.read(pixels)
    assert reading.text == text
    assert {digit.line for digit in reading.digits} == {0}
    for number, digit in enumerate(reading.digits):
        left, top, right, bottom = digit.box
        assert 108 * number <= left < right <= 108 * (number + 1)
        assert 0 < top < bottom < pixels.shape[0]
        assert 0.5 < digit.probability <= 1
        assert digit.label == text[number]


def test_two_lines_are_read_one_after_the_other(classifier, line):
    pixels, text = line
    reading = classifier.read(np.concatenate([pixels, pixels]))
    assert reading.text == f"{text}\n{text}"


def test_what_is_not_probable_enough_is_a_question_mark(classifier, line):
    reading = classifier.read(line[0], min_probability=1.0)
    assert set(reading.text) <= {"?", *line[1]}
    assert "?" in reading.text
    assert [digit.label is None for digit in reading.digits] == [character == "?" for character in reading.text]


def test_an_empty_page_says_nothing(classifier):
    reading = classifier.read(np.full((60, 300), 240, np.uint8))
    assert (reading.text, reading.digits) == ("", ())


@pytest.mark.parametrize("pixels", [[[0], [127]], [[255], [0]], [[0, 0, 200], [0, 0, 0]]])
def test_boxes_in_pictures_of_a_few_pixels_are_not_empty(classifier, pixels):
    picture = np.array(pixels, np.uint8)
    for digit in classifier.read(picture).digits:
        left, top, right, bottom = digit.box
        assert 0 <= left < right <= picture.shape[1]
        assert 0 <= top < bottom <= picture.shape[0]


def test_a_model_of_whole_pictures_does_not_read(classifier, monkeypatch, line):
    model = classifier._model
    contract = structs.replace(model.contract, preprocessing=Preprocessing.WHOLE)
    whole = structs.replace(model, contents=structs.replace(model.contents, contract=contract))
    monkeypatch.setattr(classifier, "_model", whole)
    with pytest.raises(UsageError, match="use predict"):
        classifier.read(line[0])


def test_what_cannot_be_read(classifier):
    with pytest.raises(ImageNotFoundError):
        classifier.read("nowhere.png")
    with pytest.raises(ImageFormatError, match="grey array"):
        classifier.read(np.zeros((2, 30, 30), np.uint8))


def test_on_the_command_line(bundle_dir, line, tmp_path):
    Image.fromarray(line[0]).save(tmp_path / "line.png")
    Image.new("L", (50, 50), 255).save(tmp_path / "blank.png")
    result = run_cli("read", "line.png", "blank.png", "--model", bundle_dir, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    assert result.stdout.decode() == f"line.png\t{line[1]}\nblank.png\t\n"
    found = json.loads(run_cli("read", "line.png", "--json", "--model", bundle_dir, cwd=tmp_path).stdout)
    assert found["text"] == line[1]
    assert [digit["label"] for digit in found["digits"]] == list(line[1])
    assert set(found["digits"][0]) == {"label", "probability", "ood_score", "box", "line"}


def test_errors_do_not_stop_the_others(bundle_dir, line, tmp_path):
    Image.fromarray(line[0]).save(tmp_path / "line.png")
    np.save(tmp_path / "batch.npy", np.zeros((3, 28, 28), np.uint8))
    result = cli_in_process("read", "gone.png", "line.png", "--model", bundle_dir, cwd=tmp_path)
    fails(result, 3, "gone.png", "no such file")
    assert result.stdout.decode() == f"line.png\t{line[1]}\n"
    fails(cli_in_process("read", "batch.npy", "--model", bundle_dir, cwd=tmp_path), 3, "batch.npy", "use predict")
    labels = tmp_path / "labels.gz"
    labels.write_bytes(gzip.compress(b"\0\0\x08\x01\0\0\0\x02\x03\x04"))
    result = cli_in_process("read", "labels.gz", "line.png", "--model", bundle_dir, cwd=tmp_path)
    fails(result, 3, "labels.gz", "IDX file of labels")
    assert result.stdout.decode() == f"line.png\t{line[1]}\n"
    piped = cli_in_process("read", "-", "--json", "--model", bundle_dir, stdin=(tmp_path / "line.png").read_bytes())
    assert json.loads(piped.stdout)["text"] == line[1]
