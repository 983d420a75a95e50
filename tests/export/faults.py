"""Defects to plant into an export or a finished bundle, for the tests of the gates and to compare with other exporters.

Every defect of `InExport` takes a `pytest.MonkeyPatch`, which makes the conversion wrong until it is undone. The others
change files.
"""

import copy
import dataclasses
import json

import numpy as np
import onnx
import torch
from msgspec import structs
from onnx import numpy_helper, version_converter
from torch import nn

from mnist_edge.bundle import checksum
from mnist_edge.bundle.layout import Format
from mnist_edge.contract import CHECKSUM_KEY, STANDARDIZED
from mnist_edge.export import examples, graph, int8_dynamic, int8_static, metadata, onnx_graph, torchscript


class InExport:
    """Defects in the conversion itself."""

    @staticmethod
    def one_weight_changed(monkeypatch, factor=1.01):
        def wrong(model, normalization):
            folded = graph.fold(model, normalization)
            with torch.no_grad():
                weights = folded.model.classifier.weight.view(-1)
                weights[weights.abs().argmax()] *= factor
            return folded

        # The reference for the weight check stays correct: only the export is wrong.
        build = onnx_graph.build

        def build_wrong(trained):
            with monkeypatch.context() as patch:
                patch.setattr(onnx_graph, "fold", wrong)
                return build(trained)

        monkeypatch.setattr(onnx_graph, "build", build_wrong)

    @staticmethod
    def one_weight_negated(monkeypatch):
        InExport.one_weight_changed(monkeypatch, factor=-1)

    @staticmethod
    def customary_normalization(monkeypatch):
        monkeypatch.setattr(onnx_graph, "fold", lambda model, normalization: graph.fold(model, STANDARDIZED))

    @staticmethod
    def input_transposed(monkeypatch):
        def wrong(model, normalization):
            return graph.RawPixels(copy.deepcopy(model), normalization, transposed=True).eval()

        monkeypatch.setattr(onnx_graph, "fold", wrong)

    @staticmethod
    def older_opset(monkeypatch):
        real = onnx_graph.build
        monkeypatch.setattr(onnx_graph, "build", lambda trained: version_converter.convert_version(real(trained), 17))

    @staticmethod
    def eight_bit_weights(monkeypatch):
        real = int8_static.convert

        def wrong(examples):
            with monkeypatch.context() as patch:
                patch.setattr(int8_static, "WEIGHT_LIMIT", 127)
                return real(examples)

        monkeypatch.setattr(int8_static, "convert", wrong)

    @staticmethod
    def quantized_by(quantizer):
        return lambda monkeypatch: monkeypatch.setattr(int8_dynamic, "quantize", quantizer)

    @staticmethod
    def another_normalization(monkeypatch):
        def wrong(model, normalization):
            return graph.fold(model, structs.replace(normalization, std=4.0))

        monkeypatch.setattr(onnx_graph, "fold", wrong)

    @staticmethod
    def outputs_swapped(monkeypatch):
        def wrong(model, normalization):
            folded = graph.fold(model, normalization)
            with torch.no_grad():
                for tensor in (folded.model.classifier.weight, folded.model.classifier.bias):
                    tensor[[3, 5]] = tensor[[5, 3]]
            return folded

        monkeypatch.setattr(onnx_graph, "fold", wrong)

    @staticmethod
    def labels_swapped(monkeypatch):
        real = metadata.stamp

        def wrong(model, form, trained, *rest):
            contract = structs.replace(trained.contract, labels=swapped(trained.contract.labels))
            return real(model, form, dataclasses.replace(trained, contract=contract), *rest)

        monkeypatch.setattr(metadata, "stamp", wrong)

    @staticmethod
    def another_format_told(monkeypatch):
        real = metadata.stamp
        monkeypatch.setattr(metadata, "stamp", lambda model, form, *rest: real(model, Format.INT8_DYNAMIC, *rest))

    @staticmethod
    def dropout_in_training_mode(monkeypatch):
        def wrong(model, normalization):
            return with_dropout(graph.fold(model, normalization)).train()

        monkeypatch.setattr(onnx_graph, "fold", wrong)

    @staticmethod
    def _wrong_raw_pixels(monkeypatch, change):
        def wrong(trained):
            return graph.RawPixels(*change(copy.deepcopy(trained.model), trained.contract.normalization)).eval()

        convert = torchscript.convert

        def convert_wrong(given):
            with monkeypatch.context() as patch:
                patch.setattr(torchscript, "raw_pixels", wrong)
                return convert(given)

        monkeypatch.setattr(torchscript, "convert", convert_wrong)

    @staticmethod
    def another_normalization_of_torchscript(monkeypatch):
        InExport._wrong_raw_pixels(monkeypatch, lambda model, n: (model, structs.replace(n, std=4.0)))

    @staticmethod
    def one_weight_changed_in_torchscript(monkeypatch):
        def change(model, normalization):
            with torch.no_grad():
                model.classifier.weight.view(-1)[7] *= 1.01
            return model, normalization

        InExport._wrong_raw_pixels(monkeypatch, change)

    @staticmethod
    def dropout_in_int8(monkeypatch):
        real = onnx_graph.build

        def wrong(trained):
            model = real(trained)
            (last,) = [node for node in model.graph.node if node.op_type == "Gemm"]
            ratio, training = (
                numpy_helper.from_array(np.float32(0.5), "r"),
                numpy_helper.from_array(np.array(True), "t"),
            )
            model.graph.initializer.extend([ratio, training])
            dropout = onnx.helper.make_node("Dropout", [last.input[0], "r", "t"], ["dropped"])
            last.input[0] = "dropped"
            model.graph.node.insert(len(model.graph.node) - 1, dropout)
            return model

        monkeypatch.setattr(onnx_graph, "build", wrong)

    @staticmethod
    def wrong_golden_vectors(monkeypatch):
        real = examples.golden_vectors

        def wrong(trained, test):
            golden = real(trained, test)
            return structs.replace(golden, logits=np.roll(golden.logits, 1, axis=1))

        monkeypatch.setattr(examples, "golden_vectors", wrong)

    @staticmethod
    def batch_axis_fixed(monkeypatch):
        real = onnx_graph.build

        def wrong(trained):
            model = real(trained)
            model.graph.input[0].type.tensor_type.shape.dim[0].Clear()
            model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 2
            return model

        monkeypatch.setattr(onnx_graph, "build", wrong)


def edit_onnx(folder, name, change, *, update_manifest):
    """Change a file's graph or metadata and renew its checksum, as someone with our tools could."""
    path = folder / name
    model = onnx.load(path)
    change(model)
    content = checksum.with_checksum(with_unset_checksum(model))
    path.write_bytes(content)
    if update_manifest:
        manifest = json.loads((folder / "manifest.json").read_text())
        manifest["files"][name] |= {"sha256": checksum.sha256(content), "bytes": len(content)}
        (folder / "manifest.json").write_text(json.dumps(manifest))


def one_weight(model):
    for tensor in model.graph.initializer:
        if tensor.name.endswith("classifier.weight"):
            values = numpy_helper.to_array(tensor).copy()
            values.flat[3] *= 1.01
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def nan_weight(model):
    for tensor in model.graph.initializer:
        if tensor.name.endswith("classifier.bias"):
            values = numpy_helper.to_array(tensor).copy()
            values[0] = np.nan
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))


def swap_labels(model):
    for entry in model.metadata_props:
        entry.value = entry.value.replace('"3","4","5"', '"5","4","3"')


def with_dropout(module):
    """A module of ours that drops half of the features, as long as it is in training mode."""
    module.model.classifier = nn.Sequential(nn.Dropout(0.5), module.model.classifier)
    return module


def negate_one_weight(model):
    """The largest of the last layer, as `InExport.one_weight_negated` does."""
    (weight,) = [tensor for tensor in model.graph.initializer if tensor.name.endswith("classifier.weight")]
    values = numpy_helper.to_array(weight).copy()
    values.flat[np.abs(values).argmax()] *= -1
    weight.CopyFrom(numpy_helper.from_array(values, weight.name))


def swapped(labels):
    """The labels with those of three and five in each other's place."""
    changed = list(labels)
    changed[3], changed[5] = changed[5], changed[3]
    return tuple(changed)


def truncate(path):
    path.write_bytes(path.read_bytes()[:-100])


def flip_bit_of_weight(path):
    """Flip one bit, in the exponent of the last layer's largest weight: it becomes 16 times smaller or larger."""
    content = bytearray(path.read_bytes())
    (weight,) = [tensor for tensor in onnx.load(path).graph.initializer if tensor.name.endswith("classifier.weight")]
    largest = int(np.abs(numpy_helper.to_array(weight)).argmax())
    content[content.index(weight.raw_data) + 4 * largest + 3] ^= 0x02
    path.write_bytes(content)


def lose_external_data(path):
    """Move the weights to a file beside it, renew the checksum, and lose the other file, as a copy may."""
    model = onnx.load(path)
    onnx.save(model, path, save_as_external_data=True, location="weights", size_threshold=0)
    path.with_name("weights").unlink()
    path.write_bytes(checksum.with_checksum(with_unset_checksum(onnx.load(path, load_external_data=False))))


def with_unset_checksum(model):
    for entry in model.metadata_props:
        if entry.key == CHECKSUM_KEY:
            entry.value = checksum.UNSET_CHECKSUM
    return model.SerializeToString(deterministic=True)


def flip_byte(path):
    content = bytearray(path.read_bytes())
    content[len(content) // 3] ^= 1
    path.write_bytes(bytes(content))


def perturb(folder, change):
    state_dict = torch.load(folder / "model.pth")
    change(state_dict["classifier.weight"].view(-1))
    torch.save(state_dict, folder / "model.pth")


def set_nan(weights):
    weights[0] = float("nan")


def scale_one(weights):
    weights[0] *= 1.01
