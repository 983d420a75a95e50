"""Downloads through the real torchvision, from mirrors that stand on this machine."""

import functools
import gzip
import hashlib
import http.server
import threading
import zipfile

import numpy as np
import pytest
from torchvision import datasets as vision

from mnist_edge.errors import DataNotFoundError, MissingExtraError
from mnist_edge.training import datasets, download, idx
from tests.helpers import subset


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """A user's cache, empty, and no checkout to look in."""
    monkeypatch.setattr(download, "cache_folder", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(datasets, "CHECKOUT_DATASETS", tmp_path / "no-checkout")
    return tmp_path / "cache"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """The folder tmp_path/mirror over HTTP: its address."""
    (tmp_path / "mirror").mkdir()
    handler = functools.partial(_Quiet, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def few(mnist):
    return subset(mnist, train=100, test=50)


def publish(folder, name, content):
    (folder / name).write_bytes(content)
    return name, hashlib.md5(content).hexdigest()


@pytest.fixture
def resources(server, tmp_path, few):
    """The four files of a small data set, as MNIST's mirrors offer them: name and MD5 of each."""
    folder = tmp_path / "mirror"
    arrays = (few.train.images, few.train.labels, few.test.images, few.test.labels)
    names = ("train-images-idx3", "train-labels-idx1", "t10k-images-idx3", "t10k-labels-idx1")
    files = zip(names, arrays, strict=True)
    return [publish(folder, f"{n}-ubyte.gz", gzip.compress(idx.encode(a))) for n, a in files]


@pytest.mark.parametrize(
    ("name", "kind", "labels"),
    [
        ("fashion-mnist", "FashionMNIST", tuple(vision.FashionMNIST.classes)),
        ("kmnist", "KMNIST", tuple(vision.KMNIST.classes)),
    ],
)
def test_fetched_once_then_kept(cache, server, resources, few, monkeypatch, name, kind, labels):
    monkeypatch.setattr(getattr(vision, kind), "mirrors", [server])
    monkeypatch.setattr(getattr(vision, kind), "resources", resources)
    data = datasets.load(name)
    assert data.labels == labels
    np.testing.assert_array_equal(data.train.images, few.train.images)
    np.testing.assert_array_equal(data.test.labels, few.test.labels)
    monkeypatch.setattr(getattr(vision, kind), "mirrors", ["http://127.0.0.1:9/"])
    assert datasets.load(name).digests == data.digests
    assert [path.name for path in cache.iterdir()] == [name]


def test_emnist_is_turned_upright(cache, server, few, tmp_path, monkeypatch):
    archive = tmp_path / "mirror" / "gzip.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for split, part in (("train", few.train), ("test", few.test)):
            for kind, array in (("images-idx3", part.images.transpose(0, 2, 1)), ("labels-idx1", part.labels)):
                content = gzip.compress(idx.encode(np.ascontiguousarray(array)))
                zipped.writestr(f"gzip/emnist-digits-{split}-{kind}-ubyte.gz", content)
                for other in set(vision.EMNIST.splits) - {"digits"}:  # torchvision insists on all of them
                    zipped.writestr(f"gzip/emnist-{other}-{split}-{kind}-ubyte.gz", content)
    monkeypatch.setattr(vision.EMNIST, "url", server + "gzip.zip")
    monkeypatch.setattr(vision.EMNIST, "md5", hashlib.md5(archive.read_bytes()).hexdigest())
    data = datasets.load("emnist-digits")
    assert data.labels == tuple("0123456789")
    np.testing.assert_array_equal(data.train.images, few.train.images)


def test_qmnist_labels_lie_in_the_first_column(cache, server, few, tmp_path, monkeypatch):
    resources = {}
    for split, part in (("train", few.train), ("test", few.test)):
        labels = np.zeros((len(part), 8), ">i4")
        labels[:, 0] = part.labels
        labels[:, 1:] = 77
        content = b"\0\0\x0c\x02" + np.array(labels.shape, ">u4").tobytes() + labels.tobytes()
        files = (
            (f"qmnist-{split}-images-idx3-ubyte.gz", idx.encode(part.images)),
            (f"qmnist-{split}-labels-idx2-int.gz", content),
        )
        published = [publish(tmp_path / "mirror", file, gzip.compress(raw)) for file, raw in files]
        resources[split] = [(server + file, md5) for file, md5 in published]
    monkeypatch.setattr(vision.QMNIST, "resources", resources)
    data = datasets.load("qmnist")
    assert data.labels == tuple("0123456789")
    np.testing.assert_array_equal(data.test.labels, few.test.labels)


def test_without_a_network_the_message_says_so(cache, monkeypatch):
    monkeypatch.setattr(vision.MNIST, "mirrors", ["http://127.0.0.1:9/"])
    with pytest.raises(DataNotFoundError, match="connect to the network once, or give --data") as caught:
        datasets.load("mnist")
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


def test_without_torchvision_the_message_has_the_command(cache, monkeypatch):
    import sys

    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'mnist-edge\[train\]'"):
        datasets.load("kmnist")
