"""`mnist-edge doctor`: its findings, its remedies, and that it survives every problem."""

import json
import os
import platform
import shutil
from importlib import metadata
from pathlib import Path

import pytest

from mnist_edge import extras
from mnist_edge.cli import doctor
from mnist_edge.cli.doctor import State
from mnist_edge.runtime import limits, machine
from tests.helpers import cli_in_process, run_cli

CLEAN = {"MNIST_EDGE_DATA": "", "MNIST_EDGE_THREADS": ""}


def examine(cwd, run=cli_in_process, **environment):
    """The report as JSON, by topic and name, and the exit code."""
    result = run("doctor", "--json", cwd=cwd, **(CLEAN | environment))
    assert result.stderr == b"", result.stderr.decode()
    report = json.loads(result.stdout)
    assert report["healthy"] is (result.returncode == 0)
    assert result.returncode in (0, 1)
    return {(line["topic"], line["name"]): line for line in report["findings"]}, result.returncode


@pytest.fixture
def workshop(bundle_dir, tmp_path):
    """A working directory with a bundle that a test may break."""
    shutil.copytree(bundle_dir, tmp_path / "artifacts" / "cnn")
    return tmp_path


def broken(findings):
    return {key for key, line in findings.items() if line["state"] == "broken"}


def test_a_healthy_machine(workshop):
    found, code = examine(workshop)
    assert (code, broken(found)) == (0, set())
    for package in ("mnist-edge", "numpy", "onnxruntime", "pillow", "platformdirs", "typer"):
        assert found["versions", package]["value"] == metadata.version(package)
    assert platform.python_version() in found["versions", "Python"]["value"]
    assert found["threads", "host cores"]["value"] == str(os.cpu_count())
    assert "CPUExecutionProvider" in found["onnxruntime", "providers"]["value"]
    assert "intact" in found["models", "bundle cnn"]["value"]
    assert "golden vectors answered as PyTorch does" in found["models", "self-test"]["value"]


def test_one_screen(workshop):
    result = run_cli("doctor", cwd=workshop, **CLEAN)
    assert result.returncode == 0
    lines = result.stdout.decode().splitlines()
    assert len(lines) <= 60
    for topic in ("versions", "processor", "threads", "memory", "onnxruntime", "models", "data"):
        assert topic in lines


def test_without_any_model(tmp_path):
    found, code = examine(tmp_path)
    if ("models", "exported") in found:  # otherwise the package has a model
        assert found["models", "exported"]["state"] == "remark"
        assert "mnist-edge train" in found["models", "exported"]["remedy"]
    assert code == 0


def test_an_altered_model(workshop):
    path = workshop / "artifacts/cnn/model.onnx"
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    found, code = examine(workshop)
    assert code == 1
    assert "model.onnx altered" in found["models", "bundle cnn"]["value"]
    assert found["models", "bundle cnn"]["remedy"] == "export again:  mnist-edge export artifacts/cnn"


def test_a_bundle_that_is_not_complete(workshop):
    (workshop / "artifacts/cnn/model.int8-dynamic.onnx").unlink()
    found, code = examine(workshop)
    assert code == 0
    assert found["models", "bundle cnn"]["state"] == "remark"
    assert "model.int8-dynamic.onnx missing" in found["models", "bundle cnn"]["value"]
    (workshop / "artifacts/cnn/manifest.json").unlink()
    found, code = examine(workshop)
    assert code == 0
    assert found["models", "bundle cnn"]["remedy"] == "mnist-edge export artifacts/cnn"
    (workshop / "artifacts/cnn/manifest.json").write_text("{")
    found, code = examine(workshop)
    assert code == 1
    assert "not JSON" in found["models", "bundle cnn"]["value"]


def test_a_model_that_this_machine_computes_wrongly(bundle_dir, monkeypatch):
    from mnist_edge.errors import ParityError
    from mnist_edge.runtime import selftest

    def fails(model):
        raise ParityError("its logits are 3 from PyTorch's: do not use it here")

    monkeypatch.setattr(selftest, "run", fails)
    monkeypatch.setattr("mnist_edge.runtime.model.PRETRAINED", bundle_dir.parent / "nothing")
    found = {finding.name: finding for finding in doctor.examine(bundle_dir.parent)}
    assert found["self-test"].state is State.BROKEN
    assert "do not use it here" in found["self-test"].value


@pytest.mark.parametrize("value", ["many", "0", "-1", "1.5"])
def test_a_senseless_number_of_threads(workshop, value):
    found, code = examine(workshop, MNIST_EDGE_THREADS=value)
    assert code == 1
    assert broken(found) == {("threads", "used")}
    assert value in found["threads", "used"]["value"]
    assert "MNIST_EDGE_THREADS" in found["threads", "used"]["remedy"]


def test_the_number_of_threads_that_was_asked_for(workshop):
    found, code = examine(workshop, MNIST_EDGE_THREADS="3")
    assert (code, found["threads", "used"]["value"]) == (0, "3")


def test_data_that_are_not_there(workshop):
    found, code = examine(workshop, MNIST_EDGE_DATA="nowhere")
    assert code == 1
    assert broken(found) == {("data", "MNIST_EDGE_DATA")}
    found, code = examine(workshop, MNIST_EDGE_DATA="kmnist")
    assert (code, found["data", "MNIST_EDGE_DATA"]["value"]) == (0, "kmnist")


@pytest.mark.parametrize(
    ("variable", "words", "state"),
    [(None, "set by mnist-edge", "ok"), ("1", "set in the environment", "ok"), ("0", "DISABLE_TELEMETRY=0", "remark")],
)
def test_telemetry(workshop, monkeypatch, variable, words, state):
    monkeypatch.delenv("ORT_DISABLE_TELEMETRY", raising=False)
    found, code = examine(workshop, run_cli, **({"ORT_DISABLE_TELEMETRY": variable} if variable else {}))
    assert code == 0
    assert words in found["onnxruntime", "telemetry"]["value"]
    assert found["onnxruntime", "telemetry"]["state"] == state


def test_an_onnxruntime_that_cannot_be_imported(workshop):
    (workshop / "onnxruntime.py").write_text("raise OSError('libgomp.so.1: cannot open shared object file')")
    found, code = examine(
        workshop, run_cli, PYTHONPATH=os.pathsep.join([str(workshop), os.environ.get("PYTHONPATH", "")])
    )
    assert code == 1
    assert "libgomp.so.1" in found["onnxruntime", "import"]["value"]
    assert "--force-reinstall" in found["onnxruntime", "import"]["remedy"]
    assert found["versions", "numpy"]["state"] == "ok"
    assert ("data", "data sets") in found or ("data", "mnist") in found


def fake_versions(monkeypatch, **versions):
    def version(package):
        if versions.get(package, "") is None:
            raise metadata.PackageNotFoundError(package)
        return versions.get(package, "99.0")

    requires = [
        "numpy>=1.26", "onnxruntime>=1.22", "torch>=2.9; extra == 'train'", "onnx>=1.18 ; extra == 'train'",
        "mypy>=1.18; extra == 'dev'",
    ]  # fmt: skip
    monkeypatch.setattr(metadata, "version", version)
    monkeypatch.setattr(metadata, "requires", lambda package: requires)
    return {finding.name: finding for finding in doctor.examine(Path("nowhere")) if finding.topic == "versions"}


def test_packages_that_are_missing_or_too_old(monkeypatch):
    found = fake_versions(monkeypatch, numpy=None, onnxruntime="1.9.1", torch=None, onnx=None, mypy=None)
    assert found["numpy"].state is State.BROKEN
    assert found["numpy"].remedy == "pip install 'numpy>=1.26'"
    assert found["onnxruntime"].state is State.BROKEN
    assert found["onnxruntime"].value == "1.9.1, older than 1.22"
    assert found["onnxruntime"].remedy == "pip install 'onnxruntime>=1.22'"
    assert found["torch, onnx"].state is State.REMARK
    told = "to train and export models; not needed on a device"
    assert found["torch, onnx"].remedy == f"{extras.to_install('train')}  {told}"
    assert "mypy" not in found


def test_versions_are_compared_as_numbers(monkeypatch):
    found = fake_versions(monkeypatch, onnxruntime="1.100.0rc1", torch="2.9.0+cpu")
    assert {finding.state for finding in found.values()} == {State.OK}
    found = fake_versions(monkeypatch, torch="2.8.1+cpu")
    assert found["torch"].state is State.REMARK


X86 = "processor\t: 0\nmodel name\t: Old Box\nflags\t\t: fpu sse4_2 {}\n\n"
ARM = "processor\t: 0\nFeatures\t: fp asimd asimddp i8mm\n\n"


@pytest.mark.parametrize(
    ("cpuinfo", "features", "state"),
    [
        (X86.format("avx2 fma avx512_vnni"), "avx2, fma, avx512_vnni", State.OK),
        (X86.format(""), "none: no AVX2", State.REMARK),
        (ARM, "asimd, asimddp (dot product), i8mm", State.OK),
        ("", "none that onnxruntime uses", State.OK),
        (None, "unknown on this system", State.OK),
    ],
)
def test_processors(monkeypatch, tmp_path, cpuinfo, features, state):
    if cpuinfo is not None:
        (tmp_path / "cpuinfo").write_text(cpuinfo)
    monkeypatch.setattr(machine, "_CPUINFO", tmp_path / "cpuinfo")
    found = {finding.name: finding for finding in doctor.examine(Path("nowhere")) if finding.topic == "processor"}
    assert (found["features"].value, found["features"].state) == (features, state)


def test_a_damaged_pretrained_model(tmp_path, bundle_copy, monkeypatch):
    (bundle_copy / "model.onnx").write_bytes(b"")
    monkeypatch.setattr("mnist_edge.runtime.model.PRETRAINED", bundle_copy.parent)
    found = {finding.name: finding for finding in doctor.examine(tmp_path / "nowhere")}
    assert found["pretrained cnn"].state is State.BROKEN
    assert found["pretrained cnn"].remedy == extras.to_install(options="--force-reinstall --no-deps")


@pytest.mark.parametrize(
    ("quota", "memory", "shown"),
    [
        (1.5, 536_870_912, ("1.50 cores", "0.5 GB (cgroup)")),
        (None, None, ("none found", "none found")),
    ],
)
def test_limits_of_a_container(monkeypatch, quota, memory, shown):
    monkeypatch.setattr(limits, "cpu_quota", lambda: quota)
    monkeypatch.setattr(limits, "memory_limit", lambda: memory)
    found = {(finding.topic, finding.name): finding.value for finding in doctor.examine(Path("nowhere"))}
    assert (found["threads", "cgroup quota"], found["memory", "limit"]) == shown


@pytest.mark.parametrize(
    "probe", ["_versions", "_processor", "_threads", "_memory", "_onnxruntime", "_models", "_data"]
)
def test_a_probe_that_fails_is_a_line(monkeypatch, probe):
    def fails(*arguments):
        raise RuntimeError("what nobody\nthought of")

    monkeypatch.setattr(doctor, probe, fails)
    findings = list(doctor.examine(Path("nowhere")))
    (failed,) = [finding for finding in findings if finding.state is State.BROKEN]
    assert "thought of" in failed.value
    assert "\n" not in failed.value
    assert len({finding.topic for finding in findings}) == 7
