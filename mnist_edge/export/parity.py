"""The proof: an exported file against the PyTorch model it was made from, on every test image.

The reference is the trained model itself, in float32 and evaluation mode, behind the preprocessing of its training. The
ONNX graphs are made of a folded copy and run by another engine; TorchScript is a trace of the model. Every candidate
runs at several batch sizes, and where its engine rewrites graphs, with and without that. Names, shapes and types come
first, then values; everything is collected, then judged.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.errors import ParityError
from mnist_edge.export.graph import RawPixels
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.datasets import Split

BATCH_SIZES: Final = (1, 2, 7, 64)
"""One image alone, the smallest true batch, one that divides nothing, and one that fills vector units."""

PROBES: Final = 64
"""Images of noise that are compared besides the test set: MNIST never lights some pixels, noise lights all."""

GOLDEN_SLACK: Final = 0.05
"""The most that an int8 file's golden vectors may allow, as a share of the largest golden logit."""

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Raw pixels, uint8 [n, 1, 28, 28], to logits, float32 [n, classes]."""


@dataclass(frozen=True)
class Tolerance:
    """How far a file may be from PyTorch."""

    max_abs_diff: float
    """Largest |Δlogit|; infinite where only the answers count."""

    min_agreement: float
    """Share of test images on which both name the same class."""

    max_accuracy_drop: float
    """In shares of one: 0.002 is 0.2 points."""


TORCHSCRIPT: Final = Tolerance(max_abs_diff=1e-5, min_agreement=1.0, max_accuracy_drop=0.0)
FLOAT32: Final = Tolerance(max_abs_diff=1e-4, min_agreement=1.0, max_accuracy_drop=0.0)
INT8: Final = Tolerance(max_abs_diff=math.inf, min_agreement=0.997, max_accuracy_drop=0.002)


@dataclass(frozen=True)
class Parity:
    """What a comparison found: of every figure the worst over all batch sizes and variants."""

    max_abs_diff: float
    """Largest |Δlogit| on test images."""

    max_abs_diff_on_noise: float
    """Largest |Δlogit| on the probes."""

    flips: int
    """Test images on which the two name different classes."""

    non_finite: int
    """Logits that are NaN or infinite."""

    accuracy: float
    """On the test set."""

    accuracy_drop: float
    """Below PyTorch's; negative where the file does better."""

    images: int
    batch_sizes: tuple[int, ...]
    variants: tuple[str, ...]

    @property
    def agreement(self) -> float:
        """Share of test images on which both name the same class."""
        return 1 - self.flips / self.images

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values; what is not finite becomes null."""
        values = asdict(self) | {"agreement": self.agreement}
        values |= {"batch_sizes": list(self.batch_sizes), "variants": list(self.variants)}
        return {k: None if isinstance(v, float) and not math.isfinite(v) else v for k, v in values.items()}


class Reference:
    """The PyTorch model's answers on a test set and on noise, at every batch size of `BATCH_SIZES`."""

    def __init__(self, trained: Trained, test: Split) -> None:
        noise = np.random.default_rng(seed=0).integers(0, WHITE + 1, (PROBES, HEIGHT, WIDTH), dtype=np.uint8)
        self.images = np.concatenate([test.images, noise])[:, None]
        """uint8 [n + PROBES, 1, 28, 28]"""

        self.labels = test.labels
        """uint8 [n]"""

        self.classes = len(trained.contract.labels)
        model = RawPixels(trained.model, trained.contract.normalization).eval()
        self.logits = {size: in_batches(run_module(model), self.images, size) for size in BATCH_SIZES}
        """By batch size, float32 [n + PROBES, classes]: PyTorch's own rounding depends on it."""

        self.accuracy = self.share_correct(self.logits[BATCH_SIZES[-1]])

    def share_correct(self, logits: NDArray[np.float32]) -> float:
        """Accuracy on the test images, 0…1."""
        return float((logits[: len(self.labels)].argmax(axis=1) == self.labels).mean())


def run_module(module: torch.nn.Module) -> Run:
    """A torch module, TorchScript's included, as a function on arrays."""

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = module(torch.tensor(images)).numpy()
        return logits

    return run


def is_quantized(
    value: NDArray[np.floating[Any]],
    step: NDArray[np.floating[Any]],
    exact: NDArray[np.float32],
    peak: Any,
    limit: int,
    *,
    within: float = 0.5,
) -> bool:
    """Whether stored weights are the trained ones, rounded to steps that are as fine as their range allows.

    Args:
        value: the stored weights, as they act.
        step: what they are multiples of, of a shape that broadcasts to theirs.
        exact: the trained weights.
        peak: the largest magnitude among the trained weights that share a step; broadcasts, too.
        limit: the most steps that a weight may be away from zero.
        within: the most steps that it may be away from the trained one: a half where it is the nearest, one where it
            is that above or that below.
    """
    # float32 rounds the quotients. Where all weights are zero the step does not matter.
    is_fine = (step <= 1.0001 * peak / limit) | (peak == 0)
    return bool(is_fine.all()) and is_rounded(value, step, exact, within=within)


def is_rounded(
    value: NDArray[np.floating[Any]],
    step: NDArray[np.floating[Any]],
    exact: NDArray[np.float32],
    *,
    within: float = 0.5,
) -> bool:
    """Whether stored weights are the trained ones, rounded to steps; arguments as `is_quantized` takes them."""
    return bool((np.abs(value - exact) <= 1.0001 * within * step).all())


def in_batches(run: Run, images: NDArray[np.uint8], size: int) -> NDArray[np.float32]:
    """The logits of all images, computed in batches of a size."""
    return np.concatenate([run(images[start : start + size]) for start in range(0, len(images), size)])


def compare(reference: Reference, variants: Mapping[str, Run], name: str) -> Parity:
    """Run a candidate, in each of its variants at every batch size, and hold it against the reference.

    Raises:
        ParityError: its logits have another type or shape than the reference's.
    """
    count = len(reference.labels)
    diffs, noise_diffs, flips, non_finite, accuracies = [], [], [], [], []
    for variant, run in variants.items():
        for size, expected in reference.logits.items():
            actual = in_batches(run, reference.images, size)
            if actual.dtype != expected.dtype or actual.shape != expected.shape:
                raise ParityError(
                    f"{name}: returns {actual.dtype} {list(actual.shape)} instead of {expected.dtype} "
                    f"{list(expected.shape)} ({variant}, batch size {size}): it does not keep its contract"
                )
            difference = np.abs(actual - expected)
            diffs.append(difference[:count].max())
            noise_diffs.append(difference[count:].max())
            flips.append((actual[:count].argmax(axis=1) != expected[:count].argmax(axis=1)).sum())
            non_finite.append((~np.isfinite(actual)).sum())
            accuracies.append(reference.share_correct(actual))
    return Parity(
        # np.max keeps NaN, which Python's max may lose.
        max_abs_diff=float(np.max(diffs)),
        max_abs_diff_on_noise=float(np.max(noise_diffs)),
        flips=int(max(flips)),
        non_finite=int(max(non_finite)),
        accuracy=min(accuracies),
        accuracy_drop=reference.accuracy - min(accuracies),
        images=count,
        batch_sizes=BATCH_SIZES,
        variants=tuple(variants),
    )


def judge(parity: Parity, tolerance: Tolerance, name: str) -> None:
    """Raise ParityError with every figure of the file of that name that is out of tolerance, or return."""
    limit = tolerance.max_abs_diff
    # Of a small test set one image may be more than the share.
    least = 1 if tolerance.min_agreement < 1 else 0
    allowed_flips = max(least, math.floor((1 - tolerance.min_agreement) * parity.images + 1e-9))
    drop, allowed_drop = 100 * parity.accuracy_drop, 100 * tolerance.max_accuracy_drop
    # Each condition is written so that NaN fails it.
    conditions = {
        f"{parity.non_finite} logits are NaN or infinite": parity.non_finite == 0,
        f"max |Δlogit| {parity.max_abs_diff:.2g}, allowed {limit:g}": parity.max_abs_diff <= limit,
        f"max |Δlogit| on noise {parity.max_abs_diff_on_noise:.2g}, allowed {limit:g}": (
            parity.max_abs_diff_on_noise <= limit
        ),
        f"{parity.flips} of {parity.images} images answered differently, allowed {allowed_flips}": (
            parity.flips <= allowed_flips
        ),
        f"accuracy {drop:.2f} points below PyTorch's, allowed {allowed_drop:g}": (
            # accuracies are counts over images: half an image is more than rounding
            parity.accuracy_drop <= max(tolerance.max_accuracy_drop, least / parity.images) + 0.5 / parity.images
        ),
    }
    failures = [message for message, holds in conditions.items() if not holds]
    if failures:
        raise ParityError(f"{name}: does not answer as PyTorch does: {'; '.join(failures)}")
