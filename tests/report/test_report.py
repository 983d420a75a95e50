"""The report: what it says is what the records and the model say, it stands alone, and anybody can read it."""

import base64
import errno
import hashlib
import html
import io
import json
import math
import re
import shlex
import shutil
from pathlib import Path

import numpy as np
import pytest
from msgspec import UNSET, structs
from PIL import Image

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.records import Data, Imported, ImportRecord, Metrics
from mnist_edge.bundle.source import Source
from mnist_edge.contract import TO_TENSOR, Preprocessing
from mnist_edge.data import datasets
from mnist_edge.data.distortions import DISTORTIONS
from mnist_edge.errors import UsageError
from mnist_edge.evaluation import evaluation, metrics
from mnist_edge.export.reporting import facts_of
from mnist_edge.report import page as pages
from mnist_edge.report import plots, vector
from mnist_edge.report.facts import Distorted, Facts
from mnist_edge.report.page import page
from mnist_edge.report.results import MOST_CLASSES, MOST_CONFUSIONS, MOST_MISTAKES
from mnist_edge.report.tradeoff import Point, tradeoff
from mnist_edge.runtime.classifier import Classifier
from mnist_edge.runtime.model import PRETRAINED
from tests.helpers import cli_in_process, fails, keep_only, run_python, subset, write_idx
from tests.pages import parsed, problems

LARGEST = 600_000
HOSTILE = "</style><script>alert(1)</script><img src=x onerror='alert(\"2\")'>&amp;"
LABELS = (HOSTILE, "日本語のラベル", "عربى نص", "a" * 255, "Ärger & Zank", "'quote'", "💥", "x y z")


def softmax(logits, temperature):
    scaled = logits.astype(np.float64) / temperature
    exponentials = np.exp(scaled - scaled.max(axis=1, keepdims=True))
    return exponentials / exponentials.sum(axis=1, keepdims=True)


def made(labels=LABELS, n=300, seed=0, **changed):
    """Facts of a pretrained model's manifest and of random answers."""
    rng = np.random.default_rng(seed)
    truth = rng.integers(0, len(labels), n).astype(np.uint8)
    logits = rng.normal(size=(n, len(labels))).astype(np.float32)
    logits[np.arange(n), truth] += 3
    probabilities = softmax(logits, 1)
    images = rng.integers(0, 256, (n, 28, 28)).astype(np.uint8)
    manifest = reading.read_manifest(f"{PRETRAINED}/cnn-nano")
    contract = structs.replace(manifest.contract, labels=tuple(labels))
    distorted = tuple(Distorted(name, each.does, images[0], 200, n) for name, each in DISTORTIONS.items())
    given = {
        "name": "bundle",
        "is_pretrained": False,
        "file": "model.int8-static.onnx",
        "format": None,
        "data": "some data",
        "images": images,
        "truth": truth,
        "probabilities": probabilities,
        "evaluation": evaluation.evaluate(logits, probabilities, truth, tuple(labels), 1.0),
        "undistorted": Distorted("none", "the images as they are", images[0], 250, n),
        "distorted": distorted,
        "manifest": structs.replace(manifest, contract=contract),
        "record": None,
        "states": {"model.onnx": "intact"},
    }
    return Facts(**(given | changed))


def imported(labels):
    return ImportRecord(
        architecture=f"Net{HOSTILE}",
        source=Source(place="", arguments={}, sha256=""),
        parameters=1,
        labels=tuple(labels),
        preprocessing=Preprocessing.WHOLE,
        data=Data(HOSTILE, "/somewhere", 10, 10, {"train-images": "0" * 64}),
        model_sha256="1" * 64,
        versions={"torch": "2"},
        weights=Imported(name=HOSTILE, sha256="2" * 64),
        normalization=TO_TENSOR,
        inverted=True,
        transposed=True,
        test=Metrics(1.0, 1, 10, 0.1),
    )


@pytest.fixture(scope="module")
def shown(bundle_dir, small_idx, tmp_path_factory):
    """The report of a trained bundle as `report` writes it, parsed."""
    path = tmp_path_factory.mktemp("report") / "page.html"
    result = cli_in_process("report", bundle_dir, "--data", small_idx, "--format", "onnx", "--out", path, "--json")
    assert result.returncode == 0, result.stderr.decode()
    return path.read_text(encoding="utf-8"), json.loads(result.stdout)


@pytest.fixture(scope="module")
def few(mnist, tmp_path_factory):
    """A hundred test images, as an IDX folder."""
    return write_idx(tmp_path_factory.mktemp("few") / "mnist", subset(mnist, 20, 100))


@pytest.fixture
def root(shown):
    return parsed(shown[0])[0]


def table_in(root, section, number=0):
    sections = [each for each in root.all("section") if each.attributes["aria-labelledby"] == section]
    return [*sections[0].all("table")][number]


# What it says


def test_the_confusion_matrix_is_what_pytorch_answers(root, expected):
    counts = np.zeros((10, 10), int)
    np.add.at(counts, (expected["labels"], expected["logits"].argmax(axis=1)), 1)
    rows = table_in(root, "confusion").cells
    assert [row[0] for row in rows] == [*"0123456789"]
    assert [[int(cell.replace(",", "") or 0) for cell in row[1:]] for row in rows] == counts.tolist()
    figures = {row[0]: row[1:] for row in table_in(root, "confusion", 1).cells}
    for digit in range(10):
        recall = counts[digit, digit] / counts[digit].sum()
        precision = counts[digit, digit] / counts[:, digit].sum()
        assert figures[str(digit)][:3] == [
            f"{counts[digit].sum()}",
            f"{100 * precision:.2f} %",
            f"{100 * recall:.2f} %",
        ]


def test_the_mistakes_are_pytorchs_with_their_pictures(root, expected, shown):
    answers, truth = expected["logits"].argmax(axis=1), expected["labels"]
    probabilities = softmax(expected["logits"], shown[1]["temperature"])
    (listed,) = (each for each in root.all("ul") if each.attributes.get("class") == "mistakes")
    items = [*listed.all("li")]
    assert 0 < len(items) == min(MOST_MISTAKES, (answers != truth).sum())
    confidences = []
    for item in items:
        words = next(item.all("figcaption")).text
        is_, at_truth, read, confidence, index = re.fullmatch(
            r"is (.), ([\d.]+) %read as (.), ([\d.]+) %image (\d+)", words
        ).groups()
        number = int(index)
        assert (int(is_), int(read)) == (truth[number], answers[number])
        assert float(at_truth) == pytest.approx(100 * probabilities[number, truth[number]], abs=0.06)
        assert float(confidence) == pytest.approx(100 * probabilities[number].max(), abs=0.06)
        confidences.append(float(confidence))
        image = next(item.all("img"))
        assert image.attributes["alt"] == f"Test image {index}, which shows {is_}"
        content = base64.b64decode(image.attributes["src"].removeprefix("data:image/png;base64,"))
        assert np.array_equal(np.asarray(Image.open(io.BytesIO(content))), expected["images"][number])
    assert confidences == sorted(confidences, reverse=True)


def test_the_summary_and_the_targets(root, expected, shown):
    right = expected["logits"].argmax(axis=1) == expected["labels"]
    tiles = {next(each.all("dt")).text: next(each.all("dd")).text for each in next(root.all("dl")).all("div")}
    assert tiles["accuracy"] == f"{100 * right.mean():.2f} %{right.sum():,} of 1,000 test images"
    assert tiles["mistakes"].startswith(str((~right).sum()))
    order = np.argsort(-softmax(expected["logits"], shown[1]["temperature"]).max(axis=1))
    shares = np.cumsum(right[order]) / np.arange(1, 1001)
    for row, target in zip(table_in(root, "coverage").cells, (0.995, 0.998, 0.999), strict=True):
        answered = (np.flatnonzero(shares >= target)[-1] + 1) / 1000 if (shares >= target).any() else 0
        assert row[0] == f"{100 * target:g} %"
        assert row[1] == (f"{100 * answered:.2f} %" if answered else "not reached")


def test_parity_formats_and_digests_are_the_manifests(root, bundle_dir):
    manifest = json.loads((bundle_dir / "manifest.json").read_text())
    parity = {row[0]: row[1:] for row in table_in(root, "parity").cells}
    formats = {row[0]: row[1:] for row in table_in(root, "formats").cells}
    files = {row[0]: row[1:] for row in table_in(root, "provenance", 3).cells}
    exported = {name: entry for name, entry in manifest["files"].items() if "parity" in entry}
    assert set(parity) == set(formats) == set(exported)
    for name, entry in exported.items():
        measured = entry["parity"]
        assert parity[name][:3] == [
            f"{measured['max_abs_diff']:.1e}",
            f"{measured['max_abs_diff_on_noise']:.1e}",
            str(measured["flips"]),
        ]
        size = (bundle_dir / name).stat().st_size
        latency = manifest["measured"].get(name)
        assert formats[name][3] == entry["format"]
        assert formats[name][0] == f"{size / 1000:,.1f} KB"
        assert formats[name][1] == (f"{latency['microseconds']:.0f} µs" if latency else "-")
        assert formats[name][2] == f"{100 * measured['accuracy']:.2f} %"
    assert {name: row[2] for name, row in files.items()} == {
        name: hashlib.sha256((bundle_dir / name).read_bytes()).hexdigest() for name in manifest["files"]
    }
    assert {row[1] for row in files.values()} == {"intact"}
    origin = dict(table_in(root, "provenance").cells)
    assert origin["SHA-256 of the model"] == manifest["provenance"]["model_sha256"]
    assert origin["seed"] == "1"
    recipe = dict(table_in(root, "provenance", 1).cells)
    assert recipe["batch size"] == str(manifest["provenance"]["recipe"]["batch_size"])


def test_the_learning_curves_are_the_records(root, bundle_dir):
    record = json.loads((bundle_dir / "training.json").read_text())
    rows = table_in(root, "learning").cells
    assert [row[:4] for row in rows] == [
        [
            str(epoch["number"]),
            f"{epoch['train_loss']:.4f}",
            f"{epoch['test']['loss']:.4f}",
            f"{100 * epoch['test']['accuracy']:.2f} %",
        ]
        for epoch in record["epochs"]
    ]


def test_the_distortions_are_what_the_model_answers(root, shown, bundle_dir, expected):
    classifier = Classifier(bundle_dir, format="onnx")
    rows = {re.match("[a-z]+", row[0])[0]: row for row in table_in(root, "distortions").cells}
    assert set(rows) == {"none", *DISTORTIONS}
    clean = (expected["logits"].argmax(axis=1) == expected["labels"]).mean()
    assert rows["none"][2:] == [f"{100 * clean:.2f} %", ""]
    for name, each in DISTORTIONS.items():
        accuracy = (classifier.logits(each.apply(expected["images"])).argmax(axis=1) == expected["labels"]).mean()
        assert rows[name][2] == f"{100 * accuracy:.2f} %"
        assert float(rows[name][3].replace("−", "-")) == pytest.approx(100 * (accuracy - clean), abs=0.006)
        assert shown[1]["distorted"][name] == pytest.approx(accuracy)


def test_the_lines_run_when_they_are_pasted(root, bundle_dir):
    """All but `verify`, which takes the data of the training and a minute."""
    commands, ours, bare = (next(each.all("code")).text for each in root.all("pre"))
    ran = []
    for line in commands.splitlines():
        program, name, *arguments = shlex.split(line)
        assert program == "mnist-edge"
        ran.append(name)
        if name != "verify":
            result = cli_in_process(name, *arguments, cwd=bundle_dir.parent)
            assert result.returncode == 0, (line, result.stderr.decode())
    assert ran == ["predict", "info", "selftest", "verify"]
    assert bare.index("ORT_DISABLE_TELEMETRY") < bare.index("import onnxruntime")
    for code in (ours, bare):
        result = run_python(f"import os\nos.chdir({str(bundle_dir.parent)!r})\n{code}")
        assert result.returncode == 0, result.stderr
        assert result.stdout


def test_figures_of_other_data_name_theirs(bundle_dir):
    """With --data OTHER the records still tell of the data of the training."""
    manifest, record = reading.read_manifest(bundle_dir), reading.read_training(bundle_dir)
    content = page(made("0123456789", manifest=manifest, record=record, data="other data", file="model.onnx"))
    root, _ = parsed(content)
    shown = {each.attributes["aria-labelledby"]: each.text for each in root.all("section")}
    for section in ("learning", "parity", "formats"):
        assert (
            f"the test set of {record.data.name}" in shown[section] or f"images of {record.data.name}" in shown[section]
        )
        assert "other data" not in shown[section]
    lead = next(root.all("header")).text
    assert "All answers" not in lead
    assert "are those of model.onnx on the test set of other data" in lead


def test_a_drop_that_is_rounded_to_zero_has_no_sign():
    manifest = made().manifest
    file = manifest.files["model.onnx"]
    drops = {"model.onnx": -0.00002, "model.int8-static.onnx": -0.0123}
    files = {
        name: structs.replace(file, parity=structs.replace(file.parity, accuracy_drop=drop))
        for name, drop in drops.items()
    }
    root, _ = parsed(page(made(manifest=structs.replace(manifest, files=manifest.files | files))))
    assert {row[0]: row[6] for row in table_in(root, "parity").cells} == {
        "model.onnx": "0.00",
        "model.int8-static.onnx": "−1.23",
    }


def test_an_altered_training_record_is_not_used(bundle_copy, few, tmp_path):
    path = bundle_copy / "training.json"
    path.write_text(path.read_text().replace('"seed": 1', '"seed": 2'))
    result = cli_in_process("report", bundle_copy, "--data", few, "--out", tmp_path / "x.html")
    assert result.returncode == 0, result.stderr.decode()
    root, _ = parsed((tmp_path / "x.html").read_text())
    (section,) = (each for each in root.all("section") if each.attributes["aria-labelledby"] == "learning")
    assert section.text.endswith("There are none: training.json was altered since the export.")
    assert dict(table_in(root, "provenance").cells)["seed"] == "1"


@pytest.mark.parametrize("kept", [0.9, 0.999, 1.0])
def test_the_printed_limit_answers_as_many_images(kept):
    """Probabilities very near 1 part only in digits that are far behind the point."""
    rng = np.random.default_rng(0)
    truth = rng.integers(0, 3, 2000).astype(np.uint8)
    logits = rng.normal(size=(2000, 3)).astype(np.float32)
    logits[np.arange(2000), truth] += 3
    probabilities = softmax(logits, 0.15)
    facts = made(
        "abc",
        n=2000,
        truth=truth,
        probabilities=probabilities,
        evaluation=evaluation.evaluate(logits, probabilities, truth, ("a", "b", "c"), 0.15),
    )
    rows = [row for row in table_in(parsed(page(facts))[0], "coverage").cells if row[1] != "not reached"]
    assert rows
    for _, share, limit in rows:
        answered = (probabilities.max(axis=1) >= float(limit)).mean()
        assert f"{100 * answered:.2f} %" == share
    lowest = np.quantile(probabilities.max(axis=1), 1 - kept, method="closest_observation")
    rounded = metrics.threshold(float(lowest), probabilities)
    answers = probabilities.max(axis=1)
    assert rounded <= lowest
    assert (answers >= rounded).sum() == (answers >= lowest).sum()
    shorter = math.floor(rounded * 10 ** (decimals := len(limit_of(rounded)) - 1)) / 10**decimals
    assert decimals < 1 or (answers >= shorter).sum() > (answers >= lowest).sum()


def limit_of(number):
    """The digits behind the point."""
    return np.format_float_positional(number, trim="-").partition(".")[2]


# It stands alone, and anybody can read it


def test_a_trained_bundles_page_has_no_problems(shown):
    assert problems(shown[0]) == []
    assert len(shown[0].encode()) == shown[1]["bytes"] < LARGEST


@pytest.mark.parametrize("labels", [LABELS, "ab", [f"class {number}" for number in range(62)]], ids=len)
def test_any_labels_are_shown_as_they_are(labels):
    content = page(made(labels))
    assert problems(content) == []
    root, _ = parsed(content)
    assert [row[0] for row in table_in(root, "confusion", 1).cells] == [*labels]
    (classes,) = (value for name, value in table_in(root, "model").cells if name == f"{len(labels)} classes")
    assert classes == ", ".join(labels)


def test_shortened_labels_that_look_alike_have_their_number():
    long = "class with a very long name that only differs in the middle: "
    content = page(made([f"{long}{each}{long}" for each in "ab"] + ["c"]))
    root, _ = parsed(content)
    names = [row[0] for row in table_in(root, "confusion").cells]
    assert len(set(names)) == 3
    assert names[0].endswith(" (0)")
    assert names[1].endswith(" (1)")
    assert names[2] == "c"
    heads = [each.text for each in [*table_in(root, "confusion").all("th")][1:4]]
    assert len(set(heads)) == 3


def test_many_classes_do_not_make_a_large_page():
    labels = [f"{number} {'x' * 60}" for number in range(256)]
    content = page(made(labels, n=5000))
    assert problems(content) == []
    assert len(content.encode()) < LARGEST
    root, _ = parsed(content)
    assert "and 241 more, in the table of each class" in table_in(root, "model").text
    listed = table_in(root, "confusion").cells
    assert len(labels) > MOST_CLASSES
    assert len(listed) == MOST_CONFUSIONS
    counts = [int(row[2]) for row in listed]
    assert counts == sorted(counts, reverse=True)
    matrix = page(made([f"{number} {'x' * 60}" for number in range(MOST_CLASSES)], n=20_000))
    assert len(matrix.encode()) < LARGEST


def test_every_name_is_escaped():
    """Also where the records, the folder and the data have names from strangers."""
    record = imported(LABELS)
    facts = made(manifest=None, record=record, file="model.pth", name=f"b{HOSTILE}", data=f"d{HOSTILE}\u202e")
    content = page(facts)
    assert problems(content) == []
    assert "<script" not in content
    assert "\u202e" not in content
    assert html.escape(HOSTILE) in content
    root, _ = parsed(content)
    assert next(root.all("h1")).text == f"b{HOSTILE}: model report"
    told = dict(table_in(root, "model").cells)
    assert told["architecture"] == record.architecture
    assert told["evaluated on"] == f"300 test images of d{HOSTILE}\\u202e"
    assert told["normalization"] == "(255 - pixel) / 255, transposed, inside the graph"


def test_what_a_bundle_lacks_is_said():
    exported = page(made(labels="0123456789"))
    assert "the bundle holds no record of its training" in exported
    unexported = page(made(manifest=None, record=imported(LABELS), file="model.pth"))
    assert "the weights were imported" in unexported
    assert unexported.count("is not exported yet") == 2
    assert "mnist-edge export ./bundle --formats onnx" in unexported
    manifest = structs.replace(made().manifest, recommended=UNSET, measured={})
    unmeasured = page(made(manifest=manifest))
    assert problems(unmeasured) == []
    assert "No file is recommended" in unmeasured
    assert "formats-plot" not in unmeasured
    with pytest.raises(ValueError, match="a manifest or a training record"):
        made(manifest=None)


def test_a_model_without_mistakes():
    perfect = made()
    probabilities = np.eye(len(LABELS))[perfect.truth]
    logits = np.log(np.maximum(probabilities, 1e-9)).astype(np.float32)
    content = page(
        made(
            probabilities=probabilities,
            evaluation=evaluation.evaluate(logits, probabilities, perfect.truth, LABELS, 1.0),
        )
    )
    assert problems(content) == []
    assert "There are none in 300 images." in content


def luminance(colour):
    channels = [int(colour[at : at + 2], 16) / 255 for at in (1, 3, 5)]
    linear = [each / 12.92 if each <= 0.04045 else ((each + 0.055) / 1.055) ** 2.4 for each in channels]
    return sum(weight * each for weight, each in zip((0.2126, 0.7152, 0.0722), linear, strict=True))


def contrast(one, other):
    lighter, darker = sorted((luminance(one), luminance(other)), reverse=True)
    return (lighter + 0.05) / (darker + 0.05)


def mixed(one, other, share):
    pairs = ((int(one[at : at + 2], 16), int(other[at : at + 2], 16)) for at in (1, 3, 5))
    return "#" + "".join(f"{round(share * first + (1 - share) * second):02x}" for first, second in pairs)


def test_colours_contrast_in_the_light_and_in_the_dark():
    """4.5 for text and 3 for lines: WCAG 2.2, level AA."""
    style = Path(pages.__file__).with_name("page.css").read_text()
    themes = [
        dict(re.findall(r"--(\w+): ([^;]+);", block)) for block in re.findall(r":root \{(.*?)\}", style, re.DOTALL)
    ]
    assert len(themes) == 2
    for theme in themes:
        colours = {
            name: re.sub("^#(.)(.)(.)$", r"#\1\1\2\2\3\3", value) for name, value in theme.items() if "#" in value
        }
        for ground in ("paper", "panel"):
            for text in ("ink", "muted", "link"):
                assert contrast(colours[text], colours[ground]) >= 4.5, (text, ground)
        for line in ("blue", "orange", "grey"):
            assert contrast(colours[line], colours["paper"]) >= 3, line
        for text in ("blue", "grey"):  # of the chart of formats
            assert contrast(colours[text], colours["paper"]) >= 4.5, text
        for tint in ("blue", "orange"):
            ground = mixed(colours[tint], colours["paper"], int(theme["deep"].rstrip("%")) / 100)
            assert contrast(colours["ink"], ground) >= 4.5, tint


# Drawings


def test_a_drawing_keeps_its_text_and_takes_the_pages_colours(bundle_dir):
    epochs = reading.read_training(bundle_dir).epochs
    drawn = vector.inline(plots.learning_curves(epochs, in_page=True), "one", "a <title>", "described")
    again = vector.inline(plots.learning_curves(epochs, in_page=True), "one", "a <title>", "described")
    assert drawn == again
    root, wrong = parsed(drawn)
    assert not wrong
    assert {"epoch", "loss (nats)", "test accuracy", "training"} <= {each.text for each in root.all("text")}
    assert next(root.all("title")).text == "a <title>"
    assert "stroke-blue" in drawn
    assert "fill-ink" in drawn or "stroke-ink" in drawn
    assert not re.search(r"#[0-9a-fA-F]{6}|style=|font-family", drawn)


def test_a_colour_that_the_page_has_not_is_refused():
    figure = plots.empty_figure(1, 1)
    figure.add_axes((0, 0, 1, 1)).plot([0, 1], color="#123456")
    with pytest.raises(UsageError, match="#123456 is not a colour of the page"):
        vector.inline(figure, "x", "x", "x")


def test_all_ticks_of_an_axis_have_as_many_decimals(bundle_dir):
    (first, *_) = reading.read_training(bundle_dir).epochs
    near = [structs.replace(first.test, accuracy=accuracy) for accuracy in (0.9912, 0.9931)]
    epochs = [structs.replace(first, number=number + 1, test=test) for number, test in enumerate(near)]
    root, _ = parsed(vector.inline(plots.learning_curves(epochs, in_page=True), "one", "a", "b"))
    ticks = [each.text for each in root.all("text") if "%" in each.text]
    assert len(ticks) > 3
    assert len({len(tick) for tick in ticks}) == 1, ticks


def test_letters_in_a_page_can_be_read(bundle_dir):
    for figure in drawn_in_a_page(bundle_dir):
        root, _ = parsed(vector.inline(figure, "one", "a", "b"))
        sizes = {float(each.attributes["font-size"].removesuffix("px")) for each in root.all("text")}
        assert min(sizes) >= 10, sizes


def test_the_legend_of_the_reliability_hides_nothing():
    facts = made("0123456789", n=10_000)
    figure = plots.reliability(metrics.reliability(facts.probabilities, facts.truth), in_page=True)
    figure.draw_without_rendering()
    legends = [*figure.legends, *(axes.get_legend() for axes in figure.axes if axes.get_legend())]
    assert len(legends) == 1
    assert not any(legends[0].get_window_extent().overlaps(axes.get_window_extent()) for axes in figure.axes)
    bars, counts = figure.axes[1].patches, figure.axes[1].texts
    tops = [bar.get_window_extent().y1 for bar in bars if bar.get_height() > 0]
    assert len(tops) == len(counts)
    top = figure.axes[1].get_window_extent().y1
    for text, bar in zip(counts, tops, strict=True):
        assert bar + 1 < text.get_window_extent().y0
        assert text.get_window_extent().y1 < top


def drawn_in_a_page(bundle_dir):
    """Every figure of a page."""
    facts = made("0123456789", n=10_000)
    yield plots.learning_curves(reading.read_training(bundle_dir).epochs, in_page=True)
    yield plots.reliability(metrics.reliability(facts.probabilities, facts.truth), in_page=True)
    yield plots.coverage(
        metrics.coverage_curve(facts.probabilities, facts.truth), facts.evaluation.coverage, in_page=True
    )
    yield tradeoff([Point("model.onnx", 120, 0.99651, 288_934), Point("model.h", 900, 0.9964, 250_112)], in_page=True)


def test_every_property_of_this_matplotlib_has_a_place(bundle_dir):
    for figure in drawn_in_a_page(bundle_dir):
        styles = re.findall(' style="([^"]*)"', vector._svg_of(figure))
        found = {tuple(map(str.strip, part.split(":", 1))) for each in styles for part in each.split(";") if part}
        assert {"fill", "stroke"} <= {key for key, _ in found}
        kept = {key for key, value in found if value != "none"} - {"fill", "stroke", "font"}
        assert kept <= vector.KEPT | vector.DROPPED
        assert all(vector._FONT.search(value) for key, value in found if key == "font")


def test_a_property_of_a_later_matplotlib_is_left_out(bundle_dir, monkeypatch):
    epochs = reading.read_training(bundle_dir).epochs
    before = vector.inline(plots.learning_curves(epochs, in_page=True), "one", "a", "b")
    svg_of = vector._svg_of
    monkeypatch.setattr(vector, "_svg_of", lambda figure: svg_of(figure).replace('style="', 'style="new-key: 1; '))
    assert vector.inline(plots.learning_curves(epochs, in_page=True), "one", "a", "b") == before


def test_nothing_is_cut_off_in_a_page(bundle_dir):
    epochs = reading.read_training(bundle_dir).epochs
    near = [structs.replace(epochs[0].test, accuracy=0.99125 + number / 1e4) for number in range(3)]
    alike = [structs.replace(epochs[0], number=number + 1, test=test) for number, test in enumerate(near)]
    facts = made("0123456789", n=10_000)
    curve = metrics.coverage_curve(facts.probabilities, facts.truth)
    sure = metrics.reliability(np.linspace([0.5, 0.5], [0.9999, 0.0001], 200_000) ** 0.1, np.zeros(200_000, np.uint8))
    for figure in (
        plots.learning_curves(epochs, in_page=True),
        plots.learning_curves(alike, in_page=True),
        plots.reliability(metrics.reliability(facts.probabilities, facts.truth), in_page=True),
        plots.reliability(sure, in_page=True),
        plots.coverage(curve, facts.evaluation.coverage, in_page=True),
        tradeoff([Point("model.onnx", 120, 0.99651, 288_934), Point("model.h", 900, 0.9964, 250_112)], in_page=True),
    ):
        figure.set_dpi(72)  # as an SVG file is drawn
        drawn, (width, height) = figure.get_tightbbox(), figure.get_size_inches()
        assert drawn.x0 >= 0.05  # inches: the letters of browsers may be a little wider
        assert drawn.y0 >= 0
        assert drawn.x1 <= width
        assert drawn.y1 <= height


# The command


def test_the_bytes_are_the_same_wherever_it_runs(few, tmp_path):
    """Also in Python. And without PyTorch, which `report` of a pretrained model never imports."""
    command = ["report", "cnn-nano", "--data", str(few), "--quiet"]
    first = cli_in_process(*command, cwd=tmp_path)
    assert first.returncode == 0, first.stderr.decode()
    code = (
        f"import sys, os\nos.chdir({str(tmp_path)!r})\n"
        f"sys.argv = {['mnist-edge', *command, '--out', 'deep/er/page.html']!r}\n"
        "from mnist_edge.cli.main import main\n"
        "try:\n    main()\nexcept SystemExit as stop:\n    assert not stop.code, stop.code\n"
        "assert 'matplotlib' in sys.modules\n"
        "assert not {'torch', 'onnx'} & set(sys.modules)"
    )
    elsewhere = {"PYTHONHASHSEED": "7", "TZ": "Asia/Tokyo", "LC_ALL": "C", "MNIST_EDGE_THREADS": "1"}
    second = run_python(code, **elsewhere)
    assert second.returncode == 0, second.stderr
    content = (tmp_path / "cnn-nano-report.html").read_bytes()
    assert (tmp_path / "deep" / "er" / "page.html").read_bytes() == content
    assert page(facts_of("cnn-nano", datasets.load(few))).encode() == content
    assert problems(content.decode()) == []
    assert "mnist-edge predict --sample --model cnn-nano" in content.decode()
    (tmp_path / "link.html").symlink_to("cnn-nano-report.html")
    again = cli_in_process(*command, "--out", "link.html", cwd=tmp_path)  # in place of the first, not of the link
    assert again.returncode == 0, again.stderr.decode()
    assert (tmp_path / "link.html").is_symlink()
    assert sorted(path.name for path in tmp_path.iterdir()) == ["cnn-nano-report.html", "deep", "link.html"]


def test_a_full_disk_is_told_with_the_file(few, tmp_path, monkeypatch):
    def full(*_):
        raise OSError(errno.ENOSPC, "No space left on device")

    monkeypatch.setattr("mnist_edge.cli.report.write_atomically", full)
    result = cli_in_process("report", "cnn-nano", "--data", few, "--quiet", cwd=tmp_path)
    fails(result, 1, "cnn-nano-report.html: cannot be written (No space left on device): free some space")


def test_a_recommended_file_that_is_gone_is_named(few, tmp_path):
    folder = shutil.copytree(Path(PRETRAINED, "cnn-nano"), tmp_path / "nano")
    (folder / "model.int8-static.onnx").unlink()
    result = cli_in_process("report", folder, "--data", few, cwd=tmp_path)
    fails(result, 4, "model.int8-static.onnx: is missing, though the manifest lists it: name another format")


@pytest.mark.parametrize(
    ("arguments", "code", "words"),
    [
        (["nowhere"], 4, "nowhere: no such bundle"),
        (["notes.txt"], 4, "notes.txt: a file, not a bundle"),
        (["cnn", "--format", "c"], 2, "c is not run by onnxruntime"),
        (["cnn", "--format", "int8-dynamic"], 4, "was exported without model.int8-dynamic.onnx"),
        (["cnn", "--data", "nowhere"], 3, "no such file or folder"),
        (["cnn", "--out", "new/deep/x.html", "--data", "nowhere"], 3, "no such file or folder"),
        (["cnn", "--out", "."], 2, ".: is a folder: give --out a file, such as report.html"),
        (["cnn", "--out", "notes.txt"], 2, "notes.txt: is there already and is no report: give --out a new file"),
        (["cnn", "--out", "/dev/null"], 2, "/dev/null: is there already and is no report"),
        (["cnn", "--out", "notes.txt/x.html"], 2, "notes.txt: is not a folder: give --out"),
        (["cnn", "--out", "new/model.onnx"], 2, "is the name of a bundle's file: give --out another"),
        (["cnn", "--out", "-"], 2, "a report is a file, not a stream: give --out a name such as report.html"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else None,
)
def test_mistakes_are_one_line(tmp_path, arguments, code, words):
    (tmp_path / "notes.txt").write_text("mine")
    fails(cli_in_process("report", *arguments, cwd=tmp_path), code, words)
    assert [path.name for path in tmp_path.rglob("*")] == ["notes.txt"]
    assert (tmp_path / "notes.txt").read_text() == "mine"


def test_data_with_other_labels_are_refused(mnist, tmp_path):
    other = write_idx(tmp_path / "other", subset(mnist, 20, 20))
    (other / "labels.txt").write_text("\n".join("abcdefghij"))
    fails(cli_in_process("report", "cnn", "--data", other, cwd=tmp_path), 3, "are not the model's")


def test_without_matplotlib_it_says_how_to_install_it(tmp_path):
    code = (
        "import sys\nsys.modules['matplotlib'] = None\nsys.argv = ['mnist-edge', 'report', 'cnn']\n"
        "from mnist_edge.cli.main import main\nmain()"
    )
    result = run_python(code)
    assert result.returncode == 1
    assert re.search(r"error: matplotlib is not installed: .*\[plot\]", result.stderr)


def test_an_altered_file_is_not_reported_on(bundle_copy, few, tmp_path):
    name = "model.onnx"
    (bundle_copy / name).write_bytes((bundle_copy / name).read_bytes()[:-1] + b"!")
    command = ["report", bundle_copy, "--data", few, "--out", tmp_path / "x.html"]
    fails(cli_in_process(*command, "--format", "onnx"), 4, "model.onnx: altered since its export")
    assert not (tmp_path / "x.html").exists()
    assert cli_in_process(*command, "--format", "int8-static").returncode == 0
    (line,) = (
        row for row in table_in(parsed((tmp_path / "x.html").read_text())[0], "provenance", 3).cells if row[0] == name
    )
    assert line[2] == "altered"


def test_a_failure_leaves_the_earlier_report(bundle_copy, few, tmp_path, monkeypatch):
    path = tmp_path / "x.html"
    command = ["report", bundle_copy, "--data", few, "--out", path]
    assert cli_in_process(*command).returncode == 0
    before = path.read_bytes()

    def renew(facts):
        manifest = json.loads((bundle_copy / "manifest.json").read_text())
        manifest["pytorch"]["accuracy"] = 0.5
        (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
        return "other"

    monkeypatch.setattr(pages, "page", renew)
    fails(cli_in_process(*command), 1, "was exported again meanwhile: run report again")
    assert path.read_bytes() == before
    assert [each.name for each in tmp_path.iterdir() if each.is_file()] == ["x.html"]


def test_a_bundle_that_only_pytorch_runs(bundle_copy, few, tmp_path):
    keep_only(bundle_copy, Format.TORCHSCRIPT.file_name)
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    del manifest["recommended"]
    manifest["measured"] = {}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    result = cli_in_process("report", bundle_copy, "--data", few, "--out", tmp_path / "x.html", "--json")
    assert result.returncode == 0, result.stderr.decode()
    told = json.loads(result.stdout)
    assert told["model"] == str(bundle_copy / "model.pth")
    assert problems((tmp_path / "x.html").read_text()) == []
