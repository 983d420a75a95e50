"""The proof of one exported file: parity, weights, contract, provenance, golden vectors, calibration."""

import contextlib
import dataclasses
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

import numpy as np
from msgspec import structs

from mnist_edge.bundle import layout
from mnist_edge.bundle.layout import Engine, Format
from mnist_edge.bundle.records import CalibrationFigures, Parity, Provenance
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import MnistEdgeError, ModelFormatError, ParityError
from mnist_edge.export import calibration, examples, metadata, parity
from mnist_edge.export.examples import Examples
from mnist_edge.export.formats import EXPORTERS
from mnist_edge.export.parity import Reference, Run
from mnist_edge.runtime import selftest
from mnist_edge.runtime.golden import Golden
from mnist_edge.runtime.model import Model, load
from mnist_edge.training.checkpoint import Trained


@dataclass(frozen=True)
class Outcome:
    """The result of checking one file."""

    format: Format
    bytes: int
    parity: Parity | None
    """None if the comparison did not finish."""

    calibration: CalibrationFigures | None
    """None without a calibration split, or if a check failed."""

    error: MnistEdgeError | None
    """None if the file passed."""

    left_out: bool = False
    """Whether the error is no failure: the format cannot be made from this model, and was not asked for by name."""


@dataclass(frozen=True)
class Step:
    """A part of an export or verification that takes a while."""

    file: str
    """Name of the file being worked on."""

    name: str
    """What is done, in a word or two."""

    seconds: float | None = None
    """How long it took; None at its start."""


Progress = Callable[[Step], None]
"""Called at the start and at the end of every step. A step that fails has no end."""


class ParityContext:
    """What all files of a bundle share: PyTorch's answers to compare with, and the inputs of the export."""

    def __init__(self, trained: Trained, data: Dataset, progress: Progress, c_prefix: str = "") -> None:
        self.trained = trained
        self.test = data.test
        self.known: dict[Format, bytes] = {}
        """The files that have been proved, from which others may be made."""

        self._progress = progress
        self._c_prefix = c_prefix
        with self.step(layout.WEIGHTS, "PyTorch's answers"):
            self.reference = Reference(trained, data.test)
            self.examples = examples.choose(trained, data)

    def examples_for(self, form: Format) -> Examples:
        """The inputs of a format's export. Raises ParityError if the file that it is made from is not proved."""
        if form.origin is None:
            return self.examples
        if form.origin not in self.known:
            raise ParityError(
                f"{form.file_name}: is made from {form.origin.file_name}, which is missing or failed: export both again"
            )
        return dataclasses.replace(self.examples, origin=self.known[form.origin], c_prefix=self._c_prefix)

    @contextlib.contextmanager
    def step(self, file: str, name: str) -> Iterator[None]:
        """Report the start and the end of a step."""
        self._progress(Step(file, name))
        start = time.perf_counter()
        yield
        self._progress(Step(file, name, time.perf_counter() - start))


def prove(form: Format, content: bytes, name: str, context: ParityContext) -> Outcome:
    """Check a file's content, loaded as in deployment; `name` is for messages. A failure is returned, not raised."""
    exporter = EXPORTERS[form]
    found: Parity | None = None
    figures: CalibrationFigures | None = None
    error: MnistEdgeError | None = None
    try:
        with context.step(form.file_name, "parity"):
            given = context.examples_for(form)
            if form.engine is Engine.C_COMPILER:  # no code runs that is not ours
                exporter.check_weights(content, name, given)
            variants = exporter.variants(content, name)
            found, logits = parity.compare(context.reference, variants, name)
            parity.require_within(found, exporter.TOLERANCE, name)
            if form.engine is not Engine.C_COMPILER:
                exporter.check_weights(content, name, given)
            if form.origin is not None:
                same = _as_used(EXPORTERS[form.origin].variants(given.origin, form.origin.file_name))
                for run in variants.values():
                    parity.require_equal(run, same, context.reference.images, name)
        with context.step(form.file_name, "calibration"):
            # Computed again by the file itself, to compare with what it stores.
            fitted = calibration.fit(_as_used(variants), context.examples.calibration)
            if form.engine is Engine.ONNXRUNTIME:
                model = load(content, name)
                _check_metadata(model, form, context.trained, context.examples.golden)
                calibration.check(model.contract.calibration, fitted, name)
            if fitted is not None:
                figures = calibration.figures(logits, fitted, context.test.labels)
        context.known[form] = content
    except MnistEdgeError as problem:
        error = problem
    return Outcome(form, len(content), found, figures, error)


def _as_used(variants: Mapping[str, Run]) -> Run:
    return next(iter(variants.values()))


def _check_metadata(model: Model, form: Format, trained: Trained, golden: Golden) -> None:
    if model.contents.format is not form:
        raise ModelFormatError(f"{model.name}: its metadata say {model.contents.format}, not {form}: export it again")
    if structs.replace(model.contract, calibration=None) != trained.contract:
        raise ModelFormatError(f"{model.name}: its contract is not the training's: export it again")
    require_same_origin(model.contents.provenance, trained, model.name)
    stored = model.contents.golden
    same_images = np.array_equal(stored.images, golden.images)
    if not same_images or not np.abs(stored.logits - golden.logits).max() <= parity.FLOAT32.max_abs_diff:
        raise ModelFormatError(f"{model.name}: its golden vectors are not PyTorch's answers: export it again")
    limit = parity.FLOAT32.max_abs_diff + parity.GOLDEN_SLACK * float(np.abs(golden.logits).max())
    if not stored.tolerance <= limit:
        raise ParityError(
            f"{model.name}: its golden vectors allow {stored.tolerance:.2g}, more than {limit:.2g}: export it again"
        )
    selftest.run(model)


def require_same_origin(provenance: Provenance, trained: Trained, name: str) -> None:
    """Raise ModelFormatError if the provenance in a file or manifest is not the training's; `name` is for messages."""
    # `exported_by` may differ: a bundle may be verified with newer versions than it was exported with.
    expected = structs.replace(metadata.provenance(trained), exported_by=provenance.exported_by)
    told = structs.asdict(provenance)
    differing = [key for key, value in structs.asdict(expected).items() if told[key] != value]
    if differing:
        raise ModelFormatError(f"{name}: its provenance ({', '.join(differing)}) is not the training's: export again")
