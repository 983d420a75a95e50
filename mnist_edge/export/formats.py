"""How each format is made and checked: one module each, and a line in the table here."""

from collections.abc import Mapping
from typing import Final, Protocol

from mnist_edge.bundle.layout import Format
from mnist_edge.export import int8_dynamic, int8_static, onnx, torchscript
from mnist_edge.export.examples import Examples
from mnist_edge.export.parity import Run, Tolerance
from mnist_edge.training.checkpoint import Trained


class Exporter(Protocol):
    """What the module of a format provides."""

    @property
    def TOLERANCE(self) -> Tolerance:  # noqa: N802  # a constant of the module
        """How far its files may be from PyTorch."""

    def convert(self, examples: Examples) -> bytes:
        """The file's content, calibrated where it can tell of it."""

    def variants(self, data: bytes, name: str) -> Mapping[str, Run]:
        """The ways in which the file is run and compared, first the one in which its users run it."""

    def check_weights(self, data: bytes, name: str, trained: Trained) -> None:
        """Raise ParityError where the file's weights are not the trained ones."""


EXPORTERS: Final[dict[Format, Exporter]] = {
    Format.TORCHSCRIPT: torchscript,
    Format.ONNX: onnx,
    Format.INT8_DYNAMIC: int8_dynamic,
    Format.INT8_STATIC: int8_static,
}
