"""The command line as users run it, with its output and exit code."""

import json
import signal
import subprocess
import sys
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_edge import extras
from mnist_edge.cli.failures import exit_code
from mnist_edge.errors import MnistEdgeError
from tests.data.test_datasets import write_csv, write_images
from tests.helpers import cli_in_process, fails, on_a_terminal, run_cli, subset, write_idx


def succeeds(result):
    assert result.returncode == 0, result.stderr.decode()
    return result.stdout.decode()


@pytest.fixture
def digits(expected, tmp_path):
    """A folder of three PNG files, and PyTorch's labels for them."""
    folder = tmp_path / "digits"
    folder.mkdir()
    for index in range(3):
        Image.fromarray(expected["images"][index]).save(folder / f"{index}.png")
    return folder, [str(label) for label in expected["logits"][:3].argmax(1)]


def test_the_whole_pipeline(mnist, tmp_path):
    """Runs train, export, verify, info, selftest, evaluate and predict in turn on images of three classes.

    In this process; the blocks of the README run them in processes of their own.
    """
    data = subset(mnist, 3000, 300)
    three = {split: getattr(data, split) for split in ("train", "test")}
    keep = {split: part.labels < 3 for split, part in three.items()}
    parts = {split: type(part)(part.images[keep[split]], part.labels[keep[split]]) for split, part in three.items()}
    names = ("circle", "line", "swan")
    for split, part in parts.items():
        write_images(tmp_path / "shapes" / split, part, names)
    run = lambda *arguments: succeeds(cli_in_process(*arguments, cwd=tmp_path))  # noqa: E731

    trained = run("train", "--data", "shapes", "--model", "simple-nn", "--epochs", "3", "--out", "bundle", "--json")
    assert json.loads(trained)["labels"] == list(names)
    manifest = json.loads(run("export", "bundle", "--json"))
    assert set(manifest["files"]) == {path.name for path in (tmp_path / "bundle").iterdir()} - {
        "manifest.json",
        "metrics.jsonl",
    }
    assert "ok" in run("verify", "bundle")
    assert json.loads(run("info", "bundle", "--json"))["contract"]["labels"] == list(names)
    assert "circle, line, swan" in run("info", "bundle/model.onnx")
    assert "golden vectors" in run("selftest", "bundle/model.int8-dynamic.onnx")
    evaluation = json.loads(run("evaluate", "bundle", "--json"))
    assert evaluation["accuracy"] > 0.95
    assert evaluation["total"] == len(parts["test"])
    assert list(evaluation["per_class"]) == list(names)
    (tmp_path / "lone.onnx").write_bytes((tmp_path / "bundle" / "model.onnx").read_bytes())
    lone = cli_in_process("evaluate", "lone.onnx", cwd=tmp_path)
    fails(lone, 2, "was trained on shapes", "give its path with --data")
    lone = cli_in_process("evaluate", "lone.onnx", "--data", "shapes", "--json", cwd=tmp_path)
    assert json.loads(succeeds(lone))["total"] == len(parts["test"])
    assert evaluation["model"] == f"bundle/{manifest['recommended']['file']}"
    assert evaluation["temperature"] == 1
    Image.new("L", (28, 28)).save(tmp_path / "shapes" / "test" / "line" / "more.png")
    fails(cli_in_process("evaluate", "bundle", cwd=tmp_path), 3, "not the data that", "was trained on")
    (tmp_path / "shapes" / "test" / "line" / "more.png").unlink()

    test_folder = tmp_path / "shapes" / "test"
    lines = run("predict", test_folder, "--model", "bundle", "--json").splitlines()
    right = [Path(line["image"]).parent.name == line["label"] for line in map(json.loads, lines)]
    assert len(right) == len(parts["test"])
    assert np.mean(right) == pytest.approx(evaluation["accuracy"])


@pytest.mark.parametrize("form", ["csv", "idx"])
def test_other_forms_of_data(mnist, tmp_path, form):
    data = subset(mnist, 1500, 300)
    parts = {split: getattr(data, split) for split in ("train", "test")}
    shift = np.array([3, 5, 8], np.uint8)
    kept = {}
    for split, part in parts.items():
        chosen = part.labels < 3
        kept[split] = type(part)(part.images[chosen], shift[part.labels[chosen]])
    if form == "csv":
        source = tmp_path / "digits.csv"
        write_csv(source, kept["train"])
    else:
        source = write_idx(tmp_path / "data", type(data)("", "", (), **kept))
    command = ["train", "--data", source, "--model", "simple-nn", "--epochs", "2", "--out", tmp_path / "b"]
    succeeds(cli_in_process(*command))
    succeeds(cli_in_process("export", tmp_path / "b", "--formats", "onnx"))
    picture = tmp_path / "two.png"
    index = int(np.flatnonzero(kept["test"].labels == 8)[0])
    Image.fromarray(kept["test"].images[index]).save(picture)
    line = json.loads(succeeds(cli_in_process("predict", picture, "--model", tmp_path / "b", "--json")))
    assert list(line["probabilities"]) == ["3", "5", "8"]
    assert line["label"] == "8"


def test_predict_prints_a_line_an_image_in_the_order_given(bundle_dir, digits):
    folder, labels = digits
    paths = [folder / f"{index}.png" for index in (2, 0, 1)]
    rows = [line.split("\t") for line in succeeds(run_cli("predict", *paths, "--model", bundle_dir)).splitlines()]
    assert [row[0] for row in rows] == [str(path) for path in paths]
    assert [row[1] for row in rows] == [labels[2], labels[0], labels[1]]
    assert all(0 <= float(row[2]) <= 1 for row in rows)


def test_predict_reads_stdin(bundle_dir, digits):
    folder, labels = digits
    result = run_cli("predict", "-", "--model", bundle_dir / "model.onnx", stdin=(folder / "1.png").read_bytes())
    assert succeeds(result).split("\t")[:2] == ["-", labels[1]]


def test_one_bad_image_does_not_stop_the_others(bundle_dir, digits):
    folder, labels = digits
    (folder / "1b.png").write_bytes(b"no picture")
    result = run_cli("predict", folder, "--model", bundle_dir, "--json")
    fails(result, 3, "1b.png")
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line.get("label") for line in lines] == [labels[0], labels[1], None, labels[2]]
    assert "1b.png" in lines[2]["error"]


def test_predict_needs_a_usable_model_and_image(bundle_dir, tmp_path):
    fails(cli_in_process("predict", "nowhere.png", "--model", bundle_dir), 3, "nowhere.png: no such file")
    fails(cli_in_process("predict", "x.png", "--model", tmp_path / "nowhere"), 4, "no such bundle")
    fails(cli_in_process("predict", "x.png"), 3, "x.png: no such file")
    fails(cli_in_process("predict", tmp_path, "--model", bundle_dir), 3, "a folder without pictures")
    fails(
        cli_in_process("predict", "x.png", "--model", bundle_dir / "training.json"),
        4,
        "not a model that mnist-edge exported",
    )


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--data", "nowhere"], 3, "no such file or folder, nor one of the known names"),
        (["train", "--model", "simple-nn", "--momentum", "0.9"], 2, "--momentum works only with SGD"),
        (["train", "--out", "."], 2, "is not a bundle"),
        (["train", "--epochs", "0"], 2, "epochs cannot be 0"),
        (["train", "--lr", "nan"], 2, "lr cannot be nan"),
        (["train", "--device", "toaster"], 2, "--device cpu"),
        (["train", "--out", "file"], 2, "is not a folder"),
        (["export", "nowhere"], 4, "nowhere: no such bundle: check the path"),
        (["export", "file"], 4, "file: a file, not a bundle: give a folder that mnist-edge train wrote"),
        (
            ["export", "--formats", "onnx,coreml"],
            2,
            "unknown format 'coreml': choose from torchscript, onnx, int8-dynamic, int8-static, c",
        ),
        (["export", "--formats", ","], 2, "unknown format"),
        (["verify", "nowhere"], 4, "nowhere: no such bundle: check the path"),
        (["info", "nowhere"], 4, "no such bundle"),
        (["info", "file"], 4, "not a model that mnist-edge exported"),
        (["selftest", "nowhere.onnx"], 4, "no such"),
        (["evaluate", "nowhere"], 4, "no such bundle"),
        (["evaluate", "nowhere.onnx"], 4, "no such"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line(tmp_path, arguments, code, words):
    (tmp_path / "file").write_text("something else")
    fails(cli_in_process(*arguments, cwd=tmp_path), code, words)
    assert [path.name for path in tmp_path.iterdir()] == ["file"]


@pytest.mark.parametrize(
    "arguments", [["trian"], ["train", "--model", "resnet"], ["train", "--epochs", "many"], ["predict"], ["--nonsense"]]
)
def test_usage_errors(arguments):
    result = cli_in_process(*arguments)
    assert result.returncode == 2
    assert b"Traceback" not in result.stderr


def test_export_wants_the_data_of_the_training(bundle_copy, mnist, tmp_path):
    other = write_idx(tmp_path / "other", subset(mnist, 100, 50))
    fails(cli_in_process("export", bundle_copy, "--data", other), 3, "differ from those the model was trained on")


def test_version_and_help():
    assert succeeds(cli_in_process("--version")).strip() == f"mnist-edge {version('mnist-edge')}"
    shown = succeeds(cli_in_process("--help"))
    for command in ("train", "export", "verify", "evaluate", "report", "predict", "info", "selftest", "doctor"):
        assert f"  {command} " in shown
        assert "--help" in succeeds(cli_in_process(command, "--help"))
    assert cli_in_process().returncode == 2


def test_help_as_a_command():
    assert cli_in_process("help").stdout == cli_in_process("--help").stdout
    for command in ("train", "predict", "help"):
        assert succeeds(cli_in_process("help", command)) == succeeds(cli_in_process(command, "--help"))
    unknown = cli_in_process("help", "trian")
    assert unknown.returncode == 2
    assert b"No such command 'trian'. Did you mean 'train'?" in unknown.stderr


def test_the_list_of_commands_fits_a_terminal():
    _, commands = succeeds(cli_in_process("--help", COLUMNS="80")).split("Commands:\n")
    for line in commands.partition("\n\n")[0].splitlines():
        assert line.endswith("."), line
        assert not line.endswith("..."), line
        assert len(line) <= 80, line


@pytest.mark.parametrize("arguments", [["--help"], ["train", "--help"], ["help", "train"], ["--version"]])
def test_help_loads_nothing_heavy(arguments):
    code = (
        "import sys; sys.argv[1:] = sys.argv[2:]; from mnist_edge.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'onnxruntime', 'numpy', 'rich', 'onnx', 'matplotlib'} & sys.modules.keys()))"
    )
    result = subprocess.run([sys.executable, "-c", code, "-", *arguments], capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_every_error_has_its_exit_code():
    def leaves(kind):
        return [kind, *(leaf for child in kind.__subclasses__() for leaf in leaves(child))]

    codes = {kind.__name__: exit_code(kind("x")) for kind in leaves(MnistEdgeError)}
    assert codes == {
        "MnistEdgeError": 1,
        "UsageError": 2,
        "MissingExtraError": 1,
        "ExecutionError": 1,
        "DataError": 3,
        "DataNotFoundError": 3,
        "DataFormatError": 3,
        "InputError": 3,
        "ImageNotFoundError": 3,
        "ImageFormatError": 3,
        "ImageTypeError": 3,
        "ModelError": 4,
        "ModelNotFoundError": 4,
        "ModelFormatError": 4,
        "AlteredModelError": 4,
        "BusyError": 1,
        "ParityError": 1,
        "TrainingError": 1,
        "UndecidedError": 1,
        "UnsupportedFormatError": 1,
    }


@pytest.mark.long
def test_plain_lines_off_a_terminal(small_idx, tmp_path):
    result = run_cli("train", "--model", "simple-nn", "--epochs", "1", "--data", small_idx, cwd=tmp_path)
    assert succeeds(result).startswith("artifacts/simple-nn: ")
    lines = [line for line in result.stderr.decode().splitlines() if line.startswith(("Train", "Test"))]
    assert lines[0].startswith("Train Epoch: 1 [64/10000]  Loss: ")
    assert lines[1].startswith("Train Epoch: 1 [6464/10000]  Loss: ")
    assert lines[2].startswith("Test set: Average loss: 0.")
    assert "/1000 (" in lines[2]


def test_a_progress_bar_on_a_terminal(small_idx, tmp_path):
    command = ["-m", "mnist_edge", "train", "--model", "sigmoid-nn", "--epochs", "1", "--data", small_idx]
    shown, _, code = on_a_terminal(*command, cwd=tmp_path)
    assert code == 0
    assert "━" in shown
    assert "Train Epoch: 1/1" in shown
    assert "Test set: Average loss: " in shown


def test_ctrl_c_keeps_the_last_finished_epoch(small_idx, tmp_path):
    command = [sys.executable, "-m", "mnist_edge", "train", "--model", "simple-nn", "--epochs", "1000"]
    command += ["--data", str(small_idx), "--out", str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "bundle" / "training.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    last = error.decode().splitlines()[-1]
    assert last.startswith("interrupted: ")
    assert "Traceback" not in error.decode()
    finished = json.loads((tmp_path / "bundle" / "training.json").read_text())["epochs"]
    assert f"holds the model of epoch {len(finished)}; resume with  mnist-edge train --resume" in last
    exported = cli_in_process("export", tmp_path / "bundle", "--formats", "onnx")
    succeeds(exported)
    told = f"of 1,000 epochs; resume with  mnist-edge train --resume --out {tmp_path / 'bundle'}"
    assert f"trained for {len(finished)} {told}" in exported.stderr.decode()
    assert f"{len(finished)} of 1,000 epochs" in succeeds(cli_in_process("info", tmp_path / "bundle"))


@pytest.mark.long
def test_ctrl_c_before_the_first_epoch_leaves_only_what_is_needed_to_go_on(tmp_path):
    command = [sys.executable, "-m", "mnist_edge", "train", "--out", str(tmp_path / "bundle")]
    with subprocess.Popen(command, stderr=subprocess.PIPE) as process:
        shown = b""
        while b"Train Epoch: 1" not in shown:
            shown += process.stderr.read1(4096)
        process.send_signal(signal.SIGINT)
        _, error = process.communicate(timeout=60)
    assert process.returncode == 130
    last = error.decode().splitlines()[-1]
    resume = f"mnist-edge train --resume --out {tmp_path / 'bundle'}"
    assert last == f"interrupted: no epoch was finished; resume with  {resume}"
    assert [path.name for path in (tmp_path / "bundle").iterdir()] == ["checkpoint.pth"]


def test_a_closed_pipe_is_no_error(bundle_dir, digits):
    folder, _ = digits
    command = f"{sys.executable} -m mnist_edge predict {' '.join([str(folder)] * 200)} --model {bundle_dir} | head -n 1"
    result = subprocess.run(["bash", "-c", command], capture_output=True, text=True, check=True)
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == ""


@pytest.mark.parametrize(
    ("package", "commands"),
    [
        ("torch", ["train", "export", "verify", "evaluate"]),
        ("onnx", ["export", "verify"]),
        ("onnxscript", ["export", "verify"]),
    ],
)
def test_without_a_package_the_answer_is_a_command(bundle_dir, tmp_path, monkeypatch, package, commands):
    arguments = {
        "train": [],
        "export": [bundle_dir],
        "verify": [bundle_dir],
        "evaluate": [bundle_dir / "model.pth", "--data", "mnist"],
    }
    monkeypatch.setitem(sys.modules, package, None)  # makes the import fail
    for command in commands:
        result = cli_in_process(command, *arguments[command], cwd=tmp_path)
        fails(result, 1, f"{package} is not installed: {' '.join(extras.to_install('train').split())}")


def test_letters_that_the_terminal_does_not_know(bundle_dir):
    result = run_cli("info", bundle_dir, PYTHONIOENCODING="cp1252")
    assert result.returncode == 0, result.stderr
    assert "|\\u0394logit|" in result.stdout.decode("cp1252")


@pytest.mark.long
def test_a_recipe_suits_a_small_folder(mnist, tmp_path):
    """A few hundred images, and no options that change the recipe."""
    data = subset(mnist, 300, 100)
    write_images(tmp_path / "digits" / "train", data.train, names=data.labels)
    write_images(tmp_path / "digits" / "test", data.test, names=data.labels)
    command = ["train", "--data", "digits", "--model", "cnn-nano", "--json"]
    result = json.loads(succeeds(cli_in_process(*command, cwd=tmp_path)))
    assert result["epochs"][-1]["test"]["accuracy"] > 0.85
    table = succeeds(cli_in_process("export", "artifacts/cnn-nano", cwd=tmp_path)).splitlines()
    assert [line.split()[-1] for line in table[1:5]] == ["ok"] * 4
