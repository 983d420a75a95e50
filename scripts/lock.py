"""Write the lock files in `.ci/locks`: what CI installs, with the SHA-256 of every file.

    python scripts/lock.py

pip resolves the newest versions that pyproject.toml allows (the oldest for `oldest.txt`) and reports the wheels that it
would install; nothing is installed. The wheels are those for this system: run it where CI's machines are alike, on
Linux x86-64. pip judges environment markers by the Python that runs it, so `pip check` follows each installation.

PyTorch has two builds. PyPI's, for NVIDIA cards, is locked in `torch.txt`; it is five gigabytes. PyTorch's own index
has the build for CPUs, locked in `torch-cpu.txt`: with hashes if the index answers while this script runs, otherwise by
version alone, and the script says so.
"""

import json
import subprocess
import sys
import tempfile
import tomllib
from collections import defaultdict
from pathlib import Path

ROOT = Path(__file__).parents[1]
LOCKS = ROOT / ".ci" / "locks"
CPU_INDEX = "https://download.pytorch.org/whl/cpu"

PYTHONS = ("3.11", "3.12", "3.13", "3.14")  # those of .github/workflows/ci.yml

# Packages that only PyPI's build of PyTorch needs, by the beginning of their names.
OF_TORCH = ("cuda-", "nvidia-", "torch", "triton")

# What hatchling needs to install a checkout, which it would otherwise fetch by itself, without a hash.
EDITABLE = ["editables"]

# For the checks of what is shipped, in an environment of their own.
TOOLS = ["check-wheel-contents", "cyclonedx-bom", "pip-audit", "pip-licenses", "twine", "zizmor"]

Pins = dict[str, tuple[str, str]]  # for each package, its version and the SHA-256 of its wheel


def main() -> None:
    with (ROOT / "pyproject.toml").open("rb") as file:
        parsed = tomllib.load(file)
    project, build = parsed["project"], parsed["build-system"]["requires"]
    extras, base = project["optional-dependencies"], project["dependencies"]
    oldest = [requirement.replace(">=", "==") for requirement in base]

    LOCKS.mkdir(exist_ok=True)
    with tempfile.TemporaryDirectory() as folder:
        pip = _newest_pip(Path(folder))
        wanted = [*base, *extras["train"], *extras["dev"], *build, *EDITABLE]
        full = {python: _resolve(pip, python, wanted) for python in PYTHONS}
        _write("full", {python: _part(pins, of_torch=False) for python, pins in full.items()})
        _write("torch", {python: _part(pins, of_torch=True) for python, pins in full.items()})
        _write("torch-cpu", _cpu(pip, full), f"--index-url {CPU_INDEX}")
        first = PYTHONS[0]
        _write("newest", {first: _resolve(pip, first, [*base, "pytest"])})
        _write("oldest", {first: _resolve(pip, first, [*oldest, "pytest"])})
        _write("tools", {first: _resolve(pip, first, [*TOOLS, *build, "build"])})


def _newest_pip(folder: Path) -> list[str]:
    """A pip that resolves from metadata, without downloading whole wheels, whichever came with this Python."""
    subprocess.run([sys.executable, "-m", "venv", folder], check=True)
    python = str(folder / "bin" / "python")
    subprocess.run([python, "-m", "pip", "install", "--quiet", "--upgrade", "pip"], check=True)
    return [python, "-m", "pip"]


def _resolve(pip: list[str], python: str, requirements: list[str], *options: str) -> Pins:
    """The packages that pip would install for a version of Python."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder, "report.json")
        resolve = [*pip, "install", "--quiet", "--dry-run", "--ignore-installed", "--only-binary=:all:"]
        resolve += ["--python-version", python, "--target", folder, "--report", str(report)]
        subprocess.run([*resolve, *options, *requirements], check=True)
        installed = json.loads(report.read_bytes())["install"]
    return {
        each["metadata"]["name"].lower().replace("_", "-").replace(".", "-"): (
            each["metadata"]["version"],
            each["download_info"]["archive_info"]["hashes"]["sha256"],
        )
        for each in installed
    }


def _part(pins: Pins, *, of_torch: bool) -> Pins:
    return {name: pin for name, pin in pins.items() if name.startswith(OF_TORCH) == of_torch}


def _cpu(pip: list[str], full: dict[str, Pins]) -> dict[str, Pins]:
    """The same versions of PyTorch as its builds for CPUs; with empty hashes if PyTorch's index cannot be reached."""
    pins = {}
    for python, found in full.items():
        wanted = {name: f"{found[name][0].partition('+')[0]}+cpu" for name in ("torch", "torchvision")}
        try:
            requirements = [f"{name}=={version}" for name, version in wanted.items()]
            pins[python] = _resolve(pip, python, requirements, "--no-deps", "--index-url", CPU_INDEX)
        except subprocess.CalledProcessError:
            print(f"warning: {CPU_INDEX} cannot be reached: torch-cpu.txt has no hashes", file=sys.stderr)
            return {python: {name: (version, "") for name, version in wanted.items()} for python in full}
    return pins


def _write(name: str, pins: dict[str, Pins], *options: str) -> None:
    """Write a requirements file: one entry for each version of a package, with a hash for each version of Python."""
    entries: dict[tuple[str, str], dict[str, str]] = defaultdict(dict)
    for python, found in pins.items():
        for package, (version, sha256) in found.items():
            entries[package, version][python] = sha256
    lines = ["# Written by scripts/lock.py.", *options]
    for (package, version), hashes in sorted(entries.items()):
        some = " or ".join(f'python_version == "{python}"' for python in hashes)
        marker = f" ; {some}" if len(hashes) < len(pins) else ""
        known = sorted({sha256 for sha256 in hashes.values() if sha256})
        lines.append(" \\\n    ".join([f"{package}=={version}{marker}", *(f"--hash=sha256:{each}" for each in known)]))
    (LOCKS / f"{name}.txt").write_text("\n".join(lines) + "\n")


if __name__ == "__main__":
    main()
