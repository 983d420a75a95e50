"""Threads, isolation, and what the runtime leaves on a machine."""

import os
import subprocess
import sys

import pytest

from mnist_edge.errors import ModelFormatError, UsageError
from mnist_edge.runtime import session


def run_python(code: str, *arguments: object, **environment: str | None):
    wanted = {**os.environ, **environment}
    return subprocess.run(
        [sys.executable, "-c", code, *map(str, arguments)],
        env={name: value for name, value in wanted.items() if value is not None},
        capture_output=True,
        text=True,
        timeout=120,
        check=False,
    )


PREDICT = """
import sys
import numpy as np
from mnist_edge import Classifier
Classifier(sys.argv[1]).logits(np.zeros((1, 28, 28), np.uint8))
"""

HEAVY = "sorted({'torch', 'onnx', 'typer', 'onnxscript', 'torchvision'} & sys.modules.keys())"


def test_the_runtime_never_imports_torch_onnx_or_typer(bundle_dir):
    result = run_python(f"{PREDICT}\nprint({HEAVY})", bundle_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "[]"


def test_the_proof_above_can_fail(bundle_dir):
    result = run_python(f"import typer\n{PREDICT}\nprint({HEAVY})", bundle_dir)
    assert result.returncode == 0, result.stderr
    assert result.stdout.strip() == "['typer']"


def test_importing_the_package_alone_loads_nothing_heavy():
    code = (
        "import sys, mnist_edge; print(sorted({'torch', 'onnxruntime', 'typer', 'numpy', 'PIL'} & sys.modules.keys()))"
    )
    assert run_python(code).stdout.strip() == "[]"


def _written(bundle_dir, home, code):
    # CI=true hides onnxruntime's telemetry, so it must not be set here.
    result = run_python(
        code, bundle_dir, HOME=str(home), CI=None, XDG_CACHE_HOME=None, ORT_DISABLE_TELEMETRY=None, GITHUB_ACTIONS=None
    )
    assert result.returncode == 0, result.stderr
    return [path for path in home.rglob("*") if path.is_file()]


def test_nothing_is_written_to_the_home(bundle_dir, tmp_path):
    assert _written(bundle_dir, tmp_path, PREDICT) == []


def test_a_user_who_wants_telemetry_keeps_it():
    code = "import os, mnist_edge.runtime.session; print(os.environ['ORT_DISABLE_TELEMETRY'])"
    assert run_python(code, ORT_DISABLE_TELEMETRY="0").stdout.strip() == "0"


def test_telemetry_is_off_before_onnxruntime_is_imported():
    code = """
import builtins, os, sys
real = builtins.__import__
def spy(name, *rest, **more):
    if name == "onnxruntime" and "onnxruntime" not in sys.modules:
        print(os.environ.get("ORT_DISABLE_TELEMETRY"))
    return real(name, *rest, **more)
builtins.__import__ = spy
import mnist_edge.runtime.session
"""
    assert run_python(code, ORT_DISABLE_TELEMETRY=None).stdout.split() == ["1"]


@pytest.fixture
def cpus(monkeypatch, tmp_path):
    """A machine of 64 cores of which the test may say how many this process has, and what its cgroup grants."""
    monkeypatch.delenv(session.THREADS_VARIABLE, raising=False)
    monkeypatch.setattr(session, "_CGROUP", tmp_path)
    monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(64)), raising=False)

    def grant(*, affinity: int = 64, cpu_max: str | None = None, v1: tuple[int, int] | None = None):
        monkeypatch.setattr(os, "sched_getaffinity", lambda pid: set(range(affinity)), raising=False)
        if cpu_max is not None:
            (tmp_path / "cpu.max").write_text(cpu_max)
        if v1 is not None:
            (tmp_path / "cpu").mkdir()
            (tmp_path / "cpu/cpu.cfs_quota_us").write_text(f"{v1[0]}\n")
            (tmp_path / "cpu/cpu.cfs_period_us").write_text(f"{v1[1]}\n")
        return session.default_threads()

    return grant


@pytest.mark.parametrize(
    ("machine", "threads"),
    [
        ({}, session.MAX_DEFAULT_THREADS),
        ({"affinity": 1}, 1),
        ({"affinity": 3}, 3),
        ({"cpu_max": "100000 100000\n"}, 1),
        ({"cpu_max": "250000 100000\n"}, 2),
        ({"cpu_max": "50000 100000\n"}, 1),
        ({"cpu_max": "max 100000\n"}, session.MAX_DEFAULT_THREADS),
        ({"affinity": 1, "cpu_max": "400000 100000\n"}, 1),
        ({"v1": (200000, 100000)}, 2),
        ({"v1": (-1, 100000)}, session.MAX_DEFAULT_THREADS),
    ],
)
def test_threads_follow_affinity_and_quota(cpus, machine, threads):
    assert cpus(**machine) == threads


def test_threads_from_the_environment(cpus, monkeypatch):
    monkeypatch.setenv(session.THREADS_VARIABLE, "7")
    assert cpus(affinity=1) == 7
    for wrong in ("0", "-1", "many", "1.5", "99999999999"):
        monkeypatch.setenv(session.THREADS_VARIABLE, wrong)
        with pytest.raises(UsageError, match=session.THREADS_VARIABLE):
            session.default_threads()


@pytest.mark.parametrize("content", [b"", b"no protobuf", b"\x08\x0a"])
def test_what_onnxruntime_cannot_load(content, capfd):
    with pytest.raises(ModelFormatError, match="onnxruntime"):
        session.open_session(content)
    assert capfd.readouterr().err == ""
