"""The figures of the pretrained models that the documents show: Markdown by the name of its place.

A new figure is a function from `Subjects` to lines of Markdown, an entry of `FIGURES`, and a place in a document::

    <!-- figures: NAME -->
    <!-- end -->
"""

import re
from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from statistics import mean

import check_interop
import compare_engines
import compare_exporters
import measure_corruptions
import measure_handwriting
import measure_models
import measure_ood
import measure_pictures
import numpy as np
import run_on_qemu
from model_card import card
from peers import engine_tables, options
from tables import markdown, paragraph

from mnist_edge import Classifier
from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import ARTIFACTS, Format
from mnist_edge.bundle.records import Manifest
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Dataset
from mnist_edge.errors import ExecutionError, ParityError
from mnist_edge.evaluation import metrics
from mnist_edge.evaluation.evaluation import ACCURACIES
from mnist_edge.export.c import source
from mnist_edge.report import words
from mnist_edge.runtime.model import DEFAULT_PRETRAINED, PRETRAINED, file_that_answers, pretrained
from mnist_edge.runtime.prediction import softmax
from tests.distortions import NEVER_TRAINED

PLAIN = "cnn-plain"
REFERENCES = ("simple-nn", PLAIN)
"""Models in artifacts that the first table of robustness shows as well."""

LIMIT = 0.99
"""The `--max-ood` whose refusals are shown."""

BOARD_IMAGES = 100
"""How many test images the emulated boards classify."""

LOST = 1.0
"""From how many points on a kind is said to lose accuracy."""

PAPER = {
    "a ruled line": "above, below or beside a ruled line",
    "a cell": "in a cell of a grid, turned by up to 5°",
    "a faint stroke": "the stroke grows faint, to 30 % of the contrast",
    "filling the picture": "the digit fills the picture",
    "coloured scribbles": "on coloured scribbles",
    "coloured bands": "on coloured bands",
    "a sheet on a table": "on a sheet of paper that lies on a table",
    "a shadow": "under the edge of a shadow",
}
"""The kinds of paper in the words of a document."""


class Subjects:
    """What the figures are about. Everything is opened and measured when a figure first needs it, and only once."""

    def __init__(self, beside: dict[str, Path]) -> None:
        """Set what to compare with.

        Args:
            beside: other versions of the pretrained models, by the name that their columns get: folders that hold a
                bundle, or a folder with ``model.onnx``, for each model.
        """
        self.beside = beside
        self.manifests = dict(
            sorted(
                ((name, reading.read_manifest(Path(PRETRAINED, name))) for name in pretrained()),
                key=lambda each: each[1].provenance.parameters,
            )
        )
        """Of the pretrained models, the smallest first."""

    @cached_property
    def data(self) -> Dataset:
        """MNIST."""
        return datasets.load(datasets.DEFAULT)

    @cached_property
    def models(self) -> dict[str, dict[str, Classifier]]:
        """By name of a pretrained model: by heading, the shipped model and its other versions."""
        return {
            name: {f"`{name}`": Classifier(name)}
            | {f"`{name}` {version}": opened(folder / name) for version, folder in self.beside.items()}
            for name in self.manifests
        }

    @property
    def every(self) -> dict[str, Classifier]:
        """All of these by heading."""
        return {heading: one for versions in self.models.values() for heading, one in versions.items()}

    @property
    def default(self) -> dict[str, Classifier]:
        """The versions of the default model."""
        return self.models[DEFAULT_PRETRAINED]

    def place(self, heading: str) -> int:
        """The number of one of these among them."""
        return [*self.every].index(heading)

    @cached_property
    def corrupted(self) -> measure_corruptions.Table:
        """How `every` does on clean and corrupted images."""
        return measure_corruptions.measured([*self.every.values()], self.data.test)

    @cached_property
    def handwriting(self) -> measure_handwriting.Table:
        """How `every` reads the drawn forms that judge."""
        return measure_handwriting.measured([*self.every.values()])

    @cached_property
    def references(self) -> dict[str, Classifier]:
        """The models of `REFERENCES` by heading."""
        return {f"`{name}`": Classifier(Path(ARTIFACTS, name)) for name in REFERENCES}

    @cached_property
    def references_corrupted(self) -> measure_corruptions.Table:
        """How these do on clean images and the first kinds of corruption."""
        kinds = measure_corruptions.groups()[measure_corruptions.FIRST]
        return measure_corruptions.measured([*self.references.values()], self.data.test, kinds)

    @cached_property
    def runs(self) -> measure_models.Runs:
        """The trainings with several seeds, at least of the architectures that ship."""
        return measure_models.kept(self.data, self.manifests)


def opened(folder: Path) -> Classifier:
    return Classifier(folder if reading.is_bundle(folder) else folder / layout.Format.ONNX.file_name)


def models(subjects: Subjects) -> list[str]:
    """What the manifests say of the recommended files."""
    return markdown(
        ["model", "file", "accuracy on MNIST's test set", "one image, one thread"],
        [model_row(name, manifest) for name, manifest in subjects.manifests.items()],
    )


def model_row(name: str, manifest: Manifest) -> list[str]:
    answers = file_that_answers(name, manifest)
    file = manifest.files[answers]
    return [
        f"`{name}`{' (default)' if name == DEFAULT_PRETRAINED else ''}",
        f"{file.bytes / 1000:.1f} KB",
        f"{100 * measure_models.parity_of(file).accuracy:.2f} %",
        f"{manifest.measured[answers].microseconds:.0f} µs",
    ]


def accuracy(subjects: Subjects) -> list[str]:
    trained = f"Trained by {measure_models.versions(subjects.runs)}."
    return [*measure_models.accuracy_table(subjects.runs), "", trained]


def files(subjects: Subjects) -> list[str]:
    return measure_models.file_table(subjects.runs)


def corruptions(subjects: Subjects) -> list[str]:
    """The first kinds, also of the references."""
    references = subjects.references_corrupted
    table = {kind: row + subjects.corrupted[kind] for kind, row in references.items()}
    clean = {measure_corruptions.CLEAN: table[measure_corruptions.CLEAN]}
    return measure_corruptions.lines(
        [*subjects.references, *subjects.every],
        clean | measure_corruptions.group_rows(table, measure_corruptions.FIRST),
    )


def harder(subjects: Subjects) -> list[str]:
    rows = measure_corruptions.group_rows(subjects.corrupted, measure_corruptions.HARDER)
    return measure_corruptions.lines([*subjects.every], rows)


def never_trained(subjects: Subjects) -> list[str]:
    rows = measure_corruptions.group_rows(subjects.corrupted, NEVER_TRAINED)
    return measure_corruptions.lines([*subjects.every], rows)


def corrupted_pictures(subjects: Subjects) -> list[str]:
    """What `predict` makes of some of the corrupted images, by group."""
    table = measure_corruptions.measured([*subjects.every.values()], subjects.data.test, pictures=True)
    clean = {measure_corruptions.CLEAN: table[measure_corruptions.CLEAN]}
    return measure_corruptions.lines([*subjects.every], clean | measure_corruptions.all_means(table))


def handwriting(subjects: Subjects) -> list[str]:
    table = subjects.handwriting
    return measure_handwriting.lines([*subjects.every], table, measure_handwriting.hard(table))


def typefaces(subjects: Subjects) -> list[str]:
    """The two groups, and the typefaces that the default model reads worst."""
    groups = measure_handwriting.measured_typefaces([*subjects.every.values()])
    return measure_handwriting.typeface_lines([*subjects.every], groups, subjects.place(f"`{DEFAULT_PRETRAINED}`"))


def augmentation(subjects: Subjects) -> list[str]:
    """What the training's additions gain and cost the default model on the first kinds."""
    ours, plain = subjects.place(f"`{DEFAULT_PRETRAINED}`"), REFERENCES.index(PLAIN)
    gains = {
        kind: subjects.corrupted[kind][ours] - row[plain]
        for kind, row in subjects.references_corrupted.items()
        if kind != measure_corruptions.CLEAN
    }
    lost = [f"{kind} ({-gain:.1f})" for kind, gain in gains.items() if gain <= -LOST]
    return paragraph(
        f"Beside `{PLAIN}`, `{DEFAULT_PRETRAINED}` gains {mean(gains.values()):.1f} points in the mean of these "
        f"{len(gains)} kinds. Where it loses a point or more: {', '.join(lost) or 'nowhere'}."
    )


def losses(subjects: Subjects) -> list[str]:
    """The kinds of corruption on which a pretrained model is worse than another version of it."""
    points = []
    for ours, *others in subjects.models.values():
        for other in others:
            places = subjects.place(other), subjects.place(ours)
            lost = {kind: row[places[0]] - row[places[1]] for kind, row in subjects.corrupted.items()}
            told = [
                f"{kind} ({lost[kind]:.1f})" for kind in sorted(lost, key=lost.__getitem__)[::-1] if lost[kind] >= LOST
            ]
            points += paragraph(f"- {ours}: {', '.join(told) or 'none'}", indent="  ")
    return points


def coverage(subjects: Subjects) -> list[str]:
    """Which limit reaches an accuracy, for the default model."""
    truth = subjects.data.test.labels
    head = ["wanted accuracy of the answers"]
    rows = [[f"{100 * wanted:.1f} %"] for wanted in ACCURACIES]
    for heading, model in subjects.default.items():
        head += [f"pictures that {heading} answers", "withheld below probability"]
        probabilities = model.probabilities(model.logits(subjects.data.test.images))
        for row, wanted in zip(rows, ACCURACIES, strict=True):
            share, limit = metrics.coverage_at(wanted, probabilities, truth)
            row += [f"{100 * share:.2f} %", words.limit(metrics.threshold(limit, probabilities))]
    return markdown(head, rows)


def calibration(subjects: Subjects) -> list[str]:
    """What the calibration gains, for every model."""
    truth, rows = subjects.data.test.labels, []
    for heading, model in subjects.every.items():
        logits = model.logits(subjects.data.test.images)
        errors = [metrics.calibration_error(each, truth) for each in (model.probabilities(logits), softmax(logits))]
        rows.append([heading, *(f"{100 * error:.2f} %" for error in errors)])
    return markdown(["model", "expected calibration error", "without calibration"], rows)


def ood(subjects: Subjects) -> list[str]:
    """How well the default model tells digits from other pictures; of its other versions only the score's figures."""
    shipped, *others = (measure_ood.measured(one, subjects.data.test.images) for one in subjects.default.values())
    head = [
        "kind",
        "pictures",
        "AUROC by energy",
        "AUROC by probability",
        f"refused at `--max-ood {LIMIT}`",
        f"refused at `--min-probability {measure_ood.MIN_PROBABILITY}`",
    ]
    for heading in [*subjects.default][1:]:
        head += [f"{heading}: AUROC by energy", f"{heading}: refused at `--max-ood {LIMIT}`"]
    rows = []
    for kind, found in shipped.items():
        energy, doubt = (aurocs(shipped, kind, score) for score in ("energies", "doubt"))
        row = [kind, f"{len(found.images):,}", energy, doubt, found.refused(LIMIT), found.unsure()]
        for other in others:
            row += [aurocs(other, kind, "energies"), other[kind].refused(LIMIT)]
        rows.append(row)
    return markdown(head, rows)


def aurocs(kinds: dict[str, measure_ood.Judged], kind: str, score: str) -> str:
    """The AUROC by one of the scores, and nothing for the digits themselves."""
    if kind == measure_ood.DIGITS:
        return ""
    return f"{measure_ood.auroc(getattr(kinds[measure_ood.DIGITS], score), getattr(kinds[kind], score)):.3f}"


def pictures(subjects: Subjects) -> list[str]:
    """How the default model reads drawn pictures, in a sentence."""
    right = np.array([*measure_pictures.single_digits(Classifier(), subjects.data.test).values()])
    by_seed = 100 * right[..., 0].mean(axis=(0, 2))
    ours, resized = 100 * right.mean(axis=(0, 1, 2))
    return paragraph(
        f"Of {right[..., 0].size:,} pictures of {len(right)} kinds, drawn from MNIST's test digits with {len(by_seed)} "
        f"seeds, it reads **{ours:.1f} %** ({by_seed.min():.1f} to {by_seed.max():.1f} by seed), against "
        f"{resized:.1f} % if they are only turned grey, resized to 28×28 and inverted where they are light."
    )


def paper(subjects: Subjects) -> list[str]:
    found = measure_pictures.on_paper(Classifier(), subjects.data.test)
    rows = [[PAPER.get(kind, kind), f"{one.pictures:,}", f"{100 * one.right:.1f} %"] for kind, one in found.items()]
    return markdown(["picture", "n", "right"], rows)


def lines(subjects: Subjects) -> list[str]:
    classifier, test = Classifier(), subjects.data.test
    papers = measure_pictures.lines_on_paper(classifier, test)
    groups = measure_pictures.drawn_lines(classifier, test) | {
        "in boxes" if kind == "boxes" else f"on {kind} paper": found for kind, found in papers.items()
    }
    rows = [
        [group, f"{one.lines}", f"{100 * one.digits_right:.1f} %", f"{100 * one.lines_right:.1f} %"]
        for group, one in groups.items()
    ]
    return markdown(["drawn lines", "n", "digits right", "lines right"], rows)


def devices(subjects: Subjects) -> list[str]:
    images = subjects.data.test.images[:BOARD_IMAGES, None]
    rows = []
    for name in subjects.manifests:
        content = Path(PRETRAINED, name, Format.INT8_STATIC.file_name).read_bytes()
        arena = re.findall(r"^#define \w+_ARENA (\d+)$", source.generate(content), re.MULTILINE)
        for board, target in run_on_qemu.BOARDS.items():
            if not target.is_here:
                raise ExecutionError(f"{board}: {target.compiler} or {target.emulator[0]} is not installed")
            flash = run_on_qemu.flash_of(content, target)
            if flash + images.nbytes > 1024 * target.flash:
                continue
            found = run_on_qemu.run(content, target, images)
            if found["differing"]:
                raise ParityError(f"{name} on {board}: {found['differing']} images have other logits")
            millions = f"{found['instructions'] / 1e6:.2f} million"
            numbers = (flash, int(arena[0]), found["stack"])
            rows.append([f"`{name}`", board.upper(), *(f"{number:,}" for number in numbers), millions])
    return markdown(["model", "Cortex", "flash, bytes", "arena", "stack", "instructions an image"], rows)


def exporters(subjects: Subjects) -> list[str]:
    """Who refuses which fault of an export."""
    return compare_exporters.figures(Path(ARTIFACTS, "cnn-nano"), subjects.data)


def interop(_: Subjects) -> list[str]:
    """Which engines agree on our files."""
    return check_interop.lines(options.kept(check_interop.RESULT, "check_interop.py"))


def engines(_: Subjects) -> list[str]:
    """How quick they are."""
    return engine_tables.lines(options.kept(compare_engines.RESULT, "compare_engines.py"))


def peers(_: Subjects) -> list[str]:
    """What each engine runs."""
    return engine_tables.settings()


FIGURES: dict[str, Callable[[Subjects], list[str]]] = {
    "models": models,
    "accuracy": accuracy,
    "files": files,
    "corruptions": corruptions,
    "augmentation": augmentation,
    "harder": harder,
    "never-trained": never_trained,
    "losses": losses,
    "corrupted-pictures": corrupted_pictures,
    "handwriting": handwriting,
    "typefaces": typefaces,
    "coverage": coverage,
    "calibration": calibration,
    "ood": ood,
    "pictures": pictures,
    "paper": paper,
    "lines": lines,
    "devices": devices,
    "exporters": exporters,
    "interop": interop,
    "engines": engines,
    "peers": peers,
}
"""By the name of its place in a document."""


def cards(subjects: Subjects) -> dict[Path, str]:
    """The card of each pretrained model, by path."""
    return {
        Path(PRETRAINED, name, "README.md"): card(name, manifest, len(subjects.data.train), judged(subjects, name))
        for name, manifest in subjects.manifests.items()
    }


def judged(subjects: Subjects, name: str) -> dict[str, str]:
    """The means of a pretrained model's robustness, by what they are means of."""
    place, forms = subjects.place(f"`{name}`"), len(subjects.handwriting)
    means = measure_corruptions.all_means(subjects.corrupted)
    written = measure_handwriting.summary(subjects.handwriting)[place]
    images = measure_handwriting.FRAMED * forms
    return {f"corruptions, {group}": f"{row[place]:.2f} %" for group, row in means.items()} | {
        f"drawn digits in {forms} forms of other countries": f"{written.framed:.2f} %, "
        f"{written.framed_errors:,} errors of {images:,}"
    }
