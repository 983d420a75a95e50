"""The recommendation among ONNX files: every reason against one occurs, and the rule is followed."""

import json

import numpy as np
import pytest
from msgspec import structs

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.bundle.records import Recommendation
from mnist_edge.errors import ModelFormatError
from mnist_edge.export.recommendation import NEVER_BY_ITSELF, Measured, measure, objections, recommend
from tests.helpers import run_cli

FLOAT32 = Measured(bytes=300_000, microseconds=100, batch_dependence=1e-6, accuracy=0.9960, agreement=1.0)
INT8 = Measured(bytes=80_000, microseconds=70, batch_dependence=0.0, accuracy=0.9958, agreement=0.9995)


def changed(measured, **changes):
    return structs.replace(measured, **changes)


def test_nothing_speaks_against_a_good_file():
    assert objections(INT8, FLOAT32) is None
    assert objections(changed(INT8, microseconds=150, accuracy=0.9955, agreement=0.998), FLOAT32) is None


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"microseconds": 151.0}, "slower than float32: 151 against 100 µs"),
        ({"accuracy": 0.9950}, "accuracy drop of 0.10 points"),
        ({"agreement": 0.997}, "answers 0.30 % of the images differently"),
        ({"batch_dependence": 0.05}, "logits move by 0.05"),
        ({"bytes": 300_000}, "not smaller"),
    ],
)
def test_every_objection(changes, words):
    bad = changed(INT8, **changes)
    assert words in objections(bad, FLOAT32)
    verdict = recommend({Format.ONNX: FLOAT32, Format.INT8_STATIC: bad})
    assert verdict.file == "model.onnx"
    assert words in verdict.reasons_against["model.int8-static.onnx"]


def test_static_int8_where_it_is_good_and_dynamic_int8_never():
    dynamic = changed(INT8, microseconds=30.0, bytes=70_000)
    verdict = recommend({Format.ONNX: FLOAT32, Format.INT8_DYNAMIC: dynamic, Format.INT8_STATIC: INT8})
    assert verdict.file == "model.int8-static.onnx"
    assert verdict.reasons_against == {
        "model.onnx": "larger: 300.0 against 80.0 KB; slower: 100 against 70 µs an image",
        "model.int8-dynamic.onnx": NEVER_BY_ITSELF,
    }
    verdict = recommend({Format.ONNX: FLOAT32, Format.INT8_STATIC: changed(INT8, microseconds=130.0)})
    assert verdict.reasons_against == {
        "model.onnx": "larger: 300.0 against 80.0 KB, and quicker by only 30 µs an image",
    }
    verdict = recommend({Format.ONNX: FLOAT32, Format.INT8_DYNAMIC: dynamic})
    assert verdict == Recommendation("model.onnx", {"model.int8-dynamic.onnx": NEVER_BY_ITSELF})
    verdict = recommend({Format.ONNX: FLOAT32, Format.INT8_DYNAMIC: changed(dynamic, accuracy=0.99)})
    assert "accuracy drop of 0.60 points" in verdict.reasons_against["model.int8-dynamic.onnx"]
    assert recommend({Format.ONNX: FLOAT32}) == Recommendation("model.onnx", {})


@pytest.mark.numeric
def test_what_is_measured(bundle_dir, small):
    forms = [form for form in Format if form in RUNNABLE]
    files = {form: (bundle_dir / form.file_name).read_bytes() for form in forms}
    listed = reading.read_manifest(bundle_dir).files
    found = measure(files, {form: listed[form.file_name].parity for form in forms}, small.test.images[:, None])
    for form, content in files.items():
        assert found[form].bytes == len(content)
        assert found[form].microseconds > 0
        assert found[form].batch_dependence < 1e-4
        assert found[form].accuracy == listed[form.file_name].parity.accuracy
    assert found[Format.ONNX].agreement == 1.0


@pytest.mark.numeric
def test_a_file_that_depends_on_the_batch_is_found_out(bundle_dir, small, tmp_path):
    from onnxruntime.quantization import quantize_dynamic

    quantize_dynamic(bundle_dir / "model.onnx", tmp_path / "dynamic.onnx")
    parity = reading.read_manifest(bundle_dir).files["model.onnx"].parity
    content = (tmp_path / "dynamic.onnx").read_bytes()
    found = measure({Format.INT8_DYNAMIC: content}, {Format.INT8_DYNAMIC: parity}, small.test.images[:, None])
    assert found[Format.INT8_DYNAMIC].batch_dependence > 1e-3


def test_the_manifest_and_the_commands_tell(bundle_copy):
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    best = manifest["recommended"]["file"]
    assert {best, *manifest["recommended"]["not"]} == {form.file_name for form in Format if form in RUNNABLE}
    assert set(manifest["measured"]) == {form.file_name for form in Format if form in RUNNABLE}
    told = " ".join(run_cli("info", bundle_copy).stdout.decode().split())  # lines are wrapped
    assert f"recommended: {best}" in told
    for name, reason in manifest["recommended"]["not"].items():
        assert f"not recommended: {name}: {reason}" in told
    assert json.loads(run_cli("info", bundle_copy, "--json").stdout)["recommended"] == manifest["recommended"]
    assert np.isfinite([entry["microseconds"] for entry in manifest["measured"].values()]).all()


def test_a_manifest_without_a_verdict_is_one_too_but_not_half_a_verdict(bundle_copy):
    path = bundle_copy / "manifest.json"
    manifest = json.loads(path.read_text())
    path.write_text(
        json.dumps({key: value for key, value in manifest.items() if key not in ("recommended", "measured")})
    )
    assert "recommended" not in run_cli("info", bundle_copy).stdout.decode()
    path.write_text(json.dumps(manifest | {"recommended": {"file": 1}}))
    with pytest.raises(ModelFormatError, match=r"Expected `str`, got `int` - at `\$\.recommended\.file`"):
        reading.read_manifest(bundle_copy)
    path.write_text(json.dumps(manifest | {"measured": {"model.onnx": {}}}))
    with pytest.raises(ModelFormatError, match="missing required field `microseconds`"):
        reading.read_manifest(bundle_copy)
