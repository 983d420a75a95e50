"""Options and arguments that several commands share."""

from typing import Annotated, Final

import typer

from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.cli import completion

DEFAULT_BUNDLE: Final = f"{ARTIFACTS}/{Architecture.CNN}"

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]

Quiet = Annotated[bool, typer.Option("--quiet", "-q", help="Print only results, warnings and errors.")]
Verbose = Annotated[bool, typer.Option("--verbose", "-v", help="Print details on stderr, and tracebacks of errors.")]

Threads = Annotated[
    int | None, typer.Option(metavar="N", help="Threads to compute on.  [default: $MNIST_EDGE_THREADS or one per core]")
]

Form = Annotated[
    str | None,
    typer.Option(
        "--format",
        autocompletion=completion.form,
        help="File of the bundle to use: onnx, int8-static or int8-dynamic.  [default: the recommended one]",
    ),
]
