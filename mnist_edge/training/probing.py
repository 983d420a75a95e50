"""Find out whether a network can be exported at all: whether its answers depend on one image, and on nothing else."""

from typing import Final

import torch
from torch import Tensor, nn

from mnist_edge.bundle.source import InputForm
from mnist_edge.contract import HEIGHT, PIXELS, WIDTH
from mnist_edge.errors import ModelFormatError, UsageError
from mnist_edge.training.user_code import described, running

BATCH_SIZES: Final = (1, 2, 7)

REPEATED: Final = 1e-5
"""How far an answer may move between two equal calls, as a share of the largest."""

IN_BATCH: Final = 1e-3
"""How far it may move with other images in the batch, as a share of the standard deviation; rounding is a hundredth."""

_SHAPES: Final = {InputForm.IMAGE: (1, HEIGHT, WIDTH), InputForm.FLAT: (PIXELS,)}


def probe(model: nn.Module, images: Tensor, classes: int) -> None:
    """Check that a network gives every image the same scores, whatever was computed before or beside it.

    It is run in evaluation mode, and left so. Torch's random numbers are as before.

    Args:
        model: a network, on the CPU.
        images: float32 [N, 1, 28, 28] or [N, 784], at least 14 different ones.
        classes: the number of labels.

    Raises:
        UsageError: the images have the other shape than it takes, or it has another number of outputs.
        ModelFormatError: it fails, does not return one finite float tensor [N, classes], changes its input or weights,
            or its answers change between calls or with the batch.
    """
    model.eval()
    before = _weights(model)
    logits = _accepted(model, images, classes)
    changed = [name for name, tensor in _weights(model).items() if not _equal(tensor, before[name])]
    if changed:
        raise ModelFormatError(
            f"the network changes its own {changed[0]!r:.80} when it runs: let forward() leave all weights alone"
        )
    _check_repeatable(model, images, logits)
    _check_independent(model, images, logits)


def _weights(model: nn.Module) -> dict[str, Tensor]:
    state = model.state_dict()
    return {name: value.clone() for name, value in state.items() if isinstance(value, Tensor)}


def _accepted(model: nn.Module, images: Tensor, classes: int) -> Tensor:
    """The network's answer; if it fails, the error says whether the other form of input would do."""
    try:
        return _run(model, images, classes)
    except ModelFormatError as error:
        other = InputForm.IMAGE if images.ndim == 2 else InputForm.FLAT
        try:
            _run(model, images.reshape(-1, *_SHAPES[other]), classes)
        except (ModelFormatError, UsageError):
            raise error from error.__cause__
        raise UsageError(f"{error}, or give  --input {other},  with which it runs") from error


def _check_repeatable(model: nn.Module, images: Tensor, logits: Tensor) -> None:
    allowed = REPEATED * float(logits.abs().max())
    _run(model, images.flip(0), logits.shape[1])  # what the network keeps from this call shows in the next
    if _difference(_run(model, images, logits.shape[1]), logits) > allowed:
        raise ModelFormatError(
            "the network's answers depend on earlier calls: it keeps state, or draws random numbers outside torch: let "
            "forward() begin anew each time"
        )
    if _difference(_run(model, images, logits.shape[1], seed=1), logits) > allowed:
        raise ModelFormatError(
            "the network's answers change between two calls: dropout or noise is active in evaluation mode: write "
            "F.dropout(x, training=self.training), or use nn.Dropout"
        )


def _check_independent(model: nn.Module, images: Tensor, logits: Tensor) -> None:
    allowed = IN_BATCH * float(logits.std()) + REPEATED * float(logits.abs().max())
    count = 2 * max(BATCH_SIZES)
    slices = [slice(start, start + size) for size in BATCH_SIZES for start in range(0, count, size)]
    batches = [(images[each], logits[each]) for each in slices] + [(images.flip(0), logits.flip(0))]
    for batch, expected in batches:
        difference = _difference(_run(model, batch, logits.shape[1]), expected)
        if difference > allowed:
            raise ModelFormatError(
                f"the network's answers depend on the other images in the batch (by {difference:.2g}, in a batch of "
                f"{len(batch)}): compute nothing across images, and give no BatchNorm track_running_stats=False"
            )


def _run(model: nn.Module, images: Tensor, classes: int, seed: int = 0) -> Tensor:
    """The network's scores, float32 [N, classes], checked for their form."""
    given, count = images.clone(), len(images)
    shape = f"float32 {list(images.shape)}"
    failed = f"the network fails on {shape}: {{}}: let forward() take any number of such images"
    # Only the CPU's generator: torch.manual_seed would also seed every other device, for good.
    with running(lambda error: failed.format(described(error))), torch.random.fork_rng(devices=[]), torch.no_grad():
        torch.default_generator.manual_seed(seed)
        scores = model(given)
    if not isinstance(scores, Tensor):
        raise ModelFormatError(
            f"the network returns a {type(scores).__name__!s:.80}, not a tensor: let forward() return the scores alone"
        )
    if not scores.is_floating_point() or scores.layout != torch.strided:
        kind = scores.layout if scores.is_floating_point() else scores.dtype
        raise ModelFormatError(
            f"the network returns a tensor of {kind}, not dense float32: let forward() return scores, before argmax"
        )
    if scores.ndim == 2 and len(scores) == count and scores.shape[1] != classes:
        raise UsageError(
            f"the network returns {scores.shape[1]} scores an image, but there are {classes} labels: give other "
            "--labels, or set its number of outputs with --model-args"
        )
    if scores.shape != (count, classes):
        raise ModelFormatError(
            f"the network returns shape {list(scores.shape)} for {shape}, not [{count}, {classes}]: let "
            "forward() return one row of scores an image"
        )
    if not scores.isfinite().all():
        raise ModelFormatError("the network returns NaN or infinite scores: train it anew, or give other weights")
    if not torch.equal(given, images):
        raise ModelFormatError(
            "the network changes the images that it is given: use no in-place operation, such as x /= 255, on its input"
        )
    return scores.float().clone()  # a network may write each answer over the last


def _equal(one: Tensor, other: Tensor) -> bool:
    return one.shape == other.shape and bool(((one == other) | (one.isnan() & other.isnan())).all())


def _difference(one: Tensor, other: Tensor) -> float:
    return float((one - other).abs().max())
