"""`train`, `import` and `export` leave nothing that answers wrongly, whatever file operation fails or is the last."""

import json
import os
import subprocess
import sys

import pytest

from tests.helpers import long_after

pytestmark = pytest.mark.slow

LARGE_PAGES = {"GLIBC_TUNABLES": "glibc.malloc.hugetlb=1", "PYTHONMALLOC": "malloc"}
"""With few large pages instead of many small ones, a process that has imported torch forks in half the time."""

SCENARIOS = long_after(
    1,
    [
        "export once more",
        "train",
        "train --overwrite",
        "train --resume",
        "import",
        "import --overwrite",
        "export",
    ],
)


def examined(breakage, *scenarios):
    """The result of `tests.crash_points`, run in a process without threads because it forks."""
    result = subprocess.run(
        [sys.executable, "-m", "tests.crash_points", breakage, *scenarios],
        env=os.environ | {"OMP_NUM_THREADS": "1"} | LARGE_PAGES,
        stdout=subprocess.PIPE,
        timeout=1200,
        check=True,
    )
    return json.loads(result.stdout)


@pytest.mark.parametrize("name", SCENARIOS)
def test_every_crash_point(name):
    ((_, scenario),) = examined("", name).items()
    counts = ", ".join(f"{scenario[count]} {count}" for count in ("points", "faults", "states"))
    sys.stdout.write(f"{name}: {counts}\n")  # shown by pytest -rP
    for defect in ("mixtures", "wrong", "leftovers"):
        assert scenario[defect] == [], defect
    assert scenario["faults"] == 5 * scenario["points"]
    assert {"open", "write", "fsync", "replace", "unlink"} <= set(scenario["kinds"])
    assert ("mkdir" in scenario["kinds"]) == (name in ("train", "import"))


def test_it_is_noticed_when_the_records_do_not_leave_first():
    ((_, found),) = examined("order", "train --overwrite").items()
    (labels, told), *_ = found["mixtures"]
    assert any("SIGKILL" in label for label in labels)
    assert told["Classifier"].startswith("answers") or "altered" in told["Classifier"]


@pytest.mark.long
def test_it_is_noticed_when_leftovers_stay():
    ((_, found),) = examined("cleaning", "train").items()
    assert found["leftovers"]
    assert any("holds other files and is not a bundle" in problem for _, problem in found["wrong"])
