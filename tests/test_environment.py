"""`scripts/environment` installs PyTorch's build for CPUs where it should, from a local index of empty packages."""

import base64
import functools
import hashlib
import http.server
import os
import platform
import shutil
import socket
import subprocess
import sys
import threading
import time
import zipfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.skipif(
    platform.system() != "Linux" or Path("/proc/driver/nvidia").exists() or shutil.which("nvidia-smi") is not None,
    reason="needs Linux without an NVIDIA driver",
)

PROJECT = """
[build-system]
requires = []
build-backend = "backend"
backend-path = ["."]

[project]
name = "project"
version = "1"

[project.optional-dependencies]
train = ["onnx>=1.18", "torch>=2.9", "torchvision>=0.24"]
"""

BACKEND = """
import shutil

def build_editable(folder, settings=None, metadata=None):
    return shutil.copy("project-1-py3-none-any.whl", folder).rpartition("/")[2]
"""


def write_wheel(folder, name, version, *requirements):
    folder.mkdir(parents=True, exist_ok=True)
    information = f"{name}-{version}.dist-info"
    metadata = f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\nProvides-Extra: train\nProvides-Extra: dev\n"
    files = {
        f"{information}/METADATA": metadata + "".join(f"Requires-Dist: {each}\n" for each in requirements),
        f"{information}/WHEEL": "Wheel-Version: 1.0\nGenerator: test\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        path: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
        for path, text in files.items()
    }
    files[f"{information}/RECORD"] = "".join(f"{path},sha256={digest},\n" for path, digest in digests.items())
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as archive:
        for path, text in files.items():
            archive.writestr(path, text)


class Quiet(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *arguments):
        pass


@pytest.fixture(scope="module")
def indexes(tmp_path_factory):
    """The address of a server with two package indexes, ``cpu`` and ``pypi``."""
    root = tmp_path_factory.mktemp("indexes")
    for name in ("torch", "torchvision"):
        write_wheel(root / "cpu" / name, name, "9.0+cpu")
        write_wheel(root / "pypi" / name, name, "9.0")
    write_wheel(root / "pypi" / "onnx", "onnx", "2.0")
    handler = functools.partial(Quiet, directory=str(root))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()


@pytest.fixture
def checkout(tmp_path):
    root = tmp_path / "checkout"
    (root / "scripts").mkdir(parents=True)
    shutil.copy(Path(__file__).parents[1] / "scripts" / "environment", root / "scripts")
    (root / "pyproject.toml").write_text(PROJECT)
    (root / "backend.py").write_text(BACKEND)
    extra = [f"{name}; extra == 'train'" for name in ("onnx>=1.18", "torch>=2.9", "torchvision>=0.24")]
    write_wheel(root, "project", "1", *extra)
    return root


def run(checkout, code, **environment):
    """Run a bash script in the checkout: what `scripts/environment` says on stderr, and what the script prints."""
    kept = {
        name: value
        for name, value in os.environ.items()
        if not name.startswith(("PIP_", "MNIST_EDGE_", "PYTHON")) and not name.lower().endswith("_proxy")
    }
    result = subprocess.run(
        ["bash", "-euo", "pipefail", "-c", code],
        cwd=checkout,
        env={**kept, "PIP_CONFIG_FILE": os.devnull, "PYTHON": sys.executable, **environment},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    said = [line for line in result.stderr.splitlines() if line.startswith(("Installing into", "PyTorch: "))]
    return said, result.stdout.splitlines()


def install(checkout, indexes, **environment):
    """Source `scripts/environment`; prints the versions that are installed then."""
    show = 'import importlib.metadata as m; print(*(m.version(n) for n in ("torch", "torchvision", "onnx", "project")))'
    code = f"source scripts/environment; python -c '{show}'"
    return run(checkout, code, PIP_INDEX_URL=f"{indexes}/pypi", **environment)


def choose(checkout, **environment):
    """Only choose between the builds; nothing is installed unless it is the build for CPUs."""
    functions, _ = (checkout / "scripts" / "environment").read_text().split("\nif ! cmp")
    (checkout / "scripts" / "functions").write_text(f"{functions}\ninstall_cpu_torch")
    said, _ = run(checkout, "source scripts/functions", **environment)
    return said


CPU, DEFAULT = ["9.0+cpu 9.0+cpu 2.0 1"], ["9.0 9.0 2.0 1"]


@pytest.mark.long
@pytest.mark.slow
def test_the_build_for_cpus_is_installed_once(checkout, indexes):
    said, installed = install(checkout, indexes, MNIST_EDGE_TORCH_INDEX=f"{indexes}/cpu")
    assert said[1:] == ["PyTorch: the build for CPUs, because there is no NVIDIA driver"]
    assert installed == CPU
    assert install(checkout, indexes) == ([], CPU)
    (checkout / "pyproject.toml").write_text(f"{PROJECT}\n")
    said, installed = install(checkout, indexes)
    assert len(said) == 1  # refreshed, but PyTorch is there already
    assert installed == CPU


@pytest.mark.long
@pytest.mark.slow
def test_an_index_without_a_suitable_build(checkout, indexes):
    (checkout / "pyproject.toml").write_text(PROJECT.replace("torch>=2.9", "torch>=2.9,!=9.0+cpu"))
    said, installed = install(checkout, indexes, MNIST_EDGE_TORCH_INDEX=f"{indexes}/cpu")
    assert said[2:] == ["PyTorch: the default build, because the build for CPUs could not be installed"]
    assert installed == DEFAULT


@pytest.mark.parametrize(
    ("index", "reason"),
    [
        ("", "MNIST_EDGE_TORCH_INDEX is empty"),
        ("{indexes}/nothing", "{indexes}/nothing does not answer"),
        ("http://nowhere.invalid", "http://nowhere.invalid does not answer"),
    ],
)
def test_without_an_index_it_is_the_default_build(checkout, indexes, index, reason):
    said = choose(checkout, MNIST_EDGE_TORCH_INDEX=index.format(indexes=indexes))
    assert said == [f"PyTorch: the default build, because {reason.format(indexes=indexes)}"]


def test_with_a_driver_it_is_the_default_build(checkout, indexes, tmp_path):
    (tmp_path / "nvidia-smi").write_text("#!/bin/sh\n")
    (tmp_path / "nvidia-smi").chmod(0o755)
    path = f"{tmp_path}:{os.environ['PATH']}"
    said = choose(checkout, MNIST_EDGE_TORCH_INDEX=f"{indexes}/cpu", PATH=path)
    assert said == ["PyTorch: the default build, because there is an NVIDIA driver"]


def test_a_silent_index_gets_three_seconds(checkout):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        index = f"http://127.0.0.1:{silent.getsockname()[1]}"
        start = time.monotonic()
        said = choose(checkout, MNIST_EDGE_TORCH_INDEX=index)
    assert 3 <= time.monotonic() - start < 6
    assert said == [f"PyTorch: the default build, because {index} does not answer"]
