"""Give damaged and forged models, with valid checksums, to the process for untrusted models, and count what happens.

The fork server: this process has imported onnxruntime and opened no session; for each model it forks, and the copy
serves it under the limits of `mnist_edge.runtime.sandbox`, except for less processor time. Everything else is the real
path: `load`, the self-test, and a batch. What `load` refuses before a process is started is then given to onnxruntime
all the same, to list what that dies of. With ``--command-line`` some go through ``mnist-edge selftest --untrusted``.

The models depend on the seed and their index only: ``--first 123 --count 1`` repeats one of them.
"""

import argparse
import contextlib
import json
import os
import re
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter, defaultdict
from pathlib import Path
from typing import Final
from unittest import mock

import numpy as np
from model_mutations import mutated

from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.errors import MnistEdgeError
from mnist_edge.runtime import sandbox, sandbox_process, selftest
from mnist_edge.runtime.model import PRETRAINED, load
from mnist_edge.runtime.sandbox import Sandbox

PROCESSOR_SECONDS: Final = 2
IMAGES: Final = np.random.default_rng(0).integers(0, 256, (2, 1, 28, 28), np.uint8)

OUTCOMES: Final = {
    r"crashed its process \((\w+)\)": "crashed",
    "ended its process": "crashed",
    "processor time|no answer within": "took too long",
    "Failed to allocate memory|bad_alloc|MemoryError|too little memory": "took too much memory",
    "something else than|more than the logits": "gave something else",
    "cannot load the model": "refused by onnxruntime",
    "failed \\(": "failed in onnxruntime",
}
"""What the message of an error means, by a pattern in it."""


class Forked:
    """A copy of this process that serves a model; of `subprocess.Popen` as much as the sandbox uses."""

    def __init__(self, theirs: socket.socket) -> None:
        self.returncode: int | None = None
        self.pid = os.fork()
        if self.pid == 0:
            os.dup2(theirs.fileno(), 0)
            os.closerange(3, 64)
            for number in (signal.SIGINT, signal.SIGTERM):
                signal.signal(number, signal.SIG_DFL)
            sandbox_process.main()

    def wait(self, timeout: float | None = None) -> int:
        """Wait for its end, as `subprocess.Popen.wait` does."""
        until = None if timeout is None else time.monotonic() + timeout
        while self.returncode is None:
            pid, status = os.waitpid(self.pid, 0 if until is None else os.WNOHANG)
            if pid:
                self.returncode = os.waitstatus_to_exitcode(status)
            elif until is not None and time.monotonic() > until:
                raise subprocess.TimeoutExpired("fork", timeout or 0)
            else:
                time.sleep(0.001)
        return self.returncode

    def kill(self) -> None:
        """End it, unless it has ended."""
        if self.returncode is None:
            os.kill(self.pid, signal.SIGKILL)


started = 0


def start() -> tuple[socket.socket, Forked]:
    """Stands in for the start of a new interpreter."""
    global started  # noqa: PLW0603  # how many processes a model has needed
    started += 1
    ours, theirs = socket.socketpair()
    with theirs:
        return ours, Forked(theirs)


def outcome(error: Exception) -> str:
    """What an error of a model that reached onnxruntime means; with the signal, if one ended the process."""
    for pattern, meaning in OUTCOMES.items():
        if found := re.search(pattern, str(error)):
            return f"{meaning} {found[1]}" if found.re.groups else meaning
    return f"refused afterwards: {type(error).__name__}"


def on_the_real_path(data: bytes) -> tuple[str, str]:
    """What becomes of a model, and the message."""
    global started  # noqa: PLW0603
    started = 0
    try:
        model = load(data, "model.onnx", untrusted=True)
        selftest.run(model)
        model.session.run([OUTPUT_NAME], {INPUT_NAME: IMAGES})
    except MnistEdgeError as error:
        words = str(error)
        if "\n" in words or len(words) > 3000:
            return "bug: a long message", words[:300]
        return (outcome(error) if started else "refused before onnxruntime"), words
    except Exception as error:  # noqa: BLE001  # that is what is looked for
        return "bug: another exception", f"{type(error).__name__}: {error}"[:300]
    return "answered", ""


def straight_to_onnxruntime(data: bytes) -> str:
    try:
        Sandbox(data, 10).run([OUTPUT_NAME], {INPUT_NAME: IMAGES})
    except MnistEdgeError as error:
        return outcome(error)
    return "answered"


def kind_of(words: str) -> str:
    """A message without its names and numbers."""
    words = re.sub(r"\(.*\)|'.*'|\".*\"", "…", words)
    return re.sub(r"-?\d[\d,.e+-]*", "#", words)[:110]


def on_the_command_line(data: bytes, folder: Path) -> str:
    """Empty if the command ends as it must, else what was wrong."""
    file = folder / "model.onnx"
    file.write_bytes(data)
    command = [sys.executable, "-m", "mnist_edge", "selftest", str(file), "--untrusted", "--quiet"]
    result = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    lines = result.stderr.splitlines()
    if result.returncode not in {0, 1, 4} or "Traceback" in result.stderr:
        return f"exit code {result.returncode}: {result.stderr[-300:]}"
    expected = 0 if result.returncode == 0 else 1
    return "" if len(lines) == expected else f"{len(lines)} lines on stderr: {result.stderr[:300]}"


def fuzz(indices: range, seed: int, seconds: float, bases: dict[str, bytes]) -> dict[str, object]:
    """Counts by outcome, for both passes, and examples of what crashed."""
    real, straight, messages = Counter[str](), Counter[str](), Counter[str]()
    examples: defaultdict[str, list[str]] = defaultdict(list)
    begin = time.monotonic()
    for index in indices:
        data, does = mutated(index, seed, bases)
        became, words = on_the_real_path(data)
        real[became] += 1
        if words:
            messages[f"{became}: {kind_of(words)}"] += 1
        where = "on the real path"
        if became == "refused before onnxruntime":
            where, became = "past the check", straight_to_onnxruntime(data)
            straight[became] += 1
        if became.startswith(("crashed", "bug", "took")):
            examples[f"{became} {where}"].append(f"{index} {does}" + (f": {words}" if became[:3] == "bug" else ""))
        if index % 1000 == 999:
            print(f"up to {index:,} after {time.monotonic() - begin:.0f} s", file=sys.stderr, flush=True)
        if time.monotonic() > begin + seconds:
            indices = range(indices.start, index + 1)
            break
    return {
        "models": [indices.start, indices.stop],
        "seed": seed,
        "seconds": round(time.monotonic() - begin),
        "real path": dict(real.most_common()),
        "straight to onnxruntime": dict(straight.most_common()),
        "messages": dict(messages.most_common()),
        # The shortest descriptions first.
        "examples": {name: sorted(found, key=len)[:25] for name, found in sorted(examples.items())},
        "leaks": leaks(),
    }


def leaks() -> str:
    """What the parent has kept of its processes; empty if nothing."""
    with contextlib.suppress(ChildProcessError):
        return f"process {os.waitpid(-1, os.WNOHANG)}"
    opened = len(os.listdir("/proc/self/fd"))  # noqa: PTH208  # a number is enough
    return "" if opened < 10 else f"{opened} descriptors"


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n", maxsplit=1)[0])
    parser.add_argument("--first", type=int, default=0, help="index of the first model")
    parser.add_argument("--count", type=int, default=20_000)
    parser.add_argument("--seconds", type=float, default=float("inf"), help="stop then; the summary says where")
    parser.add_argument("--command-line", type=int, default=500, metavar="M", help="how many of them, evenly spread")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--out", type=Path, help="where to write the summary as JSON")
    chosen = parser.parse_args()

    bases = {f"{path.parent.name}/{path.name}": path.read_bytes() for path in Path(PRETRAINED).glob("*/*.onnx")}
    with mock.patch.multiple(sandbox, PROCESSOR_SECONDS=PROCESSOR_SECONDS, _started=start):
        summary = fuzz(range(chosen.first, chosen.first + chosen.count), chosen.seed, chosen.seconds, bases)
    wrong = {}
    step = max(1, chosen.count // max(1, chosen.command_line))
    indices = range(chosen.first, chosen.first + chosen.count, step)[: chosen.command_line]
    with tempfile.TemporaryDirectory() as folder:
        for index in indices:
            data, does = mutated(index, chosen.seed, bases)
            if complaint := on_the_command_line(data, Path(folder)):
                wrong[f"{index} {does}"] = complaint
    summary["command line"] = {"models": len(indices), "wrong": wrong}
    if chosen.out:
        chosen.out.write_text(json.dumps(summary, indent=1, ensure_ascii=False) + "\n", encoding="utf-8")
    show(summary)
    real = summary["real path"]
    assert isinstance(real, dict)
    return 1 if wrong or summary["leaks"] or any(name.startswith("bug") for name in real) else 0


def show(summary: dict[str, object]) -> None:
    for title in ("real path", "straight to onnxruntime", "messages", "examples"):
        print(f"\n{title}")
        found = summary[title]
        assert isinstance(found, dict)
        for name, value in found.items():
            if isinstance(value, list):
                print(f"  {name}", *(f"    {each}" for each in value[:5]), sep="\n")
            else:
                print(f"  {value:>7,}  {name}")
    print(f"\ncommand line: {summary['command line']}\nleaks: {summary['leaks'] or 'none'}")
    print(f"models {summary['models']}, {summary['seconds']} s")


if __name__ == "__main__":
    sys.exit(main())
