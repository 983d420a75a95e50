"""LiteRT (TensorFlow Lite) with XNNPACK on what litert-torch made, one file for each batch size."""

from pathlib import Path
from typing import Any

from protocol import Pixels, Run, of_two_sizes, serve


def load(model: str, threads: int, _: str) -> Run:
    from ai_edge_litert.interpreter import Interpreter

    def program(size: int) -> Run:
        interpreter = Interpreter(str(Path(model, f"{size}.tflite")), num_threads=threads)
        interpreter.allocate_tensors()
        (image,), (logits,) = interpreter.get_input_details(), interpreter.get_output_details()

        def run(images: Pixels) -> Any:
            interpreter.set_tensor(image["index"], images)
            interpreter.invoke()
            return interpreter.get_tensor(logits["index"])

        return run

    return of_two_sizes(program)


serve(load, "ai-edge-litert")
