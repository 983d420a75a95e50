"""Failing commands: one line on stderr, an exit code and, with --json, a document on stdout."""

import dataclasses
import json
import os
import signal
import subprocess
import sys
import time

import numpy as np
import pytest
import torch

from mnist_edge.cli.failures import explain
from mnist_edge.errors import ModelFormatError
from tests.helpers import cli_in_process, fails, keep_only, run_python


def document(result, code, *words):
    """The JSON document of a failed command, which contains the words and the exit code."""
    found = json.loads(result.stdout)
    assert found["exit_code"] == result.returncode == code, result.stderr.decode()
    for word in words:
        assert word in found["error"]
    return found


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["train", "--data", "nowhere"], 3, "no such file or folder"),
        (["train", "--epochs", "0"], 2, "epochs cannot be 0"),
        (["train", "--out", "file"], 2, "is not a folder"),
        (["train", "--resume", "--out", "nowhere"], 4, "holds no interrupted training"),
        (["export", "nowhere"], 4, "no such bundle"),
        (["export", "--formats", "coreml"], 2, "unknown format 'coreml'"),
        (["verify", "nowhere"], 4, "no such bundle"),
        (["evaluate", "nowhere"], 4, "no such bundle"),
        (["info", "file"], 4, "not a model that mnist-edge exported"),
        (["selftest", "nowhere.onnx"], 4, "no such"),
        (["predict", "x.png", "--model", "nowhere"], 4, "no such bundle"),
        (["read", "x.png", "--model", "nowhere"], 4, "no such bundle"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_a_failure_is_one_document_with_json(tmp_path, arguments, code, words):
    (tmp_path / "file").write_text("something else")
    result = cli_in_process(*arguments, "--json", cwd=tmp_path)
    fails(result, code, words)
    (line,) = result.stderr.decode().splitlines()
    assert document(result, code) == {"error": line.removeprefix("error: "), "exit_code": code}
    if arguments[0] in ("predict", "read"):
        assert len(result.stdout.splitlines()) == 1
    plain = cli_in_process(*arguments, cwd=tmp_path)
    assert (plain.stdout, plain.stderr) == (b"", result.stderr)


@pytest.mark.parametrize("arguments", [["info", "x", "y"], ["train", "--epochs", "many"]])
def test_the_parsers_own_errors_are_no_documents(arguments):
    result = cli_in_process(*arguments, "--json")
    assert (result.returncode, result.stdout) == (2, b"")


def test_every_item_is_a_line_and_a_bad_one_no_failure_of_the_whole(bundle_dir, tmp_path):
    result = cli_in_process("predict", "a.png", "b.png", "--json", "--model", bundle_dir, cwd=tmp_path)
    assert result.returncode == 3
    assert [json.loads(line)["image"] for line in result.stdout.splitlines()] == ["a.png", "b.png"]


def test_doctor(tmp_path):
    result = cli_in_process("doctor", "--json", cwd=tmp_path, MNIST_EDGE_DATA="nowhere")
    found = document(result, 1, "MNIST_EDGE_DATA: nowhere: no such file or folder")
    assert found["healthy"] is False
    assert any(finding["state"] == "broken" for finding in found["findings"])
    assert result.stderr == b""


def test_verify_tells_of_every_file(bundle_copy, small_idx, cheaper):
    keep_only(bundle_copy, "model.torchscript", "model.onnx")
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    verify = ["verify", bundle_copy, "--data", small_idx, "--json"]
    whole = json.loads(cli_in_process(*verify).stdout)
    assert whole["bundle"] == str(bundle_copy)
    exported = {name: entry for name, entry in manifest["files"].items() if "parity" in entry}
    assert whole["files"].keys() == exported.keys()
    for name, entry in whole["files"].items():
        assert entry.keys() < exported[name].keys()  # `export --json` prints the manifest
        assert entry["parity"].keys() == exported[name]["parity"].keys()
        assert entry["bytes"] == exported[name]["bytes"]

    content = bytearray((bundle_copy / "model.onnx").read_bytes())
    content[len(content) // 2] ^= 1
    (bundle_copy / "model.onnx").write_bytes(content)
    result = cli_in_process(*verify)
    fails(result, 4, "model.onnx: altered")
    found = document(result, 4, "model.onnx: altered since its export")
    assert found["files"].keys() == exported.keys()
    assert [name for name, entry in found["files"].items() if "error" in entry] == ["model.onnx"]
    assert "altered" in found["files"]["model.onnx"]["error"]
    assert found["files"]["model.onnx"]["parity"] is None
    assert found["files"]["model.torchscript"]["parity"] == whole["files"]["model.torchscript"]["parity"]


def test_of_several_failures_the_gravest_decides(bundle_copy, small_idx, cheaper, monkeypatch):
    """An unusable file (exit code 4) and one that misses its tolerance (1)."""
    from mnist_edge.export import onnx, torchscript

    def unusable(*arguments):
        raise ModelFormatError("model.torchscript: cannot be used")

    monkeypatch.setattr(torchscript, "check_weights", unusable)
    monkeypatch.setattr(onnx, "TOLERANCE", dataclasses.replace(onnx.TOLERANCE, max_abs_diff=-1.0))
    result = cli_in_process("export", bundle_copy, "--data", small_idx, "--formats", "torchscript,onnx", "--json")
    assert result.returncode == 4, result.stderr.decode()
    found = document(result, 4, "model.torchscript: cannot be used", "model.onnx: does not answer as PyTorch does")
    assert found["bundle"] == str(bundle_copy)
    assert [(name, sorted(entry)) for name, entry in found["files"].items()] == [
        (name, ["bytes", "calibration", "error", "format", "parity"]) for name in ("model.torchscript", "model.onnx")
    ]


def no_memory():
    raise MemoryError


FOREIGN = {
    "no memory": (no_memory, "not enough memory: close"),
    "no memory for an array": (lambda: np.zeros(2**50), "Unable to allocate 8.00 PiB for an array"),
    "no memory for a tensor": (lambda: torch.zeros(2**48), "not enough memory: close"),
    "no thread": (lambda: raise_(RuntimeError("can't start new thread")), "the system cannot start more threads"),
    "no space": (lambda: raise_(OSError(28, "No space left on device")), "No space left on device"),
}


def raise_(error):
    raise error


@pytest.mark.parametrize(("failure", "words"), FOREIGN.values(), ids=FOREIGN)
def test_what_the_system_refuses_is_a_line(monkeypatch, failure, words):
    monkeypatch.setattr("mnist_edge.runtime.describe.describe", lambda target: failure())
    fails(cli_in_process("info"), 1, words)
    document(cli_in_process("info", "--json"), 1, words)


@pytest.mark.skipif(sys.platform != "linux", reason="limits of address space are Linux's")
def test_a_data_set_that_memory_cannot_hold(bundle_dir, tmp_path):
    for kind in ("train", "t10k"):
        count = 2_400_000
        for name, shape in ((f"{kind}-images-idx3", (count, 28, 28)), (f"{kind}-labels-idx1", (count,))):
            header = bytes((0, 0, 8, len(shape))) + np.array(shape, ">u4").tobytes()
            with (tmp_path / f"{name}-ubyte").open("wb") as file:
                file.write(header)
                file.truncate(len(header) + int(np.prod(shape, dtype=np.int64)))  # a sparse file
    code = (
        "import resource, sys; resource.setrlimit(resource.RLIMIT_AS, (2 * 10**9,) * 2); sys.argv[1:] = sys.argv[2:]\n"
        "from mnist_edge.cli.main import main; main()"
    )
    result = run_python(code, "-", "evaluate", bundle_dir / "model.onnx", "--data", tmp_path, "--json")
    assert result.returncode == 1, result.stderr
    assert json.loads(result.stdout)["exit_code"] == 1
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: ")
    assert "not enough memory" in line


def test_a_fault_of_ours_keeps_its_traceback(monkeypatch):
    monkeypatch.setattr("mnist_edge.runtime.describe.describe", lambda target: raise_(RuntimeError("a bug")))
    with pytest.raises(RuntimeError, match="a bug"):
        cli_in_process("info", "--json")
    assert explain(KeyError("a bug")) is None
    assert explain(SystemExit(3)) is None


def test_an_interruption_is_a_document_too(monkeypatch):
    monkeypatch.setattr("mnist_edge.runtime.describe.describe", lambda target: raise_(KeyboardInterrupt()))
    result = cli_in_process("info", "--json")
    assert document(result, 130) == {"error": "interrupted: nothing was changed", "exit_code": 130}
    assert result.stderr == b"interrupted: nothing was changed\n"


def test_an_interrupted_training_says_how_to_go_on(small_idx, tmp_path):
    command = [sys.executable, "-m", "mnist_edge", "train", "--model", "simple-nn", "--data", str(small_idx), "--json"]
    command += ["--epochs", "1000", "--out", str(tmp_path / "bundle")]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        deadline = time.monotonic() + 120
        while not (tmp_path / "bundle" / "training.json").exists():
            assert time.monotonic() < deadline
            time.sleep(0.05)
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=60)
    found = json.loads(output)
    assert found["exit_code"] == process.returncode == 130
    assert found["error"].split() == error.decode().splitlines()[-1].split()
    assert found["error"].endswith(f"resume with mnist-edge train --resume --out {tmp_path / 'bundle'}")


@pytest.mark.skipif(not os.path.exists("/dev/full"), reason="no such device here")  # noqa: PTH110
def test_a_document_that_cannot_be_written(bundle_dir):
    with open("/dev/full", "wb") as full:  # noqa: PTH123
        result = subprocess.run(
            [sys.executable, "-m", "mnist_edge", "info", str(bundle_dir), "--json"],
            stdout=full,
            stderr=subprocess.PIPE,
            check=False,
        )
    assert result.returncode != 0
    assert b"Traceback" not in result.stderr
    assert b"No space left on device" in result.stderr
