"""Whatever a power failure drops of unsynced changes, no bundle answers wrongly. The rest: tests/power_failures.py"""

import json
import shutil
import subprocess
import sys

import pytest

pytestmark = [
    pytest.mark.slow,
    pytest.mark.skipif(sys.platform != "linux", reason="needs LD_PRELOAD"),
    pytest.mark.skipif(shutil.which("cc") is None, reason="needs a C compiler (cc)"),
]


def examined(*arguments):
    command = [sys.executable, "-m", "tests.power_failures", "--random", "2", *arguments]
    return json.loads(subprocess.run(command, stdout=subprocess.PIPE, timeout=600, check=True).stdout)


def test_what_was_not_synced_may_be_lost():
    found = examined("import", "report")
    for scenario in found.values():
        assert scenario["durable"]
        assert scenario["mixtures"] == []
        assert scenario["built"] == 6 * scenario["instants"]
    assert found["import"]["wrong"] == found["import"]["leftovers"] == []
    assert found["import"]["states"] > found["import"]["instants"] / 2


def test_it_is_noticed_when_files_are_not_synced():
    found = examined("--broken", "fsync", "import", "report")
    assert found["report"]["mixtures"]
    assert not found["import"]["durable"]
    assert any("ModelFormatError" in str(told) for _, told in found["import"]["mixtures"])


@pytest.mark.long
def test_it_is_noticed_when_the_folder_is_not_synced():
    ((_, found),) = examined("--broken", "folder-sync", "import --overwrite").items()
    assert not found["durable"]
    assert any("ModelFormatError" in str(told) for _, told in found["mixtures"])
