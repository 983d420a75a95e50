"""Import weights trained elsewhere, and export a module in memory."""

import json
import sys

import numpy as np
import pytest
import torch
from torch import nn
from torch.nn import functional

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.bundle.recipe import Architecture
from mnist_edge.bundle.source import Ending, InputForm
from mnist_edge.contract import NORMALIZATIONS, Output
from mnist_edge.data.datasets import Split
from mnist_edge.errors import AlteredModelError, ModelFormatError, UndecidedError, UsageError
from mnist_edge.export import export_module, import_weights, pipeline, preprocessing
from mnist_edge.runtime.classifier import Classifier
from mnist_edge.training import checkpoint, endings, sources
from mnist_edge.training.models import build
from tests import train_zoo
from tests.helpers import cli_in_process, fails, long_after, subset, write_idx

pytestmark = pytest.mark.usefixtures("cheaper")

WAYS = {
    f"none, {way}" if way in ("inverted", "transposed") else way: prepare for way, prepare in train_zoo.WAYS.items()
}
"""How tutorials prepare images, in plain torch, under the names that `preprocessing` gives them."""

SOURCE = """
from torch import nn

class Net(nn.Module):
    def __init__(self, hidden=32):
        super().__init__()
        self.hidden, self.output = nn.Linear(784, hidden), nn.Linear(hidden, 10)

    def forward(self, x):
        print("a print of the user")
        return self.output(self.hidden(x.reshape(-1, 784)).relu())
"""
"""What a user's file holds: `Net`."""


class Net(nn.Module):
    def __init__(self, hidden: int = 32) -> None:
        super().__init__()
        self.hidden, self.output = nn.Linear(784, hidden), nn.Linear(hidden, 10)

    def forward(self, x):
        return self.output(self.hidden(x.reshape(-1, 784)).relu())


class Softmax(Net):
    def forward(self, x):
        return super().forward(x).softmax(dim=1)


class LogSoftmax(Net):
    def forward(self, x):
        return functional.log_softmax(super().forward(x), dim=1)


class ByHand(Net):
    def forward(self, x):
        exp = super().forward(x).exp()
        return exp / exp.sum(dim=1, keepdim=True)


@pytest.fixture(scope="module")
def data(mnist):
    return subset(mnist, train=6000, test=1000)


def trained(data, prepare, kind=Net, seed=1):
    """A network trained for six epochs in plain torch, with a falling learning rate."""
    torch.manual_seed(seed)
    model = kind()
    images, labels = prepare(torch.tensor(data.train.images)[:, None].float()), torch.tensor(data.train.labels).long()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.003)
    batches = [batch for _ in range(6) for batch in torch.randperm(len(labels)).split(64)]
    schedule = torch.optim.lr_scheduler.LinearLR(optimizer, 1, 0.01, len(batches))
    for batch in batches:
        optimizer.zero_grad()
        functional.cross_entropy(Net.forward(model, images[batch]), labels[batch]).backward()
        optimizer.step()
        schedule.step()
    return model.eval()


def expected(model, prepare, split: Split) -> np.ndarray:
    with torch.no_grad():
        return model(prepare(torch.tensor(split.images)[:, None].float())).numpy()


@pytest.mark.parametrize("way", long_after(3, [*WAYS]))
def test_the_preprocessing_is_found(way, data):
    model = trained(data, WAYS[way])
    trials = preprocessing.try_all(model, data.train, preprocessing.candidates(None))
    found = preprocessing.decide(trials, data.train.labels, 10)
    assert name_of(found) == way
    wrong = (expected(model, WAYS[way], data.train).argmax(axis=1) != data.train.labels).mean()
    assert found.errors.mean() == pytest.approx(wrong)


def test_shuffled_labels_are_refused(data):
    model = trained(data, WAYS["mnist"])
    labels = np.random.default_rng(0).permutation(data.train.labels)
    trials = preprocessing.try_all(model, Split(data.train.images, labels), preprocessing.candidates(None))
    assert "none beats a constant answer" in preprocessing.decide(trials, labels, 10)


def decided(*figures: tuple[float, float, float], temperature: float = 1.0) -> preprocessing.Trial | str:
    """What is decided on candidates with these means: cross-entropy, calibrated cross-entropy, error."""
    generator = np.random.default_rng(0)
    trials = [
        preprocessing.Trial(
            preparation,
            losses=generator.exponential(plain, 10_000),
            temperature=temperature,
            calibrated_losses=generator.exponential(calibrated, 10_000),
            errors=generator.exponential(errors, 10_000),
        )
        for preparation, (plain, calibrated, errors) in zip(preprocessing.candidates(None), figures, strict=False)
    ]
    trials.sort(key=lambda trial: trial.losses.mean())
    return preprocessing.decide(trials, np.arange(10_000) % 10, 10)


def name_of(found: preprocessing.Trial | str) -> str:
    return found if isinstance(found, str) else str(found.preparation)


@pytest.mark.parametrize(
    ("figures", "answer"),
    [
        ([(0.1, 0.1, 0.02), (0.2, 0.2, 0.04)], "none"),
        ([(0.2, 0.2, 0.04), (0.1, 0.1, 0.02)], "mnist"),
        ([(0.1, 0.2, 0.02), (0.2, 0.1, 0.02)], "“none” has the lower cross-entropy, “mnist” the lower calibrated"),
        ([(0.1, 0.1, 0.04), (0.2, 0.2, 0.02)], "“none” has the lower cross-entropy, “mnist” the lower share of errors"),
        ([(0.1, 0.1, 0.02), (0.1, 0.1, 0.02)], "“none” and “mnist” do equally well"),
        ([(0.1, 0.1, 0.02), (0.1, 0.2, 0.04)], "“none” and “mnist” do equally well"),
        ([(0.1, 0.1, 0.02), (0.1, 0.1, 0.04)], "“none” and “mnist” do equally well"),
        ([(2.4, 1.9, 0.6), (3.0, 2.0, 0.7)], "with the best one, “none”, its cross-entropy is "),
        ([(2.4, 2.4, 0.9), (3.0, 3.0, 0.9)], "none beats a constant answer, whose cross-entropy is 2.303"),
    ],
)
def test_what_is_decided(figures, answer):
    assert name_of(decided(*figures)).startswith(answer)


def test_a_model_that_is_unsure_of_itself_is_known_by_what_else_is_better():
    figures = (0.1, 0.1, 0.02), (0.1, 0.2, 0.04)
    assert name_of(decided(*figures, temperature=0.7)) == "none"
    assert name_of(decided(*figures, temperature=1.3)) == "“none” and “mnist” do equally well"


def test_a_model_that_normalizes_its_input_itself_takes_any_scale():
    losses = np.random.default_rng(0).exponential(0.1, 10_000)
    trials = [
        preprocessing.Trial(preparation, losses + shift, 1.0, losses + shift, losses * 0)
        for preparation, shift in zip(preprocessing.candidates(None), (0, 1e-5), strict=False)
    ]
    assert name_of(preprocessing.decide(trials, np.arange(10_000) % 10, 10)) == "none"


@pytest.mark.parametrize(
    ("kind", "ending", "output"),
    long_after(
        2,
        [
            (Softmax, Ending.SOFTMAX, Output.LOGITS),
            (LogSoftmax, Ending.LOG_SOFTMAX, Output.LOG_SOFTMAX),
            (Net, Ending.LOGITS, Output.LOGITS),
            (ByHand, Ending.PROBABILITIES, Output.LOG_SOFTMAX),
        ],
    ),
)
def test_a_module_in_memory_is_exported_whatever_it_returns(kind, ending, output, data, tmp_path):
    model = trained(data, WAYS["half"], kind)
    folder = tmp_path / "bundle"
    manifest = export_module(model, folder, data=data, formats=[Format.ONNX])
    assert manifest.contract.output is output
    assert manifest.contract.normalization == NORMALIZATIONS["half"]
    assert reading.read_training(folder).ending is ending
    probabilities = torch.tensor(expected(model, WAYS["half"], data.test))
    probabilities = probabilities if kind in (Softmax, ByHand) else probabilities.softmax(dim=1)
    classifier = Classifier(folder)
    np.testing.assert_allclose(
        classifier.probabilities(classifier.logits(data.test.images)), probabilities, atol=2e-6, rtol=1e-4
    )


def test_a_softmax_that_is_left_out_keeps_the_logits(data):
    model = trained(data, WAYS["none"], Softmax)
    images = torch.tensor(data.test.images)[:, None] / 255
    with torch.no_grad():
        found = endings.to_logits(model, InputForm.IMAGE, Ending.SOFTMAX, images)
        torch.testing.assert_close(found, Net.forward(model, images))


class EditedSoftmax(Net):
    """Changes the softmax's output in place."""

    def forward(self, x):
        probabilities = super().forward(x).softmax(dim=1)
        probabilities *= torch.linspace(0.5, 2, 10)
        probabilities /= probabilities.sum(dim=1, keepdim=True)
        return probabilities


class Lower(Net):
    """Returns another dtype."""

    def forward(self, x):
        return super().forward(x).bfloat16()


def answers_of(model, split: Split) -> np.ndarray:
    with torch.no_grad():
        return model(WAYS["none"](torch.tensor(split.images)[:, None].float())).float().numpy().argmax(axis=1)


def test_a_softmax_that_is_changed_in_place_is_not_left_out(data, tmp_path):
    model, folder = trained(data, WAYS["none"], EditedSoftmax), tmp_path / "bundle"
    export_module(model, folder, data=data, normalization=NORMALIZATIONS["none"], formats=["onnx"])
    assert reading.read_training(folder).ending is Ending.PROBABILITIES
    answers = Classifier(folder).logits(data.test.images).argmax(axis=1)
    assert (answers == answers_of(model, data.test)).all()


def test_a_module_that_returns_another_dtype_is_exported_in_float32(data, tmp_path):
    model, folder = trained(data, WAYS["none"], Lower), tmp_path / "bundle"
    export_module(model, folder, data=data, normalization=NORMALIZATIONS["none"], formats=["torchscript"])
    correct = (answers_of(model, data.test) == data.test.labels).sum()
    assert reading.read_training(folder).test.correct == correct


@pytest.mark.filterwarnings("ignore:.*weight_norm.*:FutureWarning")
@pytest.mark.parametrize(
    ("make", "options", "error", "words"),
    [
        (lambda: print, {}, UsageError, "give an nn.Module"),
        (Net, {"formats": []}, UsageError, "at least one format"),
        (Net, {"formats": ["onxx"]}, UsageError, "did you mean onnx"),
        (Net, {"labels": ["a"] * 10}, UsageError, "give each class a name of its own"),
        (lambda: nn.utils.weight_norm(nn.Linear(784, 10)), {}, ModelFormatError, "cannot be copied"),
    ],
)
def test_wrong_arguments_for_a_module_write_nothing(make, options, error, words, data, tmp_path):
    module = make()
    if isinstance(module, nn.Linear):
        module(torch.zeros(2, 784))  # leaves a computed tensor behind
    with pytest.raises(error, match=words):
        export_module(module, tmp_path / "bundle", data=data, **options)
    assert not (tmp_path / "bundle").exists()


@pytest.fixture
def saved(data, tmp_path):
    """Weights of `Net` as a tutorial saves them, and the file that defines it."""
    model = trained(data, WAYS["mnist"])
    torch.save(model.state_dict(), tmp_path / "mnist_model.pth")
    source = tmp_path / "net.py"
    source.write_text(SOURCE)
    return tmp_path / "mnist_model.pth", source, model


def test_weights_are_imported_exported_and_verified(saved, data, tmp_path):
    weights, source, model = saved
    folder = tmp_path / "bundle"
    found = import_weights(weights, sources.find(f"{source}:Net", {}), folder, data=data)
    assert str(found.chosen.preparation) == "mnist"
    logits = expected(model, WAYS["mnist"], data.test)
    assert found.record.test.correct == (logits.argmax(axis=1) == data.test.labels).sum()
    formats = [Format.TORCHSCRIPT, Format.ONNX]
    manifest = pipeline.export(folder, data, formats)
    assert manifest.exported == tuple(form.file_name for form in formats)
    assert manifest.provenance.weights == found.record.weights
    np.testing.assert_allclose(Classifier(folder).logits(data.test.images), logits, atol=1e-4)
    assert all(outcome.error is None for outcome in pipeline.verify(folder, data))


def test_verify_refuses_another_source_and_takes_a_moved_one(saved, data, tmp_path):
    weights, source, _ = saved
    folder = tmp_path / "bundle"
    import_weights(weights, sources.find(f"{source}:Net", {}), folder, data=data, given=NORMALIZATIONS["mnist"])
    pipeline.export(folder, data, [Format.TORCHSCRIPT])
    moved = source.rename(tmp_path / "moved.py")
    place = sources.find(f"{moved}:Net", {})
    assert all(outcome.error is None for outcome in pipeline.verify(folder, data, model=place))
    moved.write_text(moved.read_text() + "\n# changed\n")
    with pytest.raises(AlteredModelError, match="altered since the model was made"):
        pipeline.verify(folder, data, model=sources.find(f"{moved}:Net", {}))


def test_a_module_in_memory_needs_its_class_later(saved, data, tmp_path):
    _, source, model = saved
    folder = tmp_path / "bundle"
    before = {name: tensor.clone() for name, tensor in model.state_dict().items()}
    export_module(model, folder, data=data, normalization=NORMALIZATIONS["mnist"], formats=[Format.TORCHSCRIPT])
    assert all(torch.equal(tensor, before[name]) for name, tensor in model.state_dict().items())
    with pytest.raises(UsageError, match=r"--model FILE\.py:CLASS"):
        pipeline.verify(folder, data)
    assert pipeline.verify(folder, data, model=sources.find(f"{source}:Net", {}))[0].error is None


def test_our_own_architecture_is_imported_by_name(data, tmp_path):
    from mnist_edge.training.models import SimpleNN

    torch.manual_seed(0)
    model = SimpleNN()
    optimizer = torch.optim.Adam(model.parameters())
    images, labels = torch.tensor(data.train.images)[:, None] / 255, torch.tensor(data.train.labels).long()
    for batch in torch.arange(len(labels)).split(64):
        optimizer.zero_grad()
        functional.cross_entropy(model(images[batch]), labels[batch]).backward()
        optimizer.step()
    torch.save({"model_state_dict": model.state_dict(), "epoch": 1}, tmp_path / "checkpoint.pt")
    folder, given = tmp_path / "bundle", NORMALIZATIONS["none"]
    found = import_weights(tmp_path / "checkpoint.pt", Architecture.SIMPLE_NN, folder, data=data, given=given)
    assert found.weights.changes == ["found under 'model_state_dict'"]
    assert torch.equal(checkpoint.load(folder).model.fc1.weight, model.fc1.weight)


def test_labels_rename_the_classes(saved, data, tmp_path):
    weights, source, _ = saved
    names = ["zero", "one", "two", "three", "four", "five", "six", "seven", "eight", "nine"]
    place = sources.find(f"{source}:Net", {})
    found = import_weights(weights, place, tmp_path / "bundle", data=data, labels=names)
    assert found.record.labels == tuple(names)
    with pytest.raises(UsageError, match="9 labels for the 10 classes"):
        import_weights(weights, place, tmp_path / "other", data=data, labels=names[:9])
    assert not (tmp_path / "other").exists()


def test_a_preprocessing_that_is_none_of_the_customary_ones_is_refused(data):
    model = trained(data, lambda x: x.flip(3) / 255)
    trials = preprocessing.try_all(model, data.train, preprocessing.candidates(None))
    assert isinstance(preprocessing.decide(trials, data.train.labels, 10), str)


def test_a_network_that_is_drawn_anew_is_refused(saved, data, tmp_path):
    weights, source, _ = saved
    drawn = SOURCE.replace("super().__init__()", "super().__init__(); self.order = __import__('torch').randperm(784)")
    source.write_text(drawn.replace("x.reshape(-1, 784)", "x.reshape(-1, 784)[:, self.order]"))
    place, given = sources.find(f"{source}:Net", {}), NORMALIZATIONS["mnist"]
    torch.save({name: tensor.flip(-1) for name, tensor in torch.load(weights).items()}, weights)
    with pytest.raises((ModelFormatError, UndecidedError)):
        import_weights(weights, place, tmp_path / "bundle", data=data, given=given)
    model = build(place, 10).eval()
    images = torch.tensor(data.test.images[:64])[:, None] / 255
    with pytest.raises(ModelFormatError, match="built again with the same weights: register"):
        endings.require_same_when_rebuilt(place, model, InputForm.IMAGE, images, 10)
    assert not (tmp_path / "bundle").exists()


def test_an_edited_file_that_the_class_imports_is_noticed(saved, data, tmp_path, monkeypatch):
    weights, source, _ = saved
    (tmp_path / "beside.py").write_text("def act(x):\n    return x.relu()\n")
    calls = "beside.act(self.hidden(x.reshape(-1, 784)))"
    source.write_text("import beside\n" + SOURCE.replace("self.hidden(x.reshape(-1, 784)).relu()", calls))
    place, folder = sources.find(f"{source}:Net", {}), tmp_path / "bundle"
    import_weights(weights, place, folder, data=data, given=NORMALIZATIONS["mnist"])
    monkeypatch.setattr(sys.modules["beside"], "act", lambda x: x.sin())
    with pytest.raises(AlteredModelError, match="what its class imports has changed"):
        pipeline.export(folder, data, [Format.TORCHSCRIPT])
    assert not (folder / "manifest.json").exists()


def test_verify_refuses_another_class(saved, data, tmp_path):
    weights, source, _ = saved
    source.write_text(SOURCE + "\n\nclass Other(Net):\n    pass\n")
    folder = tmp_path / "bundle"
    place = sources.find(f"{source}:Net", {})
    import_weights(weights, place, folder, data=data, given=NORMALIZATIONS["mnist"])
    pipeline.export(folder, data, [Format.TORCHSCRIPT])
    with pytest.raises(UsageError, match="of the class Net, not Other"):
        pipeline.verify(folder, data, model=sources.find(f"{source}:Other", {}))


def test_undecided_weights_write_nothing(saved, data, tmp_path):
    weights, source, model = saved
    state_dict = {name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}
    torch.save(state_dict, weights)
    with pytest.raises(UndecidedError, match="cannot be told") as caught:
        import_weights(weights, sources.find(f"{source}:Net", {}), tmp_path / "bundle", data=data)
    assert len(caught.value.trials) == 16
    assert not (tmp_path / "bundle").exists()


@pytest.fixture
def idx(data, tmp_path):
    return write_idx(tmp_path / "data", data)


def test_the_command_finds_the_preprocessing_and_prints_one_document(saved, idx, tmp_path):
    weights, source, _ = saved
    result = cli_in_process("import", weights, "--model", f"{source}:Net", "--data", idx, "--json", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert document["kind"] == "imported"
    assert document["normalization"] == {"mean": 0.1307, "std": 0.3081}
    assert b"a print of the user" in result.stderr
    assert (tmp_path / "artifacts" / "net" / "training.json").exists()
    again = cli_in_process("import", weights, "--model", f"{source}:Net", "--data", idx, cwd=tmp_path)
    fails(again, 2, "holds a trained model", "--overwrite")


def test_the_command_shows_the_table_where_it_cannot_decide(saved, idx, tmp_path):
    weights, source, model = saved
    torch.save({name: torch.randn_like(tensor) for name, tensor in model.state_dict().items()}, weights)
    result = cli_in_process("import", weights, "--model", f"{source}:Net", "--data", idx, cwd=tmp_path)
    fails(result, 1, "the preprocessing that Net was trained with cannot be told from data")
    table = result.stdout.decode().splitlines()
    assert len(table) == 17
    assert table[0].split() == ["preprocessing", "cross-entropy", "calibrated", "accuracy"]


def test_a_wrong_normalization_is_taken_with_a_warning(saved, idx, tmp_path):
    weights, source, _ = saved
    options = ["--model", f"{source}:Net", "--data", idx, "--quiet"]
    wrong = cli_in_process("import", weights, *options, "--normalization", "none", "--out", "wrong", cwd=tmp_path)
    assert wrong.returncode == 0, wrong.stderr
    (line,) = [line for line in wrong.stderr.decode().splitlines() if "a print" not in line]
    assert line.startswith("warning: mnist fits far better (cross-entropy ")
    right = cli_in_process("import", weights, *options, "--normalization", "mnist", "--out", "right", cwd=tmp_path)
    assert b"warning" not in right.stderr


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--mean", "0.5"], "belong together"),
        (["--mean", "0.5", "--std", "0"], "a std above 0"),
        (["--normalization", "mnst"], "did you mean mnist?"),
        (["--normalization", "none", "--mean", "0", "--std", "1"], "exclude each other"),
        (["--model-args", "hidden"], "write name=value"),
        (["--model", "simple_nn"], "did you mean simple-nn?"),
        (["--model", "net.py"], "net.py: name the class in it, too, as net.py:Net"),
        (["--model", "simple-nn", "--input", "flat"], "for a class of your own"),
    ],
)
def test_wrong_options_are_named(options, words, saved, idx, tmp_path):
    weights, source, _ = saved
    result = cli_in_process("import", weights, "--model", f"{source}:Net", "--data", idx, *options, cwd=tmp_path)
    fails(result, 2, words)
    assert not (tmp_path / "artifacts").exists()
