"""Work on all cores, by Python threads that share it: onnxruntime and torch let go of the interpreter to compute."""

import contextlib
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

import torch

from mnist_edge.runtime.limits import usable_cpus

Item = TypeVar("Item")
Result = TypeVar("Result")


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function's results for all items, in their order; the threads end with the last of them.

    Worth it where the function spends its time in onnxruntime, torch or numpy, and starts no threads of its own.
    """
    with ThreadPoolExecutor(usable_cpus()) as pool:
        return list(pool.map(function, items))


@contextlib.contextmanager
def torch_alone() -> Iterator[None]:
    """Have torch compute each call on the thread that makes it.

    Its own threads wait for one another by spinning: beside other programs the answers to one test set took a hundred
    seconds in place of ten.
    """
    before = torch.get_num_threads()
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
