"""The training loop: all images as one uint8 tensor in memory, no DataLoader, no workers, one seed for everything."""

import contextlib
import copy
import functools
import math
import time
from collections.abc import Callable, Iterator
from typing import Any, Final

import msgspec
import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.modules.batchnorm import _BatchNorm
from torch.optim.swa_utils import AveragedModel, get_ema_multi_avg_fn

from mnist_edge.bundle.recipe import Architecture, LearningRate, Recipe
from mnist_edge.bundle.records import Epoch
from mnist_edge.bundle.source import Ending, Source, form_of, name_of
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import TrainingError, UsageError
from mnist_edge.evaluation.chance import STANDARD_ERRORS, constant_loss
from mnist_edge.evaluation.metrics import measure
from mnist_edge.training.augment import CLEAN_PHASE, augment_batch, distort, mix_in_drawn, share_of
from mnist_edge.training.drawn import draw_strokes
from mnist_edge.training.endings import examine, require_same_when_rebuilt, to_logits
from mnist_edge.training.models import build, normalize
from mnist_edge.training.optimizers import load_optimizer, optimizer_of, scheduler_of
from mnist_edge.training.weights import fitted, own_tensor

EVALUATION_BATCH: Final = 1000
"""Images per batch of an evaluation."""

FEW_STEPS: Final = 100
"""With fewer optimizer steps a training may not have learned anything yet: `sigmoid-nn`, the slowest, took 25 to 50 to
beat a constant answer."""

OUTLIER_WEIGHT: Final = 0.5
"""How much an outlier counts in the loss, where a training image counts 1."""

UNSETTLED: Final = 8.0
"""After k steps the deployed weights may have 2 + `UNSETTLED` · 0.9ᵏ times the loss of fresh ones, since the running
statistics of batch normalisation still hold 0.9ᵏ of their first values. A `cnn` had four times as much after a few."""

AT_ONCE: Final = 4096
"""Images that are augmented together. In smaller portions, most of the time would go into starting operations."""

PROBED: Final = 64
"""Training images on which a user's module is tried."""

_Tensors = list[Tensor] | tuple[Tensor, ...]

OnBatch = Callable[[int, int, int, float], None]
"""Called after every batch with the epoch, the images seen in it so far, the images per epoch and the batch's loss."""


class Training:
    """The training of a model by a recipe, one epoch at a time.

    The same arguments on the same machine give the same weights, even if the state moves between two epochs from one
    object's `state_dict` to another's `load_state_dict`. The caller's random state is left alone.

    Raises:
        UsageError: PyTorch cannot use the device, the architecture cannot learn from batches of one image, or the
            recipe asks for drawn digits and a digit is not among the labels.
    """

    def __init__(
        self,
        data: Dataset,
        architecture: Architecture | Source,
        recipe: Recipe,
        *,
        seed: int = 0,
        device: str = "cpu",
    ) -> None:
        _check_device(device)
        self.architecture, self.recipe, self.seed, self.device = architecture, recipe, seed, device
        self.epochs: list[Epoch] = []
        """The finished epochs."""
        self.in_bfloat16 = recipe.autocast and _has_bfloat16(device)
        """Whether the forward and backward passes run in bfloat16."""
        self._classes = len(data.labels)
        self._form = form_of(architecture)
        model = self._fresh()
        if isinstance(architecture, Source):
            # A user's module may call `view`, which takes no channels-last tensor.
            examples = torch.tensor(data.train.images[:PROBED]).unsqueeze(1).float()
            examples = normalize(examples, recipe.normalization)
            probed = copy.deepcopy(model).cpu()
            self.ending = examine(probed, self._form, examples, self._classes)
            require_same_when_rebuilt(architecture, probed, self._form, examples, self._classes)
        else:
            self.ending = Ending.LOGITS
            model = model.to(memory_format=torch.channels_last)
        self._model = model
        self._generator = torch.Generator().manual_seed(seed)
        train, _ = data.train.hold_out(recipe.calibration_split)
        if min(recipe.batch_size, len(train)) == 1 and any(isinstance(part, _BatchNorm) for part in model.modules()):
            raise UsageError(
                f"{self.name} uses batch normalisation and cannot learn from batches of one image: "
                "raise --batch-size, or give more images"
            )
        self._digits = _labels_of_digits(data.labels) if recipe.drawn_digits else torch.empty(0, dtype=torch.long)
        self._images = torch.tensor(train.images).unsqueeze(1).to(device)
        self._labels = torch.tensor(train.labels).long().to(device)
        self._test = data.test
        self._optimizer = optimizer_of(recipe, self._model)
        self._steps = recipe.epochs * len(_batches(torch.arange(len(train)), recipe.batch_size))
        self._scheduler = scheduler_of(recipe, self._optimizer, self._steps)
        self._averaged = None
        if recipe.ema_decay:
            average = _warmed_up_average(recipe.ema_decay)
            self._averaged = AveragedModel(self._model, multi_avg_fn=average, use_buffers=True)

    @property
    def name(self) -> str:
        """The architecture's name; of a user's class, its own."""
        return name_of(self.architecture)

    @property
    def complete(self) -> bool:
        """Whether all epochs of the recipe are finished."""
        return len(self.epochs) >= self.recipe.epochs

    @property
    def deployed(self) -> nn.Module:
        """The model as it would be deployed now, with the EMA of the weights if the recipe has one.

        The module belongs to the training and keeps changing: copy it to keep it.
        """
        return self._averaged.module if self._averaged else self._model

    def run_epoch(self, on_batch: OnBatch = lambda epoch, seen, total, loss: None) -> Epoch:
        """Train for one epoch, and evaluate on the test set.

        Raises:
            TrainingError: the loss or the weights are no longer finite, or the recipe's last epoch ends with a loss no
                better than a constant answer's.
        """
        recipe, number = self.recipe, len(self.epochs) + 1
        start = time.perf_counter()
        self._model.train()
        seen, loss_sum = 0, 0.0
        order = torch.randperm(len(self._images), generator=self._generator)
        with self._own_randomness(number):
            for images, labels, outliers in self._prepared(order):
                lr = self._optimizer.param_groups[0]["lr"]
                value = self._step(images, labels, outliers)
                if not math.isfinite(value):
                    raise TrainingError(
                        f"the loss became {value} in epoch {number}: lower the learning rate ({recipe.lr:g})"
                    )
                seen += len(labels)
                loss_sum += value * len(labels)
                on_batch(number, seen, len(self._images), value)
        trained = time.perf_counter()
        deployed = self.deployed.eval()
        logits = predict(functools.partial(self._logits, deployed), self._test.images, self.device)
        metrics = measure(logits, self._test.labels)
        weights = deployed.state_dict().values()
        if not math.isfinite(metrics.loss) or not all(bool(tensor.isfinite().all()) for tensor in weights):
            raise TrainingError(f"the weights diverged in epoch {number}: lower the learning rate ({recipe.lr:g})")
        if number == recipe.epochs:
            self._require_learned(loss_sum / seen)
        epoch = Epoch(number, lr, loss_sum / seen, metrics, time.perf_counter() - start, trained - start)
        self.epochs.append(epoch)
        return epoch

    def _fresh(self) -> nn.Module:
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(self.seed)
            return build(self.architecture, self._classes).to(self.device)

    @contextlib.contextmanager
    def _own_randomness(self, epoch: int) -> Iterator[None]:
        """Seed torch anew in every epoch, so that a resumed training draws the dropout of an uninterrupted one."""
        devices = [self.device] if torch.device(self.device).type == "cuda" else []
        with torch.random.fork_rng(devices=devices):
            torch.manual_seed(int(np.random.SeedSequence([self.seed, epoch]).generate_state(1, np.uint64)[0]))
            yield

    def _require_learned(self, loss: float) -> None:
        """Raise TrainingError if the last epoch's mean loss, though finite, shows that the training diverged."""
        limit = constant_loss(self._labels_in_batches(), self._classes, self.recipe.label_smoothing)
        beaten = "a constant answer has"
        if loss > limit and self._steps < FEW_STEPS:
            # The mean includes the first steps, whose fresh weights are worse than a constant answer, so being no worse
            # than fresh weights is enough. It says little about the deployed weights, so they are checked as well:
            # batch normalisation that has seen few batches can make them several times as bad.
            fresh = self._losses(self._fresh().train())
            margin = STANDARD_ERRORS * float(fresh.std(correction=0)) / math.sqrt(len(fresh))
            limit = max(limit, float(fresh.mean()) + margin)
            deployed = float(self._losses(self.deployed.eval()).mean())
            loss = loss if deployed <= (2 + UNSETTLED * 0.9**self._steps) * limit else deployed
            beaten = "its untrained weights have"
        if not loss <= limit:
            raise TrainingError(
                f"the training diverged: its final loss is {loss:.5g}, {beaten} {limit:.4g}: choose another "
                f"learning rate ({self.recipe.lr:g}), usually a lower one"
            )

    def _labels_in_batches(self) -> NDArray[np.int64]:
        """The training images' labels, and those of drawn digits in the proportion in which batches hold them."""
        share = self.recipe.drawn_digits
        drawn = self._digits.repeat(round(share / (1 - share) * len(self._labels) / 10)) if share else self._digits
        return torch.cat([self._labels.cpu(), drawn]).numpy()

    def _losses(self, model: nn.Module) -> Tensor:
        """The loss of every training image, [n], without augmentation."""
        with torch.no_grad():
            return torch.cat(
                [
                    functional.cross_entropy(
                        self._logits(model, self._images[indices].float()),
                        self._labels[indices],
                        label_smoothing=self.recipe.label_smoothing,
                        reduction="none",
                    )
                    for indices in _batches(torch.arange(len(self._images)), self.recipe.batch_size)
                ]
            ).cpu()

    def _logits(self, model: nn.Module, pixels: Tensor) -> Tensor:
        return to_logits(model, self._form, self.ending, normalize(pixels, self.recipe.normalization))

    def _prepared(self, order: Tensor) -> Iterator[tuple[Tensor, Tensor, Tensor]]:
        """The batches of an epoch: augmented images, float32 [n, 1, 28, 28], their labels, [n], and outliers."""
        batches = _batches(order, self.recipe.batch_size)
        # No more than a twentieth of the training, so that a short one has its clean phase too.
        most = min(AT_ONCE // self.recipe.batch_size, self._steps // 20)
        together = max(1, most) if self.recipe.augment else 1
        for first in range(0, len(batches), together):
            portion = batches[first : first + together]
            parts = self._augmented(torch.cat(portion).to(self.device))
            for number in range(len(portion)):
                # What happens to an image depends on its place in the portion: each batch takes places all over it.
                images, labels, outliers = (part[number :: len(portion)] for part in parts)
                yield images, labels, outliers

    def _augmented(self, indices: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        recipe = self.recipe
        images, labels = self._images[indices].float(), self._labels[indices]
        if recipe.drawn_digits:
            images, labels = mix_in_drawn(images, labels, recipe.drawn_digits, self._digits, self._generator)
        if recipe.augment:
            clean = self._scheduler.last_epoch >= (1 - CLEAN_PHASE) * self._steps
            images = augment_batch(images, self._generator, clean=clean)
        outliers = images[:0]
        if count := share_of(len(indices), recipe.outliers, self._generator) if recipe.outliers else 0:
            outliers = distort(draw_strokes(count, self._generator), self._generator).to(self.device)
        return images, labels, outliers

    def _step(self, images: Tensor, labels: Tensor, outliers: Tensor) -> float:
        recipe = self.recipe
        with torch.autocast(torch.device(self.device).type, torch.bfloat16, enabled=self.in_bfloat16):
            every = self._logits(self._model, torch.cat([images, outliers])).float()
        logits, of_outliers = every.split([len(labels), len(outliers)])
        loss = functional.cross_entropy(logits, labels, label_smoothing=recipe.label_smoothing)
        total = loss
        if len(of_outliers):
            # Their cross-entropy with equal probabilities as the target.
            total = loss - OUTLIER_WEIGHT * recipe.outliers * of_outliers.log_softmax(dim=1).mean()
        self._optimizer.zero_grad(set_to_none=True)
        total.backward()
        self._optimizer.step()
        self._scheduler.step()
        if self._averaged:
            self._averaged.update_parameters(self._model)
        return loss.item()

    def state_dict(self) -> dict[str, Any]:
        """Everything needed to continue the training, as tensors and plain values."""
        return {
            "model": self._model.state_dict(),
            "averaged": self._averaged.state_dict() if self._averaged else None,
            "optimizer": self._optimizer.state_dict(),
            "scheduler": self._scheduler.state_dict(),
            "generator": self._generator.get_state(),
            "epochs": msgspec.to_builtins(self.epochs),
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Continue from the `state_dict` of a training with the same arguments, which is not trusted.

        Only what changes during a training is taken from it; everything else is as the arguments make it.

        Raises:
            KeyError, RuntimeError, TypeError, ValueError: it is not such a state.
        """
        self.epochs = msgspec.convert(state["epochs"], list[Epoch])
        done = len(self.epochs) * self._steps // self.recipe.epochs
        if len(self.epochs) >= self.recipe.epochs:
            raise ValueError("all epochs are finished")
        self._model.load_state_dict(fitted(state["model"], self._model.state_dict()))
        if self._averaged:
            averaged = fitted(state["averaged"], self._averaged.state_dict())
            if averaged["n_averaged"] != done:
                raise ValueError(f"{averaged['n_averaged']} averaged steps of {done}")
            self._averaged.load_state_dict(averaged)
        lr = msgspec.convert(state["scheduler"]["_last_lr"], tuple[LearningRate])[0]
        load_optimizer(self._optimizer, self.recipe, state["optimizer"]["state"], lr)
        counts = {"last_epoch": done, "_step_count": done + 1, "_last_lr": [lr]}
        self._scheduler.load_state_dict(self._scheduler.state_dict() | counts)
        self._generator.set_state(own_tensor(state["generator"], self._generator.get_state(), "generator"))


def fit(
    data: Dataset, architecture: Architecture | Source, recipe: Recipe, *, seed: int = 0, device: str = "cpu"
) -> Iterator[tuple[Epoch, nn.Module]]:
    """Train a fresh model, yielding the metrics and the `Training.deployed` model after every epoch.

    Raises:
        TrainingError: as `Training.run_epoch` does.
        UsageError: as `Training` does.
    """
    training = Training(data, architecture, recipe, seed=seed, device=device)
    while not training.complete:
        yield training.run_epoch(), training.deployed


def predict(logits_of: Callable[[Tensor], Tensor], images: NDArray[np.uint8], device: str) -> NDArray[np.float32]:
    """Compute logits, float32 [n, classes], of images, uint8 [n, 28, 28], in batches of up to `EVALUATION_BATCH`.

    Args:
        logits_of: takes raw pixels, float32 [n, 1, 28, 28] on the device.
        images: the images.
        device: the PyTorch device.
    """
    with torch.inference_mode():
        logits = [
            logits_of(torch.tensor(chunk, device=device).unsqueeze(1).float()).cpu()
            for chunk in np.array_split(images, math.ceil(len(images) / EVALUATION_BATCH))
        ]
    return torch.cat(logits).numpy()


def _batches(order: Tensor, batch_size: int) -> list[Tensor]:
    batches = list(order.split(batch_size))
    # Batch normalisation is not defined for a single image.
    if batch_size > 1 and len(batches) > 1 and len(batches[-1]) == 1:
        batches[-2:] = [torch.cat(batches[-2:])]
    return batches


def _labels_of_digits(labels: tuple[str, ...]) -> Tensor:
    """The label of each digit, int64 [10]."""
    missing = [digit for digit in "0123456789" if digit not in labels]
    if missing:
        raise UsageError(
            f"drawn digits need the labels 0 to 9, and these data have no {', '.join(missing)}: "
            "leave out --drawn-digits"
        )
    return torch.tensor([labels.index(digit) for digit in "0123456789"])


def _warmed_up_average(decay: float) -> Callable[[_Tensors, _Tensors, Tensor | int], None]:
    """An EMA with warm-up, which forgets the first weights quickly, like TensorFlow's with ``num_updates``."""

    def update(averages: _Tensors, weights: _Tensors, steps: Tensor | int) -> None:
        count = int(steps)
        get_ema_multi_avg_fn(min(decay, (1 + count) / (10 + count)))(averages, weights, count)

    return update


def _has_bfloat16(device: str) -> bool:
    kind = torch.device(device).type
    # A CPU without bfloat16 instructions emulates them, several times slower than float32.
    if kind == "cpu":
        return bool(torch.backends.mkldnn.is_available() and torch.ops.mkldnn._is_mkldnn_bf16_supported())  # noqa: SLF001  # there is no public function
    return kind == "cuda"


def _check_device(device: str) -> None:
    try:
        torch.zeros(1).to(device)
        if torch.device(device).type == "meta":
            raise RuntimeError("it does not compute")  # noqa: TRY301
    except (RuntimeError, AssertionError) as error:
        reason = str(error).splitlines()[0]
        raise UsageError(f"device {device!r} cannot be used ({reason}): try  --device cpu") from error
