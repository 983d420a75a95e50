"""Measure memory over a million predictions:  python scripts/measure_memory.py BUNDLE [PREDICTIONS].

PREDICTIONS (default a million) are made in batches of 1 to 20,000 random images, with sizes from a fixed seed. Prints
the resident memory after a warm-up with one batch of every size up to `CHUNK`, how it grows from there and, for
comparison, what onnxruntime's arena keeps when batches are not split. Linux only: resident memory is read from /proc.
"""

import sys
import time
from pathlib import Path

import numpy as np

from mnist_edge import Classifier
from mnist_edge.contract import HEIGHT, INPUT_NAME, WIDTH
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.model import open_model
from mnist_edge.runtime.threads import default_threads

LARGEST = 20_000
ALLOWED = 20.0  # MB
REPORTS = 10


def resident() -> float:
    """Resident memory of this process in MB."""
    status = Path("/proc/self/status").read_text(encoding="utf-8")
    return next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS")) / 1024


def batch_sizes(total: int, chance: np.random.Generator) -> list[int]:
    """Batch sizes that add up to `total`, log-uniform between 1 and `LARGEST`."""
    sizes: list[int] = []
    while sum(sizes) < total:
        sizes.append(min(round(float(np.exp(chance.uniform(0, np.log(LARGEST))))), total - sum(sizes)))
    return sizes


def main(model: str, total: int = 1_000_000) -> int:
    chance = np.random.default_rng(0)
    images = chance.integers(0, 256, (LARGEST, HEIGHT, WIDTH), dtype=np.uint8)
    classifier = Classifier(model)
    for size in range(1, CHUNK + 1):
        classifier.logits(images[:size])
    start = highest = before = resident()
    sizes = batch_sizes(total, chance)
    print(f"{total:,} predictions in {len(sizes):,} batches of 1…{LARGEST:,}, {default_threads()} threads")
    print(f"{'predictions':>12} {'resident MB':>12} {'growth MB':>10}")
    print(f"{0:12,} {start:12.1f} {0:10.1f}")
    done, began = 0, time.perf_counter()
    for index, size in enumerate(sizes, start=1):
        offset = int(chance.integers(0, LARGEST - size + 1))
        classifier.logits(images[offset : offset + size])
        done += size
        highest = max(highest, resident())
        if index % -(-len(sizes) // REPORTS) == 0 or index == len(sizes):
            print(f"{done:12,} {resident():12.1f} {resident() - before:10.1f}", flush=True)
    seconds = time.perf_counter() - began
    print(f"peak growth {highest - before:.1f} MB, limit {ALLOWED:.0f} MB; {done / seconds:,.0f} images/s")
    show_arena(model, images)
    return int(highest - before >= ALLOWED)


def show_arena(model: str, images: np.ndarray) -> None:
    print("onnxruntime alone, batches not split:")
    session = open_model(model).session
    for size in (CHUNK, 1024, 4096, CHUNK):
        session.run(None, {INPUT_NAME: images[:size, None]})
        print(f"{size:12,} {resident():12.1f}")


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3])))
