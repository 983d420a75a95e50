"""The README's code runs as written, and its facts about recipes and commands are right."""

import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.training.recipes import RECIPES
from tests.helpers import quick_recipe, run_cli, subset, train

README = (Path(__file__).parents[1] / "README.md").read_text()


def test_the_python_snippets_run(bundle_dir, expected, small, tmp_path):
    shutil.copytree(bundle_dir, tmp_path / "artifacts" / "cnn")
    train(
        subset(small, 640, 100),
        Architecture.SIMPLE_NN,
        quick_recipe(Architecture.SIMPLE_NN),
        tmp_path / "artifacts/simple-nn",
    )
    (tmp_path / "artifacts" / "samples").mkdir()
    right = expected["logits"].argmax(axis=1) == expected["labels"]
    seven = np.flatnonzero(right & (expected["labels"] == 7))[0]
    Image.fromarray(expected["images"][seven]).save(tmp_path / "artifacts" / "samples" / "7.png")
    snippets = re.findall(r"```python\n(.*?)```", README, re.DOTALL)
    assert len(snippets) == 2
    for snippet in snippets:
        result = subprocess.run(
            [sys.executable, "-c", snippet], cwd=tmp_path, capture_output=True, text=True, check=False
        )
        assert result.returncode == 0, result.stderr
        printed = re.findall(r"print\(.*\)  # (.*)", snippet)
        assert result.stdout.splitlines() == [line.removesuffix(", float32") for line in printed]


def test_the_epochs_that_are_told_are_those_of_the_recipes():
    for name, recipe in RECIPES.items():
        rows = re.findall(rf"^\| `{name}`.*", README, re.MULTILINE)
        trained = next(row for row in rows if "epochs" in row)
        measured = next(row for row in rows if "±" in row)
        assert f"{recipe.epochs} epochs" in trained, trained
        assert measured.endswith(f"| {recipe.epochs} |"), measured


def test_every_command_that_is_shown_exists():
    for command in set(re.findall(r"mnist-edge ([a-z]+)", README)):
        assert run_cli(command, "--help").returncode == 0, command
    for script in set(re.findall(r"(?:\./|python )(scripts/[a-z_0-9.]+)", README)):
        assert (Path(__file__).parents[1] / script).is_file(), script
