"""The metadata of an exported ``.onnx`` file, which make that one file a complete deployment."""

from typing import Any, Final

import numpy as np
import onnx
import torch
from msgspec import UNSET, structs
from numpy.typing import NDArray

from mnist_edge import __version__
from mnist_edge.bundle.checksum import UNSET_CHECKSUM, with_checksum
from mnist_edge.bundle.decoding import encode
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.records import DataOrigin, ImportRecord, Provenance, TrainingRecord
from mnist_edge.contract import (
    CHECKSUM_KEY,
    CONTRACT_KEY,
    FORMAT_KEY,
    GOLDEN_KEY,
    INPUT_NAME,
    OUTPUT_NAME,
    PROVENANCE_KEY,
    Calibration,
)
from mnist_edge.errors import UnsupportedFormatError
from mnist_edge.export import calibration, naming, tidying
from mnist_edge.export.examples import Examples
from mnist_edge.export.parity import FLOAT32, GOLDEN_SLACK
from mnist_edge.runtime.contents import read_contents
from mnist_edge.runtime.golden import Golden, pack
from mnist_edge.runtime.onnx_file.admission import VersionError, admit
from mnist_edge.runtime.onnx_file.messages import read_model
from mnist_edge.runtime.onnx_file.shapes import ShapeError
from mnist_edge.runtime.onnx_file.wire import MalformedError
from mnist_edge.runtime.session import Session
from mnist_edge.training.checkpoint import Trained

GOLDEN_MARGIN: Final = 2.0
"""A file's golden vectors allow this multiple of the deviation at export, up to `GOLDEN_SLACK` for int8 and
`MOST_ROUNDING` for float32, since other machines may round differently."""

MOST_ROUNDING: Final = 1e-3
"""Largest tolerance of a float32 file's golden vectors. A user's normalization layer may divide by almost nothing on a
blank image, which magnifies the rounding there."""


def provenance(trained: Trained) -> Provenance:
    """Where a model comes from."""
    training = trained.training
    origin: dict[str, Any]
    match training:
        case TrainingRecord():
            origin = {"recipe": training.recipe, "epochs": len(training.epochs), "seed": training.seed}
        case ImportRecord():
            origin = {"weights": training.weights}
    return Provenance(
        architecture=training.architecture,
        source_sha256=UNSET if training.source is UNSET else training.source.sha256,
        parameters=training.parameters,
        **origin,
        data=DataOrigin(training.data.name, training.data.sha256),
        model_sha256=training.model_sha256,
        trained_by=training.versions,
        exported_by={"mnist-edge": __version__, "torch": str(torch.__version__), "onnx": onnx.__version__},
    )


def complete(model: onnx.ModelProto, form: Format, examples: Examples) -> bytes:
    """Turn a bare graph into a deployable file: run it to calibrate it, then add the metadata.

    `model` is changed. The golden vectors of a quantized model allow for its rounding error. Raises
    UnsupportedFormatError if it holds what the runtime would refuse.
    """
    _require_admitted(model, form)
    session = Session(model.SerializeToString())

    def run(images: NDArray[np.uint8]) -> Any:
        return session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]

    golden = examples.golden
    deviation = float(np.abs(run(golden.images) - golden.logits).max())
    if form is Format.ONNX:
        tolerance = max(FLOAT32.max_abs_diff, min(GOLDEN_MARGIN * deviation, MOST_ROUNDING))
        golden = structs.replace(golden, tolerance=tolerance)
    else:
        allowed = min(GOLDEN_MARGIN * deviation, GOLDEN_SLACK * float(np.abs(golden.logits).max()))
        golden = structs.replace(golden, tolerance=FLOAT32.max_abs_diff + allowed)
    return stamp(model, form, examples.trained, golden, calibration.fit(run, examples.calibration))


def stamp(
    model: onnx.ModelProto, form: Format, trained: Trained, golden: Golden, calibration: Calibration | None
) -> bytes:
    """The file's bytes: the graph with shapes, contract, format, provenance, golden vectors and its own checksum.

    Raises ModelFormatError if the runtime would refuse it.
    """
    naming.describe(model)
    del model.metadata_props[:]
    onnx.helper.set_model_props(
        model,
        {
            CONTRACT_KEY: encode(structs.replace(trained.contract, calibration=calibration)).decode(),
            FORMAT_KEY: form.value,
            PROVENANCE_KEY: encode(provenance(trained)).decode(),
            GOLDEN_KEY: pack(golden).decode(),
            CHECKSUM_KEY: UNSET_CHECKSUM,
        },
    )
    data = with_checksum(model.SerializeToString(deterministic=True))
    read_contents(data, form.file_name)
    return data


def _require_admitted(model: onnx.ModelProto, form: Format) -> None:
    """Raise UnsupportedFormatError if a graph holds what the runtime would refuse."""
    tidying.spell_plainly(model)
    try:
        admit(read_model(model.SerializeToString()))
    except (MalformedError, ShapeError, VersionError) as error:
        raise UnsupportedFormatError(
            f"{form.file_name}: the runtime would refuse it ({error}): "
            f"leave {form.value} out with --formats, or write its forward with other operators"
        ) from error
