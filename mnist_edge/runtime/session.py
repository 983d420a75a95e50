"""ONNX Runtime sessions: the telemetry switch, the session options and onnxruntime's errors, all in this one place.

Nothing else in the runtime imports onnxruntime.

A session computes on its caller's thread alone. For one image of a model of this size that is the fastest there is: a
pool of two threads costs 1.4 times (`cnn`) to 2.3 times (`cnn-nano`) as much as one, or burns the second processor by
spinning. Many images are shared by Python threads instead (`mnist_edge.runtime.threads`). So a session starts no
thread and closes at once; a forked child opens it anew, on first use.
"""

import os
from collections.abc import Mapping, Sequence
from typing import Any, Final, cast

from numpy.typing import NDArray

# onnxruntime >= 1.29 opens a telemetry channel while it is imported, and leaves files in the user's cache. The switch
# is read at that moment, so it is set before, unless the user has set it either way.
os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")

import onnxruntime as ort
import onnxruntime.capi.onnxruntime_pybind11_state as ort_errors

from mnist_edge.errors import ExecutionError, ModelFormatError

_FATAL_ONLY: Final = 4

_ERRORS: Final[tuple[type[Exception], ...]] = (
    RuntimeError,
    ValueError,
    MemoryError,
    # Plain subclasses of Exception, each release has its own.
    *(kind for kind in vars(ort_errors).values() if isinstance(kind, type) and issubclass(kind, Exception)),
)


class Session:
    """A CPU session on a model's bytes, the same for every user of the runtime and for the parity checks.

    It may be used from any number of threads at once, and after a fork.

    Args:
        model: the content of an ``.onnx`` file.
        optimize: whether onnxruntime may rewrite the graph; parity is measured with and without.

    Raises:
        ModelFormatError: onnxruntime cannot load it, or parts of it are not in the file.
    """

    def __init__(self, model: bytes, *, optimize: bool = True) -> None:
        _require_self_contained(model)
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
                "or export the model anew"
            ) from error
        self._process = os.getpid()

    def run(self, outputs: Sequence[str] | None, inputs: Mapping[str, NDArray[Any]]) -> list[Any]:
        """What ``InferenceSession.run`` returns: the named outputs, or all, for the named inputs.

        Raises:
            ExecutionError: onnxruntime fails, for want of memory most likely.
        """
        if self._process != os.getpid():
            # A thread of the parent may have been computing at the fork: then its locks are held here by nobody.
            self._open()
        try:
            return cast("list[Any]", self._inference.run(outputs, inputs))
        except _ERRORS as error:
            raise ExecutionError(
                f"onnxruntime {ort.__version__} cannot compute the answer ({_first_line(error)}): "
                "free some memory, or give fewer images at a time"
            ) from error

    def metadata(self) -> dict[str, str]:
        """What the file says of itself."""
        return cast("dict[str, str]", self._inference.get_modelmeta().custom_metadata_map)

    def signature(self) -> list[tuple[str, str, list[int | str]]]:
        """Name, type and shape of every input, then of every output."""
        nodes = (*self._inference.get_inputs(), *self._inference.get_outputs())
        return [(node.name, node.type, node.shape) for node in nodes]


def _options(*, optimize: bool) -> ort.SessionOptions:
    options = ort.SessionOptions()
    options.intra_op_num_threads = 1
    options.inter_op_num_threads = 1
    # For shapes that it saw before, onnxruntime plans one block in place of many: measured 17 MB more, nothing faster.
    options.enable_mem_pattern = False
    # Not onnxruntime's own format, which `_require_self_contained` cannot check.
    options.add_session_config_entry("session.load_model_format", "ONNX")
    # Failures reach the caller as exceptions; onnxruntime's own log lines would only repeat them on stderr.
    options.log_severity_level = _FATAL_ONLY
    if not optimize:
        options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    return options


def _require_self_contained(model: bytes) -> None:
    """Refuse a model with weights in other files: onnxruntime would take them, unverified, from the working directory.

    A tensor names its file by a StringStringEntryProto whose key is ``location`` (onnx.proto3, TensorProto). Protobuf
    writes a string whole, behind its length: 8, or a needlessly long 8 that ends in a zero byte.
    """
    if b"\x08location" in model or b"\x00location" in model:
        raise ModelFormatError("the model keeps weights outside its file: export it again as a single file")


def _first_line(error: BaseException) -> str:
    return next(iter(str(error).splitlines()), type(error).__name__)


def providers() -> list[str]:
    """What this build of onnxruntime could compute on; sessions here are the CPU's."""
    names: list[str] = ort.get_available_providers()
    return names
