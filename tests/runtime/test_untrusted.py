"""Untrusted models answer as trusted ones do, and whatever their process does, the caller gets one error."""

import contextlib
import copy
import ctypes
import json
import os
import pickle
import re
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import numpy as np
import pytest

from mnist_edge import Classifier
from mnist_edge.contract import INPUT_NAME, OUTPUT_NAME
from mnist_edge.errors import ExecutionError, ModelFormatError, UsageError
from mnist_edge.runtime import sandbox, selftest
from mnist_edge.runtime.model import PRETRAINED, open_model, pretrained
from mnist_edge.runtime.sandbox import Sandbox
from mnist_edge.runtime.session import Session
from tests import onnx_by_hand
from tests.helpers import cli_in_process, fails, long_after, run_python

linux = pytest.mark.skipif(sys.platform != "linux", reason="untrusted models need Linux")

MODELS = [(name, form) for name in pretrained() for form in ("onnx", "int8-static")]
IMAGES = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
LINE = Path(PRETRAINED).parent / "samples" / "line-314159.png"
DIGIT = Path(PRETRAINED).parent / "samples" / "photo-5.jpg"


def children() -> list[int]:
    """The processes that this one has started, also those that have ended and are not waited for."""
    found = []
    for status in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):  # it ended just now
            if int(status.read_text().rpartition(")")[2].split()[1]) == os.getpid():
                found.append(int(status.parent.name))
    return found


def descriptors() -> int:
    return len(list(Path("/proc/self/fd").iterdir()))


def is_running(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def wait_until(holds) -> None:
    until = time.monotonic() + 60
    while not holds():
        assert time.monotonic() < until
        time.sleep(0.05)


def run(model, rows: int = 3):
    images = IMAGES[:rows, None]
    return model.run([OUTPUT_NAME], {INPUT_NAME: np.ascontiguousarray(images)})[0]


@pytest.fixture
def clean():
    """Fails if a test leaves a process or a descriptor."""
    before = children(), descriptors()
    yield
    assert (children(), descriptors()) == before


# The same answers


@linux
@pytest.mark.parametrize(("name", "form"), long_after(2, MODELS))
def test_the_answers_are_the_same_bit_for_bit(clean, name, form):
    trusted, untrusted = Classifier(name, format=form), Classifier(name, format=form, untrusted=True)
    for count in (0, 1, 7, 128, 300):
        assert untrusted.logits(IMAGES[:count]).tobytes() == trusted.logits(IMAGES[:count]).tobytes()
    assert untrusted.predict(DIGIT) == trusted.predict(DIGIT)
    assert untrusted.read(LINE) == trusted.read(LINE)
    assert list(untrusted.predict_each([DIGIT] * 6)) == list(trusted.predict_each([DIGIT] * 6))
    tested = selftest.run(open_model(Path(PRETRAINED, name), format=form, untrusted=True))
    assert tested == selftest.run(open_model(Path(PRETRAINED, name), format=form))


@linux
def test_unoptimized_graphs_answer_alike_too(clean):
    content = Path(PRETRAINED, "cnn", "model.onnx").read_bytes()
    (other, own), optimized = (
        (run(kind) for kind in (Sandbox(content, 10, optimize=False), Session(content, optimize=False))),
        run(Session(content)),
    )
    assert other.tobytes() == own.tobytes()
    assert other.tobytes() != optimized.tobytes()


@linux
@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_and_pickles_stay_untrusted(clean, again):
    classifier = Classifier("cnn-nano", untrusted=True)
    other = again(classifier)
    assert isinstance(other._model.session, Sandbox)
    assert other.logits(IMAGES).tobytes() == classifier.logits(IMAGES).tobytes()


@linux
def test_threads_share_the_process_and_get_the_serial_answers(clean):
    classifier = Classifier("cnn-nano", untrusted=True, threads=4)
    serial = [classifier.logits(IMAGES[: 1 + index]) for index in range(8)]
    wrong = []

    def ask(index):
        wrong.extend(index for _ in range(20) if (classifier.logits(IMAGES[: 1 + index]) != serial[index]).any())

    threads = [threading.Thread(target=ask, args=(index,)) for index in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert wrong == []


# What a model can do, with real graphs


@linux
@pytest.mark.parametrize(
    ("model", "words"),
    [
        (onnx_by_hand.endless(), "took more than 1 s of processor time"),
        (onnx_by_hand.of_megabytes(10_000), "needs more memory than its limit"),
        (onnx_by_hand.twice_as_many_rows(), "something else than the logits"),
        (b"\x08junk", "cannot load the model"),
        (b"", "cannot load the model"),
        *(
            pytest.param(
                onnx_by_hand.divides(while_loading=loading),
                r"crashed its process \(SIGFPE\)",
                marks=pytest.mark.skipif(os.uname().machine != "x86_64", reason="other processors give a number"),
            )
            for loading in (True, False)
        ),
    ],
    ids=["endless", "gigabytes", "rows", "junk", "empty", "crash while loading", "crash"],
)
def test_a_model_that_misbehaves_is_one_error_ever_after(clean, monkeypatch, model, words):
    monkeypatch.setattr(sandbox, "PROCESSOR_SECONDS", 1)
    told, made = [], []
    for _ in range(2):
        try:
            made = made or [Sandbox(model, 10)]
            run(made[0])
        except ModelFormatError as error:
            told.append(str(error))
        if made:  # no second process
            monkeypatch.setattr(sandbox, "command", None)
    assert told == [told[0]] * 2
    assert re.search(words, told[0])
    assert told[0].isprintable()
    assert len(told[0]) < 700


@linux
def test_an_honest_graph_of_the_same_make_answers(clean):
    expected = IMAGES[:3].reshape(3, 784).sum(axis=1, dtype=np.float32)
    assert np.array_equal(run(Sandbox(onnx_by_hand.honest(), 10)), np.repeat(expected[:, None], 10, axis=1))


@linux
def test_memory_is_limited_by_what_a_model_may_use(clean, monkeypatch):
    spread = onnx_by_hand.of_megabytes(300)
    with pytest.raises(ModelFormatError, match="it needs more memory than its limit"):
        run(Sandbox(spread, 10))
    monkeypatch.setattr(sandbox, "MEMORY", 2 << 30)
    with pytest.raises(ModelFormatError, match="something else"):  # of another shape
        run(Sandbox(spread, 10))


@linux
def test_a_large_honest_model_answers(clean):
    large = onnx_by_hand.honest(hidden=30_000)
    assert len(large) > 90e6
    expected = IMAGES[:3].reshape(3, 784).sum(axis=1, dtype=np.float32)
    assert np.array_equal(run(Sandbox(large, 10)), np.repeat(expected[:, None], 10, axis=1))


@linux
@pytest.mark.parametrize("words", ["std::bad_alloc", "Failed to allocate memory for requested buffer", "MemoryError"])
def test_a_lack_of_memory_is_called_so(clean, fake, monkeypatch, words):
    fake(fault=f"send(HEADER.pack(FAILED, {len(words)}, 0) + {words.encode()})")
    monkeypatch.setattr(sandbox, "MEMORY", 100 << 20)
    with pytest.raises(ModelFormatError, match=r"needs more memory than its limit of 104 MB: do not use it; if"):
        run(Sandbox(bytes(1 << 20), 10))


# What a process can do, whatever made it do so

FAKE = """
import sys
sys.path[:] = sys.argv[1:]
import os, signal, time
from mnist_edge.runtime.sandbox_process import *
requests = os.fdopen(0, "rb", closefd=False)

def send(content):
    while content:
        content = content[os.write(0, content):]

size = GREETING.unpack(requests.read(GREETING.size))[-1]
{before}
send(HEADER.pack(READY, 0, 0))
requests.read(size)
send(HEADER.pack(LOADED, 0, 0))
{loaded}
(rows,) = REQUEST.unpack(requests.read(REQUEST.size))
requests.read(784 * rows)
{fault}
"""
"""Keeps to the protocol, and puts its own code in one of three places."""

REAL = sandbox.command


def faked(**code: str) -> list[str]:
    real = REAL()
    places = {"before": "", "loaded": "", "fault": ""} | code
    return [*real[:3], FAKE.format(**places), *real[4:]]


@pytest.fixture
def fake(monkeypatch):
    """Makes every new process run the given code."""
    return lambda **code: monkeypatch.setattr(sandbox, "command", lambda: faked(**code))


FAULTS = {
    "os.kill(os.getpid(), signal.SIGSEGV)": r"crashed its process \(SIGSEGV\)",
    "os.kill(os.getpid(), 40)": r"crashed its process \(signal 40\)",
    "os.kill(os.getpid(), signal.SIGXCPU)": "took more than",
    "sys.exit(3)": "ended its process",
    "os.close(0); time.sleep(60)": "closed the connection",
    "send(b'garbage' * 10)": "something else",
    "send(b'g'); sys.exit()": "ended its process",
    "send(HEADER.pack(LOGITS, rows + 1, 10) + bytes(40 * rows + 40))": "something else",
    "send(HEADER.pack(LOGITS, 10, rows) + bytes(40 * rows))": "something else",
    "send(HEADER.pack(b'<f8 ', rows, 10) + bytes(80 * rows))": "something else",
    "send(HEADER.pack(LOGITS, 2**32 - 1, 2**32 - 1))": "something else",
    "send(HEADER.pack(LOADED, 0, 0))": "something else",
    "send(HEADER.pack(LOGITS, rows, 10) + bytes(40 * rows + 1)); time.sleep(60)": "more than the logits",
    "send(HEADER.pack(LOGITS, rows, 10) + bytes(40 * rows - 1)); sys.exit()": "ended its process",
    "send(HEADER.pack(LOGITS, rows, 10))\nwhile True: send(bytes(1 << 20))": "more than the logits",
    "while True: send(bytes(1 << 20))": "something else",
    "send(HEADER.pack(FAILED, 2**31, 0))\nwhile True: send(bytes(1 << 20))": "something else",
    "send(HEADER.pack(FAILED, 9, 0) + b'a\\x1b[2J\\n\\xff\\xe2\\x80')": r"failed \(a\[2J�+\)",
}


@linux
@pytest.mark.parametrize("fault", FAULTS)
def test_a_process_that_breaks_the_protocol_is_one_error_ever_after(clean, fake, fault):
    fake(fault=fault)
    made = Sandbox(b"any", 10)
    for _ in range(2):
        with pytest.raises(ModelFormatError, match=f"^the untrusted model .*{FAULTS[fault]}.*: do not use it") as error:
            run(made)
        assert str(error.value).isprintable()
        fake(before="sys.exit('no second process')")


@linux
@pytest.mark.parametrize(
    ("code", "rows"),
    [
        ({"fault": "time.sleep(60)"}, 30),
        ({"fault": "send(HEADER.pack(LOGITS, rows, 10)); time.sleep(60)"}, 30),
        ({"loaded": "time.sleep(60)"}, 3000),  # more than a socket holds
    ],
    ids=["no answer", "half an answer", "takes no request"],
)
def test_a_process_that_hangs_is_ended(clean, fake, monkeypatch, code, rows):
    fake(**code)
    made = Sandbox(b"any", 10)
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    many = np.zeros((rows, 1, 28, 28), np.uint8)
    for _ in range(2):
        with pytest.raises(ModelFormatError, match="gave no answer within 1 s"):
            made.run([OUTPUT_NAME], {INPUT_NAME: many})


@linux
def test_a_process_that_trickles_cannot_extend_its_time(clean, fake, monkeypatch):
    fake(fault="send(HEADER.pack(LOGITS, rows, 10))\nwhile True: time.sleep(0.1); send(b'0')")
    made = Sandbox(b"any", 10)
    monkeypatch.setattr(sandbox, "SECONDS", 1)
    with pytest.raises(ModelFormatError, match="gave no answer within 1 s"):
        run(made)


@linux
@pytest.mark.parametrize("before", ["sys.exit()", "send(b'garbage' * 10)", "os.kill(os.getpid(), 9)"])
def test_a_process_that_cannot_start_is_no_fault_of_the_model(clean, fake, before):
    fake(before=before)
    with pytest.raises(ExecutionError, match=r"cannot start the process for an untrusted model .*: free some memory"):
        Sandbox(b"any", 10)


@linux
def test_without_descriptors_or_an_interpreter_no_process_starts(clean, monkeypatch):
    monkeypatch.setattr(sandbox, "command", lambda: ["/nowhere/python"])
    with pytest.raises(ExecutionError, match="No such file"):
        Sandbox(b"any", 10)


@linux
def test_a_failure_of_our_own_end_is_no_fault_of_the_model(clean, monkeypatch):
    made = Sandbox(onnx_by_hand.honest(), 10)
    expected = run(made)

    def fail(*_):
        raise OSError(22, "Invalid argument")

    with monkeypatch.context() as patch:
        patch.setattr(sandbox._Process, "_receive", fail)
        with pytest.raises(ExecutionError, match="Invalid argument"):
            run(made)
    assert np.array_equal(run(made), expected)


NO_DESCRIPTORS = """
import os, resource
from mnist_edge import Classifier
from mnist_edge.errors import ExecutionError
classifier = Classifier("cnn-nano", untrusted=True)
opened = len(os.listdir("/proc/self/fd")) - 1
for more in range(8):
    resource.setrlimit(resource.RLIMIT_NOFILE, (opened + more, 4096))
    try:
        Classifier("cnn-nano", untrusted=True)
    except Exception as error:
        print(type(error).__name__)
    else:
        print("made")
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
assert len(os.listdir("/proc/self/fd")) - 1 == opened
"""


@linux
def test_too_few_descriptors_are_an_error_and_leak_none():
    result = run_python(NO_DESCRIPTORS)
    assert result.returncode == 0, result.stderr
    told = result.stdout.split()
    assert set(told) <= {"ModelNotFoundError", "ExecutionError", "made"}
    assert "ExecutionError" in told
    assert told[-1] == "made"


# The rights of the process

ATTACK = """
import os, resource, socket, sys, threading
from pathlib import Path
from mnist_edge.runtime.sandbox_process import confine
folder, attack, confined = Path(sys.argv[1]), sys.argv[2], sys.argv[3] == "confined"
file = (folder / "file").open("wb", buffering=0)
if confined:
    confine(64 << 20)
try:
    exec(attack)
except (OSError, MemoryError, RuntimeError) as error:
    print(type(error).__name__)
else:
    print("done")
sys.stdout.flush()
os._exit(0)
"""

ATTACKS = [
    "open(sys.executable, 'rb')",
    "os.close(0); os.open(sys.executable, os.O_RDONLY)",
    "os.open(folder / 'new', os.O_CREAT | os.O_WRONLY)",
    "file.write(b'x')",
    "socket.socket()",
    "os.pipe()",
    "bytearray(128 << 20)",
]
BY_PATH = {
    "os.unlink(folder / 'file')": 1,
    "os.rename(folder / 'file', folder / 'moved')": 1,
    "os.mkdir(folder / 'new')": 1,
    "os.symlink('/', folder / 'new')": 1,
    "os.truncate(folder / 'file', 0)": 3,
    "os.kill(os.getppid(), 0)": 6,
}
"""With the first version of Landlock that forbids each."""

BY_PROCESS = ["os.fork() or os._exit(0)", "threading.Thread(target=len).start()"]


def landlock() -> int:
    """The version of Landlock in this kernel, or a negative number."""
    return ctypes.CDLL(None).syscall(444, None, 0, 1) if sys.platform == "linux" else -1


@linux
@pytest.mark.parametrize(
    "attack",
    [
        *ATTACKS,
        *(
            pytest.param(attack, marks=pytest.mark.skipif(landlock() < since, reason=f"needs Landlock {since}"))
            for attack, since in BY_PATH.items()
        ),
        *(
            pytest.param(
                attack,
                marks=pytest.mark.skipif(os.getuid() == 0, reason="the number of root's processes is not limited"),
            )
            for attack in BY_PROCESS
        ),
    ],
)
def test_the_process_has_given_up_its_rights(tmp_path, attack):
    told = {way: run_python(ATTACK, tmp_path, attack, way).stdout.strip() for way in ("confined", "free")}
    assert told["free"] == "done"
    assert told["confined"] in {"OSError", "PermissionError", "MemoryError", "RuntimeError", "BlockingIOError"}


@linux
def test_the_process_inherits_nothing(clean, fake, monkeypatch, tmp_path):
    monkeypatch.setenv("SECRET", "token")
    tell = "words = json.dumps([sorted(os.environ), os.getcwd(), sorted(os.listdir('/proc/self/fd')), os.getsid(0)])"
    fake(fault=f"import json\n{tell}.encode()\nsend(HEADER.pack(FAILED, len(words), 0) + words)")
    with (tmp_path / "open").open("wb") as file:
        os.set_inheritable(file.fileno(), True)
        with pytest.raises(ModelFormatError) as error:
            run(Sandbox(b"any", 10))
    text = str(error.value)
    names, folder, opened, session = json.loads(text[text.index("(") + 1 : text.rindex(")")])
    assert set(names) <= {"LC_CTYPE", "LD_LIBRARY_PATH", "OMP_NUM_THREADS", "OPENBLAS_NUM_THREADS"}
    assert folder == "/"
    assert opened == ["0", "1", "2", "3"]  # 3 lists them
    assert session != os.getsid(0)


# Its end


@linux
def test_the_process_ends_with_the_classifier(clean):
    classifier = Classifier("cnn-nano", untrusted=True)
    pid = classifier._model.session._process._popen.pid
    assert pid in children()
    del classifier
    assert pid not in children()


ENDING = """
import os, sys
from mnist_edge import Classifier
classifier = Classifier("cnn-nano", untrusted=True)
print(classifier._model.session._process._popen.pid, flush=True)
{how}
"""


@linux
@pytest.mark.parametrize("how", ["", "sys.exit(3)", "1 / 0", "os._exit(0)", "os.kill(os.getpid(), 9)"])
def test_the_process_ends_with_its_parent(how):
    pid = int(run_python(ENDING.format(how=how)).stdout)
    wait_until(lambda: not is_running(pid))


COMPUTING = """
import os, sys, threading
import numpy as np
from mnist_edge.runtime import sandbox
from tests import onnx_by_hand
sandbox.PROCESSOR_SECONDS = 2
made = sandbox.Sandbox(onnx_by_hand.endless(), 10)
print(made._process._popen.pid, flush=True)
threading.Thread(target=made.run, args=(None, {"image": np.zeros((1, 1, 28, 28), np.uint8)}), daemon=True).start()
import time
time.sleep(0.5)
os.kill(os.getpid(), 9)
"""


@linux
def test_a_process_that_computes_ends_soon_after_its_parent():
    pid = int(run_python(COMPUTING).stdout)
    wait_until(lambda: not is_running(pid))


INTERRUPTED = """
import sys
from mnist_edge.runtime import sandbox
from tests.runtime.test_untrusted import faked
told = sys.argv.pop(1)
sandbox.command = lambda: faked(fault=f"open({told!r}, 'w').write(str(os.getpid()))\\ntime.sleep(600)")
from mnist_edge.cli.main import main
main()
"""


@linux
@pytest.mark.parametrize(("number", "code"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
@pytest.mark.parametrize("command", ["selftest", "predict"])
def test_an_interrupted_command_leaves_no_process(tmp_path, number, code, command):
    told = tmp_path / "pid"
    arguments = ["selftest", "cnn"] if command == "selftest" else ["predict", "--sample"]
    with subprocess.Popen(
        [sys.executable, "-c", INTERRUPTED, told, *arguments, "--untrusted"],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.PIPE,
        text=True,
    ) as process:
        wait_until(lambda: told.exists() and told.read_text())
        process.send_signal(number)
        errors = process.communicate(timeout=60)[1]
    assert process.returncode == code
    assert errors.startswith("interrupted: ")
    assert len(errors.splitlines()) == 1
    assert not is_running(int(told.read_text()))


@linux
def test_after_an_interrupt_a_new_process_answers(clean, fake, monkeypatch):
    made = Sandbox(onnx_by_hand.honest(), 10)
    expected = run(made)

    def interrupt(*_):
        raise KeyboardInterrupt

    with monkeypatch.context() as patch:
        patch.setattr(sandbox._Process, "_receive", interrupt)
        with pytest.raises(KeyboardInterrupt):
            run(made)
    assert children() == []
    assert np.array_equal(run(made), expected)


FORKED = """
import os, signal, sys, warnings
import numpy as np
from mnist_edge import Classifier
warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
classifier = Classifier("cnn-nano", untrusted=True)
images = np.random.default_rng(0).integers(0, 256, (300, 28, 28), np.uint8)
answer = classifier.logits(images)
pid = os.fork()
if pid == 0:
    signal.alarm(60)
    {work}
    sys.exit()
assert os.waitpid(pid, 0)[1] == 0
assert (classifier.logits(images) == answer).all()
"""


@linux
@pytest.mark.parametrize(
    "work",
    ["assert (classifier.logits(images) == answer).all()", "pass", "del classifier"],
    ids=["used", "unused", "dropped"],
)
def test_a_forked_parent_does_not_share_the_process(work):
    result = run_python(FORKED.format(work=work))
    assert result.returncode == 0, result.stderr
    assert not result.stderr


# The command line


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    """A few images as an IDX folder, with any labels."""
    from mnist_edge.data import idx
    from mnist_edge.data.idx_folders import IDX_FILES

    folder = tmp_path_factory.mktemp("data")
    for images, labels in IDX_FILES.values():
        (folder / images).write_bytes(idx.encode(IMAGES[:20]))
        (folder / labels).write_bytes(idx.encode(np.arange(20, dtype=np.uint8) % 10))
    return folder


COMMANDS = {
    "predict": ["predict", "--sample", "--json"],
    "read": ["read", "--sample", "--json"],
    "selftest": ["selftest", "cnn", "--json"],
    "evaluate": ["evaluate", "cnn", "--json", "--data"],
}


def of(command: str, data: Path) -> list[object]:
    return [*COMMANDS[command], *([data] if command == "evaluate" else [])]


@linux
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_gives_the_same_answers(clean, data, command):
    trusted, untrusted = (cli_in_process(*of(command, data), *more) for more in ([], ["--untrusted"]))
    assert trusted.returncode == untrusted.returncode == 0, untrusted.stderr
    assert trusted.stdout == untrusted.stdout != b""


@linux
@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_ends_with_one_line_and_exit_code_4(clean, fake, data, command):
    fake(fault="os.kill(os.getpid(), signal.SIGSEGV)")
    fails(cli_in_process(*of(command, data), "--untrusted"), 4, "the untrusted model crashed its process (SIGSEGV)")


@linux
def test_what_comes_next_is_untrusted_as_well(clean, data):
    result = cli_in_process("selftest", "cnn-nano", "--untrusted")
    assert b"next:  mnist-edge predict --sample --model cnn-nano --untrusted" in result.stderr


def test_only_onnx_files_are_evaluated_so(tmp_path, data):
    (tmp_path / "model.torchscript").touch()
    result = cli_in_process("evaluate", tmp_path / "model.torchscript", "--untrusted", "--data", data)
    fails(result, 2, "only an .onnx file can be run as untrusted")


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [("platform", "win32", "Linux"), ("frozen", True, "frozen"), ("executable", "", "interpreter")],
)
def test_where_it_cannot_be_done_it_is_a_usage_error(monkeypatch, name, value, words):
    monkeypatch.setattr(sys, name, value, raising=False)
    with pytest.raises(UsageError, match=f"untrusted models need .*{words}"):
        Sandbox(b"any", 10)
