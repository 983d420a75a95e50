"""Small real data, quick trainings and subprocesses for the tests. Only training needs torch."""

import contextlib
import contextvars
import dataclasses
import gzip
import importlib.util
import io
import json
import os
import subprocess
import sys
import warnings
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any
from unittest import mock

import numpy as np
from msgspec import structs

from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.bundle.records import Epoch
from mnist_edge.contract import HEIGHT, WIDTH
from mnist_edge.data import idx
from mnist_edge.data.datasets import Dataset, Split
from mnist_edge.data.idx_folders import IDX_FILES
from mnist_edge.training.recipes import RECIPES

if TYPE_CHECKING:
    from mnist_edge.export.examples import Examples
    from mnist_edge.training.checkpoint import Trained


def long_after(count: int, cases: Sequence[Any]) -> list[Any]:
    """Cases for `pytest.mark.parametrize`, all but the first `count` marked as long."""
    import pytest

    later = [case if isinstance(case, tuple) else (case,) for case in cases[count:]]
    return [*cases[:count], *(pytest.param(*case, marks=pytest.mark.long) for case in later)]


def script(name: str) -> ModuleType:
    """A module of the folder `scripts`, which is no package. It may import others of them."""
    folder = Path(__file__).parents[1] / "scripts"
    spec = importlib.util.spec_from_file_location(name, folder / f"{name}.py")
    assert spec
    assert spec.loader
    module = importlib.util.module_from_spec(spec)
    with mock.patch.object(sys, "path", [str(folder), *sys.path]):
        spec.loader.exec_module(module)
    return module


def subset(data: Dataset, train: int, test: int) -> Dataset:
    """The first images of each split."""
    return dataclasses.replace(data, train=_first(data.train, train), test=_first(data.test, test))


def _first(split: Split, count: int) -> Split:
    return Split(split.images[:count], split.labels[:count])


def quick_recipe(architecture: Architecture) -> Recipe:
    """Two epochs without what only pays off over many, in float32 so that every processor does the same."""
    recipe = structs.replace(RECIPES[architecture], epochs=2, batch_size=64)
    if recipe.augment:
        recipe = structs.replace(recipe, lr=0.05, augment=False, ema_decay=0.0, autocast=False)
    if architecture is Architecture.SIGMOID_NN:
        recipe = structs.replace(recipe, lr=0.5)
    return recipe


def train(
    data: Dataset,
    architecture: Architecture,
    recipe: Recipe,
    out: Path,
    *,
    seed: int = 0,
    device: str = "cpu",
    overwrite: bool = False,
    **on: Any,
) -> list[Epoch]:
    from mnist_edge.training.train import begin, finish

    with begin(data, architecture, recipe, out, seed=seed, device=device, overwrite=overwrite) as training:
        finish(training, data, out, **on)
    return training.epochs


def given(trained: "Trained") -> "Examples":
    """What the check of weights is given; it needs neither images nor golden vectors."""
    from mnist_edge.export.examples import Examples
    from mnist_edge.runtime.golden import Golden

    nothing = np.zeros((0, 1, HEIGHT, WIDTH), np.uint8)
    no_labels = np.zeros(0, np.uint8)
    return Examples(
        golden=Golden(images=nothing, logits=np.zeros((0, 2), np.float32), tolerance=0.0),
        training=nothing,
        extremes=nothing,
        calibration=Split(nothing[:, 0], no_labels),
        trained=trained,
    )


def write_idx(folder: Path, data: Dataset, *, compress: bool = False) -> Path:
    """Write the data as an IDX folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for split, (images_file, labels_file) in IDX_FILES.items():
        part = getattr(data, split)
        for name, array in ((images_file, part.images), (labels_file, part.labels)):
            content = idx.encode(np.asarray(array, dtype=np.uint8))
            path = folder / (f"{name}.gz" if compress else name)
            path.write_bytes(gzip.compress(content, mtime=0) if compress else content)
    return folder


def keep_only(folder: Path, *names: str) -> None:
    """Remove a bundle's exported files except those with these names."""
    manifest = json.loads((folder / "manifest.json").read_text())
    for name in [name for name in manifest["files"] if "parity" in manifest["files"][name] and name not in names]:
        del manifest["files"][name]
        (folder / name).unlink()
    (folder / "manifest.json").write_text(json.dumps(manifest))


def run_python(
    code: str, *arguments: object, under: Sequence[str] = (), **environment: str | None
) -> subprocess.CompletedProcess[str]:
    """Run a script in a new process, with warnings as errors and under the program `under`; None unsets a variable."""
    wanted = {**os.environ, **environment}
    return subprocess.run(
        [*under, sys.executable, "-W", "error", "-c", code, *map(str, arguments)],
        env={name: value for name, value in wanted.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


def run_cli(
    *arguments: object, cwd: Path | None = None, stdin: bytes | None = None, **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Run the command line in a new process as users do, with warnings as errors."""
    return subprocess.run(
        [sys.executable, "-W", "error", "-m", "mnist_edge", *map(str, arguments)],
        cwd=cwd,
        input=stdin,
        env={**os.environ, **environment},
        capture_output=True,
        timeout=300,
        check=False,
    )


def on_a_terminal(*command: object, cwd: Path | None = None, **environment: str) -> tuple[str, str, int]:
    """Run a command in a new process with a terminal as stderr: what it writes there, its stdout and its exit code."""
    import pty

    master, slave = pty.openpty()
    with subprocess.Popen(
        [sys.executable, *map(str, command)],
        stdout=subprocess.PIPE,
        stderr=slave,
        cwd=cwd,
        env={**os.environ, "TERM": "xterm", **environment},
    ) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # raised when the other end is closed
            while True:
                shown += os.read(master, 65536)
        os.close(master)
        out, _ = process.communicate(timeout=60)
    return shown.decode(), out.decode(), process.returncode


def cli_in_process(
    *arguments: object, cwd: Path | None = None, stdin: bytes = b"", **environment: str
) -> subprocess.CompletedProcess[bytes]:
    """Like `run_cli`, but in this process: faster, for tests that do not need a separate one."""
    from mnist_edge.cli.main import main

    # Buffered text streams, as pipes are.
    stdin_, stdout, stderr = (io.TextIOWrapper(io.BytesIO(data), encoding="utf-8") for data in (stdin, b"", b""))
    code = 0
    with (
        mock.patch.multiple(sys, argv=["mnist-edge", *map(str, arguments)], stdin=stdin_, stdout=stdout, stderr=stderr),
        mock.patch.dict(os.environ, environment),
        contextlib.chdir(cwd or Path.cwd()),
        warnings.catch_warnings(),
    ):
        try:
            contextvars.copy_context().run(main)  # --quiet ends with the command
        except SystemExit as stop:
            code = int(stop.code or 0)
        stdout.flush()
        stderr.flush()
    return subprocess.CompletedProcess([*map(str, arguments)], code, stdout.buffer.getvalue(), stderr.buffer.getvalue())


def fails(result: subprocess.CompletedProcess[bytes], code: int, *words: str) -> None:
    """Assert an expected failure: its exit code, and one line "error: …" on stderr that contains the words."""
    text = result.stderr.decode()
    lines = [line for line in text.splitlines() if line.startswith("error: ")]
    assert result.returncode == code, text
    assert len(lines) == 1, text
    assert "Traceback" not in text
    for word in words:
        assert word in lines[0], (word, lines[0])
