"""Compare an exported file with the PyTorch model it was made from, on every test image.

The reference is the trained model itself, in float32 and evaluation mode, with the preprocessing of its training. ONNX
graphs are made from a folded copy and run by another engine; TorchScript is a trace of the model.

Every candidate runs on the whole test set in batches of the runtime's own size, and at other batch sizes on a part that
includes the closest decisions. If its engine optimises graphs, it runs both with and without. Names, shapes and types
are checked first, then values. All figures are measured before any is compared with its tolerance.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_edge.bundle.records import Parity
from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.data.datasets import Split
from mnist_edge.errors import ParityError
from mnist_edge.export.graph import raw_pixels
from mnist_edge.export.threads import in_threads
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.training.checkpoint import Trained

BATCH_SIZES: Final = (1, 2, 7, 64, 300)
"""A single image, the smallest real batch, an odd prime, one that fills vector units, and one larger than the runtime
passes to onnxruntime at once. The whole test set is run in batches of `CHUNK`."""

CHOSEN: Final = 512
"""Test images compared at each of `BATCH_SIZES`: half of them the closest decisions, half spread over the test set."""

PROBES: Final = 64
"""Noise images compared in addition to the test set: MNIST never lights some pixels, noise lights all."""

GOLDEN_SLACK: Final = 0.15
"""Largest tolerance of an int8 file's golden vectors, as a share of the largest golden logit. The full image among them
is as far from digits as the `PROBES` are, for which `INT8` allows about as much."""

Run = Callable[[NDArray[np.uint8]], NDArray[np.float32]]
"""Raw pixels, uint8 [n, 1, 28, 28], to logits, float32 [n, classes]."""


@dataclass(frozen=True)
class Tolerance:
    """How far a file may deviate from PyTorch."""

    max_abs_diff: float
    """Largest |Δlogit| from floating-point rounding, whatever the size of the logits."""

    min_agreement: float
    """Smallest share of test images on which both predict the same class."""

    max_accuracy_drop: float
    """As a fraction: 0.002 is 0.2 points."""

    in_std: float = 0.0
    """Added to `max_abs_diff` for quantization, in standard deviations of PyTorch's logits on the test images."""

    in_std_on_noise: float = 0.0
    """The same for the probes, which can drive activations beyond the range of the scales."""

    def largest(self, std: float) -> tuple[float, float]:
        """The |Δlogit| allowed on test images and on noise, given the standard deviation of PyTorch's logits."""
        return self.max_abs_diff + self.in_std * std, self.max_abs_diff + self.in_std_on_noise * std


TORCHSCRIPT: Final = Tolerance(max_abs_diff=1e-5, min_agreement=1.0, max_accuracy_drop=0.0)
FLOAT32: Final = Tolerance(max_abs_diff=1e-4, min_agreement=1.0, max_accuracy_drop=0.0)
INT8: Final = Tolerance(
    max_abs_diff=1e-4, min_agreement=0.997, max_accuracy_drop=0.002, in_std=0.25, in_std_on_noise=0.5
)
BETWEEN_ENGINES: Final = replace(INT8, in_std=0.1)
"""How far another engine may be from onnxruntime on the same int8 file. Where onnxruntime rounds a byte the other way,
the last layer moves a logit by one step of its input times a weight, 0.6 % of a standard deviation. `scripts/
check_interop.py` found up to 0.05 standard deviations."""


class Reference:
    """The PyTorch model's logits on a test set and on noise, in batches of `CHUNK` and of each of `BATCH_SIZES`."""

    def __init__(self, trained: Trained, test: Split) -> None:
        noise = np.random.default_rng(seed=0).integers(0, WHITE + 1, (PROBES, HEIGHT, WIDTH), dtype=np.uint8)
        self.images = np.concatenate([test.images, noise])[:, None]
        """uint8 [n + PROBES, 1, 28, 28]"""

        self.labels = test.labels
        """uint8 [n]"""

        run = run_module(raw_pixels(trained))
        whole = in_batches(run, self.images, CHUNK, threaded=True)
        self.logits = {CHUNK: whole}
        """By batch size, on which PyTorch's rounding depends: float32 [n + PROBES, classes]."""

        probes = np.arange(len(test), len(self.images))
        self.compared = {CHUNK: np.arange(len(self.images))}
        """By batch size, the indices of the images compared at it."""

        for size in BATCH_SIZES:
            self.compared[size] = chosen = np.concatenate([_choose(whole[: len(test)]), probes])
            self.logits[size] = whole.copy()
            self.logits[size][chosen] = in_batches(run, self.images[chosen], size, threaded=True)

        self.accuracy = self.share_correct(whole)
        self.logit_std = float(whole[: len(test)].std(dtype=np.float64))
        """Standard deviation of the logits on the test images."""

    def share_correct(self, logits: NDArray[np.float32]) -> float:
        """Accuracy on the test images, 0…1."""
        return float((logits[: len(self.labels)].argmax(axis=1) == self.labels).mean())


def run_module(module: torch.nn.Module) -> Run:
    """Wrap a torch module or a TorchScript module as a function on arrays."""

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        with torch.inference_mode():
            logits: NDArray[np.float32] = module(as_tensor(images)).numpy()
        return logits

    return run


def as_tensor(images: NDArray[np.uint8]) -> torch.Tensor:
    """Raw pixels as torch lays them out.

    numpy gives an axis of length 1 any stride. By that torch may take the images for channels-last, and what comes out
    of a convolution cannot be viewed as rows, as many modules do.
    """
    return torch.tensor(images).clone(memory_format=torch.contiguous_format)


def is_quantized(
    value: NDArray[np.floating[Any]],
    step: NDArray[np.floating[Any]],
    exact: NDArray[np.float32],
    peak: Any,
    limit: int,
    *,
    within: float = 0.5,
) -> bool:
    """Whether stored weights are the trained ones, rounded to the finest steps that keep them within their limit.

    Args:
        value: the stored weights, dequantized.
        step: their step, in a shape that broadcasts to theirs.
        exact: the trained weights.
        peak: the largest magnitude among the trained weights that share a step, in a shape that broadcasts too.
        limit: the largest magnitude of a stored weight, in steps.
        within: the largest distance from the trained weight, in steps: 0.5 for rounding to nearest, 1 for adaptive
            rounding.
    """
    # The factor allows for the rounding of steps to float32. Where all weights are zero the step does not matter.
    is_fine = (step <= 1.0001 * peak / limit) | (peak == 0)
    is_small = np.abs(value) <= 1.0001 * limit * step
    return bool(is_fine.all()) and bool(is_small.all()) and is_rounded(value, step, exact, within=within)


def is_rounded(
    value: NDArray[np.floating[Any]],
    step: NDArray[np.floating[Any]],
    exact: NDArray[np.float32],
    *,
    within: float = 0.5,
) -> bool:
    """Whether stored weights are the trained ones, rounded to steps. Takes the arguments of `is_quantized`."""
    return bool((np.abs(value - exact) <= 1.0001 * within * step).all())


def _choose(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """The indices of the test images to compare at every batch size (see `CHOSEN`)."""
    if len(logits) <= CHOSEN:
        return np.arange(len(logits))
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    by_margin = np.argsort(first - second, kind="stable")
    closest, others = by_margin[: CHOSEN // 2], np.sort(by_margin[CHOSEN // 2 :])
    return np.concatenate([closest, others[np.linspace(0, len(others) - 1, CHOSEN - len(closest), dtype=np.intp)]])


def in_batches(run: Run, images: NDArray[np.uint8], size: int, *, threaded: bool = False) -> NDArray[np.float32]:
    """Compute the logits of all images in batches.

    Args:
        run: computes the logits of a batch.
        images: uint8 [n, 1, 28, 28].
        size: images per batch.
        threaded: whether to run batches in several Python threads. Not useful if `run` starts threads of its own.
    """
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate(in_threads(run, batches) if threaded else [run(batch) for batch in batches])


def compare(reference: Reference, variants: Mapping[str, Run], name: str) -> tuple[Parity, NDArray[np.float32]]:
    """Run every variant of a candidate at every batch size and compare it with the reference.

    Args:
        reference: PyTorch's answers.
        variants: the ways to run the candidate.
        name: the candidate's name in messages.

    Returns:
        The figures, and the first variant's logits on the whole test set, float32 [n, classes].

    Raises:
        ParityError: the dtype or shape of its logits differs from the reference's.
    """
    count = len(reference.labels)
    diffs, noise_diffs, flips, non_finite, accuracies = [], [], [], [], []
    answers: list[NDArray[np.float32]] = []
    for variant, run in variants.items():
        for size, expected in reference.logits.items():
            compared = reference.compared[size]
            found = in_batches(run, reference.images[compared], size, threaded=True)
            wanted = expected[compared]
            if found.dtype != wanted.dtype or found.shape != wanted.shape:
                raise ParityError(
                    f"{name}: returns {found.dtype} {list(found.shape)} instead of {wanted.dtype} "
                    f"{list(wanted.shape)} ({variant}, batch size {size}): it does not keep its contract"
                )
            if size == CHUNK:
                answers.append(found)
            actual = answers[-1].copy()
            actual[compared] = found
            difference = np.abs(actual - expected)
            diffs.append(difference[:count].max())
            noise_diffs.append(difference[count:].max())
            flips.append((actual[:count].argmax(axis=1) != expected[:count].argmax(axis=1)).sum())
            non_finite.append((~np.isfinite(actual)).sum())
            accuracies.append(reference.share_correct(actual))
    parity = Parity(
        # np.max propagates NaN; Python's max may lose it.
        max_abs_diff=float(np.max(diffs)),
        max_abs_diff_on_noise=float(np.max(noise_diffs)),
        flips=int(max(flips)),
        agreement=1 - int(max(flips)) / count,
        non_finite=int(max(non_finite)),
        accuracy=min(accuracies),
        accuracy_drop=reference.accuracy - min(accuracies),
        logit_std=reference.logit_std,
        images=count,
        batch_sizes={str(size): int((compared < count).sum()) for size, compared in reference.compared.items()},
        variants=tuple(variants),
    )
    return parity, answers[0][:count]


def require_equal(run: Run, origin: Run, images: NDArray[np.uint8], name: str) -> None:
    """Raise ParityError if a file's logits are not, bit for bit, those of the file that it was made from."""
    found, wanted = (in_batches(each, images, CHUNK, threaded=True) for each in (run, origin))
    if differing := int((found != wanted).any(axis=1).sum()):
        raise ParityError(
            f"{name}: {differing} of {len(images)} images have other logits than in the file that it was made from: "
            "export it again"
        )


def require_within(parity: Parity, tolerance: Tolerance, name: str) -> None:
    """Raise ParityError if any figure is out of tolerance; the message lists all that are."""
    limit, noise_limit = tolerance.largest(parity.logit_std)
    # In a small test set a single image may exceed the allowed share.
    least = 1 if tolerance.min_agreement < 1 else 0
    allowed_flips = max(least, math.floor((1 - tolerance.min_agreement) * parity.images + 1e-9))
    drop, allowed_drop = 100 * parity.accuracy_drop, 100 * tolerance.max_accuracy_drop
    # Each condition is written so that NaN fails it.
    conditions = {
        f"{parity.non_finite} logits are NaN or infinite": parity.non_finite == 0,
        f"max |Δlogit| {parity.max_abs_diff:.2g}, allowed {limit:.2g}": parity.max_abs_diff <= limit,
        f"max |Δlogit| on noise {parity.max_abs_diff_on_noise:.2g}, allowed {noise_limit:.2g}": (
            parity.max_abs_diff_on_noise <= noise_limit
        ),
        f"{parity.flips} of {parity.images} images answered differently, allowed {allowed_flips}": (
            parity.flips <= allowed_flips
        ),
        f"accuracy {drop:.2f} points below PyTorch's, allowed {allowed_drop:g}": (
            # accuracies are multiples of 1 / images: half of that absorbs rounding errors
            parity.accuracy_drop <= max(tolerance.max_accuracy_drop, least / parity.images) + 0.5 / parity.images
        ),
    }
    failures = [message for message, holds in conditions.items() if not holds]
    if failures:
        raise ParityError(f"{name}: does not answer as PyTorch does: {'; '.join(failures)}")
