"""`bench`: what it measures, in processes of their own, what it advises, and how it fails."""

import functools
import gc
import hashlib
import json
import shutil
import signal
import subprocess
import sys
import time
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import msgspec
import PIL
import pytest
from msgspec import UNSET, structs

from mnist_edge.bundle import reading
from mnist_edge.bundle.layout import Format
from mnist_edge.errors import ExecutionError
from mnist_edge.runtime.bench import child, choice, environment, files, records, running
from mnist_edge.runtime.latency import latencies
from mnist_edge.runtime.model import PRETRAINED
from tests.helpers import cli_in_process, fails, run_python

NANO = Path(PRETRAINED, "cnn-nano")

QUICK = functools.partial(running.measure, rounds=2, seconds=0.01)


@pytest.fixture(scope="module")
def found():
    return files.find("cnn-nano")


@pytest.fixture(scope="module")
def sample(found):
    return files.sample(found)


@pytest.fixture
def quick(monkeypatch):
    """Make the command measure little."""
    monkeypatch.setattr(running, "measure", QUICK)


@pytest.fixture
def nano(tmp_path):
    """A copy of the pretrained bundle that a test may change."""
    return Path(shutil.copytree(NANO, tmp_path / "nano"))


# What is measured


def test_every_figure_of_a_pretrained_model(found, sample):
    manifest, turns = reading.read_manifest(NANO), []
    measured = QUICK(
        found.candidates, *sample, reference=found.default, on_process=lambda *process: turns.append(process)
    )
    assert [file for file, _, _ in turns] == [
        *("model.onnx", "model.int8-static.onnx"),
        *("model.int8-static.onnx", "model.onnx"),
    ]
    assert [done for _, done, _ in turns] == [0, 1, 2, 3]
    assert measured.failed == {}
    assert measured.preparation_ms.median > 0
    assert [*measured.files] == ["model.onnx", "model.int8-static.onnx"]
    for name, figures in measured.files.items():
        assert figures.bytes == (NANO / name).stat().st_size
        assert figures.accuracy == manifest.files[name].parity.accuracy
        assert figures.max_abs_diff == manifest.files[name].parity.max_abs_diff
        assert len(figures.rounds) == 2
        for each in figures.rounds:
            assert 0 < each.p50_us <= each.p95_us <= each.p99_us
            assert min(each.start_ms, each.import_ms, each.session_ms, each.first_answer_ms, each.processor_us) > 0
            assert 0 < each.busy <= 1.1
            assert 2**20 < each.interpreter_bytes < each.one_image_bytes <= each.batches_bytes
            assert [(one.batch, one.threads) for one in each.throughput] == [*running.batches(found.candidates[0])]
            assert all(one.images_per_second > 0 for one in each.throughput)
    assert measured.files[found.default].ratio == records.Spread(1, 1, 1)
    timed = [each.preparation_ms is not UNSET for each in measured.files["model.onnx"].rounds]
    assert timed == [True, True]
    assert {each.preparation_ms for each in measured.files["model.int8-static.onnx"].rounds} == {UNSET}


CHILD = """
import io, os, sys
before = set(sys.modules)
from mnist_edge.runtime.bench.child import main
light = set(sys.modules) - before
class stdin: buffer = io.BytesIO({job!r})
sys.stdin = stdin
{more}
main()
watched = {{"torch", "onnx", "typer", "rich", "matplotlib", "msgspec", "numpy", "onnxruntime"}}
print(sorted(watched & light), sorted(watched & {{*sys.modules}}), os.environ["ORT_DISABLE_TELEMETRY"], file=sys.stderr)
"""


@pytest.mark.parametrize(
    ("more", "loaded"),
    [("", ["msgspec", "numpy", "onnxruntime"]), ("import typer", ["msgspec", "numpy", "onnxruntime", "typer"])],
)
def test_a_process_imports_what_a_device_has_and_telemetry_stays_off(sample, more, loaded):
    job = records.Job(images=sample[0], batches=(), picture=None, seconds=0.001)
    code = CHILD.format(job=msgspec.json.encode(job), more=more)
    result = run_python(code, files.BY_ONNXRUNTIME, NANO, "onnx", time.time(), ORT_DISABLE_TELEMETRY=None)
    assert (result.returncode, result.stderr) == (0, f"[] {loaded} 1\n")
    assert msgspec.json.decode(result.stdout, type=records.Round).p50_us > 0


def test_the_ratio_is_taken_round_by_round(found):
    """A machine that becomes ten times slower in between does not change it."""
    candidate = found.candidates[0]
    base = [a_round(p50_us=time) for time in (10, 100, 11, 120, 10)]
    twice = [a_round(p50_us=2 * each.p50_us) for each in base]
    figures = records.summarized(candidate, twice, base)
    assert figures.ratio == records.Spread(2, 2, 2)
    assert (figures.p50_us.median, figures.p50_us.low, figures.p50_us.high) == (22, 20, 200)


def test_the_photograph_is_prepared_and_read_right(sample):
    from mnist_edge import Classifier

    _, picture = sample
    classifier = Classifier("cnn-nano")
    golden = files.open_model(NANO).golden
    assert classifier.predict(picture).label == classifier.labels[golden.logits[0].argmax()]
    assert not (classifier.preprocess(picture) == 0).all()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_largest_batch_is_shared_by_the_threads_that_are_asked_for(found, monkeypatch, threads):
    monkeypatch.setenv("MNIST_EDGE_THREADS", threads)
    shared = ((3 * running.CHUNKS * running.CHUNK, 3),) if threads == "3" else ()
    assert running.batches(found.candidates[0]) == ((16, 1), (256, 1), *shared)


def test_memory_where_the_system_does_not_tell_it(monkeypatch, found, capsys):
    from mnist_edge.cli.bench_tables import _print_cold_start

    usual = child.peak_memory()
    monkeypatch.setattr("builtins.open", unreadable)
    assert child.peak_memory() == pytest.approx(usual, rel=0.5)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert child.peak_memory() is None
    monkeypatch.undo()
    unknown = [a_round(interpreter_bytes=None, one_image_bytes=None, batches_bytes=None)]
    _print_cold_start([records.summarized(found.candidates[0], unknown, unknown)])
    out = capsys.readouterr().out
    assert out.endswith("memory: this system does not tell it\n\n")
    assert out.splitlines()[1].split()[-2:] == ["-", "-"]


def unreadable(*_, **__):
    raise FileNotFoundError


def test_the_garbage_collector_is_off_while_calls_are_timed():
    def fail(_):
        raise ValueError("planted")

    states = []
    latencies({"": lambda _: states.append(gc.isenabled())}, rounds=1, repeats=2)
    assert states == [False, False]
    assert gc.isenabled()
    with pytest.raises(ValueError, match="planted"):
        latencies({"": fail}, rounds=1, repeats=1)
    assert gc.isenabled()


# The command


def test_the_command_fits_a_terminal_and_changes_nothing(quick, nano, tmp_path):
    pytest.importorskip("matplotlib")
    before = state(nano)
    result = cli_in_process("bench", nano, "--plot", tmp_path / "plots")
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode()
    assert max(map(len, text.splitlines()[1:])) <= 80
    rows = [line.split() for line in text.splitlines()]
    manifest = reading.read_manifest(nano)
    for form, mark in ((Format.ONNX, []), (Format.INT8_STATIC, ["*"])):
        (latency, *_) = [row for row in rows if row[: 1 + len(mark)] == [form, *mark]]
        accuracy = manifest.files[form.file_name].parity.accuracy
        assert latency[-3:-1] == [f"{100 * accuracy:.2f}", "%"]
    for start in ("preparation: ", "machine: ", "advice: "):
        assert f"\n{start}" in text
    assert f"saved {tmp_path / 'plots' / 'tradeoff.png'}" in result.stderr.decode()
    assert (tmp_path / "plots" / "tradeoff.png").read_bytes().startswith(b"\x89PNG")
    assert state(nano) == before


def state(folder):
    return {
        path.name: (hashlib.sha256(path.read_bytes()).hexdigest(), path.stat().st_mtime_ns)
        for path in (folder, *folder.iterdir())
        if path.is_file()
    } | {"": folder.stat().st_mtime_ns}


def test_the_document_holds_every_round(quick, nano):
    result = cli_in_process("bench", nano, "--format", "onnx", "--json")
    assert result.returncode == 0, result.stderr
    document = json.loads(result.stdout)
    assert [*document["files"]] == ["model.onnx"]
    figures = document["files"]["model.onnx"]
    assert len(figures["rounds"]) == 2
    assert figures["p50_us"]["low"] == pytest.approx(
        min(each["p50_us"] for each in figures["rounds"]) * 0.75
        + max(each["p50_us"] for each in figures["rounds"]) * 0.25
    )
    assert document["advice"] is None
    assert document["environment"]["packages"].keys() >= {"mnist-edge", "onnxruntime", "numpy"}
    assert document["environment"]["cpus"] >= 1
    assert (document["default"], document["recommended"]) == ("model.int8-static.onnx",) * 2


def test_a_single_file_has_no_accuracy(quick, nano, tmp_path):
    alone = tmp_path / "alone.onnx"
    shutil.copyfile(nano / "model.onnx", alone)
    result = cli_in_process("bench", alone, "--plot", tmp_path / "plots")
    assert result.returncode == 0, result.stderr
    (row, *_) = [line.split() for line in result.stdout.decode().splitlines() if line.startswith("onnx ")]
    assert row[-2:] == ["-", "-"]
    assert "no plot: the accuracy is known of a bundle's files only" in result.stderr.decode()
    fails(cli_in_process("bench", alone, "--format", "int8-static"), 2, "is onnx, not int8-static")


# Failures


def test_an_altered_file_is_not_measured(nano):
    content = bytearray((nano / "model.onnx").read_bytes())
    content[1000] ^= 1
    (nano / "model.onnx").write_bytes(content)
    fails(cli_in_process("bench", nano), 4, "model.onnx: altered since its export")
    assert [each.file for each in files.find(nano, Format.INT8_STATIC).candidates] == ["model.int8-static.onnx"]


def test_what_cannot_be_measured(nano, tmp_path):
    fails(cli_in_process("bench", tmp_path / "nowhere"), 4, "no such bundle")
    fails(cli_in_process("bench", nano, "--format", "int9"), 2, "int9")
    (nano / "model.onnx").unlink()
    fails(cli_in_process("bench", nano, "--format", "onnx"), 4, "holds no model.onnx")
    (nano / "manifest.json").unlink()
    fails(cli_in_process("bench", nano), 4, "not a bundle")
    (nano / "training.json").write_text("{}")
    fails(cli_in_process("bench", nano), 4, "manifest.json: no such file", "mnist-edge export")


def test_a_file_that_a_device_lacks_is_left_out(quick, nano):
    (nano / "model.int8-static.onnx").unlink()  # which would answer by default
    result = cli_in_process("bench", nano)
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode()
    assert "left out: model.int8-static.onnx: not in the bundle" in text
    assert "onnx  " in text
    assert " * " not in text
    assert "advice" not in text


DYING = """
import os, signal
def opened(model, form):
    if form == "onnx":
        os.kill(os.getpid(), signal.SIGKILL)
    from mnist_edge.runtime.bench import by_onnxruntime
    return by_onnxruntime.opened(model, form)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_dies_does_not_stop_the_others(quick, monkeypatch, tmp_path, nano):
    (tmp_path / "dying.py").write_text(DYING)
    monkeypatch.syspath_prepend(tmp_path)
    monkeypatch.setattr(files, "BY_ONNXRUNTIME", "dying")
    result = cli_in_process("bench", nano)
    fails(result, 1, f"{nano / 'model.onnx'}: was not measured", "SIGKILL, most likely for lack of memory")
    assert "\nint8-static *  " in result.stdout.decode()
    document = json.loads(cli_in_process("bench", nano, "--json").stdout)
    assert document["exit_code"] == 1
    assert document["error"].startswith("not measured: model.onnx: its process was ended by SIGKILL")
    assert [*document["files"]] == ["model.int8-static.onnx"]
    assert [*document["failed"]] == ["model.onnx"]


def test_a_process_that_fails_tells_its_last_line(found, sample, monkeypatch, tmp_path):
    (tmp_path / "failing.py").write_text("def opened(model, form):\n    raise ValueError('of this and that')\n")
    monkeypatch.syspath_prepend(tmp_path)
    job = records.Job(images=sample[0], batches=(), picture=None, seconds=0.001)
    failing = structs.replace(found.candidates[0], opener="failing")
    with pytest.raises(ExecutionError, match=r"its process failed \(ValueError: of this and that\)"):
        running.measured_once(failing, job)
    measured = QUICK([failing], *sample)
    assert (measured.files, [*measured.failed]) == ({}, ["model.onnx"])


@pytest.mark.skipif(not Path("/proc/self/task").exists(), reason="needs /proc")
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_an_interruption_leaves_no_process(nano, number, code):
    before = state(nano)
    command = [sys.executable, "-m", "mnist_edge", "bench", str(nano), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        until = time.monotonic() + 60
        while not children.read_text():
            assert time.monotonic() < until
            time.sleep(0.01)
        time.sleep(0.5)  # for a process that measures, not one that is just being started
        measuring = children.read_text().split()
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    time.sleep(0.2)
    assert process.returncode == code, err
    assert json.loads(out) == {"error": "interrupted: nothing was changed", "exit_code": code}
    assert b"Traceback" not in err
    assert not any(Path(f"/proc/{each}").exists() for each in measuring)
    assert state(nano) == before


# The advice


def a_round(**changed):
    usual = {
        **dict.fromkeys(("start_ms", "import_ms", "session_ms", "first_answer_ms"), 1.0),
        **dict.fromkeys(("p50_us", "p95_us", "p99_us", "processor_us"), 100.0),
        **dict.fromkeys(("interpreter_bytes", "one_image_bytes", "batches_bytes"), 2**24),
        "busy": 1.0,
        "throughput": (),
    }
    return records.Round(**usual | changed)


def advised(found, times, **changed):
    """The advice if the files took these times in three rounds."""
    candidates = [
        structs.replace(each, **changed) if each.format is not Format.INT8_STATIC else each for each in found.candidates
    ]
    rounds = {name: [a_round(p50_us=time) for time in each] for name, each in times.items()}
    base = rounds.get("model.int8-static.onnx", rounds.get("model.onnx"))
    figures = {
        each.file: records.summarized(each, rounds[each.file], base) for each in candidates if each.file in rounds
    }
    return choice.advise(candidates, figures, found.default)


@pytest.mark.parametrize(
    ("float32", "changed", "format_"),
    [
        ((50, 51, 50), {}, Format.ONNX),
        ((88, 88, 88), {}, Format.ONNX),
        ((92, 92, 92), {}, None),  # too little to be worth it
        ((50, 101, 102), {}, None),  # not in most rounds
        ((62, 85, 99), {}, None),  # less than the spread
        ((150, 150, 150), {}, None),
        ((50, 50, 50), {"accuracy_drop": 0.0006}, None),
        ((50, 50, 50), {"agreement": 0.9979}, None),
        ((50, 50, 50), {"batch_dependence": 2e-4}, None),
        ((50, 50, 50), {"accuracy_drop": None}, None),
    ],
)
def test_a_file_is_named_if_it_is_clearly_quicker_and_as_good(found, float32, changed, format_):
    advice = advised(found, {"model.int8-static.onnx": (100, 100, 100), "model.onnx": float32}, **changed)
    assert advice.format is format_
    if format_:
        assert advice.words.startswith(f"name --format {format_} here: ")
        assert advice.words.endswith(" times the size")
    else:
        assert advice.words.startswith("model.int8-static.onnx is the right file here")


@pytest.mark.parametrize(
    ("ratio", "words"), [(0.5, "at half the size"), (1, "at the same size"), (3, "at 3 times the size")]
)
def test_the_size_in_words(found, ratio, words):
    size = (NANO / "model.int8-static.onnx").stat().st_size
    times = {"model.int8-static.onnx": (100, 100, 100), "model.onnx": (50, 50, 50)}
    assert advised(found, times, bytes=ratio * size).words.endswith(f"as model.int8-static.onnx, {words}")


def test_there_is_no_advice_without_a_choice(found):
    assert advised(found, {"model.onnx": (50, 50, 50)}) is None
    assert advised(found, {"model.int8-static.onnx": (50, 50, 50)}) is None


def test_a_busy_machine_is_told():
    idle = structs.replace(environment.environment(), load_average=0.1, cpus=2)
    assert environment.busy(idle, [a_round()]) is None
    assert environment.busy(idle, []) is None
    assert "had a CPU for only 70 % of the time" in environment.busy(idle, [a_round(busy=0.7)])
    loaded = structs.replace(idle, load_average=1.5)
    assert environment.busy(loaded, [a_round()]).endswith("load average 1.5 on 2 CPUs")


def test_the_versions_of_packages_that_are_installed_under_other_names(monkeypatch):
    def unknown(name):
        raise PackageNotFoundError(name)

    expected = {"mnist-edge": "unknown", "onnxruntime": version("onnxruntime"), "numpy": version("numpy")}
    monkeypatch.setattr("importlib.metadata.version", unknown)
    monkeypatch.setattr(environment, "version", unknown)
    assert environment.environment().packages == expected | {"pillow": PIL.__version__}
