"""Fixtures. Nothing here imports torch by itself: the tests under tests/runtime run without it."""

import functools
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.make_bundle import CACHE_VARIABLE, EXPECTED, make_cnn, make_other, once, other_data, small_data

# What a shell runs in the background is deaf to Ctrl-C, and so would be the programs that the tests interrupt.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).with_name("runtime") in item.path.parents:
            item.add_marker("runtime")
    # First those that need no bundle, so that one worker makes it while the others have something to do. Of either kind
    # the long ones come first: begun last, one would keep its worker at it while the others have nothing left.
    items.sort(key=lambda item: ("bundle_dir" in item.fixturenames, item.get_closest_marker("slow") is None))


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """Where all workers of this run, or of several, find what one of them has made."""
    if cache := os.environ.get(CACHE_VARIABLE):
        return Path(cache)
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def bundle_dir(shared_folder) -> Path:
    """A bundle of a small cnn, complete, with PyTorch's answers beside it. Not to be changed: see `bundle_copy`."""
    return once(shared_folder / "cnn", make_cnn)


@pytest.fixture
def bundle_copy(bundle_dir, tmp_path) -> Path:
    """The same bundle, to be broken."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "cnn"))


@pytest.fixture
def cheaper(monkeypatch):
    """Let export and verify compare and quantize by few images, so that they take seconds."""
    from mnist_edge.export import examples, parity

    monkeypatch.setattr(parity, "CHOSEN", 32)
    monkeypatch.setattr(parity, "PROBES", 8)
    monkeypatch.setattr(examples, "TRAINING_IMAGES", 500)


@pytest.fixture(scope="session")
def bundle_of(shared_folder, mnist, bundle_dir, small):
    """From an architecture to its complete bundle, not to be changed, and its data."""

    def find(architecture):
        if architecture == "cnn":
            return bundle_dir, small
        data = other_data(mnist, architecture)
        return once(shared_folder / architecture, functools.partial(make_other, architecture, data)), data

    return find


@pytest.fixture(scope="session")
def expected(bundle_dir):
    """images uint8 [1000, 28, 28], their labels, and the PyTorch model's logits."""
    with np.load(bundle_dir / EXPECTED) as arrays:
        return dict(arrays)


@pytest.fixture(scope="session")
def mnist():
    from mnist_edge.data import datasets

    return datasets.load()


@pytest.fixture(scope="session")
def small(mnist):
    """The data that the bundle was trained on."""
    return small_data(mnist)


@pytest.fixture(scope="session")
def small_idx(shared_folder, small) -> Path:
    """The same data as an IDX folder."""
    from tests.helpers import write_idx

    return once(shared_folder / "small", functools.partial(write_idx, data=small))
