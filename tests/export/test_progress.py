"""The progress that `export` and `verify` print; test_gates.py checks the order of the steps."""

import json
import re
import threading
import time

import pytest

from mnist_edge.cli.progress import StepProgress
from mnist_edge.errors import ParityError
from mnist_edge.export.proof import Step
from tests.helpers import cli_in_process, on_a_terminal


def test_off_a_terminal_a_line_a_step(capsys):
    with StepProgress() as progress:
        with progress.doing("loading data"):
            assert capsys.readouterr() == ("", "")
        progress.step(Step("model.onnx", "parity"))
        progress.step(Step("model.onnx", "parity", 1.24))
    told = capsys.readouterr()
    assert told.out == ""
    assert re.fullmatch(r"loading data, 0\.\d s\nmodel\.onnx: parity, 1\.2 s\n", told.err)


def test_off_a_terminal_a_long_step_says_that_it_goes_on(capsys, monkeypatch):
    monkeypatch.setattr("mnist_edge.cli.progress.PATIENCE", 0.02)
    with StepProgress() as progress:
        progress.step(Step("model.onnx", "parity"))
        while (told := capsys.readouterr().err) == "":
            time.sleep(0.01)
        progress.step(Step("model.onnx", "parity", 1.24))
    assert re.match(r"model\.onnx: parity, 0 s so far\n", told)
    while any(thread.name.endswith("(_remind)") for thread in threading.enumerate()):
        time.sleep(0.01)


STEPS = """
import collections, sys, time
from mnist_edge.cli.output import note
from mnist_edge.cli.progress import StepProgress
Step = collections.namedtuple("Step", "file name seconds", defaults=[None])  # the real one needs torch
with StepProgress() as progress:
    progress.step(Step("model.onnx", "parity"))
    time.sleep(1.3)
    note("a line between")
    print("a result", flush=True)
    progress.step(Step("model.onnx", "parity", 1.3))
    progress.step(Step("model.onnx", "calibration"))
    if sys.argv[1:]:
        raise SystemExit(3)
print("the end", file=sys.stderr)
"""


def test_on_a_terminal_a_line_that_counts_the_seconds_while_nothing_else_happens():
    shown, out, _ = on_a_terminal("-c", STEPS)
    assert out == "a result\n"
    assert "model.onnx: parity, 0 s" in shown
    assert "model.onnx: parity, 1 s" in shown
    assert "model.onnx: calibration, 0 s" in shown
    assert "a line between" in shown
    assert shown.rstrip().endswith("the end")
    assert "\x1b[?25h" in shown  # the cursor is visible again


def test_a_failing_step_leaves_the_terminal_as_it_was():
    shown, _, code = on_a_terminal("-c", STEPS, "fail")
    assert code == 3
    assert "\x1b[?25h" in shown


def test_a_terminal_that_cannot_move_its_cursor_gets_lines():
    shown, _, _ = on_a_terminal("-c", STEPS, TERM="dumb")
    assert shown.splitlines() == ["a line between", "model.onnx: parity, 1.3 s", "the end"]


def test_a_step_that_fails_has_no_end(capsys):
    with pytest.raises(ParityError), StepProgress() as progress, progress.doing("loading data"):
        raise ParityError("no")
    assert capsys.readouterr().err == ""


def test_with_json_stdout_stays_one_document(bundle_copy, small_idx, cheaper):
    result = cli_in_process("verify", bundle_copy, "--data", small_idx, "--json")
    assert result.returncode == 0
    assert len(json.loads(result.stdout)["files"]) == 4
    lines = [line for line in result.stderr.decode().splitlines() if re.fullmatch(r"model\.\S+: .+, \d+\.\d s", line)]
    assert len(lines) == 1 + 2 * 4
