"""Traced TorchScript, for programs that run libtorch. mnist-edge's own runtime does not use it.

The traced graph repeats the training's operations one by one instead of folding them. Folding alone moves the logits of
`simple-nn` by 9.5e-6, nearly as much as the format's tolerance allows.
"""

import contextlib
import io
import warnings
from collections.abc import Iterator, Mapping
from typing import Any, Final

import torch

from mnist_edge.errors import ModelFormatError, ParityError
from mnist_edge.export import parity
from mnist_edge.export.examples import Examples
from mnist_edge.export.graph import RawPixels, example
from mnist_edge.export.parity import Run
from mnist_edge.training.checkpoint import Trained

TOLERANCE: Final = parity.TORCHSCRIPT


def convert(examples: Examples) -> bytes:
    """The file's content."""
    trained = examples.trained
    module = RawPixels(trained.model, trained.contract.normalization).eval()
    buffer = io.BytesIO()
    with _deprecation_ignored():
        # torch's check only compares with a second trace; ours compares with the model itself, on the whole test set.
        torch.jit.save(torch.jit.trace(module, example(), check_trace=False), buffer)
    return buffer.getvalue()


def variants(data: bytes, name: str) -> Mapping[str, Run]:
    """The one way to run the file. Raises ModelFormatError."""
    return {"traced": parity.run_module(_load(data, name))}


def check_weights(data: bytes, name: str, trained: Trained) -> None:
    """Check that every weight is the trained one, bit for bit. Raises ParityError."""
    stored = _load(data, name).state_dict()
    for key, tensor in RawPixels(trained.model, trained.contract.normalization).state_dict().items():
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
