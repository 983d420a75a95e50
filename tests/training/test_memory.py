"""Freed memory is kept for the next step."""

import platform

import pytest

from tests.helpers import run_python, subset, write_idx

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
def faults():
    before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    for _ in range(5):
        use()
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before

print(faults())
"""


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_blocks_are_not_fetched_from_the_kernel_again():
    again, kept = (int(run_python(CODE, how).stdout) for how in ("", "keep"))
    assert kept < 100
    assert again > 100 * max(kept, 1)  # the measurement can fail


IN_USE = (
    CODE
    + """
import pathlib
from mnist_edge.cli.main import main
from mnist_edge.data import datasets
from mnist_edge.training.loop import Training
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.training.recipes import RECIPES

data = datasets.load(sys.argv[2])
Training(data, Architecture.SIGMOID_NN, RECIPES[Architecture.SIGMOID_NN]).run_epoch()
use()
print(faults())
sys.argv[1:] = ["train", "--model", "sigmoid-nn", "--epochs", "1", "--data", sys.argv[2], "--out", sys.argv[3]]
try:
    main()
except SystemExit as stop:
    assert not stop.code, stop.code
use()
print(faults())
"""
)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="only glibc has mallopt")
def test_the_command_tells_glibc_and_the_library_leaves_it_alone(mnist, tmp_path):
    data = write_idx(tmp_path / "data", subset(mnist, 640, 100))
    result = run_python(IN_USE, "", data, tmp_path / "out")
    assert result.returncode == 0, result.stderr
    _, library, *_, command = result.stdout.splitlines()
    assert int(command) < 100 < int(library) / 100
