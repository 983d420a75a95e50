"""PyTorch in evaluation and inference mode. Variants: eager, compile, torchscript and aoti (AOTInductor)."""

from pathlib import Path
from typing import Any

import torch
from protocol import Pixels, Run, of_two_sizes, serve


def eager(bundle: Path) -> Any:
    """The trained model with its preprocessing, the reference of every parity."""
    from mnist_edge.export.graph import raw_pixels
    from mnist_edge.training import checkpoint

    return raw_pixels(checkpoint.load(bundle)).to(memory_format=torch.channels_last)


def compiled(bundle: Path) -> Any:
    import torch._inductor.config as inductor

    inductor.freezing = True
    return torch.compile(eager(bundle), dynamic=False)


def torchscript(file: Path) -> Any:
    module = torch.jit.load(file).eval()
    convolves = "aten::_convolution" in str(module.inlined_graph)
    # The other way round, each takes longer.
    return torch.jit.optimize_for_inference(module) if convolves else torch.jit.freeze(module)


def ahead_of_time(folder: Path) -> Run:
    from torch._inductor import aoti_load_package

    return of_two_sizes(lambda size: inferring(aoti_load_package(folder / f"aoti-{size}.pt2")))


def inferring(module: Any) -> Run:
    def run(images: Pixels) -> Any:
        with torch.inference_mode():
            return module(torch.from_numpy(images)).numpy()

    return run


def load(model: str, threads: int, variant: str) -> Run:
    torch.set_num_threads(threads)
    if variant == "aoti":
        return ahead_of_time(Path(model))
    return inferring({"eager": eager, "compile": compiled, "torchscript": torchscript}[variant](Path(model)))


serve(load, "torch")
