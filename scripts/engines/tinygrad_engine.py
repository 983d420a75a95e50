"""tinygrad, whose ONNX reader runs a file operator by operator."""

from protocol import Run, serve


def load(model: str, _threads: int, _variant: str) -> Run:
    from tinygrad import Tensor
    from tinygrad.nn.onnx import OnnxRunner

    runner = OnnxRunner(model)
    return lambda images: runner({"image": Tensor(images)})["logits"].numpy()


serve(load, "tinygrad")
