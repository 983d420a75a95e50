"""Small but real bundles for the tests, each made once for all processes of a run.

The tests in tests/runtime need only such a bundle, so given one they run without torch.
"""

import os
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING
from unittest import mock

import numpy as np
from msgspec import structs

if TYPE_CHECKING:
    from mnist_edge.bundle.recipe import Architecture
    from mnist_edge.data.datasets import Dataset

CACHE_VARIABLE = "MNIST_EDGE_TEST_CACHE"
"""Names a folder that several pytest runs share. Only for runs of one commit: nothing in it is made again."""

EXPECTED = "expected.npz"

CHOSEN = 64
"""Images compared at each batch size."""


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """Return the folder. The first process makes it while others wait, and none sees it half made."""
    import fcntl

    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_name(f"{folder.name}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)  # released when the file is closed or its holder dies
        if not folder.exists():
            started = folder.with_name(f"{folder.name}.{os.getpid()}")
            make(started)
            started.rename(folder)
    return folder


def small_data(mnist: "Dataset") -> "Dataset":
    """The data of `make_cnn`.

    After such a short training, int8 flips up to five answers in 10,000, different ones on each processor. The gate
    allows three in 1,000. With 500 test images it would allow only one, and fail on some processor.
    """
    from tests.helpers import subset

    return subset(mnist, train=10_000, test=1000)


def make_cnn(folder: Path) -> None:
    """Make a complete bundle of `cnn`, with PyTorch's logits beside it."""
    import torch

    from mnist_edge.bundle.recipe import Architecture
    from mnist_edge.data import datasets
    from mnist_edge.export import parity, pipeline
    from mnist_edge.training.checkpoint import load
    from mnist_edge.training.models import normalize
    from tests.helpers import quick_recipe, train

    data = small_data(datasets.load())
    train(data, Architecture.CNN, quick_recipe(Architecture.CNN), folder, seed=1)
    with mock.patch.object(parity, "CHOSEN", CHOSEN):
        pipeline.export(folder, data)

    trained = load(folder)
    with torch.inference_mode():
        pixels = torch.tensor(data.test.images[:, None]).float()
        logits = trained.model(normalize(pixels, trained.contract.normalization))
    np.savez(folder / EXPECTED, images=data.test.images, labels=data.test.labels, logits=logits.numpy())


def other_data(mnist: "Dataset", architecture: "Architecture") -> "Dataset":
    """The data of `make_other`."""
    from tests.helpers import subset

    if architecture == "cnn-large":  # seven times as slow as any other
        return subset(mnist, 5000, 1000)
    # More for the fast ones, so that int8 does not by chance flip more answers than the gate allows.
    return subset(mnist, 10_000, 2000 if architecture == "cnn-nano" else 5000)


def make_other(architecture: "Architecture", data: "Dataset", folder: Path) -> None:
    """Make a complete bundle of another architecture."""
    from mnist_edge.export import parity, pipeline
    from tests.helpers import quick_recipe, train

    recipe = quick_recipe(architecture)
    if architecture == "cnn-nano":  # so small that it takes longer to decide clearly
        recipe = structs.replace(recipe, epochs=6, lr=0.1, ema_decay=0.97)
    train(data, architecture, recipe, folder)
    with mock.patch.object(parity, "CHOSEN", CHOSEN):
        pipeline.export(folder, data)
