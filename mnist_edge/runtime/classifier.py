"""`Classifier`: raw pixels in, logits or a named class out."""

import itertools
import math
import os
from collections.abc import Callable, Iterable, Iterator
from numbers import Real
from typing import Any, Final, cast

import numpy as np
from msgspec import Struct
from numpy.typing import ArrayLike, NDArray

from mnist_edge.contract import HEIGHT, INPUT_NAME, OUTPUT_NAME, WIDTH, Contract, Preprocessing
from mnist_edge.errors import ExecutionError, InputError, MnistEdgeError, UsageError
from mnist_edge.images import has_ink, preprocess
from mnist_edge.runtime.model import open_model
from mnist_edge.runtime.pixels import as_batch, as_image, as_tensor, grey_values, require_several
from mnist_edge.runtime.prediction import Digit, Prediction, Reading, ood_score, softmax
from mnist_edge.runtime.threads import asked_threads, default_threads, in_background, in_chunks

CHUNK: Final = 256
"""Images a call into onnxruntime: its arena keeps the peak of the largest batch it ever saw."""

GROWTH: Final = 4
"""How much larger each chunk of a stream of pictures is: the first answers come at once, the last ones fast."""

Prepared = NDArray[np.uint8] | InputError | ExecutionError
"""A picture as the model takes it, uint8 [28, 28], or why it cannot be."""


class _Limits(Struct, frozen=True):
    """Beyond which no class is named."""

    min_probability: float
    max_ood: float


class Classifier:
    """An exported model, loaded and verified, ready to answer.

    Args:
        model: a bundle, one ``.onnx`` file, or the name of a pretrained model; None for the pretrained default.
        format: which of a bundle's files answers, ``"onnx"``, ``"int8-static"`` or ``"int8-dynamic"``; None for the
            one that its manifest recommends, else ``model.onnx``. A single file must be of it.
        threads: how many Python threads share a batch of more than `CHUNK` images; None for ``MNIST_EDGE_THREADS``,
            else as many as affinity and cgroup quota allow, up to four. They end with the call.

    Raises:
        ModelError: it is missing, not a model of ours, or altered.
        UsageError: impossible `format` or `threads`.

    >>> from mnist_edge import Classifier
    >>> Classifier("cnn", format="onnx").labels
    ('0', '1', '2', '3', '4', '5', '6', '7', '8', '9')
    """

    def __init__(
        self,
        model: str | os.PathLike[str] | None = None,
        *,
        format: str | None = None,  # noqa: A002  # its name on the command line too
        threads: int | None = None,
    ) -> None:
        self._threads = asked_threads(threads)
        self._model = open_model(model, format=format)

    @property
    def file(self) -> str:
        """The name of the file that answers, such as ``model.int8-static.onnx``."""
        return os.path.basename(self._model.name)  # noqa: PTH119  # without a Path a microsecond

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
            ExecutionError: this machine cannot compute the answer, for want of memory for instance.
        """
        return self._run(as_batch(images))

    def _run(self, batch: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        if 0 < len(batch) <= CHUNK:
            return self._run_chunk(batch)
        if self._threads is None:
            self._threads = default_threads()
        return in_chunks(self._run_chunk, batch, chunk=CHUNK, width=len(self.labels), threads=self._threads)

    def _run_chunk(self, batch: NDArray[np.integer[Any]]) -> NDArray[np.float32]:
        return cast("NDArray[np.float32]", self._model.session.run([OUTPUT_NAME], {INPUT_NAME: as_tensor(batch)})[0])

    def probabilities(self, logits: NDArray[np.float32]) -> NDArray[np.float64]:
        """The softmax of `logits`, float64 [N, classes], at the temperature that was found for this file."""
        calibration = self.contract.calibration
        return softmax(logits, calibration.temperature if calibration else 1.0)

    def preprocess(self, image: object) -> NDArray[np.uint8]:
        """What the model takes of a picture, uint8 [28, 28]; takes and raises what `predict` does."""
        try:
            # A copy: a picture that needs nothing would come back as the caller's own array.
            return preprocess(grey_values(image), self.contract.preprocessing).copy()
        except MemoryError as error:
            raise ExecutionError("too little memory for this picture: free some, or scale the picture down") from error

    def predict(self, image: object, *, min_probability: float = 0.0, max_ood: float = 1.0) -> Prediction:
        """Classify one picture.

        Args:
            image: a path, a binary file object, a Pillow image, or a uint8 array [height, width]. It is preprocessed as
                the training images were; a picture that already is stays as it is.
            min_probability: a less probable class is not named.
            max_ood: nor is the class of a picture whose out-of-distribution score is higher.

        Raises:
            ImageNotFoundError: no file at that path.
            ImageFormatError: it cannot be decoded, or is an array of another shape.
            ImageTypeError: neither of the above kinds.
            ExecutionError: this machine has too little memory for it.
            UsageError: a limit is not within 0…1, or `max_ood` is set where the file is not calibrated.

        >>> import numpy as np
        >>> from mnist_edge import Classifier
        >>> Classifier().predict(np.zeros((28, 28), np.uint8)).label is None  # nothing is drawn there
        True
        """
        limits = self._limits(min_probability, max_ood)
        return self._classify(self.preprocess(image)[None], limits)[0]

    def predict_many(
        self, images: Iterable[object], *, min_probability: float = 0.0, max_ood: float = 1.0
    ) -> list[Prediction]:
        """Classify pictures, each of any kind that `predict` takes; raises as it does."""
        predictions = []
        for answer in self.predict_each(images, min_probability=min_probability, max_ood=max_ood):
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
        preprocess: bool = True,
    ) -> Iterator[Prediction | InputError | ExecutionError]:
        """Classify pictures, answering in their order.

        They are taken in chunks that grow from 1 to `CHUNK`, and while one is computed the next is decoded: at most two
        chunks are in memory, and answers lag behind by as much. A picture that cannot be used yields the error that
        `predict` would raise, and does not stop the others.

        Args:
            images: of any kind that `predict` takes.
            min_probability: as `predict` takes it.
            max_ood: as `predict` takes it.
            preprocess: False for arrays [28, 28] that go to the model as they are, as those given to `logits` do.

        Raises:
            ImageTypeError: `images` is a single picture, or nothing that can be gone through.
            UsageError: a limit is not within 0…1, or `max_ood` is set where the file is not calibrated.
        """
        require_several(images)
        prepare = self.preprocess if preprocess else as_image
        return self._predict_each(iter(images), self._limits(min_probability, max_ood), prepare)

    def read(self, image: object, *, min_probability: float = 0.0, max_ood: float = 1.0) -> Reading:
        """Read the digits of a line, or of several.

        Args:
            image: a picture of any kind that `predict` takes; what it can hold says `mnist_edge.images.lines`.
            min_probability: less probable classes are not named.
            max_ood: nor are those of digits whose out-of-distribution score is higher.

        Raises:
            InputError: as `predict` does.
            UsageError: as `predict` does, or the model's images were not cropped to their ink.
        """
        if self.contract.preprocessing is not Preprocessing.MNIST:
            raise UsageError("this model was trained on whole pictures, not on what is cropped to its ink: use predict")
        limits = self._limits(min_probability, max_ood)
        from mnist_edge.images.lines import find_digits  # not for who classifies single digits

        found = find_digits(grey_values(image))
        images = np.array([digit.image for digit in found], dtype=np.uint8).reshape(-1, HEIGHT, WIDTH)
        return Reading(
            tuple(
                Digit(
                    label=answer.label,
                    probability=answer.probability,
                    ood_score=answer.ood_score,
                    box=digit.box,
                    line=digit.line,
                )
                for digit, answer in zip(found, self._classify(images, limits), strict=True)
            )
        )

    def _limits(self, min_probability: float, max_ood: float) -> _Limits:
        for name, limit in (("min_probability", min_probability), ("max_ood", max_ood)):
            if isinstance(limit, bool) or not isinstance(limit, Real) or not 0 <= limit <= 1:
                raise UsageError(f"{name} must be within 0…1, not {limit!r}")
        calibration = self.contract.calibration
        if max_ood < 1 and calibration is None:
            raise UsageError(
                "this model is not calibrated and has no out-of-distribution score: leave out max_ood, or train with "
                "a calibration split"
            )
        if calibration is not None and calibration.finest_ood_score < max_ood < 1:
            # Rounded down, so that the number that is named can be given.
            finest = math.floor(1e6 * calibration.finest_ood_score) / 1e6
            raise UsageError(
                f"max_ood {max_ood} would refuse nothing: this model was calibrated on {calibration.images} images, "
                f"which tell no score above {finest}: give that or less, or 1 for no limit"
            )
        return _Limits(min_probability, max_ood)

    def _classify(self, images: NDArray[np.uint8], limits: _Limits) -> list[Prediction]:
        try:
            return self._predictions(images, self._run(images[:, None]), limits)
        except MemoryError as error:
            raise ExecutionError(f"too little memory for {len(images):,} images: give fewer at a time") from error

    def _classify_each(self, images: NDArray[np.uint8], limits: _Limits) -> list[Prediction | ExecutionError]:
        """Image by image where this machine cannot compute all of them at once; of one that it cannot the error."""
        try:
            return [*self._classify(images, limits)]
        except ExecutionError as error:
            if len(images) == 1:
                return [error]
        return [answer for image in images for answer in self._classify_each(image[None], limits)]

    def _predict_each(
        self, images: Iterator[object], limits: _Limits, prepare: Callable[[object], NDArray[np.uint8]]
    ) -> Iterator[Prediction | InputError | ExecutionError]:
        def answered(prepared: list[Prepared]) -> list[Prediction | InputError | ExecutionError]:
            usable = [image for image in prepared if isinstance(image, np.ndarray)]
            batch = np.array(usable, dtype=np.uint8).reshape(-1, HEIGHT, WIDTH)
            found = iter(self._classify_each(batch, limits))
            return [next(found) if isinstance(image, np.ndarray) else image for image in prepared]

        size = 1
        prepared, failure = _next_prepared(prepare, images, size)
        while prepared:
            # onnxruntime lets go of the interpreter while it computes.
            answers = in_background(answered, prepared)
            size = min(GROWTH * size, CHUNK)
            following, later = ([], None) if failure else _next_prepared(prepare, images, size)
            yield from answers()
            if failure:
                break
            prepared, failure = following, later
        if failure:
            raise failure

    def _predictions(self, images: NDArray[np.uint8], logits: NDArray[np.float32], limits: _Limits) -> list[Prediction]:
        probabilities = self.probabilities(logits)
        calibration = self.contract.calibration
        scores = ood_score(logits, calibration).tolist() if calibration else [None] * len(logits)
        best = probabilities.argmax(axis=1).tolist()
        rows = zip(best, has_ink(images).tolist(), scores, probabilities.tolist(), logits.tolist(), strict=True)
        predictions = []
        for index, ink, score, shares, values in rows:
            refused = not ink or shares[index] < limits.min_probability or (score or 0.0) > limits.max_ood
            predictions.append(
                Prediction(
                    label=None if refused else self.labels[index],
                    probability=shares[index],
                    ood_score=score,
                    probabilities=dict(zip(self.labels, shares, strict=True)),
                    logits=dict(zip(self.labels, values, strict=True)),
                )
            )
        return predictions


def _next_prepared(
    prepare: Callable[[object], NDArray[np.uint8]], images: Iterator[object], size: int
) -> tuple[list[Prepared], Exception | None]:
    """The next pictures as the model takes them, and the error by which `images` itself ended, if any."""

    def prepared_or_error(image: object) -> Prepared:
        try:
            return prepare(image)
        except (InputError, ExecutionError) as error:
            return error

    prepared: list[Prepared] = []
    try:
        prepared.extend(map(prepared_or_error, itertools.islice(images, size)))
    except Exception as error:  # noqa: BLE001  # raised again once the pictures before it are answered
        return prepared, error
    return prepared, None
