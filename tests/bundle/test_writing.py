"""One writer per bundle, and atomic changes. Needs no torch."""

import errno
import os
import re
import signal
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest

from mnist_edge.bundle import layout
from mnist_edge.bundle import writing as staging
from mnist_edge.bundle.writing import Staging, require_free, signals_held, write_atomically, writing
from mnist_edge.errors import BusyError, ModelNotFoundError, UsageError
from tests.helpers import run_python

LEFTOVER = f".model.onnx.{'0123456789abcdef' * 2}"


def snapshot(folder):
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def fill(folder, *names, content=b"old"):
    for name in names:
        (folder / name).write_bytes(content)


@pytest.mark.parametrize("code", [errno.ENOSPC, errno.EIO])
def test_a_full_or_broken_disk_leaves_what_was_there(tmp_path, monkeypatch, code):
    path = tmp_path / "model.onnx"
    write_atomically(path, b"old")

    def fail(descriptor):
        raise OSError(code, os.strerror(code))

    monkeypatch.setattr(staging.os, "fsync", fail)
    with pytest.raises(OSError, match=re.escape(os.strerror(code))):
        write_atomically(path, b"new and longer")
    assert snapshot(tmp_path) == {"model.onnx": b"old"}


@pytest.mark.parametrize("code", [errno.EINVAL, errno.ENOTSUP])
def test_a_file_system_that_cannot_sync_folders(tmp_path, monkeypatch, code):
    real = os.fsync

    def fsync(descriptor):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(code, os.strerror(code))
        real(descriptor)

    monkeypatch.setattr(staging.os, "fsync", fsync)
    write_atomically(tmp_path / "file", b"content")
    assert snapshot(tmp_path) == {"file": b"content"}


class Ended(Exception):  # noqa: N818  # not an error
    pass


@pytest.fixture
def sigterm():
    def handler(number, frame):
        raise Ended

    previous = signal.signal(signal.SIGTERM, handler)
    yield handler
    signal.signal(signal.SIGTERM, previous)


@pytest.mark.parametrize(("number", "told"), [(signal.SIGINT, KeyboardInterrupt), (signal.SIGTERM, Ended)])
def test_a_signal_waits_until_a_commit_is_through(tmp_path, monkeypatch, sigterm, number, told):
    fill(tmp_path, "first", "gone", "record")
    real = type(tmp_path).replace

    def interrupted(self, target):
        signal.raise_signal(number)
        return real(self, target)

    monkeypatch.setattr(type(tmp_path), "replace", interrupted)
    with Staging(tmp_path) as files:
        for name in ("record", "first", "second"):
            files.add(name, b"new")
        with pytest.raises(told):
            files.commit(records=["record"], remove=["gone", "nothing"])
    assert snapshot(tmp_path) == {"first": b"new", "second": b"new", "record": b"new"}
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    assert signal.getsignal(signal.SIGTERM) is sigterm


def test_both_signals_reach_their_handlers(sigterm):
    got = []
    previous = signal.signal(signal.SIGINT, lambda number, frame: got.append(number))

    def receive():
        with signals_held():
            for number in (signal.SIGTERM, signal.SIGINT, signal.SIGTERM):
                signal.raise_signal(number)

    try:
        with pytest.raises(Ended):
            receive()
    finally:
        signal.signal(signal.SIGINT, previous)
    assert got == [signal.SIGINT]


def test_a_signal_that_nobody_handles_ends_the_process_after_the_commit(tmp_path):
    code = """
import os, signal, sys
from pathlib import Path
from mnist_edge.bundle.writing import Staging
real = Path.replace
def replace(self, target):
    os.kill(os.getpid(), signal.SIGTERM)
    return real(self, target)
Path.replace = replace
with Staging(Path(sys.argv[1])) as files:
    files.add("first", b"new")
    files.add("second", b"new")
    files.commit()
print("not reached")
"""
    result = run_python(code, tmp_path)
    assert (result.returncode, result.stdout) == (-signal.SIGTERM, ""), result.stderr
    assert snapshot(tmp_path) == {"first": b"new", "second": b"new"}


def in_a_thread(function):
    found = []

    def run():
        try:
            found.append(function())
        except BaseException as error:  # noqa: BLE001  # returned
            found.append(error)

    thread = threading.Thread(target=run)
    thread.start()
    thread.join()
    return found[0]


def test_a_commit_in_another_thread(tmp_path):
    assert in_a_thread(lambda: write_atomically(tmp_path / "file", b"content")) is None
    assert snapshot(tmp_path) == {"file": b"content"}


def test_the_order_of_a_commit(tmp_path, monkeypatch):
    fill(tmp_path, "inner", "outer", "kept", "obsolete", "last")
    kinds = type(tmp_path)
    done = []
    for verb in ("replace", "unlink"):
        real = getattr(kinds, verb)

        def noted(self, *arguments, verb=verb, real=real, **options):
            done.append((verb, arguments[0].name if arguments else self.name))
            return real(self, *arguments, **options)

        monkeypatch.setattr(kinds, verb, noted)
    monkeypatch.setattr(staging, "_sync", lambda folder: done.append("sync"))
    with Staging(tmp_path) as files:
        for name in ("outer", "file", "inner"):
            files.add(name, b"new")
        files.commit(records=["outer", "inner"], remove=["obsolete"], afterwards=["last"])
    assert done == [
        ("unlink", "outer"),
        "sync",
        ("unlink", "inner"),
        "sync",
        ("replace", "file"),
        "sync",
        ("unlink", "obsolete"),
        "sync",
        ("replace", "inner"),
        "sync",
        ("replace", "outer"),
        "sync",
        ("unlink", "last"),
        "sync",
    ]


def test_a_folder_in_the_way_is_noticed_before_anything_changes(tmp_path):
    fill(tmp_path, "manifest.json")
    (tmp_path / "model.onnx").mkdir()
    with Staging(tmp_path) as files:
        files.add("manifest.json", b"new")
        files.add("model.onnx", b"new")
        with pytest.raises(UsageError, match=r"model\.onnx: is a folder"):
            files.commit(records=["manifest.json"])
    assert (tmp_path / "manifest.json").read_bytes() == b"old"
    assert {path.name for path in tmp_path.iterdir()} == {"manifest.json", "model.onnx"}


def test_only_our_own_leftovers_are_removed(tmp_path):
    digits = "0123456789abcdef" * 2
    ours = [f".{name}.{digits}" for name in layout.FILES]
    foreign = [
        f".notes.txt.{digits}",
        f".model.onnx.{digits[:-1]}",
        f".model.onnx.{digits}0",
        f".model.onnx.{digits.upper()}",
        f"model.onnx.{digits}",
        f".model.onnx.{digits}.bak",
        f".modelxonnx.{digits}",
        ".model.onnx",
        *layout.FILES,
    ]
    fill(tmp_path, *ours, *foreign)
    (tmp_path / f".model.pth.{'f' * 32}").mkdir()
    with writing(tmp_path):
        assert set(snapshot_names(tmp_path)) == {*foreign, f".model.pth.{'f' * 32}"}


def snapshot_names(folder):
    return [path.name for path in folder.iterdir()]


@pytest.mark.parametrize(("kind", "number"), [(FileNotFoundError, errno.ENOENT), (PermissionError, errno.EACCES)])
def test_a_folder_that_cannot_be_made_there(tmp_path, monkeypatch, kind, number):
    def refuse(self, **options):
        raise kind(number, os.strerror(number))

    monkeypatch.setattr(Path, "mkdir", refuse)
    told = re.escape(f"new: cannot be created ({os.strerror(number)}): choose another --out")
    with pytest.raises(UsageError, match=f"{told}$"):
        writing(tmp_path / "new", make=True).__enter__()


def test_new_folders_are_synced_into_their_parents(tmp_path, monkeypatch):
    synced = []
    monkeypatch.setattr(staging, "_sync", synced.append)
    with writing(tmp_path / "a" / "b", make=True):
        pass
    assert synced == [tmp_path, tmp_path / "a"]
    with pytest.raises(ModelNotFoundError, match="no such bundle: make it:  mnist-edge train"):
        writing(tmp_path / "nowhere").__enter__()
    assert not (tmp_path / "nowhere").exists()


@pytest.fixture(params=["folder", "file"])
def kind(request, monkeypatch):
    """Locks on the folder, and lock files as on systems without fcntl."""
    if request.param == "file":
        pytest.importorskip("filelock")
        monkeypatch.setitem(sys.modules, "fcntl", None)
    return request.param


def test_a_second_writer_is_refused(tmp_path, kind):
    fill(tmp_path, LEFTOVER)
    with writing(tmp_path):
        fill(tmp_path, LEFTOVER)  # being written by the writer itself
        for attempt in (lambda: require_free(tmp_path), lambda: writing(tmp_path).__enter__()):
            with pytest.raises(BusyError, match="another train or export is working on it: wait"):
                attempt()
            assert isinstance(in_a_thread(attempt), BusyError)
        assert (tmp_path / LEFTOVER).exists()
        with writing(tmp_path / "other", make=True):
            pass
    require_free(tmp_path)
    assert in_a_thread(lambda: require_free(tmp_path)) is None
    assert snapshot_names(tmp_path) == ["other"] or kind == "file"


def test_a_file_system_that_cannot_lock_folders(tmp_path, monkeypatch):
    fcntl = pytest.importorskip("fcntl")
    pytest.importorskip("filelock")
    real = fcntl.flock

    def flock(descriptor, operation):
        if stat.S_ISDIR(os.fstat(descriptor).st_mode):
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return real(descriptor, operation)

    monkeypatch.setattr(fcntl, "flock", flock)
    with writing(tmp_path), pytest.raises(BusyError), writing(tmp_path):
        pass
    require_free(tmp_path)


HOLD = """
import sys
from pathlib import Path
from mnist_edge.bundle.writing import writing
with writing(Path(sys.argv[1])):
    print("held", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("how", ["kill", "terminate", "end"])
def test_a_writer_that_dies_releases_the_bundle(tmp_path, how):
    command = [sys.executable, "-c", HOLD, str(tmp_path)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE) as holder:
        assert holder.stdout.readline() == b"held\n"
        with pytest.raises(BusyError):
            require_free(tmp_path)
        if how == "end":
            holder.stdin.close()
        else:
            getattr(holder, how)()
        holder.wait(timeout=60)
    require_free(tmp_path)
    assert snapshot_names(tmp_path) == []


def test_a_forked_child_neither_releases_nor_keeps_the_bundle(tmp_path):
    end, told = os.pipe()
    lock = writing(tmp_path)
    lock.__enter__()
    child = os.fork()
    if child == 0:
        os.close(told)
        lock.__exit__(None, None, None)
        os._exit(0)
    os.waitpid(child, 0)
    with pytest.raises(BusyError):
        require_free(tmp_path)
    idle = os.fork()
    if idle == 0:
        os.close(told)
        os.read(end, 1)
        os._exit(0)
    lock.__exit__(None, None, None)
    require_free(tmp_path)
    os.close(told)
    os.waitpid(idle, 0)
    os.close(end)
