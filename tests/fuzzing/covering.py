"""Measure what inputs cover of a target's modules:  python -m tests.fuzzing.covering TARGET REPORT SCRATCH FOLDER …

It runs in the environment that `scripts/fuzz` makes, and writes coverage.py's JSON report.
"""

import sys
from pathlib import Path

from coverage import Coverage

name, report, scratch, *folders = sys.argv[1:]

measured = Coverage(branch=True, data_file=None, config_file=False, source_pkgs=["mnist_edge"])
measured.start()

from tests.fuzzing.judging import judge  # noqa: E402  # what runs on import is covered, too
from tests.fuzzing.targets import TARGETS  # noqa: E402

target = TARGETS[name]
for path in (path for folder in folders for path in sorted(Path(folder).iterdir())):
    judge(target.run, path.read_bytes(), Path(scratch))
measured.stop()

wanted = [
    module.__file__
    for module in [*sys.modules.values()]
    if any(f"{module.__name__}.".startswith(f"{each}.") for each in target.modules) and module.__file__
]
measured.json_report(include=wanted, outfile=report)
