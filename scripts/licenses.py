"""Check the licenses of every installed package, and write the table of the users' ones in docs/dependencies.md.

    python scripts/licenses.py ENVIRONMENT/bin/python

pip-licenses reads them from the environment, into which CI has installed all extras. Whatever is neither permissive nor
reviewed here fails: a copyleft license, or none, enters only through REVIEWED.
"""

import json
import re
import subprocess
import sys
from collections import defaultdict
from pathlib import Path

PAGE = Path(__file__).parents[1] / "docs" / "dependencies.md"
BEGIN, END = "<!-- figures: licenses -->\n", "<!-- end -->"

# What packages call licenses that ask for no more than attribution, and the SPDX name of each.
PERMISSIVE = {
    "0BSD": "0BSD",
    "3-Clause BSD License": "BSD-3-Clause",
    "Apache Software License": "Apache-2.0",
    "Apache-2.0": "Apache-2.0",
    "Apache-2.0 WITH LLVM-exception": "Apache-2.0 WITH LLVM-exception",
    "BSD": "BSD",
    "BSD License": "BSD",
    "BSD-2-Clause": "BSD-2-Clause",
    "BSD-3-Clause": "BSD-3-Clause",
    "BSL-1.0": "BSL-1.0",
    "CC0-1.0": "CC0-1.0",
    "ISC License (ISCL)": "ISC",
    "MIT": "MIT",
    "MIT License": "MIT",
    "MIT-CMU": "MIT-CMU",
    "PSF-2.0": "PSF-2.0",
    "Python Software Foundation License": "PSF-2.0",
    "Zlib": "Zlib",
}

# Packages with another license, by pattern, and why they may stay.
REVIEWED = {
    r"(cuda|nvidia)-.*": "NVIDIA's own; only PyPI's build of PyTorch for NVIDIA cards needs them",
    r"font-.*": "OFL-1.1, for tests and measurements only; not shipped",
    r"hypothesis|sortedcontainers": "MPL-2.0, for tests only; not shipped",
    r"pathspec": "MPL-2.0, for mypy and the build only; not shipped",
}

# Which packages each install of mnist-edge brings, by the environment's own metadata.
CLOSURES = """
import json
from importlib.metadata import distribution, PackageNotFoundError
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

def closure(name, extra, found):
    for line in distribution(name).requires or ():
        needed = Requirement(line)
        if needed.marker is None or needed.marker.evaluate({"extra": extra}):
            key = canonicalize_name(needed.name)
            if key not in found:
                found.add(key)
                closure(key, "", found)
    return found

base = closure("mnist-edge", "", set())
extras = set.union(*(closure("mnist-edge", extra, set()) for extra in ("train", "tensorboard", "plot")))
print(json.dumps([sorted(base), sorted(extras - base)]))
"""


def main() -> None:
    python = sys.argv[1]
    found = json.loads(
        subprocess.run(
            [
                sys.executable,
                "-m",
                "piplicenses",
                f"--python={python}",
                "--from=mixed",
                "--with-system",
                "--format=json",
            ],
            check=True,
            capture_output=True,
        ).stdout
    )
    licenses = {_plain(each["Name"]): each["License"] for each in found}
    problems = find_problems(licenses)
    if problems:
        sys.exit("error: review these licenses, then add them to PERMISSIVE or REVIEWED:\n  " + "\n  ".join(problems))
    base, extras = json.loads(subprocess.run([python, "-c", CLOSURES], check=True, capture_output=True).stdout)
    before, _, rest = PAGE.read_text().partition(BEGIN)
    _, _, after = rest.partition(END)
    PAGE.write_text(before + BEGIN + _table(licenses, base, extras) + END + after)
    print(f"the licenses of {len(licenses)} packages are permissive or reviewed")


def find_problems(licenses: dict[str, str]) -> list[str]:
    """The packages whose license is neither permissive nor reviewed."""
    if not licenses:
        return ["no packages are installed there"]
    return [
        f"{name}: {license_}"
        for name, license_ in sorted(licenses.items())
        if _permissive(license_) is None and not any(re.fullmatch(pattern, name) for pattern in REVIEWED)
    ]


def _permissive(license_: str) -> str | None:
    """The SPDX expression of a license, if all its parts are permissive."""
    parts = re.split(r"( AND | OR |; )", license_)
    names = [PERMISSIVE.get(part) for part in parts[::2]]
    joins = [part.replace("; ", " AND ") for part in parts[1::2]]
    return (
        None if None in names else "".join(str(part) for pair in zip(names, [*joins, ""], strict=True) for part in pair)
    )


def _table(licenses: dict[str, str], base: list[str], extras: list[str]) -> str:
    rows = ["| license | base install | `train`, `tensorboard`, `plot` |", "|---|---|---|"]
    groups: dict[str, tuple[list[str], list[str]]] = defaultdict(lambda: ([], []))
    for column, names in enumerate((base, extras)):
        for name in names:
            if not name.startswith(("cuda-", "nvidia-", "triton")):
                groups[_permissive(licenses[name]) or licenses[name]][column].append(name)
    rows += [
        f"| {name} | {', '.join(first)} | {', '.join(second)} |" for name, (first, second) in sorted(groups.items())
    ]
    return "\n".join(rows) + "\n"


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    main()
