"""Files from strangers: a valid checksum, hostile content. `tests.forged` makes them."""

import contextlib
import itertools
import subprocess
import sys
from pathlib import Path

import onnx
import pytest

from mnist_edge.bundle.layout import LARGEST_FILE
from mnist_edge.errors import ModelFormatError
from mnist_edge.runtime import contents, selftest
from mnist_edge.runtime.model import PRETRAINED, load
from mnist_edge.runtime.session import ort
from tests import forged
from tests.helpers import fails, run_cli

CONTENT = Path(PRETRAINED, "cnn-nano", "model.onnx").read_bytes()


@pytest.mark.parametrize("kind", forged.KINDS)
def test_every_forgery_is_refused_in_one_line(kind):
    made = forged.KINDS[kind](CONTENT)
    assert len(made) >= 5
    for name, data in made.items():
        try:
            selftest.run(load(data, "theirs.onnx"))
        except ModelFormatError as error:
            message = str(error)
        else:
            message = "it was not refused"
        assert message.startswith("theirs.onnx: "), (name, message)
        assert message.isprintable(), (name, message)
        assert len(message) < 400, (name, message)
        assert "export it again" in message, (name, message)


@pytest.mark.parametrize("kind", forged.KINDS)
def test_the_command_line_refuses_within_bounded_memory(kind, tmp_path):
    """The largest file of each kind."""
    data = max(forged.KINDS[kind](CONTENT).values(), key=len)
    (tmp_path / "theirs.onnx").write_bytes(data)
    command = [sys.executable, "-c", MEASURED, "selftest", "theirs.onnx"]
    result = subprocess.run(command, cwd=tmp_path, capture_output=True, check=False)
    fails(result, 4, "theirs.onnx: ")
    assert int(result.stdout) < 500_000


MEASURED = """
import atexit, pathlib
from mnist_edge.cli.main import main

def report():  # in KB; ru_maxrss would be the parent's
    print(pathlib.Path("/proc/self/status").read_text().partition("VmHWM:")[2].split()[0])

atexit.register(report)
main()
"""


def test_forgeries_are_only_refused_by_that_check(monkeypatch):
    """Without it, onnxruntime loads many of them, and some answer."""
    loaded = answered = 0
    for name, data in itertools.chain(
        *(forged.KINDS[kind](CONTENT).items() for kind in ("control flow", "outputs", "lying shapes"))
    ):
        if "without end" in name:
            continue
        with contextlib.suppress(Exception):  # onnxruntime's own derive from Exception alone
            session = ort.InferenceSession(data, _quiet(), ["CPUExecutionProvider"])
            loaded += 1
            session.run(None, {"image": contents.read_contents(CONTENT, "ours").golden.images})
            answered += 1
    assert loaded >= 10
    assert answered >= 8


def _quiet():
    options = ort.SessionOptions()
    options.log_severity_level = 4
    return options


def test_logits_that_are_not_finite_are_refused(tmp_path):
    for value in (float("nan"), float("inf")):

        def poison(model, value=value):
            tensor = model.graph.initializer[-1]
            array = onnx.numpy_helper.to_array(tensor).copy()
            array.flat[0] = value
            tensor.CopyFrom(onnx.numpy_helper.from_array(array, tensor.name))

        data = forged.changed(CONTENT, poison)
        model = load(data, "theirs.onnx")
        with pytest.raises(ModelFormatError, match="not finite"):
            selftest.run(model)
        (tmp_path / "theirs.onnx").write_bytes(data)
        fails(run_cli("selftest", "theirs.onnx", cwd=tmp_path), 4, "not finite")


def test_what_is_too_large_is_not_read(tmp_path):
    path = tmp_path / "theirs.onnx"
    with path.open("wb") as file:
        file.truncate(10 * LARGEST_FILE)
    fails(run_cli("info", "theirs.onnx", cwd=tmp_path), 4, "larger than the limit")
