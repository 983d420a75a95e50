"""The card of a pretrained model, which `write_figures.py` writes beside its files."""

from measure_models import parity_of
from tables import paragraph

from mnist_edge.bundle import layout
from mnist_edge.bundle.records import Manifest, Provenance
from mnist_edge.runtime.model import file_that_answers

EXACT = layout.Format.ONNX.file_name


def card(name: str, manifest: Manifest, images: int, judged: dict[str, str]) -> str:
    """The model card, in Markdown.

    Args:
        name: the model's name.
        manifest: the manifest of the files that ship.
        images: number of training images, including the calibration split.
        judged: what was measured of the recommended file's robustness, by what it was measured on.
    """
    provenance, files, answers = manifest.provenance, manifest.files, file_that_answers(name, manifest)
    parity, calibration = parity_of(files[answers]), files[answers].calibration
    assert calibration
    robustness = "\n".join(f"| {what} | {figures} |" for what, figures in judged.items())
    sizes = "\n".join(
        f"| `{file}` | {told.bytes / 1000:.1f} KB, {100 * parity_of(told).accuracy:.2f} % on MNIST's test set, "
        f"at most {parity_of(told).max_abs_diff:.1e} from PyTorch's logits, "
        f"{manifest.measured[file].microseconds:.0f} µs an image on one thread |"
        for file, told in files.items()
    )
    training = "\n".join(
        paragraph(
            f"Trained for {provenance.epochs} epochs on {images - calibration.images:,} of MNIST's training images "
            f"with seed {provenance.seed}; the weights are the moving average (EMA) after the last epoch. The other "
            f"{calibration.images:,} images, most of them by other writers, are the calibration split. Nothing was "
            "chosen on the test set."
        )
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
{robustness}
| expected calibration error | {100 * calibration.error:.2f} % at temperature {calibration.temperature} |

## Training

{training}

`manifest.json` holds the full recipe, the digests of data and weights, and the versions of the software that trained
and exported the model.

## Limitations

{limitations(provenance)}

## Robustness

Corruptions are distorted copies of MNIST's test set; starred kinds resemble what the training shows. docs/robustness.md
in the repository lists every kind and every drawn form.

Data: MNIST by Yann LeCun, Corinna Cortes and Christopher J. C. Burges, CC BY-SA 3.0; the golden vectors inside the file
are a few of its test images.
"""


def limitations(provenance: Provenance) -> str:
    """What the model does not know, in Markdown."""
    assert provenance.recipe
    share = provenance.recipe.drawn_digits
    if share:
        known = (
            "The model knows single, upright digits. It was trained on MNIST, written by Americans in the 1990s, and "
            f"on drawn digits in forms of other countries, {100 * share:g} % of each batch. Real handwriting from "
            "elsewhere was not used, and the accuracy on it is not measured here."
        )
    else:
        known = "The model knows single, upright digits as Americans wrote them in the 1990s."
    return "\n".join(
        paragraph(
            f"{known} It often takes other shapes for digits: set `--max-ood` and `--min-probability` to reject them. "
            "Its accuracy per writer is unknown: MNIST does not say who wrote a digit."
        )
    )
