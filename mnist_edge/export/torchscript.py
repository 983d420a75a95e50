"""TorchScript, traced: for programs that run libtorch. Nothing of ours depends on it at run time.

The traced graph repeats the training's operations one by one instead of folding them: folding alone moves the logits of
`simple-nn` by 9.5e-6, nearly all that the format's tolerance allows.
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
        # trace's own check compares with a second trace; ours, against the model itself, follows on the whole test set.
        torch.jit.save(torch.jit.trace(module, example(), check_trace=False), buffer)
    return buffer.getvalue()


def variants(data: bytes, name: str) -> Mapping[str, Run]:
    """The file's content, ready to run. Raises ModelFormatError."""
    return {"traced": parity.run_module(_load(data, name))}


def check_weights(data: bytes, name: str, trained: Trained) -> None:
    """Every weight in the file must be the trained one, bit for bit. Raises ParityError."""
    stored = _load(data, name).state_dict()
    for key, tensor in RawPixels(trained.model, trained.contract.normalization).state_dict().items():
        if key not in stored or not torch.equal(stored[key], tensor):
            raise ParityError(f"{name}: its weight {key} is not the trained one")


def _load(data: bytes, name: str) -> Any:
    try:
        with _deprecation_ignored():
            return torch.jit.load(io.BytesIO(data), map_location="cpu").eval()
    except (RuntimeError, ValueError) as error:
        raise ModelFormatError(f"{name}: not a TorchScript file that can be read: export it again") from error


@contextlib.contextmanager
def _deprecation_ignored() -> Iterator[None]:
    # Since torch 2.14 all of torch.jit warns. The files are for programs that still want them.
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=DeprecationWarning)
        warnings.filterwarnings("ignore", message=r".*torch\.jit.*", category=FutureWarning)
        yield
