"""Names that are almost right get a hint, on the command line and in Python."""

import pytest

from mnist_edge import Classifier
from mnist_edge.bundle.layout import Format, format_named
from mnist_edge.bundle.recipe import Architecture, architecture_named
from mnist_edge.data import datasets, download
from mnist_edge.errors import DataNotFoundError, ModelNotFoundError, UsageError
from mnist_edge.names import near
from tests.helpers import cli_in_process, fails

DATA = download.NAMES


THERE = "name one that there is (artifacts/a.onnx, artifacts/simple-nn)"


@pytest.mark.parametrize(
    ("name", "known", "meant"),
    [
        ("cnn_nano", Architecture, ["cnn-nano"]),
        ("CNN", Architecture, ["cnn"]),
        ("CNN Large", Architecture, ["cnn-large"]),
        ("SimpleNN", Architecture, ["simple-nn"]),
        ("simple", Architecture, ["simple-nn"]),
        ("resnet", Architecture, []),
        ("int8_static", Format, ["int8-static"]),
        ("int8", Format, ["int8-dynamic", "int8-static"]),
        ("onxx", Format, ["onnx"]),
        ("TorchScript", Format, ["torchscript"]),
        ("coreml", Format, []),
        ("fashion_mnist", DATA, ["fashion-mnist"]),
        ("FashionMNIST", DATA, ["fashion-mnist"]),
        ("MNIST", DATA, ["mnist"]),
        ("minst", DATA, ["mnist"]),
        ("EMNIST", DATA, ["emnist-digits"]),
        ("cifar10", DATA, []),
        ("", DATA, []),
        ("--", DATA, []),
        (None, DATA, []),
        (10_000 * "mnist", DATA, []),
    ],
)
def test_the_name_that_was_meant(name, known, meant):
    assert near(name, known) == meant


def test_every_right_name_is_the_nearest_to_itself():
    for known in (Architecture, Format, DATA):
        assert [near(name, known) for name in known] == [[name] for name in known]


@pytest.mark.parametrize(
    ("arguments", "code", "message"),
    [
        (
            ["predict", "x.png", "--model", "cnn_nano"],
            4,
            "cnn_nano: no such bundle, .onnx file or pretrained model: did you mean cnn-nano?",
        ),
        (
            ["info", "SimpleNN"],
            4,
            "SimpleNN: no such bundle, .onnx file or pretrained model: train it with mnist-edge train --model simple",
        ),
        (["predict", "x.png", "--format", "int8_static"], 2, "unknown format 'int8_static': did you mean int8-static?"),
        (["predict", "x.png", "--format", "torch"], 2, "unknown format 'torch': choose from onnx, int8-dynamic, "),
        (["export", "--formats", "onnx,int8"], 2, "unknown format 'int8': did you mean int8-dynamic or int8-static?"),
        (["train", "--model", "cnn_nano"], 2, "unknown architecture 'cnn_nano': did you mean cnn-nano?"),
        (["train", "--model", "resnet"], 2, "unknown architecture 'resnet': choose from cnn-nano, cnn, cnn-large, "),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_commands_hint_in_one_line(tmp_path, arguments, code, message):
    result = cli_in_process(*arguments, cwd=tmp_path)
    fails(result, code, message)
    assert len(result.stderr.splitlines()) == 1
    assert not result.stdout


def test_a_bundle_of_that_architecture_is_found(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "artifacts" / "simple-nn").mkdir(parents=True)
    with pytest.raises(ModelNotFoundError, match=r"did you mean artifacts.simple-nn\?$"):
        Classifier("SimpleNN")


NO_BUNDLE = "not a bundle (no manifest.json or training.json): give a folder that mnist-edge train wrote"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["info", "pictures"], f"pictures: {NO_BUNDLE}, an .onnx file or cnn, cnn-large, cnn-nano"),
        (["predict", "x.png", "--model", "pictures"], f"pictures: {NO_BUNDLE}, an .onnx file or "),
        (["export", "pictures"], f"pictures: {NO_BUNDLE}"),
        (["evaluate", "artifacts"], "artifacts: not a bundle, but holds: artifacts/a.onnx, artifacts/simple-nn"),
        (["verify", "artifacts"], "artifacts: not a bundle, but holds: artifacts/a.onnx, artifacts/simple-nn"),
        (["info", "many"], "many: not a bundle, but holds: many/0, many/1, many/2, many/3, many/4, …"),
        (["evaluate", "seven.jpg"], "seven.jpg: not a model file: give a bundle, its model.pth or an exported file"),
        (["info", "seven.jpg"], "seven.jpg: not a model that mnist-edge exported, or cut short: "),
        (["export", "seven.jpg"], "seven.jpg: a file, not a bundle: give a folder that mnist-edge train wrote"),
        (["export", "cnn-nano"], "cnn-nano: a pretrained model, already exported: its files are in "),
        (["verify", "cnn"], "and mnist-edge selftest cnn checks them"),
        (["export"], f"artifacts/cnn: no such bundle: {THERE}, or make it with mnist-edge train --model cnn"),
        (["info"], f"artifacts/cnn: no such bundle, .onnx file or pretrained model: {THERE}, or make it with "),
        (
            ["verify", "artifacts/sigmoid-nn"],
            f"no such bundle: {THERE}, or make it with mnist-edge train",
        ),
        (["export", "nowhere"], "nowhere: no such bundle: check the path, or make one with mnist-edge train"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_what_is_given_for_a_model_and_is_none(tmp_path, arguments, message):
    for name in ("artifacts/simple-nn", *(f"many/{number}" for number in range(6))):
        (tmp_path / name).mkdir(parents=True)
        (tmp_path / name / "training.json").touch()
    (tmp_path / "pictures").mkdir()
    for name in ("artifacts/a.onnx", "artifacts/notes.txt", "pictures/1.png", "seven.jpg"):
        (tmp_path / name).write_bytes(b"x")
    result = cli_in_process(*arguments, cwd=tmp_path)
    fails(result, 4, message)
    assert len(result.stderr.splitlines()) == 1


def test_the_library_hints_as_well(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    with pytest.raises(ModelNotFoundError, match=r"did you mean cnn-large\?$"):
        Classifier("CNN_Large")
    with pytest.raises(ModelNotFoundError, match="check the path, or make one"):
        Classifier("resnet")
    with pytest.raises(UsageError, match=r"did you mean onnx\?$"):
        Classifier(format="ONNX")
    with pytest.raises(DataNotFoundError, match=r"did you mean fashion-mnist\?$"):
        datasets.load("fashion_mnist")
    with pytest.raises(DataNotFoundError, match=r"give an IDX folder, an image folder or a CSV file$"):
        datasets.load("cifar10")
    with pytest.raises(UsageError, match="unknown format 'coreml': choose from torchscript, onnx, "):
        format_named("coreml")
    with pytest.raises(UsageError, match=r"did you mean sigmoid-nn\?$"):
        architecture_named("SigmoidNN")
