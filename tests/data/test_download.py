"""Downloads by real processes from real local servers, which fail in every way that they can."""

import contextlib
import gzip
import hashlib
import http.server
import os
import re
import shutil
import signal
import ssl
import subprocess
import sys
import threading
import time
import zipfile
from collections import Counter

import numpy as np
import pytest
from torchvision import datasets as vision

from mnist_edge.data import datasets, download, fetching, idx
from mnist_edge.errors import DataNotFoundError
from tests.helpers import subset, write_idx

FILES = download.MNIST_FILES
LOCK = ".kmnist.lock"


@pytest.fixture
def cache(tmp_path, monkeypatch):
    """An empty user cache, and no checkout."""
    monkeypatch.setattr(download, "cache_folder", lambda name: tmp_path / "cache" / name)
    monkeypatch.setattr(datasets, "CHECKOUT_DATASETS", tmp_path / "no-checkout")
    monkeypatch.setenv("no_proxy", "*")
    return tmp_path / "cache"


class Server(http.server.ThreadingHTTPServer):
    """Serves `content` by file name. Each of the `faults` of a name answers one request instead."""

    def __init__(self, faults=()):
        super().__init__(("127.0.0.1", 0), Handler)
        self.content, self.faults, self.asked = {}, dict(faults), []

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_port}/"

    def handle_error(self, request, client_address):
        """Clients disconnect."""


class Handler(http.server.BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def do_GET(self):
        self.close_connection = True
        name = self.path.rpartition("/")[2]
        self.server.asked.append(self.path)
        faults = self.server.faults.get(name) or self.server.faults.get("*")
        if faults:
            fault = faults.pop(0) if name in self.server.faults else faults[0]
            fault(self)
        else:
            answers_with([self.server.content[name]], length=len(self.server.content[name]))(self)

    def log_message(self, *arguments):
        pass


@contextlib.contextmanager
def serving(faults=()):
    with Server(faults) as server:
        threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True).start()
        yield server
        server.shutdown()


@pytest.fixture
def server():
    with serving() as running:
        yield running


@pytest.fixture
def few(mnist):
    return subset(mnist, train=100, test=50)


@pytest.fixture
def published(few):
    """The files of a small kmnist."""
    arrays = (few.train.images, few.train.labels, few.test.images, few.test.labels)
    return {name: gzip.compress(idx.encode(array)) for name, array in zip(FILES, arrays, strict=True)}


def md5s(published):
    return tuple(hashlib.md5(content).hexdigest() for content in published.values())


@pytest.fixture
def mirror(server, published, monkeypatch):
    """The only mirror, which offers the small kmnist."""
    server.content = dict(published)
    monkeypatch.setattr(download, "MIRRORS", {"kmnist": (server.address,)})
    monkeypatch.setattr(download, "MD5", {"kmnist": md5s(published)})
    return server


def left_in(cache):
    return sorted(path.name for path in cache.iterdir()) if cache.exists() else []


@pytest.mark.parametrize("name", ["fashion-mnist", "kmnist"])
def test_addresses_digests_and_classes_are_torchvisions(name):
    kind = {"fashion-mnist": vision.FashionMNIST, "kmnist": vision.KMNIST}[name]
    assert list(download.MIRRORS[name]) == kind.mirrors
    assert [*zip(FILES, download.MD5[name], strict=True)] == kind.resources
    assert list(download.CLASSES[name]) == kind.classes


def test_addresses_and_digests_of_the_others_are_torchvisions():
    assert list(download.MIRRORS["mnist"]) == vision.MNIST.mirrors
    assert [file for file, _ in vision.MNIST.resources] == list(FILES)
    (qmnist,), (emnist,) = download.MIRRORS["qmnist"], download.MIRRORS["emnist-digits"]
    ours = [(qmnist + file, md5) for file, md5 in zip(download.FILES["qmnist"], download.MD5["qmnist"], strict=True)]
    assert ours == vision.QMNIST.resources["train"] + vision.QMNIST.resources["test"]
    assert [emnist + file for file in download.FILES["emnist-digits"]] == [vision.EMNIST.url]
    assert download.MD5["emnist-digits"] == (vision.EMNIST.md5,)


def test_fetched_once_then_kept(cache, mirror, published, few, monkeypatch):
    told = []
    data = datasets.load("kmnist", on_bytes=lambda *progress: told.append(progress))
    assert data.labels == tuple(vision.KMNIST.classes)
    np.testing.assert_array_equal(data.train.images, few.train.images)
    np.testing.assert_array_equal(data.test.labels, few.test.labels)
    for file, content in published.items():
        assert (f"{mirror.address}{file}", len(content), len(content)) in told
    monkeypatch.setattr(download, "MIRRORS", {"kmnist": ("http://127.0.0.1:9/",)})
    assert datasets.load("kmnist").digests == data.digests
    assert left_in(cache) == [LOCK, "kmnist"]


def test_mnist_itself_is_known_by_what_the_files_decompress_to(cache, server, mnist, monkeypatch):
    """The mirror compressed the files differently."""
    monkeypatch.delenv(datasets.ENVIRONMENT_VARIABLE, raising=False)
    monkeypatch.setattr(download, "MIRRORS", {"mnist": (server.address,)})
    parts = (mnist.train.images, mnist.train.labels, mnist.test.images, mnist.test.labels)
    for file, array in zip(FILES, parts, strict=True):
        server.content[file] = gzip.compress(idx.encode(array), compresslevel=1)
    assert datasets.load().digests == mnist.digests
    shutil.rmtree(cache / "mnist")
    server.content[FILES[3]] = gzip.compress(idx.encode(mnist.test.labels[::-1].copy()))
    with pytest.raises(DataNotFoundError, match=r"t10k-labels-idx1-ubyte\.gz: wrong content"):
        datasets.load()
    assert left_in(cache) == [".mnist.lock"]


def answers_with(content, *, headers=(), pause=0.0, status=200, length=None):
    """A server's response: the head, then the blocks of `content`, each after a pause."""

    def answer(handler):
        handler.send_response(status)
        for header in (*headers, *([] if length is None else [("Content-Length", str(length))])):
            handler.send_header(*header)
        handler.end_headers()
        for block in content:
            time.sleep(pause)
            handler.wfile.write(block)
            handler.wfile.flush()

    return answer


def raw(*blocks, pause=0.0):
    """Bytes that need not be HTTP."""

    def answer(handler):
        for block in blocks:
            handler.wfile.write(block)
            handler.wfile.flush()
            time.sleep(pause)

    return answer


def leads_to(address):
    return answers_with([], headers=[("Location", address)], status=302, length=0)


CHUNKED = ("Transfer-Encoding", "chunked")

BAD_ANSWERS = {
    "404": (answers_with([], status=404), "HTTP Error 404"),
    "500": (answers_with([b"sorry"], status=500), "HTTP Error 500"),
    "truncated": (answers_with([b"abc"], length=5000), "ended after 3 of 5,000 bytes"),
    "a chunk that is cut off": (answers_with([b"ff\r\nabc"], headers=[CHUNKED]), "IncompleteRead"),
    "no last chunk": (answers_with([b"3\r\nabc\r\n"], headers=[CHUNKED]), "IncompleteRead"),
    "a chunk without end": (answers_with([b"zz"], headers=[CHUNKED]), "IncompleteRead"),
    "wrong content": (answers_with([gzip.compress(b"something else")]), "wrong content"),
    "nothing": (answers_with([], length=0), "wrong content"),
    "a page of a hotel's network": (answers_with([b"<html>Please log in</html>"]), "wrong content"),
    "without end": (answers_with([bytes(1_000_000)] * 100), "more than"),
    "said to be too large": (answers_with([], length=10**12), "1,000,000,000,000 bytes, more than"),
    "a length of 5,000 digits": (answers_with([b"abc"], length="9" * 5000), "wrong content"),
    "no answer": (lambda handler: time.sleep(2), "fewer than"),
    "a byte now and then": (answers_with([b"x"] * 1000, pause=0.02), "fewer than"),
    "a header now and then": (raw(b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 99, pause=0.02), "fewer than"),
    "a header's byte now and then": (raw(b"HTTP/1.1 200 OK\r\nA: ", *[b"b"] * 500, pause=0.02), "fewer than"),
    "a chunk's byte now and then": (answers_with([b"0"] * 500, headers=[CHUNKED], pause=0.02), "fewer than"),
    "a redirect loop": (leads_to("/again"), "infinite loop"),
    "a redirect to a file": (leads_to("file:///etc/hostname"), "is not allowed"),
    "a redirect to FTP": (leads_to("ftp://127.0.0.1/file"), "unknown url type: ftp"),
    "a redirect to data": (leads_to("data:,abc"), "is not allowed"),
    "headers without end": (raw(b"HTTP/1.1 200 OK\r\n", *[b"A: b\r\n"] * 1000), "headers"),
    "a line without end": (raw(b"HTTP/1.1 200 OK\r\nA: " + b"b" * 100_000), "line"),
    "nothing that is HTTP": (raw(b"SSH-2.0-OpenSSH\r\n"), "SSH-2.0"),
    "gone at once": (lambda handler: None, ":"),
}


@pytest.mark.parametrize(("answer", "words"), BAD_ANSWERS.values(), ids=BAD_ANSWERS)
def test_a_bad_mirror_leaves_nothing_and_the_next_one_is_asked(cache, mirror, monkeypatch, answer, words):
    monkeypatch.setattr(fetching, "TIMEOUT", 0.3)
    with serving({"*": [answer]}) as bad:
        monkeypatch.setattr(download, "MIRRORS", {"kmnist": (bad.address,)})
        with pytest.raises(DataNotFoundError, match=re.escape(f"{bad.address}{FILES[0]}: ")) as caught:
            datasets.load("kmnist")
        message = str(caught.value)
        assert words in message
        assert "connect to the network once, or give --data" in message
        assert "\n" not in message
        assert len(message) < 600
        assert left_in(cache) == [LOCK]
        monkeypatch.setattr(download, "MIRRORS", {"kmnist": (bad.address, mirror.address)})
        assert len(datasets.load("kmnist").train) == 100


def test_a_file_takes_no_longer_than_it_may(cache, mirror, monkeypatch):
    monkeypatch.setattr(fetching, "LONGEST", 0.3)
    monkeypatch.setattr(fetching, "LEAST", 1)
    mirror.faults = {"*": [answers_with([b"x" * 100] * 500, pause=0.02)]}
    with pytest.raises(DataNotFoundError, match=r"not finished in 0\.3 s"):
        datasets.load("kmnist")


def test_a_connection_that_broke_once_is_tried_again(cache, mirror):
    mirror.faults = {FILES[1]: [BAD_ANSWERS["truncated"][0]]}
    datasets.load("kmnist")
    assert Counter(mirror.asked) == {f"/{file}": 2 if file == FILES[1] else 1 for file in FILES}


def test_redirects_to_http_are_followed(cache, mirror):
    mirror.faults = {FILES[0]: [leads_to(f"/elsewhere/{FILES[0]}")]}
    datasets.load("kmnist")
    assert mirror.asked[:2] == [f"/{FILES[0]}", f"/elsewhere/{FILES[0]}"]


def test_a_file_that_inflates_without_end_is_refused(cache, server, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", {"mnist": (server.address,)})
    server.content[FILES[0]] = gzip.compress(bytes(50_000_000), compresslevel=1)
    with pytest.raises(DataNotFoundError, match="more than 47,040,016 bytes once decompressed"):
        datasets.load("mnist")
    server.content[FILES[0]] = gzip.compress(bytes(1000))[:-9]
    with pytest.raises(DataNotFoundError, match="cut short"):
        datasets.load("mnist")


def test_a_server_whose_certificate_is_not_trusted(cache, mirror, tmp_path, monkeypatch):
    if shutil.which("openssl") is None:
        pytest.skip("needs openssl to make a certificate")
    made = ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes", "-keyout", "key", "-out", "cert"]
    command = ["openssl", "req", "-x509", *made, "-subj", "/CN=localhost"]
    subprocess.run(command, cwd=tmp_path, check=True, capture_output=True)
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "cert", tmp_path / "key")
    with serving() as secure:
        secure.socket = context.wrap_socket(secure.socket, server_side=True)
        address = secure.address.replace("http:", "https:")
        monkeypatch.setattr(download, "MIRRORS", {"kmnist": (address,)})
        with pytest.raises(DataNotFoundError, match="CERTIFICATE_VERIFY_FAILED"):
            datasets.load("kmnist")
        assert secure.asked == []
    no_tls = mirror.address.replace("http:", "https:")
    monkeypatch.setattr(download, "MIRRORS", {"kmnist": (no_tls, mirror.address)})
    datasets.load("kmnist")


def test_a_proxy_is_used(cache, mirror, monkeypatch):
    monkeypatch.delenv("no_proxy")
    monkeypatch.setenv("http_proxy", mirror.address)
    monkeypatch.setattr(download, "MIRRORS", {"kmnist": ("http://mirror.invalid/",)})
    datasets.load("kmnist")
    assert mirror.asked == [f"http://mirror.invalid/{file}" for file in FILES]
    shutil.rmtree(cache)
    mirror.faults = {"*": [answers_with([], status=407)]}
    with pytest.raises(DataNotFoundError, match="HTTP Error 407"):
        datasets.load("kmnist")


def test_a_cache_that_cannot_be_written_to(cache, mirror):
    cache.write_text("a file")
    with pytest.raises(DataNotFoundError, match=r"kmnist: cannot be saved in .*: check its free space and perm"):
        datasets.load("kmnist")
    assert mirror.asked == []


# Real processes

CODE = """
import sys
for name in ("torch", "torchvision", "onnx"):
    sys.modules[name] = None  # not installed
from pathlib import Path
from mnist_edge.cli.main import main
from mnist_edge.data import datasets, download
cache, address, *digests = sys.argv[1:7]
datasets.CHECKOUT_DATASETS = Path(cache, "no-checkout")
download.cache_folder = lambda name: Path(cache, name)
download.MIRRORS["kmnist"] = (address,)
download.MD5["kmnist"] = digests
download.CLASSES.pop("kmnist")  # these are digits
if sys.argv[7:8] == ["limit"]:
    import resource
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, 1000))
sys.argv[1:] = ["evaluate", "cnn", "--data", "kmnist"]
main()
"""


def start(cache, mirror, published, *more):
    """The command line, which downloads kmnist."""
    return subprocess.Popen(
        [sys.executable, "-W", "error", "-c", CODE, cache, mirror.address, *md5s(published), *more],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        env=os.environ | {"no_proxy": "*"},
    )


def until(condition):
    ends = time.monotonic() + 120
    while not condition():
        assert time.monotonic() < ends
        time.sleep(0.02)


def test_eight_processes_fetch_one_copy_from_a_faulty_server(cache, mirror, published, few):
    bad = ("truncated", "500", "wrong content", "a chunk that is cut off")
    mirror.faults = {file: [BAD_ANSWERS[how][0]] for file, how in zip(FILES, bad, strict=True)}
    processes = [start(cache, mirror, published) for _ in range(8)]
    said = [process.communicate(timeout=300)[1] for process in processes]
    assert [process.returncode for process in processes] == [0] * 8, said
    assert Counter(mirror.asked) == {f"/{file}": 2 for file in FILES}
    assert left_in(cache) == [LOCK, "kmnist"]
    assert {path.name: path.read_bytes() for path in (cache / "kmnist").iterdir() if path.suffix == ".gz"} == published


@pytest.mark.skipif(sys.platform == "win32", reason="no lock, so that nobody waits")
def test_one_that_waits_goes_on_when_the_other_dies(cache, mirror, published):
    mirror.faults = {FILES[1]: [lambda handler: time.sleep(300)]}
    with start(cache, mirror, published) as first:
        until(lambda: f"/{FILES[1]}" in mirror.asked)
        assert len(left_in(cache)) == 2  # the lock, and what is being fetched
        with start(cache, mirror, published) as second:
            waiting = next(line for line in second.stderr if "waiting" in line)
            assert waiting == "another process is downloading these data: waiting for it\n"
            first.kill()
            assert second.wait(timeout=300) == 0
    assert left_in(cache) == [LOCK, "kmnist"]


def test_an_interrupted_download_leaves_nothing(cache, mirror, published):
    mirror.faults = {FILES[1]: [lambda handler: time.sleep(300)]}
    with start(cache, mirror, published) as process:
        until(lambda: f"/{FILES[1]}" in mirror.asked)
        process.send_signal(signal.SIGINT)
        _, said = process.communicate(timeout=300)
    assert process.returncode == 130, said
    assert "interrupted" in said
    assert left_in(cache) == [LOCK]


def test_no_mirror_that_works_is_one_line_and_exit_code_3(cache, mirror, published):
    mirror.faults = {"*": [BAD_ANSWERS["404"][0]]}
    with start(cache, mirror, published) as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 3
    (line,) = [line for line in said.splitlines() if line.startswith("error:")]
    assert f"{FILES[0]}: HTTP Error 404" in line
    assert "connect to the network once, or give --data" in line


def test_a_full_disk_is_not_the_mirrors_fault(cache, mirror, published):
    pytest.importorskip("resource")
    with start(cache, mirror, published, "limit") as process:
        _, said = process.communicate(timeout=300)
    assert process.returncode == 3
    assert f"kmnist: cannot be saved in {cache} (File too large): check its free space" in said
    assert len(mirror.asked) == 1
    assert left_in(cache) == [LOCK]


def test_where_nothing_can_be_locked_the_faster_one_wins(cache, mirror, monkeypatch, few):
    """Both fetch it: the second finds the first one's copy in place."""
    monkeypatch.setattr(download, "locked", lambda path, on_busy: contextlib.nullcontext(False))
    (cache / ".kmnist.other.part").mkdir(parents=True)
    mirror.faults = {FILES[0]: [lambda handler: (datasets.load("kmnist"), BAD_ANSWERS["404"][0](handler))]}
    assert datasets.load("kmnist").digests == few.digests
    assert Counter(mirror.asked)[f"/{FILES[0]}"] == 3
    assert left_in(cache) == [".kmnist.lock", ".kmnist.other.part", "kmnist"]


@pytest.mark.parametrize("kept", ["checkout", "cache"])
def test_what_is_there_is_not_fetched(cache, few, tmp_path, monkeypatch, kept):
    monkeypatch.setattr(download, "MIRRORS", {})
    folder = tmp_path / "no-checkout" if kept == "checkout" else cache
    write_idx(folder / "kmnist", few)
    assert datasets.load("kmnist").digests == few.digests


def test_emnist_is_turned_upright(cache, server, few, tmp_path, monkeypatch):
    archive = tmp_path / "gzip.zip"
    with zipfile.ZipFile(archive, "w") as zipped:
        for split, part in (("train", few.train), ("test", few.test)):
            for kind, array in (("images-idx3", part.images.transpose(0, 2, 1)), ("labels-idx1", part.labels)):
                content = gzip.compress(idx.encode(np.ascontiguousarray(array)))
                zipped.writestr(f"gzip/emnist-digits-{split}-{kind}-ubyte.gz", content)
                zipped.writestr(f"gzip/emnist-letters-{split}-{kind}-ubyte.gz", content)
    server.content = {"gzip.zip": archive.read_bytes()}
    monkeypatch.setitem(download.MIRRORS, "emnist-digits", (server.address,))
    monkeypatch.setitem(download.MD5, "emnist-digits", md5s(server.content))
    data = datasets.load("emnist-digits")
    assert data.labels == tuple("0123456789")
    np.testing.assert_array_equal(data.train.images, few.train.images)
    np.testing.assert_array_equal(data.test.labels, few.test.labels)


def test_qmnist_labels_lie_in_the_first_column(cache, server, few, monkeypatch):
    for split, part in (("train", few.train), ("test", few.test)):
        labels = np.zeros((len(part), 8), ">i4")
        labels[:, 0] = part.labels
        labels[:, 1:] = 77
        content = b"\0\0\x0c\x02" + np.array(labels.shape, ">u4").tobytes() + labels.tobytes()
        server.content[f"qmnist-{split}-images-idx3-ubyte.gz"] = gzip.compress(idx.encode(part.images))
        server.content[f"qmnist-{split}-labels-idx2-int.gz"] = gzip.compress(content)
    monkeypatch.setitem(download.MIRRORS, "qmnist", (server.address,))
    monkeypatch.setitem(download.MD5, "qmnist", md5s(server.content))
    data = datasets.load("qmnist")
    assert data.labels == tuple("0123456789")
    assert data.digests == few.digests


def test_without_a_network_the_message_says_so(cache, monkeypatch):
    monkeypatch.setattr(download, "MIRRORS", {"mnist": ("http://127.0.0.1:9/", "http://nowhere.invalid/")})
    with pytest.raises(DataNotFoundError, match="connect to the network once, or give --data") as caught:
        datasets.load("mnist")
    assert "Connection refused" in str(caught.value)
    assert "\n" not in str(caught.value)
    assert left_in(cache) == [".mnist.lock"]
