"""`mnist-edge predict` as users run it: its inputs, its output on both streams, and its exit code."""

import contextlib
import csv
import errno
import gzip
import io
import json
import os
import signal
import struct
import subprocess
import sys
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from mnist_edge.cli import inputs
from tests.helpers import cli_in_process, fails, run_cli

pty = pytest.importorskip("pty", reason="a terminal to look at")

SURE = 40
"""The number of images used."""


@pytest.fixture(scope="module")
def answers(expected):
    """PyTorch's labels and logits for the first `SURE` images."""
    logits = expected["logits"][:SURE]
    return [str(label) for label in logits.argmax(axis=1)], logits


@pytest.fixture
def folder(expected, tmp_path):
    """Folders of pictures, with other files among them."""
    for index, name in enumerate(("b.png", "a/z.PNG", "a/deep/x.bmp", "c/y.png", "a.png", ".hidden/h.png", "c/.h.png")):
        path = tmp_path / "digits" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(expected["images"][index]).save(path)
    (tmp_path / "digits" / "notes.txt").write_text("no picture")
    return tmp_path


IN_ORDER = [
    ("digits/a/deep/x.bmp", 2),
    ("digits/a/z.PNG", 1),
    ("digits/a.png", 4),
    ("digits/b.png", 0),
    ("digits/c/y.png", 3),
]


def predict(*arguments, model, cwd=None, stdin=b"", run=cli_in_process):
    return run("predict", *arguments, "--model", model, "--format", "onnx", cwd=cwd, stdin=stdin)


def json_lines(result, code=0):
    assert result.returncode == code, result.stderr.decode()
    return [json.loads(line) for line in result.stdout.splitlines()]


def idx_bytes(array, kind=0x08):
    return struct.pack(f">HBB{array.ndim}I", 0, kind, array.ndim, *array.shape) + array.tobytes()


def holds(lines, name, wanted, answers):
    """Assert that JSON lines are the answers to the images `wanted`, named ``name[0]`` and so on."""
    labels, logits = answers
    assert [line["image"] for line in lines] == [f"{name}[{index}]" for index in range(len(wanted))]
    assert [line["label"] for line in lines] == [labels[index] for index in wanted]
    np.testing.assert_allclose([list(line["logits"].values()) for line in lines], logits[wanted], atol=1e-4)


def test_folders_are_searched_in_order(bundle_dir, folder, answers):
    lines = json_lines(predict("digits", "--json", model=bundle_dir, cwd=folder, run=run_cli))
    assert [(line["image"], line["label"]) for line in lines] == [(name, answers[0][k]) for name, k in IN_ORDER]


def test_the_search_is_that_of_training(folder):
    from mnist_edge import images
    from mnist_edge.cli import inputs

    found = [item.name for item in inputs.expand([str(folder / "digits")])]
    assert found == list(images.find(folder / "digits"))


@pytest.mark.parametrize(
    ("pattern", "names"),
    [
        ("digits/?.png", ["digits/a.png", "digits/b.png"]),
        ("digits/**/*.png", ["digits/a.png", "digits/b.png", "digits/c/y.png"]),
        ("digits/[ac]", ["digits/a/deep/x.bmp", "digits/a/z.PNG", "digits/c/y.png"]),
    ],
)
def test_patterns(bundle_dir, folder, pattern, names):
    lines = json_lines(predict(pattern, "--json", model=bundle_dir, cwd=folder))
    assert [line["image"] for line in lines] == names


def test_a_name_that_looks_like_a_pattern(bundle_dir, folder, answers):
    (folder / "digits/b.png").rename(folder / "digits/[ab].png")
    lines = json_lines(predict("digits/[ab].png", "--json", model=bundle_dir, cwd=folder))
    assert [(line["image"], line["label"]) for line in lines] == [("digits/[ab].png", answers[0][0])]


@pytest.mark.parametrize("name", ["t10k-images-idx3-ubyte", "images.gz", "without an ending"])
def test_idx_files_are_known_by_their_content(bundle_dir, expected, answers, tmp_path, name):
    content = idx_bytes(expected["images"][:SURE])
    (tmp_path / name).write_bytes(gzip.compress(content) if name.endswith(".gz") else content)
    lines = json_lines(predict(name, "--json", model=bundle_dir, cwd=tmp_path))
    holds(lines, name, list(range(SURE)), answers)


@pytest.mark.parametrize("reshape", [(-1, 28, 28), (-1, 1, 28, 28)], ids=str)
@pytest.mark.parametrize("order", ["C", "F"])
def test_npy_files(bundle_dir, expected, answers, tmp_path, reshape, order):
    np.save(tmp_path / "images.npy", np.asarray(expected["images"][:SURE].reshape(reshape), order=order))
    holds(
        json_lines(predict("images.npy", "--json", model=bundle_dir, cwd=tmp_path)), "images.npy", range(SURE), answers
    )


def test_a_single_image_in_a_npy_file(bundle_dir, expected, answers, tmp_path):
    np.save(tmp_path / "seven.npy", expected["images"][0])
    holds(json_lines(predict("seven.npy", "--json", model=bundle_dir, cwd=tmp_path)), "seven.npy", [0], answers)


def test_the_pixels_of_arrays_are_not_framed(bundle_dir, expected, tmp_path):
    """A digit in a corner may be centred in a picture, but not in raw pixels."""
    from mnist_edge import Classifier

    corner = np.roll(expected["images"][:1], (-7, 7), axis=(1, 2))
    np.save(tmp_path / "corner.npy", corner)
    (line,) = json_lines(predict("corner.npy", "--json", model=bundle_dir, cwd=tmp_path))
    logits = Classifier(bundle_dir, format="onnx").logits(corner)[0]
    assert list(line["logits"].values()) == pytest.approx(logits.tolist(), abs=1e-5)


def npz(path):
    np.savez(path.with_suffix(".npz"), np.zeros((2, 28, 28), np.uint8))
    path.with_suffix(".npz").rename(path)


def python_2(path):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        np.save(path, np.zeros((2, 28, 28), np.uint8))
    path.write_bytes(path.read_bytes().replace(b"(2, 28, 28)", b"(2L, 28, 28)").replace(b" \n", b"\n"))


UNUSABLE = {
    "no file.png": (lambda path: None, "no such file: check the path"),
    "nothing*.png": (lambda path: None, "nothing*.png: no file matches this pattern"),
    "empty folder": (lambda path: path.mkdir(), "empty folder: a folder without pictures"),
    "text": (lambda path: path.write_text("some text"), "not a picture in a format that is read"),
    "text.PNG": (lambda path: path.write_text("some text"), "damaged, or not a PNG despite its name: copy it again"),
    "text.jpg": (lambda path: path.write_text("some text"), "not a JPG despite its name: copy it again, or save it as"),
    "empty": (lambda path: path.write_bytes(b""), "is empty"),
    "labels": (lambda path: path.write_bytes(idx_bytes(np.zeros(5, np.uint8))), "an IDX file of labels"),
    "labels.gz": (lambda path: path.write_bytes(gzip.compress(idx_bytes(np.zeros(5, np.uint8)))), "file of labels"),
    "big": (lambda path: path.write_bytes(idx_bytes(np.zeros((2, 32, 32), np.uint8))), "shape (2, 32, 32), expected"),
    "none": (lambda path: path.write_bytes(idx_bytes(np.zeros((0, 28, 28), np.uint8))), "holds no images"),
    "cut": (lambda path: path.write_bytes(idx_bytes(np.zeros((2, 28, 28), np.uint8))[:-1]), "fetch it again"),
    "floats": (lambda path: path.write_bytes(idx_bytes(np.zeros((2, 28, 28), ">f4"), 0x0D)), "not an IDX file of"),
    "text.gz": (lambda path: path.write_bytes(gzip.compress(b"some text")), "not an IDX file"),
    "cut.gz": (lambda path: path.write_bytes(b"\x1f\x8bjunk"), "damaged gzip data"),
    "float.npy": (lambda path: np.save(path, np.zeros((2, 28, 28))), "holds float64, expected raw pixels as uint8"),
    "shape.npy": (lambda path: np.save(path, np.zeros((2, 784), np.uint8)), "shape (2, 784), expected (N, 28, 28)"),
    "rgb.npy": (lambda path: np.save(path, np.zeros((2, 3, 28, 28), np.uint8)), "shape (2, 3, 28, 28)"),
    "scalar.npy": (lambda path: np.save(path, np.uint8(3)), "shape ()"),
    "none.npy": (lambda path: np.save(path, np.zeros((0, 28, 28), np.uint8)), "none.npy: "),
    "object.npy": (lambda path: np.save(path, np.array([{}]), allow_pickle=True), "holds object, expected raw pixels"),
    "pickle.npy": (lambda path: path.write_bytes(b"\x80\x04]."), "not a usable .npy file"),
    "text.npy": (lambda path: path.write_text("some text"), "not a usable .npy file"),
    "empty.npy": (lambda path: path.write_bytes(b""), "is empty"),
    "npz.npy": (npz, "not a usable .npy file"),
    "python2.npy": (python_2, "not a usable .npy file"),
    "cut.npy": (
        lambda path: (np.save(path, np.zeros((2, 28, 28), np.uint8)), os.truncate(path, 900)),
        "holds less than its header declares",
    ),
    "head.npy": (lambda path: (np.save(path, np.zeros((2, 28, 28), np.uint8)), os.truncate(path, 40)), "not a usable"),
    "lie.npy": (
        lambda path: path.write_bytes(
            b"\x93NUMPY\x01\x00v\x00"
            + b"{'descr': '|u1', 'fortran_order': False, 'shape': (9**99, 28, 28), }".ljust(117)
            + b"\n"
        ),
        "not a usable .npy file",
    ),
}


def test_what_cannot_be_used_is_one_line_each_and_does_not_stop_the_rest(bundle_dir, expected, answers, tmp_path):
    """Every kind of bad input, each followed by a good picture: both streams keep the order."""
    names = []
    for index, (name, (make, _)) in enumerate(UNUSABLE.items()):
        make(tmp_path / name)
        Image.fromarray(expected["images"][index]).save(tmp_path / f"good{index}.png")
        names += [name, f"good{index}.png"]
    result = predict(*names, "--json", model=bundle_dir, cwd=tmp_path, run=run_cli)
    lines = json_lines(result, code=3)
    assert [line["image"].removesuffix("[0]") for line in lines] == names
    assert [line["label"] for line in lines[1::2]] == answers[0][: len(UNUSABLE)]
    complaints = result.stderr.decode().splitlines()
    for (name, (_, words)), line, complaint in zip(UNUSABLE.items(), lines[::2], complaints, strict=True):
        assert words in line["error"], line
        assert name in line["error"]
        assert complaint == f"error: {line['error']}"


def test_a_damaged_end_of_a_compressed_file_shows_after_what_is_before(bundle_dir, expected, answers, tmp_path):
    content = bytearray(gzip.compress(idx_bytes(expected["images"][:SURE])))
    content[-8] ^= 1  # the checksum
    (tmp_path / "images.gz").write_bytes(content)
    result = predict("images.gz", "--json", model=bundle_dir, cwd=tmp_path)
    fails(result, 3, "images.gz: damaged gzip data")
    holds(json_lines(result, code=3)[:SURE], "images.gz", range(SURE), answers)


def test_the_forms_of_the_output(bundle_dir, expected, answers, tmp_path):
    labels, logits = answers
    names = ['a "quoted", name.png', "tést.png", "missing.png"]
    for index, name in enumerate(names[:2]):
        Image.fromarray(expected["images"][index]).save(tmp_path / name)

    plain = predict(*names, model=bundle_dir, cwd=tmp_path)
    fails(plain, 3, "missing.png: no such file")
    rows = [line.split("\t") for line in plain.stdout.decode().splitlines()]
    assert [row[:2] for row in rows] == [[name, label] for name, label in zip(names[:2], labels, strict=False)]

    spread = predict(*names, "--csv", model=bundle_dir, cwd=tmp_path)
    fails(spread, 3, "missing.png")
    header, *lines = csv.reader(io.StringIO(spread.stdout.decode(), newline=""))
    assert header == ["image", "label", "probability", "ood_score", "error"]
    assert [line[:2] for line in lines] == [[names[0], labels[0]], [names[1], labels[1]], [names[2], ""]]
    assert [line[4] for line in lines[:2]] == ["", ""]
    assert "no such file" in lines[2][4]

    full = json_lines(predict(*names, "--json", model=bundle_dir, cwd=tmp_path), code=3)
    assert [list(line) for line in full[:2]] == 2 * [
        ["image", "label", "probability", "ood_score", "probabilities", "logits", "digits", "file"]
    ]
    assert list(full[2]) == ["image", "error"]
    for line, row, csv_row, wanted in zip(full, rows, lines, logits, strict=False):
        assert list(line["logits"].values()) == pytest.approx(wanted.tolist(), abs=1e-4)
        assert line["probability"] == max(line["probabilities"].values())
        assert sum(line["probabilities"].values()) == pytest.approx(1)
        assert float(row[2]) == pytest.approx(line["probability"], abs=5e-5)
        assert float(csv_row[2]) == pytest.approx(line["probability"], abs=5e-7)
        assert float(csv_row[3]) == pytest.approx(line["ood_score"], abs=5e-7)


def test_none_is_an_answer(bundle_dir, expected, tmp_path):
    np.save(tmp_path / "x.npy", np.concatenate([expected["images"][:3], np.zeros((1, 28, 28), np.uint8)]))
    run = lambda *options: predict("x.npy", *options, model=bundle_dir, cwd=tmp_path)  # noqa: E731
    probabilities = [line["probability"] for line in json_lines(run("--json"))]
    limit = sorted(probabilities[:3])[1]
    lines = json_lines(run("--json", "--min-probability", limit))
    assert [line["label"] is None for line in lines] == [probability < limit for probability in probabilities[:3]] + [
        True
    ]
    scores = [line["ood_score"] for line in lines[:3]]
    lines = json_lines(run("--json", "--max-ood", min(scores)))
    assert [line["label"] is None for line in lines] == [score > min(scores) for score in scores] + [True]
    assert run().stdout.decode().splitlines()[3].split("\t")[:2] == ["x.npy[3]", "none"]
    assert run("--csv").stdout.decode().splitlines()[4].startswith("x.npy[3],none,")


def test_several_digits_are_told_and_refused_where_a_single_one_is_asked_for(bundle_dir, expected, tmp_path):
    one, two = (np.pad(expected["images"][index], 20) for index in (0, 1))
    Image.fromarray(np.hstack([one, two])).save(tmp_path / "two.png")
    Image.fromarray(one).save(tmp_path / "one.png")
    result = predict("one.png", "two.png", "--json", model=bundle_dir, cwd=tmp_path)
    first, second = json_lines(result)
    assert (first["digits"], second["digits"]) == (1, 2)
    assert second["label"] is not None
    assert result.stderr.decode().splitlines() == [
        "warning: two.png: shows 2 digits, only one of them was classified: use  mnist-edge read"
    ]
    options = ("one.png", "two.png", "--json", "--single", "--show", "seen")
    first, second = json_lines(predict(*options, model=bundle_dir, cwd=tmp_path))
    assert first["label"] is not None
    assert second["label"] is None
    assert second["digits"] == 2
    assert {path.name for path in (tmp_path / "seen").iterdir()} == {"one.png", "two.png"}
    (line,) = json_lines(predict("-", "--json", model=bundle_dir, stdin=(tmp_path / "two.png").read_bytes()))
    assert line["digits"] == 2
    np.save(tmp_path / "images.npy", expected["images"][:1])
    (line,) = json_lines(predict("images.npy", "--json", model=bundle_dir, cwd=tmp_path))
    assert line["digits"] is None


@pytest.mark.parametrize(
    ("options", "words"),
    [
        (["--min-probability", "1.5"], "--min-probability"),
        (["--max-ood", "-1"], "--max-ood"),
        (["--min-probability", "nan"], "probability"),
        (["--show", "file"], "file: is not a folder"),
    ],
)
def test_usage_errors(bundle_dir, expected, tmp_path, options, words):
    (tmp_path / "file").write_text("")
    Image.fromarray(expected["images"][0]).save(tmp_path / "0.png")
    result = predict("0.png", *options, model=bundle_dir, cwd=tmp_path)
    assert result.returncode == 2
    assert result.stdout == b""
    assert words in result.stderr.decode()
    assert "Traceback" not in result.stderr.decode()


def test_json_and_csv_exclude_each_other(bundle_dir):
    result = predict("0.png", "--json", "--csv", model=bundle_dir)
    words = "--json and --csv exclude each other: give one of them"
    assert result.stderr.decode() == f"error: {words}\n"
    assert json_lines(result, code=2) == [{"error": words, "exit_code": 2}]


def test_show_prepares_each_picture_once(bundle_dir, expected, tmp_path, monkeypatch):
    from mnist_edge.runtime import classifier

    prepared = []
    usual = classifier.preprocess_counting
    monkeypatch.setattr(classifier, "preprocess_counting", lambda *given: prepared.append(1) or usual(*given))
    for index in range(5):
        Image.fromarray(np.pad(expected["images"][index], 20)).save(tmp_path / f"{index}.png")
    names = [f"{index}.png" for index in range(5)]
    result = cli_in_process("predict", *names, "--show", "seen", "--model", bundle_dir, cwd=tmp_path)
    assert result.returncode == 0
    assert len(prepared) == len(list((tmp_path / "seen").iterdir())) == 5


def test_show_writes_what_the_model_saw(bundle_dir, expected, tmp_path):
    images = expected["images"]
    for index, name in enumerate(("0.png", "other/0.bmp", "more/0-2.png", "foreign.png")):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        Image.fromarray(images[index]).save(tmp_path / name)
    np.save(tmp_path / "two.npy", images[4:6])
    seen = tmp_path / "new" / "seen"
    seen.mkdir(parents=True)
    Image.fromarray(images[9]).save(seen / "foreign.png")
    names = ["0.png", "other/0.bmp", "more/0-2.png", "two.npy", "missing.png", "foreign.png", "-"]
    wanted = {"0": 0, "0-2": 1, "0-2-2": 2, "two.npy[0]": 4, "two.npy[1]": 5, "foreign": 9, "foreign-2": 3, "stdin": 0}
    without = predict(*names, "--json", model=bundle_dir, cwd=tmp_path, stdin=(tmp_path / "0.png").read_bytes())
    for _ in range(2):  # the second run replaces the files of the first
        with (tmp_path / "0.png").open("rb") as file:
            result = predict(*names, "--json", "--show", seen, model=bundle_dir, cwd=tmp_path, stdin=file.read())
        fails(result, 3, "missing.png")
        for shown, plain in zip(json_lines(result, code=3), json_lines(without, code=3), strict=True):
            assert (shown["image"], shown.get("label"), shown.get("error")) == (
                plain["image"],
                plain.get("label"),
                plain.get("error"),
            )
        assert {path.stem for path in seen.iterdir()} == set(wanted)
        for stem, index in wanted.items():
            np.testing.assert_array_equal(np.asarray(Image.open(seen / f"{stem}.png")), images[index])


def test_one_picture_on_stdin(bundle_dir, folder, answers):
    content = (folder / "digits/b.png").read_bytes()
    (line,) = json_lines(predict("-", "--json", model=bundle_dir, stdin=content, run=run_cli))
    assert (line["image"], line["label"]) == ("-", answers[0][0])
    fails(predict("-", model=bundle_dir, stdin=b"", run=run_cli), 3, "<stdin>: is empty")


def test_a_pipe_can_be_named(bundle_dir, folder, answers):
    """As in  predict <(command),  which can be read only once."""
    os.mkfifo(folder / "pipe")
    writer = subprocess.Popen(["bash", "-c", "cat digits/b.png > pipe"], cwd=folder)
    (line,) = json_lines(predict("pipe", "--json", model=bundle_dir, cwd=folder))
    assert line["label"] == answers[0][0]
    assert writer.wait(timeout=10) == 0


@pytest.fixture(scope="module")
def many(expected, tmp_path_factory):
    """More images than are processed at a time."""
    path = tmp_path_factory.mktemp("many") / "many.npy"
    np.save(path, np.resize(expected["images"], (20_000, 28, 28)))
    return path


@pytest.mark.parametrize("form", [[], ["--json"], ["--csv"]], ids=str)
def test_a_reader_that_leaves(bundle_dir, many, form):
    command = [
        sys.executable,
        "-W",
        "error",
        "-m",
        "mnist_edge",
        "predict",
        str(many),
        "--model",
        str(bundle_dir),
        *form,
    ]
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert process.stdout.readline()
        process.stdout.close()
        assert process.stderr.read() == b""
    assert process.returncode == 141


def test_ctrl_c(bundle_dir, folder):
    """While it waits for a picture that never comes; the earlier answers have been printed."""
    os.mkfifo(folder / "pipe")
    command = [sys.executable, "-W", "error", "-m", "mnist_edge", "predict", "many.npy", "pipe", "--model", bundle_dir]
    np.save(folder / "many.npy", np.zeros((3, 28, 28), np.uint8))
    with subprocess.Popen(command, cwd=folder, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        assert [process.stdout.readline().split(b"\t")[0] for _ in range(3)] == [
            f"many.npy[{index}]".encode() for index in range(3)
        ]
        process.send_signal(signal.SIGINT)
        output, error = process.communicate(timeout=30)
    assert (process.returncode, output, error) == (130, b"", b"interrupted: the answers printed so far hold\n")


def on_terminal(command, *, stdout=None, **options):
    """Run a command with a terminal as stderr, and as stdout by default: what appears there, and the exit code."""
    master, slave = pty.openpty()
    with subprocess.Popen(command, stdout=stdout or slave, stderr=slave, **options) as process:
        os.close(slave)
        shown = b""
        with contextlib.suppress(OSError):  # raised when the other end is closed
            while block := os.read(master, 65536):
                shown += block
    os.close(master)
    return shown.decode(), process.returncode


def test_a_table_on_a_terminal(bundle_dir, folder, answers):
    np.save(folder / "blank.npy", np.zeros((300, 28, 28), np.uint8))
    command = [
        sys.executable,
        "-m",
        "mnist_edge",
        "predict",
        "digits",
        "missing.png",
        "blank.npy",
        "--model",
        bundle_dir,
    ]
    shown, code = on_terminal(command, cwd=folder)
    lines = shown.splitlines()
    assert code == 3
    assert lines[0].split() == ["image", "label", "probability", "ood_score"]
    assert [line.split()[:2] for line in lines[1:6]] == [[name, answers[0][index]] for name, index in IN_ORDER]
    assert all(line.split()[3] == "%" for line in lines[1:6])
    assert len({len(line) for line in lines[:6]}) == 1, "not aligned"
    assert lines[6].startswith("error: missing.png: no such file")
    assert [line.split()[:2] for line in lines[7:]] == [[f"blank.npy[{index}]", "none"] for index in range(300)]
    assert "━" not in shown


def test_names_do_not_command_the_terminal(bundle_dir, folder):
    (folder / "digits/b.png").rename(folder / "\x1b[31mred.png")
    command = [sys.executable, "-m", "mnist_edge", "predict", "\x1b[31mred.png", "--model", bundle_dir]
    shown, code = on_terminal(command, cwd=folder)
    assert code == 0
    assert "\x1b" not in shown
    assert r"\x1b[31mred.png" in shown


@pytest.mark.long
def test_a_bar_for_many_images_beside_redirected_output(bundle_dir, many, tmp_path):
    def run(source):
        with (tmp_path / "out").open("wb") as out:
            command = [sys.executable, "-m", "mnist_edge", "predict", source, "missing.png", "--json"]
            environment = {**os.environ, "TERM": "xterm-256color", "COLUMNS": "100"}
            shown, code = on_terminal([*command, "--model", bundle_dir], stdout=out, env=environment)
        assert code == 3
        assert "missing.png: no such file" in shown
        return shown, [json.loads(line) for line in (tmp_path / "out").read_text().splitlines()]

    shown, lines = run(many)
    assert "━" in shown
    assert "/20001" in shown
    assert [line["image"] for line in lines[:-1]] == [f"{many}[{index}]" for index in range(20_000)]
    np.save(tmp_path / "few.npy", np.zeros((5, 28, 28), np.uint8))
    shown, lines = run(tmp_path / "few.npy")
    assert "━" not in shown
    assert len(lines) == 6


@pytest.mark.long
@pytest.mark.skipif(not Path("/proc/self/status").exists(), reason="memory is read from Linux's /proc")
def test_memory_does_not_grow_with_the_number_of_images(bundle_dir, many, tmp_path):
    def peak(name, images):
        (tmp_path / name).write_bytes(gzip.compress(idx_bytes(images), compresslevel=1))
        code = (
            "import sys, re; from pathlib import Path; from mnist_edge.cli.main import main\n"
            "try: main()\n"
            "finally: print(re.search(r'VmHWM:\\s+(\\d+)', Path('/proc/self/status').read_text())[1], file=sys.stderr)"
        )
        command = [sys.executable, "-c", code, "predict", str(tmp_path / name), "--model", str(bundle_dir)]
        result = subprocess.run(command, capture_output=True, check=True)
        assert len(result.stdout.splitlines()) == len(images)
        return int(result.stderr) / 1024

    images = np.load(many)
    assert peak("all.gz", images) - peak("few.gz", images[:1000]) < 8  # the images themselves are 15 MB


def test_neither_torch_nor_the_network_is_needed(bundle_dir, folder):
    code = (
        "import sys; from mnist_edge.cli.main import main\n"
        "try: main()\n"
        "finally: print(sorted({'torch', 'onnx', 'rich', 'mnist_edge.data.datasets'} & sys.modules.keys()))"
    )
    command = [sys.executable, "-c", code, "predict", str(folder / "digits"), "--model", str(bundle_dir)]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    assert result.stdout.splitlines()[-1] == "[]"


def test_help_is_there_at_once():
    """It takes twice as long as importing typer alone; importing onnxruntime would double that."""

    def seconds(*command):
        start = time.perf_counter()
        subprocess.run([sys.executable, *command], stdout=subprocess.DEVNULL, check=True)
        return time.perf_counter() - start

    pairs = [(seconds("-m", "mnist_edge", "--help"), seconds("-c", "import typer")) for _ in range(5)]
    assert min(own / bare for own, bare in pairs) < 3


@pytest.mark.parametrize("chunk", [1, 7, 40, 100])
@pytest.mark.parametrize("compress", [False, True])
def test_idx_in_chunks_is_the_whole(expected, tmp_path, chunk, compress):
    from mnist_edge.data import idx

    content = idx_bytes(expected["images"][:40])
    path = tmp_path / "images"
    path.write_bytes(gzip.compress(content) if compress else content)
    parts = list(idx.read_in_chunks(path, dimensions=3, chunk=chunk))
    assert max(map(len, parts)) == min(chunk, 40)
    np.testing.assert_array_equal(np.concatenate(parts), expected["images"][:40])
    np.testing.assert_array_equal(idx.read(path, dimensions=3), expected["images"][:40])
    assert idx.read_shape(path, dimensions=3) == (40, 28, 28)


def test_answers_to_raw_pixels(bundle_dir, expected):
    from mnist_edge import Classifier
    from mnist_edge.errors import ImageFormatError, UsageError

    classifier = Classifier(bundle_dir, format="onnx")
    for images in (expected["images"], expected["images"][:, None]):
        found = list(classifier.predict_each(images, preprocess=False))
        assert [int(answer.label) for answer in found] == expected["logits"].argmax(axis=1).tolist()
        np.testing.assert_allclose([list(answer.logits.values()) for answer in found], expected["logits"], atol=1e-4)
    assert list(classifier.predict_each(np.zeros((0, 28, 28), np.uint8), preprocess=False)) == []
    (answer,) = classifier.predict_each([np.zeros((28, 29), np.uint8)], preprocess=False)
    assert isinstance(answer, ImageFormatError)
    with pytest.raises(UsageError):
        classifier.predict_each(expected["images"], preprocess=False, min_probability=2)


def test_show_with_long_and_equal_names(bundle_dir, expected, tmp_path):
    long = "x" * 250
    for index, folder in enumerate(("a", "b")):
        (tmp_path / folder).mkdir()
        Image.fromarray(expected["images"][index]).save(tmp_path / folder / f"{long}.png")
    result = predict("a", "b", "--show", "seen", model=bundle_dir, cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    seen = sorted((tmp_path / "seen").iterdir())
    assert [path.name for path in seen] == [f"{'x' * 200}-2.png", f"{'x' * 200}.png"]


def test_a_name_with_a_line_end_stays_on_one_line(bundle_dir, expected, tmp_path):
    Image.fromarray(expected["images"][0]).save(tmp_path / "two\nlines.png")
    result = predict("two\nlines.png", model=bundle_dir, cwd=tmp_path)
    assert result.stdout.decode().splitlines()[0].startswith("'two\\nlines.png'\t")
    assert len(result.stdout.decode().splitlines()) == 1


def test_json_where_stdout_lacks_letters(bundle_dir, expected, tmp_path):
    name = "größe\udcff.png"
    Image.fromarray(expected["images"][0]).save(tmp_path / name)
    for encoding in ("ascii", "latin-1", "utf-8"):
        result = run_cli(
            "predict", name, "--json", "--model", bundle_dir, cwd=tmp_path, PYTHONIOENCODING=encoding, PYTHONUTF8="0"
        )
        assert json.loads(result.stdout.decode("ascii" if encoding != "utf-8" else "utf-8"))["image"] == name, encoding


def test_a_folder_that_cannot_be_listed_does_not_stop_the_rest(folder, monkeypatch):
    def scandir(path):
        if os.fspath(path).endswith("deep"):
            raise PermissionError(errno.EACCES, "Permission denied", os.fspath(path))
        return real(path)

    real = os.scandir
    monkeypatch.setattr(os, "scandir", scandir)
    *found, last = inputs.expand([str(folder / "digits")])
    assert [Path(item.name).name for item in found] == ["z.PNG", "a.png", "b.png", "y.png"]
    assert isinstance(last, inputs.Unusable)
    assert last.name.endswith("deep")
    assert "Permission denied" in str(last.error)


def test_stdin_is_named_once(bundle_dir, folder, answers):
    picture = (folder / "digits" / "b.png").read_bytes()
    result = predict("-", "-", "--json", model=bundle_dir, stdin=picture)
    first, second = json_lines(result, code=2)
    assert first["label"] == answers[0][0]
    assert "give it once" in second["error"]


def test_pillow_does_not_warn_on_the_command_line(bundle_dir, tmp_path):
    Image.new("L", (9500, 9500)).save(tmp_path / "huge.png")
    result = predict("huge.png", model=bundle_dir, cwd=tmp_path, run=run_cli)
    fails(result, 3, "huge.png", "scale the picture down")
    assert len(result.stderr.splitlines()) == 1


def test_closed_streams(bundle_dir, expected, tmp_path):
    Image.fromarray(expected["images"][0]).save(tmp_path / "digit.png")
    command = f"{sys.executable} -m mnist_edge predict %s --model {bundle_dir}"
    for source, redirection, code in (("digit.png", ">&-", 141), ("-", "<&-", 3)):
        result = subprocess.run(
            ["bash", "-c", command % source + redirection], cwd=tmp_path, capture_output=True, check=False
        )
        assert result.returncode == code, result.stderr
        assert b"Traceback" not in result.stderr
