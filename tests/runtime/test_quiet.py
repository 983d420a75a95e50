"""The runtime uses neither the network nor the disk, and no processor time between calls."""

import os
import re
import shutil
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from importlib.metadata import version
from pathlib import Path

import pytest
from PIL import Image

from tests.helpers import run_python
from tests.make_bundle import EXPECTED

# CI=true disables onnxruntime's telemetry, so it must be unset. Bytecode would be written by Python, not by us.
AS_ON_A_DEVICE = {
    "CI": None,
    "GITHUB_ACTIONS": None,
    "ORT_DISABLE_TELEMETRY": None,
    "XDG_CACHE_HOME": None,
    "PYTHONDONTWRITEBYTECODE": "1",
}

PREDICT = """
import sys
from mnist_edge import Classifier
print(Classifier(sys.argv[1]).predict(sys.argv[2]).label)
"""

COMMAND = """
import runpy, sys
sys.argv = ["mnist_edge", "predict", sys.argv[2], "--model", sys.argv[1]]
runpy.run_module("mnist_edge", run_name="__main__", alter_sys=True)
"""

READING = {
    *("access", "faccessat", "faccessat2", "stat", "lstat", "newfstatat", "statx", "statfs"),
    *("readlink", "readlinkat", "getcwd", "chdir", "execve"),
}
"""Harmless system calls among those that `strace` is asked for: they change nothing and send nothing.

Opening a file for reading is harmless, too.
"""

WRITING = re.compile(r"O_WRONLY|O_RDWR|O_CREAT|O_TRUNC|O_APPEND|O_TMPFILE")
CALL = re.compile(r"^\d+ +(?P<name>\w+)\((?P<arguments>.*)")


def noise(trace: str) -> list[str]:
    """The calls in a trace that write, create, remove or connect."""
    calls = [match for line in trace.splitlines() if (match := CALL.match(line))]
    assert len(calls) > 100, trace
    return [match[0] for match in calls if not harmless(match["name"], match["arguments"])]


def harmless(name: str, arguments: str) -> bool:
    if name in ("open", "openat"):
        return not WRITING.search(arguments) or '"/dev/null"' in arguments
    return name in READING


@pytest.fixture(scope="module")
def strace(tmp_path_factory):
    """Runs a script as on a fresh device; returns what `noise` finds, and the files in the home directory."""
    program = shutil.which("strace")
    if program is None:
        pytest.skip("strace is not installed")
    if subprocess.run([program, "true"], capture_output=True, check=False).returncode:
        pytest.skip("strace may not trace here")

    def run(code: str, *arguments: object, **environment: str | None):
        home = tmp_path_factory.mktemp("home")
        trace = tmp_path_factory.mktemp("trace") / "trace"
        under = [program, "-f", "-qq", "-o", str(trace), "-e", "trace=%network,%file,memfd_create,io_uring_setup"]
        result = run_python(code, *arguments, under=under, **AS_ON_A_DEVICE | {"HOME": str(home)} | environment)
        assert result.returncode == 0, result.stderr
        return noise(trace.read_text()), list(home.rglob("*"))

    return run


@pytest.fixture(scope="module")
def picture(expected, tmp_path_factory):
    path = tmp_path_factory.mktemp("picture") / "digit.png"
    Image.fromarray(expected["images"][0]).save(path)
    return path


@pytest.mark.parametrize("code", [PREDICT, COMMAND], ids=["Classifier", "mnist-edge predict"])
def test_predicting_opens_no_socket_and_writes_no_file(strace, bundle_dir, picture, code):
    assert strace(code, bundle_dir, picture) == ([], [])


@pytest.mark.parametrize(
    ("code", "call"),
    [
        ("import socket; socket.socket()", "socket("),
        ("import socket; socket.socketpair()", "socketpair("),
        ("import pathlib; pathlib.Path.home().joinpath('x').write_text('x')", "openat("),
        ("import os, pathlib; os.mkdir(pathlib.Path.home() / 'x')", "mkdir("),
        ("import os, pathlib; os.chmod(pathlib.Path.home(), 0o700)", "chmod("),
        ("import os; os.memfd_create('x')", "memfd_create("),
        ("import threading; t = threading.Thread(target=open('/dev/full', 'a').close); t.start(); t.join()", "openat("),
    ],
)
def test_the_proof_above_can_fail(strace, code, call):
    calls, _ = strace(code)
    assert any(call in found for found in calls)


phones_home = pytest.mark.skipif(
    tuple(map(int, version("onnxruntime").split(".")[:2])) < (1, 29) or sys.platform != "linux",
    reason="this onnxruntime has no telemetry",
)

LINGER = f"{PREDICT}\nimport time; time.sleep(20)"
"""onnxruntime 1.32 collects telemetry at once and sends it 9 s later."""


@phones_home
def test_it_fails_when_onnxruntime_may_collect(strace, bundle_dir, picture):
    calls, left = strace(PREDICT, bundle_dir, picture, ORT_DISABLE_TELEMETRY="0")
    assert any("onnxruntime.db" in call for call in calls)
    assert "deviceid" in {path.name for path in left}


@pytest.fixture(scope="module")
def lingering(strace, bundle_dir, picture):
    """The findings with default settings and with telemetry enabled. Both processes run in parallel, as they wait."""
    with ThreadPoolExecutor() as pool:
        switches = ({}, {"ORT_DISABLE_TELEMETRY": "0"})
        return list(pool.map(lambda switch: strace(LINGER, bundle_dir, picture, **switch), switches))


@pytest.mark.slow
def test_a_process_that_stays_opens_no_socket_either(lingering):
    as_it_comes, _ = lingering
    assert as_it_comes == ([], [])


@phones_home
@pytest.mark.slow
def test_it_fails_when_onnxruntime_may_phone_home(lingering):
    _, (calls, _) = lingering
    assert any("socket(AF_INET" in call for call in calls)


AFTERWARDS = """
import sys, time
import numpy as np
import mnist_edge.runtime.session as session
from mnist_edge import Classifier
if sys.argv[2] == "spinning":
    real = session._options
    def with_a_pool(**wanted):
        options = real(**wanted)
        options.intra_op_num_threads = 2
        return options
    session._options = with_a_pool
classifier = Classifier(sys.argv[1], threads=2)
busy = 0.0
for _ in range(10):
    classifier.logits(np.zeros((512, 28, 28), np.uint8))
    before = time.process_time()
    time.sleep(0.1)
    busy += time.process_time() - before
print(busy)
"""
"""Prints the processor time of all threads during the 0.1 s after each of ten calls."""


def test_no_processor_time_is_burned_after_a_call(bundle_dir):
    result = run_python(AFTERWARDS, bundle_dir, "as shipped")
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) < 0.1


def test_a_spinning_pool_would_be_noticed(bundle_dir):
    result = run_python(AFTERWARDS, bundle_dir, "spinning")
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) > 0.1


BUSY = """
import os, sys, time
import numpy as np
from mnist_edge import Classifier

def others():
    used = 0
    for task in os.listdir("/proc/self/task"):
        if int(task) != os.getpid():
            with open(f"/proc/self/task/{task}/stat") as stat:
                used += sum(map(int, stat.read().rpartition(")")[2].split()[11:13]))
    return used

classifier = Classifier()
digit = np.load(sys.argv[1])["images"][0]
pictures = [np.kron(255 - np.pad(digit, 8), np.ones((side, side), np.uint8)) for side in (1, 2, 10)]
if len(sys.argv) > 2:
    pictures = []
    square = np.ones((1000, 1000), np.float32)
    for _ in range(50):
        square @ square
before = 0 if len(sys.argv) > 2 else -1
while len(sys.argv) == 2 and (now := others()) != before:  # the pool spins for a while after numpy's import
    before = now
    time.sleep(0.2)
for _ in range(20):
    for picture in pictures:
        classifier.predict(picture)
        classifier.read(picture)
print(others() - before)
"""


@pytest.mark.skipif(not Path("/proc/self/task").is_dir(), reason="counts threads' time as Linux tells it")
@pytest.mark.skipif((os.cpu_count() or 1) < 2, reason="BLAS starts no pool on one processor")
@pytest.mark.parametrize("product", [False, True], ids=["pictures", "a product"])
def test_preparing_a_picture_wakes_no_thread(bundle_dir, product):
    """numpy's BLAS has a pool of threads, which any larger product wakes and which then spin."""
    environment = dict.fromkeys(("OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS", "OMP_WAIT_POLICY"))
    result = run_python(BUSY, bundle_dir / EXPECTED, *(["product"] if product else []), **environment)
    assert result.returncode == 0, result.stderr
    ticks = int(result.stdout)
    assert ticks > 10 if product else ticks <= 1
