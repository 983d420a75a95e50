"""Downloads with the standard library and through the real torchvision, from local mirrors."""

import contextlib
import functools
import gzip
import hashlib
import http.server
import re
import shutil
import sys
import threading
import time
import zipfile

import numpy as np
import pytest
from torchvision import datasets as vision

from mnist_edge import extras
from mnist_edge.data import datasets, download, idx
from mnist_edge.data.idx_folders import IDX_FILES
from mnist_edge.errors import DataNotFoundError, MissingExtraError
from tests.helpers import subset, write_idx


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty user cache, and no checkout."""
    monkeypatch.setattr(download, "cache_folder", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(datasets, "CHECKOUT_DATASETS", tmp_path / "no-checkout")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def server(tmp_path):
    """Serves the folder tmp_path/mirror over HTTP; returns its address."""
    (tmp_path / "mirror").mkdir()
    handler = functools.partial(_Quiet, directory=tmp_path / "mirror")
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/"
        running.shutdown()


@pytest.fixture
def few(mnist):
    return subset(mnist, train=100, test=50)


def publish(folder, name, content):
    (folder / name).write_bytes(content)
    return name, hashlib.md5(content).hexdigest()


@pytest.fixture
def mirror(server, tmp_path, few, monkeypatch):
    """The folder of the only mirror, which offers a small kmnist."""
    folder = tmp_path / "mirror"
    arrays = (few.train.images, few.train.labels, few.test.images, few.test.labels)
    published = [publish(folder, f"{n}.gz", gzip.compress(idx.encode(a))) for n, a in zip(FILES, arrays, strict=True)]
    monkeypatch.setattr(download, "MIRRORS", {"kmnist": (server,)})
    monkeypatch.setattr(download, "MD5", {"kmnist": tuple(md5 for _, md5 in published)})
    return folder


FILES = [file for pair in IDX_FILES.values() for file in pair]


@pytest.mark.parametrize(("name", "kind"), [("fashion-mnist", vision.FashionMNIST), ("kmnist", vision.KMNIST)])
def test_addresses_digests_and_classes_are_torchvisions(name, kind):
    assert list(download.MIRRORS[name]) == kind.mirrors
    assert [*zip([f"{file}.gz" for file in FILES], download.MD5[name], strict=True)] == kind.resources
    assert list(download.CLASSES[name]) == kind.classes
    assert list(download.MIRRORS["mnist"]) == vision.MNIST.mirrors
    assert vision.MNIST.resources == [
        (f"{file}.gz", md5) for file, (_, md5) in zip(FILES, vision.MNIST.resources, strict=True)
    ]


def test_fetched_once_then_kept(cache, server, mirror, few, monkeypatch):
    told = []
    data = datasets.load("kmnist", on_bytes=lambda *progress: told.append(progress))
    assert data.labels == tuple(vision.KMNIST.classes)
    np.testing.assert_array_equal(data.train.images, few.train.images)
    np.testing.assert_array_equal(data.test.labels, few.test.labels)
    for file in FILES:
        size = (mirror / f"{file}.gz").stat().st_size
        assert (f"{server}{file}.gz", size, size) in told
    monkeypatch.setattr(download, "MIRRORS", {"kmnist": ("http://127.0.0.1:9/",)})
    assert datasets.load("kmnist").digests == data.digests
    assert [path.name for path in cache.iterdir()] == ["kmnist"]


def test_mnist_itself_is_known_by_what_the_files_decompress_to(cache, server, mnist, tmp_path, monkeypatch):
    """The mirror compressed the files differently."""
    monkeypatch.delenv(datasets.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(download, "MIRRORS", {"mnist": (server,)})
    parts = (mnist.train.images, mnist.train.labels, mnist.test.images, mnist.test.labels)
    for file, array in zip(FILES, parts, strict=True):
        publish(tmp_path / "mirror", f"{file}.gz", gzip.compress(idx.encode(array), compresslevel=1))
    assert datasets.load().digests == mnist.digests
    shutil.rmtree(cache / "mnist")
    publish(tmp_path / "mirror", f"{FILES[3]}.gz", gzip.compress(idx.encode(mnist.test.labels[::-1].copy())))
    with pytest.raises(DataNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz: wrong content"):
        datasets.load()
    assert list(cache.iterdir()) == []


def answers_with(content, *, headers=(), pause=0.0, status=200):
    """A server's response: the head, then the blocks of `content`, each after a pause."""

    def answer(handler):
        handler.send_response(status)
        for header in headers:
            handler.send_header(*header)
        handler.end_headers()
        for block in content:
            time.sleep(pause)
            handler.wfile.write(block)
            handler.wfile.flush()

    return answer


BAD_ANSWERS = {
    "404": (answers_with([], status=404), "HTTP Error 404"),
    "500": (answers_with([b"sorry"], status=500), "HTTP Error 500"),
    "truncated": (answers_with([b"abc"], headers=[("Content-Length", "5000")]), "ended after 3 of 5,000 bytes"),
    "wrong content": (answers_with([gzip.compress(b"something else")]), "wrong content"),
    "a page of a hotel's network": (answers_with([b"<html>Please log in</html>"]), "wrong content"),
    "too large": (answers_with([bytes(1_000_000)] * 200), "more than"),
    "no answer": (lambda handler: time.sleep(2), "timed out"),
    "a byte now and then": (answers_with([b"x"] * 1000, pause=0.02), "fewer than"),
    "nothing that is HTTP": (lambda handler: handler.wfile.write(b"SSH-2.0-OpenSSH\r\n"), "SSH-2.0"),
    "gone at once": (lambda handler: None, ":"),
}


@pytest.mark.parametrize(("answer", "words"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_mirror_leaves_nothing_and_the_next_one_is_asked(cache, server, mirror, monkeypatch, answer, words):
    class Bad(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            with contextlib.suppress(OSError):  # the client has disconnected
                answer(self)

        def log_message(self, *arguments):
            pass

    monkeypatch.setattr(download, "TIMEOUT", 0.3)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), Bad) as bad:
        threading.Thread(target=bad.serve_forever, args=(0.02,), daemon=True).start()
        address = f"http://127.0.0.1:{bad.server_port}/"
        monkeypatch.setattr(download, "MIRRORS", {"kmnist": (address,)})
        with pytest.raises(DataNotFoundError, match=re.escape(f"{address}{FILES[0]}.gz: ")) as caught:
            datasets.load("kmnist")
        message = str(caught.value)
        assert words in message
        assert "connect to the network once, or give --data" in message
        assert "\n" not in message
        assert list(cache.iterdir()) == []
        monkeypatch.setattr(download, "MIRRORS", {"kmnist": (address, server)})
        assert len(datasets.load("kmnist").train) == 100
        bad.shutdown()


def test_a_file_that_inflates_without_end_is_refused(cache, server, mirror, monkeypatch):
    monkeypatch.setattr(download, "MOST", 1_000_000)
    monkeypatch.setattr(download, "MIRRORS", {"mnist": (server,)})
    publish(mirror, f"{FILES[0]}.gz", gzip.compress(bytes(2_000_000)))
    with pytest.raises(DataNotFoundError, match="cut short, or too large once decompressed"):
        datasets.load("mnist")


def test_a_cache_that_cannot_be_written_to(cache, mirror):
    cache.write_text("a file")
    with pytest.raises(DataNotFoundError, match=r"kmnist: cannot be saved in .*: check its free space and perm"):
        datasets.load("kmnist")


@pytest.mark.parametrize("kept", ["checkout", "cache"])
def test_what_is_there_is_not_fetched(cache, few, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(download, "MIRRORS", {})
    folder = tmp_path / "no-checkout" if kept == "checkout" else cache
    write_idx(folder / "kmnist", few)
    assert datasets.load("kmnist").digests == few.digests


def test_emnist_is_turned_upright(cache, server, few, tmp_path, monkeypatch):
    archive = tmp_path / "mirror" / "gzip.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for split, part in (("train", few.train), ("test", few.test)):
            for kind, array in (("images-idx3", part.images.transpose(0, 2, 1)), ("labels-idx1", part.labels)):
                content = gzip.compress(idx.encode(np.ascontiguousarray(array)))
                zipped.writestr(f"gzip/emnist-digits-{split}-{kind}-ubyte.gz", content)
                for other in set(vision.EMNIST.splits) - {"digits"}:  # torchvision requires all of them
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
    monkeypatch.setattr(download, "MIRRORS", {"mnist": ("http://127.0.0.1:9/", "http://nowhere.invalid/")})
    with pytest.raises(DataNotFoundError, match="connect to the network once, or give --data") as caught:
        datasets.load("mnist")
    assert "Connection refused" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert list(cache.iterdir()) == []


@pytest.mark.parametrize("name", ["qmnist", "emnist-digits"])
def test_without_torchvision_the_message_has_the_command(cache, monkeypatch, name):
    monkeypatch.setitem(sys.modules, "torchvision.datasets", None)
    with pytest.raises(MissingExtraError, match=re.escape(extras.to_install("train"))):
        datasets.load(name)
    assert list(cache.iterdir()) == []
