"""Type checkers see the package's annotations (PEP 561)."""

import os
import subprocess
import sys
from importlib import resources
from pathlib import Path

import pytest

import mnist_edge

PROGRAM = """
from mnist_edge import Classifier, Prediction

classifier = Classifier("cnn")
answer: Prediction = classifier.predict("seven.png")
reveal_type(classifier.labels)
reveal_type(answer.label)
Classifier(threads="two")
"""


def test_the_marker_ships():
    assert resources.files(mnist_edge).joinpath("py.typed").is_file()


@pytest.mark.slow
def test_a_users_program_is_checked_against_our_types(tmp_path):
    (tmp_path / "program.py").write_text(PROGRAM)
    result = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "program.py"],
        cwd=tmp_path,
        env={**os.environ, "PYTHONPATH": str(Path(mnist_edge.__file__).parents[1])},
        capture_output=True,
        text=True,
        check=False,
    )
    *lines, total = result.stdout.splitlines()
    assert [line.split(": ", 1)[1] for line in lines] == [
        'note: Revealed type is "tuple[str, ...]"',
        'note: Revealed type is "str | None"',
        'error: Argument "threads" to "Classifier" has incompatible type "str"; expected "int | None"  [arg-type]',
    ], result.stdout + result.stderr
    assert total.startswith("Found 1 error")
