"""`evaluate --mistakes`, and what `evaluate --plot` says where matplotlib is missing."""

import json
import sys

import numpy as np
import pytest
from PIL import Image

from mnist_edge import extras
from mnist_edge.data import idx
from mnist_edge.data.idx_folders import IDX_FILES
from mnist_edge.evaluation.mistakes import Mistake, mistakes
from mnist_edge.report import sheets
from tests.helpers import cli_in_process, fails, run_python


def write_data(folder, images, labels):
    """An IDX folder with the same images to train and to test on."""
    folder.mkdir()
    for images_file, labels_file in IDX_FILES.values():
        for file, array in ((images_file, images), (labels_file, labels)):
            (folder / file).write_bytes(idx.encode(array.astype(np.uint8)))
    return folder


@pytest.fixture
def data(tmp_path, expected):
    return write_data(tmp_path / "data", expected["images"], expected["labels"])


@pytest.fixture
def without_matplotlib(monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)  # makes the import fail


def pixels(path):
    with Image.open(path) as image:
        assert image.mode in ("L", "RGB")
        return np.asarray(image)


def saved(result):
    """What the command tells about the files that it saved."""
    return [line for line in result.stderr.decode().splitlines() if "save" in line]


def test_every_wrong_image_is_saved(bundle_dir, expected, data, tmp_path, without_matplotlib):
    folder = tmp_path / "new" / "wrong"
    result = cli_in_process("evaluate", bundle_dir / "model.onnx", "--data", data, "--mistakes", folder)
    assert result.returncode == 0, result.stderr
    answers = expected["logits"].argmax(axis=1)
    wrong = np.flatnonzero(answers != expected["labels"])
    assert len(wrong) > 1
    assert saved(result) == [f"saved {len(wrong)} wrong images and 1 contact sheet in {folder}"]
    names = sorted(path.name for path in folder.iterdir())
    assert names.pop() == "sheet-1.png"
    assert [name.rpartition("-p")[0] for name in names] == [
        f"{index:04}-is-{expected['labels'][index]}-named-{answers[index]}" for index in wrong
    ]
    for name, index in zip(names, wrong, strict=True):
        assert np.array_equal(pixels(folder / name), expected["images"][index])


def test_json_holds_the_paths_most_confident_first(bundle_dir, data, tmp_path):
    folder = tmp_path / "wrong"
    command = ["evaluate", bundle_dir / "model.onnx", "--data", data, "--json"]
    result = cli_in_process(*command, "--mistakes", folder)
    found = json.loads(result.stdout)
    assert len(found["mistakes"]["images"]) == found["total"] - found["correct"]
    named = {image["path"] for image in found["mistakes"]["images"]} | set(found["mistakes"]["sheets"])
    assert named == {str(path) for path in folder.iterdir()}
    sure = [image["probability"] for image in found["mistakes"]["images"]]
    assert sure == sorted(sure, reverse=True)
    for image in found["mistakes"]["images"]:
        probability = f"p{image['probability']:.2f}"
        name = f"{image['index']:04}-is-{image['label']}-named-{image['answer']}-{probability}.png"
        assert image["path"] == str(folder / name)
    assert "mistakes" not in json.loads(cli_in_process(*command).stdout)


def test_one_mistake_and_none(bundle_dir, expected, tmp_path):
    right = np.flatnonzero(expected["logits"].argmax(axis=1) == expected["labels"])
    images, labels = expected["images"][right], expected["labels"][right].copy()
    folder = tmp_path / "wrong"
    command = ["evaluate", bundle_dir / "model.onnx", "--mistakes", folder, "--data"]
    none = cli_in_process(*command, write_data(tmp_path / "right", images, labels))
    assert saved(none) == [f"no mistakes: nothing to save in {folder}"]
    assert list(folder.iterdir()) == []
    labels[5] = (labels[5] + 1) % 10
    data = write_data(tmp_path / "one wrong", images, labels)
    one = cli_in_process(*command, data)
    assert saved(one) == [f"saved 1 wrong image and 1 contact sheet in {folder}"]
    assert len(list(folder.iterdir())) == 2


def test_those_of_an_earlier_run_are_replaced(bundle_dir, expected, data, tmp_path):
    folder = tmp_path / "wrong"
    command = ["evaluate", bundle_dir / "model.onnx", "--mistakes", folder, "--data"]
    cli_in_process(*command, data)
    first = {path.name: path.read_bytes() for path in folder.iterdir()}
    images, labels = expected["images"], np.roll(expected["labels"], 1)  # more mistakes, and others
    cli_in_process(*command, write_data(tmp_path / "other", images, labels))
    assert {path.name for path in folder.glob("sheet-*.png")} > {"sheet-1.png", "sheet-2.png"}
    (folder / ".DS_Store").write_bytes(b"a file manager's")
    result = cli_in_process(*command, data)
    assert result.returncode == 0, result.stderr
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == {**first, ".DS_Store": b"a file manager's"}


@pytest.mark.parametrize("other", ["holiday.png", "sheet-1.png.txt", "12-is-7-named-1-p0.50.png", "sheet-1.png/"])
def test_a_folder_that_holds_anything_else_is_refused_at_once(bundle_dir, tmp_path, other):
    folder = tmp_path / "pictures"
    folder.mkdir()
    (folder / other).mkdir() if other.endswith("/") else (folder / other).write_bytes(b"x")
    result = cli_in_process("evaluate", bundle_dir, "--mistakes", "pictures", "--data", "mnist", cwd=tmp_path)
    fails(result, 2, f"pictures: is not empty, it holds {other.rstrip('/')}: give --mistakes a new folder")
    assert len(list(folder.iterdir())) == 1


def test_a_bundle_is_no_place_for_mistakes(bundle_copy):
    before = {path.name for path in bundle_copy.iterdir()}
    fails(cli_in_process("evaluate", "cnn-nano", "--mistakes", bundle_copy), 2, f"{bundle_copy}: is not empty")
    assert {path.name for path in bundle_copy.iterdir()} == before


def test_a_sheet_shows_each_image_enlarged_and_there_are_as_many_as_needed(tmp_path):
    images = np.random.default_rng(0).integers(0, 256, (300, 28, 28)).astype(np.uint8)
    wrong = [Mistake(index, 0, 1, 0.9) for index in range(250)]
    paths = sheets.save_sheets(wrong, images, ("T-shirt/top", "日本"), tmp_path, "a heading")
    assert [path.name for path in paths] == ["sheet-1.png", "sheet-2.png", "sheet-3.png"]
    shown = []
    for path, start in zip(paths, (0, 120, 240), strict=True):
        canvas = pixels(path)[:, :, 0]
        top, left = place_of(enlarged(images[start]), canvas)
        for y in range(top, len(canvas) - 112, 112 + 3 * 16 + 14):
            for x in range(left, canvas.shape[1] - 112, 112 + 14):
                part = canvas[y : y + 112, x : x + 112]
                if (part != 255).any():
                    shown.append(part)
    assert len(shown) == 250
    for image, part in zip(images, shown, strict=False):
        assert np.array_equal(part, enlarged(image))


def enlarged(image):
    return image.repeat(4, axis=0).repeat(4, axis=1)


def place_of(large, canvas):
    """Where the first row of an enlarged image is: row and column."""
    found = np.ones(canvas.shape, dtype=bool)
    for column in range(0, 112, 4):
        found &= np.roll(canvas, -column, axis=1) == large[0, column]
    return np.argwhere(found)[0]


def test_labels_make_file_names():
    labels = ("T-shirt/top", "..\\a b", "é" * 300)
    names = [sheets.file_name(Mistake(7, one, 2, 0.987), labels, 20_000) for one in (0, 1)]
    end = f"-named-{'é' * 20}-p0.99.png"
    assert names == [f"00007-is-T_shirt_top{end}", f"00007-is-.._a_b{end}"]


def test_mistakes_are_found_by_the_largest_probability():
    probabilities = np.array([[0.9, 0.1], [0.4, 0.6], [0.2, 0.8], [0.3, 0.7]])
    found = mistakes(probabilities, np.array([0, 0, 0, 1], dtype=np.uint8))
    assert found == [Mistake(2, 0, 1, 0.8), Mistake(1, 0, 1, 0.6)]


@pytest.mark.parametrize("option", ["--mistakes", "--plot"])
def test_a_file_in_the_place_of_the_folder_is_refused_at_once(bundle_dir, tmp_path, option):
    if option == "--plot":
        pytest.importorskip("matplotlib")
    (tmp_path / "file").write_text("x")
    for folder in ("file", "file/below"):
        result = cli_in_process("evaluate", bundle_dir, option, folder, "--data", "mnist", cwd=tmp_path)
        fails(result, 2, f"file: is not a folder: give {option} a new or existing folder")


def test_a_folder_that_cannot_be_made_is_told_at_once(bundle_dir, tmp_path):
    folder = tmp_path / ("x" * 300)  # too long for any file system
    result = cli_in_process("evaluate", bundle_dir, "--mistakes", folder, "--data", "mnist")
    fails(result, 2, "x: a name in it is too long: choose another --mistakes")


def test_plots_need_matplotlib_which_is_said_at_once(bundle_dir, tmp_path, without_matplotlib):
    for given in (bundle_dir, "cnn"):
        result = cli_in_process("evaluate", given, "--plot", "plots", "--data", "none", cwd=tmp_path)
        fails(result, 1, f"matplotlib is not installed: {' '.join(extras.to_install('plot').split())}")
    assert not (tmp_path / "plots").exists()


def test_only_plots_import_matplotlib(bundle_dir, data, tmp_path):
    code = (
        "import sys, mnist_edge.report.plots; from mnist_edge.cli.main import main\n"
        "try: main()\n"
        "finally: print('matplotlib' in sys.modules, file=sys.stderr)"
    )
    command = ["evaluate", bundle_dir / "model.onnx", "--data", data, "--mistakes", tmp_path / "wrong"]
    result = run_python(code, *command)
    assert result.stderr.splitlines()[-1] == "False"
    assert "calibration error" in result.stdout
