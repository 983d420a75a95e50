"""Options and arguments that several commands share."""

from typing import Annotated, Final

import typer

from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.source import InputForm
from mnist_edge.cli import completion

DEFAULT_BUNDLE: Final = f"{ARTIFACTS}/{Architecture.CNN}"

OWN_MODEL: Final = "a class of your own, as FILE.py:CLASS or package.module:CLASS. That file is run: trust its author."
"""The end of the help of every --model that takes one."""

ModelArguments = Annotated[
    list[str] | None,
    typer.Option("--model-args", metavar="K=V", help="Argument of your class, such as width=32. Repeat for several."),
]
Input = Annotated[
    InputForm | None,
    typer.Option(help="What your class takes: image is [N, 1, 28, 28], flat is [N, 784].  [default: image]"),
]

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

Untrusted = Annotated[
    bool,
    typer.Option(
        "--untrusted",
        help="Run the model in a process of its own with limits on memory and time: for files from people you do not "
        "trust. Linux only.",
    ),
]
