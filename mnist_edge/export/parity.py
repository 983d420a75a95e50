"""The proof: an exported file against the PyTorch model it was made from, on every test image.

The reference is the trained model itself, in float32 and evaluation mode, behind the preprocessing of its training. The
ONNX graphs are made of a folded copy and run by another engine; TorchScript is a trace of the model. Every candidate
answers the whole test set in batches as large as the runtime's own, and those images that are most easily turned at
other sizes too; where its engine rewrites graphs, with and without that. Names, shapes and types come first, then
values; everything is measured first, then compared with the tolerance.
"""

import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch
from numpy.typing import NDArray

from mnist_edge.bundle.records import Parity
from mnist_edge.contract import HEIGHT, WHITE, WIDTH
from mnist_edge.data.datasets import Split
from mnist_edge.errors import ParityError
from mnist_edge.export.graph import RawPixels
from mnist_edge.export.threads import in_threads
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.training.checkpoint import Trained

BATCH_SIZES: Final = (1, 2, 7, 64, 300)
"""One image alone, the smallest true batch, one that divides nothing, one that fills vector units, and one that is
larger than what the runtime gives onnxruntime at once. The whole test set comes in batches of `CHUNK`."""

CHOSEN: Final = 512
"""Test images that are compared at every one of `BATCH_SIZES`: one half the closest decisions, the other half from all
over the test set."""

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
    """Largest |Δlogit| by rounding alone, whatever the logits' size."""

    min_agreement: float
    """Share of test images on which both name the same class."""

    max_accuracy_drop: float
    """In shares of one: 0.002 is 0.2 points."""

    in_std: float = 0.0
    """What |Δlogit| may be beyond that, in standard deviations of PyTorch's logits on the test images."""

    in_std_on_noise: float = 0.0
    """The same on the probes, which drive activations beyond what the scales were set by."""

    def largest(self, std: float) -> tuple[float, float]:
        """The largest |Δlogit| on test images and on noise, where PyTorch's logits have that standard deviation."""
        return self.max_abs_diff + self.in_std * std, self.max_abs_diff + self.in_std_on_noise * std


TORCHSCRIPT: Final = Tolerance(max_abs_diff=1e-5, min_agreement=1.0, max_accuracy_drop=0.0)
FLOAT32: Final = Tolerance(max_abs_diff=1e-4, min_agreement=1.0, max_accuracy_drop=0.0)
INT8: Final = Tolerance(
    max_abs_diff=1e-4, min_agreement=0.997, max_accuracy_drop=0.002, in_std=0.25, in_std_on_noise=0.5
)


class Reference:
    """The PyTorch model's answers on a test set and on noise, in batches of `CHUNK` and at each of `BATCH_SIZES`."""

    def __init__(self, trained: Trained, test: Split) -> None:
        noise = np.random.default_rng(seed=0).integers(0, WHITE + 1, (PROBES, HEIGHT, WIDTH), dtype=np.uint8)
        self.images = np.concatenate([test.images, noise])[:, None]
        """uint8 [n + PROBES, 1, 28, 28]"""

        self.labels = test.labels
        """uint8 [n]"""

        run = run_module(RawPixels(trained.model, trained.contract.normalization).eval())
        whole = in_batches(run, self.images, CHUNK, threaded=True)
        self.logits = {CHUNK: whole}
        """By batch size, float32 [n + PROBES, classes]: PyTorch's own rounding depends on it."""

        probes = np.arange(len(test), len(self.images))
        self.compared = {CHUNK: np.arange(len(self.images))}
        """By batch size, the indices of the images that are answered at it."""

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


def _choose(logits: NDArray[np.float32]) -> NDArray[np.intp]:
    """The indices of the test images that are compared at every batch size, the closest decisions among them."""
    if len(logits) <= CHOSEN:
        return np.arange(len(logits))
    second, first = np.partition(logits, -2, axis=1)[:, -2:].T
    by_margin = np.argsort(first - second, kind="stable")
    closest, others = by_margin[: CHOSEN // 2], np.sort(by_margin[CHOSEN // 2 :])
    return np.concatenate([closest, others[np.linspace(0, len(others) - 1, CHOSEN - len(closest), dtype=np.intp)]])


def in_batches(run: Run, images: NDArray[np.uint8], size: int, *, threaded: bool = False) -> NDArray[np.float32]:
    """The logits of all images, computed in batches of a size.

    Args:
        run: what computes them.
        images: uint8 [n, 1, 28, 28].
        size: images a call.
        threaded: whether several Python threads call at once; not where `run` starts threads of its own.
    """
    batches = [images[start : start + size] for start in range(0, len(images), size)]
    return np.concatenate(in_threads(run, batches) if threaded else [run(batch) for batch in batches])


def compare(reference: Reference, variants: Mapping[str, Run], name: str) -> tuple[Parity, NDArray[np.float32]]:
    """Run a candidate, in each of its variants at every batch size, and hold it against the reference.

    Args:
        reference: PyTorch's answers.
        variants: the ways to run the candidate.
        name: what it is called in messages.

    Returns:
        The figures, and the first variant's logits on the whole test set, float32 [n, classes].

    Raises:
        ParityError: its logits have another type or shape than the reference's.
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
        # np.max keeps NaN, which Python's max may lose.
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


def require_within(parity: Parity, tolerance: Tolerance, name: str) -> None:
    """Raise ParityError with every figure of the file of that name that is out of tolerance, or return."""
    limit, noise_limit = tolerance.largest(parity.logit_std)
    # Of a small test set one image may be more than the share.
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
            # accuracies are counts over images: half an image is more than rounding
            parity.accuracy_drop <= max(tolerance.max_accuracy_drop, least / parity.images) + 0.5 / parity.images
        ),
    }
    failures = [message for message, holds in conditions.items() if not holds]
    if failures:
        raise ParityError(f"{name}: does not answer as PyTorch does: {'; '.join(failures)}")
