"""Freed memory stays at hand for the next step."""

import platform

import pytest

from tests.helpers import run_python

CODE = """
import ctypes, resource, sys
from mnist_edge.training.memory import keep_freed

if sys.argv[1] == "keep":
    keep_freed()
libc = ctypes.CDLL(None)
libc.malloc.restype, libc.malloc.argtypes = ctypes.c_void_p, [ctypes.c_size_t]
libc.free.argtypes = [ctypes.c_void_p]

def use(size=64_000_000):
    block = libc.malloc(size)
    ctypes.memset(block, 1, size)
    libc.free(block)

use()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(5):
    use()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc is told")
def test_blocks_are_not_fetched_from_the_kernel_again():
    again, kept = (int(run_python(CODE, how).stdout) for how in ("", "keep"))
    assert kept < 100
    assert again > 100 * max(kept, 1)  # so the measurement can fail
