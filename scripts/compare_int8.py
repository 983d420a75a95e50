"""Compare ways to quantize to int8: the measurements behind `int8-dynamic` and `int8-static`.

    python scripts/compare_int8.py BUNDLE [BUNDLE ...]

Each bundle is measured as float32; with onnxruntime's quantize_dynamic (all operators, and linear layers only), with
convolution weights behind DequantizeLinear, and as our int8-dynamic; then with onnxruntime's quantize_static and as our
int8-static, also with weights rounded to nearest and with 8-bit weights, whose sums saturate without VNNI.

The columns are size, accuracy, answers that differ from float32's, the largest difference from float32's logits, the
largest change of an image's logits with its batch, and the median time of 1 and of 64 images on one thread.
"""

import logging
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import numpy as np
import onnx
from onnx import ModelProto, helper

from mnist_edge.contract import INPUT_NAME
from mnist_edge.data import datasets
from mnist_edge.export import examples, int8_dynamic, int8_static, onnx_graph, rounding
from mnist_edge.export.parity import in_batches
from mnist_edge.runtime.latency import latencies
from mnist_edge.runtime.session import Session
from mnist_edge.training import checkpoint


def variants(folder: Path, data: datasets.Dataset) -> Iterator[tuple[str, ModelProto]]:
    trained = checkpoint.load(folder)
    exact = onnx_graph.build(trained)
    yield "float32", exact
    yield "quantize_dynamic", quantized_by_onnxruntime(exact)
    yield "quantize_dynamic, linear only", quantized_by_onnxruntime(exact, ["MatMul", "Gemm"])
    ours = int8_dynamic.quantize(onnx_graph.build(trained))
    if any(node.op_type == "Conv" for node in ours.graph.node):
        yield "ours, DequantizeLinear", with_dequantize_linear(ours)
    yield "int8-dynamic (ours)", ours
    chosen = examples.choose(trained, data)
    images = chosen.training, chosen.extremes
    yield "quantize_static", quantized_statically_by_onnxruntime(exact, np.concatenate(images))
    yield "int8-static (ours)", int8_static.quantize(exact, *images)
    with mock.patch.object(rounding, "SWEEPS", 0):
        yield "int8-static, nearest steps", int8_static.quantize(exact, *images)
    with mock.patch.object(int8_static, "WEIGHT_LIMIT", 127):
        yield "int8-static, 8-bit weights", int8_static.quantize(exact, *images)


def quantized_by_onnxruntime(model: ModelProto, kinds: list[str] | None = None) -> ModelProto:
    from onnxruntime.quantization import quantize_dynamic  # after our runtime, which disables telemetry

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(model, source)
        quantize_dynamic(source, target, op_types_to_quantize=kinds, per_channel=True)
        return onnx.load(target)


def quantized_statically_by_onnxruntime(
    model: ModelProto, images: np.ndarray, *, reduce_range: bool = True
) -> ModelProto:
    from onnxruntime.quantization import CalibrationDataReader, QuantType, quantize_static

    class Reader(CalibrationDataReader):  # type: ignore[misc]  # onnxruntime has no types
        def __init__(self) -> None:
            self.batches = iter(np.array_split(images, 10))

        def get_next(self) -> dict[str, np.ndarray] | None:
            batch = next(self.batches, None)
            return None if batch is None else {INPUT_NAME: batch}

    with tempfile.TemporaryDirectory() as scratch:
        source, target = Path(scratch) / "float32.onnx", Path(scratch) / "int8.onnx"
        onnx.save(model, source)
        types = {"activation_type": QuantType.QUInt8, "weight_type": QuantType.QInt8}
        quantize_static(source, target, Reader(), per_channel=True, reduce_range=reduce_range, **types)
        return onnx.load(target)


def with_dequantize_linear(model: ModelProto) -> ModelProto:
    changed = ModelProto()
    changed.CopyFrom(model)
    nodes = [node for node in changed.graph.node if node.op_type != "Cast" or INPUT_NAME in node.input]
    for index, node in enumerate(nodes):
        if node.op_type == "Mul":
            weight, scale = node.output[0] + "_int8", node.input[1]
            nodes[index] = helper.make_node("DequantizeLinear", [weight, scale], [node.output[0]], axis=0)
    for tensor in changed.graph.initializer:
        if tensor.name.endswith("_scale") and len(tensor.dims) == 4:  # one scale per channel
            del tensor.dims[1:]
    del changed.graph.node[:]
    changed.graph.node.extend(nodes)
    return changed


def answer(content: bytes, images: np.ndarray, batch: int) -> np.ndarray:
    session = Session(content)
    return in_batches(lambda part: session.run(None, {INPUT_NAME: part})[0], images, batch)


def microseconds(content: bytes, images: np.ndarray) -> float:
    session = Session(content)
    calls = {"": lambda number: session.run(None, {INPUT_NAME: images})}
    return 1e6 * float(np.median(latencies(calls, rounds=1, repeats=1000 // len(images) + 100)[""][20:]))


def main(folders: list[Path]) -> None:
    logging.disable(logging.WARNING)  # onnxruntime's quantizer is verbose
    data = datasets.load()
    test = data.test
    images = test.images[:, None]
    print(
        f"{'':42} {'KB':>8} {'accuracy':>9} {'flips':>6} {'max Δ':>8} {'batch Δ':>8} {'1 image':>9} {'64 images':>10}"
    )
    for folder in folders:
        exact = None
        for name, model in variants(folder, data):
            content = model.SerializeToString()
            logits = answer(content, images, 64)
            exact = logits if exact is None else exact
            answers = exact.argmax(axis=1)
            alone = answer(content, images[:1000], 1)
            right, flips = (logits.argmax(axis=1) == test.labels).mean(), (logits.argmax(axis=1) != answers).sum()
            print(
                f"{folder.name + ': ' + name:42} {len(content) / 1000:8.1f} {100 * right:7.2f} % {flips:6} "
                f"{np.abs(logits - exact).max():8.4f} {np.abs(alone - logits[:1000]).max():8.4f} "
                f"{microseconds(content, images[:1]):6.1f} µs {microseconds(content, images[:64]):7.0f} µs",
                flush=True,
            )


if __name__ == "__main__":
    main([Path(argument) for argument in sys.argv[1:]])
