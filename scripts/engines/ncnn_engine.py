"""ncnn on what pnnx made, in float32; by default it computes in 16 bits."""

from pathlib import Path
from typing import Any

import ncnn
import numpy as np
from protocol import Pixels, Run, one_by_one, serve


def load(model: str, threads: int, _: str) -> Run:
    network = ncnn.Net()
    network.opt.num_threads = threads
    for name in ("fp16_packed", "fp16_storage", "fp16_arithmetic", "bf16_packed", "bf16_storage"):
        setattr(network.opt, f"use_{name}", False)
    network.load_param(str(Path(model, "float.ncnn.param")))
    network.load_model(str(Path(model, "float.ncnn.bin")))

    def run(image: Pixels) -> Any:
        extractor = network.create_extractor()
        pixels = image[0].astype(np.float32)
        # A Mat neither keeps the array alive nor copies it, and ncnn writes into its input.
        extractor.input("in0", ncnn.Mat(pixels).clone())
        return np.array(extractor.extract("out0")[1])

    return one_by_one(run)


serve(load, "ncnn")
