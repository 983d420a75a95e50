"""Make a million predictions in four processes while memory, threads, descriptors and files run out.

Before them, this process computes what every call must answer. Then each call answers exactly that, up to
`MAX_BATCH_DEPENDENCE` where a fault may have split its batch, or raises one of the package's own errors, which it may
only do while something is wrong. The resident memory must not grow. One process of four runs its model as untrusted.
"""

import _thread
import argparse
import contextlib
import copy
import ctypes
import io
import json
import multiprocessing
import os
import random
import resource
import sys
import tempfile
import time
import traceback
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final
from unittest import mock

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from mnist_edge import Classifier, MnistEdgeError
from mnist_edge.bundle.thresholds import MAX_BATCH_DEPENDENCE
from mnist_edge.images import SAMPLES
from mnist_edge.runtime.prediction import Prediction

MODELS: Final = ("cnn", "cnn-nano", "cnn", "cnn-nano")
"""Of each process."""

UNTRUSTED: Final = 3
"""The process that runs its model as untrusted."""

SIZES: Final = (1, 7, 128, 300)
QUICK: Final = 20_000
FAULTY: Final = 0.25
"""The share of calls with a fault."""

MOST_GROWTH: Final = 8e6
"""Bytes of resident memory between the first quarter of the calls and the last: a few times malloc's own scatter."""

DIGIT, LINE, LARGE, VANISHED, CUT = "photo-5.jpg", "line-314159.png", "large.png", "vanished.png", "cut.png"


@dataclass
class Told:
    """What one process has seen."""

    predictions: int = 0
    calls: Counter[str] = field(default_factory=Counter)
    errors: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)
    resident: list[int] = field(default_factory=list)
    """Bytes, after each call."""

    def growth(self) -> float:
        """Bytes between the medians of the first quarter and the last; the first tenth warms up."""
        kept = self.resident[len(self.resident) // 10 :]
        quarter = max(1, len(kept) // 4)
        return float(np.median(kept[-quarter:]) - np.median(kept[:quarter]))


_M_MMAP_THRESHOLD: Final = -3
"""<malloc.h>: larger blocks come from the system and go back to it, so that a limit of memory is felt."""


# Faults


@contextlib.contextmanager
def _limited(kind: int, value: int) -> Iterator[None]:
    soft, hard = resource.getrlimit(kind)
    resource.setrlimit(kind, (value, hard))
    try:
        yield
    finally:
        resource.setrlimit(kind, (soft, hard))


@contextlib.contextmanager
def no_memory(chance: random.Random) -> Iterator[None]:
    """So little address space that some allocations fail; malloc gives back what it has kept before."""
    ctypes.CDLL(None).malloc_trim(0)
    mapped = int(Path("/proc/self/statm").read_bytes().split()[0]) * resource.getpagesize()
    with _limited(resource.RLIMIT_AS, mapped + chance.choice((0, 1 << 16, 1 << 20, 4 << 20, 16 << 20))):
        yield


@contextlib.contextmanager
def no_threads(_: random.Random) -> Iterator[None]:
    """No thread starts: by the limit, which does not bind root, and as if by it."""
    refused = RuntimeError("can't start new thread")
    with _limited(resource.RLIMIT_NPROC, 0), mock.patch.object(_thread, "start_new_thread", side_effect=refused):
        yield


@contextlib.contextmanager
def no_descriptors(_: random.Random) -> Iterator[None]:
    """No file opens."""
    free = os.dup(0)  # the lowest number that is free
    os.close(free)
    with _limited(resource.RLIMIT_NOFILE, free):
        yield


FAULTS: Final = {"memory": no_memory, "threads": no_threads, "descriptors": no_descriptors}


# What is asked
# ruff: noqa: ARG001  # all take the same arguments


def logits(size: int) -> Callable[[Classifier, NDArray[np.uint8], Path], Any]:
    return lambda classifier, images, folder: classifier.logits(images[:size])


def stream(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> list[Any]:
    return [*classifier.predict_each(images[:150], preprocess=False)]


def pictures(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> list[Any]:
    """Good pictures among one that vanishes and one that is cut off."""
    names = [DIGIT, VANISHED, DIGIT, CUT, LINE]
    return [*classifier.predict_each(str(folder / name) for name in names)]


def upload(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> Prediction:
    buffer = io.BytesIO()
    Image.fromarray(images[5]).save(buffer, format="PNG")
    return classifier.predict(buffer.getvalue())


def picture(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> Prediction:
    return classifier.predict(folder / DIGIT)


def large(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> Prediction:
    return classifier.predict(folder / LARGE)


def line(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> Any:
    return classifier.read(folder / LINE)


def opened(classifier: Classifier, images: NDArray[np.uint8], folder: Path) -> Any:
    """Open the model once more, which takes more memory than malloc keeps."""
    return copy.deepcopy(classifier).logits(images[:7])


CALLS: Final[dict[str, tuple[Callable[[Classifier, NDArray[np.uint8], Path], Any], int, int]]] = {
    **{f"logits of {size}": (logits(size), size, weight) for size, weight in zip(SIZES, (8, 4, 4, 8), strict=True)},
    "stream of 150": (stream, 150, 4),
    "pictures": (pictures, 5, 1),
    "upload": (upload, 1, 1),
    "picture": (picture, 1, 1),
    "large picture": (large, 1, 1),
    "line": (line, 6, 1),
    "opened": (opened, 7, 1),
}
"""For each call: what makes it, how many predictions it is, and how often it is made."""


def plain(answer: Any) -> Any:
    """An answer that can be compared and pickled; errors as the names of their kinds."""
    if isinstance(answer, np.ndarray):
        return answer
    if isinstance(answer, list):
        return [plain(each) for each in answer]
    if isinstance(answer, MnistEdgeError):
        return type(answer).__name__
    return answer


def same(answer: Any, expected: Any, *, disturbed: bool) -> bool:
    """Whether an answer is right. A disturbed call may have errors in the place of answers."""
    if isinstance(expected, list):
        return len(answer) == len(expected) and all(
            same(one, other, disturbed=disturbed) for one, other in zip(answer, expected, strict=True)
        )
    if isinstance(answer, str):
        return answer == expected or disturbed
    if isinstance(expected, Prediction) and isinstance(answer, Prediction) and disturbed:
        difference = np.subtract([*answer.logits.values()], [*expected.logits.values()])
        return answer.label == expected.label and float(np.abs(difference).max()) <= MAX_BATCH_DEPENDENCE
    return np.array_equal(answer, expected) if isinstance(expected, np.ndarray) else bool(answer == expected)


def work(number: int, predictions: int, seed: int, folder: Path, expected: dict[str, Any]) -> Told:
    """What one process does."""
    chance = random.Random(f"{seed}/{number}")  # noqa: S311  # nothing is secret
    images = images_for(folder)
    ctypes.CDLL(None).mallopt(_M_MMAP_THRESHOLD, 1 << 16)
    classifier = Classifier(MODELS[number], threads=4, untrusted=number == UNTRUSTED)
    told = Told()
    names = [name for name, (_, _, weight) in CALLS.items() for _ in range(weight)]
    statm = Path("/proc/self/statm")
    while told.predictions < predictions:
        name = chance.choice(names)
        ask, count, _ = CALLS[name]
        fault = chance.choice(sorted(FAULTS)) if chance.random() < FAULTY else ""
        answer, error = None, None
        try:
            with FAULTS[fault](chance) if fault else contextlib.nullcontext():
                answer = ask(classifier, images, folder)
        except Exception as raised:  # noqa: BLE001  # judged below, when there is memory again
            error = raised
        what = f"{name}{f' without {fault}' if fault else ''}"
        told.calls[what] += 1
        told.predictions += count
        if isinstance(error, MnistEdgeError) and fault:
            told.errors[f"{what}: {type(error).__name__}: {error}"[:200]] += 1
        elif error is not None:
            told.wrong.append(f"{what}: {''.join(traceback.format_exception(error))}")
        elif not same(plain(answer), expected[name], disturbed=bool(fault)):
            told.wrong.append(f"{what}: {plain(answer)!r:.300} instead of {expected[name]!r:.300}")
        told.resident.append(int(statm.read_bytes().split()[1]) * resource.getpagesize())
        if len(told.wrong) > 20:
            break
    return told


def images_for(folder: Path) -> NDArray[np.uint8]:
    """300 images of every degree of noise, uint8 [300, 28, 28]; the calls' files are in the same folder."""
    images: NDArray[np.uint8] = np.load(folder / "images.npy")
    return images


def prepare(folder: Path) -> NDArray[np.uint8]:
    rng = np.random.default_rng(0)
    digit = np.asarray(Classifier().preprocess(Path(SAMPLES, "drawn-3.png")))
    noise = rng.integers(0, 256, (max(SIZES), 28, 28))
    share = np.linspace(0, 0.9, max(SIZES))[:, None, None]
    images = ((1 - share) * digit + share * noise).astype(np.uint8)
    np.save(folder / "images.npy", images)
    for name in (DIGIT, LINE):
        (folder / name).write_bytes(Path(SAMPLES, name).read_bytes())
    with Image.open(Path(SAMPLES, DIGIT)) as image:  # decoding it takes more memory than malloc keeps
        image.convert("RGB").resize((3000, 2000)).save(folder / LARGE)
    content = Path(SAMPLES, LINE).read_bytes()
    (folder / CUT).write_bytes(content[: len(content) // 2])
    return images


def soak(predictions: int, seed: int) -> dict[str, Any]:
    """Run the processes and sum up what they have told."""
    begin = time.monotonic()
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        images = prepare(folder)
        expected = {
            model: {name: plain(ask(Classifier(model), images, folder)) for name, (ask, _, _) in CALLS.items()}
            for model in {*MODELS}
        }
        context = multiprocessing.get_context("spawn")
        with ProcessPoolExecutor(len(MODELS), mp_context=context) as pool:
            share = -(-predictions // len(MODELS))
            running = [
                pool.submit(work, number, share, seed, folder, expected[model]) for number, model in enumerate(MODELS)
            ]
            told = [each.result() for each in running]
    calls = sum((each.calls for each in told), Counter[str]())
    errors = sum((each.errors for each in told), Counter[str]())
    return {
        "predictions": sum(each.predictions for each in told),
        "calls": calls.total(),
        "calls with faults": sum(count for name, count in calls.items() if " without " in name),
        "our errors": errors.total(),
        "kinds of our errors": dict(errors.most_common()),
        "wrong": [words for each in told for words in each.wrong],
        "resident MB": [round(float(np.median(each.resident)) / 1e6, 1) for each in told],
        "growth MB": [round(each.growth() / 1e6, 2) for each in told],
        "seconds": round(time.monotonic() - begin),
    }


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--predictions", type=int, default=1_000_000)
    parser.add_argument("--quick", action="store_true", help=f"{QUICK:,} predictions only, and no word about memory")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the summary as JSON")
    chosen = parser.parse_args()
    summary = soak(QUICK if chosen.quick else chosen.predictions, chosen.seed)
    if chosen.out:
        chosen.out.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    print(*(f"{name}: {value}" for name, value in summary.items() if name != "kinds of our errors"), sep="\n")
    grown = not chosen.quick and max(summary["growth MB"]) * 1e6 > MOST_GROWTH
    return 1 if summary["wrong"] or grown else 0


if __name__ == "__main__":
    sys.exit(main())
