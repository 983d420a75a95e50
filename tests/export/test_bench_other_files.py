"""`bench` on the files that onnxruntime does not run: TorchScript and C."""

import functools
import hashlib
import importlib.util
import json
import shutil
from pathlib import Path

import pytest

from mnist_edge.cli import bench as command
from mnist_edge.export.c import source
from mnist_edge.runtime.bench import running
from mnist_edge.runtime.model import PRETRAINED
from tests.export.faults import edit_onnx
from tests.helpers import cli_in_process, fails, keep_only

NANO = Path(PRETRAINED, "cnn-nano")


@pytest.fixture(autouse=True)
def quick(monkeypatch):
    """Measure little."""
    monkeypatch.setattr(running, "measure", functools.partial(running.measure, rounds=1, seconds=0.01))


@pytest.fixture
def with_c(by_gcc, tmp_path):
    """The pretrained bundle with a C file."""
    folder = Path(shutil.copytree(NANO, tmp_path / "nano"))
    add(folder, source.generate((folder / "model.int8-static.onnx").read_bytes()))
    return folder


def add(folder, text):
    """Add a C file to a bundle, with the digest that its manifest asks for."""
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"]["model.h"] = manifest["files"]["model.int8-static.onnx"] | {"format": "c"}
    (folder / "manifest.json").write_text(json.dumps(manifest))
    put(folder, "model.h", text.encode())


def put(folder, name, content):
    """Replace a file of a bundle and its digest in the manifest."""
    (folder / name).write_bytes(content)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][name] |= {"bytes": len(content), "sha256": hashlib.sha256(content).hexdigest()}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def without(monkeypatch, *packages):
    """As if these packages were not installed."""
    find = importlib.util.find_spec
    monkeypatch.setattr(
        command.importlib.util, "find_spec", lambda name, *more: None if name in packages else find(name, *more)
    )


def document(*arguments):
    result = cli_in_process("bench", *arguments, "--json")
    assert result.returncode == 0, result.stderr
    return json.loads(result.stdout)


def test_a_c_file_of_ours_is_compiled_and_measured(with_c):
    found = document(with_c)
    assert found["left_out"] == {}
    assert [*found["files"]] == ["model.onnx", "model.int8-static.onnx", "model.h"]
    assert found["files"]["model.h"]["p50_us"]["median"] > 0
    assert [one["threads"] for one in found["files"]["model.h"]["throughput"]] == [1, 1]
    assert found["advice"]["format"] in (None, "onnx")  # predict has no --format c


def test_a_strangers_c_file_is_not_run_unless_it_is_named(with_c, tmp_path):
    text = (with_c / "model.h").read_text()
    ran = tmp_path / "ran"
    evil = (
        f'#include <stdio.h>\nstatic void __attribute__((constructor)) evil(void) {{ fclose(fopen("{ran}", "w")); }}\n'
    )
    add(with_c, f"{text}\n{evil}")
    found = document(with_c)
    assert found["left_out"] == {"model.h": command.UNTRUSTED}
    assert not ran.exists()
    assert [*document(with_c, "--format", "c")["files"]] == ["model.h"]
    assert ran.exists()


def test_without_the_packages_of_an_export_a_c_file_cannot_be_told_from_a_strangers(with_c, monkeypatch):
    without(monkeypatch, "onnx")
    assert document(with_c)["left_out"] == {"model.h": command.UNTRUSTED}


def rename_convolution(model):
    next(node for node in model.graph.node if node.op_type == "Conv").name = "another"


def test_an_int8_static_file_that_the_export_cannot_read_proves_nothing(with_c):
    """Every checksum is right: whoever forges a file renews them."""
    edit_onnx(with_c, "model.int8-static.onnx", rename_convolution, update_manifest=True)
    assert document(with_c)["left_out"] == {"model.h": command.UNTRUSTED}


def test_a_c_file_in_any_encoding(with_c):
    text = (with_c / "model.h").read_text()
    add(with_c, f"{text}\n/* é */\n")
    assert [*document(with_c, "--format", "c")["files"]] == ["model.h"]
    put(with_c, "model.h", f"{text}\n/* é */\n".encode("latin-1"))
    assert [*document(with_c, "--format", "c")["files"]] == ["model.h"]


def test_a_library_that_cannot_be_loaded_is_left_out(with_c, monkeypatch, tmp_path):
    """As where programs may not run from TMPDIR, or where ``$CC`` compiles for another machine."""
    other = tmp_path / "cc-for-another-machine"
    other.write_text('#!/bin/sh\nwhile [ "$1" != -o ]; do shift; done\necho for another machine > "$2"\n')
    other.chmod(0o755)
    monkeypatch.setenv("CC", str(other))
    found = document(with_c)
    assert [*found["files"]] == ["model.onnx", "model.int8-static.onnx"]
    assert "cannot be compiled and loaded" in found["left_out"]["model.h"]
    fails(cli_in_process("bench", with_c, "--format", "c"), 1, "set TMPDIR to a folder from which programs may run")


def test_a_device_that_has_only_the_c_file(with_c):
    for name in ("model.onnx", "model.int8-static.onnx"):
        (with_c / name).unlink()
    found = document(with_c, "--format", "c")
    assert [*found["files"]] == ["model.h"]
    assert (found["reference"], found["advice"], found["preparation_ms"]) == ("model.h", None, None)
    fails(cli_in_process("bench", with_c), 4, "holds no file that can be measured", command.UNTRUSTED)


def test_a_bundle_without_an_onnx_file(bundle_copy):
    keep_only(bundle_copy, "model.torchscript")
    found = document(bundle_copy)
    assert [*found["files"]] == ["model.torchscript"]
    assert (found["default"], found["reference"]) == (None, "model.torchscript")


def test_without_a_compiler(with_c, monkeypatch, tmp_path):
    monkeypatch.setenv("CC", "")
    monkeypatch.setenv("PATH", str(tmp_path))
    assert "there is no C compiler" in document(with_c)["left_out"]["model.h"]
    fails(cli_in_process("bench", with_c, "--format", "c"), 1, "there is no C compiler: install gcc or clang")
    monkeypatch.setenv("CC", "no-such-compiler")
    assert "CC names 'no-such-compiler'" in document(with_c)["left_out"]["model.h"]


def test_torchscript_is_measured_if_torch_is_installed(bundle_copy, monkeypatch):
    keep_only(bundle_copy, "model.torchscript", "model.onnx")
    found = document(bundle_copy, "--format", "torchscript")
    (figures,) = found["files"].values()
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    assert figures["accuracy"] == manifest["files"]["model.torchscript"]["parity"]["accuracy"]
    assert figures["p50_us"]["median"] > 0
    without(monkeypatch, "torch")
    fails(cli_in_process("bench", bundle_copy, "--format", "torchscript"), 1, "torch is not installed: ")
    assert "torch is not installed" in document(bundle_copy)["left_out"]["model.torchscript"]


def test_the_c_file_and_torchscript_answer_as_they_should(with_c, bundle_dir, expected):
    """What is timed is what computes the logits."""
    import numpy as np

    from mnist_edge import Classifier
    from mnist_edge.export import by_torch
    from mnist_edge.runtime import compiling
    from mnist_edge.runtime.bench import by_c

    images = expected["images"][:20, None]
    content = (with_c / "model.h").read_bytes()
    prefix = compiling.prefix_in(content.decode())
    library = compiling.build(compiling.compiler(), content, prefix, "model.h", with_c.parent)
    logits = by_c.opened(str(library), "c").logits(images)
    assert np.array_equal(logits, Classifier(NANO, format="int8-static").logits(images))
    traced = by_torch.opened(str(bundle_dir), "torchscript").logits(images)
    assert np.abs(traced - expected["logits"][:20]).max() < 1e-5
