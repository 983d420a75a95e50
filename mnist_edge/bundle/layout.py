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

import re
from collections.abc import Collection
from enum import StrEnum
from typing import Final, Self

from mnist_edge.errors import UsageError
from mnist_edge.names import choose

ARTIFACTS: Final = "artifacts"
"""The default folder for bundles, relative to the working directory."""

WEIGHTS: Final = "model.pth"
TRAINING: Final = "training.json"
METRICS: Final = "metrics.jsonl"
CHECKPOINT: Final = "checkpoint.pth"
MANIFEST: Final = "manifest.json"

LARGEST_JSON: Final = 2**24
"""Most bytes of a record. That of 5,000 epochs has 1.5 million."""

LARGEST_FILE: Final = 2**28
"""Most bytes of weights, or of an exported file: 67 million parameters in float32. A ResNet-50 has 26 million."""

LARGEST_CHECKPOINT: Final = 2**30
"""It holds the weights up to four times: themselves, their EMA, and two moments of Adam."""


class Engine(StrEnum):
    """What runs an exported file."""

    ONNXRUNTIME = "onnxruntime"
    """Its files carry contract, provenance and golden vectors in their metadata."""

    LIBTORCH = "libtorch"

    C_COMPILER = "C compiler"
    """Its files become part of a user's own program."""


class Format(StrEnum):
    """The export formats: name, file name, engine, origin. `mnist_edge.export.formats` defines how each is made."""

    file_name: str
    engine: Engine

    origin_name: str
    """The name of `origin`, empty if there is none: a format cannot be an attribute of another."""

    def __new__(cls, name: str, file_name: str = "", engine: Engine = Engine.ONNXRUNTIME, origin: str = "") -> Self:
        """Make the name the value, the rest attributes. The defaults let type checkers accept `Format(name)`."""
        member = str.__new__(cls, name)
        member._value_, member.file_name, member.engine, member.origin_name = name, file_name, engine, origin
        return member

    TORCHSCRIPT = "torchscript", "model.torchscript", Engine.LIBTORCH
    ONNX = "onnx", "model.onnx", Engine.ONNXRUNTIME
    INT8_DYNAMIC = "int8-dynamic", "model.int8-dynamic.onnx", Engine.ONNXRUNTIME
    INT8_STATIC = "int8-static", "model.int8-static.onnx", Engine.ONNXRUNTIME
    C = "c", "model.h", Engine.C_COMPILER, "int8-static"

    @property
    def origin(self) -> "Format | None":
        """The format from whose file it is made, and whose very logits it must give; listed before it."""
        return Format(self.origin_name) if self.origin_name else None


RUNNABLE: Final = tuple(form for form in Format if form.engine is Engine.ONNXRUNTIME)
"""The formats that the runtime can run."""

BY_DEFAULT: Final = tuple(form for form in Format if form.engine is not Engine.C_COMPILER)
"""The formats that an export makes if none are named. To prove a C file takes a compiler, which few machines have."""

EXPORTED: Final = tuple(form.file_name for form in Format)
"""The file names of all formats."""

FILES: Final = (WEIGHTS, TRAINING, METRICS, CHECKPOINT, MANIFEST, *EXPORTED)
"""The names of all files that a bundle can hold."""


def format_named(name: str, among: Collection[Format] = tuple(Format)) -> Format:
    """The format of that name. Raises UsageError if it is none of those to choose from."""
    return choose(name, among, "format")


C_PREFIX: Final = "[a-z][a-z0-9_]*"
"""A regular expression for what names in a C file may begin with."""


def require_c_prefix(prefix: str) -> None:
    """Raise UsageError unless names in C can begin so; empty for a prefix that is still to be chosen."""
    if re.fullmatch(f"({C_PREFIX})?", prefix) is None:
        raise UsageError(f"the C prefix {prefix!r:.80} is no name in lower case: give one such as my_digits")
