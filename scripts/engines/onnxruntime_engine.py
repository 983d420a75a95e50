"""onnxruntime's own Python API."""

from pathlib import Path

from protocol import Run, serve


def load(model: str, threads: int, _: str) -> Run:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(Path(model).read_bytes(), options, providers=["CPUExecutionProvider"])
    return lambda images: session.run(["logits"], {"image": images})[0]


serve(load, "onnxruntime")
