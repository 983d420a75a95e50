"""`Classifier`: raw pixels in, logits or a named class out."""

import itertools
import os
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, BinaryIO, Final, cast

import numpy as np
from numpy.typing import ArrayLike, NDArray

from mnist_edge import images as pictures
from mnist_edge.contract import HEIGHT, INPUT_NAME, OUTPUT_NAME, WHITE, WIDTH, Contract, Framing
from mnist_edge.errors import ImageFormatError, ImageTypeError, InputError, UsageError
from mnist_edge.runtime.answers import novelty, softmax
from mnist_edge.runtime.model import open_model

if TYPE_CHECKING:
    from PIL import Image

CHUNK: Final = 256
"""Images a call into onnxruntime: its arena keeps the peak of the largest batch it ever saw."""


@dataclass(frozen=True)
class Prediction:
    """The class an image most likely belongs to, or none."""

    label: str | None
    """Name of the most probable class; None where the picture is blank, or is less probable or more novel than asked for."""

    probability: float
    """Of the most probable class, 0…1, calibrated where the file is."""

    novelty: float | None
    """The not-a-digit score: the share of real images that look less strange, 0…1; None where the file cannot tell."""

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
            self._model.session.run([OUTPUT_NAME], {INPUT_NAME: batch[start : start + CHUNK]})[0]
            for start in range(0, len(batch), CHUNK)
        ]
        match chunks:
            case []:
                return np.empty((0, len(self.labels)), dtype=np.float32)
            case [only]:
                return cast("NDArray[np.float32]", only)
            case _:
                return np.concatenate(chunks)

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The softmax of `logits`, float64 [N, classes], at the temperature that was found for this file."""
        calibration = self.contract.calibration
        return softmax(logits, calibration.temperature if calibration else 1.0)

    def see(self, image: object) -> NDArray[np.uint8]:
        """What the model is shown of a picture, uint8 [28, 28]; takes and raises what `predict` does."""
        return _as_canonical(image, self.contract.framing)

    def predict(self, image: object, *, min_probability: float = 0.0, max_novelty: float = 1.0) -> Prediction:
        """Classify one picture.

        Args:
            image: a path, a binary file object, a Pillow image, or a uint8 array [height, width]. It is framed as the
                training images were; a picture that already is stays as it is.
            min_probability: a less probable class is not named.
            max_novelty: nor is the class of a picture that is more novel, where the file can tell.

        Raises:
            ImageNotFoundError: no file at that path.
            ImageFormatError: it cannot be decoded, or is an array of another shape.
            ImageTypeError: neither of the above kinds.
            UsageError: a limit is not within 0…1.
        """
        return self.predict_many([image], min_probability=min_probability, max_novelty=max_novelty)[0]

    def predict_many(
        self, images: Iterable[object], *, min_probability: float = 0.0, max_novelty: float = 1.0
    ) -> list[Prediction]:
        """Classify pictures, each of any kind that `predict` takes; raises as it does."""
        answers = list(self.predict_each(images, min_probability=min_probability, max_novelty=max_novelty))
        for answer in answers:
            if isinstance(answer, InputError):
                raise answer
        return cast("list[Prediction]", answers)

    def predict_each(
        self, images: Iterable[object], *, min_probability: float = 0.0, max_novelty: float = 1.0
    ) -> Iterator[Prediction | InputError]:
        """Classify pictures one after another, in their order, a chunk of them at a time in memory.

        A picture that cannot be used yields the error that `predict` would raise, and does not stop the others.

        Raises:
            ImageTypeError: `images` is a single picture.
            UsageError: a limit is not within 0…1.
        """
        if isinstance(images, (str, bytes, os.PathLike)):
            raise ImageTypeError(f"several pictures are expected, not {images!r}: use predict, or give a list")
        _require_limits(min_probability, max_novelty)
        return self._predict_each(iter(images), min_probability, max_novelty)

    def answers(
        self, images: ArrayLike, *, min_probability: float = 0.0, max_novelty: float = 1.0
    ) -> Iterator[Prediction]:
        """Classify images that are what the model takes, as `logits` does; `predict` would frame them first.

        Raises:
            ImageTypeError: the values are not integers.
            ImageFormatError: another shape than `logits` takes, or values outside 0…255.
            UsageError: a limit is not within 0…1.
        """
        _require_limits(min_probability, max_novelty)
        batch = _as_batch(images)[:, 0]
        chunks = (batch[start : start + CHUNK] for start in range(0, len(batch), CHUNK))
        return (answer for chunk in chunks for answer in self._answer(chunk, min_probability, max_novelty))

    def _predict_each(
        self, images: Iterator[object], min_probability: float, max_novelty: float
    ) -> Iterator[Prediction | InputError]:
        while chunk := list(itertools.islice(images, CHUNK)):
            framed = [self._see_or_error(image) for image in chunk]
            usable = [image for image in framed if not isinstance(image, InputError)]
            predictions = iter(self._answer(np.stack(usable), min_probability, max_novelty) if usable else ())
            yield from (image if isinstance(image, InputError) else next(predictions) for image in framed)

    def _see_or_error(self, image: object) -> NDArray[np.uint8] | InputError:
        try:
            return self.see(image)
        except InputError as error:
            return error

    def _answer(self, images: NDArray[np.uint8], min_probability: float, max_novelty: float) -> Iterator[Prediction]:
        logits = self.logits(images)
        probabilities = self.probabilities(logits)
        calibration = self.contract.calibration
        strangeness = novelty(logits, calibration).tolist() if calibration else [None] * len(images)
        best = probabilities.argmax(axis=1).tolist()
        inked = images.any(axis=(1, 2)).tolist()
        rows = zip(best, inked, strangeness, probabilities.tolist(), logits.tolist(), strict=True)
        for index, ink, strange, shares, values in rows:
            refused = not ink or shares[index] < min_probability or (strange is not None and strange > max_novelty)
            yield Prediction(
                label=None if refused else self.labels[index],
                probability=shares[index],
                novelty=strange,
                probabilities=dict(zip(self.labels, shares, strict=True)),
                logits=dict(zip(self.labels, values, strict=True)),
            )


def _require_limits(min_probability: float, max_novelty: float) -> None:
    for name, limit in (("min_probability", min_probability), ("max_novelty", max_novelty)):
        if not 0 <= limit <= 1:
            raise UsageError(f"{name} must be within 0…1, not {limit!r}")


def _as_canonical(image: object, framing: Framing) -> NDArray[np.uint8]:
    if isinstance(image, np.ndarray):
        if image.ndim != 2:
            raise ImageFormatError(
                f"a picture is a grey array [height, width], not {image.shape}: for a batch [N, 1, 28, 28] use logits"
            )
        return pictures.frame(_as_pixels(image), framing)
    if isinstance(image, (str, os.PathLike)) or hasattr(image, "read"):
        return pictures.read(cast("str | os.PathLike[str] | BinaryIO", image), framing)
    if hasattr(image, "getbands"):  # Pillow's, told apart without importing Pillow
        return pictures.frame(pictures.grey(cast("Image.Image", image), "the image"), framing)
    raise ImageTypeError(
        f"cannot classify a {type(image).__name__}: give a path, a file object, a Pillow image or a uint8 array"
    )


def _as_batch(images: ArrayLike) -> NDArray[np.uint8]:
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
    return np.ascontiguousarray(_as_pixels(array))


def _as_pixels(array: NDArray[Any]) -> NDArray[np.uint8]:
    if array.dtype == np.uint8:
        return array
    _require_numbers(array)
    if array.size and (array.min() < 0 or array.max() > WHITE):
        raise ImageFormatError(
            f"pixel values reach from {array.min()} to {array.max()}, expected 0…{WHITE}: scale them to 8 bits"
        )
    return array.astype(np.uint8)


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
