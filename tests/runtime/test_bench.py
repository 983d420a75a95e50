"""`bench`: what it measures, in processes of their own, what it advises, and how it fails."""

import contextlib
import errno
import functools
import gc
import hashlib
import json
import os
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
from mnist_edge.bundle.layout import RUNNABLE, Format
from mnist_edge.cli import bench_tables
from mnist_edge.errors import ExecutionError
from mnist_edge.runtime.bench import child, choice, environment, files, records, running
from mnist_edge.runtime.latency import latencies
from mnist_edge.runtime.model import PRETRAINED
from tests.helpers import cli_in_process, fails, long_after, run_python

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


@pytest.fixture
def opener(monkeypatch, tmp_path):
    """Open ONNX files by other code."""

    def replace(code):
        (tmp_path / "other_opener.py").write_text(code)
        monkeypatch.syspath_prepend(tmp_path)
        for form in RUNNABLE:
            monkeypatch.setitem(running.OPENERS, form, "other_opener")

    return replace


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
            rates = [one.images_per_second for one in each.throughput]
            assert rates[0] > 0
            assert all(rate is None or rate > 0 for rate in rates)  # None on a slow machine, in so short a time
    assert measured.reference == found.default
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
    asked = (running.OPENERS[Format.ONNX], NANO, "onnx", time.perf_counter())
    result = run_python(code, *asked, ORT_DISABLE_TELEMETRY=None)
    assert (result.returncode, result.stderr) == (0, f"[] {loaded} 1\n")
    figures = msgspec.json.decode(result.stdout, type=records.Round)
    assert figures.p50_us > 0
    assert 0 <= figures.start_ms < 120_000  # both clocks are one, whatever the time of day


SLOW = """
import time
from mnist_edge.runtime.bench.child import Opened
def opened(model, form):
    return Opened(lambda images: time.sleep(0.005 * len(images)))
"""


def test_a_batch_that_would_take_too_long_is_left_out(found, sample, opener, capsys):
    opener(SLOW)
    job = records.Job(images=sample[0], batches=((1, 1), (16, 1)), picture=None, seconds=0.01)
    slow = running.measured_once(found.candidates[0], job)
    assert slow.throughput[0].images_per_second < 200
    assert slow.throughput[1].images_per_second is None
    quick = structs.replace(
        slow, throughput=tuple(structs.replace(each, images_per_second=190.0) for each in slow.throughput)
    )
    figures = records.summarized(found.candidates[0], [quick, slow, quick], [quick, slow, quick])
    assert [each.images_per_second for each in figures.throughput] == [190, None]
    bench_tables._print_throughput([figures])
    out = capsys.readouterr().out
    assert out.splitlines()[1].split()[-2:] == ["190/s", "-"]
    assert "\n-: not measured, as a single call takes too long\n" in out


def test_a_slow_call_is_made_twice_and_a_slow_file_measured_in_few_rounds(found, sample, monkeypatch):
    calls = []

    def slow(number):
        calls.append(number)
        time.sleep(0.02)

    assert len(child.timed(slow, 0.001)) == 1
    assert len(calls) == 2
    monkeypatch.setattr(running, "ENOUGH", 0)
    measured = running.measure(found.candidates[:1], *sample, rounds=5, seconds=0.001)
    assert len(measured.files["model.onnx"].rounds) == running.FEWEST_ROUNDS < 5


def test_the_ratio_is_taken_round_by_round(found):
    """A machine that becomes ten times slower in between does not change it."""
    candidate = found.candidates[0]
    base = [a_round(p50_us=time) for time in (10, 100, 11, 120, 10)]
    twice = [a_round(p50_us=2 * each.p50_us) for each in base]
    figures = records.summarized(candidate, twice, base)
    assert figures.ratio == records.Spread(2, 2, 2)
    assert (figures.p50_us.median, figures.p50_us.low, figures.p50_us.high) == (22, 20, 200)
    assert records.Spread.of([4, 1, 3, 2]) == records.Spread(2.5, 1.75, 3.25)


def test_the_photograph_is_prepared_and_read_right(sample):
    from mnist_edge import Classifier

    _, picture = sample
    classifier = Classifier("cnn-nano")
    golden = files.open_model(NANO).contents.golden
    assert classifier.predict(picture).label == classifier.labels[golden.logits[0].argmax()]
    assert not (classifier.preprocess(picture) == 0).all()


@pytest.mark.parametrize("threads", ["1", "3"])
def test_the_largest_batch_is_shared_by_the_threads_that_are_asked_for(found, monkeypatch, threads):
    monkeypatch.setenv("MNIST_EDGE_THREADS", threads)
    shared = ((3 * running.CHUNKS * running.CHUNK, 3),) if threads == "3" else ()
    assert running.batches(found.candidates[0]) == ((16, 1), (128, 1), *shared)


def test_memory_where_the_system_does_not_tell_it(monkeypatch, found, capsys):
    usual = child.peak_memory()
    monkeypatch.setattr("builtins.open", unreadable)
    assert child.peak_memory() == pytest.approx(usual, rel=0.5)
    monkeypatch.setitem(sys.modules, "resource", None)
    assert child.peak_memory() is None
    monkeypatch.undo()
    unknown = [a_round(interpreter_bytes=None, one_image_bytes=None, batches_bytes=None)]
    bench_tables._print_cold_start([records.summarized(found.candidates[0], unknown, unknown)])
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


@pytest.mark.parametrize("times", [1, 15, 400])
def test_the_tables_fit_a_terminal(found, capsys, times):
    """On machines of any speed: 400 times slower than a laptop is a microcontroller."""
    batches = [(16, 1), (128, 1), (2048, 4)]
    figures = {}
    for each, fast, p95, size in zip(found.candidates, (64.61, 99.97), (67.7, 123.4), (9_999_900, 79_100), strict=True):
        rounds = [
            a_round(
                p50_us=fast * times * more,
                p95_us=p95 * times,
                p99_us=p95 * 2 * times,
                processor_us=fast * times,
                **dict.fromkeys(("start_ms", "import_ms", "session_ms"), 142.6 * times**0.5),
                first_answer_ms=0.412 * times,
                interpreter_bytes=2**20,
                one_image_bytes=2**26 * 10,
                batches_bytes=2**27 * 10,
                throughput=tuple(
                    records.Throughput(batch=n, threads=m, images_per_second=3e4 / times) for n, m in batches
                ),
            )
            for more in (0.9, 1, 1.1)
        ]
        figures[each.file] = records.summarized(structs.replace(each, bytes=size), rounds, rounds)
    default = "model.int8-static.onnx"
    bench_tables.print_bench(
        records.Bench(
            model="cnn",
            environment=environment.environment(),
            busy=None,
            default=default,
            recommended=default,
            reference=default,
            files=figures,
            preparation_ms=records.Spread(26.64 * times, 26.2 * times, 27.1 * times),
            left_out={},
            failed={},
            advice=choice.advise(found.candidates, figures, default),
        )
    )
    lines = capsys.readouterr().out.splitlines()
    assert max(map(len, lines)) <= 80
    latency = {1: "64.6 µs  (61.4…67.8)", 15: "969 µs  (921…1,018)", 400: "25.8 ms  (24.6…27.1)"}[times]
    assert lines[3].split() == ["onnx", *latency.split(), "1.00", "9,999.9", "KB", *lines[3].split()[-3:]]
    latency = {1: "100 µs  (95.0…105)", 15: "1.50 ms  (1.42…1.57)", 400: "40.0 ms  (38.0…42.0)"}[times]
    assert lines[4].split()[:6] == ["int8-static", "*", *latency.split(), "1.00"]


def test_the_command_prints_every_file_and_changes_nothing(quick, nano, tmp_path):
    pytest.importorskip("matplotlib")
    before = state(nano)
    result = cli_in_process("bench", nano, "--plot", tmp_path / "plots")
    assert result.returncode == 0, result.stderr
    text = result.stdout.decode()
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
    assert document["reference"] == "model.onnx"


def test_a_single_file_has_no_accuracy(quick, nano, tmp_path):
    alone = tmp_path / "alone.onnx"
    shutil.copyfile(nano / "model.onnx", alone)
    fails(cli_in_process("bench", alone, "--plot", tmp_path / "plots"), 2, "does not tell its accuracy")
    assert not (tmp_path / "plots").exists()
    result = cli_in_process("bench", alone)
    assert result.returncode == 0, result.stderr
    (row, *_) = [line.split() for line in result.stdout.decode().splitlines() if line.startswith("onnx ")]
    assert row[-2:] == ["-", "-"]
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
    fails(cli_in_process("bench", nano, "--format", "c"), 4, f"run mnist-edge export {nano} --formats c")
    pretrained = cli_in_process("bench", "cnn-nano", "--format", "torchscript")
    fails(pretrained, 4, "holds no model.torchscript: name another format")
    assert b"mnist-edge export" not in pretrained.stderr  # it has no weights to export again
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
    assert "\nratio: latency divided by that of model.onnx\n" in text


def test_a_full_disk_does_not_lose_the_figures(quick, nano, tmp_path, monkeypatch):
    pytest.importorskip("matplotlib")
    from mnist_edge.report import plots, tradeoff

    def full(*_):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    titles, drawn = [], tradeoff.tradeoff
    monkeypatch.setattr(tradeoff, "tradeoff", lambda points, title: titles.append(title) or drawn(points, title))
    monkeypatch.setattr(plots, "save", full)
    command = ("bench", ".", "--format", "onnx", "--plot", tmp_path / "plots")
    result = cli_in_process(*command, cwd=nano)
    fails(result, 1, os.strerror(errno.ENOSPC))
    assert "\nonnx  " in result.stdout.decode()
    assert titles[0].startswith("nano on ")
    document = json.loads(cli_in_process(*command, "--json", cwd=nano).stdout)
    assert (document["exit_code"], [*document["files"]]) == (1, ["model.onnx"])


DYING = """
import os, signal
def opened(model, form):
    if form == "onnx":
        os.kill(os.getpid(), signal.{name})
    from mnist_edge.runtime.bench import by_onnxruntime
    return by_onnxruntime.opened(model, form)
"""


@pytest.mark.skipif(not hasattr(signal, "SIGKILL"), reason="needs SIGKILL")
def test_a_process_that_dies_does_not_stop_the_others(quick, opener, nano):
    opener(DYING.format(name="SIGKILL"))
    result = cli_in_process("bench", nano)
    fails(result, 1, f"{nano / 'model.onnx'}: was not measured", "SIGKILL, most likely for lack of memory")
    assert "\nint8-static *" in result.stdout.decode()
    document = json.loads(cli_in_process("bench", nano, "--json").stdout)
    assert document["exit_code"] == 1
    assert document["error"].startswith("not measured: model.onnx: its process was ended by SIGKILL")
    assert [*document["files"]] == ["model.int8-static.onnx"]
    assert [*document["failed"]] == ["model.onnx"]


@pytest.mark.skipif(not hasattr(signal, "SIGRTMIN"), reason="needs real-time signals")
def test_a_signal_without_a_name(found, sample, opener):
    opener(DYING.format(name="SIGRTMIN + 1"))
    job = records.Job(images=sample[0], batches=(), picture=None, seconds=0.001)
    with pytest.raises(ExecutionError, match=rf"its process was ended by signal {signal.SIGRTMIN + 1}$"):
        running.measured_once(found.candidates[0], job)


def test_a_process_that_fails_tells_its_last_line(found, sample, opener):
    opener("def opened(model, form):\n    raise ValueError('of this and that')\n")
    job = records.Job(images=sample[0], batches=(), picture=None, seconds=0.001)
    failing = found.candidates[0]
    with pytest.raises(ExecutionError, match=r"its process failed \(ValueError: of this and that\)"):
        running.measured_once(failing, job)
    measured = QUICK([failing], *sample)
    assert (measured.files, measured.reference, [*measured.failed]) == ({}, None, ["model.onnx"])


def measuring(folder):
    """The processes that measure a file of a bundle."""
    commands = {}
    for each in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # it has ended
            commands[each.parent.name] = each.read_bytes()
    return [process for process, words in commands.items() if b"bench.child" in words and bytes(folder) in words]


@pytest.mark.skipif(not Path("/proc/self/cmdline").exists(), reason="needs /proc")
@pytest.mark.parametrize(("number", "code"), long_after(1, [(signal.SIGINT, 130), (signal.SIGTERM, 143)]))
def test_an_interruption_leaves_no_process(nano, number, code):
    before = state(nano)
    command = [sys.executable, "-m", "mnist_edge", "bench", str(nano), "--json"]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        until = time.monotonic() + 60
        for pause in (0.5, 0):  # the first process has its job by then, and measures for longer
            while not measuring(nano):
                assert time.monotonic() < until
                assert process.poll() is None
                time.sleep(0.01)
            time.sleep(pause)
        process.send_signal(number)
        out, err = process.communicate(timeout=60)
    assert process.returncode == code, err
    assert json.loads(out) == {"error": "interrupted: nothing was changed", "exit_code": code}
    assert b"Traceback" not in err
    assert measuring(nano) == []
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
