"""The on-device runtime. Needs numpy and onnxruntime, and Pillow to decode pictures; never torch, onnx or typer."""
