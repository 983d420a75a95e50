"""Find the preprocessing that weights were trained with, by trying the customary ones on training images.

With the wrong preprocessing a model still answers, often well: what gives it away is that its cross-entropy is
higher. So every candidate is measured on the same images, and the one with the lowest cross-entropy is taken if it is
lower than every other one's by more than chance.

That alone is not enough for a model whose training was cut short. `sigmoid-nn`, for example, is so unsure of itself at
first that pixels of 0…255 lower its cross-entropy merely by making it more confident. So no other candidate may be
better, by more than chance, in accuracy or in cross-entropy at its own best temperature. And where the best temperature
is below 1, which says that the model is unsure of itself, being better in both of these will do.
"""

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
from msgspec import Struct
from numpy.typing import NDArray
from torch import Tensor

from mnist_edge.contract import NORMALIZATIONS, Normalization
from mnist_edge.data.datasets import Split
from mnist_edge.evaluation.chance import STANDARD_ERRORS, constant_loss
from mnist_edge.evaluation.metrics import cross_entropies
from mnist_edge.export import calibration
from mnist_edge.training.loop import predict
from mnist_edge.training.models import arranged, normalize

IMAGES: Final = 10_000
"""Number of training images on which the candidates are compared, evenly spaced."""

LARGEST: Final = 1e6
"""Stands for an infinite logit."""

SAME: Final = 1e-3
"""Losses that differ by less for every image come from one function, up to rounding: the model itself normalizes."""


class Preparation(Struct, frozen=True):
    """What is done to raw pixels before a model's first layer."""

    normalization: Normalization
    inverted: bool = False
    transposed: bool = False

    def __call__(self, pixels: Tensor) -> Tensor:
        """Prepare raw pixels, float32 [N, 1, 28, 28]."""
        return normalize(arranged(pixels, inverted=self.inverted, transposed=self.transposed), self.normalization)

    def __str__(self) -> str:
        names = {normalization: name for name, normalization in NORMALIZATIONS.items()}
        mean, std = self.normalization.mean, self.normalization.std
        words = [names.get(self.normalization, f"mean {mean:g}, std {std:g}")]
        return ", ".join(words + ["inverted"] * self.inverted + ["transposed"] * self.transposed)


def candidates(given: Normalization | None) -> list[Preparation]:
    """What to try: the images as they are, inverted, transposed, and both, with one normalization or all."""
    return [
        Preparation(normalization, inverted, transposed)
        for transposed in (False, True)
        for inverted in (False, True)
        for normalization in ([given] if given else NORMALIZATIONS.values())
    ]


@dataclass(frozen=True)
class Trial:
    """A candidate and how well the model answers with it."""

    preparation: Preparation

    losses: NDArray[np.float64]
    """The cross-entropy of each image in nats: [n]."""

    temperature: float
    """The temperature at which the mean cross-entropy is lowest."""

    calibrated_losses: NDArray[np.float64]
    """The cross-entropy of each image at that temperature: [n]."""

    errors: NDArray[np.float64]
    """1 for each image that is answered wrongly, 0 for the others: [n]."""

    def cells(self) -> tuple[str, ...]:
        """A row under `HEADER`."""
        losses = (f"{each.mean():.4f}" for each in (self.losses, self.calibrated_losses))
        return (str(self.preparation), *losses, f"{100 * (1 - self.errors.mean()):.2f} %")


HEADER: Final = ("preprocessing", "cross-entropy", "calibrated", "accuracy")


def try_all(logits_of: Callable[[Tensor], Tensor], split: Split, tried: Sequence[Preparation]) -> list[Trial]:
    """Measure a model with each candidate, the best first.

    Args:
        logits_of: takes prepared images, float32 [n, 1, 28, 28], and returns logits, float32 [n, classes].
        split: training images; up to `IMAGES` of them are used.
        tried: the candidates.
    """
    every = max(1, len(split) // IMAGES)
    few = Split(split.images[::every][:IMAGES], split.labels[::every][:IMAGES])
    trials = [_trial(logits_of, few, candidate) for candidate in tried]
    return sorted(trials, key=lambda trial: float(trial.losses.mean()))


def _trial(logits_of: Callable[[Tensor], Tensor], split: Split, candidate: Preparation) -> Trial:
    logits = predict(lambda pixels: logits_of(candidate(pixels)), split.images, "cpu")
    logits = np.nan_to_num(logits, nan=0.0, posinf=LARGEST, neginf=-LARGEST)
    temperature = calibration.temperature(logits, split.labels) or math.inf
    return Trial(
        preparation=candidate,
        losses=cross_entropies(logits, split.labels),
        temperature=temperature,
        calibrated_losses=cross_entropies(logits / temperature, split.labels),
        errors=(logits.argmax(axis=1) != split.labels).astype(float),
    )


def decide(trials: Sequence[Trial], labels: NDArray[np.uint8], classes: int) -> Trial | str:
    """The trial that is clearly the best, or why there is none.

    Args:
        trials: from `try_all`.
        labels: the classes of the training images.
        classes: the number of classes.
    """
    limit = constant_loss(labels, classes, label_smoothing=0)
    lowest = min((trial.calibrated_losses for trial in trials), key=np.mean)
    if not lowest.mean() + STANDARD_ERRORS * _standard_error(lowest) < limit:
        return f"none beats a constant answer, whose cross-entropy is {limit:.3f}"
    for trial in trials:
        others = [other for other in trials if np.abs(other.losses - trial.losses).max() >= SAME]
        if all(_is_clearly_better(trial, other) for other in others):
            if trial.losses.mean() < limit:
                return trial
            return (
                f"with the best one, “{trial.preparation}”, its cross-entropy is {trial.losses.mean():.3f}, a constant "
                f"answer's {limit:.3f}"
            )
    return _doubt(trials)


def better_than(chosen: Trial, trials: Sequence[Trial]) -> Trial | None:
    """The first trial that is better than the chosen one in cross-entropy and in accuracy, by more than chance."""
    for trial in trials:
        if _is_lower(trial.losses, chosen.losses) and _is_lower(trial.errors, chosen.errors):
            return trial
    return None


def _is_clearly_better(one: Trial, other: Trial) -> bool:
    figures = [*zip(_figures(one), _figures(other), strict=True)]
    if any(_is_lower(theirs, ours) for ours, theirs in figures):
        return False
    plain, calibrated, errors = (_is_lower(ours, theirs) for ours, theirs in figures)
    return plain or (one.temperature < 1 and calibrated and errors)


def _figures(trial: Trial) -> tuple[NDArray[np.float64], ...]:
    return trial.losses, trial.calibrated_losses, trial.errors


def _doubt(trials: Sequence[Trial]) -> str:
    """What speaks against the trial with the lowest cross-entropy."""
    best, *others = trials
    names = ("cross-entropy", "calibrated cross-entropy", "share of errors")
    for other in others:
        for name, ours, theirs in zip(names, _figures(best), _figures(other), strict=True):
            if _is_lower(theirs, ours):
                return (
                    f"“{best.preparation}” has the lower cross-entropy, “{other.preparation}” the lower {name}: the "
                    "training may have been cut short"
                )
    return f"“{best.preparation}” and “{others[0].preparation}” do equally well"


def _is_lower(one: NDArray[np.float64], other: NDArray[np.float64]) -> bool:
    """Whether the mean of the first is lower, by more than chance."""
    difference = other - one
    return bool(difference.mean() > STANDARD_ERRORS * _standard_error(difference))


def _standard_error(values: NDArray[np.float64]) -> float:
    return float(values.std(ddof=1) / math.sqrt(len(values)))
