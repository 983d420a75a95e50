"""ONNX Runtime sessions: the telemetry switch, the thread policy and the session options, all in this one place.

Nothing else in the runtime imports onnxruntime.
"""

import ctypes
import operator
import os
import reprlib
import threading
import weakref
from collections.abc import Mapping, Sequence
from typing import Any, Final, SupportsIndex, cast

from numpy.typing import NDArray

# onnxruntime >= 1.29 opens a telemetry channel while it is imported, and leaves files in the user's cache. The switch
# is read at that moment, so it is set before, unless the user has set it either way.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors

from mnist_edge.errors import ModelFormatError, UsageError
from mnist_edge.runtime.limits import usable_cpus

THREADS_VARIABLE: Final = "MNIST_EDGE_THREADS"

MAX_DEFAULT_THREADS: Final = 4
"""Models of this size do not gain from more; a larger pool is there for the asking."""

MAX_THREADS: Final = 1024
"""More are a slip of the hand."""

_FATAL_ONLY: Final = 4


class Session:
    """A CPU session on a model's bytes, the same for every user of the runtime and for the parity checks.

    It may be used from any number of threads at once, and after a fork: the compute pool of a parent does not exist in
    its child, so the child opens the session again from the bytes, on first use.

    Args:
        model: the content of an ``.onnx`` file.
        threads: size of the compute pool; None asks `default_threads`.
        optimize: whether onnxruntime may rewrite the graph; parity is measured with and without.

    Raises:
        ModelFormatError: onnxruntime cannot load it, or parts of it are not in the file.
        UsageError: impossible `threads`.
    """

    def __init__(self, model: bytes, *, threads: int | None = None, optimize: bool = True) -> None:
        self.model = model
        self.threads = threads
        self.optimize = optimize
        self._opening = threading.Lock()
        self._opened: ort.InferenceSession | None = _open(model, threads=threads, optimize=optimize)
        _SESSIONS.add(self)

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """What ``InferenceSession.run`` returns: the named outputs, or all, for the named inputs."""
        return cast("list[Any]", (self._opened or self._inference()).run(outputs, inputs))

    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return cast("dict[str, str]", self._inference().get_modelmeta().custom_metadata_map)

    def signature(self) -> list[tuple[str, str, list[int | str]]]:
        """Name, type and shape of every input, then of every output."""
        inference = self._inference()
        return [(node.name, node.type, node.shape) for node in (*inference.get_inputs(), *inference.get_outputs())]

    def _inference(self) -> ort.InferenceSession:
        with self._opening:
            if self._opened is None:
                self._opened = _open(self.model, threads=self.threads, optimize=self.optimize)
            return self._opened

    def _forget(self) -> None:
        """In a forked child: the parent's session is neither used nor closed, its lock may be held by nobody."""
        self._opening = threading.Lock()
        if self._opened is not None:
            # Closing it would wait for the pool's threads, which are not there: it must outlive even the interpreter.
            ctypes.pythonapi.Py_IncRef(ctypes.py_object(self._opened))
            self._opened = None


_SESSIONS: Final[weakref.WeakSet[Session]] = weakref.WeakSet()


def _forget_sessions() -> None:
    for session in _SESSIONS:
        session._forget()  # noqa: SLF001  # this module's own


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget_sessions)


def _open(model: bytes, *, threads: int | None, optimize: bool) -> ort.InferenceSession:
    _require_self_contained(model)
    options = ort.SessionOptions()
    options.intra_op_num_threads = default_threads() if threads is None else checked_threads(threads)
    options.inter_op_num_threads = 1
    # A spinning pool is a little faster on an idle machine and several times slower on a busy one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
    # For shapes that it saw before, onnxruntime plans one block in place of many: measured 17 MB more, nothing faster.
    options.enable_mem_pattern = False
    # Not onnxruntime's own format, which `_require_self_contained` could not judge.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Failures reach the caller as exceptions; onnxruntime's own log lines would only repeat them on stderr.
    options.log_severity_level = _FATAL_ONLY
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    try:
        return ort.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    except (*_LOAD_ERRORS, RuntimeError, ValueError) as error:
        raise ModelFormatError(
            f"onnxruntime {ort.__version__} cannot load the model ({str(error).splitlines()[0]}): export it again"
        ) from error


def _require_self_contained(model: bytes) -> None:
    """Refuse a model with weights in other files: onnxruntime would take them, unverified, from the working directory.

    A tensor names its file by a StringStringEntryProto whose key is ``location`` (onnx.proto3, TensorProto). Protobuf
    writes a string whole, behind its length: 8, or a needlessly long 8 that ends in a zero byte.
    """
    if b"\x08location" in model or b"\x00location" in model:
        raise ModelFormatError("the model keeps weights outside its file: export it again as a single file")


_LOAD_ERRORS: Final[tuple[Any, ...]] = (
    ort_errors.Fail,
    ort_errors.InvalidArgument,
    ort_errors.InvalidGraph,
    ort_errors.InvalidProtobuf,
    ort_errors.NoSuchFile,
    ort_errors.NotImplemented,
    ort_errors.RuntimeException,
)


def providers() -> list[str]:
    """What this build of onnxruntime could compute on; sessions here are the CPU's."""
    names: list[str] = ort.get_available_providers()
    return names


def checked_threads(threads: object, name: str = "threads") -> int:
    """The number itself; raises UsageError where a pool cannot have that size."""
    try:
        number = 0 if isinstance(threads, bool) else operator.index(cast("SupportsIndex", threads))
    except TypeError:  # arrays of several numbers have an __index__ that fails
        number = 0
    if not 1 <= number <= MAX_THREADS:
        raise UsageError(f"{name} must be a whole number within 1…{MAX_THREADS}, not {reprlib.repr(threads)}")
    return number


def default_threads() -> int:
    """``MNIST_EDGE_THREADS``, or as many threads as this process may really use, at most `MAX_DEFAULT_THREADS`.

    onnxruntime itself counts the host's cores; see `mnist_edge.runtime.limits` for what is counted here.
    """
    if asked := os.environ.get(THREADS_VARIABLE):
        # A number of thousands of digits is more than int takes.
        number = int(asked) if asked.isdecimal() and len(asked) <= len(str(MAX_THREADS)) else asked
        return checked_threads(number, THREADS_VARIABLE)
    return min(usable_cpus(), MAX_DEFAULT_THREADS)
