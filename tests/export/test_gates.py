"""Every gate closes: the tests break what it guards, and export or verify must report that and change nothing."""

import dataclasses
import json
import re

import numpy as np
import onnx
import pytest
import torch
from msgspec import structs
from onnx import numpy_helper

from mnist_edge.bundle.layout import BY_DEFAULT, Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Parity
from mnist_edge.contract import FORMAT_KEY, GOLDEN_KEY, PROVENANCE_KEY
from mnist_edge.errors import AlteredModelError, MnistEdgeError, ModelError, ModelFormatError, ParityError
from mnist_edge.export import (
    graph,
    int8_dynamic,
    int8_static,
    parity,
    pipeline,
    proof,
    torchscript,
)
from mnist_edge.export import onnx as float32
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.training import checkpoint
from mnist_edge.training.models import normalize
from tests.export.faults import (
    InExport,
    edit_onnx,
    flip_byte,
    nan_weight,
    one_weight,
    perturb,
    scale_one,
    set_nan,
    swap_labels,
)
from tests.helpers import cli_in_process, fails, given, keep_only, long_after, quick_recipe, run_cli, subset, train


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


@pytest.mark.parametrize(
    ("defect", "form", "words"),
    [
        (InExport.one_weight_changed, Format.ONNX, "max |Δlogit|"),
        (InExport.one_weight_changed, Format.INT8_DYNAMIC, "is not the trained one"),
        (InExport.one_weight_changed, Format.INT8_STATIC, "is not the trained one"),
        (InExport.another_normalization, Format.ONNX, "max |Δlogit|"),
        (InExport.another_normalization, Format.INT8_DYNAMIC, "images answered differently"),
        (InExport.another_normalization, Format.INT8_STATIC, "images answered differently"),
        (InExport.outputs_swapped, Format.ONNX, "images answered differently"),
        (InExport.outputs_swapped, Format.INT8_DYNAMIC, "points below PyTorch's"),
        (InExport.outputs_swapped, Format.INT8_STATIC, "points below PyTorch's"),
        (InExport.labels_swapped, Format.ONNX, "its contract is not the training's"),
        (InExport.another_format_told, Format.INT8_STATIC, "its metadata say int8-dynamic, not int8-static"),
        (InExport.dropout_in_training_mode, Format.ONNX, "('Dropout'): no operator of ours"),
        (InExport.another_normalization_of_torchscript, Format.TORCHSCRIPT, "max |Δlogit|"),
        (InExport.one_weight_changed_in_torchscript, Format.TORCHSCRIPT, "max |Δlogit|"),
        (InExport.dropout_in_int8, Format.INT8_DYNAMIC, "('Dropout'): no operator of ours"),
        (InExport.input_transposed, Format.ONNX, "images answered differently"),
        (InExport.older_opset, Format.ONNX, "refuse it (opset 17, not 18)"),
        (InExport.older_opset, Format.INT8_STATIC, "refuse it (opset 17, not 18)"),
        (InExport.eight_bit_weights, Format.INT8_STATIC, "is not the trained one, quantized"),
        (InExport.wrong_golden_vectors, Format.ONNX, "on this machine its logits are"),
        (InExport.batch_axis_fixed, Format.ONNX, "takes 'image' [2, 1, 28, 28]"),
    ],
)
@pytest.mark.filterwarnings("ignore:.*in training mode.*")  # torch warns of the planted dropout
def test_a_defect_in_the_conversion_stops_the_export(bundle_copy, small, monkeypatch, defect, form, words, cheaper):
    before = snapshot(bundle_copy)
    defect(monkeypatch)
    with pytest.raises(MnistEdgeError) as caught:
        pipeline.export(bundle_copy, small, [form])
    assert words in str(caught.value)
    assert form.file_name in str(caught.value)
    assert snapshot(bundle_copy) == before


def test_nothing_is_written_where_nothing_was(bundle_copy, small, monkeypatch, cheaper):
    for name in set(snapshot(bundle_copy)) - {"model.pth", "training.json"}:
        (bundle_copy / name).unlink()
    InExport.another_normalization(monkeypatch)
    with pytest.raises(ParityError, match=r"model\.onnx: .*; .*model\.int8-dynamic\.onnx: "):
        pipeline.export(bundle_copy, small)  # TorchScript is right, but an export is all or nothing
    assert set(snapshot(bundle_copy)) == {"model.pth", "training.json"}


def test_a_torchscript_of_other_weights_is_refused(bundle_dir, small, monkeypatch):
    trained = checkpoint.load(bundle_dir)
    content = (bundle_dir / "model.torchscript").read_bytes()
    torchscript.check_weights(content, "model.torchscript", given(trained))
    with torch.no_grad():
        trained.model.features[0].weight.view(-1)[0] *= 1.01
    with pytest.raises(ParityError, match=r"features\.0\.weight is not the trained one"):
        torchscript.check_weights(content, "model.torchscript", given(trained))


def test_a_weight_that_hardly_matters_is_still_missed(bundle_dir):
    """Changing the smallest weight by 1 % moves no logit measurably, but the weight check sees it."""
    trained = checkpoint.load(bundle_dir)
    content = (bundle_dir / "model.onnx").read_bytes()
    float32.check_weights(content, "model.onnx", given(trained))
    model = onnx.load_from_string(content)
    for tensor in model.graph.initializer:
        if tensor.name.endswith("features.4.weight"):
            values = numpy_helper.to_array(tensor).copy()
            values.flat[np.abs(values).argmin()] *= 1.01
            tensor.CopyFrom(numpy_helper.from_array(values, tensor.name))
    with pytest.raises(ParityError, match=r"features\.4\.weight is not the trained one"):
        float32.check_weights(model.SerializeToString(), "model.onnx", given(trained))


@pytest.mark.numeric
def test_a_dead_pixel_of_mnist_is_seen_through_noise(small, tmp_path):
    """No test image has ink in the corner, so only the noise probes reveal its wrong weights."""
    data = subset(small, 2000, 200)
    train(data, Architecture.SIGMOID_NN, quick_recipe(Architecture.SIGMOID_NN), tmp_path)
    trained = checkpoint.load(tmp_path)
    reference = parity.Reference(trained, data.test)
    with torch.no_grad():
        trained.model.hidden.weight[:, 0] += 1
    run = parity.run_module(graph.RawPixels(trained.model, trained.contract.normalization))
    found, _ = parity.compare(reference, {"wrong corner": run}, "file")
    assert found.max_abs_diff < 1e-6
    with pytest.raises(ParityError, match="on noise"):
        parity.require_within(found, parity.TORCHSCRIPT, "file")


GOOD = Parity(
    max_abs_diff=0.0,
    max_abs_diff_on_noise=0.0,
    flips=0,
    non_finite=0,
    accuracy=0.99,
    accuracy_drop=0.0,
    logit_std=2.0,
    images=1000,
    agreement=1.0,
    batch_sizes={"1": 1000},
    variants=("only",),
)


@pytest.mark.parametrize(
    ("tolerance", "change", "words"),
    [
        (parity.FLOAT32, {"max_abs_diff": 1.01e-4}, "max |Δlogit| 0.0001, allowed 0.0001"),
        (parity.FLOAT32, {"max_abs_diff": float("nan")}, "max |Δlogit| nan"),
        (parity.FLOAT32, {"max_abs_diff_on_noise": 1.0}, "on noise"),
        (parity.FLOAT32, {"flips": 1}, "1 of 1000 images answered differently, allowed 0"),
        (parity.TORCHSCRIPT, {"max_abs_diff": 1.1e-5}, "allowed 1e-05"),
        (parity.INT8, {"flips": 4}, "4 of 1000 images answered differently, allowed 3"),
        (parity.INT8, {"accuracy_drop": 0.003}, "0.30 points below PyTorch's, allowed 0.2"),
        (parity.INT8, {"non_finite": 1}, "1 logits are NaN or infinite"),
        (parity.INT8, {"max_abs_diff": float("nan")}, "max |Δlogit| nan"),
        (parity.INT8, {"max_abs_diff": 0.51}, "max |Δlogit| 0.51, allowed 0.5"),
        (parity.INT8, {"max_abs_diff": 1e6}, "max |Δlogit| 1e+06, allowed 0.5"),
        (parity.INT8, {"max_abs_diff_on_noise": 1.01}, "max |Δlogit| on noise 1, allowed 1"),
        (parity.INT8, {"max_abs_diff_on_noise": 1e9}, "max |Δlogit| on noise 1e+09, allowed 1"),
    ],
)
def test_each_tolerance_has_an_edge(tolerance, change, words):
    parity.require_within(GOOD, tolerance, "file")
    with pytest.raises(ParityError) as caught:
        parity.require_within(structs.replace(GOOD, **change), tolerance, "file")
    assert words in str(caught.value)


def test_the_edges_are_where_the_design_put_them():
    assert parity.BATCH_SIZES == (1, 2, 7, 64, 300)
    assert max(parity.BATCH_SIZES) > CHUNK  # some callers use larger batches than a chunk
    assert dataclasses.astuple(parity.TORCHSCRIPT) == (1e-5, 1.0, 0.0, 0.0, 0.0)
    assert dataclasses.astuple(parity.FLOAT32) == (1e-4, 1.0, 0.0, 0.0, 0.0)
    assert dataclasses.astuple(parity.INT8) == (1e-4, 0.997, 0.002, 0.25, 0.5)
    edge = {"flips": 3, "accuracy_drop": 0.002, "max_abs_diff": 0.5, "max_abs_diff_on_noise": 1.0}
    parity.require_within(structs.replace(GOOD, **edge), parity.INT8, "file")


@pytest.fixture(scope="module")
def reference(bundle_dir, mnist):
    return parity.Reference(checkpoint.load(bundle_dir), subset(mnist, 10, 2000).test)


def run_of(bundle_dir):
    trained = checkpoint.load(bundle_dir)
    return parity.run_module(graph.RawPixels(trained.model, trained.contract.normalization))


def test_every_size_has_its_images_and_the_closest_decisions_are_among_them(bundle_dir, mnist, reference):
    sizes, run = [], run_of(bundle_dir)
    found, logits = parity.compare(
        reference, {"watched": lambda images: (sizes.append(len(images)), run(images))[1]}, "file"
    )
    assert found.batch_sizes == {str(CHUNK): 2000} | {str(size): 512 for size in parity.BATCH_SIZES}
    probes = len(reference.images) - 2000
    assert sizes.count(1) == 512 + probes
    assert max(sizes) == 300
    assert sum(sizes) == 2000 + probes + len(parity.BATCH_SIZES) * (512 + probes)
    trained = checkpoint.load(bundle_dir)
    with torch.inference_mode():
        pixels = torch.tensor(mnist.test.images[:2000, None]).float()
        expected = trained.model(normalize(pixels, trained.contract.normalization)).numpy()
    np.testing.assert_allclose(logits, expected, atol=1e-4)
    margin = np.diff(np.sort(expected, axis=1)[:, -2:], axis=1)[:, 0]
    for size in parity.BATCH_SIZES:
        compared = reference.compared[size]
        assert set(range(2000, 2000 + probes)) <= set(compared)
        assert set(np.argsort(margin)[:200]) <= set(compared)
        assert len(np.unique(compared)) == 512 + probes
        others = compared[256:512]
        assert np.diff(np.sort(others)).max() < 100  # spread over the test set


@pytest.mark.parametrize("size", long_after(2, [CHUNK, *parity.BATCH_SIZES]))
def test_what_is_wrong_at_one_size_only_is_seen(bundle_dir, reference, size):
    whole = run_of(bundle_dir)

    def wrong(images):
        return whole(images) + (np.float32(0.5) if len(images) == size else 0)

    found, _ = parity.compare(reference, {"wrong": wrong}, "file")
    assert found.max_abs_diff == pytest.approx(0.5, abs=1e-3)
    assert found.flips == 0
    with pytest.raises(ParityError, match=r"max \|Δlogit\| 0.5"):
        parity.require_within(found, parity.FLOAT32, "file")


def test_what_is_compared_in_large_batches_only_counts_at_every_size(bundle_dir, reference):
    """One answer flips when its image is alone; another, of an image never run alone, flips in large batches."""
    whole = run_of(bundle_dir)
    beside = np.setdiff1d(np.arange(2000), reference.compared[1])[0]
    alone, among_many = (reference.images[index] for index in (reference.compared[1][0], beside))

    def wrong(images):
        logits = whole(images)
        for image, row in zip(images, logits, strict=True):
            if np.array_equal(image, among_many) or (len(images) == 1 and np.array_equal(image, alone)):
                row[:] = -row
        return logits

    found, _ = parity.compare(reference, {"wrong": wrong}, "file")
    assert found.flips == 2


@pytest.mark.parametrize(
    ("where", "off", "words"), [("test", 1e6, "max |Δlogit| 1e+06"), ("noise", 1e9, "on noise 1e+09")]
)
def test_int8_logits_that_are_far_off_are_noticed_though_every_answer_is_right(
    bundle_dir, reference, where, off, words
):
    whole = run_of(bundle_dir)
    probe = reference.images[2000:].tobytes()

    def wrong(images):
        logits = whole(images).astype(np.float64)
        for image, row in zip(images, logits, strict=True):
            if (image.tobytes() in probe) == (where == "noise"):
                row[row.argmax()] += off
        return logits.astype(np.float32)

    found, _ = parity.compare(reference, {"wrong": wrong}, "file")
    assert found.flips == 0
    with pytest.raises(ParityError) as caught:
        parity.require_within(found, parity.INT8, "file")
    assert words in str(caught.value)


@pytest.mark.parametrize("wrong", [lambda x: x.astype(np.float64), lambda x: x[:, :-1], lambda x: x[:, None]])
def test_types_and_shapes_come_before_values(bundle_dir, small, wrong):
    trained = checkpoint.load(bundle_dir)
    reference = parity.Reference(trained, subset(small, 10, 20).test)
    run = parity.run_module(graph.RawPixels(trained.model, trained.contract.normalization))
    with pytest.raises(ParityError, match="instead of float32"):
        parity.compare(reference, {"wrong": lambda images: wrong(run(images))}, "file")


@pytest.mark.parametrize(
    ("module", "values", "scale", "zero"),
    [
        (int8_static, "features.0/weight", "features.0/weight_scale", 0),
        (int8_static, "classifier/weight", "classifier/weight_scale", 0),
        (int8_static, "classifier/bias", "classifier/bias_scale", 0),
        (int8_dynamic, "features.0.weight_int8", "features.0.weight_scale", 0),
        (int8_dynamic, "classifier.weight_int8", "classifier.weight_scale", int8_dynamic.ZERO_POINT),
    ],
)
def test_steps_as_coarse_as_you_like_are_no_excuse(bundle_dir, module, values, scale, zero):
    """Every weight is zero, yet within half a step of the trained one."""
    trained = checkpoint.load(bundle_dir)
    name = f"model.{module.__name__.rpartition('.')[2].replace('_', '-')}.onnx"
    model = onnx.load(bundle_dir / name)
    module.check_weights(model.SerializeToString(), name, given(trained))
    tensors = {tensor.name: tensor for tensor in model.graph.initializer}
    for key, change in ((values, lambda old: old * 0 + zero), (scale, lambda old: old * 1e6)):
        old = numpy_helper.to_array(tensors[key])
        tensors[key].CopyFrom(numpy_helper.from_array(change(old).astype(old.dtype), tensors[key].name))
    with pytest.raises(ParityError, match="is not the trained one, quantized"):
        module.check_weights(model.SerializeToString(), name, given(trained))


def swap_manifest_labels(folder):
    manifest = json.loads((folder / "manifest.json").read_text())
    labels = manifest["contract"]["labels"]
    labels[0], labels[1] = labels[1], labels[0]
    (folder / "manifest.json").write_text(json.dumps(manifest))


def edit_manifest(folder, change):
    manifest = json.loads((folder / "manifest.json").read_text())
    change(manifest)
    (folder / "manifest.json").write_text(json.dumps(manifest))


def metadata_replaced(key, old, new):
    def change(model):
        for entry in model.metadata_props:
            if entry.key == key:
                assert old in entry.value
                entry.value = entry.value.replace(old, new)

    return change


def loose_golden_vectors(model):
    for entry in model.metadata_props:
        if entry.key == GOLDEN_KEY:
            entry.value = json.dumps(json.loads(entry.value) | {"tolerance": 1e9})


def _better(manifest):
    return manifest["files"]["model.onnx"]["parity"]["accuracy"] + 0.005  # five of the test images


PLANTED = {
    "missing manifest": (lambda f: (f / "manifest.json").unlink(), 4, "manifest.json: no such file"),
    "manifest is no JSON": (lambda f: (f / "manifest.json").write_text("{"), 4, "not JSON"),
    "flipped byte": (lambda f: flip_byte(f / "model.onnx"), 4, "model.onnx: altered since its export"),
    "truncated int8": (
        lambda f: (f / "model.int8-dynamic.onnx").write_bytes((f / "model.int8-dynamic.onnx").read_bytes()[:-100]),
        4,
        "model.int8-dynamic.onnx: altered",
    ),
    "missing file": (lambda f: (f / "model.torchscript").unlink(), 4, "model.torchscript: no such file"),
    "flipped byte in TorchScript": (lambda f: flip_byte(f / "model.torchscript"), 4, "model.torchscript: altered"),
    "flipped byte in model.pth": (lambda f: flip_byte(f / "model.pth"), 4, "model.pth: altered"),
    "labels swapped in the manifest": (swap_manifest_labels, 4, "labels or normalisation"),
    "one weight": (lambda f: edit_onnx(f, "model.onnx", one_weight, update_manifest=False), 4, "altered"),
    "one weight, digests renewed": (
        lambda f: edit_onnx(f, "model.onnx", one_weight, update_manifest=True),
        1,
        "model.onnx: does not answer as PyTorch does: max |Δlogit|",
    ),
    "NaN weight, digests renewed": (
        lambda f: edit_onnx(f, "model.onnx", nan_weight, update_manifest=True),
        1,
        "logits are NaN or infinite",
    ),
    "provenance of another seed in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["provenance"].update(seed=99)),
        4,
        "its provenance (seed) is not the training's",
    ),
    "a better accuracy in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["pytorch"].update(accuracy=0.9999)),
        4,
        "PyTorch's accuracy is recorded as 0.9999",
    ),
    "a better accuracy of a file in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.onnx"]["parity"].update(accuracy=0.9999)),
        4,
        "model.onnx's accuracy is recorded as 0.9999",
    ),
    "a slightly better accuracy of a file in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.onnx"]["parity"].update(accuracy=_better(m))),
        4,
        "model.onnx's accuracy is recorded as",
    ),
    "another agreement of a file in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.onnx"]["parity"].update(agreement=0.9)),
        4,
        "model.onnx's agreement is recorded as 0.9, measured 1",
    ),
    "a difference beyond its limit in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.onnx"]["parity"].update(max_abs_diff=2e-4)),
        4,
        "model.onnx's max_abs_diff is recorded as 0.0002, measured",
    ),
    "a smaller difference than measured in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.int8-static.onnx"]["parity"].update(max_abs_diff=0.0)),
        4,
        "model.int8-static.onnx's max_abs_diff is recorded as 0, measured",
    ),
    "other flips in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.onnx"]["parity"].update(flips=7)),
        4,
        "model.onnx's flips is recorded as 7, measured 0",
    ),
    "another size in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"]["model.onnx"].update(bytes=1)),
        4,
        "model.onnx's bytes is recorded as 1, measured",
    ),
    "a file that the manifest does not list": (
        lambda f: edit_manifest(f, lambda m: m["files"].pop("model.int8-static.onnx")),
        4,
        "model.int8-static.onnx: not listed in the manifest",
    ),
    "an entry that is none in the manifest": (
        lambda f: edit_manifest(f, lambda m: m["files"].update({"model.onnx": None})),
        4,
        "manifest.json: malformed (Expected `object`, got `null` - at `$.files[...]`)",
    ),
    "provenance in the file, digests renewed": (
        lambda f: edit_onnx(
            f, "model.onnx", metadata_replaced(PROVENANCE_KEY, '"seed":1', '"seed":7'), update_manifest=True
        ),
        4,
        "its provenance (seed) is not the training's",
    ),
    "golden vectors that allow anything, digests renewed": (
        lambda f: edit_onnx(f, "model.onnx", loose_golden_vectors, update_manifest=True),
        1,
        "its golden vectors allow 1e+09",
    ),
    "another format in the file, digests renewed": (
        lambda f: edit_onnx(
            f, "model.onnx", metadata_replaced(FORMAT_KEY, "onnx", "int8-static"), update_manifest=True
        ),
        4,
        "model.onnx: its metadata say int8-static, not onnx",
    ),
    "another opset, digests renewed": (
        lambda f: edit_onnx(
            f, "model.onnx", lambda model: setattr(model.opset_import[0], "version", 17), update_manifest=True
        ),
        4,
        "model.onnx: is for opset 17, not 18",
    ),
    "labels swapped, digests renewed": (
        lambda f: edit_onnx(f, "model.onnx", swap_labels, update_manifest=True),
        4,
        "its contract is not the training's",
    ),
}


@pytest.mark.parametrize(("plant", "code", "words"), PLANTED.values(), ids=PLANTED)
def test_verify_finds_what_was_planted(bundle_copy, small_idx, plant, code, words, cheaper):
    keep_only(bundle_copy, "model.onnx", *[form.file_name for form in Format if form.file_name in words])
    plant(bundle_copy)
    before = snapshot(bundle_copy)
    fails(cli_in_process("verify", bundle_copy, "--data", small_idx), code, words)
    assert snapshot(bundle_copy) == before


def test_verify_in_a_process_of_its_own(bundle_copy, small_idx):
    keep_only(bundle_copy, "model.onnx")
    flip_byte(bundle_copy / "model.onnx")
    fails(run_cli("verify", bundle_copy, "--data", small_idx), 4, "model.onnx: altered since its export")


def test_verify_judges_the_other_files_all_the_same(bundle_copy, small, cheaper):
    flip_byte(bundle_copy / "model.onnx")
    edit_onnx(bundle_copy, "model.int8-dynamic.onnx", swap_labels, update_manifest=True)
    outcomes = {outcome.format: outcome for outcome in pipeline.verify(bundle_copy, small)}
    assert outcomes[Format.TORCHSCRIPT].error is None
    assert isinstance(outcomes[Format.ONNX].error, AlteredModelError)
    assert isinstance(outcomes[Format.INT8_DYNAMIC].error, ModelFormatError)


def test_several_failures_are_as_grave_as_the_gravest(bundle_copy, small, monkeypatch, cheaper):
    """A file with wrong labels is a bad model, even if another one merely misses its tolerance."""
    before = snapshot(bundle_copy)
    InExport.labels_swapped(monkeypatch)
    InExport.another_normalization_of_torchscript(monkeypatch)
    with pytest.raises(ModelError) as caught:
        pipeline.export(bundle_copy, small, [Format.TORCHSCRIPT, Format.ONNX])
    assert re.search(r"model\.torchscript: does not answer .*; .*model\.onnx: its contract is not", str(caught.value))
    assert snapshot(bundle_copy) == before


def test_what_cannot_be_converted_does_not_hide_what_can(bundle_copy, small, monkeypatch, cheaper):
    def refuse(examples):
        raise ModelFormatError("int8-dynamic does not support Tanh")

    monkeypatch.setattr(int8_dynamic, "convert", refuse)
    outcomes = []
    with pytest.raises(ModelFormatError, match="does not support Tanh"):
        pipeline.export(bundle_copy, small, [Format.INT8_DYNAMIC, Format.INT8_STATIC], outcomes.append)
    assert [type(outcome.error) for outcome in outcomes] == [ModelFormatError, type(None)]


def test_every_step_is_told_before_and_after(bundle_copy, small, monkeypatch, cheaper):
    told = []
    real = {"convert": torchscript.convert, "compare": parity.compare, "Reference": parity.Reference}

    def noting(name):
        def note(*arguments):
            told.append(name)
            return real[name](*arguments)

        return note

    monkeypatch.setattr(torchscript, "convert", noting("convert"))
    monkeypatch.setattr(parity, "compare", noting("compare"))
    monkeypatch.setattr(proof, "Reference", noting("Reference"))
    pipeline.export(bundle_copy, small, [Format.TORCHSCRIPT], progress=told.append)
    names = [step if isinstance(step, str) else (step.file, step.name, step.seconds is not None) for step in told]
    assert names == [
        ("model.pth", "PyTorch's answers", False),
        "Reference",
        ("model.pth", "PyTorch's answers", True),
        ("model.torchscript", "conversion", False),
        "convert",
        ("model.torchscript", "conversion", True),
        ("model.torchscript", "parity", False),
        "compare",
        ("model.torchscript", "parity", True),
        ("model.torchscript", "calibration", False),
        ("model.torchscript", "calibration", True),
        ("manifest.json", "latencies", False),
        ("manifest.json", "latencies", True),
    ]
    assert all(step.seconds is None or step.seconds >= 0 for step in told if not isinstance(step, str))
    seen = []
    pipeline.verify(bundle_copy, small, progress=seen.append)
    assert {step.file for step in seen} == {"model.pth", *(form.file_name for form in BY_DEFAULT)}
    assert [step.seconds is None for step in seen] == [True, False] * (len(seen) // 2)


@pytest.mark.parametrize(
    ("change", "words"),
    [(set_nan, "classifier.weight holds NaN"), (scale_one, "altered since its training")],
)
def test_export_refuses_weights_that_were_not_trained(bundle_copy, small_idx, change, words):
    perturb(bundle_copy, change)
    before = snapshot(bundle_copy)
    fails(cli_in_process("export", bundle_copy, "--data", small_idx), 4, words)
    assert snapshot(bundle_copy) == before


def test_an_interrupted_export_leaves_what_was_there(bundle_copy, small, monkeypatch, cheaper):
    before = snapshot(bundle_copy)

    def interrupt(*arguments):
        raise KeyboardInterrupt

    monkeypatch.setattr(int8_dynamic, "check_weights", interrupt)
    with pytest.raises(KeyboardInterrupt):
        pipeline.export(bundle_copy, small)
    assert snapshot(bundle_copy) == before


def test_a_training_that_goes_on_meanwhile_is_noticed(bundle_copy, small, cheaper):
    def train_on(outcome):
        record = json.loads((bundle_copy / "training.json").read_text())
        (bundle_copy / "training.json").write_text(json.dumps(record))

    before = (bundle_copy / "manifest.json").read_bytes()
    with pytest.raises(AlteredModelError, match="changed during the export"):
        pipeline.export(bundle_copy, small, [Format.ONNX], train_on)
    assert (bundle_copy / "manifest.json").read_bytes() == before


def test_of_a_few_test_images_one_may_be_answered_otherwise_by_int8():
    found = structs.replace(GOOD, max_abs_diff=0.1, flips=1, accuracy=0.97, accuracy_drop=0.01, images=100)
    parity.require_within(found, parity.INT8, "model")
    for changes in ({"flips": 2}, {"accuracy_drop": 0.02}):
        with pytest.raises(ParityError):
            parity.require_within(structs.replace(found, **changes), parity.INT8, "model")
    with pytest.raises(ParityError):
        parity.require_within(found, parity.FLOAT32, "model")


def test_a_failed_export_tells_what_passed(bundle_copy, small_idx, monkeypatch, cheaper):
    monkeypatch.setattr(int8_dynamic, "TOLERANCE", dataclasses.replace(parity.INT8, max_abs_diff=0.0, in_std=0.0))
    result = cli_in_process("export", bundle_copy, "--data", small_idx, "--formats", "onnx,int8-dynamic")
    fails(result, 1, "model.int8-dynamic.onnx: does not answer as PyTorch does")
    assert f"to export what passed, run  mnist-edge export {bundle_copy} --formats onnx\n" in result.stderr.decode()
    assert [line.split()[-1] for line in result.stdout.decode().splitlines()[1:]] == ["ok", "failed"]


def test_a_manifest_without_exported_files(bundle_copy, small):
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    manifest["files"] = {name: manifest["files"][name] for name in ("model.pth", "training.json")}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    with pytest.raises(ModelError, match="lists no exported file"):
        pipeline.verify(bundle_copy, small)
