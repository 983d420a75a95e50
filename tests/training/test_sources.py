"""A user's own architecture: found, built, and noticed when it changes; and networks that cannot be exported."""

import inspect
import json
import random
import sys

import msgspec
import pytest
import torch
from torch import nn
from torch.nn import functional

from mnist_edge.bundle.source import InputForm, Source, is_source, parse_arguments, split_place
from mnist_edge.errors import AlteredModelError, ModelFormatError, ModelNotFoundError, UsageError
from mnist_edge.training.probing import probe
from mnist_edge.training.sources import build, find

NET = """\
from torch import nn
import helper_of_the_net
print("this goes to stderr")
torch_seed = __import__("torch").manual_seed(5)

class Net(nn.Module):
    def __init__(self, width: int = 8, num_classes: int = 10):
        super().__init__()
        print("so does this")
        self.hidden = nn.Linear(784, width)
        self.output = nn.Linear(width, num_classes)

    def forward(self, x):
        return self.output(self.hidden(x.flatten(1)).relu())

def half():
    return Net().half()

def double(n_classes):
    return Net(num_classes=n_classes).double().eval()

def fixed(classes=4, width=3):
    return Net(width, classes)

def anything(**options):
    return nn.Linear(784, len(options))

def compiled():  # as torch.compile does, which takes seconds to import
    wrapper = nn.Module()
    wrapper._orig_mod = Net()
    return wrapper

ready = Net()
three = 3
"""


@pytest.fixture
def net(tmp_path):
    """The file of a user's network, with a module of its own beside it."""
    (tmp_path / "helper_of_the_net.py").write_text("")
    path = tmp_path / "net.py"
    path.write_text(NET)
    yield path
    for name, module in [*sys.modules.items()]:
        if (getattr(module, "__file__", None) or "").startswith(str(tmp_path)):
            del sys.modules[name]


def built(path, name, classes=10, arguments=None):
    return build(find(f"{path}:{name}", arguments or {}), classes)


def test_a_class_in_a_file_is_built(net, capsys):
    modules, path = {*sys.modules}, sys.path.copy()
    model = built(net, "Net", 7, {"width": 4})
    assert [list(tensor.shape) for tensor in model.parameters()] == [[4, 784], [4], [7, 4], [7]]
    assert model.training
    out, err = capsys.readouterr()
    assert out == ""
    assert "this goes to stderr\nso does this" in err
    assert sys.path == path
    assert {name for name in {*sys.modules} - modules if not name.startswith("_")} == {"helper_of_the_net"}
    assert "self.hidden" in inspect.getsource(type(model))


@pytest.mark.parametrize(
    ("name", "arguments", "outputs"),
    [
        ("Net", {"num_classes": 3}, 3),
        ("double", {}, 7),
        ("half", {}, 10),
        ("fixed", {}, 7),
        ("fixed", {"classes": 5}, 5),
        ("anything", {"a": 1, "b": 2.5, "c": "x"}, 3),
        ("compiled", {}, 10),
    ],
)
def test_the_number_of_labels_is_passed_where_it_is_taken(net, name, arguments, outputs):
    model = built(net, name, 7, arguments)
    assert {tensor.dtype for tensor in model.parameters()} == {torch.float32}
    assert list(model.state_dict().values())[-1].shape == (outputs,)
    assert not any(key.startswith("_orig_mod") for key in model.state_dict())
    assert model.training


def test_weights_depend_on_the_callers_seed_alone(net):
    def drawn(seed):
        torch.manual_seed(seed)
        return built(net, "Net").hidden.weight

    first = drawn(1)
    assert torch.equal(drawn(1), first)
    assert not torch.equal(drawn(2), first)


def test_a_class_in_a_module_of_the_current_folder(net, monkeypatch):
    package = net.parent / "nets_of_a_user"
    package.mkdir()
    (package / "__init__.py").write_text("print('package')")
    (package / "small.py").write_text(NET)
    monkeypatch.chdir(net.parent)
    source = find("nets_of_a_user.small:Net", {"width": 2})
    assert source.place == "nets_of_a_user.small:Net"
    assert build(source, 10).hidden.out_features == 2
    build(source, 10)
    (package / "small.py").write_text(NET + "#")
    with pytest.raises(AlteredModelError, match=r"small\.py: altered"):
        build(source, 10)


def test_a_relative_path_is_made_absolute(net, monkeypatch):
    monkeypatch.chdir(net.parent)
    source = find("net.py:Net", {})
    assert source.place == f"{net}:Net"
    monkeypatch.chdir("/")
    build(source, 10)


def test_a_source_survives_json(net):
    arguments = {"width": 4, "rate": 0.5, "whole": 1.0, "bias": True, "name": "x"}
    source = find(f"{net}:Net", arguments, InputForm.FLAT)
    read = msgspec.json.decode(msgspec.json.encode(source), type=Source)
    assert read == source
    assert [type(value) for value in read.arguments.values()] == [int, float, float, bool, str]
    assert json.loads(msgspec.json.encode(source))["input"] == "flat"


def test_nothing_runs_until_the_network_is_built(net):
    net.write_text(f"open({str(net.parent / 'ran')!r}, 'w')")
    source = find(f"{net}:Net", {})
    net.write_text("import os")
    with pytest.raises(AlteredModelError):
        build(source, 10)
    assert not (net.parent / "ran").exists()


def test_an_altered_file_is_noticed(net):
    source = find(f"{net}:Net", {})
    build(source, 10)
    net.write_text(NET + "#")
    with pytest.raises(AlteredModelError, match=r"net\.py: altered .*restore the file") as raised:
        build(source, 10)
    assert source.sha256[:12] in str(raised.value)
    assert find(f"{net}:Net", {}).sha256[:12] in str(raised.value)
    net.unlink()
    with pytest.raises(ModelNotFoundError, match="no such file"):
        build(source, 10)


def test_an_edited_file_is_built_anew(net):
    net.write_text("1 / 0")
    with pytest.raises(ModelFormatError, match="ZeroDivisionError"):
        built(net, "Net")
    for outputs in (8, 9):  # a cached .pyc of the first has the same time and size as one of the second
        net.write_text(
            NET.replace("def fixed(classes=4", f"def fixed(outputs={outputs}").replace(
                "(width, classes)", "(width, outputs)"
            )
        )
        assert built(net, "fixed").output.out_features == outputs


FAILS = {
    "syntax": ("def f(:\n", "net.py, line 1: SyntaxError: invalid syntax"),
    "null": ("x = 1\0", "SyntaxError"),
    "import": ("\nimport no_such_package\n", "net.py, line 2: ModuleNotFoundError: No module named 'no_such_package'"),
    "in the helper": ("import broken\n", "broken.py, line 1: ZeroDivisionError"),
    "training at import": ("x = 1 / 0\n", "net.py, line 1: ZeroDivisionError", 'if __name__ == "__main__":'),
    "exit": ("import sys\nsys.exit('no data')\n", "net.py, line 2: SystemExit: no data"),
    "in the class": ("class Net:\n def __init__(self):\n  self.x = y\n", "net.py, line 3: NameError", "--model-args"),
    "without super": (
        "from torch import nn\nclass Net(nn.Module):\n def __init__(self):\n  self.a = nn.Linear(1, 1)\n",
        "net.py, line 4: AttributeError: cannot assign module before Module.__init__() call",
    ),
    "without super or layers": (
        "from torch import nn\nclass Net(nn.Module):\n def __init__(self):\n  pass\n",
        "net.py: AttributeError",
    ),
    "in torch": (
        "from torch import nn\nclass Net(nn.Module):\n def __init__(self):\n  super().__init__(); nn.Linear('', 1)\n",
        "net.py, line 4: TypeError",
    ),
    "lazy": (
        "from torch import nn\ndef Net():\n return nn.LazyLinear(10)\n",
        "'weight' has no shape yet",
        "nn.Linear(784, …)",
    ),
    "meta": ("from torch import nn\ndef Net():\n return nn.Linear(1, 1, device='meta')\n", 'the device "meta"'),
    "no parameters": ("from torch import nn\ndef Net():\n return nn.Flatten()\n", "no parameters", "layers to self"),
    "no module": ("def Net():\n return 3\n", "makes an object of type int, not an nn.Module"),
    "nothing": ("def Net():\n pass\n", "makes None, not an nn.Module"),
    "lines": ("raise ValueError('a\\nb')\n", "line 1: ValueError: a: "),
    "recursion": ("def f(): f()\nf()\n", "RecursionError"),
}


@pytest.mark.parametrize("name", FAILS)
def test_what_fails_in_the_users_file_is_told_in_one_line(net, name):
    content, *words = FAILS[name]
    net.write_text(content)
    (net.parent / "broken.py").write_text("1 / 0")
    with pytest.raises(ModelFormatError) as raised:
        built(net, "Net")
    assert_one_line(raised.value, words)
    assert str(net.parent) in str(raised.value)


def assert_one_line(error, words):
    assert "\n" not in str(error)
    assert len(str(error)) < 600
    for word in words:
        assert word in str(error)


def test_errors_that_are_not_the_files_are_left_alone(net):
    for name, kind in (("KeyboardInterrupt", KeyboardInterrupt), ("MemoryError", MemoryError)):
        net.write_text(f"raise {name}")
        with pytest.raises(kind):
            built(net, "Net")
    net.write_text("import sys; sys.exit(143)")  # as if SIGTERM had arrived
    with pytest.raises(SystemExit):
        built(net, "Net")


MISUSED = {
    "another class": ("Nett", {}, "net.py:Nett: no such class in it: did you mean Net?"),
    "no such class": ("Resnet18", {}, "it has Net: give a class of its own"),
    "an instance": ("ready", {}, "an object of type Net, not a class"),
    "a number": ("three", {}, "an object of type int, not a class"),
    "a module": ("nn", {}, "an object of type module, not a class"),
    "unknown argument": (
        "Net",
        {"depth": 3},
        "takes (width: int = 8, num_classes: int = 10)",
        "'depth'",
        "--model-args",
    ),
    "missing argument": ("needs", {}, "takes (depth)", "missing a required argument: 'depth'", "--model-args"),
}


@pytest.mark.parametrize("name", MISUSED)
def test_a_wrong_name_or_argument_is_told_in_one_line(net, name):
    attribute, arguments, *words = MISUSED[name]
    net.write_text(NET + "\ndef needs(depth): pass\n")
    with pytest.raises(UsageError) as raised:
        built(net, attribute, 10, arguments)
    assert_one_line(raised.value, words)


@pytest.mark.parametrize("place", ["net.py:", ":Net", "net.py:No Net", "net.py:class", "my-nets:Net", "a..b:Net"])
def test_malformed_places(place):
    assert is_source(place)
    with pytest.raises(UsageError, match=r"name a file and its class|neither a \.py file nor a module"):
        split_place(place)


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("cnn", False),
        ("./cnn", False),
        ("net.py", False),
        ("net.py:Net", True),
        ("nets.small:Net", True),
        ("C:\\nets\\net.py", False),
        ("C:/nets/net.py", False),
        ("C:\\nets\\net.py:Net", True),
        ("https://example.com/net.py", False),
    ],
)
def test_sources_are_told_from_names_and_paths(text, expected):
    assert is_source(text) is expected


def test_missing_files_and_modules(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for place in ("net.py:Net", "./net:Net"):
        with pytest.raises(ModelNotFoundError, match=r"no such file: name the \.py file"):
            find(place, {})
    with pytest.raises(ModelNotFoundError, match="not a regular file"):
        find(f"{tmp_path}/:Net", {})
    for place in ("no_such_package:Net", "no_such_package.nets:Net", "sys:Net", "math:Net"):
        with pytest.raises(ModelNotFoundError, match="no such Python module here"):
            find(place, {})
    (tmp_path / "broken_of_a_user").mkdir()
    (tmp_path / "broken_of_a_user" / "__init__.py").write_text("1 / 0")
    with pytest.raises(ModelFormatError, match="ZeroDivisionError"):
        find("broken_of_a_user.nets:Net", {})
    (tmp_path / "broken_of_a_user" / "__init__.py").write_text("import no_such_package")
    with pytest.raises(ModelFormatError, match="No module named 'no_such_package'"):
        find("broken_of_a_user.nets:Net", {})


def test_arguments_are_parsed():
    items = ["width=32", "rate=0.5", "bias=false", "norm=True", "activation=relu", "empty=", "a=b=c", "x=1e-3", "y=nan"]
    assert parse_arguments(items) == {
        "width": 32,
        "rate": 0.5,
        "bias": False,
        "norm": True,
        "activation": "relu",
        "empty": "",
        "a": "b=c",
        "x": 0.001,
        "y": "nan",
    }


@pytest.mark.parametrize("item", ["width", "=3", "a b=3", "3=a", "class=3", "width=9223372036854775808"])
def test_malformed_arguments(item):
    with pytest.raises(UsageError) as raised:
        parse_arguments(["depth=2", item])
    assert repr(item) in str(raised.value)


def test_an_argument_given_twice():
    with pytest.raises(UsageError, match="width is given twice"):
        parse_arguments(["width=3", "width=4"])


class Probed(nn.Module):
    """A linear layer, and what a table gives to compute."""

    def __init__(self, forward):
        super().__init__()
        self.linear = nn.Linear(784, 10)
        self.batch_norm = nn.BatchNorm1d(10, track_running_stats=False)
        self.register_buffer("calls", torch.zeros(()))
        self.kept = 0
        self.answer = torch.empty(0)
        self.given = forward

    def forward(self, x):
        return self.given(self, x)


def logits(model, x):
    return model.linear(x.flatten(1))


def printing(model, x):
    print(x.shape)  # noqa: T201
    return logits(model, x)


def counting(model, x):
    model.calls += 1
    return logits(model, x)


def training(model, x):
    model.linear.weight.data.mul_(1.0001)
    return logits(model, x)


def keeping(model, x):
    scores = logits(model, x) + 0.01 * model.kept
    model.kept = scores.mean()
    return scores


def reusing(model, x):
    scores = keeping(model, x)
    if model.answer.shape != scores.shape:
        model.answer = torch.empty(scores.shape)
    return model.answer.copy_(scores)


def overwriting(model, x):
    x /= 2
    return logits(model, x)


def leaving(model, x):
    raise SystemExit(0)


GOOD = {
    "plain": logits,
    "noisy in training": lambda model, x: functional.dropout(logits(model, x), training=model.training),
    "printing": printing,
    "constant": lambda model, x: 0 * logits(model, x),
    "double": lambda model, x: logits(model, x).double(),
    "log-softmax": lambda model, x: logits(model, x).log_softmax(1),
}

REFUSED = {
    "failing": (lambda model, x: unknown, "fails on float32 [16, 1, 28, 28]: NameError: name 'unknown'"),  # noqa: F821
    "leaving": (leaving, "SystemExit: 0"),
    "flat only": (lambda model, x: model.linear(x), "mat1 and mat2", "give  --input flat"),
    "a tuple": (lambda model, x: (logits(model, x), x), "returns a tuple, not a tensor"),
    "a dictionary": (lambda model, x: {"logits": logits(model, x)}, "returns a dict, not a tensor"),
    "nothing": (lambda model, x: None, "returns a NoneType, not a tensor"),
    "classes": (lambda model, x: logits(model, x).argmax(1), "torch.int64", "before argmax"),
    "sparse": (lambda model, x: logits(model, x).to_sparse(), "torch.sparse_coo"),
    "nine columns": (
        lambda model, x: logits(model, x)[:, :9],
        "9 scores an image, but there are 10 labels",
        "--labels",
    ),
    "one image": (lambda model, x: logits(model, x)[:1], "shape [1, 10] for float32 [16, 1, 28, 28], not [16, 10]"),
    "four dimensions": (lambda model, x: logits(model, x)[:, :, None, None], "shape [16, 10, 1, 1]"),
    "squeezed": (lambda model, x: logits(model, x).squeeze(), "shape [10] for float32 [1, 1, 28, 28]"),
    "fixed batch": (lambda model, x: logits(model, x.reshape(16, 784)), "fails on float32 [1, 1, 28, 28]"),
    "NaN": (lambda model, x: logits(model, x).log(), "NaN or infinite scores"),
    "dropout": (lambda model, x: functional.dropout(logits(model, x)), "change between two calls", "self.training"),
    "noise": (lambda model, x: logits(model, x) + 0.001 * torch.randn(10), "change between two calls"),
    "other noise": (lambda model, x: logits(model, x) * random.random(), "depend on earlier calls"),
    "state": (keeping, "depend on earlier calls"),
    "state in reused memory": (reusing, "depend on earlier calls"),
    "counter": (counting, "changes its own 'calls'"),
    "weights": (training, "changes its own 'linear.weight'"),
    "input": (overwriting, "changes the images"),
    "batch norm": (lambda model, x: model.batch_norm(logits(model, x)), "fails on float32 [1, 1, 28, 28]: ValueError"),
    "batch mean": (lambda model, x: logits(model, x) - 0.1 * logits(model, x).mean(0), "other images in the batch"),
    "instance of a batch": (
        lambda model, x: functional.batch_norm(x, None, None, training=True).flatten(1) @ model.linear.weight.T,
        "other images in the batch",
        "track_running_stats=False",
    ),
    "late rows": (
        lambda model, x: logits(model, x) + (torch.arange(len(x)) > 13)[:, None],
        "other images in the batch",
        "in a batch of 16",
    ),
    "order": (lambda model, x: logits(model, x) + 0.01 * torch.arange(len(x))[:, None], "other images in the batch"),
}


@pytest.fixture
def images():
    return torch.rand(16, 1, 28, 28, generator=torch.Generator().manual_seed(1))


@pytest.mark.parametrize("name", GOOD)
def test_good_networks_pass_the_probe(name, images, capsys):
    model = Probed(GOOD[name])
    state = torch.get_rng_state()
    probe(model, images, 10)
    probe(model, images.flatten(1), 10)
    assert torch.equal(torch.get_rng_state(), state)
    assert not model.training
    assert capsys.readouterr().out == ""


@pytest.mark.parametrize("name", REFUSED)
def test_networks_that_cannot_be_exported_are_refused_in_one_line(name, images):
    forward, *words = REFUSED[name]
    with pytest.raises((ModelFormatError, UsageError)) as raised:
        probe(Probed(forward), images, 10)
    assert_one_line(raised.value, words)


def test_a_convolution_is_not_flat(images):
    model = nn.Sequential(nn.Conv2d(1, 10, 28), nn.Flatten())
    probe(model, images, 10)
    with pytest.raises(UsageError, match=r"fails on float32 \[16, 784\].*give  --input image"):
        probe(model, images.flatten(1), 10)
