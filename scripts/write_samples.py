"""Write the first test image of every class to a PNG file named after its label, as sample input for `predict`."""

import sys
from pathlib import Path

import numpy as np
from PIL import Image

from mnist_edge.data import datasets


def main(folder: Path) -> None:
    data = datasets.load()
    folder.mkdir(parents=True, exist_ok=True)
    for label, name in enumerate(data.labels):
        first = int(np.flatnonzero(data.test.labels == label)[0])
        Image.fromarray(data.test.images[first]).save(folder / f"{name}.png")
    print(f"{len(data.labels)} images in {folder}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
