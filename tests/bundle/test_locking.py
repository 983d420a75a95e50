"""Locks on files and folders, between threads: the second holder waits, says so, and is let in."""

import errno
import os
import threading
from pathlib import Path

import pytest

from mnist_edge.bundle.locking import locked

fcntl = pytest.importorskip("fcntl")


@pytest.fixture(params=["file", "folder"])
def place(request, tmp_path):
    if request.param == "folder":
        return tmp_path
    (tmp_path / "file").touch()
    return tmp_path / "file"


def refuse():
    raise InterruptedError


def free(place):
    try:
        with locked(place, refuse) as held:
            return held
    except InterruptedError:
        return False


def test_one_holder_at_a_time(place):
    with locked(place, refuse) as held:
        assert held is True
        assert not free(place)
    assert free(place)
    with pytest.raises(ZeroDivisionError), locked(place, refuse):
        raise ZeroDivisionError
    assert free(place)


def test_the_second_waits_for_the_first(place):
    busy, events = threading.Event(), []

    def second():
        with locked(place, busy.set) as held:
            events.append(("second", held))

    with locked(place, refuse):
        thread = threading.Thread(target=second)
        thread.start()
        assert busy.wait(60)
        thread.join(0.2)
        events.append("first")
    thread.join(60)
    assert events == ["first", ("second", True)]


def test_nothing_stays_open(place):
    before = len([*Path("/dev/fd").iterdir()])
    for _ in range(3):
        assert free(place)
    assert len([*Path("/dev/fd").iterdir()]) == before


def test_a_forked_child_does_not_release_the_lock(place):
    lock = locked(place, refuse)
    lock.__enter__()
    if not (child := os.fork()):
        try:
            lock.__exit__(None, None, None)
        finally:
            os._exit(0)
    os.waitpid(child, 0)
    assert not free(place)
    lock.__exit__(None, None, None)
    assert free(place)


@pytest.mark.parametrize("busy", [False, True], ids=["at once", "after waiting"])
def test_a_file_system_that_cannot_lock(tmp_path, monkeypatch, busy):
    asked, told = [], []

    def flock(descriptor, kind):
        asked.append(kind)
        if busy and len(asked) == 1:
            raise BlockingIOError(errno.EWOULDBLOCK, "busy")
        raise OSError(errno.ENOLCK, "No locks available")

    monkeypatch.setattr(fcntl, "flock", flock)
    with locked(tmp_path, lambda: told.append("busy")) as held:
        assert held is False
    assert told == ["busy"] * busy
    assert len(asked) == 1 + busy
