"""The ways in which documentation shows how to verify an exported file, each as it is meant to be run."""

import contextlib
from collections.abc import Callable
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import torch
import torch.onnx.testing
from exporter_faults import Case, Made
from numpy.typing import NDArray

from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME, WHITE
from mnist_edge.export import parity
from mnist_edge.runtime.classifier import CHUNK


def example_batch(count: int = 2) -> torch.Tensor:
    """Random pixels, as many images as the export was traced with."""
    return torch.randint(
        0, WHITE + 1, (count, 1, 28, 28), dtype=torch.uint8, generator=torch.Generator().manual_seed(0)
    )


def tutorial(made: Made, _case: Case) -> None:
    """PyTorch's tutorial: check the file, then compare the outputs for an example input by `assert_close`.

    https://docs.pytorch.org/tutorials/beginner/onnx/export_simple_model_to_onnx_tutorial.html
    """
    onnx.checker.check_model(made.path, full_check=True)
    images = example_batch()
    found = session_of(made.path).run(None, {INPUT_NAME: images.numpy()})[0]
    with torch.no_grad():
        expected = made.module(images)
    for one, other in zip(expected, found, strict=True):
        torch.testing.assert_close(one, torch.tensor(other))


def of_program(made: Made, _case: Case) -> None:
    """What PyTorch offers to test an export. It never sees the file.

    `torch.onnx.export(verify=True)` compares the same outputs less strictly, and only logs.

    https://docs.pytorch.org/docs/stable/onnx_testing.html
    """
    torch.onnx.testing.assert_onnx_program(made.program)


def optimum(made: Made, _case: Case) -> None:
    """Optimum's `validate_model_outputs`, which `optimum-cli export onnx` runs: names, shapes, and values within 1e-5.

    https://github.com/huggingface/optimum-onnx, optimum/exporters/onnx/convert.py
    """
    from optimum.exporters.onnx.base import OnnxConfig
    from optimum.exporters.onnx.convert import validate_model_outputs

    class Config(OnnxConfig):  # type: ignore[misc]  # Optimum has no types
        inputs = {INPUT_NAME: {0: "N"}}  # noqa: RUF012  # as Optimum's own configurations have them
        outputs = {OUTPUT_NAME: {0: "N"}}  # noqa: RUF012

        def __init__(self) -> None:
            self.task, self._normalized_config = "image-classification", None

        def generate_dummy_inputs(self, **_: Any) -> dict[str, torch.Tensor]:
            return {INPUT_NAME: example_batch()}

        def patch_model_for_export(self, *_: Any, **__: Any) -> Any:
            return contextlib.nullcontext()

    class WithNames(torch.nn.Module):
        def forward(self, image: torch.Tensor) -> dict[str, torch.Tensor]:
            return {OUTPUT_NAME: made.module(image)}

    validate_model_outputs(Config(), WithNames(), made.path, [OUTPUT_NAME], use_subprocess=False)


def accuracy(made: Made, case: Case) -> None:
    """Accuracy on the test set, as Ultralytics measures it: at most 0.2 points lower, our limit for int8.

    https://docs.ultralytics.com/modes/benchmark
    """
    session = session_of(made.path)
    size = session.get_inputs()[0].shape[0]
    found = answered(session, case.images, size if isinstance(size, int) else CHUNK)
    reached, before = ((logits.argmax(axis=1) == case.data.test.labels).mean() for logits in (found, case.logits))
    if not reached >= before - parity.INT8.max_accuracy_drop:
        raise AssertionError(f"accuracy {reached:.2%}, PyTorch's is {before:.2%}")


Way = Callable[[Made, Case], None]
"""Verifies what was made, and raises whatever it raises if it finds a fault."""

WAYS: dict[str, Way] = {
    "PyTorch's tutorial": tutorial,
    "`torch.onnx.testing`": of_program,
    "Optimum": optimum,
    "accuracy": accuracy,
}


def session_of(path: Path, *, optimize: bool = True) -> Any:
    import onnxruntime  # after our runtime, which disables telemetry

    onnxruntime.set_seed(0)  # for an active dropout
    options = onnxruntime.SessionOptions()
    if not optimize:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])


def answered(session: Any, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    return parity.in_batches(lambda part: session.run([OUTPUT_NAME], {INPUT_NAME: part})[0], images, size)


def is_here(way: str) -> bool:
    """Whether what a way needs is installed."""
    if way != "Optimum":
        return True
    return find_spec("optimum") is not None and find_spec("optimum.exporters.onnx") is not None


def refused(way: Way, made: Made, case: Case) -> str | None:
    try:
        way(made, case)
    except Exception as error:  # noqa: BLE001  # every way has its own errors
        first = next(iter(str(error).strip().splitlines()), "")
        return f"{type(error).__name__}: {first}"
    return None
