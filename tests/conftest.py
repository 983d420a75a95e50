"""Fixtures. Nothing here imports torch on import: the tests in tests/runtime run without it."""

import functools
import os
import shutil
import signal
from pathlib import Path

import numpy as np
import pytest

from tests.make_bundle import CACHE_VARIABLE, EXPECTED, make_cnn, make_other, once, other_data, small_data

# A shell makes background jobs ignore SIGINT; the processes that the tests interrupt would inherit that.
signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_collection_modifyitems(items):
    for item in items:
        if Path(__file__).with_name("runtime") in item.path.parents:
            item.add_marker("runtime")
    # Tests without a bundle come first, so that the other workers are busy while one makes it. Within each group slow
    # tests come first: started last, one would run on while the other workers are idle.
    items.sort(key=lambda item: ("bundle_dir" in item.fixturenames, item.get_closest_marker("slow") is None))


@pytest.fixture(scope="module")
def by_gcc():
    """Have C compiled by gcc, whatever ``$CC`` says."""
    if shutil.which("gcc") is None:
        pytest.skip("needs gcc")
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("CC", "gcc")
        yield


@pytest.fixture(scope="session")
def shared_folder(tmp_path_factory) -> Path:
    """Holds what is made once for all workers of this run, or of several runs."""
    if cache := os.environ.get(CACHE_VARIABLE):
        return Path(cache)
    own = tmp_path_factory.getbasetemp()
    return own.parent if "PYTEST_XDIST_WORKER" in os.environ else own


@pytest.fixture(scope="session")
def bundle_dir(shared_folder) -> Path:
    """A complete bundle of a small cnn, with PyTorch's logits beside it. Read-only: to change it, use `bundle_copy`."""
    return once(shared_folder / "cnn", make_cnn)


@pytest.fixture
def bundle_copy(bundle_dir, tmp_path) -> Path:
    """A copy of the bundle that a test may change."""
    return Path(shutil.copytree(bundle_dir, tmp_path / "cnn"))


@pytest.fixture
def cheaper(monkeypatch):
    """Make export and verify compare and quantize with few images, so that they take seconds."""
    from mnist_edge.export import examples, parity

    monkeypatch.setattr(parity, "CHOSEN", 32)
    monkeypatch.setattr(parity, "PROBES", 8)
    monkeypatch.setattr(examples, "TRAINING_IMAGES", 500)


@pytest.fixture(scope="session")
def bundle_of(shared_folder, mnist, bundle_dir, small):
    """Maps an architecture to its complete bundle (read-only) and its data."""

    def find(architecture):
        if architecture == "cnn":
            return bundle_dir, small
        data = other_data(mnist, architecture)
        return once(shared_folder / architecture, functools.partial(make_other, architecture, data)), data

    return find


@pytest.fixture(scope="session")
def expected(bundle_dir):
    """Test images, uint8 [1000, 28, 28], their labels, and the PyTorch model's logits."""
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
