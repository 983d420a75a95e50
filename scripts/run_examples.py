"""Run the programs of docs/examples/onnxruntime and compare their answers with Python's.

    python scripts/run_examples.py [MODEL] [--include DIR] [--node DIR] [--images 100]

For each ONNX file of a bundle or pretrained model, every label and logit for the first test images is compared: in C++
and onnxruntime-node all bits must be equal. onnxruntime-web must give the same bits for int8-static and float32 logits
within their tolerance; int8-dynamic computes differently there, so only its labels are compared.

The C++ program is compiled with `$CXX`, or else `c++`, against the headers in `--include` (of the same version of
onnxruntime as Python's, or an older one), and linked with the library in Python's own onnxruntime. `--node` names a
folder in which `npm install onnxruntime-node onnxruntime-web` was run. What is not there is skipped.
"""

import argparse
import math
import os
import shlex
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parents[1]))

import numpy as np
from numpy.typing import NDArray

from mnist_edge import Classifier
from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.data import datasets
from mnist_edge.errors import ParityError
from mnist_edge.export import parity
from mnist_edge.runtime.model import DEFAULT_PRETRAINED, locate

EXAMPLES = Path(__file__).parents[1] / "docs" / "examples" / "onnxruntime"

INCLUDES = [Path("/usr/include/onnxruntime"), Path("/usr/local/include/onnxruntime")]
"""Where packages put the headers."""

HEADER = "onnxruntime_cxx_api.h"

SECONDS = 120
"""A program that takes longer hangs."""

EXACT: Mapping[Format, float] = dict.fromkeys(RUNNABLE, 0.0)
"""By format, the largest difference of a logit where the same library computes it."""

IN_WEB = {**EXACT, Format.ONNX: parity.FLOAT32.max_abs_diff, Format.INT8_DYNAMIC: math.inf}
"""The same in WebAssembly, which has other float32 kernels and quantizes no activations in MatMulNBits."""


@dataclass(frozen=True)
class Program:
    """A program that reads images from stdin, and takes a model as its next argument."""

    command: Sequence[str | Path]
    after: Sequence[str] = ()
    tolerances: Mapping[Format, float] = field(default_factory=lambda: EXACT)
    environment: Mapping[str, str] | None = None

    def answers(self, model: Path, images: NDArray[np.uint8]) -> str:
        """What it prints for some images."""
        result = subprocess.run(
            [*self.command, model, *self.after],
            input=images.tobytes(),
            capture_output=True,
            timeout=SECONDS,
            env={**os.environ, "ORT_DISABLE_TELEMETRY": "1", **(self.environment or {})},
            check=False,
        )
        if result.returncode:
            raise ParityError(f"{model}: exit code {result.returncode}: {result.stderr.decode().strip()}")
        return result.stdout.decode()


def compiled(include: Path, folder: Path) -> Program:
    """The C++ program, built in a folder with the library of Python's onnxruntime."""
    import onnxruntime

    (library,) = Path(onnxruntime.__file__).parent.glob("capi/libonnxruntime.so.*")
    shared = folder / "libonnxruntime.so.1"  # the name that the library has for itself
    shared.symlink_to(library)
    program = folder / "classify"
    flags: list[str | Path] = ["-std=c++17", "-O2", "-Wall", "-Wextra", "-Werror", "-isystem", include]
    source = EXAMPLES / "classify.cpp"
    compiler = shlex.split(os.environ.get("CXX", "c++"))
    subprocess.run([*compiler, *flags, source, shared, f"-Wl,-rpath,{folder}", "-o", program], check=True)
    return Program([program])


def in_node(package: str, folder: Path) -> Program:
    """The JavaScript program with one of the packages that are installed in a folder."""
    tolerances = EXACT if package == "onnxruntime-node" else IN_WEB
    environment = {"NODE_PATH": str(folder / "node_modules")}
    return Program(["node", EXAMPLES / "classify.js"], [package], tolerances, environment)


def largest_difference(printed: str, classifier: Classifier, images: NDArray[np.uint8]) -> float:
    """How far printed logits are from Python's. Raises ParityError if a label or their number differs."""
    expected = np.concatenate([classifier.logits(image[None]) for image in images])  # one at a time, as there
    rows = [line.rsplit(" ", expected.shape[1]) for line in printed.splitlines()]
    labels = [classifier.labels[index] for index in expected.argmax(axis=1)]
    found = [row[0] for row in rows]
    if found != labels:
        wrong = sum(one != other for one, other in zip(found, labels, strict=False))
        raise ParityError(f"{len(found)} labels for {len(labels)} images, {wrong} of them wrong")
    return float(np.abs(np.array([row[1:] for row in rows], np.float32) - expected).max())


def programs(include: Path | None, node: Path | None, scratch: Path) -> Iterator[tuple[str, Program]]:
    """Those that can run here; says of the others why not."""
    include = include or next((folder for folder in INCLUDES if (folder / HEADER).is_file()), None)
    if include is None:
        print(f"C++: skipped, {HEADER} is in none of {', '.join(map(str, INCLUDES))}: name its folder with --include")
    else:
        yield "C++", compiled(include, scratch)
    for package in ("onnxruntime-node", "onnxruntime-web"):
        if shutil.which("node") is None or node is None or not (node / "node_modules" / package).is_dir():
            print(f"{package}: skipped, install it with npm and name the folder with --node")
        else:
            yield package, in_node(package, node)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", default=DEFAULT_PRETRAINED, help="a bundle or a pretrained model")
    parser.add_argument("--include", type=Path, help=f"the folder of {HEADER}")
    parser.add_argument("--node", type=Path, help="where npm installed onnxruntime-node or onnxruntime-web")
    parser.add_argument("--images", type=int, default=100, help="how many test images")
    chosen = parser.parse_args()
    bundle = Path(locate(chosen.model))
    images = datasets.load(os.environ.get("MNIST_EDGE_DATA")).test.images[: chosen.images]
    failed = False
    with tempfile.TemporaryDirectory() as scratch:
        for name, program in programs(chosen.include, chosen.node, Path(scratch)):
            for form in RUNNABLE:
                model = bundle / form.file_name
                if not model.is_file():
                    continue
                try:
                    difference = largest_difference(program.answers(model, images), Classifier(model), images)
                except ParityError as error:
                    failed = True
                    print(f"{name}, {form}: {error}")
                    continue
                right = difference <= program.tolerances[form]
                failed |= not right
                found = f"{len(images)} labels equal, max |Δlogit| {difference:.2g}"
                print(f"{name}, {form}: {found}{'' if right else ', too much'}", flush=True)
    sys.exit(failed)


if __name__ == "__main__":
    main()
