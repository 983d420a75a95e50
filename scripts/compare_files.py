"""Compare `mnist-edge predict` with merely decoding the same files: MNIST's test set as 10,000 PNG files.

    python scripts/compare_files.py [MODEL] [--rounds 5]

All times are of whole processes, including start-up. `predict` alternates with a script that only decodes the files
with Pillow; the median and the range over all rounds are printed. Then come the accuracy from the JSON lines and from
arrays, and the peak memory for 2,000 and for 10,000 files (Linux only).
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from statistics import median

import numpy as np
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.data import datasets

DECODE = """
import os, sys
import numpy as np
from PIL import Image
for name in sorted(os.listdir(sys.argv[1])):
    np.asarray(Image.open(os.path.join(sys.argv[1], name)))
"""

FEW = 2_000


def write(folder: Path, images: np.ndarray) -> None:
    folder.mkdir()
    for index, image in enumerate(images):
        Image.fromarray(image).save(folder / f"{index:05}.png")


def predicting(folder: Path, model: str | None) -> list[str]:
    chosen = ["--model", model] if model else []
    return [sys.executable, "-m", "mnist_edge", "predict", str(folder), "--json", *chosen]


def seconds(command: list[str], out: Path) -> float:
    with out.open("wb") as file:
        start = time.perf_counter()
        subprocess.run(command, stdout=file, check=True)  # our own command
        return time.perf_counter() - start


def peak_megabytes(command: list[str]) -> float:
    # The kernel's own figure for a finished child starts at its parent's size, so the running child is polled.
    peak = 0
    with subprocess.Popen(command, stdout=subprocess.DEVNULL) as process:  # our own command
        while process.poll() is None:
            status = Path(f"/proc/{process.pid}/status").read_text()
            peak = max([peak, *(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM"))])
            time.sleep(0.01)
    return peak / 1024


def report(name: str, count: int, times: list[float]) -> None:
    rates = sorted(count / time for time in times)
    print(f"{name:10} {count / median(times):8,.0f} files/s   ({rates[0]:,.0f}–{rates[-1]:,.0f}, {len(times)} rounds)")


def main(model: str | None, rounds: int) -> None:
    test = datasets.load().test
    with tempfile.TemporaryDirectory() as scratch:
        folder, few, lines, nothing = (Path(scratch) / name for name in ("all", "few", "lines", "nothing"))
        write(folder, test.images)
        write(few, test.images[:FEW])
        decode = [sys.executable, "-c", DECODE, str(folder)]
        pairs = [(seconds(decode, nothing), seconds(predicting(folder, model), lines)) for _ in range(rounds)]
        decoding, predictions = map(list, zip(*pairs, strict=True))
        report("decode", len(test), decoding)
        report("predict", len(test), predictions)
        print(f"predict reaches {100 * median(d / p for d, p in pairs):.0f} % of decoding alone (median of pairs)")

        answers = [json.loads(line)["label"] for line in lines.read_text(encoding="utf-8").splitlines()]
        classifier = Classifier(model)
        truth = np.array(classifier.labels)[test.labels]
        arrays = np.array(classifier.labels)[classifier.logits(test.images).argmax(axis=1)]
        from_files, from_arrays = (100 * float((found == truth).mean()) for found in (np.array(answers), arrays))
        print(f"accuracy from files {from_files:.2f} %, from arrays {from_arrays:.2f} %")

        small, large = (peak_megabytes(predicting(where, model)) for where in (few, folder))
        print(f"peak memory {small:.1f} MB for {FEW:,} files, {large:.1f} MB for {len(test):,}")


if __name__ == "__main__":
    os.environ.pop("PYTHONDONTWRITEBYTECODE", None)  # installed packages have cached bytecode
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("model", nargs="?", help="a bundle, an .onnx file or the name of a pretrained model")
    parser.add_argument("--rounds", type=int, default=5)
    arguments = parser.parse_args()
    main(arguments.model, arguments.rounds)
