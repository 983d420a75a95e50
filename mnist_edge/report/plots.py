"""Plots of an evaluation and of a training, as matplotlib figures. They need the extra `plot`.

No window is opened and no global state of pyplot touched. The user's own matplotlib settings have no effect, so equal
numbers give equal files with the same version of matplotlib. The colours can be told apart by the colour-blind.

Plots are drawn for a PNG file, or with ``in_page=True`` for `mnist_edge.report.page`: no wider than a telephone, with
larger letters and without a title, which the page has.
"""

from collections.abc import Callable, Sequence
from functools import wraps
from pathlib import Path
from typing import TYPE_CHECKING, Final, ParamSpec

import numpy as np
from numpy.typing import NDArray

from mnist_edge.bundle.records import Epoch
from mnist_edge.evaluation.evaluation import Coverage
from mnist_edge.evaluation.metrics import CoverageCurve, Reliability
from mnist_edge.extras import require
from mnist_edge.report import words

if TYPE_CHECKING:
    from matplotlib.axis import Axis
    from matplotlib.figure import Figure

DPI: Final = 120

LONGEST_LABEL: Final = 16
"""Longer labels are shortened on an axis."""

PER_CHARACTER: Final = 0.068
"""Inches that a character of a heading takes, on average."""

# Okabe and Ito's colours, which differ for every kind of colour vision.
BLUE: Final = "#0072B2"
ORANGE: Final = "#D55E00"
GREY: Final = "#767676"
GRID: Final = "#e5e5e5"

COLOURS: Final = {"ink": "#000000", "paper": "#ffffff", "blue": BLUE, "orange": ORANGE, "grey": GREY, "grid": GRID}
"""All colours of the plots that a page shows, which gives each its own in the light and in the dark."""

PAGE_WIDTH: Final = 4.8
"""Inches. At 72 points an inch, a telephone shows a point as about a pixel."""

PAGE_SETTINGS: Final = {"font.size": 11, "legend.fontsize": 10, "legend.framealpha": 1, "legend.edgecolor": GRID}

Arguments = ParamSpec("Arguments")


def drawing(draw: "Callable[Arguments, Figure]") -> "Callable[Arguments, Figure]":
    """Make a function draw with matplotlib's default settings, if matplotlib is installed."""

    @wraps(draw)
    def run(*arguments: Arguments.args, **named: Arguments.kwargs) -> "Figure":
        require("matplotlib", extra="plot")
        from matplotlib import style

        with style.context(["default", PAGE_SETTINGS] if named.get("in_page") else "default"):
            return draw(*arguments, **named)

    return run


def save(figure: "Figure", path: Path) -> None:
    """Write a figure as a PNG file."""
    from matplotlib import style

    with style.context("default"):
        figure.savefig(path, format="png", dpi=DPI, metadata={"Software": "mnist-edge"})


@drawing
def confusion(counts: NDArray[np.int64], labels: Sequence[str], heading: str = "") -> "Figure":
    """A confusion matrix: a number in every cell that is not zero, coloured by its share of the true class.

    Args:
        counts: [classes, classes]: rows are true classes, columns are predicted ones.
        labels: the name of each class.
        heading: the line below the title, such as what was evaluated on what.
    """
    from matplotlib import colormaps
    from matplotlib.colors import PowerNorm

    classes = len(labels)
    # In inches. Up to about 100 classes every number can be read; beyond, the file would be too large.
    cell = min(1.2, 5.5 / classes) if classes <= 12 else 0.4 if classes <= 30 else min(0.3, 30 / classes)
    digits = max(3, len(str(counts.max())))
    size = min(10, 72 * cell * 0.92 / (0.64 * digits))  # a digit is 0.64 of its size wide
    names = [shortened(drawable(label) or f"class {i}", LONGEST_LABEL) for i, label in enumerate(labels)]
    length = max(map(len, names))
    side, margin = classes * cell, 0.65 + 0.075 * length
    figure = empty_figure(max(7, side + margin + 1.2), side + margin + 1)
    width, height = figure.get_size_inches()
    axes = figure.add_axes((margin / width, margin / height, side / width, side / height))

    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    # The few errors of a good model would be invisible on a linear scale.
    norm = PowerNorm(0.35, vmin=0, vmax=1)
    colours = colormaps["cividis_r"]
    image = axes.imshow(np.ma.masked_equal(shares, 0), norm=norm, cmap=colours, interpolation="nearest")
    is_dark = norm(shares) > 0.55
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(
            column,
            row,
            str(counts[row, column]),
            ha="center",
            va="center_baseline",
            size=size,
            color="w" if is_dark[row, column] else "k",
        )
    upright = length > 2
    label_size = min(10.0, 72 * cell * 0.8)
    axes.set_xticks(range(classes), names, rotation=90 if upright else 0, size=label_size, parse_math=False)
    axes.set_yticks(range(classes), names, size=label_size, parse_math=False)
    axes.set_xticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.set_yticks(np.arange(classes + 1) - 0.5, minor=True)
    axes.grid(which="minor", color="0.88", linewidth=0.6)
    axes.tick_params(which="both", length=0)
    axes.set_xlabel("predicted class")
    axes.set_ylabel("true class")
    tall = min(side, 6)
    bar = figure.add_axes(((margin + side + 0.2) / width, (margin + side - tall) / height, 0.16 / width, tall / height))
    ticks = (0.001, 0.01, 0.05, 0.2, 0.5, 1)
    figure.colorbar(image, cax=bar, ticks=ticks).set_ticklabels([short_percent(share) for share in ticks])
    bar.set_title("share of\ntrue class", size=8, loc="left")
    bar.tick_params(labelsize=8)
    add_title(figure, "Confusion matrix", heading, left=margin / width)
    return figure


@drawing
def reliability(found: Reliability, heading: str = "", *, in_page: bool = False) -> "Figure":
    """Accuracy against confidence, and the number of images in each bin.

    Args:
        found: from `mnist_edge.evaluation.metrics.reliability`.
        heading: the line below the title.
        in_page: whether to draw it for a page.
    """
    figure = empty_figure(PAGE_WIDTH, 6.2) if in_page else empty_figure(7.5, 7)
    edge = {"left": 0.22, "right": 0.93, "top": 0.89} if in_page else {"left": 0.12, "right": 0.96, "top": 0.89}
    heights = (2, 1) if in_page else (2.4, 1)
    upper, lower = figure.subplots(2, sharex=True, gridspec_kw={"height_ratios": heights, "hspace": 0.08, **edge})
    bins = len(found.images)
    edges, filled = np.linspace(0, 1, bins + 1), found.images > 0
    middle = (edges[:-1] + edges[1:]) / 2
    upper.plot([0, 1], [0, 1], "--", color=GREY, label="perfectly calibrated")
    low, high = _interval(found.accuracy[filled], found.images[filled])
    upper.vlines(found.confidence[filled], low, high, color=BLUE, linewidth=1.2, label="95 % interval")
    upper.plot(
        found.confidence[filled],
        found.accuracy[filled],
        "o-",
        color=BLUE,
        linewidth=1,
        label="the model",
        clip_on=False,
        zorder=3,
    )
    upper.set_ylabel("accuracy")
    in_percent(upper.yaxis)
    upper.set_ylim(-0.03, 1.03)
    upper.grid(color=GRID)
    if in_page:
        figure.legend(loc="upper center", ncols=2, frameon=False)
    else:
        figure.legend(loc="upper right", bbox_to_anchor=(0.97, 1), ncols=3, frameon=False, fontsize=9)

    lower.bar(middle, found.images, width=0.9 / bins, color=BLUE)
    upright = {"rotation": 90, "size": 10} if in_page else {"size": 7}
    for x, count in zip(middle[filled], found.images[filled], strict=True):
        lower.annotate(
            f"{count:,}", (x, count), (0, 3), textcoords="offset points", ha="center", va="bottom", **upright
        )
    lower.set_yscale("log")
    lower.minorticks_off()
    lower.yaxis.set_major_formatter(lambda count, _: f"{count:,.0f}")
    lower.set_ylim(0.7, (3000 if in_page else 6) * max(1, found.images.max()))
    if in_page:  # the room above is for the numbers on the bars
        lower.set_yticks([tick for tick in lower.get_yticks() if 1 <= tick <= max(1, found.images.max())])
    lower.set_xlim(0, 1)
    in_percent(lower.xaxis)
    lower.set_xlabel("confidence: the largest probability")
    lower.set_ylabel("images (n)")
    lower.set_axisbelow(True)
    lower.grid(axis="y", color=GRID)
    if not in_page:
        add_title(figure, "Reliability", heading)
    return figure


@drawing
def coverage(
    curve: CoverageCurve, targets: Sequence[Coverage] = (), heading: str = "", *, in_page: bool = False
) -> "Figure":
    """The accuracy of the answers as the least confident ones are withheld.

    Args:
        curve: from `mnist_edge.evaluation.metrics.coverage_curve`.
        targets: the target accuracies to mark.
        heading: the line below the title.
        in_page: whether to draw it for a page.
    """
    figure = empty_figure(PAGE_WIDTH, 3.6) if in_page else empty_figure(7.5, 5)
    axes = figure.add_axes((0.22, 0.15, 0.71, 0.82) if in_page else (0.15, 0.12, 0.82, 0.73))
    withheld = 1 - curve.share
    axes.plot(withheld, curve.accuracy, color=BLUE)
    for target, mark in zip(targets, "osD^v", strict=False):
        if target.share == 0:
            continue
        withholding = (
            f"{100 * (1 - target.share):.2f} % withheld by --min-probability {words.limit(target.min_probability)}"
        )
        label = short_percent(target.accuracy) if in_page else f"{short_percent(target.accuracy)}: {withholding}"
        at = int(np.argmin(np.abs(curve.share - target.share)))
        axes.plot(withheld[at], curve.accuracy[at], mark, color=ORANGE, label=label, clip_on=False, zorder=3)
    axes.set_xlim(0, _interesting(curve))
    shown = curve.accuracy[withheld <= axes.get_xlim()[1]]
    low, high = float(shown.min()), float(shown.max())
    span = max(high - low, 0.001)
    axes.set_ylim(low - (0.05 if high > low else 1) * span, high + 0.05 * span)
    axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 1 + 1e-9])
    in_percent(axes.xaxis)
    in_percent(axes.yaxis)
    axes.set_xlabel("images withheld, the least confident first")
    axes.set_ylabel("accuracy of the others")
    axes.grid(color=GRID)
    if axes.get_legend_handles_labels()[0]:
        axes.legend(loc="lower right", title="target accuracy", alignment="left")
    if not in_page:
        add_title(figure, "Coverage against accuracy", heading)
    return figure


@drawing
def learning_curves(epochs: Sequence[Epoch], heading: str = "", *, in_page: bool = False) -> "Figure":
    """Loss and test accuracy of each epoch.

    Args:
        epochs: as recorded by the training; at least one.
        heading: the line below the title.
        in_page: whether to draw it for a page.
    """
    from matplotlib.ticker import MaxNLocator

    figure = empty_figure(PAGE_WIDTH, 6.4) if in_page else empty_figure(9, 4.5)
    beside = {"left": 0.08, "right": 0.98, "bottom": 0.13, "top": 0.8, "wspace": 0.27}
    below = {"left": 0.24, "right": 0.96, "bottom": 0.08, "top": 0.98, "hspace": 0.25}
    left, right = figure.subplots(*((2, 1) if in_page else (1, 2)), gridspec_kw=below if in_page else beside)
    numbers = [epoch.number for epoch in epochs]
    style = {"marker": "o", "markersize": 4 if len(epochs) <= 40 else 0}
    left.plot(numbers, [epoch.train_loss for epoch in epochs], color=ORANGE, linestyle="--", label="training", **style)
    left.plot(numbers, [epoch.test.loss for epoch in epochs], color=BLUE, label="test", **style)
    left.set_ylabel("loss (nats)")
    left.set_ylim(bottom=0)
    left.legend()
    right.plot(numbers, [epoch.test.accuracy for epoch in epochs], color=BLUE, **style)
    right.set_ylabel("test accuracy")
    if in_page:
        right.yaxis.set_major_locator(MaxNLocator(6))
    in_percent(right.yaxis)
    for axes in (left, right):
        axes.set_xlabel("epoch")
        axes.xaxis.set_major_locator(MaxNLocator(integer=True, min_n_ticks=1))
        if len(epochs) == 1:
            axes.set_xlim(numbers[0] - 0.5, numbers[0] + 0.5)
        axes.grid(color=GRID)
    if not in_page:
        right.set_title(f"last epoch: {100 * epochs[-1].test.accuracy:.2f} %", size=10, loc="right")
        left.set_title("training loss: as optimised, with any augmentation", size=8, loc="left", color=GREY)
        add_title(figure, "Learning curves", heading)
    return figure


def shortened(text: str, longest: int) -> str:
    """A text of at most so many characters, cut in the middle."""
    if len(text) <= longest:
        return text
    kept = longest - 1
    return f"{text[: kept - kept // 2]}…{text[len(text) - kept // 2 :]}"


def drawable(text: str) -> str | None:
    """The text, if matplotlib's own font has all its characters."""
    from matplotlib.font_manager import findfont, get_font

    font = get_font(findfont("DejaVu Sans"))
    return text if all(font.get_char_index(ord(character)) for character in text) else None


def short_percent(share: float) -> str:
    """A share without trailing zeros.

    >>> short_percent(0.995)
    '99.5 %'
    """
    return f"{100 * share:.4f}".rstrip("0").rstrip(".") + " %"


def in_percent(axis: "Axis") -> None:
    """Write the ticks of an axis as percentages, all with as many decimals as one of them needs."""

    def written(share: float, _: object) -> str:
        low, high = sorted(axis.get_view_interval())
        ticks = [each for each in axis.get_majorticklocs() if low <= each <= high]
        decimals = max((len(short_percent(each)[:-2].partition(".")[2]) for each in ticks), default=0)
        return f"{100 * share:.{decimals}f} %"

    axis.set_major_formatter(written)


def empty_figure(width: float, height: float) -> "Figure":
    """An empty figure, in inches, that belongs to no window."""
    from matplotlib.figure import Figure

    return Figure(figsize=(width, height), facecolor="w")


def add_title(figure: "Figure", title: str, heading: str, left: float | None = None) -> None:
    """Write a title and the line below it, flush with the first axes or at this fraction of the figure's width."""
    width, height = figure.get_size_inches()
    left = figure.axes[0].get_position().x0 if left is None else left
    heading = shortened(heading, int((0.98 - left) * width / PER_CHARACTER))
    heading = "".join(drawable(character) or "?" for character in heading)
    figure.text(left, 1 - 0.12 / height, title, size=13, weight="bold", va="top")
    figure.text(left, 1 - 0.38 / height, heading, size=9, va="top", parse_math=False)


def _interval(share: NDArray[np.float64], n: NDArray[np.int64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """The 95 % interval of a share of n (Wilson 1927)."""
    z = 1.96
    middle = (share + z * z / (2 * n)) / (1 + z * z / n)
    half = z / (1 + z * z / n) * np.sqrt(share * (1 - share) / n + z * z / (4 * n * n))
    return middle - half, middle + half


def _interesting(curve: CoverageCurve) -> float:
    """Up to which share of withheld images a plot says anything: half as far again as to the best accuracy."""
    best = curve.accuracy[curve.share >= 0.05].max()
    withheld = 1 - curve.share[np.flatnonzero(curve.accuracy >= best)[-1]]
    return float(min(1.0, max(0.02, 1.5 * withheld)))
