"""Compare the time of an epoch with the same recipe in a DataLoader loop over `torchvision.datasets.MNIST`.

    python scripts/compare_dataloader.py [PAIRS]

Both sides train simple-nn (batch 64, Adam, cross-entropy) and sigmoid-nn (batch 64, SGD, cross-entropy) for one epoch
and then measure the test accuracy. They alternate; the result is the median ratio of their times.
"""

import gzip
import statistics
import sys
import tempfile
import time
from pathlib import Path

import torch
from torch import nn
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_edge.bundle.recipe import Architecture, OptimizerName
from mnist_edge.data import datasets
from mnist_edge.training import loop
from mnist_edge.training.models import build
from mnist_edge.training.recipes import RECIPES


def through_a_dataloader(root: Path, architecture: Architecture) -> tuple[float, float]:
    """Seconds and test accuracy of one epoch of a loop written as in PyTorch's tutorials."""
    recipe = RECIPES[architecture]
    normalize = transforms.Normalize((recipe.normalization.mean,), (recipe.normalization.std,))
    transform = transforms.Compose([transforms.ToTensor(), normalize])
    train = DataLoader(MNIST(root, train=True, transform=transform), batch_size=recipe.batch_size, shuffle=True)
    test = DataLoader(MNIST(root, train=False, transform=transform), batch_size=1000)
    model = build(architecture, 10)
    kind = torch.optim.Adam if recipe.optimizer is OptimizerName.ADAM else torch.optim.SGD
    optimizer = kind(model.parameters(), lr=recipe.lr)
    criterion = nn.CrossEntropyLoss()
    start = time.perf_counter()
    model.train()
    for images, labels in train:
        optimizer.zero_grad()
        criterion(model(images), labels).backward()
        optimizer.step()
    model.eval()
    correct = 0
    with torch.no_grad():
        for images, labels in test:
            correct += int((model(images).argmax(dim=1) == labels).sum())
    return time.perf_counter() - start, correct / 10_000


def here(data: datasets.Dataset, architecture: Architecture) -> tuple[float, float]:
    """Seconds and test accuracy of one epoch of mnist-edge."""
    (epoch, _) = next(loop.fit(data, architecture, RECIPES[architecture]))
    return epoch.seconds, epoch.test.accuracy


def unpack_mnist(root: Path) -> None:
    """Unpack MNIST's files to where `torchvision.datasets.MNIST` looks for them."""
    raw = root / "MNIST" / "raw"
    raw.mkdir(parents=True)
    for path in (datasets.CHECKOUT_DATASETS / "mnist").glob("*.gz"):
        (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))


def main(pairs: int) -> None:
    data = datasets.load()
    with tempfile.TemporaryDirectory() as scratch:
        unpack_mnist(Path(scratch))
        for architecture in (Architecture.SIMPLE_NN, Architecture.SIGMOID_NN):
            ratios = []
            for pair in range(1, pairs + 1):
                seconds, accuracy = through_a_dataloader(Path(scratch), architecture)
                own_seconds, own_accuracy = here(data, architecture)
                ratios.append(own_seconds / seconds)
                print(
                    f"{architecture}, pair {pair}: DataLoader {seconds:.1f} s ({100 * accuracy:.2f} %), "
                    f"mnist-edge {own_seconds:.1f} s ({100 * own_accuracy:.2f} %), ratio {ratios[-1]:.3f}",
                    flush=True,
                )
            median = statistics.median(ratios)
            print(f"{architecture}: median ratio {median:.3f}: an epoch takes 1/{1 / median:.1f} the time", flush=True)


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
