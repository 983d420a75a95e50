"""Threads, isolation, and what the runtime leaves behind on a machine."""

import pytest
from PIL import Image

from mnist_edge.errors import ModelFormatError
from mnist_edge.runtime import session
from tests.helpers import run_python

PREDICT = """
import sys
import numpy as np
from mnist_edge import Classifier
Classifier(sys.argv[1]).logits(np.zeros((1, 28, 28), np.uint8))
"""

HEAVY = "sorted({'torch', 'onnx', 'typer', 'onnxscript', 'torchvision', 'matplotlib'} & sys.modules.keys())"


def test_the_runtime_never_imports_torch_onnx_or_typer(bundle_dir):
    result = run_python(f"{PREDICT}\nprint({HEAVY})", bundle_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_proof_above_can_fail(bundle_dir):
    result = run_python(f"import typer\n{PREDICT}\nprint({HEAVY})", bundle_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['typer']"


def test_importing_the_package_alone_loads_nothing_heavy():
    heavy = {"torch", "onnxruntime", "typer", "numpy", "PIL", "matplotlib"}
    code = f"import sys, mnist_edge; print(sorted({heavy} & sys.modules.keys()))"
    assert run_python(code).stdout.strip() == "[]"


COLD = """
import sys
from mnist_edge import Classifier
Classifier().predict(sys.argv[1])
"""


@pytest.mark.parametrize("size", [28, 56])  # the second is preprocessed
def test_a_cold_start_imports_nothing_that_takes_milliseconds(size, expected, tmp_path):
    path = tmp_path / "digit.png"
    Image.fromarray(expected["images"][0]).resize((size, size)).save(path)
    added = run_python(
        f"import sys, numpy, onnxruntime, PIL.PngImagePlugin; before = set(sys.modules)\n{COLD}\n"
        "print(sorted({'pathlib', 'dataclasses', 'inspect', 'numpy.ma', 'logging'} & (sys.modules.keys() - before)))",
        path,
    )
    assert added.stdout.strip() == "[]", added.stderr


def _written(bundle_dir, home, code):
    # CI=true disables onnxruntime's telemetry, so it must be unset.
    result = run_python(
        code, bundle_dir, HOME=str(home), CI=None, XDG_CACHE_HOME=None, ORT_DISABLE_TELEMETRY=None, GITHUB_ACTIONS=None
    )
    assert result.returncode == 0, result.stderr
    return [path for path in home.rglob("*") if path.is_file()]


def test_nothing_is_written_to_the_home(bundle_dir, tmp_path):
    assert _written(bundle_dir, tmp_path, PREDICT) == []


def test_a_user_who_wants_telemetry_keeps_it():
    code = "import os, mnist_edge.runtime.session; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_python(code, ORT_DISABLE_TELEMETRY="0").stdout.strip() == "0"


def test_telemetry_is_off_before_onnxruntime_is_imported():
    code = """
import builtins, os, sys
real = builtins.__import__
def spy(name, *rest, **more):
    if name == "onnxruntime" and "onnxruntime" not in sys.modules:
        print(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return real(name, *rest, **more)
builtins.__import__ = spy
import mnist_edge.runtime.session
"""
    assert run_python(code, ORT_DISABLE_TELEMETRY=None).stdout.split() == ["1"]


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x0a"])
def test_what_onnxruntime_cannot_load(content, capfd):
    with pytest.raises(ModelFormatError, match="onnxruntime"):
        session.Session(content)
    assert capfd.readouterr().err == ""


def test_onnxruntimes_own_format_is_refused(bundle_dir, tmp_path):
    options = session.ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "model.ort")
    options.add_session_config_entry("session.save_model_format", "ORT")
    session.ort.InferenceSession(str(bundle_dir / "model.onnx"), options, providers=["CPUExecutionProvider"])
    content = (tmp_path / "model.ort").read_bytes()
    session.ort.InferenceSession(content, providers=["CPUExecutionProvider"])  # onnxruntime itself accepts it
    with pytest.raises(ModelFormatError, match="onnxruntime"):
        session.Session(content)
