"""Run a model from people you do not trust in a process of its own, with limits on what it can take and do.

Only onnxruntime runs there. The file is read and the pictures are decoded here; the process gets the file's bytes and
uint8 images over a socket and sends float32 logits back. `mnist_edge.runtime.sandbox_process` has the protocol and what
the process gives up. Nothing that it sends is trusted: tag, length and shape must be those that were promised.

A model that crashes its process, hangs or sends anything else is refused from then on: a second attempt would end in
the same way, after the same wait. After an interrupt or a fork a new process is started instead.
"""

import contextlib
import os
import signal
import socket
import subprocess
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.contract import INPUT_NAME
from mnist_edge.errors import ExecutionError, ModelFormatError, UsageError
from mnist_edge.runtime.sandbox_process import FAILED, GREETING, HEADER, LOADED, LOGITS, MOST_WORDS, READY, REQUEST

MEMORY: Final = 256 << 20
"""Bytes that a model may use. The largest pretrained one needs 45 MB of address space for batches of 128 images."""

COPIES: Final = 4
"""How many times its own size a model may use in addition: as bytes, parsed and packed it takes up to 2.8 times."""

PROCESSOR_SECONDS: Final = 10
"""Processor time for loading the model, and for each batch."""

SECONDS: Final = 60
"""How long to wait for an answer. Longer than `PROCESSOR_SECONDS`, because other programs may have the processor."""

_NO_MEMORY: Final = ("bad_alloc", "Failed to allocate memory", "MemoryError")
"""What onnxruntime and Python say where they get none."""

_CODE: Final = "import sys; sys.path[:] = sys.argv[1:]; from mnist_edge.runtime.sandbox_process import main; main()"

_KEPT: Final = ("LD_LIBRARY_PATH",)
"""The environment variables that Python itself may need to start."""

_ONE_THREAD: Final = {"OPENBLAS_NUM_THREADS": "1", "OMP_NUM_THREADS": "1"}
"""numpy's BLAS would start a thread per core on import."""


class Sandbox:
    """A session like `mnist_edge.runtime.session.Session`, in another process.

    It is thread-safe, answers one request at a time, and is usable after a fork. The process ends with the object.

    Args:
        model: the content of an ``.onnx`` file.
        classes: columns of its logits.
        optimize: whether onnxruntime may rewrite the graph.

    Raises:
        ModelFormatError: onnxruntime cannot load the model within the limits.
        ExecutionError: the process cannot be started.
        UsageError: this system cannot run a model so.
    """

    def __init__(self, model: bytes, classes: int, *, optimize: bool = True) -> None:
        _require_support()
        self.model = model
        self.optimize = optimize
        self._classes = classes
        self._refusal = ""
        self._lock = threading.Lock()
        self._process: _Process | None = None
        self._owner = os.getpid()
        self._ask(b"", (0, 0))

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:  # noqa: ARG002  # as a `Session` takes them; there is one output
        """Compute the logits of uint8 images [N, 1, 28, 28], float32 [N, classes].

        Raises:
            ModelFormatError: the model fails, exceeds its limits, or gives anything but such logits.
            ExecutionError: the process, ended by an interrupt, cannot be started again.
        """
        images = inputs[INPUT_NAME]
        shape = (len(images), self._classes)
        logits = self._ask(REQUEST.pack(len(images)) + images.tobytes(), shape)
        return [np.frombuffer(logits, "<f4").astype(np.float32, copy=False).reshape(shape)]

    def _ask(self, request: bytes, shape: tuple[int, int]) -> bytearray:
        """Have the model loaded, send a request, if any, and return the content of its answer."""
        if self._owner != os.getpid():
            # A thread of the parent may have held the lock during the fork, and the process is the parent's.
            self._lock, self._process, self._owner = threading.Lock(), None, os.getpid()
        with self._lock:
            if self._refusal:
                raise ModelFormatError(self._refusal)
            process, self._process = self._process, None  # kept only if all goes well
            try:
                process = process or _Process(self.model, optimize=self.optimize)
                content = process.ask(request, LOGITS, shape) if request else bytearray()
            except _Misbehaved as reason:
                if any(words in str(reason) for words in _NO_MEMORY):
                    reason = _Misbehaved(
                        f"{reason}: it needs more memory than its limit of {_limit(self.model) >> 20} MB"
                    )
                self._refusal = (
                    f"the untrusted model {reason}: do not use it; if you trust its author, run it as trusted"
                )
                raise ModelFormatError(self._refusal) from None
            self._process = process
            return content


def _limit(model: bytes) -> int:
    """Bytes of memory for a model."""
    return MEMORY + COPIES * len(model)


class _Misbehaved(Exception):  # noqa: N818  # its text is the rest of a sentence
    """The process has not answered as it must."""


class _Process:
    """A process that has loaded a model, and the socket to it. Both end with the object, or once `ask` has failed."""

    def __init__(self, model: bytes, *, optimize: bool) -> None:
        self._socket, self._popen = _started()
        self._end = weakref.finalize(self, _end, self._popen, self._socket, os.getpid())
        greeting = GREETING.pack(_limit(model), PROCESSOR_SECONDS, optimize, len(model))
        try:
            self.ask(greeting, READY)
        except _Misbehaved as reason:
            raise _not_started(f"it {reason}") from None
        self.ask(model, LOADED)

    def ask(self, request: bytes, tag: bytes, shape: tuple[int, int] = (0, 0)) -> bytearray:
        """Send a request, and receive the content of an answer with that tag and shape.

        Raises:
            _Misbehaved: it does anything else.
            ExecutionError: the system fails.
        """
        try:
            return self._exchange(request, tag, shape)
        except TimeoutError:
            self._end()
            raise _Misbehaved(f"gave no answer within {SECONDS} s") from None
        except OSError as error:  # of our own end
            self._end()
            raise ExecutionError(
                f"cannot reach the process of an untrusted model ({error.strerror}): try again"
            ) from error
        except BaseException:
            self._end()
            raise

    def _exchange(self, request: bytes, tag: bytes, shape: tuple[int, int]) -> bytearray:
        deadline = time.monotonic() + SECONDS
        self._socket.settimeout(SECONDS)
        with contextlib.suppress(ConnectionError):  # it may have told why before it ended
            self._socket.sendall(request, socket.MSG_NOSIGNAL)
        told, *numbers = HEADER.unpack(self._receive(HEADER.size, deadline))
        if told == FAILED and numbers[0] <= MOST_WORDS:
            words = self._receive(numbers[0], deadline).decode(errors="replace")
            raise _Misbehaved(f"failed ({''.join(filter(str.isprintable, words))})")
        if (told, *numbers) != (tag, *shape):
            raise _Misbehaved("gave something else than the logits that its contract promises")
        content = self._receive(4 * shape[0] * shape[1], deadline)
        if tag == LOGITS:  # after the greeting an empty model is answered at once
            self._require_silence()
        return content

    def _receive(self, size: int, deadline: float) -> bytearray:
        """Receive exactly so many bytes."""
        content = bytearray(size)
        view = memoryview(content)
        while view:
            left = deadline - time.monotonic()
            if left <= 0:  # would mean not to wait at all, or be refused
                raise TimeoutError
            self._socket.settimeout(left)
            try:
                received = self._socket.recv_into(view)
            except ConnectionError:
                received = 0
            if not received:
                raise _Misbehaved(self._how_it_ended())
            view = view[received:]
        return content

    def _require_silence(self) -> None:
        """Raise _Misbehaved if the process has sent more than an answer."""
        self._socket.setblocking(False)
        with contextlib.suppress(BlockingIOError, ConnectionError):
            if self._socket.recv(1):
                raise _Misbehaved("gave more than the logits that its contract promises")

    def _how_it_ended(self) -> str:
        try:
            code = self._popen.wait(timeout=1)
        except subprocess.TimeoutExpired:
            return "closed the connection"
        if code == -signal.SIGXCPU:
            return f"took more than {PROCESSOR_SECONDS} s of processor time"
        if code < 0:
            name = next((each.name for each in signal.Signals if each == -code), f"signal {-code}")
            return f"crashed its process ({name})"
        return "ended its process"


def _started() -> "tuple[socket.socket, subprocess.Popen[bytes]]":
    """Start a process. Raises ExecutionError."""
    with contextlib.ExitStack() as if_it_fails:
        try:
            # A socket, not two pipes: it has timeouts, and to write to a dead process raises no SIGPIPE.
            ours, theirs = map(if_it_fails.enter_context, socket.socketpair())
            popen = subprocess.Popen(  # noqa: S603  # our own interpreter
                command(),
                stdin=theirs.fileno(),
                stdout=subprocess.DEVNULL,
                stderr=subprocess.DEVNULL,
                cwd="/",
                env=_ONE_THREAD | {name: os.environ[name] for name in _KEPT if name in os.environ},
                start_new_session=True,  # Ctrl-C is for us
            )
        except OSError as error:
            raise _not_started(error.strerror or f"{error}") from error
        theirs.close()
        if_it_fails.pop_all()
    return ours, popen


def command() -> list[str]:
    """What starts the process: this interpreter, isolated from the user's settings, with the modules of this one."""
    paths = [os.path.abspath(path) for path in sys.path]  # noqa: PTH100  # "" is the working directory, links stay
    return [sys.executable, "-I", "-c", _CODE, *paths]


def _end(popen: "subprocess.Popen[bytes]", connection: socket.socket, owner: int) -> None:
    connection.close()
    if os.getpid() != owner:
        popen.returncode = 0  # a forked copy of the object: the process is not ours to end or to wait for
        return
    popen.kill()
    popen.wait()


def _not_started(why: str) -> ExecutionError:
    return ExecutionError(
        f"cannot start the process for an untrusted model ({why}): free some memory, or close other programs"
    )


def _require_support() -> None:
    if sys.platform != "linux":
        raise UsageError("untrusted models need Linux, which can limit a process's memory: run this in a container")
    if getattr(sys, "frozen", False) or not sys.executable:
        raise UsageError("untrusted models need a Python interpreter to start, which a frozen program has not")
