"""A model of a newer operator set, ONNX format, contract or manifest: one line that says what to upgrade."""

import re
import subprocess
import sys

import pytest

from mnist_edge.bundle import checksum
from mnist_edge.contract import CONTRACT_KEY

NEWER = 127


def resealed(content, pattern, replacement):
    """The content with one replacement of the same length, and the checksum to match."""
    start = content.index(checksum._ENTRY) + len(checksum._ENTRY)
    unsealed = content[:start] + checksum.UNSET_CHECKSUM.encode() + content[start + 64 :]
    changed, count = re.subn(pattern, replacement, unsealed, flags=re.DOTALL)
    assert count == 1
    assert len(changed) == len(unsealed)
    return checksum.with_checksum(changed)


# What onnx.proto3 writes first and last in a ModelProto: field 1, the version of the format; field 8, the operator set
# of a domain, here the default domain's 18.
NEWER_FORMAT = (rb"\A\x08[\x01-\x20]", bytes([0x08, NEWER]))
NEWER_OPERATORS = (rb"B\x04\n\x00\x10\x12", b"B\x04\n\x00\x10" + bytes([NEWER]))
NEWER_CONTRACT = (rb"(" + CONTRACT_KEY.encode() + rb'.{,1000}?"version":)\d(?=})', rb"\g<1>9")


@pytest.mark.parametrize(
    ("change", "version"),
    [(NEWER_FORMAT, NEWER), (NEWER_OPERATORS, NEWER), (NEWER_CONTRACT, 9)],
    ids=["format", "operators", "contract"],
)
@pytest.mark.parametrize("command", ["selftest", "predict"])
def test_a_newer_file_is_refused_in_one_line(bundle_dir, tmp_path, change, version, command):
    path = tmp_path / "newer.onnx"
    path.write_bytes(resealed((bundle_dir / "model.onnx").read_bytes(), *change))
    result = run(command, str(path), tmp_path)
    assert result.returncode == 4
    (line,) = result.stderr.splitlines()
    assert line.startswith("error: ")
    assert re.search(rf"\b{version}\b", line)
    assert "upgrade" in line


def test_a_newer_manifest_is_refused_in_one_line(bundle_copy, tmp_path):
    manifest = bundle_copy / "manifest.json"
    content, count = re.subn(r'"version": ?\d+', '"version": 99', manifest.read_text())
    assert count >= 1
    manifest.write_text(content)
    result = run("selftest", str(bundle_copy), tmp_path)
    assert result.returncode == 4
    (line,) = result.stderr.splitlines()
    assert "99" in line
    assert "upgrade" in line


def run(command, model, folder):
    if command == "predict":
        picture = folder / "picture.pgm"
        picture.write_bytes(b"P5 28 28 255\n" + bytes(400) + b"\xff" * 84 + bytes(300))
        arguments = ["predict", str(picture), "--model", model]
    else:
        arguments = [command, model]
    return subprocess.run(
        [sys.executable, "-m", "mnist_edge", *arguments], capture_output=True, text=True, timeout=60, check=False
    )
