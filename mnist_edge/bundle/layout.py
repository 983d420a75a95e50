"""The file names of a bundle, and the table of export formats.

========================== ==================================================================
``model.pth``              the PyTorch state_dict
``training.json``          recipe, seed, data digests, metrics of every epoch, versions
``metrics.jsonl``          the same metrics, one line per epoch, for plots
``checkpoint.pth``         only while training is unfinished: what it needs to resume
``model.torchscript`` …    the exported models, one file per format (`Format`)
``manifest.json``          contract, provenance, and each file's digest, size and parity
========================== ==================================================================
"""

from collections.abc import Collection
from enum import StrEnum
from typing import Final, Self

from mnist_edge.names import choose

ARTIFACTS: Final = "artifacts"
"""The default folder for bundles, relative to the working directory."""

WEIGHTS: Final = "model.pth"
TRAINING: Final = "training.json"
METRICS: Final = "metrics.jsonl"
CHECKPOINT: Final = "checkpoint.pth"
MANIFEST: Final = "manifest.json"


class Engine(StrEnum):
    """What runs an exported file."""

    ONNXRUNTIME = "onnxruntime"
    """Its files carry contract, provenance and golden vectors in their metadata."""

    LIBTORCH = "libtorch"


class Format(StrEnum):
    """The export formats: name, file name, engine. `mnist_edge.export.formats` defines how each is made."""

    file_name: str
    engine: Engine

    def __new__(cls, name: str, file_name: str = "", engine: Engine = Engine.ONNXRUNTIME) -> Self:
        """Make the name the value, the rest attributes. The defaults let type checkers accept `Format(name)`."""
        member = str.__new__(cls, name)
        member._value_, member.file_name, member.engine = name, file_name, engine
        return member

    TORCHSCRIPT = "torchscript", "model.torchscript", Engine.LIBTORCH
    ONNX = "onnx", "model.onnx", Engine.ONNXRUNTIME
    INT8_DYNAMIC = "int8-dynamic", "model.int8-dynamic.onnx", Engine.ONNXRUNTIME
    INT8_STATIC = "int8-static", "model.int8-static.onnx", Engine.ONNXRUNTIME


RUNNABLE: Final = tuple(form for form in Format if form.engine is Engine.ONNXRUNTIME)
"""The formats that the runtime can run."""

EXPORTED: Final = tuple(form.file_name for form in Format)
"""The file names of all formats."""

FILES: Final = (WEIGHTS, TRAINING, METRICS, CHECKPOINT, MANIFEST, *EXPORTED)
"""The names of all files that a bundle can hold."""


def format_named(name: str, among: Collection[Format] = tuple(Format)) -> Format:
    """The format of that name. Raises UsageError if it is none of those to choose from."""
    return choose(name, among, "format")
