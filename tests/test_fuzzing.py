"""A few random inputs to all that parses bytes from strangers; `scripts/fuzz` looks for longer."""

import sys
import warnings

import pytest

from mnist_edge.errors import DataFormatError
from tests.fuzzing import judging, mutation
from tests.fuzzing.judging import Target, judge, searched
from tests.fuzzing.targets import TARGETS
from tests.helpers import run_python

pytestmark = pytest.mark.skipif(sys.platform == "win32", reason="measures time and memory as POSIX does")

PICTURES = {"png", "jpeg", "bmp", "gif", "ppm", "tiff", "webp"}


@pytest.mark.parametrize("name", TARGETS)
def test_any_bytes_give_an_answer_or_our_error(tmp_path, name):
    found = searched(TARGETS[name], 30 if name in PICTURES else 200, seed=0, folder=tmp_path)
    assert not found, "\n".join(finding.text for finding in found.values())


@pytest.mark.parametrize("name", TARGETS)
def test_valid_inputs_are_answered(tmp_path, name):
    answered = 0
    for seed in TARGETS[name].seeds():
        try:
            TARGETS[name].run(seed, tmp_path)
        except judging.MnistEdgeError:
            continue
        answered += 1
    assert answered


def planted(data, folder):
    if b"\xfe" in data:
        raise KeyError(data)


def several_lines(data, folder):
    raise DataFormatError("one\ntwo")


def warns(data, folder):
    warnings.warn("look", UserWarning, stacklevel=1)


def hangs(data, folder):
    try:
        while True:
            pass
    except Exception as error:
        raise DataFormatError("took long") from error


@pytest.mark.parametrize(
    ("fault", "kind"),
    [
        (planted, "KeyError test_fuzzing.py:planted"),
        (several_lines, "an error of several lines: DataFormatError"),
        (warns, "UserWarning test_fuzzing.py:warns"),
        (hangs, "TooSlowError test_fuzzing.py:hangs"),
    ],
)
def test_a_fault_is_found(tmp_path, monkeypatch, fault, kind):
    assert judge(lambda data, folder: None, b"", tmp_path) is None
    monkeypatch.setattr(judging, "SECONDS", 0.5)
    monkeypatch.setattr(judging, "MINIMISING", 40 if fault is planted else 0)
    monkeypatch.setattr(judging, "warm_up", lambda run, inputs, folder: None)
    target = Target(fault, lambda: [bytes(range(200))], mutation.of_bytes)
    found = searched(target, 300 if fault is planted else 1, seed=0, folder=tmp_path)
    assert [*found] == [kind]
    if fault is planted:
        assert found[kind].data == b"\xfe"


TAKES_MEMORY = """
import numpy
from tests.fuzzing.judging import judge
for megabytes in (100, 500):
    print(judge(lambda data, folder: numpy.ones(megabytes << 17), b"", None))
"""


def test_an_input_that_takes_much_memory_is_found():
    first, second = run_python(TAKES_MEMORY).stdout.splitlines()
    assert first == "None"
    assert "more than 300 MB" in second
