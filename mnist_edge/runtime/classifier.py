"""`Classifier`: raw pixels in, logits or a named class out."""

import os
from collections.abc import Iterable
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_edge import images as pictures
from mnist_edge.contract import HEIGHT, INPUT_NAME, OUTPUT_NAME, WHITE, WIDTH, Contract
from mnist_edge.errors import ImageFormatError, ImageTypeError
from mnist_edge.runtime.model import open_model

if TYPE_CHECKING:
    from PIL import Image

CHUNK: Final = 256
"""Images a call into onnxruntime: its arena keeps the peak of the largest batch it ever saw."""


@dataclass(frozen=True)
class Prediction:
    """The class an image most likely belongs to."""

    label: str
    """Name of the most probable class."""

    probability: float
    """Its probability, 0…1."""

    probabilities: dict[str, float]
    """The probability of every class, in the order of `Classifier.labels`."""

    logits: dict[str, float]
    """What the model itself returned for every class, in the same order."""


class Classifier:
    """An exported model, loaded and verified, ready to answer.

    Args:
        model: a bundle, one ``.onnx`` file, or the name of a pretrained model; None for the pretrained default.
        threads: size of the compute pool; None follows ``MNIST_EDGE_THREADS``, affinity and cgroup quota.

    Raises:
        ModelError: it is missing, not a model of ours, or altered.
        UsageError: impossible `threads`.
    """

    def __init__(self, model: str | os.PathLike[str] | None = None, *, threads: int | None = None) -> None:
        self._model = open_model(model, threads=threads)

    @property
    def contract(self) -> Contract:
        """What the model takes and returns."""
        return self._model.contract

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class, in the order of the logits' columns."""
        return self._model.contract.labels

    def logits(self, images: ArrayLike) -> NDArray[np.float32]:
        """The model's raw answers.

        Args:
            images: [N, 28, 28] or [N, 1, 28, 28], whole numbers 0…255 of any integer type, 0 = background,
                255 = full ink. N may be 0.

        Returns:
            float32 [N, classes], one column a label.

        Raises:
            ImageTypeError: the values are not integers.
            ImageFormatError: another shape, or values outside 0…255.
        """
        batch = _as_batch(images)
        chunks = [
            self._model.session.run([OUTPUT_NAME], {INPUT_NAME: _as_tensor(batch[start : start + CHUNK])})[0]
            for start in range(0, len(batch), CHUNK)
        ]
        match chunks:
            case []:
                return np.empty((0, len(self.labels)), dtype=np.float32)
            case [only]:
                return cast("NDArray[np.float32]", only)
            case _:
                return np.concatenate(chunks)

    def predict(self, image: object) -> Prediction:
        """Classify one picture.

        Args:
            image: a path, a binary file object, a Pillow image, or a uint8 array [height, width]. A picture of 28×28
                is taken as it is (0 = background); any other is framed as MNIST's were.

        Raises:
            ImageNotFoundError: no file at that path.
            ImageFormatError: it cannot be decoded, or is an array of another shape.
            ImageTypeError: neither of the above kinds.
        """
        return self.predict_many([image])[0]

    def predict_many(self, images: Iterable[object]) -> list[Prediction]:
        """Classify pictures, each of any kind that `predict` takes; raises as it does."""
        if isinstance(images, (str, bytes, os.PathLike)):
            raise ImageTypeError(f"predict_many takes several pictures, not {images!r}: use predict, or give a list")
        framed = [_as_canonical(image) for image in images]
        if not framed:
            return []
        logits = self.logits(np.stack(framed))
        return [self._prediction(*rows) for rows in zip(softmax(logits), logits, strict=True)]

    def _prediction(self, probabilities: NDArray[np.float64], logits: NDArray[np.float32]) -> Prediction:
        best = int(probabilities.argmax())
        return Prediction(
            label=self.labels[best],
            probability=float(probabilities[best]),
            probabilities=dict(zip(self.labels, probabilities.tolist(), strict=True)),
            logits=dict(zip(self.labels, logits.tolist(), strict=True)),
        )


def softmax(logits: NDArray[np.float32]) -> NDArray[np.float64]:
    """Probabilities, float64 [N, classes], each row summing to one."""
    shifted = np.exp(logits.astype(np.float64) - logits.max(axis=1, keepdims=True))
    probabilities: NDArray[np.float64] = shifted / shifted.sum(axis=1, keepdims=True)
    return probabilities


def _as_canonical(image: object) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.ndim != 2:
            raise ImageFormatError(
                f"a picture is a grey array [height, width], not {image.shape}: for a batch [N, 1, 28, 28] use logits"
            )
        return pictures.frame(_as_pixels(image))
    if isinstance(image, (str, os.PathLike)) or hasattr(image, "read"):
        return pictures.read(cast("str | os.PathLike[str] | BinaryIO", image))
    if hasattr(image, "getbands"):  # Pillow's, told apart without importing Pillow
        return pictures.frame(pictures.grey(cast("Image.Image", image), "the image"))
    raise ImageTypeError(
        f"cannot classify a {type(image).__name__}: give a path, a file object, a Pillow image or a uint8 array"
    )


def _as_batch(images: ArrayLike) -> NDArray[np.integer[Any]]:
    """[N, 1, 28, 28], checked as a whole but not copied: a large batch of a wide type is converted chunk by chunk."""
    try:
        array = np.asarray(images)
    except Exception as error:  # ragged lists; tensors and other objects that refuse to become arrays
        reason = " ".join(str(error).split())
        raise ImageFormatError(f"images do not form an array ({reason}): stack uint8 arrays of one shape") from error
    if array.ndim == 3 and array.shape[1:] == (HEIGHT, WIDTH):
        array = array[:, None]
    if array.ndim != 4 or array.shape[1:] != (1, HEIGHT, WIDTH):
        if array.size:
            _require_numbers(array)
        raise ImageFormatError(
            f"images have shape {array.shape}, expected (N, {HEIGHT}, {WIDTH}) or (N, 1, {HEIGHT}, {WIDTH}): "
            f"{_shape_advice(array.shape)}"
        )
    _require_pixels(array)
    return array


def _as_tensor(batch: NDArray[np.integer[Any]]) -> NDArray[np.uint8]:
    return np.ascontiguousarray(batch, dtype=np.uint8)


def _as_pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    _require_pixels(array)
    return array.astype(np.uint8, copy=False)


def _require_pixels(array: NDArray[Any]) -> None:
    if array.dtype == np.uint8:
        return
    _require_numbers(array)
    if array.size and (array.min() < 0 or array.max() > WHITE):
        raise ImageFormatError(
            f"pixel values reach from {array.min()} to {array.max()}, expected 0…{WHITE}: scale them to 8 bits"
        )


def _require_numbers(array: NDArray[Any]) -> None:
    if array.dtype.kind == "f":
        finite = bool(np.isfinite(array).all())
        raise ImageTypeError(
            f"images have type {array.dtype}{'' if finite else ' and hold NaN or infinities'}, expected raw pixels as "
            "uint8 0…255: for values within 0…1 pass (images * 255).round().astype('uint8'); never normalise"
        )
    if array.dtype.kind == "b":
        raise ImageTypeError("images have type bool, expected uint8 0…255: pass images.astype('uint8') * 255")
    if array.dtype.kind not in "ui":
        raise ImageTypeError(f"images have type {array.dtype}, expected an array of uint8 0…255")


def _shape_advice(shape: tuple[int, ...]) -> str:
    match shape:
        case (28, 28):
            return "for a single image pass images[None], or use predict"
        case (_, 28, 28, 1):
            return "move the channel: images[..., 0]"
        case (_, 784):
            return f"unflatten: images.reshape(-1, {HEIGHT}, {WIDTH})"
        case (_, 3 | 4, 28, 28) | (_, 28, 28, 3 | 4):
            return "turn colour into grey first"
        case _:
            return "use predict for pictures of another size"
