"""What is fuzzed: for each kind of input how it is read, valid ones to start from, and how to change them."""

import contextlib
import functools
import gzip
import io
from pathlib import Path
from typing import Final

import numpy as np

from mnist_edge import images
from mnist_edge.bundle import checksum
from mnist_edge.bundle.decoding import decode, decode_version, encode
from mnist_edge.bundle.layout import MANIFEST, TRAINING
from mnist_edge.bundle.records import Provenance
from mnist_edge.cli import inputs
from mnist_edge.contract import (
    CHECKSUM_KEY,
    CONTRACT_KEY,
    CONTRACT_VERSION,
    GOLDEN_KEY,
    PROVENANCE_KEY,
    Contract,
    Preprocessing,
)
from mnist_edge.data import datasets, idx
from mnist_edge.errors import MnistEdgeError
from mnist_edge.runtime import prediction
from tests.fuzzing import mutation, seeds
from tests.fuzzing.judging import Mutate, Target


def _as_predict_reads(path: Path) -> None:
    """Everything that `predict` takes from a file, short of running a model."""
    for item in inputs.expand([str(path)]):
        match item:
            case inputs.Unusable():
                raise item.error
            case inputs.Picture():
                images.decode_scaled(item.source)
            case inputs.Stack():
                for chunk in item.read():
                    assert chunk.dtype == np.uint8
                    assert chunk.shape[1:] == (28, 28)


def _as_train_reads(path: Path) -> None:
    data = datasets.load(path)
    for split in (data.train, data.test):
        assert len(split.images) == len(split.labels)
        assert split.images.shape[1:] == (28, 28)
        assert int(split.labels.max()) < len(data.labels)


def _idx_images(data: bytes, folder: Path) -> None:
    _write(folder / "train-labels-idx1-ubyte", idx.encode(seeds.LABELS))
    path = folder / "train-images-idx3-ubyte"
    path.write_bytes(gzip.compress(data, 1, mtime=0) if len(data) % 2 else data)  # what is in gzip has no checksum here
    with contextlib.suppress(MnistEdgeError):
        _as_predict_reads(path)
    _as_train_reads(folder)


def _write(path: Path, content: bytes) -> None:
    """Write a file that every input finds beside its own."""
    if not path.exists():
        path.write_bytes(content)


def _idx_labels(data: bytes, folder: Path) -> None:
    _write(folder / "train-images-idx3-ubyte", idx.encode(seeds.digits()))
    (folder / "train-labels-idx1-ubyte").write_bytes(data)
    _as_train_reads(folder)


def _names(data: bytes, folder: Path) -> None:
    (folder / "labels.txt").write_bytes(data)
    _idx_labels(idx.encode(seeds.LABELS), folder)


def _csv(data: bytes, folder: Path) -> None:
    path = folder / "train.csv"
    path.write_bytes(data)
    with contextlib.suppress(MnistEdgeError):
        _as_predict_reads(path)
    _as_train_reads(path)


def _npy(data: bytes, folder: Path) -> None:
    path = folder / "images.npy"
    path.write_bytes(data)
    _as_predict_reads(path)


def _manifest(data: bytes, folder: Path) -> None:
    """As `info` reads and shows it."""
    from mnist_edge.cli.info import info

    (folder / MANIFEST).write_bytes(data)
    written = io.BytesIO()
    shown = io.TextIOWrapper(written, encoding="utf-8")
    with contextlib.redirect_stdout(shown), contextlib.redirect_stderr(shown):
        info(str(folder), json=True)
        info(str(folder))
    shown.flush()
    text = written.getvalue().decode()
    assert all(character.isprintable() or character in "\n\t" for character in text)


def _training(data: bytes, folder: Path) -> None:
    """As `export` reads it, with the weights."""
    from mnist_edge.training import checkpoint

    if not (folder / "model.pth").exists():
        seeds.small_weights(folder)
    (folder / TRAINING).write_bytes(data)
    trained = checkpoint.load(folder)
    encode(trained.training)
    encode(trained.contract)


def _contract(data: bytes, folder: Path) -> None:
    """As a classifier reads it, and what it makes of logits with it."""
    contract = decode_version(data, Contract, CONTRACT_VERSION, "its contract", "export it again")
    logits = np.linspace(-30, 30, 3 * len(contract.labels), dtype=np.float32).reshape(3, -1)
    calibration = contract.calibration
    shares = prediction.softmax(logits, calibration.temperature if calibration else 1.0)
    assert np.allclose(shares.sum(axis=1), 1)
    if calibration:
        scores = prediction.ood_score(logits, calibration)
        assert ((scores >= 0) & (scores <= 1)).all()
    assert decode(encode(contract), Contract, "its contract", "") == contract


def _provenance(data: bytes, folder: Path) -> None:
    provenance = decode(data, Provenance, "its provenance", "export it again")
    assert decode(encode(provenance), Provenance, "its provenance", "") == provenance


def _golden(data: bytes, folder: Path) -> None:
    from mnist_edge.runtime import golden

    found = golden.unpack(data.decode("utf-8", "surrogateescape"), 10, "model.onnx")
    assert len(found.images) == len(found.logits) > 0


def _model(data: bytes, folder: Path) -> None:
    """An ONNX file with the right checksum, as far as it is read in front of onnxruntime."""
    before, key, after = data.partition(CHECKSUM_KEY.encode() + b"\x12\x40")
    if key:
        data = checksum.with_checksum(before + key + checksum.UNSET_CHECKSUM.encode() + after[64:])
    before_onnxruntime(data)


def before_onnxruntime(data: bytes) -> None:
    """All that looks at a model's bytes before onnxruntime does."""
    from mnist_edge.runtime.contents import read_contents

    contents = read_contents(data, "model.onnx")
    assert contents.at_once(128) >= 1
    assert len(contents.golden.images) == len(contents.golden.logits)


def _picture(suffix: str, data: bytes, folder: Path) -> None:
    """As `predict` and `read` take a file and an upload."""
    from mnist_edge.images.lines import find_digits

    path = folder / f"picture{suffix}"
    path.write_bytes(data)
    sources: list[images.Source] = [data, *images.pages(str(path))[:3]]
    for source in sources:
        grey = images.decode_scaled(source)
        for preprocessing in Preprocessing:
            pixels, _ = images.preprocess_counting(grey.pixels, preprocessing)
            assert pixels.dtype == np.uint8
            assert pixels.shape == (28, 28)
        for digit in find_digits(grey.pixels):
            assert digit.image.shape == (28, 28)


def _weights(data: bytes, folder: Path) -> None:
    """As `import` reads them."""
    import torch

    from mnist_edge.training.weights import read_weights

    path = folder / "weights.pth"
    path.write_bytes(data)
    expected = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    found = read_weights(path, expected, "net.py:Net")
    assert {name: tensor.shape for name, tensor in found.state_dict.items()} == {"weight": (2, 3), "bias": (2,)}


def _picture_target(form: str, suffix: str, mutate: Mutate = mutation.of_bytes) -> Target:
    return Target(
        functools.partial(_picture, suffix),
        functools.partial(seeds.pictures, form),
        mutate,
        ("mnist_edge.images",),
    )


_JSON: Final = mutation.mixed(mutation.of_json)
_RECORDS: Final = ("mnist_edge.contract", "mnist_edge.bundle.decoding", "mnist_edge.bundle.records")

TARGETS: Final = {
    "idx-images": Target(
        _idx_images, seeds.idx_images, mutation.of_bytes, ("mnist_edge.data.idx", "mnist_edge.data.gzipped")
    ),
    "idx-labels": Target(
        _idx_labels, seeds.idx_labels, mutation.of_bytes, ("mnist_edge.data.idx", "mnist_edge.data.datasets")
    ),
    "names": Target(_names, seeds.names, mutation.mixed(mutation.of_names), ("mnist_edge.data.idx_folders",)),
    "csv": Target(_csv, seeds.csv, mutation.mixed(mutation.of_csv), ("mnist_edge.data.csv_files",)),
    "npy": Target(_npy, seeds.npy, mutation.of_bytes, ("mnist_edge.cli.inputs",)),
    "manifest": Target(
        _manifest, seeds.manifests, _JSON, (*_RECORDS, "mnist_edge.runtime.describe", "mnist_edge.cli.info")
    ),
    "training": Target(
        _training, seeds.trainings, _JSON, (*_RECORDS, "mnist_edge.bundle.legacy", "mnist_edge.bundle.source")
    ),
    "contract": Target(
        _contract,
        functools.partial(seeds.metadata, CONTRACT_KEY),
        _JSON,
        ("mnist_edge.contract", "mnist_edge.bundle.decoding", "mnist_edge.runtime.prediction"),
    ),
    "provenance": Target(_provenance, functools.partial(seeds.metadata, PROVENANCE_KEY), _JSON, _RECORDS),
    "golden": Target(_golden, functools.partial(seeds.metadata, GOLDEN_KEY), _JSON, ("mnist_edge.runtime.golden",)),
    "model": Target(
        _model,
        seeds.models,
        mutation.mixed(mutation.of_protobuf),
        ("mnist_edge.bundle.checksum", "mnist_edge.runtime.contents", "mnist_edge.runtime.onnx_file"),
        longest=1 << 17,
    ),
    "png": _picture_target("PNG", ".png", mutation.mixed(mutation.of_png)),
    "jpeg": _picture_target("JPEG", ".jpg"),
    "bmp": _picture_target("BMP", ".bmp"),
    "gif": _picture_target("GIF", ".gif"),
    "ppm": _picture_target("PPM", ".pgm"),
    "tiff": _picture_target("TIFF", ".tif"),
    "webp": _picture_target("WEBP", ".webp"),
    "weights": Target(
        _weights,
        seeds.weights,
        mutation.mixed(mutation.of_zip),
        ("mnist_edge.training.weight_files", "mnist_edge.training.weights"),
    ),
}
"""By name."""
