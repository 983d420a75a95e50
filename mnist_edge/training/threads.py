"""How many threads torch trains with."""

import contextlib
from collections.abc import Iterator
from typing import Final

import torch

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.source import Source

MAX_THREADS: Final = 1024
"""A checkpoint that says more is damaged."""


def suited_threads(architecture: Architecture | Source, cores: int) -> int:
    """How many threads to train an architecture with where the user names no number.

    The steps of the fully connected networks are too short to share: beside other programs on two cores, a step of
    `simple-nn` took 6.6 ms on one thread and 46 ms on two, one of `sigmoid-nn` 2.7 and 24 ms. The others use all cores,
    but no more than torch would, which counts physical cores and heeds ``OMP_NUM_THREADS``.

    On a busy machine these too can be faster on one: a step of `cnn` took 350 ms against 1,428, because threads spin
    while they wait for one another. The command line lets them spin less (`mnist_edge.cli.pytorch.SPINS`).

    Args:
        architecture: the architecture to train.
        cores: how many CPUs the process may use.
    """
    if architecture in (Architecture.SIMPLE_NN, Architecture.SIGMOID_NN):
        return 1
    return min(cores, torch.get_num_threads())


@contextlib.contextmanager
def computing_on(threads: int | None) -> Iterator[None]:
    """Have torch compute on this many threads, in the whole process; None leaves their number as it is."""
    before = torch.get_num_threads()
    if threads is not None:
        torch.set_num_threads(threads)
    try:
        yield
    finally:
        torch.set_num_threads(before)
