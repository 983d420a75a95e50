"""ONNX Runtime sessions: the telemetry switch, the session options and onnxruntime's errors.

No other module of the runtime imports onnxruntime.

A session computes on its caller's thread alone. For one image and models of this size nothing is faster: a pool of two
threads costs 1.4 times (`cnn`) to 2.3 times (`cnn-nano`) as much as one, or burns the second CPU by spinning. Large
batches are shared by Python threads instead (`mnist_edge.runtime.threads`). So a session starts no threads and closes
at once; a forked child reopens it on first use.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from numpy.typing import NDArray

# On import onnxruntime >= 1.29 opens a telemetry channel and leaves files in the user's cache. It reads the switch at
# that moment, so the switch is set first, unless the user has already set it.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors

from mnist_edge.errors import ExecutionError, ModelFormatError

ONNXRUNTIME: Final[str] = ort.__version__
"""The version that is imported, whatever the package is called that it was installed from."""

_FATAL_ONLY: Final = 4

_ERRORS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    ValueError,
    MemoryError,
    # Direct subclasses of Exception, different ones in each release.
    *(kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class Session:
    """A CPU session for a model's bytes, used by the runtime and the parity checks alike.

    It is thread-safe, and usable after a fork.

    Args:
        model: the content of an ``.onnx`` file, which has been checked (`mnist_edge.runtime.contents`) or made here.
        optimize: whether onnxruntime may rewrite the graph; parity is measured with and without.

    Raises:
        ModelFormatError: onnxruntime cannot load the model.
    """

    def __init__(self, model: bytes, *, optimize: bool = True) -> None:
        self.model = model
        self.optimize = optimize
        self._open()

    def _open(self) -> None:
        try:
            self._inference = ort.InferenceSession(
                self.model, _options(optimize=self.optimize), ["CPUExecutionProvider"]
            )
        except _ERRORS as error:
            raise ModelFormatError(
                f"onnxruntime {ort.__version__} cannot load the model ({_first_line(error)}): upgrade onnxruntime, "
                "or export the model again"
            ) from error
        self._process = os.getpid()

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """Compute the named outputs, or all of them, from the named inputs, as ``InferenceSession.run`` does.

        Raises:
            ExecutionError: onnxruntime fails, most likely for lack of memory.
        """
        if self._process != os.getpid():
            # A thread of the parent may have held a lock during the fork; in the child nobody releases it.
            self._open()
        try:
            return cast("list[Any]", self._inference.run(outputs, inputs))
        except _ERRORS as error:
            raise ExecutionError(
                f"onnxruntime {ort.__version__} cannot compute the answer ({_first_line(error)}): "
                "free some memory, or give fewer images at a time; if that does not help, do not use this model"
            ) from error


def _options(*, optimize: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # Would allocate one block in advance for input shapes seen before: measured 17 MB more and no speed-up.
    options.enable_mem_pattern = False
    # Refuse onnxruntime's own format, which `mnist_edge.runtime.onnx_file` cannot check.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Failures reach the caller as exceptions; onnxruntime's own log lines would only repeat them on stderr.
    options.log_severity_level = _FATAL_ONLY
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def providers() -> list[str]:
    """The execution providers of this onnxruntime build; sessions here use the CPU's only."""
    names: list[str] = ort.get_available_providers()
    return names
