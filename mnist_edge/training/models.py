"""The architectures. Each takes normalised images, float32 [N, 1, 28, 28], and returns logits, float32 [N, classes]."""

from typing import assert_never

from torch import Tensor, nn

from mnist_edge.contract import PIXELS, WHITE, Normalization
from mnist_edge.training.recipes import Architecture


class SimpleNN(nn.Module):
    """784-512-256-classes with ReLU between; 535,818 parameters with ten classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.fc1 = nn.Linear(PIXELS, 512)
        self.fc2 = nn.Linear(512, 256)
        self.fc3 = nn.Linear(256, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to logits."""
        x = self.fc1(x.flatten(1)).relu()
        x = self.fc2(x).relu()
        logits: Tensor = self.fc3(x)
        return logits


class SigmoidNN(nn.Module):
    """784-64-classes with a sigmoid between; 50,890 parameters with ten classes."""

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.hidden = nn.Linear(PIXELS, 64)
        self.output = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to logits."""
        x = self.hidden(x.flatten(1)).sigmoid()
        logits: Tensor = self.output(x)
        return logits


class CNN(nn.Module):
    """Six 3×3 convolutions and a global max pool; 72,666 parameters with ten classes.

    One convolution works at 28×28 pixels, two at 14×14, three at 7×7. The stem keeps the full resolution and the last
    pool takes the maximum: a digit is told by whether a stroke is there, not by how much of the picture it fills.
    """

    def __init__(self, classes: int = 10) -> None:
        super().__init__()
        self.features = nn.Sequential(
            *_block(1, 16, nn.MaxPool2d(2)),
            *_block(16, 16),
            *_block(16, 32, nn.MaxPool2d(2)),
            *_block(32, 32),
            *_block(32, 64),
            *_block(64, 64, nn.AdaptiveMaxPool2d(1)),
        )
        self.classifier = nn.Linear(64, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to logits."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


def _block(channels_in: int, channels_out: int, *pool: nn.Module) -> tuple[nn.Module, ...]:
    # The batch normalisation has the convolution's bias. Pooling before ReLU gives what pooling after it would, for
    # both are monotone, and a quarter of the values for ReLU to pass over.
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    return convolution, nn.BatchNorm2d(channels_out), *pool, nn.ReLU(inplace=True)


def normalize(pixels: Tensor, normalization: Normalization) -> Tensor:
    """What an architecture takes, made of raw pixels: float tensors of any shape, 0…255 in, normalised out."""
    return (pixels / WHITE - normalization.mean) / normalization.std


def build(architecture: Architecture, classes: int) -> nn.Module:
    """A new model with freshly drawn weights, in training mode, on the CPU."""
    match architecture:
        case Architecture.CNN:
            return CNN(classes)
        case Architecture.SIMPLE_NN:
            return SimpleNN(classes)
        case Architecture.SIGMOID_NN:
            return SigmoidNN(classes)
        case _:
            assert_never(architecture)
