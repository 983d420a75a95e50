"""A model with weights in another file is refused even with a valid checksum: onnxruntime would load them."""

import numpy as np
import onnx
import pytest
from onnx.external_data_helper import set_external_data
from PIL import Image

from mnist_edge.bundle import checksum
from mnist_edge.contract import INPUT_NAME
from mnist_edge.errors import ModelFormatError
from mnist_edge.runtime.model import load
from mnist_edge.runtime.session import ort
from tests.forged import sealed, sealed_bytes
from tests.helpers import fails, run_cli

WEIGHTS = "weights.bin"


@pytest.fixture
def outside(bundle_dir, tmp_path, monkeypatch):
    """A model that keeps its largest tensor in a file in the working directory."""
    monkeypatch.chdir(tmp_path)
    model = onnx.load(bundle_dir / "model.onnx")
    tensor = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    (tmp_path / WEIGHTS).write_bytes(tensor.raw_data)
    set_external_data(tensor, WEIGHTS)
    tensor.ClearField("raw_data")
    return model


def test_onnxruntime_alone_would_read_the_other_file(outside, expected):
    session = ort.InferenceSession(sealed(outside), providers=["CPUExecutionProvider"])
    logits = session.run(None, {INPUT_NAME: expected["images"][:, None]})[0]
    assert np.abs(logits - expected["logits"]).max() < 1e-4


def test_the_runtime_refuses(outside):
    content = sealed(outside)
    checksum.check_checksum(content, "model.onnx")
    with pytest.raises(ModelFormatError, match="weights in another file"):
        load(content, "model.onnx")


def test_the_command_line_refuses(outside, tmp_path, expected):
    (tmp_path / "model.onnx").write_bytes(sealed(outside))
    Image.fromarray(expected["images"][0]).save(tmp_path / "0.png")
    fails(run_cli("predict", "0.png", "--model", "model.onnx", cwd=tmp_path), 4, "weights in another file")


def field(number: int, payload: bytes, padding: int = 0) -> bytes:
    """A length-delimited protobuf field, its length padded with needless zero bytes."""
    length, rest = bytearray(), len(payload)
    while rest > 0x7F:
        length.append(rest & 0x7F | 0x80)
        rest >>= 7
    length += bytes([rest | 0x80, *[0x80] * (padding - 1), 0]) if padding else bytes([rest])
    return bytes([number << 3 | 2]) + length + payload


@pytest.mark.parametrize("padding", [0, 1, 3])
def test_a_needlessly_long_length_does_not_hide_the_key(outside, padding):
    tensor = next(tensor for tensor in outside.graph.initializer if tensor.external_data)
    entry = field(1, b"location", padding) + field(2, WEIGHTS.encode())
    del tensor.external_data[:]
    written = tensor.SerializeToString() + field(13, entry)
    outside.graph.initializer.remove(tensor)
    graph = outside.graph.SerializeToString() + field(5, written)
    outside.ClearField("graph")
    content = outside.SerializeToString() + field(7, graph)

    ort.InferenceSession(content, providers=["CPUExecutionProvider"])  # loads it, including the other file
    with pytest.raises(ModelFormatError, match=r"weights in another file|longer than it needs to be"):
        load(sealed_bytes(content), "model.onnx")


def test_tensors_in_attributes_and_nested_graphs_are_refused(outside):
    tensor = next(tensor for tensor in outside.graph.initializer if tensor.external_data)
    constant = onnx.helper.make_node("Constant", [], ["c"], value=tensor)
    body = onnx.helper.make_graph([constant], "body", [], [])
    outside.graph.initializer.remove(tensor)
    branching = onnx.helper.make_node("If", ["x"], ["y"], then_branch=body, else_branch=body)
    for node, words in ((constant, "an attribute that is a tensor"), (branching, "a graph inside a node")):
        del outside.graph.node[:]
        outside.graph.node.append(node)
        with pytest.raises(ModelFormatError, match=words):
            load(sealed(outside), "model.onnx")


def test_a_label_called_location_is_no_reason(bundle_dir):
    model = onnx.load(bundle_dir / "model.onnx")
    model.metadata_props.add(key="labels", value='["location","other"]')
    load(sealed(model), "model.onnx")
