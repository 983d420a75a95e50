"""Hostile bundles: whatever a file of a bundle holds or is, every command that reads it refuses it in one line."""

import json
import os
import socket

import pytest

from tests.helpers import cli_in_process

PLACE = '"here"'
"""Stands where a piece of raw JSON is put."""

MANIFEST_READERS = ("info", "selftest", "predict --sample --model", "bench", "evaluate", "verify", "report")
TRAINING_READERS = ("verify", "export", "train --resume --out", "evaluate model.pth", "report unexported")
READERS = {
    "manifest.json": MANIFEST_READERS,
    "training.json": TRAINING_READERS,
    "model.pth": ("verify", "export", "evaluate model.pth"),
    "checkpoint.pth": ("train --resume --out",),
    "model.onnx": ("selftest --format onnx", "predict --format onnx --sample --model", "evaluate --format onnx"),
}


def refused(bundle, small_idx, command, *, code=4):
    """Run a command on a bundle, and assert that it fails with one clean line."""
    words = command.split()
    target = bundle
    if words[-1].startswith("model."):
        target = bundle / words.pop()
    if words[-1] == "unexported":
        words.pop()
        (bundle / "manifest.json").unlink(missing_ok=True)
    data = ["--data", small_idx] if words[0] in ("evaluate", "verify", "export", "report") else []
    result = cli_in_process(*words, target, *data, "--quiet", cwd=bundle.parent)
    text = result.stderr.decode()
    assert result.returncode == code, (command, text)
    assert len(text.splitlines()) == 1, (command, text)
    assert text.startswith("error: "), (command, text)
    assert text.rstrip("\n").isprintable(), (command, text)
    assert len(text) < 1500, (command, text)
    assert result.stdout == b"", command
    return text


def put(record, where, value):
    """Exchange a field of a JSON document; `where` is its path, as ``recipe/lr``."""
    *parents, last = where.split("/")
    for key in parents:
        record = record[int(key)] if isinstance(record, list) else record[key]
    record[int(last) if isinstance(record, list) else last] = value


def rewrite(path, where, raw):
    record = json.loads(path.read_text())
    put(record, where, json.loads(PLACE))
    text = json.dumps(record)
    assert text.count(PLACE) == 1
    path.write_bytes(text.encode().replace(PLACE.encode(), raw))


DEEP = b"[" * 100_000 + b"]" * 100_000
LONG = b'"' + b"x" * 10**6 + b'"'
BELOW_ZERO, HUGE, ENDLESS, BEYOND, FRACTION = b"-1", b"9" * 400, b"1e400", b"9223372036854775808", b"2.5"
LONE = rb'"\ud800"'
NOT_UTF8 = b'"\xff\xfe"'
MANY_LABELS = json.dumps([str(number) for number in range(100_000)]).encode()
EPOCH = {
    "number": 1,
    "lr": 0.1,
    "train_loss": 1.0,
    "test": {"loss": 1.0, "correct": 1, "total": 1, "accuracy": 1.0},
    "seconds": 1.0,
    "training_seconds": 1.0,
}

FIELDS = [
    ("manifest.json", "version", raw) for raw in (HUGE, ENDLESS, BELOW_ZERO, BEYOND, b"3.0", b'"3"', b"true", b"null")
]
FIELDS += [
    ("manifest.json", where, raw)
    for where, raw in [
        ("contract/labels", b"[]"),
        ("contract/labels", MANY_LABELS),
        ("contract/labels", b'["a","a"]'),
        ("contract/labels/0", LONG),
        ("contract/labels/0", LONE),
        ("contract/labels/0", NOT_UTF8),
        ("contract/labels/0", rb'"\u001b[2J"'),
        ("contract/labels/0", rb'"a\u0000b"'),
        ("contract/labels/0", rb'"\u202e1"'),
        ("contract/normalization/mean", b"1e308"),
        ("contract/normalization/mean", HUGE),
        ("contract/normalization/std", b"5e-324"),
        ("contract/normalization/std", b"0"),
        ("contract/normalization/std", b"NaN"),
        ("contract/preprocessing", LONG),
        ("contract/preprocessing", rb'"\u001b]0;x\u0007"'),
        ("contract/version", HUGE),
        ("provenance/parameters", HUGE),
        ("provenance/parameters", BELOW_ZERO),
        ("provenance/epochs", HUGE),
        ("provenance/seed", BEYOND),
        ("provenance/recipe/lr", ENDLESS),
        ("provenance/recipe/epochs", HUGE),
        ("provenance/recipe/batch_size", FRACTION),
        ("provenance/data/name", LONG),
        ("provenance/model_sha256", b'"../../etc"'),
        ("provenance/trained_by", DEEP),
        ("provenance/exported_by", json.dumps({str(number): "1" for number in range(10_000)}).encode()),
        ("pytorch/accuracy", HUGE),
        ("pytorch/accuracy", b"1.0000001"),
        ("files/model.onnx/bytes", HUGE),
        ("files/model.onnx/bytes", BELOW_ZERO),
        ("files/model.onnx/sha256", LONG),
        ("files/model.onnx/format", LONG),
        ("files/model.onnx/parity/max_abs_diff", b"1e308"),
        ("files/model.onnx/parity/flips", BELOW_ZERO),
        ("files/model.onnx/parity/variants", MANY_LABELS),
        ("files/model.onnx/parity/batch_sizes", b'{"1":1e400}'),
        ("files/model.onnx/calibration/temperature", b"5e-324"),
        ("measured/model.onnx/microseconds", b"0"),
        ("measured/model.onnx/microseconds", b"-Infinity"),
        ("measured/model.onnx/batch_dependence", b"1e39999"),
        ("recommended/file", b'"../model.onnx"'),
        ("recommended/not/model.onnx", LONG),
    ]
]
FIELDS += [
    ("training.json", where, raw)
    for where, raw in [
        ("version", HUGE),
        ("kind", LONG),
        ("kind", LONE),
        ("architecture", b'"resnet"'),
        ("architecture", NOT_UTF8),
        ("epochs", b"[]"),
        ("epochs", b"{}"),
        ("epochs", json.dumps([EPOCH] * 100_000).encode()),
        ("epochs/0/test/accuracy", b"1e308"),
        ("epochs/0/train_loss", b"1e308"),
        ("epochs/0/lr", HUGE),
        ("epochs/0/number", b"0"),
        ("labels", b"[]"),
        ("labels", MANY_LABELS),
        ("labels/3", rb'"\u202e3"'),
        ("parameters", HUGE),
        ("seed", BELOW_ZERO),
        ("seed", BEYOND),
        ("data/train", HUGE),
        ("data/source", LONG),
        ("data/source", LONE),
        ("data/sha256", b"[]"),
        ("recipe/calibration_split", BELOW_ZERO),
        ("recipe/ema_decay", b"1"),
        ("recipe/normalization/std", b"1e-300"),
        ("machine/threads", HUGE),
        ("versions", DEEP),
    ]
]


@pytest.mark.parametrize(
    ("file", "where", "raw"), FIELDS, ids=[f"{file} {where} {raw[:12]!r}" for file, where, raw in FIELDS]
)
def test_no_record_may_hold(bundle_copy, small_idx, file, where, raw):
    rewrite(bundle_copy / file, where, raw)
    for command in READERS[file]:
        assert f"{file}: " in refused(bundle_copy, small_idx, command)


DOCUMENTS = {
    "empty": b"",
    "NUL": bytes(100),
    "not UTF-8": b"\xff\xfe{}",
    "a byte order mark": b"\xef\xbb\xbf{}",
    "a number": HUGE,
    "endless": ENDLESS,
    "a list": b"[]",
    "null": b"null",
    "deep": DEEP,
    "deep in an object": b'{"version":3,"x":' + b'{"a":' * 100_000 + b"1" + b"}" * 100_001,
    "cut short": b'{"version": 3, "contract": {"labels": ["',
    "two documents": b"{}{}",
    "a lone surrogate as a key": rb'{"\udc80": 1}',
    "unknown fields only": b'{"a": 1}',
    "17 MB": b'{"version": 3, "x": "' + b"x" * 17 * 2**20 + b'"}',
}


@pytest.mark.parametrize("file", ["manifest.json", "training.json"])
@pytest.mark.parametrize("name", DOCUMENTS)
def test_no_record_may_be(bundle_copy, small_idx, file, name):
    (bundle_copy / file).write_bytes(DOCUMENTS[name])
    for command in READERS[file]:
        refused(bundle_copy, small_idx, command)


def sparse(path):
    with path.open("wb") as file:
        file.truncate(100 * 2**30)


def a_socket(path):
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(os.path.relpath(path))


THINGS = {
    "a FIFO": os.mkfifo,
    "a folder": os.mkdir,
    "a socket": a_socket,
    "a dangling link": lambda path: path.symlink_to(path.with_name("nothing")),
    "a link to itself": lambda path: path.symlink_to(path),
    "an endless device": lambda path: path.symlink_to("/dev/zero"),
    "a device that blocks": lambda path: path.symlink_to("/dev/tty"),
    "100 GB": sparse,
}


@pytest.mark.parametrize("file", READERS)
@pytest.mark.parametrize("thing", THINGS)
def test_no_file_may_be(bundle_copy, small_idx, monkeypatch, file, thing):
    monkeypatch.chdir(bundle_copy)
    (bundle_copy / file).unlink(missing_ok=True)
    THINGS[thing](bundle_copy / file)
    for command in READERS[file]:
        if thing in LEADS_NOWHERE and (file, command) in UNNOTICED:
            continue
        refused(bundle_copy, small_idx, command)


LEADS_NOWHERE = ("a dangling link", "a link to itself")
UNNOTICED = {("manifest.json", "evaluate"), ("manifest.json", "report"), ("checkpoint.pth", "train --resume --out")}
"""For these commands a file that is not there means that the bundle is not exported, or its training finished."""


def test_a_file_that_grows_while_it_is_read_is_read_no_further(tmp_path, monkeypatch):
    from mnist_edge.bundle import reading
    from mnist_edge.errors import ModelFormatError

    path = tmp_path / "model.onnx"
    path.write_bytes(b"x" * 10)
    real = os.fstat

    def grown(descriptor):
        found = real(descriptor)
        with path.open("ab") as file:
            file.write(b"x" * 100)
        return found

    monkeypatch.setattr(os, "fstat", grown)
    with pytest.raises(ModelFormatError, match="larger than the limit of 20 bytes"):
        reading.read_file(path, "export it again", 20)


SOURCES = {
    "a FIFO": lambda folder: os.mkfifo(folder / "data") or folder / "data",
    "a FIFO named as a table": lambda folder: os.mkfifo(folder / "data.csv") or folder / "data.csv",
    "an endless device": lambda folder: "/dev/zero",
    "NUL": lambda folder: "a\0b",
    "very long": lambda folder: "x" * 4000,
    "many folders": lambda folder: "x/" * 2000,
    "nobody's home": lambda folder: "~nobody-of-that-name/data",
    "a link to itself": lambda folder: (folder / "data").symlink_to(folder / "data") or folder / "data",
    "an empty folder": lambda folder: (folder / "data").mkdir() or folder / "data",
    "the root": lambda folder: "/proc/self/fd",
    "empty": lambda folder: "",
    "escapes": lambda folder: "\x1b[2J\u202e",
    "file memory": lambda folder: "/proc/self/mem",
}


@pytest.mark.parametrize("name", SOURCES)
def test_no_data_may_be(bundle_copy, small_idx, tmp_path, monkeypatch, name):
    monkeypatch.delenv("MNIST_EDGE_DATA", raising=False)
    monkeypatch.setenv("HOME", str(tmp_path))
    source = str(SOURCES[name](tmp_path))
    rewrite(bundle_copy / "training.json", "data/source", json.dumps(source).encode())
    manifest = json.loads((bundle_copy / "manifest.json").read_text())
    content = (bundle_copy / "training.json").read_bytes()
    from mnist_edge.bundle.checksum import sha256

    manifest["files"]["training.json"] = {"sha256": sha256(content), "bytes": len(content)}
    (bundle_copy / "manifest.json").write_text(json.dumps(manifest))
    for command in ("verify", "export", "evaluate", "report"):
        result = cli_in_process(command, bundle_copy, "--quiet", cwd=tmp_path)
        text = result.stderr.decode()
        assert result.returncode == 3, (command, text)
        assert len(text.splitlines()) == 1, (command, text)
        assert text.rstrip("\n").isprintable(), (command, text)


METADATA = [
    ("contract", where, raw)
    for where, raw in [
        ("version", HUGE),
        ("version", ENDLESS),
        ("labels", b"[]"),
        ("labels", MANY_LABELS),
        ("labels/0", LONG),
        ("labels/0", LONE),
        ("labels/0", rb'"\u001b[2J"'),
        ("labels/0", rb'"\u202e1"'),
        ("normalization/mean", HUGE),
        ("normalization/std", b"5e-324"),
        ("preprocessing", LONG),
        ("output", DEEP),
        ("calibration/temperature", b"5e-324"),
        ("calibration/temperature", b"1e308"),
        ("calibration/images", HUGE),
        ("calibration/images", BELOW_ZERO),
        ("calibration/energies/0", b"-1e308"),
        ("calibration/ood_scores", json.dumps([0.5] * 2000).encode()),
        ("calibration/ood_scores/1", b"1e400"),
    ]
]
METADATA += [
    ("provenance", where, raw)
    for where, raw in [
        ("architecture", LONG),
        ("parameters", HUGE),
        ("seed", BEYOND),
        ("epochs", b"1.5"),
        ("recipe/lr", ENDLESS),
        ("recipe", DEEP),
        ("data/sha256", b'{"train-images":"x"}'),
        ("trained_by", json.dumps({str(number): "1" for number in range(10_000)}).encode()),
        ("model_sha256", LONG),
    ]
]
METADATA += [("format", None, raw) for raw in (b"", b"x" * 10**6, b"\x1b[2J", b"c", b"INT8-STATIC")]


@pytest.mark.parametrize(
    ("key", "where", "raw"), METADATA, ids=[f"{key} {where} {raw[:12]!r}" for key, where, raw in METADATA]
)
def test_no_file_may_hold(bundle_dir, small_idx, tmp_path, key, where, raw):
    import onnx

    from mnist_edge.bundle.checksum import UNSET_CHECKSUM, with_checksum

    model = onnx.load(bundle_dir / "model.onnx")
    for entry in model.metadata_props:
        if entry.key == "mnist_edge.sha256":
            entry.value = UNSET_CHECKSUM
        elif entry.key == f"mnist_edge.{key}":
            if where is None:
                entry.value = raw.decode()
                continue
            record = json.loads(entry.value)
            put(record, where, json.loads(PLACE))
            entry.value = json.dumps(record).replace(PLACE, raw.decode())
    path = tmp_path / "model.onnx"
    path.write_bytes(with_checksum(model.SerializeToString()))
    for command in ("info", "selftest", "predict --sample --model", "bench", "evaluate"):
        refused(path, small_idx, command)
