"""Compare how long an image takes with the least that this processor would need.

    python scripts/measure_floor.py [--beside NAME=FOLDER] [--profile] [MODEL ...]

The floor of a file is the larger of two times: its multiply-adds at the rate of a loop that does nothing else, and its
weights at the rate of a loop that only reads as many bytes. Both loops (measure_floor.c) use the widest instructions of
this processor, and take turns with the models, on one thread. Beyond its floor a file pays for the call itself, which a
graph without weights shows, and for each node of onnxruntime's optimized graph. `--profile` lists these nodes with
onnxruntime's own times; it costs about a microsecond a node to take them.

MODEL is a pretrained model or a bundle; all pretrained ones without it. `--beside` adds files of the same names from
other folders, such as an earlier version's: FOLDER holds a folder for each model.
"""

import argparse
import ctypes
import json
import math
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Hashable, Iterator
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Final, NamedTuple

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tables import markdown

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.data import datasets
from mnist_edge.export.c import compiling
from mnist_edge.runtime.latency import latencies
from mnist_edge.runtime.machine import processor_name
from mnist_edge.runtime.model import locate, pretrained
from mnist_edge.runtime.session import Session

WIDTHS: Final = {Format.ONNX: 4, Format.INT8_STATIC: 1}
"""Bytes of a weight."""

ROUNDS: Final = 40
CALLS: Final = 100
PROFILED: Final = 2000
"""Calls under onnxruntime's profiler."""

STEPS: Final = 2000
"""Rounds of the loop that multiplies, in one call: some hundred thousand instructions."""


def ceilings(folder: Path) -> ctypes.CDLL:
    """The loops, compiled for this very processor."""
    library = folder / "floor.so"
    source = Path(__file__).with_suffix(".c")
    command = [*compiling.compiler(), "-O3", "-march=native", "-shared", "-fPIC", "-o", str(library), str(source)]
    subprocess.run(command, check=True)
    found = ctypes.CDLL(str(library))
    for name in ("multiply_floats", "multiply_bytes"):
        getattr(found, name).argtypes, getattr(found, name).restype = [ctypes.c_size_t], ctypes.c_double
    found.read_bytes.argtypes, found.read_bytes.restype = [ctypes.c_void_p, ctypes.c_size_t], ctypes.c_int64
    return found


def work(folder: Path) -> tuple[int, int]:
    """The multiply-adds of an image with weights, and the number of these, from the shapes in the float32 file."""
    model = onnx.shape_inference.infer_shapes(onnx.load(folder / Format.ONNX.file_name))
    values = (*model.graph.value_info, *model.graph.output)
    shapes = {value.name: [side.dim_value for side in value.type.tensor_type.shape.dim] for value in values}
    weights = {tensor.name: math.prod(tensor.dims) for tensor in model.graph.initializer}
    kinds = ("Conv", "Gemm", "MatMul")
    layers = [node for node in model.graph.node if node.op_type in kinds and node.input[1] in weights]
    counts = [weights[node.input[1]] for node in layers]
    products = sum(count * math.prod(shapes[node.output[0]][2:]) for node, count in zip(layers, counts, strict=True))
    return products, sum(counts)


def without_layers() -> bytes:
    """A graph with our input and output and next to no work, to time the call itself."""
    graph = helper.make_graph(
        [
            helper.make_node("Cast", [INPUT_NAME], ["floats"], to=TensorProto.FLOAT),
            helper.make_node("ReduceMax", ["floats"], [OUTPUT_NAME], keepdims=0),
        ],
        "nothing",
        [helper.make_tensor_value_info(INPUT_NAME, TensorProto.UINT8, ["N", 1, 28, 28])],
        [helper.make_tensor_value_info(OUTPUT_NAME, TensorProto.FLOAT, [])],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 18)], ir_version=10)
    content: bytes = model.SerializeToString()
    return content


def profiled(content: bytes, image: NDArray[np.uint8]) -> Iterator[tuple[str, str, float]]:
    """Each node of the optimized graph: its name, its operator, and its mean time in µs."""
    import onnxruntime

    with tempfile.TemporaryDirectory() as scratch:
        options = onnxruntime.SessionOptions()
        options.intra_op_num_threads = options.inter_op_num_threads = 1
        options.enable_profiling, options.profile_file_prefix = True, str(Path(scratch, "profile"))
        session = onnxruntime.InferenceSession(content, options, ["CPUExecutionProvider"])
        for _ in range(PROFILED):
            session.run([OUTPUT_NAME], {INPUT_NAME: image})
        events = json.loads(Path(session.end_profiling()).read_text())
    times: defaultdict[tuple[str, str], list[float]] = defaultdict(list)
    for event in events:
        if event["cat"] == "Node" and event["name"].endswith("_kernel_time"):
            times[event["name"].removesuffix("_kernel_time"), event["args"]["op_name"]].append(event["dur"])
    for (name, kind), durations in times.items():
        usual = np.sort(durations)[: len(durations) * 9 // 10]  # without interruptions
        yield name, kind, float(usual.mean())


class Subject(NamedTuple):
    """A file, and what an image costs it at least."""

    name: str
    form: Format
    content: bytes
    products: int
    weights: NDArray[np.uint8]
    """As many bytes as its weights."""


def subjects(models: list[str], beside: list[str]) -> Iterator[Subject]:
    folders = {model: Path(locate(model)) for model in models}
    for name, _, where in (each.partition("=") for each in beside):
        folders |= {f"{model} ({name})": Path(where, model) for model in models}
    for name, folder in folders.items():
        products, weights = work(folder)
        for form, width in WIDTHS.items():
            content = (folder / form.file_name).read_bytes()
            yield Subject(name, form, content, products, np.ones(width * weights, np.uint8))


def row(subject: Subject, computing: float, reading: float, call: float, measured: float) -> list[str]:
    floor = max(computing, reading)
    times = [f"{1e6 * seconds:.1f} µs" for seconds in (computing, reading, measured)]
    ratios = [f"{seconds / floor:.2f}×" for seconds in (measured, measured - call)]
    return [f"`{subject.name}`: `{subject.form.file_name}`", f"{subject.products / 1e6:.2f} M", *times, *ratios]


def main(models: list[str], beside: list[str], *, profile: bool) -> None:
    image = datasets.load(datasets.DEFAULT).test.images[:1, None]
    found = [*subjects(models, beside)]
    with tempfile.TemporaryDirectory() as scratch:
        loops = ceilings(Path(scratch))
        multiply = {Format.ONNX: loops.multiply_floats, Format.INT8_STATIC: loops.multiply_bytes}

        def read(weights: NDArray[np.uint8], _: int) -> int:
            total: int = loops.read_bytes(weights.ctypes.data, weights.size)
            return total

        def answer(session: Session, _: int) -> object:
            return session.run([OUTPUT_NAME], {INPUT_NAME: image})

        def compute(form: Format, _: int) -> object:
            return multiply[form](STEPS)

        calls: dict[Hashable, Callable[[int], object]] = {form: partial(compute, form) for form in multiply}
        calls["call"] = partial(answer, Session(without_layers()))
        for number, subject in enumerate(found):
            calls["read", number] = partial(read, subject.weights)
            calls["answer", number] = partial(answer, Session(subject.content))
        times = latencies(calls, rounds=ROUNDS, repeats=CALLS)
        seconds = {key: float(np.median(each)) for key, each in times.items()}
        rates = {form: run(STEPS) / seconds[form] for form, run in multiply.items()}
    floats, integers = (f"{rate / 1e9:.0f} G" for rate in rates.values())
    print(f"{processor_name()}, onnxruntime {version('onnxruntime')}, one thread")
    call = f"{1e6 * seconds['call']:.1f} µs"
    print(f"{floats} multiply-adds a second in float32, {integers} in int8; a call without work takes {call}\n")
    rows = [
        row(
            subject,
            subject.products / rates[subject.form] if rates[subject.form] else math.nan,
            seconds["read", number],
            seconds["call"],
            seconds["answer", number],
        )
        for number, subject in enumerate(found)
    ]
    head = ["file", "multiply-adds", "computing", "reading weights", "measured", "of the floor", "without the call"]
    print(*markdown(head, rows), sep="\n")
    for subject in found if profile else ():
        print(f"\n{subject.name}: {subject.form.file_name}")
        for node, kind, mean in profiled(subject.content, image):
            print(f"  {mean:6.1f} µs  {kind:14}  {node}")


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("models", nargs="*", metavar="MODEL")
    parser.add_argument("--beside", action="append", default=[], metavar="NAME=FOLDER")
    parser.add_argument("--profile", action="store_true")
    given = parser.parse_args()
    main(given.models or pretrained(), given.beside, profile=given.profile)
