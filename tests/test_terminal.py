"""What every command has in common on a terminal: help, loudness, completion, width, interruption, the next command."""

import json
import os
import re
import shlex
import shutil
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_edge.cli.app import COMMANDS, command_name
from mnist_edge.cli.evaluate import _print_confusion
from mnist_edge.cli.output import WIDTH, command, counted
from mnist_edge.cli.pytorch import SPINS
from mnist_edge.data import download
from mnist_edge.evaluation import evaluation
from mnist_edge.runtime.prediction import softmax
from mnist_edge.training.recipes import RECIPES
from tests.helpers import cli_in_process, fails, long_after, on_a_terminal, run_python
from tests.test_pretrained import script

NAMES = [command_name(function) for function in COMMANDS]


def lines(stream):
    return stream.decode().splitlines()


# Help


def test_the_short_option_for_help():
    for arguments in ([], *([name] for name in [*NAMES, "help"])):
        short = cli_in_process(*arguments, "-h")
        assert short.returncode == 0
        assert short.stdout == cli_in_process(*arguments, "--help").stdout


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_help_is_not_wider_than_a_terminal(columns):
    for name in [*NAMES, "help"]:
        shown = lines(cli_in_process(name, "-h", COLUMNS=columns).stdout)
        assert max(map(len, shown)) <= WIDTH, name
    root = cli_in_process("-h", COLUMNS=columns).stdout.decode()
    assert "..." not in root.partition("Commands:")[2]


def told_in_help(name):
    """Its help, with all white space made single spaces."""
    return " ".join(cli_in_process(name, "-h").stdout.decode().split())


def test_the_help_of_train_tells_the_architectures_apart():
    shown = told_in_help("train")
    for architecture, recipe in RECIPES.items():
        assert f"{architecture} {architecture.layers}; {counted(recipe.epochs, 'epoch')}, {recipe.optimizer}," in shown


def test_the_help_of_predict_names_every_field():
    shown = told_in_help("predict").partition("Fields:")[2]
    (line, _) = lines(cli_in_process("predict", "--sample", "--json").stdout)
    header = lines(cli_in_process("predict", "--sample", "--csv").stdout)[0]
    assert f"--csv {header.replace(',', ', ')} --json" in shown
    assert f"{', '.join(json.loads(line))}; or image and error" in shown.partition("--json ")[2]


def test_the_examples_are_commands_that_exist():
    shown = cli_in_process("-h").stdout.decode().partition("Examples:\n")[2]
    for line in shown.splitlines():
        example, _ = line.strip().split("  ", maxsplit=1)
        for words in map(shlex.split, example.split(" && ")):
            program, name, *others = words
            assert program == "mnist-edge"
            helped = told_in_help(name)
            assert all(option in helped for option in others if option.startswith("-"))


# Loudness


def test_quiet_leaves_the_results(tmp_path):
    for arguments in (["predict", "--sample"], ["info", "cnn"], ["evaluate", "cnn-nano", "--data", "mnist"]):
        usual, quiet = cli_in_process(*arguments, cwd=tmp_path), cli_in_process(*arguments, "-q", cwd=tmp_path)
        assert usual.stderr
        assert (quiet.returncode, quiet.stderr, quiet.stdout) == (0, b"", usual.stdout)


def test_quiet_leaves_errors_and_warnings(small_idx, tmp_path):
    fails(cli_in_process("info", "nowhere", "--quiet"), 4, "nowhere: no such")
    command = ["train", "--model", "sigmoid-nn", "--lr", "0.5", "--epochs", "1", "--calibration-split", "100"]
    result = cli_in_process(*command, "--data", small_idx, "--quiet", cwd=tmp_path)
    (line,) = lines(result.stderr)
    assert line.startswith("warning: too few images to hold out one in 100 for calibration")


def test_verbose_tells_which_file_answers_and_why(tmp_path):
    chosen = {
        "recommended by the manifest": ["--model", "cnn-nano"],
        "named by --format": ["--model", "cnn-nano", "--format", "onnx"],
    }
    for why, options in chosen.items():
        told = cli_in_process("predict", "--sample", "--verbose", *options).stderr.decode()
        assert re.search(rf"^model: \S+cnn-nano\S+\.onnx, {why}$", told, re.MULTILINE), told
        assert "onnxruntime" in told
    told = cli_in_process("evaluate", "cnn-nano", "-v").stderr.decode()
    found = r"^data: mnist from \S+/mnist, 60,000 training and 10,000 test images, 10 classes$"
    assert re.search(found, told, re.MULTILINE)


def test_verbose_shows_where_an_error_came_from(tmp_path):
    (tmp_path / "x.png").write_bytes(b"no picture")
    for arguments in (["info", "nowhere"], ["predict", tmp_path / "x.png"]):
        assert "Traceback" not in cli_in_process(*arguments).stderr.decode()
        told = lines(cli_in_process(*arguments, "-v").stderr)
        assert "Traceback (most recent call last):" in told
        assert told[-1].startswith("error: ")


def test_quiet_and_verbose_exclude_each_other():
    for name in NAMES:
        required = {"predict": ["x"], "read": ["x"], "selftest": ["x"], "import": ["x", "--model", "cnn"]}
        fails(cli_in_process(name, *required.get(name, []), "-q", "-v"), 2, "--quiet and --verbose exclude each other")


# Names that are almost right


@pytest.mark.parametrize(
    ("arguments", "meant"),
    [
        (["evalute"], "Did you mean 'evaluate'?"),
        (["train", "--optimiser", "adam"], "--optimizer"),
        (["train", "--optimizer", "adm"], "unknown optimizer 'adm': did you mean adam?"),
        (["train", "--schedule", "one_cycle"], "unknown schedule 'one_cycle': did you mean one-cycle?"),
        (["train", "--schedule", "OneCycle"], "did you mean one-cycle?"),
        (["train", "--schedule", "cosine"], "choose from constant, one-cycle"),
        (["classify", "x.png"], "No such command 'classify'. Did you mean 'predict'?"),
        (["help", "test"], "No such command 'test'. Did you mean 'evaluate', 'selftest'?"),
        (["evaluate", "--model", "my cnn"], "takes the model as an argument:  mnist-edge evaluate 'my cnn'"),
        (["info", "--json", "--model=cnn"], "info takes the model as an argument:  mnist-edge info cnn"),
        (["selftest", "--model"], "selftest takes the model as an argument:  mnist-edge selftest MODEL"),
        (["train", "SimpleNN", "--fast"], "did you mean  mnist-edge train --model simple-nn?"),
        (["train", "my-data"], "train takes options only, no 'my-data': see --model and --data"),
    ],
)
def test_a_hint_at_what_was_meant(arguments, meant, tmp_path):
    result = cli_in_process(*arguments, cwd=tmp_path)
    assert result.returncode == 2
    assert meant in result.stderr.decode()


# Completion


@pytest.mark.parametrize(
    ("line", "offered"),
    [
        ("mnist-edge ex", ["export"]),
        ("mnist-edge train --mod", ["--model", "--model-args"]),
        ("mnist-edge train --model cnn-", ["cnn-nano", "cnn-large"]),
        ("mnist-edge train --optimizer a", ["adam", "adamw"]),
        ("mnist-edge predict x.png --model cnn-l", ["cnn-large"]),
        ("mnist-edge predict x.png --format int8", ["int8-dynamic", "int8-static"]),
        ("mnist-edge export --formats onnx,int8-s", ["onnx,int8-static"]),
        ("mnist-edge info ", ["cnn", "cnn-large", "cnn-nano", "my models/", "own.onnx"]),
        ("mnist-edge evaluate --data ", [*download.NAMES, "letters.csv", "my models/"]),
        ("mnist-edge evaluate --data kmn", ["kmnist"]),
        ("mnist-edge evaluate my", []),  # the shell completes paths itself where there is nothing else
        ("mnist-edge help ev", ["evaluate"]),
        ("mnist-edge evaluate --model cnn --pl", ["--plot"]),
        ("mnist-edge train cnn --mod", ["--model", "--model-args"]),
    ],
)
def test_completion(line, offered, tmp_path):
    (tmp_path / "my models").mkdir()
    for name in ("own.onnx", "letters.csv", ".hidden.onnx", "notes.txt"):
        (tmp_path / name).touch()
    environment = {"COMP_WORDS": line, "COMP_CWORD": str(len(line.split(" ")) - 1)}
    result = cli_in_process(cwd=tmp_path, _MNIST_EDGE_COMPLETE="complete_bash", **environment)
    assert lines(result.stdout) == (offered or [""])


@pytest.mark.skipif(shutil.which("bash") is None, reason="needs bash")
def test_bash_completes_after_the_installation(tmp_path):
    program = tmp_path / "bin" / "mnist-edge"
    program.parent.mkdir()
    program.write_text(f'#!/bin/sh\nexec "{sys.executable}" -m mnist_edge "$@"\n')
    program.chmod(0o755)
    environment = {**os.environ, "HOME": str(tmp_path), "PATH": f"{program.parent}:{os.environ['PATH']}"}

    def run(code):
        shell = ["bash", "-c", code]
        return subprocess.run(shell, env=environment, capture_output=True, text=True, check=True, cwd=tmp_path).stdout

    assert "bash completion installed" in run("mnist-edge --install-completion; true")
    words = "COMP_WORDS=(mnist-edge train --model cnn-n) COMP_CWORD=3"
    completed = run(f'source ~/.bashrc; {words}; _mnist_edge_completion mnist-edge; echo "${{COMPREPLY[@]}}"')
    assert completed.split() == ["cnn-nano"]
    assert run("source ~/.bashrc; complete -p mnist-edge").startswith("complete -o default -F _mnist_edge_completion")


# Width and words


@pytest.mark.parametrize("columns", ["40", "80", "200"])
def test_tables_are_not_wider_than_a_terminal(columns, tmp_path):
    for arguments in (["info", "cnn-large"], ["evaluate", "cnn-nano"]):
        shown = lines(cli_in_process(*arguments, cwd=tmp_path, COLUMNS=columns).stdout)
        assert max(len(line) for line in shown if os.sep not in line) <= WIDTH


def confused(labels, capsys):
    """What is printed for as many images of each class, of which one is taken for the next class."""
    count = len(labels)
    truth = np.repeat(np.arange(count, dtype=np.uint8), 4)
    logits = np.eye(count, dtype=np.float32)[truth]
    logits[0] = np.eye(count, dtype=np.float32)[1]
    _print_confusion(evaluation.evaluate(logits, softmax(logits, 1.0), truth, tuple(labels), 1.0))
    return capsys.readouterr().out.splitlines()


def test_a_confusion_matrix_that_is_too_wide_is_a_list(capsys):
    few = confused([str(number) for number in range(10)], capsys)
    assert len(few) == 2 + 1 + 10
    assert few[3].split() == ["0", "3", "1", *"00000000"]
    many = confused([f"letter {number}" for number in range(30)], capsys)
    assert many[2].split() == ["true", "class", "predicted", "class", "images"]
    assert many[3:] == ["letter 0           letter 1       1"]


def test_a_long_name_has_a_line_of_its_own(capsys):
    from mnist_edge.cli.display import print_table

    print_table(("image", "label", "probability"), [("x" * 100, "7", "99.00 %"), ("short", "1", "98.00 %")])
    shown = capsys.readouterr().out.splitlines()
    assert shown == [
        "image  label  probability",
        "x" * 100,
        "           7      99.00 %",
        "short      1      98.00 %",
    ]


def test_one_of_a_kind_has_no_plural():
    assert [counted(number, "image") for number in (0, 1, 2000)] == ["0 images", "1 image", "2,000 images"]
    assert [counted(number, "class") for number in (1, 2)] == ["1 class", "2 classes"]


@pytest.mark.long
def test_no_colours_where_they_are_not_wanted(small_idx, tmp_path):
    train = ["-m", "mnist_edge", "train", "--model", "sigmoid-nn", "--epochs", "1", "--data", small_idx]
    colour = re.compile(r"\x1b\[[0-9;]*3[0-9][0-9;]*m")
    shown, _, _ = on_a_terminal(*train, "--out", "a", cwd=tmp_path)
    assert colour.search(shown)
    shown, _, _ = on_a_terminal(*train, "--out", "b", cwd=tmp_path, NO_COLOR="1")
    assert not colour.search(shown)
    shown, _, _ = on_a_terminal(*train, "--out", "c", cwd=tmp_path, TERM="dumb")
    assert "\x1b" not in shown
    assert "Train Epoch: 1 [64/" in shown


# A sign of life

FIRST_OUTPUT = """
import io, os, sys
from mnist_edge.cli.main import main
class Told(io.StringIO):
    def write(self, text):
        os.write(1, f"{text.strip()}: {sorted({'torch', 'onnx', 'rich'} & sys.modules.keys())}".encode())
        os._exit(0)
sys.stderr = Told()
sys.argv[1:] = sys.argv[2:]
main()
"""


@pytest.mark.parametrize("name", ["train", "export", "verify", "evaluate"])
def test_something_is_said_before_anything_heavy_is_loaded(name, bundle_dir, tmp_path):
    target = {"train": ["--out", tmp_path / "new"], "evaluate": [bundle_dir / "model.pth"]}.get(name, [bundle_dir])
    words = {"train": "training cnn in", "export": "exporting", "verify": "verifying", "evaluate": "evaluating"}
    result = run_python(FIRST_OUTPUT, "-", name, *target)
    assert result.stdout.startswith(words[name]), result.stderr
    assert result.stdout.endswith(": []")


@pytest.mark.parametrize("wrong", [["--data", "nowhere"], ["--epochs", "0"], ["--out", "file"], ["--resume"]])
def test_a_mistake_is_told_before_torch_is_loaded(wrong, tmp_path):
    (tmp_path / "file").touch()
    code = (
        "import os, sys; os.chdir(sys.argv[1]); sys.argv[1:] = sys.argv[2:]; from mnist_edge.cli.main import main\n"
        "try: main()\n"
        "finally: print('torch' in sys.modules)"
    )
    result = run_python(code, tmp_path, "train", *wrong)
    assert result.stdout == "False\n"
    assert result.stderr.startswith("error: ")


@pytest.mark.skipif(sys.platform != "linux", reason="asks GNU's OpenMP")
@pytest.mark.parametrize(
    ("policy", "count", "spins"),
    long_after(2, [(None, None, SPINS), ("passive", None, 0), (None, "7", 7), ("passive", "7", 7)]),
)
def test_threads_of_pytorch_soon_sleep_while_they_wait(policy, count, spins):
    code = "from mnist_edge.cli.pytorch import load_pytorch; load_pytorch()"
    result = run_python(code, OMP_DISPLAY_ENV="VERBOSE", OMP_WAIT_POLICY=policy, GOMP_SPINCOUNT=count)
    assert f"GOMP_SPINCOUNT = '{spins}'" in result.stderr


# Interruption


def interrupt(*arguments, **keywords):
    signal.raise_signal(signal.SIGINT)


def terminate(*arguments, **keywords):
    signal.raise_signal(signal.SIGTERM)


def interrupt_extension(*arguments, **keywords):
    """As pybind11 does where the initialization of a module is interrupted, and torch's exporter with any error."""
    lost = ImportError("initialization failed")
    lost.__cause__ = KeyboardInterrupt()
    raise RuntimeError("failed to export the model") from lost


def interrupt_compiler(*arguments, **keywords):
    """As a compiler does that takes an interruption for a reason to fail."""
    try:
        signal.raise_signal(signal.SIGINT)
    except KeyboardInterrupt:
        raise RuntimeError("failed to export the model") from None


@pytest.mark.parametrize(
    ("stop", "code"),
    [(interrupt, 130), (terminate, 143), (interrupt_extension, 130), (interrupt_compiler, 130)],
)
@pytest.mark.parametrize(
    ("place", "arguments", "words"),
    [
        ("mnist_edge.cli.train.load_pytorch", ["train"], "nothing was changed"),
        ("mnist_edge.cli.train.load_data", ["train"], "nothing was changed"),
        ("mnist_edge.data.datasets.load", ["evaluate", "cnn"], "nothing was changed"),
        ("mnist_edge.runtime.describe.describe", ["info"], "nothing was changed"),
        ("mnist_edge.runtime.selftest.run", ["selftest", "cnn"], "nothing was changed"),
        ("mnist_edge.cli.doctor.examine", ["doctor"], "nothing was changed"),
        ("mnist_edge.cli.device._opened", ["predict", "--sample"], "the answers printed so far hold"),
        ("mnist_edge.cli.device._opened", ["read", "--sample"], "the answers printed so far hold"),
    ],
)
def test_what_holds_after_an_interruption(place, arguments, words, stop, code, monkeypatch, tmp_path):
    handler = signal.getsignal(signal.SIGTERM)
    monkeypatch.setattr(place, stop)
    try:
        result = cli_in_process(*arguments, "--quiet", cwd=tmp_path)
    finally:
        signal.signal(signal.SIGTERM, handler)
    assert result.returncode == code
    assert lines(result.stderr) == [f"interrupted: {words}"]
    assert list(tmp_path.iterdir()) == []


def test_ctrl_c_while_torch_is_loaded(tmp_path):
    code = (
        "import signal, sys\n"
        "class Finder:\n"
        "    def find_spec(name, path=None, target=None):\n"
        "        if name == 'torch': signal.raise_signal(signal.SIGINT)\n"
        "sys.meta_path.insert(0, Finder)\n"
        "from mnist_edge.cli.main import main\n"
        "sys.argv[1:] = ['train', '--quiet', '--out', sys.argv[1]]\n"
        "main()"
    )
    result = run_python(code, tmp_path / "bundle")
    assert (result.returncode, result.stderr) == (130, "interrupted: nothing was changed\n")


def test_ctrl_c_before_anything_is_loaded():
    code = (
        "import builtins, signal, sys\n"
        "from mnist_edge.cli.main import main\n"
        "real = builtins.__import__\n"
        "def load(name, *others):\n"
        "    if name == 'mnist_edge.cli.output': signal.raise_signal(signal.SIGINT)\n"
        "    return real(name, *others)\n"
        "builtins.__import__ = load\n"
        "sys.argv[1:] = ['info', 'cnn']\n"
        "main()"
    )
    result = run_python(code)
    assert (result.returncode, result.stdout, result.stderr) == (130, "", "interrupted: nothing was changed\n")


def test_an_interrupted_export_has_written_nothing(bundle_copy, small_idx, cheaper, monkeypatch):
    before = {path.name: path.read_bytes() for path in bundle_copy.iterdir()}
    monkeypatch.setattr("mnist_edge.export.pipeline.prove", interrupt)
    result = cli_in_process("export", bundle_copy, "--data", small_idx)
    assert result.returncode == 130
    assert lines(result.stderr)[-1] == f"interrupted: nothing was written, {bundle_copy} is as before"
    assert {path.name: path.read_bytes() for path in bundle_copy.iterdir()} == before


def test_an_export_that_is_interrupted_while_it_writes_is_complete(bundle_copy, small_idx, cheaper, monkeypatch):
    from mnist_edge.bundle import writing

    sync = writing._sync
    before = (bundle_copy / "manifest.json").read_bytes()
    monkeypatch.setattr(writing, "_sync", lambda folder: (interrupt(), sync(folder)))
    result = cli_in_process("export", bundle_copy, "--data", small_idx, "--formats", "onnx")
    assert result.returncode == 130
    assert lines(result.stderr)[-1] == f"interrupted: the export is complete, {bundle_copy} holds the new files"
    assert (bundle_copy / "manifest.json").read_bytes() != before
    assert cli_in_process("info", bundle_copy).returncode == 0


# The next command


def test_a_command_can_be_copied_into_a_shell(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my models").mkdir()
    words = shlex.split(command("selftest", Path("my models/../my models/cnn.onnx"), "--json"))
    assert words == ["mnist-edge", "selftest", str(tmp_path / "my models" / "cnn.onnx"), "--json"]


def suggested(*arguments, **options):
    result = cli_in_process(*arguments, **options)
    assert result.returncode == 0, result.stderr.decode()
    return [line for line in lines(result.stderr) if "next:" in line]


def test_every_command_names_the_next(bundle_copy, small_idx, cheaper, tmp_path):
    data = ["--data", small_idx]
    assert suggested("train", "--model", "sigmoid-nn", "--epochs", "1", *data, "--out", "b", cwd=tmp_path) == [
        f"next:  mnist-edge export {tmp_path / 'b'}"
    ]
    assert suggested("export", "cnn", *data, "--formats", "onnx", cwd=tmp_path) == [
        f"next:  mnist-edge verify {bundle_copy} --data {small_idx}"
    ]
    (line,) = suggested("verify", "./cnn", *data, cwd=tmp_path)
    assert re.fullmatch(rf"next:  mnist-edge selftest {bundle_copy}/model\.\S+\.?onnx", line)
    assert suggested("evaluate", "./cnn", *data, cwd=tmp_path) == [
        f"next:  mnist-edge evaluate {bundle_copy} --data {small_idx} --mistakes {tmp_path / 'mistakes'}"
    ]


def test_every_command_on_a_device_names_the_next(tmp_path):
    for arguments, following in (
        (["selftest", "cnn"], "predict --sample --model cnn"),
        (["info", "cnn"], "selftest cnn"),
        (["predict", "--sample", "--model", "cnn-nano"], "read --sample --model cnn-nano"),
        (["read", "--sample"], "help predict"),
    ):
        assert suggested(*arguments, cwd=tmp_path) == [f"next:  mnist-edge {following}"]
        assert suggested(*arguments, "--json", cwd=tmp_path) == []
        assert suggested(*arguments, "-q", cwd=tmp_path) == []
    assert suggested("predict", "docs/seven.jpg") == []


def test_what_to_deploy_after_an_export(bundle_copy, small_idx, cheaper, tmp_path):
    result = cli_in_process("export", "./cnn", "--data", small_idx, "--formats", "onnx", cwd=tmp_path)
    listed = json.loads((bundle_copy / "manifest.json").read_text())
    file = listed["recommended"]["file"]
    told = f"to deploy, copy {bundle_copy / file}; test the copy with  mnist-edge selftest {file}"
    assert told in lines(result.stderr)
    others = [name for name, entry in listed["files"].items() if "parity" in entry and name != "model.onnx"]
    assert len(others) == 3
    shown = " ".join(result.stdout.decode().split())
    assert f"ok also in the bundle: {', '.join(others)} recommended:" in shown


# A reader that is gone


@pytest.mark.parametrize(
    "arguments",
    ["--help", "--version", "predict -h", "help", "info cnn -q", "info --json cnn", "doctor -q", "read --sample -q"],
)
def test_output_that_nobody_reads_ends_every_command_alike(arguments):
    program = f"{sys.executable} -m mnist_edge {arguments}"
    for code in (f"{program} | true; exit ${{PIPESTATUS[0]}}", f"{program} >&-"):
        result = subprocess.run(["bash", "-c", code], capture_output=True, text=True, check=False)
        assert (result.returncode, result.stderr) == (141, "")


# All of it, on a real terminal


def test_a_recorded_training_fits_the_terminal_and_says_what_ctrl_c_leaves(small_idx, tmp_path):
    recorder = script("record_terminal")
    train = ["train", "--model", "simple-nn", "--epochs", "1000", "--data", str(small_idx), "--out", "bundle"]
    found = recorder.record(train, (24, 80), tmp_path, {}, lambda shown, seconds: "Test set" in shown)
    assert found.code == 130
    assert found.width <= 80
    resume = f"mnist-edge train --resume --out {tmp_path}/bundle"
    assert re.fullmatch(rf"interrupted: bundle holds the model of epoch \d+; resume with  {resume}", found.lines[-1])
