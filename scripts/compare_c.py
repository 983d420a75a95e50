"""Time one image in compiled C and in onnxruntime, on one thread:  python scripts/compare_c.py [BUNDLE or MODEL ...].

Both compute the same int8-static file, taking turns. The C compiler is $CC, else cc, gcc or clang.
"""

import functools
import sys
from pathlib import Path
from typing import Final

import numpy as np
from numpy.typing import NDArray
from tables import markdown

from mnist_edge.bundle.layout import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.data import datasets
from mnist_edge.export.c import compiling, source
from mnist_edge.export.parity import Run
from mnist_edge.runtime.compiling import FLAGS
from mnist_edge.runtime.latency import latencies
from mnist_edge.runtime.model import locate, pretrained
from mnist_edge.runtime.session import Session

ROUNDS: Final = 20
CALLS: Final = 200
OPTIMIZED: Final = ("-O2", "-O3", "-Os")


def run_session(session: Session, images: NDArray[np.uint8]) -> NDArray[np.float32]:
    logits: NDArray[np.float32] = session.run([OUTPUT_NAME], {INPUT_NAME: images})[0]
    return logits


def main(models: list[str]) -> None:
    images = datasets.load(datasets.DEFAULT).test.images[:, None]

    def answer(run: Run, number: int) -> object:
        return run(images[number % len(images)][None])

    rows = []
    for model in models or pretrained():
        content = Path(locate(model), Format.INT8_STATIC.file_name).read_bytes()
        session = Session(content)
        runs: dict[str, Run] = {"onnxruntime": functools.partial(run_session, session)}
        text = source.generate(content, "model")
        for level in OPTIMIZED:
            runs[level] = compiling.compiled(text, "model", model, (*FLAGS, level)).run
        calls = {name: functools.partial(answer, run) for name, run in runs.items()}
        times = latencies(calls, rounds=ROUNDS, repeats=CALLS)
        medians = {name: float(np.median(each)) for name, each in times.items()}
        ratios = [f"{1e6 * one:.0f} µs ({one / medians['onnxruntime']:.2f}×)" for one in medians.values()]
        rows.append([f"`{model}`", *ratios])
    print(*markdown(["model", "onnxruntime", *(f"C, {level}" for level in OPTIMIZED)], rows), sep="\n")


if __name__ == "__main__":
    main(sys.argv[1:])
