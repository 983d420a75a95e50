"""Convert what convert_pytorch.py wrote by pnnx, keeping float32:  convert_ncnn.py BUNDLE FOLDER."""

import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

# Importing the package would need PyTorch; the program in it needs nothing.
found = find_spec("pnnx")
assert found
assert found.origin
program = Path(found.origin).with_name("pnnx")
subprocess.run([program, "float.pt", "inputshape=[1,1,28,28]", "fp16=0"], cwd=sys.argv[2], check=True)
