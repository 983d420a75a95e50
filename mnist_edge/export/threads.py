"""Share work among all cores with Python threads: onnxruntime and torch release the GIL while they compute."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from mnist_edge.runtime.limits import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function's results for all items, in order. The threads end with the call.

    This pays if the function spends its time in onnxruntime, torch or numpy and starts no threads of its own.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(function, items))


@contextlib.contextmanager
def torch_alone() -> Iterator[None]:
    """Have torch compute every call on the calling thread.

    torch's own threads spin while they wait for one another: with other programs running, one test set took a hundred
    seconds instead of ten.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
