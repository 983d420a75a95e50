"""`scripts/mutate.py` makes the faults that it says, and tells those that tests notice from the others."""

import math
import os
import sys

import pytest

from tests.helpers import script

mutate = script("mutate")

SOURCE = """
def f(a, b):
    \"\"\"Not 1.\"\"\"
    if a < b and b is not None:
        raise ValueError(f"more than {1}")
    return g(a, b) + 1
"""

CHANGED = {
    "if a <= b and b is not None:",
    "if a < b and b is None:",
    "if a < b or b is not None:",
    "if not (a < b and b is not None):",
    "pass",
    "return None",
    "return g(a, b) - 1",
    "return g(b, a) + 1",
    "return g(a, b) + 2",
    "return g(a, b) + 0",
}


def test_every_fault_of_a_function():
    found = [*mutate.mutants("f.py", SOURCE)]
    assert {mutant.name.partition("  ->  ")[2] for mutant in found} == CHANGED
    assert len({mutant.source for mutant in found}) == len(found) == len(CHANGED)


def test_a_module_may_have_tests_of_its_own():
    room = mutate.Room(("*.py",), ("test_all.py",), (), {"one": ("test_one.py",)})
    assert room.tests_of("package/one.py") == ("test_one.py",)
    assert room.tests_of("package/other.py") == ("test_all.py",)


def test_wilsons_interval():
    assert mutate.interval(85, 100) == pytest.approx((0.7672, 0.9069), abs=1e-4)
    assert mutate.interval(0, 0) == (0, 1)


@pytest.mark.skipif(not hasattr(os, "wait4") or not sys.platform.startswith("linux"), reason="forks, and reads /proc")
@pytest.mark.parametrize(
    ("fault", "how"),
    [("2", "fails a test"), ("1", "survives"), ("next(i for i in iter(int, 1) if i)", "takes too long")],
)
def test_what_becomes_of_a_mutant(tmp_path, fault, how):
    (tmp_path / "made.py").write_text("one = 1\n")
    (tmp_path / "test_it.py").write_text("from made import one\n\ndef test_it():\n    assert one == 1\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\nmarkers = slow\n")
    tests = ("test_it.py",)
    mutant = mutate.Mutant("made.py", f"one = {fault}\n", "it")
    assert mutate.tried(tmp_path, mutant, tests, 3.0).how == how
    assert (tmp_path / "made.py").read_text() == "one = 1\n"
    assert not math.isnan(mutate.tried(tmp_path, None, tests, math.inf).seconds)
