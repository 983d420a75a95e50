"""What a bundle's files are called, and the table of the formats that a model is exported to.

========================== ==================================================================
``model.pth``              the PyTorch state_dict
``training.json``          recipe, seed, data digests, metrics of every epoch, versions
``metrics.jsonl``          the metrics again, a line an epoch, for plots
``checkpoint.pth``         while a training is not finished: what it needs to go on
``model.torchscript`` …    the exported forms, one file each (`Format`)
``manifest.json``          contract, provenance, and each file's digest, size, measured parity
========================== ==================================================================
"""

from enum import StrEnum
from pathlib import Path
from typing import Final, Self

ARTIFACTS: Final = Path("artifacts")
"""Where bundles go unless told otherwise, below the working directory."""

WEIGHTS: Final = "model.pth"
TRAINING: Final = "training.json"
METRICS: Final = "metrics.jsonl"
CHECKPOINT: Final = "checkpoint.pth"
MANIFEST: Final = "manifest.json"


class Engine(StrEnum):
    """What runs a file."""

    ONNXRUNTIME = "onnxruntime"
    """Its files carry contract, provenance and golden vectors in their metadata."""

    LIBTORCH = "libtorch"


class Format(StrEnum):
    """The exported forms: name, file in a bundle, engine. How each is made says `mnist_edge.export.formats`."""

    file_name: str
    engine: Engine

    def __new__(cls, name: str, file_name: str = "", engine: Engine = Engine.ONNXRUNTIME) -> Self:
        """A member that is its name and knows its row of the table. `Format(name)` finds it, hence the defaults."""
        member = str.__new__(cls, name)
        member._value_, member.file_name, member.engine = name, file_name, engine
        return member

    TORCHSCRIPT = "torchscript", "model.torchscript", Engine.LIBTORCH
    ONNX = "onnx", "model.onnx", Engine.ONNXRUNTIME
    INT8_DYNAMIC = "int8-dynamic", "model.int8-dynamic.onnx", Engine.ONNXRUNTIME
    INT8_STATIC = "int8-static", "model.int8-static.onnx", Engine.ONNXRUNTIME


RUNNABLE: Final = tuple(form for form in Format if form.engine is Engine.ONNXRUNTIME)
"""The formats that the runtime answers with."""

EXPORTED: Final = tuple(form.file_name for form in Format)
"""The names of the exported files."""

FILES: Final = (WEIGHTS, TRAINING, METRICS, CHECKPOINT, MANIFEST, *EXPORTED)
"""The names of all files of a bundle."""
