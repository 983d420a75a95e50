"""Make an environment for each peer outside the repository, and tell how much of a disk it takes."""

import json
import os
import shutil
import subprocess
import sys
from collections.abc import Iterable, Iterator
from dataclasses import asdict, dataclass
from importlib import metadata
from pathlib import Path

from packaging.requirements import Requirement

ROOT = Path(__file__).parents[2]

TORCH_INDEX = os.environ.get("MNIST_EDGE_TORCH_INDEX", "https://download.pytorch.org/whl/cpu")
"""Where PyTorch's builds for CPUs are, as in scripts/environment."""

OWN_COMMAND = [sys.executable]

MARK = "made.json"


class UnavailableError(Exception):
    """A peer cannot take part; the message is the reason, in one line."""


@dataclass(frozen=True)
class Environment:
    """What a peer needs."""

    name: str
    packages: tuple[str, ...]
    """What the peer is: pip's or npm's requirements. Its installed size is that of these and all they require."""

    megabytes: int
    """What the environment takes on the disk, about."""

    also: tuple[str, ...] = ()
    """What the environment needs besides."""

    bare: tuple[str, ...] = ()
    """What is installed without its requirements."""

    cpu_torch: str = ""
    """A version of PyTorch that it needs, taken in the build for CPUs if that can be had."""

    node: bool = False
    """Whether it is for Node, in place of Python."""

    own: bool = False
    """Whether it is the environment that runs this script, whose packages are installed already."""


def make(environment: Environment, cache: Path) -> tuple[list[str], Path]:
    """The command that starts a program in an environment, and the folder of its packages; made if it is missing.

    Raises:
        UnavailableError: it cannot be made.
    """
    if environment.own:
        return OWN_COMMAND, Path(str(metadata.distribution("numpy").locate_file(".")))
    folder = cache / "environments" / environment.name
    if environment.node and not (shutil.which("node") and shutil.which("npm")):
        raise UnavailableError("Node or npm is not installed")
    if not is_made(environment, cache):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        for command in commands(environment, folder):
            run(command, folder)
        (folder / MARK).write_text(json.dumps(asdict(environment)))
    if environment.node:
        return ["node"], folder / "node_modules"
    return [str(python_of(folder))], next(folder.glob("[Ll]ib/**/site-packages"))


def is_made(environment: Environment, cache: Path) -> bool:
    """Whether an earlier run has made it, from the same requirements."""
    mark = cache / "environments" / environment.name / MARK
    return mark.exists() and json.loads(mark.read_text()) == json.loads(json.dumps(asdict(environment)))


def python_of(folder: Path) -> Path:
    return folder / ("Scripts/python.exe" if os.name == "nt" else "bin/python")


def commands(environment: Environment, folder: Path) -> Iterator[list[str]]:
    """What makes an environment. Whether PyTorch's build for CPUs can be had shows only when it is tried."""
    if environment.node:
        yield ["npm", "install", "--no-audit", "--no-fund", "--prefix", str(folder), *environment.packages]
        return
    yield [sys.executable, "-m", "venv", str(folder)]
    pip = [str(python_of(folder)), "-m", "pip", "install", "--quiet", "--disable-pip-version-check"]
    wanted = ["numpy", *environment.packages, *environment.also]
    if torch := environment.cpu_torch:
        build = f"torch=={torch}+cpu"
        trying = [*pip, "--timeout", "5", "--retries", "0", "--extra-index-url", TORCH_INDEX, build]
        if subprocess.run(trying, capture_output=True, check=False).returncode:
            print(f"{environment.name}: PyTorch's usual build, because {build} cannot be installed", file=sys.stderr)
        wanted.append(f"torch=={torch}")
    yield [*pip, *wanted]
    if environment.bare:
        yield [*pip, "--no-deps", *environment.bare]


def run(command: list[str], folder: Path) -> None:
    """Run a command that makes something; raise UnavailableError with its last words if it fails."""
    environment = os.environ | {"ONNXRUNTIME_NODE_INSTALL_CUDA": "skip", "PYTHONPATH": ""}
    if command[:1] == OWN_COMMAND:
        environment["PYTHONPATH"] = str(ROOT)
    result = subprocess.run(command, cwd=folder, env=environment, capture_output=True, text=True, check=False)
    if result.returncode:
        raise UnavailableError(f"{Path(command[0]).name} fails: {last_words(result.stderr or result.stdout)}")


def last_words(text: str) -> str:
    """The last line that names an error, or else the last line."""
    lines = [line.strip() for line in text.splitlines() if line.strip()] or ["no message"]
    return next((line for line in lines[::-1] if "error" in line.lower()), lines[-1])[:200]


def installed_megabytes(environment: Environment, packages: Path) -> float:
    """The size of a peer's packages and of all that they require, beyond Python (or Node) and numpy."""
    if environment.node:
        return sum(file.stat().st_size for file in packages.rglob("*") if file.is_file()) / 1e6
    seen = {"numpy"}
    names = [Requirement(package).name for package in environment.packages]
    if environment.cpu_torch:
        names.append("torch")
    return sum(bytes_of(one) for one in closure(names, packages, seen)) / 1e6


def closure(names: Iterable[str], packages: Path, seen: set[str]) -> Iterator[metadata.Distribution]:
    """The named distributions in a folder and all that they require, except those in `seen`."""
    for name in names:
        key = name.lower().replace("_", "-").replace(".", "-")
        if key in seen:
            continue
        seen.add(key)
        found = next(iter(metadata.distributions(name=name, path=[str(packages)])), None)
        if found is None:  # a requirement for other systems, or a part that was left out
            continue
        yield found
        wanted = [Requirement(each) for each in found.requires or []]
        needed = [each.name for each in wanted if each.marker is None or each.marker.evaluate({"extra": ""})]
        yield from closure(needed, packages, seen)


def bytes_of(distribution: metadata.Distribution) -> int:
    """The size of its files. Of a package installed in place, its record names only a link to it."""
    if distribution.metadata["Name"] == "mnist-edge":
        return sum(file.stat().st_size for file in (ROOT / "mnist_edge").rglob("*") if file.is_file())
    paths = [Path(str(distribution.locate_file(file))) for file in distribution.files or []]
    return sum(path.stat().st_size for path in paths if path.is_file())


def require_space(environments: Iterable[Environment], cache: Path) -> None:
    """Say how much is to be installed, and end if the disk does not hold it."""
    missing = [each for each in environments if not each.own and not is_made(each, cache)]
    needed = sum(each.megabytes for each in missing)
    cache.mkdir(parents=True, exist_ok=True)
    free = shutil.disk_usage(cache).free // 1_000_000
    if missing:
        names = ", ".join(f"{each.name} {each.megabytes:,}" for each in missing)
        print(f"{cache}: {needed:,} MB to install ({names}), {free:,} MB free", file=sys.stderr, flush=True)
    if needed > free:
        sys.exit(f"error: {cache}: holds {free:,} MB, {needed:,} are needed: choose fewer --peers, or another --cache")
