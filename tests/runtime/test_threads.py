"""The number of threads: CPU affinity, quotas of both cgroup versions, and real cgroups where the machine allows."""

import _thread
import os
import sys
import threading
import uuid
from pathlib import Path

import numpy as np
import pytest

from mnist_edge import Classifier
from mnist_edge.errors import UsageError
from mnist_edge.runtime import limits, threads
from tests.helpers import run_python


@pytest.fixture(autouse=True)
def many_cores(monkeypatch, tmp_path):
    """A machine with 64 cores and no cgroup information."""
    monkeypatch.delenv(threads.THREADS_VARIABLE, raising=False)
    monkeypatch.setattr(limits, "PROCESS", tmp_path / "proc")
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)


@pytest.fixture
def machine(tmp_path):
    """Builds /proc/self and cgroup folders. `{}` in a mount line becomes their root folder."""

    def build(groups: str, mounts: str, files: dict[str, str]) -> None:
        (tmp_path / "proc").mkdir(exist_ok=True)
        (tmp_path / "proc/cgroup").write_text(groups)
        (tmp_path / "proc/mountinfo").write_text(mounts.replace("{}", str(tmp_path)))
        for name, content in files.items():
            (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / name).write_text(content)

    return build


V2 = "30 23 0:26 / {}/cg rw,nosuid shared:4 - cgroup2 cgroup2 rw,nsdelegate\n"
V1 = "33 24 0:29 / {}/cg/cpu,cpuacct rw shared:10 - cgroup cgroup rw,cpu,cpuacct\n"
V1_MEMORY = "34 24 0:30 / {}/cg/memory rw - cgroup cgroup rw,memory\n"
HYBRID_V2 = "41 24 0:38 / {}/cg/unified rw - cgroup2 cgroup2 rw\n"


def v1(folder: str, quota: object, period: object = 100000) -> dict[str, str]:
    return {f"{folder}/cpu.cfs_quota_us": f"{quota}\n", f"{folder}/cpu.cfs_period_us": f"{period}\n"}


# (/proc/self/cgroup, /proc/self/mountinfo, files, quota)
MACHINES = {
    "v2": ("0::/a\n", V2, {"cg/a/cpu.max": "150000 100000\n"}, 1.5),
    "v2, less than one": ("0::/a\n", V2, {"cg/a/cpu.max": "20000 100000\n"}, 0.2),
    "v2, no limit": ("0::/a\n", V2, {"cg/a/cpu.max": "max 100000\n"}, None),
    "v2, in a namespace of its own": ("0::/\n", V2, {"cg/cpu.max": "200000 100000\n"}, 2),
    "v2, the outer group is smaller": (
        "0::/a/b/c\n",
        V2,
        {"cg/a/cpu.max": "100000 100000\n", "cg/a/b/cpu.max": "max 100000\n", "cg/a/b/c/cpu.max": "400000 100000\n"},
        1,
    ),
    "v2, the inner group is smaller": (
        "0::/a/b\n",
        V2,
        {"cg/a/cpu.max": "300000 100000\n", "cg/a/b/cpu.max": "50000 25000\n"},
        2,
    ),
    "v2, a sibling's does not matter": ("0::/a\n", V2, {"cg/b/cpu.max": "100000 100000\n"}, None),
    "v2, the mount shows a part": (
        "0::/docker/x/inner\n",
        "30 23 0:26 /docker/x {}/cg rw - cgroup2 cgroup2 rw\n",
        {"cg/cpu.max": "300000 100000\n", "cg/inner/cpu.max": "200000 100000\n"},
        2,
    ),
    "v2, the better of two mounts": (
        "0::/a\n",
        "29 23 0:26 /elsewhere {}/other rw - cgroup2 cgroup2 rw\n" + V2,
        {"other/cpu.max": "100000 100000\n", "cg/a/cpu.max": "300000 100000\n"},
        3,
    ),
    "v2, the group lies outside the mount": (
        "0::/../../x\n",
        V2,
        {"cg/cpu.max": "100000 100000\n", "x/cpu.max": "9 100000\n"},
        1,
    ),
    "v2, blanks in the path": (
        "0::/a b\n",
        r"30 23 0:26 / {}/c\040g rw - cgroup2 none rw" + "\n",
        {"c g/a b/cpu.max": "100000 100000\n"},
        1,
    ),
    "v1": ("4:cpu,cpuacct:/a\n0::/\n", V1, v1("cg/cpu,cpuacct/a", 250000), 2.5),
    "v1, cpu alone": (
        "2:cpuacct:/b\n1:cpu:/a\n",
        "32 31 0:29 / {}/cg/cpu rw - cgroup cgroup rw,cpu\n33 31 0:30 / {}/cg/cpuacct rw - cgroup cgroup rw,cpuacct\n",
        v1("cg/cpu/a", 100000) | v1("cg/cpuacct/b", 9),
        1,
    ),
    "v1, no limit": ("4:cpu,cpuacct:/a\n", V1, v1("cg/cpu,cpuacct/a", -1), None),
    "v1, the outer group is smaller": (
        "4:cpuacct,cpu:/a/b\n",
        V1,
        v1("cg/cpu,cpuacct/a", 100000) | v1("cg/cpu,cpuacct/a/b", -1),
        1,
    ),
    "v1, the mount is the group": (
        "4:cpu,cpuacct:/docker/x\n",
        "33 24 0:29 /docker/x {}/cg rw - cgroup cgroup rw,cpu,cpuacct\n",
        v1("cg", 300000),
        3,
    ),
    "hybrid, limited by v1": (
        "5:memory:/m\n4:cpu,cpuacct:/a\n0::/u\n",
        V1_MEMORY + V1 + HYBRID_V2,
        v1("cg/cpu,cpuacct/a", 100000) | v1("cg/memory/m", 9) | {"cg/unified/u/cpu.stat": "usage_usec 1\n"},
        1,
    ),
    "hybrid, limited by v2": (
        "5:memory:/m\n0::/u\n",
        V1_MEMORY + HYBRID_V2,
        {"cg/unified/u/cpu.max": "200000 100000\n"},
        2,
    ),
    "garbage in cpu.max": ("0::/a\n", V2, {"cg/a/cpu.max": "\x00lots of ½\n", "cg/cpu.max": "100000 100000\n"}, 1),
    "empty cpu.max": ("0::/a\n", V2, {"cg/a/cpu.max": ""}, None),
    "one word in cpu.max": ("0::/a\n", V2, {"cg/a/cpu.max": "100000\n"}, None),
    "no period": ("0::/a\n", V2, {"cg/a/cpu.max": "100000 0\n"}, None),
    "absurd numbers": (
        "0::/a\n",
        V2,
        {"cg/a/cpu.max": "9" * 5000 + " 1\n", "cg/cpu.max": "1" + "0" * 400 + " 1"},
        None,
    ),
    "v1 without a period": ("4:cpu:/a\n", V1, {"cg/cpu,cpuacct/a/cpu.cfs_quota_us": "100000\n"}, None),
    "garbage in cgroup": ("\x00\n:\n0:\n\n4\n", V2 + V1, {"cg/cpu.max": "100000 100000\n"}, None),
    "garbage in mountinfo": ("0::/a\n4:cpu:/a\n", "\x00\n - \n1 2 - cgroup2\n- - -\n\\999 - cgroup2 x rw\n", {}, None),
    "a folder in the place of cpu.max": ("0::/a\n", V2, {"cg/a/cpu.max/x": ""}, None),
    "nothing mounted": ("0::/a\n4:cpu:/a\n", "", {}, None),
}


@pytest.mark.parametrize(("groups", "mounts", "files", "quota"), MACHINES.values(), ids=MACHINES)
def test_the_quota_is_found(machine, groups, mounts, files, quota):
    machine(groups, mounts, files)
    assert limits.cpu_quota() == quota


@pytest.mark.parametrize(
    ("files", "limit"),
    [
        ({"cg/a/memory.max": "512000000\n", "cg/memory.max": "max\n"}, 512_000_000),
        ({"cg/a/memory.max": "512000000\n", "cg/memory.max": "256000000\n"}, 256_000_000),
        ({"cg/memory/m/memory.limit_in_bytes": "128000000\n"}, 128_000_000),
        ({"cg/memory/m/memory.limit_in_bytes": "9223372036854771712\n"}, None),
        ({"cg/a/memory.max": "lots\n"}, None),
        ({"cg/a/memory.max": ""}, None),
        ({"cg/a/memory.max": "9" * 5000}, None),
        ({}, None),
    ],
)
def test_the_limit_of_memory_is_found(machine, files, limit):
    machine("5:memory:/m\n0::/a\n", V1_MEMORY + V2, files)
    assert limits.memory_limit() == limit


def test_without_proc_there_is_no_quota():
    assert limits.cpu_quota() is None
    assert limits.usable_cpus() == 64


@pytest.mark.parametrize(
    ("affinity", "cpu_max", "usable"),
    [
        (64, "max 100000", 64),
        (1, "max 100000", 1),
        (3, "400000 100000", 3),
        (64, "200000 100000", 2),
        (64, "199000 100000", 1),
        (64, "50000 100000", 1),
    ],
)
def test_affinity_and_quota_both_limit(machine, monkeypatch, affinity, cpu_max, usable):
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
    machine("0::/a\n", V2, {"cg/a/cpu.max": cpu_max})
    assert limits.usable_cpus() == usable
    assert threads.default_threads() == min(usable, threads.MAX_DEFAULT_THREADS)


def test_where_there_is_no_affinity_the_cores_are_counted(monkeypatch):
    monkeypatch.delattr(os, "sched_getaffinity", raising=False)
    monkeypatch.setattr(os, "cpu_count", lambda: 3)
    assert limits.usable_cpus() == 3
    monkeypatch.setattr(os, "cpu_count", lambda: None)
    assert limits.usable_cpus() == 1


def test_threads_from_the_environment(monkeypatch):
    monkeypatch.setenv(threads.THREADS_VARIABLE, "7")
    assert threads.default_threads() == 7
    for wrong in ("0", "-1", "many", "1.5", "99999999999", "9" * 5000):
        monkeypatch.setenv(threads.THREADS_VARIABLE, wrong)
        with pytest.raises(UsageError, match=threads.THREADS_VARIABLE):
            threads.default_threads()


COUNT_THREADS = """
import os, sys, threading, time
import numpy as np
from mnist_edge.runtime.classifier import CHUNK, Classifier
from mnist_edge.runtime.session import Session
from mnist_edge.runtime.threads import default_threads
from mnist_edge.runtime.limits import cpu_quota
count = lambda: len(os.listdir("/proc/self/task"))
used, real = set(), Session.run
def run(*arguments):
    used.add(threading.get_ident())
    return real(*arguments)
Session.run = run
before = count()
classifier = Classifier(sys.argv[1], threads=int(sys.argv[2]) if len(sys.argv) > 2 else None)
classifier.logits(np.zeros((CHUNK, 28, 28), np.uint8))
alone = len(used)
classifier.logits(np.zeros((20 * CHUNK, 28, 28), np.uint8))
for _ in range(100):  # a thread that is joined may take the system a moment to end
    if count() == before:
        break
    time.sleep(0.05)
print(default_threads(), alone, len(used), count() - before, cpu_quota())
"""
"""Prints default threads, threads used for a chunk and for a large batch, threads left over, and the quota."""

linux = pytest.mark.skipif(sys.platform != "linux", reason="counts threads in /proc")


@linux
def test_under_one_core_of_affinity_one_thread_computes(bundle_dir):
    pin = "import os; os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})\n"
    result = run_python(pin + COUNT_THREADS, bundle_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[:4] == ["1", "1", "1", "0"]


@linux
def test_the_count_of_threads_can_be_another_and_none_is_left(bundle_dir):
    result = run_python(COUNT_THREADS, bundle_dir, 3)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split()[1:4] == ["1", "3", "0"]


def test_a_large_batch_is_the_same_by_any_number_of_threads(bundle_dir, expected):
    images = np.resize(expected["images"], (2000, 28, 28))
    one = Classifier(bundle_dir, threads=1).logits(images)
    for count in (2, 5, 100):
        assert (Classifier(bundle_dir, threads=count).logits(images) == one).all()


def _refuse(*_):
    raise RuntimeError("can't start new thread")


@pytest.mark.parametrize("start", [_refuse, lambda *_: 1], ids=["refused", "never begins, for lack of memory"])
def test_where_no_thread_is_to_be_had_the_callers_own_does_it(bundle_dir, expected, monkeypatch, start):
    classifier = Classifier(bundle_dir, threads=3)
    images = np.resize(expected["images"], (1000, 28, 28))
    logits, predictions = classifier.logits(images), classifier.predict_many(list(images[:20]))
    monkeypatch.setattr(_thread, "start_new_thread", start)
    assert (classifier.logits(images) == logits).all()
    assert classifier.predict_many(list(images[:20])) == predictions


def test_the_first_error_ends_the_batch_and_all_its_threads():
    calls = []

    def run(rows):
        calls.append(len(rows))
        raise ZeroDivisionError

    before = threading.active_count()
    with pytest.raises(ZeroDivisionError):
        threads.in_chunks(run, np.zeros((1000, 1)), chunk=10, width=1, threads=4)
    assert threading.active_count() == before
    assert len(calls) <= 4  # at most one per thread


@pytest.fixture
def real_group(monkeypatch):
    """A real cgroup limited to one processor; skips if none can be created."""
    monkeypatch.setattr(limits, "PROCESS", Path("/proc/self"))
    roots = [(mount.point, "cgroup") for mount in limits._mounts("cgroup", "cpu")]
    roots += [(mount.point, "cgroup2") for mount in limits._mounts("cgroup2", "")]
    for root, kind in roots:
        group = root / f"mnist-edge-test-{uuid.uuid4().hex}"
        try:
            group.mkdir()
        except OSError:
            continue
        try:
            grant(group, kind)
        except OSError:
            group.rmdir()
            continue
        yield group
        group.rmdir()
        return
    pytest.skip("no cgroup with a CPU quota can be made here: that takes root and a writable cgroup file system")


def grant(group: Path, kind: str) -> None:
    if kind == "cgroup2":
        (group / "cpu.max").write_text("100000 100000")
    else:
        (group / "cpu.cfs_period_us").write_text("100000")
        (group / "cpu.cfs_quota_us").write_text("100000")


@linux
def test_in_a_real_group_of_one_processor_one_thread_computes(bundle_dir, real_group):
    join = f"import os; open({str(real_group / 'cgroup.procs')!r}, 'w').write(str(os.getpid()))\n"
    result = run_python(join + COUNT_THREADS, bundle_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["1", "1", "1", "0", "1.0"]
