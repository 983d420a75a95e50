"""Write the C file of a quantized network. All that it says comes from the int8-static file."""

import math
import re
from collections.abc import Iterable, Sequence
from importlib import resources
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.checksum import sha256
from mnist_edge.bundle.layout import Format
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME, PIXELS
from mnist_edge.errors import ParityError
from mnist_edge.export.c import memory, reading
from mnist_edge.export.c.layers import REMEDY, Layer
from mnist_edge.export.c.requantization import requantization
from mnist_edge.runtime.model import Model, load

TEMPLATE: Final = resources.files(__package__).joinpath("template.h")

WIDTH: Final = 120


def generate(content: bytes, prefix: str = "") -> str:
    """The C file of an int8-static file's content; `prefix` is that of its names, empty for the architecture's.

    Raises UnsupportedFormatError if the network has an operator that the C code has not.
    """
    model = load(content, Format.INT8_STATIC.file_name)
    layers = reading.layers(content)
    sections = {
        "banner": _banner(model, layers),
        "constants": _constants(model, content, layers),
        "labels": f"const char *const prefix_labels[] = {_listed(map(_quoted, model.contract.labels))};",
        "arrays": "\n\n".join([*_network(layers), *_probability(model), *_golden(model, layers[-1])]),
        "calls": "\n".join(
            f"    prefix_run(prefix_layers + {number}, pixels, (uint8_t *)arena, sums);"
            for number in range(len(layers))
        ),
    }
    text = re.sub("@@([a-z]+)", lambda match: sections[match[1]], TEMPLATE.read_text(encoding="utf-8"))
    own = re.sub(r"\W", "_", model.contents.provenance.architecture.lower(), flags=re.ASCII).lstrip("_0123456789")
    prefix = prefix or own or "model"
    return text.replace("PREFIX_", f"{prefix.upper()}_").replace("prefix_", f"{prefix}_")


def _banner(model: Model, layers: Sequence[Layer]) -> str:
    provenance = model.contents.provenance
    name, version = map(_word, (provenance.architecture, provenance.exported_by["mnist-edge"]))
    ink = "dark ink on a light background" if model.contract.inverted else "light ink on a dark background"
    return f"""\
/* {name}: {provenance.parameters:,} parameters, {sum(map(_products, layers)):,} products an image.

   Made by mnist-edge {version} from {Format.INT8_STATIC.file_name}. It gives the logits
   that onnxruntime gives for that file, bit for bit: with integers, without malloc and without static memory.

   In one source file of a program write

       #define MNIST_EDGE_IMPLEMENTATION

   before including this file; elsewhere include it as it is. Define PREFIX_PROBABILITY for probabilities (it needs
   <math.h>), and PREFIX_SELFTEST for a test with golden vectors.

   An image is 28 rows of 28 bytes, {ink}, prepared as in training ("{model.contract.preprocessing}"). */"""


def _constants(model: Model, content: bytes, layers: Sequence[Layer]) -> str:
    _, room = memory.places(layers)
    taps = max(layer.taps if layer.is_linear else 2 * layer.taps for layer in layers)
    pooled = max((layer.result[2] + layer.result[2] % 2 for layer in layers if layer.pool != (1, 1)), default=0)
    constants = {
        "PIXELS": PIXELS,
        "CLASSES": len(model.contract.labels),
        "ARENA": 3 + 4 * pooled + 2 * taps + room,
        "CALIBRATED": int(model.contract.calibration is not None),
        "MODEL_SHA256": _quoted(model.contents.provenance.model_sha256),
        "INT8_STATIC_SHA256": f'"{sha256(content)}"',
        # Parts of the arena: the most taps at a time, and the most outputs of a layer with a pool.
        "TAPS": taps,
        "POOLED": pooled,
    }
    return "\n".join(f"#define PREFIX_{name} {value}" for name, value in constants.items())


def _network(layers: Sequence[Layer]) -> Iterable[str]:
    """The arrays of all layers, and the table of layers."""
    outs, _ = memory.places(layers)
    rows = []
    for number, layer in enumerate(layers):
        arrays: dict[str, NDArray[Any] | None] = {"weights": layer.weights, "bias": layer.bias}
        steps = 0
        if number < len(layers) - 1:
            found = requantization(layer)
            arrays |= {"scale": found.scale, "shift": found.shift, "thresholds": found.thresholds, "table": found.table}
            steps = 0 if found.thresholds is None else len(found.thresholds)
        else:
            arrays |= dict.fromkeys(("scale", "shift", "thresholds", "table"))
        yield _comment(layer)
        yield from (_array(f"{layer.name}_{name}", array) for name, array in arrays.items() if array is not None)
        pointers = ["NULL" if array is None else f"prefix_{layer.name}_{name}" for name, array in arrays.items()]
        numbers = [steps, layer.taps, outs[number - 1] if number else 0, outs[number] if number < len(outs) else 0]
        numbers += [*layer.size, *layer.kernel, *layer.stride, *layer.padding[:2], *layer.pool, *layer.result]
        rows.append(_listed([*pointers, *map(str, [*numbers, layer.zero_in, layer.zero_out])]))
    yield "static const prefix_layer prefix_layers[] = {\n" + ",\n".join(rows) + "\n};"
    yield _array("steps", layers[-1].step)


def _comment(layer: Layer) -> str:
    shapes = " -> ".join("x".join(map(str, size)) for size in (layer.size, layer.result))
    kind = "linear" if layer.is_linear else f"{layer.kernel[0]}x{layer.kernel[1]} kernel"
    pool = "" if layer.pool == (1, 1) else f", {layer.pool[0]}x{layer.pool[1]} max pool"
    return f"/* {layer.name}: {shapes}, {kind}{pool}; {layer.weights.size:,} weights, {_products(layer):,} products */"


def _products(layer: Layer) -> int:
    return math.prod(layer.result) * math.prod(layer.pool) * layer.taps


def _probability(model: Model) -> Iterable[str]:
    calibration = model.contract.calibration
    yield "#ifdef PREFIX_PROBABILITY"
    yield f"#define PREFIX_TEMPERATURE {calibration.temperature if calibration else 1.0!r}"
    yield _array("energies", np.array(calibration.energies if calibration else [0.0]))
    yield _array("scores", np.array(calibration.ood_scores if calibration else [0.0]))
    yield "#endif"


def _golden(model: Model, last: Layer) -> Iterable[str]:
    """The golden images and onnxruntime's sums for them, told from its logits."""
    images = model.contents.golden.images
    (logits,) = model.session.run([OUTPUT_NAME], {INPUT_NAME: images})
    sums = np.rint(logits / last.step.astype(np.float64)).astype(np.int32)
    if not np.array_equal(sums.astype(np.float32) * last.step, logits):
        raise ParityError(f"model.h: the step of its logits is not onnxruntime's: {REMEDY}, and report this")
    yield "#ifdef PREFIX_SELFTEST"
    yield f"#define PREFIX_GOLDEN {len(images)}"
    yield _array("golden_pixels", images)
    yield _array("golden_sums", sums)
    yield "#endif"


def _array(name: str, values: NDArray[Any]) -> str:
    kind = {"float32": "float", "float64": "double"}.get(values.dtype.name, f"{values.dtype.name}_t")
    numbers = _listed(f"{value}f" if kind == "float" else str(value) for value in values.flat)
    return f"static const {kind} prefix_{name}[{values.size}] = {numbers};"


def _listed(items: Iterable[str]) -> str:
    words = [*items]
    each = max(1, WIDTH // (1 + max(map(len, words))))
    return "{\n" + ",\n".join(",".join(words[start : start + each]) for start in range(0, len(words), each)) + "\n}"


def _word(text: str) -> str:
    """A text without anything that could end a comment."""
    return re.sub(r"[^\w.+-]", "_", text, flags=re.ASCII)


def _quoted(label: str) -> str:
    """A string in C: UTF-8, in plain ASCII."""
    return (
        '"'
        + "".join(chr(byte) if chr(byte).isalnum() and byte < 128 else f"\\{byte:03o}" for byte in label.encode())
        + '"'
    )
