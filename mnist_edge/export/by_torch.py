"""Open a TorchScript file in a measuring process of `mnist_edge.runtime.bench`, as a program with PyTorch does."""

import io
import warnings
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.runtime.bench.child import Opened


def opened(model: str, _: str) -> Opened:
    """Open a bundle's TorchScript file, on one thread. Raises ModelError."""
    torch.set_num_threads(1)
    data = reading.read_verified(model, Format.TORCHSCRIPT.file_name, reading.read_manifest(model))
    with warnings.catch_warnings(action="ignore"):  # since torch 2.14 all of torch.jit is deprecated
        module = torch.jit.load(io.BytesIO(data), map_location="cpu").eval()

    def logits(images: NDArray[np.uint8]) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return Opened(logits, use_threads=torch.set_num_threads)
