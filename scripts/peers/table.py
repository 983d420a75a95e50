"""The peers: what runs each, in which environment, from which file, at which settings."""

from collections.abc import Sequence
from dataclasses import dataclass
from enum import StrEnum

from mnist_edge.errors import UsageError
from mnist_edge.runtime.classifier import CHUNK
from peers.environments import Environment


class Source(StrEnum):
    """What a peer runs; all but the first are float32."""

    ONNX = "the ONNX file"
    BUNDLE = "the PyTorch module"
    TORCHSCRIPT = "model.torchscript"
    AOTI = "compiled from the PyTorch module"
    NCNN = "converted from the PyTorch module by pnnx"
    LITERT = "converted from the PyTorch module by litert-torch"
    EXECUTORCH = "converted from the PyTorch module by torch.export"


OWN = Environment("this script's", (), 0, own=True)
TORCH = Environment("this script's PyTorch", ("torch",), 0, own=True)
OPENVINO = Environment("openvino", ("openvino==2026.4.1",), 280)
LITERT_TORCH = Environment("litert-torch", ("litert-torch==0.10.0",), 2_140, cpu_torch="2.13.0")
PNNX = Environment("pnnx", (), 190, bare=("pnnx==20261020",))
EXECUTORCH = Environment("executorch", ("executorch==1.5.1",), 1_520, cpu_torch="2.13.0")


@dataclass(frozen=True)
class Peer:
    """An engine at its best settings."""

    name: str
    program: str
    """A file of scripts/engines."""

    environment: Environment
    settings: str
    """In the words of a document."""

    source: Source = Source.ONNX
    variant: str = ""
    threaded: bool = True
    """Whether it can use several threads; without, it is measured on one only."""

    timed: bool = True
    """Whether it takes part in comparisons of speed."""

    held: bool = True
    """Whether its answers must agree."""


PEERS = (
    Peer(
        "mnist-edge",
        "mnist_edge_engine.py",
        Environment("this script's mnist-edge", ("mnist-edge",), 0, own=True),
        f"`Classifier.logits` as it comes; threads share only batches of more than {CHUNK}",
    ),
    Peer(
        "onnxruntime",
        "onnxruntime_engine.py",
        Environment("this script's onnxruntime", ("onnxruntime",), 0, own=True),
        "`InferenceSession.run`, all optimizations, `intra_op_num_threads`",
    ),
    Peer(
        "onnxruntime-node",
        "onnxruntime_node.mjs",
        Environment("onnxruntime-node", ("onnxruntime-node@1.30.0",), 300, node=True),
        "under Node, `intraOpNumThreads`",
    ),
    Peer(
        "onnxruntime-web",
        "onnxruntime_web.mjs",
        Environment("onnxruntime-web", ("onnxruntime-web@1.30.0",), 150, node=True),
        "WebAssembly under Node, `numThreads` 1",
        threaded=False,
    ),
    Peer(
        "OpenVINO",
        "openvino_engine.py",
        OPENVINO,
        "latency hint, one stream; computes in bfloat16 where the processor can",
        held=False,
    ),
    Peer(
        "OpenVINO f32",
        "openvino_engine.py",
        OPENVINO,
        "the same with `INFERENCE_PRECISION_HINT` f32",
        variant="f32",
    ),
    Peer(
        "tract",
        "tract_engine.py",
        Environment("tract", ("tract==0.23.9",), 135),
        "a program for each batch size; always on one thread",
        threaded=False,
    ),
    Peer(
        "OpenCV",
        "opencv_engine.py",
        Environment("opencv", ("opencv-python-headless==5.0.0.93",), 255),
        "`ENGINE_NEW`, `setNumThreads`",
    ),
    Peer(
        "TVM",
        "tvm_engine.py",
        Environment("tvm", ("apache-tvm==0.27.0.post1", "onnx==1.23.2"), 455),
        "`llvm`, not tuned, so not timed",
        timed=False,
    ),
    Peer(
        "tinygrad",
        "tinygrad_engine.py",
        Environment("tinygrad", ("tinygrad==0.14.0",), 175),
        "operator by operator, not compiled as a whole, so not timed",
        timed=False,
    ),
    Peer(
        "onnx.reference", "onnx_reference_engine.py", OWN, "the standard's own implementation, not timed", timed=False
    ),
    Peer(
        "PyTorch",
        "pytorch_engine.py",
        TORCH,
        "`inference_mode`, evaluation mode, channels last",
        source=Source.BUNDLE,
        variant="eager",
    ),
    Peer(
        "torch.compile",
        "pytorch_engine.py",
        TORCH,
        "the same, Inductor with freezing, a program for each batch size",
        source=Source.BUNDLE,
        variant="compile",
    ),
    Peer(
        "TorchScript",
        "pytorch_engine.py",
        TORCH,
        "`optimize_for_inference` where it convolves, else `freeze`",
        source=Source.TORCHSCRIPT,
        variant="torchscript",
    ),
    Peer(
        "AOTInductor",
        "pytorch_engine.py",
        TORCH,
        "compiled in advance with freezing, a program for each batch size",
        source=Source.AOTI,
        variant="aoti",
    ),
    Peer(
        "ncnn",
        "ncnn_engine.py",
        Environment("ncnn", ("ncnn==1.0.20261020",), 150),
        "16-bit options off; one image at a time",
        source=Source.NCNN,
    ),
    Peer(
        "LiteRT",
        "litert_engine.py",
        Environment("litert", ("ai-edge-litert==2.3.0",), 165),
        "XNNPACK, a program for each batch size",
        source=Source.LITERT,
    ),
    Peer(
        "ExecuTorch",
        "executorch_engine.py",
        EXECUTORCH,
        "XNNPACK, a program for each batch size",
        source=Source.EXECUTORCH,
    ),
)
"""All of them, in the order of the tables."""

CONVERTING: dict[Source, tuple[str, Environment]] = {
    Source.AOTI: ("convert_aoti.py", OWN),
    Source.NCNN: ("convert_ncnn.py", PNNX),
    Source.LITERT: ("convert_litert.py", LITERT_TORCH),
    Source.EXECUTORCH: ("convert_executorch.py", EXECUTORCH),
}
"""The program that makes what a peer runs, and the environment that it needs."""


def chosen(names: Sequence[str]) -> list[Peer]:
    """The peers with these names, in any case; all without any.

    Raises:
        UsageError: there is no such peer.
    """
    known = {peer.name.lower(): peer for peer in PEERS}
    if unknown := [name for name in names if name.lower() not in known]:
        raise UsageError(f"{unknown[0]}: no such peer: choose from {', '.join(peer.name for peer in PEERS)}")
    return [peer for peer in PEERS if not names or peer.name.lower() in map(str.lower, names)]


def environments(peers: Sequence[Peer]) -> list[Environment]:
    """All environments that these need, each once."""
    needed = [peer.environment for peer in peers]
    needed += [CONVERTING[peer.source][1] for peer in peers if peer.source in CONVERTING]
    return [*dict.fromkeys(needed)]
