"""The figures of the pretrained models that the documents show: Markdown by the name of its place.

A new figure is a function from `Subjects` to lines of Markdown, an entry of `FIGURES`, and a place in a document::

    <!-- figures: NAME -->
    <!-- end -->
"""

from collections.abc import Callable
from functools import cached_property
from pathlib import Path
from statistics import mean

import measure_corruptions
import measure_models
import measure_ood
import measure_pictures
import numpy as np
from model_card import card
from tables import markdown, paragraph

from mnist_edge import Classifier
from mnist_edge.bundle import layout, reading
from mnist_edge.bundle.layout import ARTIFACTS
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.records import Manifest
from mnist_edge.data import datasets
from mnist_edge.data.datasets import Dataset
from mnist_edge.evaluation import metrics
from mnist_edge.evaluation.evaluation import ACCURACIES
from mnist_edge.runtime.model import DEFAULT_PRETRAINED, PRETRAINED, file_that_answers, pretrained
from mnist_edge.runtime.prediction import softmax

PLAIN = "cnn-plain"
REFERENCES = ("simple-nn", PLAIN)
"""Models in artifacts that robustness is compared with."""

LIMIT = 0.99
"""The `--max-ood` whose refusals are shown."""

LOST = 1.0
"""From how many points on the augmentation is said to cost accuracy."""

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

    @cached_property
    def corrupted(self) -> dict[str, dict[str, float]]:
        """Of the pretrained models, the accuracy in percent by heading and kind of corruption."""
        return self.on_corruptions(self.every)

    @cached_property
    def references(self) -> dict[str, Classifier]:
        """The models of `REFERENCES` by heading."""
        return {f"`{name}`": Classifier(Path(ARTIFACTS, name)) for name in REFERENCES}

    @cached_property
    def references_corrupted(self) -> dict[str, dict[str, float]]:
        """The same as `corrupted`."""
        return self.on_corruptions(self.references)

    def on_corruptions(self, models: dict[str, Classifier]) -> dict[str, dict[str, float]]:
        """The accuracy in percent, by heading and kind of corruption."""
        return columns([*models], measure_corruptions.measured([*models.values()], self.data.test))

    @cached_property
    def runs(self) -> measure_models.Runs:
        """The trainings with several seeds."""
        return {architecture: measure_models.kept(architecture) for architecture in Architecture}


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
    columns = subjects.references_corrupted | subjects.corrupted
    classifiers = subjects.references | subjects.every
    clean = [measure_corruptions.accuracy(classifiers[heading], subjects.data.test) for heading in columns]
    kinds = next(iter(columns.values()))
    return measure_corruptions.lines(
        [*columns], clean, {kind: [column[kind] for column in columns.values()] for kind in kinds}
    )


def augmentation(subjects: Subjects) -> list[str]:
    """What the augmentation gains and costs the default model."""
    plain, full = subjects.references_corrupted[f"`{PLAIN}`"], subjects.corrupted[f"`{DEFAULT_PRETRAINED}`"]
    gain = mean(full.values()) - mean(plain.values())
    lost = [f"{kind} ({plain[kind] - full[kind]:.1f})" for kind in full if plain[kind] - full[kind] >= LOST]
    return paragraph(
        f"Augmentation gains `{DEFAULT_PRETRAINED}` {gain:.1f} points in the mean of all kinds. Where it costs a point "
        f"or more: {', '.join(lost) or 'nowhere'}."
    )


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
            row += [f"{100 * share:.2f} %", f"{limit:.4f}"]
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


FIGURES: dict[str, Callable[[Subjects], list[str]]] = {
    "models": models,
    "accuracy": accuracy,
    "files": files,
    "corruptions": corruptions,
    "augmentation": augmentation,
    "coverage": coverage,
    "calibration": calibration,
    "ood": ood,
    "pictures": pictures,
    "paper": paper,
    "lines": lines,
}
"""By the name of its place in a document."""


def cards(subjects: Subjects) -> dict[Path, str]:
    """The card of each pretrained model, by path."""
    return {
        Path(PRETRAINED, name, "README.md"): card(
            name, manifest, len(subjects.data.train), subjects.corrupted[f"`{name}`"]
        )
        for name, manifest in subjects.manifests.items()
    }
