"""The command line on a device that has only a copied model file."""

import json
import shutil

import numpy as np
import pytest
from PIL import Image

from tests.helpers import cli_in_process, fails, run_cli


@pytest.fixture
def device(bundle_dir, expected, tmp_path):
    """A folder with a copied model and a few pictures."""
    shutil.copy(bundle_dir / "model.onnx", tmp_path)
    for index in range(5):
        Image.fromarray(expected["images"][index]).save(tmp_path / f"{index}.png")
    return tmp_path


def test_predict_gives_pytorchs_labels_and_probabilities(device, expected):
    result = run_cli("predict", *(f"{index}.png" for index in range(5)), "--model", "model.onnx", "--json", cwd=device)
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    info = json.loads(run_cli("info", "model.onnx", "--json", cwd=device).stdout)
    logits = expected["logits"][:5].astype(np.float64) / info["contract"]["calibration"]["temperature"]
    probabilities = np.exp(logits) / np.exp(logits).sum(axis=1, keepdims=True)
    assert [line["label"] for line in lines] == [str(label) for label in logits.argmax(axis=1)]
    for line, row in zip(lines, probabilities, strict=True):
        assert list(line["probabilities"].values()) == pytest.approx(row.tolist(), abs=1e-4)


def test_selftest_and_info(device):
    result = run_cli("selftest", "model.onnx", "--json", cwd=device)
    assert result.returncode == 0, result.stderr
    found = json.loads(result.stdout)
    assert found["vectors"] == 12
    assert found["max_abs_diff"] <= found["tolerance"] == 1e-4
    assert json.loads(run_cli("info", "model.onnx", "--json", cwd=device).stdout)["contract"]["version"] == 2


def test_a_copy_that_was_cut_short(device):
    path = device / "model.onnx"
    path.write_bytes(path.read_bytes()[:-1])
    fails(cli_in_process("selftest", "model.onnx", cwd=device), 4, "altered since its export")
    fails(cli_in_process("predict", "0.png", "--model", "model.onnx", cwd=device), 4, "altered since its export")


@pytest.mark.parametrize("place", [0, 1, 0.25, 0.5, 0.75, -1])
def test_a_copy_with_one_bit_changed(device, place):
    path = device / "model.onnx"
    content = bytearray(path.read_bytes())
    content[int(place * len(content)) if isinstance(place, float) else place] ^= 1
    path.write_bytes(content)
    fails(cli_in_process("predict", "0.png", "--model", "model.onnx", cwd=device), 4, "export it again")
