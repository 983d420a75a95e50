"""C99 as a format: made from the int8-static file, in the manifest, checked by `verify`. Every gate closes."""

import json
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import onnx
import pytest

from mnist_edge.bundle import reading
from mnist_edge.bundle.checksum import UNSET_CHECKSUM, sha256, with_checksum
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.contract import CHECKSUM_KEY
from mnist_edge.errors import ExecutionError, ModelFormatError, ParityError
from mnist_edge.export import c, int8_static, pipeline
from mnist_edge.export.c import compiling, requantization, source
from mnist_edge.export.c.reading import _Reader
from mnist_edge.runtime.model import PRETRAINED
from tests.helpers import cli_in_process, fails, keep_only

STATIC, C = Format.INT8_STATIC.file_name, Format.C.file_name

pytestmark = pytest.mark.usefixtures("by_gcc")


@pytest.fixture
def bundle_with_static(bundle_copy):
    keep_only(bundle_copy, STATIC)
    return bundle_copy


# The format


@pytest.mark.long
def test_it_is_made_from_the_sibling_that_is_there(bundle_with_static, small, small_idx, cheaper):
    before = (bundle_with_static / STATIC).read_bytes()
    result = cli_in_process(
        "export", bundle_with_static, "--data", small_idx, "--formats", "c", "--c-prefix", "digits", "--json"
    )
    assert result.returncode == 0, result.stderr.decode()
    text = (bundle_with_static / C).read_text()
    assert (bundle_with_static / STATIC).read_bytes() == before
    assert f'#define DIGITS_INT8_STATIC_SHA256 "{sha256(before)}"' in text
    manifest = reading.read_manifest(bundle_with_static)
    assert manifest.exported == (STATIC, C)
    parities = [manifest.files[name].parity for name in (STATIC, C)]
    assert parities[1].accuracy == parities[0].accuracy
    assert parities[1].flips == parities[0].flips
    assert parities[1].variants == ("compiled", "compiled for size")
    assert manifest.files[C].calibration == manifest.files[STATIC].calibration
    result = cli_in_process("verify", bundle_with_static, "--data", small_idx)
    assert result.returncode == 0, result.stderr.decode()
    assert C in result.stdout.decode()
    assert C in cli_in_process("info", bundle_with_static).stdout.decode()
    fails(
        cli_in_process("predict", "x.png", "--model", bundle_with_static, "--format", "c"), 2, "not run by onnxruntime"
    )


@pytest.mark.long
def test_the_sibling_is_made_too(bundle_copy, small, cheaper):
    keep_only(bundle_copy, "model.onnx")
    made = pipeline.export(bundle_copy, small, [Format.C])
    assert made.exported == ("model.onnx", STATIC, C)


@pytest.mark.long
def test_it_goes_when_the_sibling_changes(bundle_with_static, small, small_idx, cheaper, monkeypatch):
    pipeline.export(bundle_with_static, small, [Format.C])
    content = (bundle_with_static / STATIC).read_bytes()
    monkeypatch.setattr(int8_static, "convert", lambda given: content)
    assert C in pipeline.export(bundle_with_static, small, [Format.INT8_STATIC]).files  # the same again
    other = metadata_changed(content)
    monkeypatch.setattr(int8_static, "convert", lambda given: other)
    result = cli_in_process("export", bundle_with_static, "--data", small_idx, "--formats", "int8-static")
    assert result.returncode == 0
    assert b"removed model.h: made from what is now another file" in result.stderr
    assert C not in reading.read_manifest(bundle_with_static).files
    assert not (bundle_with_static / C).exists()


def metadata_changed(content):
    """The same graph with another producer, and its checksum right."""
    model = onnx.load_from_string(content)
    model.producer_name = "another"
    (seal,) = [each for each in model.metadata_props if each.key == CHECKSUM_KEY]
    seal.value = UNSET_CHECKSUM
    return with_checksum(model.SerializeToString(deterministic=True))


def test_it_is_not_made_by_default(bundle_dir):
    assert C not in reading.read_manifest(bundle_dir).files


@pytest.mark.parametrize(
    ("variable", "words"),
    [
        ('"', "CC is no command"),
        ("", "a C file is proved by compiling it"),
        ("no-such-compiler -O1", "CC names 'no-such-compiler'"),
    ],
)
def test_without_a_compiler_nothing_is_written(
    bundle_with_static, small_idx, cheaper, monkeypatch, tmp_path, variable, words
):
    before = {path.name: path.read_bytes() for path in bundle_with_static.iterdir()}
    monkeypatch.setenv("CC", variable)
    monkeypatch.setenv("PATH", str(tmp_path))
    fails(cli_in_process("export", bundle_with_static, "--data", small_idx, "--formats", "c"), 1, words)
    assert {path.name: path.read_bytes() for path in bundle_with_static.iterdir()} == before


@pytest.mark.parametrize(
    ("program", "error", "words"),
    [("true", ExecutionError, "cannot be compiled and loaded"), ("false", ModelFormatError, "cannot compile it")],
)
def test_a_compiler_that_makes_nothing(monkeypatch, program, error, words):
    monkeypatch.setenv("CC", program)
    with pytest.raises(error, match=words):
        compiling.compiled("int x;", "digits", C)


@pytest.mark.parametrize("prefix", ["Digits", "9", "a-b", "_x", "x y", "é"])
def test_a_prefix_must_be_a_name(bundle_with_static, prefix):
    result = cli_in_process("export", bundle_with_static, "--formats", "c", "--c-prefix", prefix)
    fails(result, 2, "is no name in lower case: give one such as my_digits")


def test_a_prefix_is_for_c_only(bundle_with_static):
    fails(cli_in_process("export", bundle_with_static, "--c-prefix", "digits"), 2, "name c with --formats")


# Changes of the file


@pytest.fixture(scope="module")
def origins(bundle_of):
    nano = Path(PRETRAINED, "cnn-nano", STATIC).read_bytes()
    return {"nano": nano, "sigmoid": (bundle_of(Architecture.SIGMOID_NN)[0] / STATIC).read_bytes()}


def changed(text, array):
    """The text with the last number of an array one larger."""
    pattern = rf"(?s)(\w+_{array}\[\w*\] = {{\n[^}}]*?)(-?\d+)(\.\w+)?(\n}};)"
    found, count = re.subn(pattern, lambda m: f"{m[1]}{int(m[2]) + 1}{m[3] or ''}{m[4]}", text, count=1)
    assert count == 1
    return found


@pytest.mark.parametrize(
    ("model", "array"),
    [
        ("nano", "conv1_weights"),
        ("nano", "conv5_bias"),
        ("nano", "conv6_scale"),
        ("nano", "conv2_shift"),
        ("nano", "linear7_weights"),
        ("nano", "golden_pixels"),
        ("sigmoid", "linear1_thresholds"),
        ("sigmoid", "linear1_table"),
        ("sigmoid", "golden_sums"),
    ],
)
def test_any_number_that_is_changed_is_found(origins, model, array):
    given = SimpleNamespace(origin=origins[model])
    text = changed(source.generate(origins[model]), array)
    with pytest.raises(ParityError, match=rf"its \w+_{array} is not that of model.int8-static.onnx: export it again"):
        c.check_weights(text.encode(), C, given)


def test_another_step_temperature_or_size_is_found(origins):
    given, text = SimpleNamespace(origin=origins["nano"]), source.generate(origins["nano"])
    step = re.search(r"cnn_nano_steps\[10\] = {\n(\S+?)f,", text)[1]
    for old, new, name in (
        (f"{{\n{step}f", f"{{\n{float(step) * 1.01:.6g}f", "cnn_nano_steps"),
        ("ARENA 4083", "ARENA 4082", "CNN_NANO_ARENA"),
        ("TEMPERATURE ", "TEMPERATURE 1", "CNN_NANO_TEMPERATURE"),
    ):
        assert text.count(old) == 1
        with pytest.raises(ParityError, match=f"its {name} is not that of"):
            c.check_weights(text.replace(old, new).encode(), C, given)


def test_no_code_runs_that_is_not_ours(origins, tmp_path):
    given, text = SimpleNamespace(origin=origins["nano"]), source.generate(origins["nano"])
    planted = text.replace("    int winner = 0, i;", '    int winner = 0, i;\n    system("touch planted");', 1)
    assert planted != text
    with pytest.raises(ModelFormatError, match="its code is not what this version of mnist-edge writes"):
        c.check_weights(planted.encode(), C, given)
    for other in (b"\xff no C", b"", text.encode() + b"int more;\n", b"const x" * 300_000):
        with pytest.raises(ModelFormatError, match="its code is not what"):
            c.check_weights(other, C, given)
    # The prefix comes from the file; it must be one that can be asked for.
    accented = source.generate(origins["nano"], "a\u00e9")
    with pytest.raises(ModelFormatError, match="its code is not what"):
        c.check_weights(accented.encode(), C, given)


def rewritten(folder, change):
    """Change the file, and the manifest so that the digest is right."""
    text = change((folder / C).read_text())
    (folder / C).write_text(text)
    manifest = json.loads((folder / "manifest.json").read_text())
    manifest["files"][C] |= {"sha256": sha256(text.encode()), "bytes": len(text)}
    (folder / "manifest.json").write_text(json.dumps(manifest))


def test_verify_refuses_what_was_changed(bundle_with_static, small, small_idx, cheaper):
    pipeline.export(bundle_with_static, small, [Format.C])
    verify = ("verify", bundle_with_static, "--data", small_idx)
    text = (bundle_with_static / C).read_text()
    (bundle_with_static / C).write_text(changed(text, "conv2_weights"))
    fails(cli_in_process(*verify), 4, "model.h: altered since its export")
    (bundle_with_static / C).write_text(text)
    rewritten(bundle_with_static, lambda text: changed(text, "conv2_weights"))
    fails(cli_in_process(*verify), 1, "model.h: its cnn_conv2_weights is not that of model.int8-static.onnx")
    keep_only(bundle_with_static, C)
    fails(cli_in_process(*verify), 1, "model.h: is made from model.int8-static.onnx, which is missing or failed")


# Faults planted in the exporter


def in_the_template(old, new):
    def plant(monkeypatch, folder):
        text = source.TEMPLATE.read_text()
        assert old in text
        (folder / "template.h").write_text(text.replace(old, new))
        monkeypatch.setattr(source, "TEMPLATE", folder / "template.h")

    return plant


def bias_rounded_down(monkeypatch, folder):
    real = _Reader._bias

    def floored(self, node, step):
        bias = real(self, node, step)
        return bias if node.op_type == "Gemm" else np.floor(self.constants[node.input[2]] / step).astype(np.int32)

    monkeypatch.setattr(_Reader, "_bias", floored)


def scale_truncated(monkeypatch, folder):
    real = requantization.requantization

    def less(layer):
        found = real(layer)
        return requantization.Requantization(found.scale >> 8 << 8, found.shift, found.thresholds, found.table)

    monkeypatch.setattr(source, "requantization", less)


ROUNDING = r"its conv\d makes \d+ of a sum of -?\d+ of output \d+, onnxruntime \d+"


@pytest.mark.parametrize(
    ("fault", "words"),
    [
        (in_the_template("if (rest <= 2 * near && ", "if (near < 0 && "), ROUNDING),  # ties are not made even
        (in_the_template("(tie << shift) >> 25)", "(tie << shift) >> 26)"), ROUNDING),  # half as near to a tie
        (in_the_template("+ one / 2 + zero * one", "+ zero * one"), ROUNDING),  # rounded down
        (scale_truncated, ROUNDING),
        (bias_rounded_down, r"\d+ of \d+ images have other logits than in the file that it was made from"),
        (
            in_the_template("best[o + k % 2] > sums[k] ? best[o + k % 2]", "k % 3 ? best[o + k % 2]"),  # a wrong pool
            r"images have other logits|does not answer as PyTorch does",
        ),
        (
            in_the_template("(void *)(start + 4 * PREFIX_POOLED)", "(void *)(start + 2 * PREFIX_POOLED)"),
            r"images have other logits|does not answer as PyTorch does",  # only in the form for little flash
        ),
        (
            in_the_template("column + place % layer->pool_x", "column"),  # one column of the pool twice
            r"images have other logits|does not answer as PyTorch does",
        ),
    ],
)
def test_a_fault_is_refused(bundle_with_static, small, cheaper, monkeypatch, tmp_path, fault, words):
    before = {path.name: path.read_bytes() for path in bundle_with_static.iterdir()}
    fault(monkeypatch, tmp_path)
    with pytest.raises(ParityError, match=words):
        pipeline.export(bundle_with_static, small, [Format.C])
    assert {path.name: path.read_bytes() for path in bundle_with_static.iterdir()} == before
