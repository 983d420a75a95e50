"""Try mnist-edge with the oldest and the newest version of each dependency, in an environment of its own.

    python scripts/try_versions.py [base|train] [PYTHON]

First everything is the newest that pip finds, then everything the oldest that pyproject.toml allows; from either, one
package at a time is taken to the other end. `base` runs the self-test of every pretrained model on the base install.
`train` also trains a small model, exports it to every format, which compares each with PyTorch, and tests that. The
result is a table, for docs/dependencies.md. `train` downloads PyTorch from PyPI four times.
"""

import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[1]

PIP = ["-m", "pip", "--quiet", "--disable-pip-version-check"]

# Their versions go together, so they change together.
PAIRS = {"torch": "torchvision"}

BASE = """
from mnist_edge.runtime import model, selftest
for name in model.pretrained():
    selftest.run(model.open_model(name))
"""

TRAIN = """
import tempfile
from pathlib import Path
from mnist_edge.runtime import model, selftest
from tests.make_bundle import make_cnn
with tempfile.TemporaryDirectory() as folder:
    make_cnn(Path(folder, "cnn"))
    selftest.run(model.open_model(Path(folder, "cnn")))
"""


def main() -> None:
    what = sys.argv[1] if len(sys.argv) > 1 else "base"
    python = sys.argv[2] if len(sys.argv) > 2 else sys.executable
    with (ROOT / "pyproject.toml").open("rb") as file:
        project = tomllib.load(file)["project"]
    lines = [*project["dependencies"], *(project["optional-dependencies"]["train"] if what == "train" else [])]
    needed = [Requirement(line) for line in lines]
    oldest = {each.name: f"=={str(each.specifier).removeprefix('>=')}" for each in needed}
    newest = {each.name: str(each.specifier) for each in needed}
    # One package at a time only where it matters: what computes, decodes or parses.
    alone = [name for name in newest if name not in {"platformdirs", "torchvision"}]
    code = BASE if what == "base" else BASE + TRAIN

    print("| from | with | versions | result |\n|---|---|---|---|")
    failed = False
    for ground, others, word in ((newest, oldest, "oldest"), (oldest, newest, "newest")):
        with tempfile.TemporaryDirectory() as folder:
            subprocess.run([python, "-m", "venv", folder], check=True)
            inside = str(Path(folder, "bin", "python"))
            subprocess.run([inside, *PIP, "install", "--no-deps", "--editable", ROOT], check=True)
            kind = "all newest" if word == "oldest" else "all oldest"
            for name in ("", *alone):
                swapped = {key: others[key] for key in (name, PAIRS.get(name, name)) if key}
                versions, result = _try(inside, {**ground, **swapped}, code)
                failed = failed or result != "right"
                print(f"| {kind} | {f'the {word} {name}' if name else '–'} | {versions} | {result} |", flush=True)
    sys.exit(failed)


def _try(python: str, wanted: dict[str, str], code: str) -> tuple[str, str]:
    """Install the versions and run the code: the versions that are installed then, and what came of it."""
    pip = [python, *PIP]
    installing = [*pip, "install", "--upgrade", *(f"{name}{specifier}" for name, specifier in wanted.items())]
    for command in (installing, [*pip, "check"], [python, "-c", code]):
        result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
        if result.returncode:
            said = (result.stderr or result.stdout).strip().splitlines()
            return _versions(python, wanted), f"`{said[-1] if said else result.returncode}`"
    return _versions(python, wanted), "right"


def _versions(python: str, wanted: dict[str, str]) -> str:
    show = (
        "import importlib.metadata as m, sys; print(*(f'{name} {m.version(name)}' for name in sys.argv[1:]), sep=', ')"
    )
    return subprocess.run([python, "-c", show, *wanted], capture_output=True, text=True, check=False).stdout.strip()


if __name__ == "__main__":
    main()
