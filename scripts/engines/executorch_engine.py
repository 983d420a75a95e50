"""ExecuTorch with XNNPACK, one program for each batch size."""

from pathlib import Path
from typing import Any

import torch
from executorch.extension.pybindings import portable_lib
from executorch.runtime import Runtime
from protocol import Pixels, Run, of_two_sizes, serve


def load(model: str, threads: int, _: str) -> Run:
    portable_lib._unsafe_reset_threadpool(threads)  # noqa: SLF001  # it has no public name

    def program(size: int) -> Run:
        method = Runtime.get().load_program(Path(model, f"{size}.pte")).load_method("forward")

        def run(images: Pixels) -> Any:
            return method.execute([torch.from_numpy(images)])[0].numpy()

        return run

    return of_two_sizes(program)


serve(load, "executorch")
