"""The long runs with faults, `fuzz_models` and `soak`, in short."""

import json
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from tests.helpers import script

SCRIPTS = Path(__file__).parents[1] / "scripts"

pytestmark = pytest.mark.skipif(sys.platform != "linux", reason="untrusted models need Linux")


def run(name, *arguments, out):
    command = [sys.executable, SCRIPTS / f"{name}.py", *arguments, "--out", out]
    result = subprocess.run(command, capture_output=True, text=True, timeout=300, check=False)
    return result, json.loads(out.read_text())


def test_damaged_models_leave_the_parent_alone(tmp_path):
    result, summary = run("fuzz_models", "--count", "40", "--command-line", "2", out=tmp_path / "summary.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert sum(summary["real path"].values()) == 40
    assert summary["real path"]["refused before onnxruntime"] > 10
    assert summary["straight to onnxruntime"]["refused by onnxruntime"] > 5
    assert summary["command line"] == {"models": 2, "wrong": {}}
    assert summary["leaks"] == ""


def test_a_mutation_depends_on_its_index_only():
    mutations = script("model_mutations")
    from mnist_edge.runtime.model import PRETRAINED

    bases = {"nano": Path(PRETRAINED, "cnn-nano", "model.onnx").read_bytes()}
    made = [mutations.mutated(index, 0, bases) for index in range(20)]
    assert made == [mutations.mutated(index, 0, bases) for index in range(20)]
    assert len({data for data, _ in made}) == 20


def test_an_exception_that_is_not_ours_counts_as_a_bug(monkeypatch):
    fuzz = script("fuzz_models")

    def broken(*_, **__):
        raise KeyError("x")

    monkeypatch.setattr(fuzz, "load", broken)
    assert fuzz.on_the_real_path(b"")[0].startswith("bug")


def test_answers_are_right_while_everything_runs_out(tmp_path):
    result, summary = run("soak", "--quick", out=tmp_path / "summary.json")
    assert result.returncode == 0, result.stdout + result.stderr
    assert summary["predictions"] >= 20_000
    assert summary["calls with faults"] > 10
    assert summary["wrong"] == []


def test_the_soak_tells_a_wrong_answer():
    soak = script("soak")
    logits = np.zeros((3, 10), np.float32)
    assert soak.same(logits, logits.copy(), disturbed=True)
    assert not soak.same(logits + np.float32(1e-7), logits, disturbed=True)
    assert soak.same(["ExecutionError"], [1], disturbed=True)
    assert not soak.same(["ExecutionError"], [1], disturbed=False)
    assert soak.Told(resident=[*range(1000)]).growth() > 600
