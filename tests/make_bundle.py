"""Make a small but real bundle, and beside it PyTorch's own answers:  python -m tests.make_bundle FOLDER

The tests under tests/runtime need nothing but this folder, so that they also run where there is no torch.
"""

import sys
from pathlib import Path

import numpy as np

EXPECTED = "expected.npz"


def make(folder: Path) -> None:
    import torch

    from mnist_edge.export import pipeline
    from mnist_edge.training import datasets
    from mnist_edge.training.checkpoint import load
    from mnist_edge.training.models import normalize
    from mnist_edge.training.recipes import Architecture
    from tests.helpers import quick_recipe, subset
    from tests.helpers import train as run

    data = subset(datasets.load(), train=10_000, test=500)
    # By seed 0 two of the 500 answers are so close that int8 turns them on some processors.
    run(data, Architecture.CNN, quick_recipe(Architecture.CNN), folder, seed=1)
    pipeline.export(folder, data)

    trained = load(folder)
    with torch.inference_mode():
        pixels = torch.tensor(data.test.images[:, None]).float()
        logits = trained.model(normalize(pixels, trained.contract.normalization))
    np.savez(folder / EXPECTED, images=data.test.images, labels=data.test.labels, logits=logits.numpy())


if __name__ == "__main__":
    make(Path(sys.argv[1]))
