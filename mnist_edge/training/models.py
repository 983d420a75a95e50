"""The architectures. Each takes normalised images, float32 [N, 1, 28, 28], and returns logits, float32 [N, classes]."""

from typing import Final, assert_never

from torch import Tensor, nn

from mnist_edge.bundle.recipe import Architecture, architecture_named
from mnist_edge.bundle.source import Source
from mnist_edge.contract import HEIGHT, PIXELS, WHITE, Normalization
from mnist_edge.training import sources


class SimpleNN(nn.Module):
    """Fully connected, 784-512-256-classes, with ReLU; 535,818 parameters with ten classes."""

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
    """Fully connected, 784-64-classes, with a sigmoid; 50,890 parameters with ten classes."""

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
    """3×3 convolutions in three stages, at 28×28, 14×14 and 7×7 pixels, and a global max pool.

    Each stage ends in a max pool, the last one global. The first stage keeps the full resolution, and the last pool
    takes the maximum: a digit is recognised by whether a stroke is there, not by how much of the picture it fills.

    With ten classes `cnn-nano` has 14,522 parameters, `cnn` 70,538 and `cnn-large` 288,170.

    Args:
        stages: the channels of every convolution, stage by stage.
        classes: number of logits.
    """

    def __init__(self, stages: tuple[tuple[int, ...], ...], classes: int = 10) -> None:
        super().__init__()
        layers: list[nn.Module] = []
        channels = 1
        for widths, pool in zip(stages, (2, 2, HEIGHT // 4), strict=True):
            for width in widths[:-1]:
                layers += _block(channels, width)
                channels = width
            layers += _block(channels, widths[-1], nn.MaxPool2d(pool))
            channels = widths[-1]
        self.features = nn.Sequential(*layers)
        self.classifier = nn.Linear(channels, classes)

    def forward(self, x: Tensor) -> Tensor:
        """Normalised images to logits."""
        logits: Tensor = self.classifier(self.features(x).flatten(1))
        return logits


STAGES: Final = {
    Architecture.CNN_NANO: ((16,), (16, 16), (16, 16, 32)),
    Architecture.CNN: ((32,), (32, 32), (32, 48, 64)),
    Architecture.CNN_LARGE: ((32,), (32, 64), (64, 128, 128)),
}
"""The `stages` of `CNN`. Channels are multiples of 16, for which onnxruntime has fast kernels."""


def _block(channels_in: int, channels_out: int, *pool: nn.Module) -> tuple[nn.Module, ...]:
    # Batch normalisation follows the pool, which leaves it a quarter of the values. Its scale stays 1, because a ReLU
    # network gains nothing from it. As the scale is positive, it commutes with the max pool, so the export can fold it
    # into the convolution.
    convolution = nn.Conv2d(channels_in, channels_out, kernel_size=3, padding=1, bias=False)
    normalization = nn.BatchNorm2d(channels_out)
    normalization.weight.requires_grad_(False)
    return convolution, *pool, normalization, nn.ReLU(inplace=True)


def arranged(pixels: Tensor, *, inverted: bool, transposed: bool) -> Tensor:
    """Raw pixels, [N, 1, 28, 28], values 0…255, as a model trained on inverted or transposed images takes them."""
    if inverted:
        pixels = WHITE - pixels
    # Contiguous, because many modules begin with a `view`.
    return pixels.transpose(2, 3).contiguous() if transposed else pixels


def normalize(pixels: Tensor, normalization: Normalization) -> Tensor:
    """Normalise raw pixels for an architecture: a float tensor of any shape, values 0…255."""
    return (pixels / WHITE - normalization.mean) / normalization.std


def build(architecture: Architecture | Source, classes: int) -> nn.Module:
    """A new model with freshly drawn weights, in training mode, on the CPU.

    Raises:
        UsageError: there is no architecture of that name, or the user's class cannot be built.
    """
    if isinstance(architecture, Source):
        return sources.build(architecture, classes)
    match architecture_named(architecture):
        case Architecture.CNN_NANO | Architecture.CNN | Architecture.CNN_LARGE:
            return CNN(STAGES[architecture], classes)
        case Architecture.SIMPLE_NN:
            return SimpleNN(classes)
        case Architecture.SIGMOID_NN:
            return SigmoidNN(classes)
        case _:
            assert_never(architecture)
