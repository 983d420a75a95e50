"""Options and arguments that several commands share."""

from typing import Annotated, Final

import typer

from mnist_edge.bundle import ARTIFACTS
from mnist_edge.training.recipes import Architecture

DEFAULT_BUNDLE: Final = ARTIFACTS / Architecture.CNN

Json = Annotated[bool, typer.Option("--json", help="Print one JSON document instead of text.")]
