"""The parts of a report about answers: confusion, mistakes, reliability, coverage, distortions, learning curves."""

from collections import Counter
from collections.abc import Sequence
from typing import Final

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.layout import TRAINING
from mnist_edge.bundle.records import TrainingRecord
from mnist_edge.evaluation import metrics
from mnist_edge.evaluation.mistakes import Mistake, mistakes
from mnist_edge.report import plots, vector
from mnist_edge.report.facts import Distorted, Facts
from mnist_edge.report.markup import Markup, caption, id_of, joined, name_of, picture, scroller, table, tag
from mnist_edge.report.plots import LONGEST_LABEL, shortened
from mnist_edge.report.words import limit, percent, points

MOST_CLASSES: Final = 64
"""With more classes the most frequent confusions are listed in place of the matrix, which would be most of the page."""

MOST_ROOMY: Final = 16
"""With more classes the cells of the matrix are narrow."""

MOST_CONFUSIONS: Final = 50

MOST_MISTAKES: Final = 36

LONGEST_HEAD: Final = 3
"""If a label is longer, those above the columns of the confusion matrix stand upright."""

LONGEST_WORD: Final = 10
"""Longer labels beside its rows may have several lines."""

LONGEST_NAME: Final = 32
"""Longer labels are shortened where they would take too much room."""

SHADES: Final = (0.01, 0.05)
"""From these shares of a true class on, a cell of the confusion matrix has a stronger colour."""


def learning(facts: Facts) -> Markup:
    """The loss and accuracy of each epoch, if the bundle tells."""
    record = facts.record
    if not isinstance(record, TrainingRecord):
        return tag("p", f"There are none: {_no_curves(facts)}.")
    last = record.epochs[-1].test
    figure = vector.inline(
        plots.learning_curves(record.epochs, in_page=True),
        "learning-plot",
        "Learning curves",
        "Two line charts, epoch by epoch: the loss in training and on the test set, and the test accuracy, which "
        f"ends at {percent(last.accuracy)}. The table below holds the numbers.",
    )
    rows = [
        (
            str(epoch.number),
            f"{epoch.train_loss:.4f}",
            f"{epoch.test.loss:.4f}",
            percent(epoch.test.accuracy),
            f"{epoch.lr:.3g}",
            f"{epoch.training_seconds:.1f} s",
        )
        for epoch in record.epochs
    ]
    header = ("epoch", "training loss", "test loss", "test accuracy", "last learning rate", "training time")
    return joined(
        tag(
            "p",
            "The PyTorch model after each epoch. The training loss is what was optimised, with smoothed labels and "
            f"distorted images if there were any; the test loss is that of all {last.total:,} test images of "
            f"{record.data.name}.",
        ),
        tag("figure", figure, tag("figcaption", "Loss in nats; lower is better. Accuracy in percent.")),
        _numbers(table("Each epoch of the training", header, rows)),
    )


def _no_curves(facts: Facts) -> str:
    if facts.record is not None:
        return "the weights were imported"
    state = facts.states.get(TRAINING, "")
    if state == "altered":
        return f"{TRAINING} was altered since the export"
    return "the bundle holds no record of its training"


def confusion(facts: Facts) -> Markup:
    """Which classes are taken for which."""
    counts = np.array(facts.evaluation.confusion)
    frequent = sorted(
        (-int(counts[truth, answer]), int(truth), int(answer))
        for truth, answer in zip(*np.nonzero(counts), strict=True)
        if truth != answer
    )
    listed = table(
        f"The most frequent of {len(frequent):,} confusions" if len(frequent) > MOST_CONFUSIONS else "All confusions",
        ("true class", "answer", "images", "share of the class"),
        texts=(1,),
        rows=[
            (
                name_of(facts.labels[truth]),
                name_of(facts.labels[answer]),
                f"{-count:,}",
                percent(-count / counts[truth].sum()),
            )
            for count, truth, answer in frequent[:MOST_CONFUSIONS]
        ],
    )
    if len(facts.labels) > MOST_CLASSES:
        words = f"A matrix of {len(facts.labels)} classes would be too large here: evaluate --json prints it."
        shown = [tag("p", words), listed if frequent else tag("p", "No image was taken for one of another class.")]
    else:
        words = (
            "A row for each true class, a column for each answer. Right answers are on the diagonal, in blue; the "
            "stronger the orange, the larger the share of the class that is taken for another."
        )
        shown = [tag("p", words), _matrix(counts, facts.labels)]
    return joined(*shown, _per_class(facts))


def _matrix(counts: NDArray[np.int64], labels: Sequence[str]) -> Markup:
    is_long = max(map(len, labels)) > LONGEST_HEAD
    heads = _shorts(labels, LONGEST_LABEL)
    names = _shorts(labels, LONGEST_NAME)
    if is_long:
        heads = [tag("div", name, class_="upright") for name in heads]
    top = tag("tr", tag("th", "true class", scope="col"), *(tag("th", head, scope="col") for head in heads))
    totals = np.maximum(counts.sum(axis=1), 1)
    rows = [
        tag(
            "tr",
            tag("th", names[row], scope="row", class_="long" if len(label) > LONGEST_WORD else None),
            *(_cell(int(count), count / total, is_hit=column == row) for column, count in enumerate(counts[row])),
        )
        for row, (label, total) in enumerate(zip(labels, totals, strict=True))
    ]
    words = f"Images of each true class by answer, {counts.sum():,} in all; an empty cell is 0"
    name = id_of(words)
    kind = "confusion dense" if len(labels) > MOST_ROOMY else "confusion"
    return scroller(name, tag("table", caption(words, name), tag("thead", top), tag("tbody", *rows), class_=kind))


def _shorts(labels: Sequence[str], longest: int) -> list[Markup]:
    """Labels of at most so many characters. Those that would look alike have the number of their class."""
    alike = Counter(shortened(label, longest) for label in labels)
    return [
        _short(label, longest, f" ({number})" if alike[shortened(label, longest)] > 1 else "")
        for number, label in enumerate(labels)
    ]


def _short(label: str, longest: int, number: str = "") -> Markup:
    """A label of at most so many characters; the whole of it appears beneath the pointer."""
    shown = shortened(label, longest - len(number)) + number
    return tag("bdi", tag("abbr", shown, title=label) if shown != label else shown)


def _cell(count: int, share: float, *, is_hit: bool) -> Markup:
    if count == 0:
        return tag("td")
    shade = ("hit2" if share > 0.5 else "hit1") if is_hit else f"miss{1 + sum(share >= bound for bound in SHADES)}"
    return tag("td", f"{count:,}", class_=shade)


def _per_class(facts: Facts) -> Markup:
    rows = [
        (name_of(label), f"{each.support:,}", percent(each.precision), percent(each.recall), percent(each.f1))
        for label, each in facts.evaluation.per_class.items()
    ]
    explained = (
        "Precision: the share of a class's answers that are right. Recall: the share of its images that are found. F1: "
        "their harmonic mean."
    )
    shown = table("Figures of each class", ("class", "images", "precision", "recall", "F1"), rows)
    is_short = len(rows) <= MOST_CLASSES
    heading = tag("h3", "Each class", id="classes")
    return joined(heading, tag("p", explained), shown if is_short else _numbers(shown))


def worst(facts: Facts) -> Markup:
    """The mistakes that the model is surest of, as pictures."""
    found = mistakes(facts.probabilities, facts.truth)
    if not found:
        return tag("p", f"There are none in {len(facts.truth):,} images.")
    shown = found[:MOST_MISTAKES]
    which = f"the {len(shown)} with the most confident answers" if len(shown) < len(found) else "all of them"
    words = f"{len(found):,} of {len(facts.truth):,} test images get a wrong answer. Here are {which}."
    items = [tag("li", _mistake(mistake, facts)) for mistake in shown]
    return joined(tag("p", words), tag("ul", *items, class_="mistakes", role="list"))


def _mistake(mistake: Mistake, facts: Facts) -> Markup:
    truth, answer = (facts.labels[each] for each in (mistake.truth, mistake.answer))
    at_truth = float(facts.probabilities[mistake.index, mistake.truth])
    image = picture(facts.images[mistake.index], f"Test image {mistake.index}, which shows {truth}", 4)
    told = tag(
        "figcaption",
        joined("is ", tag("strong", _short(truth, LONGEST_NAME)), f", {percent(at_truth, 1)}"),
        tag("br"),
        joined("read as ", tag("strong", _short(answer, LONGEST_NAME)), f", {percent(mistake.probability, 1)}"),
        tag("br"),
        f"image {mistake.index}",
    )
    return tag("figure", image, told)


def reliability(facts: Facts) -> Markup:
    """Whether probabilities are as large as the share of right answers."""
    found = metrics.reliability(facts.probabilities, facts.truth)
    result = facts.evaluation
    figure = vector.inline(
        plots.reliability(found, in_page=True),
        "reliability-plot",
        "Reliability",
        "Above, the accuracy of the answers against their confidence, beside the line of a perfectly calibrated model; "
        "below, the number of images in each bin of confidence. The table below holds the numbers.",
    )
    edges = np.linspace(0, 1, len(found.images) + 1)
    rows = [
        (
            f"{100 * edges[number]:.0f} to {percent(edges[number + 1], 0)}",
            f"{found.images[number]:,}",
            percent(found.confidence[number]),
            percent(found.accuracy[number]),
        )
        for number in np.flatnonzero(found.images)
    ]
    header = ("confidence", "images", "mean confidence", "accuracy")
    words = (
        "The confidence of an answer is its probability. In a well calibrated model, 90 of 100 answers with a "
        "confidence of 90 % are right. The expected calibration error, the mean gap between the two, is "
        f"{percent(result.calibration_error)} at temperature {result.temperature:g}, by which the outputs are divided "
        "before the softmax."
    )
    return joined(
        tag("p", words),
        tag("figure", figure, tag("figcaption", f"{len(facts.truth):,} images in {len(found.images)} bins")),
        _numbers(table("Each bin of confidence that has images", header, rows)),
    )


def coverage(facts: Facts) -> Markup:
    """How many images can be answered at a target accuracy."""
    targets = facts.evaluation.coverage
    figure = vector.inline(
        plots.coverage(metrics.coverage_curve(facts.probabilities, facts.truth), targets, in_page=True),
        "coverage-plot",
        "Coverage",
        "The accuracy of the answers that are given, as more and more of the least confident ones are withheld. The "
        "target accuracies of the table below are marked.",
    )
    rows = [
        (
            f"{100 * each.accuracy:g} %",
            *((percent(each.share), limit(each.min_probability)) if each.share else ("not reached", "-")),
        )
        for each in targets
    ]
    words = "A model that abstains where it is unsure is right more often. With --min-probability, predict abstains."
    header = ("target accuracy", "images answered", "--min-probability")
    return joined(
        tag("p", words),
        tag("figure", figure, tag("figcaption", f"{len(facts.truth):,} images")),
        table("How many images can be answered at a target accuracy", header, rows),
    )


def distortions(facts: Facts) -> Markup:
    """How the model bears distorted images."""
    clean = facts.undistorted
    rows = [_distorted(each, clean) for each in (clean, *facts.distorted)]
    header = ("distortion", "example", "accuracy", "change")
    mean = sum(each.correct / each.total for each in facts.distorted) / len(facts.distorted)
    words = (
        f"The same file on {clean.total:,} test images, distorted in {len(facts.distorted)} fixed ways: "
        f"{percent(mean)} on average. Changes are in percentage points."
    )
    return joined(tag("p", words), table("Accuracy on distorted images", header, rows, texts=(1,)))


def _distorted(each: Distorted, clean: Distorted) -> tuple[str, ...]:
    accuracy = each.correct / each.total
    change = "" if each is clean else points(accuracy - clean.correct / clean.total, signed=True)
    name = joined(each.name, " ", tag("small", each.does))
    return name, picture(each.example, f"A test image: {each.name}", 2), percent(accuracy), change


def _numbers(content: Markup) -> Markup:
    return tag("details", tag("summary", "The numbers"), content)
