"""Put trained models into the package, where `Classifier` finds them by their names, each with its manifest and card.

    python scripts/measure_models.py 1 cnn-nano cnn cnn-large
    python scripts/write_pretrained.py cnn-nano cnn cnn-large

is how they were made. It is always seed 0 that ships, so that the test set has no say; other seeds that lie beside it
only tell in the card what to expect of the recipe. Every figure of a card is measured here or by the export.
"""

import sys
from pathlib import Path
from statistics import mean
from typing import Any

from measure_corruptions import accuracy
from measure_models import SEEDS, is_made, mean_and_spread

from mnist_edge import Classifier, bundle
from mnist_edge.runtime.model import PRETRAINED
from mnist_edge.training import datasets
from mnist_edge.training.corruptions import CORRUPTIONS, corrupt
from mnist_edge.training.recipes import RECIPES, Architecture

SEED = 0
FILE = bundle.Format.ONNX.file_name
CARD = "README.md"


def card(name: str, manifest: dict[str, Any], images: int, accuracies: list[float], corrupted: dict[str, float]) -> str:
    """What to know about a model before it is used.

    Args:
        name: the model's.
        manifest: what ships with it.
        images: how many training images there are, those for calibration included.
        accuracies: of all seeds of its recipe on the test set, in percent.
        corrupted: accuracy on each kind of corruption of the test set, in percent.
    """
    provenance, entry = manifest["provenance"], manifest["files"][FILE]
    recipe, parity, calibration = provenance["recipe"], entry["parity"], entry["calibration"]
    unseen = [value for kind, value in corrupted.items() if not CORRUPTIONS[kind].seen]
    rows = "\n".join(
        f"| {kind}{' *' if CORRUPTIONS[kind].seen else ''} | {value:.2f} % |" for kind, value in corrupted.items()
    )
    return f"""# {name}

A classifier of handwritten digits: `Classifier("{name}")`, or `mnist-edge predict photo.png --model {name}`.

| | |
|---|---|
| file | `{FILE}`, {entry["bytes"] / 1000:.1f} KB, {provenance["parameters"]:,} parameters, float32 |
| takes | raw pixels, uint8 [N, 1, 28, 28], 0 = background, 255 = full ink, framed as MNIST's digits are |
| returns | logits, float32 [N, 10] |
| accuracy on MNIST's test set | {100 * parity["accuracy"]:.2f} % |
| the recipe's accuracy, {len(accuracies)} seed(s) | {mean_and_spread(accuracies)} |
| mean accuracy on {len(corrupted)} kinds of corruption | {mean(corrupted.values()):.1f} % |
| the same on the {len(unseen)} that its training did not show | {mean(unseen):.1f} % |
| expected calibration error | {100 * calibration["error"]:.2f} % at temperature {calibration["temperature"]} |
| farthest from PyTorch | {parity["max_abs_diff"]:.1e}, the largest difference of a logit |

## How it was made

{recipe["epochs"]} epochs over {images - calibration["images"]:,} of MNIST's training images, seed
{provenance["seed"]}, averaged weights of the last epoch; the other {calibration["images"]:,}, most of them
by other writers, were kept for calibration. Nothing was chosen by the test set.
`manifest.json` holds the whole recipe, the digests of data and weights, and the versions of what trained and exported
it.

## What it is not for

It knows single digits, upright, as Americans wrote them in the nineties. What is none is often taken for one: limit
`--max-novelty` and `--min-probability`. It was not judged by who wrote a digit: MNIST does not tell.

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
        manifest = bundle.read_manifest(source)
        content = bundle.read_verified(source, FILE, manifest)
        told = ("version", "contract", "provenance", "pytorch")
        shipped = {key: manifest[key] for key in told} | {"files": {FILE: manifest["files"][FILE]}}
        trainings = [bundle.read_training(folder) for folder in seeds_of(model)]
        accuracies = [100 * training["epochs"][-1]["test"]["accuracy"] for training in trainings]
        classifier = Classifier(source)
        corrupted = {kind: accuracy(classifier, corrupt(data.test, kind)) for kind in CORRUPTIONS}
        with bundle.Staging(PRETRAINED / model) as staging:
            staging.add(FILE, content)
            staging.add(bundle.MANIFEST, bundle.as_json(shipped))
            staging.add(CARD, card(model, shipped, len(data.train), accuracies, corrupted).encode())
            staging.commit()
        print(f"{PRETRAINED / model}: {len(content):,} bytes, {accuracies[0]:.2f} %")


def seeds_of(model: str) -> list[Path]:
    folders = sorted(SEEDS.glob(f"{model}-[0-9]*"))
    return [folder for folder in folders if is_made(folder, RECIPES[Architecture(model)])]


if __name__ == "__main__":
    main(sys.argv[1:])
