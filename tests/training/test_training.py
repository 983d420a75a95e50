"""The two predecessor models, the training loop, and the files that a training writes."""

import json

import numpy as np
import pytest
import torch
from msgspec import structs
from torch import nn
from torch.nn import functional

from mnist_edge.bundle.recipe import Architecture, OptimizerName, Recipe, Schedule
from mnist_edge.contract import DIGITS, STANDARDIZED, TO_TENSOR, Contract, Preprocessing
from mnist_edge.errors import AlteredModelError, ModelError, ModelFormatError, TrainingError, UsageError
from mnist_edge.evaluation import metrics
from mnist_edge.training import checkpoint, loop
from mnist_edge.training.checks import check_folder
from mnist_edge.training.models import SigmoidNN, SimpleNN, build, normalize
from mnist_edge.training.recipes import FAST, RECIPES, suited
from tests.helpers import quick_recipe, subset, train

CONTRACT = Contract(DIGITS, TO_TENSOR, Preprocessing.MNIST)


def layers(model):
    return [(layer.in_features, layer.out_features) for layer in model.modules() if isinstance(layer, nn.Linear)]


def test_simple_nn_is_as_described():
    recipe = RECIPES[Architecture.SIMPLE_NN]
    assert layers(SimpleNN()) == [(784, 512), (512, 256), (256, 10)]
    assert (recipe.optimizer, recipe.epochs, recipe.batch_size) == (OptimizerName.ADAM, 5, 64)
    assert recipe.label_smoothing == 0  # plain cross-entropy
    assert not recipe.augment


def test_sigmoid_nn_is_as_described():
    recipe = RECIPES[Architecture.SIGMOID_NN]
    model = SigmoidNN()
    assert layers(model) == [(784, 64), (64, 10)]
    x = torch.rand(3, 1, 28, 28)
    by_hand = torch.sigmoid(x.flatten(1) @ model.hidden.weight.T + model.hidden.bias) @ model.output.weight.T
    torch.testing.assert_close(model(x), by_hand + model.output.bias)
    assert (recipe.optimizer, recipe.lr, recipe.normalization) == (OptimizerName.SGD, 0.01, TO_TENSOR)
    assert (recipe.momentum, recipe.weight_decay, recipe.label_smoothing) == (0, 0, 0)


@pytest.mark.parametrize("architecture", Architecture)
def test_the_documented_numbers_of_parameters(architecture):
    model = build(architecture, 10)
    assert f"{sum(parameter.numel() for parameter in model.parameters()):,}" in type(model).__doc__


def test_every_architecture_can_be_built_and_has_a_recipe():
    assert set(RECIPES) == set(Architecture)
    for architecture in Architecture:
        assert build(architecture, 7)(torch.zeros(2, 1, 28, 28)).shape == (2, 7)


@pytest.mark.numeric
def test_the_saved_state_dict_loads_as_in_any_pytorch_program(small, tmp_path):
    data = subset(small, train=640, test=100)
    train(data, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), tmp_path)
    model = SimpleNN()
    model.load_state_dict(torch.load(tmp_path / "model.pth"))
    with torch.inference_mode():
        logits = model(normalize(torch.tensor(data.test.images[:, None]).float(), STANDARDIZED)).numpy()
    recorded = json.loads((tmp_path / "training.json").read_text())["epochs"][-1]["test"]["correct"]
    assert (logits.argmax(1) == data.test.labels).sum() == recorded


@pytest.fixture
def in_float64(monkeypatch):
    """Run the loop in double precision, including every .float(), so that rounding errors stay far below any bug.

    In float32, Adam turns the last bit of a tiny gradient, which depends on summation order, into a full step.
    """
    monkeypatch.setattr(torch.Tensor, "float", torch.Tensor.double)
    before = torch.get_default_dtype()
    torch.set_default_dtype(torch.float64)
    yield
    torch.set_default_dtype(before)


@pytest.mark.numeric
@pytest.mark.parametrize("architecture", [Architecture.SIMPLE_NN, Architecture.SIGMOID_NN])
def test_the_loop_does_what_a_plain_pytorch_loop_does(small, in_float64, architecture):
    """An independent textbook loop with the same initial weights and batches."""
    data = subset(small, train=1000, test=100)
    recipe = structs.replace(RECIPES[architecture], epochs=1)
    torch.manual_seed(5)
    model = build(architecture, 10)
    optimizer = {"sgd": torch.optim.SGD, "adam": torch.optim.Adam}[recipe.optimizer](model.parameters(), lr=recipe.lr)
    criterion = nn.CrossEntropyLoss()
    generator = torch.Generator().manual_seed(5)
    mean, std = recipe.normalization.mean, recipe.normalization.std
    images = (torch.tensor(data.train.images).double()[:, None] / 255 - mean) / std
    labels = torch.tensor(data.train.labels).long()
    order = torch.randperm(1000, generator=generator)
    for start in range(0, 1000, 64):
        batch = order[start : start + 64]
        optimizer.zero_grad()
        criterion(model(images[batch]), labels[batch]).backward()
        optimizer.step()

    ((_, trained),) = loop.fit(data, architecture, recipe, seed=5)
    for (name, ours), theirs in zip(trained.state_dict().items(), model.state_dict().values(), strict=True):
        assert ours.dtype == torch.float64
        torch.testing.assert_close(ours, theirs, atol=1e-9, rtol=0, msg=name)


def weights(small, recipe, seed):
    *_, (_, model) = loop.fit(subset(small, 1000, 100), Architecture.CNN, recipe, seed=seed)
    return checkpoint.model_digest(model.state_dict(), CONTRACT)


@pytest.mark.numeric
def test_the_seed_decides_everything(small):
    recipe = structs.replace(RECIPES[Architecture.CNN], epochs=2)
    torch.manual_seed(1)
    before = torch.get_rng_state()
    first = weights(small, recipe, seed=3)
    assert torch.equal(torch.get_rng_state(), before)
    torch.manual_seed(2)
    assert weights(small, recipe, seed=3) == first
    assert weights(small, recipe, seed=4) != first


def test_every_value_of_a_recipe_matters(small):
    base = structs.replace(quick_recipe(Architecture.CNN), epochs=1)
    changes = {
        "normalization": STANDARDIZED,
        "optimizer": OptimizerName.ADAM,
        "lr": 0.01,
        "epochs": 2,
        "batch_size": 32,
        "schedule": Schedule.CONSTANT,
        "momentum": 0.5,
        "weight_decay": 0.01,
        "label_smoothing": 0.0,
        "augment": True,
        "drawn_digits": 0.1,
        "outliers": 0.1,
        "ema_decay": 0.5,
    }
    # The calibration split has its own tests, with more images.
    assert set(changes) | {"autocast", "calibration_split"} == set(Recipe.__struct_fields__)
    digests = {weights(small, structs.replace(base, **{name: value}), seed=0) for name, value in changes.items()}
    assert len(digests | {weights(small, base, seed=0)}) == len(changes) + 1


@pytest.mark.numeric
def test_the_test_loss_is_a_mean_over_the_whole_set(small, tmp_path):
    """The description reports 0.0014, the sum of batch means divided by the number of images; this is the true mean."""
    data = subset(small, train=1000, test=997)
    ((epoch, model),) = loop.fit(
        data, Architecture.SIMPLE_NN, structs.replace(RECIPES[Architecture.SIMPLE_NN], epochs=1)
    )
    with torch.inference_mode():
        logits = model(normalize(torch.tensor(data.test.images[:, None]).float(), STANDARDIZED))
    labels = torch.tensor(data.test.labels).long()
    assert epoch.test.loss == pytest.approx(functional.cross_entropy(logits, labels).item(), rel=1e-5)
    assert epoch.test.correct == (logits.argmax(1) == labels).sum().item()


def test_metrics_against_counting_by_hand():
    labels = np.array([0, 0, 1, 2, 2, 2], np.uint8)
    answers = np.array([0, 1, 1, 2, 2, 0])
    logits = np.eye(4, dtype=np.float32)[answers] * 3
    confusion = metrics.confusion_matrix(logits, labels)
    assert confusion.tolist() == [[1, 1, 0, 0], [0, 1, 0, 0], [1, 0, 2, 0], [0, 0, 0, 0]]
    zero, one, two, unseen = metrics.per_class(confusion)
    assert structs.astuple(zero) == (0.5, 0.5, 0.5, 2)
    assert structs.astuple(one) == (0.5, 1.0, pytest.approx(2 / 3), 1)
    assert structs.astuple(two) == (1.0, pytest.approx(2 / 3), pytest.approx(0.8), 3)
    assert structs.astuple(unseen) == (0, 0, 0, 0)
    assert metrics.measure(logits, labels).accuracy == 4 / 6


def test_a_diverging_training_stops_and_keeps_what_was_there(small, tmp_path):
    data = subset(small, train=1000, test=100)
    recipe = quick_recipe(Architecture.SIMPLE_NN)
    train(data, Architecture.SIMPLE_NN, recipe, tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wild = structs.replace(recipe, optimizer=OptimizerName.SGD, lr=1e12)
    with pytest.raises(TrainingError, match="lower the learning rate"):
        train(data, Architecture.SIMPLE_NN, wild, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_a_new_training_removes_the_files_of_the_old_one(bundle_copy, small):
    assert (bundle_copy / "model.onnx").exists()
    recipe = quick_recipe(Architecture.SIGMOID_NN)
    train(subset(small, 640, 100), Architecture.SIGMOID_NN, recipe, bundle_copy, overwrite=True)
    assert {path.name for path in bundle_copy.iterdir()} == {
        "model.pth",
        "training.json",
        "metrics.jsonl",
        "expected.npz",
    }


def test_an_interruption_leaves_the_last_finished_epoch(small, tmp_path):
    data = subset(small, train=1000, test=100)

    def interrupt(epoch, seen, total, loss):
        if epoch == 3 and seen > total / 2:
            raise KeyboardInterrupt

    recipe = structs.replace(quick_recipe(Architecture.SIMPLE_NN), epochs=4)
    with pytest.raises(KeyboardInterrupt):
        train(data, Architecture.SIMPLE_NN, recipe, tmp_path, on_batch=interrupt)
    trained = checkpoint.load(tmp_path)
    assert [epoch.number for epoch in trained.training.epochs] == [1, 2]
    assert trained.training.finished is False


@pytest.mark.parametrize(
    "change",
    [
        {"epochs": 0},
        {"batch_size": 0},
        {"batch_size": -64},
        {"batch_size": 10**20},
        {"lr": 0.0},
        {"lr": -0.1},
        {"lr": float("nan")},
        {"lr": float("inf")},
        {"momentum": 1.0},
        {"weight_decay": -1.0},
        {"label_smoothing": 1.0},
        {"ema_decay": 1.0},
    ],
    ids=str,
)
def test_impossible_values_are_refused_before_anything_happens(small, tmp_path, change):
    recipe = structs.replace(RECIPES[Architecture.CNN], **change)
    with pytest.raises(UsageError, match=next(iter(change)).replace("_", " ")):
        train(small, Architecture.CNN, recipe, tmp_path / "new")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("device", ["gpu", "cuda:99", "meta-physics", "meta"])
def test_unusable_devices_are_refused(small, tmp_path, device):
    with pytest.raises(UsageError, match="--device cpu"):
        train(small, Architecture.CNN, RECIPES[Architecture.CNN], tmp_path / "new", device=device)


def test_out_must_not_be_a_file(small, tmp_path):
    (tmp_path / "file").write_text("mine")
    with pytest.raises(UsageError, match="is not a folder"):
        train(small, Architecture.CNN, RECIPES[Architecture.CNN], tmp_path / "file")
    assert (tmp_path / "file").read_text() == "mine"


def corrupt_weights(folder, change):
    state_dict = torch.load(folder / "model.pth")
    change(state_dict)
    torch.save(state_dict, folder / "model.pth")


def edit_recipe(folder, **changes):
    record = json.loads((folder / "training.json").read_text())
    edit_training(folder, recipe=record["recipe"] | changes)


def edit_training(folder, **changes):
    path = folder / "training.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


@pytest.mark.parametrize(
    ("breakage", "error", "words"),
    [
        (lambda folder: (folder / "model.pth").unlink(), ModelError, "model.pth: no such file"),
        (lambda folder: (folder / "training.json").unlink(), ModelError, "training.json: no such file"),
        (lambda folder: (folder / "model.pth").write_bytes(b""), ModelFormatError, "an empty file"),
        (
            lambda folder: (folder / "model.pth").write_bytes(b"PK\3\4 cut"),
            ModelFormatError,
            "damaged or cut short",
        ),
        (lambda folder: torch.save([1, 2], folder / "model.pth"), ModelFormatError, "not a state_dict"),
        (lambda folder: torch.save(SimpleNN(), folder / "model.pth"), ModelFormatError, "a whole pickled module"),
        (
            lambda folder: torch.save(SimpleNN().state_dict(), folder / "model.pth"),
            ModelFormatError,
            "does not fit cnn",
        ),
        (
            lambda folder: corrupt_weights(folder, lambda s: s["classifier.bias"].fill_(float("nan"))),
            ModelFormatError,
            "classifier.bias holds NaN",
        ),
        (
            lambda folder: corrupt_weights(folder, lambda s: s["features.0.weight"].view(-1)[0].mul_(1.01)),
            AlteredModelError,
            "altered since its training",
        ),
        (
            lambda folder: edit_training(folder, architecture="cnm"),
            ModelFormatError,
            "'cnm' is not a valid Architecture",
        ),
        (lambda folder: edit_training(folder, version=1), ModelFormatError, "made by mnist-edge 0.1.0"),
        (
            lambda folder: edit_training(
                folder, recipe={"normalization": {"men": 1}, "calibration_split": 12, "epochs": 2}
            ),
            ModelFormatError,
            "malformed",
        ),
        (
            lambda folder: edit_training(folder, recipe={"normalization": {"mean": 0.0, "std": 1.0}}),
            ModelFormatError,
            "missing required field `optimizer` - at `$.recipe`",
        ),
        (lambda folder: edit_training(folder, preprocessing="round"), ModelFormatError, "malformed"),
        (
            lambda folder: edit_training(folder, data={}),
            ModelFormatError,
            "missing required field `name` - at `$.data`",
        ),
        (lambda folder: edit_training(folder, labels=["a", "b"]), ModelFormatError, "does not fit cnn"),
        (
            lambda folder: edit_training(folder, labels=list("1023456789")),
            AlteredModelError,
            "labels and normalisation",
        ),
        (lambda folder: edit_training(folder, labels=list(range(10))), ModelFormatError, "malformed"),
        (
            lambda folder: edit_recipe(folder, normalization={"mean": 0.0, "std": 2.0}),
            AlteredModelError,
            "labels and normalisation",
        ),
        (
            lambda folder: edit_recipe(folder, normalization={"mean": 0.0, "std": 0.0}),
            ModelFormatError,
            ">= 1e-12 - at `$.recipe.normalization.std`",
        ),
        (
            lambda folder: corrupt_weights(
                folder, lambda s: s.update({"classifier.bias": s["classifier.bias"].half()})
            ),
            ModelFormatError,
            "torch.float16 instead of torch.float32",
        ),
        (lambda folder: (folder / "training.json").write_text("{"), ModelFormatError, "not JSON"),
    ],
)
def test_a_broken_first_half_is_refused(bundle_copy, breakage, error, words):
    checkpoint.load(bundle_copy)
    breakage(bundle_copy)
    with pytest.raises(error) as caught:
        checkpoint.load(bundle_copy)
    assert words in str(caught.value)
    assert "train again" in str(caught.value)


def test_the_digest_of_weights_does_not_depend_on_how_they_were_saved(tmp_path):
    model = SigmoidNN()
    digest = checkpoint.model_digest(model.state_dict(), CONTRACT)
    torch.save(dict(reversed(model.state_dict().items())), tmp_path / "other-name.pt")
    assert checkpoint.model_digest(torch.load(tmp_path / "other-name.pt"), CONTRACT) == digest
    swapped = Contract(("1", "0", *DIGITS[2:]), TO_TENSOR, Preprocessing.MNIST)
    assert checkpoint.model_digest(model.state_dict(), swapped) != digest
    with torch.no_grad():
        model.output.bias[0] += 1
    assert checkpoint.model_digest(model.state_dict(), CONTRACT) != digest


@pytest.mark.parametrize("images", [65, 129])
def test_a_last_image_joins_the_batch_before(mnist, images):
    recipe = structs.replace(RECIPES[Architecture.CNN_NANO], epochs=1, batch_size=64, calibration_split=0)
    training = loop.Training(subset(mnist, images, 100), Architecture.CNN_NANO, recipe)
    seen = []
    training.run_epoch(lambda epoch, so_far, total, loss: seen.append(so_far))
    sizes = np.diff([0, *seen]).tolist()
    assert (sum(sizes), max(sizes), min(sizes) >= 64) == (images, 65, True)
    assert training._scheduler.total_steps == len(seen) + 1


@pytest.mark.parametrize(("images", "batch_size"), [(1, 64), (100, 1)])
def test_batches_of_one_image_are_for_models_without_batch_normalisation(mnist, images, batch_size):
    recipe = structs.replace(RECIPES[Architecture.CNN], batch_size=batch_size)
    with pytest.raises(UsageError, match="cnn uses batch normalisation and cannot learn from batches of one image"):
        loop.Training(subset(mnist, images, 100), Architecture.CNN, recipe)
    recipe = structs.replace(RECIPES[Architecture.SIMPLE_NN], batch_size=batch_size)
    loop.Training(subset(mnist, images, 100), Architecture.SIMPLE_NN, recipe).run_epoch()


@pytest.mark.parametrize("steps", range(1, 10))
def test_one_cycle_of_few_steps(mnist, steps):
    recipe = structs.replace(RECIPES[Architecture.CNN_NANO], epochs=steps, batch_size=64)
    rates = [epoch.lr for epoch, _ in loop.fit(subset(mnist, 64, 10), Architecture.CNN_NANO, recipe)]
    assert len(rates) == steps
    assert max(rates) <= recipe.lr


@pytest.mark.parametrize(("images", "least"), [(200, 0.8), pytest.param(2000, 0.95, marks=pytest.mark.long)])
def test_cnns_learn_from_small_sets_as_well(mnist, images, least):
    data = subset(mnist, images, 300)
    recipe = suited(RECIPES[Architecture.CNN_NANO], images)
    *_, (epoch, _) = loop.fit(data, Architecture.CNN_NANO, recipe)
    assert epoch.test.accuracy > least


def test_recipes_that_suit_are_left_alone():
    assert all(suited(recipe, 60_000) is recipe for recipe in FAST.values())
    assert suited(RECIPES[Architecture.CNN_NANO], 10_000) is RECIPES[Architecture.CNN_NANO]
    for architecture, recipe in RECIPES.items():
        assert suited(recipe, 60_000) is recipe
        if architecture in (Architecture.SIMPLE_NN, Architecture.SIGMOID_NN):
            assert suited(recipe, 100) is recipe


def test_weights_that_diverge_in_the_last_step_are_noticed(small, tmp_path, monkeypatch):
    data = subset(small, train=1000, test=100)
    train(data, Architecture.SIMPLE_NN, quick_recipe(Architecture.SIMPLE_NN), tmp_path)
    before = {path.name: path.read_bytes() for path in tmp_path.iterdir()}
    wild = Recipe(STANDARDIZED, OptimizerName.SGD, lr=1e38, epochs=1, batch_size=1000)
    # A recipe that may be used takes several steps to get there.
    monkeypatch.setattr("mnist_edge.training.train.check_recipe", lambda recipe: None)
    with pytest.raises(TrainingError, match="diverged in epoch 1"):
        train(data, Architecture.SIMPLE_NN, wild, tmp_path, overwrite=True)
    assert {path.name: path.read_bytes() for path in tmp_path.iterdir()} == before


def test_out_must_not_hold_other_things(small, tmp_path):
    (tmp_path / "manifest.json").write_text("of a web page")
    with pytest.raises(UsageError, match="is not a bundle"):
        train(small, Architecture.CNN, RECIPES[Architecture.CNN], tmp_path)
    assert (tmp_path / "manifest.json").read_text() == "of a web page"


def test_what_a_killed_import_left_can_be_replaced(tmp_path):
    (tmp_path / "notes.txt").write_text("mine")
    (tmp_path / "model.pth").write_bytes(b"without its record")
    with pytest.raises(UsageError, match=r"--overwrite to replace it \(model\.pth would go\)"):
        check_folder(tmp_path, overwrite=False)
    check_folder(tmp_path, overwrite=True)
