"""The ONNX project's own reference implementation.

It has no DequantizeLinear of our files' opset 18, so a copy in memory is raised by ONNX's own version converter; what
the operators mean is unchanged.
"""

from protocol import Run, serve

OPSET = 21


def load(model: str, _threads: int, _variant: str) -> Run:
    import onnx
    from onnx.reference import ReferenceEvaluator
    from onnx.version_converter import convert_version

    evaluator = ReferenceEvaluator(convert_version(onnx.load(model), OPSET))
    return lambda images: next(iter(evaluator.run(["logits"], {"image": images})))


serve(load, "onnx")
