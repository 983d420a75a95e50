"""Compare the speed of inference engines on the same models: scripts/compare_engines.py [BUNDLE|ARCHITECTURE ...].

    python scripts/compare_engines.py [--peers NAME,…] [--rounds 5] [--list] [--cache DIR] [--write] [MODEL ...]

Every peer runs in a process of its own with its best settings (`--list`), on one thread and on all, from the ONNX file
or, if it cannot read that, from what is converted from the PyTorch module. All peers of a file run in turns, in another
order each round, so that a busy moment of the machine does not hit just one. Measured are one image (median and 95th
percentile of all calls of a round; the table shows the median over the rounds and the range), a batch of 256, the time
from the start of a process to its first answer, and the size of what is installed beyond Python (or Node) and numpy.
Answers are compared with those of the PyTorch model itself.

The models are `cnn`, `cnn-nano` and `simple-nn` unless bundles or architectures are named; bundles of architectures are
made in artifacts/engines. Each peer gets an environment of its own in a folder outside the repository (`--cache`), made
when it is first needed. One that cannot be installed or fails is named with the reason. `--write` writes the tables
into docs/engines.md.
"""

import contextlib
import os
import statistics
import sys
import time
from collections.abc import Iterator
from dataclasses import asdict
from pathlib import Path
from typing import Any

import check_interop
import numpy as np
from peers import options, table
from peers.children import Child
from peers.engine_tables import expectations, lines
from peers.environments import UnavailableError, installed_megabytes, make
from peers.subjects import BATCH, FORMATS, Subject, subject
from peers.table import Peer

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.errors import MnistEdgeError
from mnist_edge.runtime.machine import processor_flags, processor_name
from mnist_edge.runtime.model import file_that_answers

RESULT = "engines"

SINGLE, MANY = 0.1, 0.1
"""Seconds of a round that each peer classifies single images and batches."""

WARM_UP = 0.3
COLD_STARTS = 3
REST = 0.01
"""Seconds until the threads of the peer before sleep."""

VNNI = {"avx512_vnni", "avx_vnni", "asimddp"}


def all_threads() -> int:
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


class Run:
    """A peer on a file: its figures, and why it has none."""

    def __init__(self, peer: Peer, one: Subject, form: Format, cache: Path) -> None:
        self.peer, self.one, self.form, self.cache = peer, one, form, cache
        self.figures: dict[str, Any] = {}
        self.reason = ""

    @contextlib.contextmanager
    def omitting(self) -> Iterator[None]:
        """Keep the reason if the peer fails, and go on."""
        try:
            yield
        except UnavailableError as error:
            self.reason = self.reason or str(error)

    def prepare(self) -> None:
        """Make the environment and the converted model, so that neither counts, and note the installed size."""
        packages = make(self.peer.environment, self.cache)[1]
        self.one.source(self.peer, self.form, self.cache)
        self.figures["megabytes"] = installed_megabytes(self.peer.environment, packages)

    def start(self, threads: int) -> Child:
        """A process with the file opened."""
        command, packages = make(self.peer.environment, self.cache)
        file = self.one.source(self.peer, self.form, self.cache)
        child = Child(command, self.peer.program, packages, self.cache / "home", threads)
        try:
            self.figures["version"] = child.load(file, threads, self.peer.variant)
        except UnavailableError:
            child.close()
            raise
        return child

    def first_answer(self) -> float:
        """Seconds from the start of a process to its first answer."""
        begin = time.perf_counter()
        with self.start(1) as child:
            child.logits(self.one.images[1], self.one.logits.shape[1])
            return time.perf_counter() - begin


def cold(runs: list[Run]) -> None:
    starts: dict[str, list[float]] = {run.peer.name: [] for run in runs}
    for _ in range(COLD_STARTS):
        for run in runs:
            with run.omitting():
                starts[run.peer.name].append(run.first_answer())
    for run in runs:
        if found := starts[run.peer.name]:
            run.figures["cold"] = statistics.median(found)


def warm(runs: list[Run], threads: int, rounds: int, key: str) -> None:
    """Time single images and batches in rounds, and note the figures under a key."""
    with contextlib.ExitStack() as stack:
        children: list[tuple[Run, Child]] = []
        for run in runs:
            with run.omitting():
                child = stack.enter_context(run.start(threads))
                if threads == 1:
                    run.figures["agreement"] = asdict(check_interop.agreed(child, run.one, run.form))
                for count in (1, BATCH):
                    child.seconds(run.one.images[count], WARM_UP)
                children.append((run, child))
        times: dict[str, list[tuple[float, float, float]]] = {run.peer.name: [] for run, _ in children}
        for number in range(rounds):
            shift = number * len(children) // rounds
            for run, child in children[shift:] + children[:shift]:
                with run.omitting():
                    time.sleep(REST)
                    calls = child.seconds(run.one.images[1], SINGLE)
                    batches = child.seconds(run.one.images[BATCH], MANY)
                    p95 = float(np.percentile(calls, 95))
                    times[run.peer.name].append((statistics.median(calls), p95, statistics.median(batches)))
        for run, _ in children:
            if found := times[run.peer.name]:
                singles, p95s, manies = zip(*found, strict=True)
                run.figures[key] = {
                    "p50": statistics.median(singles),
                    "range": [min(singles), max(singles)],
                    "p95": statistics.median(p95s),
                    "images_per_second": BATCH / statistics.median(manies),
                }


def measured(peers: list[Peer], one: Subject, form: Format, cache: Path, rounds: int) -> dict[str, Any]:
    """The figures of one file by peer, and the reasons of those that have none."""
    runs = [Run(peer, one, form, cache) for peer in peers if form in check_interop.formats(peer)]
    for run in runs:
        with run.omitting():
            run.prepare()
    cold([run for run in runs if not run.reason])
    warm([run for run in runs if not run.reason], 1, rounds, "one")
    if (threads := all_threads()) > 1:
        warm([run for run in runs if run.peer.threaded and not run.reason], threads, rounds, "all")
    return {
        "peers": {run.peer.name: run.figures for run in runs if not run.reason},
        "omitted": {run.peer.name: run.reason for run in runs if run.reason},
    }


def main() -> None:
    parser = options.parser(__doc__ or "")
    parser.add_argument("--rounds", type=int, default=5)
    given = parser.parse_args()
    peers = options.wanted_peers(given, [peer for peer in table.chosen(given.peers) if peer.timed])
    found: dict[str, Any] = {
        "processor": processor_name(),
        "vnni": bool(VNNI & processor_flags()),
        "bfloat16": bool({"avx512_bf16", "amx_bf16", "bf16"} & processor_flags()),
        "threads": all_threads(),
        "rounds": given.rounds,
        "models": {},
    }
    for one in [subject(name, given.cache) for name in given.models]:
        manifest = reading.read_manifest(one.bundle)
        answering = file_that_answers(str(one.bundle), manifest)
        files = {}
        for form in FORMATS:
            start = time.perf_counter()
            files[str(form)] = measured(peers, one, form, given.cache, given.rounds)
            seconds = time.perf_counter() - start
            print(f"{one.bundle.name}: {form}: {seconds:.0f} s", file=sys.stderr, flush=True)
        default = next(str(form) for form in FORMATS if form.file_name == answering)
        found["models"][one.bundle.name] = {"default": default, "files": files}
    options.keep(RESULT, found)
    options.finish("engines", lambda: lines(found), write=given.write)
    if given.write:
        print("\n".join(expectations(found)))
    if not any(file["peers"] for model in found["models"].values() for file in model["files"].values()):
        sys.exit("error: no peer has answered")


if __name__ == "__main__":
    try:
        main()
    except MnistEdgeError as error:
        sys.exit(f"error: {error}")
