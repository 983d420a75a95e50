"""A known name means that data set, even beside a file or folder of the same name."""

import io
import json

import pytest

from mnist_edge.cli.data import load_data, load_recorded
from mnist_edge.cli.display import note_if_shadowed
from mnist_edge.data import datasets
from tests.helpers import cli_in_process, subset, write_idx

NOTE = "note: kmnist is taken as a known name; for the file or folder, write ./kmnist"


@pytest.fixture
def two(mnist, tmp_path, monkeypatch):
    """The known kmnist, as in a checkout, and a folder of the same name in the working directory."""
    known, other = subset(mnist, 300, 100), subset(mnist, 200, 50)
    monkeypatch.setattr(datasets, "CHECKOUT_DATASETS", tmp_path / "known")
    write_idx(tmp_path / "known" / "kmnist", known)
    write_idx(tmp_path / "here" / "kmnist", other)
    monkeypatch.chdir(tmp_path / "here")
    monkeypatch.delenv("MNIST_EDGE_DATA", raising=False)
    return known, other


def test_a_bare_word_is_the_name(two, capsys, monkeypatch, tmp_path):
    known, other = two

    def noted():
        return [line for line in capsys.readouterr().err.splitlines() if not line.startswith("loading")]

    assert load_data("kmnist").digests == known.digests
    assert noted() == [NOTE]
    monkeypatch.setenv("MNIST_EDGE_DATA", "kmnist")
    assert load_data(None).digests == known.digests
    assert noted() == [NOTE]
    for path in ("./kmnist", "kmnist/", tmp_path / "here" / "kmnist"):
        assert load_data(str(path)).digests == other.digests
    assert load_recorded("kmnist").digests == known.digests
    monkeypatch.chdir(tmp_path)
    assert load_data("kmnist").digests == known.digests
    assert noted() == []


def test_the_command_says_so_once(two, bundle_dir, tmp_path):
    result = cli_in_process("evaluate", bundle_dir / "model.onnx", "--data", "kmnist", "--json", cwd=tmp_path / "here")
    assert result.stderr.decode().splitlines().count(NOTE) == 1
    assert json.loads(result.stdout)["total"] == 100


def test_a_file_or_a_broken_link_is_told_of_as_well(tmp_path, monkeypatch, capsys):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    (tmp_path / "link").symlink_to("nowhere")
    for name in ("file", "link", "nothing", "./file", ""):
        note_if_shadowed(name, known=name in ("file", "link", "nothing", ""))
    assert [line.split()[1] for line in capsys.readouterr().err.splitlines()] == ["file", "link"]


class _Terminal(io.StringIO):
    def isatty(self):
        return True


@pytest.mark.parametrize("stderr", [_Terminal, io.StringIO])
def test_a_download_is_told_of(mnist, monkeypatch, stderr):
    def load(source, *, on_bytes, on_wait):
        for done in (1_000_000, 2_000_000):
            on_bytes("http://x/a.gz", done, 2_000_000)
        on_bytes("http://x/b.gz", 500_000, None)
        return mnist

    shown = stderr()
    monkeypatch.setattr(datasets, "load", load)
    monkeypatch.setattr("sys.stderr", shown)
    monkeypatch.setenv("TERM", "xterm")
    assert load_recorded("kmnist") is mnist
    if shown.isatty():
        for told in (
            "1.0 of 2.0 MB from http://x/a.gz",
            "2.0 of 2.0 MB from http://x/a.gz",
            "0.5 MB from http://x/b.gz",
        ):
            assert f"fetching {told}" in shown.getvalue()
    else:
        *fetched, end = shown.getvalue().splitlines()
        assert fetched == ["fetching http://x/a.gz", "fetching http://x/b.gz"]
        assert end.startswith("loading data, ")
