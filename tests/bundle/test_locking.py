"""Where a lock cannot be had, the caller is told so and can lock in another way."""

import errno

import pytest

from mnist_edge.bundle.locking import locked

fcntl = pytest.importorskip("fcntl")


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


def test_what_the_caller_raises_passes(tmp_path):
    def refuse():
        raise BlockingIOError

    with (
        locked(tmp_path, refuse) as held,
        pytest.raises(BlockingIOError),
        locked(tmp_path, refuse),
    ):
        pass
    assert held is True
