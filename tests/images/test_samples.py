"""The sample pictures are those that `scripts/draw_samples.py` draws."""

import subprocess
import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_edge import images

SAMPLES = Path(images.SAMPLES)
SCRIPT = Path(__file__).parents[2] / "scripts" / "draw_samples.py"


def test_the_script_draws_the_samples_that_ship(tmp_path):
    subprocess.run([sys.executable, SCRIPT, tmp_path], check=True, capture_output=True, timeout=60)
    assert {path.name for path in tmp_path.iterdir()} == {path.name for path in SAMPLES.iterdir()}
    for path in tmp_path.iterdir():
        drawn, shipped = (np.asarray(Image.open(each).convert("RGB"), int) for each in (path, SAMPLES / path.name))
        assert drawn.shape == shipped.shape
        assert abs(drawn - shipped).mean() < 1, path.name  # encoders of JPEG differ a little
