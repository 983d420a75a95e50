"""Out of memory, no more threads, failing onnxruntime: one error line each, and the other pictures are answered."""

import json
import sys

import numpy as np
import pytest

from mnist_edge import Classifier
from mnist_edge.errors import ExecutionError
from mnist_edge.runtime.session import Session, ort_errors
from tests.helpers import run_python

ONNXRUNTIMES = sorted(
    (kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
    key=lambda kind: kind.__name__,
)


def failing(kind, more_than=0):
    """A `Session.run` whose onnxruntime fails for more than `more_than` images at a time."""
    real = Session.run

    class Inference:
        def __init__(self, inner):
            self.inner = inner

        def run(self, outputs, inputs):
            if len(inputs["image"]) > more_than:
                raise kind("Failed to allocate memory for requested buffer of size 8589934592\nstack trace")
            return self.inner.run(outputs, inputs)

    def run(self, outputs, inputs):
        if not isinstance(self._inference, Inference):
            self._inference = Inference(self._inference)
        return real(self, outputs, inputs)

    return run


@pytest.mark.parametrize("kind", [*ONNXRUNTIMES, MemoryError, RuntimeError], ids=lambda kind: kind.__name__)
def test_onnxruntimes_errors_are_ours(bundle_dir, monkeypatch, kind):
    monkeypatch.setattr(Session, "run", failing(kind))
    classifier = Classifier(bundle_dir)
    for count in (1, 700):
        with pytest.raises(ExecutionError, match="Failed to allocate memory") as caught:
            classifier.logits(np.zeros((count, 28, 28), np.uint8))
        assert "\n" not in str(caught.value)
        assert "stack trace" not in str(caught.value)


def test_what_is_too_much_at_once_is_answered_singly(bundle_dir, expected, monkeypatch):
    classifier = Classifier(bundle_dir, format="onnx")
    pictures = [*expected["images"][:9], "nowhere.png"]
    usual = list(classifier.predict_each(pictures))
    monkeypatch.setattr(Session, "run", failing(MemoryError, more_than=1))
    found = list(classifier.predict_each(pictures))
    for before, now in zip(usual[:-1], found[:-1], strict=True):
        assert now.label == before.label
        assert list(now.logits.values()) == pytest.approx(list(before.logits.values()), abs=1e-4)
    assert str(found[-1]) == str(usual[-1])


def test_what_cannot_be_answered_even_alone_stops_nothing(bundle_dir, expected, monkeypatch):
    monkeypatch.setattr(Session, "run", failing(ort_errors.RuntimeException))
    answers = list(Classifier(bundle_dir).predict_each(expected["images"][:7]))
    assert [type(answer) for answer in answers] == [ExecutionError] * 7


def test_a_picture_for_which_there_is_no_memory(bundle_dir, expected, monkeypatch):
    from mnist_edge.runtime import classifier as module

    real = module.grey_picture

    def grey_picture(image):
        if image is None:
            raise MemoryError
        return real(image)

    monkeypatch.setattr(module, "grey_picture", grey_picture)
    first, none, last = Classifier(bundle_dir).predict_each([expected["images"][0], None, expected["images"][1]])
    assert first.label is not None
    assert last.label is not None
    assert isinstance(none, ExecutionError)
    assert "too little memory for this picture" in str(none)
    with pytest.raises(ExecutionError, match="too little memory for this picture"):
        Classifier(bundle_dir).read(None)


FEW = """
import resource, runpy, sys
from mnist_edge.runtime import session
real = session.Session.run
def run(self, outputs, inputs):
    if len(inputs["image"]) >= 4:
        raise_limit(0)
    try:
        return real(self, outputs, inputs)
    finally:
        raise_limit(resource.RLIM_INFINITY)
def raise_limit(free):
    with open("/proc/self/statm") as statm:
        size = int(statm.read().split()[0]) * resource.getpagesize()
    limit = free if free == resource.RLIM_INFINITY else size + free
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
session.Session.run = run
sys.argv = ["mnist_edge", "predict", "--json", "--model", *sys.argv[1:]]
runpy.run_module("mnist_edge", run_name="__main__", alter_sys=True)
"""
"""The command, without free memory whenever onnxruntime computes four or more images."""


@pytest.mark.skipif(sys.platform != "linux", reason="limits memory as Linux does")
def test_a_process_without_memory_answers_what_it_can(bundle_dir, expected, tmp_path):
    np.save(tmp_path / "large.npy", np.resize(expected["images"], (256, 28, 28)))
    # An array, as pictures would be decoded concurrently under the same process-wide limit.
    result = run_python(FEW, bundle_dir, tmp_path / "large.npy", "--format", "onnx")
    assert "Traceback" not in result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    labels = [str(label) for label in np.resize(expected["logits"].argmax(axis=1), 256)]
    assert [line.get("label") for line in lines] == labels
    assert result.returncode == 0


def test_too_little_memory_for_logits_is_an_error_of_ours(monkeypatch):
    classifier = Classifier("cnn-nano")

    def fail(*_, **__):
        raise MemoryError

    monkeypatch.setattr(np, "ascontiguousarray", fail)
    with pytest.raises(ExecutionError, match="too little memory for these images: give fewer at a time"):
        classifier.logits(np.zeros((3, 28, 28), np.uint8))


def test_too_little_memory_to_make_an_array_is_not_the_images_fault():
    class Large:
        def __array__(self, *_, **__):
            raise MemoryError

    with pytest.raises(ExecutionError, match="too little memory"):
        Classifier("cnn-nano").logits(Large())
