"""Open a compiled C file in a measuring process."""

from mnist_edge.runtime.bench.child import Opened
from mnist_edge.runtime.compiling import Library


def opened(model: str, _: str) -> Opened:
    """Open a library that `mnist_edge.runtime.compiling.build` made."""
    return Opened(Library(model).logits)
