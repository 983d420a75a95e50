"""Measure what drawn images cost: the time that drawing takes, as a share of an epoch's training time.

    python scripts/measure_drawn_digits.py [MODEL ...]

Epochs of each model's own recipe on MNIST, and the drawing of as many digits and random strokes as one of them takes,
in turn.
"""

import math
import statistics
import sys
import time

import torch
from measure_models import recipe_on

from mnist_edge.bundle.recipe import Architecture
from mnist_edge.data import datasets
from mnist_edge.runtime.machine import processor_name
from mnist_edge.training import loop
from mnist_edge.training.drawn import draw_digits, draw_strokes
from mnist_edge.training.recipes import FAST

ROUNDS = 3


def main(architectures: list[Architecture]) -> None:
    data = datasets.load(datasets.DEFAULT)
    print(f"{processor_name()}, torch {torch.__version__}, threads: {torch.get_num_threads()}")
    for architecture in architectures:
        recipe = recipe_on(architecture, data)
        training = loop.Training(data, architecture, recipe)
        training.run_epoch()
        generator = torch.Generator().manual_seed(0)
        trained, drawn = [], []
        for _ in range(ROUNDS):
            trained.append(training.run_epoch().training_seconds)
            start = time.perf_counter()
            for _ in range(math.ceil(len(data.train) / loop.AT_ONCE)):
                draw_digits(round(recipe.drawn_digits * loop.AT_ONCE), generator)
                draw_strokes(round(recipe.outliers * loop.AT_ONCE), generator)
            drawn.append(time.perf_counter() - start)
        share = 100 * statistics.median(drawn) / statistics.median(trained)
        print(f"{architecture}: {statistics.median(drawn):.2f} s of {statistics.median(trained):.1f} s, {share:.1f} %")


if __name__ == "__main__":
    main([Architecture(name) for name in sys.argv[1:]] or list(FAST))
