"""What a model's files cost and what they answer: latency against accuracy, the size as the dot."""

import itertools
import math
from collections.abc import Sequence
from typing import TYPE_CHECKING, Final, Literal, NamedTuple

from mnist_edge.report.plots import (
    BLUE,
    GREY,
    GRID,
    PAGE_WIDTH,
    add_title,
    drawable,
    drawing,
    empty_figure,
    in_percent,
    shortened,
)
from mnist_edge.report.words import size

if TYPE_CHECKING:
    from matplotlib.axes import Axes
    from matplotlib.figure import Figure
    from matplotlib.text import Text

LONGEST_NAME: Final = 32

LARGEST_DOT: Final = 700.0
"""Area of the largest file's dot, in square points."""

SMALLEST_DOT: Final = 20.0
"""A smaller one could not be seen. Files of less than a thirty-fifth of the largest are drawn larger than they are."""

DECADE: Final = 10
"""Latencies that differ by more than this factor are drawn on a logarithmic scale."""

MIN_SPAN: Final = 0.001
"""Accuracies closer together than this, as a fraction, are not drawn further apart than they deserve."""

_SIDES: Final = ((1, 0), (0, -1), (0, 1), (-1, 0), (1, -1), (1, 1), (-1, -1), (-1, 1))
"""Where a label may stand, seen from its dot: right, below, above and so on; the earlier the better."""

_GAPS: Final = (4, 16, 32, 52, 76)
"""How far from the dot's edge it may stand, in points."""

_CLEARANCE: Final = 1.06
"""Browsers draw the text of an SVG file in other fonts, up to so much wider."""

_ORDERS: Final = 120
"""So many orders of placing the labels are tried at most, which are all orders of five."""

Box = tuple[float, float, float, float]
"""Left, bottom, right and top, in pixels."""


class Point(NamedTuple):
    """A file's figures."""

    name: str

    microseconds: float
    """Median latency of one image."""

    accuracy: float
    """As a fraction."""

    bytes: int

    recommended: bool = False

    p95: float | None = None
    """95th percentile of the latency, in microseconds."""


@drawing
def tradeoff(points: Sequence[Point], heading: str = "", *, in_page: bool = False) -> "Figure":
    """The files of one model: latency of one image against accuracy, with the file's size as the area of its dot.

    The recommended file is blue and named in bold, the others are grey. All figures are written beside the dots.

    Args:
        points: the files; at least one.
        heading: the line below the title, such as the model and the machine.
        in_page: whether to draw it for a page.

    >>> from mnist_edge.report.tradeoff import Point, tradeoff
    >>> figure = tradeoff([Point("model.onnx", 120, 0.9965, 288_934), Point("model.h", 900, 0.9964, 250_112)])
    >>> figure.axes[0].get_xlabel()
    'latency of one image, median (µs)'
    """
    figure = empty_figure(PAGE_WIDTH, 4.4) if in_page else empty_figure(7.5, 5)
    axes = figure.add_axes((0.23, 0.13, 0.73, 0.84) if in_page else (0.13, 0.13, 0.84, 0.72))
    _set_scales(axes, points)
    largest = max(point.bytes for point in points)
    areas = [max(SMALLEST_DOT, LARGEST_DOT * point.bytes / largest) for point in points]
    for point, area in sorted(zip(points, areas, strict=True), key=lambda pair: -pair[1]):
        colour = BLUE if point.recommended else GREY
        if point.p95 is not None:
            axes.plot(
                [point.microseconds, point.p95], [point.accuracy] * 2, "-|", color=colour, markevery=[1], zorder=2
            )
        axes.scatter(
            point.microseconds, point.accuracy, area, color=colour, edgecolor="w", linewidth=1, clip_on=False, zorder=3
        )
    if not in_page:  # the page has a caption
        words = "the dot's area is the file's size"
        axes.text(0.985, 0.025, words, transform=axes.transAxes, ha="right", size=8, color=GREY)
        add_title(figure, "Latency against accuracy", heading)
    _label(axes, points, areas, font=10 if in_page else 9)
    return figure


def _set_scales(axes: "Axes", points: Sequence[Point]) -> None:
    from matplotlib.ticker import LogLocator, NullFormatter

    medians = [point.microseconds for point in points]
    slowest = max(point.p95 or point.microseconds for point in points)
    axes.set_xlim(0, 1.25 * slowest)
    if max(medians) > DECADE * min(medians):
        axes.set_xscale("log")
        axes.set_xlim(min(medians) / 2, 2.5 * slowest)
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
        axes.xaxis.set_minor_formatter(NullFormatter())
    axes.xaxis.set_major_formatter(lambda value, _: f"{value:,.10g}")
    accuracies = [point.accuracy for point in points]
    span = max(MIN_SPAN, max(accuracies) - min(accuracies))
    axes.set_ylim(min(accuracies) - 0.7 * span, min(max(accuracies) + 0.6 * span, 1 + 0.1 * span))
    axes.set_yticks([tick for tick in axes.get_yticks() if axes.get_ylim()[0] <= tick <= 1 + 1e-9])
    in_percent(axes.yaxis)
    has_spread = any(point.p95 is not None for point in points)
    axes.set_xlabel(f"latency of one image, median{', with a line to the 95th percentile' * has_spread} (µs)")
    axes.set_ylabel("accuracy")
    axes.grid(color=GRID)
    axes.set_axisbelow(True)


class _Place(NamedTuple):
    """Where a label may stand."""

    box: Box

    line: tuple[Box, ...]
    """The line to its dot, as small boxes; empty for a label that touches its dot."""

    alignment: Literal["left", "center", "right"]


def _label(axes: "Axes", points: Sequence[Point], areas: Sequence[float], font: int) -> None:
    """Write each file's figures beside its dot, where neither dots, spreads nor other labels are."""
    frame = axes.get_window_extent().extents
    per_point = axes.figure.dpi / 72
    obstacles: list[Box] = [text.get_window_extent().extents for text in axes.texts]
    labels, dots = [_text(axes, point, font) for point in points], []
    for point, area in zip(points, areas, strict=True):
        (x, y), (end, _) = axes.transData.transform(
            [(point.microseconds, point.accuracy), (point.p95 or point.microseconds, point.accuracy)]
        )
        radius = per_point * math.sqrt(area / math.pi)
        dots.append((x, y, radius))
        obstacles += [(x - radius, y - radius, x + radius, y + radius), (x, y - 6, end + 3, y + 6)]
    choices = []
    for label, dot in zip(labels, dots, strict=True):
        extent = label.get_window_extent()
        places = _places(dot, _CLEARANCE * extent.width, _CLEARANCE * extent.height, per_point)
        choices.append([(place, _cost(place, obstacles) + 10 * _beyond(place.box, frame)) for place in places])
    to_axes, to_data = axes.transAxes.inverted(), axes.transData.inverted()
    for label, place in zip(labels, _arranged(choices), strict=True):
        x, y = to_axes.transform(_centre(place.box)).tolist()
        label.set_position((x, y))
        label.set_multialignment(place.alignment)
        if place.line:
            ends = to_data.transform([_centre(place.line[0]), _centre(place.line[-1])])
            axes.plot(*ends.T, color=GREY, linewidth=0.8, zorder=2)


def _text(axes: "Axes", point: Point, font: int) -> "Text":
    """A file's figures, whose place is still to be found."""
    name = shortened("".join(drawable(character) or "?" for character in point.name), LONGEST_NAME)
    words = [name, f"{size(point.bytes)}, {point.microseconds:,.0f} µs, {100 * point.accuracy:.2f} %"]
    return axes.text(
        0,
        0,
        "\n".join([*words, *(["recommended"] if point.recommended else [])]),
        transform=axes.transAxes,
        ha="center",
        va="center",
        size=font,
        weight="bold" if point.recommended else "normal",
        color=BLUE if point.recommended else "k",
        parse_math=False,
        zorder=4,
    )


def _places(dot: tuple[float, float, float], width: float, height: float, per_point: float) -> list[_Place]:
    """Where a label of that size may stand, the nearest place first."""
    x, y, radius = dot
    found = []
    for gap, (across, up) in itertools.product(_GAPS, _SIDES):
        length = math.hypot(across, up)
        *line, (near_x, near_y) = (
            (x + across * (radius + step * per_point) / length, y + up * (radius + step * per_point) / length)
            for step in range(4, gap + 1, 4)
        )
        left, bottom = near_x - width * (1 - across) / 2, near_y - height * (1 - up) / 2
        box = left, bottom, left + width, bottom + height
        boxes = tuple((left - 2, bottom - 2, left + 2, bottom + 2) for left, bottom in line)
        found.append(_Place(box, boxes, "left" if across > 0 else "right" if across < 0 else "center"))
    return found


def _arranged(choices: Sequence[Sequence[tuple[_Place, float]]]) -> list[_Place]:
    """A place for each label: each in turn takes the best that is left, in the order that costs least in all.

    Args:
        choices: for each label its places, each with its cost without other labels.
    """
    best: tuple[float, list[_Place]] = math.inf, []
    for order in itertools.islice(itertools.permutations(range(len(choices))), _ORDERS):
        chosen: dict[int, _Place] = {}
        total = 0.0
        for number in order:
            taken = [box for place in chosen.values() for box in (place.box, *place.line)]
            costs = [(round(fixed + _cost(place, taken), 1), place) for place, fixed in choices[number]]
            cost, chosen[number] = min(costs, key=lambda pair: pair[0])  # the first of equals
            total += cost
        if total < best[0]:
            best = total, [chosen[number] for number in range(len(choices))]
    return best[1]


def _cost(place: _Place, taken: Sequence[Box]) -> float:
    """How bad a place is: its label or its line crosses what is there already. A long line is only a little bad."""
    of_label = sum(_shared(place.box, other) for other in taken)
    of_line = sum(_shared(each, other) for each in place.line for other in taken)
    return of_label + of_line + len(place.line)


def _beyond(box: Box, frame: Box) -> float:
    left, bottom, right, top = box
    return (right - left) * (top - bottom) - _shared(box, frame)


def _shared(one: Box, other: Box) -> float:
    """The area that two boxes share."""
    width = min(one[2], other[2]) - max(one[0], other[0])
    height = min(one[3], other[3]) - max(one[1], other[1])
    return width * height if width > 0 and height > 0 else 0.0


def _centre(box: Box) -> tuple[float, float]:
    return (box[0] + box[2]) / 2, (box[1] + box[3]) / 2
