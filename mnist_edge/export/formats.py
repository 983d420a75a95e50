"""The exporters: one module per format, listed in `EXPORTERS`."""

from collections.abc import Mapping
from typing import Final, Protocol

from mnist_edge.bundle.layout import Format
from mnist_edge.export import c, int8_dynamic, int8_static, onnx, torchscript
from mnist_edge.export.examples import Examples
from mnist_edge.export.parity import Run, Tolerance


class Exporter(Protocol):
    """What a format's module provides."""

    @property
    def TOLERANCE(self) -> Tolerance:  # noqa: N802  # a constant of the module
        """How far a file may deviate from PyTorch."""

    def convert(self, examples: Examples) -> bytes:
        """The file's content, including its calibration if the format has metadata.

        Raises UnsupportedFormatError if the model cannot be brought into this format.
        """

    def variants(self, data: bytes, name: str) -> Mapping[str, Run]:
        """The ways to run the file, all of them compared. The first is the one its users run."""

    def check_weights(self, data: bytes, name: str, examples: Examples) -> None:
        """Raise ParityError if the file's weights are not the trained ones."""


EXPORTERS: Final[dict[Format, Exporter]] = {
    Format.TORCHSCRIPT: torchscript,
    Format.ONNX: onnx,
    Format.INT8_DYNAMIC: int8_dynamic,
    Format.INT8_STATIC: int8_static,
    Format.C: c,
}
