"""Train the networks of `tests.zoo` in plain torch, with the images preprocessed in any of six ways."""

import math

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional

from tests.zoo import Entry

WAYS = {
    "none": lambda pixels: pixels / 255,
    "mnist": lambda pixels: (pixels / 255 - 0.1307) / 0.3081,
    "half": lambda pixels: (pixels / 255 - 0.5) / 0.5,
    "raw": lambda pixels: pixels,
    "inverted": lambda pixels: 1 - pixels / 255,
    "transposed": lambda pixels: pixels.transpose(-1, -2).contiguous() / 255,
}
"""Ways to preprocess images: from pixels, float32 [n, 1, 28, 28] within 0…255, to what a network is trained on."""

BATCH = 64

FLOOR = 1e-12
"""Added to probabilities before their logarithm."""


def train(
    entry: Entry,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    *,
    preprocessing: str | None = None,
    epochs: int | None = None,
    seed: int = 0,
) -> nn.Module:
    """A trained network in evaluation mode. The learning rate rises and falls, so that one epoch is enough.

    Args:
        entry: what to train, and how.
        images: uint8 [n, 28, 28].
        labels: [n].
        preprocessing: a key of `WAYS`; by default the entry's own normalization.
        epochs: by default the entry's own.
        seed: of the weights, the order of the images, and dropout.
    """
    torch.manual_seed(seed)
    model = entry.build()
    optimizer = _optimizer(entry, model)
    epochs = entry.epochs if epochs is None else epochs
    steps = epochs * math.ceil(len(images) / BATCH)
    schedule = torch.optim.lr_scheduler.OneCycleLR(optimizer, entry.lr, total_steps=steps, cycle_momentum=False)
    targets = torch.tensor(labels).long()
    for _ in range(epochs):
        for batch in torch.randperm(len(images)).split(BATCH):
            output = model(prepare(entry, images[batch.numpy()], preprocessing))
            loss = _loss(entry, output, targets[batch])
            optimizer.zero_grad()
            loss.backward()
            optimizer.step()
            schedule.step()
    return model.eval()


def prepare(entry: Entry, images: NDArray[np.uint8], preprocessing: str | None = None) -> Tensor:
    """What the entry's network takes: float32 [n, 1, 28, 28] or [n, 784]."""
    x = WAYS[preprocessing or entry.normalization](torch.tensor(images)[:, None].float())
    return x.flatten(1) if entry.input == "flat" else x


def accuracy(
    entry: Entry,
    model: nn.Module,
    images: NDArray[np.uint8],
    labels: NDArray[np.uint8],
    preprocessing: str | None = None,
) -> float:
    """The share of images that the network classifies correctly."""
    with torch.inference_mode():
        parts = [model(prepare(entry, part, preprocessing)) for part in np.array_split(images, 1 + len(images) // 500)]
    return float((torch.cat(parts).argmax(dim=1).numpy() == labels).mean())


def _optimizer(entry: Entry, model: nn.Module) -> torch.optim.Optimizer:
    if entry.optimizer == "sgd":
        return torch.optim.SGD(model.parameters(), lr=entry.lr)
    return torch.optim.Adam(model.parameters(), lr=entry.lr)


def _loss(entry: Entry, output: Tensor, targets: Tensor) -> Tensor:
    match entry.output:
        case "log-softmax":
            return functional.nll_loss(output, targets)
        case "softmax":
            return functional.nll_loss((output + FLOOR).log(), targets)
        case _:
            return functional.cross_entropy(output, targets)
