"""What an epoch costs here, against the same recipe through a DataLoader over torchvision.datasets.MNIST.

    python scripts/compare_dataloader.py [PAIRS]

Both sides train simple-nn for one epoch (batch 64, Adam, cross-entropy) and then measure loss and accuracy on the test
set; they take turns, and what counts is the median of the ratios pair by pair.
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

from mnist_edge.contract import STANDARDIZED
from mnist_edge.training import datasets, loop
from mnist_edge.training.models import SimpleNN
from mnist_edge.training.recipes import RECIPES, Architecture


def through_a_dataloader(root: Path) -> tuple[float, float]:
    """Seconds and test accuracy of one epoch, as PyTorch's tutorials write it."""
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((STANDARDIZED.mean,), (STANDARDIZED.std,))]
    )
    train = DataLoader(MNIST(root, train=True, transform=transform), batch_size=64, shuffle=True)
    test = DataLoader(MNIST(root, train=False, transform=transform), batch_size=1000)
    model = SimpleNN()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.001)
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


def here(data: datasets.Dataset) -> tuple[float, float]:
    """Seconds and test accuracy of one epoch by mnist-edge."""
    (epoch, _) = next(loop.fit(data, Architecture.SIMPLE_NN, RECIPES[Architecture.SIMPLE_NN]))
    return epoch.seconds, epoch.test.accuracy


def main(pairs: int) -> None:
    data = datasets.load()
    ratios = []
    with tempfile.TemporaryDirectory() as scratch:
        raw = Path(scratch) / "MNIST" / "raw"
        raw.mkdir(parents=True)
        for path in (datasets.CHECKOUT_DATASETS / "mnist").glob("*.gz"):
            (raw / path.stem).write_bytes(gzip.decompress(path.read_bytes()))
        for pair in range(1, pairs + 1):
            seconds, accuracy = through_a_dataloader(Path(scratch))
            own_seconds, own_accuracy = here(data)
            ratios.append(own_seconds / seconds)
            print(
                f"pair {pair}: DataLoader {seconds:.1f} s ({100 * accuracy:.2f} %), "
                f"mnist-edge {own_seconds:.1f} s ({100 * own_accuracy:.2f} %), ratio {ratios[-1]:.3f}",
                flush=True,
            )
    print(f"median ratio {statistics.median(ratios):.3f}: an epoch costs 1/{1 / statistics.median(ratios):.1f}")


if __name__ == "__main__":
    main(int(sys.argv[1]) if len(sys.argv) > 1 else 3)
