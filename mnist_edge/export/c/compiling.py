"""Compile a C file and call its functions."""

import ctypes
import functools
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import ExecutionError
from mnist_edge.export.c.layers import REMEDY
from mnist_edge.export.parity import Run
from mnist_edge.runtime.compiling import CALLER, FLAGS, address, build, loaded
from mnist_edge.runtime.compiling import compiler as found_compiler

SMALL: Final = (*FLAGS, "-Os")
"""For the form of the code that microcontrollers run: one function for all layers."""

_CALLER: Final = f"""{CALLER}
void bytes(size_t layer, const int32_t *sums, size_t count, uint8_t *results);
void bytes(size_t layer, const int32_t *sums, size_t count, uint8_t *results)
{{
    size_t i;
    for (i = 0; i < count; ++i)
        results[i] = prefix_byte(prefix_layers + layer, i % prefix_layers[layer].outputs, sums[i]);
}}
"""


@dataclass(frozen=True)
class Compiled:
    """A C file as functions."""

    run: Run
    """From images to logits."""

    round: Callable[[int, NDArray[np.int64]], NDArray[np.uint8]]
    """What the layer of that number makes of sums, [n, outputs]."""


def compiler() -> list[str]:
    """The command that compiles C. Raises ExecutionError if there is none."""
    command = found_compiler()
    if command is None:
        raise ExecutionError(f"a C file is proved by compiling it: install gcc or clang, or {REMEDY}")
    return command


def compiled(text: str, prefix: str, name: str, flags: Sequence[str] = FLAGS) -> Compiled:
    """Compile a C file; `name` is for messages.

    Raises:
        ModelFormatError: the compiler refuses it.
        ExecutionError: there is no compiler, or programs may not run from the folder for temporary files.
    """
    return _compiled(tuple(compiler()), text, prefix, name, tuple(flags))


@functools.lru_cache(maxsize=2)  # the proof and the comparison take the same two forms of a file
def _compiled(command: tuple[str, ...], text: str, prefix: str, name: str, flags: tuple[str, ...]) -> Compiled:
    with tempfile.TemporaryDirectory() as folder:
        path = build(command, text.encode(), prefix, name, Path(folder), flags=flags, caller=_CALLER)
        library = loaded(path, name, command[0])

    def rounded(layer: int, sums: NDArray[np.int64]) -> NDArray[np.uint8]:
        results = np.empty(sums.shape, np.uint8)
        given = np.ascontiguousarray(sums, np.int32)
        library.functions.bytes(ctypes.c_size_t(layer), address(given), ctypes.c_size_t(sums.size), address(results))
        return results

    return Compiled(library.logits, rounded)
