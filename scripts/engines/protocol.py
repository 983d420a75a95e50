"""What each program of this folder does: read requests from stdin and answer on stdout, one JSON document a line.

    {"load": MODEL, "threads": 1, "variant": ""}   {"loaded": "VERSION OF THE ENGINE"}
    {"answer": IMAGES, "logits": FILE}             {"answered": NUMBER OF IMAGES}
    {"time": IMAGES, "seconds": 0.1}               {"seconds": [DURATION OF EACH CALL, …]}

IMAGES is a file of raw pixels, uint8 [n, 1, 28, 28]; FILE gets float32 [n, classes]. A failure is {"error": "…"}.
A program needs its engine and numpy, nothing of this repository. protocol.mjs is the same for JavaScript.
"""

import json
import os
import sys
import time
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

Pixels = NDArray[np.uint8]
"""Raw pixels, uint8 [n, 1, 28, 28]."""

Run = Callable[[Pixels], NDArray[np.float32]]
"""Raw pixels to logits, float32 [n, classes]."""

SHAPE = (-1, 1, 28, 28)

LEAST_CALLS = 3
"""How many calls are timed, however long they take."""


def serve(load: Callable[[str, int, str], Run], package: str) -> None:
    """Answer requests until stdin ends.

    Args:
        load: opens a model, given its path, a number of threads and the peer's variant.
        package: the distribution that holds the engine.
    """
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())  # what an engine prints must not stand between the answers
    run: Run | None = None
    for line in sys.stdin:
        request = json.loads(line)
        try:
            if "load" in request:
                run = load(request["load"], request["threads"], request["variant"])
                found: dict[str, Any] = {"loaded": version(package)}
            else:
                assert run
                found = _answered(run, request)
        except Exception as error:  # noqa: BLE001  # whatever an engine raises is an answer
            found = {"error": f"{type(error).__name__}: {error}"}
        answers.write(json.dumps(found) + "\n")
        answers.flush()


def _answered(run: Run, request: dict[str, Any]) -> dict[str, Any]:
    images = np.frombuffer(Path(request.get("answer") or request["time"]).read_bytes(), np.uint8).reshape(SHAPE).copy()
    if "answer" in request:
        np.asarray(run(images), np.float32).tofile(request["logits"])
        return {"answered": len(images)}
    durations: list[float] = []
    end = time.perf_counter() + request["seconds"]
    while len(durations) < LEAST_CALLS or time.perf_counter() < end:
        start = time.perf_counter()
        run(images)
        durations.append(time.perf_counter() - start)
    return {"seconds": durations}


def one_by_one(run: Callable[[Pixels], Any]) -> Run:
    """For an engine that takes a single image, uint8 [1, 1, 28, 28], and gives its logits."""
    return lambda images: np.stack([np.asarray(run(images[i : i + 1])).reshape(-1) for i in range(len(images))])


def of_two_sizes(program: Callable[[int], Callable[[Pixels], Any]], size: int = 256) -> Run:
    """For an engine whose programs have a fixed batch: one for a single image, one for `size` images.

    The second is opened when it is needed. Batches of other sizes are filled up with empty images; only parity is
    measured so, never time.
    """
    opened = {1: program(1)}

    def run(images: Pixels) -> NDArray[np.float32]:
        if len(images) == 1:
            return np.asarray(opened[1](images))
        many = opened.get(size) or opened.setdefault(size, program(size))
        if len(images) == size:
            return np.asarray(many(images))
        count = -(-len(images) // size) * size
        filled = np.concatenate([images, np.zeros((count - len(images), *images.shape[1:]), np.uint8)])
        return np.concatenate([np.array(many(part)) for part in np.split(filled, count // size)])[: len(images)]

    return run
