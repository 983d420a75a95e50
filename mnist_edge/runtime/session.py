"""ONNX Runtime sessions: the telemetry switch, the thread policy and the session options, all in this one place.

Nothing else in the runtime imports onnxruntime.
"""

import operator
import os
from pathlib import Path
from typing import Any, Final

# onnxruntime >= 1.29 opens a telemetry channel while it is imported, and leaves files in the user's cache. The switch
# is read at that moment, so it is set before, unless the user has set it either way.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors

from mnist_edge.errors import ModelFormatError, UsageError

THREADS_VARIABLE: Final = "MNIST_EDGE_THREADS"

MAX_DEFAULT_THREADS: Final = 4
"""Models of this size do not gain from more; a larger pool is there for the asking."""

MAX_THREADS: Final = 1024
"""More are a slip of the hand."""

_FATAL_ONLY: Final = 4
_CGROUP: Final = Path("/sys/fs/cgroup")


def open_session(model: bytes, *, threads: int | None = None, optimize: bool = True) -> ort.InferenceSession:
    """A CPU session on a model's bytes, the same for every user of the runtime and for the parity checks.

    Args:
        model: the content of an ``.onnx`` file.
        threads: size of the compute pool; None asks `default_threads`.
        optimize: whether onnxruntime may rewrite the graph; parity is measured with and without.

    Raises:
        ModelFormatError: onnxruntime cannot load it.
    """
    options = ort.SessionOptions()
    options.intra_op_num_threads = default_threads() if threads is None else checked_threads(threads)
    options.inter_op_num_threads = 1
    # A spinning pool is a little faster on an idle machine and several times slower on a busy one.
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    options.add_session_config_entry("session.inter_op.allow_spinning", "0")
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
    if (
        isinstance(threads, bool)
        or not hasattr(threads, "__index__")
        or not 1 <= operator.index(threads) <= MAX_THREADS
    ):
        raise UsageError(f"{name} must be a whole number within 1…{MAX_THREADS}, not {threads!r}")
    return operator.index(threads)


def default_threads() -> int:
    """``MNIST_EDGE_THREADS``, or as many threads as this process may really use, at most `MAX_DEFAULT_THREADS`.

    onnxruntime itself counts the host's cores; it sees neither the affinity mask nor a container's CPU quota.
    """
    if asked := os.environ.get(THREADS_VARIABLE):
        return checked_threads(int(asked) if asked.isdecimal() else asked, THREADS_VARIABLE)
    affinity = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(affinity, _cgroup_quota(), MAX_DEFAULT_THREADS))


def _cgroup_quota() -> int:
    # cgroup v2's cpu.max is "<quota> <period>" in microseconds, or "max <period>"; v1 has a file for each.
    try:
        quota, period = (_CGROUP / "cpu.max").read_text().split()
    except (OSError, ValueError):
        try:
            quota = (_CGROUP / "cpu/cpu.cfs_quota_us").read_text().strip()
            period = (_CGROUP / "cpu/cpu.cfs_period_us").read_text().strip()
        except OSError:
            return MAX_DEFAULT_THREADS
    return max(1, int(quota) // int(period)) if quota.isdecimal() else MAX_DEFAULT_THREADS
