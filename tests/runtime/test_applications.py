"""The package inside a zip application: what ships with it is found, and nothing is left behind."""

import json
import os
import shutil
import subprocess
import sys
import zipapp
from pathlib import Path

import pytest

import mnist_edge
from mnist_edge import shipped


@pytest.fixture(scope="module")
def application(tmp_path_factory):
    """The package alone, with neither its metadata nor what it depends on, as one file."""
    folder = tmp_path_factory.mktemp("zip")
    leave_out = shutil.ignore_patterns("__pycache__")
    shutil.copytree(Path(mnist_edge.__file__).parent, folder / "app" / "mnist_edge", ignore=leave_out)
    target = folder / "mnist-edge.pyz"
    zipapp.create_archive(folder / "app", target, main="mnist_edge.cli.main:main", compressed=True)
    shutil.rmtree(folder / "app")
    return target


def run(application, *arguments, cwd):
    """Run it with a folder of its own for temporary files: the result, and what is left there."""
    scratch = cwd / "scratch"
    scratch.mkdir()
    result = subprocess.run(
        [sys.executable, "-W", "error", application, *arguments],
        cwd=cwd,
        env={**os.environ, "TMPDIR": str(scratch), "PYTHONPATH": ""},
        capture_output=True,
        timeout=120,
        check=False,
        text=True,
    )
    return result, [*scratch.iterdir()]


@pytest.mark.parametrize(
    ("command", "shown"),
    [
        ("predict --sample", "\t5\t"),
        ("predict --sample --model cnn-nano", "\t3\t"),
        ("read --sample", "\t314159"),
        ("selftest cnn", "12 golden vectors"),
        ("info cnn-large", "intact"),
        ("--version", "mnist-edge"),
    ],
)
def test_a_zip_application_runs(application, tmp_path, command, shown):
    result, left = run(application, *command.split(), cwd=tmp_path)
    assert (result.returncode, left) == (0, []), result.stderr
    assert shown in result.stdout


def test_its_models_answer_as_those_on_disk(application, tmp_path):
    (tmp_path / "zip").mkdir()
    result, _ = run(application, "predict", "--sample", "--json", cwd=tmp_path / "zip")
    other = subprocess.run(
        [sys.executable, "-m", "mnist_edge", "predict", "--sample", "--json"],
        capture_output=True,
        timeout=120,
        check=True,
        text=True,
    )
    in_zip, on_disk = ([json.loads(line)["logits"] for line in each.stdout.splitlines()] for each in (result, other))
    assert in_zip == on_disk
    assert len(in_zip) == 2


def test_the_package_is_that_in_the_zip(application, tmp_path):
    code = "import sys; sys.path.insert(0, sys.argv[1]); from mnist_edge.runtime import model; print(model.__file__)"
    found = subprocess.run(
        [sys.executable, "-c", code, application], capture_output=True, timeout=120, check=True, text=True, cwd=tmp_path
    )
    assert found.stdout.startswith(str(application))


def test_a_forked_child_leaves_the_unpacked_files_to_its_parent(application, tmp_path):
    code = (
        "import os, sys; sys.path.insert(0, sys.argv[1])\n"
        "from mnist_edge.runtime.model import PRETRAINED\n"
        "if child := os.fork():\n"
        "    os.waitpid(child, 0)\n"
        "    print(os.listdir(PRETRAINED))\n"
    )
    found = subprocess.run(
        [sys.executable, "-c", code, application], capture_output=True, timeout=120, check=True, text=True, cwd=tmp_path
    )
    assert "cnn-nano" in found.stdout


def test_on_disk_nothing_is_unpacked(monkeypatch):
    monkeypatch.setattr(shipped, "_unpacked", None)
    assert Path(shipped.folder("pretrained"), "cnn").is_dir()
