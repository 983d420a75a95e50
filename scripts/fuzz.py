"""Fuzz everything that parses files of strangers: scripts/fuzz [TARGET ...] [--minutes 10].

    python scripts/fuzz.py [--minutes 10] [--out DIR] [--cache DIR] [TARGET ...]

Any bytes must give an answer or an error of ours, in bounded time and memory, without a warning (`tests.fuzzing`). The
search is atheris's, guided by the branches that an input takes and started from valid files; half of the changes follow
the format's structure. atheris and coverage.py get an environment of their own in a folder outside the repository
(`--cache`).

DIR/TARGET keeps the corpus, from which the next run goes on, the log, and what was found: an input of each kind, as
short as could be made, beside its traceback. Exits with 1 if anything was found.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from importlib import metadata
from pathlib import Path
from typing import Any

from peers import environments
from peers.environments import Environment, UnavailableError
from platformdirs import user_cache_path

from mnist_edge.bundle.layout import ARTIFACTS
from tests.fuzzing.judging import scratch
from tests.fuzzing.targets import TARGETS

ROOT = Path(__file__).parents[1]

ENVIRONMENT = Environment("atheris", ("atheris==3.0.0", "coverage>=7.6"), megabytes=120)

HANGING = 120
"""Seconds after which libFuzzer ends a process in one input: `tests.fuzzing.judging` cannot interrupt C."""

MOST_MEMORY = 3000
"""Megabytes at which libFuzzer ends a process."""

MOST_DEATHS = 20
"""So often a process that died is followed by another."""

HEADER = ("target", "executions", "per second", "lines", "branches", "corpus", "findings")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("targets", nargs="*", metavar="TARGET", help=f"of {', '.join(TARGETS)}; all by default")
    parser.add_argument("--minutes", type=float, default=10, help="for each target")
    parser.add_argument("--out", type=Path, default=Path(ARTIFACTS, "fuzz"))
    parser.add_argument("--cache", type=Path, default=user_cache_path("mnist-edge"), help="for the environment")
    given = parser.parse_args()
    if unknown := [name for name in given.targets if name not in TARGETS]:
        parser.error(f"no target is called {unknown[0]}: choose from {', '.join(TARGETS)}")
    try:
        (python,), _ = environments.make(ENVIRONMENT, given.cache.resolve())
    except UnavailableError as error:
        sys.exit(f"error: atheris: {error}: it needs Linux or macOS, and Python 3.11 to 3.13")
    print(f"| {' | '.join(HEADER)} |\n|{'---|' * len(HEADER)}", flush=True)
    found = [fuzzed(name, python, given.out.resolve() / name, 60 * given.minutes) for name in given.targets or TARGETS]
    sys.exit(int(any(each["findings"] for each in found)))


def fuzzed(name: str, python: str, folder: Path, seconds: float) -> dict[str, Any]:
    """Fuzz one target, print its row and keep it."""
    for part in ("seeds", "corpus", "findings"):
        (folder / part).mkdir(parents=True, exist_ok=True)
    for number, seed in enumerate(TARGETS[name].seeds()):
        (folder / "seeds" / str(number)).write_bytes(seed)
    executions = searched(name, python, folder, seconds)
    totals = covered(name, python, folder)
    result = {
        "target": name,
        "executions": executions,
        "seconds": seconds,
        "corpus": len(list((folder / "corpus").iterdir())),
        "findings": sorted(path.name for path in (folder / "findings").iterdir() if path.suffix != ".txt"),
        **{key: totals[key] for key in ("covered_lines", "num_statements", "covered_branches", "num_branches")},
    }
    (folder / "result.json").write_text(json.dumps(result, indent=1))
    lines, branches = (
        f"{totals[part]:,} of {totals[whole]:,}"
        for part, whole in (("covered_lines", "num_statements"), ("covered_branches", "num_branches"))
    )
    row = (name, executions, executions / seconds, lines, branches, result["corpus"], len(result["findings"]))
    print(f"| {' | '.join(f'{each:,.0f}' if isinstance(each, (int, float)) else each for each in row)} |", flush=True)
    for file in result["findings"]:
        print(f"{folder / 'findings' / file}", file=sys.stderr)
    return result


def searched(name: str, python: str, folder: Path, seconds: float) -> int:
    """Run atheris for so long, again after each death of its process; returns the number of executions."""
    left = seconds
    executions = deaths = 0
    while left >= 1 and deaths < MOST_DEATHS:
        options = (
            f"-max_total_time={left:.0f}",
            f"-max_len={TARGETS[name].longest}",
            f"-artifact_prefix={folder / 'findings'}/",
            f"-timeout={HANGING}",
            f"-rss_limit_mb={MOST_MEMORY}",
            "-print_final_stats=1",
            "-verbosity=1",
        )
        with scratch() as files, (folder / "log").open("ab+") as log:
            place = log.seek(0, os.SEEK_END)
            arguments = [name, str(folder / "findings"), str(files), *options, *corpora(folder)]
            start = time.monotonic()
            code = run(python, "tests.fuzzing.by_atheris", arguments, log).returncode
            left = left - (time.monotonic() - start) if code else 0
            log.seek(place)
            stated = re.findall(rb"stat::number_of_executed_units: (\d+)", log.read())
        executions += int(stated[-1]) if stated else 0
        deaths += code != 0
        if code and not stated:
            sys.exit(f"error: {name}: the process ended with {code} before it began: see {folder / 'log'}")
    return executions


def covered(name: str, python: str, folder: Path) -> dict[str, Any]:
    """What the corpus covers: coverage.py's totals."""
    report = folder / "coverage.json"
    with scratch() as files, (folder / "log").open("ab") as log:
        arguments = [name, str(report), str(files), *corpora(folder)]
        run(python, "tests.fuzzing.covering", arguments, log).check_returncode()
    totals: dict[str, Any] = json.loads(report.read_text())["totals"]
    return totals


def corpora(folder: Path) -> list[str]:
    """The first is the one that libFuzzer adds to."""
    return [str(folder / part) for part in ("corpus", "seeds")]


def run(python: str, module: str, arguments: list[str], log: Any) -> subprocess.CompletedProcess[bytes]:
    """Run a module in atheris's environment, which sees the packages of this one behind its own."""
    own = str(metadata.distribution("numpy").locate_file("."))
    environment = os.environ | {"PYTHONPATH": os.pathsep.join((str(ROOT), own)), "OMP_NUM_THREADS": "1"}
    command = [python, "-m", module, *arguments]
    return subprocess.run(command, cwd=ROOT, env=environment, stdout=log, stderr=log, check=False)


if __name__ == "__main__":
    main()
