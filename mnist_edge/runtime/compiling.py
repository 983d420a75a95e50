"""Compile a bundle's C file and call it. Needs a C compiler, and nothing else of an export.

To compile a file and call it is to run its author's code: whoever does it first makes sure of where the file is from.
"""

import ctypes
import os
import re
import shlex
import shutil
import subprocess
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.layout import C_PREFIX
from mnist_edge.errors import ExecutionError, ModelFormatError

COMPILERS: Final = ("cc", "gcc", "clang")
"""Tried in this order if ``$CC`` is not set."""

FLAGS: Final = ("-std=c99", "-O2", "-shared", "-fPIC")

CALLER: Final = """
#define MNIST_EDGE_IMPLEMENTATION
#include "model.h"
const size_t classes = PREFIX_CLASSES;
void run(const uint8_t *images, size_t count, float *logits);
void run(const uint8_t *images, size_t count, float *logits)
{
    uint8_t arena[PREFIX_ARENA];
    size_t i;
    for (i = 0; i < count; ++i)
        prefix_logits(images + i * PREFIX_PIXELS, arena, logits + i * PREFIX_CLASSES);
}
"""
"""The function that `Library` calls."""


class Library:
    """A compiled C file.

    Args:
        path: what `build` made.
    """

    def __init__(self, path: str | os.PathLike[str]) -> None:
        self.functions = ctypes.CDLL(os.fspath(path))
        self._classes: int = ctypes.c_size_t.in_dll(self.functions, "classes").value

    def logits(self, images: NDArray[np.uint8]) -> NDArray[np.float32]:
        """The logits, float32 [n, classes], of raw pixels, uint8 [n, …, 28, 28]."""
        logits = np.empty((len(images), self._classes), np.float32)
        self.functions.run(address(np.ascontiguousarray(images)), ctypes.c_size_t(len(images)), address(logits))
        return logits


def address(array: NDArray[Any]) -> ctypes.c_void_p:
    """Where an array's numbers begin, for a C function."""
    return array.ctypes.data_as(ctypes.c_void_p)


def compiler() -> list[str] | None:
    """The command that compiles C; None if there is none. Raises ExecutionError if ``$CC`` is none."""
    try:
        asked = shlex.split(os.environ.get("CC", ""))
    except ValueError as error:
        raise ExecutionError(f"CC is no command ({error}): set CC to a C compiler") from None
    if asked:
        if shutil.which(asked[0]) is None:
            raise ExecutionError(f"CC names {asked[0]!r:.80}, which is no program here: set CC to a C compiler")
        return asked
    return next(([name] for name in COMPILERS if shutil.which(name) is not None), None)


def prefix_in(text: str) -> str:
    """The prefix of a C file's names; empty if it has none."""
    match = re.search(rf"^void ({C_PREFIX})_sums\(", text, flags=re.MULTILINE)
    return match[1] if match else ""


def build(
    command: Sequence[str],
    content: bytes,
    prefix: str,
    name: str,
    folder: Path,
    *,
    flags: Sequence[str] = FLAGS,
    caller: str = CALLER,
) -> Path:
    """Compile a C file into a library, and return its path.

    Args:
        command: the compiler, from `compiler`.
        content: the C file; a stranger's may be in any encoding.
        prefix: of the names in it, from `prefix_in`.
        name: the file's name, for messages.
        folder: an existing one, for the library.
        flags: for the compiler.
        caller: the C code that calls the file's functions; "prefix" in it becomes the prefix.

    Raises:
        ModelFormatError: the compiler refuses it.
        ExecutionError: the compiler cannot be run.
    """
    library = folder / "model.so"
    try:
        (folder / "model.h").write_bytes(content)
        code = caller.replace("PREFIX", prefix.upper()).replace("prefix", prefix)
        (folder / "caller.c").write_text(code, encoding="ascii")
        result = subprocess.run(  # noqa: S603  # the user's own compiler
            [*command, *flags, "-o", library, folder / "caller.c"],
            capture_output=True,
            encoding="utf-8",
            errors="replace",
            env=os.environ | {"LC_ALL": "C"},
            check=False,
        )
    except OSError as error:
        raise _not_runnable(name, command[0], error) from None
    if result.returncode:
        reason = next((line for line in result.stderr.splitlines() if "error" in line), "it says nothing")
        raise ModelFormatError(f"{name}: {command[0]} cannot compile it ({reason}): export it again")
    return library


def loaded(library: Path, name: str, compiler: str) -> Library:
    """Load what `build` made. Raises ExecutionError, as `build` does, if it is for another machine or may not run."""
    try:
        return Library(library)
    except OSError as error:
        raise _not_runnable(name, compiler, error) from None


def _not_runnable(name: str, compiler: str, error: OSError) -> ExecutionError:
    return ExecutionError(
        f"{name}: cannot be compiled and loaded ({error}): check {compiler}, and set TMPDIR to a folder from which "
        "programs may run"
    )
