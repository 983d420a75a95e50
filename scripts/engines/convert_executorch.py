"""Lower what convert_pytorch.py wrote to XNNPACK:  convert_executorch.py BUNDLE FOLDER."""

import sys
from pathlib import Path

import torch
from executorch.backends.xnnpack.partition.xnnpack_partitioner import XnnpackPartitioner
from executorch.exir import to_edge_transform_and_lower

folder = Path(sys.argv[2])
for size in (1, 256):
    program = torch.export.load(folder / f"{size}.pt2")
    lowered = to_edge_transform_and_lower(program, partitioner=[XnnpackPartitioner()])
    (folder / f"{size}.pte").write_bytes(lowered.to_executorch().buffer)
