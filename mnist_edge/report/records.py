"""The parts of a report about records: what the model is, parity, formats, provenance, how to run it."""

import itertools
import shlex
from collections.abc import Iterator
from typing import Final

from msgspec import UNSET, structs

from mnist_edge.bundle.layout import RUNNABLE, WEIGHTS, Format
from mnist_edge.bundle.recipe import Architecture, Recipe
from mnist_edge.bundle.records import ImportRecord, Parity, Provenance, TrainingRecord
from mnist_edge.contract import HEIGHT, INPUT_NAME, OUTPUT_NAME, WIDTH
from mnist_edge.report import vector, words
from mnist_edge.report.facts import Facts
from mnist_edge.report.markup import Markup, command_lines, file_name, joined, name_of, pairs, table, tag
from mnist_edge.report.tradeoff import Point, tradeoff
from mnist_edge.report.words import percent

MOST_CHARACTERS: Final = 1000
"""Labels of more characters in all are not all listed."""

READABLE: Final = {"lr": "learning rate", "ema_decay": "EMA decay"}
"""Names of settings that are not plain words; the others only have underscores."""

NOT_EXPORTED: Final = "The bundle is not exported yet, so there is nothing to tell."


NEEDS_TRAIN: Final = joined("The extra ", tag("code", "mnist-edge[train]"), " is needed for ")


def model(facts: Facts) -> Markup:
    """What the model takes and returns."""
    contract, source, labels = facts.contract, facts.source, facts.labels
    layers = next((each.layers for each in Architecture if each == source.architecture), None)
    return pairs(
        "Architecture, input and output",
        [
            ("architecture", source.architecture + (f": {layers}" if layers else "")),
            ("parameters", f"{source.parameters:,}"),
            ("input", f"{words.INPUT}, 0 = background, 255 = full ink"),
            ("output", words.output(contract)),
            (f"{len(labels)} classes", _listed(labels)),
            ("normalization", f"{words.normalization(contract)}, inside the graph"),
            ("preprocessing", words.PREPROCESSING[contract.preprocessing]),
            ("file evaluated", facts.file),
            ("evaluated on", f"{len(facts.truth):,} test images of {facts.data}"),
        ],
    )


def _listed(labels: tuple[str, ...]) -> Markup:
    """The labels, as many as `MOST_CHARACTERS` allow."""
    lengths = itertools.accumulate(len(label) + 2 for label in labels)
    shown = sum(length <= MOST_CHARACTERS for length in lengths)
    parts = [part for label in labels[:shown] for part in (name_of(label), ", ")]
    if shown == len(labels):
        return joined(*parts[:-1])
    return joined(*parts, f"and {len(labels) - shown} more, in the ", tag("a", "table of each class", href="#classes"))


def parity(facts: Facts) -> Markup:
    """How each file compares with the PyTorch model."""
    if not facts.parities:
        return tag("p", NOT_EXPORTED)
    rows = [
        (
            file_name(name),
            f"{each.max_abs_diff:.1e}",
            f"{each.max_abs_diff_on_noise:.1e}",
            f"{each.flips:,}",
            percent(each.agreement),
            percent(each.accuracy),
            words.points(each.accuracy_drop),
            f"{each.images:,}",
        )
        for name, each in facts.parities.items()
    ]
    difference = joined("max ", tag("span", "|Δlogit|", class_="whole"))
    of_outputs = ("file", difference, joined(difference, " on noise images"))
    of_answers = ("flips", "agreement", "accuracy", "accuracy drop (points)", "test images")
    first = next(iter(facts.parities.values()))
    explained = (
        f"The export compares every file with the PyTorch model, on the test set of {facts.source.data.name} and on "
        "images of noise, and writes none that is beyond its format's tolerance. Δlogit is the difference of an "
        f"output. Measure it against the outputs' own spread: their standard deviation is {first.logit_std:.2f}. Flips "
        "are images that get another label. Each figure is the worst over all the ways in which the file was run."
    )
    return joined(tag("p", explained), table("Measured by the export", (*of_outputs, *of_answers), rows), _ways(facts))


def _ways(facts: Facts) -> Markup:
    rows = [(file_name(name), _batches(each), ", ".join(each.variants)) for name, each in facts.parities.items()]
    return tag(
        "details",
        tag("summary", "How the files were run"),
        table("Images and variants", ("file", "images", "variants"), rows, texts=(1, 2), tall=2),
    )


def _batches(found: Parity) -> str:
    by_images: dict[int, list[str]] = {}
    for batch, images in found.batch_sizes.items():
        by_images.setdefault(images, []).append(batch)
    return "; ".join(f"{images:,} in batches of {', '.join(sizes)}" for images, sizes in by_images.items())


def formats(facts: Facts) -> Markup:
    """What each file costs and gives."""
    if facts.manifest is None:
        return tag("p", NOT_EXPORTED)
    explained = (
        f"Accuracies are those that the export measured on the test set of {facts.source.data.name}, where the PyTorch "
        f"model reaches {percent(facts.manifest.pytorch.accuracy)}. The latency, of ONNX files only, is the median "
        "for one image on one thread, measured by the export on its machine; other machines take other times."
    )
    header = ("file", "size", "latency", "accuracy", "format", "runs on")
    rows = [
        (
            file_name(name),
            words.size(file.bytes),
            f"{facts.measured[name].microseconds:.0f} µs" if name in facts.measured else "-",
            percent(facts.parities[name].accuracy),
            str(file.format),
            Format(file.format).engine if file.format is not UNSET else "-",
        )
        for name, file in facts.files.items()
    ]
    return joined(
        tag("p", explained), _chart(facts), table("The files", header, rows, texts=(4, 5)), _recommended(facts)
    )


def _chart(facts: Facts) -> Markup:
    found = facts.manifest.recommended if facts.manifest else UNSET
    points = [
        Point(
            name,
            latency.microseconds,
            facts.parities[name].accuracy,
            facts.files[name].bytes,
            recommended=found is not UNSET and found.file == name,
        )
        for name, latency in facts.measured.items()
        if name in facts.parities
    ]
    if not points:
        return joined()
    described = (
        "A dot for each ONNX file: its latency across, its accuracy upwards, its size as the area. The table below "
        "holds the numbers."
    )
    drawn = vector.inline(tradeoff(points, in_page=True), "formats-plot", "Latency against accuracy", described)
    return tag("figure", drawn, tag("figcaption", "Latency of one image on one thread; size as the dot's area"))


def _recommended(facts: Facts) -> Markup:
    found = facts.manifest.recommended if facts.manifest else UNSET
    if found is UNSET:
        return tag("p", "No file is recommended: there is no float32 ONNX file to compare with.")
    reasons = [tag("li", tag("code", name), f": {why}") for name, why in found.reasons_against.items()]
    lead = tag("p", "Recommended, and used unless another is named: ", tag("code", found.file), ".")
    return joined(lead, tag("p", "Why not the others:"), tag("ul", *reasons)) if reasons else lead


def provenance(facts: Facts) -> Markup:
    """Where the model comes from, and the digests that prove it."""
    digests = [(part, _digest(value)) for part, value in facts.source.data.sha256.items()]
    parts = [
        pairs("Origin", _origin(facts)),
        *([pairs("Recipe", _recipe(recipe))] if (recipe := _recipe_of(facts)) is not None else []),
        pairs(f"SHA-256 of the data, {facts.source.data.name}", digests),
    ]
    if facts.manifest is not None:
        rows = [
            (file_name(name), words.size(file.bytes), facts.states.get(name, "-"), _digest(file.sha256))
            for name, file in facts.manifest.files.items()
        ]
        caption = "Files that the manifest lists, and whether they are the ones that were exported"
        parts.append(table(caption, ("file", "size", "state", "SHA-256"), rows, texts=(1, 2, 3)))
    return joined(*parts)


def _origin(facts: Facts) -> Iterator[tuple[str, str]]:
    source, record = facts.source, facts.record
    if (weights := getattr(source, "weights", UNSET)) is not UNSET:
        yield "imported from", joined(f"{weights.name}, SHA-256 ", _digest(weights.sha256))
    elif isinstance(record, ImportRecord) or (isinstance(source, Provenance) and source.recipe is UNSET):
        yield "imported from", words.IN_MEMORY
    else:
        yield "trained on", source.data.name
    if isinstance(record, TrainingRecord):
        yield "images", f"{record.data.train:,} for training, {record.data.test:,} for tests"
        yield "epochs", f"{len(record.epochs)} of {record.recipe.epochs}"
        yield "seed", str(record.seed)
        machine = record.machine
        yield "machine", f"{machine.platform}, {machine.device}, {machine.dtype}, threads: {machine.threads}"
    elif isinstance(source, Provenance) and source.recipe is not UNSET:
        yield "epochs", f"{source.epochs} of {source.recipe.epochs}"
        yield "seed", str(source.seed)
    if isinstance(source, Provenance):
        if source.source_sha256 is not UNSET:
            yield "SHA-256 of the class's file", _digest(source.source_sha256)
        yield "made with", words.versions(source.trained_by)
        yield "exported with", words.versions(source.exported_by)
    else:
        yield "made with", words.versions(source.versions)
    yield "SHA-256 of the model", _digest(source.model_sha256)


def _recipe_of(facts: Facts) -> Recipe | None:
    found = getattr(facts.source, "recipe", UNSET)
    return None if found is UNSET else found


def _recipe(recipe: Recipe) -> list[tuple[str, str]]:
    settings = structs.asdict(recipe)
    del settings["normalization"]  # part of the contract
    return [(READABLE.get(name, name.replace("_", " ")), _setting(name, value)) for name, value in settings.items()]


def _setting(name: str, value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    if name == "calibration_split":
        return f"one in {value} training images for calibration" if value else "none"
    return str(value)


def _digest(value: str) -> Markup:
    return tag("span", value, class_="digest")


def run(facts: Facts) -> Markup:
    """Lines that run the model when they are pasted."""
    argument = facts.argument
    if facts.file not in {form.file_name for form in RUNNABLE}:
        lines = [_command("export", argument, "--formats", "onnx")]
        lead = tag(
            "p", "No file of the bundle runs on onnxruntime. Export one, ", _where(facts), ". ", NEEDS_TRAIN, "export."
        )
        return joined(lead, command_lines("Commands", *lines))
    chosen = () if facts.format is None else ("--format", facts.format)
    has_pytorch = facts.manifest is not None and WEIGHTS in facts.manifest.files
    commands = [
        _command("predict", "--sample", "--model", argument, *chosen),
        _command("info", argument),
        _command("selftest", argument, *chosen),
        *([_command("verify", argument)] if has_pytorch else []),
    ]
    python = [
        "import numpy as np",
        "from mnist_edge import Classifier",
        "",
        f"classifier = Classifier({', '.join([repr(argument), *([f'format={facts.format!r}'] if chosen else [])])})",
        "images = np.zeros((1, 28, 28), dtype=np.uint8)  # your pixels: 0 = background, 255 = full ink",
        "print(classifier.labels[classifier.logits(images).argmax()])",
    ]
    parts = [
        tag("p", "On the command line, ", _where(facts), ". predict takes your own pictures in place of --sample."),
        *([tag("p", NEEDS_TRAIN, "verify.")] if has_pytorch else []),
        command_lines("Commands", *commands),
        tag("p", "In Python:"),
        command_lines("Python with mnist-edge", *python),
    ]
    if not facts.is_pretrained:
        bare = [
            "import os",
            "",
            'os.environ["ORT_DISABLE_TELEMETRY"] = "1"  # before the import',
            "import numpy as np",
            "import onnxruntime",
            "",
            f"session = onnxruntime.InferenceSession({f'{argument}/{facts.file}'!r})",
            f"images = np.zeros((1, 1, {HEIGHT}, {WIDTH}), dtype=np.uint8)",
            f'(logits,) = session.run(["{OUTPUT_NAME}"], {{"{INPUT_NAME}": images}})',
            "print(logits)",
        ]
        parts += [tag("p", "With onnxruntime alone:"), command_lines("Python with onnxruntime", *bare)]
    return joined(*parts)


def _where(facts: Facts) -> Markup:
    if facts.is_pretrained:
        return joined("in any folder")
    return joined("in the folder that holds the bundle's folder ", tag("code", facts.name))


def _command(*arguments: str) -> str:
    return shlex.join(["mnist-edge", *arguments])
