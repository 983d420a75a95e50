"""Threads, forks, spawned workers, pickles and copies give the same answers, bit for bit, and no child hangs."""

import copy
import itertools
import os
import pickle
import sys
import threading
import weakref

import numpy as np
import pytest
from PIL import Image

from mnist_edge import Classifier
from mnist_edge.errors import AlteredModelError
from tests.helpers import run_python


@pytest.fixture(scope="module")
def images(expected):
    return expected["images"]


def asked_by_threads(classifier, images, *, threads: int, calls: int) -> list[str]:
    """The calls whose answers differed when `threads` threads made `calls` calls each, with one to nine images."""
    batches = [images[start : start + 1 + start % 9] for start in range(0, 400, 7)]
    serial = [classifier.logits(batch) for batch in batches]
    pictures = list(images[:5])
    predictions = classifier.predict_many(pictures)
    start, wrong = threading.Barrier(threads), []

    def ask(offset):
        start.wait()
        for call in range(calls):
            index = (call * 3 + offset) % len(batches)
            if call % 10 == 0:
                if classifier.predict_many(pictures) != predictions:
                    wrong.append(f"thread {offset}, call {call}: predict_many")
            elif classifier.logits(batches[index]).tobytes() != serial[index].tobytes():
                wrong.append(f"thread {offset}, call {call}: logits")

    workers = [threading.Thread(target=ask, args=(offset,)) for offset in range(threads)]
    for worker in workers:
        worker.start()
    for worker in workers:
        worker.join()
    return wrong


def test_threads_get_the_serial_answers(bundle_dir, images):
    assert asked_by_threads(Classifier(bundle_dir, threads=2), images, threads=16, calls=50) == []


@pytest.mark.slow
@pytest.mark.long
def test_sixteen_threads_with_two_thousand_calls_each_get_the_serial_answers(bundle_dir, images):
    assert asked_by_threads(Classifier(bundle_dir), images, threads=16, calls=2000) == []


def test_a_thread_with_another_answer_would_be_noticed(bundle_dir, images):
    calls = itertools.count()

    class Shaky(Classifier):
        def _run_chunk(self, batch):
            return super()._run_chunk(batch) + np.float32(next(calls))

    assert len(asked_by_threads(Shaky(bundle_dir), images, threads=2, calls=10)) == 20


FORKED = """
import os, signal, sys, threading, warnings
import numpy as np
from mnist_edge import Classifier

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads
images = np.resize(np.load(sys.argv[2])["images"], (600, 28, 28))  # more than a chunk
classifier = Classifier(sys.argv[1], threads=2)
answer = classifier.logits(images)

def in_child(work):
    pid = os.fork()
    if pid == 0:
        signal.alarm(60)  # kills a child that hangs
        work()
        return True
    status = os.waitpid(pid, 0)[1]
    assert status == 0, f"the child ended with {status}"
    return False

def same():
    assert (classifier.logits(images) == answer).all()

def same_from_threads():
    workers = [threading.Thread(target=same) for _ in range(8)]
    [worker.start() for worker in workers]
    [worker.join() for worker in workers]

def same_while_a_thread_asks():
    done = threading.Event()
    thread = threading.Thread(target=lambda: [same() for _ in iter(done.is_set, True)])
    thread.start()
    if not any(in_child(same) for _ in range(5)):
        done.set()
        thread.join()
"""
"""Every child exits normally and runs its clean-up, which `os._exit` would skip."""

fork = pytest.mark.skipif(not hasattr(os, "fork"), reason="there is no fork here")


@fork
@pytest.mark.parametrize(
    "code",
    [
        "in_child(same)",
        "in_child(same_from_threads)",
        "in_child(lambda: None)",
        "in_child(lambda: globals().pop('classifier'))",
        "in_child(lambda: in_child(same) or same())",
        "in_child(same) or in_child(same) or same()",
        "same_while_a_thread_asks()",
    ],
    ids=["used", "used by threads", "unused", "dropped", "child of a child", "twice", "while in use"],
)
def test_a_forked_child_gets_the_same_answers_and_ends(bundle_dir, code):
    result = run_python(f"{FORKED}\n{code}", bundle_dir, bundle_dir / "expected.npz")
    assert result.returncode == 0, result.stderr


POOLED = """
from mnist_edge.runtime import session

real = session._options

def with_a_pool(**wanted):
    options = real(**wanted)
    options.intra_op_num_threads = 2
    options.add_session_config_entry("session.intra_op.allow_spinning", "0")
    return options

session._options = with_a_pool
"""


@pytest.mark.long
@fork
@pytest.mark.skipif(sys.platform != "linux", reason="measured with Linux's threads")
def test_with_a_pool_of_threads_a_forked_child_would_hang(bundle_dir):
    code = "in_child(lambda: signal.alarm(2) or globals().pop('classifier'))"
    result = run_python(f"{POOLED}\n{FORKED}\n{code}", bundle_dir, bundle_dir / "expected.npz")
    assert "the child ended with 14" in result.stderr  # SIGALRM


POOL = """
import multiprocessing, sys, warnings
from concurrent.futures import ProcessPoolExecutor
import numpy as np
from mnist_edge import Classifier

warnings.simplefilter("ignore", DeprecationWarning)  # Python 3.12 warns of forks with threads

def prepare(path):
    global classifier
    classifier = Classifier(path)

def by_initializer(images):
    return classifier.logits(images)

def by_argument(classifier, images):
    return classifier.logits(images)

if __name__ == "__main__":
    method, model, arrays = sys.argv[1:]
    images = np.load(arrays)["images"]
    parts = np.split(images, 10)
    own = Classifier(model, threads=2)
    answer = own.logits(images)
    context = multiprocessing.get_context(method)
    with ProcessPoolExecutor(2, mp_context=context, initializer=prepare, initargs=(model,)) as pool:
        assert np.abs(np.concatenate(list(pool.map(by_initializer, parts))) - answer).max() < 1e-4
    with ProcessPoolExecutor(2, mp_context=context) as pool:
        assert (np.concatenate(list(pool.map(by_argument, [own] * 10, parts))) == answer).all()
"""


@pytest.mark.parametrize(
    "method", [pytest.param("fork", marks=fork), "spawn", pytest.param("forkserver", marks=[fork, pytest.mark.long])]
)
def test_process_pools_take_a_classifier_by_initializer_and_by_argument(bundle_dir, tmp_path, method):
    script = tmp_path / "script.py"
    script.write_text(POOL)
    run = "import runpy, sys; sys.argv = sys.argv[1:]; runpy.run_path(sys.argv[0], run_name='__main__')"
    result = run_python(run, script, method, bundle_dir, bundle_dir / "expected.npz")
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("again", [copy.copy, copy.deepcopy, lambda value: pickle.loads(pickle.dumps(value))])
def test_copies_answer_alike(bundle_dir, images, again):
    classifier = Classifier(bundle_dir, threads=2)
    other = again(classifier)
    assert other.contract == classifier.contract
    assert other._threads == 2
    assert other.logits(images).tobytes() == classifier.logits(images).tobytes()


UNPICKLE = """
import os, pickle, sys
from pathlib import Path
os.chdir("/")
print(pickle.loads(Path(sys.argv[1]).read_bytes()).predict(sys.argv[2]).probability)
"""


def test_a_pickle_needs_neither_the_file_nor_the_folder(bundle_copy, expected, tmp_path):
    classifier = Classifier(bundle_copy / "model.onnx")
    pickled, picture = tmp_path / "pickle", tmp_path / "digit.png"
    pickled.write_bytes(pickle.dumps(classifier))
    (bundle_copy / "model.onnx").write_bytes(b"another")
    Image.fromarray(expected["images"][0]).save(picture)
    result = run_python(UNPICKLE, pickled, picture)
    assert result.returncode == 0, result.stderr
    assert float(result.stdout) == classifier.predict(picture).probability


def test_an_altered_pickle_is_refused(bundle_dir):
    classifier = Classifier(bundle_dir)
    content = classifier._model.session.model
    altered = bytearray(content)
    altered[len(content) // 2] ^= 1
    pickled = pickle.dumps(classifier)
    assert pickled.count(content) == 1
    with pytest.raises(AlteredModelError, match="altered"):
        pickle.loads(pickled.replace(content, bytes(altered)))


def test_the_content_is_held_once(bundle_dir):
    held = Classifier(bundle_dir)._model.session
    assert held._inference._model_bytes is held.model


def test_sessions_that_are_dropped_are_closed(bundle_dir):
    classifier = Classifier(bundle_dir)
    closed = weakref.ref(classifier._model.session._inference)
    del classifier
    assert closed() is None
