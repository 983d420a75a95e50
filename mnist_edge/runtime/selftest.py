"""Self-test: run a model's golden vectors through this machine's onnxruntime."""

import numpy as np
from msgspec import Struct

from mnist_edge.errors import ParityError
from mnist_edge.runtime.model import Model


class SelfTest(Struct, frozen=True):
    """The result of a self-test that passed."""

    vectors: int
    """Number of golden vectors, each run alone and all as one batch."""

    max_abs_diff: float
    """Largest |Δlogit| from PyTorch's logits."""

    tolerance: float
    """The largest |Δlogit| that the file allows."""


def run(model: Model) -> SelfTest:
    """Run a model's golden vectors, alone and as one batch, and compare the logits with PyTorch's.

    A batch that would need too much memory is cut into parts.

    Raises:
        ParityError: a logit differs by more than the file's tolerance.
        ModelFormatError: a logit is not finite.
    """
    golden = model.contents.golden
    worst = 0.0
    for batch in (1, model.contents.at_once(len(golden.images))):
        answers = [model.logits(golden.images[start : start + batch]) for start in range(0, len(golden.images), batch)]
        difference = np.abs(np.concatenate(answers) - golden.logits).max()
        # Written so that NaN fails.
        if not difference <= golden.tolerance:
            raise ParityError(
                f"{model.name}: on this machine its logits are {difference:.2g} from PyTorch's at batch size {batch}, "
                f"{golden.tolerance:.2g} is allowed: do not use it here; try another format or onnxruntime version"
            )
        worst = max(worst, float(difference))
    return SelfTest(vectors=len(golden.images), max_abs_diff=worst, tolerance=golden.tolerance)
