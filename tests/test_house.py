"""The structure of the package: allowed imports, no import cycles, and the public names."""

import ast
import graphlib
from pathlib import Path

import pytest

import mnist_edge
from mnist_edge import errors

PACKAGE = Path(mnist_edge.__file__).parent

STDLIB_ONLY: set[str] = set()  # and msgspec
FOUNDATION = {"errors", "contract", "extras", "names", "shipped", "bundle"}
DEVICE = FOUNDATION | {"images", "runtime"}
WORKSHOP = FOUNDATION | {"images", "data", "evaluation", "training"}

# For each subpackage or module (a room): the ones of ours and the other packages that it may import, also lazily.
ALLOWED = {
    "errors": (set(), STDLIB_ONLY),
    "contract": ({"errors"}, STDLIB_ONLY),
    "extras": ({"errors"}, STDLIB_ONLY),
    "names": ({"errors"}, STDLIB_ONLY),
    "shipped": (set(), STDLIB_ONLY),
    "bundle": (FOUNDATION, {"filelock"}),
    "images": (FOUNDATION | {"images"}, {"numpy", "PIL"}),
    "data": (FOUNDATION | {"images", "data"}, {"numpy", "platformdirs"}),
    "runtime": (DEVICE, {"numpy", "onnxruntime", "PIL"}),
    "evaluation": (FOUNDATION | {"evaluation"}, {"numpy"}),
    "training": (WORKSHOP, {"numpy", "torch", "safetensors"}),
    "report": (FOUNDATION | {"evaluation", "report"}, {"numpy", "PIL", "matplotlib"}),
    "export": (
        WORKSHOP | DEVICE | {"export", "report"},
        {"numpy", "torch", "onnx", "onnx_ir", "onnxscript", "onnxruntime"},
    ),
    "cli": (
        WORKSHOP | DEVICE | {"export", "report", "cli"},
        {"typer", "rich", "torch", "tensorboard", "matplotlib", "numpy", "PIL"},
    ),
    "__init__": ({"errors", "runtime"}, STDLIB_ONLY),
    "__main__": ({"cli"}, STDLIB_ONLY),
}


def imports(source: str) -> set[str]:
    """The dotted names of all modules that a source imports anywhere, including lazily."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.Call) and ast.unparse(node.func).split(".")[-1] in ("require", "import_module"):
            found |= {argument.value for argument in node.args if isinstance(argument, ast.Constant)}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, "imports are absolute here"
            if node.module == "mnist_edge":
                found |= {f"mnist_edge.{alias.name}" for alias in node.names}
            else:
                found.add(node.module)
    return found


def violations(room: str, source: str) -> set[str]:
    import sys

    own, outside = ALLOWED[room]
    wrong = set()
    for name in imports(source):
        top, _, rest = name.partition(".")
        if top == "mnist_edge":
            if rest.partition(".")[0] not in own | {"__version__", ""}:
                wrong.add(name)
        elif top not in outside | {"msgspec"} and top not in sys.stdlib_module_names:
            wrong.add(name)
    return wrong


MODULES = sorted(PACKAGE.rglob("*.py"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(PACKAGE)))
def test_imports_go_one_way(path):
    room = path.relative_to(PACKAGE).parts[0].removesuffix(".py")
    assert violations(room, path.read_text()) == set()


@pytest.mark.parametrize(
    ("room", "source"),
    [
        ("runtime", "import torch"),
        ("runtime", "def f():\n    from mnist_edge.training import models"),
        ("training", "from mnist_edge.runtime.classifier import Classifier"),
        ("training", "from mnist_edge import runtime"),
        ("evaluation", "from mnist_edge.runtime.prediction import softmax"),
        ("data", "from mnist_edge.training import models"),
        ("bundle", "import numpy"),
        ("export", "import mnist_edge.cli"),
        ("report", "from mnist_edge.data.datasets import Dataset"),
        ("evaluation", "require('matplotlib', extra='plot')"),
        ("cli", "import pandas"),
        ("runtime", "require('torch', extra='train')"),
        ("runtime", "importlib.import_module('mnist_edge.export.graph')"),
    ],
)
def test_a_wrong_import_is_noticed(room, source):
    assert len(violations(room, source)) == 1


def name_of(path):
    parts = path.relative_to(PACKAGE.parent).with_suffix("").parts
    return ".".join(parts[:-1] if parts[-1] == "__init__" else parts)


def modules_imported(source: str, known: set[str]) -> set[str]:
    """The known modules that a source imports anywhere."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            whole = {f"{node.module}.{alias.name}" for alias in node.names}
            found |= whole & known or {node.module}
    return found & known


def circle(sources: dict[str, str]) -> list[str] | None:
    """An import cycle, if there is one."""
    graph = {name: modules_imported(source, set(sources)) for name, source in sources.items()}
    try:
        graphlib.TopologicalSorter(graph).prepare()
    except graphlib.CycleError as error:
        return error.args[1]
    return None


def test_no_modules_import_one_another():
    assert circle({name_of(path): path.read_text() for path in MODULES}) is None


def test_a_circle_is_noticed():
    lazy = "def f():\n    from package import a"
    assert circle({"package.a": "from package.b import g", "package.b": lazy}) is not None
    assert circle({"package.a": "from package.b import g", "package.b": "import package"}) is None


def test_only_one_module_of_the_runtime_imports_onnxruntime():
    importing = [
        path.name
        for path in (PACKAGE / "runtime").glob("*.py")
        for node in ast.parse(path.read_text()).body
        if isinstance(node, (ast.Import, ast.ImportFrom)) and "onnxruntime" in ast.unparse(node)
    ]
    assert set(importing) == {"session.py"}


def test_all_that_is_printed_goes_through_one_filter():
    """`mnist_edge.cli.output`."""
    sources = {path.name: path.read_text() for path in (PACKAGE / "cli").glob("*.py")}
    assert {name for name, source in sources.items() if unfiltered(source)} == {"output.py"}


def unfiltered(source: str) -> list[str]:
    """The calls that print what is no JSON, which escapes what it holds."""
    calls = [node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call)]
    printing = [call for call in calls if ast.unparse(call.func) in ("print", "sys.stdout.write", "sys.stderr.write")]
    return [text for text in map(ast.unparse, printing) if "json(" not in text and "json_line(" not in text]


def test_a_way_around_the_filter_is_noticed():
    assert unfiltered("print(name)\nsys.stderr.write(name)") == ["print(name)", "sys.stderr.write(name)"]
    assert unfiltered("sys.stdout.write(json_line(facts))\nprint(_as_json(facts))\ntable.print(rows)") == []


def test_modules_can_be_read_in_one_sitting():
    assert max(len(path.read_text().splitlines()) for path in MODULES) <= 400


def test_public_names():
    assert mnist_edge.__all__ == ["Classifier", "MnistEdgeError", "Prediction", "Reading", "__version__"]
    for name in mnist_edge.__all__:
        assert getattr(mnist_edge, name) is not None
        assert name in dir(mnist_edge)
    with pytest.raises(AttributeError, match="no attribute 'Clasifier'"):
        mnist_edge.Clasifier  # noqa: B018  # the access is the test


def test_the_error_tree_is_the_one_that_is_drawn():
    drawn = {}
    parents = {-1: None}
    for line in errors.__doc__.splitlines():
        name = line.lstrip("│├└─ ")
        if not name[:1].isupper() or "Error" not in name.split()[0]:
            continue
        depth = len(line) - len(name)
        parent = parents[max(key for key in parents if key < depth)]
        parents = {key: value for key, value in parents.items() if key < depth} | {depth: name.split()[0]}
        builtin = name.split("(")[1].split(")")[0] if "(" in name else None
        drawn[name.split()[0]] = {base for base in (parent or "Exception", builtin) if base}
    actual = {
        name: {base.__name__ for base in value.__bases__}
        for name, value in vars(errors).items()
        if isinstance(value, type)
    }
    assert drawn == actual
