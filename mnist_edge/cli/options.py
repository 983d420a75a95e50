"""Options and arguments that several commands share."""

from typing import Annotated, Final

import typer

from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture

DEFAULT_BUNDLE: Final = str(ARTIFACTS / Architecture.CNN)

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

Form = Annotated[
    str | None,
    typer.Option(
        "--format", help="Which file of a bundle answers: onnx, int8-static, int8-dynamic.  [default: the recommended]"
    ),
]
