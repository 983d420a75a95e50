"""What runs on the device: numpy and onnxruntime, Pillow where pictures are decoded; never torch, onnx or typer."""
