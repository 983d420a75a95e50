"""`mnist-edge evaluate` on the base install, without torch and torchvision, on data that it downloads itself."""

import functools
import gzip
import hashlib
import http.server
import json
import sys
import threading
from pathlib import Path

import numpy as np
import pytest

from mnist_edge.data import idx
from mnist_edge.data.idx_folders import IDX_FILES
from tests.helpers import cli_in_process, fails, run_python

CODE = """
import sys
for name in ("torch", "torchvision", "onnx", "onnxscript", "matplotlib"):
    sys.modules[name] = None  # not installed
from pathlib import Path
from mnist_edge.cli.main import main
from mnist_edge.data import datasets, download
mirror, no_checkout, *digests = sys.argv[1:7]
datasets.CHECKOUT_DATASETS = Path(no_checkout)
download.MIRRORS["mnist"] = (mirror,)
download.MNIST_DIGESTS = dict(zip(download.MNIST_DIGESTS, digests))
sys.argv[1:] = sys.argv[7:]
main()
"""


class _Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture
def mirror(tmp_path, expected):
    """Serves a few MNIST images under its file names over HTTP: the address and the files' digests."""
    folder = tmp_path / "mirror"
    folder.mkdir()
    digests = []
    for images_file, labels_file in IDX_FILES.values():
        for file, array in ((images_file, expected["images"]), (labels_file, expected["labels"])):
            content = idx.encode(array.astype(np.uint8))
            (folder / f"{file}.gz").write_bytes(gzip.compress(content))
            digests.append(hashlib.sha256(content).hexdigest())
    handler = functools.partial(_Quiet, directory=folder)
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as running:
        threading.Thread(target=running.serve_forever, args=(0.02,), daemon=True).start()
        yield f"http://127.0.0.1:{running.server_port}/", digests
        running.shutdown()


def test_the_data_are_fetched_once(bundle_dir, expected, mirror, tmp_path):
    address, digests = mirror
    cache = {"XDG_CACHE_HOME": str(tmp_path / "cache"), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path)}
    cache |= {"no_proxy": "*", "MNIST_EDGE_DATA": None}
    command = ["evaluate", bundle_dir / "model.onnx", "--data", "mnist", "--json"]
    first = run_python(CODE, address, tmp_path / "none", *digests, *command, **cache)
    assert first.returncode == 0, first.stderr
    found = json.loads(first.stdout)
    right = (expected["logits"].argmax(axis=1) == expected["labels"]).sum()
    assert (found["correct"], found["total"]) == (right, len(expected["labels"]))
    files = [f"{file}.gz" for pair in IDX_FILES.values() for file in pair]
    fetched = [line for line in first.stderr.splitlines() if line.startswith("fetching")]
    assert fetched == [f"fetching {address}{file}" for file in files]
    again = run_python(CODE, "http://127.0.0.1:9/", tmp_path / "none", *digests, *command, **cache)
    assert (again.returncode, again.stdout) == (0, first.stdout)
    assert "fetching" not in again.stderr


def test_without_a_network(bundle_dir, tmp_path):
    cache = {"XDG_CACHE_HOME": str(tmp_path), "HOME": str(tmp_path), "LOCALAPPDATA": str(tmp_path), "no_proxy": "*"}
    command = ["evaluate", bundle_dir / "model.onnx", "--data", "mnist"]
    result = run_python(CODE, "http://127.0.0.1:9/", tmp_path / "none", *"abcd", *command, **cache)
    assert result.returncode == 3
    line = result.stderr.splitlines()[-1]
    assert line.startswith("error: mnist: not in the cache and cannot be downloaded (http://127.0.0.1:9/")
    assert line.endswith("or give --data with a folder that holds the four IDX files")


def test_the_cache_is_where_the_platform_says():
    from mnist_edge.data.download import cache_folder

    assert cache_folder("kmnist").parts[-2:] == ("datasets", "kmnist")
    if sys.platform == "linux":
        found = run_python(
            "from mnist_edge.data.download import cache_folder; print(cache_folder('mnist'))", XDG_CACHE_HOME="/x"
        )
        assert Path(found.stdout.strip()) == Path("/x/mnist-edge/datasets/mnist")


@pytest.mark.parametrize(
    ("file", "form", "message"),
    [
        ("model.pth", "onnx", "model.pth: is not onnx: leave the format out, or give the bundle"),
        ("model.torchscript", "onnx", "model.torchscript: is not onnx: leave the format out, or give the bundle"),
        ("model.onnx", "int8-static", "model.onnx: is onnx, not int8-static: leave the format out"),
    ],
)
def test_a_file_that_has_another_format_is_refused(bundle_dir, file, form, message):
    fails(cli_in_process("evaluate", bundle_dir / file, "--format", form), 2, message)
