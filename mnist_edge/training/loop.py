"""The training loop: all images as one uint8 tensor in memory, no DataLoader, no workers, one seed for everything."""

import contextlib
import math
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from typing import Any, Final, assert_never

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnist_edge.errors import TrainingError, UsageError
from mnist_edge.training.augment import random_affine
from mnist_edge.training.datasets import Dataset
from mnist_edge.training.metrics import Metrics, measure
from mnist_edge.training.models import build, normalize
from mnist_edge.training.recipes import Architecture, OptimizerName, Recipe, Schedule

EVALUATION_BATCH: Final = 1000
"""Images a step of an evaluation."""

WARM_UP: Final = 0.25
"""Share of a one-cycle training in which the learning rate rises."""

_Tensors = list[Tensor] | tuple[Tensor, ...]

OnBatch = Callable[[int, int, int, float], None]
"""Called after every batch with the epoch, the images seen in it, the images of an epoch, and the batch's loss."""


@dataclass(frozen=True)
class Epoch:
    """What one pass over the training set came to."""

    number: int
    """Counted from 1."""

    train_loss: float
    """Mean loss a training image, as optimised: smoothed targets and distorted images included."""

    test: Metrics
    """On the whole test set. For reporting only: nothing is chosen by it."""

    seconds: float
    """Training and evaluation."""

    def as_dict(self) -> dict[str, Any]:
        """The figures as JSON values."""
        return asdict(self) | {"test": self.test.as_dict()}


def fit(
    data: Dataset,
    architecture: Architecture,
    recipe: Recipe,
    *,
    seed: int = 0,
    device: str = "cpu",
    on_batch: OnBatch = lambda epoch, seen, total, loss: None,
) -> Iterator[tuple[Epoch, nn.Module]]:
    """Train a fresh model, yielding after every epoch its figures and the model as it would be deployed now.

    The same arguments on the same machine give the same weights; the caller's random state is left alone.

    Yields:
        The epoch, and the model in evaluation mode on `device`: the averaged weights where the recipe averages. The
        module is the loop's own and goes on changing: copy what is to be kept.

    Raises:
        TrainingError: the loss is no longer finite.
        UsageError: PyTorch does not know the device, or has it not.
    """
    _check_device(device)
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        model = build(architecture, len(data.labels)).to(device)
        model = model.to(memory_format=torch.channels_last)
    generator = torch.Generator().manual_seed(seed)
    train, _ = data.train.hold_out(recipe.held_out)
    images = torch.tensor(train.images).unsqueeze(1).to(device)
    labels = torch.tensor(train.labels).long().to(device)
    optimizer = _optimizer(recipe, model)
    batches = math.ceil(len(images) / recipe.batch_size)
    scheduler = _scheduler(recipe, optimizer, batches * recipe.epochs)
    averaged = None
    if recipe.average:
        averaged = AveragedModel(model, multi_avg_fn=_warmed_up_average(recipe.average), use_buffers=True)

    for number in range(1, recipe.epochs + 1):
        start = time.perf_counter()
        model.train()
        seen, loss_sum = 0, 0.0
        for indices in torch.randperm(len(images), generator=generator).split(recipe.batch_size):
            batch = images[indices.to(device)].float()
            if recipe.augment:
                batch = random_affine(batch, generator)
            batch = normalize(batch, recipe.normalization)
            with _autocast(recipe, device):
                logits = model(batch)
            targets = labels[indices.to(device)]
            loss = functional.cross_entropy(logits.float(), targets, label_smoothing=recipe.label_smoothing)
            optimizer.zero_grad(set_to_none=True)
            loss.backward()
            optimizer.step()
            scheduler.step()
            if averaged:
                averaged.update_parameters(model)
            value = loss.item()
            if not math.isfinite(value):
                raise TrainingError(
                    f"the loss became {value} in epoch {number}: lower the learning rate ({recipe.lr:g})"
                )
            seen += len(indices)
            loss_sum += value * len(indices)
            on_batch(number, seen, len(images), value)
        deployed: nn.Module = averaged.module if averaged else model
        deployed.eval()
        metrics = measure(predict(deployed, data.test.images, recipe, device), data.test.labels)
        weights = deployed.state_dict().values()
        if not math.isfinite(metrics.loss) or not all(bool(tensor.isfinite().all()) for tensor in weights):
            raise TrainingError(f"the weights diverged in epoch {number}: lower the learning rate ({recipe.lr:g})")
        yield Epoch(number, loss_sum / seen, metrics, time.perf_counter() - start), deployed


def predict(model: nn.Module, images: NDArray[np.uint8], recipe: Recipe, device: str) -> NDArray[np.float32]:
    """A model's logits, float32 [n, classes], for images, uint8 [n, 28, 28], in batches of `EVALUATION_BATCH`."""
    with torch.inference_mode():
        logits = [
            model(normalize(torch.tensor(chunk, device=device).unsqueeze(1).float(), recipe.normalization)).cpu()
            for chunk in np.array_split(images, math.ceil(len(images) / EVALUATION_BATCH))
        ]
    return torch.cat(logits).numpy()


def _warmed_up_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """An exponential moving average that forgets the first weights quickly, as TensorFlow's does with num_updates."""

    def update(averages: _Tensors, weights: _Tensors, steps: Tensor | int) -> None:
        count = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, weights, count)

    return update


def _optimizer(recipe: Recipe, model: nn.Module) -> torch.optim.Optimizer:
    weights, lr, decay = model.parameters(), recipe.lr, recipe.weight_decay
    match recipe.optimizer:
        case OptimizerName.SGD:
            momentum, nesterov = recipe.momentum, recipe.momentum > 0
            return torch.optim.SGD(weights, lr, momentum, weight_decay=decay, nesterov=nesterov, fused=True)
        case OptimizerName.ADAM:
            return torch.optim.Adam(weights, lr, weight_decay=decay, fused=True)
        case OptimizerName.ADAMW:
            return torch.optim.AdamW(weights, lr, weight_decay=decay, fused=True)
        case _:
            assert_never(recipe.optimizer)


def _scheduler(recipe: Recipe, optimizer: torch.optim.Optimizer, steps: int) -> torch.optim.lr_scheduler.LRScheduler:
    match recipe.schedule:
        case Schedule.CONSTANT:
            return torch.optim.lr_scheduler.ConstantLR(optimizer, factor=1.0)
        case Schedule.ONE_CYCLE:
            return torch.optim.lr_scheduler.OneCycleLR(
                optimizer, recipe.lr, total_steps=steps + 1, pct_start=WARM_UP, cycle_momentum=False
            )
        case _:
            assert_never(recipe.schedule)


def _autocast(recipe: Recipe, device: str) -> contextlib.AbstractContextManager[None]:
    kind = torch.device(device).type
    # Without instructions for it a CPU emulates bfloat16, several times slower than float32.
    if kind == "cpu":
        native = torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported()  # noqa: SLF001  # there is no public one
    else:
        native = kind == "cuda"
    return torch.autocast(kind, torch.bfloat16, enabled=recipe.autocast and native)


def _check_device(device: str) -> None:
    try:
        torch.zeros(1).to(device)
        if torch.device(device).type == "meta":
            raise RuntimeError("it does not compute")  # noqa: TRY301
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used ({reason}): try  --device cpu") from error
