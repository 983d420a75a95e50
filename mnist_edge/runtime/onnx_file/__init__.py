"""What is in an ``.onnx`` file, and whether onnxruntime may see it. Nothing here imports onnx or onnxruntime."""
