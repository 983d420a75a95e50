"""Traced TorchScript, for programs that run libtorch. mnist-edge's own runtime does not use it.

The traced graph repeats the training's operations one by one instead of folding them. Folding alone moves the logits of
`simple-nn` by 9.5e-6, nearly as much as the format's tolerance allows.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_edge.errors import ExecutionError, ModelFormatError, ParityError, UnsupportedFormatError
from mnist_edge.export import parity
from mnist_edge.export.examples import Examples
from mnist_edge.export.graph import example, raw_pixels
from mnist_edge.export.parity import Run
from mnist_edge.export.refusals import essence, refusals_of

TOLERANCE: Final = parity.TORCHSCRIPT

REMEDY: Final = "leave torchscript out with --formats, or write its forward without what depends on values"


def convert(examples: Examples) -> bytes:
    """The file's content. Raises UnsupportedFormatError if torch cannot trace the model."""
    buffer = io.BytesIO()
    module = raw_pixels(examples.trained)
    with refusals_of("torch.jit.trace", REMEDY):
        # torch's check only compares with a second trace; ours compares with the model itself, on the whole test set.
        traced, other = (torch.jit.trace(module, example(count), check_trace=False) for count in (2, 3))
        torch.jit.save(traced, buffer)
        is_frozen = _operations(traced) != _operations(other)
    if is_frozen:
        raise UnsupportedFormatError(
            "its trace holds for one number of images only, as with len() or a loop over them: use size(0), "
            "or leave torchscript out with --formats"
        )
    return buffer.getvalue()


def _operations(traced: Any) -> list[tuple[str, int, str]]:
    """The operations of a trace, each with the number of its outputs and, if it is a constant, its value.

    They must not depend on how many images it was made with. The trace itself is not tried out: if torch's LSTM has a
    state for fewer images, it writes past the end of its memory.
    """
    graph = traced.inlined_graph  # its nodes die with it
    return [
        (node.kind(), node.outputsSize(), str(node.output().toIValue()) if node.kind() == "prim::Constant" else "")
        for node in graph.nodes()
    ]


def variants(data: bytes, name: str) -> Mapping[str, Run]:
    """The one way to run the file. Raises ModelFormatError."""
    traced = parity.run_module(_load(data, name))

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        try:
            return traced(images)
        except RuntimeError as error:
            raise ExecutionError(f"{name}: torch cannot run it ({essence(error)}): export it again") from error

    return {"traced": run}


def check_weights(data: bytes, name: str, examples: Examples) -> None:
    """Check that every weight is the trained one, bit for bit. Raises ParityError."""
    stored = _load(data, name).state_dict()
    for key, tensor in raw_pixels(examples.trained).state_dict().items():
        if key not in stored or not torch.equal(stored[key], tensor):
            raise ParityError(f"{name}: its weight {key} is not the trained one")


def _load(data: bytes, name: str) -> Any:
    try:
        with _deprecation_ignored():
            return torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise ModelFormatError(f"{name}: not a readable TorchScript file: export it again") from error


@contextlib.contextmanager
def _deprecation_ignored() -> Iterator[None]:
    # Since torch 2.14 all of torch.jit warns. These files are for programs that still need them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=FutureWarning)
        yield
