"""Reading a bundle: only its own regular files, and errors that name what is missing."""

import functools
import json
import os
import shutil
from pathlib import Path

import pytest

from mnist_edge import Classifier
from mnist_edge.bundle import checksum, reading
from mnist_edge.errors import AlteredModelError, ModelError, ModelFormatError, ModelNotFoundError
from mnist_edge.runtime.describe import describe
from tests.helpers import fails, run_cli

ours = functools.partial(Classifier, format="onnx")


def edit(folder, change):
    path = folder / "manifest.json"
    manifest = json.loads(path.read_text())
    change(manifest)
    path.write_text(json.dumps(manifest))


ENTRY = {"sha256": "0" * 64, "bytes": 1}
ELSEWHERE = ["../../etc/hostname", "/etc/hostname", "model.onnx/", "./model.onnx", "checkpoint.pth", "x\x1b[2J", ""]


@pytest.mark.parametrize("name", ELSEWHERE)
@pytest.mark.parametrize("place", ["files", "measured", "recommended file", "recommended not"])
def test_a_manifest_names_no_other_files(bundle_copy, name, place):
    def change(manifest):
        if place == "files":
            manifest["files"][name] = ENTRY
        elif place == "measured":
            manifest["measured"][name] = {"microseconds": 1.0, "batch_dependence": 0.0}
        elif place == "recommended file":
            manifest["recommended"]["file"] = name
        else:
            manifest["recommended"]["not"][name] = "reason"

    edit(bundle_copy, change)
    for reader in (reading.read_manifest, describe, Classifier):
        with pytest.raises(ModelFormatError, match="which is not a bundle file") as caught:
            reader(bundle_copy)
        assert repr(name)[1:-1] in str(caught.value)


def test_of_a_manifest_that_names_other_files_nothing_is_printed(bundle_copy):
    edit(bundle_copy, lambda manifest: manifest["files"].update({"../../etc/hostname": ENTRY}))
    for command in (["info", bundle_copy], ["selftest", bundle_copy], ["predict", "x.png", "--model", bundle_copy]):
        result = run_cli(*command)
        fails(result, 4, "names '../../etc/hostname', which is not a bundle file")
        assert result.stdout == b""


IRREGULAR = {
    "a FIFO": os.mkfifo,
    "a device": lambda path: path.symlink_to("/dev/zero"),
    "a folder": os.mkdir,
    "a link to itself": lambda path: path.symlink_to(path),
}


@pytest.mark.parametrize("kind", IRREGULAR)
@pytest.mark.parametrize("name", ["model.onnx", "manifest.json"])
def test_only_regular_files_are_read(bundle_copy, kind, name):
    (bundle_copy / name).unlink()
    IRREGULAR[kind](bundle_copy / name)
    for reader in (ours, describe) if name == "manifest.json" else (ours,):
        with pytest.raises(ModelNotFoundError, match="cannot be read"):
            reader(bundle_copy)
    if name == "model.onnx":
        assert describe(bundle_copy).files[name].state == "missing"
        with pytest.raises(ModelError):
            Classifier(bundle_copy / name)


def test_a_fifo_does_not_keep_a_command_waiting(bundle_copy):
    for name in ("model.onnx", "manifest.json"):
        (bundle_copy / name).unlink()
        os.mkfifo(bundle_copy / name)
    for command in (["info", bundle_copy], ["selftest", bundle_copy / "model.onnx"], ["verify", bundle_copy]):
        fails(run_cli(*command), 4, "not a regular file")


def test_a_link_to_a_regular_file_is_one(bundle_copy, tmp_path):
    shutil.move(bundle_copy / "model.onnx", tmp_path / "elsewhere.onnx")
    (bundle_copy / "model.onnx").symlink_to(tmp_path / "elsewhere.onnx")
    assert ours(bundle_copy).labels


def exported_anew(folder, other):
    """A `_read_regular` that replaces the bundle by `other` just before it first reads model.onnx."""
    real = reading._read_regular
    done = []

    def read_regular(path, *arguments):
        if Path(path).name == "model.onnx" and not done:
            done.append(path)
            for name in ("model.onnx", "manifest.json"):
                shutil.copy(other / name, folder / name)
        return real(path, *arguments)

    return read_regular


@pytest.fixture
def other_copy(bundle_copy, tmp_path):
    """The same bundle with another, valid model.onnx."""
    other = tmp_path / "other"
    shutil.copytree(bundle_copy, other)
    content = (other / "model.onnx").read_bytes()
    start = checksum._checksum_start(content)
    content = content[:start] + checksum.UNSET_CHECKSUM.encode() + content[start + 64 :]
    assert content.count(b'"seed":1,') == 1
    content = checksum.with_checksum(content.replace(b'"seed":1,', b'"seed":2,'))
    (other / "model.onnx").write_bytes(content)
    edit(other, lambda m: m["files"]["model.onnx"].update({"sha256": checksum.sha256(content), "bytes": len(content)}))
    return other


def test_a_bundle_that_is_exported_anew_while_it_is_read(bundle_copy, other_copy, monkeypatch):
    before = (bundle_copy / "model.onnx").read_bytes()
    monkeypatch.setattr(reading, "_read_regular", exported_anew(bundle_copy, other_copy))
    manifest, name, data = reading.read_chosen(bundle_copy, lambda manifest: "model.onnx")
    assert (name, data) == ("model.onnx", (other_copy / "model.onnx").read_bytes())
    assert data != before
    assert manifest == reading.read_manifest(other_copy)


@pytest.mark.parametrize("reader", [ours, describe])
def test_readers_read_the_manifest_once_more(bundle_copy, other_copy, monkeypatch, reader):
    monkeypatch.setattr(reading, "_read_regular", exported_anew(bundle_copy, other_copy))
    found = reader(bundle_copy)
    if reader is describe:
        assert {file.state for file in found.files.values()} == {"intact"}


def test_what_is_altered_stays_altered(bundle_copy, other_copy):
    shutil.copy(other_copy / "model.onnx", bundle_copy)
    with pytest.raises(AlteredModelError, match="altered since its export"):
        reading.read_chosen(bundle_copy, lambda manifest: "model.onnx")
    assert describe(bundle_copy).files["model.onnx"].state == "altered"


@pytest.mark.parametrize(
    ("present", "training", "manifest"),
    [
        ([], "make it:  mnist-edge train --model … --out", "make it:  mnist-edge train --model … --out"),
        (["checkpoint.pth"], "unfinished", "unfinished: wait for it, or resume it:  mnist-edge train --resume --out"),
        (["checkpoint.pth", "model.pth", "model.onnx"], "unfinished", "mnist-edge train --resume --out"),
        (["model.pth", "training.json"], None, "export it:  mnist-edge export"),
        (["model.pth", "training.json", "model.onnx"], None, "its export is unfinished: wait for it, or export again"),
        (["model.pth"], "train again:  mnist-edge train --overwrite", "train again"),
    ],
)
def test_what_to_do_depends_on_what_was_done(bundle_dir, tmp_path, present, training, manifest):
    for name in present:
        source = bundle_dir / name
        (tmp_path / name).write_bytes(source.read_bytes() if source.exists() else b"")
    with pytest.raises(ModelNotFoundError, match=r"manifest\.json: no such file: ") as caught:
        reading.read_manifest(tmp_path)
    assert manifest in str(caught.value)
    if training is None:
        reading.read_training(tmp_path)
        return
    with pytest.raises(ModelNotFoundError, match=r"training\.json: no such file: ") as caught:
        reading.read_training(tmp_path)
    assert training in str(caught.value)


def test_what_was_there_is_to_be_made_again(bundle_copy):
    (bundle_copy / "manifest.json").write_text("{")
    with pytest.raises(ModelFormatError, match=f"not JSON .*: export again:  mnist-edge export {bundle_copy}"):
        reading.read_manifest(bundle_copy)
    (bundle_copy / "training.json").write_text("{")
    with pytest.raises(ModelFormatError, match=r"not JSON .*: train again:  mnist-edge train --overwrite"):
        reading.read_training(bundle_copy)
