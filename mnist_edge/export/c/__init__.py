"""C99 for microcontrollers: one file with the network's code, made from the int8-static file and bit-exact with it.

`reading` finds the layers, `requantization` replaces their float32 arithmetic by integers, `memory` gives them places
in the arena, `source` writes the arrays and fills in ``template.h``. `compiling` compiles the result, and `proving`
proves that its integers give onnxruntime's bytes.

A file is checked by making it again from the int8-static file. Nothing is compiled but what equals that, so that no
stranger's code runs.
"""

import functools
import itertools
import re
from collections.abc import Mapping
from typing import Final

from mnist_edge.bundle.layout import Format
from mnist_edge.errors import MnistEdgeError, ModelFormatError, ParityError
from mnist_edge.export import parity
from mnist_edge.export.c import compiling, proving, reading, source
from mnist_edge.export.examples import Examples
from mnist_edge.export.parity import Run
from mnist_edge.runtime.compiling import FLAGS, prefix_in

TOLERANCE: Final = parity.INT8


def convert(examples: Examples) -> bytes:
    """The file's content.

    Raises:
        UnsupportedFormatError: the network has an operator that the C code has not.
        ExecutionError: there is no compiler to prove it with.
    """
    compiling.compiler()
    return source.generate(examples.origin, examples.c_prefix).encode()


def variants(data: bytes, name: str) -> Mapping[str, Run]:
    """Both forms of the code, for speed and for little flash. Raises ModelFormatError if one does not compile."""
    text = data.decode()
    return {
        words: compiling.compiled(text, prefix_in(text), name, flags).run
        for words, flags in {"compiled": FLAGS, "compiled for size": compiling.SMALL}.items()
    }


def check_weights(data: bytes, name: str, examples: Examples) -> None:
    """Check every number in the file against the int8-static file, then the code, then its integer arithmetic.

    Raises:
        ParityError: a number is another, or integers do not give onnxruntime's bytes.
        ModelFormatError: the code is another, or the file is no text.
    """
    text = data.decode("utf-8", errors="replace")
    require_ours(text, examples.origin, name)
    layers = reading.layers(examples.origin)[:-1]
    for flags in (FLAGS, compiling.SMALL):
        code = compiling.compiled(text, prefix_in(text), name, flags)
        for number, layer in enumerate(layers):
            proving.prove(layer, functools.partial(code.round, number))


def require_ours(text: str, origin: bytes, name: str) -> None:
    """Raise ParityError or ModelFormatError unless a C file is what this version makes of the int8-static file."""
    expected = source.generate(origin, prefix_in(text))
    if text != expected:
        raise _difference(text, expected, name)


def _difference(text: str, expected: str, name: str) -> MnistEdgeError:
    """What is wrong with a file that is not the expected one."""
    key = ""
    for line, wanted in itertools.zip_longest(text.splitlines(), expected.splitlines()):
        # Only our own text is searched: on a stranger's, a regular expression could take hours.
        begins = re.match(r"#define (\w+) \S+$|(?:static )?const [^=]*?(\w+)\[\w*\] = {$", wanted or "")
        key = (begins[1] or begins[2]) if begins else key
        if line != wanted and key:
            return ParityError(f"{name}: its {key} is not that of {Format.INT8_STATIC.file_name}: export it again")
        if line != wanted:
            break
        if wanted == "};" or (begins and begins[1]):
            key = ""
    return ModelFormatError(f"{name}: its code is not what this version of mnist-edge writes: export it again")
