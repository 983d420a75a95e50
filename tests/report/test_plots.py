"""`evaluate --plot`, and the figures themselves."""

import itertools
import json
import warnings

import numpy as np
import pytest
from PIL import Image

from mnist_edge.bundle import reading
from mnist_edge.evaluation import evaluation, metrics
from mnist_edge.report import plots
from tests.helpers import cli_in_process, run_python

NAMES = ["confusion.png", "coverage.png", "learning-curves.png", "reliability.png"]

CODE = """
import sys
from mnist_edge.cli.main import main
try:
    main()
finally:
    print("pyplot:", "matplotlib.pyplot" in sys.modules, file=sys.stderr)
"""


def sizes(folder):
    found = {}
    for path in sorted(folder.iterdir()):
        with Image.open(path) as image:
            image.load()
            found[path.name] = image.size
    return found


def test_plots_are_saved_and_named(bundle_dir, small_idx, tmp_path):
    folder = tmp_path / "new" / "plots"
    command = ["evaluate", bundle_dir, "--data", small_idx, "--plot", folder]
    result = run_python(CODE, *command, "--json", MPLBACKEND="tkagg", DISPLAY=None)
    assert result.returncode == 0, result.stderr
    found = sizes(folder)
    assert list(found) == NAMES
    assert all(700 <= side <= 1500 or name != "confusion.png" for name, size in found.items() for side in size)
    assert sorted(json.loads(result.stdout)["plots"]) == [str(folder / name) for name in NAMES]
    told = "confusion.png, reliability.png, coverage.png, learning-curves.png"
    assert result.stderr.splitlines()[-2:] == [f"saved 4 plots in {folder}: {told}", "pyplot: False"]
    before = {path.name: path.read_bytes() for path in folder.iterdir()}
    cli_in_process(*command)
    assert {path.name: path.read_bytes() for path in folder.iterdir()} == before


def test_without_a_training_record_there_are_no_learning_curves(bundle_dir, small_idx, tmp_path):
    alone = tmp_path / "alone.onnx"
    alone.write_bytes((bundle_dir / "model.onnx").read_bytes())
    result = cli_in_process("evaluate", alone, "--data", small_idx, "--plot", tmp_path / "plots")
    assert result.returncode == 0, result.stderr
    assert list(sizes(tmp_path / "plots")) == [name for name in NAMES if name != "learning-curves.png"]
    first, second = result.stderr.decode().splitlines()[-3:-1]
    assert first == f"no learning curves: {tmp_path} holds no record of a training"
    assert second.startswith("saved 3 plots in ")


def counted(truth, answers, classes):
    counts = np.zeros((classes, classes), dtype=int)
    np.add.at(counts, (truth, answers), 1)
    return counts


@pytest.mark.parametrize("classes", [2, 10, 26, 62])
def test_the_confusion_matrix_shows_every_count(classes):
    rng = np.random.default_rng(classes)
    truth = rng.integers(0, classes, 3000)
    answers = np.where(rng.random(3000) < 0.9, truth, rng.integers(0, classes, 3000))
    counts = counted(truth, answers, classes)
    figure = plots.confusion(counts, [f"class {number}" for number in range(classes)], "a heading")
    axes = figure.axes[0]
    shown = np.zeros_like(counts)
    for text in axes.texts:
        column, row = text.get_position()
        shown[int(row), int(column)] = int(text.get_text())
    assert np.array_equal(shown, counts)
    assert [text.get_text() for text in axes.get_yticklabels()] == [f"class {number}" for number in range(classes)]
    figure.draw_without_rendering()
    cell = axes.get_window_extent().width / classes
    for text in axes.texts:
        box = text.get_window_extent()
        assert box.width < cell
        assert box.height < cell
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        boxes = [label.get_window_extent() for label in labels]
        assert not any(one.overlaps(other) for one, other in itertools.pairwise(boxes))
        edge = figure.bbox
        assert all(edge.x0 <= box.x0 and box.x1 <= edge.x1 and edge.y0 <= box.y0 for box in boxes)


def test_the_confusion_matrix_of_a_model_is_what_it_answers(bundle_dir, expected, small_idx):
    result = cli_in_process("evaluate", bundle_dir / "model.onnx", "--data", small_idx, "--json")
    counts = counted(expected["labels"], expected["logits"].argmax(axis=1), 10)
    assert json.loads(result.stdout)["confusion"] == counts.tolist()


def test_reliability_shows_the_images_in_each_bin():
    rng = np.random.default_rng(0)
    right = rng.uniform(0.5, 1, 5000)
    probabilities = np.stack([right, 1 - right], axis=1)
    truth = (rng.random(5000) > right).astype(np.uint8)
    found = metrics.reliability(probabilities, truth)
    counts, edges = np.histogram(right, bins=15, range=(0, 1))
    assert found.images.tolist() == counts.tolist()
    for number in np.flatnonzero(counts):
        inside = (right >= edges[number]) & (right < edges[number + 1])
        assert found.accuracy[number] == pytest.approx((truth[inside] == 0).mean())
        assert found.confidence[number] == pytest.approx(right[inside].mean())
    assert np.isnan(found.accuracy[counts == 0]).all()
    gaps = np.abs(found.accuracy - found.confidence)[counts > 0] * counts[counts > 0] / 5000
    assert metrics.calibration_error(probabilities, truth) == pytest.approx(gaps.sum())
    lower = plots.reliability(found).axes[1]
    assert [text.get_text() for text in lower.texts] == [f"{count:,}" for count in counts if count]


def test_the_coverage_curve_is_the_accuracy_of_the_most_confident():
    probabilities = np.array([[0.9, 0.1], [0.8, 0.2], [0.8, 0.2], [0.6, 0.4]])
    curve = metrics.coverage_curve(probabilities, np.array([0, 0, 1, 1], dtype=np.uint8))
    assert curve.share.tolist() == [0.25, 0.75, 1]
    assert curve.accuracy.tolist() == [1, pytest.approx(2 / 3), 0.5]
    assert curve.min_probability.tolist() == [0.9, 0.8, 0.6]
    reached = evaluation.Coverage(accuracy=0.6, share=0.75, min_probability=0.8)
    missed = evaluation.Coverage(accuracy=0.995, share=0.0, min_probability=1.0)
    axes = plots.coverage(curve, [reached, missed]).axes[0]
    (text,) = (text.get_text() for text in axes.get_legend().get_texts())
    assert text == "60 %: 25.00 % withheld by --min-probability 0.8"


def test_learning_curves_show_every_epoch(bundle_dir):
    epochs = reading.read_training(bundle_dir).epochs
    loss, accuracy = plots.learning_curves(epochs).axes
    assert [[*line.get_ydata()] for line in loss.lines] == [
        [epoch.train_loss for epoch in epochs],
        [epoch.test.loss for epoch in epochs],
    ]
    assert [[*line.get_ydata()] for line in accuracy.lines] == [[epoch.test.accuracy for epoch in epochs]]
    plots.learning_curves(epochs[:1])


def test_any_label_can_be_drawn(tmp_path):
    """Also one that would be a formula, and one whose characters the font lacks."""
    figure = plots.confusion(np.eye(3, dtype=int), [r"$\nothing$", "日本", "a" * 300], "日本 $x")
    with warnings.catch_warnings(action="error"):
        plots.save(figure, tmp_path / "plot.png")
    names = [text.get_text() for text in figure.axes[0].get_yticklabels()]
    assert names == [r"$\nothing$", "class 1", "aaaaaaaa…aaaaaaa"]


def test_the_users_settings_have_no_effect(tmp_path):
    import matplotlib as mpl

    plots.save(plots.confusion(np.eye(3, dtype=int), "abc"), tmp_path / "plain.png")
    with mpl.rc_context({"font.size": 30, "axes.facecolor": "red", "savefig.bbox": "tight"}):
        plots.save(plots.confusion(np.eye(3, dtype=int), "abc"), tmp_path / "set.png")
    assert (tmp_path / "plain.png").read_bytes() == (tmp_path / "set.png").read_bytes()
