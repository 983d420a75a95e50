"""The process that runs a peer. engines/protocol.py says what it is asked and what it answers."""

import json
import os
import subprocess
import tempfile
import threading
from collections.abc import Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from peers.environments import ROOT, UnavailableError, last_words

ENGINES = ROOT / "scripts" / "engines"

NOISY = ("ORT_DISABLE_TELEMETRY", "OPENVINO_TELEMETRY_OPT_OUT", "DISABLE_TELEMETRY")
"""Switches that stop an engine from reporting its use."""

PATIENCE = 300.0
"""Seconds after which a request that is not answered ends the process."""


class Child:
    """A running peer.

    Args:
        command: the interpreter and its arguments that come after the program.
        program: a file of scripts/engines.
        packages: the folder of its packages.
        home: a folder for what engines cache and leave behind.
        threads: how many threads it may use, for libraries that ask the environment.

    Raises:
        UnavailableError: from any method, if the engine fails; the message is its own.
    """

    def __init__(self, command: Sequence[str], program: str, packages: Path, home: Path, threads: int) -> None:
        home.mkdir(parents=True, exist_ok=True)
        self._words = tempfile.TemporaryFile()  # noqa: SIM115  # closed with the child
        names = {"HOME": home, "XDG_CACHE_HOME": home / "cache", "TORCHINDUCTOR_CACHE_DIR": home / "inductor"}
        environment = {
            **{name: value for name, value in os.environ.items() if not name.startswith(("PYTHON", "OMP_"))},
            **{name: str(path) for name, path in names.items()},
            **dict.fromkeys(NOISY, "1"),
            "OMP_NUM_THREADS": str(threads),
        }
        if program in OF_THIS_REPOSITORY:
            environment["PYTHONPATH"] = str(ROOT)
        after = [str(packages.parent)] if program.endswith(".mjs") else []
        self._process = subprocess.Popen(
            [*command, str(ENGINES / program), *after],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=self._words,
            env=environment,
            cwd=home,
            text=True,
            encoding="utf-8",
        )

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def close(self) -> None:
        """End the process."""
        self._process.kill()
        self._process.communicate()
        self._words.close()

    def ask(self, **request: Any) -> dict[str, Any]:
        """Send a request and wait for its answer."""
        assert self._process.stdin
        assert self._process.stdout
        patience = threading.Timer(PATIENCE, self._process.kill)
        patience.start()
        try:
            self._process.stdin.write(json.dumps(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        finally:
            patience.cancel()
        if not line:
            self._words.seek(0)
            code, words = self._process.wait(), self._words.read().decode(errors="replace")
            raise UnavailableError(f"ends with code {code}: {last_words(words)}")
        answer: dict[str, Any] = json.loads(line)
        if "error" in answer:
            raise UnavailableError(" ".join(answer["error"].split())[:200])
        return answer

    def load(self, model: Path, threads: int, variant: str) -> str:
        """Open a model; return the engine's version."""
        loaded: str = self.ask(load=str(model), threads=threads, variant=variant)["loaded"]
        return loaded

    def logits(self, images: Path, classes: int) -> NDArray[np.float32]:
        """The logits of a file of images, float32 [n, classes]."""
        with tempfile.TemporaryDirectory() as folder:
            found = Path(folder) / "logits"
            self.ask(answer=str(images), logits=str(found))
            return np.fromfile(found, np.float32).reshape(-1, classes)

    def seconds(self, images: Path, budget: float) -> list[float]:
        """How long each of some calls takes, for about `budget` seconds."""
        durations: list[float] = self.ask(time=str(images), seconds=budget)["seconds"]
        return durations


OF_THIS_REPOSITORY = {"mnist_edge_engine.py", "pytorch_engine.py"}
"""The programs that import mnist_edge."""
