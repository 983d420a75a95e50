"""What the runtime costs beside bare onnxruntime, as paired ratios:  python scripts/compare_runtime.py MODEL [PAIRS].

MODEL is a bundle or an ``.onnx`` file. Two questions, each asked by turns of ours and of a bare script, on one machine
in one run, so that what else the machine does falls on both:

- a process: start, import, load, decode one PNG file, answer, end; ours by `Classifier`, which verifies the model;
- a call: `Classifier.logits` on one image in memory, and ``InferenceSession.run`` on the same array.

Both sides have the same session options and the same number of threads. A ratio is the median over pairs, with its
quartiles; the order within a pair alternates.
"""

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

from PIL import Image

from mnist_edge import Classifier
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.runtime.model import open_model
from mnist_edge.runtime.session import THREADS_VARIABLE, default_threads

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
options.intra_op_num_threads = int(sys.argv[3])
options.inter_op_num_threads = 1
options.enable_mem_pattern = False
options.add_session_config_entry("session.intra_op.allow_spinning", "0")
options.add_session_config_entry("session.inter_op.allow_spinning", "0")
session = ort.InferenceSession(sys.argv[1], options, providers=["CPUExecutionProvider"])
image = np.asarray(Image.open(sys.argv[2]).convert("L"))
print(session.run(None, {"image": image[None, None]})[0].argmax())
"""

CALLS = 100
"""In one block of the in-process comparison: about 10 ms."""

ALLOWED = {"process": 1.2, "call, uint8 [1, 28, 28]": 1.15, "call, uint8 [1, 1, 28, 28]": 1.15}


def process(code: str, *arguments: object) -> Callable[[], float]:
    """Seconds that a fresh interpreter takes. Bytecode is kept, as it is in an installed package."""
    environment = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    environment[THREADS_VARIABLE] = str(default_threads())
    command = [sys.executable, "-c", code, *map(str, arguments)]

    def run() -> float:
        start = time.perf_counter()
        subprocess.run(command, env=environment, check=True, capture_output=True)  # ours, above
        return time.perf_counter() - start

    return run


def calls(answer: Callable[[], object]) -> Callable[[], float]:
    """Seconds a call, over a block of them."""

    def run() -> float:
        start = time.perf_counter()
        for _ in range(CALLS):
            answer()
        return (time.perf_counter() - start) / CALLS

    return run


def compare(name: str, ours: Callable[[], float], bare: Callable[[], float], pairs: int) -> bool:
    """Print the paired ratio; whether it is allowed."""
    ours(), bare()
    times = []
    for index in range(pairs):
        if index % 2:
            times.append((ours(), bare()))
        else:
            second = bare()
            times.append((ours(), second))
    low, ratio, high = statistics.quantiles((mine / theirs for mine, theirs in times), n=4)
    mine, theirs = (1e6 * statistics.median(column) for column in zip(*times, strict=True))
    print(
        f"{name:28} {mine:12,.0f} µs {theirs:12,.0f} µs {ratio:8.3f} ({low:.3f}…{high:.3f}, n = {pairs}), "
        f"{ALLOWED[name]} is allowed",
        flush=True,
    )
    return ratio <= ALLOWED[name]


def main(model: str, pairs: int = 40) -> int:
    threads = default_threads()
    file = Path(model) / "model.onnx" if Path(model).is_dir() else Path(model)
    vector = open_model(model).golden.images[:1]
    classifier = Classifier(model, threads=threads)
    session = open_model(model, threads=threads).session._inference()  # noqa: SLF001  # the bare one, options alike

    print(f"{threads} threads{'':18} {'mnist-edge':>15} {'bare':>15} {'ratio':>8}")
    with tempfile.TemporaryDirectory() as folder:
        picture = Path(folder) / "digit.png"
        Image.fromarray(vector[0, 0]).save(picture)
        bare = process(BARE, file, picture, threads)
        passed = [compare("process", process(OURS, model, picture), bare, pairs)]
    for image in (vector[0], vector):
        name = f"call, uint8 {list(image.shape)}"
        bare = calls(lambda: session.run([OUTPUT_NAME], {INPUT_NAME: vector}))
        passed.append(compare(name, calls(lambda image=image: classifier.logits(image)), bare, 10 * pairs))
    return int(not all(passed))


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], *map(int, sys.argv[2:3])))
