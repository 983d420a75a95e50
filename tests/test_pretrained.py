"""The pretrained models on MNIST, on realistic pictures and on non-digits."""

import io
import json
import re
from difflib import SequenceMatcher
from pathlib import Path

import numpy as np
import pytest
from msgspec import structs
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.bundle import reading
from mnist_edge.errors import ModelError
from mnist_edge.evaluation import metrics
from mnist_edge.runtime import model, prediction, selftest
from mnist_edge.runtime.model import load, open_model
from tests.corruptions import corrupt
from tests.helpers import cli_in_process, fails, long_after, run_cli, script
from tests.lines import lines
from tests.pictures import pictures

PRETRAINED = Path(model.PRETRAINED)


@pytest.fixture(scope="module")
def classifier():
    return Classifier()


@pytest.fixture(scope="module")
def test_logits(classifier, mnist):
    return classifier.logits(mnist.test.images)


def test_it_is_the_file_of_its_manifest_and_answers_as_pytorch_did():
    for folder in PRETRAINED.iterdir():
        if folder.is_dir():
            manifest = reading.read_manifest(folder)
            assert set(manifest.files) == {"model.onnx", manifest.recommended.file}
            assert {path.name for path in folder.iterdir()} == {*manifest.files, "manifest.json", "README.md"}
            for name, file in manifest.files.items():
                reading.read_verified(folder, name, manifest)
                model = open_model(folder.name, format=file.format)
                assert model.contents.format == file.format
                assert selftest.run(model).vectors >= 12


@pytest.fixture(scope="module")
def corrupted(mnist):
    """Corrupted test sets by the names that the document gives them."""
    kinds = ("gaussian noise *", "thin pen", "zigzag *", "torn corner")
    return {kind: corrupt(mnist.test, kind.removesuffix(" *")) for kind in kinds}


def columns_of(page, heading):
    """The cells under a heading in all tables of a page, by the first cell of their rows."""
    cells = {}
    for table in re.findall(r"(?:^\|.*\n)+", page, re.MULTILINE):
        head, _, *rows = ([cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines())
        if heading in head:
            cells |= {row[0].strip("* ") if "mean" in row[0] else row[0]: row[head.index(heading)] for row in rows}
    return cells


@pytest.fixture(scope="module")
def robustness():
    return (PRETRAINED.parents[1] / "docs" / "robustness.md").read_text()


@pytest.mark.parametrize("name", ["cnn-nano", "cnn", "cnn-large"])
def test_its_card_tells_what_it_does(mnist, name):
    classifier, card = Classifier(name), (PRETRAINED / name / "README.md").read_text()
    table = dict(re.findall(r"^\| (.+?) \| (.+?) \|$", card, re.MULTILINE))
    accuracy = (classifier.logits(mnist.test.images).argmax(axis=1) == mnist.test.labels).mean()
    assert float(table["accuracy on MNIST's test set"].split()[0]) == pytest.approx(100 * accuracy, abs=0.02)
    assert f"`{classifier.file}`" in table["answers"]
    for path in (PRETRAINED / name).glob("*.onnx"):
        assert table[f"`{path.name}`"].startswith(f"{path.stat().st_size / 1000:.1f} KB")


@pytest.mark.parametrize("name", long_after(1, ["cnn-nano", "cnn", "cnn-large"]))
def test_its_column_tells_how_robust_it_is(corrupted, robustness, name):
    measure, classifier, column = script("measure_corruptions"), Classifier(name), columns_of(robustness, f"`{name}`")
    for kind, test in corrupted.items():
        row = measure.row_name(kind.removesuffix(" *"))
        assert float(column[row]) == pytest.approx(measure.accuracy(classifier, test), abs=0.1), kind


@pytest.mark.parametrize("name", ["cnn-nano", "cnn", "cnn-large"])
def test_its_card_repeats_the_means_of_its_column(robustness, name):
    card, page = (PRETRAINED / name / "README.md").read_text(), without_pictures(robustness)
    column = columns_of(page, f"`{name}`")
    means = dict(re.findall(r"^\| corruptions, (.+?) \| (.+?) % \|$", card, re.MULTILINE))
    assert len(means) >= 4
    assert means == {group: column[group] for group in means}
    (forms, percent, errors, images) = re.search(
        r"^\| drawn digits in (\d+) forms of other countries \| (.+?) %, (.+?) errors of (.+?) \|$", card, re.MULTILINE
    ).groups()
    assert column[f"mean of all {forms} forms"].split(" / ")[0] == percent
    (counts,) = (cell for row, cell in column.items() if row.startswith(f"errors of {images} / "))
    assert counts.split(" / ")[0] == errors


def without_pictures(page):
    """The page without the table of what `predict` makes of some images, whose rows have the same names."""
    return re.sub(r"<!-- figures: corrupted-pictures -->.*?<!-- end -->", "", page, flags=re.DOTALL)


def test_the_card_tells_whose_digits_the_model_knows():
    limitations = script("model_card").limitations
    provenance = reading.read_manifest(PRETRAINED / "cnn").provenance
    told = {
        share: " ".join(
            limitations(
                structs.replace(provenance, recipe=structs.replace(provenance.recipe, drawn_digits=share))
            ).split()
        )
        for share in (0.0, 0.1)
    }
    assert "knows single, upright digits as Americans wrote them in the 1990s" in told[0.0]
    assert "drawn digits in forms of other countries, 10 % of each batch" in told[0.1]
    assert "Real handwriting from elsewhere was not used" in told[0.1]


@pytest.mark.numeric
def test_its_figures_are_those_of_its_manifest(classifier, mnist, test_logits):
    recorded = reading.read_manifest(PRETRAINED / "cnn").files[classifier.file]
    accuracy = (test_logits.argmax(axis=1) == mnist.test.labels).mean()
    assert accuracy == pytest.approx(recorded.parity.accuracy, abs=2e-4)
    assert accuracy > 0.996
    error = metrics.calibration_error(classifier.probabilities(test_logits), mnist.test.labels)
    assert error == pytest.approx(recorded.calibration.error, abs=5e-4)
    assert error < 0.005
    assert metrics.calibration_error(prediction.softmax(test_logits), mnist.test.labels) > 0.05


def test_most_digits_can_be_answered_with_one_error_in_a_thousand(classifier, mnist, test_logits):
    share, _ = metrics.coverage_at(0.999, classifier.probabilities(test_logits), mnist.test.labels)
    assert share > 0.98


def test_the_ood_score_means_what_it_says(classifier, test_logits):
    scores = prediction.ood_score(test_logits, classifier.contract.calibration)
    for limit in (0.5, 0.9, 0.99):
        assert (scores > limit).mean() == pytest.approx(1 - limit, rel=0.25, abs=0.01)


@pytest.mark.parametrize(
    ("kind", "least"),
    long_after(1, [("letters", 0.9), ("shapes", 0.88), ("scribbles", 0.94), ("noise", 0.97), ("shuffled", 0.99)]),
)
def test_it_tells_digits_from_what_is_none(classifier, mnist, test_logits, kind, least):
    measure = script("measure_ood")
    rng = np.random.default_rng(seed=0)
    digits = mnist.test.images[:500]
    match kind:
        case "noise":
            others = measure.noise(digits, rng)
        case "shuffled":
            others = measure.shuffled(digits, 7, rng)
        case _:
            drawn = getattr(measure, kind)(rng)
            some = rng.choice(len(drawn), 300, replace=False)
            others = np.stack([classifier.preprocess(drawn[index]) for index in some])
    assert measure.auroc(prediction.energy(test_logits), prediction.energy(classifier.logits(others))) > least


def test_the_auroc_by_hand():
    auroc = script("measure_ood").auroc
    assert auroc(np.array([1.0, 2.0]), np.array([3.0, 4.0])) == 1
    assert auroc(np.array([3.0, 4.0]), np.array([1.0, 2.0])) == 0
    assert auroc(np.array([1.0, 3.0]), np.array([2.0, 3.0])) == (1 + 0 + 1 + 0.5) / 4


def test_its_name_stands_for_it_on_the_command_line():
    for command in ("info", "selftest", "evaluate"):
        result = cli_in_process(command, "cnn", cwd=Path("/"))
        assert result.returncode == 0, result.stderr
    fails(cli_in_process("verify", PRETRAINED / "cnn"), 4, "has no PyTorch model to compare with", "selftest")
    result = cli_in_process("evaluate", PRETRAINED / "cnn", "--json")
    assert json.loads(result.stdout)["accuracy"] > 0.996
    fails(cli_in_process("info", "README.md", cwd=Path("/")), 4, "README.md: no such bundle")


def test_no_altered_byte_and_no_missing_end_goes_unnoticed():
    data = (PRETRAINED / "cnn" / Classifier().file).read_bytes()
    rng = np.random.default_rng(seed=0)
    for position in rng.choice(len(data), 500, replace=False):
        altered = bytearray(data)
        altered[position] ^= 1 << int(rng.integers(8))
        with pytest.raises(ModelError):
            load(bytes(altered), "model.onnx")
    for length in rng.choice(len(data), 100, replace=False):
        with pytest.raises(ModelError):
            load(data[:length], "model.onnx")
    load(data, "model.onnx")


def test_an_altered_copy_of_it_on_the_command_line(tmp_path, mnist):
    Image.fromarray(mnist.test.images[0]).save(tmp_path / "digit.png")
    data = bytearray((PRETRAINED / "cnn" / "model.onnx").read_bytes())
    data[len(data) // 2] ^= 1
    (tmp_path / "model.onnx").write_bytes(data)
    fails(run_cli("predict", "digit.png", "--model", "model.onnx", cwd=tmp_path), 4, "altered since its export")
    fails(run_cli("selftest", "model.onnx", cwd=tmp_path), 4, "altered since its export")


@pytest.mark.long
@pytest.mark.slow
def test_the_test_set_as_files(mnist, test_logits, tmp_path):
    for index, image in enumerate(mnist.test.images):
        Image.fromarray(image).save(tmp_path / f"{index:05}.png")
    result = run_cli("predict", tmp_path, "--json")
    assert result.returncode == 0, result.stderr
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["image"] for line in lines] == [str(path) for path in sorted(tmp_path.iterdir())]
    from_files = np.mean([line["label"] == str(label) for line, label in zip(lines, mnist.test.labels, strict=True)])
    from_arrays = (test_logits.argmax(axis=1) == mnist.test.labels).mean()
    assert from_files == pytest.approx(from_arrays, abs=5e-4)


@pytest.mark.slow
def test_pictures_as_people_have_them(classifier, mnist):
    resized = script("measure_pictures").resized
    ours, naive = [], []
    for picture in pictures(mnist.test.images, mnist.test.labels):
        both = np.stack([classifier.preprocess(io.BytesIO(picture.content)), resized(picture.content)])
        found = classifier.logits(both).argmax(axis=1) == picture.label
        ours.append(found[0])
        naive.append(found[1])
    assert len(ours) >= 60
    assert np.mean(ours) >= 0.98
    assert np.mean(naive) < 0.7


@pytest.mark.slow
def test_lines_of_digits(classifier, mnist):
    whole, digits, total = [], 0, 0
    drawn = list(lines(mnist.test.images, mnist.test.labels))
    assert len(drawn) >= 200
    for line in drawn:
        if not line.touching:
            text = classifier.read(line.pixels).text
            whole.append(text == line.text)
            blocks = SequenceMatcher(None, line.text, text, autojunk=False).get_matching_blocks()
            digits, total = digits + sum(block.size for block in blocks), total + len(line.text)
    assert digits / total >= 0.97
    assert np.mean(whole) >= 0.85
