"""Exported files against PyTorch and against ONNX's reference implementation."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import onnx
import onnx.reference
import pytest
import torch
from torch import nn

from mnist_edge import Classifier
from mnist_edge.bundle import checksum, reading
from mnist_edge.bundle.decoding import plain
from mnist_edge.bundle.layout import BY_DEFAULT, Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.contract import STANDARDIZED, TO_TENSOR, Contract, Normalization, Preprocessing
from mnist_edge.errors import DataFormatError, ParityError, UnsupportedFormatError
from mnist_edge.export import examples, forms, int8_dynamic, int8_static, onnx_graph, parity, pipeline
from mnist_edge.export.formats import EXPORTERS
from mnist_edge.export.graph import RawPixels, fold
from mnist_edge.training import checkpoint
from mnist_edge.training.models import CNN, SigmoidNN, SimpleNN, build
from tests.helpers import given, subset
from tests.make_bundle import CHOSEN, EXPECTED

# The tests load TorchScript files as users do, but torch deprecates torch.jit.
pytestmark = pytest.mark.filterwarnings("ignore:.torch.jit.*is deprecated:FutureWarning")


INT8 = (Format.INT8_DYNAMIC, Format.INT8_STATIC)


ARCHITECTURES = [
    pytest.param(Architecture.SIMPLE_NN, marks=pytest.mark.numeric),
    pytest.param(Architecture.SIGMOID_NN, marks=pytest.mark.numeric),
    Architecture.CNN_NANO,
    pytest.param(Architecture.CNN, marks=pytest.mark.numeric),
    pytest.param(Architecture.CNN_LARGE, marks=pytest.mark.long),
]
"""Three, which cover all kinds of layers, run under several instruction sets; `cnn-large` takes longest."""


@pytest.fixture(scope="session", params=ARCHITECTURES, ids=str)
def exported(request, bundle_of):
    """A bundle, its data and its manifest."""
    folder, data = bundle_of(request.param)
    return folder, data, reading.read_manifest(folder)


@pytest.fixture(params=BY_DEFAULT, ids=str)
def backend_and_tolerance(request, exported):
    """Every exported form as users run it, and its tolerance."""
    folder, _, _ = exported
    path = folder / request.param.file_name
    if request.param is Format.TORCHSCRIPT:
        script = torch.jit.load(path)
        return (lambda images: script(torch.tensor(images)[:, None]).detach().numpy()), parity.TORCHSCRIPT
    tolerance = parity.FLOAT32 if request.param is Format.ONNX else parity.INT8
    return Classifier(path).logits, tolerance


@pytest.mark.parametrize("batch", [1, 2, 7, 64, 300])
def test_logits_are_pytorchs(exported, backend_and_tolerance, batch):
    folder, data, _ = exported
    backend, tolerance = backend_and_tolerance
    trained = checkpoint.load(folder)
    images = data.test.images[:300]
    normalization = trained.contract.normalization
    pixels = (torch.tensor(images).float() / 255 - normalization.mean) / normalization.std
    with torch.inference_mode():
        expected = np.concatenate([trained.model(chunk[:, None]).numpy() for chunk in pixels.split(batch)])
    actual = np.concatenate([backend(images[start : start + batch]) for start in range(0, len(images), batch)])
    assert actual.dtype == np.float32
    largest, _ = tolerance.largest(expected.std())
    assert np.abs(actual - expected).max() <= largest
    # These images may account for all flips that the export's gate allows on the whole test set.
    assert (actual.argmax(1) != expected.argmax(1)).sum() <= (1 - tolerance.min_agreement) * len(data.test)


def test_onnxs_reference_implementation_agrees(exported):
    folder, data, _ = exported
    reference = onnx.reference.ReferenceEvaluator(onnx.load(folder / "model.onnx"))
    images = data.test.images[:20]
    (expected,) = reference.run(None, {"image": images[:, None]})
    np.testing.assert_allclose(Classifier(folder, format="onnx").logits(images), expected, atol=1e-4)


@pytest.mark.parametrize("form", INT8, ids=str)
def test_int8_answers_do_not_depend_on_the_batch(exported, form):
    folder, data, _ = exported
    classifier = Classifier(folder / form.file_name)
    together = classifier.logits(data.test.images)
    for size in (1, 2, 7):
        parts = [classifier.logits(data.test.images[start : start + size]) for start in range(0, 100, size)]
        np.testing.assert_array_equal(np.concatenate(parts)[:100], together[:100])


@pytest.mark.parametrize("form", INT8, ids=str)
def test_int8_weights_are_a_quarter_of_the_size(exported, form):
    folder, _, _ = exported
    whole, small = (
        sum(tensor.nbytes for tensor in onnx_graph.initializers(onnx.load(folder / file.file_name)).values())
        for file in (Format.ONNX, form)
    )
    assert 0.25 <= small / whole < 0.32  # includes the scales, which weigh more in small models


def onnx_metadata(path):
    return {entry.key: entry.value for entry in onnx.load(path).metadata_props}


def test_dequantized_weights_are_within_half_a_step(exported):
    folder, _, _ = exported
    exact = onnx_graph.initializers(onnx.load(folder / "model.onnx"))
    stored = onnx_graph.initializers(onnx.load(folder / Format.INT8_DYNAMIC.file_name))
    checked = 0
    for name, weight in exact.items():
        if weight.dtype == np.float32 and weight.ndim > 1:
            quantized, scale = stored[f"{name}_int8"], stored[f"{name}_scale"]
            if weight.ndim == 2:
                values = (quantized.astype(np.float64) - 128) * scale[:, :, None]
                values = values.reshape(len(weight), -1)[:, : weight.shape[1]]
                step = np.repeat(scale, int8_dynamic.BLOCK, axis=1)[:, : weight.shape[1]]
            else:
                values, step = quantized * scale.astype(np.float64), scale
            assert (np.abs(values - weight) <= step / 2 * 1.0001).all()
            checked += 1
    assert checked >= 2


def test_a_single_file_carries_no_trace_of_this_machine(exported):
    folder, _, _ = exported
    for form in (Format.ONNX, *INT8):
        content = (folder / form.file_name).read_bytes()
        for trace in (bytes(Path.cwd()), str(folder).encode(), b"stack_trace", b".py", b"site-packages"):
            assert trace not in content
        assert not any(tensor.external_data for tensor in onnx.load_from_string(content).graph.initializer)


def test_the_manifest_tells_what_was_measured(exported):
    folder, data, manifest = exported
    beside = {"manifest.json", "metrics.jsonl", EXPECTED}
    assert set(manifest.files) == {path.name for path in folder.iterdir()} - beside
    for name, file in manifest.files.items():
        content = (folder / name).read_bytes()
        assert (file.bytes, file.sha256) == (len(content), checksum.sha256(content))
    answers = Classifier(folder, format="onnx").logits(data.test.images).argmax(1)
    assert manifest.files["model.onnx"].parity.accuracy == (answers == data.test.labels).mean()
    assert manifest.files["model.onnx"].parity.batch_sizes == {
        str(size): CHOSEN if size != 128 else len(data.test) for size in (128, 1, 2, 7, 64, 300)
    }
    assert manifest.files["model.onnx"].parity.variants == ("optimized", "not optimized")


EXPORT = """
import os
import sys
from pathlib import Path
os.sched_setaffinity(0, [min(os.sched_getaffinity(0))])
from mnist_edge.bundle.layout import RUNNABLE
from mnist_edge.data import datasets
from mnist_edge.export import parity, pipeline
parity.CHOSEN = 32  # compared again is little, for it was proved before
pipeline.export(Path("bundle"), datasets.load(sys.argv[1]), RUNNABLE)
"""


def test_an_export_from_another_folder_by_other_threads_is_byte_identical(bundle_dir, small_idx, tmp_path):
    folder = tmp_path / "somewhere else" / "bundle"
    folder.mkdir(parents=True)
    for file in ("model.pth", "training.json"):
        (folder / file).write_bytes((bundle_dir / file).read_bytes())
    threads = {"OMP_NUM_THREADS": "3", "MNIST_EDGE_THREADS": "3"}
    subprocess.run(
        [sys.executable, "-c", EXPORT, small_idx], cwd=folder.parent, env={**os.environ, **threads}, check=True
    )
    digests = {path.name: checksum.sha256(path.read_bytes()) for path in folder.glob("*.onnx")}
    assert digests == {path.name: checksum.sha256(path.read_bytes()) for path in bundle_dir.glob("*.onnx")}
    assert len(digests) == 3


def test_some_formats_now_and_others_later(bundle_copy, small, cheaper):
    for path in bundle_copy.glob("m*.*"):
        if path.name != "model.pth":
            path.unlink()
    first = pipeline.export(bundle_copy, small, [Format.TORCHSCRIPT])
    assert set(first.files) == {"model.pth", "training.json", "model.torchscript"}
    second = pipeline.export(bundle_copy, small, [Format.ONNX])
    assert second == reading.read_manifest(bundle_copy)
    assert plain(second) == json.loads((bundle_copy / "manifest.json").read_text())
    assert set(second.files) == {*first.files, "model.onnx"}
    assert second.files["model.torchscript"] == first.files["model.torchscript"]
    (bundle_copy / "model.torchscript").write_bytes(b"altered")
    assert "model.torchscript" not in pipeline.export(bundle_copy, small, [Format.ONNX]).files


def test_every_format_has_a_module_and_a_file_name():
    assert len({form.file_name for form in Format}) == len(Format)
    for form in Format:
        exporter = EXPORTERS[form]
        assert isinstance(exporter.TOLERANCE, parity.Tolerance)
        assert callable(exporter.convert)
        assert callable(exporter.variants)
        assert callable(exporter.check_weights)


@pytest.mark.numeric
@pytest.mark.parametrize(
    "model", [SimpleNN(), SigmoidNN(), CNN(((16,), (16, 32), (32, 64)))], ids=lambda model: type(model).__name__
)
@pytest.mark.parametrize(
    "normalization", [STANDARDIZED, TO_TENSOR, Normalization(0.0, 0.3081), Normalization(-0.2, 3.0)], ids=str
)
def test_folding_changes_nothing_but_rounding(model, normalization):
    generator = torch.Generator().manual_seed(0)
    for module in model.modules():
        if isinstance(module, nn.BatchNorm2d):  # statistics and signs that a training can produce
            module.running_mean.normal_(generator=generator)
            module.running_var.uniform_(0.5, 2, generator=generator)
            module.weight.data.normal_(generator=generator)  # negative ones do not commute with max pooling
            module.bias.data.normal_(generator=generator)
    model.eval()
    images = torch.randint(0, 256, (50, 1, 28, 28), dtype=torch.uint8, generator=generator)
    with torch.inference_mode():
        expected = RawPixels(model, normalization)(images)
        folded = fold(model, normalization).eval()(images)
    torch.testing.assert_close(folded, expected, atol=2e-5 * expected.abs().max().item(), rtol=0)


@pytest.mark.parametrize("architecture", Architecture)
def test_no_normalisation_is_left_after_folding(architecture):
    folded = fold(build(architecture, 10), TO_TENSOR)
    assert not any(isinstance(module, nn.BatchNorm2d) for module in folded.modules())


def test_evaluation_of_every_form_is_the_same(exported):
    folder, data, manifest = exported
    results = {
        name: forms.evaluate(folder / name, data.labels, data.test)
        for name in ("model.pth", "model.torchscript", "model.onnx", *(form.file_name for form in INT8))
    }
    for name, result in results.items():
        assert np.sum(result.confusion) == result.total == len(data.test)
        assert np.trace(result.confusion) == result.correct
        recorded = manifest.pytorch if name == "model.pth" else manifest.files[name].parity
        assert result.accuracy == pytest.approx(recorded.accuracy, abs=0.002)
    assert results["model.onnx"].loss == pytest.approx(results["model.pth"].loss, rel=1e-4)


def test_what_is_evaluated_of_a_bundle(bundle_copy):
    recommended = reading.read_manifest(bundle_copy).recommended.file
    assert forms.file_of(bundle_copy) == bundle_copy / recommended
    assert forms.file_of(bundle_copy, "onnx") == bundle_copy / "model.onnx"
    (bundle_copy / "manifest.json").unlink()  # as before an export, or after a killed one
    assert forms.file_of(bundle_copy) == bundle_copy / "model.pth"


def test_evaluation_wants_the_same_labels(exported):
    folder, data, _ = exported
    for name in ("model.pth", "model.onnx"):
        with pytest.raises(DataFormatError, match="labels"):
            forms.evaluate(folder / name, ("a", "b"), data.test)


def test_other_data_than_the_training_had_is_refused(bundle_dir, small):
    fewer = subset(small, 10_000, 499)
    with pytest.raises(DataFormatError, match="test-images, test-labels differ"):
        pipeline.verify(bundle_dir, fewer)
    renamed = dataclasses.replace(small, labels=(*small.labels[:8], "9", "8"))
    with pytest.raises(DataFormatError, match="its labels"):
        pipeline.export(bundle_dir, renamed)


def test_int8_static_is_onnxs_own_arithmetic(exported):
    """Against ONNX's reference implementation, which runs operators one by one without fusion."""
    folder, data, _ = exported
    path = folder / Format.INT8_STATIC.file_name
    images = data.test.images[:20]
    model = onnx.load(path)
    model.opset_import[0].version = 19  # the reference needs 19; the operators used are the same in 18
    (expected,) = onnx.reference.ReferenceEvaluator(model).run(None, {"image": images[:, None]})
    # A value halfway between two bytes may round either way.
    np.testing.assert_allclose(Classifier(path).logits(images), expected, atol=0.02 * np.abs(expected).max())


def test_int8_static_cannot_saturate_without_vnni(exported):
    """vpmaddubsw adds two products of an unsigned and a signed byte in 16 bits, with saturation."""
    folder, _, _ = exported
    stored = onnx_graph.initializers(onnx.load(folder / Format.INT8_STATIC.file_name))
    weights = [
        array.astype(int) for name, array in stored.items() if array.dtype == np.int8 and name.endswith("/weight")
    ]
    assert len(weights) >= 2
    for array in weights:
        assert 2 * 255 * np.abs(array).max() < 2**15
        assert np.abs(array).max() == int8_static.WEIGHT_LIMIT  # the whole range is used


def test_int8_static_runs_in_integers_throughout(exported, tmp_path):
    """onnxruntime must fuse the float32 operators and the rounding around them into integer operators."""
    import onnxruntime

    folder, _, manifest = exported
    options = onnxruntime.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(folder / Format.INT8_STATIC.file_name, options, providers=["CPUExecutionProvider"])
    kinds = [node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node]
    assert not {"Conv", "Gemm", "Relu", "MaxPool"} & set(kinds)
    if manifest.provenance.architecture.startswith("cnn"):
        assert not {"QuantizeLinear", "DequantizeLinear", "Cast"} & set(kinds)


def test_scales_reach_as_far_as_the_extremes_do(bundle_dir, small):
    """Otherwise activations beyond those of the training images would be clipped."""
    trained = checkpoint.load(bundle_dir)
    chosen = examples.choose(trained, small)
    full, *noise = chosen.extremes[:, 0]
    assert (full == 255).all()
    assert len({image.tobytes() for image in noise}) == 64
    probes = parity.Reference(trained, subset(small, 10, 20).test).images[20:, 0]
    assert {image.tobytes() for image in noise}.isdisjoint(image.tobytes() for image in probes)

    graph = onnx_graph.build(trained)
    blank = np.zeros((2, 1, 28, 28), np.uint8)
    with torch.inference_mode():  # the activations of the first layer
        largest = trained.model.features[:4](torch.tensor(chosen.extremes) / 255).max().item()
    for extremes, is_reached in ((chosen.extremes, True), (blank, False)):
        stored = onnx_graph.initializers(int8_static.quantize(graph, blank, extremes))
        scales = [scale for name, scale in stored.items() if name.endswith("/scale")]
        assert any(np.isclose(255 * scale, largest, rtol=1e-3) for scale in scales) == is_reached


def test_activations_beyond_the_pixels_range_are_no_defect(small):
    """After a layer whose activations exceed 255, a bias has a coarser step than a weight."""
    model = SimpleNN().eval()
    with torch.no_grad():
        model.fc1.weight.mul_(1000)
        model.fc3.bias.mul_(1000)
    contract = Contract(small.labels, TO_TENSOR, Preprocessing.MNIST)
    trained = checkpoint.Trained(Architecture.SIMPLE_NN, contract, model, training={})
    images = small.train.images[:200, None]
    quantized = int8_static.quantize(onnx_graph.build(trained), images, images[:0])
    content = quantized.SerializeToString()
    int8_static.check_weights(content, "model", given(trained))
    stored = onnx_graph.initializers(onnx.load_from_string(content))
    assert max(array.max() for name, array in stored.items() if name.endswith("/scale")) > 1


def test_a_bias_that_is_not_the_trained_one_is_noticed(bundle_dir):
    model = onnx.load(bundle_dir / Format.INT8_STATIC.file_name)
    trained = checkpoint.load(bundle_dir)
    int8_static.check_weights(model.SerializeToString(), "model", given(trained))
    (bias,) = (tensor for tensor in model.graph.initializer if tensor.name == "features.0/bias")
    bias.CopyFrom(onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(bias) * np.float32(1.001), "features.0/bias"))
    with pytest.raises(ParityError, match="is not the trained one"):
        int8_static.check_weights(model.SerializeToString(), "model", given(trained))


def test_int8_static_knows_what_it_cannot_do():
    model = float32_graph_with("Tanh")
    with pytest.raises(UnsupportedFormatError, match="does not support this graph"):
        int8_static.quantize(model, *[np.zeros((2, 1, 28, 28), np.uint8)] * 2)


def float32_graph_with(kind):
    image = onnx.helper.make_tensor_value_info("image", onnx.TensorProto.UINT8, ["N", 1, 28, 28])
    logits = onnx.helper.make_tensor_value_info("logits", onnx.TensorProto.FLOAT, ["N", 1, 28, 28])
    nodes = [
        onnx.helper.make_node("Cast", ["image"], ["cast"], to=onnx.TensorProto.FLOAT),
        onnx.helper.make_node(kind, ["cast"], ["logits"]),
    ]
    graph = onnx.helper.make_graph(nodes, "graph", [image], [logits])
    return onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 18)], ir_version=10)
