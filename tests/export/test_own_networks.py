"""Exports of users' modules: which formats are made, which are left out, and that every weight is checked."""

import dataclasses
import json
import os
import subprocess
import sys
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
import pytest
import torch
from onnx import numpy_helper
from torch.nn import functional

from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.layout import BY_DEFAULT, Format
from mnist_edge.bundle.records import Imported, ImportRecord
from mnist_edge.bundle.source import Ending, InputForm, Source
from mnist_edge.contract import HALF, TO_TENSOR
from mnist_edge.errors import ParityError, UnsupportedFormatError
from mnist_edge.evaluation.metrics import measure
from mnist_edge.export import byte_plan, examples, int8_dynamic, int8_static, onnx_graph, parity, pipeline
from mnist_edge.export.formats import EXPORTERS
from mnist_edge.export.preprocessing import Preparation
from mnist_edge.training import checkpoint
from mnist_edge.training.loop import predict
from tests.export import networks
from tests.helpers import cli_in_process, fails, given, long_after, subset

QUANTIZED_BY_US = (networks.Residual, networks.Branches, networks.Tanh)
QUANTIZED_BY_ONNXRUNTIME = (networks.Attention, networks.Rows)
ALL = QUANTIZED_BY_US + QUANTIZED_BY_ONNXRUNTIME
SOME = long_after(2, [networks.Residual, networks.Rows, networks.Branches, networks.Tanh, networks.Attention])

PLAIN = Preparation(TO_TENSOR)

ONNX_FORMATS = (Format.ONNX, Format.INT8_DYNAMIC, Format.INT8_STATIC)


@pytest.fixture(scope="module")
def data(mnist):
    return subset(mnist, 3000, 500)


@pytest.fixture(scope="module", autouse=True)
def loose():
    """The modules have hardly been trained, so many decisions are close. And a few images are enough here."""
    tolerance = dataclasses.replace(parity.INT8, min_agreement=0.9, max_accuracy_drop=0.05, in_std=1, in_std_on_noise=2)
    with (
        mock.patch.object(int8_dynamic, "TOLERANCE", tolerance),
        mock.patch.object(int8_static, "TOLERANCE", tolerance),
        mock.patch.object(parity, "CHOSEN", 32),
        mock.patch.object(parity, "PROBES", 8),
        mock.patch.object(examples, "TRAINING_IMAGES", 500),
    ):
        yield


def fitted(kind, data, preparation):
    """A module that has seen a few images, so that its decisions are not all close."""
    torch.manual_seed(0)
    model = kind()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.005)
    images, labels = torch.tensor(data.train.images)[:, None].float(), torch.tensor(data.train.labels).long()
    for chosen in torch.randperm(len(images)).split(100):
        optimizer.zero_grad()
        functional.cross_entropy(model(preparation(images[chosen])), labels[chosen]).backward()
        optimizer.step()
    return model.eval()


def bundle(kind, data, folder, preparation=PLAIN, *, is_fitted=True):
    """The first half of a bundle, as `import` writes it."""
    model = fitted(kind, data, preparation) if is_fitted else kind().eval()
    file = Path(networks.__file__)
    source = Source(f"{file}:{kind.__name__}", {}, sha256(file.read_bytes()), InputForm.IMAGE)
    record = ImportRecord(
        architecture=kind.__name__,
        source=source,
        ending=Ending.LOGITS,
        parameters=checkpoint.parameters_of(model),
        labels=data.labels,
        preprocessing=data.preprocessing,
        data=checkpoint.record_of(data),
        model_sha256="",
        versions=checkpoint.versions(),
        weights=Imported(name="weights.pth", sha256="0" * 64),
        normalization=preparation.normalization,
        inverted=preparation.inverted,
        transposed=preparation.transposed,
        test=measure(predict(lambda x: model(preparation(x)), data.test.images, "cpu"), data.test.labels),
    )
    folder.mkdir()
    for name, content in checkpoint.first_half(model.state_dict(), record).items():
        (folder / name).write_bytes(content)
    return folder


@pytest.fixture(scope="module")
def bundles(data, tmp_path_factory):
    """Each module's complete bundle; read-only."""
    made = {}

    def find(kind):
        if kind not in made:
            folder = bundle(kind, data, tmp_path_factory.mktemp("own") / kind.__name__, Preparation(HALF))
            made[kind] = folder, pipeline.export(folder, data)
        return made[kind]

    return find


@pytest.mark.parametrize("kind", SOME)
def test_every_format_is_made_and_proved(bundles, data, kind):
    folder, manifest = bundles(kind)
    assert set(manifest.exported) == {form.file_name for form in BY_DEFAULT}
    assert [outcome.error for outcome in pipeline.verify(folder, data)] == [None] * len(BY_DEFAULT)
    assert (byte_plan.plan(onnx_graph.build(checkpoint.load(folder))) is not None) == (kind in QUANTIZED_BY_US)


@pytest.mark.parametrize("form", ONNX_FORMATS, ids=str)
@pytest.mark.parametrize("kind", SOME)
def test_one_changed_weight_is_found(bundles, kind, form):
    """Whichever it is, even the smallest of a tensor, by a hundredth, or by one step if it is quantized."""
    folder, _ = bundles(kind)
    source = given(checkpoint.load(folder))
    content = (folder / form.file_name).read_bytes()
    EXPORTERS[form].check_weights(content, "file", source)
    model = onnx.load_from_string(content)
    names = [
        tensor.name
        for tensor in model.graph.initializer
        if tensor.data_type in (onnx.TensorProto.FLOAT, onnx.TensorProto.INT8, onnx.TensorProto.INT32)
        and not is_of_the_activations(tensor)
    ]
    assert len(names) >= 4
    for name in names:
        changed = onnx.load_from_string(content)
        (tensor,) = (each for each in changed.graph.initializer if each.name == name)
        values = numpy_helper.to_array(tensor).copy()
        place = np.abs(np.where(values == 0, np.inf, values)).argmin()
        values.flat[place] = values.flat[place] * 1.05 if values.dtype == np.float32 else values.flat[place] + 3
        tensor.CopyFrom(numpy_helper.from_array(values, name))
        with pytest.raises(ParityError, match="is not the trained one"):
            EXPORTERS[form].check_weights(changed.SerializeToString(), "file", source)


def is_of_the_activations(tensor):
    """Their scales are no weights, and zero points are integers that parity judges."""
    is_number = not tensor.dims
    return is_number or tensor.name.endswith(("zero_point", "/weight_zero"))


EXPORT = """
import sys
from pathlib import Path
import numpy as np
import onnx
from mnist_edge.export import int8_dynamic, int8_static, onnx_graph
from mnist_edge.training import checkpoint
graph = onnx_graph.build(checkpoint.load(Path(sys.argv[1])))
images = np.random.default_rng(0).integers(0, 256, (300, 1, 28, 28), dtype=np.uint8)
static = lambda model: int8_static.quantized(model, images, images)
for quantize in (lambda model: model, int8_dynamic.quantize, static):
    copied = onnx.ModelProto()
    copied.CopyFrom(graph)
    sys.stdout.buffer.write(quantize(copied).SerializeToString(deterministic=True))
"""


@pytest.mark.long
@pytest.mark.parametrize("kind", [networks.Residual, networks.Attention])
def test_another_process_makes_the_same_bytes(bundles, kind):
    folder, _ = bundles(kind)
    made = [
        subprocess.run(
            [sys.executable, "-W", "error", "-c", EXPORT, str(folder)],
            env={**os.environ, "PYTHONHASHSEED": seed},
            capture_output=True,
            check=True,
        )
        for seed in ("1", "2")
    ]
    assert made[0].stdout == made[1].stdout
    assert len(made[0].stdout) > 1000
    assert made[0].stderr == b""


@pytest.mark.parametrize("kind", ALL)
def test_a_file_carries_no_trace_of_this_machine(bundles, kind):
    folder, _ = bundles(kind)
    for form in ONNX_FORMATS:
        content = (folder / form.file_name).read_bytes()
        for trace in (str(folder).encode(), b"networks", b"stack_trace", b".py", b"site-packages"):
            assert trace not in content, (form, trace)


@pytest.mark.parametrize(
    ("kind", "form", "operators"),
    [
        (networks.Residual, Format.INT8_STATIC, {"QLinearConv", "QLinearAdd", "QLinearAveragePool", "QGemm"}),
        (networks.Branches, Format.INT8_STATIC, {"QLinearConv", "QLinearConcat", "QGemm"}),
        (networks.Tanh, Format.INT8_STATIC, {"QLinearConv", "QLinearAveragePool", "QGemm"}),
        (networks.Attention, Format.INT8_STATIC, {"MatMulIntegerToFloat", "QGemm", "Softmax", "LayerNormalization"}),
        (networks.Rows, Format.INT8_STATIC, {"QLinearConv", "LSTM", "QGemm"}),
        (networks.Attention, Format.INT8_DYNAMIC, {"MatMulNBits"}),
        (networks.Rows, Format.INT8_DYNAMIC, {"FusedConv", "LSTM"}),
    ],
)
def test_integers_compute_what_they_can(bundles, tmp_path, kind, form, operators):
    import onnxruntime

    folder, _ = bundles(kind)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_EXTENDED
    options.optimized_model_filepath = str(tmp_path / "optimized.onnx")
    options.log_severity_level = 4
    onnxruntime.InferenceSession(folder / form.file_name, options, providers=["CPUExecutionProvider"])
    found = {node.op_type for node in onnx.load(tmp_path / "optimized.onnx").graph.node}
    assert operators <= found
    if form is Format.INT8_STATIC:
        assert not {"Conv", "Gemm"} & found


@pytest.mark.parametrize(
    "arranged", long_after(1, [{"inverted": True, "transposed": True}, {"inverted": True}, {"transposed": True}])
)
def test_arranged_pixels(data, tmp_path, arranged):
    folder = bundle(networks.Residual, data, tmp_path / "bundle", Preparation(HALF, **arranged))
    assert len(pipeline.export(folder, data).exported) == len(BY_DEFAULT)


def test_what_cannot_be_made_is_left_out(data, tmp_path):
    folder = bundle(networks.Bessel, data, tmp_path / "bundle")
    outcomes = []
    manifest = pipeline.export(folder, data, report=outcomes.append)
    assert manifest.exported == ("model.torchscript",)
    assert [(outcome.format, outcome.left_out) for outcome in outcomes] == [
        (form, form is not Format.TORCHSCRIPT) for form in BY_DEFAULT
    ]
    for outcome in outcomes[1:]:
        assert isinstance(outcome.error, UnsupportedFormatError)
        assert "bessel_i1e" in str(outcome.error)
        assert "\n" not in str(outcome.error)
    assert [outcome.error for outcome in pipeline.verify(folder, data)] == [None]


def test_what_was_asked_for_by_name_is_not_left_out(data, tmp_path):
    folder = bundle(networks.Bessel, data, tmp_path / "bundle")
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    outcomes = []
    with pytest.raises(UnsupportedFormatError, match=r"torch\.onnx\.export does not take this model"):
        pipeline.export(folder, data, [Format.TORCHSCRIPT, Format.ONNX], outcomes.append)
    assert [outcome.left_out for outcome in outcomes] == [False, False]
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_the_command_says_what_it_leaves_out(data, tmp_path, monkeypatch):
    from mnist_edge.cli import export

    monkeypatch.setattr(export, "data_of", lambda folder, wanted: data)
    folder = bundle(networks.OnlyLSTM, data, tmp_path / "bundle")
    result = cli_in_process("export", folder)
    assert result.returncode == 0, result.stderr.decode()
    left_out = [line for line in result.stderr.decode().splitlines() if line.startswith("left out: ")]
    assert [line.split(": ")[1] for line in left_out] == ["int8-dynamic", "int8-static"]
    results = [line.rsplit("  ", 1)[-1].strip() for line in result.stdout.decode().splitlines()[1:5]]
    assert results == ["ok", "ok", "left out", "left out"]
    found = json.loads(cli_in_process("export", folder, "--json").stdout)
    assert found["left_out"].keys() == {"int8-dynamic", "int8-static"}
    assert found["files"].keys() == {"model.pth", "training.json", "model.torchscript", "model.onnx"}
    fails(cli_in_process("export", folder, "--formats", "onnx,int8-static"), 1, "has no integer operator")


def test_a_missed_gate_is_no_reason_to_leave_out(data, tmp_path, monkeypatch):
    folder = bundle(networks.OnlyLSTM, data, tmp_path / "bundle")
    before = {path.name for path in folder.iterdir()}

    def swapped(trained):
        model = build(trained)
        for tensor in model.graph.initializer:
            if tensor.data_type == onnx.TensorProto.FLOAT:
                tensor.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(tensor), tensor.name))
        return model

    build = onnx_graph.build
    monkeypatch.setattr(onnx_graph, "build", swapped)
    with pytest.raises(ParityError, match=r"model\.onnx: does not answer as PyTorch does"):
        pipeline.export(folder, data)
    assert {path.name for path in folder.iterdir()} == before


@pytest.mark.parametrize(
    ("kind", "form", "words"),
    [
        (networks.Bessel, Format.ONNX, "bessel_i1e"),
        (networks.Branching, Format.ONNX, "data-dependent"),
        (networks.Noisy, Format.ONNX, "it draws random numbers"),
        (networks.Conditional, Format.ONNX, "it branches or loops on values (If)"),
        (networks.OneByOne, Format.ONNX, "onnxruntime"),
        (networks.OneByOne, Format.TORCHSCRIPT, "holds for one number of images only"),
        (networks.Counting, Format.TORCHSCRIPT, "holds for one number of images only"),
        (networks.Conditional, Format.TORCHSCRIPT, "torch.jit.trace"),
        (networks.OnlyLSTM, Format.INT8_DYNAMIC, "has no weight"),
        (networks.OnlyLSTM, Format.INT8_STATIC, "has no integer operator"),
    ],
)
def test_refusals_are_one_line(data, tmp_path, capfd, kind, form, words):
    source = examples.choose(checkpoint.load(bundle(kind, data, tmp_path / "bundle", is_fitted=False)), data)
    with pytest.raises(UnsupportedFormatError) as caught:
        EXPORTERS[form].convert(source)
    assert words in str(caught.value)
    assert "\n" not in str(caught.value)
    assert len(str(caught.value)) < 400
    assert capfd.readouterr() == ("", "")


def test_the_graph_is_exported_once(data, tmp_path, monkeypatch):
    """Also if that fails: the other ONNX formats fail for the same reason."""
    calls = []

    def refuse(trained):
        calls.append(trained)
        raise UnsupportedFormatError("torch.onnx.export does not take this model")

    monkeypatch.setattr(onnx_graph, "build", refuse)
    source = given(checkpoint.load(bundle(networks.Bessel, data, tmp_path / "bundle", is_fitted=False)))
    for form in ONNX_FORMATS:
        with pytest.raises(UnsupportedFormatError):
            EXPORTERS[form].convert(source)
    assert len(calls) == 1
