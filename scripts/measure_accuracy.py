"""Train architectures by their own recipes with several seeds: mean and spread of the final test accuracy.

    python scripts/measure_accuracy.py [SEEDS] [MODEL ...]

Nothing is chosen by the test set: the figures are those of the last epoch of every training.
"""

import platform
import statistics
import sys
import time

import torch

from mnist_edge.training import datasets, loop
from mnist_edge.training.recipes import RECIPES, Architecture


def main(seeds: int, architectures: list[Architecture]) -> None:
    data = datasets.load()
    print(f"{platform.processor() or platform.machine()}, {torch.get_num_threads()} threads, torch {torch.__version__}")
    for architecture in architectures:
        recipe = RECIPES[architecture]
        accuracies, seconds = [], []
        for seed in range(seeds):
            start = time.perf_counter()
            *_, (epoch, _) = loop.fit(data, architecture, recipe, seed=seed)
            seconds.append(time.perf_counter() - start)
            accuracies.append(100 * epoch.test.accuracy)
        spread = statistics.stdev(accuracies) if seeds > 1 else 0.0
        print(
            f"{architecture:12} {recipe.epochs} epochs: {statistics.mean(accuracies):.2f} ± {spread:.2f} % "
            f"(n={seeds}, {min(accuracies):.2f}…{max(accuracies):.2f}), {statistics.median(seconds):.1f} s a training",
            flush=True,
        )


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 5, [Architecture(name) for name in sys.argv[2:]] or [*Architecture])
