"""Which file of a bundle is used: the manifest decides unless a format is requested."""

import json
import shutil
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
from msgspec import UNSET, structs
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.bundle.records import Recommendation
from mnist_edge.errors import ModelNotFoundError, UsageError
from mnist_edge.runtime.describe import describe
from mnist_edge.runtime.model import PRETRAINED, file_that_answers, locate, open_model
from tests.helpers import cli_in_process, fails, run_cli

ONNX, STATIC, DYNAMIC = "model.onnx", "model.int8-static.onnx", "model.int8-dynamic.onnx"


def edited(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))
    return folder


def recommending(folder, name):
    return edited(folder, lambda manifest: manifest["recommended"].update(file=name))


@pytest.mark.parametrize("name", [ONNX, STATIC])
def test_the_recommended_file_answers(bundle_copy, expected, name):
    classifier = Classifier(recommending(bundle_copy, name))
    assert classifier.file == name
    images = expected["images"][:20]
    assert (classifier.logits(images) == Classifier(bundle_copy / name).logits(images)).all()


def listing(*names, recommended=None):
    """The parts of a manifest that matter for the choice."""
    advice = Recommendation(recommended, {}) if recommended else UNSET
    return SimpleNamespace(files=dict.fromkeys(names), recommended=advice)


@pytest.mark.parametrize(
    ("manifest", "name"),
    [
        (listing(ONNX, STATIC, DYNAMIC), ONNX),
        (listing(ONNX, STATIC, recommended=STATIC), STATIC),
        (listing("model.pth", "model.torchscript", DYNAMIC), DYNAMIC),
        (listing(STATIC), STATIC),
        (listing(ONNX, recommended=STATIC), ONNX),  # the recommended file was not exported
    ],
)
def test_where_nothing_is_recommended(tmp_path, manifest, name):
    assert file_that_answers(tmp_path, manifest) == name


def test_where_the_manifest_does_not_decide(tmp_path):
    with pytest.raises(ModelNotFoundError, match="name one with format"):
        file_that_answers(tmp_path, listing(STATIC, DYNAMIC))
    with pytest.raises(ModelNotFoundError, match="without a file that onnxruntime runs"):
        file_that_answers(tmp_path, listing("model.torchscript"))
    with pytest.raises(ModelNotFoundError, match=r"was exported without model\.int8-static\.onnx"):
        file_that_answers(tmp_path, listing(ONNX), wanted=Format.INT8_STATIC)


@pytest.mark.parametrize("form", [form for form in Format if form in RUNNABLE], ids=str)
def test_a_format_that_is_asked_for(bundle_dir, form):
    assert Classifier(bundle_dir, format=form).file == form.file_name
    assert open_model(bundle_dir, format=str(form)).contents.format is form


def test_a_recommended_file_that_is_missing_is_not_replaced_in_silence(bundle_copy):
    (recommending(bundle_copy, STATIC) / STATIC).unlink()
    with pytest.raises(ModelNotFoundError, match=STATIC):
        Classifier(bundle_copy)
    assert Classifier(bundle_copy, format="onnx").file == ONNX


def test_a_single_file_must_be_of_the_format(bundle_dir, tmp_path):
    copied = shutil.copy(bundle_dir / STATIC, tmp_path / "anything.onnx")
    assert Classifier(copied, format="int8-static").file == "anything.onnx"
    with pytest.raises(UsageError, match="is int8-static, not onnx"):
        Classifier(copied, format="onnx")


@pytest.mark.parametrize("form", ["torchscript", "c", "coreml", "", 3])
def test_formats_that_are_not_run(bundle_dir, form):
    with pytest.raises(UsageError, match="choose from onnx, int8-dynamic, int8-static"):
        Classifier(bundle_dir, format=form)


def test_the_commands_name_the_file_that_answers(bundle_copy, expected, tmp_path):
    recommending(bundle_copy, STATIC)
    Image.fromarray(expected["images"][0]).save(tmp_path / "digit.png")
    for options, name in (([], STATIC), (["--format", "onnx"], ONNX)):
        result = cli_in_process("predict", "digit.png", "--model", bundle_copy, "--json", *options, cwd=tmp_path)
        assert json.loads(result.stdout)["file"] == name
        result = cli_in_process("selftest", bundle_copy, "--json", *options, cwd=tmp_path)
        assert json.loads(result.stdout)["file"].endswith(name)
    assert json.loads(cli_in_process("info", bundle_copy, "--json").stdout)["answers"] == STATIC
    assert f"answers        {STATIC}" in cli_in_process("info", bundle_copy).stdout.decode()
    assert describe(bundle_copy / ONNX).answers == ONNX
    fails(
        cli_in_process("predict", "digit.png", "--format", "torchscript", cwd=tmp_path), 2, "is not run by onnxruntime"
    )
    fails(cli_in_process("predict", "digit.png", "--format", "coreml", cwd=tmp_path), 2, "unknown format 'coreml'")


def test_a_known_name_is_the_model_and_a_path_is_the_folder(bundle_copy, monkeypatch, tmp_path):
    """`bundle_copy` is a folder called cnn in the working directory."""
    monkeypatch.chdir(tmp_path)
    assert bundle_copy.name == "cnn"
    assert Path(locate("cnn")) == Path(PRETRAINED, "cnn")
    for path in ("./cnn", bundle_copy.relative_to(tmp_path), bundle_copy):
        assert Path(locate(path)).resolve() == bundle_copy
    assert Classifier("cnn").contract != Classifier("./cnn").contract


@pytest.mark.parametrize("command", [["info"], ["selftest"], ["predict", "digit.png", "--model"]])
def test_a_note_says_which_is_meant(bundle_copy, expected, tmp_path, command):
    Image.fromarray(expected["images"][0]).save(tmp_path / "digit.png")
    results = {name: cli_in_process(*command, name, cwd=tmp_path) for name in ("cnn", "./cnn", "cnn-nano")}
    notes = {
        name: [line for line in result.stderr.decode().splitlines() if "note:" in line]
        for name, result in results.items()
    }
    told = "note: cnn is taken as a known name; for the file or folder, write ./cnn"
    assert notes == {"cnn": [told], "./cnn": [], "cnn-nano": []}


def test_what_is_no_name(monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    for name in ("cnn/", "./cnn", "README.md", "x" * 5000):
        with pytest.raises(ModelNotFoundError):
            locate(name)
    with pytest.raises(UsageError):
        locate("")


def test_the_contract_of_all_files_is_the_bundles(bundle_dir):
    contracts = {
        structs.replace(open_model(bundle_dir, format=f).contract, calibration=None) for f in ("onnx", "int8-static")
    }
    assert len(contracts) == 1


def blank_with(value, count):
    image = np.zeros(784, np.uint8)
    image[np.linspace(300, 500, count).astype(int)] = value
    return image.reshape(28, 28)


FAINT = np.random.default_rng(seed=0).integers(0, 20, (28, 28)).astype(np.uint8)
BLANK = {
    "one faint pixel": blank_with(1, 1),
    "one white pixel": blank_with(255, 1),
    "specks": blank_with(255, 5),
    "a faint stroke": blank_with(20, 200),
    "noise": FAINT,
    "on white": 255 - FAINT,
    "on grey": FAINT + 100,
}


@pytest.mark.parametrize("image", BLANK.values(), ids=BLANK)
@pytest.mark.parametrize("model", [None, "cnn-nano"])
def test_raw_pixels_of_a_blank_page_have_no_class(image, model):
    assert next(Classifier(model).predict_each(image[None], preprocess=False)).label is None


def test_raw_pixels_of_blank_pages_have_no_class_on_the_command_line(tmp_path):
    np.save(tmp_path / "blank.npy", np.stack(list(BLANK.values())))
    rows = run_cli("predict", tmp_path / "blank.npy").stdout.decode().splitlines()
    assert [row.split("\t")[:2] for row in rows] == [
        [f"{tmp_path / 'blank.npy'}[{index}]", "none"] for index in range(len(BLANK))
    ]
