"""Fail unless a tag is `v` and the version in pyproject.toml, a released one, with an entry in CHANGELOG.md.

python scripts/check_tag.py v1.2.3
"""

import re
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).parents[1]


def main() -> None:
    tag = sys.argv[1]
    version = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["version"]
    if tag != f"v{version}":
        sys.exit(f"error: the tag is {tag}, but pyproject.toml says {version}: tag the commit that sets the version")
    if not re.fullmatch(r"\d+\.\d+\.\d+((a|b|rc)\d+)?", version):
        sys.exit(f"error: {version} is not a version to release: set one such as 1.2.3 or 1.2.3rc1")
    if f"\n## {version} " not in (ROOT / "CHANGELOG.md").read_text():
        sys.exit(f"error: CHANGELOG.md has no entry for {version}: rename  Unreleased  to  {version} (its date)")
    print(f"{tag} is the version of this commit")


if __name__ == "__main__":
    main()
