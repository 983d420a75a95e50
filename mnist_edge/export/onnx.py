"""ONNX in float32: one self-describing file, with the same bytes for the same weights."""

from collections.abc import Mapping
from typing import Final

import numpy as np
import onnx

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.errors import ParityError
from mnist_edge.export import metadata, parity
from mnist_edge.export.examples import Examples
from mnist_edge.export.onnx_graph import initializers
from mnist_edge.export.parity import Run
from mnist_edge.runtime.model import load

TOLERANCE: Final = parity.FLOAT32


def convert(examples: Examples) -> bytes:
    """The file's content."""
    model = examples.graph()
    onnx.checker.check_model(model, full_check=True)
    return metadata.complete(model, Format.ONNX, examples)


def variants(data: bytes, name: str) -> Mapping[str, Run]:
    """Two ways to run the file: as the runtime does, and without graph optimisation. Raises ModelError."""

    def run(optimize: bool) -> Run:
        session = load(data, name, optimize=optimize).session
        return lambda images: session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]

    return {"optimized": run(optimize=True), "not optimized": run(optimize=False)}


def check_weights(data: bytes, name: str, examples: Examples) -> None:
    """Check that every weight is the trained one after folding, bit for bit. Raises ParityError.

    This also finds a changed weight that hardly moves any image's logits.
    """
    stored = initializers(onnx.load_from_string(data))
    for key, exact in examples.weights.items():
        if key not in stored or not np.array_equal(stored[key], exact):
            raise ParityError(f"{name}: its weight {key} is not the trained one")
