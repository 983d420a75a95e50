"""Audit the locked packages for known vulnerabilities with pip-audit, and fail unless every one was looked up.

    python scripts/audit.py [LOCK…]

By itself pip-audit exits 0 where its service does not know the packages, having skipped them all. So the report is
read: each package that the locks name must be in it, with the locked version and without a reason for a skip. Locks are
names of files in `.ci/locks`, by default all of packages from PyPI.
"""

import json
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

LOCKS = Path(__file__).parents[1] / ".ci" / "locks"
FROM_PYPI = ("full", "torch", "newest", "tools")

# Vulnerabilities that do not concern this package, each with the reason.
ACCEPTED: dict[str, str] = {}


def main() -> None:
    failed = False
    for name in sys.argv[1:] or FROM_PYPI:
        lock = LOCKS / f"{name}.txt"
        result = subprocess.run(
            [sys.executable, "-m", "pip_audit", "--disable-pip", "--require-hashes", "--format=json", "-r", lock],
            capture_output=True,
            text=True,
            check=False,
        )
        try:
            report = json.loads(result.stdout)
        except json.JSONDecodeError:
            sys.exit(f"error: pip-audit wrote no report on {name}.txt:\n{result.stderr}")
        problems = find_problems(lock.read_text(), report)
        print(f"{name}.txt: {len(pins(lock.read_text()))} packages, {len(problems)} problems")
        for problem in problems:
            print(f"  {problem}")
        failed = failed or bool(problems)
    if failed:
        sys.exit(
            "error: the audit failed: run  python scripts/lock.py  for newer versions, or add to ACCEPTED and say why"
        )


def pins(lock: str) -> set[tuple[str, str]]:
    """The packages of a lock for this Python, with their versions."""
    running = f'python_version == "{sys.version_info.major}.{sys.version_info.minor}"'
    found = re.findall(r"^([a-z0-9-]+)==([^\s;]+)(?: ; ([^\\]*))?", lock, re.MULTILINE)
    return {(name, version) for name, version, marker in found if not marker or running in marker}


def find_problems(lock: str, report: dict[str, Any]) -> list[str]:
    """What is wrong with a lock, or with pip-audit's report on it."""
    audited, problems = set(), []
    for each in report["dependencies"]:
        if "skip_reason" in each:
            problems.append(f"{each['name']}: not audited: {each['skip_reason']}")
            continue
        name = each["name"].lower().replace("_", "-").replace(".", "-")
        audited.add((name, each["version"]))
        problems += [
            f"{name} {each['version']}: {found['id']}, fixed in {', '.join(found['fix_versions']) or 'no version'}"
            for found in each["vulns"]
            if not ACCEPTED.keys() & {found["id"], *found.get("aliases", [])}
        ]
    wanted = pins(lock)
    if not wanted:
        problems.append("the lock names no package")
    return problems + [f"{name} {version}: not in the report" for name, version in sorted(wanted - audited)]


if __name__ == "__main__":
    main()
