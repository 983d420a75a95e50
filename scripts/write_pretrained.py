"""Copy trained models into the package, where `Classifier` finds them by name, each with its manifest and card.

The models in the package were made by

    python scripts/measure_models.py 1 cnn-nano cnn cnn-large
    python scripts/write_pretrained.py cnn-nano cnn cnn-large

Each ships its float32 file and the file that its export recommends. The seed is always 0, so the test set cannot
influence the choice. Every number on a card is measured here or by the export.
"""

import sys
from pathlib import Path
from statistics import mean

sys.path.insert(0, str(Path(__file__).parents[1]))

from measure_corruptions import accuracy
from measure_models import SEEDS, is_made, parity_of
from msgspec import structs

from mnist_edge import Classifier
from mnist_edge.bundle import decoding, layout, reading
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Manifest, Recommendation
from mnist_edge.bundle.writing import Staging
from mnist_edge.data import datasets
from mnist_edge.runtime.model import PRETRAINED
from mnist_edge.training.recipes import RECIPES
from tests.corruptions import CORRUPTIONS, corrupt

SEED = 0
EXACT = layout.Format.ONNX.file_name
CARD = "README.md"


def card(name: str, manifest: Manifest, images: int, corrupted: dict[str, float]) -> str:
    """The model card, in Markdown.

    Args:
        name: the model's name.
        manifest: the manifest of the files that ship.
        images: number of training images, including the calibration split.
        corrupted: accuracy of the recommended file on each kind of corruption of the test set, in percent.
    """
    provenance, files, answers = manifest.provenance, manifest.files, recommended(manifest).file
    parity, calibration = parity_of(files[answers]), files[answers].calibration
    assert calibration
    unseen = [value for kind, value in corrupted.items() if not CORRUPTIONS[kind].seen]
    rows = "\n".join(
        f"| {kind}{' *' if CORRUPTIONS[kind].seen else ''} | {value:.2f} % |" for kind, value in corrupted.items()
    )
    sizes = "\n".join(
        f"| `{file}` | {told.bytes / 1000:.1f} KB, {100 * parity_of(told).accuracy:.2f} % on MNIST's test set, "
        f"at most {parity_of(told).max_abs_diff:.1e} from PyTorch's logits |"
        for file, told in files.items()
    )
    return f"""# {name}

A classifier of handwritten digits: `Classifier("{name}")`, or `mnist-edge predict photo.png --model {name}`.

| | |
|---|---|
| answers | `{answers}`; `format="onnx"` takes `{EXACT}` |
{sizes}
| parameters | {provenance.parameters:,} |
| takes | raw pixels, uint8 [N, 1, 28, 28], 0 = background, 255 = full ink, preprocessed as MNIST's digits are |
| returns | logits, float32 [N, 10] |
| accuracy on MNIST's test set | {100 * parity.accuracy:.2f} % |
| mean accuracy on {len(corrupted)} kinds of corruption | {mean(corrupted.values()):.1f} % |
| the same on the {len(unseen)} that its training did not show | {mean(unseen):.1f} % |
| expected calibration error | {100 * calibration.error:.2f} % at temperature {calibration.temperature} |

## Training

Trained for {provenance.epochs} epochs on {images - calibration.images:,} of MNIST's training images with seed
{provenance.seed}; the weights are the moving average (EMA) after the last epoch. The other {calibration.images:,}
images, most of them by other writers, are the calibration split. Nothing was chosen on the test set.

`manifest.json` holds the full recipe, the digests of data and weights, and the versions of the software that trained
and exported the model.

## Limitations

The model knows single, upright digits as Americans wrote them in the 1990s. It often takes other shapes for digits: set
`--max-ood` and `--min-probability` to reject them. Its accuracy per writer is unknown: MNIST does not say who wrote a
digit.

## Corruptions

Accuracy on distorted copies of MNIST's test set. Starred kinds resemble the training augmentation.

| kind | accuracy |
|---|---|
{rows}

Data: MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, CC BY-SA 3.0; the golden vectors inside the file
are a few of its test images.
"""


def main(models: list[str]) -> None:
    data = datasets.load(datasets.DEFAULT)
    for model in models:
        source = SEEDS / f"{model}-{SEED}"
        if not is_made(source, RECIPES[Architecture(model)]):
            sys.exit(f"error: {source}: not trained to the end with the current recipe: run measure_models.py first")
        manifest = reading.read_manifest(source)
        shipped = only(manifest, {EXACT, recommended(manifest).file})
        classifier = Classifier(source)
        corrupted = {kind: accuracy(classifier, corrupt(data.test, kind)) for kind in CORRUPTIONS}
        with Staging(Path(PRETRAINED, model)) as staging:
            for file in shipped.files:
                staging.add(file, reading.read_verified(source, file, manifest))
            staging.add(layout.MANIFEST, decoding.encode_indented(shipped))
            staging.add(CARD, card(model, shipped, len(data.train), corrupted).encode())
            staging.commit(records=[layout.MANIFEST])
        sizes = ", ".join(f"{name} {file.bytes:,} bytes" for name, file in shipped.files.items())
        print(f"{Path(PRETRAINED, model)}: {sizes}, {100 * manifest.pytorch.accuracy:.2f} %")


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
