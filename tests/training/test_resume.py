"""A resumed training ends bit for bit like an uninterrupted one."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import pytest
import torch
from msgspec import structs

from mnist_edge import extras
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.data import datasets
from mnist_edge.errors import DataFormatError, ModelFormatError, ModelNotFoundError
from mnist_edge.runtime.limits import usable_cpus
from mnist_edge.training import checkpoint
from mnist_edge.training.recipes import FAST, RECIPES
from mnist_edge.training.train import begin, finish, resume
from tests.helpers import cli_in_process, fails, long_after, quick_recipe, subset, train, write_idx

RECIPE = structs.replace(RECIPES[Architecture.CNN], epochs=3, calibration_split=0)


CHEAP = (Architecture.CNN_NANO, Architecture.SIMPLE_NN)
"""One of each kind; the others differ only in size."""


def digest(folder):
    return checkpoint.load(folder).training.model_sha256


def stop_in(wanted):
    def on_batch(epoch, seen, total, loss):
        if epoch == wanted and seen > total / 2:
            raise KeyboardInterrupt

    return on_batch


def interrupt(data, architecture, recipe, out, epoch, **options):
    """Train, and interrupt it in the middle of an epoch."""
    with pytest.raises(KeyboardInterrupt), begin(data, architecture, recipe, out, **options) as training:
        finish(training, data, out, on_batch=stop_in(epoch))


@pytest.mark.parametrize(
    "architecture",
    [
        pytest.param(architecture, marks=pytest.mark.numeric if architecture in CHEAP else ())
        for architecture in Architecture
    ],
)
def test_resumed_as_often_as_one_likes_the_weights_are_the_same(small, tmp_path, architecture):
    data = subset(small, 600, 100)
    recipe = structs.replace(RECIPES[architecture], epochs=3, calibration_split=0)
    if recipe.augment:
        recipe = structs.replace(recipe, drawn_digits=0.1, outliers=0.1)
    whole = train(data, architecture, recipe, tmp_path / "whole", seed=7)
    run = begin(data, architecture, recipe, tmp_path / "parts", seed=7)
    for epoch in (1, 2, 3):
        with pytest.raises(KeyboardInterrupt), run as training:
            finish(training, data, tmp_path / "parts", on_batch=stop_in(epoch))
        assert len(training.epochs) == epoch - 1
        run = resume(data, checkpoint.load_paused(tmp_path / "parts"), tmp_path / "parts")
    with run as training:
        finish(training, data, tmp_path / "parts")
    assert digest(tmp_path / "parts") == digest(tmp_path / "whole")
    assert [epoch.test for epoch in training.epochs] == [epoch.test for epoch in whole]
    assert [epoch.train_loss for epoch in training.epochs] == [epoch.train_loss for epoch in whole]
    assert not (tmp_path / "parts" / "checkpoint.pth").exists()


def test_what_a_checkpoint_leaves_out_would_be_noticed(small, tmp_path):
    """The comparison above can fail: if any part of the state is missing, the final weights differ."""
    data = subset(small, 1000, 100)
    train(data, Architecture.CNN, RECIPE, tmp_path / "whole")
    interrupt(data, Architecture.CNN, RECIPE, tmp_path / "parts", 3)
    saved = (tmp_path / "parts" / "checkpoint.pth").read_bytes()
    with begin(data, Architecture.CNN, RECIPE, tmp_path / "other", seed=1) as training:
        fresh = training.state_dict()
    for part in ("model", "averaged", "optimizer", "scheduler", "generator"):
        (tmp_path / "parts" / "checkpoint.pth").write_bytes(saved)
        paused = checkpoint.load_paused(tmp_path / "parts")
        paused = dataclasses.replace(paused, state=paused.state | {part: fresh[part]})
        if part == "averaged":
            with pytest.raises(ModelFormatError, match="0 averaged steps"), resume(data, paused, tmp_path / "parts"):
                pass
            continue
        with resume(data, paused, tmp_path / "parts") as training:
            finish(training, data, tmp_path / "parts")
        assert digest(tmp_path / "parts") != digest(tmp_path / "whole"), part


def start(folder, out):
    command = [sys.executable, "-W", "error", "-m", "mnist_edge", "train", "--data", folder, "--out", out]
    command += ["--model", "cnn-nano", "--epochs", "3", "--batch-size", "64"]
    return subprocess.Popen(command, stderr=subprocess.PIPE, env={**os.environ, "OMP_NUM_THREADS": "1"}, text=True)


def wait_for(process, words):
    seen = []
    for line in process.stderr:
        seen.append(line)
        if words in line:
            return
    pytest.fail(f"never said {words!r}: {seen}")


@pytest.fixture(scope="module")
def undisturbed(mnist, tmp_path_factory):
    """A data set, and the digest of the weights after an uninterrupted training on it."""
    folder = tmp_path_factory.mktemp("undisturbed")
    data = write_idx(folder / "data", subset(mnist, 3000, 100))
    whole = start(data, folder / "whole")
    whole.communicate(timeout=120)
    assert whole.returncode == 0
    return data, digest(folder / "whole")


@pytest.mark.parametrize(
    ("kind", "epoch"),
    long_after(1, [(signal.SIGKILL, 2), (signal.SIGINT, 2), (signal.SIGKILL, 1)]),
)
def test_a_signal_in_the_middle_of_an_epoch(undisturbed, tmp_path, kind, epoch):
    folder, expected = undisturbed
    interrupted = start(folder, tmp_path / "parts")
    wait_for(interrupted, f"Train Epoch: {epoch} [64")
    time.sleep(0.1)
    interrupted.send_signal(kind)
    _, rest = interrupted.communicate(timeout=60)
    assert interrupted.returncode == {signal.SIGINT: 130, signal.SIGKILL: -9}[kind]
    assert f"[{epoch}/3" not in rest  # the signal came in the middle of the epoch
    if kind == signal.SIGINT:
        assert f"mnist-edge train --resume --out {tmp_path / 'parts'}" in rest
    result = cli_in_process("train", "--resume", "--out", tmp_path / "parts")  # with as many threads
    assert result.returncode == 0, result.stderr
    assert digest(tmp_path / "parts") == expected
    lines = [json.loads(line) for line in (tmp_path / "parts" / "metrics.jsonl").read_text().splitlines()]
    assert [line["number"] for line in lines] == [1, 2, 3]
    assert lines == json.loads((tmp_path / "parts" / "training.json").read_text())["epochs"]


@pytest.fixture
def paused(small, tmp_path):
    folder = tmp_path / "paused"
    data = datasets.load(write_idx(tmp_path / "data", subset(small, 640, 100)))
    train(data, Architecture.SIGMOID_NN, quick_recipe(Architecture.SIGMOID_NN), folder)
    interrupt(data, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), folder, 1, overwrite=True)
    return folder


def test_the_older_bundle_stays_until_the_first_epoch_is_finished(paused):
    assert checkpoint.load(paused).architecture == Architecture.SIGMOID_NN
    assert checkpoint.load_paused(paused).architecture == Architecture.SIMPLE_NN


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--epochs", "3"], "leave out --epochs"),
        (["--lr", "0.1", "--no-augment"], "leave out --lr, --augment"),
        (["--seed", "0"], "leave out --seed"),
        (["--fast"], "leave out --fast"),
        (["--overwrite"], "leave out --overwrite"),
        (["--model", "cnn"], "training of simple-nn: leave out --model"),
    ],
)
def test_a_resumed_training_keeps_its_recipe(paused, options, words):
    before = {path.name: path.read_bytes() for path in paused.iterdir()}
    fails(cli_in_process("train", "--resume", "--out", paused, *options), 2, words)
    assert {path.name: path.read_bytes() for path in paused.iterdir()} == before


def test_other_data_are_refused(paused, small, tmp_path):
    other = write_idx(tmp_path / "other", subset(small, 641, 100))
    fails(cli_in_process("train", "--resume", "--out", paused, "--data", other), 3, "not the data that the training in")
    with pytest.raises(DataFormatError), resume(subset(small, 639, 100), checkpoint.load_paused(paused), paused):
        pass


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (lambda path: path.write_bytes(path.read_bytes()[:-100]), "damaged or cut short"),
        (lambda path: path.write_bytes(b""), "an empty file"),
        (lambda path: torch.save([1], path), "malformed"),
        (lambda path: torch.save({"version": 99}, path), "version 99"),
        (lambda path: edit(path, recipe={}), "malformed"),
        (lambda path: edit(path, architecture="cnm"), "malformed"),
        (lambda path: edit(path, threads=10**6), "malformed"),
        (lambda path: edit(path, architecture="cnn"), "does not fit its recipe"),
        (lambda path: edit(path, state={"epochs": []}), "does not fit its recipe"),
        (lambda path: edit(path, state={"epochs": 1}), "malformed"),
    ],
)
def test_a_broken_checkpoint_is_refused(paused, change, words):
    change(paused / "checkpoint.pth")
    fails(cli_in_process("train", "--resume", "--out", paused), 4, words, "train again")


def edit(path, **changes):
    torch.save(torch.load(path, weights_only=True) | changes, path)


def test_an_interrupted_training_is_not_begun_anew_by_mistake(small, tmp_path):
    data = datasets.load(write_idx(tmp_path / "data", subset(small, 640, 100)))
    out = tmp_path / "out"
    command = ["train", "--model", "sigmoid-nn", "--epochs", "1", "--data", tmp_path / "data", "--out", out]
    interrupt(data, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), out, 2)
    before = {path.name: path.read_bytes() for path in out.iterdir()}
    fails(cli_in_process(*command), 2, "interrupted after epoch 1: add --resume to go on, --overwrite to replace it")
    assert {path.name: path.read_bytes() for path in out.iterdir()} == before
    assert cli_in_process(*command, "--overwrite").returncode == 0
    assert checkpoint.load(out).architecture == Architecture.SIGMOID_NN


def test_it_goes_on_where_it_was_computed(paused):
    edit(paused / "checkpoint.pth", device="nowhere")
    fails(cli_in_process("train", "--resume", "--out", paused), 2, "device 'nowhere' cannot be used")
    assert cli_in_process("train", "--resume", "--out", paused, "--device", "cpu").returncode == 0


def test_nothing_to_resume(tmp_path, paused):
    fails(cli_in_process("train", "--resume", "--out", tmp_path / "none"), 4, "holds no interrupted training")
    with pytest.raises(ModelNotFoundError):
        checkpoint.load_paused(tmp_path)
    finished = cli_in_process("train", "--resume", "--out", paused)
    assert finished.returncode == 0
    again = cli_in_process("train", "--resume", "--out", paused)
    assert again.returncode == 0
    assert b"nothing to resume" in again.stderr
    assert again.stdout == finished.stdout


def test_a_training_that_diverged_has_nothing_to_go_on_from(small, tmp_path):
    data = datasets.load(write_idx(tmp_path / "data", subset(small, 640, 100)))
    interrupt(data, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), tmp_path / "out", 2)
    (tmp_path / "out" / "checkpoint.pth").unlink()  # as after a loss that is not finite
    fails(cli_in_process("train", "--resume", "--out", tmp_path / "out"), 4, "holds no interrupted training")


def test_without_tensorboard_nothing_is_begun(small, tmp_path, monkeypatch):
    folder = write_idx(tmp_path / "data", subset(small, 640, 100))
    monkeypatch.setitem(sys.modules, "tensorboard", None)  # makes the import fail
    options = ["--model", "sigmoid-nn", "--data", folder, "--out", tmp_path / "out", "--log-dir", tmp_path / "log"]
    result = cli_in_process("train", *options)
    fails(result, 1, f"tensorboard is not installed: {' '.join(extras.to_install('tensorboard').split())}")
    assert not (tmp_path / "out").exists()


def test_tensorboard_reads_what_a_training_logged(small, tmp_path):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    folder = write_idx(tmp_path / "data", subset(small, 640, 100))
    result = cli_in_process(
        "train", "--model", "sigmoid-nn", "--data", folder, "--out", tmp_path / "out", "--log-dir", tmp_path / "log"
    )
    assert result.returncode == 0, result.stderr
    events = EventAccumulator(str(tmp_path / "log")).Reload()
    recorded = json.loads((tmp_path / "out" / "training.json").read_text())["epochs"]
    logged = events.Scalars("accuracy/test")
    assert [event.step for event in logged] == [1, 2, 3, 4, 5]
    assert [event.value for event in logged] == pytest.approx([epoch["test"]["accuracy"] for epoch in recorded])


def test_fast_is_the_short_recipe(small, tmp_path):
    folder = write_idx(tmp_path / "data", subset(small, 640, 100))
    fails(cli_in_process("train", "--fast", "--model", "simple-nn", "--data", folder), 2, "leave out --fast")
    for architecture, recipe in FAST.items():
        assert recipe.epochs < RECIPES[architecture].epochs


def threads_of(folder):
    return json.loads((folder / "training.json").read_text())["machine"]["threads"]


@pytest.mark.parametrize(("options", "expected"), [([], 3), (["--threads", "2"], 2)])
def test_it_goes_on_with_as_many_threads(small, tmp_path, options, expected):
    """The environment does not count: with another number the weights may differ in their last bits."""
    data, out = datasets.load(write_idx(tmp_path / "data", subset(small, 640, 100))), tmp_path / "out"
    interrupt(data, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), out, 2, threads=3)
    before = torch.get_num_threads()
    assert checkpoint.load_paused(out).threads == threads_of(out) == 3
    assert cli_in_process("train", "--resume", "--out", out, *options, MNIST_EDGE_THREADS="4").returncode == 0
    assert threads_of(out) == expected
    assert torch.get_num_threads() == before


def test_a_checkpoint_without_threads_is_still_resumed(paused):
    saved = torch.load(paused / "checkpoint.pth", weights_only=True)
    del saved["threads"]
    torch.save(saved, paused / "checkpoint.pth")
    assert checkpoint.load_paused(paused).threads is None
    assert cli_in_process("train", "--resume", "--out", paused).returncode == 0
    assert threads_of(paused) == torch.get_num_threads()


@pytest.mark.parametrize(
    ("architecture", "options", "variable", "expected"),
    [
        ("sigmoid-nn", ["--threads", "3"], "2", 3),
        ("sigmoid-nn", [], "2", 2),
        ("sigmoid-nn", [], "", 1),
        ("cnn-nano", [], "", min(usable_cpus(), torch.get_num_threads())),
    ],
)
def test_how_many_threads_train(small, tmp_path, architecture, options, variable, expected):
    folder = write_idx(tmp_path / "data", subset(small, 640, 100))
    before = torch.get_num_threads()
    command = ["train", "--model", architecture, "--epochs", "1", "--data", folder, "--out", tmp_path / "out", *options]
    result = cli_in_process(*command, MNIST_EDGE_THREADS=variable)
    assert result.returncode == 0, result.stderr
    assert threads_of(tmp_path / "out") == expected
    assert torch.get_num_threads() == before


@pytest.mark.parametrize("number", ["0", "1025"])
def test_an_impossible_number_of_threads(tmp_path, number):
    for command in ("train", "export", "verify"):
        fails(
            cli_in_process(command, "--threads", number, cwd=tmp_path),
            2,
            "threads must be a whole number within 1…1024",
        )
    fails(cli_in_process("train", cwd=tmp_path, MNIST_EDGE_THREADS=number), 2, "MNIST_EDGE_THREADS must be")
