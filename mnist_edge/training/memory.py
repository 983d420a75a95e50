"""Keeps the memory that one step frees for the next."""

import ctypes
import sys
from typing import Final

_M_TRIM_THRESHOLD: Final = -1
_M_MMAP_MAX: Final = -4
"""Both from glibc's ``malloc.h``."""

_NEVER: Final = 2**31 - 1


def keep_freed() -> None:
    """Tell glibc to hold on to freed blocks, however large, from now on and in the whole process.

    For a process that only trains, as `train`'s: whatever else runs in it is concerned as well. Left to itself glibc
    returns blocks of many megabytes to the kernel, which hands out zeroed pages again at the next step: with batches of
    256 some 8,000 (`cnn-nano`) to 18,000 (`cnn`) page faults each. Without them a step took 0.78 and 0.87 of its time
    (one pair of runs each). Elsewhere than on glibc nothing happens.
    """
    if sys.platform != "linux":
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:  # musl has none
        mallopt(_M_TRIM_THRESHOLD, _NEVER)
        mallopt(_M_MMAP_MAX, 0)
