"""Put a finished bundle's ``model.onnx`` and its manifest into the package, where `Classifier` finds it by its name.

    mnist-edge train --epochs 20 --out artifacts/pretrained
    mnist-edge export artifacts/pretrained --formats onnx
    python scripts/write_pretrained.py artifacts/pretrained cnn

is how the shipped model was made. Of 6 and 20 epochs the latter had fewer errors (12 against 14) on the 5,000 training
images that are kept for calibration; the test set had no say.
"""

import sys
from pathlib import Path

from mnist_edge import bundle
from mnist_edge.runtime.model import PRETRAINED


def main(source: Path, name: str) -> None:
    manifest = bundle.read_manifest(source)
    file = bundle.Format.ONNX.file_name
    content = bundle.read_verified(source, file, manifest)
    shipped = manifest | {"files": {file: manifest["files"][file]}}
    with bundle.Staging(PRETRAINED / name) as staging:
        staging.add(file, content)
        staging.add(bundle.MANIFEST, bundle.as_json(shipped))
        staging.commit()
    print(f"{PRETRAINED / name}: {len(content):,} bytes, {100 * manifest['files'][file]['parity']['accuracy']:.2f} %")


if __name__ == "__main__":
    main(Path(sys.argv[1]), sys.argv[2])
