"""`Classifier`: raw pixels in, logits or a named class out."""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator, Sequence
from numbers import Real
from typing import Any, Final, NamedTuple

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from mnist_edge.contract import HEIGHT, WIDTH, Contract, Preprocessing
from mnist_edge.errors import ExecutionError, InputError, MnistEdgeError, UsageError
from mnist_edge.images import has_ink, preprocess_counting
from mnist_edge.runtime.model import open_model
from mnist_edge.runtime.pixels import as_batch, as_image, as_tensor, grey_picture, memory_for_a_picture, require_several
from mnist_edge.runtime.prediction import Digit, Prediction, Reading, ood_score, softmax
from mnist_edge.runtime.threads import asked_threads, default_threads, in_background, in_chunks

CHUNK: Final = 128
"""Images per call into onnxruntime. Bounded, because its memory arena stays as large as the largest batch needed.
A model that needs much memory for each image gets fewer (`Contents.at_once`)."""

GROWTH: Final = 4
"""Growth factor of the chunks of a stream: small ones first for early answers, then large ones for throughput."""


class _Picture(NamedTuple):
    """A picture ready for the model."""

    pixels: NDArray[np.uint8]
    """[28, 28]"""

    digits: int | None = None
    """As in `Prediction`."""


Prepared = _Picture | InputError | ExecutionError
"""A picture, or the error that preparing it raised."""


class _Limits(Struct, frozen=True):
    """The limits beyond which `Classifier` abstains."""

    min_probability: float
    max_ood: float
    single: bool = False


class Classifier:
    """An exported model, verified and loaded, ready to classify images.

    Args:
        model: the path of a bundle or of a single ``.onnx`` file, or the name of a pretrained model; None for the
            default pretrained model.
        format: which of a bundle's files to run, ``"onnx"``, ``"int8-static"`` or ``"int8-dynamic"``; None for the one
            that its manifest recommends, else ``model.onnx``. A single file must have this format.
        threads: number of Python threads that share a batch of more than `CHUNK` images; None for
            ``MNIST_EDGE_THREADS`` if set, else as many as CPU affinity and cgroup quota allow, at most four. They end
            with the call.
        untrusted: run the model in a process of its own that can take little memory and time, open nothing, and start
            no process (except as root's); for files from people you do not trust. Only where the kernel has Landlock
            can it not delete, rename or truncate files, or signal other processes, either. It answers alike, one batch
            at a time. Linux only.

    Raises:
        ModelError: the model is missing, altered, or not an mnist-edge model; or an untrusted one fails, which every
            later answer raises again.
        UsageError: `format` or `threads` is invalid, or this system cannot run untrusted models.
        ExecutionError: the process for an untrusted model cannot be started.

    >>> from mnist_edge import Classifier
    >>> Classifier("cnn", format="onnx").labels
    ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        format: str | None = None,  # noqa: A002  # the command-line option's name
        threads: int | None = None,
        untrusted: bool = False,
    ) -> None:
        self._threads = asked_threads(threads)
        self._model = open_model(model, format=format, untrusted=untrusted)
        self._chunk = self._model.contents.at_once(CHUNK)

    @property
    def file(self) -> str:
        """The name of the loaded file, such as ``model.int8-static.onnx``."""
        return os.path.basename(self._model.name)  # noqa: PTH119  # a Path takes a microsecond longer

    @property
    def contract(self) -> Contract:
        """What the model takes and returns."""
        return self._model.contract

    @property
    def labels(self) -> tuple[str, ...]:
        """The name of each class, in the order of the logits' columns."""
        return self._model.contract.labels

    def logits(self, images: ArrayLike) -> NDArray[np.float32]:
        """Compute the raw logits of a batch of images.

        Args:
            images: [N, 28, 28] or [N, 1, 28, 28], integers 0…255 of any integer dtype, 0 = background,
                255 = full ink. N may be 0.

        Returns:
            float32 [N, classes], one column per label.

        Raises:
            ImageTypeError: the values are not integers.
            ImageFormatError: another shape, or values outside 0…255.
            ExecutionError: onnxruntime fails, for example for lack of memory.
            ModelFormatError: the logits are not finite.
        """
        try:
            return self._run(as_batch(images))
        except MemoryError as error:
            raise ExecutionError("too little memory for these images: give fewer at a time") from error

    def _run(self, batch: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        if 0 < len(batch) <= self._chunk:
            return self._run_chunk(batch)
        if self._threads is None:
            self._threads = default_threads()
        return in_chunks(self._run_chunk, batch, chunk=self._chunk, width=len(self.labels), threads=self._threads)

    def _run_chunk(self, batch: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        return self._model.logits(as_tensor(batch))

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The softmax of `logits`, float64 [N, classes], at the file's calibrated temperature, or 1 if it has none."""
        calibration = self.contract.calibration
        return softmax(logits, calibration.temperature if calibration else 1.0)

    def preprocess(self, image: object) -> NDArray[np.uint8]:
        """Turn a picture into the model's input, uint8 [28, 28]; takes and raises what `predict` does."""
        # A copy, because a picture that needs no preprocessing would come back as the caller's own array.
        return self._prepared(image).pixels.copy()

    def _prepared(self, image: object) -> _Picture:
        with memory_for_a_picture():
            pixels, digits = preprocess_counting(grey_picture(image).pixels, self.contract.preprocessing)
        return _Picture(pixels.copy(), digits)  # the caller may reuse its array

    def predict(
        self, image: object, *, min_probability: float = 0.0, max_ood: float = 1.0, single: bool = False
    ) -> Prediction:
        """Classify one picture.

        Args:
            image: a path, the bytes of an encoded picture, a binary file object, a Pillow image, or a uint8 array
                [height, width]. It is preprocessed like the training images; one that already looks like them is left
                unchanged.
            min_probability: abstain (`label` is None) if the most probable class is less probable than this.
            max_ood: abstain if the out-of-distribution score is higher than this.
            single: abstain if the picture shows several digits; `read` reads them.

        Raises:
            ImageNotFoundError: no file at that path.
            ImageFormatError: it cannot be decoded, or is an array of another shape or with values outside 0…255.
            ImageTypeError: it is none of the above kinds, or an array that does not hold integers.
            ExecutionError: onnxruntime fails, or memory runs out.
            UsageError: a limit is not within 0…1, or `max_ood` is set for a file that is not calibrated, or too high to
                refuse anything.

        >>> import numpy as np
        >>> from mnist_edge import Classifier
        >>> Classifier().predict(np.zeros((28, 28), np.uint8)).label is None  # a blank picture
        True
        """
        limits = self._limits(min_probability, max_ood, single=single)
        return self._classify([self._prepared(image)], limits)[0]

    def predict_many(
        self, images: Iterable[object], *, min_probability: float = 0.0, max_ood: float = 1.0, single: bool = False
    ) -> list[Prediction]:
        """Classify several pictures of any kind that `predict` takes; raises the error of the first one that fails."""
        predictions = []
        for answer in self.predict_each(images, min_probability=min_probability, max_ood=max_ood, single=single):
            if isinstance(answer, MnistEdgeError):
                raise answer
            predictions.append(answer)
        return predictions

    def predict_each(
        self,
        images: Iterable[object],
        *,
        min_probability: float = 0.0,
        max_ood: float = 1.0,
        single: bool = False,
        preprocess: bool = True,
        on_input: Callable[[NDArray[np.uint8]], object] | None = None,
    ) -> Iterator[Prediction | InputError | ExecutionError]:
        """Classify a stream of pictures, yielding the answers in order.

        Pictures are processed in chunks that grow from 1 to `CHUNK`. While one chunk is computed, the next is decoded:
        at most two chunks are in memory, and the answers lag behind the input by as much. A picture that cannot be used
        yields the error that `predict` would raise, and does not stop the others.

        Args:
            images: of any kind that `predict` takes.
            min_probability: as `predict` takes it.
            max_ood: as `predict` takes it.
            single: as `predict` takes it.
            preprocess: False if `images` are arrays [28, 28] that need no preprocessing, as `logits` takes them.
            on_input: called with what the model sees of each picture, uint8 [28, 28], before the next one is taken from
                `images`; not for those that cannot be used.

        Raises:
            ImageTypeError: `images` is a single picture or not iterable.
            UsageError: as `predict` does.
        """
        require_several(images)
        prepare = self._prepared if preprocess else lambda image: _Picture(as_image(image))

        def prepared(image: object) -> _Picture:
            picture = prepare(image)
            if on_input:
                on_input(picture.pixels)
            return picture

        return self._predict_each(iter(images), self._limits(min_probability, max_ood, single=single), prepared)

    def read(self, image: object, *, min_probability: float = 0.0, max_ood: float = 1.0) -> Reading:
        """Read the digits of a picture, on one line or several.

        Args:
            image: a picture of any kind that `predict` takes; `mnist_edge.images.lines` says what it may contain.
            min_probability: as `predict` takes it, for each digit.
            max_ood: as `predict` takes it, for each digit.

        Raises:
            InputError: as `predict` does.
            ExecutionError: as `predict` does.
            UsageError: as `predict` does, or the model was not trained on images cropped to their ink.
        """
        if self.contract.preprocessing is not Preprocessing.MNIST:
            raise UsageError(
                "this model was trained on whole pictures, not on digits cropped to their ink: use predict"
            )
        limits = self._limits(min_probability, max_ood)
        from mnist_edge.images.lines import find_digits  # not needed for single digits

        with memory_for_a_picture():
            picture = grey_picture(image)
            found = find_digits(picture.pixels)
        answers = self._classify([_Picture(digit.image) for digit in found], limits)
        return Reading(
            tuple(
                Digit(
                    label=answer.label,
                    probability=answer.probability,
                    ood_score=answer.ood_score,
                    box=_scaled(digit.box, picture.scale),
                    line=digit.line,
                )
                for digit, answer in zip(found, answers, strict=True)
            )
        )

    def _limits(self, min_probability: float, max_ood: float, *, single: bool = False) -> _Limits:
        for name, limit in (("min_probability", min_probability), ("max_ood", max_ood)):
            if isinstance(limit, bool) or not isinstance(limit, Real) or not 0 <= limit <= 1:
                raise UsageError(f"{name} must be within 0…1, not {limit!r}")
        calibration = self.contract.calibration
        if max_ood < 1 and calibration is None:
            raise UsageError(
                "this model is not calibrated and has no out-of-distribution score: set no limit for it, or train with "
                "a calibration split"
            )
        if calibration is not None and calibration.finest_ood_score < max_ood < 1:
            # Rounded down, so that the suggested limit is accepted.
            finest = math.floor(1e6 * calibration.finest_ood_score) / 1e6
            raise UsageError(
                f"a limit of {max_ood} for the out-of-distribution score would refuse nothing: this model was "
                f"calibrated on {calibration.images} images, so no score exceeds {finest}: give that or less, or 1 for "
                "no limit"
            )
        return _Limits(min_probability, max_ood, single)

    def _classify(self, pictures: Sequence[_Picture], limits: _Limits) -> list[Prediction]:
        try:
            return self._predictions(pictures, limits)
        except MemoryError as error:
            raise ExecutionError(f"too little memory for {len(pictures):,} images: give fewer at a time") from error

    def _classify_each(self, pictures: Sequence[_Picture], limits: _Limits) -> list[Prediction | ExecutionError]:
        """Like `_classify`, but retry image by image if the batch fails; an image that fails alone yields its error."""
        try:
            return [*self._classify(pictures, limits)]
        except ExecutionError as error:
            if len(pictures) == 1:
                return [error]
        return [answer for picture in pictures for answer in self._classify_each([picture], limits)]

    def _predict_each(
        self, images: Iterator[object], limits: _Limits, prepare: Callable[[object], _Picture]
    ) -> Iterator[Prediction | InputError | ExecutionError]:
        def answered(prepared: list[Prepared]) -> list[Prediction | InputError | ExecutionError]:
            found = iter(self._classify_each([each for each in prepared if isinstance(each, _Picture)], limits))
            return [next(found) if isinstance(each, _Picture) else each for each in prepared]

        size = 1
        prepared, failure = _next_prepared(prepare, images, size)
        while prepared:
            # onnxruntime releases the GIL while it computes.
            answers = in_background(answered, prepared)
            size = min(GROWTH * size, CHUNK)
            following, later = ([], None) if failure else _next_prepared(prepare, images, size)
            yield from answers()
            if failure:
                break
            prepared, failure = following, later
        if failure:
            raise failure

    def _predictions(self, pictures: Sequence[_Picture], limits: _Limits) -> list[Prediction]:
        images = np.array([picture.pixels for picture in pictures], dtype=np.uint8).reshape(-1, HEIGHT, WIDTH)
        logits = self._run(images[:, None])
        probabilities = self.probabilities(logits)
        calibration = self.contract.calibration
        scores = ood_score(logits, calibration).tolist() if calibration else [None] * len(logits)
        best = probabilities.argmax(axis=1).tolist()
        digits = [picture.digits for picture in pictures]
        shown = has_ink(images).tolist()
        predictions = []
        for index, ink, score, shares, values, count in zip(
            best, shown, scores, probabilities.tolist(), logits.tolist(), digits, strict=True
        ):
            refused = not ink or shares[index] < limits.min_probability or (score or 0.0) > limits.max_ood
            refused = refused or (limits.single and (count or 0) > 1)
            predictions.append(
                Prediction(
                    label=None if refused else self.labels[index],
                    probability=shares[index],
                    ood_score=score,
                    probabilities=dict(zip(self.labels, shares, strict=True)),
                    logits=dict(zip(self.labels, values, strict=True)),
                    digits=count,
                )
            )
        return predictions


def _scaled(box: tuple[int, int, int, int], scale: float) -> tuple[int, int, int, int]:
    left, top, right, bottom = (round(scale * edge) for edge in box)
    return left, top, right, bottom


def _next_prepared(
    prepare: Callable[[object], _Picture], images: Iterator[object], size: int
) -> tuple[list[Prepared], Exception | None]:
    """The next pictures, ready for the model, and the error that iterating over `images` raised, if any."""

    def prepared_or_error(image: object) -> Prepared:
        try:
            return prepare(image)
        except (InputError, ExecutionError) as error:
            return error

    prepared: list[Prepared] = []
    try:
        prepared.extend(map(prepared_or_error, itertools.islice(images, size)))
    except Exception as error:  # noqa: BLE001  # re-raised after the earlier pictures are answered
        return prepared, error
    return prepared, None
