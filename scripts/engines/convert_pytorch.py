"""Write what other engines convert from:  convert_pytorch.py BUNDLE FOLDER.

It is the deployable module, raw pixels to logits, as torch.export writes it, for a single image and for 256; and a
trace that takes the pixels as float32, for engines without bytes.
"""

import sys
from pathlib import Path

import torch

from mnist_edge.export.graph import example, raw_pixels
from mnist_edge.training import checkpoint

module = raw_pixels(checkpoint.load(Path(sys.argv[1])))
folder = Path(sys.argv[2])
for size in (1, 256):
    torch.export.save(torch.export.export(module, (example(size),)), folder / f"{size}.pt2")
torch.jit.trace(module, (example(1).float(),)).save(folder / "float.pt")
