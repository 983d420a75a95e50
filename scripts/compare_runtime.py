"""Compare the runtime with bare onnxruntime:  python scripts/compare_runtime.py [MODEL] [PAIRS].

MODEL is a pretrained name or a bundle (default `cnn`), PAIRS the number of process pairs (default 60).
`Classifier(MODEL)` with all defaults runs against bare onnxruntime on the same file:

- one image in memory: `Classifier.logits` against ``InferenceSession.run`` with one thread, onnxruntime's fastest
  setting; also against onnxruntime's defaults and the float32 file, and `Classifier.predict`;
- 10,000 images against a pool of two threads, with and without spinning, in batches of `CHUNK` and all at once;
- a whole process: start, import, load, decode one PNG file, classify it, exit.

The two sides alternate, and so does the order within a pair. A ratio is the median over the pairs, shown with the
bootstrap 95 % interval of that median. The exit code is 1 if a ratio exceeds its limit.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path

os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")  # read on import

import numpy as np
import onnxruntime as ort
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.runtime.classifier import CHUNK
from mnist_edge.runtime.machine import processor_flags, processor_name
from mnist_edge.runtime.model import DEFAULT_PRETRAINED, open_model

OURS = """
import sys
from mnist_edge import Classifier
print(Classifier(sys.argv[1]).predict(sys.argv[2]).label)
"""

BARE = """
import os, sys
os.environ["ORT_DISABLE_TELEMETRY"] = "1"
import numpy as np
import onnxruntime as ort
from PIL import Image

options = ort.SessionOptions()
options.intra_op_num_threads = 1
options.inter_op_num_threads = 1
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = np.asarray(Image.open(sys.argv[2]).convert("L"))
print(session.run(None, {"image": image[None, None]})[0].argmax())
"""

CALLS = 100
"""Calls per block of the in-process comparison: about 10 ms."""

CALL_PAIRS = 300
BATCH_PAIRS = 15
MANY = 10_000
RESAMPLES = 2000

Run = Callable[[], float]
"""Runs something and returns the seconds it took."""


def bare(file: Path, *, threads: int | None = 1, spinning: bool = True) -> ort.InferenceSession:
    options = ort.SessionOptions()
    if threads is not None:
        options.intra_op_num_threads = threads
    if not spinning:
        options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return ort.InferenceSession(file.read_bytes(), options, providers=["CPUExecutionProvider"])


def process(code: str, *arguments: object) -> Run:
    """Seconds that a fresh interpreter takes, with cached bytecode as for an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    command = [sys.executable, "-c", code, *map(str, arguments)]

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)
        return time.perf_counter() - start

    return run


def calls(answer: Callable[[], object], count: int = CALLS) -> Run:
    """Seconds per call, averaged over a block."""

    def run() -> float:
        start = time.perf_counter()
        for _ in range(count):
            answer()
        return (time.perf_counter() - start) / count

    return run


def in_chunks(session: ort.InferenceSession, images: np.ndarray, size: int) -> Callable[[], object]:
    def run() -> None:
        for start in range(0, len(images), size):
            session.run([OUTPUT_NAME], {INPUT_NAME: images[start : start + size]})

    return run


def interval(ratios: list[float]) -> tuple[float, float]:
    """The bootstrap 95 % interval of the median (Efron 1979), with a fixed seed."""
    rng = np.random.default_rng(seed=0)
    medians = np.median(rng.choice(ratios, (RESAMPLES, len(ratios))), axis=1)
    low, high = np.quantile(medians, (0.025, 0.975)).tolist()
    return low, high


def compare(
    name: str, ours: Run, other: Run, pairs: int, *, most: float | None = None, upper: float | None = None
) -> bool:
    """Print the paired ratio of times; return whether it is within its limits."""
    ours(), other()
    times = []
    for index in range(pairs):
        if index % 2:
            times.append((ours(), other()))
        else:
            second = other()
            times.append((ours(), second))
    ratios = [mine / theirs for mine, theirs in times]
    ratio, (low, high) = statistics.median(ratios), interval(ratios)
    mine, theirs = (1e6 * statistics.median(column) for column in zip(*times, strict=True))
    allowed = f", limit {most:.2f}" if most is not None else ""
    allowed += f" and {upper:.2f} for the upper end of the interval" if upper is not None else ""
    print(
        f"{name:46} {mine:11,.1f} µs {theirs:11,.1f} µs {ratio:7.3f} ({low:.3f}…{high:.3f}, n = {pairs}){allowed}",
        flush=True,
    )
    return (most is None or ratio <= most) and (upper is None or high <= upper)


def main(model: str = "cnn", pairs: int = 60) -> int:
    opened, exact = open_model(model), open_model(model, format="onnx")
    file = Path(opened.name)
    images = np.random.default_rng(seed=0).integers(0, 256, (MANY, 1, 28, 28), dtype=np.uint8)
    images[0] = opened.contents.golden.images[0]
    classifier, one = Classifier(model), images[:1]
    vnni = {"avx512_vnni", "avx_vnni", "asimddp"} & processor_flags()

    def run(session: ort.InferenceSession) -> Run:
        return calls(lambda: session.run([OUTPUT_NAME], {INPUT_NAME: one}))

    print(
        f"{processor_name()}{' with' if vnni else ' without'} VNNI, onnxruntime {version('onnxruntime')}, {file.name}"
    )
    print(f"{'':46} {'mnist-edge':>14} {'onnxruntime':>14} {'ratio':>7}")
    logits = calls(lambda: classifier.logits(one[0]))
    fast = bare(file)
    passed = [
        compare("one image | bare, 1 thread", logits, run(fast), CALL_PAIRS, most=1.10),
        compare("one image | bare, its defaults", logits, run(bare(file, threads=None)), CALL_PAIRS),
        compare(
            "one image | bare, 1 thread, model.onnx",
            logits,
            run(bare(Path(exact.name))),
            CALL_PAIRS,
            most=0.72 if model == "cnn" and vnni else None,
        ),
        compare(
            "one picture, predict | bare, 1 thread", calls(lambda: classifier.predict(one[0, 0])), run(fast), CALL_PAIRS
        ),
    ]
    many = calls(lambda: classifier.logits(images), 1)
    for spinning in (True, False):
        pool = bare(file, threads=2, spinning=spinning)
        for size in (CHUNK, MANY):
            name = f"{MANY:,} images | pool of 2, {'' if spinning else 'not '}spinning, batches of {size:,}"
            passed.append(compare(name, many, calls(in_chunks(pool, images, size), 1), BATCH_PAIRS, most=1 / 0.95))
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "digit.png"
        Image.fromarray(one[0, 0]).save(picture)
        ours, theirs = process(OURS, model, picture), process(BARE, file, picture)
        passed.append(compare("a process", ours, theirs, pairs, most=1.15, upper=1.20))
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1] if sys.argv[1:] else DEFAULT_PRETRAINED, *map(int, sys.argv[2:3])))
