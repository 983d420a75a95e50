"""Small but real bundles for the tests, each made once for all processes of a run.

The tests under tests/runtime need nothing but one of them, so that they also run where there is no torch.
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
"""Names a folder by which several runs of pytest share what they make. Of one commit: nothing in it is made anew."""

EXPECTED = "expected.npz"

LARGE_CHOSEN = 64
"""Images that are compared at each batch size where the model is `cnn-large`."""


def once(folder: Path, make: Callable[[Path], None]) -> Path:
    """The folder, made by who comes first while the others wait, and never seen half made."""
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
    """What `make_cnn` trains on and is tested with.

    Of a model trained so briefly int8 turns up to five answers in 10,000, other ones on each processor. The gate allows
    three in a thousand; of 500 images it would allow one, and fail somewhere.
    """
    from tests.helpers import subset

    return subset(mnist, train=10_000, test=1000)


def make_cnn(folder: Path) -> None:
    """A bundle of `cnn`, complete, and beside it PyTorch's own answers."""
    import torch

    from mnist_edge.bundle.recipe import Architecture
    from mnist_edge.data import datasets
    from mnist_edge.export import pipeline
    from mnist_edge.training.checkpoint import load
    from mnist_edge.training.models import normalize
    from tests.helpers import quick_recipe, train

    data = small_data(datasets.load())
    train(data, Architecture.CNN, quick_recipe(Architecture.CNN), folder, seed=1)
    pipeline.export(folder, data)

    trained = load(folder)
    with torch.inference_mode():
        pixels = torch.tensor(data.test.images[:, None]).float()
        logits = trained.model(normalize(pixels, trained.contract.normalization))
    np.savez(folder / EXPECTED, images=data.test.images, labels=data.test.labels, logits=logits.numpy())


def other_data(mnist: "Dataset", architecture: "Architecture") -> "Dataset":
    """What `make_other` trains on and is tested with."""
    from tests.helpers import subset

    if architecture == "cnn-large":  # seven times as slow as any other
        return subset(mnist, 5000, 1000)
    # Of the quick ones more, lest chance alone turn more of them in int8 than the gate allows.
    return subset(mnist, 10_000, 2000 if architecture == "cnn-nano" else 5000)


def make_other(architecture: "Architecture", data: "Dataset", folder: Path) -> None:
    """A complete bundle of another architecture."""
    from mnist_edge.export import parity, pipeline
    from tests.helpers import quick_recipe, train

    recipe = quick_recipe(architecture)
    if architecture == "cnn-nano":  # so small that its answers are close for long
        recipe = structs.replace(recipe, epochs=6, lr=0.1, ema_decay=0.97)
    train(data, architecture, recipe, folder)
    chosen = LARGE_CHOSEN if architecture == "cnn-large" else parity.CHOSEN
    with mock.patch.object(parity, "CHOSEN", chosen):
        pipeline.export(folder, data)
