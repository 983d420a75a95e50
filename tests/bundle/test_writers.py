"""Two commands on one bundle, commands ended by a signal, and a training whose folder already holds a bundle."""

import contextlib
import json
import os
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.writing import require_free
from mnist_edge.errors import BusyError, UsageError
from mnist_edge.export import pipeline
from mnist_edge.training import checkpoint
from mnist_edge.training.train import begin
from tests.helpers import cli_in_process, fails, long_after, quick_recipe, run_cli, subset, train, write_idx


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@contextlib.contextmanager
def running(folder, *arguments, makes, until=None):
    """A command that has started to write the bundle and has printed `until`. It is killed on exit."""
    command = [sys.executable, "-W", "error", "-m", "mnist_edge", *map(str, arguments)]
    with subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE) as process:
        try:
            deadline = time.monotonic() + 240
            while not any(folder.glob(makes)):  # testing the lock instead would briefly take it
                assert process.poll() is None, process.stderr.read()
                assert time.monotonic() < deadline
                time.sleep(0.05)
            shown = b""
            while until is not None and until not in shown:
                shown += process.stderr.read1(4096)
            yield process
        finally:
            process.kill()


@pytest.fixture
def data_folder(small, tmp_path):
    return write_idx(tmp_path / "data", subset(small, 2000, 100))


def endless(data_folder, out):
    return ["train", "--model", "simple-nn", "--epochs", "1000", "--data", data_folder, "--out", out]


BUSY = "another train or export is working on it: wait"


ENDINGS = long_after(1, [(signal.SIGTERM, 143), (signal.SIGINT, 130)])


def test_two_trainings_in_one_folder(data_folder, tmp_path):
    out = tmp_path / "out"
    command = endless(data_folder, out)
    with running(out, *command, makes="checkpoint.pth") as first:
        first.send_signal(signal.SIGSTOP)
        held = snapshot(out)
        for other in (command, [*command, "--overwrite"], ["train", "--resume", "--out", out], ["export", out]):
            fails(run_cli(*other), 1, f"{out}: {BUSY}")
        assert snapshot(out) == held
        first.kill()
        first.wait()
    require_free(out)  # the lock ends with its holder
    assert not [name for name in snapshot(out) if name.startswith(".")]


def test_two_exports_of_one_bundle(bundle_copy, small_idx):
    command = ["export", bundle_copy, "--data", small_idx]
    before = snapshot(bundle_copy)
    with running(bundle_copy, *command, makes=".model.*") as first:
        first.send_signal(signal.SIGSTOP)
        fails(run_cli(*command), 1, BUSY)
        fails(run_cli("train", "--out", bundle_copy, "--overwrite"), 1, BUSY)
        first.kill()
        first.wait()
    require_free(bundle_copy)
    assert snapshot(bundle_copy) == before


@pytest.mark.long
def test_export_inside_export(bundle_copy, small):
    attempts = []

    def report(outcome):
        for attempt in (
            lambda: pipeline.export(bundle_copy, small, [Format.TORCHSCRIPT]),
            lambda: train(small, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), bundle_copy),
        ):
            with pytest.raises(BusyError, match=BUSY):
                attempt()
            attempts.append(outcome.format)

    manifest = pipeline.export(bundle_copy, small, [Format.ONNX], report)
    assert attempts == [Format.ONNX, Format.ONNX]
    listed = {*manifest.files, "manifest.json", "metrics.jsonl", "expected.npz"}
    assert set(snapshot(bundle_copy)) == listed


def test_an_export_lists_or_removes_what_an_earlier_one_left(bundle_copy, small):
    """As after an export that was killed while replacing one of four files."""
    (bundle_copy / "manifest.json").unlink()
    manifest = pipeline.export(bundle_copy, small, [Format.ONNX])
    assert set(manifest.files) == {"model.pth", "training.json", "model.onnx"}
    assert {path.name for path in bundle_copy.glob("model.*")} == {"model.pth", "model.onnx"}


@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_a_training_that_is_ended(data_folder, tmp_path, number, code):
    out = tmp_path / "out"
    command = endless(data_folder, out)
    with running(out, *command, makes="checkpoint.pth", until=b"Train Epoch: 2 ") as process:
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
    assert process.returncode == code
    finished = len(reading.read_training(out).epochs)
    last = error.decode().splitlines()[-1]
    assert last == (
        f"interrupted: {out} holds the model of epoch {finished}; resume with  mnist-edge train --resume --out {out}"
    )
    assert checkpoint.load_paused(out).finished_epochs == finished
    assert set(snapshot(out)) == {"model.pth", "training.json", "metrics.jsonl", "checkpoint.pth"}


@pytest.mark.parametrize(("number", "code"), ENDINGS)
def test_an_export_that_is_ended(bundle_copy, small_idx, number, code):
    before = snapshot(bundle_copy)
    with running(bundle_copy, "export", bundle_copy, "--data", small_idx, makes=".model.*") as process:
        process.send_signal(number)
        _, error = process.communicate(timeout=120)
    assert process.returncode == code, error
    assert b"Traceback" not in error
    assert snapshot(bundle_copy) == before


@pytest.mark.parametrize("name", ["training.json", "model.pth", "checkpoint.pth"])
def test_a_fifo_does_not_keep_a_command_waiting(bundle_copy, small_idx, name):
    (bundle_copy / name).unlink(missing_ok=True)
    os.mkfifo(bundle_copy / name)
    command = {"checkpoint.pth": ["train", "--resume", "--out", bundle_copy]}.get(name, ["export", bundle_copy])
    fails(run_cli(*command, "--data", small_idx), 4, f"{name}: cannot be read (not a regular file)")


def test_who_ignores_sigterm_keeps_ignoring_it(tmp_path):
    code = (
        "import signal, sys; signal.signal(signal.SIGTERM, signal.SIG_IGN); sys.argv = ['', '--version']\n"
        "from mnist_edge.cli.main import main\n"
        "try: main()\n"
        "finally: assert signal.getsignal(signal.SIGTERM) is signal.SIG_IGN"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("model", ["cnn", "sigmoid-nn"])
def test_a_bundle_is_not_replaced_by_mistake(bundle_copy, small, data_folder, model):
    before = snapshot(bundle_copy)
    files = "model.pth, training.json, metrics.jsonl, manifest.json, model.torchscript, model.onnx, "
    files += "model.int8-dynamic.onnx, model.int8-static.onnx"
    words = f"{bundle_copy}: holds a trained model: add --overwrite to replace it ({files} would go), or name another"
    fails(cli_in_process("train", "--model", model, "--data", data_folder, "--out", bundle_copy), 2, words)
    recipe = quick_recipe(Architecture(model))
    with (
        pytest.raises(UsageError, match="holds a trained model"),
        begin(small, Architecture(model), recipe, bundle_copy),
    ):
        pass
    assert snapshot(bundle_copy) == before


def test_what_is_for_a_device_is_a_bundle_too(bundle_copy, small):
    for name in ("model.pth", "training.json", "metrics.jsonl"):
        (bundle_copy / name).unlink()
    data, recipe = subset(small, 640, 100), quick_recipe(Architecture.SIGMOID_NN)
    with pytest.raises(UsageError, match=r"holds a trained model: .*\(manifest.json, model.torchscript, "):
        train(data, Architecture.SIGMOID_NN, recipe, bundle_copy)
    train(data, Architecture.SIGMOID_NN, recipe, bundle_copy, overwrite=True)
    assert set(snapshot(bundle_copy)) == {"model.pth", "training.json", "metrics.jsonl", "expected.npz"}


def test_overwriting_waits_for_the_first_finished_epoch(bundle_copy, small):
    (bundle_copy / "notes.txt").write_text("mine")
    (bundle_copy / "plots").mkdir()
    before = snapshot_of_files(bundle_copy)
    names = []

    def on_batch(epoch, seen, total, loss):
        if epoch == 1:
            now = snapshot_of_files(bundle_copy)
            assert now.pop("checkpoint.pth")
            assert now == before

    def on_epoch(epoch):
        names.append(set(snapshot_of_files(bundle_copy)))

    data, recipe = subset(small, 640, 100), quick_recipe(Architecture.SIMPLE_NN)
    train(data, Architecture.SIMPLE_NN, recipe, bundle_copy, overwrite=True, on_batch=on_batch, on_epoch=on_epoch)
    others = {"notes.txt", "expected.npz"}
    first_half = {"model.pth", "training.json", "metrics.jsonl"}
    assert names == [others | first_half | {"checkpoint.pth"}, others | first_half]
    assert (bundle_copy / "plots").is_dir()
    assert checkpoint.load(bundle_copy).architecture == Architecture.SIMPLE_NN


def snapshot_of_files(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir() if path.is_file()}


def test_what_a_killed_first_training_left_does_not_block_the_next(data_folder, tmp_path):
    out = tmp_path / "out"
    out.mkdir()
    (out / f".checkpoint.pth.{'0' * 32}").write_bytes(b"half of it")
    command = ["train", "--model", "sigmoid-nn", "--epochs", "1", "--data", data_folder, "--out", out, "--json"]
    result = cli_in_process(*command)
    assert result.returncode == 0, result.stderr
    assert json.loads(result.stdout)["finished"]
    assert set(snapshot(out)) == {"model.pth", "training.json", "metrics.jsonl"}


def test_the_quickstart_goes_on_from_what_is_there(tmp_path):
    """Runs the script with stubs for `mnist-edge` and `python`; it prints each command itself."""
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    here = Path(__file__).parents[2]
    (root / "scripts" / "quickstart").write_text((here / "scripts" / "quickstart").read_text())
    (root / "scripts" / "environment").write_text('cd "$(dirname "${BASH_SOURCE[0]}")/.."\nvenv=.\n')
    stubs = {
        "mnist-edge": """echo '{"recommended": {"file": "model.onnx"}}'""",
        "python": f'if [ "$1" = -c ]; then exec {sys.executable} "$@"; fi',
    }
    for name, stub in stubs.items():
        (tmp_path / name).write_text(f"#!/bin/sh\n{stub}\n")
        (tmp_path / name).chmod(0o755)

    def run():
        environment = {**os.environ, "PATH": f"{tmp_path}:{os.environ['PATH']}"}
        command = ["bash", str(root / "scripts" / "quickstart")]
        return subprocess.run(command, env=environment, capture_output=True, text=True, check=True)

    def training():
        return next(line for line in run().stdout.splitlines() if line.startswith("$ mnist-edge train"))

    result = run()
    commands = [line for line in result.stdout.splitlines() if line.startswith("$ ")]
    assert re.fullmatch(r"(\(\d+\.\d s\)\n)+", result.stderr)
    assert result.stderr.count("\n") == len(commands)
    assert result.stdout.splitlines()[-3:] == [
        f"source {root}/bin/activate",
        f"mnist-edge predict --sample --model {root}/artifacts/cnn",
        f"mnist-edge selftest {root}/artifacts/cnn/model.onnx",
    ]
    assert training() == "$ mnist-edge train --fast --data mnist"
    for name in ("checkpoint.pth", "training.json"):
        (root / "artifacts" / "cnn").mkdir(parents=True, exist_ok=True)
        (root / "artifacts" / "cnn" / name).write_text("")
        assert training() == "$ mnist-edge train --resume"
        (root / "artifacts" / "cnn" / name).unlink()
