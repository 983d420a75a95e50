"""How far a quantized file may differ from the float32 file and still be recommended."""

from typing import Final

MAX_DROP: Final = 0.0005
"""Largest accuracy drop, as a fraction."""

MIN_AGREEMENT: Final = 0.998
"""Smallest share of test images on which the answer must be PyTorch's."""

MAX_BATCH_DEPENDENCE: Final = 1e-4
"""Largest change of an image's logits with the rest of its batch. Float32's rounding error stays below it."""


def differences(drop: float, agreement: float, batch_dependence: float | None) -> list[str]:
    """What is wrong with a file's answers; empty if nothing is.

    Args:
        drop: its accuracy drop, as a fraction.
        agreement: the share of test images on which it agrees with PyTorch.
        batch_dependence: the largest change of an image's logits with its batch; None if it was not measured.

    >>> differences(0.0002, 0.999, None)
    []
    """
    found = {
        f"accuracy drop of {100 * drop:.2f} points": drop > MAX_DROP + 1e-9,
        f"answers {100 * (1 - agreement):.2f} % of the images differently": agreement < MIN_AGREEMENT,
        f"an image's logits move by {batch_dependence or 0.0:.2g} with the rest of its batch": (
            (batch_dependence or 0.0) > MAX_BATCH_DEPENDENCE
        ),
    }
    return [words for words, holds in found.items() if holds]
