"""The proof of one exported file: parity, weights, contract, provenance, golden vectors, calibration."""

import contextlib
import importlib
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from typing import Any, Protocol, cast

import numpy as np

from mnist_edge import bundle
from mnist_edge.bundle import Format
from mnist_edge.contract import FORMAT_KEY
from mnist_edge.errors import MnistEdgeError, ModelFormatError, ParityError
from mnist_edge.export import calibration, examples, metadata, parity
from mnist_edge.export.calibration import Calibrated
from mnist_edge.export.examples import Examples
from mnist_edge.export.parity import Parity, Reference, Run, Tolerance
from mnist_edge.runtime import selftest
from mnist_edge.runtime.golden import Golden
from mnist_edge.runtime.model import Model, load
from mnist_edge.training.checkpoint import Trained
from mnist_edge.training.datasets import Dataset


class FormatModule(Protocol):
    """What the module of a format provides."""

    TOLERANCE: Tolerance

    def convert(self, examples: Examples) -> bytes:
        """The file's content, calibrated where it can tell of it."""

    def variants(self, data: bytes, name: str) -> Mapping[str, Run]:
        """The ways in which the file is run and compared, first the one in which its users run it."""

    def check_weights(self, data: bytes, name: str, trained: Trained) -> None:
        """Raise ParityError where the file's weights are not the trained ones."""


@dataclass(frozen=True)
class Outcome:
    """What became of one file."""

    format: Format
    bytes: int
    parity: Parity | None
    """None where the comparison did not come to an end."""

    calibrated: Calibrated | None
    """None where no images were kept from the training, or the comparison failed."""

    error: MnistEdgeError | None
    """None where the file passed."""


@dataclass(frozen=True)
class Step:
    """A part of the work that takes a while."""

    file: str
    """Name of the file that is worked on."""

    name: str
    """What is done, in a word or two."""

    seconds: float | None = None
    """How long it took; None when it begins."""


Progress = Callable[[Step], None]
"""Called with every step twice: before it begins, and when it is done. One that fails has no end."""


def format_module(form: Format) -> FormatModule:
    """The module of this package that bears the format's name."""
    return cast("FormatModule", importlib.import_module(f"{__package__}.{form.name.lower()}"))


class Against:
    """What every file of a bundle is held against."""

    def __init__(self, trained: Trained, data: Dataset, progress: Progress) -> None:
        self.trained = trained
        self.test = data.test
        self._progress = progress
        with self.step(bundle.WEIGHTS, "PyTorch's answers"):
            self.reference = Reference(trained, data.test)
            self.examples = examples.choose(trained, data)

    @contextlib.contextmanager
    def step(self, file: str, name: str) -> Iterator[None]:
        """Tell of a step before and after it."""
        self._progress(Step(file, name))
        start = time.perf_counter()
        yield
        self._progress(Step(file, name, time.perf_counter() - start))


def prove(form: Format, content: bytes, name: str, against: Against) -> Outcome:
    """Judge a file by its content, read as whoever deploys it would; `name` is what messages call it."""
    module = format_module(form)
    found: Parity | None = None
    calibrated: Calibrated | None = None
    error: MnistEdgeError | None = None
    try:
        with against.step(form.file_name, "parity"):
            variants = module.variants(content, name)
            found, logits = parity.compare(against.reference, variants, name)
            parity.judge(found, module.TOLERANCE, name)
            module.check_weights(content, name, against.trained)
        with against.step(form.file_name, "calibration"):
            # What was stored is found again, by the very file.
            fitted = calibration.fit(_as_used(variants), against.examples.kept)
            if form.is_onnx:
                model = load(content, name)
                _check_metadata(model, form, against.trained, against.examples.golden)
                calibration.check(model.contract.calibration, fitted, name)
            if fitted is not None:
                calibrated = calibration.judge(logits, fitted, against.test.labels)
    except MnistEdgeError as problem:
        error = problem
    return Outcome(form, len(content), found, calibrated, error)


def _as_used(variants: Mapping[str, Run]) -> Run:
    return next(iter(variants.values()))


def _check_metadata(model: Model, form: Format, trained: Trained, golden: Golden) -> None:
    told = model.session.metadata().get(FORMAT_KEY, form)
    if told != form:
        raise ModelFormatError(f"{model.name}: it says that it is {told}, not {form}: export it again")
    if replace(model.contract, calibration=None) != trained.contract:
        raise ModelFormatError(f"{model.name}: its contract is not the one of the training: export it again")
    require_same_origin(model.provenance, trained, model.name)
    stored = model.golden
    same_images = np.array_equal(stored.images, golden.images)
    if not same_images or not np.abs(stored.logits - golden.logits).max() <= parity.FLOAT32.max_abs_diff:
        raise ModelFormatError(f"{model.name}: its golden vectors are not PyTorch's answers: export it again")
    limit = parity.FLOAT32.max_abs_diff + parity.GOLDEN_SLACK * float(np.abs(golden.logits).max())
    if not stored.tolerance <= limit:
        raise ParityError(
            f"{model.name}: its golden vectors allow {stored.tolerance:.2g}, the most is {limit:.2g}: export it again"
        )
    selftest.run(model)


def require_same_origin(provenance: dict[str, Any], trained: Trained, name: str) -> None:
    """Raise ModelFormatError where a file or manifest, of that name, tells another origin than the training's."""
    # Who exported may differ: a bundle is verified with newer versions than it was made with.
    expected = metadata.provenance(trained)
    differing = [key for key, value in expected.items() if key != "exported_by" and provenance.get(key) != value]
    if differing:
        raise ModelFormatError(f"{name}: its provenance ({', '.join(differing)}) is not the training's: export again")
