"""Copy trained models into the package, where `Classifier` finds them by name, each with its manifest.

The models in the package were made by

    python scripts/measure_models.py cnn-nano=5 cnn=5 cnn-large=3
    python scripts/write_pretrained.py cnn-nano cnn cnn-large
    python scripts/write_figures.py

Each ships its float32 file and the file that its export recommends. The seed is always 0, so the test set cannot
influence the choice. The last command writes their cards, and their figures into the documents.
"""

import sys
from pathlib import Path

from measure_models import SEEDS, is_made, recipe_on
from model_card import EXACT
from msgspec import structs

from mnist_edge.bundle import decoding, layout, reading
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Manifest, Recommendation
from mnist_edge.bundle.writing import Staging
from mnist_edge.data import datasets
from mnist_edge.runtime.model import PRETRAINED

SEED = 0


def main(models: list[str]) -> None:
    data = datasets.load(datasets.DEFAULT)
    for model in models:
        source = SEEDS / f"{model}-{SEED}"
        if not is_made(source, recipe_on(Architecture(model), data)):
            sys.exit(f"error: {source}: not trained to the end with the current recipe: run measure_models.py first")
        manifest = reading.read_manifest(source)
        shipped = only(manifest, {EXACT, recommended(manifest).file})
        with Staging(Path(PRETRAINED, model)) as staging:
            for file in shipped.files:
                staging.add(file, reading.read_verified(source, file, manifest))
            staging.add(layout.MANIFEST, decoding.encode_indented(shipped))
            staging.commit(records=[layout.MANIFEST])
        sizes = ", ".join(f"{name} {file.bytes:,} bytes" for name, file in shipped.files.items())
        print(f"{Path(PRETRAINED, model)}: {sizes}, {100 * manifest.pytorch.accuracy:.2f} %")
    print("next:  python scripts/write_figures.py")


def recommended(manifest: Manifest) -> Recommendation:
    assert manifest.recommended
    return manifest.recommended


def only(manifest: Manifest, names: set[str]) -> Manifest:
    """The manifest, reduced to these files."""
    advice = recommended(manifest)
    against = {name: reason for name, reason in advice.reasons_against.items() if name in names}
    return structs.replace(
        manifest,
        files={name: file for name, file in manifest.files.items() if name in names},
        recommended=structs.replace(advice, reasons_against=against),
        measured={name: found for name, found in manifest.measured.items() if name in names},
    )


if __name__ == "__main__":
    main(sys.argv[1:])
