"""Memory stays flat over many calls, and large batches are not copied as a whole."""

import tracemalloc

import numpy as np
import pytest

from mnist_edge import Classifier
from tests.helpers import run_python

GROWTH = """
import sys
import numpy as np
from mnist_edge import Classifier
import mnist_edge.runtime.classifier as module
from mnist_edge.runtime import contents

def resident():
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) for line in status if line.startswith("VmRSS")) / 1024

if int(sys.argv[2]):
    module.CHUNK, contents.BATCH_BYTES = int(sys.argv[2]), 2**60
classifier = Classifier(sys.argv[1], threads=2)
chance = np.random.default_rng(1)
images = chance.integers(0, 256, (5000, 28, 28), dtype=np.uint8)
sizes = [1, 2, 300, 7, 64, 1000, 256, 257, 5000]
for size in sizes[:3]:
    classifier.logits(images[:size])
before = resident()
for _ in range(int(sys.argv[3])):
    for size in chance.permutation(sizes):
        classifier.logits(images[:size])
print(resident() - before)
"""
"""Prints the growth of the process in MB after a warm-up with small batches."""


def growth(bundle_dir, chunk: int, rounds: int) -> float:
    result = run_python(GROWTH, bundle_dir, chunk, rounds)
    if "FileNotFoundError" in result.stderr:
        pytest.skip("reads /proc")
    assert result.returncode == 0, result.stderr
    return float(result.stdout)


@pytest.mark.slow
def test_many_batches_of_many_sizes_do_not_grow_the_process(bundle_dir):
    assert growth(bundle_dir, chunk=0, rounds=20) < 20


@pytest.mark.slow
def test_without_chunks_it_would_grow(bundle_dir):
    assert growth(bundle_dir, chunk=100_000, rounds=1) > 100


@pytest.mark.parametrize(
    "images",
    [
        np.zeros((4000, 28, 28), dtype=np.int32),
        np.zeros((4000, 28, 28), dtype=np.uint8)[::-1, :, ::-1],
        np.zeros((28, 28, 4000), dtype=">i2").transpose(2, 0, 1),
    ],
    ids=["wide", "reversed", "transposed"],
)
def test_a_large_batch_is_not_copied_as_a_whole(bundle_dir, images):
    classifier = Classifier(bundle_dir)
    classifier.logits(images[:300])
    tracemalloc.start()
    try:
        logits = classifier.logits(images)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert logits.shape == (4000, 10)
    assert peak < 4000 * 28 * 28 / 2
