"""Compile a C file and call its functions."""

import ctypes
import functools
import os
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.errors import ExecutionError, ModelFormatError
from mnist_edge.export.c.layers import REMEDY
from mnist_edge.export.parity import Run

COMPILERS: Final = ("cc", "gcc", "clang")
"""Tried in this order if ``$CC`` is not set."""

FLAGS: Final = ("-std=c99", "-O2", "-shared", "-fPIC")
SMALL: Final = (*FLAGS, "-Os")
"""For the form of the code that microcontrollers run: one function for all layers."""

_CALLER: Final = """
#define MNIST_EDGE_IMPLEMENTATION
#include "model.h"
const size_t classes = PREFIX_CLASSES;
void run(const uint8_t *images, size_t count, float *logits);
void bytes(size_t layer, const int32_t *sums, size_t count, uint8_t *results);
void run(const uint8_t *images, size_t count, float *logits)
{
    uint8_t arena[PREFIX_ARENA];
    size_t i;
    for (i = 0; i < count; ++i)
        prefix_logits(images + i * PREFIX_PIXELS, arena, logits + i * PREFIX_CLASSES);
}
void bytes(size_t layer, const int32_t *sums, size_t count, uint8_t *results)
{
    size_t i;
    for (i = 0; i < count; ++i)
        results[i] = prefix_byte(prefix_layers + layer, i % prefix_layers[layer].outputs, sums[i]);
}
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
    try:
        asked = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise ExecutionError(f"CC is no command ({error}): set CC to a C compiler") from None
    if asked:
        if shutil.which(asked[0]) is None:
            raise ExecutionError(f"CC names {asked[0]!r:.80}, which is no program here: set CC to a C compiler")
        return asked
    for name in COMPILERS:
        if shutil.which(name) is not None:
            return [name]
    raise ExecutionError(f"a C file is proved by compiling it: install gcc or clang, or {REMEDY}")


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
        place = Path(folder)
        (place / "model.h").write_text(text, encoding="ascii")
        caller = _CALLER.replace("PREFIX", prefix.upper()).replace("prefix", prefix)
        (place / "caller.c").write_text(caller, encoding="ascii")
        library = place / "model.so"
        try:
            result = subprocess.run(  # noqa: S603  # the user's own compiler
                [*command, *flags, "-o", library, place / "caller.c"],
                capture_output=True,
                encoding="utf-8",
                errors="replace",
                env=os.environ | {"LC_ALL": "C"},
                check=False,
            )
            if result.returncode:
                reason = next((line for line in result.stderr.splitlines() if "error" in line), "it says nothing")
                raise ModelFormatError(f"{name}: {command[0]} cannot compile it ({reason}): export it again")
            loaded = ctypes.CDLL(str(library))
        except OSError as error:
            raise ExecutionError(
                f"{name}: cannot be compiled and loaded ({error}): check {command[0]}, and set TMPDIR to a folder "
                "from which programs may run"
            ) from None
    classes = ctypes.c_size_t.in_dll(loaded, "classes").value

    def run(images: NDArray[np.uint8]) -> NDArray[np.float32]:
        logits = np.empty((len(images), classes), np.float32)
        loaded.run(_address(np.ascontiguousarray(images)), ctypes.c_size_t(len(images)), _address(logits))
        return logits

    def rounded(layer: int, sums: NDArray[np.int64]) -> NDArray[np.uint8]:
        results = np.empty(sums.shape, np.uint8)
        given = np.ascontiguousarray(sums, np.int32)
        loaded.bytes(ctypes.c_size_t(layer), _address(given), ctypes.c_size_t(sums.size), _address(results))
        return results

    return Compiled(run, rounded)


def _address(array: NDArray[Any]) -> ctypes.c_void_p:
    return array.ctypes.data_as(ctypes.c_void_p)
