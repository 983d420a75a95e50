"""Other engines on our files: `scripts/check_interop.py` and `scripts/compare_engines.py`, and that they can fail."""

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from mnist_edge.bundle.layout import Format
from mnist_edge.errors import UsageError
from mnist_edge.export.parity import BETWEEN_ENGINES, FLOAT32, INT8
from mnist_edge.runtime.model import PRETRAINED
from tests.helpers import script

SCRIPTS = Path(__file__).parents[1] / "scripts"


@pytest.fixture(scope="module")
def interop():
    return script("check_interop")


@pytest.fixture(scope="module")
def peers(interop):
    """The modules of scripts/peers."""
    return {name.partition(".")[2]: module for name, module in sys.modules.items() if name.startswith("peers.")}


MNIST = str(SCRIPTS.parent / "artifacts/datasets/mnist")


@pytest.fixture
def run(monkeypatch, tmp_path, capsys):
    """Run a script's `main` in an empty folder, where it leaves its results: exit code, stdout and stderr."""

    def call(module, *arguments):
        monkeypatch.chdir(tmp_path)
        monkeypatch.setenv("MNIST_EDGE_DATA", MNIST)
        monkeypatch.setattr(sys, "argv", [module.__name__, *map(str, arguments), "--cache", "cache"])
        return module.main(), *capsys.readouterr()

    return call


@pytest.mark.slow
@pytest.mark.long
@pytest.mark.parametrize("names", [["onnxruntime", "tract"], ["onnxruntime", "OpenVINO f32"]], ids=str)
def test_engines_that_install_quickly_agree(bundle_dir, tmp_path, names):
    result = subprocess.run(
        [sys.executable, SCRIPTS / "check_interop.py", bundle_dir, "--cache", "cache", "--peers", ",".join(names)],
        cwd=tmp_path,
        env={**os.environ, "MNIST_EDGE_DATA": MNIST},
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    assert re.search(rf"MB to install \({names[1].split()[0].lower()} \d+\)", result.stderr)
    for name in names:
        assert f"| {name} " in result.stdout
    assert result.stderr.count(": 2 files answered\n") == len(names)
    assert "Did not answer" not in result.stdout


def test_another_models_file_does_not_agree(bundle_copy, run, interop):
    shutil.copy(Path(PRETRAINED, "cnn-nano", Format.ONNX.file_name), bundle_copy)
    code, _, err = run(interop, bundle_copy, "--peers", "onnxruntime")
    assert code == 1
    assert "error: onnxruntime: cnn: onnx: does not agree: max |Δlogit| from PyTorch" in err


def test_a_peer_that_cannot_be_installed_is_named(bundle_dir, run, interop, monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _: None)
    code, out, err = run(interop, bundle_dir, "--peers", "onnxruntime-node")
    assert code == 1
    assert "- onnxruntime-node, cnn: onnx: Node or npm is not installed" in out
    assert "error: no peer has answered" in err


def test_the_reason_of_a_failed_installation_is_told(peers, tmp_path):
    failing = [sys.executable, "-c", "raise SystemExit('Looking\\nERROR: no such package\\nupgrade pip')"]
    with pytest.raises(peers["environments"].UnavailableError, match=r"^python\S* fails: ERROR: no such package$"):
        peers["environments"].run(failing, tmp_path)


def test_an_unknown_peer_is_refused(bundle_dir, run, interop):
    with pytest.raises(UsageError, match="tracked: no such peer: choose from mnist-edge, onnxruntime, "):
        run(interop, bundle_dir, "--peers", "tracked")


def test_an_engine_that_dies_or_fails_says_why(peers, tmp_path):
    child = peers["children"].Child([sys.executable], "onnxruntime_engine.py", tmp_path, tmp_path, 1)
    with child, pytest.raises(peers["environments"].UnavailableError, match=r"missing\.onnx"):
        child.load(tmp_path / "missing.onnx", 1, "")
    dying = peers["children"].Child(
        [sys.executable, "-c", "raise SystemExit('error: out of luck')"], "", tmp_path, tmp_path, 1
    )
    with dying, pytest.raises(peers["environments"].UnavailableError, match="ends with code 1: error: out of luck"):
        dying.load(tmp_path / "missing.onnx", 1, "")


def test_an_engine_that_hangs_is_ended(peers, tmp_path, monkeypatch):
    monkeypatch.setattr(peers["children"], "PATIENCE", 0.1)
    child = peers["children"].Child(
        [sys.executable, "-c", "import time; time.sleep(600)"], "", tmp_path, tmp_path, threads=1
    )
    with child, pytest.raises(peers["environments"].UnavailableError, match="ends with code -9: no message"):
        child.load(tmp_path / "any.onnx", 1, "")


def logits(images=1000):
    return np.random.default_rng(seed=0).normal(size=(images, 10)).astype(np.float32)


def nudged(by, count=1):
    """Logits of which some rows have their least ones raised, so that no label changes."""
    changed = logits()
    rows = np.arange(count)
    changed[rows, changed[:count].argmin(axis=1)] += by
    return changed


def swapped(count):
    """Logits with other labels for some images, by the least change."""
    changed = logits()
    gaps = np.diff(np.sort(changed)[:, -2:]).ravel()
    for row in np.argsort(gaps)[:count]:
        second, first = np.argsort(changed[row])[-2:]
        changed[row, [second, first]] = changed[row, [first, second]]
    return changed


@pytest.mark.parametrize(
    ("found", "form", "message"),
    [
        (logits(), Format.ONNX, None),
        (nudged(0.9 * FLOAT32.max_abs_diff), Format.ONNX, None),
        (nudged(1.1 * FLOAT32.max_abs_diff), Format.ONNX, "from PyTorch 0.00011, allowed 0.0001"),
        (swapped(1), Format.ONNX, "1 of 1000 images labelled otherwise than by PyTorch, allowed 0"),
        (nudged(0.9 * BETWEEN_ENGINES.in_std), Format.INT8_STATIC, None),
        (nudged(1.1 * BETWEEN_ENGINES.in_std), Format.INT8_STATIC, "from onnxruntime 0.11, allowed 0.1"),
        (nudged(1.1 * INT8.in_std), Format.INT8_STATIC, "from PyTorch 0.27, allowed 0.25"),
        (swapped(3), Format.INT8_STATIC, None),
        (swapped(4), Format.INT8_STATIC, "4 of 1000 images labelled otherwise than by onnxruntime, allowed 3"),
        (np.full_like(logits(), np.nan), Format.INT8_STATIC, "from PyTorch inf"),
    ],
)
def test_what_is_out_of_tolerance_is_told(peers, found, form, message):
    figures = peers["agreement"].agreement(found, logits(), logits(), form)
    if message is None:
        assert figures.failures == []
    else:
        assert message in "; ".join(figures.failures)


@pytest.mark.slow
@pytest.mark.long
def test_speed_is_compared(bundle_dir, run):
    _, out, _ = run(script("compare_engines"), bundle_dir, "--peers", "mnist-edge,onnxruntime", "--rounds", "1")
    tables = out.split("### ")[1:]
    for table, form in zip(tables, ("float32", "int8-static"), strict=True):
        assert table.startswith(f"`cnn`, {form}")
        rows = re.findall(r"^\| ([\w-]+) \S+ \| \d+ µs \| .* MB \| \S+ \| \d+ \|$", table, re.MULTILINE)
        assert rows == ["mnist-edge", "onnxruntime"]


def file(**times):
    return {"peers": {name: {"one": {"p50": time}} for name, time in times.items()}, "omitted": {}}


@pytest.mark.parametrize(
    ("ours", "vnni", "verdict"),
    [
        (100e-6, True, "takes 5.00 times as long as mnist-edge (aim with VNNI: 5, reached)"),
        (101e-6, True, "takes 4.95 times as long as mnist-edge (aim with VNNI: 5, not reached)"),
        (101e-6, False, "takes 4.95 times as long as mnist-edge (no aim without VNNI)"),
    ],
)
def test_expectations_are_judged_where_they_apply(peers, ours, vnni, verdict):
    files = {"onnx": file(**{"mnist-edge": 1e-6, "TorchScript": 500e-6}), "int8-static": file(**{"mnist-edge": ours})}
    expectations = script("compare_engines").expectations
    found = {"vnni": vnni, "models": {"cnn": {"default": "int8-static", "files": files}}}
    assert expectations(found) == [f"- `cnn`: the best of TorchScript {verdict}"]
    assert expectations({"vnni": vnni, "models": {"cnn-nano": found["models"]["cnn"]}}) == []


def test_the_installed_size_counts_requirements_but_not_numpy(peers):
    environments, table = peers["environments"], peers["table"]
    packages = environments.make(table.OWN, Path())[1]
    names = {one.metadata["Name"] for one in environments.closure(["onnxruntime"], packages, {"numpy"})}
    assert {"onnxruntime", "flatbuffers", "protobuf"} <= names
    assert "numpy" not in names
    (bare,) = (peer.environment for peer in table.PEERS if peer.name == "onnxruntime")
    assert environments.installed_megabytes(bare, packages) > 10


def test_too_small_a_disk_is_noticed_before_anything_is_installed(peers, tmp_path):
    huge = peers["environments"].Environment("huge", ("tract",), 10**9)
    with pytest.raises(SystemExit, match="1,000,000,000 are needed: choose fewer --peers, or another --cache"):
        peers["environments"].require_space([huge], tmp_path)
    assert [*tmp_path.iterdir()] == []


def test_every_program_of_the_table_exists(peers):
    table = peers["table"]
    programs = {peer.program for peer in table.PEERS} | {program for program, _ in table.CONVERTING.values()}
    kept = {path.name for path in (SCRIPTS / "engines").iterdir() if path.suffix in (".py", ".mjs")}
    assert kept == programs | {"protocol.py", "protocol.mjs", "convert_pytorch.py"}
