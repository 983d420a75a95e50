"""Latency against accuracy, with the size as the dot."""

import itertools

import pytest

from mnist_edge.report import plots
from mnist_edge.report.tradeoff import Point, tradeoff

CNN = [
    Point("model.torchscript", 401, 0.9965, 330_000, p95=480),
    Point("model.onnx", 120, 0.9965, 288_934, p95=140),
    Point("model.int8-dynamic.onnx", 160, 0.9966, 150_000, p95=200),
    Point("model.int8-static.onnx", 75, 0.9964, 79_108, recommended=True, p95=80),
    Point("model.h", 1900, 0.9964, 250_000, p95=2100),
]
SETS = {
    "all formats": CNN,
    "two": [CNN[1]._replace(p95=None), CNN[3]._replace(p95=None)],
    "one": [Point("mine.onnx", 120, 1.0, 288_934, recommended=True)],
    "equal": [Point(f"model-{number}.onnx", 100 + number, 0.98, 200_000, p95=130) for number in range(4)],
    "any name": [Point("$x$ 日本.onnx", 9.5, 0.1, 1_000), Point("a" * 90, 8000, 0.9812, 9_000_000, p95=20_000)],
}


def labels(axes):
    return [text for text in axes.texts if "KB" in text.get_text()]


@pytest.mark.parametrize("points", SETS.values(), ids=SETS)
def test_every_file_is_named_and_nothing_hides_a_name(points, tmp_path):
    figure = tradeoff(points, "a heading")
    figure.draw_without_rendering()
    axes = figure.axes[0]
    boxes = [label.get_window_extent() for label in labels(axes)]
    assert len(boxes) == len(points)
    assert not any(one.overlaps(other) for one, other in itertools.combinations(boxes, 2))
    dots = [axes.transData.transform((point.microseconds, point.accuracy)) for point in points]
    assert not any(box.contains(*dot) for box in boxes for dot in dots)
    frame = axes.get_window_extent().padded(1)
    assert all(frame.x0 <= box.x0 and box.x1 <= frame.x1 for box in boxes)
    assert all(frame.y0 <= box.y0 and box.y1 <= frame.y1 for box in boxes)
    assert all(frame.contains(*dot) for dot in dots)
    plots.save(figure, tmp_path / "one.png")
    plots.save(tradeoff(points, "a heading"), tmp_path / "other.png")
    assert (tmp_path / "one.png").read_bytes() == (tmp_path / "other.png").read_bytes()


def test_it_shows_the_figures():
    axes = tradeoff(CNN).axes[0]
    shown = {label.get_text().splitlines()[0]: label for label in labels(axes)}
    assert shown["model.onnx"].get_text() == "model.onnx\n288.9 KB, 120 µs, 99.65 %"
    best = shown.pop("model.int8-static.onnx")
    assert best.get_text().endswith("\nrecommended")
    assert best.get_color() == plots.BLUE
    assert not any("recommended" in label.get_text() or label.get_color() == plots.BLUE for label in shown.values())
    found = {tuple(dot.get_offsets()[0]): dot.get_sizes()[0] for dot in axes.collections}
    assert found.keys() == {(point.microseconds, point.accuracy) for point in CNN}
    per_byte = [found[point.microseconds, point.accuracy] / point.bytes for point in CNN]
    assert per_byte == pytest.approx([per_byte[0]] * len(CNN))
    spreads = {tuple(line.get_xdata()) for line in axes.lines if line.get_marker() == "|"}
    assert spreads == {(point.microseconds, point.p95) for point in CNN}


@pytest.mark.parametrize(("slowest", "scale"), [(749, "linear"), (751, "log")])
def test_more_than_a_decade_is_logarithmic(slowest, scale):
    axes = tradeoff([CNN[3], CNN[1]._replace(microseconds=slowest, p95=None)]).axes[0]
    assert axes.get_xscale() == scale
    assert axes.get_xlim()[0] == 0 or scale == "log"


def test_without_matplotlib_the_extra_is_named(monkeypatch):
    import sys

    from mnist_edge.errors import MissingExtraError

    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(MissingExtraError, match="plot"):
        tradeoff(CNN)
