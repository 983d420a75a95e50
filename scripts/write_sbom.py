"""Write the software bill of materials of an environment as CycloneDX JSON, and fail unless it is complete.

    python scripts/write_sbom.py ENVIRONMENT/bin/python OUT.json

cyclonedx-bom reads what is installed; the same environment always gives the same bytes. Every installed distribution
must be in the result with its version, and nothing else.
"""

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

# Run by the environment's own Python, so that the list does not come from the tool that is checked.
LIST = """
import importlib.metadata as metadata, json
print(json.dumps([[each.name, each.version] for each in metadata.distributions()]))
"""


def main() -> None:
    python, out = sys.argv[1:]
    subprocess.run(
        [sys.executable, "-m", "cyclonedx_py", "environment", "--output-reproducible", "--of=JSON", "-o", out, python],
        check=True,
    )
    listed = subprocess.run([python, "-c", LIST], check=True, capture_output=True).stdout
    problems = find_problems(json.loads(Path(out).read_bytes()), [tuple(pair) for pair in json.loads(listed)])
    if problems:
        sys.exit(f"error: {out} is no bill of this environment:\n  " + "\n  ".join(problems))
    print(f"{out}: {len(json.loads(listed))} packages")


def find_problems(bill: dict[str, Any], installed: list[tuple[str, ...]]) -> list[str]:
    """The differences between a bill and the installed distributions."""
    listed = {(_plain(each["name"]), each["version"]) for each in bill.get("components", [])}
    there = {(_plain(name), version) for name, version in installed}
    problems = [f"{name} {version}: installed, but not listed" for name, version in sorted(there - listed)]
    problems += [f"{name} {version}: listed, but not installed" for name, version in sorted(listed - there)]
    return problems if there else ["nothing is installed there"]


def _plain(name: str) -> str:
    return name.lower().replace("_", "-").replace(".", "-")


if __name__ == "__main__":
    main()
