"""Places to write to and names that cannot be recorded are found before the data are loaded."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from mnist_edge.bundle import places, writing
from mnist_edge.errors import UsageError
from tests.helpers import cli_in_process, fails


def linked(path, target):
    path.symlink_to(target)
    return path


def written(path):
    path.write_text("text")
    return path


PLACES = {
    "a dangling link": lambda folder: linked(folder / "link", folder / "nothing"),
    "below a dangling link": lambda folder: linked(folder / "link", folder / "nothing") / "x",
    "a link to itself": lambda folder: linked(folder / "link", folder / "link"),
    "below a link to itself": lambda folder: linked(folder / "link", folder / "link") / "x",
    "a file": lambda folder: written(folder / "file"),
    "below a file": lambda folder: written(folder / "file") / "x" / "y",
    "a link to a file": lambda folder: linked(folder / "link", written(folder / "file")),
    "a device": lambda folder: "/dev/null",
    "a FIFO": lambda folder: os.mkfifo(folder / "fifo") or folder / "fifo",
    "in /proc": lambda folder: "/proc/new/folder",
    "in /sys": lambda folder: "/sys/new",
    "a long name": lambda folder: folder / ("x" * 256),
    "a long name of two bytes each": lambda folder: folder / ("é" * 128),
    "a long name below a new folder": lambda folder: folder / "new" / ("x" * 300) / "y",
    "a long path": lambda folder: folder / "/".join(["x" * 200] * 25),
    "escapes below a file": lambda folder: f"{written(folder / 'file')}/\x1b[2J\u202e",
}

WORDS = {
    "a link to itself": "is a link that leads to no folder|cannot be used",
    "a dangling link": "is a link that leads to no folder",
    "below a dangling link": "is a link that leads to no folder",
    "in /proc": "cannot be written to",
    "in /sys": "cannot be written to",
    "a long path": "cannot be used .*: choose another --out",
    "a long name": "a name in it is too long",
}

COMMANDS = {
    "train --out": ["train", "--model", "simple-nn", "--out"],
    "train --log-dir": ["train", "--model", "simple-nn", "--out", "new", "--log-dir"],
    "import --out": ["import", "weights.pth", "--model", "simple-nn", "--out"],
    "evaluate --plot": ["evaluate", "cnn-nano", "--plot"],
    "evaluate --mistakes": ["evaluate", "cnn-nano", "--mistakes"],
    "bench --plot": ["bench", "cnn-nano", "--plot"],
    "report --out": ["report", "cnn-nano", "--out"],
    "predict --show": ["predict", "--sample", "--show"],
}


@pytest.fixture
def nothing_slow(monkeypatch):
    """Fail the test if data are loaded, something is measured or a picture is classified."""
    from mnist_edge.data import datasets
    from mnist_edge.runtime.bench import running
    from mnist_edge.runtime.classifier import Classifier

    def fail(*arguments, **options):
        pytest.fail("too late")

    monkeypatch.setattr(datasets, "load", fail)
    monkeypatch.setattr(running, "bench", fail)
    monkeypatch.setattr(Classifier, "predict_each", fail)


@pytest.mark.parametrize("place", PLACES)
def test_a_place_that_is_none(tmp_path, place):
    target = Path(PLACES[place](tmp_path))
    there = sorted(tmp_path.iterdir())
    with pytest.raises(UsageError, match=WORDS.get(place, "--out")):
        places.require_folder(target, "--out")
    with pytest.raises(UsageError):
        places.require_file(target / "file", "--out")
    assert sorted(tmp_path.iterdir()) == there


@pytest.mark.parametrize("place", PLACES)
@pytest.mark.parametrize("command", COMMANDS)
def test_a_place_is_refused_first(tmp_path, nothing_slow, command, place):
    option = command.split()[1]
    target = PLACES[place](tmp_path)
    if command == "report --out" and place in ("a dangling link", "a long name of two bytes each"):
        return  # a report replaces what a link leads to
    result = cli_in_process(*COMMANDS[command], target, "--quiet", cwd=tmp_path)
    fails(result, 2)
    text = result.stderr.decode()
    assert len(text.splitlines()) == 1, text
    assert text.rstrip("\n").isprintable(), text
    assert option in text
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("name", ["x" * 222, "é" * 111])
def test_a_report_needs_room_for_its_temporary_name(tmp_path, nothing_slow, name):
    fails(cli_in_process("report", "cnn-nano", "--out", name, cwd=tmp_path), 2, "its name is too long")
    places.require_file(tmp_path / name[:-1], "--out")
    writing.write_atomically(tmp_path / name[:-1], b"content")


def test_the_room_is_that_of_the_name_in_use(tmp_path, monkeypatch):
    monkeypatch.setattr(writing, "_RANDOM", 20)
    places.require_file(tmp_path / ("x" * 213), "--out")
    with pytest.raises(UsageError, match="its name is too long"):
        places.require_file(tmp_path / ("x" * 214), "--out")


def test_a_drive_that_is_not_there_is_a_usage_error(tmp_path, monkeypatch):
    monkeypatch.setattr(places, "_is_there", lambda path, option: False)  # as on Windows, where no root need be there
    with pytest.raises(UsageError, match=r"there is no /: choose another --out"):
        places.require_folder(tmp_path / "new", "--out")


def test_names_are_counted_as_the_system_does(monkeypatch):
    assert places._length("é" * 128) == 256
    with monkeypatch.context() as patch:
        patch.setattr(os, "name", "nt")
        lengths = [places._length(name) for name in ("é" * 128, "\U0001f600")]
    assert lengths == [128, 2]


def test_no_path_has_a_nul(tmp_path):
    with pytest.raises(UsageError, match="not a path"):
        places.require_folder(tmp_path / "a\0b", "--out")


def test_the_longest_names_are_used(tmp_path):
    longest = tmp_path / ("x" * 255)
    places.require_folder(longest, "--out")
    longest.mkdir()
    places.require_folder(longest, "--out")
    assert [*tmp_path.iterdir()] == [longest]
    assert [*longest.iterdir()] == []
    places.require_file(tmp_path / ("x" * 221), "--out")  # its temporary name has 255
    with pytest.raises(UsageError, match="its name is too long"):
        places.require_file(tmp_path / ("x" * 222), "--out")


def limited(program, *arguments, cwd):
    """Run our command where no file may be larger than nothing, as on a full disk."""
    code = (
        "import resource, sys, tempfile\n"
        "from mnist_edge.cli.main import main\n"
        "resource.setrlimit(resource.RLIMIT_FSIZE, (0, 0))\n"
        "main()\n"
    )
    return subprocess.run(
        [sys.executable, "-c", code, program, *arguments], capture_output=True, timeout=120, check=False, cwd=cwd
    )


def test_a_disk_without_room_is_found_first(tmp_path):
    result = limited("train", "--out", "new", cwd=tmp_path)
    fails(result, 2, "cannot be written to", "choose another --out")
    assert len(result.stderr.splitlines()) == 1
    assert [*tmp_path.iterdir()] == []


@pytest.mark.skipif(not hasattr(os, "geteuid") or os.geteuid() == 0, reason="root may write everywhere")
def test_a_folder_of_others_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    try:
        with pytest.raises(UsageError, match="cannot be written to"):
            places.require_folder(tmp_path / "x", "--out")
    finally:
        tmp_path.chmod(0o700)


def test_an_export_into_a_bundle_that_cannot_be_written_is_refused_first(bundle_copy, nothing_slow, monkeypatch):
    result = limited("export", str(bundle_copy), cwd=bundle_copy.parent)
    fails(result, 2, "cannot be written to")


NOT_UTF8 = os.fsdecode(b"n\xff")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [
        (["train", "--data", NOT_UTF8], 3),
        (["train", "--data", f"{NOT_UTF8}/below"], 3),
        (["import", "weights.pth", "--model", "simple-nn", "--data", NOT_UTF8], 3),
        (["evaluate", "cnn-nano", "--data", NOT_UTF8], 3),
        (["report", "cnn-nano", "--data", NOT_UTF8], 3),
        (["train", "--model", f"{NOT_UTF8}.py:Net"], 2),
        (["train", "--model", "net.py:Net", "--model-args", f"name={NOT_UTF8}"], 2),
        (["train", "--log-dir", NOT_UTF8], 2),
        (["import", f"{NOT_UTF8}.pth", "--model", "simple-nn"], 2),
    ],
    ids=lambda value: " ".join(value).encode(errors="backslashreplace").decode() if isinstance(value, list) else None,
)
def test_a_name_that_no_record_can_hold_is_refused_first(tmp_path, nothing_slow, monkeypatch, arguments, code):
    (tmp_path / NOT_UTF8 / "below").mkdir(parents=True)
    result = cli_in_process(*arguments, "--quiet", cwd=tmp_path)
    fails(result, code, "UTF-8")
    assert [each.name for each in tmp_path.iterdir()] == [NOT_UTF8]


def test_a_folder_of_data_below_such_a_name_is_refused_too(tmp_path, nothing_slow):
    inner = tmp_path / NOT_UTF8
    (inner / "data").mkdir(parents=True)
    fails(cli_in_process("train", "--data", "data", cwd=inner), 3, "is not UTF-8")


def test_what_is_written_may_be_called_anything(bundle_copy, small_idx, tmp_path):
    bundle = bundle_copy.rename(tmp_path / NOT_UTF8)
    for arguments in (
        ["info", bundle],
        ["selftest", bundle, "--json"],
        ["predict", "--sample", "--model", bundle, "--show", f"{NOT_UTF8}-shown"],
        ["evaluate", bundle, "--data", small_idx, "--plot", f"{NOT_UTF8}-plot", "--mistakes", f"{NOT_UTF8}-bad"],
        ["report", bundle, "--data", small_idx],
        ["report", bundle, "--data", small_idx, "--out", f"{NOT_UTF8}.html"],
    ):
        result = cli_in_process(*arguments, cwd=tmp_path)
        assert result.returncode == 0, (arguments, result.stderr)
    page = (tmp_path / f"{NOT_UTF8}.html").read_text(encoding="utf-8")
    assert "n\ufffd" in page
