"""The hint for a missing package contains a command that works; pip itself checks it."""

import base64
import hashlib
import json
import shlex
import subprocess
import sys
import zipfile

import pytest

from mnist_edge import extras
from mnist_edge.errors import MissingExtraError

METADATA = "Metadata-Version: 2.1\nName: mnist-edge\nVersion: 9\nProvides-Extra: train\n"

BACKEND = """
from pathlib import Path

def prepare_metadata_for_build_wheel(folder, settings=None):
    info = Path(folder) / "mnist_edge-9.dist-info"
    info.mkdir()
    (info / "METADATA").write_text({metadata!r})
    (info / "WHEEL").write_text("Wheel-Version: 1.0\\nGenerator: x\\nRoot-Is-Purelib: true\\nTag: py3-none-any\\n")
    return info.name

prepare_metadata_for_build_editable = prepare_metadata_for_build_wheel

def build_wheel(folder, settings=None, metadata=None):
    raise NotImplementedError

build_editable = build_wheel
"""


def write_checkout(folder):
    folder.mkdir(parents=True)
    (folder / "pyproject.toml").write_text(
        '[build-system]\nrequires = []\nbuild-backend = "backend"\nbackend-path = ["."]\n'
    )
    (folder / "backend.py").write_text(BACKEND.format(metadata=METADATA))
    return folder


def write_wheel(path):
    files = {
        "mnist_edge-9.dist-info/METADATA": METADATA,
        "mnist_edge-9.dist-info/WHEEL": "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    digests = {
        name: base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).decode().rstrip("=")
        for name, text in files.items()
    }
    record = "".join(f"{name},sha256={digest},{len(files[name])}\n" for name, digest in digests.items())
    path.parent.mkdir(parents=True)
    with zipfile.ZipFile(path, "w") as wheel:
        for name, text in files.items():
            wheel.writestr(name, text)
        wheel.writestr("mnist_edge-9.dist-info/RECORD", record + "mnist_edge-9.dist-info/RECORD,,\n")
    return path


@pytest.fixture
def installed(tmp_path, monkeypatch):
    """Pretend that pip installed mnist-edge, with this content of direct_url.json; None for no such file."""

    def install(record):
        info = tmp_path / "site" / "mnist_edge-9.dist-info"
        info.mkdir(parents=True)
        (info / "METADATA").write_text(METADATA)
        if record is not None:
            (info / "direct_url.json").write_text(record if isinstance(record, str) else json.dumps(record))
        monkeypatch.syspath_prepend(tmp_path / "site")

    return install


def hint():
    with pytest.raises(MissingExtraError) as caught:
        extras.require("no_such_module", extra="train")
    return str(caught.value)


def accepted_by_pip(command, cwd=None):
    """What pip says a command would install, without network access."""
    program, *arguments = shlex.split(command)
    assert program == "pip"
    options = ["--dry-run", "--no-index", "--no-deps", "--no-build-isolation", "--ignore-installed"]
    result = subprocess.run(
        [sys.executable, "-m", "pip", "--disable-pip-version-check", *arguments, *options],
        cwd=cwd,
        capture_output=True,
        text=True,
        check=False,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.splitlines()[-1]


@pytest.mark.parametrize("name", ["checkout", "with a blank, it's [one]"])
@pytest.mark.parametrize("kind", ["checkout", "editable", "wheel"])
def test_the_command_installs_from_where_the_package_came(installed, tmp_path, kind, name):
    if kind == "wheel":
        path = write_wheel(tmp_path / name / "mnist_edge-9-py3-none-any.whl")
        installed({"url": path.as_uri(), "archive_info": {"hash": "sha256=1"}})
    else:
        path = write_checkout(tmp_path / name)
        installed({"url": path.as_uri(), "dir_info": {"editable": True} if kind == "editable" else {}})
    before, command = hint().split(": run  ")
    assert before == "no_such_module is not installed"
    wanted = ["pip", "install", *(["--editable"] if kind == "editable" else []), f"{path}[train]"]
    assert shlex.split(command) == wanted
    assert accepted_by_pip(command) == "Would install mnist-edge-9"


@pytest.mark.parametrize(
    "record",
    [
        None,
        "not JSON",
        "[]",
        "{}",
        {"url": 7},
        {"url": "file:///no/such/checkout", "dir_info": {}},
        {"url": "file:///no/such/mnist_edge-9-py3-none-any.whl", "archive_info": {}},
        {"url": "https://example.org/mnist_edge-9-py3-none-any.whl", "archive_info": {}},
        {"url": "file:///", "dir_info": {}},
    ],
    ids=str,
)
def test_where_that_is_not_known_a_checkout_is_named(installed, record):
    installed(record)
    assert hint() == "no_such_module is not installed: in a checkout of mnist-edge run  pip install '.[train]'"


def test_pip_takes_that_command_in_a_checkout(tmp_path):
    checkout = write_checkout(tmp_path / "checkout")
    assert accepted_by_pip("pip install '.[train]'", cwd=checkout) == "Would install mnist-edge-9"
