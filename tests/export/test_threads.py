"""How many threads an export uses."""

import concurrent.futures
import threading

import pytest
import torch

from mnist_edge.errors import UsageError
from mnist_edge.export import threads
from mnist_edge.runtime.threads import THREADS_VARIABLE
from tests.helpers import cli_in_process


def used(count):
    """The number of threads, if `in_threads` starts this many."""
    all_there = threading.Barrier(count)

    def work(_):
        all_there.wait(timeout=10)
        return threading.get_ident()

    return len(set(threads.in_threads(work, range(count))))


def test_by_argument_by_variable_and_by_cores(monkeypatch):
    monkeypatch.setattr(threads, "usable_cpus", lambda: 4)
    monkeypatch.delenv(THREADS_VARIABLE, raising=False)
    assert used(4) == 4
    monkeypatch.setenv(THREADS_VARIABLE, "2")
    assert used(2) == 2
    with threads.sharing_work(3):
        assert used(3) == 3
    assert used(2) == 2
    with pytest.raises(UsageError, match="threads must be"), threads.sharing_work(0):
        pass


def test_torch_computes_on_one_meanwhile():
    before = torch.get_num_threads()
    torch.set_num_threads(2)
    try:
        with threads.sharing_work(2):
            assert torch.get_num_threads() == 1
        assert torch.get_num_threads() == 2
    finally:
        torch.set_num_threads(before)


def test_the_commands_pass_it_on(bundle_copy, small_idx, cheaper, monkeypatch):
    asked = set()

    def pool(count):
        asked.add(count)
        return concurrent.futures.ThreadPoolExecutor(count)

    monkeypatch.setattr(threads, "ThreadPoolExecutor", pool)
    for name in ("model.torchscript", "model.int8-dynamic.onnx", "model.int8-static.onnx", "manifest.json"):
        (bundle_copy / name).unlink()
    for command, number in (("export", 3), ("verify", 5)):
        options = ["--formats", "onnx"] if command == "export" else []
        result = cli_in_process(command, bundle_copy, "--data", small_idx, *options, "--threads", number)
        assert result.returncode == 0, result.stderr
        assert asked == {number}
        asked.clear()
