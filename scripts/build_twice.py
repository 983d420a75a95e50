"""Build the wheel and the sdist twice and fail unless both builds are equal byte for byte.

    python scripts/build_twice.py FOLDER [CHECKOUT]

The second build runs on a copy in another folder, with another umask, time zone, locale, hash seed, and order and dates
of files. `SOURCE_DATE_EPOCH` is set in neither: whoever builds the same commit gets the same files. FOLDER gets the
first build.
"""

import os
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

LEFT_OUT = shutil.ignore_patterns(".git", ".venv", "__pycache__", ".*_cache", "dist", "build")
ORDINARY = {"TZ": "UTC", "LC_ALL": "C.UTF-8", "PYTHONHASHSEED": "1"}
UNUSUAL = {"TZ": "Pacific/Kiritimati", "LC_ALL": "C", "PYTHONHASHSEED": "2"}


def main() -> None:
    out = Path(sys.argv[1])
    checkout = Path(sys.argv[2]) if len(sys.argv) > 2 else Path(__file__).parents[1]
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder, "a folder of another name")
        _copy_backwards(checkout, copy)
        first = _build(checkout, out, ORDINARY, umask=0o022)
        second = _build(copy, Path(folder, "dist"), UNUSUAL, umask=0o077)
        different = [name for name in sorted(first.keys() | second.keys()) if first.get(name) != second.get(name)]
    if different:
        sys.exit(f"error: two builds differ in {' and '.join(different)}: compare them with diffoscope")
    print(f"built twice, byte for byte the same: {', '.join(sorted(first))}")


def _copy_backwards(checkout: Path, copy: Path) -> None:
    """Copy a checkout, last file first, with the dates and permissions that the unusual umask leaves."""
    staged = copy.with_name("staged")
    shutil.copytree(checkout, staged, ignore=LEFT_OUT, symlinks=True)
    for path in sorted(staged.rglob("*"), reverse=True):
        if path.is_file():
            target = copy / path.relative_to(staged)
            target.parent.mkdir(parents=True, exist_ok=True)
            executable = os.access(path, os.X_OK)
            shutil.move(path, target)
            target.chmod(0o700 if executable else 0o600)
            os.utime(target, (10**9, 10**9))


def _build(checkout: Path, out: Path, environment: dict[str, str], *, umask: int) -> dict[str, bytes]:
    """Build a checkout with the installed hatchling; the content of each file by name."""
    inherited = {name: value for name, value in os.environ.items() if name != "SOURCE_DATE_EPOCH"}
    subprocess.run(
        [sys.executable, "-m", "build", "--no-isolation", "--outdir", out.resolve(), checkout],
        env={**inherited, **environment},
        umask=umask,
        check=True,
        stdout=subprocess.DEVNULL,
    )
    files = {path.name: path.read_bytes() for path in out.iterdir()}
    if sorted(Path(name).suffix for name in files) != [".gz", ".whl"]:
        sys.exit(f"error: a build of {checkout} left {sorted(files)}: expected one wheel and one sdist")
    return files


if __name__ == "__main__":
    main()
