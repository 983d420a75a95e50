"""Compare time to accuracy: `cnn` with three lengths of its recipe against PyTorch's own MNIST example.

    python scripts/compare_example.py

The example's network, recipe and DataLoader are those of pytorch/examples/mnist/main.py: two 3×3 convolutions of 32 and
64 channels, dropout, 128 hidden units; Adadelta with a learning rate of 1.0, multiplied by 0.7 after every epoch,
batches of 64, 14 epochs. Only training is timed, on both sides; the evaluation after every epoch is left out.
"""

import tempfile
import time
from dataclasses import replace
from pathlib import Path

import torch
from compare_dataloader import unpack_mnist
from torch import Tensor, nn
from torch.nn import functional
from torch.utils.data import DataLoader
from torchvision import transforms
from torchvision.datasets import MNIST

from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.contract import STANDARDIZED
from mnist_edge.data import datasets
from mnist_edge.training.loop import Training
from mnist_edge.training.recipes import FAST, RECIPES

GOALS = (0.990, 0.993, 0.995)
EXAMPLE_EPOCHS = 14


class ExampleNet(nn.Module):
    """The example's own network."""

    def __init__(self) -> None:
        super().__init__()
        self.features = nn.Sequential(
            nn.Conv2d(1, 32, 3), nn.ReLU(), nn.Conv2d(32, 64, 3), nn.ReLU(), nn.MaxPool2d(2), nn.Dropout(0.25)
        )
        self.head = nn.Sequential(nn.Linear(9216, 128), nn.ReLU(), nn.Dropout(0.5), nn.Linear(128, 10))

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to logits."""
        logits: Tensor = self.head(self.features(x).flatten(1))
        return logits


def example(root: Path) -> list[tuple[float, float]]:
    """Training seconds so far and test accuracy after every epoch."""
    torch.manual_seed(1)
    transform = transforms.Compose(
        [transforms.ToTensor(), transforms.Normalize((STANDARDIZED.mean,), (STANDARDIZED.std,))]
    )
    train = DataLoader(MNIST(root, train=True, transform=transform), batch_size=64, shuffle=True)
    test = DataLoader(MNIST(root, train=False, transform=transform), batch_size=1000)
    model = ExampleNet()
    optimizer = torch.optim.Adadelta(model.parameters(), lr=1.0)
    scheduler = torch.optim.lr_scheduler.StepLR(optimizer, step_size=1, gamma=0.7)
    spent, history = 0.0, []
    for _ in range(EXAMPLE_EPOCHS):
        start = time.perf_counter()
        model.train()
        for images, labels in train:
            optimizer.zero_grad()
            functional.cross_entropy(model(images), labels).backward()
            optimizer.step()
        scheduler.step()
        spent += time.perf_counter() - start
        model.eval()
        with torch.no_grad():
            correct = sum(int((model(images).argmax(dim=1) == labels).sum()) for images, labels in test)
        history.append((spent, correct / 10_000))
        print(f"example: {spent:6.1f} s  {100 * history[-1][1]:.2f} %", flush=True)
    return history


def here(data: datasets.Dataset, name: str, recipe: Recipe) -> list[tuple[float, float]]:
    """The same for `cnn` trained with this recipe."""
    training = Training(data, Architecture.CNN, recipe)
    history, spent = [], 0.0
    while not training.complete:
        epoch = training.run_epoch()
        spent += epoch.training_seconds
        history.append((spent, epoch.test.accuracy))
        print(f"{name}: {spent:6.1f} s  {100 * epoch.test.accuracy:.2f} %", flush=True)
    return history


def main() -> None:
    data = datasets.load()
    whole = RECIPES[Architecture.CNN]
    recipes = {"cnn --epochs 1": replace(whole, epochs=1), "cnn --fast": FAST[Architecture.CNN], "cnn": whole}
    ours = {name: here(data, name, recipe) for name, recipe in recipes.items()}
    with tempfile.TemporaryDirectory() as scratch:
        unpack_mnist(Path(scratch))
        theirs = example(Path(scratch))
    seconds, accuracy = theirs[-1]
    print(f"\nthe example ends at {100 * accuracy:.2f} % after {seconds:.0f} s")
    for goal in (*GOALS, accuracy):
        for name, history in {"example": theirs, **ours}.items():
            reached = next((spent for spent, share in history if share >= goal), None)
            took = (
                "never"
                if reached is None
                else f"after {reached:.1f} s, 1/{seconds / reached:.0f} of the example's time"
            )
            print(f"{100 * goal:.2f} %: {name} {took}")


if __name__ == "__main__":
    main()
