"""A model whose weights lie in another file is refused, however well it is sealed: onnxruntime would load them."""

import shutil

import numpy as np
import onnx
import onnxruntime as ort
import pytest
from onnx.external_data_helper import set_external_data

from mnist_edge import bundle
from mnist_edge.contract import DIGEST_KEY, INPUT_NAME
from mnist_edge.errors import ModelFormatError
from mnist_edge.runtime.model import load
from mnist_edge.runtime.session import Session
from tests.helpers import fails, run_cli

WEIGHTS = "weights.bin"


@pytest.fixture
def outside(bundle_dir, tmp_path, monkeypatch):
    """A sealed model that keeps its largest tensor in a file of the working directory."""
    monkeypatch.chdir(tmp_path)
    model = onnx.load(bundle_dir / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / WEIGHTS).write_bytes(tensor.raw_data)
    set_external_data(tensor, WEIGHTS)
    tensor.ClearField("raw_data")
    return model


def sealed(model: onnx.ModelProto) -> bytes:
    for entry in model.metadata_props:
        if entry.key == DIGEST_KEY:
            entry.value = bundle.UNSEALED
    return bundle.seal(model.SerializeToString())


def test_onnxruntime_alone_would_read_the_other_file(outside, expected):
    session = ort.InferenceSession(sealed(outside), providers=["CPUExecutionProvider"])
    logits = session.run(None, {INPUT_NAME: expected["images"][:, None]})[0]
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def test_the_runtime_refuses(outside):
    content = sealed(outside)
    bundle.check_seal(content, "model.onnx")
    with pytest.raises(ModelFormatError, match="outside its file"):
        load(content, "model.onnx")


def test_the_command_line_refuses(outside, tmp_path, expected):
    from PIL import Image

    (tmp_path / "model.onnx").write_bytes(sealed(outside))
    Image.fromarray(expected["images"][0]).save(tmp_path / "0.png")
    fails(run_cli("predict", "0.png", "--model", "model.onnx", cwd=tmp_path), 4, "outside its file")


@pytest.mark.parametrize("length", [b"\x08", b"\x88\x00", b"\x88\x80\x80\x00"])
def test_a_needlessly_long_length_does_not_hide_the_key(outside, length):
    value = WEIGHTS.encode()
    entry = b"\x0a" + length + b"location\x12" + bytes([len(value)]) + value
    canonical = b"\x0a\x08location\x12" + bytes([len(value)]) + value
    content = outside.SerializeToString()
    # As wide as before: what the entry gains, the file's name in the key loses nothing of, so only scanned, not loaded.
    with pytest.raises(ModelFormatError, match="outside its file"):
        Session(content.replace(canonical, entry))


def test_nested_graphs_and_attributes_are_seen(outside):
    tensor = onnx.TensorProto()
    tensor.CopyFrom(next(t for t in outside.graph.initializer if t.data_location == onnx.TensorProto.EXTERNAL))
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    body = onnx.helper.make_graph([constant], "body", [], [])
    del outside.graph.initializer[:]
    outside.graph.node.append(onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body))
    with pytest.raises(ModelFormatError, match="outside its file"):
        Session(outside.SerializeToString())


def test_a_label_called_location_is_no_reason(bundle_dir, tmp_path):
    shutil.copy(bundle_dir / "model.onnx", tmp_path)
    model = onnx.load(tmp_path / "model.onnx")
    model.metadata_props.add(key="labels", value='["location","other"]')
    Session(model.SerializeToString())
