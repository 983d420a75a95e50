"""Fixtures. Nothing here imports torch by itself: the tests under tests/runtime run without it."""

import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.make_bundle import EXPECTED, make

# What a shell runs in the background is deaf to Ctrl-C, and so would be the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session")
def bundle_dir(tmp_path_factory) -> Path:
    """A bundle of a small cnn, complete, with PyTorch's answers beside it. Not to be changed: see `bundle_copy`."""
    if ready := os.environ.get("MNIST_EDGE_TEST_BUNDLE"):
        return Path(ready)
    folder = tmp_path_factory.mktemp("bundle") / "cnn"
    make(folder)
    return folder


@pytest.fixture
def bundle_copy(bundle_dir, tmp_path) -> Path:
    """The same bundle, to be broken."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "cnn"))


@pytest.fixture(scope="session")
def expected(bundle_dir):
    """images uint8 [500, 28, 28], their labels, and the PyTorch model's logits."""
    with np.load(bundle_dir / EXPECTED) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def mnist():
    from mnist_edge.training import datasets

    return datasets.load()


@pytest.fixture(scope="session")
def small(mnist):
    """The data that the bundle was trained on."""
    from tests.helpers import subset

    return subset(mnist, train=10_000, test=500)


@pytest.fixture(scope="session")
def small_idx(small, tmp_path_factory) -> Path:
    """The same data as an IDX folder."""
    from tests.helpers import write_idx

    return write_idx(tmp_path_factory.mktemp("data") / "small", small)
