"""`predict --sample` and `read --sample`: the pictures that ship with the package."""

import importlib.resources
import json
from pathlib import Path

import pytest
from PIL import Image

import mnist_edge
from mnist_edge.cli import inputs
from tests.helpers import cli_in_process, fails, run_cli

SAMPLES = {"predict": inputs.SAMPLE_DIGITS, "read": inputs.SAMPLE_LINES}
FOLDER = Path(mnist_edge.__file__).parent / "samples"

MODELS = ("cnn", "cnn-nano", "cnn-large")


def shown(name):
    """The digits that a sample shows, by its name."""
    return Path(name).stem.split("-")[1]


@pytest.mark.parametrize("command", SAMPLES)
def test_samples_are_answered_with_their_full_paths(tmp_path, command):
    result = run_cli(command, "--sample", "--quiet", cwd=tmp_path)
    assert result.returncode == 0, result.stderr.decode()
    assert not result.stderr
    rows = [line.split("\t")[:2] for line in result.stdout.decode().splitlines()]
    assert rows == [[str(FOLDER / name), shown(name)] for name in SAMPLES[command]]
    assert all(Path(path).is_file() for path, _ in rows)


@pytest.mark.parametrize("model", MODELS)
def test_every_pretrained_model_is_sure_of_them(tmp_path, model):
    result = cli_in_process("predict", "--sample", "--model", model, "--json", cwd=tmp_path)
    for line, name in zip(map(json.loads, result.stdout.splitlines()), SAMPLES["predict"], strict=True):
        assert (line["label"], line["digits"]) == (shown(name), 1)
        assert line["probability"] > 0.99
        assert line["ood_score"] < 0.99  # the limit that docs/confidence.md measures
    result = cli_in_process("read", "--sample", "--model", model, "--json", cwd=tmp_path)
    for line, name in zip(map(json.loads, result.stdout.splitlines()), SAMPLES["read"], strict=True):
        assert line["text"] == shown(name)
        assert min(digit["probability"] for digit in line["digits"]) > 0.9


@pytest.mark.parametrize("command", SAMPLES)
def test_options_are_as_for_any_image(tmp_path, command):
    result = cli_in_process(command, "--sample", "--min-probability", "1", cwd=tmp_path)
    assert result.returncode == 0
    assert {line.split("\t")[1].strip("?") for line in result.stdout.decode().splitlines()} <= {"none", ""}


@pytest.mark.parametrize("command", SAMPLES)
def test_samples_or_images_but_not_both_and_not_none(tmp_path, command):
    both = cli_in_process(command, "photo.png", "--sample", cwd=tmp_path)
    fails(both, 2, "--sample and IMAGES exclude each other: give one of them")
    none = cli_in_process(command, cwd=tmp_path)
    fails(none, 2, "no images: name files or folders, or give --sample")
    for result in (both, none):
        assert len(result.stderr.splitlines()) == 1
        assert not result.stdout
    told = json.loads(cli_in_process(command, "--json", cwd=tmp_path).stdout)
    assert told["exit_code"] == 2


def test_the_package_holds_just_these_and_they_are_small():
    folder = importlib.resources.files("mnist_edge") / "samples"
    found = {file.name: len(file.read_bytes()) for file in folder.iterdir()}
    assert set(found) == {*inputs.SAMPLE_DIGITS, *inputs.SAMPLE_LINES}
    assert sum(found.values()) < 60_000


def test_they_are_of_two_formats_and_the_photograph_has_uneven_light():
    forms = {}
    for name in (*inputs.SAMPLE_DIGITS, *inputs.SAMPLE_LINES):
        with Image.open(FOLDER / name) as image:
            forms[name] = (image.format, image.mode)
            corners = [image.convert("L").getpixel((x, y)) for x, y in ((5, 5), (image.width - 5, image.height - 5))]
            assert (corners[0] - corners[1] > 60) == name.startswith("photo")
    assert sorted(forms.values()) == [("JPEG", "RGB"), ("PNG", "L"), ("PNG", "L")]
