"""Compile with AOTInductor, once for a single image and once for 256:  convert_aoti.py BUNDLE FOLDER."""

import sys
from pathlib import Path

import torch
import torch._inductor.config as inductor

folder = Path(sys.argv[2])
inductor.freezing = True
for size in (1, 256):
    program = torch.export.load(folder / f"{size}.pt2")
    with torch.no_grad():
        torch._inductor.aoti_compile_and_package(program, package_path=str(folder / f"aoti-{size}.pt2"))  # noqa: SLF001
