"""The programs in other languages: what they rely on, and that they answer as Python does, where their tools are."""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import numpy as np
import onnx
import pytest

from mnist_edge import Classifier
from mnist_edge.contract import CONTRACT_KEY, DIGITS
from mnist_edge.errors import ParityError
from mnist_edge.runtime.model import PRETRAINED
from tests.helpers import script

examples = script("run_examples")

FOLDER = Path(PRETRAINED, "cnn-nano")
MODEL = FOLDER / "model.int8-static.onnx"


@pytest.fixture(scope="module")
def images(mnist):
    return mnist.test.images[:5]


@pytest.fixture(scope="module")
def printed(images):
    """What a right program prints."""
    logits = Classifier(MODEL).logits(images)
    return "".join(f"{DIGITS[row.argmax()]} {' '.join(map(str, row))}\n" for row in logits)


def test_the_labels_are_where_the_programs_look_for_them():
    metadata = {entry.key: entry.value for entry in onnx.load(MODEL).metadata_props}
    strings = re.findall(r'"((?:[^"\\]|\\.)*)"', metadata[CONTRACT_KEY])  # as classify.cpp does
    assert strings[: 1 + len(DIGITS)] == ["labels", *DIGITS]
    assert json.loads((FOLDER / "manifest.json").read_text())["contract"]["labels"] == [*DIGITS]


def test_a_difference_is_noticed(printed, images):
    classifier = Classifier(MODEL)
    assert examples.largest_difference(printed, classifier, images) == 0
    first, _, rest = printed.partition("\n")
    label, *logits = first.split()
    changed = [*logits[:-1], str(np.float32(logits[-1]) + np.float32(0.5))]
    assert examples.largest_difference(f"{label} {' '.join(changed)}\n{rest}", classifier, images) == pytest.approx(0.5)
    for wrong in (f"8 {' '.join(logits)}\n{rest}", rest):
        with pytest.raises(ParityError, match=r"[45] labels for 5 images, \d of them wrong"):
            examples.largest_difference(wrong, classifier, images)


def test_the_cpp_program_answers_as_python_does(images, tmp_path):
    include = next((folder for folder in examples.INCLUDES if (folder / examples.HEADER).is_file()), None)
    if include is None or shutil.which("c++") is None:
        pytest.skip(f"needs a C++ compiler and {examples.HEADER}")
    program = examples.compiled(include, tmp_path)
    assert examples.largest_difference(program.answers(MODEL, images), Classifier(MODEL), images) == 0
    with pytest.raises(ParityError, match=r"exit code 1: error: .*nowhere"):
        program.answers(tmp_path / "nowhere.onnx", images)


def test_the_javascript_program_answers_as_python_does(images):
    if shutil.which("node") is None:
        pytest.skip("needs node")
    subprocess.run(["node", "--check", examples.EXAMPLES / "classify.js"], check=True)
    packages = [Path(folder).parent for folder in os.environ.get("NODE_PATH", "").split(os.pathsep)]
    folder = next((each for each in packages if (each / "node_modules" / "onnxruntime-node").is_dir()), None)
    if folder is None:
        pytest.skip("needs onnxruntime-node in NODE_PATH")
    printed = examples.in_node("onnxruntime-node", folder).answers(MODEL, images)
    assert examples.largest_difference(printed, Classifier(MODEL), images) == 0
