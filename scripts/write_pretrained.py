"""Put trained models into the package, where `Classifier` finds them by their names, each with its manifest and card.

    python scripts/measure_models.py 1 cnn-nano cnn cnn-large
    python scripts/write_pretrained.py cnn-nano cnn cnn-large

is how they were made. Of each the float32 file ships and the one that its export recommends. It is always seed 0, so
that the test set has no say. Every figure of a card is measured here or by the export.
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
    """What to know about a model before it is used.

    Args:
        name: the model's.
        manifest: what ships with it.
        images: how many training images there are, those for calibration included.
        corrupted: accuracy of the file that answers on each kind of corruption of the test set, in percent.
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

## How it was made

{provenance.recipe.epochs} epochs over {images - calibration.images:,} of MNIST's training images, seed
{provenance.seed}, averaged weights of the last epoch; the other {calibration.images:,}, most of them
by other writers, are its calibration split. Nothing was chosen by the test set.
`manifest.json` holds the whole recipe, the digests of data and weights, and the versions of what trained and exported
it.

## What it is not for

It knows single digits, upright, as Americans wrote them in the nineties. What is none is often taken for one: limit
`--max-ood` and `--min-probability`. It was not evaluated by who wrote a digit: MNIST does not tell.

## Corruptions

MNIST's test set, distorted; kinds with a star resemble what its training showed.

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
            sys.exit(f"error: {source}: not finished by the recipe as it now is: run measure_models.py first")
        manifest = reading.read_manifest(source)
        shipped = only(manifest, {EXACT, recommended(manifest).file})
        classifier = Classifier(source)
        corrupted = {kind: accuracy(classifier, corrupt(data.test, kind)) for kind in CORRUPTIONS}
        with Staging(PRETRAINED / model) as staging:
            for file in shipped.files:
                staging.add(file, reading.read_verified(source, file, manifest))
            staging.add(layout.MANIFEST, decoding.encode_indented(shipped))
            staging.add(CARD, card(model, shipped, len(data.train), corrupted).encode())
            staging.commit(records=[layout.MANIFEST])
        sizes = ", ".join(f"{name} {file.bytes:,} bytes" for name, file in shipped.files.items())
        print(f"{PRETRAINED / model}: {sizes}, {100 * manifest.pytorch.accuracy:.2f} %")


def recommended(manifest: Manifest) -> Recommendation:
    assert manifest.recommended
    return manifest.recommended


def only(manifest: Manifest, names: set[str]) -> Manifest:
    """A manifest that lists no more than these files."""
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
