"""Code that can run other code, or read a form that can, stands in reviewed places only."""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]

# For each place: the module, the call or import, and why it is safe there.
REVIEWED = {
    ("mnist_edge/__init__.py", "import_module"): "lazy public names; the module comes from a table",
    ("mnist_edge/export/by_torch.py", "torch.jit.load"): "a file of the bundle, after its digest",
    ("mnist_edge/export/torchscript.py", "torch.jit.load"): "bytes that the export has just made, or the digest names",
    ("mnist_edge/extras.py", "importlib.import_module"): "optional packages, by a name in our code",
    ("mnist_edge/export/c/compiling.py", "ctypes"): "calls the library that mnist_edge/runtime/compiling.py loaded",
    ("mnist_edge/runtime/bench/child.py", "import_module"): "the opener is a name in our code",
    ("mnist_edge/runtime/compiling.py", "ctypes"): "loads what the compiler made of a file that the user named",
    ("mnist_edge/runtime/sandbox_process.py", "ctypes"): "prctl and Landlock of the C library that runs already",
    ("mnist_edge/training/memory.py", "ctypes"): "mallopt of the C library that runs already",
    ("mnist_edge/training/sources.py", "exec"): "the user's own class, after its digest",
    ("mnist_edge/training/sources.py", "importlib.import_module"): "the user's own class, named on the command line",
    ("mnist_edge/training/weight_files.py", "importlib.import_module"): "safetensors, by its name",
    ("scripts/engines/pytorch_engine.py", "torch.jit.load"): "a file of our own, in a measurement",
    ("scripts/mutate.py", "importlib.import_module"): "our own modules, in a measurement",
    ("scripts/measure_floor.py", "ctypes"): "loads what it has compiled from its own C file",
    ("scripts/soak.py", "ctypes"): "malloc_trim and mallopt of the C library that runs already",
}

MODULES = {"cPickle", "ctypes", "dill", "joblib", "marshal", "pickle", "runpy", "shelve", "yaml"}
CALLS = {"eval", "exec", "__import__", "compile", "import_module", "exec_module", "load_module", "run_path", "popen"}
CALLS |= {"system", "spawnl", "spawnv", "execv", "execl", "getoutput", "getstatusoutput", "create_subprocess_shell"}
METHODS_OF = {"os", "importlib", "builtins", "subprocess", "asyncio", "loader", "runpy", "commands"}


def dangers(source: str) -> set[str]:
    """What a source calls or imports that needs a review."""
    found = set()
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Import):
            found |= {name for alias in node.names if (name := alias.name.partition(".")[0]) in MODULES}
        elif isinstance(node, ast.ImportFrom):
            top = (node.module or "").partition(".")[0]
            found |= {top} & MODULES
            found |= {
                alias.name for alias in node.names if top in METHODS_OF and alias.name in CALLS - {"import_module"}
            }
        elif isinstance(node, ast.Call):
            found |= called(node)
    return found


def called(node: ast.Call) -> set[str]:
    """The name of a call that needs a review, if it does."""
    name = ast.unparse(node.func)
    owner, _, last = name.rpartition(".")
    options = {keyword.arg: keyword.value for keyword in node.keywords}

    def given(option: str, value: object) -> bool:
        return isinstance(found := options.get(option), ast.Constant) and found.value is value

    if last in CALLS and (not owner or owner.rpartition(".")[2] in METHODS_OF):
        return set() if last == "compile" else {name}
    if name == "torch.jit.load" or (name == "torch.load" and not given("weights_only", True)):
        return {name}
    if "shell" in options and not given("shell", False):
        return {f"{name}(shell)"}
    if "allow_pickle" in options and not given("allow_pickle", False):
        return {f"{name}(allow_pickle)"}
    return set()


SOURCES = sorted(path for folder in ("mnist_edge", "scripts") for path in (ROOT / folder).rglob("*.py"))


def test_every_danger_is_reviewed_and_every_review_is_needed():
    assert len(SOURCES) > 100
    found = {(str(path.relative_to(ROOT)), each) for path in SOURCES for each in dangers(path.read_text())}
    assert found == set(REVIEWED)


@pytest.mark.parametrize(
    ("source", "danger"),
    [
        ("import pickle", "pickle"),
        ("from pickle import loads", "pickle"),
        ("def f():\n    import yaml", "yaml"),
        ("import ctypes.util", "ctypes"),
        ("import marshal", "marshal"),
        ("import shelve as s", "shelve"),
        ("eval('1')", "eval"),
        ("exec(code)", "exec"),
        ("builtins.eval(code)", "builtins.eval"),
        ("os.system('ls')", "os.system"),
        ("os.popen('ls')", "os.popen"),
        ("from os import system", "system"),
        ("subprocess.run('ls', shell=True)", "subprocess.run(shell)"),
        ("subprocess.run('ls', shell=chosen)", "subprocess.run(shell)"),
        ("subprocess.getoutput('ls')", "subprocess.getoutput"),
        ("torch.load(path)", "torch.load"),
        ("torch.load(path, weights_only=False)", "torch.load"),
        ("torch.load(path, weights_only=chosen)", "torch.load"),
        ("torch.jit.load(path)", "torch.jit.load"),
        ("np.load(path, allow_pickle=True)", "np.load(allow_pickle)"),
        ("importlib.import_module(name)", "importlib.import_module"),
        ("spec.loader.exec_module(module)", "spec.loader.exec_module"),
        ("__import__(name)", "__import__"),
        ("runpy.run_path(path)", "runpy.run_path"),
    ],
)
def test_a_planted_danger_is_noticed(source, danger):
    assert dangers(source) == {danger}


@pytest.mark.parametrize(
    "source",
    [
        "torch.load(path, weights_only=True)",
        "model.eval()",
        "re.compile('a')",
        "np.load(path, allow_pickle=False)",
        "subprocess.run(['ls'], shell=False)",
        "import pickletools",
    ],
)
def test_what_is_harmless_is_left_alone(source):
    assert dangers(source) == set()
