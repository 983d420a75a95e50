"""Convert what convert_pytorch.py wrote by litert-torch:  convert_litert.py BUNDLE FOLDER."""

import sys
from pathlib import Path

import litert_torch
import torch

folder = Path(sys.argv[2])
for size in (1, 256):
    module = torch.export.load(folder / f"{size}.pt2").module()
    image = torch.zeros(size, 1, 28, 28, dtype=torch.uint8)
    litert_torch.convert(module, (image,)).export(str(folder / f"{size}.tflite"))
