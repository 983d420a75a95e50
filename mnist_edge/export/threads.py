"""Share work among all cores with Python threads: onnxruntime and torch release the GIL while they compute."""

import contextlib
import contextvars
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Final, TypeVar

import torch

from mnist_edge.runtime.limits import usable_cpus
from mnist_edge.runtime.threads import asked_threads

Item = TypeVar("Item")
Result = TypeVar("Result")

_THREADS: Final = contextvars.ContextVar[int | None]("threads", default=None)


def in_threads(function: Callable[[Item], Result], items: Iterable[Item]) -> list[Result]:
    """The function's results for all items, in order. The threads end with the call.

    The number of threads is that of the enclosing `sharing_work`, else ``MNIST_EDGE_THREADS``, else one per CPU. This
    pays if the function spends its time in onnxruntime, torch or numpy and starts no threads of its own.
    """
    with ThreadPoolExecutor(asked_threads(_THREADS.get()) or usable_cpus()) as pool:
        return list(pool.map(function, items))


@contextlib.contextmanager
def sharing_work(threads: int | None) -> Iterator[None]:
    """Set the number of threads of every `in_threads`; None for the default. torch computes each call on one thread.

    torch's own threads spin while they wait for one another: with other programs running, one test set took a hundred
    seconds instead of ten.
    """
    before, wanted = torch.get_num_threads(), _THREADS.set(asked_threads(threads))
    torch.set_num_threads(1)
    try:
        yield
    finally:
        torch.set_num_threads(before)
        _THREADS.reset(wanted)
